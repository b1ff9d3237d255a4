"""Random programs of the coordination's verbs against a model in plain Python, on each store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.storage.ports import CLAIM_MARGIN, Assigned, Settling, TaskClaim, TaskFilter

from .base import StoreFactory
from .coordination import LEASE, CoordinationFixtures, Crew

EXAMPLES = int(os.environ.get("AGENT_MESSAGING_TEST_COORDINATION", "12"))
"""Programs in one run; read at import, because the environment is emptied for each test."""
WORKERS = {"both": ("python", "sql"), "one": ("python",), "told": ("python",)}
CAPACITY = 2
NEEDS = [("python",), ("python", "sql"), ("go",)]
names = st.integers(0, 7).map(lambda number: f"t{number}")
verbs = st.one_of(
    st.tuples(st.just("submit"), names, st.sampled_from(NEEDS), st.integers(0, 2)),
    st.tuples(st.just("assign"), names, st.sampled_from(NEEDS), st.integers(0, 2)),
    st.tuples(st.just("take"), st.sampled_from(["both", "one"]), st.integers(1, 3), st.integers(0, 1)),
    st.tuples(st.just("take"), st.sampled_from(["both", "one"]), st.integers(1, 3), st.integers(0, 1)),
    st.tuples(st.just("settle"), st.integers(0, 20), st.sampled_from(Settling)),
    st.tuples(st.just("settle"), st.integers(0, 20), st.just(Settling.DONE)),
    st.tuples(st.just("cancel"), names),
    st.tuples(st.just("release"), st.integers(0, 1)),
    st.tuples(st.just("tick"), st.sampled_from([1, 20, 100])),
    st.tuples(st.just("rebook")),
)


@dataclass
class Task:
    """What the model knows of a task."""

    name: str
    needs: tuple[str, ...]
    priority: int
    order: int
    is_assigned: bool
    state: str = "queued"
    token: int = 0
    attempt: int = 0
    worker: str | None = None
    owner: int | None = None
    until: float | None = None
    ended_as: str | None = None
    is_suspect: bool = False
    """A process died that had it, and no run of it was settled since."""

    @property
    def is_held(self) -> bool:
        return self.state in ("assigned", "running")

    def leave(self, state: str, how: str) -> None:
        self.state, self.ended_as, self.until = state, how, None


@dataclass
class Model:
    """What every store must do. Attempts end at the second."""

    now: float = 0.0
    tasks: dict[str, Task] = field(default_factory=dict)
    idle: dict[str, float] = field(default_factory=lambda: dict.fromkeys(WORKERS, 0.0))
    claims: list[TaskClaim] = field(default_factory=list)

    def has(self, worker: str) -> int:
        return sum(task.is_held and task.worker == worker for task in self.tasks.values())

    def freed(self, worker: str | None) -> None:
        if worker is not None:
            self.idle[worker] = self.now

    def choose(self, needs: Sequence[str]) -> str | None:
        able = [name for name, can in WORKERS.items() if set(needs) <= set(can) and self.has(name) < CAPACITY]
        return min(able, key=lambda name: (self.has(name), self.idle[name], name), default=None)

    def book(self, task: Task, worker: str) -> None:
        task.state, task.worker, task.token, task.ended_as, task.owner = "assigned", worker, task.token + 1, None, None
        task.attempt += 1
        self.claims.append(TaskClaim(task.name, task.token))

    def lose(self, task: Task, how: str) -> None:
        task.leave("failed" if task.attempt >= 2 else "queued", how)
        self.freed(task.worker)

    def die(self, owner: int) -> int:
        """A process ends. Its suspects are to blame if it had any, and otherwise all that it had is."""
        held = [task for task in self.tasks.values() if task.state == "running" and task.owner == owner]
        has_suspects = any(task.is_suspect for task in held)
        for task in held:
            task.is_suspect = task.is_suspect or not has_suspects
            if task.is_suspect:
                self.lose(task, "lost")
            else:
                task.attempt = max(task.attempt - 1, 0)
                task.leave("queued", "lost")
                self.freed(task.worker)
        return len(held)

    def settle(self, claim: TaskClaim, how: Settling) -> bool:
        task = self.tasks[claim.task_id]
        if task.token != claim.token:
            return False
        if not task.is_held:
            return task.ended_as == how
        if how is Settling.RETURNED:
            task.attempt = max(task.attempt - 1, 0)
        ends = {Settling.DONE: "done", Settling.DEAD: "failed"}
        again = "failed" if how is Settling.RETRY and task.attempt >= 2 else "queued"
        task.leave(ends.get(how, again), how)
        task.is_suspect = False
        self.freed(task.worker)
        return True

    def takeable(self, worker: str, limit: int, owner: int | None = None) -> list[Task]:
        """What comes next, for a process that runs one suspect at a time, or for any."""
        tasks = sorted(self.tasks.values(), key=lambda task: (task.priority, task.order))
        mine = [task for task in tasks if task.state == "assigned" and task.worker == worker]
        can = [task for task in tasks if task.state == "queued" and set(task.needs) <= set(WORKERS[worker])]
        room = CAPACITY - self.has(worker)
        has_suspect = any(task.is_suspect and task.owner == owner for task in tasks if task.state == "running")
        chosen: list[Task] = []
        for task in mine + can:
            is_new = task.state == "queued"
            if (
                len(chosen) == limit
                or (is_new and room <= 0)
                or (owner is not None and task.is_suspect and has_suspect)
            ):
                continue
            has_suspect = has_suspect or task.is_suspect
            room -= is_new
            chosen.append(task)
        return chosen


class CoordinationMachine(CoordinationFixtures):
    """The machine."""

    def test_random_programs_do_what_the_model_says(self, make_store: StoreFactory) -> None:
        with asyncio.Runner() as runner:

            @given(st.lists(verbs, min_size=5, max_size=30))
            @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
            def run(program: list[tuple[Any, ...]]) -> None:
                runner.run(play(make_store(), program))

            run()


async def play(store: Any, program: list[tuple[Any, ...]]) -> None:
    """Give each verb to both and compare."""
    await store.open()
    try:
        crew, model = Crew(store), Model()
        mark = new_id()  # programs may share a store: what an earlier one left is moved out of the way
        for row in await store.workers.list_workers(100, 0):
            await store.workers.unregister(row.worker_id)
        for row in await store.tasks.list_tasks(TaskFilter(), 1000, 0):
            await store.tasks.cancel([row.task_id], "an earlier program")
        owners = [new_id(), new_id()]
        for name, can in WORKERS.items():
            await crew.hire(name, *can, pulls=name != "told", ttl=1e6)
        for verb in program:
            await step(crew, model, owners, mark, *verb)
            await compare(crew, model)
    finally:
        await store.aclose()


async def step(crew: Crew, model: Model, owners: list[str], mark: str, verb: str, *values: Any) -> None:
    """Do one verb in the store and in the model, and compare the answers."""
    now, pool = model.now, crew.pool
    if verb in ("submit", "assign"):
        name, needs, priority = values
        task = Task(f"{name}-{mark}", needs, priority, len(model.tasks), verb == "assign")
        worker = model.choose(needs) if task.is_assigned else None
        new = crew.task(task.name, *needs, priority=priority, max_attempts=2)
        is_new = task.name not in model.tasks
        if verb == "submit":
            assert await crew.submit(new, at=now) == [is_new]
        else:
            (outcome,) = await crew.assign(new, at=now)
            assert isinstance(outcome, Assigned) == (is_new and worker is not None)
        if is_new and (worker is not None or not task.is_assigned):
            model.tasks[task.name] = task
            if worker is not None:
                model.book(task, worker)
    elif verb == "take":
        worker, limit, owner = values
        expected = model.takeable(worker, limit, owner)
        for task in expected:
            task.attempt += task.state == "queued"
            task.state, task.worker, task.owner, task.ended_as = "running", worker, owner, None
            task.token, task.until = task.token + 1, now + LEASE + CLAIM_MARGIN
            model.claims.append(TaskClaim(task.name, task.token))
        taken = await crew.take(worker, limit, owner=owners[owner], at=now)
        assert [(one.claim, one.attempt) for one in taken] == [
            (TaskClaim(task.name, task.token), task.attempt) for task in expected
        ]
    elif verb == "settle" and model.claims:
        number, how = values
        claim = model.claims[number % len(model.claims)]
        assert await crew.end(claim, how, at=now) == model.settle(claim, how)
    elif verb == "cancel":
        found = model.tasks.get(f"{values[0]}-{mark}")
        is_open = found is not None and (found.is_held or found.state == "queued")
        assert (await pool.cancel([f"{values[0]}-{mark}"], "no", now=crew.at(now))).moved == [is_open]
        if found is not None and is_open:
            if found.is_held:
                model.freed(found.worker)
            found.leave("cancelled", "cancelled")
    elif verb == "release":
        released = await pool.release_tasks([owners[values[0]]], now=crew.at(now))
        assert released == model.die(values[0])
    elif verb == "tick":
        model.now += values[0]
        late = [task for task in model.tasks.values() if task.until is not None and task.until <= model.now]
        assert (await pool.advance(now=crew.at(model.now))).released == len(late)
        for task in late:
            model.lose(task, "overdue")
    elif verb == "rebook":
        waiting = [task for task in model.tasks.values() if task.state == "queued" and task.is_assigned]
        booked = []
        for task in sorted(waiting, key=lambda task: (task.priority, task.order)):
            if (worker := model.choose(task.needs)) is not None:
                model.book(task, worker)
                booked.append(Assigned(task.name, worker, task.token))
        assert (await pool.assign_waiting(100, now=crew.at(now))).outcomes == booked


async def compare(crew: Crew, model: Model) -> None:
    """The store has what the model has."""
    rows = await crew.store.tasks.find_tasks(list(model.tasks))
    stored = {row.task_id: (str(row.state), row.token, row.attempt, row.worker_id) for row in rows}
    assert stored == {task.name: (task.state, task.token, task.attempt, task.worker) for task in model.tasks.values()}
    workers = await crew.store.workers.find_workers(list(WORKERS), now=crew.at(model.now))
    assert {row.worker_id: row.booked for row in workers} == {name: model.has(name) for name in WORKERS}
    for worker in ("both", "one"):
        expected = [worker] if model.has(worker) < CAPACITY and model.takeable(worker, 1) else []
        if any(task.state == "assigned" and task.worker == worker for task in model.tasks.values()):
            expected = [worker]
        assert await crew.pool.find_waiting([worker], now=crew.at(model.now)) == expected
