"""Storing messages: order, all or nothing, idempotency keys, mailboxes, and claims made in the same commit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import DeliveryState, Kind
from agent_messaging.storage.ports import (
    Duplicate,
    KeyConflict,
    MailboxFull,
    NewGroup,
    Role,
    Settling,
    Store,
    Stored,
    UnknownAgents,
)

from .base import StoreFixtures
from .gathering import remove_agent
from .world import World, ids


def message_ids(group: NewGroup) -> list[str]:
    """The ids of a group's messages, in the order of its recipients."""
    return [delivery.message_id for delivery in group.deliveries]


class AppendConformance(StoreFixtures):
    """One append: groups in their order, each all or nothing, one outcome per group."""

    async def test_a_message_is_delivered_as_it_was_stored(self, world: World) -> None:
        """Text of any script, escapes and spacing included: the store keeps JSON text, it does not rewrite it."""
        content = '{ "b":1.0, "a":[1E3, 18446744073709551617,"\\u00e9 é 株 🙂 \\\\ \\" %s $1 :x ?"] , "a":null}'
        metadata, session = '{"k" : "v"}', new_id()
        group = world.group(content=content, metadata=metadata, session_id=session, checksum=2**32 - 1, max_attempts=7)
        assert await world.append(group) == [Stored()]
        claimed = await world.claim_one()
        assert (claimed.content, claimed.metadata, claimed.checksum) == (content, metadata, 2**32 - 1)
        assert (claimed.message_id, claimed.kind) == (message_ids(group)[0], Kind.ONE_WAY)
        assert (claimed.sender_id, claimed.recipient_id) == (world.alice, world.bob)
        assert (claimed.session_id, claimed.max_attempts, claimed.origin) == (session, 7, world.owner)
        assert claimed.created_at == world.start

    async def test_a_large_message_is_delivered_whole(self, world: World) -> None:
        content = '"' + "".join(f"{number} " for number in range(150_000)) + '"'
        assert len(content) > 900_000
        await world.send(content=content)
        assert (await world.claim_one()).content == content

    async def test_nothing_to_store_is_no_error(self, world: World) -> None:
        assert await world.append() == []

    async def test_messages_keep_the_order_of_groups_and_of_their_recipients(self, world: World) -> None:
        groups = [world.group(recipients=[world.carol, world.bob]) for _ in range(20)]
        assert await world.append(*groups) == [Stored()] * 20
        later = world.group(recipients=[world.carol, world.bob])
        await world.append(later)
        rows = await world.store.messages.list_messages(world.alice, Role.SENDER, Kind.ONE_WAY, limit=100, after_seq=0)
        stored = [id for group in [*groups, later] for id in message_ids(group)]
        assert [row.message_id for row in rows] == stored

    async def test_a_group_with_an_unknown_agent_stores_nothing_and_hinders_no_other(self, world: World) -> None:
        nobody = new_id()
        first, refused, last = world.group(), world.group(recipients=[world.bob, nobody]), world.group()
        outcomes = await world.append(first, refused, last)
        assert outcomes == [Stored(), UnknownAgents([nobody]), Stored()]
        rows = await world.deliveries.list_receipts(
            [id for group in (first, refused, last) for id in message_ids(group)]
        )
        assert {row.message_id for row in rows} == {*message_ids(first), *message_ids(last)}
        assert await world.store.messages.count_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY) == 2

    async def test_unknown_agents_are_named_once_each_sender_and_recipients_alike(self, world: World) -> None:
        sender, recipient = new_id(), new_id()
        (outcome,) = await world.append(world.group(sender, [world.bob, recipient]))
        assert isinstance(outcome, UnknownAgents)
        assert sorted(outcome.ids) == sorted([sender, recipient])

    async def test_a_message_to_oneself_is_stored(self, world: World) -> None:
        id = await world.send(world.alice, world.alice)
        assert ids(await world.claim(world.alice)) == [id]

    async def test_the_clock_of_the_store_is_used_where_append_is_given_no_instant(self, world: World) -> None:
        group = world.group()
        await world.deliveries.append([group], owner=world.owner)
        receipt = await world.receipt(message_ids(group)[0])
        assert abs((receipt.created_at - world.start).total_seconds()) < 60
        assert ids(await world.deliveries.claim([world.request()], owner=world.owner)) == message_ids(group)

    async def test_several_appends_at_once_store_each_of_theirs(self, world: World) -> None:
        batches = [[world.group() for _ in range(10)] for _ in range(8)]
        outcomes = await asyncio.gather(*(world.append(*batch) for batch in batches))
        assert outcomes == [[Stored()] * 10] * 8
        rows = await world.store.messages.list_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY, limit=100, after_seq=0)
        order = [row.message_id for row in rows]
        assert len(order) == 80
        for batch in batches:
            places = [order.index(group.deliveries[0].message_id) for group in batch]
            assert places == sorted(places)


