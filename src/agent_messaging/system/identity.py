"""Which file is at a path, asked without giving up Python's lock.

Python gives up its lock around every system call, and beside a busy thread takes 5 ms (the switch interval) to get it
back. The writer of a store asks before each commit; through ctypes.PyDLL it keeps the lock. Where the C library lacks
the call, Python's own is used.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

Identity = tuple[int, int]
"""Device and inode of a file; on Windows the numbers of its volume and of the file on it."""

_STATX = getattr(ctypes.PyDLL(None), "statx", None) if sys.platform == "linux" else None

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
