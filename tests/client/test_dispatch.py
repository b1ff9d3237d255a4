"""Several handlers of one agent: each gets the messages of its type."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import pytest
from pydantic import BaseModel, model_validator

from agent_messaging import (
    AgentMessaging,
    HandlerContext,
    HandlerError,
    InvalidArgumentError,
    Invitation,
    MessageContext,
    clear_handlers,
    get_handler,
    list_handlers,
    register_conversation_handler,
    register_meeting_handler,
    register_message_notification_handler,
    register_one_way_handler,
    unregister_handler,
)
from tests.client.meeting_support import Table
from tests.client.support import SOON, Gate, Inbox, MakeSdk, Sdk
from tests.support import eventually


class Order(BaseModel):
    id: int


class Rush(Order):
    hours: float


class Cancel(BaseModel):
    kind: Literal["cancel"] = "cancel"
    order: int


class Again(BaseModel):
    kind: Literal["cancel"] = "cancel"
    order: int


@dataclasses.dataclass
class Question:
    text: str


class Took:
    """Handlers that write down which of them got what."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def by(self, name: str, annotation: Any = None) -> Callable[..., Any]:
        async def handler(message: Any, context: MessageContext) -> Any:
            self.seen.append((name, message))
            return name

        if annotation is None:
            del handler.__annotations__["message"]
        else:
            handler.__annotations__["message"] = annotation
        handler.__qualname__ = name
        return handler


@pytest.fixture
def took() -> Took:
    return Took()


async def test_each_handler_gets_the_messages_of_its_type(sdk: Sdk, took: Took) -> None:
    for name, annotation in (("order", Order), ("rush", Rush), ("cancel", Cancel | None), ("rest", None)):
        sdk.register_handler("bob")(took.by(name, annotation))
    sent: list[Any] = [Order(id=1), Rush(id=2, hours=1.5), Cancel(order=2), None, "text", {"id": 3}, {"odd": True}, [4]]
    for payload in sent:
        await sdk.wait(await sdk.one_way.send("alice", "bob", payload))
    assert took.seen == [
        ("order", Order(id=1)),
        ("rush", Rush(id=2, hours=1.5)),
        ("cancel", Cancel(order=2)),
        ("cancel", None),
        ("rest", "text"),
        ("order", Order(id=3)),
        ("rest", {"odd": True}),
        ("rest", [4]),
    ]
    assert await sdk.conversation.send_and_wait("alice", "bob", Rush(id=1, hours=1), timeout=SOON) == "rush"
    assert await sdk.conversation.send_and_wait("alice", "bob", 5, timeout=SOON) == "rest"


async def test_a_validator_that_fails_at_the_messages_of_others_costs_them_nothing(sdk: Sdk, took: Took) -> None:
    class Shipment(BaseModel):
        parcel: str

        @model_validator(mode="before")
        @classmethod
        def look(cls, data: Any) -> Any:
            return {"parcel": data["parcel"].strip()}

    for name, annotation in (("shipment", Shipment), ("order", Order)):
        sdk.register_handler("bob")(took.by(name, annotation))
    for payload in (Order(id=1), Shipment(parcel=" A ")):
        [id] = await sdk.one_way.send("alice", "bob", payload)
        await sdk.wait([id])
        assert (await sdk.receipts.get(id)).attempt == 1
    assert took.seen == [("order", Order(id=1)), ("shipment", Shipment(parcel="A"))]


async def test_what_was_sent_elsewhere_goes_by_what_is_stored(make_sdk: MakeSdk, took: Took) -> None:
    """No class travels: the store has JSON, and whoever handles it may have classes of its own."""
    sender, server = await make_sdk(), await make_sdk()
    await sender.add_people("alice", "bob")
    ids = await sender.one_way.send("alice", "bob", Rush(id=1, hours=2), require_handler=False)
    ids += await sender.one_way.send("alice", "bob", Again(order=2), require_handler=False)
    for name, annotation in (("order", Order), ("rush", Rush), ("cancel", Cancel)):
        server.register_handler("bob")(took.by(name, annotation))
    receipts = await sender.receipts.wait(ids, timeout=SOON)
    assert [receipt.state.value for receipt in receipts] == ["done", "done"]
    assert sorted(took.seen, key=str) == [("cancel", Cancel(order=2)), ("rush", Rush(id=1, hours=2.0))]


