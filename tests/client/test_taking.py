"""Taking messages by an agent's own code: what a cancelled call took goes back, and what is damaged hides nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from agent_messaging import ConversationEndedError, HandlerError, StorageCorruptError, StorageUnavailableError
from agent_messaging.models import Kind
from tests.client.conversing import (
    STEPS,
    Clerk,
    ask,
    begin,
    cancel_after,
    nothing_is_left,
    rows,
    until_registered,
    until_waiting,
)
from tests.client.damage import DAMAGES, damage
from tests.client.support import SOON, Inbox, MakeSdk, Sdk
from tests.support import eventually

Read = Callable[[Sdk, str], Coroutine[Any, Any, list[Any]]]


async def wait(sdk: Sdk, reader: str) -> list[Any]:
    return [await sdk.conversation.wait_for_message(reader, "alice", 60)]


READING: dict[str, Read] = {
    "wait_for_message": wait,
    "get_unread_messages": lambda sdk, reader: sdk.conversation.get_unread_messages(reader),
    "get_messages_from_agent": lambda sdk, reader: sdk.conversation.get_messages_from_agent(reader, "alice"),
}


class Held:
    """Holds back what a verb of the store has answered, until the test lets it go."""

    def __init__(self, sdk: Sdk, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
        self.committed, self.go = asyncio.Event(), asyncio.Event()
        sessions = sdk.store.sessions
        original = getattr(sessions, verb)

        async def hold(*args: Any, **options: Any) -> Any:
            answer = await original(*args, **options)
            self.committed.set()
            await self.go.wait()
            return answer

        monkeypatch.setattr(sessions, verb, hold)
        self.undo = monkeypatch.undo

    async def cut(self, call: Coroutine[Any, Any, Any], meanwhile: Coroutine[Any, Any, Any] | None = None) -> None:
        """Cancel the call in the instant in which the store has taken; `meanwhile` nothing has been given back yet."""
        task = begin(call)
        await asyncio.wait_for(self.committed.wait(), SOON)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        self.undo()
        if meanwhile is not None:
            await meanwhile
        self.go.set()


# --- cancelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", READING)
async def test_cancelled_at_any_step_each_message_is_had_once(sdk: Sdk, call: str) -> None:
    """By the call, or else by the one that repeats it at once: as if the cancelled one had not looked."""
    early, late = 0, 0
    for steps in range(STEPS):
        sdk._started().names.clear()  # so that the look-ups are cut too
        await sdk.conversation.send_no_wait("alice", "bob", steps)
        had = await cancel_after(steps, READING[call](sdk, "bob")) or []
        again = await sdk.conversation.get_unread_messages("bob")
        assert had + again == [steps]
        early, late = early + len(again), late + len(had)
    assert early, "some were cancelled before they had it"
    assert late, "some were too late to cancel"
    await nothing_is_left(sdk)
    assert await rows(sdk, "select 1 from deliveries where state <> 'done' or read_at is null") == []


@pytest.mark.parametrize("call", READING)
async def test_cancelled_at_any_step_a_message_is_read_or_handled_and_not_both(make_sdk: MakeSdk, call: str) -> None:
    """A handler in another SDK object has what was given back."""
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice")
    had: list[Any] = []
    inbox = Inbox()
    for steps in range(0, STEPS, 2):
        reader = f"reader-{steps}"
        await sdk.add_people(reader)
        await sdk.conversation.send_no_wait("alice", reader, steps)
        had += await cancel_after(steps, READING[call](sdk, reader)) or []
        other.register_handler(reader)(inbox)
    await nothing_is_left(sdk)
    await eventually(
        lambda: rows(sdk, "select 1 from deliveries where state <> 'done'"), SOON, until=lambda left: not left
    )
    assert sorted(had + inbox.messages) == list(range(0, STEPS, 2))
    assert had
    assert inbox.messages


@pytest.mark.parametrize("call", READING)
async def test_cut_off_between_taking_and_returning_it_goes_to_who_is_next(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    await one.conversation.send_no_wait("alice", "bob", "hi")
    verb = "take_awaited" if call == "wait_for_message" else "read_messages"
    held = Held(one, monkeypatch, verb)
    await held.cut(READING[call](one, "bob"))
    assert await other.conversation.wait_for_message("bob", "alice", SOON) == "hi"
    # With a handler it is the handler's again, at once and in this process too.
    await one.conversation.send_no_wait("alice", "bob", "there")
    held = Held(one, monkeypatch, verb)
    inbox = Inbox()

    async def handle() -> None:
        one.register_handler("bob")(inbox)
        await one.wait_until_served("bob", SOON)

    await held.cut(READING[call](one, "bob"), handle())
    assert await inbox.wait_for(1) == ["there"]
    await nothing_is_left(one, other)


async def test_who_waits_elsewhere_is_woken_for_what_is_given_back(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    await one.conversation.send_no_wait("alice", "bob", "hi")
    waits = []

    async def wait_elsewhere() -> None:
        waits.append(begin(other.conversation.wait_for_message("bob", "alice", 60)))
        await until_registered(one)

    held = Held(one, monkeypatch, "read_messages")
    await held.cut(one.conversation.get_unread_messages("bob"), wait_elsewhere())
    [waiting] = waits
    assert await asyncio.wait_for(waiting, SOON) == "hi"
    await nothing_is_left(one, other)


async def test_cancelled_while_the_wait_is_removed_it_gives_back_what_it_found(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = begin(sdk.conversation.wait_for_message("bob", "alice", 60))
    await until_registered(sdk)
    removing, go = asyncio.Event(), asyncio.Event()
    remove = sdk.store.sessions.remove_wait

    async def hold(wait_id: str) -> None:
        removing.set()
        await go.wait()
        await remove(wait_id)

    monkeypatch.setattr(sdk.store.sessions, "remove_wait", hold)
    await sdk.conversation.send_no_wait("alice", "bob", "hi")
    await asyncio.wait_for(removing.wait(), SOON)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    assert await sdk.conversation.wait_for_message("bob", "alice", SOON) == "hi"
    await nothing_is_left(sdk)


async def test_a_repeat_finds_what_is_on_its_way_back(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        await sdk.conversation.send_no_wait("alice", "bob", number)
    held = Held(sdk, monkeypatch, "read_messages")
    await held.cut(sdk.conversation.get_unread_messages("bob"))
    assert await sdk.conversation.get_unread_messages("bob") == [0, 1, 2]
    held = Held(sdk, monkeypatch, "take_awaited")
    await sdk.conversation.send_no_wait("alice", "bob", 3)
    await held.cut(sdk.conversation.wait_for_message("bob", "alice", 60))
    assert await sdk.conversation.wait_for_message("bob", "alice", SOON) == 3


async def test_closing_waits_for_what_goes_back(make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    await one.conversation.send_no_wait("alice", "bob", "hi")
    held = Held(one, monkeypatch, "read_messages")
    await held.cut(one.conversation.get_unread_messages("bob"))
    await one.close()
    assert await other.conversation.get_unread_messages("bob") == ["hi"]


async def test_where_the_store_does_not_take_it_back_the_history_has_it(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await sdk.conversation.send_no_wait("alice", "bob", "hi")
    sessions = sdk.store.sessions

    async def fail(*args: Any, **options: Any) -> Any:
        raise StorageCorruptError

    held = Held(sdk, monkeypatch, "read_messages")
    held.undo = lambda: None
    monkeypatch.setattr(sessions, "return_messages", fail)
    await held.cut(sdk.conversation.get_unread_messages("bob"))
    await sdk._started().reading.until_returned()
    monkeypatch.undo()
    assert "stay read" in caplog.text
    assert await sdk.conversation.get_unread_messages("bob") == []
    [session] = await sdk.conversation.get_active_sessions("bob")
    [record] = await sdk.conversation.get_messages_in_session(session.session_id)
    assert (record.content, record.is_read) == ("hi", True)


@pytest.mark.parametrize("ended_by", ["time", "closing"])
async def test_what_the_store_could_not_take_back_goes_back_when_it_can(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ended_by: str
) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    await one.conversation.send_no_wait("alice", "bob", "hi")
    monkeypatch.setattr("agent_messaging.delivery.again.AGAIN", 0.05 if ended_by == "time" else 60.0)

    async def fail(*args: Any, **options: Any) -> Any:
        raise StorageUnavailableError

    with monkeypatch.context() as outage:
        held = Held(one, outage, "read_messages")
        held.undo = lambda: None
        outage.setattr(one.store.sessions, "return_messages", fail)
        await held.cut(one.conversation.get_unread_messages("bob"))
        await one._started().reading.until_returned()
        assert "trying again" in caplog.text
        assert await other.conversation.get_unread_messages("bob", peek=True) == []
    if ended_by == "closing":
        await one.close()
    await eventually(lambda: other.conversation.get_unread_messages("bob", peek=True), SOON)
    assert await other.conversation.wait_for_message("bob", "alice", 0) == "hi"


async def test_a_call_that_fails_behind_the_taking_gives_back_too(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    await sdk.conversation.send_no_wait("alice", "bob", "hi")

    def fail(row: Any) -> Any:
        raise LookupError("a validator of the user's")

    monkeypatch.setattr(sdk.conversation, "_open", fail)
    for call in READING.values():
        with pytest.raises(LookupError):
            await call(sdk, "bob")
    monkeypatch.undo()
    assert await sdk.conversation.get_unread_messages("bob") == ["hi"]


async def test_a_wait_that_was_ended_while_another_reader_took_its_message_ends(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told of both at once; nothing would tell it again."""
    engine = sdk._started()
    waiting = begin(sdk.conversation.wait_for_message("bob", "alice"))
    await until_registered(sdk)
    find, go = engine.waits.waiters.find, asyncio.Event()

    async def hold(ids: list[str]) -> Any:
        await go.wait()
        found = await find(ids)
        assert await sdk.conversation.get_unread_messages("bob") in (["hi"], [])
        return found

    monkeypatch.setattr(engine.waits.waiters, "find", hold)
    await sdk.conversation.send_no_wait("alice", "bob", "hi")
    await sdk.conversation.end_conversation("alice", "bob")
    go.set()
    with pytest.raises(ConversationEndedError):
        await asyncio.wait_for(waiting, SOON)
    await nothing_is_left(sdk)


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", DAMAGES)
async def test_a_damaged_message_becomes_a_dead_letter_and_the_others_are_read(
    sdk: Sdk, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    ids = [await sdk.conversation.send_no_wait("alice", "bob", number) for number in range(3)]
    await damage(sdk, ids[1], how)
    with caplog.at_level(logging.WARNING):
        assert await sdk.conversation.get_unread_messages("bob", peek=True) == [0, 2]
    assert f"{ids[1]} is damaged: {how}" in caplog.text
    assert await sdk.conversation.get_unread_messages("bob") == [0, 2]
    [letter] = await sdk.dead_letters.list("bob")
    assert (letter.message_id, letter.kind, letter.content) == (ids[1], Kind.CONVERSATION, None)
    assert "damaged" in letter.reasons[0]
    assert await sdk.conversation.get_unread_messages("bob") == []
    assert [receipt.state.value for receipt in await sdk.wait(ids)] == ["done", "dead", "done"]


@pytest.mark.parametrize("how", DAMAGES)
async def test_waiting_passes_a_damaged_message_over(sdk: Sdk, how: str) -> None:
    ids = [await sdk.conversation.send_no_wait("alice", "bob", number) for number in range(2)]
    await damage(sdk, ids[0], how)
    assert await sdk.conversation.wait_for_message("bob", "alice", SOON) == 1
    last = await sdk.conversation.send_no_wait("alice", "bob", 2)
    await damage(sdk, last, how)
    assert await sdk.conversation.wait_for_message("bob", "alice", 0) is None
    assert {letter.message_id for letter in await sdk.dead_letters.list()} == {ids[0], last}
    await nothing_is_left(sdk)


async def test_who_asked_what_cannot_be_read_is_told(sdk: Sdk) -> None:
    asking = ask(sdk, "alice", "bob", "?", timeout=60)
    await damage(sdk, await until_waiting(sdk, "alice", "bob"), DAMAGES[0])
    assert await sdk.conversation.get_unread_messages("bob") == []
    with pytest.raises(HandlerError, match="damaged"):
        await asyncio.wait_for(asking, SOON)
    await nothing_is_left(sdk)


async def test_a_damaged_message_ends_the_same_way_with_a_handler(sdk: Sdk) -> None:
    id = await sdk.conversation.send_no_wait("alice", "bob", "hi")
    await damage(sdk, id, DAMAGES[0])
    sdk.register_handler("bob")(clerk := Clerk())
    [receipt] = await sdk.wait([id])
    assert (receipt.state.value, clerk.messages) == ("dead", [])
    [letter] = await sdk.dead_letters.list("bob")
    assert "damaged" in letter.reasons[0]
    assert letter.content is None
