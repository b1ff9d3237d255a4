"""Deliveries: the port, and its shorter statements. `append` stores; `claims` claims and settles."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ...models import DeliveryState, Kind
from ..aside import read_log
from ..batches import MAX_BYTES
from ..ports import (
    Advanced,
    AppendOutcome,
    Claim,
    ClaimedDelivery,
    ClaimRequest,
    DeadRow,
    DeliveryStatistics,
    NewGroup,
    ReceiptRow,
    Settled,
    Settlement,
    Settling,
)
from ..sql import Queries
from . import asks, claims, floors
from .append import Appender
from .engine import Connection, Engine
from .floors import Floors
from .processes import lock_claims

_SQL = Queries(__package__, "deliveries")

_AT_ONCE = 1_000
"""Rows of one kind that `advance` changes in one transaction. If there may be more, it is due again at once."""

_LONG = 120.0
"""Seconds for a statement that may concern a whole store."""


class PostgresDeliveries:
    """See `ports.DeliveryStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._appender = Appender(engine)
        self._floors = Floors(engine)
        self.most_bytes = MAX_BYTES

    async def append(
        self,
        groups: Sequence[NewGroup],
        *,
        owner: str,
        repeat: bool = False,
        budget: float | None = None,
        now: datetime | None = None,
    ) -> list[AppendOutcome]:
        if not groups:
            return []
        return await self._appender.append(groups, owner=owner, repeat=repeat, budget=budget, now=now)

    async def find_repeat(
        self, sender_id: str, call: str, idempotency_key: str, fingerprint: str
    ) -> AppendOutcome | None:
        return await self._appender.find_repeat((sender_id, call, idempotency_key), fingerprint)

    async def claim(
        self, requests: Sequence[ClaimRequest], *, owner: str, now: datetime | None = None
    ) -> list[ClaimedDelivery]:
        return (await self.settle((), requests, owner=owner, now=now)).claimed

    async def settle(
        self,
        settlements: Sequence[Settlement],
        requests: Sequence[ClaimRequest] = (),
        *,
        owner: str,
        now: datetime | None = None,
    ) -> Settled:
        wanted = [request for request in requests if request.limit > 0]
        if not settlements and not wanted:
            return Settled([], set(), [])
        rounds = claims.rounds_of(settlements)
        await self._floors.raise_if_due()
        done = await self._engine.run(
            lambda connection: claims.exchange(connection, rounds, wanted, owner, now, self.most_bytes),
            write=True,
            single=len(rounds) <= 1,
            # Settling alone answers a repeat as the first time; a claim would be lost by it.
            repeatable=not wanted,
        )
        self._floors.ended(seq for seq, _, how in done.moved if how in (Settling.DONE, Settling.DEAD))
        moved = [claims.key_of(settlement) in done.moved for settlement in settlements]
        return Settled(moved, done.origins, done.claimed, done.asks)

    async def list_claims(self, owner: str) -> list[Claim]:
        async def work(connection: Connection) -> list[Any]:
            await lock_claims(connection, [owner])
            return list(await connection.fetch(_SQL["list_claims"], owner))

        await self._engine.outlast()
        rows = await self._engine.run(work, write=True, repeatable=True)
        return [Claim(row["seq"], row["token"], row["attempt"]) for row in rows]

    async def find_waiting(self, now: datetime | None = None) -> list[tuple[str, Kind]]:
        return self._engine.aside.all(
            _waiting, await self._engine.fetch(_SQL["find_waiting"], now), "what waits for an agent"
        )

    async def advance(self, now: datetime | None = None) -> Advanced:
        next_in = await self._find_next(now)
        if next_in is None or next_in > 0:
            return Advanced(0, set(), 0, next_in)

        async def work(connection: Connection) -> Advanced:
            # In the order that the port names.
            origins = await asks.time_out(connection, _AT_ONCE, now)
            released = await connection.fetch(_SQL["advance_release"], now, _AT_ONCE)
            failed, others = await asks.follow(connection, released, "claim ended", now)
            origins |= others | {ask.origin for ask in failed if ask.origin is not None}
            expired = await connection.fetch(_SQL["advance_expire"], now, _AT_ONCE)
            origins |= {row["origin"] for row in expired if row["origin"] is not None}
            due = [row["seq"] for row in await connection.fetch(_SQL["advance_due"], now, _AT_ONCE)]
            await floors.lower(connection, due)
            return Advanced(len(due), origins, len(released), None, [row["message_id"] for row in expired])

        advanced = await self._engine.run(work, write=True)
        return replace(advanced, next_in=await self._find_next(now))

    async def _find_next(self, now: datetime | None) -> float | None:
        (row,) = await self._engine.fetch(_SQL["advance_next"], now)
        return None if row["next_in"] is None else max(row["next_in"], 0.0)

    async def withdraw(self, message_ids: Collection[str]) -> list[str]:
        rows = await self._engine.change(_SQL["withdraw"], list(message_ids))
        return [row["message_id"] for row in rows]

    async def list_receipts(self, message_ids: Collection[str]) -> list[ReceiptRow]:
        rows = await self._engine.fetch(_SQL["list_receipts"], list(message_ids))
        return self._engine.aside.all(_receipt, rows, "a delivery")

    async def list_dead(self, recipient_id: str | None, limit: int, offset: int) -> list[DeadRow]:
        if recipient_id is None:
            rows = await self._engine.fetch(_SQL["list_dead"], limit, offset)
        else:
            rows = await self._engine.fetch(_SQL["list_dead_of"], recipient_id, limit, offset)
        return self._engine.aside.all(_dead, rows, "a dead letter")

    async def redrive(self, message_ids: Collection[str] | None, recipient_id: str | None) -> list[tuple[str, str]]:
        ids = None if message_ids is None else list(message_ids)

        async def work(connection: Connection) -> list[Any]:
            rows: list[Any] = await connection.fetch(_SQL["redrive"], ids, recipient_id)
            await floors.lower(connection, [row["seq"] for row in rows])
            return rows

        rows = await self._engine.run(work, write=True, budget=_LONG)
        return [(row["message_id"], row["recipient_id"]) for row in rows]

    async def statistics(self, now: datetime | None = None) -> DeliveryStatistics:
        counts = await self._engine.fetch(_SQL["statistics_counts"])
        queued = await self._engine.fetch(_SQL["statistics_queued"], now)
        claimed = await self._engine.fetch(_SQL["statistics_claimed"], now)
        return DeliveryStatistics(
            counts=self._engine.aside.counts(DeliveryState, {row["state"]: row["count"] for row in counts}),
            oldest_queued_age=max(queued[0]["age"], 0.0) if queued else None,
            oldest_queued_recipient_id=queued[0]["recipient_id"] if queued else None,
            oldest_claim_age=max(claimed[0]["age"], 0.0) if claimed else None,
        )


def _waiting(row: Any) -> tuple[str, Kind]:
    return row["recipient_id"], Kind(row["kind"])


def _receipt(row: Any) -> ReceiptRow:
    return ReceiptRow(
        message_id=row["message_id"],
        sender_id=row["sender_id"],
        recipient_id=row["recipient_id"],
        kind=Kind(row["kind"]),
        state=DeliveryState(row["state"]),
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        token=row["token"],
        created_at=row["created_at"],
        deliver_at=row["deliver_at"],
        expires_at=row["expires_at"],
        claimed_at=row["claimed_at"],
        settled_at=row["settled_at"],
        read_at=row["read_at"],
        owner=row["owner"],
        log=read_log(row["log"], dict),
    )


def _dead(row: Any) -> DeadRow:
    return DeadRow(
        message_id=row["message_id"],
        sender_id=row["sender_id"],
        recipient_id=row["recipient_id"],
        kind=Kind(row["kind"]),
        content=row["content"],
        metadata=row["metadata"],
        checksum=row["checksum"],
        attempt=row["attempt"],
        created_at=row["created_at"],
        died_at=row["died_at"],
        log=read_log(row["log"], dict),
        topic=row["topic"],
    )
