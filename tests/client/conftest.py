"""An SDK on a database of the test's own, once for each backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from agent_messaging import clear_handlers
from tests.client.support import MakeSdk, Sdk, make_config


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    """The backends on which several SDK objects can share a store."""
    return str(request.param)


@pytest.fixture
def url(database_url: str) -> str:
    """What a user would configure for this test's database."""
    return database_url


@pytest.fixture
def empty_url(backend: str, request: pytest.FixtureRequest) -> str:
    """A place without a schema."""
    if backend == "postgres":
        return str(request.getfixturevalue("empty_postgres_dsn"))
    return f"sqlite:///{request.getfixturevalue('sqlite_path')}"


@pytest.fixture(autouse=True)
def no_global_handlers() -> Iterator[None]:
    """Global handlers of one test do not reach the next."""
    yield
    clear_handlers()


@pytest.fixture
def place_of_tasks(backend: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """Where tasks are, as settings of the coordination: in the database, but on Redis where the backend says so."""
    if backend != "redis":
        return {}
    namespace = request.getfixturevalue("redis_namespace")
    return {"redis_url": f"{request.getfixturevalue('redis_server')}?namespace={namespace}"}


@pytest.fixture
async def make_sdk(url: str, place_of_tasks: dict[str, str]) -> AsyncIterator[MakeSdk]:
    """Start SDK objects on this test's database; they are closed when it ends, the last one first."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Sdk:
            settings["coordination"] = place_of_tasks | settings.get("coordination", {})
            sdk = Sdk(make_config(url, **settings))
            await stack.enter_async_context(sdk)
            return sdk

        yield start


@pytest.fixture
async def sdk(make_sdk: MakeSdk) -> Sdk:
    """A started SDK with the agents alice, bob and carol of the organization acme."""
    started = await make_sdk()
    await started.add_people("alice", "bob", "carol")
    return started
