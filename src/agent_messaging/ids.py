"""The ids that the SDK makes, and their form."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from uuid import UUID

from .system import after_fork


class Uuid7Source:
    """Rising UUIDv7s: a millisecond clock that never goes back, and under it a counter that starts at random.

    Unique between processes because 73 random bits are drawn anew in each millisecond, from the operating system:
    `random` would repeat them in programs that call `random.seed`.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self.clock = clock
        self.reset()

    def reset(self) -> None:
        # In a forked child too: it must not continue its parent's counter, and the lock may have been held by a thread
        # that the child does not have.
        self.lock = threading.Lock()
        self.milliseconds = 0
        self.prefix = ""
        self.tail = 0
        self.high = -1
        self.head = ""
        """The text of an id as far as its tail is the same but for the last 48 bits."""

    def next(self, spare_bits: int = 0) -> str:
        """Make an id: the canonical text of a UUIDv7.

        Ids made by one source rise strictly, over all threads and also when the clock is set back: their order is that
        of making them.

        Args:
            spare_bits: So many bits at the end are 0. The ids that differ from it in these alone are never made: they
                are the caller's to give away.
        """
        # RFC 9562, 5.7: 48 bits of time, version 7, 12 bits, variant 10, 62 bits; the last two are one counter here.
        now = self.clock() // 1_000_000
        with self.lock:
            if now > self.milliseconds:
                self.milliseconds = now
                time_text = f"{now:012x}"
                self.prefix = f"{time_text[:8]}-{time_text[8:]}-7"
                # 73 of 74 bits: the top one stays free, so that counting up does not overflow, neither within a
                # millisecond nor while a clock that was set back catches up.
                self.tail = int.from_bytes(os.urandom(10), "big") >> 7
                self.high = -1
            else:
                self.tail += 1
            tail = self.tail
            if spare_bits:
                tail = -(-tail >> spare_bits) << spare_bits
                self.tail = tail | ((1 << spare_bits) - 1)
            if (high := tail >> 48) != self.high:
                self.high = high
                self.head = f"{self.prefix}{high >> 14:03x}-{high & 0x3FFF | 0x8000:04x}-"
            return f"{self.head}{tail & 0xFFFF_FFFF_FFFF:012x}"


_source = Uuid7Source()
after_fork(_source.reset)
uuid7 = _source.next
"""The ids of this process, of which each message has two or three: without a function around this."""


def is_id(text: str) -> bool:
    """Whether a text has the canonical form of a UUID, which all ids have in a store."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
