"""Payloads and JSON: the one place that encodes, checks and decodes them.

A payload is whatever is JSON after pydantic's rules: a model, dataclass, TypedDict, dict, list, text, number, bool or
None, with values inside such as datetime, UUID, Enum, Decimal or set. It is refused before anything is stored if a
store or another process could not give it back as it was; whether its own type would is looked at in `fidelity`.

Text is written by field names, not by aliases, and read by both, so that a model comes back whatever its aliases are.
Keys that are not text become text as pydantic writes them (1 → "1"); two that become the same are refused. Sets have no
order: repeat a call with an idempotency key with lists instead.

No message here contains a payload's values; they name the place and the type.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import logging
import math
import re
import sys
import threading
import types
import typing
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar, get_args, get_origin

import typing_extensions
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic_core import SchemaSerializer, core_schema, from_json, to_json

from .exceptions import InvalidArgumentError, PayloadError
from .fidelity import find_change, own_type

MAX_DEPTH = 64
"""Containers inside containers. JSON parsers give up somewhere from 200 to 2,000."""
MAX_METADATA_BYTES = 64 * 1024
MAX_KEY_LENGTH = 255
"""Characters of a key of the metadata."""
MAX_DIGITS = 4300
"""Python refuses to read longer whole numbers (`sys.set_int_max_str_digits`)."""
MISSING: Any = inspect.Parameter.empty
"""The annotation of a parameter that has none."""

_logger = logging.getLogger(__name__)


# --- encoding ---------------------------------------------------------------------------------------------------------


def encode(payload: object, *, field: str = "message", limit_bytes: int, depth: int = MAX_DEPTH) -> str:
    """Return the payload as compact JSON text.

    Args:
        payload: What the user sends.
        field: The parameter's name, for the error; the place inside the payload is added to it.
        limit_bytes: The longest text accepted, in bytes of UTF-8.
        depth: Containers inside containers that are accepted.

    Raises:
        PayloadError: It is not JSON, or could not be read back as it is: NUL, half of a surrogate pair, NaN, infinity,
            too deep (or containing itself), too long, equal keys, a value that does not fit its model's field, or one
            that its own type would read as another.
    """
    try:
        return _dump(payload, limit_bytes, depth).decode()
    except _Refusal as refusal:
        raise PayloadError(field=_place(field, refusal.path), reason=refusal.reason) from refusal.__cause__


def encode_metadata(metadata: Mapping[str, Any] | None, *, field: str = "metadata") -> str | None:
    """Return the metadata as compact JSON text, or None where there is none (None or empty).

    The rules are those of payloads, with a limit of 64 KiB, and keys of text with at most 255 characters.

    Raises:
        PayloadError: It is not such a mapping.
    """
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        raise PayloadError(field=field, reason=f"is of type {_kind(metadata)}. Pass a mapping with text keys, or None.")
    for key in metadata:
        if not isinstance(key, str) or len(key) > MAX_KEY_LENGTH:
            what = f"of {len(key):,} characters" if isinstance(key, str) else f"of type {_kind(key)}"
            raise PayloadError(
                field=field, reason=f"has a key {what}. Use text of at most {MAX_KEY_LENGTH} characters."
            )
    return encode(dict(metadata), field=field, limit_bytes=MAX_METADATA_BYTES) if metadata else None


class _Refusal(Exception):
    """What is wrong with a payload, and where."""

    def __init__(self, reason: str, path: tuple[object, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path


class _Suspect(Exception):
    """Something is wrong, to be looked for; raised on the fast way, which keeps no path."""


_CONTAINERS = (dict, list, tuple)
_INT_LIMIT = 10**MAX_DIGITS
_NUL = "holds a NUL character, which not every store keeps. Remove it."
_SURROGATE = "holds half of a surrogate pair, which is not text. Decode the bytes it came from correctly, or remove it."
_NOT_FINITE = "is NaN or infinite, which JSON cannot hold. Send None or text instead."
_TOO_LONG_NUMBER = f"is a whole number of more than {MAX_DIGITS:,} digits, which Python does not read back. Send text."
_NOT_UTF8 = "is bytes that are not UTF-8 text. Send them as text, for example in base64."
_EQUAL_KEYS = "has two keys that become the same JSON text. Use text keys."


def _mapping_or_refuse(value: object) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise _Suspect


# One serializer for everything that is not plain already. "constants", because the default writes NaN as null: a value
# lost without a word. (Fields of models follow their model's setting all the same: hence `_find_lost_nan`.)
# Warnings are errors: what does not fit the type of its field would be refused by the recipient.
_to_plain = partial(
    SchemaSerializer(core_schema.any_schema(), core_schema.CoreConfig(ser_json_inf_nan="constants")).to_python,
    mode="json",
    by_alias=False,
    round_trip=True,
    warnings="error",
    fallback=_mapping_or_refuse,
)


def _dump(payload: object, limit_bytes: int, depth: int) -> bytes:
    tree, budget = payload, [limit_bytes]
    try:
        if not (plain := _scan((payload,), depth + 1, budget)):
            tree, budget = _to_plain(payload), [limit_bytes]
            _scan((tree,), depth + 1, budget)
        raw = to_json(tree)
    except Exception as error:
        if budget[0] < 0:
            raise _too_big(limit_bytes, "has too many values") from None
        if fault := _find_fault(tree, limit_bytes, depth) or _misfit(error):
            raise fault from None
        raise _Refusal(f"cannot be serialized ({_kind(error)}). Correct the model's serializer.") from error
    if len(raw) > limit_bytes:
        raise _too_big(limit_bytes, f"is {len(raw):,} bytes long")
    # The same six characters are written for the text backslash-u0000, hence the second look.
    if rb"\u0000" in raw and (fault := _find_fault(tree, limit_bytes, depth)):
        raise fault
    if not plain and (change := find_change(payload, tree, raw, _decoder.decode)) is not None:
        if b"null" in raw and (path := _find_lost_nan(payload)) is not None:
            raise _Refusal(_NOT_FINITE, path)
        raise _Refusal(change.reason, change.path) from change.cause
    return raw


def _scan(items: Iterable[Any], room: int, budget: list[int]) -> bool:
    """Check numbers, keys, depth and size; True if all is plain, so that nothing is to be converted.

    Recursion is safe because `room` bounds it. The budget bounds the time where the same branch appears over and over:
    each value is at least one byte of JSON.
    """
    plain = True
    for item in items:
        kind = type(item)
        if kind is str or item is None or kind is bool:
            continue
        if kind is int:
            if not -_INT_LIMIT < item < _INT_LIMIT:
                raise _Suspect
        elif kind is float:
            if item - item != 0.0:
                raise _Suspect
        elif kind is dict or kind is list or isinstance(item, _CONTAINERS):
            budget[0] -= len(item)
            if room == 1 or budget[0] < 0:
                raise _Suspect
            children: Iterable[Any] = item
            if kind is dict or isinstance(item, dict):
                for key in item:
                    if type(key) is not str:
                        plain = False
                        if any(map(_leaf_fault, item)) or _has_equal_keys(item):
                            raise _Suspect
                        break
                children = item.values()
            if not _scan(children, room - 1, budget) or kind not in _CONTAINERS:
                plain = False
        elif isinstance(item, types.GeneratorType):
            raise _Suspect  # it may never end
        else:
            plain = False
    return plain


def _has_equal_keys(value: Mapping[Any, Any]) -> bool:
    return len(_to_plain(dict.fromkeys(value))) < len(value)


# --- what is wrong, and where (only after something is) ---------------------------------------------------------------


def _find_fault(payload: object, limit_bytes: int, depth: int) -> _Refusal | None:
    pending: deque[tuple[tuple[object, ...], object]] = deque([((), payload)])
    seen = 0
    while pending:
        path, value = pending.popleft()
        children = _children(value)
        if children is None:
            if reason := _leaf_fault(value):
                return _Refusal(reason, path)
            continue
        seen += len(children)
        if len(path) >= depth:
            return _Refusal(f"is nested more than {depth} levels deep, or contains itself. Flatten it.", path[:4])
        if seen > limit_bytes:
            return _too_big(limit_bytes, "has too many values")
        if reason := next((f"has a key that {fault}" for key, _ in children if (fault := _leaf_fault(key))), None):
            return _Refusal(reason, path)
        if isinstance(value, Mapping) and _has_equal_keys(value):
            return _Refusal(_EQUAL_KEYS, path)
        pending.extendleft(reversed([((*path, key), child) for key, child in children]))
    return None


def _children(value: object) -> list[tuple[object, object]] | None:
    """The inside of a container, a model or a dataclass; None for a leaf."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list | tuple | set | frozenset | deque):
        return list(enumerate(value))
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        inside = [*value.__dict__.items(), *(value.__pydantic_extra__ or {}).items()]
        return [(name, child) for name, child in inside if name not in fields or not fields[name].exclude]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(item.name, getattr(value, item.name, None)) for item in dataclasses.fields(value)]
    return None


