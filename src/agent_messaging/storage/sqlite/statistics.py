"""Statistics of SQLite's planner: what ANALYZE and `pragma optimize` leave in a database, and a store must not have.

Every statement here is written for the plan that SQLite makes without them. Statistics are those of the day on which
somebody took them, with a graphical tool or on good advice, and they stay: with those of a store that had a few
messages, a claim beside 20,000 that wait takes 200,000 steps of SQLite's machine in place of some hundreds. No setting
lets a connection ignore them, so they are removed: when a store is opened, and behind a commit where they have come
since.
"""

from __future__ import annotations

import apsw

from ...loggers import get_logger
from ..sql import Queries

_SQL = Queries(__package__, "schema")
logger = get_logger("agent_messaging.storage")

EVERY = 60.0
"""Seconds between two looks of a store that writes."""


def forget(connection: apsw.Connection, location: str) -> None:
    """Remove them, in a transaction that the caller has begun.

    Args:
        connection: The one that writes.
        location: How the log names the database.
    """
    if not connection.execute(_SQL["find_statistics"]).get:
        return
    connection.execute(_SQL["drop_statistics"])
    logger.info(
        "Statistics of SQLite's planner were removed from %s: somebody ran ANALYZE or `pragma optimize`, by which it "
        "would read whole mailboxes. Leave both out of what tends the file; the store needs neither.",
        location,
    )
