"""Stored messages as the records of the lists that users read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ..bodies import open_or_mark
from ..delivery.names import Names
from ..models import Record
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
