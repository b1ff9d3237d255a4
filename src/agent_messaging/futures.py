"""Futures and tasks whose caller may be cancelled in the very step in which they fail.

The event loop then hands the caller the cancellation, and nobody takes the error: when the future is collected, asyncio
reports it as never retrieved. So every error here is taken at once. A caller that waits raises it all the same.
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
    """Take the error of a future; for `add_done_callback`."""
    if not future.cancelled():
        future.exception()


async def outlive(task: asyncio.Future[T]) -> T:
    """Return or raise what a task does. The task goes on when the caller is cancelled."""
    task.add_done_callback(take_error)
    await asyncio.wait({task})
    return task.result()
