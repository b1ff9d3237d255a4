"""Claims of agents that pull: who fetches messages holds them until it says what became of each, or their leases end.

What is begun here is ended here: a caller who is cancelled changes nothing about what the store is asked, nor about who
is told of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeVar

from ..exceptions import DatabaseError, OutcomeUnknownError
from ..futures import outlive
from ..storage.ports import (
    CLAIM_MARGIN,
    Claim,
    ClaimedDelivery,
    ClaimRequest,
    DeliveryStore,
    Presence,
    Settled,
    Settlement,
)

R = TypeVar("R")

FORGET_AFTER = 5.0
"""Seconds past the end of a lease after which a claim is forgotten here: the store has let it go by then."""


class Pulled:
    """What the agents that pull through this SDK object hold.

    Args:
        on_claimed: Called with the seconds until the leases of what was claimed end.
        on_settled: Called with a settlement, the message it was about, and what the store made of it.
        on_doubt: Called when the store may have claims of this process that nobody here holds.
    """

    def __init__(
        self,
        deliveries: DeliveryStore,
        presence: Presence,
        *,
        on_claimed: Callable[[float], None],
        on_settled: Callable[[Settlement, str, Settled], None],
        on_doubt: Callable[[], None],
    ) -> None:
        self.deliveries = deliveries
        self.presence = presence
        self.on_claimed = on_claimed
        self.on_settled = on_settled
        self.on_doubt = on_doubt
        self._held: dict[Claim, asyncio.TimerHandle] = {}
        self._claiming: set[asyncio.Task[Any]] = set()
        self._settling: set[asyncio.Task[Any]] = set()

    @property
    def held(self) -> Collection[Claim]:
        """The claims that are not settled yet."""
        return self._held.keys()

    @property
    def is_claiming(self) -> bool:
        """Whether more are on their way."""
        return bool(self._claiming)

    async def pull(self, request: ClaimRequest) -> list[ClaimedDelivery]:
        """Claim. Cancelled in the middle, what was claimed goes back."""
        task = _begin(self._pull(request), self._claiming)
        try:
            return await outlive(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._abandon)
            raise

    async def _pull(self, request: ClaimRequest) -> list[ClaimedDelivery]:
        try:
            claimed = await self.deliveries.claim([request], owner=self.presence.process_id)
        except (DatabaseError, OutcomeUnknownError):
            self.on_doubt()
            raise
        lease = request.run_limit + CLAIM_MARGIN
        loop = asyncio.get_running_loop()
        for delivery in claimed:
            self._held[delivery.claim] = loop.call_later(lease + FORGET_AFTER, self._held.pop, delivery.claim, None)
        if claimed:
            self.on_claimed(lease)
        return claimed

    def _abandon(self, task: asyncio.Task[list[ClaimedDelivery]]) -> None:
        if not task.cancelled() and task.exception() is None:
            self.abandon(task.result())

    def abandon(self, claimed: Collection[ClaimedDelivery]) -> None:
        """Give back what was claimed: its receiver has gone."""
        self._forget([delivery.claim for delivery in claimed])
        self.on_doubt()  # which gives back every claim that nobody here knows

    async def settle(self, settlement: Settlement, message_id: str) -> bool:
        """End a claim; False if it was not the newest any more. Cancelled in the middle, it is ended all the same."""
        return await outlive(_begin(self._settle(settlement, message_id), self._settling))

    async def _settle(self, settlement: Settlement, message_id: str) -> bool:
        settled = await self.deliveries.settle([settlement], owner=self.presence.process_id)
        self._forget([settlement.claim])
        self.on_settled(settlement, message_id, settled)
        return settled.moved[0]

    def _forget(self, claims: Collection[Claim]) -> None:
        for claim in claims:
            if (timer := self._held.pop(claim, None)) is not None:
                timer.cancel()

    def clear(self) -> None:
        """Hold nothing any more: it was given back, or is lost."""
        self._forget([*self._held])

    async def wait_until_answered(self) -> None:
        """Wait until the store has answered all that was begun."""
        while tasks := self._claiming | self._settling:
            await asyncio.wait(tasks)


def _begin(work: Coroutine[Any, Any, R], tasks: set[asyncio.Task[Any]]) -> asyncio.Task[R]:
    task = asyncio.create_task(work, name="agent-messaging-pull")
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    task.add_done_callback(_take_failure)
    return task


def _take_failure(task: asyncio.Task[Any]) -> None:
    """So that it is not reported as never retrieved, where its caller has gone."""
    if not task.cancelled():
        task.exception()
