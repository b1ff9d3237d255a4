"""Asking and waiting: what answers, what an asker is told, and what the two can read afterwards."""

from __future__ import annotations

import asyncio
import builtins
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from agent_messaging import (
    AgentNotFoundError,
    ConversationEndedError,
    ConversationTimeoutError,
    HandlerError,
    MessageContext,
    NoHandlerRegisteredError,
    SessionLockError,
    SessionNotFoundError,
    SessionStateError,
    register_conversation_handler,
)
from agent_messaging.messaging.conversation.ask import GIVING_UP
from tests.client.conversing import (
    SLACK,
    Clerk,
    Desk,
    ask,
    begin,
    nothing_is_left,
    rows,
    session_of,
    states_of_asks,
    transcript,
    until_waiting,
)
from tests.client.support import SOON, Gate, Inbox, MakeSdk, Sdk
from tests.support import eventually

SHORT = 0.2
"""An ask's timeout, where it is to pass."""


async def test_what_the_handler_returns_is_the_answer(sdk: Sdk) -> None:
    sdk.register_handler("bob")(clerk := Clerk(lambda message, context: {"to": message["text"]}))
    answer = await sdk.conversation.send_and_wait("alice", "bob", {"text": "hi"}, 60, {"trace": 7})
    assert answer == {"to": "hi"}
    [context] = clerk.contexts
    session = await session_of(sdk, "alice")
    assert (context.sender_id, context.receiver_id, context.metadata) == ("alice", "bob", {"trace": 7})
    assert (context.requires_reply, context.session_id, context.attempt) == (True, session.session_id, 1)
    assert (session.status.value, session.locked_by, session.other_agent_id) == ("active", None, "bob")
    assert await transcript(sdk, session.session_id) == [("alice", {"text": "hi"}, True), ("bob", {"to": "hi"}, True)]
    assert await states_of_asks(sdk) == ["replied"]
    assert await sdk.conversation.get_unread_messages("alice") == []
    assert await sdk.conversation.get_unread_messages("bob") == []
    await nothing_is_left(sdk)


async def test_a_pair_goes_on_in_its_session_and_after_its_end_in_a_new_one(sdk: Sdk) -> None:
    sdk.register_handler("bob")(clerk := Clerk(lambda message, context: message + 1))
    assert [await sdk.conversation.send_and_wait("alice", "bob", number) for number in range(3)] == [1, 2, 3]
    first = await session_of(sdk, "bob")
    assert {context.session_id for context in clerk.contexts} == {first.session_id}
    for _ in range(2):
        await sdk.conversation.end_conversation("bob", "alice")
        assert await sdk.conversation.get_active_sessions("alice") == []
        assert await sdk.conversation.send_and_wait("alice", "bob", 7) == 8
        assert clerk.contexts[-1].session_id != first.session_id
    info = await sdk.conversation.get_session_info(first.session_id)
    assert (info.status.value, info.message_count, info.ended_at is not None) == ("ended", 7, True)


@pytest.mark.parametrize("how", ["reply", "send_no_wait", "send_and_wait"])
async def test_an_agents_own_code_answers_what_it_has_read(sdk: Sdk, how: str) -> None:
    asking = ask(sdk, "alice", "bob", "how are you?")
    await until_waiting(sdk, "alice", "bob")
    assert await sdk.conversation.get_unread_messages("bob") == ["how are you?"]
    answering = begin(
        getattr(sdk.conversation, how)("bob", "alice", "fine", **({"timeout": SOON} if how == "send_and_wait" else {}))
    )
    assert await asking == "fine"
    if how == "send_and_wait":  # now it waits itself: the other's next message is its answer
        await until_waiting(sdk, "bob", "alice")
        await sdk.conversation.send_no_wait("alice", "bob", "good")
        assert await answering == "good"
    else:
        await answering
    assert await sdk.conversation.get_unread_messages("alice") == []
    await nothing_is_left(sdk)


async def test_a_message_that_crosses_an_ask_nobody_has_seen_is_not_its_answer(sdk: Sdk) -> None:
    asking = ask(sdk, "alice", "bob", "?")
    await until_waiting(sdk, "alice", "bob")
    await sdk.conversation.send_no_wait("bob", "alice", "by the way")
    await sdk.conversation.reply("bob", "alice", "the answer")  # `reply` answers whether or not it was read
    assert await asking == "the answer"
    assert await sdk.conversation.get_unread_messages("alice") == ["by the way"]


