"""Workers and tasks: booked in one step, never above a worker's capacity, one result each, taken from the dead."""

from __future__ import annotations

import asyncio

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import TaskState
from agent_messaging.storage import workload
from agent_messaging.storage.ports import (
    Assigned,
    Beat,
    KnownTask,
    NobodyFits,
    Progress,
    Settling,
    Stock,
    TaskClaim,
    TaskFilter,
    TaskSettlement,
)

from .base import Processes
from .coordination import LEASE, TTL, CoordinationFixtures, Crew, ids


def claim(task_id: str = "t", token: int = 1) -> TaskClaim:
    """A booking or run of a task."""
    return TaskClaim(task_id, token)


class WorkerConformance(CoordinationFixtures):
    """All of `WorkerStore`."""

    async def test_a_worker_is_found_at_once_and_registering_again_replaces_it(self, crew: Crew) -> None:
        assert await crew.hire("w", "é", "sql", capacity=3, metadata='{"a":1}')
        (row,) = await crew.store.workers.find_available(["sql"], 10, now=crew.start)
        assert (row.worker_id, row.capabilities, row.capacity, row.status) == ("w", ("é", "sql"), 3, "active")
        assert (row.metadata, row.booked, row.registered_at) == ('{"a":1}', 0, crew.start)
        assert not await crew.hire("w", "python", at=5)
        row = await crew.worker(at=5)
        assert (row.capabilities, row.capacity, row.registered_at) == (("python",), 2, crew.start)
        assert await crew.store.workers.find_workers(["nobody"], now=crew.start) == []

    async def test_those_who_can_do_it_are_listed_in_the_order_of_choice_and_full_ones_last(self, crew: Crew) -> None:
        await crew.hire("other", "cobol")
        await crew.hire("full")
        await crew.hire("half", at=1)
        await crew.hire("late", "python", "sql", at=3)
        await crew.hire("early", "python", "sql", at=2)
        beats = [Beat("full", TTL, reported=2), Beat("half", TTL, reported=1), Beat("nobody", TTL)]
        assert await crew.store.workers.heartbeat(beats, now=crew.at(4)) == [True, True, False]
        found = await crew.store.workers.find_available(["python"], 10, now=crew.at(5))
        assert [(row.worker_id, row.load) for row in found] == [("early", 0), ("late", 0), ("half", 0.5), ("full", 1)]
        found = await crew.store.workers.find_available(["sql", "python"], 1, now=crew.at(5))
        assert [row.worker_id for row in found] == ["early"]
        assert len(await crew.store.workers.find_available([], 10, now=crew.at(5))) == 5

    async def test_a_worker_is_alive_until_its_heartbeat_is_too_old(self, crew: Crew) -> None:
        await crew.hire("w", ttl=10.0)
        assert (await crew.worker(at=9)).is_alive
        assert not (await crew.worker(at=10)).is_alive
        assert await crew.store.workers.find_available([], 10, now=crew.at(10)) == []
        assert await crew.store.workers.heartbeat([Beat("w", 10.0)], now=crew.at(12)) == [True]
        assert (await crew.worker(at=21)).is_alive

    async def test_a_worker_takes_tasks_with_two_words_of_its_status_alone(self, crew: Crew) -> None:
        await crew.hire()
        for status, listed in (("busy", 0), ("idle", 1), ("paused", 0), ("active", 1)):
            await crew.store.workers.heartbeat([Beat("w", TTL, status)], now=crew.start)
            assert len(await crew.store.workers.find_available([], 10, now=crew.start)) == listed
            assert (await crew.worker()).status == status

    async def test_the_stale_are_forgotten_and_the_living_stay(self, crew: Crew) -> None:
        await crew.hire("old", ttl=10.0)
        await crew.hire("new")
        assert await crew.store.workers.remove_stale(10, now=crew.at(5)) == []
        assert await crew.store.workers.remove_stale(10, now=crew.at(11)) == ["old"]
        assert [row.worker_id for row in await crew.store.workers.list_workers(10, 0, now=crew.start)] == ["new"]

    async def test_a_worker_that_leaves_gives_its_tasks_back_uncounted(self, crew: Crew) -> None:
        await crew.hire()
        await crew.assign("t")
        assert await crew.store.workers.unregister("w", now=crew.at(1))
        assert not await crew.store.workers.unregister("w", now=crew.at(1))
        row = await crew.find()
        assert (row.state, row.attempt) == (TaskState.QUEUED, 0)
        assert not await crew.end(claim())

    async def test_workers_are_listed_in_pages_and_counted(self, crew: Crew) -> None:
        for number, role in enumerate(("worker", "worker", "tester")):
            await crew.hire(f"w{number}", role=role, capacity=number + 1)
        await crew.hire("dead", ttl=1.0)
        await crew.store.workers.heartbeat([Beat("w0", TTL, "busy", 1)], now=crew.at(1))
        pages = [await crew.store.workers.list_workers(2, offset, now=crew.at(2)) for offset in (0, 2)]
        assert [[row.worker_id for row in page] for page in pages] == [["dead", "w0"], ["w1", "w2"]]
        statistics = await crew.store.workers.worker_statistics(now=crew.at(2))
        assert (statistics.total, statistics.alive) == (4, 3)
        assert statistics.by_role == {"worker": 3, "tester": 1}
        assert statistics.by_status == {"busy": 1, "active": 3}
        assert (statistics.busy, statistics.capacity) == (1, 6)
        assert statistics.load == pytest.approx(1 / 3)


