"""Processes of the coordination are killed: no task is lost, none is settled twice, no agent has more than it takes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent_messaging.coordination import AgentRegistry, AgentRole, MessageQueueManager, SupervisorCoordinator
from tests.support import eventually_sync

Start = Callable[..., subprocess.Popen[str]]
each_store = pytest.mark.parametrize("place", ["sqlite", "postgres", "redis"], indirect=True)

WORKER = """
import os, sys, time
from agent_messaging.coordination import AgentRegistry, AgentRole, MessageQueueManager
name = sys.argv[1]
ledger = os.open("ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
registry, queue = AgentRegistry(), MessageQueueManager()
registry.register_agent(name, AgentRole.WORKER, ["python"], max_concurrent_tasks=2)
print("ready", flush=True)
while True:
    for message in queue.get_messages(name, limit=1, block_ms=1000):
        task_id = message.content["task_id"]
        os.write(ledger, f"{task_id} {name}\\n".encode())
        time.sleep(0.02)
        queue.send_message(message.create_response(name, {"task_id": task_id, "status": "completed", "result": name}))
        queue.mark_processed(message.message_id, name)
"""
SUPERVISOR = """
import sys
from agent_messaging.coordination import SupervisorCoordinator
coordinator = SupervisorCoordinator("planner")
print("ready", flush=True)
while True:
    coordinator.assign_task("build", "", {}, ["python"])
"""


@pytest.fixture
def start(surroundings: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Starts programs at the test's place, and kills those that are left."""
    with ExitStack() as stack:

        def run(program: str, *arguments: str, wait: bool = True) -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", program, *arguments],
                    cwd=tmp_path,
                    env={**os.environ, **surroundings, "AGENT_HEARTBEAT_INTERVAL": "0.5"},
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            if wait:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            return process

        yield run


@pytest.mark.sampled(2)
@each_store
def test_a_killed_worker_leaves_its_tasks_to_the_others(
    place: str, start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closing: ExitStack
) -> None:
    monkeypatch.setenv("AGENT_HEARTBEAT_INTERVAL", "0.5")
    supervisor = closing.enter_context(SupervisorCoordinator("planner"))
    workers = [start(WORKER, name, wait=False) for name in ("w1", "w2")]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    task_ids: list[str] = []
    deadline = time.monotonic() + 60
    while True:
        supervisor.process_incoming_messages(100)
        if len(task_ids) < 25:
            task_id = supervisor.assign_task("build", "", {}, ["python"])
            task_ids += [task_id] if task_id else []
        for agent in supervisor.agent_registry.get_all_agents():
            assert agent.current_tasks <= agent.max_concurrent_tasks
        if len(task_ids) == 10 and workers[0].poll() is None:
            workers[0].send_signal(signal.SIGKILL)
            workers[0].wait()
        if len(task_ids) == 25 and not supervisor.active_tasks:
            break
        assert time.monotonic() < deadline, supervisor.active_tasks
    stats = supervisor.get_coordination_stats()
    assert stats["metrics"]["tasks_completed"] == 25
    assert stats["completion_rate"] == 1.0
    runs = Counter(line.split()[0] for line in (tmp_path / "ledger").read_text().splitlines())
    assert runs.keys() == set(task_ids)
    assert sum(runs.values()) <= 25 + 2  # what the killed one had is run again, and nothing else


@each_store
def test_a_killed_supervisor_leaves_no_task_without_its_message(place: str, start: Start, closing: ExitStack) -> None:
    registry = closing.enter_context(AgentRegistry())
    queue = closing.enter_context(MessageQueueManager())
    registry.register_agent("w1", AgentRole.WORKER, ["python"], max_concurrent_tasks=1000)
    process = start(SUPERVISOR)

    def booked() -> int:
        agent = registry.get_agent("w1")
        assert agent is not None
        return agent.current_tasks

    eventually_sync(lambda: booked() >= 20, 30)
    process.send_signal(signal.SIGKILL)
    process.wait()
    supervisor = closing.enter_context(SupervisorCoordinator("planner"))
    told: list[str] = []

    def all_are_told() -> bool:  # what the killed one had in flight may commit meanwhile
        told.extend(message.content["task_id"] for message in queue.get_messages("w1", limit=1000))
        return set(told) == set(supervisor.active_tasks)

    eventually_sync(all_are_told)
    assert len(told) == len(set(told)) == booked()
