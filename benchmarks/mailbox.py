"""A mailbox of a million unread messages: to read a page of it, and to send into it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg

from agent_messaging import AgentMessaging
from agent_messaging.config import parse_url
from agent_messaging.search.words import index_words, strings

from .harness import Bench, Row, at_least, below, percentile, rate, timed
from .raw import PAYLOAD
from .rows import multiply, open_sqlite
from .team import Load, fill, nothing, started

MESSAGES = 1_000_000
OPEN = 0.05
"""The share that is not handled yet: half of what a mailbox accepts by default. All of them are unread."""
PAGES = 300
FILTERS = 10
PAGE = 100
PAGE_LIMIT = 10.0
"""Milliseconds, p99."""
OTHERS, FILLING = Load("others", senders=1, recipients=1, at_once=1), 1_024
SENDS = 4_000
SINGLE = 1_000
"""Sends whose time is taken one by one."""
SENDERS = [f"sender-{number}" for number in range(64)]
SLOWER = 0.8
"""What still counts as not slower: two rates on one machine differ by chance."""
_COPIES_SQLITE = """
begin immediate;
insert into search_words (rowid, words)
with recursive n (n) as (
  select indexed_to + 1 from search_state where indexed_to < :to union all select n + 1 from n where n < :to
)
select n, :words from n;
update search_state set indexed_to = max(indexed_to, :to), owner = null;
commit
"""
_COPIES_POSTGRES = """
with copies as (
  insert into search_words (seq, words)
  select n, array_to_tsvector(string_to_array($2, ' '))
  from search_state s, generate_series(s.indexed_to + 1, $1::bigint) n
),
counts as (
  insert into unread_counts as u (agent_id, kind, unread, is_sum)
  select d.recipient_id, d.kind, count(*), true from search_state s join deliveries d on d.seq > s.indexed_to
  where d.seq <= $1::bigint and d.read_at is null group by d.recipient_id, d.kind
  on conflict (agent_id, kind) where is_sum do update set unread = u.unread + excluded.unread
)
update search_state set indexed_to = greatest(indexed_to, $1::bigint), owner = null
"""


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """The full mailbox beside the driver's own page, and beside an empty mailbox in an empty store."""
    count = bench.count(MESSAGES, least=2_000)
    for backend in bench.backends:
        async with AsyncExitStack() as stack:
            full_url = await stack.enter_async_context(backend.fresh())
            empty_url = await stack.enter_async_context(backend.fresh())
            await fill_mailbox(full_url, count)
            await index_copies(full_url, FILLING + count)
            await tidy(full_url)
            full = await stack.enter_async_context(started(full_url, [*SENDERS, "full"]))

            pages, raw = [], []
            async with _reader(full_url) as read:
                for _ in range(bench.count(PAGES, least=5)):
                    began = time.perf_counter()
                    page = await full.one_way.get_received_messages("full", include_read=False, limit=PAGE)
                    pages.append(time.perf_counter() - began)
                    assert len(page) == PAGE
                    raw.append(await timed(read))
            name = f"{backend.name}, {count:,} messages, unread page of {PAGE}"
            note = "raw: the driver reads as many messages by number"
            yield Row(f"{name}, p50", percentile(pages, 0.5), percentile(raw, 0.5), note=note)
            yield below(PAGE_LIMIT, f"{name}, p99", percentile(pages, 0.99), percentile(raw, 0.99))
            async for row in _count_and_filter(bench, full, f"{backend.name}, {count:,} messages", count):
                yield row

            empties = [f"empty-{number}" for number in range(bench.repetitions)]
            empty = await stack.enter_async_context(started(empty_url, [*SENDERS, *empties]))
            into_full, into_empty = [], []
            for recipient in empties:
                into_empty.append(await send_into(empty, recipient, bench.count(SENDS, least=64)))
                into_full.append(await send_into(full, "full", bench.count(SENDS, least=64)))
            name, note = f"{backend.name}, sending into it", "raw: into an empty one, in an empty store"
            yield at_least(SLOWER, f"{name}, 64 senders", rate(into_full), rate(into_empty), note)
            single = bench.count(SINGLE, least=20)
            alone_empty, alone_full = (
                await _send_each(empty, empties[0], single),
                await _send_each(full, "full", single),
            )
            for share, shown in ((0.5, "p50"), (0.99, "p99")):
                figure, raw = percentile(alone_full, share), percentile(alone_empty, share)
                yield Row(f"{name}, one call after the other, {shown}", figure, raw, note=note)


