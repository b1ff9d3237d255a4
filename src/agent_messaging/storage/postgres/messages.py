"""Messages as records: pages, counts, and the mark that they were read.

Following (`after_seq`) is exact although transactions commit in another order than they take their numbers: a page ends
before anything that a transaction still in flight might precede, and waits a moment for that to end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from ...models import Kind, MessageType
from ..aside import damaged_message
from ..ports import EVERYTHING, MAIN, MessageRow, Narrowing, Role
from ..sql import Queries
from .engine import Engine

_SQL = Queries(__package__, "messages")

_LONG = 120.0
"""Seconds that counting and marking many messages may take."""
_PATIENCE = 1.0
"""Seconds to wait for transactions in flight before a page is returned without what follows them."""
_GLANCE = 0.01


class PostgresMessages:
    """See `ports.MessageStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def find_seq(self, message_id: str) -> int | None:
        rows = await self._engine.fetch(_SQL["find_seq"], message_id)
        return rows[0]["seq"] if rows else None

    async def find_message(self, message_id: str) -> MessageRow | None:
        rows = await self._engine.fetch(_SQL["find_message"], message_id)
        return to_message(rows[0]) if rows else None

    async def list_messages(
        self,
        agent_id: str,
        role: Role,
        kind: Kind,
        *,
        limit: int,
        offset: int = 0,
        unread_only: bool = False,
        after_seq: int | None = None,
        before_id: str | None = None,
        other_id: str | None = None,
        narrowing: Narrowing = EVERYTHING,
    ) -> list[MessageRow]:
        values: list[Any] = [agent_id, str(kind), limit, offset, narrowing.date_from, narrowing.date_to]
        sent = role is Role.SENDER
        name = "list_messages_sent" if sent else "list_messages_unread" if unread_only else "list_messages_received"
        if sent:
            values.append(unread_only)
        if after_seq is None:
            needles, states = list(narrowing.needles) or None, spell(narrowing.states)
            rows = await self._engine.fetch(_SQL[name], *values, needles, before_id, states, other_id)
        else:
            rows = await self._follow(f"{name}_after", role, *values, after_seq)
        return [to_message(row) for row in rows]

    async def _follow(self, name: str, role: Role, *values: Any) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE
        limit = values[2]
        while True:
            # It is asked before the page, which then has everything that is not held back now.
            (glance,) = await self._engine.fetch(_SQL["list_messages_held_back"], values[0], str(role), values[1])
            rows = await self._engine.fetch(_SQL[name], *values)
            if not glance["held_back"] or len(rows) >= limit or loop.time() >= deadline:
                return rows
            await asyncio.sleep(_GLANCE)

    async def mark_read(
        self,
        recipient_id: str,
        kind: Kind,
        *,
        sender_id: str | None = None,
        message_ids: Collection[str] | None = None,
        now: datetime | None = None,
    ) -> int:
        values: tuple[Any, ...]
        if message_ids is None:
            name, values = "mark_read", (recipient_id, str(kind), sender_id, now)
        else:
            name, values = "mark_read_these", (recipient_id, str(kind), list(message_ids), now)
        rows = await self._engine.run(
            lambda connection: connection.fetch(_SQL[name], *values), write=True, budget=_LONG
        )
        return int(rows[0]["number"])

    async def count_messages(
        self,
        agent_id: str,
        role: Role,
        kind: Kind,
        *,
        read: bool | None = None,
        other_id: str | None = None,
        narrowing: Narrowing = EVERYTHING,
    ) -> int:
        which = "sent" if role is Role.SENDER else "unread" if read is False else "received"
        values: list[Any] = [agent_id, str(kind)]
        if other_id is not None or narrowing != EVERYTHING:
            dates, needles = (narrowing.date_from, narrowing.date_to), list(narrowing.needles) or None
            values += [read, *dates, needles, spell(narrowing.states), other_id]
            rows = await self._engine.fetch(_SQL[f"count_narrowed_{which}"], *values, budget=_LONG)
        else:
            if which != "unread":
                values.append(read)
            rows = await self._engine.fetch(_SQL[f"count_messages_{which}"], *values)
        return int(rows[0]["count"])


def spell(words: Sequence[StrEnum] | None) -> list[str] | None:
    """Words of an enum as a parameter; None is any."""
    return None if words is None else [str(word) for word in words]


def narrow(narrowing: Narrowing) -> tuple[Any, ...]:
    """What of a list is wanted, as parameters of the listings of sessions and meetings."""
    return narrowing.date_from, narrowing.date_to, spell(narrowing.types), list(narrowing.needles) or None


def to_message(row: Any) -> MessageRow:
    """A row of any query that reads messages as records; a damaged one, where no record can be made of it."""
    try:
        named = {"kind": Kind(row["kind"]), "message_type": MessageType(row["message_type"])}
        return MessageRow(**{**row, **named, "thread": row.get("thread") or MAIN})
    except ValueError:
        place, agents = (row["seq"], row["message_id"], row["kind"]), (row["sender_id"], row["recipient_id"])
        return damaged_message(*place, *agents, read_at=row["read_at"], session_id=row["session_id"])
