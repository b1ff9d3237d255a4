"""The other side of the conversation examples: who answers or writes, in the test's process or in one of its own.

python -m tests.examples.sides NAME
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from agent_messaging import (
    AgentMessaging,
    MessageContext,
    register_conversation_handler,
    register_message_notification_handler,
)

AGENTS = ("alice", "bob", "customer", "support_agent", "orchestrator", "preprocessor", "analyzer", "generator")
Sdk = AgentMessaging[Any, Any, Any]


@dataclass(frozen=True)
class Link:
    """Lines between the two sides."""

    tell: Callable[[str], Awaitable[None]]
    hear: Callable[[], Awaitable[str]]
    """The next line; empty at the end."""


Side = Callable[[Sdk, Link], Coroutine[Any, Any, None]]


class SupportMessage(BaseModel):
    query: str = ""
    answer: str = ""


class Query(BaseModel):
    question: str
    context: str = ""


class Response(BaseModel):
    answer: str
    confidence: float = 1.0


class MyMessage(BaseModel):
    text: str


async def register(sdk: Sdk) -> None:
    """What both sides do first."""
    await sdk.register_organization("org_id", "Organization")
    for name in AGENTS:
        await sdk.register_agent(name, "org_id", name.title())


async def support(sdk: Sdk, link: Link) -> None:
    """Answers; not where the query is empty."""

    @sdk.register_handler("support_agent")
    async def on_question(message: SupportMessage, context: MessageContext) -> SupportMessage | None:
        return SupportMessage(answer=f"Answer to: {message.query}") if message.query else None

    await link.tell("ready")


async def pipeline(sdk: Sdk, link: Link) -> None:
    """Three agents, each of which adds its name."""
    for name in ("preprocessor", "analyzer", "generator"):

        @sdk.register_handler(name)
        async def work(task: dict[str, Any], context: MessageContext) -> dict[str, Any]:
            return {**task, "steps": [*task["steps"], context.receiver_id]}

    await link.tell("ready")


async def typed_queries(sdk: Sdk, link: Link) -> None:
    """The global handler, typed."""

    @register_conversation_handler
    async def handle_query(message: Query, context: MessageContext) -> Response:
        assert context.session_id is not None
        return Response(answer=f"It depends on {message.question}", confidence=0.95)

    await link.tell("ready")


async def notified(sdk: Sdk, link: Link) -> None:
    """Pushes what comes for agents that do not wait."""

    @register_message_notification_handler
    async def notify_agent(message: dict[str, Any], context: MessageContext) -> None:
        await link.tell(f"{context.receiver_id}: New message from {context.sender_id}")

    await link.tell("ready")


async def interviewee(sdk: Sdk, link: Link) -> None:
    """Bob replies by hand inside his handler; not to a question for his silence."""

    @sdk.register_handler("bob")
    async def bob_handler(message: MyMessage, context: MessageContext) -> None:
        if context.requires_reply and message.text != "Are you there?":
            await sdk.sync_conversation.reply("bob", context.sender_external_id, MyMessage(text="I'm Bob!"))
        elif context.requires_reply:
            await link.tell("silent")

    await link.tell("ready")


async def writer(sdk: Sdk, link: Link) -> None:
    """Alice writes to Bob whatever she is told."""
    await link.tell("ready")
    while text := await link.hear():
        await sdk.async_conversation.send("alice", "bob", MyMessage(text=text))
        await link.tell("sent")


async def main(name: str) -> None:
    async def tell(line: str) -> None:
        print(line, flush=True)

    async def hear() -> str:
        line: str = await asyncio.to_thread(sys.stdin.readline)
        return line.rstrip("\n")

    async with AgentMessaging[Any, Any, Any]() as sdk:
        await register(sdk)
        await globals()[name](sdk, Link(tell, hear))
        while await hear():
            pass


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
