"""Where an example runs: SQLite in its working directory, or PostgreSQL as its environment says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from agent_messaging import clear_handlers

RunProgram = Callable[[str], list[str]]
RunBeside = Callable[[str, str], list[str]]


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    """The examples name no store: what they get is decided around them."""
    return str(request.param)


@pytest.fixture
def surroundings(backend: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment variables of the documents for this test's database; none for SQLite."""
    if backend == "sqlite":
        return {}
    parts = urlsplit(str(request.getfixturevalue("postgres_dsn")))
    query = parse_qs(parts.query)
    return {
        "POSTGRES_HOST": query.get("host", [parts.hostname or "localhost"])[0],
        "POSTGRES_PORT": str(parts.port or 5432),
        "POSTGRES_USER": unquote(parts.username or "postgres"),
        "POSTGRES_PASSWORD": unquote(parts.password or ""),
        "POSTGRES_DATABASE": unquote(parts.path.lstrip("/")),
        "POSTGRES_MIN_POOL_SIZE": "1",
    }


@pytest.fixture
def configured(surroundings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is configured like that, so that `AgentMessaging()` finds the test's database."""
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    yield
    clear_handlers()


@pytest.fixture
def environment(surroundings: dict[str, str]) -> dict[str, str]:
    """The environment of a program of its own process."""
    return {**os.environ, **surroundings, "PYTHONUTF8": "1", "PYTHONWARNINGS": "error"}


@pytest.fixture
def run_twice(environment: dict[str, str], tmp_path: Path) -> RunProgram:
    """Run a program twice in a row on the same database; return what each run printed."""

    def run(program: str) -> list[str]:
        path = tmp_path / "program.py"
        path.write_text(program, encoding="utf-8")
        printed = []
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, str(path)],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert (done.returncode, done.stderr) == (0, "")
            printed.append(done.stdout)
        return printed

    return run


@pytest.fixture
def run_beside(environment: dict[str, str], tmp_path: Path, run_twice: RunProgram) -> RunBeside:
    """Run a program twice in a row, while another one, which has printed "ready", answers."""

    def run(server: str, asker: str) -> list[str]:
        path = tmp_path / "server.py"
        path.write_text(server, encoding="utf-8")
        with subprocess.Popen(
            [sys.executable, str(path)], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                return run_twice(asker)
            finally:
                process.kill()

    return run
