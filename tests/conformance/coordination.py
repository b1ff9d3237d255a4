"""Short forms of the verbs of queues, workers and tasks, so that a test shows only what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import TaskState
from agent_messaging.payloads import checksum
from agent_messaging.storage.ports import (
    AssignOutcome,
    ClaimedQueueMessage,
    ClaimedTask,
    CoordinationStore,
    Exchanged,
    NewQueueMessage,
    NewTask,
    NewWorker,
    QueueMessageRow,
    QueueSettlement,
    Settling,
    TaskClaim,
    TaskFilter,
    TaskPool,
    TaskRequest,
    TaskRow,
    TaskSettlement,
    WorkerRow,
)

from .base import StoreFixtures

SUM = checksum('{"n":1}', None)
LEASE = 30.0
TTL = 90.0


@dataclass
class Crew:
    """A store with an instant from which a test counts, and a process that acts where a test names none."""

    store: CoordinationStore
    start: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    owner: str = field(default_factory=new_id)

    def at(self, seconds: float) -> datetime:
        """So many seconds after the start."""
        return self.start + timedelta(seconds=seconds)

    # --- queues ---

    def message(self, message_id: str = "m", agent_id: str = "bob", **options: Any) -> NewQueueMessage:
        """A message for bob's queue, where not said otherwise."""
        values: dict[str, Any] = {
            "sender_id": "alice",
            "type": "task_request",
            "priority": 2,
            "content": '{"n":1}',
            "metadata": None,
            "checksum": SUM,
            "max_attempts": 3,
        }
        return NewQueueMessage(message_id, agent_id, **(values | options))

    async def put(self, *messages: NewQueueMessage | str, at: float = 0.0) -> list[bool]:
        """Put messages, or plain ones of these ids."""
        new = [self.message(one) if isinstance(one, str) else one for one in messages]
        return (await self.store.queue.put(new, now=self.at(at))).stored

    async def claim(self, limit: int = 100, *, at: float = 0.0, **options: Any) -> list[ClaimedQueueMessage]:
        """Claim from bob's queue, where not said otherwise."""
        agent_id = options.pop("agent_id", "bob")
        values: dict[str, Any] = {"owner": self.owner, "lease": LEASE}
        return await self.store.queue.claim(agent_id, limit, **(values | options), now=self.at(at))

    async def settle(
        self, claimed: ClaimedQueueMessage, how: Settling = Settling.DONE, *, at: float = 0.0, **options: Any
    ) -> bool:
        """End one claim."""
        (moved,) = await self.store.queue.settle([QueueSettlement(claimed.claim, how, **options)], now=self.at(at))
        return moved

    async def look(self, message_id: str, agent_id: str = "bob") -> QueueMessageRow:
        """One message as the listings show it."""
        (row,) = [
            row for row in await self.store.queue.list_messages(agent_id, None, 100, 0) if row.message_id == message_id
        ]
        return row

    # --- workers ---

    async def hire(
        self, worker_id: str = "w", *capabilities: str, at: float = 0.0, process_id: str | None = None, **options: Any
    ) -> bool:
        """Register a worker that can do python and has room for two tasks, where not said otherwise."""
        values: dict[str, Any] = {"role": "worker", "capacity": 2, "ttl": TTL}
        worker = NewWorker(worker_id, capabilities=capabilities or ("python",), **(values | options))
        return await self.store.workers.register(worker, process_id=process_id, now=self.at(at))

    async def worker(self, worker_id: str = "w", *, at: float = 0.0) -> WorkerRow:
        """One worker as it is known."""
        (row,) = await self.store.workers.find_workers([worker_id], now=self.at(at))
        return row

    # --- tasks ---

    def task(self, task_id: str = "t", *needs: str, **options: Any) -> NewTask:
        """A task that needs python, where not said otherwise."""
        values: dict[str, Any] = {"priority": 2, "content": '{"n":1}', "checksum": SUM, "max_attempts": 3}
        return NewTask(task_id, options.pop("type", "build"), needs or ("python",), **(values | options))

    async def assign(self, *tasks: NewTask | str, at: float = 0.0) -> list[AssignOutcome]:
        """Assign tasks, or plain ones of these ids."""
        new = [self.task(one) if isinstance(one, str) else one for one in tasks]
        return (await self.store.tasks.assign(new, origin=self.owner, now=self.at(at))).outcomes

    async def end(self, claim: TaskClaim, how: Settling = Settling.DONE, *, at: float = 0.0, **options: Any) -> bool:
        """Settle one booking or run."""
        news = await self.store.tasks.settle([TaskSettlement(claim, how, **options)], now=self.at(at))
        return news.moved[0]

    async def find(self, task_id: str = "t") -> TaskRow:
        """One task as it is now."""
        (row,) = await self.store.tasks.find_tasks([task_id])
        return row

    async def booking(self, task_id: str = "t") -> TaskClaim:
        """What its worker settles it with."""
        return TaskClaim(task_id, (await self.find(task_id)).token)

    async def states(self) -> dict[str, TaskState]:
        """The states of all tasks."""
        return {row.task_id: row.state for row in await self.store.tasks.list_tasks(TaskFilter(), 1000, 0)}

    @property
    def pool(self) -> TaskPool:
        """The tasks."""
        return self.store.tasks

    async def submit(self, *tasks: NewTask | str, at: float = 0.0) -> list[bool]:
        """Put tasks into the pool, or plain ones of these ids."""
        new = [self.task(one) if isinstance(one, str) else one for one in tasks]
        return (await self.pool.submit(new, origin=self.owner, now=self.at(at))).moved

    async def exchange(
        self,
        worker_id: str = "w",
        limit: int = 10,
        *,
        settlements: Sequence[TaskSettlement] = (),
        at: float = 0.0,
        owner: str | None = None,
        types: tuple[str, ...] | None = None,
    ) -> Exchanged:
        """Settle, and let one worker take what it has room for."""
        request = TaskRequest(worker_id, limit, LEASE, types)
        return await self.pool.exchange(settlements, [request], owner=owner or self.owner, now=self.at(at))

    async def take(self, worker_id: str = "w", limit: int = 10, **options: Any) -> list[ClaimedTask]:
        """Let one worker take what it has room for."""
        return (await self.exchange(worker_id, limit, **options)).claimed


class CoordinationFixtures(StoreFixtures):
    """A crew on an open store. A backend of the coordination alone overrides `coordination` and `second`."""

    @pytest.fixture
    async def coordination(self, store: Any) -> CoordinationStore:
        """An open store."""
        return store  # type: ignore[no-any-return]

    @pytest.fixture
    async def crew(self, coordination: CoordinationStore) -> Crew:
        """A crew on the store."""
        return Crew(coordination)

    @pytest.fixture
    async def second(self, second_store: Any, crew: Crew) -> Crew:
        """Another one on the same data, through a store of its own."""
        return Crew(second_store, crew.start)


def ids(items: Sequence[Any]) -> list[str]:
    """The ids of claimed messages or tasks, in their order."""
    return [getattr(one.claim, "message_id", None) or one.claim.task_id for one in items]
