"""Messages as records in SQLite: pages, unread marks and counts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import apsw

from ...models import Kind
from ..ports import MessageRow, Role
from ..sql import Queries
from .clock import StoreClock, to_microseconds
from .engine import Engine, fetch_page
from .rows import encode, message_row

_SQL = Queries(__package__, "messages")


class SQLiteMessages:
    """See ports.MessageStore."""

    def __init__(self, engine: Engine, clock: StoreClock) -> None:
        self._engine = engine
        self._clock = clock

    async def list_messages(
        self,
        agent_id: str,
        role: Role,
        kind: Kind,
        *,
        limit: int,
        offset: int = 0,
        unread_only: bool = False,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        after_seq: int | None = None,
        needles: Sequence[str] = (),
        before_id: str | None = None,
    ) -> list[MessageRow]:
        parameters: dict[str, Any] = {
            "agent": agent_id,
            "kind": kind,
            "limit": limit,
            "offset": offset,
            "from": None if date_from is None else to_microseconds(date_from),
            "to": None if date_to is None else to_microseconds(date_to),
        }
        name = "list_messages_sent"
        if role is Role.SENDER:
            parameters["unread"] = unread_only
        else:
            name = "list_messages_unread" if unread_only else "list_messages_received"
        if after_seq is None:
            parameters |= {"needles": encode(needles) if needles else None, "before": before_id}
        else:
            name += "_after"
            parameters["after_seq"] = after_seq
        rows = await self._engine.read(lambda con: fetch_page(con, _SQL[name], parameters))
        return [message_row(row) for row in rows]

    async def mark_read(
        self, recipient_id: str, kind: Kind, *, sender_id: str | None = None, now: datetime | None = None
    ) -> int:
        parameters = {"recipient": recipient_id, "kind": kind, "sender": sender_id, "at": self._clock.now(now).at}

        def mark(connection: apsw.Connection) -> int:
            connection.execute(_SQL["mark_read"], parameters)
            return connection.changes()

        return await self._engine.write(mark)

    async def count_messages(self, agent_id: str, role: Role, kind: Kind, *, read: bool | None = None) -> int:
        name = "count_messages_sent" if role is Role.SENDER else "count_messages_received"
        parameters = {"agent": agent_id, "kind": kind, "read": read}
        return int(await self._engine.read(lambda con: con.execute(_SQL[name], parameters).get))
