"""`agent_messaging.sync.AgentMessaging`: start and stop; the calls are in `calls`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar

from ..client import AgentMessaging as AsyncAgentMessaging
from ..config import Config
from ..exceptions import NotInitializedError
from ..models import T_Conversation, T_Meeting, T_OneWay
from ..payloads import MISSING, payload_type
from ..portal import Lease
from .calls import Calls
from .running import Runner

P = ParamSpec("P")
R = TypeVar("R")


class AgentMessaging(
    Calls[T_OneWay, T_Conversation, T_Meeting],
    Generic[T_OneWay, T_Conversation, T_Meeting],
):
    """The SDK for code without asyncio: each call blocks until it has ended. Any number of threads may call at once.

    It is the asynchronous SDK on an event loop in a thread of its own, so it keeps the same promises, and the same
    names, arguments, results and errors. Ctrl-C ends a call and cancels it; its outcome is then unknown. Handlers may
    be plain functions, which run in threads and may call this object, or `async def` ones, which run on the loop and
    may not. What is asynchronous in a handler's context is called by `sdk.call(context.part, "…")`.

    Use it as `with AgentMessaging() as sdk:`, or call `initialize` and `close`. A program that ends without closing it
    gives back what it was handling, uncounted.

    Args:
        config: A `Config`, a database URL, or None for the environment and the defaults, as of the asynchronous SDK.

    Raises:
        ConfigurationError: The configuration cannot be used. Nothing is opened yet.
        NotInitializedError: A pattern (`sdk.one_way`, …) is used before the start or after the end; a `RuntimeError`.

    Example:
        with AgentMessaging() as sdk:
            sdk.register_organization("acme", "Acme")
            sdk.register_agent("alice", "acme", "Alice")
    """

    def __init__(self, config: Config | str | None = None) -> None:
        asynchronous = AsyncAgentMessaging[Any, Any, Any](config)
        super().__init__(Runner(lambda: _lease(asynchronous)), asynchronous)
        self.config: Config = asynchronous.config

    def __enter__(self) -> Self:
        self.initialize()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave(drain=kind is None)

    def initialize(self) -> None:
        """Open the store, bring its schema up to date, and begin to serve. Idempotent.

        Raises:
            DatabaseError: The store cannot be opened; the subclass and the message say why and what to do.
            SchemaVersionError: The schema does not fit, and auto_initialize_schema is off or the store is newer.
            ConfigurationError: An extra is missing, or the server is unsafe.
        """
        self._begin()
        try:
            self._run(self._async.initialize)
        except BaseException:
            if not self._is_started:
                self._runner.end()
            raise

    def close(self) -> None:
        """Handle what this object sent to agents it serves, give back the rest, and let go of the store. Idempotent.

        It takes at most `drain_timeout` (by default `handler_timeout`) and a few seconds. Messages that it gives
        back are handled by another process, or after the next start; their attempt is not counted.

        Raises:
            HandlerError: It was called by a handler of this object, for whose end it would wait.
        """
        self._leave(drain=True)

    def run_until_stopped(self, *, on_started: Callable[[], object] | None = None) -> None:
        """Serve until SIGINT, SIGTERM or SIGHUP, then leave as `close` does, and return. It starts the SDK if need be.

        Also returns when another thread closes the SDK. A second signal ends the draining: what still runs is cancelled
        and given back. A third one ends the process at once. Those that come within 0.2 s are one. No message that is
        given back is counted an attempt.

        Args:
            on_started: Called in a thread once it serves: to tell a supervisor, or to name the agents of bare handlers
                (`lambda: sdk.serve("*")`).

        Raises:
            ConfigurationError: This is not the main thread, which alone hears signals.
            DatabaseError: As `initialize`.

        Example:
            sdk = AgentMessaging()

            @sdk.register_handler("bob")
            def on_note(message: dict, context: MessageContext) -> None: ...

            sdk.run_until_stopped()
        """
        self._begin()
        begun = None if on_started is None else lambda: asyncio.to_thread(on_started)
        signals = self._async._stop_signals()
        signals.install(self._do(asyncio.get_running_loop))
        try:
            self._run(lambda: self._async._serve_until_stopped(signals, begun))
        finally:
            signals.remove()
            self._runner.end()

    def call(self, function: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call an `async def` function on the loop of this object, and wait for what it returns or raises.

        For what is asynchronous in a handler's context: `sdk.call(context.forward, "carol")`.

        Raises:
            NotInitializedError: The SDK is not started.
            EventLoopError: The caller runs on that loop.
        """
        return self._run(lambda: function(*args, **kwargs))

    def _begin(self) -> None:
        self._runner.begin()
        types = [payload_type(self, AgentMessaging, position) for position in range(3)]
        given = tuple(Any if type_ is MISSING else type_ for type_ in types)
        self._async.__orig_class__ = AsyncAgentMessaging[given]  # type: ignore[attr-defined, valid-type]

    def _leave(self, *, drain: bool) -> None:
        if not self._runner.has_loop:
            return
        self._async._lifecycle.check_thread()
        with suppress(NotInitializedError):  # another thread has closed it meanwhile
            self._run(lambda: self._async._lifecycle.leave(drain=drain))
        self._runner.end()

    @property
    def _is_started(self) -> bool:
        return self._async._lifecycle.engine is not None


def _lease(sdk: AsyncAgentMessaging[Any, Any, Any]) -> Lease[Any]:
    @asynccontextmanager
    async def hold() -> AsyncIterator[None]:
        try:
            yield
        finally:  # the interpreter exits, or the object was forgotten: nobody waits for what its handlers do
            sdk._lifecycle.hurry()
            await sdk._lifecycle.leave(drain=False)

    return Lease(object(), hold, owner="AgentMessaging", instead="`agent_messaging.AgentMessaging`")
