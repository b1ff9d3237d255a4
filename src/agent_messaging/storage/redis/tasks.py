"""Tasks on Redis: see `lua/tasks.lua` for what is stored."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from ...models import TaskState
from ..ports import (
    Assigned,
    AssignNews,
    AssignOutcome,
    KnownTask,
    NewTask,
    NobodyFits,
    Progress,
    Settling,
    Stock,
    TaskFilter,
    TaskNews,
    TaskRow,
    TasksAdvanced,
    TaskSettlement,
    TaskStatistics,
)
from .engine import Engine
from .queue import message_arguments
from .values import duration, fraction, instant, maybe, moved, number, seconds, text


class RedisTaskStore:
    """Implements `ports.TaskStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def assign(
        self, tasks: Sequence[NewTask], *, origin: str | None = None, now: datetime | None = None
    ) -> AssignNews:
        """See `ports.TaskStore`."""
        if not tasks:
            return AssignNews([])
        answers, processes = await self._engine.call(
            "assign", now=now, origin=origin, tasks=[_task_arguments(task) for task in tasks]
        )
        outcomes = [_read_outcome(task.task_id, answer) for task, answer in zip(tasks, answers, strict=True)]
        return AssignNews(outcomes, _names(processes))

    async def assign_waiting(self, limit: int, *, now: datetime | None = None) -> AssignNews:
        """See `ports.TaskStore`."""
        answers, processes = await self._engine.call("assign_waiting", now=now, limit=limit)
        return AssignNews(
            [Assigned(text(one), text(by), number(token)) for one, by, token in answers], _names(processes)
        )

    async def settle(self, settlements: Sequence[TaskSettlement], *, now: datetime | None = None) -> TaskNews:
        """See `ports.TaskStore`."""
        if not settlements:
            return TaskNews([])
        given = [
            {
                "id": one.claim.task_id,
                "token": one.claim.token,
                "how": one.how.value,
                "event": one.how.event,
                "result": one.result,
                "checksum": None if one.checksum is None else str(one.checksum),
                "delay": duration(one.delay) if one.how is Settling.RETRY else 0,
                "reason": one.reason,
            }
            for one in settlements
        ]
        return _read_news(await self._engine.call("settle_tasks", now=now, settlements=given))

    async def progress(self, reports: Sequence[Progress], *, now: datetime | None = None) -> list[bool]:
        """See `ports.TaskStore`."""
        if not reports:
            return []
        given = [
            {"id": one.claim.task_id, "token": one.claim.token, "fraction": repr(one.fraction), "note": one.note}
            for one in reports
        ]
        return moved(await self._engine.call("progress", now=now, reports=given))

    async def cancel(self, task_ids: Collection[str], reason: str, *, now: datetime | None = None) -> TaskNews:
        """See `ports.TaskStore`."""
        return _read_news(await self._engine.call("cancel", now=now, ids=list(task_ids), reason=reason))

    async def reprioritise(self, task_ids: Collection[str], priority: int) -> list[bool]:
        """See `ports.TaskStore`."""
        return moved(await self._engine.call("reprioritise", ids=list(task_ids), priority=priority))

    async def find_tasks(self, task_ids: Collection[str]) -> list[TaskRow]:
        """See `ports.TaskStore`."""
        return [_read_row(row) for row in await self._engine.call("find_tasks", ids=sorted(task_ids))]

    async def list_tasks(self, which: TaskFilter, limit: int, offset: int) -> list[TaskRow]:
        """See `ports.TaskStore`."""
        rows = await self._engine.call(
            "list_tasks",
            states=None if which.states is None else sorted(state.value for state in which.states),
            type=which.type,
            worker=which.worker_id,
            supervisor=which.supervisor,
            limit=limit,
            offset=offset,
        )
        return [_read_row(row) for row in rows]

    async def release_tasks(self, owners: Collection[str], *, now: datetime | None = None) -> int:
        """See `ports.TaskStore`; no process runs tasks here, so only its workers are marked as offline."""
        return int(await self._engine.call("release_tasks", now=now, owners=sorted(owners)))

    async def advance(self, *, now: datetime | None = None) -> TasksAdvanced:
        """See `ports.TaskStore`."""
        released, expired, due, processes, next_in = await self._engine.call("advance_tasks", now=now)
        return TasksAdvanced(released, expired, due, _names(processes), seconds(next_in))

    async def statistics(self, supervisor: str | None = None, *, now: datetime | None = None) -> TaskStatistics:
        """See `ports.TaskStore`."""
        flat, average, oldest = await self._engine.call("task_statistics", now=now, supervisor=supervisor)
        counts = {text(name): number(count) for name, count in zip(flat[::2], flat[1::2], strict=True)}
        return TaskStatistics(
            counts={state: counts[state.value] for state in TaskState if counts.get(state.value)},
            average_duration=seconds(average),
            oldest_queued_age=seconds(oldest),
        )

    async def prune(
        self, older_than: float, limit: int, *, states: Collection[TaskState] | None = None, now: datetime | None = None
    ) -> int:
        """See `ports.TaskStore`."""
        words = [state.value for state in TaskState if state.is_final and (states is None or state in states)]
        return int(
            await self._engine.call("prune_tasks", now=now, older_than=duration(older_than), limit=limit, states=words)
        )

    async def measure(
        self, older_than: float, *, states: Collection[TaskState] | None = None, now: datetime | None = None
    ) -> Stock:
        """See `ports.TaskStore`."""
        words = [state.value for state in TaskState if state.is_final and (states is None or state in states)]
        found = await self._engine.call("measure_tasks", now=now, older_than=duration(older_than), states=words)
        return Stock(*map(int, found))


def _task_arguments(task: NewTask) -> dict[str, Any]:
    return {
        "id": task.task_id,
        "type": task.type,
        "description": task.description,
        "needs": list(task.needs),
        "capabilities": json.dumps(list(task.needs)),
        "priority": task.priority,
        "content": task.content,
        "checksum": str(task.checksum),
        "supervisor": task.supervisor,
        "max_attempts": task.max_attempts,
        "run_limit": None if task.run_limit is None else duration(task.run_limit),
        "expires_in": None if task.expires_in is None else duration(task.expires_in),
        "message": None if task.message is None else json.dumps(message_arguments(task.message)),
    }


def _names(values: list[bytes]) -> set[str]:
    return {text(value) for value in values}


def _read_news(answer: list[Any]) -> TaskNews:
    return TaskNews(moved(answer[0]), _names(answer[1]))


def _read_outcome(task_id: str, answer: list[bytes]) -> AssignOutcome:
    match answer:
        case [b"assigned", worker, token]:
            return Assigned(task_id, text(worker), number(token))
        case [b"known", state, worker, token]:
            return KnownTask(TaskState(text(state)), maybe(worker), number(token))
        case _:
            return NobodyFits()


def _read_row(row: list[bytes]) -> TaskRow:
    kind, description, needs, priority, content, checksum, supervisor, state, worker, token = row[:10]
    attempt, most, origin, result, result_checksum, reason, share, note, created, deadline = row[10:20]
    assigned, settled, log, ident = row[20:]
    return TaskRow(
        task_id=text(ident),
        type=text(kind),
        description=text(description),
        needs=tuple(json.loads(needs)),
        priority=number(priority),
        content=text(content),
        checksum=number(checksum),
        supervisor=maybe(supervisor),
        state=TaskState(text(state)),
        worker_id=maybe(worker),
        token=number(token),
        attempt=number(attempt),
        max_attempts=number(most),
        owner=None,
        origin=maybe(origin),
        result=maybe(result),
        result_checksum=number(result_checksum) if result_checksum else None,
        reason=maybe(reason),
        fraction=fraction(share),
        note=maybe(note),
        created_at=instant(created),
        deadline_at=instant(deadline) if deadline else None,
        assigned_at=instant(assigned) if assigned else None,
        settled_at=instant(settled) if settled else None,
        log=[_read_entry(*entry) for entry in json.loads(log or b"[]")],
    )


def _read_entry(at: str, event: str, attempt: str, worker: str, reason: str) -> dict[str, object]:
    return {
        "at": instant(at.encode()).isoformat(),
        "event": event,
        "attempt": int(attempt),
        "worker": worker or None,
        "reason": reason or None,
    }
