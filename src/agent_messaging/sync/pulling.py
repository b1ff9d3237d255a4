"""Messages that were pulled, for code without asyncio."""

from __future__ import annotations

from datetime import datetime
from typing import Generic

from ..messaging.pulling import ReceivedMessage as AsyncReceivedMessage
from ..models import MessageContext, T
from .running import Blocking


class ReceivedMessage(Blocking[AsyncReceivedMessage[T]], Generic[T]):
    """A claimed message. Settle it once: `done`, `retry` or `reject`; otherwise it comes back when its lease ends."""

    @property
    def content(self) -> T:
        """The payload; plain JSON, or of the type asked for."""
        return self._async.content

    @property
    def context(self) -> MessageContext:
        """Who sent it, and all else that is known of it."""
        return self._async.context

    @property
    def message_id(self) -> str:
        """The message's id, the same in every run."""
        return self._async.message_id

    @property
    def created_at(self) -> datetime:
        """When it was stored."""
        return self._async.created_at

    def done(self) -> None:
        """Say that it is handled; it is then settled for good.

        Raises:
            ClaimLostError: The claim is not the newest any more: another run has the message.
        """
        self._run(lambda: self._async.done())

    def retry(self, after: float = 0.0, reason: str = "the receiver asked for a retry") -> None:
        """Give it back to be tried again in `after` seconds, or, at its last attempt, to the dead letters.

        Raises:
            ClaimLostError: The claim is not the newest any more.
        """
        self._run(lambda: self._async.retry(after, reason))

    def reject(self, reason: str) -> None:
        """Give it up: it becomes a dead letter with this reason (at most 500 characters are kept).

        Raises:
            ClaimLostError: The claim is not the newest any more.
        """
        self._run(lambda: self._async.reject(reason))
