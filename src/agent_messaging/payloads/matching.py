"""How well a stored payload fits each of several annotations, and whether two annotations can be told apart at all.

A store keeps JSON, and not the class that it was written of. So the JSON alone decides: a payload that was written of a
type fits that type, takes every field of it, and leaves nothing over.
"""

from __future__ import annotations

import types
import typing
import warnings
from collections import deque
from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any, NamedTuple, get_args, get_origin

import typing_extensions
from pydantic import BaseModel

from ..exceptions import PayloadError
from .annotations import Late, is_plain
from .decoding import Decoder
from .wording import name_of

_CONTAINERS = (list, tuple, set, frozenset, deque, dict, Mapping, Sequence, Set)
_SCALARS = (None, types.NoneType, str, int, float, bool)
_TEXTS = (bytes, PurePath)
"""Types of their own that nevertheless take every text."""


class Fit(NamedTuple):
    """How well a payload fits a type; the smallest is the best."""

    is_forced: bool
    """A text, number or flag becomes what it is not: `"1"` a number."""
    breadth: int
    """How much else the type takes: 0 a model or another type of its own, 1 `list[Note]`, 2 `dict`, 3 everything."""
    is_loose: bool
    """Something inside is converted, or a whole number becomes a float."""
    ignored: int
    """Keys of the payload that the type does not know."""
    missing: int
    """Fields of the type that the payload does not have."""
    members: int
    """Types of the union that it is one of: a handler of `Note` goes before one of `Note | Task`."""


def find_best(decoder: Decoder, content: str, annotations: Sequence[Any]) -> list[int]:
    """The positions of the annotations that the payload fits best.

    A validator that is written for payloads of its own type may raise anything at those of another, such as KeyError:
    the type does not fit then. It is raised only if no type fits, because then it may be why.

    Returns:
        One, or several if nothing in the payload tells them apart; none if it fits none of them.
    """
    value = decoder.decode(content)
    found: dict[int, Fit] = {}
    failed: Exception | None = None
    for position, annotation in enumerate(annotations):
        if isinstance(annotation, Late):
            annotation = annotation.resolve()
        members = members_of(annotation)
        for member in members:
            try:
                fit = _fit(decoder, content, value, member, len(members))
            except Exception as error:
                failed = failed or error
                continue
            if fit is not None:
                found[position] = min(fit, found.get(position, fit))
    if failed is not None and not found:
        raise failed
    best = min(found.values(), default=None)
    return [position for position, fit in found.items() if fit == best]


def find_clash(one: Any, other: Any) -> str | None:
    """Why payloads of two annotations cannot be told apart, as far as that is known before one comes; None if they can.

    Returns:
        The beginning of a sentence about the other: "Task is written as Note is".
    """
    mine, theirs = members_of(one), members_of(other)
    names, others = identity_of(one), identity_of(other)
    for member in mine:
        for candidate in theirs:
            if identity_of(member) == identity_of(candidate):
                if not (names < others or others < names):
                    return f"both take {name_of(member)}"
            elif (written := _written(member)) is not None and written == _written(candidate):
                return f"{name_of(member)} is written as {name_of(candidate)} is"
    return None


def identity_of(annotation: Any) -> frozenset[Hashable]:
    """What makes two annotations the same: the members of the union, in whatever order, each by its name.

    By its name, so that a class which was defined anew, in a notebook or by a reload, is the same; a class inside a
    function is itself.
    """
    return frozenset(_name(member) for member in members_of(annotation))


def members_of(annotation: Any) -> tuple[Any, ...]:
    """The types of a union, also of one with a discriminator or behind an alias; of anything else, that."""
    if isinstance(annotation, Late):
        return (annotation,)
    if isinstance(annotation, typing_extensions.TypeAliasType):
        return members_of(annotation.__value__)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return tuple(member for argument in arguments for member in members_of(argument))
    if origin is typing.Annotated and len(inside := members_of(arguments[0])) > 1:
        return inside
    return (annotation,)


def _name(member: Any) -> Hashable:
    if is_plain(member):
        return None
    if isinstance(member, type) and not get_args(member):
        return member if "<locals>" in member.__qualname__ else f"{member.__module__}.{member.__qualname__}"
    return repr(member.annotation) if isinstance(member, Late) else repr(member)


