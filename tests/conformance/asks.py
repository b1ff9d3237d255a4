"""Asks: what answers them, what else ends them, what becomes of their messages, and how they are repeated."""

from __future__ import annotations

from typing import Any

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import AskState, DeliveryState, Kind
from agent_messaging.storage.ports import (
    CLAIM_MARGIN,
    MAIN,
    Answering,
    AnswerRow,
    AskRow,
    Duplicate,
    EndedAsk,
    KeyConflict,
    MailboxFull,
    MutualWait,
    NotWaiting,
    SessionLocked,
    Settlement,
    Settling,
    Store,
    Stored,
    Unexpected,
    UnknownAgents,
)

from .base import Processes, StoreFixtures
from .world import ASK_TIMEOUT, RUN_LIMIT, World, id_of, ids

CLOSINGS = (AskState.TIMED_OUT, AskState.CANCELLED)
"""How the asker's side ends an ask."""


class AskingConformance(StoreFixtures):
    """An ask is a message with a row of its own, and a place for one only between two agents in one direction."""

    async def test_an_ask_shows_what_it_is(self, world: World) -> None:
        asker = new_id()
        group = world.question(timeout=12.5)
        await world.stored(group, owner=asker, now=world.at(1))
        assert await world.asked(id_of(group)) == AskRow(
            ask_id=id_of(group),
            session_id=str(group.session_id),
            asker_id=world.alice,
            responder_id=world.bob,
            state=AskState.OPEN,
            origin=asker,
            deadline_at=world.at(13.5),
        )
        receipt = await world.receipt(id_of(group))
        assert (receipt.state, receipt.kind, receipt.expires_at) == (DeliveryState.QUEUED, Kind.CONVERSATION, None)

    async def test_asks_are_found_by_id_in_any_state(self, world: World) -> None:
        first = await world.ask()
        await world.answer()
        second = await world.ask()
        said = await world.say()
        rows = await world.sessions.find_asks([second, said, new_id(), first])
        assert {row.ask_id: row.state for row in rows} == {first: AskState.REPLIED, second: AskState.OPEN}
        assert await world.sessions.find_asks([]) == []

    async def test_those_that_ended_are_told_from_those_that_are_open(self, world: World) -> None:
        ended = await world.ask()
        await world.answer()
        still_open, nothing = await world.ask(), new_id()
        found = await world.sessions.find_ended_asks([ended, still_open, nothing])
        assert found == {ended: await world.asked(ended), nothing: None}
        assert await world.sessions.find_ended_asks([]) == {}

    async def test_its_claim_tells_how_long_the_asker_waits(self, world: World) -> None:
        await world.ask(timeout=90)
        await world.say(world.carol)
        asked, said = await world.claim(kind=Kind.CONVERSATION)
        assert (asked.ask_timeout, said.ask_timeout) == (90, None)
        session = await world.session()
        assert asked.session_id == session.session_id
        await world.settle(asked, Settling.RETRY)
        settled = await world.deliveries.settle(
            [], [world.request(kind=Kind.CONVERSATION)], owner=world.owner, now=world.start
        )
        assert [claimed.ask_timeout for claimed in settled.claimed] == [90]

    @pytest.mark.parametrize("how", ["append", "claim", "settle"])
    async def test_its_run_may_take_as_long_as_the_asker_waits(self, world: World, how: str) -> None:
        """The hard end is the longer of the two, plus the margin."""
        timeout = RUN_LIMIT + 500
        ask = await world.ask(timeout=timeout, claim=how == "append")
        request = world.request(kind=Kind.CONVERSATION)
        if how == "claim":
            await world.claim_talk()
        elif how == "settle":
            await world.deliveries.settle([], [request], owner=world.owner, now=world.start)
        assert await world.state(ask) == DeliveryState.CLAIMED
        # A shorter one does not shorten it.
        short = await world.ask(world.carol, timeout=1, claim=how == "append")
        if how == "claim":
            await world.claim_talk()
        elif how == "settle":
            await world.deliveries.settle([], [request], owner=world.owner, now=world.start)
        await world.deliveries.advance(world.at(RUN_LIMIT + CLAIM_MARGIN - 1))
        assert await world.state(short) == DeliveryState.CLAIMED
        assert (await world.deliveries.advance(world.at(RUN_LIMIT + CLAIM_MARGIN + 1))).released == 1
        await world.deliveries.advance(world.at(timeout + CLAIM_MARGIN - 1))
        assert await world.state(ask) == DeliveryState.CLAIMED
        assert (await world.deliveries.advance(world.at(timeout + CLAIM_MARGIN + 1))).released == 1

    async def test_a_second_ask_to_the_same_agent_is_refused_while_the_first_is_open(self, world: World) -> None:
        first = await world.ask()
        second = world.question()
        assert await world.outcome(second) == SessionLocked(first)
        assert await world.deliveries.list_receipts([id_of(second)]) == []
        # To others it may ask, and say what it likes to the same one.
        await world.ask(recipient=world.carol)
        await world.say()
        await world.close(first, AskState.CANCELLED)
        await world.stored(world.question())

    async def test_of_two_asks_of_one_call_the_second_is_refused(self, world: World) -> None:
        first, second, other = world.question(), world.question(), world.question(recipient=world.carol)
        assert await world.append(first, second, other) == [
            Stored(session_id=first.session_id),
            SessionLocked(id_of(first)),
            Stored(session_id=other.session_id),
        ]

    async def test_an_ask_to_nobody_is_refused_and_leaves_nothing(self, world: World) -> None:
        nobody = new_id()
        group = world.question(recipient=nobody)
        assert await world.outcome(group) == UnknownAgents([nobody])
        assert await world.sessions.find_asks([id_of(group)]) == []

    async def test_that_nobody_is_there_is_told_before_that_nobody_waits(self, world: World) -> None:
        nobody = new_id()
        group = world.question(recipient=nobody, only_if_expected=True)
        assert await world.outcome(group) == UnknownAgents([nobody])

    async def test_an_ask_that_is_sent_only_if_expected_is_refused_where_nobody_waits(self, world: World) -> None:
        group = world.question(only_if_expected=True)
        assert await world.outcome(group) == Unexpected()
        assert await world.sessions.find_asks([id_of(group)]) == []
        assert await world.sessions.find_open_session(world.alice, world.bob) is None

    async def test_an_ask_that_is_sent_only_if_expected_is_stored_where_its_recipient_waits(self, world: World) -> None:
        wait = await world.wait()
        assert isinstance(await world.outcome(world.question(only_if_expected=True)), Stored)
        await world.sessions.remove_wait(wait)
        await world.read()
        answering = world.question(world.bob, world.alice, answers=Answering.IF_TAKEN, only_if_expected=True)
        outcome = await world.outcome(answering)
        assert isinstance(outcome, Stored)
        assert outcome.answered is not None

    async def test_a_circle_is_told_before_that_nobody_waits(self, world: World) -> None:
        await world.ask()
        outcome = await world.outcome(world.question(world.bob, world.alice, only_if_expected=True))
        assert outcome == MutualWait([world.alice, world.bob, world.alice])

    async def test_whoever_answers_an_ask_has_read_it(self, world: World) -> None:
        ask = await world.ask()
        await world.claim_one(world.bob, kind=Kind.CONVERSATION)
        await world.answer()
        assert (await world.receipt(ask)).read_at is not None
        second = await world.ask(world.carol, world.bob)
        claimed = await world.claim_one(world.bob, kind=Kind.CONVERSATION)
        await world.settle(claimed, answer=world.result())
        assert (await world.receipt(second)).read_at is not None

    async def test_the_next_change_includes_the_deadline(self, world: World) -> None:
        ask = await world.ask(timeout=45)
        assert (await world.deliveries.advance(world.at(5))).next_in == pytest.approx(40, abs=0.01)
        await world.close(ask, AskState.CANCELLED)
        assert (await world.deliveries.advance(world.at(6))).next_in is None


