"""Handlers of meeting events: how they are registered, what they are given, and that no meeting depends on them."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import TypeAdapter

from agent_messaging import (
    InvalidArgumentError,
    MeetingEvent,
    MeetingEventPayload,
    MeetingEventType,
    MeetingNotFoundError,
    PayloadError,
)
from agent_messaging.delivery import events
from tests.client.meeting_support import Table, Watcher
from tests.client.support import SOON, MakeSdk, Sdk
from tests.support import eventually

Type = MeetingEventType


async def ids_of(sdk: Sdk, *names: str) -> list[UUID]:
    return [(await sdk.get_agent(name)).id for name in names]


async def test_a_meeting_tells_its_whole_life_in_order(sdk: Sdk) -> None:
    watcher = Watcher().watch(sdk)
    table = await Table.gather(sdk, "bob", "carol")
    await sdk.meeting.start_meeting("alice", table.id, "welcome")
    await sdk.meeting.pass_turn("bob", table.id)
    await sdk.meeting.leave_meeting("carol", table.id)
    await table.end()
    await watcher.wait_for(Type.MEETING_ENDED)
    # Each type has a queue of its own, so only the order within a type is promised to one function.
    timeline = (await sdk.meeting.get_meeting_timeline(table.id)).timeline
    recorded = [one.event_type.value for one in timeline if one.type == "event"]
    assert recorded == [
        *("participant_joined", "participant_joined", "meeting_started", "message_posted", "turn_changed"),
        *("turn_changed", "turn_changed", "participant_left", "meeting_ended"),
    ]
    await eventually(lambda: sorted(watcher.types()), SOON, until=lambda seen: seen == sorted(recorded))
    turns = await watcher.wait_for(Type.TURN_CHANGED, 3)
    assert [event.data.current_speaker_external_id for event in turns] == ["bob", "carol", "alice"]


async def test_data_are_read_by_key_and_by_attribute_with_external_twins(sdk: Sdk) -> None:
    alice, bob, carol = await ids_of(sdk, "alice", "bob", "carol")
    watcher = Watcher().watch(sdk)
    before = datetime.now(UTC) - timedelta(seconds=1)
    table = await Table.gather(sdk, "bob", "carol")
    await sdk.meeting.start_meeting("alice", table.id, {"text": "welcome"})
    await sdk.meeting.leave_meeting("bob", table.id)
    await table.end()
    [joined, _] = await watcher.wait_for(Type.PARTICIPANT_JOINED, 2)
    assert isinstance(joined, MeetingEventPayload)
    assert isinstance(joined, MeetingEvent)
    assert (joined.meeting_id, joined.event_type, joined.agent_external_id) == (
        table.id,
        Type.PARTICIPANT_JOINED,
        "bob",
    )
    assert before < joined.timestamp < datetime.now(UTC) + timedelta(seconds=1)
    assert (joined.data["agent_id"], joined.data.agent_id, joined.data.agent_external_id) == (bob, bob, "bob")
    [started] = await watcher.wait_for(Type.MEETING_STARTED)
    assert (started.data.host_id, started.data["host_id"], started.data.host_external_id) == (alice, alice, "alice")
    assert started.data.participant_ids == started.data["participant_ids"] == [alice, bob, carol]
    assert started.data.participant_external_ids == ["alice", "bob", "carol"]
    [posted] = await watcher.wait_for(Type.MESSAGE_POSTED)
    assert (posted.agent_external_id, posted.data.sender_id, posted.data.sender_external_id) == (
        "alice",
        alice,
        "alice",
    )
    assert posted.data.content == posted.data["message"] == {"text": "welcome"}
    assert (posted.data.turn, posted.data.metadata) == (1, {})
    [said] = [one for one in await table.history() if one.message_type == "user_defined"]
    assert str(posted.data.message_id) == said.message_id
    assert posted.data.timestamp == said.created_at
    [first, second] = await watcher.wait_for(Type.TURN_CHANGED, 2)
    assert (first.data.previous_speaker_id, first.data.current_speaker_id) == (alice, bob)
    assert (second.data.previous_speaker_external_id, second.data.current_speaker_external_id) == ("bob", "carol")
    assert (second.data.turn, second.agent_external_id) == (3, "carol")
    [left] = await watcher.wait_for(Type.PARTICIPANT_LEFT)
    assert (left.data.agent_id, left.data.how) == (bob, "left")
    [ended] = await watcher.wait_for(Type.MEETING_ENDED)
    assert (ended.data["host_id"], ended.data.host_external_id) == (alice, "alice")
    with pytest.raises(AttributeError, match="no key 'speaker'"):
        _ = ended.data.speaker


async def test_a_first_turn_has_no_previous_speaker(sdk: Sdk) -> None:
    watcher = Watcher().watch(sdk, Type.TURN_CHANGED)
    await Table.open(sdk, "bob")
    [event] = await watcher.wait_for(Type.TURN_CHANGED)
    assert (event.data.previous_speaker_id, event.data.previous_speaker_external_id) == (None, None)


async def test_a_timeout_tells_who_was_silent_and_who_is_next(sdk: Sdk) -> None:
    watcher = Watcher().watch(sdk, Type.TIMEOUT_OCCURRED)
    table = await Table.open(sdk, "bob", turn_duration=0.05)
    [event, *_] = await watcher.wait_for(Type.TIMEOUT_OCCURRED)
    alice, bob = await ids_of(sdk, "alice", "bob")
    assert (event.data["timed_out_agent_id"], event.data.timed_out_agent_external_id) == (alice, "alice")
    assert (event.data.next_speaker_id, event.data.next_speaker_external_id, event.data.turn) == (bob, "bob", 1)
    assert event.agent_external_id == "alice"
    await table.end()


async def test_a_status_set_back_by_hand_is_an_event(sdk: Sdk) -> None:
    watcher = Watcher().watch(sdk, Type.PARTICIPANT_STATUS_CHANGED)
    table = await Table.gather(sdk, "bob")
    await sdk.meeting.update_participant_status(table.id, "bob", "invited")
    [event] = await watcher.wait_for(Type.PARTICIPANT_STATUS_CHANGED)
    assert (event.data.agent_external_id, event.data.previous_status, event.data.current_status) == (
        *("bob", "attending", "invited"),
    )


# --- registering ------------------------------------------------------------------------------------------------------


async def test_every_way_of_registering_a_handler(sdk: Sdk) -> None:
    seen: dict[str, list[Any]] = {}

    def keep(name: str) -> list[Any]:
        return seen.setdefault(name, [])

    @sdk.register_event_handler(Type.MEETING_STARTED)
    async def one(event: MeetingEventPayload) -> None:
        keep("one").append(event)

    @sdk.register_meeting_event_handler(MeetingEvent.MEETING_STARTED)
    async def three(meeting_id: UUID, agent_external_id: str | None, data: dict[str, Any]) -> None:
        keep("three").append((meeting_id, agent_external_id, data["host_external_id"]))

    async def direct(event: MeetingEvent) -> None:
        keep("direct").append(event.data.host_id)

    sdk._event_handler.register_handler(Type.MEETING_STARTED, direct)

    @sdk.register_event_handler("meeting_started")  # type: ignore[arg-type]
    def plain(event: MeetingEventPayload) -> None:
        keep("plain").append(threading.current_thread() is threading.main_thread())

    class Handler:
        async def __call__(self, event: MeetingEventPayload, more: str = "default") -> None:
            keep("object").append(more)

    sdk.register_event_handler(Type.MEETING_STARTED)(Handler())
    sdk.register_event_handler(Type.MEETING_STARTED)(lambda *all_: keep("lambda").append(len(all_)))
    assert callable(one)
    assert callable(three), "the decorators return the function"
    table = await Table.open(sdk, "bob")
    await eventually(lambda: len(seen), SOON, until=lambda count: count == 6)
    alice = (await sdk.get_agent("alice")).id
    assert seen["three"] == [(table.id, "alice", "alice")]
    assert seen["direct"] == [alice]
    assert (seen["plain"], seen["object"], seen["lambda"]) == ([False], ["default"], [1])


@pytest.mark.parametrize(
    ("older", "type_"),
    [
        ("AGENT_JOINED", Type.PARTICIPANT_JOINED),
        ("AGENT_SPOKE", Type.MESSAGE_POSTED),
        ("AGENT_LEFT", Type.PARTICIPANT_LEFT),
        ("AGENT_TIMED_OUT", Type.TIMEOUT_OCCURRED),
        ("MEETING_STARTED", Type.MEETING_STARTED),
        ("MEETING_ENDED", Type.MEETING_ENDED),
    ],
)
def test_the_older_names_of_event_types(older: str, type_: MeetingEventType) -> None:
    assert getattr(MeetingEvent, older) is type_


async def test_the_older_form_of_a_speech(sdk: Sdk) -> None:
    spoken: list[tuple[UUID, str | None, Any]] = []

    @sdk.register_event_handler(MeetingEvent.AGENT_SPOKE)
    async def on_agent_spoke(meeting_id: UUID, agent_external_id: str | None, data: dict[str, Any]) -> None:
        spoken.append((meeting_id, agent_external_id, data["message"]))

    table = await Table.open(sdk, "bob")
    await table.speak("alice", {"text": "hello"})
    await eventually(lambda: spoken, SOON)
    assert spoken == [(table.id, "alice", {"text": "hello"})]


async def test_what_cannot_be_a_handler_is_refused_in_words(sdk: Sdk) -> None:
    with pytest.raises(InvalidArgumentError, match=r"event_type: 'meeting_paused' is not an event.*meeting_started"):
        sdk.register_event_handler("meeting_paused")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="event_type"):
        sdk.register_meeting_event_handler(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match=r"handler: .*cannot be called"):
        sdk._event_handler.register_handler(Type.TURN_CHANGED, 7)  # type: ignore[arg-type]
    for bad in (lambda: None, lambda one, two: None, lambda one, *, key: None, lambda a, b, c, d: None):
        with pytest.raises(InvalidArgumentError, match=r"takes \(.*An event handler takes \(event\), or \(meeting_id"):
            sdk.register_event_handler(Type.TURN_CHANGED)(bad)  # type: ignore[type-var]
    assert sdk._event_handler.subscriptions == []


async def test_a_handler_may_be_registered_before_the_sdk_is_started(url: str, make_sdk: MakeSdk) -> None:
    await (await make_sdk()).add_people("alice")
    sdk = Sdk(url)
    watcher = Watcher().watch(sdk, Type.MEETING_STARTED)
    async with sdk:
        await Table.open(sdk)
        await watcher.wait_for(Type.MEETING_STARTED)
    async with sdk:
        await Table.open(sdk)
        await watcher.wait_for(Type.MEETING_STARTED, 2)
    assert len(watcher.events) == 2


async def test_a_handler_is_told_of_what_happens_after_it_was_registered_and_of_nothing_before(sdk: Sdk) -> None:
    for _ in range(10):
        table = await Table.invite(sdk, "bob", "carol")
        await sdk.meeting.attend_meeting("bob", table.id)
        watcher = Watcher().watch(sdk, Type.PARTICIPANT_JOINED)
        await sdk.meeting.attend_meeting("carol", table.id)  # at once: the call waits until it will be heard
        events = await watcher.wait_for(Type.PARTICIPANT_JOINED)
        assert [event.agent_external_id for event in events] == ["carol"]
        sdk._event_handler.unregister_handler(Type.PARTICIPANT_JOINED, watcher)
        # The next one begins without a place in the feed.
        await sdk.close()
        await sdk.initialize()


async def test_an_unregistered_handler_is_called_no_more(sdk: Sdk) -> None:
    kept, gone = Watcher().watch(sdk, Type.MESSAGE_POSTED), Watcher().watch(sdk, Type.MESSAGE_POSTED)
    table = await Table.open(sdk)
    await table.speak("alice", 1)
    await gone.wait_for(Type.MESSAGE_POSTED)
    assert sdk._event_handler.unregister_handler(Type.MESSAGE_POSTED, gone) is True
    assert sdk._event_handler.unregister_handler(Type.MESSAGE_POSTED, gone) is False
    assert sdk._event_handler.unregister_handler(Type.TURN_CHANGED, kept) is False
    await table.speak("alice", 2)
    await kept.wait_for(Type.MESSAGE_POSTED, 2)
    assert [event.data.content for event in gone.events] == [1]


async def test_a_handler_registered_when_none_was_left_hears_of_nothing_before(sdk: Sdk) -> None:
    first = Watcher().watch(sdk, Type.MESSAGE_POSTED)
    table = await Table.open(sdk)
    await table.speak("alice", 1)
    await first.wait_for(Type.MESSAGE_POSTED)
    sdk._event_handler.unregister_handler(Type.MESSAGE_POSTED, first)
    await table.speak("alice", 2)  # nobody listens
    second = Watcher().watch(sdk, Type.MESSAGE_POSTED)
    await table.speak("alice", 3)
    await second.wait_for(Type.MESSAGE_POSTED)
    assert [event.data.content for event in second.events] == [3]


async def test_who_registers_hears_of_nothing_before_although_another_went_while_the_end_was_sought(sdk: Sdk) -> None:
    gone, watcher = Watcher(), Watcher()
    sdk.register_event_handler(Type.MESSAGE_POSTED)(gone)
    assert sdk._event_handler.unregister_handler(Type.MESSAGE_POSTED, gone)
    await sdk._started().events.ready()
    table = await Table.open(sdk, "bob")
    await table.speak("alice", "before")
    watcher.watch(sdk, Type.MESSAGE_POSTED)
    await table.speak("bob", "behind")
    await sdk._started().events.wait_until_idle()
    assert [event.data.content for event in watcher.events] == ["behind"]


async def test_handlers_belong_to_their_sdk_object_and_hear_of_every_process(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    here = Watcher().watch(sdk, Type.MEETING_STARTED)
    there = Watcher().watch(other, Type.MESSAGE_POSTED)
    await other._started().events.ready()
    table = await Table.open(sdk, "bob")
    await table.speak("alice", "one")
    await table.at(other).speak("bob", "two")
    posted = await there.wait_for(Type.MESSAGE_POSTED, 2)
    assert [event.data.content for event in posted] == ["one", "two"]
    assert {event.event_type for event in there.events} == {Type.MESSAGE_POSTED}
    await here.wait_for(Type.MEETING_STARTED)
    assert len(here.events) == 1


# --- handlers that fail -----------------------------------------------------------------------------------------------


async def test_a_handler_that_raises_disturbs_neither_the_meeting_nor_other_handlers(
    sdk: Sdk, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(event: MeetingEventPayload) -> None:
        raise RuntimeError(f"on turn {event.data.turn}")

    bad, good = Watcher(fail).watch(sdk, Type.TURN_CHANGED), Watcher().watch(sdk, Type.TURN_CHANGED)
    with caplog.at_level(logging.WARNING):
        table = await Table.open(sdk, "bob")
        for name in ("alice", "bob", "alice"):
            await table.speak(name)
        await good.wait_for(Type.TURN_CHANGED, 4)
        await bad.wait_for(Type.TURN_CHANGED, 4)
        await eventually(lambda: len(caplog.records), SOON, until=lambda count: count == 4)
    assert all("a handler of the event turn_changed" in record.message for record in caplog.records)
    assert "RuntimeError: on turn 1" in caplog.records[0].message
    assert await table.holder() == (4, "bob")


async def test_a_failed_handler_writes_nothing_that_was_said_to_the_log(
    sdk: Sdk, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(event: MeetingEventPayload) -> None:
        TypeAdapter(int).validate_python(event.data.content)

    Watcher(fail).watch(sdk, Type.MESSAGE_POSTED)
    with caplog.at_level(logging.WARNING):
        table = await Table.open(sdk, "bob")
        await table.speak("alice", "s3cret")
        await eventually(lambda: caplog.records, SOON)
    assert "ValidationError" in caplog.text
    assert "s3cret" not in caplog.text


async def test_a_handler_whose_own_task_was_cancelled_hears_of_the_next_event(sdk: Sdk) -> None:
    async def cancel_itself(event: MeetingEventPayload) -> None:
        if event.data.content == 1:
            raise asyncio.CancelledError

    watcher = Watcher(cancel_itself).watch(sdk, Type.MESSAGE_POSTED)
    table = await Table.open(sdk)
    await table.speak("alice", 1)
    await table.speak("alice", 2)
    await watcher.wait_for(Type.MESSAGE_POSTED, 2)


async def test_a_handler_that_hangs_holds_up_neither_the_meeting_nor_other_handlers(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(handler_timeout=1.5)
    await sdk.add_people("alice", "bob")

    async def hang(event: MeetingEventPayload) -> None:
        if event.data.turn == 1:
            await asyncio.Event().wait()

    bad, good = Watcher(hang).watch(sdk, Type.TURN_CHANGED), Watcher().watch(sdk, Type.TURN_CHANGED)
    table = await Table.open(sdk, "bob")
    for name in ("alice", "bob", "alice"):
        await table.speak(name)
    await good.wait_for(Type.TURN_CHANGED, 4)
    assert len(bad.events) == 1, "the others came while it hung"
    events = await bad.wait_for(Type.TURN_CHANGED, 4)  # cancelled after handler_timeout, it gets the rest
    assert [event.data.turn for event in events] == [1, 2, 3, 4]


@pytest.mark.parametrize("bound", ["MAX_PENDING", "MAX_PENDING_BYTES"])
async def test_what_a_handler_that_hangs_is_behind_with_is_bounded(
    bound: str, sdk: Sdk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, bound, 3 if bound == "MAX_PENDING" else 2_500)
    monkeypatch.setattr(events, "AT_ONCE_BYTES", 1)  # and pages of one are read to the end
    resume = asyncio.Event()

    async def hang(event: MeetingEventPayload) -> None:
        await resume.wait()

    bad, good = Watcher(hang).watch(sdk, Type.MESSAGE_POSTED), Watcher().watch(sdk, Type.MESSAGE_POSTED)
    table = await Table.open(sdk)
    with caplog.at_level(logging.ERROR):
        for number in range(7):
            await table.speak("alice", [number, "x" * 1_000])
        await good.wait_for(Type.MESSAGE_POSTED, 7)
        assert len(caplog.records) == 1, "of three that were dropped it is said once"
    resume.set()
    await bad.wait_for(Type.MESSAGE_POSTED, 4)
    await table.speak("alice", ["last"])
    await bad.wait_for(Type.MESSAGE_POSTED, 5)
    heard = [event.data.content[0] for event in bad.events]
    assert heard == [0, 1, 2, 3, "last"], "the first is being handled, three wait"
    assert "does not keep up" in caplog.text


async def test_a_handler_may_act_in_the_meeting_it_is_told_of(sdk: Sdk) -> None:
    async def answer(event: MeetingEventPayload) -> None:
        if event.data.current_speaker_external_id == "bob":
            await sdk.meeting.speak("bob", event.meeting_id, f"on turn {event.data.turn}")

    Watcher(answer).watch(sdk, Type.TURN_CHANGED)
    table = await Table.open(sdk, "bob")
    await table.speak("alice", "one")
    assert (await table.wait("alice")).number == 3
    await table.speak("alice", "two")
    assert (await table.wait("alice")).number == 5
    assert await table.said() == [
        ("alice", "one"),
        ("bob", "on turn 2"),
        ("alice", "two"),
        ("bob", "on turn 4"),
    ]


async def test_leaving_the_sdk_lets_the_handlers_have_what_is_recorded(url: str, make_sdk: MakeSdk) -> None:
    await (await make_sdk()).add_people("alice", "bob")
    started = asyncio.Event()

    async def slowly(event: MeetingEventPayload) -> None:
        started.set()
        await asyncio.sleep(0)

    watcher = Watcher(slowly)
    async with Sdk(url) as sdk:
        watcher.watch(sdk, Type.MESSAGE_POSTED, Type.MEETING_ENDED)
        table = await Table.open(sdk, "bob")
        for number in range(50):
            await table.speak("alice" if number % 2 == 0 else "bob", number)
        await table.end()
    assert len(watcher.events) == 51


async def test_a_handler_that_hangs_does_not_keep_the_sdk_from_closing(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(drain_timeout=0.2)
    await sdk.add_people("alice")
    Watcher(lambda event: asyncio.Event().wait()).watch(sdk, Type.MEETING_STARTED)  # type: ignore[arg-type,return-value]
    blocked = threading.Event()
    sdk.register_event_handler(Type.TURN_CHANGED)(lambda event: blocked.wait(SOON))
    await Table.open(sdk)
    try:
        async with asyncio.timeout(SOON / 2):
            await sdk.close()
    finally:
        blocked.set()


# --- events of a caller's own -----------------------------------------------------------------------------------------


async def test_an_event_of_ones_own_reaches_the_handlers_and_the_timeline(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    watcher = Watcher().watch(other, Type.ERROR_OCCURRED, Type.TURN_CHANGED)
    await other._started().events.ready()
    table = await Table.gather(sdk, "bob")
    bob = (await sdk.get_agent("bob")).id
    emit = sdk._event_handler
    await emit.emit_event(table.id, Type.TURN_CHANGED, {"current_speaker_id": bob, "by": ["hand", 1]})
    await emit.emit_error_occurred(table.id, "lost_page", "page 7 is missing", bob)
    await emit.emit_error_occurred(str(table.id), "lost_page", "page 8 is missing")
    [turn] = await watcher.wait_for(Type.TURN_CHANGED)
    assert (turn.data.current_speaker_id, turn.data.current_speaker_external_id) == (bob, "bob")
    assert (turn.data.by, turn.agent_external_id) == (["hand", 1], "bob")
    [first, second] = await watcher.wait_for(Type.ERROR_OCCURRED, 2)
    assert (first.data.error_type, first.data.error_message) == ("lost_page", "page 7 is missing")
    assert (first.data.affected_agent_id, first.data.affected_agent_external_id) == (bob, "bob")
    assert (first.agent_external_id, second.agent_external_id, second.data.affected_agent_id) == ("bob", None, None)
    timeline = (await sdk.meeting.get_meeting_timeline(table.id)).timeline
    assert [one.event_type for one in timeline if one.type == "event"][1:] == [
        *(Type.TURN_CHANGED, Type.ERROR_OCCURRED, Type.ERROR_OCCURRED)
    ]


async def test_an_event_of_ones_own_that_cannot_be_is_refused(sdk: Sdk) -> None:
    table = await Table.gather(sdk, "bob")
    emit = sdk._event_handler
    with pytest.raises(MeetingNotFoundError):
        await emit.emit_event(uuid4(), Type.TURN_CHANGED, {})
    with pytest.raises(InvalidArgumentError, match="event_type"):
        await emit.emit_event(table.id, "tea_break", {})  # type: ignore[arg-type]
    for data in ({"bad": float("nan")}, {"bad": object()}, {"big": "x" * 70_000}):
        with pytest.raises(PayloadError):
            await emit.emit_event(table.id, Type.TURN_CHANGED, data)
    with pytest.raises(InvalidArgumentError, match=r"data: .*must be a mapping"):
        await emit.emit_event(table.id, Type.TURN_CHANGED, ["not", "a", "mapping"])  # type: ignore[arg-type]
    timeline = (await sdk.meeting.get_meeting_timeline(table.id)).timeline
    assert [one.event_type for one in timeline if one.type == "event"] == [Type.PARTICIPANT_JOINED]


async def test_data_of_ones_own_come_back_as_they_were_given(sdk: Sdk) -> None:
    """Only what names an agent is opened: text that looks like an id is an id, a word under such a key stays."""
    table = await Table.gather(sdk, "bob")
    watcher = Watcher().watch(sdk, Type.ERROR_OCCURRED)
    stranger = uuid4()
    data = {"ticket_id": "T-7", "user_id": stranger, "seat_ids": [1, "two", str(stranger)], "agent_id": "bob", "id": 5}
    await sdk._event_handler.emit_event(table.id, Type.ERROR_OCCURRED, data)
    [event] = await watcher.wait_for(Type.ERROR_OCCURRED)
    assert (event.data.ticket_id, event.data.agent_id, event.data.id) == ("T-7", "bob", 5)
    assert (event.data.user_id, event.data.user_external_id) == (stranger, None)
    assert event.data.seat_ids == [1, "two", stranger]
