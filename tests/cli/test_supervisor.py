"""`agent-messaging run --processes N --reload`: processes under a supervisor, as real ones.

Each start of the whole program takes a second or more, so one command shows several promises. What the supervisor does
whatever its processes are is shown with small ones, which load no SDK.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_messaging import AgentMessaging
from agent_messaging.cli.supervisor import LONGEST_PAUSE, Supervisor
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
    while message == "ignore":
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
"""
PID = re.compile(r"process (\d) of \d \(pid (\d+)\)")


on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("backend", ["postgres"], indirect=True)


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


def send(url: str, payload: str, sender: str = "alice") -> str:
    """Send bob a note."""

    async def work() -> str:
        async with AgentMessaging[Any](url) as sdk:
            [id] = await sdk.one_way.send(sender, "bob", payload, require_handler=False)
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


@on_postgres
def test_a_stop_costs_no_attempt(acme: str, serve: Any) -> None:
    served = serve("--processes", "1")
    served.until_started(1)
    id = send(acme, "hang")
    served.until("BEGUN hang")
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == 0
    assert "Traceback" not in served.text
    assert look(acme, id) == ("queued", 0)
    assert re.search(r"WARNING process \d of 1 \(pid \d+\): leaving with 1 handlers at work", served.text)


@on_sqlite
def test_a_process_that_dies_is_started_again_and_when_the_supervisor_is_killed_all_leave_in_order(
    acme: str, serve: Any
) -> None:
    served = serve("--processes", "2")
    pids = served.until_started(2)
    assert sorted(pids) == [1, 2]
    os.kill(pids[1], signal.SIGKILL)
    told = served.until("was ended by")
    assert f"Process 1 of 2 (pid {pids[1]}) was ended by SIGKILL" in told
    assert "It starts again in 0.5 s." in told
    pids |= served.until_started(1)
    os.kill(pids[2], signal.SIGTERM)  # by somebody who saw it in a list of processes
    told = served.until("was told to stop")
    assert f"Process 2 of 2 (pid {pids[2]}) was told to stop, not by this supervisor. It starts again" in told
    pids |= served.until_started(1)
    id = send(acme, "hang")
    begun = served.until("BEGUN hang")
    assert int(begun.split()[-1]) in pids.values()
    served.process.kill()
    served.end()  # which needs the end of all that write to it
    until_gone(*pids.values())
    assert look(acme, id) == ("queued", 0)
    assert served.text.count("The supervisor of process") == 2
    assert "Traceback" not in served.text


@on_sqlite
def test_a_program_that_cannot_be_loaded_ends_the_command_with_its_traceback_once(
    acme: str, serve: Any, tmp_path: Path
) -> None:
    (tmp_path / "fails.py").write_text("def f():\n    import nothing_of_this_name\nf()\n")
    served = serve("--processes", "3", target="fails:sdk")
    assert served.end() == 1
    assert served.text.count("Traceback") == 1
    assert served.text.count("fails cannot be loaded") == 1
    assert str(tmp_path / "fails.py") in served.text
    assert "importlib" not in served.text
    assert "Process 1 of 3" in served.lines[-1]


@on_sqlite
def test_a_change_of_a_file_starts_the_program_anew_and_a_broken_one_waits_for_the_next(
    acme: str, serve: Any, program: Path, tmp_path: Path
) -> None:
    program.write_text("1 / 0\n")
    served = serve("--reload")
    served.until("It starts again when")
    assert served.text.count("cannot be loaded: ZeroDivisionError") == 1
    words = tmp_path / "bobs_words.py"
    words.write_text("WORD = 'FIRST'\n")
    program.write_text("from bobs_words import WORD\n" + PROGRAM.replace('"BEGUN"', "WORD"))
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


