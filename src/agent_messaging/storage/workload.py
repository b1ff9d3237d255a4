"""The rules of the ends of claims on work that is handed out; `choosing` says who is given a task. They are pure.

They hold for the messages of queues and for tasks alike, on every backend: a backend loads what a rule asks for, asks,
and writes what it is answered.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import TypeVar

from ..models import DeliveryState, TaskState
from ..records import dataclass
from .ports import (
    PRIORITIES,
    NewQueueMessage,
    Progress,
    QueueClaim,
    QueueSettlement,
    Settling,
    TaskClaim,
    TaskFilter,
    TaskSettlement,
)

LOST = "lost"
"""How a claim ended whose process or worker is dead."""
OVERDUE = "overdue"
"""How a claim ended that took too long."""
FAILED = "failed"
"""Beside the states of messages, the stores count those that are done with a reason under this word."""
_OPEN = frozenset({TaskState.QUEUED, TaskState.ASSIGNED, TaskState.RUNNING})
_STEP = 5_000
"""Tasks that a statement looks at for a page."""
WHY = {
    "lost": "process died",
    "lease": "its lease was over",
    "overdue": "it took too long, or its worker is gone",
    "expired": "its deadline passed",
    "stopped": "the process stopped",
    "left": "the worker left",
}
"""Why something returned, or has failed, of which nobody says it. The script of Redis has the same table."""


class End(StrEnum):
    """Where the end of a claim leaves what was claimed."""

    DONE = "done"
    FAILED = "failed"
    AGAIN = "again"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        """Whether nobody claims it any more."""
        return self is not End.AGAIN

    @property
    def of_task(self) -> TaskState:
        """The state of a task after it."""
        return TaskState(self.value) if self.is_final else TaskState.QUEUED

    @property
    def of_message(self) -> DeliveryState:
        """The state of a message after it; no message is cancelled."""
        states = {End.AGAIN: DeliveryState.QUEUED, End.FAILED: DeliveryState.DEAD}
        return states.get(self) or DeliveryState(self.value)


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


@dataclass(slots=True)
class Held:
    """A message of a queue, or a task, as the end of its claim finds it."""

    seq: int
    is_held: bool
    token: int
    attempt: int
    max_attempts: int
    ended_as: str | None
    """How the newest claim ended: a `Settling`, an `End`, or one of the words of this module; None while it is open."""
    owner: str | None
    """The process of the newest claim."""
    suspect: bool
    """A process died that had it, and no claim of it was settled since."""

    def judge(self, token: int, how: Settling) -> Verdict:
        """What becomes of a settlement under this token."""
        if self.token != token:
            return Verdict.REFUSED
        if self.is_held:
            return Verdict.MOVES
        return Verdict.REPEATS if self.ended_as == how else Verdict.REFUSED


H = TypeVar("H", bound=Held)


@dataclass(slots=True)
class Change:
    """What is to be written of one that has ended, or returns."""

    seq: int
    end: End
    attempt: int
    ended_as: str
    reason: str | None
    delay: float = 0.0
    """Seconds until it may be claimed again."""
    event: str | None = None
    """The entry that it leaves in the log."""
    result: str | None = None
    checksum: int | None = None
    suspect: bool = False
    """As of `Held`."""


def _settled(held: Held, settlement: QueueSettlement | TaskSettlement) -> Change:
    """The change that a settlement makes; a second settlement in the same call finds it made."""
    how = settlement.how
    end = end_of(how, held.attempt, held.max_attempts)
    held.is_held, held.ended_as = False, how
    delay = settlement.delay if how is Settling.RETRY and not end.is_final else 0.0
    attempt = attempts_after(how, held.attempt)
    return Change(held.seq, end, attempt, how, settlement.reason, delay, how.event)


def _lost(held: Held, how: str, reason: str) -> Change:
    end = end_of_lost(held.attempt, held.max_attempts)
    return Change(held.seq, end, held.attempt, how, reason, event=how, suspect=held.suspect)


def _blame(held: Iterable[H]) -> Iterator[tuple[H, Change]]:
    """The changes of what processes had that died.

    Of each process, if it had suspects, they are to blame; otherwise all that it had is.
    """
    found = list(held)
    convicted = {one.owner for one in found if one.suspect}
    for one in found:
        change = _lost(one, LOST, WHY["lost"])
        change.suspect = one.suspect or one.owner not in convicted
        if not change.suspect:
            change.end, change.attempt = End.AGAIN, attempts_after(Settling.RETURNED, one.attempt)
        yield one, change


def _returned(held: Held, reason: str) -> Change:
    attempt = attempts_after(Settling.RETURNED, held.attempt)
    return Change(held.seq, End.AGAIN, attempt, Settling.RETURNED, reason, event=Settling.RETURNED)


# --- messages ---------------------------------------------------------------------------------------------------------


def held_message(
    seq: int,
    state: str,
    token: int,
    attempt: int,
    max_attempts: int,
    ended_as: str | None,
    owner: str | None,
    suspect: bool | int,
) -> Held:
    """A message as the backends with SQL select what judging needs."""
    return Held(seq, state == DeliveryState.CLAIMED, token, attempt, max_attempts, ended_as, owner, bool(suspect))


def settle_messages(
    settlements: Sequence[QueueSettlement], found: Mapping[tuple[str, str], Held]
) -> tuple[list[bool], list[Change]]:
    """Which of the settlements took effect, and the changes; `found` has the messages by agent and message id."""
    moved, changes = [], []
    for settlement in settlements:
        claim = settlement.claim
        held = found.get((claim.agent_id, claim.message_id))
        verdict = Verdict.REFUSED if held is None else held.judge(claim.token, settlement.how)
        moved.append(verdict is not Verdict.REFUSED)
        if held is not None and verdict is Verdict.MOVES:
            changes.append(_settled(held, settlement))
    return moved, changes


def lose_messages(held: Iterable[Held]) -> list[Change]:
    """The changes of messages whose leases are over."""
    return [_lost(one, OVERDUE, WHY["lease"]) for one in held]


def release_messages(held: Iterable[Held], *, counted: bool) -> list[Change]:
    """The changes of messages whose process died, or stopped, which is no attempt and nobody's fault."""
    return [change for _, change in _blame(held)] if counted else [_returned(one, WHY["stopped"]) for one in held]


