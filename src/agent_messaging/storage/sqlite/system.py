"""System calls that never wait, made without giving up Python's lock.

Python gives up its lock around every system call, and beside a busy thread takes 5 ms (the switch interval) to get it
back. The writer makes four such calls around each commit; through ctypes.PyDLL they keep the lock. Where the C library
lacks one of them, Python's own is used.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

try:
    import fcntl
except ImportError:  # Windows; files.check_place refuses file stores there
    fcntl = None  # type: ignore[assignment]

Identity = tuple[int, int]
"""Device and inode of a file."""

_LIBRARY = ctypes.PyDLL(None) if sys.platform == "linux" else None
_STATX = getattr(_LIBRARY, "statx", None)
_FLOCK = getattr(_LIBRARY, "flock", None)

_AT_FDCWD = -100
_STATX_INO = 0x100
_BUFFER = 256
_DEVICE_AND_INODE = struct.Struct("@Q96xII")
"""From stx_ino (at 32) to stx_dev_major and stx_dev_minor (at 136), the same on every Linux."""


class Watched:
    """A path that is looked at again and again: what the call needs is made once, which is half of its cost.

    Two threads may look at once: the answer that either of them reads is a true one about the path.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._encoded = os.fsencode(path)
        self._buffer = ctypes.create_string_buffer(_BUFFER)

    def identify(self) -> Identity | None:
        """Which file is at the path; None if there is none."""
        if _STATX is not None and _STATX(_AT_FDCWD, self._encoded, 0, _STATX_INO, self._buffer) == 0:
            inode, major, minor = _DEVICE_AND_INODE.unpack_from(self._buffer, 32)
            return os.makedev(major, minor), inode
        try:  # also to tell why it failed
            found = os.stat(self._path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino


def identify(path: str) -> Identity | None:
    """Which file is at this path; None if there is none."""
    return Watched(path).identify()


def lock(fd: int) -> None:
    """Take the flock on an open file, waiting for it if another has it; only the waiting gives up Python's lock."""
    if _FLOCK is None or _FLOCK(fd, fcntl.LOCK_EX | fcntl.LOCK_NB) != 0:
        fcntl.flock(fd, fcntl.LOCK_EX)


def unlock(fd: int) -> None:
    """Give the flock back."""
    if _FLOCK is None or _FLOCK(fd, fcntl.LOCK_UN) != 0:
        fcntl.flock(fd, fcntl.LOCK_UN)
