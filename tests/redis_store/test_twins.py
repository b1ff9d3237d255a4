"""Random programs of the verbs of queues, workers and tasks are answered alike by Redis and by SQLite."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_messaging.storage.redis.store import RedisStore
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.work_twins import play, pool_verbs, verbs

EXAMPLES = int(os.environ.get("AGENT_MESSAGING_TEST_COORDINATION", "15"))
"""Programs in one run; read at import, because the environment is emptied for each test."""


async def play_on(redis: RedisStore, program: list[tuple[Any, ...]]) -> None:
    sqlite = SQLiteStore(":memory:")
    try:
        await sqlite.open()
        await redis.open()
        await play(sqlite, redis, program)
    finally:
        await redis.aclose()
        await sqlite.aclose()


def test_random_programs_are_answered_alike(redis_server: str, redis_namespace: str) -> None:
    numbered = itertools.count()
    make: Callable[[], RedisStore] = lambda: RedisStore(  # noqa: E731
        f"{redis_server}?namespace={redis_namespace}-{next(numbered)}", location="redis"
    )
    with asyncio.Runner() as runner:

        @given(st.lists(verbs | pool_verbs, min_size=5, max_size=40))
        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
        def run(program: list[tuple[Any, ...]]) -> None:
            runner.run(play_on(make(), program))

        run()
