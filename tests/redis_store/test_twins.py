"""Random programs of the verbs of queues, workers and tasks are answered alike by Redis and by SQLite."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_messaging.ids import uuid7
from agent_messaging.storage.ports import (
    Beat,
    CoordinationStore,
    QueueClaim,
    QueueSettlement,
    Settling,
    TaskClaim,
    TaskFilter,
    TaskSettlement,
)
from agent_messaging.storage.redis.store import RedisStore
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.coordination import Crew

EXAMPLES = int(os.environ.get("AGENT_MESSAGING_TEST_COORDINATION", "15"))
"""Programs in one run; read at import, because the environment is emptied for each test."""
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


class Twin:
    """One of the two, driven by a program."""

    def __init__(self, store: CoordinationStore, start: Crew | None, owners: list[str]) -> None:
        self.crew = Crew(store) if start is None else Crew(store, start.start)
        self.owners = owners
        self.claims: list[QueueClaim] = []

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
            case "release", owner:
                released = await store.queue.release([self.owners[owner]], now=at)
                self.owners[owner] = f"{owner}-{now}-{len(self.claims)}"  # the dead do not come back
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
                settlement = TaskSettlement(TaskClaim(f"t{number}", token), how, result='"r"', checksum=1, delay=delay)
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
        return None

    async def look(self, now: float) -> Any:
        """All that there is."""
        store, at = self.crew.store, self.crew.at(now)
        messages = await store.queue.list_messages(None, None, 1000, 0)
        tasks = await store.tasks.list_tasks(TaskFilter(), 1000, 0)
        workers = await store.workers.list_workers(10, 0, now=at)
        counts = await store.queue.statistics(now=at)
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
                    len(one.log),
                )
                for one in tasks
            ],
            [(one.worker_id, one.booked, one.reported, one.status, one.is_alive, one.idle_since) for one in workers],
            (counts.counts, counts.failed, counts.by_priority, counts.settled_lately),
            (await store.tasks.statistics(now=at)).counts,
        )


async def play(redis: RedisStore, program: list[tuple[Any, ...]]) -> None:
    """Give each verb to both and compare."""
    sqlite = SQLiteStore(":memory:")
    try:
        await sqlite.open()
        await redis.open()
        names = [uuid7(), uuid7()]
        one = Twin(sqlite, None, list(names))
        other = Twin(redis, one.crew, list(names))
        now = 0.0
        for verb in program:
            now += verb[1] if verb[0] == "tick" else 0.001
            assert await other.do(now, *verb) == await one.do(now, *verb), (verb, now)
            assert await other.look(now) == await one.look(now), (verb, now)
    finally:
        await redis.aclose()
        await sqlite.aclose()


def test_random_programs_are_answered_alike(redis_server: str, redis_namespace: str) -> None:
    numbered = itertools.count()
    make: Callable[[], RedisStore] = lambda: RedisStore(  # noqa: E731
        f"{redis_server}?namespace={redis_namespace}-{next(numbered)}", location="redis"
    )
    with asyncio.Runner() as runner:

        @given(st.lists(verbs, min_size=5, max_size=40))
        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
        def run(program: list[tuple[Any, ...]]) -> None:
            runner.run(play(make(), program))

        run()
