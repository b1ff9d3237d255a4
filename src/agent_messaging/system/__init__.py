"""What operating systems do differently, in one place: forks, signals that stop, syncing, naming a file, locks.

The calls here need nothing but Python. `native` has those that are others on Windows: it is `posix` or `windows`, which
have the same names. `identity` tells which file is at a path.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

IS_WINDOWS = sys.platform == "win32"

_CLOSED_TERMINAL = "SIGBREAK" if IS_WINDOWS else "SIGHUP"
STOPS: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM, getattr(signal, _CLOSED_TERMINAL))
"""The signals by which a process is told to stop. The last one comes when its terminal is closed."""

BINARY: int = getattr(os, "O_BINARY", 0)
"""A flag for `os.open`, without which Windows would change the ends of lines. No system needs one against inheritance:
what Python opens is not inherited by the processes that it starts."""

_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What a file system without hard links, such as that of a memory stick, answers to one."""


def after_fork(in_child: Callable[[], object]) -> None:
    """Call this in each forked child, before any other code runs there; nothing where processes do not fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=in_child)


def publish(part: str, path: str) -> None:
    """Sync a file that is whole, and give it its name. It is at the path, synced, when this returns.

    Raises:
        FileExistsError: There is something at the path. It was left alone.
        OSError: The system refused.
    """
    sync_file(part)
    if IS_WINDOWS:
        os.rename(part, path)  # which replaces nothing there
        return
    try:
        os.link(part, path)  # which replaces nothing
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from None
        os.rename(part, path)
    else:
        with suppress(OSError):  # it has its name
            os.unlink(part)
    sync_folder(os.path.dirname(path))


def sync_file(path: str) -> None:
    """Return when what was written to the file is on the disk."""
    _sync(path, os.O_RDWR | BINARY)  # Windows syncs only what was opened for writing


def sync_folder(path: str) -> None:
    """Return when the names in the folder are on the disk. Windows has no such call, and keeps a journal of names."""
    if not IS_WINDOWS:
        _sync(path, os.O_RDONLY)


def _sync(path: str, flags: int) -> None:
    fd = os.open(path, flags)
    try:
        if sys.platform == "darwin":
            import fcntl

            with suppress(OSError):  # a file system that knows no such command; and some refuse only this one
                fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # a plain fsync leaves the data in the cache of the drive
        os.fsync(fd)
    finally:
        os.close(fd)
