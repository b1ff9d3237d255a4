"""Starting and leaving: which engine an SDK object has, on which event loop, and in which process.

An object belongs to the loop on which it was started until it has left. Starting and leaving are tasks of their own, so
that they end in order however often their callers are cancelled; a call returns when they have ended. Where the loop
ends first, it has cancelled every task, and the object leaves then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..exceptions import DatabaseError, EventLoopError, HandlerError, NotInitializedError, OutcomeUnknownError
from ..loggers import get_logger

if TYPE_CHECKING:
    from .engine import Engine

logger = get_logger("agent_messaging.delivery")

_inherited: list[asyncio.Task[None]] = []
"""Tasks of the parents of this process. They never end here, and asyncio complains when such a task is deleted."""


class Lifecycle:
    """One start, or one leaving, at a time.

    Args:
        build: Makes an engine, without I/O.
    """

    def __init__(self, build: Callable[[], Engine]) -> None:
        self._build = build
        self.engine: Engine | None = None
        """At work; still so while it is left, because handlers that end may send and look things up."""
        self._loop: asyncio.AbstractEventLoop | None = None
        """Where it was started, or is being started."""
        self._pid = 0
        self._starting: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._guard: asyncio.Task[None] | None = None
        self._was_left_by_loop = False
        self._is_awaited = False
        """Somebody else waits for the start that is under way."""

    # --- using --------------------------------------------------------------------------------------------------------

    def find(self) -> Engine:
        """The engine, for what only refers to it: a call may be written in one thread and awaited in another.

        Raises:
            NotInitializedError: Not started, left, or inherited by a forked child.
        """
        engine = self.engine
        if engine is None or engine.commits.is_closed:
            if self._was_left_by_loop:
                raise EventLoopError(
                    "This AgentMessaging was left when the event loop ended on which it was started. Start it anew: "
                    "`async with` it, or `await sdk.initialize()`, in each asyncio.run."
                )
            raise NotInitializedError
        if self._pid != os.getpid():
            raise EventLoopError(
                f"This AgentMessaging was started in process {self._pid}, and this is its forked child {os.getpid()}. "
                "Start one in the child: a new AgentMessaging, or this one by `await sdk.initialize()`."
            )
        return engine

    def use(self) -> Engine:
        """The engine, for a call.

        Raises:
            NotInitializedError: As `find`.
            EventLoopError: The caller is not on the loop on which the object was started.
        """
        engine = self.engine
        # The checks of `find` and of the loop, in one look where there is nothing to say.
        if (
            engine is not None
            and engine.loop is asyncio._get_running_loop()
            and self._pid == os.getpid()
            and not engine.commits.is_closed
        ):
            return engine
        engine = self.find()
        engine.check_loop()
        return engine

    def find_loop(self) -> asyncio.AbstractEventLoop:
        """The loop on which it was started.

        Raises:
            NotInitializedError: As `find`.
        """
        self.find()
        loop = self._loop
        if loop is None:  # it was left in this instant
            raise NotInitializedError
        return loop

    # --- starting -----------------------------------------------------------------------------------------------------

    async def start(self, *, initialize: bool) -> None:
        """Start, unless it is started. While it is left this waits until that has ended.

        Args:
            initialize: Bring the schema up to date; otherwise only verify it.

        Raises:
            EventLoopError: It belongs to another loop that has not ended.
        """
        while True:
            gone = self._let_go()
            self._check_loop()
            if (changing := self._changing()) is not None:
                self._is_awaited = True
                await asyncio.wait({changing})
                continue
            if self.engine is not None:
                return
            self._loop, self._pid = find_running_loop(), os.getpid()
            self._is_awaited = False
            self._starting = asyncio.create_task(self._start(initialize, gone), name="agent-messaging-start")
            try:
                await _end_of(self._starting, self._starting.cancel)
            except asyncio.CancelledError:
                # It was cancelled when it had just started: `async with` is not entered, and so would not leave.
                if self.engine is not None and not self._is_awaited:
                    await _end_of(self._leave(drain=False), self.engine.hurry)
                raise
            return

    def _changing(self) -> asyncio.Task[None] | None:
        """The start or the leaving that is under way. With eager tasks one can have ended before it is known here."""
        return next((task for task in (self._starting, self._leaving) if task is not None and not task.done()), None)

    async def _start(self, initialize: bool, gone: Engine | None) -> None:
        try:
            if gone is not None:
                await gone.store.aclose()
            engine = self._build()
            try:
                await engine.store.open(initialize=initialize)
                if gone is not None:
                    await _take_back(engine, gone.store.presence.process_id)
                await engine.start()
            except BaseException:
                await engine.abort()
                raise
            self.engine = engine
            self._was_left_by_loop = False
            self._guard = asyncio.create_task(self._watch_the_loop(engine), name="agent-messaging-loop")
        except BaseException:
            self._loop = None
            raise
        finally:
            self._starting = None

    # --- leaving ------------------------------------------------------------------------------------------------------

    async def leave(self, *, drain: bool) -> None:
        """Leave, and return when that has ended. In a forked child this only forgets what is the parent's.

        A caller that is cancelled ends the draining at once, and still waits for the end of the leaving: a few seconds.

        Args:
            drain: As `Engine.stop`.

        Raises:
            EventLoopError: It belongs to another loop that has not ended.
            HandlerError: The caller is a handler, for whose end it would wait.
        """
        if (gone := self._let_go()) is not None:
            await gone.store.aclose()
        self._check_loop()
        if self._starting is not None:
            await asyncio.wait({self._starting})
        if self.engine is None:
            return
        if self.engine.is_handler(asyncio.current_task()):
            raise _waits_for_its_caller()
        await _end_of(self._leave(drain), self.engine.hurry)

    def check_thread(self) -> None:
        """Refuse a caller that waits for the leaving in a thread, if that runs a plain handler.

        Raises:
            HandlerError: The leaving would wait for the end of the handler.
        """
        if self.engine is not None and self.engine.is_handler_thread:
            raise _waits_for_its_caller()

    def _leave(self, drain: bool) -> asyncio.Task[None]:
        assert self.engine is not None
        if self._leaving is None or self._leaving.done():
            self._leaving = asyncio.create_task(self._stop(self.engine, drain), name="agent-messaging-close")
        return self._leaving

    async def _stop(self, engine: Engine, drain: bool) -> None:
        try:
            try:
                await engine.stop(drain=drain)
            finally:
                self.engine = None
                if self._guard is not None:
                    self._guard.cancel()
                await engine.store.aclose()
        finally:
            self._leaving = self._guard = self._loop = None

    async def _watch_the_loop(self, engine: Engine) -> None:
        """Leave when the loop ends: it cancels every task, and waits for their ends."""
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self._guard = None
            if self.engine is engine:
                if self._leaving is None:
                    self._was_left_by_loop = True
                    logger.info("the event loop ends without close(): leaving the store")
                    engine.hurry()
                await _end_of(self._leave(drain=False), lambda: None)
            raise

    async def wait_until_left(self) -> None:
        """Wait until somebody has left; if it is not started, this returns at once."""
        while self.engine is not None and (guard := self._guard) is not None:
            await asyncio.wait({guard})
            if (leaving := self._leaving) is not None:
                await asyncio.wait({leaving})

    def hurry(self) -> None:
        """End the draining of a leaving, also of one that is still to come."""
        if self.engine is not None:
            self.engine.hurry()

    # --- loops and processes ------------------------------------------------------------------------------------------

    @property
    def _is_forked(self) -> bool:
        return self._loop is not None and self._pid != os.getpid()

    def _check_loop(self) -> None:
        if self._loop is not None and self._loop is not find_running_loop():
            raise EventLoopError

    def _let_go(self) -> Engine | None:
        """Forget an engine whose loop is closed, or is the parent's of this process.

        Returns:
            The one whose loop is closed: its store is still to be closed. What a child inherits is not the child's.
        """
        if self._loop is None or not (self._is_forked or self._loop.is_closed()):
            return None
        if self._is_forked:
            _inherited.extend(task for task in (self._starting, self._leaving, self._guard) if task is not None)
        gone = None if self._is_forked else self.engine
        self.engine = self._loop = self._starting = self._leaving = self._guard = None
        self._was_left_by_loop = gone is not None
        return gone


def find_running_loop() -> asyncio.AbstractEventLoop:
    """The event loop on which the caller is.

    Raises:
        EventLoopError: It is on none of asyncio's: in a plain thread, or under trio.
    """
    loop = asyncio._get_running_loop()
    if loop is None:
        raise EventLoopError(
            "This call needs an event loop of asyncio, and none runs here. Make it inside `asyncio.run(...)`, or use "
            "`agent_messaging.sync`, which needs no loop; under trio by `await trio.to_thread.run_sync(...)`."
        )
    return loop


def _waits_for_its_caller() -> HandlerError:
    return HandlerError(
        "close() was called by a handler, for whose end it would wait. Let the handler set an event, and close the SDK "
        "where it was started."
    )


async def _take_back(engine: Engine, process_id: str) -> None:
    """Give back, uncounted, what was claimed on a loop that was closed without leaving."""
    with contextlib.suppress(DatabaseError, OutcomeUnknownError):  # then that process is found dead like any other
        await engine.store.processes.retire(process_id)


async def _end_of(task: asyncio.Task[None], on_cancel: Callable[[], object]) -> None:
    """Wait for a task's end, however often the caller is cancelled meanwhile: anyio does it at each turn of the loop.

    Args:
        task: What is waited for; it ends by itself within some seconds.
        on_cancel: Called at the first cancellation, to hasten it.
    """
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            if cancelled is None:
                on_cancel()
            cancelled = error
    if cancelled is None:
        task.result()
    elif not task.cancelled() and (failed := task.exception()) is not None:
        raise cancelled from failed
    else:
        raise cancelled
