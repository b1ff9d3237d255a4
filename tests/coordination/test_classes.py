"""The blocking classes at each place: queues, agents, supervisors, and what they promise."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent_messaging import AgentMessaging, TaskContext
from agent_messaging.coordination import (
    AgentMessage,
    AgentRegistry,
    AgentRole,
    MessagePriority,
    MessageQueueManager,
    MessageType,
    StatusUpdate,
    SupervisorCoordinator,
    agent_registry,
    create_broadcast_message,
    create_heartbeat_message,
    get_performance_metrics,
    health_check,
)
from agent_messaging.coordination.office import Office
from agent_messaging.exceptions import (
    ConfigurationError,
    InvalidArgumentError,
    NotInitializedError,
    PayloadError,
    StorageUnavailableError,
)
from tests.support import eventually, eventually_sync

Make = Callable[[str], SupervisorCoordinator]


async def test_what_comes_while_several_receivers_look_wakes_all_of_them() -> None:
    """The second one begins to look when the first one, which has found nothing, is about to wait."""
    gate, looks = asyncio.Event(), list[str]()

    class Queue:
        async def listen(self, owner: str, agents: set[str]) -> None:
            """Nobody is to be told."""

        async def claim(self, agent_id: str, limit: int, **options: Any) -> list[str]:
            looks.append(agent_id)
            if looks == ["a"]:
                await gate.wait()
            return []

    presence = SimpleNamespace(process_id="p", poll_interval=600.0)
    office = Office(cast(Any, SimpleNamespace(presence=presence, queue=Queue())), timeout=1.0)
    first = asyncio.create_task(office.claim("a", 1, None, 600.0))
    await eventually(lambda: looks)
    office.announce(())
    second = asyncio.create_task(office.claim("b", 1, None, 600.0))
    await eventually(lambda: looks, until=lambda seen: "b" in seen)
    gate.set()
    await eventually(lambda: looks, until=lambda seen: seen.count("a") == 2)
    for one in (first, second):
        one.cancel()
    await asyncio.wait([first, second])


def message(message_id: str = "m", **changes: Any) -> AgentMessage:
    given: dict[str, Any] = {
        "from_agent": "planner",
        "to_agent": "builder",
        "message_type": MessageType.COORDINATION,
        "content": {"n": 1},
    }
    return AgentMessage(message_id=message_id, **given | changes)


def answer(asked: AgentMessage, **content: Any) -> AgentMessage:
    said = {"task_id": asked.content["task_id"], "status": "completed", "result": {"ok": True}}
    return asked.create_response(asked.to_agent, said | content)


@pytest.mark.usefixtures("place")
class TestQueues:
    def test_a_message_arrives_as_it_was_and_is_received_once(self, queue: MessageQueueManager) -> None:
        sent = message(priority=MessagePriority.HIGH, parent_message_id="before", content={"text": "株", "list": [1]})
        assert queue.send_message(sent)
        assert queue.send_message(sent)  # a repeat stores nothing
        [received] = queue.get_messages("builder")
        assert (received.message_id, received.from_agent, received.to_agent) == ("m", "planner", "builder")
        assert (received.content, received.priority, received.parent_message_id) == (
            sent.content,
            MessagePriority.HIGH,
            "before",
        )
        assert (received.timestamp, received.message_type, received.retry_count) == (sent.timestamp, "coordination", 0)
        assert queue.get_messages("builder") == []
        assert queue.mark_processed("m", "builder")
        assert not queue.mark_processed("m", "builder")
        assert not queue.mark_processed("unknown", "builder")

    def test_all_priorities_come_in_one_call_the_most_urgent_first(self, queue: MessageQueueManager) -> None:
        for priority in reversed(MessagePriority):
            for number in range(2):
                queue.send_message(message(f"{priority}-{number}", priority=priority))
        received = [one.message_id for one in queue.get_messages("builder", limit=20)]
        assert received == [f"{priority}-{number}" for priority in MessagePriority for number in range(2)]

    def test_types_and_limit(self, queue: MessageQueueManager) -> None:
        queue.send_message(create_heartbeat_message("planner", "builder"))
        queue.send_message(message("task", message_type=MessageType.TASK_ASSIGNMENT))
        [task] = queue.get_messages("builder", message_types=[MessageType.TASK_REQUEST])
        assert task.message_id == "task"
        assert len(queue.get_messages("builder", limit=1)) == 1

    def test_retries_end_as_a_dead_letter(self, queue: MessageQueueManager) -> None:
        queue.send_message(message(max_retries=1))
        assert queue.get_messages("builder")[0].retry_count == 0
        assert queue.mark_processed("m", "builder", status="retry", error_message="not now")
        assert queue.get_messages("builder")[0].retry_count == 1
        assert queue.mark_processed("m", "builder", status="retry")
        assert queue.get_messages("builder") == []
        assert queue.get_queue_stats()["dead_letters"] == 1

    def test_statistics(self, queue: MessageQueueManager) -> None:
        assert queue.is_connected()
        assert set(queue.get_queue_stats()["by_priority"].values()) == {0}
        for name in ("done", "failed", "rejected", "held", "waiting"):
            queue.send_message(message(name))
        queue.get_messages("builder", limit=4)
        assert queue.mark_processed("done", "builder")
        assert queue.mark_processed("failed", "builder", status="failed", error_message="no disk")
        assert queue.mark_processed("rejected", "builder", status="rejected")
        assert queue.get_queue_stats() == {
            "total_messages": 5,
            "pending_messages": 1,
            "in_progress_messages": 1,
            "processed_messages": 1,
            "failed_messages": 1,
            "dead_letters": 1,
            "expired_messages": 0,
            "messages_per_minute": 3.0,
            "by_priority": {"critical": 0, "high": 0, "medium": 2, "low": 0, "background": 0},
        }

    def test_what_expires_is_never_received_and_is_cleaned_away(self, queue: MessageQueueManager) -> None:
        assert not queue.send_message(message("past", expires_at=datetime.now(UTC) - timedelta(seconds=1)))
        assert queue.send_message(message("soon", expires_at=datetime.now(UTC) + timedelta(seconds=0.2)))
        assert queue.send_message(message("late", expires_at=datetime.now(UTC) + timedelta(hours=1)))
        eventually_sync(lambda: queue.get_queue_stats()["expired_messages"] or queue.cleanup_expired_messages())
        queue.cleanup_expired_messages()
        assert [one.message_id for one in queue.get_messages("builder")] == ["late"]
        assert queue.get_queue_stats()["total_messages"] == 1

    def test_a_waiting_receiver_is_woken(self, queue: MessageQueueManager, closing: ExitStack) -> None:
        other = closing.enter_context(MessageQueueManager())
        received: list[AgentMessage] = []
        waiting = threading.Thread(target=lambda: received.extend(queue.get_messages("builder", block_ms=20_000)))
        waiting.start()
        other.send_message(message())
        waiting.join(15)
        assert [one.message_id for one in received] == ["m"]
        assert queue.get_messages("builder", block_ms=1) == []

    def test_a_broadcast_goes_to_everybody_else(self, queue: MessageQueueManager, registry: AgentRegistry) -> None:
        news = create_broadcast_message("planner", MessageType.COORDINATION, {"pause": True})
        assert not queue.send_message(news)
        for name in ("planner", "builder", "tester"):
            registry.register_agent(name, AgentRole.WORKER, [])
        assert queue.send_message(news)
        assert [len(queue.get_messages(name)) for name in ("planner", "builder", "tester")] == [0, 1, 1]

    def test_what_is_not_accepted_stores_nothing(self, queue: MessageQueueManager) -> None:
        with pytest.raises(PayloadError, match=r"message\.content\.deep"):
            queue.send_message(message(content={"deep": object()}))
        with pytest.raises(InvalidArgumentError, match="AgentMessage"):
            queue.send_message("message")  # type: ignore[arg-type]
        refused: list[dict[str, Any]] = [{"limit": 0}, {"limit": True}, {"block_ms": -1}, {"message_types": ["letter"]}]
        for arguments in refused:
            with pytest.raises(InvalidArgumentError):
                queue.get_messages("builder", **arguments)
        with pytest.raises(InvalidArgumentError, match="status"):
            queue.mark_processed("m", "builder", status="lost")
        assert queue.get_queue_stats()["total_messages"] == 0

    def test_many_threads(self, queue: MessageQueueManager) -> None:
        received: list[str] = []

        def work(number: int) -> None:
            for each in range(5):
                queue.send_message(message(f"{number}-{each}"))
            while taken := queue.get_messages("builder", limit=3):
                for one in taken:
                    assert queue.mark_processed(one.message_id, "builder")
                    received.append(one.message_id)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(received) == sorted(f"{number}-{each}" for number in range(4) for each in range(5))


@pytest.mark.usefixtures("place")
class TestAgents:
    def test_an_agent_is_found_at_once_with_all_that_is_known(self, registry: AgentRegistry) -> None:
        assert registry.register_agent("builder", AgentRole.WORKER, ["python", "sql"], 3, metadata={"site": "b"})
        [found] = registry.find_available_agents(["sql"])
        assert (found.agent_id, found.agent_role, found.capabilities) == ("builder", "worker", ["python", "sql"])
        assert (found.status, found.max_concurrent_tasks, found.current_tasks, found.load) == ("active", 3, 0, 0.0)
        assert found.metadata == {"site": "b"}
        assert datetime.now(UTC) - found.last_heartbeat < timedelta(minutes=1)
        assert registry.find_available_agents(["sql", "cobol"]) == []
        assert registry.get_agent("builder") == found
        assert registry.get_agent("nobody") is None

    def test_load_and_status_decide(self, registry: AgentRegistry) -> None:
        for name in ("a", "b", "c"):
            registry.register_agent(name, AgentRole.WORKER, ["python"], max_concurrent_tasks=2)
        assert registry.update_heartbeat("a", current_tasks=2)
        assert registry.update_heartbeat("b", current_tasks=1)
        assert not registry.update_heartbeat("nobody")
        found = registry.find_available_agents(["python"])
        assert [(one.agent_id, one.load, one.is_available) for one in found] == [
            ("c", 0.0, True),
            ("b", 0.5, True),
            ("a", 1.0, False),
        ]
        best = registry.find_best_agent(["python"])
        assert best is not None
        assert best.agent_id == "c"
        assert registry.update_heartbeat("c", status="paused")
        assert registry.update_heartbeat("b", current_tasks=2)
        assert registry.find_best_agent(["python"]) is None
        assert [one.agent_id for one in registry.find_available_agents(["python"], max_results=1)] == ["a"]

    def test_statistics_and_leaving(self, registry: AgentRegistry) -> None:
        assert registry.get_registry_stats()["average_load"] == 0
        registry.register_agent("a", "worker", ["x"], max_concurrent_tasks=4)  # type: ignore[arg-type]
        registry.register_agent("b", AgentRole.TESTER, ["x"])
        registry.update_heartbeat("a", current_tasks=2)
        assert registry.get_registry_stats() == {
            "total_agents": 2,
            "active_agents": 2,
            "by_role": {"worker": 1, "tester": 1},
            "by_status": {"active": 2},
            "average_load": 0.25,
            "total_capacity": 5,
            "current_tasks": 2,
        }
        assert [one.agent_id for one in registry.get_all_agents()] == ["a", "b"]
        assert registry.unregister_agent("a")
        assert not registry.unregister_agent("a")
        assert registry.cleanup_stale_agents() == 0

    def test_what_is_not_accepted_is_named(self, registry: AgentRegistry) -> None:
        refused: list[tuple[Any, ...]] = [
            ("", "worker", []),
            ("a", "boss", []),
            ("a", "worker", "x"),
            ("a", "worker", [], 0),
            ("*", "worker", []),
        ]
        for arguments in refused:
            with pytest.raises(InvalidArgumentError):
                registry.register_agent(*arguments)
        with pytest.raises(InvalidArgumentError, match="current_tasks"):
            registry.update_heartbeat("a", current_tasks=-1)


@pytest.mark.sampled(1)
def test_a_task_that_takes_longer_than_it_may_goes_to_another(place: str, closing: ExitStack) -> None:
    supervisor = closing.enter_context(SupervisorCoordinator("planner"))
    supervisor.agent_registry.register_agent("first", AgentRole.WORKER, ["python"])
    task_id = supervisor.assign_task("build", "", {}, ["python"], timeout=0.1)
    assert task_id is not None
    [late] = supervisor.queue_manager.get_messages("first")
    supervisor.agent_registry.register_agent("second", AgentRole.WORKER, ["python"])
    eventually_sync(lambda: supervisor.get_task_status(task_id), until=lambda status: status and status["attempts"] > 1)
    supervisor.queue_manager.send_message(answer(late))
    assert eventually_sync(lambda: supervisor.process_incoming_messages()) == 1
    status = supervisor.get_task_status(task_id)
    assert status is not None
    assert status["status"] != "completed"


def test_an_agent_without_a_heartbeat_is_forgotten_and_its_task_goes_to_another(
    place: str, monkeypatch: pytest.MonkeyPatch, closing: ExitStack
) -> None:
    monkeypatch.setenv("AGENT_HEARTBEAT_INTERVAL", "0.2")
    supervisor = closing.enter_context(SupervisorCoordinator("planner"))
    supervisor.agent_registry.register_agent("first", AgentRole.WORKER, ["python"])
    task_id = supervisor.assign_task("build", "", {}, ["python"])
    assert task_id is not None
    [late] = supervisor.queue_manager.get_messages("first")

    def second_has_it() -> bool:
        supervisor.agent_registry.register_agent("second", AgentRole.WORKER, ["python"])
        status = supervisor.get_task_status(task_id)
        return status is not None and status["agent_id"] == "second"

    eventually_sync(second_has_it)
    supervisor.queue_manager.send_message(answer(late))
    assert eventually_sync(lambda: supervisor.process_incoming_messages()) == 1
    status = supervisor.get_task_status(task_id)
    assert status is not None
    assert status["status"] != "completed"
    eventually_sync(lambda: supervisor.agent_registry.cleanup_stale_agents() or not registered(supervisor, "first"))


def registered(supervisor: SupervisorCoordinator, name: str) -> bool:
    return supervisor.agent_registry.get_agent(name) is not None


@pytest.mark.usefixtures("place")
class TestSupervisors:
    def test_what_is_not_accepted_is_named(self, supervisor: SupervisorCoordinator) -> None:
        with pytest.raises(InvalidArgumentError, match="stands for every agent"):
            SupervisorCoordinator("*", use_mock=True)
        for number in (-1, 1.5, True, "all"):
            with pytest.raises(InvalidArgumentError, match="max_messages"):
                supervisor.process_incoming_messages(number)  # type: ignore[arg-type]

    def test_a_task_goes_its_way(self, supervisor: SupervisorCoordinator, queue: MessageQueueManager) -> None:
        assert supervisor.assign_task("build", "", {}, ["python"]) is None
        supervisor.agent_registry.register_agent("builder", AgentRole.WORKER, ["python"])
        task_id = supervisor.assign_task("build", "Build it", {"target": "api"}, ["python"], MessagePriority.HIGH)
        assert task_id is not None
        assert supervisor.assign_task("build", "", {}, ["python"]) is None  # no room
        active = supervisor.active_tasks
        assert list(active) == [task_id]
        assert (active[task_id]["agent_id"], active[task_id]["status"]) == ("builder", "assigned")
        [asked] = queue.get_messages("builder")
        assert (asked.from_agent, asked.message_type, asked.priority) == ("planner", "task_assignment", "high")
        assert (asked.content["task_type"], asked.content["parameters"]) == ("build", {"target": "api"})
        queue.send_message(answer(asked, status="in_progress", completion_percentage=40))
        queue.mark_processed(asked.message_id, "builder")
        assert supervisor.process_incoming_messages() == 1
        assert supervisor.active_tasks[task_id]["completion_percentage"] == pytest.approx(40)
        queue.send_message(answer(asked))
        assert supervisor.process_incoming_messages() == 1
        assert supervisor.process_incoming_messages() == 0
        status = supervisor.get_task_status(task_id)
        assert status is not None
        assert (status["status"], status["result"], status["agent_id"]) == ("completed", {"ok": True}, "builder")
        assert supervisor.active_tasks == {}
        stats = supervisor.get_coordination_stats()
        assert (stats["active_tasks"], stats["active_agents"], stats["completion_rate"]) == (0, 1, 1.0)
        assert stats["metrics"]["tasks_completed"] == 1
        assert supervisor.assign_task("build", "", {}, ["python"]) is not None  # room again

    def test_an_error_report_ends_the_task_and_a_second_result_is_refused(
        self, supervisor: SupervisorCoordinator, queue: MessageQueueManager
    ) -> None:
        supervisor.agent_registry.register_agent("builder", AgentRole.WORKER, ["python"])
        task_id = supervisor.assign_task("build", "", {}, ["python"])
        assert task_id is not None
        [asked] = queue.get_messages("builder")
        content = {"task_id": task_id, "error_type": "task_execution_failure", "error_message": "no disk"}
        queue.send_message(asked.create_response("builder", content, message_type=MessageType.ERROR_REPORT))
        queue.send_message(answer(asked))
        queue.send_message(asked.create_response("stranger", {"task_id": task_id, "status": "completed"}))
        queue.send_message(asked.create_response("builder", {"task_id": "unknown", "status": "completed"}))
        assert supervisor.process_incoming_messages() == 4
        status = supervisor.get_task_status(task_id)
        assert status is not None
        assert (status["status"], status["error_message"]) == ("failed", "no disk")
        assert supervisor.get_coordination_stats()["metrics"]["tasks_failed"] == 1
        assert queue.get_queue_stats()["failed_messages"] == 3

    def test_a_failure_that_asks_for_it_is_tried_again(
        self, supervisor: SupervisorCoordinator, queue: MessageQueueManager
    ) -> None:
        supervisor.agent_registry.register_agent("builder", AgentRole.WORKER, ["python"])
        supervisor.assign_task("build", "", {}, ["python"])
        [first] = queue.get_messages("builder")
        queue.send_message(answer(first, status="failed", retry=True))
        assert supervisor.process_incoming_messages() == 1
        [second] = queue.get_messages("builder", block_ms=10_000)
        assert second.content == first.content
        assert second.message_id != first.message_id
        queue.send_message(answer(first))  # of the assignment before
        queue.send_message(answer(second, result=2))
        supervisor.process_incoming_messages()
        status = supervisor.get_task_status(first.content["task_id"])
        assert status is not None
        assert (status["result"], status["attempts"]) == (2, 2)

    def test_an_assignment_that_somebody_else_has_is_not_received(
        self, supervisor: SupervisorCoordinator, queue: MessageQueueManager
    ) -> None:
        supervisor.agent_registry.register_agent("first", AgentRole.WORKER, ["python"])
        supervisor.assign_task("build", "", {}, ["python"])
        supervisor.agent_registry.unregister_agent("first")
        supervisor.agent_registry.register_agent("second", AgentRole.WORKER, ["python"])
        [asked] = queue.get_messages("second", block_ms=10_000)
        assert asked.content["task_type"] == "build"
        assert queue.get_messages("first") == []

    def test_another_object_of_the_same_id_goes_on(
        self, make_supervisor: Make, supervisor: SupervisorCoordinator, queue: MessageQueueManager
    ) -> None:
        supervisor.agent_registry.register_agent("builder", AgentRole.WORKER, ["python"])
        task_id = supervisor.assign_task("build", "", {}, ["python"])
        supervisor.shutdown()
        again = make_supervisor("planner")
        assert list(again.active_tasks) == [task_id]
        [asked] = queue.get_messages("builder")
        queue.send_message(answer(asked))
        assert again.process_incoming_messages() == 1
        assert again.get_coordination_stats()["completion_rate"] == 1.0
        assert make_supervisor("other").get_coordination_stats()["metrics"]["tasks_assigned"] == 0

    def test_signs_of_life_and_other_messages(
        self, supervisor: SupervisorCoordinator, queue: MessageQueueManager
    ) -> None:
        registry = supervisor.agent_registry
        registry.register_agent("builder", AgentRole.WORKER, ["python"], max_concurrent_tasks=2)
        queue.send_message(create_heartbeat_message("builder", "planner", current_tasks=1))
        queue.send_message(message(from_agent="builder", to_agent="planner"))
        assert supervisor.process_incoming_messages() == 1
        found = registry.get_agent("builder")
        assert found is not None
        assert found.current_tasks == 1
        assert [one.message_id for one in queue.get_messages("planner")] == ["m"]

    def test_an_agent_that_says_it_is_not_available_gets_no_task(
        self, supervisor: SupervisorCoordinator, queue: MessageQueueManager
    ) -> None:
        supervisor.agent_registry.register_agent("builder", AgentRole.WORKER, ["python"], max_concurrent_tasks=9)

        def tell(**content: Any) -> str | None:
            kind = MessageType.STATUS_UPDATE
            assert queue.send_message(
                AgentMessage(from_agent="builder", to_agent="planner", message_type=kind, content=content)
            )
            assert supervisor.process_incoming_messages() == 1
            return supervisor.assign_task("build", "", {}, ["python"])

        assert tell(**StatusUpdate("builder", "active", is_available=False).to_content()) is None
        assert tell(status="active", is_available=True)
        assert tell(is_available=False) is None
        assert tell(status="active", current_tasks=2**31) is None  # what no store can count is much
        assert tell(current_tasks=0)

    def test_broadcast_health_and_maintenance(self, supervisor: SupervisorCoordinator) -> None:
        assert not supervisor.broadcast_message(MessageType.COORDINATION, {"pause": True})
        assert get_performance_metrics(supervisor) == {
            "message_throughput": 0.0,
            "agent_utilization": 0.0,
            "task_completion_rate": 0.0,
        }
        supervisor.agent_registry.register_agent("builder", AgentRole.WORKER, ["python"])
        assert supervisor.broadcast_message(MessageType.COORDINATION, {"pause": True}, MessagePriority.CRITICAL)
        assert health_check(supervisor) == {
            "database_connected": True,
            "agents_registered": 1,
            "queue_operational": True,
        }
        assert supervisor.cleanup_and_maintenance() == {
            "inactive_agents_removed": 0,
            "old_messages_cleaned": 0,
            "stale_tasks_handled": 0,
        }


# --- where they are ---------------------------------------------------------------------------------------------------


def test_each_object_with_use_mock_has_a_store_of_its_own(closing: ExitStack) -> None:
    one, two = (closing.enter_context(MessageQueueManager(use_mock=True)) for _ in range(2))
    one.send_message(message())
    assert two.get_messages("builder") == []
    supervisor = closing.enter_context(SupervisorCoordinator("planner", use_mock=True))
    supervisor.agent_registry.register_agent("builder", AgentRole.WORKER, ["python"])
    assert supervisor.assign_task("build", "", {}, ["python"])
    assert len(supervisor.queue_manager.get_messages("builder")) == 1


def test_an_agent_that_cannot_be_read_makes_no_other_come_twice(
    closing: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_registry, "PAGE", 2)
    registry = closing.enter_context(AgentRegistry(use_mock=True))
    for name in "abcde":
        registry.register_agent(name, AgentRole.WORKER, ["python"])

    async def damage(office: Office) -> None:
        workers: Any = office.store.workers
        await workers._engine.write(lambda con: con.execute("update workers set capabilities = '[5' where id = 'a'"))

    registry._lease.call(damage)
    assert [agent.agent_id for agent in registry.get_all_agents()] == ["b", "c", "d", "e"]


def test_a_store_that_is_away_is_told(closing: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_CALL_TIMEOUT", "0.3")
    queue = closing.enter_context(MessageQueueManager("redis://127.0.0.1:1/0"))
    assert not queue.is_connected()
    with pytest.raises(Exception, match="cannot be reached"):
        queue.send_message(message())
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    assert health_check() == {"database_connected": False, "agents_registered": 0, "queue_operational": False}
    with pytest.raises(ConfigurationError, match="SQL Server"):
        SupervisorCoordinator("planner", "Driver={ODBC Driver 17 for SQL Server};Server=tcp:h,1433;Uid=a;Pwd=b;")


LEAVING = """
import os, sys
from agent_messaging.coordination import AgentMessage, MessageQueueManager
def send(id):
    message = AgentMessage(message_id=id, from_agent="a", to_agent="b", message_type="coordination", content={})
    queue.send_message(message)
