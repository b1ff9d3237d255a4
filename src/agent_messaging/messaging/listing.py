"""Stored messages as the records of the lists that users read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from ..arguments import check_instant, parse_choice, refuse
from ..bodies import open_or_mark
from ..delivery.names import Names
from ..models import MessageType, Record
from ..records import dataclass
from ..search.metadata import MetadataFilter, make_filter
from ..storage.ports import MessageRow

R = TypeVar("R")
DAMAGED = "StorageCorruptError: The stored payload is damaged. Run `agent-messaging doctor --deep`."
"""The reason of a dead letter."""


PAGE = 1_000
"""Rows asked for at once."""


async def read_all(read: Callable[[list[R], int], Awaitable[list[R]]]) -> list[R]:
    """Read page by page; `read` is given what was read so far, and the most that it may answer."""
    rows: list[R] = []
    while True:
        page = await read(rows, PAGE)
        rows += page
        if len(page) < PAGE:
            return rows


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages of a list are wanted; None is any."""

    date_from: datetime | None = None
    date_to: datetime | None = None
    """Both inclusive."""
    message_types: frozenset[MessageType] | None = None
    metadata: MetadataFilter | None = None

    def fits(self, row: MessageRow) -> bool:
        """Whether it is wanted. Nothing is known of the metadata of a damaged message, so no filter fits them."""
        if self.date_from is not None and row.created_at < self.date_from:
            return False
        if self.date_to is not None and row.created_at > self.date_to:
            return False
        if self.message_types is not None and row.message_type not in self.message_types:
            return False
        if self.metadata is None:
            return True
        body = open_or_mark(row, f"message {row.message_id}")
        return not body.is_damaged and self.metadata.fits(body.metadata)

    @property
    def needles(self) -> Sequence[str]:
        """Texts without which no metadata fit, for the store."""
        return () if self.metadata is None else self.metadata.needles


def make_wanted(
    *,
    date_from: datetime | None = None,
    date_to: datetime | None = None,
    message_types: Iterable[MessageType | str] | None = None,
    metadata_filter: Mapping[str, Any] | None = None,
) -> Wanted:
    """Check what a caller wants.

    Raises:
        InvalidArgumentError: An argument is refused; names it.
    """
    types = None
    if message_types is not None:
        if isinstance(message_types, str) or not isinstance(message_types, Iterable):
            raise refuse("message_types", message_types, "must be a list of types, such as ['user_defined'].")
        reason = f"must be one of {', '.join(MessageType)}."
        types = frozenset(parse_choice(MessageType, one, "message_types", reason) for one in message_types)
    return Wanted(
        check_instant(date_from, "date_from"), check_instant(date_to, "date_to"), types, make_filter(metadata_filter)
    )


async def pick(
    read: Callable[[int, int], Awaitable[list[MessageRow]]], wanted: Wanted, *, limit: int, offset: int
) -> list[MessageRow]:
    """Read the page of a list that the store does not filter to the end.

    Args:
        read: Given a limit and an offset, it answers rows of the list.
    """
    picked: list[MessageRow] = []
    seen: set[int] = set()
    place, passed = 0, 0
    while len(picked) < limit:
        page = await read(PAGE, place)
        for row in page:
            if row.seq in seen or not wanted.fits(row):  # what is new meanwhile moves the others on
                continue
            seen.add(row.seq)
            passed += 1
            if offset < passed <= offset + limit:
                picked.append(row)
        place += len(page)
        if len(page) < PAGE:
            break
    return picked


async def to_records(names: Names, rows: Sequence[MessageRow]) -> list[Record]:
    """Turn rows into the mappings that users get, with external ids."""
    agents = await names.find_by_id(
        {row.sender_id for row in rows} | {row.recipient_id for row in rows if row.recipient_id is not None}
    )

    def external(id: str | None) -> str | None:
        return agents[id].external_id if id in agents else None

    def describe(row: MessageRow) -> Record:
        body = open_or_mark(row, f"message {row.message_id}")
        return Record(
            message_id=row.message_id,
            sender_id=external(row.sender_id),
            recipient_id=external(row.recipient_id),
            content=body.content,
            read_at=row.read_at,
            created_at=row.created_at,
            metadata=body.metadata,
            is_damaged=body.is_damaged,
            topic=row.topic,
        )

    return [describe(row) for row in rows]
