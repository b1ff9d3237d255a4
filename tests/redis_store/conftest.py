"""A store on the server that the tests share, and a stranger there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis

from agent_messaging.storage.redis.store import RedisStore
from tests.redis_store.support import LEASE, Live, Process


@pytest.fixture
async def store(make_redis_store: Callable[[], RedisStore]) -> AsyncIterator[RedisStore]:
    """An open store on the server that the tests share."""
    store = make_redis_store()
    try:
        await store.open()
        yield store
    finally:
        await store.aclose()


@pytest.fixture
async def live(redis_server: str, redis_namespace: str) -> AsyncIterator[Live]:
    """Makes live processes."""
    async with AsyncExitStack() as stack:

        async def start(url: str = redis_server, lease: float = LEASE) -> Process:
            process = Process(RedisStore(f"{url}?namespace={redis_namespace}", location="redis", lease=lease))
            stack.push_async_callback(process.store.aclose)
            await process.start()
            return process

        yield start


@pytest.fixture
def client(redis_server: str) -> Any:
    """A stranger at that server."""
    return redis.Redis.from_url(redis_server, protocol=2)
