"""A clock that a test puts forward: whatever waits for the time to pass, in the SDK and in the test, is done at once.

All that waits in an event loop waits for a timer of it, and the loop asks one function for the time. So the loop of the
test asks the SDK's clock, and a step forward makes what is due by then run as if the time had passed. The clock is put
forward from one timer to the next, and everything that can run does so in between: an hour is what would have happened
in an hour, in its order.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Any

from .. import clock
from ..delivery.deadlines import GRAIN
from .watching import Calls

EXACT_STEPS = 2_000
"""Steps that go from one timer to the next. An hour has some thousand, in which the SDK looks after its own."""
COARSE_STEPS = 1_000
"""Steps in which the rest of the time passes at most: what is due nearly together is done together."""
LATE = 1.5 * GRAIN
"""Seconds that pass beside those that are asked for: a deadline may be noticed so late, and clocks differ in the last
digits. So what is due in a minute has happened in a minute. It is less than the two grains by which the run of an ask
outlives its asker's deadline."""
MOST_TURNS = 100_000
"""Turns of the event loop after which something is believed to turn it for ever."""
PATIENCE = 1.0
"""Seconds that plain functions, which run in threads, may take before the time goes on."""

_hands: set[HandClock] = set()
"""Those that have not let go. The clock is the process's: it is put back behind the last of them."""


class HandClock:
    """The clock of a kit. It goes on as clocks do, and `advance` puts it forward.

    It is the time of the store in memory, of the SDK and of the test's event loop: of timeouts, deadlines of turns,
    expiries, schedules, pauses before retries, limits of runs, leases, and of `asyncio.sleep` too. `time.time` and
    `datetime.now` are not moved; `now` says what time it is for the SDK. All kits of a process share the time.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: Callable[[], Collection[asyncio.Future[Any]]] = tuple
        self._slow: set[asyncio.Future[Any]] = set()
        """Calls of plain functions that have had their time."""
        self._settling = asyncio.Lock()
        """One for all kits of a loop: two that let everything run at once would each take the other for what runs."""

    def now(self) -> datetime:
        """The time as the SDK sees it, aware, in UTC: for `deliver_at` and deadlines."""
        return clock.utc_now()

    async def advance(self, seconds: float) -> None:
        """Put the clock forward by so many seconds, at once.

        What becomes due meanwhile happens in its order, with all that follows from it: a message whose handler fails is
        tried again after each pause, and a meeting goes on from turn to turn. When this returns, everything has run
        that could: tasks wait for something, and the store has answered every call. Handlers that are plain functions
        have a second of real time for each step. The clock does not wait for sockets, threads or subprocesses of the
        program's own. All kits of the event loop go along.

        Args:
            seconds: At least 0, which only lets everything run that can. Of days only the first two thousand timers are
                apart; then what is due nearly together is done together, within 90 s of a day.

        Raises:
            ValueError: The time is negative, or infinite.
            RuntimeError: The kit is not open, or is open on another event loop.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"seconds is {seconds!r}. A clock goes forward: give a number of seconds from 0.")
        loop = self._check_loop()
        await self.settle()
        end = clock.monotonic() + seconds + (LATE if seconds else 0.0)
        for number in itertools.count():
            if (left := end - clock.monotonic()) <= 0:
                return
            due = _next_timer(loop)
            least = 0.0 if number < EXACT_STEPS else seconds / COARSE_STEPS
            await self._step(loop, left if due is None else min(max(due - clock.monotonic(), least), left))

    async def advance_to(self, instant: datetime) -> None:
        """Put the clock forward to this instant, which is aware, at once. An instant that is past changes nothing."""
        await self.advance(max((instant - self.now()).total_seconds(), 0.0))

    async def settle(self) -> None:
        """Run everything that can run without the passing of time."""
        loop: Any = self._check_loop()
        async with self._settling:
            for _ in range(MOST_TURNS):
                await asyncio.sleep(0)
                if loop._ready:  # others are to run in this turn, or in the next
                    continue
                hands = [hand for hand in _hands if hand._loop is loop]
                if calls := next((hand._calls for hand in hands if hand._calls.pending), None):
                    await calls.wait_for_answer()
                elif waited_for := self._running_threads(hands):
                    _, slow = await asyncio.wait(waited_for, timeout=PATIENCE)
                    self._slow |= slow
                else:
                    return

    async def _step(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        # In debug mode the loop tells of each callback that takes long, by its own time: this one takes all of it.
        limit, loop.slow_callback_duration = loop.slow_callback_duration, math.inf
        clock.set_ahead(clock.get_ahead() + math.ceil(seconds * 1e6))
        await asyncio.sleep(0)
        loop.slow_callback_duration = limit
        await self.settle()

    def _running_threads(self, hands: Iterable[HandClock]) -> Collection[asyncio.Future[Any]]:
        calls = {call for hand in hands for call in hand._threads()}
        self._slow &= calls
        return calls - self._slow

    def _check_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            raise RuntimeError("The clock belongs to an open kit, and to its event loop: use it within `async with`.")
        return loop

    # --- taking hold of the time: for the kit -------------------------------------------------------------------------

    def take_hold(self, threads: Callable[[], Collection[asyncio.Future[Any]]]) -> None:
        """Make the running loop ask for the SDK's time.

        Args:
            threads: The plain functions at work.

        Raises:
            RuntimeError: This loop has a clock of its own.
        """
        self._loop = loop = asyncio.get_running_loop()
        self._threads = threads
        self._settling = next((hand._settling for hand in _hands if hand._loop is loop), None) or asyncio.Lock()
        try:
            loop.time = clock.monotonic  # type: ignore[method-assign]
        except AttributeError as error:
            raise RuntimeError(
                f"The clock of {type(loop).__module__}.{type(loop).__name__} cannot be moved. Run tests with a kit on "
                "the event loop of asyncio itself (for pytest-asyncio the event_loop_policy, for anyio the backend "
                "options without use_uvloop)."
            ) from error
        _hands.add(self)

    def let_go(self) -> None:
        """Give the loop its own time back; the last one that lets go puts the clock back."""
        loop, self._loop = self._loop, None
        _hands.discard(self)
        if loop is not None and not any(other._loop is loop for other in _hands):
            del loop.time
        if not _hands:
            clock.set_ahead(0)


def _next_timer(loop: asyncio.AbstractEventLoop) -> float | None:
    """When the first timer of the loop is due; perhaps one that was cancelled meanwhile, which costs a step."""
    timers: list[asyncio.TimerHandle] = loop._scheduled  # type: ignore[attr-defined]
    return timers[0].when() if timers else None
