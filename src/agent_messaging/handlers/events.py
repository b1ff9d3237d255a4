"""Handlers of meeting events: registering them, and what they are called with. One registry to each SDK object."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import UUID

from ..exceptions import InvalidArgumentError
from ..ids import parse_choice, parse_id, refuse
from ..models import MeetingEventType

EventHandler = Callable[..., Any]
"""`async def handler(event)` or `async def handler(meeting_id, agent_external_id, data)`, or the same without async."""
F = TypeVar("F", bound=EventHandler)


@dataclass(frozen=True, slots=True, eq=False)
class EventSubscription:
    """A handler of one type of event."""

    type: MeetingEventType
    function: EventHandler
    takes_three: bool
    """It is called as (meeting_id, agent_external_id, data)."""


class Recorder(Protocol):
    """Where events of a caller's own are recorded."""

    async def record_event(self, meeting_id: str, type: MeetingEventType, data: dict[str, Any]) -> None: ...


class MeetingEventHandler:
    """The event handlers of one SDK object; also `sdk._event_handler`.

    Several handlers of one event run at the same time; one that fails or hangs disturbs no other, and no meeting.
    """

    def __init__(self, find_recorder: Callable[[], Recorder], on_change: Callable[[], None]) -> None:
        self._find_recorder = find_recorder
        self._on_change = on_change
        self.subscriptions: list[EventSubscription] = []

    def register_handler(self, event_type: MeetingEventType, handler: EventHandler) -> None:
        """Call the handler for each event of this type from now on.

        Raises:
            InvalidArgumentError: The type is not one, or the handler takes neither one nor three arguments.
        """
        self.subscriptions.append(EventSubscription(check_event_type(event_type), handler, _takes_three(handler)))
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

    async def emit_error_occurred(
        self, meeting_id: UUID | str, error_type: str, error_message: str, affected_agent_id: UUID | str | None = None
    ) -> None:
        """Record that something went wrong in a meeting."""
        affected = None if affected_agent_id is None else str(affected_agent_id)
        data = {"error_type": error_type, "error_message": error_message, "affected_agent_id": affected}
        await self.emit_event(meeting_id, MeetingEventType.ERROR_OCCURRED, data)


def check_event_type(value: Any) -> MeetingEventType:
    """Return the type; its value as text is taken too.

    Raises:
        InvalidArgumentError: It is not one.
    """
    known = ", ".join(one.value for one in MeetingEventType)
    return parse_choice(MeetingEventType, value, "event_type", f"is not an event of meetings. There are: {known}.")


def _takes_three(handler: Any) -> bool:
    name = getattr(handler, "__qualname__", type(handler).__name__)
    if not callable(handler):
        raise InvalidArgumentError(field="handler", value=name, reason="cannot be called. Pass a function.")
    try:
        signature = inspect.signature(handler)
    except ValueError:  # some functions written in C do not tell
        return False
    for arguments, takes_three in (((None,), False), ((None, None, None), True)):
        try:
            signature.bind(*arguments)
            return takes_three
        except TypeError:
            continue
    raise InvalidArgumentError(
        field="handler",
        value=name,
        reason=f"takes {signature}. An event handler takes (event), or (meeting_id, agent_external_id, data).",
    )
