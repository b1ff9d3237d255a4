"""Topics: what finding one subscriber among ten thousand subscriptions costs, and what publishing to many does."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from agent_messaging import AgentMessaging

from .harness import Bench, Row, below, percentile
from .raw import PAYLOAD
from .rows import copied_id, multiply_rows
from .team import started

SUBSCRIPTIONS = 10_000
"""Of as many agents, to everything of their own, with wildcards in every place."""
PUBLICATIONS = 400
LIMIT = 5.0
"""Milliseconds, p50: to publish among so many."""
CROWDS = (1, 100, 10_000)
TOPICS = {"3 words": "orders.eu.created", "8 words": "orders.eu.de.berlin.mitte.1.2.created"}


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """A publication beside a note that is sent to the same agents; nobody handles either."""
    for backend in bench.backends:
        others = bench.count(SUBSCRIPTIONS, least=100)
        async with backend.fresh() as url, started(url, ["alice", "reader"], mailbox_limit=None) as sdk:
            await _fill(url, others, "of.*.reader-#.>")
            await sdk.topics.subscribe("reader", "orders.>")
            times = bench.count(PUBLICATIONS, least=5)
            notes = await _time(times, lambda number: _send(sdk, ["reader"], number))
            for words, topic in TOPICS.items():
                taken = await _time(times, lambda number, topic=topic: _publish(sdk, topic, number))  # type: ignore[misc]
                name = f"{backend.name}, {others:,} subscriptions, topic of {words}"
                yield below(LIMIT, f"{name}, p50", percentile(taken, 0.5), percentile(notes, 0.5), "beside: a note")
                yield Row(f"{name}, p99", percentile(taken, 0.99), percentile(notes, 0.99))
        for size in sorted({bench.count(crowd) for crowd in CROWDS}):
            async with backend.fresh() as url, started(url, ["alice"], mailbox_limit=None) as sdk:
                await _fill(url, size, "orders.>")
                readers = [f"reader-{number}" for number in range(1, size + 1)]
                times = 3 if size > 1_000 else bench.count(PUBLICATIONS, least=5)
                notes = await _time(times, lambda number, to=readers: _send(sdk, to, number))  # type: ignore[misc]
                taken = await _time(times, lambda number: _publish(sdk, TOPICS["3 words"], number))
                name = f"{backend.name}, publish to {size:,}, p50"
                yield Row(name, percentile(taken, 0.5), percentile(notes, 0.5), note="beside: a note to as many")


async def _time(times: int, call: Callable[[int], Awaitable[object]]) -> list[float]:
    taken = []
    for number in range(times):
        began = time.perf_counter()
        await call(number)
        taken.append(time.perf_counter() - began)
    return taken


async def _send(sdk: AgentMessaging[Any, Any, Any], readers: list[str], number: int) -> None:
    await sdk.one_way.send("alice", readers, {**PAYLOAD, "number": number}, require_handler=False)


async def _publish(sdk: AgentMessaging[Any, Any, Any], topic: str, number: int) -> None:
    assert await sdk.topics.publish("alice", topic, {**PAYLOAD, "number": number})


async def _fill(url: str, count: int, shape: str) -> None:
    """Copies of an agent and of its subscription: by calls it would take a minute."""
    async with started(url, ["reader-0"]) as sdk:
        await sdk.topics.subscribe("reader-0", shape.replace("#", "0"))
    values = {"id": copied_id(url), "external_id": "'reader-' || {number}"}
    await multiply_rows(url, "external_id = 'reader-0'", "external_id", 1, count, values)
    pattern = "'" + shape.replace("#", "' || {number} || '") + "'"
    values = {"agent_id": copied_id(url), "pattern": pattern}
    await multiply_rows(url, f"pattern = '{shape.replace('#', '0')}'", "pattern", 1, count, values)
    async with started(url, []) as sdk:
        await sdk.topics.unsubscribe("reader-0", shape.replace("#", "0"))
