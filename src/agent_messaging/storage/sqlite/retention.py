"""Retention in SQLite: walks through what is old, the sessions of runs that are over, and freed pages.

A page is looked at on a reading connection first, so a walk that finds nothing takes no turn to write. What may go is
judged again in the transaction that deletes it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

import apsw

from ...states import Prunable
from ..ports import Place, Pruned, Pruning
from ..retention import ROW_BYTES, Sorted, Walk, find_walk
from ..sql import Queries
from . import notices
from .clock import SECOND, Instant, StoreClock
from .engine import Engine, fetch
from .rows import encode

_SQL = Queries(__package__, "retention")
_INCREMENTAL = 2
"""The mode of `auto_vacuum` in which freed pages are given back when it is asked for."""
_WORTH_ADVICE = 16 * 1024 * 1024
"""Free bytes from which it is worth while to say how they are given back."""
_LONGEST_STEP = 0.005
"""Seconds for which one step of giving pages back has the turn to write."""
_PLACES = {"dead_letters": ("after_recipient", "after"), "keys": ("after_sender", "after_call", "after")}
"""The parameters that say where a page begins."""
_BEGIN = {"messages": (0,), "dead_letters": ("", 0)}


class SQLiteRetention:
    """See `ports.RetentionStore`."""

    page_size = 100
    """Its transaction is the only one meanwhile: 1.4 ms of processor time, and 35 pages of the log."""

    def __init__(self, engine: Engine, clock: StoreClock) -> None:
        self._engine = engine
        self._clock = clock

    async def prune(
        self, wanted: Pruning, *, after: Place | None = None, limit: int, now: datetime | None = None
    ) -> Pruned:
        walk, instant, age = find_walk(wanted), self._clock.now(now), int(wanted.older_than * SECOND)
        names = _PLACES.get(walk.page, ("after",))
        parameters: dict[str, Any] = {
            **dict(zip(names, after or _BEGIN.get(walk.page, ("",) * len(names)), strict=True)),
            "limit": max(limit // walk.share, 1),
            "now": instant.at,
            "before": instant.at - age,
            "before_due": instant.due - age,
        }

        def look(connection: apsw.Connection) -> tuple[Any, Sorted]:
            next, keys = fetch(connection, _SQL[f"prune_{walk.page}_page"], parameters)
            return next, self._sort(connection, walk, keys, instant)

        next, found = await self._engine.read(look)
        if found.going and not wanted.dry_run:
            keys = found.keys
            pruned = await self._engine.write(lambda con: self._delete(con, walk, wanted.kind, keys, instant))
            found = Sorted(pruned.going, found.kept + pruned.kept)
        return found.told(None if next is None else tuple(next) if isinstance(next, list) else (next,))

    def _sort(self, connection: apsw.Connection, walk: Walk, keys: Sequence[Any], instant: Instant) -> Sorted:
        parameters = {
            "keys": encode(keys),
            "row": ROW_BYTES,
            "most": walk.most,
            "worth_telling": instant.due - notices.KEPT,
        }
        rows = fetch(connection, _SQL[f"prune_{walk.noun}_find"], parameters)
        return walk.sort(rows, self._engine.aside)

    def _delete(
        self, connection: apsw.Connection, walk: Walk, kind: Prunable, keys: Sequence[Any], instant: Instant
    ) -> Sorted:
        found = self._sort(connection, walk, keys, instant)
        if found.going:
            connection.execute(_SQL[f"prune_{walk.noun}_delete"], {"keys": encode(found.keys)})
            connection.execute(_SQL["prune_mark"], {"kind": kind, "newest": found.newest_id})
        return found

    async def find_newest_pruned(self, kind: Prunable) -> str | None:
        found = await self._engine.read(lambda con: con.execute(_SQL["find_newest_pruned"], {"kind": kind}).get)
        return found or None

    async def take_turn(self, kind: Prunable, seconds: float, *, now: datetime | None = None) -> bool:
        instant = self._clock.now(now).due
        parameters = {"kind": kind, "now": instant, "until": instant + int(seconds * SECOND)}
        return await self._engine.write(lambda con: con.execute(_SQL["take_turn"], parameters).get is not None)

    async def end_unused_sessions(self, limit: int, *, now: datetime | None = None) -> int:
        instant = self._clock.now(now).at

        def find(connection: apsw.Connection) -> Any:
            return fetch(connection, _SQL["end_unused_sessions_find"], {"limit": limit})

        def end(connection: apsw.Connection) -> int:
            connection.execute(_SQL["end_unused_sessions"], {"ids": encode(find(connection)), "at": instant})
            return connection.changes()

        return await self._engine.write(end) if await self._engine.read(find) else 0

    async def release_space(self, most_bytes: int) -> int:
        """See the port. The file itself shrinks with a checkpoint, which the last step asks for."""

        def release(connection: apsw.Connection) -> tuple[int, int]:
            before = connection.pragma("freelist_count")
            if not before or connection.pragma("auto_vacuum") != _INCREMENTAL:
                return 0, 0
            size = connection.pragma("page_size")
            deadline = time.monotonic() + _LONGEST_STEP
            # A row is a page, and each gives up Python's lock: beside a busy thread a page may take 5 ms.
            with closing(connection.execute(_SQL["release_space"])) as pages:
                for number, _ in enumerate(pages, 1):
                    if number * size >= most_bytes or time.monotonic() >= deadline:
                        break
            left = connection.pragma("freelist_count")
            return (before - left) * size, left

        released, left = await self._engine.write(release)
        if released and not left:
            await self._engine.read(lambda con: con.in_transaction or con.wal_checkpoint())
        return released

    async def find_space_advice(self) -> str | None:

        def find(connection: apsw.Connection) -> str | None:
            free = connection.pragma("freelist_count") * connection.pragma("page_size")
            if free < _WORTH_ADVICE or connection.pragma("auto_vacuum") == _INCREMENTAL:
                return None
            return (
                f"The file keeps {free / 2**20:,.0f} MiB that are free: it was made before its pages could be given "
                "back. New messages fill them again. To give them back, and from then on by themselves, stop the "
                "processes that use the store and run `agent-messaging db compact`."
            )

        return await self._engine.read(find)
