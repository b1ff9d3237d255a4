"""Figures of one SDK object, which cost nothing to read, and of its store, which is asked for them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..states import DeliveryState, TaskState

__all__ = ["PoolFigures", "ProcessFigures", "Statistics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFigures:
    """The connections of one SDK object to its store. On SQLite each has a thread: one writes, two read."""

    max_size: int
    """Never more are open."""
    size: int
    """So many are open."""
    in_use: int
    available: int
    """Open, and not in use."""
    waiting: int
    """Calls that wait for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFigures:
    """What one SDK object has and does at this moment."""

    process_id: str
    """Under which the store knows it; it is another one after others took it for dead."""
    pool: PoolFigures
    outbox: int
    """Calls whose messages wait for the next commit."""
    slots: int
    """Runs of message handlers that are possible at once, of the agents for which something came so far."""
    slots_used: int
    running: int
    """Runs of message handlers."""
    settling: int
    """Ends of runs that are not stored yet."""
    pulled: int
    """Messages that `receive` has given to agents' own code, and that are not settled."""
    asks: int
    """Asks for whose answers callers wait."""
    waits: int
    """What callers wait for besides: receipts, messages, parts, turns, the ends of meetings and tasks."""
    tasks_running: int
    tasks_settling: int
    neighbours: int
    """Other processes alive on the store, as they were last read, at most seconds ago while there is traffic."""

    @property
    def claims(self) -> int:
        """Messages that it has claimed: they run, wait to be settled, or were pulled."""
        return self.running + self.settling + self.pulled


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """The figures of an SDK object, and of its store as a whole."""

    process: ProcessFigures
    deliveries: Mapping[DeliveryState, int]
    """How many messages are in each state; those of no message are left out."""
    oldest_queued_age: float | None
    """Seconds for which the oldest message that nobody has claimed has been due; None if there is none."""
    oldest_queued_recipient: str | None
    """The external id of its recipient."""
    oldest_claim_age: float | None
    """Seconds since the oldest open claim was made."""
    index_lag: int
    """Messages that searches look through themselves, because the index of words does not have them yet."""
    processes: int
    """Alive on the store, this one included."""
    tasks: Mapping[TaskState, int]
    """How many tasks are in each state; empty where they are on Redis and this process has not used them yet."""
    oldest_queued_task_age: float | None


class Sources:
    """The SDK objects whose figures an exporter reads. It keeps none of them alive, so none has to be removed."""

    def __init__(self) -> None:
        self._methods: tuple[weakref.ref[Callable[[], ProcessFigures | None]], ...] = ()
        self._lock = threading.Lock()

    def add(self, figures: Callable[[], ProcessFigures | None]) -> None:
        """Read these too: a bound method of the SDK object, as `Observer.attached` is given."""
        with self._lock:
            self._methods = (*(one for one in self._methods if one() is not None), weakref.WeakMethod(figures))

    def remove(self, figures: Callable[[], ProcessFigures | None]) -> None:
        """Read these no more."""
        with self._lock:
            self._methods = tuple(one for one in self._methods if one() not in (figures, None))

    def read(self) -> list[ProcessFigures]:
        """The figures of those that are started; in any thread."""
        methods = [method for one in self._methods if (method := one()) is not None]
        return [figures for method in methods if (figures := method()) is not None]
