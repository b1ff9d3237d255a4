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
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

from ...exceptions import NotInitializedError
from ...loggers import get_logger
from ..boot import boot_clock
from ..sql import Queries

_SQL = Queries(__package__, "clock")
logger = get_logger("agent_messaging.storage")

_TOLERANCE = timedelta(seconds=1)
"""Two clocks that differ by more have jumped. Less is followed, because clocks are set right in small steps."""
_FRESH = timedelta(seconds=8)
"""A living process has renewed its lease within this time."""
_SECOND_LOOK = 0.25
_LOOKS = 28
"""Looks at whether a process that seems to be far behind or ahead renews. Together they take longer than a renewal."""
_DRIFT = 1e-4
"""Two clocks that run evenly part by less than this share of the time, as a rule (quartz: half of it)."""
_FINE = 1_000
"""An answer that took twice as many microseconds is read again at the start, up to `_READINGS` times."""
_READINGS = 3
_PLACE = "store_now()"

Ask = Callable[..., Awaitable[Any]]
"""Fetches the one row of a statement with its values, or None."""


class _Reading(NamedTuple):
    """The store's clock at the moment when this machine's said `read_at` (microseconds)."""

    time: datetime
    read_at: int
    doubt: int
    """Microseconds by which it may be wrong: half of the round trip. A process that was stopped in it knows little."""
    shift: timedelta
    epoch: int

    def teaches(self, known: _Reading, drift: timedelta) -> bool:
        """Whether this later reading is better than what is counted on from a known one, which differs by `drift`."""
        counted = known.doubt + round((self.read_at - known.read_at) * _DRIFT)
        return self.doubt <= counted or abs(drift) > timedelta(microseconds=self.doubt + counted)


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
            row, reading = await self._read(ask, None)
            for _ in range(1, _READINGS):
                if reading.doubt > _FINE:
                    row, reading = min((row, reading), await self._read(ask, None), key=lambda found: found[1].doubt)
            if not row["is_anybody"]:
                if not reading.shift:
                    self._reading = reading
                    return
                if await ask(_SQL["record_offset"], timedelta(), reading.epoch):
                    self._reading = reading._replace(time=row["at"], shift=timedelta(), epoch=reading.epoch + 1)
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
        row, reading = await self._read(ask, process_id)
        doubt = timedelta(microseconds=reading.doubt)
        if doubt > _TOLERANCE:
            return  # so slow an answer tells little
        counted = mine.time + timedelta(microseconds=reading.read_at - mine.read_at)
        drift = reading.time - counted
        am_behind = row["latest"] is not None and row["latest"] > counted + _TOLERANCE
        if reading.epoch != mine.epoch or am_behind:
            self._reading = reading
            return
        if abs(drift) <= _TOLERANCE + doubt:
            if reading.teaches(mine, drift):
                self._reading = reading
            return
        shift = reading.shift - drift
        if await ask(_SQL["record_offset"], shift, reading.epoch):
            self._reading = reading._replace(time=counted, shift=shift, epoch=reading.epoch + 1)
            logger.warning(
                "The clock of PostgreSQL at %s has jumped by %+.1f s. The store goes on by its own, now %+.1f s from "
                "the server's, until all its processes have stopped. Set the server's clock right.",
                self._location,
                drift.total_seconds(),
                shift.total_seconds(),
            )

    async def _read(self, ask: Ask, process_id: str | None) -> tuple[Any, _Reading]:
        """Read the row, and what it says."""
        before = boot_clock()
        row = await ask(_SQL["find_offset"], process_id)
        half = (boot_clock() - before) // 2
        return row, _Reading(row["at"] + row["shift"], before + half, half, row["shift"], row["epoch"])


@cache
def _bind(sql: str) -> str | None:
    if _PLACE not in sql:
        return None
    last = max((int(number) for number in re.findall(r"\$(\d+)", sql)), default=0)
    return sql.replace(_PLACE, f"${last + 1}::timestamptz")
