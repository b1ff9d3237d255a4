"""No error is reported as never retrieved: neither by a future nor by a task, whenever a call is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import re
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

import agent_messaging
from agent_messaging import StorageFullError, StorageUnavailableError
from agent_messaging.delivery.waiting import Waiters
from agent_messaging.futures import fail, outlive
from agent_messaging.handlers.threads import DaemonThreads
from agent_messaging.single_flight import SingleFlight
from tests.client.support import Inbox, MakeSdk, Sdk
from tests.fixtures.postgres import PostgresServer


@contextlib.contextmanager
def reports() -> Iterator[list[str]]:
    """What the event loop was told that nobody has taken."""
    found: list[str] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: found.append(str(context.get("message"))))
    try:
        yield found
        gc.collect()
    finally:
        loop.set_exception_handler(before)


async def cancel_in_the_step_of(failing: Callable[[], object], waiting: Coroutine[Any, Any, Any]) -> None:
    """Cancel what waits in the very step in which what it waits for fails."""
    task = asyncio.create_task(waiting)
    for _ in range(5):
        await asyncio.sleep(0)
    failing()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_whoever_is_cancelled_in_the_step_in_which_a_future_fails_leaves_nothing_behind() -> None:
    async def attempt() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def wait() -> None:
            await future

        await cancel_in_the_step_of(lambda: fail(future, ValueError("x")), wait())

    with reports() as found:
        await attempt()
    assert found == []


async def test_nor_does_who_waits_for_a_task_that_goes_on() -> None:
    with reports() as found:
        release: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def work() -> None:
            await release
            raise ValueError("x")

        for late in (False, True):
            release = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(work())
            if late:
                waiting = asyncio.create_task(outlive(task))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait({waiting})
                release.set_result(None)
                await asyncio.wait({task})
            else:
                await cancel_in_the_step_of(lambda: release.set_result(None), outlive(task))  # noqa: B023
                await asyncio.wait({task})
            del task
        gc.collect()
    assert found == []


async def test_nor_does_whoever_waits_for_rows_for_work_in_flight_or_for_a_thread() -> None:
    with reports() as found:

        async def find(ids: list[str]) -> dict[str, int | None]:
            return {}

        for _ in range(3):
            waiters = Waiters[str, int](find, lambda id: KeyError(id))
            await cancel_in_the_step_of(lambda: waiters.fail("b", ValueError("x")), waiters.wait(["a", "b"]))  # noqa: B023

            stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            async def do() -> None:
                await stop  # noqa: B023

            flight = SingleFlight(do, "testing")
            task = asyncio.create_task(flight.run())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            stop.set_exception(StorageUnavailableError())
            stop.exception()
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})

        threads = DaemonThreads()

        def explode() -> None:
            raise ValueError("x")

        for _ in range(50):
            call = asyncio.create_task(threads.run(explode))
            for _ in range(random.randrange(4)):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait({call})
            assert call.cancelled() or call.exception()
        threads.close()
        await asyncio.sleep(0.05)
    assert found == []


async def chaos(sdk: Sdk, chance: random.Random, rounds: int, trouble: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Make calls of all kinds, and cancel them at any step, while there is trouble now and then."""
    [id] = await sdk.one_way.send("carol", "alice", 0)
    meeting = await sdk.meeting.create_meeting("alice", ["carol"])
    calls: list[Callable[[], Coroutine[Any, Any, Any]]] = [
        lambda: sdk.one_way.send("alice", "bob", 1),
        lambda: sdk.one_way.send("alice", ["bob", "carol"], 1),
        lambda: sdk.conversation.send_no_wait("alice", "carol", 1),
        lambda: sdk.conversation.send_and_wait("alice", "carol", 1, timeout=0.05),
        lambda: sdk.conversation.get_unread_messages("carol"),
        lambda: sdk.conversation.wait_for_message("bob", "carol", timeout=0.05),
        lambda: sdk.receipts.wait([id], timeout=0.05),
        lambda: sdk.receive("alice", timeout=0.05),
        lambda: sdk.meeting.attend_meeting("carol", meeting),
        lambda: sdk.meeting.wait_for_turn("alice", meeting, timeout=0.05),
        lambda: sdk.list_agents(),
    ]
    for _ in range(rounds):
        await trouble()
        tasks = [asyncio.create_task(chance.choice(calls)()) for _ in range(4)]
        if chance.random() < 0.5:
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
        else:
            await asyncio.wait(tasks, timeout=chance.random() * 0.02)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()


