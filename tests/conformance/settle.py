"""Ending claims: each way, only under the newest token, safe to repeat, with the next claim in the same commit."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import DeliveryState, Kind
from agent_messaging.storage.ports import Claim, ClaimedDelivery, Settlement, Settling, Store

from .base import StoreFixtures
from .world import World, ids


class SettleConformance(StoreFixtures):
    """What each way of settling leaves behind."""

    async def test_done_is_final_and_tells_the_origin(self, world: World) -> None:
        origin = new_id()
        id = await world.send(owner=origin)
        settled = await world.settle(await world.claim_one(), now=world.at(5))
        assert (settled.moved, settled.origins, settled.claimed) == ([True], {origin}, [])
        receipt = await world.receipt(id)
        assert (receipt.state, receipt.settled_at, receipt.attempt) == (DeliveryState.DONE, world.at(5), 1)
        assert (receipt.owner, receipt.claimed_at, receipt.log) == (world.owner, world.start, [])
        assert await world.deliveries.list_claims(world.owner) == []
        assert await world.claim() == []

    async def test_a_retry_without_delay_is_due_at_once_and_logged(self, world: World) -> None:
        id = await world.send()
        settled = await world.settle(await world.claim_one(), Settling.RETRY, reason="no luck", now=world.at(5))
        assert (settled.moved, settled.origins) == ([True], set())
        receipt = await world.receipt(id)
        assert (receipt.state, receipt.attempt, receipt.settled_at) == (DeliveryState.QUEUED, 1, None)
        assert receipt.deliver_at is None
        self.check_entry(receipt.log, world, "failed", "no luck", at=world.at(5))
        assert (await world.claim_one(now=world.at(5))).claim.attempt == 2

    async def test_a_retry_with_a_delay_is_due_after_it(self, world: World) -> None:
        id = await world.send()
        await world.settle(await world.claim_one(), Settling.RETRY, delay=10, now=world.at(5))
        assert (await world.receipt(id)).deliver_at == world.at(15)
        assert (await world.deliveries.advance(world.at(14))).due == 0
        assert await world.claim(now=world.at(14)) == []
        assert (await world.deliveries.advance(world.at(16))).due == 1
        assert (await world.receipt(id)).deliver_at is None
        assert ids(await world.claim(now=world.at(16))) == [id]

    async def test_dead_is_final_logged_and_tells_the_origin(self, world: World) -> None:
        origin = new_id()
        id = await world.send(owner=origin)
        settled = await world.settle(await world.claim_one(), Settling.DEAD, reason="hopeless", now=world.at(5))
        assert (settled.moved, settled.origins) == ([True], {origin})
        receipt = await world.receipt(id)
        assert (receipt.state, receipt.settled_at, receipt.attempt) == (DeliveryState.DEAD, world.at(5), 1)
        self.check_entry(receipt.log, world, "dead", "hopeless", at=world.at(5))
        assert await world.claim() == []

    async def test_returned_is_queued_again_uncounted(self, world: World) -> None:
        id = await world.send()
        settled = await world.settle(await world.claim_one(), Settling.RETURNED, reason="stopping", now=world.at(5))
        assert (settled.moved, settled.origins) == ([True], set())
        receipt = await world.receipt(id)
        assert (receipt.state, receipt.attempt, receipt.token) == (DeliveryState.QUEUED, 0, 1)
        self.check_entry(receipt.log, world, "returned", "stopping", at=world.at(5))
        claim = (await world.claim_one()).claim
        assert (claim.token, claim.attempt) == (2, 1)

    def check_entry(self, log: list[dict[str, object]], world: World, event: str, reason: str, *, at: datetime) -> None:
        (entry,) = log
        assert entry["event"] == event
        assert entry["reason"] == reason
        assert entry["attempt"] == 1
        assert entry["process"] == world.owner
        assert datetime.fromisoformat(str(entry["at"])) == at
        assert datetime.fromisoformat(str(entry["claimed_at"])) == world.start

    async def test_the_log_names_the_process_that_ran_it_whoever_settles(self, world: World) -> None:
        id = await world.send()
        await world.settle(await world.claim_one(), Settling.RETRY, reason="no luck", owner=new_id())
        (entry,) = (await world.receipt(id)).log
        assert entry["process"] == world.owner

    async def test_the_log_keeps_every_failure_oldest_first(self, world: World) -> None:
        id = await world.send()
        for reason in ("one", "two ✓", 'three "3" \\ %s'):
            await world.settle(await world.claim_one(), Settling.RETRY, reason=reason)
        await world.settle(await world.claim_one(), Settling.DEAD, reason="r" * 500)
        log = (await world.receipt(id)).log
        assert [entry["reason"] for entry in log] == ["one", "two ✓", 'three "3" \\ %s', "r" * 500]
        assert [entry["event"] for entry in log] == ["failed", "failed", "failed", "dead"]
        assert [entry["attempt"] for entry in log] == [1, 2, 3, 4]

    async def test_many_are_settled_in_one_call_each_in_its_way(self, world: World) -> None:
        sent = await world.send_many(120)
        claimed = await world.claim(limit=200, ordered=False)
        ways = [list(Settling)[number % 4] for number in range(120)]
        settlements = [
            Settlement(delivery.claim, how, 60.0, "reason") for delivery, how in zip(claimed, ways, strict=True)
        ]
        settled = await world.deliveries.settle(settlements, owner=world.owner, now=world.start)
        assert settled.moved == [True] * 120
        states = {
            Settling.DONE: DeliveryState.DONE,
            Settling.DEAD: DeliveryState.DEAD,
            Settling.RETRY: DeliveryState.QUEUED,
            Settling.RETURNED: DeliveryState.QUEUED,
        }
        rows = {row.message_id: row for row in await world.deliveries.list_receipts(sent)}
        assert [rows[delivery.message_id].state for delivery in claimed] == [states[how] for how in ways]
        # Those returned are due, the retries are not.
        assert len(await world.claim(limit=200, ordered=False)) == 30

    async def test_nothing_to_settle_is_no_error(self, world: World) -> None:
        settled = await world.deliveries.settle([], owner=world.owner, now=world.start)
        assert (settled.moved, settled.origins, settled.claimed) == ([], set(), [])

    async def test_the_next_of_the_lane_is_claimed_in_the_same_commit(self, world: World) -> None:
        sent = await world.send_many(3)
        claimed = await world.claim_one()
        settled = await world.settle(claimed, requests=[world.request()])
        assert settled.moved == [True]
        assert ids(settled.claimed) == [sent[1]]
        assert (settled.claimed[0].claim.token, settled.claimed[0].content) == (1, '"hello"')
        assert await world.state(sent[1]) == DeliveryState.CLAIMED

    async def test_what_was_freed_by_a_retry_can_be_claimed_in_the_same_commit(self, world: World) -> None:
        sent = await world.send_many(2)
        settled = await world.settle(await world.claim_one(), Settling.RETRY, requests=[world.request()])
        assert ids(settled.claimed) == [sent[0]]
        assert settled.claimed[0].claim.token == 2

    async def test_requests_without_settlements_claim_like_a_claim(self, world: World) -> None:
        id = await world.send()
        settled = await world.deliveries.settle([], [world.request()], owner=world.owner, now=world.start)
        assert ids(settled.claimed) == [id]

    async def test_an_other_lanes_claims_are_not_touched(self, world: World) -> None:
        await world.send(world.alice)
        other = await world.send(world.carol)
        claimed = {delivery.sender_id: delivery for delivery in await world.claim()}
        await world.settle(claimed[world.alice])
        assert await world.state(other) == DeliveryState.CLAIMED


class FencingConformance(StoreFixtures):
    """Only the newest token moves a delivery."""

    async def taken_over(self, world: World) -> tuple[ClaimedDelivery, ClaimedDelivery, str]:
        """An old claim, and the one that a second process got after the first's hard end."""
        await world.send()
        old = await world.claim_one()
        await world.deliveries.advance(world.at(3600))
        second = new_id()
        new = await world.claim_one(owner=second, now=world.at(3600))
        assert new.claim.token == old.claim.token + 1
        return old, new, second

    @pytest.mark.parametrize("how", list(Settling))
    async def test_an_older_token_is_refused_and_changes_nothing(self, world: World, how: Settling) -> None:
        old, new, second = await self.taken_over(world)
        before = await world.receipt(old.message_id)
        settled = await world.settle(old, how, reason="late", now=world.at(3601))
        assert (settled.moved, settled.origins) == ([False], set())
        assert await world.receipt(old.message_id) == before
        assert await world.deliveries.list_claims(second) == [new.claim]
        assert (await world.settle(new, owner=second, now=world.at(3602))).moved == [True]

    async def test_after_the_newest_settled_an_older_one_is_refused_too(self, world: World) -> None:
        old, new, second = await self.taken_over(world)
        await world.settle(new, Settling.DEAD, owner=second, reason="mine", now=world.at(3601))
        before = await world.receipt(old.message_id)
        assert (await world.settle(old, now=world.at(3602))).moved == [False]
        assert await world.receipt(old.message_id) == before

    async def test_a_claim_that_was_taken_away_cannot_finish_what_waits_again(self, world: World) -> None:
        """Past its hard end the claim is lost, also while nobody has claimed the delivery yet."""
        id = await world.send()
        claimed = await world.claim_one()
        await world.deliveries.advance(world.at(3600))
        assert (await world.settle(claimed, now=world.at(3601))).moved == [False]
        assert (await world.settle(claimed, Settling.DEAD, now=world.at(3601))).moved == [False]
        assert await world.state(id) == DeliveryState.QUEUED

    async def test_a_claim_that_never_was_is_refused(self, world: World) -> None:
        id = await world.send()
        assert (await world.settle(Claim(seq=10**9, token=1, attempt=1))).moved == [False]
        claimed = (await world.claim_one()).claim
        assert (await world.settle(Claim(claimed.seq, claimed.token + 1, 1))).moved == [False]
        assert (await world.settle(Claim(claimed.seq, 0, 0))).moved == [False]
        assert await world.state(id) == DeliveryState.CLAIMED

    async def test_a_refused_one_hinders_no_other_and_claims_go_on(self, world: World) -> None:
        old, _, _ = await self.taken_over(world)
        sent = await world.send_many(2, world.carol)
        good = await world.claim_one(owner=world.owner, now=world.at(3600))
        settlements = [Settlement(old.claim, Settling.DONE), Settlement(good.claim, Settling.DONE)]
        settled = await world.deliveries.settle(settlements, [world.request()], owner=world.owner, now=world.at(3601))
        assert settled.moved == [False, True]
        assert ids(settled.claimed) == sent[1:]

    async def test_of_two_ends_at_once_one_wins(self, world: World) -> None:
        """A done and a dead under one token: whatever the order, exactly one of them took effect."""
        sent = await world.send_many(10)
        for claimed in await world.claim(limit=10, ordered=False):
            done, dead = await asyncio.gather(
                world.settle(claimed, Settling.DONE), world.settle(claimed, Settling.DEAD, reason="no")
            )
            assert sorted(done.moved + dead.moved) == [False, True]
            state = await world.state(claimed.message_id)
            assert state == (DeliveryState.DONE if done.moved == [True] else DeliveryState.DEAD)
        assert len(sent) == 10


