"""The processes and what they serve, in SQLite."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import Any

import apsw

from ...models import Kind
from ..aside import Aside
from ..ports import ProcessRow, Service
from ..sql import Queries
from . import asks, ending, parts, queue, workers
from .clock import SECOND, Instant, StoreClock, to_datetime, to_datetime_or_none
from .engine import Engine, fetch
from .rows import encode

_SQL = Queries(__package__, "processes")
_EVERY_AGENT = ""


class SQLiteProcesses:
    """See `ports.ProcessStore`."""

    def __init__(self, engine: Engine, clock: StoreClock) -> None:
        self._engine = engine
        self._clock = clock

    async def publish(self, process_id: str, services: Collection[Service]) -> None:
        rows = encode([(s.agent_id or _EVERY_AGENT, s.kind, int(s.explicit), s.slots) for s in services])

        def publish(connection: apsw.Connection) -> None:
            connection.execute(_SQL["publish_clear"], {"process": process_id})
            connection.execute(_SQL["publish_insert"], {"process": process_id, "rows": rows})

        await self._engine.write(publish)

    async def list_processes(self, ended_within: float) -> list[ProcessRow]:
        now = self._clock.now().due
        parameters = {"since": now - int(ended_within * SECOND)}
        rows = await self._engine.read(lambda con: fetch(con, _SQL["list_processes"], parameters))
        return self._engine.aside.all(partial(_process, now=now, aside=self._engine.aside), rows, "a process")

    async def find_processes(self, process_ids: Collection[str]) -> dict[str, tuple[str, int]]:
        parameters = {"ids": encode(sorted(process_ids))}
        rows = await self._engine.read(lambda con: fetch(con, _SQL["find_processes"], parameters))
        return {id: (host, pid) for id, host, pid in rows}

    async def retire(self, process_id: str) -> None:
        instant = self._clock.now()
        parameters = {"process": process_id, "now": instant.due, "at": instant.at}

        def retire(connection: apsw.Connection) -> None:
            connection.execute(_SQL["retire"], parameters)
            parts.forget_processes(connection, [process_id])
            claimed = asks.forget_processes(connection, [process_id], instant)
            connection.execute(_SQL["retire_claims"], parameters)
            asks.follow(connection, claimed, instant)
            _release_work(connection, [process_id], instant, counted=False)

        await self._engine.write(retire)

    async def release(self, process_ids: Collection[str], now: datetime | None = None) -> int:
        if not process_ids:
            return 0
        instant = self._clock.now(now)
        named = encode(sorted(set(process_ids)))

        def release(connection: apsw.Connection) -> int:
            dead = fetch(connection, _SQL["release_find"], {"processes": named})
            if not dead:
                return 0
            parameters = {"processes": encode(dead), "now": instant.due, "at": instant.at}
            connection.execute(_SQL["release_mark"], parameters)
            parts.forget_processes(connection, dead)
            claimed = asks.forget_processes(connection, dead, instant)
            connection.execute(_SQL["release_claims"], parameters)
            released = connection.changes()
            asks.follow(connection, claimed, instant)
            return released + _release_work(connection, dead, instant)

        return await self._engine.write(release)


def _release_work(
    connection: apsw.Connection, process_ids: Collection[str], instant: Instant, *, counted: bool = True
) -> int:
    """Return what these processes had of the queues and the tasks; their workers are offline."""
    messages = queue.release(connection, process_ids, instant, counted=counted)
    runs = ending.release(connection, process_ids, instant, counted=counted)
    workers.release(connection, process_ids, instant)
    return messages + runs


def _process(row: list[Any], now: int, aside: Aside) -> ProcessRow:
    id, host, pid, started_at, ended_at, end_reason, ended_due, services = row
    return ProcessRow(
        process_id=id,
        host=host,
        pid=pid,
        started_at=to_datetime(started_at),
        ended_at=to_datetime_or_none(ended_at),
        end_reason=end_reason,
        seconds_since_end=None if ended_due is None else max(0.0, (now - ended_due) / SECOND),
        services=tuple(aside.all(_service, services, f"what process {id} serves")),
    )


def _service(row: list[Any]) -> Service:
    agent_id, kind, explicit, slots = row
    return Service(agent_id or None, Kind(kind), bool(explicit), slots)
