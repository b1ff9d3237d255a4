"""What type checkers are to say of a user's program. Never run: `test_checkers.py` has mypy and pyright read it.

`assert_type` says what a call gives. A line that ends in an ignoring comment is one that both checkers have to refuse.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, assert_type
from uuid import UUID

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from agent_messaging import (
    AgentMessaging,
    Invitation,
    MeetingEvent,
    MeetingEventPayload,
    MeetingEventType,
    MessageContext,
    Outcome,
    ReceivedMessage,
    Record,
    Transcript,
    Turn,
    TurnChangedEventData,
    register_conversation_handler,
    register_meeting_handler,
    register_message_notification_handler,
    register_one_way_handler,
)
from agent_messaging.handlers import AnyHandler, get_handler
from agent_messaging.models import HandlerContext
from agent_messaging.testing import NEVER, HandContext, Heard, MessagingKit, make_context


class Note(BaseModel):
    text: str


@dataclass
class Query:
    question: str


class Reply(TypedDict):
    answer: str


Either = Annotated[Note | Query, Field(union_mode="left_to_right")]


async def type_parameters(meeting_id: UUID) -> None:
    none = AgentMessaging()
    one = AgentMessaging[Note]("sqlite://:memory:")
    two = AgentMessaging[Note, Query]()
    three = AgentMessaging[Note, Query, dict[str, str]]()
    async with one as sdk:
        assert_type(sdk, AgentMessaging[Note, Note, Note])

    assert_type(await none.one_way.send("alice", "bob", {"text": "hi"}), list[str])
    await none.one_way.send("alice", ["bob", "carol"], 7)
    await one.one_way.send("alice", "bob", Note(text="hi"))
    await one.one_way.send("alice", "bob", "hi")  # type: ignore[arg-type]
    await one.one_way.send("alice", "bob")
    await one.one_way.send("alice", 7, Note(text="hi"))  # type: ignore[arg-type]
    await two.conversation.send_no_wait("alice", "bob", Query("?"))
    await two.conversation.send_no_wait("alice", "bob", Note(text="hi"))  # type: ignore[arg-type]
    await two.conversation.reply("bob", "alice", Note(text="hi"))  # type: ignore[arg-type]
    await three.meeting.speak("alice", meeting_id, {"text": "hi"})
    await three.meeting.speak("alice", meeting_id, Note(text="hi"))  # type: ignore[call-overload]
    await three.meeting.start_meeting("alice", meeting_id, 7)  # type: ignore[arg-type]


async def answers(sdk: AgentMessaging[Query], plain: AgentMessaging) -> None:
    ask = sdk.conversation.send_and_wait
    assert_type(await ask("alice", "bob", Query("?"), response_type=Note), Note)
    assert_type(await ask("alice", "bob", Query("?"), 5, response_type=Reply), Reply)
    assert_type(await ask("alice", "bob", Query("?"), timeout=5, response_type=list[Note]), list[Note])
    assert_type(await ask("alice", "bob", Query("?"), response_type=int, idempotency_key="a"), int)
    assert_type(await ask("alice", "bob", Query("?"), response_type=Note | Query), Note | Query)
    assert_type(await ask("alice", "bob", Query("?"), response_type=Either), Note | Query)
    assert_type(await ask("alice", "bob", Query("?"), response_type=Literal["yes", "no"]), Literal["yes", "no"])
    assert_type(await ask("alice", "bob", Query("?"), response_type=Any), Any)
    assert_type(await ask("alice", "bob", Query("?")), Any)
    stream = sdk.conversation.ask("alice", "bob", Query("?"), part_type=Query, response_type=Note)
    async for part in stream:
        assert_type(part, Query)
    assert_type(await stream.answer, Note)
    assert_type(await anext(sdk.conversation.ask("alice", "bob", Query("?"), part_type=int)), int)
    assert_type(await sdk.conversation.ask("alice", "bob", Query("?"), response_type=Note).answer, Note)
    assert_type(await sdk.sync_conversation.send_and_wait("alice", "bob", Query("?"), response_type=Note), Note)
    assert_type(await plain.conversation.send_and_wait("alice", "bob", {"a": 1}, response_type=Note), Note)
    ask_many = sdk.conversation.ask_many
    assert_type(await ask_many("alice", ["bob"], Query("?"), response_type=Note), list[Outcome[Note]])
    assert_type(await ask_many("alice", ["bob"], Query("?"), 5, first=1), list[Outcome[Any]])
    assert_type((await ask_many("alice", ["bob"], Query("?"), response_type=Note))[0].answer, Note | None)
    await ask_many("alice", ["bob"], "?")  # type: ignore[call-overload]
    answer = await ask("alice", "bob", Query("?"), response_type=Note)
    answer.txet  # type: ignore[attr-defined]  # noqa: B018
    await ask("alice", "bob", "?", response_type=Note)  # type: ignore[call-overload]
    await ask("alice", "bob", Query("?"), timeout="5")  # type: ignore[call-overload]
    wrong: Query = await ask("alice", "bob", Query("?"), response_type=Note)  # type: ignore[arg-type]
    print(wrong)


async def reading(sdk: AgentMessaging[Note, Query], plain: AgentMessaging) -> None:
    assert_type(await sdk.conversation.get_unread_messages("bob"), list[Query])
    assert_type(await sdk.conversation.get_messages_from_agent("bob", "alice"), list[Query])
    assert_type(await sdk.conversation.wait_for_message("bob", "alice", timeout=1), Query | None)
    assert_type(await sdk.conversation.get_or_wait_for_response("bob", "alice"), Query | None)
    assert_type(await sdk.async_conversation.get_unread_messages("bob"), list[Query])
    assert_type(await plain.conversation.get_unread_messages("bob"), list[Any])
    assert_type(await sdk.conversation.get_active_sessions("bob"), list[Record])

    assert_type(await sdk.receive("bob"), list[ReceivedMessage[Any]])
    assert_type(await sdk.receive("bob", payload_type=Note | Query), list[ReceivedMessage[Note | Query]])
    received = await sdk.receive("bob", limit=10, timeout=5, payload_type=Note)
    assert_type(received, list[ReceivedMessage[Note]])
    for message in received:
        assert_type(message.content, Note)
        assert_type(message.context, MessageContext)
        message.content.txet  # type: ignore[attr-defined]  # noqa: B018
        assert_type(await message.done(), None)
    await sdk.receive("bob", limit="10")  # type: ignore[call-overload]


async def meetings(sdk: AgentMessaging[dict[str, str]], id: UUID, patience: float | None, waits: bool) -> None:
    assert_type(await sdk.meeting.create_meeting("alice", ["bob"]), UUID)
    assert_type(await sdk.meeting.speak("alice", id, {"text": "hi"}), UUID)
    assert_type(await sdk.meeting.speak("alice", str(id), {"text": "hi"}, wait_for_turn=True), Turn)
    assert_type(await sdk.meeting.speak("alice", id, {"text": "hi"}, timeout=5), Turn)
    assert_type(await sdk.meeting.hold("alice", ["bob"], {"text": "hi"}, end_when=lambda so_far: True), Transcript)
    assert_type(await sdk.meeting.wait_until_ended(id), Transcript)
    assert_type(await sdk.meeting.speak("alice", id, {"text": "hi"}, timeout=patience), UUID | Turn)
    assert_type(await sdk.meeting.speak("alice", id, {"text": "hi"}, wait_for_turn=waits), UUID | Turn)
    assert_type(await sdk.meeting.attend_meeting("bob", id), bool)
    assert_type(await sdk.meeting.attend_meeting("bob", id, timeout=5), Turn)
    assert_type(await sdk.meeting.attend_meeting("bob", id, 5), Turn)
    assert_type(await sdk.meeting.attend_meeting("bob", id, wait_for_turn=True), Turn)
    turn = await sdk.meeting.wait_for_turn("bob", id)
    assert_type(turn, Turn)
    for said in (*turn.messages, *turn.notes):
        assert_type(said, Record)
        print(said.sender, said.content["text"])
    await sdk.meeting.speak("alice", 7, {"text": "hi"})  # type: ignore[call-overload]
    await sdk.meeting.create_meeting("alice", ["bob"], turn_duration="5")  # type: ignore[arg-type]


# --- handlers ---------------------------------------------------------------------------------------------------------


@register_one_way_handler
async def on_note(message: Note, context: MessageContext) -> None: ...


@register_one_way_handler(agent="bob", ordered=False)
async def on_dict(message: dict[str, Any], context: MessageContext) -> None: ...


@register_conversation_handler
async def on_query(message: Query | Invitation, context: MessageContext) -> Reply:
    return {"answer": context.sender_id}


@register_conversation_handler(agent="bob")
def in_a_thread(message: list[Note], context: MessageContext, more: int = 1) -> str | None:
    return None


@register_message_notification_handler
async def on_arrival(message: Any, context: MessageContext) -> None: ...


@register_meeting_handler(agent="bob")
@register_meeting_handler(agent="carol")
async def on_turn(message: dict[str, Any], context: MessageContext) -> dict[str, Any] | None: ...


class Callee:
    async def __call__(self, message: Note, context: MessageContext) -> None: ...

    async def method(self, message: Note, context: MessageContext) -> None: ...


register_one_way_handler(Callee())
register_one_way_handler(Callee().method)
register_one_way_handler(lambda message, context: None)  # pyright: ignore  (it does not look into lambdas)


@register_one_way_handler  # type: ignore[type-var]
async def takes_one(message: Note) -> None: ...


@register_conversation_handler(agent="bob")  # type: ignore[type-var]
async def takes_three(message: Note, context: MessageContext, more: int) -> None: ...


@register_meeting_handler(agent="bob")  # type: ignore[type-var]
async def takes_another_context(message: Note, context: Note) -> None: ...


@register_message_notification_handler(agent=7)  # type: ignore[call-overload, untyped-decorator]
async def of_no_agent(message: Note, context: MessageContext) -> None: ...


def registering(sdk: AgentMessaging, context: MessageContext) -> None:
    begun: Coroutine[Any, Any, None] = on_note(Note(text="hi"), context)
    begun.close()
    print(on_note("hi", context))  # type: ignore[arg-type]
    handler: Callable[[Note, MessageContext], Awaitable[None]] = on_note
    assert_type(get_handler(HandlerContext.ONE_WAY, "bob"), AnyHandler | None)
    sdk.register_handler("bob")(handler)
    sdk.register_handler("bob", concurrency=3)(Callee())
    sdk.register_meeting_handler("bob")(on_turn)
    sdk.register_handler("bob")(lambda: None)  # type: ignore[type-var]
    sdk.register_handler("bob", concurrency="3")  # type: ignore[arg-type]
    sdk.register_handler()  # type: ignore[call-arg]

    @sdk.register_event_handler(MeetingEventType.TURN_CHANGED)
    async def typed(event: MeetingEvent[TurnChangedEventData]) -> None:
        assert_type(event.data, TurnChangedEventData)

    @sdk.register_event_handler(MeetingEventType.MEETING_ENDED)
    async def plain(event: MeetingEventPayload) -> None:
        print(event.data.host_external_id)

    @sdk.register_event_handler(MeetingEventType.MEETING_ENDED)
    async def older(meeting_id: UUID, agent_external_id: str | None, data: Any) -> None: ...

    @sdk.register_event_handler(MeetingEventType.MEETING_ENDED)  # type: ignore[type-var]
    async def two(meeting_id: UUID, data: Any) -> None: ...

    sdk.register_event_handler("meeting_ended")  # type: ignore[arg-type]


async def test_with_the_kit() -> None:
    async with MessagingKit(messaging={"max_attempts": 2}) as kit:
        bob = await kit.script("bob", answers=["yes", NEVER], takes=Note)
        assert_type(await bob.wait_for(1), list[Heard])
        assert_type(kit.clock.now(), datetime)
        assert_type(make_context("alice", "bob"), HandContext)
        await kit.clock.advance("60")  # type: ignore[arg-type]
        kit.faults.lose_answer("swim")  # type: ignore[arg-type]
