"""Every command says what it does, shows how, and takes the shared options."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from agent_messaging import __version__
from agent_messaging.cli.main import main
from tests.cli.conftest import Cli


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from walk(inner, (*path, name))


COMMANDS = dict(walk(main))
LEAVES = [path for path, command in COMMANDS.items() if not isinstance(command, click.Group)]


def test_all_commands_are_there() -> None:
    assert {" ".join(path) for path in LEAVES} == {
        *("demo", "coordination demo", "send", "inbox", "me", "tail", "receipt", "run", "doctor", "search", "bench"),
        *(
            "init",
            "completion",
            "write",
            "refuse",
            "receive",
            "sessions watch",
            "agents show",
            "org show",
            "schedules remove",
        ),
        *(
            "meetings attend",
            "meetings start",
            "meetings wait",
            "meetings speak",
            "meetings pass",
            "meetings skip",
            "meetings leave",
            "meetings remove",
            "meetings end",
        ),
        *(
            "dead-letters list",
            "dead-letters redrive",
            "db init",
            "db upgrade",
            "db schema",
            "db check",
            "db backup",
            "db reindex",
        ),
        *("db prune", "db compact"),
        *("db export", "db import", "sessions export", "meetings export"),
        *(
            "tasks assign",
            "tasks list",
            "tasks show",
            "tasks cancel",
            "tasks watch",
            "tasks redrive",
            "workers list",
            "queue stats",
            "queue redrive",
        ),
        "schedules list",
        *("topics list", "topics subscribe", "topics unsubscribe", "topics publish"),
        *("ask", "reply", "forward", "sessions list", "sessions show", "sessions end"),
        *(
            "meetings create",
            "meetings list",
            "meetings show",
            "meetings history",
            "meetings timeline",
            "meetings watch",
        ),
        *("org add", "org list", "org remove", "agents add", "agents list", "agents remove"),
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_says_what_it_does_with_an_example(path: tuple[str, ...], cli: Cli) -> None:
    text = cli(*path, "--help").out
    first = (COMMANDS[path].help or "").strip().splitlines()[0]
    assert first.endswith((".", ":")) or len(first) > 20, "no first sentence"
    assert f"agent-messaging {' '.join(path)}".strip() in text.partition("\n")[2], "no example"
    for option in ("--url", "--json", "--verbose", "--debug"):
        assert option in text
    for param in COMMANDS[path].params:
        if isinstance(param, click.Option):
            assert param.help, f"{param.opts} has no help"


def test_the_help_lists_every_command_by_a_whole_clause(cli: Cli) -> None:
    for path in COMMANDS:
        if path not in LEAVES:
            text = cli(*path, "--help").out
            assert "..." not in text.partition("\nOptions:")[0].replace("TO...", "").replace("[ARGS]...", "")
            for name in COMMANDS[path].commands:  # type: ignore[attr-defined]
                assert f"\n  {name} " in text


def test_no_line_of_a_help_is_broken_in_the_middle_of_a_word_or_command(cli: Cli) -> None:
    """Neither here, nor by a terminal of 80 columns."""
    for path in COMMANDS:
        lines = cli(*path, "--help").out.splitlines()
        assert not [line for line in lines if line.endswith("-") or len(line) > 80]


@pytest.mark.parametrize("path", [path for path in COMMANDS if path not in LEAVES], ids=" ".join)
def test_a_group_alone_prints_its_help(path: tuple[str, ...], cli: Cli) -> None:
    assert cli(*path).out == cli(*path, "--help").out


def test_the_reference_page_has_the_help_of_every_command() -> None:
    script = Path(__file__).parents[2] / "scripts" / "generate_cli.py"
    subprocess.run([sys.executable, str(script), "--check"], check=True)


def test_version(cli: Cli) -> None:
    assert cli("--version").out == f"agent-messaging {__version__}\n"


def test_help_comes_at_once(tmp_path: Path) -> None:
    """At most twice the time of importing click, plus 100 ms; by CPU time, which other processes do not stretch."""

    def seconds(*arguments: str) -> float:
        best = float("inf")
        for _ in range(5):
            before = os.times()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            after = os.times()
            spent = after.children_user + after.children_system - before.children_user - before.children_system
            best = min(best, spent)
        return best

    assert seconds("-m", "agent_messaging.cli.main", "--help") <= 2 * seconds("-c", "import click") + 0.1


def test_help_imports_neither_pydantic_nor_a_backend() -> None:
    code = (
        "import sys, agent_messaging.cli.main;"
        "print([name for name in ('pydantic', 'asyncio', 'apsw', 'asyncpg', 'rich', 'textual') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout == "[]\n"


def test_an_interrupt_while_the_command_is_being_loaded_prints_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import time\nprint('LOADING', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "agent_messaging.cli.entry", "--help"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "LOADING\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (-signal.SIGINT, "")
    finally:
        process.kill()
        process.wait()
