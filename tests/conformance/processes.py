"""Who lives and who serves whom, and the signs of life and the doorbells under it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import DeliveryState, Kind
from agent_messaging.storage.ports import ProcessRow, Service, Store
from agent_messaging.testing.waiting import eventually

from .base import Processes, StoreFixtures
from .world import World, ids


def services_of(world: World) -> list[Service]:
    """A word of each sort."""
    return [
        Service(world.bob, Kind.ONE_WAY, True),
        Service(world.bob, Kind.CONVERSATION, False),
        Service(None, Kind.ONE_WAY, False),
    ]


async def find(store: Store, process_id: str, ended_within: float = 0.0) -> ProcessRow | None:
    """The row of a process, if the list has it."""
    rows = [row for row in await store.processes.list_processes(ended_within) if row.process_id == process_id]
    assert len(rows) <= 1
    return rows[0] if rows else None


class ProcessConformance(StoreFixtures):
    """All of `ProcessStore` but `release`, which is with the deliveries."""

    async def test_where_processes_run_is_known_while_they_live_and_after(
        self, store: Store, processes: Processes
    ) -> None:
        assert await store.processes.find_processes([]) == {}
        id, other = await processes.start(), await processes.start()
        here = (socket.gethostname(), os.getpid())
        assert await store.processes.find_processes([id, new_id()]) == {id: here}
        await store.processes.retire(id)
        assert await store.processes.find_processes([other, id]) == {id: here, other: here}

    async def test_a_process_appears_when_it_starts(self, store: Store, processes: Processes) -> None:
        assert await store.processes.list_processes(60) == []
        before = datetime.now(UTC)
        id = await processes.start()
        row = await find(store, id)
        assert row is not None
        assert (row.pid, row.host) == (os.getpid(), socket.gethostname())
        assert abs(row.started_at - before) < timedelta(seconds=10)
        assert (row.ended_at, row.end_reason, row.seconds_since_end, row.services) == (None, None, None, ())

    async def test_what_it_serves_is_listed_and_replaced(
        self, store: Store, world: World, processes: Processes
    ) -> None:
        id = await processes.start()
        for services in (services_of(world), services_of(world)[1:], [Service(None, Kind.CONVERSATION, True)], []):
            await store.processes.publish(id, services)
            row = await find(store, id)
            assert row is not None
            assert len(row.services) == len(services)
            assert set(row.services) == set(services)

    async def test_processes_are_apart(
        self, store: Store, world: World, processes: Processes, second_store: Store
    ) -> None:
        first, second = await processes.start(), await processes.start()
        await store.processes.publish(first, services_of(world))
        await second_store.processes.publish(second, services_of(world)[:1])
        rows = {row.process_id: row for row in await second_store.processes.list_processes(0)}
        assert {id: len(row.services) for id, row in rows.items()} == {first: 3, second: 1}

    async def test_many_agents_can_be_served(self, store: Store, processes: Processes) -> None:
        id = await processes.start()
        services = {Service(new_id(), Kind.ONE_WAY, True) for _ in range(500)}
        await store.processes.publish(id, services)
        row = await find(store, id)
        assert row is not None
        assert set(row.services) == services

    async def test_who_stopped_is_listed_for_a_while_with_what_it_served(
        self, store: Store, world: World, processes: Processes
    ) -> None:
        id = await processes.start()
        await store.processes.publish(id, services_of(world))
        await store.processes.retire(id)
        row = await find(store, id, ended_within=60)
        assert row is not None
        assert row.end_reason == "stopped"
        assert row.ended_at is not None
        assert row.seconds_since_end is not None
        assert 0 <= row.seconds_since_end < 60
        assert set(row.services) == set(services_of(world))
        await eventually(lambda: find(store, id, ended_within=0.05), until=lambda row: row is None)

    async def test_who_died_is_listed_as_died(self, store: Store, world: World, processes: Processes) -> None:
        id = await processes.start()
        await store.processes.publish(id, services_of(world))
        await store.processes.release([id])
        row = await find(store, id, ended_within=60)
        assert row is not None
        assert (row.end_reason, row.ended_at is not None) == ("died", True)
        assert set(row.services) == set(services_of(world))

    async def test_an_end_is_final(self, store: Store, processes: Processes) -> None:
        id = await processes.start()
        await store.processes.release([id])
        died = await find(store, id, ended_within=60)
        await store.processes.retire(id)
        row = await find(store, id, ended_within=60)
        assert died is not None
        assert row is not None
        assert (row.end_reason, row.ended_at) == ("died", died.ended_at)

    async def test_who_stops_returns_what_it_still_has(self, world: World, processes: Processes) -> None:
        # A settlement that the store did not take any more must not keep its message from the others until its claim's
        # hard end: nobody looks for the claims of a process that stopped.
        store, owner = world.store, await processes.start()
        ended, held, other = [await world.send(sender) for sender in (world.alice, world.carol, world.dave)]
        claims = {one.message_id: one for one in await world.claim(limit=2, owner=owner)}
        assert list(claims) == [ended, held]
        assert ids(await world.claim()) == [other]
        await world.settle(claims[ended], owner=owner)

        await store.processes.retire(owner)
        rows = {row.message_id: row for row in await world.deliveries.list_receipts([ended, held, other])}
        assert {id: (row.state, row.attempt) for id, row in rows.items()} == {
            ended: (DeliveryState.DONE, 1),
            held: (DeliveryState.QUEUED, 0),
            other: (DeliveryState.CLAIMED, 1),
        }
        (entry,) = rows[held].log
        assert (entry["event"], entry["attempt"], entry["process"]) == ("returned", 1, owner)
        assert (entry["reason"], entry["claimed_at"] is not None) == ("the process stopped", True)

        await store.processes.retire(owner)
        assert await world.receipt(held) == rows[held]
        # A late settlement is refused, and the next one to ask gets it.
        assert (await world.settle(claims[held], owner=owner)).moved == [False]
        (again,) = await world.claim(now=datetime.now(UTC) + timedelta(seconds=1))
        assert (again.message_id, again.claim.attempt) == (held, 1)


class Listener:
    """What a presence told."""

    def __init__(self) -> None:
        self.rings = 0
        self.lost = 0
        self.loops: set[asyncio.AbstractEventLoop] = set()

    def on_ring(self) -> None:
        self.rings += 1
        self.loops.add(asyncio.get_running_loop())

    def on_lost(self) -> None:
        self.lost += 1
        self.loops.add(asyncio.get_running_loop())


async def listen(store: Store) -> Listener:
    """Start a store's presence and keep what it tells."""
    listener = Listener()
    await store.presence.start(listener.on_ring, listener.on_lost)
    return listener


