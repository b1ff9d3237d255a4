"""What every bench shares: figures and rows, the sizes of a run, and the table.

A figure alone says little about another machine, so each stands beside the raw limit that the same run measured, and
the target is a ratio of the two where the design sets one. Repetitions of a figure and of its raw limit take turns, so
that a machine that is busy for a while slows both.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .stores import Backend


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity; of several repetitions the median, and half their range as the spread."""

    values: tuple[float, ...]
    unit: str

    @property
    def median(self) -> float:
        """The middle of the repetitions."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Half the range of the repetitions, as a share of the median."""
        return (max(self.values) - min(self.values)) / 2 / self.median if self.median else 0.0

    def __str__(self) -> str:
        text = f"{_digits(self.median)}{'' if self.unit.startswith('/') else ' '}{self.unit}"
        return text if len(self.values) == 1 else f"{text} ±{self.spread:.0%}"


def rate(values: Sequence[float]) -> Figure:
    """So many in a second, in each repetition."""
    return Figure(tuple(values), "/s")


def percentile(samples: Sequence[float], share: float, unit: str = "ms", factor: float = 1_000.0) -> Figure:
    """The sample below which `share` of them lie; seconds become milliseconds."""
    ordered = sorted(samples)
    return Figure((ordered[min(len(ordered) - 1, int(share * len(ordered)))] * factor,), unit)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    figure: Figure
    raw: Figure | None = None
    """The limit that the machine sets, measured in this run; None where nothing raw compares."""
    target: str = ""
    """As the design says it; empty for a figure that is only told."""
    holds: bool | None = None
    """Whether the target is met; None without one."""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Figure to raw limit."""
        return self.figure.median / self.raw.median if self.raw is not None and self.raw.median else None

    def as_json(self) -> dict[str, Any]:
        """For machines, with every repetition."""
        return {
            "name": self.name,
            "unit": self.figure.unit,
            "figure": self.figure.median,
            "figures": self.figure.values,
            "raw": self.raw.median if self.raw else None,
            "raws": self.raw.values if self.raw else None,
            "ratio": self.ratio,
            "target": self.target,
            "holds": self.holds,
            "note": self.note,
        }


def at_least(target: float, name: str, figure: Figure, raw: Figure, note: str = "") -> Row:
    """A row whose figure is to reach this share of its raw limit."""
    return Row(name, figure, raw, f"ratio ≥ {target:.2f}", figure.median >= target * raw.median, note)


def below(limit: float, name: str, figure: Figure, raw: Figure | None = None, note: str = "") -> Row:
    """A row whose figure is to stay below a limit in its own unit."""
    return Row(name, figure, raw, f"< {_digits(limit)} {figure.unit}", figure.median < limit, note)


@dataclass(slots=True)
class Bench:
    """One run of the benches.

    Args:
        scale: 1 is a whole run; numbers of messages, kills and seconds shrink with it.
        backends: The stores to measure on.
    """

    scale: float
    backends: Sequence[Backend]
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def repetitions(self) -> int:
        """Of each rate."""
        return 5 if self.scale >= 1 else 3 if self.scale >= 0.1 else 1

    def count(self, full: int, least: int = 1) -> int:
        """How many, where a whole run takes `full`."""
        return max(least, round(full * self.scale))

    def seconds(self, full: float, least: float) -> float:
        """How long, where a whole run takes `full` seconds."""
        return max(least, full * self.scale)


class Family(Protocol):
    """A module of this package: it measures rows and yields each as soon as it is known."""

    def measure(self, bench: Bench) -> AsyncIterator[Row]:
        """Yield rows as soon as they are known."""
        ...


# --- output -----------------------------------------------------------------------------------------------------------

_WIDTHS = (52, 18, 18, 7, 16)


def print_head(title: str) -> None:
    """Begin the rows of a family."""
    print(f"\n{title}")
    print(_line("", "measured", "raw limit", "ratio", "target", "holds"))


def print_row(row: Row) -> None:
    """One line; a note goes below it."""
    ratio = "" if row.ratio is None else _digits(row.ratio)
    holds = "" if row.holds is None else "yes" if row.holds else "NO"
    print(_line(row.name, str(row.figure), str(row.raw or ""), ratio, row.target, holds))
    if row.note:
        print(f"    {row.note}")


def _line(name: str, *cells: str) -> str:
    head, *others = _WIDTHS
    padded = [cell.rjust(width) for cell, width in zip(cells[:-1], others, strict=True)]
    return f"  {name.ljust(head)}{' '.join(padded)}  {cells[-1]}".rstrip()


def write_json(path: Path, facts: dict[str, str], rows: dict[str, list[Row]]) -> None:
    """Everything that was printed, and the repetitions behind it."""
    content = {"machine": facts, "rows": {name: [row.as_json() for row in mine] for name, mine in rows.items()}}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _digits(value: float) -> str:
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
