"""A run learns that its asker does not wait any more, and is cancelled with it where its handler wants that."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from dataclasses import asdict
from typing import Any

import pytest

from agent_messaging import (
    AgentNotFoundError,
    ConversationEndedError,
    ConversationTimeoutError,
    InvalidArgumentError,
    MessageContext,
    NotInitializedError,
    register_conversation_handler,
)
from agent_messaging.models import DeliveryState
from tests.client.conversing import STEPS, Clerk, ask, begin, cancel_after, nothing_is_left, rows, states_of_asks
from tests.client.support import SOON, MakeSdk, Sdk
from tests.support import eventually

ENDS = ["cancelled", "timeout", "ended", "removed", "responder removed"]
"""How the asker comes not to wait any more."""


class Patient:
    """A handler that works until nobody waits for it."""

    def __init__(self) -> None:
        self.contexts: asyncio.Queue[MessageContext] = asyncio.Queue()
        self.told = asyncio.Event()

    async def __call__(self, message: Any, context: MessageContext) -> Any:
        assert not context.is_abandoned
        self.contexts.put_nowait(context)
        await context.wait_abandoned()
        assert context.is_abandoned
        self.told.set()
        return "late"


class Cancelled:
    """A handler that works until it is cancelled."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.ended = asyncio.Event()

    async def __call__(self, message: Any, context: MessageContext) -> Any:
        self.begun.put_nowait(str(context.message_id))
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.ended.set()


async def stop_waiting(sdk: Sdk, asking: asyncio.Task[Any], how: str) -> None:
    """Let the asker not wait any more, for this reason."""
    expected: type[BaseException] = asyncio.CancelledError
    match how:
        case "cancelled":
            asking.cancel()
        case "timeout":
            expected = ConversationTimeoutError
        case "ended":
            await sdk.conversation.end_conversation("alice", "bob")
            expected = ConversationEndedError
        case _:
            await sdk.deregister_agent("bob" if how == "responder removed" else "alice")
            expected = AgentNotFoundError
    with pytest.raises(expected):
        await asking


async def two(make_sdk: MakeSdk, elsewhere: bool) -> tuple[Sdk, Sdk]:
    """The SDK of the asker and that of who answers, which may be the same."""
    one = await make_sdk()
    return one, await make_sdk() if elsewhere else one


@pytest.mark.sampled(6)
@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("how", ENDS)
async def test_a_run_is_told_that_nobody_waits_for_it(make_sdk: MakeSdk, how: str, elsewhere: bool) -> None:
    one, other = await two(make_sdk, elsewhere)
    await one.add_people("alice", "bob")
    bob = Patient()
    other.register_handler("bob")(bob)
    await one.wait_until_served("bob")
    asking = ask(one, "alice", "bob", timeout=0.5 if how == "timeout" else SOON)
    context = await asyncio.wait_for(bob.contexts.get(), SOON)
    await stop_waiting(one, asking, how)
    await asyncio.wait_for(bob.told.wait(), SOON)
    await context.wait_abandoned()
    if "removed" not in how:
        assert await one.wait([str(context.message_id)])
        assert await one.state(str(context.message_id)) == "done"
        [late] = await one.conversation.get_unread_messages("alice", peek=True)
        assert late == "late"
    await nothing_is_left(one, other)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("how", ENDS)