queue = MessageQueueManager()
send("m")
assert len(queue.get_messages("b")) == 1
if sys.argv[1] == "forks" and os.fork() == 0:
    assert queue.get_messages("b") == []
    assert not queue.mark_processed("m", "b")  # its parent has it
    send("n")
    queue.close()
    os._exit(0)
if sys.argv[1] == "forks":
    assert os.wait()[1] == 0
    assert queue.mark_processed("m", "b")
"""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("place", ["sqlite", "postgres", "redis"], indirect=True)
@pytest.mark.parametrize("how", ["leaves", "forks"])
def test_what_a_program_has_returns_where_it_ends_and_a_forked_child_has_its_own(
    place: str, surroundings: dict[str, str], how: str, tmp_path: Path, closing: ExitStack
) -> None:
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", LEAVING, how]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | surroundings, capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    queue = closing.enter_context(MessageQueueManager())
    [found] = queue.get_messages("b")
    assert (found.message_id, found.retry_count) == ("m" if how == "leaves" else "n", 0)


async def test_on_an_event_loop_it_warns_and_in_a_thread_it_does_not(closing: ExitStack) -> None:
    queue = MessageQueueManager(use_mock=True)
    with pytest.warns(RuntimeWarning, match="stands still until the call returns") as told:
        queue.send_message(message())
    assert told[0].filename == __file__
    assert len(await asyncio.to_thread(queue.get_messages, "builder")) == 1
    await asyncio.to_thread(queue.close)
    with pytest.raises(NotInitializedError, match="MessageQueueManager was closed"):
        await asyncio.to_thread(queue.get_messages, "builder")


@pytest.mark.parametrize("place", ["sqlite", "postgres"], indirect=True)
async def test_a_supervisor_without_asyncio_and_a_worker_with_it_share_tasks(place: str) -> None:
    async with AgentMessaging() as sdk:

        @sdk.register_task_handler("builder", capabilities=["python"])
        async def build(parameters: dict[str, int], context: TaskContext) -> int:
            return parameters["n"] + 1

        def supervise() -> Any:
            with SupervisorCoordinator("planner") as supervisor:
                task_id = eventually_sync(lambda: supervisor.assign_task("build", "", {"n": 1}, ["python"]))
                ended = eventually_sync(
                    lambda: supervisor.get_task_status(task_id or ""),
                    until=lambda status: status is not None and status["completed_at"],
                )
                assert ended is not None
                return ended["status"], ended["result"], ended["agent_id"]

        assert await asyncio.to_thread(supervise) == ("completed", 2, "builder")


def test_a_failure_of_the_store_leaves_a_message_where_it_was(
    closing: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = closing.enter_context(MessageQueueManager(use_mock=True))
    queue.send_message(message(message_type=MessageType.TASK_ASSIGNMENT, content={"task_id": "t"}))

    async def fail(*arguments: object, **options: object) -> None:
        raise StorageUnavailableError

    async def find_store(office: Office) -> Any:
        return office.store

    store = queue._lease.call(find_store)
    with monkeypatch.context() as patch:
        patch.setattr(store.tasks, "find_tasks", fail)
        with pytest.raises(StorageUnavailableError):
            queue.get_messages("builder")
    assert queue.get_messages("builder")[0].retry_count == 0
    with monkeypatch.context() as patch:
        patch.setattr(store.queue, "settle", fail)
        with pytest.raises(StorageUnavailableError):
            queue.mark_processed("m", "builder")
    assert queue.mark_processed("m", "builder")
