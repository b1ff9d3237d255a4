"""What a backend of the coordination alone has to be; every `Store` is one."""

from __future__ import annotations

from typing import Protocol

from .base import Capabilities
from .queue import QueueStore
from .tasks import TaskStore
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
    def tasks(self) -> TaskStore: ...

    async def open(self, *, initialize: bool = True) -> None:
        """Connect, and check that the store is ours and safe. Safe to call from many processes at once."""
        ...

    async def aclose(self) -> None:
        """Give everything back. Idempotent, also after a failed `open`."""
        ...
