"""Handlers of meeting events: registering them, what they are called with, and events of a caller's own.

One registry to each SDK object.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar, get_args, get_origin
from uuid import UUID

from pydantic import ValidationError

from ..arguments import parse_choice, parse_id, refuse
from ..completion import Calls
from ..event_data import EVENT_DATA_MODELS
from ..exceptions import InvalidArgumentError
from ..models import MeetingEvent, MeetingEventPayload, MeetingEventType, ParticipantStatus
from ..payloads import MISSING, Decoder, Late, problems_of
from .annotations import handler_annotation
from .functions import check_function, fits, function_name, own_signature

__all__ = [
    "EventHandler",
    "EventSubscription",
    "MeetingEvent",
    "MeetingEventHandler",
    "MeetingEventPayload",
    "MeetingEventType",
    "Recorder",
    "check_event_type",
]

EventHandler = Callable[[Any], Any] | Callable[[UUID, str | None, Any], Any]
"""`async def handler(event)` or `async def handler(meeting_id, agent_external_id, data)`, or the same without async."""
F = TypeVar("F", bound=EventHandler)
_EPOCH = datetime.fromtimestamp(0, UTC)
"""Stands for an instant that is left to the store."""


@dataclass(frozen=True, slots=True, eq=False)
class EventSubscription:
    """A handler of one type of event."""

    type: MeetingEventType
    function: EventHandler
    takes_three: bool
    """It is called as (meeting_id, agent_external_id, data)."""
    annotation: Any
    """Of its parameter for the event, or for the data."""

    def arguments(self, event: MeetingEvent, decoder: Decoder) -> tuple[Any, ...]:
        """What it is called with: its data as its annotation asks for them.

        Raises:
            PayloadError: The data do not fit.
        """
        data: Any = decoder.convert(event.data, self._data_type(), field="data")
        if self.takes_three:
            return (event.meeting_id, event.agent_external_id, data)
        return (event if data is event.data else replace(event, data=data),)

    def _data_type(self) -> Any:
        annotation = self.annotation
        if isinstance(annotation, Late):
            annotation = annotation.resolve()
        if self.takes_three:
            return annotation
        origin = get_origin(annotation)
        if isinstance(origin, type) and issubclass(origin, MeetingEventPayload):
            return get_args(annotation)[0]
        return MISSING


class Recorder(Protocol):
    """Where events of a caller's own are recorded."""

    async def record_event(self, meeting_id: str, type: MeetingEventType, data: dict[str, Any]) -> None: ...


