"""Locks between processes on Windows, where a folder is, and the clock of this boot.

A lock is of some bytes, belongs to an open file, and goes when that is closed or its process ends. It keeps others from
reading and writing those bytes, so all of ours are far behind the end of any file. Nobody can look at a lock without
taking one, so whoever looks takes it for a moment.

The module can be imported on any system: it loads Windows' library with the first call.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from . import BINARY

_EXCLUSIVE = 0x2
_AT_ONCE = 0x1
"""LOCKFILE_EXCLUSIVE_LOCK and LOCKFILE_FAIL_IMMEDIATELY."""
_IS_LOCKED = 33
"""ERROR_LOCK_VIOLATION."""
_REMOTE = 4
"""DRIVE_REMOTE."""

_TURN = 1 << 62
"""The byte of the turn, and of the sign of life."""
_LOOKING = _TURN + 1
"""The byte of whoever looks for locks: two that took the same bytes to look at once would find each other."""
_DWORD = 0xFFFF_FFFF
_UNKNOWN = 0
"""Windows does not tell which process has a lock."""


class _Overlapped(ctypes.Structure):
    _fields_ = (
        ("internal", ctypes.c_size_t),
        ("internal_high", ctypes.c_size_t),
        ("offset", ctypes.c_uint32),
        ("offset_high", ctypes.c_uint32),
        ("event", ctypes.c_void_p),
    )


class _Library(NamedTuple):
    kernel: Any
    handle_of: Callable[[int], int]
    """The handle behind a descriptor."""
    last_error: Callable[[], int]


@cache
def _load() -> _Library:
    if sys.platform == "win32":
        import msvcrt

        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        dword, handle = ctypes.c_uint32, ctypes.c_void_p
        kernel.LockFileEx.argtypes = (handle, dword, dword, dword, dword, ctypes.POINTER(_Overlapped))
        kernel.UnlockFileEx.argtypes = (handle, dword, dword, dword, ctypes.POINTER(_Overlapped))
        kernel.GetDriveTypeW.argtypes = (ctypes.c_wchar_p,)
        kernel.GetTickCount64.restype = ctypes.c_uint64
        return _Library(kernel, msvcrt.get_osfhandle, ctypes.get_last_error)
    raise OSError("This is not Windows.")


def _take(fd: int, start: int, length: int, flags: int) -> bool:
    """Lock these bytes; False if others have some of them, which `_AT_ONCE` does not wait for."""
    library = _load()
    place = _Overlapped(offset=start & _DWORD, offset_high=start >> 32)
    handle = library.handle_of(fd)
    if library.kernel.LockFileEx(handle, flags, 0, length & _DWORD, length >> 32, ctypes.byref(place)):
        return True
    if (code := library.last_error()) == _IS_LOCKED and flags & _AT_ONCE:
        return False
    raise OSError(0, "LockFileEx failed", None, code)


def _give_back(fd: int, start: int, length: int) -> None:
    library = _load()
    place = _Overlapped(offset=start & _DWORD, offset_high=start >> 32)
    handle = library.handle_of(fd)
    if not library.kernel.UnlockFileEx(handle, 0, length & _DWORD, length >> 32, ctypes.byref(place)):
        raise OSError(0, "UnlockFileEx failed", None, library.last_error())


def lock(fd: int) -> None:
    """Take the turn on an open file, waiting for it if another has it."""
    _take(fd, _TURN, 1, _EXCLUSIVE)


def try_lock(fd: int) -> bool:
    """Take the turn on an open file, unless another has it."""
    return _take(fd, _TURN, 1, _EXCLUSIVE | _AT_ONCE)


def unlock(fd: int) -> None:
    """Give the turn back."""
    _give_back(fd, _TURN, 1)


def mark(fd: int) -> None:
    """Hold a file, which is new and no other process's, for as long as this process lives and keeps it open."""
    if not try_lock(fd):
        raise BlockingIOError("another process holds the file")


def is_marked(fd: int) -> bool:
    """Whether another open file holds this one; also one of this process."""
    if not _take(fd, _TURN, 1, _AT_ONCE):  # shared, so that two may look at once
        return True
    _give_back(fd, _TURN, 1)
    return False


def open_beside(path: str) -> int | None:
    """A descriptor of our own on a database that SQLite has open; closing it drops the locks that it has, no others."""
    return os.open(path, os.O_RDWR | BINARY)


def share_byte(fd: int, at: int, *, hold: bool = True) -> None:
    """Hold one byte of a file, which others may hold too, or give it up. Whoever looks at it is waited for."""
    if hold:
        _take(fd, at, 1, 0)
    else:
        _give_back(fd, at, 1)


def find_holder(fd: int, start: int, length: int) -> int | None:
    """0 if another open file holds any of these bytes, because Windows does not tell who; None if there is none."""
    _take(fd, _LOOKING, 1, _EXCLUSIVE)
    try:
        if not _take(fd, start, length, _EXCLUSIVE | _AT_ONCE):
            return _UNKNOWN
        _give_back(fd, start, length)
        return None
    finally:
        _give_back(fd, _LOOKING, 1)


def find_remote(folder: str) -> str:
    """A word for a drive of another machine; "" for any other."""
    drive = os.path.splitdrive(folder)[0]
    if drive.startswith("\\\\"):
        return "a network share"
    return "a network drive" if _load().kernel.GetDriveTypeW(f"{drive}\\") == _REMOTE else ""


def uptime_ns() -> int:
    """Nanoseconds since the machine was started, time asleep included, in steps of some 15 ms.

    It is the same for all processes and all releases of Python, whose own clock is another one since 3.13.
    """
    return int(_load().kernel.GetTickCount64()) * 1_000_000
