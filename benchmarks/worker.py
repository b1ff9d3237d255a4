"""Another process: it serves agents, reports the start of each run, and can be told to hang in one.

`python -m benchmarks.worker URL AGENT…` prints one JSON object a line: {"ready": true} once it serves, {"agent",
"number", "at"} at the start of each run (CLOCK_MONOTONIC, which all processes of a machine share), {"told"} when a run
that hangs learns that nobody waits for it, and {"cpu"} for each line on its standard input, whose end ends it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from agent_messaging import AgentMessaging, MessageContext


class Worker:
    """The process, as who started it sees it."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def next(self) -> dict[str, Any]:
        """The next thing it says."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), 60)
        if not line:
            raise RuntimeError("the worker process ended")
        said: dict[str, Any] = json.loads(line)
        return said

    async def cpu(self) -> float:
        """Seconds of processor time that it has used so far."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        return float((await self.next())["cpu"])

    async def kill(self) -> tuple[float, float]:
        """End it by SIGKILL; answers when it was sent and when it was over."""
        sent = time.monotonic()
        os.kill(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        return sent, time.monotonic()


@asynccontextmanager
async def worker(url: str, *agents: str) -> AsyncIterator[Worker]:
    """Start one that serves these agents, which exist already; it is gone in the end."""
    command = (sys.executable, "-m", "benchmarks.worker", url, *agents)
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    started = Worker(process)
    try:
        await started.next()
        yield started
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _say(**what: object) -> None:
    print(json.dumps(what), flush=True)


async def _serve(url: str, agents: list[str]) -> None:
    async def handle(message: dict[str, Any], context: MessageContext) -> int | None:
        _say(agent=context.receiver_id, number=message["number"], at=time.monotonic())
        for number in range(message.get("parts", 0)):
            await context.part({"number": number, "at": time.monotonic()})
        if message["hang"]:
            await context.wait_abandoned()
            _say(told=time.monotonic())
        return message.get("parts")

    async with AgentMessaging(url) as sdk:
        for agent in agents:
            sdk.register_handler(agent)(handle)
        await sdk.wait_until_served(agents)
        asked = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
        _say(ready=True)
        while await asked.readline():
            _say(cpu=time.process_time())


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2:]))
