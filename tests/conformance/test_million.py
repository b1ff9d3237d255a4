"""A store of a million messages: what lists, counts and searches read there, counted in the store's own steps.

The rows are written by one statement for each table. SQLite counts the steps of its machine, PostgreSQL the rows that a
plan reads and the blocks in which they are. So the speed of the machine plays no part.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import asyncpg
import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import DeliveryState, Kind, MessageType
from agent_messaging.payloads import checksum
from agent_messaging.search.language import parse
from agent_messaging.storage.ports import Narrowing, Role, Scope, Store
from agent_messaging.storage.sql import Queries
from tests.conformance.world import World
from tests.sqlite.test_scale import cost

MANY = 1_000_000
START = datetime(2026, 1, 1, tzinfo=UTC)
STEP = timedelta(milliseconds=1)
"""From one message to the next."""

SQLITE = f"""
with recursive n (n) as (select 1 union all select n + 1 from n where n < {MANY})
insert into messages (
  seq, id, kind, sender_id, recipient_id, session_id, meeting_id, content, metadata, checksum, created_at
)
select n, printf('00000000-0000-7000-8000-%012x', n),
  case n % 20 when 0 then 'conversation' when 1 then 'meeting' else 'one_way' end,
  :alice, iif(n % 20 = 1, null, :bob), iif(n % 20 = 0, :place, null), iif(n % 20 = 1, :place, null),
  '"tea"', iif(n % 10 = 3, '{{"n":3}}', null), iif(n % 10 = 3, :marked, :bare), :start + n * 1000
from n;
insert into deliveries (seq, recipient_id, kind, sender_id, session_id, state, max_attempts, queued_due)
select seq, recipient_id, kind, sender_id, session_id, iif(seq % 10 = 4, 'expired', 'done'), 1, 0
from messages where recipient_id is not null;
insert into search_words (rowid, words)
select seq, 'tea' || iif(seq % 2, ' odd', ' even') || iif(seq % 100000, '', ' zeppelin') from messages;
update search_state set indexed_to = {MANY};
{Queries("agent_messaging.storage.sqlite", "deliveries")["file"]}
"""
POSTGRES = f"""
set session_replication_role = replica;
insert into messages (
  seq, id, kind, sender_id, recipient_id, session_id, meeting_id, content, metadata, checksum, created_at
)
overriding system value
select n, ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
  case n % 20 when 0 then 'conversation' when 1 then 'meeting' else 'one_way' end,
  :alice, case when n % 20 <> 1 then :bob::uuid end, case n % 20 when 0 then :place::uuid end,
  case n % 20 when 1 then :place::uuid end,
  '"tea"', case n % 10 when 3 then '{{"n":3}}' end, case n % 10 when 3 then :marked else :bare end,
  :start::timestamptz + n * interval '1 millisecond'
from generate_series(1, {MANY}) n;
insert into deliveries (seq, recipient_id, kind, sender_id, state, max_attempts, queued_at)
select seq, recipient_id, kind, sender_id, case seq % 10 when 4 then 'expired' else 'done' end, 1, created_at
from messages where recipient_id is not null order by seq;
insert into search_words (seq, words)
select seq, array_to_tsvector(string_to_array('tea' || case seq % 2 when 1 then ' odd' else ' even' end
  || case seq % 100000 when 0 then ' zeppelin' else '' end, ' '))
