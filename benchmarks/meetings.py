"""Meetings: many at once, everybody takes every turn; from the end of `speak` until the next one has the turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from agent_messaging import AgentMessaging

from .harness import Bench, Figure, Row, below, percentile
from .stores import Backend
from .team import started

MEETINGS = 200
PARTICIPANTS = 5
ROUNDS = 2
LIMIT = 20.0
"""Milliseconds, p50."""
PATIENCE = 120.0


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """Hand-over of turns within one process, and between two."""
    for backend in bench.backends:
        count = bench.count(MEETINGS, least=4)
        for processes in (1, 2):
            times, elapsed, turns = await _hold(backend, count, processes)
            where = "one process" if processes == 1 else "two processes"
            name = f"{backend.name}, {count} meetings of {PARTICIPANTS}, {where}"
            yield below(LIMIT, f"{name}, hand-over p50", percentile(times, 0.5))
            yield Row(f"{name}, hand-over p99", percentile(times, 0.99))
            yield Row(f"{name}, turns", Figure((turns / elapsed,), "/s"))


async def _hold(backend: Backend, count: int, processes: int) -> tuple[list[float], float, int]:
    """Seconds of each hand-over, those of all, and the number of turns taken."""
    agents = [f"agent-{n}" for n in range(PARTICIPANTS)]
    async with backend.fresh() as url, started(url, agents) as first:
        if processes == 1:
            return await _play(first, first, count, agents)
        # A second SDK object has a presence of its own, and hears of turns only as another process does.
        async with started(url, agents) as second:
            return await _play(first, second, count, agents)


async def _play(
    first: AgentMessaging[Any], second: AgentMessaging[Any], count: int, agents: list[str]
) -> tuple[list[float], float, int]:
    meetings: list[UUID] = []
    for _ in range(count):
        id = await first.meeting.create_meeting(agents[0], agents[1:], turn_duration=600)
        for number, agent in enumerate(agents[1:], 1):
            await (second if number % 2 else first).meeting.attend_meeting(agent, id)
        meetings.append(id)
    called: dict[tuple[UUID, int], float] = {}
    spoken: dict[tuple[UUID, int], float] = {}

    async def take_part(id: UUID, number: int) -> None:
        sdk = second if number % 2 else first
        for _ in range(ROUNDS):
            turn = await sdk.meeting.wait_for_turn(agents[number], id, timeout=PATIENCE)
            assert turn.number is not None
            called[id, turn.number] = time.perf_counter()
            await sdk.meeting.speak(agents[number], id, {"turn": turn.number}, turn=turn)
            spoken[id, turn.number] = time.perf_counter()

    waiting = [asyncio.create_task(take_part(id, number)) for id in meetings for number in range(PARTICIPANTS)]
    began = time.perf_counter()
    await asyncio.gather(*(first.meeting.start_meeting(agents[0], id) for id in meetings))
    await asyncio.gather(*waiting)
    elapsed = time.perf_counter() - began
    # The next one often has the turn before `speak` has returned to the last one: that is no time at all.
    times = [max(0.0, at - spoken[id, number - 1]) for (id, number), at in called.items() if number > 1]
    return times, elapsed, count * PARTICIPANTS * ROUNDS
