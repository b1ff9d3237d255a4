"""Subscriptions in PostgreSQL, and whom a publication goes to.

Publications share one lock from before their match to their commit, and a change of subscriptions holds it alone. So
none is committed in between, and whoever is subscribed at the match is so at the commit. Agents are removed without
that lock, which a removal would hold for long: the match locks their rows instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from .. import topics
from ..ports import NewGroup, SubscriptionRow
from ..sql import Queries
from .engine import Connection, Engine, columns, count_of

_SQL = Queries(__package__, "topics")


class PostgresTopics:
    """See `ports.TopicStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def subscribe(self, agent_id: str, pattern: str, *, now: datetime | None = None) -> bool | None:
        async def work(connection: Connection) -> bool | None:
            # As a rule it is subscribed already, from the start before this one, and needs no lock.
            found = await connection.fetchrow(_SQL["subscribe_find"], pattern, agent_id)
            if not found["known"] or found["subscribed"]:
                return False if found["known"] else None
            await connection.execute(_SQL["topics_lock"])
            if await _change(connection, "subscribe", pattern, agent_id, now):
                return True
            found = await connection.fetchrow(_SQL["subscribe_find"], pattern, agent_id)
            return False if found["known"] else None

        return await self._engine.run(work, write=True)

    async def unsubscribe(self, agent_id: str, pattern: str) -> bool:
        async def work(connection: Connection) -> bool:
            await connection.execute(_SQL["topics_lock"])
            return await _change(connection, "unsubscribe", pattern, agent_id)

        return await self._engine.run(work, write=True)

    async def list_subscriptions(
        self, agent_id: str | None, patterns: Sequence[str] | None, limit: int, offset: int
    ) -> list[SubscriptionRow]:
        name = "list_subscriptions"
        values: list[object] = [limit, offset]
        if patterns is not None:
            name, values = "list_subscriptions_matching", [*values, agent_id, patterns]
        elif agent_id is not None:
            name, values = "list_subscriptions_of", [*values, agent_id]
        rows = await self._engine.fetch(_SQL[name], *values)
        return [SubscriptionRow(**row) for row in rows]


async def _change(connection: Connection, name: str, *values: object) -> bool:
    return count_of(await connection.execute(_SQL[name], *values)) > 0


async def address(connection: Connection, groups: Sequence[NewGroup], *, repeat: bool) -> None:
    """Find out whom the publications among these go to, and with `repeat` went to. First of all that the call does."""
    if not (ranges := topics.list_ranges(groups)):
        return
    await connection.execute(_SQL["topics_share"])
    publications = [publication for group in groups if (publication := group.publication) is not None]
    patterns = [
        (place, pattern)
        for place, publication in enumerate(publications, 1)
        for pattern in topics.list_patterns(publication.topic)
    ]
    rows = await connection.fetch(
        _SQL["append_find_subscribers"],
        [groups[index].sender_id for index, *_ in ranges],
        [publication.is_internal for publication in publications],
        *columns(patterns, 2),
        topics.MOST + 1,
    )
    subscribers = [(ranges[row["place"] - 1][0], row["agent_id"]) for row in rows]
    stored = await connection.fetch(_SQL["append_find_published"], *columns(ranges, 3)) if repeat else []
    topics.address(groups, subscribers, stored)
