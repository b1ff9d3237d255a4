"""Meetings that end by themselves: by their turns, their time, or a function of the host's process."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import pytest

from agent_messaging import (
    InvalidArgumentError,
    MeetingEnd,
    MeetingEventType,
    MeetingNotActiveError,
    MeetingNotFoundError,
    MeetingTimeoutError,
    Record,
)
from agent_messaging.storage.assembly import rules
from tests.client.meeting_support import Table, Watcher
from tests.client.support import SOON, MakeSdk, Sdk
from tests.support import eventually

Bounds = dict[str, Any]


async def reason(table: Table) -> MeetingEnd:
    """Why the meeting has ended, which everything that tells of it says alike."""
    transcript = await table.sdk.meeting.wait_until_ended(table.id, SOON)
    status = await table.status()
    assert (status.status, status.current_speaker) == ("ended", None)
    assert status.end_reason is transcript.reason
    assert status.turns_taken == transcript.turns
    timeline = await table.sdk.meeting.get_meeting_timeline(table.id)
    assert timeline.end_reason is transcript.reason
    ending = [
        one.data["reason"] for one in timeline.timeline if one.type == "event" and one.event_type == "meeting_ended"
    ]
    assert ending == [transcript.reason]
    assert (await table.notes())[-1]["reason"] == transcript.reason
    assert [(one.sender, one.content) for one in transcript.messages] == await table.said()
    assert [one.content for one in transcript.notes] == await table.notes()
    assert (await table.sdk.meeting.get_meeting_details(table.id)).end_reason is transcript.reason
    meeting = await table.sdk.meeting.get_meeting(table.id)
    assert meeting is not None
    assert meeting.end_reason is transcript.reason
    return transcript.reason


# --- turns and time ---------------------------------------------------------------------------------------------------


async def test_with_its_last_turn_a_meeting_ends_and_everybody_is_told(sdk: Sdk) -> None:
    watcher = Watcher().watch(sdk, MeetingEventType.MEETING_ENDED)
    table = await Table.open(sdk, "bob", "carol", max_turns=2)
    waiting = asyncio.ensure_future(table.wait("carol"))
    await table.speak("alice", "one")
    await table.speak("bob", "two")
    assert (await waiting).has_ended
    assert await reason(table) is MeetingEnd.MAX_TURNS
    assert await table.said() == [("alice", "one"), ("bob", "two")]
    (event,) = await watcher.wait_for(MeetingEventType.MEETING_ENDED)
    assert event.data.reason == "max_turns"
    with pytest.raises(MeetingNotActiveError):
        await table.speak("carol", "three")


async def test_a_meeting_ends_by_time_and_its_last_turn_with_it(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob", turn_duration=60.0, max_duration=0.3)
    turn = await table.wait("alice")
    assert turn.deadline is not None
    status = await table.status()
    assert status.deadline == turn.deadline
    assert (status.max_duration, status.max_turns) == (0.3, None)
    assert await reason(table) is MeetingEnd.MAX_DURATION
    assert (await table.course()) == [(1, "alice", "meeting_ended")]


async def test_a_meeting_whose_turns_have_no_end_ends_by_time(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(enable_turn_timeout=False)
    await sdk.add_people("alice", "bob")
    table = await Table.gather(sdk, "bob")
    await sdk.meeting.start_meeting("alice", table.id, "hello", max_duration=0.2)
    assert await reason(table) is MeetingEnd.MAX_DURATION
    assert await table.said() == [("alice", "hello")]


async def test_another_process_ends_it_when_the_hosts_is_gone(make_sdk: MakeSdk) -> None:
    other = await make_sdk()
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    table = await Table.open(sdk, "bob", max_duration=0.5)
    await sdk.close()
    assert await reason(table.at(other)) is MeetingEnd.MAX_DURATION


@pytest.mark.sampled(8)
@pytest.mark.parametrize(
    "bounds",
    [
        {"max_turns": 0},
        {"max_turns": -1},
        {"max_turns": 1.0},
        {"max_turns": True},
        {"max_turns": 10**9},
        {"max_turns": "3"},
        {"max_duration": 0},
        {"max_duration": -1.0},
        {"max_duration": float("nan")},
        {"max_duration": float("inf")},
        {"max_duration": 10**9},
        {"max_duration": True},
        {"end_when": "TERMINATE"},
        {"end_when": 3},
    ],
    ids=str,
)
async def test_a_bound_that_cannot_be_is_refused_before_anything_is_stored(sdk: Sdk, bounds: Bounds) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(bounds))):
        await sdk.meeting.create_meeting("alice", ["bob"], **bounds)
    with pytest.raises(InvalidArgumentError, match=next(iter(bounds))):
        await sdk.meeting.hold("alice", ["bob"], **bounds)
    assert await sdk.meeting.list_meetings() == []
    table = await Table.gather(sdk, "bob")
    with pytest.raises(InvalidArgumentError, match=next(iter(bounds))):
        await sdk.meeting.start_meeting("alice", table.id, **bounds)
    assert (await table.status()).status == "ready"


# --- a function of the host's process ---------------------------------------------------------------------------------


def says(word: str) -> Any:
    def end_when(so_far: Record) -> bool:
        return so_far.last_message is not None and word in so_far.last_message.content

    return end_when


async def test_a_stop_word_ends_it_before_anybody_else_speaks(sdk: Sdk) -> None:
    seen: list[Record] = []

    async def end_when(so_far: Record) -> bool:
        seen.append(so_far)
        return bool(says("DONE")(so_far))

    table = await Table.open(sdk, "bob", "carol", end_when=end_when)
    await table.speak("alice", "one")
    assert (await table.wait("bob")).number == 3
    await table.speak("bob", "DONE, two")
    assert await reason(table) is MeetingEnd.END_WHEN
    assert [one.last_speaker for one in seen] == ["alice", "bob"]
    assert [one.content for one in seen[-1].messages] == ["one", "DONE, two"]
    assert await table.course() == [(1, "alice", "spoke"), (3, "bob", "spoke")]


async def test_it_may_be_named_at_the_start_and_the_opening_counts(sdk: Sdk) -> None:
    table = await Table.gather(sdk, "bob")
    await sdk.meeting.start_meeting("alice", table.id, "DONE at once", end_when=says("DONE"))
    assert await reason(table) is MeetingEnd.END_WHEN


async def test_a_function_that_fails_lets_the_meeting_go_on(sdk: Sdk, caplog: pytest.LogCaptureFixture) -> None:
    def end_when(so_far: Record) -> bool:
        raise RuntimeError("no idea")

    table = await Table.open(sdk, "bob", end_when=end_when, max_turns=2)
    with caplog.at_level(logging.WARNING, "agent_messaging"):
        await table.speak("alice", "one")
        await table.wait("bob")
    assert "end_when" in caplog.text
    assert "no idea" in caplog.text
    await table.speak("bob", "two")
    assert await reason(table) is MeetingEnd.MAX_TURNS


async def test_a_function_that_hangs_lets_the_meeting_go_on(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rules, "SELECTION_LIMIT", 0.2)
    cancelled = asyncio.Event()

    async def end_when(so_far: Record) -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return True

    table = await Table.open(sdk, "bob", end_when=end_when)
    await table.speak("alice", "one")
    assert (await table.wait("bob")).number == 3
    await asyncio.wait_for(cancelled.wait(), SOON)
    told = f"end_when of meeting {table.id} failed, the meeting goes on: TimeoutError"
    await eventually(lambda: told in caplog.text)
    await table.end()


async def test_a_plain_function_that_blocks_its_thread_lets_the_meeting_go_on(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "SELECTION_LIMIT", 0.2)
    released = threading.Event()
    table = await Table.open(sdk, "bob", end_when=lambda so_far: released.wait(SOON))
    await table.speak("alice", "one")
    assert (await table.wait("bob")).number == 3
    released.set()
    await table.end()


async def test_without_the_hosts_process_the_meeting_goes_on_until_one_names_the_function(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "SELECTION_LIMIT", 0.2)
    other = await make_sdk()
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    table = await Table.open(sdk, "bob", end_when=says("DONE"))
    await sdk.close()
    table = table.at(other)
    await table.speak("alice", "DONE, but nobody is there to hear")
    assert (await table.wait("bob")).number == 3
    monkeypatch.undo()
    other.meeting.end_when(table.id, says("DONE"))
    await table.speak("bob", "DONE")
    assert await reason(table) is MeetingEnd.END_WHEN


async def test_a_selection_that_names_nobody_ends_it(sdk: Sdk) -> None:
    def choose(so_far: Record) -> str | None:
        return "bob" if so_far.last_speaker == "alice" else None

    table = await Table.open(sdk, "bob", "carol", speaker_selection=choose)
    await table.speak("alice", "one")
    await table.wait("bob")
    await table.speak("bob", "two")
    assert await reason(table) is MeetingEnd.NOBODY


async def test_whether_it_ends_is_asked_before_who_is_next(sdk: Sdk) -> None:
    asked: list[str] = []

    def choose(so_far: Record) -> str:
        asked.append("next")
        return "carol"

    def end_when(so_far: Record) -> bool:
        asked.append("end")
        return len(so_far.messages) == 2

    table = await Table.open(sdk, "bob", "carol", speaker_selection=choose, end_when=end_when)
    await table.speak("alice", "one")
    await table.wait("carol")
    await table.speak("carol", "two", next_speaker_external_id="bob")
    assert await reason(table) is MeetingEnd.END_WHEN
    assert asked == ["end", "next", "end"]


async def test_the_speaker_that_was_named_follows_though_the_host_is_asked(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob", "carol", end_when=says("DONE"))
    await table.speak("alice", "one", next_speaker_external_id="carol")
    assert (await table.wait("carol")).number == 3
    await table.end()


# --- a host that does not speak ---------------------------------------------------------------------------------------


async def test_a_silent_host_is_left_out_and_can_be_named(sdk: Sdk) -> None:
    table = await Table.gather(sdk, "bob", "carol", host_speaks=False)
    await sdk.meeting.start_meeting("alice", table.id, "welcome")
    await table.speak("bob", "two")
    await table.speak("carol", "three")
    await table.speak("bob", "four", next_speaker_external_id="alice")
    await table.speak("alice", "five")
    assert (await table.holder())[1] == "bob"
    await sdk.meeting.leave_meeting("carol", table.id)
    await sdk.meeting.leave_meeting("bob", table.id)
    assert await reason(table) is MeetingEnd.NOBODY


async def test_a_host_that_names_the_speakers_speaks(sdk: Sdk) -> None:
    with pytest.raises(InvalidArgumentError, match="host_speaks"):
        await sdk.meeting.create_meeting("alice", ["bob"], speaker_selection="host", host_speaks=False)


# --- waiting for the end ----------------------------------------------------------------------------------------------


async def test_who_waits_for_the_end_is_told_in_every_process(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    table = await Table.open(sdk, "bob")
    waiting = [asyncio.ensure_future(one.meeting.wait_until_ended(table.id, SOON)) for one in (sdk, other)]
    with pytest.raises(MeetingTimeoutError, match=r"not ended within 0\.05 seconds"):
        await other.meeting.wait_until_ended(table.id, 0.05)
    await table.speak("alice", "one")
    await table.end()
    for transcript in await asyncio.gather(*waiting):
        assert (transcript.meeting_id, transcript.reason) == (table.id, MeetingEnd.HOST_ENDED)
        assert [message.content for message in transcript.messages] == ["one"]
        assert transcript.duration > 0
        assert transcript.turns == 2


async def test_the_end_of_a_meeting_that_goes_with_its_host_is_no_end(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob")
    waiting = asyncio.ensure_future(sdk.meeting.wait_until_ended(table.id, SOON))
    await asyncio.sleep(0)
    await sdk.deregister_agent("alice")
    with pytest.raises(MeetingNotFoundError):
        await waiting


async def test_a_meeting_that_never_began_lasted_no_time(sdk: Sdk) -> None:
    table = await Table.gather(sdk, "bob")
    await table.end()
    begin = time.monotonic()
    transcript = await sdk.meeting.wait_until_ended(table.id)
    assert (transcript.duration, transcript.turns, transcript.messages) == (0.0, 0, ())
    assert time.monotonic() - begin < SOON