class MeetingEventHandler(Calls):
    """The event handlers of one SDK object; `sdk.meeting_events`.

    Several handlers of one event run at the same time; one that fails or hangs disturbs no other, and no meeting.
    """

    def __init__(self, find_recorder: Callable[[], Recorder], on_change: Callable[[], None]) -> None:
        self._find_recorder = find_recorder
        self._on_change = on_change
        self.subscriptions: list[EventSubscription] = []

    def register_handler(self, event_type: MeetingEventType, handler: EventHandler) -> None:
        """Call the handler for each event of this type from now on.

        Annotated with a model for its data (`event: MeetingEvent[TurnChangedEventData]`, or `data:
        TurnChangedEventData` where it takes three), it gets them as that; where they do not fit, which only events of
        an application's own can do, it is not called, and the log says why.

        Raises:
            InvalidArgumentError: The type is not one, or the handler takes neither one nor three arguments.
        """
        type = check_event_type(event_type)
        takes_three = _takes_three(handler)
        annotation = handler_annotation(handler, 2 if takes_three else 0)
        self.subscriptions.append(EventSubscription(type, handler, takes_three, annotation))
        self._on_change()

    def unregister_handler(self, event_type: MeetingEventType, handler: EventHandler) -> bool:
        """Call it no more; False if it was not registered."""
        type = check_event_type(event_type)
        kept = [one for one in self.subscriptions if not (one.type is type and one.function == handler)]
        was_there = len(kept) < len(self.subscriptions)
        self.subscriptions[:] = kept
        self._on_change()
        return was_there

    async def emit_event(self, meeting_id: UUID | str, event_type: MeetingEventType, data: dict[str, Any]) -> None:
        """Record an event of your own: it is in the timeline, and reaches the handlers of every SDK object.

        Raises:
            MeetingNotFoundError: There is no such meeting.
            InvalidArgumentError: The type is not one, or the data are no mapping.
            PayloadError: The data are not JSON, or larger than 64 KiB.
        """
        id = parse_id(meeting_id, field="meeting_id")
        if not isinstance(data, Mapping):
            raise refuse("data", data, "must be a mapping.")
        await self._find_recorder().record_event(id, check_event_type(event_type), data)

    async def emit_meeting_started(
        self, meeting_id: UUID | str, host_id: UUID | str, participant_ids: Sequence[UUID | str]
    ) -> None:
        """Record that a meeting started; nothing starts by it. As all `emit_...`, it takes what the event's model has.

        These calls are for what happens in an application beside the SDK. Handlers get the event as they get the SDK's
        own of this type, and `MeetingStartedEventData` reads its data.

        Args:
            meeting_id: Where it happened.
            host_id: The id of an agent, not its external id; so everywhere here.
            participant_ids: In the order of joining.

        Raises:
            InvalidArgumentError: A value does not fit the model; says which, and what it must be.
            MeetingNotFoundError, PayloadError: As `emit_event`.
        """
        ids = {"host_id": host_id, "participant_ids": participant_ids}
        await self._emit(meeting_id, MeetingEventType.MEETING_STARTED, ids)

    async def emit_meeting_ended(self, meeting_id: UUID | str, host_id: UUID | str) -> None:
        """Record that a meeting ended; see `emit_meeting_started`."""
        await self._emit(meeting_id, MeetingEventType.MEETING_ENDED, {"host_id": host_id})

    async def emit_turn_changed(
        self,
        meeting_id: UUID | str,
        previous_speaker_id: UUID | str | None = None,
        current_speaker_id: UUID | str | None = None,
    ) -> None:
        """Record that somebody else has the turn; see `emit_meeting_started`."""
        ids = {"previous_speaker_id": previous_speaker_id, "current_speaker_id": current_speaker_id}
        await self._emit(meeting_id, MeetingEventType.TURN_CHANGED, ids)

    async def emit_participant_joined(self, meeting_id: UUID | str, agent_id: UUID | str) -> None:
        """Record that an agent joined; see `emit_meeting_started`."""
        await self._emit(meeting_id, MeetingEventType.PARTICIPANT_JOINED, {"agent_id": agent_id})

    async def emit_participant_left(self, meeting_id: UUID | str, agent_id: UUID | str) -> None:
        """Record that an agent left; see `emit_meeting_started`."""
        await self._emit(meeting_id, MeetingEventType.PARTICIPANT_LEFT, {"agent_id": agent_id})

    async def emit_timeout_occurred(
        self, meeting_id: UUID | str, timed_out_agent_id: UUID | str, next_speaker_id: UUID | str | None = None
    ) -> None:
        """Record that an agent's time was over; see `emit_meeting_started`."""
        ids = {"timed_out_agent_id": timed_out_agent_id, "next_speaker_id": next_speaker_id}
        await self._emit(meeting_id, MeetingEventType.TIMEOUT_OCCURRED, ids)

    async def emit_message_posted(
        self,
        meeting_id: UUID | str,
        message_id: UUID | str | None,
        sender_id: UUID | str,
        content: Any,
        timestamp: datetime | None = None,
    ) -> None:
        """Record that something was said, up to 64 KiB; see `emit_meeting_started`.

        Args:
            meeting_id: Where.
            message_id: Of the message, if there is one.
            sender_id: Who said it.
            content: What was said; JSON, as the payload of a message.
            timestamp: When, with a time zone; None is now.
        """
        said = {"message_id": message_id, "sender_id": sender_id, "content": content}
        await self._emit(meeting_id, MeetingEventType.MESSAGE_POSTED, said, timestamp)

    async def emit_participant_status_changed(
        self,
        meeting_id: UUID | str,
        agent_id: UUID | str,
        previous_status: ParticipantStatus | str,
        current_status: ParticipantStatus | str,
    ) -> None:
        """Record that a participant stands elsewhere; see `emit_meeting_started`."""
        change = {"agent_id": agent_id, "previous_status": previous_status, "current_status": current_status}
        await self._emit(meeting_id, MeetingEventType.PARTICIPANT_STATUS_CHANGED, change)

    async def emit_error_occurred(
        self,
        meeting_id: UUID | str,
        error_type: str,
        error_message: str,
        affected_agent_id: UUID | str | None = None,
        timestamp: datetime | None = None,
    ) -> None:
        """Record that something went wrong in a meeting; see `emit_meeting_started`.

        Args:
            meeting_id: Where.
            error_type: What kind of error, as a word for programs.
            error_message: What happened, for people.
            affected_agent_id: Whom it concerns, if anybody.
            timestamp: When, with a time zone; None is now.
        """
        error = {"error_type": error_type, "error_message": error_message, "affected_agent_id": affected_agent_id}
        await self._emit(meeting_id, MeetingEventType.ERROR_OCCURRED, error, timestamp)

    async def _emit(
        self, meeting_id: UUID | str, type: MeetingEventType, fields: dict[str, Any], timestamp: datetime | None = None
    ) -> None:
        if timestamp is not None:
            fields = {**fields, "timestamp": timestamp}
        model = EVENT_DATA_MODELS[type]
        try:
            checked = model.model_validate({"timestamp": _EPOCH, **fields})
        except ValidationError as error:
            field = str(error.errors(include_url=False, include_input=False)[0]["loc"][0])
            raise InvalidArgumentError(f"The event cannot be recorded: {problems_of(error)}.", field=field) from None
        await self.emit_event(meeting_id, type, {name: getattr(checked, name) for name in fields})


def check_event_type(value: Any) -> MeetingEventType:
    """Return the type; its value as text is taken too.

    Raises:
        InvalidArgumentError: It is not one.
    """
    known = ", ".join(one.value for one in MeetingEventType)
    return parse_choice(MeetingEventType, value, "event_type", f"is not an event of meetings. There are: {known}.")


def _takes_three(handler: Any) -> bool:
    check_function(handler, takes="Pass a function of (event), or of (meeting_id, agent_external_id, data).")
    own = own_signature(handler)
    if own is None:
        return False
    if fits(own, 1) and fits(own, 3):  # as a wrapper of anything: what it wraps tells what is meant
        declared = inspect.signature(handler)
        return fits(declared, 3) and not fits(declared, 1)
    if fits(own, 1) or fits(own, 3):
        return fits(own, 3)
    raise InvalidArgumentError(
        field="handler",
        value=function_name(handler),
        reason=f"takes {own}. An event handler takes (event), or (meeting_id, agent_external_id, data).",
    )
