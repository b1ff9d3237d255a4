"""Tasks on Redis: see `lua/tasks.lua` for what is stored."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from ...ids import uuid7
from ...models import TaskState
from .. import choosing, workload
from ..ports import (
    CLAIM_MARGIN,
    Assigned,
    AssignNews,
    AssignOutcome,
    ClaimedTask,
    EndedTask,
    Exchanged,
    KnownTask,
    NewTask,
    NobodyFits,
    Progress,
    Redriven,
    Settling,
    Stock,
    TaskClaim,
    TaskFilter,
    TaskNews,
    TaskRequest,
    TaskRow,
    TasksAdvanced,
    TaskSettlement,
    TaskStatistics,
)
from .engine import Engine
from .queue import message_arguments
from .together import Together
from .values import duration, final_words, fraction, instant, maybe, moved, names, number, seconds, text


class RedisTasks:
    """See `ports.TaskPool`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._submit = Together(engine, "submit", "tasks")

    async def assign(
        self, tasks: Sequence[NewTask], *, origin: str | None = None, now: datetime | None = None
    ) -> AssignNews:
        if not tasks:
            return AssignNews([])
        answers, processes, listeners = await self._engine.call(
            "assign", now=now, origin=origin, tasks=[task_arguments(task) for task in tasks]
        )
        outcomes = [_read_outcome(task.task_id, answer) for task, answer in zip(tasks, answers, strict=True)]
        return AssignNews(outcomes, names(processes), names(listeners))

    async def assign_waiting(self, limit: int, *, now: datetime | None = None) -> AssignNews:
        answers, processes, listeners = await self._engine.call("assign_waiting", now=now, limit=limit)
        outcomes: list[AssignOutcome] = [Assigned(text(one), text(by), number(token)) for one, by, token in answers]
        return AssignNews(outcomes, names(processes), names(listeners))

    async def submit(
        self, tasks: Sequence[NewTask], *, origin: str | None = None, now: datetime | None = None
    ) -> TaskNews:
        if not tasks:
            return TaskNews([])
        size = sum(task.size for task in tasks)
        answer = await self._submit([task_arguments(task) for task in tasks], size=size, now=now, origin=origin)
        return read_news([answer.items, answer.rest[0] if 1 in answer.items else []])

    async def exchange(
        self,
        settlements: Sequence[TaskSettlement],
        requests: Sequence[TaskRequest],
        *,
        owner: str,
        now: datetime | None = None,
    ) -> Exchanged:
        """See `ports.TaskPool`. Where an answer was lost, the repeat gets what the first try took."""
        if not settlements and not requests:
            return Exchanged([], set(), [])
        given = [
            {
                "worker": request.worker_id,
                "limit": request.limit,
                "run_limit": duration(request.run_limit),
                "types": request.types,
                "but": request.but,
            }
            for request in requests
        ]
        today, answers, processes, taken = await self._engine.call(
            "exchange",
            now=now,
            call=uuid7(),
            owner=owner,
            settlements=[_settlement_arguments(one) for one in settlements],
            requests=given,
            margin=duration(CLAIM_MARGIN),
        )
        return Exchanged(
            moved(answers),
            names(processes),
            self._engine.aside.all(partial(_read_taken, today=number(today)), taken, "a task"),
        )

    async def list_claims(self, owner: str) -> list[TaskClaim]:
        found = await self._engine.call("list_claims", owner=owner)
        return [TaskClaim(text(id), number(token)) for id, token in found]

    async def find_lost(self, claims: Collection[TaskClaim]) -> list[TaskClaim]:
        given = [{"id": claim.task_id, "token": claim.token} for claim in claims]
        answers = moved(await self._engine.call("find_lost", claims=given))
        return [claim for claim, is_lost in zip(claims, answers, strict=True) if is_lost]

    async def find_waiting(self, worker_ids: Collection[str], *, now: datetime | None = None) -> list[str]:
        ids = sorted(set(worker_ids))
        answers = moved(await self._engine.call("find_waiting", now=now, ids=ids))
        return [id for id, is_waiting in zip(ids, answers, strict=True) if is_waiting]

    async def settle(self, settlements: Sequence[TaskSettlement], *, now: datetime | None = None) -> TaskNews:
        if not settlements:
            return TaskNews([])
        given = [_settlement_arguments(one) for one in settlements]
        return read_news(await self._engine.call("settle_tasks", now=now, settlements=given))

    async def progress(self, reports: Sequence[Progress], *, now: datetime | None = None) -> list[bool]:
        if not reports:
            return []
        given = [
            {"id": one.claim.task_id, "token": one.claim.token, "fraction": repr(one.fraction), "note": one.note}
            for one in reports
        ]
        return moved(await self._engine.call("progress", now=now, reports=given))

    async def cancel(self, task_ids: Collection[str], reason: str, *, now: datetime | None = None) -> TaskNews:
        return read_news(await self._engine.call("cancel", now=now, ids=list(task_ids), reason=reason))

    async def reprioritise(self, task_ids: Collection[str], priority: int) -> list[bool]:
        return moved(await self._engine.call("reprioritise", ids=list(task_ids), priority=priority))

    async def redrive(
        self, task_ids: Collection[str] | None, type: str | None = None, *, now: datetime | None = None
    ) -> Redriven:
        ids = None if task_ids is None else sorted(set(task_ids))
        redriven, processes = await self._engine.call("redrive_tasks", now=now, ids=ids, type=type)
        return Redriven([text(id) for id in redriven], names(processes))

    async def find_tasks(self, task_ids: Collection[str]) -> list[TaskRow]:
        rows = await self._engine.call("find_tasks", ids=sorted(set(task_ids)))
        return self._engine.aside.all(_read_row, rows, "a task")

    async def find_ended(self, task_ids: Collection[str]) -> dict[str, EndedTask | None]:
        missing, rows = await self._engine.call("find_ended", ids=sorted(set(task_ids)))
        known = self._engine.aside.all(_read_end, rows, "a task")
        return dict.fromkeys(map(text, missing)) | {row.task_id: row for row in known}

    async def list_tasks(self, which: TaskFilter, limit: int, offset: int) -> list[TaskRow]:
        rows = await self._engine.read_page(
            "list_tasks",
            limit,
            offset,
            way=workload.way_of(which),
            states=None if which.states is None else sorted(state.value for state in which.states),
            type=which.type,
            worker=which.worker_id,
            supervisor=which.supervisor,
        )
        return self._engine.aside.all(_read_row, rows, "a task")

    async def release_tasks(self, owners: Collection[str], *, now: datetime | None = None) -> int:
        return int(await self._engine.call("release_tasks", now=now, owners=sorted(owners)))

    async def advance(self, *, now: datetime | None = None) -> TasksAdvanced:
        released, expired, due, processes, next_in = await self._engine.call("advance_tasks", now=now)
        return TasksAdvanced(released, expired, due, names(processes), seconds(next_in))

    async def statistics(self, supervisor: str | None = None, *, now: datetime | None = None) -> TaskStatistics:
        flat, average, oldest = await self._engine.call("task_statistics", now=now, supervisor=supervisor)
        counts = {text(name): number(count) for name, count in zip(flat[::2], flat[1::2], strict=True)}
        return TaskStatistics(
            counts=self._engine.aside.counts(TaskState, counts),
            average_duration=seconds(average),
            oldest_queued_age=seconds(oldest),
        )

    async def prune(
        self, older_than: float, limit: int, *, states: Collection[TaskState] | None = None, now: datetime | None = None
    ) -> int:
        words = final_words(TaskState, states)
        return int(
            await self._engine.call("prune_tasks", now=now, older_than=duration(older_than), limit=limit, states=words)
        )

    async def measure(
        self, older_than: float, *, states: Collection[TaskState] | None = None, now: datetime | None = None
    ) -> Stock:
        words = final_words(TaskState, states)
        found = await self._engine.call("measure_tasks", now=now, older_than=duration(older_than), states=words)
        return Stock(*map(int, found))


