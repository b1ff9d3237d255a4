"""Writes that were cut off: the server may begin with them, or commit them, after their client has lost the answer.

Whoever asks then what became of one (which claims are mine, end this ask if it is there) would be told too early. So it
waits first until the server's process at that connection has ended, which this hastens. Behind a pooler nobody knows
which process that was; there the locks of claims alone are waited for (`lock_claims`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import Any

from ...exceptions import StorageBusyError
from ..sql import Queries

_SQL = Queries(__package__, "schema")
_PAUSE = 0.02

Run = Callable[[Callable[[Any], Awaitable[set[int]]]], Awaitable[set[int]]]


class CutOffs:
    """The server's processes that may still be at work on a write of this store whose connection is closed."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}
        """When each was cut off, by its pid."""

    def note(self, pid: int) -> None:
        """A write was cut off from this process of the server."""
        self._since[pid] = monotonic()

    async def outlast(self, run: Run, timeout: float) -> None:
        """Wait until all of them have ended: then the store has what they have written, and will have no more of it.

        Args:
            run: Runs a function on a connection, and anew after a failure.
            timeout: Seconds to wait at most.

        Raises:
            StorageBusyError: One is still there after so many seconds, because its disk does not answer.
        """
        deadline = monotonic() + timeout
        while self._since:
            seen = dict(self._since)
            left = await run(partial(_end, seen))
            for pid, since in seen.items():
                if pid not in left and self._since.get(pid) == since:
                    del self._since[pid]
            if self._since:
                if monotonic() > deadline:
                    raise StorageBusyError(
                        "The server is still at work on a call that was cut off, so nobody can say what it has stored. "
                        "Look whether the server's disk, or a standby that it waits for, is slow."
                    )
                await asyncio.sleep(_PAUSE)


async def _end(seen: dict[int, float], connection: Any) -> set[int]:
    """End those that are left, and tell which.

    Their ages are those of this moment. By ages from before, a process that began while a connection was waited for, as
    after a restart of the server, would be taken for one of them where the system gave it the same pid.
    """
    ages = [monotonic() - since for since in seen.values()]
    return {row["pid"] for row in await connection.fetch(_SQL["end_cut_off"], list(seen), ages)}