def renew_messages(claims: Sequence[QueueClaim], found: Mapping[tuple[str, str], Held]) -> tuple[list[bool], list[int]]:
    """Which of the claims are held, and the seqs of their messages; `found` has these by agent and message id."""
    held = [found.get((claim.agent_id, claim.message_id)) for claim in claims]
    kept = [
        one if one is not None and one.is_held and one.token == claim.token else None
        for claim, one in zip(claims, held, strict=True)
    ]
    return [one is not None for one in kept], [one.seq for one in kept if one is not None]


def take_unknown(
    messages: Sequence[NewQueueMessage], known: Iterable[Hashable]
) -> tuple[list[bool], list[NewQueueMessage]]:
    """Which of the messages are new to their queues, each once."""
    seen, stored, new = set(known), [], []
    for message in messages:
        name = message.agent_id, message.message_id
        stored.append(name not in seen)
        if name not in seen:
            seen.add(name)
            new.append(message)
    return stored, new


def read_counts(counts: Mapping[str, int]) -> tuple[dict[str, int], int, dict[int, int]]:
    """What the stores count of messages, apart: by state; those that failed; and those that are open, by priority."""
    words = {f"p{priority}": priority for priority in PRIORITIES}
    states = {what: number for what, number in counts.items() if what not in words and what != FAILED}
    return states, counts.get(FAILED, 0), {words[what]: number for what, number in counts.items() if what in words}


# --- tasks ------------------------------------------------------------------------------------------------------------


def way_of(which: TaskFilter) -> str:
    """By which of its indexes a store lists tasks: most of those that a filter leaves out cost nothing."""
    if which.supervisor is not None:
        return "open" if which.states is not None and which.states <= _OPEN else "supervisor"
    return "all" if which.states is None else "states"


def step_of(which: TaskFilter) -> int | None:
    """How many tasks a store with SQL looks at in one statement for a page; None: at those of the page alone.

    Where some in the index are not wanted, the page may be at its end. Nothing else is to wait for that, so a statement
    looks at so many, and says where the next one goes on.
    """
    is_sifted = which.type is not None or which.worker_id is not None
    return _STEP if is_sifted or (which.supervisor is not None and which.states is not None) else None


def rest_of(seqs: Sequence[int], limit: int, offset: int, number: int, below: int | None) -> tuple[int, int | None]:
    """What a statement leaves of a page: how many tasks are to be passed over yet, and below which the next one looks.

    Args:
        seqs: The tasks that it shows.
        number: How many it found, those that are passed over included.
        below: The last one that it looked at; None: there are no more.
    """
    return (0, seqs[-1]) if len(seqs) == limit else (max(offset - number, 0), below)


@dataclass(slots=True)
class HeldTask(Held):
    """A task as its end finds it."""

    id: str
    state: TaskState
    worker_id: str | None
    origin: str | None


