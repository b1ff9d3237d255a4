"""A process that stops: it ends in time in whatever way, and a stop costs no message an attempt."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_messaging import AgentMessaging, ConfigurationError, InvalidArgumentError
from tests.client.support import SOON, Gate, Inbox, MakeSdk, Sdk, make_config
from tests.support import eventually

pytestmark = pytest.mark.sampled(1)
"""Each of these starts processes or fills stores: a run tries it on one store."""

ROOT = Path(__file__).parents[2]
IN_TIME = 8.0
"""Seconds: the two that a handler has which does not end, a few for the store, and some for a busy machine."""
BEGINS = 30.0


class Ended:
    """What became of a program."""

    def __init__(self, code: int, seconds: float, said: str, errors: str) -> None:
        self.code = code
        self.seconds = seconds
        self.said = said.split()
        self.errors = errors


class Running:
    """A program under test."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []

    async def until(self, line: str) -> None:
        """Wait until it has said this."""
        assert self.process.stdout is not None
        while line not in self.said:
            read = await asyncio.wait_for(self.process.stdout.readline(), BEGINS)
            assert read, f"it ended and never said {line}"
            self.said.append(read.decode().strip())

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    async def end(self) -> Ended:
        """Wait until it has ended, which it does in time."""
        started = time.monotonic()
        output, errors = await asyncio.wait_for(self.process.communicate(), IN_TIME)
        assert self.process.returncode is not None
        said = "\n".join([*self.said, output.decode()])
        return Ended(self.process.returncode, time.monotonic() - started, said, errors.decode())


@asynccontextmanager
async def program(url: str, work: str, end: str, under: tuple[str, ...] = ()) -> AsyncIterator[Running]:
    """Start it, under another command perhaps; it is killed if it has not ended by then."""
    process = await asyncio.create_subprocess_exec(
        *(*under, sys.executable, "-m", "tests.client.ending", url, work, end),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


ENDS = {"return": 0, "error": 1, "exit": 3, "wait": -signal.SIGINT}
"""How a program ends that does not close, and its exit code. The last one is ended by one Ctrl-C."""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("end", ENDS)
async def test_a_program_that_does_not_close_ends_and_costs_no_attempt(make_sdk: MakeSdk, url: str, end: str) -> None:
    async with program(url, "note", end) as running:
        await running.until("BEGUN")
        if end == "wait":
            running.send(signal.SIGINT)
        ended = await running.end()
    assert ended.code == ENDS[end]
    sdk = await make_sdk()
    [found] = await sdk.one_way.get_received_messages("bob")
    assert await attempts_until_done(sdk, str(found.message_id)) == 1


@pytest.mark.sampled(2)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("work", ["ask", "turn", "notification", "event", "selection", "coroutine"])
async def test_a_program_that_does_not_close_ends_whatever_is_at_work(url: str, work: str) -> None:
    async with program(url, work, "return") as running:
        await running.until("BEGUN")
        ended = await running.end()
    assert ended.code == 0


# --- asked to hear signals --------------------------------------------------------------------------------------------

WAYS = ["until", "block"]
"""`run_until_stopped`, and `async with` an SDK that handles signals."""
STOPS = [signal.SIGTERM, signal.SIGINT]


async def leave_a_message(make_sdk: MakeSdk) -> tuple[Sdk, str]:
    """A message that waits for bob's handler."""
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    [id] = await sdk.one_way.send("alice", "bob", "hi", require_handler=False)
    return sdk, id


async def attempts_until_done(sdk: Sdk, id: str) -> int:
    """Let a handler that works end it."""
    sdk.register_handler("bob")(Inbox())
    [receipt] = await sdk.wait([id])
    assert receipt.state.value == "done"
    return receipt.attempt


def assert_left(ended: Ended) -> None:
    assert ended.code == 0, ended.errors
    assert ended.said[-1] == "LEFT"
    assert "NEVER" not in ended.said
    assert "Traceback" not in ended.errors


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("way", "number"), list(zip(WAYS, STOPS, strict=True)))
async def test_a_signal_lets_what_runs_end(make_sdk: MakeSdk, url: str, way: str, number: int) -> None:
    sdk, id = await leave_a_message(make_sdk)
    async with program(url, "finish", f"{way}:30") as running:
        await running.until("BEGUN")
        running.send(number)
        ended = await running.end()
    assert_left(ended)
    assert ended.said == ["STARTING", "BEGUN", "HEARD", "FINISHED", "LEFT"]
    receipt = await sdk.receipts.get(id)
    assert (receipt.state.value, receipt.attempt) == ("done", 1)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("work", ["note", "coroutine"])
