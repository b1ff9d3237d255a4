"""Locks between processes on Linux, macOS and other systems of that family, and where a folder is.

There are two kinds. A flock belongs to an open file. A POSIX lock (lockf) belongs to the process, which a forked child
does not inherit, and others can look at it without taking it (F_GETLK); closing any descriptor of the file drops it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import sys

_FLOCK = "qqihh0q" if sys.platform == "darwin" else "hhqqi0q"
"""struct flock: (start, length, pid, type, whence) on macOS, (type, whence, start, length, pid) on Linux."""

_flock = getattr(ctypes.PyDLL(None), "flock", None) if sys.platform == "linux" else None
"""It keeps Python's lock, as the call in `identity` does."""

_STATFS_SIZE = 4096
"""struct statfs of macOS takes 2,168 bytes; its flags are at 64, the name of its type in 16 bytes at 72."""
_MNT_LOCAL = 0x1000


def lock(fd: int) -> None:
    """Take the turn on an open file, waiting for it if another has it; only the waiting gives up Python's lock."""
    if _flock is None or _flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB) != 0:
        fcntl.flock(fd, fcntl.LOCK_EX)


def try_lock(fd: int) -> bool:
    """Take the turn on an open file, unless another has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(fd: int) -> None:
    """Give the turn back."""
    if _flock is None or _flock(fd, fcntl.LOCK_UN) != 0:
        fcntl.flock(fd, fcntl.LOCK_UN)


def mark(fd: int) -> None:
    """Hold a file, which is new and no other process's, for as long as this process lives and keeps it open."""
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_marked(fd: int) -> bool:
    """Whether another process holds this file."""
    return find_holder(fd, 0, 0) is not None


def open_beside(path: str) -> int | None:
    """Our own descriptor of a database that SQLite has open: None, because closing it would drop SQLite's locks."""
    return None


def share_byte(fd: int, at: int, *, hold: bool = True) -> None:
    """Hold one byte of a file, which others may hold too, or give it up."""
    fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB if hold else fcntl.LOCK_UN, 1, at)


def find_holder(fd: int, start: int, length: int) -> int | None:
    """The id of another process that holds any of these bytes (length 0: to the end); None if there is none.

    The id is 0 or less where this process cannot see the other one, as from inside a container.
    """
    if sys.platform == "darwin":
        asked = struct.pack(_FLOCK, start, length, 0, fcntl.F_WRLCK, os.SEEK_SET)
        _, _, pid, kind, _ = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    else:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else int(pid)


def find_remote(folder: str) -> str:
    """The type of the file system that a folder is on, if it is another machine's; "" if not, or if nothing tells.

    macOS tells by a flag. Linux lists its mounts instead, which `storage/sqlite/files.py` reads.
    """
    if sys.platform != "darwin":
        return ""
    return _find_remote_on_macos(folder, ctypes.CDLL(None))


def _find_remote_on_macos(folder: str, library: ctypes.CDLL) -> str:
    buffer = ctypes.create_string_buffer(_STATFS_SIZE)
    # On Intel the plain name is the call of long ago, with a shorter struct; on ARM there is the plain name alone.
    statfs = getattr(library, "statfs$INODE64", None) or library.statfs
    if statfs(os.fsencode(folder), buffer) != 0:
        return ""
    (flags,) = struct.unpack_from("=I", buffer, 64)
    name: bytes = buffer.raw[72:88]
    return "" if flags & _MNT_LOCAL else name.partition(b"\0")[0].decode("ascii", "replace")
