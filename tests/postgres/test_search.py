"""The index of words beside transactions that commit late."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.storage.postgres import search
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
