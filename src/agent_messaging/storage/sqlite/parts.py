"""Parts in SQLite. Reading and then writing is safe, because there is one writer at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import apsw

from ..parts import Known, judge, turn
from ..ports import CLOSED, Claim, NewParts, PartCursor, PartPage, PartRow, Stream
from ..sql import Queries
from .engine import Engine, fetch
from .rows import encode

_SQL = Queries(__package__, "parts")


class SQLiteParts:
    """See `ports.PartStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def write(self, batches: Sequence[NewParts]) -> list[Stream]:
        size = sum(part.size for batch in batches for part in batch.parts)
        return await self._engine.write(lambda con: _write(con, batches), size=size)

    async def find_streams(self, runs: Sequence[tuple[str, Claim]]) -> list[Stream]:
        known = await self._engine.read(lambda con: _find_streams(con, runs))
        return [CLOSED if one is None else one.seen_by(claim) for one, (_, claim) in zip(known, runs, strict=True)]

    async def read(self, cursors: Sequence[PartCursor], limit: int) -> list[PartPage]:
        parameters = {"cursors": encode([(c.ask_id, c.seq, c.token, c.number) for c in cursors]), "limit": limit}
        rows = await self._engine.read(lambda con: fetch(con, _SQL["parts_read"], parameters))
        pages = [
            turn(cursors[place], seq, token, [PartRow(*one) for one in found]) for place, seq, token, found in rows
        ]
        return [page for page in pages if page is not None]

    async def acknowledge(self, cursor: PartCursor) -> str | None:
        parameters = {"ask": cursor.ask_id, "seq": cursor.seq, "token": cursor.token, "number": cursor.number}

        def acknowledge(connection: apsw.Connection) -> set[str]:
            connection.execute(_SQL["parts_acknowledge"], parameters)
            return _find_workers(connection, [cursor.ask_id])

        return next(iter(await self._engine.write(acknowledge)), None)

    async def end(self, ask_ids: Collection[str]) -> set[str]:
        def end(connection: apsw.Connection) -> set[str]:
            connection.execute(_SQL["parts_end"], {"ids": encode(list(ask_ids))})
            return _find_workers(connection, ask_ids)

        return await self._engine.write(end)


def begin(connection: apsw.Connection, ask_ids: Sequence[str], reader: str) -> None:
    """Begin the streams of asks that are being stored."""
    connection.execute(_SQL["append_insert_streams"], {"ids": encode(ask_ids), "reader": reader})


def forget_processes(connection: apsw.Connection, process_ids: Sequence[str]) -> None:
    """End the streams of readers that have ended."""
    connection.execute(_SQL["parts_end_of_processes"], {"processes": encode(process_ids)})


def _write(connection: apsw.Connection, batches: Sequence[NewParts]) -> list[Stream]:
    known = _find_streams(connection, [(batch.ask_id, batch.claim) for batch in batches])
    decided = [None if one is None else judge(batch, one) for batch, one in zip(batches, known, strict=True)]
    writing = [one for one in decided if one is not None and one.new]
    if anew := [one.batch.ask_id for one in writing if one.is_anew]:
        connection.execute(_SQL["parts_replace"], {"ids": encode(anew)})
    if writing:
        rows = [(one.batch.ask_id, p.number, p.content, p.checksum) for one in writing for p in one.new]
        connection.execute(_SQL["parts_insert"], {"rows": encode(rows)})
        streams = [(one.batch.ask_id, one.batch.claim.seq, one.batch.claim.token, one.written) for one in writing]
        connection.execute(_SQL["parts_written"], {"rows": encode(streams)})
    return [CLOSED if one is None else one.stream for one in decided]


def _find_streams(connection: apsw.Connection, runs: Sequence[tuple[str, Claim]]) -> list[Known | None]:
    wanted = encode([(ask_id, claim.seq, claim.token) for ask_id, claim in runs])
    found: list[Known | None] = [None] * len(runs)
    for place, *row in fetch(connection, _SQL["parts_find_streams"], {"runs": wanted}):
        found[place] = Known(*row)
    return found


def _find_workers(connection: apsw.Connection, ask_ids: Collection[str]) -> set[str]:
    found: list[Any] = fetch(connection, _SQL["parts_find_workers"], {"ids": encode(list(ask_ids))})
    return set(found)
