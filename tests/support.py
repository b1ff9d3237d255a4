"""What tests share beside fixtures: waiting without sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from agent_messaging.testing.waiting import eventually

T = TypeVar("T")

__all__ = ["eventually", "eventually_sync"]


def eventually_sync(
    look: Callable[[], T], timeout: float = 10.0, *, interval: float = 0.01, until: Callable[[T], object] = bool
) -> T:
    """`eventually` for tests without a loop."""
    deadline = time.monotonic() + timeout
    while True:
        value = look()
        if until(value):
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s; last seen: {value!r}")
        time.sleep(interval)
