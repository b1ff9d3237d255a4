"""`AgentMessaging`: start and stop, and the doors to the patterns; it inherits the directory, handlers and workers.

All its public names are promised to users. What `sync`, `testing` and `cli` need besides begins with an underscore.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from typing_extensions import TypeForm

from .arguments import check_external_id, check_flag, check_new_file, check_timeout, refuse
from .bootstrap import build_store, build_work_store
from .config import Config
from .coordination.handling import TaskHandling
from .delivery.lifecycle import Lifecycle, find_running_loop
from .delivery.parting import give_back
from .delivery.signals import StopSignals
from .exceptions import ConfigurationError
from .handlers.events import MeetingEventHandler
from .handlers.registry import Registry
from .messaging.conversation import Conversation
from .messaging.directory import Directory
from .messaging.handling import Handling
from .messaging.one_way import OneWayMessenger
from .messaging.pulling import DEFAULT_LEASE, ReceivedMessage, receive
from .messaging.search import Search
from .models import T_Conversation, T_Meeting, T_OneWay
from .observing.observers import Ears, Observers
from .payloads import payload_type
from .storage.ports import Store

if TYPE_CHECKING:  # what many programs never use is loaded with its first use
    from .coordination.tasks import Tasks
    from .delivery.engine import Engine
    from .messaging.archive import Archive
    from .messaging.meeting import MeetingManager
    from .messaging.receipts import DeadLetters, Receipts
    from .messaging.retention import Retention
    from .messaging.sides import AsyncConversation, SyncConversation
    from .messaging.topics import Topics
    from .observing.figures import ProcessFigures, Statistics
    from .portal import LoopPortal

R = TypeVar("R")


class AgentMessaging(Directory, Handling, TaskHandling, Search, Generic[T_OneWay, T_Conversation, T_Meeting]):
    """The SDK. One object is one process's part in a store, on one event loop.

    Use it as `async with AgentMessaging() as sdk:`, or call `initialize` and `close`. Several objects, in one
    process or in many, may share a store.

    The type parameters are the payload types of one-way messages, conversations and meetings, for type checkers: give
    one (for all), two, three or none.

    Args:
        config: A `Config`, a database URL (`"sqlite:///notes.db"`, `"postgresql://…"`), or None for the environment and
            the defaults: an SQLite file `agent_messaging.db` in the working directory.
        handle_signals: True lets SIGINT, SIGTERM and SIGHUP end the block of `async with` instead of the process: it is
            cancelled, the SDK is left as by `close`, and the program goes on behind the block. A second signal ends the
            draining, a third one the process; those that come within 0.2 s are one. Only in the main thread.

    Raises:
        ConfigurationError: The configuration cannot be used. Nothing is opened yet.
        NotInitializedError: A pattern (`sdk.one_way`, …) is used before the start or after the end; a `RuntimeError`.

    Example:
        async with AgentMessaging[Note]() as sdk:
            await sdk.register_organization("acme", "Acme")
            await sdk.register_agent("alice", "acme", "Alice")
    """

    def __init__(self, config: Config | str | None = None, *, handle_signals: bool = False) -> None:
        if config is None:
            config = Config()
        elif isinstance(config, str):
            config = Config.from_url(config)
        elif not isinstance(config, Config):
            meant = f" For this file, write {f'sqlite:///{config}'!r}." if isinstance(config, os.PathLike) else ""
            raise ConfigurationError(
                f"config must be a Config, a database URL or None, not {type(config).__name__}.{meant}"
            )
        self.config = config
        self._handlers = Registry()
        TaskHandling.__init__(self)
        check_flag(handle_signals, "handle_signals")
        self._lifecycle = Lifecycle(self._build)
        self._signals = self._stop_signals() if handle_signals else None
        self._event_handler = MeetingEventHandler(lambda: self._started().recorder, self._events_changed)
        self._ears = Ears()
        self._observers = Observers(self._ears, self._find_figures)
        settings = self.config.messaging
        self._one_way = OneWayMessenger[T_OneWay](self._lifecycle.use, settings)
        self._conversation = Conversation[T_Conversation](
            self._lifecycle.use, settings, cache(lambda: payload_type(self, AgentMessaging, 1))
        )
        self._meeting: MeetingManager[T_Meeting] | None = None

    # --- lifecycle ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._signals is None:
            await self.initialize()
            return self
        self._signals.install(find_running_loop())
        try:
            await self.initialize()
        except BaseException:
            self._signals.remove()
            raise
        self._signals.arm()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool | None:  # not bool: type checkers would think that any block may end early
        if self._signals is not None:
            try:
                return await self._signals.end(exc_type)
            finally:
                self._signals.remove()
        await self._lifecycle.leave(drain=exc_type is None)
        return None

    async def initialize(self) -> None:
        """Open the store, bring its schema up to date, and begin to serve. Idempotent.

        Raises:
            DatabaseError: The store cannot be opened; the subclass and the message say why and what to do.
            SchemaVersionError: The schema does not fit, and auto_initialize_schema is off or the store is newer.
            ConfigurationError: An extra is missing, or the server is unsafe.

        Example:
            sdk = AgentMessaging()
            await sdk.initialize()
            try:
                await sdk.one_way.send("alice", "bob", "hi")
            finally:
                await sdk.close()
        """
        await self._lifecycle.start(initialize=self.config.auto_initialize_schema)

    def _build(self) -> Engine:
        from .delivery.engine import Engine  # whoever only imports the package needs none

        _set_level("DEBUG" if self.config.debug else self.config.log_level)
        self._ears.look()
        return Engine(
            self._build_store(),
            self.config,
            self._handlers,
            self._event_handler,
            self._task_handlers,
            self._ears,
            work=build_work_store(self.config),
        )

    def _build_store(self) -> Store:
        """The seam of the tools for tests, which put something between the engine and the store."""
        return build_store(self.config)

    async def close(self) -> None:
        """Handle what this object sent to agents it serves, give back the rest, and let go of the store. Idempotent.

        It takes at most `drain_timeout` (by default `handler_timeout`) and a few seconds. Messages that it gives
        back are handled by another process, or after the next start; their attempt is not counted.

        Raises:
            HandlerError: It was called by a handler of this object, for whose end it would wait.

        Example:
            await sdk.initialize()
            try:
                await sdk.one_way.send("alice", "bob", "hi")
            finally:
                await sdk.close()
        """
        await self._lifecycle.leave(drain=True)

    async def run_until_stopped(self, *, on_started: Callable[[], object] | None = None) -> None:
        """Serve until SIGINT, SIGTERM or SIGHUP, then leave as `close` does, and return. It starts the SDK if need be.

        Also returns when somebody closes the SDK. A second signal ends the draining: what still runs is cancelled and
        given back. A third one ends the process at once. Those that come within 0.2 s are one. No message that is given
        back is counted an attempt.

        Args:
            on_started: Called once it serves, and its result awaited if it can be: to tell a supervisor, or to name the
                agents of bare handlers (`lambda: sdk.serve("*")`).

        Raises:
            ConfigurationError: This is not the main thread, which alone hears signals.
            DatabaseError: As `initialize`.

        Example:
            sdk = AgentMessaging()

            @sdk.register_handler("bob")
            async def on_note(message: dict, context: MessageContext) -> None: ...

            asyncio.run(sdk.run_until_stopped())
        """
        await self._run_until_stopped(on_started)

    async def _run_until_stopped(self, on_started: Callable[[], object] | None) -> bool:
        """Do what `run_until_stopped` does; returns whether a signal has ended it, and not the program itself."""
        signals = self._stop_signals()
        signals.install(find_running_loop())
        try:
            return await self._serve_until_stopped(signals, on_started)
        finally:
            signals.remove()

    async def _serve_until_stopped(self, signals: StopSignals, on_started: Callable[[], object] | None) -> bool:
        """Serve until one of these signals, which the caller hears and stops hearing."""
        signals.arm()
        try:
            await self.initialize()
            if on_started is not None and inspect.isawaitable(begun := on_started()):
                await begun
            await self._lifecycle.wait_until_left()
        except BaseException as error:
            if not await signals.end(type(error)):
                raise
        else:
            await signals.end(None)
        return signals.has_heard

    def _stop_signals(self) -> StopSignals:
        return StopSignals(self._lifecycle.hurry, self._lifecycle.leave, self._give_back)

    def _give_back(self) -> None:
        if (engine := self._lifecycle.engine) is not None:
            give_back(engine, lambda: build_store(self.config), lambda: build_work_store(self.config))

    def _started_with_tasks(self) -> Engine:
        engine = self._started()
        engine.workplace.need()
        return engine

    def _started(self) -> Engine:
        return self._lifecycle.use()

    @property
    def portal(self) -> LoopPortal:
        """Calls from other threads, which block until they have ended.

        For code without asyncio beside an SDK that runs on an event loop, such as plain functions that handle messages;
        for programs without one there is `agent_messaging.sync`.

        Raises:
            NotInitializedError: The SDK is not started.

        Example:
            sdk.portal.call(sdk.one_way.send, "alice", "bob", "hi")
        """
        self._lifecycle.find()
        from .portal import LoopPortal

        def check(function: Callable[..., object]) -> None:
            if function == self.close:
                self._lifecycle.check_thread()

        return LoopPortal(self._lifecycle.find_loop, "AgentMessaging", check)

    @property
    def store(self) -> Store:
        """The storage seam, for tools. Not part of the stable API."""
        return self._started().store

    async def backup(self, path: str | os.PathLike[str]) -> Path:
        """Copy the store, as it is at this instant, to a new SQLite file, while everything goes on.

        When it returns the copy is whole, checked and synced, and is a store that can be opened; after an error or a
        crash there is none. To restore it, stop the processes and put it in the place of the file, whose `-wal` and
        `-shm` must be gone. What was being handled when it was made is handled again, as after a crash. A store in
        memory can be copied too. Cancelling the call gives the copy up.

        Args:
            path: The file to make; a relative one starts in the working directory. It must not exist.

        Returns:
            Its absolute path.

        Raises:
            InvalidArgumentError: There is something at the path.
            ConfigurationError: The store is in PostgreSQL, which has its own tools (`pg_dump`).
            StorageFullError: No room for the copy.
            StorageCorruptError: The store is damaged.
            DatabaseError: The copy cannot be written, or the store failed.

        Example:
            await sdk.backup(f"backups/{datetime.now():%Y-%m-%d}.db")
        """
        engine = self._started()
        target = check_new_file(path, field="path")
        await engine.store.backup(target)
        return Path(target)

    @property
    def archive(self) -> Archive:
        """Moving what is stored into a file, and from a file into a store."""
        from .messaging.archive import Archive

        self._lifecycle.find()
        return Archive(self._lifecycle.use)

    # --- the patterns -------------------------------------------------------------------------------------------------
    # Each of these doors raises NotInitializedError, a RuntimeError, unless the SDK is started.

    @property
    def one_way(self) -> OneWayMessenger[T_OneWay]:
        """One-way messages."""
        self._lifecycle.find()
        return self._one_way

    @property
    def topics(self) -> Topics[T_OneWay]:
        """One-way messages to whoever is subscribed."""
        from .messaging.topics import Topics

        self._lifecycle.find()
        return Topics[T_OneWay](self._lifecycle.use, self.config.messaging)

    @property
    def conversation(self) -> Conversation[T_Conversation]:
        """Questions with answers, and correspondence."""
        self._lifecycle.find()
        return self._conversation

    @property
    def sync_conversation(self) -> SyncConversation[T_Conversation]:
        """The asking side of `conversation`, under names of its own."""
        from .messaging.sides import SyncConversation

        return SyncConversation(self.conversation)

    @property
    def async_conversation(self) -> AsyncConversation[T_Conversation]:
        """The corresponding side of `conversation`, under names of its own."""
        from .messaging.sides import AsyncConversation

        return AsyncConversation(self.conversation)

    @property
    def meeting(self) -> MeetingManager[T_Meeting]:
        """Meetings with turns."""
        self._lifecycle.find()
        if self._meeting is None:
            from .messaging.meeting import MeetingManager

            self._meeting = MeetingManager[T_Meeting](self._lifecycle.use, self.config.messaging)
        return self._meeting

    @property
    def tasks(self) -> Tasks:
        """Work that is handed out, and its results."""
        from .coordination.tasks import Tasks

        self._lifecycle.find()
        return Tasks(self._started_with_tasks, self.config)

    @property
    def receipts(self) -> Receipts:
        """The receipts of messages."""
        from .messaging.receipts import Receipts

        self._lifecycle.find()
        return Receipts(self._lifecycle.use)

    @property
    def dead_letters(self) -> DeadLetters:
        """Messages that were given up."""
        from .messaging.receipts import DeadLetters

        self._lifecycle.find()
        return DeadLetters(self._lifecycle.use)

    @property
    def retention(self) -> Retention:
        """Pruning what is old."""
        from .messaging.retention import Retention

        self._lifecycle.find()
        return Retention(self._lifecycle.use)

    @property
    def meeting_events(self) -> MeetingEventHandler:
        """The meeting events of this SDK object: their handlers, and the `emit_…` calls for an application's own."""
        return self._event_handler

    # --- observing ----------------------------------------------------------------------------------------------------

    @property
    def observers(self) -> Observers:
        """Functions and exporters that are told of what happens in this SDK object, also before its start."""
        return self._observers

    def figures(self) -> ProcessFigures:
        """What this SDK object has and does at this moment: connections, handlers, claims, callers that wait.

        It asks nobody and costs some microseconds, so a monitor may call it often, in any thread.

        Raises:
            NotInitializedError: The SDK is not started.

        Example:
            if sdk.figures().pool.waiting > 100:
                shed_load()
        """
        return self._lifecycle.find().figures()

    def _find_figures(self) -> ProcessFigures | None:
        engine = self._lifecycle.engine
        return None if engine is None or engine.is_closed else engine.figures()

    async def statistics(self) -> Statistics:
        """The figures of this SDK object, and those of its store: messages and tasks by state, ages, who is alive.

        The store counts: with a million messages that takes some tenths of a second, so once in 15 s is often enough.

        Raises:
            DatabaseError: The store failed.

        Example:
            statistics = await sdk.statistics()
            print(statistics.deliveries.get(DeliveryState.QUEUED, 0), statistics.process.pool.in_use)
        """
        from .messaging.statistics import read_statistics

        return await read_statistics(self._started())

    # --- handlers and serving -----------------------------------------------------------------------------------------

    def _events_changed(self) -> None:
        if (engine := self._lifecycle.engine) is not None:
            engine.event_handlers_changed()

    async def serve(self, *agent_external_ids: str) -> None:
        """Have this process's bare global handlers serve these agents; `"*"` is every agent of the store.

        Agents registered through this object are served anyway. An agent that another live process serves with a
        handler of its own is left to it.

        Raises:
            AgentNotFoundError: One of them is not registered; names the closest.

        Example:
            await sdk.serve("bob", "carol")
        """
        engine = self._started()
        named = [id for id in agent_external_ids if not (isinstance(id, str) and id == "*")]
        for external_id in named:
            check_external_id(external_id, field="agent_external_ids")
        await engine.names.refresh(named)  # a cached one may have been removed, or registered anew
        await engine.names.get_all(named)
        await engine.adopt(named, everyone="*" in agent_external_ids)

    async def wait_until_served(self, agent_external_ids: str | Sequence[str], timeout: float | None = 30.0) -> None:
        """Wait until a live process, this one included, serves each of these agents. For start-up.

        A handler of any kind serves its agent, and so does a call of `receive`; this does not say which messages are
        handled. An agent that is not registered yet is waited for too.

        Args:
            agent_external_ids: One or more agents.
            timeout: Seconds; None waits without limit.

        Raises:
            TimeoutError: Some are still unserved; names them, and says which are not registered.

        Example:
            await sdk.wait_until_served(["bob", "carol"], timeout=30)
        """
        engine = self._started()
        if not isinstance(agent_external_ids, Iterable):
            raise refuse("agent_external_ids", agent_external_ids, "is neither an external id nor a list of them.")
        ids = [agent_external_ids] if isinstance(agent_external_ids, str) else list(agent_external_ids)
        for external_id in ids:
            check_external_id(external_id, field="agent_external_ids")
        check_timeout(timeout, allow_none=True)
        await engine.serving.wait_until_served(ids, timeout)

    @overload
    async def receive(
        self,
        agent_external_id: str,
        limit: int = 1,
        timeout: float | None = None,
        lease: float = DEFAULT_LEASE,
        *,
        payload_type: TypeForm[R],
    ) -> list[ReceivedMessage[R]]: ...
    @overload
    async def receive(
        self,
        agent_external_id: str,
        limit: int = 1,
        timeout: float | None = None,
        lease: float = DEFAULT_LEASE,
    ) -> list[ReceivedMessage[Any]]: ...
    async def receive(
        self,
        agent_external_id: str,
        limit: int = 1,
        timeout: float | None = None,
        lease: float = DEFAULT_LEASE,
        *,
        payload_type: Any = Any,
    ) -> list[ReceivedMessage[Any]]:
        """Pull one-way messages of an agent that has no handler: claim up to `limit`, oldest first.

        Each is settled by its `done`, `retry` or `reject`. If this process dies, or when the lease ends, it goes to
        whoever asks next, and the attempt counts. A process that pulls counts as serving the agent, until
        `handler_grace` seconds after its last call. Cancelling the call gives back what it claimed.

        Args:
            agent_external_id: Whose messages.
            limit: At most so many, 1 to 1,000.
            timeout: Seconds to wait for the first one; 0 only looks, None waits without limit.
            lease: Seconds for which a claim holds.
            payload_type: What the payloads become: a pydantic model, a dataclass, …; Any is plain JSON. One that does
                not fit goes to the dead letters.

        Returns:
            The messages; empty if none came in time.

        Raises:
            AgentNotFoundError: There is no such agent, or it was removed meanwhile; names the closest.
            DatabaseError: The store failed; what was claimed goes back.

        Example:
            for message in await sdk.receive("bob", limit=10, timeout=5):
                print(message.content)
                await message.done()
        """
        return await receive(
            self._started(),
            agent_external_id,
            limit=limit,
            timeout=timeout,
            lease=lease,
            payload_type=payload_type,
        )


def _set_level(level: str) -> None:
    """Give the SDK's logger its level, unless the application has given it one.

    The logger keeps what the SDK set, beside its level: another SDK object of this process may set its own.
    """
    logger = logging.getLogger("agent_messaging")
    if logger.level in (logging.NOTSET, getattr(logger, "level_of_sdk", logging.NOTSET)):
        logger.setLevel(level)
        setattr(logger, "level_of_sdk", logger.level)  # noqa: B010
