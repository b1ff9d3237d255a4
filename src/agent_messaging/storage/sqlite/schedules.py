"""Schedules in SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import apsw

from ..ports import DueSchedules, Firing, NewSchedule, ScheduleRow, TaskNews
from ..sql import Queries
from . import assigning
from .clock import Instant, StoreClock, seconds_until, to_datetime, to_datetime_or_none, to_microseconds
from .engine import Engine, fetch
from .rows import encode

_SQL = Queries(__package__, "schedules")


class SQLiteSchedules:
    """See `ports.ScheduleStore`."""

    def __init__(self, engine: Engine, clock: StoreClock) -> None:
        self._engine = engine
        self._clock = clock

    async def put(self, schedule: NewSchedule, *, now: datetime | None = None) -> bool:

        def put(connection: apsw.Connection) -> bool:
            instant = self._clock.now(now)
            found = fetch(connection, _SQL["schedules_find"], {"names": encode([schedule.name])})
            parameters = {
                "name": schedule.name,
                "rule": schedule.rule,
                "zone": schedule.zone,
                "task": schedule.task,
                "next_at": to_microseconds(schedule.next_at),
                "next_due": _due(schedule.next_at, instant),
                "since_due": _due_or_none(schedule.since_at, instant),
                "at": instant.at,
            }
            connection.execute(_SQL["schedules_put"], parameters)
            return not found

        return await self._engine.write(put)

    async def remove(self, name: str) -> bool:

        def remove(connection: apsw.Connection) -> bool:
            connection.execute(_SQL["schedules_remove"], {"name": name})
            return connection.changes() > 0

        return await self._engine.write(remove)

    async def list_schedules(self, limit: int, offset: int) -> list[ScheduleRow]:
        parameters = {"limit": limit, "offset": offset}
        rows = await self._engine.read(lambda con: fetch(con, _SQL["schedules_list"], parameters))
        return self._engine.aside.all(_row, rows, "a schedule")

    async def find_due(self, limit: int, *, now: datetime | None = None) -> DueSchedules:
        instant = self._clock.now(now)

        def find(connection: apsw.Connection) -> tuple[list[Any], list[Any], int | None]:
            parameters = {"now": instant.due, "at": instant.due, "limit": limit}
            due = fetch(connection, _SQL["schedules_find_due"], parameters)
            stalled = fetch(connection, _SQL["schedules_find_stalled"], parameters)
            following, _ = fetch(connection, _SQL["schedules_next"], parameters)
            return due, stalled, following

        due, stalled, following = await self._engine.read(find)
        return DueSchedules(
            self._engine.aside.all(_row, due, "a schedule"),
            self._engine.aside.all(_row, stalled, "a schedule"),
            to_datetime(instant.at),
            seconds_until(following, instant),
        )

    async def fire(
        self, firings: Sequence[Firing], *, origin: str | None = None, now: datetime | None = None
    ) -> TaskNews:

        def fire(connection: apsw.Connection) -> TaskNews:
            instant = self._clock.now(now)
            names = encode(sorted({firing.name for firing in firings}))
            found = {row[0]: row[4] for row in fetch(connection, _SQL["schedules_find"], {"names": names})}
            moved, fired = [], []
            for firing in firings:
                moved.append(found.get(firing.name) == to_microseconds(firing.at))
                if moved[-1]:
                    found[firing.name] = None
                    fired.append(firing)
            rows = [
                (
                    one.name,
                    to_microseconds(one.next_at),
                    _due(one.next_at, instant),
                    _due_or_none(one.since_at, instant),
                    int(one.task is not None),
                )
                for one in fired
            ]
            connection.execute(_SQL["schedules_fire"], {"rows": encode(rows)})
            news = assigning.submit(connection, [one.task for one in fired if one.task is not None], origin, instant)
            return TaskNews(moved, news.processes)

        return await self._engine.write(fire) if firings else TaskNews([])


def _due(at: datetime, instant: Instant) -> int:
    """The same instant in store time, which does not jump with the wall clock."""
    return instant.due + to_microseconds(at) - instant.at


def _due_or_none(at: datetime | None, instant: Instant) -> int | None:
    return None if at is None else _due(at, instant)


def _row(row: list[Any]) -> ScheduleRow:
    *body, next_at, fired, fired_at, created_at = row
    values: list[Any] = [*body, to_datetime(next_at), fired, to_datetime_or_none(fired_at), to_datetime(created_at)]
    return ScheduleRow(*values)
