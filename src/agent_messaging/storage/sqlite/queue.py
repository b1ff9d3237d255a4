"""Queues in SQLite: what `workload` says of a message's claims, in a constant number of statements."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

import apsw

from ...models import DeliveryState
from .. import workload
from ..batches import MAX_BYTES
from ..ports import (
    ClaimedQueueMessage,
    NewQueueMessage,
    Put,
    QueueAdvanced,
    QueueClaim,
    QueueMessageRow,
    QueueSettlement,
    QueueStatistics,
    Stock,
)
from ..sql import Queries
from .clock import SECOND, Instant, StoreClock, first_of, seconds_left, to_datetime, to_datetime_or_none
from .engine import Engine, fetch, fetch_page
from .rows import encode

_SQL = Queries(__package__, "queue")
_AT_ONCE = 5_000
"""Rows of one kind that `advance` changes in one transaction."""
_LATELY = 60 * SECOND


class SQLiteQueue:
    """See `ports.QueueStore`."""

    def __init__(self, engine: Engine, clock: StoreClock) -> None:
        self._engine = engine
        self._clock = clock

    async def put(self, messages: Sequence[NewQueueMessage], *, now: datetime | None = None) -> Put:
        if not messages:
            return Put([])
        size = sum(message.size for message in messages)
        return await self._engine.write(lambda con: put(con, messages, self._clock.now(now)), size=size)

    async def claim(
        self,
        agent_id: str,
        limit: int,
        *,
        owner: str,
        lease: float,
        types: Collection[str] | None = None,
        now: datetime | None = None,
    ) -> list[ClaimedQueueMessage]:

        def claim(connection: apsw.Connection) -> list[Any]:
            instant = self._clock.now(now)
            parameters = {
                "agent": agent_id,
                "owner": owner,
                "types": None if types is None else encode(sorted(types)),
                "limit": limit,
                "most_bytes": MAX_BYTES,
                "now": instant.due,
            }
            if not (seqs := fetch(connection, _SQL["queue_claim_find"], parameters)):
                return []
            until = instant.due + int(lease * SECOND)
            taken = {"seqs": encode(seqs), "owner": owner, "at": instant.at, "until": until}
            connection.execute(_SQL["queue_claim"], taken)
            return list(fetch(connection, _SQL["queue_claim_read"], {"seqs": taken["seqs"]}))

        rows = await self._engine.write(claim) if limit > 0 else []
        return [_claimed(row) for row in rows]

    async def settle(self, settlements: Sequence[QueueSettlement], *, now: datetime | None = None) -> list[bool]:
        if not settlements:
            return []
        return await self._engine.write(lambda con: _settle(con, settlements, self._clock.now(now)))

    async def renew(self, claims: Sequence[QueueClaim], *, lease: float, now: datetime | None = None) -> list[bool]:

        def renew(connection: apsw.Connection) -> list[bool]:
            found = _find(connection, [(claim.agent_id, claim.message_id) for claim in claims])
            held, seqs = workload.renew_messages(claims, found)
            until = self._clock.now(now).due + int(lease * SECOND)
            connection.execute(_SQL["queue_renew"], {"seqs": encode(seqs), "until": until})
            return held

        return await self._engine.write(renew) if claims else []

    async def release(self, owners: Collection[str], *, now: datetime | None = None) -> int:
        if not owners:
            return 0
        return await self._engine.write(lambda con: release(con, owners, self._clock.now(now)))

    async def advance(self, *, now: datetime | None = None) -> QueueAdvanced:
        instant = self._clock.now(now)
        advanced, next_due = QueueAdvanced(), await self._engine.read(_next_due)
        if next_due is not None and next_due <= instant.due:
            advanced, next_due = await self._engine.write(lambda con: _advance(con, instant))
        return QueueAdvanced(advanced.released, advanced.expired, advanced.due, seconds_left(next_due, instant))

    async def listen(self, process_id: str, agent_ids: Collection[str]) -> None:
        parameters = {"process": process_id, "agents": encode(sorted(set(agent_ids)))}

        def listen(connection: apsw.Connection) -> None:
            connection.execute(_SQL["queue_listen_clear"], {"processes": encode([process_id])})
            connection.execute(_SQL["queue_listen"], parameters)

        await self._engine.write(listen)

    async def list_messages(
        self, agent_id: str | None, states: Collection[DeliveryState] | None, limit: int, offset: int
    ) -> list[QueueMessageRow]:
        wanted = None if states is None else encode(sorted(states))
        parameters = {"agent": agent_id, "states": wanted, "limit": limit, "offset": offset}
        rows = await self._engine.read(lambda con: fetch_page(con, _SQL["queue_list"], parameters))
        return self._engine.aside.all(_row, rows, "a message of a queue")

    async def redrive(self, agent_id: str | None, message_ids: Collection[str] | None) -> int:
        ids = None if message_ids is None else encode(sorted(set(message_ids)))
        parameters = {"agent": agent_id, "ids": ids, "now": self._clock.now().due}

        def redrive(connection: apsw.Connection) -> int:
            connection.execute(_SQL["queue_redrive"], parameters)
            return connection.changes()

        return await self._engine.write(redrive)

    async def statistics(self, agent_id: str | None = None, *, now: datetime | None = None) -> QueueStatistics:
        instant = self._clock.now(now)
        parameters = {"agent": agent_id, "since": instant.due - _LATELY}
        found = await self._engine.read(lambda con: fetch(con, _SQL["queue_statistics"], parameters))
        counts, settled, created_at = found
        states, failed, by_priority = workload.read_counts(counts)
        return QueueStatistics(
            counts=self._engine.aside.counts(DeliveryState, states),
            failed=failed,
            by_priority=by_priority,
            settled_lately=settled,
            oldest_queued_age=None if created_at is None else max(0.0, (instant.at - created_at) / SECOND),
        )

    async def prune(
        self,
        older_than: float,
        limit: int,
        *,
        states: Collection[DeliveryState] | None = None,
        now: datetime | None = None,
    ) -> int:

        def prune(connection: apsw.Connection) -> int:
            before = self._clock.now(now).due - int(older_than * SECOND)
            wanted = None if states is None else encode(sorted(states))
            connection.execute(_SQL["queue_prune"], {"before": before, "limit": limit, "states": wanted})
            return connection.changes()

        return await self._engine.write(prune)

    async def measure(
        self, older_than: float, *, states: Collection[DeliveryState] | None = None, now: datetime | None = None
    ) -> Stock:
        before = self._clock.now(now).due - int(older_than * SECOND)
        parameters = {"before": before, "states": None if states is None else encode(sorted(states))}
        return Stock(*await self._engine.read(lambda con: fetch(con, _SQL["queue_measure"], parameters)))


def put(connection: apsw.Connection, messages: Sequence[NewQueueMessage], instant: Instant) -> Put:
    """Store the messages that their queues do not have."""
    known = _find(connection, [(message.agent_id, message.message_id) for message in messages])
    stored, new = workload.take_unknown(messages, known)
    rows = [_new_row(message, instant) for message in new]
    connection.execute(_SQL["queue_put"], {"rows": encode(rows), "now": instant.due, "at": instant.at})
    agents = encode(sorted({message.agent_id for message in new}))
    return Put(stored, set(fetch(connection, _SQL["queue_find_listeners"], {"agents": agents})))


def release(connection: apsw.Connection, owners: Collection[str], instant: Instant, *, counted: bool = True) -> int:
    """Return what these processes have claimed, which have ended, and forget that they listen.

    Args:
        counted: They died; otherwise they stopped, which is no attempt.
    """
    connection.execute(_SQL["queue_listen_clear"], {"processes": encode(sorted(owners))})
    rows = fetch(connection, _SQL["queue_find_claimed"], {"owners": encode(sorted(owners))})
    held = [workload.held_message(*row) for row in rows]
    _write(connection, workload.release_messages(held, counted=counted), instant)
    return len(held)


def _find(connection: apsw.Connection, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], workload.Held]:
    rows = fetch(connection, _SQL["queue_find"], {"names": encode(sorted(set(names)))})
    return {(agent_id, message_id): workload.held_message(*row) for agent_id, message_id, *row in rows}


def _settle(connection: apsw.Connection, settlements: Sequence[QueueSettlement], instant: Instant) -> list[bool]:
    found = _find(connection, [(one.claim.agent_id, one.claim.message_id) for one in settlements])
    moved, changes = workload.settle_messages(settlements, found)
    _write(connection, changes, instant)
    return moved


def _write(connection: apsw.Connection, changes: Sequence[workload.Change], instant: Instant) -> None:
    rows = [
        (
            change.seq,
            change.end.of_message,
            change.attempt,
            instant.due + int(change.delay * SECOND) if change.delay > 0 else 0,
            change.ended_as,
            change.reason,
            int(change.end.is_final),
            int(change.suspect),
        )
        for change in changes
    ]
    if rows:
        connection.execute(_SQL["queue_end"], {"rows": encode(rows), "now": instant.due, "at": instant.at})


def _next_due(connection: apsw.Connection) -> int | None:
    return first_of(fetch(connection, _SQL["queue_next"], {}))


def _advance(connection: apsw.Connection, instant: Instant) -> tuple[QueueAdvanced, int | None]:
    parameters = {"now": instant.due, "limit": _AT_ONCE}
    rows = fetch(connection, _SQL["queue_find_overdue"], parameters)
    overdue = workload.lose_messages([workload.held_message(*row) for row in rows])
    _write(connection, overdue, instant)
    connection.execute(_SQL["queue_expire"], {**parameters, "at": instant.at})
    expired = connection.changes()
    connection.execute(_SQL["queue_due"], parameters)
    return QueueAdvanced(len(rows), expired, connection.changes()), _next_due(connection)


def _new_row(message: NewQueueMessage, instant: Instant) -> tuple[Any, ...]:
    ahead = None if message.expires_in is None else int(message.expires_in * SECOND)
    return (
        message.agent_id,
        message.message_id,
        message.sender_id,
        message.type,
        message.priority,
        message.content,
        message.metadata,
        message.checksum,
        message.max_attempts,
        None if ahead is None else instant.due + ahead,
        None if ahead is None else instant.at + ahead,
    )


def _claimed(row: list[Any]) -> ClaimedQueueMessage:
    agent_id, message_id, token, *rest = row
    *body, created_at, expires_at = rest
    rest = [*body, to_datetime(created_at), to_datetime_or_none(expires_at)]
    return ClaimedQueueMessage(QueueClaim(agent_id, message_id, token), *rest)


def _row(row: list[Any]) -> QueueMessageRow:
    *body, state, token, attempt, max_attempts, owner, created_at, expires_at, claimed_at, settled_at, reason = row
    counts = token, attempt, max_attempts, owner
    later = map(to_datetime_or_none, (expires_at, claimed_at, settled_at))
    values: list[Any] = [*body, DeliveryState(state), *counts, to_datetime(created_at), *later, reason]
    return QueueMessageRow(*values)
