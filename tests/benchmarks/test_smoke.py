"""The benches run, at a size that says nothing about speed: so they cannot rot unseen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FAMILIES = (
    "one_way",
    "backlog",
    "asks",
    "wakeup",
    "takeover",
    "mailbox",
    "retention",
    "search",
    "topics",
    "meetings",
    "tasks",
    "coordination",
    "startup",
)


def bench(file: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks", "--json", str(file), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    for row in (row for rows in content["rows"].values() for row in rows):
        assert row["name"] in done.stdout
        assert (row["holds"] is None) == (not row["target"] or row["figure"] is None)
        assert (row["figure"] is None) == row["note"].startswith("absent: ")
    return content


def test_several_runs_of_a_family_make_one_row_each(tmp_path: Path) -> None:
    content = bench(tmp_path / "rows.json", "--only", "one_way", "--store", "sqlite", "--scale", "0.001", "--runs", "2")
    rows = content["rows"]["one_way"]
    assert len({row["name"] for row in rows}) == len(rows)
    measured = [row for row in rows if row["figure"] is not None]
    assert all(row["figure"] > 0 and len(row["figures"]) == 2 for row in measured)
    assert sum(bool(row["target"]) for row in measured) == 4
    assert all(row["ratio"] > 0 for row in measured if row["target"])
    assert {"before", "during", "disk", "machine", "python", "stores"} <= content["machine"].keys()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("store", ["sqlite", "postgres"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_runs(family: str, store: str, tmp_path: Path) -> None:
    content = bench(tmp_path / "rows.json", "--only", family, "--store", store, "--scale", "0.001")
    assert content["rows"][family]


def test_growth_is_measured_and_drawn(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--growth", str(tmp_path), "--store", "sqlite", "--scale", "0.001"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "growth.json").read_text(encoding="utf-8"))
    names = {curve["name"] for curve in content["curves"]}
    assert names == {path.stem for path in tmp_path.glob("*.svg")}
    for curve in content["curves"]:
        assert all(x > 0 and y > 0 for line in curve["series"].values() for x, y in line)
    [memory] = content["memory"]
    assert 0 < memory["imported"] < memory["idle"]
