"""The rules of work that is handed out: who is given a task, and what the end of a claim does. They are pure.

They hold for the messages of queues and for tasks alike, on every backend: a backend loads what a rule asks for, asks,
and writes what it is answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ..models import DeliveryState, TaskState
from .ports import AVAILABLE, Settling, WorkerRow

LOST = "lost"
"""How a claim ended whose process or worker is dead."""
OVERDUE = "overdue"
"""How a claim ended that took too long."""
CANCELLED = "cancelled"
EXPIRED = "expired"


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
    chosen: list[str | None] = []
    for wanted in needs:
        fitting = (worker for worker in known.values() if worker.free and is_able(worker, wanted))
        best = min(fitting, key=rank, default=None)
        chosen.append(None if best is None else best.worker_id)
        if best is not None:
            known[best.worker_id] = replace(best, booked=best.booked + 1)
    return chosen


class End(StrEnum):
    """Where the end of a claim leaves what was claimed."""

    DONE = "done"
    FAILED = "failed"
    AGAIN = "again"

    @property
    def of_task(self) -> TaskState:
        """The state of a task after it."""
        return {End.DONE: TaskState.DONE, End.FAILED: TaskState.FAILED}.get(self, TaskState.QUEUED)

    @property
    def of_message(self) -> DeliveryState:
        """The state of a message after it."""
        return {End.DONE: DeliveryState.DONE, End.FAILED: DeliveryState.DEAD}.get(self, DeliveryState.QUEUED)


def end_of(how: Settling, attempt: int, max_attempts: int) -> End:
    """What a settlement does that is the newest claim's: a retry at the last attempt is a failure."""
    if how is Settling.DONE:
        return End.DONE
    if how is Settling.DEAD or (how is Settling.RETRY and attempt >= max_attempts):
        return End.FAILED
    return End.AGAIN


def end_of_lost(attempt: int, max_attempts: int) -> End:
    """What becomes of a claim that nobody settled: its process or worker died, or it took too long."""
    return End.FAILED if attempt >= max_attempts else End.AGAIN


def attempts_after(how: Settling, attempt: int) -> int:
    """The attempts that count after a settlement: what was given back was none."""
    return max(attempt - 1, 0) if how is Settling.RETURNED else attempt


class Verdict(StrEnum):
    """What becomes of a settlement."""

    MOVES = "moves"
    REPEATS = "repeats"
    """It took effect before, and nothing was claimed since: nothing changes, and it is answered as the first time."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Held:
    """A message or a task, as a settlement of it finds it."""

    is_held: bool
    token: int
    ended_as: str | None
    """How the newest claim ended: a `Settling`, or one of the words of this module; None while it is open."""


def judge(held: Held | None, token: int, how: Settling) -> Verdict:
    """What becomes of a settlement under this token."""
    if held is None or held.token != token:
        return Verdict.REFUSED
    if held.is_held:
        return Verdict.MOVES
    return Verdict.REPEATS if held.ended_as == how else Verdict.REFUSED


def message_id_of(message_id: str, token: int) -> str:
    """The id of a task's message at this assignment: its own at the first one, another at each later one."""
    return message_id if token <= 1 else f"{message_id}-{token}"
