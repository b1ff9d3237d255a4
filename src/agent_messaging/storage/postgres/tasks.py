"""Tasks in PostgreSQL: settling, ending, listing. `assigning` chooses who gets them.

`ending` writes what ends or returns, and counts anew what each worker has.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any

from ...exceptions import StorageBusyError
from ...models import TaskState
from ...records import dataclass
from .. import choosing, workload
from ..aside import read_log
from ..batcher import Batcher
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
from .ending import find_held, find_named, lock_named, release, settle, write
from .engine import Connection, Engine, columns, count_of

_SQL = Queries(__package__, "tasks")
_LONG = 120.0
"""Seconds that measuring may take."""
_AT_ONCE = 1_000
"""Rows of one kind that `advance` changes in one transaction, and tasks of several calls that are stored in one."""
_MOMENT = 0.25
"""Seconds for which the tasks of several calls wait together for somebody who is storing one of the same id."""


@dataclass(slots=True, eq=False)
class _Submission:
    """One call of `submit`."""

    tasks: Sequence[NewTask]
    origin: str | None
    now: datetime | None
    size: int


class PostgresTasks:
    """See `ports.TaskPool`.

    Calls of `submit` that come while others are stored share the next commit.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._submissions = Batcher(
            self._submit_together,
            self._submit_alone,
            choose=_first_round,
            budget=engine.call_timeout,
            at_once=_AT_ONCE,
            size=attrgetter("size"),
        )

    async def assign(
        self, tasks: Sequence[NewTask], *, origin: str | None = None, now: datetime | None = None
    ) -> AssignNews:
        if not tasks:
            return AssignNews([])
        return await self._assign(partial(assigning.assign, tasks=tasks, origin=origin, now=now))

    async def assign_waiting(self, limit: int, *, now: datetime | None = None) -> AssignNews:
        if not await self._engine.fetch(_SQL["tasks_find_to_assign"], 1, now):
            return AssignNews([])
        return await self._assign(partial(assigning.assign_waiting, limit=limit, now=now))

    async def _assign(self, work: Callable[..., Awaitable[AssignNews]]) -> AssignNews:
        for spare in assigning.SPARE_WORKERS:
            try:
                return await self._engine.run(partial(work, spare=spare), write=True)
            except assigning.CrowdedError:
                continue
        raise StorageBusyError(
            "All workers were filled by others before this call could book one. Repeat it with the same task ids."
        )

    async def submit(
        self, tasks: Sequence[NewTask], *, origin: str | None = None, now: datetime | None = None
    ) -> TaskNews:
        if not tasks:
            return TaskNews([])
        return await self._submissions(_Submission(tasks, origin, now, sum(task.size for task in tasks)))

    async def _submit_alone(self, call: _Submission, budget: float) -> TaskNews:
        (news,) = await self._submit_together([call], budget)
        return news

    async def _submit_together(self, calls: list[_Submission], budget: float) -> list[TaskNews]:
        """One transaction for the tasks of all calls; each is told of its own."""
        tasks = [task for call in calls for task in call.tasks]
        origin, now = calls[0].origin, calls[0].now

        submit = partial(
            assigning.submit, tasks=tasks, origin=origin, now=now, moment=_MOMENT if len(calls) > 1 else None
        )
        news = await self._engine.run(submit, write=True, single=True, budget=budget)
        all_moved = iter(news.moved)
        answers = []
        for call in calls:
            moved = [next(all_moved) for _ in call.tasks]
            answers.append(TaskNews(moved, news.processes if any(moved) else set()))
        return answers

    async def exchange(
        self,
        settlements: Sequence[TaskSettlement],
        requests: Sequence[TaskRequest],
        *,
        owner: str,
        now: datetime | None = None,
    ) -> Exchanged:
        if not settlements and not requests:
            return Exchanged([], set(), [])
        if assigning.is_plain(settlements, requests):
            work = partial(assigning.exchange_plain, settlements=settlements, requests=requests, owner=owner, now=now)
            plain = await self._engine.run(work, write=True, single=True, repeatable=not requests)
            if plain is not None:
                moved, processes = [True] * len(settlements), plain.processes
                if not plain.is_open:
                    return Exchanged(moved, processes, plain.claimed)
                rest = await self._exchange((), requests, owner, now)
                return Exchanged(moved, processes | rest.processes, rest.claimed)
        return await self._exchange(settlements, requests, owner, now)

    async def _exchange(
        self,
        settlements: Sequence[TaskSettlement],
        requests: Sequence[TaskRequest],
        owner: str,
        now: datetime | None,
    ) -> Exchanged:
        """The same with the rules."""

        async def work(connection: Connection) -> Exchanged:
            ended, claimed = await assigning.exchange(connection, settlements, requests, owner, now)
            return Exchanged(ended.moved, await _find_interested(connection, ended), claimed)

        # Settling alone answers a repeat as the first time; a claim would be lost by it.
        return await self._engine.run(work, write=True, repeatable=not requests)

    async def settle(self, settlements: Sequence[TaskSettlement], *, now: datetime | None = None) -> TaskNews:
        async def work(connection: Connection) -> TaskNews:
            ended = await settle(connection, settlements, now)
            return TaskNews(ended.moved, await _find_interested(connection, ended))

        return await self._engine.run(work, write=True, repeatable=True) if settlements else TaskNews([])

    async def progress(self, reports: Sequence[Progress], *, now: datetime | None = None) -> list[bool]:
        async def work(connection: Connection) -> list[bool]:
            found = await find_named(connection, [report.claim.task_id for report in reports])
            rows = await connection.fetch(_SQL["tasks_lock"], [one.seq for one in found])
            moved, last = workload.find_progress(reports, [workload.held_task(*row) for row in rows])
            told = [(seq, report.fraction, report.note) for seq, report in last.items()]
            await connection.execute(_SQL["tasks_progress"], *columns(told, 3))
            return moved

        return await self._engine.run(work, write=True, repeatable=True) if reports else []

    async def cancel(self, task_ids: Collection[str], reason: str, *, now: datetime | None = None) -> TaskNews:
        ids = list(task_ids)

        async def work(connection: Connection) -> TaskNews:
            held = await lock_named(connection, ids)
            ended = workload.cancel_tasks(held, reason)
            await write(connection, ended, now)
            return TaskNews(workload.each_once(ids, held), ended.processes)

        return await self._engine.run(work, write=True) if ids else TaskNews([])

    async def reprioritise(self, task_ids: Collection[str], priority: int) -> list[bool]:
        ids = list(task_ids)

        async def work(connection: Connection) -> list[bool]:
            found = await find_named(connection, ids)
            rows = await connection.fetch(_SQL["tasks_lock"], [one.seq for one in found])
            queued = {row["id"]: row["seq"] for row in rows if row["state"] == TaskState.QUEUED}
            await connection.execute(_SQL["tasks_reprioritise"], [*queued.values()], priority)
            return [id in queued for id in ids]

        return await self._engine.run(work, write=True, repeatable=True) if ids else []

    async def redrive(
        self, task_ids: Collection[str] | None, type: str | None = None, *, now: datetime | None = None
    ) -> Redriven:
        ids = None if task_ids is None else list(task_ids)

        async def work(connection: Connection) -> Redriven:
            rows = await connection.fetch(_SQL["tasks_redrive"], ids, type, now)
            if not rows:
                return Redriven([])
            return Redriven([row["id"] for row in rows], await assigning.find_pullers(connection))

        return await self._engine.run(work, write=True)

    async def find_tasks(self, task_ids: Collection[str]) -> list[TaskRow]:
        rows = await self._engine.fetch(_SQL["tasks_find"], list(task_ids))
        return self._engine.aside.all(_row, rows, "a task")

    async def find_ended(self, task_ids: Collection[str]) -> dict[str, EndedTask | None]:
        rows = await self._engine.fetch(_SQL["tasks_find_ended"], sorted(set(task_ids)))
        known = self._engine.aside.all(_ended, [row for row in rows if row[1] is not None], "a task")
        return {row[0]: None for row in rows if row[1] is None} | {one.task_id: one for one in known}

    async def list_tasks(self, which: TaskFilter, limit: int, offset: int) -> list[TaskRow]:
        states = None if which.states is None else [str(state) for state in which.states]
        values = states, which.type, which.worker_id, which.supervisor, workload.way_of(which)

        async def step(limit: int, offset: int, below: int | None) -> tuple[list[Any], int, int | None]:
            below = ABOVE_ALL if below is None else below
            place = None
            if (most := workload.step_of(which)) is not None:
                ends = states, which.supervisor, workload.way_of(which), below, most
                ((place,),) = await self._engine.fetch(_SQL["tasks_find_place"], *ends)
            found = await self._engine.fetch(_SQL["tasks_list"], *values, limit, offset, place or 0, below)
            rows = [row[:-2] for row in found if row["id"] is not None]
            seqs = [row["seq"] for row in found[: len(rows)]]
            return rows, *workload.rest_of(seqs, limit, offset, found[0]["number"], place)

        return self._engine.aside.all(_row, await read_page(step, limit, offset), "a task")

    async def list_claims(self, owner: str) -> list[TaskClaim]:
        async def work(connection: Connection) -> list[Any]:
            # Who takes has locked its worker: one whose answer was lost may be committed only now.
            await connection.execute(_SQL["tasks_lock_takers"], owner)
            return list(await connection.fetch(_SQL["tasks_list_claims"], owner))

        await self._engine.outlast()
        return [TaskClaim(id, token) for id, token in await self._engine.run(work, write=True, repeatable=True)]

    async def find_lost(self, claims: Collection[TaskClaim]) -> list[TaskClaim]:
        ids = [claim.task_id for claim in claims]
        return workload.find_lost(claims, await self._engine.run(lambda con: find_named(con, ids), write=False))

    async def find_waiting(self, worker_ids: Collection[str], *, now: datetime | None = None) -> list[str]:
        ids = sorted(set(worker_ids))
        requests = [TaskRequest(worker_id, 1, 0.0) for worker_id in ids]

        async def work(connection: Connection) -> list[str]:
            found, room = await assigning.find_takeable(connection, requests, now)
            return choosing.find_able(found, ids, room)

        return await self._engine.run(work, write=False) if ids else []

    async def release_tasks(self, owners: Collection[str], *, now: datetime | None = None) -> int:
        if not owners:
            return 0
        return await self._engine.run(lambda con: release(con, owners, now), write=True, repeatable=True)

    async def advance(self, *, now: datetime | None = None) -> TasksAdvanced:
        next_in = await self._find_next(now)
        if next_in is None or next_in > 0:
            return TasksAdvanced(next_in=next_in)

        async def expire(connection: Connection) -> workload.Ended:
            late = await find_held(connection, "tasks_find_late", _AT_ONCE, now)
            return await write(connection, workload.expire_tasks(late), now)

        async def go_on(connection: Connection) -> TasksAdvanced:
            held = await find_held(connection, "tasks_find_overdue", _AT_ONCE, now)
            overdue = workload.lose_tasks(held)
            await write(connection, overdue, now)
            due = count_of(await connection.execute(_SQL["tasks_due"], _AT_ONCE, now))
            await connection.execute(_SQL["tasks_fold_counts"])
            await connection.execute(_SQL["tasks_forget_counts"])
            processes = overdue.processes
            if due or overdue.is_any_queued:
                processes |= await assigning.find_pullers(connection)
            return TasksAdvanced(len(held), 0, due, processes)

        # Each transaction locks workers once, and then tasks: more workers behind tasks might be waited for for ever.
        expired = await self._engine.run(expire, write=True)
        done = await self._engine.run(go_on, write=True)
        processes = expired.processes | done.processes
        return TasksAdvanced(done.released, len(expired.changes), done.due, processes, await self._find_next(now))

    async def _find_next(self, now: datetime | None) -> float | None:
        (row,) = await self._engine.fetch(_SQL["tasks_next"], now)
        return None if row["next_in"] is None else max(row["next_in"], 0.0)

    async def statistics(self, supervisor: str | None = None, *, now: datetime | None = None) -> TaskStatistics:
        (row,) = await self._engine.fetch(_SQL["tasks_statistics"], supervisor, now)
        counts = json.loads(row["counts"] or "{}")
        return TaskStatistics(
            counts=self._engine.aside.counts(TaskState, counts),
            average_duration=row["duration"],
            oldest_queued_age=None if row["age"] is None else max(row["age"], 0.0),
        )

    async def prune(
        self, older_than: float, limit: int, *, states: Collection[TaskState] | None = None, now: datetime | None = None
    ) -> int:
        wanted = None if states is None else [str(state) for state in states]

        async def work(connection: Connection) -> int:
            return count_of(await connection.execute(_SQL["tasks_prune"], older_than, limit, wanted, now))

        return await self._engine.run(work, write=True)

    async def measure(
        self, older_than: float, *, states: Collection[TaskState] | None = None, now: datetime | None = None
    ) -> Stock:
        wanted = None if states is None else [str(state) for state in states]
        (row,) = await self._engine.fetch(_SQL["tasks_measure"], older_than, wanted, now, budget=_LONG)
        return Stock(**row)


def _first_round(calls: Sequence[_Submission]) -> list[int]:
    """The positions of the calls that go first: each task comes once, and no call overtakes one of the same task."""
    round: list[int] = []
    met: set[str] = set()
    number = 0
    for position, call in enumerate(calls):
        number += len(call.tasks)
        if round and number > _AT_ONCE:
            break
        ids = {task.task_id for task in call.tasks}
        if (call.origin, call.now) == (calls[0].origin, calls[0].now) and met.isdisjoint(ids):
            round.append(position)
        met |= ids
    return round


async def _find_interested(connection: Connection, ended: workload.Ended) -> set[str]:
    """The processes that may want to look: also those that could take what is in the pool again."""
    return ended.processes | (await assigning.find_pullers(connection) if ended.is_any_queued else set())


def _row(row: Any) -> TaskRow:
    id, type_, description, needs, priority, content, checksum, supervisor, state, *more, log = row
    body = type_, description, tuple(needs), priority, content, checksum, supervisor
    rest: list[Any] = [*body, TaskState(state), *more, read_log(log, dict)]
    return TaskRow(id, *rest)


def _ended(row: Any) -> EndedTask:
    id, state, *end = row
    return EndedTask(id, TaskState(state), *end)
