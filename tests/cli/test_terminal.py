"""What a person at a terminal sees, and answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import random
import re
import select
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest
from rich.cells import cell_len

from agent_messaging import AgentMessaging
from tests.cli.conftest import Cli

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


INTERRUPT = "Ctrl-C"


def test_a_command_runs_in_any_thread_and_leaves_signals_as_they_were(acme: str, cli: Cli) -> None:
    """As in a program that calls commands itself, whose Ctrl-C is whatever that program wants."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        with ThreadPoolExecutor() as threads:
            assert threads.submit(cli, "org", "list").result().exit_code == 0
    finally:
        signal.signal(signal.SIGINT, before)
    cli("run", "no_such_module:sdk", check=2)
    assert signal.getsignal(signal.SIGINT) is before


def at_a_terminal(*arguments: str, answer: str = "") -> tuple[int, str]:
    """Run a command line on a terminal, answering its question; its exit code and the screen."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "agent_messaging.cli.main", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    screen = ""
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            if not select.select([master], [], [], 1.0)[0]:
                continue
            try:
                data = os.read(master, 65536)
            except OSError:  # so Linux says that the other side is closed
                data = b""
            if not data:
                break
            screen += data.decode()
            if answer and "?" in screen:
                if answer == INTERRUPT:
                    process.send_signal(signal.SIGINT)
                else:
                    os.write(master, answer.encode())
                answer = ""
        return process.wait(timeout=60), screen
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)


def test_tables_are_drawn_and_text_is_shown_as_it_is(acme: str, cli: Cli) -> None:
    [sent] = cli("send", "alice", "bob", "--text", "[bold]not markup[/bold]", "--json").json["messages"]
    exit_code, screen = at_a_terminal("inbox", "bob")
    assert exit_code == 0
    assert "────" in screen
    assert "[bold]not markup[/bold]" in screen
    assert sent["message_id"] in screen
    assert "────" not in cli("inbox", "bob").out


def test_no_colours_where_none_are_wanted(acme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" in at_a_terminal("inbox", "nobody")[1]
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as environment:
            environment.setenv(name, value)
            for line in (["inbox", "nobody"], ["org", "list"], ["doctor"]):
                assert "\x1b[" not in at_a_terminal(*line)[1]


def test_progress_is_shown_on_a_terminal_alone(acme: str, cli: Cli, tmp_path: Path) -> None:
    code, screen = at_a_terminal("db", "export", str(tmp_path / "one.gz"))
    assert (code, "Exporting" in screen) == (0, True)
    assert cli("db", "export", str(tmp_path / "two.gz")).err == ""
    code, screen = at_a_terminal("db", "check")
    assert (code, "Checking" in screen) == (0, True)


@pytest.mark.parametrize(
    ("answer", "exit_code", "left"), [("y\n", 0, 2), ("n\n", 1, 3), (INTERRUPT, -signal.SIGINT, 3)]
)
def test_removing_asks(answer: str, exit_code: int, left: int, acme: str, cli: Cli) -> None:
    ended, screen = at_a_terminal("agents", "remove", "bob", answer=answer)
    assert "Remove agent 'bob' with 0 messages received and 0 messages sent?" in screen
    assert "Traceback" not in screen
    assert ended == exit_code
    assert len(cli("agents", "list", "--json").json["agents"]) == left


@pytest.mark.parametrize("character", ["x", "長"])
def test_the_last_line_of_a_live_view_is_one_line(character: str, acme: str) -> None:
    """A terminal erases one line; what was broken over two would be left there at each look."""
    name = 120 * character

    async def start() -> UUID:
        async with AgentMessaging[str](acme) as sdk:
            await sdk.register_agent(name, "acme", "Long")
            id = await sdk.meeting.create_meeting(name, [], turn_duration=600)
            await sdk.meeting.start_meeting(name, id)
            return id

    exit_code, screen = at_a_terminal("meetings", "watch", str(asyncio.run(start())), "--timeout", "0.5")
    assert exit_code == 0
    shown = [line for line in screen.replace("\x1b[1m", "").replace("\x1b[0m", "").split("\r\x1b[K") if line]
    assert all(cell_len(line) < 80 for line in shown)
    assert shown[0].startswith(f"  {character}")
    assert "… has turn 1, " in shown[0]


def test_sending_nothing_from_a_terminal_is_a_usage_error(acme: str) -> None:
    exit_code, screen = at_a_terminal("send", "alice", "bob")
    assert exit_code == 2
    assert "There is nothing to send" in screen


BEGIN = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # as the entry point does first; before it, Python itself is at work
print("HERE", flush=True)
from agent_messaging.cli.entry import main
main()
"""
INTERRUPTED = [
    "demo",
    "doctor --deep",
    "tail bob",
    "ask alice bob --text hi --no-require-handler",
    "db check",
    "org list",
    "receive bob --timeout 60",
    "meetings list --status active",
]
NOISE = re.compile(r"Traceback|Exception ignored|never retrieved|was destroyed|never awaited|KeyboardInterrupt|defect")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("line", INTERRUPTED)
def test_ctrl_c_at_whatever_moment_leaves_no_traceback(line: str, acme: str) -> None:
    """While modules are loaded, the store is opened, the command works, it leaves, and the interpreter ends."""
    seed = random.randrange(2**32)
    print("seed", seed)
    moments = random.Random(seed)
    begun = [sys.executable, "-c", BEGIN, *line.split()]
    with subprocess.Popen(begun, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "HERE\n"
        for _ in range(moments.choice((1, 2, 3))):
            time.sleep(moments.uniform(0, 0.8))
            process.send_signal(signal.SIGINT)
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2.0)
            process.send_signal(signal.SIGINT)
        screen = process.stdout.read()
    assert not NOISE.search(screen), screen
    assert process.returncode in (0, 1, 130, -signal.SIGINT)
