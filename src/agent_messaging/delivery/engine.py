"""The engine under every pattern, put together: its services in their order, starting, draining and leaving.

One engine belongs to one started SDK object and one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sized
from typing import TYPE_CHECKING, Any

from ..config import Config
from ..exceptions import DatabaseError, EventLoopError, OutcomeUnknownError
from ..futures import call_from_thread
from ..handlers.events import MeetingEventHandler
from ..handlers.registry import Registry
from ..handlers.tasks import TaskHandlers
from ..handlers.threads import DaemonThreads
from ..loggers import get_logger
from ..observing.observers import Ears
from ..payloads import Decoder
from ..storage.ports import CoordinationStore, Store
from .announcer import Announcer
from .background import Background
from .claims import Claims
from .commits import Commits
from .dispatcher import Dispatcher
from .events import Events
from .facts import Facts
from .forwarding import Forwarding
from .incarnations import Incarnations
from .indexing import Indexing
from .labour import Labour
from .lots import Lots
from .meetings import Meetings
from .names import Names
from .notices import Notices
from .outbox import Outbox
from .parts import Parts
from .pulling import Pulling
from .reading import Reading
from .recorder import Recorder
from .retention import Retention
from .retry import describe
from .runs import GIVE_UP_AFTER_CANCEL, Reach, Runs
from .services import Services
from .serving import Serving
from .stations import Stations
from .task_facts import TaskFacts
from .timekeeper import Duties, MessageDuties, Timekeeper, WorkDuties
from .timer import Timer
from .trouble import Trouble
from .waits import Waits
from .workforce import Workforce
from .workplace import Workplace

if TYPE_CHECKING:
    from ..observing.figures import ProcessFigures

logger = get_logger("agent_messaging.delivery")

CLOSING_TIMEOUT = 2.0
"""Seconds that a service has to reach the store: for the last publication, the ends of waits, messages that go back
unread, and asks given up. Later the farewell, or the asks' deadlines, end them; what did not go back stays read.
"""
OUTBOX_TIMEOUT = 5.0
"""Seconds in which the groups that were handed in must be answered."""


class Engine:
    """Everything between a public call and the store.

    Args:
        handlers: Those of messages, which this SDK object has beside the global ones.
        event_handlers: Those of meeting events.
        task_handlers: Those of tasks, by worker.
        ears: The observers, who are told of what happens.
        work: The store of queues, workers and tasks; None: they are in `store`.
    """

    def __init__(
        self,
        store: Store,
        config: Config,
        handlers: Registry,
        event_handlers: MeetingEventHandler,
        task_handlers: TaskHandlers,
        ears: Ears,
        *,
        work: CoordinationStore | None = None,
    ) -> None:
        self.store = store
        self.settings = settings = config.messaging
        self.loop: asyncio.AbstractEventLoop | None = None
        """On which it was started, and all of it runs."""
        deliveries, sessions, meetings, presence = store.deliveries, store.sessions, store.meetings, store.presence
        self.trouble = Trouble()
        self.decoder = Decoder()
        self.incarnations = Incarnations(store.processes)
        self.names = Names(store.directory, store.location)
        self.commits = Commits()
        threads, background = DaemonThreads(), Background()
        self.threads = threads
        # These parts are only told and asked; none knows who tells it.
        self.services = Services()
        self.serving = Serving(store.processes, presence, self.names, handlers, event_handlers, settings, self.trouble)
        self.timer = Timer()
        self.stations = Stations(
            self.names, self.serving, concurrency=settings.handler_concurrency, timeout=settings.handler_timeout
        )
        facts = Facts(ears, self.names)
        self.claims = Claims(deliveries, presence, self.stations, facts)
        where = (store, self.timer, self.trouble) if work is None else (work, Timer(), Trouble())
        self.workplace = Workplace(*where, is_apart=work is not None)
        self.lots = Lots(deliveries, sessions, store.parts, self.workplace.store.tasks)
        self.asks = self.lots.asks
        self.notices = Notices(sessions, self.names, self.serving, background, self.decoder, settings)
        self.events = Events(
            meetings, self.names, event_handlers, threads, background, self.trouble, timeout=settings.handler_timeout
        )
        self.announcer = Announcer(
            self.services,
            self.serving,
            self.timer,
            self.claims,
            self.lots,
            self.notices,
            self.events,
            self.workplace.presence,
        )
        # These parts commit, and have it announced.
        self.recorder = Recorder(meetings, self.names, self.events, self.commits, self.announcer)
        self.reading = Reading(sessions, presence, self.commits, self.announcer)
        self.waits = Waits(sessions, presence, self.names, self.lots.waits, self.announcer, self.trouble)
        self.meetings = Meetings(
            meetings, presence, self.names, threads, background, self.commits, self.announcer, self.trouble
        )
        self.pulling = Pulling(self.claims, self.announcer)
        self.forwarding = Forwarding(
            store.forwarding, presence, self.names, self.serving, self.announcer, self.commits, settings
        )
        self.parts = Parts(store.parts, self.lots, self.announcer, max_bytes=settings.max_payload_bytes)
        reach = Reach(self.asks, self.forwarding, self.parts)
        runs = Runs(self.claims, reach, self.meetings.runs, threads, background, self.decoder, settings)
        self.dispatcher = Dispatcher(self.claims, runs, self.names, self.announcer, self.trouble)
        self.outbox = Outbox(
            deliveries,
            lambda: presence.process_id,
            self.dispatcher,
            facts,
            budget=config.database.call_timeout,
            lines=store.capabilities.appends_at_once,
        )
        labour = Labour(
            self.workplace.store.tasks,
            threads,
            background,
            self.decoder,
            runs.retry,
            TaskFacts(ears),
            max_bytes=settings.max_payload_bytes,
            gives_way=self.workplace.store.capabilities.works_apart,
        )
        self.workforce = Workforce(
            self.workplace,
            task_handlers,
            labour,
            self.announcer,
            interval=config.coordination.heartbeat_interval,
            run_limit=config.coordination.default_timeout,
        )
        work_duties = WorkDuties(self.workforce, self.announcer)
        self.schedules = work_duties.schedules
        duties: list[Duties] = [MessageDuties(store, self.timer, self.meetings, self.announcer)]
        lose = self.workforce.lose_data
        if (place := self.workplace).is_apart:
            apart = Timekeeper(place.store, place.timer, place.trouble, work_duties, ears=ears, serving=None, lose=lose)
            place.equip(work_duties.rang, self.workforce.lose_claims, apart)
        else:
            duties.append(work_duties)
        self.timekeeper = Timekeeper(
            store, self.timer, self.trouble, *duties, ears=ears, serving=self.serving, lose=lose
        )
        self.indexing = Indexing(
            store.search, presence, self.trouble, lambda: not (self.outbox.is_idle and self.dispatcher.is_idle)
        )
        self.retention = Retention(store, self.workplace, settings.retention, self.trouble)
        # They are started in this order and closed in the opposite one: first the parts that bring work, then those
        # that do it, and last those in which callers wait for it.
        self.services.add(self.workplace, closing=CLOSING_TIMEOUT)
        self.services.add(self.parts, self.asks, self.meetings, self.reading, self.waits, closing=CLOSING_TIMEOUT)
        self.services.add(self.lots.receipts, self.lots.parts, self.lots.room, self.lots.tasks, closing=CLOSING_TIMEOUT)
        self.services.add(self.serving.neighbours, self.serving, self.commits, closing=CLOSING_TIMEOUT)
        self.services.add(self.workforce, self.dispatcher, closing=GIVE_UP_AFTER_CANCEL)
        self.services.add(self.outbox, closing=OUTBOX_TIMEOUT)
        self.services.add(self.events, self.notices, runs, closing=CLOSING_TIMEOUT)
        self.services.add(self.timekeeper, self.indexing, self.retention, closing=CLOSING_TIMEOUT)
        self.is_closing = False
        self.is_leaving = False
        self._is_hurried = False
        self._draining: asyncio.Timeout | None = None
        self._has_appeared = False

    @property
    def is_closed(self) -> bool:
        """Whether no call may begin any more."""
        return self.commits.is_closed

    async def start(self) -> None:
        """Appear in the store, take over from the dead, and begin to serve."""
        self.loop = asyncio.get_running_loop()
        await self.store.presence.start(self.announcer.rang, self._lost)
        self._has_appeared = True
        await self.timekeeper.bury()
        await self.services.start()
        self.stations.open()

    def check_loop(self) -> None:
        """Refuse a caller that is not on the engine's loop: what it would wait for comes there, and it would hang.

        Raises:
            EventLoopError: It is on another loop, or on none.
        """
        if asyncio._get_running_loop() is not self.loop:
            raise EventLoopError

    def is_handler(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether the task runs a function of the user's for this engine: leaving would wait for its end."""
        if any(run.task is task for run in self.claims.running) or self.workforce.labour.is_run(task):
            return True
        calls = (self.events.calls, self.notices.tasks, self.meetings.selection.tasks)
        return any(task in some for some in calls)

    @property
    def is_handler_thread(self) -> bool:
        """Whether the caller is in a thread that runs a function of the user's for this engine."""
        return self.threads.is_current or self.notices.threads.is_current

    def event_handlers_changed(self) -> None:
        """Handlers of events came or went, in whatever thread."""
        assert self.loop is not None
        if asyncio._get_running_loop() is self.loop:
            self.events.follow()
        else:
            call_from_thread(self.loop, self.events.follow)
        self.serving.handlers_changed()

    def figures(self) -> ProcessFigures:
        """The figures of this moment. This waits for nothing, and may be called in any thread."""
        from ..observing.figures import ProcessFigures  # few programs read them

        stations, lots, meetings = self.stations.count(), self.lots, self.meetings
        of_rows: list[Sized] = [lots.receipts, lots.waits, lots.parts, lots.room, lots.tasks]
        of_rows += [meetings.waiters, meetings.readiness, meetings.endings]
        return ProcessFigures(
            process_id=self.store.presence.process_id,
            pool=self.store.measure_pool(),
            outbox=self.outbox.depth,
            slots=stations[0],
            slots_used=stations[1],
            running=len(self.claims.running),
            settling=len(self.claims.settling),
            pulled=len(self.claims.pulled),
            asks=len(lots.asks.waiters),
            waits=sum(map(len, of_rows)) + lots.arrivals.waiting,
            tasks_running=len(self.workforce.labour.running),
            tasks_settling=len(self.workforce.settling),
            neighbours=self.serving.neighbours.alive,
        )

    async def adopt(self, external_ids: Collection[str], *, everyone: bool = False) -> None:
        """The bare handlers of this process are to serve these agents too."""
        self.serving.adopt(external_ids, everyone=everyone)
        await self.serving.publish()

    async def abort(self) -> None:
        """Undo a start that failed; gives the store back."""
        try:
            await self.services.aclose()
        finally:
            if self._has_appeared:
                await self._say_goodbye(CLOSING_TIMEOUT)
            await self.store.aclose()

    async def stop(self, *, drain: bool) -> None:
        """Leave: drain within the drain timeout, give back the rest without counting the attempt, disappear.

        With `drain` what this SDK object stored for agents it serves is handled first, and what those handlers send;
        without, only what is running ends.
        """
        self.is_closing = True
        self.lots.arrivals.wake_all()
        limit = self.settings.drain_timeout
        if self._is_hurried:
            limit = 0.0
        try:
            async with asyncio.timeout(self.settings.handler_timeout if limit is None else limit) as self._draining:
                self.dispatcher.begin_draining(take_new=drain)
                self.workforce.begin_draining()
                await self.services.drain()
        except TimeoutError:
            if self.claims.running:
                logger.warning("leaving with %d handlers at work; their messages go back", len(self.claims.running))
        finally:
            await self._leave()

    def hurry(self) -> None:
        """Drain no longer: the caller has no more time."""
        self._is_hurried = True
        if self._draining is not None and not self.is_leaving and not self._draining.expired():
            self._draining.reschedule(asyncio.get_running_loop().time())

    async def _leave(self) -> None:
        self.is_leaving = True
        self.dispatcher.begin_draining(take_new=False)
        self.workforce.begin_draining()
        try:
            await self.services.aclose()
        finally:
            await self._say_goodbye()

    async def _say_goodbye(self, limit: float | None = None) -> None:
        try:
            async with asyncio.timeout(limit):
                await self.store.processes.retire(self.store.presence.process_id)
        except (DatabaseError, OutcomeUnknownError, TimeoutError) as error:
            logger.warning("could not say goodbye to the store; others will find out: %s", describe(error))

    def _lost(self) -> None:
        logger.warning("this process was taken for dead: its claims are lost, and it goes on under a new identity")
        self.dispatcher.lose_claims()
        if not self.workplace.is_apart:
            self.workforce.lose_claims()
        self.serving.forget_publication()
