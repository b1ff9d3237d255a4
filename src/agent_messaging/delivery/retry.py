"""The rules of failed runs: when one is tried again, when it is a dead letter, and how its error is described."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from itertools import islice

from pydantic_core import ValidationError

from ..handlers.running import UnreadableError
from ..payloads import problems_of
from ..records import dataclass
from ..storage.ports import Settling

MAX_REASON_LENGTH = 500
"""Characters of a reason kept in the store."""
MAX_LEAVES = 5
"""Errors of a group that a reason names."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter: many messages that failed together do not come back together."""

    delay: float
    """Seconds; the longest delay after the first failure. Each further failure doubles it."""
    max_delay: float
    """Seconds; no delay is longer."""

    def with_own(self, delay: float | None, max_delay: float | None) -> RetryPolicy:
        """The same policy with other delays, where they are given."""
        own = self.delay if delay is None else delay, self.max_delay if max_delay is None else max_delay
        return self if own == (self.delay, self.max_delay) else RetryPolicy(*own)

    def after(self, attempt: int, max_attempts: int) -> tuple[Settling, float]:
        """Decide how a run that failed ends, and in how many seconds its retry is due."""
        if attempt >= max_attempts:
            return Settling.DEAD, 0.0
        return Settling.RETRY, self.pause(attempt)

    def pause(self, failures: int) -> float:
        """Seconds until the next run, after so many that failed in a row."""
        longest = min(self.max_delay, self.delay * 2.0 ** min(failures - 1, 60))
        return random.uniform(longest / 10, longest)  # noqa: S311 - jitter, not a secret


def describe(error: BaseException) -> str:
    """Say in one bounded line why a run failed, in a form every store can hold. Never fails itself.

    A group of errors, as a `TaskGroup` raises it, is described by the errors in it: its own text says only how many.
    What a pydantic error says of a value could quote the payload: of those, only the places and pydantic's own texts
    are kept. What is unreadable is described by its cause.
    """
    if isinstance(error, UnreadableError):
        error = error.__cause__ or error
    if isinstance(error, BaseExceptionGroup):
        leaves = list(islice(_leaves(error), 1000))
        told = "; ".join(_describe(leaf) for leaf in leaves[:MAX_LEAVES])
        if len(leaves) > MAX_LEAVES:
            told += f"; and {len(leaves) - MAX_LEAVES} more"
        return clean_reason(f"{len(leaves)} errors: {told}" if len(leaves) > 1 else told)
    return clean_reason(_describe(error))


def _leaves(group: BaseException) -> Iterator[BaseException]:
    stack = [group]
    while stack:
        error = stack.pop()
        if isinstance(error, BaseExceptionGroup):
            stack += reversed(error.exceptions)
        else:
            yield error


def _describe(error: BaseException) -> str:
    name = type(error).__name__
    try:
        if isinstance(error, ValidationError):
            text = problems_of(error)
        else:
            text = "" if _is_validation_error(error) else str(error)
    except Exception:  # its __str__ is broken; the type says enough
        text = ""
    return f"{name}: {text}" if text else name


def clean_reason(text: str) -> str:
    """Make a text such that every store can hold it as a reason: no NUL, no lone surrogate, bounded."""
    line = text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
    return line if len(line) <= MAX_REASON_LENGTH else line[: MAX_REASON_LENGTH - 1] + "…"


def traceback_of(error: BaseException) -> BaseException | None:
    """The error, if its traceback may be logged; None if it could show a payload.

    It could if the payload is unreadable, or if a validation error of pydantic is in the error, or behind it.
    """
    if isinstance(error, UnreadableError) or any(_is_validation_error(one) for one in _chain(error)):
        return None
    return error


def is_cancellation(error: BaseException) -> bool:
    """Whether it ends the calling task because somebody cancelled that; not a CancelledError of a function's making."""
    if not isinstance(error, asyncio.CancelledError):
        return False  # at the end of the interpreter, or of a loop that was only closed, there is no task to ask
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _is_validation_error(error: BaseException) -> bool:
    # By name: pydantic.v1 has a class of its own.
    return type(error).__name__ == "ValidationError" and type(error).__module__.startswith("pydantic")


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    stack: list[BaseException | None] = [error]
    while stack:
        one = stack.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            stack += (one.__cause__, one.__context__)
            stack += one.exceptions if isinstance(one, BaseExceptionGroup) else ()
