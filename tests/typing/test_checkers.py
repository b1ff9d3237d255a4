"""What mypy and pyright say of `examples.py`: the types that it asserts, and an error in each line that is marked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = Path(__file__).with_name("examples.py")
MARK = re.compile(r"  # type: ignore\[[^]]*\]")


def errors_of_mypy(program: Path) -> list[tuple[int, str]]:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), str(program)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    # By name: for a program that it has seen before, mypy repeats what it said, with the path of that time.
    found = re.findall(rf"^\S*/{program.name}:(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    return [(int(line), text) for line, text in found]


def errors_of_pyright(program: Path) -> list[tuple[int, str]]:
    settings = program.with_name("pyrightconfig.json")
    options = {"include": [str(program)], "pythonVersion": "3.11", "typeCheckingMode": "strict"}
    options["reportUnusedFunction"] = "none"  # registered by a decorator
    settings.write_text(json.dumps(options), encoding="utf-8")
    checker = Path(sys.executable).with_name("basedpyright")
    command = [str(checker), "--outputjson", "--pythonpath", sys.executable, "--project", str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 1
    found = [one for one in report["generalDiagnostics"] if one["severity"] == "error"]
    return [(one["range"]["start"]["line"] + 1, one["message"]) for one in found]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("errors_of", [errors_of_mypy, errors_of_pyright])
def test_a_type_checker_knows_what_calls_give_and_refuses_what_does_not_work(
    errors_of: Callable[[Path], list[tuple[int, str]]], tmp_path: Path
) -> None:
    lines = EXAMPLES.read_text(encoding="utf-8").splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if MARK.search(line)}
    assert len(wrong) > 20
    program = tmp_path / "program.py"
    program.write_text(MARK.sub("", "\n".join(lines)), encoding="utf-8")
    errors = errors_of(program)
    assert [error for error in errors if error[0] not in wrong] == []
    assert wrong - {line for line, _ in errors} == set(), "lines that are to be refused"
