"""The first things that a new user does, in one folder, in whatever order."""

from __future__ import annotations

import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from agent_messaging.cli.demo.quickstart import NEXT, SCRIPT
from tests.cli.conftest import Cli
from tests.docs.test_docs import PROGRAMS


def commands(help: str) -> list[str]:
    """The commands under "Begin here" that need a store, without the doctor, which may find something to say."""
    begin = re.search(r"Begin here:\n(.*?)\n\n", help, re.DOTALL)
    assert begin is not None
    lines = [re.split(r" {3,}", line.strip())[0] for line in begin[1].splitlines()]
    return [line for line in lines if not line.endswith(("demo", "doctor"))]


def test_the_first_commands_and_all_programs_work_in_one_folder_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AGENT_MESSAGING_DATABASE_URL", raising=False)
    programs = [block.text for block in PROGRAMS if block.page in ("README.md", "docs/quick-start.md")]
    assert len(programs) > 3
    given = commands(cli("--help").out)
    assert [line.split()[1] for line in given] == ["org", "agents", "agents", "send", "inbox"]
    seed = random.randrange(10**9)
    print("seed", seed)
    steps: list[str | list[str]] = [*programs, SCRIPT, given, given]
    random.Random(seed).shuffle(steps)
    for step in steps:
        if isinstance(step, str):
            run = subprocess.run([sys.executable, "-c", step], capture_output=True, text=True, timeout=60, check=False)
            assert run.returncode == 0, run.stderr
        else:
            for line in step:
                cli(*shlex.split(line)[1:])
    for line, _ in NEXT:
        if not line.endswith("tail"):
            cli(*shlex.split(line)[1:], check=None if line.endswith("doctor") else 0)
