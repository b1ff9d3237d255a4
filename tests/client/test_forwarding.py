"""Passing an open ask on: the new agent's answer is the asker's, and everybody can see which way it went."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from agent_messaging import (
    AgentMessagingError,
    AgentNotFoundError,
    ConversationEndedError,
    ConversationTimeoutError,
    FinalAnswer,
    HandlerError,
    InvalidArgumentError,
    MailboxFullError,
    MessageContext,
    MutualWaitError,
    NoHandlerRegisteredError,
    SessionLockError,
    SessionStateError,
)
from agent_messaging.storage.forwarding import MOST_HOPS
from tests.client.conversing import Clerk, Desk, ask, begin, nothing_is_left, rows, states_of_asks, until_waiting
from tests.client.support import SOON, MakeSdk, Sdk
from tests.support import eventually


class Front:
    """A handler that passes on what it is asked, and then does what the test wants."""

    def __init__(self, to: str = "carol", then: Callable[[MessageContext], Awaitable[Any]] | None = None) -> None:
        self.to = to
        self.then = then
        self.contexts: list[MessageContext] = []
        self.ways: list[tuple[str, ...]] = []
        self.errors: asyncio.Queue[AgentMessagingError] = asyncio.Queue()

    async def __call__(self, message: Any, context: MessageContext) -> Any:
        self.contexts.append(context)
        try:
            self.ways.append(await context.forward(self.to))
        except AgentMessagingError as error:
            self.errors.put_nowait(error)
            return "answered it myself"
        return None if self.then is None else await self.then(context)


async def three(make_sdk: MakeSdk, **settings: object) -> tuple[Sdk, Sdk, Sdk]:
    """An object for alice, one for bob and one for carol."""
    sdks = [await make_sdk(**settings) for _ in range(3)]
    await sdks[0].add_people("alice", "bob", "carol", "dave")
    return sdks[0], sdks[1], sdks[2]


async def serve(sdk: Sdk, asker: Sdk, name: str, handler: Any) -> None:
    """Have an agent served, and known to be served."""
    sdk.register_handler(name)(handler)
    await asker.wait_until_served([name], timeout=SOON)
    await sdk.wait_until_served([name], timeout=SOON)


async def test_the_answer_of_the_new_agent_is_the_answer(make_sdk: MakeSdk) -> None:
    alice, bob, carol = await three(make_sdk)
    clerk = Clerk(lambda message, context: f"carol: {message}")
    await serve(carol, alice, "carol", clerk)
    await bob.wait_until_served(["carol"], timeout=SOON)
    await serve(bob, alice, "bob", front := Front())
    for number in range(3):
        assert await alice.conversation.send_and_wait("alice", "bob", number, timeout=SOON) == f"carol: {number}"
    assert front.ways == [("bob", "carol")] * 3
    assert [(context.sender_id, context.receiver_id) for context in clerk.contexts] == [("alice", "carol")] * 3
    assert [context.message_id for context in clerk.contexts] == [context.message_id for context in front.contexts]
    assert all(context.requires_reply and context.attempt == 1 for context in clerk.contexts)
    assert await states_of_asks(alice) == ["replied"] * 3
    await nothing_is_left(alice, bob, carol)


async def test_receipts_and_histories_tell_the_way(sdk: Sdk) -> None:
    await sdk.add_people("alice", "bob", "carol", "dave")
    sdk.register_handler("dave")(Clerk(lambda message, context: "!"))
    sdk.register_handler("carol")(Front("dave"))
    sdk.register_handler("bob")(front := Front("carol"))
    assert await sdk.conversation.send_and_wait("alice", "bob", {"text": "?"}, timeout=SOON, metadata={"m": 1}) == "!"
    (context,) = front.contexts
    receipt = await sdk.receipts.wait(str(context.message_id), timeout=SOON)
    assert (receipt.sender_id, receipt.recipient_id, receipt.way) == ("alice", "dave", ("bob", "carol", "dave"))
    told = [(event.event, event.reason) for event in receipt.events]
    assert told[:3] == [("stored", None), ("forwarded", "bob → carol"), ("forwarded", "carol → dave")]
    assert [event for event, _ in told[3:]] == ["claimed", "done"]
    with_bob = await sdk.conversation.get_conversation_history(str(context.session_id))
    (kept,) = with_bob
    assert (kept.sender_id, kept.recipient_id, kept.message_type) == ("alice", "bob", "forwarded")
    assert (kept.content, kept.metadata, kept.is_read) == ({"text": "?"}, {"m": 1}, True)
    assert kept.way == ("bob", "carol", "dave")
    stayed = await sdk.receipts.get(kept.message_id)
    assert (stayed.state.value, stayed.recipient_id, stayed.way) == ("done", "bob", ("bob", "carol", "dave"))
    assert [event.event for event in stayed.events] == ["stored", "claimed", "forwarded"]
    sessions = {one.other_agent_id: one.session_id for one in await sdk.conversation.get_active_sessions("alice")}
    (between,) = await sdk.conversation.get_conversation_history(sessions["carol"])
    assert (between.message_type, between.way) == ("forwarded", ("carol", "dave"))
    question, answer = await sdk.conversation.get_conversation_history(sessions["dave"])
    assert (question.message_id, question.way) == (str(context.message_id), ("bob", "carol", "dave"))
    assert (answer.sender_id, answer.content, answer.way) == ("dave", "!", ())
    counts = await sdk.conversation.get_session_statistics("alice")
    assert (counts.sent_count, counts.received_count) == (1, 1)


async def test_by_hand_what_own_code_has_read(sdk: Sdk) -> None:
    await sdk.add_people("alice", "bob", "carol")
    asking = ask(sdk, "alice", "bob", "?")
    assert await sdk.conversation.wait_for_message("bob", "alice", timeout=SOON) == "?"
    ((ask_id,),) = await rows(sdk, "select id from messages")
    # Nobody serves carol, and she does not wait for it.
    with pytest.raises(NoHandlerRegisteredError, match="carol"):
        await sdk.conversation.forward("bob", str(ask_id), "carol")
    waiting = begin(sdk.conversation.wait_for_message("carol", "alice", timeout=SOON))
    await eventually(lambda: rows(sdk, "select id from waits"), SOON, until=bool)
    assert await sdk.conversation.forward("bob", str(ask_id), "carol") == ("bob", "carol")
    assert await sdk.conversation.forward("bob", str(ask_id), "carol") == ("bob", "carol")  # a repeat
    assert await waiting == "?"
    # What bob says now is no answer any more.
    await sdk.conversation.send_no_wait("bob", "alice", "by the way")
    with pytest.raises(SessionStateError, match="does not wait"):
        await sdk.conversation.reply("bob", "alice", "!")
    assert not asking.done()
    await sdk.conversation.send_no_wait("carol", "alice", "from carol")
    assert await asking == "from carol"
    await nothing_is_left(sdk)


async def test_what_the_old_run_still_says_is_dropped(sdk: Sdk, caplog: pytest.LogCaptureFixture) -> None:
    """It owes nothing: a result is dropped, a failure concerns nobody, and a reply is refused."""
    await sdk.add_people("alice", "bob", "carol")
    sdk.register_handler("carol")(desk := Desk())
    refused = asyncio.Event()

    async def say_more(context: MessageContext) -> str:
        assert await context.forward("carol") == ("bob", "carol")
        with pytest.raises(SessionStateError, match=r"'bob' has passed the ask .* on already: it is with 'carol'"):
            await context.forward("dave")
        with pytest.raises(SessionStateError, match="'bob' has passed this ask of 'alice' on"):
            await sdk.conversation.reply("bob", "alice", "too late")
        refused.set()
        return "dropped"

    async def fail(context: MessageContext) -> None:
        refused.set()
        raise RuntimeError("after it was passed on")

    await sdk.add_people("dave")
    for then in (say_more, fail):
        refused.clear()
        sdk.register_handler("bob")(Front(then=then))
        asking = ask(sdk, "alice", "bob", "?")
        async with asyncio.timeout(SOON):
            await refused.wait()
        await desk.wait_for(1)
        desk.messages.clear()
        desk.answers.put_nowait("!")
        assert await asking == "!"
    await nothing_is_left(sdk)
    assert any("which it had passed on" in line or "had passed on" in line for line in caplog.messages)
    assert "dropped" not in [row for (row,) in await rows(sdk, "select content from messages")]


async def test_a_claim_that_is_over_passes_nothing_on(sdk: Sdk) -> None:
    await sdk.add_people("alice", "bob", "carol")
    sdk.register_handler("carol")(Clerk(lambda message, context: "!"))
    sdk.register_handler("bob")(clerk := Clerk(lambda message, context: "bob's own"))
    assert await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON) == "bob's own"
    (context,) = clerk.contexts
    with pytest.raises(SessionStateError, match="was answered"):
        await context.forward("carol")
    with pytest.raises(SessionStateError, match="was answered"):
        await sdk.conversation.forward("bob", str(context.message_id), "carol")


async def test_refusals_say_what_is_wrong_and_leave_it_where_it_is(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(mailbox_limit=2)
    await sdk.add_people("alice", "bob", "carol", "dave")
    sdk.register_handler("carol")(desk := Desk())
    cases = [
        ("nobody", AgentNotFoundError, "nobody"),
        ("alice", InvalidArgumentError, "asked this itself"),
        ("bob", InvalidArgumentError, "has it already"),
        ("dave", NoHandlerRegisteredError, "dave"),
        (" carol", InvalidArgumentError, "to_external_id"),
    ]
    for to, error, words in cases:
        sdk.register_handler("bob")(front := Front(to))
        assert await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON) == "answered it myself"
        refusal = front.errors.get_nowait()
        assert type(refusal) is error
        assert words in str(refusal)
        assert pickle.loads(pickle.dumps(refusal)).args == refusal.args
    busy = ask(sdk, "alice", "carol", "?")
    await desk.wait_for(1)
    sdk.register_handler("bob")(front := Front())
    assert await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON) == "answered it myself"
    assert type(front.errors.get_nowait()) is SessionLockError
    await sdk.conversation.send_no_wait("dave", "carol", "more")
    sdk.register_handler("bob")(front := Front())
    assert await sdk.conversation.send_and_wait("dave", "bob", "?", timeout=SOON) == "answered it myself"
    assert type(front.errors.get_nowait()) is MailboxFullError
    for _ in range(2):
        desk.answers.put_nowait("!")
    assert await busy == "!"
    with pytest.raises(SessionStateError, match="No ask has the id"):
        await sdk.conversation.forward("bob", "0199d2c4-8f0e-7cc1-b54d-0d5d3c1a7e11", "carol")
    with pytest.raises(InvalidArgumentError, match="message_id"):
        await sdk.conversation.forward("bob", "no id", "carol")
    with pytest.raises(RuntimeError, match="no ask to pass on"):
        await MessageContext("alice", "bob").forward("carol")


async def test_from_elsewhere_an_ask_is_left_to_the_handler_that_has_it(sdk: Sdk) -> None:
    await sdk.add_people("alice", "bob", "carol")
    sdk.register_handler("bob")(desk := Desk())
    sdk.register_handler("carol")(Clerk(lambda message, context: "!"))
    asking = ask(sdk, "alice", "bob", "?")
    await desk.wait_for(1)
    id = str(desk.contexts[0].message_id)
    with pytest.raises(SessionStateError, match="is at work on the ask"):
        await sdk.conversation.forward("bob", id, "carol")
    with pytest.raises(SessionStateError, match="is with 'bob' and not with 'carol'"):
        await sdk.conversation.forward("carol", id, "alice")
    desk.answers.put_nowait("bob's own")
    assert await asking == "bob's own"


async def test_a_circle_is_refused_with_its_path(sdk: Sdk) -> None:
    """Carol waits for alice by her own code, and nobody answers for her meanwhile."""
    await sdk.add_people("alice", "bob", "carol")
    waiting = ask(sdk, "carol", "alice", "first")
    await until_waiting(sdk, "carol", "alice")
    sdk.register_handler("bob")(front := Front())
    asking = ask(sdk, "alice", "bob", "second", require_handler=True)
    refusal = await asyncio.wait_for(front.errors.get(), SOON)
    assert isinstance(refusal, NoHandlerRegisteredError | MutualWaitError)
    assert await asking == "answered it myself"
    await sdk.conversation.reply("alice", "carol", "!")
    assert await waiting == "!"
    await nothing_is_left(sdk)


async def test_agents_that_send_it_round_are_stopped(sdk: Sdk) -> None:
    await sdk.add_people("alice", "bob", "carol")
    sdk.register_handler("carol")(there := Front("bob"))
    sdk.register_handler("bob")(here := Front("carol"))
    assert await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON) == "answered it myself"
    assert len(here.ways) + len(there.ways) == MOST_HOPS
    refusal = here.errors.get_nowait()
    assert "as often as an ask may be" in str(refusal)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("end", ["timeout", "cancelled", "failed", "removed", "ended"])
async def test_it_ends_as_any_ask_does(make_sdk: MakeSdk, end: str) -> None:
    alice, bob, carol = await three(make_sdk)
    await serve(carol, alice, "carol", desk := Desk())
    await bob.wait_until_served(["carol"], timeout=SOON)
    await serve(bob, alice, "bob", Front())
    asking = ask(alice, "alice", "bob", "?", timeout=1.0 if end == "timeout" else SOON)
    await desk.wait_for(1)
    expected: type[BaseException] = asyncio.CancelledError
    match end:
        case "timeout":
            expected = ConversationTimeoutError
        case "cancelled":
            asking.cancel()
        case "failed":
            expected = HandlerError
            desk.answers.put_nowait(ValueError("no"))
        case "removed":
            expected = AgentNotFoundError
            await bob.deregister_agent("carol")
        case "ended":
            expected = ConversationEndedError
            await carol.conversation.end_conversation("carol", "alice")
    with pytest.raises(expected) as caught:
        await asking
    if end in ("failed", "timeout"):
        assert "'carol'" in str(caught.value)
    if end in ("timeout", "cancelled", "ended"):  # what carol says now is a late answer
        async with asyncio.timeout(SOON):
            await desk.contexts[0].wait_abandoned()
        desk.answers.put_nowait("late")
        await eventually(
            lambda: alice.conversation.get_unread_messages("alice", peek=True), SOON, until=lambda seen: "late" in seen
        )


async def test_giving_up_does_not_cancel_the_run_that_passed_it_on(sdk: Sdk) -> None:
    await sdk.add_people("alice", "bob", "carol")
    sdk.register_handler("carol")(desk := Desk())
    ended = asyncio.Event()

    async def go_on(context: MessageContext) -> None:
        await desk.wait_for(1)
        asking.cancel()
        await eventually(lambda: states_of_asks(sdk), SOON, until=lambda states: states == ["cancelled"])
        assert not context.is_abandoned
        ended.set()

    sdk.register_handler("bob", on_abandoned="cancel")(Front(then=go_on))
    asking = ask(sdk, "alice", "bob", "?")
    async with asyncio.timeout(SOON):
        await ended.wait()
    desk.answers.put_nowait("late")


async def test_a_cancelled_call_has_passed_it_on_or_not(sdk: Sdk) -> None:
    """The outcome is unknown, and a repeat tells; whatever came of it, alice gets one answer."""
    await sdk.add_people("alice", "bob", "carol")
    sdk.register_handler("carol")(Clerk(lambda message, context: "carol"))

    for steps in range(0, 40, 3):

        async def cut_off(context: MessageContext, steps: int = steps) -> Any:
            passing = asyncio.create_task(context.forward("carol"))
            for _ in range(steps):
                await asyncio.sleep(0)
            passing.cancel()
            await asyncio.wait({passing})
            return "bob"

        sdk.register_handler("bob")(Clerk(lambda message, context: cut_off(context)))
        assert await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON) in ("bob", "carol")
    assert set(await states_of_asks(sdk)) == {"replied"}
    await nothing_is_left(sdk)


async def test_a_plain_handler_is_told_to_be_a_coroutine(sdk: Sdk) -> None:
    await sdk.add_people("alice", "bob", "carol")
    sdk.register_handler("carol")(Clerk(lambda message, context: "!"))

    def in_a_thread(message: Any, context: MessageContext) -> str:
        with pytest.raises(AgentMessagingError, match="async def"):
            asyncio.run(context.forward("carol"))
        return "bob"

    sdk.register_handler("bob")(in_a_thread)
    assert await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON) == "bob"


async def test_a_copied_context_passes_nothing_on(sdk: Sdk) -> None:
    await sdk.add_people("alice", "bob", "carol")
    sdk.register_handler("bob")(clerk := Clerk(lambda message, context: "!"))
    await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON)
    (context,) = clerk.contexts
    assert "passing" not in repr(context)
    copied = pickle.loads(pickle.dumps(context))
    with pytest.raises(RuntimeError):
        await copied.forward("carol")


async def test_a_note_is_no_ask(sdk: Sdk) -> None:
    await sdk.add_people("alice", "bob", "carol")
    sdk.register_handler("carol")(Clerk(lambda message, context: "!"))
    sdk.register_handler("bob")(front := Front())
    await sdk.conversation.send_no_wait("alice", "bob", "no question")
    refusal = await asyncio.wait_for(front.errors.get(), SOON)
    assert isinstance(refusal, SessionStateError)
    assert "nobody waits for its answer" in str(refusal)


async def test_in_a_thread_of_its_own_it_goes_on_there(sdk: Sdk) -> None:
    await sdk.add_people("alice", "bob", "carol")
    sdk.register_handler("carol")(desk := Desk())
    sdk.register_handler("bob")(Front())
    asking = [ask(sdk, "alice", "bob", number, thread=f"t{number}") for number in range(3)]
    await desk.wait_for(3)
    for number in range(3):
        desk.answers.put_nowait(f"{number}!")
    assert sorted(await asyncio.gather(*asking)) == ["0!", "1!", "2!"]
    assert {context.thread for context in desk.contexts} == {"t0", "t1", "t2"}


async def test_a_late_reply_is_no_answer_to_another_ask_of_the_same_asker(sdk: Sdk) -> None:
    await sdk.add_people("alice", "bob", "carol")
    sdk.register_handler("carol")(desk := Desk())
    refused = asyncio.Event()

    async def reply(context: MessageContext) -> None:
        with pytest.raises(SessionStateError, match="has passed this ask"):
            await sdk.conversation.reply("bob", "alice", "meant for the first")
        refused.set()

    other = ask(sdk, "alice", "bob", "another one", thread="other")
    assert await sdk.conversation.wait_for_message("bob", "alice", timeout=SOON) == "another one"
    sdk.register_handler("bob")(Front(then=reply))
    first = ask(sdk, "alice", "bob", "the first")
    async with asyncio.timeout(SOON):
        await refused.wait()
    await desk.wait_for(1)
    desk.answers.put_nowait("carol")
    assert await first == "carol"
    assert not other.done()
    await sdk.conversation.reply("bob", "alice", "bob", thread="other")
    assert await other == "bob"


async def test_parts_of_the_new_agent_are_read_too(make_sdk: MakeSdk) -> None:
    """Those of the first are forgotten, as of a run that is repeated."""
    alice, bob, carol = await three(make_sdk)

    async def in_parts(message: Any, context: MessageContext) -> str:
        for number in range(3):
            await context.part(number)
        return "whole"

    await serve(carol, alice, "carol", in_parts)
    await bob.wait_until_served(["carol"], timeout=SOON)
    await serve(bob, alice, "bob", Front())
    stream = alice.conversation.ask("alice", "bob", "?", timeout=SOON)
    assert [part async for part in stream] == [0, 1, 2]
    assert await stream.answer == "whole"
    await nothing_is_left(alice, bob, carol)


async def test_a_generator_passes_it_on_and_just_ends(make_sdk: MakeSdk, caplog: pytest.LogCaptureFixture) -> None:
    """What it has yielded is no answer that it would have returned, so there is nothing to warn of."""
    alice, bob, carol = await three(make_sdk)
    await serve(carol, alice, "carol", Clerk(lambda message, context: "carol"))
    await bob.wait_until_served(["carol"], timeout=SOON)
    ended = asyncio.Event()

    async def in_parts(message: Any, context: MessageContext) -> AsyncIterator[Any]:
        yield "one moment"
        await context.forward("carol")
        if message == "with an answer":
            yield FinalAnswer("mine")
        ended.set()

    await serve(bob, alice, "bob", in_parts)
    for message, warnings in (("without", 0), ("with an answer", 1)):
        ended.clear()
        assert await ask(alice, "alice", "bob", message) == "carol"
        if not warnings:
            await asyncio.wait_for(ended.wait(), SOON)
        await eventually(lambda: not bob._started().claims.running, SOON)
        assert len([line for line in caplog.messages if "had passed on" in line]) == warnings
    await nothing_is_left(alice, bob, carol)
