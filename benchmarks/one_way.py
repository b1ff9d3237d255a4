"""Notes: stored, handled in the same process, settled; beside the rate at which the driver alone stores such rows."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from agent_messaging import MessageContext

from . import raw
from .harness import Bench, Figure, Row, at_least, rate
from .stores import Backend
from .team import Handler, Load, nothing, run

PAIRS = Load("64 pairs", senders=64, recipients=64, at_once=64)
FAN_OUT = Load("1 sender to 64, 64 calls at once", senders=1, recipients=64, at_once=64)
ONE_PAIR = Load("1 pair, one call after the other", senders=1, recipients=1, at_once=1)
ONE_LANE = Load("1 pair, 64 calls at once", senders=1, recipients=1, at_once=64)

TARGETS = {"SQLite": 0.25, "PostgreSQL": 0.20}
COUNTS = {"SQLite": 9_600, "PostgreSQL": 6_400}
BURN = 200e-6
"""Seconds of processor time that a handler burns on the loop."""


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """Rates for many pairs, for one, and beside handlers that keep the loop busy."""
    for backend in bench.backends:
        count = bench.count(COUNTS[backend.name], least=64)
        measured, limit = await _in_turns(bench, backend, PAIRS, count, batch=raw.BATCH)
        yield at_least(TARGETS[backend.name], f"{backend.name}, 64 pairs, sent → settled", measured, limit)

        busy = rate([await _once(backend, PAIRS, count // 4, _burn) for _ in range(bench.repetitions)])
        left = Figure((1 / (1 / measured.median + BURN),), "/s")
        note = f"its limit: each message's share of the rate above, and {BURN * 1e6:.0f} µs of its handler"
        yield at_least(0.5, f"{backend.name}, 64 pairs, handlers burn the loop", busy, left, note)

        measured, _ = await _in_turns(bench, backend, FAN_OUT, count // 2, batch=0)
        yield Row(f"{backend.name}, {FAN_OUT.name}", measured, limit)
        for load in (ONE_PAIR, ONE_LANE):
            measured, commits = await _in_turns(bench, backend, load, count // 8, batch=1)
            yield Row(f"{backend.name}, {load.name}", measured, commits, note="raw: one message per synced commit")


async def _in_turns(bench: Bench, backend: Backend, load: Load, count: int, *, batch: int) -> tuple[Figure, Figure]:
    """The SDK's rate and the driver's, which take turns; without a batch only the first."""
    measured, limits = [], []
    for _ in range(bench.repetitions):
        if batch:
            async with backend.fresh() as url:
                limits.append(await raw.insert_rate(url, load.senders, count, batch=batch))
        measured.append(await _once(backend, load, count))
    return rate(measured), rate(limits)


async def _once(backend: Backend, load: Load, count: int, handler: Handler = nothing) -> float:
    async with backend.fresh() as url:
        return await run(url, load, count, handler)


async def _burn(message: dict[str, Any], context: MessageContext) -> None:
    until = time.thread_time() + BURN
    while time.thread_time() < until:
        pass
