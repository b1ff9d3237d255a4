"""A clock that runs evenly while the machine is up, whatever becomes of its wall clock."""

from __future__ import annotations

import time

_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


def boot_clock() -> int:
    """Microseconds since boot, time asleep included where the system can tell."""
    nanoseconds = time.monotonic_ns() if _BOOT_CLOCK is None else time.clock_gettime_ns(_BOOT_CLOCK)
    return nanoseconds // 1000
