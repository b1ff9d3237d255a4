"""The SQLite backend: one database file on a local disk, or a private one in memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import apsw

from ...arguments import absolute
from ...exceptions import ConfigurationError
from ..batches import MAX_BYTES
from ..checks import (
    RULES,
    examine,
    find_damage,
    find_misnumbering,
    tell_miscount,
    tell_misfiled,
    tell_mislisted,
    tell_stray,
)
from ..ports import Capabilities, Dues, StoreFacts
from ..sql import Queries
from . import schema
from .archive import SQLiteArchive
from .backup import Backup
from .clock import StoreClock, first_of, seconds_until
from .deliveries import SQLiteDeliveries
from .directory import SQLiteDirectory
from .engine import Engine, fetch, fetch_with_damage
from .files import check_place
from .forwarding import SQLiteForwarding
from .meetings import SQLiteMeetings
from .messages import SQLiteMessages
from .parts import SQLiteParts
from .presence import SQLitePresence
from .processes import SQLiteProcesses
from .queue import SQLiteQueue
from .retention import SQLiteRetention
from .schedules import SQLiteSchedules
from .search import SQLiteSearch
from .sessions import SQLiteSessions
from .tasks import SQLiteTasks
from .topics import SQLiteTopics
from .workers import SQLiteWorkers

if TYPE_CHECKING:
    from ...observing.figures import PoolFigures

_CHECKS = Queries(__package__, "checks")
_DUES = tuple(
    Queries(__package__, noun)[block]
    for noun, block in (
        ("deliveries", "advance_next"),
        ("meetings", "time_out_next"),
        ("tasks", "tasks_next"),
        ("schedules", "schedules_next"),
        ("queue", "queue_next"),
    )
)
"""When something is due, in the order of `Dues`."""
_BEFORE_ALL = -1
_PAGE = 500
_SYNCHRONOUS = {0: "off", 1: "normal", 2: "full", 3: "extra"}


class SQLiteStore:
    """See `ports.Store`.

    Args:
        path: The database file, or ":memory:".
        busy_timeout: Seconds a write may wait for its turn before it is refused with StorageBusyError.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float = 10.0) -> None:
        location = os.fspath(path)
        # The real path, so that all processes find the same side folder whatever links they come by.
        self.path = location if location == ":memory:" else os.path.realpath(absolute(location))
        self.busy_timeout = busy_timeout
        self.clock = StoreClock()
        self.engine = Engine(self.path, busy_timeout)
        in_memory = self.engine.in_memory
        self.capabilities = Capabilities(processes=not in_memory, durable=not in_memory)
        self.directory = SQLiteDirectory(self.engine, self.clock)
        self.deliveries = SQLiteDeliveries(self.engine, self.clock)
        self.messages = SQLiteMessages(self.engine, self.clock)
        self.sessions = SQLiteSessions(self.engine, self.clock)
        self.parts = SQLiteParts(self.engine)
        self.topics = SQLiteTopics(self.engine, self.clock)
        self.forwarding = SQLiteForwarding(self.engine, self.clock)
        self.meetings = SQLiteMeetings(self.engine, self.clock)
        self.search = SQLiteSearch(self.engine, self.clock)
        self.retention = SQLiteRetention(self.engine, self.clock)
        self.queue = SQLiteQueue(self.engine, self.clock)
        self.workers = SQLiteWorkers(self.engine, self.clock)
        self.tasks = SQLiteTasks(self.engine, self.clock)
        self.schedules = SQLiteSchedules(self.engine, self.clock)
        self.archive = SQLiteArchive(self.engine, self.clock, partial(schema.open_reader, self.path, self.busy_timeout))
        self.processes = SQLiteProcesses(self.engine, self.clock)
        self.presence = SQLitePresence(self.engine, self.clock)

    @property
    def location(self) -> str:
        return self.path

    async def open(self, *, initialize: bool = True) -> None:
        schema.check_version(apsw.sqlite_lib_version())
        if not self.engine.in_memory:
            check_place(self.path, create=initialize)
            if not initialize:
                schema.require_file(self.path)
        try:
            await self.engine.start(
                partial(schema.open_writer, self.path, self.busy_timeout, self.clock, initialize=initialize),
                partial(schema.open_reader, self.path, self.busy_timeout),
            )
        except BaseException:
            await self.aclose()
            raise

    async def find_dues(self, now: datetime | None = None) -> Dues:
        instant = self.clock.now(now)

        def find(connection: apsw.Connection) -> Dues:
            # The schedules leave out what is due by :now; here it is asked for.
            found = [fetch(connection, sql, {"now": _BEFORE_ALL, "at": instant.due}) for sql in _DUES]
            late, next_ask = self.deliveries.ask_deadlines.look(connection, instant.due)
            found[0] += [instant.due if late else next_ask]
            return Dues(*(seconds_until(first_of(dues), instant) for dues in found))

        return await self.engine.read(find)  # one job: each wakes a thread, and the loop after it

    async def describe(self) -> StoreFacts:

        def read(connection: apsw.Connection) -> dict[str, str]:
            return {
                "journal_mode": str(connection.pragma("journal_mode")),
                "synchronous": _SYNCHRONOUS[connection.pragma("synchronous")],
            }

        durability = await self.engine.read(read)
        applied = await self.engine.read(schema.read_applied)
        warnings = []
        if self.engine.in_memory:
            warnings.append("Nothing outlives this process. Use a file for anything that must not be lost.")
        return StoreFacts(
            backend="sqlite",
            location=self.path,
            version=f"SQLite {apsw.sqlite_lib_version()} (apsw {apsw.apsw_version()})",
            schema_version=max(applied),
            durability=durability,
            warnings=tuple(warnings),
        )

    def measure_pool(self) -> PoolFigures:
        return self.engine.measure()

    async def check(self) -> list[str]:
        findings = await self.engine.read(_check_integrity)
        for table in RULES:
            async for row in self._walk(f"check_{table}"):
                findings += examine(table, row)
        for name in ("check_bodies_of_messages", "check_bodies_of_events"):
            async for _, *row in self._walk(name):
                findings += find_damage(*row)
        return findings

    async def backup(self, path: str) -> None:
        copying = Backup(path)
        if self.engine.in_memory:
            content = await self.engine.write(lambda con: con.serialize("main"))
            work = asyncio.to_thread(copying.write, content)
        else:
            await self.engine.read(lambda con: None)  # it is open and in place, or says why not
            work = asyncio.to_thread(copying.copy, partial(schema.open_reader, self.path, self.busy_timeout))
        try:
            await work
        except asyncio.CancelledError:
            copying.give_up()
            raise

    async def compact(self) -> None:
        if self.engine.in_memory:
            raise ConfigurationError("A store in memory has no file that could be made smaller; close it instead.")
        await self.engine.read(lambda con: None)  # it is open and in place, or says why not
        await asyncio.to_thread(schema.compact, self.path, self.busy_timeout)

    async def _walk(self, block: str) -> AsyncIterator[Any]:
        """All rows of a table, page by page."""
        rows: list[Any] = []
        offset = 0
        while not offset or rows:  # a page of big ones is short
            last = rows[-1] if rows else [0]
            after = last.get("seq") if isinstance(last, dict) else last[0]
            parameters = {"limit": _PAGE, "offset": offset, "after_seq": after, "most_bytes": MAX_BYTES}
            rows = await self.engine.read(partial(fetch_with_damage, sql=_CHECKS[block], parameters=parameters))
            for row in rows:
                yield row
            offset += _PAGE

    async def aclose(self) -> None:
        """See the port. In a forked child it does nothing: all of it is the parent's."""
        if self.engine.is_forked:
            return
        await self.presence.aclose()
        await self.engine.aclose()


