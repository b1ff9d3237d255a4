"""Locks between processes, on files of our own: the turn to write, and the sign of life of a process.

The turn to write: SQLite's own waiting is unfair, one writer can starve all others. The sign of life: the system frees
a lock with the process that has it. `system` has the locks of each operating system.
"""

from __future__ import annotations

import os
import re
import threading
import uuid
from contextlib import suppress

from ...system import BINARY, after_fork
from ...system.identity import Identity, identify
from ...system.native import is_marked, lock, mark, unlock
from . import forks

_CLOSED = -1
_NAME = re.compile(r"[0-9a-f-]{36}\.lock")


class WriteLock:
    """One writer at a time on one database file, in about the order of asking."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, "write.lock")
        self._fd = self._open()
        self._is_outdated = False
        forks.add(self)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | BINARY, 0o666)

    def renew(self) -> None:
        """Somebody removed the file: from the next turn on it is the one that is there now. In any thread."""
        self._is_outdated = True

    def __enter__(self) -> None:
        if self._is_outdated:
            self._is_outdated = False
            removed, self._fd = self._fd, self._open()
            os.close(removed)
        lock(self._fd)

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError):  # what was committed stays so
            unlock(self._fd)

    def close(self) -> None:
        """Free the lock."""
        fd, self._fd = self._fd, _CLOSED
        if fd != _CLOSED:
            os.close(fd)

    def abandon(self) -> None:
        """Close the child's descriptor: a flock is held as long as any is open, also after the parent's death."""
        self.close()


class ProcessLock:
    """The sign of life of this operating system process towards the others on one database file.

    There is one for each process and database file, however many stores are open on it: but for Windows, such locks
    belong to the process, and closing any second descriptor of the lock file would free the lock. Hence the registry,
    the one piece of state that is the process's own by nature; a forked child begins with an empty one.
    """

    _registry: dict[Identity, ProcessLock] = {}  # noqa: RUF012 - see above
    _guard = threading.Lock()

    def __init__(self, folder: str) -> None:
        self.name = f"{uuid.uuid4()}.lock"
        self.living: set[str] = set()
        """The process ids (incarnations) of the open stores."""
        self._path = os.path.join(folder, self.name)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | BINARY, 0o666)
        mark(self._fd)
        self._identity = identify(self._path)

    @classmethod
    def abandon_all(cls) -> None:
        """Close the child's descriptors. The locks are the parent's and stay so."""
        cls._guard = threading.Lock()  # a thread that is not in the child may have had it
        for held in cls._registry.values():
            with suppress(OSError):  # a thread that is not here was about to close it
                os.close(held._fd)
        cls._registry.clear()

    @classmethod
    def join(cls, folder: str, database: Identity, process_id: str) -> ProcessLock:
        """Hold the lock for one more store. If somebody removed its file, a new lock is made."""
        with cls._guard:
            found = cls._registry.get(database)
            if found is None or not found.is_in_place():
                found = cls._registry[database] = cls(folder)
            found.living.add(process_id)
            return found

    @classmethod
    def is_mine(cls, lock_name: str) -> bool:
        """Whether this process has the lock with this name."""
        with cls._guard:
            return any(held.name == lock_name for held in cls._registry.values())

    def leave(self, process_id: str) -> None:
        """Give the lock up for one store; the last store removes the file."""
        with self._guard:
            if process_id not in self.living:
                return
            self.living.remove(process_id)
            if self.living:
                return
            for key in [key for key, held in self._registry.items() if held is self]:
                del self._registry[key]
            os.close(self._fd)  # Windows removes no file that is open
            remove_file(self._path)

    def is_in_place(self) -> bool:
        """Whether others can still see the lock."""
        return self._identity is not None and identify(self._path) == self._identity

    def is_alive(self, process_id: str, folder: str, lock_name: str) -> bool:
        """Whether the process whose row this is lives, be it another one or this one."""
        if lock_name == self.name:
            return process_id in self.living
        return is_held(folder, lock_name)


after_fork(ProcessLock.abandon_all)


def is_in_use(folder: str, lock_name: str) -> bool:
    """Whether the process with this lock lives, be it this one or another."""
    return ProcessLock.is_mine(lock_name) or is_held(folder, lock_name)


def is_held(folder: str, lock_name: str) -> bool:
    """Whether another process holds the lock with this name. Never call it for a lock of this process.

    A row may hold any text; nobody holds a lock whose name is not of the form that stores give, and no path is opened.
    """
    if _NAME.fullmatch(lock_name) is None:
        return False
    try:
        fd = os.open(os.path.join(folder, lock_name), os.O_RDONLY | BINARY)
    except FileNotFoundError:
        return False
    try:
        return is_marked(fd)
    finally:
        os.close(fd)


def remove_lock(folder: str, lock_name: str) -> None:
    """Remove the file that a dead process left, if its name is of the form that stores give."""
    if _NAME.fullmatch(lock_name) is not None:
        remove_file(os.path.join(folder, lock_name))


def remove_file(path: str) -> None:
    """Remove a file, if it is there."""
    with suppress(OSError):
        os.unlink(path)
