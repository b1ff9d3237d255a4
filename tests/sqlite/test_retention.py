"""What retention does to an SQLite file: freed pages go back, in small steps, and the index has no words left."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import apsw
import pytest

from agent_messaging.exceptions import ConfigurationError, StorageFullError
from agent_messaging.models import Prunable
from agent_messaging.storage.ports import Pruning
from agent_messaging.storage.sqlite import clock as clocks
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.retention import LATER, prune
from tests.conformance.search import index_all
from tests.conformance.world import World
from tests.sqlite.conftest import OpenStore

MEBIBYTE = 1024 * 1024


async def fill(world: World, number: int) -> None:
    """Notes that were taken back."""
    sent = [await world.send(content='"tea ' + "x" * 20_000 + '"') for _ in range(number)]
    await world.deliveries.withdraw(sent)


async def test_freed_pages_go_back_in_small_steps(store: SQLiteStore, world: World, sqlite_path: Path) -> None:
    await fill(world, 60)
    await index_all(store.search, world.owner)
    words = await store.engine.read(lambda con: con.execute("select count(*) from search_words_docsize").get)
    assert words == 60
    assert (await prune(world)).number == 60
    assert await store.engine.read(lambda con: con.execute("select count(*) from search_words_docsize").get) == 0
    steps = []
    while released := await store.retention.release_space(MEBIBYTE // 4):
        steps.append(released)
    assert sum(steps) > MEBIBYTE
    assert max(steps) <= MEBIBYTE // 4 + 4096
    assert len(steps) > 3
    assert sqlite_path.stat().st_size < MEBIBYTE // 2
    assert await store.check() == []


async def test_a_file_without_the_setting_says_what_to_do(open_store: OpenStore, sqlite_path: Path) -> None:
    earlier = apsw.Connection(str(sqlite_path))
    earlier.execute("vacuum")  # writes the header, as an earlier release has
    earlier.close()
    store = await open_store()
    world = await World.create(store)
    await fill(world, 1_000)
    await prune(world, limit=100)
    assert await store.retention.release_space(MEBIBYTE) == 0
    advice = await store.retention.find_space_advice()
    assert advice is not None
    assert "agent-messaging db compact" in advice
    await store.compact()
    assert sqlite_path.stat().st_size < MEBIBYTE
    assert await store.retention.find_space_advice() is None
    await fill(world, 60)
    await prune(world)
    assert await store.retention.release_space(MEBIBYTE) > 0
    memory = await open_store(":memory:")
    with pytest.raises(ConfigurationError, match="memory"):
        await memory.compact()


async def test_a_full_store_has_room_again_when_it_was_pruned(store: SQLiteStore, world: World) -> None:
    await fill(world, 20)
    pages = await store.engine.write(lambda con: con.pragma("page_count"))
    await store.engine.write(lambda con: con.pragma("max_page_count", pages))
    with pytest.raises(StorageFullError):
        await fill(world, 20)
    assert (await prune(world)).number >= 20
    await fill(world, 10)
    assert await store.check() == []


async def test_a_wall_clock_that_runs_ahead_prunes_nothing(
    store: SQLiteStore, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a message has waited is by the store's own clock, too, which does not jump."""
    sent = await world.send()
    await world.deliveries.withdraw([sent])
    wall = clocks.wall_clock
    ahead = timedelta(days=400)
    monkeypatch.setattr(clocks, "wall_clock", lambda: wall() + ahead // timedelta(microseconds=1))
    page = await store.retention.prune(Pruning(Prunable.MESSAGES, LATER), limit=10)
    assert page.number == 0
    assert (await store.retention.prune(Pruning(Prunable.MESSAGES, LATER), limit=10, now=world.at(2 * LATER))).number
