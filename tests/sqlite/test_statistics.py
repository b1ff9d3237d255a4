"""Statistics of SQLite's planner, which somebody takes of a store: they are removed before they can do harm."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest

from agent_messaging.storage.sqlite import filing
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.world import World
from tests.sqlite.test_scale import cost

MANY = 20_000


def take(path: Path) -> int:
    """What a tool does that tends databases; answers how many statistics there are."""
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(5000)
        connection.execute("analyze")
        return int(connection.execute("select count(*) from sqlite_stat1").get)
    finally:
        connection.close()


def taken(path: Path) -> list[str]:
    """The tables of statistics that there are."""
    connection = apsw.Connection(str(path))
    try:
        return [name for (name,) in connection.execute("select name from sqlite_schema where name glob 'sqlite_stat*'")]
    finally:
        connection.close()


@pytest.fixture
async def analyzed(world: World, store: SQLiteStore, sqlite_path: Path) -> World:
    """A store of which they were taken while it had a few messages, some of which wait."""
    await world.send_many(12)
    await world.settle(await world.claim(limit=6, ordered=False))
    await store.engine.write(filing.file_all)
    assert take(sqlite_path) > 5
    return world


async def test_they_are_gone_behind_a_commit(
    analyzed: World, store: SQLiteStore, sqlite_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agent_messaging.storage")
    store.engine._statistics_at = 0.0
    await analyzed.send()
    await analyzed.settle(await analyzed.claim(limit=20, ordered=False))
    assert taken(sqlite_path) == []
    (record,) = [record for record in caplog.records if "ANALYZE" in record.getMessage()]
    assert str(sqlite_path) in record.getMessage()
    for _ in range(MANY // 2000):
        await analyzed.send_many(2000)

    async def claim(**options: Any) -> None:
        claimed = await analyzed.claim(limit=2, **options)
        await analyzed.settle(claimed)

    costs = [await cost(store, partial(claim, ordered=ordered)) for ordered in (True, False)]
    assert max(costs) < MANY // 4


async def test_they_are_gone_when_the_store_is_opened(analyzed: World, sqlite_path: Path) -> None:
    other = SQLiteStore(str(sqlite_path))
    await other.open()
    await other.aclose()
    assert taken(sqlite_path) == []
    assert await analyzed.store.check() == []
