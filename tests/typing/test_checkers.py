"""What mypy and pyright say of `examples.py`, the types that it asserts and the marked errors, and of the package."""

from __future__ import annotations

import importlib
import json
import os
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


PUBLIC = ("agent_messaging", "agent_messaging.coordination", "agent_messaging.sync", "agent_messaging.testing")
"""Whose exported names are the public surface."""
UNSAID = ("Type is missing type annotation", "Ambiguous base class override")
"""What pyright says where it has to infer a type, which another checker may infer otherwise."""


@pytest.mark.timeout(600)
def test_every_type_of_the_package_is_known_to_pyright_and_those_of_the_public_classes_are_written(
    tmp_path: Path,
) -> None:
    names = Path(sys.executable).parent
    command = [str(names / "basedpyright"), "--verifytypes", "agent_messaging", "--ignoreexternal", "--outputjson"]
    environment = {**os.environ, "PATH": f"{names}{os.pathsep}{os.environ['PATH']}"}  # it asks the first python there
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    found = json.loads(done.stdout)["typeCompleteness"]
    assert found["exportedSymbolCounts"]["withKnownType"] > 5_000
    assert found["exportedSymbolCounts"]["withUnknownType"] == 0
    exported = [getattr(module, name) for module in map(importlib.import_module, PUBLIC) for name in module.__all__]
    public = {f"{one.__module__}.{one.__qualname__}" for one in exported if isinstance(one, type)}
    assert len(public) > 100
    unsaid = [
        (symbol["name"], said["message"])
        for symbol in found["symbols"]
        for said in symbol["diagnostics"]
        if said["message"].startswith(UNSAID) and symbol["name"].rpartition(".")[0] in public
    ]
    assert unsaid == []
