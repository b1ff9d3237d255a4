"""Schedules in PostgreSQL. The first to come locks a schedule and fires it; the others find its next instant."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ..ports import DueSchedules, Firing, NewSchedule, ScheduleRow, TaskNews
from ..sql import Queries
from . import assigning
from .engine import Connection, Engine, columns, count_of

_SQL = Queries(__package__, "schedules")


class PostgresSchedules:
    """See `ports.ScheduleStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def put(self, schedule: NewSchedule, *, now: datetime | None = None) -> bool:
        values = schedule.name, schedule.rule, schedule.zone, schedule.task, schedule.next_at, schedule.since_at, now
        (row,) = await self._engine.change(_SQL["schedules_put"], *values)
        return bool(row["is_new"])

    async def remove(self, name: str) -> bool:
        async def work(connection: Connection) -> bool:
            return count_of(await connection.execute(_SQL["schedules_remove"], name)) > 0

        return await self._engine.run(work, write=True)

    async def list_schedules(self, limit: int, offset: int) -> list[ScheduleRow]:
        rows = await self._engine.fetch(_SQL["schedules_list"], limit, offset)
        return self._engine.aside.all(_row, rows, "a schedule")

    async def find_due(self, limit: int, *, now: datetime | None = None) -> DueSchedules:
        (following,) = await self._engine.fetch(_SQL["schedules_next"], now)
        due: list[ScheduleRow] = []
        stalled: list[ScheduleRow] = []
        if following["is_any_due"]:
            for rows, block in ((due, "schedules_find_due"), (stalled, "schedules_find_stalled")):
                found = await self._engine.fetch(_SQL[block], limit, now)
                rows += self._engine.aside.all(_row, found, "a schedule")
        return DueSchedules(due, stalled, following["now"], following["next_in"])

    async def fire(
        self, firings: Sequence[Firing], *, origin: str | None = None, now: datetime | None = None
    ) -> TaskNews:
        async def work(connection: Connection) -> TaskNews:
            names = sorted({firing.name for firing in firings})
            found = {row["name"]: row["next_at"] for row in await connection.fetch(_SQL["schedules_find"], names)}
            moved, fired = [], []
            for firing in firings:
                moved.append(found.get(firing.name) == firing.at)
                if moved[-1]:
                    found[firing.name] = None
                    fired.append(firing)
            if not fired:
                return TaskNews(moved)
            rows = [(one.name, one.next_at, one.since_at, one.task is not None) for one in fired]
            await connection.execute(_SQL["schedules_fire"], *columns(rows, 4))
            news = await assigning.submit(connection, [one.task for one in fired if one.task is not None], origin, now)
            return TaskNews(moved, news.processes)

        return await self._engine.run(work, write=True) if firings else TaskNews([])


def _row(row: Any) -> ScheduleRow:
    return ScheduleRow(*row)