class AnsweringConformance(StoreFixtures):
    """Which message of the responder's answers, and what that does."""

    async def test_an_answer_ends_the_ask_and_is_done_and_read_from_birth(self, world: World) -> None:
        asker = new_id()
        ask = await world.ask(owner=asker)
        group = world.talk(
            world.bob, world.alice, answers=Answering.REQUIRED, content='{"a" : 1}', metadata='{"m":1}', checksum=9
        )
        stored = await world.stored(group, now=world.at(2))
        assert stored == Stored(
            session_id=(await world.session()).session_id, answered=EndedAsk(ask, AskState.REPLIED, asker)
        )
        row = await world.asked(ask)
        assert (row.state, row.answer) == (AskState.REPLIED, AnswerRow(id_of(group), '{"a" : 1}', '{"m":1}', 9))
        receipt = await world.receipt(id_of(group))
        assert (receipt.state, receipt.attempt, receipt.token) == (DeliveryState.DONE, 0, 0)
        assert (receipt.settled_at, receipt.read_at, receipt.owner) == (world.at(2), world.at(2), None)
        assert await world.claim(world.alice, kind=Kind.CONVERSATION) == []
        assert ids(await world.read(world.alice)) == []
        assert await world.take(world.alice, world.bob) is None

    async def test_an_answer_that_asks_for_a_claim_gets_none(self, world: World) -> None:
        await world.ask()
        stored = await world.stored(world.talk(world.bob, world.alice, answers=Answering.REQUIRED, claim=True))
        assert stored.claims == {}
        assert await world.deliveries.list_claims(world.owner) == []

    async def test_an_ask_answered_in_the_queue_is_done(self, world: World) -> None:
        ask = await world.ask()
        await world.answer(now=world.at(2))
        receipt = await world.receipt(ask)
        assert (receipt.state, receipt.settled_at) == (DeliveryState.DONE, world.at(2))
        assert await world.claim(kind=Kind.CONVERSATION) == []

    async def test_an_ask_answered_during_its_run_is_left_to_it(self, world: World) -> None:
        ask = await world.ask()
        run = await world.claim_talk()
        await world.answer()
        assert await world.state(ask) == DeliveryState.CLAIMED
        late = world.result()
        settled = await world.settle(run, answer=late)
        assert (settled.moved, settled.ended_asks) == ([True], [])
        assert ids(await world.read(world.alice)) == [late.message_id]

    async def test_what_must_answer_is_refused_where_nobody_waits(self, world: World) -> None:
        answer = world.talk(world.bob, world.alice, answers=Answering.REQUIRED)
        assert await world.outcome(answer) == NotWaiting(None)
        session = str((await world.stored(world.talk())).session_id)
        assert await world.outcome(answer) == NotWaiting(session)
        # The other direction, and another agent, are no help.
        await world.ask(world.bob, world.alice)
        await world.ask(world.carol, world.bob)
        assert await world.outcome(answer) == NotWaiting(session)
        assert await world.deliveries.list_receipts([id_of(answer)]) == []

    @pytest.mark.parametrize("ending", [*CLOSINGS, AskState.ENDED, AskState.REPLIED])
    async def test_an_ask_that_ended_is_answered_no_more(self, world: World, ending: AskState) -> None:
        ask = await world.ask()
        if ending in CLOSINGS:
            await world.close(ask, ending)
        elif ending is AskState.ENDED:
            await world.end()
        else:
            await world.answer()
        before = await world.asked(ask)
        outcome = await world.outcome(world.talk(world.bob, world.alice, answers=Answering.REQUIRED))
        assert isinstance(outcome, NotWaiting)
        # What answers only if somebody waits is a message like any other.
        stored = await world.stored(world.talk(world.bob, world.alice, answers=Answering.IF_TAKEN))
        assert stored.answered is None
        assert await world.asked(ask) == before

    async def test_a_message_answers_only_what_its_senders_own_code_has_taken(self, world: World) -> None:
        ask = await world.ask()
        before = world.talk(world.bob, world.alice, answers=Answering.IF_TAKEN)
        assert (await world.stored(before)).answered is None
        assert await world.state(id_of(before)) == DeliveryState.QUEUED
        await world.read()
        none = world.talk(world.bob, world.alice)
        assert (await world.stored(none)).answered is None
        after = world.talk(world.bob, world.alice, answers=Answering.IF_TAKEN)
        assert (await world.stored(after)).answered == EndedAsk(ask, AskState.REPLIED, world.owner)

    @pytest.mark.parametrize("how", ["taken", "read", "read of one", "read when it came back"])
    async def test_an_ask_is_taken_by_reading_it_from_the_queue(self, world: World, how: str) -> None:
        ask = await world.ask()
        if how == "taken":
            assert await world.take() == ask
        else:
            if how == "read when it came back":
                await world.settle(await world.claim_talk(), Settling.RETRY)
            assert ids(await world.read(sender_id=world.alice if how == "read of one" else None)) == [ask]
        assert await world.ask_state(ask) == AskState.OPEN
        await world.answer(answering=Answering.IF_TAKEN)
        assert await world.ask_state(ask) == AskState.REPLIED

    @pytest.mark.parametrize(
        "seen", ["claimed", "claimed and read", "returned", "retried", "done", "done and read", "peeked", "marked"]
    )
    async def test_what_a_run_took_or_nobody_only_what_must_answer_answers(self, world: World, seen: str) -> None:
        ask = await world.ask()
        if seen == "peeked":
            await world.read(mark=False)
        elif seen == "marked":
            await world.store.messages.mark_read(world.bob, Kind.CONVERSATION)
        else:
            claimed = await world.claim_talk()
            if (how := seen.split()[0]) != "claimed":
                hows = {"returned": Settling.RETURNED, "retried": Settling.RETRY, "done": Settling.DONE}
                await world.settle(claimed, hows[how])
            if seen.endswith("read"):
                assert ids(await world.read()) == [ask]
        status = world.talk(world.bob, world.alice, answers=Answering.IF_TAKEN)
        assert (await world.stored(status)).answered is None
        assert await world.ask_state(ask) == AskState.OPEN
        await world.answer()
        assert await world.ask_state(ask) == AskState.REPLIED

    @pytest.mark.parametrize("reads", ["take", "read"])
    async def test_what_was_read_in_a_run_only_what_must_answer_answers(self, world: World, reads: str) -> None:
        ask = await world.ask()
        other = await world.say(world.carol)
        while (await world.claim_talk()).message_id != other:
            pass
        again = await world.ask(world.dave, world.bob)
        if reads == "read":
            await world.read(sender_id=world.dave, within=other)
        else:
            await world.take(sender=world.dave, within=other)
        for within in (None, other):
            status = world.talk(world.bob, world.dave, answers=None if within else Answering.IF_TAKEN, within=within)
            assert (await world.stored(status)).answered is None
        await world.answer(recipient=world.dave)
        assert [await world.ask_state(id) for id in (ask, again)] == [AskState.OPEN, AskState.REPLIED]

    async def test_what_must_answer_in_the_run_of_an_ask_answers_that_one_alone(self, world: World) -> None:
        first = await world.ask()
        await world.claim_talk()
        await world.close(first, AskState.TIMED_OUT)
        second = await world.ask()
        late = world.talk(world.bob, world.alice, answers=Answering.REQUIRED, within=first)
        assert isinstance(await world.outcome(late), NotWaiting)
        note = await world.say(world.carol)
        await world.claim(kind=Kind.CONVERSATION)
        assert await world.state(note) == DeliveryState.CLAIMED
        reply = world.talk(world.bob, world.alice, answers=Answering.REQUIRED, within=note)
        assert (await world.stored(reply)).answered == EndedAsk(second, AskState.REPLIED, world.owner)

    async def test_in_the_run_of_the_ask_what_must_answer_answers(self, world: World) -> None:
        ask = await world.ask()
        await world.claim_talk()
        inside = world.talk(world.bob, world.alice, within=ask)
        assert (await world.stored(inside)).answered is None
        reply = world.talk(world.bob, world.alice, answers=Answering.REQUIRED, within=ask)
        assert (await world.stored(reply)).answered is not None

    async def test_it_is_told_whether_the_recipient_goes_on_waiting_for_the_sender(self, world: World) -> None:
        assert not (await world.stored(world.talk(world.bob, world.alice))).is_asked
        await world.ask()
        status = world.talk(world.bob, world.alice, notify=True)
        assert (await world.stored(status)).is_asked
        assert (await world.outcome(status, repeat=True)) == Stored(
            session_id=(await world.session()).session_id, is_asked=True
        )
        assert not (await world.stored(world.talk(world.bob, world.carol))).is_asked
        answer = world.talk(world.bob, world.alice, answers=Answering.REQUIRED, notify=True)
        assert not (await world.stored(answer)).is_asked
        news = world.talk(world.bob, world.alice, notify=True)
        assert not (await world.stored(news)).is_asked
        assert ids(await world.sessions.take_notices([world.alice], 10)) == [id_of(news)]

    async def test_an_answer_needs_no_room_in_the_mailbox_and_takes_none(self, world: World) -> None:
        await world.ask()
        await world.say(world.bob, world.alice)
        full = world.talk(world.bob, world.alice, mailbox_limit=1)
        assert await world.outcome(full) == MailboxFull([world.alice])
        reply = world.talk(world.bob, world.alice, answers=Answering.REQUIRED, mailbox_limit=1)
        assert (await world.stored(reply)).answered is not None
        roomy = world.talk(world.bob, world.alice, mailbox_limit=2)
        assert isinstance(await world.outcome(roomy), Stored)

    async def test_a_refused_answer_leaves_the_ask_open(self, world: World, processes: Processes) -> None:
        """One that is an ask itself, and may not be made."""
        await world.serve(await processes.start(), {world.alice: 1, world.bob: 1})
        ask = await world.ask()
        own = await world.ask(world.bob, world.alice)
        assert await world.outcome(world.question(world.bob, world.alice, answers=Answering.REQUIRED)) == SessionLocked(
            own
        )
        assert [await world.ask_state(id) for id in (ask, own)] == [AskState.OPEN] * 2
        assert await world.state(ask) == DeliveryState.QUEUED


