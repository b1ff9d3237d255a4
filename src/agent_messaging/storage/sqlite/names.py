"""One name for one database file: SQLite finds `-wal` and `-shm` by the name, not by the file.

A process that opens a file under a second name reads and writes past the log of the first name, and acknowledged
messages are lost. So each process that has a database open holds a lock of ours on the file itself, at a byte that
stands for the name; a lock at another byte tells of another name. A name is the folder, as the system knows it, and the
last part of the path: it is the same wherever the folder is mounted.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import unicodedata
from collections.abc import Iterable
from contextlib import suppress

from ...exceptions import ConfigurationError
from ...system import after_fork
from ...system.identity import Identity, identify
from ...system.native import find_holder, open_beside, share_byte

_BEGIN = 1 << 60
"""The first of the bytes that stand for names, far behind any database and behind SQLite's own locks."""
_SPAN = 1 << 60
_DESCRIPTORS = 65_536
"""The most descriptors that are looked through where the system does not list them."""


class NameLock:
    """The lock that a store holds for the name under which it opened its database.

    A descriptor of its own would drop SQLite's locks when closed. So the lock is taken through one of SQLite's
    descriptors, and goes when SQLite closes the last of them in this process. On Windows, where closing drops no other
    locks, it is taken through one of its own. It is made, and taken for the first time, when SQLite has just opened the
    file, before it reads.
    """

    _held: dict[Identity, list[NameLock]] = {}  # noqa: RUF012 - a process sees no locks of its own, so it keeps a list
    _guard = threading.Lock()

    def __init__(self, path: str) -> None:
        self.path = path
        self.byte = _byte_of(path)
        self.database = identify(path)
        self._own = open_beside(path)
        self._is_held = False
        try:
            self.take()
        except BaseException:
            self._let_go()
            raise
        if self.database is not None:
            with self._guard:
                self._held.setdefault(self.database, []).append(self)

    def take(self) -> None:
        """Take the lock, and look whether others came by another name.

        It is taken again when the log is in use: until then SQLite gives up all locks of the process on the file, ours
        too, each time that it ends reading.

        Raises:
            ConfigurationError: The database is in use under another name.
        """
        with self._guard:
            fd = _find_descriptor(self.database) if self._own is None else self._own
            if self.database is None or fd is None:
                return  # removed meanwhile, which the guard of the open store reports
            mine = self._held.get(self.database, [])
            if any(held.byte != self.byte for held in mine):
                raise _refuse(self.path, "this process")
            if self._own is None or not self._is_held:  # Windows counts how often it is taken
                share_byte(fd, self.byte)
                self._is_held = True
            # Of two that come at once, each has its lock before it looks for the other's.
            for begin, end in ((_BEGIN, self.byte), (self.byte + 1, _BEGIN + _SPAN)):
                holder = find_holder(fd, begin, end - begin) if begin < end else None
                if holder is not None:
                    if mine in ([], [self]):
                        share_byte(fd, self.byte, hold=False)
                    raise _refuse(self.path, f"process {holder}" if holder > 0 else "a process that cannot be seen")

    def close(self) -> None:
        """Forget the store. Idempotent."""
        if self.database is not None:
            with self._guard, suppress(ValueError):
                self._held.get(self.database, []).remove(self)
        self._let_go()

    def _let_go(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            os.close(own)

    @classmethod
    def abandon_all(cls) -> None:
        """Begin anew in a forked child, which inherits no locks."""
        cls._guard = threading.Lock()
        cls._held.clear()


after_fork(NameLock.abandon_all)


def _byte_of(path: str) -> int:
    folder, name = os.path.split(path)
    found = os.stat(folder)
    if sys.platform in ("win32", "darwin"):  # file systems there take these for one name, and so for one log
        name = unicodedata.normalize("NFC", name).casefold()
    text = os.fsencode(f"{found.st_dev}:{found.st_ino}:{name}")
    return _BEGIN + int.from_bytes(hashlib.sha256(text).digest()[:8], "big") % _SPAN


def _find_descriptor(file: Identity | None) -> int | None:
    """A descriptor of the file in this process; any will do."""
    try:
        numbers: Iterable[int] = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:  # hidden, with /proc
        numbers = range(min(os.sysconf("SC_OPEN_MAX"), _DESCRIPTORS))
    for number in numbers:
        with suppress(OSError):  # closed meanwhile
            found = os.fstat(number)
            if (found.st_dev, found.st_ino) == file:
                return number
    return None


def _refuse(path: str, holder: str) -> ConfigurationError:
    return ConfigurationError(
        f"The database {path!r} is in use by {holder} under another name, through a mount of the file alone or a hard "
        "link, and would lose messages: its -wal and -shm files go by the name. Use one name in every process; into "
        "a container, mount the folder (`-v ./data:/data`), not the file."
    )
