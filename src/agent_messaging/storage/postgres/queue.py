"""Queues in PostgreSQL: what `workload` says of a message's claims, in a constant number of statements."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

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
from .engine import Connection, Engine, columns, count_of

_SQL = Queries(__package__, "queue")
_LONG = 120.0
"""Seconds that measuring may take."""
_AT_ONCE = 5_000
"""Rows of one kind that `advance` changes in one transaction."""
_LATELY = 60.0


class PostgresQueue:
    """See `ports.QueueStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def put(self, messages: Sequence[NewQueueMessage], *, now: datetime | None = None) -> Put:
        if not messages:
            return Put([])
        return await self._engine.run(lambda connection: put(connection, messages, now), write=True)

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
        if limit <= 0:
            return []
        wanted = None if types is None else list(types)
        rows = await self._engine.change(_SQL["queue_claim"], agent_id, limit, owner, lease, MAX_BYTES, wanted, now)
        assert len(rows) <= limit, "over-claimed"
        return [_claimed(row) for row in rows]

    async def settle(self, settlements: Sequence[QueueSettlement], *, now: datetime | None = None) -> list[bool]:
        async def work(connection: Connection) -> list[bool]:
            found = await _find(connection, [(one.claim.agent_id, one.claim.message_id) for one in settlements])
            moved, changes = workload.settle_messages(settlements, found)
            await _write(connection, changes, now)
            return moved

        return await self._engine.run(work, write=True, repeatable=True) if settlements else []

    async def renew(self, claims: Sequence[QueueClaim], *, lease: float, now: datetime | None = None) -> list[bool]:
        async def work(connection: Connection) -> list[bool]:
            found = await _find(connection, [(claim.agent_id, claim.message_id) for claim in claims])
            held, seqs = workload.renew_messages(claims, found)
            await connection.execute(_SQL["queue_renew"], seqs, lease, now)
            return held

        return await self._engine.run(work, write=True, repeatable=True) if claims else []

    async def release(self, owners: Collection[str], *, now: datetime | None = None) -> int:
        if not owners:
            return 0
        return await self._engine.run(lambda connection: release(connection, owners, now), write=True, repeatable=True)

    async def advance(self, *, now: datetime | None = None) -> QueueAdvanced:
        next_in = await self._find_next(now)
        if next_in is None or next_in > 0:
            return QueueAdvanced(next_in=next_in)

        async def work(connection: Connection) -> tuple[int, int, int]:
            rows = await connection.fetch(_SQL["queue_find_overdue"], _AT_ONCE, now)
            overdue = workload.lose_messages([workload.held_message(*row) for row in rows])
            await _write(connection, overdue, now)
            expired = count_of(await connection.execute(_SQL["queue_expire"], _AT_ONCE, now))
            await connection.execute(_SQL["queue_fold_counts"])
            await connection.execute(_SQL["queue_forget_counts"])
            return len(rows), expired, count_of(await connection.execute(_SQL["queue_due"], _AT_ONCE, now))

        released, expired, due = await self._engine.run(work, write=True)
        return QueueAdvanced(released, expired, due, await self._find_next(now))

    async def _find_next(self, now: datetime | None) -> float | None:
        (row,) = await self._engine.fetch(_SQL["queue_next"], now)
        return None if row["next_in"] is None else max(row["next_in"], 0.0)

    async def listen(self, process_id: str, agent_ids: Collection[str]) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute(_SQL["queue_listen_clear"], [process_id])
            await connection.execute(_SQL["queue_listen"], sorted(set(agent_ids)), process_id)

        await self._engine.run(work, write=True, repeatable=True)

    async def list_messages(
        self, agent_id: str | None, states: Collection[DeliveryState] | None, limit: int, offset: int
    ) -> list[QueueMessageRow]:
        wanted = None if states is None else [str(state) for state in states]
        rows = await self._engine.fetch(_SQL["queue_list"], agent_id, wanted, limit, offset)
        return self._engine.aside.all(_row, rows, "a message of a queue")

    async def redrive(self, agent_id: str | None, message_ids: Collection[str] | None) -> int:
        ids = None if message_ids is None else list(message_ids)
        return await self._engine.run(
            lambda connection: _execute(connection, "queue_redrive", agent_id, ids), write=True
        )

    async def statistics(self, agent_id: str | None = None, *, now: datetime | None = None) -> QueueStatistics:
        (row,) = await self._engine.fetch(_SQL["queue_statistics"], agent_id, _LATELY, now)
        states, failed, by_priority = workload.read_counts(json.loads(row["counts"] or "{}"))
        return QueueStatistics(
            counts=self._engine.aside.counts(DeliveryState, states),
            failed=failed,
            by_priority=by_priority,
            settled_lately=row["settled_lately"],
            oldest_queued_age=None if row["age"] is None else max(row["age"], 0.0),
        )

    async def prune(
        self,
        older_than: float,
        limit: int,
        *,
        states: Collection[DeliveryState] | None = None,
        now: datetime | None = None,
    ) -> int:
        wanted = None if states is None else [str(state) for state in states]
        return await self._engine.run(
            lambda connection: _execute(connection, "queue_prune", older_than, limit, wanted, now), write=True
        )

    async def measure(
        self, older_than: float, *, states: Collection[DeliveryState] | None = None, now: datetime | None = None
    ) -> Stock:
        wanted = None if states is None else [str(state) for state in states]
        (row,) = await self._engine.fetch(_SQL["queue_measure"], older_than, wanted, now, budget=_LONG)
        return Stock(**row)


async def put(connection: Connection, messages: Sequence[NewQueueMessage], now: datetime | None) -> Put:
    """Store the messages that their queues do not have."""
    known = await _find(connection, [(message.agent_id, message.message_id) for message in messages])
    stored, new = workload.take_unknown(messages, known)
    if not new:
        return Put(stored)
    rows = await connection.fetch(_SQL["queue_put"], *columns((_new_row(message) for message in new), 10), now)
    made = {(row["agent_id"], row["message_id"]) for row in rows}  # others may have been quicker
    stored = [is_new and (m.agent_id, m.message_id) in made for is_new, m in zip(stored, messages, strict=True)]
    agents = sorted({agent_id for agent_id, _ in made})
    listeners = await connection.fetch(_SQL["queue_find_listeners"], agents)
    return Put(stored, {row["process_id"] for row in listeners})


async def release(
    connection: Connection, owners: Collection[str], now: datetime | None, *, counted: bool = True
) -> int:
    """Return what these processes have claimed, which have ended, and forget that they listen.

    Args:
        counted: They died; otherwise they stopped, which is no attempt.
    """
    await connection.execute(_SQL["queue_listen_clear"], list(owners))
    held = [workload.held_message(*row) for row in await connection.fetch(_SQL["queue_find_claimed"], list(owners))]
    await _write(connection, workload.release_messages(held, counted=counted), now)
    return len(held)


async def _execute(connection: Connection, block: str, *values: object) -> int:
    return count_of(await connection.execute(_SQL[block], *values))


async def _find(connection: Connection, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], workload.Held]:
    rows = await connection.fetch(_SQL["queue_find"], *columns(sorted(set(names)), 2))
    return {(agent_id, message_id): workload.held_message(*row) for agent_id, message_id, *row in rows}


async def _write(connection: Connection, changes: Sequence[workload.Change], now: datetime | None) -> None:
    rows = [
        (
            change.seq,
            str(change.end.of_message),
            change.attempt,
            change.delay,
            str(change.ended_as),
            change.reason,
            change.end.is_final,
            change.suspect,
        )
        for change in changes
    ]
    if rows:
        await connection.execute(_SQL["queue_end"], *columns(rows, 8), now)


def _new_row(message: NewQueueMessage) -> tuple[object, ...]:
    body = message.content, message.metadata, message.checksum, message.max_attempts, message.expires_in
    return message.agent_id, message.message_id, message.sender_id, message.type, message.priority, *body


def _claimed(row: Any) -> ClaimedQueueMessage:
    agent_id, message_id, token, *rest = row
    return ClaimedQueueMessage(QueueClaim(agent_id, message_id, token), *rest)


def _row(row: Any) -> QueueMessageRow:
    values = dict(row)
    return QueueMessageRow(**{**values, "state": DeliveryState(values["state"])})