async def test_what_does_not_end_in_the_drain_timeout_goes_back_uncounted(
    make_sdk: MakeSdk, url: str, way: str, work: str
) -> None:
    async with program(url, work, f"{way}:0.2") as running:
        await running.until("BEGUN")
        running.send(signal.SIGTERM)
        assert_left(await running.end())
    sdk = await make_sdk()
    [found] = await sdk.one_way.get_received_messages("bob")
    assert await attempts_until_done(sdk, str(found.message_id)) == 1


@pytest.mark.sampled(2)
@pytest.mark.parametrize("way", WAYS)
async def test_a_handler_that_ignores_its_cancellation_keeps_no_program(make_sdk: MakeSdk, url: str, way: str) -> None:
    sdk, id = await leave_a_message(make_sdk)
    async with program(url, "ignore", f"{way}:0.2") as running:
        await running.until("BEGUN")
        running.send(signal.SIGTERM)
        ended = await running.end()
    assert_left(ended)
    assert ended.said[-2:] == ["GIVEN-UP", "LEFT"]
    assert ended.errors == ""
    assert await attempts_until_done(sdk, id) == 1


@pytest.mark.sampled(2)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("work", ["task", "notification", "event", "selection"])
async def test_no_function_that_ignores_its_cancellation_keeps_a_program(url: str, work: str) -> None:
    async with program(url, f"ignored-{work}", "until:0.2") as running:
        await running.until("BEGUN")
        running.send(signal.SIGTERM)
        ended = await running.end()
    assert_left(ended)
    assert ended.errors == ""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("way", WAYS)
async def test_a_second_signal_ends_the_draining(make_sdk: MakeSdk, url: str, way: str) -> None:
    sdk, id = await leave_a_message(make_sdk)
    async with program(url, "serve", f"{way}:300") as running:
        await running.until("BEGUN")
        running.send(signal.SIGTERM)
        await running.until("HEARD")
        await asyncio.sleep(0.3)  # two that come at once are one
        running.send(signal.SIGINT)
        assert_left(await running.end())
    assert await attempts_until_done(sdk, id) == 1


@pytest.mark.sampled(2)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pause", [0.0, 0.01])
async def test_a_signal_that_comes_twice_at_once_is_one(make_sdk: MakeSdk, url: str, way: str, pause: float) -> None:
    """A terminal tells each process of Ctrl-C, and so does the runner that started it; so do some supervisors."""
    sdk, id = await leave_a_message(make_sdk)
    async with program(url, "finish", f"{way}:30") as running:
        await running.until("BEGUN")
        running.send(signal.SIGTERM)
        await asyncio.sleep(pause)
        running.send(signal.SIGTERM)
        assert_left(await running.end())
    receipt = await sdk.receipts.get(id)
    assert (receipt.state.value, receipt.attempt) == ("done", 1)


AS_FIRST = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
"""Runs a program as the first process of a container."""


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*AS_FIRST, "true"], capture_output=True).returncode != 0,
    reason="no namespaces here",
)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_the_first_process_of_a_container_ends_by_the_third_signal(url: str) -> None:
    """No signal ends it that it does not handle."""
    async with program(url, "note", "until:300", AS_FIRST) as running:
        await running.until("BEGUN")
        while running.process.returncode is None:
            children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
            for child in children:
                os.kill(int(child), signal.SIGTERM)
            await asyncio.sleep(0.1)
        assert (await running.end()).code == 128 + signal.SIGTERM


