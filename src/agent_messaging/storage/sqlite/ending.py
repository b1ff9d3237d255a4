"""The ends of bookings and runs of tasks inside a transaction, and what each worker has after them, counted anew.

The number of statements does not depend on the number of tasks.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import apsw

from .. import workload
from ..ports import TaskSettlement
from ..sql import Queries
from .clock import SECOND, Instant
from .engine import fetch
from .rows import encode

_SQL = Queries(__package__, "tasks")
_WORKERS = Queries(__package__, "workers")


def find_held(connection: apsw.Connection, block: str, **parameters: Any) -> list[workload.HeldTask]:
    """The tasks that a block finds, as their end needs them."""
    return [workload.held_task(*row) for row in fetch(connection, _SQL[block], parameters)]


def find_named(connection: apsw.Connection, task_ids: Collection[str]) -> list[workload.HeldTask]:
    """The tasks of these ids."""
    return find_held(connection, "tasks_find_held", ids=encode(sorted(set(task_ids))))


def settle(connection: apsw.Connection, settlements: Collection[TaskSettlement], instant: Instant) -> workload.Ended:
    """End what is still the newest."""
    held = find_named(connection, [settlement.claim.task_id for settlement in settlements]) if settlements else []
    return write(connection, workload.settle_tasks([*settlements], held), instant)


def write(connection: apsw.Connection, ended: workload.Ended, instant: Instant) -> workload.Ended:
    """Write what was decided."""
    if ended.changes:
        rows = [
            (
                change.seq,
                change.end.of_task,
                change.attempt,
                instant.due + int(change.delay * SECOND) if change.delay > 0 else 0,
                change.ended_as,
                change.reason,
                change.event,
                change.result,
                change.checksum,
                int(change.end.is_final),
                int(change.suspect),
            )
            for change in ended.changes
        ]
        connection.execute(_SQL["tasks_end"], {"rows": encode(rows), "now": instant.due, "at": instant.at})
        count(connection, ended.workers, instant)
    return ended


def release(connection: apsw.Connection, owners: Collection[str], instant: Instant, *, counted: bool = True) -> int:
    """Return what these processes ran, which have ended.

    Args:
        counted: They died; otherwise they stopped, which is no attempt.
    """
    held = find_held(connection, "tasks_find_of_processes", owners=encode(sorted(owners)))
    write(connection, workload.release_tasks(held, counted=counted), instant)
    return len(held)


def give_back(connection: apsw.Connection, worker_ids: Collection[str], instant: Instant) -> None:
    """Return what these workers have, who left, uncounted."""
    held = find_held(connection, "tasks_find_of_workers", ids=encode(sorted(worker_ids)))
    write(connection, workload.return_tasks(held), instant)


def count(connection: apsw.Connection, worker_ids: Collection[str], instant: Instant) -> None:
    """Count what these workers have; whoever has less than before is idle since now."""
    if worker_ids:
        connection.execute(_WORKERS["workers_count"], {"ids": encode(sorted(worker_ids)), "at": instant.at})
