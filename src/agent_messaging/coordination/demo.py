"""The demo of the coordination: a supervisor, two workers, a task that fails, and what became of all of it.

It runs at the target that the environment names, with names of its own, so that it may be run beside anything else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack

from ..ids import uuid7
from .agent_registry import AgentRegistry
from .message_protocol import AgentMessage, AgentRole, MessagePriority, MessageType
from .queue_manager import MessageQueueManager
from .supervisor_coordinator import SupervisorCoordinator

LOG_FILE = "agent_communication_demo.log"
PATIENCE = 60.0
"""Seconds for the whole."""
WORK = [
    ("api_development", "Create the login", ["python"], MessagePriority.HIGH),
    ("api_development", "Create the search", ["python"], MessagePriority.MEDIUM),
    ("ui_development", "Create the start page", ["react"], MessagePriority.MEDIUM),
    ("ui_development", "Create the impossible page", ["react"], MessagePriority.LOW),
    ("schema_design", "Design the tables", ["cobol"], MessagePriority.LOW),
]


class _Worker(threading.Thread):
    """An agent that takes what it is given, until it is told to stop."""

    def __init__(self, name: str, capability: str, say: Callable[[str], None], place: str | None) -> None:
        super().__init__(name=name)
        self.place = place
        self.agent_id = name
        self.capability = capability
        self.say = say
        self.stopped = threading.Event()

    def run(self) -> None:
        with AgentRegistry(self.place) as registry, MessageQueueManager(self.place) as queue:
            registry.register_agent(self.agent_id, AgentRole.WORKER, [self.capability], max_concurrent_tasks=2)
            while not self.stopped.is_set():
                for message in queue.get_messages(self.agent_id, block_ms=200):
                    queue.send_message(self.work(message))
                    queue.mark_processed(message.message_id, self.agent_id)
            registry.unregister_agent(self.agent_id)

    def work(self, message: AgentMessage) -> AgentMessage:
        task = message.content
        if "impossible" in task["description"]:
            self.say(f"{self.agent_id} cannot: {task['description']}")
            content = {"task_id": task["task_id"], "error_type": "task_execution_failure", "error_message": "no way"}
            return message.create_response(self.agent_id, content, message_type=MessageType.ERROR_REPORT)
        self.say(f"{self.agent_id} did: {task['description']}")
        content = {"task_id": task["task_id"], "status": "completed", "result": {"lines": len(task["description"])}}
        return message.create_response(self.agent_id, content)


def run_demo(say: Callable[[str], None] = print, connection_string: str | None = None) -> None:
    """Hand out five tasks, of which nobody can do one and one fails, and say what becomes of them.

    Args:
        say: Gets each line. What the SDK logs, and the lines too, are appended to `agent_communication_demo.log` in
            the working directory.
        connection_string: Where it runs, as of `SupervisorCoordinator`.
    """
    handler = logging.FileHandler(LOG_FILE, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("agent_messaging")
    logger.addHandler(handler)

    def tell(line: str) -> None:
        say(line)
        handler.handle(logger.makeRecord(logger.name, logging.INFO, __file__, 0, line, (), None))

    try:
        _play(tell, connection_string)
    finally:
        logger.removeHandler(handler)
        handler.close()


def _play(say: Callable[[str], None], place: str | None) -> None:
    mark = uuid7()[-6:]
    workers = [
        _Worker(f"{name}-{mark}", capability, say, place) for name, capability in (("pia", "python"), ("ruth", "react"))
    ]
    with ExitStack() as stack:
        coordinator = stack.enter_context(SupervisorCoordinator(f"planner-{mark}", place))
        for worker in workers:
            worker.start()
            stack.callback(worker.join)
            stack.callback(worker.stopped.set)
        clock = threading.Event()
        names = [worker.agent_id for worker in workers]
        for _ in range(int(PATIENCE / 0.05)):
            if all(coordinator.agent_registry.get_agent(name) for name in names):
                break
            clock.wait(0.05)
        for task_type, description, capabilities, priority in WORK:
            task_id = coordinator.assign_task(task_type, description, {}, capabilities, priority)
            say(f"assigned: {description}" if task_id else f"nobody can: {description}")
        for _ in range(int(PATIENCE / 0.05)):
            coordinator.process_incoming_messages()
            if not coordinator.active_tasks:
                break
            clock.wait(0.05)
        stats = coordinator.get_coordination_stats()
    metrics = stats["metrics"]
    say(f"completed {metrics['tasks_completed']}, failed {metrics['tasks_failed']}, active {stats['active_tasks']}")
