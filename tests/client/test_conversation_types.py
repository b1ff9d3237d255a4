"""What askers, readers and handlers get: the type asked for, the type that was sent, or the SDK's type parameter."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict, TypeVar
from uuid import UUID

import pytest
from pydantic import BaseModel

from agent_messaging import AgentMessaging, HandlerError, InvalidArgumentError, MessageContext
from tests.client.conversing import Clerk, ask, until_waiting
from tests.client.support import SOON, MakeSdk, Sdk, make_config

X = TypeVar("X")


class Query(BaseModel):
    text: str


class Answer(BaseModel):
    text: str
    at: datetime
    id: UUID


@dataclass
class Point:
    x: int
    y: int


class Label(TypedDict):
    label: str


MADE = Answer(text="!", at=datetime(2030, 1, 1, tzinfo=UTC), id=UUID(int=7))


class Plain(AgentMessaging):
    """An SDK of one's own."""


class OfAnswers(AgentMessaging[dict[str, Any], Answer]):
    """An SDK of one's own, with types."""


class Again(OfAnswers):
    """One that extends that."""


class OfAny(AgentMessaging[Any, X]):
    """One whose users say the type."""


TYPED: dict[str, Any] = {
    "one": AgentMessaging[Answer],
    "two": AgentMessaging[dict[str, Any], Answer],
    "three": AgentMessaging[str, Answer, int],
    "a union": AgentMessaging[Query | Answer],
    "a subclass": OfAnswers,
    "a subclass of it": Again,
    "a generic subclass": OfAny[Answer],
}
UNTYPED: dict[str, Any] = {
    "none": AgentMessaging,
    "any": AgentMessaging[Any],
    "the first alone says nothing": AgentMessaging[Answer, Any],
    "a subclass": Plain,
    "a generic subclass": OfAny,
}


async def ask_for_an_answer(sdk: Any, url: str) -> tuple[Any, Any]:
    """Answered by the agent's own code in another SDK object, so that only the SDK's type parameter tells; and read."""
    await sdk.register_organization("acme", "Acme")
    await sdk.register_agent("alice", "acme", "Alice")
    await sdk.register_agent("bob", "acme", "Bob")
    asking = ask(sdk, "alice", "bob", {"text": "?"})
    async with Sdk(make_config(url)) as other:
        await until_waiting(other, "alice", "bob")
        await other.conversation.reply("bob", "alice", MADE)
        await other.conversation.send_no_wait("bob", "alice", MADE)
    return await asking, await sdk.conversation.wait_for_message("alice", "bob", SOON)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", TYPED)
async def test_an_answer_becomes_what_the_sdk_is_of(url: str, name: str) -> None:
    async with TYPED[name](make_config(url)) as sdk:
        assert await ask_for_an_answer(sdk, url) == (MADE, MADE)


@pytest.mark.parametrize("name", UNTYPED)
async def test_an_answer_is_plain_where_the_sdk_is_of_nothing(url: str, name: str) -> None:
    async with UNTYPED[name](make_config(url)) as sdk:
        assert await ask_for_an_answer(sdk, url) == (MADE.model_dump(mode="json"),) * 2


async def test_what_does_not_fit_the_sdk_is_plain(url: str) -> None:
    async with AgentMessaging[Query](make_config(url)) as sdk:
        plain = MADE.model_dump(mode="json") | {"text": 7}
        await sdk.register_organization("acme", "Acme")
        await sdk.register_agent("alice", "acme", "Alice")
        await sdk.register_agent("bob", "acme", "Bob")
        sdk.register_handler("bob")(Clerk(lambda message, context: plain))
        assert await sdk.conversation.send_and_wait("alice", "bob", Query(text="?")) == plain
        await sdk.conversation.send_no_wait("bob", "alice", plain)  # type: ignore[arg-type]
        await sdk.conversation.send_no_wait("bob", "alice", Query(text="fits"))
        assert await sdk.conversation.get_unread_messages("alice") == [plain, Query(text="fits")]


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("made", "response_type", "expected"),
    [
        (MADE, Answer, MADE),
        (MADE, dict[str, Any], MADE.model_dump(mode="json")),
        (MADE, Query, Query(text="!")),
        (Point(1, 2), Point, Point(1, 2)),
        ([Point(1, 2)], list[Point], [Point(1, 2)]),
        ({"label": "x"}, Label, {"label": "x"}),
        ({"text": "q"}, Query | Answer, Query(text="q")),
        (7, Any, 7),
        (None, None, None),
    ],
    ids=["model", "dict", "another model", "dataclass", "list", "TypedDict", "union", "any", "none"],
)
async def test_response_type_decides(sdk: Sdk, made: Any, response_type: Any, expected: Any) -> None:
    async def answer(message: Any, context: MessageContext) -> None:
        await sdk.conversation.reply("bob", "alice", made)

    sdk.register_handler("bob")(answer)
    answered = await sdk.conversation.send_and_wait("alice", "bob", "?", response_type=response_type)
    assert answered == expected
    assert type(answered) is type(expected)
    assert await sdk.sync_conversation.send_and_wait("alice", "bob", "?", response_type=response_type) == expected


