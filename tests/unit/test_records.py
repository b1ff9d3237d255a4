"""The decorator of the SDK's own records: equal in all that they use to the one of the standard library."""

from __future__ import annotations

import ast
import copy
import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import agent_messaging
from agent_messaging import records

PACKAGE = Path(agent_messaging.__file__).parent
FROZEN_IN_EARNEST = {"models.py", "records.py"}
"""Modules whose records users see, and the decorator itself."""
LATE = {"cli", "testing"}
"""Rooms that `from agent_messaging import AgentMessaging` does not load."""


@records.dataclass(frozen=True, slots=True)
class Point:
    """Two numbers, a secret, and a mark that says nothing about which point it is."""

    x: int
    y: list[int] = dataclasses.field(default_factory=list)
    secret: str = dataclasses.field(default="s3cret", repr=False)
    mark: int = dataclasses.field(default=0, compare=False)


@records.dataclass(frozen=True, slots=True)
class Name:
    """One field."""

    text: str


@records.dataclass(slots=True)
class Counter:
    """Changes."""

    number: int = 0
    above: Any = None


@records.dataclass(slots=True, eq=False)
class Thing:
    """Itself alone."""

    number: int = 0


@records.dataclass(frozen=True, slots=True)
class Nothing:
    """No field."""


def test_records_show_their_fields_and_no_secret() -> None:
    assert repr(Point(1, [2])) == "Point(x=1, y=[2], mark=0)"
    loop = Counter(1)
    loop.above = loop
    assert repr(loop) == "Counter(number=1, above=...)"


def test_records_are_equal_by_the_fields_that_compare() -> None:
    assert Point(1, [2], mark=1) == Point(1, [2], mark=2)
    assert Point(1, [2]) != Point(1, [3])
    others: tuple[object, ...] = (Counter(0), "a", None)
    assert all(Name("a") != other for other in others)
    assert Nothing() == Nothing()
    assert Thing(1) != Thing(1)


def test_frozen_records_are_keys_and_others_are_not() -> None:
    assert {Name("a"): 1}[Name("a")] == 1
    assert len({Nothing(), Nothing()}) == 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(Counter())
    assert len({Thing(1), Thing(1)}) == 2


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_records_can_be_copied_and_replaced(again: Callable[[Point], Point]) -> None:
    point = Point(1, [2], "other")
    assert again(point) == point
    assert dataclasses.replace(point, x=3) == Point(3, [2], "other")
    match point:
        case Point(x, [y]):
            assert (x, y) == (1, 2)
        case _:
            raise AssertionError("not matched by its fields")


def test_what_a_class_defines_itself_is_kept() -> None:
    @records.dataclass(frozen=True, slots=True)
    class Own:
        """Its own words and its own hash."""

        text: str

        def __repr__(self) -> str:
            return "own"

        def __hash__(self) -> int:
            return 7

    assert (repr(Own("a")), hash(Own("b"))) == ("own", 7)


def test_records_have_slots() -> None:
    with pytest.raises(AttributeError):
        Counter().other = 1  # type: ignore[attr-defined]


def test_the_modules_that_each_start_loads_make_their_records_quickly() -> None:
    slow = []
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE)
        if place.parts[0] in LATE or str(place) in FROZEN_IN_EARNEST:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "dataclasses":
                slow += [str(place) for name in node.names if name.name == "dataclass"]
    assert slow == [], "import `dataclass` from agent_messaging.records: the start of each process waits for it"
