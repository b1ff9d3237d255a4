"""A mailbox of a million unread messages: to read a page of it, and to send into it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import asyncpg

from agent_messaging import AgentMessaging
from agent_messaging.config import parse_url
from agent_messaging.payloads import checksum

from .harness import Bench, Row, at_least, below, percentile, rate
from .raw import PAYLOAD, open_sqlite
from .team import started

MESSAGES = 1_000_000
OPEN = 0.05
"""The share that is not handled yet: half of what a mailbox accepts by default. All of them are unread."""
PAGES = 300
PAGE = 100
PAGE_LIMIT = 10.0
"""Milliseconds, p99."""
SENDS = 4_000
SENDERS = [f"sender-{number}" for number in range(64)]
SLOWER = 0.8
"""What still counts as not slower: two rates on one machine differ by chance."""

_CONTENT = '{"text":"The quarterly figures are in; please look at the third table.","number":0,"urgent":false}'

_FILL_SQLITE = """
create temp table load as with recursive n (seq) as (select 1 union all select seq + 1 from n where seq < :count)
select seq from n;
insert into messages (seq, id, kind, sender_id, recipient_id, content, checksum, created_at)
select seq, printf('00000000-0000-7000-8000-%012x', seq), 'one_way', :sender, :recipient, :content, :checksum, :at + seq
from load;
insert into deliveries (
  seq, recipient_id, kind, sender_id, state, token, attempt, max_attempts, queued_due, claimed_at, settled_at
)
select seq, :recipient, 'one_way', :sender, iif(seq > :done, 'queued', 'done'), seq <= :done, seq <= :done, 5,
  :at + seq, iif(seq > :done, null, :at + seq), iif(seq > :done, null, :at + seq)
from load;
drop table load;
"""
_FILL_POSTGRES = (
    """
insert into messages (seq, id, kind, sender_id, recipient_id, content, checksum, created_at)
select seq, ('00000000-0000-7000-8000-' || lpad(to_hex(seq), 12, '0'))::uuid, 'one_way', $2::text::uuid,
  $3::text::uuid, $4::text, $5::bigint, now() - make_interval(secs => $1::bigint - seq)
from generate_series(1, $1::bigint) as seq
""",
    """
insert into deliveries (seq, recipient_id, kind, sender_id, state, token, attempt, max_attempts, queued_at, settled_at)
select seq, $3::text::uuid, 'one_way', $2::text::uuid, case when seq > $4 then 'queued' else 'done' end,
  (seq <= $4)::integer, (seq <= $4)::integer, 5, now(), case when seq <= $4 then now() end
from generate_series(1, $1::bigint) as seq
""",
    "select setval('messages_seq_seq', $1::bigint)",
)
_PAGE_SQLITE = """
select m.* from deliveries as d indexed by deliveries_received cross join messages as m on m.seq = d.seq
where d.filed = 1 and d.recipient_id = ? and d.kind = 'one_way' and d.is_unread = 1 order by d.seq desc limit ?
"""
_PAGE_POSTGRES = """
select m.* from deliveries d join messages m on m.seq = d.seq
where d.recipient_id = $1::text::uuid and d.kind = 'one_way' and d.read_at is null order by d.seq desc limit $2
"""


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """The full mailbox beside the driver's own page, and beside an empty mailbox in an empty store."""
    count = bench.count(MESSAGES, least=2_000)
    for backend in bench.backends:
        async with AsyncExitStack() as stack:
            full_url = await stack.enter_async_context(backend.fresh())
            empty_url = await stack.enter_async_context(backend.fresh())
            full = await stack.enter_async_context(started(full_url, [*SENDERS, "full"]))
            await _fill(full_url, full, count)

            pages, raw = [], []
            for _ in range(bench.count(PAGES, least=5)):
                began = time.perf_counter()
                page = await full.one_way.get_received_messages("full", include_read=False, limit=PAGE)
                pages.append(time.perf_counter() - began)
                assert len(page) == PAGE
            raw = await _read_raw(full_url, str(await _id(full, "full")), len(pages))
            name = f"{backend.name}, {count:,} messages, unread page of {PAGE}"
            yield Row(f"{name}, p50", percentile(pages, 0.5), percentile(raw, 0.5), note="raw: the driver's page")
            yield below(PAGE_LIMIT, "  p99", percentile(pages, 0.99), percentile(raw, 0.99))

            empties = [f"empty-{number}" for number in range(bench.repetitions)]
            empty = await stack.enter_async_context(started(empty_url, [*SENDERS, *empties]))
            into_full, into_empty = [], []
            for recipient in empties:
                into_empty.append(await _send(empty, recipient, bench.count(SENDS, least=64)))
                into_full.append(await _send(full, "full", bench.count(SENDS, least=64)))
            name = f"{backend.name}, sending into it"
            yield at_least(SLOWER, name, rate(into_full), rate(into_empty), "raw: into an empty one, in an empty store")


