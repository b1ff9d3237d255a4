"""When to look again: it is told of what becomes due, and one task waits for the first of it."""

from __future__ import annotations

import asyncio
import time

from ..clock import monotonic


class Timer:
    """The next instant at which the store is to be told that time has passed. It begins due."""

    def __init__(self) -> None:
        self.due_at = monotonic()
        """By the monotonic clock; infinity where nothing is known to become due."""
        self._sooner = asyncio.Event()

    def look_in(self, seconds: float) -> None:
        """Something becomes due in so many seconds."""
        due_at = monotonic() + seconds
        if due_at < self.due_at:
            self.due_at = due_at
            self._sooner.set()

    def wake(self) -> None:
        """Have the one that waits look about, though nothing is due."""
        self._sooner.set()

    def clear(self) -> None:
        """Everything due is looked at now; from here on it counts anew."""
        self.due_at = float("inf")

    async def wait(self, until: float) -> float:
        """Wait until something is due, this instant, or `wake`. Returns by how many seconds the loop is late."""
        wake_at = min(until, self.due_at)
        pause = wake_at - monotonic()
        began = time.monotonic()
        if pause > 0:
            # No `asyncio.timeout`, whose end is a cancellation: an idle process does little else than wait here.
            end = asyncio.get_running_loop().call_later(pause, self._sooner.set)
            try:
                await self._sooner.wait()
            finally:
                end.cancel()
        self._sooner.clear()
        return time.monotonic() - began - pause if pause > 0 else 0.0
