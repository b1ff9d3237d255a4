"""Meetings in figures, of one that is scripted: what each analysis has, by key and by attribute; that it adds up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from agent_messaging import AgentNotFoundError, MeetingStatus, ParticipantStatus
from agent_messaging.storage.assembly.terms import Act, End, Leave, Pass, Skip, Start
from agent_messaging.storage.ports import Acted
from tests.client.meeting_support import Table
from tests.client.support import MakeSdk, Sdk


@pytest.fixture
async def scripted(sdk: Sdk) -> Table:
    """alice opens, bob speaks twice in a row, carol is skipped and leaves on her next turn, alice is cut by the end."""
    table = await Table.gather(sdk, "bob", "carol", turn_duration=30)
    await sdk.meeting.start_meeting("alice", table.id, {"text": "one"})
    await table.speak("bob", {"text": "two"}, next_speaker_external_id="bob")
    await table.speak("bob", {"text": "three"})
    await sdk.meeting.skip_turn("alice", table.id)
    await table.speak("alice", {"text": "four"}, next_speaker_external_id="carol")
    await sdk.meeting.leave_meeting("carol", table.id)
    await table.end()
    return table


async def test_the_course_of_the_scripted_meeting(scripted: Table) -> None:
    assert await scripted.course() == [
        (1, "alice", "spoke"),
        (2, "bob", "spoke"),
        (3, "bob", "spoke"),
        (4, "carol", "skipped"),
        (5, "alice", "spoke"),
        (6, "carol", "left"),
        (7, "alice", "meeting_ended"),
    ]


async def test_details(sdk: Sdk, scripted: Table) -> None:
    details = await sdk.meeting.get_meeting_details(str(scripted.id))
    assert set(details) == {
        *("meeting_id", "host", "status", "current_speaker", "turn_duration_seconds", "turn_started_at", "created_at"),
        *(
            "started_at",
            "ended_at",
            "end_reason",
            "participants",
            "participant_count",
            "attending_count",
            "message_count",
        ),
    }
    assert details == await sdk.meeting.get_meeting_details(scripted.id)
    assert (details.meeting_id, details["status"]) == (scripted.id, MeetingStatus.ENDED)
    assert (details.host, details.host.name) == ({"id": "alice", "name": "Alice"}, "Alice")
    assert (details.current_speaker, details.turn_started_at, details.turn_duration_seconds) == (None, None, 30)
    assert (details.participants, details.participant_count, details.attending_count) == (["alice", "bob"], 2, 2)
    assert details.message_count == len(await scripted.history()) == 9
    assert details.created_at <= details.started_at <= details.ended_at


async def test_details_of_a_meeting_that_goes_on(sdk: Sdk) -> None:
    table = await Table.invite(sdk, "bob", "carol")
    await sdk.meeting.attend_meeting("bob", table.id)
    details = await sdk.meeting.get_meeting_details(table.id)
    assert (details.participant_count, details.attending_count, details.started_at) == (3, 2, None)
    await sdk.meeting.attend_meeting("carol", table.id)
    await sdk.meeting.start_meeting("alice", table.id)
    details = await sdk.meeting.get_meeting_details(table.id)
    assert (details.attending_count, details.current_speaker.id, details.message_count) == (3, "alice", 2)
    assert details.turn_started_at == details.started_at


async def test_participant_history(sdk: Sdk, scripted: Table) -> None:
    alice, bob, carol = await sdk.meeting.get_participant_history(str(scripted.id))
    assert set(bob) == {"id", "agent_id", "agent_name", "status", "join_order", "is_locked", "joined_at", "left_at"}
    assert [one.agent_id for one in (alice, bob, carol)] == ["alice", "bob", "carol"]
    assert [one.agent_name for one in (alice, bob, carol)] == ["Alice", "Bob", "Carol"]
    assert [one.join_order for one in (alice, bob, carol)] == [0, 1, 2]
    assert [one.status for one in (bob, carol)] == [ParticipantStatus.ATTENDING, ParticipantStatus.LEFT]
    assert isinstance(bob.id, UUID)
    assert alice.joined_at < bob.joined_at < carol.joined_at < carol.left_at
    assert (bob.left_at, bob.is_locked) == (None, False)


async def test_statistics_of_an_agent(sdk: Sdk, scripted: Table) -> None:
    running = await Table.open(sdk, "bob", host="carol")
    await running.speak("carol")
    await Table.invite(sdk, "carol")
    keys = {
        *("agent_id", "hosted_meetings", "participated_meetings", "active_hosted", "total_messages_sent"),
        *("meetings_spoke_in", "avg_meeting_duration_seconds"),
    }
    found: dict[str, Any] = {}
    for name in ("alice", "bob", "carol"):
        found[name] = await sdk.meeting.get_meeting_statistics(name)
        assert set(found[name]) == keys
        assert await sdk.meeting.get_meeting_statistics((await sdk.get_agent(name)).id) == found[name]
        assert await sdk.meeting.get_meeting_statistics(str((await sdk.get_agent(name)).id)) == found[name]
    details = await sdk.meeting.get_meeting_details(scripted.id)
    duration = (details.ended_at - details.started_at).total_seconds()
    alice, bob, carol = found.values()
    assert (alice.agent_id, alice.hosted_meetings, alice.participated_meetings, alice.active_hosted) == (
        "alice",
        2,
        0,
        0,
    )
    assert (alice.total_messages_sent, alice.meetings_spoke_in) == (2, 1)
    assert alice.avg_meeting_duration_seconds == pytest.approx(duration, abs=0.002)
    assert (bob.hosted_meetings, bob.participated_meetings, bob.total_messages_sent, bob.meetings_spoke_in) == (
        0,
        2,
        2,
        1,
    )
    assert (carol.hosted_meetings, carol.participated_meetings, carol.active_hosted) == (1, 1, 1)
    assert (carol.total_messages_sent, carol.meetings_spoke_in) == (1, 1)


async def test_statistics_of_an_agent_without_meetings(sdk: Sdk) -> None:
    assert await sdk.meeting.get_meeting_statistics("bob") == {
        "agent_id": "bob",
        "hosted_meetings": 0,
        "participated_meetings": 0,
        "active_hosted": 0,
        "total_messages_sent": 0,
        "meetings_spoke_in": 0,
        "avg_meeting_duration_seconds": None,
    }
    with pytest.raises(AgentNotFoundError, match="'bobb'"):
        await sdk.meeting.get_meeting_statistics("bobb")


async def test_participation(sdk: Sdk, scripted: Table) -> None:
    found = await sdk.meeting.get_participation_analysis(str(scripted.id))
    assert set(found) == {
        *("total_participants", "active_participants", "inactive_participants", "participation_rate"),
        *("by_participant", "most_active", "least_active", "total_messages"),
    }
    assert (found.total_participants, found.active_participants, found.inactive_participants) == (3, 2, 1)
    assert found.participation_rate == pytest.approx(200 / 3)
    assert (found.least_active, found.total_messages) == ("carol", 4)
    assert found.most_active in ("alice", "bob")
    alice, bob, carol = (found.by_participant[name] for name in ("alice", "bob", "carol"))
    assert set(bob) == {
        *("message_count", "first_message_at", "last_message_at", "total_content_length", "speaking_time_seconds"),
        *("speaking_time_percentage", "status"),
    }
    assert [one.message_count for one in (alice, bob, carol)] == [2, 2, 0]
    assert bob.total_content_length == len('{"text":"two"}') + len('{"text":"three"}')
    said = [one for one in await scripted.history() if one.message_type == "user_defined"]
    assert (bob.first_message_at, bob.last_message_at) == (said[1].created_at, said[2].created_at)
    assert (carol.first_message_at, carol.last_message_at, carol.total_content_length) == (None, None, 0)
    assert (carol.speaking_time_seconds, carol.status) == (0, ParticipantStatus.LEFT), "who is silent does not speak"
    turns = (await sdk.meeting.get_turn_statistics(scripted.id)).turns
    assert bob.speaking_time_seconds == pytest.approx(sum(one.duration_seconds for one in turns[1:3]))
    assert alice.speaking_time_percentage + bob.speaking_time_percentage == pytest.approx(100)


async def test_turns(sdk: Sdk, scripted: Table) -> None:
    found = await sdk.meeting.get_turn_statistics(str(scripted.id))
    assert set(found) == {
        *("total_turns", "total_messages", "avg_messages_per_turn", "unique_speakers", "turn_changes"),
        *("avg_turn_seconds", "turns", "participants_turn_stats"),
    }
    assert (found.total_turns, found.total_messages, found.unique_speakers, found.turn_changes) == (7, 4, 2, 6)
    assert found.avg_messages_per_turn == pytest.approx(4 / 7)
    assert set(found.turns[0]) == {"number", "agent_id", "started_at", "ended_at", "duration_seconds", "how"}
    assert found.turns[0].duration_seconds == 0, "the opening"
    for one, following in zip(found.turns, found.turns[1:], strict=False):
        assert one.ended_at == following.started_at
    assert found.avg_turn_seconds == pytest.approx(sum(one.duration_seconds for one in found.turns) / 7)
    stats = found.participants_turn_stats
    assert set(stats["bob"]) == {"turns_taken", "messages_sent", "avg_messages_per_turn", "timeouts", "total_seconds"}
    assert {name: (one.turns_taken, one.messages_sent, one.timeouts) for name, one in stats.items()} == {
        "alice": (3, 2, 0),
        "bob": (2, 2, 0),
        "carol": (2, 0, 0),
    }
    assert stats["alice"].avg_messages_per_turn == pytest.approx(2 / 3)
    assert stats["carol"].total_seconds == pytest.approx(
        found.turns[3].duration_seconds + found.turns[5].duration_seconds
    )


async def test_timeouts_are_counted(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob", turn_duration=0.1)
    await table.until_turn(4)
    await table.end()
    found = await sdk.meeting.get_turn_statistics(table.id)
    timeouts = sum(one.timeouts for one in found.participants_turn_stats.values())
    assert timeouts == found.total_turns - 1
    assert (found.total_messages, found.unique_speakers) == (0, 0)
    assert found.participants_turn_stats["alice"].timeouts >= 2


async def test_the_timeline_has_every_event_and_message_in_order(sdk: Sdk, scripted: Table) -> None:
    found = await sdk.meeting.get_meeting_timeline(str(scripted.id))
    assert set(found) == {
        "meeting_id",
        "started_at",
        "ended_at",
        "duration_seconds",
        "status",
        "end_reason",
        "timeline",
    }
    assert (found.meeting_id, found.status) == (scripted.id, "ended")
    assert timedelta(seconds=found.duration_seconds) == found.ended_at - found.started_at
    stamps = [one.timestamp for one in found.timeline]
    assert all(isinstance(stamp, datetime) for stamp in stamps)
    assert stamps == sorted(stamps)
    messages = [one for one in found.timeline if one.type == "message"]
    events = [one for one in found.timeline if one.type == "event"]
    assert set(messages[0]) == {"type", "timestamp", "sender_id", "message_type", "message_id", "content", "is_damaged"}
    assert set(events[0]) == {"type", "timestamp", "event_type", "agent_id", "data"}
    assert [one.message_id for one in messages] == [one.id for one in await scripted.history()]
    said = [one for one in messages if one.message_type == "user_defined"]
    assert [(one.sender_id, one.content["text"]) for one in said] == [
        ("alice", "one"),
        ("bob", "two"),
        ("bob", "three"),
        ("alice", "four"),
    ]
    changes = [one for one in events if one.event_type == "turn_changed"]
    assert [(one.agent_id, one.data["turn"]) for one in changes] == [
        *(("bob", 2), ("bob", 3), ("carol", 4), ("alice", 5), ("carol", 6), ("alice", 7)),
    ]
    assert [one.event_type for one in events if one.event_type not in ("turn_changed", "message_posted")] == [
        *("participant_joined", "participant_joined", "meeting_started", "participant_left", "meeting_ended"),
    ]
    posted = [one for one in events if one.event_type == "message_posted"]
    assert [one.data["content"] for one in posted] == [one.content for one in said]
    assert posted[0].data["sender_external_id"] == "alice"


def course_of(timeline: list[Any]) -> list[str]:
    """Of messages the type of note, of events their type."""
    return [one.content["type"] if one.type == "message" else one.event_type.value.upper() for one in timeline]


async def test_the_timeline_is_in_the_order_of_what_happened_where_the_clock_was_set_back(sdk: Sdk) -> None:
    table = await Table.gather(sdk, "bob", "carol", turn_duration=3600)
    alice, bob, carol = [str((await sdk.get_agent(name)).id) for name in table.people]
    began = datetime.now(UTC)
    acts: tuple[Act, ...] = (Start(alice), Skip(alice), Leave(bob), Pass(carol), End(alice))
    for number, act in enumerate(acts, 1):
        at = began - timedelta(seconds=10 * number)
        owner = sdk.store.presence.process_id
        assert isinstance(await sdk.store.meetings.act(str(table.id), act, owner=owner, now=at), Acted)
    timeline = (await sdk.meeting.get_meeting_timeline(table.id)).timeline
    assert course_of(timeline) == [
        *("participant_joined", "PARTICIPANT_JOINED", "participant_joined", "PARTICIPANT_JOINED"),
        *("MEETING_STARTED", "TURN_CHANGED"),
        *("turn_skipped", "TURN_CHANGED"),
        *("participant_left", "TURN_CHANGED", "PARTICIPANT_LEFT"),
        "TURN_CHANGED",
        *("meeting_ended", "MEETING_ENDED"),
    ]
    assert [one.data["turn"] for one in timeline if one.get("event_type") == "turn_changed"] == [1, 2, 3, 4]


async def test_a_note_without_an_event_is_in_its_place_in_the_timeline(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob", speaker_selection=lambda meeting: "alice")
    for turn in (1, 3, 5):
        await table.until_turn(turn)
        await sdk.meeting.skip_turn("alice", table.id)
    await table.until_turn(7)
    await table.end()
    timeline = (await sdk.meeting.get_meeting_timeline(table.id)).timeline
    assert course_of(timeline)[2:] == [
        *("MEETING_STARTED", "TURN_CHANGED"),
        *("turn_skipped", "TURN_CHANGED", "turn_skipped", "TURN_CHANGED", "turn_skipped", "TURN_CHANGED"),
        *("meeting_ended", "MEETING_ENDED"),
    ]


async def test_figures_of_a_meeting_that_has_not_started_and_of_a_silent_one(sdk: Sdk) -> None:
    table = await Table.invite(sdk, "bob")
    turns = await sdk.meeting.get_turn_statistics(table.id)
    assert (turns.total_turns, turns.avg_messages_per_turn, turns.avg_turn_seconds, turns.turns) == (0, 0.0, None, [])
    participation = await sdk.meeting.get_participation_analysis(table.id)
    assert (participation.participation_rate, participation.most_active, participation.total_messages) == (0.0, None, 0)
    assert participation.least_active is None, "where nobody spoke nobody spoke least"
    assert participation.by_participant["bob"].status is ParticipantStatus.INVITED
    timeline = await sdk.meeting.get_meeting_timeline(table.id)
    assert (timeline.timeline, timeline.duration_seconds, timeline.started_at) == ([], None, None)
    silent = await Table.open(sdk, "bob")
    turns = await sdk.meeting.get_turn_statistics(silent.id)
    assert (turns.total_turns, turns.turns[0].duration_seconds, turns.turns[0].how) == (1, None, None)
    assert (await sdk.meeting.get_meeting_timeline(silent.id)).duration_seconds is None


async def test_figures_survive_the_end_of_the_process_and_the_removal_of_a_participant(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    table = await Table.open(sdk, "bob", "carol")
    for name in ("alice", "bob", "carol"):
        await table.speak(name, name)
    await sdk.close()
    await other.deregister_agent("bob")
    await table.at(other).end()
    found = await other.meeting.get_participation_analysis(table.id)
    assert set(found.by_participant) == {"alice", "carol"}
    assert found.total_messages == 2
    turns = await other.meeting.get_turn_statistics(table.id)
    assert [(one.number, one.agent_id, one.how) for one in turns.turns] == [
        *((1, "alice", "spoke"), (2, "bob", "spoke"), (3, "carol", "spoke"), (4, "alice", "meeting_ended")),
    ]
    assert (turns.total_turns, turns.total_messages, turns.turn_changes) == (4, 2, 3)
    bob = turns.participants_turn_stats["bob"]
    assert (bob.turns_taken, bob.messages_sent) == (1, 0), "what it said went with it"
    timeline = await other.meeting.get_meeting_timeline(table.id)
    events = [one for one in timeline.timeline if one.type == "event"]
    assert [(one.event_type, one.agent_id) for one in events] == [
        *(("participant_joined", "bob"), ("participant_joined", "carol"), ("meeting_started", "alice")),
        *(("turn_changed", "alice"), ("message_posted", "alice"), ("turn_changed", "bob"), ("message_posted", "bob")),
        *(("turn_changed", "carol"), ("message_posted", "carol"), ("turn_changed", "alice")),
        *(("participant_left", "bob"), ("meeting_ended", "alice")),
    ]
    assert events[2].data["participant_external_ids"] == ["alice", "bob", "carol"]
    assert [one.data["previous_speaker_external_id"] for one in events if one.event_type == "turn_changed"] == [
        *(None, "alice", "bob", "carol"),
    ]
    assert [one.event_type for one in timeline.timeline if one.type == "event"][-1] == "meeting_ended"
    assert not any(one.get("sender_id") == "bob" for one in timeline.timeline)


async def test_an_agent_removed_after_a_meeting_has_no_name_in_its_figures_but_its_turns(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    table = await Table.open(sdk, "bob")
    await table.speak("alice")
    await table.speak("bob")
    await table.end()
    bob = str((await sdk.get_agent("bob")).id)
    await sdk.deregister_agent("bob")
    turns = await other.meeting.get_turn_statistics(table.id)
    assert [(one.number, one.agent_id) for one in turns.turns] == [(1, "alice"), (2, None), (3, "alice")]
    assert set(turns.participants_turn_stats) == {"alice", bob}
    timeline = await other.meeting.get_meeting_timeline(table.id)
    changes = [one for one in timeline.timeline if one.get("event_type") == "turn_changed"]
    assert [(one.agent_id, one.data["turn"]) for one in changes] == [("alice", 1), (None, 2), ("alice", 3)]


async def test_figures_of_a_meeting_longer_than_a_page(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent_messaging.messaging import listing

    monkeypatch.setattr(listing, "PAGE", 7)
    table = await Table.open(sdk)
    for number in range(21):
        await table.speak("alice", number)
    await table.end()
    assert [what for _, what in await table.said()] == list(range(21))
    turns = await sdk.meeting.get_turn_statistics(table.id)
    assert (turns.total_turns, turns.total_messages) == (22, 21)
    timeline = (await sdk.meeting.get_meeting_timeline(table.id)).timeline
    assert len([one for one in timeline if one.type == "event"]) == 1 + 22 + 21 + 1
    assert (await sdk.meeting.get_participation_analysis(table.id)).total_messages == 21
