"""`agent-messaging run --processes N --reload`: processes under a supervisor, as real ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent_messaging import AgentMessaging
from tests.cli.conftest import Cli, Start

PROGRAM = """
import asyncio, os, time
from agent_messaging import AgentMessaging

sdk = AgentMessaging()

@sdk.register_handler("bob")
async def on_note(message, context):
    print("BEGUN", message, os.getpid(), flush=True)
    if message == "hang":
        await asyncio.Event().wait()
    if message == "block":
        time.sleep(60)
    if message == "thread":
        await asyncio.to_thread(time.sleep, 60)
    if message == "die":
        os._exit(9)
    while message == "ignore":
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
"""
PID = re.compile(r"process (\d) of \d \(pid (\d+)\)")


class Served:
    """A command that serves, as its terminal shows it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def until(self, text: str) -> str:
        """Read on until a line has this."""
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            self.lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"it ended and never said {text!r}: {''.join(self.lines)}")

    def until_all(self, *texts: str) -> None:
        """Read on until there was a line for each of these, in whatever order."""
        missing = list(texts)
        while missing:
            line = self.until("")
            if (found := next((text for text in missing if text in line), None)) is not None:
                missing.remove(found)

    def until_started(self, count: int) -> dict[int, int]:
        """Read on until so many processes serve; returns their pids by number."""
        found = [PID.search(self.until("Serves bob")) for _ in range(count)]
        return {int(match[1]): int(match[2]) for match in found if match is not None}

    def end(self) -> int:
        """Read to the end; returns the exit code."""
        assert self.process.stdout is not None
        self.lines += self.process.stdout.readlines()
        return self.process.wait(30)

    @property
    def text(self) -> str:
        return "".join(self.lines)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A module in the working directory."""
    path = tmp_path / "bobs_program.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def serve(start: Start, program: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MESSAGING_DRAIN_TIMEOUT", "0.2")

    def run(*options: str, target: str = "bobs_program:sdk", **how: Any) -> Served:
        return Served(start("run", target, *options, stderr=subprocess.STDOUT, **how))

    return run


def send(url: str, payload: str) -> str:
    """Send bob a note."""

    async def work() -> str:
        async with AgentMessaging[Any](url) as sdk:
            [id] = await sdk.one_way.send("alice", "bob", payload, require_handler=False)
            return id

    return asyncio.run(work())


def look(url: str, id: str) -> tuple[str, int]:
    """What became of a note: its state and its attempts."""

    async def work() -> tuple[str, int]:
        async with AgentMessaging[Any](url) as sdk:
            receipt = await sdk.receipts.get(id)
            return receipt.state.value, receipt.attempt

    return asyncio.run(work())


def until_gone(*pids: int) -> None:
    """Wait until these processes, which are no children of ours, have ended."""
    ends_at = time.monotonic() + 30
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < ends_at:
                os.kill(pid, 0)
                time.sleep(0.02)
            raise AssertionError(f"{pid} has not ended")


def test_a_process_that_dies_is_started_again_and_a_stop_costs_no_attempt(acme: str, serve: Any) -> None:
    served = serve("--processes", "2")
    pids = served.until_started(2)
    assert sorted(pids) == [1, 2]
    os.kill(pids[1], signal.SIGKILL)
    told = served.until("was ended by")
    assert f"Process 1 of 2 (pid {pids[1]}) was ended by SIGKILL" in told
    assert "It starts again in 0.5 s." in told
    pids |= served.until_started(1)
    id = send(acme, "hang")
    begun = served.until("BEGUN hang")
    assert int(begun.split()[-1]) in pids.values()
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == 0
    assert "Traceback" not in served.text
    assert look(acme, id) == ("queued", 0)
    assert re.search(r"WARNING process \d of 2 \(pid \d+\): leaving with 1 handlers at work", served.text)


def test_when_the_supervisor_is_killed_the_others_leave_in_order(acme: str, serve: Any) -> None:
    served = serve("--processes", "2")
    pids = served.until_started(2)
    id = send(acme, "hang")
    served.until("BEGUN hang")
    served.process.kill()
    served.end()  # which needs the end of all that write to it
    until_gone(*pids.values())
    assert look(acme, id) == ("queued", 0)
    assert served.text.count("The supervisor of process") == 2


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("failing", ["import nothing_of_this_name", "def f():\n    1 / 0\nf()\n"])
def test_a_program_that_cannot_be_loaded_ends_the_command_with_its_traceback_once(
    acme: str, serve: Any, tmp_path: Path, failing: str
) -> None:
    (tmp_path / "fails.py").write_text(failing)
    served = serve("--processes", "3", target="fails:sdk")
    assert served.end() == 1
    assert served.text.count("Traceback") == 1
    assert served.text.count("fails cannot be loaded") == 1
    assert str(tmp_path / "fails.py") in served.text
    assert "importlib" not in served.text
    assert "Process 1 of 3" in served.lines[-1]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_change_of_a_file_starts_the_program_anew_and_a_broken_one_waits_for_the_next(
    acme: str, serve: Any, program: Path, tmp_path: Path
) -> None:
    program.write_text("from bobs_words import WORD\n" + PROGRAM.replace('"BEGUN"', "WORD"))
    words = tmp_path / "bobs_words.py"
    words.write_text("WORD = 'FIRST'\n")
    served = serve("--reload")
    served.until_started(1)
    hanging = send(acme, "hang")
    served.until("FIRST hang")
    words.write_text("WORD = 'SECOND' + '!'\n")
    served.until("bobs_words.py has changed")
    served.until_all("SECOND! hang", "Serves bob")
    assert look(acme, hanging) == ("claimed", 1), "the runs that were cut off are not counted"
    words.write_text("WORD = (\n")
    served.until("It starts again when a file of the program changes.")
    assert served.text.count("cannot be loaded: SyntaxError") == 1
    words.write_text("WORD = 'THIRD'\n")
    served.until("THIRD hang")
    served.process.send_signal(signal.SIGINT)
    assert served.end() == 0
    assert "Traceback" not in served.text.partition("THIRD")[2]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_program_that_is_broken_at_first_is_waited_for_with_reload(acme: str, serve: Any, program: Path) -> None:
    program.write_text("1 / 0\n")
    served = serve("--reload")
    served.until("It starts again when")
    program.write_text(PROGRAM)
    served.until_started(1)
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == 0


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_change_while_the_program_is_loaded_is_not_missed(
    acme: str, serve: Any, program: Path, tmp_path: Path
) -> None:
    words = tmp_path / "bobs_words.py"
    words.write_text("WORD = 'FIRST'\n")
    loading = "from bobs_words import WORD\nprint('LOADING', WORD, flush=True)\nimport time\ntime.sleep(1)\n"
    program.write_text(loading + PROGRAM.replace('"BEGUN"', "WORD"))
    served = serve("--reload")
    served.until("LOADING FIRST")
    words.write_text("WORD = 'SECOND'\n")
    served.until("bobs_words.py has changed")
    served.until("LOADING SECOND")
    served.until("Serves bob")
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == 0


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_pauses_grow_while_a_process_dies_again_and_again(acme: str, serve: Any) -> None:
    served = serve("--processes", "1")
    served.until_started(1)
    send(acme, "die")
    for pause in ("0.5", "1"):
        assert "ended with exit code 9 after" in served.until("It starts again in")
        assert f"It starts again in {pause} s." in served.lines[-1]
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == 0


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_second_signal_ends_the_draining_and_a_blocked_loop_without_counting(
    acme: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESSAGING_DRAIN_TIMEOUT", "300")
    for payload, code in (("hang", 0), ("block", 128 + signal.SIGTERM)):
        served = serve("--processes", "1")
        served.until_started(1)
        id = send(acme, payload)
        served.until(f"BEGUN {payload}")
        served.process.send_signal(signal.SIGHUP)  # as of a terminal that is closed
        served.until("A second signal gives it back at once")
        time.sleep(0.3)  # signals that come at once are one
        served.process.send_signal(signal.SIGTERM)
        assert served.end() == code, served.text
        assert look(acme, id) == ("queued", 0)
        asyncio.run(_withdraw(acme, id))


async def _withdraw(url: str, id: str) -> None:
    async with AgentMessaging[Any](url) as sdk:
        [message] = await sdk.receive("bob", timeout=10)
        assert str(message.message_id) == id
        await message.done()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("payload", "told"), [("ignore", "does not end"), ("thread", "it is cut off")])
def test_what_a_handler_has_begun_does_not_keep_the_process(acme: str, serve: Any, payload: str, told: str) -> None:
    """It ignores its cancellation, or the interpreter would wait for its thread."""
    served = serve()
    served.until("Serves bob")
    id = send(acme, payload)
    served.until(f"BEGUN {payload}")
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == 0
    assert told in served.text
    assert "Traceback" not in served.text
    assert "pending" not in served.text
    assert look(acme, id) == ("queued", 0)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_bare_handlers_of_a_program_serve_every_agent(acme: str, serve: Any, program: Path) -> None:
    program.write_text(
        PROGRAM.replace("import AgentMessaging", "import AgentMessaging, register_one_way_handler").replace(
            '@sdk.register_handler("bob")', "@register_one_way_handler"
        )
    )
    served = serve()
    served.until("Serves * on")
    send(acme, "hi")
    served.until("BEGUN hi")
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == 0


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_json_for_programs_and_what_cannot_be(acme: str, serve: Any, program: Path, cli: Cli) -> None:
    served = serve("--processes", "1", "--json")
    fact = json.loads(served.until("serving"))
    assert (fact["serving"], fact["process"], fact["processes"]) == (["bob"], 1, 1)
    assert fact["pid"] != served.process.pid
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == 0
    assert json.loads(served.lines[1])["supervisor"].startswith("Stopping")
    program.write_text(PROGRAM.replace("AgentMessaging()", "AgentMessaging('sqlite://:memory:')"))
    served = serve("--processes", "2")
    assert served.end() == 2
    assert "in memory" in served.text
    assert "--processes" in cli("run", "x:y", "--processes", "0", check=2).err


async def test_it_tells_when_it_has_started(url: str) -> None:
    told: list[bool] = []
    sdk = AgentMessaging[Any](url)

    def started() -> None:
        told.append(sdk._lifecycle.engine is not None)
        signal.raise_signal(signal.SIGTERM)

    await asyncio.wait_for(sdk.run_until_stopped(on_started=started), 30)
    assert told == [True]


CHILD = """
import os, signal, sys, time
def stop(number, frame):
    os.write(0, b'{"event": "ready"}' + bytes([10]))  # it had just started when the signal came
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("BEGUN", flush=True)
time.sleep(60)
"""
SUPERVISOR = """
import sys
from agent_messaging.cli.supervisor import Supervisor
command = [sys.executable, "-c", sys.argv[1]]
sys.exit(Supervisor(lambda place: command, 3, reload=False, tell=print).run())
"""


def test_a_process_that_is_ready_when_it_is_told_to_stop_brings_no_others() -> None:
    with subprocess.Popen([sys.executable, "-c", SUPERVISOR, CHILD], stdout=subprocess.PIPE, text=True) as process:
        served = Served(process)
        served.until("BEGUN")
        process.send_signal(signal.SIGTERM)
        assert served.end() == 0
    assert served.text.count("BEGUN") == 1
