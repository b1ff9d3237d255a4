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
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import apsw

from ...clock import get_ahead
from ..boot import boot_clock
from ..sql import Queries
from .engine import fetch

_SQL = Queries(__package__, "clock")
SECOND = 1_000_000
"""In microseconds, in which this store counts time."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LAST_INSTANT = 253_402_300_800_000_000
"""Microseconds from 1970 to the end of the year 9999."""
_NAMESPACE_OFFSETS = Path("/proc/self/timens_offsets")
_UNNAMED = "unnamed"
"""Names the boot where the system does not."""


class Instant(NamedTuple):
    """One instant on both clocks, in microseconds."""

    due: int
    """Store time."""
    at: int
    """Wall clock."""


class StoreClock:
    """Both clocks. It is usable after `adopt`."""

    def __init__(self) -> None:
        self.boot_id = ""
        self.offset_us = 0

    def adopt(self, connection: apsw.Connection, is_held: Callable[[str], bool]) -> None:
        """Take the offset of this boot from the store; the first process to open it in this boot records the offset.

        It is called inside a write transaction, so all processes get the same offset. A live process is of this boot
        whatever it calls the boot, so its offset goes before that of the name that this process knows. Where the system
        has no name for the boot and nobody lives, store time begins anew from the wall clock, as after a reboot.

        Args:
            is_held: Whether the process whose lock file has this name lives.
        """
        ahead = namespace_offset()
        living = fetch(connection, _SQL["list_boots"], {})
        known = next((boot_id for boot_id, lock_name in living if is_held(lock_name)), read_boot_id())
        self.boot_id = known or _UNNAMED
        found = fetch(connection, _SQL["find_offset"], {"boot_id": known})
        since_boot = boot_clock() - ahead
        if found is None or not 0 <= found[0] + since_boot < _LAST_INSTANT:  # somebody else wrote it
            found = [wall_clock() - since_boot]
            connection.execute(_SQL["record_offset"], {"boot_id": self.boot_id, "offset_us": found[0]})
        self.offset_us = found[0] - ahead

    def now(self, given: datetime | None = None) -> Instant:
        """This instant. A given one holds for both clocks."""
        if given is not None:
            instant = to_microseconds(given)
            return Instant(instant, instant)
        return Instant(self.offset_us + boot_clock(), wall_clock())


def wall_clock() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000 + get_ahead()


def to_microseconds(instant: datetime) -> int:
    """The instant in whole microseconds, exactly."""
    return (instant - _EPOCH) // _MICROSECOND


def to_microseconds_or_none(instant: datetime | None) -> int | None:
    """The same for what may be absent."""
    return None if instant is None else to_microseconds(instant)


def to_datetime(microseconds: int) -> datetime:
    """Aware, in UTC. Instants before or after every calendar become its ends: they are shown, and decide nothing."""
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return (datetime.max if microseconds > 0 else datetime.min).replace(tzinfo=UTC)


def to_datetime_or_none(microseconds: int | None) -> datetime | None:
    """The same for an instant that may be absent."""
    return None if microseconds is None else to_datetime(microseconds)


def first_of(dues: Iterable[object]) -> int | None:
    """The first of these; None if there is none. What is no number is never due."""
    return min((due for due in dues if isinstance(due, int)), default=None)


def seconds_until(due: int | None, instant: Instant) -> float | None:
    """Seconds until it is due, less than none if it is over; None if there is nothing."""
    return None if due is None else (due - instant.due) / SECOND


def seconds_left(due: int | None, instant: Instant) -> float | None:
    """Seconds until it is due, none if it is over; None if there is nothing."""
    return None if due is None else max(0.0, (due - instant.due) / SECOND)


def namespace_offset() -> int:
    """Microseconds by which the boot clock of this process's time namespace (Linux) is ahead of the machine's."""
    try:
        lines = _NAMESPACE_OFFSETS.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    found = [line.split() for line in lines if line.startswith("boottime")]
    return sum(int(seconds) * SECOND + int(nanoseconds) // 1000 for _, seconds, nanoseconds in found)


def read_boot_id() -> str:
    """The system's name for this boot of this machine; "" where it has none, or hides it."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        pass
    if sys.platform != "win32":
        for name in (b"kern.bootsessionuuid", b"kern.boot_id"):  # macOS, FreeBSD
            if found := _sysctl(name):
                return found
    return ""


def _sysctl(name: bytes) -> str:
    read = getattr(ctypes.CDLL(ctypes.util.find_library("c")), "sysctlbyname", None)
    if read is None:
        return ""
    buffer = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t(len(buffer))
    return "" if read(name, buffer, ctypes.byref(size), None, 0) else buffer.value.decode("ascii", "replace")
