"""What every bench shares: figures, targets and rows, and the sizes of a run.

A figure alone says little about another machine, so each stands beside the raw limit or the peer that the same run
measured, and the target is a ratio of the two where the design sets one. Repetitions of a figure and of its raw limit
take turns, so that a machine that is busy for a while slows both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from .stores import Backend

PARTS = 5
"""Into so many pieces the samples of a percentile are cut, to see how far it spreads."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity; of several repetitions the median, and half their range as the spread."""

    values: tuple[float, ...]
    unit: str
    whole: float | None = None
    """What all samples together say, where `values` are those of parts of them."""

    @property
    def median(self) -> float:
        """The middle of the repetitions."""
        return statistics.median(self.values) if self.whole is None else self.whole

    @property
    def spread(self) -> float:
        """Half the range of the repetitions, as a share of the median."""
        return (max(self.values) - min(self.values)) / 2 / self.median if self.median else 0.0

    @property
    def is_better_when_higher(self) -> bool:
        """Rates are; times, sizes and counts are not."""
        return self.unit.endswith("/s")

    def __str__(self) -> str:
        text = f"{digits(self.median)}{'' if self.unit.startswith('/') else ' '}{self.unit}"
        return text if len(self.values) == 1 else f"{text} ±{self.spread:.0%}"


def rate(values: Sequence[float]) -> Figure:
    """So many in a second, in each repetition."""
    return Figure(tuple(values), "/s")


def percentile(samples: Sequence[float], share: float, unit: str = "ms", factor: float = 1_000.0) -> Figure:
    """The sample below which `share` of them lie; seconds become milliseconds. It spreads as its fifths do."""
    size = len(samples) // PARTS
    parts = [samples[at * size : (at + 1) * size] for at in range(PARTS)] if size else [samples]
    return Figure(tuple(_at(part, share) * factor for part in parts), unit, _at(samples, share) * factor)


def _at(samples: Sequence[float], share: float) -> float:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Target:
    """What the design asks of a figure: not below, or not above, `factor` times its raw limit, plus `plus`."""

    text: str
    factor: float
    plus: float = 0.0
    is_floor: bool = False

    def holds(self, figure: Figure, raw: Figure | None) -> bool:
        """Whether it is reached."""
        limit = self.factor * (raw.median if raw is not None else 0.0) + self.plus
        return figure.median >= limit if self.is_floor else figure.median <= limit


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    figure: Figure | None
    """None where nothing was measured; the note says why."""
    raw: Figure | None = None
    """The limit that the machine sets, or a peer, measured in this run; None where nothing compares."""
    target: Target | None = None
    """As the design says it; None for a figure that is only told."""
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None or self.figure is None:
            return None
        return self.target.holds(self.figure, self.raw)

    @property
    def ratio(self) -> float | None:
        """Figure to raw limit."""
        if self.figure is None or self.raw is None or not self.raw.median:
            return None
        return self.figure.median / self.raw.median

    def as_json(self) -> dict[str, Any]:
        """For machines, with every repetition."""
        figure, raw = self.figure, self.raw
        return {
            "name": self.name,
            "unit": figure and figure.unit,
            "figure": figure and figure.median,
            "figures": figure and figure.values,
            "spread": figure and figure.spread,
            "raw": raw and raw.median,
            "raws": raw and raw.values,
            "ratio": self.ratio,
            "target": self.target.text if self.target else "",
            "holds": self.holds,
            "note": self.note,
        }


def at_least(share: float, name: str, figure: Figure, raw: Figure, note: str = "") -> Row:
    """A row whose figure is to reach this share of its raw limit."""
    return Row(name, figure, raw, Target(f"ratio ≥ {share:.2f}", share, is_floor=True), note)


def at_most(times: float, name: str, figure: Figure, raw: Figure, note: str = "", plus: float = 0.0) -> Row:
    """A row whose figure is to stay within so many times its raw limit, and so much more."""
    more = f" + {digits(plus)} {figure.unit}" if plus else ""
    return Row(name, figure, raw, Target(f"≤ {digits(times)} raw{more}", times, plus), note)


def below(limit: float, name: str, figure: Figure, raw: Figure | None = None, note: str = "") -> Row:
    """A row whose figure is to stay below a limit in its own unit."""
    return Row(name, figure, raw, Target(f"≤ {digits(limit)} {figure.unit}", 0.0, limit), note)


def merge(runs: Sequence[Sequence[Row]]) -> list[Row]:
    """The rows of several runs as one: the medians of each run are the repetitions."""
    if len(runs) == 1:
        return list(runs[0])
    found: dict[str, list[Row]] = {}
    for row in (row for rows in runs for row in rows):
        found.setdefault(row.name, []).append(row)
    merged = []
    for rows in found.values():
        last = rows[-1]
        figure, raw = _over([row.figure for row in rows]), _over([row.raw for row in rows])
        merged.append(replace(last, figure=figure, raw=raw))
    return merged


def _over(figures: Sequence[Figure | None]) -> Figure | None:
    there = [figure for figure in figures if figure is not None]
    return Figure(tuple(figure.median for figure in there), there[0].unit) if there else None


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


async def timed(call: Callable[[], Awaitable[object]]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    await call()
    return time.perf_counter() - began


def digits(value: float) -> str:
    """A number with as many digits as say something."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
