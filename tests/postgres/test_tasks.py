"""Calls that hand out tasks at the same time: they share a commit, and neither answers nor failures."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent_messaging import AgentMessaging, Config, TaskContext
from agent_messaging.exceptions import DatabaseError, StorageBusyError
from agent_messaging.models import TaskState
from agent_messaging.storage.ports import Assigned, Settling, TaskClaim, TaskRequest, TaskSettlement
from agent_messaging.storage.postgres import assigning
from agent_messaging.storage.postgres.store import PostgresStore
from agent_messaging.storage.postgres.tasks import PostgresTasks
from tests.conformance.coordination import Crew
from tests.postgres.conftest import StoreMaker, execute
from tests.support import eventually

_COMMITS = "select count(distinct xmin::text) as count from tasks"


@pytest.fixture
async def store(postgres_dsn: str, open_store: StoreMaker) -> PostgresStore:
    """An open store."""
    return await open_store(postgres_dsn)


@pytest.fixture
def crew(store: PostgresStore) -> Crew:
    """It, with an instant from which a test counts."""
    return Crew(store)


async def test_calls_at_once_share_a_commit(postgres_dsn: str, crew: Crew) -> None:
    assert await asyncio.gather(*(crew.submit(f"t{n}") for n in range(100))) == [[True]] * 100
    (row,) = await execute(postgres_dsn, _COMMITS)
    assert row["count"] <= 2
    assert [*await crew.states()] == [f"t{n}" for n in reversed(range(100))]


async def test_each_call_is_told_of_its_own_tasks(crew: Crew) -> None:
    """Also where two bring the same task: the first stores it, whatever else they bring."""
    await crew.submit("old")
    wanted = [["a", "old"], ["old"], ["b", "c", "a"], ["c"], ["d"]]
    moved = await asyncio.gather(*(crew.submit(*names) for names in wanted))
    assert moved == [[True, False], [False], [True, True, False], [False], [True]]


async def test_no_commit_grows_beyond_what_one_may_hold(postgres_dsn: str, crew: Crew) -> None:
    names = [f"t{n}" for n in range(1_600)]
    await asyncio.gather(*(crew.submit(*names[start : start + 400]) for start in range(0, 1_600, 400)))
    (row,) = await execute(postgres_dsn, _COMMITS)
    assert row["count"] == 2


async def test_a_task_that_is_refused_refuses_no_other(crew: Crew) -> None:
    wanted = [crew.task("a"), crew.task("wrong", priority=99_999), crew.task("b")]
    answers = await asyncio.gather(*(crew.submit(task) for task in wanted), return_exceptions=True)
    assert [type(answer) for answer in answers] == [list, DatabaseError, list]
    assert (await crew.states()).keys() == {"a", "b"}


async def test_a_task_that_somebody_holds_up_holds_up_its_own_call_alone(
    postgres_dsn: str, open_store: StoreMaker, crew: Crew
) -> None:
    other = await open_store(postgres_dsn)
    stored, finish = asyncio.Event(), asyncio.Event()

    async def hold(connection: Any) -> None:
        await assigning.submit(connection, [crew.task("held")], None, None)
        stored.set()
        await finish.wait()

    holding = asyncio.create_task(other.engine.run(hold, write=True))
    await stored.wait()
    waiting = asyncio.create_task(crew.submit("held"))
    assert await asyncio.gather(*(crew.submit(name) for name in "ab")) == [[True], [True]]
    assert not waiting.done()
    finish.set()
    await holding
    assert await waiting == [False]


async def test_a_claim_that_is_still_being_committed_is_listed(
    postgres_dsn: str, open_store: StoreMaker, crew: Crew
) -> None:
    other = await open_store(postgres_dsn)
    await crew.hire("w", pulls=True, process_id=crew.owner)
    await crew.submit("t")
    taken, finish = asyncio.Event(), asyncio.Event()

    async def hold(connection: Any) -> None:
        await assigning.exchange(connection, [], [TaskRequest("w", 1, 30.0)], crew.owner, None)
        taken.set()
        await finish.wait()

    holding = asyncio.create_task(other.engine.run(hold, write=True))
    await taken.wait()
    listing = asyncio.create_task(crew.pool.list_claims(crew.owner))
    try:
        await eventually(lambda: execute(postgres_dsn, "select from pg_locks where not granted"))
    finally:
        finish.set()
        await holding
    assert await listing == [TaskClaim("t", 1)]


async def test_a_page_of_tasks_is_ended_and_taken_in_few_round_trips(postgres_dsn: str, open_store: StoreMaker) -> None:
    """In one, if one worker takes and there is nothing to judge."""
    store = await open_store(postgres_dsn, max_pool_size=1)
    crew, seen = Crew(store), list[str]()
    await crew.hire("a", capacity=40, pulls=True)
    await crew.hire("b", "other", capacity=40, pulls=True)

    async def count_statements(connection: Any) -> None:
        connection.add_query_logger(lambda record: seen.append(record.query))

    requests = [TaskRequest("a", 32, 30.0), TaskRequest("b", 32, 30.0)]
    await crew.submit(*(f"t{n}" for n in range(80)), *(crew.task(f"o{n}", "other") for n in range(80)))
    taken = (await crew.pool.exchange([], requests, owner=crew.owner)).claimed
    await store.engine.run(count_statements, write=False)
    for wanted, statements, number in ((requests, 5, 64), (requests[:1], 1, 16), ([], 1, 0)):
        seen.clear()
        ends = [TaskSettlement(one.claim, Settling.DONE, "1", 0) for one in taken]
        exchanged = await crew.pool.exchange(ends, wanted, owner=crew.owner)
        taken = exchanged.claimed
        assert exchanged.moved == [True] * len(ends)
        assert len(taken) == number
        assert len(seen) == statements, seen
    await crew.pool.exchange([TaskSettlement(one.claim, Settling.DONE, "1", 0) for one in taken], (), owner=crew.owner)
    assert [(await crew.worker(name)).booked for name in "ab"] == [0, 0]


async def test_what_has_to_be_judged_is_no_plain_page(postgres_dsn: str, open_store: StoreMaker) -> None:
    """An end that does not hold spoils no other; suspects are taken by the rules; no worker gets more than fits."""
    store = await open_store(postgres_dsn)
    crew = Crew(store)
    await crew.hire("a", capacity=3, pulls=True, process_id=crew.owner)
    await crew.submit("t1", "t2", "t3", "t4", "t5")
    request = TaskRequest("a", 3, 30.0)
    one, two, three = (await crew.pool.exchange([], [request], owner=crew.owner)).claimed
    done = [TaskSettlement(task.claim, Settling.DONE, "1", 0) for task in (one, two)]
    await crew.pool.cancel([two.claim.task_id], "no")
    exchanged = await crew.pool.exchange(done, [request], owner=crew.owner)
    assert exchanged.moved == [True, False]
    four, five = exchanged.claimed
    assert await crew.states() == {"t1": "done", "t2": "cancelled", "t3": "running", "t4": "running", "t5": "running"}
    assert (await crew.pool.exchange(done[:1], [request], owner=crew.owner)).moved == [True]  # a repeat

    await crew.submit("t6", "t7")
    exchanged = await crew.pool.exchange(
        [TaskSettlement(three.claim, Settling.DONE, "1", 0)], [request], owner=crew.owner
    )
    (six,) = exchanged.claimed  # it asked for three, and has room for one
    await crew.pool.release_tasks([crew.owner])
    ends = [TaskSettlement(task.claim, Settling.DONE, "1", 0) for task in (four, five, six)]
    exchanged = await crew.pool.exchange(ends, [request], owner=crew.owner)
    assert exchanged.moved == [False] * 3
    assert sorted(task.is_suspect for task in exchanged.claimed) == [False, True]
    assert (await crew.worker("a")).booked == 2


async def test_half_of_the_tasks_run_while_the_server_settles_the_others(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the process waits for the server, and then the server for the process."""
    under_way, ran = list[object](), list[bool]()

    async def exchange(pool: PostgresTasks, *values: Any, **named: Any) -> Any:
        under_way.append(None)
        try:
            return await original(pool, *values, **named)
        finally:
            under_way.pop()

    original = PostgresTasks.exchange
    monkeypatch.setattr(PostgresTasks, "exchange", exchange)
    sdk = AgentMessaging[Any, Any, Any](Config(url=postgres_dsn))

    @sdk.register_task_handler("w", capabilities=["build"], max_concurrent_tasks=32)
    async def build(payload: dict[str, Any], context: TaskContext) -> None:
        ran.append(bool(under_way))

    async with sdk:
        async for outcome in sdk.tasks.map("build", [{}] * 128):
            assert outcome.error is None
    assert len(ran) == 128
    assert sum(ran) >= 96


