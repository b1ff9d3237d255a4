"""What ten thousand workers and a long queue of tasks cost on Redis, counted in the commands of the script."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from unittest.mock import patch

import pytest
import redis

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import TaskState
from agent_messaging.storage.ports import Assigned, NobodyFits, Settling, TaskFilter, TaskRequest, TaskSettlement
from agent_messaging.storage.redis.store import RedisStore
from tests.fixtures.redis import RedisServer
from tests.redis_store.support import a_message, a_task, a_worker, done

TASKS = 1_000_000 if os.environ.get("TESTS_ALL") == "1" else 10_000
WORKERS = 10_000 if os.environ.get("TESTS_ALL") == "1" else 2_000
KINDS = 100
AT_ONCE = 1_000
Call = Callable[[], Awaitable[Any]]
FILL_TASKS = """
-- For each number one that is in the pool, for one kind, and one that was assigned and waits for who is not there.
local prefix, first, last = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local function add(id, needs, number, is_assigned)
  redis.call('HSET', prefix .. 't:' .. id, 'type', 'build', 'description', '', 'needs', needs, 'priority', 2,
    'content', '{}', 'checksum', 0, 'state', 'queued', 'token', is_assigned, 'attempt', 0, 'max_attempts', 3,
    'created', 1, 'fraction', 0, 'number', number)
  redis.call('ZADD', prefix .. 'tasks:queued', number, id)
  local score = string.format('%.0f', 2 * 2^50 + number)
  redis.call('ZADD', prefix .. 'pool:' .. needs .. '\\nbuild', score, id)
  redis.call('SADD', prefix .. 'pools', needs .. '\\nbuild')
  if is_assigned == 1 then
    redis.call('HSET', prefix .. 't:' .. id, 'is_assigned', '1')
    redis.call('ZADD', prefix .. 'waiting_tasks:' .. needs, score, id)
    redis.call('SADD', prefix .. 'waiting_needs', needs)
  end
end
for n = first, last do
  local number = redis.call('INCRBY', prefix .. 'seq', 2)
  add('many-' .. n, '["kind-50"]', number - 1, 0)
  add('more-' .. n, '["nobody"]', number, 1)