async def test_a_loop_that_is_blocked_does_not_keep_a_second_signal_from_ending_the_process(
    url: str, make_sdk: MakeSdk
) -> None:
    """What its handlers were at work on goes back uncounted all the same."""
    async with program(url, "blocking", "until:300") as running:
        await running.until("BEGUN")
        running.send(signal.SIGTERM)
        await running.until("CAUGHT")
        await asyncio.sleep(0.3)  # two that come at once are one
        running.send(signal.SIGTERM)
        running.send(signal.SIGTERM)
        ended = await running.end()
    assert ended.code == -signal.SIGTERM
    assert "HEARD" not in ended.said
    sdk = await make_sdk()
    [found] = await sdk.one_way.get_received_messages("bob")
    receipt = await sdk.receipts.get(str(found.message_id))
    assert (receipt.state.value, receipt.attempt) == ("queued", 0)
    assert await attempts_until_done(sdk, str(found.message_id)) == 1


async def test_a_handler_that_blocks_the_loop_beyond_its_time_is_counted(url: str, make_sdk: MakeSdk) -> None:
    """One that always hangs must end as a dead letter some time, also where each process is stopped twice."""
    sdk, id = await leave_a_message(make_sdk)
    async with program(url, "late", "until:300") as running:
        await running.until("BEGUN")
        await asyncio.sleep(0.3)  # the time of its handler is 0.2 s
        running.send(signal.SIGTERM)
        await running.until("CAUGHT")
        await asyncio.sleep(0.3)
        running.send(signal.SIGTERM)
        assert (await running.end()).code == -signal.SIGTERM
    receipt = await sdk.receipts.get(id)
    assert receipt.attempt == 1
    assert "timed out" in receipt.reasons[0]


@pytest.mark.parametrize("way", WAYS)
async def test_a_signal_during_the_start_ends_it(url: str, way: str, make_sdk: MakeSdk) -> None:
    sdk, id = await leave_a_message(make_sdk)
    async with program(url, "serve", f"{way}:0.2") as running:
        await running.until("STARTING")
        running.send(signal.SIGTERM)
        assert_left(await running.end())
    assert await attempts_until_done(sdk, id) == 1


async def test_a_handler_that_was_late_already_is_counted(make_sdk: MakeSdk, url: str) -> None:
    """One that always hangs must end as a dead letter some time, also where each process is stopped before that."""
    sdk, id = await leave_a_message(make_sdk)
    hung = threading.Event()
    stopping = await make_sdk(handler_timeout=0.1, drain_timeout=0.2)
    stopping.register_handler("bob")(lambda message, context: hung.wait(SOON))
    try:
        await eventually(lambda: stopping._started().claims.running)
        await stopping.close()
        receipt = await sdk.receipts.get(id)
        assert receipt.attempt == 1
        assert "timed out" in receipt.reasons[0]
        assert await attempts_until_done(sdk, id) == 2
    finally:
        hung.set()


FORKING = """
import asyncio, os, signal, sys, time
from agent_messaging import AgentMessaging

async def main():
    async with AgentMessaging(sys.argv[1], handle_signals=True):
        ends = []
        for number in (signal.SIGTERM, signal.SIGINT):
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    os.write(write, b"here")
                    time.sleep(60)
                except KeyboardInterrupt:
                    os._exit(7)
                os._exit(0)
            os.read(read, 4)  # Python forgets a signal that comes while it begins the child
            os.kill(child, number)
            _, status = os.waitpid(child, 0)
            ends.append(os.waitstatus_to_exitcode(status))
        print(*ends, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_forked_child_ends_by_a_signal_as_any_other(url: str) -> None:
    """A pool of processes ends its workers by SIGTERM, and would wait for ever."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", FORKING, url, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert output.decode().split() == [str(-signal.SIGTERM), "7"]


async def test_five_stops_in_a_row_cost_no_attempt(make_sdk: MakeSdk, url: str) -> None:
    """As five deploys during the handling of one long message."""
    sdk, id = await leave_a_message(make_sdk)
    for number in range(5):
        async with program(url, "serve", f"{WAYS[number % 2]}:0.1") as running:
            await running.until("BEGUN")
            running.send(STOPS[number % 2])
            assert_left(await running.end())
    receipt = await sdk.receipts.get(id)
    assert (receipt.state.value, receipt.attempt) == ("queued", 0)
    assert await attempts_until_done(sdk, id) == 1