class IdempotencyConformance(StoreFixtures):
    """A key is used once per sender and public call; a repeat is answered with the first one's ids."""

    async def test_a_repeat_is_answered_with_the_first_ids_and_stores_nothing(self, world: World) -> None:
        recipients = [world.carol, world.bob, world.dave]
        first = world.group(recipients=recipients, idempotency_key="k", fingerprint="f")
        again = world.group(recipients=recipients, idempotency_key="k", fingerprint="f")
        assert await world.append(first) == [Stored()]
        assert await world.append(again) == [Duplicate(message_ids(first))]
        assert await world.deliveries.list_receipts(message_ids(again)) == []
        assert ids(await world.claim()) == [message_ids(first)[1]]

    async def test_two_groups_with_one_new_key_in_one_call_are_stored_once(self, world: World) -> None:
        first = world.group(idempotency_key="k", fingerprint="f")
        again = world.group(idempotency_key="k", fingerprint="f")
        other = world.group(idempotency_key="k", fingerprint="other")
        assert await world.append(first, again, other) == [Stored(), Duplicate(message_ids(first)), KeyConflict()]
        assert await world.store.messages.count_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY) == 1

    async def test_another_fingerprint_under_a_used_key_is_a_conflict(self, world: World) -> None:
        await world.append(world.group(idempotency_key="k", fingerprint="f"))
        other, fine = world.group(idempotency_key="k", fingerprint="g"), world.group()
        assert await world.append(other, fine) == [KeyConflict(), Stored()]
        assert await world.deliveries.list_receipts(message_ids(other)) == []

    @pytest.mark.parametrize("change", [{"call": "send_no_wait"}, {"idempotency_key": "K"}, {"sender": "carol"}])
    async def test_a_key_belongs_to_one_sender_and_one_call(self, world: World, change: dict[str, Any]) -> None:
        await world.append(world.group(idempotency_key="k", fingerprint="f"))
        options = {"idempotency_key": "k", "fingerprint": "g", **change}
        if "sender" in options:
            options["sender"] = getattr(world, options["sender"])
        assert await world.append(world.group(**options)) == [Stored()]

    async def test_a_refused_group_does_not_use_up_its_key(self, world: World) -> None:
        refused = world.group(recipients=[new_id()], idempotency_key="k", fingerprint="f")
        retried = world.group(idempotency_key="k", fingerprint="g")
        outcomes = await world.append(refused, retried)
        assert isinstance(outcomes[0], UnknownAgents)
        assert outcomes[1] == Stored()
        later = world.group(idempotency_key="k", fingerprint="g")
        assert await world.append(later) == [Duplicate(message_ids(retried))]

    async def test_the_key_is_looked_at_before_the_agents_and_the_mailboxes(self, world: World) -> None:
        first = world.group(idempotency_key="k", fingerprint="f")
        await world.append(first)
        full = world.group(idempotency_key="k", fingerprint="f", mailbox_limit=1)
        assert await world.append(full) == [Duplicate(message_ids(first))]
        gone = world.group(recipients=[new_id()], idempotency_key="k", fingerprint="f")
        assert await world.append(gone) == [Duplicate(message_ids(first))]

    async def test_a_repeat_is_found_without_appending(self, world: World) -> None:
        first = world.group(recipients=[world.carol, world.bob], idempotency_key="k", fingerprint="f")
        assert await world.deliveries.find_repeat(world.alice, "send", "k", "f") is None
        await world.append(first)
        assert await world.deliveries.find_repeat(world.alice, "send", "k", "f") == Duplicate(message_ids(first))
        assert await world.deliveries.find_repeat(world.alice, "send", "k", "g") == KeyConflict()
        assert await world.deliveries.find_repeat(world.alice, "send_no_wait", "k", "f") is None
        assert await world.deliveries.find_repeat(world.alice, "send", "K", "f") is None
        assert await world.deliveries.find_repeat(world.bob, "send", "k", "f") is None

    async def test_a_key_outlives_the_delivery_it_was_used_for(self, world: World) -> None:
        first = world.group(idempotency_key="k", fingerprint="f")
        await world.append(first)
        await world.settle(await world.claim_one(), Settling.DONE)
        assert await world.append(world.group(idempotency_key="k", fingerprint="f")) == [Duplicate(message_ids(first))]


