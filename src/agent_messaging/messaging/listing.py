"""Stored messages as the records of the lists that users read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from ..arguments import check_flag, check_instant, check_page, parse_choices, parse_id, refuse
from ..bodies import open_or_mark
from ..delivery.names import Names, external_or_none
from ..exceptions import InvalidArgumentError
from ..models import DeliveryState, MessageType, Record
from ..records import dataclass
from ..search.metadata import MetadataFilter, make_filter
from ..storage.ports import DeadRow, MessageRow, MessageStore, Narrowing

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
    """Which messages of a list are wanted."""

    narrowing: Narrowing
    """What the store leaves out."""
    metadata: MetadataFilter | None = None
    """What is judged here, on what the store has found; None is any."""

    def fits(self, row: MessageRow | DeadRow) -> bool:
        """Whether a row that the store has found is wanted. Nothing is known of the metadata of a damaged message."""
        if self.metadata is None:
            return True
        body = open_or_mark(row, f"message {row.message_id}")
        return not body.is_damaged and self.metadata.fits(body.metadata)


def make_wanted(
    *,
    date_from: datetime | None = None,
    date_to: datetime | None = None,
    message_types: Iterable[MessageType | str] | None = None,
    states: Iterable[DeliveryState | str] | None = None,
    metadata_filter: Mapping[str, Any] | None = None,
) -> Wanted:
    """Check what a caller wants.

    Raises:
        InvalidArgumentError: An argument is refused; names it.
    """
    filter = make_filter(metadata_filter)
    narrowing = Narrowing(
        date_from=check_instant(date_from, "date_from"),
        date_to=check_instant(date_to, "date_to"),
        types=parse_choices(MessageType, message_types, "message_types"),
        states=parse_choices(DeliveryState, states, "states"),
        needles=() if filter is None else filter.needles,
    )
    return Wanted(narrowing, filter)


@dataclass(frozen=True, slots=True)
class Place:
    """The part of a list in which a page lies."""

    after_seq: int | None
    before_seq: int | None
    newest_first: bool

    def behind(self, row: MessageRow | None) -> dict[str, Any]:
        """The part of it that follows a row, as stores take it; without a row, all of it."""
        after, before = self.after_seq, self.before_seq
        if row is not None:
            after, before = (after, row.seq) if self.newest_first else (row.seq, before)
        return {"after_seq": after, "before_seq": before, "newest_first": self.newest_first}


async def find_place(
    messages: MessageStore, before: UUID | str | None, after: UUID | str | None, newest_first: bool
) -> Place:
    """Find the part of a list that lies between two messages, neither of them included.

    Raises:
        InvalidArgumentError: One is the id of no message, or newest_first is no flag.
    """
    check_flag(newest_first, "newest_first")

    async def find(id: UUID | str | None, field: str) -> int | None:
        if id is None:
            return None
        seq = await messages.find_seq(parse_id(id, field))
        if seq is None:
            raise refuse_position(field, id)
        return seq

    return Place(await find(after, "after"), await find(before, "before"), newest_first)


def refuse_position(field: str, id: UUID | str) -> InvalidArgumentError:
    """Build the error for a page that would begin at no message."""
    reason = "is the id of no message, or of one that was removed. Pass that of the last one of the page before."
    return refuse(field, str(id), reason)


def check_part(limit: int | None, offset: int) -> None:
    """Refuse a limit that is neither None nor of a page, and an offset that is none."""
    check_page(PAGE if limit is None else limit, offset)


Read = Callable[[int, int, MessageRow | None], Awaitable[list[MessageRow] | None]]
"""Given a limit, a number of rows to pass over, and the row behind which the page begins (None: where the list begins),
it answers rows of the list as the store narrows it; None where that row was removed meanwhile and is needed."""


async def list_wanted(read: Read, wanted: Wanted, *, limit: int | None, offset: int) -> list[MessageRow]:
    """Read the page of a list; without a limit, all of it.

    Args:
        read: Reads a part of it.
        wanted: What the list is narrowed to.
        limit: At most so many.
        offset: So many of those wanted are passed over.
    """
    judged = wanted.metadata is not None
    rows: list[MessageRow] = []
    passed, skipped = (offset, 0) if judged else (0, offset)
    page: list[MessageRow] = []
    while limit is None or len(rows) < limit:
        most = PAGE if limit is None or judged else min(PAGE, limit - len(rows))
        page = await _read_on(read, page, most, skipped)
        for row in page:
            if not wanted.fits(row):
                continue
            if passed:
                passed -= 1
            else:
                rows.append(row)
        if len(page) < most:
            break
        skipped = 0
    return rows if limit is None else rows[:limit]


async def count_wanted(read: Read, wanted: Wanted, counts: Callable[[MessageRow], bool]) -> int:
    """Count the messages of a list that are wanted and count, page by page."""
    number, page = 0, await _read_on(read, [], PAGE, 0)
    while page:
        number += sum(1 for row in page if counts(row) and wanted.fits(row))
        page = await _read_on(read, page, PAGE, 0) if len(page) == PAGE else []
    return number


async def _read_on(read: Read, page: list[MessageRow], most: int, skipped: int) -> list[MessageRow]:
    """The page behind this one: behind its last row that is still there."""
    for last in reversed(page):
        if (found := await read(most, 0, last)) is not None:
            return found
    return [] if page else await read(most, skipped, None) or []


async def to_records(names: Names, rows: Sequence[MessageRow]) -> list[Record]:
    """Turn rows into the mappings that users get, with external ids."""
    agents = await names.find_by_id(
        {row.sender_id for row in rows} | {row.recipient_id for row in rows if row.recipient_id is not None}
    )

    def describe(row: MessageRow) -> Record:
        body = open_or_mark(row, f"message {row.message_id}")
        return Record(
            message_id=row.message_id,
            sender_id=external_or_none(agents, row.sender_id),
            recipient_id=external_or_none(agents, row.recipient_id),
            content=body.content,
            read_at=row.read_at,
            created_at=row.created_at,
            metadata=body.metadata,
            is_damaged=body.is_damaged,
            topic=row.topic,
        )

    return [describe(row) for row in rows]
