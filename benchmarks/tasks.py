"""Tasks: no-op tasks put, claimed and settled, beside what others do on the same PostgreSQL.

Everybody puts its jobs as the load says, by so many callers at once or many in one call, and a worker of the same
process runs them meanwhile, 64 at a time. A rate is counted from the first call until the last job is settled.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import asyncpg

from agent_messaging import AgentMessaging, Config, TaskContext

from .harness import Bench, Row, at_least, rate
from .raw import CONNECTIONS, commit_rate

JOBS = 1_000
AT_ONCE = 64
"""Callers that put one job after the other, and jobs that run at once."""
IN_ONE_CALL = 500
"""Jobs, where many are put together."""

Peer = Callable[[str, int, int], Awaitable[float]]
"""The rate of so many jobs on the store at this URL, so many of them put in one call."""


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """The SDK's rates, beside those of the peers that are installed; the others say that they are absent."""
    count = bench.count(JOBS, least=AT_ONCE)
    for backend in bench.backends:
        peers = {name: peer for name, peer in PEERS.items() if importlib.util.find_spec(name) is not None}
        if backend.name != "PostgreSQL":
            peers = {}
        for together, how in ((1, f"{AT_ONCE} callers"), (IN_ONE_CALL, f"{IN_ONE_CALL} in one call")):
            rates: dict[str, list[float]] = {}
            for _ in range(min(3, bench.repetitions)):
                for name, measured in {"the SDK": _own, **peers, "commits": _commits}.items():
                    async with backend.fresh() as url:
                        rates.setdefault(name, []).append(await measured(url, count, together))
            mine, commits = rate(rates.pop("the SDK")), rate(rates.pop("commits"))
            title = f"{backend.name}, no-op tasks, {how}"
            note = "raw: one row per synced commit"
            yield Row(title, mine, commits, note=note)
            for name, theirs in rates.items():
                yield at_least(1.0, f"{title}, beside {name}", mine, rate(theirs), f"peer: {name}, on the same server")
            if backend.name == "PostgreSQL":
                for name in PEERS.keys() - rates.keys():
                    yield Row(f"{title}, beside {name}", None, note=f"absent: {name} is not installed")


async def _own(url: str, count: int, together: int) -> float:
    sdk: AgentMessaging[Any, Any, Any] = AgentMessaging(Config(url=url, log_level="ERROR"))
    done, everything, ids = 0, asyncio.Event(), deque[str](maxlen=AT_ONCE)

    @sdk.register_task_handler("worker", capabilities=["nothing"], max_concurrent_tasks=AT_ONCE)
    async def nothing(payload: dict[str, Any], context: TaskContext) -> None:
        nonlocal done
        done += 1
        if done == count:
            everything.set()

    async with sdk:

        async def put(size: int) -> None:
            if size == 1:
                ids.append(await sdk.tasks.delegate("nothing", {}))
                return
            async for outcome in sdk.tasks.map("nothing", [{}] * size):
                assert outcome.error is None

        began = time.perf_counter()
        await _put(count, together, put)
        await everything.wait()
        await asyncio.gather(*(sdk.tasks.result(id) for id in ids))
        return count / (time.perf_counter() - began)


async def _commits(url: str, count: int, together: int) -> float:
    return await commit_rate(url, count)


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
