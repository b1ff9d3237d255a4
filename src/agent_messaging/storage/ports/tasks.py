"""The port of tasks: work with a type, needs and a priority, that one worker at a time has, and that has one result.

    queued ──assign: a worker is chosen, token+1, attempt+1──▶ assigned
    queued | assigned ──a process takes it: token+1, owner──▶ running
    assigned | running ──settle, token newest──▶ done | failed
    assigned | running ──retry(delay), give back, worker or process dead, overdue──▶ queued | failed at the last attempt
    queued | assigned | running ──cancel──▶ cancelled
    queued | assigned | running ──its deadline──▶ expired
    failed ──redrive: attempt 0, token kept──▶ queued

An attempt is counted when a worker is given a task, and when a process takes one that no worker was given. The
capacity of a worker covers what is assigned to it and what it runs. A run that its process did not outlive makes its
task a suspect, of which a process runs one at a time (`TaskPool.exchange`). `storage/choosing.py` says who is eligible,
and in which order; `storage/workload.py` says what the end of a claim does.

Two ways lead to a worker. A supervisor *assigns*: it learns at once whom the task was given to, or that nobody fits
(`TaskStore`). Or tasks wait in a *pool*, from which workers take what they have room for (`TaskPool`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import field
from datetime import datetime
from typing import Protocol

from ...models import TaskState
from ...records import dataclass
from ..batches import size_of
from .deliveries import Settling
from .queue import NewQueueMessage
from .retention import Stock


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be stored."""

    task_id: str
    """Any external id, made by the caller; of all tasks the only one."""
    type: str
    needs: tuple[str, ...]
    """The capabilities that its worker must have, all of them; in order, each once."""
    priority: int
    """See `queue.PRIORITIES`."""
    content: str
    """JSON text, already checked, as of a message."""
    checksum: int
    max_attempts: int
    description: str = ""
    supervisor: str | None = None
    """Who handed it out, for listings."""
    run_limit: float | None = None
    """Seconds a run may take, from the booking if it is assigned; None: as whoever takes it says, or for ever."""
    delay: float = 0.0
    """Seconds until it may be taken."""
    expires_in: float | None = None
    """Seconds until its deadline; None: it has none."""
    message: NewQueueMessage | None = None
    """Put into the queue of the worker that it is assigned to, in the same step, unless that worker pulls. It is kept:
    each later assignment puts it again, under an id of its own (`choosing.message_id_of`)."""
    trace: str | None = None
    """What observers have it carry to its runs, as text; stored, returned, never interpreted."""

    @property
    def size(self) -> int:
        """Bytes of what it stores."""
        return size_of(self.content) + (0 if self.message is None else self.message.size)


@dataclass(frozen=True, slots=True)
class Assigned:
    """The task is stored and booked for a worker."""

    task_id: str
    worker_id: str
    token: int


@dataclass(frozen=True, slots=True)
class NobodyFits:
    """No worker is alive, able and free; nothing was stored."""


@dataclass(frozen=True, slots=True)
class KnownTask:
    """A task has this id already; nothing was stored."""

    state: TaskState
    worker_id: str | None
    token: int


AssignOutcome = Assigned | NobodyFits | KnownTask


@dataclass(frozen=True, slots=True)
class TaskClaim:
    """What identifies a booking or a run: with another token than the newest it is refused."""

    task_id: str
    token: int


@dataclass(frozen=True, slots=True)
class TaskSettlement:
    """End one booking or run."""

    claim: TaskClaim
    how: Settling
    """DONE, RETRY, DEAD (it failed, and is not tried again) or RETURNED."""
    result: str | None = None
    """JSON text, already checked; with DONE, and with DEAD where there is something to tell."""
    checksum: int | None = None
    """Of the result."""
    delay: float = 0.0
    """Seconds until a retry may be taken."""
    reason: str | None = None
    """Why, for RETRY, DEAD and RETURNED. At most 500 characters, no content."""

    @property
    def size(self) -> int:
        """Bytes of what it stores."""
        return size_of(self.result, self.reason)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run says of itself."""

    claim: TaskClaim
    fraction: float
    """0 to 1."""
    note: str | None = None
    """At most 500 characters."""


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task as `result` and the listings show it."""

    task_id: str
    type: str
    description: str
    needs: tuple[str, ...]
    priority: int
    content: str
    checksum: int
    supervisor: str | None
    state: TaskState
    worker_id: str | None
    """Who has it, or had it last."""
    token: int
    attempt: int
    max_attempts: int
    owner: str | None
    """The process that runs it, or ran it last."""
    origin: str | None
    """The process that stored it."""
    result: str | None
    result_checksum: int | None
    reason: str | None
    """The newest: of the last failure, or of the end."""
    fraction: float
    note: str | None
    created_at: datetime
    deadline_at: datetime | None
    assigned_at: datetime | None
    """When its worker was chosen, or took it, last."""
    settled_at: datetime | None
    log: list[dict[str, object]]
    """What went wrong, oldest first: {"at": ISO 8601, "event", "attempt", "worker", "reason"}.

    The event is failed, dead, lost, returned, overdue or redriven.
    """


