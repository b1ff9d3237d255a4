"""The index of words beside transactions that commit late, and the plans of pages in a large mailbox."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from agent_messaging.delivery import indexing
from agent_messaging.delivery.indexing import Indexing
from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import Kind
from agent_messaging.storage.ports import Role
from agent_messaging.storage.postgres import search
from agent_messaging.storage.sql import Queries
from tests.conformance.search import find, index_all
from tests.conformance.world import World
from tests.postgres.conftest import StoreMaker, execute
from tests.support import eventually

SQL = Queries(search.__package__, "search")
LATE = """
with taken as materialized (select nextval('messages_seq_seq') as seq, pg_advisory_xact_lock(42))
insert into messages (seq, id, kind, sender_id, recipient_id, content, checksum, created_at)
select seq, $1::text::uuid, 'one_way', $2::text::uuid, $3::text::uuid, '"late tea"', 0, now() from taken
"""
"""It has a number in the table, and no transaction number, until the lock is free."""


async def test_the_index_waits_for_a_smaller_seq_that_commits_later(
    postgres_dsn: str, open_store: StoreMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_PATIENCE", 0.0)
    world = await World.create(await open_store(postgres_dsn))
    store = world.store.search
    await world.send(content='"early tea"')
    assert await index_all(store, world.owner) == 1
    late, holder = await asyncpg.connect(postgres_dsn), await asyncpg.connect(postgres_dsn)
    try:
        await holder.execute("select pg_advisory_lock(42)")
        insert = asyncio.create_task(late.execute(LATE, new_id(), world.alice, world.bob))
        await eventually(
            lambda: holder.fetchval("select count(*) from pg_locks where not granted"), until=lambda count: count == 1
        )
        await world.send(content='"later tea"')
        assert await index_all(store, world.owner) == 0
        assert await find(store, "tea") == ["later tea", "early tea"]
        await holder.execute("select pg_advisory_unlock(42)")
        await insert
        assert await find(store, "tea") == ["later tea", "late tea", "early tea"]
        assert await index_all(store, world.owner) == 2
        assert (await store.progress()).behind == 0
        assert await find(store, "late") == ["late tea"]
    finally:
        await late.close()
        await holder.close()


MANY = 20_000
FILL = """
with made as (
  insert into messages (id, kind, sender_id, recipient_id, session_id, meeting_id, content, checksum, created_at)
  select gen_random_uuid(), k.kind, $1::text::uuid, case k.kind when 'meeting' then null else $2::text::uuid end,
    case k.kind when 'conversation' then case when k.elsewhere then gen_random_uuid() else $3::text::uuid end end,
    case k.kind when 'meeting' then $3::text::uuid end,
    '"tea"', 0, now()
  from generate_series(1, $4) n,
    (values ('one_way', false), ('conversation', true), ('conversation', false), ('meeting', false)) k (kind, elsewhere)
  order by n
  returning seq, kind
)
insert into deliveries (seq, recipient_id, kind, sender_id, state, max_attempts, queued_at)
select seq, $2::text::uuid, kind, $1::text::uuid, 'done', 1, now() from made where kind <> 'meeting'
"""


async def test_the_index_waits_for_a_seq_that_is_drawn_before_its_message_is_stored(
    postgres_dsn: str, open_store: StoreMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the functions of the server do: they have no lock of the table yet."""
    monkeypatch.setattr(search, "_PATIENCE", 0.0)
    world = await World.create(await open_store(postgres_dsn))
    store = world.store.search
    late = await asyncpg.connect(postgres_dsn)
    try:
        await late.execute("begin")
        seq = await late.fetchval("select nextval('messages_seq_seq')")
        await world.send(content='"early tea"')
        assert (await store.list_unindexed(0, limit=10, most_bytes=1000)).messages == []
        await late.execute(
            "insert into messages (seq, id, kind, sender_id, recipient_id, content, checksum, created_at)"
            " values ($1, $2::text::uuid, 'one_way', $3::text::uuid, $4::text::uuid, '1', 0, now())",
            *(seq, new_id(), world.alice, world.bob),
        )
        await late.execute("commit")
        assert len((await store.list_unindexed(0, limit=10, most_bytes=1000)).messages) == 2
    finally:
        await late.close()


