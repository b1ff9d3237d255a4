"""Who keeps the server from cleaning up: somebody else's transaction that stays open.

The server keeps each version of a row as long as any snapshot may need it. A queue makes a few versions for each
message, so beside a forgotten transaction the tables and their indices grow with each message. Claims look past that
(`floors`), but asks, and the looks for what is due, do not, and nothing of it shows where it happens. So it is said who
it is, in the log once, and by `doctor`.
"""

from __future__ import annotations

from typing import Any

PATIENCE = 60.0
"""Seconds for which a snapshot is nobody's business."""
MANY = 10_000
"""Dead rows that are worth a word. Autovacuum leaves fewer behind here."""


def describe(rows: list[Any]) -> tuple[str, ...]:
    """What `find_holder` found, as warnings that end with what to do."""
    return tuple(
        f"{row['who']} has had its transaction open for {row['age']:.0f} s, so that the server keeps {row['dead']} "
        f"dead rows of deliveries, the tables grow, and calls become slower. Commit or end it: {row['remedy']}."
        for row in rows
    )
