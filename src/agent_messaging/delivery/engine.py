"""The engine under every pattern, put together: outbox, dispatcher, waiters, who serves whom, and the passing of time.

One engine belongs to one started SDK object and one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection

from ..config import MessagingConfig
from ..exceptions import DatabaseError, OutcomeUnknownError
from ..handlers.registry import Registry
from ..models import Kind
from ..storage.ports import Store
from .arrivals import Arrivals
from .dispatcher import Dispatcher
from .names import Names
from .outbox import Outbox
from .retry import RetryPolicy
from .serving import Serving
from .trouble import Trouble
from .waiting import Waiters

logger = logging.getLogger("agent_messaging.delivery")

LAG_WARNING = 1.0
"""Seconds the loop may be late before it is said in the log: a handler blocks it."""


class Engine:
    """Everything between a public call and the store.

    Args:
        budget: Seconds for which a call is tried while the store does not answer.
    """

    def __init__(self, store: Store, settings: MessagingConfig, handlers: Registry, *, budget: float) -> None:
        self.store = store
        self.settings = settings
        self.names = Names(store.directory)
        self.serving = Serving(
            store.processes,
            store.presence,
            self.names,
            handlers,
            grace=settings.handler_grace,
            invoke=settings.auto_invoke_handlers,
            on_change=self._served_changed,
        )
        self.trouble = Trouble()
        self.waiters = Waiters(store.deliveries)
        self.arrivals = Arrivals()
        self.dispatcher = Dispatcher(
            store.deliveries,
            store.presence,
            self.names,
            self.serving,
            self.waiters,
            concurrency=settings.handler_concurrency,
            timeout=settings.handler_timeout,
            retry=RetryPolicy(settings.retry_delay, settings.retry_max_delay),
            trouble=self.trouble,
            on_later=self.look_in,
            on_waiting=self.arrivals.arrived,
        )
        self.outbox = Outbox(store.deliveries, lambda: store.presence.process_id, self.dispatcher, budget=budget)
        self.is_closing = False
        self.is_leaving = False
        self.is_closed = False
        self._timer = asyncio.Event()
        self._due = 0.0
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Appear in the store, take over from the dead, and begin to serve."""
        await self.store.presence.start(self._rang, self._lost)
        await self._bury()
        await self.serving.start()
        self.dispatcher.start()
        self._keeping = asyncio.create_task(self._keep_time(), name="agent-messaging-time")

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
        await self.serving.aclose()
        await self.store.aclose()

    async def stop(self, *, drain: bool) -> None:
        """Leave: drain within the drain timeout, give back the rest without counting the attempt, disappear.

        With `drain` what this SDK object stored for agents it serves is handled first, and what those handlers send;
        without, only what is running ends.
        """
        self.is_closing = True
        self.arrivals.wake_all()
        limit = self.settings.drain_timeout
        try:
            async with asyncio.timeout(self.settings.handler_timeout if limit is None else limit):
                self.dispatcher.begin_draining(take_new=drain)
                while True:
                    await self.outbox.wait_until_idle()
                    await self.dispatcher.wait_until_idle()
                    if self.outbox.is_idle:
                        break
        except TimeoutError:
            logger.warning("closing with %d handlers still running; their messages go back", len(self.dispatcher.runs))
        finally:
            await self._leave()

    async def _leave(self) -> None:
        self.is_leaving = True
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        self.dispatcher.begin_draining(take_new=False)
        await self.outbox.aclose()
        await self.dispatcher.aclose()
        self.is_closed = True
        await self.serving.aclose()
        await self.waiters.aclose()
        if self.dispatcher.has_stuck_runs:
            return  # without a farewell: others take over what still runs here as soon as our sign of life is gone
        try:
            await self.store.processes.retire(self.store.presence.process_id)
        except (DatabaseError, OutcomeUnknownError) as error:
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

    def _look(self) -> None:
        self.dispatcher.look()  # who pulls is woken when it has found what waits
        self.waiters.look()
        self._wake_who_waits_in_vain()

    def _wake_who_waits_in_vain(self) -> None:
        """Let those look again who wait for messages of an agent that was removed, or registered anew."""
        self.arrivals.wake_all(of=lambda agent_id: self.names.cached_by_id(agent_id) is None)

    def queued(self, recipient_ids: Collection[str], kind: Kind) -> None:
        """Something of these agents was queued: wake whoever serves them, here or elsewhere."""
        self.serving.ring_for(recipient_ids, kind)
        self._look()

    # --- time ---------------------------------------------------------------------------------------------------------

    def look_in(self, seconds: float) -> None:
        """Something becomes due in so many seconds."""
        due = time.monotonic() + seconds
        if due < self._due:
            self._due = due
            self._timer.set()

    async def _keep_time(self) -> None:
        """Poll slowly under the wake-ups, notice the dead, and let time pass in the store when something is due."""
        poll = self.store.presence.poll_interval
        self._due = time.monotonic()
        next_poll = time.monotonic() + poll
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
            if pause > 0 and now - wake_at > LAG_WARNING:
                logger.warning("the event loop was blocked for %.1f s; a handler must not block it", now - wake_at)
            try:
                if now >= self._due:
                    await self._advance()
                if now >= next_poll:
                    next_poll = now + poll
                    await self._bury()
                    if await self.store.presence.has_changed():
                        self.serving.look_soon()
                        self._look()
                        await self._advance()
                    self.trouble.succeeded()
                    self.serving.retry_publication()
            except (DatabaseError, OutcomeUnknownError) as error:
                next_poll = self._due = time.monotonic() + max(poll, self.trouble.failed(error))
            except Exception:
                logger.exception("keeping time failed, going on")
                next_poll = self._due = time.monotonic() + poll

    async def _advance(self) -> None:
        self._due = float("inf")
        advanced = await self.store.deliveries.advance()
        moved = advanced.due or advanced.released or advanced.expired_origins
        if advanced.next_in is not None:
            # What is due and did not move is held by somebody's lock: asking again at once would only burn.
            held = advanced.next_in <= 0 and not moved
            self.look_in(self.store.presence.poll_interval if held else advanced.next_in)
        if advanced.due or advanced.released:
            self._look()
        if advanced.expired_origins:
            self.waiters.look()
            self.store.presence.ring(advanced.expired_origins - {self.store.presence.process_id})

    async def _bury(self) -> None:
        dead = await self.store.presence.find_dead()
        if dead:
            released = await self.store.processes.release(dead)
            logger.info("%d processes died; %d messages taken over from them", len(dead), released)
            self.serving.look_soon()
            self._look()