async def test_a_run_is_cancelled_with_its_asker_and_fails_in_no_way(
    make_sdk: MakeSdk, how: str, elsewhere: bool, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = await two(make_sdk, elsewhere)
    await one.add_people("alice", "bob")
    bob = Cancelled()
    other.register_handler("bob", on_abandoned="cancel")(bob)
    await one.wait_until_served("bob")
    asking = ask(one, "alice", "bob", timeout=0.5 if how == "timeout" else SOON)
    message_id = await asyncio.wait_for(bob.begun.get(), SOON)
    await stop_waiting(one, asking, how)
    await asyncio.wait_for(bob.ended.wait(), SOON)
    if "removed" not in how:
        [receipt] = await one.wait([message_id])
        assert (receipt.state, receipt.attempt) == (DeliveryState.EXPIRED, 0)
        expected = {"cancelled": "cancelled", "timeout": "timed_out", "ended": "ended"}
        assert await states_of_asks(one) == [expected[how]]
    assert await one.dead_letters.list() == []
    assert "failed" not in caplog.text
    assert "lost" not in caplog.text
    await nothing_is_left(one, other)


async def test_an_asker_that_leaves_gives_its_ask_up(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await other.add_people("alice", "bob")
    bob = Cancelled()
    other.register_handler("bob", on_abandoned="cancel")(bob)
    await one.wait_until_served("bob")
    asking = ask(one, "alice", "bob")
    message_id = await asyncio.wait_for(bob.begun.get(), SOON)
    await one.close()
    with pytest.raises(NotInitializedError):
        await asking
    await asyncio.wait_for(bob.ended.wait(), SOON)
    [receipt] = await other.wait([message_id])
    assert receipt.state is DeliveryState.EXPIRED
    await nothing_is_left(other)


async def test_without_a_ring_the_slow_poll_tells_the_run(make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    bob = Patient()
    other.register_handler("bob")(bob)
    await one.wait_until_served("bob")
    asking = ask(one, "alice", "bob")
    await asyncio.wait_for(bob.contexts.get(), SOON)
    monkeypatch.setattr(one.store.presence, "ring", lambda process_ids: None)
    asking.cancel()
    await asyncio.wait_for(bob.told.wait(), SOON)
    await nothing_is_left(one, other)


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_an_ask_cancelled_at_any_step_leaves_nothing_and_fails_nothing(
    make_sdk: MakeSdk, elsewhere: bool
) -> None:
    """The ask is replied or cancelled, its delivery done or expired, or it was never stored."""
    one, other = await two(make_sdk, elsewhere)
    await one.add_people("alice", "bob")

    @other.register_handler("bob", on_abandoned="cancel")
    async def on_question(message: Any, context: MessageContext) -> str:
        await asyncio.sleep(0.002)
        return "answer"

    await one.wait_until_served("bob")
    for step in range(STEPS):
        await cancel_after(step, one.conversation.send_and_wait("alice", "bob", step, timeout=SOON))
    await nothing_is_left(one, other)
    open_ones = "select state from deliveries where state in ('queued', 'claimed')"
    await eventually(lambda: rows(one, open_ones), SOON, until=lambda found: not found)
    assert set(await states_of_asks(one)) <= {"replied", "cancelled"}
    found = await rows(one, "select distinct d.state from asks a join deliveries d on d.seq = a.seq")
    assert {str(state) for (state,) in found} <= {"done", "expired"}


async def test_what_a_cancelled_run_asked_is_given_up_with_it(make_sdk: MakeSdk) -> None:
    one, middle, last = await make_sdk(), await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob", "carol")
    carol = Patient()
    last.register_handler("carol")(carol)

    @middle.register_handler("bob", on_abandoned="cancel")
    async def on_question(message: Any, context: MessageContext) -> Any:
        return await middle.conversation.send_and_wait("bob", "carol", message, timeout=SOON)

    await one.wait_until_served(["bob", "carol"])
    asking = ask(one, "alice", "bob")
    await asyncio.wait_for(carol.contexts.get(), SOON)
    asking.cancel()
    await asyncio.wait_for(carol.told.wait(), SOON)
    assert await states_of_asks(one) == ["cancelled", "cancelled"]
    await nothing_is_left(one, middle, last)


async def test_what_a_run_asked_that_finishes_goes_on(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob", "carol")
    gate, asked = asyncio.Event(), asyncio.Event()
    answers: asyncio.Queue[Any] = asyncio.Queue()

    async def answer() -> str:
        asked.set()
        await gate.wait()
        return "from carol"

    other.register_handler("carol")(Clerk(lambda message, context: answer()))

    @other.register_handler("bob")
    async def on_question(message: Any, context: MessageContext) -> Any:
        answers.put_nowait(await other.conversation.send_and_wait("bob", "carol", message, timeout=SOON))
        answers.put_nowait(context.is_abandoned)

    await one.wait_until_served(["bob", "carol"])
    asking = ask(one, "alice", "bob")
    await asyncio.wait_for(asked.wait(), SOON)
    asking.cancel()
    await eventually(lambda: states_of_asks(one), SOON, until=lambda found: found == ["cancelled", "open"])
    gate.set()
    assert await asyncio.wait_for(answers.get(), SOON) == "from carol"
    assert await asyncio.wait_for(answers.get(), SOON) in (True, False)
    await nothing_is_left(one, other)


async def test_a_plain_function_sees_it_in_its_thread(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    begun, told = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    @other.register_handler("bob")
    def on_question(message: Any, context: MessageContext) -> None:
        begun.set()
        pause = threading.Event()
        while not context.is_abandoned:
            pause.wait(0.01)
        loop.call_soon_threadsafe(told.set)

    await one.wait_until_served("bob")
    asking = ask(one, "alice", "bob")
    await asyncio.to_thread(begun.wait, SOON)
    asking.cancel()
    await asyncio.wait_for(told.wait(), SOON)
    await nothing_is_left(one, other)


async def test_a_handler_that_looks_once_at_its_end_sees_it(make_sdk: MakeSdk) -> None:
    """A run of more than a second is told also though it did not ask before."""
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    seen: asyncio.Queue[bool] = asyncio.Queue()
    begun = asyncio.Event()

    @other.register_handler("bob")
    async def on_question(message: Any, context: MessageContext) -> None:
        begun.set()
        await asyncio.sleep(1.5)
        seen.put_nowait(context.is_abandoned)

    await one.wait_until_served("bob")
    asking = ask(one, "alice", "bob")
    await asyncio.wait_for(begun.wait(), SOON)
    asking.cancel()
    assert await asyncio.wait_for(seen.get(), SOON) is True
    await nothing_is_left(one, other)


async def test_whoever_answers_first_is_not_abandoned(make_sdk: MakeSdk) -> None:
    """By `reply` the ask is answered; what the handler does then nobody has given up."""
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    go, done = asyncio.Event(), asyncio.Event()

    @sdk.register_handler("bob", on_abandoned="cancel")
    async def on_question(message: Any, context: MessageContext) -> None:
        await sdk.conversation.reply("bob", "alice", "answer")
        assert not context.is_abandoned
        await go.wait()
        assert not context.is_abandoned
        done.set()

    assert await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON) == "answer"
    go.set()
    await asyncio.wait_for(done.wait(), SOON)
    await nothing_is_left(sdk)


async def test_the_runs_that_were_not_first_are_given_up(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob", "carol", "dave")
    bob, carol = Patient(), Cancelled()
    other.register_handler("bob")(bob)
    other.register_handler("carol", on_abandoned="cancel")(carol)

    @other.register_handler("dave")
    async def on_question(message: Any, context: MessageContext) -> str:
        await asyncio.wait_for(bob.contexts.get(), SOON)
        await asyncio.wait_for(carol.begun.get(), SOON)
        return "first"

    await one.wait_until_served(["bob", "carol", "dave"])
    outcomes = await one.conversation.ask_many("alice", ["bob", "carol", "dave"], "?", timeout=SOON, first=1)
    assert [outcome.answer for outcome in outcomes if outcome.error is None] == ["first"]
    await asyncio.wait_for(bob.told.wait(), SOON)
    await asyncio.wait_for(carol.ended.wait(), SOON)
    await nothing_is_left(one, other)


@pytest.mark.parametrize("then", ["finish", "cancel"])
async def test_a_handler_that_sends_parts_is_told_too(make_sdk: MakeSdk, then: Any) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    begun, told, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @other.register_handler("bob", on_abandoned=then)
    async def on_question(message: Any, context: MessageContext) -> Any:
        try:
            yield "a part"
            begun.set()
            await (context.wait_abandoned() if then == "finish" else asyncio.Event().wait())
            told.set()
        finally:
            ended.set()

    await one.wait_until_served("bob")
    asking = ask(one, "alice", "bob")
    await asyncio.wait_for(begun.wait(), SOON)
    asking.cancel()
    await asyncio.wait_for(ended.wait(), SOON)
    assert told.is_set() == (then == "finish")
    await nothing_is_left(one, other)
    assert await one.dead_letters.list() == []


async def test_a_run_that_passed_its_ask_on_is_not_cancelled(
    make_sdk: MakeSdk, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob", "carol")
    carol, may_end, has_ended = Patient(), asyncio.Event(), asyncio.Event()
    other.register_handler("carol")(carol)

    @one.register_handler("bob", on_abandoned="cancel")
    async def on_question(message: Any, context: MessageContext) -> None:
        await context.forward("carol")
        await may_end.wait()
        has_ended.set()

    await one.wait_until_served(["bob", "carol"])
    asking = ask(one, "alice", "bob")
    await asyncio.wait_for(carol.contexts.get(), SOON)
    asking.cancel()
    await asyncio.wait_for(carol.told.wait(), SOON)
    may_end.set()
    await asyncio.wait_for(has_ended.wait(), SOON)
    await nothing_is_left(one, other)
    assert "lost" not in caplog.text


async def test_nobody_abandons_what_is_no_ask(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    found: asyncio.Queue[tuple[bool, bool]] = asyncio.Queue()

    @sdk.register_handler("bob", on_abandoned="cancel")
    async def on_note(message: Any, context: MessageContext) -> None:
        waiting = begin(context.wait_abandoned())
        await asyncio.sleep(0)
        found.put_nowait((context.is_abandoned, waiting.done()))
        waiting.cancel()

    await sdk.one_way.send("alice", "bob", "note")
    await sdk.conversation.send_no_wait("alice", "bob", "message")
    for _ in range(2):
        assert await asyncio.wait_for(found.get(), SOON) == (False, False)
    assert not MessageContext("alice", "bob").is_abandoned


async def test_a_handler_may_answer_although_it_is_cancelled(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    begun = asyncio.Event()

    @sdk.register_handler("bob", on_abandoned="cancel")
    async def on_question(message: Any, context: MessageContext) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "all the same"

    asking = ask(sdk, "alice", "bob")
    await asyncio.wait_for(begun.wait(), SOON)
    asking.cancel()
    [late] = await eventually(lambda: sdk.conversation.get_unread_messages("alice", peek=True), SOON)
    assert late == "all the same"
    await nothing_is_left(sdk)


async def test_leaving_gives_an_abandoned_run_back_like_any_other(make_sdk: MakeSdk) -> None:
    """The SDK is closed while a run waits to be abandoned."""
    one, other = await make_sdk(), await make_sdk(drain_timeout=0.1)
    await one.add_people("alice", "bob")
    bob = Patient()
    other.register_handler("bob")(bob)
    await one.wait_until_served("bob")
    asking = ask(one, "alice", "bob")
    context = await asyncio.wait_for(bob.contexts.get(), SOON)
    await other.close()
    assert await one.state(str(context.message_id)) == "queued"
    assert not asking.done()
    asking.cancel()
    await nothing_is_left(one)


async def test_an_ask_that_is_answered_at_once_costs_no_look(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob", on_abandoned="cancel")(Clerk(lambda message, context: "answer"))
    await sdk.wait_until_served("bob")
    looks: list[Any] = []
    find = sdk.store.sessions.find_ended_asks

    async def count(ask_ids: Any) -> Any:
        looks.append(ask_ids)
        return await find(ask_ids)

    monkeypatch.setattr(sdk.store.sessions, "find_ended_asks", count)
    for _ in range(20):
        assert await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON) == "answer"
    assert len(looks) <= 2, "a poll may have come in between"


async def test_a_copy_of_a_context_is_about_no_run(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    copies: asyncio.Queue[list[Any]] = asyncio.Queue()

    @sdk.register_handler("bob")
    async def on_question(message: Any, context: MessageContext) -> str:
        copies.put_nowait([pickle.loads(pickle.dumps(context)), copy.deepcopy(context), asdict(context)])
        return "answer"

    assert await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON) == "answer"
    pickled, deep, mapping = await copies.get()
    assert pickled == deep
    assert (pickled.asker, deep.asker, mapping["asker"]) == (None, None, None)


async def test_what_is_refused_at_registration() -> None:
    def plain(message: Any, context: MessageContext) -> None: ...

    async def coroutine(message: Any, context: MessageContext) -> None: ...

    with pytest.raises(InvalidArgumentError, match="is_abandoned"):
        register_conversation_handler(agent="bob", on_abandoned="cancel")(plain)
    with pytest.raises(InvalidArgumentError, match="'finish' or 'cancel'"):
        register_conversation_handler(agent="bob", on_abandoned="stop")(coroutine)  # type: ignore[call-overload]


async def test_waiting_in_a_thread_is_refused(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")

    @sdk.register_handler("bob")
    def on_question(message: Any, context: MessageContext) -> str:
        try:
            asyncio.run(context.wait_abandoned())
        except RuntimeError as error:
            return str(error)
        return "waited"

    assert "context.is_abandoned" in await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON)
    assert await rows(sdk, "select state from asks") == [("replied",)]
