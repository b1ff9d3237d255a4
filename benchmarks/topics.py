"""Topics: what finding one subscriber among ten thousand subscriptions costs, and what publishing to many does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg

from agent_messaging import AgentMessaging
from agent_messaging.config import parse_url

from .harness import Bench, Row, below, percentile
from .raw import PAYLOAD, open_sqlite
from .team import started

SUBSCRIPTIONS = 10_000
"""Of as many agents, to everything of their own, with wildcards in every place."""
PUBLICATIONS = 400
LIMIT = 5.0
"""Milliseconds, p50: to publish among so many."""
CROWDS = (1, 100, 10_000)
TOPICS = {"3 words": "orders.eu.created", "8 words": "orders.eu.de.berlin.mitte.1.2.created"}

_FILL_SQLITE = """
create temp table load as with recursive n (value) as (select 1 union all select value + 1 from n where value < :count)
select value from n;
insert into agents (id, external_id, organization_id, name, created_at, updated_at)
select printf('00000000-0000-7000-8000-%012x', value), printf('reader-%d', value),
  (select id from organizations), '', 1, 1 from load;
insert into subscriptions (pattern, agent_id, created_at)
select replace(:shape, '#', value), printf('00000000-0000-7000-8000-%012x', value), 1 from load;
drop table load;
"""
_FILL_POSTGRES = (
    """
insert into agents (id, external_id, organization_id, name, created_at, updated_at)
select ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'reader-' || n, (select id from organizations),
  '', now(), now() from generate_series(1, $1::bigint) as n
""",
    """
insert into subscriptions (pattern, agent_id, created_at)
select replace($2, '#', n::text), ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, now()
from generate_series(1, $1::bigint) as n
""",
)


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """A publication beside a note that is sent to the same agents; nobody handles either."""
    for backend in bench.backends:
        others = bench.count(SUBSCRIPTIONS, least=100)
        async with backend.fresh() as url, started(url, ["alice", "reader"], mailbox_limit=None) as sdk:
            await _fill(url, others, "of.*.reader-#.>")
            await sdk.topics.subscribe("reader", "orders.>")
            times = bench.count(PUBLICATIONS, least=5)
            notes = await _time(times, lambda number: _send(sdk, ["reader"], number))
            for words, topic in TOPICS.items():
                taken = await _time(times, lambda number, topic=topic: _publish(sdk, topic, number))  # type: ignore[misc]
                name = f"{backend.name}, {others:,} subscriptions, topic of {words}"
                yield below(LIMIT, f"{name}, p50", percentile(taken, 0.5), percentile(notes, 0.5), "raw: a note")
                yield Row("  p99", percentile(taken, 0.99), percentile(notes, 0.99))
        for crowd in CROWDS:
            size = bench.count(crowd)
            async with backend.fresh() as url, started(url, ["alice"], mailbox_limit=None) as sdk:
                await _fill(url, size, "orders.>")
                readers = [f"reader-{number}" for number in range(1, size + 1)]
                times = 3 if crowd > 1_000 else bench.count(PUBLICATIONS, least=5)
                notes = await _time(times, lambda number, to=readers: _send(sdk, to, number))  # type: ignore[misc]
                taken = await _time(times, lambda number: _publish(sdk, TOPICS["3 words"], number))
                name = f"{backend.name}, publish to {size:,}, p50"
                yield Row(name, percentile(taken, 0.5), percentile(notes, 0.5), note="raw: a note to as many")


async def _time(times: int, call: Callable[[int], Awaitable[object]]) -> list[float]:
    taken = []
    for number in range(times):
        began = time.perf_counter()
        await call(number)
        taken.append(time.perf_counter() - began)
    return taken


async def _send(sdk: AgentMessaging[Any, Any, Any], readers: list[str], number: int) -> None:
    await sdk.one_way.send("alice", readers, {**PAYLOAD, "number": number}, require_handler=False)


async def _publish(sdk: AgentMessaging[Any, Any, Any], topic: str, number: int) -> None:
    assert await sdk.topics.publish("alice", topic, {**PAYLOAD, "number": number})


async def _fill(url: str, count: int, shape: str) -> None:
    """Agents and a subscription of each, written directly: by calls it would take a minute."""
    path = parse_url(url).path
    if path is not None:
        await asyncio.to_thread(_fill_sqlite, path, count, shape)
        return
    connection = await asyncpg.connect(url)
    try:
        agents, subscriptions = _FILL_POSTGRES
        await connection.execute(agents, count)
        await connection.execute(subscriptions, count, shape)
    finally:
        await connection.close()


def _fill_sqlite(path: str, count: int, shape: str) -> None:
    connection = open_sqlite(path)
    try:
        connection.execute("begin immediate")
        connection.execute(_FILL_SQLITE, {"count": count, "shape": shape})
        connection.execute("commit")
    finally:
        connection.close()
