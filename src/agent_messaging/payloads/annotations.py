"""Annotations: which type is asked for, and in which form pydantic accepts it."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from typing import Any, TypeVar, get_args, get_origin

import typing_extensions
from pydantic import BaseModel

MISSING: Any = inspect.Parameter.empty
"""The annotation of a parameter that has none."""


_JSON = frozenset({dict, list, str, int, float, bool, type(None)})


class Late:
    """Stands for an annotation that is known only when the first payload comes."""

    annotation: Any
    """As it was written, until it is resolved."""

    def resolve(self) -> Any:
        """Return the annotation, or `MISSING` if it cannot be known."""
        raise NotImplementedError


def own_type(value: object) -> Any:
    """The type that reads this value again: its class, with its arguments where a generic dataclass was given some."""
    return (hasattr(type(value), "__dataclass_fields__") and getattr(value, "__orig_class__", None)) or type(value)


def payload_type(instance: object, generic: type, position: int) -> Any:
    """Return what an object was given for a type parameter of `generic`, its class or one that its class extends.

    In `Thing[A, B]()` as in `class Mine(Thing[A, B])`. Fewer arguments than parameters are filled up as their defaults
    say. `MISSING` where it was given none, or one that says nothing.
    """
    given: Any = getattr(instance, "__orig_class__", type(instance))
    while (get_origin(given) or given) is not generic:
        given = _base_towards(given, generic)
    parameters: tuple[Any, ...] = generic.__parameters__
    arguments = dict(zip(parameters, get_args(given), strict=False))
    found = parameters[position]
    while isinstance(found, TypeVar):
        given = arguments.get(found, found)
        found = _default_of(found) if given is found else given
    return MISSING if found is Any or found is object else found


def _base_towards(given: Any, generic: type) -> Any:
    """The base through which a class (`given` may say with which arguments) extends `generic`, with its arguments."""
    own = get_origin(given) or given
    bases = vars(own).get("__orig_bases__", own.__bases__)
    base = next(base for base in bases if issubclass(get_origin(base) or base, generic))
    free = base.__parameters__ if get_origin(base) else ()
    if not free:
        return base
    arguments = dict(zip(own.__parameters__, get_args(given), strict=False))
    # One that was not given stays itself: it may be the default of another parameter of the base.
    return base[tuple(arguments.get(parameter, parameter) for parameter in free)]


def _default_of(parameter: Any) -> Any:
    default = getattr(parameter, "__default__", typing_extensions.NoDefault)
    return Any if default is typing_extensions.NoDefault else default


def annotation_of(value: object) -> Any:
    """The class as which this value, once stored, is best read again: its own, if JSON alone does not tell it."""
    if type(value) in _JSON:
        return MISSING
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return own_type(value)
    return MISSING


def is_plain(annotation: Any) -> bool:
    """Whether it asks for plain JSON values."""
    return annotation is MISSING or annotation is Any or annotation is object or isinstance(annotation, TypeVar)


def modernize(annotation: Any, inside: tuple[Any, ...] = ()) -> Any:
    """Rebuild `typing.TypedDict` as that of typing_extensions, the only one pydantic accepts before Python 3.12."""
    if annotation in inside:
        return dict[str, Any]
    if typing.is_typeddict(annotation):
        if type(annotation).__module__ != "typing":
            return annotation
        fields = {}
        for name, hint in typing_extensions.get_type_hints(annotation, include_extras=True).items():
            mark: Any = typing_extensions.get_origin(hint)
            if mark not in (typing_extensions.Required, typing_extensions.NotRequired):
                required = name in annotation.__required_keys__
                mark = typing_extensions.Required if required else typing_extensions.NotRequired
            else:
                hint = get_args(hint)[0]
            fields[name] = mark[modernize(hint, (*inside, annotation))]
        return typing_extensions.TypedDict(annotation.__name__, fields)  # type: ignore[operator]
    origin: Any = typing.get_origin(annotation)
    arguments = get_args(annotation)
    if origin is None or origin in (typing.Literal, typing.Annotated):
        return annotation
    rebuilt = tuple(modernize(argument, inside) for argument in arguments)
    if all(new is old for new, old in zip(rebuilt, arguments, strict=True)):
        return annotation
    if origin is types.UnionType:
        origin = typing.Union
    return origin[rebuilt]
