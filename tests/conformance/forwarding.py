"""Passing an open ask on: where it is then, who may do it, and what it is raced by."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import AskState, DeliveryState, Kind, MessageType
from agent_messaging.storage.forwarding import MOST_HOPS
from agent_messaging.storage.ports import (
    Answering,
    Claim,
    ClaimedDelivery,
    Forwarded,
    ForwardOutcome,
    Hop,
    MailboxFull,
    MutualWait,
    NewForward,
    NewWait,
    NotWaiting,
    Obstacle,
    SessionLocked,
    Settling,
    Store,
    Unexpected,
    Unforwardable,
    UnknownAgents,
)

from .base import Processes, StoreFixtures
from .world import World, id_of

ROUNDS = 10


def passing(
    world: World,
    ask_id: str,
    to: str | None = None,
    holder: str | None = None,
    claim: Claim | None = None,
    **options: Any,
) -> NewForward:
    """Bob passes an ask on to carol, where not said otherwise."""
    return NewForward(
        ask_id, holder or world.bob, to or world.carol, kept_id=new_id(), session_id=new_id(), claim=claim, **options
    )


async def forward(world: World, wanted: NewForward, now: datetime | None = None) -> ForwardOutcome:
    """As the world's process, at its start."""
    return await world.store.forwarding.forward(wanted, owner=world.owner, now=now or world.start)


async def forwarded(world: World, wanted: NewForward, now: datetime | None = None) -> Forwarded:
    """One that must not be refused."""
    outcome = await forward(world, wanted, now)
    assert isinstance(outcome, Forwarded), outcome
    return outcome


async def hops(world: World, *ids: str) -> list[Hop]:
    """The ways of these."""
    return await world.store.forwarding.list_hops(ids)


async def run_of(world: World, ask_id: str, agent: str | None = None) -> ClaimedDelivery:
    """The run that takes an ask, of bob where not said otherwise."""
    run = await world.claim_talk(agent)
    assert run.message_id == ask_id
    return run


