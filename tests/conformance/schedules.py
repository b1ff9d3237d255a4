"""Schedules: rows that fire each instant once, whoever is there."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from agent_messaging.models import TaskState
from agent_messaging.storage.ports import Dues, DueSchedules, Firing, NewSchedule

from .coordination import CoordinationFixtures, Crew


class ScheduleConformance(CoordinationFixtures):
    """All of `ScheduleStore`."""

    async def test_a_schedule_is_stored_replaced_and_removed(self, crew: Crew) -> None:
        schedules = crew.store.schedules
        assert await schedules.put(self.new(crew.at(10)), now=crew.start)
        assert not await schedules.put(self.new(crew.at(20)), now=crew.at(1))
        (row,) = await schedules.list_schedules(10, 0)
        assert (row.name, row.rule, row.zone, row.task) == ("s é", "every 10.0", "UTC", "[]")
        assert (row.next_at, row.fired, row.fired_at) == (crew.at(10), 0, None)  # a rule that stays keeps its instant
        assert not await schedules.put(self.new(crew.at(30), rule="every 30.0"), now=crew.at(1))
        (row,) = await schedules.list_schedules(10, 0)
        assert (row.rule, row.next_at) == ("every 30.0", crew.at(30))
        assert await schedules.remove("s é")
        assert not await schedules.remove("s é")
        assert await schedules.list_schedules(10, 0) == []

    async def test_what_is_due_is_found_with_the_time_until_the_next(self, crew: Crew) -> None:
        assert await crew.store.schedules.find_due(10, now=crew.start) == DueSchedules([], [], crew.start, None)
        for name, seconds in (("a", 5), ("b", 10), ("c", 60)):
            await crew.store.schedules.put(self.new(crew.at(seconds), name=name), now=crew.start)
        assert await crew.store.schedules.find_due(10, now=crew.at(4)) == DueSchedules([], [], crew.at(4), 1)
        found = await crew.store.schedules.find_due(10, now=crew.at(12))
        assert ([row.name for row in found.due], found.next_in) == (["a", "b"], 48)
        assert len((await crew.store.schedules.find_due(1, now=crew.at(12))).due) == 1

    async def test_an_interval_that_has_yet_to_begin_stands_still_until_it_is_moved(self, crew: Crew) -> None:
        """As after the clock was set back by an hour, while nobody was there."""
        schedules = crew.store.schedules
        await schedules.put(self.new(crew.at(3610), since_at=crew.at(3600)), now=crew.at(3600))
        found = await schedules.find_due(10, now=crew.start)
        assert ([row.name for row in found.stalled], found.due) == (["s é"], [])
        assert ((await crew.store.find_dues(crew.start)).schedules or 0) <= 0
        moved = Firing("s é", crew.at(3610), crew.at(10), None, crew.start)
        assert (await schedules.fire([moved], now=crew.start)).moved == [True]
        assert (await schedules.fire([moved], now=crew.start)).moved == [False]
        assert await crew.states() == {}
        (row,) = await schedules.list_schedules(10, 0)
        assert (row.next_at, row.fired, row.fired_at) == (crew.at(10), 0, None)
        assert await schedules.find_due(10, now=crew.start) == DueSchedules([], [], crew.start, 10)
        assert (await crew.store.find_dues(crew.start)).schedules == 10
        assert [one.name for one in (await schedules.find_due(10, now=crew.at(10))).due] == ["s é"]

    async def test_one_question_tells_when_each_kind_of_work_is_due(self, crew: Crew) -> None:
        assert await crew.store.find_dues(crew.start) == Dues(None, None, None, None, None)
        await crew.store.schedules.put(self.new(crew.at(5)), now=crew.start)
        await crew.store.schedules.put(self.new(crew.at(9), name="later"), now=crew.start)
        await crew.put(crew.message("m", expires_in=60.0))
        await crew.store.tasks.submit([crew.task("t", delay=30.0)], now=crew.start)
        assert await crew.store.find_dues(crew.start) == Dues(None, None, 30, 5, 60)
        dues = await crew.store.find_dues(crew.at(7))
        assert dues.schedules is not None
        assert dues.schedules <= 0
        assert dues == Dues(None, None, 23, dues.schedules, 53)

    async def test_an_instant_fires_once_and_hands_its_task_out_in_the_same_step(
        self, crew: Crew, second: Crew
    ) -> None:
        await crew.store.schedules.put(self.new(crew.at(5)), now=crew.start)
        firing = Firing("s é", crew.at(5), crew.at(15), crew.task("s@5"))
        stores = [crew.store, second.store] * 3
        news = await asyncio.gather(*(one.schedules.fire([firing], now=crew.at(6)) for one in stores))
        assert sorted(one.moved for one in news) == [[False]] * 5 + [[True]]
        assert await crew.states() == {"s@5": TaskState.QUEUED}
        (row,) = await crew.store.schedules.list_schedules(10, 0)
        assert (row.next_at, row.fired, row.fired_at) == (crew.at(15), 1, crew.at(5))

    async def test_a_schedule_that_was_changed_or_removed_hands_nothing_out(self, crew: Crew) -> None:
        await crew.store.schedules.put(self.new(crew.at(5)), now=crew.start)
        stale = Firing("s é", crew.at(4), crew.at(15), crew.task("stale"))
        gone = Firing("gone", crew.at(5), crew.at(15), crew.task("gone"))
        good = Firing("s é", crew.at(5), crew.at(15), crew.task("good"))
        news = await crew.store.schedules.fire([stale, gone, good, good], now=crew.at(6))
        assert news.moved == [False, False, True, False]
        assert await crew.states() == {"good": TaskState.QUEUED}

    def new(self, next_at: datetime, **options: Any) -> NewSchedule:
        """A schedule of every ten seconds, where not said otherwise."""
        values = {"name": "s é", "rule": "every 10.0", "zone": "UTC", "task": "[]"} | options
        return NewSchedule(next_at=next_at, **values)
