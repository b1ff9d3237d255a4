"""Asks in the worst moment: the answer and the timeout at once, cancellation at every step, closing, many at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from agent_messaging import (
    ConversationEndedError,
    ConversationTimeoutError,
    FinalAnswer,
    HandlerError,
    MessageContext,
    NotInitializedError,
    SessionNotFoundError,
    SessionStateError,
    StorageUnavailableError,
)
from agent_messaging.delivery.probes import arm, disarm
from agent_messaging.messaging.conversation import ask as ask_module
from agent_messaging.models import AskState
from tests.client.conversing import (
    SLACK,
    STEPS,
    Clerk,
    Desk,
    ask,
    begin,
    cancel_after,
    nothing_is_left,
    rows,
    states_of_asks,
    until_registered,
    until_waiting,
)
from tests.client.support import SOON, Inbox, MakeSdk, Sdk
from tests.support import eventually

# --- the answer and the timeout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["reply", "handler", "reply elsewhere"])
async def test_the_answer_and_the_timeout_in_the_same_instant_never_both_hold(make_sdk: MakeSdk, how: str) -> None:
    """The row decides: who asked has the answer, or it is unread; who answered is told which."""
    one, other = await make_sdk(), await make_sdk()
    names = [f"asker-{number}" for number in range(30)]
    await one.add_people("bob", *names)
    timeout = 1.0  # for a busy machine to store thirty asks in
    outcomes: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    started = loop.time()

    async def answer_at(name: str, offset: float) -> None:
        await asyncio.sleep(started + timeout + offset - loop.time())

    if how == "handler":

        async def at_the_deadline(message: Any, context: MessageContext) -> str:
            await answer_at(context.sender_id, message)
            return "!"

        one.register_handler("bob", concurrency=50)(at_the_deadline)

    async def one_pair(name: str, offset: float) -> None:
        asking = ask(one, name, "bob", offset, timeout=started + timeout - loop.time())
        replied: bool | None = None
        if how != "handler":
            await answer_at(name, offset)
            try:
                await (other if how == "reply elsewhere" else one).conversation.reply("bob", name, "!")
                replied = True
            except SessionStateError:
                replied = False
        try:
            assert await asking == "!"
            outcomes["answered"] += 1
            assert replied is not False
            assert await one.conversation.get_unread_messages(name) == []
        except ConversationTimeoutError:
            outcomes["timed out"] += 1
            assert replied is not True
            if how == "handler":
                assert await one.conversation.wait_for_message(name, "bob", SOON) == "!", "a late answer is readable"
        assert loop.time() - started < timeout + SLACK + 2

    # From well before the deadline to just behind it, a few milliseconds apart.
    await asyncio.gather(*(one_pair(name, (number - 22) * 0.004) for number, name in enumerate(names)))
    states = Counter(await states_of_asks(one))
    assert (states["replied"], states["timed_out"]) == (outcomes["answered"], outcomes["timed out"])
    assert outcomes.total() == 30
    await nothing_is_left(one, other)


async def test_the_handlers_failure_and_the_timeout_in_the_same_instant_are_one_of_the_two(sdk: Sdk) -> None:
    names = [f"asker-{number}" for number in range(20)]
    await sdk.add_people(*names)

    async def fail_then(message: float, context: MessageContext) -> None:
        await asyncio.sleep(message)
        raise LookupError

    sdk.register_handler("bob", concurrency=50)(fail_then)
    asks = [ask(sdk, name, "bob", 0.8 + (number - 12) * 0.005, timeout=0.8) for number, name in enumerate(names)]
    ends = [type(end) for end in await asyncio.gather(*asks, return_exceptions=True)]
    assert set(ends) <= {HandlerError, ConversationTimeoutError}
    states = Counter(await states_of_asks(sdk))
    assert (states["failed"], states["timed_out"]) == (ends.count(HandlerError), ends.count(ConversationTimeoutError))
    await nothing_is_left(sdk)


async def test_an_early_end_that_meets_the_deadline_keeps_no_other_ask_from_timing_out(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop is blocked meanwhile, so both are seen in one step; and deadlines close together share a timer."""
    monkeypatch.setattr(ask_module, "CLOCKS_DIFFER", 60.0)  # however fast this machine is
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    early = ask(sdk, "alice", "bob", timeout=1.5, wait_for_session=True)
    beside = ask(sdk, "carol", "bob", timeout=1.5)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 1.5
    failed = list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, what: failed.append(what))
    ask_id = await until_waiting(sdk, "alice", "bob")
    await other._started().store.sessions.close_asks([ask_id], AskState.TIMED_OUT)
    asks = sdk._started().asks
    asks.look()
    await eventually(lambda: all(future.done() for future in asks.waiters._futures[ask_id]))
    await asyncio.sleep(0.01)
    time.sleep(max(0.0, deadline + 0.05 - loop.time()))
    for one in (early, beside):
        with pytest.raises(ConversationTimeoutError):
            await asyncio.wait_for(one, SOON)
    assert failed == []
    await nothing_is_left(sdk, other)


