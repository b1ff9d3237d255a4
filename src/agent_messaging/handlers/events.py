"""Handlers of meeting events, one registry for each SDK object, and the recording of a caller's own events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar, get_args, get_origin
from uuid import UUID

from pydantic import ValidationError

from ..arguments import parse_choice, parse_id, refuse
from ..completion import Calls
from ..exceptions import InvalidArgumentError
from ..models import MeetingEvent, MeetingEventPayload, MeetingEventType, ParticipantStatus
from ..payloads import MISSING, Decoder, Late, problems_of
from ..records import dataclass
from .annotations import handler_annotation
from .functions import check_function, fits, function_name, own_signature, read_signature

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
"""A stand-in for the instant that the store sets."""


@dataclass(frozen=True, slots=True, eq=False)
class EventSubscription:
    """A handler of one type of event."""

    type: MeetingEventType
    function: EventHandler
    takes_three: bool
    """Whether it is called with (meeting_id, agent_external_id, data), and not with the event."""
    annotation: Any
    """That of its parameter for the event, or for the data."""

    def arguments(self, event: MeetingEvent, decoder: Decoder) -> tuple[Any, ...]:
        """The arguments of its call, with the data as its annotation asks for them.

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
    """Records a caller's own events."""

    async def record_event(self, meeting_id: str, type: MeetingEventType, data: dict[str, Any]) -> None: ...


