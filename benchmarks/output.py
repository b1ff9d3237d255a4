"""The table of a run, and its file: rows for readers and for `benchmarks.compare` and `benchmarks.page`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .harness import Row, digits

_WIDTHS = (58, 18, 18, 7, 16)


def print_head(title: str) -> None:
    """Begin the rows of a family."""
    print(f"\n{title}")
    print(_line("", "measured", "raw or peer", "ratio", "target", "reached"))


def print_row(row: Row) -> None:
    """One line; a note goes below it."""
    ratio = "" if row.ratio is None else digits(row.ratio)
    holds = "" if row.holds is None else "yes" if row.holds else "NO"
    target = row.target.text if row.target else ""
    print(_line(row.name, str(row.figure or "absent"), str(row.raw or ""), ratio, target, holds))
    if row.note:
        print(f"    {row.note}")


def _line(name: str, *cells: str) -> str:
    head, *others = _WIDTHS
    padded = [cell.rjust(width) for cell, width in zip(cells[:-1], others, strict=True)]
    return f"  {name.ljust(head)}{' '.join(padded)}  {cells[-1]}".rstrip()


def write_json(
    path: Path,
    facts: Mapping[str, str],
    rows: Mapping[str, Sequence[Row]],
    titles: Mapping[str, str],
    busy: Mapping[str, float | None],
    runs: int,
) -> None:
    """Everything that was printed, and the repetitions behind it.

    Args:
        path: Where.
        facts: What the machine is, and how busy.
        rows: Those of each family.
        titles: What each family measures.
        busy: How many cores other processes used while each family was measured; None where the system does not say.
        runs: So many runs, of which each figure is the median.
    """
    content = {
        "machine": dict(facts),
        "runs": runs,
        "busy": dict(busy),
        "titles": dict(titles),
        "rows": {name: [row.as_json() for row in mine] for name, mine in rows.items()},
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` has written."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def figure_of(row: Mapping[str, Any], which: str = "figure") -> str:
    """A figure of a row that was read, as text."""
    value, unit = row[which], row["unit"]
    if value is None:
        return ""
    return f"{digits(value)}{'' if unit.startswith('/') else ' '}{unit}"
