"""Searching in SQLite: an index of words by FTS5, which keeps neither texts nor places."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import apsw

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
from .clock import SECOND, StoreClock, to_datetime, to_microseconds_or_none
from .engine import Engine, fetch
from .filing import file_step
from .rows import encode

if TYPE_CHECKING:
    from ...search.language import Clause, Element, Formula

_SQL = Queries(__package__, "search")


class SQLiteSearch:
    """See `ports.SearchStore`."""

    def __init__(self, engine: Engine, clock: StoreClock) -> None:
        self._engine = engine
        self._clock = clock

    async def find_candidates(
        self, formula: Formula | None, scope: Scope, *, limit: int, before: int | None = None
    ) -> list[Candidate]:
        parameters = {
            "words": None if formula is None else " OR ".join(map(_spell, formula.clauses)) or None,
            "without": None if formula is None else _join(" OR ", formula.without) or None,
            "kinds": encode(scope.kinds),
            "senders": None if scope.sender_ids is None else encode(scope.sender_ids),
            "recipients": None if scope.recipient_ids is None else encode(scope.recipient_ids),
            "session": scope.session_id,
            "meeting": scope.meeting_id,
            "thread": scope.thread,
            "from": to_microseconds_or_none(scope.date_from),
            "to": to_microseconds_or_none(scope.date_to),
            "needles": encode(scope.needles),
            "before": ABOVE_ALL if before is None else before,
            "limit": limit,
        }
        rows = await self._engine.read(lambda con: fetch(con, _SQL["search_find"], parameters))
        return [Candidate(*row) for row in rows]

    async def load(self, seqs: Sequence[int]) -> list[SearchedMessage]:
        rows = await self._engine.read(lambda con: fetch(con, _SQL["search_load"], {"seqs": encode(seqs)}))
        return self._engine.aside.all(_message, rows, "a message")

    async def progress(self) -> IndexProgress:
        return IndexProgress(*await self._engine.read(lambda con: fetch(con, _SQL["search_progress"], {})))

    async def lead(self, process_id: str, seconds: float, *, now: datetime | None = None) -> int | None:
        instant = self._clock.now(now).due
        parameters = {"owner": process_id, "now": instant, "until": instant + int(seconds * SECOND)}

        def lead(connection: apsw.Connection) -> int | None:
            found: int | None = connection.execute(_SQL["search_lead"], parameters).get
            return found

        return await self._engine.write(lead)

    async def list_unindexed(self, after: int, *, limit: int, most_bytes: int) -> IndexBatch:
        """See the port. There is one writer at a time: nothing precedes what is committed."""
        horizon = (await self.progress()).newest
        parameters = {"after": after, "horizon": horizon, "kinds": encode(SEARCHED), "limit": limit}
        parameters["most_bytes"] = most_bytes
        rows = await self._engine.read(lambda con: fetch(con, _SQL["search_unindexed"], parameters))
        messages = self._engine.aside.all(lambda row: UnindexedMessage(*row[:-1]), rows, "a message")
        # By the statement's own measure: if it ended by size, there may be others before the horizon.
        is_last = len(rows) < limit and sum(row[-1] for row in rows) < most_bytes
        return IndexBatch(messages, horizon if is_last or not rows else rows[-1][0])

    async def index(self, process_id: str, after: int, to: int, entries: Sequence[IndexEntry]) -> bool:
        parameters = {"owner": process_id, "after": after, "to": to}
        rows = encode([(entry.seq, " ".join(entry.words)) for entry in entries if entry.words])

        def write(connection: apsw.Connection) -> bool:
            connection.execute(_SQL["search_advance"], parameters)
            if not connection.changes():
                return False
            connection.execute(_SQL["search_insert"], {"entries": rows})
            return True

        return await self._engine.write(write, size=len(rows))

    async def restart(self) -> None:
        def write(connection: apsw.Connection) -> None:
            connection.execute(_SQL["search_clear"])
            connection.execute(_SQL["search_restart"])
            connection.execute(_SQL["search_forget"])
            connection.execute(_SQL["search_refile"])

        await self._engine.write(write)
        while await self._engine.write(file_step):
            pass


def _message(row: list[Any]) -> SearchedMessage:
    seq, id, kind, sender_id, recipient_id, session_id, meeting_id, thread, topic, *body, created_at = row
    content, metadata, checksum = body
    agents, place = (sender_id, recipient_id), (session_id, meeting_id, thread, topic)
    return SearchedMessage(seq, id, Kind(kind), *agents, *place, content, metadata, checksum, to_datetime(created_at))


def _spell(clause: Clause) -> str:
    """A clause as FTS5 reads it."""
    wanted = f"({_join(' AND ', clause.wanted)})"
    return f"({wanted} NOT ({_join(' OR ', clause.unwanted)}))" if clause.unwanted else wanted


def _join(between: str, elements: Sequence[Element]) -> str:
    """Words as FTS5 reads them. They are letters and digits, so nothing in one ends its quotes."""
    return between.join(f'"{one.word}"*' if one.is_prefix else f'"{one.word}"' for one in elements)
