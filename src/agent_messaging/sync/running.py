"""How blocking calls run: on the event loop of a portal, of which each SDK object has one."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from ..exceptions import EventLoopError, NotInitializedError
from ..portal import Lease

A = TypeVar("A")
T = TypeVar("T")

Call = tuple[Callable[[], Awaitable[Any]], concurrent.futures.Future[Any]]


class Runner:
    """Runs calls on the loop of one SDK object, from any thread. It has a loop from `begin` to `end`."""

    def __init__(self, make_lease: Callable[[], Lease[Any]]) -> None:
        self._make_lease = make_lease
        self._lock = threading.Lock()
        self._lease: Lease[Any] | None = None

    def begin(self) -> None:
        """Have a loop. Idempotent."""
        with self._lock:
            if self._lease is None:
                self._lease = self._make_lease()

    def end(self) -> None:
        """Let the loop end, and wait for it. Idempotent."""
        with self._lock:
            lease, self._lease = self._lease, None
        if lease is not None:
            lease.close()

    @property
    def has_loop(self) -> bool:
        """Whether it has begun and not ended."""
        return self._lease is not None

    def run(self, function: Callable[[], Awaitable[T]]) -> T:
        """Call it on the loop and wait for what it returns or raises; Ctrl-C cancels it.

        Raises:
            NotInitializedError: The SDK is not started.
            EventLoopError: The caller runs on this loop, as `async def` handlers do.
        """
        return self._use().call(lambda _: function())

    def start(self, function: Callable[[], Awaitable[T]]) -> concurrent.futures.Future[T]:
        """Call it on the loop without waiting.

        Raises:
            NotInitializedError: The SDK is not started.
        """
        return self._use().submit(lambda _: function())

    def do(self, function: Callable[[], T]) -> T:
        """Call a function that does not wait, on the loop."""

        async def call() -> T:
            return function()

        return self.run(call)

    def _use(self) -> Lease[Any]:
        lease = self._lease
        if lease is None:
            raise NotInitializedError
        return lease


class Sequel:
    """Calls that are made one after the other in one task of the loop, as an iteration wants it.

    The task ends with `close`, with the last reference, or when a call is interrupted. A forked child has none.
    """

    def __init__(self, runner: Runner) -> None:
        self._calls: asyncio.Queue[Call] = asyncio.Queue()
        self._waiting: set[concurrent.futures.Future[Any]] = set()
        """The calls that have not ended."""
        self._pid = os.getpid()
        calls, waiting = self._calls, self._waiting

        async def work() -> None:
            while True:
                await _make(*await calls.get())

        def ended(_: concurrent.futures.Future[None]) -> None:
            for future in [*waiting]:
                future.cancel()

        self._runner = runner
        self._work = runner.start(work)
        self._work.add_done_callback(ended)  # one for all calls: it is kept until the end

    def run(self, function: Callable[[], Awaitable[T]]) -> T:
        """Call it after the calls before it, and wait for what it returns or raises."""
        if self._pid != os.getpid():
            raise EventLoopError(
                f"This was begun in process {self._pid}, and this is its forked child {os.getpid()}. Make a new one "
                "here, after `sdk.initialize()`."
            )
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def enter() -> None:
            self._calls.put_nowait((function, future))

        self._waiting.add(future)
        try:
            self._runner.do(enter)
            if self._work.done():  # perhaps before this one was among those that wait
                future.cancel()
            return future.result()
        except concurrent.futures.CancelledError:
            raise NotInitializedError(
                "This was closed, or the SDK was, while the call ran. Make a new one, after `sdk.initialize()`."
            ) from None
        except BaseException as error:
            if not isinstance(error, Exception) and not future.done():
                self.close()
            raise
        finally:
            self._waiting.discard(future)
            future.cancel()  # where it was not even entered, or nobody waits for it any more

    def close(self) -> None:
        """End the task, and cancel what it is at."""
        if self._pid == os.getpid():
            self._work.cancel()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, RuntimeError):  # it was not begun; its loop is closed
            self.close()


async def _make(function: Callable[[], Awaitable[Any]], ready: concurrent.futures.Future[Any]) -> None:
    if not ready.set_running_or_notify_cancel():
        return
    try:
        result = await function()
    except BaseException as error:
        ready.set_exception(error)
        if isinstance(error, asyncio.CancelledError):
            raise
    else:
        ready.set_result(result)


class Blocking(Generic[A]):
    """An object whose calls are those of an asynchronous one."""

    def __init__(self, runner: Runner, asynchronous: A) -> None:
        self._runner = runner
        self._async = asynchronous

    @property
    def _any(self) -> Any:
        """The asynchronous one, for calls whose overloads stand at the blocking one."""
        return self._async

    def _run(self, function: Callable[[], Awaitable[T]]) -> T:
        return self._runner.run(function)

    def _do(self, function: Callable[[], T]) -> T:
        return self._runner.do(function)
