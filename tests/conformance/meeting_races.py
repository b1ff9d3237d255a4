"""Meetings with many at once: one act wins a turn, whoever loses is told, and every reading goes on from the last."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any
from unittest.mock import ANY

import pytest

from agent_messaging.exceptions import DatabaseError
from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import DeliveryState, Kind, MeetingEventType, MeetingStatus, ParticipantStatus, TurnEnd
from agent_messaging.storage.assembly.terms import Attend, End, Leave, Pass, Refused, Skip, Speak, Start, Why
from agent_messaging.storage.ports import (
    Acted,
    Created,
    Duplicate,
    KeyConflict,
    Settling,
    Store,
    TimedOut,
    UnknownAgents,
)
from agent_messaging.testing.waiting import eventually

from .base import StoreFixtures
from .gathering import DURATION, Feed, Gathering, names_of, plan, remove_agent, speech, spoken
from .races import at_once
from .world import World, ids

ROUNDS = 5
ERROR = MeetingEventType.ERROR_OCCURRED


async def check_turns(meeting: Gathering) -> None:
    """What holds of every course: numbers rise by one, one speech for each turn that ended with one, one is current."""
    turns = await meeting.turns()
    assert [turn.number for turn in turns] == list(range(1, len(turns) + 1))
    row = await meeting.row()
    current = [turn for turn in turns if turn.ended_at is None]
    assert current == ([turns[-1]] if row.status is MeetingStatus.ACTIVE else [])
    said = [turn.message_id for turn in turns if turn.how is TurnEnd.SPOKE]
    assert said == spoken(await meeting.history())
    assert len(set(said)) == len(said)
    events = Counter(event.type for event in await meeting.events())
    ends = Counter(turn.how for turn in turns)
    assert events[MeetingEventType.MESSAGE_POSTED] == ends[TurnEnd.SPOKE]
    assert events[MeetingEventType.TIMEOUT_OCCURRED] == ends[TurnEnd.TIMED_OUT]
    assert events[MeetingEventType.TURN_CHANGED] == len(turns)
    holders = [agent for agent, status in (await meeting.seats()).items() if status is ParticipantStatus.SPEAKING]
    assert holders == [turn.agent_id for turn in current]
    duties = await meeting.duties()
    numbers = {duty.message_id: number for number, duty in duties.items()}
    receipts = await meeting.world.deliveries.list_receipts(list(numbers))
    open_ones = [numbers[receipt.message_id] for receipt in receipts if not receipt.state.is_final]
    assert open_ones == [turn.number for turn in current]


class MeetingRaceConformance(StoreFixtures):
    """Two stores on the same data, and several tasks on each."""

    @pytest.fixture
    def there(self, world: World, second_store: Store) -> World:
        """The same world through another store."""
        return replace(world, store=second_store, owner=new_id())

    async def test_of_two_processes_that_fire_a_time_out_one_does(self, world: World, there: World) -> None:
        meeting = await Gathering.active(world)
        for number in range(1, ROUNDS + 1):
            at = number * (DURATION + 1)
            fired = await at_once(*(side.store.meetings.time_out(10, now=world.at(at)) for side in (world, there) * 2))
            assert Counter(len(one.meetings) for one in fired) == {0: 3, 1: 1}
            assert (await meeting.turn()).number == number + 1
        assert {how for _, _, how in await meeting.course()} == {TurnEnd.TIMED_OUT, None}
        await check_turns(meeting)

    async def test_acts_that_come_together_are_judged_each_for_itself(self, world: World) -> None:
        """They may share a transaction: one that is refused, repeated or in vain says so, and the others are done."""
        same = await Gathering.active(world)
        claimed = await same.claim_turn(world.alice)
        fine = [await Gathering.active(world) for _ in range(8)]
        again, first, second, late = [await Gathering.active(world) for _ in range(4)]
        said, keyed = speech(), speech(idempotency_key="k", fingerprint="f")
        await again.do(Speak(world.alice, 1), speech=said)
        outcomes = await at_once(
            *(meeting.act(Speak(world.alice, 1), speech=speech()) for meeting in fine),
            *(meeting.act(Pass(world.bob, 2)) for meeting in fine),
            again.act(Speak(world.alice, 1), speech=said),
            first.act(Speak(world.alice, 1), speech=keyed),
            second.act(Speak(world.alice, 1), speech=replace(keyed, message_id=new_id(), fingerprint="g")),
            late.act(Speak(world.alice, 7), speech=speech()),
            same.act(Speak(world.alice, 1), speech=speech(), claim=claimed),
            same.act(Pass(world.alice, 1), claim=claimed),
            world.store.meetings.act(new_id(), Attend(world.bob), owner=world.owner, now=world.start),
        )
        assert all(isinstance(outcome, Acted) and outcome.ended_turn == 1 for outcome in outcomes[:8])
        assert all(isinstance(outcome, Acted | Refused) for outcome in outcomes[8:16])
        repeat, *keys, too_late, once, never, unknown = outcomes[16:]
        assert isinstance(repeat, Acted)
        assert (repeat.ended_turn, repeat.message_id) == (1, said.message_id)
        assert Counter(map(type, keys)) == {Acted: 1, KeyConflict: 1}
        assert isinstance(too_late, Refused)
        assert Counter(map(type, (once, never))) == {Acted: 1, Refused: 1}
        assert unknown is None
        for meeting in (*fine, again, first, second, late, same):
            await check_turns(meeting)

    async def test_an_act_that_cannot_be_stored_fails_no_other_that_comes_with_it(self, world: World) -> None:
        stored = speech()
        await (await Gathering.active(world)).do(Speak(world.alice, 1), speech=stored)
        meetings = [await Gathering.active(world) for _ in range(5)]
        outcomes = await asyncio.gather(
            *(meeting.act(Speak(world.alice, 1), speech=speech()) for meeting in meetings[:3]),
            meetings[3].act(Speak(world.alice, 1), speech=stored),  # its id is another meeting's speech
            meetings[4].act(Speak(world.alice, 1), speech=speech()),
            return_exceptions=True,
        )
        assert isinstance(outcomes[3], DatabaseError)
        assert all(isinstance(outcome, Acted) for outcome in (*outcomes[:3], outcomes[4]))
        for meeting in meetings:
            await check_turns(meeting)

    async def test_each_of_many_turns_that_are_over_ends_once(self, world: World, there: World) -> None:
        """Whoever takes some leaves the others to others; together they get all."""
        meetings = [await Gathering.active(world) for _ in range(9)]
        ended: Counter[str] = Counter()

        async def fire(side: World) -> None:
            while True:
                timed_out = await side.store.meetings.time_out(2, now=world.at(DURATION + 1))
                ended.update(list(timed_out.meetings))
                if timed_out.next_in is not None and timed_out.next_in > 0:
                    return

        await at_once(*(fire(side) for side in (world, there) * 2))
        assert ended == {meeting.id: 1 for meeting in meetings}
        for meeting in meetings:
            assert (await meeting.turn()).number == 2

    async def test_of_a_speech_and_a_time_out_one_ends_the_turn(self, world: World, there: World) -> None:
        """The speaker believes that there is time left, the timer that there is none."""
        here = await Gathering.active(world)
        other = here.through(there)
        for number in range(1, 2 * ROUNDS + 1):
            turn = await here.turn()
            at = (turn.started_at - world.start).total_seconds()
            speaking = other.act(Speak(turn.agent_id, number), speech=speech(), at=at + 1)
            firing = here.time_out(at + DURATION + 0.5)
            spoke: object
            fired: object
            if number % 2:
                spoke, fired = await asyncio.gather(speaking, firing)
            else:
                fired, spoke = await asyncio.gather(firing, speaking)
            assert isinstance(fired, TimedOut)
            how = (await here.turns())[number - 1].how
            if how is TurnEnd.SPOKE:
                assert isinstance(spoke, Acted)
                assert (spoke.ended_turn, fired.meetings) == (number, {})
            else:
                assert how is TurnEnd.TIMED_OUT
                assert isinstance(spoke, Refused)
                assert spoke.why is Why.TURN_LOST
                assert fired.meetings[here.id].ended_turn == number
        await check_turns(here)

    async def test_under_one_turn_one_speech_is_stored(self, world: World, there: World) -> None:
        here = await Gathering.active(world)
        sides = [here, here.through(there)] * 3
        for number in range(1, ROUNDS + 1):
            agent = await here.holder()
            speeches = [speech() for _ in sides]
            outcomes = await at_once(
                *(side.act(Speak(agent, number), speech=said) for side, said in zip(sides, speeches, strict=True))
            )
            won = [said for said, outcome in zip(speeches, outcomes, strict=True) if isinstance(outcome, Acted)]
            assert len(won) == 1
            assert Counter(one.why for one in outcomes if isinstance(one, Refused)) == {Why.TURN_LOST: 5}
            assert (await here.turns())[-2].message_id == won[0].message_id
        await check_turns(here)

    async def test_of_all_that_ends_a_turn_one_does(self, world: World, there: World) -> None:
        """A speech by hand, a handler's run, a pass, and a skip."""
        here = await Gathering.active(world)
        other = here.through(there)
        ends = [TurnEnd.SPOKE, TurnEnd.SPOKE, TurnEnd.PASSED, TurnEnd.SKIPPED]
        for number in range(1, ROUNDS + 1):
            agent = await here.holder()
            claimed = await here.claim_turn()
            acts = [
                other.act(Speak(agent, number), speech=speech()),
                here.act(Speak(agent, number), speech=speech(), claim=claimed),
                other.act(Pass(agent, number)),
                here.act(Skip(here.host, number)),
            ]
            order = [(place + number) % 4 for place in range(4)]
            outcomes = dict(zip(order, await at_once(*(acts[place] for place in order)), strict=True))
            (won,) = [place for place, one in outcomes.items() if isinstance(one, Acted)]
            assert {one.why for one in outcomes.values() if isinstance(one, Refused)} == {Why.TURN_LOST}
            assert (await here.course())[number - 1 :] == [(number, agent, ends[won]), (number + 1, ANY, None)]
            assert (await here.duty(number)).state is (DeliveryState.DONE if won == 1 else DeliveryState.WITHDRAWN)
            assert (await world.settle(claimed, Settling.DEAD)).moved == [False]
        await check_turns(here)

    async def test_a_meeting_ended_while_somebody_speaks(self, world: World, there: World) -> None:
        for number in range(ROUNDS):
            here = await Gathering.active(world)
            other = here.through(there)
            said = speech()
            calls = [here.act(End(here.host)), other.act(Speak(here.host, 1), speech=said), other.act(Leave(world.bob))]
            order = [(place + number) % 3 for place in range(3)]
            answers = dict(zip(order, await at_once(*(calls[place] for place in order)), strict=True))
            assert isinstance(answers[0], Acted)
            assert answers[0].turn is None
            if isinstance(answers[1], Acted):
                assert spoken(await here.history()) == [said.message_id]
            else:
                assert isinstance(answers[1], Refused)
                assert answers[1].why is Why.WRONG_STATUS
                assert spoken(await here.history()) == []
            assert (await here.course())[-1][2] is TurnEnd.MEETING_ENDED
            assert (await here.events())[-1].type is MeetingEventType.MEETING_ENDED
            assert await here.status() is MeetingStatus.ENDED
            await check_turns(here)

    async def test_a_meeting_is_started_and_ended_once(self, world: World, there: World) -> None:
        for _ in range(ROUNDS):
            here = await Gathering.ready(world)
            sides = [here, here.through(there)] * 2
            started = await at_once(*(side.act(Start(here.host)) for side in sides))
            assert Counter(type(one) for one in started) == {Acted: 1, Refused: 3}
            ended = await at_once(*(side.act(End(here.host)) for side in sides))
            assert Counter(type(one) for one in ended) == {Acted: 1, Refused: 3}
            types = await here.event_types()
            assert (types.count("meeting_started"), types.count("meeting_ended")) == (1, 1)

    async def test_when_all_attend_at_once_the_meeting_is_ready(self, world: World, there: World) -> None:
        for _ in range(ROUNDS):
            here = await Gathering.create(world, world.alice, world.bob, world.carol, world.dave)
            others = here.plan.participant_ids[1:]
            sides = (here, here.through(there))
            outcomes = await at_once(*(side.act(Attend(agent)) for side in sides for agent in others))
            assert Counter(type(one) for one in outcomes) == {Acted: 3, Refused: 3}
            assert [one.status for one in outcomes if isinstance(one, Acted)].count(MeetingStatus.READY) == 1
            assert await here.status() is MeetingStatus.READY
            assert len(await here.events()) == 3

    async def test_one_call_repeated_at_once_is_one_call(self, world: World, there: World) -> None:
        for _ in range(ROUNDS):
            planned = plan(world.alice, world.bob, invite=True)
            stores = [world.store.meetings, there.store.meetings] * 2
            created = await at_once(*(store.create(planned, owner=world.owner, now=world.start) for store in stores))
            assert created == [Created(MeetingStatus.CREATED)] * 4
            here = Gathering(world, planned)
            assert len(await here.seats()) == 2
            await here.attend()
            await here.start()
            said = speech()
            sides = [here, here.through(there)] * 2
            acted = await at_once(*(side.do(Speak(world.alice, 1), speech=said) for side in sides))
            assert {(one.ended_turn, one.message_id) for one in acted} == {(1, said.message_id)}
            assert spoken(await here.history()) == [said.message_id]
            await check_turns(here)

    async def test_of_calls_with_one_key_at_once_one_is_stored(self, world: World, there: World) -> None:
        for number in range(ROUNDS):
            here = await Gathering.active(world, world.alice)
            elsewhere = await Gathering.active(there, world.alice)
            key = f"key-{number}"
            speeches = [speech(idempotency_key=key, fingerprint="f") for _ in range(4)]
            sides = [here, here.through(there), elsewhere, elsewhere.through(world)]
            outcomes = await at_once(
                *(side.act(Speak(world.alice), speech=said) for side, said in zip(sides, speeches, strict=True))
            )
            (won,) = [one for one, outcome in zip(speeches, outcomes, strict=True) if isinstance(outcome, Acted)]
            assert [one for one in outcomes if not isinstance(one, Acted)] == [Duplicate([won.message_id])] * 3
            assert spoken([*await here.history(), *await elsewhere.history()]) == [won.message_id]
            await at_once(here.end(), elsewhere.end())

    async def test_a_turn_that_is_claimed_and_ended_at_once(self, world: World, there: World) -> None:
        for _ in range(ROUNDS):
            here = await Gathering.active(world)
            claimed, _ = await asyncio.gather(there.claim(world.alice, kind=Kind.TURN), here.do(Skip(here.host, 1)))
            assert (await here.duty(1)).state is DeliveryState.WITHDRAWN
            for one in claimed:
                assert (await there.settle(one)).moved == [False]
            await here.end()

    async def test_a_run_that_ends_while_its_claim_is_given_back(self, world: World, there: World) -> None:
        """Either it was in time, or the turn is there for whoever takes it over."""
        here = await Gathering.active(world, world.alice)
        for number in range(1, ROUNDS + 1):
            claimed = await here.claim_turn()

            acted, settled = await asyncio.gather(
                here.act(Speak(world.alice, number), speech=speech(), claim=claimed),
                there.settle(claimed, Settling.RETURNED),
            )
            state = (await here.duty(number)).state
            assert settled.moved == [not isinstance(acted, Acted)]
            if isinstance(acted, Acted):
                assert state is DeliveryState.DONE
            else:
                assert isinstance(acted, Refused)
                assert acted.why is Why.TURN_LOST
                assert state is DeliveryState.QUEUED
                await here.speak(world.alice, number, claim=await here.claim_turn())
        await check_turns(here)

    async def test_agents_removed_while_they_meet_leave_nothing_half(self, world: World, there: World) -> None:
        """Also in several meetings at once, from both sides: nobody waits for ever for somebody else's lock."""
        agents = (world.alice, world.bob, world.carol, world.dave)
        meetings = [await Gathering.active(world, *agents) for _ in range(6)]
        hosted = await Gathering.active(world, world.bob, world.carol, world.alice)
        names = await names_of(world, agents)

        async def talk(meeting: Gathering, side: World) -> None:
            there_ = meeting.through(side)
            for number in range(1, 12):
                turn = (await there_.row()).turn
                if turn is not None:
                    await there_.act(Speak(turn.agent_id, turn.number), speech=speech())
                if number % 3 == 0:
                    await there_.time_out(DURATION * number)

        async def remove(side: World, agent: str) -> None:
            assert await side.store.directory.remove_agent(names[agent])

        await at_once(
            *(talk(meeting, side) for meeting, side in zip(meetings, (world, there) * 3, strict=True)),
            remove(world, world.bob),
            remove(there, world.carol),
        )
        assert await hosted.store.find_meeting(hosted.id) is None
        for meeting in meetings:
            assert set(await meeting.seats()) == {world.alice, world.dave}
            turn = await meeting.turn()
            assert turn.agent_id in (world.alice, world.dave)
            left = [event for event in await meeting.events() if event.type is MeetingEventType.PARTICIPANT_LEFT]
            assert Counter(event.agent_id for event in left) == {world.bob: 1, world.carol: 1}
            numbers = [one.number for one in await meeting.turns()]
            assert numbers == list(range(1, len(numbers) + 1))
            await meeting.speak(turn.agent_id, turn.number, at=0)
        assert await world.store.check() == []

    async def test_a_meeting_created_while_one_of_its_agents_is_removed(self, world: World, there: World) -> None:
        """It is refused, or the agent has left it: no meeting waits for somebody who will never come."""
        for number in range(ROUNDS):
            name = f"passing-{number}-{new_id()}"
            agent = await world.store.directory.add_agent(
                new_id(), name, world.organization_id, name, update_name=False
            )
            assert agent is not None
            planned = plan(world.alice, str(agent.id), invite=True)
            creating = world.store.meetings.create(planned, owner=world.owner, now=world.start)
            removing = there.store.directory.remove_agent(name)
            calls: list[Coroutine[Any, Any, object]] = [creating, removing] if number % 2 else [removing, creating]
            answers = await at_once(*calls)
            created = answers[0] if number % 2 else answers[1]
            if isinstance(created, Created):
                here = Gathering(world, planned)
                assert await here.seats() == {world.alice: ParticipantStatus.ATTENDING}
                assert await here.event_types() == ["participant_left"]
                assert await here.status() is MeetingStatus.READY
            else:
                assert created == UnknownAgents([str(agent.id)])
                assert await world.store.meetings.find_meeting(planned.meeting_id) is None

    async def test_a_host_removed_while_others_act(self, world: World, there: World) -> None:
        meetings = [await Gathering.active(world, world.bob, world.alice, world.carol) for _ in range(4)]

        async def talk(meeting: Gathering) -> None:
            while (row := await meeting.store.find_meeting(meeting.id)) is not None and row.turn is not None:
                act = Speak(row.turn.agent_id, row.turn.number)
                outcome = await meeting.act(act, speech=speech())
                assert outcome is None or isinstance(outcome, Acted)

        await at_once(
            *(talk(meeting.through(side)) for meeting, side in zip(meetings, (world, there) * 2, strict=True)),
            remove_agent(there, world.bob),
        )
        for meeting in meetings:
            assert (await meeting.turns(), await meeting.history(), await meeting.events()) == ([], [], [])
        assert await world.deliveries.find_waiting(world.start) == []
        assert await world.store.check() == []

    async def test_every_reading_is_a_prefix_of_the_later_ones_and_the_feed_skips_nothing(
        self, world: World, there: World
    ) -> None:
        meetings = [await Gathering.active(world, world.alice, world.bob) for _ in range(4)]
        finished = asyncio.Event()
        before = {meeting.id: len(await meeting.events()) for meeting in meetings}
        feeds = [await Feed.open(side.store.meetings, limit) for side, limit in ((world, 3), (there, 100))]

        async def talk(meeting: Gathering) -> None:
            """As two processes that both try: those that lose have nothing said."""
            while True:
                turn = await meeting.turn()
                if turn.number > 20:
                    return
                await meeting.act(Speak(turn.agent_id, turn.number), speech=speech())
                await meeting.store.record_event(meeting.id, ERROR, None, {})

        async def follow_feed(feed: Feed) -> None:
            while not finished.is_set():
                await feed.read_page()

        async def follow(meeting: Gathering) -> None:
            history: list[str] = []
            followed: list[str] = []
            events: list[int] = []
            after = 0
            while True:
                last_time = finished.is_set()
                rows = await meeting.store.list_messages(meeting.id, limit=1000, after_seq=after)
                followed += ids(rows)
                after = rows[-1].seq if rows else after
                now = ids(await meeting.history())
                assert now[: len(history)] == history
                assert now[: len(followed)] == followed
                history = now
                happened = [event.seq for event in await meeting.events()]
                assert happened[: len(events)] == events
                events = happened
                if last_time:
                    assert followed == now
                    return

        async def all_talk() -> None:
            await at_once(*(talk(side) for meeting in meetings for side in (meeting, meeting.through(there))))
            finished.set()

        await at_once(all_talk(), *map(follow_feed, feeds), follow(meetings[0]), follow(meetings[1].through(there)))
        for meeting in meetings:
            await check_turns(meeting)
            expected = [event.seq for event in (await meeting.events())[before[meeting.id] :]]
            for feed in feeds:
                await feed.reaches(meeting.id, expected)
        for feed in feeds:
            assert len({event.seq for event in feed.events}) == len(feed.events)

    async def test_events_of_one_meeting_are_committed_in_their_order(self, world: World, there: World) -> None:
        """Whoever goes on behind the last one that was seen misses none, however many record at once."""
        meeting = await Gathering.create(world)
        finished = asyncio.Event()

        async def record(side: World) -> None:
            for _ in range(20):
                await side.store.meetings.record_event(meeting.id, ERROR, None, {})

        async def record_all() -> None:
            await at_once(*(record(side) for side in (world, there) * 3))
            finished.set()

        async def follow(side: World) -> None:
            followed: list[int] = []
            while True:
                last_time = finished.is_set()
                after = followed[-1] if followed else 0
                rows = await side.store.meetings.list_events(meeting.id, limit=1000, after_seq=after)
                followed += [event.seq for event in rows]
                if last_time:
                    assert followed == [event.seq for event in await meeting.events()]
                    assert len(followed) == 120
                    return

        await at_once(record_all(), follow(world), follow(there))

    async def test_what_happens_after_a_place_in_the_feed_was_found_is_read_from_there(
        self, world: World, there: World
    ) -> None:
        """While others write: also what got its number before, and commits late."""
        meetings = [await Gathering.create(world) for _ in range(3)]
        opened: list[tuple[Feed, str]] = []

        async def record(side: World, meeting: Gathering) -> None:
            for _ in range(10):
                feed = await Feed.open(side.store.meetings)
                mark = new_id()
                data = {"mark": mark}
                assert await meeting.through(side).store.record_event(meeting.id, ERROR, None, data)
                opened.append((feed, mark))

        await at_once(*(record(side, meeting) for side in (world, there) for meeting in meetings))
        everything = {event.seq for meeting in meetings for event in await meeting.events()}
        assert len(everything) == 60
        for feed, mark in opened:
            events = await eventually(feed.read_all, until=lambda events: len(events) >= 1)
            assert mark in [event.data["mark"] for event in events], "an event was skipped"
            assert {event.seq for event in events} <= everything