async def test_no_count_stays_of_an_agent_that_is_removed_while_the_index_moves(
    postgres_dsn: str, open_store: StoreMaker
) -> None:
    world = await World.create(await open_store(postgres_dsn))
    store, directory = world.store.search, world.store.directory
    await world.send()
    await world.store.messages.mark_read(world.bob, Kind.ONE_WAY)
    await index_all(store, world.owner)  # no sum, because nothing is unread
    reached = (await store.progress()).indexed_to
    (bob,) = await directory.find_agents_by_id([world.bob])
    batch = await asyncpg.connect(postgres_dsn)
    try:
        await batch.execute("update deliveries set read_at = null")  # as where what was read is given back
        await batch.execute("begin")
        await batch.execute(SQL["search_count"], reached, reached)
        removal = asyncio.create_task(directory.remove_agent(bob.external_id))
        await eventually(
            lambda: batch.fetchval("select count(*) from pg_locks where not granted"), until=lambda count: count == 1
        )
        await batch.execute("commit")
        assert await removal
        assert await batch.fetchval("select count(*) from unread_counts") == 0
    finally:
        await batch.close()
    assert await world.store.check() == []


@pytest.mark.parametrize("first", ["the batch", "the marking"])
async def test_what_is_marked_as_read_while_it_is_counted_is_counted_once(
    first: str, postgres_dsn: str, open_store: StoreMaker
) -> None:
    """Whoever comes second waits for the other's rows, and sees what it did."""
    world = await World.create(store := await open_store(postgres_dsn))
    await world.send_many(5, world.alice, world.bob)
    to = (await store.search.progress()).newest
    holder, other = await asyncpg.connect(postgres_dsn), await asyncpg.connect(postgres_dsn)

    async def count(connection: Any) -> None:
        await connection.execute("update search_state set indexed_to = $1", to)
        await connection.execute(SQL["search_count"], 0, to)

    async def mark(connection: Any) -> None:
        marked = "select mark_read($1::text::uuid, 'one_way', null, clock_timestamp())"
        assert await connection.fetchval(marked, world.bob) == 5

    async def within_a_transaction(do: Any) -> None:
        async with other.transaction():
            await do(other)

    try:
        before, after = (count, mark) if first == "the batch" else (mark, count)
        await holder.execute("begin")
        await before(holder)
        second = asyncio.create_task(within_a_transaction(after))
        waiting = "select count(*) from pg_locks where not granted"
        await eventually(lambda: holder.fetchval(waiting), until=lambda number: number == 1)
        await holder.execute("commit")
        await second
    finally:
        await holder.close()
        await other.close()
    assert await store.messages.count_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY, read=False) == 0
    assert await store.check() == []


