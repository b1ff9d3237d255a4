"""Schedules over the whole SDK, and their rules."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from agent_messaging import InvalidArgumentError, TaskContext
from agent_messaging.delivery.schedules import next_after, task_id_of
from agent_messaging.storage.ports import NewSchedule
from agent_messaging.storage.sqlite import clock
from tests.support import eventually

from .support import SOON, MakeSdk

NOON = datetime(2026, 3, 28, 12, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("rule", "zone", "now", "expected"),
    [
        ("every 60.0", "UTC", "2026-03-28T12:00:00", "2026-03-28T12:01:00"),
        ("every 60.0", "UTC", "2026-03-28T12:03:30", "2026-03-28T12:04:00"),  # what was missed is passed over
        ("every 0.5", "UTC", "2026-03-28T11:00:00", "2026-03-28T11:00:00.500000"),  # the clock was set back
        ("*/15 * * * *", "UTC", "2026-03-28T11:07:00", "2026-03-28T12:15:00"),  # these wait until it has caught up
        ("*/15 * * * *", "UTC", "2026-03-28T12:07:00", "2026-03-28T12:15:00"),
        ("0 3 * * mon", "UTC", "2026-03-28T12:00:00", "2026-03-30T03:00:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00", "2026-03-29T01:00:00"),  # the hour that is left out
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T12:00:00", "2026-03-30T00:30:00"),
    ],
)
def test_the_next_instant_of_a_rule(rule: str, zone: str, now: str, expected: str) -> None:
    assert next_after(rule, zone, NOON, at(now)) == at(expected)


def test_an_hour_that_comes_twice_fires_once() -> None:
    first = next_after("30 2 * * *", "Europe/Berlin", NOON, at("2026-10-24T12:00:00"))
    assert next_after("30 2 * * *", "Europe/Berlin", first, first) == at("2026-10-26T01:30:00")


async def test_a_schedule_hands_its_task_out_again_and_again(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    done: list[str] = []

    @sdk.register_task_handler("w", capabilities=["report"])
    async def report(payload: Any, context: TaskContext) -> None:
        assert payload == {"day": "é"}
        done.append(context.task_id)

    assert await sdk.tasks.schedule("often", "report", {"day": "é"}, every=1)
    assert not await sdk.tasks.schedule("often", "report", {"day": "é"}, every=1)
    await eventually(lambda: done, SOON, until=lambda seen: len(seen) >= 2)
    (schedule,) = await sdk.tasks.schedules()
    assert (schedule.name, schedule.every, schedule.cron, schedule.task_type) == ("often", 1, None, "report")
    assert schedule.fired_at is not None
    assert done[schedule.fired - 1] == task_id_of("often", schedule.fired_at)
    assert await sdk.tasks.unschedule("often")
    assert not await sdk.tasks.unschedule("often")
    assert await sdk.tasks.schedules() == []
    assert len(set(done)) == len(done)


@pytest.mark.parametrize("backend", ["sqlite", "postgres", "redis"], indirect=True)
async def test_each_instant_fires_once_over_all_processes(make_sdk: MakeSdk) -> None:
    sdks = [await make_sdk() for _ in range(3)]
    for sdk in sdks:
        await sdk.tasks.schedule("often", "report", every=1)
    async with asyncio.timeout(SOON):
        while (await sdks[0].tasks.schedules())[0].fired < 3:
            await asyncio.sleep(0.02)
    await sdks[0].tasks.unschedule("often")
    names = [task.task_id for task in await sdks[1].tasks.list()]
    assert len(set(names)) == len(names) >= 3
    instants = sorted(datetime.fromisoformat(name.partition("@")[2]) for name in names)
    assert all(later - earlier >= timedelta(seconds=1) for earlier, later in pairwise(instants))


@pytest.mark.parametrize("backend", ["sqlite", "postgres", "redis"], indirect=True)
async def test_instants_at_which_nobody_was_there_are_made_up_for_by_one(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.tasks.schedule("nightly", "report", cron="0 3 * * *", timezone="Europe/Berlin")
    (schedule,) = await sdk.tasks.schedules()
    assert (schedule.cron, schedule.timezone) == ("0 3 * * *", "Europe/Berlin")
    row = (await sdk.tasks.engine.workplace.store.schedules.list_schedules(10, 0))[0]
    await sdk.tasks.unschedule("nightly")
    # As if it had been due three days ago.
    missed = row.next_at - timedelta(days=3)
    await sdk.tasks.engine.workplace.store.schedules.put(NewSchedule("nightly", row.rule, row.zone, row.task, missed))
    async with asyncio.timeout(SOON):
        while not (tasks := await sdk.tasks.list()):
            await sdk.tasks.engine.schedules.fire()
    assert [task.task_id for task in tasks] == [task_id_of("nightly", missed)]
    (schedule,) = await sdk.tasks.schedules()
    assert (schedule.fired, schedule.next_at) == (1, row.next_at)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)  # on servers the store's clock does not jump
async def test_an_interval_goes_on_where_the_clock_is_set_back(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = await make_sdk()
    await sdk.tasks.schedule("often", "report", every=1)

    async def fired() -> int:
        return (await sdk.tasks.schedules())[0].fired

    await eventually(fired, SOON)
    monkeypatch.setattr(clock, "wall_clock", lambda: time.time_ns() // 1000 - 3_600_000_000)
    seen = await fired()
    await eventually(fired, SOON, until=lambda number: number >= seen + 2)
    names = [task.task_id for task in await sdk.tasks.list()]
    assert len(set(names)) == len(names) >= seen + 2


@pytest.mark.sampled(1)
@pytest.mark.parametrize("backend", ["sqlite", "postgres", "redis"], indirect=True)
async def test_an_interval_goes_on_where_the_clock_was_set_back_while_nobody_was_there(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.tasks.schedule("often", "report", every=60)
    schedules = sdk.tasks.engine.workplace.store.schedules
    (row,) = await schedules.list_schedules(10, 0)
    ahead = datetime.now(UTC) + timedelta(hours=1)
    await schedules.put(NewSchedule("hidden", row.rule, row.zone, row.task, ahead, ahead - timedelta(seconds=60)))
    await sdk.tasks.engine.schedules.fire()
    found = {one.name: one for one in await sdk.tasks.schedules()}
    assert found["hidden"].next_at < ahead - timedelta(minutes=50)
    assert found["hidden"].fired == 0
    assert await sdk.tasks.list() == []


async def test_a_schedule_that_cannot_be_read_stops_no_other_and_is_told_once(
    make_sdk: MakeSdk, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays due, and is looked at whenever time passes for anything."""
    sdk = await make_sdk()
    await sdk.tasks.schedule("often", "report", every=60)
    schedules = sdk.tasks.engine.workplace.store.schedules
    (row,) = await schedules.list_schedules(10, 0)
    due_at = row.next_at - timedelta(minutes=2)
    await schedules.put(NewSchedule("bad", "nonsense", row.zone, row.task, due_at))
    await schedules.put(NewSchedule("good", row.rule, row.zone, row.task, due_at))
    for _ in range(3):
        await sdk.tasks.engine.schedules.fire()
    assert [task.task_id for task in await sdk.tasks.list()] == [task_id_of("good", due_at)]
    assert len([one for one in caplog.messages if "'bad'" in one]) == 1


async def test_bad_rules_are_refused(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    refused: list[dict[str, Any]] = [
        {},
        {"cron": "0 3 * * *", "every": 5},
        {"cron": "3 o'clock"},
        {"cron": "0 0 31 2 *"},
        {"cron": 5},
        {"every": 0.5},
        {"every": True},
        {"every": 5, "timezone": "Mars/North"},
        {"every": 5, "expires_in": 0},
        {"every": 5, "priority": "soon"},
        {"every": 5, "name": "n" * 201},
        {"every": 5, "deadline": datetime.now(UTC) + timedelta(days=1)},
        {"every": 5, "delay": 60.0},
    ]
    for one in refused:
        with pytest.raises(InvalidArgumentError):
            await sdk.tasks.schedule(**({"name": "s", "task_type": "report"} | one))
    assert await sdk.tasks.schedules() == []
