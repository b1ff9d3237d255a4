"""A worker process for `agent-messaging run tests.processes.jobs:sdk`; it writes each beginning and end to a ledger."""

from __future__ import annotations

import asyncio
import json
import os
import time

from agent_messaging import AgentMessaging, Config, TaskContext

WORKER = os.environ["JOBS_WORKER"]
sdk = AgentMessaging(Config(url=os.environ["JOBS_URL"], database={"lease": 10.0, "min_pool_size": 1}))
ledger = os.open(os.environ["JOBS_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def record(event: str, job: int, context: TaskContext) -> None:
    """One line, in one write: those of several processes are never mixed."""
    line = {"event": event, "job": job, "attempt": context.attempt, "pid": os.getpid(), "at": time.monotonic()}
    os.write(ledger, (json.dumps(line | {"worker": WORKER}) + "\n").encode())


@sdk.register_task_handler(WORKER, capabilities=["job"], max_concurrent_tasks=int(os.environ["JOBS_CAPACITY"]))
async def work(job: int, context: TaskContext) -> dict[str, int]:
    record("begin", job, context)
    if job < 0:
        os._exit(1)
    await asyncio.sleep(0.02)
    record("end", job, context)
    return {"job": job, "pid": os.getpid()}
