"""The runs of task handlers, from what was taken to how it is to end. `workforce` takes and settles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import field
from functools import partial
from typing import Any

from ..bodies import open_as
from ..clock import monotonic
from ..exceptions import PayloadError, StorageCorruptError
from ..futures import call_from_thread, cancel_all
from ..handlers.running import UnreadableError, run_handler
from ..handlers.tasks import TaskContext, TaskHandler
from ..handlers.threads import DaemonThreads
from ..loggers import get_logger
from ..payloads import Decoder, checksum, encode
from ..records import dataclass
from ..single_flight import SingleFlight
from ..storage.ports import ClaimedTask, Progress, Settling, TaskPool, TaskSettlement
from . import auditing
from .background import Background
from .claims import STOPPED
from .retry import RetryPolicy, clean_reason, describe, is_cancellation, traceback_of
from .task_facts import TaskFacts

logger = get_logger("agent_messaging.delivery")

OF_TASK = "the run_timeout of the task or the timeout of its worker"
"""The limits of a run, for the error of one that took too long."""
PROGRESS_PAUSE = 0.25
"""Seconds between two writings of what runs report."""


@dataclass(slots=True, eq=False)
class Job:
    """A task handler at work on a task."""

    worker: TaskHandler
    task: ClaimedTask
    context: TaskContext
    settlement: TaskSettlement
    """How it is to end; at first, that nothing has become of it."""
    since: float = field(default_factory=monotonic)
    is_moot: bool = False
    """Its task is another's, or has ended: it settles nothing and counts as no failure."""
    run: asyncio.Task[None] | None = None
    """The one that it has to itself."""


class Labour:
    """Runs task handlers, and writes what they report of themselves."""

    def __init__(
        self,
        tasks: TaskPool,
        threads: DaemonThreads,
        background: Background,
        decoder: Decoder,
        retry: RetryPolicy,
        facts: TaskFacts,
        *,
        max_bytes: int,
        gives_way: bool,
    ) -> None:
        self.tasks = tasks
        self.facts = facts
        self.threads = threads
        self.background = background
        self.decoder = decoder
        self.retry = retry
        self.max_bytes = max_bytes
        """The largest result."""
        self.gives_way = gives_way
        """Runs begin behind what is under way to the store: while its server works, they do."""
        self.running: dict[Job, None] = {}
        self._reports: dict[Job, tuple[float, str | None]] = {}
        self._reporting = SingleFlight(self._write_reports, "writing the progress of tasks")

    def begin(self, worker: TaskHandler, task: ClaimedTask, ended: Callable[[Job], None]) -> None:
        """Run the worker's handler on what it has taken; `ended` is called when that is over."""
        context = TaskContext(
            task_id=task.claim.task_id,
            type=task.type,
            worker_id=task.worker_id,
            attempt=task.attempt,
            max_attempts=task.max_attempts,
            description=task.description,
            supervisor=task.supervisor,
            created_at=task.created_at,
            run_limit=task.run_limit,
        )
        job = Job(worker, task, context, TaskSettlement(task.claim, Settling.RETURNED, reason=STOPPED))
        context.report = partial(self._report, asyncio.get_running_loop(), job)
        auditing.task_began(task)
        if self.facts.ears.is_heard:
            self.facts.claimed(task)
        job.run = self.background.start(self._work(job), f"agent-messaging-task-{task.claim.task_id}")
        self.running[job] = None
        job.run.add_done_callback(partial(self._ended, job, ended))

    def _ended(self, job: Job, ended: Callable[[Job], None], run: asyncio.Task[None]) -> None:
        del self.running[job]
        self._reports.pop(job, None)
        job.context.report = None
        if not run.cancelled():
            run.exception()
        if not job.is_moot:
            auditing.task_ended(job.task, job.settlement, monotonic() - job.since)
        if self.facts.ears.is_heard:
            self.facts.handled(job.task, None if job.is_moot else job.settlement, job.since)
        ended(job)

    def is_run(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether a handler runs in it."""
        return any(job.run is task for job in self.running)

    def lose(self, job: Job) -> None:
        """The task of this job is its own no more: stop it."""
        job.is_moot = job.context.is_cancelled = True
        if job.run is not None:
            job.run.cancel()

    async def stop(self, timeout: float) -> None:
        """Cancel all runs, and wait so many seconds for their ends."""
        if self.running:
            jobs = {job.run: job for job in self.running if job.run is not None}
            stuck = await cancel_all(jobs, timeout)
            self.threads.abandon()
            for run in stuck:
                logger.warning("the handler of %s does not end; its task goes back all the same", run.get_name())
                jobs[run].is_moot = True
        await self._reporting.aclose()

    # --- one run ------------------------------------------------------------------------------------------------------

    async def _work(self, job: Job) -> None:
        if self.gives_way:
            await asyncio.sleep(0)
        if self.facts.ears.watchers:
            self.facts.begin(job.task)
        try:
            result = await self._call(job)
            content = encode(result, field="The task's result", limit_bytes=self.max_bytes)
            sealed = checksum(content, None)
            job.settlement = TaskSettlement(job.task.claim, Settling.DONE, content, sealed)
        except (UnreadableError, PayloadError) as error:
            self._log(job, error)
            job.settlement = TaskSettlement(job.task.claim, Settling.DEAD, reason=describe(error))
        except BaseException as error:
            # Anything but our own cancellation is a failure of the handler, also a SystemExit: a task that ends its
            # process each time must fail for good.
            if is_cancellation(error):
                raise
            job.settlement = self.failure(job, error)
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise

    async def _call(self, job: Job) -> object:
        task, handler = job.task, job.worker.handler
        name = f"task {task.claim.task_id}"
        try:
            payload = open_as(task, name, self.decoder, handler.annotation, field="task")
        except (PayloadError, StorageCorruptError) as error:
            raise UnreadableError from error
        context: Any = job.context
        return await run_handler(handler, payload, context, timeout=task.run_limit, limit=OF_TASK, threads=self.threads)

    def failure(self, job: Job, error: BaseException) -> TaskSettlement:
        """How a task ends whose handler failed: it is tried again, as its worker says, or has failed."""
        self._log(job, error)
        how, delay = Settling.DEAD, 0.0
        if job.worker.is_tried_again(error):
            policy = self.retry.with_own(job.worker.retry_delay, job.worker.retry_max_delay)
            how, delay = policy.after(job.task.attempt, job.task.max_attempts)
        return TaskSettlement(job.task.claim, how, delay=delay, reason=describe(error))

    def _log(self, job: Job, error: BaseException) -> None:
        logger.warning(
            "the handler of worker %r failed on task %s, attempt %d of %d: %s",
            job.worker.worker_id,
            job.task.claim.task_id,
            job.task.attempt,
            job.task.max_attempts,
            describe(error),
            exc_info=traceback_of(error),
        )

    # --- progress -----------------------------------------------------------------------------------------------------

    def _report(self, loop: asyncio.AbstractEventLoop, job: Job, fraction: float, note: str | None) -> None:
        """In any thread."""
        told = fraction, None if note is None else clean_reason(note)
        call_from_thread(loop, self._take_report, job, told)

    def _take_report(self, job: Job, told: tuple[float, str | None]) -> None:
        if not job.is_moot and job.context.report is not None:
            self._reports[job] = told
            self._reporting.request()

    async def _write_reports(self) -> None:
        reports, self._reports = self._reports, {}
        if reports:
            await self.tasks.progress([Progress(job.task.claim, *told) for job, told in reports.items()])
            await asyncio.sleep(PROGRESS_PAUSE)
