"""The death of processes: their claims go back, the guilty are found, the bystanders lose nothing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import DeliveryState, Kind
from agent_messaging.storage.ports import ClaimedDelivery, Settling, Store, Stored

from .base import Processes, StoreFixtures, need_processes
from .world import World, ids


class ReleaseConformance(StoreFixtures):
    """`release` marks processes as died and returns what they had claimed."""

    async def test_claims_of_the_dead_return_counted_and_logged(self, world: World, processes: Processes) -> None:
        owner = await processes.start()
        id = await world.send()
        await world.claim_one(owner=owner)
        assert await world.store.processes.release([owner], world.at(3)) == 1
        receipt = await world.receipt(id)
        assert (receipt.state, receipt.attempt, receipt.token) == (DeliveryState.QUEUED, 1, 1)
        assert [(entry["event"], entry["process"], entry["attempt"]) for entry in receipt.log] == [("lost", owner, 1)]
        assert await world.deliveries.list_claims(owner) == []
        claim = (await world.claim_one(now=world.at(3))).claim
        assert (claim.token, claim.attempt) == (2, 2)

    async def test_what_had_ended_before_stays_as_it_was(self, world: World, processes: Processes) -> None:
        owner = await processes.start()
        id = await world.send()
        await world.settle(await world.claim_one(owner=owner), owner=owner)
        assert await world.store.processes.release([owner], world.start) == 0
        assert await world.state(id) == DeliveryState.DONE

    async def test_claims_of_others_stay(self, world: World, processes: Processes) -> None:
        owner = await processes.start()
        await world.send(world.alice)
        await world.send(world.carol)
        (lost,) = await world.claim(limit=1, owner=owner)
        (kept,) = await world.claim(limit=1)
        assert await world.store.processes.release([owner], world.start) == 1
        assert await world.state(lost.message_id) == DeliveryState.QUEUED
        assert await world.deliveries.list_claims(world.owner) == [kept.claim]

    async def test_a_death_is_dealt_with_once(self, world: World, processes: Processes) -> None:
        owner = await processes.start()
        id = await world.send()
        await world.claim_one(owner=owner)
        assert await world.store.processes.release([owner], world.start) == 1
        after = await world.receipt(id)
        assert await world.store.processes.release([owner], world.start) == 0
        assert await world.receipt(id) == after

    async def test_the_late_end_of_a_dead_ones_claim_is_refused(self, world: World, processes: Processes) -> None:
        owner = await processes.start()
        id = await world.send()
        claimed = await world.claim_one(owner=owner)
        await world.store.processes.release([owner], world.start)
        assert (await world.settle(claimed, owner=owner)).moved == [False]
        assert await world.state(id) == DeliveryState.QUEUED

    async def test_at_the_last_attempt_it_is_a_dead_letter_with_the_reason(
        self, world: World, processes: Processes
    ) -> None:
        owner = await processes.start()
        id = await world.send(max_attempts=1)
        await world.claim_one(owner=owner)
        assert await world.store.processes.release([owner], world.at(3)) == 1
        receipt = await world.receipt(id)
        assert (receipt.state, receipt.attempt, receipt.settled_at) == (DeliveryState.DEAD, 1, world.at(3))
        (dead,) = await world.deliveries.list_dead(world.bob, 10, 0)
        assert (dead.message_id, dead.died_at) == (id, world.at(3))
        assert dead.log[-1]["reason"]
        assert await world.claim(now=world.at(3)) == []

    async def test_one_that_was_redriven_is_no_suspect(self, world: World, processes: Processes) -> None:
        owner = await processes.start()
        sent = [await world.send(sender, max_attempts=1) for sender in (world.alice, world.carol)]
        await world.claim(owner=owner)
        await world.store.processes.release([owner], world.start)
        await world.deliveries.redrive(sent, None)
        assert ids(await world.claim()) == sent

    async def test_nobody_to_release_is_no_error(self, world: World) -> None:
        assert await world.store.processes.release([], world.start) == 0
        assert await world.store.processes.release([new_id()], world.start) == 0

    async def test_a_process_that_stopped_did_not_die(self, world: World, processes: Processes) -> None:
        owner = await processes.start()
        await world.store.processes.retire(owner)
        assert await world.store.processes.release([owner], world.start) == 0
        (row,) = [row for row in await world.store.processes.list_processes(60) if row.process_id == owner]
        assert row.end_reason == "stopped"

    @pytest.mark.parametrize("ordered", [True, False])
    @pytest.mark.parametrize("end", ["retire", "release"])
    async def test_one_that_ended_claims_nothing_any_more(
        self, world: World, processes: Processes, end: str, ordered: bool
    ) -> None:
        """It may not know yet that others took it for dead, and nobody would look for its claim before the hard end."""
        owner = await processes.start()
        await world.send()
        held = await world.claim_one(owner=owner)
        processes_of = world.store.processes
        await (processes_of.retire(owner) if end == "retire" else processes_of.release([owner], world.start))
        now = datetime.now(UTC) + timedelta(seconds=1)
        request = world.request(ordered=ordered)

        assert await world.deliveries.claim([request], owner=owner, now=now) == []
        settled = await world.settle(held, requests=[request], owner=owner, now=now)
        assert (settled.moved, settled.claimed) == ([False], [])
        group = world.group(world.carol, world.dave, claim=True)
        assert await world.append(group, owner=owner, now=now) == [Stored()]
        assert await world.deliveries.list_claims(owner) == []
        # Others get all of it.
        assert ids(await world.claim(now=now, ordered=ordered)) == [held.message_id]
        assert ids(await world.claim(world.dave, now=now, ordered=ordered)) == [group.deliveries[0].message_id]

    async def test_all_claims_of_a_process_return_in_one_call(self, world: World, processes: Processes) -> None:
        owner = await processes.start()
        sent = await world.send_many(150)
        await world.claim(limit=200, ordered=False, owner=owner)
        assert await world.store.processes.release([owner], world.start) == 150
        rows = await world.deliveries.list_receipts(sent)
        assert {(row.state, row.attempt) for row in rows} == {(DeliveryState.QUEUED, 1)}

    async def test_stores_that_release_at_once_count_each_claim_once(
        self, world: World, processes: Processes, second_store: Store
    ) -> None:
        owner = await processes.start()
        sent = await world.send_many(30)
        await world.claim(limit=50, ordered=False, owner=owner)
        counts = await asyncio.gather(
            *(store.processes.release([owner], world.start) for store in (world.store, second_store) * 4)
        )
        assert sum(counts) == 30
        rows = await world.deliveries.list_receipts(sent)
        assert all(len(row.log) == 1 for row in rows)


class BlameConformance(StoreFixtures):
    """Who is to blame for a death: the suspects it had claimed alone, or, if it had none, all it had claimed."""

    async def one_suspect(self, world: World, processes: Processes, **options: Any) -> str:
        """A message of alice's whose process died once."""
        need_processes(world.store)
        owner = await processes.start()
        id = await world.send(world.alice, **options)
        await world.claim_one(owner=owner)
        assert await world.store.processes.release([owner], world.start) == 1
        return id

    async def with_bystanders(self, world: World, owner: str) -> dict[str, ClaimedDelivery]:
        """Let the process claim the suspect, and two innocent ones beside it; by message id."""
        await world.send(world.carol)
        await world.send(world.dave)
        claimed = await world.claim(owner=owner)
        assert len(claimed) == 3
        return {delivery.message_id: delivery for delivery in claimed}

    async def test_bystanders_of_a_suspect_return_uncounted_and_unsuspected(
        self, world: World, processes: Processes
    ) -> None:
        suspect = await self.one_suspect(world, processes)
        owner = await processes.start()
        claimed = await self.with_bystanders(world, owner)
        assert await world.store.processes.release([owner], world.start) == 3

        bystanders = [id for id in claimed if id != suspect]
        rows = {row.message_id: row for row in await world.deliveries.list_receipts(list(claimed))}
        assert {row.state for row in rows.values()} == {DeliveryState.QUEUED}
        assert rows[suspect].attempt == 2
        assert [rows[id].attempt for id in bystanders] == [0, 0]
        # Unsuspected: both are claimed at once, beside the suspect.
        again = await world.claim()
        assert sorted(ids(again)) == sorted(claimed)
        assert [item.claim.attempt for item in again if item.message_id in bystanders] == [1, 1]

    async def test_a_message_that_kills_its_process_dies_alone(self, world: World, processes: Processes) -> None:
        suspect = await self.one_suspect(world, processes, max_attempts=2)
        owner = await processes.start()
        claimed = await self.with_bystanders(world, owner)
        await world.store.processes.release([owner], world.start)
        assert await world.state(suspect) == DeliveryState.DEAD
        again = await world.claim()
        assert sorted(ids(again)) == sorted(id for id in claimed if id != suspect)

    async def test_a_suspect_of_another_recipient_takes_the_blame_as_well(
        self, world: World, processes: Processes
    ) -> None:
        suspect = await self.one_suspect(world, processes)
        owner = await processes.start()
        bystander = await world.send(recipient=world.carol, kind=Kind.CONVERSATION)
        await world.claim_one(owner=owner)
        await world.claim_one(world.carol, owner=owner, kind=Kind.CONVERSATION)
        await world.store.processes.release([owner], world.start)
        assert (await world.receipt(suspect)).attempt == 2
        assert (await world.receipt(bystander)).attempt == 0

    async def test_each_process_is_judged_by_itself(self, world: World, processes: Processes) -> None:
        suspect = await self.one_suspect(world, processes)
        first, second = await processes.start(), await processes.start()
        await world.claim_one(owner=first)
        beside = await world.send(recipient=world.carol)
        await world.claim_one(world.carol, owner=first)
        elsewhere = await world.send(recipient=world.dave)
        await world.claim_one(world.dave, owner=second)
        assert await world.store.processes.release([first, second], world.start) == 3
        attempts = [(await world.receipt(id)).attempt for id in (suspect, beside, elsewhere)]
        assert attempts == [2, 0, 1]

    async def test_a_suspect_that_was_settled_before_takes_no_blame(self, world: World, processes: Processes) -> None:
        suspect = await self.one_suspect(world, processes)
        owner = await processes.start()
        claimed = await self.with_bystanders(world, owner)
        await world.settle(claimed.pop(suspect), Settling.DONE, owner=owner)
        await world.store.processes.release([owner], world.start)
        assert [(await world.receipt(id)).attempt for id in claimed] == [1, 1]
        # Now these are suspects, so one of them is claimed at a time.
        assert len(await world.claim()) == 1
