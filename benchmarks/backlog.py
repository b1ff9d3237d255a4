"""A slow agent: sends pile up for a handler of the same process that takes a second for each."""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

from agent_messaging import MessageContext

from .harness import Bench, Figure, Row, at_least, at_most
from .raw import PAYLOAD
from .stores import Backend
from .team import started

SENDERS = 64
WARM_UP = 2_000
CACHES = 48.0
"""MiB that may be taken once, whatever is sent: SQLite's page caches (32 for writing, 2 x 8 for reading)."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What it took to send so many."""

    rate: float
    grown: float
    """MiB of resident memory, after the warm-up."""
    blocks: float
    """Blocks that Python's allocator holds more than after the warm-up, per message."""


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """The rate and the memory of many sends beside those of a tenth as many."""
    many = bench.count(100_000, least=500)
    for backend in bench.backends:
        some, all_of_them = [await _in_own_process(backend, number) for number in (many // 10, many)]
        yield at_least(
            0.5,
            f"{backend.name}, {many:,} sends",
            Figure((all_of_them.rate,), "/s"),
            Figure((some.rate,), "/s"),
            note=f"raw: the rate of {many // 10:,} sends",
        )
        name, note = f"{backend.name}, memory they took", f"{all_of_them.blocks:.2f} more Python objects per message"
        grown, raw = Figure((all_of_them.grown,), "MiB"), Figure((some.grown,), "MiB")
        yield at_most(1, name, grown, raw, note, plus=CACHES)


async def _in_own_process(backend: Backend, count: int) -> Sent:
    """A fresh process, whose memory nothing else has touched."""
    async with backend.fresh() as url:
        command = (sys.executable, "-m", "benchmarks.backlog", url, str(count))
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
        output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the sending process ended with {process.returncode}")
    return Sent(**json.loads(output))


async def _send(url: str, count: int) -> Sent:
    agents = [f"sender-{number}" for number in range(SENDERS)]
    # Closing gives the rest back instead of waiting for the slow agent.
    async with started(url, [*agents, "slow"], mailbox_limit=2 * count + 10_000, drain_timeout=0.0) as sdk:

        @sdk.register_handler("slow")
        async def handle(message: dict[str, Any], context: MessageContext) -> None:
            await asyncio.sleep(1)

        await sdk.wait_until_served("slow")

        async def send(sender: str, number: int) -> None:
            for n in range(number):
                await sdk.one_way.send(sender, "slow", {**PAYLOAD, "number": n})

        async def send_all(number: int) -> None:
            await asyncio.gather(*(send(agent, max(1, number // SENDERS)) for agent in agents))

        await send_all(WARM_UP)
        gc.collect()
        memory, blocks, began = resident(), sys.getallocatedblocks(), time.perf_counter()
        await send_all(count)
        took = time.perf_counter() - began
        gc.collect()
        return Sent(count / took, resident() - memory, (sys.getallocatedblocks() - blocks) / count)


def resident() -> float:
    """MiB; where the system does not tell what is resident now, the most that ever was."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 2**20
    except FileNotFoundError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(_send(sys.argv[1], int(sys.argv[2]))))))
