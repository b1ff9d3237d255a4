"""Parts in PostgreSQL. One at a time writes to a stream: it locks the row first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby
from operator import itemgetter

from ..parts import Known, judge, turn
from ..ports import CLOSED, Claim, NewParts, PartCursor, PartPage, PartRow, Stream
from ..sql import Queries
from .engine import Connection, Engine, columns

_SQL = Queries(__package__, "parts")


class PostgresParts:
    """See `ports.PartStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def write(self, batches: Sequence[NewParts]) -> list[Stream]:
        async def work(connection: Connection) -> list[Stream]:
            await connection.execute(_SQL["parts_lock"], [batch.ask_id for batch in batches])
            return await _write(connection, batches)

        return await self._engine.run(work, write=True, repeatable=True)

    async def find_streams(self, runs: Sequence[tuple[str, Claim]]) -> list[Stream]:
        known = await self._engine.run(lambda connection: _find_streams(connection, runs), write=False)
        return [CLOSED if one is None else one.seen_by(claim) for one, (_, claim) in zip(known, runs, strict=True)]

    async def read(self, cursors: Sequence[PartCursor], limit: int) -> list[PartPage]:
        wanted = columns(((c.ask_id, c.seq, c.token, c.number) for c in cursors), 4)
        rows = await self._engine.fetch(_SQL["parts_read"], *wanted, limit)
        pages = []
        for position, found in groupby(rows, itemgetter("position")):
            mine = list(found)
            parts = [PartRow(r["number"], r["content"], r["checksum"]) for r in mine if r["number"] is not None]
            pages.append(turn(cursors[position - 1], mine[0]["seq"], mine[0]["token"], parts))
        return [page for page in pages if page is not None]

    async def acknowledge(self, cursor: PartCursor) -> str | None:
        async def work(connection: Connection) -> set[str]:
            values = cursor.ask_id, cursor.seq, cursor.token, cursor.number
            await connection.execute(_SQL["parts_acknowledge"], *values)
            return await _find_workers(connection, [cursor.ask_id])

        return next(iter(await self._engine.run(work, write=True, repeatable=True)), None)

    async def end(self, ask_ids: Collection[str]) -> set[str]:
        async def work(connection: Connection) -> set[str]:
            await connection.execute(_SQL["parts_end"], list(ask_ids))
            return await _find_workers(connection, ask_ids)

        return await self._engine.run(work, write=True, repeatable=True)


async def begin(connection: Connection, ask_ids: Sequence[str], reader: str) -> None:
    """Begin the streams of asks that are being stored."""
    await connection.execute(_SQL["append_insert_streams"], ask_ids, reader)


async def forget_processes(connection: Connection, process_ids: Sequence[str]) -> None:
    """End the streams of readers that have ended."""
    await connection.execute(_SQL["parts_end_of_processes"], process_ids)


async def _write(connection: Connection, batches: Sequence[NewParts]) -> list[Stream]:
    known = await _find_streams(connection, [(batch.ask_id, batch.claim) for batch in batches])
    decided = [None if one is None else judge(batch, one) for batch, one in zip(batches, known, strict=True)]
    writing = [one for one in decided if one is not None and one.new]
    if anew := [one.batch.ask_id for one in writing if one.is_anew]:
        await connection.execute(_SQL["parts_replace"], anew)
    if writing:
        rows = [(one.batch.ask_id, p.number, p.content, p.checksum) for one in writing for p in one.new]
        await connection.execute(_SQL["parts_insert"], *columns(rows, 4))
        streams = [(one.batch.ask_id, one.batch.claim.seq, one.batch.claim.token, one.written) for one in writing]
        await connection.execute(_SQL["parts_written"], *columns(streams, 4))
    return [CLOSED if one is None else one.stream for one in decided]


async def _find_streams(connection: Connection, runs: Sequence[tuple[str, Claim]]) -> list[Known | None]:
    wanted = columns(((ask_id, claim.seq, claim.token) for ask_id, claim in runs), 3)
    found: list[Known | None] = [None] * len(runs)
    for row in await connection.fetch(_SQL["parts_find_streams"], *wanted):
        position, *values = row.values()
        found[position - 1] = Known(*values)
    return found


async def _find_workers(connection: Connection, ask_ids: Collection[str]) -> set[str]:
    return {row["owner"] for row in await connection.fetch(_SQL["parts_find_workers"], list(ask_ids))}
