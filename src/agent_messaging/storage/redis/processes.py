"""The end of processes on Redis: see `lua/processes.lua`. The sign of life is given in `presence`."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from .engine import Engine


class RedisProcesses:
    """See `ports.Farewells`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def retire(self, process_id: str) -> None:
        await self._engine.call("bury", processes=[process_id], counted=False)

    async def release(self, process_ids: Collection[str], now: datetime | None = None) -> int:
        if not process_ids:
            return 0
        return int(await self._engine.call("bury", now=now, processes=sorted(set(process_ids)), counted=True))
