"""Order: one sender's messages to one recipient run one after the other, in the order of the calls."""

from __future__ import annotations

import asyncio
from typing import Any

from agent_messaging import MessageContext
from tests.client.support import SOON, Gate, Inbox, MakeSdk, Sdk
from tests.support import eventually


async def test_messages_of_one_sender_run_in_the_order_of_the_calls(sdk: Sdk) -> None:
    sdk.register_handler("bob")(inbox := Inbox(lambda message, context: asyncio.sleep(0)))
    # All calls are open at once: the order is that in which they were made.
    calls = [sdk.one_way.send("alice", "bob", number) for number in range(100)]
    ids = [id for answer in await asyncio.gather(*calls) for id in answer]
    await sdk.wait(ids)
    assert inbox.messages == list(range(100))


async def test_order_holds_for_each_sender_over_overflowing_slots_and_a_restart(make_sdk: MakeSdk) -> None:
    first = await make_sdk(drain_timeout=0)
    await first.add_people("bob", *(f"sender-{number}" for number in range(8)))
    seen: dict[str, list[int]] = {}

    async def note(message: int, context: MessageContext) -> None:
        await asyncio.sleep(0)
        runs = seen.setdefault(context.sender_id, [])
        if message not in runs:  # a run given back by the restart is repeated
            runs.append(message)

    first.register_handler("bob", concurrency=3)(note)
    calls = [first.one_way.send(f"sender-{number % 8}", "bob", number) for number in range(160)]
    ids = [id for answer in await asyncio.gather(*calls) for id in answer]
    await eventually(lambda: len(seen) == 8)
    await first.close()
    second = await make_sdk()
    second.register_handler("bob", concurrency=3)(note)
    await second.wait(ids)
    assert seen == {f"sender-{sender}": list(range(sender, 160, 8)) for sender in range(8)}


async def test_a_senders_next_message_waits_for_the_one_that_runs_and_other_senders_do_not(sdk: Sdk) -> None:
    sdk.register_handler("bob")(gate := Gate())
    ids = []
    for sender in ("alice", "alice", "carol"):
        ids += await sdk.one_way.send(sender, "bob", sender)
    await gate.wait_for(2)
    assert sorted(gate.messages) == ["alice", "carol"]
    assert [await sdk.state(id) for id in ids] == ["claimed", "queued", "claimed"]
    gate.open()
    await sdk.wait(ids)
    assert gate.most == 2


async def test_unordered_messages_of_one_sender_run_at_once(sdk: Sdk) -> None:
    sdk.register_handler("bob", ordered=False, concurrency=4)(gate := Gate())
    ids = [id for number in range(6) for id in await sdk.one_way.send("alice", "bob", number)]
    await eventually(lambda: gate.running, until=lambda running: running == 4)
    gate.open()
    await sdk.wait(ids)
    assert gate.most == 4
    assert sorted(gate.messages) == list(range(6))


async def test_no_more_runs_at_once_than_the_handler_allows(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(handler_concurrency=2)
    senders = [f"s{number}" for number in range(6)]
    await sdk.add_people("bob", "carol", *senders)
    sdk.register_handler("bob")(by_setting := Gate())
    sdk.register_handler("carol", concurrency=5)(by_handler := Gate())
    ids = [id for sender in senders for id in await sdk.one_way.send(sender, ["bob", "carol"], sender)]
    await eventually(lambda: (by_setting.running, by_handler.running), until=lambda seen: seen == (2, 5))
    by_setting.open()
    by_handler.open()
    await sdk.wait(ids)
    assert (by_setting.most, by_handler.most) == (2, 5)


async def test_no_sender_starves_another(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(handler_concurrency=1)
    await sdk.add_people("bob", "flood", "quiet")
    sdk.register_handler("bob")(gate := Gate())
    ids = [id for number in range(50) for id in await sdk.one_way.send("flood", "bob", number)]
    ids += await sdk.one_way.send("quiet", "bob", "quiet")
    await gate.wait_for(1)
    gate.open()
    await sdk.wait(ids)
    assert gate.messages.index("quiet") <= 3


async def test_a_slow_recipient_does_not_hold_up_another(sdk: Sdk) -> None:
    sdk.register_handler("bob")(gate := Gate())
    sdk.register_handler("carol")(inbox := Inbox())
    slow, fast = await sdk.one_way.send("alice", ["bob", "carol"], 1)
    await sdk.wait([fast])
    assert (inbox.messages, await sdk.state(slow)) == ([1], "claimed")
    gate.open()


async def test_two_processes_share_an_agents_work_and_run_each_message_once(make_sdk: MakeSdk) -> None:
    sender, *workers = [await make_sdk(), await make_sdk(), await make_sdk()]
    senders = [f"s{number}" for number in range(10)]
    await sender.add_people("bob", *senders)
    runs: list[Any] = []

    async def work(message: Any, context: MessageContext) -> None:
        await asyncio.sleep(0.001)
        runs.append(message)

    for worker in workers:
        worker.register_handler("bob", concurrency=2)(work)
    await sender.wait_until_served("bob", SOON)
    calls = [sender.one_way.send(senders[number % 10], "bob", number) for number in range(100)]
    ids = [id for answer in await asyncio.gather(*calls) for id in answer]
    receipts = await sender.wait(ids)
    assert sorted(runs) == list(range(100))
    assert {receipt.attempt for receipt in receipts} == {1}
    assert all([message for message in runs if message % 10 == lane] for lane in range(10))
