"""Putting a run into the page: its tables stand between their markers, and the rest stays as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from benchmarks.harness import Figure, Row, at_least, rate
from benchmarks.output import write_json

from benchmarks import page

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


def written(folder: Path) -> tuple[str, str]:
    rows = [
        at_least(0.25, "SQLite, 64 pairs", rate([2_000.0]), rate([10_000.0]), "raw: the driver alone"),
        Row("beside NATS", None, note="absent: no server"),
        Row("idle", Figure((0.25,), "%")),
    ]
    run, growth = folder / "run.json", folder / "growth.json"
    write_json(run, {"machine": "two cores", "during": "quiet"}, {"notes": rows}, {"notes": "Notes."}, {}, 3)
    curve = {"name": "senders", "title": "Notes", "x": "senders", "y": "notes / s", "series": {"SQLite": [[1, 700]]}}
    memory = [{"store": "SQLite", "imported": 40.0, "idle": 50.0, "each waiting": 4.5}]
    content = {"machine": {"machine": "two cores"}, "curves": [curve], "memory": memory}
    growth.write_text(json.dumps(content), encoding="utf-8")
    return str(run), str(growth)


def test_a_run_is_put_in_and_replaced_by_the_next_one(tmp_path: Path) -> None:
    copy = tmp_path / "performance.md"
    shutil.copy(PAGE, copy)
    run, growth = written(tmp_path)
    page.main([run, growth, "--page", str(copy)])
    once = copy.read_text(encoding="utf-8")
    assert "Each figure is the median of 3 runs." in once
    assert "| 2,000/s | 10,000/s | 0.20 | ratio ≥ 0.25 | **no** |" in once
    assert "| beside NATS | absent: no server | | | | |" in once
    assert "| idle | 0.25 % |" in once
    assert "![Notes, notes / s](growth/senders.svg)" in once
    assert "| SQLite | 40 | 50 | 4.50 |" in once
    assert once.partition("<!-- run -->")[0] == PAGE.read_text(encoding="utf-8").partition("<!-- run -->")[0]
    page.main([run, growth, "--page", str(copy)])
    assert copy.read_text(encoding="utf-8") == once


def test_a_page_without_markers_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "page.md"
    copy.write_text("# Nothing\n", encoding="utf-8")
    run, _ = written(tmp_path)
    with pytest.raises(SystemExit, match="no pair of markers"):
        page.main([run, "--page", str(copy)])
