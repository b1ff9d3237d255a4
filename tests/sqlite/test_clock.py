"""The store's clock: the same for all processes, not moved by the wall clock, begun anew after a reboot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agent_messaging.storage.boot import boot_clock
from agent_messaging.storage.ports import NewWorker, QueueSettlement, Settling, TaskRequest, TaskSettlement
from agent_messaging.storage.sqlite import clock
from agent_messaging.storage.sqlite.clock import read_boot_id, to_datetime, to_microseconds, wall_clock
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.coordination import Crew
from tests.conformance.world import World

from .conftest import OpenStore

HOUR = 3_600_000_000


async def shift(store: SQLiteStore, microseconds: int) -> None:
    """As if the wall clock had been set since the file was first opened in this boot."""
    sql = "update store_clock set offset_us = offset_us + ?"
    await store.engine.write(lambda con: con.execute(sql, (microseconds,)))


async def test_stores_agree_whatever_the_wall_clock_says_when_they_open(open_store: OpenStore) -> None:
    first = await open_store()
    await shift(first, -HOUR)
    second, third = await open_store(), await open_store()
    assert second.clock.offset_us == third.clock.offset_us == first.clock.offset_us - HOUR
    assert abs(wall_clock() - second.clock.now().due - HOUR) < 60_000_000
    assert abs(wall_clock() - second.clock.now().at) < 60_000_000


async def test_store_time_runs_with_the_boot_clock(store: SQLiteStore) -> None:
    for _ in range(100):
        before, now, after = boot_clock(), store.clock.now().due, boot_clock()
        assert before <= now - store.clock.offset_us <= after


async def test_an_absolute_instant_is_as_far_off_as_the_wall_clock_says(open_store: OpenStore) -> None:
    await shift(await open_store(), -HOUR)
    store = await open_store()
    world = await World.create(store)
    now = datetime.now(UTC)
    group = world.group(deliver_at=now + timedelta(seconds=100), expires_in=500.0)
    await store.deliveries.append([group], owner=world.owner)
    late = world.group(deliver_at=now - timedelta(seconds=1))
    await store.deliveries.append([late], owner=world.owner)
    advanced = await store.deliveries.advance()
    assert advanced.next_in is not None
    assert 60 < advanced.next_in <= 100
    receipt = await world.receipt(group.deliveries[0].message_id)
    assert receipt.deliver_at == now + timedelta(seconds=100)
    assert receipt.expires_at is not None
    assert timedelta(seconds=499) < receipt.expires_at - now < timedelta(seconds=560)
    claimed = await store.deliveries.claim([world.request()], owner=world.owner)
    assert [delivery.message_id for delivery in claimed] == [late.deliveries[0].message_id]
    receipt = await world.receipt(late.deliveries[0].message_id)
    assert receipt.claimed_at is not None
    assert abs(receipt.claimed_at - now) < timedelta(seconds=60)


async def test_after_a_reboot_the_clock_begins_from_the_wall_clock(open_store: OpenStore) -> None:
    first = await open_store()
    await shift(first, -HOUR)
    await first.engine.write(lambda con: con.execute("update store_clock set boot_id = 'earlier'"))
    second = await open_store()
    assert abs(second.clock.now().due - wall_clock()) < 60_000_000
    rows = await second.engine.read(lambda con: con.execute("select boot_id from store_clock").fetchall())
    assert {row[0] for row in rows} == {"earlier", read_boot_id()}


async def test_where_the_boot_has_no_name_the_clock_is_that_of_whoever_lives(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await open_store()
    await first.presence.start(lambda: None, lambda: None)
    await shift(first, -HOUR)
    monkeypatch.setattr(clock, "read_boot_id", lambda: "")
    second = await open_store()
    assert second.clock.offset_us == first.clock.offset_us - HOUR
    await second.aclose()
    await first.processes.retire(first.presence.process_id)
    await first.aclose()
    third = await open_store()
    assert abs(third.clock.now().due - wall_clock()) < 60_000_000
    await third.presence.start(lambda: None, lambda: None)
    await shift(third, -2 * HOUR)
    monkeypatch.undo()
    fourth = await open_store()
    assert fourth.clock.offset_us == third.clock.offset_us - 2 * HOUR


@pytest.mark.parametrize("hours", [1, -1])
async def test_work_stays_with_who_has_it_where_the_wall_clock_jumps(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    crew = Crew(store)
    worker = NewWorker("w", "worker", ("python",), 2, 60.0, pulls=True)
    await store.workers.register(worker)
    await store.tasks.submit([crew.task("t"), crew.task("again")])
    mine, again = (await store.tasks.exchange([], [TaskRequest("w", 2, 60.0)], owner=crew.owner)).claimed
    await store.queue.put([crew.message("m")])
    (message,) = await store.queue.claim("bob", 1, owner=crew.owner, lease=60.0)
    await store.tasks.settle([TaskSettlement(again.claim, Settling.RETRY, delay=0.05)])
    monkeypatch.setattr(clock, "wall_clock", lambda: wall_clock() + hours * HOUR)
    due = 0
    while not due:
        advanced, queue = await store.tasks.advance(), await store.queue.advance()
        assert (advanced.released, advanced.expired, queue.released, queue.expired) == (0, 0, 0, 0)
        due = advanced.due
    assert (await store.workers.find_workers(["w"]))[0].is_alive
    assert (await store.tasks.settle([TaskSettlement(mine.claim, Settling.DONE)])).moved == [True]
    assert await store.queue.settle([QueueSettlement(message.claim, Settling.DONE)]) == [True]


def test_instants_are_exact_to_the_microsecond() -> None:
    for microseconds in (0, 1, 1_999_999_999_999_999, 32_503_680_000_000_001):
        assert to_microseconds(to_datetime(microseconds)) == microseconds
