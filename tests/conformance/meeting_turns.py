"""Turns: the deliveries that come with them, acts under a claim, repeated acts, and turns that end by time."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import DeliveryState, Kind, MeetingStatus, MessageType, SpeakerSelection, TurnEnd
from agent_messaging.storage.assembly.rules import SELECTION_LIMIT
from agent_messaging.storage.assembly.terms import (
    Attend,
    Choose,
    End,
    Leave,
    Pass,
    Purpose,
    Refused,
    Remove,
    Skip,
    Speak,
    Start,
    Why,
)
from agent_messaging.storage.ports import CLAIM_MARGIN, Acted, Duplicate, KeyConflict, Settling, TimedOut, TurnRef
from agent_messaging.testing.waiting import eventually

from .base import Processes, StoreFixtures
from .gathering import DURATION, Gathering, names_of, plan, remove_agent, speech, spoken
from .world import RUN_LIMIT, World

CLAIMED, DONE, QUEUED, WITHDRAWN = (
    DeliveryState.CLAIMED,
    DeliveryState.DONE,
    DeliveryState.QUEUED,
    DeliveryState.WITHDRAWN,
)


async def end_by_speech(meeting: Gathering) -> object:
    return await meeting.speak(meeting.world.bob, 2)


async def end_by_passing(meeting: Gathering) -> object:
    return await meeting.do(Pass(meeting.world.bob, 2))


async def end_by_skipping(meeting: Gathering) -> object:
    return await meeting.do(Skip(meeting.host, 2))


async def end_by_leaving(meeting: Gathering) -> object:
    return await meeting.do(Leave(meeting.world.bob))


async def end_by_removal(meeting: Gathering) -> object:
    return await meeting.do(Remove(meeting.host, meeting.world.bob))


async def end_by_time(meeting: Gathering) -> object:
    return await meeting.time_out(DURATION + 1)


async def end_of_all(meeting: Gathering) -> object:
    return await meeting.end()


WAYS_TO_END = [
    end_by_speech,
    end_by_passing,
    end_by_skipping,
    end_by_leaving,
    end_by_removal,
    end_by_time,
    end_of_all,
]


class DutyConformance(StoreFixtures):
    """The delivery that comes with a turn."""

    async def test_a_turn_comes_with_a_delivery_to_its_holder(self, world: World) -> None:
        meeting = await Gathering.active(world, max_attempts=3)
        speaker = new_id()
        await meeting.speak(at=5, owner=speaker)
        claimed = await meeting.claim_turn(world.bob, at=6)
        assert (claimed.kind, claimed.sender_id, claimed.recipient_id) == (Kind.TURN, world.alice, world.bob)
        assert claimed.turn == TurnRef(meeting.id, 2)
        assert json.loads(claimed.content) == {"meeting_id": meeting.id, "turn": 2}, "for who reads the mailbox"
        assert (claimed.metadata, claimed.session_id, claimed.max_attempts) == (None, None, 3)
        assert (claimed.created_at, claimed.origin) == (world.at(5), speaker)
        # Its run may take as long as the turn.
        assert claimed.ask_timeout == DURATION
        row = (await meeting.duties())[2]
        assert (row.message_type, row.kind, row.message_id) == (MessageType.SYSTEM, Kind.TURN, claimed.message_id)
        assert set(await meeting.duties()) == {1, 2}

    async def test_a_claim_lasts_as_long_as_the_turn_may(self, world: World) -> None:
        meeting = await Gathering.active(world, turn_duration=100.0)
        await meeting.claim_turn(world.alice)
        assert RUN_LIMIT < 100
        assert (await world.deliveries.advance(world.at(100 + CLAIM_MARGIN - 1))).released == 0
        assert (await world.deliveries.advance(world.at(100 + CLAIM_MARGIN + 1))).released == 1

    async def test_a_turn_without_a_limit_has_no_deadline(self, world: World) -> None:
        meeting = await Gathering.active(world, turn_duration=None)
        claimed = await meeting.claim_turn(world.alice)
        assert claimed.ask_timeout is None
        turn = await meeting.turn(10**6)
        assert (turn.deadline_at, turn.left) == (None, None)
        assert await meeting.time_out(10**6) == TimedOut({}, None)
        await meeting.speak(world.alice, 1, at=10**6)

    async def test_it_is_never_part_of_the_history(self, world: World) -> None:
        meeting = await Gathering.active(world, invite=True)
        await meeting.speak()
        history = await meeting.history()
        assert {row.kind for row in history} == {Kind.MEETING}
        assert len(history) == 3
        assert await meeting.store.count_messages(meeting.id) == 3
        assert {row.kind for row in await meeting.last(world.bob, 100)} == {Kind.MEETING}
        assert len(await meeting.store.count_speeches(meeting.id)) == 1

    @pytest.mark.parametrize("end", WAYS_TO_END)
    @pytest.mark.parametrize("is_claimed", [False, True])
    async def test_when_the_turn_ends_it_is_withdrawn(
        self, world: World, end: Callable[[Gathering], Awaitable[object]], is_claimed: bool
    ) -> None:
        meeting = await Gathering.active(world)
        await meeting.speak()
        claimed = await meeting.claim_turn(world.bob) if is_claimed else None
        assert (await meeting.duty(2)).state is (CLAIMED if is_claimed else QUEUED)
        await end(meeting)
        receipt = await meeting.duty(2)
        assert receipt.state is WITHDRAWN
        assert receipt.settled_at is not None
        if claimed is not None:
            assert await world.deliveries.list_claims(world.owner) == []
            for how in Settling:
                assert (await world.settle(claimed, how)).moved == [False]
            assert (await meeting.duty(2)).state is WITHDRAWN
        assert await world.claim(world.bob, kind=Kind.TURN, now=world.at(DURATION + 1)) == []

    async def test_that_of_a_deregistered_speaker_is_gone(self, world: World) -> None:
        meeting = await Gathering.active(world)
        await meeting.speak()
        claimed = await meeting.claim_turn(world.bob)
        await remove_agent(world, world.bob)
        assert (await world.settle(claimed)).moved == [False]
        assert (await meeting.duty(3)).recipient_id == world.carol

    async def test_what_has_ended_already_stays_as_it_is(self, world: World) -> None:
        meeting = await Gathering.active(world)
        await world.settle(await meeting.claim_turn(), Settling.DEAD, reason="no")
        await meeting.pass_on()
        await world.settle(await meeting.claim_turn())
        await meeting.pass_on()
        assert [(await meeting.duty(number)).state for number in (1, 2, 3)] == [DeliveryState.DEAD, DONE, QUEUED]

    async def test_a_dead_letter_names_its_turn_while_that_lasts(self, world: World) -> None:
        meeting = await Gathering.active(world)
        claimed = await meeting.claim_turn()
        for turn in (TurnRef(meeting.id, 1), None):
            await world.settle(claimed, Settling.DEAD, reason="no")
            if turn is None:
                await meeting.pass_on()
            await world.deliveries.redrive([claimed.message_id], None)
            claimed = await world.claim_one(world.alice, kind=Kind.TURN)
            assert claimed.turn == turn

    async def test_one_turn_ends_and_that_of_another_meeting_stays(self, world: World) -> None:
        first, second = await Gathering.active(world), await Gathering.active(world)
        claims = await world.claim(world.alice, kind=Kind.TURN, ordered=False)
        assert {claim.turn for claim in claims} == {TurnRef(first.id, 1), TurnRef(second.id, 1)}
        await first.pass_on()
        assert [(await meeting.duty(1)).state for meeting in (first, second)] == [WITHDRAWN, CLAIMED]
        assert [claim.message_id for claim in claims if (await world.settle(claim)).moved == [True]] == [
            (await second.duties())[1].message_id
        ]

    async def test_a_turn_taken_over_from_a_dead_process_can_still_be_used(
        self, world: World, processes: Processes
    ) -> None:
        meeting = await Gathering.active(world)
        dead = await processes.start()
        lost = await meeting.claim_turn(world.alice, owner=dead)
        assert await world.store.processes.release([dead], world.at(5)) == 1
        taken_over = await meeting.claim_turn(world.alice, at=5)
        assert (taken_over.claim.token, taken_over.claim.attempt) == (2, 2)
        late = speech()
        assert await meeting.refuses(Speak(world.alice, 1), speech=late, claim=lost, at=6) is Why.TURN_LOST
        acted = await meeting.speak(world.alice, 1, claim=taken_over, at=7)
        assert acted.turn is not None
        assert acted.turn.number == 2
        assert late.message_id not in spoken(await meeting.history())

    async def test_it_counts_for_no_queue_that_nobody_serves(self, world: World) -> None:
        """An agent without a turn handler speaks by itself: `doctor` has nothing to complain of."""
        await Gathering.active(world)
        statistics = await world.deliveries.statistics(world.at(50))
        assert (statistics.oldest_queued_age, statistics.oldest_queued_recipient_id) == (None, None)
        await world.send(world.alice, world.dave, now=world.at(20))
        statistics = await world.deliveries.statistics(world.at(50))
        assert statistics.oldest_queued_recipient_id == world.dave
        assert statistics.oldest_queued_age == pytest.approx(30, abs=0.01)

    async def test_a_claimed_one_is_listed_as_others_are(self, world: World) -> None:
        meeting = await Gathering.active(world)
        assert await world.deliveries.find_waiting(world.start) == [(world.alice, Kind.TURN)]
        claimed = await meeting.claim_turn()
        assert await world.deliveries.list_claims(world.owner) == [claimed.claim]
        receipt = await meeting.duty(1)
        assert (receipt.kind, receipt.state, receipt.owner) == (Kind.TURN, CLAIMED, world.owner)


class ClaimedActConformance(StoreFixtures):
    """`act` with the claim of a turn handler's run."""

    async def test_the_act_settles_the_delivery(self, world: World) -> None:
        meeting = await Gathering.active(world)
        for number, act in enumerate([Speak, Pass], 1):
            claimed = await meeting.claim_turn(at=3)
            holder = claimed.recipient_id
            acted = await meeting.do(
                act(holder, number), claim=claimed, speech=speech() if act is Speak else None, at=4
            )
            assert acted.ended_turn == number
            receipt = await meeting.duty(number)
            assert (receipt.state, receipt.settled_at, receipt.attempt) == (DONE, world.at(4), 1)
            assert (await world.settle(claimed, Settling.RETRY)).moved == [False]
            assert (await meeting.duty(number)).state is DONE
        assert await world.deliveries.list_claims(world.owner) == []
        assert [how for _, _, how in await meeting.course()] == [TurnEnd.SPOKE, TurnEnd.PASSED, None]

    async def test_under_a_claim_that_is_not_the_newest_nothing_happens(self, world: World) -> None:
        meeting = await Gathering.active(world)
        old = await meeting.claim_turn()
        await world.settle(old, Settling.RETURNED)
        # Nor under one that is not open.
        assert await meeting.refuses(Speak(world.alice, 1), speech=speech(), claim=old) is Why.TURN_LOST
        newest = await meeting.claim_turn()
        assert await meeting.refuses(Speak(world.alice, 1), speech=speech(), claim=old) is Why.TURN_LOST
        assert await meeting.refuses(Pass(world.alice, 1), claim=old) is Why.TURN_LOST
        await meeting.speak(world.alice, 1, claim=newest)

    async def test_a_claim_is_lost_with_the_turn_also_where_it_comes_round_again(self, world: World) -> None:
        meeting = await Gathering.active(world, world.alice)
        late = await meeting.claim_turn()
        await meeting.speak(world.alice, 1)
        assert await meeting.refuses(Pass(world.alice), claim=late) is Why.TURN_LOST
        await meeting.end()
        assert await meeting.refuses(Speak(world.alice, 1), speech=speech(), claim=late) is Why.TURN_LOST

    async def test_an_act_refused_by_the_rules_leaves_the_claim_open(self, world: World) -> None:
        meeting = await Gathering.active(world)
        claimed = await meeting.claim_turn()
        act = Speak(world.alice, 1, world.dave)
        assert await meeting.refuses(act, speech=speech(), claim=claimed) is Why.NEXT_NOT_SEATED
        assert await world.deliveries.list_claims(world.owner) == [claimed.claim]
        assert await meeting.refuses(Pass(world.alice, 1), claim=claimed, at=61) is Why.TURN_LOST
        await meeting.speak(world.alice, 1, claim=claimed)

    async def test_its_process_is_not_told_that_it_ran_in_vain(self, world: World) -> None:
        meeting = await Gathering.active(world)
        runner = new_id()
        claimed = await meeting.claim_turn(owner=runner)
        acted = await meeting.speak(world.alice, 1, claim=claimed, owner=runner)
        assert runner not in acted.processes