from messages order by seq;
update search_state set indexed_to = {MANY};
insert into unread_counts (agent_id, kind, unread, is_sum)
select recipient_id, kind, count(*), true from deliveries where read_at is null group by recipient_id, kind
"""

INDEXES = """
select c.relname, pg_get_indexdef(c.oid) from pg_class c join pg_index i on i.indexrelid = c.oid
where i.indrelid = any(array['messages', 'deliveries', 'search_words']::regclass[]::oid[]) and not i.indisunique
"""

Work = Callable[[Callable[[], Awaitable[Any]]], Awaitable[dict[str, int]]]
LIMITS = {"steps": 25_000, "rows": 2_500, "blocks": 2_500}
"""Of a page of 50, or a count."""
SEARCH_LIMITS = {"steps": 600_000, "rows": 60_000, "blocks": 60_000}
"""Of a thousand candidates of a search."""
ROOM = 2 * 2**30
WALK_LIMITS = {"steps": 40 * MANY, "rows": 10 * MANY, "blocks": 10 * MANY}
"""Of a search that may walk through all messages, but opens none of them."""


def fill_sqlite(path: Path, values: dict[str, Any]) -> None:
    """Write the rows while nobody has the store open."""
    connection = apsw.Connection(str(path))
    try:
        connection.pragma("journal_mode", "off")
        connection.pragma("synchronous", "off")
        connection.pragma("cache_size", -400_000)
        connection.pragma("locking_mode", "exclusive")
        connection.execute(
            "begin; " + SQLITE + "; commit", values | {"start": int(START.timestamp() * 1e6), "up_to": MANY}
        )
    finally:
        connection.close()


async def fill_postgres(dsn: str, values: dict[str, Any]) -> None:
    """Write the rows, and let the server look at them as its autovacuum would have by then.

    Without its log, and with the indexes made at the end: a third of the time.
    """
    text = POSTGRES
    for name, value in (values | {"start": START.isoformat()}).items():
        text = text.replace(f":{name}", literal(value))
    connection = await asyncpg.connect(dsn)
    try:
        indexes = await connection.fetch(INDEXES)
        for table in ("messages", "deliveries", "search_words"):
            await connection.execute(f"alter table {table} set unlogged")
        for name, _ in indexes:
            await connection.execute(f"drop index {name}")
        await connection.execute(text)
        for _, definition in indexes:
            await connection.execute(definition)
        await connection.execute("vacuum (analyze) messages, deliveries, search_words, unread_counts")
    finally:
        await connection.close()


def literal(value: Any) -> str:
    """A parameter as it stands in a statement."""
    if value is None or isinstance(value, int):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list | tuple):
        return f"array[{', '.join(map(literal, value))}]" if value else "'{}'"
    return "'" + str(value).replace("'", "''") + "'"


class Explaining:
    """A connection that also has each statement explained: with the plan that a prepared one has."""

    def __init__(self, connection: Any, plans: list[dict[str, Any]]) -> None:
        self._connection = connection
        self._plans = plans

    async def fetch(self, query: str, *values: Any) -> Any:
        await self._connection.execute(f"prepare explained as {query}")
        given = f"({', '.join(map(literal, values))})" if values else ""
        how = "analyze, buffers, timing off, format json"
        (plan,) = json.loads(await self._connection.fetchval(f"explain ({how}) execute explained{given}"))
        await self._connection.execute("deallocate explained")
        self._plans.append(plan["Plan"])
        return await self._connection.fetch(query, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def rows_read(plan: dict[str, Any]) -> int:
    """The rows that a plan comes by, those that it passes over among them."""
    removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
    own = (plan["Actual Rows"] + removed) * plan["Actual Loops"]
    return int(own) + sum(map(rows_read, plan.get("Plans", ())))


@dataclass
class Big:
    """Alice has written a million messages to bob, who has read none."""

    store: Any
    alice: str
    bob: str
    place: str
    """The session, and the meeting, in which she wrote some of them."""


@pytest.fixture
async def big(backend: str, make_store: Callable[[], Store], request: pytest.FixtureRequest) -> AsyncIterator[Big]:
    """Such a store, open. It takes half a gigabyte in a file, and one on a server."""
    if shutil.disk_usage(tempfile.gettempdir()).free < ROOM:
        pytest.skip("needs 2 GiB of temporary space")
    store = make_store()
    await store.open()
    world = await World.create(store)
    await store.aclose()
    people = {"alice": world.alice, "bob": world.bob, "place": new_id()}
    values = people | {"bare": checksum('"tea"', None), "marked": checksum('"tea"', '{"n":3}')}
    if backend == "sqlite":
        path = request.getfixturevalue("sqlite_path")
        fill_sqlite(path, values)
    else:
        await fill_postgres(request.getfixturevalue("postgres_dsn"), values)
    big = Big(make_store(), **people)
    await big.store.open()
    yield big
    await big.store.aclose()
    if backend == "sqlite":
        path.unlink()  # what tests leave is kept for a while, perhaps in memory


@pytest.fixture
def work(backend: str, big: Big, monkeypatch: pytest.MonkeyPatch) -> Work:
    """What a call costs the store."""
    store = big.store
    if backend == "sqlite":

        async def count_steps(call: Callable[[], Awaitable[Any]]) -> dict[str, int]:
            return {"steps": await cost(store, call)}

        return count_steps
    plans: list[dict[str, Any]] = []
    run = store.engine.run
    monkeypatch.setattr(
        store.engine, "run", lambda job, **how: run(lambda connection: job(Explaining(connection, plans)), **how)
    )

    async def explain(call: Callable[[], Awaitable[Any]]) -> dict[str, int]:
        plans.clear()
        await call()
        blocks = sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in plans)
        return {"rows": sum(map(rows_read, plans)), "blocks": blocks}

    return explain


@pytest.mark.sampled(1)
@pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)
async def test_what_is_read_does_not_grow_with_a_million_messages(big: Big, work: Work) -> None:
    store, place = big.store, big.place
    half = f"00000000-0000-7000-8000-{MANY // 2:012x}"
    middle, recent = MANY // 2, START + (MANY - 1_000) * STEP
    narrowed = {
        "metadata": Narrowing(needles=['"n":3']),
        "a state": Narrowing(states=[DeliveryState.EXPIRED]),
        "dates": Narrowing(date_from=recent, date_to=recent + 800 * STEP),
    }

    async def page(call: Callable[..., Awaitable[list[Any]]], **how: Any) -> None:
        assert len(await call(limit=50, **how)) == 50

    async def count(expected: int, **how: Any) -> None:
        found = await store.messages.count_messages(big.bob, Role.RECIPIENT, Kind.ONE_WAY, **how)
        assert found == expected

    received = partial(store.messages.list_messages, big.bob, Role.RECIPIENT, Kind.ONE_WAY)
    sent = partial(store.messages.list_messages, big.alice, Role.SENDER, Kind.ONE_WAY)
    said = partial(store.sessions.list_messages, place)
    met = partial(store.meetings.list_messages, place)
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "count of unread": lambda: count(MANY * 9 // 10, read=False),
        "page of unread of one sender": lambda: page(received, unread_only=True, other_id=big.alice),
        "page behind a number": lambda: page(received, after_seq=middle),
    }
    for name, options in (("page", {}), ("page before a message", {"before_id": half})):
        calls |= {
            f"sent {name}": partial(page, sent, **options),
            f"received {name}": partial(page, received, **options),
            f"unread {name}": partial(page, received, unread_only=True, **options),
        }
    for name, narrowing in narrowed.items():
        calls |= {
            f"sent, by {name}": partial(page, sent, narrowing=narrowing),
            f"received, by {name}": partial(page, received, narrowing=narrowing),
            f"unread, by {name}": partial(page, received, unread_only=True, narrowing=narrowing),
        }
    types = Narrowing(types=[MessageType.USER_DEFINED])
    for name, read in (("conversation", said), ("meeting", met)):
        calls |= {
            f"{name}": partial(page, read),
            f"{name}, newest": partial(page, read, newest_first=True, narrowing=types),
            f"{name}, after one": partial(page, read, after_seq=middle),
            f"{name}, before one": partial(page, read, newest_first=True, before_seq=middle),
        }
    costs = {name: await work(call) for name, call in calls.items()}
    assert too_much(costs, LIMITS) == {}

    async def find(query: str, expected: int, **scope: Any) -> None:
        found = await store.search.find_candidates(parse(query).formula, Scope(**scope), limit=1_000)
        assert len(found) == expected, query

    searches = {
        "rare": partial(find, "zeppelin", 10),
        "frequent": partial(find, "tea", 1_000),
        "frequent, and nearly none": partial(find, "tea zeppelin", 10),
        "frequent, without a rare one": partial(find, "tea -zeppelin", 1_000),
        "rare, without a frequent one": partial(find, "zeppelin -tea", 0),
        "all but a rare one": partial(find, "-zeppelin", 1_000),
        "nothing": partial(find, "airship", 0),
        "frequent, by metadata": partial(find, "tea", 1_000, needles=['"n":3']),
    }
    costs = {name: await work(call) for name, call in searches.items()}
    assert too_much(costs, SEARCH_LIMITS) == {}
    walks = {
        "all but a frequent one": await work(partial(find, "-tea", 0)),
        "a beginning that few words have": await work(partial(find, "ze*", 10)),
    }
    assert too_much(walks, WALK_LIMITS) == {}


def too_much(costs: dict[str, dict[str, int]], limits: dict[str, int]) -> dict[str, dict[str, int]]:
    """The calls that cost more than that."""
    return {name: cost for name, cost in costs.items() if any(cost[unit] > limits[unit] for unit in cost)}
