"""Reads what was said in meetings, as their participants see it, and how meetings stand."""

from __future__ import annotations

from collections.abc import Iterable

from ...bodies import open_or_mark
from ...models import MessageType, Record
from ...storage.ports import MeetingStore, MessageRow, Standing
from ..names import Names

RECENT = 100
"""A turn shows at most so many messages: the newest since the agent's last speech."""


class Records:
    """All that is read of meetings for those who take part in them here."""

    def __init__(self, meetings: MeetingStore, names: Names) -> None:
        self.meetings = meetings
        self.names = names

    async def find_standings(self, meeting_ids: Iterable[str]) -> dict[str, Standing | None]:
        """Find how these meetings stand; None for those that do not exist."""
        found = await self.meetings.find_standings([(meeting_id, None) for meeting_id in meeting_ids])
        return {meeting_id: standing for (meeting_id, _), standing in found.items()}

    async def find_standing(self, meeting_id: str, agent_id: str | None, *, recent: int = RECENT) -> Standing | None:
        """Find how an agent stands in a meeting, with what was said since its last speech; None if there is none.

        Args:
            meeting_id: The meeting.
            agent_id: The agent; None: how the meeting itself stands, with its newest messages.
            recent: At most so many messages, the newest.
        """
        key = meeting_id, agent_id
        return (await self.meetings.find_standings([key], recent=recent))[key]

    async def describe(self, rows: Iterable[MessageRow]) -> list[Record]:
        """Describe messages of a meeting as its participants see them."""
        rows = list(rows)
        names = await self.names.find_by_id({row.sender_id for row in rows})

        def describe_one(row: MessageRow) -> Record:
            sender = names.get(row.sender_id)
            body = open_or_mark(row, f"message {row.message_id}")
            external_id = sender.external_id if sender else None
            return Record(
                id=row.message_id,
                message_id=row.message_id,
                sender=external_id,
                sender_id=external_id,
                sender_name=sender.name if sender else None,
                message_type=row.message_type,
                content=body.content,
                metadata=body.metadata,
                is_damaged=body.is_damaged,
                created_at=row.created_at,
            )

        return [describe_one(row) for row in rows]

    async def describe_apart(self, rows: Iterable[MessageRow]) -> tuple[list[Record], list[Record]]:
        """Describe apart what was said and what the SDK noted."""
        described = await self.describe(rows)
        said = [one for one in described if one.message_type == MessageType.USER_DEFINED]
        return said, [one for one in described if one.message_type != MessageType.USER_DEFINED]
