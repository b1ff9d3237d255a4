"""Tasks over the whole SDK: handed out, done once by whoever can, with one result that any process can ask for."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from agent_messaging import (
    InvalidArgumentError,
    PayloadError,
    TaskCancelledError,
    TaskContext,
    TaskExpiredError,
    TaskFailedError,
    TaskNotFoundError,
    TimeoutError,
)
from agent_messaging.coordination import MessagePriority
from agent_messaging.delivery import workforce
from agent_messaging.delivery.probes import arm, disarm
from agent_messaging.exceptions import OutcomeUnknownError
from agent_messaging.handlers.tasks import Rate
from agent_messaging.models import TaskState
from agent_messaging.payloads import checksum
from agent_messaging.storage.ports import Assigned, NewQueueMessage, NewTask, NewWorker
from tests.support import eventually

from .damage import execute
from .support import SOON, MakeSdk, Sdk


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def backend(request: pytest.FixtureRequest) -> str:
    """Where the tasks are; with those on Redis, messages are in SQLite."""
    return str(request.param)


class Picture(BaseModel):
    """A payload."""

    width: int


class Bench:
    """A worker whose runs stay until it is opened."""

    def __init__(self, sdk: Sdk, worker_id: str = "w", *, opened: bool = False, **options: Any) -> None:
        self.opened = asyncio.Event()
        if opened:
            self.opened.set()
        self.began: list[Any] = []
        self.contexts: list[TaskContext] = []
        self.running = self.most = 0
        values: dict[str, Any] = {"capabilities": ["resize"], "max_concurrent_tasks": 2}
        sdk.register_task_handler(worker_id, **(values | options))(self.work)

    async def work(self, item: Any, context: TaskContext) -> Any:
        self.began.append(item)
        self.contexts.append(context)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.opened.wait()
        finally:
            self.running -= 1
        return {"did": item}

    async def wait_for(self, count: int) -> list[Any]:
        return await eventually(lambda: self.began, SOON, until=lambda seen: len(seen) >= count)


# --- handing out ------------------------------------------------------------------------------------------------------


async def test_a_task_is_done_and_its_result_comes_back_typed(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    seen: list[TaskContext] = []

    @sdk.register_task_handler("w", capabilities=["resize"])
    async def resize(picture: Picture, context: TaskContext) -> Picture:
        seen.append(context)
        return Picture(width=picture.width // 2)

    half = await sdk.tasks.delegate(
        "resize",
        Picture(width=8),
        supervisor="s",
        description="half it",
        wait=True,
        timeout=SOON,
        response_type=Picture,
    )
    assert half == Picture(width=4)
    (context,) = seen
    assert (context.type, context.worker_id, context.attempt, context.supervisor) == ("resize", "w", 1, "s")
    task = await sdk.tasks.get(context.task_id)
    assert (task.state, task.payload, task.description, task.progress) == (TaskState.DONE, {"width": 8}, "half it", 1)
    # Later too, as often as somebody asks.
    assert await sdk.tasks.result(context.task_id, timeout=0) == {"width": 4}


async def test_a_task_waits_for_somebody_who_can_do_all_that_it_needs(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    id = await sdk.tasks.delegate("build", {}, required_capabilities=["python", "sql"])
    partly = Bench(sdk, "partly", capabilities=["python"], opened=True)
    with pytest.raises(TimeoutError, match="it is queued"):
        await sdk.tasks.result(id, timeout=0.3)
    assert partly.began == []
    Bench(sdk, "wholly", capabilities=["python", "sql", "go"], opened=True)
    assert await sdk.tasks.result(id, timeout=SOON) == {"did": {}}
    assert (await sdk.tasks.get(id)).worker_id == "wholly"


async def test_a_plain_function_works_in_a_thread_and_may_report(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    reported, go_on = threading.Event(), threading.Event()

    @sdk.register_task_handler("w", capabilities=["count"])
    def count(item: int, context: TaskContext) -> int:
        context.progress(0.4, "counting é")
        reported.set()
        assert go_on.wait(SOON)
        return item + 1

    id = await sdk.tasks.delegate("count", 1)
    await eventually(reported.is_set, SOON)
    task = await eventually_task(sdk, id, lambda task: task.progress == 0.4)
    assert (task.note, task.state) == ("counting é", TaskState.RUNNING)
    go_on.set()
    assert await sdk.tasks.result(id, timeout=SOON) == 2


async def eventually_task(sdk: Sdk, id: str, until: Any) -> Any:
    """The task, as soon as it is so."""
    async with asyncio.timeout(SOON):
        while not until(task := await sdk.tasks.get(id)):
            await asyncio.sleep(0.01)
    return task


async def test_the_most_urgent_go_first_and_one_can_be_made_more_urgent(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    ids = [await sdk.tasks.delegate("resize", name) for name in ("first", "second", "last")]
    urgent = await sdk.tasks.delegate("resize", "urgent", priority="high")
    assert await sdk.tasks.reprioritise(ids[2], MessagePriority.CRITICAL)
    bench = Bench(sdk, max_concurrent_tasks=1, opened=True)
    for id in [*ids, urgent]:
        await sdk.tasks.result(id, timeout=SOON)
    assert bench.began == ["last", "urgent", "first", "second"]
    assert not await sdk.tasks.reprioritise(ids[2], "low")


async def test_a_worker_never_has_more_than_its_capacity(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    bench = Bench(sdk, max_concurrent_tasks=2)
    ids = [await sdk.tasks.delegate("resize", number) for number in range(5)]
    await bench.wait_for(2)
    (worker,) = await sdk.tasks.workers()
    assert (worker.current_tasks, worker.max_concurrent_tasks, worker.load) == (2, 2, 1)
    bench.opened.set()
    for id in ids:
        await sdk.tasks.result(id, timeout=SOON)
    assert bench.most == 2


async def test_a_worker_with_much_room_takes_some_at_a_time(make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workforce, "MOST_TAKEN", 2)
    sdk = await make_sdk()
    for number in range(7):
        await sdk.tasks.delegate("resize", number)
    store, asked = sdk.tasks.engine.workplace.store.tasks, list[int]()
    exchange = store.exchange

    async def watched(settlements: Any, requests: Any, **options: Any) -> Any:
        asked.extend(request.limit for request in requests)
        return await exchange(settlements, requests, **options)

    monkeypatch.setattr(store, "exchange", watched)
    bench = Bench(sdk, max_concurrent_tasks=100)
    await bench.wait_for(7)
    assert set(asked) == {2}
    bench.opened.set()


async def test_the_same_id_is_stored_once(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    bench = Bench(sdk, opened=True)
    for payload in ("one", "two"):
        assert await sdk.tasks.delegate("resize", payload, task_id="t", wait=True, timeout=SOON) == {"did": "one"}
    assert bench.began == ["one"]


async def test_map_yields_what_became_of_each_item(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()

    @sdk.register_task_handler("w", capabilities=["half"], max_concurrent_tasks=4, give_up_on=ValueError)
    async def half(item: int, context: TaskContext) -> int:
        if item % 2:
            raise ValueError("odd")
        return item // 2

    outcomes = [outcome async for outcome in sdk.tasks.map("half", range(7), timeout=SOON)]
    assert sorted(outcome.index for outcome in outcomes) == [*range(7)]
    for outcome in outcomes:
        assert outcome.item == outcome.index
        if outcome.item % 2:
            assert isinstance(outcome.error, TaskFailedError)
        else:
            assert (outcome.error, outcome.result) == (None, outcome.item // 2)
    assert [outcome async for outcome in sdk.tasks.map("half", [])] == []
    mixed = [outcome async for outcome in sdk.tasks.map("half", [0, 2, 4], timeout=SOON, response_type=Literal[0, 2])]
    assert sorted((outcome.index, type(outcome.error)) for outcome in mixed if outcome.error) == [(1, PayloadError)]
    assert sorted(outcome.result for outcome in mixed if not outcome.error) == [0, 2]
    with pytest.raises(TimeoutError, match="1 of 1 tasks"):
        [outcome async for outcome in sdk.tasks.map("nobody", [1], timeout=0.05)]


# --- failing ----------------------------------------------------------------------------------------------------------


async def test_a_failure_is_tried_again_up_to_the_last_attempt_and_the_reasons_are_kept(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    attempts: list[int] = []

    @sdk.register_task_handler("w", capabilities=["fail"])
    async def fail(item: Any, context: TaskContext) -> None:
        attempts.append(context.attempt)
        raise RuntimeError(f"no {context.attempt}")

    with pytest.raises(TaskFailedError, match="RuntimeError: no 3") as caught:
        await sdk.tasks.delegate("fail", max_attempts=3, wait=True, timeout=SOON)
    assert attempts == [1, 2, 3]
    task = await sdk.tasks.get(caught.value.task_id)
    assert [entry["reason"] for entry in task.log] == ["RuntimeError: no 1", "RuntimeError: no 2", "RuntimeError: no 3"]


async def test_a_failed_task_is_queued_again_and_its_result_comes(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    cause = {"is there": True}

    @sdk.register_task_handler("w", capabilities=["fail"])
    async def fail(item: Any, context: TaskContext) -> int:
        if cause["is there"]:
            raise ValueError("no")
        return context.attempt

    ids = [await sdk.tasks.delegate("fail", number, max_attempts=1) for number in range(2)]
    for id in ids:
        with pytest.raises(TaskFailedError):
            await sdk.tasks.result(id, timeout=SOON)
    cause["is there"] = False
    assert await sdk.tasks.redrive(ids[0], task_type="other") == 0
    assert await sdk.tasks.redrive(ids[0]) == 1
    assert await sdk.tasks.result(ids[0], timeout=SOON) == 1
    assert await sdk.tasks.redrive(task_type="fail") == 1
    assert await sdk.tasks.result(ids[1], timeout=SOON) == 1
    assert await sdk.tasks.redrive(ids) == 0
    with pytest.raises(InvalidArgumentError, match="both missing"):
        await sdk.tasks.redrive()


async def test_a_worker_says_which_errors_are_worth_another_try(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    attempts: list[int] = []

    @sdk.register_task_handler("w", capabilities=["fail"], retry_on=OSError, give_up_on=(FileNotFoundError,))
    async def fail(item: str, context: TaskContext) -> None:
        attempts.append(context.attempt)
        raise {"value": ValueError, "gone": FileNotFoundError, "net": ConnectionError}[item]("no")

    for item, tried in (("value", [1]), ("gone", [1]), ("net", [1, 2])):
        attempts.clear()
        with pytest.raises(TaskFailedError):
            await sdk.tasks.delegate("fail", item, max_attempts=2, wait=True, timeout=SOON)
        assert attempts == tried


async def test_what_no_repeat_can_help_fails_at_once(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()

    @sdk.register_task_handler("w", capabilities=["resize"])
    async def resize(picture: Picture, context: TaskContext) -> object:
        return object() if picture.width else float("nan")

    for payload, reason in (({"height": 1}, "width"), ({"width": 1}, "result"), ({"width": 0}, "result")):
        with pytest.raises(TaskFailedError, match=reason):
            await sdk.tasks.delegate("resize", payload, wait=True, timeout=SOON)


async def test_a_run_that_takes_too_long_is_cancelled_and_tried_again(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    bench = Bench(sdk)
    with pytest.raises(TaskFailedError, match=r"HandlerTimeoutError.*or raise the run_timeout of the task"):
        await sdk.tasks.delegate("resize", run_timeout=0.05, max_attempts=2, wait=True, timeout=SOON)
    assert [context.attempt for context in bench.contexts] == [1, 2]
    assert bench.running == 0


async def test_a_deadline_ends_a_task_that_waits_and_one_that_runs(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    bench = Bench(sdk)
    for kind in ("nobody", "resize"):
        soon = datetime.now(UTC) + timedelta(seconds=0.3)
        with pytest.raises(TaskExpiredError):
            await sdk.tasks.delegate(kind, kind, deadline=soon, wait=True, timeout=SOON)
    await eventually(lambda: bench.running == 0, SOON)
    assert bench.began == ["resize"]


# --- cancelling -------------------------------------------------------------------------------------------------------


async def test_cancelling_ends_the_task_and_its_run_also_in_another_process(make_sdk: MakeSdk) -> None:
    here = await make_sdk()
    there = here if here.store.capabilities.processes is False else await make_sdk()
    bench = Bench(there)
    id = await here.tasks.delegate("resize", 1)
    waiting = asyncio.create_task(here.tasks.result(id, timeout=SOON))
    await bench.wait_for(1)
    assert await here.tasks.cancel(id, reason="not wanted")
    with pytest.raises(TaskCancelledError, match="not wanted"):
        await waiting
    await eventually(lambda: bench.running == 0, SOON)
    assert bench.contexts[0].is_cancelled
    assert await here.tasks.cancel([id, "nobody"]) == [False, False]
    # Its place is free.
    bench.opened.set()
    assert await here.tasks.delegate("resize", 2, wait=True, timeout=SOON) == {"did": 2}


async def test_a_cancelled_supervisor_changes_nothing(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    bench = Bench(sdk)
    waiting = asyncio.create_task(sdk.tasks.delegate("resize", 1, task_id="t", wait=True))
    await bench.wait_for(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    bench.opened.set()
    assert await sdk.tasks.result("t", timeout=SOON) == {"did": 1}


# --- several processes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)
async def test_tasks_and_results_cross_processes(make_sdk: MakeSdk) -> None:
    supervisor, one, two = await make_sdk(), await make_sdk(), await make_sdk()
    benches = Bench(one, "one", opened=True), Bench(two, "two", opened=True)
    outcomes = [outcome async for outcome in supervisor.tasks.map("resize", range(20), timeout=SOON)]
    assert all(outcome.result == {"did": outcome.item} for outcome in outcomes)
    assert sorted(benches[0].began + benches[1].began) == [*range(20)]
    assert {worker.worker_id for worker in await supervisor.tasks.workers()} == {"one", "two"}
    # Whoever did not hand it out can ask too.
    assert await two.tasks.result(outcomes[0].task_id, timeout=SOON) == outcomes[0].result


@pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)
async def test_what_runs_where_somebody_leaves_is_done_by_another_uncounted(make_sdk: MakeSdk) -> None:
    supervisor, leaving = await make_sdk(), await make_sdk(drain_timeout=0.1)
    bench = Bench(leaving, "w")
    id = await supervisor.tasks.delegate("resize", 1, max_attempts=1)
    await bench.wait_for(1)
    await leaving.close()
    assert await supervisor.tasks.workers() == []
    assert (await supervisor.tasks.get(id)).state is TaskState.QUEUED
    other = Bench(supervisor, "w", opened=True)
    assert await supervisor.tasks.result(id, timeout=SOON) == {"did": 1}
    assert other.contexts[0].attempt == 1


async def test_leaving_lets_what_runs_end(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    bench = Bench(sdk)
    await sdk.tasks.delegate("resize", 1, task_id="t")
    await sdk.tasks.delegate("resize", 2, task_id="u", priority="low")
    await bench.wait_for(2)
    closing = asyncio.create_task(sdk.close())
    await asyncio.sleep(0)
    assert not closing.done()
    bench.opened.set()
    await closing
    assert bench.running == 0


async def test_a_claim_whose_answer_was_lost_goes_back_and_is_done(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    lost = 0

    def lose() -> None:
        nonlocal lost
        if not lost:
            lost = 1
            raise OutcomeUnknownError("The answer was lost.")

    bench = Bench(sdk, opened=True)
    await eventually(lambda: sdk.tasks.engine.workforce._enrolled, SOON)
    arm("after_tasks_settle", lose)
    try:
        assert await sdk.tasks.delegate("resize", 1, wait=True, timeout=SOON) == {"did": 1}
    finally:
        disarm()
    assert lost
    assert [context.attempt for context in bench.contexts] == [1]


async def test_a_worker_that_was_forgotten_appears_again(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(coordination={"heartbeat_interval": 0.05})
    Bench(sdk, opened=True)
    await eventually(lambda: sdk.tasks.engine.workforce._enrolled, SOON)
    assert await sdk.tasks.engine.workplace.store.workers.unregister("w")
    assert await sdk.tasks.delegate("resize", 1, wait=True, timeout=SOON) == {"did": 1}


async def test_a_handler_that_goes_takes_nothing_more(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    Bench(sdk, opened=True)
    await sdk.tasks.delegate("resize", 1, wait=True, timeout=SOON)
    assert sdk.unregister_task_handler("w")
    assert not sdk.unregister_task_handler("w")
    async with asyncio.timeout(SOON):
        while await sdk.tasks.workers():
            await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        await sdk.tasks.delegate("resize", 2, wait=True, timeout=0.1)


async def test_what_runs_where_a_handler_goes_goes_on(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    leaves = Bench(sdk, "leaves")
    id = await sdk.tasks.delegate("resize", 1)
    await leaves.wait_for(1)
    stays = Bench(sdk, "stays", opened=True)
    assert sdk.unregister_task_handler("leaves")
    assert await sdk.tasks.delegate("resize", 2, wait=True, timeout=SOON) == {"did": 2}
    leaves.opened.set()
    assert await sdk.tasks.result(id, timeout=SOON) == {"did": 1}
    assert (leaves.began, stays.began) == ([1], [2])
    found = await eventually(lambda: sdk.tasks.workers(), SOON, until=lambda workers: len(workers) == 1)
    assert [worker.worker_id for worker in found] == ["stays"]


@pytest.mark.parametrize("options", [{}, {"types": ["draw"]}, {"rate": (1, 1000)}], ids=["goes", "types", "rate"])
async def test_a_worker_that_takes_nothing_hides_no_task_from_another(
    make_sdk: MakeSdk, options: dict[str, Any]
) -> None:
    sdk = await make_sdk()
    first = Bench(sdk, "first", capabilities=["resize", "draw"], **options)
    held = await sdk.tasks.delegate("draw", 1)
    await first.wait_for(1)
    if not options:
        assert sdk.unregister_task_handler("first")
    second = Bench(sdk, "second", opened=True)
    assert await sdk.tasks.delegate("resize", 2, wait=True, timeout=SOON) == {"did": 2}
    await eventually(lambda: not sdk.tasks.engine.workforce._hungry, SOON)  # both have looked, and found nothing
    assert await sdk.tasks.delegate("resize", 3, wait=True, timeout=SOON) == {"did": 3}
    assert (first.began, second.began) == ([1], [2, 3])
    first.opened.set()
    assert await sdk.tasks.result(held, timeout=SOON) == {"did": 1}


# --- rates ------------------------------------------------------------------------------------------------------------


def test_a_rate_lets_so_many_begin_in_a_time() -> None:
    now = 0.0
    rate = Rate(2, 10.0, clock=lambda: now)
    assert rate.allowance() == 2
    rate.spend(2)
    assert rate.allowance() == 0
    assert rate.pause == pytest.approx(5)
    now = 5.0
    assert rate.allowance() == 1
    now = 100.0
    assert rate.allowance() == 2
    rate.spend(4)  # more than it lets: the next one waits for all of them
    assert rate.allowance() == 0
    assert rate.pause == pytest.approx(15)


async def test_a_rate_holds_for_a_worker_and_for_one_type(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    slow = Bench(sdk, "slow", capabilities=["a"], opened=True, max_concurrent_tasks=9, rate=(2, 1000))
    mixed = Bench(sdk, "mixed", capabilities=["b", "c"], opened=True, max_concurrent_tasks=9, rates={"b": (1, 1000)})
    for kind in "abc":
        for number in range(4):
            await sdk.tasks.delegate(kind, f"{kind}{number}", task_id=f"{kind}{number}")
    for id in ("a1", "b0", "c3"):
        await sdk.tasks.result(id, timeout=SOON)
    await sdk.tasks.delegate("c", "last", wait=True, timeout=SOON)
    assert slow.began == ["a0", "a1"]
    assert [name for name in mixed.began if name.startswith("b")] == ["b0"]


async def test_what_another_worker_does_leaves_a_rate_as_it_is(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    slow = Bench(sdk, "slow", capabilities=["a"], opened=True, max_concurrent_tasks=9, rate=(1, 0.5))
    quick = Bench(sdk, "quick", capabilities=["b"])
    await sdk.tasks.delegate("b", "b0")
    await quick.wait_for(1)
    ids = await asyncio.gather(*(sdk.tasks.delegate("a", number) for number in range(3)))
    await slow.wait_for(1)
    quick.opened.set()  # its end is settled while the other one waits for its rate
    for id in ids:
        await sdk.tasks.result(id, timeout=SOON)


async def test_a_worker_that_began_more_than_its_rate_lets_goes_on_later(make_sdk: MakeSdk) -> None:
    """It asks for each limited type apart, so it may get as many at once as there are types."""
    sdk = await make_sdk()
    ids = [await sdk.tasks.delegate(kind, number, required_capabilities=["x"]) for kind in "abcd" for number in "12"]
    Bench(sdk, capabilities=["x"], opened=True, max_concurrent_tasks=9, rate=(1, 0.05), rates=dict.fromkeys("abc", 9))
    for id in ids:
        await sdk.tasks.result(id, timeout=SOON)


# --- arguments --------------------------------------------------------------------------------------------------------


async def test_bad_arguments_are_refused_before_anything_is_stored(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    past = datetime.now(UTC) - timedelta(seconds=1)
    options: list[dict[str, Any]] = [
        {"task_type": ""},
        {"priority": "soon"},
        {"deadline": past},
        {"deadline": datetime.now()},
        {"run_timeout": 0},
        {"delay": -1},
        {"max_attempts": 0},
        {"max_attempts": True},
        {"required_capabilities": "python"},
        {"task_id": " t"},
        {"wait": 1},
        {"timeout": -1},
    ]
    for one in options:
        with pytest.raises(InvalidArgumentError):
            await sdk.tasks.delegate(**({"task_type": "resize"} | one))
    with pytest.raises(PayloadError):
        await sdk.tasks.delegate("resize", float("nan"))
    number: Any = 5
    for call in (sdk.tasks.list(states=number), sdk.tasks.cancel(number), sdk.tasks.redrive(number)):
        with pytest.raises(InvalidArgumentError, match="list of texts"):
            await call
    assert await sdk.tasks.list() == []
    with pytest.raises(TaskNotFoundError):
        await sdk.tasks.result("nobody", timeout=SOON)
    with pytest.raises(TaskNotFoundError):
        await sdk.tasks.get("nobody")
    with pytest.raises(InvalidArgumentError):
        await sdk.tasks.list(states=["odd"])
    refused: list[dict[str, Any]] = [
        {"capabilities": "python"},
        {"capabilities": ["a"], "max_concurrent_tasks": 0},
        {"capabilities": ["a"], "retry_on": "OSError"},
        {"capabilities": ["a"], "rate": 0},
        {"capabilities": ["a"], "rates": [("a", 1)]},
        {"capabilities": ["a"], "rates": {5: 1}},
    ]
    for one in refused:
        with pytest.raises(InvalidArgumentError):
            sdk.register_task_handler("w", **one)
    with pytest.raises(InvalidArgumentError):
        sdk.register_task_handler("w", capabilities=["a"])(lambda: None)  # type: ignore[type-var]
    with pytest.raises(InvalidArgumentError):
        TaskContext("t", "resize").progress(2)


async def test_tasks_are_listed_by_what_is_known_of_them(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    Bench(sdk, opened=True)
    await sdk.tasks.delegate("resize", 1, task_id="a", supervisor="s", wait=True, timeout=SOON)
    await sdk.tasks.delegate("other", 2, task_id="b")
    assert [task.task_id for task in await sdk.tasks.list()] == ["b", "a"]
    assert [task.task_id for task in await sdk.tasks.list(states="done", worker_id="w", supervisor="s")] == ["a"]
    assert [task.task_id for task in await sdk.tasks.list(task_type="other")] == ["b"]
    assert (await sdk.tasks.statistics("s")).counts == {TaskState.DONE: 1}


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_rows_that_lie_stop_nothing_but_themselves(make_sdk: MakeSdk) -> None:
    """PostgreSQL has types that take no such value."""
    sdk = await make_sdk()
    for id in ("lies", "damaged"):
        await sdk.tasks.delegate("resize", 1, task_id=id, priority="critical")
    await sdk.tasks.engine.workplace.store.workers.register(NewWorker("liar", "worker", ("resize",), 9, 90.0))
    await execute(sdk, "update tasks set needs = 'torn' where id = 'lies'")
    await execute(sdk, "update tasks set content = 'torn' where id = 'damaged'")
    await execute(sdk, "update workers set capabilities = '[5' where id = 'liar'")
    Bench(sdk, opened=True)
    assert await sdk.tasks.delegate("resize", 2, wait=True, timeout=SOON) == {"did": 2}
    with pytest.raises(TaskFailedError, match="checksum"):
        await sdk.tasks.result("damaged", timeout=SOON)
    assert [worker.worker_id for worker in await sdk.tasks.workers()] == ["w"]
    news = await sdk.store.tasks.assign([NewTask("t", "x", ("resize",), 2, "1", 0, 1)])
    assert news.outcomes == [Assigned("t", "w", 1)]
    found = await sdk.store.check()
    assert [line for line in found if "tasks" in line and "needs" in line]
    assert [line for line in found if "workers" in line and "capabilities" in line]


@pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)
async def test_a_number_that_cannot_rise_stops_nothing_but_itself(make_sdk: MakeSdk, backend: str) -> None:
    """A statement that raised it would be refused, and with it the claims of all others."""
    sdk = await make_sdk()
    most = 2**63 - 1 if backend == "sqlite" else 2**31 - 1
    await sdk.tasks.delegate("resize", 1, task_id="lies", priority="critical")
    message = NewQueueMessage("lies", "q", "s", "text", 0, "1", None, checksum("1", None), 3)
    await sdk.store.queue.put([message, replace(message, message_id="true", priority=1)])
    await execute(sdk, f"update tasks set token = {most}, attempt = {most} where id = 'lies'")
    await execute(sdk, f"update queue_messages set token = {most}, attempt = {most} where message_id = 'lies'")
    claimed = await sdk.store.queue.claim("q", 2, owner=sdk.store.presence.process_id, lease=SOON)
    assert "true" in [one.claim.message_id for one in claimed]
    Bench(sdk, opened=True)
    assert await sdk.tasks.delegate("resize", 2, wait=True, timeout=SOON) == {"did": 2}
