"""Queues on Redis: see `lua/queue.lua` for what is stored."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from ...ids import uuid7
from ...loggers import get_logger
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
    Settling,
    Stock,
)
from .engine import Engine
from .together import Together
from .values import duration, final_words, instant, maybe, moved, names, number, seconds, text

logger = get_logger("agent_messaging.storage")


def message_arguments(message: NewQueueMessage) -> dict[str, Any]:
    """The message as the script takes it."""
    return {
        "agent": message.agent_id,
        "id": message.message_id,
        "sender": message.sender_id,
        "type": message.type,
        "priority": message.priority,
        "content": message.content,
        "metadata": message.metadata,
        "checksum": str(message.checksum),
        "max_attempts": message.max_attempts,
        "expires_in": None if message.expires_in is None else duration(message.expires_in),
    }


class RedisQueue:
    """See `ports.QueueStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._put = Together(engine, "put", "messages")
        self._settle = Together(engine, "settle", "settlements")

    async def put(self, messages: Sequence[NewQueueMessage], *, now: datetime | None = None) -> Put:
        if not messages:
            return Put([])
        size = sum(one.size for one in messages)
        answer = await self._put([message_arguments(one) for one in messages], size=size, now=now)
        return Put(moved(answer.items), names(answer.rest[0]) if 1 in answer.items else set())

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
        aside, claimed = await self._engine.call(
            "claim",
            now=now,
            call=uuid7(),
            agent=agent_id,
            limit=limit,
            owner=owner,
            lease=duration(lease),
            types=None if types is None else sorted(types),
            most_bytes=MAX_BYTES,
        )
        if aside:
            logger.warning(
                "%d entries in the streams of the queue %r at %s were not put there by this package. They were set "
                "aside in the stream `…:quarantine` of its namespace, and the queue goes on.",
                aside,
                agent_id,
                self._engine.location,
            )
        return self._engine.aside.all(partial(_read_claimed, agent_id), claimed, "a message of a queue")

    async def settle(self, settlements: Sequence[QueueSettlement], *, now: datetime | None = None) -> list[bool]:
        if not settlements:
            return []
        answer = await self._settle(
            [
                {
                    "agent": one.claim.agent_id,
                    "id": one.claim.message_id,
                    "token": one.claim.token,
                    "how": one.how.value,
                    "delay": duration(one.delay) if one.how is Settling.RETRY else 0,
                    "reason": one.reason,
                }
                for one in settlements
            ],
            now=now,
        )
        return moved(answer.items)

    async def renew(self, claims: Sequence[QueueClaim], *, lease: float, now: datetime | None = None) -> list[bool]:
        if not claims:
            return []
        given = [{"agent": one.agent_id, "id": one.message_id, "token": one.token} for one in claims]
        return moved(await self._engine.call("renew", now=now, claims=given, lease=duration(lease)))

    async def release(self, owners: Collection[str], *, now: datetime | None = None) -> int:
        return int(await self._engine.call("release", now=now, owners=sorted(owners)))

    async def advance(self, *, now: datetime | None = None) -> QueueAdvanced:
        released, expired, due, next_in = await self._engine.call("advance_queue", now=now)
        return QueueAdvanced(released, expired, due, seconds(next_in))

    async def listen(self, process_id: str, agent_ids: Collection[str]) -> None:
        await self._engine.call("listen", process=process_id, agents=sorted(set(agent_ids)))

    async def list_messages(
        self, agent_id: str | None, states: Collection[DeliveryState] | None, limit: int, offset: int
    ) -> list[QueueMessageRow]:
        rows = await self._engine.read_page("list_messages", limit, offset, agent=agent_id, states=_words(states))
        return self._engine.aside.all(_read_row, rows, "a message of a queue")

    async def redrive(self, agent_id: str | None, message_ids: Collection[str] | None) -> int:
        ids = None if message_ids is None else sorted(message_ids)
        return int(await self._engine.call("redrive", agent=agent_id, ids=ids))

    async def statistics(self, agent_id: str | None = None, *, now: datetime | None = None) -> QueueStatistics:
        flat, lately, oldest = await self._engine.call("queue_statistics", now=now, agent=agent_id)
        counts = {text(name): number(count) for name, count in zip(flat[::2], flat[1::2], strict=True)}
        states, failed, by_priority = workload.read_counts(counts)
        return QueueStatistics(
            counts=self._engine.aside.counts(DeliveryState, states),
            failed=failed,
            by_priority=by_priority,
            settled_lately=lately,
            oldest_queued_age=seconds(oldest),
        )

    async def prune(
        self,
        older_than: float,
        limit: int,
        *,
        states: Collection[DeliveryState] | None = None,
        now: datetime | None = None,
    ) -> int:
        words = final_words(DeliveryState, states)
        return int(
            await self._engine.call("prune_queue", now=now, older_than=duration(older_than), limit=limit, states=words)
        )

    async def measure(
        self, older_than: float, *, states: Collection[DeliveryState] | None = None, now: datetime | None = None
    ) -> Stock:
        words = final_words(DeliveryState, states)
        found = await self._engine.call("measure_queue", now=now, older_than=duration(older_than), states=words)
        return Stock(*map(int, found))


def _words(states: Collection[DeliveryState] | None) -> list[str] | None:
    return None if states is None else sorted(state.value for state in states)


def _read_claimed(agent_id: str, row: list[bytes]) -> ClaimedQueueMessage:
    content, metadata, sender, kind, numbers, ident = row
    priority, checksum, most, created, expires, token, attempt = numbers.split(b"\n")
    return ClaimedQueueMessage(
        claim=QueueClaim(agent_id, text(ident), number(token)),
        attempt=number(attempt),
        sender_id=text(sender),
        type=text(kind),
        priority=number(priority),
        content=text(content),
        metadata=maybe(metadata),
        checksum=number(checksum),
        max_attempts=number(most),
        created_at=instant(created),
        expires_at=instant(expires) if expires else None,
    )


def _read_row(row: list[bytes]) -> QueueMessageRow:
    sender, kind, priority, content, metadata, checksum, most, created, expires, *more = row
    state, token, attempt, owner, claimed, settled, reason, ident, agent = more
    return QueueMessageRow(
        agent_id=text(agent),
        message_id=text(ident),
        sender_id=text(sender),
        type=text(kind),
        priority=number(priority),
        content=text(content),
        metadata=maybe(metadata),
        checksum=number(checksum),
        max_attempts=number(most),
        created_at=instant(created),
        expires_at=instant(expires) if expires else None,
        attempt=number(attempt),
        state=DeliveryState(text(state)),
        token=number(token),
        owner=maybe(owner),
        claimed_at=instant(claimed) if claimed else None,
        settled_at=instant(settled) if settled else None,
        reason=maybe(reason),
    )