# --- in one process ---------------------------------------------------------------------------------------------------


@pytest.fixture
def handlers_of_signals() -> Any:
    """They are as they were when the test ends."""
    before = {number: signal.getsignal(number) for number in STOPS}
    yield
    assert {number: signal.getsignal(number) for number in STOPS} == before


@pytest.mark.usefixtures("handlers_of_signals")
async def test_several_objects_all_leave_by_one_signal(url: str) -> None:
    ends: list[str] = []
    inner, outer = (Sdk(make_config(url), handle_signals=True) for _ in range(2))

    async def work() -> None:
        async with outer:
            async with inner:
                signal.raise_signal(signal.SIGTERM)
                await asyncio.Event().wait()
            ends.append("between the blocks")
        ends.append("behind them")

    await asyncio.wait_for(work(), SOON)
    assert ends == ["behind them"]


@pytest.mark.usefixtures("handlers_of_signals")
async def test_a_block_inside_a_block_of_the_same_object(url: str) -> None:
    sdk = Sdk(make_config(url), handle_signals=True)
    async with sdk, sdk:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.Event().wait()
    assert sdk._lifecycle.engine is None


@pytest.mark.usefixtures("handlers_of_signals")
async def test_serving_until_stopped_inside_a_block_goes_on_behind_it(url: str) -> None:
    ends: list[str] = []
    async with Sdk(make_config(url), handle_signals=True) as sdk:
        serving = asyncio.create_task(sdk.run_until_stopped())
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(serving, SOON)
        ends.append("in the block")
    assert ends == ["in the block"]


@pytest.mark.usefixtures("handlers_of_signals")
async def test_a_block_that_ends_without_waiting_is_left_in_order(url: str) -> None:
    async with Sdk(make_config(url), handle_signals=True) as sdk:
        await sdk.add_people("alice", "bob")
        sdk.register_handler("bob")(inbox := Inbox(lambda message, context: asyncio.sleep(0.1)))
        await sdk.one_way.send("alice", "bob", "hi")
        signal.raise_signal(signal.SIGTERM)
    assert inbox.messages == ["hi"]
    await asyncio.sleep(0)  # nothing of the cancellation is left


@pytest.mark.usefixtures("handlers_of_signals")
async def test_a_cancellation_by_somebody_else_is_raised(url: str) -> None:
    async def work() -> None:
        async with Sdk(make_config(url), handle_signals=True):
            signal.raise_signal(signal.SIGINT)
            asyncio.current_task().cancel()  # type: ignore[union-attr]
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.usefixtures("handlers_of_signals")
async def test_it_serves_until_somebody_closes_it_too(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(gate := Gate())
    await sdk.one_way.send("alice", "bob", "hi")
    await gate.wait_for(1)
    serving = asyncio.create_task(sdk.run_until_stopped())
    await asyncio.sleep(0)
    closing = asyncio.create_task(sdk.close())
    await asyncio.sleep(0)
    assert not serving.done()
    gate.open()
    await asyncio.wait_for(asyncio.gather(serving, closing), SOON)


@pytest.mark.usefixtures("handlers_of_signals")
async def test_another_thread_hears_no_signals_and_is_told_so(url: str) -> None:
    sdk = AgentMessaging[Any](make_config(url))

    async def enter() -> None:
        async with AgentMessaging[Any](make_config(url), handle_signals=True):
            pass

    for call in (sdk.run_until_stopped, enter):
        with pytest.raises(ConfigurationError, match="main thread"):
            await asyncio.to_thread(lambda call=call: asyncio.run(call()))  # type: ignore[misc]
    with pytest.raises(InvalidArgumentError):
        AgentMessaging[Any](make_config(url), handle_signals="yes")  # type: ignore[arg-type]


@pytest.mark.usefixtures("handlers_of_signals")
async def test_a_signal_that_the_program_ignores_stays_ignored(url: str) -> None:
    """As SIGINT in a job that a shell has put into the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        async with Sdk(make_config(url), handle_signals=True) as sdk:
            os.kill(os.getpid(), signal.SIGINT)
            assert await sdk.list_agents() == []
    finally:
        signal.signal(signal.SIGINT, before)
