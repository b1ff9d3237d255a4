"""Waiting for what a store will show, without sleeping and hoping."""

from __future__ import annotations

import inspect
import time
from asyncio import sleep
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(
    look: Callable[[], Awaitable[T]],
    timeout: float = ...,
    *,
    interval: float = ...,
    until: Callable[[T], object] = ...,
) -> T: ...
@overload
async def eventually(
    look: Callable[[], T], timeout: float = ..., *, interval: float = ..., until: Callable[[T], object] = ...
) -> T: ...
async def eventually(
    look: Callable[[], Any],
    timeout: float = 10.0,
    *,
    interval: float = 0.01,
    until: Callable[[Any], object] = bool,
) -> Any:
    """Look again and again until what is seen satisfies `until`, and return it.

    Raises:
        AssertionError: It did not within `timeout` seconds; names what was last seen.
    """
    deadline = time.monotonic() + timeout
    while True:
        seen = look()
        value = await seen if inspect.isawaitable(seen) else seen
        if until(value):
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s; last seen: {value!r}")
        await sleep(interval)
