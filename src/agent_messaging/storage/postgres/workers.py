"""Workers in PostgreSQL. How many tasks each has is counted anew with every change of them (`ending.count`)."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime

from ..ports import Beat, NewWorker, WorkerRow, WorkerStatistics
from ..sql import Queries
from .ending import give_back, worker_row
from .engine import Connection, Engine, columns

_SQL = Queries(__package__, "workers")


class PostgresWorkers:
    """See `ports.WorkerStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def register(self, worker: NewWorker, *, process_id: str | None = None, now: datetime | None = None) -> bool:
        values = (
            worker.worker_id,
            worker.role,
            list(worker.capabilities),
            worker.capacity,
            worker.ttl,
            worker.pulls,
            worker.metadata,
            now,
        )

        async def work(connection: Connection) -> bool:
            is_new = await connection.fetchval(_SQL["workers_register"], *values)
            if process_id is not None:
                await connection.execute(_SQL["workers_serve"], [worker.worker_id], process_id)
            return bool(is_new)

        return await self._engine.run(work, write=True)

    async def heartbeat(
        self, beats: Sequence[Beat], *, process_id: str | None = None, now: datetime | None = None
    ) -> list[bool]:
        rows = {beat.worker_id: (beat.worker_id, beat.ttl, beat.status, beat.reported) for beat in beats}
        ids = sorted(rows)

        async def work(connection: Connection) -> list[bool]:
            await connection.execute(_SQL["workers_lock"], ids)
            known = {row["id"] for row in await connection.fetch(_SQL["workers_find"], ids, now)}
            await connection.execute(_SQL["workers_beat"], *columns(rows.values(), 4), now)
            if process_id is not None:
                await connection.execute(_SQL["workers_serve"], ids, process_id)
            return [beat.worker_id in known for beat in beats]

        return await self._engine.run(work, write=True, repeatable=True) if beats else []

    async def unregister(self, worker_id: str, *, process_id: str | None = None, now: datetime | None = None) -> bool:
        async def work(connection: Connection) -> bool:
            await connection.execute(_SQL["workers_lock"], [worker_id])
            known = await connection.fetch(_SQL["workers_find"], [worker_id], now)
            if process_id is None or await leave(connection, [process_id], worker_id):
                await forget(connection, [worker_id], now)
            return bool(known)

        return await self._engine.run(work, write=True)

    async def find_workers(self, worker_ids: Collection[str], *, now: datetime | None = None) -> list[WorkerRow]:
        return await self._list("workers_find", list(worker_ids), now)

    async def list_workers(self, limit: int, offset: int, *, now: datetime | None = None) -> list[WorkerRow]:
        return await self._list("workers_list", limit, offset, now)

    async def find_available(
        self, needs: Collection[str], limit: int, *, now: datetime | None = None
    ) -> list[WorkerRow]:
        return await self._list("workers_find_available", list(needs), limit, now)

    async def _list(self, block: str, *values: object) -> list[WorkerRow]:
        return self._engine.aside.all(worker_row, await self._engine.fetch(_SQL[block], *values), "a worker")

    async def remove_stale(self, limit: int, *, now: datetime | None = None) -> list[str]:
        async def work(connection: Connection) -> list[str]:
            found = [row["id"] for row in await connection.fetch(_SQL["workers_find_stale"], limit, now)]
            await connection.execute(_SQL["workers_lock"], found)
            # One may have given a sign of life, or be gone, since it was found.
            rows = await connection.fetch(_SQL["workers_find"], found, now)
            stale = [row["id"] for row in rows if not row["is_alive"]]
            await forget(connection, stale, now)
            return stale

        return await self._engine.run(work, write=True)

    async def worker_statistics(self, *, now: datetime | None = None) -> WorkerStatistics:
        ((total, alive, by_role, by_status, *rest),) = await self._engine.fetch(_SQL["workers_statistics"], now)
        return WorkerStatistics(total, alive, json.loads(by_role), json.loads(by_status), *rest)


async def leave(connection: Connection, process_ids: Collection[str], worker_id: str | None = None) -> list[str]:
    """Note that these processes serve no worker any more, or not this one; returns those that nobody serves then."""
    left = await connection.fetch(_SQL["workers_find_left"], list(process_ids), worker_id)
    await connection.execute(_SQL["workers_leave"], list(process_ids), worker_id)
    return [row["worker_id"] for row in left]


async def forget(connection: Connection, worker_ids: Collection[str], now: datetime | None) -> None:
    """Remove the workers; what they have returns to the queue."""
    if worker_ids:
        await give_back(connection, worker_ids, now)
        await connection.execute(_SQL["workers_remove"], list(worker_ids))


async def release(connection: Connection, process_ids: Collection[str], now: datetime | None) -> None:
    """Take the workers for offline that only these processes served; what was assigned to them returns to the queue."""
    if left := await leave(connection, process_ids):
        await connection.execute(_SQL["workers_lock"], left)
        await connection.execute(_SQL["workers_offline"], left)
        await give_back(connection, left, now)
