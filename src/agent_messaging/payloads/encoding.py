"""Encoding: payloads become JSON text, or are refused with the place and the reason."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
import types
from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any
from zlib import crc32

from pydantic import BaseModel
from pydantic_core import SchemaSerializer, core_schema, from_json, to_json

from ..exceptions import PayloadError
from .decoding import Decoder
from .fidelity import find_change
from .wording import MAX_KEY_LENGTH, kind_of, place_of

MAX_DEPTH = 64
"""Containers inside containers. JSON parsers give up somewhere from 200 to 2,000."""
MAX_METADATA_BYTES = 64 * 1024
MAX_DIGITS = 4300
"""Python refuses to read longer whole numbers (`sys.set_int_max_str_digits`)."""

_decoder = Decoder()
"""Reads what was written again, to compare it."""


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
    return seal(payload, field=field, limit_bytes=limit_bytes, depth=depth)[0]


def seal(payload: object, *, field: str = "message", limit_bytes: int, depth: int = MAX_DEPTH) -> tuple[str, int]:
    """Return the payload as `encode` does, and its `checksum` without metadata: made of the same bytes, in one go.

    Raises:
        PayloadError: As `encode`.
    """
    try:
        raw = _dump(payload, limit_bytes, depth)
    except _Refusal as refusal:
        raise PayloadError(field=place_of(field, refusal.path), reason=refusal.reason) from refusal.__cause__
    return raw.decode(), crc32(_END, crc32(raw))


def encode_metadata(
    metadata: Mapping[str, Any] | None, *, field: str = "metadata", reserved: str | None = None
) -> str | None:
    """Return the metadata as compact JSON text, or None where there is none (None or empty).

    The rules are those of payloads, with a limit of 64 KiB, and keys of text with at most 255 characters.

    Args:
        reserved: A key that is not the caller's.

    Raises:
        PayloadError: It is not such a mapping.
    """
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        raise PayloadError(
            field=field, reason=f"is of type {kind_of(metadata)}. Pass a mapping with text keys, or None."
        )
    for key in metadata:
        if not isinstance(key, str) or len(key) > MAX_KEY_LENGTH:
            what = f"of {len(key):,} characters" if isinstance(key, str) else f"of type {kind_of(key)}"
            raise PayloadError(
                field=field, reason=f"has a key {what}. Use text of at most {MAX_KEY_LENGTH} characters."
            )
        if key == reserved:
            raise PayloadError(field=field, reason=f"has the key {key!r}, which is reserved. Use another one.")
    return encode(dict(metadata), field=field, limit_bytes=MAX_METADATA_BYTES) if metadata else None


class _Refusal(Exception):
    """A fault of a payload, and its place."""

    def __init__(self, reason: str, path: tuple[object, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path


class _Suspect(Exception):
    """Something is wrong, and its place is still to be found: the fast way keeps no path."""


_END = b"\0"
"""It follows the content in what is summed, so that content and metadata cannot trade characters."""
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
        raise _Refusal(f"cannot be serialized ({kind_of(error)}). Correct the model's serializer.") from error
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
        if reason := next((f"has a key that {fault}" for key, _ in children if (fault := _key_fault(key))), None):
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
    return f"is of type {kind_of(value)}, which is not JSON. Send a model, dataclass, dict, list, text, number or None."


def _key_fault(key: object) -> str | None:
    if fault := _leaf_fault(key):
        return fault
    try:
        _to_plain({key: None})
    except Exception:
        return f"is of type {kind_of(key)}, which no JSON text can be made of. Use text keys."
    return None


def _find_lost_nan(payload: object) -> tuple[object, ...] | None:
    """Find the place of NaN that a model's field of type Any or dict wrote as null."""
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
    # Pydantic's text goes on with the value, so only the name is taken from it.
    if not (name := re.search(r"\[field_name='(\w+)'", str(error))):
        return None
    return _Refusal(f"has a value in its field {name[1]!r} that does not fit the field's type. Validate the model.")


def _too_big(limit_bytes: int, what: str) -> _Refusal:
    return _Refusal(f"{what}; as JSON, {limit_bytes:,} bytes are accepted. Send a reference to it instead.")


# --- identity and damage ----------------------------------------------------------------------------------------------


def checksum(content: str, metadata: str | None) -> int:
    """Return the crc32 stored beside content and metadata: the stores themselves do not notice a flipped byte."""
    of_content = crc32(_END, crc32(content.encode()))
    return crc32(metadata.encode(), of_content) if metadata else of_content


def fingerprint(recipients: Iterable[str], content: str, metadata: str | None, **options: object) -> str:
    """Return the hash by which a repeated call is recognised: SHA-256 in hex.

    The order of recipients counts (the ids are returned in it), the order of keys inside a payload does not.

    Args:
        recipients: External ids.
        content: The encoded payload.
        metadata: The encoded metadata.
        options: Whatever else makes it another call, such as `expires_in`; of JSON, datetime or UUID.
    """
    import json  # only calls with a key need it

    parts = [list(recipients), from_json(content), None if metadata is None else from_json(metadata), options]
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
