"""Deadlines of many callers at once, which share one timer of the event loop."""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

GRAIN = 0.01
"""Seconds by which a deadline may be noticed late."""


class Due(Protocol):
    """Something with a deadline; two of them are told apart by their identity."""

    def fall_due(self) -> None:
        """The deadline has come."""


class Deadlines:
    """The deadlines of one event loop at a time.

    A timer of the loop takes as long to set and to cancel as an ask takes to find its names (2.5 µs), and most are
    cancelled. So there is one timer for all of them, set for the first. When that has gone the timer stays where it is:
    it finds nothing, and is set for the next.
    """

    def __init__(self) -> None:
        self._ticks: dict[int, dict[Due, None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_tick = 0
        """The one for which it is set."""

    def add(self, one: Due, when: float) -> int:
        """Tell this one at that time of the loop's clock, or up to `GRAIN` later. Returns what `discard` needs."""
        tick = math.ceil(when / GRAIN)
        if (ones := self._ticks.get(tick)) is not None:
            ones[one] = None
        else:
            self._ticks[tick] = {one: None}
            if self._timer is None or tick < self._timer_tick:
                self._set_timer(tick)
        return tick

    def discard(self, one: Due, tick: int) -> None:
        """Tell this one no more: it has ended before its deadline, or was told."""
        if (ones := self._ticks.get(tick)) is not None:
            ones.pop(one, None)
            if not ones:
                del self._ticks[tick]

    def close(self) -> None:
        """The loop is about to be left, and nobody is told of anything any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, tick: int) -> None:
        self.close()
        self._timer_tick = tick
        self._timer = asyncio.get_running_loop().call_at(tick * GRAIN, self._fall_due)

    def _fall_due(self) -> None:
        due = self._ticks.pop(self._timer_tick, {})
        self._timer = None
        if self._ticks:
            self._set_timer(min(self._ticks))
        for one in due:
            one.fall_due()
