"""The connections: the pool, and `run`, the only way by which a statement reaches the server.

What `run` guarantees: it returns within its budget plus a second whatever the network does; a failure leaves it as one
of our errors that says truly whether something was stored; no connection is held while nothing runs on it. It never
uses asyncpg's own timeouts and cancellation: those open a second connection to ask the server to stop, and can hang on
the same dead link for a minute. A call that is out of time has its connection closed under it instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from ...exceptions import NotInitializedError, OutcomeUnknownError, StorageBusyError
from ..aside import Aside
from ..sql import Queries
from . import errors, forks, pooler, url
from .clock import StoreClock
from .cutoffs import CutOffs
from .gate import Gate
from .pool import Pool
from .pooler import Pooling

if TYPE_CHECKING:
    from ...observing.figures import PoolFigures

T = TypeVar("T")
_SQL = Queries(__package__, "schema")
Connection = Any
"""An asyncpg connection, from the pool or not."""

APPLICATION_NAME = "agent-messaging"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
_PATIENCE = 600.0
"""Seconds that a snapshot may stay unused, or take for a statement."""
_TIDY_UP = 1.0
"""Seconds beyond its budget that a call may need to give its connection back."""
IDLE, IDLE_WHERE_KEPT = 3.0, 300.0
"""Seconds after which an unused connection is closed, as many processes share a server's few; the second where the
application asked for more than one at start."""


def _connection_class(clock: StoreClock) -> type[Any]:
    class OurConnection(asyncpg.Connection):  # type: ignore[misc]
        """A connection whose statements may say `store_now()`.

        A pooled one is not reset when given back, as nothing here sets, listens or locks beyond a transaction: that is
        one more round trip per call. An open transaction is still rolled back by asyncpg.
        """

        __slots__ = ()

        def __init__(self, protocol: Any, transport: Any, *arguments: Any, **options: Any) -> None:
            super().__init__(protocol, transport, *arguments, **options)
            forks.remember(self, transport)

        def get_reset_query(self) -> str:
            return ""

        async def execute(self, query: str, *values: object, **options: Any) -> str:
            query, values = clock.bind(query, values)
            return str(await super().execute(query, *values, **options))

        async def fetch(self, query: str, *values: object, **options: Any) -> list[Any]:
            query, values = clock.bind(query, values)
            return list(await super().fetch(query, *values, **options))

        async def fetchrow(self, query: str, *values: object, **options: Any) -> Any:
            query, values = clock.bind(query, values)
            return await super().fetchrow(query, *values, **options)

        async def fetchval(self, query: str, *values: object, **options: Any) -> Any:
            query, values = clock.bind(query, values)
            return await super().fetchval(query, *values, **options)

    return OurConnection


class Engine:
    """The pool of one store. All methods belong to the loop that opened it."""

    def __init__(
        self, dsn: str, *, min_pool_size: int, max_pool_size: int, connect_timeout: float, call_timeout: float
    ) -> None:
        self.target = url.read(dsn)
        self.location = errors.without_password(dsn)
        self.aside = Aside()
        self.connect_timeout = self.target.connect_timeout or connect_timeout
        self.call_timeout = call_timeout
        self.min_pool_size = min_pool_size
        self.max_pool_size = max_pool_size
        self.clock = StoreClock(self.location)
        self._connection_class = _connection_class(self.clock)
        self.pooling = Pooling.NONE
        self._given: dict[str, str] = {}
        """The URL's settings for the server, where they cannot be made at the start of a connection."""
        self.connection_check = False
        """The server can notice by itself that a client is gone (the store's `open` finds out)."""
        self._pool: Pool | None = None
        self._cut_offs = CutOffs()
        self._gate = Gate(min_pool_size, max_pool_size, IDLE)
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def _settings(self) -> dict[str, str]:
        """The settings of every statement. A SET would be lost, or leak to the next user of the connection."""
        milliseconds = str(int(self.call_timeout * 1000))
        settings = {
            "timezone": "UTC",
            "default_transaction_isolation": "read committed",
            "statement_timeout": milliseconds,
            "lock_timeout": milliseconds,
            # A stopped client must not keep its row locks.
            "idle_in_transaction_session_timeout": milliseconds,
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "3",
            "tcp_keepalives_count": "3",
            # Every statement here is meant to walk an index in its order. Plans are cached, and one made while the
            # tables were small would otherwise read them whole when they are large.
            "enable_seqscan": "off",
            "enable_bitmapscan": "off",
            "enable_hashjoin": "off",
            "enable_mergejoin": "off",
            # Rows alone are to decide which index: by the default costs of pages, a look for each of ten keys is dearer
            # than all of a table that has few rows yet, and the plan stays until the server takes stock again.
            "seq_page_cost": "0",
            "random_page_cost": "0",
            "cpu_operator_cost": "0.0001",
            "jit": "off",
            # Planning a claim for its values takes longer than running it, and finds the same plan.
            "plan_cache_mode": "force_generic_plan",
        }
        if self.connection_check:
            settings["client_connection_check_interval"] = "1000"
        return settings

    async def find_pooling(self) -> None:
        """Find out what is between us and the server, before anything else is done.

        Raises:
            ConfigurationError: A pooler that cannot be used, or not with this URL; says which lines to change.
            DatabaseError: The server cannot be reached.
        """
        self.pooling = await self._patiently(lambda: pooler.find(self._connect, self._ask, self.location))
        if self.pooling is not Pooling.NONE:
            self._given = pooler.settings_of(self.target.settings, self.pooling, self.location)

    async def connect(self) -> Connection:
        """Open a connection outside the pool."""
        return await self._patiently(self._connect_and_set_up)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Open a connection; try again while the server has none left, because others give theirs back when idle."""
        deadline = asyncio.get_running_loop().time() + self.connect_timeout
        while True:
            try:
                return await work()
            except Exception as error:
                if not errors.is_full(error) or asyncio.get_running_loop().time() > deadline:
                    errors.reraise_connecting(error, self.location)
            await asyncio.sleep(_LONGEST_PAUSE * random.uniform(0.5, 1.0))  # noqa: S311

    async def _connect_and_set_up(self) -> Connection:
        connection = await self._connect(self.pooling)
        if self.pooling is Pooling.SESSION:
            try:
                await bounded(connection, self._set_up(connection), self.connect_timeout)
            except BaseException:
                connection.terminate()
                raise
        return connection

    async def _connect(self, pooling: Pooling) -> Connection:
        return await asyncpg.connect(self.target.dsn, **self._arguments(pooling))

    def _arguments(self, pooling: Pooling) -> dict[str, Any]:
        """The arguments with which any connection is opened."""
        name = {"application_name": self.target.settings.get("application_name", APPLICATION_NAME)}
        arguments: dict[str, Any] = {
            "ssl": self.target.ssl,
            "timeout": self.connect_timeout,
            "connection_class": self._connection_class,
            # A pooler takes the name alone.
            "server_settings": name
            if pooling is not Pooling.NONE
            else {**self.target.settings, **name, **self._settings()},
        }
        if pooling is Pooling.TRANSACTION:
            arguments["statement_cache_size"] = 0
        return arguments

    async def _ask(self, connection: Connection, statement: str) -> Any:
        return await bounded(connection, connection.fetchval(statement), self.connect_timeout)

    async def _set_up(self, connection: Connection) -> None:
        """Make our settings on a connection that could not begin with them."""
        settings = {**self._given, **self._settings()}
        await connection.fetch(_SQL["use_settings"], list(settings), list(settings.values()), False)

    async def _set_up_transaction(self, connection: Connection) -> None:
        settings = self._settings()
        await connection.fetch(_SQL["use_settings"], list(settings), list(settings.values()), True)

    async def open(self) -> None:
        """Make the pool, and open the connections that it keeps."""
        pool = Pool(self._connect_and_set_up, IDLE if self.min_pool_size == 1 else IDLE_WHERE_KEPT)
        try:
            await self._patiently(lambda: self._fill(pool))
        except BaseException:
            pool.terminate()
            raise
        self._pool, self._pid, self._loop = pool, os.getpid(), asyncio.get_running_loop()
        self._gate = Gate(self.min_pool_size, self.max_pool_size, IDLE)

    def measure(self) -> PoolFigures:
        """How the connections stand. Those outside the pool, of presence and of backups, are not among them."""
        from ...observing.figures import PoolFigures  # few programs read them

        pool = self._pool
        in_use, idle = (0, 0) if pool is None else (pool.used_size, pool.idle_size)
        return PoolFigures(
            max_size=self.max_pool_size, size=in_use + idle, in_use=in_use, available=idle, waiting=self._gate.waiting
        )

    async def _fill(self, pool: Pool) -> None:
        connections: list[Connection] = []
        try:
            for _ in range(self.min_pool_size):
                connections.append(await pool.acquire(self.connect_timeout))  # noqa: PERF401
        finally:
            for connection in connections:
                pool.release(connection)

    async def aclose(self) -> None:
        """Close the pool: politely if the connections are idle and the server answers, at once otherwise."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        if os.getpid() != self._pid:
            return  # a forked child: the connections are the parent's
        if self._loop is not asyncio.get_running_loop():
            return  # its loop was closed: nothing can be done on the connections, which end with their last reference
        self._gate.close()
        await pool.aclose(_TIDY_UP)

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """A connection outside the pool, in a transaction that sees the store as it is now, and only reads."""
        connection = await self.connect()
        try:
            await bounded(connection, self._begin_snapshot(connection), self.call_timeout)
            yield connection
        except Exception as error:
            if not errors.is_drivers(error):
                raise
            errors.reraise(error, self.location)
        finally:
            connection.terminate()

    async def _begin_snapshot(self, connection: Connection) -> None:
        await connection.execute("begin isolation level repeatable read, read only")
        if self.pooling is Pooling.TRANSACTION:
            await self._set_up_transaction(connection)
        # Between two pages their reader writes to its disk, which may be slow. What is counted is not read in pages.
        names, patience = ["idle_in_transaction_session_timeout", "statement_timeout"], str(int(_PATIENCE * 1000))
        await connection.fetch(_SQL["use_settings"], names, [patience] * 2, True)

    async def run(
        self,
        fn: Callable[[Connection], Awaitable[T]],
        *,
        write: bool,
        single: bool = False,
        repeatable: bool = False,
        budget: float | None = None,
    ) -> T:
        """Run `fn` on a connection within `budget` seconds, again as a whole after failures that may pass.

        Args:
            fn: Does the work. Called anew in each try; must change nothing but what its statements change.
            write: False for plain reads, which are repeated after a lost connection. True wraps it in a transaction,
                which is repeated if it surely did not commit.
            single: `fn` is one statement when it is called first: that is its own transaction, two round trips less. A
                later try gets a transaction, as it may look first what became of those before it.
            repeatable: The write has the same effect and answer when repeated, so it is repeated even if it may have
                committed.
            budget: None is `call_timeout`. A longer one is told to the server too; it is for the work, and not for
                waiting until a server that is away comes back.

        Raises:
            OutcomeUnknownError: The answer to the commit was lost.
            DatabaseError: Nothing was stored; the subclass says why.
        """
        loop = asyncio.get_running_loop()
        budget = self.call_timeout if budget is None else budget
        deadline = loop.time() + budget
        reach_by = min(deadline, loop.time() + self.call_timeout)
        pause = _FIRST_PAUSE
        doubtful = False
        """A try may have been committed. The failures of later tries say nothing about that."""
        is_first = True
        while True:
            attempt = _Attempt(
                write=write,
                single=single and is_first,
                budget=budget if budget > self.call_timeout else None,
                set_up=self._set_up_transaction if self.pooling is Pooling.TRANSACTION else None,
            )
            try:
                return await self._try(fn, attempt, reach_by, deadline)
            except Exception as error:
                if not errors.is_drivers(error):
                    if doubtful and errors.is_of_the_way(error):
                        raise OutcomeUnknownError from error
                    raise
                doubtful = doubtful or (attempt.committing and errors.is_lost(error))
                may_repeat = errors.may_pass(error) and (repeatable or not doubtful)
                if not may_repeat or loop.time() + pause >= (deadline if attempt.reached else reach_by):
                    errors.reraise(error, self.location, doubtful=doubtful)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(2 * pause, _LONGEST_PAUSE)
            is_first = False

    async def fetch(self, sql: str, *values: object, budget: float | None = None) -> list[Any]:
        """Run one statement that only reads; returns its rows."""
        return await self.run(lambda connection: connection.fetch(sql, *values), write=False, budget=budget)

    async def change(self, sql: str, *values: object, repeatable: bool = False) -> list[Any]:
        """Run one statement that changes rows, as a transaction of its own; returns what it returns."""
        return await self.run(
            lambda connection: connection.fetch(sql, *values), write=True, single=True, repeatable=repeatable
        )

    async def outlast(self) -> None:
        """Wait until no write of this store that was cut off can still be committed; nearly always there is none.

        Raises:
            DatabaseError: One is still under way, or the server cannot be asked.
        """
        await self._cut_offs.outlast(lambda work: self.run(work, write=False), self.call_timeout)

    async def _try(
        self, fn: Callable[[Connection], Awaitable[T]], attempt: _Attempt, reach_by: float, deadline: float
    ) -> T:
        loop = asyncio.get_running_loop()
        pool = self._pool
        if pool is None:
            raise NotInitializedError("The store is not open.")
        if os.getpid() != self._pid:
            raise NotInitializedError(
                "The store was opened before this process was forked; connections cannot be shared. "
                "Open a new one in the child."
            )
        gate = self._gate
        await self._enter(gate, reach_by)
        try:
            connection = await self._acquire(pool, gate, reach_by)
            attempt.reached = True
            pid = connection.get_server_pid()
            try:
                return await bounded(connection, attempt.work(connection, fn), deadline - loop.time())
            except BaseException:
                if attempt.committing and connection.is_closed() and self.pooling is Pooling.NONE:
                    self._cut_offs.note(pid)
                raise
            finally:
                pool.release(connection)
        finally:
            gate.leave()

    async def _enter(self, gate: Gate, deadline: float) -> None:
        timeout = max(deadline - asyncio.get_running_loop().time(), 0.01)
        try:
            await gate.enter(timeout)
        except TimeoutError:
            more = "The server gives no more." if gate.is_refused else "Raise max_pool_size, or do less at a time."
            raise StorageBusyError(
                f"Connection pool exhausted: all {gate.limit} connections to {self.location} stayed in use "
                f"for {timeout:.3g} s; nothing was stored. {more}"
            ) from None

    async def _acquire(self, pool: Pool, gate: Gate, deadline: float) -> Connection:
        try:
            return await pool.acquire(max(deadline - asyncio.get_running_loop().time(), 0.01))
        except asyncpg.TooManyConnectionsError:
            gate.refuse()
            raise


