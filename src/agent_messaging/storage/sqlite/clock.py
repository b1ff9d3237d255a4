"""The store's clock, which all processes of one boot share and which does not jump with the wall clock.

Store time is microseconds since 1970 as the wall clock said when the file was first opened in this boot, plus what the
boot clock has run since; the difference is recorded in the file, once per boot. Decisions (due, expiry, hard ends) use
it. What people see (`*_at`) is the wall clock. After a reboot store time begins from the wall clock again.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import apsw

from ..sql import Queries
from .engine import fetch

_SQL = Queries(__package__, "clock")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


class Instant(NamedTuple):
    """One instant on both clocks, in microseconds."""

    due: int
    """Store time."""
    at: int
    """Wall clock."""


class StoreClock:
    """Reads the clocks. Usable once it was adopted from an open store."""

    def __init__(self) -> None:
        self.boot_id = ""
        self.offset_us = 0

    def adopt(self, connection: apsw.Connection) -> None:
        """Take the offset of this boot from the store, or record it as the first to open the store in this boot.

        Called inside a write transaction, so that all processes get the same.
        """
        self.boot_id = read_boot_id()
        parameters = {"boot_id": self.boot_id}
        found = fetch(connection, _SQL["find_offset"], parameters)
        if found is None:
            found = [wall_clock() - boot_clock()]
            connection.execute(_SQL["record_offset"], {**parameters, "offset_us": found[0]})
        self.offset_us = found[0]

    def now(self, given: datetime | None = None) -> Instant:
        """This instant, or the given one, which then holds for both clocks."""
        if given is not None:
            instant = to_microseconds(given)
            return Instant(instant, instant)
        return Instant(self.offset_us + boot_clock(), wall_clock())


def boot_clock() -> int:
    """Microseconds since boot, time asleep included where the system can tell."""
    nanoseconds = time.monotonic_ns() if _BOOT_CLOCK is None else time.clock_gettime_ns(_BOOT_CLOCK)
    return nanoseconds // 1000


def wall_clock() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def to_microseconds(instant: datetime) -> int:
    """Exact."""
    return (instant - _EPOCH) // _MICROSECOND


def to_datetime(microseconds: int) -> datetime:
    """Aware, in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


def to_datetime_or_none(microseconds: int | None) -> datetime | None:
    """The same for what may be absent."""
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)


def read_boot_id() -> str:
    """What names this boot of this machine.

    Where the system has no name for it, the boot's approximate time serves, to ten minutes.
    """
    path = Path("/proc/sys/kernel/random/boot_id")
    if path.exists():
        return path.read_text(encoding="ascii").strip()
    if sys.platform != "win32":
        for name in (b"kern.bootsessionuuid", b"kern.boot_id"):  # macOS, FreeBSD
            if found := _sysctl(name):
                return found
    return f"booted-{round((wall_clock() - boot_clock()) / 600_000_000)}"


def _sysctl(name: bytes) -> str:
    read = getattr(ctypes.CDLL(ctypes.util.find_library("c")), "sysctlbyname", None)
    if read is None:
        return ""
    buffer = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t(len(buffer))
    return "" if read(name, buffer, ctypes.byref(size), None, 0) else buffer.value.decode("ascii", "replace")
