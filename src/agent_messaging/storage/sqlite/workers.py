"""Workers in SQLite. How many tasks each has is counted anew with every change of them (`ending.count`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import apsw

from ..ports import Beat, NewWorker, WorkerRow, WorkerStatistics
from ..sql import Queries
from .clock import SECOND, Instant, StoreClock
from .ending import give_back
from .engine import Engine, fetch
from .rows import encode, worker_row

_SQL = Queries(__package__, "workers")


class SQLiteWorkers:
    """See `ports.WorkerStore`."""

    def __init__(self, engine: Engine, clock: StoreClock) -> None:
        self._engine = engine
        self._clock = clock

    async def register(self, worker: NewWorker, *, process_id: str | None = None, now: datetime | None = None) -> bool:

        def register(connection: apsw.Connection) -> bool:
            instant = self._clock.now(now)
            ids = encode([worker.worker_id])
            is_new = not fetch(connection, _SQL["workers_find"], {"ids": ids, "now": instant.due})
            parameters = {
                "id": worker.worker_id,
                "role": worker.role,
                "capabilities": encode(worker.capabilities),
                "capacity": worker.capacity,
                "until": instant.due + int(worker.ttl * SECOND),
                "pulls": int(worker.pulls),
                "metadata": worker.metadata,
                "at": instant.at,
            }
            connection.execute(_SQL["workers_register"], parameters)
            if process_id is not None:
                connection.execute(_SQL["workers_serve"], {"ids": ids, "process": process_id})
            return is_new

        return await self._engine.write(register)

    async def heartbeat(
        self, beats: Sequence[Beat], *, process_id: str | None = None, now: datetime | None = None
    ) -> list[bool]:

        def beat(connection: apsw.Connection) -> list[bool]:
            instant = self._clock.now(now)
            ids = encode(sorted({beat.worker_id for beat in beats}))
            rows = fetch(connection, _SQL["workers_find"], {"ids": ids, "now": instant.due})
            known = {row[0] for row in rows}
            signs = [(b.worker_id, instant.due + int(b.ttl * SECOND), b.status, b.reported) for b in beats]
            connection.execute(_SQL["workers_beat"], {"rows": encode(signs), "at": instant.at})
            if process_id is not None:
                connection.execute(_SQL["workers_serve"], {"ids": ids, "process": process_id})
            return [beat.worker_id in known for beat in beats]

        return await self._engine.write(beat) if beats else []

    async def unregister(self, worker_id: str, *, process_id: str | None = None, now: datetime | None = None) -> bool:

        def unregister(connection: apsw.Connection) -> bool:
            instant = self._clock.now(now)
            known = fetch(connection, _SQL["workers_find"], {"ids": encode([worker_id]), "now": instant.due})
            if process_id is None or leave(connection, [process_id], worker_id):
                forget(connection, [worker_id], instant)
            return bool(known)

        return await self._engine.write(unregister)

    async def find_workers(self, worker_ids: Collection[str], *, now: datetime | None = None) -> list[WorkerRow]:
        return await self._list("workers_find", now, ids=encode(sorted(set(worker_ids))))

    async def list_workers(self, limit: int, offset: int, *, now: datetime | None = None) -> list[WorkerRow]:
        return await self._list("workers_list", now, limit=limit, offset=offset)

    async def find_available(
        self, needs: Collection[str], limit: int, *, now: datetime | None = None
    ) -> list[WorkerRow]:
        return await self._list("workers_find_available", now, needs=encode(sorted(needs)), limit=limit)

    async def _list(self, block: str, now: datetime | None, **parameters: Any) -> list[WorkerRow]:
        parameters["now"] = self._clock.now(now).due
        rows = await self._engine.read(lambda con: fetch(con, _SQL[block], parameters))
        return self._engine.aside.all(worker_row, rows, "a worker")

    async def remove_stale(self, limit: int, *, now: datetime | None = None) -> list[str]:

        def remove(connection: apsw.Connection) -> list[str]:
            instant = self._clock.now(now)
            stale = fetch(connection, _SQL["workers_find_stale"], {"now": instant.due, "limit": limit})
            forget(connection, stale, instant)
            return list(stale)

        return await self._engine.write(remove)

    async def worker_statistics(self, *, now: datetime | None = None) -> WorkerStatistics:
        parameters = {"now": self._clock.now(now).due}
        return WorkerStatistics(
            *await self._engine.read(lambda con: fetch(con, _SQL["workers_statistics"], parameters))
        )


def leave(connection: apsw.Connection, process_ids: Collection[str], worker_id: str | None = None) -> list[str]:
    """Note that these processes serve no worker any more, or not this one; returns those that nobody serves then."""
    parameters = {"processes": encode(sorted(process_ids)), "worker": worker_id}
    left = fetch(connection, _SQL["workers_find_left"], parameters)
    connection.execute(_SQL["workers_leave"], parameters)
    return list(left)


def forget(connection: apsw.Connection, worker_ids: Collection[str], instant: Instant) -> None:
    """Remove the workers; what they have returns to the queue."""
    if worker_ids:
        give_back(connection, worker_ids, instant)
        connection.execute(_SQL["workers_remove"], {"ids": encode(sorted(worker_ids))})


def release(connection: apsw.Connection, process_ids: Collection[str], instant: Instant) -> None:
    """Take the workers for offline that only these processes served; what was assigned to them returns to the queue."""
    if left := leave(connection, process_ids):
        connection.execute(_SQL["workers_offline"], {"ids": encode(left)})
        give_back(connection, left, instant)
