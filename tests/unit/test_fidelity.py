"""A payload comes back as it was by its own type, or is refused where it is sent, with the place and a remedy."""

from __future__ import annotations

import collections
import dataclasses
import decimal
import math
import re
import typing
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal
from zoneinfo import ZoneInfo

import pydantic.dataclasses
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    SerializeAsAny,
    ValidationInfo,
    computed_field,
    field_serializer,
    field_validator,
    model_serializer,
)
from typing_extensions import TypedDict

from agent_messaging.exceptions import PayloadError
from agent_messaging.payloads import Decoder, annotation_of, encode

HIDDEN = "hunter2"
T = typing.TypeVar("T")


def written(payload: object) -> str:
    return encode(payload, limit_bytes=1024 * 1024)


def returned(payload: object) -> Any:
    return Decoder().decode(written(payload), annotation_of(payload) if annotation_of(payload) else type(payload))


def refusal(payload: object) -> str:
    with pytest.raises(PayloadError) as caught:
        written(payload)
    assert HIDDEN not in str(caught.value)
    return str(caught.value)


class Level(IntEnum):
    HIGH = 3


class Color(StrEnum):
    RED = "red"


class Shape(Enum):
    ROUND = "round"
    PAIR = (1, 2)


class Rights(Flag):
    READ = 1
    WRITE = 2


class Animal(BaseModel):
    name: str


class Dog(Animal):
    breed: str


class Puppy(Dog):
    """Adds nothing."""


class Leashed(Dog):
    secret: SecretStr


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"


class Cow(BaseModel):
    kind: Literal["cow"] = "cow"
    milk: float


class Zoo(BaseModel):
    animals: list[Animal] = []
    star: Animal | None = None
    by_name: dict[str, Animal] = {}


class Ark(BaseModel):
    animals: list[SerializeAsAny[Animal]] = []
    captain: SerializeAsAny[Animal] | None = None


class Farm(BaseModel):
    animals: list[Annotated[Cat | Cow, Field(discriminator="kind")]]


class Account(BaseModel):
    user: str
    password: SecretStr | None = None
    key: SecretBytes = SecretBytes(b"")
    number: Secret[int] | None = None


class OpenAccount(BaseModel):
    password: SecretStr

    @field_serializer("password")
    def show(self, password: SecretStr) -> str:
        return password.get_secret_value()


@dataclasses.dataclass
class Job:
    name: str
    token: dataclasses.InitVar[str]


@dataclasses.dataclass
class JobWithDefault:
    name: str
    token: dataclasses.InitVar[str] = ""


@dataclasses.dataclass
class Numbered:
    name: str
    number: int = dataclasses.field(init=False, default=0)


@dataclasses.dataclass
class Typed:
    count: int


@dataclasses.dataclass(eq=False)
class Unequal:
    at: datetime


@dataclasses.dataclass
class Holder(Generic[T]):
    inside: T


@pydantic.dataclasses.dataclass
class Checked:
    at: datetime
    left_out: str = Field(default="", exclude=True)


class Box(BaseModel, Generic[T]):
    inside: T


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    any: Any = None
    by: dict[Any, int] = {}
    data: dict[str, Any] = {}


class Keyed(BaseModel):
    by_level: dict[Level, int] = {}
    by_shape: dict[Shape, int] = {}
    by_pair: dict[tuple[int, int], int] = {}
    by_day: dict[date, int] = {}
    by_nothing: dict[None, int] = {}


class Pair(typing.NamedTuple):
    at: datetime
    label: str = ""


class Extra(TypedDict):
    text: str


class Everything(BaseModel):
    at: datetime
    day: date
    clock: time
    wait: timedelta
    price: Decimal
    id: uuid.UUID
    path: Path
    raw: bytes
    either: int | str | None
    when: datetime | str
    tags: set[str]
    pairs: frozenset[tuple[int, int]]
    pair: Pair
    level: Level
    shape: Shape
    rights: Rights
    floats: list[float]
    by_id: dict[uuid.UUID, list[int]]
    extra: Extra
    root: RootModel[list[int]]
    box: Box[datetime]
    zoo: Zoo
    nothing: None = None


class Masked(BaseModel):
    at: datetime

    @field_serializer("at")
    def short(self, at: datetime) -> str:
        return at.strftime("%d.%m.%Y")