async def test_unread_messages_of_any_kind_are_not_taken_for_the_answer(sdk: Sdk) -> None:
    await sdk.one_way.send("bob", "alice", "a note", require_handler=False)
    await sdk.conversation.send_no_wait("bob", "alice", "an old message")
    sdk.register_handler("bob")(desk := Desk())
    asking = ask(sdk, "alice", "bob")
    await desk.wait_for(1)
    await sdk.one_way.send("bob", "alice", "another note", require_handler=False)
    await sdk.one_way.send("carol", "alice", "a third one", require_handler=False)
    await sdk.conversation.send_no_wait("carol", "alice", "somebody else's")
    desk.answers.put_nowait("the answer")
    assert await asking == "the answer"
    assert await sdk.conversation.get_unread_messages("alice") == ["an old message", "somebody else's"]
    assert await sdk.one_way.get_message_count("alice", read_status=False) == 3


async def test_a_handler_answers_by_reply_and_returns_nothing(sdk: Sdk) -> None:
    async def interview(message: Any, context: MessageContext) -> None:
        if context.requires_reply:
            await sdk.sync_conversation.reply(context.receiver_id, context.sender_id, f"I say {message}")

    sdk.register_handler("bob")(interview)
    for question in ("yes", "no"):
        assert await sdk.sync_conversation.send_and_wait("alice", "bob", question) == f"I say {question}"
    await sdk.sync_conversation.end_conversation("alice", "bob")
    await nothing_is_left(sdk)


async def test_a_handler_that_answers_twice_has_its_first_answer_taken_and_the_other_kept_unread(sdk: Sdk) -> None:
    async def eager(message: Any, context: MessageContext) -> str:
        await sdk.conversation.reply("bob", "alice", "first")
        with pytest.raises(SessionStateError, match="'alice' does not wait for an answer of 'bob'"):
            await sdk.conversation.reply("bob", "alice", "again")
        return "second"

    sdk.register_handler("bob")(eager)
    assert await sdk.conversation.send_and_wait("alice", "bob", "?") == "first"
    assert await sdk.conversation.wait_for_message("alice", "bob", SOON) == "second"
    assert await states_of_asks(sdk) == ["replied"]
    session = await session_of(sdk, "alice")
    assert [content for _, content, _ in await transcript(sdk, session.session_id)] == ["?", "first", "second"]


async def test_inside_the_asks_own_run_only_reply_and_the_result_answer_it(sdk: Sdk) -> None:
    async def chatty(message: Any, context: MessageContext) -> str:
        await sdk.conversation.send_no_wait("bob", "alice", "let me see")
        return "the answer"

    sdk.register_handler("bob")(chatty)
    assert await sdk.conversation.send_and_wait("alice", "bob", "?") == "the answer"
    assert await sdk.conversation.get_unread_messages("alice") == ["let me see"]


async def test_a_handler_that_returns_none_leaves_the_ask_to_a_later_answer(sdk: Sdk) -> None:
    sdk.register_handler("bob")(inbox := Inbox())
    asking = ask(sdk, "alice", "bob")
    await inbox.wait_for(1)
    await eventually(lambda: rows(sdk, "select 1 from deliveries where state = 'done'"), SOON)
    assert (await session_of(sdk, "bob")).locked_by == "alice"
    await sdk.conversation.send_no_wait("bob", "alice", "a status")
    assert not asking.done()
    await sdk.conversation.reply("bob", "alice", "later")
    assert await asking == "later"


async def test_falsy_answers_are_answers(sdk: Sdk) -> None:
    sdk.register_handler("bob")(Clerk(lambda message, context: message))
    falsy: list[Any] = [0, "", False, [], {}]
    for answer in falsy:
        assert await sdk.conversation.send_and_wait("alice", "bob", answer) == answer
    asking = ask(sdk, "alice", "carol")
    await until_waiting(sdk, "alice", "carol")
    await sdk.conversation.reply("carol", "alice", None)
    assert await asking is None


