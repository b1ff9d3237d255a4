"""Pulling: an agent without a handler fetches its messages and says what became of each."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest
from pydantic import BaseModel

from agent_messaging import AgentNotFoundError, ClaimLostError, NoHandlerRegisteredError
from tests.client.conversing import cancel_after
from tests.client.support import SOON, MakeSdk, Sdk
from tests.support import eventually


class Note(BaseModel):
    text: str


async def test_messages_are_pulled_oldest_first_and_settled_one_by_one(sdk: Sdk) -> None:
    ids = [id for text in "abc" for id in await sdk.one_way.send("alice", "bob", text, {"m": 1}, require_handler=False)]
    first, second = await sdk.receive("bob", limit=2, timeout=0)
    assert [first.message_id, second.message_id] == ids[:2]
    assert (first.content, second.content) == ("a", "b")
    assert (first.context.sender_id, first.context.metadata, first.context.attempt) == ("alice", {"m": 1}, 1)
    assert [await sdk.state(id) for id in ids] == ["claimed", "claimed", "queued"]
    await first.done()
    await second.reject("no use for it")
    assert [await sdk.state(id) for id in ids] == ["done", "dead", "queued"]
    [letter] = await sdk.dead_letters.list("bob")
    assert letter.reasons == ("no use for it",)
    [third] = await sdk.receive("bob", limit=10)
    await third.done()
    assert await sdk.receive("bob", timeout=0) == []


async def test_a_message_put_back_comes_again_until_its_attempts_are_used_up(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(max_attempts=2)
    await sdk.add_people("alice", "bob")
    [id] = await sdk.one_way.send("alice", "bob", "hi", require_handler=False)
    [message] = await sdk.receive("bob")
    await message.retry(after=0.05, reason="not now")
    [again] = await sdk.receive("bob", timeout=SOON)
    assert (again.message_id, again.context.attempt) == (id, 2)
    await again.retry()
    receipt = await sdk.receipts.get(id)
    assert (receipt.state.value, receipt.reasons) == ("dead", ("not now", "the receiver asked for a retry"))


async def test_receiving_waits_for_a_message_of_this_process_or_another(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    for sender in (sdk, other):
        waiting = asyncio.create_task(sdk.receive("bob", timeout=SOON))
        await other.wait_until_served("bob", SOON)
        [id] = await sender.one_way.send("alice", "bob", "hi")
        [message] = await waiting
        assert message.message_id == id
        await message.done()
        assert (await other.receipts.wait(id, timeout=SOON)).state.value == "done"


async def test_receiving_ends_empty_when_nothing_comes_in_time(sdk: Sdk) -> None:
    started = time.monotonic()
    assert await sdk.receive("bob", timeout=0.1) == []
    assert 0.09 < time.monotonic() - started < 5


async def test_an_agent_that_pulls_counts_as_served(sdk: Sdk) -> None:
    with pytest.raises(NoHandlerRegisteredError):
        await sdk.one_way.send("alice", "bob", "hi")
    assert await sdk.receive("bob", timeout=0) == []
    await sdk.one_way.send("alice", "bob", "hi")


async def test_two_receivers_never_get_the_same_message(make_sdk: MakeSdk) -> None:
    one, two = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    ids = [id for number in range(20) for id in await one.one_way.send("alice", "bob", number, require_handler=False)]
    pulled = await asyncio.gather(*(sdk.receive("bob", limit=3, timeout=1) for sdk in (one, two) for _ in range(4)))
    messages = [message for batch in pulled for message in batch]
    assert sorted(message.message_id for message in messages) == sorted(ids)
    await asyncio.gather(*(message.done() for message in messages))


async def test_a_claim_whose_lease_ended_goes_to_the_next_and_cannot_be_settled_any_more(make_sdk: MakeSdk) -> None:
    slow, quick = await make_sdk(), await make_sdk()
    await slow.add_people("alice", "bob")
    [id] = await slow.one_way.send("alice", "bob", "hi", require_handler=False)
    [late] = await slow.receive("bob", lease=0.2)
    [again] = await quick.receive("bob", timeout=SOON)
    assert (again.message_id, again.context.attempt) == (id, 2)
    for settle in (late.done, late.retry, lambda: late.reject("no")):
        with pytest.raises(ClaimLostError, match=id):
            await settle()
    await again.done()
    with pytest.raises(ClaimLostError):
        await late.done()
    receipt = await slow.receipts.get(id)
    assert (receipt.state.value, receipt.process) == ("done", quick.store.presence.process_id)


async def test_nothing_is_remembered_of_a_claim_that_was_settled_by_a_cancelled_call(make_sdk: MakeSdk) -> None:
    sdk, sender = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    ids = [
        id for number in range(20) for id in await sender.one_way.send("alice", "bob", number, require_handler=False)
    ]
    waiting = asyncio.create_task(sender.receipts.wait(ids, timeout=SOON))
    messages = await sdk.receive("bob", limit=20)
    for steps, message in enumerate(messages):
        await cancel_after(steps, message.done())
    for message in messages:
        with contextlib.suppress(ClaimLostError):
            await message.done()  # of those that were cancelled before they had begun
    assert {receipt.state.value for receipt in await waiting} == {"done"}
    assert list(sdk._started().claims.pulled) == []


async def test_nothing_is_remembered_of_a_claim_whose_lease_ended(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    sdk._started().claims.forget_after = 0.1
    await sdk.add_people("alice", "bob")
    [id] = await sdk.one_way.send("alice", "bob", "hi", require_handler=False)
    [_] = await sdk.receive("bob", lease=0.2)
    held = sdk._started().claims.pulled
    assert len(held) == 1
    await eventually(lambda: not held, SOON)
    [again] = await sdk.receive("bob", timeout=SOON)
    assert (again.message_id, again.context.attempt) == (id, 2)
    await again.done()


async def test_settling_twice_is_settled_once(sdk: Sdk) -> None:
    await sdk.one_way.send("alice", "bob", "hi", require_handler=False)
    [message] = await sdk.receive("bob")
    await message.reject("first word")
    with pytest.raises(ClaimLostError):
        await message.done()
    assert await sdk.state(message.message_id) == "dead"


async def test_what_was_pulled_and_not_settled_goes_back_uncounted_when_the_sdk_is_closed(make_sdk: MakeSdk) -> None:
    first, second = await make_sdk(), await make_sdk()
    await first.add_people("alice", "bob")
    [id] = await first.one_way.send("alice", "bob", "hi", require_handler=False)
    [message] = await first.receive("bob")
    await first.close()
    [again] = await second.receive("bob", timeout=SOON)
    assert (again.message_id, again.context.attempt) == (id, 1)
    with pytest.raises((ClaimLostError, RuntimeError)):
        await asyncio.wait_for(message.done(), 2)
    await again.done()


async def test_cancelling_gives_back_what_was_claimed(sdk: Sdk) -> None:
    waiting = asyncio.create_task(sdk.receive("bob"))
    await eventually(lambda: sdk._started().serving.pulling)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    ids = [id for number in range(5) for id in await sdk.one_way.send("alice", "bob", number)]
    seen: set[str] = set()
    for delay in range(20):
        waiting = asyncio.create_task(sdk.receive("bob", limit=5, timeout=SOON))
        for _ in range(delay):
            await asyncio.sleep(0)
        waiting.cancel()
        try:
            messages = await waiting
        except asyncio.CancelledError:
            continue
        for message in messages:
            await message.retry()
    while len(seen) < 5:
        for message in await sdk.receive("bob", limit=5, timeout=SOON):
            seen.add(message.message_id)
            assert message.context.attempt <= 5
            await message.done()
    assert seen == set(ids)


async def test_payloads_become_the_type_asked_for_and_what_does_not_fit_a_dead_letter(sdk: Sdk) -> None:
    [bad] = await sdk.one_way.send("alice", "bob", {"txt": "x"}, require_handler=False)
    await sdk.one_way.send("alice", "bob", Note(text="hi"), require_handler=False)
    messages = await sdk.receive("bob", limit=5, timeout=SOON, payload_type=Note)
    if not messages:
        messages = await sdk.receive("bob", limit=5, timeout=SOON, payload_type=Note)
    assert [message.content for message in messages] == [Note(text="hi")]
    receipt = await sdk.receipts.get(bad)
    assert receipt.state.value == "dead"
    assert "text" in receipt.reasons[0]
    await messages[0].done()


async def test_receiving_for_an_unknown_agent_is_refused(sdk: Sdk) -> None:
    with pytest.raises(AgentNotFoundError, match=r"'bobb'. Did you mean 'bob'"):
        await sdk.receive("bobb")


async def test_receiving_without_a_limit_ends_when_the_sdk_is_closed(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    waiting = asyncio.create_task(sdk.receive("bob"))
    await eventually(lambda: sdk._started().serving.pulling)
    await sdk.close()
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(waiting, 2)


async def test_a_bad_settlement_is_refused_and_the_claim_stays(sdk: Sdk) -> None:
    await sdk.one_way.send("alice", "bob", "hi", require_handler=False)
    [message] = await sdk.receive("bob")
    bad: list[Any] = [lambda: message.reject(3), lambda: message.reject("a\0b"), lambda: message.retry(-1)]  # type: ignore[arg-type]
    bad += [lambda: message.retry(float("nan")), lambda: message.retry(reason="a\0b"), lambda: message.reject("\ud800")]
    for settle in bad:
        with pytest.raises(ValueError, match=r"reason|after"):
            await settle()
    await message.done()


async def test_of_many_receivers_as_many_look_as_there_are_messages(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message for one of a crowd, or for somebody else, costs no crowd of looks."""
    crowd, count = 300, 5
    deliveries = sdk._started().dispatcher.deliveries
    claim, looks = deliveries.claim, 0

    async def counting(requests: Any, **options: Any) -> Any:
        nonlocal looks
        looks += 1
        return await claim(requests, **options)

    monkeypatch.setattr(deliveries, "claim", counting)
    waiting = [asyncio.create_task(sdk.receive("bob")) for _ in range(crowd)]
    await eventually(lambda: idle(sdk), 60.0, until=crowd.__eq__)
    looks = 0
    for number in range(count):
        await sdk.one_way.send("alice", "carol", number, require_handler=False)
        await sdk.one_way.send("alice", "bob", number)
    await eventually(lambda: sum(task.done() for task in waiting), until=count.__eq__)
    await eventually(lambda: idle(sdk), until=(crowd - count).__eq__)
    # Each message wakes one, and whoever got one wakes another, for whom there may be more; so may each poll.
    assert looks < 10 * count
    pulled = [message for task in waiting if task.done() for message in task.result()]
    assert sorted(message.content for message in pulled) == list(range(count))
    await leave([task for task in waiting if not task.done()])


async def test_a_receiver_that_leaves_when_it_was_woken_hands_the_message_on(sdk: Sdk) -> None:
    for turns in range(6):
        first, second = [asyncio.create_task(sdk.receive("bob", timeout=SOON)) for _ in range(2)]
        await eventually(lambda: idle(sdk), until=(2).__eq__)
        ids = await sdk.one_way.send("alice", "bob", turns)
        for _ in range(turns):
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait({first})
        if first.cancelled():
            [message] = await second
        else:
            [message] = first.result()
            await leave([second])
        assert [message.message_id] == ids
        await message.done()


def idle(sdk: Sdk) -> int:
    """How many wait for something to pull."""
    return sum(len(queue.idle) for queue in sdk._started().lots.arrivals._queues.values())


async def leave(tasks: list[asyncio.Task[Any]]) -> None:
    """Wait no more."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
