"""The port of schedules: tasks that come again and again, each instant once, whatever number of processes watch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from ...records import dataclass
from .tasks import NewTask, TaskNews


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A schedule to be stored."""

    name: str
    rule: str
    """When it fires; the store does not read it."""
    zone: str
    """The time zone in which the rule is meant."""
    task: str
    """JSON text of what is handed out (`task_texts.dump_task`)."""
    next_at: datetime
    since_at: datetime | None = None
    """Of an interval: the instant from which it runs to `next_at`. Before it, the clock was set back (`find_due`)."""


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A schedule as it is stored."""

    name: str
    rule: str
    zone: str
    task: str
    next_at: datetime
    fired: int
    """How often it has."""
    fired_at: datetime | None
    """The instant of the newest firing."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DueSchedules:
    """What `ScheduleStore.find_due` found."""

    due: list[ScheduleRow]
    stalled: list[ScheduleRow]
    """Intervals that have yet to begin, because the clock was set back since: each stands still until it is moved."""
    now: datetime
    """The instant by which the next ones are reckoned."""
    next_in: float | None
    """Seconds until another one is due; None if there is none."""


@dataclass(frozen=True, slots=True)
class Firing:
    """One instant of a schedule, at which its task is handed out."""

    name: str
    at: datetime
    next_at: datetime
    task: NewTask | None
    """None hands nothing out: the schedule is moved to another instant."""
    since_at: datetime | None = None
    """As of `NewSchedule`."""


class ScheduleStore(Protocol):
    """Schedules. All of it is safe under any number of processes."""

    async def put(self, schedule: NewSchedule, *, now: datetime | None = None) -> bool:
        """Store the schedule, or replace the one of this name; True if it is new. Repeat-safe.

        One whose rule and zone stay as they are keeps its next instant.
        """
        ...

    async def remove(self, name: str) -> bool:
        """End the schedule; False if there was none. Tasks that it has handed out go on. Repeat-safe."""
        ...

    async def list_schedules(self, limit: int, offset: int) -> list[ScheduleRow]:
        """A page in order of name."""
        ...

    async def find_due(self, limit: int, *, now: datetime | None = None) -> DueSchedules:
        """Up to `limit` that are due, as many that stand still, and when the next one is due. A plain read."""
        ...

    async def fire(
        self, firings: Sequence[Firing], *, origin: str | None = None, now: datetime | None = None
    ) -> TaskNews:
        """Put the tasks of these into the pool and set their next instants, in one commit.

        `moved` is False where the schedule has another next instant than the firing's: somebody else was quicker, or it
        was changed or removed; nothing is handed out then. So each instant fires once. Repeat-safe.
        """
        ...
