"""The benches run, at a size that says nothing about speed: so they cannot rot unseen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_family_runs_on_both_stores_and_writes_its_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    command = [sys.executable, "-m", "benchmarks", "--only", "one_way", "--scale", "0.01", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]["one_way"]
    assert {row["name"].split(",")[0] for row in rows} == {"SQLite", "PostgreSQL"}
    for row in rows:
        assert row["figure"] > 0
        assert row["name"] in done.stdout
        assert (row["holds"] is None) == (not row["target"])
