"""The data of each type of meeting event, as models: a typed view of what `event.data` has under the same names.

A handler gets a model where its annotation names it; other code makes one with `Model.model_validate(event.data)`. The
models hold all that the SDK tells. Keys that an application adds to events of its own are in `event.data` alone.

Each id of an agent has its external id beside it. The external id is None where the agent was removed and its name is
not known any more.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from .models import MeetingEnd, MeetingEventType, ParticipantStatus


class _Data(BaseModel):
    # Built at first use, so that importing the package stays quick.
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, defer_build=True)


class MeetingStartedEventData(_Data):
    """The host started the meeting."""

    host_id: UUID
    participant_ids: list[UUID]
    """In the order of joining, the host first."""
    host_external_id: str | None = None
    participant_external_ids: list[str | None] = Field(default_factory=list)
    """In the same order."""


class MeetingEndedEventData(_Data):
    """The meeting has ended."""

    host_id: UUID
    host_external_id: str | None = None
    reason: MeetingEnd | None = None
    """None only in events of an application's own."""


class TurnChangedEventData(_Data):
    """Somebody has the turn now."""

    previous_speaker_id: UUID | None = None
    """None for the first turn."""
    current_speaker_id: UUID | None = None
    turn: int | None = None
    """The number of the turn that begins."""
    previous_speaker_external_id: str | None = None
    current_speaker_external_id: str | None = None


class ParticipantJoinedEventData(_Data):
    """An invited agent attends."""

    agent_id: UUID
    agent_external_id: str | None = None


class ParticipantLeftEventData(_Data):
    """A participant is gone."""

    agent_id: UUID
    how: str | None = None
    """left, removed (by the host), or deregistered."""
    agent_external_id: str | None = None


class TimeoutOccurredEventData(_Data):
    """A turn ended by time."""

    timed_out_agent_id: UUID
    next_speaker_id: UUID | None = None
    """None where a function chooses it now."""
    turn: int | None = None
    """The number of the turn that ended."""
    timed_out_agent_external_id: str | None = None
    next_speaker_external_id: str | None = None


class MessagePostedEventData(_Data):
    """Somebody spoke."""

    message_id: UUID | None
    """None where the message was removed with its sender."""
    sender_id: UUID
    content: Any
    """The payload as JSON values; None where the message was removed with its sender, or is damaged."""
    timestamp: AwareDatetime
    turn: int | None = None
    """The number of the turn in which it was said."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    is_damaged: bool = False
    """The stored message is not what was said."""
    sender_external_id: str | None = None


class ParticipantStatusChangedEventData(_Data):
    """A participant's status was set by hand."""

    agent_id: UUID
    previous_status: ParticipantStatus
    current_status: ParticipantStatus
    agent_external_id: str | None = None


class ErrorOccurredEventData(_Data):
    """A turn handler failed (`error_type` is "handler"), or an application says that something went wrong."""

    error_type: str
    error_message: str
    affected_agent_id: UUID | None = None
    timestamp: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    affected_agent_external_id: str | None = None


EVENT_DATA_MODELS: dict[MeetingEventType, type[BaseModel]] = {
    MeetingEventType.MEETING_STARTED: MeetingStartedEventData,
    MeetingEventType.MEETING_ENDED: MeetingEndedEventData,
    MeetingEventType.TURN_CHANGED: TurnChangedEventData,
    MeetingEventType.PARTICIPANT_JOINED: ParticipantJoinedEventData,
    MeetingEventType.PARTICIPANT_LEFT: ParticipantLeftEventData,
    MeetingEventType.TIMEOUT_OCCURRED: TimeoutOccurredEventData,
    MeetingEventType.MESSAGE_POSTED: MessagePostedEventData,
    MeetingEventType.PARTICIPANT_STATUS_CHANGED: ParticipantStatusChangedEventData,
    MeetingEventType.ERROR_OCCURRED: ErrorOccurredEventData,
}
"""The model of each type of event."""
