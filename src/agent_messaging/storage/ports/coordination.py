"""What a backend of the coordination alone has to be; every `Store` is one."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from .base import Capabilities, Dues, StoreFacts
from .processes import Farewells, Presence
from .queue import QueueStore
from .schedules import ScheduleStore
from .tasks import TaskPool
from .workers import WorkerStore


class CoordinationStore(Protocol):
    """The part of a store on which supervisors, workers and queues stand. Usable between `open` and `aclose`."""

    @property
    def location(self) -> str:
        """Which store it is, without a password."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...
    @property
    def queue(self) -> QueueStore: ...
    @property
    def workers(self) -> WorkerStore: ...
    @property
    def tasks(self) -> TaskPool: ...
    @property
    def schedules(self) -> ScheduleStore: ...
    @property
    def processes(self) -> Farewells: ...
    @property
    def presence(self) -> Presence: ...

    async def open(self, *, initialize: bool = True) -> None:
        """Connect, and check that the store is ours and safe. Safe to call from many processes at once."""
        ...

    async def find_dues(self, now: datetime | None = None) -> Dues:
        """When `advance` of each noun and `find_due` of the schedules have something to do.

        One round trip, and a plain read.
        """
        ...

    async def describe(self) -> StoreFacts: ...

    async def aclose(self) -> None:
        """Give everything back. Idempotent, also after a failed `open`."""
        ...
