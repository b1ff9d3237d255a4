"""Futures and tasks whose caller may be cancelled in the very step in which they fail.

The event loop then hands the caller the cancellation, and nobody takes the error: when the future is collected, it is
reported as never retrieved. Whoever waits raises the error; who was cancelled wants none. So all that fails here is
taken at once.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

T = TypeVar("T")


def fail(future: asyncio.Future[Any], error: BaseException) -> None:
    """Fail a future, unless it is done already."""
    if not future.done():
        future.set_exception(error)
        future.exception()


def take_error(future: asyncio.Future[Any]) -> None:
    """For `add_done_callback`: whoever waits raises its error, or wants none."""
    if not future.cancelled():
        future.exception()


async def outlive(task: asyncio.Future[T]) -> T:
    """What a task returns or raises. It goes on when the caller is cancelled."""
    task.add_done_callback(take_error)
    await asyncio.wait({task})
    return task.result()
