"""The decorator of the SDK's own records: equal in all that they use to the one of the standard library."""

from __future__ import annotations

import ast
import copy
import dataclasses
import importlib.util
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_messaging import records

FROZEN_IN_EARNEST = {
    *(f"agent_messaging.models.{name}" for name in ("contexts", "meetings", "messages")),
    "agent_messaging.records",
}
"""Modules whose records users see, and the decorator itself."""


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


@records.dataclass(slots=True, kw_only=True)
class Several:
    """Fields of every sort."""

    number: int
    many: list[int] = dataclasses.field(default_factory=list)
    inner: dict[str, int] = dataclasses.field(default_factory=dict, init=False)
    place: int = dataclasses.field(default=3, init=False)
    double: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.double = 2 * self.number


def test_the_constructor_takes_what_that_of_the_standard_library_does() -> None:
    first, second = Several(number=4), Several(number=4)
    assert (first.number, first.many, first.inner, first.place, first.double) == (4, [], {}, 3, 8)
    assert first.many is not second.many
    assert Several(number=1, many=[2]).many == [2]
    calls: list[tuple[Any, ...]] = [(Several, (4,), {}), (Point, (), {}), (Name, ("a", "b"), {}), (Name, (), {"t": 1})]
    for kind, arguments, named in calls:
        with pytest.raises(TypeError, match=r"__init__\(\)"):
            kind(*arguments, **named)


@records.dataclass(frozen=True, slots=True)
class Longer(Name):
    """One field more."""

    more: str = "!"


def test_a_record_of_another_has_the_fields_of_both() -> None:
    assert Longer("a") == Longer("a", "!")
    assert repr(Longer("a")) == "Longer(text='a', more='!')"
    assert Name("a") == Name("a")


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
    code = "import sys; from agent_messaging import AgentMessaging; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    slow = []
    for name in loaded:
        if name.startswith("agent_messaging.") and name not in FROZEN_IN_EARNEST:
            file = importlib.util.find_spec(name)
            assert file is not None
            assert file.origin is not None
            for node in ast.walk(ast.parse(Path(file.origin).read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module == "dataclasses":
                    slow += [name for one in node.names if one.name == "dataclass"]
    assert slow == [], "import `dataclass` from agent_messaging.records: the start of each process waits for it"


def test_records_are_matched_by_position_and_extended_by_the_standard_library() -> None:
    @records.dataclass(slots=True)
    class Pair:
        """Two values, and a third that is given by name."""

        first: int
        second: int = 2
        third: int = dataclasses.field(default=3, kw_only=True)

    @dataclasses.dataclass
    class Triple(Pair):
        fourth: int = 4

    match Pair(1):
        case Pair(first, second):
            assert (first, second) == (1, 2)
    assert Pair.__match_args__ == ("first", "second")
    assert dataclasses.asdict(Triple(1, third=0)) == {"first": 1, "second": 2, "third": 0, "fourth": 4}
