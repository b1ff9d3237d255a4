"""The proof that a payload comes back as it was: the encoded text is decoded by its own type, and compared.

This module owns the comparison, and knows the types that need none. `encoding` calls it, with the decoder to use.

Only the fields that the sender's type sends are compared: not those with `exclude=True`, nor private attributes. A
dict, list or set that stands in no typed place has no type to return by, so each of its values is looked at by its own.
A tuple is a list in JSON, and counts as one where nothing says that it is a tuple.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum, Flag
from functools import lru_cache
from typing import Any, NamedTuple, cast, get_args
from uuid import UUID

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, SerializeAsAny
from pydantic.fields import FieldInfo
from pydantic_core import to_json

from ..exceptions import InvalidArgumentError, PayloadError
from .annotations import own_type

Decode = Callable[[bytes, Any], Any]
"""Makes an object of JSON, as the recipient will."""
Path = tuple[object, ...]

_ABSENT: Any = object()
_PLAIN = frozenset({str, int, float, bool, type(None), UUID})
_SECRETS: tuple[Any, ...] = (SecretStr, SecretBytes, Secret)


class Change(NamedTuple):
    """A value that does not come back: its place, and the remedy."""

    path: Path
    reason: str
    cause: Exception | None = None


def find_change(payload: object, tree: object, raw: bytes, decode: Decode) -> Change | None:
    """Find what would not come back of a payload.

    Args:
        payload: What the user sends.
        tree: The same as JSON values.
        raw: The same as JSON text.
        decode: How the recipient will read it.
    """
    return _look(payload, tree, raw, (), decode)


def _look(value: Any, node: Any, raw: bytes | None, path: Path, decode: Decode) -> Change | None:
    kind = type(value)
    if kind in _PLAIN or (kind is datetime and (value.tzinfo is None or value.tzinfo is UTC)):
        return None
    if isinstance(value, BaseModel) or _is_dataclass(value) or _is_named_tuple(value):
        text = to_json(node) if raw is None else raw
        is_faithful = _is_faithful(kind, text) and kind.__pydantic_fields__.keys() <= value.__dict__.keys()
        if is_faithful and _always_fits(kind):
            return None
        return _return(value, text, path, decode, compares=not is_faithful)
    if isinstance(value, Mapping):
        for (key, child), (text_key, child_node) in zip(value.items(), node.items(), strict=True):
            if not _key_returns(key, text_key, decode):
                return Change(path, _lost_key(key))
            if (change := _look(child, child_node, None, (*path, key), decode)) is not None:
                return change
        return None
    if isinstance(value, list | tuple | set | frozenset | deque):
        looked = (
            _look(child, child_node, None, (*path, index), decode)
            for index, (child, child_node) in enumerate(zip(value, node, strict=True))
        )
        return next((change for change in looked if change is not None), None)
    if isinstance(value, str | int | float) and not isinstance(value, Enum):
        return None  # a class of the user's that extends text or a number: as such it is equal to what comes back
    return _return(value, to_json(node), path, decode)


def _return(value: object, text: bytes, path: Path, decode: Decode, *, compares: bool = True) -> Change | None:
    kind = own_type(value)
    try:
        back = decode(text, kind)
    except PayloadError as error:
        if (secret := _find_secret(value, path)) is not None:
            return secret
        has_fields = isinstance(value, BaseModel) or _is_dataclass(value)
        return Change(path, f"would not come back: it {error.reason} {_UNREADABLE if has_fields else _SEND_TEXT}")
    except InvalidArgumentError:
        return Change(
            path,
            f"is of type {_name(kind)}, which cannot be read back: pydantic does not make objects of it. Define the "
            "types of its fields where pydantic finds them (in a module), or send a model, a dict or text.",
        )
    except Exception as error:
        reason = f"would not come back: a validator of {_name(kind)} fails with {_name(type(error))}. Correct it."
        return Change(path, reason, error)
    return _Comparison(text, back, decode).find(value, back, path, None) if compares else None


def _key_returns(key: object, text: str, decode: Decode) -> bool:
    kind = type(key)
    if kind is str or kind is int or (isinstance(key, str) and not isinstance(key, Enum)):
        return True
    try:
        (back,) = decode(to_json({text: None}), dict[kind, None])  # type: ignore[valid-type]
    except Exception:
        return False
    return bool(back == key)


# --- the comparison ---------------------------------------------------------------------------------------------------


class _Comparison:
    """Looks where two objects differ."""

    def __init__(self, text: bytes, whole: object, decode: Decode) -> None:
        self.text = text
        self.whole = whole
        """The whole object that came back of the text."""
        self.decode = decode

    def find(self, sent: Any, back: Any, path: Path, place: FieldInfo | None) -> Change | None:
        """Find the first place where they differ; `place` is the model's field in which they stand."""
        kind = type(sent)
        pairs: Iterable[tuple[object, Any, Any, FieldInfo | None]]
        if kind in _PLAIN:
            return None if self._is_same_leaf(sent, back) else _changed(sent, back, path, place)
        if isinstance(sent, BaseModel) or _is_dataclass(sent):
            if type(back) is not kind:
                if isinstance(sent, type(back)) and _is_written_whole(place):
                    return _return(sent, to_json(sent, by_alias=False, round_trip=True), path, self.decode)
                return _changed(sent, back, path, place)
            pairs = _pairs_of_fields(sent, back)
        elif isinstance(sent, Mapping):
            if not isinstance(back, Mapping) or len(sent) != len(back):
                return _changed(sent, back, path, place)
            if (lost := next((key for key in sent if key not in back), _ABSENT)) is not _ABSENT:
                return Change(path, _lost_key(lost))
            pairs = ((key, child, back[key], place) for key, child in sent.items())
        elif isinstance(sent, list | tuple | deque):
            is_list = isinstance(back, list | tuple) and not _is_named_tuple(sent)
            if not (is_list or isinstance(back, kind) or isinstance(sent, type(back))) or len(sent) != len(back):
                return _changed(sent, back, path, place)
            pairs = ((index, one, other, place) for index, (one, other) in enumerate(zip(sent, back, strict=True)))
        elif isinstance(sent, set | frozenset):
            if not isinstance(back, set | frozenset) or len(sent) != len(back):
                return _changed(sent, back, path, place)
            found = {item: item for item in back}
            pairs = ((index, item, found.get(item, _ABSENT), place) for index, item in enumerate(sent))
        else:
            return None if self._is_same_leaf(sent, back) else _changed(sent, back, path, place)
        changes = (self.find(one, other, (*path, key), at) for key, one, other, at in pairs)
        return next((change for change in changes if change is not None), None)

    def _is_same_leaf(self, sent: Any, back: Any) -> bool:
        kind: Any = type(sent)
        other = type(back)
        try:
            is_equal = bool(sent == back) or bool(sent != sent and back != back)
            if not is_equal and isinstance(sent, datetime) and isinstance(back, datetime):
                # For Python, no instants of two time zones are equal in the hour that a clock repeats.
                is_equal = sent.tzinfo is not None and back.tzinfo is not None and sent - back == timedelta(0)
        except Exception:
            return kind is other and self._is_same_text()
        if not is_equal:
            return kind is other and not _has_equality(kind) and self._is_same_inside(sent, back)
        is_number = isinstance(sent, int | float) and isinstance(back, int | float)
        return kind is other or isinstance(sent, other) or is_number

    def _is_same_inside(self, sent: Any, back: Any) -> bool:
        """Compare objects that have no equality of their own by what they hold, or by what is written of them."""
        if hasattr(sent, "__dict__"):
            return self.find(vars(sent), vars(back), (), None) is None
        return self._is_same_text()

    def _is_same_text(self) -> bool:
        """Whether what came back is written as it was."""
        return to_json(self.whole, by_alias=False, round_trip=True) == self.text


