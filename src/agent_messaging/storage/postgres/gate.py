"""How many connections of the pool are used at once: as few as will do.

A server has some hundred connections for all processes together, and a call takes about a millisecond, so calls that
come together wait for a moment before another connection is opened for them. Where the server has none left, the calls
share those there are.
"""

from __future__ import annotations

import asyncio
from collections import deque

_PATIENCE = 0.1
"""Seconds that a call waits for a connection before more are used. With less, a busy machine, on which each call takes
long, opens more connections in every process, and becomes no faster."""
_OFTEN, _ENOUGH, _WITHIN = 50, 0.05, 1.0
"""One more connection is used too if so many calls have waited so many seconds together, within so many seconds. A
sender that sends one note after the other settles the last while it stores the next: each waits for one commit only,
but always."""
_REFUSED = 1.0
"""Seconds without another try after the server refused a connection."""


class Gate:
    """Lets calls in, in the order in which they came.

    Args:
        least: Connections used at once without any wait.
        most: Never more than these.
        idle: Seconds without a crowd after which it is back at `least`.
    """

    def __init__(self, least: int, most: int, idle: float) -> None:
        self.least = least
        self.most = most
        self.limit = least
        self._idle = idle
        self._used = 0
        self._waiting: deque[tuple[asyncio.Future[None], float]] = deque()
        """The callers that wait, and since when."""
        self._growing: asyncio.TimerHandle | None = None
        self._crowded_at = 0.0
        self._waits = 0
        self._waited = 0.0
        self._counted_since = float("-inf")
        self._refused_at = float("-inf")

    @property
    def is_refused(self) -> bool:
        """Whether the server had no connection left a moment ago."""
        return asyncio.get_running_loop().time() - self._refused_at < _REFUSED

    @property
    def waiting(self) -> int:
        """How many callers wait."""
        return sum(not admitted.done() for admitted, _ in list(self._waiting))

    async def enter(self, timeout: float) -> None:
        """Wait until the caller may use a connection; it calls `leave` when it has done so.

        Raises:
            TimeoutError: All that may be used stayed in use.
        """
        if self._used < self.limit and not self._waiting:
            self._used += 1
            return
        loop = asyncio.get_running_loop()
        admitted = loop.create_future()
        self._waiting.append((admitted, loop.time()))
        if self._growing is None:
            self._look_later(loop)
        try:
            async with asyncio.timeout(timeout):
                await admitted
        except BaseException:
            if admitted.done() and not admitted.cancelled():
                self.leave()  # it was let in while it gave up
            raise

    def leave(self) -> None:
        """Give the connection back, which lets the next caller in."""
        self._used -= 1
        if self.limit > self.least and asyncio.get_running_loop().time() - self._crowded_at > self._idle:
            self.limit = self.least
        self._admit()

    def refuse(self) -> None:
        """Take note that the server had no connection for a call that was let in: one less is used."""
        self._refused_at = asyncio.get_running_loop().time()
        self.limit = max(1, self.limit - 1)

    def close(self) -> None:
        """Stop growing."""
        if self._growing is not None:
            self._growing.cancel()
            self._growing = None

    def _admit(self) -> None:
        while self._waiting and self._used < self.limit:
            admitted, since = self._waiting.popleft()
            if not admitted.done():
                self._used += 1
                admitted.set_result(None)
                self._count(since)

    def _count(self, since: float) -> None:
        """Take note of a call that has waited, and use one more connection if that happens all the time."""
        now = asyncio.get_running_loop().time()
        if now - self._counted_since > _WITHIN:
            self._counted_since, self._waits, self._waited = now, 0, 0.0
        self._waits += 1
        self._waited += now - since
        if self._waits >= _OFTEN and self._waited >= _ENOUGH:
            self._counted_since = float("-inf")
            self._crowded_at = now
            if not self.is_refused:
                self.limit = min(self.most, self.limit + 1)

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        since = next((since for admitted, since in self._waiting if not admitted.done()), None)
        if since is not None:
            self._look_at(loop, since + _PATIENCE)

    def _look_at(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._growing = loop.call_at(due, self._look, due)

    def _look(self, due: float) -> None:
        """Use more connections if the call that waits longest does so although the loop was free to serve it."""
        self._growing = None
        loop = asyncio.get_running_loop()
        waits = [loop.time() - since for admitted, since in self._waiting if not admitted.done()]
        if not waits or waits[0] < _PATIENCE:
            self._look_later(loop)
            return
        if loop.time() - due <= _PATIENCE:
            self._crowded_at = loop.time()
            if not self.is_refused:
                self.limit = min(self.most, self.limit + min(len(waits), self.limit))
                self._admit()
        self._look_at(loop, loop.time() + _PATIENCE)