class PassingOnConformance(StoreFixtures):
    """The ask goes on; what it leaves behind is done."""

    async def test_the_ask_goes_along_with_its_id_and_its_deadline(self, world: World) -> None:
        asker = new_id()
        ask = await world.ask(content='"q"', metadata='{"m":1}', timeout=60, owner=asker)
        run = await run_of(world, ask)
        done = await forwarded(world, passing(world, ask, claim=run.claim), world.at(10))
        assert (done.asker_id, done.left, done.waiters) == (world.alice, 50.0, frozenset())
        row = await world.asked(ask)
        assert (row.state, row.responder_id, row.session_id) == (AskState.OPEN, world.carol, done.session_id)
        assert (row.deadline_at, row.origin) == (world.at(60), asker)
        assert (await world.session(world.alice, world.carol)).session_id == done.session_id
        receipt = await world.receipt(ask)
        assert (receipt.recipient_id, receipt.state) == (world.carol, DeliveryState.QUEUED)
        assert receipt.created_at == world.at(10)
        assert (receipt.attempt, receipt.token, receipt.max_attempts) == (0, 0, 5)
        taken = await run_of(world, ask, world.carol)
        assert (taken.content, taken.metadata, taken.sender_id) == ('"q"', '{"m":1}', world.alice)
        assert (taken.session_id, taken.ask_timeout, taken.claim.attempt) == (done.session_id, 50.0, 1)
        assert taken.claim.seq > run.claim.seq

    async def test_what_stays_is_done_and_has_an_id_of_its_own(self, world: World) -> None:
        ask = await world.ask(content='"q"')
        run = await run_of(world, ask)
        wanted = passing(world, ask, claim=run.claim)
        await forwarded(world, wanted, world.at(1))
        kept = await world.receipt(wanted.kept_id)
        assert (kept.recipient_id, kept.state, kept.read_at) == (world.bob, DeliveryState.DONE, world.at(1))
        assert await world.events(wanted.kept_id) == ["forwarded"]
        before = (await world.session()).session_id
        (message,) = await world.sessions.list_messages(before, limit=10)
        assert (message.message_id, message.message_type) == (wanted.kept_id, MessageType.FORWARDED)
        assert (message.content, message.recipient_id) == ('"q"', world.bob)
        after = (await world.session(world.alice, world.carol)).session_id
        (moved,) = await world.sessions.list_messages(after, limit=10)
        assert (moved.message_id, moved.message_type, moved.recipient_id) == (
            ask,
            MessageType.USER_DEFINED,
            world.carol,
        )
        assert (await world.sessions.statistics(world.alice)).sent == 1
        assert (await world.sessions.statistics(world.bob)).received == 0

    async def test_the_answer_of_the_new_agent_is_the_answer(self, world: World) -> None:
        """What its run returns, what it replies, what its own code says next."""
        for how in ("run", "reply", "code"):
            ask = await world.ask()
            await forwarded(world, passing(world, ask, claim=(await run_of(world, ask)).claim))
            if how == "run":
                settled = await world.settle(await run_of(world, ask, world.carol), answer=world.result())
                assert [ended.ask_id for ended in settled.ended_asks] == [ask]
            elif how == "reply":
                await world.answer(world.carol)
            else:
                page = await world.sessions.read_messages(world.carol, limit=5, now=world.start)
                assert [message.message_id for message in page.messages] == [ask]
                answer = world.talk(world.carol, world.alice, answers=Answering.IF_TAKEN)
                answered = (await world.stored(answer)).answered
                assert answered is not None
                assert answered.ask_id == ask
            row = await world.asked(ask)
            assert (row.state, row.responder_id) == (AskState.REPLIED, world.carol)
            assert row.answer is not None

    async def test_the_old_run_is_over(self, world: World) -> None:
        """Its answer is refused, in every way; a lane is free, and nothing comes back with its process."""
        ask = await world.ask()
        run = await run_of(world, ask)
        await forwarded(world, passing(world, ask, claim=run.claim))
        for how in Settling:
            settled = await world.settle(run, how, answer=world.result() if how is Settling.DONE else None)
            assert (settled.moved, settled.ended_asks) == ([False], [])
        assert isinstance(
            await world.outcome(world.talk(world.bob, world.alice, answers=Answering.REQUIRED)), NotWaiting
        )
        assert await world.deliveries.list_claims(world.owner) == []
        await world.store.processes.release([world.owner], world.start)
        assert await world.ask_state(ask) == AskState.OPEN
        assert await world.state(ask) == DeliveryState.QUEUED
        await world.say()
        assert len(await world.claim(kind=Kind.CONVERSATION)) == 1

    async def test_an_ask_that_was_read_or_that_nobody_took_goes_on_too(self, world: World) -> None:
        for read in (True, False):
            ask = await world.ask()
            if read:
                assert await world.sessions.read_messages(world.bob, limit=5, now=world.start)
            await forwarded(world, passing(world, ask))
            await world.settle(await run_of(world, ask, world.carol), answer=world.result())
            assert await world.ask_state(ask) == AskState.REPLIED

    async def test_it_goes_on_and_on_and_back(self, world: World) -> None:
        ask = await world.ask()
        kept = []
        way = [world.bob, world.carol, world.dave, world.bob]
        for holder, to in pairwise(way):
            wanted = passing(world, ask, to, holder, (await run_of(world, ask, holder)).claim)
            kept.append(wanted.kept_id)
            await forwarded(world, wanted, world.at(len(kept)))
        found = await hops(world, ask)
        assert [(hop.number, hop.from_id, hop.to_id, hop.kept_id) for hop in found] == [
            (number, *step, id) for number, (step, id) in enumerate(zip(pairwise(way), kept, strict=True), 1)
        ]
        assert [hop.forwarded_at for hop in found] == [world.at(1), world.at(2), world.at(3)]
        assert [hop.stored_at for hop in found] == [world.start, world.at(1), world.at(2)]
        assert await hops(world, kept[1]) == found
        assert await hops(world, new_id()) == []
        await world.answer()
        assert (await world.asked(ask)).responder_id == world.bob

    async def test_it_stays_in_its_thread(self, world: World) -> None:
        ask, other = await world.ask(thread="one"), await world.ask(world.alice, world.carol, thread="other")
        done = await forwarded(world, passing(world, ask))
        session = await world.sessions.find_open_session(world.alice, world.carol, "one")
        assert session is not None
        assert session.session_id == done.session_id == (await world.asked(ask)).session_id
        assert {run.thread for run in await world.claim(world.carol, kind=Kind.CONVERSATION)} == {"one", "other"}
        assert await world.ask_state(other) == AskState.OPEN

    async def test_how_often_is_bounded(self, world: World) -> None:
        ask = await world.ask()
        for number in range(MOST_HOPS):
            pair = (world.bob, world.carol)
            await forwarded(world, passing(world, ask, pair[(number + 1) % 2], pair[number % 2]))
        outcome = await forward(world, passing(world, ask, world.dave, world.bob))
        assert outcome == Unforwardable(Obstacle.TOO_FAR, AskState.OPEN, world.bob)

    async def test_a_wait_of_the_new_agent_takes_it(self, world: World) -> None:
        ask = await world.ask()
        waiter = new_id()
        await world.sessions.register_wait(
            NewWait(new_id(), world.carol, world.alice, 5.0), owner=waiter, now=world.start
        )
        done = await forwarded(world, passing(world, ask, only_if_expected=True))
        assert done.waiters == {waiter}
        taken = await world.sessions.take_awaited(world.carol, world.alice, now=world.start)
        assert taken is not None
        assert taken.message_id == ask
        await world.answer(world.carol)
        assert await world.ask_state(ask) == AskState.REPLIED


