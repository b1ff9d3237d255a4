"""Claiming and settling: two statements find and take, one settles, all in one transaction.

Settling needs more statements only where a run answers, or does not end with `done`: these concern asks (`asks`).

Taking is safe in two steps. The first finds candidates and locks their lanes (and, for suspects, their recipients) with
advisory locks of the transaction; the second has a later snapshot, sees what the last holder of those locks committed,
and judges again while nobody else can claim there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field
from datetime import datetime

from ...models import AskState, Kind
from ...records import dataclass
from ..ports import (
    CLAIM_MARGIN,
    Claim,
    ClaimedDelivery,
    ClaimRequest,
    EndedAsk,
    NewAnswer,
    Settlement,
    Settling,
    TurnRef,
)
from ..sql import Queries
from . import asks
from .engine import Connection

_SQL = Queries(__package__, "deliveries")
_ASKS = Queries(__package__, "asks")

_MOST_LANES = 256
"""Candidates in one call: each holds an advisory lock until the commit, and the server's room for locks is limited."""

_ID = 36
"""Characters of an agent's id, with which a lane begins; see `ports.lane_of`."""


async def settle(connection: Connection, settlements: list[Settlement], owner: str, now: datetime | None) -> Ended:
    """End the claims that are still the newest; no settlement is said twice."""
    ended = Ended()
    for round in _rounds(settlements):
        await _settle(connection, round, ended, owner, now)
    return ended


def key_of(settlement: Settlement) -> tuple[int, int, Settling]:
    """Equal for repeats."""
    return settlement.claim.seq, settlement.claim.token, settlement.how


def _rounds(settlements: list[Settlement]) -> Iterator[list[Settlement]]:
    """All of them, each claim once in a round: what else a call says of a claim is judged by what came of it."""
    while settlements:
        round: dict[int, Settlement] = {}
        for settlement in settlements:
            round.setdefault(settlement.claim.seq, settlement)
        yield [*round.values()]
        settlements = [settlement for settlement in settlements if round[settlement.claim.seq] is not settlement]


@dataclass(slots=True)
class Ended:
    """What the settlements did."""

    moved: set[tuple[int, int, Settling]] = field(default_factory=set)
    origins: set[str] = field(default_factory=set)
    asks: list[EndedAsk] = field(default_factory=list)


async def _settle(
    connection: Connection, settlements: list[Settlement], ended: Ended, owner: str, now: datetime | None
) -> None:
    answering = [s.claim.seq for s in settlements if s.answer is not None and s.how is Settling.DONE]
    if answering:
        await connection.execute(_ASKS["answers_lock_sessions"], answering)
    rows = await connection.fetch(
        _SQL["settle"],
        [settlement.claim.seq for settlement in settlements],
        [settlement.claim.token for settlement in settlements],
        [str(settlement.how) for settlement in settlements],
        [settlement.delay if settlement.how is Settling.RETRY else 0.0 for settlement in settlements],
        [settlement.reason for settlement in settlements],
        [settlement.how.event for settlement in settlements],
        now,
        [settlement.answer is not None for settlement in settlements],
    )
    talks: list[tuple[Settlement, bool]] = []
    for row in rows:
        settlement = settlements[row["position"] - 1]
        ended.moved.add(key_of(settlement))
        if row["final"] and row["origin"] is not None:
            ended.origins.add(row["origin"])
        if row["kind"] == Kind.CONVERSATION:
            talks.append((settlement, row["moves"]))
    dead = [(s.claim.seq, s.reason, moves) for s, moves in talks if s.how is Settling.DEAD]
    queued = [s.claim.seq for s, moves in talks if moves and s.how in (Settling.RETRY, Settling.RETURNED)]
    ended.asks += await asks.fail(connection, dead, now)
    ended.origins |= await asks.settle_deliveries(connection, queued, now)
    answers = [(s.answer, s.claim.seq, moves) for s, moves in talks if s.how is Settling.DONE and s.answer is not None]
    if answers:
        await _answer(connection, answers, ended, owner, now)


async def _answer(
    connection: Connection,
    answers: list[tuple[NewAnswer, int, bool]],
    ended: Ended,
    owner: str,
    now: datetime | None,
) -> None:
    """Store the answers to these deliveries, where the settlement moved them now, and end what they answer."""
    rows = await connection.fetch(
        _ASKS["answers_insert_messages"],
        [answer.message_id for answer, _, _ in answers],
        [seq for _, seq, _ in answers],
        [answer.content for answer, _, _ in answers],
        [answer.checksum for answer, _, _ in answers],
        [moves for _, _, moves in answers],
        owner,
        now,
    )
    ended.origins |= {row["waiter"] for row in rows if row["waiter"] is not None}
    ended.asks += [
        EndedAsk(row["ask_id"], AskState.REPLIED, row["origin"]) for row in rows if row["ask_id"] is not None
    ]


async def claim(
    connection: Connection, requests: Sequence[ClaimRequest], owner: str, now: datetime | None, most_bytes: int
) -> list[ClaimedDelivery]:
    """Find what the requests may have, and take it; their limits are above zero."""
    candidates: dict[int, tuple[int, int, bool]] = {}  # seq: index of the request, rank, suspect
    for block, ordered in (("claim_lanes", True), ("claim_any", False)):
        chosen = [(index, request) for index, request in enumerate(requests) if request.ordered is ordered]
        if chosen:
            rows = await connection.fetch(
                _SQL[block],
                [request.recipient_id for _, request in chosen],
                [str(request.kind) for _, request in chosen],
                [request.limit for _, request in chosen],
                [None if request.after_lane is None else request.after_lane[:_ID] for _, request in chosen],
                [request.origin for _, request in chosen],
                _MOST_LANES,
                now,
                [None if request.after_lane is None else request.after_lane[_ID:] for _, request in chosen],
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
        [requests[index].run_limit for index, _, _ in candidates.values()],
        owner,
        now,
        [suspect for _, _, suspect in candidates.values()],
        CLAIM_MARGIN,
        most_bytes,
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
            thread=row["thread"],
            ask_timeout=row["ask_timeout"],
            turn=None if row["turn"] is None else TurnRef(row["meeting_id"], row["turn"]),
            topic=row["topic"],
            is_streamed=row["is_streamed"],
        )
        for row in taken
    ]
