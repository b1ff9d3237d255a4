"""Thousands of askers in one process: no connection each, little memory each, answered, and released in time."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from agent_messaging import ConversationTimeoutError, OutcomeUnknownError
from agent_messaging.ids import uuid7
from tests.client.conversing import SLACK, Clerk, ask, nothing_is_left, rows, states_of_asks
from tests.client.support import SOON, MakeSdk, Sdk
from tests.fixtures.postgres import PostgresServer
from tests.support import eventually

MANY = 5_000
POOL = 5
PER_ASKER = 12 * 1024
"""Bytes, with the task of the asker, its message, and what the allocator keeps."""


async def add_askers(sdk: Sdk, count: int) -> list[str]:
    """Register agents faster than one by one."""
    organization = await sdk.register_organization("acme", "Acme")
    names = [f"asker-{number}" for number in range(count)]
    add = sdk.store.directory.add_agent
    for start in range(0, count, 500):
        await asyncio.gather(
            *(add(uuid7(), name, str(organization), name, update_name=False) for name in names[start : start + 500])
        )
    await sdk._started().names.find_all(names)
    return names


def resident() -> int:
    """Bytes of memory in use; 0 on systems that do not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


class Lag:
    """How late the loop was at worst: nothing that runs on it can be more punctual."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.01
            await asyncio.sleep(0.01)
            self.worst = max(self.worst, loop.time() - due)


@pytest.mark.sampled(1)
async def test_five_thousand_askers_wait_with_a_pool_of_five_and_all_are_answered(
    make_sdk: MakeSdk, backend: str, url: str, request: pytest.FixtureRequest
) -> None:
    sdk = await make_sdk(max_pool_size=POOL)
    await sdk.add_people("bob", "carol")
    names = await add_askers(sdk, MANY)
    gc.collect()
    before = resident()
    asks = [ask(sdk, name, "bob", name, timeout=100) for name in names]
    await eventually(
        lambda: rows(sdk, "select count(*) from asks where state = 'open'"), 60, until=lambda found: found == [(MANY,)]
    )
    assert resident() - before < MANY * PER_ASKER
    if backend == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        connections = await server.connections(url.partition("?")[0].rpartition("/")[2])
        assert len(connections) <= POOL + 1, "the pool, and the one that listens"
    sdk.register_handler("carol")(Clerk(lambda message, context: message))
    assert await sdk.conversation.send_and_wait("bob", "carol", "others are served meanwhile", SOON)
    sdk.register_handler("bob", concurrency=200)(Clerk(lambda message, context: f"re: {message}"))
    assert await asyncio.gather(*asks) == [f"re: {name}" for name in names]
    await nothing_is_left(sdk)


@pytest.mark.sampled(1)
async def test_thousands_of_askers_whom_nobody_answers_are_released_by_their_deadlines(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(max_pool_size=POOL)
    await sdk.add_people("bob")
    names = await add_askers(sdk, 2_000)
    loop = asyncio.get_running_loop()
    late: list[float] = []
    lag = Lag()

    async def one(name: str, timeout: float) -> None:
        started = loop.time()
        # The store may be too busy with so many at once; then it is told so, in time as well.
        with pytest.raises((ConversationTimeoutError, OutcomeUnknownError)):
            await sdk.conversation.send_and_wait(name, "bob", "?", timeout, require_handler=False)
        late.append(loop.time() - started - timeout)

    watching = asyncio.create_task(lag.watch())
    try:
        await asyncio.gather(*(one(name, 1.0 + number / 2_000) for number, name in enumerate(names)))
    finally:
        watching.cancel()
        await asyncio.wait({watching})
    assert len(late) == 2_000
    assert min(late) >= 0
    assert max(late) <= SLACK + lag.worst
    await nothing_is_left(sdk)
    assert set(await states_of_asks(sdk)) <= {"timed_out", "cancelled"}


async def test_a_pool_smaller_than_the_number_of_askers_and_handlers_that_ask_themselves(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(max_pool_size=2)
    names = [f"asker-{number}" for number in range(50)]
    await sdk.add_people("bob", "carol", *names)
    sdk.register_handler("carol", concurrency=50)(Clerk(lambda message, context: message + 1))
    sdk.register_handler("bob", concurrency=50)(
        Clerk(
            lambda message, context: sdk.conversation.send_and_wait(
                "bob", "carol", message, SOON, wait_for_session=True
            )
        )
    )
    answers = await asyncio.gather(
        *(sdk.conversation.send_and_wait(name, "bob", number, SOON) for number, name in enumerate(names))
    )
    assert answers == list(range(1, 51))
    await nothing_is_left(sdk)


@pytest.mark.sampled(1)
async def test_an_answer_made_here_is_told_to_its_asker_without_a_look_at_all_that_wait(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("bob", "carol", "dave")
    names = await add_askers(sdk, 300)
    waiters = sdk._started().asks.waiters
    find, looked_at = waiters.find, 0

    async def counted(ids: list[str]) -> Any:
        nonlocal looked_at
        looked_at += len(ids)
        return await find(ids)

    asks = [ask(sdk, name, "bob", timeout=60) for name in names]
    await eventually(lambda: states_of_asks(sdk), 60, until=lambda states: states == ["open"] * 300)
    sdk.register_handler("dave")(Clerk(lambda message, context: message))
    waiters.find = counted
    for number in range(100):
        assert await sdk.conversation.send_and_wait("carol", "dave", number) == number
    assert looked_at < 100 * 300 / 4, "the slow poll alone looks at all"
    await asyncio.gather(*(sdk.conversation.end_conversation("bob", name) for name in names))
    assert len(await asyncio.gather(*asks, return_exceptions=True)) == 300
    await nothing_is_left(sdk)