class PingPongConformance(StoreFixtures):
    """An ask that answers the other's ask makes the other the one that is awaited."""

    async def test_each_answers_with_the_next_ask(self, world: World) -> None:
        sender, recipient = world.alice, world.bob
        last = await world.ask(sender, recipient)
        await world.take()
        for turn in range(6):
            sender, recipient = recipient, sender
            group = world.question(sender, recipient)
            stored = await world.stored(group)
            assert stored.answered == EndedAsk(last, AskState.REPLIED, world.owner), turn
            answered = await world.asked(last)
            assert answered.answer is not None
            assert answered.answer.message_id == id_of(group)
            last = id_of(group)
            assert await world.ask_state(last) == AskState.OPEN
            receipt = await world.receipt(last)
            assert (receipt.state, receipt.read_at) == (DeliveryState.DONE, world.start)
            assert (await world.session()).waiting_id == sender
        await world.answer(recipient, sender, answering=Answering.IF_TAKEN)
        assert await world.ask_state(last) == AskState.REPLIED
        assert (await world.session()).waiting_id is None
        # None of them was ever for a handler.
        assert await world.claim(world.alice, kind=Kind.CONVERSATION) == []

    async def test_one_call_can_answer_an_ask_and_make_the_next(self, world: World) -> None:
        """The place of the first is free for the second, in the same commit."""
        first = await world.ask()
        answer, second = world.talk(world.bob, world.alice, answers=Answering.REQUIRED), world.question()
        outcomes = await world.append(answer, second)
        assert [type(outcome) for outcome in outcomes] == [Stored, Stored]
        assert await world.ask_state(first) == AskState.REPLIED
        assert await world.ask_state(id_of(second)) == AskState.OPEN

    async def test_one_call_can_play_ping_pong(self, world: World) -> None:
        last = await world.ask()
        balls = [
            world.question(*((world.alice, world.bob) if number % 2 else (world.bob, world.alice)), answers=how)
            for number, how in enumerate([Answering.REQUIRED, Answering.IF_TAKEN, Answering.REQUIRED])
        ]
        outcomes = await world.append(*balls)
        for ball, outcome in zip(balls, outcomes, strict=True):
            assert isinstance(outcome, Stored)
            assert outcome.answered == EndedAsk(last, AskState.REPLIED, world.owner)
            last = id_of(ball)
        assert [await world.ask_state(id_of(ball)) for ball in balls] == [
            AskState.REPLIED,
            AskState.REPLIED,
            AskState.OPEN,
        ]

    async def test_a_question_inside_a_run_answers_nothing_and_is_for_the_askers_handler(
        self, world: World, processes: Processes
    ) -> None:
        await world.serve(await processes.start(), {world.alice: 1, world.bob: 1})
        ask = await world.ask()
        await world.claim_talk()
        question = world.question(world.bob, world.alice, within=ask)
        assert (await world.stored(question)).answered is None
        assert await world.ask_state(ask) == AskState.OPEN
        run = await world.claim_talk(world.alice)
        assert run.message_id == id_of(question)
        settled = await world.settle(run, answer=world.result())
        assert [ended.ask_id for ended in settled.ended_asks] == [id_of(question)]
        assert await world.ask_state(ask) == AskState.OPEN

    async def test_a_run_that_waits_does_not_hold_its_lane(self, world: World) -> None:
        asked = await world.say()
        behind = await world.say()
        last = await world.say()
        first = await world.claim_talk()
        assert await world.claim(kind=Kind.CONVERSATION) == []
        question = await world.ask(world.bob, world.carol, within=asked)
        second = await world.claim_talk()
        assert second.message_id == behind
        # One that has no open ask of its own holds it.
        assert await world.claim(kind=Kind.CONVERSATION) == []
        await world.settle(second)
        await world.close(question, AskState.TIMED_OUT)
        assert await world.claim(kind=Kind.CONVERSATION) == []
        settled = await world.settle(first, requests=[world.request(kind=Kind.CONVERSATION)])
        assert ids(settled.claimed) == [last]

    async def test_a_run_of_a_note_that_waits_does_not_hold_its_lane(self, world: World) -> None:
        note, behind = await world.send_many(2)
        await world.claim_one()
        assert await world.claim() == []
        await world.ask(world.bob, world.carol, within=note)
        assert ids(await world.claim()) == [behind]


