"""Receipts: what became of a message, to look at and to wait for, in whatever process it happens."""

from __future__ import annotations

import asyncio
import builtins
import os
import socket
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from agent_messaging import DeliveryState, Kind, MessageNotFoundError, StorageUnavailableError, TimeoutError
from tests.client.support import SOON, Gate, Inbox, MakeSdk, Sdk
from tests.support import eventually


async def test_a_receipt_follows_a_message_from_stored_over_claimed_to_done(sdk: Sdk) -> None:
    [id] = await sdk.one_way.send("alice", "bob", "hi", require_handler=False)
    queued = await sdk.receipts.get(id)
    assert (queued.state, queued.attempt, queued.token, queued.is_final) == (DeliveryState.QUEUED, 0, 0, False)
    assert (queued.sender_id, queued.recipient_id, queued.kind) == ("alice", "bob", Kind.ONE_WAY)
    assert (queued.claimed_at, queued.settled_at, queued.process, queued.reasons) == (None, None, None, ())
    sdk.register_handler("bob")(gate := Gate())
    await gate.wait_for(1)
    claimed = await sdk.receipts.get(UUID(id))
    assert (claimed.state, claimed.attempt, claimed.token) == (DeliveryState.CLAIMED, 1, 1)
    assert claimed.process == sdk.store.presence.process_id
    gate.open()
    done = await sdk.receipts.wait(id, timeout=SOON)
    assert (done.state, done.attempt, done.token, done.is_final) == (DeliveryState.DONE, 1, 1, True)
    assert [event.event for event in done.events] == ["stored", "claimed", "done"]
    assert done.claimed_at is not None
    assert done.settled_at is not None
    assert done.created_at <= done.claimed_at <= done.settled_at
    assert [event.at for event in done.events] == sorted(event.at for event in done.events)
    assert abs(done.settled_at - datetime.now(UTC)) < timedelta(minutes=1)


async def test_a_receipt_tells_every_run_and_why_it_failed(sdk: Sdk) -> None:
    def fail_twice(message: object, context: object) -> None:
        if len(inbox.messages) <= 2:
            raise OSError(f"run {len(inbox.messages)}")

    sdk.register_handler("bob")(inbox := Inbox(fail_twice))
    [receipt] = await sdk.wait(await sdk.one_way.send("alice", "bob", "hi"))
    assert (receipt.state.value, receipt.attempt, receipt.token) == ("done", 3, 3)
    assert receipt.reasons == ("OSError: run 1", "OSError: run 2")
    events = [(event.event, event.attempt) for event in receipt.events]
    assert events == [
        ("stored", None),
        *(("claimed", 1), ("failed", 1), ("claimed", 2), ("failed", 2)),
        *(("claimed", 3), ("done", 3)),
    ]


