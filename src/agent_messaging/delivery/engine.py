"""The engine under every pattern, put together: outbox, dispatcher, waiters, who serves whom, and the passing of time.

One engine belongs to one started SDK object and one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection

from ..config import MessagingConfig
from ..exceptions import DatabaseError, EventLoopError, MessageNotFoundError, OutcomeUnknownError
from ..handlers.events import MeetingEventHandler
from ..handlers.registry import Registry
from ..handlers.threads import DaemonThreads
from ..models import Kind
from ..storage.ports import EndedAsk, EndedSession, ReceiptRow, Store
from .arrivals import Arrivals
from .asks import Asks
from .awaiting import Awaiting
from .background import Background
from .commits import Commits
from .dispatcher import Dispatcher
from .events import Events
from .incarnations import Incarnations
from .meetings import Meetings
from .names import AgentName, Names
from .notices import Notices
from .outbox import Outbox
from .reading import Reading
from .retry import RetryPolicy
from .runs import Runner
from .services import SingleFlight
from .serving import Serving
from .trouble import Seldom, Trouble
from .waiting import Waiters

logger = logging.getLogger("agent_messaging.delivery")

CLOSING_TIMEOUT = 2.0
"""Seconds that each of these has to reach the store: the last publication, the ends of waits, what goes back unread,
and the asks given up.

