"""What ten thousand workers and a long queue of tasks cost on PostgreSQL, counted in the pages that are looked at."""

from __future__ import annotations

import json
import os
from typing import Any

import asyncpg

from agent_messaging.models import TaskState
from agent_messaging.storage.batches import ABOVE_ALL
from agent_messaging.storage.sql import Queries
from tests.conformance.coordination import Crew
from tests.postgres.conftest import StoreMaker

WORKERS = 10_000
TASKS = 1_000_000 if os.environ.get("TESTS_ALL") == "1" else 50_000
KINDS = 100
SQL = {
    name: Queries("agent_messaging.storage.postgres", noun)[name]
    for noun, names in {
        "workers": ("workers_find_free", "workers_find_available", "workers_find_pullers"),
        "tasks": (
            "tasks_find_to_assign",
            "tasks_find_takeable",
            "tasks_next",
            "tasks_find_suspect",
            "tasks_insert",
            "tasks_take",
            "tasks_end",
            "tasks_find_place",
            "tasks_list",
            "tasks_statistics",
            "tasks_find_ended",
            "tasks_redrive",
        ),
    }.items()
    for name in names
}
CLEAR = "truncate tasks; delete from workers where id like 'many-%'"
FILL_WORKERS = """
with made as (
  insert into workers (id, role, capabilities, capacity, status, alive_until, pulls, registered_at, heartbeat_at,
    idle_at)
  select 'many-' || n, 'worker', array['kind-' || n % $2::integer], 4, 'active', now() + interval '1 day', true, now(),
    now(), now() + make_interval(secs => n)
  from generate_series(1, $1::integer) n returning id
)
insert into worker_processes
select id, ('00000000-0000-7000-8000-0000000000' || lpad((length(id) * 7 % 50)::text, 2, '0'))::uuid from made
"""
FILL_TASKS = """
insert into tasks (id, type, description, needs, priority, content, checksum, is_assigned, state, max_attempts,
  queued_at, created_at)
select 'many-' || i.assigned || n, 'build', '', array[i.need], 2, '{}', 0, i.assigned, 'queued', 3, now(), now()
from generate_series(1, $1::integer) n cross join (values ('kind-50', false), ('nobody', true)) as i (need, assigned)
"""


async def fill(connection: Any, workers: int, tasks: int) -> None:
    """Have so many workers of a hundred kinds, and tasks that wait: for one kind, and for somebody who is not there."""
    await connection.execute(CLEAR)
    await connection.execute(FILL_WORKERS, workers, KINDS)
    await connection.execute(FILL_TASKS, tasks // 2)
    await connection.execute("vacuum analyze tasks, workers, worker_processes")


async def pages(connection: Any) -> dict[str, int]:
    """The pages that each statement looks at."""
    request = [[0], ["puller"], [None], [json.dumps(["kind-50"])], ["[]"]]
    given: dict[str, list[Any]] = {
        "workers_find_free": [['["kind-7"]'], 65, None],
        "workers_find_available": [["rare"], 10, None],
        "workers_find_pullers": [],
        "tasks_find_to_assign": [100, None],
        "tasks_find_takeable": [*request, 64, None],
        "tasks_next": [None],
        "tasks_find_suspect": ["00000000-0000-7000-8000-000000000000"],
    }
    found = {name: await _read(connection, name, values) for name, values in given.items()}
    for states in (["queued"], ["running", "failed"]):
        values = [states, None, None, None, "states", 50, 0, 0, ABOVE_ALL]
        found[f"tasks_list of {states}"] = await _read(connection, "tasks_list", values)
    found["tasks_list of a supervisor"] = await _read(
        connection, "tasks_list", [["queued"], None, None, "s", "open", 50, 0, 0, ABOVE_ALL]
    )
    sifted: dict[str, list[Any]] = {
        "a type": [None, "rare", None, None, "all"],
        "a worker": [["queued"], None, "expert", None, "states"],
    }
    for what, (states, type_, worker, supervisor, way) in sifted.items():
        ends = [states, supervisor, way, ABOVE_ALL, 1_000]
        found[f"tasks_find_place of {what}"] = await _read(connection, "tasks_find_place", ends)
        place = await connection.fetchval(SQL["tasks_find_place"], *ends)
        values = [states, type_, worker, supervisor, way, 50, 0, place, ABOVE_ALL]
        found[f"tasks_list of {what}"] = await _read(connection, "tasks_list", values)
    for supervisor in (None, "s"):
        found[f"tasks_statistics of {supervisor}"] = await _read(connection, "tasks_statistics", [supervisor, None])
    return found | await _write(connection)


async def _write(connection: Any) -> dict[str, int]:
    """The same of a task that is put, taken and settled; nothing of it stays."""
    id, owner = "one", "00000000-0000-7000-8000-000000000000"
    task = [id, "build", "", '["kind-50"]', 0, "{}", 0, None, False, "s", 3, 60.0, 0.0, None, "queued", 0, 0]
    task += [None, None]  # its worker, and its trace
    await connection.execute("savepoint before")
    found = {"tasks_insert": await _read(connection, "tasks_insert", [*[[one] for one in task], owner, None])}
    seq = await connection.fetchval("select seq from tasks where id = $1", id)
    found["tasks_take"] = await _read(connection, "tasks_take", [[seq], ["puller"], [60.0], owner, 60.0, None])
    end = [seq, "done", 1, 0.0, "done", None, None, "1", 0, True, False, "puller"]
    found["tasks_end"] = await _read(connection, "tasks_end", [*[[one] for one in end], None])
    found["tasks_find_ended"] = await _read(connection, "tasks_find_ended", [[id, "none"]])
    found["tasks_redrive"] = await _read(connection, "tasks_redrive", [None, None, None])
    await connection.execute("rollback to savepoint before")
    return found


async def _read(connection: Any, name: str, values: list[Any]) -> int:
    plan = await connection.fetchval(f"explain (analyze, buffers, format json) {SQL[name]}", *values)
    (told,) = json.loads(plan)
    return int(told["Plan"]["Shared Hit Blocks"] + told["Plan"]["Shared Read Blocks"])


async def test_workers_and_tasks_that_do_not_matter_cost_nothing(postgres_dsn: str, open_store: StoreMaker) -> None:
    store = await open_store(postgres_dsn)
    crew = Crew(store)
    await crew.hire("puller", "kind-50", pulls=True)
    await crew.hire("expert", "rare")
    connection = await asyncpg.connect(postgres_dsn)
    try:
        await fill(connection, 20 * KINDS, 20 * KINDS)
        few = await store.engine.run(pages, write=True)
        await fill(connection, WORKERS, TASKS)
        many = await store.engine.run(pages, write=True)
        # What is found is locked: of all kinds together as many as are wanted, not of each.
        needs = ['["kind-7"]', '["kind-8"]', "[]"]
        found = await store.engine.run(lambda own: own.fetch(SQL["workers_find_free"], needs, 9, None), write=False)
        assert 2 * 9 < len(found) <= 3 * 9
    finally:
        await connection.close()
    assert (await store.tasks.statistics()).counts == {TaskState.QUEUED: TASKS}
    # A tree may have become a level deeper, and a kind has more workers than are wanted.
    assert {name: (few[name], seen) for name, seen in many.items() if seen > 2 * few[name] + 200} == {}
