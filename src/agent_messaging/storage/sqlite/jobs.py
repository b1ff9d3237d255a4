"""Jobs on their way to a thread, and their answers on the way back to the event loops of the callers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import apsw

from ...futures import call_from_thread, fail

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - an item
Job = Callable[[apsw.Connection], T]
JointJob = Callable[[apsw.Connection, list[I]], list[T]]
"""One job for all items that wait together; it answers each item, in their order."""


class Waiting(Generic[T]):
    """A job, and the future of its caller."""

    __slots__ = ("deadline", "future", "item", "job", "joint", "loop", "size")

    def __init__(self, job: Job[T], loop: asyncio.AbstractEventLoop, deadline: float = 0.0) -> None:
        self.job = job
        self.joint: JointJob[Any, T] | None = None
        """The job for this item together with the items of other callers."""
        self.item: Any = None
        self.size = 0
        """Bytes of its contents."""
        self.loop = loop
        self.future: asyncio.Future[T] = loop.create_future()
        self.deadline = deadline


def joint(job: JointJob[I, T], item: I, loop: asyncio.AbstractEventLoop, deadline: float = 0.0) -> Waiting[T]:
    """A joint job for one item."""
    waiting: Waiting[T] = Waiting(lambda connection: job(connection, [item])[0], loop, deadline)
    waiting.joint, waiting.item = job, item
    return waiting


def run_jobs(connection: apsw.Connection, group: list[Waiting[Any]]) -> list[Any]:
    """The results of all, in their order."""
    results: list[Any] = [None] * len(group)
    together: dict[JointJob[Any, Any], list[int]] = {}
    for position, waiting in enumerate(group):
        if waiting.joint is None:
            results[position] = waiting.job(connection)
        else:
            together.setdefault(waiting.joint, []).append(position)
    for job, positions in together.items():
        answers = job(connection, [group[position].item for position in positions])
        for position, answer in zip(positions, answers, strict=True):
            results[position] = answer
    return results


Answer = tuple[Waiting[Any], Any, BaseException | None]
"""Result or error."""


def deliver(answers: list[Answer]) -> None:
    """Give the results to the callers, with one wake-up of each event loop."""
    for loop in {waiting.loop for waiting, _, _ in answers}:
        mine = [answer for answer in answers if answer[0].loop is loop]
        call_from_thread(loop, _resolve, mine)


def _resolve(answers: list[Answer]) -> None:
    for waiting, result, error in answers:
        if waiting.future.done():
            continue
        if error is None:
            waiting.future.set_result(result)
        else:
            fail(waiting.future, error)
