"""One object, one event loop: calls from elsewhere are refused at once, and leaving has ended when it returns."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from agent_messaging import EventLoopError, MeetingEventType, MessageContext, NotInitializedError
from tests.client.doors import calls_of, doors_of
from tests.client.support import SOON, Gate, Inbox, MakeSdk, Sdk, make_config
from tests.support import eventually

AT_ONCE = 1.0
"""Seconds, on a busy machine."""


async def all_calls(sdk: Sdk) -> dict[str, Callable[[], Any]]:
    """What a user can call on a started SDK object, and on a message that it received."""
    [id] = await sdk.one_way.send("alice", "carol", "pulled", require_handler=False)
    [received] = await sdk.receive("carol")
    assert received.message_id == id
    return {name: call for owner in (sdk, *doors_of(sdk).values(), received) for name, call in calls_of(owner).items()}


def in_thread(function: Callable[[], Any]) -> asyncio.Future[Any]:
    """Run it in a thread of its own, which has no loop."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def run() -> None:
        try:
            result, error = function(), None
        except BaseException as raised:
            result, error = None, raised
        loop.call_soon_threadsafe(future.set_exception if error else future.set_result, error or result)

    threading.Thread(target=run, daemon=True).start()
    return future


async def still_works(sdk: Sdk) -> None:
    inbox = Inbox()
    sdk.register_handler("bob")(inbox)
    await sdk.wait(await sdk.one_way.send("alice", "bob", "still"))
    assert inbox.messages[-1] == "still"


# --- elsewhere --------------------------------------------------------------------------------------------------------


async def test_every_call_from_another_loop_is_refused_at_once_and_disturbs_nothing(sdk: Sdk) -> None:
    calls = await all_calls(sdk)
    assert len(calls) > 80
    taken: dict[str, object] = {}

    async def call_all() -> None:
        for name, call in calls.items():
            try:
                result = call()
                taken[name] = await asyncio.wait_for(result, AT_ONCE) if inspect.isawaitable(result) else result
            except EventLoopError as error:
                assert "sdk.portal.call" in str(error)  # noqa: PT017
            except Exception as error:
                taken[name] = error

    await in_thread(lambda: asyncio.run(call_all()))
    assert {name: repr(result) for name, result in taken.items()} == {}
    await still_works(sdk)


async def test_a_call_without_a_loop_is_refused_too(sdk: Sdk) -> None:
    meeting_id = await sdk.meeting.create_meeting("alice", ["bob"], speaker_selection=lambda so_far: "bob")
    with pytest.raises(EventLoopError):
        await in_thread(lambda: sdk.meeting.choose_speakers(meeting_id, lambda so_far: "bob"))
    with pytest.raises(EventLoopError):
        await in_thread(lambda: sdk.store)
    sdk.meeting.choose_speakers(meeting_id, lambda so_far: "bob")


@pytest.mark.parametrize("is_started", [True, False])
async def test_a_loop_that_is_not_asyncios_is_refused_with_what_to_use(sdk: Sdk, url: str, is_started: bool) -> None:
    """Under trio, say: whoever steps the coroutine, no event loop of asyncio runs."""
    one = sdk if is_started else Sdk(url, handle_signals=True)
    starting = (one.initialize, one.__aenter__, one.run_until_stopped)
    for call in (one.close, *starting) if is_started else starting:
        with pytest.raises(EventLoopError, match=r"agent_messaging\.sync"):
            await in_thread(lambda call=call: call().send(None))  # type: ignore[misc]
    await still_works(sdk)


async def test_a_plain_handler_that_runs_a_loop_of_its_own_is_told_how_to_call(sdk: Sdk) -> None:
    loop = asyncio.get_running_loop()
    sdk.register_handler("carol")(inbox := Inbox())

    def pass_on(message: str, context: MessageContext) -> str:
        call = sdk.one_way.send("bob", "carol", message)
        if message == "wrong":
            try:
                asyncio.run(call)
            except RuntimeError as error:
                return type(error).__name__
        return asyncio.run_coroutine_threadsafe(call, loop).result()[0]

    sdk.register_handler("bob")(pass_on)
    assert await sdk.conversation.send_and_wait("alice", "bob", "wrong", timeout=SOON) == "EventLoopError"
    assert await sdk.conversation.send_and_wait("alice", "bob", "right", timeout=SOON)
    assert await inbox.wait_for(1) == ["right"]


