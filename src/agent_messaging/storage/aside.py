"""Rows of which no record can be made are set aside, with one line in the log, and are in nobody's way.

A message stays in its place as a record whose body is damaged, so pages keep their lengths; the process that would
handle it makes it a dead letter. Any other row is left out of lists, and is an error where it alone was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic_core import from_json

from ..exceptions import StorageCorruptError
from ..loggers import get_logger
from ..models import AskState, Kind, MessageType
from .ports import MessageRow

R = TypeVar("R")

UNREADABLE = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError)
"""The errors of making a record of a row that the SDK did not write so."""
NO_CHECKSUM = -1
"""The checksum of a body that was not read; no body has it."""
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_REMEMBERED = 1_000
_LONGEST = 1e11
"""Seconds; some three thousand years."""
logger = get_logger("agent_messaging.storage")


class Aside:
    """The rows that one store has set aside. Each of them is logged once, however often it is looked at."""

    def __init__(self) -> None:
        self._told: dict[str, None] = {}

    def tell(self, what: str, problem: object) -> None:
        """Log that the row named `what` ("the session 0198…") cannot be read; `problem` quotes no payload."""
        text = f"{what} cannot be read and is passed over: {problem}"
        if text in self._told:
            return
        if len(self._told) >= _REMEMBERED:
            del self._told[next(iter(self._told))]
        self._told[text] = None
        logger.error("%s. Run `agent-messaging doctor --deep`.", text)

    def all(self, make: Callable[[Any], R], rows: Iterable[Any], what: str) -> list[R]:
        """The records of these rows, without the unreadable ones. `what` names a row: "a session"."""
        rows = list(rows)
        try:
            return [make(row) for row in rows]
        except UNREADABLE:
            return [record for row in rows if (record := self.one(make, row, what)) is not None]

    def one(self, make: Callable[[Any], R], row: Any, what: str) -> R | None:
        """The record of this row, or None where it is unreadable."""
        try:
            return make(row)
        except UNREADABLE as error:
            self.tell(f"{what} ({first_of(row)})", error)
            return None

    def counts(self, states: Callable[[str], R], counted: Mapping[str, int]) -> dict[R, int]:
        """How many rows are in each state, without the unreadable ones."""
        return dict(self.all(lambda item: (states(item[0]), item[1]), counted.items(), "the count of a state"))


def read(make: Callable[[Any], R], row: Any, what: str) -> R:
    """The record of the one row that was asked for.

    Raises:
        StorageCorruptError: The row is unreadable.
    """
    try:
        return make(row)
    except UNREADABLE as error:
        raise StorageCorruptError(
            f"What is stored of {what} ({first_of(row)}) cannot be read: {error}. "
            "Run `agent-messaging doctor --deep`, and restore the store from a backup."
        ) from error


def read_log(text: str | None, make: Callable[[dict[str, Any]], dict[str, object]]) -> list[dict[str, object]]:
    """The entries of a delivery's log; a single entry says so where the log is unreadable."""
    if text is None:
        return []
    try:
        return [make(entry) for entry in from_json(text)]
    except UNREADABLE:
        return [{"event": "unreadable", "reason": "What went wrong before cannot be read any more."}]


def seconds(value: float | None) -> float | None:
    """The value, if it is a time that turns or runs may take.

    Raises:
        ValueError: It is not.
    """
    if value is not None and not 0 <= value < _LONGEST:
        raise ValueError(f"{value!r} is no number of seconds")
    return value


def ask_state(state: str, reason: str | None) -> tuple[AskState, str | None]:
    """The state of an ask and its reason. An ask whose state is unreadable counts as failed."""
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
    """A message whose row is unreadable, as a message whose body is damaged. An unknown kind becomes a note's."""
    known = Kind.ONE_WAY
    with suppress(ValueError):
        known = Kind(kind)
    return MessageRow(
        seq=seq,
        message_id=str(id),
        kind=known,
        sender_id=str(sender_id),
        recipient_id=None if recipient_id is None else str(recipient_id),
        content="",
        metadata=None,
        checksum=NO_CHECKSUM,
        created_at=_NEVER,
        read_at=read_at,
        session_id=session_id,
        message_type=MessageType.USER_DEFINED,
    )


def first_of(row: Any) -> object:
    """The first column of a row, which names it, in quotes."""
    with suppress(*UNREADABLE):
        return repr(next(iter(row.values())) if hasattr(row, "values") else row[0])
    return "?"
