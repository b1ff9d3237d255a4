"""Work that the store could not do while it was away is tried again, where no caller waits for it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

AGAIN = 1.0
"""Seconds until the next try."""


class Again(Generic[K]):
    """Tries things again: a second after each failure, and once more when the SDK is closed.

    Args:
        do: Tries it; says `later` if that fails.
    """

    def __init__(self, do: Callable[[K], object]) -> None:
        self._do = do
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self.is_closed = False

    @property
    def waiting(self) -> Collection[K]:
        """The things that will be tried again."""
        return self._timers.keys()

    def later(self, what: K) -> None:
        """It failed: try it again, unless this is closed."""
        if not self.is_closed:
            self._timers[what] = asyncio.get_running_loop().call_later(AGAIN, self._try, what)

    def forget(self, what: K) -> None:
        """Somebody else tries it."""
        if (timer := self._timers.pop(what, None)) is not None:
            timer.cancel()

    def close(self) -> None:
        """Try all of it now, for the last time."""
        self.is_closed = True
        for what in list(self._timers):
            self._try(what)

    def _try(self, what: K) -> None:
        self.forget(what)
        self._do(what)
