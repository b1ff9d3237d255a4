"""Retention in PostgreSQL: walks through what is old, and the sessions of runs that are over.

A page is looked at first. What may go is locked, as far as nobody else holds it, and judged again in the transaction
that deletes it. Freed space is the server's: its autovacuum keeps it for new rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from ...states import Prunable
from ..ports import Place, Pruned, Pruning
from ..retention import ROW_BYTES, Sorted, Walk, find_walk
from ..sql import Queries
from .engine import Connection, Engine, columns, count_of

_SQL = Queries(__package__, "retention")
_NOBODY = "00000000-0000-0000-0000-000000000000"
_BEGIN: dict[str, Place] = {"messages": (0,), "dead_letters": (0, _NOBODY), "keys": (_NOBODY, "", "")}
"""Before the first, in the order in which the blocks take it; else before the first id."""


class PostgresRetention:
    """See `ports.RetentionStore`."""

    page_size = 500
    """Of old rows, which nobody waits for. A page is ten round trips, however many rows it has."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def prune(
        self, wanted: Pruning, *, after: Place | None = None, limit: int, now: datetime | None = None
    ) -> Pruned:
        walk = find_walk(wanted)
        first, *rest = after or _BEGIN.get(walk.page, (_NOBODY,))
        values = (first, max(limit // walk.share, 1), wanted.older_than, now, *rest)

        async def look(connection: Connection) -> tuple[Place | None, Sorted]:
            next, keys = _read_page(walk, values[1], await connection.fetch(_SQL[f"prune_{walk.page}_page"], *values))
            return next, await self._sort(connection, walk, keys, now)

        next, found = await self._engine.run(look, write=False)
        if found.going and not wanted.dry_run:
            delete = partial(self._delete, walk=walk, kind=wanted.kind, keys=found.keys, now=now)
            pruned = await self._engine.run(delete, write=True, repeatable=True)
            found = Sorted(pruned.going, found.kept + pruned.kept)
        return found.told(next)

    async def _sort(self, connection: Connection, walk: Walk, keys: Sequence[Any], now: datetime | None) -> Sorted:
        given: dict[str, tuple[object, ...]] = {
            "messages": (now,),
            "meetings": (ROW_BYTES,),
            "sessions": (walk.most,),
        }
        more = given.get(walk.noun, ())
        rows = await connection.fetch(_SQL[f"prune_{walk.noun}_find"], *_parameters(walk, keys), *more) if keys else ()
        return walk.sort([tuple(row.values()) for row in rows], self._engine.aside)

    async def _delete(
        self, connection: Connection, walk: Walk, kind: Prunable, keys: Sequence[Any], now: datetime | None
    ) -> Sorted:
        locked = await connection.fetch(_SQL[f"prune_{walk.noun}_lock"], *_parameters(walk, keys))
        found = await self._sort(connection, walk, [row[0] if len(row) == 1 else tuple(row) for row in locked], now)
        if found.going:
            await connection.execute(_SQL[f"prune_{walk.noun}_delete"], *_parameters(walk, found.keys))
            await connection.execute(_SQL["prune_mark"], str(kind), found.newest_id)
        return found

    async def find_newest_pruned(self, kind: Prunable) -> str | None:
        rows = await self._engine.fetch(_SQL["find_newest_pruned"], str(kind))
        return (rows[0]["newest_pruned"] or None) if rows else None

    async def take_turn(self, kind: Prunable, seconds: float, *, now: datetime | None = None) -> bool:
        return bool(await self._engine.change(_SQL["take_turn"], str(kind), seconds, now))

    async def end_unused_sessions(self, limit: int, *, now: datetime | None = None) -> int:
        found = [row["id"] for row in await self._engine.fetch(_SQL["end_unused_sessions_find"], limit)]
        if not found:
            return 0

        async def end(connection: Connection) -> int:
            locked = [row["id"] for row in await connection.fetch(_SQL["prune_sessions_lock"], found)]
            return count_of(await connection.execute(_SQL["end_unused_sessions"], locked, now))

        return await self._engine.run(end, write=True, repeatable=True)

    async def release_space(self, most_bytes: int) -> int:
        return 0

    async def find_space_advice(self) -> str | None:
        return None


def _parameters(walk: Walk, keys: Sequence[Any]) -> list[Any]:
    return columns(keys, 3) if walk.noun == "keys" else [list(keys)]


def _read_page(walk: Walk, limit: int, rows: Sequence[Any]) -> tuple[Place | None, list[Any]]:
    """Where the next page begins, and the keys of what is old on this one."""
    if walk.noun == "keys":
        keys = [(row["sender_id"], row["call"], row["key"]) for row in rows]
        return (keys[-1] if len(keys) == limit else None), [
            key for key, row in zip(keys, rows, strict=True) if row["is_old"]
        ]
    (row,) = rows
    next = row["next"]
    place = None if next is None else (next, row["next_recipient"]) if walk.page == "dead_letters" else (next,)
    return place, row["found"] or []