async def test_the_server_learns_of_frequent_words_while_the_index_grows(
    postgres_dsn: str, open_store: StoreMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await World.create(await open_store(postgres_dsn))
    monkeypatch.setattr(search, "_FEW", 3)
    known = "select 'tea' = any(most_common_elems::text::text[]) from pg_stats where attname = 'words'"
    for number, is_known in ((2, []), (2, [True])):
        await world.send_many(number, world.alice, world.bob, content='"tea"')
        await index_all(world.store.search, world.owner)
        assert [row[0] for row in await execute(postgres_dsn, known)] == is_known


async def test_what_was_read_is_added_up_though_no_message_follows(
    postgres_dsn: str, open_store: StoreMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call that reads leaves a row, or some, which each count would read; one that marks a mailbox leaves one."""
    world = await World.create(await open_store(postgres_dsn))
    store, messages = world.store.search, world.store.messages
    await world.send_many(5, world.alice, world.bob)
    await index_all(store, world.owner)
    assert await messages.mark_read(world.bob, Kind.ONE_WAY) == 5
    assert (await store.progress()).unsummed == 1
    presence: Any = SimpleNamespace(process_id=world.owner)
    service = Indexing(store, presence, trouble=presence, is_busy=lambda: False)
    await service.round()
    assert (await store.progress()).unsummed == 1
    monkeypatch.setattr(indexing, "ENOUGH", 1)
    await service.round()
    assert (await store.progress()).unsummed == 0
    assert await messages.count_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY, read=False) == 0
    assert await world.store.check() == []


async def test_the_beginning_of_a_word_is_looked_for_nearby_and_then_in_the_index_alone(
    postgres_dsn: str, open_store: StoreMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the server believes of how frequent it is: few words begin so, and then no message is walked past."""
    monkeypatch.setattr(search, "_NEAR", 2)
    world = await World.create(await open_store(postgres_dsn))
    store = world.store.search
    for text in ("zebra", "zoo", "zeal", "teapot", "zero"):
        await world.send(content=f'"{text}"')
    assert await index_all(store, world.owner) == 5
    await world.send(content='"zest"')
    assert await find(store, "ze*", limit=2) == ["zest", "zero"]
    assert await find(store, "ze*", limit=3) == ["zest", "zero", "zeal"]
    assert await find(store, "ze* -zero") == ["zest", "zeal", "zebra"]


async def test_a_deep_page_and_the_count_of_unread_read_what_they_show(
    postgres_dsn: str, open_store: StoreMaker
) -> None:
    world = await World.create(store := await open_store(postgres_dsn))
    alice, bob, place = world.alice, world.bob, new_id()
    filler = await asyncpg.connect(postgres_dsn)
    try:
        await filler.execute(FILL, alice, bob, place, MANY)
        half, seq = await filler.fetchrow("select id::text, seq from messages order by seq offset $1 limit 1", MANY)
        # As if the index had taken them in.
        await filler.execute("update search_state set indexed_to = (select max(seq) from messages)")
        await filler.execute(
            "insert into unread_counts (agent_id, kind, unread, is_sum) values ($1::text::uuid, 'one_way', $2, true)",
            *(bob, MANY),
        )
        await filler.execute(
            "insert into search_words select seq, array_to_tsvector(array['w' || seq::text]) from messages"
        )
        await filler.execute("vacuum analyze")
    finally:
        await filler.close()
    queries = {
        name: text
        for noun in ("messages", "sessions", "meetings", "search")
        for name, text in Queries("agent_messaging.storage.postgres", noun).blocks.items()
    }

    def rows_read(plan: dict[str, Any]) -> float:
        removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        read = (plan["Actual Rows"] + removed) * plan["Actual Loops"]
        return float(read + sum(map(rows_read, plan.get("Plans", ()))))

    page, any_, no = "50, 0", "null", "false"
    for name, values in (
        ("list_messages_sent", f"'{alice}', 'one_way', {page}, null, null, false, null, '{half}', null, null"),
        ("list_messages_received", f"'{bob}', 'one_way', {page}, null, null, null, '{half}', null, null"),
        ("list_messages_unread", f"'{bob}', 'one_way', {page}, null, null, null, '{half}', null, null"),
        ("count_messages_unread", f"'{bob}', 'one_way'"),
        ("list_messages", f"'{place}', {page}, {seq}, {any_}, null, null, null, null, {no}, null"),
        ("list_messages_newest", f"'{place}', {page}, {any_}, {seq}, null, null, null, null, {no}, null"),
        ("list_meeting_messages", f"'{place}', {page}, {seq}, {any_}, null, null, null, null"),
        # The beginning of a word that none of them has.
        (
            "search_find",
            f"'''ze'':*', {2**62}, '{{one_way}}', null, null, null, null, null, null, null, '{{}}', 1, null, 0, true",
        ),
        ("list_meeting_messages_newest", f"'{place}', {page}, {any_}, {seq}, null, null, null, null"),
    ):

        async def explain(connection: Any, name: str = name, values: str = values) -> Any:
            if name == "search_find":
                await connection.execute(SQL["search_settings"])
            await connection.execute(f"prepare page_{name} as {queries[name]}")
            return await connection.fetchval(f"explain (analyze, format json) execute page_{name}({values})")

        (plan,) = json.loads(await store.engine.run(explain, write=True))
        assert rows_read(plan["Plan"]) < 1_000, (name, plan)
