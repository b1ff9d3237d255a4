"""Messages and tasks, made shortly, and processes that live."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
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
from agent_messaging.storage.redis.store import RedisStore

LEASE = 20.0
"""Seconds; far more than a test takes."""
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


class Process:
    """A store whose presence was started."""

    def __init__(self, store: RedisStore) -> None:
        self.store = store
        self.rings = 0
        self.rung = asyncio.Event()
        self.lost: list[str] = []

    @property
    def id(self) -> str:
        """Its name in the store."""
        return self.store.presence.process_id

    async def start(self) -> None:
        """Appear."""
        await self.store.open()
        await self.store.presence.start(self._ring, lambda: self.lost.append(self.id))

    def _ring(self) -> None:
        self.rings += 1
        self.rung.set()

    async def wait_for_ring(self) -> None:
        """Wait until it is rung."""
        async with asyncio.timeout(10):
            await self.rung.wait()
        self.rung.clear()


Live = Callable[..., Awaitable[Process]]
"""Makes a live process, at the server of this URL or at the one that the tests share, with a lease."""