async def test_an_ask_that_another_process_ended_a_moment_early_times_out_in_its_time(make_sdk: MakeSdk) -> None:
    """Two processes agree on the time to within a round trip; to the caller a second is a second."""
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    started = time.monotonic()
    asking = ask(sdk, "alice", "bob", timeout=0.9)
    ask_id = await until_waiting(sdk, "alice", "bob")
    [ended] = await other._started().store.sessions.close_asks([ask_id], AskState.TIMED_OUT)
    assert ended.state is AskState.TIMED_OUT
    with pytest.raises(ConversationTimeoutError):
        await asking
    assert time.monotonic() - started >= 0.9
    await nothing_is_left(sdk, other)


# --- cancelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "key"], ids=["without a key", "with a key"])
async def test_an_ask_cancelled_at_any_step_is_stored_wholly_or_not_and_leaves_nothing(
    make_sdk: MakeSdk, key: str | None
) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    for steps in range(STEPS):
        sdk._started().names.clear()  # so that the look-ups are cut too
        own_key = None if key is None else f"{key}-{steps}"
        options = {"timeout": 60, "require_handler": False, "idempotency_key": own_key}
        answer = await cancel_after(steps, sdk.conversation.send_and_wait("alice", "bob", steps, **options))  # type: ignore[call-overload]
        assert answer is None
        if key is None:
            await nothing_is_left(sdk, other)
        else:
            again = begin(sdk.conversation.send_and_wait("alice", "bob", steps, **options))  # type: ignore[call-overload]
            await until_waiting(sdk, "alice", "bob")
            await other.conversation.reply("bob", "alice", f"re: {steps}")
            assert await again == f"re: {steps}"
    await sdk._started().outbox.wait_until_idle()
    states = Counter(await states_of_asks(sdk))
    if key is None:
        assert states.keys() == {"cancelled"}, "given up by the store too"
        assert 0 < states["cancelled"] < STEPS, "both cases happened"
        assert await rows(sdk, "select 1 from deliveries where state <> 'expired'") == []
    else:
        assert states == {"replied": STEPS}
    # Nothing holds the pair up.
    asking = ask(sdk, "alice", "bob", "last")
    await until_waiting(sdk, "alice", "bob")
    await sdk.conversation.reply("bob", "alice", "!")
    assert await asking == "!"
    await nothing_is_left(sdk, other)


