"""Tasks: no-op jobs put, claimed and settled; here what others do on the same PostgreSQL.

A peer puts its jobs as the load says, by so many callers at once or many in one call, and a worker of the same process
runs them meanwhile, 64 at a time. A rate is counted from the first call until the last job is settled.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import asyncpg

from .harness import Bench, Row, rate
from .raw import CONNECTIONS, commit_rate

JOBS = 1_000
AT_ONCE = 64
"""Callers that put one job after the other, and jobs that run at once."""
IN_ONE_CALL = 500
"""Jobs, where many are put together."""

Peer = Callable[[str, int, int], Awaitable[float]]
"""The rate of so many jobs on the store at this URL, so many of them put in one call."""


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """Rates of the peers that are installed; the others say that they are absent."""
    for backend in bench.backends:
        if backend.name != "PostgreSQL":
            continue
        count = bench.count(JOBS, least=AT_ONCE)
        for name, measured in PEERS.items():
            for together, how in ((1, f"{AT_ONCE} callers"), (IN_ONE_CALL, f"{IN_ONE_CALL} in one call")):
                title = f"PostgreSQL, no-op jobs of {name}, {how}"
                if importlib.util.find_spec(name) is None:
                    yield Row(title, None, note=f"absent: {name} is not installed")
                    continue
                rates, commits = [], []
                for _ in range(min(3, bench.repetitions)):
                    async with backend.fresh() as url:
                        rates.append(await measured(url, count, together))
                        commits.append(await commit_rate(url, count))
                note = f"raw: one row per synced commit, {CONNECTIONS} connections"
                yield Row(title, rate(rates), rate(commits), note=note)


async def _put(count: int, together: int, put: Callable[[int], Awaitable[object]]) -> None:
    """Put so many jobs, by callers at once that take the next ones when their last ones are stored."""
    sizes = iter([together] * (count // together) + [count % together] * (count % together > 0))

    async def caller() -> None:
        for size in sizes:
            await put(size)

    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))


async def _until_settled(left: Callable[[], Awaitable[int]], worker: asyncio.Task[None]) -> None:
    while await left():
        if worker.done():
            await worker
            raise RuntimeError("the worker ended before its jobs")
        await asyncio.sleep(0.01)


async def _pgqueuer(url: str, count: int, together: int) -> float:
    import pgqueuer

    pool = await asyncpg.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS)
    listening = await asyncpg.connect(url)
    queries = pgqueuer.Queries(pgqueuer.AsyncpgPoolDriver(pool))
    await pgqueuer.Queries(pgqueuer.AsyncpgDriver(listening)).install()
    manager = pgqueuer.QueueManager(queries)

    @manager.entrypoint("nothing")
    async def nothing(job: Any) -> None:
        pass

    working = asyncio.create_task(manager.run(batch_size=AT_ONCE, max_concurrent_tasks=2 * AT_ONCE))
    try:

        async def put(size: int) -> object:
            if size == 1:
                return await queries.enqueue("nothing", b"{}")
            return await queries.enqueue(["nothing"] * size, [b"{}"] * size, [0] * size)

        began = time.perf_counter()
        await _put(count, together, put)
        await _until_settled(lambda: listening.fetchval("select count(*) from pgqueuer"), working)
        return count / (time.perf_counter() - began)
    finally:
        manager.shutdown.set()
        await working
        await listening.close()
        await pool.close()


async def _procrastinate(url: str, count: int, together: int) -> float:
    import procrastinate

    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    connector = procrastinate.PsycopgConnector(conninfo=url, min_size=CONNECTIONS, max_size=CONNECTIONS)
    app = procrastinate.App(connector=connector)

    @app.task(name="nothing")
    async def nothing() -> None:
        pass

    listening = await asyncpg.connect(url)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        working = asyncio.create_task(
            app.run_worker_async(concurrency=AT_ONCE, install_signal_handlers=False, delete_jobs="never")
        )
        try:

            async def put(size: int) -> object:
                if size == 1:
                    return await nothing.defer_async()
                return await nothing.batch_defer_async(*[{}] * size)

            began = time.perf_counter()
            await _put(count, together, put)
            query = "select count(*) from procrastinate_jobs where status <> 'succeeded'"
            await _until_settled(lambda: listening.fetchval(query), working)
            return count / (time.perf_counter() - began)
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
            await listening.close()


PEERS: dict[str, Peer] = {"pgqueuer": _pgqueuer, "procrastinate": _procrastinate}
