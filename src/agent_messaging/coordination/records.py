"""What users see of tasks, workers and schedules, and how it is made of what the store has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..bodies import open_or_mark
from ..delivery.schedules import EVERY
from ..exceptions import AgentMessagingError
from ..models import TaskState
from ..storage.ports import ScheduleRow, TaskRow, WorkerRow
from ..storage.task_texts import load_task
from .message_protocol import MessagePriority


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it is in the store."""

    task_id: str
    type: str
    description: str
    required_capabilities: tuple[str, ...]
    priority: MessagePriority
    payload: Any
    """What it was delegated with, as plain JSON values; None if it is damaged."""
    supervisor: str | None
    """Who handed it out, if that was said."""
    state: TaskState
    worker_id: str | None
    """Who has it, or had it last."""
    attempt: int
    """Runs so far."""
    max_attempts: int
    """Runs before it has failed."""
    progress: float
    """0 to 1, as its worker said last."""
    note: str | None
    """What its worker said of the progress last."""
    reason: str | None
    """Why it failed, last or for good, or was cancelled."""
    created_at: datetime
    deadline: datetime | None
    """It expires then, whoever has it; None: never."""
    assigned_at: datetime | None
    """When a worker was given it last."""
    settled_at: datetime | None
    """When it ended; None: it has not."""
    log: list[dict[str, object]]
    """What went wrong, oldest first."""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker as the store knows it."""

    worker_id: str
    role: str
    """`worker`, or what it was registered as without asyncio."""
    capabilities: tuple[str, ...]
    max_concurrent_tasks: int
    """Its places, over all of its processes."""
    current_tasks: int
    """Places that are taken."""
    status: str
    """Its own word: with "active" and "idle" it takes tasks."""
    is_alive: bool
    """It has given a sign of life in time."""
    last_heartbeat: datetime

    @property
    def load(self) -> float:
        """The share of its places that are taken."""
        return self.current_tasks / self.max_concurrent_tasks


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """What became of one of the tasks of `map`."""

    index: int
    """The place of its item."""
    item: Any
    """The payload."""
    task_id: str
    result: Any = None
    """Plain JSON, or of the response type; None where there is an error."""
    error: AgentMessagingError | None = None
    """A `TaskError` where it has no result; else why its result cannot be read, or found."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it is in the store."""

    name: str
    task_type: str
    cron: str | None
    """The expression; None: it is an interval."""
    every: float | None
    """Seconds between two instants; None: it is a cron expression."""
    timezone: str
    """The zone of the expression."""
    next_at: datetime
    """When it fires next."""
    fired: int
    """How often it has handed its task out."""
    fired_at: datetime | None
    """The instant of the newest firing."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A stored body."""

    content: str
    checksum: int
    metadata: None = None


def task_of(row: TaskRow) -> Task:
    body = open_or_mark(Sealed(row.content, row.checksum), f"task {row.task_id}")
    ranks = [*MessagePriority]
    return Task(
        task_id=row.task_id,
        type=row.type,
        description=row.description,
        required_capabilities=row.needs,
        priority=ranks[min(row.priority, len(ranks) - 1)],
        payload=body.content,
        supervisor=row.supervisor,
        state=row.state,
        worker_id=row.worker_id,
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        progress=row.fraction,
        note=row.note,
        reason=row.reason,
        created_at=row.created_at,
        deadline=row.deadline_at,
        assigned_at=row.assigned_at,
        settled_at=row.settled_at,
        log=row.log,
    )


def schedule_of(row: ScheduleRow) -> Schedule:
    is_interval = row.rule.startswith(EVERY)
    return Schedule(
        name=row.name,
        task_type=load_task(row.task, row.name).type,
        cron=None if is_interval else row.rule,
        every=float(row.rule.removeprefix(EVERY)) if is_interval else None,
        timezone=row.zone,
        next_at=row.next_at,
        fired=row.fired,
        fired_at=row.fired_at,
    )


def worker_of(row: WorkerRow) -> WorkerInfo:
    return WorkerInfo(
        worker_id=row.worker_id,
        role=row.role,
        capabilities=row.capabilities,
        max_concurrent_tasks=row.capacity,
        current_tasks=row.busy,
        status=row.status,
        is_alive=row.is_alive,
        last_heartbeat=row.heartbeat_at,
    )