def _leaf_fault(value: object) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        if "\0" in value:
            return _NUL
        return _SURROGATE if any(0xD800 <= ord(character) < 0xE000 for character in value) else None
    if isinstance(value, int):
        return None if -_INT_LIMIT < value < _INT_LIMIT else _TOO_LONG_NUMBER
    if isinstance(value, float):
        return None if math.isfinite(value) else _NOT_FINITE
    if isinstance(value, bytes | bytearray):
        try:
            return _leaf_fault(value.decode())
        except UnicodeDecodeError:
            return _NOT_UTF8
    try:
        if not isinstance(value, types.GeneratorType):
            _to_plain(value)
            return None
    except Exception:  # noqa: S110  (whatever it was: this is the value)
        pass
    return f"is of type {_kind(value)}, which is not JSON. Send a model, dataclass, dict, list, text, number or None."


def _find_lost_nan(payload: object) -> tuple[object, ...] | None:
    """Where NaN stood that a model's field of type Any or dict wrote as null."""
    try:
        return _find_nan(_to_plain(payload, mode="python"))
    except Exception:  # a serializer that is made for JSON alone
        return None


def _find_nan(value: object, path: tuple[object, ...] = ()) -> tuple[object, ...] | None:
    children = _children(value)
    if children is None:
        return path if isinstance(value, float) and not math.isfinite(value) else None
    found = (_find_nan(child, (*path, key)) for key, child in children)
    return next((place for place in found if place is not None), None)


