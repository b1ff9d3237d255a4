"""The other live processes: what they say they serve, and waking them.

What they say is a hint, used before storing and for wake-ups; the store's claims decide. It is read at most once a
second, or at once where a call would otherwise be refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from ..models import Kind
from ..single_flight import SingleFlight
from ..storage.ports import Presence, ProcessRow, ProcessStore
from .names import AgentName
from .services import Service

MAX_AGE = 1.0
"""Seconds for which what others say is believed without looking again."""

Key = tuple[str | None, Kind]
"""The id of an agent, None for every agent; and the kind of messages."""


class Neighbours(Service):
    """The other processes, as last read.

    Args:
        grace: Seconds for which an ended process counts as serving.
        changed: Called when others begin or cease to serve agents of their own.
        read_again: Awaited after a reading for which no caller waits.
    """

    def __init__(
        self,
        processes: ProcessStore,
        presence: Presence,
        grace: float,
        changed: Callable[[], None],
        read_again: Callable[[], Awaitable[None]],
    ) -> None:
        self.processes = processes
        self.presence = presence
        self.grace = grace
        self.changed = changed
        self.read_again = read_again
        self.recent: set[Key] = set()
        """What the others serve, or served within the grace."""
        self.explicit: set[Key] = set()
        """What live processes serve by handlers of these agents alone."""
        self.hinted = asyncio.Event()
        """Set, and replaced, when others may serve something new."""
        self._rows: list[ProcessRow] = []
        self._live: dict[Key, set[str]] = {}
        self._read_at = -MAX_AGE
        self._reading = SingleFlight(self._read_if_stale, "reading who serves whom")
        self._is_stale = False
        self._is_started = False
        self._rung_for: set[Key] = set()

    async def start(self) -> None:
        """Begin to read."""
        self._is_started = True

    async def aclose(self, timeout: float) -> None:
        """Stop reading."""
        await self._reading.aclose()

    def serves(self, agent: AgentName, kind: Kind) -> bool:
        """Whether another live process serves the agent, as far as is known here."""
        return (agent.id, kind) in self._live or (None, kind) in self._live

    def serves_recently(self, agent: AgentName, kind: Kind) -> bool:
        """Whether another process serves the agent, or one that ended did within its grace."""
        return (agent.id, kind) in self.recent or (None, kind) in self.recent

    # --- reading ------------------------------------------------------------------------------------------------------

    def look_soon(self) -> None:
        """Read what others may have said, and wake the callers that wait for somebody to serve."""
        # No reading wakes them: two that wait would wake each other with theirs.
        hinted, self.hinted = self.hinted, asyncio.Event()
        hinted.set()
        self._read_soon()

    def _read_soon(self) -> None:
        """Read now, or a second after the last time. No change is missed, only seen late."""
        self._is_stale = True
        if self._is_started:
            self._reading.request()

    async def _read_if_stale(self) -> None:
        await asyncio.sleep(self._read_at + MAX_AGE - time.monotonic())
        if self._is_stale:  # otherwise the run before, which slept meanwhile, has read for this one too
            self._is_stale = False
            await self.read()
            await self.read_again()

    @property
    def alive(self) -> int:
        """How many other processes were alive when they were last read."""
        return sum(row.ended_at is None and row.process_id != self.presence.process_id for row in self._rows)

    @property
    def is_alone(self) -> bool:
        """Whether no other process was alive then."""
        return self.alive == 0

    async def read(self) -> None:
        """Read what the others say now."""
        rows = await self.processes.list_processes(self.grace)
        live: dict[Key, set[str]] = {}
        recent, explicit = set[Key](), set[Key]()
        for row in rows:
            if row.process_id == self.presence.process_id:
                continue
            for service in row.services:
                key = (service.agent_id, service.kind)
                recent.add(key)
                if row.ended_at is None:
                    live.setdefault(key, set()).add(row.process_id)
                    if service.explicit:
                        explicit.add(key)
        has_changed = explicit != self.explicit
        self._rows, self._live, self.recent, self.explicit = rows, live, recent, explicit
        self._read_at = time.monotonic()
        # A process that began to serve an agent a moment ago was not known when it was rung for.
        rung_for, self._rung_for = self._rung_for, set()
        self._ring(rung_for)
        if has_changed:
            self.changed()

    # --- ringing ------------------------------------------------------------------------------------------------------

    async def ring_everybody(self) -> None:
        """Wake all other processes."""
        await self.read()
        self.presence.ring(row.process_id for row in self._rows if row.ended_at is None)

    def ring_for(self, recipient_ids: Iterable[str], kind: Kind) -> None:
        """Wake those that serve these agents."""
        keys: set[Key] = {(recipient_id, kind) for recipient_id in recipient_ids}
        self._rung_for |= keys
        self._read_soon()
        self._ring(keys)

    def _ring(self, keys: set[Key]) -> None:
        wanted = keys | {(None, kind) for _, kind in keys}
        if targets := set[str]().union(*(self._live.get(key, ()) for key in wanted)):
            self.presence.ring(targets)
