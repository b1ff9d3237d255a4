"""When a failed run is tried again, and when it is given up. Pure rules."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ..storage.ports import Settling

MAX_REASON_LENGTH = 500
"""Characters of a reason kept in the store."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter: many messages that failed together do not come back together."""

    delay: float
    """Seconds; the longest delay after the first failure. Each further failure doubles it."""
    max_delay: float
    """Seconds; no delay is longer."""

    def after(self, attempt: int, max_attempts: int) -> tuple[Settling, float]:
        """Decide how a run that failed ends, and in how many seconds its retry is due."""
        if attempt >= max_attempts:
            return Settling.DEAD, 0.0
        longest = min(self.max_delay, self.delay * 2.0 ** min(attempt - 1, 60))
        return Settling.RETRY, random.uniform(longest / 10, longest)  # noqa: S311 - jitter, not a secret


def describe(error: BaseException) -> str:
    """Say in one bounded line why a run failed, in a form every store can hold.

    A pydantic error would quote the payload; its field paths and messages are kept, its input is not.
    """
    text = str(error)
    if type(error).__name__ == "ValidationError" and hasattr(error, "errors"):
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        text = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)
    line = f"{type(error).__name__}: {text}" if text else type(error).__name__
    line = line.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
    return line if len(line) <= MAX_REASON_LENGTH else line[: MAX_REASON_LENGTH - 1] + "…"
