"""Facts of tasks for observers, as `facts` makes those of messages; the store of the tasks may be another one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from ..clock import monotonic, utc_now
from ..observing.carrying import TRACEPARENT, read, write
from ..observing.facts import Fact, FactSubject, FactType
from ..observing.observers import Ears
from ..storage.batches import size_of
from ..storage.ports import ClaimedTask, NewTask, Settling, TaskSettlement


class TaskFacts:
    """Makes the facts of one SDK object's tasks, and tells them."""

    def __init__(self, ears: Ears) -> None:
        self.ears = ears

    def tell(self, type: FactType, **said: Any) -> None:
        """Tell a fact."""
        self.ears.tell(Fact(type=type, subject=FactSubject.TASK, at=utc_now(), **said))

    def send(self, tasks: Sequence[NewTask]) -> list[NewTask]:
        """Tasks are about to be stored, in their sender's task: observers give along what travels with each."""
        return [self._send(task) for task in tasks]

    def _send(self, task: NewTask) -> NewTask:
        fact = Fact(type=FactType.SENDING, subject=FactSubject.TASK, at=utc_now(), **_of_new(task))
        carried = self.ears.ask(fact)
        return replace(task, trace=write(carried)) if carried else task

    def submitted(self, tasks: Sequence[NewTask], moved: Sequence[bool]) -> None:
        """Tasks were put into the pool, where `moved` says so; the ids of the others were known."""
        for task, is_new in zip(tasks, moved, strict=True):
            self.tell(FactType.STORED if is_new else FactType.REPEATED, **_of_new(task))

    def refused(self, tasks: Iterable[NewTask], error: Exception) -> None:
        """The store failed: nothing was stored, or nobody knows."""
        for task in tasks:
            self.tell(FactType.REFUSED, reason=getattr(error, "code", type(error).__name__), **_of_new(task))

    def claimed(self, task: ClaimedTask) -> None:
        """A worker has taken a task, and its run begins."""
        self.tell(FactType.CLAIMED, **_of_claimed(task))

    def begin(self, task: ClaimedTask) -> None:
        """In the task of a run, before its handler is called."""
        fact = Fact(type=FactType.CLAIMED, subject=FactSubject.TASK, at=utc_now(), **_of_claimed(task))
        self.ears.begin(fact, read(task.trace))

    def handled(self, task: ClaimedTask, settlement: TaskSettlement | None, since: float) -> None:
        """A run that began then, by the clock that is monotonic, has ended; a settlement is going to be committed."""
        self.tell(
            FactType.HANDLED,
            seconds=monotonic() - since,
            how=None if settlement is None else settlement.how.value,
            reason=None if settlement is None else settlement.reason,
            **_of_claimed(task),
        )

    def settled(self, ends: Iterable[tuple[TaskSettlement, bool]]) -> None:
        """Claims have ended, or (False) were lost to others."""
        for settlement, has_moved in ends:
            claim = settlement.claim
            said: dict[str, Any] = {"task_id": claim.task_id, "claim": f"{claim.task_id}.{claim.token}"}
            if not has_moved:
                self.tell(FactType.LOST, **said)
                continue
            is_dead = settlement.how is Settling.DEAD
            self.tell(
                FactType.DEAD if is_dead else FactType.SETTLED,
                how=settlement.how.value,
                reason=settlement.reason,
                size_bytes=settlement.size or None,
                **said,
            )

    def of_tasks(self, type: FactType, task_ids: Collection[str], moved: Iterable[bool], **said: Any) -> None:
        """The same has happened to these tasks, where `moved` says so."""
        for task_id, has_moved in zip(task_ids, moved, strict=True):
            if has_moved:
                self.tell(type, task_id=task_id, **said)

    def counted(self, type: FactType, count: int) -> None:
        """The same has happened to so many tasks, which the store does not name."""
        if count:
            self.tell(type, count=count)


def _of_new(task: NewTask) -> dict[str, Any]:
    return {
        "task_id": task.task_id,
        "kind": task.type,
        "sender": task.supervisor,
        "size_bytes": size_of(task.content),
        "traceparent": read(task.trace).get(TRACEPARENT),
    }


def _of_claimed(task: ClaimedTask) -> dict[str, Any]:
    return {
        "task_id": task.claim.task_id,
        "kind": task.type,
        "sender": task.supervisor,
        "recipient": task.worker_id,
        "claim": f"{task.claim.task_id}.{task.claim.token}",
        "attempt": task.attempt,
        "traceparent": read(task.trace).get(TRACEPARENT),
    }
