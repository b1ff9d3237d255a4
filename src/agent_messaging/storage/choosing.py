"""The rules of who is given a task: bookings by supervisors, and what workers take from the pool. They are pure.

They hold on every backend: a backend loads what a rule asks for, asks, and writes what it is answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from heapq import heapify, heappop, heapreplace

from ..models import TaskState
from ..records import dataclass
from .ports import AVAILABLE, Assigned, AssignOutcome, KnownTask, NewQueueMessage, NewTask, NobodyFits, WorkerRow

_MOST = 2**31 - 2
"""What every store can raise by one. A damaged number that is greater would refuse all tasks of a call."""


def is_able(worker: WorkerRow, needs: Iterable[str]) -> bool:
    """Whether the worker may be listed for a task of these needs; it need not have room."""
    return worker.is_alive and worker.status in AVAILABLE and worker.capabilities_cover(needs)


def rank(worker: WorkerRow) -> tuple[float, object, str]:
    """The order in which workers are chosen: the least loaded first, then the longest idle, then by id."""
    return worker.load, worker.idle_since, worker.worker_id


def choose(workers: Sequence[WorkerRow], needs: Sequence[Sequence[str]]) -> list[str | None]:
    """The worker of each task, by the capabilities that each needs; None where nobody fits.

    The tasks are taken in their order, and each booking counts for those behind it.
    """
    known = {worker.worker_id: worker for worker in workers}
    fitting: dict[tuple[str, ...], list[tuple[float, object, str]]] = {}
    chosen: list[str | None] = []
    for wanted in map(tuple, needs):
        if wanted not in fitting:
            fitting[wanted] = [rank(one) for one in known.values() if one.free and is_able(one, wanted)]
            heapify(fitting[wanted])
        queue, best = fitting[wanted], None
        while queue and best is None:
            place = queue[0]
            worker = known[place[2]]
            if not worker.free:
                heappop(queue)
            elif place != rank(worker):
                heapreplace(queue, rank(worker))  # a task before this one was booked for it
            else:
                best = worker
        chosen.append(None if best is None else best.worker_id)
        if best is not None:
            known[best.worker_id] = replace(best, booked=best.booked + 1)
    return chosen


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task that returned to the queue and is to be assigned again."""

    seq: int
    task_id: str
    needs: tuple[str, ...]
    token: int
    attempt: int
    run_limit: float | None
    message: NewQueueMessage | None


@dataclass(frozen=True, slots=True)
class Booking:
    """One more assignment of a task."""

    worker_id: str
    token: int
    attempt: int
    message: NewQueueMessage | None
    """What its worker is told; None: it pulls, or there is nothing to tell."""


def book(tasks: Sequence[NewTask | Waiting], workers: Sequence[WorkerRow]) -> list[Booking | None]:
    """Choose the worker of each task; None where nobody fits."""
    pulling = {worker.worker_id for worker in workers if worker.pulls}
    chosen = choose(workers, [task.needs for task in tasks])
    return [
        None if worker_id is None else _book(task, worker_id, worker_id in pulling)
        for task, worker_id in zip(tasks, chosen, strict=True)
    ]


def answer_assignments(
    tasks: Sequence[NewTask], known: Mapping[str, KnownTask], booked: Mapping[str, Booking]
) -> list[AssignOutcome]:
    """What the call is told of each task: what was known of it, its booking, or that nobody fits.

    Repeats in one call find the first one known.
    """
    seen = dict(known)
    outcomes: list[AssignOutcome] = []
    for task in tasks:
        if task.task_id in seen:
            outcomes.append(seen[task.task_id])
        elif (booking := booked.get(task.task_id)) is not None:
            outcomes.append(Assigned(task.task_id, booking.worker_id, booking.token))
            seen[task.task_id] = KnownTask(TaskState.ASSIGNED, booking.worker_id, booking.token)
        else:
            outcomes.append(NobodyFits())
    return outcomes


def _book(task: NewTask | Waiting, worker_id: str, pulls: bool) -> Booking:
    token, attempt = (min(task.token, _MOST), min(task.attempt, _MOST)) if isinstance(task, Waiting) else (0, 0)
    message = None if pulls else task.message
    if message is not None:
        id = message_id_of(message.message_id, token + 1)
        message = replace(message, agent_id=worker_id, message_id=id)
    return Booking(worker_id, token + 1, attempt + 1, message)


def message_id_of(message_id: str, token: int) -> str:
    """The id of a task's message at this assignment: its own at the first one, another at each later one."""
    return message_id if token <= 1 else f"{message_id}-{token}"


def share(
    found: Iterable[Sequence[int]],
    requests: Sequence[tuple[str, int]],
    free: Mapping[str, int],
    *,
    has_suspect: bool = False,
) -> list[list[int]]:
    """What each request takes of what was found for it: no task twice, and no worker more than it has room for.

    Args:
        found: (number of the request, 0 if it is assigned to the worker, priority, seq, 1 if it is a suspect), in the
            order of taking.
        requests: (worker, how many at most), by number.
        free: The room of each worker that is known; what is assigned to it takes room already.
        has_suspect: Whoever asks runs a suspect, so no other one is taken.
    """
    room = dict(free)
    left = [limit for _, limit in requests]
    taken: set[int] = set()
    chosen = []
    for number, rank, priority, seq, is_suspect in found:
        worker_id, _ = requests[number]
        if left[number] <= 0 or seq in taken or (rank > 0 and room[worker_id] <= 0) or (is_suspect and has_suspect):
            continue
        has_suspect = has_suspect or bool(is_suspect)
        left[number] -= 1
        room[worker_id] -= rank
        taken.add(seq)
        chosen.append([number, rank, priority, seq, is_suspect])
    return chosen


def find_able(found: Iterable[Sequence[int]], workers: Sequence[str], free: Mapping[str, int]) -> list[str]:
    """The workers that could take something, each for itself: one that will not take it hides it from nobody.

    Args:
        found: As of `share`; each worker has a request.
        workers: By the number of the request.
        free: As of `share`.
    """
    able = ((workers[number], rank) for number, rank, *_ in found)
    return sorted({worker_id for worker_id, rank in able if rank == 0 or free[worker_id] > 0})


def limit_of(own: float | None, asked: float, left: float | None) -> float:
    """Seconds that a run may take: the task's own limit, or the one of who takes it, and not beyond the deadline."""
    limit = asked if own is None else own
    return limit if left is None else max(min(limit, left), 0.0)
