"""Stored bodies that were changed behind the SDK's back: never shown as genuine, and nothing else stops for them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from agent_messaging import MeetingEventType, StorageCorruptError
from tests.client.damage import DAMAGES, damage, damage_events, fetch
from tests.client.meeting_support import Table, Watcher
from tests.client.support import SOON, Inbox, Sdk

POSTED = MeetingEventType.MESSAGE_POSTED
CHANGED = MeetingEventType.TURN_CHANGED

pytestmark = pytest.mark.parametrize("how", DAMAGES)


async def undelivered(sdk: Sdk, kind: str) -> list[str]:
    """The messages of a kind that no handler has had."""
    query = (
        f"select m.id from messages m join deliveries d on d.seq = m.seq where d.state = 'queued' and m.kind = '{kind}'"
    )
    return [str(row[0]) for row in await fetch(sdk, query)]


async def said_and_damaged(sdk: Sdk, how: str) -> tuple[Table, str]:
    """A meeting in which the host has said two things, the first of which is damaged."""
    table = await Table.open(sdk, "bob")
    first = await table.speak("alice", "the price is 7")
    await table.speak("bob", "fine")
    await damage(sdk, str(first), how)
    return table, str(first)


async def test_a_damaged_speech_is_marked_wherever_it_is_shown(
    sdk: Sdk, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    table, first = await said_and_damaged(sdk, how)
    with caplog.at_level(logging.WARNING):
        history = await table.history()
    speeches = [(one.content, one.is_damaged) for one in history if one.message_type == "user_defined"]
    assert speeches == [(None, True), ("fine", False)]
    assert f"message {first} is damaged: {how}" in caplog.text

    timeline = (await sdk.meeting.get_meeting_timeline(table.id)).timeline
    shown = [(one.content, one.is_damaged) for one in timeline if one.type == "message" and one.sender_id == "alice"]
    assert (None, True) in shown
    posted = [one.data for one in timeline if one.type == "event" and one.event_type is POSTED]
    assert [one["content"] for one in posted] == [None, "fine"]


async def test_a_turn_shows_a_damaged_speech_as_damaged(sdk: Sdk, how: str) -> None:
    table = await Table.open(sdk, "bob")
    await damage(sdk, str(await table.speak("alice", "the price is 7")), how)
    (message,) = [one for one in (await table.wait("bob")).messages if one.message_type == "user_defined"]
    assert (message.sender, message.content, message.is_damaged) == ("alice", None, True)


def before_events_are_read(sdk: Sdk, monkeypatch: pytest.MonkeyPatch, strike: Callable[[], Awaitable[None]]) -> None:
    """Let the damage be done between the commit and the feed's next look."""
    read = sdk.store.meetings.read_events

    async def strike_and_read(*given: Any, **how: Any) -> Any:
        while True:
            found = await read(*given, **how)
            await strike()
            again = await read(*given, **how)
            if [row.seq for row in found.events] == [row.seq for row in again.events]:
                return again

    monkeypatch.setattr(sdk.store.meetings, "read_events", strike_and_read)


