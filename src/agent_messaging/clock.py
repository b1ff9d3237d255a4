"""What time it is, for all that the package decides by time. Only a test moves this clock, by `testing.clock`.

It is one clock for the process, as the system's clocks are: the store in memory, the engine, and the event loop of a
test go forward together. While nobody moves it, it says what they say.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_ahead_us = 0


def get_ahead() -> int:
    """Microseconds by which it is ahead of the clocks of the system."""
    return _ahead_us


def set_ahead(microseconds: int) -> None:
    """Put it forward; 0 puts it back."""
    global _ahead_us
    _ahead_us = microseconds


def monotonic() -> float:
    """Seconds from an arbitrary start, as of `time.monotonic`."""
    return time.monotonic() + _ahead_us / 1e6


def utc_now() -> datetime:
    """This instant, aware, in UTC."""
    return datetime.now(UTC) + timedelta(microseconds=_ahead_us)
