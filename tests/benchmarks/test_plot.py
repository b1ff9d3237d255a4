"""The plots that the benches draw: values stand where they belong, names beside their lines, in light and in dark."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from benchmarks import plot

SVG = "{http://www.w3.org/2000/svg}"


def drawn(**series: plot.Points) -> ET.Element:
    return ET.fromstring(plot.draw("Rate & tail", "senders", "notes / s", series))


def texts(svg: ET.Element) -> list[str]:
    return [text.text or "" for text in svg.iter(f"{SVG}text")]


def lines(svg: ET.Element) -> list[list[tuple[float, float]]]:
    return [
        [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.attrib["points"].split())]
        for line in svg.iter(f"{SVG}polyline")
    ]


def test_both_scales_are_logarithmic() -> None:
    [line] = lines(drawn(SQLite=[(1, 10), (10, 100), (100, 1_000)]))
    [(right, up), (again_right, again_up)] = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(line)]
    assert right == pytest.approx(again_right)
    assert up == pytest.approx(again_up)
    assert right > 0 > up


def test_the_axes_are_labelled_and_every_series_is_named_at_its_end() -> None:
    svg = drawn(SQLite=[(1, 2_000), (512, 4_000)], PostgreSQL=[(1, 2_000), (512, 4_000)])
    said = texts(svg)
    assert {"Rate & tail", "senders", "notes / s", "SQLite", "PostgreSQL", "1", "512", "2,000", "5,000"} <= set(said)
    names = [text for text in svg.iter(f"{SVG}text") if text.text in ("SQLite", "PostgreSQL")]
    heights = [float(name.attrib["y"]) for name in names]
    assert abs(heights[0] - heights[1]) >= 16, "the names lie on each other"


@pytest.mark.parametrize("values", [[(1, 5)], [(1, 5), (2, 5)], [(1, 0.03), (1_000_000, 900)]])
def test_everything_stands_on_the_paper(values: list[tuple[float, float]]) -> None:
    svg = drawn(SQLite=values)
    width, height = float(svg.attrib["width"]), float(svg.attrib["height"])
    for line in lines(svg):
        assert all(0 < x < width and 0 < y < height for x, y in line)


def test_a_plot_has_colours_for_light_and_dark_pages() -> None:
    style = drawn(SQLite=[(1, 5)]).find(f"{SVG}style")
    assert style is not None
    assert "prefers-color-scheme: dark" in (style.text or "")
