"""Calls that come together go to the server together: whoever comes while one is under way waits for the next.

A failure of one is not the others': what cannot be done together is done again one by one, each on its own connection,
and holds up nobody who comes later. Nor does a call that gets no answer, as on a connection that has died in silence:
after a while the next ones go beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ...exceptions import AgentMessagingError, DatabaseError, StorageUnavailableError, copy_error
from ...futures import fail
from ..batches import MAX_BYTES, take

A = TypeVar("A")
R = TypeVar("R")


PATIENCE = 1.0
"""Seconds that whoever comes waits for the call under way."""


class Alone:
    """In place of an answer: to be done by itself."""


ALONE = Alone()


@dataclass(slots=True, eq=False)
class _Waiting(Generic[A, R]):
    item: A
    future: asyncio.Future[R]
    deadline: float


class Together(Generic[A, R]):
    """One kind of call.

    Args:
        call: Does several within so many seconds; answers each, in their order. Should wait for nobody.
        alone: Does one within so many seconds.
        choose: The positions of those, of all that wait, that may go together; the first among them.
        budget: Seconds after which each has been answered.
        at_once: At most so many go together.
        size: The bytes of one's contents, which bound how many go together too.
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
    ) -> None:
        self._call = call
        self._alone = alone
        self._choose = choose
        self._budget = budget
        self._at_once = at_once
        self._size = size
        self.most_bytes = MAX_BYTES
        self._waiting: list[_Waiting[A, R]] = []
        self._working: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, item: A) -> R:
        """Do it. Cancelled, it is not done if it has not begun."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting[A, R](item, loop.create_future(), loop.time() + self._budget)
        self._waiting.append(waiting)
        if self._working is None or self._working.done():  # done, where tasks are started eagerly
            self._working = loop.create_task(self._work(), name="agent-messaging-together")
        return await waiting.future

    async def _work(self) -> None:
        try:
            while waiting := [one for one in self._waiting if not one.future.done()]:
                chosen = set(self._take([one.item for one in waiting]))
                self._waiting = [one for position, one in enumerate(waiting) if position not in chosen]
                group = [one for position, one in enumerate(waiting) if position in chosen]
                await asyncio.wait({self._start(self._do(group), "agent-messaging-call")}, timeout=PATIENCE)
        finally:
            for one in self._waiting:  # none, unless the end of the loop has cancelled this
                one.future.cancel()
            self._waiting = []
            self._working = None

    def _take(self, items: list[A]) -> list[int]:
        positions = self._choose(items)
        return take(
            positions, lambda position: self._size(items[position]), most=self._at_once, most_bytes=self.most_bytes
        )

    async def _do(self, group: list[_Waiting[A, R]]) -> None:
        try:
            answers = await self._call([one.item for one in group], self._left(min(one.deadline for one in group)))
        except asyncio.CancelledError:  # by the end of the loop, or by the driver: nobody else would answer
            for one in group:
                one.future.cancel()
            raise
        except Exception as error:
            for one in group:
                self._fail(one, error) if _concerns_all(error) else self._set_apart(one)
        else:
            for one, answer in zip(group, answers, strict=True):
                if isinstance(answer, Alone):
                    self._set_apart(one)
                elif not one.future.done():
                    one.future.set_result(answer)

    def _set_apart(self, one: _Waiting[A, R]) -> None:
        self._start(self._do_alone(one), "agent-messaging-alone")

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _do_alone(self, one: _Waiting[A, R]) -> None:
        try:
            answer = await self._alone(one.item, self._left(one.deadline))
        except asyncio.CancelledError:
            one.future.cancel()
            raise
        except Exception as error:
            self._fail(one, error)
        else:
            if not one.future.done():
                one.future.set_result(answer)

    @staticmethod
    def _fail(one: _Waiting[A, R], error: Exception) -> None:
        fail(one.future, copy_error(error))

    @staticmethod
    def _left(deadline: float) -> float:
        return max(deadline - asyncio.get_running_loop().time(), 0.05)


def reading(read: Callable[[list[A], float], Awaitable[list[R]]], *, budget: float, at_once: int) -> Together[A, R]:
    """For plain reads: any of them may go together."""

    async def alone(item: A, left: float) -> R:
        return (await read([item], left))[0]

    async def together(items: list[A], left: float) -> Sequence[R | Alone]:
        return await read(items, left)

    return Together(together, alone, choose=lambda items: range(len(items)), budget=budget, at_once=at_once)


def _concerns_all(error: Exception) -> bool:
    """Whether each would fail alike: the server is not there, or it is not known what was done."""
    if isinstance(error, DatabaseError):
        return isinstance(error, StorageUnavailableError)
    return isinstance(error, AgentMessagingError)
