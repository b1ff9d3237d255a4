"""`python -m benchmarks.compare BEFORE.json AFTER.json`: two runs side by side, and what got worse beyond the spread.

A row that stands beside a raw limit or a peer is compared by its ratio, because the two runs may have had machines of
different speed; any other by its figure. Worse is what lies outside the spread of both runs together.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .harness import digits
from .output import figure_of, read_json

_WIDTHS = (58, 14, 14, 9, 9, 8)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; the exit code is 1 if something got worse."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args(arguments)
    before, after = read_json(options.before), read_json(options.after)
    for name, run in (("before", before), ("after", after)):
        print(f"{name:7} {run['runs']} run(s); {run['machine']['machine']}; {run['machine'].get('during', '')}")
    worse = 0
    for family, rows in after["rows"].items():
        earlier = {row["name"]: row for row in before["rows"].get(family, [])}
        print(f"\n{after['titles'].get(family, family)}")
        print(_line("", "before", "after", "ratio", "ratio", "change", ""))
        for row in rows:
            worse += _compare(earlier.pop(row["name"], None), row)
        for row in earlier.values():
            print(_line(row["name"], figure_of(row), "gone", "", "", "", ""))
    print(f"\n{worse or 'nothing'} got worse beyond the spread")
    sys.exit(1 if worse else 0)


def _compare(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> bool:
    """Print a row; answers whether it got worse."""
    if before is None or before["figure"] is None or after["figure"] is None:
        said = "new" if before is None else "absent"
        print(_line(after["name"], "" if before is None else figure_of(before), figure_of(after), "", "", said, ""))
        return False
    change = change_of(before, after)
    spread = spread_of(before) + spread_of(after)
    verdict = "WORSE" if change < -spread else "better" if change > spread else ""
    cells = [figure_of(before), figure_of(after), _ratio(before), _ratio(after), f"{change:+.0%}", verdict]
    print(_line(after["name"], *cells))
    return verdict == "WORSE"


def change_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    """How much better it has become, as a share: 0.5 is one and a half times as good, -0.5 half as good."""
    both = before["ratio"] and after["ratio"]
    then, now = (before["ratio"], after["ratio"]) if both else (before["figure"], after["figure"])
    if not then or not now:
        return 0.0
    return float(now / then if after["unit"].endswith("/s") else then / now) - 1.0


def spread_of(row: Mapping[str, Any]) -> float:
    """Of the figure, and of what it stands beside."""
    raws = row["raws"] or []
    of_raw = (max(raws) - min(raws)) / 2 / row["raw"] if row["ratio"] and len(raws) > 1 else 0.0
    return float(row["spread"] or 0.0) + of_raw


def _ratio(row: Mapping[str, Any]) -> str:
    return "" if row["ratio"] is None else digits(row["ratio"])


def _line(name: str, *cells: str) -> str:
    head, *others = _WIDTHS
    padded = [cell.rjust(width) for cell, width in zip(cells[:-1], others, strict=True)]
    return f"  {name.ljust(head)}{' '.join(padded)}  {cells[-1]}".rstrip()


if __name__ == "__main__":
    main()