class MailboxConformance(StoreFixtures):
    """A mailbox limit counts open deliveries: queued, scheduled or claimed."""

    async def test_a_full_mailbox_refuses_the_group_and_names_the_recipients(self, world: World) -> None:
        for recipient in (world.bob, world.carol):
            await world.send(recipient=recipient)
        group = world.group(recipients=[world.bob, world.carol, world.dave], mailbox_limit=1)
        (outcome,) = await world.append(group)
        assert isinstance(outcome, MailboxFull)
        assert sorted(outcome.recipient_ids) == sorted([world.bob, world.carol])
        assert await world.deliveries.list_receipts(message_ids(group)) == []

    async def test_claimed_and_scheduled_deliveries_take_room_and_settled_ones_do_not(self, world: World) -> None:
        await world.send()
        await world.send(deliver_at=world.at(3600))
        claimed = await world.claim_one()
        assert await world.append(world.group(mailbox_limit=2)) == [MailboxFull([world.bob])]
        await world.settle(claimed, Settling.DONE)
        assert await world.append(world.group(mailbox_limit=2)) == [Stored()]
        assert await world.append(world.group(mailbox_limit=2)) == [MailboxFull([world.bob])]

    async def test_each_group_of_a_call_is_judged_by_its_own_limit(self, world: World) -> None:
        await world.append(world.group(mailbox_limit=10_000))
        await world.send_many(2)
        groups = [world.group(mailbox_limit=limit) for limit in (10_000, 3, None, 5, 6)]
        full = MailboxFull([world.bob])
        assert await world.append(*groups) == [Stored(), full, Stored(), full, Stored()]

    async def test_a_count_that_went_as_far_as_a_small_limit_says_nothing_of_a_greater_one(self, world: World) -> None:
        await world.send_many(20)
        assert await world.append(world.group(mailbox_limit=2)) == [MailboxFull([world.bob])]
        assert await world.append(world.group(mailbox_limit=20)) == [MailboxFull([world.bob])]
        assert await world.append(world.group(mailbox_limit=21)) == [Stored()]

    async def test_messages_of_the_same_call_take_room(self, world: World) -> None:
        groups = [world.group(mailbox_limit=3) for _ in range(5)]
        outcomes = await world.append(*groups)
        assert outcomes == [Stored()] * 3 + [MailboxFull([world.bob])] * 2
        rows = await world.deliveries.list_receipts([id for group in groups for id in message_ids(group)])
        assert len(rows) == 3

    async def test_refused_messages_of_the_same_call_take_none(self, world: World) -> None:
        refused = world.group(recipients=[world.bob, new_id()], mailbox_limit=1)
        outcomes = await world.append(refused, world.group(mailbox_limit=1))
        assert isinstance(outcomes[0], UnknownAgents)
        assert outcomes[1] == Stored()

    async def test_the_limit_is_that_of_each_group(self, world: World) -> None:
        outcomes = await world.append(world.group(), world.group(mailbox_limit=1), world.group(mailbox_limit=None))
        assert outcomes == [Stored(), MailboxFull([world.bob]), Stored()]

    async def test_the_agents_are_looked_at_before_the_mailboxes(self, world: World) -> None:
        await world.send()
        nobody = new_id()
        (outcome,) = await world.append(world.group(recipients=[world.bob, nobody], mailbox_limit=1))
        assert outcome == UnknownAgents([nobody])


