"""Notes: stored, handled in the same process, settled; beside the rate at which the driver alone stores such rows."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch

from agent_messaging import MessageContext
from agent_messaging.delivery import indexing

from . import peers, raw
from .harness import Bench, Figure, Row, at_least, rate
from .rows import restore_rate
from .stores import Backend
from .team import Handler, Load, fill, nothing, run

PAIRS = Load("64 pairs", senders=64, recipients=64, at_once=64)
FAN_OUT = Load("1 sender to 64, 64 calls at once", senders=1, recipients=64, at_once=64)
ONE_PAIR = Load("1 pair, one call after the other", senders=1, recipients=1, at_once=1)
ONE_LANE = Load("1 pair, 64 calls at once", senders=1, recipients=1, at_once=64)

TARGETS = {"SQLite": 0.25, "PostgreSQL": 0.30}
"""Of the driver's rate in batches, with 64 pairs."""
ONE_BY_ONE = {"SQLite": 0.5}
"""Of one raw message per synced commit, with one pair."""
COUNTS = {"SQLite": 9_600, "PostgreSQL": 6_400}
OF_NO_INDEX = 0.9
"""Of the rate without the index of words."""
LONGER = 4
"""Times the notes of the other rows: the first batch of the index comes at once, and the pauses between two of them,
which keep it to a tenth of the time, are as long as a twentieth of this run."""
BURN = 200e-6
"""Seconds of processor time that a handler burns on the loop."""


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """Rates for many pairs, for one, and beside handlers that keep the loop busy."""
    for backend in bench.backends:
        count = bench.count(COUNTS[backend.name], least=64)
        measured, limit = await _in_turns(bench, backend, PAIRS, count, batch=raw.BATCH)
        note = "raw: the driver alone inserts these rows, 500 in a commit"
        yield at_least(TARGETS[backend.name], f"{backend.name}, 64 pairs, sent → settled", measured, limit, note)

        memory = rate([await peers.queue_rate(PAIRS.senders, count) for _ in range(bench.repetitions)])
        note = "peer: asyncio.Queue and JSON, in memory, with nothing kept"
        yield Row(f"{backend.name}, 64 pairs, beside memory", measured, memory, note=note)

        served = [one for _ in range(bench.repetitions) if (one := await peers.jetstream_rate(64, count)) is not None]
        name = f"{backend.name}, 64 pairs, beside NATS JetStream"
        if served:
            note = "peer: published, synced, acknowledged, read, acknowledged; one server process beside ours"
            yield Row(name, measured, rate(served), note=note)
        else:
            yield Row(name, None, note=peers.NO_NATS)

        busy = rate([await _once(backend, PAIRS, count // 4, _burn) for _ in range(bench.repetitions)])
        left = Figure((1 / (1 / measured.median + BURN),), "/s")
        note = f"its limit: each message's share of the rate above, and {BURN * 1e6:.0f} µs of its handler"
        yield at_least(0.5, f"{backend.name}, 64 pairs, handlers burn the loop", busy, left, note)

        beside, alone = await _beside_the_index(bench, backend, count * LONGER)
        note = "beside: the index does nothing; otherwise it begins late, and far behind"
        yield at_least(OF_NO_INDEX, f"{backend.name}, 64 pairs, the index of words at work", beside, alone, note)

        measured, _ = await _in_turns(bench, backend, FAN_OUT, count // 2, batch=0)
        yield Row(f"{backend.name}, {FAN_OUT.name}", measured, limit)
        for load in (ONE_PAIR, ONE_LANE):
            measured, commits = await _in_turns(bench, backend, load, count // 8, batch=1)
            name, note = f"{backend.name}, {load.name}", "raw: one message per synced commit"
            if load is ONE_PAIR and backend.name in ONE_BY_ONE:
                yield at_least(ONE_BY_ONE[backend.name], name, measured, commits, note)
            else:
                yield Row(name, measured, commits, note=note)


async def _in_turns(bench: Bench, backend: Backend, load: Load, count: int, *, batch: int) -> tuple[Figure, Figure]:
    """The SDK's rate and the driver's, which take turns; without a batch only the first.

    The driver stores rows as they are born: a store from which nobody took anything has them.
    """
    measured, limits = [], []
    async with backend.fresh() as raw_url:
        if batch:
            await fill(raw_url, load, count)
        for _ in range(bench.repetitions):
            measured.append(await _once(backend, load, count, nothing))
            if batch:
                limits.append(await restore_rate(raw_url, load.rounded(count), batch))
    return rate(measured), rate(limits)


async def _beside_the_index(bench: Bench, backend: Backend, count: int) -> tuple[Figure, Figure]:
    """The rates while the index takes in whatever is behind, as much as it ever does beside traffic, and while not."""
    beside, alone = [], []
    for _ in range(bench.repetitions):
        with patch.multiple(indexing, PAUSE=0.01, ENOUGH=1, FAR=1):
            beside.append(await _once(backend, PAIRS, count, nothing))
        with patch.object(indexing, "PAUSE", 3_600.0):
            alone.append(await _once(backend, PAIRS, count, nothing))
    return rate(beside), rate(alone)


async def _once(backend: Backend, load: Load, count: int, handler: Handler) -> float:
    async with backend.fresh() as url:
        return await run(url, load, count, handler)


async def _burn(message: dict[str, Any], context: MessageContext) -> None:
    until = time.thread_time() + BURN
    while time.thread_time() < until:
        pass