end
redis.call('HINCRBY', prefix .. 'task_counts', 'queued', 2 * (last - first + 1))
"""


@pytest.fixture
async def store(own_redis: Callable[..., RedisServer]) -> AsyncIterator[RedisStore]:
    """On a server without a file, which would have each of a million tasks."""
    store = RedisStore(own_redis().url, location="redis")
    try:
        await store.open()
        yield store
    finally:
        await store.aclose()


@pytest.fixture
def client(store: RedisStore) -> Any:
    """A stranger at that server."""
    return redis.Redis.from_url(store.engine._dsn, protocol=2)


async def fill(store: RedisStore, client: Any, tasks: range, workers: range) -> None:
    """Have more workers of a hundred kinds, and more tasks that wait."""
    for n in workers:
        await store.workers.register(a_worker(f"many-{n:06}", f"kind-{n % KINDS:02}", capacity=4, pulls=True))
    for first in range(tasks.start // 2, tasks.stop // 2, AT_ONCE):
        last = min(first + AT_ONCE, tasks.stop // 2) - 1
        client.eval(FILL_TASKS, 0, store.engine.namespace_key, first, last)


def calls(store: RedisStore) -> dict[str, Call]:
    """What is done all the time, each as a call that leaves everything as it was."""

    async def submit() -> None:
        id = new_id()
        assert (await store.tasks.submit([a_task(id, "nobody", "at all", message=None)])).moved == [True]
        await store.tasks.cancel([id], "no")

    async def exchange() -> None:
        request = TaskRequest("puller", 1, 60.0)
        (taken,) = (await store.tasks.exchange([], [request], owner="p")).claimed
        back = [TaskSettlement(taken.claim, Settling.RETURNED)]
        assert (await store.tasks.exchange(back, [], owner="p")).moved == [True]

    async def assign(need: str, outcome: type) -> None:
        id = new_id()
        (found,) = (await store.tasks.assign([a_task(id, need, message=None)])).outcomes
        assert isinstance(found, outcome)
        await store.tasks.cancel([id], "no")

    async def message() -> None:
        await store.queue.put([a_message(new_id())])
        (claimed,) = await store.queue.claim("bob", 1, owner="p", lease=60.0)
        assert await store.queue.settle([done(claimed)]) == [True]

    async def list_some(limit: int, **which: Any) -> None:
        assert len(await store.tasks.list_tasks(TaskFilter(**which), 20, 0)) == limit

    return {
        "a message": message,
        "submit": submit,
        "take and give back": exchange,
        "assign": lambda: assign("kind-07", Assigned),
        "assign to nobody": lambda: assign("unknown", NobodyFits),
        "assign again": lambda: store.tasks.assign_waiting(100),
        "find waiting": lambda: store.tasks.find_waiting(["puller"]),
        "page": lambda: list_some(20),
        "page of those that wait": lambda: list_some(20, states=frozenset([TaskState.QUEUED])),
        "page of those that run": lambda: list_some(1, states=frozenset([TaskState.RUNNING])),
        "open ones of a supervisor": lambda: list_some(1, states=frozenset([TaskState.RUNNING]), supervisor="s"),
        "statistics": lambda: store.tasks.statistics(),
        "statistics of a supervisor": lambda: store.tasks.statistics("s"),
        "advance": lambda: store.tasks.advance(),
        "due": lambda: store.find_dues(),
        "find available": lambda: store.workers.find_available(["kind-07"], 10),
    }


async def cost(client: Any, call: Call) -> int:
    """The commands that the server executes for it, those of the script too. The first call may tidy up."""
    await call()
    before = _count(client)
    await call()
    return _count(client) - before


def _count(client: Any) -> int:
    stats = client.info("commandstats")
    return sum(int(one["calls"]) for name, one in stats.items() if name != "cmdstat_info")


@pytest.mark.timeout(600)  # a million tasks, where all are wanted
async def test_workers_and_tasks_that_do_not_matter_cost_nothing(store: RedisStore, client: Any) -> None:
    await store.workers.register(a_worker("puller", "kind-50", capacity=2, pulls=True))
    await store.workers.register(a_worker("runner", "only", pulls=True))
    await store.tasks.submit([a_task("run", "only", supervisor="s", message=None)])
    assert len((await store.tasks.exchange([], [TaskRequest("runner", 1, 600.0)], owner="q")).claimed) == 1
    await fill(store, client, range(2 * KINDS), range(10 * KINDS))
    few = {name: await cost(client, call) for name, call in calls(store).items()}
    await fill(store, client, range(2 * KINDS, TASKS), range(10 * KINDS, WORKERS))
    assert (await store.tasks.statistics()).counts[TaskState.QUEUED] == TASKS
    many = {name: await cost(client, call) for name, call in calls(store).items()}
    assert {name: (few[name], seen) for name, seen in many.items() if seen > few[name] + 5} == {}
    # What is sifted from all tasks is looked for in steps, between which the server does other things.
    steps = []
    verb = store.engine.call

    async def step(*what: Any, **how: Any) -> Any:
        before = _count(client)
        answer = await verb(*what, **how)
        steps.append(_count(client) - before)
        return answer

    with patch.object(store.engine, "call", step):
        assert await store.tasks.list_tasks(TaskFilter(type="rare"), 20, 0) == []
    assert len(steps) == TASKS // 2_000 + 1
    assert max(steps) < 2_100


async def test_a_page_of_tasks_takes_eight_commands_for_each_and_a_few_more(store: RedisStore, client: Any) -> None:
    await store.workers.register(a_worker("puller", "kind-50", capacity=64, pulls=True))
    request = TaskRequest("puller", 64, 60.0)
    before = _count(client)
    await store.tasks.submit([a_task(new_id(), "kind-50", message=None) for _ in range(64)])
    taken = (await store.tasks.exchange([], [request], owner="p")).claimed
    assert len(taken) == 64
    ends = [TaskSettlement(one.claim, Settling.DONE, "1", 0) for one in taken]
    assert (await store.tasks.exchange(ends, [request], owner="p")).moved == [True] * 64
    assert _count(client) - before <= 8.5 * 64
