"""A store on the server that the tests share, and a stranger there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis

from agent_messaging.storage.redis.store import RedisStore


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
def client(redis_server: str) -> Any:
    """A stranger at that server."""
    return redis.Redis.from_url(redis_server, protocol=2)
