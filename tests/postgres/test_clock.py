"""The server's clock jumps: who lives stays alive, what waits ends when it should, and the store goes on by its own."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent_messaging import AgentMessaging, Config, DatabaseConfig, MessagingConfig
from agent_messaging.exceptions import ConversationTimeoutError
from agent_messaging.storage.ports import (
    NewQueueMessage,
    NewTask,
    NewWorker,
    QueueAdvanced,
    QueueSettlement,
    Settling,
    TaskRequest,
    TasksAdvanced,
    TaskSettlement,
)
from agent_messaging.storage.postgres.clock import StoreClock
from agent_messaging.storage.postgres.store import PostgresStore
from tests.postgres.conftest import StoreMaker, execute
from tests.postgres.servers import OwnServer
from tests.support import eventually

JUMPS = ("1 hour", "-1 hour")
HOUR = timedelta(hours=1)
CLOSE = timedelta(seconds=0.5)


async def jump(dsn: str, by: str) -> None:
    """Set the server's clock, as the store sees it."""
    await execute(
        dsn,
        "create or replace function server_clock() returns timestamptz language sql volatile"
        f" as 'select clock_timestamp() + interval ''{by}'''",
        "select 1",
    )


async def started(store: PostgresStore) -> list[str]:
    """Start a store's presence; returns where it says that it was taken for dead."""
    lost: list[str] = []
    await store.presence.start(lambda: None, lambda: lost.append(store.presence.process_id))
    return lost


def hour_of(by: str) -> timedelta:
    return -HOUR if by.startswith("-") else HOUR


async def shift_of(dsn: str) -> timedelta:
    rows = await execute(dsn, "select shift from store_clock")
    return rows[0]["shift"] if rows else timedelta()


@pytest.mark.parametrize("by", JUMPS)
async def test_who_lives_stays_alive(own_server: OwnServer, open_store: StoreMaker, by: str) -> None:
    one, two = [await open_store(own_server.dsn, lease=1.2) for _ in range(2)]
    lost = [await started(one), await started(two)]
    before = one.engine.clock.now()
    begun = time.monotonic()
    await jump(own_server.dsn, by)
    while not await shift_of(own_server.dsn) or time.monotonic() - begun < 2.5:  # two leases
        assert await one.presence.find_dead() == await two.presence.find_dead() == []
    passed = timedelta(seconds=time.monotonic() - begun)
    for store in (one, two):
        assert abs(store.engine.clock.now() - before - passed) < CLOSE
    assert lost == [[], []]
    assert abs(await shift_of(own_server.dsn) + hour_of(by)) < CLOSE


@pytest.mark.parametrize("by", JUMPS)
async def test_work_stays_with_who_has_it_and_comes_back_in_its_time(
    own_server: OwnServer, open_store: StoreMaker, by: str
) -> None:
    store = await open_store(own_server.dsn, lease=1.2)
    await started(store)
    owner = store.presence.process_id
    worker = NewWorker("w", "worker", ("python",), 2, 60.0, pulls=True)
    await store.workers.register(worker, process_id=owner)
    task = NewTask("t", "build", ("python",), 2, "{}", 0, 3)
    await store.tasks.submit([task, replace(task, task_id="again")])
    again, mine = (await store.tasks.exchange([], [TaskRequest("w", 2, 60.0)], owner=owner)).claimed[::-1]
    await store.queue.put([NewQueueMessage("m", "bob", "alice", "job", 2, "{}", None, 0, 3)])
    (message,) = await store.queue.claim("bob", 1, owner=owner, lease=60.0)
    await store.tasks.settle([TaskSettlement(again.claim, Settling.RETRY, delay=1.0)])
    await jump(own_server.dsn, by)
    while not await shift_of(own_server.dsn):
        assert lost_nothing(await store.tasks.advance(), await store.queue.advance())
    due = 0
    while not due:
        advanced = await store.tasks.advance()
        assert lost_nothing(advanced, await store.queue.advance())
        due = advanced.due
    assert (await store.workers.find_workers(["w"]))[0].is_alive
    assert (await store.tasks.settle([TaskSettlement(mine.claim, Settling.DONE)])).moved == [True]
    assert await store.queue.settle([QueueSettlement(message.claim, Settling.DONE)]) == [True]


def lost_nothing(tasks: TasksAdvanced, queue: QueueAdvanced) -> bool:
    return tasks.released == tasks.expired == queue.released == queue.expired == 0


@pytest.mark.parametrize("by", JUMPS)
async def test_who_starts_after_it_counts_as_the_others(own_server: OwnServer, open_store: StoreMaker, by: str) -> None:
    """At once, before anybody has seen it."""
    one = await open_store(own_server.dsn, lease=30.0)  # renewed every 5 s
    await started(one)
    await jump(own_server.dsn, by)
    two = await open_store(own_server.dsn, lease=1.2)
    assert abs(one.engine.clock.now() - two.engine.clock.now()) < CLOSE
    await started(two)
    assert await two.presence.find_dead() == []


async def test_it_is_said_once_and_by_the_description(
    own_server: OwnServer, open_store: StoreMaker, caplog: pytest.LogCaptureFixture
) -> None:
    stores = [await open_store(own_server.dsn, lease=1.2) for _ in range(3)]
    for store in stores:
        await started(store)
    with caplog.at_level(logging.WARNING, "agent_messaging"):
        await jump(own_server.dsn, "1 hour")
        await eventually(lambda: [store.engine.clock.shift for store in stores], until=all)
    assert sum("has jumped by +3600" in record.message for record in caplog.records) == 1
    assert any("clock has jumped" in warning for warning in (await stores[0].describe()).warnings)


