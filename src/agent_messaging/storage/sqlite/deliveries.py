"""Deliveries in SQLite. `append`, `claims` and `settling` hold what several statements of a transaction do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from operator import attrgetter
from typing import Any

import apsw

from ...models import AskState, DeliveryState, Kind
from ..admission import judge_repeat
from ..aside import read_log
from ..mailboxes import MailboxGauge
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
)
from ..sql import Queries
from . import asks, claims, settling
from .append import Append, find_keys
from .clock import SECOND, Instant, StoreClock, first_of, seconds_left, to_datetime, to_datetime_or_none
from .deadlines import AskDeadlines
from .engine import Engine, fetch, fetch_page
from .rows import encode

_SQL = Queries(__package__, "deliveries")
_SIZE = attrgetter("size")
_AT_ONCE = 5_000
"""Rows of one kind that `advance` changes in one transaction, so that nobody waits long for the turn to write."""


class SQLiteDeliveries:
    """See `ports.DeliveryStore`."""

    def __init__(self, engine: Engine, clock: StoreClock) -> None:
        self._engine = engine
        self._clock = clock
        self._gauge = MailboxGauge()
        self.ask_deadlines = AskDeadlines()

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
        return await self._engine.write(
            lambda con: Append(groups, owner, repeat, self._clock.now(now), self._gauge).run(con),
            size=sum(map(_SIZE, groups)),
        )

    async def find_repeat(
        self, sender_id: str, call: str, idempotency_key: str, fingerprint: str
    ) -> AppendOutcome | None:
        key = (sender_id, call, idempotency_key)
        known = await self._engine.read(lambda con: find_keys(con, [key]))
        return judge_repeat(known[key], fingerprint) if key in known else None

    async def claim(
        self, requests: Sequence[ClaimRequest], *, owner: str, now: datetime | None = None
    ) -> list[ClaimedDelivery]:
        if not requests:
            return []
        return await self._engine.write(lambda con: claims.claim(con, requests, owner, self._clock.now(now)))

    async def settle(
        self,
        settlements: Sequence[Settlement],
        requests: Sequence[ClaimRequest] = (),
        *,
        owner: str,
        now: datetime | None = None,
    ) -> Settled:

        def settle(connection: apsw.Connection) -> Settled:
            instant = self._clock.now(now)
            ended = settling.settle(connection, settlements, owner, instant)
            claimed = claims.claim(connection, requests, owner, instant) if requests else []
            return Settled(ended.moved, ended.origins, claimed, ended.asks)

        if not settlements and not requests:
            return Settled([], set(), [])
        return await self._engine.write(settle, size=sum(map(_SIZE, settlements)))

    async def list_claims(self, owner: str) -> list[Claim]:
        # The writer answers, because it stands behind every claim that this store has made.
        rows = await self._engine.write(lambda con: fetch(con, _SQL["list_claims"], {"owner": owner}))
        return [Claim(seq, token, attempt) for seq, token, attempt in rows]

    async def find_waiting(self, now: datetime | None = None) -> list[tuple[str, Kind]]:
        parameters = {"now": self._clock.now(now).due}
        rows = await self._engine.read(lambda con: fetch(con, _SQL["find_waiting"], parameters))
        return self._engine.aside.all(_waiting, rows, "what waits for an agent")

    async def advance(self, now: datetime | None = None) -> Advanced:
        instant = self._clock.now(now)
        (late, next_ask), next_due = await self._engine.read(
            lambda con: (self.ask_deadlines.look(con, instant.due), _next_due(con))
        )
        advanced = Advanced(0, set(), 0, None)
        if late or (next_due is not None and next_due <= instant.due):
            advanced, next_due = await self._engine.write(lambda con: _advance(con, late, instant))
        return replace(advanced, next_in=seconds_left(first_of((next_ask, next_due)), instant))

    async def withdraw(self, message_ids: Collection[str]) -> list[str]:
        ids = encode(sorted(set(message_ids)))

        def withdraw(connection: apsw.Connection) -> list[str]:
            rows = fetch(connection, _SQL["withdraw_find"], {"ids": ids})
            if rows:
                instant = self._clock.now()
                parameters = {"seqs": encode([row[0] for row in rows]), "at": instant.at}
                connection.execute(_SQL["withdraw"], parameters)
                endings = [(seq, AskState.CANCELLED, None, None) for seq, _, is_ask in rows if is_ask]
                asks.end_asks(connection, endings, instant)
            return [id for _, id, _ in rows]

        return await self._engine.write(withdraw) if message_ids else []

    async def list_receipts(self, message_ids: Collection[str]) -> list[ReceiptRow]:
        parameters = {"ids": encode(sorted(set(message_ids)))}
        rows = await self._engine.read(lambda con: fetch(con, _SQL["list_receipts"], parameters))
        return self._engine.aside.all(_receipt, rows, "a delivery")

    async def list_dead(self, recipient_id: str | None, limit: int, offset: int) -> list[DeadRow]:
        name = "list_dead" if recipient_id is None else "list_dead_of"
        parameters = {"recipient": recipient_id, "limit": limit, "offset": offset}
        rows = await self._engine.read(lambda con: fetch_page(con, _SQL[name], parameters))
        return self._engine.aside.all(_dead, rows, "a dead letter")

    async def redrive(self, message_ids: Collection[str] | None, recipient_id: str | None) -> list[tuple[str, str]]:

        def redrive(connection: apsw.Connection) -> list[tuple[str, str]]:
            if message_ids is None:
                rows = fetch(connection, _SQL["redrive_find_all"], {"recipient": recipient_id})
            else:
                parameters = {"ids": encode(sorted(set(message_ids))), "recipient": recipient_id}
                rows = fetch(connection, _SQL["redrive_find"], parameters)
            if rows:
                due, at = self._clock.now()
                connection.execute(_SQL["redrive"], {"seqs": encode([row[0] for row in rows]), "now": due, "at": at})
            return [(message_id, recipient) for _, message_id, recipient in rows]

        return await self._engine.write(redrive)

    async def statistics(self, now: datetime | None = None) -> DeliveryStatistics:

        def read(connection: apsw.Connection) -> tuple[dict[str, int], list[Any] | None, list[Any]]:
            return (
                fetch(connection, _SQL["statistics_counts"], {}),
                fetch(connection, _SQL["statistics_queued"], {"now": instant.due}),
                fetch(connection, _SQL["statistics_claimed"], {}),
            )

        instant = self._clock.now(now)
        counts, queued, (claimed_at,) = await self._engine.read(read)
        return DeliveryStatistics(
            counts=self._engine.aside.counts(DeliveryState, counts),
            oldest_queued_age=None if queued is None else max(0.0, (instant.due - queued[0]) / SECOND),
            oldest_queued_recipient_id=None if queued is None else queued[1],
            oldest_claim_age=None if claimed_at is None else max(0.0, (instant.at - claimed_at) / SECOND),
        )


def _next_due(connection: apsw.Connection) -> int | None:
    return first_of(fetch(connection, _SQL["advance_next"], {}))


def _advance(connection: apsw.Connection, late: Sequence[int], instant: Instant) -> tuple[Advanced, int | None]:
    # In the order that the port names.
    parameters = {"now": instant.due, "at": instant.at, "limit": _AT_ONCE}
    origins = asks.time_out(connection, late, instant) if late else set()
    released = fetch(connection, _SQL["advance_release_find"], parameters)
    if released["seqs"]:
        connection.execute(_SQL["advance_release"], {**parameters, "seqs": encode(released["seqs"])})
        origins |= asks.follow(connection, released["asks"], instant)[1]
    expired = fetch(connection, _SQL["advance_expire_find"], parameters)
    if expired["seqs"]:
        connection.execute(_SQL["advance_expire"], {"seqs": encode(expired["seqs"]), "at": instant.at})
        origins.update(origin for origin in expired["origins"] if origin is not None)
    connection.execute(_SQL["advance_due"], parameters)
    due = connection.changes()
    return Advanced(due, origins, len(released["seqs"]), None, expired["ids"]), _next_due(connection)


def _waiting(row: list[Any]) -> tuple[str, Kind]:
    recipient_id, kind = row
    return recipient_id, Kind(kind)


def _entry(entry: dict[str, Any]) -> dict[str, object]:
    """An entry of a log, with its instants (microseconds) as ISO 8601 and without the token."""
    return {
        **{key: value for key, value in entry.items() if key != "token"},
        "at": to_datetime(entry["at"]).isoformat(),
        "claimed_at": None if entry["claimed_at"] is None else to_datetime(entry["claimed_at"]).isoformat(),
    }


def _receipt(row: list[Any]) -> ReceiptRow:
    id, sender_id, recipient_id, kind, state, attempt, max_attempts, token, created_at = row[:9]
    deliver_at, expires_at, claimed_at, settled_at, read_at = map(to_datetime_or_none, row[9:14])
    agents, numbers = (sender_id, recipient_id), (attempt, max_attempts, token)
    times = deliver_at, expires_at, claimed_at, settled_at, read_at
    owner, log = row[14:]
    states = Kind(kind), DeliveryState(state)
    return ReceiptRow(id, *agents, *states, *numbers, to_datetime(created_at), *times, owner, read_log(log, _entry))


def _dead(row: list[Any]) -> DeadRow:
    id, sender_id, recipient_id, kind, content, metadata, checksum, attempt, created_at, died_at, log, topic = row
    body, times = (content, metadata, checksum), (to_datetime(created_at), to_datetime(died_at))
    return DeadRow(id, sender_id, recipient_id, Kind(kind), *body, attempt, *times, read_log(log, _entry), topic)
