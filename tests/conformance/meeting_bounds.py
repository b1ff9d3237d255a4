"""Meetings that end by themselves: by their turns, by their time, and because the host's process says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from agent_messaging.models import MeetingEnd, MeetingEventType, MeetingStatus, MessageType, SpeakerSelection, TurnEnd
from agent_messaging.storage.assembly.rules import SELECTION_LIMIT
from agent_messaging.storage.assembly.terms import Bounds, Choose, Close, Leave, Pass, Purpose, Skip, Speak, Start, Why
from agent_messaging.storage.ports import Acted, MeetingRow, Store

from .base import StoreFixtures
from .gathering import DURATION, Gathering, plan, remove_agent, speech
from .world import World

ACTIVE, ENDED = MeetingStatus.ACTIVE, MeetingStatus.ENDED


async def ended_by(meeting: Gathering, reason: MeetingEnd, at: float = 0.0) -> MeetingRow:
    """The meeting, which has ended for this reason; its history and its events say so once, at their end."""
    row = await meeting.row(at)
    assert (row.status, row.end_reason, row.turn) == (ENDED, reason, None)
    events = [event for event in await meeting.events() if event.type is MeetingEventType.MEETING_ENDED]
    assert [event.data for event in events] == [{"host_id": meeting.host, "reason": reason.value}]
    assert (await meeting.events())[-1] == events[0]
    endings = [message for message in await meeting.history() if message.message_type is MessageType.ENDING]
    assert len(endings) == 1
    assert (await meeting.notes())[-1]["reason"] == reason.value
    return row


WAYS: dict[TurnEnd, Callable[[Gathering], Awaitable[object]]] = {
    TurnEnd.SPOKE: lambda meeting: meeting.speak(meeting.world.bob, 2),
    TurnEnd.PASSED: lambda meeting: meeting.do(Pass(meeting.world.bob, 2)),
    TurnEnd.SKIPPED: lambda meeting: meeting.do(Skip(meeting.host, 2)),
    TurnEnd.TIMED_OUT: lambda meeting: meeting.time_out(DURATION + 1),
    TurnEnd.LEFT: lambda meeting: meeting.do(Leave(meeting.world.bob)),
}


class MaxTurnsConformance(StoreFixtures):
    """`max_turns`."""

    @pytest.mark.parametrize("how", WAYS, ids=str)
    async def test_with_its_last_turn_a_meeting_ends(self, world: World, how: TurnEnd) -> None:
        meeting = await Gathering.active(world, max_turns=2)
        assert (await meeting.row()).turns_taken == 0
        await meeting.pass_on()
        assert ((await meeting.row()).status, (await meeting.row()).turns_taken) == (ACTIVE, 1)
        await WAYS[how](meeting)
        row = await ended_by(meeting, MeetingEnd.MAX_TURNS)
        assert (row.max_turns, row.turns_taken) == (2, 2)
        assert (await meeting.course())[1:] == [(2, world.bob, how)]
        assert list(await meeting.duties()) == [1, 2]
        assert await meeting.refuses(Speak(world.carol), speech=speech()) is Why.WRONG_STATUS
        assert await meeting.time_out(10**6) == await meeting.time_out(10**6)

    async def test_the_last_turn_may_be_that_of_an_agent_that_is_removed(self, world: World) -> None:
        meeting = await Gathering.active(world, max_turns=2)
        await meeting.pass_on()
        await remove_agent(world, world.bob)
        await ended_by(meeting, MeetingEnd.MAX_TURNS)

    async def test_everybody_is_told(self, world: World) -> None:
        meeting = await Gathering.active(world, max_turns=1)
        acted = await meeting.speak()
        assert (acted.status, acted.turn, acted.ended_turn) == (ENDED, None, 1)
        assert acted.processes == {world.owner}

    async def test_an_opening_is_a_turn(self, world: World) -> None:
        meeting = await Gathering.ready(world, max_turns=1)
        acted = await meeting.do(Start(world.alice, has_message=True), speech=speech(), at=3)
        assert (acted.status, acted.turn, acted.ended_turn) == (ENDED, None, 1)
        row = await ended_by(meeting, MeetingEnd.MAX_TURNS)
        assert (row.started_at, row.ended_at) == (world.at(3), world.at(3))

    async def test_the_start_may_say_what_bounds_it(self, world: World) -> None:
        meeting = await Gathering.ready(world, max_turns=9, max_duration=900.0)
        await meeting.do(Start(world.alice, bounds=Bounds(max_turns=2, end_when=True)), at=5)
        row = await meeting.row()
        assert (row.max_turns, row.max_duration, row.deadline_at) == (2, 900.0, world.at(905))
        await meeting.pass_on()
        assert (await meeting.turn()).purpose is Purpose.SELECT
        other = await Gathering.ready(world, max_duration=900.0)
        await other.do(Start(world.alice, bounds=Bounds(max_duration=20.0)), at=5)
        row = await other.row()
        assert (row.max_turns, row.max_duration, row.deadline_at) == (None, 20.0, world.at(25))
        assert (await other.turn()).deadline_at == world.at(25)

    async def test_turns_in_which_speakers_are_chosen_do_not_count(self, world: World) -> None:
        meeting = await Gathering.active(world, selection=SpeakerSelection.CUSTOM, max_turns=2)
        await meeting.pass_on()
        await meeting.do(Choose(2, world.carol))
        assert (await meeting.row()).turns_taken == 1
        await meeting.speak(world.carol, 3)
        await ended_by(meeting, MeetingEnd.MAX_TURNS)

    async def test_a_speech_that_is_repeated_takes_no_second_turn(self, world: World) -> None:
        meeting = await Gathering.active(world, max_turns=2)
        said = speech()
        for _ in range(2):
            acted = await meeting.do(Speak(world.alice, 1), speech=said)
            assert acted.status is ACTIVE
        assert (await meeting.row()).turns_taken == 1


class MaxDurationConformance(StoreFixtures):
    """`max_duration`."""

    async def test_it_ends_by_time_though_its_turns_do_not(self, world: World) -> None:
        meeting = await Gathering.ready(world, turn_duration=None, max_duration=100.0)
        assert (await meeting.row()).deadline_at is None
        assert (await meeting.time_out(1_000)).next_in is None
        await meeting.start(at=7)
        assert (await meeting.row()).deadline_at == world.at(107)
        assert (await meeting.turn()).deadline_at == world.at(107)
        assert (await meeting.time_out(8)).next_in == pytest.approx(99, abs=0.01)
        assert (await meeting.time_out(106)).meetings == {}
        (acted,) = (await meeting.time_out(107)).meetings.values()
        assert (acted.status, acted.turn, acted.ended_turn) == (ENDED, None, 1)
        row = await ended_by(meeting, MeetingEnd.MAX_DURATION)
        assert (row.max_duration, row.ended_at) == (100.0, world.at(107))
        assert await meeting.course() == [(1, world.alice, TurnEnd.MEETING_ENDED)]
        assert (await meeting.time_out(10**6)).meetings == {}

    async def test_its_last_turn_is_cut_short(self, world: World) -> None:
        meeting = await Gathering.active(world, max_duration=DURATION + 10)
        await meeting.time_out(DURATION)
        assert (await meeting.turn(DURATION)).deadline_at == world.at(DURATION + 10)
        late = await meeting.act(Speak(world.bob, 2), speech=speech(), at=DURATION + 10)
        assert getattr(late, "why", None) is Why.TURN_LOST
        await meeting.time_out(DURATION + 10)
        await ended_by(meeting, MeetingEnd.MAX_DURATION)

    async def test_both_deadlines_at_one_instant_end_it_once(self, world: World) -> None:
        meeting = await Gathering.active(world, max_duration=DURATION, max_turns=1)
        assert list((await meeting.time_out(DURATION)).meetings) == [meeting.id]
        await ended_by(meeting, MeetingEnd.MAX_DURATION)
        assert "timeout_occurred" not in await meeting.event_types()

    async def test_long_after_it_it_ends_once_and_no_turn_comes_between(self, world: World) -> None:
        """As when every process was down meanwhile."""
        meeting = await Gathering.active(world, max_duration=3 * DURATION)
        assert list((await meeting.time_out(10_000)).meetings) == [meeting.id]
        row = await ended_by(meeting, MeetingEnd.MAX_DURATION)
        assert row.ended_at == world.at(10_000)
        assert await meeting.course() == [(1, world.alice, TurnEnd.MEETING_ENDED)]

    async def test_while_a_speaker_is_chosen_it_ends_too(self, world: World) -> None:
        meeting = await Gathering.active(world, selection=SpeakerSelection.CUSTOM, max_duration=SELECTION_LIMIT / 2)
        await meeting.pass_on()
        assert (await meeting.turn()).deadline_at == world.at(SELECTION_LIMIT / 2)
        await meeting.time_out(SELECTION_LIMIT / 2)
        await ended_by(meeting, MeetingEnd.MAX_DURATION)

    async def test_no_turn_begins_behind_it(self, world: World) -> None:
        meeting = await Gathering.active(world, max_duration=20.0)
        await meeting.do(Skip(world.alice, 1), at=21)
        await ended_by(meeting, MeetingEnd.MAX_DURATION)

    async def test_of_several_processes_one_ends_it(self, world: World, second_store: Store) -> None:
        meetings = [await Gathering.active(world, max_duration=5.0) for _ in range(3)]
        stores = [world.store, second_store, world.store]
        found = await asyncio.gather(*(store.meetings.time_out(100, now=world.at(6)) for store in stores))
        assert sorted(id for one in found for id in one.meetings) == sorted(meeting.id for meeting in meetings)
        for meeting in meetings:
            await ended_by(meeting, MeetingEnd.MAX_DURATION)

    async def test_of_several_at_one_instant_the_oldest_meeting_ends_first(self, world: World) -> None:
        meetings = [await Gathering.ready(world, max_duration=5.0) for _ in range(3)]
        for meeting in reversed(meetings):
            await meeting.start()
        ended = [list((await meeting.time_out(6, limit=1)).meetings) for meeting in meetings]
        assert ended == [[id] for id in sorted(meeting.id for meeting in meetings)]


class EndWhenConformance(StoreFixtures):
    """`end_when`: after each turn the host's process is asked."""

    async def test_between_two_turns_the_hosts_process_can_end_it(self, world: World) -> None:
        meeting = await Gathering.active(world, end_when=True)
        acted = await meeting.speak()
        assert acted.turn is not None
        assert (acted.turn.purpose, acted.turn.agent_id, acted.turn.next_id) == (
            Purpose.SELECT,
            world.alice,
            world.bob,
        )
        assert acted.turn == await meeting.turn()
        await meeting.do(Choose(2, None))
        assert await meeting.holder() == world.bob
        await meeting.speak(world.bob, 3)
        await meeting.do(Close(4, MeetingEnd.END_WHEN))
        await ended_by(meeting, MeetingEnd.END_WHEN)
        assert (await meeting.row()).turns_taken == 2

    async def test_without_the_hosts_process_it_goes_on(self, world: World) -> None:
        meeting = await Gathering.active(world, end_when=True)
        await meeting.speak(next_id=world.carol)
        await meeting.time_out(SELECTION_LIMIT)
        assert await meeting.holder() == world.carol

    async def test_who_was_to_follow_may_leave_meanwhile(self, world: World) -> None:
        meeting = await Gathering.active(world, end_when=True)
        await meeting.speak()
        await meeting.do(Leave(world.bob))
        await meeting.do(Choose(2, None))
        assert await meeting.holder() == world.carol

    async def test_who_was_to_follow_may_be_removed_meanwhile(self, world: World) -> None:
        meeting = await Gathering.active(world, end_when=True)
        await meeting.speak()
        await remove_agent(world, world.bob)
        await meeting.do(Choose(2, None))
        assert (await meeting.turn()).purpose is Purpose.SPEAK

    async def test_elsewhere_the_hosts_process_cannot_end_it(self, world: World) -> None:
        meeting = await Gathering.active(world)
        assert await meeting.refuses(Close(1, MeetingEnd.END_WHEN)) is Why.TURN_LOST
        meeting = await Gathering.active(world, selection=SpeakerSelection.CUSTOM)
        await meeting.pass_on()
        assert await meeting.refuses(Close(1, MeetingEnd.NOBODY)) is Why.TURN_LOST
        await meeting.do(Close(2, MeetingEnd.NOBODY))
        await ended_by(meeting, MeetingEnd.NOBODY)

    async def test_a_silent_host_has_no_turn(self, world: World) -> None:
        meeting = await Gathering.active(world, host_speaks=False)
        assert not (await meeting.row()).host_speaks
        for number, agent in enumerate([world.bob, world.carol, world.bob], 1):
            assert await meeting.holder() == agent
            await meeting.speak(agent, number)
        await meeting.do(Leave(world.bob))
        await meeting.do(Leave(world.carol))
        await ended_by(meeting, MeetingEnd.NOBODY)

    async def test_nothing_bounds_a_meeting_unless_it_is_said(self, world: World) -> None:
        meeting = Gathering(world, plan(world.alice))
        await meeting.store.create(meeting.plan, owner=world.owner, now=world.start)
        row = await meeting.row()
        assert (row.max_turns, row.max_duration, row.deadline_at, row.end_reason) == (None, None, None, None)
        assert (row.host_speaks, row.turns_taken) == (True, 0)
        assert isinstance(await meeting.end(), Acted)
        await ended_by(meeting, MeetingEnd.HOST_ENDED)


class BoundConformance(MaxTurnsConformance, MaxDurationConformance, EndWhenConformance):
    """Meetings that end by themselves."""
