"""What an administrator does to the tables in a shell: its search_path is another one, and nobody asks the SDK."""

from __future__ import annotations

import asyncpg
import pytest

from agent_messaging.exceptions import StorageForeignError
from tests.conformance.search import find, index_all
from tests.conformance.world import World
from tests.postgres.conftest import StoreMaker, execute
from tests.postgres.test_url import with_parameters

_COUNTS = """
select (select count(*) from {0}.deliveries) as deliveries, (select count(*) from {0}.asks) as asks,
  (select count(*) from {0}.notices) as notices
"""


@pytest.mark.parametrize("path", ["one", "nowhere"])
async def test_messages_take_what_is_theirs_along_whatever_the_search_path(
    empty_postgres_dsn: str, open_store: StoreMaker, path: str
) -> None:
    """Two deployments in one database, with the same numbers, and a shell that leads to the other one or to none."""
    await execute(empty_postgres_dsn, "create schema one", "create schema two")
    for schema in ("one", "two"):
        world = await World.create(await open_store(with_parameters(empty_postgres_dsn, f"search_path={schema}")))
        await world.ask()
        await world.say(world.carol, world.dave, notify=True)
    await execute(empty_postgres_dsn, f"set search_path = {path}", "delete from two.agents")
    (left,) = await execute(empty_postgres_dsn, _COUNTS.format("two"))
    assert tuple(left) == (0, 0, 0)
    (kept,) = await execute(empty_postgres_dsn, _COUNTS.format("one"))
    assert tuple(kept) == (2, 1, 1)


async def test_tables_that_are_emptied_leave_nothing_that_stops_the_next_messages(
    postgres_dsn: str, open_store: StoreMaker
) -> None:
    world = await World.create(await open_store(postgres_dsn))
    await world.ask()
    await world.send(content='"old tea"')
    assert await index_all(world.store.search, world.owner) > 0
    await execute(postgres_dsn, "truncate public.messages restart identity")
    (left,) = await execute(postgres_dsn, _COUNTS.format("public"))
    assert tuple(left) == (0, 0, 0)
    await world.ask()
    message_id = await world.send(content='"new coffee"')
    assert (await world.claim_one()).message_id == message_id
    assert await index_all(world.store.search, world.owner) > 0
    assert await find(world.store.search, "coffee") == ["new coffee"]
    assert await find(world.store.search, "tea") == []


async def test_a_message_without_its_agents_is_refused_or_found(postgres_dsn: str, open_store: StoreMaker) -> None:
    """No foreign key leads from messages to agents: a note is looked after by the statement that stores notes."""
    store = await open_store(postgres_dsn)
    message = (
        "insert into messages (id, kind, sender_id, content, checksum, created_at) values (%s, '%s', %s, '1', 0, now())"
    )
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await execute(postgres_dsn, message % ("gen_random_uuid()", "meeting", "gen_random_uuid()") + " returning id")
    await execute(postgres_dsn, message % ("gen_random_uuid()", "one_way", "gen_random_uuid()") + " returning id")
    ((id,),) = await execute(postgres_dsn, "select id from messages")
    assert f"The row of messages with id {id} refers to a row of agents" in "".join(await store.check())


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
@pytest.mark.parametrize(
    "removal", ["delete from agents", "delete from organizations", "truncate agents cascade", "delete from sessions"]
)
async def test_a_removal_leaves_no_message_behind_that_its_transaction_cannot_see(
    postgres_dsn: str, open_store: StoreMaker, level: str, removal: str
) -> None:
    """A foreign key looks past what a transaction sees, and a trigger cannot: such a removal is refused."""
    store = await open_store(postgres_dsn)
    world = await World.create(store)
    await world.say()
    connection = await asyncpg.connect(postgres_dsn)
    try:
        await connection.execute(f"begin isolation level {level}")
        await connection.execute("select from agents")  # from here on it may see no more
        await world.send()
        await world.append(world.question())
        if level == "read committed":
            await connection.execute(removal)
            await connection.execute("commit")
        else:
            with pytest.raises(asyncpg.FeatureNotSupportedError, match="read committed"):
                await connection.execute(removal)
    finally:
        await connection.close()
    (left,) = await execute(postgres_dsn, "select count(*) as asks from asks")
    assert left["asks"] == (0 if level == "read committed" else 1)
    assert await store.check() == []


async def test_a_function_of_another_program_is_left_alone(empty_postgres_dsn: str, open_store: StoreMaker) -> None:
    await execute(
        empty_postgres_dsn, "create function server_clock() returns timestamptz language sql as 'select now()'"
    )
    with pytest.raises(StorageForeignError, match=r"function.*another program"):
        await open_store(empty_postgres_dsn)
    rows = await execute(empty_postgres_dsn, "select tablename from pg_tables where schemaname = 'public'")
    assert rows == []