def _has_equality(kind: Any) -> bool:
    return kind.__eq__ is not object.__eq__


def _pairs_of_fields(sent: Any, back: Any) -> Iterator[tuple[object, Any, Any, FieldInfo | None]]:
    kind: Any = type(sent)
    for name, field in _sent_fields(kind):
        yield name, _field(sent, name), _field(back, name), field
    extra: dict[str, Any] = getattr(sent, "__pydantic_extra__", None) or {}
    for name, value in extra.items():
        yield name, value, (back.__pydantic_extra__ or {}).get(name, _ABSENT), None


def _field(value: Any, name: str) -> Any:
    if isinstance(value, BaseModel):
        return value.__dict__.get(name, _ABSENT)  # around the warnings of deprecated fields
    return getattr(value, name, _ABSENT)


@lru_cache(maxsize=512)
def _sent_fields(kind: Any) -> tuple[tuple[str, FieldInfo | None], ...]:
    """The fields of a model or dataclass that are sent."""
    fields: dict[str, FieldInfo] = getattr(kind, "__pydantic_fields__", {})
    names = fields if issubclass(kind, BaseModel) else [item.name for item in dataclasses.fields(kind)]
    return tuple((name, fields.get(name)) for name in names if name not in fields or not fields[name].exclude)


def _is_written_whole(place: FieldInfo | None) -> bool:
    """Whether a model's field says that its values are written as what they are: `SerializeAsAny`."""
    return place is not None and (_says_any(place.annotation) or any(map(_is_mark, place.metadata)))