class RunAnswerConformance(StoreFixtures):
    """The answer that a run gives with its settlement."""

    async def test_it_answers_the_ask_in_the_same_commit(self, world: World) -> None:
        asker = new_id()
        ask = await world.ask(owner=asker)
        session = (await world.session()).session_id
        result = world.result('{"é" : 1}')
        settled = await world.settle(await world.claim_talk(), answer=result, now=world.at(3))
        assert (settled.moved, settled.origins) == ([True], {asker})
        assert settled.ended_asks == [EndedAsk(ask, AskState.REPLIED, asker)]
        row = await world.asked(ask)
        assert row.answer == AnswerRow(result.message_id, '{"é" : 1}', None, result.checksum)
        asked, answer = await world.sessions.list_messages(session, limit=10)
        assert asked.message_id == ask
        assert (answer.sender_id, answer.recipient_id) == (world.bob, world.alice)
        assert (answer.created_at, answer.read_at) == (world.at(3), world.at(3))
        receipt = await world.receipt(result.message_id)
        assert (receipt.state, receipt.attempt, receipt.token, receipt.owner) == (DeliveryState.DONE, 0, 0, None)
        assert (await world.session()).updated_at == world.at(3)
        assert await world.store.check() == []

    async def test_of_a_message_that_is_no_ask_it_is_stored_unread(self, world: World) -> None:
        await world.say()
        result = world.result()
        settled = await world.settle(await world.claim_talk(), answer=result)
        assert (settled.ended_asks, settled.origins) == ([], {world.owner})
        receipt = await world.receipt(result.message_id)
        assert (receipt.state, receipt.read_at, receipt.settled_at) == (DeliveryState.DONE, None, world.start)
        assert await world.claim(world.alice, kind=Kind.CONVERSATION) == []
        assert ids(await world.read(world.alice)) == [result.message_id]

    async def test_it_is_stored_in_the_messages_session_also_when_another_is_open(self, world: World) -> None:
        old = str((await world.stored(world.question())).session_id)
        run = await world.claim_talk()
        await world.end()
        new = str((await world.stored(world.talk())).session_id)
        result = world.result()
        await world.settle(run, answer=result)
        assert (await world.transcript(old))[-1] == result.message_id
        assert result.message_id not in await world.transcript(new)

    async def test_it_does_not_answer_another_ask_of_the_pair(self, world: World) -> None:
        await world.say()
        run = await world.claim_talk()
        ask = await world.ask()
        settled = await world.settle(run, answer=world.result())
        assert settled.ended_asks == []
        assert await world.ask_state(ask) == AskState.OPEN

    async def test_processes_that_wait_for_an_unread_answer_are_told(self, world: World) -> None:
        origin, waiter, other = new_id(), new_id(), new_id()
        await world.wait(world.alice, world.bob, owner=waiter)
        await world.wait(world.alice, world.carol, owner=other)
        await world.say(owner=origin)
        settled = await world.settle(await world.claim_talk(), answer=world.result())
        assert settled.origins == {origin, waiter}

    async def test_done_without_an_answer_leaves_the_ask_open(self, world: World) -> None:
        ask = await world.ask()
        settled = await world.settle(await world.claim_talk())
        assert (settled.moved, settled.ended_asks) == ([True], [])
        assert await world.ask_state(ask) == AskState.OPEN
        await world.answer()

    async def test_a_claim_that_is_ended_twice_in_a_call_answers_as_it_is_ended_first(self, world: World) -> None:
        ask = await world.ask()
        claim = (await world.claim_talk()).claim
        ends = [
            Settlement(claim, Settling.DONE, answer=world.result()),
            Settlement(claim, Settling.RETRY),
            Settlement(claim, Settling.DONE),
        ]
        settled = await world.deliveries.settle(ends, owner=world.owner, now=world.start)
        assert settled.moved == [True, False, True]
        assert [ended.ask_id for ended in settled.ended_asks] == [ask]
        assert await world.ask_state(ask) == AskState.REPLIED

    async def test_a_lost_claim_answers_nothing(self, world: World) -> None:
        ask = await world.ask()
        old = await world.claim_talk()
        session = (await world.session()).session_id
        await world.settle(old, Settling.RETURNED)
        new = await world.claim_talk(owner=new_id())
        settled = await world.settle(old, answer=world.result())
        assert (settled.moved, settled.ended_asks, settled.origins) == ([False], [], set())
        assert await world.transcript(session) == [ask]
        assert await world.ask_state(ask) == AskState.OPEN
        assert (await world.settle(new, answer=world.result())).moved == [True]

    @pytest.mark.parametrize("how", [Settling.RETRY, Settling.RETURNED])
    async def test_a_claim_that_was_given_back_and_read_meanwhile_answers_nothing(
        self, world: World, how: Settling
    ) -> None:
        """The delivery is done then, but not by that claim."""
        ask = await world.ask()
        run = await world.claim_talk()
        await world.settle(run, how)
        assert ids(await world.read()) == [ask]
        assert await world.state(ask) == DeliveryState.DONE
        settled = await world.settle(run, answer=world.result())
        assert (settled.moved, settled.ended_asks) == ([False], [])
        assert await world.transcript((await world.session()).session_id) == [ask]
        assert await world.ask_state(ask) == AskState.OPEN
        # How it did end is a repeat all the same.
        assert (await world.settle(run, how)).moved == [True]

    async def test_a_late_answer_too_makes_its_ask_read(self, world: World) -> None:
        ask = await world.ask()
        run = await world.claim_talk()
        await world.close(ask, AskState.TIMED_OUT)
        await world.settle(run, answer=world.result(), now=world.at(7))
        assert (await world.receipt(ask)).read_at == world.at(7)
        assert ids(await world.read()) == []

    async def test_a_run_without_an_answer_leaves_its_message_unread(self, world: World) -> None:
        ask = await world.ask()
        await world.settle(await world.claim_talk())
        assert (await world.receipt(ask)).read_at is None

    async def test_an_ask_that_was_read_before_keeps_when(self, world: World) -> None:
        ask = await world.ask()
        await world.read(now=world.at(1))
        await world.answer(now=world.at(2))
        assert (await world.receipt(ask)).read_at == world.at(1)

    async def test_repeating_a_settlement_tells_again_of_the_ask_that_failed(self, world: World) -> None:
        ask = await world.ask(owner=world.dave)
        run = await world.claim_talk()
        failed = [EndedAsk(ask, AskState.FAILED, world.dave)]
        for _ in range(2):
            settled = await world.settle(run, Settling.DEAD, reason="broken")
            assert (settled.moved, settled.ended_asks) == ([True], failed)
        settled = await world.settle([run, run], Settling.DEAD, reason="broken")
        assert (settled.moved, settled.ended_asks) == ([True, True], failed)

    async def test_repeating_a_settlement_stores_its_answer_once(self, world: World) -> None:
        ask = await world.ask()
        session = (await world.session()).session_id
        await world.say(world.carol)
        runs = await world.claim(kind=Kind.CONVERSATION)
        settlements = [Settlement(run.claim, Settling.DONE, answer=world.result()) for run in runs]
        for instant in (1, 2):
            settled = await world.deliveries.settle(settlements, owner=world.owner, now=world.at(instant))
            assert settled.moved == [True, True]
            row = await world.asked(ask)
            assert row.answer is not None
            assert settlements[0].answer is not None
            assert row.answer.message_id == settlements[0].answer.message_id
            assert await world.transcript(session) == [ask, row.answer.message_id]
        page = await world.read(world.carol)
        assert [row.message_id for row in page.messages] == [
            settlement.answer.message_id for settlement in settlements[1:] if settlement.answer
        ]

    async def test_many_answer_in_one_call_each_its_own(self, world: World) -> None:
        agents = [world.alice, world.carol, world.dave]
        asked = {agent: await world.ask(agent) for agent in agents}
        runs = {run.sender_id: run for run in await world.claim(kind=Kind.CONVERSATION)}
        settled = await world.deliveries.settle(
            [
                Settlement(runs[world.alice].claim, Settling.DONE, answer=world.result('"a"')),
                Settlement(runs[world.carol].claim, Settling.DEAD, reason="no"),
                Settlement(runs[world.dave].claim, Settling.DONE, answer=world.result('"d"')),
            ],
            owner=world.owner,
            now=world.start,
        )
        assert {ended.ask_id: ended.state for ended in settled.ended_asks} == {
            asked[world.alice]: AskState.REPLIED,
            asked[world.carol]: AskState.FAILED,
            asked[world.dave]: AskState.REPLIED,
        }
        rows = {row.asker_id: row for row in await world.sessions.find_asks(list(asked.values()))}
        assert {agent: row.answer.content for agent, row in rows.items() if row.answer} == {
            world.alice: '"a"',
            world.dave: '"d"',
        }