class MeetingEventHandler(Calls):
    """The event handlers of one SDK object; `sdk.meeting_events`.

    The handlers of one event run at the same time; one that fails or hangs disturbs no other, and no meeting.
    """

    def __init__(self, find_recorder: Callable[[], Recorder], on_change: Callable[[], None]) -> None:
        self._find_recorder = find_recorder
        self._on_change = on_change
        self.subscriptions: list[EventSubscription] = []

    def register_handler(self, event_type: MeetingEventType, handler: EventHandler) -> None:
        """Call the handler for each event of this type from now on.

        Annotated with a model (`event: MeetingEvent[TurnChangedEventData]`, or `data: TurnChangedEventData` where it
        takes three), it gets the data as that model. Data of an application's own event may not fit it: the handler is
        then not called, and the log says why.

        Raises:
            InvalidArgumentError: The type is not one, or the handler takes neither one nor three arguments.

        Example:
            async def on_end(event):
                print(event.data.reason)

            sdk.meeting_events.register_handler(MeetingEventType.MEETING_ENDED, on_end)
        """
        type = check_event_type(event_type)
        takes_three = _takes_three(handler)
        annotation = handler_annotation(handler, 2 if takes_three else 0)
        self.subscriptions.append(EventSubscription(type, handler, takes_three, annotation))
        self._on_change()

    def unregister_handler(self, event_type: MeetingEventType, handler: EventHandler) -> bool:
        """Call it no more; False if it was not registered.

        Example:
            sdk.meeting_events.unregister_handler(MeetingEventType.MEETING_ENDED, on_end)
        """
        type = check_event_type(event_type)
        kept = [one for one in self.subscriptions if not (one.type is type and one.function == handler)]
        was_there = len(kept) < len(self.subscriptions)
        self.subscriptions[:] = kept
        self._on_change()
        return was_there

    async def emit_event(self, meeting_id: UUID | str, event_type: MeetingEventType, data: dict[str, Any]) -> None:
        """Record an event of your own; the timeline has it, and the handlers of every SDK object get it.

        Raises:
            MeetingNotFoundError: There is no such meeting.
            InvalidArgumentError: The type is not one, or the data are no mapping.
            PayloadError: The data are not JSON, or larger than 64 KiB.

        Example:
            await sdk.meeting_events.emit_event(meeting_id, MeetingEventType.ERROR_OCCURRED, {"printer": "on fire"})
        """
        id = parse_id(meeting_id, field="meeting_id")
        if not isinstance(data, Mapping):
            raise refuse("data", data, "must be a mapping.")
        await self._find_recorder().record_event(id, check_event_type(event_type), data)

    async def emit_meeting_started(
        self, meeting_id: UUID | str, host_id: UUID | str, participant_ids: Sequence[UUID | str]
    ) -> None:
        """Record that a meeting started, for an application that holds it beside the SDK; nothing starts by it.

        Every `emit_...` call takes the fields of the event's model, and handlers get the event like the SDK's own.

        Args:
            meeting_id: The meeting.
            host_id: The id of an agent, not its external id, as in all these calls.
            participant_ids: In the order of joining.

        Raises:
            InvalidArgumentError: A value does not fit the model; says which, and what it must be.
            MeetingNotFoundError, PayloadError: As `emit_event`.

        Example:
            await sdk.meeting_events.emit_meeting_started(meeting_id, alice.id, [alice.id, bob.id])
        """
        ids = {"host_id": host_id, "participant_ids": participant_ids}
        await self._emit(meeting_id, MeetingEventType.MEETING_STARTED, ids)

    async def emit_meeting_ended(self, meeting_id: UUID | str, host_id: UUID | str) -> None:
        """Record that a meeting ended; see `emit_meeting_started`.

        Example:
            await sdk.meeting_events.emit_meeting_ended(meeting_id, alice.id)
        """
        await self._emit(meeting_id, MeetingEventType.MEETING_ENDED, {"host_id": host_id})

    async def emit_turn_changed(
        self,
        meeting_id: UUID | str,
        previous_speaker_id: UUID | str | None = None,
        current_speaker_id: UUID | str | None = None,
    ) -> None:
        """Record that somebody else has the turn; see `emit_meeting_started`.

        Example:
            await sdk.meeting_events.emit_turn_changed(meeting_id, alice.id, bob.id)
        """
        ids = {"previous_speaker_id": previous_speaker_id, "current_speaker_id": current_speaker_id}
        await self._emit(meeting_id, MeetingEventType.TURN_CHANGED, ids)

    async def emit_participant_joined(self, meeting_id: UUID | str, agent_id: UUID | str) -> None:
        """Record that an agent joined; see `emit_meeting_started`.

        Example:
            await sdk.meeting_events.emit_participant_joined(meeting_id, bob.id)
        """
        await self._emit(meeting_id, MeetingEventType.PARTICIPANT_JOINED, {"agent_id": agent_id})

    async def emit_participant_left(self, meeting_id: UUID | str, agent_id: UUID | str) -> None:
        """Record that an agent left; see `emit_meeting_started`.

        Example:
            await sdk.meeting_events.emit_participant_left(meeting_id, bob.id)
        """
        await self._emit(meeting_id, MeetingEventType.PARTICIPANT_LEFT, {"agent_id": agent_id})

    async def emit_timeout_occurred(
        self, meeting_id: UUID | str, timed_out_agent_id: UUID | str, next_speaker_id: UUID | str | None = None
    ) -> None:
        """Record that an agent's time was over; see `emit_meeting_started`.

        Example:
            await sdk.meeting_events.emit_timeout_occurred(meeting_id, bob.id, carol.id)
        """
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
        """Record a speech of up to 64 KiB; see `emit_meeting_started`.

        Args:
            meeting_id: The meeting.
            message_id: The id of the message, if there is one.
            sender_id: The speaker.
            content: The speech; JSON, as the payload of a message.
            timestamp: An instant with a time zone; None is now.

        Example:
            await sdk.meeting_events.emit_message_posted(meeting_id, None, bob.id, {"text": "from the phone"})
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
        """Record that a participant's status changed; see `emit_meeting_started`.

        Example:
            await sdk.meeting_events.emit_participant_status_changed(meeting_id, bob.id, "invited", "attending")
        """
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
            meeting_id: The meeting.
            error_type: The kind of error, as a word for programs.
            error_message: A sentence for people.
            affected_agent_id: The agent that it concerns, if any.
            timestamp: An instant with a time zone; None is now.

        Example:
            await sdk.meeting_events.emit_error_occurred(meeting_id, "printer", "It is on fire.", bob.id)
        """
        error = {"error_type": error_type, "error_message": error_message, "affected_agent_id": affected_agent_id}
        await self._emit(meeting_id, MeetingEventType.ERROR_OCCURRED, error, timestamp)

    async def _emit(
        self, meeting_id: UUID | str, type: MeetingEventType, fields: dict[str, Any], timestamp: datetime | None = None
    ) -> None:
        if timestamp is not None:
            fields = {**fields, "timestamp": timestamp}
        from ..event_data import EVENT_DATA_MODELS  # making its models takes 3 ms of an import

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
    if fits(own, 1) and fits(own, 3):  # a wrapper of anything: the wrapped function tells what is meant
        declared = read_signature(handler)
        return fits(declared, 3) and not fits(declared, 1)
    if fits(own, 1) or fits(own, 3):
        return fits(own, 3)
    raise InvalidArgumentError(
        field="handler",
        value=function_name(handler),
        reason=f"takes {own}. An event handler takes (event), or (meeting_id, agent_external_id, data).",
    )