async def test_starting_and_closing_from_another_loop_are_refused(sdk: Sdk) -> None:
    for call in (sdk.initialize, sdk.close):
        with pytest.raises(EventLoopError):
            await in_thread(lambda call=call: asyncio.run(call()))  # type: ignore[misc]
    await still_works(sdk)


async def test_handlers_of_events_may_be_registered_from_another_thread(sdk: Sdk) -> None:
    happened = asyncio.Event()

    async def on_start(event: Any) -> None:
        happened.set()

    register = sdk.register_event_handler(MeetingEventType.MEETING_STARTED)
    await asyncio.to_thread(register, on_start)
    await eventually(lambda: sdk._started().events._workers)
    meeting_id = await sdk.meeting.create_meeting("alice", ["bob"])
    await sdk.meeting.attend_meeting("bob", meeting_id)
    await sdk.meeting.start_meeting("alice", meeting_id)
    await asyncio.wait_for(happened.wait(), SOON)


# --- one loop after another -------------------------------------------------------------------------------------------


async def send_to(sdk: Sdk, handler: Callable[[str, MessageContext], Awaitable[None]]) -> str:
    """Start the SDK, and send a note to bob, whose handler this is; returns its id."""
    await sdk.initialize()
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(handler)
    [id] = await sdk.one_way.send("alice", "bob", "hi")
    return id


def test_a_second_asyncio_run_is_refused_with_words_and_may_start_anew(url: str) -> None:
    sdk = Sdk(make_config(url))
    began = threading.Event()

    async def hang(message: str, context: MessageContext) -> None:
        began.set()
        await asyncio.Event().wait()

    async def first() -> str:
        id = await send_to(sdk, hang)
        await eventually(began.is_set, SOON)
        return id

    async def second(id: str) -> None:
        for call in (sdk.list_agents, lambda: sdk.one_way.send("alice", "bob", "x")):
            with pytest.raises(EventLoopError, match=r"in each asyncio\.run"):
                await call()
        sdk.unregister_handler("bob")
        sdk.register_handler("bob")(inbox := Inbox())
        async with sdk:
            [receipt] = await sdk.wait([id])
            assert (receipt.state.value, receipt.attempt, inbox.messages) == ("done", 1, ["hi"])

    id = asyncio.run(first())
    asyncio.run(second(id))
    with pytest.raises(NotInitializedError):
        asyncio.run(sdk.list_agents())


def test_a_loop_that_ends_in_the_middle_of_closing_costs_no_attempt(url: str) -> None:
    sdk = Sdk(make_config(url))
    began, is_cancelled = asyncio.Event(), asyncio.Event()

    async def hang(message: str, context: MessageContext) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            is_cancelled.set()
            await asyncio.Event().wait()

    async def first() -> str:
        id = await send_to(sdk, hang)
        await began.wait()
        sdk._lifecycle.hurry()
        asyncio.create_task(sdk.close())  # noqa: RUF006 - the loop ends first
        await is_cancelled.wait()
        return id

    async def second(id: str) -> None:
        sdk.unregister_handler("bob")
        sdk.register_handler("bob")(Inbox())
        async with sdk:
            [receipt] = await sdk.wait([id])
            assert (receipt.state.value, receipt.attempt) == ("done", 1)

    asyncio.run(second(asyncio.run(first())))


CLOSED_LOOP = """
import asyncio, json, sys, threading

from tests.client.support import Gate, Inbox, Sdk, make_config

async def first():
    await sdk.initialize()
    await sdk.add_people("alice", "bob")
    [id] = await sdk.one_way.send("alice", "bob", "hi")
    await gate.wait_for(1)
    return id

async def second(id):
    if how == "close":
        await sdk.close()
    sdk.register_handler("bob")(inbox := Inbox())
    async with sdk:
        [receipt] = await sdk.wait([id])
    return [receipt.state.value, receipt.attempt, inbox.messages]

url, how = sys.argv[1:]
sdk = Sdk(make_config(url))
sdk.register_handler("bob")(gate := Gate())
loop = asyncio.new_event_loop()
id = loop.run_until_complete(first())
loop.close()
try:
    asyncio.run(sdk.list_agents())
except RuntimeError as error:
    refused = type(error).__name__
answer = asyncio.run(second(id))
print(json.dumps([refused, *answer, [thread.name for thread in threading.enumerate()]]))
"""


