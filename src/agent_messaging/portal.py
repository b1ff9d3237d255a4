"""Code without asyncio uses what is asynchronous through a portal: a thread with an event loop, and what is open in it.

Objects that lease a portal under one key share it: one thread, one loop, one resource, which begin with the first call
and end when the last object lets go, at the latest when the interpreter exits. A forked child leases anew.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import inspect
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures.thread import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, ParamSpec, TypeVar

from .exceptions import ConfigurationError, EventLoopError, NotInitializedError
from .system import after_fork

R = TypeVar("R")
T = TypeVar("T")
P = ParamSpec("P")

Opening = Callable[[], AbstractAsyncContextManager[R]]
"""Makes what is entered in the loop of the portal, once, and left when the portal ends."""

PATIENCE = 10.0
"""Seconds for which the end of a portal is waited for."""
_LOOK_AGAIN = 1.0
"""Seconds after which a call into a loop looks whether that still runs."""
_ASYNCHRONOUS = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE | inspect.CO_ASYNC_GENERATOR
_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class Lease(Generic[R]):
    """The use of a portal by one object.

    Args:
        key: Leases of equal keys share the portal.
        opening: How its resource is opened.
        owner: The class to name in messages.
        instead: What does the same on an event loop, for messages.
        is_inherited: Whether a forked child may lease anew; not where the resource is in the parent's memory alone.
    """

    def __init__(
        self,
        key: Hashable,
        opening: Opening[R],
        *,
        owner: str = "This object",
        instead: str = "`sdk.tasks`",
        is_inherited: bool = True,
    ) -> None:
        self._key = key
        self._opening = opening
        self._owner = owner
        self._instead = instead
        self._is_inherited = is_inherited
        self._lock = threading.Lock()
        self._closed = False
        self._portal: Portal[R] | None = None
        self._release: weakref.finalize[Any, Any] | None = None
        self._find_portal()
        _leases.add(self)

    def call(self, function: Callable[[R], Awaitable[T]]) -> T:
        """Run `function(resource)` on the portal's loop and wait for what it returns or raises.

        Any number of threads may call at once. Ctrl-C ends the waiting and cancels the call, whose outcome is then
        unknown.

        Raises:
            EventLoopError: The caller is on the portal's own loop, which would wait for itself.
            NotInitializedError: This object was closed.
        """
        portal = self._find_portal()
        portal.refuse_own_loop(self._owner, self._instead)
        warn_of_blocking(self._owner, self._instead)
        return portal.run(function)

    def submit(self, function: Callable[[R], Awaitable[T]]) -> concurrent.futures.Future[T]:
        """Run `function(resource)` on the portal's loop without waiting; cancelling the future cancels it.

        Raises:
            NotInitializedError: This object was closed.
        """
        return self._find_portal().submit(function)

    def close(self) -> None:
        """Give the portal back, and wait for its end if nobody else leases it. Closing again does nothing."""
        with self._lock:
            if self._portal is not None:
                self._portal.refuse_own_loop(self._owner, self._instead)
            self._closed = True
            portal, self._portal = self._portal, None
            release, self._release = self._release, None
        if release is not None and portal is not None and portal.pid == os.getpid():
            release()
            portal.wait_ended()

    def _find_portal(self) -> Portal[R]:
        with self._lock:
            if self._closed:
                raise NotInitializedError(f"{self._owner} was closed. Make a new one.")
            if self._portal is not None and self._portal.pid != os.getpid():
                if not self._is_inherited:
                    raise ConfigurationError(
                        f"{self._owner} keeps its data in the memory of the process that made it, and this is a "
                        "process forked from that one. Make one in this process, or use a store on disk for both."
                    )
                if self._release is not None:
                    self._release.detach()
                self._portal = None
            if self._portal is None:
                self._portal = _portals.lease(self._key, self._opening)
                self._release = weakref.finalize(self, _portals.release, self._key, self._portal)
                self._release.atexit = False  # `_portals.close_all` ends them all
            return self._portal

    def abandon(self) -> None:
        """Forget, in a forked child, which thread of the parent held the lock."""
        self._lock = threading.Lock()


class Portal(Generic[R]):
    """A thread, its event loop, and the resource in it."""

    def __init__(self, opening: Opening[R]) -> None:
        self.pid = os.getpid()
        self.leases = 0
        self._opening = opening
        self._gate = threading.RLock()  # the garbage collector may end a portal in the middle of a call here
        self._is_open = True
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened: asyncio.Lock | None = None
        self._exits = contextlib.AsyncExitStack()
        self._resource: list[R] = []
        self._calls: set[asyncio.Task[Any]] = set()

    def run(self, function: Callable[[R], Awaitable[T]]) -> T:
        """Run on the loop and wait."""
        future = self.submit(function)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise NotInitializedError(
                "This object was closed while the call ran, and whether the call took effect is unknown. "
                "Make a new one."
            ) from None
        except BaseException:
            future.cancel()
            raise

    def submit(self, function: Callable[[R], Awaitable[T]]) -> concurrent.futures.Future[T]:
        """Run on the loop."""
        with self._gate:  # a call that came after the loop's last look would wait for ever
            if not self._is_open:
                raise NotInitializedError(
                    "This object was closed meanwhile, or the interpreter is exiting. Make a new one."
                )
            return asyncio.run_coroutine_threadsafe(self._call(function), self._start())

    def _start(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop.set_default_executor(_Executor())
            self._thread = threading.Thread(
                target=self._main, args=[self._loop], name="agent-messaging-portal", daemon=True
            )
            self._thread.start()
        return self._loop

    async def _call(self, function: Callable[[R], Awaitable[T]]) -> T:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            if not self._resource:
                self._opened = self._opened or asyncio.Lock()
                async with self._opened:
                    if not self._resource:  # nobody has opened it yet, or who tried failed
                        self._resource.append(await self._exits.enter_async_context(self._opening()))
            return await function(self._resource[0])
        finally:
            self._calls.discard(task)

    def refuse_own_loop(self, owner: str, instead: str) -> None:
        """Refuse a wait on this portal's loop for this portal's loop."""
        if threading.current_thread() is self._thread:
            raise waits_for_itself(owner, instead)

    def end(self) -> None:
        """Ask for the end: calls that run are cancelled, then the resource is closed. Does not wait."""
        with self._gate:
            if self._is_open and self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
            self._is_open = False

    def wait_ended(self) -> None:
        """Wait for the end if nobody leases the portal any more, but not for ever."""
        thread = self._thread
        if self.leases == 0 and thread is not None and thread is not threading.current_thread():
            thread.join(PATIENCE)

    @property
    def has_ended(self) -> bool:
        """Whether its thread has ended, or never began."""
        return self._thread is None or not self._thread.is_alive()

    def _main(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            with self._gate:
                self._is_open = False
            loop.run_until_complete(self._leave())
            asyncio.set_event_loop(None)
            loop.close()

    async def _leave(self) -> None:
        await asyncio.sleep(0)  # the calls that came before the gate closed have begun now
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await self._exits.aclose()
        await asyncio.get_running_loop().shutdown_asyncgens()


class _Executor(ThreadPoolExecutor):
    """The executor of a portal's loop. It works on after the end of the main thread, as long as other threads call."""

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> concurrent.futures.Future[T]:
        """Run it in a thread of the pool; after the end of the main thread those begin nothing more."""
        try:
            return super().submit(function, *args, **kwargs)
        except RuntimeError:
            ready: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                ready.set_result(function(*args, **kwargs))
            except BaseException as error:
                ready.set_exception(error)

        try:
            threading.Thread(target=run, name="agent-messaging-portal-last", daemon=True).start()
        except RuntimeError:  # the interpreter is exiting
            run()
        return ready