async def _id(sdk: AgentMessaging[Any, Any, Any], agent: str) -> Any:
    return (await sdk.get_agent(agent)).id


async def _send(sdk: AgentMessaging[Any, Any, Any], recipient: str, count: int) -> float:
    each = max(1, count // len(SENDERS))

    async def send(sender: str) -> None:
        for number in range(each):
            await sdk.one_way.send(sender, recipient, {**PAYLOAD, "number": number}, require_handler=False)

    began = time.perf_counter()
    await asyncio.gather(*(send(sender) for sender in SENDERS))
    return each * len(SENDERS) / (time.perf_counter() - began)


async def _fill(url: str, sdk: AgentMessaging[Any, Any, Any], count: int) -> None:
    """Rows as the SDK would have left them, written directly: by sending it would take minutes."""
    sender, recipient = str(await _id(sdk, SENDERS[0])), str(await _id(sdk, "full"))
    done, crc = count - int(count * OPEN), checksum(_CONTENT, None)
    path = parse_url(url).path
    if path is not None:
        await asyncio.to_thread(_fill_sqlite, path, count, done, sender, recipient, crc)
        return
    connection = await asyncpg.connect(url)
    try:
        messages, deliveries, sequence = _FILL_POSTGRES
        await connection.execute(messages, count, sender, recipient, _CONTENT, crc)
        await connection.execute(deliveries, count, sender, recipient, done)
        await connection.execute(sequence, count)
        await connection.execute("vacuum (analyze) messages, deliveries")  # as its autovacuum would have done by then
    finally:
        await connection.close()


def _fill_sqlite(path: str, count: int, done: int, sender: str, recipient: str, crc: int) -> None:
    connection = open_sqlite(path)
    try:
        connection.pragma("synchronous", "off")
        connection.pragma("foreign_keys", 0)
        values = {"sender": sender, "recipient": recipient, "content": _CONTENT, "checksum": crc}
        at = time.time_ns() // 1_000 - count
        connection.execute("begin immediate")
        connection.execute(_FILL_SQLITE, {**values, "count": count, "done": done, "at": at})
        connection.execute("commit")
        connection.pragma("wal_checkpoint", "truncate")
    finally:
        connection.close()


async def _read_raw(url: str, recipient: str, times: int) -> list[float]:
    path = parse_url(url).path
    if path is not None:
        return await asyncio.to_thread(_read_sqlite, path, recipient, times)
    connection = await asyncpg.connect(url)
    try:
        taken = []
        for _ in range(times):
            began = time.perf_counter()
            await connection.fetch(_PAGE_POSTGRES, recipient, PAGE)
            taken.append(time.perf_counter() - began)
        return taken
    finally:
        await connection.close()


def _read_sqlite(path: str, recipient: str, times: int) -> list[float]:
    connection = open_sqlite(path)
    try:
        taken = []
        for _ in range(times):
            began = time.perf_counter()
            assert len(list(connection.execute(_PAGE_SQLITE, (recipient, PAGE)))) == PAGE
            taken.append(time.perf_counter() - began)
        return taken
    finally:
        connection.close()