async def test_a_receipt_says_on_which_host_and_in_which_process_each_run_was(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk.register_handler("bob")(Inbox())
    for number in range(2):
        receipt = await sdk.receipts.wait((await sdk.one_way.send("alice", "bob", number))[0], timeout=SOON)
        stored, claimed, done = receipt.events
        assert (stored.host, stored.pid) == (None, None)
        for event in (claimed, done):
            assert (event.process, event.host, event.pid) == (receipt.process, socket.gethostname(), os.getpid())
        # It is looked up once for each process, and a store that does not answer spoils no receipt.
        monkeypatch.setattr(sdk.store.processes, "find_processes", "not to be called")
    await sdk.close()
    await sdk.initialize()

    async def fail(ids: object) -> None:
        raise StorageUnavailableError

    monkeypatch.setattr(sdk.store.processes, "find_processes", fail)
    again = await sdk.receipts.get(receipt.message_id)
    assert [(event.process, event.pid) for event in again.events[1:]] == [(receipt.process, None)] * 2


async def test_waiting_returns_the_receipts_in_the_order_asked_for_and_one_for_one_id(sdk: Sdk) -> None:
    for name in ("bob", "carol"):
        sdk.register_handler(name)(Inbox())
    ids = await sdk.one_way.send("alice", ["bob", "carol"], "hi")
    receipts = await sdk.receipts.wait((ids[1], UUID(ids[0]), ids[1]), timeout=SOON)
    assert [receipt.message_id for receipt in receipts] == [ids[1], ids[0], ids[1]]
    assert (await sdk.receipts.wait(UUID(ids[0]))).message_id == ids[0]
    assert await sdk.receipts.wait([]) == []


async def test_waiting_ends_with_an_error_that_says_how_many_have_not_ended(sdk: Sdk) -> None:
    sdk.register_handler("bob")(Inbox())
    done = await sdk.one_way.send("alice", "bob", "hi")
    await sdk.wait(done)
    waiting = await sdk.one_way.send("alice", "carol", "hi", require_handler=False)
    with pytest.raises(TimeoutError, match=rf"1 of 2 messages .*Message {waiting[0]} is queued") as caught:
        await sdk.receipts.wait([*done, *waiting], timeout=0.05)
    assert isinstance(caught.value, builtins.TimeoutError)
    assert await sdk.state(waiting[0]) == "queued"


async def test_asking_for_a_message_that_does_not_exist_is_an_error(sdk: Sdk) -> None:
    unknown = uuid4()
    with pytest.raises(MessageNotFoundError, match=str(unknown)):
        await sdk.receipts.get(unknown)
    with pytest.raises(MessageNotFoundError, match=str(unknown)):
        await sdk.receipts.wait(unknown, timeout=SOON)
    [id] = await sdk.one_way.send("alice", "bob", "hi", require_handler=False)
    with pytest.raises(MessageNotFoundError, match=str(unknown)):
        await asyncio.wait_for(sdk.receipts.wait((unknown, id)), SOON)


async def test_waiting_ends_when_another_process_handles_the_message(make_sdk: MakeSdk) -> None:
    sender, worker, observer = await make_sdk(), await make_sdk(), await make_sdk()
    await sender.add_people("alice", "bob")
    worker.register_handler("bob")(gate := Gate())
    await sender.wait_until_served("bob", SOON)
    [id] = await sender.one_way.send("alice", "bob", "hi")
    waits = [asyncio.create_task(sdk.receipts.wait(id, timeout=SOON)) for sdk in (sender, observer) for _ in range(3)]
    await gate.wait_for(1)
    gate.open()
    assert {(await wait).process for wait in waits} == {worker.store.presence.process_id}


async def test_cancelling_a_wait_changes_nothing(sdk: Sdk) -> None:
    sdk.register_handler("bob")(gate := Gate())
    [id] = await sdk.one_way.send("alice", "bob", "hi")
    other = asyncio.create_task(sdk.receipts.wait(id, timeout=SOON))
    cancelled = asyncio.create_task(sdk.receipts.wait(id))
    await gate.wait_for(1)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    gate.open()
    assert (await other).state.value == "done"


async def test_many_waiters_hold_no_connection(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(max_pool_size=1)
    await sdk.add_people("alice", "bob")
    ids = [id for number in range(20) for id in await sdk.one_way.send("alice", "bob", number, require_handler=False)]
    waits = [asyncio.create_task(sdk.receipts.wait(id, timeout=SOON)) for id in ids for _ in range(5)]
    await eventually(lambda: len(sdk._started().lots.receipts._futures) == 20)
    sdk.register_handler("bob")(Inbox())
    assert {receipt.state.value for receipt in await asyncio.gather(*waits)} == {"done"}


async def test_what_nobody_began_to_handle_can_be_withdrawn(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob", concurrency=1)(gate := Gate())
    running = await sdk.one_way.send("alice", "bob", 0)
    waiting = [id for number in (1, 2) for id in await sdk.one_way.send("alice", "bob", number)]
    await gate.wait_for(1)
    waiter = asyncio.create_task(sdk.receipts.wait(waiting[0], timeout=SOON))
    assert await other.receipts.withdraw([*running, waiting[0]]) == waiting[:1]
    assert await sdk.receipts.withdraw(waiting[0]) == []
    gate.open()
    assert [receipt.state.value for receipt in await sdk.wait([*running, *waiting])] == ["done", "withdrawn", "done"]
    assert (await waiter).events[-1].event == "withdrawn"
    assert gate.messages == [0, 2]
    assert await sdk.receipts.withdraw(running) == []
    assert await sdk.receipts.withdraw([]) == []


async def test_a_wait_that_is_still_open_ends_when_the_sdk_is_closed(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    [id] = await sdk.one_way.send("alice", "bob", "hi", require_handler=False)
    waiting = asyncio.create_task(sdk.receipts.wait(id))
    await eventually(lambda: sdk._started().lots.receipts._futures)
    await sdk.close()
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(waiting, 2)
