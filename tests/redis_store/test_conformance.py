"""Redis passes what every backend of the coordination must pass."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from agent_messaging.storage.redis.store import RedisStore
from tests.conformance.coordination import CoordinationFixtures, Crew
from tests.conformance.coordination_machine import CoordinationMachine
from tests.conformance.queue import QueueConformance, QueueOfProcesses
from tests.conformance.schedules import ScheduleConformance
from tests.conformance.tasks import PoolConformance, TaskConformance, TasksOfProcesses, WorkerConformance


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

    @pytest.fixture
    def make_store(self, make_redis_store: Callable[[], RedisStore]) -> Callable[[], RedisStore]:
        """Builds stores for the tests that open theirs themselves."""
        return make_redis_store

    @pytest.fixture
    async def store(self, coordination: RedisStore) -> RedisStore:
        """The store of the crew, for the tests of processes."""
        return coordination


class TestQueue(OnRedis, QueueConformance, QueueOfProcesses):
    """Queues."""


class TestTasks(OnRedis, WorkerConformance, TaskConformance, PoolConformance, TasksOfProcesses, CoordinationMachine):
    """Workers and tasks."""


class TestSchedules(OnRedis, ScheduleConformance):
    """Schedules."""
