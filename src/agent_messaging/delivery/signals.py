"""SIGINT, SIGTERM and SIGHUP, while an SDK object has been asked to hear them: a stop is no crash.

On Windows SIGBREAK takes the place of SIGHUP, and SIGTERM is heard from the process itself alone.

`signal.signal` and not the loop's own handlers: it works with every loop and system, and also while something blocks
the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

from ..exceptions import ConfigurationError
from ..futures import call_from_thread
from ..loggers import get_logger
from ..system import STOPS

logger = get_logger("agent_messaging.delivery")

AT_ONCE = 0.2
"""Seconds. A signal that comes so soon after another one says the same: a terminal and a runner that passes on what it
hears, or a supervisor that tells the group and then the process, mean one stop and not two."""


class Leave(Protocol):
    """How the SDK is left."""

    async def __call__(self, *, drain: bool) -> None: ...


class StopSignals:
    """From `install` to `end`, the first signal cancels the task that has armed it, and so ends its block.

    The second one ends the draining. One more, or one after another that the loop was too busy to hear of, ends the
    process: what it holds is given back in a thread, and then it ends as if nobody had asked. Of several objects in one
    process each hears every signal.

    Args:
        hurry: Ends the draining; called on the loop.
        leave: Leaves the SDK.
        give_back: Gives back what the SDK holds, without its loop; called in a signal handler.
    """

    def __init__(self, hurry: Callable[[], None], leave: Leave, give_back: Callable[[], None]) -> None:
        self._hurry = hurry
        self._leave = leave
        self._give_back = give_back
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._before: dict[int, Any] = {}
        self._count = 0
        self._heard_at = -AT_ONCE
        self._reached = 0
        """The count of signals of which the loop has heard."""
        self._is_ending = False
        """The claims are being given back, and then the process ends."""
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._has_cancelled = False

    @property
    def has_heard(self) -> bool:
        """Whether a signal has come since `install`."""
        return self._count > 0

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to hear them; the first one waits until `arm`.

        Args:
            loop: On which the task that arms this runs, in whatever thread.

        Raises:
            ConfigurationError: This is not the main thread, which alone hears signals.
        """
        if threading.current_thread() is not threading.main_thread():
            raise ConfigurationError(
                "Signals are heard in the main thread alone. Start the SDK there; in another thread, wait for an event "
                "of your own and `await sdk.close()`."
            )
        if self._before:
            return  # a block inside a block of the same object
        self._loop = loop
        self._pid = os.getpid()
        self._count = self._reached = 0
        self._heard_at = -AT_ONCE
        for number in STOPS:
            before = signal.getsignal(number)
            is_free = before is signal.SIG_DFL or isinstance(getattr(before, "__self__", None), StopSignals)
            # What is ignored, as in a job in the background, stays ignored; and that of a closed terminal is heard only
            # where nobody else hears it: it means other things to some.
            if before is not signal.SIG_IGN and (is_free or number in (signal.SIGINT, signal.SIGTERM)):
                self._before[number] = signal.signal(number, self._hear)

    def remove(self) -> None:
        """Hear them no more; whoever heard them before does again."""
        for number, before in self._before.items():
            if signal.getsignal(number) == self._hear:
                signal.signal(number, signal.SIG_DFL if before is None else before)
        self._before.clear()

    def arm(self) -> None:
        """From now on the first signal cancels the calling task; one that came already does so at once."""
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        if self._reached:
            self._cancel()

    async def end(self, error: type[BaseException] | None) -> bool:
        """Leave the SDK: the block of the task that armed this has ended, by this error or none. `remove` comes next.

        Returns:
            Whether the error is the cancellation by a signal and nothing else, and so is not to be raised.
        """
        task, self._task = self._task, None
        by_signal = self._has_cancelled and error is not None and issubclass(error, asyncio.CancelledError)
        is_done_with = self._has_cancelled and task is not None and task.uncancel() <= self._cancelling
        if self._has_cancelled and error is None:  # the block ended first: the cancellation is still to come
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        self._has_cancelled = False
        await self._leave(drain=error is None or by_signal)
        return by_signal and is_done_with

    def _hear(self, number: int, frame: FrameType | None) -> None:
        """In the main thread, between any two steps of the program."""
        if os.getpid() != self._pid:  # a forked child, of a process pool perhaps: it ends as any other
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            signal.raise_signal(number)
            return
        now = time.monotonic()
        if now - self._heard_at < AT_ONCE:
            return
        self._heard_at = now
        self._count += 1
        other = self._other(number)
        if self._count > 2 or self._reached < self._count - 1:
            if not self._is_ending:  # otherwise one more has come meanwhile: the process ends now
                self._is_ending = True
                while other is not None:
                    other._give_back()
                    other = other._other(number)
                self._give_back()
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            os._exit(128 + number)  # the first process of a container, which no signal ends that it does not handle
        assert self._loop is not None
        call_from_thread(self._loop, self._reach, self._count)
        if other is not None:
            other._hear(number, frame)

    def _other(self, number: int) -> StopSignals | None:
        """The signals of another SDK object, which heard this one before."""
        other = getattr(self._before.get(number), "__self__", None)
        return other if isinstance(other, StopSignals) and other._hurry != self._hurry else None

    def _reach(self, count: int) -> None:
        self._reached = count
        if count == 1:
            logger.info("a signal asks to stop: what runs may end; a second one ends the draining")
        if count > 1:
            self._hurry()
        elif self._task is not None:
            self._cancel()

    def _cancel(self) -> None:
        assert self._task is not None
        self._has_cancelled = True
        self._task.cancel()
