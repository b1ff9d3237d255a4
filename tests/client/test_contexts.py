"""Context variables: every handler works in the context in which the SDK was started, whoever sends what it handles."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import pytest

from agent_messaging import MeetingEventType, MessageContext, register_message_notification_handler
from tests.client.meeting_support import Table
from tests.client.support import SOON, MakeSdk, Sdk
from tests.support import eventually

request: ContextVar[str | None] = ContextVar("request", default=None)
"""As of a web framework, or a trace."""


class Seen:
    """A handler of any kind that notes in which request it works, and leaves something of its own behind."""

    def __init__(self, answer: Any = None) -> None:
        self.requests: list[str | None] = []
        self.answer = answer

    def note(self) -> Any:
        self.requests.append(request.get())
        request.set("another handler's")
        return self.answer

    async def wait_for(self, count: int) -> None:
        await eventually(lambda: len(self.requests), SOON, until=lambda seen: seen >= count)
        assert self.requests == ["started"] * len(self.requests)


def make(seen: Seen, *, plain: bool = False, parameters: int = 2) -> Any:
    if parameters == 1:

        async def one(event: Any) -> Any:
            return seen.note()

        return one
    if plain:

        def function(message: Any, context: MessageContext) -> Any:
            return seen.note()

        return function

    async def coroutine(message: Any, context: MessageContext) -> Any:
        return seen.note()

    return coroutine


async def start(make_sdk: MakeSdk) -> Sdk:
    """Started in one request, and used in another one."""
    request.set("started")
    sdk = await make_sdk()
    request.set("sender's")
    await sdk.add_people("alice", "bob", "carol")
    return sdk


@pytest.mark.parametrize("plain", [False, True], ids=["coroutine", "function"])
@pytest.mark.parametrize("call", ["send", "send_no_wait", "send_and_wait"])
async def test_a_message_is_handled_in_no_senders_context(make_sdk: MakeSdk, call: str, plain: bool) -> None:
    started = await start(make_sdk)
    seen = Seen("!")
    started.register_handler("bob")(make(seen, plain=plain))
    for number in range(3):
        if call == "send":
            await started.one_way.send("alice", "bob", number)
        else:
            await getattr(started.conversation, call)("alice", "bob", number)
    await seen.wait_for(3)


async def test_what_a_handler_sends_is_handled_in_no_context_of_its_own(make_sdk: MakeSdk) -> None:
    started = await start(make_sdk)
    seen = Seen()

    async def pass_on(message: Any, context: MessageContext) -> None:
        request.set("the first handler's")
        await started.one_way.send("bob", "carol", message)
        await started.conversation.send_no_wait("bob", "carol", message)

    started.register_handler("bob")(pass_on)
    started.register_handler("carol")(make(seen))
    await started.one_way.send("alice", "bob", "hi")
    await seen.wait_for(2)


async def test_notifications_are_told_in_no_senders_context(make_sdk: MakeSdk) -> None:
    started = await start(make_sdk)
    seen = Seen()
    register_message_notification_handler(agent="bob")(make(seen))
    for number in range(3):
        await started.conversation.send_no_wait("alice", "bob", number)
    await seen.wait_for(3)


async def test_turns_and_events_of_meetings_are_handled_in_no_actors_context(make_sdk: MakeSdk) -> None:
    started = await start(make_sdk)
    turns, events, invitations = Seen("my turn"), Seen(), Seen()
    started.register_handler("carol")(make(invitations))
    started.register_meeting_handler("bob")(make(turns))
    started.register_event_handler(MeetingEventType.PARTICIPANT_JOINED)(make(events, parameters=1))
    table = await Table.gather(started, "bob", "carol")
    await started.meeting.start_meeting("alice", table.id, "welcome")
    await turns.wait_for(1)
    await events.wait_for(2)
    await Table.invite(started, "carol")
    await invitations.wait_for(1)


async def test_the_next_speaker_is_chosen_in_no_actors_context(make_sdk: MakeSdk) -> None:
    started = await start(make_sdk)
    seen = Seen("carol")

    async def choose(so_far: Any) -> Any:
        return seen.note()

    table = await Table.open(started, "bob", "carol", speaker_selection=choose)
    await table.speak("alice", "one")
    await seen.wait_for(1)
    assert (await table.wait("carol")).number
