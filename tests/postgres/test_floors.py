"""Claims beside somebody's open snapshot: they read no more with each message, and miss nothing for it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from agent_messaging.models import Kind
from agent_messaging.storage.ports import ClaimedDelivery, Settlement, Settling, Stored
from agent_messaging.storage.postgres import claims, floors
from agent_messaging.storage.postgres.store import PostgresStore
from tests.conformance.world import World, ids
from tests.postgres.conftest import StoreMaker, execute

STEPS, EACH = 4, 240


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Floors from the first dead row on, whether it is in the way or not."""
    monkeypatch.setattr(floors, "MANY", -1)
    monkeypatch.setattr(floors, "PASSED", -1)
    monkeypatch.setattr(floors, "EVERY", 32)
    monkeypatch.setattr(floors, "EVERY_HELD", 32)


@pytest.fixture
async def store(postgres_dsn: str, open_store: StoreMaker) -> PostgresStore:
    return await open_store(postgres_dsn)


@pytest.fixture
async def world(store: PostgresStore) -> World:
    return await World.create(store)


@asynccontextmanager
async def snapshot(dsn: str) -> AsyncIterator[None]:
    """Somebody's transaction that keeps the server from removing any version."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("begin isolation level repeatable read; select 1")
        yield
    finally:
        await connection.close()


async def pages(store: PostgresStore, world: World, *, ordered: bool = True) -> tuple[int, int]:
    """What a claim of bob's, and a look for mailboxes with something due, read: pages, each time they are looked at."""

    async def explain(connection: Any, sql: str, *values: object) -> int:
        await connection.execute("begin")
        ((plan,),) = await connection.fetch(f"explain (analyze, buffers, format json) {sql}", *values)
        await connection.execute("rollback")
        read = json.loads(plan)[0]["Plan"]
        return int(read["Shared Hit Blocks"] + read["Shared Read Blocks"])

    async def both(connection: Any) -> tuple[int, int]:
        wanted = claims._wanted([world.request(limit=2, ordered=ordered)], world.owner, world.start, 10**6)
        claim = await explain(connection, claims._SQL["claim"], *wanted)
        return claim, await explain(connection, claims._SQL["find_waiting"], world.start)

    await store.engine.run(both, write=False)  # the first run reads the catalogue
    return await store.engine.run(both, write=False)


async def handle(world: World, count: int, *, ordered: bool = True) -> list[ClaimedDelivery]:
    """Handle so many of bob's messages."""
    handled: list[ClaimedDelivery] = []
    while len(handled) < count:
        claimed = await world.claim(limit=10, ordered=ordered)
        assert claimed
        await world.settle(claimed)
        handled += claimed
    return handled


