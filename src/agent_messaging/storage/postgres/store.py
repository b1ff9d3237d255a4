"""The PostgreSQL backend: many processes on many machines over one server."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg

from ...exceptions import ConfigurationError, NotInitializedError
from ...loggers import get_logger
from ..batches import MAX_BYTES
from ..checks import KEYS, RULES, examine, find_damage, tell_hidden, tell_left_claims, tell_miscount, tell_stray
from ..ports import Capabilities, Dues, StoreFacts
from ..sql import Queries
from . import errors, horizon, schema
from .archive import PostgresArchive
from .deliveries import PostgresDeliveries
from .directory import PostgresDirectory
from .engine import Connection, Engine, bounded
from .forwarding import PostgresForwarding
from .meetings import PostgresMeetings
from .messages import PostgresMessages
from .parts import PostgresParts
from .pooler import Pooling
from .presence import POLL_ALONE, PostgresPresence
from .processes import PostgresProcesses
from .queue import PostgresQueue
from .retention import PostgresRetention
from .schedules import PostgresSchedules
from .search import PostgresSearch
from .sessions import PostgresSessions
from .tasks import PostgresTasks
from .topics import PostgresTopics
from .workers import PostgresWorkers

if TYPE_CHECKING:
    from ...observing.figures import PoolFigures

_SCHEMA = Queries(__package__, "schema")
_CHECKS = Queries(__package__, "checks")
_NEXT = (
    ("deliveries", "advance_next", "next_in"),
    ("meetings", "time_out_next", "next_in"),
    ("tasks", "tasks_next", "next_in"),
    ("schedules", "schedules_next", "case when is_any_due then 0 else next_in end"),
    ("queue", "queue_next", "next_in"),
)
_DUES = "select " + ", ".join(  # noqa: S608 - whole blocks of our own inside
    f"(select {seconds} from (\n{Queries(__package__, noun)[block]}\n) as one)"  # noqa: S608
    for noun, block, seconds in _NEXT
)
"""When something is due, in the order of `Dues`."""
_PAGE = 500
logger = get_logger("agent_messaging.storage")


class PostgresStore:
    """See `ports.Store`.

    Args:
        dsn: `postgresql://user:password@host:port/database`, with parameters (see `url`).
        min_pool_size: Connections opened at once; one more is open for presence.
        max_pool_size: The most at a time, beside that one.
        connect_timeout: Seconds that opening a connection may take, and checking and migrating the schema.
        call_timeout: Seconds for a call, retries included.
        lease: Seconds without a sign of life after which others take this process for dead.
        allow_unsafe_server: Accept a server with `fsync = off`.
    """

    capabilities = Capabilities(processes=True, durable=True, appends_at_once=2)

    def __init__(
        self,
        dsn: str,
        *,
        min_pool_size: int = 1,
        max_pool_size: int = 20,
        connect_timeout: float = 10.0,
        call_timeout: float = 10.0,
        lease: float = 30.0,
        allow_unsafe_server: bool = False,
    ) -> None:
        self.engine = Engine(
            dsn,
            min_pool_size=min_pool_size,
            max_pool_size=max_pool_size,
            connect_timeout=connect_timeout,
            call_timeout=call_timeout,
        )
        self.allow_unsafe_server = allow_unsafe_server
        self.directory = PostgresDirectory(self.engine)
        self.deliveries = PostgresDeliveries(self.engine)
        self.messages = PostgresMessages(self.engine)
        self.sessions = PostgresSessions(self.engine)
        self.parts = PostgresParts(self.engine)
        self.topics = PostgresTopics(self.engine)
        self.forwarding = PostgresForwarding(self.engine)
        self.meetings = PostgresMeetings(self.engine)
        self.search = PostgresSearch(self.engine)
        self.retention = PostgresRetention(self.engine)
        self.queue = PostgresQueue(self.engine)
        self.workers = PostgresWorkers(self.engine)
        self.tasks = PostgresTasks(self.engine)
        self.schedules = PostgresSchedules(self.engine)
        self.archive = PostgresArchive(self.engine)
        self.processes = PostgresProcesses(self.engine)
        self.presence = PostgresPresence(self.engine, lease)
        self._server: schema.Server | None = None
        self._schema_version = 0

    @property
    def location(self) -> str:
        return self.engine.location

    async def open(self, *, initialize: bool = True) -> None:
        for warning in self.engine.target.warnings:
            logger.warning("PostgreSQL at %s: %s", self.engine.location, warning)
        try:
            await self.engine.find_pooling()
            if self.engine.pooling is Pooling.TRANSACTION:
                logger.warning(
                    "PostgreSQL at %s is behind a pooler in transaction mode, through which no process can be woken: "
                    "other processes' messages are found by polling every %g s. Behind pool_mode = session, or without "
                    "a pooler, they come at once.",
                    self.engine.location,
                    POLL_ALONE,
                )
            connection = await self.engine.connect()
            try:
                await bounded(connection, self._prepare(connection, initialize), self.engine.connect_timeout)
                await self.engine.clock.adopt(partial(self._ask, connection))
            except Exception as error:
                errors.reraise(error, self.engine.location)
            finally:
                connection.terminate()
            await self.engine.open()
        except BaseException:
            await self.aclose()
            raise

    async def _prepare(self, connection: Connection, initialize: bool) -> None:
        server = await schema.inspect(connection, self.engine.location, allow_unsafe_server=self.allow_unsafe_server)
        for warning in server.warnings:
            logger.warning("PostgreSQL at %s: %s", self.engine.location, warning)
        if self.engine.pooling is Pooling.NONE:
            with contextlib.suppress(asyncpg.PostgresError):
                await connection.fetchval(_SCHEMA["use_connection_check"], "1000")
                self.engine.connection_check = True
        self._schema_version = await schema.upgrade(connection, server, self.engine.location, initialize=initialize)
        self._server = server

    async def _ask(self, connection: Connection, sql: str, *values: object) -> Any:
        return await bounded(connection, connection.fetchrow(sql, *values), self.engine.connect_timeout)

    async def find_dues(self, now: datetime | None = None) -> Dues:
        (row,) = await self.engine.fetch(_DUES, now)
        return Dues(*row)

    async def describe(self) -> StoreFacts:
        if self._server is None:
            raise NotInitializedError("The store is not open.")
        server = await self.engine.run(
            lambda connection: schema.inspect(connection, self.engine.location, allow_unsafe_server=True), write=False
        )
        held = await self.engine.fetch(_SCHEMA["find_holder"], horizon.PATIENCE, horizon.MANY)
        return StoreFacts(
            backend="postgres",
            location=self.engine.location,
            version=f"PostgreSQL {server.version} (asyncpg {asyncpg.__version__})",
            schema_version=self._schema_version,
            durability=server.durability,
            warnings=(*server.warnings, *self._clock_warnings(), *horizon.describe(held)),
        )

    def _clock_warnings(self) -> tuple[str, ...]:
        shift = self.engine.clock.shift
        if not shift:
            return ()
        return (
            f"the server's clock has jumped, and is {-shift.total_seconds():+.1f} s from that of the store until all "
            "its processes have stopped. Set it right.",
        )

    def measure_pool(self) -> PoolFigures:
        return self.engine.measure()

    async def check(self) -> list[str]:
        """See the port. The pages of PostgreSQL itself are `pg_amcheck`'s to check."""
        findings = [
            tell_stray("messages", f"id {id}", "agents") for (id,) in await self.engine.fetch(_CHECKS["find_strays"])
        ]
        findings += [
            tell_left_claims(process_id, (host, pid), *left)
            for process_id, host, pid, *left in await self.engine.fetch(_CHECKS["find_left_claims"])
        ]
        findings += [tell_miscount(*row) for row in await self.engine.fetch(_CHECKS["find_miscounts"])]
        findings += [tell_hidden(*row) for row in await self.engine.fetch(_CHECKS["find_hidden"])]
        for table in RULES:
            offset, after, is_end = 0, 0, False
            while not is_end:
                place = after if "seq" in KEYS[table] or table == "messages" else offset
                found = await self.engine.fetch(_CHECKS[f"check_{table}"], _PAGE, place)
                rows = [json.loads(row["row"]) for row in found]
                for row in rows:
                    findings += examine(table, row)
                is_end, offset = len(rows) < _PAGE, offset + _PAGE
                after = rows[-1].get("seq", 0) if rows else 0
        for name in ("check_bodies_of_messages", "check_bodies_of_events"):
            after, is_end = 0, False
            while not is_end:
                bodies = await self.engine.fetch(_CHECKS[name], after, _PAGE, MAX_BYTES)
                for after, *body in bodies:  # noqa: B007 - the last one is where the next page begins
                    findings += find_damage(*body)
                is_end = not bodies  # a page of big ones is short
        return findings

    async def backup(self, path: str) -> None:
        raise ConfigurationError(
            f"A PostgreSQL database is not copied by the SDK. Use the server's own tools: pg_dump for {path!r}, or "
            "continuous archiving, while everything runs."
        )

    async def compact(self) -> None:
        raise ConfigurationError(
            "PostgreSQL keeps freed space for new rows, and its autovacuum finds it. To give it back to the system use "
            "the server's own tools: VACUUM (FULL) locks each table while it is written anew."
        )

    async def aclose(self) -> None:
        await self.presence.aclose()
        await self.engine.aclose()
