"""What can be read of meetings: listings, standings, history, turns, events and their feed, figures."""

from __future__ import annotations

import json
from dataclasses import replace
from secrets import token_hex

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import Kind, MeetingEventType, MeetingStatus, MessageType, ParticipantStatus, TurnEnd
from agent_messaging.storage.assembly.terms import Attend, Leave
from agent_messaging.storage.ports import EventPage, MeetingStatistics, Narrowing, SpeechCount, Standing

from .base import StoreFixtures
from .gathering import DURATION, Feed, Gathering, speech, spoken
from .world import World, ids

CREATED, READY, ACTIVE, ENDED = MeetingStatus


class MeetingListingConformance(StoreFixtures):
    """`find_meeting`, `list_seats`, `list_meetings`, and `find_standings`."""

    async def test_an_unknown_meeting(self, world: World) -> None:
        meetings, unknown = world.store.meetings, new_id()
        assert await meetings.find_meeting(unknown) is None
        assert await meetings.list_seats(unknown) == []
        assert await meetings.list_messages(unknown, limit=9) == []
        assert await meetings.find_standings([(unknown, world.alice)], recent=9) == {(unknown, world.alice): None}
        assert await meetings.list_turns(unknown, limit=9) == []
        assert await meetings.list_events(unknown, limit=9) == []
        assert await meetings.count_speeches(unknown) == []
        assert await meetings.count_messages(unknown) == 0

    async def test_seats_are_listed_in_the_order_of_joining_also_those_that_were_left(self, world: World) -> None:
        meeting = await Gathering.create(world, world.dave, world.carol, world.alice, world.bob)
        await meeting.do(Leave(world.alice))
        seats = await meeting.store.list_seats(meeting.id)
        assert [(seat.agent_id, seat.join_order) for seat in seats] == [
            (world.dave, 0),
            (world.carol, 1),
            (world.alice, 2),
            (world.bob, 3),
        ]
        assert seats[2].status is ParticipantStatus.LEFT

    async def test_meetings_are_listed_newest_first_and_in_pages(self, world: World) -> None:
        created = [await Gathering.create(world, at=number) for number in range(4)]
        await created[1].attend()
        newest_first = [meeting.id for meeting in reversed(created)]
        meetings = world.store.meetings
        rows = await meetings.list_meetings(None, statuses=None, limit=10)
        assert [row.meeting_id for row in rows] == newest_first
        assert rows[2] == await created[1].row()
        page = await meetings.list_meetings(None, statuses=None, limit=2, offset=1)
        assert [row.meeting_id for row in page] == newest_first[1:3]
        assert await meetings.list_meetings(None, statuses=None, limit=2, offset=4) == []
        for agent in (None, world.alice):
            older = await meetings.list_meetings(agent, statuses=None, limit=2, before_id=newest_first[1])
            assert [row.meeting_id for row in older] == newest_first[2:4]
            middle = rows[2].created_at
            dated = await meetings.list_meetings(agent, statuses=None, limit=9, date_from=middle, date_to=middle)
            assert (
                [row.meeting_id for row in dated] == [row.meeting_id for row in rows if row.created_at == middle] != []
            )

    async def test_meetings_of_an_agent_are_those_it_hosts_or_has_a_seat_in(self, world: World) -> None:
        hosted = await Gathering.create(world, world.bob, world.carol, at=1)
        invited = await Gathering.create(world, world.alice, world.bob, at=2)
        await Gathering.create(world, world.alice, world.carol, at=3)
        left = await Gathering.ready(world, world.alice, world.bob, at=4)
        await left.do(Leave(world.bob))
        attended = await Gathering.active(world, world.carol, world.bob, at=5)
        meetings = world.store.meetings
        rows = await meetings.list_meetings(world.bob, statuses=None, limit=10)
        assert [row.meeting_id for row in rows] == [attended.id, left.id, invited.id, hosted.id]
        assert replace(rows[0], turn=None) == replace(await attended.row(), turn=None)
        assert rows[0].turn is not None
        assert replace(rows[0].turn, left=None) == replace(await attended.turn(), left=None)
        page = await meetings.list_meetings(world.bob, statuses=None, limit=1, offset=1)
        assert [row.meeting_id for row in page] == [left.id]
        assert await meetings.list_meetings(world.dave, statuses=None, limit=10) == []
        assert await meetings.list_meetings(new_id(), statuses=None, limit=10) == []

    async def test_meetings_are_listed_by_status(self, world: World) -> None:
        created, ready = await Gathering.create(world), await Gathering.ready(world)
        active, ended = await Gathering.active(world), await Gathering.active(world, world.carol, world.dave)
        await ended.end()
        by_status = {CREATED: created, READY: ready, ACTIVE: active, ENDED: ended}
        meetings = world.store.meetings
        for agent in (None, world.carol):
            for status, meeting in by_status.items():
                rows = await meetings.list_meetings(agent, statuses=[status], limit=10)
                assert [(row.meeting_id, row.status) for row in rows] == [(meeting.id, status)]
            rows = await meetings.list_meetings(agent, statuses={CREATED, ACTIVE}, limit=10)
            assert [row.meeting_id for row in rows] == [active.id, created.id]
        assert await meetings.list_meetings(world.dave, statuses=[CREATED], limit=10) == []
        assert await meetings.list_meetings(None, statuses=[], limit=10) == []

    async def test_standings_tell_where_agents_stand(self, world: World) -> None:
        created, active = await Gathering.create(world), await Gathering.active(world)
        await active.speak(at=10)
        await active.do(Leave(world.carol), at=10)
        unknown = new_id()
        keys: list[tuple[str, str | None]] = [
            (created.id, world.alice),
            (created.id, world.bob),
            (active.id, world.alice),
            (active.id, world.bob),
            (active.id, world.carol),
            (active.id, world.dave),
            (unknown, world.alice),
            (active.id, None),
            (unknown, None),
        ]
        found = await active.store.find_standings(keys, world.at(20))
        turn = await active.turn(20)
        assert turn.left == pytest.approx(DURATION - 10, abs=0.001)
        status = ParticipantStatus
        assert found == {
            keys[0]: Standing(CREATED, status.ATTENDING, None),
            keys[1]: Standing(CREATED, status.INVITED, None),
            keys[2]: Standing(ACTIVE, status.WAITING, turn),
            keys[3]: Standing(ACTIVE, status.SPEAKING, turn),
            keys[4]: Standing(ACTIVE, status.LEFT, turn),
            keys[5]: Standing(ACTIVE, None, turn),
            keys[6]: None,
            keys[7]: Standing(ACTIVE, None, turn),
            keys[8]: None,
        }
        await active.end()
        found = await active.store.find_standings(keys[2:3])
        assert found == {keys[2]: Standing(ENDED, status.ATTENDING, None)}
        assert await active.store.find_standings([]) == {}

    async def test_what_is_left_of_a_turn_falls_below_zero(self, world: World) -> None:
        meeting = await Gathering.active(world)
        left = (await meeting.turn(DURATION + 5)).left
        assert left == pytest.approx(-5, abs=0.001)


