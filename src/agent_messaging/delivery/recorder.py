"""Records events of a caller's own."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from ..exceptions import MeetingNotFoundError
from ..ids import is_id
from ..models import MeetingEventType
from ..payloads import encode
from ..storage.ports import MeetingStore
from .announcer import Announcer
from .commits import Commits
from .events import Events
from .names import Names

MAX_DATA_BYTES = 64 * 1024
"""Bytes of the JSON of one event's data."""
_ABOUT = {
    MeetingEventType.MEETING_STARTED: "host_id",
    MeetingEventType.MEETING_ENDED: "host_id",
    MeetingEventType.TURN_CHANGED: "current_speaker_id",
    MeetingEventType.PARTICIPANT_JOINED: "agent_id",
    MeetingEventType.PARTICIPANT_LEFT: "agent_id",
    MeetingEventType.TIMEOUT_OCCURRED: "timed_out_agent_id",
    MeetingEventType.MESSAGE_POSTED: "sender_id",
    MeetingEventType.PARTICIPANT_STATUS_CHANGED: "agent_id",
    MeetingEventType.ERROR_OCCURRED: "affected_agent_id",
}
"""The key under which the data have the agent that an event is about; the SDK's own events have it likewise."""


class Recorder:
    """Records events as one SDK object's calls want it."""

    def __init__(
        self, meetings: MeetingStore, names: Names, events: Events, commits: Commits, announcer: Announcer
    ) -> None:
        self.meetings = meetings
        self.names = names
        self.events = events
        self.commits = commits
        self.announcer = announcer

    async def record_event(self, meeting_id: str, type: MeetingEventType, data: dict[str, Any]) -> None:
        """Record an event of the caller's own."""
        await self.events.ready()
        plain = from_json(encode(data, field="data", limit_bytes=MAX_DATA_BYTES))
        agent_id = plain.get(_ABOUT[type]) or plain.get("agent_id")
        is_agent = isinstance(agent_id, str) and is_id(agent_id) and agent_id in await self.names.find_by_id([agent_id])
        agent = agent_id if is_agent else None

        async def record() -> bool:
            is_recorded = await self.meetings.record_event(meeting_id, type, agent, plain)
            if is_recorded:
                self.announcer.recorded()
            return is_recorded

        if not await self.commits.run(record()):
            raise MeetingNotFoundError(meeting_id=meeting_id)