class Rounded(BaseModel):
    price: float

    @field_serializer("price")
    def short(self, price: float) -> float:
        return round(price, 2)


class Crossed(BaseModel):
    one: int = Field(alias="two")
    two: int = Field(alias="one")


class Excluding(BaseModel):
    text: str
    cache: Any = Field(default=None, exclude=True)
    _seen: int = PrivateAttr(default=0)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def length(self) -> int:
        return len(self.text)


class ExcludingRequired(BaseModel):
    text: str
    cache: int = Field(exclude=True)


class Wrapped(BaseModel):
    text: str

    @model_serializer
    def wrap(self) -> dict[str, Any]:
        return {"wrapped": self.text}


class Trimmed(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)
    text: str


class Positive(BaseModel):
    number: int = Field(gt=0)


class Stamped(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def stamp(cls, text: str, info: ValidationInfo) -> str:
        return f"{text}!"


class Buggy(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def look(cls, text: str) -> str:
        if text == HIDDEN:
            raise LookupError(HIDDEN)
        return text


class Opaque:
    """Has no equality, as a class of somebody else's."""

    def __init__(self, code: str) -> None:
        self.code = code


AnyOpaque = Annotated[
    Opaque,
    PlainValidator(lambda value: value if isinstance(value, Opaque) else Opaque(value)),
    PlainSerializer(lambda value: value.code),
]
HalfOpaque = Annotated[
    Opaque,
    PlainValidator(lambda value: value if isinstance(value, Opaque) else Opaque(value)),
    PlainSerializer(lambda value: value.code[:1]),
]


class Custom(BaseModel):
    opaque: AnyOpaque | None = None
    half: HalfOpaque | None = None


class Floating(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings")
    number: float


class Nullable(BaseModel):
    number: float | None = None
    note: str | None = None


class Simple(BaseModel):
    """All that is believed to come back without a look at the value."""

    text: str = ""
    whole: int = 0
    number: float = 0.0
    flag: bool = False
    id: uuid.UUID = uuid.UUID(int=0)
    color: Color = Color.RED
    level: Level = Level.HIGH
    literal: Literal["a", "b"] = "a"
    maybe: str | None = None
    items: list[int] = []
    pair: tuple[int, str] = (0, "")
    by: dict[str, float] = {}


class Pointed(BaseModel):
    x: Typed


class Tree(BaseModel):
    label: str
    children: list[Tree] = []


class Grove(BaseModel):
    trees: list[Tree]


UNLABELLED: Tree = typing.cast(Any, Tree).model_construct()


def model_with(model: BaseModel, **changes: Any) -> BaseModel:
    """The model after its fields were assigned to, which pydantic does not check."""
    for name, value in changes.items():
        setattr(model, name, value)
    return model


def assigned(name: str, value: object) -> BaseModel:
    return model_with(Simple(), **{name: value})


class Old(BaseModel):
    at: datetime = Field(deprecated=True)


def numbered(number: int) -> Numbered:
    job = Numbered("a")
    job.number = number
    return job


NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SECRET = SecretStr(HIDDEN)


@pytest.mark.parametrize(
    ("payload", "place", "reasons"),
    [
        # secrets
        (Account(user="a", password=SECRET), "message.password ", ["stars", "get_secret_value()", "exclude=True"]),
        (Account(user="a", key=SecretBytes(HIDDEN.encode())), "message.key ", ["get_secret_value()"]),
        (Account(user="a", number=Secret[int](5)), "message.number ", ["get_secret_value()"]),
        ({"auth": {"password": SECRET}}, "message.auth.password ", ["get_secret_value()"]),
        ([SECRET], "message[0] ", ["get_secret_value()"]),
        (SECRET, "message ", ["get_secret_value()"]),
        ({"account": [Account(user="a", password=SECRET)]}, "message.account[0].password ", ["get_secret_value()"]),
        (Holder(SECRET), "message.inside ", ["get_secret_value()"]),
        (Box[SecretStr](inside=SECRET), "message.inside ", ["get_secret_value()"]),
        # subclasses
        (Zoo(animals=[Animal(name="a"), Dog(name="b", breed="c")]), "message.animals[1] ", ["Dog", "SerializeAsAny["]),
        (Zoo(star=Dog(name="a", breed="b")), "message.star ", ["would come back as Animal", "discriminator"]),
        (Zoo(by_name={"x": Puppy(name="a", breed="b")}), "message.by_name.x ", ["Puppy"]),
        ([Zoo(star=Dog(name="a", breed="b"))], "message[0].star ", ["Dog"]),
        (Ark(captain=Leashed(name="a", breed="b", secret=SECRET)), "message.captain.secret ", ["get_secret_value()"]),
        # what is not sent
        (Job("a", "b"), "message ", ["would not come back", "token: field required", "InitVar"]),
        ({"job": Job("a", "b")}, "message.job ", ["token: field required"]),
        (ExcludingRequired(text="a", cache=1), "message ", ["cache: field required", "default"]),
        # keys
        (Keyed(by_pair={(1, 2): 3}), "message ", ["by_pair"]),
        (Keyed(by_shape={Shape.PAIR: 3}), "message ", ["by_shape"]),
        (Keyed(by_nothing={None: 3}), "message ", ["by_nothing"]),
        (Loose(by={1: 2}), "message.by ", ["key of type int", "text keys"]),
        ({None: 1}, "message ", ["key of type NoneType"]),
        ({"a": {(1, 2): 3}}, "message.a ", ["key of type tuple"]),
        ({Shape.PAIR: 3}, "message ", ["key of type Shape"]),
        ({"a": {frozenset({1}): 3}}, "message.a ", ["key that is of type frozenset", "text keys"]),
        ({(frozenset(), 1): 3}, "message ", ["key that is of type tuple", "text keys"]),
        # places of no type
        (Loose(any=NOW), "message.any ", ["datetime", "str", "Annotate its field"]),
        (Loose(data={"at": [NOW]}), "message.data.at[0] ", ["datetime"]),
        (Loose(any=Animal(name="a")), "message.any ", ["Animal", "dict"]),
        (Loose(any={1, 2}), "message.any ", ["set", "list"]),
        (Loose(any=Pair(NOW)), "message.any ", ["Pair", "list"]),
        (Loose(any=Decimal(1)), "message.any ", ["Decimal"]),
        (Loose(more=NOW), "message.more ", ["datetime"]),
        (Box(inside=Animal(name="a")), "message.inside ", ["Animal", "dict"]),
        (Holder(Animal(name="a")), "message.inside ", ["Animal", "dict"]),
        # serializers and validators that do not fit each other
        (Masked(at=NOW), "message ", ["would not come back", "validators accept"]),
        (Rounded(price=1.005), "message.price ", ["another value", "exclude=True"]),
        (Crossed.model_validate({"one": 1, "two": 2}), "message.one ", ["another value"]),
        (Wrapped(text="a"), "message ", ["would not come back"]),
        (model_with(Trimmed(text="a"), text=" a"), "message.text ", ["another value"]),
        (model_with(Positive(number=1), number=-1), "message ", ["number: input should be greater than 0"]),
        (Stamped(text="a"), "message.text ", ["another value"]),
        (Buggy.model_construct(text=HIDDEN), "message ", ["validator of Buggy fails with LookupError"]),
        (Custom(half=Opaque("ab")), "message.half ", ["another value"]),
        # models of known types that were made or changed past pydantic's checks
        (UNLABELLED, "message ", ["label: field required"]),
        ([Grove(trees=[UNLABELLED])], "message[0] ", ["trees[0].label: field required"]),
        (Grove(trees=[Tree(label="a", children=[UNLABELLED])]), "message ", ["field required"]),
        (assigned("literal", "c"), "message ", ["literal: input should be 'a' or 'b'"]),
        # values that some types cannot return
        (Typed(typing.cast(Any, "x")), "message ", ["count: input should be a valid integer"]),
        (Pointed.model_construct(x=Typed(typing.cast(Any, "x"))), "message", []),
        (numbered(5), "message.number ", ["another value"]),
        ({"at": datetime(1800, 1, 1, tzinfo=timezone(timedelta(seconds=61)))}, "message.at ", ["another value"]),
        ([re.compile("a", re.IGNORECASE)], "message[0] ", ["another value"]),
        ({"n": Decimal("NaN")}, "message.n ", ["Send it as text"]),
        (bytearray(b"a"), "message ", ["cannot be read back"]),
        (Shape.PAIR, "message ", ["would not come back"]),
        (Nullable(number=math.nan), "message.number ", ["NaN"]),
        (Nullable(number=math.inf, note="x"), "message.number ", ["infinite"]),
    ],
)
def test_what_would_come_back_different_is_refused_with_the_place_and_a_remedy(
    payload: object, place: str, reasons: list[str]
) -> None:
    message = refusal(payload)
    assert message.startswith(place)
    assert len(message) < 450
    for reason in reasons:
        assert reason in message


@pytest.mark.parametrize(
    "payload",
    [
        Account(user="a"),
        OpenAccount(password=SECRET),
        Old(at=NOW),
        Zoo(animals=[Animal(name="a")], star=Animal(name="b"), by_name={"c": Animal(name="c")}),
        Farm(animals=[Cat(), Cow(milk=1.5)]),
        JobWithDefault("a", "b"),
        Numbered("a"),
        Holder("text"),
        Holder[datetime](NOW),
        Box[Animal](inside=Animal(name="a")),
        Box[Box[set[int]]](inside=Box[set[int]](inside={1})),
        Keyed(by_level={Level.HIGH: 1}, by_shape={Shape.ROUND: 2}, by_day={date(2026, 1, 2): 3}),
        Loose(any=[1, {"a": None}], data={"a": 1}, more={"b": [1.5]}),
        Pair(NOW, "x"),
        Nullable(number=-0.0),
        Tree(label="a", children=[Tree(label="b", children=[Tree(label="c")])]),
        Everything(
            at=datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
            day=date(2026, 1, 2),
            clock=time(1, 2, 3, tzinfo=UTC),
            wait=timedelta(days=-1, microseconds=1),
            price=Decimal("1.10"),
            id=uuid.UUID(int=1),
            path=Path("/a"),
            raw="é".encode(),
            either="1",
            when="2026-01-02",
            tags={"a", "b"},
            pairs=frozenset({(1, 2), (3, 4)}),
            pair=Pair(NOW),
            level=Level.HIGH,
            shape=Shape.ROUND,
            rights=Rights.READ | Rights.WRITE,
            floats=[-0.0, 1e308, 5e-324],
            by_id={uuid.UUID(int=2): [1]},
            extra={"text": "a"},
            root=RootModel[list[int]]([1]),
            box=Box[datetime](inside=NOW),
            zoo=Zoo(),
        ),
    ],
    ids=lambda payload: type(payload).__name__,
)
def test_what_is_accepted_comes_back_equal_by_its_own_type(payload: Any) -> None:
    back = Decoder().decode(written(payload), getattr(payload, "__orig_class__", type(payload)))
    assert type(back) is type(payload)
    assert like(payload, back)


def test_what_a_class_says_that_it_does_not_send_is_not_compared() -> None:
    sent = Excluding(text="a", cache=object())
    sent._seen = 3
    assert returned(sent) == Excluding(text="a")
    checked = Checked(NOW, "kept here")
    assert returned(checked) == Checked(NOW)


def test_subclasses_whose_field_says_so_are_written_whole() -> None:
    ark = Ark(animals=[Dog(name="a", breed="b")], captain=Puppy(name="c", breed="d"))
    plain = Decoder().decode(written(ark))
    assert plain == {"animals": [{"name": "a", "breed": "b"}], "captain": {"name": "c", "breed": "d"}}


def test_an_object_without_equality_is_judged_by_what_is_written_of_it() -> None:
    assert returned(Custom(opaque=Opaque("abc"))).opaque.code == "abc"
    assert returned(Unequal(NOW)).at == NOW


def test_what_stands_in_no_typed_place_is_looked_at_by_its_own_type() -> None:
    payload = {
        "order": Zoo(star=Animal(name="a")),
        "at": NOW,
        "tags": {Color.RED},
        "by": collections.OrderedDict({1: Level.HIGH, Color.RED: 2}),
        "pairs": [(1, Pair(NOW))],
        "farm": collections.deque([Cow(milk=1)]),
    }
    assert Decoder().decode(written(payload), dict[str, Any])["by"] == {"1": 3, "red": 2}


def test_text_and_numbers_of_a_users_own_class_are_text_and_numbers() -> None:
    class Markup(str):
        pass

    class Celsius(float):
        pass

    assert written({"a": Markup("x"), Markup("b"): Celsius(1.5)}) == '{"a":"x","b":1.5}'
    assert returned(model_with(Animal(name="a"), name=Markup("b"))).name == "b"


def test_a_subclass_that_is_defined_after_its_base_was_sent_is_refused_too() -> None:
    class Base(BaseModel):
        text: str

    class Outer(BaseModel):
        inside: Base

    Outer.model_rebuild(_types_namespace={"Base": Base})
    assert written(Outer(inside=Base(text="a"))) == '{"inside":{"text":"a"}}'

    class Sub(Base):
        more: int

    assert "message.inside is of type Sub" in refusal(Outer(inside=Sub(text="a", more=1)))
    assert written(Outer(inside=Base(text="a"))) == '{"inside":{"text":"a"}}'


def test_a_simple_model_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[object] = []
    decode = Decoder.decode

    def note(self: Decoder, content: str, annotation: Any, **options: Any) -> Any:
        decoded.append(annotation)
        return decode(self, content, annotation, **options)

    monkeypatch.setattr(Decoder, "decode", note)
    written(Animal(name="a"))
    written([Nullable(number=1.0, note="x"), {"a": Box[str](inside="a")}])
    written({"a": [1, 2.5, None, "x"]})
    assert decoded == []
    written(OpenAccount(password=SECRET))
    assert decoded == [OpenAccount]


def test_a_simple_model_whose_values_were_assigned_is_refused_where_it_does_not_fit() -> None:
    for changes in ({"label": 3}, {"label": None}, {"children": [1]}, {"children": None}, {"label": NOW}):
        refusal(model_with(Tree(label="a"), **changes))


# --- the property -----------------------------------------------------------------------------------------------------

leaves: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
    st.complex_numbers(),
    st.sampled_from([*Level, *Color, *Shape, *Rights, SECRET, SecretStr(""), Path("a"), Opaque("x")]),
    st.builds(Animal, name=st.text()),
    st.builds(Dog, name=st.text(), breed=st.text()),
    st.builds(Cow, milk=st.floats()),
    st.builds(Nullable, number=st.none() | st.floats()),
    st.builds(Floating, number=st.floats()),
    st.builds(Job, st.text(), st.text()),
    st.builds(Typed, st.integers() | st.text()),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(
            st.text(max_size=3) | st.integers() | st.none() | st.booleans() | st.sampled_from([*Level, *Shape]),
            inner,
            max_size=3,
        ),
        st.builds(Loose, any=inner, data=st.dictionaries(st.text(max_size=3), inner, max_size=2)),
        st.builds(lambda inside: Box(inside=inside), inner),
        st.builds(Holder, inner),
        st.builds(lambda names: Zoo(animals=names), st.lists(st.builds(Dog, name=st.text(), breed=st.text()))),
    ),
    max_leaves=8,
)
typed = st.one_of(
    st.builds(Loose, any=values, data=st.dictionaries(st.text(max_size=3), values, max_size=2)),
    st.builds(lambda inside: Box(inside=inside), values),
    st.builds(lambda inside: Box[datetime](inside=inside), st.datetimes(timezones=st.none() | st.timezones())),
    st.builds(Holder, values),
    st.builds(Zoo, star=st.builds(Dog, name=st.text(), breed=st.text()) | st.builds(Animal, name=st.text())),
    st.builds(Nullable, number=st.none() | st.floats(), note=st.none() | st.text()),
    st.builds(Tree, label=st.text(), children=st.lists(st.builds(Tree, label=st.text()))),
    st.builds(assigned, st.sampled_from(sorted(Simple.model_fields)), leaves),
)


@given(typed)
def test_whatever_is_accepted_comes_back_equal_by_its_type_or_was_refused(payload: Any) -> None:
    try:
        text = written(payload)
    except PayloadError:
        return
    back = Decoder().decode(text, type(payload))
    assert type(back) is type(payload)
    assert like(payload, back)
    assert written(back) == text


def like(one: Any, other: Any) -> bool:
    """Equal, as this test sees it: NaN is itself, a tuple is a list, an instant is itself in every time zone."""
    if isinstance(one, BaseModel):
        return type(one) is type(other) and like(vars(one), vars(other))
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return type(one) is type(other) and all(like(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(like(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(like, one, other))
    if isinstance(one, datetime) and one.tzinfo is not None:
        return isinstance(other, datetime) and one - other == timedelta(0)
    try:
        return bool(one == other) or bool(one != one and other != other)
    except decimal.InvalidOperation:
        return repr(one) == repr(other)
