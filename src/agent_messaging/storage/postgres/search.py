"""Searching in PostgreSQL: an index of words by `tsvector` and GIN, which keeps neither texts nor places."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ...exceptions import DatabaseError
from ...models import Kind
from ..batches import ABOVE_ALL
from ..ports import (
    SEARCHED,
    Candidate,
    IndexBatch,
    IndexEntry,
    IndexProgress,
    Scope,
    SearchedMessage,
    UnindexedMessage,
)
from ..sql import Queries
from .engine import Connection, Engine, count_of

if TYPE_CHECKING:
    from ...search.language import Clause, Element, Formula

_SQL = Queries(__package__, "search")
_KINDS = [str(kind) for kind in SEARCHED]
_PATIENCE = 1.0
"""Seconds to wait for the transactions in flight; with longer ones the index waits for its next turn."""
_GLANCE = 0.01
_LONG = 120.0
"""Seconds that emptying the index may take."""
_NEAR = 20_000
"""The newest messages, by their seq, among which the beginning of a word is looked for first. One that is found too
seldom there is rare, and then it is quicker to read all that the index has of it."""
_FEW = 10_000
"""Messages, of which the server needs no statistics: it reads them all in no time."""


class PostgresSearch:
    """See `ports.SearchStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def find_candidates(
        self, formula: Formula | None, scope: Scope, *, limit: int, before: int | None = None
    ) -> list[Candidate]:
        before = ABOVE_ALL if before is None else before
        values = (
            None if formula is None else " | ".join(map(_spell, formula.clauses)) or None,
            before,
            [str(kind) for kind in scope.kinds],
            scope.sender_ids,
            scope.recipient_ids,
            scope.session_id,
            scope.meeting_id,
            scope.thread,
            scope.date_from,
            scope.date_to,
            list(scope.needles),
            limit,
            None if formula is None else _join(" | ", formula.without) or None,
        )

        has_beginnings = formula is not None and any(
            element.is_prefix for clause in formula.clauses for element in clause.wanted
        )

        async def find(connection: Connection) -> Any:
            await connection.execute(_SQL["search_settings"])
            if has_beginnings:
                ((indexed_to,),) = await connection.fetch(_SQL["search_reach"])
                near = max(min(before, indexed_to) - _NEAR, 0)
                rows = await connection.fetch(_SQL["search_find"], *values, near, False)
                if len(rows) == limit or not near:
                    return rows
            return await connection.fetch(_SQL["search_find"], *values, 0, has_beginnings)

        rows = await self._engine.run(find, write=True, repeatable=True)
        return [Candidate(row["seq"], row["size"]) for row in rows]

    async def load(self, seqs: Sequence[int]) -> list[SearchedMessage]:
        rows = await self._engine.fetch(_SQL["search_load"], seqs)
        return self._engine.aside.all(_message, rows, "a message")

    async def progress(self) -> IndexProgress:
        (row,) = await self._engine.fetch(_SQL["search_progress"])
        return IndexProgress(**row)

    async def lead(self, process_id: str, seconds: float, *, now: datetime | None = None) -> int | None:
        rows = await self._engine.change(_SQL["search_lead"], process_id, seconds, now, repeatable=True)
        return rows[0]["indexed_to"] if rows else None

    async def list_unindexed(self, after: int, *, limit: int, most_bytes: int) -> IndexBatch:
        if (horizon := await self._find_horizon()) <= after:
            return IndexBatch([], after)
        rows = await self._engine.fetch(_SQL["search_unindexed"], after, horizon, _KINDS, limit, most_bytes)
        messages = [UnindexedMessage(**row) for row in rows]
        is_last = len(rows) < limit and sum(len(message.content.encode()) for message in messages) < most_bytes
        return IndexBatch(messages, horizon if is_last or not rows else messages[-1].seq)

    async def _find_horizon(self) -> int:
        """A seq up to which every message is committed or never will be; 0 while an older transaction goes on."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE
        (row,) = await self._engine.fetch(_SQL["search_horizon"])
        newest, in_flight = row["newest"], set(row["in_flight"])
        while in_flight:
            if loop.time() >= deadline:
                return 0
            await asyncio.sleep(_GLANCE)
            (row,) = await self._engine.fetch(_SQL["search_horizon"])
            in_flight &= set(row["in_flight"])
        return int(newest)

    async def index(self, process_id: str, after: int, to: int, entries: Sequence[IndexEntry]) -> bool:
        rows = [(entry.seq, " ".join(entry.words)) for entry in entries if entry.words]

        async def write(connection: Connection) -> bool:
            if not count_of(await connection.execute(_SQL["search_advance"], process_id, after, to)):
                return False
            await connection.execute(_SQL["search_insert"], [seq for seq, _ in rows], [words for _, words in rows])
            await connection.execute(_SQL["search_count"], after, to)
            return True

        is_done = await self._engine.run(write, write=True)
        if is_done and to >= _FEW and to.bit_length() > after.bit_length():  # twice as many as when it was done last
            with suppress(DatabaseError):  # the server does it itself, a minute or two later
                await self._engine.run(lambda con: con.execute(_SQL["search_analyze"]), write=False, budget=_LONG)
        return is_done

    async def restart(self) -> None:
        async def write(connection: Connection) -> None:
            await connection.execute(_SQL["search_restart"])
            await connection.execute(_SQL["search_clear"])
            await connection.execute(_SQL["search_lock"])
            await connection.execute(_SQL["search_forget"])

        await self._engine.run(write, write=True, repeatable=True, budget=_LONG)


def _message(row: Any) -> SearchedMessage:
    return SearchedMessage(**{**row, "kind": Kind(row["kind"])})


def _spell(clause: Clause) -> str:
    """A clause as a tsquery."""
    wanted = f"({_join(' & ', clause.wanted)})"
    return f"({wanted} & !({_join(' | ', clause.unwanted)}))" if clause.unwanted else wanted


def _join(between: str, elements: Sequence[Element]) -> str:
    """Words as a tsquery has them. They are letters and digits, so nothing in one ends its quotes."""
    return between.join(f"'{one.word}':*" if one.is_prefix else f"'{one.word}'" for one in elements)
