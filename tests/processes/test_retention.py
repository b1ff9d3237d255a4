"""Prunes that are killed in the middle, two at once, beside senders and searches: nothing but what has ended goes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent_messaging import AgentMessaging, Config, MessageContext, MessagingConfig
from agent_messaging.delivery.retention import walk
from agent_messaging.states import Keeping, Prunable
from agent_messaging.storage.ports import Pruning
from tests.processes.harness import SEED
from tests.support import eventually

SENDERS = 64
PAUSE = 0.3
"""Seconds between two calls of one of them: what is sent is to be checked, too."""
ROOT = Path(__file__).parents[2]


@contextlib.asynccontextmanager
async def pruner(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that prunes, and is killed at the end."""
    arguments = [sys.executable, "-m", "tests.processes.pruner", url]
    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        await process.communicate()


async def until_pages(process: asyncio.subprocess.Process, number: int) -> None:
    """Wait until it has pruned so many pages."""
    assert process.stdout is not None
    for _ in range(number):
        line = await process.stdout.readline()
        assert line, "it ended by itself"


@pytest.mark.sampled(1)
async def test_prunes_that_are_killed_beside_senders_and_searches_take_nothing_that_is_open(database_url: str) -> None:
    rng = random.Random(SEED)
    handled: Counter[str] = Counter()
    config = Config(url=database_url, messaging=MessagingConfig(handler_concurrency=16))
    async with AgentMessaging[Any](config) as sdk:
        await sdk.register_organization("acme", "Acme")
        names = [f"sender-{number}" for number in range(SENDERS)]
        for name in (*names, "bob", "carol"):
            await sdk.register_agent(name, "acme", name)

        @sdk.register_handler("bob")
        async def bob(message: Any, context: MessageContext) -> None:
            handled[str(context.message_id)] += 1

        kept = [await sdk.conversation.send_no_wait("bob", "carol", f"tea {number}") for number in range(7)]
        sent: list[str] = []
        stopping = asyncio.Event()

        async def send(name: str) -> None:
            while not stopping.is_set():
                sent.extend(await sdk.one_way.send(name, "bob", "tea"))
                await asyncio.sleep(PAUSE)

        async def search() -> None:
            while True:
                assert len(await sdk.search_messages("tea", limit=500, recipient_id="carol")) == len(kept)
                await asyncio.sleep(PAUSE)

        searching = asyncio.create_task(search())
        sending = asyncio.gather(*(send(name) for name in names))
        async with pruner(database_url) as first, pruner(database_url) as second:
            await until_pages(first, rng.randint(1, 12))
            await until_pages(second, rng.randint(1, 3))
        stopping.set()
        await sending
        searching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await searching
        await eventually(lambda: set(handled) == set(sent), timeout=60)
        assert set(handled.values()) == {1}
        assert await sdk.store.check() == []
        assert await prune(sdk) == {}
        assert await sdk.store.deliveries.list_receipts(sent) == []
        assert len(await sdk.conversation.get_unread_messages("carol")) == len(kept)


async def prune(sdk: AgentMessaging[Any]) -> dict[Keeping, int]:
    """Prune the rest, and return what stays as it was unread, or was not handled."""
    kept: Counter[Keeping] = Counter()
    async for page in walk(sdk.store, Pruning(Prunable.MESSAGES, 0)):
        kept.update(page.kept)
    return {reason: number for reason, number in kept.items() if reason is not Keeping.OPEN}
