"""Plots as SVG, drawn without a library: lines over logarithmic scales, for pages that are light or dark.

Series differ by colour, by the shape of their points, and by the name at their end, so that none is needed alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from xml.sax.saxutils import escape

from .harness import digits

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 104, 44, 52
_STYLE = """
  svg { font: 13px system-ui, sans-serif; }
  .paper { fill: #ffffff; } .text { fill: #1f2328; } .quiet { fill: #59636e; }
  .grid { stroke: #d1d9e0; } .axis { stroke: #818b98; }
  .a { stroke: #0969da; } .a.mark, .a.name { fill: #0969da; stroke: none; }
  .b { stroke: #bc4c00; } .b.mark, .b.name { fill: #bc4c00; stroke: none; }
  .c { stroke: #1a7f37; } .c.mark, .c.name { fill: #1a7f37; stroke: none; }
  .line { fill: none; stroke-width: 2.25; }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117; } .text { fill: #f0f6fc; } .quiet { fill: #9198a1; }
    .grid { stroke: #2a313a; } .axis { stroke: #656c76; }
    .a { stroke: #58a6ff; } .a.mark, .a.name { fill: #58a6ff; }
    .b { stroke: #ffa657; } .b.mark, .b.name { fill: #ffa657; }
    .c { stroke: #56d364; } .c.mark, .c.name { fill: #56d364; }
  }
"""


def draw(title: str, x_label: str, y_label: str, series: Mapping[str, Points]) -> str:
    """One plot; both scales are logarithmic, so that a line that rises by one decade in one grows as the work does."""
    points = [point for line in series.values() for point in line]
    x_ticks = sorted({x for x, _ in points})
    y_ticks = _ticks(min(y for _, y in points), max(y for _, y in points))
    across = _scale(x_ticks[0], x_ticks[-1], _LEFT, _WIDTH - _RIGHT)
    up = _scale(y_ticks[0], y_ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
        f' role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>',
        f'<text class="text" x="16" y="24" font-weight="600">{escape(title)}</text>',
    ]
    for tick in y_ticks:
        y = up(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="quiet" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{digits(tick)}</text>')
    bottom = _HEIGHT - _BOTTOM
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    for tick in x_ticks:
        x = across(tick)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 5}"/>')
        parts.append(f'<text class="quiet" x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{digits(tick)}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="text" x="{middle}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(x_label)}</text>')
    centre = (_TOP + bottom) / 2
    turned = f'transform="translate(18 {centre}) rotate(-90)" text-anchor="middle"'
    parts.append(f'<text class="text" {turned}>{escape(y_label)}</text>')
    ends = _apart([up(line[-1][1]) for line in series.values()])
    for (name, line), look, end in zip(series.items(), "abc", ends, strict=False):
        where = [(across(x), up(y)) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in where)
        parts.append(f'<polyline class="line {look}" points="{path}"/>')
        parts += [_mark(look, x, y) for x, y in where]
        place = f'x="{where[-1][0] + 12:.1f}" y="{end + 4:.1f}"'
        parts.append(f'<text class="{look} name" {place} font-weight="600">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _scale(low: float, high: float, begin: float, end: float) -> _Scale:
    return _Scale(math.log10(low), math.log10(high) if high > low else math.log10(low) + 1, begin, end)


class _Scale:
    """Where on the paper a value stands."""

    def __init__(self, low: float, high: float, begin: float, end: float) -> None:
        self.low, self.high, self.begin, self.end = low, high, begin, end

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)


def _ticks(low: float, high: float) -> list[float]:
    """Round values around these: powers of ten, and where they are few also 2 and 5 times those."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(decades) <= 4 else (1,)
    every = [step * 10.0**decade for decade in decades for step in steps]
    first = max((tick for tick in every if tick <= low), default=every[0])
    last = min((tick for tick in every if tick >= high), default=every[-1])
    found = [tick for tick in every if first <= tick <= last]
    return found if len(found) > 1 else [first, first * 10]


def _apart(heights: Sequence[float], least: float = 16) -> list[float]:
    """The same heights, moved so far that names do not lie on each other."""
    order = sorted(range(len(heights)), key=lambda at: heights[at])
    moved = list(heights)
    for before, at in pairwise(order):
        moved[at] = max(moved[at], moved[before] + least)
    return moved


def _mark(look: str, x: float, y: float) -> str:
    if look == "a":
        return f'<circle class="a mark" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    if look == "b":
        return f'<rect class="b mark" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
    return f'<path class="c mark" d="M{x:.1f} {y - 5:.1f}l5 9h-10z"/>'
