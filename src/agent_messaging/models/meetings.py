"""Meetings: who is in one, how it stands, its turns, its events, and what was said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, cast
from uuid import UUID

from pydantic import ConfigDict
from typing_extensions import TypeVar

from ..states import MeetingEnd, MeetingEventType, MeetingStatus, ParticipantStatus, SpeakerSelection
from .base import Record, Snapshot


class Meeting(Snapshot):
    """Several agents, one of whom speaks at a time."""

    id: UUID
    host_id: UUID
    status: MeetingStatus
    current_speaker_id: UUID | None = None
    """Who has the turn; None: nobody does."""
    turn_duration: float | None = None
    """Seconds; None is no limit."""
    max_turns: int | None = None
    max_duration: float | None = None
    """Seconds from the start."""
    turn_started_at: datetime | None = None
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: MeetingEnd | None = None


class MeetingParticipant(Snapshot):
    """An agent's place in a meeting; turns go round by `join_order`."""

    id: UUID
    meeting_id: UUID
    agent_id: UUID
    status: ParticipantStatus
    join_order: int
    """0 is the host."""
    is_locked: bool
    """It has to wait for its turn."""
    joined_at: datetime | None = None
    left_at: datetime | None = None


class MeetingStatusResponse(Record):
    """How a meeting stands: what `get_meeting_status` returns.

    It is a mapping; the names below are keys and attributes alike. `state`, `host_id` and `current_speaker` are other
    names of what stands before them. Agents are external ids.
    """

    meeting_id: UUID
    status: MeetingStatus
    state: MeetingStatus
    host_external_id: str | None
    host_id: str | None
    current_speaker_external_id: str | None
    current_speaker: str | None
    participants: list[str | None]
    """In the order of joining, the host first, without those who left."""
    participant_count: int
    participant_details: list[Record]
    """A mapping for each of them: agent_id, join_order, status, joined_at, left_at."""
    turn: int | None
    turn_duration: float | None
    turn_started_at: datetime | None
    turn_deadline: datetime | None
    seconds_left: float | None
    """Seconds that were left of the turn when this was asked; None: it does not end by time."""
    turns_taken: int
    max_turns: int | None
    max_duration: float | None
    """Seconds from the start."""
    deadline: datetime | None
    host_speaks: bool
    speaker_selection: SpeakerSelection
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    end_reason: MeetingEnd | None


class Invitation(Snapshot):
    """An invitation to a meeting, for the annotation of a handler: `async def handler(message: Note | Invitation, …)`.

    A handler without an annotation gets it as a mapping of the same names. `context.is_meeting_message` tells it from
    other messages, and `context.meeting_id` is what `attend_meeting` takes.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    meeting_id: UUID
    host: str
    """External id."""
    participants: list[str]
    """External ids in the order of joining, the host first."""
    turn_duration: float | None
    """Seconds; None: turns do not end by time."""
    max_turns: int | None = None
    """With so many turns the meeting ends; None: it does not end by turns."""
    max_duration: float | None = None
    """Seconds from its start after which the meeting ends; None: it does not end by time."""


class EventData(Record):
    """The data of a meeting event: keys in `_id` are UUIDs, each with a twin in `_external_id`."""


_D = TypeVar("_D", default=EventData)


@dataclass(frozen=True, slots=True)
class MeetingEventPayload(Generic[_D]):
    """An event, as its handler receives it.

    Annotated as `MeetingEventPayload[TurnChangedEventData]`, or with another model of `agent_messaging.event_data`, a
    handler gets its data as that model.
    """

    meeting_id: UUID
    event_type: MeetingEventType
    data: _D
    """Its keys can be read as attributes too; they depend on the event."""
    timestamp: datetime = None  # type: ignore[assignment]
    """Now, where it is left out or None."""
    agent_external_id: str | None = None
    """The agent that the event is about; None also where that agent is not known any more."""

    def __post_init__(self) -> None:
        if self.timestamp is None:
            object.__setattr__(self, "timestamp", datetime.now(UTC))
        if type(self.data) is dict:
            object.__setattr__(self, "data", EventData(cast(dict[str, Any], self.data)))


@dataclass(frozen=True, slots=True)
class MeetingEvent(MeetingEventPayload[_D]):
    """A meeting event, with the names that older code gives to the types of events."""

    AGENT_JOINED: ClassVar = MeetingEventType.PARTICIPANT_JOINED
    AGENT_LEFT: ClassVar = MeetingEventType.PARTICIPANT_LEFT
    AGENT_SPOKE: ClassVar = MeetingEventType.MESSAGE_POSTED
    AGENT_TIMED_OUT: ClassVar = MeetingEventType.TIMEOUT_OCCURRED
    MEETING_STARTED: ClassVar = MeetingEventType.MEETING_STARTED
    MEETING_ENDED: ClassVar = MeetingEventType.MEETING_ENDED


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that an agent has, or the end of its meeting; false at the end."""

    number: int | None
    """The number to which acts can be bound; None at the end."""
    deadline: datetime | None
    """When it ends by itself; None: never."""
    messages: tuple[Record, ...]
    """The speeches since the agent's last one, oldest first, as `get_meeting_history` returns them."""
    has_ended: bool = False
    """The meeting is over."""
    notes: tuple[Record, ...] = ()
    """The SDK's own notes since then: who joined, left, passed or let its time run out, and the ending. These and the
    messages are the newest hundred of both."""

    def __bool__(self) -> bool:
        return not self.has_ended


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in a meeting that has ended."""

    meeting_id: UUID
    reason: MeetingEnd
    """Why it ended."""
    messages: tuple[Record, ...]
    """What was said, oldest first. As of `get_meeting_history`."""
    notes: tuple[Record, ...]
    """What the SDK noted: who joined, left, passed or let its time run out, and the ending."""
    turns: int
    """Turns that were taken, those without a speech included."""
    duration: float
    """Seconds from its start to its end; 0 if it was never started."""