class _Attempt:
    """One try of a call, and how far it got."""

    def __init__(
        self,
        *,
        write: bool,
        single: bool,
        budget: float | None,
        set_up: Callable[[Connection], Awaitable[None]] | None = None,
    ) -> None:
        self.write = write
        self.single = single
        self.budget = budget
        self.set_up = set_up
        """Makes our settings in a transaction, where they do not last longer. Every call is then a transaction."""
        self.reached = False
        """It got a connection."""
        self.committing = False
        """From here on a lost connection leaves it open whether the transaction was committed."""

    async def work(self, connection: Connection, fn: Callable[[Connection], Awaitable[T]]) -> T:
        if self.set_up is None and (not self.write or self.single):
            self.committing = self.write and not connection.is_closed()  # on a closed one nothing is sent
            return await fn(connection)
        await connection.execute("begin isolation level read committed")
        try:
            if self.set_up is not None:
                await self.set_up(connection)
            if self.budget is not None:
                await connection.fetchval(
                    "select set_config('statement_timeout', $1, true)", str(int(self.budget * 1000))
                )
            result = await fn(connection)
        except Exception:
            if not connection.is_closed():
                try:
                    await connection.execute("rollback")
                except Exception:
                    connection.terminate()
            raise
        self.committing = self.write
        await connection.execute("commit")
        return result