def _misfit(error: Exception) -> _Refusal | None:
    # Only the name is taken from pydantic's text, which goes on with the value.
    if not (name := re.search(r"\[field_name='(\w+)'", str(error))):
        return None
    return _Refusal(f"has a value in its field {name[1]!r} that does not fit the field's type. Validate the model.")


def _too_big(limit_bytes: int, what: str) -> _Refusal:
    return _Refusal(f"{what}; as JSON, {limit_bytes:,} bytes are accepted. Send a reference to it instead.")


def _kind(value: object) -> str:
    return type(value).__name__


def _place(field: str, path: Iterable[object]) -> str:
    """The place as Python writes it: `message.items[3].name`."""
    text = field
    for part in path:
        if isinstance(part, str) and part.isidentifier() and len(part) <= MAX_KEY_LENGTH:
            text += f".{part}"
        elif isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = repr(part) if isinstance(part, str) else f"a {_kind(part)}"
            text += f"[{shown if len(shown) <= 80 else shown[:79] + '…'}]"
    return text


# --- identity and damage ----------------------------------------------------------------------------------------------


def checksum(content: str, metadata: str | None) -> int:
    """Return the crc32 stored beside content and metadata: the stores themselves do not notice a flipped byte."""
    return zlib.crc32((metadata or "").encode(), zlib.crc32(content.encode() + b"\0"))


def fingerprint(recipients: Iterable[str], content: str, metadata: str | None, **options: object) -> str:
    """Return the hash by which a repeated call is recognised: SHA-256 in hex.

    The order of recipients counts (the ids are returned in it), the order of keys inside a payload does not.

    Args:
        recipients: External ids.
        content: The encoded payload.
        metadata: The encoded metadata.
        options: Whatever else makes it another call, such as `expires_in`; of JSON, datetime or UUID.
    """
    parts = [list(recipients), from_json(content), None if metadata is None else from_json(metadata), options]
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


# --- decoding ---------------------------------------------------------------------------------------------------------