class ForwardRefusalConformance(StoreFixtures):
    """Refused, it is where it was."""

    async def refused(self, world: World, ask: str, wanted: NewForward, why: Obstacle, now: float = 0.0) -> None:
        before = await world.sessions.find_asks([ask])
        outcome = await forward(world, wanted, world.at(now))
        assert isinstance(outcome, Unforwardable), outcome
        assert outcome.why is why
        assert await world.sessions.find_asks([ask]) == before
        assert await world.sessions.find_open_session(world.alice, world.carol) is None

    async def test_what_is_no_ask(self, world: World) -> None:
        said = await world.say()
        note = await world.send()
        for id in (said, note, new_id()):
            await self.refused(world, id, passing(world, id), Obstacle.NOT_ASKED)

    @pytest.mark.parametrize("how", ["answered", "timed_out", "late", "ended", "given_up"])
    async def test_one_that_has_ended(self, world: World, how: str) -> None:
        ask = await world.ask(timeout=5)
        if how == "answered":
            await world.answer()
        elif how == "ended":
            await world.end()
        elif how != "late":  # then its time is over, and nobody has said so yet
            await world.close(ask, AskState.TIMED_OUT if how == "timed_out" else AskState.CANCELLED)
        await self.refused(world, ask, passing(world, ask), Obstacle.ENDED, now=5.0 if how == "late" else 0.0)

    async def test_by_somebody_who_has_it_not(self, world: World) -> None:
        ask = await world.ask()
        await self.refused(world, ask, passing(world, ask, holder=world.dave), Obstacle.NOT_HELD)
        await self.refused(world, ask, passing(world, ask, holder=world.alice), Obstacle.NOT_HELD)

    async def test_to_the_asker_or_to_oneself(self, world: World) -> None:
        ask = await world.ask()
        await self.refused(world, ask, passing(world, ask, world.alice), Obstacle.TO_ASKER)
        await self.refused(world, ask, passing(world, ask, world.bob), Obstacle.TO_HOLDER)

    async def test_from_outside_while_a_run_has_it(self, world: World) -> None:
        ask = await world.ask()
        await run_of(world, ask)
        await self.refused(world, ask, passing(world, ask), Obstacle.AT_WORK)

    async def test_by_a_run_that_lost_it(self, world: World) -> None:
        ask = await world.ask()
        first = await run_of(world, ask)
        await world.settle(first, Settling.RETURNED)
        await self.refused(world, ask, passing(world, ask, claim=first.claim), Obstacle.CLAIM_LOST)
        await run_of(world, ask)
        await self.refused(world, ask, passing(world, ask, claim=first.claim), Obstacle.CLAIM_LOST)

    async def test_to_an_agent_that_is_gone(self, world: World) -> None:
        ask = await world.ask()
        gone = new_id()
        assert await forward(world, passing(world, ask, gone)) == UnknownAgents([gone])
        await world.answer()

    async def test_to_one_whom_the_asker_waits_for_already(self, world: World) -> None:
        ask, other = await world.ask(), await world.ask(world.alice, world.carol)
        outcome = await forward(world, passing(world, ask))
        assert isinstance(outcome, SessionLocked)
        assert outcome.ask_id == other
        await world.answer(world.carol)
        await forwarded(world, passing(world, ask))

    async def test_to_one_that_nobody_expects(self, world: World) -> None:
        ask = await world.ask()
        assert await forward(world, passing(world, ask, only_if_expected=True)) == Unexpected()

    async def test_to_a_full_mailbox(self, world: World) -> None:
        ask = await world.ask()
        await world.say(world.dave, world.carol)
        assert await forward(world, passing(world, ask, mailbox_limit=1)) == MailboxFull([world.carol])
        await forwarded(world, passing(world, ask, mailbox_limit=2))

    async def test_into_a_circle(self, world: World, processes: Processes) -> None:
        """Carol, who cannot answer while she waits, waits for alice; she could, if she had a handler."""
        cause = await world.ask(world.carol, world.alice)
        await world.claim_talk(world.alice)
        ask = await world.ask(within=cause)
        run = await run_of(world, ask)
        outcome = await forward(world, passing(world, ask, claim=run.claim))
        assert outcome == MutualWait([world.carol, world.alice, world.carol])
        await world.serve(await processes.start(), {world.carol: 1})
        await forwarded(world, passing(world, ask, claim=run.claim))

    async def test_round_and_round_in_other_threads(self, world: World, processes: Processes) -> None:
        """Carol could answer, and would ask alice again, who would ask bob again, who passes it on again."""
        await world.serve(await processes.start(), {world.alice: 9, world.bob: 9, world.carol: 9})
        first = await world.ask(world.alice, world.carol)
        await world.claim_talk(world.carol)
        second = await world.ask(world.carol, world.alice, within=first)
        await world.claim_talk(world.alice)
        third = await world.ask(within=second, thread="another")
        outcome = await forward(world, passing(world, third, claim=(await run_of(world, third)).claim))
        assert outcome == MutualWait([world.carol, world.alice, world.carol])
        beside = await world.ask(
            world.alice, world.dave, thread="another"
        )  # outside that chain nothing speaks against it
        await forwarded(world, passing(world, beside, holder=world.dave))


