"""Stores on a server that a test may break."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from agent_messaging.storage.postgres.store import PostgresStore
from tests.postgres.servers import Link, OwnServer

StoreMaker = Callable[..., Awaitable[PostgresStore]]


@pytest.fixture(scope="module")
def running_server() -> Iterator[OwnServer]:
    """A server for the module's tests."""
    server = OwnServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
async def own_server(running_server: OwnServer) -> OwnServer:
    """The module's server with nothing in its database."""
    await execute(running_server.dsn, "drop schema public cascade", "create schema public")
    return running_server


@pytest.fixture
async def link(own_server: OwnServer) -> AsyncIterator[Link]:
    """A link to that server."""
    link = Link(own_server.port)
    await link.open()
    yield link
    await link.aclose()


@pytest.fixture
async def open_store() -> AsyncIterator[StoreMaker]:
    """Opens stores that are closed when the test ends."""
    async with AsyncExitStack() as stack:

        async def open_store(dsn: str, **options: object) -> PostgresStore:
            store = PostgresStore(dsn, **{"min_pool_size": 1, "max_pool_size": 5, **options})  # type: ignore[arg-type]
            stack.push_async_callback(store.aclose)
            await store.open()
            return store

        yield open_store


async def execute(dsn: str, *statements: str) -> list[asyncpg.Record]:
    """Run statements as somebody else; returns the rows of the last."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return list(await connection.fetch(statements[-1]))
    finally:
        await connection.close(timeout=5)
