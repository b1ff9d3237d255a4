"""Locks by key: each exists as long as somebody holds it or waits for it, first come first served."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Locks(Generic[K]):
    """The locks of one kind."""

    def __init__(self) -> None:
        self._locks: weakref.WeakValueDictionary[K, asyncio.Lock] = weakref.WeakValueDictionary()

    def is_free(self, key: K) -> bool:
        """Whether nobody holds the lock of this key, or waits for it."""
        return not len(self._locks) or key not in self._locks  # as a rule there is none, which is told quickly

    def of(self, key: K) -> asyncio.Lock:
        """The lock of this key."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock
