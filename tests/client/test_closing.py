"""Closing while something hangs, the store or a function of the user's: it ends in time, and nobody is left waiting."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from agent_messaging import (
    MeetingEventType,
    MessageContext,
    NotInitializedError,
    StorageUnavailableError,
    register_message_notification_handler,
)
from agent_messaging.models import AskState
from tests.client.conversing import ask, begin, nothing_is_left, until_registered, until_waiting
from tests.client.meeting_support import Table
from tests.client.support import SOON, Inbox, MakeSdk, Sdk
from tests.support import eventually

IN_TIME = 8.0
"""Seconds: the few that closing may take beyond its drain timeout, and some for a busy machine."""


async def hang(*args: Any, **options: Any) -> Any:
    await asyncio.Event().wait()


async def close(sdk: Sdk) -> None:
    started = time.monotonic()
    await asyncio.wait_for(sdk.close(), SOON * 6)
    assert time.monotonic() - started < IN_TIME


async def test_a_store_that_takes_no_wait_back_does_not_hold_up_closing(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    waiting = begin(one.conversation.wait_for_message("bob", "alice"))
    await until_registered(other)
    monkeypatch.setattr(one.store.sessions, "remove_wait", hang)
    await close(one)
    with pytest.raises(NotInitializedError):
        await asyncio.wait_for(waiting, SOON)
    await nothing_is_left(other)


async def test_closing_while_a_wait_is_removed_leaves_its_caller_the_message(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    waiting = begin(one.conversation.wait_for_message("bob", "alice"))
    await until_registered(other)
    removing = asyncio.Event()

    async def remove(wait_id: str) -> None:
        removing.set()
        await hang()

    monkeypatch.setattr(one.store.sessions, "remove_wait", remove)
    await other.conversation.send_no_wait("alice", "bob", "hi")
    await asyncio.wait_for(removing.wait(), SOON)
    await close(one)
    assert await asyncio.wait_for(waiting, SOON) == "hi"
    assert await other.conversation.get_unread_messages("bob") == []
    await nothing_is_left(other)


async def test_a_store_that_takes_no_message_back_does_not_hold_up_closing(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await make_sdk()
    await one.add_people("alice", "bob")
    await one.conversation.send_no_wait("alice", "bob", "hi")
    engine = one._started()

    def fail(row: Any) -> Any:
        raise LookupError

    monkeypatch.setattr(one.conversation, "_open", fail)
    monkeypatch.setattr(one.store.sessions, "return_messages", hang)
    with pytest.raises(LookupError):
        await one.conversation.get_unread_messages("bob")
    await close(one)
    assert not engine.reading._returning


@pytest.mark.parametrize("when", ["in flight", "not begun"])
async def test_asks_that_the_store_does_not_end_keep_nobody_waiting(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Neither those of the call that is in flight, nor those that come after it."""
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    asking = ask(sdk, "alice", "bob", timeout=60)
    ask_id = await until_waiting(sdk, "alice", "bob")
    asks = sdk._started().asks
    monkeypatch.setattr(asks.sessions, "close_asks", hang)
    endings = [asks._close(ask_id, state) for state in (AskState.TIMED_OUT, AskState.CANCELLED)]
    if when == "in flight":
        await asyncio.sleep(0)
    else:
        await asks._closer.aclose()
    await close(sdk)
    for call in (asking, *endings):
        with pytest.raises(NotInitializedError, match="closed"):
            await asyncio.wait_for(call, SOON)


async def test_a_notification_handler_whose_thread_hangs_holds_up_neither_closing_nor_the_end_of_the_loop(
    make_sdk: MakeSdk,
) -> None:
    sdk = await make_sdk(drain_timeout=0.2)
    await sdk.add_people("alice", "bob")
    begun, end = threading.Event(), threading.Event()

    @register_message_notification_handler(agent="bob")
    def stuck(message: Any, context: MessageContext) -> None:
        begun.set()
        end.wait(60)

    try:
        await sdk.conversation.send_no_wait("alice", "bob", "hi")
        await eventually(begun.is_set, SOON)
        await close(sdk)
        left = [task for task in asyncio.all_tasks() if task.get_name().startswith("agent-messaging")]
        assert left == []
    finally:
        end.set()


async def test_events_for_a_handler_that_was_unregistered_are_not_waited_for(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob", "carol", "dave")
    began = asyncio.Event()

    async def slow(event: Any) -> None:
        began.set()
        await hang()

    sdk.register_event_handler(MeetingEventType.PARTICIPANT_JOINED)(slow)
    await Table.gather(sdk, "bob", "carol", "dave")
    await asyncio.wait_for(began.wait(), SOON)
    events = sdk._started().events
    [queue] = events._queues.values()
    await eventually(queue.qsize, SOON, until=lambda size: size >= 2)
    idle = begin(events.wait_until_idle())
    await eventually(lambda: queue._finished._waiters, SOON)  # type: ignore[attr-defined]
    assert sdk._event_handler.unregister_handler(MeetingEventType.PARTICIPANT_JOINED, slow)
    await asyncio.wait_for(idle, SOON)
    await close(sdk)


async def test_a_wait_whose_removal_failed_is_gone_with_the_farewell(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")

    async def fail(wait_id: str) -> None:
        raise StorageUnavailableError

    monkeypatch.setattr(one.store.sessions, "remove_wait", fail)
    assert await one.conversation.wait_for_message("bob", "alice", 0.01) is None
    await one.close()
    await nothing_is_left(other)
    other.register_handler("bob")(inbox := Inbox())
    await other.conversation.send_no_wait("alice", "bob", "hi")
    assert await inbox.wait_for(1) == ["hi"]


async def test_a_farewell_that_takes_too_long_is_told_with_its_reason(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A `TimeoutError` has no text of its own."""
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    await sdk.one_way.send("alice", "bob", "hi", require_handler=False)
    assert len(await sdk.receive("bob")) == 1

    async def run_out(*args: Any, **options: Any) -> None:
        raise TimeoutError

    monkeypatch.setattr(sdk._started().dispatcher.claims, "give_back", run_out)
    monkeypatch.setattr(sdk.store.processes, "retire", run_out)
    await close(sdk)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "what was claimed could not be given back while closing: TimeoutError",
        "could not say goodbye to the store; others will find out: TimeoutError",
    ]
