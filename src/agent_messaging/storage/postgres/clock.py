"""The store's clock, which all processes share and which does not jump when the server's clock does.

Store time is the server's clock plus an offset in the store, which is nothing until the server's clock jumps. Each
process reads it when it starts, counts on by the clock of its own machine that runs evenly, and compares the two with
each renewal of its lease. So a jump touches no running process; the first one to see it changes the offset by as much.

A process may be the one that stood still, in a virtual machine that was paused. It finds that others, who renew their
leases too, are ahead of it, and takes the server's time. Where nobody lives the offset is forgotten: an offset is
there for what processes wait for, and the server's clock is the better guess for everything else.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

from ...exceptions import NotInitializedError
from ..boot import boot_clock
from ..sql import Queries

_SQL = Queries(__package__, "clock")
_log = logging.getLogger(__name__)

_TOLERANCE = timedelta(seconds=1)
"""Two clocks that differ by more have jumped. Less is followed, because clocks are set right in small steps."""
_FRESH = timedelta(seconds=8)
"""A living process has renewed its lease within this time."""
_SECOND_LOOK = 0.25
_LOOKS = 28
"""Looks at whether a process that seems to be far behind or ahead renews. Together they take longer than a renewal."""
_PLACE = "store_now()"

Ask = Callable[..., Awaitable[Any]]
"""Fetches the one row of a statement with its values, or None."""


class _Reading(NamedTuple):
    """The store's clock at the moment when this machine's said `read_at` (microseconds)."""

    time: datetime
    read_at: int
    shift: timedelta
    epoch: int


class StoreClock:
    """One process's count of store time. `now` may be called from any thread."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._reading: _Reading | None = None

    def now(self) -> datetime:
        """Store time at this moment."""
        reading = self._reading
        if reading is None:
            raise NotInitializedError("The store is not open.")
        return reading.time + timedelta(microseconds=boot_clock() - reading.read_at)

    @property
    def shift(self) -> timedelta:
        """The time by which the server's clock is behind the store's, since it jumped."""
        return timedelta() if self._reading is None else self._reading.shift

    def bind(self, sql: str, values: tuple[object, ...]) -> tuple[str, tuple[object, ...]]:
        """Put store time, as a value behind the others, where a statement says `store_now()`."""
        bound = _bind(sql)
        return (sql, values) if bound is None else (bound, (*values, self.now()))

    async def adopt(self, ask: Ask) -> None:
        """Take the time from the store, at the start of this process."""
        for _ in range(_LOOKS):
            row, reading, _ = await self._read(ask, None)
            if not row["is_anybody"]:
                if not reading.shift:
                    self._reading = reading
                    return
                if await ask(_SQL["record_offset"], timedelta(), reading.epoch):
                    self._reading = _Reading(row["at"], reading.read_at, timedelta(), reading.epoch + 1)
                    return
            elif row["latest"] is None or -_TOLERANCE <= reading.time - row["latest"] <= _FRESH:
                self._reading = reading
                return
            # A process that seems to live said another time: it will change the offset, or has ended without a word.
            self._reading = reading
            await asyncio.sleep(_SECOND_LOOK)

    async def compare(self, ask: Ask, process_id: str) -> None:
        """Set the count right by the store, or the store's offset by the count."""
        mine = self._reading
        assert mine is not None
        row, reading, doubt = await self._read(ask, process_id)
        if doubt > _TOLERANCE:
            return  # so slow an answer tells little
        counted = mine.time + timedelta(microseconds=reading.read_at - mine.read_at)
        drift = reading.time - counted
        am_behind = row["latest"] is not None and row["latest"] > counted + _TOLERANCE
        if abs(drift) <= _TOLERANCE + doubt or reading.epoch != mine.epoch or am_behind:
            self._reading = reading
            return
        shift = reading.shift - drift
        if await ask(_SQL["record_offset"], shift, reading.epoch):
            self._reading = _Reading(counted, reading.read_at, shift, reading.epoch + 1)
            _log.warning(
                "The clock of PostgreSQL at %s has jumped by %+.1f s. The store goes on by its own, now %+.1f s from "
                "the server's, until all its processes have stopped. Set the server's clock right.",
                self._location,
                drift.total_seconds(),
                shift.total_seconds(),
            )

    async def _read(self, ask: Ask, process_id: str | None) -> tuple[Any, _Reading, timedelta]:
        """Read the row, what it says, and by how much that may be wrong."""
        before = boot_clock()
        row = await ask(_SQL["find_offset"], process_id)
        half = (boot_clock() - before) // 2
        reading = _Reading(row["at"] + row["shift"], before + half, row["shift"], row["epoch"])
        return row, reading, timedelta(microseconds=half)


@cache
def _bind(sql: str) -> str | None:
    if _PLACE not in sql:
        return None
    last = max((int(number) for number in re.findall(r"\$(\d+)", sql)), default=0)
    return sql.replace(_PLACE, f"${last + 1}::timestamptz")
