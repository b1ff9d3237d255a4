"""A cancelled call has happened wholly or not at all; repeated under its key it is stored once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.client.support import SOON, Gate, Inbox, MakeSdk, Sdk
from tests.support import eventually

STEPS = 40
"""Turns of the loop after which the call is cancelled: past its end on SQLite and PostgreSQL."""


async def cancel_after(steps: int, call: Any) -> Any:
    """Start the call, cancel it after so many turns of the loop; None if it was cancelled, else its answer."""
    task = asyncio.ensure_future(call)
    for _ in range(steps):
        await asyncio.sleep(0 if steps < STEPS - 10 else 0.001)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return None


async def test_a_send_cancelled_anywhere_is_stored_for_all_or_for_none_and_its_repeat_once(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(handler_grace=0)
    names = ["bob", "carol", "dave"]
    await sdk.add_people("alice", *names)
    for name in names:
        sdk.register_handler(name)(Inbox())
    outcomes = set()
    for steps in range(STEPS):
        # Not cached, so that the look-ups are cut too.
        sdk._started().names.clear()
        key = f"step-{steps}"
        answer = await cancel_after(steps, sdk.one_way.send("alice", names, steps, idempotency_key=key))
        outcomes.add(answer is None)
        ids = await sdk.one_way.send("alice", names, steps, idempotency_key=key)
        assert answer in (None, ids)
        counts = [await sdk.one_way.get_message_count(name) for name in names]
        assert counts == [steps + 1] * 3
    assert outcomes == {True, False}, "both cases happened"
    stored = [record.message_id for record in await sdk.one_way.get_sent_messages("alice", 1000)]
    assert {receipt.state.value for receipt in await sdk.wait(stored)} == {"done"}


async def test_a_cancelled_send_without_a_key_is_stored_for_all_or_for_none(sdk: Sdk) -> None:
    for steps in range(0, STEPS, 3):
        await cancel_after(steps, sdk.one_way.send("alice", ["bob", "carol"], steps, require_handler=False))
    # What was in flight is on its way: the next message is behind it.
    await sdk.one_way.send("alice", ["bob", "carol"], "last", require_handler=False)
    boxes = [[record.content for record in await sdk.one_way.get_received_messages(name)] for name in ("bob", "carol")]
    assert boxes[0] == boxes[1]
    assert boxes[0][0] == "last"


async def test_cancelling_one_of_many_concurrent_calls_does_not_disturb_the_others(sdk: Sdk) -> None:
    tasks = [
        asyncio.create_task(sdk.one_way.send("alice", "bob", number, require_handler=False)) for number in range(60)
    ]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(answer, list) for number, answer in enumerate(answers) if number % 3)
    stored = {record.content for record in await sdk.one_way.get_received_messages("bob", limit=100)}
    assert stored >= {number for number in range(60) if number % 3}


async def test_cancelled_calls_of_every_kind_leave_the_sdk_usable(sdk: Sdk) -> None:
    [id] = await sdk.one_way.send("alice", "bob", "hi", require_handler=False)
    for steps in (0, 1, 2, 3, 5, 8, 13, 21):
        calls = [
            sdk.register_organization("new", "New"),
            sdk.register_agent("new", "acme", "New"),
            sdk.get_agent("bob"),
            sdk.list_agents("acme"),
            sdk.serve("bob"),
            sdk.wait_until_served("bob"),
            sdk.one_way.get_received_messages("bob"),
            sdk.one_way.mark_messages_read("bob"),
            sdk.one_way.get_message_count("bob"),
            sdk.receipts.get(id),
            sdk.receipts.wait(id),
            sdk.dead_letters.list(),
            sdk.dead_letters.redrive(id),
            sdk.deregister_agent("carol"),
        ]
        await asyncio.gather(*(cancel_after(steps, call) for call in calls))
    sdk.register_handler("bob")(inbox := Inbox())
    await sdk.wait([id])
    assert inbox.messages == ["hi"]


async def test_a_cancelled_start_leaves_nothing_open_and_can_be_repeated(make_sdk: MakeSdk, url: str) -> None:
    await make_sdk()
    for steps in (0, 1, 2, 3, 5, 8, 13, 21, 34):
        sdk = Sdk(url)
        await cancel_after(steps, sdk.initialize())
        await sdk.initialize()
        assert await sdk.list_agents() == []
        await sdk.close()


async def test_a_cancelled_close_still_lets_go_of_everything(make_sdk: MakeSdk) -> None:
    other = await make_sdk()
    await other.add_people("alice", "bob")
    for steps in (0, 1, 3, 8, 21):
        sdk = await make_sdk(drain_timeout=1)
        sdk.register_handler("bob")(gate := Gate())
        [id] = await sdk.one_way.send("alice", "bob", steps)
        await gate.wait_for(1)
        await cancel_after(steps, sdk.close())
        await sdk.close()
        other.register_handler("bob")(inbox := Inbox())
        await eventually(lambda id=id: other.receipts.get(id), until=lambda receipt: receipt.is_final)  # type: ignore[misc]
        assert inbox.messages == [steps]
        other.unregister_handler("bob")


async def test_a_timeout_around_a_call_is_a_cancellation(sdk: Sdk) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sdk.receive("bob"), 0.05)
    [id] = await sdk.one_way.send("alice", "bob", "hi")
    [message] = await sdk.receive("bob", timeout=SOON)
    assert message.message_id == id
    await message.done()
