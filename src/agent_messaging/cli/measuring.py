"""The loads of `agent-messaging bench`: each on agents of its own, for so many seconds, and removed after it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from .. import AgentMessaging, Config, MessageContext
from ..bootstrap import build_store
from ..exceptions import OrganizationNotFoundError
from ..futures import wait_for_all
from ..ids import uuid7

PAYLOAD = {"text": "The quarterly figures are in; please look at the third table.", "number": 0, "urgent": False}
NOTE_PAIRS = 64
ASK_PAIRS = 100
PATIENCE = 60.0
"""Seconds that what was sent may take to be handled, after the load has ended."""


@dataclass(slots=True)
class Samples:
    """What one load did: how often, in how many seconds, and how long each call took."""

    times: list[float] = field(default_factory=list)
    elapsed: float = 0.0

    @property
    def rate(self) -> float:
        """So many in a second."""
        return len(self.times) / self.elapsed if self.elapsed else 0.0

    def percentile(self, share: float) -> float:
        """Seconds within which this share of the calls returned."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


Load = Callable[[float], Awaitable[Samples]]
"""Runs for so many seconds."""


class Bench:
    """An organization of its own in the user's store, and loads on its agents.

    Whatever it has made is removed when it is left: agent by agent, so that no other process waits for long.
    """

    def __init__(self, sdk: AgentMessaging, config: Config) -> None:
        self.sdk = sdk
        self.config = config
        self.name = f"bench-{uuid7()[-12:]}"

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Bench]:
        """With the organization."""
        try:
            await self.sdk.register_organization(self.name, "Made by `agent-messaging bench`, which removes it")
            yield self
        finally:
            # The registration may have been cut off, before or after its commit.
            with contextlib.suppress(OrganizationNotFoundError):
                await self.sdk.deregister_organization(self.name)

    def loads(self) -> dict[str, Load]:
        """By name, in the order in which they run."""
        return {
            "commits of one row": self.commit,
            "notes, one after the other": lambda seconds: self.send(seconds, 1),
            f"notes, {NOTE_PAIRS} pairs at once": lambda seconds: self.send(seconds, NOTE_PAIRS),
            "asks, one after the other": lambda seconds: self.ask(seconds, 1),
            f"asks, {ASK_PAIRS} pairs at once": lambda seconds: self.ask(seconds, ASK_PAIRS),
        }

    async def commit(self, seconds: float) -> Samples:
        """The smallest change that a store makes, one after the other: what everything else is measured by."""
        store = build_store(self.config)
        try:
            await store.open()
            samples, id = Samples(), uuid7()

            async def rename(number: int) -> None:
                await store.directory.add_organization(id, self.name, f"Renamed {number} times", update_name=True)

            await _repeat(samples, time.perf_counter() + seconds, rename)
            return samples
        finally:
            await store.aclose()

    async def send(self, seconds: float, pairs: int) -> Samples:
        """Notes, from the first call until the last one is settled; the times are those until each is stored."""
        samples, sent, handled = Samples(), 0, 0
        changed = asyncio.Event()

        async def handle(message: dict[str, Any], context: MessageContext) -> None:
            nonlocal handled
            handled += 1
            changed.set()

        async with self._agents("sender", pairs) as senders, self._agents("recipient", pairs) as recipients:
            for recipient in recipients:
                self.sdk.register_handler(recipient)(handle)
            last: list[str] = []
            began = time.perf_counter()

            async def send(pair: int) -> None:
                async def call(number: int) -> None:
                    nonlocal sent
                    ids = await self.sdk.one_way.send(senders[pair], recipients[pair], {**PAYLOAD, "number": number})
                    sent += 1
                    last.extend(ids)
                    del last[:-pairs]

                await _repeat(samples, began + seconds, call)

            await wait_for_all(send(pair) for pair in range(pairs))
            async with asyncio.timeout(PATIENCE):
                while handled < sent:
                    changed.clear()
                    await changed.wait()
                await self.sdk.receipts.wait(last)
            samples.elapsed = time.perf_counter() - began
        return samples

    async def ask(self, seconds: float, pairs: int) -> Samples:
        """Questions, from each call until its answer."""
        samples = Samples()

        async def answer(message: dict[str, Any], context: MessageContext) -> dict[str, Any]:
            return {"text": message["text"]}

        async with self._agents("asker", pairs) as askers, self._agents("responder", pairs) as responders:
            for responder in responders:
                self.sdk.register_handler(responder)(answer)
            began = time.perf_counter()

            async def ask(pair: int) -> None:
                async def call(number: int) -> None:
                    question = {**PAYLOAD, "number": number}
                    await self.sdk.conversation.send_and_wait(askers[pair], responders[pair], question)

                await _repeat(samples, began + seconds, call)

            await wait_for_all(ask(pair) for pair in range(pairs))
            samples.elapsed = time.perf_counter() - began
        return samples

    @contextlib.asynccontextmanager
    async def _agents(self, role: str, number: int) -> AsyncIterator[list[str]]:
        names = [f"{self.name}-{role}-{one}" for one in range(number)]
        try:
            await wait_for_all(self.sdk.register_agent(name, self.name, role) for name in names)
            yield names
        finally:
            for name in names:
                await self.sdk.deregister_agent(name)


async def _repeat(samples: Samples, until: float, call: Callable[[int], Awaitable[None]]) -> None:
    """Call again and again until then, at least once, and keep how long each call took."""
    began = now = time.perf_counter()
    number = 0
    while number == 0 or now < until:
        await call(number)
        number += 1
        before, now = now, time.perf_counter()
        samples.times.append(now - before)
    samples.elapsed = now - began