@pytest.mark.parametrize("by", JUMPS)
async def test_where_nobody_lives_the_servers_clock_counts_again(
    own_server: OwnServer, open_store: StoreMaker, by: str
) -> None:
    one = await open_store(own_server.dsn, lease=1.2)
    await started(one)
    await jump(own_server.dsn, by)
    await eventually(lambda: shift_of(own_server.dsn))
    await one.processes.retire(one.presence.process_id)
    await one.aclose()
    two = await open_store(own_server.dsn)
    assert abs(two.engine.clock.now() - datetime.now(UTC) - hour_of(by)) < CLOSE
    assert await shift_of(own_server.dsn) == timedelta()


async def test_who_stood_still_follows_the_others(own_server: OwnServer, open_store: StoreMaker) -> None:
    """A paused machine does not move everybody's clock."""
    one, two = [await open_store(own_server.dsn, lease=1.2) for _ in range(2)]
    await started(one)
    await started(two)
    stand_still(two.engine.clock, HOUR)
    assert two.engine.clock.now() < one.engine.clock.now() - CLOSE
    await eventually(lambda: abs(one.engine.clock.now() - two.engine.clock.now()), until=lambda apart: apart < CLOSE)
    assert await shift_of(own_server.dsn) == timedelta()


async def test_an_answer_that_took_long_moves_no_clock_that_is_known_better(own_server: OwnServer) -> None:
    """A process that is stopped for a moment while it reads the time knows it no better than half of that moment."""
    clock = StoreClock("here")
    pause = 0.0

    async def read(sql: str, *values: object) -> dict[str, object]:
        [row] = await execute(own_server.dsn, "select clock_timestamp() as at")
        time.sleep(pause)
        shift, epoch = timedelta(), 0
        return {"at": row["at"], "shift": shift, "epoch": epoch, "latest": None, "is_anybody": False}

    await clock.adopt(read)
    known = clock._reading
    assert known is not None
    pause = 1.0
    await clock.compare(read, "process")
    assert clock._reading is known
    clock._reading = known._replace(time=known.time + timedelta(seconds=0.9))  # further off than the pause explains
    await clock.compare(read, "process")
    assert abs(clock.now() - datetime.now(UTC)) < CLOSE + timedelta(seconds=0.1)


def stand_still(clock: StoreClock, time: timedelta) -> None:
    """As if this machine had not counted for so long."""
    reading = clock._reading
    assert reading is not None
    clock._reading = reading._replace(time=reading.time - time)


@pytest.mark.parametrize("by", JUMPS)
async def test_a_message_at_work_runs_once_and_an_ask_ends_in_its_time(own_server: OwnServer, by: str) -> None:
    async with TwoSdks(own_server.dsn) as (one, two):
        runs = []
        release = asyncio.Event()
        for sdk in (one, two):

            @sdk.register_handler("bob")
            async def bob(message: object, context: object) -> object:
                if message == "silence":
                    return None
                runs.append(message)
                await release.wait()
                return "late, but in time"

        sent = await one.one_way.send("alice", "bob", "note")
        asking = asyncio.create_task(one.conversation.send_and_wait("alice", "bob", "ask", timeout=12.0))
        await eventually(lambda: len(runs), until=lambda n: n == 2)
        await jump(own_server.dsn, by)
        await eventually(lambda: shift_of(own_server.dsn))
        await asyncio.sleep(2.5)  # two leases, and the poll that ends what is over
        assert not asking.done()
        release.set()
        assert await asking == "late, but in time"
        assert (await one.receipts.wait(sent, timeout=5))[0].state == "done"
        assert sorted(map(str, runs)) == ["ask", "note"]
        begun = time.monotonic()
        with pytest.raises(ConversationTimeoutError):
            await two.conversation.send_and_wait("carol", "bob", "silence", timeout=1.0)
        assert 0.9 < time.monotonic() - begun < 3.0


@pytest.mark.parametrize("by", JUMPS)
async def test_a_turn_ends_in_its_time(own_server: OwnServer, by: str) -> None:
    async with TwoSdks(own_server.dsn) as (one, two):
        meeting_id = await one.meeting.create_meeting("alice", ["bob"], turn_duration=4.0)
        await two.meeting.attend_meeting("bob", meeting_id)
        await one.meeting.start_meeting("alice", meeting_id)
        begun = time.monotonic()
        await jump(own_server.dsn, by)
        turn = await two.meeting.wait_for_turn("bob", meeting_id, timeout=20.0)
        assert 3.0 < time.monotonic() - begun < 8.0
        assert turn.number == 2
        (row,) = await execute(own_server.dsn, "select count(*) from meeting_events where type = 'timeout_occurred'")
        assert row["count"] == 1


class TwoSdks(AsyncExitStack):
    """Two processes with short leases, and alice, bob and carol."""

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self.dsn = dsn

    async def __aenter__(self) -> tuple[AgentMessaging, AgentMessaging]:  # type: ignore[override]
        await super().__aenter__()
        database = DatabaseConfig(url=self.dsn, lease=1.2)
        config = Config(database=database, messaging=MessagingConfig(handler_timeout=20.0, drain_timeout=2.0))
        one, two = [await self.enter_async_context(AgentMessaging(config)) for _ in range(2)]
        await one.register_organization("acme", "Acme")
        for name in ("alice", "bob", "carol"):
            await one.register_agent(name, "acme", name)
        return one, two
