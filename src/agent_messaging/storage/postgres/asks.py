"""What becomes of asks and their messages when deliveries end or return to the queue, whichever call does it.

Each of these is a statement after the one that moved the deliveries, in the same transaction: sql/asks.sql says why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from ...models import AskState, Kind
from ..ports import EndedAsk
from ..sql import Queries
from .engine import Connection

_SQL = Queries(__package__, "asks")


async def settle_deliveries(connection: Connection, seqs: Sequence[int], now: datetime | None) -> set[str]:
    """End the queued deliveries of these whose ask is not open; returns the processes that stored them."""
    if not seqs:
        return set()
    rows = await connection.fetch(_SQL["asks_settle_deliveries"], seqs, now)
    return {row["origin"] for row in rows if row["origin"] is not None}


async def fail(
    connection: Connection, dead: Sequence[tuple[int, str | None, bool]], now: datetime | None
) -> list[EndedAsk]:
    """End the open asks of these deliveries (seq, reason, whether they became dead now and not before) as failed."""
    if not dead:
        return []
    seqs, reasons, moves = zip(*dead, strict=True)
    rows = await connection.fetch(_SQL["asks_fail"], seqs, reasons, moves, now)
    return [EndedAsk(row["ask_id"], AskState.FAILED, row["origin"]) for row in rows]


async def follow(
    connection: Connection, moved: Iterable[Any], reason: str, now: datetime | None
) -> tuple[list[EndedAsk], set[str]]:
    """After claims were lost or given back: what `fail` and `settle_deliveries` answer for what moved."""
    talks = [row for row in moved if row["kind"] == Kind.CONVERSATION]
    failed = await fail(connection, [(row["seq"], reason, True) for row in talks if row["state"] == "dead"], now)
    return failed, await settle_deliveries(connection, [row["seq"] for row in talks if row["state"] == "queued"], now)


async def leave(connection: Connection, process_ids: Collection[str], now: datetime | None) -> None:
    """End what ended processes were waiting for: their waits, and their asks unless a repeat may join them."""
    ids = list(process_ids)
    while rows := await connection.fetch(_SQL["asks_cancel_of_processes"], ids, now):
        await settle_deliveries(connection, [row["seq"] for row in rows if row["is_ended"]], now)
    await connection.execute(_SQL["waits_remove_of_processes"], ids)


async def find_workers(connection: Connection, seqs: Sequence[int]) -> set[str]:
    """The processes at work on these."""
    return {row["owner"] for row in await connection.fetch(_SQL["asks_find_workers"], seqs)} if seqs else set()


async def time_out(connection: Connection, limit: int, now: datetime | None) -> set[str]:
    """End the open asks whose deadline is over.

    Returns:
        The processes that asked, are at work on one, or stored what expired with it.
    """
    rows = await connection.fetch(_SQL["asks_time_out"], now, limit)
    seqs = [row["seq"] for row in rows]
    processes = await find_workers(connection, seqs) | {row["origin"] for row in rows if row["origin"] is not None}
    return processes | await settle_deliveries(connection, seqs, now)
