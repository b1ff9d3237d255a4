"""Tasks in the background: beginning them, starting those that call functions of the user's, and ending them.

`Background` starts tasks in the context in which the SDK was started. They would otherwise inherit the context
variables of the call that happened to start them: a handler would work under the request id, or in the trace, of an
unrelated sender.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from contextvars import copy_context
from typing import Any, TypeVar

R = TypeVar("R")


def begin(work: Coroutine[Any, Any, R], name: str, tasks: set[asyncio.Task[Any]]) -> asyncio.Task[R]:
    """Start a task in the context of the caller, and keep it among these until it has ended: the loop does not."""
    task = asyncio.create_task(work, name=name)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


async def end_within(tasks: Collection[asyncio.Task[None]], timeout: float) -> None:
    """Wait so many seconds for the tasks to end, then cancel the rest."""
    if not tasks:
        return
    _, late = await asyncio.wait(set(tasks), timeout=timeout)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late)


class Background:
    """The context in which it was made."""

    def __init__(self) -> None:
        self._context = copy_context()

    def start(self, work: Coroutine[Any, Any, R], name: str) -> asyncio.Task[R]:
        """Start a task in a copy of the context: what it sets there, no other one sees."""
        return asyncio.get_running_loop().create_task(work, name=name, context=self._context.copy())
