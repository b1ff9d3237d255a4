"""The asynchronous calls of supervisors: `sdk.tasks` hands work out, and gets the results."""

from __future__ import annotations

import asyncio
import builtins
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, overload

from ..arguments import (
    check_external_id,
    check_flag,
    check_name,
    check_page,
    check_patience,
    check_timeout,
    parse_choice,
    refuse,
)
from ..bodies import open_as
from ..clock import utc_now
from ..config import Config
from ..delivery.engine import Engine
from ..delivery.schedules import since_of
from ..exceptions import (
    PayloadError,
    StorageCorruptError,
    TaskCancelledError,
    TaskError,
    TaskExpiredError,
    TaskFailedError,
    TaskNotFoundError,
    TimeoutError,
)
from ..ids import uuid7
from ..messaging.door import Door
from ..models import TaskState
from ..payloads import MISSING
from ..storage.batches import pages
from ..storage.ports import EndedTask, NewSchedule, NewTask, TaskFilter, TaskRow, TaskStatistics
from ..storage.task_texts import dump_task
from .message_protocol import MessagePriority, parse_priority
from .new_tasks import make_rule, make_task
from .records import Schedule, Sealed, Task, TaskOutcome, WorkerInfo, schedule_of, task_of, worker_of

MAX_SCHEDULE_NAME = 200
"""Characters: the id of a task has the instant behind them."""
MAX_TASKS = 1_000
"""Tasks that are stored in one commit."""
_ERRORS = {
    TaskState.FAILED: TaskFailedError,
    TaskState.CANCELLED: TaskCancelledError,
    TaskState.EXPIRED: TaskExpiredError,
}
_OF_ONE = (TaskError, TaskNotFoundError, PayloadError, StorageCorruptError)
"""What may be wrong with one task, and stops no other."""