class HistoryConformance(StoreFixtures):
    """`list_messages`, what `find_standings` brings along, `list_turns`."""

    async def test_the_history_has_speeches_and_notes_oldest_first_and_in_pages(self, world: World) -> None:
        meeting, other = await Gathering.active(world), await Gathering.active(world)
        said = [speech(), speech()]
        await meeting.speak(speech=said[0], at=1)
        await other.speak()
        await meeting.time_out(61, limit=100)
        await meeting.speak(world.carol, speech=said[1], at=62)
        rows = await meeting.history()
        assert [row.message_type for row in rows] == [
            MessageType.SYSTEM,
            MessageType.SYSTEM,
            MessageType.USER_DEFINED,
            MessageType.TIMEOUT,
            MessageType.USER_DEFINED,
        ]
        assert spoken(rows) == [one.message_id for one in said]
        assert [row.seq for row in rows] == sorted({row.seq for row in rows})
        assert [row.kind for row in rows] == [Kind.MEETING] * 5
        page = await meeting.store.list_messages(meeting.id, limit=2)
        assert page == rows[:2]
        assert await meeting.store.list_messages(meeting.id, limit=2, after_seq=page[-1].seq) == rows[2:4]
        assert await meeting.store.list_messages(meeting.id, limit=2, after_seq=rows[-1].seq) == []
        assert await meeting.store.count_messages(meeting.id) == 5
        newest = await meeting.store.list_messages(meeting.id, limit=2, offset=1, newest_first=True)
        assert newest == [rows[3], rows[2]]
        between = await meeting.store.list_messages(meeting.id, limit=9, after_seq=rows[0].seq, before_seq=rows[3].seq)
        assert between == rows[1:3]
        for narrowing, found in (
            (Narrowing(types=[MessageType.TIMEOUT, MessageType.USER_DEFINED]), rows[2:]),
            (Narrowing(date_from=rows[3].created_at), rows[3:]),
            (Narrowing(date_to=rows[2].created_at), rows[:3]),
            (Narrowing(needles=["%"]), []),
        ):
            assert await meeting.store.list_messages(meeting.id, limit=9, narrowing=narrowing) == found
            back = await meeting.store.list_messages(meeting.id, limit=9, newest_first=True, narrowing=narrowing)
            assert back == found[::-1]

    async def test_the_last_messages_are_those_since_ones_own_last_speech(self, world: World) -> None:
        meeting = await Gathering.active(world)
        for _ in range(5):
            await meeting.speak()
        await meeting.time_out(61)
        rows = await meeting.history()
        last = meeting.last
        assert [row.sender_id for row in rows[2:]] == [
            world.alice,
            world.bob,
            world.carol,
            world.alice,
            world.bob,
            world.carol,
        ]
        # What the SDK notes of an agent is no speech of its own: carol has been silent since the fifth.
        assert await last(world.carol, 100) == rows[5:]
        assert await last(world.alice, 100) == rows[6:]
        assert await last(world.bob, 100) == rows[7:]
        assert await last(world.alice, 1) == rows[7:]
        # Who has said nothing has missed everything.
        assert await last(world.dave, 100) == await last(None, 100) == rows
        assert await last(world.dave, 3) == rows[-3:]

    async def test_speeches_in_other_meetings_do_not_count_as_ones_last(self, world: World) -> None:
        meeting, other = await Gathering.active(world), await Gathering.active(world)
        await meeting.speak()
        await other.speak()
        await meeting.speak()
        rows = await meeting.last(world.alice, 100)
        assert [row.sender_id for row in rows] == [world.bob]

    async def test_turns_are_listed_in_their_order_and_in_pages(self, world: World) -> None:
        meeting = await Gathering.active(world)
        said = speech()
        await meeting.speak(speech=said, at=1)
        await meeting.pass_on(at=2)
        turns = await meeting.store.list_turns(meeting.id, limit=10)
        assert [(turn.number, turn.agent_id, turn.how, turn.message_id) for turn in turns] == [
            (1, world.alice, TurnEnd.SPOKE, said.message_id),
            (2, world.bob, TurnEnd.PASSED, None),
            (3, world.carol, None, None),
        ]
        # One turn ends at the instant at which the next begins.
        assert [(turn.started_at, turn.ended_at) for turn in turns] == [
            (world.start, world.at(1)),
            (world.at(1), world.at(2)),
            (world.at(2), None),
        ]
        assert [turn.deadline_at for turn in turns] == [world.at(seconds + DURATION) for seconds in (0, 1, 2)]
        assert [turn.left is None for turn in turns] == [True, True, False]
        assert [turn.number for turn in await meeting.store.list_turns(meeting.id, limit=2)] == [1, 2]
        assert [turn.number for turn in await meeting.store.list_turns(meeting.id, limit=2, after=1)] == [2, 3]
        assert await meeting.store.list_turns(meeting.id, limit=2, after=3) == []