class ClaimInAppendConformance(StoreFixtures):
    """A delivery that asks for it is claimed in the commit that stores it, where that breaks no lane."""

    async def stored(self, world: World, group: NewGroup, **options: Any) -> Stored:
        (outcome,) = await world.append(group, **options)
        assert isinstance(outcome, Stored)
        return outcome

    async def test_in_an_empty_lane_it_is_claimed_under_the_first_token(self, world: World) -> None:
        group = world.group(recipients=[world.bob, world.carol], claim=True)
        stored = await self.stored(world, group)
        assert set(stored.claims) == set(message_ids(group))
        assert {(claim.token, claim.attempt) for claim in stored.claims.values()} == {(1, 1)}
        receipt = await world.receipt(message_ids(group)[0])
        assert (receipt.state, receipt.owner, receipt.token) == (DeliveryState.CLAIMED, world.owner, 1)
        assert receipt.claimed_at == world.start
        assert sorted(await world.deliveries.list_claims(world.owner), key=lambda claim: claim.seq) == sorted(
            stored.claims.values(), key=lambda claim: claim.seq
        )
        assert await world.claim(owner=new_id()) == []
        assert (await world.settle(stored.claims[message_ids(group)[0]])).moved == [True]

    async def test_only_what_asks_for_it_is_claimed(self, world: World) -> None:
        group = world.group(recipients=[world.bob, world.carol])
        group.deliveries[1].claim = True
        stored = await self.stored(world, group)
        assert set(stored.claims) == {group.deliveries[1].message_id}
        assert await world.state(group.deliveries[0].message_id) == DeliveryState.QUEUED

    async def test_it_is_refused_where_something_due_waits_in_the_lane(self, world: World) -> None:
        waiting = await world.send()
        group = world.group(claim=True)
        assert await self.stored(world, group) == Stored()
        assert await world.state(message_ids(group)[0]) == DeliveryState.QUEUED
        assert ids(await world.claim()) == [waiting]

    async def test_it_is_refused_where_the_same_call_put_something_into_the_lane_before(self, world: World) -> None:
        first, second = world.group(), world.group(claim=True)
        assert await world.append(first, second) == [Stored(), Stored()]
        assert ids(await world.claim()) == message_ids(first)

    async def test_it_is_refused_while_another_process_has_a_claim_in_the_lane(self, world: World) -> None:
        await world.send()
        await world.claim_one(owner=new_id())
        group = world.group(claim=True)
        assert await self.stored(world, group) == Stored()
        assert await world.state(message_ids(group)[0]) == DeliveryState.QUEUED

    async def test_it_is_granted_beside_a_claim_of_the_same_process(self, world: World) -> None:
        """The caller guarantees that the run of its own claim has ended; the settlement may still be on its way."""
        first = await self.stored(world, world.group(claim=True))
        second = await self.stored(world, world.group(claim=True))
        assert len(first.claims) == len(second.claims) == 1

    async def test_what_is_scheduled_in_the_lane_does_not_hinder_it(self, world: World) -> None:
        await world.send(deliver_at=world.at(60))
        assert len((await self.stored(world, world.group(claim=True))).claims) == 1

    async def test_other_lanes_do_not_hinder_it(self, world: World) -> None:
        await world.send(world.carol)
        await world.send(kind=Kind.CONVERSATION)
        await world.send(recipient=world.dave)
        await world.claim_one(owner=new_id(), kind=Kind.CONVERSATION)
        assert len((await self.stored(world, world.group(claim=True))).claims) == 1

    async def test_what_is_not_due_is_not_claimed(self, world: World) -> None:
        group = world.group(claim=True, deliver_at=world.at(60))
        assert await self.stored(world, group) == Stored()
        receipt = await world.receipt(message_ids(group)[0])
        assert (receipt.state, receipt.token, receipt.attempt) == (DeliveryState.QUEUED, 0, 0)

    async def test_the_claim_ends_hard_a_minute_after_the_run_limit(self, world: World) -> None:
        group = world.group(claim=True, run_limit=10.0)
        await self.stored(world, group)
        assert (await world.deliveries.advance(world.at(69))).released == 0
        assert (await world.deliveries.advance(world.at(71))).released == 1
        assert await world.state(message_ids(group)[0]) == DeliveryState.QUEUED

    async def test_a_refused_group_claims_nothing(self, world: World) -> None:
        (outcome,) = await world.append(world.group(recipients=[world.bob, new_id()], claim=True))
        assert isinstance(outcome, UnknownAgents)
        assert await world.deliveries.list_claims(world.owner) == []