@pytest.mark.parametrize("nonsense", [5, "Nowhere", "dict[", object()], ids=["value", "name", "syntax", "object"])
async def test_a_response_type_that_cannot_be_made_is_refused_before_anything_is_stored(
    sdk: Sdk, nonsense: Any
) -> None:
    sdk.register_handler("bob")(clerk := Clerk(lambda message, context: "!"))
    with pytest.raises(InvalidArgumentError, match=r"^response_type: .*not a type that can be made of JSON"):
        await sdk.conversation.send_and_wait("alice", "bob", "?", response_type=nonsense)
    assert await sdk.conversation.get_active_sessions("alice") == []
    assert clerk.messages == []


async def test_an_answer_that_does_not_fit_the_response_type_is_an_error_that_shows_no_payload(sdk: Sdk) -> None:
    sdk.register_handler("bob")(Clerk(lambda message, context: {"text": "s3cret", "at": "never", "id": 3}))
    with pytest.raises(HandlerError, match=r"(?s)The answer.*at.*It stays readable") as caught:
        await sdk.conversation.send_and_wait("alice", "bob", "?", response_type=Answer)
    assert "s3cret" not in str(caught.value)
    assert "never" not in str(caught.value)
    [session] = await sdk.conversation.get_active_sessions("alice")
    told = await sdk.conversation.get_conversation_history(session.session_id)
    assert told[-1].content == {"text": "s3cret", "at": "never", "id": 3}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("made", [MADE, Point(1, 2), [1, 2], {"a": 1}, "text"], ids=lambda made: type(made).__name__)
@pytest.mark.parametrize("how", ["result", "reply"])
async def test_in_one_process_the_answer_has_the_class_that_was_sent_and_is_a_fresh_object(
    sdk: Sdk, made: Any, how: str
) -> None:
    async def answer(message: Any, context: MessageContext) -> Any:
        if how == "result":
            return made
        await sdk.conversation.reply("bob", "alice", made)
        return None

    sdk.register_handler("bob")(answer)
    answered = await sdk.conversation.send_and_wait("alice", "bob", "?")
    assert answered == made
    assert type(answered) is type(made)
    assert answered is not made or isinstance(made, str)


async def test_the_answer_has_its_class_also_where_a_look_at_the_store_finds_it_first(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = sdk._started()
    deliveries, asks = engine.dispatcher.deliveries, engine.asks
    settle, is_found = deliveries.settle, asyncio.Event()

    async def settle_and_look(*arguments: Any, **options: Any) -> Any:
        settled = await settle(*arguments, **options)
        asks.look()  # as for a ring that comes between the commit and its answer
        await is_found.wait()
        return settled

    monkeypatch.setattr(deliveries, "settle", settle_and_look)
    sdk.register_handler("bob")(lambda message, context: Point(1, 2))
    answered = await sdk.conversation.send_and_wait("alice", "bob", "?")
    is_found.set()
    assert answered == Point(1, 2)


async def test_the_handlers_annotation_decides_what_it_is_given(sdk: Sdk) -> None:
    @sdk.register_handler("bob")
    async def typed(message: Query, context: MessageContext) -> Answer:
        assert type(message) is Query
        return MADE.model_copy(update={"text": message.text})

    @sdk.register_handler("carol")
    async def mapping(message: Label, context: MessageContext) -> dict[str, Any]:
        assert isinstance(message, dict)
        return {"answer": message["label"]}

    response = await sdk.conversation.send_and_wait("alice", "bob", Query(text="hello"))
    assert response.text == "hello"
    response = await sdk.conversation.send_and_wait("alice", "carol", Label(label="hello"))
    assert response["answer"] == "hello"


async def test_an_answer_made_elsewhere_is_plain_unless_a_type_is_asked_for(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    other.register_handler("bob")(Clerk(lambda message, context: Point(1, 2)))
    await one.wait_until_served("bob", SOON)
    assert await one.conversation.send_and_wait("alice", "bob", "?") == {"x": 1, "y": 2}
    assert await one.conversation.send_and_wait("alice", "bob", "?", response_type=Point) == Point(1, 2)
