"""The one transaction of `append`: decides group by group what becomes of it, then stores all that was accepted.

What conversations add to it is in `pairs`.
Reading and then writing is safe because there is one writer at a time (BEGIN IMMEDIATE). The number of statements does
not depend on the number of groups.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence

import apsw

from ...models import AskState
from ..mailboxes import MailboxGauge, find_full
from ..ports import (
    AppendOutcome,
    Claim,
    Duplicate,
    EndedAsk,
    KeyConflict,
    MailboxFull,
    NewDelivery,
    NewGroup,
    NotWaiting,
    Stored,
    UnknownAgents,
)
from ..sql import Queries
from .clock import Instant, to_microseconds
from .engine import fetch
from .pairs import Pairs, Plan, is_conversation
from .rows import claim_limit, encode

_SQL = Queries(__package__, "deliveries")
_SECOND = 1_000_000
_PIECE = 32_000_000
"""Characters of content stored by one statement; SQLite takes texts up to a gigabyte."""

Key = tuple[str, str, str]
"""Sender, call and idempotency key."""
Lane = tuple[str, str, str]
"""Recipient, kind and sender."""

Use = tuple[str, list[str] | None]
"""What a key was used for: fingerprint and message ids."""

Message = tuple[str, str, str, str, str | None, str, str | None, int]
"""id, kind, sender, recipient, session, content, metadata, checksum."""

Accepted = tuple[NewGroup, Stored, Plan | None]
"""What is to be stored; with a plan if it belongs to a session."""


class Append:
    """One call. `run` may be repeated after a rollback."""

    connection: apsw.Connection
    stored: dict[str, Claim | None]
    """With `repeat`: what is stored already, with the claims that are still held."""
    placed: dict[str, tuple[str | None, EndedAsk | None]]
    """With `repeat`: the session of each, and the ask that it answered."""
    pairs: Pairs | None
    """None if no group belongs to a session."""
    used: dict[Key, Use]
    added: Counter[str]
    """What is accepted so far, by recipient."""

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
        self.stored, self.placed = self._find_stored() if self.repeat else ({}, {})
        self.used = find_keys(connection, [key for group in self.groups if (key := _key(group))])
        self._count_mailboxes()
        self.pairs = None
        if any(is_conversation(group) for group in self.groups):
            self.pairs = Pairs(connection, self.groups, self.owner, self.instant)
        # The agents exist as a rule, so they are looked up only where it matters.
        outcomes, accepted = self._decide_all(set())
        if any(isinstance(outcome, MailboxFull | NotWaiting) for outcome in outcomes):
            outcomes, accepted = self._decide_all(self._find_missing_agents())
        if sum(len(group.content) * len(group.deliveries) for group, _, _ in accepted) > _PIECE:
            outcomes, accepted = self._decide_all(self._find_missing_agents())
        try:
            self._store(accepted)
        except apsw.ConstraintError as error:
            if getattr(error, "extendedresult", 0) != apsw.SQLITE_CONSTRAINT_FOREIGNKEY:
                raise
            # It undid its statement, which is the first that wrote: with several the agents have been looked up.
            outcomes, accepted = self._decide_all(self._find_missing_agents())
            self._store(accepted)
        for recipient_id, number in self.added.items():
            self.gauge.added(recipient_id, number)
        return outcomes

    # --- decisions ---

    def _decide_all(self, missing: set[str]) -> tuple[list[AppendOutcome], list[Accepted]]:
        self.added = Counter[str]()
        keys = dict(self.used)
        outcomes: list[AppendOutcome] = []
        accepted: list[Accepted] = []
        if self.pairs is not None:
            self.pairs.begin()
        for group in self.groups:
            decided = self._decide(group, keys, missing)
            if decided is None or isinstance(decided, Plan):
                plan = decided
                decided = Stored() if plan is None else plan.outcome()
                accepted.append((group, decided, plan))
                if key := _key(group):
                    keys[key] = (group.fingerprint, [delivery.message_id for delivery in group.deliveries])
                if plan is None or plan.answered is None:
                    self.added.update(delivery.recipient_id for delivery in group.deliveries)
                if plan is not None and self.pairs is not None:
                    self.pairs.accept(plan)
            outcomes.append(decided)
        return outcomes, accepted

    def _decide(self, group: NewGroup, keys: dict[Key, Use], missing: set[str]) -> AppendOutcome | Plan | None:
        """What becomes of the group; a plan or None being that it is to be stored."""
        ids = [delivery.message_id for delivery in group.deliveries]
        if ids[0] in self.stored:
            return self._stored_before(group, ids)
        if (key := _key(group)) and key in keys:
            return judge_repeat(keys[key], group.fingerprint)
        if missing:
            concerned = (group.sender_id, *(delivery.recipient_id for delivery in group.deliveries))
            if unknown := [id for id in dict.fromkeys(concerned) if id in missing]:
                return UnknownAgents(unknown)
        plan = None
        if self.pairs is not None and is_conversation(group):
            judged = self.pairs.judge(group)
            if not isinstance(judged, Plan):
                return judged
            plan = judged
        is_answer = plan is not None and plan.answered is not None
        if not is_answer and (full := find_full(group, lambda id: self.gauge.reading(id) + self.added[id])):
            return MailboxFull(full)
        return plan

    def _stored_before(self, group: NewGroup, ids: list[str]) -> Stored:
        session_id, answered = self.placed[ids[0]]
        waiters: frozenset[str] = frozenset()
        is_asked = False
        if self.pairs is not None and is_conversation(group) and answered is None:
            recipient_id = group.deliveries[0].recipient_id
            waiters = self.pairs.waiters[group.sender_id, recipient_id]
            is_asked = (recipient_id, group.sender_id) in self.pairs.open
        claims = {id: claim for id in ids if (claim := self.stored.get(id)) is not None}
        return Stored(claims, session_id, answered, waiters, is_asked)

    # --- reads ---

    def _find_stored(self) -> tuple[dict[str, Claim | None], dict[str, tuple[str | None, EndedAsk | None]]]:
        ids = [delivery.message_id for group in self.groups for delivery in group.deliveries]
        stored: dict[str, Claim | None] = {}
        placed: dict[str, tuple[str | None, EndedAsk | None]] = {}
        for id, seq, token, attempt, held, session_id, answered in fetch(
            self.connection, _SQL["append_find_stored"], {"ids": encode(ids), "owner": self.owner}
        ):
            stored[id] = Claim(seq, token, attempt) if held else None
            placed[id] = (
                session_id,
                None if answered is None else EndedAsk(answered[0], AskState.REPLIED, answered[1]),
            )
        return stored, placed

    def _find_missing_agents(self) -> set[str]:
        ids = {group.sender_id for group in self.groups}
        ids.update(delivery.recipient_id for group in self.groups for delivery in group.deliveries)
        return set(fetch(self.connection, _SQL["append_find_agents"], {"ids": encode(list(ids))}))

    def _count_mailboxes(self) -> None:
        must = list(self.gauge.list_to_count(self.groups))
        if must:
            self.gauge.counted(fetch(self.connection, _SQL["append_count_open"], {"ids": encode(must)}))

    def _find_busy_lanes(self, accepted: list[Accepted]) -> set[Lane]:
        lanes = [
            _lane(group, delivery)
            for group, _, plan in accepted
            if plan is None or not plan.is_done
            for delivery in group.deliveries
            if delivery.claim
        ]
        if not lanes:
            return set()
        parameters = {"lanes": encode(lanes), "owner": self.owner, "now": self.instant.due}
        return {lanes[number] for number in fetch(self.connection, _SQL["append_find_busy"], parameters)}

    # --- writes ---

    def _store(self, accepted: list[Accepted]) -> None:
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
            )
            for group, _, plan in accepted
            for delivery in group.deliveries
        ]
        for piece in _pieces(messages):
            self.connection.execute(_SQL["append_insert_messages"], {"rows": encode(piece), "at": self.instant.at})
        first = self.connection.last_insert_rowid() - len(messages) + 1
        if self.pairs is not None:
            planned = [(group, plan) for group, _, plan in accepted if plan is not None]
            self.pairs.store(planned, {message[0]: first + number for number, message in enumerate(messages)})
        rows = self._delivery_rows(accepted, first)
        parameters = {"rows": encode(rows), "owner": self.owner, "at": self.instant.at}
        self.connection.execute(_SQL["append_insert_deliveries"], parameters)
        keys = [
            (*key, group.fingerprint, [delivery.message_id for delivery in group.deliveries])
            for group, _, _ in accepted
            if (key := _key(group))
        ]
        if keys:
            self.connection.execute(_SQL["append_insert_keys"], {"rows": encode(keys), "at": self.instant.at})

    def _delivery_rows(self, accepted: list[Accepted], seq: int) -> list[tuple[object, ...]]:
        """One for each message, numbered from `seq`; decides which are claimed."""
        now, at = self.instant
        busy = self._find_busy_lanes(accepted)
        rows: list[tuple[object, ...]] = []
        for group, outcome, plan in accepted:
            is_done = plan is not None and plan.is_done
            wait = 0 if is_done or group.deliver_at is None else max(0, to_microseconds(group.deliver_at) - at)
            left = None if group.expires_in is None else int(group.expires_in * _SECOND)
            # Left out for other kinds, which are to cost nothing more.
            born: tuple[object, ...] = () if plan is None else (group.ask_timeout, plan.born)
            for delivery in group.deliveries:
                until = None
                if not wait and not is_done:
                    lane = _lane(group, delivery)
                    if delivery.claim and lane not in busy:
                        until = now + int(claim_limit(group.run_limit, group.ask_timeout) * _SECOND)
                        outcome.claims[delivery.message_id] = Claim(seq, 1, 1)
                    busy.add(lane)
                rows.append(
                    (
                        seq,
                        delivery.recipient_id,
                        group.kind,
                        group.sender_id,
                        group.max_attempts,
                        now + wait if wait else 0,
                        at + wait if wait else None,
                        now + wait,
                        None if left is None else now + left,
                        None if left is None else at + left,
                        until,
                        *born,
                    )
                )
                seq += 1
        return rows


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


def judge_repeat(use: Use, fingerprint: str) -> Duplicate | KeyConflict:
    """What a call is answered whose key was used before."""
    known, message_ids = use
    # A use that cannot be read is answered as another call's: nothing is stored twice.
    return Duplicate(message_ids) if known == fingerprint and message_ids is not None else KeyConflict()


def _key(group: NewGroup) -> Key | None:
    return None if group.idempotency_key is None else (group.sender_id, group.call, group.idempotency_key)


def _lane(group: NewGroup, delivery: NewDelivery) -> Lane:
    return (delivery.recipient_id, group.kind, group.sender_id)
