"""The ledger of what this process holds in the store: reserved, running, settling, pulled.

Every claim of this process stands in one of the four. A claim that the store has and the ledger does not know is lost:
the answer that would have brought it never came. Such claims are given back, uncounted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from operator import attrgetter, itemgetter
from typing import Any

from ..clock import utc_now
from ..models import Kind
from ..storage.batches import MAX_BYTES, pages, take
from ..storage.ports import (
    AppendOutcome,
    Claim,
    ClaimedDelivery,
    DeliveryStore,
    NewGroup,
    Presence,
    Settlement,
    Settling,
    Stored,
    TurnRef,
)
from .current import Run, current_run
from .facts import Ending, Facts
from .stations import Station, Stations

MAX_SETTLEMENTS = 1_000
"""Settlements in one commit."""
FORGET_AFTER = 5.0
"""Seconds past the end of a lease after which a claim is forgotten here: the store has let it go by then."""
STOPPED = "the process stopped"

_SETTLEMENT = itemgetter(0)
_SIZE = attrgetter("size")


class Claims:
    """The claims of one SDK object.

    Args:
        facts: What observers are told of them, by those who make and end them.
    """

    def __init__(self, deliveries: DeliveryStore, presence: Presence, stations: Stations, facts: Facts) -> None:
        self.deliveries = deliveries
        self.presence = presence
        self.stations = stations
        self.facts = facts
        self.reserved: dict[str, Station] = {}
        """Slots kept, by message id, for deliveries that are being appended with a claim."""
        self._stored_at = utc_now()
        """When the last reserved deliveries went to the store: one instant for all, because asking takes 0.6 µs."""
        self.running: dict[Run, None] = {}
        self.settling: list[Ending] = []
        """Ends of runs that the store does not know yet."""
        self.pulled: dict[Claim, asyncio.TimerHandle] = {}
        """Claims of agents that pull, each until it is settled, or its lease has ended."""
        self.pulling: set[asyncio.Task[Any]] = set()
        """Calls of agents that pull which will bring more of these claims."""
        self.answering: set[asyncio.Task[Any]] = set()
        """Calls that settle some of these claims."""
        self.is_in_doubt = False
        """The store may have claims of this process that stand nowhere here."""
        self.most_bytes = MAX_BYTES
        self.forget_after = FORGET_AFTER
        self._exchange: asyncio.Task[None] | None = None
        self._is_leaving = False

    @property
    def owner(self) -> str:
        """The incarnation in whose name it claims now."""
        return self.presence.process_id

    # --- reserved -----------------------------------------------------------------------------------------------------

    def reserve(self, groups: Iterable[NewGroup]) -> None:
        """Mark what can be claimed with its append: a slot is free, and nothing of the lane runs or goes before."""
        if not self.stations.takes_new or self.is_in_doubt:
            return
        self._stored_at = utc_now()
        lanes: set[tuple[str, Kind, str]] = set()
        for group in groups:
            if group.deliver_at is not None:
                continue
            lane = group.lane
            for delivery in group.deliveries:
                of_recipient = (delivery.recipient_id, group.kind, lane)
                station = None if of_recipient in lanes else self.stations.find(delivery.recipient_id, group.kind)
                lanes.add(of_recipient)
                if station is not None and station.may_claim(lane):
                    station.occupy(lane)
                    self.reserved[delivery.message_id] = station
                    delivery.claim = True
                    group.run_limit = max(group.run_limit, station.run_limit)

    def redeem(
        self, group: NewGroup, outcome: AppendOutcome | None
    ) -> tuple[list[tuple[Station, ClaimedDelivery]], list[str]]:
        """The deliveries claimed with their append, and the recipients of the others, whose slots are freed."""
        claims: dict[str, Claim] = {}
        session_id: str | None = None
        if isinstance(outcome, Stored):
            claims, session_id = outcome.claims, outcome.session_id
        claimed: list[tuple[Station, ClaimedDelivery]] = []
        unclaimed: list[str] = []
        for delivery in group.deliveries:
            station = self.reserved.pop(delivery.message_id, None)
            claim = claims.get(delivery.message_id)
            if claim is not None and station is not None:
                # As if the store had been asked for it: the run sees no difference.
                brought = ClaimedDelivery(
                    claim=claim,
                    message_id=delivery.message_id,
                    kind=group.kind,
                    sender_id=group.sender_id,
                    recipient_id=delivery.recipient_id,
                    content=group.content,
                    metadata=group.metadata,
                    checksum=group.checksum,
                    max_attempts=group.max_attempts,
                    created_at=self._stored_at,
                    origin=self.presence.process_id,
                    session_id=session_id,
                    thread=group.thread,
                    ask_timeout=group.ask_timeout,
                    is_streamed=group.is_streamed,
                )
                claimed.append((station, brought))
                continue
            unclaimed.append(delivery.recipient_id)
            if station is not None:
                station.vacate(group.lane)
        return claimed, unclaimed

    # --- running ------------------------------------------------------------------------------------------------------

    def turns(self) -> list[TurnRef]:
        """The turns on which turn handlers are at work here."""
        return [run.turn for run in self.running if run.turn is not None and not run.is_acting]

    def end_turn(self, turn: TurnRef) -> None:
        """A turn is over: cancel the handler that works on it here, and settle nothing.

        A handler that has ended it itself, by a call, gets what that call returns and goes on to its end.
        """
        caller = current_run(self.stations)
        for run in self.running:
            if not run.is_acting and run.turn == turn:
                run.is_moot = True
                if run is not caller:
                    run.cancel()

    # --- settling -----------------------------------------------------------------------------------------------------

    def end(self, settlement: Settlement, delivery: ClaimedDelivery) -> None:
        """The end of a run is to be settled."""
        self.settling.append((settlement, delivery))
        self.stations.wake()

    def next_batch(self) -> list[Ending]:
        """The first that wait to be settled, as many as one commit takes."""
        first = take(map(_SETTLEMENT, self.settling), _SIZE, most=MAX_SETTLEMENTS, most_bytes=self.most_bytes)
        return self.settling[: len(first)]

    # --- pulled -------------------------------------------------------------------------------------------------------

    def hold(self, claimed: Iterable[ClaimedDelivery], lease: float) -> None:
        """An agent that pulls has these, for so many seconds."""
        loop, forget = asyncio.get_running_loop(), self.pulled.pop
        for delivery in claimed:
            self.pulled[delivery.claim] = loop.call_later(lease + self.forget_after, forget, delivery.claim, None)

    def let_go(self, claims: Collection[Claim]) -> None:
        """Forget claims whose agent has said what became of them, or has gone."""
        for claim in claims:
            if (timer := self.pulled.pop(claim, None)) is not None:
                timer.cancel()

    async def wait_until_answered(self) -> None:
        """Wait until the store has answered every call of an agent that pulls."""
        while tasks := self.pulling | self.answering:
            await asyncio.wait(tasks)

    # --- lost and given back ------------------------------------------------------------------------------------------

    def settled_by(self, exchange: asyncio.Task[None]) -> None:
        """This task settles what ends. Nobody does when it has ended, or is cancelled by the end of the loop."""
        self._exchange = exchange

    def begin_leaving(self) -> None:
        """From now on runs are cancelled because the SDK is ending."""
        self._is_leaving = True

    @property
    def has_exchange_ended(self) -> bool:
        """Whether nobody settles any more."""
        return self._exchange is None or self._exchange.done()

    @property
    def is_giving_back(self) -> bool:
        """Whether a run that is cancelled goes back uncounted: the SDK, or the loop, is ending."""
        return self._is_leaving or self._exchange is None or self._exchange.done() or self._exchange.cancelling() > 0

    def lose(self) -> list[Settlement]:
        """Others took this incarnation for dead: stop every run. Returns the settlements that are dropped."""
        for run in self.running:
            run.is_moot = True
            run.cancel()
        lost = [settlement for settlement, _ in self.settling]
        if self.facts.ears.is_heard:
            self.facts.dropped(self.settling)
        self.settling.clear()
        self.let_go([*self.pulled])
        return lost

    def doubt(self) -> None:
        """An answer of the store was lost: the claims in it go back, and are claimed like any other."""
        self.is_in_doubt = True
        self.stations.wake()

    @property
    def can_reconcile(self) -> bool:
        """Whether there is a doubt, and no call in flight that may bring claims: one that was cut off is, for ever."""
        return self.is_in_doubt and not (self.reserved or self.pulling)

    async def reconcile(self) -> None:
        """Give back the claims whose answer was lost: the store knows them, the ledger does not.

        Meanwhile nothing is appended with a claim or pulled, and the exchange makes no other claim: one that is unknown
        is lost.
        """
        if not self.can_reconcile:
            return
        owner = self.owner
        known = {run.delivery.claim for run in self.running} | {one.claim for one, _ in self.settling}
        known.update(self.pulled)
        lost = [claim for claim in await self.deliveries.list_claims(owner) if claim not in known]
        await self.give_back(lost, "the store's answer was lost")
        self.is_in_doubt = False
        self.stations.must_look = True

    async def give_back(self, claims: Collection[Claim], reason: str) -> None:
        """Return these to the store, uncounted."""
        for some in pages([*claims], MAX_SETTLEMENTS):
            back = [Settlement(claim, Settling.RETURNED, reason=reason) for claim in some]
            await self.deliveries.settle(back, owner=self.owner)