class RepeatedSettleConformance(StoreFixtures):
    """Repeating a settlement that took effect answers the same, until the delivery is claimed again."""

    async def test_what_a_call_says_of_a_claim_besides_is_judged_by_what_came_of_it(self, world: World) -> None:
        await world.send()
        claim = (await world.claim_one()).claim
        ends = [Settlement(claim, how, 0.0, None if how is Settling.DONE else "why") for how in Settling]
        done, retry, dead, returned = ends
        settled = await world.deliveries.settle([retry, done, retry, dead], owner=world.owner, now=world.start)
        assert settled.moved == [True, False, True, False]
        settled = await world.deliveries.settle([done, returned, retry], owner=world.owner, now=world.start)
        assert settled.moved == [False, False, True]

    @pytest.mark.parametrize("how", list(Settling))
    async def test_a_repeat_is_answered_as_moved_and_changes_nothing(self, world: World, how: Settling) -> None:
        id = await world.send()
        claimed = await world.claim_one()
        await world.settle(claimed, how, delay=60, reason="once", now=world.at(1))
        after = await world.receipt(id)
        again = await world.settle(claimed, how, delay=60, reason="once", now=world.at(2))
        assert again.moved == [True]
        assert await world.receipt(id) == after

    @pytest.mark.parametrize("how", [Settling.RETRY, Settling.RETURNED])
    async def test_once_claimed_again_a_repeat_is_refused(self, world: World, how: Settling) -> None:
        id = await world.send()
        claimed = await world.claim_one()
        await world.settle(claimed, how)
        second = new_id()
        await world.claim_one(owner=second)
        before = await world.receipt(id)
        assert (await world.settle(claimed, how)).moved == [False]
        assert await world.receipt(id) == before

    @pytest.mark.parametrize("how", [Settling.RETRY, Settling.RETURNED])
    async def test_a_repeat_is_answered_as_moved_also_when_the_delivery_ended_without_a_claim(
        self, world: World, how: Settling
    ) -> None:
        """It took effect; what the sender or the time did afterwards is no reason to call the claim lost."""
        withdrawn = await world.send(world.alice)
        expired = await world.send(world.carol, expires_in=60)
        claimed = await world.claim()
        await world.settle(claimed, how)
        await world.deliveries.withdraw([withdrawn])
        await world.deliveries.advance(world.at(61))
        assert (await world.settle(claimed, how, now=world.at(62))).moved == [True, True]
        assert await world.state(withdrawn) == DeliveryState.WITHDRAWN
        assert await world.state(expired) == DeliveryState.EXPIRED

    async def test_a_repeat_is_answered_as_moved_also_when_the_dead_letter_was_driven_again(self, world: World) -> None:
        await world.send()
        claimed = await world.claim_one()
        await world.settle(claimed, Settling.DEAD, reason="once")
        await world.deliveries.redrive([claimed.message_id], None)
        assert (await world.settle(claimed, Settling.DEAD, reason="once")).moved == [True]
        assert (await world.settle(claimed, Settling.DONE)).moved == [False]
        assert await world.state(claimed.message_id) == DeliveryState.QUEUED

    @pytest.mark.parametrize("first", [Settling.DONE, Settling.DEAD])
    @pytest.mark.parametrize("other", list(Settling))
    async def test_another_end_than_the_first_is_refused(self, world: World, first: Settling, other: Settling) -> None:
        if first is other:
            return
        id = await world.send()
        claimed = await world.claim_one()
        await world.settle(claimed, first, reason="first")
        before = await world.receipt(id)
        assert (await world.settle(claimed, other, reason="other")).moved == [False]
        assert await world.receipt(id) == before

    @pytest.mark.parametrize("other", [Settling.RETRY, Settling.DEAD, Settling.RETURNED])
    async def test_how_an_earlier_claim_ended_is_not_taken_for_the_end_of_the_newest(
        self, world: World, other: Settling
    ) -> None:
        """What is done leaves no entry in the log: the last one is of the claim before."""
        id = await world.send()
        await world.settle(await world.claim_one(), other, reason="first")
        if other is Settling.DEAD:
            await world.deliveries.redrive([id], None)
        later = datetime.now(UTC) + timedelta(seconds=1)
        claimed = await world.claim_one(now=later)
        await world.settle(claimed, now=later)
        assert (await world.settle(claimed, other, reason="first", now=later)).moved == [False]
        assert (await world.settle(claimed, now=later)).moved == [True]
        assert await world.state(id) == DeliveryState.DONE

    async def test_a_dead_one_that_was_redriven_is_still_answered_as_moved(self, world: World) -> None:
        id = await world.send()
        claimed = await world.claim_one()
        await world.settle(claimed, Settling.DEAD, reason="once")
        await world.deliveries.redrive([id], None)
        after = await world.receipt(id)
        assert (await world.settle(claimed, Settling.DEAD, reason="once")).moved == [True]
        assert (await world.settle(claimed, Settling.RETRY)).moved == [False]
        assert await world.receipt(id) == after
        await world.deliveries.withdraw([id])
        assert (await world.settle(claimed, Settling.DEAD, reason="once")).moved == [True]

    async def test_a_repeat_at_another_store_is_answered_the_same(self, world: World, second_store: Store) -> None:
        await world.send()
        claimed = await world.claim_one()
        settlements = [Settlement(claimed.claim, Settling.DONE)]
        await world.deliveries.settle(settlements, owner=world.owner, now=world.start)
        again = await second_store.deliveries.settle(settlements, owner=world.owner, now=world.start)
        assert again.moved == [True]