class RepeatedAppendConformance(StoreFixtures):
    """`repeat=True` asks again for groups of which the first attempt's outcome is unknown."""

    async def test_what_was_committed_is_answered_as_stored_again_with_the_claims_still_held(
        self, world: World
    ) -> None:
        claiming, plain, finished = world.group(claim=True), world.group(), world.group(world.carol, claim=True)
        first = await world.append(claiming, plain, finished)
        assert isinstance(first[2], Stored)
        await world.settle(next(iter(first[2].claims.values())))
        assert await world.append(claiming, plain, finished, repeat=True) == [first[0], Stored(), Stored()]
        assert await world.store.messages.count_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY) == 3

    async def test_what_was_not_committed_is_stored_now(self, world: World) -> None:
        known, new = world.group(), world.group(world.carol, claim=True)
        await world.append(known)
        outcomes = await world.append(known, new, repeat=True)
        assert outcomes[0] == Stored()
        assert isinstance(outcomes[1], Stored)
        assert set(outcomes[1].claims) == set(message_ids(new))
        assert await world.store.messages.count_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY) == 2

    async def test_a_claim_that_another_process_took_over_is_not_reported(self, world: World) -> None:
        group = world.group(claim=True)
        await world.append(group)
        await world.deliveries.advance(world.at(3600))
        await world.claim_one(owner=new_id(), now=world.at(3600))
        assert await world.append(group, repeat=True, now=world.at(3600)) == [Stored()]

    async def test_the_repeat_of_a_group_with_a_key_is_stored_and_no_duplicate_of_itself(self, world: World) -> None:
        group = world.group(idempotency_key="k", fingerprint="f")
        await world.append(group)
        assert await world.append(group, repeat=True) == [Stored()]
        other = world.group(idempotency_key="k", fingerprint="f")
        assert await world.append(other, repeat=True) == [Duplicate(message_ids(group))]

    async def test_the_repeat_is_answered_before_mailboxes_are_looked_at(self, world: World) -> None:
        group = world.group(mailbox_limit=1)
        await world.append(group)
        assert await world.append(group, world.group(mailbox_limit=1), repeat=True) == [
            Stored(),
            MailboxFull([world.bob]),
        ]

    async def test_the_repeat_is_answered_although_a_recipient_was_removed_meanwhile(self, world: World) -> None:
        group = world.group(recipients=[world.bob, world.carol])
        await world.append(group)
        await remove_agent(world, world.bob)
        assert await world.append(group, repeat=True) == [Stored()]

    async def test_a_repeat_at_another_store_finds_what_the_first_one_stored(
        self, world: World, second_store: Store
    ) -> None:
        group = world.group(claim=True)
        first = await world.append(group)
        assert await second_store.deliveries.append([group], owner=world.owner, repeat=True, now=world.start) == first