@dataclass(frozen=True, slots=True)
class EndedTask:
    """What whoever waits for a task is told of its end."""

    task_id: str
    state: TaskState
    """A final one."""
    reason: str | None
    result: str | None
    result_checksum: int | None


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks a listing shows: those of which all that is given here is true."""

    states: frozenset[TaskState] | None = None
    type: str | None = None
    worker_id: str | None = None
    supervisor: str | None = None


@dataclass(frozen=True, slots=True)
class TaskNews:
    """Who may want to look after a change."""

    moved: list[bool]
    """One for each item of the call, in its order. False: it was not (or no longer) so; nothing changed."""
    processes: set[str] = field(default_factory=set)
    """Those that stored what ended or began, that run what was cancelled, or that could take what is free now."""
    listeners: set[str] = field(default_factory=set)
    """Those that wait for messages that were put (`QueueStore.listen`)."""


@dataclass(frozen=True, slots=True)
class AssignNews:
    """What became of the tasks of `assign`, in their order, and who may want to look."""

    outcomes: list[AssignOutcome]
    processes: set[str] = field(default_factory=set)
    listeners: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class TasksAdvanced:
    """What the passing of time changed."""

    released: int = 0
    """Bookings and runs that were overdue, or whose worker was no longer alive."""
    expired: int = 0
    due: int = 0
    processes: set[str] = field(default_factory=set)
    next_in: float | None = None
    """Seconds until the next change of this kind; None if none is known."""


@dataclass(frozen=True, slots=True)
class TaskStatistics:
    """The tasks that are not pruned: of one supervisor, or all."""

    counts: dict[TaskState, int]
    """States that no task has are left out."""
    average_duration: float | None
    """Seconds from the last assignment to the end, over the 1,000 newest that are done; None if none is."""
    oldest_queued_age: float | None
    """Seconds since the oldest that may be taken was stored; None if there is none."""


class TaskStore(Protocol):
    """Tasks, handed out and settled. All of it is safe under any number of processes."""

    async def assign(
        self, tasks: Sequence[NewTask], *, origin: str | None = None, now: datetime | None = None
    ) -> AssignNews:
        """Choose a worker for each task, book it, store the task and put its message: one atomic step for all of it.

        They are taken in their order. Each goes to a worker that is alive and available, has all the capabilities it
        needs, and has room: the least loaded one, then the one that is idle longest, then by id. Where nobody fits,
        that task is not stored. However many supervisors assign at once, no worker gets more than its capacity.
        Repeat-safe by task id: a repeat answers KnownTask, as a task of another caller does.
        """
        ...

    async def assign_waiting(self, limit: int, *, now: datetime | None = None) -> AssignNews:
        """Book up to `limit` tasks that were assigned once and have returned to the queue, as `assign` does.

        In order of priority and age; those for whom nobody fits stay, and hinder no other. Tells of what it booked.
        Reads first; takes a write lock only if something can be booked.
        """
        ...

    async def settle(self, settlements: Sequence[TaskSettlement], *, now: datetime | None = None) -> TaskNews:
        """End bookings and runs in one commit. What is settled has its one result; the worker's room is free again.

        A retry at the last attempt is a failure. Repeating a settlement that took effect answers True again, as long as
        the task was not assigned or taken meanwhile; another end than the one that took effect is refused.
        """
        ...

    async def progress(self, reports: Sequence[Progress], *, now: datetime | None = None) -> list[bool]:
        """Write how far these are. False: the claim is not the newest. Repeat-safe; a task's last report counts."""
        ...

    async def cancel(self, task_ids: Collection[str], reason: str, *, now: datetime | None = None) -> TaskNews:
        """End those that are open; what their runs settle later is refused. `moved` is in the order of `task_ids`."""
        ...

    async def reprioritise(self, task_ids: Collection[str], priority: int) -> list[bool]:
        """Change the priority of those that are queued. Repeat-safe."""
        ...

    async def find_tasks(self, task_ids: Collection[str]) -> list[TaskRow]:
        """Those that exist, in any order."""
        ...

    async def find_ended(self, task_ids: Collection[str]) -> dict[str, EndedTask | None]:
        """Of these those that have ended; None for those that do not exist.

        Those that are open are left out: whoever waits for the ends of a thousand tasks looks at them again and again.
        """
        ...

    async def list_tasks(self, which: TaskFilter, limit: int, offset: int) -> list[TaskRow]:
        """A page, newest first. One that finds few among many is read in steps, so that no other call waits for it."""
        ...

    async def release_tasks(self, owners: Collection[str], *, now: datetime | None = None) -> int:
        """Return what these processes ran, which are known to be dead; at the last attempt it has failed.

        Returns how many they were. Repeat-safe. If one of them ran suspects, they alone are blamed; otherwise all that
        it ran is: it is counted, and suspect from now on, until a run of it is settled. Where the store knows
        processes, `ProcessStore.release` does this in its own commit, and `ProcessStore.retire` returns what one that
        stopped ran, uncounted.
        """
        ...

    async def advance(self, *, now: datetime | None = None) -> TasksAdvanced:
        """Let time pass. Repeat-safe.

        In this order: what is past its deadline expires, whoever has it; what is overdue, or is with a worker that is
        no longer alive, returns to the queue, or has failed at its last attempt; retries become due.

        Reads first; takes a write lock only if something is to change. Changes a bounded number at once: `next_in` is 0
        where there are more.
        """
        ...

    async def statistics(self, supervisor: str | None = None, *, now: datetime | None = None) -> TaskStatistics:
        """The tasks of a supervisor, or all of them, in figures. A plain read."""
        ...

    async def prune(
        self, older_than: float, limit: int, *, states: Collection[TaskState] | None = None, now: datetime | None = None
    ) -> int:
        """Forget up to `limit` tasks that ended more than so many seconds ago; returns how many.

        In these final states, or in any. Never touches an open one. A forgotten id is new again. Repeat-safe.
        """
        ...

    async def measure(
        self, older_than: float, *, states: Collection[TaskState] | None = None, now: datetime | None = None
    ) -> Stock:
        """Count what `prune` would forget without a limit. The bytes are those of the contents, about."""
        ...


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """Ask for up to `limit` tasks for a worker."""

    worker_id: str
    limit: int
    run_limit: float
    """Seconds a run may take, of a task that does not say so itself; its claim ends CLAIM_MARGIN later."""
    types: tuple[str, ...] | None = None
    """Of these types alone."""
    but: tuple[str, ...] = ()
    """None of these types."""


