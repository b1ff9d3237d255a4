"""Claiming and settling: two statements find and take, one settles, all in one transaction.

Taking is safe in two steps. The first finds candidates and locks their lanes (and, for suspects, their recipients) with
advisory locks of the transaction; the second has a later snapshot, sees what the last holder of those locks committed,
and judges again while nobody else can claim there.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ...models import Kind
from ..ports import (
    CLAIM_MARGIN,
    Claim,
    ClaimedDelivery,
    ClaimRequest,
    Settled,
    Settlement,
    Settling,
)
from ..sql import Queries
from .engine import Connection, Engine

_SQL = Queries(__package__, "deliveries")

_MOST_LANES = 256
"""Candidates in one call: each holds an advisory lock until the commit, and the server's room for locks is limited."""

_EVENTS = {Settling.DONE: None, Settling.RETRY: "failed", Settling.DEAD: "dead", Settling.RETURNED: "returned"}


class Claims:
    """`DeliveryStore.claim` and `settle`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def claim(
        self, requests: Sequence[ClaimRequest], *, owner: str, now: datetime | None
    ) -> list[ClaimedDelivery]:
        wanted = [request for request in requests if request.limit > 0]
        if not wanted:
            return []

        async def work(connection: Connection) -> list[ClaimedDelivery]:
            return await _claim(connection, wanted, owner, now)

        return await self._engine.run(work, write=True)

    async def settle(
        self, settlements: Sequence[Settlement], requests: Sequence[ClaimRequest], *, owner: str, now: datetime | None
    ) -> Settled:
        wanted = [request for request in requests if request.limit > 0]
        first = {(s.claim.seq, s.claim.token): s for s in reversed(settlements)}

        async def work(connection: Connection) -> Settled:
            moved, origins = await _settle(connection, list(first.values()), owner, now) if first else (set(), set())
            claimed = await _claim(connection, wanted, owner, now) if wanted else []
            answers = []
            for settlement in settlements:
                key = (settlement.claim.seq, settlement.claim.token)
                answers.append(key in moved and first[key].how == settlement.how)
            return Settled(answers, origins, claimed)

        if not first and not wanted:
            return Settled([], set(), [])
        # Settling alone answers a repeat as the first time; a claim would be lost by it.
        return await self._engine.run(work, write=True, single=not wanted, repeatable=not wanted)


async def _settle(
    connection: Connection, settlements: list[Settlement], owner: str, now: datetime | None
) -> tuple[set[tuple[int, int]], set[str]]:
    rows = await connection.fetch(
        _SQL["settle"],
        [settlement.claim.seq for settlement in settlements],
        [settlement.claim.token for settlement in settlements],
        [str(settlement.how) for settlement in settlements],
        [settlement.delay if settlement.how is Settling.RETRY else 0.0 for settlement in settlements],
        [settlement.reason for settlement in settlements],
        [_EVENTS[settlement.how] for settlement in settlements],
        owner,
        now,
    )
    claims = [settlements[row["position"] - 1].claim for row in rows]
    moved = {(claim.seq, claim.token) for claim in claims}
    return moved, {row["origin"] for row in rows if row["final"] and row["origin"] is not None}


async def _claim(
    connection: Connection, requests: Sequence[ClaimRequest], owner: str, now: datetime | None
) -> list[ClaimedDelivery]:
    candidates: dict[int, tuple[int, int, bool]] = {}  # seq: index of the request, rank, suspect
    for block, ordered in (("claim_lanes", True), ("claim_any", False)):
        chosen = [(index, request) for index, request in enumerate(requests) if request.ordered is ordered]
        if chosen:
            rows = await connection.fetch(
                _SQL[block],
                [request.recipient_id for _, request in chosen],
                [str(request.kind) for _, request in chosen],
                [request.limit for _, request in chosen],
                [request.after_sender for _, request in chosen],
                [request.origin for _, request in chosen],
                _MOST_LANES,
                now,
            )
            for row in rows:
                index = chosen[row["position"] - 1][0]
                candidates.setdefault(row["seq"], (index, row["step"], row["suspect"]))
    if not candidates:
        return []
    rows = await connection.fetch(
        _SQL["claim_take"],
        list(candidates),
        [requests[index].ordered for index, _, _ in candidates.values()],
        [requests[index].run_limit + CLAIM_MARGIN for index, _, _ in candidates.values()],
        owner,
        now,
        [suspect for _, _, suspect in candidates.values()],
    )
    taken = sorted(rows, key=lambda row: candidates[row["seq"]][:2])
    counts = [0] * len(requests)
    for row in taken:
        counts[candidates[row["seq"]][0]] += 1
    assert all(count <= request.limit for count, request in zip(counts, requests, strict=True)), "over-claimed"
    return [
        ClaimedDelivery(
            claim=Claim(row["seq"], row["token"], row["attempt"]),
            message_id=row["message_id"],
            kind=Kind(row["kind"]),
            sender_id=row["sender_id"],
            recipient_id=row["recipient_id"],
            content=row["content"],
            metadata=row["metadata"],
            checksum=row["checksum"],
            max_attempts=row["max_attempts"],
            created_at=row["created_at"],
            origin=row["origin"],
            session_id=row["session_id"],
        )
        for row in taken
    ]
