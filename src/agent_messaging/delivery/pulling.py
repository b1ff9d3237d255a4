"""Claims of agents that pull: an agent holds messages until it says what became of each, or their leases end.

A call that was begun goes to its end: a cancelled caller changes nothing about what the store is asked, nor about who
is told of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from ..exceptions import DatabaseError, OutcomeUnknownError
from ..futures import outlive
from ..storage.ports import CLAIM_MARGIN, ClaimedDelivery, ClaimRequest, Settlement
from .announcer import Announcer
from .background import begin
from .claims import Claims

PAUSE = 0.25
"""Seconds between two looks whether the claims are reconciled."""


class Pulling:
    """The calls of the agents that pull through one SDK object. What they hold stands in the ledger."""

    def __init__(self, claims: Claims, announcer: Announcer) -> None:
        self.claims = claims
        self.deliveries = claims.deliveries
        self.announcer = announcer

    async def pull(self, request: ClaimRequest, deadline: float | None = None) -> list[ClaimedDelivery]:
        """Claim. Cancelled in the middle, what was claimed goes back.

        While claims are being reconciled, which needs the store, it waits until the deadline (of the loop's clock).
        """
        while self.claims.is_in_doubt:  # a claim made now would be taken for a lost one
            if deadline is not None and asyncio.get_running_loop().time() >= deadline:
                return []
            self.claims.stations.wake()
            await asyncio.sleep(PAUSE)
        task = begin(self._pull(request), "agent-messaging-pull", self.claims.pulling)
        try:
            return await outlive(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._abandon)
            raise

    async def _pull(self, request: ClaimRequest) -> list[ClaimedDelivery]:
        try:
            claimed = await self.deliveries.claim([request], owner=self.claims.owner)
        except (DatabaseError, OutcomeUnknownError):
            self.claims.doubt()
            raise
        if claimed:
            lease = request.run_limit + CLAIM_MARGIN
            self.claims.hold(claimed, lease)
            self.announcer.pulled(claimed)
            self.announcer.claimed(lease)
        return claimed

    def _abandon(self, task: asyncio.Task[list[ClaimedDelivery]]) -> None:
        if not task.cancelled() and task.exception() is None:
            self.abandon(task.result())

    def abandon(self, claimed: Collection[ClaimedDelivery]) -> None:
        """Give these back: their receiver has gone."""
        self.claims.let_go([delivery.claim for delivery in claimed])
        self.claims.doubt()  # so that every claim goes back that nobody here knows

    async def settle(self, settlement: Settlement, delivery: ClaimedDelivery) -> bool:
        """End a claim; False if it was not the newest any more. Cancelled in the middle, it is ended all the same."""
        settling = self._settle(settlement, delivery)
        return await outlive(begin(settling, "agent-messaging-settle", self.claims.answering))

    async def _settle(self, settlement: Settlement, delivery: ClaimedDelivery) -> bool:
        settled = await self.deliveries.settle([settlement], owner=self.claims.owner)
        self.claims.let_go([settlement.claim])
        self.announcer.settled([(settlement, delivery)], settled)
        return settled.moved[0]
