"""How cost grows: the same work with more senders, agents, stored messages, processes and waiting askers.

`python -m benchmarks --growth FOLDER` prints the tables, and writes a plot of each as SVG, and `growth.json`, to the
folder. Nothing here has a target: a line says more than its ends, and nothing should grow faster than the work.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from agent_messaging import AgentMessaging, MessageContext

from . import machine, mailbox, plot
from .backlog import resident
from .harness import Bench, digits, percentile
from .raw import PAYLOAD
from .stores import Backend
from .team import started

SENDERS = (1, 8, 64, 512)
AGENTS = (1, 10, 100, 1_000)
STORED = (1_000, 10_000, 100_000, 1_000_000)
PROCESSES = (1, 2, 3, 4)
WAITING = (1, 50, 500, 5_000)
NOTES = 6_400
"""Of each rate, and as many calls at once as there are senders, at most."""
PAIRS = 64
ASKS = 300
HELP = "measure how cost grows instead, and write plots and growth.json to this folder"


@dataclass(slots=True)
class Curve:
    """One quantity over another, on each store."""

    name: str
    title: str
    x: str
    y: str
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def add(self, backend: Backend, x: float, y: float) -> None:
        """A point, which is printed as it comes."""
        self.series.setdefault(backend.name, []).append((x, y))
        print(f"  {backend.name:12} {digits(x):>10} {self.x:38} {digits(y):>10} {self.y}")


async def measure(bench: Bench, folder: Path) -> None:
    """Measure all curves, and write them."""
    folder.mkdir(parents=True, exist_ok=True)
    curves: list[Curve] = []
    watch = machine.Watch(bench.backends)
    for family in (_senders, _agents, _stored, _processes, _waiting):
        async for curve in family(bench):
            curves.append(curve)
            drawn = plot.draw(curve.title, curve.x, curve.y, curve.series)
            (folder / f"{curve.name}.svg").write_text(drawn, encoding="utf-8")
    memory = await _memory(bench)
    bench.facts["during"] = machine.said(watch.others())
    content = {
        "machine": bench.facts,
        "curves": [
            {"name": one.name, "title": one.title, "x": one.x, "y": one.y, "series": one.series} for one in curves
        ],
        "memory": memory,
    }
    (folder / "growth.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# --- senders, agents, stored messages ---------------------------------------------------------------------------------


def _sizes(bench: Bench, every: tuple[int, ...]) -> tuple[int, ...]:
    """Those of a run; of one that is only to see whether it works the first two."""
    return every if bench.scale >= 0.01 else every[:2]


async def _senders(bench: Bench) -> AsyncIterator[Curve]:
    rates = Curve("senders-rate", "Notes, sent until settled", "senders at once, each to its own agent", "notes / s")
    tails = Curve("senders-p99", "From the call until the handler", "senders at once, each to its own agent", "ms, p99")
    print(f"\n{rates.title}")
    for backend in bench.backends:
        for size in _sizes(bench, SENDERS):
            count = bench.count(NOTES if size > 1 else NOTES // 8, least=size)
            rate, tail = await _send_repeatedly(bench, backend, size, size, count)
            rates.add(backend, size, rate)
            tails.add(backend, size, tail)
    yield rates
    yield tails


async def _agents(bench: Bench) -> AsyncIterator[Curve]:
    curve = Curve("agents-rate", "Notes to agents that one process serves", "agents served", "notes / s")
    print(f"\n{curve.title}")
    for backend in bench.backends:
        for size in _sizes(bench, AGENTS):
            rate, _ = await _send_repeatedly(bench, backend, PAIRS, size, bench.count(NOTES, least=PAIRS))
            curve.add(backend, size, rate)
    yield curve


async def _stored(bench: Bench) -> AsyncIterator[Curve]:
    rates = Curve("stored-rate", "Notes in a store that has many", "messages stored before", "notes / s")
    pages = Curve("stored-page", "A page of 100 unread of a mailbox", "messages in the mailbox", "ms, p99")
    print(f"\n{rates.title}")
    for backend in bench.backends:
        for size in sorted({bench.count(stored, least=200) for stored in STORED}):
            async with backend.fresh() as url:
                await mailbox.fill_mailbox(url, size)
                rate, _ = await send(url, PAIRS, PAIRS, bench.count(NOTES, least=PAIRS))
                rates.add(backend, size, rate)
                async with started(url, []) as sdk:
                    taken = []
                    for _ in range(bench.count(200, least=5)):
                        began = time.perf_counter()
                        await sdk.one_way.get_received_messages("full", include_read=False, limit=mailbox.PAGE)
                        taken.append(time.perf_counter() - began)
                pages.add(backend, size, percentile(taken, 0.99).median)
    yield rates
    yield pages


async def _send_repeatedly(
    bench: Bench, backend: Backend, senders: int, recipients: int, count: int
) -> tuple[float, float]:
    """The median rate, and the median of the p99 in milliseconds, of notes in fresh stores."""
    rates, tails = [], []
    for _ in range(min(3, bench.repetitions)):
        async with backend.fresh() as url:
            rate, waits = await send(url, senders, recipients, count)
        rates.append(rate)
        tails.append(percentile(waits, 0.99).median)
    return median(rates), median(tails)


async def send(url: str, senders: int, recipients: int, count: int) -> tuple[float, list[float]]:
    """Notes of so many senders at once to so many agents served here; the rate, and seconds from call to handler."""
    # Other names than those of `team.Load`, whose messages may be in the store already.
    callers = [f"caller-{number}" for number in range(senders)]
    served = [f"served-{number}" for number in range(recipients)]
    each = max(1, count // senders)
    began: dict[str, float] = {}
    waits: list[float] = []
    everything = asyncio.Event()

    async def handle(message: dict[str, Any], context: MessageContext) -> None:
        waits.append(time.perf_counter() - began.pop(f"{context.sender_id} {message['number']}"))
        if len(waits) == each * senders:
            everything.set()

    async with started(url, [*callers, *served]) as sdk:
        for agent in served:
            sdk.register_handler(agent)(handle)
        await sdk.wait_until_served(served)
        dice = random.Random(1)

        async def call(place: int) -> str:
            ids: list[str] = []
            for number in range(each):
                recipient = served[place] if senders == recipients else dice.choice(served)
                began[f"{callers[place]} {number}"] = time.perf_counter()
                ids = await sdk.one_way.send(callers[place], recipient, {**PAYLOAD, "number": number})
            return ids[0]

        start = time.perf_counter()
        last = await asyncio.gather(*(call(place) for place in range(senders)))
        await everything.wait()
        await sdk.receipts.wait(last)
        return each * senders / (time.perf_counter() - start), waits


# --- processes --------------------------------------------------------------------------------------------------------


async def _processes(bench: Bench) -> AsyncIterator[Curve]:
    curve = Curve("processes-rate", "Notes of all processes on one store", "processes, 16 pairs each", "notes / s")
    print(f"\n{curve.title}")
    for backend in bench.backends:
        for size in _sizes(bench, PROCESSES):
            async with backend.fresh() as url, AsyncExitStack() as stack:
                async with started(url, []):
                    pass
                count = bench.count(NOTES, least=64) // size
                processes = [await _sender(stack, url, number, count) for number in range(size)]
                for process in processes:
                    await _line(process)  # it is ready
                for process in processes:
                    assert process.stdin is not None
                    process.stdin.write(b"\n")
                spans = [await _line(process) for process in processes]
            sent = sum(span["count"] for span in spans)
            elapsed = max(span["end"] for span in spans) - min(span["began"] for span in spans)
            curve.add(backend, size, sent / elapsed)
    yield curve


async def _sender(stack: AsyncExitStack, url: str, number: int, count: int) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", "benchmarks.growth", url, str(number), str(count))
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)

    async def end() -> None:
        if process.returncode is None:
            process.kill()
        await process.wait()

    stack.push_async_callback(end)
    return process


async def _line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 300)
    if not line:
        raise RuntimeError("a sending process ended")
    said: dict[str, Any] = json.loads(line)
    return said


async def _send_here(url: str, number: int, count: int) -> None:
    """What each of the processes does: 16 pairs of its own, when it is told to begin."""
    pairs, handled, everything = 16, 0, asyncio.Event()
    each = max(1, count // pairs)
    senders = [f"sender-{number}-{pair}" for pair in range(pairs)]
    recipients = [f"recipient-{number}-{pair}" for pair in range(pairs)]

    async def handle(message: dict[str, Any], context: MessageContext) -> None:
        nonlocal handled
        handled += 1
        if handled == each * pairs:
            everything.set()

    async with started(url, [*senders, *recipients]) as sdk:
        for recipient in recipients:
            sdk.register_handler(recipient)(handle)
        await sdk.wait_until_served(recipients)
        print(json.dumps({"ready": True}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)

        async def call(pair: int) -> None:
            for one in range(each):
                await sdk.one_way.send(senders[pair], recipients[pair], {**PAYLOAD, "number": one})

        began = time.monotonic()
        await asyncio.gather(*(call(pair) for pair in range(pairs)))
        await everything.wait()
        print(json.dumps({"count": each * pairs, "began": began, "end": time.monotonic()}), flush=True)


# --- waiting askers, memory -------------------------------------------------------------------------------------------


async def _waiting(bench: Bench) -> AsyncIterator[Curve]:
    curve = Curve("waiting-ask", "One ask while others wait for answers", "askers that wait meanwhile", "ms, p50")
    print(f"\n{curve.title}")
    for backend in bench.backends:
        for size in sorted({bench.count(waiting) for waiting in WAITING}):
            async with backend.fresh() as url, _Waiters(url, size) as sdk:
                taken = []
                for _ in range(bench.count(ASKS, least=5)):
                    began = time.perf_counter()
                    await sdk.conversation.send_and_wait("asker", "responder", PAYLOAD)
                    taken.append(time.perf_counter() - began)
            curve.add(backend, size, percentile(taken, 0.5).median)
    yield curve


class _Waiters:
    """An SDK in which so many askers wait for an agent that never answers, and two agents that ask and answer."""

    def __init__(self, url: str, number: int) -> None:
        self.number = number
        self.askers = [f"waiting-{one}" for one in range(number)]
        self.opening = started(url, [*self.askers, "silent", "asker", "responder"])
        self.tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> AgentMessaging[Any]:
        self.sdk = await self.opening.__aenter__()

        async def answer(message: dict[str, Any], context: MessageContext) -> dict[str, Any]:
            return {"text": message["text"]}

        self.sdk.register_handler("responder")(answer)
        await self.sdk.wait_until_served("responder")
        ask = self.sdk.conversation.send_and_wait
        self.tasks = [
            asyncio.create_task(ask(one, "silent", PAYLOAD, timeout=600, require_handler=False)) for one in self.askers
        ]
        engine = self.sdk._started()  # type: ignore[attr-defined]
        while len(engine.asks.waiters) < self.number or not engine.outbox.is_idle:
            await asyncio.sleep(0.02)
        return self.sdk

    async def __aexit__(self, *error: object) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.opening.__aexit__(None, None, None)


async def _memory(bench: Bench) -> list[dict[str, Any]]:
    """MiB of a fresh process in each state, in one after the other."""
    print("\nMemory of a process (MiB; KiB for each waiting asker)")
    rows = []
    for backend in bench.backends:
        async with backend.fresh() as url:
            command = (sys.executable, "-m", "benchmarks.growth", url, "memory", str(bench.count(NOTES, least=PAIRS)))
            process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
            output, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"the process that was to be measured ended with {process.returncode}")
        row = {"store": backend.name, **json.loads(output)}
        print("  " + ", ".join(f"{name} {digits(value) if name != 'store' else value}" for name, value in row.items()))
        rows.append(row)
    return rows


async def _measure_memory(url: str, count: int) -> None:
    imported = resident()
    async with started(url, ["alice"]):
        idle = resident()
    await send(url, PAIRS, PAIRS, count)
    busy = resident()
    waiting = max(20, count // 2)
    async with _Waiters(url, waiting):
        each = (resident() - busy) * 1_024 / waiting
    print(json.dumps({"imported": imported, "idle": idle, "busy": busy, "each waiting": max(0.0, each)}))


if __name__ == "__main__":
    url, what, count = sys.argv[1:]
    asyncio.run(_measure_memory(url, int(count)) if what == "memory" else _send_here(url, int(what), int(count)))
