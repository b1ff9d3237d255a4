"""Rows of which no record can be made, whoever wrote them: set aside, with one line in the log.

They are never in the way of others. A message stays in its place as a record whose body is damaged, so that pages keep
their lengths, and whoever would handle it makes it a dead letter. Anything else is left out of lists, and is an error
where it alone was asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic_core import from_json

from ..exceptions import StorageCorruptError
from ..models import AskState, Kind, MessageType
from .ports import MessageRow

R = TypeVar("R")

UNREADABLE = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError)
"""What making a record raises where a row is not of the form that the SDK writes."""
NO_CHECKSUM = -1
"""The checksum of a body that was not even read: no body has it."""
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_REMEMBERED = 1_000
_LONGEST = 1e11
"""Seconds; some three thousand years."""
_logger = logging.getLogger("agent_messaging.storage")


class Aside:
    """What one store has set aside. A row that is looked at again and again is told of once."""

    def __init__(self) -> None:
        self._told: dict[str, None] = {}

    def tell(self, what: str, problem: object) -> None:
        """Write a line into the log, unless it was written before.

        Args:
            what: Which row, as "the session 0198…".
            problem: Why it cannot be read; it quotes no payload.
        """
        text = f"{what} cannot be read and is passed over: {problem}"
        if text in self._told:
            return
        if len(self._told) >= _REMEMBERED:
            del self._told[next(iter(self._told))]
        self._told[text] = None
        _logger.error("%s. Run `agent-messaging doctor --deep`.", text)

    def all(self, make: Callable[[Any], R], rows: Iterable[Any], what: str) -> list[R]:
        """The records of these rows, without those of which none can be made. `what` names one: "a session"."""
        rows = list(rows)
        try:
            return [make(row) for row in rows]
        except UNREADABLE:
            return [record for row in rows if (record := self.one(make, row, what)) is not None]

    def one(self, make: Callable[[Any], R], row: Any, what: str) -> R | None:
        """The record of this row, or None if none can be made of it."""
        try:
            return make(row)
        except UNREADABLE as error:
            self.tell(f"{what} ({first_of(row)})", error)
            return None


def read(make: Callable[[Any], R], row: Any, what: str) -> R:
    """The record of the one row that was asked for.

    Raises:
        StorageCorruptError: None can be made of it.
    """
    try:
        return make(row)
    except UNREADABLE as error:
        raise StorageCorruptError(
            f"What is stored of {what} ({first_of(row)}) cannot be read: {error}. "
            "Run `agent-messaging doctor --deep`, and restore the store from a backup."
        ) from error


def read_log(text: str | None, make: Callable[[dict[str, Any]], dict[str, object]]) -> list[dict[str, object]]:
    """What went wrong with a delivery so far; one entry says so where that cannot be read."""
    if text is None:
        return []
    try:
        return [make(entry) for entry in from_json(text)]
    except UNREADABLE:
        return [{"event": "unreadable", "reason": "What went wrong before cannot be read any more."}]


def seconds(value: float | None) -> float | None:
    """A time that turns or runs may take.

    Raises:
        ValueError: It is none.
    """
    if value is not None and not 0 <= value < _LONGEST:
        raise ValueError(f"{value!r} is no number of seconds")
    return value


def ask_state(state: str, reason: str | None) -> tuple[AskState, str | None]:
    """How an ask stands, and why. One of which nobody knows how it stands has failed."""
    try:
        return AskState(state), reason
    except ValueError:
        return AskState.FAILED, "what is stored of the ask cannot be read: run `agent-messaging doctor --deep`"


def damaged_message(
    seq: int,
    id: object,
    kind: str,
    sender_id: object,
    recipient_id: object,
    *,
    read_at: datetime | None,
    session_id: str | None,
) -> MessageRow:
    """A message of whose row no record can be made, as one whose body is damaged.

    Args:
        seq: Its place.
        id: Its id; as it is, like the ids of the agents.
        kind: A note's, where there is no such kind.
        sender_id: Who sent it.
        recipient_id: Who gets it.
        read_at: When it was read.
        session_id: Its session.
    """
    known = Kind.ONE_WAY
    with suppress(ValueError):
        known = Kind(kind)
    recipient = None if recipient_id is None else str(recipient_id)
    return MessageRow(
        seq=seq,
        message_id=str(id),
        kind=known,
        sender_id=str(sender_id),
        recipient_id=recipient,
        content="",
        metadata=None,
        checksum=NO_CHECKSUM,
        created_at=_NEVER,
        read_at=read_at,
        session_id=session_id,
        message_type=MessageType.USER_DEFINED,
    )


def first_of(row: Any) -> object:
    """The first column, which names a row, in quotes."""
    with suppress(*UNREADABLE):
        return repr(next(iter(row.values())) if hasattr(row, "values") else row[0])
    return "?"
