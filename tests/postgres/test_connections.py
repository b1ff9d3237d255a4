"""What becomes of calls when connections break: bounded, truthful, and the pool recovers by itself."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import asyncpg
import pytest

from agent_messaging.exceptions import (
    DatabaseError,
    NotInitializedError,
    OutcomeUnknownError,
    StorageBusyError,
    StorageUnavailableError,
)
from agent_messaging.storage.ports import Duplicate, Stored
from agent_messaging.storage.postgres.engine import _Attempt
from agent_messaging.storage.postgres.pool import Pool
from agent_messaging.storage.postgres.store import PostgresStore
from tests.conformance.world import World, ids
from tests.postgres.conftest import StoreMaker, execute
from tests.postgres.servers import Link, OwnServer
from tests.support import eventually

_OTHERS = """
select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()
"""


async def test_ended_connections_are_replaced(postgres_dsn: str, open_store: StoreMaker) -> None:
    """Reads and what may be repeated do not even notice."""
    store = await open_store(postgres_dsn)
    world = await World.create(store)
    for _ in range(5):
        await execute(postgres_dsn, _OTHERS)
        message_id = await world.send()
        await execute(postgres_dsn, _OTHERS)
        await world.receipt(message_id)


async def test_nothing_is_lost_or_stored_twice_while_connections_are_ended(
    postgres_dsn: str, open_store: StoreMaker
) -> None:
    store = await open_store(postgres_dsn)
    world = await World.create(store)
    sent: list[str] = []

    async def send_on() -> None:
        while not enough.is_set():
            sent.append(await world.send(world.carol))

    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        senders = [group.create_task(send_on()) for _ in range(3)]
        for number in range(10):
            await eventually(lambda number=number: _length(sent), until=lambda n, least=10 * number: n >= least)  # type: ignore[misc]
            await execute(postgres_dsn, _OTHERS)
        enough.set()
    assert all(sender.done() for sender in senders)
    rows = await execute(postgres_dsn, "select id::text from messages")
    assert sorted(row["id"] for row in rows) == sorted(sent)


async def test_a_frozen_link_holds_no_call_longer_than_its_budget(
    own_server: OwnServer, link: Link, open_store: StoreMaker
) -> None:
    store = await open_store(link.dsn, call_timeout=1.0)
    world = await World.create(store)
    link.freeze()

    async def timed(call: object) -> tuple[float, BaseException]:
        begun = time.monotonic()
        with pytest.raises((DatabaseError, OutcomeUnknownError)) as caught:
            await call  # type: ignore[misc]
        return time.monotonic() - begun, caught.value

    answers = await asyncio.gather(
        timed(world.send()),
        timed(store.deliveries.find_waiting()),
        timed(world.claim()),
        timed(store.messages.count_messages(world.bob, "recipient", "one_way")),  # type: ignore[arg-type]
        timed(store.deliveries.withdraw([])),
        *(timed(world.send()) for _ in range(10)),
    )
    assert max(seconds for seconds, _ in answers) < 2.0
    assert isinstance(answers[1][1], StorageUnavailableError)
    link.thaw()
    link.cut()
    assert isinstance(await world.state(await world.send()), str)


async def test_a_commit_whose_answer_is_lost_is_unknown_and_can_be_repeated(
    own_server: OwnServer, link: Link, open_store: StoreMaker
) -> None:
    """What a withdrawal did cannot be known; a message is found by its id."""
    store = await open_store(link.dsn, call_timeout=1.0)
    world = await World.create(store)
    message_id = await world.send()
    link.freeze()
    with pytest.raises(OutcomeUnknownError):
        await store.deliveries.withdraw([message_id])
    group = world.group(idempotency_key="once", fingerprint="f")
    with pytest.raises((OutcomeUnknownError, StorageUnavailableError)):
        await world.append(group)
    link.thaw()
    link.cut()
    assert isinstance((await world.append(group, repeat=True))[0], Stored)
    again = world.group(idempotency_key="once", fingerprint="f")
    (outcome,) = await world.append(again)
    assert outcome == Duplicate([group.deliveries[0].message_id])


@pytest.mark.parametrize("then", ["gone", "closed", "busy"])
async def test_a_commit_whose_answer_is_lost_stays_in_doubt_whatever_its_repeats_meet(
    own_server: OwnServer, link: Link, open_store: StoreMaker, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """Nobody may be told that nothing was stored because the server went away after it had stored it."""
    store = await open_store(link.dsn, call_timeout=3.0 if then == "closed" else 1.0, max_pool_size=1)
    world = await World.create(store)
    group = world.group()
    work = _Attempt.work
    holders: list[asyncio.Task[object]] = []

    async def lose_the_answer(attempt: _Attempt, connection: Any, fn: Any) -> Any:
        await work(attempt, connection, fn)
        monkeypatch.undo()
        if then == "gone":
            await link.aclose()
        elif then == "closed":
            await store.aclose()
        else:
            holding = store.engine.run(lambda other: other.execute("select pg_sleep(3)"), write=False, budget=3.0)
            holders.append(asyncio.create_task(holding))
        raise ConnectionResetError

    monkeypatch.setattr(_Attempt, "work", lose_the_answer)
    with pytest.raises(OutcomeUnknownError):
        await world.append(group)
    for holder in holders:
        holder.cancel()
    await asyncio.gather(*holders, return_exceptions=True)
    (row,) = await execute(own_server.dsn, "select count(*) from messages")
    assert row["count"] == 1


async def test_a_cut_link_is_made_anew(own_server: OwnServer, link: Link, open_store: StoreMaker) -> None:
    store = await open_store(link.dsn)
    world = await World.create(store)
    for _ in range(5):
        link.cut()
        await world.send()
    assert len(await world.claim()) == 1


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_server_that_restarts_keeps_what_was_accepted(
    own_server: OwnServer, open_store: StoreMaker, mode: str
) -> None:
    store = await open_store(own_server.dsn, call_timeout=20.0)
    world = await World.create(store)
    before = await world.send()
    await asyncio.to_thread(own_server.stop, mode)
    waiting = asyncio.create_task(world.send())
    await asyncio.to_thread(own_server.start)
    after = await waiting
    assert ids(await world.claim()) == [before]
    assert await world.state(after) == "queued"


async def test_a_server_that_stays_down_is_reported_in_time(own_server: OwnServer, open_store: StoreMaker) -> None:
    store = await open_store(own_server.dsn, call_timeout=1.0)
    world = await World.create(store)
    await asyncio.to_thread(own_server.stop)
    try:
        begun = time.monotonic()
        with pytest.raises(StorageUnavailableError):
            await world.claim()
        assert time.monotonic() - begun < 2.0
    finally:
        await asyncio.to_thread(own_server.start)
    assert await world.claim() == []


async def test_a_long_budget_is_for_the_work_and_not_for_reaching_the_server(
    own_server: OwnServer, link: Link, open_store: StoreMaker
) -> None:
    store = await open_store(link.dsn, call_timeout=1.0)
    await store.deliveries.find_waiting()
    link.freeze()
    link.cut()
    begun = time.monotonic()
    with pytest.raises(StorageUnavailableError):
        await store.engine.run(lambda connection: connection.fetch("select 1"), write=True, budget=60.0)
    assert time.monotonic() - begun < 5.0


async def test_an_exhausted_pool_says_so(postgres_dsn: str, open_store: StoreMaker) -> None:
    store = await open_store(postgres_dsn, max_pool_size=2, call_timeout=0.5)

    async def dawdle(connection: object) -> None:
        await asyncio.Event().wait()

    idlers = [asyncio.create_task(store.engine.run(dawdle, write=False, budget=5.0)) for _ in range(2)]
    await eventually(lambda: _busy(store), until=lambda busy: busy == 2)
    with pytest.raises(StorageBusyError, match=r"pool exhausted: all 2 .*max_pool_size"):
        await store.deliveries.find_waiting()
    for idler in idlers:
        idler.cancel()
    await asyncio.wait(idlers)
    assert await store.deliveries.find_waiting() == []


async def test_cancelled_calls_give_their_connections_back(postgres_dsn: str, open_store: StoreMaker) -> None:
    store = await open_store(postgres_dsn)
    world = await World.create(store)
    for delay in range(40):
        call = asyncio.create_task(world.send())
        await asyncio.sleep(delay / 10_000)
        call.cancel()
        await asyncio.wait([call])
    assert await _busy(store) == 0
    rows = await execute(postgres_dsn, "select count(*) from pg_stat_activity where state like 'idle in transaction%'")
    assert rows[0]["count"] == 0
    await world.send()


async def test_a_statement_that_waits_too_long_is_ended_by_the_server(
    postgres_dsn: str, open_store: StoreMaker
) -> None:
    store = await open_store(postgres_dsn, call_timeout=1.0)

    async def wait(connection: object) -> None:
        await connection.execute("select pg_sleep(10)")  # type: ignore[attr-defined]

    begun = time.monotonic()
    with pytest.raises((StorageBusyError, StorageUnavailableError)):
        await store.engine.run(wait, write=True)
    assert time.monotonic() - begun < 2.0


async def test_a_forked_child_is_refused(postgres_dsn: str, open_store: StoreMaker) -> None:
    store = await open_store(postgres_dsn)
    store.engine._pid = os.getpid() + 1  # what a child would see
    with pytest.raises(NotInitializedError, match="forked"):
        await store.deliveries.find_waiting()
    store.engine._pid = os.getpid()


async def test_a_call_that_waits_for_its_turn_while_the_store_is_closed_stores_nothing(
    postgres_dsn: str, open_store: StoreMaker
) -> None:
    store = await open_store(postgres_dsn, max_pool_size=1)
    world = await World.create(store)

    async def dawdle(connection: object) -> None:
        await connection.execute("select pg_sleep(10)")  # type: ignore[attr-defined]

    first = asyncio.create_task(store.engine.run(dawdle, write=False))
    await eventually(lambda: _busy(store), until=lambda busy: busy == 1)
    second = asyncio.create_task(world.send())
    await eventually(lambda: _waiting(store), until=lambda waiting: waiting == 1)
    await store.aclose()
    for call in (first, second):
        with pytest.raises(NotInitializedError, match=r"closed|not open"):
            await call
    assert await execute(postgres_dsn, "select 1 from messages") == []


async def test_a_connection_that_opens_while_the_pool_is_closed_is_not_lent(postgres_dsn: str) -> None:
    may_open = asyncio.Event()
    opened: list[asyncpg.Connection] = []

    async def connect() -> asyncpg.Connection:
        await may_open.wait()
        opened.append(await asyncpg.connect(postgres_dsn))
        return opened[0]

    pool = Pool(connect, 3.0)
    borrower = asyncio.create_task(pool.acquire(10.0))
    await asyncio.sleep(0)
    await pool.aclose(1.0)
    may_open.set()
    with pytest.raises(NotInitializedError, match="closed"):
        await borrower
    assert opened[0].is_closed()


async def test_closing_the_pool_keeps_a_cancellation_that_comes_in_its_last_step() -> None:
    class Stubborn:
        """A connection that takes its time to end."""

        async def close(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                is_ending.set()
                await may_end.wait()

        def terminate(self) -> None: ...
        def is_closed(self) -> bool:
            return False

        def is_in_transaction(self) -> bool:
            return False

    async def connect() -> Stubborn:
        return Stubborn()

    is_ending, may_end = asyncio.Event(), asyncio.Event()
    pool = Pool(connect, 3.0)
    pool.release(await pool.acquire(1.0))
    closing = asyncio.create_task(pool.aclose(0.01))
    await is_ending.wait()
    closing.cancel()
    await asyncio.sleep(0)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await closing


async def _length(items: list[str]) -> int:
    return len(items)


async def _busy(store: PostgresStore) -> int:
    assert store.engine._pool is not None
    return store.engine._pool.used_size


async def _waiting(store: PostgresStore) -> int:
    return len(store.engine._gate._waiting)
