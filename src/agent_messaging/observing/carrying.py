"""Carries the texts of observers along with a message: under a key of its metadata that users never see.

The metadata are text by then. What is carried goes behind the user's own keys, and is taken out where a stored body is
opened (`bodies`). Calls refuse metadata of a user's with the key, which nobody would ever see again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json, to_json

KEY = "agent_messaging.trace"
TRACEPARENT = "traceparent"
MOST_CARRIED = 8_192
"""Bytes of what is carried, in JSON."""
_MARK = f'"{KEY}":'


def pack(metadata: str | None, carried: Mapping[str, str]) -> str | None:
    """Put what is carried into metadata.

    Raises:
        ValueError: It is more than `MOST_CARRIED`, or holds anything but printable ASCII.
    """
    if not carried or unpack(metadata):
        return metadata
    text = write(carried)
    return f"{{{_MARK}{text}}}" if metadata in (None, "{}") else f"{metadata[:-1]},{_MARK}{text}}}"


def unpack(metadata: str | None) -> dict[str, str]:
    """What was carried in metadata; nothing where it cannot be read."""
    if metadata is None or _MARK not in metadata:
        return {}
    try:
        return _texts(from_json(metadata).get(KEY))
    except (ValueError, AttributeError):
        return {}


def write(carried: Mapping[str, str]) -> str:
    """What is carried as text by itself, for a task, which has no metadata.

    Raises:
        ValueError: As of `pack`.
    """
    for name, value in carried.items():
        if not _is_plain(name, value):
            raise ValueError("what is carried must be text in printable ASCII")
    text = to_json(dict(carried)).decode()
    if len(text) > MOST_CARRIED:
        raise ValueError(f"what is carried must be at most {MOST_CARRIED:,} bytes")
    return text


def read(text: str | None) -> dict[str, str]:
    """What `write` wrote; nothing where it cannot be read."""
    if text is None:
        return {}
    try:
        return _texts(from_json(text))
    except ValueError:
        return {}


def _texts(found: Any) -> dict[str, str]:
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if _is_plain(name, value)}


def _is_plain(name: object, value: object) -> bool:
    """Whether it can stand in one line of a log, and in a header: also what somebody has written into the store."""
    return (
        isinstance(name, str) and isinstance(value, str) and (name + value).isascii() and (name + value).isprintable()
    )
