"""Threads: conversations of the same two agents side by side, and the runs of a front agent that ask side by side."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from agent_messaging import (
    ConversationEndedError,
    ConversationTimeoutError,
    IdempotencyConflictError,
    MessageContext,
    MutualWaitError,
    SessionLockError,
    SessionNotFoundError,
    SessionStateError,
    register_message_notification_handler,
)
from tests.client.conversing import Clerk, Desk, ask, begin, nothing_is_left, rows, states_of_asks, until_registered
from tests.client.support import SOON, Gate, Inbox, MakeSdk, Sdk
from tests.support import eventually

ASKERS = 20


@pytest.mark.parametrize("thread", [None, "support"])
async def test_twenty_askers_of_a_front_agent_that_asks_billing_are_all_answered(
    make_sdk: MakeSdk, thread: str | None
) -> None:
    """As a web server has it: two processes serve, and every customer asks at the same time."""
    sdk, other = await make_sdk(handler_concurrency=ASKERS), await make_sdk(handler_concurrency=ASKERS)
    customers = [f"customer-{number}" for number in range(ASKERS)]
    await sdk.add_people("front", "billing", *customers)
    together = asyncio.Event()
    at_work = 0

    async def billing(question: Any, context: MessageContext) -> Any:
        nonlocal at_work
        at_work += 1
        if at_work == ASKERS:
            together.set()
        await together.wait()  # which it does only if all of them are asked side by side
        return {"owes": question["account"] * 2}

    async def front(question: Any, context: MessageContext) -> Any:
        bill = await sdk.conversation.send_and_wait("front", "billing", question, timeout=SOON * 3)
        return f"{context.sender_id} owes {bill['owes']}"

    sdk.register_handler("front")(front)
    other.register_handler("billing")(billing)
    await sdk.wait_until_served(["front", "billing"], timeout=SOON)
    asks = [
        ask(sdk, name, "front", {"account": at}, timeout=SOON * 3, thread=thread) for at, name in enumerate(customers)
    ]
    assert await asyncio.gather(*asks) == [f"{name} owes {at * 2}" for at, name in enumerate(customers)]
    assert set(await states_of_asks(sdk)) == {"replied"}
    sessions = await sdk.conversation.get_active_sessions("billing")
    assert {session.status.value for session in sessions} == {"active"}
    assert len({session.thread for session in sessions} - {None}) == ASKERS
    await nothing_is_left(sdk, other)


async def test_a_pair_asks_side_by_side_in_named_threads_and_once_in_each(sdk: Sdk) -> None:
    desk = Desk()
    sdk.register_handler("bob")(desk)
    asks = {thread: ask(sdk, "alice", "bob", thread, thread=thread) for thread in ("a", "b", "c")}
    main = ask(sdk, "alice", "bob", "main")
    await desk.wait_for(4)
    assert {context.thread: message for message, context in zip(desk.messages, desk.contexts, strict=True)} == {
        "a": "a",
        "b": "b",
        "c": "c",
        None: "main",
    }
    with pytest.raises(SessionLockError) as refused:
        await sdk.conversation.send_and_wait("alice", "bob", "again", thread="b")
    assert (refused.value.thread, refused.value.sender, refused.value.recipient) == ("b", "alice", "bob")
    assert "in the thread 'b'" in refused.value.problem
    with pytest.raises(SessionLockError) as in_main:
        await sdk.conversation.send_and_wait("alice", "bob", "again")
    assert in_main.value.thread is None
    for error in (refused.value, in_main.value):
        assert 'send_and_wait(…, thread="' in error.remedy
        assert "send_and_wait(…, wait_for_session=True)" in error.remedy
    queued = ask(sdk, "alice", "bob", "behind", thread="b", wait_for_session=True)
    for answer in range(5):
        desk.answers.put_nowait(answer)
    answers = await asyncio.gather(*asks.values(), main, queued)
    assert sorted(answers[:4]) == [0, 1, 2, 3]
    assert answers[4] == 4
    await nothing_is_left(sdk)


async def test_one_thread_is_handled_in_order_and_others_beside_it(sdk: Sdk) -> None:
    gate = Gate()
    sdk.register_handler("bob", concurrency=10)(gate)
    for number in range(3):
        for thread in ("a", "b", None):
            await sdk.conversation.send_no_wait("alice", "bob", number, thread=thread)
    await gate.wait_for(3)
    gate.open()
    await gate.wait_for(9)
    assert gate.most == 3
    for thread in ("a", "b", None):
        of_thread = [m for m, c in zip(gate.messages, gate.contexts, strict=True) if c.thread == thread]
        assert of_thread == [0, 1, 2]


async def test_the_main_thread_is_as_if_there_were_no_others(sdk: Sdk) -> None:
    """To the letter of what is said of conversations without threads."""
    conversation = sdk.conversation
    for thread in ("a", "b"):
        await conversation.send_no_wait("alice", "bob", thread, thread=thread)
    waiting = ask(sdk, "alice", "bob", "?")
    assert await conversation.wait_for_message("bob", "alice", SOON) == "a"
    assert await conversation.wait_for_message("bob", "alice", SOON) == "b"
    assert await conversation.wait_for_message("bob", "alice", SOON) == "?"
    await conversation.send_no_wait("bob", "alice", "!")
    assert await waiting == "!"
    with pytest.raises(SessionStateError):
        await conversation.reply("bob", "alice", "too late")
    await conversation.end_conversation("alice", "bob")
    with pytest.raises(SessionNotFoundError):
        await conversation.end_conversation("alice", "bob")
    assert {session.thread for session in await conversation.get_active_sessions("alice")} == {"a", "b"}


async def test_a_run_sends_in_its_own_thread_and_asks_in_one_named_after_its_message(sdk: Sdk) -> None:
    seen: list[tuple[Any, str | None]] = []

    async def bob(message: Any, context: MessageContext) -> Any:
        seen.append((message, context.thread))
        await sdk.conversation.send_no_wait("bob", "carol", f"note on {message}")
        return await sdk.conversation.send_and_wait("bob", "carol", message)

    async def carol(message: Any, context: MessageContext) -> Any:
        seen.append((message, context.thread))
        return [message, context.thread, str(context.message_id)] if context.requires_reply else None

    sdk.register_handler("bob")(bob)
    sdk.register_handler("carol")(carol)
    for message, named in (("in x", "x"), ("in main", None)):
        answer, thread, _ = await ask(sdk, "alice", "bob", message, thread=named)
        asked = await rows(sdk, f"select m.id from messages m where m.content = '\"{message}\"' order by m.seq limit 1")
        assert (answer, thread) == (message, str(asked[0][0])), "named after alice's message"
    await eventually(lambda: len(seen), SOON, until=lambda count: count == 6)
    assert ("note on in x", "x") in seen
    assert ("note on in main", None) in seen


async def test_a_note_s_handler_asks_in_a_thread_named_after_the_note(sdk: Sdk) -> None:
    answers: list[Any] = []

    async def bob(message: Any, context: MessageContext) -> None:
        assert context.thread is None
        answers.append((str(context.message_id), await sdk.conversation.send_and_wait("bob", "carol", message)))

    async def carol(message: Any, context: MessageContext) -> Any:
        return context.thread

    sdk.register_handler("bob")(bob)
    sdk.register_handler("carol")(carol)
    ids = await sdk.one_way.send("alice", "bob", "note")
    await sdk.wait(ids)
    assert answers == [(ids[0], ids[0])]


async def test_two_ways_to_one_agent_meet_in_no_thread_that_nobody_named(sdk: Sdk) -> None:
    """Alice asks bob, who asks two agents at once; both ask the hub, which asks the source for each of them."""
    await sdk.add_people("left", "right", "hub", "source")
    at_source: list[str | None] = []
    both = asyncio.Event()

    async def source(message: Any, context: MessageContext) -> Any:
        at_source.append(context.thread)
        if len(at_source) == 2:
            both.set()
        await asyncio.wait_for(both.wait(), SOON)
        return "found"

    async def pass_to(agent: str, message: Any, context: MessageContext) -> Any:
        return await sdk.conversation.send_and_wait(context.receiver_id, agent, message)

    async def bob(message: Any, context: MessageContext) -> Any:
        outcomes = await sdk.conversation.ask_many("bob", ["left", "right"], message)
        return [outcome.answer for outcome in outcomes]

    sdk.register_handler("bob")(bob)
    sdk.register_handler("left")(partial(pass_to, "hub"))
    sdk.register_handler("right")(partial(pass_to, "hub"))
    sdk.register_handler("hub")(partial(pass_to, "source"))
    sdk.register_handler("source")(source)
    await sdk.wait_until_served(["bob", "left", "right", "hub", "source"], timeout=SOON)
    assert await ask(sdk, "alice", "bob") == ["found", "found"]
    assert len(set(at_source)) == 2


async def test_a_recursion_is_refused_whatever_the_threads(sdk: Sdk) -> None:
    """Each of two handlers asks the other back, each time in a thread of its own."""
    depth = 0

    async def ask_back(message: Any, context: MessageContext) -> Any:
        nonlocal depth
        depth += 1
        return await sdk.conversation.send_and_wait(
            context.receiver_id, context.sender_id, message + 1, thread=f"depth {message}"
        )

    async def first(message: Any, context: MessageContext) -> Any:
        try:
            return await ask_back(message, context)
        except MutualWaitError as error:
            return list(error.path)

    sdk.register_handler("alice")(first)
    sdk.register_handler("bob")(ask_back)
    await sdk.wait_until_served(["alice", "bob"], timeout=SOON)
    path = await ask(sdk, "alice", "bob", 0, thread="top")
    assert path == ["bob", "alice", "bob"]
    assert depth == 2


async def test_own_code_answers_in_the_thread_it_was_asked_in_without_naming_it(sdk: Sdk) -> None:
    conversation = sdk.conversation
    for how in ("send_no_wait", "reply", "send_and_wait"):
        waiting = ask(sdk, "alice", "bob", f"? {how}", thread=how)
        assert await conversation.wait_for_message("bob", "alice", SOON) == f"? {how}"
        if how == "send_and_wait":
            back = ask(sdk, "bob", "alice", "!")
            assert await waiting == "!"
            await conversation.reply("alice", "bob", "and back")
            assert await back == "and back"
        else:
            await getattr(conversation, how)("bob", "alice", "!")
            assert await waiting == "!"
        [session] = await conversation.get_active_sessions("bob", thread=how)
        assert {one.thread for one in await conversation.get_conversation_history(session.session_id)} == {how}
    assert None not in {session.thread for session in await conversation.get_active_sessions("bob")}
    await nothing_is_left(sdk)


async def test_a_reply_that_could_mean_several_is_refused_and_names_them(sdk: Sdk) -> None:
    asks = {thread: ask(sdk, "alice", "bob", "?", thread=thread) for thread in ("a", "b")}
    found = await eventually(lambda: states_of_asks(sdk), SOON, until=lambda found: len(found) == 2)
    assert found == ["open", "open"]
    with pytest.raises(SessionStateError, match=r"in several threads \('[ab]', '[ab]'\)") as refused:
        await sdk.conversation.reply("bob", "alice", "!")
    assert "reply(…, thread=" in refused.value.remedy
    await sdk.conversation.reply("bob", "alice", "to b", thread="b")
    assert await asks["b"] == "to b"
    await sdk.conversation.reply("bob", "alice", "to a")
    assert await asks["a"] == "to a"
    with pytest.raises(SessionStateError, match="in the thread 'a'"):
        await sdk.conversation.reply("bob", "alice", "!", thread="a")
    with pytest.raises(SessionNotFoundError, match="in the thread 'z'"):
        await sdk.conversation.reply("bob", "alice", "!", thread="z")
    await nothing_is_left(sdk)


async def test_a_late_reply_of_a_run_answers_no_ask_of_another_thread(sdk: Sdk) -> None:
    gate = asyncio.Event()
    refused: list[Exception] = []

    async def slow(message: Any, context: MessageContext) -> None:
        if message == "slow":
            await gate.wait()
            try:
                await sdk.conversation.reply("bob", "alice", "late")
            except SessionStateError as error:
                refused.append(error)

    sdk.register_handler("bob", concurrency=2)(slow)
    with pytest.raises(ConversationTimeoutError):
        await ask(sdk, "alice", "bob", "slow", thread="a", timeout=0.2)
    other = ask(sdk, "alice", "bob", "quick", thread="b")
    await eventually(lambda: states_of_asks(sdk), SOON, until=lambda found: found == ["timed_out", "open"])
    gate.set()
    await eventually(lambda: len(refused), SOON)
    assert not other.done()
    await sdk.conversation.reply("bob", "alice", "in time", thread="b")
    assert await other == "in time"


async def test_ending_one_thread_leaves_those_who_wait_in_others(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    asks = {thread: ask(sdk, "alice", "bob", "?", thread=thread) for thread in ("a", "b")}
    main = ask(sdk, "alice", "bob", "?")
    await eventually(lambda: states_of_asks(sdk), SOON, until=lambda found: len(found) == 3)
    waits = {
        thread: begin(other.conversation.wait_for_message("alice", "bob", SOON * 3, thread=thread))
        for thread in ("a", "b", None)
    }
    await until_registered(sdk, 3)
    await other.conversation.end_conversation("bob", "alice", thread="a")
    for ended in (asks["a"], waits["a"]):
        with pytest.raises(ConversationEndedError):
            await ended
    with pytest.raises(SessionNotFoundError, match="in the thread 'a'"):
        await other.conversation.end_conversation("bob", "alice", thread="a")
    # Those of the main thread end with that, and so do those that wait for any.
    await sdk.conversation.end_conversation("alice", "bob")
    for ended in (main, waits[None]):
        with pytest.raises(ConversationEndedError):
            await ended
    await sdk.conversation.send_no_wait("bob", "alice", "for b", thread="b")
    assert await waits["b"] == "for b"
    await sdk.conversation.reply("bob", "alice", "!")
    assert await asks["b"] == "!"
    await nothing_is_left(sdk, other)


async def test_reading_is_of_all_threads_or_of_one(sdk: Sdk) -> None:
    conversation = sdk.conversation
    for thread in ("a", None, "b", "a"):
        await conversation.send_no_wait("alice", "bob", str(thread), thread=thread)
    await conversation.send_no_wait("carol", "bob", "carol's a", thread="a")
    assert await conversation.get_unread_messages("bob", peek=True) == ["a", "None", "b", "a", "carol's a"]
    assert await conversation.get_unread_messages("bob", peek=True, thread="a") == ["a", "a", "carol's a"]
    assert await conversation.get_messages_from_agent("bob", "alice", thread="a") == ["a", "a"]
    assert await conversation.get_or_wait_for_response("bob", "alice", 0, thread="b") == "b"
    assert await conversation.wait_for_message("bob", "alice", 0, thread="b") is None
    assert await conversation.get_messages_from_agent("bob", "alice") == ["None"]
    assert await conversation.get_unread_messages("bob") == ["carol's a"]
    sessions = await conversation.get_active_sessions("bob")
    assert sorted((session.other_agent_id, str(session.thread)) for session in sessions) == [
        ("alice", "None"),
        ("alice", "a"),
        ("alice", "b"),
        ("carol", "a"),
    ]
    [session] = await conversation.get_active_sessions("alice", thread="a")
    assert (await conversation.get_session_info(session.session_id)).thread == "a"
    assert [one.thread for one in await conversation.get_messages_in_session(session.session_id)] == ["a", "a"]
    assert (await conversation.get_session_statistics("bob", thread="a")).total_conversations == 2
    assert (await conversation.get_session_statistics("bob")).received_count == 5


async def test_a_wait_holds_back_its_own_thread_from_the_handler(sdk: Sdk) -> None:
    inbox = Inbox()
    sdk.register_handler("bob")(inbox)
    waiting = begin(sdk.conversation.wait_for_message("bob", "alice", SOON, thread="a"))
    await until_registered(sdk)
    await sdk.conversation.send_no_wait("alice", "bob", "handled", thread="b")
    assert await inbox.wait_for(1) == ["handled"]
    await sdk.conversation.send_no_wait("alice", "bob", "awaited", thread="a")
    assert await waiting == "awaited"
    await sdk.conversation.send_no_wait("alice", "bob", "handled too", thread="a")
    assert await inbox.wait_for(2) == ["handled", "handled too"]


async def test_a_handler_waits_in_its_own_thread_where_it_names_it(sdk: Sdk) -> None:
    async def bob(message: Any, context: MessageContext) -> Any:
        if not context.requires_reply:
            return None
        await sdk.conversation.send_no_wait("bob", "alice", f"which one for {message}?")
        more = await sdk.conversation.wait_for_message("bob", "alice", SOON, thread=context.thread)
        return f"{message}: {more}"

    sdk.register_handler("bob")(bob)
    asks = {thread: ask(sdk, "alice", "bob", thread, thread=thread) for thread in ("a", "b")}
    for thread in ("b", "a"):
        question = await sdk.conversation.wait_for_message("alice", "bob", SOON, thread=thread)
        assert question == f"which one for {thread}?"
    await until_registered(sdk, 2)
    for thread in ("b", "a"):
        await sdk.conversation.send_no_wait("alice", "bob", f"{thread}'s", thread=thread)
    assert await asyncio.gather(*asks.values()) == ["a: a's", "b: b's"]


async def test_notification_handlers_are_told_the_thread(sdk: Sdk) -> None:
    register_message_notification_handler(agent="bob")(notices := Inbox())
    for thread in ("a", None):
        await sdk.conversation.send_no_wait("alice", "bob", "hi", thread=thread)
    await notices.wait_for(2)
    assert {context.thread for context in notices.contexts} == {"a", None}


async def test_a_key_belongs_to_one_thread(sdk: Sdk) -> None:
    conversation = sdk.conversation
    first = await conversation.send_no_wait("alice", "bob", "hi", thread="a", idempotency_key="key")
    assert await conversation.send_no_wait("alice", "bob", "hi", thread="a", idempotency_key="key") == first
    for thread in ("b", None):
        with pytest.raises(IdempotencyConflictError):
            await conversation.send_no_wait("alice", "bob", "hi", thread=thread, idempotency_key="key")
    clerk = Clerk(lambda message, context: context.thread)
    sdk.register_handler("bob")(clerk)
    for _ in range(2):
        assert await ask(sdk, "alice", "bob", "?", thread="a", idempotency_key="ask") == "a"
    assert clerk.messages.count("?") == 1


async def test_two_processes_open_the_same_thread_in_one_instant(make_sdk: MakeSdk) -> None:
    sdks = [await make_sdk() for _ in range(2)]
    await sdks[0].add_people("alice", "bob")
    for round in range(5):
        name = f"round {round}"
        await asyncio.gather(
            *(sdk.conversation.send_no_wait("alice", "bob", at, thread=name) for at, sdk in enumerate(sdks)),
            *(sdk.conversation.send_no_wait("bob", "alice", at, thread=name) for at, sdk in enumerate(sdks)),
        )
        [session] = await sdks[0].conversation.get_active_sessions("alice", thread=name)
        assert len(await sdks[1].conversation.get_messages_in_session(session.session_id)) == 4


async def test_the_two_sides_of_the_api_take_threads_too(sdk: Sdk) -> None:
    sides = sdk.sync_conversation, sdk.async_conversation
    waiting = begin(sides[0].send_and_wait("alice", "bob", "?", SOON, thread="a", require_handler=False))
    assert await sides[1].wait_for_message("bob", "alice", SOON, thread="a") == "?"
    await sides[0].reply("bob", "alice", "!", thread="a")
    assert await waiting == "!"
    await sides[1].send("alice", "bob", "later", thread="b")
    assert await sides[1].get_messages_from_agent("bob", "alice", thread="a") == []
    assert await sides[1].get_unread_messages("bob", thread="b") == ["later"]
    await sides[0].end_conversation("alice", "bob", thread="a")
    assert [session.thread for session in await sdk.conversation.get_active_sessions("bob")] == ["b"]
