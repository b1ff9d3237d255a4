"""The index of words beside transactions that commit late, and the plans of pages in a large mailbox."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.storage.postgres import search
from agent_messaging.storage.sql import Queries
from tests.conformance.search import find, index_all
from tests.conformance.world import World
from tests.postgres.conftest import StoreMaker
from tests.support import eventually

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
  insert into messages (id, kind, sender_id, recipient_id, content, checksum, created_at)
  select gen_random_uuid(), 'one_way', $1::text::uuid, $2::text::uuid, '"tea"', 0, now() from generate_series(1, $3) n
  returning seq
)
insert into deliveries (seq, recipient_id, kind, sender_id, state, max_attempts, queued_at)
select seq, $2::text::uuid, 'one_way', $1::text::uuid, 'done', 1, now() from made
"""


async def test_a_deep_page_reads_what_it_shows(postgres_dsn: str, open_store: StoreMaker) -> None:
    world = await World.create(store := await open_store(postgres_dsn))
    filler = await asyncpg.connect(postgres_dsn)
    try:
        await filler.execute(FILL, world.alice, world.bob, MANY)
        half = await filler.fetchval("select id::text from messages order by seq offset $1 limit 1", MANY // 2)
    finally:
        await filler.close()
    queries = Queries("agent_messaging.storage.postgres", "messages")

    def rows_read(plan: dict[str, Any]) -> float:
        removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        read = (plan["Actual Rows"] + removed) * plan["Actual Loops"]
        return float(read + sum(map(rows_read, plan.get("Plans", ()))))

    for name, agent, more in (("sent", world.alice, "false, "), ("received", world.bob, ""), ("unread", world.bob, "")):
        values = f"'{agent}', 'one_way', 50, 0, null, null, {more}null, '{half}'"

        async def explain(connection: Any, name: str = name, values: str = values) -> Any:
            await connection.execute(f"prepare page_{name} as {queries[f'list_messages_{name}']}")
            return await connection.fetchval(f"explain (analyze, format json) execute page_{name}({values})")

        (plan,) = json.loads(await store.engine.run(explain, write=True))
        assert rows_read(plan["Plan"]) < 1_000, (name, plan)