async def test_the_feed_of_events_goes_on_behind_a_damaged_speech(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    watcher = Watcher().watch(sdk, POSTED)
    tables: list[Table] = []

    async def strike() -> None:
        for table in tables:
            for one in await table.history():
                if one.content == "the price is 7":
                    await damage(sdk, one.message_id, how)

    before_events_are_read(sdk, monkeypatch, strike)  # also where a look is under way when the table stands
    tables.append(table := await Table.open(sdk, "bob"))
    await table.speak("alice", "the price is 7")
    await table.speak("bob", "fine")
    events = await watcher.wait_for(POSTED, 2)
    assert [(event.data.content, event.data.is_damaged) for event in events] == [(None, True), ("fine", False)]


async def test_the_feed_of_events_passes_over_one_whose_data_are_damaged(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    watcher = Watcher().watch(sdk)
    table = await Table.open(sdk, "bob")
    await watcher.wait_for(CHANGED)
    before_events_are_read(sdk, monkeypatch, partial(damage_events, sdk, CHANGED, how))
    await table.speak("alice", "one")
    await table.speak("bob", "two")
    assert [event.data.content for event in await watcher.wait_for(POSTED, 2)] == ["one", "two"]
    assert len(await watcher.wait_for(CHANGED)) == 1


async def test_an_event_whose_data_are_damaged_is_passed_over(
    sdk: Sdk, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    table = await Table.open(sdk, "bob")
    await table.speak("alice", "one")
    await damage_events(sdk, CHANGED, how)
    with caplog.at_level(logging.WARNING):
        timeline = (await sdk.meeting.get_meeting_timeline(table.id)).timeline
    types = [one.event_type for one in timeline if one.type == "event"]
    assert POSTED in types
    assert CHANGED not in types
    assert "an event is passed over" in caplog.text
    assert (await sdk.meeting.get_turn_statistics(table.id)).total_turns == 2


async def test_the_damage_is_named_by_a_check_of_the_store(sdk: Sdk, how: str) -> None:
    table, first = await said_and_damaged(sdk, how)
    await damage_events(sdk, CHANGED, how)
    findings = "\n".join(await sdk.store.check())
    assert first in findings
    assert str(table.id) in findings
    assert findings.count("event ") == 3, "one for each turn that began"


async def test_a_turn_is_named_by_its_row_and_not_lost_with_the_text_of_its_call(sdk: Sdk, how: str) -> None:
    table = await Table.open(sdk, "bob")
    await table.speak("alice", "your turn")
    [letter] = await undelivered(sdk, "turn")
    await damage(sdk, letter, how)
    sdk.register_meeting_handler("bob")(spoken := Inbox())
    [receipt] = await sdk.wait([letter])
    assert (receipt.state.value, spoken.messages) == ("done", ["your turn"])
    turn = await table.wait("alice")
    assert turn.number == 3


async def test_an_invitation_that_is_damaged_becomes_a_dead_letter(sdk: Sdk, how: str) -> None:
    await Table.invite(sdk, "bob")
    [id] = await undelivered(sdk, "invitation")
    await damage(sdk, id, how)
    sdk.register_handler("bob")(inbox := Inbox())
    [note] = await sdk.one_way.send("alice", "bob", "hi")
    assert [one.state.value for one in await sdk.wait([id, note])] == ["dead", "done"]
    assert inbox.messages == ["hi"]


async def test_a_damaged_message_is_shown_as_such_among_the_others(sdk: Sdk, how: str) -> None:
    ids = [(await sdk.one_way.send("alice", "bob", number, require_handler=False))[0] for number in range(3)]
    await damage(sdk, ids[1], how)
    for records in (await sdk.one_way.get_sent_messages("alice"), await sdk.one_way.get_received_messages("bob")):
        assert [(one.content, one.is_damaged) for one in records] == [(2, False), (None, True), (0, False)]

    said = [str(await sdk.conversation.send_no_wait("alice", "bob", number)) for number in range(3)]
    await damage(sdk, said[1], how)
    (session,) = await sdk.conversation.get_active_sessions("bob")
    history = await sdk.conversation.get_conversation_history(session.session_id)
    assert [(one.content, one.is_damaged) for one in history] == [(0, False), (None, True), (2, False)]


async def test_an_answer_that_is_damaged_is_an_error_of_the_ask_alone(sdk: Sdk, how: str) -> None:
    """An asker whose answer was stored by another process reads it from the store, as this repeat does."""
    sdk.register_handler("bob")(lambda message, context: f"re {message}")
    key: dict[str, Any] = {"idempotency_key": "k"}
    assert await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON, **key) == "re ?"
    (session,) = await sdk.conversation.get_active_sessions("bob")
    answer = (await sdk.conversation.get_conversation_history(session.session_id))[-1]
    await damage(sdk, answer.message_id, how)
    with pytest.raises(StorageCorruptError, match=f"is damaged: {how}"):
        await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON, **key)
    assert await sdk.conversation.send_and_wait("alice", "bob", "!", timeout=SOON) == "re !"
