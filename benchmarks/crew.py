"""A worker process of the bench of the crew, for `agent-messaging run benchmarks.crew:sdk`."""

from __future__ import annotations

import asyncio
import os

from agent_messaging import AgentMessaging, Config, TaskContext

JOB = 0.5
"""Seconds that a job takes. A process that is killed is back after a second or so: little beside all of them."""

sdk = AgentMessaging(Config(url=os.environ.get("BENCH_URL"), log_level="ERROR"))


@sdk.register_task_handler(f"worker-{os.getpid()}", capabilities=["job"])
async def work(number: int, context: TaskContext) -> int:
    """Take its time, and tell where it was done."""
    await asyncio.sleep(JOB)
    return os.getpid()
