"""Which run of a handler the calling code is in, also in tasks and threads that the handler has started.

A task that has outlived its run is outside. It is known only as the one that may still owe the run's answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import field, replace

from ..clock import monotonic
from ..handlers.registry import Handler
from ..models import Kind
from ..records import dataclass
from ..storage.ports import ClaimedDelivery, TurnRef
from .abandonment import Abandonment
from .stations import Station, Stations


@dataclass(slots=True, eq=False)
class Run:
    """A handler at work on a delivery."""

    delivery: ClaimedDelivery
    station: Station
    since: float = field(default_factory=monotonic)
    task: asyncio.Task[None] | None = None
    """The one that it has to itself."""
    waits: int = 0
    """Open asks and waits made in it. While there are any, it does not hold its lane."""
    has_ended: bool = False
    turn: TurnRef | None = None
    """The turn of a turn handler, once it has begun."""
    is_acting: bool = False
    """A turn handler has returned, and its turn is being used."""
    handler: Handler | None = None
    """The one of the station's handlers that its payload is for, once it is known."""
    is_moot: bool = False
    """Its claim is lost, its turn is over, or its ask was passed on: it settles nothing and counts as no failure."""
    asker: Abandonment | None = None
    """Whether its asker waits, of an ask; None of any other message."""
    is_given_up: bool = False
    """Whether it was cancelled because its asker does not wait any more."""
    has_passed_on: bool = False
    """Its ask is with another agent now, to whom it owes nothing."""

    def cancel(self) -> None:
        """Cancel its task."""
        if self.task is not None:
            self.task.cancel()

    def pass_on(self, kept_id: str) -> None:
        """Its ask went to another agent, under its id; the message that stays here has this one."""
        self.has_passed_on = self.is_moot = True
        self.delivery = replace(self.delivery, message_id=kept_id)
        if self.asker is not None:
            self.asker.close()

    def is_in_lane(self, recipient_id: str, sender_id: str, kind: Kind, thread: str | None) -> bool:
        """Whether it is about a message of this sender to this recipient; in this thread, where one is named."""
        mine = (self.station.agent.id, self.delivery.sender_id, self.station.kind)
        return mine == (recipient_id, sender_id, kind) and thread in (None, self.delivery.thread)

    def begin_waiting(self) -> None:
        """One more wait of the run begins; with the first, it leaves its lane."""
        self.waits += 1
        if self.waits == 1 and not self.has_ended:
            self.station.leave_lane(self.delivery.lane)

    def end_waiting(self) -> None:
        """A wait of the run ends; with the last, it enters its lane again."""
        self.waits -= 1
        if self.waits == 0 and not self.has_ended:
            self.station.enter_lane(self.delivery.lane)

    def end(self) -> None:
        """Give the slot and the lane back.

        It lets go of its task, whose context holds it: reference counts free both, and no garbage collection has to.
        """
        self.has_ended = True
        self.task = None
        if self.asker is not None:
            self.asker.close()
        self.station.vacate(self.delivery.lane, in_lane=self.waits == 0)


@dataclass(slots=True, eq=False)
class Call:
    """A call of a handler that works on no delivery: of a notification handler, or of an event handler."""

    has_ended: bool = False


current: ContextVar[Run | Call | None] = ContextVar("agent_messaging_run", default=None)
"""Set to a run, the calling task, and what it starts, is in that run. To be read by `inside`."""


@contextlib.contextmanager
def calling() -> Iterator[None]:
    """Within, the calling task, and what it starts, is in a call of a handler that works on no delivery."""
    call = Call()
    current.set(call)
    try:
        yield
    finally:
        call.has_ended = True  # so that it is outside again; a task that is closed after its loop is in no context here


def current_run(stations: Stations) -> Run | None:
    """The run at one of these stations that the caller is in: an SDK object takes no notice of another one's."""
    run = inside()
    return run if isinstance(run, Run) and run.station.board is stations else None


def outlived_run(stations: Stations) -> Run | None:
    """The run at one of these stations in which the calling task was started, and which has ended meanwhile."""
    run = current.get()
    return run if isinstance(run, Run) and run.has_ended and run.station.board is stations else None


@contextlib.contextmanager
def waiting(run: Run | None) -> Iterator[None]:
    """Within, the run waits for somebody, as the store knows too: it does not hold its lane."""
    if run is None:
        yield
        return
    run.begin_waiting()
    try:
        yield
    finally:
        run.end_waiting()


def current_message() -> str | None:
    """The id of the message in whose run the caller is, of whichever SDK object; None outside."""
    run = inside()
    return run.delivery.message_id if isinstance(run, Run) else None


def inside() -> Run | Call | None:
    """The run, or the call, of a handler in which the caller is, of whichever SDK object; None outside."""
    run = current.get()
    return None if run is None or run.has_ended else run
