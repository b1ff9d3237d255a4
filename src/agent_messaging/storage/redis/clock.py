"""The store's clock on Redis, as this process counts it: it tells where a clock has jumped.

Store time is the server's clock plus a shift in the store, which is nothing until the server's clock jumps. Every
answer says what time it is. A process counts on from there by the clock of its own machine that runs evenly, and says
with each call what it comes to; the script judges which of the two is right (`read_clock` in `lua/common.lua`). So a
jump touches nobody who runs, not even for a moment. Who finds one has the shift changed, once (`set_clock`).
"""

from __future__ import annotations

from typing import NamedTuple

TOLERANCE = 1_000_000
"""Microseconds. Two clocks that differ by more have jumped; less is followed: clocks are set right in small steps."""
FINE = 1_000
"""Microseconds: a reading that is as exact always replaces an earlier one."""
DRIFT = 10_000
"""Two clocks that run evenly part by less than one in so many, as a rule (quartz: half of it)."""


class _Reading(NamedTuple):
    """Store time at the moment when this machine's clock said `read_at`, both in microseconds."""

    time: int
    read_at: int
    doubt: int
    """By so much it may be wrong: half of the round trip."""


class StoreClock:
    """One process's count of store time. Any thread may call it."""

    def __init__(self) -> None:
        self._reading: _Reading | None = None

    def count(self, at: int) -> int | None:
        """Store time when the machine's clock says `at`; None where no answer has come yet."""
        reading = self._reading
        return None if reading is None else reading.time + at - reading.read_at

    def learn(self, time: int, sent_at: int, heard_at: int) -> bool:
        """Take the time of an answer. False where it cannot be right if the count is: a clock has jumped."""
        doubt = (heard_at - sent_at) // 2
        reading, known = _Reading(time, sent_at + doubt, doubt), self._reading
        if known is not None:
            passed = reading.read_at - known.read_at
            counted_doubt = known.doubt + passed // DRIFT
            if abs(time - (known.time + passed)) > TOLERANCE + doubt + counted_doubt:
                return False
            if doubt > max(FINE, counted_doubt):
                return True  # what is known is more exact
        self._reading = reading
        return True

    def follow(self, time: int, sent_at: int, heard_at: int) -> None:
        """Take the time of an answer, whatever was counted."""
        self._reading = None
        self.learn(time, sent_at, heard_at)