async def test_one_may_ask_again_at_once_after_cancelling_at_any_step(sdk: Sdk) -> None:
    """The ask that was cancelled does not lock the session for the next one: a timeout of one's own, and a retry."""
    stored = "select 1 from asks a join messages m on m.seq = a.seq where a.state = 'open' and m.content = '\"again\"'"
    for steps in range(STEPS):
        call = sdk.conversation.send_and_wait("alice", "bob", steps, timeout=60, require_handler=False)
        assert await cancel_after(steps, call) is None
        again = ask(sdk, "alice", "bob", "again")
        await eventually(lambda: rows(sdk, stored), SOON, until=lambda found: found or again.done())  # noqa: B023
        await sdk.conversation.reply("bob", "alice", steps)
        assert await again == steps
    await nothing_is_left(sdk)


@pytest.mark.parametrize("how", ["cancelled", "left by break"])
async def test_one_may_ask_again_in_the_instant_of_giving_up(sdk: Sdk, how: str) -> None:
    """In the step in which a task was cancelled, or a stream was dropped: nobody has heard of it yet."""

    @sdk.register_handler("bob")
    async def on_message(message: Any, context: MessageContext) -> AsyncIterator[Any]:
        yield "a part"
        if message == "endless":
            await context.wait_abandoned()
        yield FinalAnswer(message)

    if how == "cancelled":
        asking = ask(sdk, "alice", "bob", "endless", timeout=60)
        await until_waiting(sdk, "alice", "bob")
        asking.cancel()
    else:
        async for _ in sdk.conversation.ask("alice", "bob", "endless", timeout=60):
            break
    assert await sdk.conversation.send_and_wait("alice", "bob", "again", timeout=SOON) == "again"
    await nothing_is_left(sdk)


@pytest.mark.parametrize("ended_by", ["time", "closing"])
async def test_an_ask_that_the_store_could_not_give_up_is_given_up_when_it_can(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch, ended_by: str
) -> None:
    """Otherwise it would lock the session until its deadline, and what answered it in that moment would stay read."""
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    monkeypatch.setattr("agent_messaging.delivery.again.AGAIN", 0.05 if ended_by == "time" else 60.0)
    failed = asyncio.Event()

    async def fail(*args: Any, **options: Any) -> Any:
        failed.set()
        raise StorageUnavailableError

    with monkeypatch.context() as outage:
        outage.setattr(one.store.sessions, "close_asks", fail)
        asking = ask(one, "alice", "bob", timeout=3600)
        await until_waiting(other, "alice", "bob")
        asking.cancel()
        await asyncio.wait_for(failed.wait(), SOON)
        await eventually(lambda: one._started().asks._again.waiting or ended_by == "time", SOON)
        assert await states_of_asks(other) == ["open"]
    if ended_by == "closing":
        await one.close()
    await eventually(lambda: states_of_asks(other), SOON, until=lambda states: states == ["cancelled"])
    await nothing_is_left(other)


async def test_an_ask_cancelled_while_it_is_answered_leaves_the_answer_unread_or_answered_it(sdk: Sdk) -> None:
    sdk.register_handler("bob")(clerk := Clerk(lambda message, context: message))
    answered, unread = [], []
    for steps in range(STEPS):
        answer = await cancel_after(steps, sdk.conversation.send_and_wait("alice", "bob", steps, timeout=60))
        if answer is not None:
            answered.append(answer)
        await nothing_is_left(sdk)
        await eventually(
            lambda: rows(sdk, "select 1 from deliveries where state in ('queued', 'claimed')"),
            SOON,
            until=lambda left: not left,
        )
    await sdk._started().outbox.wait_until_idle()
    await sdk._started().asks._close(
        "01900000-0000-7000-8000-000000000000", AskState.CANCELLED
    )  # behind all the others
    unread = await sdk.conversation.get_unread_messages("alice")
    handled = clerk.messages
    assert sorted(answered + unread) == sorted(handled), "what was handled has its answer somewhere, once"
    assert answered
    assert unread


SENDING: dict[str, Callable[[Sdk, Any, str | None], Coroutine[Any, Any, Any]]] = {
    "send_no_wait": lambda sdk, message, key: sdk.conversation.send_no_wait(
        "alice", "bob", message, idempotency_key=key
    ),
    "reply": lambda sdk, message, key: sdk.conversation.reply("alice", "bob", message, idempotency_key=key),
}


