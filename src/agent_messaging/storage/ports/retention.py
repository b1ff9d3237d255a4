"""The port of retention: pruning what is old, page by page, and giving back the space."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Any, Protocol

from ...records import dataclass
from ...states import Keeping, Prunable

Place = tuple[Any, ...]
"""Where a walk through one kind is. Only the store that gave it can read it."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What the pages of a dry run have counted so far. Those behind them take it for gone, as it would be."""

    questions: set[int] = field(default_factory=set)
    """The asks among the messages, by their seqs."""
    messages: Counter[str] = field(default_factory=Counter)
    """How many of each session."""


@dataclass(frozen=True, slots=True)
class Pruning:
    """What a walk is to prune."""

    kind: Prunable
    """One that this port walks through: neither tasks nor messages of queues, which have ports of their own."""
    older_than: float
    """Seconds since the last thing that happened to it."""
    unread: bool = False
    """Also messages that their recipients have not had."""
    dry_run: bool = False
    """Only count."""
    counted: Counted = field(default_factory=Counted)
    """Of a dry run. The same for all kinds that are counted together."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one page of a walk came to."""

    number: int = 0
    """So many were pruned, or would be."""
    size_bytes: int = 0
    """Of these, about."""
    kept: Mapping[Keeping, int] = field(default_factory=dict)
    """Those that are old enough and stay, by the reason."""
    next: Place | None = None
    """Where the walk goes on; None: it has ended."""


@dataclass(frozen=True, slots=True)
class Stock:
    """How much there is of something."""

    number: int
    size_bytes: int
    """About."""


class RetentionStore(Protocol):
    """Pruning. What may go, `storage/retention.py` decides; what goes, goes with all that hangs on it."""

    @property
    def page_size(self) -> int:
        """As many rows as a page had best have, so that it holds up the traffic for a few milliseconds at most."""
        ...

    async def prune(
        self, wanted: Pruning, *, after: Place | None = None, limit: int, now: datetime | None = None
    ) -> Pruned:
        """Look through one page of up to `limit`, and prune what may go, all or nothing; repeat-safe.

        A page holds up nobody for longer than its deletions take, and waits for nobody: what another transaction holds
        stays for the next walk. After a crash the page was pruned or was not.
        """
        ...

    async def find_newest_pruned(self, kind: Prunable) -> str | None:
        """The greatest id of this kind that was ever pruned: ids are made by time, so an older one may have been."""
        ...

    async def take_turn(self, kind: Prunable, seconds: float, *, now: datetime | None = None) -> bool:
        """Become the one process that prunes this kind, where nobody did in so many seconds."""
        ...

    async def end_unused_sessions(self, limit: int, *, now: datetime | None = None) -> int:
        """End up to `limit` sessions in threads that are named after messages whose runs are over.

        The asks of a run are in such a thread, and nobody but the run writes in it. One with an open ask, or in which
        somebody waits, stays open.

        Returns:
            How many it ended.
        """
        ...

    async def release_space(self, most_bytes: int) -> int:
        """Give up to so many bytes that pruning has freed back to the system; returns how many.

        0: there are none, or the store cannot.
        """
        ...

    async def find_space_advice(self) -> str | None:
        """What to do where the store cannot give freed space back; None where it can, or need not."""
        ...
