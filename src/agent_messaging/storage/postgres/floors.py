"""Floors: up to which seq nothing of a mailbox is due or claimed any more, so that claims need not look there.

The server keeps every version of every row while somebody's snapshot stays open (`horizon` says whose), and a queue
makes a few for each message. A floor is the bound behind which looks begin, so that they pass none of what was handled
meanwhile. The functions are in migrations/0004_waiting_runs.sql. Where few dead rows are kept, there are no floors.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...exceptions import DatabaseError, OutcomeUnknownError
from ...loggers import get_logger
from ..sql import Queries
from .engine import Connection, Engine

_SQL = Queries(__package__, "deliveries")
logger = get_logger("agent_messaging.storage")

EVERY, EVERY_HELD = 1_024, 64
"""Deliveries that end here before floors are looked at: as a rule, and while there are some. Claims then pass up to
twice as many of their mailbox; a look is one round trip and takes the server some 5 µs for each of them."""
MANY, PASSED = 2_000, 200
"""Dead deliveries that the server keeps, and entries that a look into a mailbox passes in vain, from which on the
mailbox has a floor. On a busy server many are dead and passed once; only beside a snapshot are they passed again."""


class Floors:
    """Raises the floors of the mailboxes whose deliveries end in this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ended: list[int] = []
        self._bound: int | None = None
        self._before: list[str] | None = None
        self._is_held = False

    def ended(self, seqs: Iterable[int]) -> None:
        """Take note of deliveries that have ended."""
        self._ended += seqs

    async def raise_if_due(self) -> None:
        """Raise them if enough has ended since the last time. It fails for nobody: a floor is only a shorter way."""
        if len(self._ended) < (EVERY_HELD if self._is_held else EVERY):
            return
        ended, self._ended = self._ended, []
        try:
            ((self._bound, self._before, self._is_held),) = await self._engine.change(
                _SQL["raise_floors"], ended, MANY, PASSED, self._bound, self._before
            )
        except (DatabaseError, OutcomeUnknownError) as error:
            logger.debug("Floors could not be raised: %r", error)


async def lower(connection: Connection, seqs: list[int]) -> None:
    """Lower the floors under what has become due again, in the transaction that did so."""
    if seqs:
        await connection.execute(_SQL["lower_floors"], seqs)