class ForwardRepeatConformance(StoreFixtures):
    """A repeat answers as the first time, and changes nothing."""

    async def test_by_the_same_call(self, world: World) -> None:
        ask = await world.ask()
        wanted = passing(world, ask)
        done = await forwarded(world, wanted)
        assert await forwarded(world, wanted) == done
        assert len(await hops(world, ask)) == 1

    async def test_by_the_run_that_did_it(self, world: World) -> None:
        """Also when the ask has ended since, or is elsewhere."""
        ask = await world.ask()
        run = await run_of(world, ask)
        await forwarded(world, passing(world, ask, claim=run.claim))
        await forwarded(world, passing(world, ask, world.dave, world.carol))
        await forwarded(world, passing(world, ask, claim=run.claim))
        await world.answer(world.dave)
        await forwarded(world, passing(world, ask, claim=run.claim))
        outcome = await forward(world, passing(world, ask, world.dave, claim=run.claim))
        assert outcome == Unforwardable(Obstacle.PASSED_ON, holder_id=world.dave)
        assert len(await hops(world, ask)) == 2

    async def test_by_own_code(self, world: World) -> None:
        ask = await world.ask()
        await forwarded(world, passing(world, ask))
        await forwarded(world, passing(world, ask))
        outcome = await forward(world, passing(world, ask, world.dave))
        assert outcome == Unforwardable(Obstacle.PASSED_ON, holder_id=world.carol)
        await forwarded(world, passing(world, ask, world.bob, world.carol))
        await forwarded(world, passing(world, ask, world.dave))  # it had it again
        assert [hop.to_id for hop in await hops(world, ask)] == [world.carol, world.bob, world.dave]


class ForwardEndConformance(StoreFixtures):
    """What ends asks ends one that was passed on."""

    async def test_its_deadline(self, world: World) -> None:
        ask = await world.ask(timeout=5)
        await forwarded(world, passing(world, ask))
        assert (await world.deliveries.advance(world.at(5))).expired_origins
        assert await world.ask_state(ask) == AskState.TIMED_OUT
        assert await world.state(ask) == DeliveryState.EXPIRED

    async def test_its_asker(self, world: World) -> None:
        ask = await world.ask()
        await forwarded(world, passing(world, ask))
        row = await world.close(ask, AskState.CANCELLED)
        assert (row.state, row.responder_id) == (AskState.CANCELLED, world.carol)
        assert await world.state(ask) == DeliveryState.EXPIRED

    async def test_the_end_of_the_conversation_that_it_is_in(self, world: World) -> None:
        ask = await world.ask()
        await forwarded(world, passing(world, ask))
        await world.end()
        assert await world.ask_state(ask) == AskState.OPEN
        ended = await world.end(world.alice, world.carol)
        assert ended is not None
        assert [one.ask_id for one in ended.asks] == [ask]

    async def test_a_handler_that_fails(self, world: World) -> None:
        ask = await world.ask()
        await forwarded(world, passing(world, ask))
        await world.settle(await run_of(world, ask, world.carol), Settling.DEAD, reason="broken")
        row = await world.asked(ask)
        assert (row.state, row.reason, row.responder_id) == (AskState.FAILED, "broken", world.carol)

    async def test_the_removal_of_an_agent(self, world: World) -> None:
        """The one that passed it on leaves its name in the way; the one that has it takes the ask along."""
        ask = await world.ask()
        await forwarded(world, passing(world, ask))
        agents = await world.store.directory.find_agents_by_id([world.bob, world.carol])
        names = {str(agent.id): agent.external_id for agent in agents}
        await world.store.directory.remove_agent(names[world.bob])
        assert await world.ask_state(ask) == AskState.OPEN
        assert [(hop.from_id, hop.to_id) for hop in await hops(world, ask)] == [(world.bob, world.carol)]
        await world.store.directory.remove_agent(names[world.carol])
        assert await world.sessions.find_ended_asks([ask]) == {ask: None}
        assert await forward(world, passing(world, ask, world.dave, world.carol)) == Unforwardable(Obstacle.NOT_ASKED)


