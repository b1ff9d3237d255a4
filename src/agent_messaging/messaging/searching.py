"""One search: the way from a query to a page of matches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime

from ..arguments import check_external_id
from ..bodies import Body, open_or_mark
from ..delivery.engine import Engine
from ..exceptions import InvalidArgumentError, StorageCorruptError
from ..loggers import get_logger
from ..models import Record
from ..records import dataclass
from ..search.language import Alternative, Query, parse
from ..search.metadata import MetadataFilter, make_filter
from ..search.ranking import Judge, Match
from ..search.words import strings
from ..storage.batches import MAX_BYTES, take
from ..storage.ports import Candidate, Scope, SearchedMessage

__all__ = ["EVERYTHING", "Searching", "make_filter", "parse"]

logger = get_logger("agent_messaging.messaging")

EVERYTHING = Query((Alternative(),))
"""Matches every message, all equally well."""
RANKED = 1_000
"""Matches that are ranked together: of more, the newest thousand comes before the next."""
_PAGE = 1_000
"""Candidates asked for at once."""
_AT_ONCE = 50
"""Matches that are shown, read at once."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A match, without its text."""

    seq: int
    created_at: datetime
    match: Match


class Searching:
    """One search."""

    def __init__(self, engine: Engine, query: Query, filter: MetadataFilter | None) -> None:
        self.search = engine.store.search
        self.names = engine.names
        self.query = query
        self.filter = filter
        self.judge = Judge(query)
        self._other_senders: set[str] = set()
        self._other_recipients: set[str] = set()
        self._to_itself = True
        """Whether what an agent sent to itself is among what is looked for."""

    async def run(
        self, scope: Scope, sender: str | None, recipient: str | None, limit: int, offset: int
    ) -> list[Record]:
        """Find the page."""
        return await self._run(await self._name_agents(scope, sender, recipient), limit, offset)

    async def run_between(self, scope: Scope, pair: tuple[str, str], limit: int, offset: int) -> list[Record]:
        """Find the page of what two agents have sent to each other."""
        await self.names.refresh(pair)
        agents = [(await self.names.get(name)).id for name in pair]
        self._to_itself = False
        return await self._run(replace(scope, sender_ids=agents, recipient_ids=agents), limit, offset)

    async def _run(self, scope: Scope, limit: int, offset: int) -> list[Record]:
        page: list[tuple[_Found, float]] = []
        left = offset
        together: list[_Found] = []
        async with aclosing(self._walk(scope)) as matches:
            async for found in matches:
                together.append(found)
                if len(together) == RANKED:
                    left = self._choose(page, together, left, limit)
                    together = []
                    if len(page) == limit:
                        break
        self._choose(page, together, left, limit)
        return await self._describe(page)

    async def _name_agents(self, scope: Scope, sender: str | None, recipient: str | None) -> Scope:
        """The scope with the agents of the arguments and of the query. What the query names need not exist."""
        query = self.query
        given = [one for one in (sender, recipient) if one is not None]
        written = (*query.senders, *query.recipients, *query.other_senders, *query.other_recipients)
        named = {*given, *(name for name in written if _is_external_id(name))}
        await self.names.refresh(named)  # a cached one may have been removed, or registered anew
        ids = {name: agent.id for name, agent in (await self.names.find_all(named)).items()}

        async def choose(role: str, argument: str | None, written: Sequence[str]) -> list[str] | None:
            chosen = None if not written else {ids[name] for name in written if name in ids}
            if argument is not None:
                agent = await self.names.get(argument, role=role)
                chosen = {agent.id} if chosen is None else chosen & {agent.id}
            return None if chosen is None else sorted(chosen)

        self._other_senders = {ids[name] for name in query.other_senders if name in ids}
        self._other_recipients = {ids[name] for name in query.other_recipients if name in ids}
        return replace(
            scope,
            sender_ids=await choose("sender", sender, query.senders),
            recipient_ids=await choose("recipient", recipient, query.recipients),
        )

    def _choose(self, page: list[tuple[_Found, float]], together: list[_Found], left: int, limit: int) -> int:
        """Rank these together, and take what belongs to the page; returns what is still to be passed over."""
        ranked = sorted(
            zip(together, self.judge.rank([found.match for found in together]), strict=True),
            key=lambda one: (one[1], one[0].created_at, one[0].seq),
            reverse=True,
        )
        page += ranked[left : left + limit - len(page)]
        return max(left - len(ranked), 0)

    async def _walk(self, scope: Scope) -> AsyncGenerator[_Found, None]:
        """The matches of the scope, the newest first."""
        formula, before = self.query.formula, None
        if scope.sender_ids == [] or scope.recipient_ids == []:
            return
        while True:
            try:
                candidates = await self.search.find_candidates(formula, scope, limit=_PAGE, before=before)
            except StorageCorruptError as error:
                if formula is None:
                    raise
                logger.error("the search index is damaged; run `agent-messaging db reindex`: %s", error)
                formula = None  # then all messages are candidates, and the index is not asked
                continue
            left: Sequence[Candidate] = candidates
            while left:
                batch = take(left, lambda one: one.size_bytes, most=_PAGE, most_bytes=MAX_BYTES)
                left = left[len(batch) :]
                rows = await self.search.load([one.seq for one in batch])
                for found in await asyncio.to_thread(self._judge, rows):
                    yield found
            if len(candidates) < _PAGE:
                return
            before = candidates[-1].seq

    def _judge(self, rows: Sequence[SearchedMessage]) -> list[_Found]:
        found = []
        for row in sorted(rows, key=lambda row: -row.seq):
            if row.sender_id in self._other_senders or row.recipient_id in self._other_recipients:
                continue
            if row.sender_id == row.recipient_id and not self._to_itself:
                continue
            body = _open(row)
            if body.is_damaged or (self.filter is not None and not self.filter.fits(body.metadata)):
                continue
            if (match := self.judge.judge(strings(body.content))) is not None:
                found.append(_Found(row.seq, row.created_at, match))
        return found

    async def _describe(self, page: Sequence[tuple[_Found, float]]) -> list[Record]:
        records: list[Record] = []
        for start in range(0, len(page), _AT_ONCE):
            part = page[start : start + _AT_ONCE]
            rows = await self.search.load([found.seq for found, _ in part])
            ids = {row.sender_id for row in rows} | {row.recipient_id for row in rows if row.recipient_id is not None}
            external = {id: agent.external_id for id, agent in (await self.names.find_by_id(ids)).items()}
            records += await asyncio.to_thread(self._make_records, part, rows, external)  # texts of up to 100,000
        return records

    def _make_records(
        self, part: Sequence[tuple[_Found, float]], rows: Sequence[SearchedMessage], external: Mapping[str, str]
    ) -> list[Record]:
        by_seq = {row.seq: row for row in rows}
        return [self._record(by_seq[one.seq], rank, external) for one, rank in part if one.seq in by_seq]

    def _record(self, row: SearchedMessage, rank: float, external: Mapping[str, str]) -> Record:
        body = _open(row)
        snippet = self.judge.cut(strings(body.content))
        sender, recipient = external.get(row.sender_id), external.get(row.recipient_id or "")
        return Record(
            id=row.message_id,
            sender=sender,
            recipient=recipient,
            content=body.content,
            timestamp=row.created_at,
            ts_rank=rank,
            rank=rank,
            snippet=snippet.marked,
            excerpt=snippet.text,
            snippet_hits=list(snippet.hits),
            kind=row.kind.value,
            message_id=row.message_id,
            sender_id=sender,
            recipient_id=recipient,
            created_at=row.created_at,
            session_id=row.session_id,
            meeting_id=row.meeting_id,
            thread=row.thread or None,
            topic=row.topic,
            metadata=body.metadata,
        )


def _is_external_id(name: str) -> bool:
    """Whether an agent may have this name. A query may hold what a store does not even take, such as a NUL."""
    try:
        check_external_id(name, field="search_query")
    except InvalidArgumentError:
        return False
    return True


def _open(row: SearchedMessage) -> Body:
    return open_or_mark(row, f"message {row.message_id}")
