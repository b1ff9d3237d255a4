"""The ends of claims inside a transaction, with the answers and the failed asks that hang on them.

The number of statements does not depend on the number of settlements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

import apsw

from ...models import AskState, DeliveryState, Kind
from ...records import dataclass
from ..ports import EndedAsk, NewAnswer, Settlement, Settling
from ..sql import Queries
from . import asks
from .clock import Instant
from .engine import fetch
from .filing import file
from .rows import encode

_SQL = Queries(__package__, "deliveries")
_ASKS = Queries(__package__, "asks")
_SECOND = 1_000_000


@dataclass(slots=True)
class Ended:
    """The changes that `settle` made."""

    moved: list[bool] = field(default_factory=list)
    origins: set[str] = field(default_factory=set)
    """The processes that stored what is final now, or wait for the answers."""
    asks: list[EndedAsk] = field(default_factory=list)


def settle(connection: apsw.Connection, settlements: Sequence[Settlement], owner: str, instant: Instant) -> Ended:
    """End the claims that are still the newest."""
    ended = Ended()
    if not settlements:
        return ended
    seqs = encode([settlement.claim.seq for settlement in settlements])
    found = {row[0]: row for row in fetch(connection, _SQL["settle_find"], {"seqs": seqs})}
    rows = []
    answers: list[tuple[int, NewAnswer, bool]] = []
    returned: list[int] = []
    failed_before: list[int] = []
    for settlement in settlements:
        row = found.get(settlement.claim.seq)
        if row is None or row[2] != settlement.claim.token:
            ended.moved.append(False)
            continue
        seq, state, token, origin, event, is_ask = row
        target, note = settlement.how.state, settlement.how.event
        moves = state == DeliveryState.CLAIMED
        if moves:
            rows.append(_row(settlement, instant, reads=is_ask and settlement.answer is not None))
            if is_ask and target is not DeliveryState.DONE:
                returned.append(seq)
            found[seq] = [seq, target, token, origin, note, is_ask]  # so a second one in this call is a repeat
        elif not _took_effect(note, state, event):
            ended.moved.append(False)
            continue
        elif is_ask and target is DeliveryState.DEAD and seq not in returned:
            failed_before.append(seq)
        ended.moved.append(True)
        if target.is_final and origin is not None:
            ended.origins.add(origin)
        if settlement.answer is not None and settlement.how is Settling.DONE:
            answers.append((seq, settlement.answer, moves))
    if rows:
        connection.execute(_SQL["settle"], {"rows": encode(rows), "at": instant.at})
    if returned:
        failed, origins = asks.follow(connection, returned, instant)
        ended.asks += failed
        ended.origins |= origins
    ended.asks += asks.find_failed(connection, sorted({*failed_before}))
    if answers:
        _answer(connection, answers, owner, instant, ended)
    return ended


def _took_effect(note: str | None, state: str, event: str | None) -> bool:
    """Whether the newest claim, which is no longer open, ended in this way.

    DONE leaves no entry in the log, and every other end leaves one with the claim's token. So it does not matter what
    somebody else, or the time, did with the delivery afterwards.
    """
    return event == note and (note is not None or state == DeliveryState.DONE)


def _row(settlement: Settlement, instant: Instant, *, reads: bool) -> tuple[Any, ...]:
    how, target = settlement.how, settlement.how.state
    delay = int(settlement.delay * _SECOND) if how is Settling.RETRY else 0
    return (
        settlement.claim.seq,
        target,
        int(how is Settling.RETURNED),
        instant.due + delay if delay > 0 else 0,
        instant.at + delay if delay > 0 else None,
        instant.due + delay,
        instant.at if target.is_final else None,
        how.event,
        settlement.reason,
        int(reads and target is DeliveryState.DONE),
    )


def _answer(
    connection: apsw.Connection,
    answers: Sequence[tuple[int, NewAnswer, bool]],
    owner: str,
    instant: Instant,
    ended: Ended,
) -> None:
    """Store what the settlements answer, and end the asks that are still open with it.

    An answer comes with the seq of its delivery, and with whether the settlement moved it now. One that did not is a
    repeat, which stores nothing and only tells again.
    """
    wanted = encode([(seq, answer.message_id) for seq, answer, _ in answers])
    found = fetch(connection, _ASKS["answers_find"], {"rows": wanted, "now": instant.due})
    messages: list[tuple[object, ...]] = []
    new: list[tuple[int, str, str, str, str, bool]] = []
    for (seq, answer, moves), row in zip(answers, found, strict=True):
        ask_id, sender_id, recipient_id, session_id, state, origin, answer_seq, stored_seq, waiters, thread = row
        ends = moves and state == AskState.OPEN
        if ends or (stored_seq is not None and stored_seq == answer_seq):
            ended.asks.append(EndedAsk(ask_id, AskState.REPLIED, origin))
        else:
            ended.origins.update(waiters)
        if moves and stored_seq is None:
            head = answer.message_id, Kind.CONVERSATION, sender_id, recipient_id, session_id
            messages.append((*head, answer.content, None, answer.checksum))
            new.append((seq, sender_id, recipient_id, thread, session_id, ends))
    if not new:
        return
    connection.execute(_SQL["append_insert_messages"], {"rows": encode(messages), "at": instant.at})
    first = connection.last_insert_rowid() - len(new) + 1
    deliveries = []
    endings: list[asks.Ending] = []
    for number, (seq, sender_id, recipient_id, thread, session_id, ends) in enumerate(new, first):
        duty = (number, recipient_id, Kind.CONVERSATION, sender_id, 1, 0, None, instant.due, None, None, None)
        deliveries.append((*duty, None, int(ends), thread, session_id))
        if ends:
            endings.append((seq, AskState.REPLIED, number, None))
    parameters = {"rows": encode(deliveries), "owner": owner, "at": instant.at}
    connection.execute(_SQL["append_insert_deliveries"], parameters)
    file(connection, first, first + len(new) - 1)
    asks.end_asks(connection, endings, instant)
