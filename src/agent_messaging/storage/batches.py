"""How much goes into one batch, and what becomes of a batch that fails because of one in it.

Every queue that is emptied in batches uses these: the number bounds the work of a transaction, the bytes bound its
memory and its time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from ..exceptions import AgentMessagingError, DatabaseError, StorageFullError, copy_error

I = TypeVar("I")  # noqa: E741 - an item
R = TypeVar("R")

MAX_BYTES = 8 * 1024 * 1024
"""Bytes of contents in one batch; the item with which they are reached is in it too."""


def size_of(*texts: str | None) -> int:
    """Bytes of these texts in UTF-8."""
    return sum(
        len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        for text in texts
        if text is not None
    )


def take(queue: Iterable[I], size: Callable[[I], int], *, most: int, most_bytes: int) -> list[I]:
    """Take the first of a queue: at most so many, and none behind the one with which they reach so many bytes.

    So there is always one, however big. Nothing is drawn from an iterator that is not taken.
    """
    taken: list[I] = []
    total = 0
    for item in queue:
        taken.append(item)
        total += size(item)
        if len(taken) >= most or total >= most_bytes:
            break
    return taken


def pages(items: list[I], most: int) -> Iterator[list[I]]:
    """All of them, so many at a time: for what is small each."""
    return (items[start : start + most] for start in range(0, len(items), most))


def is_of_one(error: Exception) -> bool:
    """Whether one item of a batch may be to blame, so that the others are to be tried without it.

    A store that is away, busy, damaged or foreign refuses all of them alike. A full one may have room for the small.
    """
    if isinstance(error, AgentMessagingError):
        return type(error) is DatabaseError or isinstance(error, StorageFullError)
    return not isinstance(error, OSError)


async def do_apart(call: Callable[[Sequence[I]], Awaitable[Sequence[R]]], items: Sequence[I]) -> list[R | Exception]:
    """Do it for all at once; where one may be to blame for a failure, in halves, down to those that fail alone.

    Args:
        call: Answers each, in their order, or fails and has done nothing.

    Returns:
        The answer, or the failure, of each.
    """
    try:
        return [*await call(items)]
    except Exception as error:
        if len(items) < 2 or not is_of_one(error):
            return [error, *(copy_error(error) for _ in items[1:])]
    middle = len(items) // 2
    return [*await do_apart(call, items[:middle]), *await do_apart(call, items[middle:])]
