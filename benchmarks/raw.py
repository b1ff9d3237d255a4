"""The raw limits of storing: the driver alone inserts the rows that the SDK would, into the same tables and indices.

Batches of 500 in one synced transaction each, by the fastest way of inserting that the driver has: what no layer above
it can beat. Nothing is claimed and nothing is settled here, which the SDK does with each of its rows.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import apsw
import asyncpg

from agent_messaging.config import parse_url
from agent_messaging.ids import uuid7
from agent_messaging.payloads import checksum
from agent_messaging.storage.postgres.store import PostgresStore
from agent_messaging.storage.sqlite.store import SQLiteStore

BATCH = 500
PAYLOAD = {"text": "The quarterly figures are in; please look at the third table.", "number": 0, "urgent": False}
"""What the benches send: 91 bytes of JSON."""

_MESSAGES = "insert into messages (seq, id, kind, sender_id, recipient_id, content, checksum, created_at)"
_DELIVERIES = "insert into deliveries (seq, recipient_id, kind, sender_id, state, max_attempts, {queued}, origin)"


async def insert_rate(url: str, pairs: int, count: int, *, batch: int = BATCH) -> float:
    """Messages stored in a second, each with its delivery, between as many pairs of agents."""
    if parse_url(url).backend == "sqlite":
        return await _insert_sqlite(url, pairs, count, batch)
    return await _insert_postgres(url, pairs, count, batch)


async def _insert_sqlite(url: str, pairs: int, count: int, batch: int) -> float:
    path = parse_url(url).path
    assert path is not None
    store = SQLiteStore(path)
    await store.open()
    await store.aclose()
    connection = open_sqlite(path)
    try:
        organization, agents = str(uuid.uuid4()), [str(uuid.uuid4()) for _ in range(2 * pairs)]
        connection.execute("insert into organizations values (?, 'acme', 'Acme', 1, 1)", (organization,))
        rows = [(agent, f"agent-{number}", organization) for number, agent in enumerate(agents)]
        connection.executemany("insert into agents values (?, ?, ?, 'Agent', 1, 1)", rows)
        messages = _rows(agents, count, uuid7, time.time_ns() // 1000)
        return _time_sqlite(connection, messages, batch)
    finally:
        connection.close()


def open_sqlite(path: str) -> apsw.Connection:
    """A connection with the settings that the SDK has for writing."""
    connection = apsw.Connection(path)
    connection.set_busy_timeout(60_000)
    for setting in (
        "journal_mode=wal",
        "synchronous=full",
        "foreign_keys=on",
        "temp_store=memory",
        "cache_size=-32000",
    ):
        connection.execute(f"pragma {setting}")
    connection.execute("pragma wal_autocheckpoint=2000")
    return connection


def _time_sqlite(connection: apsw.Connection, messages: list[tuple[Any, ...]], batch: int) -> float:
    eight = "values (?, ?, ?, ?, ?, ?, ?, ?)"
    store_messages = f"{_MESSAGES} {eight}"
    store_deliveries = f"{_DELIVERIES.format(queued='queued_due')} {eight}"
    started = time.perf_counter()
    for some in _batches(messages, batch):
        connection.execute("begin immediate")
        connection.executemany(store_messages, some)
        connection.executemany(store_deliveries, _deliveries(some))
        connection.execute("commit")
    return len(messages) / (time.perf_counter() - started)


async def _insert_postgres(url: str, pairs: int, count: int, batch: int) -> float:
    store = PostgresStore(url)
    await store.open()
    await store.aclose()
    connection = await asyncpg.connect(url)
    try:
        now = datetime.now(UTC)
        organization, agents = uuid.uuid4(), [uuid.uuid4() for _ in range(2 * pairs)]
        await connection.execute("insert into organizations values ($1, 'acme', 'Acme', $2, $2)", organization, now)
        rows = [(agent, f"agent-{number}", organization, now) for number, agent in enumerate(agents)]
        await connection.executemany("insert into agents values ($1, $2, $3, 'Agent', $4, $4)", rows)
        messages = _rows(agents, count, lambda: uuid.UUID(uuid7()), now)
        return await _time_postgres(connection, messages, batch)
    finally:
        await connection.close()


async def _time_postgres(connection: Any, messages: list[tuple[Any, ...]], batch: int) -> float:
    # Measured against executemany and plain multi-row inserts: arrays are the fastest insert that asyncpg has.
    store_messages = (
        f"{_MESSAGES} select * from unnest($1::bigint[], $2::uuid[], $3::text[], $4::uuid[], $5::uuid[], $6::text[],"
        " $7::bigint[], $8::timestamptz[])"
    )
    store_deliveries = (
        f"{_DELIVERIES.format(queued='queued_at')} select * from unnest($1::bigint[], $2::uuid[], $3::text[],"
        " $4::uuid[], $5::text[], $6::integer[], $7::timestamptz[], $8::uuid[])"
    )
    started = time.perf_counter()
    for some in _batches(messages, batch):
        async with connection.transaction():
            await connection.execute(store_messages, *zip(*some, strict=True))
            await connection.execute(store_deliveries, *zip(*_deliveries(some), strict=True))
    return len(messages) / (time.perf_counter() - started)


def _rows(agents: Sequence[Any], count: int, make_id: Any, now: Any) -> list[tuple[Any, ...]]:
    pairs = len(agents) // 2
    rows = []
    for number in range(count):
        content = json.dumps({**PAYLOAD, "number": number}, separators=(",", ":"))
        sender, recipient = agents[number % pairs], agents[pairs + number % pairs]
        rows.append((number + 1, make_id(), "one_way", sender, recipient, content, checksum(content, None), now))
    return rows


def _deliveries(messages: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    origin = messages[0][1]  # some id
    return [(seq, to, kind, by, "queued", 5, now, origin) for seq, _, kind, by, to, _, _, now in messages]


def _batches(rows: list[tuple[Any, ...]], size: int) -> list[list[tuple[Any, ...]]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
