"""Who waits costs next to nothing while nothing happens: each public call that waits, beside an SDK that does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from agent_messaging.storage.sqlite.presence import SQLitePresence
from tests.client.meeting_support import Table
from tests.client.support import Gate, MakeSdk, Sdk

WINDOW = 2.0
"""Seconds for which is counted."""
A_FEW = 8
"""Looks at the store in a second, at most, that waiting costs."""
LONG = 60.0


class Counter:
    """Counts how often an SDK asks its store something."""

    def __init__(self, sdk: Sdk) -> None:
        self.asked = 0
        engine: Any = sdk.store.engine  # type: ignore[attr-defined]
        for name in ("_read", "_write", "_try"):
            if (method := getattr(engine, name, None)) is not None:
                setattr(engine, name, self._counted(method))

    def _counted(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        def counted(*arguments: Any, **options: Any) -> Awaitable[Any]:
            self.asked += 1
            return method(*arguments, **options)

        return counted


async def wait_for_a_slow_handler(sdk: Sdk) -> None:
    sdk.register_handler("slow")(Gate())
    await sdk.conversation.send_and_wait("alice", "slow", "?", timeout=LONG)


async def wait_twice_under_a_key(sdk: Sdk) -> None:
    calls = [
        sdk.conversation.send_and_wait("carol", "bob", "?", timeout=LONG, require_handler=False, idempotency_key="same")
        for _ in range(2)
    ]
    await asyncio.gather(*calls)


async def wait_for_the_session(sdk: Sdk) -> None:
    calls = [
        sdk.conversation.send_and_wait("dave", "bob", "?", timeout=LONG, require_handler=False, wait_for_session=True)
        for _ in range(2)
    ]
    await asyncio.gather(*calls)


async def wait_for_a_receipt(sdk: Sdk) -> None:
    await sdk.receipts.wait(await sdk.one_way.send("alice", "bob", "note", require_handler=False), timeout=LONG)


async def wait_for_two_to_be_served(sdk: Sdk) -> None:
    await asyncio.gather(*(sdk.wait_until_served(name, timeout=LONG) for name in ("bob", "nobody")))


async def wait_until_ready(sdk: Sdk) -> None:
    meeting = await sdk.meeting.create_meeting("alice", ["bob"], turn_duration=LONG)
    await sdk.meeting.wait_until_ready(meeting, timeout=LONG)


async def wait_for_turn(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob", host="alice", turn_duration=LONG)
    await sdk.meeting.wait_for_turn("bob", table.id, timeout=LONG)


WAITS: dict[str, Callable[[Sdk], Awaitable[object]]] = {
    "nothing": lambda sdk: asyncio.sleep(LONG),
    "wait_until_served": wait_for_two_to_be_served,
    "receipts.wait": wait_for_a_receipt,
    "receive": lambda sdk: sdk.receive("erin", timeout=LONG),
    "wait_for_message": lambda sdk: sdk.conversation.wait_for_message("erin", "alice", timeout=LONG),
    "send_and_wait": lambda sdk: sdk.conversation.send_and_wait(
        "alice", "bob", "?", timeout=LONG, require_handler=False
    ),
    "send_and_wait to a slow handler": wait_for_a_slow_handler,
    "send_and_wait under a key, twice": wait_twice_under_a_key,
    "send_and_wait behind another": wait_for_the_session,
    "wait_until_ready": wait_until_ready,
    "wait_for_turn": wait_for_turn,
}


async def test_an_idle_wait_asks_the_store_a_few_times_a_second_at_most(make_sdk: MakeSdk) -> None:
    people = await make_sdk()
    await people.add_people("alice", "bob", "carol", "dave", "erin", "slow")
    counters: dict[str, Counter] = {}
    waiting: list[asyncio.Future[object]] = []
    for name, wait in WAITS.items():
        sdk = await make_sdk(min_pool_size=1, max_pool_size=2, drain_timeout=0.01)
        counters[name] = Counter(sdk)
        waiting.append(asyncio.ensure_future(wait(sdk)))
    await asyncio.sleep(2.5)  # what each of them began is over, and what others rang for
    before = {name: counter.asked for name, counter in counters.items()}
    await asyncio.sleep(WINDOW)
    rates = {name: (counter.asked - before[name]) / WINDOW for name, counter in counters.items()}
    ended = [name for name, task in zip(WAITS, waiting, strict=True) if task.done()]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    print(rates)
    assert ended == []
    busy = {name: rate for name, rate in rates.items() if rate > rates["nothing"] + A_FEW}
    assert busy == {}


async def test_who_is_alone_looks_for_the_dead_no_more_often_than_it_polls(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    presence: Any = sdk.store.presence
    look, looks = presence.look, 0

    async def count() -> Any:
        nonlocal looks
        looks += 1
        return await look()

    presence.look = count
    await asyncio.sleep(WINDOW)
    # On SQLite a thread of the store looks, and the loop only where that finds something: what it committed itself.
    most = A_FEW / 2 if isinstance(presence, SQLitePresence) else WINDOW / presence.poll_interval + 1
    assert looks <= most
