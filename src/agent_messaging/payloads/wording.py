"""The words for types, places inside a payload, and problems: never with a value of the payload."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import core_schema

MAX_KEY_LENGTH = 255
"""Characters of a key of the metadata."""


def kind_of(value: object) -> str:
    """The name of its type."""
    return type(value).__name__


def place_of(field: str, path: Iterable[object]) -> str:
    """The place as Python writes it: `message.items[3].name`."""
    text = field
    for part in path:
        if isinstance(part, str) and part.isidentifier() and len(part) <= MAX_KEY_LENGTH:
            text += f".{part}"
        elif isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = repr(part) if isinstance(part, str) else f"a {kind_of(part)}"
            text += f"[{shown if len(shown) <= 80 else shown[:79] + '…'}]"
    return text


def name_of(annotation: Any) -> str:
    """An annotation as its author wrote it, cut if long."""
    text = _spell(annotation)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _spell(annotation: Any) -> str:
    """The annotation as its author may have written it, without what pydantic was told beside the types."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is None or annotation is types.NoneType:
        return "None"
    if annotation is ...:
        return "..."
    if origin is typing.Annotated:
        return _spell(arguments[0])
    if origin is types.UnionType or origin is typing.Union:
        return " | ".join(_spell(one) for one in arguments)
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin is not None and arguments and all(not isinstance(one, list) for one in arguments):
        return f"{_spell(origin)}[{', '.join(_spell(one) for one in arguments)}]"
    if isinstance(annotation, type):
        return annotation.__name__
    return re.sub(r"[\w.<>]+\.(?=\w)", "", str(annotation))


_PYDANTIC_PROBLEMS = frozenset(get_args(core_schema.ErrorType))
_SHOWN_PROBLEMS = 5


def problems_of(error: ValidationError) -> str:
    """Say where and what, without values: they are in the texts of validators, and in that of an unknown tag."""
    problems = error.errors(include_url=False, include_input=False)
    shown = []
    for problem in problems[:_SHOWN_PROBLEMS]:
        kind, place = problem["type"], place_of("", problem["loc"]).removeprefix(".")
        if kind in ("value_error", "assertion_error") or kind not in _PYDANTIC_PROBLEMS:
            text = "refused by a validator"
        elif kind == "union_tag_invalid":
            text = f"its tag is none of {problem['ctx']['expected_tags']}"
        else:
            text = problem["msg"][:1].lower() + problem["msg"][1:]
        shown.append(f"{place}: {text}" if place else text)
    if more := len(problems) - len(shown):
        shown.append(f"and {more} more")
    return "; ".join(shown)