class ForwardRaceConformance(StoreFixtures):
    """Raced, one wins: the ask has at most one answer, and none is lost."""

    async def test_by_the_answer_of_the_run(self, world: World) -> None:
        ask = await world.ask()
        run = await run_of(world, ask)
        outcome, settled = await asyncio.gather(
            forward(world, passing(world, ask, claim=run.claim)), world.settle(run, answer=world.result())
        )
        row = await world.asked(ask)
        assert isinstance(outcome, Forwarded) is not settled.moved[0]
        assert row.state == (AskState.OPEN if isinstance(outcome, Forwarded) else AskState.REPLIED)

    async def test_by_the_timeout_by_an_answer_and_by_another_agent(self, world: World) -> None:
        for _ in range(5):
            ask = await world.ask()
            calls = [
                forward(world, passing(world, ask)),
                forward(world, passing(world, ask, world.dave)),
                world.sessions.close_asks([ask], AskState.TIMED_OUT, now=world.start),
                world.append(world.talk(world.bob, world.alice, answers=Answering.REQUIRED)),
            ]
            Random().shuffle(calls)
            outcomes = await asyncio.gather(*calls)
            row = await world.asked(ask)
            went = [outcome for outcome in outcomes if isinstance(outcome, Forwarded)]
            assert len(went) == len(await hops(world, ask)) <= 1
            assert row.state in (AskState.TIMED_OUT, AskState.REPLIED)
            assert (row.answer is not None) is (row.state is AskState.REPLIED)
            assert (await world.state(ask)).is_final

    async def test_by_the_removal_of_the_new_agent(self, world: World) -> None:
        ask = await world.ask()
        (carol,) = await world.store.directory.find_agents_by_id([world.carol])
        outcome, removed = await asyncio.gather(
            forward(world, passing(world, ask)), world.store.directory.remove_agent(carol.external_id)
        )
        assert removed
        if isinstance(outcome, Forwarded):
            assert await world.sessions.find_ended_asks([ask]) == {ask: None}
        else:
            assert outcome == UnknownAgents([world.carol])
            await world.answer()

    async def test_two_that_would_close_a_circle(self, world: World, second_store: Store) -> None:
        """Alice's ask goes to carol, and carol's to alice, through two stores: one of the two, and never both."""
        there = replace(world, store=second_store)
        for _ in range(ROUNDS):
            first, second = await world.ask(), await world.ask(world.carol, world.dave)
            outcomes = await asyncio.gather(
                forward(world, passing(world, first)),
                forward(there, passing(world, second, world.alice, world.dave)),
            )
            assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Forwarded", "MutualWait"]
            await world.sessions.close_asks([first, second], AskState.CANCELLED, now=world.start)

    async def test_an_ask_that_closes_the_circle(self, world: World, second_store: Store) -> None:
        there = replace(world, store=second_store)
        for _ in range(ROUNDS):
            first, back = await world.ask(), world.question(world.carol, world.alice)
            outcome, (asked,) = await asyncio.gather(forward(world, passing(world, first)), there.append(back))
            kinds = sorted([type(outcome).__name__, type(asked).__name__])
            assert kinds in (["Forwarded", "MutualWait"], ["MutualWait", "Stored"])
            await world.sessions.close_asks([first, id_of(back)], AskState.CANCELLED, now=world.start)


class ForwardConformance(
    PassingOnConformance,
    ForwardRefusalConformance,
    ForwardRepeatConformance,
    ForwardEndConformance,
    ForwardRaceConformance,
):
    """All of it."""
