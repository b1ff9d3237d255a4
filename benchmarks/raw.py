"""The raw limits of a store: what the driver alone does, in the same run, on the same files or server."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import asyncpg

from agent_messaging.config import parse_url

from .rows import open_sqlite

BATCH = 500
"""Rows in a transaction, where the limit is that of storing as much as possible."""
CONNECTIONS = 16
"""Those that commit single rows at once on PostgreSQL."""
PAYLOAD = {"text": "The quarterly figures are in; please look at the third table.", "number": 0, "urgent": False}
"""What the benches send: 91 bytes of JSON."""

_TABLE = "create table if not exists bench_single (number integer, content text)"
_CONTENT = json.dumps(PAYLOAD)


class Single:
    """Commits one row at a time."""

    def __init__(self, connection: Any, is_sqlite: bool) -> None:
        self.connection = connection
        self.is_sqlite = is_sqlite

    @classmethod
    async def open(cls, url: str) -> Single:
        """On the same store."""
        path = parse_url(url).path
        if path is not None:
            connection: Any = open_sqlite(path)
            connection.execute(_TABLE)
            return cls(connection, True)
        connection = await asyncpg.connect(url)
        await connection.execute(_TABLE)
        return cls(connection, False)

    async def insert(self) -> None:
        """One row, committed and synced."""
        if self.is_sqlite:
            self.connection.execute("begin immediate")
            self.connection.execute("insert into bench_single values (1, ?)", (_CONTENT,))
            self.connection.execute("commit")
        else:
            await self.connection.execute("insert into bench_single values (1, $1)", _CONTENT)

    async def close(self) -> None:
        """Let go."""
        if self.is_sqlite:
            self.connection.close()
        else:
            await self.connection.close()


async def commit_rate(url: str, count: int) -> float:
    """Single-row commits in a second: on SQLite one after the other, on PostgreSQL on 16 connections."""
    single = await Single.open(url)
    try:
        if single.is_sqlite:
            began = time.perf_counter()
            for _ in range(count):
                await single.insert()
            return count / (time.perf_counter() - began)
    finally:
        await single.close()
    pool: Any = await asyncpg.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS)
    each = max(1, count // CONNECTIONS)
    try:

        async def insert() -> None:
            async with pool.acquire() as connection:
                for _ in range(each):
                    await connection.execute("insert into bench_single values (1, $1)", _CONTENT)

        began = time.perf_counter()
        await asyncio.gather(*(insert() for _ in range(CONNECTIONS)))
        return each * CONNECTIONS / (time.perf_counter() - began)
    finally:
        await pool.close()
