"""Subscriptions in SQLite, and whom a publication goes to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import apsw

from .. import topics
from ..ports import NewGroup, SubscriptionRow
from ..sql import Queries
from .clock import StoreClock, to_datetime
from .engine import Engine, fetch
from .rows import encode

_SQL = Queries(__package__, "topics")


class SQLiteTopics:
    """See `ports.TopicStore`."""

    def __init__(self, engine: Engine, clock: StoreClock) -> None:
        self._engine = engine
        self._clock = clock

    async def subscribe(self, agent_id: str, pattern: str, *, now: datetime | None = None) -> bool | None:

        def subscribe(connection: apsw.Connection) -> bool | None:
            parameters = {"agent": agent_id, "pattern": pattern, "at": self._clock.now(now).at}
            is_known, is_subscribed = fetch(connection, _SQL["subscribe_find"], parameters)
            if is_known and not is_subscribed:
                connection.execute(_SQL["subscribe"], parameters)
            return not is_subscribed if is_known else None

        return await self._engine.write(subscribe)

    async def unsubscribe(self, agent_id: str, pattern: str) -> bool:

        def unsubscribe(connection: apsw.Connection) -> bool:
            connection.execute(_SQL["unsubscribe"], {"agent": agent_id, "pattern": pattern})
            return connection.changes() > 0

        return await self._engine.write(unsubscribe)

    async def list_subscriptions(
        self, agent_id: str | None, patterns: Sequence[str] | None, limit: int, offset: int
    ) -> list[SubscriptionRow]:
        name = "list_subscriptions" if agent_id is None else "list_subscriptions_of"
        parameters: dict[str, Any] = {"agent": agent_id, "limit": limit, "offset": offset}
        if patterns is not None:
            name = "list_subscriptions_matching"
            parameters["patterns"] = encode(patterns)
        rows = await self._engine.read(lambda con: fetch(con, _SQL[name], parameters))
        return self._engine.aside.all(_subscription, rows, "a subscription")


def address(connection: apsw.Connection, groups: Sequence[NewGroup], *, repeat: bool) -> None:
    """Find out whom the publications among these go to, and with `repeat` went to.

    One statement, because there is one writer at a time: whoever is subscribed now is so when this commits.
    """
    if not (ranges := topics.list_ranges(groups)):
        return
    publications = [
        (index, groups[index].sender_id, int(published.is_internal), topics.list_patterns(published.topic))
        for index, *_ in ranges
        if (published := groups[index].publication) is not None
    ]
    parameters = {"publications": encode(publications), "most": topics.MOST + 1}
    subscribers = fetch(connection, _SQL["append_find_subscribers"], parameters)
    stored = fetch(connection, _SQL["append_find_published"], {"ranges": encode(ranges)}) if repeat else []
    topics.address(groups, subscribers, stored)


def _subscription(row: list[Any]) -> SubscriptionRow:
    pattern, agent_id, created_at = row
    return SubscriptionRow(pattern, agent_id, to_datetime(created_at))
