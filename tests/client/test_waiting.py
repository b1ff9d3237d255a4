"""Code that waits for a message of an agent: it has it before any handler, once, and then holds nothing back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import pytest

from agent_messaging import (
    AgentNotFoundError,
    ConversationEndedError,
    DeliveryState,
    MessageContext,
    NotInitializedError,
    StorageUnavailableError,
)
from tests.client.conversing import (
    SLACK,
    Clerk,
    Desk,
    ask,
    begin,
    nothing_is_left,
    rows,
    until_registered,
    until_waiting,
)
from tests.client.support import SOON, Inbox, MakeSdk, Sdk
from tests.support import eventually

SHORT = 0.2


async def test_what_is_there_already_is_taken_first_and_then_what_comes(sdk: Sdk) -> None:
    for number in range(2):
        await sdk.conversation.send_no_wait("alice", "bob", number)
    await sdk.conversation.send_no_wait("carol", "bob", "another sender's")
    await sdk.one_way.send("alice", "bob", "a note", require_handler=False)
    assert await sdk.conversation.wait_for_message("bob", "alice") == 0
    assert await sdk.conversation.get_or_wait_for_response("bob", "alice") == 1
    waiting = begin(sdk.conversation.wait_for_message("bob", "alice", timeout=SOON))
    await until_registered(sdk)
    await sdk.conversation.send_no_wait("alice", "bob", 2)
    assert await waiting == 2
    assert await sdk.conversation.get_unread_messages("bob") == ["another sender's"]
    await nothing_is_left(sdk)


@pytest.mark.parametrize("call", ["wait_for_message", "get_or_wait_for_response"])
async def test_none_comes_in_time_and_zero_only_looks(sdk: Sdk, call: str) -> None:
    wait = getattr(sdk.conversation, call)
    started = time.monotonic()
    assert await wait("bob", "alice", 0) is None
    assert await wait("bob", "alice", timeout=SHORT) is None
    assert SHORT <= time.monotonic() - started <= SHORT + 2 * SLACK
    await nothing_is_left(sdk)


async def test_a_message_that_is_awaited_is_not_handled_and_the_next_one_is(make_sdk: MakeSdk) -> None:
    sdk, worker = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    worker.register_handler("bob")(inbox := Inbox())
    await sdk.wait_until_served("bob", SOON)
    waiting = begin(sdk.conversation.wait_for_message("bob", "alice", SOON))
    await until_registered(sdk)
    id = await worker.conversation.send_no_wait("alice", "bob", "for the wait")
    assert await waiting == "for the wait"
    receipt = await sdk.receipts.get(id)
    assert (receipt.state.value, receipt.attempt, receipt.read_at is not None) == ("done", 0, True)
    await sdk.conversation.send_no_wait("alice", "bob", "for the handler")
    assert await inbox.wait_for(1) == ["for the handler"]


async def test_what_came_beside_the_awaited_message_is_the_handlers_again(sdk: Sdk) -> None:
    sdk.register_handler("bob")(inbox := Inbox())
    waiting = begin(sdk.conversation.wait_for_message("bob", "alice", SOON))
    await until_registered(sdk)
    sends = [sdk.conversation.send_no_wait("alice", "bob", number) for number in range(5)]
    await asyncio.gather(*sends)
    taken = await waiting
    assert taken == 0
    assert await inbox.wait_for(4) == [1, 2, 3, 4]
    await nothing_is_left(sdk)


async def test_what_a_handler_has_had_is_not_taken(sdk: Sdk) -> None:
    sdk.register_handler("bob")(inbox := Inbox())
    await sdk.wait([await sdk.conversation.send_no_wait("alice", "bob", "handled")])
    assert inbox.messages == ["handled"]
    assert await sdk.conversation.wait_for_message("bob", "alice", 0) is None
    assert await sdk.conversation.get_unread_messages("bob") == ["handled"]


async def test_an_ask_is_taken_by_who_waits_and_answered_by_its_next_message(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    one.register_handler("bob")(inbox := Inbox())
    waiting = begin(other.conversation.wait_for_message("bob", "alice", SOON))
    await until_registered(one)
    asking = ask(one, "alice", "bob", "?")
    assert await waiting == "?"
    await other.conversation.send_no_wait("bob", "alice", "!")
    assert await asking == "!"
    assert inbox.messages == []
    await nothing_is_left(one, other)


async def test_two_that_wait_for_one_sender_take_different_messages(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    waits = [begin(sdk.conversation.wait_for_message("bob", "alice", SOON)) for sdk in (one, one, other)]
    await until_registered(one, 3)
    for number in range(3):
        await one.conversation.send_no_wait("alice", "bob", number)
    assert sorted(await asyncio.gather(*waits)) == [0, 1, 2]
    await nothing_is_left(one, other)


async def test_all_that_wait_for_one_sender_are_woken_by_its_message(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that takes it may be any of them: one of them may be about to end, or be dead."""
    one, other, sender = await make_sdk(), await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    waits = [begin(sdk.conversation.wait_for_message("bob", "alice", SOON)) for sdk in (one, other)]
    await until_registered(one, 2)
    rung: set[str] = set()
    ring = sender.store.presence.ring

    def hear(process_ids: Iterable[str]) -> None:
        ids = list(process_ids)
        rung.update(ids)
        ring(ids)

    monkeypatch.setattr(sender.store.presence, "ring", hear)
    await sender.conversation.send_no_wait("alice", "bob", 1)
    assert rung >= {sdk.store.presence.process_id for sdk in (one, other)}
    await sender.conversation.send_no_wait("alice", "bob", 2)
    assert sorted(await asyncio.gather(*waits)) == [1, 2]


