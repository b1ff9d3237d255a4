"""Answers and results that come one after the other, for code without asyncio."""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from typing_extensions import TypeVar as DefaultTypeVar

from ..exceptions import NotInitializedError
from ..messaging.conversation import AskStream as AsyncAskStream
from .running import Runner, Sequel

T = TypeVar("T")
P = DefaultTypeVar("P", default=Any)
R = DefaultTypeVar("R", default=Any)


def iterate(runner: Runner, make: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
    """Iterate over what is asynchronous; leaving the loop closes it."""
    sequel = Sequel(runner)
    found: list[AsyncIterator[T]] = []

    async def take() -> T:
        if not found:
            found.append(make())
        return await anext(found[0])

    try:
        while True:
            try:
                item = sequel.run(take)
            except StopAsyncIteration:
                return
            yield item
    finally:
        sequel.close()


class AskStream(Generic[P, R]):
    """One question on its way: iterate over the parts of its answer, and read `answer`.

    `sdk.conversation.ask` makes it. Nothing is sent before the first part, or the answer, is read; whichever that is
    decides whether parts are read. A loop over it ends when the ask does, and raises the error that tells how it ended
    if that was not by an answer. Whoever leaves gives the ask up: the end of `with`, `close`, and the last reference.
    """

    def __init__(self, runner: Runner, make: Callable[[], AsyncAskStream[P, R]]) -> None:
        self._sequel = Sequel(runner)
        self._make = make
        self._made: AsyncAskStream[P, R] | None = None

    def _stream(self) -> AsyncAskStream[P, R]:
        """Make it, on the loop, in the task that reads it."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> P:
        async def take() -> P:
            return await anext(self._stream())

        try:
            return self._sequel.run(take)
        except StopAsyncIteration:
            raise StopIteration from None

    @builtins.property
    def answer(self) -> R:
        """The answer; this waits for it, and what it raises is as of `send_and_wait`.

        Read first, it is all that is waited for: nobody reads parts, as with `send_and_wait`. Read after parts, it
        drops the parts that were not read.
        """

        async def wait() -> R:
            return await self._stream().answer

        return self._sequel.run(wait)

    def close(self) -> None:
        """Give the ask up, unless it has ended; if it was not sent yet, it is not sent any more. Idempotent."""

        async def leave() -> None:
            await self._stream().aclose()

        with contextlib.suppress(NotInitializedError):  # the SDK was closed, which has given it up
            self._sequel.run(leave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
