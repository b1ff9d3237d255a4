"""Work that is handed out, for code without asyncio.

Written by scripts/generate_sync.py from `agent_messaging.coordination.tasks`: change that, and run it again.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, overload

from ..coordination.message_protocol import MessagePriority
from ..coordination.records import Schedule, Task, TaskOutcome, WorkerInfo
from ..coordination.tasks import Tasks as AsyncTasks
from ..models import TaskState
from ..payloads import MISSING
from ..storage.ports import TaskStatistics
from .running import Blocking
from .streams import iterate


class Tasks(Blocking[AsyncTasks]):
    """`sdk.tasks`: work is handed out to whoever can do it, and has one result.

    A task is stored when `delegate` returns: it is done at least once, settled once, and outlives every process.
    """

    def delegate(
        self,
        task_type: str,
        payload: Any = None,
        *,
        required_capabilities: Iterable[str] | None = None,
        description: str = "",
        priority: MessagePriority | str = MessagePriority.MEDIUM,
        deadline: datetime | None = None,
        run_timeout: float | None = None,
        delay: float | None = None,
        max_attempts: int | None = None,
        supervisor: str | None = None,
        task_id: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
        response_type: Any = MISSING,
    ) -> Any:
        """Hand a task to whichever worker can do it and has room, now or later.

        When it returns, the task is committed and synced. Nobody need be there yet who can do it: it waits. The most
        urgent tasks go first, and of equal ones the oldest. A cancelled call has an unknown outcome: repeat it with the
        same `task_id`, and it is stored once.

        Args:
            task_type: What is to be done, 1 to 255 characters.
            payload: What the handler gets; as of `one_way.send`.
            required_capabilities: What a worker must be able to do, all of it; None is the type itself.
            description: For people; at most 255 characters.
            priority: A `MessagePriority` or its text.
            deadline: An aware instant after which nobody wants the result: the task expires, whoever has it.
            run_timeout: Seconds a run may take; None is the worker's `timeout`.
            delay: Seconds before which nobody begins it.
            max_attempts: Runs before it has failed, 1 to 10,000; None is `coordination.max_retries` and one.
            supervisor: Who hands it out, for listings.
            task_id: 1 to 255 characters; made when not given. A repeat under the same id stores nothing.
            wait: True waits for the result, and returns it.
            timeout: Seconds to wait; None waits without limit. The task goes on when they are over.
            response_type: The type as which the result is read; plain JSON values without it.

        Returns:
            The task's id; with `wait` its result.

        Raises:
            InvalidArgumentError: An argument is refused; it names the field, the value and the remedy.
            PayloadError: The payload is not storable JSON.
            TaskFailedError, TaskCancelledError, TaskExpiredError: With `wait`: it ended so.
            TimeoutError: With `wait`: it has not ended; it goes on.
            DatabaseError: The store refused; nothing was stored.

        Example:
            small = sdk.tasks.delegate("resize", {"width": 400}, wait=True, timeout=60)
        """
        return self._run(
            lambda: self._async.delegate(
                task_type,
                payload,
                required_capabilities=required_capabilities,
                description=description,
                priority=priority,
                deadline=deadline,
                run_timeout=run_timeout,
                delay=delay,
                max_attempts=max_attempts,
                supervisor=supervisor,
                task_id=task_id,
                wait=wait,
                timeout=timeout,
                response_type=response_type,
            )
        )

    def map(
        self,
        task_type: str,
        items: Iterable[Any],
        *,
        timeout: float | None = None,
        response_type: Any = MISSING,
        **options: Any,
    ) -> Iterator[TaskOutcome]:
        """Hand out one task for each item, and yield what became of each as it comes.

        All are stored before the first outcome, 1,000 in one commit. Leaving the loop early leaves the tasks to go on;
        cancel them with the ids of `sdk.tasks.list` if they are not wanted.

        Args:
            task_type: What is to be done.
            items: The payloads.
            timeout: Seconds for all of them; None waits without limit.
            response_type: The type as which the results are read; plain JSON values without it.
            **options: As of `delegate`, but `task_id`, `wait`.

        Yields:
            A `TaskOutcome` for each item, with its `result`, or its `error`. The error says why the task has no result,
            or why its result cannot be read, is not of the response type, or was pruned.

        Raises:
            TimeoutError: Some have not ended; they go on.
            InvalidArgumentError, PayloadError, DatabaseError: As of `delegate`; nothing of that commit is stored.

        Example:
            for outcome in sdk.tasks.map("resize", pictures):
                print(outcome.index, outcome.error or outcome.result)
        """
        return iterate(
            self._runner,
            lambda: self._async.map(task_type, items, timeout=timeout, response_type=response_type, **options),
        )

    def schedule(
        self,
        name: str,
        task_type: str,
        payload: Any = None,
        *,
        cron: str | None = None,
        every: float | None = None,
        timezone: str = "UTC",
        expires_in: float | None = None,
        **options: Any,
    ) -> bool:
        """Hand out a task again and again, each instant once, whatever number of processes are there.

        The schedule is a row: it outlives every process, and fires while any started SDK object is on the store. A
        program may make it at each start: under a name that is known it is replaced, and one whose rule stays as it is
        keeps its next instant. Instants at which no process was there are made up for by one task. No instant comes
        twice: where the clock is set back, a cron expression waits until it has caught up, and an interval goes on, at
        most its own length from then. The id of a task is the name and the instant in UTC, such as
        `nightly@2026-05-01T03:00:00.000000`.

        Args:
            name: 1 to 200 characters.
            task_type: What is to be done.
            payload: What the handler gets, each time.
            cron: Five fields: minute, hour, day of the month, month, day of the week; as Debian's cron reads them.
            every: Seconds between two instants, from 1; the first one comes after them.
            timezone: The zone of a cron expression, such as "Europe/Berlin". Where its clocks are put forward, what
                falls into the hour that is left out comes right after it; where they are put back, it comes once.
            expires_in: Seconds from its instant after which nobody wants the result of a task.
            **options: As of `delegate`: required_capabilities, description, priority, run_timeout, max_attempts,
                supervisor.

        Returns:
            True if there was none of this name.

        Raises:
            InvalidArgumentError: An argument is refused; neither or both of `cron` and `every` are given.
            PayloadError: The payload is not storable JSON.

        Example:
            sdk.tasks.schedule("nightly", "report", cron="0 3 * * *", timezone="Europe/Berlin")
        """
        return self._run(
            lambda: self._async.schedule(
                name, task_type, payload, cron=cron, every=every, timezone=timezone, expires_in=expires_in, **options
            )
        )

    def unschedule(self, name: str) -> bool:
        """End a schedule; False if there was none. Tasks that it has handed out go on. Repeat-safe.

        Example:
            was_there = sdk.tasks.unschedule("nightly")
        """
        return self._run(lambda: self._async.unschedule(name))

    def schedules(self, *, limit: int = 100, offset: int = 0) -> builtins.list[Schedule]:
        """List schedules, in order of their names.

        Args:
            limit: At most so many, 1 to 1,000.
            offset: So many are passed over.

        Example:
            for schedule in sdk.tasks.schedules():
                print(schedule.name)
        """
        return self._run(lambda: self._async.schedules(limit=limit, offset=offset))

    def result(self, task_id: str, *, timeout: float | None = None, response_type: Any = MISSING) -> Any:
        """Wait for a task's result, in any process, also long after it was handed out.

        It holds no connection and no thread while it waits. Cancelling it changes nothing in the store.

        Args:
            task_id: As `delegate` returned it.
            timeout: Seconds; 0 only looks, None waits without limit.
            response_type: The type as which the result is read; plain JSON values without it.

        Raises:
            TaskFailedError, TaskCancelledError, TaskExpiredError: It ended so.
            TaskNotFoundError: There is no such task (any more).
            TimeoutError: It has not ended; it goes on.
            PayloadError: The result is not of the response type.
            StorageCorruptError: What is stored of it is damaged.
            NotInitializedError: The SDK was closed meanwhile; the task goes on.

        Example:
            report = sdk.tasks.result(task_id, timeout=60)
        """
        return self._run(lambda: self._async.result(task_id, timeout=timeout, response_type=response_type))

    def get(self, task_id: str) -> Task:
        """Look at one task: its state, its progress, and what went wrong.

        Raises:
            TaskNotFoundError: There is no such task (any more).

        Example:
            task = sdk.tasks.get(task_id)
            print(task.state)
        """
        return self._run(lambda: self._async.get(task_id))

    def list(
        self,
        *,
        states: Iterable[TaskState | str] | None = None,
        task_type: str | None = None,
        worker_id: str | None = None,
        supervisor: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> builtins.list[Task]:
        """List tasks, the newest first.

        Args:
            states: In these states alone; None is any.
            task_type: Of this type.
            worker_id: That this worker has, or had last.
            supervisor: That were handed out by this one.
            limit: At most so many, 1 to 1,000.
            offset: So many are passed over.

        Raises:
            InvalidArgumentError: An argument is refused.

        Example:
            running = sdk.tasks.list(states=["running"])
        """
        return self._run(
            lambda: self._async.list(
                states=states,
                task_type=task_type,
                worker_id=worker_id,
                supervisor=supervisor,
                limit=limit,
                offset=offset,
            )
        )

    def workers(self, *, limit: int = 100, offset: int = 0) -> builtins.list[WorkerInfo]:
        """List the workers that the store knows, in order of their ids; dead ones too.

        Args:
            limit: At most so many, 1 to 1,000.
            offset: So many are passed over.

        Example:
            for worker in sdk.tasks.workers():
                print(worker.worker_id, worker.capabilities, worker.load)
        """
        return self._run(lambda: self._async.workers(limit=limit, offset=offset))

    def statistics(self, supervisor: str | None = None) -> TaskStatistics:
        """Count the tasks by their states: of one supervisor, or all.

        Example:
            statistics = sdk.tasks.statistics()
            print(statistics.counts, statistics.oldest_queued_age)
        """
        return self._run(lambda: self._async.statistics(supervisor))

    @overload
    def cancel(self, task_ids: str, *, reason: str = ...) -> bool: ...
    @overload
    def cancel(self, task_ids: builtins.list[str] | tuple[str, ...], *, reason: str = ...) -> builtins.list[bool]: ...

    def cancel(self, task_ids: str | builtins.list[str] | tuple[str, ...], *, reason: str = "it was cancelled") -> Any:
        """End tasks that nobody wants any more. An `def` handler at work on one is cancelled.

        When it returns the tasks have ended in the store: what their runs return later is refused. Repeat-safe.

        Args:
            task_ids: One id, or a list of them.
            reason: For `TaskCancelledError` and listings; at most 255 characters.

        Returns:
            For each, False if it had ended already, or does not exist.

        Example:
            sdk.tasks.cancel(task_id, reason="the customer left")
        """
        return self._run(lambda: self._any.cancel(task_ids, reason=reason))

    def redrive(
        self, task_ids: str | builtins.list[str] | tuple[str, ...] | None = None, *, task_type: str | None = None
    ) -> int:
        """Queue tasks again that have failed, with all their attempts before them, and without their deadline.

        Those that have not failed are passed over, so it is repeat-safe.

        Args:
            task_ids: Which, one id or a list of them; None means all of the type.
            task_type: Of this type alone; one of the two must be given.

        Returns:
            How many wait again.

        Raises:
            InvalidArgumentError: Neither was given, or one is no id.

        Example:
            sdk.tasks.redrive(task_type="resize")
        """
        return self._run(lambda: self._async.redrive(task_ids, task_type=task_type))

    def reprioritise(self, task_id: str, priority: MessagePriority | str) -> bool:
        """Make a task that still waits more or less urgent; False if it does not wait any more. Repeat-safe.

        Args:
            task_id: As `delegate` returned it.
            priority: A `MessagePriority` or its text.

        Example:
            sdk.tasks.reprioritise(task_id, "critical")
        """
        return self._run(lambda: self._async.reprioritise(task_id, priority))
