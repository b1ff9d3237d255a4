"""The whole programs of the documents, each run twice as a user would: `python program.py`."""

from __future__ import annotations

import pytest

from tests.examples.conftest import RunProgram

README = """
import asyncio
from agent_messaging import AgentMessaging
from pydantic import BaseModel


class ChatMessage(BaseModel):
    text: str


async def main():
    async with AgentMessaging[ChatMessage]() as sdk:
        await sdk.register_organization("my_org", "My Organization")
        await sdk.register_agent("alice", "my_org", "Alice")
        await sdk.register_agent("bob", "my_org", "Bob")

        @sdk.register_handler("bob")
        async def bob_handler(message: ChatMessage, context):
            print(f"Bob received: {message.text}")

        await sdk.one_way.send("alice", "bob", ChatMessage(text="Hello Bob!"))


if __name__ == "__main__":
    asyncio.run(main())
"""

NOTIFICATIONS = """
import asyncio
from agent_messaging import AgentMessaging, register_one_way_handler, MessageContext


@register_one_way_handler
async def handle_notification(message: dict, context: MessageContext) -> None:
    print(f"{context.sender_id} → {context.receiver_id}: {message['text']}")


async def main():
    async with AgentMessaging[dict, dict, dict]() as sdk:
        await sdk.register_organization("acme", "Acme Corp")
        await sdk.register_agent("alice", "acme", "Alice")
        await sdk.register_agent("bob", "acme", "Bob")
        await sdk.one_way.send("alice", ["bob"], {"text": "System maintenance at 3 PM"})


asyncio.run(main())
"""

SIMPLE_NOTIFICATION = """
import asyncio
from agent_messaging import AgentMessaging
from pydantic import BaseModel


class NotificationMessage(BaseModel):
    text: str
    priority: str


async def main():
    async with AgentMessaging[NotificationMessage]() as sdk:
        await sdk.register_organization("org_001", "My Org")
        await sdk.register_agent("agent_alice", "org_001", "Alice")
        await sdk.register_agent("agent_bob", "org_001", "Bob")

        @sdk.register_handler("agent_bob")
        async def bob_handler(message: NotificationMessage, context):
            print(f"Bob received: {message.text} (Priority: {message.priority})")

        await sdk.one_way.send(
            "agent_alice",
            "agent_bob",
            NotificationMessage(text="Server restart in 5 minutes", priority="high"),
        )


asyncio.run(main())
"""

TYPED_HANDLERS = """
import asyncio
from typing import TypedDict
from agent_messaging import AgentMessaging, register_one_way_handler, MessageContext
from pydantic import BaseModel, ValidationError


class Notification(TypedDict):
    title: str
    text: str
    priority: str


class Checked(BaseModel):
    text: str
    priority: str = "normal"


@register_one_way_handler
async def handle_notification(message: Notification, context: MessageContext) -> None:
    print(f"[{context.receiver_id}] Received from {context.sender_id}: {message['text']}")


@register_one_way_handler(agent="untyped")
async def handle(message, context):
    print(message["text"])


@register_one_way_handler(agent="checked")
async def check(message: dict, context: MessageContext) -> None:
    try:
        notification = Checked(**message)
        print(f"Valid: {notification.text}")
    except ValidationError as error:
        print(f"Invalid message: {error.error_count()}")


async def main():
    async with AgentMessaging() as sdk:
        await sdk.register_organization("acme", "Acme Corp")
        for name in ("alice", "bob", "untyped", "checked"):
            await sdk.register_agent(name, "acme", name.title())
        message = {"title": "Hi", "text": "Lunch", "priority": "low"}
        for recipient in ("bob", "untyped", "checked"):
            [id] = await sdk.one_way.send("alice", recipient, message)
            await sdk.receipts.wait(id, timeout=10)
        await sdk.one_way.send("alice", "checked", {"title": "no text"})


asyncio.run(main())
"""

PROGRAMS = {
    "E-02": (README, "Bob received: Hello Bob!\n"),
    "E-32": (NOTIFICATIONS, "alice → bob: System maintenance at 3 PM\n"),
    "E-64": (SIMPLE_NOTIFICATION, "Bob received: Server restart in 5 minutes (Priority: high)\n"),
    "E-19, E-24, E-25, E-26": (
        TYPED_HANDLERS,
        "[bob] Received from alice: Lunch\nLunch\nValid: Lunch\nInvalid message: 1\n",
    ),
}


@pytest.mark.parametrize("example", PROGRAMS)
def test_a_program_of_the_documents_prints_what_they_say_each_time_it_is_run(
    run_twice: RunProgram, example: str
) -> None:
    program, printed = PROGRAMS[example]
    assert run_twice(program) == [printed, printed]
