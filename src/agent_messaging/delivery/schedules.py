"""Schedules: when their rules fire, and the handing out of what is due, each instant once over all processes.

The timekeeper calls it. A schedule whose instants passed while nobody was there fires once, for the oldest of them, and
goes on with the next one that is still to come. Where the clock is set back, a cron expression waits until the clock
has caught up, because it is about the clock; an interval goes on, at most its own length from then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from ..storage.aside import UNREADABLE, Aside
from ..storage.ports import CoordinationStore, Firing, NewTask, ScheduleRow
from .announcer import Announcer
from .task_facts import TaskFacts

EVERY = "every "
"""Begins a rule that is an interval: `every 30.0`. Any other one is a cron expression."""
MOST = 100
"""Schedules that fire in one commit."""


def next_after(rule: str, zone: str, at: datetime, now: datetime) -> datetime:
    """The first instant of a rule behind now, where `at` was one of them.

    Args:
        rule: An interval (see `EVERY`), or a cron expression.
        zone: The time zone of a cron expression. Where its clocks are put forward, what would fall into the hour that
            is left out comes right after it; where they are put back, it comes once.
        at: An instant of the rule, or its start.
        now: The instant.

    Raises:
        ValueError: The rule never fires, or is none.
    """
    if (seconds := interval_of(rule)) is not None:
        if now < at:  # the clock was set back
            return now + timedelta(seconds=seconds)
        return at + timedelta(seconds=seconds * (math.floor((now - at).total_seconds() / seconds) + 1))
    from zoneinfo import ZoneInfo  # these are loaded where cron is used

    from cronsim import CronSim, CronSimError

    try:
        found = next(CronSim(rule, max(at, now).astimezone(ZoneInfo(zone))), None)
    except CronSimError as error:
        raise ValueError(f"{rule!r} is no cron expression: {error}") from error
    if found is None:
        raise ValueError(f"{rule!r} never fires")
    return found.astimezone(UTC)


def interval_of(rule: str) -> float | None:
    """The seconds of an interval; None of a cron expression.

    Raises:
        ValueError: The interval is no number.
    """
    return float(rule.removeprefix(EVERY)) if rule.startswith(EVERY) else None


def since_of(rule: str, next_at: datetime) -> datetime | None:
    """The instant from which an interval runs to its next one; None of a cron expression."""
    seconds = interval_of(rule)
    return None if seconds is None else next_at - timedelta(seconds=seconds)


def task_id_of(name: str, at: datetime) -> str:
    """The id of the task of one instant: the same, whoever fires it."""
    return f"{name}@{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"


class Schedules:
    """Hands out what is due."""

    def __init__(self, store: CoordinationStore, announcer: Announcer, facts: TaskFacts) -> None:
        self.facts = facts
        self.schedules = store.schedules
        self.presence = store.presence
        self.announcer = announcer
        self._aside = Aside()

    async def fire(self) -> float | None:
        """Fire what is due; returns the seconds until something is due again, None if nothing is."""
        found = await self.schedules.find_due(MOST)
        next_in = found.next_in
        firings = [*filter(None, (self._firing(row, found.now) for row in found.due))]
        firings += filter(None, (self._moved(row, found.now) for row in found.stalled))
        if firings:
            news = await self.schedules.fire(firings, origin=self.presence.process_id)
            fired = [one.task for one, moved in zip(firings, news.moved, strict=True) if moved and one.task]
            if self.facts.ears.is_heard:
                self.facts.submitted(fired, [True] * len(fired))
            self.announcer.worked([task.task_id for task in fired], news.processes)
            soonest = min((one.next_at - found.now).total_seconds() for one in firings)
            next_in = max(soonest if next_in is None else min(next_in, soonest), 0.0)
        return 0.0 if MOST in (len(found.due), len(found.stalled)) and firings else next_in

    def _firing(self, row: ScheduleRow, now: datetime) -> Firing | None:
        """The firing of a schedule that is due."""
        from ..storage.task_texts import load_task  # loaded with a backend, which the SDK's import does not wait for

        return self._read(row, now, lambda: load_task(row.task, task_id_of(row.name, row.next_at)))

    def _moved(self, row: ScheduleRow, now: datetime) -> Firing | None:
        """The change of an interval that stands still: it begins now."""
        return self._read(row, now, lambda: None)

    def _read(self, row: ScheduleRow, now: datetime, load: Callable[[], NewTask | None]) -> Firing | None:
        """A firing; None of a schedule that cannot be read, which stays due, and stops nothing but itself."""
        try:
            next_at = next_after(row.rule, row.zone, row.next_at, now)
            return Firing(row.name, row.next_at, next_at, load(), since_of(row.rule, next_at))
        except UNREADABLE as error:
            self._aside.tell(f"the schedule {row.name!r}", f"{error}. It does not fire: make it anew")
            return None
