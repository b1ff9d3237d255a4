"""Stored bodies: the one place that opens what a store gave back of a message, an answer or an event.

A body is JSON text, perhaps with metadata, and the checksum under which both were stored. Nothing else reads such a
text, so a damaged body is never shown as if it were genuine. What observers have a message carry is taken out here.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any, Protocol

from pydantic_core import from_json

from .exceptions import PayloadError, StorageCorruptError
from .loggers import get_logger
from .observing.carrying import KEY as CARRIED
from .payloads import MISSING, Decoder, checksum
from .records import dataclass

logger = get_logger("agent_messaging.delivery")


class Sealed(Protocol):
    """A row with a body."""

    @property
    def content(self) -> str:
        """JSON text."""
        ...

    @property
    def metadata(self) -> str | None:
        """JSON text of an object."""
        ...

    @property
    def checksum(self) -> int:
        """The crc32 of both, as `payloads.checksum` computes it."""
        ...


@dataclass(frozen=True, slots=True)
class Body:
    """A stored body as plain JSON values."""

    content: Any
    metadata: dict[str, Any] = field(default_factory=dict)
    is_damaged: bool = False
    """The body cannot be read, or is not what was stored; the content is None."""


def verify_body(sealed: Sealed, name: str) -> None:
    """Compare a body with its checksum.

    Args:
        name: The owner of the body, for the error: "message 0198…".

    Raises:
        StorageCorruptError: It is not what was stored.
    """
    try:
        is_whole = checksum(sealed.content, sealed.metadata) == sealed.checksum
    except (AttributeError, ValueError):  # no text at all
        is_whole = False
    if not is_whole:
        raise _damaged(name, "its checksum does not match")


def open_metadata(sealed: Sealed, name: str) -> dict[str, Any]:
    """Open the metadata alone, where the content is opened elsewhere.

    Raises:
        StorageCorruptError: There are some, and the body is not what was stored, or they are no object.
    """
    if sealed.metadata is None:
        return {}
    verify_body(sealed, name)
    return _read_metadata(sealed.metadata, name)


def open_body(sealed: Sealed, name: str) -> Body:
    """Open the body as plain JSON values, fresh ones each time.

    Raises:
        StorageCorruptError: It is not what was stored, or no JSON, or its metadata are no object.
    """
    verify_body(sealed, name)
    try:
        content = from_json(sealed.content)
    except ValueError:
        raise _damaged(name, "it is not JSON") from None
    return Body(content, {} if sealed.metadata is None else _read_metadata(sealed.metadata, name))


def open_as(sealed: Sealed, name: str, decoder: Decoder, annotation: Any = MISSING, *, field: str = "message") -> Any:
    """Open the content as the type that an annotation asks for.

    Raises:
        StorageCorruptError: As of `open_body`.
        PayloadError, InvalidArgumentError: As of `Decoder.decode`.
    """
    verify_body(sealed, name)
    try:
        return decoder.decode(sealed.content, annotation, field=field)
    except PayloadError:
        open_body(sealed, name)  # text that is no JSON fits no type either, and is damage
        raise


def open_or_mark(sealed: Sealed, name: str) -> Body:
    """Open the body for a list. A damaged one is marked, with a line in the log, so that it hides no others."""
    try:
        return open_body(sealed, name)
    except StorageCorruptError as error:
        logger.warning("%s", error)
        return Body(None, is_damaged=True)


def _read_metadata(text: str, name: str) -> dict[str, Any]:
    try:
        metadata = from_json(text)
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict):
        raise _damaged(name, "its metadata are no JSON object")
    metadata.pop(CARRIED, None)
    return metadata


def _damaged(name: str, problem: str) -> StorageCorruptError:
    return StorageCorruptError(
        f"The stored payload of {name} is damaged: {problem}.",
        remedy="Run `agent-messaging doctor --deep`, and restore the store from a backup.",
    )