async def _count_and_filter(
    bench: Bench, sdk: AgentMessaging[Any, Any, Any], name: str, count: int
) -> AsyncIterator[Row]:
    counts, filters = [], []
    for _ in range(bench.count(PAGES, least=5)):
        began = time.perf_counter()
        unread = await sdk.one_way.get_message_count("full", read_status=False)
        counts.append(time.perf_counter() - began)
        assert unread == count
    yield Row(f"{name}, count of unread, p50", percentile(counts, 0.5))
    yield below(PAGE_LIMIT, f"{name}, count of unread, p99", percentile(counts, 0.99))
    # The one that fits is the oldest but all: every other one is passed over.
    for _ in range(bench.count(FILTERS, least=2)):
        began = time.perf_counter()
        page = await sdk.one_way.get_received_messages("full", metadata_filter={"ticket": 7})
        filters.append(time.perf_counter() - began)
        assert len(page) == 1
    yield Row(f"{name}, list with a filter of metadata that one fits, p50", percentile(filters, 0.5))
    yield Row(f"{name}, list with a filter of metadata that one fits, p99", percentile(filters, 0.99))


async def _send_each(sdk: AgentMessaging[Any, Any, Any], recipient: str, count: int) -> list[float]:
    """Seconds of each of so many sends, one after the other."""
    return [
        await timed(lambda: sdk.one_way.send(SENDERS[0], recipient, PAYLOAD, require_handler=False))
        for _ in range(count)
    ]


async def send_into(sdk: AgentMessaging[Any, Any, Any], recipient: str, count: int) -> float:
    """Messages per second that all senders together send to one agent."""
    each = max(1, count // len(SENDERS))

    async def send(sender: str) -> None:
        for number in range(each):
            await sdk.one_way.send(sender, recipient, {**PAYLOAD, "number": number}, require_handler=False)

    began = time.perf_counter()
    await asyncio.gather(*(send(sender) for sender in SENDERS))
    return each * len(SENDERS) / (time.perf_counter() - began)


async def fill_mailbox(url: str, count: int) -> None:
    """Copies of two messages that the SDK has stored, one handled and one not: by sending it would take minutes."""
    for handled in (True, False):
        async with started(url, [*SENDERS, "full"]) as sdk:
            if handled:
                sdk.register_handler("full")(nothing)
            sent = await sdk.one_way.send(SENDERS[0], "full", PAYLOAD, require_handler=handled)
            if handled:
                await sdk.receipts.wait(sent)
            else:
                await sdk.one_way.send(SENDERS[0], "full", PAYLOAD, {"ticket": 7}, require_handler=False)
    await fill(url, OTHERS, FILLING)  # after so many, whatever the store does behind the traffic was done to the two
    first, last = FILLING + 4, FILLING + count
    still_open = int(count * OPEN)
    await multiply(url, seq=1, first=first, last=last - still_open)
    await multiply(url, seq=2, first=last - still_open + 1, last=last)
    async with started(url, []) as sdk:
        await sdk.store.search.restart()  # it counts the copies
    await tidy(url)


async def tidy(url: str) -> None:
    """Let a server look at its tables as its autovacuum would have by then."""
    if parse_url(url).path is None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute("vacuum (analyze)")
        finally:
            await connection.close()


async def index_copies(url: str, to: int) -> None:
    """Write into the index what a process would, for the copies of messages up to a number: by it, it takes minutes."""
    words = " ".join(sorted(index_words(strings(PAYLOAD))))
    path = parse_url(url).path
    if path is not None:
        file = open_sqlite(path)
        file.execute(_COPIES_SQLITE, {"to": to, "words": words})
        file.close()
        return
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_COPIES_POSTGRES, to, words)
    finally:
        await connection.close()


@asynccontextmanager
async def _reader(url: str) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """A call that reads a page of messages with the driver alone."""
    path, query = parse_url(url).path, f"select * from messages order by seq desc limit {PAGE}"
    if path is None:
        connection = await asyncpg.connect(url)
        try:
            yield lambda: connection.fetch(query)
        finally:
            await connection.close()
    else:
        file = open_sqlite(path)

        async def read() -> list[object]:
            return list(file.execute(query))

        try:
            yield read
        finally:
            file.close()
