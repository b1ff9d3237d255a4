"""A store whose calls are counted while it has not answered them, and in which a test can plant faults.

It passes every call on to the store behind it. So it needs no method of any port, and follows each that is added.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ..storage import ports

R = TypeVar("R")
Plant = Callable[[str, Callable[[], Awaitable[Any]], tuple[Any, ...]], Awaitable[Any]]
"""It is given the name of a call (`deliveries.append`), what makes the call, and its arguments; returns its answer."""
NOUNS = {name for name, of in vars(ports.Store).items() if isinstance(of, property)} - {"location", "capabilities"}
POLL = 60.0
"""Seconds between two looks for what other processes did: in memory there is no other one. And between two rounds of
the housekeeping, which a test would only count as steps of its time."""


class Calls:
    """The calls that a store has not answered yet."""

    def __init__(self) -> None:
        self.pending = 0
        self._waiting: list[asyncio.Future[None]] = []

    async def count(self, call: Awaitable[R]) -> R:
        """Wait for the answer of a call."""
        self.pending += 1
        try:
            return await call
        finally:
            self.pending -= 1
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def wait_for_answer(self) -> None:
        """Wait until one of them is answered."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future


class _Passing:
    """It has everything that the object behind it has; coroutine functions are watched."""

    def __init__(self, inner: Any, name: str, calls: Calls, plant: Plant) -> None:
        self._inner, self._name, self._calls, self._plant = inner, name, calls, plant

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **options: Any) -> Any:
            return await self._calls.count(self._plant(f"{self._name}.{name}", lambda: found(*args, **options), args))

        setattr(self, name, call)
        return call


class WatchedStore(_Passing):
    """A `Store`.

    Args:
        plant: Called in place of each call of a noun.
    """

    def __init__(self, store: ports.Store, calls: Calls, plant: Plant) -> None:
        super().__init__(store, "store", calls, plant)
        for name in NOUNS:
            setattr(self, name, _Passing(getattr(store, name), name, calls, plant))
        self.presence.poll_interval = self.presence.look_interval = POLL
