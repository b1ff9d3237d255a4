"""What ten thousand workers and a long queue of tasks cost, counted in SQLite's own steps."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import apsw
import pytest

from agent_messaging.models import TaskState
from agent_messaging.storage import workload
from agent_messaging.storage.ports import Assigned, NobodyFits, Settling, TaskFilter, TaskRequest, TaskSettlement
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.coordination import LEASE, Crew
from tests.conformance.world import World

from .test_scale import cost, costs

WORKERS = 10_000
TASKS = 1_000_000 if os.environ.get("TESTS_ALL") == "1" else 100_000
KINDS = 100
FILL_WORKERS = """
with recursive n (value) as (select 1 union all select value + 1 from n where value < :number)
insert into workers (id, role, capabilities, capacity, status, alive_until_due, pulls, registered_at, heartbeat_at,
  idle_at)
select printf('many-%06d', value), 'worker', json_array(printf('kind-%02d', value % :kinds)), 4, 'active', :until, 1,
  1, 1, value + 1000
from n;
insert into worker_processes select id, 'process-' || (substr(id, 6) % 50) from workers where id like 'many-%'
"""
FILL_TASKS = """
with recursive n (value) as (select 1 union all select value + 1 from n where value < :number)
insert into tasks (id, type, description, needs, priority, content, checksum, is_assigned, state, token, attempt,
  max_attempts, queued_due, created_at)
select printf('many-%07d', value), 'build', '', :needs, 2, '{}', 0, :assigned, 'queued', 0, 0, 3, 1, 1
from n
"""
Call = Callable[[], Awaitable[Any]]


async def fill(store: SQLiteStore, crew: Crew, workers: int, tasks: int) -> None:
    """Have so many workers of a hundred kinds, and tasks that wait: for one kind, and for somebody who is not there."""

    def work(connection: apsw.Connection) -> None:
        connection.execute("delete from tasks; delete from workers where id like 'many-%'")
        connection.execute(FILL_WORKERS, {"number": workers, "kinds": KINDS, "until": 2**60})
        half = {"number": tasks // 2, "needs": '["kind-50"]', "assigned": 0}
        connection.execute(FILL_TASKS, half)
        connection.execute(FILL_TASKS.replace("many-", "more-"), {**half, "needs": '["nobody"]', "assigned": 1})

    await store.engine.write(work)


@pytest.fixture
async def crew(store: SQLiteStore) -> Crew:
    crew = Crew(store)
    await crew.hire("puller", "kind-50", pulls=True)
    await crew.hire("expert", "rare", capacity=1000)
    return crew


def calls(store: SQLiteStore, crew: Crew, world: World) -> dict[str, Call]:
    """What is done all the time, each as a call that leaves everything as it was."""
    numbers = iter(range(10**6))

    async def assign(need: str, fits: bool = True) -> None:
        id = f"t{next(numbers)}"
        (outcome,) = await crew.assign(crew.task(id, need))
        assert isinstance(outcome, Assigned if fits else NobodyFits)
        if fits:
            assert (await store.tasks.cancel([id], "no", now=crew.start)).moved == [True]

    async def exchange() -> None:
        request = TaskRequest("puller", 1, LEASE)
        (taken,) = (await store.tasks.exchange([], [request], owner=crew.owner, now=crew.start)).claimed
        back = [TaskSettlement(taken.claim, Settling.RETURNED)]
        assert (await store.tasks.settle(back, now=crew.start)).moved == [True]

    async def submit() -> None:
        id = f"t{next(numbers)}"
        assert await crew.submit(crew.task(id, "nobody", "at all")) == [True]
        await store.tasks.cancel([id], "no", now=crew.start)

    async def note() -> None:
        await world.send(world.alice, world.bob)
        (claimed,) = await world.claim(limit=1)
        await world.settle([claimed])

    return {
        "a note": note,
        "assign": lambda: assign("kind-07"),
        "assign to the only one": lambda: assign("rare"),
        "assign to nobody": lambda: assign("unknown", fits=False),
        "assign again": lambda: store.tasks.assign_waiting(100, now=crew.start),
        "take and give back": exchange,
        "find waiting": lambda: store.tasks.find_waiting(["puller"], now=crew.start),
        "submit": submit,
        "advance": lambda: store.tasks.advance(now=crew.start),
        "due": lambda: store.find_dues(crew.start),
        "page": lambda: store.tasks.list_tasks(TaskFilter(), 50, 0),
        "page of those that wait": lambda: store.tasks.list_tasks(TaskFilter(frozenset([TaskState.QUEUED])), 50, 0),
        "page of those that run": lambda: store.tasks.list_tasks(TaskFilter(frozenset([TaskState.RUNNING])), 50, 0),
        "open ones of a supervisor": lambda: store.tasks.list_tasks(
            TaskFilter(frozenset([TaskState.QUEUED]), supervisor="s"), 50, 0
        ),
        "statistics": lambda: store.tasks.statistics(now=crew.start),
        "statistics of a supervisor": lambda: store.tasks.statistics("s", now=crew.start),
        "redrive": lambda: store.tasks.redrive(None, now=crew.start),
        "find available": lambda: store.workers.find_available(["kind-07"], 10, now=crew.start),
    }


async def test_workers_and_tasks_that_do_not_matter_cost_nothing(store: SQLiteStore, crew: Crew, world: World) -> None:
    await fill(store, crew, KINDS, KINDS)
    few = {name: await cost(store, call) for name, call in calls(store, crew, world).items()}
    await fill(store, crew, WORKERS, TASKS)
    many = {name: await cost(store, call) for name, call in calls(store, crew, world).items()}
    assert {name: (few[name], steps) for name, steps in many.items() if steps > 1.5 * few[name] + 1000} == {}
    # What is sifted from all tasks is looked for in steps, between which others read; none is longer than a short list.
    rare: dict[str, dict[str, Any]] = {
        "type": {"type": "rare"},
        "worker": {"worker_id": "expert"},
        "queued of a worker": {"worker_id": "expert", "states": frozenset([TaskState.QUEUED])},
    }
    for name, which in rare.items():
        steps = await costs(store, partial(store.tasks.list_tasks, TaskFilter(**which), 50, 0))
        assert len(steps) == 2 * (TASKS // workload._STEP + 1), name
        assert max(steps) < 20 * workload._STEP, name
