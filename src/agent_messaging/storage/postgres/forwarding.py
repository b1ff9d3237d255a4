"""Passing an open ask on: loaded, judged, and written under the locks of a new ask (see `append`)."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from typing import Any

from ...models import AskState, DeliveryState, SessionType
from ..admission import GraphMissing
from ..forwarding import Known, judge
from ..ports import Forwarded, ForwardOutcome, Hop, NewForward
from ..sql import Queries
from .append import ALL_AGENTS, lock_graph
from .engine import Connection, Engine

_SQL = Queries(__package__, "forwarding")
_ASKS = Queries(__package__, "asks")
_DELIVERIES = Queries(__package__, "deliveries")


class PostgresForwarding:
    """See `ports.ForwardingStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def forward(self, forward: NewForward, *, owner: str, now: datetime | None = None) -> ForwardOutcome:
        try:
            return await self._engine.run(
                lambda connection: _forward(connection, forward, owner, now), write=True, repeatable=True
            )
        except _NotDone as answered:
            return answered.outcome

    async def list_hops(self, message_ids: Collection[str]) -> list[Hop]:
        return await self._engine.run(lambda connection: _list_hops(connection, message_ids), write=False)


class _NotDone(Exception):
    """The call is answered without a change: the transaction is to be rolled back."""

    def __init__(self, outcome: ForwardOutcome) -> None:
        self.outcome = outcome


async def _forward(connection: Connection, wanted: NewForward, owner: str, now: datetime | None) -> Forwarded:
    """Pass the ask on; raises `_NotDone` if that is refused, or was done before."""
    known = await _load(connection, wanted, now)
    with suppress(GraphMissing):  # then nothing else speaks against it
        _require(judge(wanted, known, None))
    assert known is not None, "what is no ask was refused"
    first, second = sorted((known.asker_id, wanted.to_id))
    await connection.fetch(
        _ASKS["append_open_sessions"],
        *zip((ALL_AGENTS, False), *sorted([(known.asker_id, True), (wanted.to_id, False)]), strict=True),
        *([value] for value in (wanted.session_id, first, second, known.thread, str(SessionType.SYNC))),
        now,
    )
    await connection.execute(_SQL["forward_lock"], known.seq)
    graph = await lock_graph(connection, {wanted.to_id})
    known = await _load(connection, wanted, now)
    _require(judge(wanted, known, graph))
    assert known is not None, "what is no ask was refused"
    assert known.session_id is not None, "its session was opened"
    await connection.execute(_SQL["forward_keep"], known.seq, wanted.kept_id)
    place = (wanted.to_id, known.session_id)
    new_seq = await connection.fetchval(_SQL["forward_insert_message"], known.seq, wanted.message_id, *place, now)
    await connection.execute(_SQL["forward_insert_delivery"], known.seq, new_seq, wanted.to_id, owner, known.left, now)
    await connection.execute(_SQL["forward_move_ask"], known.seq, new_seq, *place)
    await connection.execute(_SQL["forward_end_delivery"], known.seq, now)
    agents = (known.asker_id, wanted.holder_id, wanted.to_id)
    number = len(known.hops) + 1
    await connection.execute(
        _SQL["forward_insert_hop"], wanted.message_id, number, *agents, wanted.kept_id, known.seq, now
    )
    return Forwarded(known.asker_id, known.session_id, known.left, known.waiters)


def _require(outcome: ForwardOutcome | None) -> None:
    if outcome is not None:
        raise _NotDone(outcome)


async def _load(connection: Connection, wanted: NewForward, now: datetime | None) -> Known | None:
    row = await connection.fetchrow(_SQL["forward_load"], wanted.message_id, wanted.to_id, now)
    if row is None:
        return None
    limit = wanted.mailbox_limit
    counted = [] if limit is None else await connection.fetch(_DELIVERIES["append_count_open"], [wanted.to_id], [limit])
    return Known(
        **{
            **row,
            "state": AskState(row["state"]),
            "place": DeliveryState(row["place"]),
            "waiters": frozenset(row["waiters"]),
        },
        hops=await _list_hops(connection, [wanted.message_id]),
        open=counted[0]["open"] if counted else 0,
    )


async def _list_hops(connection: Connection, message_ids: Collection[str]) -> list[Hop]:
    rows: list[Any] = await connection.fetch(_SQL["list_hops"], list(message_ids))
    return [Hop(**row) for row in rows]
