"""The exchange: settlements go into the store, claims come out, in one commit.

It never holds more claims than it has free slots, so memory stays bounded however much is queued. Settlements are
gathered and committed in batches, and the same commit claims what they made room for. Order, slots and lanes are
decided here in memory only to save round trips; the store's claim is what counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from ..exceptions import DatabaseError, OutcomeUnknownError
from ..loggers import get_logger
from ..models import Kind
from ..storage.batches import do_apart, is_of_one, is_refused_for_good, take_out
from ..storage.ports import (
    CLAIM_MARGIN,
    AppendOutcome,
    ClaimedDelivery,
    ClaimRequest,
    EndedAsk,
    NewGroup,
    Settled,
    Settlement,
    Settling,
    Stored,
)
from . import auditing
from .announcer import Announcer
from .claims import STOPPED, Claims
from .facts import Ending
from .names import NAMES_MAX_AGE, Names
from .probes import probe
from .retry import clean_reason, describe
from .runs import Runs
from .services import Service
from .stations import Station
from .trouble import Trouble

logger = get_logger("agent_messaging.delivery")

PAUSE = 0.25
"""Seconds before the store is tried again after it failed."""


class Dispatcher(Service):
    """The task that exchanges settlements for claims. It also hands on what was claimed with its append."""

    def __init__(self, claims: Claims, runs: Runs, names: Names, announcer: Announcer, trouble: Trouble) -> None:
        self.claims = claims
        self.deliveries = claims.deliveries
        self.stations = claims.stations
        self.runs = runs
        self.names = names
        self.announcer = announcer
        self.facts = claims.facts
        self.trouble = trouble
        self._quiet = asyncio.Event()
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None

    # --- lifecycle ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to look for work."""
        self._task = asyncio.create_task(self._exchange_forever(), name="agent-messaging-dispatcher")
        self._task.add_done_callback(lambda _: self._quiet.set())
        self.claims.settled_by(self._task)

    def look(self) -> None:
        """See `Stations.look`."""
        self.stations.look()

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, nothing is to be settled, and nothing stored here waits for a handler here.

        Also where waiting is vain: the store is gone for good, or the loop is ending and has cancelled the task.
        """
        claims = self.claims
        if self.trouble.is_final or claims.has_exchange_ended:
            return True
        if claims.running or claims.settling or claims.reserved or self.stations.bell.is_set():
            return False
        return not self.stations.is_any_hungry

    async def wait_until_idle(self) -> None:
        """Wait until it is idle."""
        while not self.is_idle:
            self._quiet.clear()
            await self._quiet.wait()

    def begin_draining(self, *, take_new: bool) -> None:
        """Take nothing more from other processes; without `take_new`, nothing more at all."""
        self.stations.begin_draining(take_new=take_new)
        self.runs.leaving.set()

    async def aclose(self, timeout: float) -> None:
        """Give back what still runs, without counting the attempt; settle; stop.

        A run that does not end by its cancellation is let go of too: the process, or at least its sign of life, ends,
        and others would take the message over anyway, but count an attempt that was not the handler's fault. What could
        not be settled here stays claimed; `ProcessStore.retire` gives it back.
        """
        claims = self.claims
        self.begin_draining(take_new=False)
        self._is_stopping = True
        claims.begin_leaving()
        try:
            async with asyncio.timeout(timeout):
                await self._finish_exchange()  # what it claims is given back with the rest
                await claims.wait_until_answered()
        except TimeoutError:
            logger.warning("the store does not answer while closing")
        await self.runs.stop()
        if self._task is None:
            return
        try:
            async with asyncio.timeout(timeout):
                while claims.settling or claims.can_reconcile:
                    if claims.has_exchange_ended or self.trouble.is_final:
                        break
                    await self._finish_exchange()
        except TimeoutError:
            logger.warning("%d settlements could not be stored while closing", len(claims.settling))
        self._task.cancel()
        await asyncio.wait({self._task})
        self.runs.threads.close()
        try:
            async with asyncio.timeout(timeout):
                while claims.settling:  # the loop ended the task before it could
                    await self._settle_apart(claims.next_batch(), claims.owner)
                await claims.give_back(claims.pulled, STOPPED)
                claims.let_go([*claims.pulled])
        except (DatabaseError, OutcomeUnknownError, TimeoutError) as error:
            logger.warning("what was claimed could not be given back while closing: %s", describe(error))

    def lose_claims(self) -> None:
        """Others took this incarnation for dead: every claim is lost, so stop its run and settle nothing."""
        for settlement in self.claims.lose():
            self.runs.forget_answer(settlement)
        self.stations.look()

    # --- what comes with an append: see `outbox.Observer` -------------------------------------------------------------

    def about_to_append(self, groups: list[NewGroup]) -> None:
        """Mark what can be claimed in the same commit."""
        self.claims.reserve(groups)

    def doubted(self) -> None:
        """The answer to an append was lost."""
        self.claims.doubt()

    def appended(self, group: NewGroup, outcome: AppendOutcome | Exception) -> None:
        """Run what was claimed with its append, and have the rest announced."""
        if self.facts.ears.is_heard:
            self.facts.appended(group, outcome)
        if isinstance(outcome, Stored):
            auditing.sent(group, self.names)
        answer = None if isinstance(outcome, Exception) else outcome
        if answer is None:
            self.claims.doubt()  # it may be stored, and claimed, all the same
        claimed, unclaimed = self.claims.redeem(group, answer)
        for station, delivery in claimed:
            self.runs.begin(station, delivery)
        self.announcer.stored(group, answer, unclaimed)

    # --- the exchange -------------------------------------------------------------------------------------------------

    async def _finish_exchange(self) -> None:
        """Wait until the exchange that is in flight has ended; otherwise make one."""
        if not self.claims.has_exchange_ended:
            self._quiet.clear()
            self.stations.wake()
            await self._quiet.wait()

    async def _exchange_forever(self) -> None:
        attempts = self.trouble.attempts()
        while True:
            self._quiet.set()
            await self.stations.bell.wait()
            self.stations.bell.clear()
            try:
                await self._exchange()
                attempts.succeeded()
            except (DatabaseError, OutcomeUnknownError) as error:
                await self._pause(attempts.failed(error))
            except Exception:
                logger.exception("the dispatcher failed, going on")
                await self._pause(PAUSE)

    async def _pause(self, seconds: float) -> None:
        self.claims.is_in_doubt = self.stations.must_look = True
        self._quiet.set()
        await asyncio.sleep(min(seconds, PAUSE) if self._is_stopping else seconds)
        self.stations.wake()

    async def _exchange(self) -> None:
        claims, stations = self.claims, self.stations
        if claims.is_in_doubt:
            await claims.reconcile()
        if stations.must_look and stations.takes_new:
            stations.must_look = False
            if not stations.is_draining:
                await self._find_waiting()
        batch = claims.next_batch()
        hungry = stations.hungry()
        origin = claims.owner if stations.is_draining else None
        requests = [station.request(origin) for station in hungry]
        if not batch and not requests:
            self._quiet.set()
            return
        owner = claims.owner
        probe("before_settle")
        try:
            settled = await self._settle(batch, requests, owner)
            probe("after_settle")
            if owner != claims.owner:
                return  # lost meanwhile: what was claimed under the old incarnation is not ours to run
            if settled is None:
                for station in hungry:
                    station.ask()
            else:
                del claims.settling[: len(batch)]
                if hungry:
                    await self._take(hungry, [request.limit for request in requests], settled.claimed)
        except BaseException:
            for station in hungry:
                station.ask()
            raise
        finally:
            for station in hungry:
                station.is_requested = False
        if settled is not None:
            self._tell_ended(batch, settled)
        if claims.settling or any(station.free > 0 for station in stations.asking):
            stations.wake()
        self._quiet.set()

    async def _find_waiting(self) -> None:
        waiting = await self.deliveries.find_waiting()
        self.announcer.found(waiting)
        await self.stations.found(waiting)

    async def _settle(self, batch: list[Ending], requests: list[ClaimRequest], owner: str) -> Settled | None:
        """Settle and claim in one commit; None: one may be to blame that it failed, and the ends were settled apart."""
        try:
            return await self.deliveries.settle([settlement for settlement, _ in batch], requests, owner=owner)
        except Exception as error:
            if not batch or not is_of_one(error):
                raise
        await self._settle_apart(batch, owner)
        return None

    async def _settle_apart(self, batch: list[Ending], owner: str) -> None:
        """Settle the first that wait, so that one that fails hinders no other; it is tried again behind the others."""
        origins, asks = set[str](), list[EndedAsk]()

        async def settle(some: Sequence[Ending]) -> list[bool]:
            settled = await self.deliveries.settle([settlement for settlement, _ in some], owner=owner)
            origins.update(settled.origins)
            asks.extend(settled.ended_asks)
            return settled.moved

        answers = await do_apart(settle, batch)
        if owner != self.claims.owner:
            return  # lost meanwhile, and forgotten
        ended, moved, failed = take_out(self.claims.settling, batch, answers, self._without_answer)
        self._tell_ended(ended, Settled(moved, origins, [], asks))
        if failed:
            raise failed[0]

    def _without_answer(self, ending: Ending, error: Exception) -> Ending | None:
        """How a run ends whose answer the store refuses for good; None if it has none, or the store is merely full."""
        settlement, delivery = ending
        if settlement.answer is None or not is_refused_for_good(error):
            return None
        logger.error("the answer to message %s could not be stored: %s", delivery.message_id, describe(error))
        self.runs.forget_answer(settlement)
        reason = clean_reason(f"the answer could not be stored: {describe(error)}")
        return Settlement(settlement.claim, Settling.DEAD, reason=reason), delivery

    def _tell_ended(self, batch: list[Ending], settled: Settled) -> None:
        for (_, delivery), moved in zip(batch, settled.moved, strict=True):
            if not moved and delivery.kind is Kind.TURN:
                logger.info("the turn of message %s was over before its claim was settled", delivery.message_id)
            elif not moved:
                logger.warning(
                    "the claim on message %s was lost: another run has it, or it was removed", delivery.message_id
                )
        self.announcer.settled(batch, settled)

    async def _take(self, hungry: list[Station], limits: list[int], claimed: Collection[ClaimedDelivery]) -> None:
        agents = {id for delivery in claimed for id in (delivery.sender_id, delivery.recipient_id)}
        await self.names.find_by_id(agents, max_age=NAMES_MAX_AGE)
        if sum(delivery.size for delivery in claimed) >= self.claims.most_bytes:
            self.stations.look()  # the bytes may have kept the rest back, of stations that got nothing too
        of_station: dict[tuple[str, Kind], list[ClaimedDelivery]] = {}
        for delivery in claimed:
            of_station.setdefault((delivery.recipient_id, delivery.kind), []).append(delivery)
        for station, limit in zip(hungry, limits, strict=True):
            mine = of_station.get((station.agent.id, station.kind), [])
            station.answered(limit, len(mine), mine[-1].lane if mine else None)
            if len(mine) < limit and not station.is_hungry:
                self.stations.resumed.discard((station.agent.id, station.kind))
            for delivery in mine:
                station.occupy(delivery.lane)
                self.runs.begin(station, delivery)
            if mine:
                self.announcer.claimed(station.run_limit + CLAIM_MARGIN)