class AskEndConformance(StoreFixtures):
    """What ends an ask without an answer. The first wins; a message that is still queued goes with its ask."""

    async def test_an_ask_whose_time_was_over_before_its_last_claim_ended_timed_out(self, world: World) -> None:
        ask_id = await world.ask(timeout=5, max_attempts=1)
        await world.claim_talk()
        await world.deliveries.advance(world.at(1000))  # nobody has looked in between
        assert await world.ask_state(ask_id) is AskState.TIMED_OUT
        assert await world.state(ask_id) is DeliveryState.DEAD

    @pytest.mark.parametrize("state", CLOSINGS)
    async def test_the_asker_ends_it(self, world: World, state: AskState) -> None:
        ask = await world.ask()
        row = await world.close(ask, state, now=world.at(4))
        assert row == await world.asked(ask)
        assert (row.state, row.answer, row.reason) == (state, None, None)
        receipt = await world.receipt(ask)
        assert (receipt.state, receipt.settled_at) == (DeliveryState.EXPIRED, world.at(4))
        assert await world.claim(kind=Kind.CONVERSATION) == []
        # The first to end it has ended it; a repeat changes nothing.
        for again in CLOSINGS:
            assert await world.close(ask, again, now=world.at(5)) == row
        assert (await world.receipt(ask)).settled_at == world.at(4)

    async def test_many_are_ended_in_one_call_and_all_that_exist_are_answered(self, world: World) -> None:
        replied, open_, nothing = await world.ask(), await world.ask(world.carol), new_id()
        await world.answer()
        rows = await world.sessions.close_asks([replied, open_, nothing], AskState.TIMED_OUT, now=world.start)
        assert {row.ask_id: row.state for row in rows} == {replied: AskState.REPLIED, open_: AskState.TIMED_OUT}
        assert await world.sessions.close_asks([], AskState.CANCELLED) == []

    async def test_an_agent_refuses_what_it_has_and_nothing_else(self, world: World) -> None:
        close = world.sessions.close_asks
        ask, other = await world.ask(), await world.ask(world.carol)
        (row,) = await close([ask], AskState.FAILED, responder_id=world.carol, reason="no", now=world.at(2))
        assert (row.state, row.reason) == (AskState.OPEN, None)
        (row,) = await close([ask], AskState.FAILED, responder_id=world.bob, reason="no", now=world.at(3))
        assert row == await world.asked(ask)
        assert (row.state, row.reason, row.answer) == (AskState.FAILED, "no", None)
        assert await world.state(ask) is DeliveryState.EXPIRED
        (again,) = await close([ask], AskState.FAILED, responder_id=world.bob, reason="never", now=world.at(4))
        assert again == row
        assert await world.ask_state(other) is AskState.OPEN

    async def test_open_ones_are_listed_oldest_first_with_their_messages(self, world: World) -> None:
        first = await world.ask(timeout=9)
        second = await world.ask(world.carol, thread="side")
        await world.claim(kind=Kind.CONVERSATION)
        elsewhere = await world.ask(world.alice, world.dave)
        found = await world.sessions.list_open_asks(world.bob, limit=9)
        assert [(one.message.message_id, one.message.sender_id, one.message.thread) for one in found] == [
            (first, world.alice, MAIN),
            (second, world.carol, "side"),
        ]
        assert found[0].deadline_at == (await world.asked(first)).deadline_at
        assert found[0].message.session_id == (await world.session()).session_id
        assert ids([one.message for one in await world.sessions.list_open_asks(world.bob, limit=1, offset=1)]) == [
            second
        ]
        for ask in (first, elsewhere):
            await world.close(ask, AskState.TIMED_OUT)
        assert ids([one.message for one in await world.sessions.list_open_asks(world.bob, limit=9)]) == [second]
        assert await world.sessions.list_open_asks(world.dave, limit=9) == []

    @pytest.mark.parametrize("state", CLOSINGS)
    async def test_a_claimed_one_is_left_to_its_run(self, world: World, state: AskState) -> None:
        ask = await world.ask()
        run = await world.claim_talk()
        await world.close(ask, state)
        assert await world.state(ask) == DeliveryState.CLAIMED
        late = world.result()
        settled = await world.settle(run, answer=late)
        assert (settled.moved, settled.ended_asks) == ([True], [])
        row = await world.asked(ask)
        assert (row.state, row.answer) == (state, None)
        assert (await world.receipt(late.message_id)).read_at is None
        assert ids(await world.read(world.alice)) == [late.message_id]

    async def test_a_timeout_that_comes_after_the_answer_reports_the_answer(self, world: World) -> None:
        ask = await world.ask()
        answer = await world.answer()
        row = await world.close(ask, AskState.TIMED_OUT)
        assert row.state == AskState.REPLIED
        assert row.answer is not None
        assert row.answer.message_id == answer
        assert ids(await world.read(world.alice)) == []

    @pytest.mark.parametrize("by", ["message", "run"])
    async def test_the_answer_to_an_asker_that_gave_up_becomes_unread(self, world: World, by: str) -> None:
        ask = await world.ask()
        if by == "message":
            answer = await world.answer()
        else:
            result = world.result()
            await world.settle(await world.claim_talk(), answer=result)
            answer = result.message_id
        for _ in range(2):
            row = await world.close(ask, AskState.CANCELLED)
            assert row.state == AskState.REPLIED
            assert (await world.receipt(answer)).read_at is None
        taken = await world.sessions.take_awaited(world.alice, world.bob, now=world.at(5))
        assert taken is not None
        assert taken.message_id == answer
        await world.close(ask, AskState.CANCELLED)
        assert (await world.receipt(answer)).read_at == world.at(5), "a late repeat takes it from nobody"

    async def test_time_ends_it(self, world: World) -> None:
        asker = new_id()
        ask = await world.ask(timeout=10, owner=asker)
        assert (await world.deliveries.advance(world.at(9))).expired_origins == set()
        assert await world.ask_state(ask) == AskState.OPEN
        assert (await world.deliveries.advance(world.at(11))).expired_origins == {asker}
        assert await world.ask_state(ask) == AskState.TIMED_OUT
        assert await world.state(ask) == DeliveryState.EXPIRED
        assert (await world.deliveries.advance(world.at(12))).expired_origins == set()

    async def test_time_ends_a_claimed_one_and_leaves_its_run(self, world: World) -> None:
        asker = new_id()
        ask = await world.ask(timeout=10, owner=asker)
        run = await world.claim_talk()
        assert (await world.deliveries.advance(world.at(11))).expired_origins == {asker, world.owner}
        assert await world.ask_state(ask) == AskState.TIMED_OUT
        assert await world.state(ask) == DeliveryState.CLAIMED
        assert (await world.settle(run, answer=world.result(), now=world.at(12))).moved == [True]
        assert await world.ask_state(ask) == AskState.TIMED_OUT

    async def test_withdrawing_its_message_cancels_it(self, world: World) -> None:
        ask = await world.ask()
        assert await world.deliveries.withdraw([ask]) == [ask]
        assert await world.ask_state(ask) == AskState.CANCELLED
        assert await world.state(ask) == DeliveryState.WITHDRAWN
        await world.ask()

    async def test_a_claimed_one_is_not_withdrawn(self, world: World) -> None:
        ask = await world.ask()
        await world.claim_talk()
        assert await world.deliveries.withdraw([ask]) == []
        assert await world.ask_state(ask) == AskState.OPEN

    async def test_a_dead_letter_fails_it_with_the_reason(self, world: World) -> None:
        asker = new_id()
        ask = await world.ask(owner=asker)
        settled = await world.settle(await world.claim_talk(), Settling.DEAD, reason="it broke é")
        assert settled.ended_asks == [EndedAsk(ask, AskState.FAILED, asker)]
        assert settled.origins == {asker}
        row = await world.asked(ask)
        assert (row.state, row.reason, row.answer) == (AskState.FAILED, "it broke é", None)
        await world.ask()

    async def test_a_dead_letter_of_an_ask_that_had_ended_changes_it_no_more(self, world: World) -> None:
        ask = await world.ask()
        run = await world.claim_talk()
        await world.close(ask, AskState.TIMED_OUT)
        settled = await world.settle(run, Settling.DEAD, reason="too late")
        assert settled.ended_asks == []
        row = await world.asked(ask)
        assert (row.state, row.reason) == (AskState.TIMED_OUT, None)

    async def test_a_dead_letter_that_is_driven_again_is_handled_and_its_answer_kept(self, world: World) -> None:
        """Whoever drives it again wants it handled, though nobody waits any more."""
        ask = await world.ask()
        await world.settle(await world.claim_talk(), Settling.DEAD, reason="no")
        assert await world.deliveries.redrive([ask], None) == [(ask, world.bob)]
        run = await world.claim_talk()
        assert run.message_id == ask
        result = world.result()
        assert (await world.settle(run, answer=result)).ended_asks == []
        assert await world.ask_state(ask) == AskState.FAILED
        assert ids(await world.read(world.alice)) == [result.message_id]

    async def test_a_dead_letter_that_was_driven_again_and_dies_again_ends_no_ask(self, world: World) -> None:
        ask = await world.ask()
        await world.settle(await world.claim_talk(), Settling.DEAD, reason="first")
        await world.deliveries.redrive([ask], None)
        settled = await world.settle(await world.claim_talk(), Settling.DEAD, reason="second")
        assert (settled.moved, settled.ended_asks) == ([True], [])
        row = await world.asked(ask)
        assert (row.state, row.reason) == (AskState.FAILED, "first")

    async def test_at_the_hard_end_of_its_claim_its_own_time_has_ended_it(self, world: World) -> None:
        ask = await world.ask(timeout=5, max_attempts=1)
        await world.claim_talk()
        await world.deliveries.advance(world.at(6))
        await world.deliveries.advance(world.at(RUN_LIMIT + CLAIM_MARGIN + 1))
        assert await world.state(ask) == DeliveryState.DEAD
        assert await world.ask_state(ask) == AskState.TIMED_OUT

    @pytest.mark.parametrize("how", [Settling.RETRY, Settling.RETURNED])
    @pytest.mark.parametrize("replied", [True, False])
    async def test_one_that_ended_does_not_return_to_the_queue(
        self, world: World, how: Settling, replied: bool
    ) -> None:
        ask = await world.ask()
        run = await world.claim_talk()
        if replied:
            await world.answer()
        else:
            await world.close(ask, AskState.TIMED_OUT)
        for instant in (2, 3):
            settled = await world.settle(run, how, delay=30, reason="r", now=world.at(instant))
            assert settled.moved == [True]
            receipt = await world.receipt(ask)
            assert receipt.state == (DeliveryState.DONE if replied else DeliveryState.EXPIRED)
            assert receipt.settled_at == world.at(2)
        await world.deliveries.advance(world.at(50))
        assert await world.claim(kind=Kind.CONVERSATION, now=world.at(50)) == []

    async def test_one_that_is_open_returns_to_the_queue(self, world: World) -> None:
        ask = await world.ask()
        for how in (Settling.RETRY, Settling.RETURNED):
            await world.settle(await world.claim_talk(), how)
            assert await world.state(ask) == DeliveryState.QUEUED
            assert await world.ask_state(ask) == AskState.OPEN

    async def test_a_claim_that_time_takes_back_does_not_return_it_once_ended(self, world: World) -> None:
        timed_out, replied = await world.ask(timeout=5), await world.ask(world.carol, timeout=5)
        await world.claim(kind=Kind.CONVERSATION)
        await world.answer(recipient=world.carol)
        assert (await world.deliveries.advance(world.at(RUN_LIMIT + CLAIM_MARGIN + 1))).released == 2
        assert await world.state(timed_out) == DeliveryState.EXPIRED
        assert await world.state(replied) == DeliveryState.DONE


