"""Passing an open ask on: loaded, judged, and written inside a transaction."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import Any

import apsw

from ...models import AskState, DeliveryState, SessionType
from ..admission import GraphMissing
from ..aside import read
from ..forwarding import Known, judge
from ..ports import Forwarded, ForwardOutcome, Hop, NewForward
from ..sql import Queries
from . import pairs
from .clock import SECOND, Instant, StoreClock, to_datetime
from .engine import Engine, fetch
from .filing import file, find_next
from .rows import encode

_SQL = Queries(__package__, "forwarding")
_ASKS = Queries(__package__, "asks")
_DELIVERIES = Queries(__package__, "deliveries")


class SQLiteForwarding:
    """See `ports.ForwardingStore`."""

    def __init__(self, engine: Engine, clock: StoreClock) -> None:
        self._engine = engine
        self._clock = clock

    async def forward(self, forward: NewForward, *, owner: str, now: datetime | None = None) -> ForwardOutcome:
        return await self._engine.write(lambda con: _forward(con, forward, owner, self._clock.now(now)))

    async def list_hops(self, message_ids: Collection[str]) -> list[Hop]:
        return await self._engine.read(lambda con: _list_hops(con, message_ids))


def _forward(connection: apsw.Connection, wanted: NewForward, owner: str, instant: Instant) -> ForwardOutcome:
    """Pass the ask on."""
    known = _load(connection, wanted, instant)
    try:
        outcome = judge(wanted, known, None)
    except GraphMissing:
        outcome = judge(wanted, known, pairs.read_graph(connection, {wanted.to_id}))
    if outcome is not None:
        return outcome
    assert known is not None, "what is no ask was refused"
    session_id = known.session_id or wanted.session_id
    if known.session_id is None:
        opened = (session_id, known.asker_id, wanted.to_id, known.thread, SessionType.SYNC)
        connection.execute(_ASKS["append_open_sessions"], {"rows": encode([opened]), "at": instant.at})
    parameters: dict[str, Any] = {
        "seq": known.seq,
        "message": wanted.message_id,
        "kept": wanted.kept_id,
        "asker": known.asker_id,
        "holder": wanted.holder_id,
        "to": wanted.to_id,
        "session": session_id,
        "number": len(known.hops) + 1,
        "left": known.left,
        "owner": owner,
        "at": instant.at,
        "now": instant.due,
    }
    parameters["new_seq"] = find_next(connection)
    connection.execute(_SQL["forward_keep"], parameters)
    connection.execute(_SQL["forward_insert_message"], parameters)
    for name in ("forward_insert_delivery", "forward_move_ask", "forward_end_delivery", "forward_insert_hop"):
        connection.execute(_SQL[name], parameters)
    file(connection, parameters["new_seq"], parameters["new_seq"])
    return Forwarded(known.asker_id, session_id, known.left, known.waiters)


def _load(connection: apsw.Connection, wanted: NewForward, instant: Instant) -> Known | None:
    parameters = {"message": wanted.message_id, "to": wanted.to_id, "now": instant.due}
    row = fetch(connection, _SQL["forward_load"], parameters)
    if row is None:
        return None
    hops, open = _list_hops(connection, [wanted.message_id]), 0
    if wanted.mailbox_limit is not None:
        counted, _ = fetch(connection, _DELIVERIES["append_count_open"], {"ids": encode([wanted.to_id])})
        open = counted.get(wanted.to_id, 0)
    return read(partial(_known, hops=hops, open=open), row, "the ask")


def _known(row: list[Any], hops: list[Hop], open: int) -> Known:
    seq, asker_id, responder_id, state, within, place, token, thread, left, *of_new_agent = row
    session_id, is_agent, asked_seq, asked_id, chained, waiters = of_new_agent
    return Known(
        seq=seq,
        asker_id=asker_id,
        responder_id=responder_id,
        state=AskState(state),
        within=within,
        left=left / SECOND,
        place=DeliveryState(place),
        token=token,
        thread=thread,
        hops=hops,
        is_agent=bool(is_agent),
        session_id=session_id,
        asked_seq=asked_seq,
        asked_id=asked_id,
        chained=chained,
        waiters=frozenset(waiters),
        open=open,
    )


def _list_hops(connection: apsw.Connection, message_ids: Collection[str]) -> list[Hop]:
    rows = fetch(connection, _SQL["list_hops"], {"ids": encode(list(message_ids))})
    return [_hop(*row) for row in rows]


def _hop(
    message_id: str, number: int, from_id: str, to_id: str, kept_id: str, kept_seq: int, stored_at: int, at: int
) -> Hop:
    return Hop(message_id, number, from_id, to_id, kept_id, kept_seq, to_datetime(stored_at), to_datetime(at))
