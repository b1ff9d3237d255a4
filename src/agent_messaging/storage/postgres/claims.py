"""Claiming and settling: one call of a function of the server, which is one round trip and one transaction.

Taking is safe in two steps. The first finds candidates and locks their lanes (and, for suspects, their recipients) with
advisory locks of the transaction; the second has a later snapshot, sees what the last holder of those locks committed,
and judges again while nobody else can claim there. Both are statements of that function, which is in
migrations/0001_foundation.sql; settling, and storing the answers of runs, is in another (0002_conversations.sql).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field
from datetime import datetime
from typing import Any

from ...models import AskState, Kind
from ...records import dataclass
from ..ports import CLAIM_MARGIN, Claim, ClaimedDelivery, ClaimRequest, EndedAsk, Settlement, Settling, TurnRef
from ..sql import Queries
from .engine import Connection, columns

_SQL = Queries(__package__, "deliveries")

_MOST_LANES = 256
"""Candidates in one call: each holds an advisory lock until the commit, and the server's room for locks is limited."""

_ID = 36
"""Characters of an agent's id, with which a lane begins; see `ports.lane_of`."""

Key = tuple[int, int, Settling]


@dataclass(slots=True)
class Exchanged:
    """What the settlements did, and what was claimed behind them."""

    moved: set[Key] = field(default_factory=set)
    origins: set[str] = field(default_factory=set)
    asks: list[EndedAsk] = field(default_factory=list)
    claimed: list[ClaimedDelivery] = field(default_factory=list)


def key_of(settlement: Settlement) -> Key:
    """Equal for repeats."""
    return settlement.claim.seq, settlement.claim.token, settlement.how


def rounds_of(settlements: Iterable[Settlement]) -> list[list[Settlement]]:
    """All of them, each claim once in a round: what else a call says of a claim is judged by what came of it."""
    first: dict[Key, Settlement] = {}
    for settlement in settlements:
        first.setdefault(key_of(settlement), settlement)
    rounds: list[dict[int, Settlement]] = []
    for settlement in first.values():
        seq = settlement.claim.seq
        round = next((round for round in rounds if seq not in round), None)
        if round is None:
            round = {}
            rounds.append(round)
        round[seq] = settlement
    return [[*round.values()] for round in rounds]


async def exchange(
    connection: Connection,
    rounds: Sequence[Sequence[Settlement]],
    requests: Sequence[ClaimRequest],
    owner: str,
    now: datetime | None,
    most_bytes: int,
) -> Exchanged:
    """End the claims that are still the newest, and take what the requests may have; their limits are above zero."""
    done = Exchanged()
    if len(rounds) == 1 and not requests and _is_plain(rounds[0]):
        (settlement,) = rounds[0]
        if await _finish(connection, settlement, done, owner, now):
            return done
    for settlements in rounds[:-1]:
        await _exchange(connection, settlements, (), done, owner, now, most_bytes)
    await _exchange(connection, rounds[-1] if rounds else (), requests, done, owner, now, most_bytes)
    return done


def _is_plain(settlements: Sequence[Settlement]) -> bool:
    """Whether it is one message that is done, which is what an ask alone comes to."""
    return len(settlements) == 1 and settlements[0].how is Settling.DONE


async def _finish(
    connection: Connection, settlement: Settlement, done: Exchanged, owner: str, now: datetime | None
) -> bool:
    """End it as the newest claim; False if it is not, or its answer is there already: then nothing was changed."""
    claim, answer = settlement.claim, settlement.answer
    (row,) = await connection.fetch(
        _SQL["settle_one"],
        claim.seq,
        claim.token,
        answer and answer.message_id,
        answer and answer.content,
        answer and answer.checksum,
        owner,
        now,
    )
    if not row["is_done"]:
        return False
    done.moved.add(key_of(settlement))
    done.origins.update(row["told"])
    if row["ask_id"] is not None:
        done.asks.append(EndedAsk(row["ask_id"], AskState.REPLIED, row["ask_origin"]))
    return True


async def _exchange(
    connection: Connection,
    settlements: Sequence[Settlement],
    requests: Sequence[ClaimRequest],
    done: Exchanged,
    owner: str,
    now: datetime | None,
    most_bytes: int,
) -> None:
    wanted = _wanted(requests, owner, now, most_bytes)
    if not settlements:
        done.claimed = _taken(await connection.fetch(_SQL["claim"], *wanted), requests)
        return
    first, *rows = await connection.fetch(
        _SQL["settle"], *columns((_ending(settlement) for settlement in settlements), 9), *wanted
    )
    done.moved.update(key_of(settlements[place - 1]) for place in first["settled"] or ())
    done.origins.update(first["told"] or ())
    done.asks += [
        EndedAsk(ask_id, AskState(state), origin)
        for ask_id, state, origin in zip(
            first["ask_ids"] or (), first["ask_states"] or (), first["ask_origins"] or (), strict=True
        )
    ]
    done.claimed = _taken(rows, requests)


def _ending(settlement: Settlement) -> tuple[object, ...]:
    claim, answer, how = settlement.claim, settlement.answer, settlement.how
    return (
        claim.seq,
        claim.token,
        how.value,
        settlement.delay if how is Settling.RETRY else 0.0,
        settlement.reason,
        how.event,
        answer and answer.message_id,
        answer and answer.content,
        answer and answer.checksum,
    )


def _wanted(requests: Sequence[ClaimRequest], owner: str, now: datetime | None, most_bytes: int) -> tuple[object, ...]:
    rows = (
        (
            request.recipient_id,
            request.kind.value,
            request.limit,
            None if request.after_lane is None else request.after_lane[:_ID],
            request.origin,
            None if request.after_lane is None else request.after_lane[_ID:],
            request.ordered,
            request.run_limit,
        )
        for request in requests
    )
    return *columns(rows, 8), _MOST_LANES, CLAIM_MARGIN, most_bytes, owner, now


def _taken(rows: Sequence[Any], requests: Sequence[ClaimRequest]) -> list[ClaimedDelivery]:
    counts = [0] * len(requests)
    for row in rows:
        counts[row["place"] - 1] += 1
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
        for row in rows
    ]
