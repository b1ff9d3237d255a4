"""How full the mailboxes are, without counting them at every send.

Counting a mailbox costs as much as it is deep. A gauge remembers the last count of each and what this process added
since, and asks for a new count when a wrong guess could matter: when the additions exceed a 64th of what was free, or
the count is older than a second. So near its limit a mailbox is counted at every append, and 64 processes together
cannot overrun it between two counts. What others took out meanwhile only makes the gauge read too high, and nothing is
ever refused by a
reading: only by a count made in the same transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_SHARE = 64
_MAX_AGE = 1.0
_REMEMBERED = 10_000


@dataclass(slots=True)
class _Reading:
    count: int
    counted_at: float
    added: int = 0


class MailboxGauge:
    """Readings by recipient. Not thread-safe: one thread, or one event loop, owns it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._readings: dict[str, _Reading] = {}

    def must_count(self, recipient_id: str, limit: int, adding: int) -> bool:
        """Whether `adding` more may only be judged by a count of now; otherwise they certainly fit."""
        reading = self._readings.get(recipient_id)
        if reading is None or self._clock() - reading.counted_at > _MAX_AGE:
            return True
        return (reading.added + adding) * _SHARE > limit - reading.count

    def counted(self, counts: Mapping[str, int]) -> None:
        """Take new counts."""
        now = self._clock()
        if len(self._readings) > _REMEMBERED:
            self._readings = {key: r for key, r in self._readings.items() if now - r.counted_at <= _MAX_AGE}
        for recipient_id, count in counts.items():
            self._readings[recipient_id] = _Reading(count, now)

    def added(self, recipient_id: str, number: int = 1) -> None:
        """Note what was stored."""
        if reading := self._readings.get(recipient_id):
            reading.added += number

    def reading(self, recipient_id: str) -> int:
        """The last count and what was added since; 0 if it was never counted."""
        reading = self._readings.get(recipient_id)
        return 0 if reading is None else reading.count + reading.added
