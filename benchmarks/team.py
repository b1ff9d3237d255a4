"""A started SDK with agents that send to each other, and a load to put on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from agent_messaging import AgentMessaging, Config, DatabaseConfig, MessageContext, MessagingConfig

from .raw import PAYLOAD

Handler = Callable[[dict[str, Any], MessageContext], Awaitable[None]]


@asynccontextmanager
async def started(
    url: str, agents: list[str], *, pool: int | None = None, **settings: Any
) -> AsyncIterator[AgentMessaging]:
    """An SDK with these agents registered; `pool` limits its connections, `settings` are those of MessagingConfig."""
    database = {} if pool is None else {"database": DatabaseConfig(min_pool_size=1, max_pool_size=pool)}
    config = Config(url=url, log_level="ERROR", messaging=MessagingConfig(**settings), **database)
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

    def rounded(self, count: int) -> int:
        """So many messages are sent where `count` are asked for: as many by each call in flight."""
        return max(1, count // self.at_once) * self.at_once

    def pair(self, flow: int) -> tuple[str, str]:
        """Whose messages a call in flight sends, and to whom."""
        return f"sender-{flow % self.senders}", f"recipient-{flow % self.recipients}"

    @property
    def agents(self) -> list[str]:
        """All of them."""
        return [f"sender-{n}" for n in range(self.senders)] + self.receiving

    @property
    def receiving(self) -> list[str]:
        """The recipients."""
        return [f"recipient-{n}" for n in range(self.recipients)]


async def fill(url: str, load: Load, count: int) -> None:
    """Store messages that nobody handles."""
    numbers = iter(range(load.rounded(count)))
    async with started(url, load.agents, mailbox_limit=None) as sdk:

        async def send() -> None:
            for number in numbers:
                await sdk.one_way.send(*load.pair(number), {**PAYLOAD, "number": number}, require_handler=False)

        await asyncio.gather(*(send() for _ in range(64)))


async def run(url: str, load: Load, count: int, handler: Handler = nothing) -> float:
    """Messages per second, from the first call until the last message's settlement is committed.

    Each call in flight sends one message before: connections, plans and the files are there for the raw limit, too.
    """
    count = load.rounded(count)
    each = count // load.at_once
    handled = 0
    everything = asyncio.Event()

    async def handle(message: dict[str, Any], context: MessageContext) -> None:
        nonlocal handled
        await handler(message, context)
        handled += 1
        if handled == count:
            everything.set()

    async with started(url, load.agents) as sdk:
        for recipient in load.receiving:
            sdk.register_handler(recipient)(handle)
        await sdk.wait_until_served(load.receiving)

        async def send(flow: int, messages: int) -> str:
            sender, recipient = load.pair(flow)
            ids: list[str] = []
            for number in range(messages):
                ids = await sdk.one_way.send(sender, recipient, {**PAYLOAD, "number": number})
            return ids[0]

        await sdk.receipts.wait(await asyncio.gather(*(send(flow, 1) for flow in range(load.at_once))))
        handled = 0
        everything.clear()
        began = time.perf_counter()
        last = await asyncio.gather(*(send(flow, each) for flow in range(load.at_once)))
        await everything.wait()
        await sdk.receipts.wait(last)
        return count / (time.perf_counter() - began)
