"""Calls at the edges: agents removed under a call, pulling now and then, a store that fails in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from agent_messaging import (
    AgentNotFoundError,
    HandlerError,
    InvalidArgumentError,
    MeetingEventType,
    MessageNotFoundError,
    NotInitializedError,
    StorageBusyError,
    TimeoutError,
    register_message_notification_handler,
    register_one_way_handler,
)
from agent_messaging.ids import uuid7
from agent_messaging.storage.ports import Service
from tests.client.support import SOON, Inbox, MakeSdk, Sdk
from tests.support import eventually

pytestmark = pytest.mark.parametrize("backend", ["sqlite"])


async def pull(sdk: Sdk, **options: Any) -> asyncio.Task[list[Any]]:
    """Begin to pull for bob; returns when it waits for a message."""
    waiting = asyncio.create_task(sdk.receive("bob", **options))
    await eventually(lambda: services_of(sdk))
    return waiting


async def services_of(sdk: Sdk) -> tuple[Service, ...]:
    """What the store says this object serves."""
    rows = await sdk.store.processes.list_processes(0)
    [row] = [row for row in rows if row.process_id == sdk.store.presence.process_id]
    return row.services


# --- pulling ----------------------------------------------------------------------------------------------------------


async def test_a_receive_ends_when_its_agent_is_removed_here_or_elsewhere(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(handler_grace=0), await make_sdk()
    for remover in (sdk, other):
        await sdk.add_people("bob")
        waiting = await pull(sdk)
        assert await remover.deregister_agent("bob")
        with pytest.raises(AgentNotFoundError, match="'bob'"):
            await asyncio.wait_for(waiting, SOON)
    await sdk.add_people("bob")
    waiting = await pull(sdk)
    assert await other.deregister_organization("acme")
    with pytest.raises(AgentNotFoundError):
        await asyncio.wait_for(waiting, SOON)


async def test_a_receive_goes_on_for_an_agent_that_is_registered_anew(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    waiting = await pull(sdk)
    # In one commit, as far as the other can see: it never finds the agent missing.
    add = other.store.directory.add_agent
    found = await other.get_agent("bob")
    await other.store.directory.remove_agent("bob")
    await add(uuid7(), "bob", str(found.organization_id), "Bob", update_name=False)
    if waiting.done():  # it looked just in between
        assert isinstance(waiting.exception(), AgentNotFoundError)
        waiting = await pull(sdk)
    [id] = await other.one_way.send("alice", "bob", "hi", require_handler=False)
    [message] = await asyncio.wait_for(waiting, SOON)
    assert message.message_id == id
    await message.done()


async def test_a_receive_that_ends_while_it_looks_up_the_sender_gives_back_what_it_claimed(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    [id] = await other.one_way.send("alice", "bob", "hi", require_handler=False)
    looking = asyncio.Event()
    names = sdk._started().names
    find_by_id = names.find_by_id

    def by_receiver() -> bool:
        task = asyncio.current_task()
        return task is not None and task.get_name() == "receiver"

    async def never(ids: set[str], **options: Any) -> Any:
        if by_receiver():
            looking.set()
            await asyncio.Event().wait()
        return await find_by_id(ids, **options)

    async def fails(ids: set[str], **options: Any) -> Any:
        if by_receiver():
            raise StorageBusyError
        return await find_by_id(ids, **options)

    with monkeypatch.context() as patch:
        patch.setattr(names, "find_by_id", never)
        waiting = asyncio.create_task(sdk.receive("bob"), name="receiver")
        await asyncio.wait_for(looking.wait(), SOON)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    [message] = await sdk.receive("bob", timeout=SOON)
    assert (message.message_id, message.context.attempt) == (id, 1)
    await message.retry()
    with monkeypatch.context() as patch:
        patch.setattr(names, "find_by_id", fails)
        with pytest.raises(StorageBusyError):
            await asyncio.create_task(sdk.receive("bob", timeout=SOON), name="receiver")
    [message] = await other.receive("bob", timeout=SOON)
    await message.done()


async def test_who_pulls_without_running_handlers_is_known_to_others(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(auto_invoke_handlers=False), await make_sdk()
    await sdk.add_people("alice", "bob")
    waiting = await pull(sdk)
    await other.wait_until_served("bob", SOON)
    [id] = await other.one_way.send("alice", "bob", "hi")
    [message] = await waiting
    assert message.message_id == id
    await message.done()


async def test_one_look_takes_no_agent_from_a_bare_handler_elsewhere(make_sdk: MakeSdk) -> None:
    server, looker = await make_sdk(), await make_sdk(auto_invoke_handlers=False)
    register_one_way_handler()(inbox := Inbox())
    await server.add_people("alice", "bob")
    await server.wait_until_served("bob", SOON)
    assert await looker.receive("bob", timeout=0) == []
    assert [service.explicit for service in await services_of(looker)] == [False]
    await server.wait_until_served("bob", SOON)  # which reads what the others serve
    await looker.wait(await looker.one_way.send("alice", "bob", "hi"))
    assert inbox.messages == ["hi"]


async def test_who_pulls_counts_as_serving_until_the_grace_after_its_last_call(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(handler_grace=0)
    await sdk.add_people("alice", "bob")
    first, second = await pull(sdk, timeout=SOON), await pull(sdk, timeout=SOON)
    first.cancel()
    await asyncio.wait({first})
    serving = sdk._started().serving
    await serving.publish()
    assert len(await services_of(sdk)) == 1
    second.cancel()
    await eventually(lambda: services_of(sdk), until=lambda services: services == ())

    serving.grace = SOON
    assert await sdk.receive("bob", timeout=0) == []
    assert await sdk.receive("bob", timeout=0) == []
    await serving.publish()
    assert len(await services_of(sdk)) == 1
    [id] = await sdk.one_way.send("alice", "bob", "hi")
    assert await sdk.receipts.withdraw(id) == [id]


async def test_handlers_that_could_not_be_published_are_published_when_the_store_answers_again(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    tried = asyncio.Event()

    async def busy(*given: object) -> None:
        tried.set()
        raise StorageBusyError

    inbox = Inbox()
    with monkeypatch.context() as patch:
        patch.setattr(sdk.store.processes, "publish", busy)
        sdk.register_handler("bob")(inbox)
        await asyncio.wait_for(tried.wait(), SOON)
    await other.wait_until_served("bob", SOON)
    await other.wait(await other.one_way.send("alice", "bob", "hi"))
    assert inbox.messages == ["hi"]


# --- waiting and closing ----------------------------------------------------------------------------------------------


async def test_waiting_for_a_receipt_is_refused_once_the_waiting_ones_were_released(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    ids = await sdk.one_way.send("alice", "bob", "hi", require_handler=False)
    waiters = sdk._started().lots.receipts

    async def wait_again_and_again() -> int:
        for times in range(10):
            try:
                await waiters.wait(ids)
            except NotInitializedError:
                if times == 2:
                    return times
        raise AssertionError

    waiting = asyncio.create_task(wait_again_and_again())
    await eventually(lambda: waiters._futures, interval=0)
    await sdk.close()
    assert await asyncio.wait_for(waiting, SOON) == 2


async def test_a_handler_that_leaves_the_sdk_is_told_that_it_cannot(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(max_attempts=1)
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(Inbox(lambda message, context: sdk.__aexit__(None, None, None)))
    [receipt] = await sdk.wait(await sdk.one_way.send("alice", "bob", "leave"))
    assert receipt.reasons[0].startswith("HandlerError: close() was called by a handler")
    assert await sdk.state(receipt.message_id) == "dead"


@pytest.mark.parametrize("kind", ["task", "notification", "event", "selection"])
async def test_whatever_function_leaves_the_sdk_is_told_that_it_cannot(sdk: Sdk, kind: str) -> None:
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def leave(*_: Any) -> None:
        try:
            await sdk.close()
        except HandlerError as error:
            if not told.done():
                told.set_result(str(error))

    if kind == "task":
        sdk.register_task_handler("worker", capabilities=["leave"])(leave)
        await sdk.tasks.delegate("leave")
    elif kind == "notification":
        register_message_notification_handler(agent="bob")(leave)
        await sdk.conversation.send_no_wait("alice", "bob", "hi")
    else:
        if kind == "event":
            sdk.register_event_handler(MeetingEventType.MEETING_STARTED)(leave)
        chosen: dict[str, Any] = {"speaker_selection": leave} if kind == "selection" else {}
        meeting_id = await sdk.meeting.create_meeting("alice", ["bob"], **chosen)
        await sdk.meeting.attend_meeting("bob", meeting_id)
        await sdk.meeting.start_meeting("alice", meeting_id)
        await sdk.meeting.speak("alice", meeting_id, "hi")
    assert (await asyncio.wait_for(told, SOON)).startswith("close() was called by a handler")


async def test_a_receipt_can_be_looked_at_without_waiting(sdk: Sdk) -> None:
    [id] = await sdk.one_way.send("alice", "bob", "hi", require_handler=False)
    with pytest.raises(TimeoutError, match=f"{id} is queued"):
        await sdk.receipts.wait(id, timeout=0)
    await sdk.receipts.withdraw(id)
    assert (await sdk.receipts.wait(id, timeout=0)).state.value == "withdrawn"
    assert [receipt.message_id for receipt in await sdk.receipts.wait([id], timeout=0)] == [id]
    with pytest.raises(MessageNotFoundError):
        await sdk.receipts.wait([id, uuid7()], timeout=0)
    with pytest.raises(InvalidArgumentError, match="timeout"):
        await sdk.receipts.wait(id, timeout=False)


# --- agents that another process removed ------------------------------------------------------------------------------

READS: dict[str, Callable[[Sdk], Awaitable[Any]]] = {
    "received": lambda sdk: sdk.one_way.get_received_messages("bob"),
    "sent": lambda sdk: sdk.one_way.get_sent_messages("bob"),
    "count": lambda sdk: sdk.one_way.get_message_count("bob"),
    "mark": lambda sdk: sdk.one_way.mark_messages_read("bob"),
    "mark from": lambda sdk: sdk.one_way.mark_messages_read("alice", "bob"),
    "dead": lambda sdk: sdk.dead_letters.list("bob"),
    "redrive": lambda sdk: sdk.dead_letters.redrive(recipient_external_id="bob"),
    "receive": lambda sdk: sdk.receive("bob", timeout=0),
    "serve": lambda sdk: sdk.serve("bob"),
}


async def test_an_agent_that_another_process_removed_is_not_found_by_any_call(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    for read in READS.values():
        await sdk.add_people("alice", "bob")
        assert not await read(sdk)
        await other.deregister_agent("bob")
        with pytest.raises(AgentNotFoundError, match="'bob'"):
            await read(sdk)


async def test_an_agent_that_another_process_registered_anew_is_the_one_that_is_read(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    for read in (READS["received"], READS["count"], READS["mark"], READS["mark from"], READS["receive"]):
        assert not await read(sdk)
        await other.deregister_agent("bob")
        await other.register_agent("bob", "acme", "Bob")
        await other.one_way.send("alice", "bob", "hi", require_handler=False)
        await other.one_way.send("bob", "alice", "hi", require_handler=False)
        assert await read(sdk)
        await other.deregister_agent("bob")
        await other.register_agent("bob", "acme", "Bob")


# --- arguments --------------------------------------------------------------------------------------------------------


async def test_equal_options_are_the_same_call(sdk: Sdk) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    send = sdk.one_way.send
    options: dict[str, Any] = {"idempotency_key": "k", "require_handler": False}
    first = await send("alice", "bob", "hi", expires_in=7200, deliver_at=at, **options)
    elsewhere = at.astimezone(timezone(timedelta(hours=5)))
    assert await send("alice", "bob", "hi", expires_in=7200.0, deliver_at=elsewhere, **options) == first


async def test_a_message_that_expires_before_it_may_be_handled_is_refused(sdk: Sdk) -> None:
    at = datetime.now(UTC) + timedelta(seconds=100)
    with pytest.raises(InvalidArgumentError, match=r"expires_in: 60\.0 .*deliver_at"):
        await sdk.one_way.send("alice", "bob", "hi", expires_in=60, deliver_at=at, require_handler=False)
    assert await sdk.one_way.get_message_count("bob") == 0
    await sdk.one_way.send("alice", "bob", "hi", expires_in=160, deliver_at=at, require_handler=False)


async def test_a_forgotten_message_is_refused_and_none_is_a_payload(sdk: Sdk) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^message is missing") as caught:
        await sdk.one_way.send("alice", "bob", require_handler=False)
    assert caught.value.field == "message"
    await sdk.one_way.send("alice", "bob", None, require_handler=False)
    [record] = await sdk.one_way.get_received_messages("bob")
    assert record.content is None