@on_sqlite
def test_a_second_signal_ends_the_draining_and_a_blocked_loop_without_counting_also_as_json(
    acme: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESSAGING_DRAIN_TIMEOUT", "300")
    served = serve("--processes", "2", "--json")
    facts = [json.loads(served.until("serving")) for _ in range(2)]
    assert [(fact["serving"], fact["process"], fact["processes"]) for fact in facts] == [
        (["bob"], 1, 2),
        (["bob"], 2, 2),
    ]
    assert served.process.pid not in [fact["pid"] for fact in facts]
    blocking = send(acme, "block")
    blocked = served.until("BEGUN block").split()[-1]
    hanging = send(acme, "hang", "carol")  # for the other one, because this one takes nothing meanwhile
    assert served.until("BEGUN hang").split()[-1] != blocked
    served.process.send_signal(signal.SIGHUP)  # as of a terminal that is closed
    told = json.loads(served.until("A second signal gives it back at once"))
    assert told["supervisor"].startswith("Stopping")
    time.sleep(0.3)  # signals that come at once are one
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == 128 + signal.SIGTERM, served.text
    assert f"(pid {blocked}) was ended by SIGTERM" in served.text
    assert len(re.findall(r"was ended by|ended with", served.text)) == 1, "the other one has exit code 0"
    assert look(acme, blocking) == ("queued", 0)
    assert look(acme, hanging) == ("queued", 0)


@on_sqlite
def test_under_nohup_a_closed_terminal_stops_nothing_and_sigterm_still_does(
    acme: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESSAGING_DRAIN_TIMEOUT", "30")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited, as from `nohup`
    try:
        served = serve("--processes", "1")
    finally:
        signal.signal(signal.SIGHUP, before)
    pids = served.until_started(1)
    for pid in (served.process.pid, pids[1]):
        os.kill(pid, signal.SIGHUP)
    time.sleep(0.3)  # in which a stop would show, and which sets the next signal apart
    noted = send(acme, "note")
    served.until("BEGUN note")
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == 0, served.text
    assert look(acme, noted) == ("done", 1), served.text
    assert served.text.count("Stopping") == 1


@on_sqlite
def test_bare_handlers_serve_every_agent_and_what_they_have_begun_does_not_keep_the_process(
    acme: str, serve: Any, program: Path
) -> None:
    """One ignores its cancellation; for the thread of another the interpreter would wait."""
    program.write_text(
        PROGRAM.replace("import AgentMessaging", "import AgentMessaging, register_one_way_handler").replace(
            '@sdk.register_handler("bob")', "@register_one_way_handler"
        )
    )
    served = serve()
    served.until("Serves * on")
    ids = [send(acme, "ignore"), send(acme, "thread", "carol")]
    served.until_all("BEGUN ignore", "BEGUN thread")
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == 0
    for told in ("does not end", "it is cut off"):
        assert told in served.text
    assert "Traceback" not in served.text
    assert "pending" not in served.text
    assert [look(acme, id) for id in ids] == [("queued", 0), ("queued", 0)]


@on_sqlite
def test_a_store_in_memory_is_not_for_several_processes(acme: str, serve: Any, program: Path, cli: Cli) -> None:
    program.write_text(PROGRAM.replace("AgentMessaging()", "AgentMessaging('sqlite://:memory:')"))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        served = serve("--place", "1/2", stdin=theirs.fileno())
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
DIES = """
import os
os.write(0, b'{"event": "ready"}' + bytes([10]))
os._exit(9)
"""
LOADS = """
import signal, sys, time
from agent_messaging.cli.supervised import Channel
channel = Channel(tells_files=True)
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
sys.path.insert(0, ".")
try:
    import bobs_words
except Exception as error:
    channel.tell_files(error)
    raise
print("LOADING", bobs_words.WORD, flush=True)
while not bobs_words.GO.exists():
    time.sleep(0.01)
channel.watch()
channel.tell_ready()
print("Serves", bobs_words.WORD, flush=True)
time.sleep(60)
"""
SUPERVISOR = """
import sys
from agent_messaging.cli.output import tell
from agent_messaging.cli.supervisor import Supervisor
command = [sys.executable, "-c", sys.argv[1]]
sys.exit(Supervisor(lambda place: command, int(sys.argv[2]), reload=True, tell=tell).run())
"""


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Any]:
    """Supervises small processes of this code."""
    started = []

    def run(code: str, count: int = 1) -> Served:
        command = [sys.executable, "-c", SUPERVISOR, code, str(count)]
        served = Served(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)
        )
        started.append(served.process)
        return served

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_a_process_that_is_ready_when_it_is_told_to_stop_brings_no_others(supervise: Any) -> None:
    served = supervise(CHILD, 3)
    served.until("BEGUN")
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == 0
    assert served.text.count("BEGUN") == 1


def test_pauses_grow_while_a_process_dies_again_and_again(supervise: Any) -> None:
    served = supervise(DIES)
    for pause in ("0.5", "1"):
        assert "ended with exit code 9 after" in served.until("It starts again in")
        assert f"It starts again in {pause} s." in served.lines[-1]
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == 0


