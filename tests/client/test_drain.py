"""Leaving: what is still handled, what goes back, and that nothing is lost or counted wrongly."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from agent_messaging import MessageContext
from tests.client.support import SOON, Gate, Inbox, MakeSdk, Sdk, make_config
from tests.support import eventually


async def test_leaving_handles_what_was_sent_to_agents_served_here(url: str) -> None:
    inbox = Inbox(lambda message, context: asyncio.sleep(0.01))
    async with Sdk(make_config(url)) as sdk:
        await sdk.add_people("alice", "bob")
        sdk.register_handler("bob", concurrency=1)(inbox)
        for number in range(10):
            await sdk.one_way.send("alice", "bob", number)
    assert inbox.messages == list(range(10))


async def test_leaving_handles_what_the_last_handlers_send(url: str) -> None:
    seen = []
    async with Sdk(make_config(url)) as sdk:
        await sdk.add_people("alice", "bob")

        async def pass_on(message: int, context: MessageContext) -> None:
            await asyncio.sleep(0.01)
            seen.append(message)
            if message:
                await sdk.one_way.send(context.receiver_id, context.sender_id, message - 1)

        sdk.register_handler("bob")(pass_on)
        sdk.register_handler("alice")(pass_on)
        await sdk.one_way.send("alice", "bob", 5)
    assert seen == [5, 4, 3, 2, 1, 0]


async def test_leaving_takes_nothing_more_from_other_processes(make_sdk: MakeSdk) -> None:
    leaving, other = await make_sdk(), await make_sdk()
    await other.add_people("alice", "bob", "carol")
    leaving.register_handler("bob", concurrency=1)(gate := Gate())
    await other.wait_until_served("bob", SOON)
    [running] = await other.one_way.send("alice", "bob", "running")
    await gate.wait_for(1)
    [own] = await leaving.one_way.send("carol", "bob", "own")
    closing = asyncio.create_task(leaving.close())
    await eventually(lambda: leaving._started().stations.is_draining)
    [foreign] = await other.one_way.send("alice", "bob", "foreign")
    gate.open()
    await closing
    states = [(await other.receipts.get(id)).state.value for id in (running, own, foreign)]
    assert states == ["done", "done", "queued"]
    assert gate.messages == ["running", "own"]


async def test_leaving_by_an_exception_lets_running_handlers_end_and_begins_no_more(
    make_sdk: MakeSdk, url: str
) -> None:
    other = await make_sdk()
    gate = Gate()
    ids: list[str] = []

    async def fail() -> None:
        async with Sdk(make_config(url)) as sdk:
            await sdk.add_people("alice", "bob")
            sdk.register_handler("bob")(gate)
            for number in range(3):
                ids.extend(await sdk.one_way.send("alice", "bob", number))
            await gate.wait_for(1)
            asyncio.get_running_loop().call_later(0.1, gate.open)
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        await fail()
    receipts = [await other.receipts.get(id) for id in ids]
    states = [(receipt.state.value, receipt.attempt) for receipt in receipts]
    assert states == [("done", 1), ("queued", 0), ("queued", 0)]
    assert gate.messages == [0]


async def test_what_is_not_done_by_the_drain_timeout_goes_back_uncounted(make_sdk: MakeSdk) -> None:
    first, second = await make_sdk(drain_timeout=0.2), await make_sdk()
    await first.add_people("alice", "bob")
    cancelled = []

    async def hang(message: object, context: MessageContext) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(message)
            raise

    first.register_handler("bob")(hang)
    ids = [id for number in range(3) for id in await first.one_way.send("alice", "bob", number)]
    await eventually(lambda: first._started().claims.running)
    started = time.monotonic()
    await first.close()
    assert time.monotonic() - started < 4
    assert cancelled == [0]
    receipts = [await second.receipts.get(id) for id in ids]
    assert [(receipt.state.value, receipt.attempt) for receipt in receipts] == [("queued", 0)] * 3
    assert receipts[0].events[-1].event == "returned"
    second.register_handler("bob")(inbox := Inbox())
    assert [receipt.attempt for receipt in await second.wait(ids)] == [1, 1, 1]
    assert inbox.messages == [0, 1, 2]


async def test_a_drain_timeout_of_zero_gives_everything_back_at_once(make_sdk: MakeSdk) -> None:
    first, second = await make_sdk(drain_timeout=0), await make_sdk()
    await first.add_people("alice", "bob")
    first.register_handler("bob", ordered=False, concurrency=3)(Gate())
    calls = [first.one_way.send("alice", "bob", number) for number in range(20)]
    ids = [id for answer in await asyncio.gather(*calls) for id in answer]
    await first.close()
    second.register_handler("bob")(inbox := Inbox())
    assert {receipt.attempt for receipt in await second.wait(ids)} == {1}
    assert sorted(inbox.messages) == list(range(20))


async def test_leaving_waits_for_a_plain_function(url: str) -> None:
    released, ended = threading.Event(), []

    def block(message: object, context: MessageContext) -> None:
        released.wait(SOON)
        ended.append(message)

    async with Sdk(make_config(url)) as sdk:
        await sdk.add_people("alice", "bob")
        sdk.register_handler("bob")(block)
        await sdk.one_way.send("alice", "bob", "hi")
        asyncio.get_running_loop().call_later(0.2, released.set)
    assert ended == ["hi"]


async def test_a_handler_that_does_not_let_itself_be_cancelled_does_not_hold_up_the_exit(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(drain_timeout=0.1)
    await sdk.add_people("alice", "bob", "carol")
    released, finish = asyncio.Event(), threading.Event()

    async def stubborn(message: object, context: MessageContext) -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    sdk.register_handler("bob")(stubborn)
    sdk.register_handler("carol")(lambda message, context: finish.wait(SOON))
    await sdk.one_way.send("alice", ["bob", "carol"], "hi")
    await eventually(lambda: len(sdk._started().claims.running) == 2)
    started = time.monotonic()
    await sdk.close()
    assert time.monotonic() - started < 8
    released.set()
    finish.set()


async def test_a_retry_that_is_due_after_leaving_is_made_by_the_next_process(make_sdk: MakeSdk) -> None:
    first, second = await make_sdk(retry_delay=1, retry_max_delay=1), await make_sdk()
    await first.add_people("alice", "bob")
    first.register_handler("bob")(failing := Inbox(lambda message, context: 1 / 0))
    [id] = await first.one_way.send("alice", "bob", "hi")
    await eventually(lambda: first.receipts.get(id), until=lambda receipt: receipt.reasons)
    await first.close()
    second.register_handler("bob")(inbox := Inbox())
    [receipt] = await second.wait([id])
    assert (receipt.state.value, receipt.attempt) == ("done", 2)
    assert (failing.messages, inbox.messages) == (["hi"], ["hi"])


async def test_a_send_that_is_open_while_leaving_is_answered(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(drain_timeout=0), await make_sdk()
    await sdk.add_people("alice", "bob")
    sends = [
        asyncio.create_task(sdk.one_way.send("alice", "bob", number, require_handler=False)) for number in range(50)
    ]
    await asyncio.sleep(0)
    await sdk.close()
    answers = await asyncio.wait_for(asyncio.gather(*sends, return_exceptions=True), SOON)
    stored = [answer[0] for answer in answers if isinstance(answer, list)]
    assert {type(answer).__name__ for answer in answers} <= {"list", "NotInitializedError"}
    for id in stored:
        assert (await other.receipts.get(id)).state.value == "queued"
    assert await other.one_way.get_message_count("bob") == len(stored)


async def test_a_process_taken_for_dead_loses_its_claims_and_goes_on_under_a_new_name(make_sdk: MakeSdk) -> None:
    slow, other = await make_sdk(), await make_sdk()
    await slow.add_people("alice", "bob")
    slow.register_handler("bob")(gate := Gate())
    [id] = await slow.one_way.send("alice", "bob", "hi")
    await gate.wait_for(1)
    old = slow.store.presence.process_id
    slow.unregister_handler("bob")  # what runs goes on; but under its new name it does not compete for the message
    other.register_handler("bob")(inbox := Inbox())
    assert await other.store.processes.release([old]) == 1
    other._started().announcer.look()
    [receipt] = await other.wait([id])
    assert (receipt.state.value, receipt.attempt, inbox.messages) == ("done", 2, ["hi"])
    assert receipt.process == other.store.presence.process_id
    gate.open()
    assert [event.event for event in receipt.events] == ["stored", "claimed", "lost", "claimed", "done"]
    new = await eventually(lambda: slow.store.presence.process_id, until=lambda id: id != old)
    await eventually(lambda: not gate.running)
    other.unregister_handler("bob")
    slow.register_handler("bob")(gate)
    [after] = await slow.wait(await slow.one_way.send("alice", "bob", "again"))
    assert (after.state.value, after.process, gate.messages) == ("done", new, ["hi", "again"])
    assert (await other.receipts.get(id)).token == 2


async def test_a_handler_that_closes_the_sdk_is_told_that_it_cannot(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(max_attempts=1)
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(Inbox(lambda message, context: sdk.close()))
    [receipt] = await sdk.wait(await sdk.one_way.send("alice", "bob", "close"))
    assert receipt.reasons[0].startswith("HandlerError: close() was called by a handler")
    sdk.register_handler("bob")(inbox := Inbox())
    await sdk.wait(await sdk.one_way.send("alice", "bob", "still open"))
    assert inbox.messages == ["still open"]


async def test_a_close_that_is_cancelled_while_it_leaves_still_leaves_nothing_behind(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(drain_timeout=0), await make_sdk()
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(gate := Gate())
    ids = [id for number in range(3) for id in await sdk.one_way.send("alice", "bob", number)]
    await gate.wait_for(1)
    engine = sdk._started()
    closing = asyncio.create_task(sdk.close())
    await eventually(lambda: engine.is_leaving, interval=0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert sdk._lifecycle.engine is None
    other.register_handler("bob")(inbox := Inbox())
    assert [receipt.attempt for receipt in await other.wait(ids)] == [1, 1, 1]
    assert inbox.messages == [0, 1, 2]
