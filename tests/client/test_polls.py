"""Asking several at once: one outcome for each, whatever becomes of the others; one commit for all."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from pydantic import BaseModel

from agent_messaging import (
    AgentNotFoundError,
    ConversationEndedError,
    ConversationTimeoutError,
    HandlerError,
    IdempotencyConflictError,
    InvalidArgumentError,
    MailboxFullError,
    MessageContext,
    MutualWaitError,
    NoHandlerRegisteredError,
    NotInitializedError,
    Outcome,
    PayloadError,
    SessionLockError,
)
from tests.client.conversing import SLACK, Clerk, Desk, ask, begin, nothing_is_left, rows, states_of_asks, until_waiting
from tests.client.support import SOON, MakeSdk, Sdk
from tests.support import eventually


class Vote(BaseModel):
    voter: str
    is_for: bool


def errors_of(outcomes: list[Outcome[Any]]) -> dict[str, type[Exception] | None]:
    return {outcome.recipient: None if outcome.error is None else type(outcome.error) for outcome in outcomes}


@contextmanager
def appends(sdk: Sdk, sizes: list[int], statements: list[str] | None = None) -> Iterator[None]:
    """Notes the sizes of the calls of `append` made within, and keeps of the statements those of the last one."""
    deliveries: Any = sdk.store.deliveries
    append = deliveries.append

    async def counted(groups: Any, **options: Any) -> Any:
        sizes.append(len(groups))
        if statements is None:
            return await append(groups, **options)
        begin = len(statements)
        try:
            return await append(groups, **options)
        finally:
            statements[:] = statements[begin:]

    with patch.object(deliveries, "append", counted):
        yield


async def note_statements(sdk: Sdk, seen: list[str]) -> None:
    """Note what is executed from now on, by the writer or on the only connection of the pool."""
    engine: Any = sdk.store.engine  # type: ignore[attr-defined]

    def executed(_cursor: Any, sql: str, _bindings: Any) -> bool:
        seen.append(sql)
        return True

    async def listen(connection: Any) -> None:
        connection.add_query_logger(lambda record: seen.append(record.query))

    if hasattr(engine, "write"):
        await engine.write(lambda connection: setattr(connection, "exec_trace", executed))
    else:
        await engine.run(listen, write=False)


async def test_all_answer_in_the_order_of_the_recipients(sdk: Sdk) -> None:
    for name in ("bob", "carol"):
        sdk.register_handler(name)(Clerk(lambda message, context: [context.receiver_id, message, context.metadata]))
    outcomes = await sdk.conversation.ask_many("alice", ["carol", "bob"], "Tea?", SOON, {"trace": 7})
    assert outcomes == [
        Outcome("carol", ["carol", "Tea?", {"trace": 7}]),
        Outcome("bob", ["bob", "Tea?", {"trace": 7}]),
    ]
    assert all(outcome.is_answered for outcome in outcomes)
    assert await states_of_asks(sdk) == ["replied", "replied"]
    assert await sdk.conversation.get_unread_messages("alice") == []
    await nothing_is_left(sdk)


async def test_one_is_unknown_one_unserved_one_fails_one_is_silent_and_one_answers(
    make_sdk: MakeSdk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    sdk = await make_sdk(handler_grace=0.0, mailbox_limit=1)
    await sdk.add_people("alice", "unserved", "failing", "silent", "answering", "asked", "full")

    def fail(message: Any, context: MessageContext) -> None:
        raise ValueError("never")

    sdk.register_handler("failing")(Clerk(fail))
    sdk.register_handler("silent")(Clerk(lambda message, context: None))
    sdk.register_handler("answering")(Clerk(lambda message, context: "yes"))
    sdk.register_handler("asked")(Clerk(lambda message, context: None))
    sdk.register_handler("full")(desk := Desk())
    await sdk.conversation.send_no_wait("alice", "full", "in the way")
    await desk.wait_for(1)
    open_ask = ask(sdk, "alice", "asked")
    await until_waiting(sdk, "alice", "asked")
    began = time.monotonic()
    outcomes = await sdk.conversation.ask_many(
        "alice", ["answring", "unserved", "failing", "silent", "answering", "asked", "full"], "?", timeout=0.5
    )
    assert time.monotonic() - began < 0.5 + SLACK
    assert errors_of(outcomes) == {
        "answring": AgentNotFoundError,
        "unserved": NoHandlerRegisteredError,
        "failing": HandlerError,
        "silent": ConversationTimeoutError,
        "answering": None,
        "asked": SessionLockError,
        "full": MailboxFullError,
    }
    assert outcomes[4].answer == "yes"
    assert isinstance(outcomes[0].error, AgentNotFoundError)
    assert outcomes[0].error.suggestions[0] == "answering"
    assert isinstance(outcomes[1].error, NoHandlerRegisteredError)
    assert outcomes[1].error.agents == ("unserved",)
    desk.answers.put_nowait("done")
    open_ask.cancel()
    await nothing_is_left(sdk)


async def test_one_transaction_stores_them_all(sdk: Sdk) -> None:
    names = [f"expert-{number}" for number in range(20)]
    await sdk.add_people(*names)
    for name in names:
        sdk.register_handler(name)(Clerk(lambda message, context: context.receiver_id))
    sizes: list[int] = []
    with appends(sdk, sizes):
        outcomes = await sdk.conversation.ask_many("alice", names, "?", timeout=SOON)
    assert [outcome.answer for outcome in outcomes] == names
    assert sizes == [20]


async def test_the_statements_do_not_grow_with_the_recipients(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(max_pool_size=1)
    names = [f"expert-{number}" for number in range(40)]
    await sdk.add_people("alice", *names)
    for name in names:
        sdk.register_handler(name)(Clerk(lambda message, context: "yes"))
    seen: list[str] = []
    await note_statements(sdk, seen)
    counts = {}
    for number in (30, 1, 10, 30):  # the first time prepares, and counts the mailboxes
        sizes: list[int] = []
        with appends(sdk, sizes, seen):
            await sdk.conversation.ask_many("alice", names[:number], "?", timeout=SOON)
        assert sizes == [number]
        counts[number] = len(seen)
    assert counts[1] == counts[10] == counts[30] > 0


async def test_the_first_answers_are_enough_and_the_others_are_given_up(sdk: Sdk) -> None:
    sdk.register_handler("bob")(Clerk(lambda message, context: "quick"))
    sdk.register_handler("carol")(desk := Desk())
    outcomes = await sdk.conversation.ask_many("alice", ["carol", "bob"], "?", timeout=60, first=1)
    assert outcomes[1] == Outcome("bob", "quick")
    assert errors_of(outcomes)["carol"] is ConversationEndedError
    assert "given up" in str(outcomes[0].error)
    # It is in the store when the call has returned, and carol may be asked again at once.
    assert sorted(await states_of_asks(sdk)) == ["cancelled", "replied"]
    again = begin(sdk.conversation.send_and_wait("alice", "carol", "again", timeout=SOON))
    await desk.wait_for(1)
    desk.answers.put_nowait("late")
    desk.answers.put_nowait("in time")
    assert await again == "in time"
    await nothing_is_left(sdk)


async def test_the_runs_of_the_others_learn_that_nobody_waits_any_more(make_sdk: MakeSdk) -> None:
    asking, serving = await make_sdk(), await make_sdk()
    await asking.add_people("alice", "bob", "carol")
    asking.register_handler("bob")(Clerk(lambda message, context: until(began)))
    serving.register_handler("carol", on_abandoned="cancel")(desk := Desk())
    began = asyncio.Event()

    async def until(event: asyncio.Event) -> str:
        await event.wait()
        return "quick"

    await asking.wait_until_served(["carol"], timeout=SOON)
    poll = begin(asking.conversation.ask_many("alice", ["bob", "carol"], "?", timeout=60, first=1))
    await desk.wait_for(1)
    began.set()
    outcomes = await asyncio.wait_for(poll, SOON)
    assert errors_of(outcomes) == {"bob": None, "carol": ConversationEndedError}
    await eventually(lambda: desk.ended, SOON)  # it was cancelled, in another process's place
    await nothing_is_left(asking, serving)


async def test_an_answer_that_comes_while_the_others_are_given_up_is_an_outcome(sdk: Sdk) -> None:
    sdk.register_handler("bob")(Clerk(lambda message, context: "first"))
    sdk.register_handler("carol")(Clerk(lambda message, context: "second"))
    sessions: Any = sdk.store.sessions
    close_asks = sessions.close_asks

    async def closing(ids: Any, state: Any, **options: Any) -> Any:
        await eventually(lambda: states_of_asks(sdk), until=lambda states: states == ["replied", "replied"])
        return await close_asks(ids, state, **options)

    with patch.object(sessions, "close_asks", closing):
        outcomes = await sdk.conversation.ask_many("alice", ["bob", "carol"], "?", timeout=SOON, first=1)
    answers = {outcome.recipient: outcome.answer for outcome in outcomes if outcome.is_answered}
    assert answers == {"bob": "first", "carol": "second"}


async def test_fewer_than_enough_is_what_there_is(sdk: Sdk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    sdk.register_handler("bob")(Clerk(lambda message, context: "yes"))
    outcomes = await sdk.conversation.ask_many("alice", ["bob", "nobody"], "?", timeout=SOON, first=2)
    assert errors_of(outcomes) == {"bob": None, "nobody": AgentNotFoundError}


async def test_a_cancelled_call_gives_them_all_up(sdk: Sdk) -> None:
    desks = {name: Desk() for name in ("bob", "carol")}
    for name, desk in desks.items():
        sdk.register_handler(name)(desk)
    call = begin(sdk.conversation.ask_many("alice", list(desks), "?", timeout=60))
    for desk in desks.values():
        await desk.wait_for(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await eventually(lambda: states_of_asks(sdk), until=lambda states: states == ["cancelled", "cancelled"])
    for desk in desks.values():
        desk.answers.put_nowait("late")
    await nothing_is_left(sdk)
    await eventually(
        lambda: sdk.conversation.get_unread_messages("alice", peek=True), until=lambda found: found == ["late", "late"]
    )


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8, 13, 21])
async def test_cancelled_at_any_step_nothing_stays_open(sdk: Sdk, steps: int) -> None:
    for name in ("bob", "carol"):
        sdk.register_handler(name)(Clerk(lambda message, context: "yes"))
    call = begin(sdk.conversation.ask_many("alice", ["bob", "carol", "nobody"], "?", timeout=60))
    for _ in range(steps):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait({call})
    await nothing_is_left(sdk)
    assert not await rows(sdk, "select seq from asks where state = 'open'")


async def test_answers_are_typed(sdk: Sdk) -> None:
    async def vote(message: dict[str, Any], context: MessageContext) -> Any:
        return {"voter": context.receiver_id, "is_for": context.receiver_id == "bob"} if message["ask"] else "perhaps"

    for name in ("bob", "carol"):
        sdk.register_handler(name)(vote)
    recipients = ["bob", "carol"]
    outcomes = await sdk.conversation.ask_many("alice", recipients, {"ask": 1}, timeout=SOON, response_type=Vote)
    assert [outcome.answer for outcome in outcomes] == [
        Vote(voter="bob", is_for=True),
        Vote(voter="carol", is_for=False),
    ]
    wrong = await sdk.conversation.ask_many("alice", recipients, {"ask": 0}, timeout=SOON, response_type=Vote)
    assert set(errors_of(wrong).values()) == {HandlerError}


async def test_what_cannot_be_is_refused_and_nothing_is_stored(sdk: Sdk) -> None:
    sdk.register_handler("bob")(Clerk(lambda message, context: "yes"))
    ask_many: Any = sdk.conversation.ask_many
    for recipients in ([], ["bob", "carol", "bob"], ["bob", "alice"], None, 7, ["bob", " "], ["x"] * 1001):
        with pytest.raises(InvalidArgumentError) as caught:
            await ask_many("alice", recipients, "?")
        assert str(caught.value.field).startswith("recipient_external_ids")
    for first in (0, 2, True, 1.0, "1"):
        with pytest.raises(InvalidArgumentError, match="first"):
            await ask_many("alice", ["bob"], "?", first=first)
    with pytest.raises(InvalidArgumentError, match="message is missing"):
        await ask_many("alice", ["bob"])
    with pytest.raises(PayloadError):
        await ask_many("alice", ["bob"], float("nan"))
    with pytest.raises(InvalidArgumentError):
        await ask_many("alice", ["bob"], "?", timeout=0)
    with pytest.raises(AgentNotFoundError) as unknown:
        await ask_many("alise", ["bob"], "?")
    assert (unknown.value.role, unknown.value.suggestions) == ("sender", ("alice",))
    assert await states_of_asks(sdk) == []
    assert await ask_many("alice", "bob", "?", timeout=SOON) == [Outcome("bob", "yes")]


async def test_a_repeat_under_a_key_asks_nothing_twice(sdk: Sdk) -> None:
    clerks = {name: Clerk(lambda message, context: context.receiver_id) for name in ("bob", "carol")}
    for name, clerk in clerks.items():
        sdk.register_handler(name)(clerk)
    names = list(clerks)
    for _ in range(2):
        outcomes = await sdk.conversation.ask_many("alice", names, "?", timeout=SOON, idempotency_key="poll-1")
        assert [outcome.answer for outcome in outcomes] == names
    assert [len(clerk.messages) for clerk in clerks.values()] == [1, 1]
    for recipients, message in ((names, "!"), (["bob"], "?"), (["carol", "bob"], "?")):
        with pytest.raises(IdempotencyConflictError, match="poll-1"):
            await sdk.conversation.ask_many("alice", recipients, message, timeout=SOON, idempotency_key="poll-1")
    assert len(await states_of_asks(sdk)) == 2


async def test_a_cancelled_call_under_a_key_is_joined_by_its_repeat(make_sdk: MakeSdk) -> None:
    first, second = await make_sdk(), await make_sdk()
    await first.add_people("alice", "bob", "carol")
    desks = {name: Desk() for name in ("bob", "carol")}
    for name, desk in desks.items():
        second.register_handler(name)(desk)
    await first.wait_until_served(list(desks), timeout=SOON)
    call = begin(first.conversation.ask_many("alice", list(desks), "?", timeout=60, idempotency_key="k"))
    for desk in desks.values():
        await desk.wait_for(1)
    call.cancel()
    await asyncio.wait({call})
    assert await states_of_asks(first) == ["open", "open"]
    repeat = begin(second.conversation.ask_many("alice", list(desks), "?", timeout=60, idempotency_key="k", first=1))
    desks["carol"].answers.put_nowait("here")
    outcomes = await asyncio.wait_for(repeat, SOON)
    assert outcomes[1] == Outcome("carol", "here")
    assert errors_of(outcomes)["bob"] is ConversationEndedError
    assert await states_of_asks(first) == ["cancelled", "replied"]
    desks["bob"].answers.put_nowait("late")
    await nothing_is_left(first, second)


async def test_a_handler_asks_several_and_a_circle_is_refused_for_one_alone(sdk: Sdk) -> None:
    seen: list[list[Outcome[Any]]] = []

    async def chair(message: Any, context: MessageContext) -> Any:
        outcomes = await sdk.conversation.ask_many("bob", ["carol", "alice"], "your vote?", timeout=SOON)
        seen.append(outcomes)
        return [outcome.answer for outcome in outcomes if outcome.is_answered]

    sdk.register_handler("bob")(chair)
    sdk.register_handler("carol")(Clerk(lambda message, context: "for"))
    assert await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON, require_handler=False) == ["for"]
    assert errors_of(seen[0]) == {"carol": None, "alice": MutualWaitError}
    assert isinstance(seen[0][1].error, MutualWaitError)
    assert seen[0][1].error.path == ("alice", "bob", "alice")
    await nothing_is_left(sdk)


async def test_the_same_agents_are_asked_side_by_side_in_threads(sdk: Sdk) -> None:
    sdk.register_handler("bob")(Clerk(lambda message, context: [message, context.thread]))
    sdk.register_handler("carol", concurrency=3)(desk := Desk())
    polls = [
        begin(sdk.conversation.ask_many("alice", ["bob", "carol"], number, timeout=SOON, thread=f"poll {number}"))
        for number in range(3)
    ]
    await desk.wait_for(3)  # all three are open at once
    for answer in "abc":
        desk.answers.put_nowait(answer)
    outcomes = [await poll for poll in polls]
    assert [bob.answer for bob, _ in outcomes] == [[number, f"poll {number}"] for number in range(3)]
    assert sorted(str(carol.answer) for _, carol in outcomes) == ["a", "b", "c"]
    await nothing_is_left(sdk)


async def test_runs_side_by_side_ask_the_same_agents_with_no_ceremony(sdk: Sdk) -> None:
    await sdk.add_people("front", *(f"customer-{number}" for number in range(5)))

    async def front(message: Any, context: MessageContext) -> Any:
        outcomes = await sdk.conversation.ask_many("front", ["bob", "carol"], message, timeout=SOON)
        return [outcome.answer for outcome in outcomes]

    together = asyncio.Barrier(5)

    async def bob(message: Any, context: MessageContext) -> Any:
        await together.wait()  # five questions of one agent are open at once
        return message

    sdk.register_handler("front")(front)
    sdk.register_handler("bob")(bob)
    sdk.register_handler("carol")(Clerk(lambda message, context: -message))
    asks = [ask(sdk, f"customer-{number}", "front", number) for number in range(5)]
    assert await asyncio.gather(*asks) == [[number, -number] for number in range(5)]
    await nothing_is_left(sdk)


async def test_experts_in_another_process_object_answer_too(make_sdk: MakeSdk) -> None:
    asking, serving = await make_sdk(), await make_sdk()
    names = [f"expert-{number}" for number in range(30)]
    await asking.add_people("alice", *names)
    for name in names:
        serving.register_handler(name)(Clerk(lambda message, context: context.receiver_id))
    await asking.wait_until_served(names, timeout=SOON)
    outcomes = await asking.conversation.ask_many("alice", names, "?", timeout=SOON)
    assert [outcome.answer for outcome in outcomes] == names
    await nothing_is_left(asking, serving)


async def test_closing_the_sdk_releases_the_call(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    call = begin(sdk.conversation.ask_many("alice", ["bob", "carol"], "?", timeout=60, require_handler=False))
    await until_waiting(sdk, "alice", "bob")
    await sdk.close()
    with pytest.raises(NotInitializedError):
        await asyncio.wait_for(call, SOON)
