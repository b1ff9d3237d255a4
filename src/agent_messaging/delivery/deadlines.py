"""Deadlines of many callers at once: those of one hundredth of a second share one timer of the event loop."""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

GRAIN = 0.01
"""Seconds by which a deadline may be noticed late."""


class Due(Protocol):
    """It has a deadline. It is told apart by its identity."""

    def fall_due(self) -> None:
        """The deadline has come."""


class Deadlines:
    """Those of one event loop at a time.

    A timer of the loop takes as long to set and to cancel as an ask takes to find its names (2.5 µs), and most are
    cancelled.
    """

    def __init__(self) -> None:
        self._ticks: dict[int, tuple[asyncio.TimerHandle, dict[Due, None]]] = {}

    def add(self, one: Due, when: float) -> int:
        """Tell this one at that time of the loop, or a little later. Returns what `discard` needs."""
        tick = math.ceil(when / GRAIN)
        if (known := self._ticks.get(tick)) is not None:
            known[1][one] = None
        else:
            timer = asyncio.get_running_loop().call_at(tick * GRAIN, self._fall_due, tick)
            self._ticks[tick] = (timer, {one: None})
        return tick

    def discard(self, one: Due, tick: int) -> None:
        """It needs no telling any more, or was told."""
        if (known := self._ticks.get(tick)) is not None:
            timer, ones = known
            ones.pop(one, None)
            if not ones:
                timer.cancel()
                del self._ticks[tick]

    def _fall_due(self, tick: int) -> None:
        for one in self._ticks.pop(tick)[1]:
            one.fall_due()
