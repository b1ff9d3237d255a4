"""Who gets a task, inside a transaction: assignments, and what workers take from the pool.

The number of statements does not depend on the number of tasks.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import apsw

from ...models import TaskState
from .. import choosing, task_texts, workload
from ..ports import (
    CLAIM_MARGIN,
    Assigned,
    AssignNews,
    AssignOutcome,
    ClaimedTask,
    KnownTask,
    NewQueueMessage,
    NewTask,
    TaskClaim,
    TaskNews,
    TaskRequest,
    WorkerRow,
)
from ..sql import Queries
from . import queue
from .clock import SECOND, Instant, seconds_until, to_datetime
from .ending import count, find_named
from .engine import fetch
from .rows import encode, worker_row

_SQL = Queries(__package__, "tasks")
_WORKERS = Queries(__package__, "workers")


def submit(connection: apsw.Connection, tasks: Sequence[NewTask], origin: str | None, instant: Instant) -> TaskNews:
    """Put the tasks into the pool that are new."""
    known = {one.id for one in find_named(connection, [task.task_id for task in tasks])}
    moved, new = [], []
    for task in tasks:
        moved.append(task.task_id not in known)
        if moved[-1]:
            known.add(task.task_id)
            new.append((task, None))
    _insert(connection, new, origin, instant)
    return TaskNews(moved, find_pullers(connection) if new else set())


def assign(connection: apsw.Connection, tasks: Sequence[NewTask], origin: str | None, instant: Instant) -> AssignNews:
    """Book and store the tasks that are new."""
    known = {one.id: KnownTask(one.state, one.worker_id, one.token) for one in _named(connection, tasks)}
    fresh = {task.task_id: task for task in tasks if task.task_id not in known}
    bookings = choosing.book([*fresh.values()], _find_free(connection, [*fresh.values()], instant))
    booked = {task.task_id: (task, found) for task, found in zip(fresh.values(), bookings, strict=True) if found}
    _insert(connection, booked.values(), origin, instant)
    made = {id: booking for id, (_, booking) in booked.items()}
    return _tell(connection, choosing.answer_assignments(tasks, known, made), [*made.values()], instant)


def assign_waiting(connection: apsw.Connection, limit: int, instant: Instant) -> AssignNews:
    """Book what was assigned once and has returned."""
    waiting = [_waiting(row) for row in find_to_assign(connection, limit, instant)]
    bookings = choosing.book(waiting, _find_free(connection, waiting, instant))
    booked = [(task, booking) for task, booking in zip(waiting, bookings, strict=True) if booking is not None]
    moved = [
        (task.seq, booking.worker_id, booking.token, booking.attempt, _until(task.run_limit, instant))
        for task, booking in booked
    ]
    if moved:
        connection.execute(_SQL["tasks_assign"], {"rows": encode(moved), "at": instant.at})
    outcomes: list[AssignOutcome] = [
        Assigned(task.task_id, booking.worker_id, booking.token) for task, booking in booked
    ]
    return _tell(connection, outcomes, [booking for _, booking in booked], instant)


def find_to_assign(connection: apsw.Connection, limit: int, instant: Instant) -> list[list[Any]]:
    """What waits to be assigned again, and can be."""
    found: list[list[Any]] = fetch(connection, _SQL["tasks_find_to_assign"], {"now": instant.due, "limit": limit})
    return found


def find_takeable(
    connection: apsw.Connection, requests: Sequence[TaskRequest], owner: str | None, instant: Instant
) -> tuple[list[list[int]], dict[str, int]]:
    """For each request what its worker may take, in order, and the rooms of the workers.

    What it may take is (number, 0 if assigned to it, priority, seq, 1 if suspect).
    """
    ids = encode(sorted({request.worker_id for request in requests}))
    rows = fetch(connection, _SQL["tasks_find_takers"], {"ids": ids, "owner": owner})
    takers = {id: (capacity - booked, capabilities) for id, capacity, booked, capabilities in rows}
    wanted = [
        (r.worker_id, r.limit, None if r.types is None else encode(r.types), takers[r.worker_id][1], encode(r.but))
        if r.worker_id in takers
        else None
        for r in requests
    ]
    most = sum(request.limit for request in requests)
    known = {str(number): one for number, one in enumerate(wanted) if one is not None}
    if not known:
        return [], {}
    parameters = {"requests": encode(known), "most": most, "now": instant.due}
    found: list[list[int]] = fetch(connection, _SQL["tasks_find_takeable"], parameters)
    return found, {worker_id: free for worker_id, (free, _) in takers.items()}


def take(
    connection: apsw.Connection, requests: Sequence[TaskRequest], owner: str, instant: Instant
) -> list[ClaimedTask]:
    """Let the workers take what they have room for."""
    if not requests:
        return []
    found, room = find_takeable(connection, requests, owner, instant)
    is_any_suspect = any(row[-1] for row in found)
    has_suspect = is_any_suspect and any(fetch(connection, _SQL["tasks_find_suspect"], {"owner": owner}))
    asked = [(request.worker_id, request.limit) for request in requests]
    chosen = choosing.share(found, asked, room, has_suspect=has_suspect)
    if not chosen:
        return []
    rows = [(seq, requests[number].worker_id, requests[number].run_limit) for number, _, _, seq, _ in chosen]
    parameters = {"rows": encode(rows), "owner": owner, "margin": CLAIM_MARGIN, "now": instant.due, "at": instant.at}
    connection.execute(_SQL["tasks_take"], parameters)
    count(connection, {worker_id for _, worker_id, _ in rows}, instant)
    taken = fetch(connection, _SQL["tasks_read_taken"], {"seqs": encode([seq for seq, _, _ in rows])})
    return [_claimed(row, run_limit, instant) for row, (_, _, run_limit) in zip(taken, rows, strict=True)]


def find_pullers(connection: apsw.Connection) -> set[str]:
    """The processes that could take what is put into the pool."""
    return set(fetch(connection, _WORKERS["workers_find_pullers"], {}))


def _named(connection: apsw.Connection, tasks: Sequence[NewTask]) -> list[workload.HeldTask]:
    return find_named(connection, [task.task_id for task in tasks])


def _find_free(
    connection: apsw.Connection, tasks: Collection[NewTask | choosing.Waiting], instant: Instant
) -> list[WorkerRow]:
    # Each booking changes one worker, for the worse. So what a task chooses is among the first of those that can do it,
    # as many as there are tasks.
    needs = {encode(task.needs) for task in tasks}
    if not needs:
        return []
    parameters = {"needs": encode(sorted(needs)), "most": len(tasks), "now": instant.due}
    rows = fetch(connection, _WORKERS["workers_find_free"], parameters)
    return [worker_row(row) for row in rows]


def _insert(
    connection: apsw.Connection,
    tasks: Iterable[tuple[NewTask, choosing.Booking | None]],
    origin: str | None,
    instant: Instant,
) -> None:
    rows = [_new_row(task, booking, instant) for task, booking in tasks]
    if rows:
        parameters = {"rows": encode(rows), "origin": origin, "now": instant.due, "at": instant.at}
        connection.execute(_SQL["tasks_insert"], parameters)


def _new_row(task: NewTask, booking: choosing.Booking | None, instant: Instant) -> tuple[Any, ...]:
    ahead = None if task.expires_in is None else int(task.expires_in * SECOND)
    message = None if task.message is None else task_texts.dump_message(task.message)
    run_due = instant.due + int(task.delay * SECOND) if task.delay > 0 and booking is None else 0
    return (
        task.task_id,
        task.type,
        task.description,
        encode(task.needs),
        task.priority,
        task.content,
        task.checksum,
        message,
        int(booking is not None),
        task.supervisor,
        task.max_attempts,
        task.run_limit,
        run_due,
        None if ahead is None else instant.due + ahead,
        None if ahead is None else instant.at + ahead,
        TaskState.QUEUED if booking is None else TaskState.ASSIGNED,
        0 if booking is None else booking.token,
        0 if booking is None else booking.attempt,
        None if booking is None else booking.worker_id,
        None if booking is None else _until(task.run_limit, instant),
        task.trace,
    )


def _until(run_limit: float | None, instant: Instant) -> int | None:
    return None if run_limit is None else instant.due + int(run_limit * SECOND)


def _tell(
    connection: apsw.Connection, outcomes: list[AssignOutcome], bookings: Sequence[choosing.Booking], instant: Instant
) -> AssignNews:
    """Count what the workers have now, and put the messages that tell them."""
    workers = {booking.worker_id for booking in bookings}
    count(connection, workers, instant)
    messages: list[NewQueueMessage] = [booking.message for booking in bookings if booking.message is not None]
    listeners = queue.put(connection, messages, instant).listeners if messages else set()
    served = fetch(connection, _WORKERS["workers_find_processes"], {"ids": encode(sorted(workers))}) if workers else []
    return AssignNews(outcomes, set(served), listeners)


def _waiting(row: list[Any]) -> choosing.Waiting:
    seq, id, needs, token, attempt, run_limit, message = row
    return choosing.Waiting(
        seq, id, tuple(json.loads(needs)), token, attempt, run_limit, task_texts.load_message(message)
    )


def _claimed(row: list[Any], asked_limit: float, instant: Instant) -> ClaimedTask:
    id, token, worker_id, attempt, max_attempts, *body, created_at, run_limit, deadline_due, suspect, trace = row
    limit = choosing.limit_of(run_limit, asked_limit, seconds_until(deadline_due, instant))
    rest: list[Any] = [worker_id, attempt, max_attempts, *body, to_datetime(created_at), limit, bool(suspect), trace]
    return ClaimedTask(TaskClaim(id, token), *rest)
