"""A started SDK with agents that send to each other, and a load to put on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from agent_messaging import AgentMessaging, Config, MessageContext, MessagingConfig

from .raw import PAYLOAD

Handler = Callable[[dict[str, Any], MessageContext], Awaitable[None]]


@asynccontextmanager
async def started(url: str, agents: list[str], **settings: Any) -> AsyncIterator[AgentMessaging]:
    """An SDK with these agents registered; `settings` are those of MessagingConfig."""
    config = Config(url=url, log_level="ERROR", messaging=MessagingConfig(**settings))
    async with AgentMessaging(config) as sdk:
        await sdk.register_organization("acme", "Acme", exist_ok=True)
        for agent in agents:
            await sdk.register_agent(agent, "acme", agent, exist_ok=True)
        yield sdk


async def nothing(message: dict[str, Any], context: MessageContext) -> None:
    """The handler whose own time does not count."""


@dataclass(frozen=True, slots=True)
class Load:
    """Who sends to whom, and how much at once. A sender's next message waits until its last one is stored."""

    name: str
    senders: int
    recipients: int
    """Where there are as many as senders, each has its own."""
    at_once: int
    """Calls in flight."""

    @property
    def agents(self) -> list[str]:
        """All of them."""
        return [f"sender-{n}" for n in range(self.senders)] + self.receiving

    @property
    def receiving(self) -> list[str]:
        """The recipients."""
        return [f"recipient-{n}" for n in range(self.recipients)]


async def run(url: str, load: Load, count: int, handler: Handler = nothing) -> float:
    """Messages per second, from the first call until the last message's settlement is committed."""
    each = max(1, count // load.at_once)
    handled = 0
    everything = asyncio.Event()

    async def handle(message: dict[str, Any], context: MessageContext) -> None:
        nonlocal handled
        await handler(message, context)
        handled += 1
        if handled == each * load.at_once:
            everything.set()

    async with started(url, load.agents) as sdk:
        for recipient in load.receiving:
            sdk.register_handler(recipient)(handle)
        await sdk.wait_until_served(load.receiving)

        async def send(flow: int) -> str:
            sender, recipient = f"sender-{flow % load.senders}", f"recipient-{flow % load.recipients}"
            ids: list[str] = []
            for number in range(each):
                ids = await sdk.one_way.send(sender, recipient, {**PAYLOAD, "number": number})
            return ids[0]

        began = time.perf_counter()
        last = await asyncio.gather(*(send(flow) for flow in range(load.at_once)))
        await everything.wait()
        await sdk.receipts.wait(last)
        return each * load.at_once / (time.perf_counter() - began)
