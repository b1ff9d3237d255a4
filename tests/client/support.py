"""What the client's tests share: an SDK with test settings, and scripted agents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from agent_messaging import AgentMessaging, Config, DatabaseConfig, MessageContext, MessagingConfig, Receipt
from tests.support import eventually

SOON = 10.0
"""Seconds in which anything that is to happen has happened, on a busy machine too."""

DATABASE: dict[str, Any] = {"lease": 10.0, "min_pool_size": 1, "max_pool_size": 5}
MESSAGING: dict[str, Any] = {"retry_delay": 0.01, "retry_max_delay": 0.05, "drain_timeout": 5.0}


def make_config(url: str, **settings: Any) -> Config:
    """A configuration on this database; settings go where they belong, with short pauses unless told otherwise."""
    database = DATABASE | {name: value for name, value in settings.items() if name in DatabaseConfig.model_fields}
    messaging = MESSAGING | {name: value for name, value in settings.items() if name in MessagingConfig.model_fields}
    rest = {name: value for name, value in settings.items() if name not in database and name not in messaging}
    return Config(url=url, database=database, messaging=messaging, **rest)


class Sdk(AgentMessaging[Any]):
    """An SDK with a few shortcuts for tests."""

    async def add_people(self, *names: str, organization: str = "acme") -> None:
        """Register agents."""
        await self.register_organization(organization, organization.title())
        for name in names:
            await self.register_agent(name, organization, name.title())

    async def state(self, message_id: str) -> str:
        """The state of a message."""
        return (await self.receipts.get(message_id)).state.value

    async def wait(self, message_ids: list[str]) -> list[Receipt]:
        """The final receipts."""
        return await self.receipts.wait(message_ids, timeout=SOON)


class MakeSdk(Protocol):
    """Starts an SDK object with these settings of the database or of messaging."""

    async def __call__(self, **settings: object) -> Sdk: ...


class Inbox:
    """A scripted agent's handler: keeps what it is given; `script`, if given, decides how each run ends."""

    def __init__(self, script: Callable[[Any, MessageContext], Any] | None = None) -> None:
        self.script = script
        self.messages: list[Any] = []
        self.contexts: list[MessageContext] = []

    async def __call__(self, message: Any, context: MessageContext) -> None:
        self.messages.append(message)
        self.contexts.append(context)
        if self.script is not None:
            result = self.script(message, context)
            if asyncio.iscoroutine(result):
                await result

    async def wait_for(self, count: int) -> list[Any]:
        """Wait until so many messages came, and return them all."""
        await eventually(lambda: len(self.messages), SOON, until=lambda seen: seen >= count)
        return self.messages


class Gate(Inbox):
    """A handler that stays in each run until it is opened."""

    def __init__(self) -> None:
        super().__init__(lambda message, context: self.opened.wait())
        self.opened = asyncio.Event()
        self.running = 0
        self.most = 0
        """The most runs at once."""

    async def __call__(self, message: Any, context: MessageContext) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await super().__call__(message, context)
        finally:
            self.running -= 1

    def open(self) -> None:
        """Let every run end."""
        self.opened.set()