class RepeatConformance(StoreFixtures):
    """Repeating what may have been done, and idempotency keys."""

    async def test_repeating_a_speech_answers_as_the_first_time(self, world: World) -> None:
        meeting = await Gathering.active(world)
        said = speech()
        first = await meeting.speak(world.alice, 1, speech=said, at=1)
        before = await meeting.everything()
        again = await meeting.do(Speak(world.alice, 1), speech=said, at=1)
        assert (again.ended_turn, again.message_id, again.status) == (1, said.message_id, first.status)
        assert again.turn == first.turn
        assert await meeting.everything() == before

    async def test_also_later_when_the_turn_is_long_over(self, world: World) -> None:
        meeting = await Gathering.active(world, world.alice, world.bob)
        said = speech()
        await meeting.speak(world.alice, 1, speech=said)
        await meeting.speak()
        await meeting.speak()
        for _ in range(2):
            before = await meeting.everything()
            again = await meeting.do(Speak(world.alice, 1), speech=said, at=500)
            assert (again.ended_turn, again.message_id) == (1, said.message_id)
            assert await meeting.everything() == before
            await meeting.end()
            # And once the meeting has ended.
            break
        again = await meeting.do(Speak(world.alice), speech=said, at=500)
        assert (again.ended_turn, again.message_id) == (1, said.message_id)

    async def test_repeating_a_start_with_an_opening_message(self, world: World) -> None:
        meeting = await Gathering.ready(world)
        opening = speech()
        await meeting.do(Start(world.alice, True), speech=opening)
        before = await meeting.everything()
        again = await meeting.do(Start(world.alice, True), speech=opening)
        assert (again.ended_turn, again.message_id) == (1, opening.message_id)
        assert await meeting.everything() == before

    async def test_repeating_a_speech_under_its_claim(self, world: World) -> None:
        meeting = await Gathering.active(world)
        claimed = await meeting.claim_turn()
        said = speech()
        await meeting.speak(world.alice, 1, speech=said, claim=claimed)
        again = await meeting.do(Speak(world.alice, 1), speech=said, claim=claimed)
        assert (again.ended_turn, again.message_id) == (1, said.message_id)
        assert len(spoken(await meeting.history())) == 1

    async def test_acts_without_a_speech_are_judged_anew(self, world: World) -> None:
        meeting = await Gathering.active(world, world.alice)
        await meeting.do(Pass(world.alice))
        await meeting.do(Pass(world.alice))
        assert await meeting.refuses(Pass(world.alice, 1)) is Why.TURN_LOST
        assert (await meeting.turn()).number == 3

    async def test_what_was_refused_can_be_said_later_under_the_same_id_and_key(self, world: World) -> None:
        meeting = await Gathering.active(world)
        said = speech(idempotency_key="k", fingerprint="f")
        assert await meeting.refuses(Speak(world.bob), speech=said) is Why.NOT_YOUR_TURN
        await meeting.speak()
        assert (await meeting.speak(world.bob, speech=said)).message_id == said.message_id

    async def test_a_key_that_was_used_is_judged_before_anything_else(self, world: World) -> None:
        meeting = await Gathering.active(world)
        options: dict[str, Any] = {"idempotency_key": "k", "fingerprint": "f"}
        first = speech(**options)
        await meeting.speak(world.alice, 1, speech=first)
        for at in (0, 500):
            before = await meeting.everything()
            assert await meeting.act(Speak(world.alice, 1), speech=speech(**options), at=at) == Duplicate(
                [first.message_id]
            )
            other = speech(idempotency_key="k", fingerprint="g")
            assert await meeting.act(Speak(world.alice, 7, world.dave), speech=other, at=at) == KeyConflict()
            assert await meeting.everything() == before
        await meeting.end()
        assert await meeting.act(Speak(world.alice, 1), speech=speech(**options)) == Duplicate([first.message_id])
        elsewhere = await Gathering.active(world)
        assert await elsewhere.act(Speak(world.alice, 1), speech=speech(**options)) == Duplicate([first.message_id])
        opening = await Gathering.ready(world)
        assert await opening.act(Start(world.alice, True), speech=speech(**options)) == Duplicate([first.message_id])
        assert await opening.status() is MeetingStatus.READY

    async def test_a_key_is_judged_before_the_claim(self, world: World) -> None:
        meeting = await Gathering.active(world)
        lost = await meeting.claim_turn()
        first = speech(idempotency_key="k", fingerprint="f")
        await meeting.speak(world.alice, 1, speech=first)
        again = speech(idempotency_key="k", fingerprint="f")
        assert await meeting.act(Speak(world.alice, 1), speech=again, claim=lost) == Duplicate([first.message_id])

    async def test_a_key_is_of_one_sender_and_of_the_call_speak(self, world: World) -> None:
        meeting = await Gathering.active(world)
        options: dict[str, Any] = {"idempotency_key": "k", "fingerprint": "f"}
        await world.send(world.alice, world.bob, call="send", **options)
        first, second = speech(**options), speech(**options)
        await meeting.speak(world.alice, speech=first)
        await meeting.speak(world.bob, speech=second)
        deliveries = world.deliveries
        assert await deliveries.find_repeat(world.alice, "speak", "k", "f") == Duplicate([first.message_id])
        assert await deliveries.find_repeat(world.bob, "speak", "k", "f") == Duplicate([second.message_id])
        assert await deliveries.find_repeat(world.alice, "speak", "k", "g") == KeyConflict()
        assert await deliveries.find_repeat(world.carol, "speak", "k", "f") is None

    async def test_repeating_a_speech_with_a_key(self, world: World) -> None:
        """A caller that lost the answer has the same id and the same key: it is told as if it had no key."""
        meeting = await Gathering.active(world)
        said = speech(idempotency_key="k", fingerprint="f")
        first = await meeting.speak(world.alice, 1, speech=said)
        before = await meeting.everything()
        again = await meeting.do(Speak(world.alice, 1), speech=said)
        assert (again.ended_turn, again.message_id, again.turn) == (1, said.message_id, first.turn)
        assert await meeting.everything() == before