@pytest.mark.parametrize("ordered", [True, False])
async def test_claims_do_not_read_more_with_each_message(
    postgres_dsn: str, store: PostgresStore, world: World, ordered: bool
) -> None:
    senders = [world.alice, world.carol, world.dave]
    # Autovacuum moves what is counted. It may take stock before, as here: of a table with a few messages that all wait.
    await execute(postgres_dsn, "alter table deliveries set (autovacuum_enabled = off)")
    await world.send_many(20)
    await execute(postgres_dsn, "analyze deliveries")
    await handle(world, 20, ordered=ordered)
    async with snapshot(postgres_dsn):
        read = []
        for _ in range(STEPS):
            for sender in senders:
                await world.send_many(EACH // 3, sender)
            await handle(world, EACH, ordered=ordered)
            await world.send(world.carol)
            read.append(await pages(store, world, ordered=ordered))
            await handle(world, 1, ordered=ordered)
        # Without floors each step adds some 90 pages to a claim, and 15 to a look. With them both go up and down, as
        # what has ended is looked at 32 by 32.
        (claim, look), last = map(max, zip(*read[:2], strict=True)), read[-1]
        assert last[0] < claim + 60, read
        assert last[1] < look + 20, read


async def test_a_long_mailbox_is_worked_off_at_one_pace(postgres_dsn: str, store: PostgresStore, world: World) -> None:
    """Longer than what is looked at behind a floor; a sender who comes late takes its turn all the same."""
    for _ in range(4):
        await world.send_many(500, world.alice)
    async with snapshot(postgres_dsn):
        read = []
        for _ in range(3):
            for _ in range(15):
                await handle(world, 10, ordered=False)
            read.append((await pages(store, world))[0])
        assert read[-1] < read[0] + 60, read
        late = await world.send(world.carol)
        claimed = await world.claim(limit=2)
        assert {delivery.sender_id for delivery in claimed} == {world.alice, world.carol}
        assert late in ids(claimed)


async def test_what_becomes_due_again_below_a_floor_is_found(
    postgres_dsn: str, store: PostgresStore, world: World
) -> None:
    dead = await world.kill()
    later = await world.send(deliver_at=world.at(3600))
    await world.send(world.carol)
    await world.send_many(200)
    await handle(world, 201)
    ((floor, below),) = await execute(
        postgres_dsn,
        "select f.seq, (select count(*) from deliveries d where d.seq <= f.seq and d.state in ('dead', 'queued'))"
        " from floors f order by f.seq desc limit 1",
    )
    assert below == 2, floor
    assert await world.claim() == []
    assert await store.check() == []
    assert await store.deliveries.redrive([dead], None)
    assert await store.deliveries.find_waiting(world.start) == [(world.bob, Kind.ONE_WAY)]
    assert ids(await handle(world, 1)) == [dead]
    await store.deliveries.advance(world.at(3600))
    assert ids(await world.claim(now=world.at(3600))) == [later]
    await execute(postgres_dsn, f"update floors set seq = {floor}; update deliveries set state = 'queued'", "select 1")
    (finding,) = await store.check()
    assert "Empty the table floors" in finding


async def test_no_floor_is_raised_past_what_is_committed_late(
    postgres_dsn: str, store: PostgresStore, world: World
) -> None:
    """A message with a small number, of a transaction that ends after all that were handled meanwhile."""
    connection = await asyncpg.connect(postgres_dsn)
    try:
        await connection.execute("begin")
        seq = await connection.fetchval("select nextval('messages_seq_seq')")
        await world.send_many(200)
        await handle(world, 200)
        await connection.execute(
            "insert into messages (seq, id, kind, sender_id, recipient_id, content, checksum, created_at)"
            " values ($1, gen_random_uuid(), 'one_way', $2::text::uuid, $3::text::uuid, '1', 0, now())",
            seq,
            world.alice,
            world.bob,
        )
        await connection.execute(
            "insert into deliveries (seq, recipient_id, kind, sender_id, state, max_attempts, queued_at)"
            " values ($1, $2::text::uuid, 'one_way', $3::text::uuid, 'queued', 5, now())",
            seq,
            world.bob,
            world.alice,
        )
        await connection.execute("commit")
        (late,) = await handle(world, 1)
        assert late.claim.seq == seq
        await world.send_many(100)
        await handle(world, 100)
        ((floor,),) = await execute(postgres_dsn, "select max(seq) from floors")
        assert floor > seq
    finally:
        await connection.close()


async def test_a_lane_is_held_by_a_claim_behind_the_floor(world: World, store: PostgresStore) -> None:
    """Others settle meanwhile; nothing of its lane is claimed, with an append or without, until it ends."""
    slow = await world.send(world.carol)
    (held,) = await world.claim()
    assert held.message_id == slow
    await world.send_many(100)
    await handle(world, 100)
    other = world.group(world.carol, claim=True)
    (outcome,) = await world.append(other, owner=world.dave)
    assert outcome.claims == {}  # type: ignore[union-attr]
    assert await world.claim(owner=world.dave) == []
    await world.settle(held, Settling.RETURNED)
    (again,) = await world.claim()
    assert again.message_id == slow


async def test_many_lanes_get_their_mailbox_a_floor_together(
    postgres_dsn: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look is for all of them, where something is stored with its claim."""
    monkeypatch.setattr(floors, "PASSED", 100)
    async with snapshot(postgres_dsn):
        for _ in range(50):
            groups = [world.group(sender, claim=True) for sender in (world.alice, world.carol, world.dave)]
            outcomes = [outcome for outcome in await world.append(*groups) if isinstance(outcome, Stored)]
            ends = [Settlement(claim, Settling.DONE) for outcome in outcomes for claim in outcome.claims.values()]
            assert len(ends) == 3
            await world.deliveries.settle(ends, owner=world.owner, now=world.start)
        assert await execute(postgres_dsn, "select from floors")


async def test_only_what_a_snapshot_keeps_makes_floors(
    postgres_dsn: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many messages were handled, their entries are passed once where the server may forget them."""
    monkeypatch.setattr(floors, "PASSED", 100)
    await world.send_many(300)
    await handle(world, 300)
    assert await execute(postgres_dsn, "select * from floors") == []
    async with snapshot(postgres_dsn):
        await world.send_many(300)
        await handle(world, 300)
        assert await execute(postgres_dsn, "select * from floors") != []


async def test_floors_go_when_the_server_has_cleaned_up(
    postgres_dsn: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.send_many(100)
    await handle(world, 100)
    assert await execute(postgres_dsn, "select * from floors")
    monkeypatch.setattr(floors, "MANY", 10**9)
    await world.send_many(40)
    await handle(world, 40)
    await world.claim()
    assert await execute(postgres_dsn, "select * from floors") == []


async def test_floors_go_when_the_numbers_begin_anew(postgres_dsn: str, world: World) -> None:
    """Somebody empties the table of messages by hand: the next ones have numbers below all floors."""
    await world.send_many(100)
    await handle(world, 100)
    assert await execute(postgres_dsn, "select * from floors")
    await execute(postgres_dsn, "truncate messages restart identity")
    message_ids = await world.send_many(64)
    assert ids(await handle(world, 64)) == message_ids
    ((floor,),) = await execute(postgres_dsn, "select coalesce(max(seq), 0) from floors")
    assert floor <= 64
    assert await world.send() in ids(await world.claim())


async def test_suspects_behind_a_floor_hold_up_nothing_that_has_no_order(postgres_dsn: str, world: World) -> None:
    await world.send_many(100)
    await handle(world, 100)
    message_ids = await world.send_many(6)
    await execute(
        postgres_dsn,
        "update deliveries set suspect = true"
        " where seq in (select seq from deliveries order by seq desc limit 4 offset 2)",
        "select 1",
    )
    assert ids(await world.claim(limit=2, ordered=False)) == [message_ids[0], message_ids[4]]
    assert ids(await world.claim(limit=2, ordered=False)) == [message_ids[5]]


async def test_a_process_finds_its_own_messages_behind_a_floor_among_those_of_others(world: World) -> None:
    await world.send_many(100)
    await handle(world, 100)
    for _ in range(3):
        await world.send(owner=world.dave)
    own = [await world.send(), await world.send()]
    assert ids(await world.claim(limit=2, ordered=False, origin=world.owner)) == own