@pytest.mark.parametrize("ended_by", ["time", "closing"])
async def test_a_wait_that_the_store_could_not_remove_is_removed_when_it_can(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch, ended_by: str
) -> None:
    """Otherwise one without a timeout would keep its lane from handlers as long as its process lives."""
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    other.register_handler("bob")(inbox := Inbox())
    monkeypatch.setattr("agent_messaging.delivery.again.AGAIN", 0.05 if ended_by == "time" else 60.0)
    failed = asyncio.Event()

    async def fail(wait_id: str) -> None:
        failed.set()
        raise StorageUnavailableError

    with monkeypatch.context() as outage:
        outage.setattr(one.store.sessions, "remove_wait", fail)
        waiting = begin(one.conversation.wait_for_message("bob", "alice"))
        await until_registered(other)
        waiting.cancel()
        await asyncio.wait_for(failed.wait(), SOON)
        await other.conversation.send_no_wait("alice", "bob", "hi")
        await eventually(lambda: one._started().waits._again.waiting or ended_by == "time", SOON)
        assert inbox.messages == []
    if ended_by == "closing":
        await one.close()
    assert await inbox.wait_for(1) == ["hi"]
    await nothing_is_left(other)


async def test_a_late_answer_and_a_handlers_result_are_taken(sdk: Sdk) -> None:
    sdk.register_handler("bob")(desk := Desk())
    asking = ask(sdk, "alice", "bob", timeout=SHORT)
    await desk.wait_for(1)
    with pytest.raises(TimeoutError):
        await asking
    waiting = begin(sdk.conversation.get_or_wait_for_response("alice", "bob", SOON))
    await until_registered(sdk)
    desk.answers.put_nowait("late")
    assert await waiting == "late"
    await sdk.conversation.send_no_wait("alice", "bob", "no hurry")
    desk.answers.put_nowait("the result")
    assert await sdk.conversation.get_or_wait_for_response("alice", "bob", SOON) == "the result"


@pytest.mark.parametrize("call", ["wait_for_message", "get_or_wait_for_response"])
async def test_ending_the_conversation_releases_who_waits_for_a_message(make_sdk: MakeSdk, call: str) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    await one.conversation.send_no_wait("bob", "alice", "opens the session")
    waits = [begin(getattr(sdk.conversation, call)("bob", "alice", SOON)) for sdk in (one, other)]
    await until_registered(one, 2)
    await one.conversation.end_conversation("alice", "bob")
    for waiting in waits:
        with pytest.raises(ConversationEndedError, match="'alice' or 'bob' ended the conversation while 'bob' waited"):
            await waiting
    await nothing_is_left(one, other)


async def test_what_came_before_the_ending_is_still_taken(sdk: Sdk) -> None:
    await sdk.conversation.send_no_wait("alice", "bob", "last words")
    await sdk.conversation.end_conversation("alice", "bob")
    assert await sdk.conversation.wait_for_message("bob", "alice", 0) == "last words"


@pytest.mark.parametrize("who", ["alice", "bob"])
async def test_removing_an_agent_releases_who_waits_for_its_message(sdk: Sdk, who: str) -> None:
    waiting = begin(sdk.conversation.wait_for_message("bob", "alice"))
    await until_registered(sdk)
    await sdk.deregister_agent(who)
    with pytest.raises(AgentNotFoundError, match="removed while this waited"):
        await asyncio.wait_for(waiting, SOON)
    await nothing_is_left(sdk)


