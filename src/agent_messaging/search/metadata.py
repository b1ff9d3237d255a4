"""Filters of metadata: what is asked, whether a message's metadata are so, and what a store may leave out unread.

A filter is a mapping. Its key names a value, by a dotted path into objects (`"order.id"`; a key that has the dots
itself comes first), and may end in an operator:

- `key`: the value is equal. JSON's types are apart: neither 1 nor "true" is equal to True, and null is not absent.
- `key__contains`: the value is an array, and one of its entries is equal.
- `key__in`: the value is equal to one of a list.
- `key__exists`: it is there (True), be it null, or is not (False).

All conditions must hold. A filter is judged here, on the metadata of a message. A store only passes over the messages
whose metadata lack a text that they must have, so that what a caller gives is never part of a statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic_core import from_json

from ..exceptions import InvalidArgumentError
from ..payloads import encode_metadata
from ..records import dataclass

MAX_CONDITIONS = 32
_FIELD = "metadata_filter"
"""The parameter by which callers give one."""
_ABSENT = object()


class Operator(StrEnum):
    """How a condition compares; the ends of keys."""

    EQUALS = "equals"
    CONTAINS = "contains"
    IN = "in"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Condition:
    """One entry of a filter."""

    path: str
    operator: Operator
    value: Any
    """Plain JSON."""


@dataclass(frozen=True, slots=True)
class MetadataFilter:
    """Conditions that all must hold."""

    conditions: tuple[Condition, ...]

    def fits(self, metadata: Mapping[str, Any]) -> bool:
        """Whether the metadata of a message are as asked."""
        return all(_holds(condition, _find(metadata, condition.path)) for condition in self.conditions)

    @property
    def needles(self) -> list[str]:
        """Texts that all are in the stored metadata of every message that fits."""
        return [_needle(one) for one in self.conditions if one.operator is not Operator.EXISTS or one.value]


def make_filter(given: Mapping[str, Any] | None) -> MetadataFilter | None:
    """Read what a caller gave; None and an empty mapping ask nothing.

    Raises:
        InvalidArgumentError: It is no mapping, or an operator has a value that it does not take.
        PayloadError: A value is no JSON.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise InvalidArgumentError(
            field=_FIELD, value=None, reason='is no mapping. Pass a dict, such as {"priority": "high"}.'
        )
    if len(given) > MAX_CONDITIONS:
        raise InvalidArgumentError(
            field=_FIELD, value=len(given), reason=f"conditions were given. At most {MAX_CONDITIONS} are accepted."
        )
    text = encode_metadata(given, field=_FIELD)
    if text is None:
        return None
    return MetadataFilter(tuple(_condition(key, value) for key, value in from_json(text).items()))


def _condition(key: str, value: Any) -> Condition:
    path, _, ending = key.rpartition("__")
    if not path or ending not in (Operator.CONTAINS, Operator.IN, Operator.EXISTS):
        return Condition(key, Operator.EQUALS, value)
    operator = Operator(ending)
    if operator is Operator.EXISTS and not isinstance(value, bool):
        raise InvalidArgumentError(field=f"{_FIELD}[{key!r}]", value=None, reason="must be True or False.")
    if operator is Operator.IN and not isinstance(value, list):
        raise InvalidArgumentError(field=f"{_FIELD}[{key!r}]", value=None, reason="must be a list of values.")
    return Condition(path, operator, value)


def _find(value: Any, path: str) -> Any:
    """The value at a path; a key that has dots itself comes before a step into an object."""
    if not isinstance(value, Mapping):
        return _ABSENT
    if path in value:
        return value[path]
    place = path.find(".")
    while place >= 0:
        head = path[:place]
        if head in value and (found := _find(value[head], path[place + 1 :])) is not _ABSENT:
            return found
        place = path.find(".", place + 1)
    return _ABSENT


def _holds(condition: Condition, found: Any) -> bool:
    match condition.operator:
        case Operator.EXISTS:
            return (found is not _ABSENT) is condition.value
        case Operator.CONTAINS:
            return isinstance(found, list) and any(is_equal(entry, condition.value) for entry in found)
        case Operator.IN:
            return any(is_equal(found, one) for one in condition.value)
    return is_equal(found, condition.value)


def is_equal(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same. Of numbers the value counts: 1 and 1.0 are equal, True is no number."""
    if isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_equal, one, other))
    return type(one) is type(other) and bool(one == other)


def _needle(condition: Condition) -> str:
    """A text that stands in the stored metadata wherever the condition holds: the end of the key that has the value.

    With the value, where that is written in one way only.
    """
    last = condition.path.rpartition(".")[2]
    value: Any = None
    text = encode_metadata({last: value}) or ""
    key = text[len('{"') : -len("null}")]
    if condition.operator is Operator.EQUALS and (condition.value is None or isinstance(condition.value, str | bool)):
        return (encode_metadata({last: condition.value}) or "")[len('{"') : -len("}")]
    return key
