"""Handlers: what they are given, how long they may run, and what happens to the others meanwhile."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial, wraps
from typing import Any, TypedDict
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from agent_messaging import (
    AgentMessaging,
    ConversationTimeoutError,
    HandlerContext,
    HandlerError,
    InvalidArgumentError,
    MeetingEventType,
    MessageContext,
    MessageType,
    list_handlers,
    register_message_notification_handler,
    register_one_way_handler,
)
from tests.client.meeting_support import Table
from tests.client.support import SOON, Gate, Inbox, MakeSdk, Sdk
from tests.support import eventually


class Author(BaseModel):
    name: str
    id: UUID


class Note(BaseModel):
    text: str
    author: Author
    at: datetime
    via: str = Field(default="mail", alias="channel")


@dataclasses.dataclass
class Task:
    name: str
    sizes: list[int]


class Alert(TypedDict):
    text: str


NOTE = Note(text="hi", author=Author(name="A", id=UUID(int=5)), at=datetime(2026, 1, 2, 3, 4, 5), channel="chat")
TASK = Task("sort", [1, 2])
NOTE_JSON = {
    "text": "hi",
    "author": {"name": "A", "id": str(UUID(int=5))},
    "at": "2026-01-02T03:04:05",
    "via": "chat",
}


TYPED: list[tuple[Any, Any, Any]] = [
    (Note, NOTE, NOTE),
    (Note, NOTE_JSON, NOTE),
    (Task, TASK, TASK),
    (Alert, Alert(text="x"), {"text": "x"}),
    (dict, NOTE, NOTE_JSON),
    (dict[str, Any], TASK, {"name": "sort", "sizes": [1, 2]}),
    (Any, NOTE, NOTE_JSON),
    (None, NOTE, NOTE_JSON),
    (list[Task], [TASK, TASK], [TASK, TASK]),
    (Task | Note, NOTE, NOTE),
    (str, "text", "text"),
    (UUID, UUID(int=3), UUID(int=3)),
    (datetime | None, None, None),
]
"""An annotation (None: there is none), what is sent, and what the handler is to get."""


async def test_the_annotation_decides_what_a_handler_is_given(sdk: Sdk) -> None:
    for annotation, payload, received in TYPED:
        given: list[Any] = []

        async def handler(message, context, given=given):  # type: ignore[no-untyped-def]
            given.append(message)

        if annotation is not None:
            handler.__annotations__["message"] = annotation
        sdk.unregister_handler("bob")
        sdk.register_handler("bob")(handler)
        [receipt] = await sdk.wait(await sdk.one_way.send("alice", "bob", payload))
        assert receipt.state.value == "done", (annotation, receipt.reasons)
        assert given == [received], annotation
        assert type(given[0]) is type(received), annotation


async def test_a_payload_that_does_not_fit_goes_to_the_dead_letters_at_once_with_the_place(sdk: Sdk) -> None:
    runs = []

    async def handler(message: Note, context: MessageContext) -> None:
        runs.append(message)

    sdk.register_handler("bob")(handler)
    bad = NOTE_JSON | {"author": {"name": 7, "id": "secret-nonsense"}}
    [receipt] = await sdk.wait(await sdk.one_way.send("alice", "bob", bad))
    assert (receipt.state.value, receipt.attempt, runs) == ("dead", 1, [])
    assert "author.name" in receipt.reasons[0]
    assert "author.id" in receipt.reasons[0]
    assert "secret-nonsense" not in receipt.reasons[0]
    [letter] = await sdk.dead_letters.list("bob")
    assert letter.content == bad


async def test_each_recipient_and_each_run_gets_a_fresh_object(sdk: Sdk) -> None:
    payload = {"items": [1]}
    seen: list[Any] = []

    def spoil(message: Any, context: MessageContext) -> None:
        seen.append(list(message["items"]))
        message["items"].append("spoiled")
        context.metadata["spoiled"] = True
        if context.attempt == 1:
            raise RuntimeError

    inboxes = [Inbox(spoil), Inbox(spoil)]
    for name, inbox in zip(("bob", "carol"), inboxes, strict=True):
        sdk.register_handler(name)(inbox)
    await sdk.wait(await sdk.one_way.send("alice", ["bob", "carol"], payload, {"a": 1}))
    assert seen == [[1]] * 4
    assert payload == {"items": [1]}
    assert len({id(message) for inbox in inboxes for message in inbox.messages}) == 4


async def test_the_context_tells_who_wrote_to_whom(sdk: Sdk) -> None:
    await sdk.add_people("gina", organization="globex")
    sdk.register_handler("gina")(inbox := Inbox())
    [id] = await sdk.one_way.send("alice", "gina", "hi", {"a": 1})
    await sdk.wait([id])
    assert inbox.contexts == [
        MessageContext(
            sender_id="alice",
            receiver_id="gina",
            organization_id="globex",
            handler_context=HandlerContext.ONE_WAY,
            message_id=UUID(id),
            session_id=None,
            meeting_id=None,
            metadata={"a": 1},
            sender_name="Alice",
            recipient_name="Gina",
            message_type=MessageType.USER_DEFINED,
            requires_reply=False,
            is_meeting_message=False,
            attempt=1,
        )
    ]
    assert (inbox.contexts[0].sender_external_id, inbox.contexts[0].recipient_external_id) == ("alice", "gina")


async def test_a_handler_may_be_any_callable_that_takes_a_message_and_a_context(sdk: Sdk) -> None:
    seen: list[str] = []

    class Worker:
        async def handle(self, message: str, context: MessageContext) -> None:
            seen.append(f"method {message}")

        def __call__(self, message: str, context: MessageContext) -> None:
            seen.append(f"object {message}")

    async def with_extra(extra: str, message: str, context: MessageContext, flag: bool = True) -> None:
        seen.append(f"{extra} {message}")

    handlers: list[Callable[..., Any]] = [
        Worker().handle,
        Worker(),
        partial(with_extra, "partial"),
        lambda message, context: seen.append(f"lambda {message}"),
    ]
    for handler in handlers:
        sdk.unregister_handler("bob")
        assert sdk.register_handler("bob")(handler) is handler
        await sdk.wait(await sdk.one_way.send("alice", "bob", "hi"))
    assert seen == ["method hi", "object hi", "partial hi", "lambda hi"]


def no_arguments() -> None: ...
def one_argument(message: object) -> None: ...
def needs_three(message: object, context: object, more: object) -> None: ...
async def yields(message: object, context: object) -> Any:
    yield 1


def yields_in_a_thread(message: object, context: object) -> Any:
    yield 1


@pytest.mark.parametrize("function", [no_arguments, one_argument, needs_three, yields_in_a_thread, "text", None])
def test_what_cannot_be_a_handler_is_refused_when_it_is_registered(function: Any) -> None:
    sdk = AgentMessaging[Any]("sqlite://:memory:")
    with pytest.raises(InvalidArgumentError, match="handler"):
        sdk.register_handler("bob")(function)
    with pytest.raises(InvalidArgumentError, match="handler"):
        register_one_way_handler(agent="bob")(function)
    assert sdk.unregister_handler("bob") is False
    assert list_handlers() == []


def passing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    """As a decorator that knows nothing of what it wraps."""

    @wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


def awaiting(function: Callable[..., Any]) -> Callable[..., Any]:
    """As one that makes a coroutine function of it."""

    @wraps(function)
    async def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


@pytest.mark.parametrize("wrap", [passing_on, awaiting])
@pytest.mark.parametrize("function", [yields, yields_in_a_thread])
async def test_a_wrapper_of_a_function_that_yields_has_not_handled_anything(
    sdk: Sdk, wrap: Callable[..., Any], function: Any
) -> None:
    """Nothing of its body has run."""
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(wrap(function))
    [receipt] = await sdk.wait(await sdk.one_way.send("alice", "bob", "hi"))
    assert receipt.state.value == "dead"
    assert f"'{function.__name__}' yields instead of returning" in receipt.reasons[0]
    with pytest.raises(HandlerError, match="yields instead of returning"):
        await sdk.conversation.send_and_wait("alice", "bob", "hi", timeout=SOON)


async def test_a_plain_wrapper_of_a_coroutine_function_runs_in_a_thread_and_its_result_on_the_loop(sdk: Sdk) -> None:
    """At every place that takes a function: what a callable is decides, not what it wraps."""
    places: dict[str, set[str]] = {}
    main = threading.main_thread()

    def blocking(place: str) -> Callable[..., Any]:
        """As a decorator that waits for its turn to call a slow service."""

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            @wraps(function)
            def wrapper(*arguments: Any) -> Any:
                called_in = "the loop" if threading.current_thread() is main else "a thread"
                places.setdefault(place, set()).add(f"called in {called_in}")
                return function(*arguments, place)

            return wrapper

        return decorate

    async def handle(*arguments: Any) -> None:
        *_, place = arguments
        ran_in = "the loop" if threading.current_thread() is main else "a thread"
        places[place].add(f"ran in {ran_in}")

    sdk.register_handler("bob")(blocking("message")(handle))
    sdk.register_meeting_handler("bob")(blocking("turn")(handle))
    register_message_notification_handler(agent="bob")(blocking("notification")(handle))
    sdk.register_event_handler(MeetingEventType.TURN_CHANGED)(blocking("event")(handle))
    await sdk.wait(await sdk.one_way.send("alice", "bob", "hi"))
    await sdk.conversation.send_no_wait("alice", "bob", "hi")
    table = await Table.open(sdk, "bob", speaker_selection=blocking("selection")(handle))
    await table.speak("alice", next_speaker_external_id="bob")
    await table.wait("alice")
    await eventually(lambda: dict(places), SOON, until=lambda seen: len(seen) == 5)
    expected = {"called in a thread", "ran in the loop"}
    await eventually(lambda: dict(places), SOON, until=lambda seen: all(one == expected for one in seen.values()))


async def test_a_plain_function_runs_in_a_thread_and_may_block(sdk: Sdk) -> None:
    entered, released = threading.Semaphore(0), threading.Event()
    threads = set()

    def block(message: object, context: MessageContext) -> None:
        threads.add(threading.current_thread())
        entered.release()
        assert released.wait(SOON)

    sdk.register_handler("bob")(block)
    sdk.register_handler("carol")(inbox := Inbox())
    ids = await sdk.one_way.send("alice", "bob", 1) + await sdk.one_way.send("carol", "bob", 2)
    await eventually(lambda: (entered.acquire(blocking=False) and entered.acquire(blocking=False)) or len(threads) == 2)
    await sdk.wait(await sdk.one_way.send("alice", "carol", "meanwhile"))
    assert inbox.messages == ["meanwhile"]
    assert [await sdk.state(id) for id in ids] == ["claimed", "claimed"]
    released.set()
    assert {receipt.state.value for receipt in await sdk.wait(ids)} == {"done"}
    assert threading.main_thread() not in threads
    assert all(thread.daemon for thread in threads)


async def test_a_coroutine_that_runs_too_long_is_cancelled_and_tried_again(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(handler_timeout=0.1, max_attempts=2)
    await sdk.add_people("alice", "bob", "carol")
    gate = Gate()
    sdk.register_handler("bob")(gate)
    sdk.register_handler("carol", timeout=SOON)(patient := Gate())
    ids = await sdk.one_way.send("alice", ["bob", "carol"], "hi")
    [receipt] = await sdk.wait(ids[:1])
    assert (receipt.state.value, len(gate.messages), gate.running) == ("dead", 2, 0)
    reason = "HandlerTimeoutError: Handler timed out after 0.1s. Make it shorter, or raise handler_timeout."
    assert receipt.reasons[0] == reason
    assert patient.running == 1, "its own timeout is longer"
    patient.open()
    await sdk.wait(ids)


async def test_a_plain_function_that_runs_too_long_keeps_its_slot_until_it_ends(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(max_attempts=1)
    await sdk.add_people("alice", "bob", "carol")
    released, order = threading.Event(), []

    def block(message: str, context: MessageContext) -> None:
        order.append(f"{message} begins")
        if message == "long":
            released.wait(SOON)
        order.append(f"{message} ends")

    sdk.register_handler("bob", timeout=0.05, concurrency=1)(block)
    sdk.register_handler("carol")(Inbox())
    [long] = await sdk.one_way.send("alice", "bob", "long")
    [short] = await sdk.one_way.send("carol", "bob", "short")
    await eventually(lambda: order)
    started = time.monotonic()
    await eventually(lambda: time.monotonic() - started > 0.1)
    assert await sdk.state(long) == "claimed"
    released.set()
    receipts = await sdk.wait([long, short])
    assert [receipt.state.value for receipt in receipts] == ["done", "done"], "what is done is done, however late"
    assert receipts[0].reasons == ()
    assert order == ["long begins", "long ends", "short begins", "short ends"]


async def test_the_late_answer_of_a_plain_function_is_kept_and_its_work_done_once(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(handler_timeout=0.05)
    await sdk.add_people("alice", "bob")
    released, runs = threading.Event(), []

    def work(message: str, context: MessageContext) -> str:
        runs.append(message)
        released.wait(SOON)
        return "worked"

    sdk.register_handler("bob")(work)
    with pytest.raises(ConversationTimeoutError):
        await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=0.3)
    released.set()
    unread = await eventually(lambda: sdk.conversation.get_unread_messages("alice"), SOON)
    assert unread == ["worked"]
    assert runs == ["?"]
    assert await sdk.dead_letters.list() == []


async def test_claims_survive_a_handler_that_blocks_the_loop_longer_than_any_lease(make_sdk: MakeSdk) -> None:
    blocker, other = await make_sdk(lease=1.0), await make_sdk(lease=1.0)
    await blocker.add_people("alice", "bob")
    loop_of_other = Inbox()
    runs = []

    async def block(message: object, context: MessageContext) -> None:
        runs.append(context.attempt)
        time.sleep(2.5)  # longer than the lease, on the loop

    blocker.register_handler("bob")(block)
    [id] = await blocker.one_way.send("alice", "bob", "hi")
    await blocker.wait([id])
    other.register_handler("bob")(loop_of_other)
    receipt = await other.receipts.get(id)
    assert (receipt.state.value, receipt.attempt, runs, loop_of_other.messages) == ("done", 1, [1], [])
    [second] = await other.one_way.send("alice", "bob", "again")
    assert (await other.receipts.wait(second, timeout=SOON)).attempt == 1


async def test_a_handler_that_sends_from_within_does_not_deadlock(sdk: Sdk) -> None:
    answers: list[str] = []

    async def bob(message: int, context: MessageContext) -> None:
        if message:
            answers.extend(await sdk.one_way.send("bob", context.sender_id, message - 1))

    async def alice(message: int, context: MessageContext) -> None:
        if message:
            answers.extend(await sdk.one_way.send("alice", context.sender_id, message - 1))

    sdk.register_handler("bob", concurrency=1)(bob)
    sdk.register_handler("alice", concurrency=1)(alice)
    await sdk.wait(await sdk.one_way.send("alice", "bob", 6))
    await eventually(lambda: len(answers) == 6)
    await sdk.wait(answers)


async def test_type_parameters_may_be_one_three_or_none(url: str) -> None:
    class Query(BaseModel):
        q: str

    for kind in (AgentMessaging[Note], AgentMessaging[Note, Query, dict[str, Any]], AgentMessaging[Note, Query]):
        sdk = kind(url)
        assert isinstance(sdk, AgentMessaging)
    async with AgentMessaging[Note](url) as one, AgentMessaging(url) as none:
        await one.register_organization("acme", "Acme")
        await one.register_agent("alice", "acme", "Alice")
        await none.register_agent("bob", "acme", "Bob")
        none.register_handler("bob")(inbox := Inbox())
        ids = await none.one_way.send("alice", "bob", {"anything": "goes"})
        ids += await one.one_way.send("alice", "bob", NOTE, require_handler=False)
        await one.receipts.wait(ids, timeout=SOON)
        assert sorted(map(str, inbox.messages)) == sorted(map(str, [{"anything": "goes"}, NOTE_JSON]))


async def test_a_cancelled_inner_task_is_a_failure_like_any_other(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(max_attempts=1)
    await sdk.add_people("alice", "bob")

    async def cancelled(message: object, context: MessageContext) -> None:
        raise asyncio.CancelledError("inside")

    sdk.register_handler("bob")(cancelled)
    [receipt] = await sdk.wait(await sdk.one_way.send("alice", "bob", "hi"))
    assert (receipt.state.value, receipt.reasons) == ("dead", ("CancelledError: inside",))