async def bounded(connection: Connection, work: Awaitable[T], timeout: float) -> T:
    """Await `work`, which uses `connection`; when it is out of time or cancelled, close the connection under it.

    Raises:
        TimeoutError: Out of time. The connection is closed.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=max(timeout, 0.0))
    except asyncio.CancelledError:
        await _cut(connection, task)
        raise
    if not task.done():
        await _cut(connection, task)
        if not task.done() or task.cancelled() or task.exception() is not None:
            raise TimeoutError("the server did not answer in time")
    return task.result()


async def _cut(connection: Connection, task: asyncio.Future[Any]) -> None:
    """Close the connection under a task that waits on it. That ends the task."""
    task.add_done_callback(_forget)
    connection.terminate()
    await asyncio.wait({task}, timeout=_TIDY_UP)
    if not task.done():
        task.cancel()


def _forget(task: asyncio.Future[Any]) -> None:
    """Take its failure, so that it is not reported as never retrieved."""
    if not task.cancelled():
        task.exception()


def columns(rows: Iterable[tuple[object, ...]], number: int) -> list[list[object]]:
    """The rows as parameters: an array for each of so many columns, also if there are no rows.

    A column without any value is an empty array: unnest and subscripts fill it with nulls, and the driver need not look
    at each of them.
    """
    found = [[] if column.count(None) == len(column) else list(column) for column in zip(*rows, strict=True)]
    return found or [[] for _ in range(number)]


def count_of(status: str) -> int:
    """The rows of a command, from its tag such as "UPDATE 3"."""
    return int(status.rpartition(" ")[2])
