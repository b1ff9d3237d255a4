"""Wake-up: a message is stored here, and its handler starts in another process, which was idle."""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg

from .harness import Bench, Figure, Row, below, percentile, rate
from .team import started
from .worker import worker

LIMITS = {"SQLite": {0.5: 5.0, 0.99: 50.0}, "PostgreSQL": {0.5: 5.0}}
"""Milliseconds by percentile."""
IDLE_LIMITS = {"SQLite": 0.3}
"""Percent of a core."""
MESSAGES = 300
ABANDONED = 50
"""Asks that are given up."""
STREAMS, PARTS = 30, 20_000
"""Answers in parts, and the parts of one that is measured as a whole."""
PAUSE = 0.03
"""Seconds between messages, on average: both processes are idle again by then."""

Ring = Callable[[], Awaitable[float]]
"""Rings once by what the machine or the server has; answers the seconds until it was heard."""


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """Times of wake-ups, one after the other, and what waiting for them costs."""
    count = bench.count(MESSAGES, least=5)
    for backend in bench.backends:
        ringing, what = RAW[backend.name]
        async with backend.fresh() as url:
            async with ringing(url) as ring:
                waits, raw, idle = await _wake(url, count, bench.seconds(10, least=2), ring)
            told = await _give_up(url, bench.count(ABANDONED, least=3))
            firsts, rates = await _read_parts(url, bench.count(STREAMS, least=3), bench.count(PARTS, least=100))
        for share, note in ((0.5, f"raw: {what}"), (0.99, "")):
            name = f"{backend.name}, p{share * 100:.0f} of {count}"
            measured, limit = percentile(waits, share), LIMITS[backend.name].get(share)
            if limit is None:
                yield Row(name, measured, percentile(raw, share), note=note)
            else:
                yield below(limit, name, measured, percentile(raw, share), note)
        name = f"{backend.name}, a run told that its asker gave up, p50"
        yield Row(name, percentile(told, 0.5), percentile(waits, 0.5), note="raw: a wake-up, p50")
        name = f"{backend.name}, the first part of an answer, p50"
        yield Row(name, percentile(firsts, 0.5), percentile(waits, 0.5), note="raw: a wake-up, p50")
        yield Row(f"{backend.name}, parts of one answer", rate(rates), note="sent without a pause, and read")
        name, used = f"{backend.name}, processor time while idle", Figure((idle * 100,), "%")
        if backend.name in IDLE_LIMITS:
            yield below(IDLE_LIMITS[backend.name], name, used)
        else:
            yield Row(name, used, note="of the process; that of the server is not in it")


async def _wake(url: str, count: int, idle_seconds: float, ring: Ring) -> tuple[list[float], list[float], float]:
    """Seconds from the end of `send` to the handler's start, those of the raw ring, and what the idle process used.

    The last is a share of a core.
    """
    async with started(url, ["sender", "elsewhere"]) as sdk, worker(url, "elsewhere") as other:
        await sdk.wait_until_served("elsewhere")
        waits, rings = [], []
        for number in range(-1, count):
            await asyncio.sleep(_pause())
            await sdk.one_way.send("sender", "elsewhere", {"number": number, "hang": False})
            stored = time.monotonic()
            began = await other.next()
            await asyncio.sleep(_pause())
            rung = await ring()
            if number >= 0:  # the first one warms up
                waits.append(began["at"] - stored)
                rings.append(rung)
        await asyncio.sleep(0.5)
        before, since = await other.cpu(), time.monotonic()
        await asyncio.sleep(idle_seconds)
        return waits, rings, (await other.cpu() - before) / (time.monotonic() - since)


async def _give_up(url: str, count: int) -> list[float]:
    """Seconds from the cancellation of an ask until its run, in another process, is told of it."""
    async with started(url, ["asker", "working"]) as sdk, worker(url, "working") as other:
        await sdk.wait_until_served("working")
        waits = []
        for number in range(count):
            message = {"number": number, "hang": True}
            asking = asyncio.create_task(sdk.conversation.send_and_wait("asker", "working", message, timeout=60.0))
            await other.next()
            await asyncio.sleep(_pause())
            cancelled = time.monotonic()
            asking.cancel()
            waits.append((await other.next())["told"] - cancelled)
            await asyncio.wait({asking})
        return waits


async def _read_parts(url: str, count: int, parts: int) -> tuple[list[float], list[float]]:
    """Seconds from a part's sending in another process until it is read here; and parts of one answer in a second."""
    async with started(url, ["asker", "telling"]) as sdk, worker(url, "telling") as other:
        await sdk.wait_until_served("telling")
        firsts: list[float] = []
        rates: list[float] = []
        for number, most in enumerate([1] * count + [parts] * 3):
            await asyncio.sleep(_pause())
            message = {"number": number, "hang": False, "parts": most}
            since = time.monotonic()
            stream = sdk.conversation.ask("asker", "telling", message, timeout=60.0)
            ways = [time.monotonic() - part["at"] async for part in stream]
            if most == 1:
                firsts += ways
            else:
                rates.append(most / (time.monotonic() - since))
            await other.next()
        return firsts, rates


_ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
while True:
    data, sender = s.recvfrom(64)
    s.sendto(data, sender)
"""


@asynccontextmanager
async def _datagrams(url: str) -> AsyncIterator[Ring]:
    """Round trips of a datagram to an echoing process."""
    with (
        subprocess.Popen([sys.executable, "-c", _ECHO], stdout=subprocess.PIPE, text=True) as process,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine,
    ):
        assert process.stdout is not None
        port = int(await asyncio.to_thread(process.stdout.readline))
        mine.settimeout(5)

        async def ring() -> float:
            began = time.perf_counter()
            mine.sendto(b"ring", ("127.0.0.1", port))
            mine.recv(64)
            return time.perf_counter() - began

        try:
            yield ring
        finally:
            process.kill()


@asynccontextmanager
async def _notifications(url: str) -> AsyncIterator[Ring]:
    """From a NOTIFY on one connection until it is heard on another."""
    heard: asyncio.Queue[float] = asyncio.Queue()
    listening, ringing = await asyncpg.connect(url), await asyncpg.connect(url)
    try:
        await listening.add_listener("bench", lambda *_: heard.put_nowait(time.perf_counter()))

        async def ring() -> float:
            began = time.perf_counter()
            await ringing.execute("notify bench")
            return await heard.get() - began

        yield ring
    finally:
        await listening.close()
        await ringing.close()


RAW = {
    "SQLite": (_datagrams, "a UDP datagram to another process and back"),
    "PostgreSQL": (_notifications, "NOTIFY, until it is heard on another connection"),
}


def _pause() -> float:
    return random.uniform(0.5, 1.5) * PAUSE
