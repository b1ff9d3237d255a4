"""How much goes into one batch, and what becomes of a batch that fails because of one of its items; pages in steps.

Every queue that is emptied in batches uses these. The number of items bounds the work of a transaction, their bytes
bound its memory and its time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from ..exceptions import AgentMessagingError, DatabaseError, StorageFullError, copy_error

I = TypeVar("I")  # noqa: E741 - an item
P = TypeVar("P")
R = TypeVar("R")

MAX_BYTES = 8 * 1024 * 1024
"""Bytes of contents in one batch, which includes the item that reaches them."""


ABOVE_ALL = 2**63 - 1
"""A number above those of all rows, for what is read from the newest on."""


def size_of(*texts: str | None) -> int:
    """The bytes of these texts in UTF-8."""
    size = 0
    for text in texts:
        if text is not None:
            size += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return size


def take(queue: Iterable[I], size: Callable[[I], int], *, most: int, most_bytes: int) -> list[I]:
    """Take the first `most` items of a queue, and none behind the item that reaches `most_bytes`.

    There is always one, however big. Nothing is drawn from an iterator that is not taken.
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
    """All items, `most` at a time; for items that are small."""
    return (items[start : start + most] for start in range(0, len(items), most))


async def read_page(
    step: Callable[[int, int, P | None], Awaitable[tuple[list[I], int, P | None]]], limit: int, offset: int
) -> list[I]:
    """A page that is read in steps, as what it shows may be few of many.

    Args:
        step: Looks at a bounded number, from a place on (None: the first). It is given how many are wanted yet, and how
            many are to be passed over before them; it answers what it found, how many are still to be passed over,
            and where the next step begins (None: there is no more).
    """
    found: list[I] = []
    place = None
    while len(found) < limit:
        rows, offset, place = await step(limit - len(found), offset, place)
        found += rows
        if place is None:
            break
    return found


def is_of_one(error: Exception) -> bool:
    """Whether one item of a batch may be to blame, so that the others are worth another try.

    A store that is away, busy, damaged or foreign refuses all items alike. A full store may have room for small ones.
    """
    if isinstance(error, AgentMessagingError):
        return type(error) is DatabaseError or isinstance(error, StorageFullError)
    return not isinstance(error, OSError)


def is_refused_for_good(error: Exception) -> bool:
    """Whether the store will never take an item that failed by itself. A full store may take it later."""
    return is_of_one(error) and not isinstance(error, StorageFullError)


async def do_apart(call: Callable[[Sequence[I]], Awaitable[Sequence[R]]], items: Sequence[I]) -> list[R | Exception]:
    """Call it for all items at once, and in halves after a failure for which one item may be to blame.

    Args:
        call: It answers each item, in their order, or fails and has done nothing.

    Returns:
        The answer or the failure of each item.
    """
    try:
        return [*await call(items)]
    except Exception as error:
        if len(items) < 2 or not is_of_one(error):
            return [error, *(copy_error(error) for _ in items[1:])]
    middle = len(items) // 2
    return [*await do_apart(call, items[:middle]), *await do_apart(call, items[middle:])]


def take_out(
    waiting: list[I],
    batch: Sequence[I],
    answers: Sequence[R | Exception],
    instead: Callable[[I, Exception], I | None],
) -> tuple[list[I], list[R], list[Exception]]:
    """Take the batch, with which `waiting` begins, out of it; what failed waits again, behind the others.

    Args:
        answers: As of `do_apart`.
        instead: What is to be tried in place of an item that failed so; None: it itself, and that is a failure.

    Returns:
        The items that did not fail, their answers, and the failures.
    """
    del waiting[: len(batch)]
    done, results, failed = list[I](), list[R](), list[Exception]()
    for item, answer in zip(batch, answers, strict=True):
        if not isinstance(answer, Exception):
            done.append(item)
            results.append(answer)
        elif (other := instead(item, answer)) is not None:
            waiting.append(other)
        else:
            waiting.append(item)
            failed.append(answer)
    return done, results, failed
