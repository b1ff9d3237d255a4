"""A Hypothesis state machine: any sequence of verbs leaves the store where the model says, and answers alike."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.kinds import SENT
from agent_messaging.models import DeliveryState, Kind
from agent_messaging.states import Prunable
from agent_messaging.storage.ports import Claim, Pruned, Pruning, Settled, Settlement, Settling, Store, Stored

from .base import StoreFactory, StoreFixtures
from .model import DEAD, Item, Model
from .world import World

T = TypeVar("T")
M = TypeVar("M", bound=Model)
AGENTS = st.integers(0, 2)
OWNERS = st.integers(0, 2)
KINDS = st.sampled_from(SENT)
PICK = st.integers(0, 10**6)
LONG_AFTER = 10**8
"""Seconds after the begin, when everything is old."""
SECONDS = st.sampled_from([1, 5, 40, 130])


class StoreMachine(RuleBasedStateMachine, Generic[M]):
    """Three agents, three processes that may die, a clock moved by hand, and claims compared with a model's.

    Instants end on a half second and time moves by whole ones, so that nothing is decided by rounding.
    """

    def __init__(self, make_store: StoreFactory, runner: asyncio.Runner, model: M) -> None:
        super().__init__()
        self.make_store = make_store
        self.runner = runner
        self.stores: list[Store] = []
        self.mortal: list[str] = []
        self.model = model
        self.claims: list[tuple[str, Claim]] = []
        """Every claim there ever was, with the message it was of."""

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Rules are plain functions; the loop runs only while one of them waits for the store."""
        return self.runner.run(call)

    @initialize()
    def open(self) -> None:
        self.run(self.open_stores())

    async def open_stores(self) -> None:
        store = self.make_store()
        self.stores.append(store)
        await store.open()
        self.world = await World.create(store)
        self.agents = [self.world.alice, self.world.bob, self.world.carol]
        # Processes that can die have a presence, so each needs a store; without that capability there is one.
        self.owners = [new_id() for _ in range(3)]
        for number in range(2 if store.capabilities.processes else 1):
            if number:
                store = self.make_store()
                self.stores.append(store)
                await store.open()
            await store.presence.start(lambda: None, lambda: None)
            self.owners[number] = store.presence.process_id
            self.mortal.append(store.presence.process_id)

    def teardown(self) -> None:
        self.run(self.close_stores())

    async def close_stores(self) -> None:
        if self.stores:
            # Examples share a database: the next one begins without what this one left.
            directory = self.stores[0].directory
            for organization in await directory.list_organizations(100, 0):
                await directory.remove_organization(organization.external_id)
            for process in self.mortal:
                await self.stores[0].processes.retire(process)
        for store in self.stores:
            await store.aclose()

    @property
    def now(self) -> Any:
        return self.world.at(self.model.now)

    def pick(self, number: int) -> Item:
        return self.model.items[number % len(self.model.items)]

    def claim_with(
        self,
        settlement: Settlement | None,
        recipient: int,
        kind: Kind,
        owner: int,
        limit: int,
        ordered: bool,
        after: int | None,
        origin: int | None,
    ) -> Settled:
        by = self.owners[owner]
        request = self.world.request(
            self.agents[recipient],
            limit,
            kind=kind,
            ordered=ordered,
            run_limit=20.5,
            after_lane=None if after is None else self.agents[after],
            origin=None if origin is None else self.owners[origin],
        )
        deliveries = self.world.deliveries
        if settlement is None:
            settled = Settled([], set(), self.run(deliveries.claim([request], owner=by, now=self.now)))
        else:
            settled = self.run(deliveries.settle([settlement], [request], owner=by, now=self.now))
        got = settled.claimed
        lanes = self.model.lanes(
            request.recipient_id, kind, ordered=ordered, after=request.after_lane, origin=request.origin
        )
        self.check_claim([delivery.message_id for delivery in got], lanes, limit, ordered)
        for delivery in got:
            item = self.model.find(delivery.message_id)
            self.model.take(item, by, 20.5)
            assert (delivery.claim.token, delivery.claim.attempt) == (item.token, item.attempt)
            assert (delivery.sender_id, delivery.origin) == (item.sender, item.origin)
        self.claims += [(delivery.message_id, delivery.claim) for delivery in got]
        return settled

    def check_claim(self, got: list[str], lanes: list[list[Item]], limit: int, ordered: bool) -> None:
        """Compare with what the lanes had to give: exactly, but for which of several suspects was taken."""
        places = 1
        if lanes and any(lanes):
            recipient = next(lane[0].recipient for lane in lanes if lane)
            places = 0 if self.model.suspect_is_out(recipient) else 1
        suspects = {item.message_id for lane in lanes for item in lane if item.suspect}
        taken = [id for id in got if id in suspects]
        assert len(taken) <= places
        # With the suspects that were passed over left out, what is to be had is certain.
        lanes = [[item for item in lane if not item.suspect or item.message_id in taken] for lane in lanes]
        available = sum(map(len, lanes))
        passed_over = places and len(suspects) > len(taken)
        if passed_over and not taken:
            # One suspect could have been taken, and was not: only because the limit was reached.
            assert len(got) == limit
        assert len(got) == min(limit, available)
        counts = Counter(self.model.find(id).sender for id in got)
        for lane in lanes:
            mine = [item.message_id for item in lane]
            chosen = [id for id in got if id in mine]
            assert chosen == [id for id in mine if id in chosen], "not in the order of their age"
            if lane and len(chosen) < len(lane):
                # Nobody is passed over for a second one of somebody else.
                assert max(counts.values(), default=0) <= len(chosen) + 1
        if ordered:
            assert got == [item.message_id for lane in lanes for item in lane][:limit]


