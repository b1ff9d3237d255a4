"""A store that fails: said once and then once a minute, tried again ever more slowly."""

from __future__ import annotations

import logging
import time

from ..exceptions import AgentMessagingError

logger = logging.getLogger("agent_messaging.delivery")

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
SAY_EVERY = 60.0
"""Seconds."""


class Trouble:
    """Whether the store fails at the moment, as the engine's tasks find out."""

    def __init__(self) -> None:
        self.error: AgentMessagingError | None = None
        """The newest failure since the last success."""
        self._pause = FIRST_PAUSE
        self._said_at = -SAY_EVERY

    @property
    def is_final(self) -> bool:
        """Whether trying again cannot help, such as when the file was replaced."""
        return self.error is not None and not self.error.retryable

    def failed(self, error: AgentMessagingError) -> float:
        """Take note; return the seconds to wait before the next try."""
        now = time.monotonic()
        if self.error is None or type(error) is not type(self.error) or now - self._said_at >= SAY_EVERY:
            self._said_at = now
            logger.warning("the store failed, trying again: %s", error)
        pause = self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self.error = error
        return pause

    def succeeded(self) -> None:
        """The store answered."""
        if self.error is not None:
            logger.warning("the store answers again")
            self.error = None
        self._pause = FIRST_PAUSE
