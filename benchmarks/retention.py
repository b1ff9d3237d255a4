"""Pruning a store beside its traffic: how fast it is, and what it does to the latency of the calls meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from agent_messaging import AgentMessaging
from agent_messaging.delivery.retention import release_space, walk
from agent_messaging.messaging.retention import SHARE
from agent_messaging.states import Prunable
from agent_messaging.storage.ports import Pruning

from .harness import Bench, Row, at_most, percentile, rate
from .raw import PAYLOAD
from .rows import multiply
from .team import Load, fill, nothing, started

MESSAGES = 100_000
"""Handled notes that are old."""
SECONDS = 10.0
"""Of the traffic alone."""
LEAST_AGE = 1.0
"""Seconds by which the traffic is younger than what is pruned."""
SENDERS = [f"sender-{number}" for number in range(64)]
OTHERS, FILLING = Load("others", senders=1, recipients=1, at_once=1), 1_024
SLOWER, MORE = 2.0, 10.0
"""The p99 of a send beside a prune may be so many times that of the traffic alone, and so many milliseconds more."""


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """The traffic alone, then beside a prune; and a prune of as much alone."""
    count = bench.count(MESSAGES, least=1_000)
    for backend in bench.backends:
        alone, _ = await _prune(backend, count, traffic=False, seconds=0)
        beside, (before, meanwhile) = await _prune(
            backend, count, traffic=True, seconds=bench.seconds(SECONDS, least=1.0)
        )
        name = f"{backend.name}, {count:,} old messages"
        yield Row(f"{name}, pruned beside 64 senders", rate([beside]), rate([alone]), note="raw: without traffic")
        for share, shown in ((0.5, "p50"), (0.99, "p99")):
            row = f"{name}, a send of 64 beside the prune, {shown}"
            figure, raw = percentile(meanwhile, share), percentile(before, share)
            yield at_most(SLOWER, row, figure, raw, "raw: the traffic alone", plus=MORE)


async def _prune(backend: Any, count: int, *, traffic: bool, seconds: float) -> tuple[float, tuple[list[float], ...]]:
    """Rows pruned in a second, and the seconds of each send before and meanwhile."""
    async with backend.fresh() as url:
        await _fill(url, count)
        filled_at = time.monotonic()
        async with started(url, [*SENDERS, "recipient"], mailbox_limit=None) as sdk:
            sdk.register_handler("recipient")(nothing)
            await sdk.wait_until_served(["recipient"])
            before: list[float] = []
            meanwhile: list[float] = []
            await asyncio.sleep(LEAST_AGE)
            age = time.monotonic() - filled_at
            sending = asyncio.create_task(_send(sdk, before)) if traffic else None
            await asyncio.sleep(seconds)
            if sending is not None:
                sending.cancel()
                await asyncio.wait({sending})
                sending = asyncio.create_task(_send(sdk, meanwhile))
            began, pruned = time.perf_counter(), 0
            age += seconds
            async for page in walk(sdk.store, Pruning(Prunable.MESSAGES, age), share=SHARE):
                pruned += page.number
            async for _ in release_space(sdk.store.retention, share=SHARE):
                pass
            took = time.perf_counter() - began
            if sending is not None:
                sending.cancel()
                with suppress(asyncio.CancelledError):
                    await sending
            assert pruned >= count
            return pruned / took, (before, meanwhile)


async def _send(sdk: AgentMessaging[Any], times: list[float]) -> None:
    async def send(sender: str) -> None:
        while True:
            began = time.perf_counter()
            await sdk.one_way.send(sender, "recipient", PAYLOAD)
            times.append(time.perf_counter() - began)

    await asyncio.gather(*(send(sender) for sender in SENDERS))


async def _fill(url: str, count: int) -> None:
    """Copies of a note that was handled: by sending it would take minutes."""
    async with started(url, [*SENDERS, "recipient"]) as sdk:
        sdk.register_handler("recipient")(nothing)
        sent = await sdk.one_way.send(SENDERS[0], "recipient", PAYLOAD)
        await sdk.receipts.wait(sent)
    await fill(url, OTHERS, FILLING)  # after so many, whatever the store does behind the traffic was done to it
    await multiply(url, seq=1, first=FILLING + 2, last=FILLING + count)
