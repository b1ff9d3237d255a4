"""Messages are taken for an agent's own code, and given back if its call was cancelled, or failed, in the middle.

Between the commit that takes a message and the caller lies the whole way back through the call. A message that is cut
off there is unread again, as if the call had not looked. Only the death of the process leaves it read: that is the
price of taking without a claim.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from ..exceptions import DatabaseError, OutcomeUnknownError
from ..futures import outlive
from ..loggers import get_logger
from ..storage.ports import MessageRow, Presence, ReadPage, SessionStore
from .again import Again
from .background import begin, end_within
from .commits import Commits
from .current import current_message
from .services import Service

if TYPE_CHECKING:
    from .announcer import Announcer

R = TypeVar("R")

logger = get_logger("agent_messaging.delivery")


class Reading(Service):
    """The messages that calls of one SDK object take."""

    def __init__(self, sessions: SessionStore, presence: Presence, commits: Commits, announcer: Announcer) -> None:
        self.sessions = sessions
        self.presence = presence
        self.commits = commits
        self.announcer = announcer
        self._returning: set[asyncio.Task[None]] = set()
        self._again = Again[tuple[MessageRow, ...]](lambda rows: self._begin(self.give_back(rows)))
        """Messages that the store did not take back yet. Nobody has them, and no other call finds them."""

    @contextlib.contextmanager
    def call(self) -> Iterator[Taking]:
        """A call takes messages within. If it ends by an exception, all of them go back in the background."""
        taking = Taking(self)
        try:
            yield taking
        except BaseException:
            if (returning := taking.give_back()) is not None:
                self._begin(returning)
            raise

    def _begin(self, returning: Coroutine[Any, Any, None]) -> None:
        begin(returning, "agent-messaging-return", self._returning)

    async def give_back(self, rows: tuple[MessageRow, ...]) -> None:
        """Make messages unread again, later if the store fails now. Messages that it never takes back stay read."""
        try:
            waiting = await self.sessions.return_messages(rows)
        except (DatabaseError, OutcomeUnknownError) as error:
            is_over = self._again.is_closed or not error.retryable
            logger.warning(
                "could not give back %d messages that a cancelled call took, %s: %s",
                len(rows),
                "they stay read" if is_over else "trying again",
                error,
            )
            if not is_over:
                self._again.later(rows)
            return
        self.announcer.returned({row.recipient_id for row in rows if row.recipient_id is not None}, waiting)

    async def until_returned(self, deadline: float | None = None) -> None:
        """Wait until the messages that go back are there, or the deadline (of the loop's clock)."""
        if self._returning:
            left = None if deadline is None else max(deadline - asyncio.get_running_loop().time(), 0.0)
            await asyncio.wait(set(self._returning), timeout=left)

    async def reject(self, rows: Collection[MessageRow], reason: str) -> None:
        """Make dead letters of messages that cannot be read. If the store fails now, they stay as they are."""
        await self.commits.run(self._reject(rows, reason))

    async def _reject(self, rows: Collection[MessageRow], reason: str) -> None:
        for row in rows:
            logger.error("message %s was taken and cannot be read: %s", row.message_id, reason)
        try:
            failed = await self.sessions.reject_messages(rows, reason, owner=self.presence.process_id)
        except (DatabaseError, OutcomeUnknownError) as error:
            logger.warning("could not make dead letters of messages that cannot be read: %s", error)
            return
        self.announcer.rejected([row.message_id for row in rows], failed)

    async def aclose(self, timeout: float) -> None:
        """Wait so many seconds for the messages that go back to reach the store."""
        self._again.close()
        await end_within(self._returning, timeout)


class Taking:
    """The messages that one call has taken so far."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self._rows: list[MessageRow] = []
        self._in_flight: asyncio.Task[Any] | None = None

    async def read(self, recipient_id: str, *, sender_id: str | None, thread: str | None, limit: int) -> ReadPage:
        """Read and mark a page of what is unread."""
        page = await self._take(
            self.reading.sessions.read_messages(
                recipient_id, sender_id=sender_id, thread=thread, limit=limit, within=current_message()
            )
        )
        self._rows += page.messages
        return page

    async def take_awaited(self, recipient_id: str, sender_id: str, thread: str | None) -> MessageRow | None:
        """Take the oldest message of a sender that no handler has had, of the thread that is named or of any."""
        within, sessions = current_message(), self.reading.sessions
        row = await self._take(sessions.take_awaited(recipient_id, sender_id, thread=thread, within=within))
        self._rows += [] if row is None else [row]
        return row

    async def _take(self, statement: Coroutine[Any, Any, R]) -> R:
        # A task of its own: cut off by a cancellation it might take all the same, and nobody would know what.
        task: asyncio.Task[R] = asyncio.create_task(statement, name="agent-messaging-take")
        self._in_flight = task
        result = await outlive(task)
        self._in_flight = None
        return result

    def give_back(self) -> Coroutine[Any, Any, None] | None:
        """The work of giving back; None if nothing was taken."""
        return self._give_back() if self._rows or self._in_flight is not None else None

    async def _give_back(self) -> None:
        rows, task = list(self._rows), self._in_flight
        if task is not None:
            await asyncio.wait({task})
            if not task.cancelled() and task.exception() is None:
                result = task.result()
                rows += result.messages if isinstance(result, ReadPage) else [] if result is None else [result]
        if rows:
            await self.reading.give_back(tuple(rows))