class PresenceConformance(StoreFixtures):
    """All of `Presence`."""

    async def test_one_that_lives_is_not_found_dead(self, store: Store) -> None:
        await listen(store)
        assert await store.presence.find_dead() == []

    async def test_those_that_live_do_not_find_each_other_dead(self, store: Store, second_store: Store) -> None:
        await listen(store)
        await listen(second_store)
        assert store.presence.process_id != second_store.presence.process_id
        for _ in range(3):
            assert await store.presence.find_dead() == []
            assert await second_store.presence.find_dead() == []

    async def test_it_ends_as_often_as_one_likes(self, store: Store) -> None:
        await listen(store)
        await store.presence.aclose()
        await store.presence.aclose()

    async def test_one_that_starts_again_is_another_process(self, store: Store) -> None:
        await listen(store)
        first = store.presence.process_id
        await store.processes.retire(first)
        await store.presence.aclose()
        await listen(store)
        second = store.presence.process_id
        assert second != first
        rows = {row.process_id: row.end_reason for row in await store.processes.list_processes(60)}
        assert rows == {first: "stopped", second: None}

    async def test_one_that_never_started_can_be_closed(self, store: Store) -> None:
        await store.presence.aclose()

    async def test_a_ring_wakes_the_other_on_its_loop(self, store: Store, second_store: Store) -> None:
        await listen(store)
        listener = await listen(second_store)
        for number in range(1, 4):
            before = listener.rings
            store.presence.ring([second_store.presence.process_id])
            # Far below a poll of any kind: it was the ring.
            await eventually(lambda before=before: listener.rings > before, 5.0)  # type: ignore[misc]
            assert listener.rings <= 2 * number
        assert listener.loops == {asyncio.get_running_loop()}
        assert listener.lost == 0

    async def test_a_ring_reaches_those_it_is_meant_for(
        self, store: Store, second_store: Store, stores: Callable[[], Awaitable[Store]]
    ) -> None:
        third = await stores()
        await listen(store)
        listeners = [await listen(second_store), await listen(third)]
        store.presence.ring([second_store.presence.process_id, third.presence.process_id])
        await eventually(lambda: [listener.rings > 0 for listener in listeners], until=all)

    async def test_many_rings_are_merged(self, store: Store, second_store: Store) -> None:
        await listen(store)
        listener = await listen(second_store)
        for _ in range(1000):
            store.presence.ring([second_store.presence.process_id])
        await eventually(lambda: listener.rings)
        assert listener.rings < 500

    async def test_ringing_at_nobody_never_raises(self, store: Store) -> None:
        await listen(store)
        store.presence.ring([])
        store.presence.ring([new_id(), new_id()])
        assert await store.presence.find_dead() == []

    async def test_what_another_store_committed_is_noticed(self, world: World, second_store: Store) -> None:
        await listen(second_store)
        await second_store.presence.has_changed()
        for _ in range(3):
            await world.send()
            assert await second_store.presence.has_changed() is True
            await world.send()
            assert await second_store.presence.look() == ([], True)

    async def test_one_that_gives_no_sign_of_life_any_more_is_found_dead(
        self, store: Store, second_store: Store
    ) -> None:
        await listen(store)
        await listen(second_store)
        silent = second_store.presence.process_id
        await second_store.presence.aclose()
        await eventually(store.presence.find_dead, 30.0, until=lambda found: found == [silent])
        assert (await store.presence.look())[0] == [silent]
        await store.processes.release([silent])
        assert await store.presence.find_dead() == []

    async def test_one_that_stopped_is_not_found_dead(
        self, store: Store, second_store: Store, stores: Callable[[], Awaitable[Store]]
    ) -> None:
        await listen(store)
        await listen(second_store)
        gone = second_store.presence.process_id
        await second_store.processes.retire(gone)
        await second_store.presence.aclose()
        # One that did die is found after it, and it alone.
        third = await stores()
        await listen(third)
        await third.presence.aclose()
        assert await eventually(store.presence.find_dead, 30.0) == [third.presence.process_id]

    async def test_one_that_others_took_for_dead_begins_a_new_incarnation(
        self, store: Store, second_store: Store
    ) -> None:
        await listen(store)
        listener = await listen(second_store)
        old = second_store.presence.process_id
        await store.processes.release([old])

        async def is_told() -> bool:
            await second_store.presence.look()  # as a process does several times a second
            return listener.lost == 1

        await eventually(is_told, 30.0)
        new = second_store.presence.process_id
        assert new != old
        row = await find(store, new)
        assert row is not None
        assert row.ended_at is None
        ended = await find(store, old, ended_within=60)
        assert ended is not None
        assert ended.end_reason == "died"
        assert await store.presence.find_dead() == []
        assert listener.loops == {asyncio.get_running_loop()}

    async def test_the_poll_interval_is_a_while(self, store: Store) -> None:
        assert 0 < store.presence.poll_interval <= 60
