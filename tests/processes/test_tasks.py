"""Two hundred jobs, three worker processes, one killed in the middle: all done once, by all three."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_messaging import AgentMessaging, Config, TaskFailedError
from agent_messaging.models import TaskState
from tests.fixtures.redis import RedisServer
from tests.processes.harness import ROOT, SEED
from tests.support import eventually

JOBS = 200
CAPACITY = 2
WORKERS = ("one", "two", "three")


class Crew:
    """Worker processes, and what they wrote."""

    def __init__(self, place: dict[str, str], folder: Path) -> None:
        self.place = place
        self.folder = folder
        self.ledger = folder / "ledger.jsonl"
        self.ledger.touch()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, worker: str, capacity: int = CAPACITY) -> None:
        command = [sys.executable, "-m", "agent_messaging.cli.entry", "run", "tests.processes.jobs:sdk"]
        given = {
            **self.place,
            "JOBS_LEDGER": str(self.ledger),
            "JOBS_WORKER": worker,
            "JOBS_CAPACITY": str(capacity),
        }
        with (self.folder / f"{worker}.txt").open("wb") as output:
            self.processes[worker] = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | given, stdout=output, stderr=subprocess.STDOUT
            )

    def lines(self) -> list[dict[str, Any]]:
        """What was written, in order; a last line that is not whole is not there yet."""
        return [json.loads(line) for line in self.ledger.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def end(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def place(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of worker processes: on Redis their tasks are there, and their messages in SQLite."""
    if request.param == "postgres":
        return {"JOBS_URL": request.getfixturevalue("postgres_dsn")}
    url = f"sqlite:///{request.getfixturevalue('sqlite_path')}"
    if request.param == "sqlite":
        return {"JOBS_URL": url}
    return {"JOBS_URL": url, "REDIS_URL": request.getfixturevalue("syncing_redis").url}


@pytest.fixture
def syncing_redis(own_redis: Callable[..., RedisServer]) -> RedisServer:
    """A server that loses nothing that it has acknowledged, when it is killed."""
    return own_redis("--appendonly", "yes", "--appendfsync", "always")


def supervisor(place: dict[str, str]) -> AgentMessaging:
    """The SDK object that hands out."""
    coordination = {"redis_url": place["REDIS_URL"]} if "REDIS_URL" in place else {}
    settings: dict[str, Any] = {"database": {"lease": 10.0, "min_pool_size": 1}, "coordination": coordination}
    return AgentMessaging(Config(url=place["JOBS_URL"], **settings))


@pytest.mark.sampled(1)
async def test_the_jobs_of_a_killed_worker_are_done_by_the_others(
    place: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """On Redis the server is killed too, before the worker."""
    crew = Crew(place, tmp_path)
    dice = random.Random(SEED)
    try:
        async with supervisor(place) as sdk:
            for worker in WORKERS:
                crew.start(worker)
            await eventually(lambda: sdk.tasks.workers(), 60, until=lambda found: len(found) == len(WORKERS))
            results = asyncio.create_task(gather(sdk))
            if "REDIS_URL" in place:
                server: RedisServer = request.getfixturevalue("syncing_redis")
                await eventually(crew.lines, 60, until=lambda lines: len(lines) >= dice.randint(10, 50))
                await asyncio.to_thread(server.end)
                await asyncio.to_thread(server.start)
            await eventually(crew.lines, 60, until=lambda lines: len(lines) >= dice.randint(60, 160))
            victim = crew.processes["two"]
            victim.kill()
            killed = victim.pid
            outcomes = await asyncio.wait_for(results, 90)

            # Lost none: each job has its one result, which says who did it.
            assert sorted(outcome["job"] for outcome in outcomes) == [*range(JOBS)]
            assert (await sdk.tasks.statistics()).counts == {TaskState.DONE: JOBS}
            done_by = Counter(outcome["pid"] for outcome in outcomes)
            assert set(done_by) == {process.pid for process in crew.processes.values()}
            workers = {worker.worker_id: worker for worker in await sdk.tasks.workers()}
            assert workers["two"].status == "offline"
            assert all(worker.current_tasks == 0 for worker in workers.values())
    finally:
        crew.end()
    judge(crew.lines(), outcomes, killed)


@pytest.mark.sampled(1)
async def test_the_task_that_kills_its_process_is_found(place: dict[str, str], tmp_path: Path) -> None:
    crew = Crew(place, tmp_path)
    try:
        async with supervisor(place) as sdk:
            bystanders = [await sdk.tasks.delegate("job", number, max_attempts=3) for number in range(3)]
            killer = await sdk.tasks.delegate("job", -1, max_attempts=3)
            bystanders += [await sdk.tasks.delegate("job", number, max_attempts=3) for number in range(3, 12)]
            for _ in range(3):
                crew.start("one", capacity=4)
                await asyncio.to_thread(crew.processes["one"].wait, 60)
            with pytest.raises(TaskFailedError, match="process died"):
                await sdk.tasks.result(killer, timeout=60)
            crew.start("one", capacity=4)
            for id in bystanders:
                await sdk.tasks.result(id, timeout=60)
            attempts = Counter([(await sdk.tasks.get(id)).attempt for id in bystanders])
            assert attempts.keys() <= {1, 2}  # the first crash counts for all that ran, the others for the killer
            assert attempts[2] <= 3
    finally:
        crew.end()


async def gather(sdk: AgentMessaging) -> list[Any]:
    outcomes = [outcome async for outcome in sdk.tasks.map("job", range(JOBS), max_attempts=3)]
    assert [outcome.error for outcome in outcomes] == [None] * JOBS
    return [outcome.result for outcome in outcomes]


def judge(lines: list[dict[str, Any]], outcomes: list[Any], killed: int) -> None:
    """The ledger of the workers: a job runs again only where the killed one had it, and nobody has too many at once."""
    began = Counter(line["job"] for line in lines if line["event"] == "begin")
    lost = {line["job"] for line in lines if line["event"] == "begin" and line["pid"] == killed}
    lost -= {outcome["job"] for outcome in outcomes if outcome["pid"] == killed}
    assert {job for job, times in began.items() if times > 1} <= lost
    assert len(lost) <= CAPACITY
    assert all(began[job] == 2 for job in lost)
    at_work: Counter[int] = Counter()
    for line in lines:
        at_work[line["pid"]] += 1 if line["event"] == "begin" else -1
        assert at_work[line["pid"]] <= CAPACITY
    assert {pid: number for pid, number in at_work.items() if number and pid != killed} == {}
