"""Payloads: what is accepted comes back as it was, what is refused says where and why, and nothing shows a value."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import math
import pickle
import random
import sys
import types
import typing
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AliasGenerator,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    computed_field,
    field_serializer,
    field_validator,
)
from pydantic.alias_generators import to_camel

from agent_messaging.bodies import Body, open_as, open_body, open_metadata, open_or_mark, verify_body
from agent_messaging.exceptions import InvalidArgumentError, PayloadError, StorageCorruptError
from agent_messaging.handlers.annotations import LateAnnotation, handler_annotation
from agent_messaging.handlers.functions import check_handler
from agent_messaging.models import MessageContext
from agent_messaging.payloads import (
    MAX_DEPTH,
    MAX_METADATA_BYTES,
    MISSING,
    Decoder,
    checksum,
    encode,
    encode_metadata,
    fingerprint,
)
from agent_messaging.storage.checks import Specimen

LIMIT = 1024 * 1024
SECRET = "hunter2"


def to_text(payload: object, **options: Any) -> str:
    return encode(payload, limit_bytes=LIMIT, **options)


def refusal(payload: object, **options: Any) -> str:
    with pytest.raises(PayloadError) as caught:
        to_text(payload, **options)
    message = str(caught.value)
    message.encode()  # can be printed and logged
    assert str(pickle.loads(pickle.dumps(caught.value))) == message
    assert SECRET not in message
    return message


class Color(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Shape(Enum):
    ROUND = "round"


class Line(BaseModel):
    text: str
    price: float = 1.0


class Order(BaseModel):
    id: uuid.UUID
    at: datetime
    lines: list[Line]
    color: Color = Color.RED
    total: Decimal = Decimal("1.10")
    tags: set[str] = set()
    raw: bytes = b""
    wait: timedelta = timedelta(0)
    by_level: dict[int, str] = {}
    other: Any = None


@dataclasses.dataclass
class Refusing:
    a: int

    def __post_init__(self) -> None:
        raise ValueError(SECRET)


@dataclasses.dataclass
class Point:
    x: int
    label: str = ""
    next: Point | None = None


class Pair(typing.NamedTuple):
    a: int
    b: int


class Note(typing.TypedDict):
    text: str
    tags: typing_extensions.NotRequired[list[str]]


class Tree(typing.TypedDict, total=False):
    name: typing_extensions.Required[str]
    children: list[Tree]


class ModernNote(typing_extensions.TypedDict):
    text: str


# --- round trips ------------------------------------------------------------------------------------------------------

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=5), max_leaves=40
)


def same(one: object, other: object) -> bool:
    """Equal, with the types: 1, 1.0 and True are not the same."""
    return repr(one) == repr(other)


@given(json_values)
def test_any_json_comes_back_as_it_was(value: object) -> None:
    written = to_text(value)
    assert same(json.loads(written), value)
    assert same(Decoder().decode(written), value)


@given(
    st.recursive(scalars | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_any_value_is_either_refused_or_readable_everywhere(value: object) -> None:
    try:
        written = to_text(value)
    except PayloadError:
        return
    written.encode()
    assert "\0" not in written
    assert same(json.loads(written, parse_constant=pytest.fail), value)


@given(st.binary())
def test_no_stored_text_makes_the_decoder_fail_otherwise(content: bytes) -> None:
    for annotation in (MISSING, Line, dict, list[int], Note):
        with contextlib.suppress(PayloadError):
            Decoder().decode(content.decode(errors="replace"), annotation)


@pytest.mark.parametrize(
    ("payload", "written"),
    [
        (None, "null"),
        ("text", '"text"'),
        ("\\u0000", r'"\\u0000"'),
        ({"a": [r"\u0000", 1]}, r'{"a":["\\u0000",1]}'),
        ("\ufeff\u2028é\U0001f916", '"\ufeff\u2028é\U0001f916"'),
        (2**70, "1180591620717411303424"),
        ((1, "a"), '[1,"a"]'),
        ([True, None, 0.5], "[true,null,0.5]"),
        ({"b": 1, "a": 2}, '{"b":1,"a":2}'),
        ({}, "{}"),
        ("", '""'),
        (Color.RED, '"red"'),
        ({"a": Color.RED, "b": Level.HIGH, "c": Shape.ROUND}, '{"a":"red","b":3,"c":"round"}'),
        ([uuid.UUID(int=1)], '["00000000-0000-0000-0000-000000000001"]'),
        (
            {"at": datetime(2026, 1, 2, tzinfo=UTC), "d": date(2026, 1, 2)},
            '{"at":"2026-01-02T00:00:00Z","d":"2026-01-02"}',
        ),
        ([Decimal("1.10"), timedelta(hours=1), Path("/a")], '["1.10","PT1H","/a"]'),
        ([{1}, frozenset([2]), collections.deque([3])], "[[1],[2],[3]]"),
        ([b"abc"], '["abc"]'),
        (Line(text="a"), '{"text":"a","price":1.0}'),
        ([Line(text="a")], '[{"text":"a","price":1.0}]'),
        (Point(1, next=Point(2)), '{"x":1,"label":"","next":{"x":2,"label":"","next":null}}'),
        (RootModel[list[int]]([1]), "[1]"),
        (collections.OrderedDict(a=collections.defaultdict(list, b=[1])), '{"a":{"b":[1]}}'),
        (types.MappingProxyType({"a": types.MappingProxyType({"b": Color.RED})}), '{"a":{"b":"red"}}'),
        (collections.UserDict(a=1), '{"a":1}'),
        (Pair(1, 2), "[1,2]"),
        ({1: "a", Color.RED: "c", uuid.UUID(int=1): "d"}, None),
    ],
)
def test_what_is_accepted_and_how_it_is_written(payload: object, written: str | None) -> None:
    expected = written or '{"1":"a","red":"c","00000000-0000-0000-0000-000000000001":"d"}'
    assert to_text(payload) == expected


def order() -> Order:
    return Order(
        id=uuid.UUID(int=7),
        at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        lines=[Line(text="é\U0001f916", price=0.1)],
        tags={"a", "b"},
        raw="é".encode(),
        wait=timedelta(days=1, microseconds=1),
        by_level={1: "one"},
        other={"deep": [1, None]},
    )


def test_a_model_comes_back_equal_and_fresh_each_time() -> None:
    sent, decoder = order(), Decoder()
    written = to_text(sent)
    one, two = decoder.decode(written, Order), decoder.decode(written, Order)
    assert one == two == sent
    assert one is not two
    assert one.lines is not two.lines
    assert decoder.decode(written) is not decoder.decode(written)


class Snake(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=AliasGenerator(serialization_alias=to_camel))
    from_name: str = Field(validation_alias="from")
    to_name: str = Field(alias="to")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def both(self) -> str:
        return self.from_name + self.to_name


def test_a_model_comes_back_whatever_its_aliases_and_computed_fields_are() -> None:
    sent = Snake.model_validate({"from": "a", "to": "b"})
    written = to_text({"inside": [sent]})
    assert json.loads(written) == {"inside": [{"from_name": "a", "to_name": "b"}]}
    assert Decoder().decode(written, dict[str, list[Snake]]) == {"inside": [sent]}
    assert Decoder().decode('{"from":"a","to":"b"}', Snake) == sent


# --- refused payloads -------------------------------------------------------------------------------------------------


def nested(levels: int) -> object:
    value: object = 1
    for level in range(levels):
        value = [value] if level % 2 else {"k": value}
    return value


def contains_itself(width: int = 0) -> object:
    value: list[object] = [0] * width
    value.insert(0, value)
    return value


def doubled(leaf: object) -> object:
    value = leaf
    for _ in range(60):
        value = [value, value]
    return value


class Loop(BaseModel):
    name: str = "x"
    loop: Any = None


def looping_model() -> Loop:
    loop = Loop()
    loop.loop = {"again": loop}
    return loop


class Strange:
    def __repr__(self) -> str:
        raise AssertionError("a stranger's code must not run")


@pytest.mark.parametrize(
    ("payload", "place", "reason"),
    [
        ("a\0b", "message ", "NUL"),
        ({"a\0": 1}, "message ", "key that holds a NUL"),
        ({"a": {"b\0": 1}}, "message.a ", "key that holds a NUL"),
        ({"items": [1, 2, 3, {"name": SECRET + "\0"}]}, "message.items[3].name ", "NUL"),
        ({"a b": ["\0"]}, "message['a b'][0] ", "NUL"),
        ([Line(text="\0")], "message[0].text ", "NUL"),
        ({r"\u0000": r"\u0000", "b": "\0"}, "message.b ", "NUL"),
        ("\ud800", "message ", "surrogate"),
        ({"x": ["\udc00" + SECRET]}, "message.x[0] ", "surrogate"),
        ({"\ud83d": 1}, "message ", "key that holds half of a surrogate"),
        ([{"\ud83d": uuid.UUID(int=1)}], "message[0] ", "key that holds half of a surrogate"),
        (Line.model_construct(text="\ud800"), "message.text ", "surrogate"),
        (math.nan, "message ", "NaN"),
        ([1.5, -math.inf], "message[1] ", "NaN or infinite"),
        ({"a": {"b": math.inf}}, "message.a.b ", "infinite"),
        (Line(text="a", price=math.nan), "message.price ", "NaN"),
        ([Line(text="a", price=math.nan)], "message[0].price ", "NaN"),
        (Loop(loop=[{"a": math.nan}]), "message.loop[0].a ", "NaN"),
        ([uuid.UUID(int=1), math.nan], "message[1] ", "NaN"),
        ({math.nan: 1}, "message ", "key that is NaN"),
        (10**4300, "message ", "4,300 digits"),
        ({"n": -(10**5000)}, "message.n ", "4,300 digits"),
        ({10**5000: 1}, "message ", "4,300 digits"),
        (nested(MAX_DEPTH + 1), "message.k[0].k[0] ", "more than 64 levels"),
        (Loop(loop=nested(MAX_DEPTH)), "message.loop", "more than 64 levels"),
        (contains_itself(), "message[0][0][0][0] ", "contains itself"),
        (contains_itself(1_000_000), "message ", "too many values"),
        (looping_model(), "message.loop.again.loop.again ", "contains itself"),
        (doubled(1), "message ", "too many values"),
        (doubled(uuid.UUID(int=1)), "message ", "too many values"),
        ({1: "a", "1": "b"}, "message ", "same JSON text"),
        ([{"x": {None: 1, "None": 2}}], "message[0].x ", "same JSON text"),
        (object(), "message ", "type object"),
        ({"x": [Strange()]}, "message.x[0] ", "type Strange"),
        ({Strange(): 1}, "message ", "key that is of type Strange"),
        (Loop(loop={"a": Strange()}), "message.loop.a ", "type Strange"),
        (Point(1, next=typing.cast(Any, Strange())), "message.next ", "type Strange"),
        (Line, "message ", "not JSON"),
        (len, "message ", "not JSON"),
        (refusal, "message ", "type function"),
        ({"f": lambda: 1}, "message.f ", "type function"),
        ((number for number in [1]), "message ", "type generator"),
        ([(number for number in [1])], "message[0] ", "type generator"),
        (ValueError(SECRET), "message ", "type ValueError"),
        (b"\xff" + SECRET.encode(), "message ", "base64"),
        ({"x": bytearray(b"\xff")}, "message.x ", "base64"),
        ({"x": b"\0"}, "message.x ", "NUL"),
        ("x" * LIMIT, "message ", "1,048,578 bytes"),
        ("é" * (LIMIT // 2), "message ", "1,048,578 bytes"),
        (Line.model_construct(text=typing.cast(Any, 3)), "message ", "'text' that does not fit"),
        ([Loop(loop=Line.model_construct(text=typing.cast(Any, [SECRET])))], "message ", "'text' that does not fit"),
    ],
    ids=lambda value: (
        value if isinstance(value, str) and value.isascii() and value.isprintable() and len(value) < 40 else ""
    ),
)
def test_what_is_refused_names_the_place_and_the_reason(payload: object, place: str, reason: str) -> None:
    message = refusal(payload)
    assert message.startswith(place)
    assert reason in message
    assert len(message) < 300


@pytest.mark.parametrize("payload", ["x" * (LIMIT - 2), 10**4299, nested(MAX_DEPTH)], ids=["size", "digits", "depth"])
def test_the_limits_themselves_are_accepted(payload: object) -> None:
    assert same(Decoder().decode(to_text(payload)), payload)


def test_numbers_have_the_same_limit_where_the_interpreter_allows_more() -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        assert "4,300 digits" in refusal([10**4300])
    finally:
        sys.set_int_max_str_digits(before)


class Tied(BaseModel):
    parent: Any = Field(default=None, exclude=True)
    children: list[Tied] = []
    note: str | None = None


def test_what_a_model_excludes_is_not_looked_at() -> None:
    root = Tied(children=[Tied(), Tied(parent=math.nan)])
    root.children[0].parent = root
    assert json.loads(to_text(root))["children"] == [{"children": [], "note": None}] * 2
    root.children[1].note = "\0"
    assert refusal(root).startswith("message.children[1].note holds a NUL")


class Odd(BaseModel):
    value: str = SECRET

    @field_serializer("value")
    def write(self, value: str) -> Any:
        return {"nan": math.nan, "nul": "\0", "deep": nested(MAX_DEPTH), "own": Strange()}.get(value) or self.fail()

    def fail(self) -> Any:
        raise LookupError("own reason")


@pytest.mark.parametrize(
    ("value", "reason"),
    [("nan", "message.value is NaN"), ("nul", "message.value holds a NUL"), ("deep", "64 levels"), ("own", "message")],
)
def test_what_a_models_own_serializer_makes_is_checked_too(value: str, reason: str) -> None:
    assert reason in refusal(Odd(value=value))


def test_a_failing_serializer_is_the_cause_of_the_error() -> None:
    with pytest.raises(PayloadError, match="message cannot be serialized") as caught:
        to_text(Odd())
    assert "own reason" in str(caught.value.__cause__)


def test_nothing_of_a_value_is_in_the_traceback_of_a_refused_payload() -> None:
    for payload in ([SECRET + "\0"], Line.model_construct(text=typing.cast(Any, [SECRET])), b"\xff" + SECRET.encode()):
        with pytest.raises(PayloadError) as caught:
            to_text(payload)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


def test_the_field_and_the_limits_are_the_callers() -> None:
    assert refusal({"a": math.nan}, field="messages[2]").startswith("messages[2].a is NaN")
    assert "more than 2 levels" in refusal([[[1]]], depth=2)
    assert to_text([[1]], depth=2) == "[[1]]"
    with pytest.raises(PayloadError, match="5 bytes long; as JSON, 4 bytes are accepted"):
        encode("abc", limit_bytes=4)
    assert encode("abc", limit_bytes=5) == '"abc"'


def test_a_long_or_hostile_key_does_not_flood_the_message() -> None:
    assert len(refusal({"k" * 10_000: math.nan})) < 300
    assert len(refusal({"\ud800" * 10_000: {"a": 1}})) < 300
    assert "message['\\x1b[31m']" in refusal({"\x1b[31m": math.nan})


# --- metadata ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metadata", [None, {}, types.MappingProxyType({})])
def test_no_metadata_is_none(metadata: Mapping[str, Any] | None) -> None:
    assert encode_metadata(metadata) is None


def test_metadata_comes_back_fresh() -> None:
    written = encode_metadata(
        types.MappingProxyType({"flag": True, "at": datetime(2026, 1, 2, tzinfo=UTC), "k" * 255: [1]})
    )
    assert written is not None
    expected = {"flag": True, "at": "2026-01-02T00:00:00Z", "k" * 255: [1]}
    sealed = Specimen("1", written, checksum("1", written))
    assert open_metadata(sealed, "it") == expected
    assert open_metadata(sealed, "it") is not open_metadata(sealed, "it")


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ([("a", 1)], "metadata is of type list"),
        ("a", "metadata is of type str"),
        (Line(text="a"), "metadata is of type Line"),
        ({1: "a"}, "metadata has a key of type int"),
        ({"k" * 256: 1}, "metadata has a key of 256 characters"),
        ({"a\0": 1}, "metadata has a key that holds a NUL"),
        ({"\ud800": 1}, "metadata has a key that holds half"),
        ({"a": {"b": math.nan}}, "metadata.a.b is NaN"),
        ({"a": "x" * MAX_METADATA_BYTES}, "65,536 bytes are accepted"),
    ],
)
def test_metadata_that_is_refused(metadata: object, reason: str) -> None:
    with pytest.raises(PayloadError) as caught:
        encode_metadata(typing.cast(Any, metadata))
    assert reason in str(caught.value)


# --- identity and damage ----------------------------------------------------------------------------------------------


def test_the_checksum_is_the_crc32_of_content_nul_metadata() -> None:
    # As the stores compute it when they look for damage. It is in databases, so it must not change.
    assert checksum('{"a":"é"}', '{"b":1}') == zlib.crc32('{"a":"é"}\0{"b":1}'.encode())
    assert checksum("1", None) == checksum("1", "") == zlib.crc32(b"1\0")
    assert checksum("123456789", None) != checksum("12345678", "9")


@given(text, st.none() | text, st.randoms(use_true_random=False))
def test_a_flipped_bit_is_noticed(content: str, metadata: str | None, rng: random.Random) -> None:
    expected = checksum(content, metadata)
    verify_body(Specimen(content, metadata, expected), "it")
    raw = bytearray((content or "x").encode())
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(7)
    damaged = raw.decode(errors="replace")
    if damaged != content:
        with pytest.raises(StorageCorruptError, match="it is damaged: its checksum"):
            verify_body(Specimen(damaged, metadata, expected), "it")


@pytest.mark.parametrize(
    ("content", "metadata", "problem"),
    [
        ("torn", None, "it is not JSON"),
        ("\udcff", None, "its checksum does not match"),
        ("1", "torn", "its metadata are no JSON object"),
        ("1", "[1]", "its metadata are no JSON object"),
        (7, None, "its checksum does not match"),
        (b"1", None, "its checksum does not match"),
        (None, None, "its checksum does not match"),
    ],
)
def test_a_body_that_cannot_be_read_is_damaged(content: Any, metadata: str | None, problem: str) -> None:
    sum = checksum(content, metadata) if isinstance(content, str) and content != "\udcff" else 0
    sealed = Specimen(content, metadata, sum)
    with pytest.raises(StorageCorruptError, match=f"of it is damaged: {problem}.*doctor"):
        open_body(sealed, "it")
    with pytest.raises(StorageCorruptError):
        open_as(sealed, "it", Decoder(), int) if metadata is None else open_metadata(sealed, "it")
    assert open_or_mark(sealed, "it") == Body(None, is_damaged=True)


def test_a_fingerprint_is_the_same_for_the_same_call_only() -> None:
    def of(**changes: Any) -> str:
        call: dict[str, Any] = {
            "recipients": ["bob", "carol"],
            "content": '{"a":1,"b":{"c":2,"d":3}}',
            "metadata": '{"x":1,"y":2}',
            "expires_in": 5.0,
            "deliver_at": datetime(2026, 1, 2, tzinfo=UTC),
        }
        return fingerprint(**{**call, **changes})

    assert len(of()) == 64
    assert of() == of(recipients=("bob", "carol"))
    assert of() == of(content='{"b":{"d":3,"c":2},"a":1}') == of(metadata='{"y":2,"x":1}')
    others: list[dict[str, Any]] = [
        {"recipients": ["bob"]},
        {"recipients": ["carol", "bob"]},
        {"content": '{"a":1,"b":{"c":2,"d":4}}'},
        {"content": '{"a":1.0,"b":{"c":2,"d":3}}'},
        {"content": '{"a":true,"b":{"c":2,"d":3}}'},
        {"metadata": None},
        {"metadata": '{"x":1}'},
        {"expires_in": None},
        {"deliver_at": datetime(2026, 1, 3, tzinfo=UTC)},
        {"require_handler": False},
    ]
    assert len({of(), *(of(**other) for other in others)}) == 1 + len(others)


# --- decoding ---------------------------------------------------------------------------------------------------------


class Dog(BaseModel):
    kind: Literal["dog"]
    age: int

    @field_validator("age")
    @classmethod
    def young(cls, age: int) -> int:
        if age > 30:
            raise ValueError(f"{age} is too old for {SECRET}")
        assert age != 29, SECRET
        return age


class Cat(BaseModel):
    kind: Literal["cat"]


T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    inside: T


@pytest.mark.parametrize(
    ("content", "annotation", "expected"),
    [
        ('{"a":[1,null]}', MISSING, {"a": [1, None]}),
        ('{"a":[1,null]}', Any, {"a": [1, None]}),
        ('{"a":[1,null]}', object, {"a": [1, None]}),
        ("[1]", T, [1]),
        ('{"a":[1,null]}', dict, {"a": [1, None]}),
        ('{"a":[1,null]}', dict[str, Any], {"a": [1, None]}),
        ('{"a":1}', Mapping, {"a": 1}),
        ('{"a":1}', Mapping[str, int], {"a": 1}),
        ('{"text":"a"}', Line, Line(text="a")),
        ('[{"text":"a"}]', list[Line], [Line(text="a")]),
        ('{"1":{"text":"a"}}', dict[int, Line], {1: Line(text="a")}),
        ('{"x":1,"next":{"x":2}}', Point, Point(1, next=Point(2))),
        ('{"text":"a"}', Note, {"text": "a"}),
        ('[{"text":"a","tags":["b"]}]', list[Note], [{"text": "a", "tags": ["b"]}]),
        ('{"name":"a","children":[{"name":"b"}]}', Tree, {"name": "a", "children": [{"name": "b"}]}),
        ('{"text":"a"}', ModernNote, {"text": "a"}),
        ("null", Note | None, None),
        ('[{"text":"a"},null]', list[Note | None], [{"text": "a"}, None]),
        ('{"kind":"dog","age":3}', Cat | Dog, Dog(kind="dog", age=3)),
        ('{"kind":"cat"}', Annotated[Cat | Dog, Field(discriminator="kind")], Cat(kind="cat")),
        ("3", Annotated[int, Field(gt=2)], 3),
        ('"2026-01-02T00:00:00Z"', datetime, datetime(2026, 1, 2, tzinfo=UTC)),
        ('"red"', Color, Color.RED),
        ('{"inside":{"text":"a"}}', Box[Line], Box[Line](inside=Line(text="a"))),
        ("[1,2]", tuple[int, int], (1, 2)),
        ("[1]", RootModel[list[int]], RootModel[list[int]]([1])),
        ("null", None, None),
    ],
)
def test_the_annotation_decides_what_comes_out(content: str, annotation: Any, expected: object) -> None:
    decoded = Decoder().decode(content, annotation)
    assert decoded == expected
    assert type(decoded) is type(expected)


@pytest.mark.parametrize(
    ("content", "annotation", "reasons"),
    [
        ('{"price":1}', Line, ["message does not fit Line: text: field required."]),
        (
            '[{"text":"a"},{"text":"a","price":"hunter2"}]',
            list[Line],
            ["list[Line]", "[1].price: input should be a valid number"],
        ),
        ('{"kind":"dog","age":99}', Dog, ["age: refused by a validator"]),
        ('{"kind":"dog","age":29}', Dog, ["age: refused by a validator"]),
        ('{"a":1}', Refusing, ["does not fit Refusing: refused by a validator"]),
        ('{"kind":"hunter2"}', Annotated[Cat | Dog, Field(discriminator="kind")], ["its tag is none of 'cat', 'dog'"]),
        ('{"kind":"hunter2","age":"hunter2"}', Cat | Dog, ["Cat | Dog", "Cat.kind", "Dog.kind", "Dog.age"]),
        ('["hunter2"]', dict, ["does not fit dict: input should be"]),
        ('{"a":1}', list, ["does not fit list"]),
        ('{"a":1}', str, ["does not fit str"]),
        ('{"tags":[]}', Note, ["does not fit Note: text: field required"]),
        ('{"name":"a","children":[1]}', Tree, ["children[0]: input should be"]),
        (json.dumps(["hunter2"] * 9), list[int], ["[4]: input", "and 4 more"]),
        ("{hunter2", MISSING, ["message is not JSON"]),
        ("{hunter2", Line, ["does not fit Line: invalid JSON"]),
        ("", MISSING, ["message is not JSON"]),
        (r'"\ud800"', MISSING, ["message is not JSON"]),
        ("[" * 100_000, MISSING, ["message is not JSON"]),
        ("[" * 100_000, list[Any], ["does not fit list[Any]"]),
    ],
    ids=lambda value: "",
)
def test_a_payload_that_does_not_fit_names_each_place_and_no_value(
    content: str, annotation: Any, reasons: list[str]
) -> None:
    with pytest.raises(PayloadError) as caught:
        Decoder().decode(content, annotation)
    message = str(caught.value)
    for reason in reasons:
        assert reason in message
    assert "hunter2" not in message
    assert caught.value.__cause__ is None
    assert len(message) < 600
    assert str(pickle.loads(pickle.dumps(caught.value))) == message


@pytest.mark.parametrize("annotation", [Strange, object(), list[Strange], "Nowhere"])
def test_an_annotation_that_json_cannot_become_is_not_the_payloads_fault(annotation: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^annotation: .*not a type that can be made of JSON") as caught:
        Decoder().decode("{}", annotation)
    assert not isinstance(caught.value, PayloadError)
    pickle.dumps(caught.value)


def test_what_a_users_validator_raises_by_mistake_is_passed_on() -> None:
    class Broken(BaseModel):
        a: int

        @field_validator("a")
        @classmethod
        def look(cls, a: int) -> int:
            raise LookupError("own mistake")

    with pytest.raises(LookupError, match="own mistake"):
        Decoder().decode('{"a":1}', Broken)


def test_unions_in_another_order_are_not_mixed_up() -> None:
    class One(BaseModel):
        a: int

    class Two(BaseModel):
        a: int

    decoder = Decoder()
    assert type(decoder.decode('{"a":1}', One | Two)) is One
    assert type(decoder.decode('{"a":1}', Two | One)) is Two


def test_what_pydantic_builds_is_kept_for_equal_annotations_and_is_bounded() -> None:
    decoder = Decoder(size=3)
    assert decoder.adapter(list[Line]) is decoder.adapter(list[Line])
    unhashable = Annotated[int, []]
    assert decoder.adapter(unhashable) is decoder.adapter(unhashable)
    for kind in (int, str, float, bool, dict):
        decoder.decode('{"a":1}' if kind is dict else "1" if kind is not str and kind is not bool else '"1"', kind)
    assert len(decoder.adapters) == 3


# --- handlers ---------------------------------------------------------------------------------------------------------


async def good(message: Line, context: MessageContext) -> None: ...


def with_default(message: Line, context: MessageContext | None = None, *, more: int = 1) -> None: ...


def only_message(message: Line) -> None: ...


def three(message: Line, context: MessageContext, more: int) -> None: ...


def keyword(message: Line, context: MessageContext, *, more: int) -> None: ...


def generator(message: Line, context: MessageContext) -> Iterator[int]:
    yield 1


async def async_generator(message: Line, context: MessageContext) -> typing.AsyncIterator[int]:
    yield 1


class Callee:
    def __call__(self, message: Line, context: MessageContext) -> None: ...

    def method(self, message: list[Line], context: MessageContext) -> None: ...

    @classmethod
    def of_class(cls, message: Line, context: MessageContext) -> None: ...

    @staticmethod
    def of_nobody(message: Line, context: MessageContext) -> None: ...

    def yields(self, message: Line, context: MessageContext) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize(
    "function",
    [
        good,
        with_default,
        Callee(),
        Callee().method,
        Callee.of_class,
        Callee.of_nobody,
        partial(three, more=1),
        partial(keyword, more=1),
        lambda message, context: None,
        lambda *arguments: None,
        print,
    ],
)
def test_handlers_that_are_accepted(function: object) -> None:
    check_handler(function)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (only_message, r"'only_message' takes \(message: .*A handler takes \(message, context\)"),
        (three, "takes"),
        (keyword, "takes"),
        (lambda: None, "takes"),
        (partial(good, Line(text="a")), "takes"),
        (generator, "yields"),
        (async_generator, "yields"),
        (Callee().yields, "yields"),
        (partial(generator), "yields"),
        ("good", "'str' cannot be called"),
        (None, "cannot be called"),
    ],
)
def test_handlers_that_are_refused(function: object, reason: str) -> None:
    with pytest.raises(InvalidArgumentError, match=reason) as caught:
        check_handler(function)
    assert caught.value.field == "handler"
    pickle.dumps(caught.value)


def unannotated(message, context):  # type: ignore[no-untyped-def]
    ...


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    from functools import wraps

    @wraps(function)
    def inner(*arguments: Any) -> Any:
        return function(*arguments)

    return inner


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (good, Line),
        (with_default, Line),
        (unannotated, MISSING),
        (lambda message, context: None, MISSING),
        (lambda *arguments: None, MISSING),
        (Callee(), Line),
        (Callee().method, list[Line]),
        (Callee.of_class, Line),
        (Callee.of_nobody, Line),
        (partial(three, more=1), Line),
        (partial(partial(good), context=None), Line),
        (partial(lambda first, message, context: None, 1), MISSING),
        (wrapped(good), Line),
        (wrapped(wrapped(Callee().method)), list[Line]),
        (dict.__init__, MISSING),
    ],
)
def test_the_annotation_of_the_first_parameter_is_found(function: Callable[..., Any], expected: object) -> None:
    assert handler_annotation(function) == expected


def test_classes_that_are_local_to_a_function_are_found_while_it_runs() -> None:
    class Local(BaseModel):
        a: int

    def handler(message: Local, context: MessageContext) -> None: ...

    def of_list(message: list[Local], context: MessageContext) -> None: ...

    assert handler_annotation(handler) is Local
    assert handler_annotation(of_list) == list[Local]
    assert Decoder().decode('{"a":1}', handler_annotation(handler)) == Local(a=1)


def defined_elsewhere() -> Callable[..., Any]:
    class Used(BaseModel):
        a: int

    def handler(message: Used, context: MessageContext) -> None:
        Used(a=message.a)

    return handler


def test_classes_that_a_nested_function_uses_are_found_afterwards() -> None:
    annotation = handler_annotation(defined_elsewhere())
    assert Decoder().decode('{"a":1}', annotation).a == 1


LATE = sys.version_info >= (3, 14)
"""Annotations are evaluated when they are read, and need no quotes."""


def define(source: str, module: dict[str, Any]) -> Any:
    """The handler of a module that has no `from __future__ import annotations`, as this one has."""
    exec(compile(source, "module", "exec", dont_inherit=True), module)
    check_handler(module["handler"])
    return module["handler"]


@pytest.mark.parametrize("annotation", ["'list[Later]'", *["list[Later]"] * LATE])
def test_a_class_that_is_defined_after_its_handler_is_found_when_the_first_message_comes(annotation: str) -> None:
    module: dict[str, Any] = {"BaseModel": BaseModel}
    late = handler_annotation(define(f"def handler(message: {annotation}, context: {annotation}): ...", module))
    assert isinstance(late, LateAnnotation)
    exec("class Later(BaseModel):\n    a: int", module)
    assert Decoder().decode('[{"a":1}]', late) == [module["Later"](a=1)]


@pytest.mark.parametrize("annotation", ["'Nowhere'", *["Nowhere"] * LATE])
def test_an_annotation_that_is_never_defined_is_warned_about_and_gives_plain_json(
    caplog: pytest.LogCaptureFixture, annotation: str
) -> None:
    late = handler_annotation(define(f"def handler(message: {annotation}, context): ...", {}))
    decoder = Decoder()
    assert decoder.decode('{"a":1}', late) == {"a": 1}
    assert decoder.decode('{"a":1}', late) == {"a": 1}
    assert len(caplog.records) == 1
    assert "annotation 'Nowhere'" in caplog.text
    assert "handler" in caplog.text


class _Cat(BaseModel):
    kind: Literal["cat"]


class _Dog(BaseModel):
    kind: Literal["dog"]


_Pet = Annotated[_Cat | _Dog, Field(discriminator="kind")]


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (_Pet, "_Cat | _Dog"),
        (list[_Pet], "list[_Cat | _Dog]"),
        (typing.Optional[_Pet], "_Cat | _Dog | None"),  # noqa: UP045
        (dict[str, list[_Pet]], "dict[str, list[_Cat | _Dog]]"),
        (Annotated[int, Field(gt=3)], "int"),
        (typing.Union[list[int], Annotated[int, Field(gt=3)], None], "list[int] | int | None"),  # noqa: UP007
        (tuple[Annotated[int, Field(gt=3)], ...], "tuple[int, ...]"),
        (Literal["a", 1], "Literal['a', 1]"),
        (Annotated[list[Annotated[str, Field(min_length=2)]], Field(max_length=1)], "list[str]"),
    ],
)
def test_a_type_is_named_as_its_author_wrote_it_without_what_pydantic_was_told(annotation: Any, name: str) -> None:
    with pytest.raises(PayloadError) as caught:
        Decoder().decode("[true, 1.5]", annotation)
    assert str(caught.value).startswith(f"message does not fit {name}: ")
    assert "FieldInfo" not in str(caught.value)
    assert "Annotated" not in str(caught.value)