class Decoder:
    """Makes objects of stored JSON: fresh ones each time, of the type that an annotation asks for.

    Keeps what pydantic builds for an annotation, which takes a hundred times as long as using it.
    """

    def __init__(self, size: int = 512) -> None:
        self.size = size
        self.lock = threading.Lock()
        self.adapters: dict[object, tuple[Any, TypeAdapter[Any]]] = {}

    def decode(self, content: str | bytes, annotation: Any = MISSING, *, field: str = "message") -> Any:
        """Return the object that the annotation asks for; plain JSON values for Any, object, a type variable or none.

        What a validator of the user raises beside ValueError and AssertionError is passed on.

        Raises:
            PayloadError: The payload does not fit; the reason has the place of each problem, and no value.
            InvalidArgumentError: Pydantic cannot make objects of such an annotation.
        """
        if isinstance(annotation, LateAnnotation):
            annotation = annotation.resolve()
        if _is_plain(annotation):
            try:
                return from_json(content)
            except ValueError:
                raise PayloadError(field=field, reason="is not JSON that can be read.") from None
        # By name too: that is how it was written, whatever the aliases are.
        return self._validate(self.adapter(annotation).validate_json, content, annotation, field)

    def convert(self, values: dict[str, Any], annotation: Any, *, field: str) -> Any:
        """Return what the annotation asks for, made of values that were decoded before; these, if they are of its type.

        Raises:
            PayloadError, InvalidArgumentError: As `decode`.
        """
        if isinstance(annotation, LateAnnotation):
            annotation = annotation.resolve()
        kind = get_origin(annotation) or annotation
        is_class = isinstance(kind, type) and not typing_extensions.is_typeddict(kind)
        if _is_plain(annotation) or (is_class and isinstance(values, kind)):
            return values
        return self._validate(self.adapter(annotation).validate_python, values, annotation, field)

    def _validate(self, validate: Callable[..., Any], value: object, annotation: Any, field: str) -> Any:
        try:
            return validate(value, by_alias=True, by_name=True)
        except ValidationError as error:
            raise PayloadError(field=field, reason=f"does not fit {_name(annotation)}: {problems_of(error)}.") from None
        except PydanticUserError as error:
            raise _unusable(annotation) from error

    def check(self, annotation: Any, *, field: str) -> None:
        """Refuse an annotation of which no objects can be made, before anything is done whose result it would get.

        Raises:
            InvalidArgumentError: Pydantic cannot make objects of it.
        """
        if not _is_plain(annotation):
            try:
                self.adapter(annotation).rebuild(raise_errors=True)  # does nothing unless a name in it is unknown
            except (InvalidArgumentError, PydanticUserError, PydanticUndefinedAnnotation) as error:
                raise _unusable(annotation, field) from error

    def adapter(self, annotation: Any) -> TypeAdapter[Any]:
        # Equal annotations can differ (`A | B` equals `B | A`, but the first that fits is taken): hence their text too.
        # The annotation is kept with its adapter, so that an id is not given to another object meanwhile.
        try:
            key: object = annotation if isinstance(annotation, type) else (annotation, repr(annotation))
            found = self.adapters.get(key)
        except TypeError:
            key = id(annotation)
            found = self.adapters.get(key)
        if found is None:
            found = (annotation, _build(annotation))
            with self.lock:
                if len(self.adapters) >= self.size:
                    del self.adapters[next(iter(self.adapters))]
                self.adapters[key] = found
        return found[1]


_decoder = Decoder()
"""Reads what was written again, to compare it."""


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
        found = arguments[found] if found in arguments else _default_of(found)
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
    return base[tuple(arguments.get(parameter, _default_of(parameter)) for parameter in free)]


def _default_of(parameter: Any) -> Any:
    default = getattr(parameter, "__default__", typing_extensions.NoDefault)
    return Any if default is typing_extensions.NoDefault else default


def annotation_of(value: object) -> Any:
    """The class as which this value, once stored, is best read again: its own, if JSON alone does not tell it."""
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return own_type(value)
    return MISSING