def _check_integrity(connection: apsw.Connection) -> list[str]:
    with connection:
        # FTS5 checks what it has kept of the index, and does not look whether other connections have changed that. A
        # search looks; then the check, in the same transaction, finds no damage where there is none.
        with suppress(apsw.CorruptError):
            fetch(connection, _CHECKS["touch_index"], {})
        found = [str(row[0]) for row in connection.execute("pragma integrity_check(100)")]
    remedy = "Stop writing, and restore the store from a backup."
    damage = [] if found == ["ok"] else [f"SQLite's integrity check says: {line}. {remedy}" for line in found]
    damage += [tell_stray("messages", f"id {id}", "agents") for id in fetch(connection, _CHECKS["find_strays"], {})]
    strays = connection.execute("pragma foreign_key_check").fetchall()
    damage += [tell_stray(str(table), f"rowid {rowid}", str(parent)) for table, rowid, parent, _ in strays]
    damage += find_misnumbering(*fetch(connection, _CHECKS["find_numbering"], {}))
    damage += [tell_misfiled(seq) for seq in fetch(connection, _CHECKS["find_misfiled"], {})]
    damage += [tell_mislisted(seq) for seq in fetch(connection, _CHECKS["find_mislisted"], {})]
    return damage + [tell_miscount(*row) for row in fetch(connection, _CHECKS["find_miscounts"], {})]
