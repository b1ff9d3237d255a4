"""The command line as a program and as a function, on each backend that several processes can share."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from click.testing import CliRunner

from agent_messaging import AgentMessaging
from agent_messaging.cli.main import main

SHARED = ("sqlite", "postgres")


@dataclass(frozen=True)
class Outcome:
    """How a command line ended."""

    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which is one JSON document."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """Standard error, which is one JSON document."""
        return json.loads(self.err)


Cli = Callable[..., Outcome]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def cli() -> Cli:
    """Runs a command line in this process; `check` is the exit code it must have."""

    def invoke(*arguments: str, check: int | None = 0, input: str | None = None) -> Outcome:
        result = CliRunner().invoke(main, list(arguments), input=input, prog_name="agent-messaging")
        outcome = Outcome(result.exit_code, result.stdout, result.stderr)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        assert check is None or outcome.exit_code == check, outcome
        return outcome

    return invoke


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a command line as a process of its own; those still running are killed at the end.

    Under `nohup` SIGHUP is ignored, which every child inherits: programs under test would not hear it. What is handled
    instead of ignored has its default action in a child, while the tests themselves still go on without a terminal.
    """
    started: list[subprocess.Popen[str]] = []
    before = signal.getsignal(signal.SIGHUP)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: None)

    def popen(*arguments: str, module: str = "agent_messaging.cli.main", **how: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", module, *arguments],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True, **how},
        )
        started.append(process)
        return process

    yield popen
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(params=SHARED)
def backend(request: pytest.FixtureRequest) -> str:
    """Those that many processes can share."""
    return str(request.param)


@pytest.fixture
def url(backend: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database that commands find without --url."""
    if backend == "postgres":
        found = str(request.getfixturevalue("postgres_dsn"))
    else:
        found = f"sqlite:///{request.getfixturevalue('sqlite_path')}"
    monkeypatch.setenv("AGENT_MESSAGING_DATABASE_URL", found)
    return found


@pytest.fixture
def acme(url: str) -> str:
    """The same with the organization acme and its agents alice, bob and carol."""

    async def add() -> None:
        async with AgentMessaging(url) as sdk:
            await sdk.register_organization("acme", "Acme Ltd.")
            for agent in ("alice", "bob", "carol"):
                await sdk.register_agent(agent, "acme", agent.title())

    asyncio.run(add())
    return url


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever terminal the tests run in."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
