"""Forks beside stores on SQLite: a forked child is a process like any other.

A fork copies the memory of a process, but only one of its threads and none of its POSIX locks, and the two share the
open files. So this module does three things around a fork (`os.register_at_fork`):

- Before, the threads that are inside SQLite come to a stop outside it, because a mutex that one of them held would
  stay locked in the child for ever.
- In the child, what was inherited is let go at once: the files of locks are closed, without unlocking what the parent
  holds, and the connections are kept as they are for ever, because closing one would run SQLite's own cleaning up.
- In the child, SQLite believes that it holds the locks of its parent on the files that were open (it counts them by
  device and inode). So the child's SQLite sees another device number from then on, by a replaced `stat`, finds nothing
  of what it inherited, and takes locks of its own.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import apsw

from ...exceptions import ConfigurationError

PATIENCE = 5.0
"""Seconds for which a fork waits until no thread is inside SQLite."""

_DEVICE = ctypes.c_uint32
"""The device number is the first field of `struct stat` on Linux and macOS; its first four bytes are enough."""
_CALLS = {
    "fstat": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p),
    "stat": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
}
"""SQLite looks up a file that it has open by the first, and a file that it is about to open by the second."""


class Inherited(Protocol):
    """A thing of the parent's that the child has too."""

    def abandon(self) -> None:
        """Let go of it in the child, and leave the parent's alone. No other thread runs in the process."""
        ...


class Inside:
    """`with inside:` around a thread's calls of SQLite keeps forks from happening meanwhile."""

    def __init__(self) -> None:
        self.connection: apsw.Connection | None = None
        self.lock = threading.RLock()  # a job that forks is not held up by itself
        _forks.add(self)

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self.lock.release()

    def abandon(self) -> None:
        """Keep the parent's connection for ever, beyond the end of the interpreter."""
        if self.connection is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.connection))


class _Forks:
    def __init__(self) -> None:
        self._forking = threading.Lock()
        self._guard = threading.Lock()
        self._inherited: weakref.WeakSet[Any] = weakref.WeakSet()
        self._stopped: list[Inside] = []
        self._in_time = True
        self._generation = 0
        self._system = apsw.VFS("agent-messaging-forks", "")
        self._originals = [self._system.xGetSystemCall(name) for name in _CALLS]
        self._replacements: list[Any] = []
        self._refused = False

    def add(self, inherited: Inherited) -> None:
        with self._guard:
            self._inherited.add(inherited)

    def before(self) -> None:
        self._forking.acquire()  # two at once would wait for each other
        self._in_time = False
        deadline = time.monotonic() + PATIENCE
        seen: set[Inside] = set()
        self._guard.acquire()  # held at the fork, so that no thread goes inside unseen
        while new := {one for one in self._inherited if isinstance(one, Inside)} - seen:
            self._guard.release()  # a thread that is inside may have to remember something before it comes out
            try:
                for inside in new:
                    if inside.lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                        self._stopped.append(inside)
            finally:  # Ctrl-C ends the waiting, not the fork
                self._guard.acquire()
            seen |= new
        self._in_time = len(self._stopped) == len(seen)

    def after_in_parent(self) -> None:
        while self._stopped:
            self._stopped.pop().lock.release()
        self._guard.release()
        self._forking.release()

    def after_in_child(self) -> None:
        inherited = list(self._inherited)
        self._inherited = weakref.WeakSet()
        for one in inherited:
            with suppress(OSError):  # a thread that is not here was about to close it
                one.abandon()
        if any(isinstance(one, Inside) and one.connection is not None for one in inherited) or not self._in_time:
            self._refused = not self._in_time or None in self._originals
            if not self._refused:
                self._see_another_device()
        self.after_in_parent()

    def _see_another_device(self) -> None:
        self._generation += 1  # what the parent's parent had open is no more the child's than what the parent had
        mask = self._generation % 255 + 1 << 24

        for (name, prototype), address in zip(_CALLS.items(), self._originals, strict=True):
            replacement = prototype(partial(_report, prototype(address or 0), mask, _DEVICE))
            self._replacements.append(replacement)
            self._system.xSetSystemCall(name, ctypes.cast(replacement, ctypes.c_void_p).value or 0)

    def check(self) -> None:
        if self._refused:
            raise ConfigurationError(
                "No store can be opened in this process: it was forked from one that had a store open and could not "
                f"come to a stop outside SQLite within {PATIENCE:g} s. Start it by the method 'spawn' or 'forkserver', "
                "or before its parent opens an AgentMessaging."
            )


def _report(
    original: Callable[[int, int], int], mask: int, device: type[ctypes.c_uint32], file: int, buffer: int
) -> int:
    # It uses no name of the module: it may be called while the interpreter ends and modules are empty.
    answer = original(file, buffer)
    if answer == 0:
        device.from_address(buffer).value ^= mask
    return answer


_forks = _Forks()
add = _forks.add
"""Remember what a child inherits, for as long as it is in use."""
check = _forks.check
"""Refuse to open a store in a child in which SQLite may hang."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_forks.before, after_in_parent=_forks.after_in_parent, after_in_child=_forks.after_in_child
    )
