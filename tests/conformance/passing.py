"""What happens to deliveries without a claim of theirs being settled: time, the sender and the operator."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import DeliveryState, Kind
from agent_messaging.storage.ports import CLAIM_MARGIN, Settling, Store

from .base import StoreFixtures
from .world import RUN_LIMIT, World, ids

HARD_END = RUN_LIMIT + CLAIM_MARGIN


class AdvanceConformance(StoreFixtures):
    """Time passes: due, expired, past the hard end. Each once."""

    async def test_with_nothing_to_come_nothing_changes(self, world: World) -> None:
        await world.send()
        advanced = await world.deliveries.advance(world.at(10**6))
        assert (advanced.due, advanced.expired_origins, advanced.released) == (0, set(), 0)
        assert advanced.next_in is None

    async def test_what_was_scheduled_becomes_due_once(self, world: World) -> None:
        id = await world.send(deliver_at=world.at(60))
        assert (await world.receipt(id)).deliver_at == world.at(60)
        assert (await world.deliveries.advance(world.at(59))).due == 0
        assert (await world.deliveries.advance(world.at(61))).due == 1
        assert (await world.deliveries.advance(world.at(61))).due == 0
        assert await world.deliveries.find_waiting(world.at(61)) == [(world.bob, Kind.ONE_WAY)]

    async def test_scheduled_messages_that_become_due_keep_the_order_they_were_stored_in(self, world: World) -> None:
        late = await world.send(deliver_at=world.at(60))
        early = await world.send(deliver_at=world.at(30))
        await world.deliveries.advance(world.at(61))
        assert ids(await world.claim(limit=2, ordered=False, now=world.at(61))) == [late, early]

    async def test_what_expires_ends_and_tells_its_origin(self, world: World) -> None:
        origin = new_id()
        id = await world.send(expires_in=60, owner=origin)
        assert (await world.receipt(id)).expires_at == world.at(60)
        assert (await world.deliveries.advance(world.at(59))).expired_origins == set()
        advanced = await world.deliveries.advance(world.at(61))
        assert (advanced.expired_origins, advanced.expired) == ({origin}, [id])
        again = await world.deliveries.advance(world.at(61))
        assert (again.expired_origins, [*again.expired]) == (set(), [])
        receipt = await world.receipt(id)
        assert (receipt.state, receipt.settled_at) == (DeliveryState.EXPIRED, world.at(61))
        assert receipt.attempt == 0

    async def test_an_expired_head_frees_its_lane(self, world: World) -> None:
        await world.send(expires_in=60)
        behind = await world.send()
        await world.deliveries.advance(world.at(61))
        assert ids(await world.claim(now=world.at(61))) == [behind]

    async def test_what_is_scheduled_expires_as_well(self, world: World) -> None:
        id = await world.send(deliver_at=world.at(100), expires_in=60)
        await world.deliveries.advance(world.at(61))
        assert await world.state(id) == DeliveryState.EXPIRED
        assert (await world.deliveries.advance(world.at(101))).due == 0

    async def test_what_is_claimed_does_not_expire_but_its_retry_does(self, world: World) -> None:
        id = await world.send(expires_in=60)
        claimed = await world.claim_one()
        await world.deliveries.advance(world.at(61))
        assert await world.state(id) == DeliveryState.CLAIMED
        await world.settle(claimed, Settling.RETRY, now=world.at(62))
        assert await world.claim(now=world.at(62)) == []
        await world.deliveries.advance(world.at(62))
        assert await world.state(id) == DeliveryState.EXPIRED

    async def test_a_claim_past_its_hard_end_returns_to_the_queue_counted(self, world: World) -> None:
        id = await world.send()
        await world.claim_one()
        assert (await world.deliveries.advance(world.at(HARD_END - 1))).released == 0
        assert await world.state(id) == DeliveryState.CLAIMED
        assert (await world.deliveries.advance(world.at(HARD_END + 1))).released == 1
        assert (await world.deliveries.advance(world.at(HARD_END + 1))).released == 0
        receipt = await world.receipt(id)
        assert (receipt.state, receipt.attempt, receipt.token) == (DeliveryState.QUEUED, 1, 1)
        assert [(entry["event"], entry["process"]) for entry in receipt.log] == [("lost", world.owner)]
        assert receipt.log[0]["reason"]
        claim = (await world.claim_one(owner=new_id(), now=world.at(HARD_END + 1))).claim
        assert (claim.token, claim.attempt) == (2, 2)

    async def test_at_the_last_attempt_the_hard_end_makes_a_dead_letter(self, world: World) -> None:
        id = await world.send(max_attempts=1)
        await world.claim_one()
        assert (await world.deliveries.advance(world.at(HARD_END + 1))).released == 1
        receipt = await world.receipt(id)
        assert (receipt.state, receipt.settled_at) == (DeliveryState.DEAD, world.at(HARD_END + 1))
        (dead,) = await world.deliveries.list_dead(world.bob, 10, 0)
        assert dead.log
        assert dead.log[-1]["reason"]

    async def test_the_next_change_is_foretold(self, world: World) -> None:
        async def next_in(seconds: float) -> float | None:
            return (await world.deliveries.advance(world.at(seconds))).next_in

        await world.send(world.alice)
        await world.send(world.carol, expires_in=300)
        assert await next_in(0) == pytest.approx(300, abs=0.01)
        await world.send(world.dave, deliver_at=world.at(200))
        assert await next_in(10) == pytest.approx(190, abs=0.01)
        (claimed,) = await world.claim(limit=1)
        assert await next_in(20) == pytest.approx(HARD_END - 20, abs=0.01)
        await world.settle(claimed, Settling.RETRY, delay=25, now=world.at(20))
        assert await next_in(21) == pytest.approx(24, abs=0.01)
        assert await next_in(46) == pytest.approx(154, abs=0.01)
        assert await next_in(201) == pytest.approx(99, abs=0.01)
        assert await next_in(301) is None

    async def test_stores_that_advance_at_once_release_each_claim_once(self, world: World, second_store: Store) -> None:
        sent = await world.send_many(40, max_attempts=1)
        sent += await world.send_many(40, recipient=world.carol)
        await world.claim(limit=40, ordered=False)
        await world.claim(world.carol, limit=40, ordered=False)
        answers = await asyncio.gather(
            *(store.deliveries.advance(world.at(3600)) for store in (world.store, second_store) * 3)
        )
        assert sum(answer.released for answer in answers) == 80
        rows = await world.deliveries.list_receipts(sent)
        assert all(len({entry["event"] for entry in row.log}) == len(row.log) for row in rows)

    async def test_the_clock_of_the_store_is_used_where_advance_is_given_no_instant(self, world: World) -> None:
        due = await world.send(now=world.at(-60), deliver_at=world.at(-30))
        gone = await world.send(now=world.at(-60), expires_in=30)
        coming = await world.send(deliver_at=world.at(3600))
        await world.deliveries.advance()
        assert await world.state(gone) == DeliveryState.EXPIRED
        assert (await world.receipt(due)).deliver_at is None
        assert (await world.receipt(coming)).deliver_at == world.at(3600)


class WithdrawConformance(StoreFixtures):
    """The sender takes back what is still queued."""

    async def test_what_is_queued_is_withdrawn_and_never_claimed(self, world: World) -> None:
        first, second = await world.send_many(2)
        scheduled = await world.send(deliver_at=world.at(60))
        assert sorted(await world.deliveries.withdraw([first, scheduled])) == sorted([first, scheduled])
        receipt = await world.receipt(first)
        assert receipt.state == DeliveryState.WITHDRAWN
        assert receipt.settled_at is not None
        assert ids(await world.claim()) == [second]
        assert (await world.deliveries.advance(world.at(61))).due == 0
        assert await world.state(scheduled) == DeliveryState.WITHDRAWN

    async def test_what_is_claimed_or_ended_or_unknown_is_left_alone(self, world: World) -> None:
        done, claimed = await world.send_many(2)
        await world.settle(await world.claim_one())
        running = await world.claim_one()
        assert await world.deliveries.withdraw([done, claimed, new_id()]) == []
        assert await world.state(done) == DeliveryState.DONE
        assert (await world.settle(running)).moved == [True]

    async def test_it_moves_once(self, world: World) -> None:
        id = await world.send()
        assert await world.deliveries.withdraw([id]) == [id]
        assert await world.deliveries.withdraw([id]) == []
        assert await world.deliveries.withdraw([]) == []

    async def test_a_retry_that_waits_can_be_withdrawn(self, world: World) -> None:
        id = await world.send()
        claimed = await world.claim_one()
        await world.settle(claimed, Settling.RETRY, delay=60)
        assert await world.deliveries.withdraw([id]) == [id]
        assert (await world.settle(claimed, Settling.DONE)).moved == [False]
        assert await world.state(id) == DeliveryState.WITHDRAWN


class ReceiptConformance(StoreFixtures):
    """What the sender sees."""

    async def test_a_new_message_has_nothing_behind_it(self, world: World) -> None:
        id = await world.send(kind=Kind.CONVERSATION, max_attempts=3)
        receipt = await world.receipt(id)
        assert (receipt.message_id, receipt.sender_id, receipt.recipient_id) == (id, world.alice, world.bob)
        assert (receipt.kind, receipt.state, receipt.max_attempts) == (Kind.CONVERSATION, DeliveryState.QUEUED, 3)
        assert (receipt.attempt, receipt.token, receipt.created_at) == (0, 0, world.start)
        assert (receipt.deliver_at, receipt.expires_at, receipt.claimed_at) == (None, None, None)
        assert (receipt.settled_at, receipt.read_at, receipt.owner, receipt.log) == (None, None, None, [])

    async def test_instants_are_utc(self, world: World) -> None:
        id = await world.send(deliver_at=world.at(5), expires_in=10)
        receipt = await world.receipt(id)
        for instant in (receipt.created_at, receipt.deliver_at, receipt.expires_at):
            assert isinstance(instant, datetime)
            assert str(instant.utcoffset()) == "0:00:00"

    async def test_those_that_exist_are_returned(self, world: World) -> None:
        sent = await world.send_many(3)
        rows = await world.deliveries.list_receipts([sent[2], new_id(), sent[0]])
        assert sorted(row.message_id for row in rows) == sorted([sent[0], sent[2]])
        assert await world.deliveries.list_receipts([]) == []

    async def test_reading_shows_and_does_not_acknowledge(self, world: World) -> None:
        id = await world.send()
        await world.store.messages.mark_read(world.bob, Kind.ONE_WAY, now=world.at(3))
        receipt = await world.receipt(id)
        assert (receipt.read_at, receipt.state) == (world.at(3), DeliveryState.QUEUED)
        assert ids(await world.claim()) == [id]

    async def test_the_log_tells_a_whole_life(self, world: World) -> None:
        id = await world.send(max_attempts=2)
        await world.settle(await world.claim_one(), Settling.RETURNED, reason="stopping")
        await world.settle(await world.claim_one(), Settling.RETRY, reason="failed")
        await world.settle(await world.claim_one(), Settling.DEAD, reason="failed again", now=world.at(9))
        await world.deliveries.redrive([id], None)
        log = (await world.receipt(id)).log
        assert [entry["event"] for entry in log] == ["returned", "failed", "dead", "redriven"]
        assert [entry.get("attempt") for entry in log[:3]] == [1, 1, 2]
        assert all(datetime.fromisoformat(str(entry["at"])).utcoffset() is not None for entry in log)


class DeadLetterConformance(StoreFixtures):
    """What was given up is kept with its reasons, and can be queued again."""

    async def test_a_dead_letter_has_the_message_and_its_reasons(self, world: World) -> None:
        id = await world.send(content='{"x":1}', metadata='{"m":2}', kind=Kind.CONVERSATION)
        claimed = await world.claim_one(kind=Kind.CONVERSATION)
        await world.settle(claimed, Settling.RETRY, reason="first")
        claimed = await world.claim_one(kind=Kind.CONVERSATION)
        await world.settle(claimed, Settling.DEAD, reason="second", now=world.at(7))
        (dead,) = await world.deliveries.list_dead(None, 10, 0)
        assert (dead.message_id, dead.sender_id, dead.recipient_id) == (id, world.alice, world.bob)
        assert (dead.kind, dead.content, dead.metadata) == (Kind.CONVERSATION, '{"x":1}', '{"m":2}')
        assert (dead.checksum, dead.attempt) == (claimed.checksum, 2)
        assert (dead.created_at, dead.died_at) == (world.start, world.at(7))
        assert [entry["reason"] for entry in dead.log] == ["first", "second"]

    async def test_the_list_is_paged_newest_first_of_one_recipient_or_all(self, world: World) -> None:
        letters = [await world.kill() for _ in range(3)]
        other = await world.send(recipient=world.carol)
        await world.settle(await world.claim_one(world.carol), Settling.DEAD)

        async def listed(recipient: str | None, limit: int, offset: int) -> list[str]:
            return [row.message_id for row in await world.deliveries.list_dead(recipient, limit, offset)]

        assert await listed(world.bob, 10, 0) == letters[::-1]
        assert await listed(world.bob, 2, 0) == letters[:0:-1]
        assert await listed(world.bob, 2, 2) == letters[:1]
        assert await listed(None, 10, 0) == [other, *letters[::-1]]
        assert await listed(world.dave, 10, 0) == []

    async def test_redriving_begins_anew_under_the_next_token(self, world: World) -> None:
        id = await world.send(expires_in=60, max_attempts=1)
        old = await world.claim_one()
        await world.settle(old, Settling.DEAD, reason="no")
        assert await world.deliveries.redrive([id], None) == [(id, world.bob)]
        receipt = await world.receipt(id)
        assert (receipt.state, receipt.attempt, receipt.token) == (DeliveryState.QUEUED, 0, 1)
        assert (receipt.expires_at, receipt.deliver_at, receipt.settled_at) == (None, None, None)
        assert await world.events(id) == ["dead", "redriven"]
        assert await world.deliveries.list_dead(None, 10, 0) == []
        await world.deliveries.advance(world.at(3600))
        claim = (await world.claim_one(now=world.at(3600))).claim
        assert (claim.token, claim.attempt) == (2, 1)
        assert (await world.settle(old, Settling.DONE)).moved == [False]

    async def test_only_dead_ones_are_redriven_once(self, world: World) -> None:
        dead = await world.kill()
        done = await world.send()
        await world.settle(await world.claim_one())
        queued = await world.send()
        ids_ = [dead, done, queued, new_id()]
        assert await world.deliveries.redrive(ids_, None) == [(dead, world.bob)]
        assert await world.deliveries.redrive(ids_, None) == []
        assert await world.state(done) == DeliveryState.DONE
        assert await world.deliveries.redrive([], None) == []

    async def test_all_of_a_recipient_or_all_are_redriven(self, world: World) -> None:
        letters = [await world.kill() for _ in range(2)]
        other = await world.send(recipient=world.carol)
        await world.settle(await world.claim_one(world.carol), Settling.DEAD)
        moved = await world.deliveries.redrive(None, world.bob)
        assert sorted(moved) == sorted((id, world.bob) for id in letters)
        assert await world.deliveries.redrive(None, None) == [(other, world.carol)]
        assert await world.deliveries.redrive(None, None) == []

    async def test_one_that_died_with_its_process_is_a_dead_letter_like_any_other(self, world: World) -> None:
        id = await world.send(max_attempts=1)
        await world.claim_one()
        await world.deliveries.advance(world.at(3600))
        assert [row.message_id for row in await world.deliveries.list_dead(world.bob, 10, 0)] == [id]
        assert await world.deliveries.redrive([id], None) == [(id, world.bob)]
        claim = (await world.claim_one(now=world.at(3600))).claim
        assert (claim.token, claim.attempt) == (2, 1)