async def test_a_plain_function_answers_from_its_thread(sdk: Sdk) -> None:
    @sdk.register_handler("bob")
    def plain(message: Any, context: MessageContext) -> str:
        return f"{message} from a thread"

    assert await sdk.conversation.send_and_wait("alice", "bob", "hi") == "hi from a thread"


async def test_a_conversation_handler_is_apart_from_the_handler_of_notes(sdk: Sdk) -> None:
    register_conversation_handler(Clerk(lambda message, context: "answered"))
    await sdk.add_people("dave")
    assert await sdk.conversation.send_and_wait("alice", "dave", "?") == "answered"
    with pytest.raises(NoHandlerRegisteredError, match="No one-way handler registered for 'dave'"):
        await sdk.one_way.send("alice", "dave", "a note")


# --- the ends that are no answer --------------------------------------------------------------------------------------


async def test_nobody_who_answers_is_a_timeout_in_time_and_the_session_is_free(sdk: Sdk) -> None:
    started = time.monotonic()
    with pytest.raises(builtins.TimeoutError, match=r"No response received within 0.2 seconds from 'bob'") as caught:
        await ask(sdk, "alice", "bob", timeout=SHORT)
    assert SHORT <= time.monotonic() - started <= SHORT + SLACK
    assert isinstance(caught.value, ConversationTimeoutError)
    assert await states_of_asks(sdk) == ["timed_out"]
    assert (await session_of(sdk, "alice")).status.value == "active"
    assert await rows(sdk, "select state from deliveries") == [("expired",)], "nobody is to handle it any more"
    sdk.register_handler("bob")(clerk := Clerk(lambda message, context: message))
    assert await sdk.conversation.send_and_wait("alice", "bob", "again") == "again"
    assert clerk.messages == ["again"]


async def test_the_default_timeout_is_the_setting(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(default_sync_timeout=SHORT)
    await sdk.add_people("alice", "bob")
    options: list[dict[str, Any]] = [{}, {"timeout": None}]
    for option in options:
        with pytest.raises(ConversationTimeoutError, match=r"within 0\.2 seconds"):
            await sdk.conversation.send_and_wait("alice", "bob", "?", require_handler=False, **option)
    with pytest.raises(ConversationTimeoutError, match=r"within 0\.2 seconds"):
        await sdk.sync_conversation.send_and_wait("alice", "bob", "?", require_handler=False)


async def test_a_handler_beyond_the_asks_timeout_goes_on_and_its_answer_is_kept_unread(sdk: Sdk) -> None:
    sdk.register_handler("bob")(desk := Desk())
    with pytest.raises(ConversationTimeoutError):
        await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SHORT)
    session = await session_of(sdk, "alice")
    await sdk.conversation.end_conversation("alice", "bob")
    assert desk.ended == 0
    desk.answers.put_nowait("at last")
    assert await sdk.conversation.wait_for_message("alice", "bob", SOON) == "at last"
    told = await transcript(sdk, session.session_id)
    assert [content for _, content, _ in told if not isinstance(content, dict)] == ["?", "at last"]
    assert len(desk.messages) == 1
    assert await states_of_asks(sdk) == ["timed_out"]


async def test_a_handler_may_run_as_long_as_the_asker_waits_then_it_is_stopped(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(handler_timeout=0.05)
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(desk := Desk())
    asking = ask(sdk, "alice", "bob", timeout=SOON)
    await desk.wait_for(1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(asking), 0.2)  # four times the handler's own timeout
    desk.answers.put_nowait("slow and sure")
    assert await asking == "slow and sure"
    with pytest.raises(ConversationTimeoutError):  # and not HandlerError: the asker's time was up first
        await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SHORT)
    await eventually(lambda: desk.ended, SOON, until=lambda ended: ended == 2)
    [letter] = await eventually(sdk.dead_letters.list, SOON)
    assert "HandlerTimeoutError" in letter.reasons[0]
    assert "raise the timeout of the ask." in letter.reasons[0]


