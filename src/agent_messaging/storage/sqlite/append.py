"""The one transaction of `append`: reads what `admission` needs to judge the groups, then stores all that it accepts.

What conversations add to it is in `pairs`.
Reading and then writing is safe because there is one writer at a time (BEGIN IMMEDIATE). The number of statements does
not depend on the number of groups.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apsw

from ...models import AskState
from ..admission import Admission, GraphMissing, Key, Plan, Use, View, admit, askees_of, key_of
from ..mailboxes import MailboxGauge
from ..ports import AppendOutcome, Claim, EndedAsk, NewDelivery, NewGroup, Stored
from ..sql import Queries
from . import pairs, topics
from .clock import SECOND, Instant, to_microseconds
from .engine import fetch
from .filing import file
from .rows import claim_limit, encode, merge

_SQL = Queries(__package__, "deliveries")
_OTHERS = 9
"""The most values of a merged row of deliveries that are no asks."""
_PIECE = 32_000_000
"""Characters of content stored by one statement; SQLite takes texts up to a gigabyte."""

Lane = tuple[str, str, str, str]
"""Recipient, kind, sender and thread."""

Message = tuple[Any, ...]
"""id, kind, sender, recipient, session, content, metadata, checksum; of a publication also its topic."""

Accepted = list[tuple[NewGroup, Stored, Plan | None]]
"""See `Admission.accepted`."""


class Append:
    """One call. `run` may be repeated after a rollback."""

    connection: apsw.Connection
    view: View
    busy: set[Lane]
    first: int
    """The number of the first message that is stored."""

    def __init__(
        self, groups: Sequence[NewGroup], owner: str, repeat: bool, instant: Instant, gauge: MailboxGauge
    ) -> None:
        self.groups = groups
        self.owner = owner
        self.repeat = repeat
        self.instant = instant
        self.gauge = gauge

    def run(self, connection: apsw.Connection) -> list[AppendOutcome]:
        """Decide and store."""
        self.connection = connection
        topics.address(connection, self.groups, repeat=self.repeat)
        self.busy, sessions, missing, self.first = self._look()
        self.view = View(
            self.owner,
            missing=missing,
            stored=self._find_stored() if self.repeat else {},
            keys=find_keys(connection, [key for group in self.groups if (key := key_of(group))]),
            counts=self._count_mailboxes(),
            found=pairs.find(connection, self.groups, sessions, self.instant),
        )
        admission = self._admit()
        self._store(admission.accepted)
        admission.fill(self.gauge)
        return admission.outcomes

    def _admit(self) -> Admission:
        try:
            return admit(self.groups, self.view)
        except GraphMissing:
            self.view.graph = pairs.read_graph(self.connection, askees_of(self.groups))
            return admit(self.groups, self.view)

    # --- reads ---

    def _find_stored(self) -> dict[str, Stored]:
        ids = [delivery.message_id for group in self.groups for delivery in group.deliveries]
        parameters = {"ids": encode(ids), "owner": self.owner, "now": self.instant.due}
        stored: dict[str, Stored] = {}
        for row in fetch(self.connection, _SQL["append_find_stored"], parameters):
            id, seq, token, attempt, is_held, session_id, answered, waiters, is_asked = row
            claims = {id: Claim(seq, token, attempt)} if is_held else {}
            if answered is None:
                stored[id] = Stored(claims, session_id, None, frozenset(waiters), bool(is_asked))
            else:
                stored[id] = Stored(claims, session_id, EndedAsk(answered[0], AskState.REPLIED, answered[1]))
        return stored

    def _count_mailboxes(self) -> dict[str, int]:
        must = self.gauge.list_to_count(self.groups)
        if not must:
            return {}
        counts: dict[str, int]
        counts, processes = fetch(self.connection, _SQL["append_count_open"], {"ids": encode(list(must))})
        self.gauge.counted(counts, processes)
        return counts

    def _look(self) -> tuple[set[Lane], list[str | int | None], set[str], int]:
        """The lanes in which nothing may be claimed now, what `pairs.find` needs, the agents that do not exist, and the
        number of the next message."""
        rows = [
            (delivery.recipient_id, group.kind, group.sender_id, group.thread, int(delivery.claim), group.within)
            for group in self.groups
            for delivery in group.deliveries
            # A publication that nobody is subscribed to has a sender all the same.
            or (NewDelivery("", group.sender_id),)
        ]
        parameters = {"rows": encode(rows), "owner": self.owner, "now": self.instant.due}
        busy, sessions, *missing, first = fetch(self.connection, _SQL["append_look"], parameters)
        return {rows[number][:4] for number in busy}, sessions, set[str]().union(*missing), first

    # --- writes ---

    def _store(self, accepted: Accepted) -> None:
        if not accepted:
            return
        messages: list[Message] = [
            (
                delivery.message_id,
                group.kind,
                group.sender_id,
                delivery.recipient_id,
                group.session_id if plan is None else plan.session_id,
                group.content,
                group.metadata,
                group.checksum,
                *(() if group.publication is None else (group.publication.topic,)),
            )
            for group, _, plan in accepted
            for delivery in group.deliveries
        ]
        first = seq = self.first
        for piece in _pieces(messages):
            parameters = {"first": seq, "rows": encode(piece), "at": self.instant.at}
            self.connection.execute(_SQL["append_insert_messages"], parameters)
            seq += len(piece)
        planned = [(group, plan) for group, _, plan in accepted if plan is not None]
        seqs: dict[str, int] = {}
        if planned:
            seqs = {message[0]: first + number for number, message in enumerate(messages)}
            pairs.store(self.connection, planned, seqs, self.owner, self.instant)
        store_deliveries(self.connection, first, self._delivery_rows(accepted, first, seqs), self.owner, self.instant)
        keys = [
            (*key, group.fingerprint, [delivery.message_id for delivery in group.deliveries])
            for group, _, _ in accepted
            if (key := key_of(group))
        ]
        if keys:
            self.connection.execute(_SQL["append_insert_keys"], {"rows": encode(keys), "at": self.instant.at})

    def _delivery_rows(self, accepted: Accepted, seq: int, seqs: Mapping[str, int]) -> list[tuple[object, ...]]:
        """One for each message, numbered from `seq`; decides which are claimed."""
        now, at = self.instant
        busy = self.busy
        ends: dict[tuple[float, float | None], int] = {}
        rows: list[tuple[object, ...]] = []
        for group, outcome, plan in accepted:
            is_done = plan is not None and plan.is_done
            wait = 0 if is_done or group.deliver_at is None else max(0, to_microseconds(group.deliver_at) - at)
            left = None if group.expires_in is None else int(group.expires_in * SECOND)
            # Left out of the others, which are to cost nothing more.
            rare: tuple[object, ...] = ()
            if plan is not None:
                ask = pairs.ask_of(group, plan, seqs)
                rare = (wait or None, left, group.ask_timeout, 1 if is_done else None, plan.thread, *ask)
            elif wait or left is not None:
                rare = (wait or None, left)
            limits = (group.run_limit, group.ask_timeout)
            if (until := ends.get(limits)) is None:
                until = ends[limits] = now + int(claim_limit(*limits) * SECOND)
            for delivery in group.deliveries:
                is_claimed = False
                if not wait and not is_done:
                    # What goes into another thread than it names is an answer, which nobody claims.
                    lane = (delivery.recipient_id, group.kind, group.sender_id, group.thread)
                    if delivery.claim and lane not in busy:
                        is_claimed = True
                        outcome.claims[delivery.message_id] = Claim(seq, 1, 1)
                    busy.add(lane)
                rows.append((group.max_attempts, until if is_claimed else None, *rare))
                seq += 1
        return rows


def store_deliveries(
    connection: apsw.Connection, first: int, rows: Sequence[tuple[object, ...]], owner: str, instant: Instant
) -> None:
    """Store the deliveries of messages that are stored, from `first` on.

    The rows have the values that append_insert_asks names behind the two numbers.
    """
    merged = merge(enumerate(rows, first))
    parameters = {"rows": encode(merged), "owner": owner, "now": instant.due, "at": instant.at}
    name = "append_insert_asks" if any(len(row) > _OTHERS for row in merged) else "append_insert_deliveries"
    connection.execute(_SQL[name], parameters)
    file(connection, first, first + len(rows) - 1)


def _pieces(messages: list[Message]) -> Iterator[list[Message]]:
    piece: list[Message] = []
    size = 0
    for message in messages:
        piece.append(message)
        size += len(message[5])
        if size > _PIECE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def find_keys(connection: apsw.Connection, keys: list[Key]) -> dict[Key, Use]:
    """Which of these were used before, and for what."""
    if not keys:
        return {}
    rows = fetch(connection, _SQL["append_find_keys"], {"keys": encode(keys)})
    return {keys[number]: (fingerprint, _read_ids(message_ids)) for number, fingerprint, message_ids in rows}


def _read_ids(text: str) -> list[str] | None:
    try:
        ids = json.loads(text)
    except ValueError:
        return None
    return ids if isinstance(ids, list) and all(isinstance(id, str) for id in ids) else None