@pytest.mark.parametrize("call", SENDING)
async def test_a_send_or_reply_cancelled_at_any_step_happened_once_or_not_and_its_repeat_once(
    sdk: Sdk, call: str
) -> None:
    cancelled = 0
    for steps in range(STEPS):
        asking = ask(sdk, "bob", "alice", "?", timeout=60) if call == "reply" else None
        if asking is not None:
            await until_waiting(sdk, "bob", "alice")
        sdk._started().names.clear()
        id = await cancel_after(steps, SENDING[call](sdk, steps, f"step-{steps}"))
        cancelled += id is None
        again = await SENDING[call](sdk, steps, f"step-{steps}")
        assert id in (None, again)
        if asking is not None:
            assert await asking == steps
        else:
            assert await sdk.conversation.get_unread_messages("bob") == [steps]
    assert 0 < cancelled < STEPS
    await nothing_is_left(sdk)


async def test_a_wait_for_a_message_cancelled_at_any_step_holds_nothing_back_and_takes_once(sdk: Sdk) -> None:
    for steps in range(STEPS):
        await cancel_after(steps, sdk.conversation.wait_for_message("bob", "alice", 60))
        await nothing_is_left(sdk)
    sdk.register_handler("bob")(inbox := Inbox())
    await sdk.conversation.send_no_wait("alice", "bob", "hi")
    assert await inbox.wait_for(1) == ["hi"]


async def test_ending_and_reading_cancelled_at_any_step_happened_wholly_or_not(sdk: Sdk) -> None:
    outcomes = set()
    for steps in range(0, STEPS, 2):
        asking = ask(sdk, "alice", "bob", timeout=60)
        await until_waiting(sdk, "alice", "bob")
        sdk._started().names.clear()
        await cancel_after(steps, sdk.conversation.end_conversation("bob", "alice"))
        sessions = await sdk.conversation.get_active_sessions("alice")
        outcomes.add(bool(sessions))
        with contextlib.suppress(SessionNotFoundError):  # the cancelled one may be on its way
            await sdk.conversation.end_conversation("bob", "alice")
        with pytest.raises(ConversationEndedError):
            await asyncio.wait_for(asking, SOON)
    assert outcomes == {True, False}
    await nothing_is_left(sdk)


async def test_one_cancelled_ask_among_many_does_not_disturb_the_others(sdk: Sdk) -> None:
    names = [f"asker-{number}" for number in range(40)]
    await sdk.add_people(*names)
    sdk.register_handler("bob", concurrency=50)(desk := Desk())
    asks = [ask(sdk, name, "bob", name) for name in names]
    await desk.wait_for(40)
    for asking in asks[::4]:
        asking.cancel()
    for _ in names:
        desk.answers.put_nowait("!")
    answers = await asyncio.gather(*asks, return_exceptions=True)
    assert [answer for number, answer in enumerate(answers) if number % 4] == ["!"] * 30
    await nothing_is_left(sdk)


async def test_a_queued_ask_cancelled_at_any_step_lets_the_next_one_through(sdk: Sdk) -> None:
    first = ask(sdk, "alice", "bob", "first")
    await until_waiting(sdk, "alice", "bob")
    for steps in range(0, STEPS, 3):
        call = sdk.conversation.send_and_wait("alice", "bob", steps, 60, wait_for_session=True, require_handler=False)
        assert await cancel_after(steps, call) is None
    last = ask(sdk, "alice", "bob", "last", wait_for_session=True)
    await sdk.conversation.reply("bob", "alice", 1)
    assert await first == 1
    await until_waiting(sdk, "alice", "bob")
    await sdk.conversation.reply("bob", "alice", 2)
    assert await last == 2
    assert len(await rows(sdk, "select id from messages")) == 4
    await nothing_is_left(sdk)


