"""Publishing beside changes of subscriptions in other transactions, and the plan by which subscribers are found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from agent_messaging.storage.ports import Stored
from agent_messaging.storage.postgres.store import PostgresStore
from agent_messaging.storage.sql import Queries
from agent_messaging.storage.topics import MAX_WORDS, MOST, list_patterns
from tests.conformance.topics import publication, recipients
from tests.conformance.world import World
from tests.postgres.conftest import StoreMaker
from tests.support import eventually

SQL = Queries("agent_messaging.storage.postgres", "topics")
MANY = 10_000
FILL = """
with made as (
  insert into agents (id, external_id, organization_id, name, created_at, updated_at)
  select gen_random_uuid(), 'reader-' || n, $1::text::uuid, '', now(), now() from generate_series(1, $2) n
  returning id, external_id
)
insert into subscriptions (pattern, agent_id, created_at) select 'w0.*.' || external_id || '.>', id, now() from made
"""
WAITING = "select count(*) from pg_locks where not granted"


@pytest.fixture
async def store(postgres_dsn: str, open_store: StoreMaker) -> PostgresStore:
    return await open_store(postgres_dsn)


@pytest.fixture
async def world(store: PostgresStore) -> World:
    return await World.create(store)


@asynccontextmanager
async def in_the_middle(dsn: str, *statements: tuple[Any, ...]) -> AsyncIterator[asyncpg.Connection]:
    """Another process that has done this and has not committed yet; it does at the end."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        async with connection.transaction():
            for statement, *values in statements:
                await connection.execute(statement, *values)
            yield connection
    finally:
        await connection.close()


async def wait_behind(connection: asyncpg.Connection, call: Any) -> asyncio.Task[Any]:
    """Begin the call, which waits for what the connection has locked."""
    task = asyncio.create_task(call)
    await eventually(lambda: connection.fetchval(WAITING), until=lambda count: count == 1)
    assert not task.done()
    return task


@pytest.mark.parametrize("verb", ["subscribe", "unsubscribe"])
async def test_no_subscription_changes_between_a_match_and_its_commit(
    postgres_dsn: str, world: World, verb: str
) -> None:
    topics = world.store.topics
    if verb == "unsubscribe":
        await topics.subscribe(world.bob, ">")
    async with in_the_middle(postgres_dsn, (SQL["topics_share"],)) as other:
        # Others that publish are not held up.
        group = publication(world)
        assert await world.append(group) == [Stored()]
        changing = await wait_behind(other, getattr(topics, verb)(world.bob, ">"))
    assert await changing is True
    after = publication(world)
    assert await world.append(after) == [Stored()]
    assert (recipients(group), recipients(after)) == (([], [world.bob]) if verb == "subscribe" else ([world.bob], []))


@pytest.mark.parametrize("verb", ["subscribe", "unsubscribe"])
async def test_a_match_sees_the_change_that_is_being_committed(postgres_dsn: str, world: World, verb: str) -> None:
    if verb == "unsubscribe":
        await world.store.topics.subscribe(world.bob, ">")
    values = (">", world.bob, None) if verb == "subscribe" else (">", world.bob)
    sql = SQL[verb].replace("store_now()", "now()")
    group = publication(world)
    async with in_the_middle(postgres_dsn, (SQL["topics_lock"],), (sql, *values)) as other:
        publishing = await wait_behind(other, world.append(group))
    assert await publishing == [Stored()]
    assert recipients(group) == ([world.bob] if verb == "subscribe" else [])


@pytest.mark.parametrize("ends", ["committed", "rolled back"])
async def test_an_agent_whose_removal_is_under_way_is_waited_for(postgres_dsn: str, world: World, ends: str) -> None:
    for agent in (world.bob, world.carol):
        await world.store.topics.subscribe(agent, ">")
    group = publication(world)
    try:
        async with in_the_middle(postgres_dsn, ("delete from agents where id = $1::text::uuid", world.bob)) as other:
            publishing = await wait_behind(other, world.append(group))
            if ends == "rolled back":
                raise InterruptedError
    except InterruptedError:
        pass
    assert await publishing == [Stored()]
    assert recipients(group) == ([world.carol] if ends == "committed" else [world.bob, world.carol])


async def test_subscribers_are_found_by_the_index_also_by_a_plan_made_for_any_values(
    store: PostgresStore, world: World
) -> None:
    await store.topics.subscribe(world.bob, "w0.>")
    topic = ".".join(f"w{place}" for place in range(MAX_WORDS))
    patterns = list_patterns(topic)

    async def explain(connection: Any) -> Any:
        await connection.execute(FILL, world.organization_id, MANY)
        await connection.execute("prepare find as " + SQL["append_find_subscribers"])
        listed = ", ".join(f"'{pattern}'" for pattern in patterns)
        places = ", ".join("1" for _ in patterns)
        values = f"array['{world.alice}'], array[false], array[{places}], array[{listed}], {MOST + 1}"
        return await connection.fetchval(f"explain (analyze, format json) execute find({values})")

    (plan,) = json.loads(await store.engine.run(explain, write=True))
    read: list[float] = []

    def walk(node: dict[str, Any]) -> None:
        if "Relation Name" in node:
            removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
            read.append((node["Actual Rows"] + removed) * node["Actual Loops"])
        for inner in node.get("Plans", ()):
            walk(inner)

    walk(plan["Plan"])
    assert sum(read) < len(patterns)
    group = publication(world, topic)
    assert await world.append(group) == [Stored()]
    assert recipients(group) == [world.bob]