@dataclass(frozen=True, slots=True)
class ClaimedTask:
    """A run begins: a claim with all that it needs."""

    claim: TaskClaim
    worker_id: str
    attempt: int
    max_attempts: int
    type: str
    description: str
    priority: int
    content: str
    checksum: int
    supervisor: str | None
    origin: str | None
    created_at: datetime
    run_limit: float
    """Seconds it may take, its deadline considered."""
    is_suspect: bool = False
    """A process died that ran it."""
    trace: str | None = None
    """See `NewTask`."""

    @property
    def metadata(self) -> None:
        """A task has none."""
        return


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What became of the settlements, in their order, and what was taken in the same commit."""

    moved: list[bool]
    processes: set[str]
    """See `TaskNews`."""
    claimed: list[ClaimedTask]


@dataclass(frozen=True, slots=True)
class Redriven:
    """Which tasks wait again, in any order, and who could take them."""

    task_ids: list[str]
    processes: set[str] = field(default_factory=set)


class TaskPool(TaskStore, Protocol):
    """Tasks that wait for workers to take them."""

    async def submit(
        self, tasks: Sequence[NewTask], *, origin: str | None = None, now: datetime | None = None
    ) -> TaskNews:
        """Store the tasks as queued, in one commit. Repeat-safe by task id: of a known one `moved` is False."""
        ...

    async def exchange(
        self,
        settlements: Sequence[TaskSettlement],
        requests: Sequence[TaskRequest],
        *,
        owner: str,
        now: datetime | None = None,
    ) -> Exchanged:
        """Settle, and in the same commit take what the requests ask for, also into the room that is free now.

        A worker takes what is assigned to it, then of the pool what it is able to do: by priority, oldest first within
        one. It never has more than its capacity, over all its processes. Of the tasks whose process died while it ran
        them (suspects) an owner runs one at a time, over all its workers: where it dies too, they alone are counted.
        A worker that is not known, and an owner that is known to have ended, get nothing. Not repeatable with requests:
        a lost answer leaves claims that return through `release_tasks` or when they are overdue; the owner finds them
        with `list_claims`.
        """
        ...

    async def redrive(
        self, task_ids: Collection[str] | None, type: str | None = None, *, now: datetime | None = None
    ) -> Redriven:
        """Queue again those that have failed, of these ids and this type: attempt 0, token kept, due now, no deadline.

        Repeat-safe: what has not failed is passed over.
        """
        ...

    async def list_claims(self, owner: str) -> list[TaskClaim]:
        """What this process runs, in the eyes of the store: to return claims whose answer was lost, and to find those
        that were cancelled."""
        ...

    async def find_lost(self, claims: Collection[TaskClaim]) -> list[TaskClaim]:
        """Those of these claims that are over: cancelled, expired, taken over, or settled. A plain read."""
        ...

    async def find_waiting(self, worker_ids: Collection[str], *, now: datetime | None = None) -> list[str]:
        """Those of these workers for whom there is something to take. A plain read, cheap enough for every wake-up.

        A worker that has no room is not among them. Each is asked for by itself: of two that could take one task both
        are named, as one of them may not take this type, or not now.
        """
        ...
