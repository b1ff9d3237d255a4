"""Take-over: a process is killed (SIGKILL) in the middle of a handler, another begins to handle its message."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from agent_messaging import MessageContext

from .harness import Bench, Row, below, percentile
from .stores import Backend
from .team import started
from .worker import worker

KILLS = {"SQLite": 20, "PostgreSQL": 10}
PAUSES = {"SQLite": 0.6, "PostgreSQL": 1.3}
"""Seconds between two kills, at most: they hit any moment of the poll under which a death is noticed."""
LIMITS = {"SQLite": 1_000.0, "PostgreSQL": 3_000.0}
"""Milliseconds, of RELIABILITY 5: p99, with presence."""
PATIENCE = 60.0


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """From the kill to the start of the next run."""
    for backend in bench.backends:
        kills = bench.count(KILLS[backend.name], least=2)
        taken, ended = await _take_over(backend, kills)
        yield Row(f"{backend.name}, p50 of {kills} kills", percentile(taken, 0.5), percentile(ended, 0.5))
        note = "raw: from the kill until the system has ended the process"
        yield below(
            LIMITS[backend.name],
            f"{backend.name}, p99 of {kills} kills",
            percentile(taken, 0.99),
            percentile(ended, 0.99),
            note,
        )


async def _take_over(backend: Backend, kills: int) -> tuple[list[float], list[float]]:
    """Seconds until another run began, and until the process was gone. Each victim serves an agent of its own."""
    agents = [f"agent-{number}" for number in range(kills)]
    runs: dict[str, asyncio.Future[float]] = {}
    pauses = random.Random(1)

    async def handle(message: dict[str, Any], context: MessageContext) -> None:
        runs[context.receiver_id].set_result(time.monotonic())

    async with backend.fresh() as url, started(url, ["sender", *agents]) as sdk, AsyncExitStack() as stack:
        victims = await asyncio.gather(*(stack.enter_async_context(worker(url, agent)) for agent in agents))
        for agent, victim in zip(agents, victims, strict=True):
            runs[agent] = asyncio.get_running_loop().create_future()
            await sdk.one_way.send("sender", agent, {"number": 0, "hang": True})
            await victim.next()
            sdk.register_handler(agent)(handle)
        times = []
        for victim in victims:
            await asyncio.sleep(pauses.uniform(0.2, 1.0) * PAUSES[backend.name])
            times.append(await victim.kill())
        async with asyncio.timeout(PATIENCE):
            taken = [await runs[agent] - sent for agent, (sent, _) in zip(agents, times, strict=True)]
        return taken, [over - sent for sent, over in times]