async def test_calls_that_are_cancelled_while_the_store_fails_leave_nothing_behind(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.randrange(10**9)
    print("seed", seed)
    chance = random.Random(seed)
    sdk = await make_sdk(call_timeout=1.0, require_handler=False)
    await sdk.add_people("alice", "bob", "carol")
    sdk.register_handler("bob")(Inbox())
    is_failing = False

    def spoil(part: Any, name: str) -> None:
        real = getattr(part, name)

        async def call(*given: Any, **how: Any) -> Any:
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            if is_failing:
                raise chance.choice([StorageFullError, StorageUnavailableError])()
            return await real(*given, **how)

        monkeypatch.setattr(part, name, call)

    spoil(sdk.store.deliveries, "append")
    spoil(sdk.store.deliveries, "claim")
    spoil(sdk.store.deliveries, "list_receipts")
    spoil(sdk.store.sessions, "close_asks")
    spoil(sdk.store.sessions, "read_messages")
    spoil(sdk.store.sessions, "take_awaited")
    spoil(sdk.store.sessions, "register_wait")
    spoil(sdk.store.meetings, "act")

    async def trouble() -> None:
        nonlocal is_failing
        is_failing = chance.random() < 0.8

    with reports() as found:
        await chaos(sdk, chance, 150, trouble)
        is_failing = False
        await sdk.close()
    assert found == []


async def test_nor_do_they_while_the_file_is_locked_or_connections_are_cut(
    make_sdk: MakeSdk, request: pytest.FixtureRequest, backend: str
) -> None:
    seed = random.randrange(10**9)
    print("seed", seed)
    chance = random.Random(seed)
    sdk = await make_sdk(call_timeout=0.3, require_handler=False)
    await sdk.add_people("alice", "bob", "carol")
    sdk.register_handler("bob")(Inbox())
    with contextlib.ExitStack() as stack:
        if backend == "sqlite":
            other = stack.enter_context(
                contextlib.closing(apsw.Connection(str(request.getfixturevalue("sqlite_path"))))
            )

            async def trouble() -> None:
                if chance.random() < 0.2:
                    with contextlib.suppress(apsw.Error):
                        other.execute("rollback" if other.in_transaction else "begin immediate")
        else:
            server: PostgresServer = request.getfixturevalue("postgres_server")
            database = str(request.getfixturevalue("url")).partition("?")[0].rpartition("/")[2]

            async def trouble() -> None:
                if chance.random() < 0.1:
                    await server.execute(
                        "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", database
                    )

        with reports() as found:
            await chaos(sdk, chance, 100, trouble)
            if backend == "sqlite" and other.in_transaction:
                other.execute("rollback")
            await sdk.close()
    assert found == []


def test_every_future_fails_in_the_one_place_and_nothing_is_shielded_otherwise() -> None:
    root = Path(agent_messaging.__file__).parent
    elsewhere = [
        f"{path.relative_to(root)}: {line.strip()}"
        for path in sorted(root.rglob("*.py"))
        if path.name != "futures.py" and "testing" not in path.parts
        for line in path.read_text(encoding="utf-8").splitlines()
        # `ready` is a future of the standard library's threads, which reports nothing.
        if re.search(r"(?<!ready)\.set_exception\(|asyncio\.shield\(|asyncio\.gather\((?!.*return_exceptions)", line)
    ]
    assert elsewhere == []


def test_nothing_waits_in_a_way_that_swallows_cancellations() -> None:
    # Before Python 3.12 `asyncio.wait_for` returns instead, if it is cancelled in the step after its future is done.
    root = Path(agent_messaging.__file__).parent
    assert [str(path) for path in root.rglob("*.py") if "asyncio.wait_for(" in path.read_text(encoding="utf-8")] == []