class LoopPortal:
    """Calls from other threads into an event loop that runs anyway.

    Args:
        find_loop: Finds the loop, or raises what the caller is to be told.
        owner: What to name in messages.
        check: Called with each function, in the caller's thread; it refuses what would wait for the caller.
    """

    def __init__(
        self,
        find_loop: Callable[[], asyncio.AbstractEventLoop],
        owner: str,
        check: Callable[[Callable[..., object]], None] = lambda function: None,
    ) -> None:
        self._find_loop = find_loop
        self._owner = owner
        self._check = check

    def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(*args, **kwargs)` on the loop, wait, and return or raise what it does.

        Any number of threads may call at once. Ctrl-C ends the waiting and cancels the call, whose outcome is then
        unknown.

        Raises:
            EventLoopError: The caller is on that loop, which would wait for itself.
            NotInitializedError: The SDK is not started, or its loop ended meanwhile.
            HandlerError: A plain handler would close the SDK, which waits for its end.

        Example:
            answer = sdk.portal.call(sdk.conversation.send_and_wait, "alice", "bob", "Ready?", timeout=10)
        """
        loop = self._find_loop()
        if _running_loop() is loop:
            raise waits_for_itself(self._owner, self._owner)
        self._check(function)
        warn_of_blocking(self._owner, self._owner)

        async def run() -> T:
            return await function(*args, **kwargs)

        work = run()
        try:
            future = asyncio.run_coroutine_threadsafe(work, loop)
        except RuntimeError:
            work.close()
            raise self._has_ended() from None
        try:
            while True:
                try:
                    return future.result(_LOOK_AGAIN)
                except concurrent.futures.TimeoutError:
                    if future.done():
                        return future.result()  # it may be what the call itself has raised
                    if loop.is_closed():
                        raise self._has_ended() from None
        except concurrent.futures.CancelledError:
            raise self._has_ended() from None
        except BaseException:
            future.cancel()
            raise

    def _has_ended(self) -> NotInitializedError:
        return NotInitializedError(
            f"The event loop of {self._owner} ended, or the call was cancelled there; whether it took effect is "
            "unknown. Start the SDK anew, and repeat the call with the same idempotency_key."
        )


def waits_for_itself(owner: str, instead: str) -> EventLoopError:
    """The error of a blocking call on the loop for which it would wait."""
    return EventLoopError(
        f"{owner} was called on its own event loop, which would wait for itself for ever. "
        f"Call it from another thread, or use the asynchronous {instead} here."
    )


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def warn_of_blocking(owner: str, instead: str) -> None:
    """Warn a caller whose event loop stands still during the call; not a notebook, whose cells hold it up anyway."""
    if _running_loop() is None or _is_in_cell():
        return
    warnings.warn(
        f"{owner} was called on a running event loop, which stands still until the call returns. Call it "
        f"with `await asyncio.to_thread(...)`, or use the asynchronous {instead}.",
        RuntimeWarning,
        stacklevel=_frames_inside(),
    )


class _Portals:
    """The portals of this process, by key."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        # Reentrant: the garbage collector may release a lease in the middle of a call here.
        self._lock = threading.RLock()
        self.by_key: dict[Hashable, Portal[Any]] = {}
        self._ending: list[Portal[Any]] = []

    def lease(self, key: Hashable, opening: Opening[R]) -> Portal[R]:
        with self._lock:
            portal = self.by_key.get(key)
            if portal is None:
                portal = self.by_key[key] = Portal(opening)
            portal.leases += 1
            return portal

    def release(self, key: Hashable, portal: Portal[Any]) -> None:
        if portal.pid != os.getpid():
            return
        with self._lock:
            portal.leases -= 1
            if portal.leases == 0 and self.by_key.get(key) is portal:
                del self.by_key[key]
                self._ending = [one for one in self._ending if not one.has_ended] + [portal]
                portal.end()

    def close_all(self) -> None:
        with self._lock:
            portals = [*self.by_key.values(), *self._ending]  # of objects that were forgotten a moment ago, too
            self.by_key.clear()
        for portal in portals:
            portal.leases = 0
            portal.end()
        for portal in portals:
            portal.wait_ended()


_leases: weakref.WeakSet[Lease[Any]] = weakref.WeakSet()
_portals = _Portals()
_inherited: list[Portal[Any]] = []
"""The portals of the parents of this process. Their loops are never closed: that would stop the loops of the parents,
with which they share the file that wakes them."""


def _is_in_cell() -> bool:
    """Whether the caller is the code of a notebook's cell, or a plain function that was called there.

    A cell is code of a module, which the notebook's kernel runs in a coroutine of its own.
    """
    frame, is_of_module = sys._getframe(1).f_back, False
    while frame is not None:
        if frame.f_code.co_flags & _ASYNCHRONOUS:
            return is_of_module
        is_of_module = is_of_module or frame.f_code.co_name == "<module>"
        frame = frame.f_back
    return False


def _frames_inside() -> int:
    """Count the frames inside the package, for a warning that names the caller's line."""
    frame, count = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, count = frame.f_back, count + 1
    return count


def _after_fork() -> None:
    _inherited.extend(_portals.by_key.values())
    _portals.reset()
    for lease in list(_leases):
        lease.abandon()


atexit.register(_portals.close_all)
after_fork(_after_fork)