def _says_any(annotation: Any) -> bool:
    return any(_is_mark(argument) or _says_any(argument) for argument in get_args(annotation))


def _is_mark(mark: object) -> bool:
    kind: Any = SerializeAsAny
    return mark is kind or isinstance(mark, kind)


# --- what to say ------------------------------------------------------------------------------------------------------

_UNREADABLE = (
    "Give a default to what is not sent (an InitVar, an excluded field), and let the type's validators accept what its "
    "serializers write."
)
_SEND_TEXT = "Send it as text or a number."
_STARS = (
    "is a secret, which is written as stars. Send its get_secret_value() if the recipient may know it, or leave it out "
    "(exclude=True)."
)


def _changed(sent: Any, back: Any, path: Path, place: FieldInfo | None) -> Change:
    if isinstance(sent, _SECRETS):
        return Change(path, _STARS)
    kind, other = _name(type(sent)), "nothing" if back is _ABSENT else _name(type(back))
    if type(sent) is type(back):
        return Change(
            path,
            f"is of type {kind} and would come back as another value. Let the serializer and the validator of its type "
            "fit each other, or leave it out (exclude=True).",
        )
    if (isinstance(sent, BaseModel) or _is_dataclass(sent)) and isinstance(sent, type(back)):
        remedy = "Annotate its field with a union of the classes that has a discriminator"
        if place is not None:
            remedy += f"; or with SerializeAsAny[{other}], for recipients that read more than {other} themselves"
        return Change(path, f"is of type {kind} and would come back as {other}, without what {kind} adds. {remedy}.")
    return Change(
        path, f"is of type {kind} and would come back as {other}. Annotate its field with its type, or send plain JSON."
    )


def _lost_key(key: object) -> str:
    return f"has a key of type {_name(type(key))} that would not come back. Use text keys, or a list of pairs."


def _find_secret(value: object, path: Path) -> Change | None:
    kind: Any = type(value)
    if isinstance(value, _SECRETS):
        return Change(path, _STARS) if value.get_secret_value() else None
    inside: Iterable[tuple[object, object]] = ()
    if isinstance(value, BaseModel) or _is_dataclass(value):
        inside = ((name, _field(value, name)) for name, _ in _sent_fields(kind))
    elif isinstance(value, Mapping):
        inside = value.items()
    elif isinstance(value, list | tuple | set | frozenset | deque):
        inside = enumerate(value)
    found = (_find_secret(child, (*path, name)) for name, child in inside)
    return next((secret for secret in found if secret is not None), None)


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))


def _is_dataclass(value: object) -> bool:
    return hasattr(type(value), "__dataclass_fields__")


def _is_named_tuple(value: object) -> bool:
    return isinstance(value, tuple) and hasattr(type(value), "_fields")


# --- types that need no look ------------------------------------------------------------------------------------------


def _is_faithful(kind: type, text: bytes) -> bool:
    """Whether every value of a type that such a text was written of comes back equal, if it fits its type."""
    if b"null" in text or not issubclass(kind, BaseModel):
        return False  # pydantic writes null for NaN, and for None also where its type does not allow it
    known = _known_of(kind)
    return known is not None and not any(model.__subclasses__() for model in known.models)


