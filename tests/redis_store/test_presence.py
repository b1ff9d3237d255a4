"""Who counts as alive on Redis, who is rung, and what becomes of the tasks of the dead."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from agent_messaging.storage.ports import TaskRequest
from agent_messaging.storage.redis.store import RedisStore
from tests.fixtures.redis import RedisServer
from tests.redis_store.support import LEASE, Live, a_message, a_task, a_worker
from tests.support import eventually


async def test_who_waits_is_rung(live: Live) -> None:
    waits, puts = await live(), await live()
    await waits.store.queue.listen(waits.id, ["bob"])
    put = await puts.store.queue.put([a_message("1"), a_message("2", "carol")])
    assert put.listeners == {waits.id}
    puts.store.presence.ring(put.listeners | {puts.id})
    await waits.wait_for_ring()
    await waits.store.workers.register(a_worker("w", "build", pulls=True), process_id=waits.id)
    news = await puts.store.tasks.submit([a_task("t", "build", message=None)], origin=puts.id)
    assert news.processes == {waits.id}
    puts.store.presence.ring(news.processes)
    await waits.wait_for_ring()
    assert puts.rings == 0


async def test_a_slow_poll_sees_what_no_ring_told(live: Live) -> None:
    waits, puts = await live(), await live()
    assert (await waits.store.presence.look())[1]
    assert not (await waits.store.presence.look())[1]
    await puts.store.queue.put([a_message("1")])
    assert (await waits.store.presence.look())[1]
    (claimed,) = await puts.store.queue.claim("bob", 1, owner=puts.id, lease=30)
    assert (await waits.store.presence.look())[1]
    assert not (await waits.store.presence.look())[1]
    assert claimed.attempt == 1


async def test_a_process_that_is_gone_is_missed_long_before_its_lease(live: Live) -> None:
    gone, stays = await live(), await live()
    await gone.store.workers.register(a_worker("w", "build", pulls=True), process_id=gone.id)
    await gone.store.tasks.submit([a_task("t", "build", message=None)], origin=gone.id)
    exchanged = await gone.store.tasks.exchange([], [TaskRequest("w", 1, 30.0)], owner=gone.id)
    assert len(exchanged.claimed) == 1
    await gone.store.presence.aclose()  # its connections end, as those of a killed one do, and nobody retires it
    stays.store.presence._thread.back_at = float("-inf")  # type: ignore[union-attr] # it was not away just before
    began = time.monotonic()
    dead = await eventually(stays.store.presence.find_dead, LEASE, until=lambda found: gone.id in found)
    assert dead == [gone.id]
    assert time.monotonic() - began < LEASE
    assert await stays.store.processes.release(dead) == 1
    assert await stays.store.processes.release(dead) == 0
    (row,) = await stays.store.tasks.find_tasks(["t"])
    assert (row.state, row.attempt, row.log[-1]["event"]) == ("queued", 1, "lost")
    (worker,) = await stays.store.workers.find_workers(["w"])
    assert worker.status == "offline"
    assert await stays.store.presence.find_dead() == []


async def test_a_blocked_loop_loses_no_claim(live: Live) -> None:
    blocked = await live(lease=1.0)

    async def watch(until: float) -> set[str]:
        other = RedisStore(
            blocked.store.engine._dsn + f"?namespace={blocked.store.engine._namespace}", location="redis"
        )
        await other.open()
        dead: set[str] = set()
        while time.monotonic() < until:
            dead |= {id.decode() for id in (await other.engine.call("look", process=""))[0]}
            await asyncio.sleep(0.05)
        await other.aclose()
        return dead

    until = time.monotonic() + 2.5
    watching = asyncio.create_task(asyncio.to_thread(asyncio.run, watch(until)))
    await asyncio.sleep(0.1)
    time.sleep(max(until - time.monotonic(), 0.0))
    assert await watching == set()
    assert blocked.lost == []


async def test_who_was_taken_for_dead_goes_on_under_another_name(live: Live) -> None:
    one, other = await live(lease=1.5), await live()
    old = one.id
    await other.store.processes.release([old])
    await eventually(lambda: one.lost, 10)
    assert one.id not in {old, ""}
    assert await other.store.queue.claim("bob", 1, owner=old, lease=30) == []
    await one.wait_for_ring()  # it listens again
    one.rung.clear()
    other.store.presence.ring([one.id])
    await one.wait_for_ring()


async def test_a_server_that_is_started_again_finds_the_same_processes(
    live: Live, own_redis: Callable[..., RedisServer]
) -> None:
    server = own_redis("--appendonly", "yes", "--appendfsync", "always")
    one, other = await live(server.url), await live(server.url)
    names = one.id, other.id
    one.rung.clear()
    await asyncio.to_thread(server.end)
    await asyncio.to_thread(server.start)
    await one.wait_for_ring()  # it looks once, because rings may have been lost
    await eventually(other.store.presence.look, 10, until=lambda looked: looked[0] == [])
    one.rung.clear()

    async def ring() -> bool:
        other.store.presence.ring([one.id])
        return one.rung.is_set()

    await eventually(ring, 10)
    assert (one.id, other.id) == names
    assert one.lost == other.lost == []


async def test_after_an_outage_nobody_is_missed_who_may_be_on_its_way_back(live: Live) -> None:
    slow, one = await live(lease=1.0), await live()
    thread = one.store.presence._thread
    assert thread is not None
    await slow.store.presence.aclose()  # it cannot renew its lease, as nobody can while the server is away

    async def is_over() -> bool:
        return slow.id.encode() in (await one.store.engine.call("look", process=""))[0]

    await eventually(is_over, 10)
    thread.back_at = time.monotonic() + 1_000  # this process has just come back itself
    assert await one.store.presence.find_dead() == []
    thread.back_at = float("-inf")
    assert await one.store.presence.find_dead() == [slow.id]


async def test_each_looks_at_its_neighbour_alone_and_past_one_that_does_not_look(live: Live, client: Any) -> None:
    processes = sorted([await live() for _ in range(4)], key=lambda process: process.id)
    looked = processes[0].store.engine.namespace_key + "looked"
    await processes[2].store.presence.aclose()  # it is gone, and nobody retires it

    async def see() -> list[list[str]]:
        """Those that each process sees without their connections."""
        return [[id.decode() for id in (await one.store.engine.call("look", process=one.id))[1]] for one in processes]

    def say_when(number: int, instant: int) -> None:
        client.hset(looked, processes[number].id, instant)

    for number in range(4):
        say_when(number, 2**52)  # lately, however slow this test is
    gone = [processes[2].id]
    assert await eventually(see, until=lambda seen: any(seen)) == [[], gone, [], []]
    say_when(1, 1)  # its loop is blocked
    one = processes[0]
    assert (await one.store.engine.call("look", process=one.id))[1] == [processes[2].id.encode()]
