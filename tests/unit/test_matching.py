"""Which of several annotations a stored payload is for, and which of them nothing could tell apart."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar
from uuid import UUID

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator
from typing_extensions import TypeAliasType

from agent_messaging import PayloadError
from agent_messaging.payloads import MISSING, Decoder, encode, find_best, find_clash, identity_of

T = TypeVar("T")


class Note(BaseModel):
    text: str


class Signed(Note):
    author: str = "nobody"


class Vip(Note):
    """Nothing but another name."""


class Order(BaseModel):
    id: int
    amount: float = 0.0


class Refund(BaseModel):
    id: int
    amount: float


class Options(BaseModel):
    depth: int = 1
    wide: bool = False


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    text: str = ""


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    name: str


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str


@dataclasses.dataclass
class Task:
    name: str
    sizes: list[int]


class Alert(TypedDict):
    level: str


class Point(NamedTuple):
    x: int
    y: int


class Color(StrEnum):
    RED = "red"


class Names(RootModel[list[str]]):
    pass


class Page(BaseModel, Generic[T]):
    items: list[T]


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]
Short = Annotated[str, Field(max_length=3)]
Alias = TypeAliasType("Alias", Cat | Task)
ID = UUID(int=7)

CHOICES: list[tuple[Any, list[Any], Any]] = [
    (Note(text="x"), [Note, dict, Any], Note),
    ({"text": "x"}, [dict, Note], Note),
    ({"other": 1}, [Note, dict], dict),
    ({"other": 1}, [Note, Any], Any),
    ({"other": 1}, [Note, MISSING], MISSING),
    ("x", [Note, MISSING], MISSING),
    (Note(text="x"), [Note, Signed], Note),
    (Signed(text="x"), [Note, Signed], Signed),
    (Signed(text="x"), [Signed, Note], Signed),
    ({"text": "x", "more": 1}, [Note, Signed], Note),
    (Task("sort", [1]), [Note, Task, Alert], Task),
    ({"level": "high"}, [Note, Task, Alert], Alert),
    ({"level": "high"}, [Alert, dict], Alert),
    ({"name": "x"}, [Options, dict], dict),
    ({}, [Options, dict], Options),
    ({"depth": 3}, [Options, dict], Options),
    (Order(id=1), [Note, Order], Order),
    ({"id": "1"}, [Order, Any], Order),
    (Cat(name="x"), [Cat, Dog], Cat),
    (Dog(name="x"), [Cat, Dog], Dog),
    (Dog(name="x"), [Cat, Pet], Pet),
    (Cat(name="x"), [Pet, Cat], Cat),
    (Cat(name="x"), [Alias, Dog], Alias),
    (Note(text="x"), [Note | Task, Note], Note),
    (Task("x", []), [Note | Task, Note], Note | Task),
    (None, [Note | None, str], Note | None),
    (None, [None, Any], None),
    ({"text": "x", "more": 1}, [Open, dict], Open),
    ("text", [str, int], str),
    ("12", [str, int], str),
    ("12", [int, Any], Any),
    ("12", [int, Note], int),
    (12, [str, int, float, bool], int),
    (12, [float, str], float),
    (12, [float, Any], float),
    (1.5, [int, float], float),
    (True, [bool, int], bool),
    (5, [datetime, Any], Any),
    (str(ID), [str, UUID], UUID),
    ("red", [str, Color], Color),
    ("blue", [str, Color], str),
    ("red", [Literal["red"], str], Literal["red"]),
    ("x", [str, Short], Short),
    ("long", [str, Short], str),
    ([1, 2], [list[int], list], list[int]),
    (["x"], [list[int], list[str]], list[str]),
    ([{"text": "x"}], [list[Note], list[Signed]], list[Note]),
    ([{"text": "x", "author": "y"}], [list[Note], list[Signed]], list[Signed]),
    (["x"], [Names, list], Names),
    ([1, 2], [Point, list], Point),
    ({"a": 1}, [dict[str, int], dict], dict[str, int]),
    ({"a": "x"}, [dict[str, int], Mapping], Mapping),
    (Page[Task](items=[Task("x", [1])]), [Page[Note], Page[Task]], Page[Task]),
]
"""A payload, the annotations of an agent's handlers, and that of the one which gets it."""