Otherwise the farewell, or the asks' deadlines, end them; what did not go back stays read.
"""
TURN_POLL = 0.5
"""Seconds between two looks at the turns that end by time, while there are any: who holds one up may die with it."""
LAG_WARNING = 1.0
"""Seconds the loop may be late before it is said in the log: a handler blocks it."""


class Engine:
    """Everything between a public call and the store.

    Args:
        budget: Seconds for which a call is tried while the store does not answer.
    """

    def __init__(
        self,
        store: Store,
        settings: MessagingConfig,
        handlers: Registry,
        event_handlers: MeetingEventHandler,
        *,
        budget: float,
    ) -> None:
        self.store = store
        self.settings = settings
        self.loop: asyncio.AbstractEventLoop | None = None
        """On which it was started, and all of it runs."""
        self.trouble = Trouble()
        self.incarnations = Incarnations(store.processes)
        self.names = Names(store.directory, store.location)
        self.serving = Serving(
            store.processes,
            store.presence,
            self.names,
            handlers,
            grace=settings.handler_grace,
            invoke=settings.auto_invoke_handlers,
            concurrency=settings.handler_concurrency,
            listens=lambda: bool(event_handlers.subscriptions),
            on_change=self._served_changed,
            on_trouble=self.trouble.note,
        )
        self.waiters = Waiters[str, ReceiptRow](self._find_final, lambda id: MessageNotFoundError(message_id=id))
        """Who waits for a delivery to end."""
        self.asks = Asks(store.sessions)
        self.awaiting = Awaiting(
            store.sessions,
            store.presence,
            self.names,
            on_released=self._released,
            on_trouble=self.trouble.note,
            waiting=lambda run: self.dispatcher.waiting(run),
        )
        self.commits = Commits()
        self.reading = Reading(
            store.sessions,
            store.presence,
            self.commits,
            on_returned=self._returned,
            on_rejected=self._rejected,
        )
        self.arrivals = Arrivals()
        threads, background = DaemonThreads(), Background()
        self.meetings = Meetings(
            store.meetings,
            store.presence,
            self.names,
            self.serving,
            threads,
            background,
            self.commits,
            on_turn=self._turn_begun,
            on_events=self._events_recorded,
            on_deadline=self.look_in,
            on_ended_turn=lambda turn: self.dispatcher.end_turn(turn),
            on_trouble=self.trouble.note,
        )
        runner = Runner(
            self.names,
            self.asks,
            self.meetings,
            RetryPolicy(settings.retry_delay, settings.retry_max_delay),
            threads,
            max_answer_bytes=settings.max_payload_bytes,
        )
        self.events = Events(
            store.meetings,
            self.names,
            event_handlers,
            threads,
            background,
            self.commits,
            on_recorded=self._events_recorded,
            on_trouble=self.trouble.note,
            timeout=settings.handler_timeout,
        )
        self.dispatcher = Dispatcher(
            store.deliveries,
            store.presence,
            self.names,
            self.serving,
            self.waiters,
            self.asks,
            runner,
            background,
            concurrency=settings.handler_concurrency,
            timeout=settings.handler_timeout,
            trouble=self.trouble,
            on_later=self.look_in,
            on_waiting=self.arrivals.arrived,
            # Not for asks: those that end by a commit made here are told one by one, however many wait.
            on_awaited=self.awaiting.stored,
            on_conversed=lambda group, outcome: self.notices.wrote(group, outcome),
        )
        self.notices = Notices(
            store.sessions,
            self.names,
            self.serving,
            background,
            runner.decoder,
            concurrency=settings.handler_concurrency,
            timeout=settings.handler_timeout,
        )
        self.outbox = Outbox(store.deliveries, lambda: store.presence.process_id, self.dispatcher, budget=budget)
        self.is_closing = False
        self.is_leaving = False
        self.is_closed = False
        self._is_hurried = False
        self._draining: asyncio.Timeout | None = None
        self._has_appeared = False
        self._timer = asyncio.Event()
        self._due = 0.0
        self._keeping: asyncio.Task[None] | None = None
        self._checking = SingleFlight(self._end_turns, "looking at the turns")

    async def start(self) -> None:
        """Appear in the store, take over from the dead, and begin to serve."""
        self.loop = asyncio.get_running_loop()
        await self.store.presence.start(self._rang, self._lost)
        self._has_appeared = True
        await self._bury()
        await self.events.start()
        await self.serving.start()
        self.dispatcher.start()
        self._keeping = asyncio.create_task(self._keep_time(), name="agent-messaging-time")

    def check_loop(self) -> None:
        """Refuse a caller that is not on the engine's loop: what it would wait for comes there, and it would hang.

        Raises:
            EventLoopError: It is on another loop, or on none.
        """
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not self.loop:
            raise EventLoopError

    def event_handlers_changed(self) -> None:
        """Handlers of events came or went, in whatever thread."""
        assert self.loop is not None
        try:
            self.check_loop()
        except EventLoopError:
            if not self.loop.is_closed():
                self.loop.call_soon_threadsafe(self.events.follow)
        else:
            self.events.follow()
        self.serving.handlers_changed()

    async def adopt(self, external_ids: Collection[str], *, everyone: bool = False) -> None:
        """Let the bare handlers of this process serve these agents too."""
        self.serving.adopted |= set(external_ids)
        self.serving.everyone = self.serving.everyone or everyone
        await self.serving.publish()

    async def abort(self) -> None:
        """Undo a start that failed; gives the store back."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        await self.events.aclose()
        await self.serving.aclose()
        if self._has_appeared:
            await self._say_goodbye(CLOSING_TIMEOUT)
        await self.store.aclose()

    async def stop(self, *, drain: bool) -> None:
        """Leave: drain within the drain timeout, give back the rest without counting the attempt, disappear.

        With `drain` what this SDK object stored for agents it serves is handled first, and what those handlers send;
        without, only what is running ends.
        """
        self.is_closing = True
        self.arrivals.wake_all()
        limit = self.settings.drain_timeout
        if self._is_hurried:
            limit = 0.0
        try:
            async with asyncio.timeout(self.settings.handler_timeout if limit is None else limit) as self._draining:
                self.dispatcher.begin_draining(take_new=drain)
                while True:
                    await self.outbox.wait_until_idle()
                    await self.dispatcher.wait_until_idle()
                    await self.notices.wait_until_idle()
                    await self.events.wait_until_idle()
                    if self.outbox.is_idle:
                        break
        except TimeoutError:
            if self.dispatcher.runs:
                logger.warning("leaving with %d handlers at work; their messages go back", len(self.dispatcher.runs))
        finally:
            await self._leave()

    def hurry(self) -> None:
        """Drain no longer: who leaves has no more time."""
        self._is_hurried = True
        if self._draining is not None and not self.is_leaving and not self._draining.expired():
            self._draining.reschedule(asyncio.get_running_loop().time())

    async def _leave(self) -> None:
        self.is_leaving = True
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        await self._checking.aclose()
        self.dispatcher.begin_draining(take_new=False)
        await self.notices.aclose()
        await self.events.aclose()
        await self.outbox.aclose()
        await self.dispatcher.aclose()
        await self.commits.aclose(CLOSING_TIMEOUT)
        self.is_closed = True
        await self.serving.aclose(CLOSING_TIMEOUT)
        await self.waiters.aclose()
        await self.awaiting.aclose(CLOSING_TIMEOUT)
        await self.reading.aclose(CLOSING_TIMEOUT)
        await self.meetings.aclose()
        await self.asks.aclose(CLOSING_TIMEOUT)
        await self._say_goodbye()

    async def _say_goodbye(self, limit: float | None = None) -> None:
        try:
            async with asyncio.timeout(limit):
                await self.store.processes.retire(self.store.presence.process_id)
        except (DatabaseError, OutcomeUnknownError, TimeoutError) as error:
            logger.warning("could not say goodbye to the store; others will find out: %s", error)

    # --- wake-ups -----------------------------------------------------------------------------------------------------

    def _rang(self) -> None:
        self.serving.look_soon()
        self._look()

    def _lost(self) -> None:
        logger.warning("this process was taken for dead: its claims are lost, and it goes on under a new identity")
        self.dispatcher.lose_claims()
        self.serving.forget_publication()

    def _served_changed(self) -> None:
        self.dispatcher.review()
        self._wake_who_waits_in_vain()

    def _turn_begun(self, agent_id: str) -> None:
        self.serving.ring_for([agent_id], Kind.TURN)
        self.dispatcher.notice(agent_id, Kind.TURN)

    def _events_recorded(self) -> None:
        self.events.look()
        self.serving.ring_for([""], Kind.EVENTS)

    def _check_turns(self) -> None:
        if self.dispatcher.turns():
            self._checking.request()

    async def _end_turns(self) -> None:
        """Cancel what works here on turns that are over."""
        for turn in await self.meetings.find_over(self.dispatcher.turns()):
            self.dispatcher.end_turn(turn)

    async def _find_final(self, message_ids: list[str]) -> dict[str, ReceiptRow | None]:
        rows = {row.message_id: row for row in await self.store.deliveries.list_receipts(message_ids)}
        return {id: rows.get(id) for id in message_ids if id not in rows or rows[id].state.is_final}

    def _look(self) -> None:
        self.dispatcher.look()  # who pulls is woken when it has found what waits
        self.waiters.look()
        self.asks.waiters.look()
        self.awaiting.waiters.look()
        self.notices.look()
        self.meetings.look()
        self.events.look()
        self._check_turns()
        self._wake_who_waits_in_vain()

    def _wake_who_waits_in_vain(self) -> None:
        """Let those look again who wait for messages of an agent that was removed, or registered anew."""
        self.arrivals.wake_all(of=lambda agent_id: self.names.cached_by_id(agent_id) is None)

    def queued(self, recipient_ids: Collection[str], kind: Kind) -> None:
        """Something of these agents was queued: wake whoever serves them, here or elsewhere."""
        self.serving.ring_for(recipient_ids, kind)
        self._look()

    def _released(self, recipient_ids: Collection[str], kind: Kind) -> None:
        """Nothing holds messages of these agents back from handlers any more."""
        self.serving.ring_for(recipient_ids, kind)
        self.dispatcher.look()

    def resume(self, agent: AgentName, kind: Kind) -> None:
        """Have the handler here take up what waits for the agent."""
        self.dispatcher.resume(agent, kind)

    def ended(self, session: EndedSession) -> None:
        """A session was ended here: tell whoever waits in it, wherever that is."""
        self.asks.ended(session.asks)
        self.awaiting.waiters.look()
        processes = session.processes | {ask.origin for ask in session.asks if ask.origin is not None}
        self.store.presence.ring(processes - {self.store.presence.process_id})

    def withdrawn(self, message_ids: Collection[str]) -> None:
        """Messages were withdrawn: tell who waits here for them to end, or for their answers."""
        self.waiters.hint(message_ids)
        self.asks.waiters.hint(message_ids)

    def _returned(self, recipient_ids: Collection[str], waiting: Collection[str]) -> None:
        self.queued(recipient_ids, Kind.CONVERSATION)
        self.store.presence.ring(set(waiting) - {self.store.presence.process_id})

    def _rejected(self, message_ids: Collection[str], asks: Collection[EndedAsk]) -> None:
        self.waiters.hint(message_ids)
        self.asks.ended(asks)
        origins = {ask.origin for ask in asks if ask.origin is not None}
        self.store.presence.ring(origins - {self.store.presence.process_id})

    async def removed(self) -> None:
        """An agent was removed: wake whoever waits for it, or has the turn in its place, in whatever process."""
        self.queued((), Kind.ONE_WAY)
        with contextlib.suppress(DatabaseError, OutcomeUnknownError):  # the slow polls will
            await self.serving.ring_everybody()

    def invited(self, agent_ids: Collection[str]) -> None:
        """Invitations were stored: wake whoever serves these agents."""
        self.serving.ring_for(agent_ids, Kind.INVITATION)
        self.serving.ring_for(agent_ids, Kind.NOTIFICATION)
        self.dispatcher.look()
        self.notices.look()

    # --- notices ------------------------------------------------------------------------------------------------------

    def is_notified_elsewhere(self, recipient: AgentName) -> bool:
        """Whether a notice is to be left for another process's notification handler."""
        return self.notices.find_handler(recipient) is None and self.serving.is_served_elsewhere(
            recipient, Kind.NOTIFICATION
        )

    def is_notified(self, recipient: AgentName) -> bool:
        """Whether anybody's notification handler, here or elsewhere, is to be told by a notice."""
        return self.notices.find_handler(recipient) is not None or self.serving.is_served_elsewhere(
            recipient, Kind.NOTIFICATION
        )

    # --- time ---------------------------------------------------------------------------------------------------------

    def look_in(self, seconds: float) -> None:
        """Something becomes due in so many seconds."""
        due = time.monotonic() + seconds
        if due < self._due:
            self._due = due
            self._timer.set()

    async def _keep_time(self) -> None:
        """Poll slowly under the wake-ups, notice the dead, and let time pass in the store when something is due."""
        presence = self.store.presence
        attempts = self.trouble.attempts()
        blocked = Seldom()
        self._due = time.monotonic()
        next_poll = time.monotonic() + presence.poll_interval
        while True:
            wake_at = min(next_poll, self._due)
            pause = wake_at - time.monotonic()
            if pause > 0:
                try:
                    async with asyncio.timeout(pause):
                        await self._timer.wait()
                except TimeoutError:
                    pass
            self._timer.clear()
            now = time.monotonic()
            if pause > 0 and now - wake_at > LAG_WARNING and (times := blocked.happened()):
                logger.warning(
                    "the event loop was blocked for %.1f s; a handler must not block it%s",
                    now - wake_at,
                    f" ({times} times since this was last said)" if times > 1 else "",
                )
            try:
                if now >= self._due:
                    await self._advance()
                if now >= next_poll:
                    await self._bury()
                    next_poll = now + presence.poll_interval
                    if await presence.has_changed():
                        self.serving.look_soon()
                        self._look()
                        await self._advance()
                    attempts.succeeded()
                    self.serving.retry_publication()
            except (DatabaseError, OutcomeUnknownError) as error:
                next_poll = self._due = time.monotonic() + max(presence.poll_interval, attempts.failed(error))
            except Exception:
                logger.exception("keeping time failed, going on")
                next_poll = self._due = time.monotonic() + presence.poll_interval

    async def _advance(self) -> None:
        self._due = float("inf")
        advanced = await self.store.deliveries.advance()
        moved = advanced.due or advanced.released or advanced.expired_origins
        self._look_when_due(advanced.next_in, moved)
        timed_out = await self.meetings.time_out()
        self._look_when_due(timed_out.next_in, timed_out.meetings)
        if timed_out.next_in is not None:
            self.look_in(TURN_POLL)
        if advanced.due or advanced.released:
            self._look()
        if advanced.expired_origins:
            self.waiters.look()
            self.asks.waiters.look()
            self.store.presence.ring(advanced.expired_origins - {self.store.presence.process_id})

    def _look_when_due(self, next_in: float | None, moved: object) -> None:
        """Look again when the next thing is due; what is due now, at once, unless nothing moved."""
        if next_in is not None:
            # What is due and did not move is held by somebody's lock: asking again at once would only burn.
            held = next_in <= 0 and not moved
            self.look_in(self.store.presence.poll_interval if held else next_in)

    async def _bury(self) -> None:
        dead = await self.store.presence.find_dead()
        if dead:
            released = await self.store.processes.release(dead)
            logger.info("%d processes died; %d messages taken over from them", len(dead), released)
            self.serving.look_soon()
            self._look()
