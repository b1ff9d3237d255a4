"""Futures and tasks whose caller may be cancelled in the very step in which they fail, and calls from other threads.

The event loop then hands the caller the cancellation, and nobody takes the error: when the future is collected, asyncio
reports it as never retrieved. So every error here is taken at once. A caller that waits raises it all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


def fail(future: asyncio.Future[Any], error: BaseException) -> None:
    """Fail a future, unless it is done already."""
    if not future.done():
        future.set_exception(error)
        future.exception()


def call_from_thread(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: Any) -> None:
    """Have a loop call a function, from whatever thread. Where the loop is closed nothing happens: nobody is there."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)


def take_error(future: asyncio.Future[Any]) -> None:
    """Take the error of a future; for `add_done_callback`."""
    if not future.cancelled():
        future.exception()


async def cancel_all(tasks: Iterable[asyncio.Task[Any]], timeout: float) -> set[asyncio.Task[Any]]:
    """Cancel tasks that call functions of the user's, and wait so many seconds for their ends.

    A function may ignore its cancellation, and `asyncio.run` would wait for its task, for ever. Such a task is
    cancelled once more, and the loop ends without it; as long as the loop goes on, so does the task.

    Returns:
        These tasks. What becomes of them is no longer reported by the loop.
    """
    tasks = set(tasks)
    for task in tasks:
        task.cancel()
    if not tasks:
        return tasks
    _, stuck = await asyncio.wait(tasks, timeout=timeout)
    for task in stuck:
        task.cancel()
        asyncio._unregister_task(task)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    return stuck


async def wait_for_all(calls: Iterable[Awaitable[object]]) -> None:
    """Wait for all of them; the first error is raised when none runs any more, so that no other is lost meanwhile."""
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def outlive(task: asyncio.Future[T]) -> T:
    """Return or raise what a task does. The task goes on when the caller is cancelled."""
    if not task.done():
        ended = asyncio.get_running_loop().create_future()

        def end(_: object) -> None:
            take_error(task)
            if not ended.done():
                ended.set_result(None)

        task.add_done_callback(end)
        await ended
    return task.result()
