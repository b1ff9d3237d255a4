"""How full the mailboxes are, without counting them at every send.

Counting a mailbox costs as much as it is deep. A gauge remembers the last count of each mailbox and what this process
added since. It asks for a new count when a wrong guess could matter: when the additions exceed this process's share of
what was free, or the count is older than a second. So a mailbox near its limit is counted at every append.

The share is an eighth, divided by the number of processes when it was counted. All together cannot overrun the limit
between two counts, even if they start one after the other within that second: the first adds at most an eighth, the
next a 16th, then a 24th, and of a thousand such shares the sum is below one. A reading may be too high, because others
took messages out; so no reading refuses anything, only a count made in the same transaction does.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from ..records import dataclass
from .ports import NewGroup

_SHARE = 8
_MAX_AGE = 1.0
_REMEMBERED = 10_000


@dataclass(slots=True)
class Asked:
    """What the groups of one call ask of a recipient's mailbox."""

    smallest: int
    """The smallest limit that a group names."""
    greatest: int
    """The greatest; a count need go no further than just past it."""
    adding: int
    """The messages of all groups, also of groups without a limit."""


def list_asked(groups: Iterable[NewGroup]) -> dict[str, Asked]:
    """The recipients for whom a group names a limit."""
    asked: dict[str, Asked] = {}
    adding = Counter[str]()
    for group in groups:
        for delivery in group.deliveries:
            adding[delivery.recipient_id] += 1
            if (limit := group.mailbox_limit) is not None:
                known = asked.setdefault(delivery.recipient_id, Asked(limit, limit, 0))
                known.smallest, known.greatest = min(known.smallest, limit), max(known.greatest, limit)
    for recipient_id, one in asked.items():
        one.adding = adding[recipient_id]
    return asked


def find_full(group: NewGroup, count: Callable[[str], int | None]) -> list[str]:
    """The recipients without room for a group. `count` says how full a mailbox is; None: the group certainly fits."""
    if group.mailbox_limit is None:
        return []
    adding = Counter(delivery.recipient_id for delivery in group.deliveries)
    counts = {recipient_id: count(recipient_id) for recipient_id in adding}
    return [id for id, known in counts.items() if known is not None and known + adding[id] > group.mailbox_limit]


@dataclass(slots=True)
class _Reading:
    count: int
    counted_at: float
    is_floor: bool
    """There may be more: the count was broken off."""
    added: int = 0


class MailboxGauge:
    """Readings by recipient. Not thread-safe: one thread, or one event loop, owns it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._readings: dict[str, _Reading] = {}
        self._processes = 1

    def must_count(self, recipient_id: str, limit: int, adding: int) -> bool:
        """Whether only a new count can tell that `adding` more fit; otherwise they certainly do."""
        reading = self._readings.get(recipient_id)
        if reading is None or reading.is_floor or self._clock() - reading.counted_at > _MAX_AGE:
            return True
        return (reading.added + adding) * _SHARE * self._processes > limit - reading.count

    def list_to_count(self, groups: Sequence[NewGroup]) -> dict[str, int]:
        """The recipients of a call whose mailboxes must be counted, and up to how many."""
        adding = sum(len(group.deliveries) for group in groups)
        if not any(
            self.must_count(delivery.recipient_id, group.mailbox_limit, adding)
            for group in groups
            if group.mailbox_limit is not None
            for delivery in group.deliveries
        ):
            return {}  # whomever all of it goes to; nobody's share need be known
        return {
            recipient_id: asked.greatest + 1
            for recipient_id, asked in list_asked(groups).items()
            if self.must_count(recipient_id, asked.smallest, asked.adding)
        }

    def counted(self, counts: Mapping[str, int], processes: int, most: Mapping[str, int] | None = None) -> None:
        """Take new counts, and how many processes live. Each was broken off at its number in `most`, if any was."""
        now = self._clock()
        self._processes = max(processes, 1)
        if len(self._readings) > _REMEMBERED:
            self._readings = {key: r for key, r in self._readings.items() if now - r.counted_at <= _MAX_AGE}
        for recipient_id, count in counts.items():
            self._readings[recipient_id] = _Reading(count, now, most is not None and count >= most[recipient_id])

    def added(self, recipient_id: str, number: int = 1) -> None:
        """Note that so many were stored."""
        if reading := self._readings.get(recipient_id):
            reading.added += number

    def reading(self, recipient_id: str) -> int:
        """The last count and what was added since; 0 if it was never counted."""
        reading = self._readings.get(recipient_id)
        return 0 if reading is None else reading.count + reading.added
