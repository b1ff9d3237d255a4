"""Processes that share the few connections of a server: what each takes, gives back, and says when none is left."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import asyncpg
import pytest

from agent_messaging import AgentMessaging, Config, DatabaseConfig
from agent_messaging.exceptions import StorageUnavailableError
from agent_messaging.storage.postgres import engine
from tests.postgres.conftest import StoreMaker, execute
from tests.postgres.servers import OwnServer
from tests.support import eventually

CONNECTIONS = 100
"""What PostgreSQL allows as installed."""
_OURS = """
select count(*) as count from pg_stat_activity
where application_name = 'agent-messaging' and datname = current_database()
"""


@pytest.fixture(scope="module")
def full_server() -> Iterator[OwnServer]:
    """A server with very few connections."""
    server = OwnServer(max_connections="10", superuser_reserved_connections="2")
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
async def few(full_server: OwnServer) -> str:
    """It, with nothing in its database, and a role that may not use what is reserved for superusers."""
    await execute(
        full_server.dsn,
        "drop schema public cascade",
        "create schema public",
        "do $$ begin if not exists (select from pg_roles where rolname = 'agents') then create role agents login;"
        " end if; end $$",
        "grant all on schema public to agents",
        "select 1",
    )
    return full_server.dsn.replace("postgres@", "agents@")


async def test_a_process_at_rest_takes_two_connections(own_server: OwnServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "IDLE", 0.5)
    async with AgentMessaging(Config(url=own_server.dsn)) as sdk:
        await sdk.register_organization("acme", "Acme")
        await eventually(lambda: count(own_server.dsn), until=lambda n: n <= 2)


async def test_forty_start_on_a_server_of_a_hundred_and_work(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings are those of a user who set none."""
    monkeypatch.setattr(engine, "IDLE", 0.5)
    witness = await asyncpg.connect(own_server.dsn)
    sdks = [AgentMessaging(Config(url=own_server.dsn)) for _ in range(40)]
    await sdks[0].initialize()
    await sdks[0].register_organization("acme", "Acme")
    await sdks[0].register_agent("bob", "acme", "Bob")
    try:
        await asyncio.gather(*(sdk.initialize() for sdk in sdks[1:]))
        rest = 2 * len(sdks)
        await eventually(lambda: witness.fetchval(_OURS), until=lambda n: n <= rest)
        await asyncio.gather(*(sdk.register_agent(f"a{n}", "acme", "A") for n, sdk in enumerate(sdks)))
        assert len(await sdks[-1].list_agents()) == len(sdks) + 1
    finally:
        await asyncio.gather(*(sdk.close() for sdk in sdks))
        await witness.close()


async def test_a_burst_is_given_back(
    own_server: OwnServer, open_store: StoreMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "IDLE", 0.2)
    store = await open_store(own_server.dsn, min_pool_size=1, max_pool_size=10)
    await burst(store, 10)
    assert await count(own_server.dsn) > 1
    await eventually(lambda: count(own_server.dsn), until=lambda n: n <= 1)


async def test_a_minimum_that_is_set_is_opened_at_once(own_server: OwnServer, open_store: StoreMaker) -> None:
    database = DatabaseConfig(url=own_server.dsn, min_pool_size=3)
    assert database.first_connections == 3
    await open_store(own_server.dsn, min_pool_size=database.first_connections)
    assert await count(own_server.dsn) == 3


async def test_calls_use_the_connections_there_are_when_the_server_has_no_more(
    few: str, open_store: StoreMaker
) -> None:
    store = await open_store(few, max_pool_size=40)
    await burst(store, 100, seconds=0.01)


async def test_a_full_server_names_the_settings_that_count(few: str, open_store: StoreMaker) -> None:
    with pytest.raises(StorageUnavailableError, match=r"min_pool_size.*max_pool_size.*max_connections") as caught:
        await open_store(few, min_pool_size=20, max_pool_size=20)
    assert "min_pool_size if processes do not start" in str(caught.value)


@pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)
async def test_a_cancelled_start_leaves_no_process(database_url: str) -> None:
    """The others would take it for a process until its lease ends."""
    seed = random.randrange(10**6)
    print(f"{seed=}")
    pick = random.Random(seed)
    async with AgentMessaging(Config(url=database_url)) as witness:

        @witness.register_handler("bob")
        async def bob(message: object, context: object) -> None: ...

        started = 0
        for _ in range(12):
            sdk = AgentMessaging(Config(url=database_url))
            start = asyncio.create_task(sdk.initialize())
            await asyncio.wait({start}, timeout=pick.uniform(0, 0.15))
            start.cancel()
            await asyncio.wait({start})
            if not start.cancelled():
                started += 1
                await sdk.close()
            # On SQLite the next poll finds what was cut off in the commit; on PostgreSQL that would take 3 s.
            await eventually(lambda: living(witness), 2.0, until=lambda n: n == 1)


async def living(sdk: AgentMessaging) -> int:
    """How many processes count as alive."""
    return sum(row.ended_at is None for row in await sdk.store.processes.list_processes(0))


async def burst(store: object, calls: int, seconds: float = 0.05) -> None:
    """So many statements at once."""
    run = store.engine.run  # type: ignore[attr-defined]
    await asyncio.gather(
        *(run(lambda connection: connection.execute(f"select pg_sleep({seconds})"), write=False) for _ in range(calls))
    )


async def count(dsn: str) -> int:
    """How many connections of the SDK the database has."""
    (row,) = await execute(dsn, _OURS)
    return int(row["count"])
