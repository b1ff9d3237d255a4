"""The ports of processes: who lives, who serves whom, and the signs of life."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Protocol

from ...models import Kind
from ...records import dataclass


@dataclass(frozen=True, slots=True)
class Service:
    """A process's word that it serves an agent."""

    agent_id: str | None
    """None: every agent."""
    kind: Kind
    explicit: bool
    """By a handler of the agent's own, not by a global handler or by pulling."""
    slots: int = 1
    """How many runs it has at once, for the question whether an ask can be answered (`storage/circles.py`)."""


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A started SDK object: one incarnation of a process."""

    process_id: str
    host: str
    pid: int
    started_at: datetime
    ended_at: datetime | None
    """When it stopped or was found dead; None while it lives."""
    end_reason: str | None
    """stopped | died."""
    seconds_since_end: float | None
    services: tuple[Service, ...]
    """What it serves, or served when it ended."""


class Farewells(Protocol):
    """The ends of processes."""

    async def retire(self, process_id: str) -> None:
        """Mark this process as stopped, and return every claim it still holds to the queue, uncounted. Repeat-safe.

        Its waits are removed, and its open asks are cancelled, unless they have an idempotency key: a repeat may join
        those. Nobody looks for the claims of a process that stopped before their hard end. So one whose runs go on all
        the same must not be retired: others notice when it is really gone, and take over.
        """
        ...

    async def release(self, process_ids: Collection[str], now: datetime | None = None) -> int:
        """Mark these processes as died; return their claims to the queue, at the last attempt to the dead letters.

        Their waits and open asks end as with `retire`.

        Guarded by "not ended": each death is dealt with once. Returns how many claims moved. Repeat-safe.
        """
        ...


class ProcessStore(Farewells, Protocol):
    """Who lives, and who serves whom."""

    async def publish(self, process_id: str, services: Collection[Service]) -> None:
        """Replace what this process says it serves."""
        ...

    async def list_processes(self, ended_within: float) -> list[ProcessRow]:
        """The live ones, and those that ended within so many seconds."""
        ...

    async def find_processes(self, process_ids: Collection[str]) -> dict[str, tuple[str, int]]:
        """Host and pid of these, by id, alive or ended; without those that are forgotten."""
        ...


class Presence(Protocol):
    """This process's sign of life, and its doorbell. Rows are the truth: a lost ring only costs time."""

    process_id: str
    """The incarnation. Changes only between `on_lost` and its return."""
    poll_interval: float
    """Seconds between two of the slow polls that back the wake-ups."""
    look_interval: float
    """Seconds until the next look for the dead; `find_dead` makes it fewer while it suspects one."""

    async def start(self, on_ring: Callable[[], None], on_lost: Callable[[], None]) -> None:
        """Appear as a live process and listen. Both callbacks are called on the loop that called `start`.

        `on_lost` tells that others may have taken this incarnation for dead: a new `process_id` is in force, every
        claim of the old one is lost, services must be published anew.
        """
        ...

    def ring(self, process_ids: Iterable[str]) -> None:
        """Wake these processes soon. Never blocks, never raises; rings in quick succession are merged."""
        ...

    async def has_changed(self) -> bool:
        """Whether anything may have been committed by others since the last call; cheap."""
        ...

    async def find_dead(self) -> list[str]:
        """The processes not ended that are known to be dead (their lock is free, or their lease is over)."""
        ...

    async def look(self) -> tuple[list[str], bool]:
        """`find_dead` and `has_changed` in one, which an idle process asks several times a second.

        A store may notice only here that others took this incarnation for dead (see `start`).
        """
        ...

    def watch(self, on_news: Callable[[], None]) -> bool:
        """Whether from now on the store looks by itself, every `look_interval`, at next to no cost.

        If it does, it calls `on_news` on the running loop when `look` may find something, or fail, and again as long as
        that lasts; so nobody else needs to look meanwhile. It ends with `aclose`.
        """
        ...

    async def aclose(self) -> None: ...