FORKED = """
import asyncio, json, os, sys, time

from tests.client.doors import calls_of, doors_of
from tests.client.support import SOON, Gate, Sdk, make_config

async def child():
    refused = []
    for call in (sdk.list_agents, lambda: sdk.one_way.send("alice", "bob", "x"), lambda: settle()):
        try:
            await call()
        except RuntimeError as error:
            refused.append(type(error).__name__)
    began = time.monotonic()
    await sdk.close()
    closed_in = time.monotonic() - began
    async with sdk:
        await sdk.one_way.send("alice", "bob", "from the child", require_handler=False)
    return {"refused": refused, "closed_in": closed_in}

async def main():
    global settle
    async with sdk:
        await sdk.add_people("alice", "bob", "carol")
        await sdk.one_way.send("alice", "carol", "pulled", require_handler=False)
        [received] = await sdk.receive("carol")
        settle = received.done
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, json.dumps(asyncio.run(child())).encode())
            os._exit(0)
        os.close(write)
        told = json.loads(await asyncio.wait_for(asyncio.to_thread(os.read, read, 1000), SOON))
        os.wait()
        await received.done()
        await sdk.one_way.send("alice", "bob", "from the parent", require_handler=False)
        told["messages"] = [one.content for one in await sdk.receive("bob", 10)]
        return told

sdk = Sdk(make_config(sys.argv[1]))
print(json.dumps(asyncio.run(main())))
"""