@pytest.mark.parametrize(("payload", "annotations", "meant"), CHOICES, ids=[str(n) for n in range(len(CHOICES))])
def test_the_type_that_describes_a_payload_best_gets_it(payload: Any, annotations: list[Any], meant: Any) -> None:
    content = encode(payload, field="message", limit_bytes=10_000)
    for order in (annotations, annotations[::-1]):
        best = find_best(Decoder(), content, order)
        assert [order[position] for position in best] == [meant]


class Labelled(BaseModel):
    """Its validator is written for payloads of its own, as a user would."""

    label: str

    @model_validator(mode="before")
    @classmethod
    def look(cls, data: Any) -> Any:
        return {"label": data["label"].upper()}


def test_a_validator_that_fails_at_the_payloads_of_others_hides_no_other_type() -> None:
    decoder = Decoder()
    cases: list[tuple[str, list[Any], list[int]]] = [
        ('{"text": "hi"}', [Labelled, Note], [1]),
        ('{"label": "hi"}', [Labelled, Note], [0]),
        ('"text"', [Note | Labelled, MISSING], [1]),
        ('{"text": "hi"}', [Labelled | Note, Order], [0]),
    ]
    for content, types, meant in cases:
        assert find_best(decoder, content, types) == meant
    with pytest.raises(KeyError, match="label"):  # nothing fits: then this may be why
        find_best(decoder, '{"text": "hi"}', [Labelled, Order])


def test_bytes_and_paths_take_no_text_from_the_types_that_are_written_as_texts() -> None:
    for value in (datetime(2026, 1, 1), UUID(int=7)):
        for other in (bytes, PurePosixPath):
            assert find_best(Decoder(), json.dumps(str(value)), [other, type(value)]) == [1]
    assert find_clash(bytes, str) == "bytes is written as str is"
    assert find_clash(PurePosixPath, bytes) == "PurePosixPath is written as bytes is"


def test_a_payload_that_fits_nothing_or_two_alike_is_told() -> None:
    decoder = Decoder()
    assert find_best(decoder, '{"other":1}', [Note, Task]) == []
    assert find_best(decoder, '"x"', [Note, int]) == []
    assert find_best(decoder, "[]", [list[Note], list[Task]]) == [0, 1]
    assert find_best(decoder, '{"other":1}', [Options, Order]) == []


CLASHES = [
    (Note, Vip, "Note is written as Vip is"),
    (Order, Refund, "Order is written as Refund is"),
    (dict, dict[str, Any], "dict is written as dict"),
    (Note | Task, Task | Alert, "both take Task"),
    (Note | Vip, int, None),
    (Cat, Dog, None),
    (Note, Signed, None),
    (Note, Note | Task, None),
    (Pet, Cat, None),
    (Any, Note, None),
    (str, UUID, None),
    (Note, Open, "Note is written as Open is"),
    (list[Note], list[Vip], None),
]


@pytest.mark.parametrize(("one", "other", "told"), CLASHES)
def test_types_that_nothing_tells_apart_are_found_before_a_message_comes(
    one: Any, other: Any, told: str | None
) -> None:
    for first, second in ((one, other), (other, one)):
        clash = find_clash(first, second)
        assert (clash is None) == (told is None), clash
    if told is not None:
        assert (find_clash(one, other) or "").startswith(told)


def test_the_same_type_is_the_same_however_it_is_written() -> None:
    again = type("Note", (BaseModel,), {"__module__": __name__, "__annotations__": {"text": str, "more": int}})
    same: list[tuple[Any, Any]] = [(Note, again), (Note | Task, Task | Note), (Any, MISSING), (Any, object)]
    for one, other in (*same, (Pet, Cat | Dog)):
        assert identity_of(one) == identity_of(other)
    inside = [make() for make in (_local, _local)]
    different: list[tuple[Any, Any]] = [(Note, Task), (list[Note], list[Task]), (dict, Any)]
    for one, other in (*different, (inside[0], inside[1])):
        assert identity_of(one) != identity_of(other)


def _local() -> type:
    class Local(BaseModel):
        text: str

    return Local


@given(st.data())
def test_what_is_written_of_a_type_goes_to_that_type(data: st.DataObject) -> None:
    kinds = [Note, Signed, Order, Cat, Dog, Task, Options]
    payload = data.draw(st.sampled_from(kinds).flatmap(st.from_type))
    annotations: list[Any] = data.draw(st.permutations([*kinds, dict, MISSING, str]))
    try:
        content = encode(payload, field="message", limit_bytes=100_000)
    except PayloadError:
        reject()
    [best] = find_best(Decoder(), content, annotations)
    assert annotations[best] is type(payload)
