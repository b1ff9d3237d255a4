"""Who is told of what was committed does not depend on whether the caller is still there.

Each call is cancelled between its commit and its return, and no poll runs: whoever hears of it was told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from agent_messaging import (
    AgentNotFoundError,
    ConversationEndedError,
    MeetingEventType,
    MessageContext,
    MessageNotFoundError,
    register_message_notification_handler,
    register_one_way_handler,
)
from agent_messaging.storage import lifesign
from agent_messaging.storage.sqlite.presence import SQLitePresence
from tests.client.conversing import STEPS, ask, begin, cancel_after, rows, until_registered, until_waiting
from tests.client.support import SOON, Inbox, MakeSdk, Sdk
from tests.support import eventually

NEVER = 3600.0


@pytest.fixture(autouse=True)
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """SDK objects that are started from now on hear of nothing but what they are told."""
    monkeypatch.setattr(SQLitePresence, "poll_interval", NEVER)
    monkeypatch.setattr(lifesign, "POLL", NEVER)


async def cancelled_behind_its_commit(noun: Any, verb: str, call: Coroutine[Any, Any, Any]) -> None:
    """Cancel the call when the store has committed it, and before the store's answer is there."""
    committed, go_on = asyncio.Event(), asyncio.Event()
    original = getattr(noun, verb)

    async def hold(*args: Any, **options: Any) -> Any:
        result = await original(*args, **options)
        committed.set()
        await go_on.wait()
        return result

    setattr(noun, verb, hold)
    task = begin(call)
    await asyncio.wait_for(committed.wait(), SOON)
    delattr(noun, verb)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()


async def test_a_notification_handler_is_told_of_a_cancelled_message(sdk: Sdk) -> None:
    register_message_notification_handler(agent="bob")(notices := Inbox())
    deliveries = sdk._started().store.deliveries
    await cancelled_behind_its_commit(deliveries, "append", sdk.conversation.send_no_wait("alice", "bob", "news"))
    assert await notices.wait_for(1) == ["news"]


async def test_a_notification_handler_is_told_of_whatever_is_stored_wherever_it_is_cancelled(sdk: Sdk) -> None:
    register_message_notification_handler(agent="bob")(notices := Inbox())
    for step in range(STEPS):
        await cancel_after(step, sdk.conversation.send_no_wait("alice", "bob", step))
    await sdk._started().outbox.wait_until_idle()
    stored = await sdk.conversation.get_unread_messages("bob", peek=True)
    assert await notices.wait_for(len(stored)) == stored


async def test_a_handler_elsewhere_is_told_of_a_cancelled_message(make_sdk: MakeSdk) -> None:
    sender = await make_sdk(auto_invoke_handlers=False)
    await sender.add_people("alice", "bob")
    register_message_notification_handler(agent="bob")(notices := Inbox())
    await make_sdk()
    await sender.wait_until_served("bob", SOON)
    deliveries = sender._started().store.deliveries
    await cancelled_behind_its_commit(deliveries, "append", sender.conversation.send_no_wait("alice", "bob", "news"))
    assert await notices.wait_for(1) == ["news"]


async def test_a_cancelled_scheduled_message_is_handled_when_it_is_due(sdk: Sdk) -> None:
    sdk.register_handler("bob")(inbox := Inbox())
    at = datetime.now(UTC) + timedelta(seconds=0.3)
    deliveries = sdk._started().store.deliveries
    await cancelled_behind_its_commit(deliveries, "append", sdk.one_way.send("alice", "bob", "later", deliver_at=at))
    assert await inbox.wait_for(1) == ["later"]


async def test_a_message_that_is_due_already_is_handled_at_once(sdk: Sdk) -> None:
    sdk.register_handler("bob")(inbox := Inbox())
    at = datetime.now(UTC) - timedelta(seconds=5)
    deliveries = sdk._started().store.deliveries
    await cancelled_behind_its_commit(deliveries, "append", sdk.one_way.send("alice", "bob", "now", deliver_at=at))
    assert await inbox.wait_for(1) == ["now"]


