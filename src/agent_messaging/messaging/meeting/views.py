"""The calls that look at meetings and change none. `analytics` makes the records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from ...arguments import check_instant, check_page, parse_choice, parse_id
from ...models import (
    Meeting,
    MeetingParticipant,
    MeetingStatus,
    MeetingStatusResponse,
    MessageType,
    ParticipantStatus,
    Record,
    T,
)
from ...storage.ports import MessageRow, SeatRow
from .. import analytics
from ..directory import find_agent
from ..listing import check_part, find_place, list_wanted, make_wanted
from .arguments import MeetingId
from .calls import MeetingCalls


class MeetingViews(MeetingCalls[T]):
    """The calls that look at meetings."""

    async def get_meeting(self, meeting_id: MeetingId) -> Meeting | None:
        """Look a meeting up; None if there is none.

        Example:
            meeting = await sdk.meeting.get_meeting(meeting_id)
        """
        row = await self._find_meeting(meeting_id)
        if row is None:
            return None
        turn = row.speaking_turn
        return Meeting(
            id=UUID(row.meeting_id),
            host_id=UUID(row.host_id),
            status=row.status,
            current_speaker_id=None if turn is None else UUID(turn.agent_id),
            turn_duration=row.turn_duration,
            max_turns=row.max_turns,
            max_duration=row.max_duration,
            turn_started_at=None if turn is None else turn.started_at,
            created_at=row.created_at,
            started_at=row.started_at,
            ended_at=row.ended_at,
            end_reason=row.end_reason,
        )

    async def get_participants(self, meeting_id: MeetingId) -> list[MeetingParticipant]:
        """List the participants in the order of joining, those who left included.

        `is_locked` tells that the participant has to wait for its turn.

        Raises:
            MeetingNotFoundError: There is no such meeting.

        Example:
            for participant in await sdk.meeting.get_participants(meeting_id):
                print(participant.agent_id, participant.status)
        """
        row = await self._get_meeting(meeting_id)
        return [_participant(row.meeting_id, seat) for seat in await self._seats(row)]

    async def list_meetings(
        self,
        agent_external_id: str | None = None,
        *,
        status: MeetingStatus | str | None = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        limit: int = 100,
        offset: int = 0,
        before: MeetingId | None = None,
    ) -> list[Record]:
        """List meetings, newest first: of an agent, hosted ones included, or (None) all.

        Args:
            agent_external_id: Whose; None is all meetings.
            status: Only those that are "created", "ready", "active" or "ended" now; None is all.
            date_from: Created at or after this aware instant; None is no bound.
            date_to: Created at or before it.
            limit: At most so many, 1 to 1,000.
            offset: So many of the newest are passed over.
            before: The id of a meeting: only those created before it, so that a page costs as much however deep it is.
                Pass the id of the last one of the page before. None begins at the newest.

        Returns:
            Mappings with attribute access as of `get_meeting_status`, without what is about participants.

        Raises:
            AgentNotFoundError: There is no such agent.
            InvalidArgumentError: An argument is out of range.

        Example:
            for meeting in await sdk.meeting.list_meetings("alice", status="active"):
                print(meeting.meeting_id)
        """
        check_page(limit, offset)
        agent = (
            None
            if agent_external_id is None
            else await find_agent(self.engine, agent_external_id, field="agent_external_id")
        )
        statuses = None
        if status is not None:
            statuses = [parse_choice(MeetingStatus, status, "status")]
        rows = await self.engine.store.meetings.list_meetings(
            None if agent is None else agent.id,
            statuses=statuses,
            limit=limit,
            offset=offset,
            date_from=check_instant(date_from, "date_from"),
            date_to=check_instant(date_to, "date_to"),
            before_id=None if before is None else parse_id(before, "before"),
        )
        return [await analytics.describe(self.engine, row) for row in rows]

    async def get_meeting_status(self, meeting_id: MeetingId) -> MeetingStatusResponse | None:
        """Describe how a meeting stands; None if there is none.

        Returns:
            A mapping with attribute access; `MeetingStatusResponse` names its keys.

        Example:
            status = await sdk.meeting.get_meeting_status(meeting_id)
            print(status.state, status.current_speaker, status.turn)
        """
        row = await self._find_meeting(meeting_id)
        return None if row is None else await analytics.describe_with_seats(self.engine, row)

    async def get_meeting_history(
        self,
        meeting_id: MeetingId,
        *,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        message_types: Iterable[MessageType | str] | None = None,
        metadata_filter: Mapping[str, Any] | None = None,
        limit: int | None = None,
        offset: int = 0,
        before: UUID | str | None = None,
        after: UUID | str | None = None,
        newest_first: bool = False,
    ) -> list[Record]:
        """List what was said, oldest first, with the SDK's own notes: joins, leaves, timeouts, the ending.

        Args:
            meeting_id: Of this meeting.
            date_from: Sent at or after this aware instant; None is no bound.
            date_to: Sent at or before it.
            message_types: Of these types alone, such as ["user_defined"]; None is all.
            metadata_filter: Conditions on the metadata, as `search_messages` takes them; None is none.
            limit: At most so many, 1 to 1,000; None is all.
            offset: So many are passed over.
            before: The id of a message: only older ones. A page by position costs as much however deep it is, and what
                is said meanwhile moves nothing.
            after: The id of a message: only newer ones. Pass the id of the last one of the page before.
            newest_first: List from the newest on. Then pass the id of the last one of a page as `before`.

        Returns:
            Mappings with attribute access: id (also message_id), sender (also sender_id), sender_name, message_type,
            content (plain JSON), metadata, is_damaged (True: what is stored is not what was said, and the content is
            None), created_at.

        Raises:
            MeetingNotFoundError: There is no such meeting.
            InvalidArgumentError: An argument is refused; names it.

        Example:
            for said in await sdk.meeting.get_meeting_history(meeting_id):
                print(said.sender, said.content)
        """
        check_part(limit, offset)
        wanted = make_wanted(
            date_from=date_from, date_to=date_to, message_types=message_types, metadata_filter=metadata_filter
        )
        place = await find_place(self.engine.store.messages, before, after, newest_first)
        row = await self._get_meeting(meeting_id)

        async def read(limit: int, offset: int, last: MessageRow | None) -> list[MessageRow]:
            return await self.engine.store.meetings.list_messages(
                row.meeting_id, limit=limit, offset=offset, narrowing=wanted.narrowing, **place.behind(last)
            )

        rows = await list_wanted(read, wanted, limit=limit, offset=offset)
        return await self.engine.meetings.records.describe(rows)

    async def get_transcript(self, meeting_id: MeetingId, *, format: str = "markdown") -> str:
        """Return what was said in a meeting as a page for people, with who joined, left, passed and was silent.

        See `sdk.conversation.get_transcript` for what the page is like. A meeting that goes on is shown as far as it
        is.

        Args:
            meeting_id: Of this meeting.
            format: "markdown" (or "md") or "html".

        Raises:
            MeetingNotFoundError: There is no such meeting.
            InvalidArgumentError: There is no such format.

        Example:
            print(await sdk.meeting.get_transcript(meeting_id))
        """
        from ..transcripts import join, meeting_pieces  # few programs need it

        return await join(meeting_pieces(self, meeting_id, format))

    async def get_meeting_details(self, meeting_id: MeetingId) -> Record:
        """Describe a meeting with its counts.

        Returns:
            A mapping with attribute access: meeting_id, host (id, name), status, current_speaker (id, name; or None),
            turn_duration_seconds, turn_started_at, created_at, started_at, ended_at, end_reason, participants (external
            ids), participant_count, attending_count, message_count.

        Raises:
            MeetingNotFoundError: There is no such meeting.

        Example:
            details = await sdk.meeting.get_meeting_details(meeting_id)
        """
        return await analytics.get_details(self.engine, await self._get_meeting(meeting_id))

    async def get_participant_history(self, meeting_id: MeetingId) -> list[Record]:
        """List all participants with their times.

        Returns:
            Mappings with attribute access: id, agent_id (external), agent_name, status, join_order, is_locked,
            joined_at, left_at; in the order of joining.

        Raises:
            MeetingNotFoundError: There is no such meeting.

        Example:
            history = await sdk.meeting.get_participant_history(meeting_id)
        """
        row = await self._get_meeting(meeting_id)
        return await analytics.list_participants(self.engine, row, await self._seats(row))

    async def get_meeting_statistics(self, agent_id: UUID | str) -> Record:
        """Count an agent's meetings.

        Args:
            agent_id: UUID or external id.

        Returns:
            A mapping with attribute access: agent_id (external), hosted_meetings, participated_meetings (of others),
            active_hosted, total_messages_sent, meetings_spoke_in, avg_meeting_duration_seconds (None without any).

        Raises:
            AgentNotFoundError: There is no such agent.

        Example:
            statistics = await sdk.meeting.get_meeting_statistics("alice")
            print(statistics.active_hosted)
        """
        return await analytics.get_statistics(self.engine, agent_id)

    async def get_participation_analysis(self, meeting_id: MeetingId) -> Record:
        """Tell who took part how much.

        Returns:
            A mapping with attribute access: total_participants, active_participants (who spoke), inactive_participants,
            participation_rate (percent), by_participant (by external id: message_count, first_message_at,
            last_message_at, total_content_length (characters of JSON), speaking_time_seconds (of turns that ended with
            a speech), speaking_time_percentage, status), most_active and least_active (None where nobody spoke),
            total_messages.

        Raises:
            MeetingNotFoundError: There is no such meeting.

        Example:
            analysis = await sdk.meeting.get_participation_analysis(meeting_id)
            print(analysis.by_participant["bob"].message_count)
        """
        row = await self._get_meeting(meeting_id)
        return await analytics.analyse_participation(self.engine, row, await self._seats(row))

    async def get_meeting_timeline(self, meeting_id: MeetingId) -> Record:
        """List all events and messages in the order in which they happened, whatever the clock did meanwhile.

        Returns:
            A mapping with attribute access: meeting_id, started_at, ended_at, duration_seconds, status, end_reason,
            timeline: a list of {type "message", timestamp, sender_id, message_type, message_id, content} and {type
            "event", timestamp, event_type, agent_id, data}.

        Raises:
            MeetingNotFoundError: There is no such meeting.

        Example:
            for entry in (await sdk.meeting.get_meeting_timeline(meeting_id)).timeline:
                print(entry.type)
        """
        return await analytics.get_timeline(self.engine, await self._get_meeting(meeting_id))

    async def get_turn_statistics(self, meeting_id: MeetingId) -> Record:
        """Count the turns.

        Returns:
            A mapping with attribute access: total_turns, total_messages, avg_messages_per_turn, unique_speakers,
            turn_changes, avg_turn_seconds, turns (a list of number, agent_id, started_at, ended_at, duration_seconds,
            how), participants_turn_stats (by external id: turns_taken, messages_sent, avg_messages_per_turn,
            timeouts, total_seconds).
            Numbers that are missing are of turns in which a function chose the next speaker. The turns of an agent that
            was removed stay, without what it said; its agent_id is None (among participants_turn_stats its UUID as
            text) if it was removed after the meeting had ended.

        Raises:
            MeetingNotFoundError: There is no such meeting.

        Example:
            statistics = await sdk.meeting.get_turn_statistics(meeting_id)
            print(statistics.participants_turn_stats["bob"].turns_taken)
        """
        return await analytics.get_turn_statistics(self.engine, await self._get_meeting(meeting_id))


def _participant(meeting_id: str, seat: SeatRow) -> MeetingParticipant:
    return MeetingParticipant(
        id=UUID(seat.seat_id),
        meeting_id=UUID(meeting_id),
        agent_id=UUID(seat.agent_id),
        status=seat.status,
        join_order=seat.join_order,
        is_locked=seat.status is ParticipantStatus.WAITING,
        joined_at=seat.joined_at,
        left_at=seat.left_at,
    )
