"""Tasks, workers and queues by the command line, on both backends."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

from agent_messaging import AgentMessaging
from agent_messaging.coordination import AgentMessage, MessageQueueManager, MessageType
from tests.cli.conftest import Cli, Start
from tests.support import eventually_sync

PROGRAM = """
from agent_messaging import AgentMessaging, TaskContext

sdk = AgentMessaging()

@sdk.register_task_handler("worker-1", capabilities=["double", "fail"], give_up_on=ValueError)
async def work(item: int | None, context: TaskContext) -> int:
    if context.type == "fail":
        raise ValueError("cannot be done")
    return (item or 0) * 2
"""


def test_a_worker_process_does_what_is_handed_out(acme: str, cli: Cli, start: Start, tmp_path: Path) -> None:
    (tmp_path / "working_here.py").write_text(PROGRAM)
    process = start("run", "working_here:sdk", cwd=tmp_path)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("Serves worker-1 on ")
    assert cli("tasks", "assign", "double", "--payload", "21", "--wait", "--timeout", "30s").out == "42\n"
    [worker] = cli("workers", "list", "--json").json["workers"]
    assert (worker["worker_id"], worker["is_alive"], worker["capabilities"]) == ("worker-1", True, ["double", "fail"])
    assert "worker-1" in cli("workers", "list").out

    id = cli("tasks", "assign", "fail", "--id", "t1", "--priority", "high").out.strip()
    assert id == "t1"
    assert cli("tasks", "watch", id, "--timeout", "30s").out.splitlines()[-1].startswith("failed")
    shown = cli("tasks", "show", id).out
    assert "cannot be done" in shown
    assert cli("tasks", "show", id, "--json").json["task"]["log"][0]["event"] == "dead"
    assert cli("tasks", "assign", "fail", "--wait", "--timeout", "30s", check=7).out == ""
    assert cli("tasks", "redrive", id).out == "1 task queued again.\n"
    assert cli("tasks", "watch", id, "--timeout", "30s").out.splitlines()[-1].startswith("failed")
    assert cli("tasks", "redrive", "--type", "unknown", "--json").json == {"redriven": 0}
    assert "Say which" in cli("tasks", "redrive", check=2).err

    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert cli("workers", "list").out.startswith("There are no workers.")


def test_what_waits_is_listed_counted_and_cancelled(acme: str, cli: Cli) -> None:
    assert cli("tasks", "list").out.startswith("There are no such tasks.")
    for name in ("a", "b"):
        cli(
            "tasks",
            "assign",
            "build",
            "--text",
            f"{name} é",
            "--id",
            name,
            "--needs",
            "python",
            "--description",
            "docs",
        )
    found = cli("tasks", "list", "--state", "queued", "--type", "build", "--json").json["tasks"]
    assert [(task["task_id"], task["payload"], task["required_capabilities"]) for task in found] == [
        ("b", "b é", ["python"]),
        ("a", "a é", ["python"]),
    ]
    assert "docs" in cli("tasks", "list").out
    assert cli("queue", "stats", "--json").json["tasks"] == {"queued": 2}
    assert cli("queue", "stats").out.startswith("messages: none\ntasks: 2 queued; the oldest waits since")
    assert cli("tasks", "cancel", "a", "nobody").out == (
        "Task a is cancelled.\nTask nobody had ended before, or does not exist.\n"
    )
    assert cli("tasks", "watch", "a").out == "cancelled\n"
    assert cli("tasks", "watch", "b", "--timeout", "0.3", check=8).out == "queued\n"
    assert cli("tasks", "show", "nobody", check=4).err.startswith("error: No task has the id 'nobody'")
    assert cli("tasks", "assign", "build", "--timeout", "1s", check=2).out == ""


def test_dead_letters_of_queues_are_queued_again(acme: str, cli: Cli) -> None:
    with MessageQueueManager(acme) as queue:
        for name in ("a", "b"):
            queue.send_message(
                AgentMessage(
                    message_id=name,
                    from_agent="x",
                    to_agent="builder",
                    message_type=MessageType.COORDINATION,
                    content={},
                )
            )
        for message in queue.get_messages("builder"):
            queue.mark_processed(message.message_id, "builder", "rejected")
        assert cli("queue", "redrive", "a", "--agent", "nobody").out == "0 messages queued again.\n"
        assert cli("queue", "redrive", "a").out == "1 message queued again.\n"
        assert cli("queue", "redrive", "--agent", "builder", "--json").json == {"redriven": 1}
        assert "Say which" in cli("queue", "redrive", check=2).err
        assert [message.retry_count for message in queue.get_messages("builder")] == [0, 0]


def test_a_program_of_task_handlers_alone_is_served_in_several_processes(
    acme: str, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "working_here.py").write_text(PROGRAM)
    process = start("run", "working_here:sdk", "--processes", "2", cwd=tmp_path)

    async def work() -> list[Any]:
        async with AgentMessaging(acme) as sdk:
            return [one.result async for one in sdk.tasks.map("double", range(10), timeout=60)]

    assert sorted(asyncio.run(work())) == [number * 2 for number in range(10)]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    eventually_sync(lambda: process.poll() == 0)


def test_schedules_are_listed(acme: str, cli: Cli) -> None:
    assert cli("schedules", "list").out.startswith("There are no schedules.")

    async def make() -> None:
        async with AgentMessaging(acme) as sdk:
            await sdk.tasks.schedule("nightly", "report", cron="0 3 * * *", timezone="Europe/Berlin")
            await sdk.tasks.schedule("often", "check", every=3600)

    asyncio.run(make())
    shown = cli("schedules", "list").out
    assert "0 3 * * * (Europe/Berlin)" in shown
    assert "every 1 h" in shown
    [nightly, often] = cli("schedules", "list", "--json").json["schedules"]
    assert (nightly["name"], nightly["fired"], often["every"]) == ("nightly", 0, 3600.0)