async def test_a_queued_ask_is_stored_with_the_time_that_is_left(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should its process die, nobody is kept waiting, or at work, for longer than its caller wanted."""
    outbox, left = sdk._started().outbox, list[float]()
    append = outbox._append

    async def listen(groups: Any) -> Any:
        left.extend(group.ask_timeout for group in groups if group.ask_timeout is not None)
        return await append(groups)

    asks = [ask(sdk, "alice", "bob", "first")]
    await until_waiting(sdk, "alice", "bob")
    asks += [ask(sdk, "alice", "bob", number, timeout=60, wait_for_session=True) for number in range(2)]
    await asyncio.sleep(0.3)
    monkeypatch.setattr(outbox, "_append", listen)
    for one in asks:
        await until_waiting(sdk, "alice", "bob")
        await sdk.conversation.reply("bob", "alice", "!")
        assert await one == "!"
    assert all(seconds <= 59.7 for seconds in left)
    assert len(left) >= 2


# --- closing ----------------------------------------------------------------------------------------------------------


async def test_a_queued_ask_stored_in_its_last_instant_times_out_as_any_other(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = sdk._started().outbox
    append = outbox._append

    async def dawdle(groups: Any) -> Any:
        outcomes = await append(groups)
        await asyncio.sleep(0.2)  # past the deadline, within what the store has on top
        return outcomes

    monkeypatch.setattr(outbox, "_append", dawdle)
    with pytest.raises(ConversationTimeoutError):
        await ask(sdk, "alice", "bob", wait_for_session=True, timeout=0.1)
    monkeypatch.undo()
    await nothing_is_left(sdk)


async def test_closing_releases_the_askers_and_gives_their_asks_up(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    names = [f"asker-{number}" for number in range(20)]
    await one.add_people("alice", "bob", *names)
    asks = [ask(one, name, "bob", timeout=60) for name in names]
    queued = ask(one, names[0], "bob", timeout=60, wait_for_session=True)
    await eventually(lambda: states_of_asks(other), SOON, until=lambda states: states == ["open"] * 20)
    started = time.monotonic()
    await one.close()
    assert time.monotonic() - started < 5
    for asking in (*asks, queued):
        with pytest.raises(NotInitializedError, match=r"closed|initialize"):
            await asking
    assert await states_of_asks(other) == ["cancelled"] * 20
    await nothing_is_left(other)
    other.register_handler("bob")(inbox := Inbox())
    await other.conversation.send_no_wait("alice", "bob", "hi")
    assert await inbox.wait_for(1) == ["hi"], "what nobody waits for any more is not handled"


async def test_closing_hands_in_what_running_handlers_answer(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    other.register_handler("bob")(desk := Desk())
    await one.wait_until_served("bob", SOON)
    asking = ask(one, "alice", "bob", timeout=60)
    await desk.wait_for(1)
    closing = begin(other.close())
    await eventually(lambda: other._started().stations.is_draining, SOON)
    desk.answers.put_nowait("before I go")
    assert await asking == "before I go"
    await closing


async def test_leaving_by_an_exception_while_asks_wait_leaves_nothing(make_sdk: MakeSdk) -> None:
    other = await make_sdk()
    await other.add_people("alice", "bob")
    one = await make_sdk()
    asking = ask(one, "alice", "bob", timeout=60)
    await until_waiting(other, "alice", "bob")
    await one.__aexit__(LookupError, LookupError(), None)
    with pytest.raises(NotInitializedError):
        await asking
    await nothing_is_left(other)


# --- the responder's side ---------------------------------------------------------------------------------------------


async def test_an_answer_whose_commit_the_asker_learns_of_from_its_row(make_sdk: MakeSdk) -> None:
    """Both look: what the responder's process committed, and what the asker's finds; it is one answer."""
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    other.register_handler("bob")(Clerk(lambda message, context: message + 1))
    await one.wait_until_served("bob", SOON)
    for number in range(20):
        assert await one.conversation.send_and_wait("alice", "bob", number) == number + 1
    await nothing_is_left(one, other)


async def test_a_handler_that_loses_its_claim_has_its_answer_refused(make_sdk: MakeSdk) -> None:
    """Its process was taken for dead, and another one answered meanwhile."""
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    other.register_handler("bob")(desk := Desk())
    await one.wait_until_served("bob", SOON)
    asking = ask(one, "alice", "bob", timeout=60)
    await desk.wait_for(1)
    await one.store.processes.release([other._started().store.presence.process_id])
    one.register_handler("bob")(Clerk(lambda message, context: "from the other"))
    assert await asking == "from the other"
    desk.answers.put_nowait("from the one taken for dead")
    await eventually(lambda: desk.ended, SOON)
    assert await one.conversation.get_unread_messages("alice") == []


async def test_a_settlement_that_is_repeated_after_a_lost_answer_answers_once(sdk: Sdk) -> None:
    sdk.register_handler("bob")(clerk := Clerk(lambda message, context: "!"))
    failed = 0

    def lose_the_answer() -> None:
        nonlocal failed
        failed += 1
        if failed == 1:
            raise StorageUnavailableError

    arm("after_settle", lose_the_answer)
    try:
        assert await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON) == "!"
    finally:
        disarm()
    assert failed >= 1
    assert len(clerk.messages) == 1
    [session] = await sdk.conversation.get_active_sessions("bob")
    told = await sdk.conversation.get_conversation_history(session.session_id)
    assert [record.content for record in told] == ["?", "!"]
    assert await sdk.conversation.get_unread_messages("alice") == []
    await nothing_is_left(sdk)


async def test_waits_of_every_kind_end_when_the_conversation_does(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    waits = [ask(one, "alice", "bob", timeout=60)]
    await until_waiting(one, "alice", "bob")
    waits.append(begin(one.conversation.wait_for_message("alice", "bob", 60)))
    await until_registered(one, 1)
    assert await other.conversation.get_or_wait_for_response("bob", "alice", 60) == "?"
    waits.append(begin(other.conversation.get_or_wait_for_response("bob", "alice", 60)))
    await until_registered(one, 2)
    await other.conversation.end_conversation("bob", "alice")
    ends = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), SOON)
    assert [type(end) for end in ends] == [ConversationEndedError] * 3
    await nothing_is_left(one, other)


@pytest.mark.parametrize("call", ["send_and_wait", "wait_for_message"])
async def test_closing_at_any_step_of_a_call_that_waits_ends_it(make_sdk: MakeSdk, call: str) -> None:
    other = await make_sdk()
    await other.add_people("alice", "bob")
    for steps in range(0, STEPS, 4):
        one = await make_sdk()
        if call == "send_and_wait":
            waiting = ask(one, "alice", "bob", steps, timeout=60)
        else:
            waiting = begin(one.conversation.wait_for_message("alice", "bob"))
        for step in range(steps):
            await asyncio.sleep(0 if step < 20 else 0.001)
        await one.close()
        with pytest.raises(NotInitializedError):
            await asyncio.wait_for(waiting, SOON)
        await nothing_is_left(other)


async def test_a_wait_that_closing_has_removed_is_not_removed_again_by_its_caller(sdk: Sdk) -> None:
    """The caller may hear that the SDK was closed after its wait is gone; closing must not wait for it for ever."""
    await sdk.add_people("alice", "bob")
    engine = sdk._started()
    alice, bob = await engine.names.get_all(["alice", "bob"])

    async def wait() -> None:
        async with engine.waits._registered(alice, bob, None, None, None):
            await engine.waits.aclose(SOON)
            engine.waits.waiters.check_open()

    with pytest.raises(NotInitializedError):
        await wait()
    async with asyncio.timeout(SOON):
        await engine.waits.aclose(SOON)