def _fit(decoder: Decoder, content: str, value: Any, member: Any, members: int) -> Fit | None:
    if is_plain(member):
        return Fit(False, 3, False, 0, 0, members)
    try:
        made, is_strict = decoder.decode(content, member, strict=True), True
    except PayloadError:
        try:
            made, is_strict = decoder.decode(content, member), False
        except PayloadError:
            return None
    ignored, missing, taken = _compare(value, made)
    breadth = _breadth(member)
    if isinstance(value, dict) and value and not taken and breadth == 0:
        return None  # it fits because all of its fields have defaults
    is_scalar = not isinstance(value, dict | list)
    is_widened = type(value) is int and type(made) is float
    return Fit(is_scalar and not is_strict, breadth, not is_strict or is_widened, ignored, missing, members)


def _compare(value: Any, made: Any) -> tuple[int, int, int]:
    """How many keys of the payload were ignored, how many fields it lacks (both at any depth), and how many it has."""
    if isinstance(made, BaseModel) and made.__pydantic_root_model__:  # importing `RootModel` would slow each start
        ignored, missing, taken = _compare(value, vars(made)["root"])
        return ignored, missing, max(taken, 1)
    ignored = missing = taken = 0
    pairs: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        if isinstance(made, BaseModel):
            own = type(made).model_fields.keys()
            taken, count = len(made.model_fields_set & own), len(own)
            pairs = [(value[name], vars(made)[name]) for name in own & value.keys() & vars(made).keys()]
        elif is_dataclass(made):
            names = {field.name for field in fields(made)}
            taken, count = len(names & value.keys()), len(names)
            pairs = [(value[name], getattr(made, name)) for name in names & value.keys()]
        elif isinstance(made, Mapping):
            taken = count = len(made)
            pairs = [(value[key], inner) for key, inner in made.items() if key in value]
        else:
            return 0, 0, len(value)
        ignored, missing = max(0, len(value) - taken), count - taken
    elif isinstance(value, list) and isinstance(made, list | tuple) and len(value) == len(made):
        pairs = list(zip(value, made, strict=True))
    for one, other in pairs:
        inside = _compare(one, other)
        ignored, missing = ignored + inside[0], missing + inside[1]
    return ignored, missing, taken


def _breadth(member: Any) -> int:
    origin = get_origin(member)
    if origin is typing.Annotated:
        return max(0, _breadth(get_args(member)[0]) - 1)
    if member in _SCALARS:
        return 2
    kind = origin or member
    if isinstance(kind, type) and issubclass(kind, _TEXTS):
        return 2
    is_own = not isinstance(kind, type) or typing_extensions.is_typeddict(kind) or hasattr(kind, "_fields")
    if is_own or issubclass(kind, str) or not issubclass(kind, _CONTAINERS):
        return 0
    arguments = get_args(member)
    return 2 if is_plain(arguments[-1] if arguments else Any) else 1


def _written(member: Any) -> Any:
    """The schema of what is written of a type, without its names; None where it cannot be known."""
    if is_plain(member) or isinstance(member, Late):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _bare(Decoder().adapter(member).json_schema(mode="serialization", by_alias=False)) or None
    except Exception:  # a type that pydantic does not know, or that names a class which is not defined yet
        return None


_UNWRITTEN = {"title", "description", "examples", "default", "deprecated", "required"}
"""What a schema says for people, and what it says of payloads that nobody wrote of the type: all fields are written."""


_ANY_TEXT = (("format", "binary"), ("format", "path"))
"""What a schema says of `_TEXTS`, though they are written as any text is."""


def _is_closing(key: str, part: Any) -> bool:
    return key == "additionalProperties" and isinstance(part, bool)


def _bare(schema: Any, *, names: bool = False) -> Any:
    """The schema without what makes no difference in what is written.

    Args:
        names: The keys are names of fields, of which one may well be a "title".
    """
    if isinstance(schema, dict):
        return {
            key: _bare(part, names=not names and key in ("properties", "$defs"))
            for key, part in schema.items()
            if names or not (key in _UNWRITTEN or (key, part) in _ANY_TEXT or _is_closing(key, part))
        }
    if isinstance(schema, list):
        bare = [_bare(part) for part in schema]
        return sorted(bare) if all(isinstance(part, str) for part in bare) else bare
    return schema