class TaskConformance(CoordinationFixtures):
    """All of `TaskStore`."""

    async def test_a_task_is_booked_for_the_least_loaded_then_the_longest_idle(self, crew: Crew) -> None:
        await crew.hire("b", at=1)
        await crew.hire("a", at=2)
        await crew.hire("other", "cobol")
        outcomes = await crew.assign("t1", "t2", "t3", at=3)
        assert outcomes == [Assigned("t1", "b", 1), Assigned("t2", "a", 1), Assigned("t3", "b", 1)]
        assert (await crew.worker("b", at=3)).booked == 2
        row = await crew.find("t1")
        assert (row.state, row.worker_id, row.token, row.attempt) == (TaskState.ASSIGNED, "b", 1, 1)
        assert (row.assigned_at, row.origin) == (crew.at(3), crew.owner)
        # Whoever has ended a task is idle since then.
        assert await crew.end(claim("t2"), at=4)
        assert await crew.assign("t4", at=5) == [Assigned("t4", "a", 1)]

    async def test_where_nobody_fits_nothing_is_stored(self, crew: Crew) -> None:
        await crew.hire("w", "python", "sql", capacity=1)
        both = crew.task("t1", "python", "sql"), crew.task("t2", "python")
        assert await crew.assign(crew.task("t0", "go"), *both) == [NobodyFits(), Assigned("t1", "w", 1), NobodyFits()]
        assert await crew.states() == {"t1": TaskState.ASSIGNED}
        assert await crew.assign("t2", at=TTL + 1) == [NobodyFits()]

    async def test_a_full_report_is_believed(self, crew: Crew) -> None:
        await crew.hire()
        await crew.store.workers.heartbeat([Beat("w", TTL, reported=2)], now=crew.start)
        assert await crew.assign("t") == [NobodyFits()]
        await crew.store.workers.heartbeat([Beat("w", TTL, reported=0)], now=crew.start)
        assert await crew.assign("t") == [Assigned("t", "w", 1)]

    async def test_a_repeat_answers_what_became_of_the_first(self, crew: Crew) -> None:
        await crew.hire()
        first, repeat = await crew.assign("t", "t")
        assert first == Assigned("t", "w", 1)
        assert repeat == KnownTask(TaskState.ASSIGNED, "w", 1)
        assert await crew.end(claim(), result='"r"', checksum=3)
        assert await crew.assign("t") == [KnownTask(TaskState.DONE, "w", 1)]
        assert (await crew.worker()).booked == 0

    async def test_the_worker_is_told_in_the_same_step(self, crew: Crew) -> None:
        await crew.hire("w", capacity=1)
        message = crew.message("told", "", content='{"task":"t"}', priority=1)
        await crew.store.queue.listen("01890000-0000-7000-8000-000000000001", ["w"])
        news = await crew.store.tasks.assign([crew.task(message=message), crew.task("u", message=message)])
        assert news.outcomes == [Assigned("t", "w", 1), NobodyFits()]
        (told,) = await crew.claim(agent_id="w")
        assert (told.claim.message_id, told.content, told.priority) == ("told", '{"task":"t"}', 1)

    async def test_a_task_has_one_result(self, crew: Crew) -> None:
        await crew.hire()
        await crew.assign("t")
        assert await crew.end(claim(), result='{"é":1}', checksum=11, at=5)
        assert await crew.end(claim(), result='"other"', checksum=12, at=6)  # a repeat, whatever it says
        assert not await crew.end(claim(), Settling.DEAD)
        row = await crew.find()
        assert (row.state, row.result, row.result_checksum, row.settled_at) == ("done", '{"é":1}', 11, crew.at(5))
        assert row.fraction == 1

    async def test_ends_are_found(self, crew: Crew) -> None:
        await crew.hire()
        await crew.assign(crew.task("t"), crew.task("open"))
        assert await crew.end(claim(), result='{"ok":1}', checksum=5)
        ended = await crew.store.tasks.find_ended(["t", "open", "none"])
        assert ended.keys() == {"t", "none"}
        assert ended["none"] is None
        row = ended["t"]
        assert row is not None
        assert (row.state, row.result, row.result_checksum, row.reason) == (TaskState.DONE, '{"ok":1}', 5, None)

    async def test_a_failure_and_a_last_retry_end_the_task_with_the_reason(self, crew: Crew) -> None:
        await crew.hire("w", capacity=4)
        await crew.assign("t", crew.task("u", max_attempts=1))
        assert await crew.end(claim("t"), Settling.DEAD, reason="cannot be done", result='{"e":1}', checksum=3)
        assert await crew.end(claim("u"), Settling.RETRY, reason="away")
        for id, reason, event in (("t", "cannot be done", "dead"), ("u", "away", "failed")):
            row = await crew.find(id)
            assert (row.state, row.reason) == (TaskState.FAILED, reason)
            assert [entry["event"] for entry in row.log] == [event]
        assert (await crew.find("t")).result == '{"e":1}'
        assert (await crew.worker()).booked == 0

    async def test_a_retry_is_assigned_again_after_its_delay_with_a_message_of_its_own(self, crew: Crew) -> None:
        await crew.hire()
        await crew.assign(crew.task(message=crew.message("told", "")))
        assert await crew.end(claim(), Settling.RETRY, delay=5.0, reason="away")
        assert (await crew.store.tasks.assign_waiting(10, now=crew.at(1))).outcomes == []
        assert (await crew.store.tasks.advance(now=crew.at(5))).due == 1
        assert (await crew.store.tasks.assign_waiting(10, now=crew.at(5))).outcomes == [Assigned("t", "w", 2)]
        row = await crew.find()
        assert (row.state, row.attempt, row.token) == (TaskState.ASSIGNED, 2, 2)
        assert ids(await crew.claim(agent_id="w", at=5)) == ["told", "told-2"]
        assert not await crew.end(claim(token=1))
        assert await crew.end(claim(token=2), at=6)

    async def test_a_booking_that_goes_back_takes_no_other_attempt_away(self, crew: Crew) -> None:
        for pulls in (False, True):
            id = f"t{pulls}"
            await crew.hire(id, pulls=pulls)
            await crew.assign(id)
            assert await crew.end(claim(id), Settling.RETRY)
            assert (await crew.store.tasks.assign_waiting(10, now=crew.at(1))).outcomes == [Assigned(id, id, 2)]
            assert (await crew.find(id)).attempt == 2
            assert await crew.store.workers.unregister(id, now=crew.at(2))
            row = await crew.find(id)
            assert (row.state, row.attempt) == (TaskState.QUEUED, 1)
            await crew.store.tasks.cancel([id], "next")

    async def test_a_task_of_a_worker_that_is_gone_goes_to_another_and_the_late_result_is_refused(
        self, crew: Crew
    ) -> None:
        await crew.hire("gone", ttl=10.0)
        await crew.assign("t")
        await crew.hire("other", at=5)
        assert (await crew.store.tasks.advance(now=crew.at(9))).released == 0
        assert (await crew.store.tasks.advance(now=crew.at(9))).next_in == pytest.approx(1, abs=0.1)
        assert (await crew.store.tasks.advance(now=crew.at(10))).released == 1
        assert (await crew.store.tasks.assign_waiting(10, now=crew.at(10))).outcomes == [Assigned("t", "other", 2)]
        assert not await crew.end(claim("t", 1), result='"late"', checksum=1)
        assert await crew.end(claim("t", 2), result='"mine"', checksum=2)
        assert (await crew.find()).result == '"mine"'

    async def test_an_overdue_task_returns_and_fails_at_its_last_attempt(self, crew: Crew) -> None:
        await crew.hire("w", ttl=1000.0)
        await crew.assign(crew.task("t", run_limit=5.0), crew.task("u", run_limit=5.0, max_attempts=1))
        assert (await crew.store.tasks.advance(now=crew.at(4))).released == 0
        advanced = await crew.store.tasks.advance(now=crew.at(6))
        assert (advanced.released, advanced.processes) == (2, {crew.owner})
        assert await crew.states() == {"t": TaskState.QUEUED, "u": TaskState.FAILED}
        assert [entry["event"] for entry in (await crew.find("u")).log] == ["overdue"]
        assert (await crew.worker()).booked == 0

    async def test_what_nobody_can_do_hinders_no_other(self, crew: Crew) -> None:
        await crew.hire("go", "go", capacity=9)
        await crew.hire(capacity=9)
        await crew.assign(*(crew.task(f"go{n}", "go", priority=0) for n in range(3)), "t")
        for name in ("go", "w"):
            await crew.store.workers.unregister(name, now=crew.at(1))
        await crew.hire("w", at=2)
        assert (await crew.store.tasks.assign_waiting(2, now=crew.at(2))).outcomes == [Assigned("t", "w", 2)]
        await crew.hire("go", "go", at=3)
        outcomes = (await crew.store.tasks.assign_waiting(2, now=crew.at(3))).outcomes
        assert outcomes == [Assigned("go0", "go", 2), Assigned("go1", "go", 2)]

    async def test_a_deadline_ends_the_task_whoever_has_it(self, crew: Crew) -> None:
        await crew.hire(capacity=1, ttl=1000.0)
        await crew.assign(crew.task("t", expires_in=20.0))
        assert (await crew.store.tasks.advance(now=crew.at(20))).expired == 1
        assert (await crew.find()).state is TaskState.EXPIRED
        assert not await crew.end(claim())
        assert (await crew.worker()).booked == 0

    async def test_what_is_cancelled_has_ended_and_its_result_is_refused(self, crew: Crew) -> None:
        await crew.hire()
        await crew.assign("t", "done")
        await crew.end(claim("done"))
        news = await crew.store.tasks.cancel(["t", "done", "nobody", "t"], "not wanted", now=crew.at(1))
        assert (news.moved, news.processes) == ([True, False, False, False], {crew.owner})
        row = await crew.find()
        assert (row.state, row.reason) == (TaskState.CANCELLED, "not wanted")
        assert not await crew.end(claim())
        assert (await crew.worker()).booked == 0

    async def test_progress_counts_under_the_newest_token_alone(self, crew: Crew) -> None:
        await crew.hire()
        await crew.assign("t")
        reports = [Progress(claim(), 0.2), Progress(claim(token=9), 0.9), Progress(claim(), 0.4, "parsing é")]
        assert await crew.store.tasks.progress(reports) == [True, False, True]
        row = await crew.find()
        assert (row.fraction, row.note) == (0.4, "parsing é")

    async def test_what_a_dead_process_stored_stays(self, crew: Crew) -> None:
        await crew.hire()
        await crew.assign("t")
        assert await crew.store.tasks.release_tasks([crew.owner]) == 0
        assert (await crew.find()).state is TaskState.ASSIGNED

    @pytest.mark.parametrize("step", [workload._STEP, 2], ids=["at once", "in steps"])
    async def test_tasks_are_listed_by_state_type_worker_and_supervisor(
        self, crew: Crew, step: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(workload, "_STEP", step)
        await crew.hire("a", capacity=9)
        await crew.hire("b", "go")
        await crew.assign(crew.task("t1", supervisor="s"), crew.task("t2", type="test"), crew.task("t3", "go"))
        await crew.end(claim("t1"))

        async def find(limit: int = 10, offset: int = 0, **which: object) -> list[str]:
            chosen = TaskFilter(**which)  # type: ignore[arg-type]
            return [row.task_id for row in await crew.store.tasks.list_tasks(chosen, limit, offset)]

        assert await find() == ["t3", "t2", "t1"]
        assert await find(1, 1) == ["t2"]
        assert await find(states=frozenset([TaskState.DONE])) == ["t1"]
        assert await find(states=frozenset(TaskState)) == ["t3", "t2", "t1"]
        assert await find(1, 1, states=frozenset([TaskState.DONE, TaskState.ASSIGNED])) == ["t2"]
        assert await find(type="test") == ["t2"]
        assert await find(worker_id="b") == ["t3"]
        assert await find(supervisor="s", states=frozenset([TaskState.ASSIGNED])) == []
        assert await find(supervisor="s", states=frozenset([TaskState.ASSIGNED, TaskState.DONE])) == ["t1"]
        await crew.submit(
            crew.task("t4", supervisor="s"), crew.task("t5", delay=60.0), crew.task("t6", "go", supervisor="s")
        )
        assert await find(states=frozenset([TaskState.QUEUED])) == ["t6", "t5", "t4"]
        assert await find(supervisor="s", states=frozenset([TaskState.QUEUED, TaskState.RUNNING])) == ["t6", "t4"]
        await crew.store.tasks.cancel(["t4"], "no")
        assert await find(supervisor="s", states=frozenset([TaskState.QUEUED])) == ["t6"]
        assert await find(supervisor="s") == ["t6", "t4", "t1"]
        assert await find(1, 1, supervisor="s") == ["t4"]
        assert await find(2, 3) == ["t3", "t2"]
        assert await find(2, 1, type="build") == ["t5", "t4"]
        assert await find(2, 4, type="build") == ["t1"]
        assert await find(type="build", states=frozenset([TaskState.DONE, TaskState.ASSIGNED])) == ["t3", "t1"]
        assert await find(type="none") == []

    async def test_the_statistics_count_what_there_is(self, crew: Crew) -> None:
        assert (await crew.store.tasks.statistics()).counts == {}
        await crew.hire(capacity=9)
        await crew.assign(crew.task("t1", supervisor="s"), crew.task("t2", supervisor="s"), "t3")
        await crew.end(claim("t1"), at=2)
        await crew.end(claim("t2"), at=4)
        statistics = await crew.store.tasks.statistics("s", now=crew.at(5))
        assert statistics.counts == {TaskState.DONE: 2}
        assert statistics.average_duration == pytest.approx(3)
        assert statistics.oldest_queued_age is None
        assert (await crew.store.tasks.statistics()).counts == {TaskState.DONE: 2, TaskState.ASSIGNED: 1}
        await crew.submit(crew.task("t4", delay=600.0), at=6)
        await crew.submit(crew.task("t5", "go", priority=4), at=10)
        await crew.submit(crew.task("t6", priority=0, supervisor="s"), at=20)
        statistics = await crew.store.tasks.statistics(now=crew.at(30))
        assert statistics.counts == {TaskState.DONE: 2, TaskState.ASSIGNED: 1, TaskState.QUEUED: 3}
        assert statistics.average_duration == pytest.approx(3)
        assert statistics.oldest_queued_age == pytest.approx(20, abs=0.5)
        statistics = await crew.store.tasks.statistics("s", now=crew.at(30))
        assert statistics.counts == {TaskState.DONE: 2, TaskState.QUEUED: 1}
        assert statistics.oldest_queued_age == pytest.approx(10, abs=0.5)
        assert await crew.store.tasks.prune(60, 10, now=crew.at(100)) == 2
        await crew.store.tasks.cancel(["t6"], "no", now=crew.at(100))
        assert (await crew.store.tasks.statistics("s")).counts == {TaskState.CANCELLED: 1}
        assert (await crew.store.tasks.statistics("s")).average_duration is None

    async def test_only_what_has_ended_is_forgotten(self, crew: Crew) -> None:
        await crew.hire(capacity=9)
        await crew.assign("t1", "t2", "t3")
        await crew.end(claim("t1"), at=1)
        await crew.store.tasks.cancel(["t2"], "no", now=crew.at(1))
        assert await crew.store.tasks.measure(60, now=crew.at(30)) == Stock(0, 0)
        stock = await crew.store.tasks.measure(60, now=crew.at(100))
        assert stock.number == 2
        assert 2 < stock.size_bytes < 2_000
        assert await crew.store.tasks.prune(60, 10, now=crew.at(30)) == 0
        assert await crew.store.tasks.prune(60, 10, states=[TaskState.CANCELLED], now=crew.at(100)) == 1
        assert await crew.store.tasks.prune(60, 10, now=crew.at(100)) == 1
        assert await crew.states() == {"t3": TaskState.ASSIGNED}

    async def test_many_supervisors_never_overbook_a_worker_and_fill_it(self, crew: Crew, second: Crew) -> None:
        await crew.hire("w", capacity=5)
        await crew.hire("v", "python", "sql", capacity=2)
        calls = [
            (crew if number % 2 else second).assign(f"a{number}", crew.task(f"b{number}", "sql")) for number in range(8)
        ]
        outcomes = [outcome for found in await asyncio.gather(*calls) for outcome in found]
        given = [outcome.worker_id for outcome in outcomes if isinstance(outcome, Assigned)]
        assert sorted(given) == ["v"] * 2 + ["w"] * 5
        for name in ("v", "w"):
            assert (await crew.worker(name)).booked == given.count(name)


class PoolConformance(CoordinationFixtures):
    """All of `TaskPool` beside it."""

    async def test_a_worker_takes_what_it_can_do_by_priority_and_age_up_to_its_capacity(self, crew: Crew) -> None:
        await crew.hire("w", "python", "sql", pulls=True)
        tasks = crew.task("late"), crew.task("go", "go"), crew.task("first", "python", "sql", priority=0)
        assert await crew.submit(*tasks, "later", "late") == [True, True, True, True, False]
        taken = await crew.take()
        assert ids(taken) == ["first", "late"]
        assert [(one.worker_id, one.attempt, one.claim.token, one.run_limit) for one in taken] == [
            ("w", 1, 1, LEASE)
        ] * 2
        assert await crew.take() == []
        assert (await crew.worker()).booked == 2

    async def test_settling_makes_room_in_the_same_step(self, crew: Crew) -> None:
        await crew.hire(pulls=True)
        await crew.submit("t1", "t2", "t3")
        done = [TaskSettlement(one.claim, Settling.DONE, '"r"', 1) for one in await crew.take()]
        exchanged = await crew.exchange(settlements=[*done, TaskSettlement(claim("t3"), Settling.DONE)])
        assert exchanged.moved == [True, True, False]
        assert ids(exchanged.claimed) == ["t3"]
        assert exchanged.processes == {crew.owner}
        assert (await crew.worker()).booked == 1

    async def test_what_is_assigned_comes_first_and_counts_once(self, crew: Crew) -> None:
        await crew.hire(pulls=True)
        await crew.submit(crew.task("pool", priority=0, trace='{"traceparent":"x"}'))
        assert await crew.assign(crew.task("mine", priority=4, message=crew.message("told", ""))) == [
            Assigned("mine", "w", 1)
        ]
        assert await crew.claim(agent_id="w") == []  # who pulls is not told
        taken = await crew.take()
        assert ids(taken) == ["mine", "pool"]
        assert [one.trace for one in taken] == [None, '{"traceparent":"x"}']
        assert [(one.claim.token, one.attempt) for one in taken] == [(2, 1), (1, 1)]
        assert not await crew.end(claim("mine", 1))
        assert (await crew.find("mine")).state is TaskState.RUNNING

    async def test_only_the_types_that_are_asked_for_are_taken(self, crew: Crew) -> None:
        await crew.hire(pulls=True)
        await crew.submit(crew.task("a", type="x"), crew.task("b", type="y"))
        assert await crew.take(types=()) == []
        assert ids(await crew.take(types=("y", "z"))) == ["b"]

    async def test_an_unknown_worker_gets_nothing(self, crew: Crew) -> None:
        await crew.submit("t")
        assert await crew.take("nobody") == []
        assert await crew.pool.find_waiting(["nobody"]) == []

    async def test_who_has_something_to_take_is_found(self, crew: Crew) -> None:
        await crew.hire("w", pulls=True, capacity=1)
        await crew.hire("go", "go", pulls=True)
        find = crew.pool.find_waiting
        assert await find(["w", "go"], now=crew.start) == []
        await crew.submit("t", "u", crew.task("later", "go", delay=5.0))
        assert await find(["w", "go"], now=crew.start) == ["w"]
        await crew.take()
        assert await find(["w", "go"], now=crew.start) == []  # no room
        advanced = await crew.pool.advance(now=crew.at(5))
        assert advanced.due == 1
        assert await find(["w", "go"], now=crew.at(5)) == ["go"]

    async def test_of_two_that_could_take_one_task_both_are_found(self, crew: Crew) -> None:
        await crew.hire("full", pulls=True, capacity=1)
        await crew.submit("other")
        await crew.take("full")
        await crew.hire("a", pulls=True)
        await crew.hire("b", pulls=True)
        await crew.submit("t")
        assert await crew.pool.find_waiting(["b", "full", "a"], now=crew.start) == ["a", "b"]

    async def test_a_run_ends_before_the_deadline_and_has_the_limit_of_the_task(self, crew: Crew) -> None:
        await crew.hire("w", capacity=3, pulls=True)
        own, soon = crew.task("own", run_limit=7.0), crew.task("soon", expires_in=4.0)
        await crew.submit("plain", own, soon)
        limits = {one.claim.task_id: one.run_limit for one in await crew.take(at=1)}
        assert limits == {"plain": LEASE, "own": 7.0, "soon": pytest.approx(3.0)}

    async def test_what_a_dead_process_ran_returns_at_once_and_is_counted(self, crew: Crew) -> None:
        await crew.hire(pulls=True)
        dead = new_id()
        await crew.submit("t", crew.task("last", max_attempts=1))
        assert len(await crew.take(owner=dead)) == 2
        assert await crew.pool.list_claims(dead) == [claim("t"), claim("last")]
        assert await crew.pool.release_tasks([dead], now=crew.at(1)) == 2
        assert await crew.pool.release_tasks([dead], now=crew.at(1)) == 0
        assert await crew.states() == {"t": TaskState.QUEUED, "last": TaskState.FAILED}
        (again,) = await crew.take(at=2)
        assert (again.attempt, again.claim.token) == (2, 2)
        assert not await crew.end(claim("t", 1))
        assert await crew.pool.list_claims(dead) == []

    async def test_the_task_that_kills_its_process_is_found_and_the_others_are_not_counted(self, crew: Crew) -> None:
        await crew.hire(pulls=True, capacity=9)
        await crew.hire("v", pulls=True, capacity=9)
        dead, killed, other = new_id(), new_id(), new_id()
        await crew.submit(*(crew.task(id, max_attempts=9) for id in ("killer", "a", "b")))
        assert len(await crew.take(owner=dead)) == 3
        assert await crew.pool.release_tasks([dead], now=crew.at(1)) == 3
        await crew.submit("fresh", "more")
        # Of the suspects a process runs one at a time, over all its workers; what is fresh is not held up.
        taken = await crew.take(owner=killed, at=2)
        assert [(one.claim.task_id, one.is_suspect) for one in taken] == [
            ("killer", True),
            ("fresh", False),
            ("more", False),
        ]
        assert await crew.take("v", owner=killed, at=2) == []
        (elsewhere,) = await crew.take("v", owner=other, at=2)
        assert (elsewhere.claim.task_id, elsewhere.attempt) == ("a", 2)
        assert await crew.pool.release_tasks([killed], now=crew.at(3)) == 3
        assert {id: (await crew.find(id)).attempt for id in ("killer", "a", "b", "fresh", "more")} == {
            "killer": 2,
            "a": 2,
            "b": 1,
            "fresh": 0,
            "more": 0,
        }
        # Settling one makes room for the next, in the same step; what was settled is nobody's suspect any more.
        done = [TaskSettlement(elsewhere.claim, Settling.RETRY)]
        exchanged = await crew.exchange("v", settlements=done, owner=other, at=4)
        assert [(one.claim.task_id, one.is_suspect) for one in exchanged.claimed] == [
            ("killer", True),
            ("a", False),
            ("fresh", False),
            ("more", False),
        ]

    async def test_what_has_failed_is_queued_again_with_all_its_attempts(self, crew: Crew) -> None:
        await crew.hire(pulls=True, capacity=9)
        tasks = crew.task("a", expires_in=50.0), crew.task("b", type="test"), crew.task("c"), crew.task("open")
        await crew.submit(*tasks)
        for one in (await crew.take())[:3]:
            await crew.end(one.claim, Settling.DEAD, reason="no", result='"r"', checksum=1, at=1)
        await crew.submit("waits")
        redriven = await crew.pool.redrive(["a", "open", "waits", "nobody"], now=crew.at(2))
        assert redriven.task_ids == ["a"]
        row = await crew.find("a")
        assert (row.state, row.attempt, row.token, row.deadline_at) == (TaskState.QUEUED, 0, 1, None)
        assert (row.result, row.settled_at, row.log[-1]["event"]) == (None, None, "redriven")
        assert (await crew.pool.redrive(None, "test", now=crew.at(2))).task_ids == ["b"]
        assert (await crew.pool.redrive(["c"], "test", now=crew.at(2))).task_ids == []
        assert (await crew.pool.redrive(None, now=crew.at(2))).task_ids == ["c"]
        assert (await crew.pool.redrive(None, now=crew.at(2))).task_ids == []
        assert not await crew.end(claim("a", 9))
        taken = await crew.take(at=100)
        assert [(one.claim.task_id, one.claim.token, one.attempt) for one in taken] == [
            ("a", 2, 1),
            ("b", 2, 1),
            ("c", 2, 1),
            ("waits", 1, 1),
        ]

    async def test_a_redriven_task_of_a_supervisor_is_assigned_again(self, crew: Crew) -> None:
        await crew.hire()
        await crew.assign(crew.task("t", message=crew.message("told", "")))
        assert await crew.end(claim(), Settling.DEAD, reason="no")
        assert (await crew.pool.redrive(["t"])).task_ids == ["t"]
        assert (await crew.store.tasks.assign_waiting(10, now=crew.at(1))).outcomes == [Assigned("t", "w", 2)]
        assert ids(await crew.claim(agent_id="w", at=1)) == ["told", "told-2"]

    async def test_a_run_past_its_hard_end_is_taken_over(self, crew: Crew) -> None:
        await crew.hire(pulls=True)
        await crew.submit("t")
        await crew.take()
        assert (await crew.pool.advance(now=crew.at(LEASE + 59))).released == 0
        advanced = await crew.pool.advance(now=crew.at(LEASE + 61))
        assert advanced.released == 1
        assert crew.owner in advanced.processes  # it may live, and is to learn of it
        assert (await crew.find()).state is TaskState.QUEUED

    async def test_what_is_queued_can_be_given_another_priority(self, crew: Crew) -> None:
        await crew.hire(pulls=True, capacity=1)
        await crew.submit("a", "b", "c")
        assert await crew.pool.reprioritise(["c", "nobody"], 0) == [True, False]
        assert ids(await crew.take()) == ["c"]
        assert await crew.pool.reprioritise(["c"], 4) == [False]
        assert (await crew.find("c")).priority == 0

    async def test_the_processes_that_could_take_it_are_named(self, crew: Crew) -> None:
        one, two = new_id(), new_id()
        await crew.hire("w", pulls=True, process_id=one)
        await crew.hire("w", pulls=True, process_id=two)
        await crew.hire("told", process_id=new_id())
        assert (await crew.pool.submit([crew.task()])).processes == {one, two}
        assert (await crew.pool.submit([crew.task()])).processes == set()
        assert (await crew.pool.assign([crew.task("u")])).processes <= {one, two}

    async def test_a_process_that_gives_a_sign_of_life_for_a_worker_serves_it(self, crew: Crew) -> None:
        one, two = new_id(), new_id()
        await crew.hire("w", pulls=True, process_id=one)
        await crew.store.workers.unregister("w")  # somebody took it for dead, and it appeared again elsewhere
        await crew.hire("w", pulls=True, process_id=two)
        assert await crew.store.workers.heartbeat([Beat("w", TTL)], process_id=one, now=crew.start) == [True]
        assert (await crew.pool.submit([crew.task()])).processes == {one, two}
        await crew.take(owner=one)
        assert await crew.store.workers.unregister("w", process_id=two)
        assert (await crew.find()).state is TaskState.RUNNING

    async def test_a_worker_is_offline_where_its_last_process_takes_leave(self, crew: Crew) -> None:
        one, two = new_id(), new_id()
        for process in (one, two):
            await crew.hire("w", pulls=True, process_id=process)
        await crew.assign("t")
        assert await crew.store.workers.unregister("w", process_id=one)
        assert (await crew.worker()).booked == 1
        assert await crew.store.workers.unregister("w", process_id=two)
        assert await crew.store.workers.find_workers(["w"]) == []
        assert (await crew.find()).state is TaskState.QUEUED

    async def test_many_takers_never_get_the_same_task_and_keep_to_the_capacity(self, crew: Crew, second: Crew) -> None:
        await crew.hire("w", pulls=True, capacity=3)
        await crew.hire("v", pulls=True, capacity=4)
        names = [f"t{number}" for number in range(40)]
        await crew.submit(*names)
        done: list[str] = []

        async def work(who: Crew, worker_id: str) -> None:
            held: list[TaskSettlement] = []
            while True:
                exchanged = await who.exchange(worker_id, 3, settlements=held, owner=new_id())
                assert all(exchanged.moved)
                assert (await who.worker(worker_id)).booked <= (3 if worker_id == "w" else 4)
                done.extend(ids(exchanged.claimed))
                held = [TaskSettlement(one.claim, Settling.DONE) for one in exchanged.claimed]
                if not held and TaskState.QUEUED not in (await who.states()).values():
                    return

        await asyncio.gather(*(work(who, name) for who in (crew, second) for name in ("w", "v")))
        assert sorted(done) == sorted(names)
        assert set((await crew.states()).values()) == {TaskState.DONE}
        assert [(await crew.worker(name)).booked for name in ("w", "v")] == [0, 0]


class TasksOfProcesses(CoordinationFixtures):
    """What a store adds that knows processes: all that one had returns in the step that deals with its end."""

    async def test_what_a_process_had_returns_with_its_death(self, crew: Crew, processes: Processes) -> None:
        process = await processes.start()
        await crew.hire("w", pulls=True, process_id=process)
        await crew.submit("ran")
        await crew.take(owner=process)
        await crew.assign("booked")
        await crew.put("m")
        await crew.claim(owner=process)
        await processes.store.processes.release([process])
        assert await crew.states() == {"ran": TaskState.QUEUED, "booked": TaskState.QUEUED}
        assert ((await crew.find("ran")).attempt, (await crew.find("booked")).attempt) == (1, 0)
        assert ((await crew.look("m")).state, (await crew.look("m")).attempt) == ("queued", 1)
        assert (await crew.worker()).status == "offline"
        # It counts as ended from now on.
        assert await crew.take(owner=process) == []
        assert await crew.claim(owner=process) == []
        assert await crew.store.workers.heartbeat([Beat("w", TTL)], now=crew.at(1)) == [True]
        assert (await crew.worker()).status == "active"

    async def test_what_a_process_had_returns_uncounted_where_it_stops(self, crew: Crew, processes: Processes) -> None:
        process = await processes.start()
        await crew.hire("w", pulls=True, process_id=process)
        await crew.submit("t")
        await crew.take(owner=process)
        await crew.put("m")
        await crew.claim(owner=process)
        await processes.store.processes.retire(process)
        row = await crew.find()
        assert (row.state, row.attempt) == (TaskState.QUEUED, 0)
        message = await crew.look("m")
        assert (message.state, message.attempt) == ("queued", 0)
        assert (await crew.worker()).status == "offline"