def _always_fits(kind: type) -> bool:
    """Whether what was written of a faithful model with all its fields fits its type, so that it is not decoded again.

    Pydantic writes a model inside another without the fields that it lacks (`model_construct`), and a literal that was
    assigned, whatever it is.
    """
    known = _known_of(kind)
    return known is not None and not known.models and not known.has_literals


class _Known(NamedTuple):
    """The facts about a type that need no look at its values."""

    models: tuple[type, ...]
    """The models inside."""
    has_literals: bool


@lru_cache(maxsize=512)
def _known_of(model: type[BaseModel]) -> _Known | None:
    """The facts about a model whose values all come back; None where only the value can tell.

    They are read from the schema that pydantic compiled. A part of it that is not known to come back takes a look at
    each value. Where a model inside has a subclass, a value may be of that.
    """
    schema = cast("dict[str, Any]", model.__pydantic_core_schema__)
    reader = _Reader(schema)
    try:
        reader.read(schema)
    except (_TakesAValue, KeyError, TypeError, AttributeError):
        return None
    inside = tuple(inside for inside, count in reader.models.items() if inside is not model or count > 1)
    return _Known(inside, reader.has_literals)


class _TakesAValue(Exception):
    """A type of which some values come back and some do not."""


_SAID_ANYWHERE = {"type", "ref", "metadata"}
_SAID: dict[str, set[str]] = {
    "str": set(),
    "int": set(),
    "float": set(),
    "bool": set(),
    "none": set(),
    "uuid": set(),
    "nullable": {"schema"},
    "default": {"schema", "default", "default_factory", "default_factory_takes_data", "copy_default"},
    "list": {"items_schema"},
    "tuple": {"items_schema", "variadic_item_index"},
    "dict": {"keys_schema", "values_schema"},
    "enum": {"cls", "members", "sub_type", "missing"},
    "literal": {"expected"},
    "definitions": {"schema", "definitions"},
    "definition-ref": {"schema_ref"},
    "model": {"cls", "schema", "config", "custom_init", "root_model", "generic_origin", "frozen"},
    "model-fields": {"fields", "model_name", "computed_fields"},
    "model-field": {"schema", "frozen"},
}
"""The keys that a type may have without taking a look at each of its values, by the names of pydantic's schemas."""
_SAID_OF_MODELS = {"title", "frozen", "from_attributes", "validate_by_name", "validate_by_alias", "serialize_by_alias"}


class _Reader:
    """Reads a schema of pydantic."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.definitions = {part["ref"]: part for part in schema.get("definitions", ())}
        self.models: dict[type, int] = {}
        """The number of times that each model occurs."""
        self.has_literals = False

    def read(self, schema: dict[str, Any]) -> None:
        kind = schema["type"]
        if kind not in _SAID or schema.keys() - _SAID_ANYWHERE - _SAID[kind]:
            raise _TakesAValue
        match kind:
            case "definitions":
                self.read(schema["schema"])
            case "definition-ref":
                self.read(self.definitions[schema["schema_ref"]])
            case "nullable" | "default" | "model-field":
                self.read(schema["schema"])
            case "list":
                self.read(schema["items_schema"])
            case "tuple":
                for item in schema["items_schema"]:
                    self.read(item)
            case "dict":
                if schema["keys_schema"] != {"type": "str"}:
                    raise _TakesAValue
                self.read(schema["values_schema"])
            case "enum":
                values = {type(member.value) for member in schema["members"]}
                if values not in ({str}, {int}) or issubclass(schema["cls"], Flag):
                    raise _TakesAValue
            case "literal":
                self.has_literals = True
                if {type(value) for value in schema["expected"]} != {str}:
                    raise _TakesAValue
            case "model":
                self._read_model(schema)
            case "model-fields":
                for field in schema["fields"].values():
                    self.read(field)

    def _read_model(self, schema: dict[str, Any]) -> None:
        model = schema["cls"]
        self.models[model] = self.models.get(model, 0) + 1
        if self.models[model] > 1:
            return
        if schema["custom_init"] or schema.get("config", {}).keys() - _SAID_OF_MODELS:
            raise _TakesAValue
        self.read(schema["schema"])
