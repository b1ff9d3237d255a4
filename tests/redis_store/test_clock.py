"""The server's clock jumps: who lives stays alive, work stays with who has it, and the store goes on by its own."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from agent_messaging.storage.boot import boot_clock
from agent_messaging.storage.ports import QueueSettlement, Settling, TaskRequest, TaskSettlement
from agent_messaging.storage.redis.clock import StoreClock
from agent_messaging.storage.redis.store import RedisStore
from tests.redis_store.support import Live, Process, a_message, a_task, a_worker
from tests.support import eventually

HOUR = 3_600_000_000
CLOSE = 500_000


def jump(client: Any, store: RedisStore, by: int) -> None:
    """Set the server's clock, as the store sees it: to its shift the server adds its own time."""
    client.hincrby(store.engine.namespace_key + "clock", "shift", by)


def shift_of(client: Any, store: RedisStore) -> int:
    """By how much the store's time differs from the server's."""
    return int(client.hget(store.engine.namespace_key + "clock", "shift") or 0)


def time_of(process: Process) -> int:
    """Store time, as this process counts it."""
    time = process.store.engine.clock.count(boot_clock())
    assert time is not None
    return time


@pytest.mark.parametrize("hours", [1, -1])
async def test_work_stays_with_who_has_it_and_comes_back_in_its_time(
    live: Live, client: Any, hours: int, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = await live(lease=3.0), await live(lease=3.0)
    store = one.store
    await store.workers.register(a_worker("w", "build", capacity=2, ttl=60.0, pulls=True), process_id=one.id)
    await store.tasks.submit([a_task("t", "build", message=None), a_task("again", "build", message=None)])
    again, mine = (await store.tasks.exchange([], [TaskRequest("w", 2, 60.0)], owner=one.id)).claimed[::-1]
    await store.queue.put([a_message("m")])
    (message,) = await store.queue.claim("bob", 1, owner=one.id, lease=60.0)
    await store.tasks.settle([TaskSettlement(again.claim, Settling.RETRY, delay=0.3)])
    before, read_at = time_of(one), boot_clock()
    with caplog.at_level(logging.WARNING, "agent_messaging"):
        jump(client, store, hours * HOUR)
        due = 0
        while not due:
            advanced, queue = await store.tasks.advance(), await store.queue.advance()
            assert (advanced.released, advanced.expired, queue.released, queue.expired) == (0, 0, 0, 0)
            assert await one.store.presence.find_dead() == await other.store.presence.find_dead() == []
            due = advanced.due
    assert (await store.workers.find_workers(["w"]))[0].is_alive
    assert (await store.tasks.settle([TaskSettlement(mine.claim, Settling.DONE)])).moved == [True]
    assert await store.queue.settle([QueueSettlement(message.claim, Settling.DONE)]) == [True]
    assert one.lost == other.lost == []
    assert abs(shift_of(client, store)) < CLOSE  # the jump and what makes up for it
    later = await live()
    for process in (one, other, later):
        assert abs(time_of(process) - before - (boot_clock() - read_at)) < CLOSE
    assert sum("has jumped" in record.message for record in caplog.records) == 1


async def test_where_nobody_lives_the_servers_clock_counts_again(live: Live, client: Any) -> None:
    one = await live()
    jump(client, one.store, HOUR)
    await one.store.processes.retire(one.id)
    await one.store.aclose()
    assert shift_of(client, one.store)
    later = await live()
    assert shift_of(client, later.store) == 0


async def test_who_stood_still_follows_the_others(live: Live, client: Any) -> None:
    """A paused machine moves nobody's clock."""
    one, still = await live(lease=1.2), await live(lease=1.2)
    clock = still.store.engine.clock
    last = one.store.engine.namespace_key + "clock"
    await eventually(lambda: client.hget(last, "last"))  # one of them has renewed its life
    clock.follow(time_of(one) - HOUR, boot_clock(), boot_clock())
    await still.store.tasks.advance()
    assert abs(time_of(still) - time_of(one)) < CLOSE
    assert shift_of(client, one.store) == 0


def test_an_answer_that_took_long_is_no_jump_and_teaches_nothing() -> None:
    clock = StoreClock()
    assert clock.count(5) is None
    assert clock.learn(1_000_000_000, 0, 200)
    assert clock.learn(1_009_000_000, 0, 10_000_000)  # the server stood still in it
    assert clock.count(10_000_000) == 1_000_000_000 + 10_000_000 - 100
    assert not clock.learn(1_013_000_000, 10_000_000, 10_000_200)
    clock.follow(1_013_000_000, 10_000_000, 10_000_200)
    assert clock.count(10_000_100) == 1_013_000_000
    assert clock.learn(1_013_500_000, 10_100_000, 10_100_200)  # less is followed
    assert clock.count(10_100_100) == 1_013_500_000
