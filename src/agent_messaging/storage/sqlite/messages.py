"""Messages as records in SQLite: pages, unread marks and counts."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import apsw

from ...models import Kind
from ..ports import EVERYTHING, MessageRow, Narrowing, Role
from ..sql import Queries
from .clock import StoreClock
from .engine import Engine, fetch, fetch_page
from .rows import encode, message_row, narrow

_SQL = Queries(__package__, "messages")


class SQLiteMessages:
    """See `ports.MessageStore`."""

    def __init__(self, engine: Engine, clock: StoreClock) -> None:
        self._engine = engine
        self._clock = clock

    async def find_seq(self, message_id: str) -> int | None:
        found: int | None = await self._engine.read(lambda con: con.execute(_SQL["find_seq"], {"id": message_id}).get)
        return found

    async def find_message(self, message_id: str) -> MessageRow | None:
        rows = await self._engine.read(lambda con: fetch(con, _SQL["find_message"], {"id": message_id}))
        return message_row(rows[0]) if rows else None

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
        parameters: dict[str, Any] = {
            "agent": agent_id,
            "kind": kind,
            "limit": limit,
            "offset": offset,
            "before": before_id,
            "other": other_id,
            **narrow(narrowing),
        }
        name = "list_messages_sent"
        if role is Role.SENDER:
            parameters["unread"] = unread_only
        else:
            name = "list_messages_unread" if unread_only else "list_messages_received"
        if after_seq is not None:
            name += "_after"
            parameters["after_seq"] = after_seq
        rows = await self._engine.read(lambda con: fetch_page(con, _SQL[name], parameters))
        return [message_row(row) for row in rows]

    async def mark_read(
        self,
        recipient_id: str,
        kind: Kind,
        *,
        sender_id: str | None = None,
        message_ids: Collection[str] | None = None,
        now: datetime | None = None,
    ) -> int:
        parameters = {"recipient": recipient_id, "kind": kind, "at": self._clock.now(now).at}
        if message_ids is None:
            sql = _SQL["mark_read"]
            parameters["sender"] = sender_id
        else:
            sql = _SQL["mark_read_these"]
            parameters["ids"] = encode([*message_ids])

        def mark(connection: apsw.Connection) -> int:
            connection.execute(sql, parameters)
            return connection.changes()

        return await self._engine.write(mark)

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
        name = f"count_messages_{which}" if other_id is None and narrowing == EVERYTHING else f"count_narrowed_{which}"
        parameters = {"agent": agent_id, "kind": kind, "read": read, "other": other_id, **narrow(narrowing)}
        return int(await self._engine.read(lambda con: con.execute(_SQL[name], parameters).get))