def _build(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(_modern(annotation) if sys.version_info < (3, 12) else annotation)
    except (PydanticUserError, PydanticUndefinedAnnotation, TypeError, SyntaxError) as error:
        raise _unusable(annotation) from error


def _is_plain(annotation: Any) -> bool:
    """Whether it asks for plain JSON values."""
    return annotation is MISSING or annotation is Any or annotation is object or isinstance(annotation, TypeVar)


def _unusable(annotation: Any, field: str = "annotation") -> InvalidArgumentError:
    return InvalidArgumentError(
        field=field,
        value=_name(annotation),
        reason="is not a type that can be made of JSON. Use a pydantic model, dataclass, TypedDict, dict or list.",
    )


def _modern(annotation: Any, inside: tuple[Any, ...] = ()) -> Any:
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
            fields[name] = mark[_modern(hint, (*inside, annotation))]
        return typing_extensions.TypedDict(annotation.__name__, fields)  # type: ignore[operator]
    origin: Any = typing.get_origin(annotation)
    arguments = get_args(annotation)
    if origin is None or origin in (typing.Literal, typing.Annotated):
        return annotation
    rebuilt = tuple(_modern(argument, inside) for argument in arguments)
    if all(new is old for new, old in zip(rebuilt, arguments, strict=True)):
        return annotation
    if origin is types.UnionType:
        origin = typing.Union
    return origin[rebuilt]


def _name(annotation: Any) -> str:
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
        kind, place = problem["type"], _place("", problem["loc"]).removeprefix(".")
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


# --- handlers ---------------------------------------------------------------------------------------------------------


def handler_annotation(function: Callable[..., Any], position: int = 0) -> Any:
    """Return the annotation of a handler's first parameter (or another), for a `Decoder`; `MISSING` if it has none.

    To be called when the handler is registered: classes that are local to the function in which it is defined are found
    as long as that function runs. An annotation that is text and names something not defined yet is returned as a
    `LateAnnotation`, which the decoder resolves when the first message comes.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:
        return MISSING
    wanted = parameters[position] if position < len(parameters) else None
    if wanted is None or wanted.annotation is MISSING:
        return MISSING
    if wanted.kind not in (wanted.POSITIONAL_ONLY, wanted.POSITIONAL_OR_KEYWORD):
        return MISSING
    late = LateAnnotation(function, wanted.annotation)
    try:
        return late.evaluate()
    except Exception:
        return late


class LateAnnotation:
    """A handler's annotation whose names are not all defined yet."""

    def __init__(self, function: Callable[..., Any], annotation: Any) -> None:
        self.name = function_name(function)
        self.annotation = annotation
        target = _target(function)
        self.globals: dict[str, Any] = getattr(target, "__globals__", {})
        self.locals = _enclosing_locals(target)

    def evaluate(self) -> Any:
        def stub(message: Any) -> None: ...

        stub.__annotations__ = {"message": self.annotation}
        hints = typing_extensions.get_type_hints(stub, self.globals, self.locals, include_extras=True)
        return hints["message"]

    def resolve(self) -> Any:
        """Return the annotation, or `MISSING` with a warning in the log if a name in it still is not defined."""
        try:
            self.annotation = self.evaluate()
        except Exception as error:
            _logger.warning(
                "The annotation %r of the handler %s cannot be resolved (%s): it gets plain JSON values.",
                self.annotation,
                self.name,
                error,
            )
            self.annotation = MISSING
        return self.annotation


def _target(function: Any) -> Any:
    """The function that was written: behind a partial, a callable object, a decorator and a bound method."""
    while isinstance(function, partial):
        function = function.func
    if not inspect.isroutine(function) and not isinstance(function, type):
        function = type(function).__call__
    function = inspect.unwrap(function)
    return getattr(function, "__func__", function)


def _enclosing_locals(function: Any) -> dict[str, Any]:
    """The names around a nested function: all while what surrounds it still runs, afterwards those it uses itself."""
    names: dict[str, Any] = {}
    outer, nested, _ = str(getattr(function, "__qualname__", "")).rpartition(".<locals>.")
    if not nested:
        return names
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_qualname == outer and frame.f_globals is function.__globals__:
            return dict(frame.f_locals)
        frame = frame.f_back
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return names


def function_name(function: object) -> str:
    """What to call it in a message."""
    return getattr(function, "__qualname__", None) or _kind(function)
