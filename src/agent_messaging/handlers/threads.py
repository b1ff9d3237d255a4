"""Daemon threads that run plain functions for the loop.

The interpreter joins the threads of a `ThreadPoolExecutor` at its exit, so one handler that hangs would hang the exit.
"""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from ..futures import call_from_thread, fail
from .functions import check_result, is_coroutine_function

IDLE_SECONDS = 10.0
"""An idle thread ends after this long."""

_Job = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class DaemonThreads:
    """One thread for each call at the same time; the callers bound them by their slots."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._idle = 0
        self._is_closed = False
        self._lock = threading.Lock()
        self.is_abandoned = False
        self._own = threading.local()
        self.calls: set[asyncio.Future[Any]] = set()
        """The calls whose results nobody has yet."""

    @property
    def is_current(self) -> bool:
        """Whether the caller is in one of these threads."""
        return hasattr(self._own, "is_one")

    def abandon(self) -> None:
        """Wait for no thread any more: the SDK is closing."""
        self.is_abandoned = True

    def close(self) -> None:
        """End the idle threads now, and the others after what they run."""
        with self._lock:
            self._is_closed = True
            for _ in range(self._idle):
                self._jobs.put(None)
            self._idle = 0

    def call(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Run it in a thread, in the caller's context; a cancellation of the future does not stop it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        context = copy_context()
        with self._lock:
            is_idle = self._idle > 0
            self._idle -= is_idle
        if not is_idle:  # before the job is put: where no thread can be started, none is to find it later
            threading.Thread(target=self._work, name="agent-messaging-handler", daemon=True).start()
        self.calls.add(future)
        future.add_done_callback(self.calls.discard)
        self._jobs.put((lambda: context.run(function, *args), future, loop))
        return future

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call it, on the loop or in a thread, and return its result; an awaitable one is awaited.

        A cancellation does not stop a thread, and does not wait for it.

        Raises:
            TypeError: It returned a generator, of which nothing has run.
            BaseException: What it raised.
        """
        result = function(*args) if is_coroutine_function(function) else await self.call(function, *args)
        if inspect.isawaitable(result):
            result = await result
        check_result(result)
        return result

    def _work(self) -> None:
        self._own.is_one = True
        # Each job was counted against one thread, idle or new, so a thread that gave up waiting cannot strand one.
        job: _Job | None = self._jobs.get()
        while job is not None:
            _run(*job)
            with self._lock:
                if self._is_closed:
                    return
                self._idle += 1
            job = self._next()

    def _next(self) -> _Job | None:
        try:
            return self._jobs.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            with self._lock:
                if self._idle:
                    self._idle -= 1
                    return None
            return self._jobs.get()  # a job was put for this thread just now


def _run(function: Callable[[], Any], future: asyncio.Future[Any], loop: asyncio.AbstractEventLoop) -> None:
    result, error = None, None
    try:
        result = function()
    except BaseException as raised:  # a SystemExit in a thread would vanish: the run's owner decides what it means
        error = raised
    call_from_thread(loop, _deliver, future, result, error)


def _deliver(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration):  # a future refuses it
        fail(future, RuntimeError("the handler raised StopIteration"))
    else:
        fail(future, error)
