"""A payload that would come back different is refused by every call that takes one, and nothing is stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from agent_messaging import HandlerError, MeetingEventType, PayloadError, register_meeting_handler
from tests.client.conversing import Clerk
from tests.client.meeting_support import Table
from tests.client.support import Sdk

HIDDEN = "hunter2"


class Login(BaseModel):
    user: str
    password: SecretStr


@dataclasses.dataclass
class Job:
    name: str
    token: dataclasses.InitVar[str]


LOGIN = Login(user="a", password=SecretStr(HIDDEN))

CALLS: dict[str, tuple[Callable[[Sdk, Any, Any], Any], str]] = {
    "send": (lambda sdk, bad, table: sdk.one_way.send("alice", "bob", bad), "message.password"),
    "send_no_wait": (lambda sdk, bad, table: sdk.conversation.send_no_wait("alice", "bob", bad), "message.password"),
    "send_and_wait": (lambda sdk, bad, table: sdk.conversation.send_and_wait("alice", "bob", bad), "message.password"),
    "reply": (lambda sdk, bad, table: sdk.conversation.reply("alice", "bob", bad), "message.password"),
    "metadata": (
        lambda sdk, bad, table: sdk.one_way.send("alice", "bob", "hi", {"login": bad}),
        "metadata.login.password",
    ),
    "speak": (lambda sdk, bad, table: sdk.meeting.speak("alice", table.id, bad), "message.password"),
    "event": (
        lambda sdk, bad, table: sdk._event_handler.emit_event(
            table.id, MeetingEventType.ERROR_OCCURRED, {"login": bad}
        ),
        "data.login.password",
    ),
}


@pytest.mark.parametrize("name", CALLS)
async def test_every_call_refuses_it_where_it_is_made(sdk: Sdk, name: str) -> None:
    call, place = CALLS[name]
    table = await Table.open(sdk, "bob")
    with pytest.raises(PayloadError, match=r"get_secret_value\(\)") as caught:
        await call(sdk, LOGIN, table)
    assert str(caught.value).startswith(place)
    assert HIDDEN not in str(caught.value)
    assert await sdk.one_way.get_received_messages("bob") == []
    assert await sdk.conversation.get_active_sessions("alice") == []
    assert await table.said() == []


async def test_a_handlers_answer_is_refused_and_its_asker_told_where(sdk: Sdk) -> None:
    sdk.register_handler("bob")(Clerk(lambda message, context: Job("a", "b")))
    with pytest.raises(HandlerError, match=r"answer would not come back: it does not fit Job: token: field required"):
        await sdk.conversation.send_and_wait("alice", "bob", "?")


async def test_a_turn_handlers_speech_is_refused_and_its_turn_passed(sdk: Sdk) -> None:
    register_meeting_handler(agent="bob")(lambda message, context: LOGIN)
    table = await Table.open(sdk, "bob")
    await table.speak("alice", "go")
    await table.until_turn(3)
    assert await table.said() == [("alice", "go")]
    [note] = [note for note in await table.notes() if "password" in str(note)]
    assert "get_secret_value()" in str(note)
    assert HIDDEN not in str(note)
