"""Asks: a question stored, handled, its answer stored, and the asker woken; beside commits, and asking in memory."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import asyncpg

from agent_messaging import AgentMessaging, MessageContext, MutualWaitError

from . import peers
from .harness import Bench, Figure, Row, at_least, at_most, below, percentile, rate
from .raw import PAYLOAD, Single, commit_rate
from .stores import Backend
from .team import started

ONE_BY_ONE = 500
AT_ONCE = 100
SIDE_BY_SIDE = 200
MANY = 6_000
WAITING = 5_000
POOL = 5
MOST_COMMITS = {"SQLite": 4.0, "PostgreSQL": 6.0}
"""Raw synced commits that an ask may take, p50."""
BESIDE_MEMORY = 1.0
"""Times the rate of asking in memory, on SQLite."""
OF_RAW_COMMITS = 0.4
"""Share of the rate of single-row commits on 16 connections, on PostgreSQL."""
BYTES = 4_096.0
"""Of each waiting asker."""


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """One ask at a time, 100 at once, circles that are refused, and 5,000 that wait."""
    for backend in bench.backends:
        async for row in _one_by_one(bench, backend):
            yield row
        async for row in _at_once(bench, backend):
            yield row
        async for row in _side_by_side(bench, backend):
            yield row
        async for row in _circles(bench, backend):
            yield row
        async for row in _waiting(bench, backend):
            yield row


async def _one_by_one(bench: Bench, backend: Backend) -> AsyncIterator[Row]:
    count = bench.count(ONE_BY_ONE, least=10)
    name = f"{backend.name}, one ask at a time"
    times, commits = await _take_turns(backend, count)
    p50, raw50 = percentile(times, 0.5), percentile(commits, 0.5)
    note = "raw: one synced commit of one row, into the same store"
    yield at_most(MOST_COMMITS[backend.name], f"{name}, p50 of {count}", p50, raw50, note)
    yield Row(f"{name}, p99", percentile(times, 0.99), percentile(commits, 0.99))
    if backend.name == "SQLite":
        times, commits = await _take_turns(backend, count, aside=".raw")
        note = "raw: one synced commit of one row, into a new file of its own"
        yield Row(
            f"{name}, beside commits of their own, p50", percentile(times, 0.5), percentile(commits, 0.5), note=note
        )


async def _take_turns(backend: Backend, count: int, aside: str = "") -> tuple[list[float], list[float]]:
    """The times of so many asks and as many commits, in turns, so that a busy machine slows both.

    Args:
        backend: The store.
        count: How many.
        aside: Put behind the url of the store for the commits.
    """
    times, commits = [], []
    async with backend.fresh() as url, started(url, ["asker", "responder"]) as sdk:
        sdk.register_handler("responder")(_answer)
        await sdk.wait_until_served("responder")
        connection = await Single.open(url + aside)
        try:
            for number in range(-10, count):
                began = time.perf_counter()
                await sdk.conversation.send_and_wait("asker", "responder", {**PAYLOAD, "number": number})
                asked = time.perf_counter()
                await connection.insert()
                if number >= 0:
                    times.append(asked - began)
                    commits.append(time.perf_counter() - asked)
        finally:
            await connection.close()
    return times, commits


async def _at_once(bench: Bench, backend: Backend) -> AsyncIterator[Row]:
    count = bench.count(MANY, least=AT_ONCE)
    askers, responders = [f"asker-{n}" for n in range(AT_ONCE)], [f"responder-{n}" for n in range(AT_ONCE)]
    mine, memory, inserts, served = [], [], [], []
    for _ in range(bench.repetitions):
        async with backend.fresh() as url, started(url, askers + responders) as sdk:
            for responder in responders:
                sdk.register_handler(responder)(_answer)
            await sdk.wait_until_served(responders)

            async def ask(flow: int, number: int, sdk: AgentMessaging[Any] = sdk) -> None:
                for one in range(number):
                    await sdk.conversation.send_and_wait(askers[flow], responders[flow], {**PAYLOAD, "number": one})

            await asyncio.gather(*(ask(flow, 1) for flow in range(AT_ONCE)))
            began = time.perf_counter()
            await asyncio.gather(*(ask(flow, count // AT_ONCE) for flow in range(AT_ONCE)))
            mine.append(count // AT_ONCE * AT_ONCE / (time.perf_counter() - began))
            inserts.append(await commit_rate(url, count))
        if peers.IS_INSTALLED:
            memory.append(await peers.ask_rate(count, AT_ONCE))
        if (requests := await peers.request_rate(AT_ONCE, count)) is not None:
            served.append(requests)
    measured, name = rate(mine), f"{backend.name}, {AT_ONCE} asks at once"
    alone = "raw: one row per synced commit" + ("" if backend.name == "SQLite" else ", 16 connections")
    beside = "peer: autogen-core's send_message, in memory, in one process"
    if backend.name == "SQLite":
        if memory:
            yield at_least(BESIDE_MEMORY, f"{name}, beside memory", measured, rate(memory), beside)
        yield Row(f"{name}, beside commits", measured, rate(inserts), note=alone)
    else:
        yield at_least(OF_RAW_COMMITS, f"{name}, beside commits", measured, rate(inserts), alone)
        if memory:
            yield Row(f"{name}, beside memory", measured, rate(memory), note=beside)
    if not memory:
        yield Row(f"{name}, beside memory", None, note="absent: autogen-core is not installed")
    if served:
        yield Row(
            f"{name}, beside NATS", measured, rate(served), note="peer: requests through its server; nothing stored"
        )
    else:
        yield Row(f"{name}, beside NATS", None, note=peers.NO_NATS)


async def _side_by_side(bench: Bench, backend: Backend) -> AsyncIterator[Row]:
    """One pair with many questions open at once, each in a thread of its own; beside as many pairs."""
    count = bench.count(MANY, least=SIDE_BY_SIDE)
    askers, responders = ([f"{role}-{n}" for n in range(SIDE_BY_SIDE)] for role in ("asker", "responder"))
    pair, pairs = [], []
    for _ in range(bench.repetitions):
        for flows, figures in (
            ([("asker-0", "responder-0")], pair),
            (list(zip(askers, responders, strict=True)), pairs),
        ):
            agents = [agent for flow in flows for agent in flow]
            settings = {"handler_concurrency": SIDE_BY_SIDE}
            async with backend.fresh() as url, started(url, agents, **settings) as sdk:
                for _, responder in flows:
                    sdk.register_handler(responder)(_answer)
                await sdk.wait_until_served([responder for _, responder in flows])

                async def ask(flow: int, number: int, sdk: AgentMessaging[Any] = sdk, flows: Any = flows) -> None:
                    asker, responder = flows[flow % len(flows)]
                    for one in range(number):
                        message = {**PAYLOAD, "number": one}
                        await sdk.conversation.send_and_wait(asker, responder, message, thread=f"thread {flow}")

                await asyncio.gather(*(ask(flow, 1) for flow in range(SIDE_BY_SIDE)))
                began = time.perf_counter()
                await asyncio.gather(*(ask(flow, count // SIDE_BY_SIDE) for flow in range(SIDE_BY_SIDE)))
                figures.append(count // SIDE_BY_SIDE * SIDE_BY_SIDE / (time.perf_counter() - began))
    name = f"{backend.name}, {SIDE_BY_SIDE} asks at once in threads of one pair"
    yield Row(name, rate(pair), rate(pairs), note="beside: as many between as many pairs")


async def _circles(bench: Bench, backend: Backend) -> AsyncIterator[Row]:
    """Agents without handlers, each waiting for the next; the last one would close the circle."""
    for size in (3, 10):
        agents = [f"agent-{n}" for n in range(size)]
        times = []
        async with backend.fresh() as url, started(url, agents) as sdk:
            for _ in range(bench.count(40, least=2)):
                asks = []
                for first, second in pairwise(agents):
                    asks.append(asyncio.create_task(_ask_anybody(sdk, first, second)))
                    while not (await sdk.conversation.get_active_sessions(first)):
                        await asyncio.sleep(0)
                await _until_all_wait(sdk, agents[:-1])
                began = time.perf_counter()
                refusal = await _refusal(sdk, agents[-1], agents[0])
                times.append(time.perf_counter() - began)
                assert len(refusal.path) == size + 1, refusal.path
                for first, second in pairwise(agents):
                    await sdk.conversation.end_conversation(first, second)
                await asyncio.gather(*asks, return_exceptions=True)
        yield Row(f"{backend.name}, a circle of {size} is refused, p50", percentile(times, 0.5))


async def _refusal(sdk: AgentMessaging[Any], asker: str, responder: str) -> MutualWaitError:
    try:
        await _ask_anybody(sdk, asker, responder)
    except MutualWaitError as error:
        return error
    raise RuntimeError("the circle was not refused")


async def _ask_anybody(sdk: AgentMessaging[Any], asker: str, responder: str) -> Any:
    return await sdk.conversation.send_and_wait(asker, responder, PAYLOAD, timeout=60, require_handler=False)


async def _until_all_wait(sdk: AgentMessaging[Any], agents: list[str]) -> None:
    for agent in agents:
        while not any(one.locked_by == agent for one in await sdk.conversation.get_active_sessions(agent)):
            await asyncio.sleep(0)


async def _waiting(bench: Bench, backend: Backend) -> AsyncIterator[Row]:
    count = bench.count(WAITING, least=20)
    askers = [f"asker-{n}" for n in range(count)]
    async with backend.fresh() as url, started(url, [*askers, "responder"], pool=POOL) as sdk:
        await sdk.conversation.send_no_wait(askers[0], "responder", PAYLOAD)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        waiting = [asyncio.create_task(_ask_anybody(sdk, asker, "responder")) for asker in askers]
        while len(sdk._started().asks.waiters) < count or not sdk._started().outbox.is_idle:  # type: ignore[attr-defined]
            await asyncio.sleep(0.05)
        each = (tracemalloc.get_traced_memory()[0] - before) / count
        tracemalloc.stop()
        connections = None if backend.name == "SQLite" else await _connections(url)
        began = time.perf_counter()
        await asyncio.gather(*(sdk.conversation.reply("responder", asker, {"yes": True}) for asker in askers))
        await asyncio.gather(*waiting)
        released = time.perf_counter() - began
    note = "with the task and the coroutine of its caller"
    yield below(BYTES, f"{backend.name}, memory of each of {count:,} waiting askers", Figure((each,), "B"), note=note)
    yield Row(f"{backend.name}, {count:,} waiting askers, all answered", Figure((released,), "s"))
    if connections is not None:
        name = f"{backend.name}, {count:,} waiting askers, a pool of {POOL}"
        note = "the pool's, one that listens, one that keeps the presence"
        yield below(POOL + 2, name, Figure((connections,), "connections"), note=note)


async def _connections(url: str) -> int:
    """Those of the SDK to its database."""
    connection = await asyncpg.connect(url)
    try:
        query = (
            "select count(*) - 1 from pg_stat_activity where datname = current_database() and client_port is not null"
        )
        return int(await connection.fetchval(query))
    finally:
        await connection.close()


async def _answer(message: dict[str, Any], context: MessageContext) -> dict[str, Any]:
    return {"text": message["text"]}