class AskOfProcessConformance(StoreFixtures):
    """The end of processes: of the one that asked, and of the one that was to answer."""

    async def end(self, store: Store, process: str, how: str, world: World) -> None:
        if how == "retire":
            await store.processes.retire(process)
        else:
            await store.processes.release([process], world.at(1))

    @pytest.mark.parametrize("how", ["retire", "release"])
    async def test_the_asks_of_a_process_that_ended_are_cancelled(
        self, world: World, processes: Processes, how: str
    ) -> None:
        process = await processes.start()
        queued = await world.ask(owner=process)
        claimed = await world.ask(world.carol, world.dave, owner=process)
        run = await world.claim_talk(world.dave)
        other = await world.ask(world.alice, world.carol)
        for _ in range(2):
            await self.end(world.store, process, how, world)
            assert await world.ask_state(queued) == AskState.CANCELLED
            assert await world.state(queued) == DeliveryState.EXPIRED
            assert await world.ask_state(claimed) == AskState.CANCELLED
            assert await world.state(claimed) == DeliveryState.CLAIMED
            assert await world.ask_state(other) == AskState.OPEN
        result = world.result()
        await world.settle(run, answer=result)
        assert ids(await world.read(world.carol, sender_id=world.dave)) == [result.message_id]

    @pytest.mark.parametrize("how", ["retire", "release"])
    async def test_an_ask_with_a_key_outlives_its_process(self, world: World, processes: Processes, how: str) -> None:
        process = await processes.start()
        ask = await world.ask(owner=process, idempotency_key="k", fingerprint="f", call="send_and_wait")
        await self.end(world.store, process, how, world)
        assert await world.ask_state(ask) == AskState.OPEN
        assert await world.state(ask) == DeliveryState.QUEUED
        # A repeat joins it, and its time still ends it.
        again = world.question(idempotency_key="k", fingerprint="f", call="send_and_wait")
        assert await world.outcome(again) == Duplicate([ask])
        await world.deliveries.advance(world.at(ASK_TIMEOUT + 1))
        assert await world.ask_state(ask) == AskState.TIMED_OUT

    @pytest.mark.parametrize("how", ["retire", "release"])
    async def test_an_ask_whose_run_died_is_asked_again_if_it_is_still_open(
        self, world: World, processes: Processes, how: str
    ) -> None:
        process = await processes.start()
        open_, replied, gone = [await world.ask(agent) for agent in (world.alice, world.carol, world.dave)]
        assert len(await world.claim(kind=Kind.CONVERSATION, owner=process)) == 3
        await world.answer(recipient=world.carol)
        await world.close(gone, AskState.TIMED_OUT)
        await self.end(world.store, process, how, world)
        rows = {row.message_id: row.state for row in await world.deliveries.list_receipts([open_, replied, gone])}
        assert rows == {
            open_: DeliveryState.QUEUED,
            replied: DeliveryState.DONE,
            gone: DeliveryState.EXPIRED,
        }
        run = await world.claim_talk(now=world.at(30))
        assert run.message_id == open_
        assert (await world.settle(run, answer=world.result())).ended_asks

    async def test_a_death_at_the_last_attempt_fails_it_with_the_reason(
        self, world: World, processes: Processes
    ) -> None:
        process = await processes.start()
        ask = await world.ask(max_attempts=1)
        await world.claim_talk(owner=process)
        assert await world.store.processes.release([process], world.at(1)) == 1
        assert await world.state(ask) == DeliveryState.DEAD
        row = await world.asked(ask)
        assert row.state == AskState.FAILED
        assert row.reason
        assert row.reason == (await world.receipt(ask)).log[-1]["reason"]

    async def test_a_process_that_asked_itself_leaves_nothing_behind(self, world: World, processes: Processes) -> None:
        """Both agents live in it: its ask is cancelled and its claim of the same message returns, in one commit."""
        process = await processes.start()
        ask = await world.ask(owner=process)
        await world.claim_talk(owner=process)
        assert await world.store.processes.release([process], world.at(1)) == 1
        assert await world.ask_state(ask) == AskState.CANCELLED
        assert await world.state(ask) == DeliveryState.EXPIRED
        assert await world.claim(kind=Kind.CONVERSATION) == []


