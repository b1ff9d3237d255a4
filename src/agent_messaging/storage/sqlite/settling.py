"""The ends of claims inside a transaction, with the answers and the failed asks that hang on them.

The number of statements does not depend on the number of settlements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

import apsw

from ...models import AskState, DeliveryState
from ...records import dataclass
from ..ports import EndedAsk, NewAnswer, Settlement, Settling
from ..sql import Queries
from . import asks
from .append import store_deliveries
from .clock import SECOND, Instant
from .engine import fetch
from .rows import encode, merge

_SQL = Queries(__package__, "deliveries")
_HEAD = 6
"""Values of a row of settle_find that are there without an answer, too."""


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
    wanted = [(one.claim.seq, None if one.answer is None else one.answer.message_id) for one in settlements]
    parameters = {"rows": encode(wanted), "now": instant.due, "answers": any(id is not None for _, id in wanted)}
    first, there = fetch(connection, _SQL["settle_find"], parameters)
    found = {row[0]: row[:_HEAD] for row in there}
    # A call may end a claim twice, with an answer and without.
    answered = {row[0]: row[_HEAD:] for row in there if row[_HEAD] is not None}
    rows: list[tuple[int, tuple[object, ...]]] = []
    answers: list[tuple[int, NewAnswer, bool, list[Any]]] = []
    returned: list[int] = []
    failed_before: list[int] = []
    for settlement in settlements:
        row = found.get(settlement.claim.seq)
        if row is None or row[2] != settlement.claim.token:
            ended.moved.append(False)
            continue
        seq, state, token, origin, event, is_ask = row
        how = settlement.how
        target, note = how.state, how.event
        moves = state == DeliveryState.CLAIMED
        if moves:
            if how is Settling.DONE:
                rows.append((seq, (target, 1) if is_ask and settlement.answer is not None else (target,)))
            else:
                rows.append((seq, _form(settlement)))
                if is_ask:
                    returned.append(seq)
            found[seq] = [seq, target, token, origin, note, is_ask]  # so a second one in this call is a repeat
        elif not _took_effect(note, state, event):
            ended.moved.append(False)
            continue
        elif is_ask and target is DeliveryState.DEAD and seq not in returned:
            failed_before.append(seq)
        ended.moved.append(True)
        if origin is not None and target is not DeliveryState.QUEUED:
            ended.origins.add(origin)
        if settlement.answer is not None and how is Settling.DONE:
            answers.append((seq, settlement.answer, moves, answered[seq]))
    stored = _Answers(first)
    replied = stored.add(answers, ended) if answers else {}
    if rows:
        if replied:
            rows = [(seq, (*form, replied[seq] - seq) if seq in replied else form) for seq, form in rows]
        # Those that end with an answer have read what they answer.
        name = "settle_read" if answers else "settle"
        connection.execute(_SQL[name], {"rows": encode(merge(rows)), "now": instant.due, "at": instant.at})
    if returned:
        failed, origins = asks.follow(connection, returned, instant)
        ended.asks += failed
        ended.origins |= origins
    ended.asks += asks.find_failed(connection, sorted({*failed_before}))
    stored.store(connection, owner, instant)
    return ended


def _took_effect(note: str | None, state: str, event: str | None) -> bool:
    """Whether the newest claim, which is no longer open, ended in this way.

    DONE leaves no entry in the log, and every other end leaves one with the claim's token. So it does not matter what
    somebody else, or the time, did with the delivery afterwards.
    """
    return event == note and (note is not None or state == DeliveryState.DONE)


def _form(settlement: Settlement) -> tuple[object, ...]:
    """How one ends that does not end as done, as settle names it behind the two numbers."""
    how = settlement.how
    delay = int(settlement.delay * SECOND) if how is Settling.RETRY else 0
    uncounted = int(how is Settling.RETURNED)
    wait = delay if delay > 0 else None
    return how.state, 0, None, uncounted, wait, how.event, settlement.reason


class _Answers:
    """The answers that come with settlements, numbered from `first` on.

    An answer comes with the seq of its delivery, with whether the settlement moved it now, and with what settle_find
    says about it. One that did not move is a repeat, which stores nothing and only tells again.
    """

    def __init__(self, first: int) -> None:
        self.first = first
        self.messages: list[tuple[object, ...]] = []
        self.deliveries: list[tuple[object, ...]] = []

    def add(self, answers: Sequence[tuple[int, NewAnswer, bool, list[Any]]], ended: Ended) -> dict[int, int]:
        """Take them in, and note who is told. Returns the seqs of the asks that end so, with those of their answers."""
        replied: dict[int, int] = {}
        for seq, answer, moves, row in answers:
            ask_id, thread, state, origin, answer_seq, stored_seq, waiters = row
            ends = moves and state == AskState.OPEN
            if ends or (stored_seq is not None and stored_seq == answer_seq):
                ended.asks.append(EndedAsk(ask_id, AskState.REPLIED, origin))
            else:
                ended.origins.update(waiters or ())  # none of a claim that the call has ended before
            if moves and stored_seq is None:
                if ends:
                    replied[seq] = self.first + len(self.messages)
                self.messages.append((answer.message_id, seq, answer.content, answer.checksum))
                self.deliveries.append((1, None, None, None, None, int(ends), thread))
        return replied

    def store(self, connection: apsw.Connection, owner: str, instant: Instant) -> None:
        """Write them."""
        if self.messages:
            parameters = {"first": self.first, "rows": encode(self.messages), "at": instant.at}
            connection.execute(_SQL["settle_insert_answers"], parameters)
            store_deliveries(connection, self.first, self.deliveries, owner, instant)
