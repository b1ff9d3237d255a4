"""The work that the event loop has with each note and each ask: counts, which are the same on any machine.

A figure with a little air over what was counted when it was written. A change that needs more raises it, with its
reason.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from agent_messaging import MessageContext, TaskContext
from tests.client.support import Sdk, make_config

SIDE_BY_SIDE = 64
"""Callers at once, each with a recipient of its own, so that batches are as large as they are under load."""
EACH = 5
"""Calls of each, one after the other."""
PAYLOAD = {"text": "The quarterly figures are in; please look at the third table.", "number": 0}
ALONE = 100
WAITING = 500

Send = Callable[[str, str], Awaitable[object]]


@pytest.fixture
async def sdk() -> AsyncIterator[Sdk]:
    asyncio.get_running_loop().set_debug(False)  # which has work of its own with each task and callback
    async with Sdk(make_config("sqlite://:memory:")) as sdk:
        await sdk.add_people(*(f"{word}-{n}" for n in range(SIDE_BY_SIDE) for word in ("sender", "recipient")))
        yield sdk


@contextmanager
def counting() -> Iterator[Counter[str]]:
    """Count what the running loop does, and the calls of Python functions in its thread."""
    loop: Any = asyncio.get_running_loop()
    counts = Counter[str]()

    def counted(name: str, kind: str) -> None:
        method = getattr(loop, name)

        def count(*arguments: Any, **options: Any) -> Any:
            counts[kind] += 1
            return method(*arguments, **options)

        setattr(loop, name, count)

    def called(frame: FrameType, event: str, _: object) -> None:
        counts["calls"] += event == "call"

    kinds = {"create_task": "tasks", "create_future": "futures", "call_at": "timers", "call_soon": "callbacks"}
    for name, kind in kinds.items():
        counted(name, kind)
    sys.setprofile(called)
    try:
        yield counts
    finally:
        sys.setprofile(None)
        for name in kinds:
            delattr(loop, name)


async def count_each(sdk: Sdk, send: Send) -> dict[str, float]:
    """What one call costs, with many side by side."""

    async def flow(n: int) -> None:
        for _ in range(EACH):
            await send(f"sender-{n}", f"recipient-{n}")

    async def all_flows() -> None:
        flows = [asyncio.create_task(flow(n)) for n in range(SIDE_BY_SIDE)]
        await asyncio.wait(flows)
        await sdk._started().dispatcher.wait_until_idle()

    await all_flows()  # everything is known from here on
    with counting() as counts:
        await all_flows()
    number = SIDE_BY_SIDE * EACH
    counts["tasks"] -= SIDE_BY_SIDE
    return {kind: round(count / number, 2) for kind, count in counts.items()}


def check(counts: dict[str, float], most: dict[str, float]) -> None:
    over = {kind: (counts[kind], limit) for kind, limit in most.items() if counts.get(kind, 0.0) > limit}
    assert not over, f"of {counts}"


async def test_a_note_costs_the_loop_a_task_a_future_and_no_timer(sdk: Sdk) -> None:
    async def nothing(message: dict[str, Any], context: MessageContext) -> None:
        pass

    for n in range(SIDE_BY_SIDE):
        sdk.register_handler(f"recipient-{n}")(nothing)
    check(
        await count_each(sdk, lambda sender, recipient: sdk.one_way.send(sender, recipient, PAYLOAD)),
        {"tasks": 1.2, "futures": 1.2, "timers": 0.1, "callbacks": 2.6, "calls": 116},
    )


async def test_an_ask_costs_the_loop_a_task_a_future_and_no_timer(sdk: Sdk) -> None:
    async def answer(message: dict[str, Any], context: MessageContext) -> dict[str, Any]:
        return message

    for n in range(SIDE_BY_SIDE):
        sdk.register_handler(f"recipient-{n}")(answer)
    check(
        await count_each(sdk, lambda sender, recipient: sdk.conversation.send_and_wait(sender, recipient, PAYLOAD)),
        # Four of the calls are looks at the clock that a test may move.
        {"tasks": 1.2, "futures": 1.2, "timers": 0.1, "callbacks": 2.6, "calls": 162},
    )


async def test_a_task_costs_the_loop_two_tasks_and_three_futures(sdk: Sdk) -> None:
    """The commit of its submission, and its run. Nobody looks in the store for what ends here."""

    @sdk.register_task_handler("worker", capabilities=["nothing"], max_concurrent_tasks=SIDE_BY_SIDE)
    async def nothing(payload: dict[str, Any], context: TaskContext) -> None:
        pass

    check(
        await count_each(sdk, lambda sender, recipient: sdk.tasks.delegate("nothing", PAYLOAD, wait=True)),
        {"tasks": 2.3, "futures": 3.3, "timers": 0.2, "callbacks": 9.2, "calls": 250},
    )


async def test_one_ask_after_the_other_costs_the_loop_few_calls_and_one_timer(sdk: Sdk) -> None:
    """Alone, an ask pays by itself for what others share: passes of the loop, the tasks of a commit, hints."""

    async def answer(message: dict[str, Any], context: MessageContext) -> dict[str, Any]:
        return message

    sdk.register_handler("recipient-0")(answer)

    async def ask() -> None:
        for _ in range(ALONE):
            await sdk.conversation.send_and_wait("sender-0", "recipient-0", PAYLOAD)

    await ask()
    with counting() as counts:
        await ask()
    # The timer is that of the append. Some 340 calls; polls bring some more on a busy machine.
    check({kind: count / ALONE for kind, count in counts.items()}, {"tasks": 2.3, "timers": 1.5, "calls": 360})


async def test_while_nobody_listens_no_fact_is_made_and_only_time_looks_at_the_log(sdk: Sdk) -> None:
    async def answer(message: dict[str, Any], context: MessageContext) -> dict[str, Any]:
        return message

    for n in range(SIDE_BY_SIDE):
        sdk.register_handler(f"recipient-{n}")(answer)
    observing = Counter[str]()

    def called(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and ("/observing/" in frame.f_code.co_filename or "facts.py" in frame.f_code.co_filename):
            observing[frame.f_code.co_name] += 1

    sys.setprofile(called)
    try:
        for send in (sdk.one_way.send, sdk.conversation.send_and_wait):
            await asyncio.gather(*(send(f"sender-{n}", f"recipient-{n}", PAYLOAD) for n in range(SIDE_BY_SIDE)))
            await sdk._started().dispatcher.wait_until_idle()
    finally:
        sys.setprofile(None)
    assert observing.keys() <= {"look"}, "which the timekeeper does when it polls"
    assert observing["look"] < 10


async def test_notes_and_asks_leave_no_circles_to_the_garbage_collection(sdk: Sdk) -> None:
    """Reference counts free what they needed: tasks, contexts and claims that waited for a collection cost a tenth."""

    async def answer(message: dict[str, Any], context: MessageContext) -> dict[str, Any]:
        return message

    for n in range(SIDE_BY_SIDE):
        sdk.register_handler(f"recipient-{n}")(answer)
    for send in (sdk.one_way.send, sdk.conversation.send_and_wait):

        async def flow(n: int, send: Callable[..., Awaitable[object]] = send) -> None:
            for _ in range(EACH):
                await send(f"sender-{n}", f"recipient-{n}", PAYLOAD)

        await asyncio.gather(*(flow(n) for n in range(SIDE_BY_SIDE)))
        await sdk._started().dispatcher.wait_until_idle()
        gc.collect()
        gc.disable()
        try:
            await asyncio.gather(*(flow(n) for n in range(SIDE_BY_SIDE)))
            await sdk._started().dispatcher.wait_until_idle()
            assert gc.collect() < SIDE_BY_SIDE, "there were 8 objects for each note, and 12 for each ask"
        finally:
            gc.enable()


async def test_a_note_is_claimed_with_its_append_where_its_recipient_is_free(sdk: Sdk) -> None:
    """Also the next note of a sender that goes on as soon as the last one is stored."""
    settle, claimed = sdk.store.deliveries.settle, 0

    async def count(*arguments: Any, **options: Any) -> Any:
        nonlocal claimed
        settled = await settle(*arguments, **options)
        claimed += len(settled.claimed)
        return settled

    async def nothing(message: dict[str, Any], context: MessageContext) -> None:
        pass

    for n in range(SIDE_BY_SIDE):
        sdk.register_handler(f"recipient-{n}")(nothing)
    sdk.store.deliveries.settle = count  # type: ignore[method-assign]
    await count_each(sdk, lambda sender, recipient: sdk.one_way.send(sender, recipient, PAYLOAD))
    assert claimed <= SIDE_BY_SIDE * EACH * 2 * 0.05, "claimed by a statement of its own"


async def test_an_asker_that_waits_costs_less_than_four_kibibytes(sdk: Sdk) -> None:
    await sdk.add_people(*(f"asker-{n}" for n in range(WAITING)), "responder")

    async def ask(asker: str) -> object:
        return await sdk.conversation.send_and_wait(asker, "responder", PAYLOAD, require_handler=False)

    await sdk.conversation.send_no_wait("asker-0", "responder", PAYLOAD)  # everything is loaded from here on
    engine = sdk._started()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        waiting = [asyncio.create_task(ask(f"asker-{n}")) for n in range(WAITING)]
        while len(engine.asks.waiters) < WAITING or not engine.outbox.is_idle:
            await asyncio.sleep(0.01)
        await sdk.store.deliveries.list_claims("nobody")  # the writer has let go of what it stored
        gc.collect()
        each = (tracemalloc.get_traced_memory()[0] - before) / WAITING
    finally:
        tracemalloc.stop()
    for one in waiting:
        one.cancel()
    await asyncio.wait(waiting)
    assert each < 4096, "with the task and the coroutine of its caller; 2.6 KiB, and 3.2 behind many other tests"
