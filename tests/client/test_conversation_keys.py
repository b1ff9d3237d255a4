"""Idempotency keys of conversation calls: stored once, and a repeat is answered as the first call was, or joins it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent_messaging import (
    AgentNotFoundError,
    ConversationEndedError,
    ConversationTimeoutError,
    HandlerError,
    IdempotencyConflictError,
    MessageContext,
    OutcomeUnknownError,
    SessionLockError,
    StorageUnavailableError,
    register_message_notification_handler,
)
from tests.client.conversing import (
    Clerk,
    Desk,
    ask,
    nothing_is_left,
    rows,
    session_of,
    states_of_asks,
    transcript,
    until_waiting,
)
from tests.client.support import SOON, Inbox, MakeSdk, Sdk
from tests.support import eventually

SHORT = 0.2


async def test_a_repeated_send_is_stored_and_told_once(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    register_message_notification_handler(agent="bob")(notices := Inbox())
    id = await sdk.conversation.send_no_wait("alice", "bob", {"a": 1, "b": 2}, {"m": 1}, idempotency_key="k")
    for repeating in (sdk, other):
        again = await repeating.conversation.send_no_wait(
            "alice", "bob", {"b": 2, "a": 1}, {"m": 1}, idempotency_key="k"
        )
        assert again == id
    await sdk.conversation.send_no_wait("alice", "bob", "behind it")
    await notices.wait_for(2)
    assert notices.messages == [{"a": 1, "b": 2}, "behind it"]
    assert await sdk.conversation.get_unread_messages("bob") == [{"a": 1, "b": 2}, "behind it"]


async def test_a_repeated_reply_answers_once_and_tells_its_id_again(sdk: Sdk) -> None:
    asking = ask(sdk, "alice", "bob")
    await until_waiting(sdk, "alice", "bob")
    id = await sdk.conversation.reply("bob", "alice", "!", {"m": 1}, idempotency_key="k")
    assert await asking == "!"
    assert await sdk.conversation.reply("bob", "alice", "!", {"m": 1}, idempotency_key="k") == id
    again = ask(sdk, "alice", "bob", "next")
    await until_waiting(sdk, "alice", "bob")
    assert await sdk.conversation.reply("bob", "alice", "!", {"m": 1}, idempotency_key="k") == id
    assert (await session_of(sdk, "alice")).locked_by == "alice", "a repeat does not answer the next ask"
    for _ in range(2):
        await sdk.sync_conversation.reply("bob", "alice", "the next", idempotency_key="other")
    assert await again == "the next"


async def test_a_repeated_ask_joins_the_one_that_is_open(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    asks = [ask(one, "alice", "bob", idempotency_key="k")]
    await until_waiting(one, "alice", "bob")
    options: list[dict[str, Any]] = [{}, {"wait_for_session": True}, {"timeout": 60}, {"response_type": str}]
    asks += [ask(sdk, "alice", "bob", idempotency_key="k", **option) for sdk in (one, other) for option in options]
    with pytest.raises(ConversationTimeoutError):  # a joined one may give up before the others
        await ask(other, "alice", "bob", idempotency_key="k", timeout=SHORT)
    assert await states_of_asks(one) == ["open"]
    with pytest.raises(SessionLockError):
        await ask(one, "alice", "bob")
    await other.conversation.reply("bob", "alice", "one answer for all")
    assert await asyncio.gather(*asks) == ["one answer for all"] * len(asks)
    assert await states_of_asks(one) == ["replied"]
    await nothing_is_left(one, other)


async def test_an_ask_whose_caller_went_away_stays_open_for_a_repeat_to_join(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    other.register_handler("bob")(desk := Desk())
    await one.wait_until_served("bob", SOON)
    asking = ask(one, "alice", "bob", idempotency_key="k", timeout=60)
    await desk.wait_for(1)
    asking.cancel()
    await asyncio.wait({asking})
    assert await states_of_asks(other) == ["open"]
    again = ask(one, "alice", "bob", idempotency_key="k", timeout=60)
    desk.answers.put_nowait("worth the wait")
    assert await again == "worth the wait"
    assert len(desk.messages) == 1
    await nothing_is_left(one, other)


@pytest.mark.parametrize("look_again", [0.05, 60], ids=["looking again and again", "at the deadline"])
async def test_a_repeat_finds_the_answer_of_which_only_the_first_caller_is_told(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch, look_again: float
) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    asking = ask(one, "alice", "bob", idempotency_key="k", timeout=60)
    await until_waiting(one, "alice", "bob")
    monkeypatch.setattr("agent_messaging.messaging.conversation.ask.LOOK_AGAIN", look_again)
    waiters = other._started().asks.waiters
    monkeypatch.setattr(waiters, "look", lambda: None)  # no wake-up and no poll reaches it
    again = ask(other, "alice", "bob", idempotency_key="k", timeout=SOON if look_again < 1 else 1.0)
    await eventually(lambda: len(waiters), SOON, until=lambda count: count == 2)  # its own, and the one it has joined
    await asyncio.wait_for(waiters._looking.wait_until_idle(), SOON)
    await one.conversation.reply("bob", "alice", "!")
    assert [await asking, await again] == ["!", "!"]
    await nothing_is_left(one, other)


async def test_a_repeat_that_the_store_does_not_answer_ends_as_unknown(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    asking = ask(sdk, "alice", "bob", idempotency_key="k", timeout=60)
    await until_waiting(sdk, "alice", "bob")

    async def fail(ids: list[str]) -> dict[str, Any]:
        raise StorageUnavailableError

    with monkeypatch.context() as outage:
        outage.setattr(sdk._started().asks.waiters, "find", fail)
        with pytest.raises(OutcomeUnknownError):
            await ask(sdk, "alice", "bob", idempotency_key="k", timeout=SHORT)
    await sdk.conversation.reply("bob", "alice", "!")
    assert await asking == "!"


async def test_an_ask_survives_the_sdk_object_that_asked_and_its_answer_is_returned_to_the_repeat(
    make_sdk: MakeSdk,
) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    asking = ask(one, "alice", "bob", idempotency_key="k", timeout=60)
    await until_waiting(other, "alice", "bob")
    await one.close()
    with pytest.raises(RuntimeError, match="closed while this waited"):
        await asking
    assert await states_of_asks(other) == ["open"]
    await other.conversation.reply("bob", "alice", "after all")
    assert await ask(other, "alice", "bob", idempotency_key="k") == "after all"
    await nothing_is_left(other)


async def test_a_repeat_returns_the_recorded_outcome_whatever_it_was(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")

    def fail(message: Any, context: MessageContext) -> None:
        raise LookupError("no such thing")

    expected: dict[str, Any] = {
        "answered": ["!"],
        "timed out": ConversationTimeoutError,
        "failed": HandlerError,
        "ended": ConversationEndedError,
    }
    for key, outcome in expected.items():
        asking = ask(one, "alice", "bob", key, idempotency_key=key, timeout=SHORT if key == "timed out" else 60)
        if key != "timed out":
            await until_waiting(one, "alice", "bob")
        if key == "answered":
            await one.conversation.reply("bob", "alice", ["!"])
        elif key == "failed":
            one.register_handler("bob")(Clerk(fail))
        elif key == "ended":
            one.unregister_handler("bob")
            await one.conversation.end_conversation("bob", "alice")
        texts = set()
        for repeat in (
            asking,
            ask(one, "alice", "bob", key, idempotency_key=key),
            ask(other, "alice", "bob", key, idempotency_key=key, wait_for_session=True),
        ):
            if isinstance(outcome, list):
                assert await repeat == outcome
            else:
                with pytest.raises(outcome) as caught:
                    await repeat
                texts.add(str(caught.value).partition(" within ")[0])
        assert len(texts) <= 1
        if key == "timed out":
            assert await rows(one, "select state from deliveries where state in ('queued', 'claimed')") == []
        one.unregister_handler("bob")
    assert await states_of_asks(one) == ["replied", "timed_out", "failed", "ended"]
    await nothing_is_left(one, other)


async def test_a_late_answer_does_not_change_the_recorded_outcome(sdk: Sdk) -> None:
    sdk.register_handler("bob")(desk := Desk())
    for _ in range(2):
        with pytest.raises(ConversationTimeoutError):
            await ask(sdk, "alice", "bob", idempotency_key="k", timeout=SHORT)
        desk.answers.put_nowait("late")
        await eventually(lambda: desk.ended, SOON)
    assert await sdk.conversation.wait_for_message("alice", "bob", SOON) == "late"
    assert len(desk.messages) == 1


async def test_a_key_used_for_another_call_is_a_conflict_and_keys_are_apart_for_each_call(sdk: Sdk) -> None:
    sdk.register_handler("bob")(Clerk(lambda message, context: "!"))
    conversation = sdk.conversation
    assert await conversation.send_and_wait("alice", "bob", "?", idempotency_key="k") == "!"
    id = await conversation.send_no_wait("alice", "bob", "?", idempotency_key="k")
    await sdk.wait([id])
    sdk.unregister_handler("bob")
    asking = ask(sdk, "carol", "bob")
    await until_waiting(sdk, "carol", "bob")
    await conversation.reply("bob", "carol", "?", idempotency_key="k")
    await asking
    before = len(await rows(sdk, "select id from messages"))
    for call, sender in ((conversation.send_and_wait, "alice"), (conversation.send_no_wait, "alice")):
        for recipient, message, metadata in (("bob", "other", None), ("carol", "?", None), ("bob", "?", {"m": 1})):
            with pytest.raises(IdempotencyConflictError, match="'k' was already used"):
                await call(sender, recipient, message, metadata=metadata, idempotency_key="k")
    with pytest.raises(IdempotencyConflictError, match="'k' was already used"):
        await conversation.reply("bob", "carol", "other", idempotency_key="k")
    assert len(await rows(sdk, "select id from messages")) == before


async def test_a_repeat_is_answered_also_when_the_recipient_is_gone_or_unserved(sdk: Sdk) -> None:
    sdk.register_handler("bob")(Clerk(lambda message, context: "!"))
    assert await sdk.conversation.send_and_wait("alice", "bob", "?", idempotency_key="k") == "!"
    sdk.unregister_handler("bob")
    assert await sdk.conversation.send_and_wait("alice", "bob", "?", idempotency_key="k") == "!"
    await sdk.deregister_agent("bob")  # with its messages and their keys
    with pytest.raises(AgentNotFoundError):
        await sdk.conversation.send_and_wait("alice", "bob", "?", idempotency_key="k")


async def test_many_repeats_in_the_same_instant_are_one_ask(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    one.register_handler("bob")(clerk := Clerk(lambda message, context: f"{message}!"))
    await other.wait_until_served("bob", SOON)
    for key in ("a", "b", "c", "d", "e"):
        asks = [ask(sdk, "alice", "bob", key, idempotency_key=key) for sdk in (one, other) * 5]
        assert await asyncio.gather(*asks) == [f"{key}!"] * 10
    assert clerk.messages == ["a", "b", "c", "d", "e"]
    session = await session_of(one, "bob")
    assert len(await transcript(one, session.session_id)) == 10
    await nothing_is_left(one, other)


async def test_many_repeats_of_a_reply_in_the_same_instant_are_one_answer(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    for key in ("a", "b", "c", "d", "e"):
        asking = ask(one, "alice", "bob", key)
        await until_waiting(one, "alice", "bob")
        replies = (sdk.conversation.reply("bob", "alice", key, idempotency_key=key) for sdk in (one, other) * 3)
        assert len(set(await asyncio.gather(*replies))) == 1
        assert await asking == key
    await nothing_is_left(one, other)


async def test_a_ping_pong_under_keys_is_repeated_without_another_message(sdk: Sdk) -> None:
    asking = ask(sdk, "alice", "bob", 1, idempotency_key="a1")
    await until_waiting(sdk, "alice", "bob")
    assert await sdk.conversation.get_unread_messages("bob") == [1]
    answering = ask(sdk, "bob", "alice", 2, idempotency_key="b1")
    assert await asking == 2
    joined = ask(sdk, "bob", "alice", 2, idempotency_key="b1")
    assert await ask(sdk, "alice", "bob", 1, idempotency_key="a1") == 2
    await sdk.conversation.send_no_wait("alice", "bob", 3)
    assert [await answering, await joined] == [3, 3]
    assert len(await rows(sdk, "select id from messages")) == 3
    await nothing_is_left(sdk)