async def test_a_message_for_none_or_for_two_of_them_is_a_dead_letter_or_an_error_with_a_remedy(
    sdk: Sdk, took: Took
) -> None:
    for name, annotation in (("numbers", list[int]), ("orders", list[Order])):
        sdk.register_handler("bob")(took.by(name, annotation))
    for payload, told in (("text", "none of the handlers"), ([], "equally well")):
        [receipt] = await sdk.wait(await sdk.one_way.send("alice", "bob", payload))
        assert (receipt.state.value, receipt.attempt) == ("dead", 1)
        assert told in receipt.reasons[0]
        assert "list[int] (numbers), list[Order] (orders)" in receipt.reasons[0]
        with pytest.raises(HandlerError, match=told):
            await sdk.conversation.send_and_wait("alice", "bob", payload, timeout=SOON)
    assert took.seen == []


def test_handlers_that_nothing_tells_apart_are_refused_and_change_nothing(took: Took) -> None:
    sdk = AgentMessaging[Any]("sqlite://:memory:")
    sdk.register_handler("bob")(took.by("cancel", Cancel))
    with pytest.raises(InvalidArgumentError, match=r"again' is for Again, and cancel for Cancel.*kind: Literal"):
        sdk.register_handler("bob")(took.by("again", Again))
    sdk.register_handler("carol")(took.by("one", Cancel | Order))
    with pytest.raises(InvalidArgumentError, match="both take Cancel"):
        sdk.register_handler("carol")(took.by("other", Cancel | Question))
    assert sdk.unregister_handler("bob", took.by("again", Again)) is False
    sdk.register_handler("dave")(took.by("again", Again))


async def test_the_last_one_for_a_type_counts_and_each_can_be_taken_away(sdk: Sdk, took: Took) -> None:
    handlers = {
        name: took.by(name, annotation)
        for name, annotation in (("first", Order), ("second", Order), ("rest", None), ("other", Any))
    }
    for handler in handlers.values():
        sdk.register_handler("bob")(handler)

    async def who(payload: Any) -> Any:
        return await sdk.conversation.send_and_wait("alice", "bob", payload, timeout=SOON)

    assert [await who(payload) for payload in (Order(id=1), "x")] == ["second", "other"]
    assert sdk.unregister_handler("bob", handlers["first"]) is False
    assert sdk.unregister_handler("bob", handlers["second"]) is True
    assert [await who(payload) for payload in (Order(id=1), "x")] == ["other", "other"]
    assert sdk.unregister_handler("bob", handlers["other"]) is True
    assert sdk.unregister_handler("bob") is False


async def test_an_invitation_goes_to_the_handler_that_takes_invitations(sdk: Sdk, took: Took) -> None:
    class Hint(BaseModel):
        text: str = ""

    for name, annotation in (("hint", Hint), ("invited", Invitation)):
        sdk.register_handler("bob")(took.by(name, annotation))
    await sdk.meeting.create_meeting("alice", ["bob"])
    await eventually(lambda: took.seen, SOON)
    [(name, invitation)] = took.seen
    assert (name, invitation.host) == ("invited", "alice")


