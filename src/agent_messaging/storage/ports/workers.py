"""The port of workers: who takes tasks, what it can do, and how much room it has.

A worker is known by any external id. It is alive until its heartbeat is older than it said; being dead it stays known,
until `remove_stale`. `storage/choosing.py` says who is eligible for a task, and in which order, for every backend.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Protocol

from ...records import dataclass

AVAILABLE = frozenset({"active", "idle"})
"""The words of a worker's status with which it takes tasks. With any other it is known, and takes none."""


@dataclass(frozen=True, slots=True)
class NewWorker:
    """What a worker says of itself."""

    worker_id: str
    role: str
    capabilities: tuple[str, ...]
    """In order, each once."""
    capacity: int
    """Tasks that it has at once, over all of its processes."""
    ttl: float
    """Seconds for which it is alive from now on, without another heartbeat."""
    pulls: bool = False
    """It takes its tasks by `TaskPool.exchange`; otherwise it learns of them by the message of the task."""
    metadata: str | None = None
    """JSON text of an object, already checked."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker's sign of life."""

    worker_id: str
    ttl: float
    status: str | None = None
    """A new one; None leaves it. A worker that was taken for offline is active again."""
    reported: int | None = None
    """The tasks that it says it has; None leaves what it said before. It counts where it is above what is booked."""


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker as the listings show it."""

    worker_id: str
    role: str
    capabilities: tuple[str, ...]
    capacity: int
    status: str
    """Its own word, or `offline` where its last process ended."""
    is_alive: bool
    """Its heartbeat is not older than it said."""
    booked: int
    """The tasks that the store has booked for it, or that it runs."""
    reported: int
    pulls: bool
    metadata: str | None
    registered_at: datetime
    heartbeat_at: datetime
    idle_since: datetime
    """When it last ended a task; at first, when it was registered."""

    @property
    def busy(self) -> int:
        """The tasks that it has: as the store counts them or as it says, whichever is more."""
        return max(self.booked, self.reported)

    @property
    def load(self) -> float:
        """The share of its capacity that is taken; 1 or more is full."""
        return self.busy / self.capacity

    @property
    def free(self) -> int:
        """The tasks for which it has room."""
        return max(self.capacity - self.busy, 0)

    def capabilities_cover(self, needs: Iterable[str]) -> bool:
        """Whether it can do all of this."""
        return set(self.capabilities).issuperset(needs)


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """All workers that are known."""

    total: int
    alive: int
    by_role: dict[str, int]
    by_status: dict[str, int]
    busy: int
    """Tasks of those alive."""
    capacity: int
    """Of those alive."""
    load: float
    """The mean of the loads of those alive; 0 where nobody is."""


class WorkerStore(Protocol):
    """Workers. All of it is safe under any number of processes."""

    async def register(self, worker: NewWorker, *, process_id: str | None = None, now: datetime | None = None) -> bool:
        """Store the worker as active, or replace what is known of it but its tasks; True if it is new. Repeat-safe.

        It is found at once. With `process_id` it is served by that process (and by others that say so): those are rung
        for it, and where the last of them ends the worker is `offline` until its next heartbeat.
        """
        ...

    async def heartbeat(
        self, beats: Sequence[Beat], *, process_id: str | None = None, now: datetime | None = None
    ) -> list[bool]:
        """Write the signs of life, in one commit; False for a worker that is not known. Repeat-safe.

        With `process_id` that process serves the workers from now on, if they pull.
        """
        ...

    async def unregister(self, worker_id: str, *, process_id: str | None = None, now: datetime | None = None) -> bool:
        """Forget the worker; False if it was not known. Repeat-safe.

        Its open tasks return to the queue, uncounted. With `process_id` that process alone takes leave: the worker is
        forgotten with the last one, and until then keeps its tasks.
        """
        ...

    async def find_workers(self, worker_ids: Collection[str], *, now: datetime | None = None) -> list[WorkerRow]:
        """Those that are known, in any order."""
        ...

    async def list_workers(self, limit: int, offset: int, *, now: datetime | None = None) -> list[WorkerRow]:
        """A page in order of id, dead ones too."""
        ...

    async def find_available(
        self, needs: Collection[str], limit: int, *, now: datetime | None = None
    ) -> list[WorkerRow]:
        """The first of those that are alive, available and can do all of this, in the order in which tasks choose.

        Full ones come last: they are listed, and never chosen.
        """
        ...

    async def remove_stale(self, limit: int, *, now: datetime | None = None) -> list[str]:
        """Forget up to `limit` workers that are no longer alive, as `unregister` does; returns who they were."""
        ...

    async def worker_statistics(self, *, now: datetime | None = None) -> WorkerStatistics:
        """All workers in figures. A plain read."""
        ...
