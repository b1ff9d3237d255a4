"""The passing of time: a slow poll under the wake-ups, the dead, and what becomes due in the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Protocol

from ..clock import monotonic
from ..exceptions import DatabaseError, OutcomeUnknownError, QueueDataLostError, StorageFullError
from ..loggers import get_logger
from ..observing.facts import FactType
from ..observing.observers import Ears
from ..storage.ports import CoordinationStore, Dues, Store
from .announcer import Announcer
from .meetings import Meetings
from .rounds import Endless
from .schedules import Schedules
from .serving import Serving
from .timer import Timer
from .trouble import Seldom, Trouble
from .workforce import Workforce

logger = get_logger("agent_messaging.delivery")

TURN_POLL = 0.5
"""Seconds between two looks at the turns that end by time, while there are any: who holds one up may die with it."""
BEAT = 1.0
"""Seconds between two looks of this task where the store looks by itself: they show whether the loop is late."""
LAG_WARNING = 1.0
"""Seconds the loop may be late before it is said in the log: a handler blocks it."""
NAMED = 10
"""Dead processes that a line of the log names."""


Advance = Callable[[], Awaitable[tuple[float | None, object]]]
"""Lets time pass for one kind of work; returns the seconds until its next change, and whether something moved."""


class Duties(Protocol):
    """The changes that time makes to some kinds of work."""

    def find(self, dues: Dues) -> Iterable[tuple[float | None, Advance]]:
        """Each kind, with the seconds until it is due."""
        ...

    async def died(self, process_ids: Collection[str], count: int) -> None:
        """These processes died, and what they had was taken over, so many messages and tasks."""
        ...

    def rang(self) -> None:
        """Anything may have changed elsewhere."""
        ...


class MessageDuties:
    """The changes that time makes to messages and meetings."""

    def __init__(self, store: Store, timer: Timer, meetings: Meetings, announcer: Announcer) -> None:
        self.deliveries = store.deliveries
        self.timer = timer
        self.meetings = meetings
        self.announcer = announcer

    def find(self, dues: Dues) -> Iterable[tuple[float | None, Advance]]:
        """See `Duties`."""
        if dues.turns is not None:
            self.timer.look_in(TURN_POLL)
        return (dues.deliveries, self._advance), (dues.turns, self._end_turns)

    async def died(self, process_ids: Collection[str], count: int) -> None:
        """See `Duties`."""
        self.announcer.taken_over(process_ids, count)
        await self.announcer.died()

    def rang(self) -> None:
        """See `Duties`."""
        self.announcer.rang()

    async def _advance(self) -> tuple[float | None, object]:
        advanced = await self.deliveries.advance()
        self.announcer.advanced(advanced)
        return advanced.next_in, advanced.due or advanced.released or advanced.expired_origins

    async def _end_turns(self) -> tuple[float | None, object]:
        timed_out = await self.meetings.time_out()
        return timed_out.next_in, timed_out.meetings


class WorkDuties:
    """The changes that time makes to tasks, schedules and queues."""

    def __init__(self, workforce: Workforce, announcer: Announcer) -> None:
        self.store = workforce.workplace.store
        self.workforce = workforce
        self.announcer = announcer
        self.schedules = Schedules(self.store, announcer, workforce.facts)

    def find(self, dues: Dues) -> Iterable[tuple[float | None, Advance]]:
        """See `Duties`."""
        return (
            (dues.tasks, self._advance),
            (dues.schedules, self._fire),
            (dues.queue, self._advance_queue),
        )

    async def died(self, process_ids: Collection[str], count: int) -> None:
        """See `Duties`. Where it is the store of the messages too, these tell of it."""
        if self.workforce.workplace.is_apart:
            self.announcer.taken_over(process_ids, count)
        self.announcer.worked_by_time(())
        await self.workforce.assign_waiting()

    def rang(self) -> None:
        """See `Duties`."""
        self.announcer.worked_by_time(())

    async def _advance(self) -> tuple[float | None, object]:
        """Let time pass for tasks. An assigned task that has returned goes to somebody else."""
        work = await self.store.tasks.advance()
        moved = work.released or work.expired or work.due
        if moved:
            facts = self.workforce.facts
            if facts.ears.is_heard:
                facts.counted(FactType.TAKEN_OVER, work.released)
                facts.counted(FactType.EXPIRED, work.expired)
            self.announcer.worked_by_time(work.processes)
            await self.workforce.assign_waiting()
        return work.next_in, moved

    async def _fire(self) -> tuple[float | None, object]:
        try:
            return await self.schedules.fire(), True
        except StorageFullError as error:  # what gives room back, and what the dead had, is not to wait for it
            self.workforce.trouble.note(error)
            return 0.0, False

    async def _advance_queue(self) -> tuple[float | None, object]:
        messages = await self.store.queue.advance()
        return messages.next_in, messages.released or messages.expired or messages.due


class Timekeeper(Endless):
    """The one task that tells a store that time has passed, whenever its timer says that something is due.

    Args:
        duties: What is kept in this store.
        ears: They look now and then whether the log wants to be told.
        serving: Its publication is tried again where that failed; None where this is not the store of the messages.
        lose: Called when the store has lost data.
    """

    def __init__(
        self,
        store: CoordinationStore,
        timer: Timer,
        trouble: Trouble,
        *duties: Duties,
        ears: Ears,
        serving: Serving | None,
        lose: Callable[[QueueDataLostError], None],
    ) -> None:
        super().__init__("time")
        self.store = store
        self.presence = store.presence
        self.timer = timer
        self.trouble = trouble
        self.duties = duties
        self.ears = ears
        self.serving = serving
        self.lose = lose
        self._next_poll = self._next_look = 0.0
        """When it polls, and when it looks who has died, by the monotonic clock."""
        self._is_watched = False
        """The store looks by itself (`Presence.watch`)."""
        self._has_news = False
        """The store has seen something by itself; or the last look failed."""
        self._has_changed = False
        """Others have changed something since the last poll."""
        self._blocked = Seldom()

    async def bury(self) -> None:
        """Take over from the processes that died."""
        await self._take_over(await self.presence.find_dead())

    async def _take_over(self, dead: list[str]) -> None:
        if dead:
            released = await self.store.processes.release(dead)
            logger.info(
                "%d processes died; %d messages and tasks taken over from %s", len(dead), released, _named(dead)
            )
            for duties in self.duties:
                await duties.died(dead, released)

    async def work(self) -> None:
        """Keep time."""
        attempts = self.trouble.attempts()
        self._is_watched = self.presence.watch(self._tell)
        self.timer.look_in(0)
        self._next_poll = monotonic() + self.presence.poll_interval
        self._next_look = monotonic() + self.presence.look_interval
        while True:
            until = monotonic() + BEAT if self._is_quiet else min(self._next_poll, self._next_look)
            self._warn_of_lag(await self.timer.wait(until))
            self.ears.look()
            now = monotonic()
            try:
                if now >= self.timer.due_at:
                    await self._advance()
                if now >= min(self._next_look, self._next_poll) and not self._is_quiet:
                    await self._look(now)
                if now >= self._next_poll:
                    await self._poll(now)
                    attempts.succeeded()
            except (DatabaseError, OutcomeUnknownError) as error:
                if isinstance(error, QueueDataLostError):
                    self.lose(error)
                self._put_off(max(self.presence.poll_interval, attempts.failed(error)))
            except Exception:
                logger.exception("keeping time failed, going on")
                self._put_off(self.presence.poll_interval)

    @property
    def _is_quiet(self) -> bool:
        """Whether a look is spared: the store, which has looked meanwhile, has no news, and that is an answer too."""
        return self._is_watched and not (self._has_news or self._has_changed)

    def _warn_of_lag(self, lag: float) -> None:
        if lag > LAG_WARNING and self.serving is not None and (times := self._blocked.happened()):
            logger.warning(
                "the event loop was blocked for %.1f s; a handler must not block it%s",
                lag,
                f" ({times} times since this was last said)" if times > 1 else "",
            )

    def _tell(self) -> None:
        self._has_news = True
        self.timer.wake()

    async def _look(self, now: float) -> None:
        """See who has died, and whether others have changed anything."""
        self._has_news = False
        dead, is_changed = await self.presence.look()
        self._has_changed = self._has_changed or is_changed
        await self._take_over(dead)
        # Where nobody else lives nobody dies; the poll looks all the same, and reads who has come.
        alone = self.serving is not None and self.serving.neighbours.is_alone
        self._next_look = now + (self.presence.poll_interval if alone else self.presence.look_interval)

    async def _poll(self, now: float) -> None:
        """Do as after a ring, if others have changed something, and publish what could not be published before."""
        self._next_poll = now + self.presence.poll_interval
        if self._has_changed:
            self._has_changed = False
            for duties in self.duties:
                duties.rang()
            await self._advance()
        if self.serving is not None:
            self.serving.retry_publication()

    def _put_off(self, pause: float) -> None:
        """Do nothing for so many seconds; the look after them tells whether the store answers again."""
        self.timer.clear()
        self.timer.look_in(pause)
        self._next_poll = self._next_look = monotonic() + pause
        self._has_news = True

    async def _advance(self) -> None:
        """Ask once what is due, and let time pass for that alone."""
        self.timer.clear()
        dues = await self.store.find_dues()
        for duties in self.duties:
            for due, advance in duties.find(dues):
                if due is not None and due <= 0:
                    self._look_when_due(*await advance())
                elif due is not None:
                    self.timer.look_in(due)

    def _look_when_due(self, next_in: float | None, moved: object) -> None:
        """Look again when the next thing is due; what is due now, at once, unless nothing moved."""
        if next_in is not None:
            # What is due and did not move is held by somebody's lock: asking again at once would only burn.
            held = next_in <= 0 and not moved
            self.timer.look_in(self.presence.poll_interval if held else next_in)


def _named(process_ids: list[str]) -> str:
    more = len(process_ids) - NAMED
    return ", ".join(process_ids[:NAMED]) + (f" and {more} more" if more > 0 else "")