async def test_what_failed_in_a_task_group_is_told_to_the_asker_and_in_the_dead_letter(sdk: Sdk) -> None:
    async def look_up() -> None:
        raise LookupError("no such customer")

    @sdk.register_handler("bob")
    async def on_question(question: Any, context: MessageContext) -> Any:
        async with asyncio.TaskGroup() as group:
            group.create_task(look_up())

    with pytest.raises(HandlerError, match=r"failed on this ask: LookupError: no such customer"):
        await sdk.conversation.send_and_wait("alice", "bob", 1, timeout=60)
    [dead] = await sdk.dead_letters.list()
    assert dead.reasons == ("LookupError: no such customer",)


@pytest.mark.parametrize("registered", [True, False], ids=["raises", "thread"])
async def test_a_handler_that_raises_is_told_to_the_asker_at_once(sdk: Sdk, registered: bool) -> None:
    def fail(message: Any, context: MessageContext) -> None:
        raise LookupError("no such customer")

    sdk.register_handler("bob")(Clerk(fail) if registered else fail)
    started = time.monotonic()
    with pytest.raises(
        HandlerError, match=r"The handler of 'bob' failed on this ask: LookupError: no such customer"
    ) as caught:
        await sdk.conversation.send_and_wait("alice", "bob", {"secret": "s3cret"}, timeout=60)
    assert time.monotonic() - started < SOON
    assert "s3cret" not in str(caught.value)
    [letter] = await sdk.dead_letters.list("bob")
    assert (letter.content, letter.attempt) == ({"secret": "s3cret"}, 1)
    assert await states_of_asks(sdk) == ["failed"]
    await nothing_is_left(sdk)


class Figure(BaseModel):
    number: int


UNSTORABLE: dict[str, Callable[[], Any]] = {
    "an object": object,
    "a NaN": lambda: float("nan"),
    "bytes": lambda: b"\xff",
    "too much": lambda: "x" * 1_100_000,
    "a NUL": lambda: "\0",
}


@pytest.mark.parametrize("name", UNSTORABLE)
async def test_a_handler_that_returns_what_is_no_json_fails_the_ask_and_says_why(sdk: Sdk, name: str) -> None:
    sdk.register_handler("bob")(Clerk(lambda message, context: UNSTORABLE[name]()))
    with pytest.raises(HandlerError, match=r"failed on this ask: PayloadError: The handler's answer"):
        await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=60)
    assert len(await sdk.dead_letters.list("bob")) == 1
    await nothing_is_left(sdk)


async def test_a_question_that_does_not_fit_the_handler_is_told_to_the_asker(sdk: Sdk) -> None:
    @sdk.register_handler("bob")
    async def strict(message: Figure, context: MessageContext) -> int:
        return message.number

    assert await sdk.conversation.send_and_wait("alice", "bob", Figure(number=7)) == 7
    with pytest.raises(HandlerError, match=r"(?s)number.*"):
        await sdk.conversation.send_and_wait("alice", "bob", {"number": "many"}, timeout=60)
    await nothing_is_left(sdk)


async def test_ending_the_conversation_releases_the_asker_and_whoever_is_queued_behind(sdk: Sdk) -> None:
    sdk.register_handler("bob")(desk := Desk())
    asking = ask(sdk, "alice", "bob", "first")
    await desk.wait_for(1)
    queued = ask(sdk, "alice", "bob", "second", wait_for_session=True)
    await asyncio.sleep(0)
    session = await session_of(sdk, "alice")
    assert (session.status.value, session.locked_by) == ("waiting", "alice")
    await sdk.conversation.end_conversation("bob", "alice")
    with pytest.raises(ConversationEndedError, match="The conversation with 'bob' was ended while 'alice' waited"):
        await asking
    assert await until_waiting(sdk, "alice", "bob")
    assert (await session_of(sdk, "alice")).session_id != session.session_id, "the next message opens a new one"
    for answer in ("late", "in time"):
        desk.answers.put_nowait(answer)
    assert await queued == "in time"
    assert await sdk.conversation.get_unread_messages("alice") == ["late"]
    told = await sdk.conversation.get_messages_in_session(session.session_id)
    assert [record.message_type.value for record in told] == ["user_defined", "ending", "user_defined"]
    assert await states_of_asks(sdk) == ["ended", "replied"]