def held_task(
    id: str,
    seq: int,
    state: str,
    token: int,
    attempt: int,
    max_attempts: int,
    ended_as: str | None,
    worker_id: str | None,
    owner: str | None,
    origin: str | None,
    suspect: bool | int,
) -> HeldTask:
    """A task as all backends select what judging needs."""
    known = TaskState(state)
    is_held = known.is_held
    return HeldTask(
        seq, is_held, token, attempt, max_attempts, ended_as, owner, bool(suspect), id, known, worker_id, origin
    )


@dataclass(slots=True)
class Ended:
    """What a call ends, and who may want to look."""

    moved: list[bool] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    workers: set[str] = field(default_factory=set)
    """Those that had some of it."""
    processes: set[str] = field(default_factory=set)
    """Those that stored what has ended, or run what was ended from outside."""

    @property
    def is_any_queued(self) -> bool:
        """Whether something is in the pool again."""
        return any(not change.end.is_final for change in self.changes)

    def _add(self, task: HeldTask, change: Change) -> None:
        self.changes.append(change)
        if task.state.is_held and task.worker_id is not None:
            self.workers.add(task.worker_id)
        if change.end.is_final and task.origin is not None:
            self.processes.add(task.origin)


def settle_tasks(settlements: Sequence[TaskSettlement], held: Iterable[HeldTask]) -> Ended:
    """What the settlements do to these tasks, which are all that exist of those that they name."""
    found = {task.id: task for task in held}
    ended = Ended()
    for settlement in settlements:
        task = found.get(settlement.claim.task_id)
        verdict = Verdict.REFUSED if task is None else task.judge(settlement.claim.token, settlement.how)
        ended.moved.append(verdict is not Verdict.REFUSED)
        if task is not None and verdict is Verdict.MOVES:
            change = _settled(task, settlement)
            if change.end.is_final:
                change.result, change.checksum = settlement.result, settlement.checksum
            ended._add(task, change)
    return ended


def lose_tasks(held: Iterable[HeldTask]) -> Ended:
    """What becomes of tasks whose bookings and runs are overdue; their processes are told, if they live."""
    ended = Ended()
    for task in held:
        ended._add(task, _lost(task, OVERDUE, WHY["overdue"]))
        if task.owner is not None:
            ended.processes.add(task.owner)
    return ended


def return_tasks(held: Iterable[HeldTask], reason: str = WHY["left"]) -> Ended:
    """What becomes of tasks that go back, uncounted; where nothing else is said, because their worker left."""
    ended = Ended()
    for task in held:
        ended._add(task, _returned(task, reason))
    return ended


def release_tasks(held: Iterable[HeldTask], *, counted: bool) -> Ended:
    """What becomes of tasks whose process died, or stopped, which is no attempt and nobody's fault."""
    if not counted:
        return return_tasks(held, WHY["stopped"])
    ended = Ended()
    for task, change in _blame(held):
        ended._add(task, change)
    return ended


def cancel_tasks(held: Iterable[HeldTask], reason: str) -> Ended:
    """Cancel the tasks that are open; the process of a run is told."""
    return _close(held, End.CANCELLED, reason)


def expire_tasks(held: Iterable[HeldTask]) -> Ended:
    """What becomes of open tasks whose deadline has passed; the process of a run is told."""
    return _close(held, End.EXPIRED, WHY["expired"])


def _close(held: Iterable[HeldTask], end: End, reason: str) -> Ended:
    ended = Ended()
    for task in held:
        if not task.state.is_final:
            ended._add(task, Change(task.seq, end, task.attempt, end, reason))
            if task.state is TaskState.RUNNING and task.owner is not None:
                ended.processes.add(task.owner)
    return ended


def each_once(names: Sequence[str], held: Iterable[HeldTask]) -> list[bool]:
    """Which of these names stand for an open task, each at its first place."""
    open_ones = {task.id for task in held if not task.state.is_final}
    answers = []
    for name in names:
        answers.append(name in open_ones)
        open_ones.discard(name)
    return answers


def find_lost(claims: Iterable[TaskClaim], held: Iterable[HeldTask]) -> list[TaskClaim]:
    """Those of the claims that are over."""
    open_ones = {(task.id, task.token) for task in held if task.is_held}
    return [claim for claim in claims if (claim.task_id, claim.token) not in open_ones]


def find_progress(reports: Sequence[Progress], held: Iterable[HeldTask]) -> tuple[list[bool], dict[int, Progress]]:
    """Which of the reports count, and the last one of each task, by its seq."""
    found = {task.id: task for task in held}
    moved, last = [], {}
    for report in reports:
        task = found.get(report.claim.task_id)
        counts = task is not None and task.is_held and task.token == report.claim.token
        moved.append(counts)
        if task is not None and counts:
            last[task.seq] = report
    return moved, last