class Tasks(Door):
    """`sdk.tasks`: work is handed out to whoever can do it, and has one result.

    A task is stored when `delegate` returns: it is done at least once, settled once, and outlives every process.
    """

    def __init__(self, find_engine: Callable[[], Engine], config: Config) -> None:
        super().__init__(find_engine)
        self.config = config

    # --- handing out --------------------------------------------------------------------------------------------------

    async def delegate(
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
            small = await sdk.tasks.delegate("resize", {"width": 400}, wait=True, timeout=60)
        """
        check_flag(wait, "wait")
        check_patience(timeout)
        id = uuid7() if task_id is None else check_external_id(task_id, "task_id")
        task = make_task(
            self.config,
            id,
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
        )
        engine = self.engine
        if not wait:
            await engine.commits.run(engine.workforce.submit([task]))
            return id
        with engine.lots.tasks.expect(id, is_stored=False) as ended:
            await self._submit(engine, [task])
            return self._open(await self._wait(id, ended, timeout), response_type)

    def map(
        self,
        task_type: str,
        items: Iterable[Any],
        *,
        timeout: float | None = None,
        response_type: Any = MISSING,
        **options: Any,
    ) -> AsyncIterator[TaskOutcome]:
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
            async for outcome in sdk.tasks.map("resize", pictures):
                print(outcome.index, outcome.error or outcome.result)
        """
        check_patience(timeout)
        given = [*items]
        tasks = [make_task(self.config, uuid7(), task_type, item, **options) for item in given]
        return self._map(self.engine, tasks, given, timeout, response_type)

    async def _map(
        self,
        engine: Engine,
        tasks: builtins.list[NewTask],
        given: Sequence[Any],
        timeout: float | None,
        response_type: Any,
    ) -> AsyncIterator[TaskOutcome]:
        ended: deque[int] = deque()
        rung = asyncio.Event()

        def end(number: int, _: object) -> None:
            ended.append(number)
            rung.set()

        with ExitStack() as stack:
            futures = [stack.enter_context(engine.lots.tasks.expect(task.task_id, is_stored=False)) for task in tasks]
            for number, future in enumerate(futures):
                future.add_done_callback(partial(end, number))
            for some in pages(tasks, MAX_TASKS):
                await self._submit(engine, some)
            deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
            for count in range(len(tasks)):
                if not ended:
                    rung.clear()
                    try:
                        async with asyncio.timeout_at(deadline):
                            await rung.wait()
                    except builtins.TimeoutError:
                        left = f"{len(tasks) - count} of {len(tasks)}"
                        raise TimeoutError(
                            f"{left} tasks have not ended. They go on. Allow more time, or wait for each with "
                            "`sdk.tasks.result`."
                        ) from None
                number = ended.popleft()
                outcome: dict[str, Any] = {}
                try:
                    outcome["result"] = self._open(futures[number].result(), response_type)
                except _OF_ONE as error:
                    outcome["error"] = error
                yield TaskOutcome(number, given[number], tasks[number].task_id, **outcome)

    async def _submit(self, engine: Engine, tasks: Sequence[NewTask]) -> None:
        """Store tasks for which somebody waits already: so nobody looks for their ends, unless they were known."""
        waiters = engine.lots.tasks
        moved = await engine.commits.run(engine.workforce.submit(tasks))
        for task, is_new in zip(tasks, moved, strict=True):
            waiters.stored(task.task_id)
            if not is_new:
                waiters.hint([task.task_id])

    # --- again and again ----------------------------------------------------------------------------------------------

    async def schedule(
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
            await sdk.tasks.schedule("nightly", "report", cron="0 3 * * *", timezone="Europe/Berlin")
        """
        engine = self.engine
        if len(check_external_id(name, "name")) > MAX_SCHEDULE_NAME:
            raise refuse("name", name, f"has {len(name)} characters. At most {MAX_SCHEDULE_NAME} are accepted.")
        now = utc_now()
        rule, next_at = make_rule(cron, every, timezone, now)
        for other in ("deadline", "delay"):
            if options.get(other) is not None:
                raise refuse(other, options[other], "is for single tasks. A schedule has expires_in, and its instants.")
        task = make_task(self.config, name, task_type, payload, **options)
        task = replace(task, expires_in=check_timeout(expires_in, "expires_in", allow_none=True))
        is_new = await self.engine.workplace.store.schedules.put(
            NewSchedule(name, rule, timezone, dump_task(task), next_at, since_of(rule, next_at))
        )
        engine.workplace.timer.look_in(max((next_at - now).total_seconds(), 0.0))
        return is_new

    async def unschedule(self, name: str) -> bool:
        """End a schedule; False if there was none. Tasks that it has handed out go on. Repeat-safe.

        Example:
            was_there = await sdk.tasks.unschedule("nightly")
        """
        return await self.engine.workplace.store.schedules.remove(check_external_id(name, "name"))

    async def schedules(self, *, limit: int = 100, offset: int = 0) -> builtins.list[Schedule]:
        """List schedules, in order of their names.

        Args:
            limit: At most so many, 1 to 1,000.
            offset: So many are passed over.

        Example:
            for schedule in await sdk.tasks.schedules():
                print(schedule.name)
        """
        check_page(limit, offset)
        return [schedule_of(row) for row in await self.engine.workplace.store.schedules.list_schedules(limit, offset)]

    # --- results ------------------------------------------------------------------------------------------------------

    async def result(self, task_id: str, *, timeout: float | None = None, response_type: Any = MISSING) -> Any:
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
            report = await sdk.tasks.result(task_id, timeout=60)
        """
        id = check_external_id(task_id, "task_id")
        check_patience(timeout)
        waiters = self.engine.lots.tasks
        if timeout == 0:
            row = await self._find(id)
            if not row.state.is_final:
                raise _goes_on(row)
            return self._open(row, response_type)

        async def wait() -> EndedTask:
            return (await waiters.wait([id]))[id]

        return self._open(await self._wait(id, wait(), timeout), response_type)

    async def _wait(self, task_id: str, ended: Awaitable[EndedTask], timeout: float | None) -> TaskRow | EndedTask:
        """The end of a task, within so many seconds."""
        try:
            async with asyncio.timeout(timeout):
                return await ended
        except builtins.TimeoutError as error:
            if isinstance(error, TimeoutError):
                raise
        row = await self._find(task_id)
        if not row.state.is_final:
            raise _goes_on(row)
        return row

    def _open(self, row: TaskRow | EndedTask, response_type: Any) -> Any:
        if row.state is not TaskState.DONE:
            raise _ERRORS[row.state](task_id=row.task_id, reason=row.reason or "no reason was given")
        if row.result is None or row.result_checksum is None:
            return None
        sealed = Sealed(row.result, row.result_checksum)
        name = f"the result of task {row.task_id}"
        return open_as(sealed, name, self.engine.decoder, response_type, field="result")

    async def _find(self, task_id: str) -> TaskRow:
        rows = await self.engine.workplace.store.tasks.find_tasks([task_id])
        if not rows:
            raise TaskNotFoundError(task_id=task_id)
        return rows[0]

    # --- looking ------------------------------------------------------------------------------------------------------

    async def get(self, task_id: str) -> Task:
        """Look at one task: its state, its progress, and what went wrong.

        Raises:
            TaskNotFoundError: There is no such task (any more).

        Example:
            task = await sdk.tasks.get(task_id)
            print(task.state)
        """
        return task_of(await self._find(check_external_id(task_id, "task_id")))

    async def list(
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
            running = await sdk.tasks.list(states=["running"])
        """
        check_page(limit, offset)
        for value, field in ((task_type, "task_type"), (worker_id, "worker_id"), (supervisor, "supervisor")):
            if value is not None:
                check_external_id(value, field)
        wanted = None
        if states is not None:
            wanted = frozenset(parse_choice(TaskState, state, "states") for state in _several(states, "states"))
        which = TaskFilter(wanted, task_type, worker_id, supervisor)
        return [task_of(row) for row in await self.engine.workplace.store.tasks.list_tasks(which, limit, offset)]

    async def workers(self, *, limit: int = 100, offset: int = 0) -> builtins.list[WorkerInfo]:
        """List the workers that the store knows, in order of their ids; dead ones too.

        Args:
            limit: At most so many, 1 to 1,000.
            offset: So many are passed over.

        Example:
            for worker in await sdk.tasks.workers():
                print(worker.worker_id, worker.capabilities, worker.load)
        """
        check_page(limit, offset)
        return [worker_of(row) for row in await self.engine.workplace.store.workers.list_workers(limit, offset)]

    async def statistics(self, supervisor: str | None = None) -> TaskStatistics:
        """Count the tasks by their states: of one supervisor, or all.

        Example:
            statistics = await sdk.tasks.statistics()
            print(statistics.counts, statistics.oldest_queued_age)
        """
        if supervisor is not None:
            check_external_id(supervisor, "supervisor")
        return await self.engine.workplace.store.tasks.statistics(supervisor)

    # --- changing -----------------------------------------------------------------------------------------------------

    @overload
    async def cancel(self, task_ids: str, *, reason: str = ...) -> bool: ...
    @overload
    async def cancel(
        self, task_ids: builtins.list[str] | tuple[str, ...], *, reason: str = ...
    ) -> builtins.list[bool]: ...
    async def cancel(
        self, task_ids: str | builtins.list[str] | tuple[str, ...], *, reason: str = "it was cancelled"
    ) -> bool | builtins.list[bool]:
        """End tasks that nobody wants any more. An `async def` handler at work on one is cancelled.

        When it returns the tasks have ended in the store: what their runs return later is refused. Repeat-safe.

        Args:
            task_ids: One id, or a list of them.
            reason: For `TaskCancelledError` and listings; at most 255 characters.

        Returns:
            For each, False if it had ended already, or does not exist.

        Example:
            await sdk.tasks.cancel(task_id, reason="the customer left")
        """
        ids = _several(task_ids, "task_ids")
        for id in ids:
            check_external_id(id, "task_ids")
        check_name(reason, "reason")
        engine = self.engine
        moved = await engine.commits.run(engine.workforce.cancel(ids, reason))
        return moved[0] if isinstance(task_ids, str) else moved

    async def redrive(
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
            await sdk.tasks.redrive(task_type="resize")
        """
        ids = None
        if task_ids is not None:
            ids = _several(task_ids, "task_ids")
            for id in ids:
                check_external_id(id, "task_ids")
        elif task_type is None:
            raise refuse("task_ids", None, "and task_type are both missing. Say which failed tasks are to be redriven.")
        if task_type is not None:
            check_external_id(task_type, "task_type")
        engine = self.engine
        return await engine.commits.run(engine.workforce.redrive(ids, task_type))

    async def reprioritise(self, task_id: str, priority: MessagePriority | str) -> bool:
        """Make a task that still waits more or less urgent; False if it does not wait any more. Repeat-safe.

        Args:
            task_id: As `delegate` returned it.
            priority: A `MessagePriority` or its text.

        Example:
            await sdk.tasks.reprioritise(task_id, "critical")
        """
        id = check_external_id(task_id, "task_id")
        urgency = parse_priority(priority, "priority")
        return (await self.engine.workplace.store.tasks.reprioritise([id], urgency.rank))[0]


def _goes_on(row: TaskRow) -> TimeoutError:
    return TimeoutError(
        f"Task {row.task_id!r} has not ended: it is {row.state}. It goes on. Wait longer, or see with "
        "`sdk.tasks.workers` whether somebody can do it."
    )


def _several(given: Any, field: str) -> builtins.list[Any]:
    """What may be one text, or several, as a list."""
    if isinstance(given, str):
        return [given]
    if not isinstance(given, Iterable):
        raise refuse(field, given, "must be a text, or a list of texts.")
    return [*given]
