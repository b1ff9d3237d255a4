"""Redis passes what every backend of the coordination must pass."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from agent_messaging.storage.redis.store import RedisStore
from tests.conformance.coordination import CoordinationFixtures, Crew
from tests.conformance.queue import QueueConformance
from tests.conformance.tasks import TaskConformance, WorkerConformance


class OnRedis(CoordinationFixtures):
    """The server that the tests share."""

    @pytest.fixture
    async def coordination(self, make_redis_store: Callable[[], RedisStore]) -> AsyncIterator[RedisStore]:
        """An open store."""
        store = make_redis_store()
        try:
            await store.open()
            yield store
        finally:
            await store.aclose()

    @pytest.fixture
    async def second(self, make_redis_store: Callable[[], RedisStore], crew: Crew) -> AsyncIterator[Crew]:
        """Another one on the same namespace."""
        store = make_redis_store()
        try:
            await store.open()
            yield Crew(store, crew.start)
        finally:
            await store.aclose()


class TestQueue(OnRedis, QueueConformance):
    """Queues."""


class TestTasks(OnRedis, WorkerConformance, TaskConformance):
    """Workers and tasks."""
