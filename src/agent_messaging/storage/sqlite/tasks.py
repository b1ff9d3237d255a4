"""Tasks in SQLite: settling, ending, listing. `assigning` chooses who gets them.

`ending` writes what ends or returns, and counts anew what each worker has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

import apsw

from ...models import TaskState
from .. import choosing, workload
from ..aside import read_log
from ..batches import ABOVE_ALL, read_page
from ..ports import (
    AssignNews,
    EndedTask,
    Exchanged,
    NewTask,
    Progress,
    Redriven,
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
from ..sql import Queries
from . import assigning
from .clock import SECOND, Instant, StoreClock, first_of, seconds_left, to_datetime, to_datetime_or_none
from .ending import find_held, find_named, release, settle, write
from .engine import Engine, fetch, fetch_many
from .rows import encode

_SQL = Queries(__package__, "tasks")
_AT_ONCE = 1_000
"""Rows of one kind that `advance` changes in one transaction."""
_Submission = tuple[Sequence[NewTask], str | None, datetime | None]
"""One call of `submit`."""


class SQLiteTasks:
    """See `ports.TaskPool`."""

    def __init__(self, engine: Engine, clock: StoreClock) -> None:
        self._engine = engine
        self._clock = clock

    async def assign(
        self, tasks: Sequence[NewTask], *, origin: str | None = None, now: datetime | None = None
    ) -> AssignNews:
        if not tasks:
            return AssignNews([])
        return await self._engine.write(
            lambda con: assigning.assign(con, tasks, origin, self._clock.now(now)),
            size=sum(task.size for task in tasks),
        )

    async def assign_waiting(self, limit: int, *, now: datetime | None = None) -> AssignNews:
        find = partial(assigning.find_to_assign, limit=1, instant=self._clock.now(now))
        if not await self._engine.read(find):
            return AssignNews([])
        return await self._engine.write(lambda con: assigning.assign_waiting(con, limit, self._clock.now(now)))

    async def submit(
        self, tasks: Sequence[NewTask], *, origin: str | None = None, now: datetime | None = None
    ) -> TaskNews:
        if not tasks:
            return TaskNews([])
        size = sum(task.size for task in tasks)
        return await self._engine.write_together(self._submit_together, (tasks, origin, now), size=size)

    def _submit_together(self, connection: apsw.Connection, calls: Sequence[_Submission]) -> list[TaskNews]:
        """Store the tasks of several calls by the statements of one; each is told of its own."""
        answers = []
        for (origin, now), some in groupby(calls, key=itemgetter(1, 2)):
            alike = [tasks for tasks, _, _ in some]
            together = [task for tasks in alike for task in tasks]
            news = assigning.submit(connection, together, origin, self._clock.now(now))
            moved = iter(news.moved)
            for tasks in alike:
                mine = [next(moved) for _ in tasks]
                answers.append(TaskNews(mine, news.processes if any(mine) else set()))
        return answers

    async def exchange(
        self,
        settlements: Sequence[TaskSettlement],
        requests: Sequence[TaskRequest],
        *,
        owner: str,
        now: datetime | None = None,
    ) -> Exchanged:

        def exchange(connection: apsw.Connection) -> Exchanged:
            instant = self._clock.now(now)
            ended = settle(connection, settlements, instant)
            claimed = assigning.take(connection, requests, owner, instant)
            return Exchanged(ended.moved, _find_interested(connection, ended), claimed)

        if not settlements and not requests:
            return Exchanged([], set(), [])
        return await self._engine.write(exchange, size=sum(settlement.size for settlement in settlements))

    async def settle(self, settlements: Sequence[TaskSettlement], *, now: datetime | None = None) -> TaskNews:

        def work(connection: apsw.Connection) -> TaskNews:
            ended = settle(connection, settlements, self._clock.now(now))
            return TaskNews(ended.moved, _find_interested(connection, ended))

        if not settlements:
            return TaskNews([])
        return await self._engine.write(work, size=sum(settlement.size for settlement in settlements))

    async def progress(self, reports: Sequence[Progress], *, now: datetime | None = None) -> list[bool]:

        def progress(connection: apsw.Connection) -> list[bool]:
            held = find_named(connection, [report.claim.task_id for report in reports])
            moved, last = workload.find_progress(reports, held)
            rows = [(seq, report.fraction, report.note) for seq, report in last.items()]
            connection.execute(_SQL["tasks_progress"], {"rows": encode(rows)})
            return moved

        return await self._engine.write(progress) if reports else []

    async def cancel(self, task_ids: Collection[str], reason: str, *, now: datetime | None = None) -> TaskNews:
        ids = list(task_ids)

        def cancel(connection: apsw.Connection) -> TaskNews:
            held = find_named(connection, ids)
            ended = workload.cancel_tasks(held, reason)
            write(connection, ended, self._clock.now(now))
            return TaskNews(workload.each_once(ids, held), ended.processes)

        return await self._engine.write(cancel) if ids else TaskNews([])

    async def reprioritise(self, task_ids: Collection[str], priority: int) -> list[bool]:
        ids = list(task_ids)

        def reprioritise(connection: apsw.Connection) -> list[bool]:
            queued = {one.id: one.seq for one in find_named(connection, ids) if one.state is TaskState.QUEUED}
            parameters = {"seqs": encode([*queued.values()]), "priority": priority}
            connection.execute(_SQL["tasks_reprioritise"], parameters)
            return [id in queued for id in ids]

        return await self._engine.write(reprioritise) if ids else []

    async def redrive(
        self, task_ids: Collection[str] | None, type: str | None = None, *, now: datetime | None = None
    ) -> Redriven:

        def redrive(connection: apsw.Connection) -> Redriven:
            instant = self._clock.now(now)
            if task_ids is None:
                rows = fetch(connection, _SQL["tasks_find_all_failed"], {"type": type})
            else:
                parameters = {"ids": encode(sorted(set(task_ids))), "type": type}
                rows = fetch(connection, _SQL["tasks_find_failed"], parameters)
            if not rows:
                return Redriven([])
            seqs = encode([seq for seq, _ in rows])
            connection.execute(_SQL["tasks_redrive"], {"seqs": seqs, "now": instant.due, "at": instant.at})
            return Redriven([id for _, id in rows], assigning.find_pullers(connection))

        return await self._engine.write(redrive)

    async def find_tasks(self, task_ids: Collection[str]) -> list[TaskRow]:
        ids = sorted(set(task_ids))
        rows = await self._engine.read(lambda con: fetch_many(con, _SQL["tasks_find"], ids))
        return self._engine.aside.all(_row, rows, "a task")

    async def find_ended(self, task_ids: Collection[str]) -> dict[str, EndedTask | None]:
        ids = sorted(set(task_ids))
        rows = await self._engine.read(lambda con: fetch_many(con, _SQL["tasks_find_ended"], ids))
        known = self._engine.aside.all(_ended, [row for row in rows if row[1] is not None], "a task")
        return {row[0]: None for row in rows if row[1] is None} | {one.task_id: one for one in known}

    async def list_tasks(self, which: TaskFilter, limit: int, offset: int) -> list[TaskRow]:
        rows = await read_page(lambda *page: self._engine.read(partial(_look, which=which, page=page)), limit, offset)
        return self._engine.aside.all(_row, rows, "a task")

    async def list_claims(self, owner: str) -> list[TaskClaim]:
        # The writer answers, because it stands behind every claim that this store has made.
        rows = await self._engine.write(lambda con: fetch(con, _SQL["tasks_list_claims"], {"owner": owner}))
        return [TaskClaim(id, token) for id, token in rows]

    async def find_lost(self, claims: Collection[TaskClaim]) -> list[TaskClaim]:
        ids = [claim.task_id for claim in claims]
        return workload.find_lost(claims, await self._engine.read(lambda con: find_named(con, ids)))

    async def find_waiting(self, worker_ids: Collection[str], *, now: datetime | None = None) -> list[str]:
        ids = sorted(set(worker_ids))
        requests = [TaskRequest(worker_id, 1, 0.0) for worker_id in ids]
        find = partial(assigning.find_takeable, requests=requests, owner=None, instant=self._clock.now(now))
        found, room = await self._engine.read(find)
        return choosing.find_able(found, ids, room)

    async def release_tasks(self, owners: Collection[str], *, now: datetime | None = None) -> int:
        if not owners:
            return 0
        return await self._engine.write(lambda con: release(con, owners, self._clock.now(now)))

    async def advance(self, *, now: datetime | None = None) -> TasksAdvanced:
        instant = self._clock.now(now)
        advanced, next_due = TasksAdvanced(), await self._engine.read(_next_due)
        if next_due is not None and next_due <= instant.due:
            advanced, next_due = await self._engine.write(lambda con: _advance(con, instant))
        next_in = seconds_left(next_due, instant)
        return TasksAdvanced(advanced.released, advanced.expired, advanced.due, advanced.processes, next_in)

    async def statistics(self, supervisor: str | None = None, *, now: datetime | None = None) -> TaskStatistics:
        instant = self._clock.now(now)
        find: Callable[[apsw.Connection], Any] = partial(
            fetch, sql=_SQL["tasks_statistics"], parameters={"supervisor": supervisor}
        )
        counts, duration, created_at = await self._engine.read(find)
        return TaskStatistics(
            counts=self._engine.aside.counts(TaskState, counts),
            average_duration=None if duration is None else duration / SECOND,
            oldest_queued_age=None if created_at is None else max(0.0, (instant.at - created_at) / SECOND),
        )

    async def prune(
        self, older_than: float, limit: int, *, states: Collection[TaskState] | None = None, now: datetime | None = None
    ) -> int:

        def prune(connection: apsw.Connection) -> int:
            before = self._clock.now(now).due - int(older_than * SECOND)
            wanted = None if states is None else encode(sorted(states))
            connection.execute(_SQL["tasks_prune"], {"before": before, "limit": limit, "states": wanted})
            return connection.changes()

        return await self._engine.write(prune)

    async def measure(
        self, older_than: float, *, states: Collection[TaskState] | None = None, now: datetime | None = None
    ) -> Stock:
        before = self._clock.now(now).due - int(older_than * SECOND)
        parameters = {"before": before, "states": None if states is None else encode(sorted(states))}
        return Stock(*await self._engine.read(lambda con: fetch(con, _SQL["tasks_measure"], parameters)))


def _look(
    connection: apsw.Connection, which: TaskFilter, page: tuple[int, int, int | None]
) -> tuple[list[Any], int, int | None]:
    """A step of `read_page`. Of rows that are too big for one text (a gigabyte) it returns the first."""
    limit, offset, below = page
    parameters = {
        "way": workload.way_of(which),
        "states": None if which.states is None else encode(sorted(which.states)),
        "type": which.type,
        "worker": which.worker_id,
        "supervisor": which.supervisor,
        "limit": limit,
        "offset": offset,
        "below": ABOVE_ALL if below is None else below,
        "most": workload.step_of(which),
    }
    place = None if parameters["most"] is None else fetch(connection, _SQL["tasks_find_place"], parameters)[0]
    try:
        number, rows = fetch(connection, _SQL["tasks_list"], {**parameters, "place": place or 0})
    except apsw.TooBigError:
        if limit < 2:
            raise
        return _look(connection, which, (limit // 2, offset, below))
    return [row[:-1] for row in rows], *workload.rest_of([row[-1] for row in rows], limit, offset, number, place)


def _find_interested(connection: apsw.Connection, ended: workload.Ended) -> set[str]:
    """The processes that may want to look: also those that could take what is in the pool again."""
    return ended.processes | (assigning.find_pullers(connection) if ended.is_any_queued else set())


def _next_due(connection: apsw.Connection) -> int | None:
    return first_of(fetch(connection, _SQL["tasks_next"], {}))


def _advance(connection: apsw.Connection, instant: Instant) -> tuple[TasksAdvanced, int | None]:
    parameters = {"now": instant.due, "limit": _AT_ONCE}
    late = workload.expire_tasks(find_held(connection, "tasks_find_late", **parameters))
    write(connection, late, instant)
    held = find_held(connection, "tasks_find_overdue", **parameters)
    overdue = workload.lose_tasks(held)
    write(connection, overdue, instant)
    connection.execute(_SQL["tasks_due"], parameters)
    due = connection.changes()
    processes = late.processes | overdue.processes
    if due or overdue.is_any_queued:
        processes |= assigning.find_pullers(connection)
    return TasksAdvanced(len(held), len(late.changes), due, processes), _next_due(connection)


def _entry(entry: dict[str, Any]) -> dict[str, object]:
    return {**entry, "at": to_datetime(entry["at"]).isoformat()}


def _row(row: list[Any]) -> TaskRow:
    id, type_, description, needs, priority, content, checksum, supervisor, state, *more = row
    *counts, created_at, deadline_at, assigned_at, settled_at, log = more
    body = type_, description, tuple(json.loads(needs)), priority, content, checksum, supervisor
    later = map(to_datetime_or_none, (deadline_at, assigned_at, settled_at))
    rest: list[Any] = [*body, TaskState(state), *counts, to_datetime(created_at), *later, read_log(log, _entry)]
    return TaskRow(id, *rest)


def _ended(row: Any) -> EndedTask:
    id, state, *end = row
    return EndedTask(id, TaskState(state), *end)