async def test_a_cancelled_message_expires_when_it_is_to(sdk: Sdk) -> None:
    deliveries = sdk._started().store.deliveries
    send = sdk.one_way.send("alice", "bob", "short", expires_in=0.3, require_handler=False)
    await cancelled_behind_its_commit(deliveries, "append", send)
    [(id,)] = await rows(sdk, "select id from messages")
    [receipt] = await sdk.wait([str(id)])
    assert receipt.state.value == "expired"


async def test_a_cancelled_ask_that_a_repeat_may_join_times_out(sdk: Sdk) -> None:
    deliveries = sdk._started().store.deliveries
    asking = sdk.conversation.send_and_wait("alice", "bob", "?", 0.3, idempotency_key="k", require_handler=False)
    await cancelled_behind_its_commit(deliveries, "append", asking)
    await eventually(lambda: rows(sdk, "select 1 from asks where state = 'timed_out'"), SOON)


async def test_who_waits_in_a_conversation_hears_of_its_end(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    asking = ask(other, "alice", "bob")
    await until_waiting(one, "alice", "bob")
    waiting = begin(one.conversation.wait_for_message("alice", "bob", SOON))
    await until_registered(one)
    sessions = one._started().store.sessions
    await cancelled_behind_its_commit(sessions, "end_session", one.conversation.end_conversation("bob", "alice"))
    for call in (asking, waiting):
        with pytest.raises(ConversationEndedError):
            await asyncio.wait_for(call, SOON / 2)


@pytest.mark.parametrize("who", ["agent", "organization"])
@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_everybody_hears_that_agents_were_removed(make_sdk: MakeSdk, who: str, is_cancelled: bool) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice")
    await one.add_people("bob", organization="other")
    [id] = await one.one_way.send("alice", "bob", 1, require_handler=False)
    await other.one_way.get_sent_messages("alice")
    waits = [
        begin(other.receipts.wait(id, timeout=SOON)),
        begin(other.conversation.wait_for_message("alice", "bob", SOON)),
        ask(other, "alice", "bob"),
    ]
    await until_registered(one)
    await until_waiting(one, "alice", "bob")
    directory = one._started().store.directory
    if who == "agent":
        verb, call = "remove_agent", one.deregister_agent("bob")
    else:
        verb, call = "remove_organization", one.deregister_organization("other")
    if is_cancelled:
        await cancelled_behind_its_commit(directory, verb, call)
    else:
        assert await call
    with pytest.raises(MessageNotFoundError):
        await asyncio.wait_for(waits[0], SOON / 2)
    for wait in waits[1:]:
        with pytest.raises(AgentNotFoundError):
            await asyncio.wait_for(wait, SOON / 2)


async def test_a_bare_handler_serves_an_agent_whose_registration_was_cancelled(sdk: Sdk) -> None:
    register_one_way_handler(inbox := Inbox())
    directory = sdk._started().store.directory
    await cancelled_behind_its_commit(directory, "add_agent", sdk.register_agent("dave", "acme", "Dave"))
    await sdk.wait_until_served("dave", SOON)
    await sdk.one_way.send("alice", "dave", "hello")
    assert await inbox.wait_for(1) == ["hello"]


async def test_handlers_elsewhere_get_the_invitations_of_a_cancelled_call(make_sdk: MakeSdk) -> None:
    host, guest = await make_sdk(), await make_sdk()
    await host.add_people("alice", "bob")
    guest.register_handler("bob")(inbox := Inbox())
    await host.wait_until_served("bob", SOON)
    meetings = host._started().store.meetings
    await cancelled_behind_its_commit(meetings, "create", host.meeting.create_meeting("alice", ["bob"]))
    [invitation] = await inbox.wait_for(1)
    assert invitation["host"] == "alice"


async def test_a_redriven_message_is_handled_elsewhere(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(max_attempts=1), await make_sdk()
    await one.add_people("alice", "bob")

    def once(message: Any, context: MessageContext) -> None:
        if len(inbox.messages) == 1:
            raise LookupError("not yet")

    other.register_handler("bob")(inbox := Inbox(once))
    await one.wait_until_served("bob", SOON)
    [id] = await one.one_way.send("alice", "bob", 1)
    await one.wait([id])
    deliveries = one._started().store.deliveries
    await cancelled_behind_its_commit(deliveries, "redrive", one.dead_letters.redrive(id))
    assert await inbox.wait_for(2) == [1, 1]


async def test_who_waits_for_the_receipt_of_a_withdrawn_message_is_told(sdk: Sdk) -> None:
    [id] = await sdk.one_way.send("alice", "bob", 1, require_handler=False)
    waiting = begin(sdk.receipts.wait(id, timeout=SOON))
    await asyncio.sleep(0)
    asking = ask(sdk, "alice", "carol")
    question = await until_waiting(sdk, "alice", "carol")
    deliveries = sdk._started().store.deliveries
    await cancelled_behind_its_commit(deliveries, "withdraw", sdk.receipts.withdraw([id, question]))
    assert (await asyncio.wait_for(waiting, SOON / 2)).state.value == "withdrawn"
    with pytest.raises(ConversationEndedError):
        await asyncio.wait_for(asking, SOON / 2)


@pytest.mark.parametrize("how", ["done", "reject", "retry"])
async def test_what_a_cancelled_receiver_has_settled_is_told(make_sdk: MakeSdk, how: str) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    [id] = await one.one_way.send("alice", "bob", 1, require_handler=False)
    waiting = begin(one.receipts.wait(id, timeout=SOON))
    [message] = await other.receive("bob", timeout=SOON)
    settling: dict[str, Any] = {
        "done": message.done,
        "reject": partial(message.reject, "no"),
        "retry": partial(message.retry, 0.2),
    }
    await cancelled_behind_its_commit(other._started().store.deliveries, "settle", settling[how]())
    if how == "retry":
        [again] = await asyncio.wait_for(other.receive("bob", timeout=SOON), SOON / 2)
        await again.done()
    receipt = await asyncio.wait_for(waiting, SOON / 2)
    assert receipt.state.value == {"done": "done", "reject": "dead", "retry": "done"}[how]


async def test_event_handlers_everywhere_hear_of_an_event_of_a_cancelled_call(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    heard: asyncio.Queue[Any] = asyncio.Queue()
    for sdk in (one, other):
        sdk.register_event_handler(MeetingEventType.ERROR_OCCURRED)(heard.put)
        await sdk._started().events.ready()
    await eventually(
        lambda: rows(one, "select 1 from services where kind = 'events'"), SOON, until=lambda f: len(f) == 2
    )
    await one._started().serving.neighbours.ring_everybody()
    meeting = await one.meeting.create_meeting("alice", ["bob"])
    emit = one._event_handler.emit_error_occurred(meeting, "x", "y")
    await cancelled_behind_its_commit(one._started().store.meetings, "record_event", emit)
    for _ in range(2):
        await asyncio.wait_for(heard.get(), SOON / 2)


async def test_who_waits_for_a_turn_hears_of_a_cancelled_speech(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    meeting = await one.meeting.create_meeting("alice", ["bob"])
    await other.meeting.attend_meeting("bob", meeting)
    await one.meeting.start_meeting("alice", meeting)
    waiting = begin(other.meeting.wait_for_turn("bob", meeting, timeout=SOON))
    await cancelled_behind_its_commit(
        one._started().store.meetings, "act", one.meeting.speak("alice", meeting, "over to bob")
    )
    assert (await asyncio.wait_for(waiting, SOON / 2)).number == 2
