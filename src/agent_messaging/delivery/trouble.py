"""A store that fails: told once for each outage, and then ever more seldom; tried again ever more slowly.

Several tasks find out, each for itself: a full disk fails those that write and none that read. So an outage lasts until
each task that failed has succeeded, and for a while none has failed again. What happens within is told at DEBUG.
"""

from __future__ import annotations

import time

from ..exceptions import AgentMessagingError
from ..loggers import get_logger

logger = get_logger("agent_messaging.delivery")

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
"""Seconds between two attempts at the store: at first, and at last."""
STEADY = 5.0
"""Seconds without a failure after which an outage is over."""
SAY_AGAIN, SAY_SELDOM = 60.0, 3600.0
"""Seconds between two lines about the same: at first, and at last."""


class Seldom:
    """Whether to say something again that happens again and again: at once, then after pauses that double."""

    def __init__(self) -> None:
        self._pause = SAY_AGAIN
        self._due = self._seen = float("-inf")
        self._times = 0

    def happened(self) -> int:
        """It happened once more. Returns how often since it was last said, if it is to be said now; else 0."""
        now = time.monotonic()
        if now - self._seen > SAY_SELDOM:
            self._pause = SAY_AGAIN
        self._seen = now
        self._times += 1
        if now < self._due:
            return 0
        self._due = now + self._pause
        self._pause = min(self._pause * 2, SAY_SELDOM)
        times, self._times = self._times, 0
        return times


class Trouble:
    """Whether the store fails at the moment, as the engine's tasks find out."""

    def __init__(self) -> None:
        self._failing: dict[Attempts, AgentMessagingError] = {}
        """The newest failure of each that has not succeeded since; the newest is last."""
        self._begun_at: float | None = None
        """Since when there is an outage."""
        self._failed_at = 0.0
        self._seldom = Seldom()

    @property
    def error(self) -> AgentMessagingError | None:
        """The newest failure that no success has followed."""
        return next(reversed(self._failing.values()), None)

    @property
    def is_final(self) -> bool:
        """Whether trying again cannot help, such as when the file was replaced."""
        return any(not error.retryable for error in self._failing.values())

    def attempts(self) -> Attempts:
        """For a task that tries again until it succeeds."""
        return Attempts(self)

    def note(self, error: AgentMessagingError) -> None:
        """Something failed that is tried again at another time, or is left to others."""
        now = self._failed_at = time.monotonic()
        if self._begun_at is None:
            self._begun_at = now
            self._seldom = Seldom()
        if self._seldom.happened() or not (error.retryable or self.is_final):
            logger.warning("the store failed, trying again: %s", error)
        else:
            logger.debug("the store still fails: %s", error)

    def failed(self, attempts: Attempts, error: AgentMessagingError) -> None:
        """An attempt failed."""
        self.note(error)
        self._failing.pop(attempts, None)
        self._failing[attempts] = error

    def succeeded(self, attempts: Attempts) -> None:
        """An attempt succeeded."""
        self._failing.pop(attempts, None)
        if self._begun_at is None or self._failing:
            return
        now = time.monotonic()
        if now - self._failed_at >= STEADY:
            logger.warning("the store answers again; it failed for %.0f s", self._failed_at - self._begun_at)
            self._begun_at = None


class Attempts:
    """The attempts of one task of the engine, again and again, at reaching the store."""

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self._pause = FIRST_PAUSE

    def failed(self, error: AgentMessagingError) -> float:
        """Take note; return the seconds to wait before the next try."""
        self._trouble.failed(self, error)
        pause = self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return pause

    def succeeded(self) -> None:
        """The store answered."""
        self._trouble.succeeded(self)
        self._pause = FIRST_PAUSE
