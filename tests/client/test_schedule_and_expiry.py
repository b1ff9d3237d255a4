"""Messages for later, and messages that are of no use any more."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from agent_messaging import IdempotencyConflictError, InvalidArgumentError, register_message_notification_handler
from tests.client.conversing import ask
from tests.client.support import SOON, Gate, Inbox, MakeSdk, Sdk


async def test_the_last_of_all_instants_comes_back_as_it_was(sdk: Sdk) -> None:
    last = datetime.max.replace(tzinfo=UTC)
    [id] = await sdk.one_way.send("alice", "bob", "never", deliver_at=last, require_handler=False)
    receipt = await sdk.receipts.get(id)
    assert receipt.deliver_at is not None
    assert abs(receipt.deliver_at - last) < timedelta(seconds=1)
    assert receipt.state.value == "queued"


async def test_a_scheduled_message_is_handled_when_it_is_due_and_not_before(sdk: Sdk) -> None:
    sdk.register_handler("bob")(inbox := Inbox())
    for wait in (0.4, 3.0, 20.0):
        due = datetime.now(UTC) + timedelta(seconds=wait)
        [later] = await sdk.one_way.send("alice", "bob", "later", deliver_at=due)
        [now] = await sdk.one_way.send("alice", "bob", "now")
        await sdk.wait([now])
        seen, scheduled = list(inbox.messages), await sdk.receipts.get(later)
        if datetime.now(UTC) < due:
            break
        await sdk.wait([later])  # a busy machine: once more with more time
        inbox.messages.clear()
    assert seen == ["now"]
    assert scheduled.state.value == "queued"
    assert scheduled.deliver_at is not None
    assert abs(scheduled.deliver_at - due) < timedelta(milliseconds=2)
    [receipt] = await sdk.receipts.wait([later], timeout=SOON + wait)
    assert receipt.claimed_at is not None
    assert receipt.claimed_at >= due - timedelta(milliseconds=2)
    assert receipt.claimed_at - due < timedelta(seconds=3)


async def test_a_scheduled_message_is_handled_by_another_process_after_its_sender_stopped(make_sdk: MakeSdk) -> None:
    worker, sender = await make_sdk(), await make_sdk()
    await sender.add_people("alice", "bob")
    worker.register_handler("bob")(inbox := Inbox())
    tokyo = timezone(timedelta(hours=9))
    due = datetime.now(tokyo) + timedelta(seconds=0.3)
    ids = await sender.one_way.send("alice", "bob", "later", deliver_at=due, require_handler=False)
    await sender.close()
    [receipt] = await worker.wait(ids)
    assert inbox.messages == ["later"]
    assert receipt.claimed_at is not None
    assert receipt.claimed_at >= due - timedelta(milliseconds=2)


async def test_an_instant_in_the_past_is_due_at_once(sdk: Sdk) -> None:
    sdk.register_handler("bob")(inbox := Inbox())
    for instant in (datetime.now(UTC) - timedelta(days=400), datetime(1970, 1, 1, tzinfo=UTC)):
        await sdk.wait(await sdk.one_way.send("alice", "bob", "hi", deliver_at=instant))
    assert inbox.messages == ["hi", "hi"]


async def test_a_message_that_nobody_began_to_handle_in_time_expires(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    waits = []
    [id] = await sdk.one_way.send("alice", "bob", "fresh", expires_in=0.3, require_handler=False)
    waits = [asyncio.create_task(one.receipts.wait(id, timeout=SOON)) for one in (sdk, other)]
    for wait in waits:
        receipt = await wait
        assert (receipt.state.value, receipt.attempt) == ("expired", 0)
        assert receipt.expires_at is not None
        assert receipt.expires_at - receipt.created_at == timedelta(seconds=0.3)
        assert receipt.settled_at is not None
        assert receipt.settled_at >= receipt.expires_at - timedelta(milliseconds=2)
        assert [event.event for event in receipt.events] == ["stored", "expired"]
    sdk.register_handler("bob")(inbox := Inbox())
    await sdk.wait(await sdk.one_way.send("alice", "bob", "next"))
    assert inbox.messages == ["next"]
    assert await sdk.dead_letters.list() == [], "an expired message is no dead letter"


async def test_a_message_that_is_being_handled_does_not_expire(sdk: Sdk) -> None:
    sdk.register_handler("bob", concurrency=1)(gate := Gate())
    [running] = await sdk.one_way.send("alice", "bob", "running", expires_in=0.3)
    [waiting] = await sdk.one_way.send("alice", "bob", "waiting", expires_in=0.3)
    [receipt] = await sdk.wait([waiting])
    assert receipt.state.value == "expired"
    assert await sdk.state(running) == "claimed"
    gate.open()
    [receipt] = await sdk.wait([running])
    assert (receipt.state.value, gate.messages) == ("done", ["running"])


async def test_a_scheduled_message_that_expires_once_it_is_due_is_never_handled(sdk: Sdk) -> None:
    due = datetime.now(UTC) + timedelta(seconds=0.1)
    options: dict[str, Any] = {"deliver_at": due, "require_handler": False}
    [never] = await sdk.one_way.send("alice", "bob", "never", expires_in=0.3, **options)
    [later] = await sdk.one_way.send("alice", "bob", "later", **options)
    assert [receipt.state.value for receipt in await sdk.wait([never])] == ["expired"]
    sdk.register_handler("bob")(inbox := Inbox())
    await sdk.wait([later])
    assert inbox.messages == ["later"]


async def test_a_message_for_the_far_future_is_kept(sdk: Sdk) -> None:
    for instant, expires_in in (
        (datetime(9999, 12, 31, tzinfo=UTC), None),
        (datetime.now(UTC) + timedelta(days=34_000), 3e9),
    ):
        [id] = await sdk.one_way.send(
            "alice", "bob", "x", deliver_at=instant, expires_in=expires_in, require_handler=False
        )
        receipt = await sdk.receipts.get(id)
        assert receipt.deliver_at is not None
        assert abs(receipt.deliver_at - instant) < timedelta(seconds=1)
        assert await sdk.receipts.withdraw(id) == [id]


# --- in conversations -------------------------------------------------------------------------------------------------


async def test_a_scheduled_conversation_message_is_nobodys_until_it_is_due(sdk: Sdk) -> None:
    register_message_notification_handler(agent="carol")(notices := Inbox())
    far = datetime.now(UTC) + timedelta(days=1)
    send, talk = sdk.conversation.send_no_wait, sdk.conversation
    await send("alice", "carol", "tomorrow", deliver_at=far)
    assert await talk.get_unread_messages("carol", peek=True) == []
    assert await talk.get_messages_from_agent("carol", "alice") == []
    assert await talk.wait_for_message("carol", "alice", timeout=0) is None
    await send("alice", "carol", "now")
    assert await talk.wait_for_message("carol", "alice", timeout=SOON) == "now"
    assert await notices.wait_for(1) == ["now"]
    due = datetime.now(UTC) + timedelta(seconds=0.3)
    id = await send("alice", "carol", "soon", deliver_at=due)
    waiting = asyncio.create_task(talk.wait_for_message("carol", "alice", timeout=SOON))
    assert await waiting == "soon"
    assert datetime.now(UTC) >= due - timedelta(milliseconds=2)
    receipt = await sdk.receipts.get(id)
    assert (receipt.state.value, receipt.deliver_at) == ("done", None)
    assert await notices.wait_for(2) == ["now", "soon"]
    assert await talk.get_unread_messages("carol") == []


async def test_a_scheduled_conversation_message_has_its_handler_run_when_it_is_due(make_sdk: MakeSdk) -> None:
    worker, sender = await make_sdk(), await make_sdk()
    await sender.add_people("alice", "bob")
    worker.register_handler("bob")(inbox := Inbox())
    register_message_notification_handler(agent="bob")(notices := Inbox())
    due = datetime.now(UTC) + timedelta(seconds=0.3)
    id = await sender.conversation.send_no_wait("alice", "bob", "later", deliver_at=due)
    await sender.close()
    [receipt] = await worker.wait([id])
    assert receipt.claimed_at is not None
    assert receipt.claimed_at >= due - timedelta(milliseconds=2)
    assert inbox.messages == ["later"]
    assert await notices.wait_for(1) == ["later"]


async def test_a_conversation_message_that_nobody_began_with_expires(sdk: Sdk) -> None:
    id = await sdk.conversation.send_no_wait("alice", "bob", "quick", expires_in=0.2)
    [receipt] = await sdk.wait([id])
    assert receipt.state.value == "expired"
    assert await sdk.conversation.get_unread_messages("bob") == []
    assert await sdk.conversation.wait_for_message("bob", "alice", timeout=0) is None
    assert (await sdk.conversation.get_session_statistics("bob")).unread_count == 0
    kept = await sdk.conversation.send_no_wait("alice", "bob", "slow", expires_in=60)
    assert await sdk.conversation.get_unread_messages("bob") == ["slow"]
    assert await sdk.state(kept) == "done"


async def test_a_scheduled_message_is_no_answer(sdk: Sdk) -> None:
    question = ask(sdk, "alice", "bob")
    assert await sdk.conversation.wait_for_message("bob", "alice", timeout=SOON) == "?"
    due = datetime.now(UTC) + timedelta(days=1)
    await sdk.conversation.send_no_wait("bob", "alice", "by the way", deliver_at=due)
    await sdk.async_conversation.send("bob", "alice", "as well", expires_in=60, deliver_at=datetime.now(UTC))
    assert await question == "as well", "an instant that is over is now"


async def test_the_schedule_is_checked_and_belongs_to_the_key(sdk: Sdk) -> None:
    due = datetime.now(UTC) + timedelta(hours=1)
    send: Any = sdk.conversation.send_no_wait
    for options in ({"deliver_at": datetime.now()}, {"expires_in": 0}, {"deliver_at": due, "expires_in": 60}):
        with pytest.raises(InvalidArgumentError):
            await send("alice", "bob", "hi", **options)
    first = await send("alice", "bob", "hi", idempotency_key="k", deliver_at=due)
    assert await send("alice", "bob", "hi", idempotency_key="k", deliver_at=due) == first
    with pytest.raises(IdempotencyConflictError):
        await send("alice", "bob", "hi", idempotency_key="k")