async def test_global_handlers_of_every_kind_are_chosen_by_type_too(sdk: Sdk, took: Took) -> None:
    for register, prefix in (
        (register_one_way_handler, "note"),
        (register_conversation_handler, "talk"),
        (register_message_notification_handler, "notice"),
    ):
        register(took.by(f"{prefix} order", Order))
        register(took.by(f"{prefix} question", Question))
    register_one_way_handler(agent="bob")(took.by("bob's", Order))
    await sdk.wait(await sdk.one_way.send("alice", "carol", Question("?")))
    await sdk.wait(await sdk.one_way.send("alice", "carol", Order(id=1)))
    await sdk.wait(await sdk.one_way.send("alice", "bob", Order(id=2)))
    [receipt] = await sdk.wait(await sdk.one_way.send("alice", "bob", Question("?")))
    assert receipt.state.value == "dead", "an agent's own handlers are asked alone, as ever"
    assert [name for name, _ in took.seen] == ["note question", "note order", "bob's"]
    assert await sdk.conversation.send_and_wait("alice", "carol", Question("?"), timeout=SOON) == "talk question"
    took.seen.clear()
    await sdk.conversation.send_no_wait("alice", "carol", Order(id=3))
    await eventually(lambda: sorted(name for name, _ in took.seen), SOON, until=lambda seen: len(seen) == 2)
    assert {name for name, _ in took.seen} == {"talk order", "notice order"}
    assert len([one for one in list_handlers() if one[1] is HandlerContext.ONE_WAY]) == 3
    rest = took.by("rest")
    register_one_way_handler(rest)
    assert unregister_handler(rest, agent="carol") is False
    assert unregister_handler(rest) is True
    assert unregister_handler(rest) is False
    newest = get_handler(HandlerContext.ONE_WAY)
    assert newest is not None
    assert newest.__qualname__ == "note question"
    clear_handlers()


async def test_a_turn_goes_to_the_handler_for_what_was_said_last(sdk: Sdk, took: Took) -> None:
    register_meeting_handler(agent="bob")(took.by("questions", Question))
    register_meeting_handler(agent="bob")(took.by("orders", Order))
    table = await Table.open(sdk, "bob")
    await table.speak("alice", Order(id=7))
    await eventually(lambda: took.seen, SOON)
    assert took.seen == [("orders", Order(id=7))]


async def test_they_share_the_slots_and_lanes_of_their_agent_and_each_has_its_time(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(max_attempts=1)
    await sdk.add_people("alice", "bob", "carol")

    class Gated(Gate):
        async def on_order(self, message: Order, context: MessageContext) -> None:
            await self(message, context)

        async def on_rest(self, message: Any, context: MessageContext) -> None:
            await self(message, context)

    gate = Gated()
    sdk.register_handler("bob", ordered=False, concurrency=2, timeout=SOON)(gate.on_order)
    sdk.register_handler("bob", ordered=False, concurrency=5, timeout=0.1)(gate.on_rest)
    patient = await sdk.one_way.send("alice", "bob", Order(id=1))
    hasty = await sdk.one_way.send("alice", "bob", "x")
    more = await sdk.one_way.send("alice", "bob", Order(id=2))
    assert (await sdk.wait(hasty))[0].state.value == "dead"
    await gate.wait_for(3)
    assert await sdk.state(patient[0]) == "claimed", "its time is its own"
    gate.open()
    await sdk.wait(patient + more)
    assert gate.messages[:2] == [Order(id=1), "x"], "two at once, the fewest that one wants"


async def test_a_type_that_is_not_defined_yet_is_looked_up_when_a_message_comes(sdk: Sdk) -> None:
    module: dict[str, Any] = {"BaseModel": BaseModel, "seen": []}
    code = """
from __future__ import annotations
async def on_later(message: Later, context): seen.append(("later", message.name))
async def on_number(message: int, context): seen.append(("number", message))
"""
    exec(code, module)
    sdk.register_handler("bob")(module["on_later"])
    sdk.register_handler("bob")(module["on_number"])
    exec("class Later(BaseModel):\n    name: str", module)
    for payload in ({"name": "x"}, 5):
        await sdk.wait(await sdk.one_way.send("alice", "bob", payload))
    assert module["seen"] == [("later", "x"), ("number", 5)]


async def test_handlers_come_and_go_while_messages_are_handled(sdk: Sdk) -> None:
    sdk.register_handler("bob")(inbox := Inbox())
    ids: list[str] = []

    async def change() -> None:
        for _ in range(20):
            sdk.register_handler("bob")(on_order := Took().by("order", Order))
            await asyncio.sleep(0)
            assert sdk.unregister_handler("bob", on_order)

    async def send() -> None:
        for number in range(20):
            ids.extend(await sdk.one_way.send("alice", "bob", Order(id=number)))

    await asyncio.gather(change(), send())
    receipts = await sdk.wait(ids)
    assert {(receipt.state.value, receipt.attempt) for receipt in receipts} == {("done", 1)}
    assert len(inbox.messages) <= 20