class DeliveryMachine(StoreMachine[Model]):
    """One-way messages, and conversations as far as they are messages like these."""

    # --- verbs ----------------------------------------------------------------------------------------------------

    @rule(
        sender=AGENTS,
        recipients=st.lists(AGENTS, min_size=1, max_size=3, unique=True),
        kind=KINDS,
        owner=OWNERS,
        claim=st.booleans(),
        max_attempts=st.integers(1, 3),
        deliver_in=st.sampled_from([None, None, None, 2.5, 20.5]),
        expires_in=st.sampled_from([None, None, None, 10.5, 60.5]),
        run_limit=st.sampled_from([10.5, 90.5]),
    )
    def append(
        self,
        sender: int,
        recipients: list[int],
        kind: Kind,
        owner: int,
        claim: bool,
        max_attempts: int,
        deliver_in: float | None,
        expires_in: float | None,
        run_limit: float,
    ) -> None:
        by, now = self.owners[owner], self.model.now
        if kind is Kind.CONVERSATION:
            recipients = [recipients[0] if recipients[0] != sender else (sender + 1) % 3]
        group = self.world.group(
            self.agents[sender],
            [self.agents[number] for number in recipients],
            kind=kind,
            claim=claim,
            max_attempts=max_attempts,
            deliver_at=None if deliver_in is None else self.world.at(now + deliver_in),
            expires_in=expires_in,
            run_limit=run_limit,
        )
        (outcome,) = self.run(self.world.append(group, owner=by, now=self.now))
        assert isinstance(outcome, Stored)
        claimed = set()
        for new in group.deliveries:
            item = Item(
                new.message_id,
                group.sender_id,
                new.recipient_id,
                kind,
                max_attempts,
                run_limit,
                by,
                None if deliver_in is None else now + deliver_in,
                None if expires_in is None else now + expires_in,
            )
            if self.model.append(item, by, claim=claim):
                claimed.add(new.message_id)
        assert set(outcome.claims) == claimed
        assert {(claim.token, claim.attempt) for claim in outcome.claims.values()} <= {(1, 1)}
        self.claims += outcome.claims.items()

    @rule(
        recipient=AGENTS,
        kind=KINDS,
        owner=OWNERS,
        limit=st.integers(1, 4),
        ordered=st.booleans(),
        after=st.none() | AGENTS,
        origin=st.none() | OWNERS,
    )
    def claim(
        self,
        recipient: int,
        kind: Kind,
        owner: int,
        limit: int,
        ordered: bool,
        after: int | None,
        origin: int | None,
    ) -> None:
        self.claim_with(None, recipient, kind, owner, limit, ordered, after, origin)

    @precondition(lambda self: self.claims)
    @rule(
        number=PICK,
        how=st.sampled_from(Settling),
        delay=st.sampled_from([0.0, 3.5, 30.5]),
        repeat=st.booleans(),
        then=st.none() | st.tuples(AGENTS, KINDS, st.integers(1, 4), st.booleans()),
    )
    def settle(
        self,
        number: int,
        how: Settling,
        delay: float,
        repeat: bool,
        then: tuple[int, Kind, int, bool] | None,
    ) -> None:
        """End any claim ever made, so also stale ones and those settled before, in any way."""
        id, claim = self.claims[number % len(self.claims)]
        settlement = Settlement(claim, how, delay, "reason")
        item = self.model.find(id)
        was_claimed = item.state is DeliveryState.CLAIMED
        expected = self.model.settle(item, claim.token, how, delay)
        if then is None:
            settled = self.run(self.world.deliveries.settle([settlement], owner=self.owners[0], now=self.now))
        else:
            recipient, kind, limit, ordered = then
            settled = self.claim_with(settlement, recipient, kind, 0, limit, ordered, None, None)
        assert settled.moved == [expected]
        final = expected and how in (Settling.DONE, Settling.DEAD)
        if was_claimed:
            assert settled.origins == ({item.origin} if final else set())
        if repeat and then is None:
            again = self.run(self.world.deliveries.settle([settlement], owner=self.owners[0], now=self.now))
            assert again.moved == [self.model.settle(item, claim.token, how, delay)] == [expected]

    @precondition(lambda self: self.mortal)
    @rule(both=st.booleans())
    def release(self, both: bool) -> None:
        dead = self.mortal[: 2 if both else 1]
        self.mortal = self.mortal[len(dead) :]
        moved = self.run(self.stores[0].processes.release(dead, self.now))
        assert moved == sum(self.model.release(owner) for owner in dead)
        assert self.run(self.stores[0].processes.release(dead, self.now)) == 0
        # Nobody claims for the dead.
        self.owners = [new_id() if owner in dead else owner for owner in self.owners]

    @rule(seconds=SECONDS)
    def advance(self, seconds: int) -> None:
        now = self.model.now + seconds
        advanced = self.run(self.world.deliveries.advance(self.world.at(now)))
        assert (advanced.due, advanced.expired_origins, advanced.released) == self.model.advance(now)
        expected = self.model.next_in()
        assert advanced.next_in == (None if expected is None else pytest.approx(expected, abs=0.01))

    @precondition(lambda self: self.model.items)
    @rule(number=PICK)
    def withdraw(self, number: int) -> None:
        item = self.pick(number)
        moved = self.run(self.world.deliveries.withdraw([item.message_id]))
        assert moved == ([item.message_id] if self.model.withdraw(item) else [])

    @precondition(lambda self: any(item.state is DEAD for item in self.model.items))
    @rule(number=PICK, whole=st.booleans())
    def redrive(self, number: int, whole: bool) -> None:
        dead = [item for item in self.model.items if item.state is DEAD]
        item = dead[number % len(dead)]
        if whole:
            moved = self.run(self.world.deliveries.redrive(None, item.recipient))
            expected = [other for other in dead if other.recipient == item.recipient]
        else:
            moved = self.run(self.world.deliveries.redrive([item.message_id], None))
            expected = [item]
        assert sorted(moved) == sorted((other.message_id, other.recipient) for other in expected)
        for other in expected:
            self.model.redrive(other)

    @rule(kind=st.sampled_from([Prunable.MESSAGES, Prunable.DEAD_LETTERS]), limit=st.integers(1, 5))
    def prune(self, kind: Prunable, limit: int) -> None:
        """Long after all of it: what has not ended stays, and what has goes with every claim there was on it."""
        wanted, page, number = Pruning(kind, 0), Pruned(next=()), 0
        while page.next is not None:
            after = page.next or None
            page = self.run(
                self.stores[0].retention.prune(wanted, after=after, limit=limit, now=self.world.at(LONG_AFTER))
            )
            number += page.number
        gone = self.model.prune(kind is Prunable.DEAD_LETTERS)
        assert number == len(gone)
        self.claims = [(id, claim) for id, claim in self.claims if id not in gone]
        assert self.run(self.world.deliveries.list_receipts(gone)) == []

    # --- what holds after each of them ------------------------------------------------------------------------------

    @invariant()
    def the_store_is_where_the_model_is(self) -> None:
        if not self.model.items:
            return
        deliveries = self.world.deliveries
        rows = {
            row.message_id: row
            for row in self.run(deliveries.list_receipts([item.message_id for item in self.model.items]))
        }
        for item in self.model.items:
            row = rows[item.message_id]
            assert (row.state, row.token, row.attempt) == (item.state, item.token, item.attempt), item
            assert [entry["event"] for entry in row.log] == item.log, item
            assert row.owner == item.owner or item.state is not DeliveryState.CLAIMED, item
        waiting = {(item.recipient, item.kind) for item in self.model.items if self.model.is_ready(item)}
        assert set(self.run(deliveries.find_waiting(self.now))) == waiting
        for owner in self.owners:
            held = [item for item in self.model.items if item.state is DeliveryState.CLAIMED and item.owner == owner]
            listed = self.run(deliveries.list_claims(owner))
            assert sorted((claim.token, claim.attempt) for claim in listed) == sorted(
                (item.token, item.attempt) for item in held
            )


class DeliveryMachineConformance(StoreFixtures):
    """Random sequences of all verbs of `DeliveryStore`, compared with a model of a hundred lines."""

    def test_any_sequence_of_verbs_leaves_the_store_where_the_model_is(self, make_store: StoreFactory) -> None:
        with asyncio.Runner() as runner:

            class Machine(DeliveryMachine):
                def __init__(self) -> None:
                    super().__init__(make_store, runner, Model())

            run_state_machine_as_test(
                Machine,
                settings=settings(
                    max_examples=30,
                    stateful_step_count=25,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
