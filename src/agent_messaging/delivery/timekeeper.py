"""The passing of time: a slow poll under the wake-ups, the dead, and what becomes due in the store."""

from __future__ import annotations

import asyncio
import logging
import time

from ..exceptions import DatabaseError, OutcomeUnknownError
from ..storage.ports import Store
from .announcer import Announcer
from .meetings import Meetings
from .schedules import Schedules
from .services import Service
from .timer import Timer
from .trouble import Seldom, Trouble
from .workforce import Workforce

logger = logging.getLogger("agent_messaging.delivery")

TURN_POLL = 0.5
"""Seconds between two looks at the turns that end by time, while there are any: who holds one up may die with it."""
LAG_WARNING = 1.0
"""Seconds the loop may be late before it is said in the log: a handler blocks it."""


class Timekeeper(Service):
    """The one task that tells the store that time has passed, whenever the timer says that something is due."""

    def __init__(
        self,
        store: Store,
        timer: Timer,
        meetings: Meetings,
        workforce: Workforce,
        announcer: Announcer,
        trouble: Trouble,
    ) -> None:
        self.store = store
        self.presence = store.presence
        self.timer = timer
        self.meetings = meetings
        self.workforce = workforce
        self.announcer = announcer
        self.schedules = Schedules(store, announcer)
        self.serving = announcer.serving
        self.trouble = trouble
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._keep_time(), name="agent-messaging-time")

    async def aclose(self, timeout: float) -> None:
        """End at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def bury(self) -> None:
        """Take over from the processes that died."""
        await self._take_over(await self.presence.find_dead())

    async def _take_over(self, dead: list[str]) -> None:
        if dead:
            released = await self.store.processes.release(dead)
            logger.info("%d processes died; %d messages taken over from them", len(dead), released)
            await self.announcer.died()
            self.announcer.worked_by_time(())
            await self.workforce.assign_waiting()

    async def _keep_time(self) -> None:
        attempts = self.trouble.attempts()
        blocked = Seldom()
        has_changed = False
        self.timer.look_in(0)
        next_poll = time.monotonic() + self.presence.poll_interval
        next_look = time.monotonic() + self.presence.look_interval
        while True:
            lag = await self.timer.wait(min(next_poll, next_look))
            if lag > LAG_WARNING and (times := blocked.happened()):
                logger.warning(
                    "the event loop was blocked for %.1f s; a handler must not block it%s",
                    lag,
                    f" ({times} times since this was last said)" if times > 1 else "",
                )
            now = time.monotonic()
            try:
                if now >= self.timer.due_at:
                    await self._advance()
                if now >= min(next_look, next_poll):
                    dead, is_changed = await self.presence.look()
                    has_changed = has_changed or is_changed
                    await self._take_over(dead)
                    next_look = now + self.presence.look_interval
                if now >= next_poll:
                    next_poll = now + self.presence.poll_interval
                    if has_changed:
                        has_changed = False
                        self.announcer.rang()
                        await self._advance()
                    attempts.succeeded()
                    self.serving.retry_publication()
            except (DatabaseError, OutcomeUnknownError) as error:
                next_poll = next_look = self._put_off(max(self.presence.poll_interval, attempts.failed(error)))
            except Exception:
                logger.exception("keeping time failed, going on")
                next_poll = next_look = self._put_off(self.presence.poll_interval)

    def _put_off(self, pause: float) -> float:
        self.timer.clear()
        self.timer.look_in(pause)
        return time.monotonic() + pause

    async def _advance(self) -> None:
        """Ask once what is due, and let time pass for that alone."""
        self.timer.clear()
        dues = await self.store.find_dues()
        for due, advance in (
            (dues.deliveries, self._advance_deliveries),
            (dues.turns, self._end_turns),
            (dues.tasks, self._advance_tasks),
            (dues.schedules, self._fire_schedules),
            (dues.queue, self._advance_queue),
        ):
            if due is not None and due <= 0:
                await advance()
            elif due is not None:
                self.timer.look_in(due)
        if dues.turns is not None:
            self.timer.look_in(TURN_POLL)

    async def _advance_deliveries(self) -> None:
        advanced = await self.store.deliveries.advance()
        self._look_when_due(advanced.next_in, advanced.due or advanced.released or advanced.expired_origins)
        self.announcer.advanced(advanced)

    async def _end_turns(self) -> None:
        timed_out = await self.meetings.time_out()
        self._look_when_due(timed_out.next_in, timed_out.meetings)

    async def _advance_tasks(self) -> None:
        """Let time pass for tasks. What was assigned and has returned goes to somebody else."""
        work = await self.store.tasks.advance()
        moved = work.released or work.expired or work.due
        self._look_when_due(work.next_in, moved)
        if moved:
            self.announcer.worked_by_time(work.processes)
            await self.workforce.assign_waiting()

    async def _fire_schedules(self) -> None:
        if (next_in := await self.schedules.fire()) is not None:
            self.timer.look_in(next_in)

    async def _advance_queue(self) -> None:
        messages = await self.store.queue.advance()
        self._look_when_due(messages.next_in, messages.released or messages.expired or messages.due)

    def _look_when_due(self, next_in: float | None, moved: object) -> None:
        """Look again when the next thing is due; what is due now, at once, unless nothing moved."""
        if next_in is not None:
            # What is due and did not move is held by somebody's lock: asking again at once would only burn.
            held = next_in <= 0 and not moved
            self.timer.look_in(self.presence.poll_interval if held else next_in)
