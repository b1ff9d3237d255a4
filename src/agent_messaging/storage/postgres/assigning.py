"""Who gets a task, inside a transaction: assignments, and what workers take from the pool.

One transaction at a time assigns, so that nobody passes over a worker that another one only looks at. The number of
statements does not depend on the number of tasks.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from ...models import TaskState
from ...records import dataclass
from .. import choosing, task_texts, workload
from ..ports import (
    CLAIM_MARGIN,
    Assigned,
    AssignNews,
    AssignOutcome,
    ClaimedTask,
    KnownTask,
    NewTask,
    Settling,
    TaskClaim,
    TaskNews,
    TaskRequest,
    TaskSettlement,
    WorkerRow,
)
from ..sql import Queries
from . import queue
from .ending import count, end_columns, find_named, judge, worker_row, write
from .engine import Connection, columns

_SQL = Queries(__package__, "tasks")
_WORKERS = Queries(__package__, "workers")
_SPARE = 64
"""More candidates than are wanted: others may be about to take the first ones."""
SPARE_WORKERS = (8, 128, 2_048, 32_768)
"""The same of workers, which are all locked. Where more were lost, the call begins anew with the next number."""


@dataclass(frozen=True, slots=True)
class Plain:
    """What a plain exchange did: every settlement took effect."""

    processes: set[str]
    claimed: list[ClaimedTask]
    is_open: bool
    """There is more to judge before anything is taken."""


class CrowdedError(Exception):
    """More of the workers that were looked at were filled by others, until they were locked, than were spare.

    The transaction ends, and so do its locks. No others are locked beside them: whoever locks workers twice may do so
    in another order than someone else, and both would wait for ever.
    """


async def submit(
    connection: Connection,
    tasks: Sequence[NewTask],
    origin: str | None,
    now: datetime | None,
    *,
    moment: float | None = None,
) -> TaskNews:
    """Put the tasks into the pool that are new, by one statement.

    Args:
        moment: Seconds that it waits for somebody who is storing a task of the same id; None is any.
    """
    fresh = {task.task_id: task for task in reversed(tasks)}  # of repeats in one call the first
    new = [(task, None) for task in tasks if fresh[task.task_id] is task]
    if not new:
        return TaskNews([])
    rows = columns((_new_row(*one) for one in new), 19)
    patience = None if moment is None else str(int(moment * 1000))
    (row,) = await connection.fetch(_SQL["tasks_submit"], *rows, origin, patience, now)
    stored = set(row["stored"])
    moved = [task.task_id in stored and fresh[task.task_id] is task for task in tasks]
    return TaskNews(moved, set(row["pullers"] or ()))


async def assign(
    connection: Connection, tasks: Sequence[NewTask], origin: str | None, now: datetime | None, *, spare: int
) -> AssignNews:
    """Book and store the tasks that are new.

    Raises:
        CrowdedError: Nothing was booked: repeat it with more workers to spare.
    """
    await connection.execute(_WORKERS["workers_assign_lock"])
    known = await _find_known(connection, [task.task_id for task in tasks])
    fresh = {task.task_id: task for task in tasks if task.task_id not in known}
    bookings = choosing.book([*fresh.values()], await _find_free(connection, [*fresh.values()], now, spare))
    booked = {task.task_id: (task, found) for task, found in zip(fresh.values(), bookings, strict=True) if found}
    stored = await _insert(connection, booked.values(), origin, now)
    if rivals := booked.keys() - stored:  # somebody submitted a task of the same id meanwhile
        known |= await _find_known(connection, rivals)
    made = {id: booking for id, (_, booking) in booked.items() if id in stored}
    return await _tell(connection, choosing.answer_assignments(tasks, known, made), [*made.values()], now)


async def assign_waiting(connection: Connection, limit: int, now: datetime | None, *, spare: int) -> AssignNews:
    """Book what was assigned once and has returned.

    Raises:
        CrowdedError: As of `assign`.
    """
    await connection.execute(_WORKERS["workers_assign_lock"])
    # Workers are locked before tasks, as everywhere: the tasks are looked at first, and again when they are locked.
    seen = [_waiting(row) for row in await connection.fetch(_SQL["tasks_find_to_assign"], limit, now)]
    free = await _find_free(connection, seen, now, spare)
    locked = {row["seq"] for row in await connection.fetch(_SQL["tasks_lock_to_assign"], [task.seq for task in seen])}
    waiting = [task for task in seen if task.seq in locked]
    bookings = choosing.book(waiting, free)
    booked = [(task, booking) for task, booking in zip(waiting, bookings, strict=True) if booking is not None]
    if booked:
        rows = [(task.seq, booking.worker_id, booking.token, booking.attempt) for task, booking in booked]
        await connection.execute(_SQL["tasks_assign"], *columns(rows, 4), now)
    outcomes: list[AssignOutcome] = [
        Assigned(task.task_id, booking.worker_id, booking.token) for task, booking in booked
    ]
    return await _tell(connection, outcomes, [booking for _, booking in booked], now)


async def find_takeable(
    connection: Connection, requests: Sequence[TaskRequest], now: datetime | None
) -> tuple[list[tuple[int, ...]], dict[str, int]]:
    """For each request what its worker may take, in order, and the rooms of the workers.

    What it may take is (number, 0 if assigned to it, priority, seq, 1 if suspect).
    """
    rows = await connection.fetch(_SQL["tasks_find_takers"], sorted({request.worker_id for request in requests}))
    takers = {row["id"]: row for row in rows}
    wanted = [
        (
            number,
            request.worker_id,
            None if request.types is None else json.dumps(request.types),
            json.dumps(takers[request.worker_id]["capabilities"]),
            json.dumps(request.but),
        )
        for number, request in enumerate(requests)
        if request.worker_id in takers
    ]
    if not wanted:
        return [], {}
    most = sum(request.limit for request in requests)
    found = await connection.fetch(_SQL["tasks_find_takeable"], *columns(wanted, 5), most, now)
    return [tuple(row) for row in found], {id: row["capacity"] - row["booked"] for id, row in takers.items()}


def is_plain(settlements: Sequence[TaskSettlement], requests: Sequence[TaskRequest]) -> bool:
    """Whether runs have simply ended, each once, and at most one worker takes others.

    Then there is nearly always nothing to judge; `exchange_plain` finds out.
    """
    return (
        len(requests) <= 1
        and all(settlement.how is Settling.DONE for settlement in settlements)
        and len({settlement.claim.task_id for settlement in settlements}) == len(settlements)
    )


async def exchange_plain(
    connection: Connection,
    settlements: Sequence[TaskSettlement],
    requests: Sequence[TaskRequest],
    owner: str,
    now: datetime | None,
) -> Plain | None:
    """Do by one statement what is plain; None: it is not, and nothing was done."""
    ends = columns(((one.claim.task_id, one.claim.token, one.result, one.checksum) for one in settlements), 4)
    wanted = columns(((*_wanted(request), request.run_limit) for request in requests), 5)
    first, *rows = await connection.fetch(
        _SQL["tasks_exchange_plain"], *ends, *wanted, _SPARE, owner, CLAIM_MARGIN, now
    )
    if not first["is_plain"]:
        return None
    return Plain(set(first["told"] or ()), [_claimed(tuple(row)[3:]) for row in rows], first["is_open"])


async def exchange(
    connection: Connection,
    settlements: Sequence[TaskSettlement],
    requests: Sequence[TaskRequest],
    owner: str,
    now: datetime | None,
) -> tuple[workload.Ended, list[ClaimedTask]]:
    """Settle, and let the workers take what they have room for then."""
    asked = [(request.worker_id, request.limit) for request in requests]
    ended = await judge(connection, settlements, {worker_id for worker_id, _ in asked})
    if not asked:
        return await write(connection, ended, now), []
    wanted = columns(map(_wanted, requests), 4)
    found = await connection.fetch(_SQL["tasks_exchange"], *end_columns(ended), *wanted, _SPARE, owner, now)
    room = {requests[row["number"]].worker_id: row["room"] for row in found}
    has_suspect = any(row["suspect"] for row in found) and await _has_suspect(connection, owner)
    chosen = choosing.share([tuple(row)[:5] for row in found], asked, room, has_suspect=has_suspect)
    if not chosen:
        return ended, []
    rows = [(seq, requests[number].worker_id, requests[number].run_limit) for number, _, _, seq, _ in chosen]
    taken = await connection.fetch(_SQL["tasks_take"], *columns(rows, 3), owner, CLAIM_MARGIN, now)
    return ended, [_claimed(row) for row in taken]


def _wanted(request: TaskRequest) -> tuple[object, ...]:
    types = None if request.types is None else json.dumps(request.types)
    return request.worker_id, request.limit, types, json.dumps(request.but)


async def _has_suspect(connection: Connection, owner: str) -> bool:
    (row,) = await connection.fetch(_SQL["tasks_find_suspect"], owner)
    return bool(row["has_suspect"])


async def find_pullers(connection: Connection) -> set[str]:
    """The processes that could take what is put into the pool."""
    return {row["process_id"] for row in await connection.fetch(_WORKERS["workers_find_pullers"])}


async def _find_known(connection: Connection, task_ids: Collection[str]) -> dict[str, KnownTask]:
    return {one.id: KnownTask(one.state, one.worker_id, one.token) for one in await find_named(connection, task_ids)}


async def _find_free(
    connection: Connection, tasks: Collection[NewTask | choosing.Waiting], now: datetime | None, spare: int
) -> list[WorkerRow]:
    # Each booking changes one worker, for the worse. So what a task chooses is among the first of those that can do it,
    # as many as there are tasks; some more, because workers take from the pool before they are locked here.
    needs = sorted({json.dumps(task.needs) for task in tasks})
    if not needs:
        return []
    found = await connection.fetch(_WORKERS["workers_find_free"], needs, len(tasks) + spare, now)
    ids = [row["id"] for row in found]
    await connection.execute(_WORKERS["workers_lock"], ids)
    workers = [worker_row(row) for row in await connection.fetch(_WORKERS["workers_find"], ids, now)]
    if len(ids) - sum(worker.free > 0 for worker in workers) > spare:
        raise CrowdedError
    return workers


async def _insert(
    connection: Connection,
    tasks: Iterable[tuple[NewTask, choosing.Booking | None]],
    origin: str | None,
    now: datetime | None,
) -> set[str]:
    rows = [_new_row(task, booking) for task, booking in tasks]
    if not rows:
        return set()
    return {row["id"] for row in await connection.fetch(_SQL["tasks_insert"], *columns(rows, 19), origin, now)}


def _new_row(task: NewTask, booking: choosing.Booking | None) -> tuple[object, ...]:
    return (
        task.task_id,
        task.type,
        task.description,
        json.dumps(task.needs),
        task.priority,
        task.content,
        task.checksum,
        None if task.message is None else task_texts.dump_message(task.message),
        booking is not None,
        task.supervisor,
        task.max_attempts,
        task.run_limit,
        task.delay if booking is None else 0.0,
        task.expires_in,
        str(TaskState.QUEUED if booking is None else TaskState.ASSIGNED),
        0 if booking is None else booking.token,
        0 if booking is None else booking.attempt,
        None if booking is None else booking.worker_id,
        task.trace,
    )


async def _tell(
    connection: Connection, outcomes: list[AssignOutcome], bookings: Sequence[choosing.Booking], now: datetime | None
) -> AssignNews:
    """Count what the workers have now, and put the messages that tell them."""
    workers = sorted({booking.worker_id for booking in bookings})
    if not workers:
        return AssignNews(outcomes)
    await count(connection, workers, now)
    messages = [booking.message for booking in bookings if booking.message is not None]
    listeners = (await queue.put(connection, messages, now)).listeners if messages else set()
    served = await connection.fetch(_WORKERS["workers_find_processes"], workers)
    return AssignNews(outcomes, {row["process_id"] for row in served}, listeners)


def _waiting(row: Any) -> choosing.Waiting:
    seq, id, needs, token, attempt, run_limit, message = row
    return choosing.Waiting(seq, id, tuple(needs), token, attempt, run_limit, task_texts.load_message(message))


def _claimed(row: Any) -> ClaimedTask:
    id, token, worker_id, *body, created_at, run_limit, asked_limit, left, suspect, trace = row
    rest: list[Any] = [worker_id, *body, created_at, choosing.limit_of(run_limit, asked_limit, left), suspect, trace]
    return ClaimedTask(TaskClaim(id, token), *rest)
