"""Moving in SQLite: all rows as of one instant, and rows that are put in their places by one transaction."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any

import apsw

from ..archive import TABLES, TAKEN, Comparison, Reader, Writer, shift_of, to_line
from ..batches import MAX_BYTES
from ..ports import ImportState, StagedRow
from ..sql import Queries
from . import forks
from .clock import StoreClock, to_datetime, to_datetime_or_none
from .engine import Engine, fetch, fetch_with_damage
from .errors import translate
from .filing import file_all
from .rows import encode

_SQL = Queries(__package__, "archive")
_PAGE = 500
_KEYS = ("a", "b", "c")
_EVERYTHING = {"organization": None, "foreign": "[]"}


class SQLiteArchive:
    """See `ports.ArchiveStore`.

    Args:
        connect: Opens a connection of its own, which reads.
    """

    def __init__(self, engine: Engine, clock: StoreClock, connect: Callable[[], apsw.Connection]) -> None:
        self._engine = engine
        self._clock = clock
        self._connect = connect

    @asynccontextmanager
    async def snapshot(self, organization_id: str | None) -> AsyncIterator[_Snapshot]:
        connect = self._connect
        if self._engine.in_memory:
            connect = partial(_copy, await self._engine.write(lambda con: con.serialize("main")))
        else:
            await self._engine.read(lambda con: None)  # it is open and in place, or says why not
        instant = self._clock.now()
        snapshot = _Snapshot(self._engine.location, organization_id, shift_of(*instant), to_datetime(instant.at))
        try:
            await asyncio.to_thread(snapshot.begin, connect)
            yield snapshot
        finally:
            await asyncio.to_thread(snapshot.close)

    async def begin_import(self, archive: str) -> ImportState:
        parameters = {"archive": archive, "at": self._clock.now().at}

        def begin(connection: apsw.Connection) -> ImportState:
            staged, finished_at = fetch(connection, _SQL["find_import"], parameters) or (0, None)
            if not staged:
                for block in ("forget_imports", "reset_imports", "clear_import_rows", "begin_import"):
                    connection.execute(_SQL[block], parameters)
            return ImportState(staged, to_datetime_or_none(finished_at))

        return await self._engine.write(begin)

    async def stage(self, archive: str, rows: Sequence[StagedRow]) -> bool:
        writer = Writer(shift_of(*self._clock.now()), as_numbers=True)
        texts = [(row.table, row.position, to_line(writer.make(row.table, row.row))) for row in rows]
        first = rows[0].position
        turn = {"archive": archive, "before": first, "after": first + len(rows)}
        encoded = encode(texts)

        def stage(connection: apsw.Connection) -> bool:
            connection.execute(_SQL["stage_count"], turn)
            if not connection.changes():
                return False
            connection.execute(_SQL["stage_rows"], {"rows": encoded})
            return True

        return await self._engine.write(stage, size=len(encoded))

    async def find_taken(self) -> list[str]:
        def find(connection: apsw.Connection) -> list[str]:
            return [
                f"{word} {name!r}"
                for table, word in TAKEN.items()
                for name in fetch(connection, _SQL[f"taken_{table}"], {})
            ]

        return await self._engine.read(find)

    async def finish_import(self, archive: str, rows: int, tell: Callable[[int], None]) -> bool:
        instant = self._clock.now()
        reader = Reader(shift_of(*instant), to_datetime(instant.at))

        def finish(connection: apsw.Connection) -> bool:
            staged, _ = fetch(connection, _SQL["find_import"], {"archive": archive}) or (0, None)
            counts: dict[str, int] = fetch(connection, _SQL["count_import_rows"], {})
            if not staged == sum(counts.values()) == rows:
                return False
            before = fetch(connection, _SQL["find_last_numbers"], {})
            for table in TABLES:
                if table in counts:
                    connection.execute(_SQL[f"put_{table}"])
                    tell(counts[table])
            file_all(connection)
            for table in TABLES:
                if table in counts:
                    _compare(connection, Comparison(reader, table, before), table, tell)
            connection.execute(_SQL["clear_import_rows"])
            connection.execute(_SQL["end_import"], {"archive": archive, "at": instant.at})
            return True

        return await self._engine.write(finish)

    async def drop_import(self, archive: str) -> None:
        def drop(connection: apsw.Connection) -> None:
            connection.execute(_SQL["clear_import_rows"])
            connection.execute(_SQL["reset_imports"])
            connection.execute(_SQL["remove_import"], {"archive": archive})

        await self._engine.write(drop)


class _Snapshot:
    """See `ports.Snapshot`. A connection of its own holds a read transaction; one thread at a time uses it."""

    def __init__(self, location: str, organization_id: str | None, shift: int, now: datetime) -> None:
        self.shift = shift
        self.now = now
        self._location = location
        self._inside = forks.Inside()
        self._parameters: dict[str, Any] = {"organization": organization_id, "foreign": "[]"}

    def begin(self, connect: Callable[[], apsw.Connection]) -> None:
        """Take the snapshot. It blocks."""
        try:
            with self._inside:
                connection = self._inside.connection = connect()
                connection.execute("begin")
                foreign = fetch(connection, _SQL["find_foreign_meetings"], self._parameters)
            self._parameters["foreign"] = encode(foreign)
        except (apsw.Error, OSError) as error:
            raise translate(error, self._location) from error

    def close(self) -> None:
        """Let the snapshot go. It blocks while a page is being read."""
        with self._inside:
            if self._inside.connection is not None:
                self._inside.connection.close(True)
                self._inside.connection = None

    async def read(self, table: str) -> AsyncIterator[list[dict[str, Any]]]:
        after = TABLES[table].start
        while rows := await self._run(partial(_read, table=table, after=after, scope=self._parameters)):
            yield rows
            after = tuple(rows[-1][name] for name in TABLES[table].key)

    async def count(self) -> int:
        return int(await self._run(lambda con: con.execute(_SQL["count_archive_rows"]).get))

    async def count_left_out(self) -> dict[str, int]:
        crossing = await self._run(lambda con: con.execute(_SQL["count_crossing_messages"], self._parameters).get)
        return {"messages": int(crossing), "meetings": len(json.loads(self._parameters["foreign"]))}

    async def _run(self, job: Callable[[apsw.Connection], Any]) -> Any:
        return await asyncio.to_thread(self._run_here, job)

    def _run_here(self, job: Callable[[apsw.Connection], Any]) -> Any:
        try:
            with self._inside:
                assert self._inside.connection is not None
                return job(self._inside.connection)
        except (apsw.Error, OSError) as error:
            raise translate(error, self._location) from error


def _copy(content: bytes) -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.deserialize("main", content)
    return connection


def _read(
    connection: apsw.Connection, table: str, after: Sequence[Any], scope: Mapping[str, Any]
) -> list[dict[str, Any]]:
    parameters = {**scope, **dict(zip(_KEYS, after, strict=False)), "limit": _PAGE, "most_bytes": MAX_BYTES}
    return fetch_with_damage(connection, _SQL[f"read_{table}"], parameters)


def _compare(connection: apsw.Connection, comparison: Comparison, table: str, tell: Callable[[int], None]) -> None:
    for page in _list_waiting(connection, table):
        comparison.expect(page)
        while not comparison.is_settled:
            comparison.see(_read(connection, table, comparison.after, _EVERYTHING))
        tell(len(page))


def _list_waiting(connection: apsw.Connection, table: str) -> Iterator[list[dict[str, Any]]]:
    position = -1
    while rows := fetch(
        connection,
        _SQL["list_import_rows"],
        {"noun": table, "after": position, "limit": _PAGE, "most_bytes": MAX_BYTES},
    ):
        position = rows[-1][0]
        yield [raw for _, raw in rows]