async def test_ending_in_another_sdk_object_releases_the_asker(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    asking = ask(one, "alice", "bob", timeout=60)
    await until_waiting(other, "alice", "bob")
    await other.conversation.end_conversation("alice", "bob")
    with pytest.raises(ConversationEndedError):
        await asyncio.wait_for(asking, SOON)
    with pytest.raises(SessionNotFoundError, match="'alice' and 'bob' have no open session"):
        await other.conversation.end_conversation("alice", "bob")
    await nothing_is_left(one, other)


async def test_a_reply_to_nobody_says_whether_there_is_no_session_or_nobody_waits(sdk: Sdk) -> None:
    with pytest.raises(SessionNotFoundError, match="'bob' and 'alice' have no open session"):
        await sdk.conversation.reply("bob", "alice", "?")
    await sdk.conversation.send_no_wait("alice", "bob", "hi")
    with pytest.raises(SessionStateError, match="'alice' does not wait for an answer of 'bob'") as caught:
        await sdk.conversation.reply("bob", "alice", "?")
    assert not isinstance(caught.value, SessionNotFoundError)
    session = await session_of(sdk, "alice")
    assert len(await transcript(sdk, session.session_id)) == 1, "nothing was stored"


@pytest.mark.parametrize("who", ["alice", "bob"])
async def test_removing_an_agent_releases_who_waits_for_it(sdk: Sdk, who: str) -> None:
    asking = ask(sdk, "alice", "bob", timeout=60)
    await until_waiting(sdk, "alice", "bob")
    assert await sdk.deregister_agent(who)
    with pytest.raises(AgentNotFoundError, match="removed"):
        await asyncio.wait_for(asking, SOON)
    await nothing_is_left(sdk)


async def test_removing_an_agent_elsewhere_releases_who_waits_for_it(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    asking = ask(one, "alice", "bob", timeout=60)
    waiting = begin(one.conversation.wait_for_message("alice", "bob", 60))
    await until_waiting(other, "alice", "bob")
    await eventually(lambda: rows(other, "select 1 from waits"), SOON)
    await other.deregister_organization("acme")
    for released in (asking, waiting):
        with pytest.raises(AgentNotFoundError, match="removed"):
            await asyncio.wait_for(released, SOON)
    await nothing_is_left(one, other)


async def test_unknown_names_and_agents_nobody_serves_are_refused_before_anything_is_stored(sdk: Sdk) -> None:
    with pytest.raises(AgentNotFoundError, match=r"'bbo'.*'bob'"):
        await sdk.conversation.send_and_wait("alice", "bbo", "?")
    with pytest.raises(AgentNotFoundError, match=r"'alcie'.*'alice'"):
        await sdk.conversation.send_and_wait("alcie", "bob", "?")
    refused = r"No conversation handler registered for 'bob'.*ask it all the same with require_handler=False"
    with pytest.raises(NoHandlerRegisteredError, match=refused):
        await sdk.conversation.send_and_wait("alice", "bob", "?")
    assert await rows(sdk, "select id from messages") == []
    assert await sdk.conversation.get_active_sessions("alice") == []
    await nothing_is_left(sdk)


async def test_an_agent_without_a_handler_may_be_asked_if_it_waits_for_the_message(sdk: Sdk) -> None:
    waiting = begin(sdk.conversation.wait_for_message("bob", "alice", SOON))
    await eventually(lambda: rows(sdk, "select 1 from waits"), SOON)
    asking = begin(sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON, require_handler=True))
    assert await waiting == "?"
    await sdk.conversation.send_no_wait("bob", "alice", "!")
    assert await asking == "!"


# --- two at once ------------------------------------------------------------------------------------------------------


async def test_a_second_ask_of_the_same_side_is_refused_and_nothing_is_stored(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob", "carol")
    asking = ask(one, "alice", "bob")
    id = await until_waiting(one, "alice", "bob")
    for sdk in (one, other):
        with pytest.raises(SessionLockError, match=r"'alice' already waits for an answer of 'bob'.*nothing") as caught:
            await ask(sdk, "alice", "bob", "second")
        assert (caught.value.sender, caught.value.recipient, caught.value.ask_id) == ("alice", "bob", id)
    assert len(await rows(one, "select id from messages")) == 1
    elsewhere = ask(one, "alice", "carol")  # another session
    await until_waiting(one, "alice", "carol")
    await one.conversation.reply("carol", "alice", "c")
    await one.conversation.reply("bob", "alice", "b")
    assert [await asking, await elsewhere] == ["b", "c"]
    await nothing_is_left(one, other)


async def test_asks_that_queue_for_their_session_are_answered_in_the_order_of_the_calls(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    other.register_handler("bob")(clerk := Clerk(lambda message, context: message * 10))
    await one.wait_until_served("bob", SOON)
    asks = [ask(one, "alice", "bob", number, wait_for_session=True) for number in range(10)]
    assert await asyncio.gather(*asks) == [number * 10 for number in range(10)]
    assert clerk.messages == list(range(10))
    await nothing_is_left(one, other)


async def test_an_ask_may_queue_behind_one_of_another_sdk_object(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    first = ask(one, "alice", "bob", 1)
    await until_waiting(other, "alice", "bob")
    second = ask(other, "alice", "bob", 2, wait_for_session=True)
    await one.conversation.reply("bob", "alice", "one")
    assert await first == "one"
    await until_waiting(other, "alice", "bob")
    await one.conversation.reply("bob", "alice", "two")
    assert await second == "two"
    await nothing_is_left(one, other)


async def test_queueing_for_the_session_counts_as_waiting_and_ends_with_the_timeout(sdk: Sdk) -> None:
    first = ask(sdk, "alice", "bob", 1)
    await until_waiting(sdk, "alice", "bob")
    started = time.monotonic()
    with pytest.raises(ConversationTimeoutError, match=r"waited 0.2 seconds for its earlier ask .* was not sent"):
        await ask(sdk, "alice", "bob", 2, wait_for_session=True, timeout=SHORT)
    assert SHORT <= time.monotonic() - started <= SHORT + SLACK
    assert len(await rows(sdk, "select id from messages")) == 1
    await sdk.conversation.reply("bob", "alice", "one")
    assert await first == "one"
    await nothing_is_left(sdk)


async def test_a_hundred_askers_of_one_agent_each_get_their_own_answer(sdk: Sdk) -> None:
    names = [f"asker-{number}" for number in range(100)]
    await sdk.add_people(*names)
    sdk.register_handler("bob")(Clerk(lambda message, context: [context.sender_id, message]))
    answers = await asyncio.gather(*(sdk.conversation.send_and_wait(name, "bob", name) for name in names))
    assert answers == [[name, name] for name in names]
    await nothing_is_left(sdk)


async def test_an_ask_is_not_queued_behind_notes(sdk: Sdk) -> None:
    sdk.register_handler("bob", concurrency=1)(desk := Desk())
    await sdk.one_way.send("alice", "bob", "a note")
    await desk.wait_for(1)
    asking = ask(sdk, "alice", "bob")
    await desk.wait_for(2)
    desk.answers.put_nowait("to the note: ignored")
    desk.answers.put_nowait("to the ask")
    assert await asking == "to the ask"


async def test_a_failed_ask_does_not_write_payloads_to_the_log(sdk: Sdk, caplog: pytest.LogCaptureFixture) -> None:
    def fail(message: Any, context: MessageContext) -> None:
        raise ValueError("wrong")

    sdk.register_handler("bob")(Clerk(fail))
    with caplog.at_level(logging.DEBUG), pytest.raises(HandlerError):
        await sdk.conversation.send_and_wait("alice", "bob", "s3cret question")
    assert "s3cret question" not in caplog.text


@pytest.mark.parametrize("backend", ["sqlite"])
async def test_a_loop_that_was_blocked_beyond_the_deadline_makes_no_secret_of_how_an_ask_ended(sdk: Sdk) -> None:
    """The store was not asked meanwhile, and answers at once."""
    sdk.register_handler("bob")(gate := Gate())
    asking = asyncio.create_task(sdk.conversation.send_and_wait("alice", "bob", "?", timeout=0.2))
    await eventually(lambda: gate.messages)
    time.sleep(0.2 + GIVING_UP)
    with pytest.raises(ConversationTimeoutError):
        await asking
    gate.open()
