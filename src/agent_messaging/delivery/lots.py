"""The lots in which callers of one SDK object wait: for receipts, answers, messages, and parts.

Callers that wait for turns wait in `Meetings`. Each lot is one `Waiters`, except the one for messages to pull, in which
a hint wakes one caller, and is about no row.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from ..exceptions import MessageNotFoundError, QueueDataLostError, TaskNotFoundError
from ..storage.parts import has_room
from ..storage.ports import (
    Claim,
    DeliveryStore,
    EndedTask,
    PartCursor,
    PartPage,
    PartStore,
    ReceiptRow,
    SessionStore,
    Stream,
    TaskStore,
    WaitRow,
)
from .arrivals import Arrivals
from .asks import Asks, gone
from .waiting import Waiters

PAGE = 1_000
"""Parts read at once for one asker."""


class WorkBell:
    """Wakes the workforce: to go on, or also to look in the store."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._must_look = False

    def wake(self) -> None:
        """There is something to do here."""
        self._rung.set()

    def look(self) -> None:
        """Anything may have changed in the store."""
        self._must_look = True
        self._rung.set()

    def take_look(self) -> bool:
        """Whether it is to look in the store; the next answer is no, until it is told again."""
        must_look, self._must_look = self._must_look, False
        return must_look

    async def wait(self, timeout: float) -> None:
        """Wait until it is woken, or for so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._rung.wait()
        self._rung.clear()


class Lots:
    """All lots of one SDK object."""

    def __init__(self, deliveries: DeliveryStore, sessions: SessionStore, parts: PartStore, tasks: TaskStore) -> None:
        self._tasks = tasks
        self._deliveries = deliveries
        self._sessions = sessions
        self._parts = parts
        self.receipts = Waiters[str, ReceiptRow](self._find_final, lambda id: MessageNotFoundError(message_id=id))
        """Waits for deliveries to end, by message id."""
        self.asks = Asks(sessions)
        """Waits for answers."""
        self.waits = Waiters[str, WaitRow](self._find_waits, gone)
        """Waits for messages of one sender, by the id of the wait; each is about its (sender id, recipient id)."""
        self.parts = Waiters[PartCursor, PartPage](self._find_parts, gone)
        """Waits for parts behind a cursor; each is about its ask."""
        self.room = Waiters[tuple[str, Claim], Stream](self._find_room, gone)
        """Waits for room in the stream of an ask, by (ask id, claim of the run); each is about its ask."""
        self.tasks = Waiters[str, EndedTask](self._find_ended, lambda id: TaskNotFoundError(task_id=id))
        """Waits for tasks to end, by task id."""
        self.work = WorkBell()
        """Waits for tasks to take: the workforce."""
        self.arrivals = Arrivals()
        """Waits for messages to pull."""

    async def _find_final(self, message_ids: list[str]) -> Mapping[str, ReceiptRow | None]:
        rows = {row.message_id: row for row in await self._deliveries.list_receipts(message_ids)}
        return {id: rows.get(id) for id in message_ids if id not in rows or rows[id].state.is_final}

    async def _find_ended(self, task_ids: list[str]) -> Mapping[str, EndedTask | None]:
        try:
            return await self._tasks.find_ended(task_ids)
        except QueueDataLostError as error:
            self.tasks.fail_all(error)  # they may be among what was lost
            raise

    async def _find_waits(self, wait_ids: list[str]) -> Mapping[str, WaitRow | None]:
        found = await self._sessions.find_waits(wait_ids)
        return {id: row for id, row in found.items() if row is None or row.is_ready or row.is_ended}

    async def _find_parts(self, cursors: list[PartCursor]) -> Mapping[PartCursor, PartPage | None]:
        pages = {page.cursor.ask_id: page for page in await self._parts.read(cursors, PAGE)}
        return {cursor: pages[cursor.ask_id] for cursor in cursors if cursor.ask_id in pages}

    async def _find_room(self, runs: list[tuple[str, Claim]]) -> Mapping[tuple[str, Claim], Stream | None]:
        streams = zip(runs, await self._parts.find_streams(runs), strict=True)
        return {run: stream for run, stream in streams if has_room(stream)}