class RepeatedAskConformance(StoreFixtures):
    """Idempotency keys, and appends whose answer was lost."""

    async def test_a_key_is_looked_at_before_all_else(self, world: World) -> None:
        options: dict[str, Any] = {"idempotency_key": "k", "fingerprint": "f", "call": "send_and_wait"}
        ask = world.question(**options)
        await world.stored(ask)
        # Without the key it would be locked.
        assert await world.outcome(world.question(**options)) == Duplicate([id_of(ask)])
        assert await world.outcome(world.question(**{**options, "fingerprint": "g"})) == KeyConflict()
        reply: dict[str, Any] = {
            "idempotency_key": "r",
            "fingerprint": "f",
            "call": "reply",
            "answers": Answering.REQUIRED,
        }
        first = world.talk(world.bob, world.alice, **reply)
        await world.stored(first)
        # Without the key nobody would wait for it any more.
        assert await world.outcome(world.talk(world.bob, world.alice, **reply)) == Duplicate([id_of(first)])
        assert await world.outcome(world.question(**options)) == Duplicate([id_of(ask)])
        assert await world.deliveries.find_repeat(world.alice, "send_and_wait", "k", "f") == Duplicate([id_of(ask)])

    async def test_a_refused_one_does_not_use_up_its_key(self, world: World) -> None:
        first = await world.ask()
        options: dict[str, Any] = {"idempotency_key": "k", "fingerprint": "f"}
        assert await world.outcome(world.question(**options)) == SessionLocked(first)
        reply: dict[str, Any] = {"answers": Answering.REQUIRED, "idempotency_key": "r", "fingerprint": "f"}
        assert isinstance(await world.outcome(world.talk(**reply)), NotWaiting)
        await world.close(first, AskState.CANCELLED)
        assert isinstance(await world.outcome(world.question(**options)), Stored)

    async def test_an_append_whose_answer_was_lost_is_answered_again(self, world: World) -> None:
        """It is not refused for what it has done itself, and does it once."""
        ask = world.question(claim=True)
        lost = await world.stored(ask)
        again = await world.outcome(ask, repeat=True)
        assert again == lost
        assert set(lost.claims) == {id_of(ask)}
        reply = world.talk(world.bob, world.alice, answers=Answering.REQUIRED)
        await world.stored(reply)
        repeated = await world.outcome(reply, repeat=True)
        answered = EndedAsk(id_of(ask), AskState.REPLIED, world.owner)
        assert repeated == Stored(session_id=ask.session_id, answered=answered)
        assert await world.transcript(str(ask.session_id)) == [id_of(ask), id_of(reply)]
        row = await world.asked(id_of(ask))
        assert row.answer is not None
        assert row.answer.message_id == id_of(reply)

    async def test_an_append_that_was_not_stored_is_stored_by_the_repeat(self, world: World) -> None:
        said, ask = world.talk(), world.question()
        outcomes = await world.append(said, ask, repeat=True)
        assert outcomes == [Stored(session_id=said.session_id)] * 2
        assert await world.ask_state(id_of(ask)) == AskState.OPEN

    async def test_a_repeat_after_the_session_ended_tells_the_session_it_went_to(self, world: World) -> None:
        said = world.talk()
        await world.stored(said)
        await world.end()
        following = world.talk()
        await world.stored(following)
        outcome = await world.outcome(said, repeat=True)
        assert isinstance(outcome, Stored)
        assert outcome.session_id == said.session_id
        assert await world.transcript(str(following.session_id)) == [id_of(following)]


class AskConformance(
    AskingConformance,
    AnsweringConformance,
    PingPongConformance,
    RunAnswerConformance,
    AskEndConformance,
    AskOfProcessConformance,
    RepeatedAskConformance,
):
    """All of asks but their circles."""