async def test_changes_of_counts_are_added_up_once_many_wait(
    postgres_dsn: str, store: PostgresStore, crew: Crew
) -> None:
    await crew.submit("t")
    await crew.put("m")
    # As many as a thousand statements leave, which together change nothing.
    series = "1 - 2 * (n % 2) from generate_series(1, 1002) n"
    await execute(
        postgres_dsn,
        f"insert into task_counts (supervisor, state, number) select 's', 'running', {series}",
        f"insert into queue_counts (agent_id, what, number) select 'a', 'claimed', {series}",
    )
    dues = await store.find_dues()
    assert (dues.tasks, dues.queue) == (0, 0)
    await store.tasks.advance()
    await store.queue.advance()
    dues = await store.find_dues()
    assert (dues.tasks, dues.queue) == (None, None)
    for table in ("task_counts", "queue_counts"):
        rows = await execute(postgres_dsn, f"select number, is_sum from {table}")
        assert {tuple(row) for row in rows} == {(1, True)}
    assert (await store.tasks.statistics()).counts == {TaskState.QUEUED: 1}
    assert (await store.queue.statistics()).by_priority == {2: 1}


async def test_a_booking_that_loses_its_workers_begins_anew_without_their_locks(
    postgres_dsn: str, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was locked is let go of before more is locked: otherwise two bookings could wait for each other."""
    tries = list[int]()
    find = assigning._find_free

    async def find_and_lose(connection: Any, *given: Any) -> Any:
        (row,) = await execute(postgres_dsn, "select count(*) from pg_locks where mode = 'RowShareLock'")
        tries.append(row["count"])
        workers = await find(connection, *given)
        if len(tries) == 1:
            raise assigning.CrowdedError
        return workers

    await crew.hire("w")
    monkeypatch.setattr(assigning, "_find_free", find_and_lose)
    assert [type(one) for one in await crew.assign("t")] == [Assigned]
    assert tries == [tries[0]] * 2
    monkeypatch.setattr(assigning, "SPARE_WORKERS", (-1,))  # nobody is looked at, and that is too few
    monkeypatch.setattr(assigning, "_find_free", find)
    with pytest.raises(StorageBusyError, match="Repeat it"):
        await crew.assign("u")