def test_a_process_that_exits_without_having_left_its_sdk_has_died_whatever_its_exit_code(supervise: Any) -> None:
    """As by `sys.exit()` in a handler: a service that lost a process by each would be gone soon, with exit code 0."""
    served = supervise(DIES.replace("9", "0"))
    assert "ended with exit code 0 after" in served.until("It starts again in 0.5 s.")
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == 0
    closes = """os.write(0, b'{"event": "closed", "by_signal": false}' + bytes([10]))"""
    served = supervise(DIES.replace("os._exit(9)", closes))
    assert served.end() == 0
    assert "has closed its SDK" in served.text


def test_one_process_that_is_told_to_stop_comes_again_and_with_the_supervisor_all_end(supervise: Any) -> None:
    stopped = """os.write(0, b'{"event": "closed", "by_signal": true}' + bytes([10]))"""
    served = supervise(
        CHILD.replace("    sys.exit(0)", f"    {stopped}\n    sys.exit(0)").replace('"BEGUN"', "os.getpid()")
    )
    for _ in range(2):
        os.kill(int(served.until("")), signal.SIGTERM)
        assert "was told to stop, not by this supervisor. It starts again in 0.5 s." in served.until("told to stop")
    served.until("")
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == 0
    assert served.text.count("told to stop") == 2


def test_pauses_stay_the_longest_however_often_a_process_dies() -> None:
    """A store that is down for a night: a thousand deaths and more."""
    told: list[str] = []
    supervisor = Supervisor(lambda place: [], 1, reload=False, tell=told.append)
    [process] = supervisor._processes
    process.deaths = 5_000
    supervisor._tell_pause(process, "It died.")
    assert told == [f"It died. It starts again in {LONGEST_PAUSE:g} s."]


def test_a_process_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    """As during an upgrade, or where the system has no room for one more."""
    python = tmp_path / "python"
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if "exit code 9" in line and not told[1:]:
            python.unlink()
        elif "cannot start" in line:
            python.symlink_to(sys.executable)
        elif told[2:]:
            signal.raise_signal(signal.SIGTERM)

    python.symlink_to(sys.executable)
    assert Supervisor(lambda place: [str(python), "-c", DIES], 1, reload=False, tell=tell).run() == 0
    assert "cannot start: [Errno 2] No such file or directory" in told[1]
    assert told[1].endswith("It starts again in 1 s.")
    assert "exit code 9" in told[2]


def test_the_time_of_a_file_that_is_still_to_come_is_no_change(tmp_path: Path) -> None:
    """It is of another machine's clock. Otherwise the program would start anew for ever."""
    file = tmp_path / "words.py"
    file.touch()
    supervisor = Supervisor(lambda place: [], 1, reload=True, tell=print)
    [process] = supervisor._processes
    process.began_at_ns = time.time_ns() - 10**9
    supervisor._take(process, {"event": "files", "files": [str(file)]})
    assert process.files.pop(str(file)) is None, "it changed while it was loaded"
    os.utime(file, (to_come := time.time() + 3600, to_come))
    supervisor._take(process, {"event": "files", "files": [str(file)]})
    assert process.files[str(file)] is not None


def test_changes_while_a_program_is_loaded_or_has_lost_a_file_are_not_missed(supervise: Any, tmp_path: Path) -> None:
    words, go = tmp_path / "bobs_words.py", tmp_path / "go"
    text = f"from pathlib import Path\nGO = Path({str(go)!r})\nWORD = "
    words.write_text(f"{text}'FIRST'\n")
    served = supervise(LOADS)
    served.until("LOADING FIRST")
    words.write_text(f"{text}'SECOND'\n")
    go.touch()
    served.until("bobs_words.py has changed")
    served.until("Serves SECOND")
    words.unlink()  # as another branch is checked out
    served.until("It starts again when a file of the program changes.")
    words.write_text(f"{text}'THIRD'\n")
    served.until("Serves THIRD")
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == 0


ENDS = """
import os, pathlib, signal, sys, time
from agent_messaging.cli.supervised import Channel
def stop(number, frame):
    pathlib.Path(str(os.getpid())).touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
channel = Channel(tells_files=False)
channel.watch()
channel.tell_ready()
print("pid", os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_processes_leave_though_nobody_reads_what_is_told(supervise: Any, tmp_path: Path, number: int) -> None:
    """A terminal that was closed, or `| tee log`, which the same Ctrl-C has ended."""
    served = supervise(ENDS, 2)
    pids = [int(served.until("pid").split()[1]) for _ in range(2)]
    served.process.stdout.close()
    served.process.stdout = None
    served.process.send_signal(number)
    assert served.process.wait(30) == (0 if number == signal.SIGINT else -number)
    until_gone(*pids)
    assert all((tmp_path / str(pid)).exists() for pid in pids)
