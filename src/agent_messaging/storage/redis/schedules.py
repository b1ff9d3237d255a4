"""Schedules on Redis: see `lua/pool.lua` for what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ..ports import DueSchedules, Firing, NewSchedule, ScheduleRow, TaskNews
from .engine import Engine, micros
from .tasks import read_news, task_arguments
from .values import instant, number, seconds, text


class RedisSchedules:
    """See `ports.ScheduleStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def put(self, schedule: NewSchedule, *, now: datetime | None = None) -> bool:
        given = {
            "name": schedule.name,
            "rule": schedule.rule,
            "zone": schedule.zone,
            "task": schedule.task,
            "next": str(micros(schedule.next_at)),
            "since": _since(schedule),
        }
        return bool(await self._engine.call("put_schedule", now=now, schedule=given))

    async def remove(self, name: str) -> bool:
        return bool(await self._engine.call("remove_schedule", name=name))

    async def list_schedules(self, limit: int, offset: int) -> list[ScheduleRow]:
        rows = await self._engine.call("list_schedules", limit=limit, offset=offset)
        return self._engine.aside.all(_read, rows, "a schedule")

    async def find_due(self, limit: int, *, now: datetime | None = None) -> DueSchedules:
        due, stalled, today, following = await self._engine.call("find_due_schedules", now=now, limit=limit)
        return DueSchedules(
            self._engine.aside.all(_read, due, "a schedule"),
            self._engine.aside.all(_read, stalled, "a schedule"),
            instant(today),
            seconds(following),
        )

    async def fire(
        self, firings: Sequence[Firing], *, origin: str | None = None, now: datetime | None = None
    ) -> TaskNews:
        if not firings:
            return TaskNews([])
        given = [
            {
                "name": firing.name,
                "at": micros(firing.at),
                "next": str(micros(firing.next_at)),
                "since": _since(firing),
                "task": None if firing.task is None else task_arguments(firing.task),
            }
            for firing in firings
        ]
        return read_news(await self._engine.call("fire", now=now, origin=origin, firings=given))


def _since(one: NewSchedule | Firing) -> str | None:
    return None if one.since_at is None else str(micros(one.since_at))


def _read(row: list[bytes]) -> ScheduleRow:
    rule, zone, task, next_at, fired, fired_at, created, name = row
    return ScheduleRow(
        name=text(name),
        rule=text(rule),
        zone=text(zone),
        task=text(task),
        next_at=instant(next_at),
        fired=number(fired),
        fired_at=instant(fired_at) if fired_at else None,
        created_at=instant(created),
    )
