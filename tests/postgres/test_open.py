"""Opening: what is refused and with which words, and many processes that start at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from agent_messaging.exceptions import (
    ConfigurationError,
    NotInitializedError,
    SchemaVersionError,
    StorageForeignError,
    StorageUnavailableError,
)
from agent_messaging.storage.migrations import load
from agent_messaging.storage.postgres.store import PostgresStore
from tests.fixtures.postgres import PostgresServer
from tests.postgres.conftest import StoreMaker, execute
from tests.postgres.servers import OwnServer, free_port


@pytest.fixture(scope="module")
def unsafe_server() -> Iterator[OwnServer]:
    """A server that does not sync."""
    server = OwnServer(fsync="off", synchronous_commit="off")
    try:
        server.start()
        yield server
    finally:
        server.close()


async def test_a_server_without_fsync_is_refused_unless_wanted(
    unsafe_server: OwnServer, open_store: StoreMaker
) -> None:
    with pytest.raises(ConfigurationError, match=r"fsync = off.*allow_unsafe_server"):
        await open_store(unsafe_server.dsn)
    store = await open_store(unsafe_server.dsn, allow_unsafe_server=True)
    facts = await store.describe()
    assert facts.durability["fsync"] == "off"
    assert any("fsync" in warning for warning in facts.warnings)
    assert any("synchronous_commit" in warning for warning in facts.warnings)


async def test_facts_of_a_good_server(empty_postgres_dsn: str, open_store: StoreMaker) -> None:
    facts = await (await open_store(empty_postgres_dsn)).describe()
    assert facts.backend == "postgres"
    assert facts.warnings == ()
    assert facts.durability == {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}


async def test_many_processes_may_start_at_once(empty_postgres_dsn: str, open_store: StoreMaker) -> None:
    await asyncio.gather(*(open_store(empty_postgres_dsn) for _ in range(8)))
    rows = await execute(empty_postgres_dsn, "select number from schema_migrations")
    assert [row["number"] for row in rows] == [
        migration.number for migration in load("agent_messaging.storage.postgres")
    ]


async def test_without_initializing_the_schema_is_only_verified(
    empty_postgres_dsn: str, open_store: StoreMaker
) -> None:
    store = PostgresStore(empty_postgres_dsn)
    with pytest.raises(SchemaVersionError, match="has no schema yet"):
        await store.open(initialize=False)
    await open_store(empty_postgres_dsn)
    store = PostgresStore(empty_postgres_dsn, min_pool_size=1)
    await store.open(initialize=False)
    await store.aclose()


async def test_a_newer_schema_is_refused(postgres_dsn: str, open_store: StoreMaker) -> None:
    await execute(postgres_dsn, "insert into schema_migrations values (99, 'later', 'x', now())")
    with pytest.raises(SchemaVersionError, match="newer"):
        await open_store(postgres_dsn)


@pytest.mark.parametrize(
    "table", ["agents (id integer)", "schema_migrations (version varchar)", "messages (id uuid, content text)"]
)
async def test_another_programs_database_is_left_alone(
    empty_postgres_dsn: str, open_store: StoreMaker, table: str
) -> None:
    await execute(empty_postgres_dsn, f"create table {table}")
    with pytest.raises(StorageForeignError, match="another program"):
        await open_store(empty_postgres_dsn)
    rows = await execute(empty_postgres_dsn, "select relname from pg_class where relnamespace = 'public'::regnamespace")
    assert "deliveries" not in {row["relname"] for row in rows}


async def test_a_role_that_may_not_create_tables_is_told_what_to_do(
    empty_postgres_dsn: str, open_store: StoreMaker, postgres_server: PostgresServer
) -> None:
    role = postgres_server.name("role")
    # Up to version 14 everybody may create tables in the schema "public".
    await execute(empty_postgres_dsn, "revoke create on schema public from public", f'create role "{role}" login')
    try:
        with pytest.raises(ConfigurationError, match="grant create on schema"):
            await open_store(empty_postgres_dsn.replace("postgres:@", f"{role}@").replace("postgres@", f"{role}@"))
    finally:
        await execute(empty_postgres_dsn, f'drop role "{role}"')


async def test_a_server_that_is_down(open_store: StoreMaker) -> None:
    begun = time.monotonic()
    with pytest.raises(StorageUnavailableError, match="cannot be reached") as caught:
        await open_store(f"postgresql://me:secret@127.0.0.1:{free_port()}/db", connect_timeout=2.0)
    assert time.monotonic() - begun < 3.0
    assert "secret" not in str(caught.value)


async def test_a_server_that_never_answers(open_store: StoreMaker) -> None:
    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(be_silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(StorageUnavailableError, match="did not answer"):
        await open_store(f"postgresql://me@127.0.0.1:{port}/db", connect_timeout=1.0)
    assert time.monotonic() - begun < 2.5
    server.close()


async def test_a_database_that_does_not_exist(empty_postgres_dsn: str, open_store: StoreMaker) -> None:
    with pytest.raises(StorageUnavailableError, match=r"no such database.*createdb"):
        await open_store(empty_postgres_dsn.replace("/agent_messaging_empty", "/agent_messaging_missing"))


@pytest.mark.parametrize("dsn", ["postgresql://me:se/cret@host/db", "mysql://me:secret@host/db", "nonsense"])
async def test_a_broken_url_never_shows_its_password(dsn: str, open_store: StoreMaker) -> None:
    with pytest.raises((ConfigurationError, StorageUnavailableError)) as caught:
        await open_store(dsn, connect_timeout=1.0)
    shown = f"{caught.value!s} {caught.value.__cause__!s}"
    assert "cret" not in shown


async def test_use_before_open_and_after_close(postgres_dsn: str) -> None:
    store = PostgresStore(postgres_dsn, min_pool_size=1)
    with pytest.raises(NotInitializedError):
        await store.deliveries.find_waiting()
    await store.aclose()
    await store.open()
    await store.aclose()
    await store.aclose()
    with pytest.raises(NotInitializedError):
        await store.deliveries.find_waiting()


def test_a_missing_driver_is_named() -> None:
    """In a process of its own, where the import fails."""
    program = (
        "import sys; sys.modules['asyncpg'] = None\n"
        "from agent_messaging.exceptions import ConfigurationError\n"
        "try:\n    import agent_messaging.storage.postgres.store\n"
        "except ConfigurationError as error:\n    assert 'agent-messaging[postgres]' in str(error)\n"
        "else:\n    raise SystemExit(1)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