class TimeOutConformance(StoreFixtures):
    """`time_out`."""

    async def test_a_turn_whose_time_is_over_ends_and_the_next_begins(self, world: World) -> None:
        meeting = await Gathering.active(world)
        assert (await meeting.time_out(59)).meetings == {}
        timed_out = await meeting.time_out(61)
        (acted,) = timed_out.meetings.values()
        assert list(timed_out.meetings) == [meeting.id]
        assert (acted.status, acted.ended_turn, acted.message_id) == (MeetingStatus.ACTIVE, 1, None)
        assert acted.turn == await meeting.turn(61)
        assert (acted.turn.number, acted.turn.agent_id) == (2, world.bob)
        assert (acted.turn.started_at, acted.turn.deadline_at) == (world.at(61), world.at(61 + DURATION))
        first = (await meeting.turns())[0]
        assert (first.how, first.ended_at) == (TurnEnd.TIMED_OUT, world.at(61))
        names = await names_of(world, [world.alice, world.bob])
        note = (await meeting.history())[-1]
        assert (note.message_type, note.sender_id) == (MessageType.TIMEOUT, world.alice)
        content = json.loads(note.content)
        assert (content["timed_out_agent"], content["next_speaker"]) == (names[world.alice], names[world.bob])
        timeout, changed = (await meeting.events())[-2:]
        assert timeout.data == {"timed_out_agent_id": world.alice, "next_speaker_id": world.bob, "turn": 1}
        assert [timeout.type, changed.type] == ["timeout_occurred", "turn_changed"]

    async def test_each_turn_ends_once(self, world: World) -> None:
        meeting = await Gathering.active(world)
        assert list((await meeting.time_out(61)).meetings) == [meeting.id]
        before = await meeting.everything()
        assert (await meeting.time_out(61)).meetings == {}
        # Long after, when every process was down meanwhile: one turn, not as many as would have fitted.
        assert await meeting.everything() == before
        assert list((await meeting.time_out(10_000)).meetings) == [meeting.id]
        assert (await meeting.time_out(10_000)).meetings == {}
        assert (await meeting.turn()).number == 3

    async def test_a_turn_that_came_round_to_the_same_speaker_has_its_whole_time(self, world: World) -> None:
        meeting = await Gathering.active(world, world.alice)
        await meeting.speak(at=50)
        assert (await meeting.time_out(61)).meetings == {}
        assert list((await meeting.time_out(111)).meetings) == [meeting.id]

    async def test_it_tells_when_the_next_turn_ends(self, world: World) -> None:
        assert await world.store.meetings.time_out(10, now=world.start) == TimedOut({}, None)
        ready = await Gathering.ready(world)
        assert await ready.time_out(0) == TimedOut({}, None)
        await Gathering.active(world, turn_duration=40.0)
        await Gathering.active(world, turn_duration=None)
        await ready.start(at=10)
        assert (await ready.time_out(10)).next_in == pytest.approx(30, abs=0.01)
        # The turns that begin here count.
        timed_out = await ready.time_out(75)
        assert len(timed_out.meetings) == 2
        assert timed_out.next_in == pytest.approx(40, abs=0.01)

    async def test_of_many_at_most_so_many_are_ended_at_a_time(self, world: World) -> None:
        meetings = [await Gathering.active(world) for _ in range(5)]
        later = await Gathering.active(world, turn_duration=600.0)
        ended: list[str] = []
        for size in (2, 2, 1):
            timed_out = await later.time_out(61, limit=2)
            assert len(timed_out.meetings) == size
            ended += timed_out.meetings
            if len(ended) < 5:
                assert timed_out.next_in is not None
                assert timed_out.next_in <= 0
        assert sorted(ended) == sorted(meeting.id for meeting in meetings)
        assert [(await meeting.turn()).number for meeting in (*meetings, later)] == [2] * 5 + [1]

    async def test_a_selection_that_takes_too_long_is_left_to_the_order(self, world: World) -> None:
        meeting = await Gathering.active(world, selection=SpeakerSelection.CUSTOM)
        await meeting.speak()
        acted = (await meeting.time_out(SELECTION_LIMIT + 1)).meetings[meeting.id]
        assert acted.turn is not None
        assert (acted.ended_turn, acted.turn.agent_id, acted.turn.purpose) == (2, world.bob, Purpose.SPEAK)
        assert await meeting.refuses(Choose(2, world.carol)) is Why.TURN_LOST

    async def test_a_silent_host_that_names_the_speakers_does_not_stop_its_meeting(self, world: World) -> None:
        meeting = await Gathering.active(world, selection=SpeakerSelection.HOST)
        await meeting.time_out(61)
        assert await meeting.holder() == world.bob

    async def test_the_clock_is_the_stores(self, world: World) -> None:
        """Without an instant given: what is left shrinks, and the turn ends when nothing is left."""
        meetings = world.store.meetings
        meeting = Gathering(world, plan(world.alice, world.bob, turn_duration=0.2))
        await meetings.create(meeting.plan, owner=world.owner)
        assert isinstance(await meetings.act(meeting.id, Attend(world.bob), owner=world.owner), Acted)
        acted = await meetings.act(meeting.id, Start(world.alice), owner=world.owner)
        assert isinstance(acted, Acted)
        turn = acted.turn
        assert turn is not None
        assert turn.left is not None
        assert turn.deadline_at is not None
        assert 0 < turn.left <= 0.2
        assert abs(turn.started_at - datetime.now(UTC)) < timedelta(seconds=5)
        assert turn.deadline_at - turn.started_at == pytest.approx(timedelta(seconds=0.2), abs=timedelta(seconds=0.01))

        async def left() -> float:
            (standing,) = (await meetings.find_standings([(meeting.id, world.alice)])).values()
            row = await meetings.find_meeting(meeting.id)
            assert standing is not None
            assert standing.turn is not None
            assert standing.turn.left is not None
            assert row is not None
            assert row.turn is not None
            assert row.turn.left is not None
            assert row.turn.left <= standing.turn.left
            return row.turn.left

        await eventually(left, until=lambda left: left < 0)
        late = await meetings.act(meeting.id, Speak(world.alice, 1), owner=world.owner, speech=speech())
        assert isinstance(late, Refused)
        assert late.why is Why.TURN_LOST
        timed_out = await meetings.time_out(10)
        acted = timed_out.meetings[meeting.id]
        assert acted.turn is not None
        assert acted.turn.number == 2
        assert timed_out.next_in is not None
        assert 0 < timed_out.next_in <= 0.2
        ended = await meetings.act(meeting.id, End(world.alice), owner=world.owner)
        assert isinstance(ended, Acted)
        assert (await meetings.time_out(10)).next_in is None


class TurnConformance(DutyConformance, ClaimedActConformance, RepeatConformance, TimeOutConformance):
    """Turns and what ends them."""
