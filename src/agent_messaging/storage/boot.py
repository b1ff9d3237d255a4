"""A clock that runs evenly while the machine is up, whatever becomes of its wall clock."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

from ..clock import get_ahead


def boot_clock() -> int:
    """Microseconds since boot, time asleep included where the system can tell."""
    return _uptime_ns() // 1000 + get_ahead()


def _choose() -> Callable[[], int]:
    """The clock of this system, which all its processes share.

    Python's monotonic clock stands still while a Mac sleeps, and on Windows differs between releases of Python.
    """
    if sys.platform == "win32":
        from ..system.windows import uptime_ns

        return uptime_ns
    name = "CLOCK_MONOTONIC_RAW" if sys.platform == "darwin" else "CLOCK_BOOTTIME"
    number = getattr(time, name, None)
    return time.monotonic_ns if number is None else partial(time.clock_gettime_ns, number)


_uptime_ns = _choose()
