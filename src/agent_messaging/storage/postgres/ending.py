"""The ends of bookings and runs of tasks inside a transaction, and what each worker has after them, counted anew.

Whoever changes what a worker has locks the worker before the tasks, so what is counted stays true until the commit. The
number of statements does not depend on the number of tasks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from .. import workload
from ..ports import TaskSettlement, WorkerRow
from ..sql import Queries
from .engine import Connection, columns

_SQL = Queries(__package__, "tasks")
_WORKERS = Queries(__package__, "workers")


async def find_named(connection: Connection, task_ids: Collection[str]) -> list[workload.HeldTask]:
    """The tasks of these ids, not locked."""
    return [workload.held_task(*row) for row in await connection.fetch(_SQL["tasks_find_held"], list(task_ids))]


async def find_held(connection: Connection, block: str, *values: object) -> list[workload.HeldTask]:
    """The tasks that a block finds, locked after their workers; without those that changed meanwhile."""
    found = {row["id"]: workload.held_task(*row) for row in await connection.fetch(_SQL[block], *values)}
    locked = await lock(connection, [*found.values()])
    return [one for one in locked if (one.state, one.token) == (found[one.id].state, found[one.id].token)]


async def lock(connection: Connection, found: Sequence[workload.HeldTask]) -> list[workload.HeldTask]:
    """These tasks as they are now, and until this transaction ends."""
    workers = {one.worker_id for one in found if one.state.is_held}
    if workers:
        await connection.execute(_WORKERS["workers_lock"], sorted(filter(None, workers)))
    rows = await connection.fetch(_SQL["tasks_lock"], [one.seq for one in found]) if found else []
    return [workload.held_task(*row) for row in rows]


async def judge(
    connection: Connection, settlements: Sequence[TaskSettlement], takers: Collection[str] = ()
) -> workload.Ended:
    """What the settlements do to their tasks, which are locked behind their workers and behind those that take."""
    if not settlements and not takers:
        return workload.Ended()
    held = await lock_named(connection, [settlement.claim.task_id for settlement in settlements], takers)
    return workload.settle_tasks(settlements, held)


async def lock_named(
    connection: Connection, task_ids: Collection[str], takers: Collection[str] = ()
) -> list[workload.HeldTask]:
    """The tasks of these ids, locked behind their workers, and behind those that are about to take some."""
    rows = await connection.fetch(_SQL["tasks_lock_named"], list(task_ids), list(takers))
    return [workload.held_task(*row) for row in rows]


async def settle(connection: Connection, settlements: Sequence[TaskSettlement], now: datetime | None) -> workload.Ended:
    """End what is still the newest."""
    return await write(connection, await judge(connection, settlements), now)


async def write(connection: Connection, ended: workload.Ended, now: datetime | None) -> workload.Ended:
    """Write what was decided."""
    if ended.changes:
        await connection.fetch(_SQL["tasks_end"], *end_columns(ended), now)
    return ended


def end_columns(ended: workload.Ended) -> list[list[object]]:
    """What was decided, as `tasks_end` and `tasks_exchange` take it."""
    rows = [
        (
            change.seq,
            str(change.end.of_task),
            change.attempt,
            change.delay,
            str(change.ended_as),
            change.reason,
            None if change.event is None else str(change.event),
            change.result,
            change.checksum,
            change.end.is_final,
            change.suspect,
        )
        for change in ended.changes
    ]
    return [*columns(rows, 11), [*sorted(ended.workers)]]


async def release(
    connection: Connection, owners: Collection[str], now: datetime | None, *, counted: bool = True
) -> int:
    """Return what these processes ran, which have ended.

    Args:
        counted: They died; otherwise they stopped, which is no attempt.
    """
    held = await find_held(connection, "tasks_find_of_processes", list(owners))
    await write(connection, workload.release_tasks(held, counted=counted), now)
    return len(held)


async def give_back(connection: Connection, worker_ids: Collection[str], now: datetime | None) -> None:
    """Return what these workers have, who left, uncounted. They are locked."""
    held = await find_held(connection, "tasks_find_of_workers", list(worker_ids))
    await write(connection, workload.return_tasks(held), now)


async def count(connection: Connection, worker_ids: Collection[str], now: datetime | None) -> None:
    """Count what these workers have; whoever has less than before is idle since now."""
    if worker_ids:
        await connection.fetch(_WORKERS["workers_count"], sorted(worker_ids), now)


def worker_row(row: Any) -> WorkerRow:
    """A worker as all listings select it."""
    id, role, capabilities, *rest = row
    return WorkerRow(id, role, tuple(capabilities), *rest)
