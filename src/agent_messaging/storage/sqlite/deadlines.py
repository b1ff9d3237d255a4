"""The deadlines of open asks that come next, remembered from look to look.

No index has them, because it would be a page more in the commit of each ask. So a look at all open asks remembers the
first of them, and the looks after it read only what was stored meanwhile: numbers rise with the commits, so that is
behind the last number that was seen. A look costs the same however many asks wait, and each delivery is passed once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import apsw

from ..sql import Queries
from .engine import fetch
from .rows import encode

_SQL = Queries(__package__, "asks")
FEW = 100
"""So many open asks are read anew by each look."""
KEPT = 1_000
"""Deadlines that a look at all open asks remembers."""
_HEADS = 4
"""How many of the first deadlines a look asks whether they are still open; twice as many each time that none is."""
LASTS = 10.0
"""Seconds after which all open asks are looked at again, because somebody may have changed rows by hand."""

Due = tuple[int, int]
"""When an ask runs out, and its seq."""


class AskDeadlines:
    """Those of one store."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # each reader may look
        self._next: list[Due] = []
        """The first ones, in order. Some may have ended."""
        self._beyond: int | None = None
        """When the next one may be due that is not among them; None if there is none."""
        self._seen = 0
        """The greatest seq that was looked at."""
        self._is_few = True
        self._until = 0.0

    def look(self, connection: apsw.Connection, now: int) -> tuple[list[int], int | None]:
        """The open asks that are due, at most so many as are kept, and when the next one after them may be."""
        if connection.in_transaction:  # in memory: what it sees may be rolled back, and its numbers be given again
            return _split(*_find_next(connection)[:2], now)
        with self._lock:
            if self._is_few or time.monotonic() >= self._until:
                self._look_at_all(connection)
            else:
                self._look_at_new(connection)
                self._forget_ended(connection)
                if not self._next:
                    self._look_at_all(connection)
            return _split(self._next, self._beyond, now)

    def _look_at_all(self, connection: apsw.Connection) -> None:
        self._next, self._beyond, self._seen = _find_next(connection)
        self._is_few = len(self._next) < FEW
        self._until = time.monotonic() + LASTS

    def _look_at_new(self, connection: apsw.Connection) -> None:
        found = fetch(connection, _SQL["asks_find_new"], {"after": self._seen, "before": self._beyond})
        self._seen = max(self._seen, found["seen"])  # the newest may have been removed
        if found["rows"]:
            self._next = sorted([*self._next, *_dues(found)])
            if len(self._next) > 2 * KEPT:
                self._beyond = self._next[KEPT][0]
                del self._next[KEPT:]

    def _forget_ended(self, connection: apsw.Connection) -> None:
        """Let the remembered ones begin with one that is open."""
        number = _HEADS
        while self._next:
            seqs = [seq for _, seq in self._next[:number]]
            still = set(fetch(connection, _SQL["asks_find_open"], {"seqs": encode(seqs)}))
            ended = next((position for position, seq in enumerate(seqs) if seq in still), len(seqs))
            del self._next[:ended]
            if still:
                return
            number *= 2


def _find_next(connection: apsw.Connection) -> tuple[list[Due], int | None, int]:
    """The first deadlines of all open asks, when the next one may be due, and the greatest seq that there is."""
    found = fetch(connection, _SQL["asks_find_next"], {"limit": KEPT})
    return _dues(found), found["beyond"], found["seen"]


def _dues(found: Mapping[str, Any]) -> list[Due]:
    return [(due, seq) for due, seq in found["rows"]]


def _split(dues: list[Due], beyond: int | None, now: int) -> tuple[list[int], int | None]:
    late = [seq for due, seq in dues if due <= now]
    return late, dues[len(late)][0] if len(late) < len(dues) else beyond