def task_arguments(task: NewTask) -> dict[str, Any]:
    """The task as the script takes it. What it has not is left out: the script would make a value of each."""
    arguments: dict[str, Any] = {
        "id": task.task_id,
        "type": task.type,
        "needs": list(task.needs),
        "capabilities": json.dumps(list(task.needs)),
        "priority": task.priority,
        "content": task.content,
        "checksum": str(task.checksum),
        "max_attempts": task.max_attempts,
    }
    if task.description:
        arguments["description"] = task.description
    if task.supervisor is not None:
        arguments["supervisor"] = task.supervisor
    if task.delay:
        arguments["delay"] = duration(task.delay)
    if task.run_limit is not None:
        arguments["run_limit"] = duration(task.run_limit)
    if task.expires_in is not None:
        arguments["expires_in"] = duration(task.expires_in)
    if task.message is not None:
        arguments["message"] = json.dumps(message_arguments(task.message))
    if task.trace is not None:
        arguments["trace"] = task.trace
    return arguments


def _settlement_arguments(one: TaskSettlement) -> dict[str, Any]:
    arguments: dict[str, Any] = {"id": one.claim.task_id, "token": one.claim.token, "how": one.how.value}
    if one.how.event is not None:
        arguments["event"] = one.how.event
    if one.result is not None:
        arguments["result"] = one.result
    if one.checksum is not None:
        arguments["checksum"] = str(one.checksum)
    if one.delay and one.how is Settling.RETRY:
        arguments["delay"] = duration(one.delay)
    if one.reason is not None:
        arguments["reason"] = one.reason
    return arguments


def read_news(answer: list[Any]) -> TaskNews:
    """What the verbs of tasks answer."""
    return TaskNews(moved(answer[0]), names(answer[1]))


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
    assigned, settled, log, owner, ident = row[20:25]
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
        owner=maybe(owner),
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


def _read_end(row: list[bytes]) -> EndedTask:
    state, reason, result, result_checksum, ident = row
    return EndedTask(
        text(ident),
        TaskState(text(state)),
        maybe(reason),
        maybe(result),
        number(result_checksum) if result_checksum else None,
    )


def _read_taken(row: list[bytes], today: int) -> ClaimedTask:
    worker, kind, description, content, supervisor, origin, trace, numbers, ident = row
    priority, checksum, token, attempt, most, created, deadline, own, asked, suspect = numbers.split(b"\n")
    left = (number(deadline) - today) / 1e6 if deadline else None
    return ClaimedTask(
        claim=TaskClaim(text(ident), number(token)),
        worker_id=text(worker),
        attempt=number(attempt),
        max_attempts=number(most),
        type=text(kind),
        description=text(description),
        priority=number(priority),
        content=text(content),
        checksum=number(checksum),
        supervisor=maybe(supervisor),
        origin=maybe(origin),
        created_at=instant(created),
        run_limit=choosing.limit_of(number(own) / 1e6 if own else None, number(asked) / 1e6, left),
        is_suspect=suspect == b"1",
        trace=maybe(trace),
    )


def _read_entry(at: str, event: str, attempt: str, worker: str, reason: str) -> dict[str, object]:
    return {
        "at": instant(at.encode()).isoformat(),
        "event": event,
        "attempt": int(attempt),
        "worker": worker or None,
        "reason": reason or None,
    }
