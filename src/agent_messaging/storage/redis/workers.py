"""Workers on Redis: see `lua/workers.lua` for what is stored."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from ..ports import Beat, NewWorker, WorkerRow, WorkerStatistics
from .engine import Engine
from .values import duration, instant, maybe, moved, number, text


class RedisWorkers:
    """See `ports.WorkerStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def register(self, worker: NewWorker, *, process_id: str | None = None, now: datetime | None = None) -> bool:
        given = {
            "id": worker.worker_id,
            "role": worker.role,
            "capabilities": json.dumps(list(worker.capabilities)),
            "capacity": worker.capacity,
            "ttl": duration(worker.ttl),
            "pulls": int(worker.pulls),
            "metadata": worker.metadata,
        }
        return bool(await self._engine.call("register", now=now, worker=given, process=process_id))

    async def heartbeat(
        self, beats: Sequence[Beat], *, process_id: str | None = None, now: datetime | None = None
    ) -> list[bool]:
        if not beats:
            return []
        given = [
            {"id": beat.worker_id, "ttl": duration(beat.ttl), "status": beat.status, "reported": beat.reported}
            for beat in beats
        ]
        return moved(await self._engine.call("heartbeat", now=now, beats=given, process=process_id))

    async def unregister(self, worker_id: str, *, process_id: str | None = None, now: datetime | None = None) -> bool:
        return bool(await self._engine.call("unregister", now=now, id=worker_id, process=process_id))

    async def find_workers(self, worker_ids: Collection[str], *, now: datetime | None = None) -> list[WorkerRow]:
        return self._read(await self._engine.call("find_workers", now=now, ids=sorted(worker_ids)))

    async def list_workers(self, limit: int, offset: int, *, now: datetime | None = None) -> list[WorkerRow]:
        return self._read(await self._engine.call("list_workers", now=now, limit=limit, offset=offset))

    async def find_available(
        self, needs: Collection[str], limit: int, *, now: datetime | None = None
    ) -> list[WorkerRow]:
        return self._read(await self._engine.call("find_available", now=now, needs=sorted(needs), limit=limit))

    async def remove_stale(self, limit: int, *, now: datetime | None = None) -> list[str]:
        return [text(one) for one in await self._engine.call("remove_stale", now=now, limit=limit)]

    async def worker_statistics(self, *, now: datetime | None = None) -> WorkerStatistics:
        today, rows = await self._engine.call("worker_statistics", now=now)
        live = [row for row in rows if number(row[2]) > number(today)]
        loads = [max(number(booked), number(reported)) / number(most) for *_, booked, reported, most in live]
        return WorkerStatistics(
            total=len(rows),
            alive=len(live),
            by_role=dict(Counter(text(row[0]) for row in rows)),
            by_status=dict(Counter(text(row[1]) for row in rows)),
            busy=sum(max(number(booked), number(reported)) for *_, booked, reported, _ in live),
            capacity=sum(number(row[5]) for row in live),
            load=sum(loads) / len(loads) if loads else 0.0,
        )

    def _read(self, answer: list[Any]) -> list[WorkerRow]:
        today, rows = answer
        return self._engine.aside.all(partial(_read_row, today=number(today)), rows, "a worker")


def _read_row(row: list[bytes], today: int) -> WorkerRow:
    role, capabilities, capacity, status, until, booked, reported, pulls, metadata, registered, beat, idle, ident = row
    return WorkerRow(
        worker_id=text(ident),
        role=text(role),
        capabilities=tuple(json.loads(capabilities)),
        capacity=number(capacity),
        status=text(status),
        is_alive=number(until) > today,
        booked=number(booked),
        reported=number(reported),
        pulls=pulls == b"1",
        metadata=maybe(metadata),
        registered_at=instant(registered),
        heartbeat_at=instant(beat),
        idle_since=instant(idle),
    )
