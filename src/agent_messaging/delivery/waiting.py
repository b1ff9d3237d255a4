"""Waiting for deliveries to end: futures in a dict, one query for all of them, no connection held meanwhile.

Hints (a settlement here, a ring or a poll from elsewhere) only say when to look; what a waiter is told is what the
row says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable

from ..exceptions import DatabaseError, MessageNotFoundError, NotInitializedError, OutcomeUnknownError
from ..storage.ports import DeliveryStore, ReceiptRow

logger = logging.getLogger("agent_messaging.delivery")

PAGE = 1_000
"""Receipts asked for in one query."""
_CLOSED = "The SDK was closed while this waited. The messages go on."


class Waiters:
    """Who waits for which message's delivery to end."""

    def __init__(self, deliveries: DeliveryStore) -> None:
        self.deliveries = deliveries
        self._futures: dict[str, list[asyncio.Future[ReceiptRow]]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._ids: set[str] = set()
        self._is_closed = False

    async def wait(self, message_ids: Collection[str]) -> dict[str, ReceiptRow]:
        """Return the final receipts of all of these.

        Registers before it looks, so that nothing ending in between is missed.

        Raises:
            MessageNotFoundError: One does not exist (any more); at once, whatever the others do.
            NotInitializedError: The SDK was closed meanwhile.
        """
        if self._is_closed:  # nobody would look any more
            raise NotInitializedError(_CLOSED)
        loop = asyncio.get_running_loop()
        mine: dict[str, asyncio.Future[ReceiptRow]] = {id: loop.create_future() for id in message_ids}
        for id, future in mine.items():
            self._futures.setdefault(id, []).append(future)
        try:
            await self._check(mine)  # raises here if the store cannot be reached now
            return dict(zip(mine, await asyncio.gather(*mine.values()), strict=True))
        finally:
            for id, future in mine.items():
                if not future.cancel() and not future.cancelled():
                    future.exception()  # taken, so that it is not reported as never retrieved
                waiting = self._futures[id]
                waiting.remove(future)
                if not waiting:
                    del self._futures[id]

    def hint(self, message_ids: Iterable[str]) -> None:
        """These may have ended: look."""
        if self._futures:
            self._look(self._futures.keys() & set(message_ids))

    def look(self) -> None:
        """Anything may have ended: look at all that is waited for."""
        if self._futures:
            self._look(self._futures.keys())

    async def aclose(self) -> None:
        """Stop looking, and release whoever still waits."""
        self._is_closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        for future in [future for futures in self._futures.values() for future in futures if not future.done()]:
            future.set_exception(NotInitializedError(_CLOSED))

    def _look(self, message_ids: Collection[str]) -> None:
        self._ids |= set(message_ids)
        if self._ids and self._looking is None and not self._is_closed:
            self._looking = asyncio.create_task(self._look_until_done(), name="agent-messaging-waiting")

    async def _look_until_done(self) -> None:
        try:
            while self._ids:
                ids, self._ids = self._ids, set()
                try:
                    await self._check(ids)
                except (DatabaseError, OutcomeUnknownError) as error:
                    logger.debug("could not look at receipts, the next poll will: %s", error)
        finally:
            self._looking = None

    async def _check(self, message_ids: Collection[str]) -> None:
        ids = list(message_ids)
        for start in range(0, len(ids), PAGE):
            page = ids[start : start + PAGE]
            rows = {row.message_id: row for row in await self.deliveries.list_receipts(page)}
            for id in page:
                row = rows.get(id)
                if row is None or row.state.is_final:
                    for future in self._futures.get(id, ()):
                        if future.done():
                            continue
                        if row is None:
                            future.set_exception(MessageNotFoundError(message_id=id))
                        else:
                            future.set_result(row)
