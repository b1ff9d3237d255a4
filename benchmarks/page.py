"""`python -m benchmarks.page RUN.json [GROWTH.json]`: put the tables of a run into `docs/performance.md`.

What stands between a pair of markers (`<!-- run -->` and `<!-- /run -->`) is replaced; the rest of the page is written
by hand.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .harness import digits
from .output import figure_of, read_json

PAGE = Path("docs/performance.md")
_MACHINE = ("machine", "python", "stores", "disk", "before", "during", "scale")


def main(arguments: Sequence[str] | None = None) -> None:
    """Rewrite the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("growth", type=Path, nargs="?")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    text = options.page.read_text(encoding="utf-8")
    text = filled(text, "run", run_of(read_json(options.run)))
    if options.growth is not None:
        text = filled(text, "growth", growth_of(read_json(options.growth)))
    options.page.write_text(text, encoding="utf-8")


def filled(text: str, name: str, content: str) -> str:
    """The page with this between its markers."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SystemExit(f"The page has no pair of markers {begin} and {end}. Put them where the tables belong.")
    return re.sub(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n\n{content}\n\n{end}", text, flags=re.DOTALL
    )


def run_of(run: Mapping[str, Any]) -> str:
    """The machine, and a table for each family."""
    parts = [_facts(run["machine"])]
    parts.append("One run." if run["runs"] == 1 else f"Each figure is the median of {run['runs']} runs.")
    for family, rows in run["rows"].items():
        if rows:
            lines = [_row(row) for row in rows]
            head = ["| | measured | raw or peer | ratio | target | reached |", "|---|---:|---:|---:|---|---|"]
            parts += [f"### {run['titles'].get(family, family).rstrip('.')}", "\n".join([*head, *lines])]
    return "\n\n".join(parts)


def growth_of(growth: Mapping[str, Any]) -> str:
    """A plot and a table for each curve, and the memory."""
    parts = [_facts(growth["machine"])]
    for curve in growth["curves"]:
        parts += [
            f"### {curve['title']}",
            f"![{curve['title']}, {curve['y']}](growth/{curve['name']}.svg)",
            _table(curve),
        ]
    rows = growth["memory"]
    if rows:
        states = [name for name in rows[0] if name != "store"]
        units = {"each waiting": "KiB"}
        head = "| | " + " | ".join(f"{name} ({units.get(name, 'MiB')})" for name in states) + " |"
        lines = [f"| {row['store']} | " + " | ".join(digits(row[name]) for name in states) + " |" for row in rows]
        parts += ["### Memory of a process", "\n".join([head, "|---|" + "---:|" * len(states), *lines])]
    return "\n\n".join(parts)


def _facts(machine: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {machine[name]}" for name in _MACHINE if name in machine)


def _row(row: Mapping[str, Any]) -> str:
    if row["figure"] is None:
        return f"| {row['name']} | {row['note']} | | | | |"
    ratio = "" if row["ratio"] is None else digits(row["ratio"])
    reached = "" if row["holds"] is None else "yes" if row["holds"] else "**no**"
    name = f"{row['name']}<br><sub>{row['note']}</sub>" if row["note"] else row["name"]
    raw = figure_of(row, "raw")
    return f"| {name} | {figure_of(row)} | {raw} | {ratio} | {row['target']} | {reached} |"


def _table(curve: Mapping[str, Any]) -> str:
    lines = [
        f"| {store} | " + " | ".join(digits(y) for _, y in points) + " |" for store, points in curve["series"].items()
    ]
    sizes = max(curve["series"].values(), key=len)
    head = f"| {curve['x']} | " + " | ".join(digits(x) for x, _ in sizes) + " |"
    return "\n".join([head, "|---|" + "---:|" * len(sizes), *lines])


if __name__ == "__main__":
    main()
