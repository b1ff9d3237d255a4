"""Random programs of the verbs of queues, workers and tasks, which two stores must answer alike."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from agent_messaging.ids import uuid7
from agent_messaging.models import DeliveryState
from agent_messaging.payloads import checksum
from agent_messaging.storage.ports import (
    Beat,
    CoordinationStore,
    Progress,
    QueueClaim,
    QueueMessageRow,
    QueueSettlement,
    Settling,
    TaskClaim,
    TaskFilter,
    TaskRequest,
    TaskRow,
    TaskSettlement,
)

from .coordination import LEASE, Crew

RESULT = checksum('"r"', None)
AGENTS = ("w1", "w2")
NEEDS = ((), ("python",), ("python", "sql"))
agents = st.sampled_from(AGENTS)
numbers = st.integers(0, 30)
few = st.integers(0, 5)
verbs = st.one_of(
    st.tuples(st.just("put"), numbers, agents, st.integers(0, 2), st.sampled_from(["a", "b"])),
    st.tuples(st.just("put"), numbers, agents, st.integers(0, 2), st.sampled_from(["a", "b"])),
    st.tuples(st.just("claim"), agents, st.integers(1, 4), st.sampled_from([None, ["a"], ["b"]]), st.integers(0, 1)),
    st.tuples(st.just("claim"), agents, st.integers(1, 4), st.none(), st.integers(0, 1)),
    st.tuples(st.just("settle"), numbers, st.sampled_from(Settling), st.sampled_from([0.0, 5.0])),
    st.tuples(st.just("settle"), numbers, st.just(Settling.RETRY), st.sampled_from([0.0, 5.0])),
    st.tuples(st.just("requeue"), st.none() | agents),
    st.tuples(st.just("release"), st.integers(0, 1)),
    st.tuples(st.just("hire"), agents, st.sampled_from(NEEDS), st.integers(1, 2)),
    st.tuples(st.just("beat"), agents, st.sampled_from([None, "busy", "idle"]), st.sampled_from([None, 0, 1, 2])),
    st.tuples(st.just("leave"), agents),
    st.tuples(st.just("assign"), few, st.sampled_from(NEEDS), st.sampled_from([None, 20.0])),
    st.tuples(st.just("assign"), few, st.just(("python",)), st.none()),
    st.tuples(st.just("end"), few, st.integers(1, 2), st.sampled_from(Settling), st.sampled_from([0.0, 5.0])),
    st.tuples(st.just("cancel"), few),
    st.tuples(st.just("rebook"),),
    st.tuples(st.just("prune"),),
    st.tuples(st.just("tick"), st.sampled_from([1, 10, 40])),
)  # fmt: skip
pool_verbs = st.one_of(
    st.tuples(st.just("submit"), few, st.sampled_from(NEEDS), st.integers(0, 2), st.sampled_from([0.0, 5.0]),
              st.sampled_from([None, 20.0]), st.integers(1, 3)),
    st.tuples(st.just("submit"), few, st.just(("python",)), st.just(1), st.just(0.0), st.none(), st.just(3)),
    st.tuples(st.just("pull"), agents, st.sampled_from([("python",), ("python", "sql")]), st.integers(1, 3)),
    st.tuples(st.just("exchange"), agents, st.integers(1, 3), st.sampled_from([None, ("a",)]), st.integers(0, 1),
              st.lists(st.tuples(numbers, st.sampled_from(Settling)), max_size=2)),
    st.tuples(st.just("exchange"), agents, st.integers(1, 3), st.none(), st.integers(0, 1), st.just([])),
    st.tuples(st.just("crash"), st.integers(0, 1)),
    st.tuples(st.just("report"), numbers, st.sampled_from([0.25, 0.5])),
    st.tuples(st.just("hasten"), few, st.integers(0, 2)),
    st.tuples(st.just("redrive"), st.none() | few, st.sampled_from([None, "a", "build"])),
)  # fmt: skip
"""Beside those above, of stores that have a pool of tasks."""


POOL_VERBS = frozenset({"submit", "pull", "exchange", "crash", "report", "hasten", "redrive"})


class Twin:
    """One of the two, driven by a program."""

    def __init__(self, store: CoordinationStore, start: Crew | None, owners: list[str], *, has_pool: bool) -> None:
        self.crew = Crew(store) if start is None else Crew(store, start.start)
        self.owners = owners
        self.has_pool = has_pool
        self.claims: list[QueueClaim] = []
        self.runs: list[TaskClaim] = []

    async def do(self, now: float, verb: str, *values: Any) -> Any:
        """Do a verb; returns what it answered."""
        crew, store, at = self.crew, self.crew.store, self.crew.at(now)
        match verb, *values:
            case "put", number, agent, priority, type:
                message = crew.message(f"m{number}", agent, priority=priority, type=type)
                return await crew.put(message, at=now)
            case "claim", agent, limit, types, owner:
                claimed = await crew.claim(limit, at=now, agent_id=agent, types=types, owner=self.owners[owner])
                self.claims += [one.claim for one in claimed]
                return [(one.claim, one.attempt, one.type, one.priority) for one in claimed]
            case "settle", number, how, delay if self.claims:
                claim = self.claims[number % len(self.claims)]
                return await store.queue.settle([QueueSettlement(claim, how, delay, "because")], now=at)
            case "requeue", agent:
                return await store.queue.redrive(agent, None)
            case "release", owner:
                released = await store.queue.release([self.owners[owner]], now=at)
                self._replace(owner, now)
                return released
            case "hire", agent, capabilities, capacity:
                return await crew.hire(agent, *capabilities, at=now, capacity=capacity, ttl=60.0)
            case "beat", agent, status, reported:
                return await store.workers.heartbeat([Beat(agent, 60.0, status, reported)], now=at)
            case "leave", agent:
                return await store.workers.unregister(agent, now=at)
            case "assign", number, needs, expires:
                message = crew.message(f"about-{number}", "")
                task = crew.task(f"t{number}", *needs, run_limit=30.0, expires_in=expires, message=message)
                return await crew.assign(task, at=now)
            case "end", number, token, how, delay:
                settlement = TaskSettlement(
                    TaskClaim(f"t{number}", token), how, result='"r"', checksum=RESULT, delay=delay
                )
                return (await store.tasks.settle([settlement], now=at)).moved
            case "cancel", number:
                return (await store.tasks.cancel([f"t{number}"], "no", now=at)).moved
            case ("rebook",):
                return (await store.tasks.assign_waiting(10, now=at)).outcomes
            case ("prune",):
                return await store.queue.prune(15.0, 100, now=at), await store.tasks.prune(15.0, 100, now=at)
            case "tick", _:
                queue, tasks = await store.queue.advance(now=at), await store.tasks.advance(now=at)
                return queue.released, queue.expired, queue.due, tasks.released, tasks.expired, tasks.due
        return await self._do_in_pool(now, verb, *values) if verb in POOL_VERBS else None

    async def _do_in_pool(self, now: float, verb: str, *values: Any) -> Any:
        crew, pool, at = self.crew, self.crew.pool, self.crew.at(now)
        match verb, *values:
            case "submit", number, needs, priority, delay, expires, attempts:
                options = {"priority": priority, "delay": delay, "expires_in": expires, "max_attempts": attempts}
                task = crew.task(f"t{number}", *needs, type="a" if number % 2 else "build", **options)
                return await crew.submit(task, at=now)
            case "pull", agent, capabilities, capacity:
                return await crew.hire(agent, *capabilities, at=now, capacity=capacity, ttl=60.0, pulls=True)
            case "exchange", agent, limit, types, owner, ends:
                settlements = [
                    TaskSettlement(self.runs[number % len(self.runs)], how, '"r"', RESULT)
                    for number, how in ends
                    if self.runs
                ]
                request = TaskRequest(agent, limit, LEASE, types)
                exchanged = await pool.exchange(settlements, [request], owner=self.owners[owner], now=at)
                self.runs += [one.claim for one in exchanged.claimed]
                claimed = [(one.claim, one.attempt, one.run_limit, one.is_suspect) for one in exchanged.claimed]
                return exchanged.moved, claimed
            case "crash", owner:
                released = await pool.release_tasks([self.owners[owner]], now=at)
                self._replace(owner, now)
                return released
            case "report", number, fraction if self.runs:
                return await pool.progress([Progress(self.runs[number % len(self.runs)], fraction, "né")], now=at)
            case "hasten", number, priority:
                return await pool.reprioritise([f"t{number}"], priority)
            case "redrive", number, type:
                ids = None if number is None else [f"t{number}"]
                return sorted((await pool.redrive(ids, type, now=at)).task_ids)
        return None

    def _replace(self, owner: int, now: float) -> None:
        """The dead do not come back."""
        self.owners[owner] = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{owner} {now}"))

    async def look(self, now: float) -> Any:
        """All that there is."""
        store, at = self.crew.store, self.crew.at(now)
        messages = await store.queue.list_messages(None, None, 1000, 0)
        tasks = await store.tasks.list_tasks(TaskFilter(), 1000, 0)
        workers = await store.workers.list_workers(10, 0, now=at)
        counts = await store.queue.statistics(now=at)
        await self._recount(messages, tasks)
        return (
            [(one.agent_id, one.message_id, one.state, one.token, one.attempt, one.settled_at) for one in messages],
            [
                (
                    one.task_id,
                    one.state,
                    one.token,
                    one.attempt,
                    one.worker_id,
                    one.result,
                    one.settled_at,
                    one.priority,
                    one.fraction,
                    [(entry["event"], entry["attempt"]) for entry in one.log],
                )
                for one in tasks
            ],
            [(one.worker_id, one.booked, one.reported, one.status, one.is_alive, one.idle_since) for one in workers],
            (counts.counts, counts.failed, counts.by_priority, counts.settled_lately),
            (await store.tasks.statistics(now=at)).counts,
            await self._look_into_pool(at) if self.has_pool else None,
        )

    async def _recount(self, messages: Sequence[QueueMessageRow], tasks: Sequence[TaskRow]) -> None:
        """What the store has counted is what there is."""
        for agent in (None, *AGENTS):
            mine = [one for one in messages if agent in (None, one.agent_id)]
            found = await self.crew.store.queue.statistics(agent)
            assert found.counts == Counter(one.state for one in mine)
            assert found.by_priority == Counter(one.priority for one in mine if not one.state.is_final)
            assert found.failed == sum(one.state is DeliveryState.DONE and one.reason is not None for one in mine)
        assert (await self.crew.store.tasks.statistics()).counts == Counter(one.state for one in tasks)

    async def _look_into_pool(self, at: Any) -> Any:
        pool = self.crew.pool
        held = [sorted(await pool.list_claims(owner), key=str) for owner in self.owners]
        return held, await pool.find_lost(self.runs), await pool.find_waiting(AGENTS, now=at)


async def play(
    one_store: CoordinationStore, other_store: CoordinationStore, program: Sequence[tuple[Any, ...]]
) -> None:
    """Give each verb to both stores, which are open and empty, and compare."""
    names = [uuid7(), uuid7()]
    has_pool = all(hasattr(store.tasks, "exchange") for store in (one_store, other_store))
    one = Twin(one_store, None, list(names), has_pool=has_pool)
    other = Twin(other_store, one.crew, list(names), has_pool=has_pool)
    now = 0.0
    for verb in program:
        now += verb[1] if verb[0] == "tick" else 0.001
        assert await other.do(now, *verb) == await one.do(now, *verb), (verb, now)
        assert await other.look(now) == await one.look(now), (verb, now)
