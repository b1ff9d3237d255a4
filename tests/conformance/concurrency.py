"""Many at once: nothing is claimed twice under one token, nothing is settled twice, no lane loses its order."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import DeliveryState
from agent_messaging.storage.ports import ClaimedDelivery, Settlement, Settling, Store, Stored

from .base import StoreFixtures
from .world import World

MESSAGES = 300


class Crew:
    """Workers that claim and settle until nothing is left, and what they saw."""

    def __init__(self, world: World, *, ordered: bool) -> None:
        self.world = world
        self.ordered = ordered
        self.granted: Counter[tuple[int, int]] = Counter()
        self.done: Counter[str] = Counter()
        self.first_runs: dict[str, list[int]] = {}
        self.held: Counter[str] = Counter()
        self.stale_accepted = 0
        self.stale_refused = 0

    def take(self, claimed: list[ClaimedDelivery]) -> None:
        for delivery in claimed:
            self.granted[delivery.claim.seq, delivery.claim.token] += 1
            self.held[delivery.sender_id] += 1
            if self.ordered:
                assert self.held[delivery.sender_id] == 1, "two claims in one ordered lane"
            if delivery.claim.token == 1:
                self.first_runs.setdefault(delivery.sender_id, []).append(delivery.claim.seq)

    async def work(self, store: Store, seed: int) -> None:
        chance = random.Random(seed)
        owner = new_id()
        request = self.world.request(limit=5, ordered=self.ordered)
        old: list[ClaimedDelivery] = []
        claimed: list[ClaimedDelivery] = []
        while self.done.total() < MESSAGES:
            if not claimed:
                claimed = await store.deliveries.claim([request], owner=owner, now=self.world.start)
                self.take(claimed)
            # One that ended with a retry is tried to be finished under its old token.
            stale = [Settlement(delivery.claim, Settling.DONE) for delivery in old[:1]]
            ends = [
                Settlement(
                    delivery.claim, chance.choices((Settling.DONE, Settling.RETRY, Settling.RETURNED), (8, 1, 1))[0]
                )
                for delivery in claimed
            ]
            self.held.subtract(delivery.sender_id for delivery in claimed)
            settled = await store.deliveries.settle([*stale, *ends], [request], owner=owner, now=self.world.start)
            self.stale_accepted += sum(settled.moved[: len(stale)])
            self.stale_refused += len(stale) - sum(settled.moved[: len(stale)])
            assert all(settled.moved[len(stale) :])
            self.done.update(
                delivery.message_id for delivery, end in zip(claimed, ends, strict=True) if end.how is Settling.DONE
            )
            old = [delivery for delivery, end in zip(claimed, ends, strict=True) if end.how is not Settling.DONE]
            claimed = settled.claimed
            self.take(claimed)


class ConcurrencyConformance(StoreFixtures):
    """Several stores on the same data, several tasks on each."""

    async def crew(self, world: World, stores: list[Store], *, ordered: bool) -> Crew:
        senders = [world.alice, world.bob, world.carol, world.dave]
        groups = [world.group(senders[number % 4], max_attempts=100) for number in range(MESSAGES)]
        await world.append(*groups)
        crew = Crew(world, ordered=ordered)
        async with asyncio.TaskGroup() as tasks:
            for number in range(6):
                tasks.create_task(crew.work(stores[number % len(stores)], number))
        sent = [group.deliveries[0].message_id for group in groups]
        assert set(crew.granted.values()) == {1}
        assert crew.done == Counter(sent)
        assert crew.stale_accepted == 0
        assert crew.stale_refused > 0
        rows = await world.deliveries.list_receipts(sent)
        assert {row.state for row in rows} == {DeliveryState.DONE}
        claims = Counter(seq for seq, _ in crew.granted)
        assert sum(row.token for row in rows) == claims.total()
        return crew

    async def test_tasks_on_one_store_share_the_work(self, world: World) -> None:
        await self.crew(world, [world.store], ordered=False)

    async def test_tasks_on_one_store_keep_the_order_of_lanes(self, world: World) -> None:
        crew = await self.crew(world, [world.store], ordered=True)
        assert all(runs == sorted(runs) for runs in crew.first_runs.values())

    async def test_stores_share_the_work(self, world: World, second_store: Store) -> None:
        await self.crew(world, [world.store, second_store], ordered=False)

    async def test_stores_keep_the_order_of_lanes(
        self, world: World, second_store: Store, stores: Callable[[], Awaitable[Store]]
    ) -> None:
        crew = await self.crew(world, [world.store, second_store, await stores()], ordered=True)
        assert all(runs == sorted(runs) for runs in crew.first_runs.values())

    async def test_senders_and_claimers_at_once_lose_nothing(self, world: World, second_store: Store) -> None:
        """What is stored while others claim is handed out too, in the order of its lane."""
        sent: list[str] = []
        seen: list[str] = []
        ended = asyncio.Event()

        async def send() -> None:
            for _ in range(30):
                group = world.group(claim=True)
                # Asks for a claim each time; mostly refused, because the lane is not empty.
                (outcome,) = await world.append(group)
                id = group.deliveries[0].message_id
                sent.append(id)
                claims = getattr(outcome, "claims", {})
                if id in claims:
                    seen.append(id)
                    await world.settle(claims[id])
            ended.set()

        async def handle() -> None:
            owner = new_id()
            while not (ended.is_set() and len(seen) >= 30):
                claimed = await second_store.deliveries.claim([world.request()], owner=owner, now=world.start)
                seen.extend(delivery.message_id for delivery in claimed)
                await second_store.deliveries.settle(
                    [Settlement(delivery.claim, Settling.DONE) for delivery in claimed],
                    owner=owner,
                    now=world.start,
                )

        await asyncio.gather(send(), handle())
        assert seen == sent

    async def test_of_appends_that_claim_in_one_lane_at_once_one_process_gets_the_claim(
        self, world: World, second_store: Store
    ) -> None:
        agents = [world.alice, world.bob, world.carol, world.dave]
        outcomes = await asyncio.gather(
            *(
                store.deliveries.append([world.group(sender, agents, claim=True)], owner=new_id(), now=world.start)
                for sender in agents
                for store in (world.store, second_store) * 2
            )
        )
        stored = [outcome for (outcome,) in outcomes if isinstance(outcome, Stored)]
        assert len(stored) == 16
        receipts = await world.deliveries.list_receipts([id for outcome in stored for id in outcome.claims])
        assert all(receipt.state is DeliveryState.CLAIMED for receipt in receipts)
        lanes = Counter((receipt.sender_id, receipt.recipient_id) for receipt in receipts)
        assert lanes
        assert set(lanes.values()) == {1}

    async def test_one_key_used_by_many_at_once_stores_one_message(self, world: World, second_store: Store) -> None:
        groups = [world.group(idempotency_key="k", fingerprint="f") for _ in range(8)]
        outcomes = await asyncio.gather(
            *(
                (world.store, second_store)[number % 2].deliveries.append([group], owner=world.owner, now=world.start)
                for number, group in enumerate(groups)
            )
        )
        kinds = Counter(type(outcome).__name__ for (outcome,) in outcomes)
        assert kinds == {"Stored": 1, "Duplicate": 7}
        stored = [group for group, (outcome,) in zip(groups, outcomes, strict=True) if hasattr(outcome, "claims")]
        answered = {tuple(outcome.message_ids) for (outcome,) in outcomes if hasattr(outcome, "message_ids")}
        assert answered == {(stored[0].deliveries[0].message_id,)}

    async def test_one_agent_registered_by_many_at_once_is_one(self, world: World, second_store: Store) -> None:
        agents = await asyncio.gather(
            *(
                store.directory.add_agent(new_id(), "same", world.organization_id, "Same", update_name=False)
                for store in (world.store, second_store) * 4
            )
        )
        assert len({agent.id for agent in agents if agent}) == 1
        organizations = await asyncio.gather(
            *(
                store.directory.add_organization(new_id(), "same", "Same", update_name=False)
                for store in (world.store, second_store) * 4
            )
        )
        assert len({organization.id for organization in organizations}) == 1

    async def test_removing_an_agent_while_others_write_to_it_leaves_nothing_half(
        self, world: World, second_store: Store
    ) -> None:
        bob = (await world.store.directory.find_agents_by_id([world.bob]))[0]
        groups = [world.group(recipients=[world.bob, world.carol]) for _ in range(20)]

        async def send() -> None:
            for group in groups:
                await second_store.deliveries.append([group], owner=world.owner, now=world.start)

        await asyncio.gather(send(), world.store.directory.remove_agent(bob.external_id))
        assert await world.store.directory.find_agents_by_id([world.bob]) == []
        rows = await world.deliveries.list_receipts([group.deliveries[0].message_id for group in groups])
        assert rows == []
        assert await world.store.check() == []
