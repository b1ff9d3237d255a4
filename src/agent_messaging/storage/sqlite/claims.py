"""Claims inside a transaction. The number of statements does not depend on the number of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import apsw

from ...models import Kind
from ..ports import Claim, ClaimedDelivery, ClaimRequest, TurnRef
from ..sql import Queries
from .clock import SECOND, Instant, to_datetime
from .engine import fetch
from .rows import claim_limit, encode, next_number

_SQL = Queries(__package__, "deliveries")


def claim(
    connection: apsw.Connection, requests: Sequence[ClaimRequest], owner: str, instant: Instant
) -> list[ClaimedDelivery]:
    """Find the deliveries that the requests may have, and take them."""
    try:
        chosen = _choose_all(connection, requests, owner, instant)
    except apsw.TooBigError:
        # Their contents do not fit into one text (a gigabyte). The next call takes the others.
        if len(requests) > 1:
            return claim(connection, requests[: len(requests) // 2], owner, instant)
        if requests[0].limit > 1:
            return claim(connection, [replace(requests[0], limit=requests[0].limit // 2)], owner, instant)
        raise
    if chosen:
        until = [(row[2], instant.due + int(claim_limit(run_limit, row[-2]) * SECOND)) for row, run_limit in chosen]
        connection.execute(_SQL["claim_take"], {"rows": encode(until), "owner": owner, "at": instant.at})
    return [_claimed(row) for row, _ in chosen]


def _choose_all(
    connection: apsw.Connection, requests: Sequence[ClaimRequest], owner: str, instant: Instant
) -> list[tuple[list[Any], float]]:
    found: dict[int, list[Any]] = {number: [] for number in range(len(requests))}
    taken: set[int] = set()
    suspected: set[str] = set()
    for name, ordered in (("claim_lanes", True), ("claim_any", False)):
        asked = [n for n, request in enumerate(requests) if request.ordered is ordered and request.limit > 0]
        refused = _choose(connection, name, requests, asked, found, taken, suspected, owner, instant)
        if refused:
            # Two requests of one recipient found a suspect each, and only one may be taken at a time. The second
            # request looks again without suspects, because there may be others behind the suspect.
            for number in refused:
                taken.difference_update(row[2] for row in found[number])
                found[number] = []
            _choose(connection, name, requests, refused, found, taken, suspected, owner, instant)
    return [(row, requests[number].run_limit) for number, mine in found.items() for row in mine]


def _choose(
    connection: apsw.Connection,
    name: str,
    requests: Sequence[ClaimRequest],
    asked: list[int],
    found: dict[int, list[Any]],
    taken: set[int],
    suspected: set[str],
    owner: str,
    instant: Instant,
) -> list[int]:
    """Put what may be claimed into `found`; returns the requests that found a suspect too many."""
    if not asked:
        return []
    parameters = [
        (n, r.recipient_id, r.kind, r.limit, r.after_lane, r.origin, int(r.recipient_id in suspected))
        for n, r in ((n, requests[n]) for n in asked)
    ]
    refused: dict[int, None] = {}
    counts: Counter[int] = Counter()
    bindings = {
        "requests": encode(parameters),
        "owner": owner,
        "now": instant.due,
        "most": max(requests[n].limit for n in asked),
    }
    for row in fetch(connection, _SQL[name], bindings):
        number, suspect, seq = row[:3]
        recipient_id = requests[number].recipient_id
        if counts[number] >= requests[number].limit or seq in taken:
            continue
        if suspect and recipient_id in suspected:
            refused[number] = None
            continue
        if suspect:
            suspected.add(recipient_id)
        counts[number] += 1
        taken.add(seq)
        found[number].append(row)
    # Without order, the rows behind a refused suspect have been answered already.
    return list(refused) if name == "claim_lanes" else []


def _claimed(row: list[Any]) -> ClaimedDelivery:
    (_, _, seq, token, attempt, max_attempts, origin, recipient_id, kind, sender_id, *message) = row
    message_id, content, metadata, checksum, created_at, session_id, topic, *of_kind = message
    turn, is_streamed, ask_timeout, thread = of_kind
    return ClaimedDelivery(
        Claim(seq, next_number(token), next_number(attempt)),
        message_id,
        Kind(kind),
        sender_id,
        recipient_id,
        content,
        metadata,
        checksum,
        max_attempts,
        to_datetime(created_at),
        origin,
        session_id,
        thread,
        ask_timeout,
        turn=None if turn is None else TurnRef(*turn),
        topic=topic,
        is_streamed=bool(is_streamed),
    )
