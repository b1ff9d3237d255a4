"""The connection to Redis: every verb is one call of one script, within a time, or an error that says what is known.

Every verb may be repeated, and is until its time is over, also after its answer was lost. A connection whose call was
cancelled or failed is dropped, because its next answer would be another call's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from redis import exceptions as driver
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ...exceptions import (
    AgentMessagingError,
    ConfigurationError,
    DatabaseError,
    OutcomeUnknownError,
    QueueDataLostError,
    StorageUnavailableError,
    copy_error,
)
from ...futures import outlive
from ...loggers import get_logger
from ..aside import Aside
from ..batches import read_page
from ..boot import boot_clock
from .clock import StoreClock
from .errors import is_passing, translate
from .script import FUNCTION, GROWING, NAME, NAME_OF_GROWING, SCRIPT, SCRIPT_DIGEST

logger = get_logger("agent_messaging.storage")

OLDEST = (6, 2)
"""The oldest version of the server: scripts there replicate what they did, not themselves."""
WITH_FUNCTIONS = (7, 0)
_dump = json.JSONEncoder(separators=(",", ":")).encode
PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Seconds between tries."""


class Engine:
    """Calls the script.

    Args:
        dsn: The URL, with the password.
        location: What is shown of it.
        namespace: What the keys begin with, which is also their hash tag.
        call_timeout: Seconds that a call may take, tries included.
        max_connections: At once; further calls wait for one.
        is_quiet: Another one warns of what the server would lose.
        clock: The count of store time that it shares with another one of this process.
    """

    def __init__(
        self,
        dsn: str,
        *,
        location: str,
        namespace: str,
        call_timeout: float,
        max_connections: int = 20,
        is_quiet: bool = False,
        clock: StoreClock | None = None,
    ) -> None:
        self.clock = clock or StoreClock()
        self.location = location
        self.call_timeout = call_timeout
        self.warnings: list[str] = []
        self.durability: dict[str, str] = {}
        """What `open` found of how the server keeps what it has."""
        self.aside = Aside()
        self.version = ""
        self._is_quiet = is_quiet
        self.newest = 0
        """The number of the newest change that was seen. Where the server has a lower one, it has lost some."""
        self._dsn = dsn
        self._namespace = namespace
        self._gate = asyncio.Semaphore(max_connections)
        self._pool: ConnectionPool | None = None
        self.namespace_key = f"{{{namespace}}}:"
        self._key = self.namespace_key + "epoch"
        self._epoch = ""
        self._has_functions = True
        self._losing = asyncio.Lock()
        self._opening: asyncio.Task[None] | None = None
        self._is_open = self._is_closed = False

    def twin(self) -> Engine:
        """Another one at the same place, for the loop of another thread. It warns of nothing."""
        return Engine(
            self._dsn,
            location=self.location,
            namespace=self._namespace,
            call_timeout=self.call_timeout,
            max_connections=2,
            is_quiet=True,
            clock=self.clock,
        )

    async def open(self) -> None:
        """Connect, look at the server, and take up what it holds. Idempotent; the first call does it otherwise.

        All who ask meanwhile wait for one try, and share its outcome: behind each other they would wait for ever longer
        while the server is away.
        """
        if self._is_open:
            return
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open(), name="agent-messaging opening Redis")
        opening = self._opening
        try:
            await outlive(opening)
        except AgentMessagingError as error:
            raise copy_error(error) from error.__cause__
        except asyncio.CancelledError:
            if opening.cancelled() and self._is_closed:
                raise translate(driver.ConnectionError("it was closed"), self.location) from None
            raise

    async def _open(self) -> None:
        try:
            if self._pool is None:
                self._pool = self._build_pool()
            async with asyncio.timeout(self.call_timeout + 1):
                await self._look()
                await self._take_up()
        except TimeoutError as error:
            raise translate(error, self.location) from error
        self._is_open = True
        for warning in () if self._is_quiet else self.warnings:
            logger.warning("%s", warning)

    async def connect(self) -> AbstractConnection:
        """Open a connection of the caller's own, which it closes."""
        assert self._pool is not None
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        await connection.connect()  # type: ignore[no-untyped-call]
        return connection

    def _build_pool(self) -> ConnectionPool:
        try:
            pool = ConnectionPool.from_url(
                self._dsn,
                protocol=2,
                socket_connect_timeout=self.call_timeout,
                retry=Retry(NoBackoff(), 0),  # it is done here, where it is known what may be repeated
            )
            pool.make_connection()  # type: ignore[no-untyped-call]
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"The URL {self.location} has a parameter that the client refuses: {error}. Correct it or leave it out."
            ) from None
        return pool

    async def aclose(self) -> None:
        """Close the connections."""
        self._is_closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.disconnect()

    async def call(
        self, verb: str, *, now: datetime | None = None, budget: float | None = None, **arguments: Any
    ) -> Any:
        """Call a verb of the script, and return its answer: bytes, whole numbers, and lists of them.

        It is repeated until its time is over. Where an answer was lost before, the verb is told (`repeated`).

        Args:
            verb: Its name.
            now: The instant that it is to believe; None is the server's clock.
            budget: Seconds that it may take; None is the timeout of calls.
            arguments: JSON values.

        Raises:
            QueueDataLostError: The server has lost changes that this object has seen.
            StorageUnavailableError, StorageBusyError, StorageFullError: Nothing was changed.
            OutcomeUnknownError: The answer was lost.
        """
        if now is not None:
            arguments["now"] = micros(now)
        if not self._is_open and not self._is_closed:
            await self.open()
        while True:
            known = self._epoch, self.newest
            (status, epoch, number, answer, time), *instants = await self._ask(verb, arguments, budget)
            if not self.clock.learn(int(time), *instants):
                await self._compare_clocks()
            if status == b"ok":
                self.newest = max(self.newest, int(number))
                return answer
            await self._tell_lost(known, epoch.decode(), int(number))

    async def _ask(self, verb: str, arguments: Mapping[str, Any], budget: float | None = None) -> tuple[Any, int, int]:
        """What the script answers, and when this machine's clock said that it was asked, and that it answered."""
        asked_at = 0

        def command(sent: bool) -> tuple[Any, ...]:
            nonlocal asked_at
            asked_at = boot_clock()
            return self._verb(verb, {**arguments, "repeated": sent}, self.clock.count(asked_at))

        return await self._execute(command, budget), asked_at, boot_clock()

    async def _compare_clocks(self) -> None:
        """A clock has jumped, the server's or this machine's count: the script says which, and this process follows."""
        with contextlib.suppress(DatabaseError, OutcomeUnknownError):  # the next call finds it again
            (_, _, _, by, time), *instants = await self._ask("set_clock", {})
            self.clock.follow(int(time), *instants)
            if shift := int(by or 0):
                logger.warning(
                    "The clock of %s has jumped by %+.1f s. The store goes on by its own until all its processes have "
                    "stopped. Set the server's clock right.",
                    self.location,
                    -shift / 1e6,
                )

    async def read_page(self, verb: str, limit: int, offset: int, **arguments: Any) -> list[Any]:
        """A page of what a verb lists. The verb looks at some thousand in one call, and says where it is to go on."""

        async def step(limit: int, offset: int, below: str | None) -> tuple[list[Any], int, str | None]:
            found, left, at = await self.call(
                verb, limit=limit, offset=offset, below="+inf" if below is None else below, **arguments
            )
            return found, left, at.decode() or None

        return await read_page(step, limit, offset)

    def _verb(self, verb: str, arguments: Mapping[str, Any], counted: int | None) -> tuple[Any, ...]:
        text = _dump(arguments)
        if self._has_functions:
            how = "FCALL", NAME_OF_GROWING if verb in GROWING else NAME
        else:
            how = "EVALSHA", SCRIPT_DIGEST
        return *how, 1, self._key, verb, self._epoch, self.newest, text, "" if counted is None else counted

    async def _tell_lost(self, known: tuple[str, int], epoch: str, changes: int) -> None:
        """Take up what is left, and raise; but of several calls that find the same loss one tells of it."""
        async with self._losing:
            if self._epoch != known[0] or self.newest < known[1]:
                return
            is_older = epoch == self._epoch
            await self._take_up()
        raise QueueDataLostError(location=self.location, changes=changes if is_older else None)

    async def _take_up(self) -> None:
        made = str(uuid.uuid4())
        (_, epoch, number, _, time), *instants = await self._ask("open", {"epoch": made})
        self.clock.follow(int(time), *instants)
        self._epoch, self.newest = epoch.decode(), int(number)

    async def _execute(self, command: Callable[[bool], tuple[Any, ...]], budget: float | None = None) -> Any:
        """Execute what `command` makes; it is told whether it was sent before, and no answer came."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        deadline = loop.time() + (self.call_timeout if budget is None else budget)
        cancelling = 0 if task is None else task.cancelling()
        sent = False
        tries = 0
        while True:
            begun = [False]
            try:
                async with asyncio.timeout_at(deadline):
                    answer = await self._try(begun, command(sent))
                if task is not None and task.cancelling() > cancelling:
                    raise asyncio.CancelledError  # the client lost it when it looked whether its connection is good
                return answer
            except driver.ResponseError as error:
                if _is_unknown(error):
                    await self._load()
                    continue
                if not is_passing(error):
                    raise translate(error, self.location) from error
                failure: Exception = error
            except (driver.ConnectionError, driver.TimeoutError, OSError) as error:
                if isinstance(error, driver.AuthenticationError):
                    raise translate(error, self.location) from error
                if task is not None and task.cancelling() > cancelling:
                    raise asyncio.CancelledError from error  # or hid it behind an error of its own
                sent = sent or begun[0]
                failure = error
            pause = PAUSES[min(tries, len(PAUSES) - 1)]
            tries += 1
            if loop.time() + pause >= deadline:
                raise self._give_up(failure, sent)
            await asyncio.sleep(pause)

    def _give_up(self, failure: Exception, sent: bool) -> Exception:
        if not sent:
            return translate(failure, self.location)
        error = OutcomeUnknownError(
            f"{self.location} was cut off while it worked on a call, so the call may or may not have taken effect. "
            "Repeat it with the same ids."
        )
        error.__cause__ = failure
        return error

    async def _try(self, begun: list[bool], command: tuple[Any, ...]) -> Any:
        if self._pool is None:
            raise translate(driver.ConnectionError("it was closed"), self.location)
        async with self._gate:
            connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
            try:
                reader = connection._reader
                if reader is None or reader.at_eof():  # the server closed it meanwhile: nothing is sent in vain
                    await connection.disconnect(nowait=True)
                    await connection.connect()  # type: ignore[no-untyped-call]
                begun[0] = True
                await connection.send_command(*command)
                return await connection.read_response()
            except driver.ResponseError:
                raise  # an answer like any other: the connection is good
            except BaseException:
                await self._drop(connection)
                raise
            finally:
                await self._pool.release(connection)

    async def _drop(self, connection: AbstractConnection) -> None:
        with contextlib.suppress(Exception):
            await connection.disconnect(nowait=True)

    async def _load(self) -> None:
        if not self._has_functions:
            await self._execute(lambda _: ("SCRIPT", "LOAD", SCRIPT))
            return
        try:
            await self._execute(lambda _: ("FUNCTION", "LOAD", FUNCTION))
        except DatabaseError as error:
            if "already exists" not in str(error.__cause__):  # another process was first
                raise

    # --- the server ---------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Refuse a server that is too old, and say what it would lose."""
        info = await self._read_info()
        version = info.get("redis_version", "0.0")
        product = "Valkey" if "valkey_version" in info else "Redis"
        self.version = f"{product} {info.get('valkey_version', version)}"
        numbers = tuple(int(part) for part in version.split(".")[:2])
        self._has_functions = numbers >= WITH_FUNCTIONS
        if numbers < OLDEST:
            raise ConfigurationError(
                f"{self.location} is {self.version}; Redis {OLDEST[0]}.{OLDEST[1]} or newer, or Valkey, "
                "is needed. Upgrade the server."
            )
        if info.get("role") == "slave":
            raise StorageUnavailableError(f"{self.location} is a replica. Use the URL of the primary.")
        self.warnings = []
        if "maxmemory_policy" not in info:
            self.durability = {}
            self.warnings.append(
                f"{self.location} does not let this user see how it keeps what it has (INFO). Allow it with `+info`, "
                "or see yourself that it has an append-only file and `maxmemory-policy noeviction`."
            )
            return
        policy = info.get("maxmemory_policy", "noeviction")
        self.durability = {
            "appendonly": "yes" if info.get("aof_enabled") == "1" else "no",
            "maxmemory-policy": policy,
            "replicas": info.get("connected_slaves", "?"),
        }
        if policy != "noeviction":
            self.warnings.append(
                f"{self.location} evicts keys when its memory is full (maxmemory-policy {policy}), so messages and "
                "tasks can vanish. Set `maxmemory-policy noeviction`."
            )
        if info.get("aof_enabled") != "1":
            self.warnings.append(
                f"{self.location} keeps no append-only file, so a crash of it loses what came after its last snapshot. "
                "Set `appendonly yes`, and `appendfsync always` where not even the last second may be lost."
            )

    async def _read_info(self) -> dict[str, str]:
        info: dict[str, str] = {}
        try:
            for section in ("server", "persistence", "memory", "replication"):
                text = await self._execute(lambda _, section=section: ("INFO", section))  # type: ignore[misc]
                for line in text.decode(errors="replace").splitlines():
                    name, _, value = line.partition(":")
                    info[name] = value
        except ConfigurationError as error:
            # INFO counts as dangerous, so users are often refused it; every user may greet.
            if not isinstance(error.__cause__, driver.NoPermissionError):
                raise
            flat = await self._execute(lambda _: ("HELLO", "2"))
            said = dict(zip(flat[::2], flat[1::2], strict=True))
            info = {
                "redis_version": said[b"version"].decode(),
                "role": "slave" if said[b"role"] == b"replica" else "master",
            }
        return info


def _is_unknown(error: driver.ResponseError) -> bool:
    """Whether the server does not have the script."""
    return isinstance(error, driver.NoScriptError) or "Function not found" in str(error)


def micros(instant: datetime) -> int:
    """The instant in microseconds since 1970."""
    return round(instant.timestamp() * 1_000_000)
