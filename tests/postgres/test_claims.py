"""Claims by many at once, lanes that are long, and readers that follow while others write."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import Kind
from agent_messaging.storage.ports import ClaimedDelivery, Role, Settling
from agent_messaging.storage.postgres.store import PostgresStore
from tests.conformance.world import World, ids
from tests.postgres.conftest import StoreMaker, execute
from tests.support import eventually

CLAIMERS = 8
MESSAGES = 600


@pytest.mark.parametrize("ordered", [True, False])
async def test_many_claimers_never_share_a_message(postgres_dsn: str, open_store: StoreMaker, ordered: bool) -> None:
    """Nothing is settled twice, and no lane of an ordered mailbox runs twice at a time."""
    stores = [await open_store(postgres_dsn) for _ in range(CLAIMERS)]
    world = await World.create(stores[0])
    senders = [world.alice, world.carol, world.dave]
    sent = [id for sender in senders for id in await world.send_many(MESSAGES // 3, sender)]
    settled: Counter[str] = Counter()
    running: dict[str, str] = {}
    overlaps: list[str] = []
    rng = random.Random(7)

    async def work(store: PostgresStore) -> None:
        owner = new_id()
        while sum(settled.values()) < MESSAGES:
            limit = rng.randint(1, 5)
            request = world.request(limit=limit, ordered=ordered)
            claimed = await store.deliveries.claim([request], owner=owner, now=world.start)
            assert len(claimed) <= limit
            for delivery in claimed:
                if ordered and delivery.sender_id in running:
                    overlaps.append(delivery.message_id)
                running[delivery.sender_id] = owner
            for delivery in claimed:
                how = Settling.RETURNED if rng.random() < 0.1 else Settling.DONE
                running.pop(delivery.sender_id, None)
                answer = await world.settle(delivery, how, owner=owner)
                assert answer.moved == [True]
                if how is Settling.DONE:
                    settled[delivery.message_id] += 1
            if not claimed:
                await asyncio.sleep(0.005)

    await asyncio.gather(*(work(store) for store in stores))
    assert settled == Counter(sent)
    assert not overlaps


async def test_a_lane_is_claimed_in_order_whoever_claims(postgres_dsn: str, open_store: StoreMaker) -> None:
    stores = [await open_store(postgres_dsn) for _ in range(4)]
    world = await World.create(stores[0])
    sent = await world.send_many(100)
    seen: list[str] = []

    async def work(store: PostgresStore) -> None:
        owner = new_id()
        claimed: list[ClaimedDelivery] = []
        while len(seen) < len(sent):
            if claimed:
                seen.extend(ids(claimed))
                claimed = (await world.settle(claimed, requests=[world.request(limit=1)], owner=owner)).claimed
            else:
                claimed = await store.deliveries.claim([world.request(limit=1)], owner=owner, now=world.start)

    await asyncio.gather(*(work(store) for store in stores))
    assert seen == sent


async def test_two_processes_that_append_do_not_both_claim_a_lane(postgres_dsn: str, open_store: StoreMaker) -> None:
    stores = [await open_store(postgres_dsn) for _ in range(4)]
    world = await World.create(stores[0])
    owners = [new_id() for _ in stores]
    for _ in range(30):
        groups = [world.group(claim=True) for _ in stores]
        outcomes = await asyncio.gather(
            *(
                store.deliveries.append([group], owner=owner, now=world.start)
                for store, group, owner in zip(stores, groups, owners, strict=True)
            )
        )
        claims = [claim for (outcome,) in outcomes for claim in outcome.claims.values()]  # type: ignore[union-attr]
        assert len(claims) <= 1
        for claim in claims:
            await world.settle(claim)
        while claimed := await world.claim():
            await world.settle(claimed)


async def test_one_suspect_at_a_time_whoever_claims(postgres_dsn: str, open_store: StoreMaker) -> None:
    stores = [await open_store(postgres_dsn) for _ in range(4)]
    world = await World.create(stores[0])
    for sender in (world.alice, world.carol, world.dave):
        await world.send(sender)
    victim = new_id()
    await execute(
        postgres_dsn,
        f"insert into processes (id, host, pid, lease_until, started_at) values ('{victim}', 'h', 1, now(), now())",
    )
    assert len(await world.claim(owner=victim)) == 3
    assert await world.store.processes.release([victim]) == 3
    for _ in range(20):
        answers = await asyncio.gather(
            *(store.deliveries.claim([world.request()], owner=new_id(), now=world.start) for store in stores)
        )
        claimed = [delivery for answer in answers for delivery in answer]
        assert len(claimed) <= 1
        await world.settle(claimed, Settling.RETRY)
        await execute(postgres_dsn, "update deliveries set suspect = true")


async def test_a_long_lane_costs_the_others_nothing(postgres_dsn: str, open_store: StoreMaker) -> None:
    """100,000 of one sender before the only one of another."""
    store = await open_store(postgres_dsn)
    world = await World.create(store)
    for _ in range(20):
        await world.append(*(world.group(world.alice) for _ in range(500)))
    await execute(
        postgres_dsn,
        """with more as (
            insert into messages (id, kind, sender_id, recipient_id, content, checksum, created_at)
            select gen_random_uuid(), m.kind, m.sender_id, m.recipient_id, m.content, m.checksum, m.created_at
            from messages m, generate_series(1, 9) returning seq, recipient_id, kind, sender_id)
        insert into deliveries (seq, recipient_id, kind, sender_id, state, max_attempts, queued_at)
        select seq, recipient_id, kind, sender_id, 'queued', 5, now() from more""",
    )
    last = await world.send(world.carol)
    for ordered in (True, False):
        fastest = 1.0
        for _ in range(3):
            begun = time.monotonic()
            claimed = await world.claim(limit=2, ordered=ordered)
            fastest = min(fastest, time.monotonic() - begun)
            assert {delivery.sender_id for delivery in claimed} == {world.alice, world.carol}
            assert last in ids(claimed)
            await world.settle(claimed, Settling.RETURNED)
        assert fastest < 0.1
    looks = []
    for _ in range(3):
        begun = time.monotonic()
        assert await store.deliveries.find_waiting() == [(world.bob, Kind.ONE_WAY)]
        looks.append(time.monotonic() - begun)
    assert min(looks) < 0.1


async def test_a_follower_misses_nothing_that_commits_late(postgres_dsn: str, open_store: StoreMaker) -> None:
    """A row with a lower number that is committed after a higher one was there to be read."""
    store = await open_store(postgres_dsn)
    world = await World.create(store)

    async def follow(after_seq: int) -> list[str]:
        rows = await store.messages.list_messages(
            world.bob, Role.RECIPIENT, Kind.ONE_WAY, limit=100, after_seq=after_seq
        )
        return [row.message_id for row in rows]

    slow = await open_store(postgres_dsn, call_timeout=30.0)
    begun, finish = asyncio.Event(), asyncio.Event()
    late = new_id()

    async def commit_late(connection: object) -> None:
        await connection.execute(  # type: ignore[attr-defined]
            "insert into messages (id, kind, sender_id, recipient_id, content, checksum, created_at)"
            " values ($1::text::uuid, 'one_way', $2::text::uuid, $3::text::uuid, '1', 0, now())",
            late,
            world.alice,
            world.bob,
        )
        begun.set()
        await finish.wait()

    writer = asyncio.create_task(slow.engine.run(commit_late, write=True))
    await begun.wait()
    early = await world.send()
    assert await follow(0) == []
    finish.set()
    await writer
    assert await follow(0) == [late, early]


async def test_plans_stay_with_the_indices(postgres_dsn: str, open_store: StoreMaker) -> None:
    """A plan that was cached while the tables were empty must serve when they are large."""
    store = await open_store(postgres_dsn, max_pool_size=1)
    world = await World.create(store)
    for _ in range(8):  # after five runs the server keeps one plan for all values
        await world.claim()
        await store.deliveries.find_waiting()
        await world.settle((await world.claim_one()) if await world.send() else [])
    await world.append(*(world.group(world.alice) for _ in range(2000)))
    await execute(postgres_dsn, "update deliveries set state = 'done' where seq % 10 <> 0")
    begun = time.monotonic()
    for _ in range(20):
        claimed = await world.claim_one()
        await world.settle(claimed)
    assert time.monotonic() - begun < 2.0


async def test_calls_that_wait_for_each_other_are_run_again(postgres_dsn: str, open_store: StoreMaker) -> None:
    """A deadlock ends with one of them repeated, not with an error."""
    store = await open_store(postgres_dsn)
    world = await World.create(store)
    first, second = await world.send(), await world.send(world.carol)
    meeting = asyncio.Barrier(2)
    met: set[str] = set()

    async def touch(connection: object, *order: str) -> None:
        for message_id in order:
            await connection.execute(  # type: ignore[attr-defined]
                "update messages set metadata = '{}' where id = $1::text::uuid", message_id
            )
            if order[0] not in met:
                met.add(order[0])
                await meeting.wait()

    await asyncio.gather(
        store.engine.run(lambda connection: touch(connection, first, second), write=True),
        store.engine.run(lambda connection: touch(connection, second, first), write=True),
    )


async def test_the_same_key_at_the_same_time_is_stored_once(postgres_dsn: str, open_store: StoreMaker) -> None:
    stores = [await open_store(postgres_dsn) for _ in range(4)]
    world = await World.create(stores[0])
    for number in range(20):
        groups = [
            [world.group(idempotency_key=f"{number}-{key}", fingerprint="f") for key in rotated]
            for rotated in ([1, 2, 3], [3, 1, 2], [2, 3, 1], [3, 2, 1])
        ]
        answers = await asyncio.gather(
            *(store.deliveries.append(mine, owner=new_id()) for store, mine in zip(stores, groups, strict=True))
        )
        names = Counter(type(outcome).__name__ for answer in answers for outcome in answer)
        assert names == {"Stored": 3, "Duplicate": 9}


async def test_damage_is_found(postgres_dsn: str, open_store: StoreMaker) -> None:
    store = await open_store(postgres_dsn)
    world = await World.create(store)
    good, bad = await world.send(), await world.send(metadata='{"a": 1}')
    assert await store.check() == []
    await execute(postgres_dsn, f"update messages set content = '\"other\"' where id = '{bad}'")
    (finding,) = await store.check()
    assert bad in finding
    assert good not in finding
    await eventually(lambda: store.deliveries.find_waiting())


async def test_what_a_process_that_has_ended_still_has_is_found_by_name(
    postgres_dsn: str, open_store: StoreMaker
) -> None:
    world = await World.create(await open_store(postgres_dsn))
    messages = [await world.send() for _ in range(7)]
    assert len(await world.claim(ordered=False)) == 7
    ended = "insert into processes (id, host, pid, started_at, lease_until, ended_at, end_reason) values"
    values = f"('{world.owner}', 'there', 7, now(), now(), now() - interval '2 minutes', 'died')"
    await execute(postgres_dsn, f"{ended} {values}")
    (finding,) = await world.store.check()
    assert f"Process {world.owner} (pid 7 on there) has died, but has claims still" in finding
    assert f"of the messages {', '.join(messages[:5])} and 2 more." in finding
