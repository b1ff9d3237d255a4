"""Messages and tasks, made shortly."""

from __future__ import annotations

from typing import Any

from agent_messaging.payloads import checksum
from agent_messaging.storage.ports import (
    ClaimedQueueMessage,
    NewQueueMessage,
    NewTask,
    NewWorker,
    QueueSettlement,
    Settling,
)

CONTENT = '{"task":"process_data"}'


def a_message(message_id: str, agent_id: str = "bob", *, priority: int = 2, **changes: Any) -> NewQueueMessage:
    """A message of alice's."""
    given: dict[str, Any] = {
        "sender_id": "alice",
        "type": "task_assignment",
        "content": CONTENT,
        "metadata": None,
        "checksum": checksum(CONTENT, None),
        "max_attempts": 3,
    }
    return NewQueueMessage(message_id=message_id, agent_id=agent_id, priority=priority, **given | changes)


def a_task(task_id: str, *needs: str, **changes: Any) -> NewTask:
    """A task whose message is named after it."""
    given: dict[str, Any] = {
        "type": "build",
        "priority": 2,
        "content": CONTENT,
        "checksum": checksum(CONTENT, None),
        "max_attempts": 3,
        "run_limit": 300.0,
        "message": a_message(f"about-{task_id}", ""),
    }
    return NewTask(task_id=task_id, needs=needs, **given | changes)


def a_worker(worker_id: str, *capabilities: str, capacity: int = 1, ttl: float = 90.0, **changes: Any) -> NewWorker:
    """A worker that is told of its tasks by message."""
    return NewWorker(
        worker_id=worker_id, role="worker", capabilities=capabilities, capacity=capacity, ttl=ttl, **changes
    )


def done(claimed: ClaimedQueueMessage) -> QueueSettlement:
    """The end of a claim whose message was handled."""
    return QueueSettlement(claimed.claim, Settling.DONE)


def ids(claimed: list[ClaimedQueueMessage]) -> list[str]:
    """The ids of the messages, in their order."""
    return [one.claim.message_id for one in claimed]
