"""Processes: which live, whom they serve, and what becomes of the claims, waits and asks of those that ended."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import Any

from ...models import Kind
from ..aside import Aside
from ..ports import ProcessRow, Service
from ..sql import Queries
from . import asks, ending, parts, queue, workers
from .engine import Connection, Engine

_SQL = Queries(__package__, "processes")


class PostgresProcesses:
    """See `ports.ProcessStore`. The sign of life is given in `presence`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def publish(self, process_id: str, services: Collection[Service]) -> None:
        agents = [service.agent_id or "" for service in services]
        kinds = [str(service.kind) for service in services]
        explicit = [service.explicit for service in services]
        slots = [service.slots for service in services]

        async def work(connection: Connection) -> None:
            await connection.execute(_SQL["publish_clear"], process_id)
            if agents:
                await connection.execute(_SQL["publish_insert"], process_id, agents, kinds, explicit, slots)

        await self._engine.run(work, write=True, repeatable=True)

    async def list_processes(self, ended_within: float) -> list[ProcessRow]:
        rows = await self._engine.fetch(_SQL["list_processes"], ended_within)
        return self._engine.aside.all(partial(_process, aside=self._engine.aside), rows, "a process")

    async def find_processes(self, process_ids: Collection[str]) -> dict[str, tuple[str, int]]:
        rows = await self._engine.fetch(_SQL["find_processes"], list(process_ids))
        return {row["process_id"]: (row["host"], row["pid"]) for row in rows}

    async def retire(self, process_id: str) -> None:
        async def work(connection: Connection) -> None:
            await lock_claims(connection, [process_id])
            await connection.execute(_SQL["retire"], process_id)
            returned = await connection.fetch(_SQL["retire_claims"], process_id)
            await asks.follow(connection, returned, "", None)
            await asks.leave(connection, [process_id], None)
            await parts.forget_processes(connection, [process_id])
            await _release_work(connection, [process_id], None, counted=False)

        await self._engine.outlast()
        await self._engine.run(work, write=True, repeatable=True)

    async def release(self, process_ids: Collection[str], now: datetime | None = None) -> int:
        if not process_ids:
            return 0

        async def work(connection: Connection) -> int:
            await lock_claims(connection, process_ids)
            rows = await connection.fetch(_SQL["release_mark"], list(process_ids), now)
            if not rows:
                return 0
            ids = [row["id"] for row in rows]
            released = await connection.fetch(_SQL["release_claims"], ids, now)
            await asks.follow(connection, released, "process died", now)
            await asks.leave(connection, ids, now)
            await parts.forget_processes(connection, ids)
            return len(released) + await _release_work(connection, ids, now)

        return await self._engine.run(work, write=True, repeatable=True)


async def lock_claims(connection: Connection, process_ids: Collection[str]) -> None:
    """Wait until nothing more is claimed for these processes by what they have sent; until the commit nothing is."""
    await connection.execute(_SQL["lock_claims"], list(process_ids))


async def _release_work(
    connection: Connection, process_ids: Collection[str], now: datetime | None, *, counted: bool = True
) -> int:
    """Return what these processes had of the queues and the tasks; their workers are offline."""
    messages = await queue.release(connection, process_ids, now, counted=counted)
    runs = await ending.release(connection, process_ids, now, counted=counted)
    await workers.release(connection, process_ids, now)
    return messages + runs


def _process(row: Any, aside: Aside) -> ProcessRow:
    return ProcessRow(
        process_id=row["process_id"],
        host=row["host"],
        pid=row["pid"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        end_reason=row["end_reason"],
        seconds_since_end=row["seconds_since_end"],
        services=tuple(aside.all(_service, json.loads(row["services"]), f"what process {row['process_id']} serves")),
    )


def _service(row: list[Any]) -> Service:
    agent_id, kind, explicit, slots = row
    return Service(agent_id or None, Kind(kind), explicit, slots)