class EventConformance(StoreFixtures):
    """`list_events`, `record_event`, and the feed."""

    async def test_events_are_listed_oldest_first_and_in_pages(self, world: World) -> None:
        meeting, other = await Gathering.active(world), await Gathering.active(world)
        await other.speak()
        await meeting.speak()
        rows = await meeting.events()
        assert [row.type for row in rows] == [
            MeetingEventType.PARTICIPANT_JOINED,
            MeetingEventType.PARTICIPANT_JOINED,
            MeetingEventType.MEETING_STARTED,
            MeetingEventType.TURN_CHANGED,
            MeetingEventType.MESSAGE_POSTED,
            MeetingEventType.TURN_CHANGED,
        ]
        assert {row.meeting_id for row in rows} == {meeting.id}
        assert [row.seq for row in rows] == sorted({row.seq for row in rows})
        page = await meeting.store.list_events(meeting.id, limit=4)
        assert page == rows[:4]
        assert await meeting.store.list_events(meeting.id, limit=4, after_seq=page[-1].seq) == rows[4:]
        assert await meeting.store.list_events(meeting.id, limit=4, after_seq=rows[-1].seq) == []

    async def test_an_event_of_a_callers_own(self, world: World) -> None:
        meeting = await Gathering.create(world)
        feed = await Feed.open(meeting.store)
        data = {"error_type": "event_handler", "é": ["株", 1, None, {"deep": 1.5}]}
        type_ = MeetingEventType.ERROR_OCCURRED
        assert await meeting.store.record_event(meeting.id, type_, world.bob, data, now=world.at(7))
        assert await meeting.store.record_event(meeting.id, type_, None, {})
        first, second = await meeting.events()
        assert (first.type, first.agent_id, first.data, first.created_at) == (type_, world.bob, data, world.at(7))
        assert (second.agent_id, second.data, second.message) == (None, {}, None)
        assert not await meeting.store.record_event(new_id(), type_, world.bob, data)
        await feed.reads([first, second])

    async def test_the_feed_has_the_events_of_all_meetings_behind_its_beginning(self, world: World) -> None:
        before = await Gathering.active(world)
        feed, in_small_pages = await Feed.open(before.store), await Feed.open(before.store, limit=2)
        meetings = [await Gathering.active(world), before, await Gathering.create(world)]
        await before.speak()
        await meetings[0].speak()
        await meetings[2].do(Attend(world.bob))
        expected = [event for meeting in meetings for event in await meeting.events()]
        expected = sorted(expected, key=lambda event: event.seq)[4:]
        await feed.reads(expected)
        await in_small_pages.reads(expected)
        assert {event.meeting_id for event in feed.events} == {meeting.id for meeting in meetings}
        posted = [event.message for event in feed.events if event.type is MeetingEventType.MESSAGE_POSTED]
        assert ids(message for message in posted if message) == [
            *spoken(await before.history()),
            *spoken(await meetings[0].history()),
        ]

    async def test_where_the_feed_ends_the_next_begins_and_nothing_is_told_twice(self, world: World) -> None:
        meeting = await Gathering.active(world)
        feed = await Feed.open(meeting.store)
        seen = len(await meeting.events())
        for number in range(5):
            await meeting.speak()
            events = await meeting.events()
            await feed.reads(events[seen:])
            later = await Feed.open(meeting.store)
            assert await later.read() == []
            assert len(events) == seen + 2 * (number + 1)
        # Reading again from an old place gives the same again.
        again = Feed(meeting.store, (await Feed.open(meeting.store)).cursor, 3)
        await meeting.end()
        await again.reads((await meeting.events())[-1:])

    async def test_a_page_of_the_feed_ends_where_it_is_big_enough(self, world: World) -> None:
        meeting = await Gathering.active(world)
        feed = await Feed.open(meeting.store)
        for number, size in enumerate((10, 100, 3_000, 10, 5_000, 10)):
            text = token_hex(size // 2)  # which no store makes smaller
            if number % 2:
                await meeting.speak(speech=speech(json.dumps(text)))
            else:
                type_ = MeetingEventType.ERROR_OCCURRED
                assert await meeting.store.record_event(meeting.id, type_, None, {"big": text})
        events = (await meeting.events())[4:]
        assert len(events) == 9, "a speech comes with the change of the turn"
        await Feed(meeting.store, feed.cursor, 100).reads(events)
        for most_bytes, limit, expected in ((2_000, 100, [4, 3, 2]), (2_000, 3, [3, 1, 3, 2]), (1, 100, [1] * 9)):
            pages: list[EventPage] = []
            again = Feed(meeting.store, feed.cursor, limit, most_bytes)
            while not pages or not pages[-1].is_end:
                pages.append(await again.read_page())
            assert [len(page.events) for page in pages if page.events] == expected
            assert again.events == events

    async def test_the_feed_of_an_empty_store(self, world: World) -> None:
        feed = await Feed.open(world.store.meetings)
        assert await feed.read() == []
        meeting = await Gathering.active(world)
        await feed.reads(await meeting.events())


class FigureConformance(StoreFixtures):
    """`count_speeches`, `count_messages`, and `statistics`."""

    async def test_speeches_are_counted_for_each_that_spoke(self, world: World) -> None:
        meeting, other = await Gathering.active(world), await Gathering.active(world)
        for at, content in enumerate(['"é株"', '"bob"', '{"a":1}', '"alice"'], 1):
            next_id = world.bob if at == 3 else world.alice
            if at == 1:
                next_id = world.bob
            await meeting.speak(speech=speech(content), next_id=next_id, at=at)
        await other.speak(world.alice)
        await other.speak(world.bob)
        await meeting.time_out(100)
        counts = await meeting.store.count_speeches(meeting.id)
        assert sorted(counts, key=lambda count: count.agent_id) == [
            SpeechCount(world.alice, 2, world.at(1), world.at(3), len('"é株"') + len('{"a":1}')),
            SpeechCount(world.bob, 2, world.at(2), world.at(4), len('"bob"') + len('"alice"')),
        ]
        assert await meeting.store.count_messages(meeting.id) == len(await meeting.history()) == 2 + 4 + 1

    async def test_an_agents_meetings_in_figures(self, world: World) -> None:
        statistics = world.store.meetings.statistics
        assert await statistics(world.bob) == MeetingStatistics(0, 0, 0, 0, 0, None)
        hosted = await Gathering.active(world, world.bob, world.alice, at=0)
        await hosted.speak()
        await hosted.speak()
        await hosted.speak()
        await Gathering.create(world, world.bob, world.carol)
        await Gathering.create(world, world.alice, world.bob)  # where it never came
        left = await Gathering.active(world)
        await left.do(Leave(world.bob))
        assert await statistics(world.bob) == MeetingStatistics(
            hosted=2, participated=1, active_hosted=1, messages=2, spoke_in=1, average_duration=None
        )
        await hosted.end(at=10)
        both = await Gathering.active(world)
        await both.speak()
        await both.speak(at=1)
        await both.end(at=30)
        never_began = await Gathering.ready(world)
        await never_began.end(at=500)
        found = await statistics(world.bob)
        assert found.average_duration == pytest.approx(20, abs=0.001)
        assert replace(found, average_duration=None) == MeetingStatistics(
            hosted=2, participated=3, active_hosted=0, messages=3, spoke_in=2, average_duration=None
        )
        assert await statistics(world.dave) == MeetingStatistics(0, 0, 0, 0, 0, None)

    async def test_notes_are_no_speeches(self, world: World) -> None:
        meeting = await Gathering.active(world)
        await meeting.time_out(61)
        assert await meeting.store.count_speeches(meeting.id) == []
        assert (await meeting.store.statistics(world.alice)).messages == 0
        assert json.loads((await meeting.history())[-1].content)["type"] == "timeout"


class MeetingRecordConformance(MeetingListingConformance, HistoryConformance, EventConformance, FigureConformance):
    """All that is read of meetings."""
