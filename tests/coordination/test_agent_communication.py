"""The examples of the reference for the coordination, at each place, as they stand there but for their imports.

`agent_messaging.coordination` is where the reference writes `queue_manager`, `message_protocol`, `file_logger` and
`helpers.agent_communication`. Completed are: what the quick start lost at its beginning (the import and the
coordinator), the imports of the supervisor and of the worker, and the worker's `execute_task` and end of its loop. The
supervisor asks for what the worker can do; in the reference nobody there can do it.

Not run: `docker run …` (a server is started by the fixtures), connecting to SQL Server (not a backend; both strings are
answered with the URLs that are accepted), and the clone of a repository whose address is a placeholder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent_messaging.coordination import (
    AgentMessage,
    AgentRegistry,
    AgentRole,
    MessagePriority,
    MessageQueueManager,
    MessageType,
    SupervisorCoordinator,
    disable_file_logging,
    enable_file_logging,
    get_file_logger,
    get_performance_metrics,
    health_check,
)
from agent_messaging.exceptions import ConfigurationError
from tests.support import eventually_sync

ROOT = Path(__file__).parents[2]
Make = Callable[[str], SupervisorCoordinator]


@pytest.fixture(autouse=True)
def no_file_log() -> Iterator[None]:
    """The audit log of the process ends with the test."""
    yield
    disable_file_logging()


def entries(kind: str) -> list[dict[str, Any]]:
    """What the audit log of the working directory has of a kind."""
    [path] = Path("logs").glob(f"*/{kind}_*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.usefixtures("place")
class TestMessageProtocol:
    """Queues and messages."""

    def test_basic_usage(self, closing: ExitStack, capsys: pytest.CaptureFixture[str]) -> None:
        # Initialize
        queue = MessageQueueManager()
        closing.callback(queue.close)

        # Send message
        message = AgentMessage(
            from_agent="agent_001",
            to_agent="agent_002",
            message_type=MessageType.TASK_ASSIGNMENT,
            content={"task": "process_data"},
        )
        queue.send_message(message)

        # Receive messages
        messages = queue.get_messages("agent_002")
        for msg in messages:
            print(f"From: {msg.from_agent}, Content: {msg.content}")
            queue.mark_processed(msg.message_id, "agent_002")
        assert capsys.readouterr().out == "From: agent_001, Content: {'task': 'process_data'}\n"
        assert queue.get_queue_stats()["processed_messages"] == 1

    def test_file_logging_follows_by_itself(self, queue: MessageQueueManager, registry: AgentRegistry) -> None:
        file_logger = enable_file_logging(base_dir="./logs")
        registry.register_agent("agent_001", AgentRole.COORDINATOR, ["planning"])
        secret = {"task": "process_data"}
        queue.send_message(
            AgentMessage(
                message_id="msg_123",
                from_agent="agent_001",
                to_agent="agent_002",
                message_type=MessageType.TASK_ASSIGNMENT,
                content=secret,
            )
        )
        queue.get_messages("agent_002")
        queue.mark_processed("msg_123", "agent_002")

        # Get logger instance
        logger = get_file_logger()
        assert logger is file_logger

        # Manual logging (automatic logging is handled by MessageQueueManager)
        logger.log_agent_activity("agent_001", "status_change", {"new_status": "busy"})
        logger.log_performance_metric("agent_001", "response_time", 125.5, "ms")
        logger.log_error("agent_001", "connection_error", "Redis connection failed")

        # Get logging statistics
        stats = logger.get_log_stats()
        assert len(stats["log_files"]) == 4

        # Clean up old logs (optional)
        assert logger.cleanup_old_logs(days_to_keep=30) == 0
        registered, changed = entries("agent_activity")
        assert registered["agent_id"] == "agent_001"
        assert registered["event"] == "registered"
        assert registered["data"] == {"agent_role": "coordinator", "capabilities": ["planning"]}
        assert changed["data"] == {"new_status": "busy"}
        audit = entries("message_audit")
        assert [one["event"] for one in audit] == ["sent", "received", "processed"]
        assert {(one["from_agent"], one["to_agent"], one["message_type"]) for one in audit} == {
            ("agent_001", "agent_002", "task_assignment")
        }
        assert "process_data" not in json.dumps(audit)


@pytest.mark.usefixtures("place")
class TestSupervisorCoordinator:
    """Supervisors, workers, and what is said of them."""

    def test_quick_start(self, make_supervisor: Make) -> None:
        coordinator = make_supervisor("supervisor_001")
        coordinator.agent_registry.register_agent(
            agent_id="python_dev_001",
            agent_role=AgentRole.WORKER,
            capabilities=["python", "api_development"],
            max_concurrent_tasks=3,
        )

        # Assign a task
        task_id = coordinator.assign_task(
            task_type="api_development",
            description="Create user authentication API",
            parameters={"framework": "fastapi", "auth": "jwt"},
            required_capabilities=["python", "api_development"],
            priority=MessagePriority.HIGH,
        )
        assert task_id in coordinator.active_tasks

    def test_health_and_metrics_as_they_are_written(self, closing: ExitStack) -> None:
        def check() -> dict[str, Any]:
            coordinator = SupervisorCoordinator("health-monitor")
            closing.callback(coordinator.shutdown)

            return {
                "database_connected": coordinator.queue_manager.is_connected(),
                "agents_registered": coordinator.agent_registry.get_registry_stats()["total_agents"],
                "queue_operational": len(coordinator.queue_manager.get_queue_stats()) > 0,
            }

        def metrics() -> dict[str, Any]:
            coordinator = SupervisorCoordinator("metrics")
            closing.callback(coordinator.shutdown)

            return {
                "message_throughput": coordinator.queue_manager.get_queue_stats()["messages_per_minute"],
                "agent_utilization": coordinator.agent_registry.get_registry_stats()["average_load"],
                "task_completion_rate": coordinator.get_coordination_stats()["completion_rate"],
            }

        assert (
            check()
            == health_check()
            == {
                "database_connected": True,
                "agents_registered": 0,
                "queue_operational": True,
            }
        )
        assert (
            metrics()
            == get_performance_metrics()
            == {
                "message_throughput": 0.0,
                "agent_utilization": 0.0,
                "task_completion_rate": 0.0,
            }
        )

    def test_supervisor_and_worker(self, closing: ExitStack) -> None:
        class BackendSupervisorAgent:
            def __init__(self) -> None:
                self.coordinator = SupervisorCoordinator("backend-supervisor-001")
                closing.callback(self.coordinator.shutdown)

                # Register this supervisor
                self.coordinator.agent_registry.register_agent(
                    agent_id="backend-supervisor-001",
                    agent_role=AgentRole.SUPERVISOR,
                    capabilities=["project_management", "coordination"],
                    max_concurrent_tasks=20,
                )

            def create_comprehensive_project(self, project_idea: str, requirements: list[str]) -> dict[str, Any]:
                # Assign development tasks to specialized agents
                tasks = []

                # Backend development
                if "api" in requirements:
                    task_id = self.coordinator.assign_task(
                        task_type="api_development",
                        description=f"Develop API for {project_idea}",
                        parameters={"requirements": requirements},
                        required_capabilities=["python", "fastapi"],
                    )
                    tasks.append(task_id)

                # Frontend development
                if "ui" in requirements:
                    task_id = self.coordinator.assign_task(
                        task_type="ui_development",
                        description=f"Create UI for {project_idea}",
                        parameters={"requirements": requirements},
                        required_capabilities=["javascript", "react"],
                    )
                    tasks.append(task_id)

                return {"autonomous_tasks": tasks, "coordination_enabled": True}

        class PythonWorkerAgent:
            def __init__(self, agent_id: str) -> None:
                self.agent_id = agent_id
                self.registry = AgentRegistry()
                self.queue = MessageQueueManager()
                closing.callback(self.queue.close)
                closing.callback(self.registry.close)
                self.stopped = threading.Event()

                # Register capabilities
                self.registry.register_agent(
                    agent_id=agent_id,
                    agent_role=AgentRole.WORKER,
                    capabilities=["python", "fastapi", "postgresql", "testing"],
                    max_concurrent_tasks=3,
                )

            def start_listening(self) -> None:
                """Start processing tasks from the queue"""
                while not self.stopped.is_set():
                    messages = self.queue.get_messages(self.agent_id, limit=5)

                    for message in messages:
                        if message.message_type == MessageType.TASK_REQUEST:
                            self.process_task(message)
                            self.queue.mark_processed(message.message_id, self.agent_id)

                    self.stopped.wait(0.05)

            def execute_task(self, task_data: dict[str, Any]) -> str:
                if task_data["task_type"] != "api_development":
                    raise ValueError("unknown work")
                return f"done: {task_data['description']}"

            def process_task(self, message: AgentMessage) -> None:
                """Process an assigned task"""
                task_data = message.content

                try:
                    # Execute the task based on type
                    result = self.execute_task(task_data)

                    # Send completion response
                    response = AgentMessage(
                        message_id=f"response-{message.message_id}",
                        from_agent=self.agent_id,
                        to_agent=message.from_agent,
                        message_type=MessageType.TASK_RESPONSE,
                        content={
                            "task_id": task_data.get("task_id"),
                            "status": "completed",
                            "result": result,
                            "completion_percentage": 100,
                        },
                    )
                    self.queue.send_message(response)

                except Exception as e:
                    # Send error response
                    error_response = AgentMessage(
                        message_id=f"error-{message.message_id}",
                        from_agent=self.agent_id,
                        to_agent=message.from_agent,
                        message_type=MessageType.ERROR_REPORT,
                        content={
                            "task_id": task_data.get("task_id"),
                            "error_type": "task_execution_failure",
                            "error_message": str(e),
                        },
                    )
                    self.queue.send_message(error_response)

        supervisor = BackendSupervisorAgent()
        worker = PythonWorkerAgent("python-worker-001")
        listening = threading.Thread(target=worker.start_listening)
        listening.start()
        closing.callback(listening.join)
        closing.callback(worker.stopped.set)
        project = supervisor.create_comprehensive_project("shop", ["api", "ui"])
        assert project["coordination_enabled"]
        api, ui = project["autonomous_tasks"]
        assert ui is None  # nobody can do it
        broken = supervisor.coordinator.assign_task("unknown", "Break", {}, ["python"])
        coordinator = supervisor.coordinator
        eventually_sync(lambda: coordinator.process_incoming_messages() >= 0 and not coordinator.active_tasks)
        done, failed = coordinator.get_task_status(api), coordinator.get_task_status(broken or "")
        assert done is not None
        assert failed is not None
        assert (done["status"], done["result"]) == ("completed", "done: Develop API for shop")
        assert (failed["status"], failed["error_message"]) == ("failed", "unknown work")
        assert coordinator.get_coordination_stats()["completion_rate"] == 0.5


def test_the_variables_of_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AZURE_SQL_SERVER": "your-server.database.windows.net",
        "AZURE_SQL_DATABASE": "agent-communication",
        "AZURE_SQL_USERNAME": "sqladmin",
        "AZURE_SQL_PASSWORD": "YourPassword123!",
        "AGENT_COMMUNICATION_MODE": "sql",
        "AGENT_DEFAULT_TIMEOUT": "300",
        "AGENT_MAX_RETRIES": "3",
        "AGENT_HEARTBEAT_INTERVAL": "30",
        "AZURE_KEY_VAULT_URL": "https://your-vault.vault.azure.net/",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=r"AZURE_SQL_SERVER names a SQL Server.*postgresql://.*sqlite:///"):
        MessageQueueManager()


@pytest.mark.parametrize(
    "credentials", ["Uid=admin;Pwd=password;Connection Timeout=30;", "Authentication=ActiveDirectoryIntegrated;"]
)
def test_strings_of_sql_server(credentials: str) -> None:
    string = (
        "Driver={ODBC Driver 17 for SQL Server};Server=tcp:server.database.windows.net,1433;"
        f"Database=agent-communication;{credentials}Encrypt=yes;TrustServerCertificate=no;"
    )
    with pytest.raises(ConfigurationError, match=r"SQL Server.*postgresql://.*sqlite:///.*redis://") as caught:
        MessageQueueManager(string)
    assert "password" not in str(caught.value).replace("user:password@host", "")


@pytest.mark.parametrize("place", ["memory", "postgres", "redis"], indirect=True)  # on SQLite it is run as an example
def test_the_demo_runs_anywhere_and_writes_its_log(place: str, surroundings: dict[str, str], tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / "coordination_demo.py")],
        cwd=tmp_path,
        env={**os.environ, **surroundings},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines()[-1] == "completed 3, failed 1, active 0"
    assert "completed 3, failed 1" in (tmp_path / "agent_communication_demo.log").read_text()


def test_the_demo_on_the_command_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "agent_messaging.cli.main",
        "coordination",
        "demo",
        "--url",
        "sqlite:///demo.db",
        "--json",
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert json.loads(run.stdout)["lines"][-1] == "completed 3, failed 1, active 0"
    assert (tmp_path / "demo.db").exists()
