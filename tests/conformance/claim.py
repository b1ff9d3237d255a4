"""Claiming: at most the limit, each lane in its order, lanes in turn, nothing that is not due."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import DeliveryState, Kind
from agent_messaging.storage.ports import Settling, Store

from .base import Processes, StoreFixtures
from .world import World, ids

BACKLOG = 50_000
"""Messages in the long lane of the test on fairness."""


class ClaimConformance(StoreFixtures):
    """What one claim takes."""

    async def test_a_claim_is_counted_and_owned(self, world: World) -> None:
        id = await world.send()
        claimed = await world.claim_one(owner=world.owner, now=world.at(1))
        assert (claimed.message_id, claimed.claim.token, claimed.claim.attempt) == (id, 1, 1)
        receipt = await world.receipt(id)
        assert (receipt.state, receipt.token, receipt.attempt) == (DeliveryState.CLAIMED, 1, 1)
        assert (receipt.owner, receipt.claimed_at) == (world.owner, world.at(1))

    async def test_nothing_waiting_and_nothing_asked_for_give_nothing(self, world: World) -> None:
        assert await world.claim() == []
        await world.send()
        assert await world.deliveries.claim([], owner=world.owner, now=world.start) == []
        assert await world.claim(world.carol) == []
        assert await world.claim(kind=Kind.CONVERSATION) == []

    async def test_the_origin_is_the_process_that_stored_it(self, world: World) -> None:
        origin = new_id()
        await world.send(owner=origin)
        assert (await world.claim_one(owner=new_id())).origin == origin

    async def test_tokens_rise_with_each_claim_and_attempts_are_counted(self, world: World) -> None:
        id = await world.send()
        for number in (1, 2, 3):
            claim = (await world.claim_one()).claim
            assert (claim.token, claim.attempt) == (number, number)
            await world.settle(claim, Settling.RETRY)
        assert (await world.receipt(id)).token == 3

    async def test_what_is_claimed_is_not_claimed_again(self, world: World) -> None:
        await world.send()
        await world.claim_one()
        assert await world.claim(owner=new_id()) == []
        assert await world.claim(owner=new_id(), ordered=False) == []

    async def test_an_ordered_lane_gives_one_at_a_time_oldest_first(self, world: World) -> None:
        sent = await world.send_many(4)
        seen = []
        for _ in sent:
            claimed = await world.claim(limit=10)
            assert len(claimed) == 1
            assert await world.claim(limit=10) == []
            seen.append(claimed[0].message_id)
            await world.settle(claimed)
        assert seen == sent

    async def test_two_requests_of_one_call_do_not_break_the_order_of_a_lane(self, world: World) -> None:
        sent = await world.send_many(3)
        requests = [world.request(), world.request()]
        assert ids(await world.deliveries.claim(requests, owner=world.owner, now=world.start)) == sent[:1]

    async def test_a_lane_is_a_sender_a_recipient_and_a_kind(self, world: World) -> None:
        note = await world.send()
        question = await world.send(kind=Kind.CONVERSATION)
        others = await world.send(world.carol), await world.send(recipient=world.dave)
        requests = [world.request(), world.request(kind=Kind.CONVERSATION), world.request(world.dave)]
        claimed = await world.deliveries.claim(requests, owner=world.owner, now=world.start)
        assert {(delivery.message_id, delivery.kind) for delivery in claimed} == {
            (note, Kind.ONE_WAY),
            (question, Kind.CONVERSATION),
            (others[0], Kind.ONE_WAY),
            (others[1], Kind.ONE_WAY),
        }

    async def test_the_limit_is_that_of_each_request(self, world: World) -> None:
        for sender in (world.alice, world.carol, world.dave):
            await world.send(sender)
            await world.send(sender, kind=Kind.CONVERSATION)
        requests = [world.request(limit=2), world.request(kind=Kind.CONVERSATION, limit=1)]
        claimed = await world.deliveries.claim(requests, owner=world.owner, now=world.start)
        assert [delivery.kind for delivery in claimed].count(Kind.ONE_WAY) == 2
        assert [delivery.kind for delivery in claimed].count(Kind.CONVERSATION) == 1

    async def test_without_order_several_of_a_lane_are_claimed_oldest_first(self, world: World) -> None:
        sent = await world.send_many(5)
        assert ids(await world.claim(limit=2, ordered=False)) == sent[:2]
        assert ids(await world.claim(limit=10, ordered=False)) == sent[2:]

    async def test_what_waits_for_its_retry_lets_the_next_of_its_lane_pass(self, world: World) -> None:
        first, second = await world.send_many(2)
        await world.settle(await world.claim_one(), Settling.RETRY, delay=60)
        passing = await world.claim()
        assert ids(passing) == [second]
        await world.settle(passing)
        await world.deliveries.advance(world.at(61))
        assert ids(await world.claim(now=world.at(61))) == [first]

    async def test_a_retry_that_is_due_again_is_older_than_what_came_after_it(self, world: World) -> None:
        first, second = await world.send_many(2)
        await world.settle(await world.claim_one(), Settling.RETRY, delay=60)
        await world.deliveries.advance(world.at(61))
        assert ids(await world.claim(now=world.at(61))) == [first]
        assert await world.state(second) == DeliveryState.QUEUED

    async def test_what_is_not_due_is_never_claimed(self, world: World) -> None:
        id = await world.send(deliver_at=world.at(60))
        assert await world.claim() == []
        assert await world.claim(ordered=False) == []
        await world.deliveries.advance(world.at(59))
        assert await world.claim(now=world.at(59)) == []
        await world.deliveries.advance(world.at(61))
        assert ids(await world.claim(now=world.at(61))) == [id]

    async def test_what_was_due_in_the_past_when_it_was_stored_is_claimed_at_once(self, world: World) -> None:
        id = await world.send(deliver_at=world.at(-60))
        assert ids(await world.claim()) == [id]

    async def test_what_has_expired_is_never_claimed_even_before_time_was_advanced(self, world: World) -> None:
        id = await world.send(expires_in=60)
        assert await world.claim(now=world.at(61)) == []
        assert await world.claim(now=world.at(61), ordered=False) == []
        assert ids(await world.claim(now=world.at(59))) == [id]

    async def test_only_what_one_process_stored_is_claimed_where_asked(self, world: World) -> None:
        mine, other = new_id(), new_id()
        await world.send(world.alice, owner=other)
        behind = await world.send(world.alice, owner=mine)
        free = await world.send(world.carol, owner=mine)
        # The order of alice's lane holds all the same: hers waits behind one of the other process.
        assert ids(await world.claim(origin=mine)) == [free]
        assert ids(await world.claim(origin=mine, ordered=False)) == [behind]
        assert await world.claim(origin=new_id(), ordered=False) == []

    async def test_open_claims_are_listed_by_process(self, world: World) -> None:
        other = new_id()
        for sender in (world.alice, world.carol, world.dave):
            await world.send(sender)
        mine = await world.claim(limit=2)
        (others,) = await world.claim(limit=2, owner=other)
        listed = await world.deliveries.list_claims(world.owner)
        assert {claim.seq: claim for claim in listed} == {item.claim.seq: item.claim for item in mine}
        assert await world.deliveries.list_claims(other) == [others.claim]
        await world.settle(others, owner=other)
        assert await world.deliveries.list_claims(other) == []

    async def test_who_has_something_waiting_is_found(self, world: World) -> None:
        waiting = {(world.bob, Kind.ONE_WAY), (world.bob, Kind.CONVERSATION), (world.carol, Kind.ONE_WAY)}

        async def found(seconds: float = 0) -> set[tuple[str, Kind]]:
            answer = await world.deliveries.find_waiting(world.at(seconds))
            assert len(answer) == len(set(answer))
            return set(answer)

        assert await found() == set()
        await world.send()
        await world.send(world.dave)
        await world.send(kind=Kind.CONVERSATION)
        await world.send(recipient=world.carol)
        await world.send(recipient=world.dave, deliver_at=world.at(60))
        assert await found() == waiting
        await world.claim(world.carol)
        await world.claim(kind=Kind.CONVERSATION)
        assert await found() == {(world.bob, Kind.ONE_WAY)}
        await world.deliveries.advance(world.at(61))
        assert await found(61) == {(world.bob, Kind.ONE_WAY), (world.dave, Kind.ONE_WAY)}


class RoundRobinConformance(StoreFixtures):
    """Between the lanes of a recipient it goes round, in order of the sender's id, beginning behind `after_lane`."""

    async def three_lanes(self, world: World, each: int) -> list[str]:
        senders = [world.alice, world.carol, world.dave]
        for sender in reversed(senders):
            await world.send_many(each, sender)
        return senders

    async def test_the_round_begins_behind_the_sender_and_wraps_around(self, world: World) -> None:
        alice, carol, dave = await self.three_lanes(world, 1)
        for after, expected in (
            (None, [alice, carol, dave]),
            (alice, [carol, dave, alice]),
            (carol, [dave, alice, carol]),
            (dave, [alice, carol, dave]),
            (world.bob, [carol, dave, alice]),  # who has no lane here
        ):
            claimed = await world.claim(after_lane=after)
            assert [delivery.sender_id for delivery in claimed] == expected
            await world.settle(claimed, Settling.RETURNED)

    async def test_the_limit_cuts_the_round(self, world: World) -> None:
        alice, carol, dave = await self.three_lanes(world, 2)
        claimed = await world.claim(limit=2, after_lane=carol)
        assert [delivery.sender_id for delivery in claimed] == [dave, alice]

    async def test_every_sender_gets_its_turn(self, world: World) -> None:
        senders = await self.three_lanes(world, 4)
        after, order = None, []
        for _ in range(12):
            claimed = await world.claim_one(after_lane=after)
            order.append(claimed.sender_id)
            after = claimed.sender_id
            await world.settle(claimed)
        assert order == senders * 4

    async def test_without_order_a_sender_with_many_leaves_room_for_the_others(self, world: World) -> None:
        many = await world.send_many(20, world.alice)
        one = await world.send(world.dave)
        claimed = await world.claim(limit=3, ordered=False)
        assert sorted(ids(claimed)) == sorted([*many[:2], one])

    async def test_a_busy_lane_is_passed_over(self, world: World) -> None:
        alice, carol, dave = await self.three_lanes(world, 2)
        (busy,) = await world.claim(limit=1, after_lane=alice)
        assert busy.sender_id == carol
        claimed = await world.claim(limit=2, after_lane=alice)
        assert [delivery.sender_id for delivery in claimed] == [dave, alice]

    @pytest.mark.sampled(1)
    async def test_a_long_backlog_of_one_sender_does_not_slow_the_others(self, world: World) -> None:
        """The same claims take about as long in a mailbox with a backlog as in one with two messages."""
        page = 5_000
        for _ in range(BACKLOG // page):
            await world.send_many(page, world.alice, world.bob)
        await world.send_many(2, world.alice, world.dave)

        async def look(recipient: str) -> float:
            """Time a claim that finds nothing, so that no commit hides what the search costs."""
            started = time.perf_counter()
            assert await world.claim(recipient, origin=nobody) == []
            return time.perf_counter() - started

        nobody = new_id()
        full, small = [], []
        for _ in range(30):
            full.append(await look(world.bob))
            small.append(await look(world.dave))
        # One that read the backlog would take some twenty times as long.
        assert statistics.median(full) < 6 * statistics.median(small) + 0.001

        for recipient in (world.bob, world.dave):
            id = await world.send(world.carol, recipient)
            claimed = await world.claim(recipient, limit=2)
            assert [delivery.sender_id for delivery in claimed] == [world.alice, world.carol]
            assert ids(claimed)[1] == id


class SuspectConformance(StoreFixtures):
    """What a dead process had claimed is claimed again one at a time, so that what killed it is found by itself."""

    async def suspects(self, world: World, processes: Processes, *, kinds: tuple[Kind, ...] = (Kind.ONE_WAY,)) -> None:
        """Let a process die over one message of each sender and kind."""
        owner = await processes.start()
        for kind in kinds:
            for sender in (world.alice, world.carol, world.dave):
                await world.send(sender, kind=kind)
            assert len(await world.claim(owner=owner, kind=kind)) == 3
        assert await world.store.processes.release([owner], world.start) == 3 * len(kinds)

    async def test_one_suspect_of_a_recipient_is_claimed_at_a_time(self, world: World, processes: Processes) -> None:
        await self.suspects(world, processes)
        seen = []
        for _ in range(3):
            claimed = await world.claim(limit=10)
            assert len(claimed) == 1
            assert await world.claim(limit=10, owner=new_id()) == []
            assert await world.claim(limit=10, ordered=False) == []
            seen.append(claimed[0].sender_id)
            assert claimed[0].claim.attempt == 2
            await world.settle(claimed)
        assert sorted(seen) == [world.alice, world.carol, world.dave]
        assert await world.claim() == []

    async def test_without_order_it_is_one_too(self, world: World, processes: Processes) -> None:
        await self.suspects(world, processes)
        assert len(await world.claim(limit=10, ordered=False)) == 1
        assert await world.claim(limit=10, ordered=False) == []

    async def test_the_kinds_of_a_recipient_share_the_one_place(self, world: World, processes: Processes) -> None:
        await self.suspects(world, processes, kinds=(Kind.ONE_WAY, Kind.CONVERSATION))
        requests = [world.request(), world.request(kind=Kind.CONVERSATION)]
        claimed = await world.deliveries.claim(requests, owner=world.owner, now=world.start)
        assert len(claimed) == 1
        assert await world.deliveries.claim(requests, owner=world.owner, now=world.start) == []

    async def test_what_is_no_suspect_goes_on_beside(self, world: World, processes: Processes) -> None:
        await self.suspects(world, processes)
        bystander = await world.send(world.bob)
        other = await world.send(recipient=world.carol)
        claimed = await world.claim(limit=10)
        assert len(claimed) == 2
        assert bystander in ids(claimed)
        assert ids(await world.claim(world.carol)) == [other]

    async def test_suspects_do_not_use_up_the_limit(self, world: World, processes: Processes) -> None:
        """Two places, three suspects and a bystander behind them in the round: it gets the second place."""
        await self.suspects(world, processes)
        bystander = await world.send(world.bob)
        first = await world.claim(limit=2, after_lane=world.bob)
        assert len(first) == 2
        assert bystander in ids(first)

    async def test_the_lane_of_a_suspect_keeps_its_order(self, world: World, processes: Processes) -> None:
        await self.suspects(world, processes)
        for sender in (world.alice, world.carol, world.dave):
            await world.send(sender)
        assert len(await world.claim(limit=10)) == 1
        assert await world.claim(limit=10) == []

    async def test_a_suspect_that_settled_as_a_retry_is_none_any_more(self, world: World, processes: Processes) -> None:
        await self.suspects(world, processes)
        for _ in range(3):
            await world.settle(await world.claim(limit=10), Settling.RETRY, delay=60)
        await world.deliveries.advance(world.at(61))
        assert len(await world.claim(limit=10, now=world.at(61))) == 3

    async def test_stores_racing_for_suspects_get_one_of_each_recipient(
        self, world: World, processes: Processes, second_store: Store
    ) -> None:
        """Each racer begins its round elsewhere, so that each comes upon another suspect first."""
        agents = [world.alice, world.bob, world.carol, world.dave]
        owner = await processes.start()
        await world.append(*(world.group(sender, agents) for sender in agents))
        for recipient in agents:
            assert len(await world.claim(recipient, owner=owner)) == 4
        assert await world.store.processes.release([owner], world.start) == 16

        answers = await asyncio.gather(
            *(
                store.deliveries.claim(
                    [world.request(recipient, after_lane=after, ordered=ordered)], owner=new_id(), now=world.start
                )
                for ordered in (True, False)
                for recipient in agents
                for after in agents
                for store in (world.store, second_store)
            )
        )
        claimed = Counter(delivery.recipient_id for answer in answers for delivery in answer)
        assert claimed == dict.fromkeys(agents, 1)
