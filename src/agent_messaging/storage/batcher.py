"""Calls that come while one is under way wait for it, and then go to the server together.

One call's failure is not the others': what fails together is done again one by one, each on its own connection, and
holds up nobody who comes later. A call that gets no answer, as on a connection that has died in silence, is waited for
only a while; then the next ones go beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from ..exceptions import (
    AgentMessagingError,
    DatabaseError,
    QueueDataLostError,
    StorageUnavailableError,
    copy_error,
)
from ..futures import fail
from ..records import dataclass
from ..single_flight import SingleFlight
from .batches import MAX_BYTES, take

A = TypeVar("A")
R = TypeVar("R")


class Alone:
    """In place of an answer: this item has to be done by itself."""


ALONE = Alone()


@dataclass(slots=True, eq=False)
class _Waiting(Generic[A, R]):
    item: A
    future: asyncio.Future[R]
    deadline: float


class Batcher(Generic[A, R]):
    """One kind of call.

    Args:
        call: Does several items within so many seconds, and answers each, in their order. It should wait for nobody.
        alone: Does one item within so many seconds.
        choose: The positions of the items, of all that wait, that may go together; the first is among them.
        budget: Seconds after which each item has been answered.
        at_once: The most items that go together.
        size: The bytes of an item's contents, which bound how many go together too.
        patience: Seconds that new items wait for the call under way.
    """

    def __init__(
        self,
        call: Callable[[list[A], float], Awaitable[Sequence[R | Alone]]],
        alone: Callable[[A, float], Awaitable[R]],
        *,
        choose: Callable[[list[A]], Sequence[int]],
        budget: float,
        at_once: int,
        size: Callable[[A], int] = lambda item: 0,
        patience: float = 1.0,
    ) -> None:
        self._call = call
        self._alone = alone
        self._choose = choose
        self._budget = budget
        self._at_once = at_once
        self._size = size
        self._patience = patience
        self.most_bytes = MAX_BYTES
        self._waiting: list[_Waiting[A, R]] = []
        self._flight = SingleFlight(self._go, "batching calls")
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, item: A) -> R:
        """Do it. Cancelled, it is not done if it has not begun."""
        loop = asyncio.get_running_loop()
        # Not _Waiting[A, R](…): the alias is an object of its own, and calling it costs more than all else here.
        waiting: _Waiting[A, R] = _Waiting(item, loop.create_future(), loop.time() + self._budget)
        self._waiting.append(waiting)
        self._flight.request()
        return await waiting.future

    async def _go(self) -> None:
        """Begin with those that may go together, and wait for their answers."""
        waiting = [one for one in self._waiting if not one.future.done()]
        chosen = set(self._take([one.item for one in waiting])) if waiting else set()
        self._waiting = [one for position, one in enumerate(waiting) if position not in chosen]
        if self._waiting:
            self._flight.request()
        if chosen:
            group = self._start(self._do([waiting[position] for position in sorted(chosen)]))
            await asyncio.wait({group}, timeout=self._patience)

    def _take(self, items: list[A]) -> list[int]:
        positions = self._choose(items)
        return take(
            positions, lambda position: self._size(items[position]), most=self._at_once, most_bytes=self.most_bytes
        )

    async def _do(self, group: list[_Waiting[A, R]], *, alone: bool = False) -> None:
        left = max(min(one.deadline for one in group) - asyncio.get_running_loop().time(), 0.05)
        answers: Sequence[R | Alone | Exception]
        try:
            if alone:
                answers = [await self._alone(group[0].item, left)]
            else:
                answers = await self._call([one.item for one in group], left)
        except asyncio.CancelledError:  # by the end of the loop, or by the driver: nobody else would answer
            for one in group:
                one.future.cancel()
            raise
        except Exception as error:
            answers = [error if alone or _concerns_all(error) else ALONE] * len(group)
        for one, answer in zip(group, answers, strict=True):
            if isinstance(answer, Alone):
                self._start(self._do([one], alone=True))
            elif isinstance(answer, Exception):
                fail(one.future, copy_error(answer))
            elif not one.future.done():
                one.future.set_result(answer)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name="agent-messaging calling the server")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def batch_reads(read: Callable[[list[A], float], Awaitable[list[R]]], *, budget: float, at_once: int) -> Batcher[A, R]:
    """For plain reads, any of which may go together."""

    async def alone(item: A, left: float) -> R:
        return (await read([item], left))[0]

    async def together(items: list[A], left: float) -> Sequence[R | Alone]:
        return await read(items, left)

    return Batcher(together, alone, choose=lambda items: range(len(items)), budget=budget, at_once=at_once)


def _concerns_all(error: Exception) -> bool:
    """Whether each caller is to be told: the server is not there, has lost data, or it is not known what was done."""
    if isinstance(error, DatabaseError):
        return isinstance(error, StorageUnavailableError | QueueDataLostError)
    return isinstance(error, AgentMessagingError)
