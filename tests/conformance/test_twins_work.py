"""Random programs of the verbs of queues, workers and tasks are answered alike by SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_messaging.storage.ports import Store
from tests.conformance.moving import swap
from tests.conformance.twins import opened
from tests.conformance.work_twins import play, pool_verbs, verbs
from tests.fixtures.stores import store_factory

EXAMPLES = int(os.environ.get("AGENT_MESSAGING_TEST_COORDINATION", "12"))
"""Programs in one run; read at import, because the environment is emptied for each test."""
CLEAR = "truncate queue_messages, workers, worker_processes, tasks"


def test_random_programs_are_answered_alike(postgres_dsn: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """And what they leave behind can be moved from each store to the other."""
    sqlite = store_factory("sqlite-memory", request, "postgres_dsn")
    postgres = store_factory("postgres", request, "postgres_dsn")()
    with asyncio.Runner() as runner, opened([postgres], runner):

        async def clear() -> None:
            connection = await asyncpg.connect(postgres_dsn)
            await connection.execute(CLEAR)
            await connection.close()

        @given(st.lists(verbs | pool_verbs | pool_verbs, min_size=5, max_size=40))
        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
        def run(program: list[tuple[Any, ...]]) -> None:
            runner.run(clear())
            fresh, other = sqlite(), sqlite()
            with opened([fresh, other], runner):
                runner.run(play(fresh, postgres, program))

                def empty() -> list[Store]:
                    runner.run(clear())
                    return [other, postgres]

                swap([fresh, postgres], runner, tmp_path, empty)

        run()
