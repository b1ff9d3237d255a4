"""The page that walks through the requirements has each of them once, and every place that it names exists."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.docs.pages import anchors_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "requirements.md"
LAST = {
    section: int(last)
    for section, last in re.findall(
        r"(\S+) (\d+)",
        "A-GEN 19 A-SDK 19 A-ORG 11 A-HND 25 A-OW 13 A-CONV 37 "
        "A-MEET 35 A-EVT 17 A-SRCH 8 A-ANLY 8 A-MOD 17 A-EXC 21 A-CFG 24 A-DB 17 "
        "B-GEN 8 B-PROT 18 B-QUE 14 B-REG 12 B-SUP 10 B-LOG 18 B-CFG 9 B-MON 5 "
        "B-SEC 9 B-DEP 5 B-INT 10 "
        "N-PERF 7 N-RES 13 N-SEC 5 N-TEST 11 D-DOC 29 D-EX 8 P-PKG 12 R-ROAD 13 "
        "C 72 E 67 G 22 X 30 F 15",
    )
}
"""The last number of each section; each begins with 1 and leaves none out."""


class Row(NamedTuple):
    ids: str
    asks: str
    state: str
    where: str


def rows() -> Iterator[Row]:
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if re.match(r"\| [A-Z](-[A-Z]+)?-\d\d", line):
            yield Row(*(cell.strip() for cell in line.strip("|").split(" | ")))


def ids(text: str) -> Iterator[str]:
    """The ids of a cell such as "A-OW-01 to A-OW-03, A-OW-07"."""
    for part in text.split(", "):
        first, *end = part.split(" to ")
        section, _, number = first.rpartition("-")
        until = end[0].removeprefix(f"{section}-") if end else number
        yield from (f"{section}-{each:02}" for each in range(int(number), int(until) + 1))


@cache
def names_in(path: Path) -> set[str]:
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            methods = (one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}::{method.name}" for method in methods}
    return found


def links(text: str) -> list[tuple[Path, str]]:
    found = re.findall(r"\]\(([^)#]+)#?([^)]*)\)", text)
    return [((PAGE.parent / target).resolve(), anchor) for target, anchor in found]


def places(text: str) -> list[str]:
    return [one for one in re.findall(r"`([^`\s]+)`", text) if "/" in one or (ROOT / one).exists()]


def test_every_requirement_is_there_once() -> None:
    told = Counter(id for row in rows() for id in ids(row.ids))
    asked = {f"{section}-{number:02}" for section, last in LAST.items() for number in range(1, last + 1)}
    assert told == Counter(asked)


def test_each_says_what_it_asks_and_where_it_is_met_or_why_not() -> None:
    for row in rows():
        assert 2 <= len(row.asks.split()) <= 9, row.ids
        assert row.state in {"met", "in part", "not yet", "refused", "none"}, row.ids
        if row.state in {"met", "in part"}:
            assert links(row.where) or places(row.where), row.ids
        if row.state not in {"met", "none"}:
            words = re.sub(r"\[[^\]]*\]\([^)]*\)|`[^`]*`", "", row.where)
            assert len(re.findall(r"\w+", words)) >= 2, f"{row.ids} does not say why"


def test_what_is_not_met_is_listed_at_the_top() -> None:
    page = PAGE.read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| (in part|not yet|refused|none) \| [^|]+ \| ([^|]*) \|$", page, re.MULTILINE))
    states = {row.state for row in rows()} - {"met"}
    assert listed == {
        state: ", ".join(id for row in rows() if row.state == state for id in ids(row.ids)) for state in states
    }


def test_every_place_exists() -> None:
    for row in rows():
        for place in places(row.where):
            path, _, name = place.partition("::")
            assert (ROOT / path).exists(), f"{row.ids}: {path}"
            assert not name or name in names_in(ROOT / path), f"{row.ids}: {place}"
        for page, anchor in links(row.where):
            assert page.is_file(), f"{row.ids}: {page}"
            assert not anchor or anchor in anchors_of(page), f"{row.ids}: {page.name}#{anchor}"