class StatisticsConformance(StoreFixtures):
    """The state of the whole store in figures."""

    async def test_an_empty_store_has_no_ages(self, world: World) -> None:
        figures = await world.deliveries.statistics(world.start)
        assert sum(figures.counts.values()) == 0
        assert (figures.oldest_queued_age, figures.oldest_queued_recipient_id) == (None, None)
        assert figures.oldest_claim_age is None

    async def test_deliveries_are_counted_by_state(self, world: World) -> None:
        await self.one_of_each(world)
        figures = await world.deliveries.statistics(world.at(100))
        counted = {state: figures.counts.get(state, 0) for state in DeliveryState}
        assert counted == {
            DeliveryState.QUEUED: 2,
            DeliveryState.CLAIMED: 1,
            DeliveryState.DONE: 1,
            DeliveryState.DEAD: 1,
            DeliveryState.EXPIRED: 1,
            DeliveryState.WITHDRAWN: 1,
        }

    async def test_the_oldest_waiting_one_and_the_oldest_claim_have_their_ages(self, world: World) -> None:
        await self.one_of_each(world)
        await world.send(recipient=world.dave, expires_in=50)  # over by then, though nobody has ended it
        figures = await world.deliveries.statistics(world.at(100))
        assert figures.oldest_queued_age == pytest.approx(80, abs=0.01)
        assert figures.oldest_queued_recipient_id == world.dave
        assert figures.oldest_claim_age == pytest.approx(70, abs=0.01)
        figures = await world.deliveries.statistics(world.at(-5))  # another machine's clock is a little behind
        assert (figures.oldest_queued_age, figures.oldest_claim_age) == (0.0, 0.0)

    async def one_of_each(self, world: World) -> None:
        async def claim(**options: Any) -> ClaimedDelivery:
            return await world.claim_one(now=world.at(30), **options)

        await world.send()
        await world.settle(await claim())
        await world.kill()
        await world.deliveries.withdraw([await world.send()])
        await world.send(expires_in=10)
        await world.deliveries.advance(world.at(11))
        await world.send(recipient=world.dave, now=world.at(20))
        await world.send(recipient=world.carol, deliver_at=world.at(5000), kind=Kind.CONVERSATION)
        await world.send(recipient=world.carol, now=world.at(25))
        await claim(recipient=world.carol)