async def run_program(program: str, *arguments: str) -> Any:
    """Run it in a process of its own; what it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, *arguments), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    return json.loads(output)


async def test_a_forked_child_is_refused_and_closes_at_once_and_may_start_anew(url: str) -> None:
    told = await run_program(FORKED, url)
    assert told["refused"] == ["EventLoopError"] * 3
    assert told["closed_in"] < AT_ONCE
    assert told["messages"] == ["from the child", "from the parent"]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("how", ["initialize", "close"])
async def test_a_loop_that_was_closed_without_leaving_is_let_go(url: str, how: str) -> None:
    """As by `loop.run_until_complete` and `loop.close()`, which cancel nothing. What was claimed is not counted."""
    refused, state, attempt, messages, threads = await run_program(CLOSED_LOOP, url, how)
    assert (refused, state, messages, threads) == ("EventLoopError", "done", ["hi"], ["MainThread"])
    assert attempt == (1 if how == "initialize" else 2)


def test_another_loop_that_has_not_ended_keeps_the_object(url: str) -> None:
    sdk = Sdk(make_config(url))
    one = asyncio.new_event_loop()
    try:
        one.run_until_complete(sdk.initialize())
        for call in (sdk.initialize, sdk.close, sdk.list_agents):
            with pytest.raises(EventLoopError):
                asyncio.run(call())
        assert one.run_until_complete(sdk.list_agents()) == []
        one.run_until_complete(sdk.close())
    finally:
        one.close()


# --- leaving has ended when it returns --------------------------------------------------------------------------------


async def cancel_again_and_again(task: asyncio.Task[Any]) -> None:
    """As a cancel scope of anyio does, which cancels whatever it surrounds until it has ended."""
    while not task.done():
        task.cancel()
        await asyncio.sleep(0.01)


async def left_within(task: asyncio.Task[Any], seconds: float) -> float:
    started = time.monotonic()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait_for(cancel_again_and_again(task), seconds)
    assert task.cancelled()
    return time.monotonic() - started


def nothing_is_open(sdk: Sdk) -> None:
    assert sdk._lifecycle.engine is None
    changing = {task.get_name() for task in asyncio.all_tasks()} & {"agent-messaging-close", "agent-messaging-start"}
    assert changing == set()
    with pytest.raises(NotInitializedError):
        sdk._started()


async def leave_by_cancellation(sdk: Sdk) -> None:
    closing = asyncio.create_task(sdk.close())
    await asyncio.sleep(0)  # one that is cancelled before its first step does nothing
    await left_within(closing, 8.0)


async def leave_by_time(sdk: Sdk) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sdk.close(), 0.05)


async def leave_in_a_scope_that_is_cancelled(sdk: Sdk) -> None:
    entered = asyncio.Event()

    async def work() -> None:
        async with sdk:  # started already: only its end is of interest
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    await left_within(task, 8.0)


async def leave_because_another_task_failed(sdk: Sdk) -> None:
    async def work() -> None:
        async with sdk:
            await asyncio.Event().wait()

    async def fail() -> None:
        raise LookupError

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(work())
            await asyncio.sleep(0)
            group.create_task(fail())

    with pytest.raises(ExceptionGroup):
        await both()


@pytest.mark.parametrize(
    "leave",
    [
        leave_by_cancellation,
        leave_by_time,
        leave_in_a_scope_that_is_cancelled,
        leave_because_another_task_failed,
    ],
)
async def test_leaving_has_ended_when_it_returns_however_often_it_is_cancelled(
    make_sdk: MakeSdk, leave: Callable[[Sdk], Coroutine[Any, Any, None]]
) -> None:
    sdk, other = await make_sdk(drain_timeout=0.5), await make_sdk()
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(gate := Gate())
    ids = [id for number in range(3) for id in await sdk.one_way.send("alice", "bob", number)]
    await gate.wait_for(1)
    await leave(sdk)
    nothing_is_open(sdk)
    sdk.register_handler("bob")(inbox := Inbox())
    await sdk.initialize()
    assert [receipt.attempt for receipt in await other.wait(ids)] == [1, 1, 1]
    assert inbox.messages == [0, 1, 2]


async def test_starting_that_is_cancelled_again_and_again_leaves_nothing(url: str) -> None:
    sdk = Sdk(make_config(url))
    for turns in range(1, 40, 6):
        starting = asyncio.create_task(sdk.initialize())
        for _ in range(turns):
            await asyncio.sleep(0)
        if starting.done():
            break
        await left_within(starting, 8.0)
        nothing_is_open(sdk)
    await sdk.close()
    async with sdk:
        assert await sdk.list_agents() == []


async def test_who_starts_while_it_is_left_waits_and_gets_a_new_engine(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(gate := Gate())
    await sdk.one_way.send("alice", "bob", "hi")
    await gate.wait_for(1)
    old = sdk._started()
    closing = [asyncio.create_task(sdk.close()) for _ in range(2)]
    await eventually(lambda: old.is_closing)
    starting = asyncio.create_task(sdk.initialize())
    await asyncio.sleep(0)
    assert not starting.done()
    gate.open()
    await asyncio.wait_for(asyncio.gather(*closing, starting), SOON)
    assert sdk._started() is not old
    await still_works(sdk)


async def test_who_closes_while_it_is_started_waits_and_leaves_it_closed(url: str) -> None:
    sdk = Sdk(make_config(url))
    starting = asyncio.create_task(sdk.initialize())
    await asyncio.sleep(0)
    await sdk.close()
    await starting
    nothing_is_open(sdk)


@pytest.mark.parametrize("number", range(3))
async def test_whatever_is_started_left_and_cancelled_at_once_it_ends_and_can_be_used(url: str, number: int) -> None:
    """Random starts, leavings, blocks and calls, most of them cancelled again and again, some at each turn."""
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    chance = random.Random(seed)
    sdk = Sdk(make_config(url, drain_timeout=0.05))
    sdk.register_handler("bob")(gate := Gate())

    async def block() -> None:
        async with sdk:
            await sdk.add_people("alice", "bob")
            await sdk.one_way.send("alice", "bob", "hi")
            await asyncio.sleep(chance.uniform(0.0, 0.02))

    async def act(do: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        with contextlib.suppress(NotInitializedError):
            await do()

    async def cancel(task: asyncio.Task[None]) -> None:
        await asyncio.sleep(chance.uniform(0.0, 0.05))
        pause = chance.choice([0.0, 0.0, 0.001, 0.01])
        while not task.done():
            task.cancel()
            await asyncio.sleep(pause)

    acts: list[Callable[[], Coroutine[Any, Any, Any]]] = [sdk.initialize, sdk.close, block, sdk.list_agents]
    for _ in range(6):
        chosen = chance.choices(acts, k=chance.randint(1, 4))
        acting = [asyncio.create_task(act(do)) for do in chosen]
        cancelling = [asyncio.create_task(cancel(task)) for task in acting if chance.random() < 0.7]
        ends = await asyncio.wait_for(asyncio.gather(*acting, return_exceptions=True), SOON * 2)
        await asyncio.gather(*cancelling)
        failed = [end for end in ends if end is not None and not isinstance(end, asyncio.CancelledError)]
        assert failed == [], f"seed {seed}"
    gate.open()
    await sdk.close()
    nothing_is_open(sdk)
    async with sdk:
        await sdk.add_people("alice", "bob")
        await still_works(sdk)
