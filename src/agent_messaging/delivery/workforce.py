"""The workers of this process: they appear in the store, take tasks, settle them, and give signs of life.

As the dispatcher does for messages, one task exchanges settlements for claims in one commit, and holds no more claims
than it has free places. Here that is one ledger with three places: running, settling, and what the store alone knows
(after an answer was lost), which goes back. Lanes, order and asks mean nothing to tasks, so nothing else is shared.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence

from ..clock import monotonic
from ..exceptions import AgentMessagingError, DatabaseError, OutcomeUnknownError, QueueDataLostError
from ..futures import call_from_thread
from ..handlers.tasks import Rate, TaskHandler, TaskHandlers
from ..loggers import get_logger
from ..models import TaskState
from ..observing.facts import FactType
from ..storage.batches import MAX_BYTES, do_apart, is_of_one, is_refused_for_good, take, take_out
from ..storage.ports import (
    CLAIM_MARGIN,
    Beat,
    EndedTask,
    Exchanged,
    NewTask,
    NewWorker,
    Settling,
    TaskClaim,
    TaskRequest,
    TaskSettlement,
)
from . import auditing
from .announcer import Announcer
from .claims import MAX_SETTLEMENTS
from .labour import Job, Labour
from .probes import probe
from .retry import describe
from .services import Service
from .workplace import Workplace

logger = get_logger("agent_messaging.delivery")

PAUSE = 1.0
"""Seconds before tasks are taken again after that has failed, and not because of the store."""
ROLE = "worker"
"""What a worker is in the registry of agents."""
MOST_ASSIGNED = 1_000
"""Tasks that are assigned again at once."""
MOST_TAKEN = 256
"""Tasks that a worker takes in one commit: their payloads are read together, and may be a megabyte each."""
WORTH_HALVING = 16
"""Places of a worker from which on it takes half of them at once, where a server does the work: the runs of one half go
on while the server settles the other half and finds what follows. With the whole, one waits for the other."""
_SURE_ENDS = {Settling.DONE: TaskState.DONE, Settling.DEAD: TaskState.FAILED}
"""Ends that depend on nothing else in the store: a retry may be the last attempt there."""
BEATS = 3
"""A worker is taken for dead after so many intervals without a sign of life."""


class Workforce(Service):
    """The workers of one SDK object."""

    def __init__(
        self,
        workplace: Workplace,
        handlers: TaskHandlers,
        labour: Labour,
        announcer: Announcer,
        *,
        interval: float,
        run_limit: float,
    ) -> None:
        self.workplace = workplace
        self.tasks = workplace.store.tasks
        self.workers = workplace.store.workers
        self.presence = workplace.presence
        self.handlers = handlers
        self.labour = labour
        self.announcer = announcer
        self.facts = labour.facts
        self.trouble = workplace.trouble
        self.bell = announcer.lots.work
        self.interval = interval
        """Seconds between two signs of life."""
        self.run_limit = run_limit
        """Seconds that a run may take where neither the task nor the handler says it."""
        self.settling: list[TaskSettlement] = []
        self._enrolled: dict[str, TaskHandler] = {}
        """The workers that have appeared in the store, with their handlers of then."""
        self._enrolled_as: str | None = None
        self._hungry: set[str] = set()
        """The workers for whom there may be more to take."""
        self._leaving: set[str] = set()
        """The workers without a handler, whose runs go on. If they left now, the store would give these to others."""
        self._next_beat = 0.0
        self._resume_at: dict[str, float] = {}
        """When a rate lets a worker begin another task."""
        self._is_in_doubt = False
        self._is_draining = False
        self._quiet = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- lifecycle ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Appear, if somebody works here."""
        self._loop = asyncio.get_running_loop()
        self.handlers.follow(self._handlers_changed)
        self._appear()

    def _handlers_changed(self) -> None:
        """In any thread."""
        assert self._loop is not None
        call_from_thread(self._loop, self._appear)

    def _appear(self) -> None:
        if self._task is None and len(self.handlers) and not self._is_draining:
            with contextlib.suppress(QueueDataLostError):  # what was lost there before concerns no worker
                self.workplace.need()
            self._task = asyncio.create_task(self._exchange_forever(), name="agent-messaging-workforce")
            self._task.add_done_callback(lambda _: self._quiet.set())
        self.bell.look()

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs and nothing is to be settled."""
        if self._task is None or self._task.done() or self.trouble.is_final:
            return True
        return not self.labour.running and not self.settling

    async def wait_until_idle(self) -> None:
        """Wait until it is idle."""
        while not self.is_idle:
            self._quiet.clear()
            await self._quiet.wait()

    def begin_draining(self) -> None:
        """Take nothing more."""
        self._is_draining = True
        self.bell.wake()

    async def aclose(self, timeout: float) -> None:
        """Give back what still runs, uncounted; settle; take leave of the store."""
        self.begin_draining()
        self.handlers.leave(self._handlers_changed)
        await self.labour.stop(timeout)
        if self._task is None:
            return
        try:
            async with asyncio.timeout(timeout):
                while self.settling and not self._task.done() and not self.trouble.is_final:
                    self._quiet.clear()
                    self.bell.wake()
                    await self._quiet.wait()
        except TimeoutError:
            logger.warning("%d ends of tasks could not be stored while closing", len(self.settling))
        self._task.cancel()
        await asyncio.wait({self._task})
        try:
            async with asyncio.timeout(timeout):
                for worker_id in self._enrolled:
                    await self.workers.unregister(worker_id, process_id=self._enrolled_as)
        except (DatabaseError, OutcomeUnknownError, TimeoutError) as error:
            logger.warning("the workers could not take leave of the store: %s", describe(error))

    def lose_claims(self) -> None:
        """Others took this incarnation for dead: every claim is lost, so stop its run and settle nothing."""
        for job in [*self.labour.running]:
            self.labour.lose(job)
        self.settling.clear()
        self.bell.look()

    def look(self) -> None:
        """Anything may have changed in the store."""
        if self._task is not None:
            self.bell.look()

    # --- what supervisors do: each commits, and has it announced ------------------------------------------------------

    async def submit(self, tasks: Sequence[NewTask]) -> list[bool]:
        """Put tasks into the pool; see `TaskPool.submit`."""
        facts = self.facts
        if facts.ears.carriers:
            tasks = facts.send(tasks)
        try:
            news = await self.tasks.submit(tasks, origin=self.presence.process_id)
        except AgentMessagingError as error:
            if facts.ears.is_heard:
                facts.refused(tasks, error)
            raise
        if facts.ears.is_heard:
            facts.submitted(tasks, news.moved)
        self._keep_time(time for task in tasks for time in (task.delay, task.expires_in))
        self._feed(tasks)
        self.announcer.worked([], news.processes - {self.presence.process_id})
        auditing.tasks_submitted(tasks, news.moved)
        return news.moved

    async def cancel(self, task_ids: Sequence[str], reason: str) -> list[bool]:
        """End tasks that are open; see `TaskStore.cancel`."""
        news = await self.tasks.cancel(task_ids, reason)
        if self.facts.ears.is_heard:
            self.facts.of_tasks(FactType.WITHDRAWN, task_ids, news.moved)
        self.announcer.worked(task_ids, news.processes | news.listeners)
        auditing.tasks_cancelled(task_ids, news.moved, reason)
        return news.moved

    async def redrive(self, task_ids: Sequence[str] | None, type: str | None) -> int:
        """Queue failed tasks again, and book those that were assigned; returns how many they were."""
        redriven = await self.tasks.redrive(task_ids, type)
        if self.facts.ears.is_heard:
            self.facts.of_tasks(FactType.REDRIVEN, redriven.task_ids, [True] * len(redriven.task_ids))
        self.announcer.worked(redriven.task_ids, redriven.processes)
        if redriven.task_ids:
            await self.assign_waiting()
        return len(redriven.task_ids)

    async def assign_waiting(self) -> None:
        """Book what was assigned once and has returned to the queue."""
        news = await self.tasks.assign_waiting(MOST_ASSIGNED)
        self.announcer.worked([], news.processes | news.listeners)

    def lose_data(self, error: QueueDataLostError) -> None:
        """The store has lost data: tell the callers that wait for tasks, or the next caller if nobody waits."""
        if not self.announcer.lots.tasks.fail_all(error):
            self.workplace.lost = error
        self.bell.look()

    def _feed(self, tasks: Sequence[NewTask]) -> None:
        """Have the workers ask for these new tasks that are able to do one of them, without a look at the store."""
        kinds = {(task.type, task.needs) for task in tasks if not task.delay}
        for worker_id in self._enrolled.keys() - self._hungry:
            worker = self._enrolled[worker_id]
            if any(worker.takes(kind) and worker.is_able(needs) for kind, needs in kinds):
                self._hungry.add(worker_id)
        if self._hungry:
            self.bell.wake()

    def _keep_time(self, seconds: Iterable[float | None]) -> None:
        """Something becomes due in so many seconds."""
        for due in seconds:
            if due:
                self.workplace.timer.look_in(due)

    # --- the exchange -------------------------------------------------------------------------------------------------

    async def _exchange_forever(self) -> None:
        attempts = self.trouble.attempts()
        await self.workplace.wait_until_open()
        while True:
            self._quiet.set()
            await self.bell.wait(self._next_look())
            try:
                await self._exchange()
                attempts.succeeded()
            except (DatabaseError, OutcomeUnknownError) as error:
                if isinstance(error, QueueDataLostError):
                    self.lose_data(error)
                    self._enrolled.clear()  # nobody is known there any more
                self._is_in_doubt = True
                await self._pause(attempts.failed(error))
            except Exception:
                logger.exception("taking tasks failed, going on")
                await self._pause(PAUSE)

    async def _pause(self, seconds: float) -> None:
        self._quiet.set()
        await asyncio.sleep(seconds)
        self.bell.look()

    def _next_look(self) -> float:
        """Seconds until it looks without being told."""
        return max(min([self._next_beat, *self._resume_at.values()]) - monotonic(), 0.0)

    async def _exchange(self) -> None:
        owner = self.presence.process_id
        await self._enroll(owner)
        if self._is_in_doubt:
            await self._reconcile(owner)
        if self.bell.take_look():
            await self._find_lost()
            await self._find_waiting()
        batch = take(self.settling, lambda one: one.size, most=MAX_SETTLEMENTS, most_bytes=MAX_BYTES)
        requests = self._requests()
        if not batch and not requests:
            return
        # A worker that gets hungry while this is under way stays so.
        self._hungry -= {request.worker_id for request in requests}
        probe("before_tasks_settle")
        exchanged = await self._settle(batch, requests, owner)
        probe("after_tasks_settle")
        if exchanged is None:
            self._hungry |= {request.worker_id for request in requests}
        elif owner == self.presence.process_id:  # else lost meanwhile: what the old incarnation took is not ours to run
            del self.settling[: len(batch)]
            self._tell_ended(batch, exchanged)
            self._keep_time({task.run_limit + CLAIM_MARGIN for task in exchanged.claimed})
            self._begin(exchanged)
        if self.settling or self._hungry or (batch and self._leaving):
            self.bell.wake()

    def _requests(self) -> list[TaskRequest]:
        """The requests of the workers that have room, and for whom there may be something."""
        if self._is_draining:
            return []
        busy: dict[str, int] = {}
        for job in self.labour.running:
            busy[job.worker.worker_id] = busy.get(job.worker.worker_id, 0) + 1
        requests = []
        self._hungry &= self._enrolled.keys() - self._leaving
        for worker_id in sorted(self._hungry):
            worker = self._enrolled[worker_id]
            if self.handlers.find(worker_id) is not worker:
                continue  # it went, or another came, since they were enrolled: the next exchange sees to it
            self._resume_at.pop(worker_id, None)
            room = min(worker.capacity - busy.get(worker_id, 0), self._most_taken(worker))
            requests += self._requests_of(worker, room)
        return requests

    def _most_taken(self, worker: TaskHandler) -> int:
        """How many tasks a worker takes in one commit."""
        is_halved = self.workplace.store.capabilities.works_apart and worker.capacity >= WORTH_HALVING
        return min((worker.capacity + 1) // 2 if is_halved else worker.capacity, MOST_TAKEN)

    def _requests_of(self, worker: TaskHandler, room: int) -> list[TaskRequest]:
        if worker.rate is not None:
            room = min(room, self._allowance(worker, worker.rate))
        if room <= 0:
            self._hungry.discard(worker.worker_id)  # the end of a run, or the rate, asks again
            return []
        run_limit = worker.timeout or self.run_limit
        limited = [(kind, self._allowance(worker, rate)) for kind, rate in worker.rates.items() if worker.takes(kind)]
        requests = [
            TaskRequest(worker.worker_id, min(room, most), run_limit, (kind,)) for kind, most in limited if most
        ]
        but = tuple(worker.rates)
        types = None if worker.types is None else tuple(kind for kind in worker.types if kind not in worker.rates)
        if types != ():
            requests.append(TaskRequest(worker.worker_id, room, run_limit, types, but))
        return requests

    def _allowance(self, worker: TaskHandler, rate: Rate) -> int:
        """How many may begin now; the worker is asked for again when another one may."""
        if not (allowance := rate.allowance()):
            due = monotonic() + rate.pause
            self._resume_at[worker.worker_id] = min(due, self._resume_at.get(worker.worker_id, due))
        return allowance

    def _begin(self, exchanged: Exchanged) -> None:
        for task in exchanged.claimed:
            worker = self._enrolled[task.worker_id]
            self._hungry.add(task.worker_id)
            for rate in filter(None, (worker.rate, worker.rates.get(task.type))):
                rate.spend()
            self.labour.begin(worker, task, self._ended)

    def _tell_ended(self, batch: Sequence[TaskSettlement], exchanged: Exchanged) -> None:
        """Have settlements announced that the store has answered.

        What has surely ended is told as it is; the rest is looked at.
        """
        if self.facts.ears.is_heard:
            self.facts.settled(zip(batch, exchanged.moved, strict=True))
        self._keep_time(settlement.delay for settlement in batch)
        ended, others = list[EndedTask](), list[str]()
        for settlement, moved in zip(batch, exchanged.moved, strict=True):
            task_id, state = settlement.claim.task_id, _SURE_ENDS.get(settlement.how)
            if not moved:
                logger.warning("the claim on task %s was lost: its result is refused", task_id)
            if moved and state is not None:
                result = settlement.result, settlement.checksum
                ended.append(EndedTask(task_id, state, settlement.reason, *result))
            else:
                others.append(task_id)
        processes = exchanged.processes
        if not others:  # it need not look at what it has ended itself
            processes = processes - {self.presence.process_id}
        self.announcer.worked(others, processes, ended)

    def _ended(self, job: Job) -> None:
        """A run is over: its place is free, and its task ends as it says."""
        if not job.is_moot:
            self.settling.append(job.settlement)
        self._hungry.add(job.worker.worker_id)
        if job.task.is_suspect:
            self.bell.look()  # another worker may take the next suspect now
        self.bell.wake()

    async def _settle(self, batch: list[TaskSettlement], requests: list[TaskRequest], owner: str) -> Exchanged | None:
        """Settle and take in one commit; None: one may be to blame that it failed, and the ends were settled apart."""
        try:
            return await self.tasks.exchange(batch, requests, owner=owner)
        except Exception as error:
            if not batch or not is_of_one(error):
                raise
        await self._settle_apart(batch, owner)
        return None

    async def _settle_apart(self, batch: list[TaskSettlement], owner: str) -> None:
        """Settle the first that wait, so that one that fails hinders no other; it is tried again behind the others."""
        processes = set[str]()

        async def settle(some: Sequence[TaskSettlement]) -> list[bool]:
            news = await self.tasks.settle(some)
            processes.update(news.processes)
            return news.moved

        answers = await do_apart(settle, batch)
        if owner != self.presence.process_id:
            return  # lost meanwhile, and forgotten
        ended, moved, failed = take_out(self.settling, batch, answers, _without_result)
        self._tell_ended(ended, Exchanged(moved, processes, []))
        if failed:
            raise failed[0]

    # --- looks at the store -------------------------------------------------------------------------------------------

    async def _enroll(self, owner: str) -> None:
        """Tell the store who works here, who does no more, and that they live."""
        if owner != self._enrolled_as:
            self._enrolled.clear()  # under a new incarnation everybody appears anew
            self._enrolled_as = owner
        wanted = {} if self._is_draining else {handler.worker_id: handler for handler in self.handlers}
        self._leaving = set() if self._is_draining else self._enrolled.keys() - wanted.keys()
        if not self.settling:  # the ends of their runs go first
            await self._dismiss(owner)
        for worker_id, handler in wanted.items():
            if self._enrolled.get(worker_id) is not handler:
                worker = NewWorker(
                    worker_id, ROLE, handler.capabilities, handler.capacity, self.interval * BEATS, pulls=True
                )
                await self.workers.register(worker, process_id=owner)
                auditing.enrolled(worker)
                self._enrolled[worker_id] = handler
                self._hungry.add(worker_id)
        now = monotonic()
        if now >= self._next_beat:
            await self._beat(owner)
            self._next_beat = now + self.interval
        for worker_id in [worker_id for worker_id, due in self._resume_at.items() if now >= due]:
            del self._resume_at[worker_id]
            self._hungry.add(worker_id)

    async def _dismiss(self, owner: str) -> None:
        """Take leave for the workers without a handler whose last run has ended."""
        at_work = {job.worker.worker_id for job in self.labour.running}
        for worker_id in sorted(self._leaving - at_work):
            self._leaving.remove(worker_id)
            del self._enrolled[worker_id]
            await self.workers.unregister(worker_id, process_id=owner)

    async def _beat(self, owner: str) -> None:
        """Give a sign of life for each worker. One that others took for dead and forgot appears anew."""
        beats = [Beat(worker_id, self.interval * BEATS) for worker_id in self._enrolled]
        known = await self.workers.heartbeat(beats, process_id=owner)
        for beat, is_known in zip(beats, known, strict=True):
            if not is_known:
                del self._enrolled[beat.worker_id]
                self.bell.wake()

    async def _find_lost(self) -> None:
        """Stop the runs whose tasks were cancelled, have expired, or are another's."""
        jobs = {job.task.claim: job for job in self.labour.running if not job.is_moot}
        if jobs:
            for claim in await self.tasks.find_lost([*jobs]):
                self.labour.lose(jobs[claim])

    async def _find_waiting(self) -> None:
        staying = self._enrolled.keys() - self._leaving
        if not self._is_draining and staying:
            self._hungry |= set(await self.tasks.find_waiting(staying))

    async def _reconcile(self, owner: str) -> None:
        """Give back the claims whose answer was lost: the store knows them, and nobody here does."""
        known: set[TaskClaim] = {job.task.claim for job in self.labour.running}
        known |= {settlement.claim for settlement in self.settling}
        lost = [claim for claim in await self.tasks.list_claims(owner) if claim not in known]
        reason = "the store's answer was lost"
        await self.tasks.settle([TaskSettlement(claim, Settling.RETURNED, reason=reason) for claim in lost])
        self._is_in_doubt = False


def _without_result(settlement: TaskSettlement, error: Exception) -> TaskSettlement | None:
    """How a run ends whose result the store refuses for good; None if it has none, or the store is merely full."""
    if settlement.result is None or not is_refused_for_good(error):
        return None
    reason = describe(error)
    logger.error("the result of task %s could not be stored: %s", settlement.claim.task_id, reason)
    return TaskSettlement(settlement.claim, Settling.DEAD, reason=reason)