async def test_closing_releases_who_waits_and_leaves_its_messages_to_others(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    waiting = begin(one.conversation.wait_for_message("bob", "alice"))
    await until_registered(other)
    await one.close()
    with pytest.raises(NotInitializedError, match="The SDK was closed while this waited"):
        await waiting
    assert await rows(other, "select id from waits") == []
    other.register_handler("bob")(inbox := Inbox())
    await other.conversation.send_no_wait("alice", "bob", "hi")
    assert await inbox.wait_for(1) == ["hi"]


async def test_a_wait_that_timed_out_holds_nothing_back(make_sdk: MakeSdk) -> None:
    sdk, worker = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    worker.register_handler("bob")(inbox := Inbox())
    assert await sdk.conversation.wait_for_message("bob", "alice", 0.05) is None
    await sdk.conversation.send_no_wait("alice", "bob", "hi")
    assert await inbox.wait_for(1) == ["hi"]


async def test_a_handler_may_wait_for_the_next_message_of_its_sender(sdk: Sdk) -> None:
    async def collect(message: Any, context: MessageContext) -> list[Any]:
        rest = [await sdk.conversation.wait_for_message("bob", context.sender_id, SOON) for _ in range(2)]
        return [message, *rest]

    sdk.register_handler("bob")(Clerk(collect))
    asking = ask(sdk, "alice", "bob", 1)
    await until_registered(sdk)
    for number in (2, 3):
        await sdk.conversation.send_no_wait("alice", "bob", number)
    assert await asking == [1, 2, 3]
    await nothing_is_left(sdk)


async def test_a_handler_that_waits_for_another_agent_does_not_hold_up_its_sender(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob", "carol")

    async def consult(message: Any, context: MessageContext) -> Any:
        if message != "first":
            return f"{message}, at once"
        return f"{message}, {await sdk.conversation.wait_for_message('bob', 'carol', SOON)}"

    sdk.register_handler("bob", concurrency=2)(Clerk(consult))
    first = await other.conversation.send_no_wait("alice", "bob", "first")
    await until_registered(sdk)
    second = await other.conversation.send_no_wait("alice", "bob", "second")
    await other.wait([second])
    assert (await other.receipts.get(first)).state is DeliveryState.CLAIMED
    await other.conversation.send_no_wait("carol", "bob", "late")
    await other.wait([first])
    answers = await other.conversation.get_unread_messages("alice")
    assert answers == ["second, at once", "first, late"]
    await nothing_is_left(sdk)


async def test_a_pair_corresponds_over_many_rounds_in_two_sdk_objects(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")

    async def count_on(sdk: Sdk, me: str, you: str) -> list[int]:
        seen: list[int] = []
        while not seen or seen[-1] < 19:
            seen.append(int(await sdk.conversation.wait_for_message(me, you, SOON) or 0))
            await sdk.conversation.send_no_wait(me, you, seen[-1] + 1)
        return seen

    await one.conversation.send_no_wait("alice", "bob", 1)
    evens, odds = await asyncio.gather(count_on(one, "alice", "bob"), count_on(other, "bob", "alice"))
    assert odds == list(range(1, 20, 2))
    assert evens == list(range(2, 21, 2))
    await nothing_is_left(one, other)


async def test_waiting_in_a_timeout_of_ones_own_holds_nothing_back(sdk: Sdk) -> None:
    sdk.register_handler("bob")(inbox := Inbox())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sdk.conversation.wait_for_message("bob", "alice"), 0.05)
    await nothing_is_left(sdk)
    await sdk.conversation.send_no_wait("alice", "bob", "hi")
    assert await inbox.wait_for(1) == ["hi"]


async def test_many_waits_hold_no_connection(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(max_pool_size=2)
    names = [f"agent-{number}" for number in range(100)]
    await sdk.add_people("alice", *names)
    waits = [begin(sdk.conversation.wait_for_message(name, "alice", SOON)) for name in names]
    await until_registered(sdk, 100)
    await asyncio.gather(*(sdk.conversation.send_no_wait("alice", name, name) for name in names))
    assert await asyncio.gather(*waits) == names
    await nothing_is_left(sdk)


async def test_a_message_stored_here_is_told_to_who_waits_for_it_without_a_look_at_all_that_wait(sdk: Sdk) -> None:
    names = [f"agent-{number}" for number in range(40)]
    await sdk.add_people(*names)
    idle = [begin(sdk.conversation.wait_for_message(name, "alice", 60)) for name in names]
    await until_registered(sdk, 40)
    waiters = sdk._started().waits.waiters
    find, looked_at = waiters.find, 0

    async def counted(ids: list[str]) -> Any:
        nonlocal looked_at
        looked_at += len(ids)
        return await find(ids)

    waiters.find = counted
    for number in range(30):
        waiting = begin(sdk.conversation.wait_for_message("bob", "alice", SOON))
        await until_registered(sdk, 41)
        await sdk.conversation.send_no_wait("alice", "bob", number)
        assert await waiting == number
    assert looked_at < 30 * 40 / 2, "the slow poll alone looks at all"
    for task in idle:
        task.cancel()
    await asyncio.wait(idle)
    await nothing_is_left(sdk)


async def test_an_answer_goes_to_its_ask_and_not_to_who_waits_for_a_message_beside_it(sdk: Sdk) -> None:
    asking = ask(sdk, "alice", "bob")
    await until_waiting(sdk, "alice", "bob")
    waiting = begin(sdk.conversation.wait_for_message("alice", "bob", SOON))
    await until_registered(sdk)
    await sdk.conversation.reply("bob", "alice", "the answer")
    await sdk.conversation.send_no_wait("bob", "alice", "the message")
    assert await asking == "the answer"
    assert await waiting == "the message"
    await nothing_is_left(sdk)
