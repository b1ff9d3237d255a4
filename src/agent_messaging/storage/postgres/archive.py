"""Moving in PostgreSQL: all rows as of one instant, and rows that are put in their places by one transaction."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg

from ...exceptions import DatabaseError
from ..archive import BODIES, SHARED, TABLES, TAKEN, Comparison, Reader, Writer, shift_of, to_line
from ..batches import MAX_BYTES
from ..ports import ImportState, StagedRow
from ..sql import Queries
from .engine import Connection, Engine, bounded, count_of

_SQL = Queries(__package__, "archive")
_PAGE = 500
_LONG = 6 * 3600.0
"""Seconds that putting an archive in place may take."""


class PostgresArchive:
    """See `ports.ArchiveStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def snapshot(self, organization_id: str | None) -> AsyncIterator[_Snapshot]:
        now, shift = self._clocks()
        async with self._engine.snapshot() as connection:
            yield await _Snapshot(connection, organization_id, shift, now, self._engine.call_timeout).begin()

    def _clocks(self) -> tuple[datetime, int]:
        """The server's instant, and what is to be added to the store's clock for it."""
        clock = self._engine.clock
        shift = round(clock.shift.total_seconds() * 1e6)
        return clock.now() - clock.shift, shift_of(shift, 0)

    async def begin_import(self, archive: str) -> ImportState:
        async def begin(connection: Connection) -> ImportState:
            await connection.execute(_SQL["lock_imports"])
            row = await connection.fetchrow(_SQL["find_import"], archive)
            staged, finished_at = (0, None) if row is None else row
            if not staged:
                await connection.execute(_SQL["forget_imports"], archive)
                await connection.execute(_SQL["reset_imports"])
                await connection.execute(_SQL["clear_import_rows"])
                await connection.execute(_SQL["begin_import"], archive)
            return ImportState(staged, finished_at)

        return await self._engine.run(begin, write=True, repeatable=True, budget=_LONG)

    async def stage(self, archive: str, rows: Sequence[StagedRow]) -> bool:
        writer = Writer(self._clocks()[1], as_numbers=False)
        texts = [to_line(writer.make(row.table, row.row)) for row in rows]
        first = rows[0].position

        async def stage(connection: Connection) -> bool:
            if not count_of(await connection.execute(_SQL["stage_count"], archive, first, first + len(rows))):
                return False
            tables, positions = [row.table for row in rows], [row.position for row in rows]
            await connection.execute(_SQL["stage_rows"], tables, positions, texts)
            return True

        return await self._engine.run(stage, write=True)

    async def find_taken(self) -> list[str]:
        return [
            f"{word} {row['name']!r}"
            for table, word in TAKEN.items()
            for row in await self._engine.fetch(_SQL[f"taken_{table}"], budget=_LONG)
        ]

    async def finish_import(self, archive: str, rows: int, tell: Callable[[int], None]) -> bool:
        now, shift = self._clocks()

        async def finish(connection: Connection) -> bool:
            state = await connection.fetchrow(_SQL["find_import"], archive)
            reader = Reader(shift, now)
            found = await connection.fetch(_SQL["count_import_rows"])
            counts = {row["noun"]: row["number"] for row in found}
            if state is None or not state["staged"] == sum(counts.values()) == rows:
                return False
            before = dict(await connection.fetchrow(_SQL["find_last_numbers"]))
            try:
                for table in TABLES:
                    if table in counts:
                        await connection.execute(_SQL[f"put_{table}"])
                        tell(counts[table])
            except asyncpg.ForeignKeyViolationError as error:
                # Elsewhere a call begins again after it, because others have removed what it refers to.
                raise DatabaseError(
                    f"The archive refers to what it does not have ({error.constraint_name}); nothing was imported. "
                    "Export it again from its store."
                ) from error
            for table in TABLES:
                if table in counts:
                    await _compare(connection, Comparison(reader, table, before), table, tell)
            await connection.execute(_SQL["clear_import_rows"])
            await connection.execute(_SQL["end_import"], archive)
            return True

        return await self._engine.run(finish, write=True, budget=_LONG)

    async def drop_import(self, archive: str) -> None:
        async def drop(connection: Connection) -> None:
            await connection.execute(_SQL["clear_import_rows"])
            await connection.execute(_SQL["reset_imports"])
            await connection.execute(_SQL["remove_import"], archive)

        await self._engine.run(drop, write=True, repeatable=True, budget=_LONG)


class _Snapshot:
    """See `ports.Snapshot`. Its connection holds a transaction that sees what was committed before it began."""

    def __init__(
        self, connection: Connection, organization_id: str | None, shift: int, now: datetime, timeout: float
    ) -> None:
        self.shift = shift
        self.now = now
        self._connection = connection
        self._organization_id = organization_id
        self._timeout = timeout
        self._foreign: list[str] = []

    async def begin(self) -> _Snapshot:
        """Take the snapshot."""
        if self._organization_id is not None:
            self._foreign = [row["id"] for row in await self._fetch("find_foreign_meetings", self._organization_id)]
        return self

    async def read(self, table: str) -> AsyncIterator[list[dict[str, Any]]]:
        after = TABLES[table].start
        while rows := await bounded(
            self._connection,
            _read(self._connection, table, after, self._organization_id, self._foreign),
            self._timeout,
        ):
            yield rows
            after = tuple(rows[-1][name] for name in TABLES[table].key)

    async def count(self) -> int:
        return int((await self._fetch("count_archive_rows"))[0]["number"])

    async def count_left_out(self) -> dict[str, int]:
        (row,) = await self._fetch("count_crossing_messages", self._organization_id)
        return {"messages": int(row["number"]), "meetings": len(self._foreign)}

    async def _fetch(self, block: str, *values: object) -> list[Any]:
        return await bounded(self._connection, self._connection.fetch(_SQL[block], *values), _LONG)


async def _read(
    connection: Connection, table: str, after: Sequence[Any], organization_id: str | None, foreign: list[str]
) -> list[dict[str, Any]]:
    values: list[Any] = [*after, _PAGE, organization_id]
    if table in SHARED:
        values.append(foreign)
    if table in BODIES:
        values.append(MAX_BYTES)
    rows = await connection.fetch(_SQL[f"read_{table}"], *values)
    return [json.loads(row["record"]) for row in rows]


async def _compare(connection: Connection, comparison: Comparison, table: str, tell: Callable[[int], None]) -> None:
    async for page in _list_waiting(connection, table):
        comparison.expect(page)
        while not comparison.is_settled:
            comparison.see(await _read(connection, table, comparison.after, None, []))
        tell(len(page))


async def _list_waiting(connection: Connection, table: str) -> AsyncIterator[list[dict[str, Any]]]:
    position = -1
    while rows := await connection.fetch(_SQL["list_import_rows"], table, position, _PAGE, MAX_BYTES):
        position = rows[-1]["position"]
        yield [json.loads(row["record"]) for row in rows]
