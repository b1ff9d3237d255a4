"""What evictions, operators and strict servers leave of a namespace: everything else goes on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from agent_messaging.exceptions import ConfigurationError, StorageFullError, StorageUnavailableError
from agent_messaging.models import DeliveryState
from agent_messaging.storage.ports import Beat, QueueSettlement, Settling, TaskFilter, TaskRequest
from agent_messaging.storage.redis.store import RedisStore
from tests.fixtures.redis import RedisServer
from tests.redis_store.support import a_message, a_task, a_worker, done, ids

Servers = Callable[..., RedisServer]


# --- hashes that are gone ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["evicted", "torn"])
async def test_messages_whose_hashes_are_gone_stop_nothing(store: RedisStore, client: Any, how: str) -> None:
    at, later = store.engine.namespace_key, datetime.now(UTC) + timedelta(hours=2)
    await store.queue.put([a_message("expires", expires_in=60.0), a_message("waits"), a_message("returns")])
    await store.queue.put([a_message(name, "carol") for name in ("held", "retried", "dead")])
    held, retried, dead = await store.queue.claim("carol", 3, owner="p", lease=30)
    retry = QueueSettlement(retried.claim, Settling.RETRY, delay=60.0)
    assert await store.queue.settle([retry, QueueSettlement(dead.claim, Settling.DEAD)]) == [True, True]
    for name in ("bob\nexpires", "bob\nwaits", "bob\nreturns", "carol\nheld", "carol\nretried", "carol\ndead"):
        if how == "evicted":
            client.delete(f"{at}m:{name}")
        else:
            client.hdel(f"{at}m:{name}", "priority", "token")
    client.zadd(f"{at}again:bob", {"returns": 2 * 2**50 + 1})
    await store.queue.put([a_message("whole"), a_message("too", expires_in=60.0)])
    assert await store.queue.redrive(None, None) == 0
    assert ids(await store.queue.claim("bob", 1, owner="p", lease=30)) == ["whole"]
    advanced = await store.queue.advance(now=later)
    assert (advanced.released, advanced.expired) == (1, 1)  # those that are whole
    assert await store.queue.settle([done(held)]) == [False]
    assert await store.queue.release(["p"]) == 0
    assert ids(await store.queue.claim("bob", 9, owner="q", lease=30)) == ["whole"]
    assert (await store.queue.advance(now=later)).released == 1


async def test_tasks_whose_hashes_are_gone_stop_nothing(store: RedisStore, client: Any) -> None:
    at, later = store.engine.namespace_key, datetime.now(UTC) + timedelta(hours=2)
    await store.workers.register(a_worker("w", "build", capacity=9, pulls=True), process_id="p")
    gone = ["runs", "waits", "delayed", "deadline", "assigned", "failed"]
    await store.tasks.submit([a_task("runs", "build", message=None)])
    running = (await store.tasks.exchange([], [TaskRequest("w", 1, 30.0)], owner="p")).claimed
    assert [one.claim.task_id for one in running] == ["runs"]
    await store.tasks.submit(
        [
            a_task("waits", "build", message=None),
            a_task("delayed", "build", message=None, delay=60.0),
            a_task("deadline", "build", message=None, expires_in=60.0),
        ]
    )
    await store.workers.register(a_worker("told", "sweep", capacity=2))
    await store.tasks.assign([a_task("assigned", "sweep"), a_task("failed", "sweep")])
    await store.workers.unregister("told")  # both wait to be assigned again
    client.delete(*(f"{at}t:{name}" for name in gone))
    await store.tasks.submit([a_task("whole", "build", message=None)])
    assert (await store.tasks.find_waiting(["w"])) == ["w"]
    news = await store.tasks.exchange([], [TaskRequest("w", 9, 30.0)], owner="p")
    assert [one.claim.task_id for one in news.claimed] == ["whole"]
    assert await store.tasks.find_waiting(["w"]) == []
    assert [worker.booked for worker in await store.workers.find_workers(["w"])] == [1]
    await store.workers.register(a_worker("told", "sweep"))
    assert (await store.tasks.assign_waiting(9)).outcomes == []
    assert (await store.tasks.assign([a_task("next", "sweep")])).outcomes[0].worker_id == "told"  # type: ignore[union-attr]
    assert await store.tasks.release_tasks(["p"]) == 1
    [worker] = await store.workers.find_workers(["w"])
    assert worker.booked == 0
    advanced = await store.tasks.advance(now=later)
    assert (advanced.released, advanced.expired) == (1, 0)
    assert (await store.tasks.redrive(None)).task_ids == []


# --- strangers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["read", "moved"])
async def test_what_a_stranger_took_with_the_group_is_received_all_the_same(
    store: RedisStore, client: Any, how: str
) -> None:
    stream = f"{store.engine.namespace_key}q:2:bob"
    await store.queue.put([a_message(f"unread-{number}", "nobody") for number in range(150)])
    await store.queue.put([a_message("1")])
    assert ids(await store.queue.claim("bob", 9, owner="p", lease=30)) == ["1"]
    await store.queue.put([a_message("2"), a_message("3", priority=1)])
    if how == "read":
        assert client.xreadgroup("agents", "redis-cli", {stream: ">"})
    else:
        client.xgroup_setid(stream, "agents", "$")
    for _ in range(3):  # each looks at some of those that wait
        await store.queue.advance()
    assert ids(await store.queue.claim("bob", 9, owner="p", lease=30)) == ["3", "2"]
    assert await store.queue.claim("bob", 9, owner="p", lease=30) == []


async def test_a_foreign_entry_of_any_size_is_set_aside(store: RedisStore, client: Any) -> None:
    stream = f"{store.engine.namespace_key}q:2:bob"
    client.xadd(stream, {f"f{number}": "x" for number in range(10_000)})
    await store.queue.put([a_message("1")])
    assert ids(await store.queue.claim("bob", 9, owner="p", lease=30)) == ["1"]
    assert client.xlen(f"{store.engine.namespace_key}quarantine") == 1


async def test_the_oldest_message_of_an_agent_is_found_without_a_look_at_all_others(
    store: RedisStore, client: Any
) -> None:
    earlier = datetime.now(UTC) - timedelta(hours=1)
    await store.queue.put([a_message("first")], now=earlier)
    await store.queue.put([a_message("second", priority=0)])
    await store.queue.put([a_message(str(number), "carol") for number in range(1_000)])

    def count() -> int:
        commands: dict[str, Any] = client.info("commandstats")
        return sum(one["calls"] for one in commands.values())

    ages = []
    for agent in ("bob", "nobody"):
        before = count()
        ages.append((await store.queue.statistics(agent)).oldest_queued_age)
        assert count() - before < 100
    assert (ages[0] or 0) > 3_500
    assert ages[1] is None
    [claimed] = await store.queue.claim("bob", 1, owner="p", lease=30, types=["task_assignment"])
    assert claimed.claim.message_id == "second"
    [first] = await store.queue.claim("bob", 1, owner="p", lease=30)
    age = (await store.queue.statistics("bob")).oldest_queued_age
    assert age is None
    assert await store.queue.settle([QueueSettlement(first.claim, Settling.RETURNED)]) == [True]
    assert ((await store.queue.statistics("bob")).oldest_queued_age or 0) > 3_500
    assert (await store.queue.statistics("bob")).counts[DeliveryState.QUEUED] == 1


async def test_a_list_goes_on_behind_thousands_that_are_not_wanted(store: RedisStore) -> None:
    await store.tasks.submit([a_task("rare", "build", type="rare", message=None)])
    for start in range(0, 4_500, 500):
        await store.tasks.submit([a_task(str(start + one), "build", message=None) for one in range(500)])
    assert [row.task_id for row in await store.tasks.list_tasks(TaskFilter(type="rare"), 10, 0)] == ["rare"]
    assert await store.tasks.list_tasks(TaskFilter(type="rare"), 10, 1) == []
    assert [row.task_id for row in await store.tasks.list_tasks(TaskFilter(), 3, 4_498)] == ["1", "0", "rare"]


async def test_a_process_an_agent_and_a_supervisor_leave_nothing_behind(store: RedisStore, client: Any) -> None:
    at = store.engine.namespace_key
    for process in ("p1", "p2"):
        await store.engine.call("appear", process=process, lease=30_000_000)
        await store.queue.put([a_message(f"for-{process}")])
        claimed = await store.queue.claim("bob", 1, owner=process, lease=30)
        assert await store.queue.settle([done(one) for one in claimed]) == [True]
    assert {one["name"] for one in client.xinfo_consumers(f"{at}q:2:bob", "agents")} == {b"p1", b"p2"}
    await store.processes.retire("p1")
    assert await store.processes.release(["p2"]) == 0
    assert client.xinfo_consumers(f"{at}q:2:bob", "agents") == []
    later = datetime.now(UTC) + timedelta(hours=1)
    assert await store.queue.prune(60.0, 9, now=later) == 2
    await store.tasks.submit([a_task("t", "build", message=None, supervisor="s")])
    await store.tasks.cancel(["t"], "no")
    assert await store.tasks.prune(60.0, 9, now=later) == 1
    left = {name.decode().removeprefix(at) for name in client.scan_iter(match=f"{at}*")}
    assert left == {"epoch", "seq", "gone:p1", "gone:p2"}  # the latter two for a week
    assert (await store.queue.statistics("bob")).counts == {}
    await store.queue.put([a_message("3")])
    assert ids(await store.queue.claim("bob", 9, owner="q", lease=30)) == ["3"]


async def test_parameters_of_other_programs_in_the_url_change_nothing(redis_server: str, redis_namespace: str) -> None:
    parameters = "decode_responses=True&protocol=3&encoding=latin-1&health_check_interval=1&socket_timeout=5"
    store = RedisStore(f"{redis_server}?{parameters}&namespace={redis_namespace}", location="redis", lease=6.0)
    rung = asyncio.Event()
    other = RedisStore(f"{redis_server}?namespace={redis_namespace}", location="redis")
    try:
        await store.presence.start(rung.set, lambda: None)
        await other.presence.start(lambda: None, lambda: None)
        content = '{"name":"ł"}'
        await store.queue.put([a_message("1", content=content)])
        assert [one.content for one in await store.queue.claim("bob", 9, owner="p", lease=30)] == [content]
        await asyncio.sleep(2.5)  # it renews its lease each second
        thread = store.presence._thread
        assert thread is not None
        assert thread.back_at == float("-inf")  # it was never cut off
        other.presence.ring([store.presence.process_id])
        async with asyncio.timeout(10):
            await rung.wait()
    finally:
        await other.aclose()
        await store.aclose()


# --- strict servers ---------------------------------------------------------------------------------------------------


async def test_a_user_without_dangerous_commands_works(own_redis: Servers, caplog: pytest.LogCaptureFixture) -> None:
    server = own_redis()
    with redis.Redis(port=server.port) as client:
        client.execute_command(
            "ACL", "SETUSER", "agent", "on", ">pw", "~*", "&*", "+@all", "-@dangerous", "-@admin", "-pubsub"
        )
    store = RedisStore(f"redis://agent:pw@127.0.0.1:{server.port}/0", location="redis")
    try:
        with caplog.at_level(logging.WARNING, logger="agent_messaging"):
            await store.open()
            await store.presence.start(lambda: None, lambda: None)
            assert (await store.presence.look())[0] == []
            assert (await store.presence.look())[0] == []
        assert "(INFO)" in store.warnings[0]
        assert caplog.text.count("may not use PUBSUB") == 1
        assert (await store.queue.put([a_message("1")])).stored == [True]
        assert (await store.describe()).version.startswith("Redis ")
    finally:
        await store.aclose()


async def test_a_user_who_may_not_do_what_the_script_does_is_told_so(own_redis: Servers) -> None:
    server = own_redis()
    with redis.Redis(port=server.port) as client:
        client.execute_command("ACL", "SETUSER", "agent", "on", ">pw", "~*", "&*", "+@all", "-xadd")
    store = RedisStore(f"redis://agent:pw@127.0.0.1:{server.port}/0", location="redis")
    try:
        with pytest.raises(ConfigurationError, match="refuses this user"):
            await store.queue.put([a_message("1")])
    finally:
        await store.aclose()


async def test_all_who_wait_for_a_server_that_is_away_wait_for_one_try(own_redis: Servers) -> None:
    server = own_redis()
    server.end()
    store = RedisStore(server.url, location="redis", call_timeout=0.5)
    try:
        began = time.monotonic()
        outcomes = await asyncio.gather(
            *(store.queue.put([a_message(str(number))]) for number in range(40)), return_exceptions=True
        )
        assert time.monotonic() - began < 10  # behind each other they wait 20 s
        assert {type(one) for one in outcomes} == {StorageUnavailableError}
        assert len({id(one) for one in outcomes}) == 40
        waiting = asyncio.create_task(store.open())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.to_thread(server.start)
        assert (await store.queue.put([a_message("1")])).stored == [True]
    finally:
        await store.aclose()


async def test_a_server_that_answers_too_slowly_to_be_opened_is_away(
    own_redis: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RedisStore(own_redis().url, location="redis", call_timeout=0.1)
    monkeypatch.setattr(store.engine, "_look", lambda: asyncio.sleep(60))
    with pytest.raises(StorageUnavailableError):
        await store.open()
    await store.aclose()


async def test_out_of_memory_a_script_renews_too(own_redis: Servers) -> None:
    server = own_redis()
    store = RedisStore(server.url, location="redis")
    try:
        await store.open()
        store.engine._has_functions = False
        await store.queue.put([a_message("1")])
        await store.workers.register(a_worker("w", "build"))
        [claimed] = await store.queue.claim("bob", 1, owner="p", lease=30)
        await store.engine.call("appear", process="p", lease=30_000_000)
        with redis.Redis(port=server.port) as client:
            client.config_set("maxmemory", "1mb")
        with pytest.raises(StorageFullError):
            await store.queue.put([a_message("2")])
        assert await store.queue.renew([claimed.claim], lease=60) == [True]
        assert await store.engine.call("renew_life", process="p", lease=30_000_000) == 1
        assert await store.workers.heartbeat([Beat("w", 60.0)]) == [True]
        assert await store.queue.settle([done(claimed)]) == [True]
    finally:
        await store.aclose()
