"""Notices for notification handlers: `append` leaves them, they are taken once, and dropped after a minute."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import apsw

from ..sql import Queries
from .clock import SECOND, Instant
from .engine import fetch
from .rows import encode

_ASKS = Queries(__package__, "asks")
_SQL = Queries(__package__, "sessions")
KEPT = 60 * SECOND
"""For so long a notice is worth taking."""


def leave(connection: apsw.Connection, rows: Sequence[tuple[int, str, int | None]], instant: Instant) -> None:
    """Store notices, and drop up to twice as many old ones, so that they stay few.

    Args:
        rows: The seq of the message, the recipient, and the moment at which the notice is due, if that is later.
    """
    drop(connection, 2 * len(rows), instant)
    connection.execute(_ASKS["append_insert_notices"], {"rows": encode(rows), "now": instant.due})


def find(
    connection: apsw.Connection, recipient_ids: Collection[str] | None, limit: int, most_bytes: int, instant: Instant
) -> list[Any]:
    """The messages of the notices that are due and not old, for these recipients or for all, oldest first."""
    parameters: dict[str, Any] = {"since": instant.due - KEPT, "now": instant.due}
    parameters |= {"limit": limit, "most_bytes": most_bytes}
    name = "take_notices_find_all"
    if recipient_ids is not None:
        name = "take_notices_find"
        parameters["recipients"] = encode(sorted(set(recipient_ids)))
    return list(fetch(connection, _SQL[name], parameters))


def remove(connection: apsw.Connection, seqs: list[int]) -> None:
    """Remove notices that were taken."""
    connection.execute(_SQL["take_notices"], {"seqs": encode(seqs)})


def drop(connection: apsw.Connection, limit: int, instant: Instant) -> None:
    """Remove so many of the old ones."""
    connection.execute(_SQL["drop_notices"], {"limit": limit, "before": instant.due - KEPT})
