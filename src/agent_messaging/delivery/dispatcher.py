"""Claim → handle → settle, for the agents served here.

It never holds more claims than it has free slots, so memory stays bounded however much is queued. Settlements are
gathered and committed in batches, and the same commit claims what they made room for. Order, slots and lanes are
decided here in memory only to save round trips; the store's claim is what counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial

from ..exceptions import DatabaseError, OutcomeUnknownError, StorageFullError
from ..models import AskState, Kind
from ..storage.batches import MAX_BYTES, do_apart, is_of_one, pages, take
from ..storage.ports import (
    CLAIM_MARGIN,
    AppendOutcome,
    Claim,
    ClaimedDelivery,
    ClaimRequest,
    DeliveryStore,
    EndedAsk,
    NewDelivery,
    NewGroup,
    Presence,
    ReceiptRow,
    Settled,
    Settlement,
    Settling,
    Stored,
    TurnRef,
)
from .asks import Asks
from .background import Background
from .current import Run, current_run
from .names import NAMES_MAX_AGE, AgentName, Names
from .probes import probe
from .pulling import Pulled
from .retry import clean_reason, describe
from .runs import STOPPED, Runner
from .serving import Serving
from .stations import Station
from .trouble import Trouble
from .waiting import Waiters

logger = logging.getLogger("agent_messaging.delivery")

MAX_SETTLEMENTS = 1_000
"""Settlements in one commit."""
PAUSE = 0.25
"""Seconds before the store is tried again after it failed."""
Ending = tuple[Settlement, ClaimedDelivery]
"""The end of a run, and of what."""
GIVE_UP_AFTER_CANCEL = 2.0
"""Seconds a cancelled run has to end, and the store has to take what ended."""


class Dispatcher:
    """The stations, the runs in flight, and the task that exchanges settlements for claims.

    Args:
        concurrency: Runs at once for each agent and kind, where its handler says nothing else.
        timeout: Seconds a run may take, likewise.
        on_later: Called with the seconds until a retry becomes due.
        on_waiting: Called with the (recipient id, kind) pairs for which something waits unclaimed.
        on_awaited: Called with the sender and the recipient of what was stored, where a call of this process waits for
            it; with None if only that is known.
        on_conversed: Called with each conversation message that was to be stored, and what became of it.
    """

    def __init__(
        self,
        deliveries: DeliveryStore,
        presence: Presence,
        names: Names,
        serving: Serving,
        waiters: Waiters[str, ReceiptRow],
        asks: Asks,
        runner: Runner,
        background: Background,
        *,
        concurrency: int,
        timeout: float,
        trouble: Trouble,
        on_later: Callable[[float], None],
        on_waiting: Callable[[Iterable[tuple[str, Kind]]], None],
        on_awaited: Callable[[tuple[str, str] | None], None],
        on_conversed: Callable[[NewGroup, AppendOutcome | None], None],
    ) -> None:
        self.deliveries = deliveries
        self.presence = presence
        self.names = names
        self.serving = serving
        self.waiters = waiters
        self.asks = asks
        self.concurrency = concurrency
        self.timeout = timeout
        self.runner = runner
        self.background = background
        self.runner.is_giving_back = lambda: self._is_stopping or self._is_ending
        self.trouble = trouble
        self.on_later = on_later
        self.on_waiting = on_waiting
        self.on_awaited = on_awaited
        self.on_conversed = on_conversed
        self.threads = runner.threads
        self.decoder = runner.decoder
        self.stations: dict[tuple[str, Kind], Station] = {}
        self.asking: dict[Station, None] = {}
        self.runs: dict[asyncio.Task[Settlement | None], Run] = {}
        self.reserved: dict[str, Station] = {}
        """Slots kept, by message id, for deliveries that are being appended with a claim."""
        self.pulled = Pulled(
            deliveries, presence, on_claimed=on_later, on_settled=self._pulled_settled, on_doubt=self._doubt
        )
        self.settlements: list[Ending] = []
        self.resumed: set[tuple[str, Kind]] = set()
        """Served until nothing of them waits, although no handler runs by itself."""
        self.is_draining = False
        self.takes_new = True
        self.most_bytes = MAX_BYTES
        self._looking = False
        self._reconciling = False
        self._event = asyncio.Event()
        self._quiet = asyncio.Event()
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None

    # --- lifecycle ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look for work."""
        self._task = asyncio.create_task(self._exchange_forever(), name="agent-messaging-dispatcher")
        self._task.add_done_callback(lambda _: self._quiet.set())
        self.look()

    def begin_draining(self, *, take_new: bool) -> None:
        """Take nothing more from other processes; without `take_new`, nothing more at all."""
        self.is_draining = True
        self.takes_new = take_new
        self.runner.leaving.set()
        self._wake()

    async def wait_until_idle(self) -> None:
        """Wait until nothing runs, nothing is to be settled, and nothing stored here waits for a handler here.

        Also returns when waiting is vain: the store is gone for good, or the loop is ending and has cancelled the task.
        """
        while not (self._is_idle() or self.trouble.is_final or self._has_ended):
            self._quiet.clear()
            await self._quiet.wait()

    async def aclose(self) -> None:
        """Give back what still runs, without counting the attempt; settle; stop.

        A run that does not end by its cancellation is let go of too: the process, or at least its sign of life, ends,
        and others would take the message over anyway, but count an attempt that was not the handler's fault. What could
        not be settled here stays claimed; `ProcessStore.retire` gives it back.
        """
        self.takes_new = False
        self._is_stopping = True
        try:
            async with asyncio.timeout(GIVE_UP_AFTER_CANCEL):
                await self._finish_exchange()  # what it claims is given back with the rest
                await self.pulled.wait_until_answered()
        except TimeoutError:
            logger.warning("the store does not answer while closing")
        await self._stop_runs()
        if self._task is None:
            return
        try:
            async with asyncio.timeout(GIVE_UP_AFTER_CANCEL):
                while (self.settlements or self._reconciling) and not self._has_ended and not self.trouble.is_final:
                    await self._finish_exchange()
        except TimeoutError:
            logger.warning("%d settlements could not be stored while closing", len(self.settlements))
        self._task.cancel()
        await asyncio.wait({self._task})
        self.threads.close()
        try:
            async with asyncio.timeout(GIVE_UP_AFTER_CANCEL):
                while self.settlements:  # the loop ended the task before it could
                    await self._settle_apart(self._next_batch(), self.presence.process_id)
                await self._give_back(self.pulled.held, STOPPED)
                self.pulled.clear()
        except (DatabaseError, OutcomeUnknownError, TimeoutError) as error:
            logger.warning("what was claimed could not be given back while closing: %s", error)

    async def _stop_runs(self) -> None:
        runs = set(self.runs)
        for task in runs:
            task.cancel()
        if not runs:
            return
        _, stuck = await asyncio.wait(runs, timeout=GIVE_UP_AFTER_CANCEL)
        self.threads.abandon()
        for task in stuck:
            run = self.runs[task]
            logger.warning("the handler of message %s does not end; it goes back all the same", run.delivery.message_id)
            if not run.is_moot:
                self.settlements.append((self.runner.given_up(run), run.delivery))
            run.is_moot = True  # what it still says settles nothing
            task.cancel()

    @property
    def _has_ended(self) -> bool:
        return self._task is None or self._task.done()

    @property
    def _is_ending(self) -> bool:
        """Whether the loop ends, and has cancelled every task: what runs is not to blame."""
        return self._task is None or self._task.done() or self._task.cancelling() > 0

    def lose_claims(self) -> None:
        """Others took this incarnation for dead: every claim is lost, so stop its run and settle nothing."""
        for task, run in self.runs.items():
            run.is_moot = True
            task.cancel()
        for settlement, _ in self.settlements:
            self._forget_answer(settlement)
        self.settlements.clear()
        self.pulled.clear()
        self.look()

    def _forget_answer(self, settlement: Settlement | None) -> None:
        if settlement is not None and settlement.answer is not None:
            self.asks.wrote(settlement.answer.message_id, None)

    # --- what is told to it -------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Look in the store for work: somebody rang, or it is time to."""
        self._looking = True
        self._wake()

    def about_to_append(self, groups: list[NewGroup]) -> None:
        """Mark what can be claimed in the same commit: a slot is free, and nothing of the lane runs or goes before."""
        if not self.takes_new or self._reconciling:
            return
        lanes: set[tuple[str, Kind, str]] = set()
        for group in groups:
            if group.deliver_at is not None:
                continue
            for delivery in group.deliveries:
                lane = (delivery.recipient_id, group.kind, group.sender_id)
                station = None if lane in lanes else self._station(delivery.recipient_id, group.kind)
                lanes.add(lane)
                if station is not None and station.may_claim(group.sender_id):
                    station.occupy(group.sender_id)
                    self.reserved[delivery.message_id] = station
                    delivery.claim = True
                    group.run_limit = max(group.run_limit, station.run_limit)

    def doubted(self) -> None:
        """The answer to an append was lost: what it has claimed goes back, and is claimed as any other."""
        self._reconciling = True

    def appended(self, group: NewGroup, outcome: AppendOutcome | None) -> None:
        """Run what was claimed with its append; remember what was queued."""
        if outcome is None:
            self._reconciling = True  # it may be stored, and claimed, all the same
        claims = outcome.claims if isinstance(outcome, Stored) else {}
        stored = isinstance(outcome, Stored)
        is_later = group.deliver_at is not None and group.deliver_at > datetime.now(UTC)
        if stored:
            self._keep_time(group)
        if group.kind is Kind.CONVERSATION:
            stored = self._conversed(group, outcome) and stored
        elsewhere: list[str] = []
        for delivery in group.deliveries:
            station = self.reserved.pop(delivery.message_id, None)
            claim = claims.get(delivery.message_id)
            if claim is not None and station is not None:
                session_id = outcome.session_id if isinstance(outcome, Stored) else None
                self._run(station, _claimed(group, delivery, claim, self.presence, session_id))
                continue
            if station is not None:
                station.vacate(group.sender_id)
            if stored and not is_later:
                if (here := self._station(delivery.recipient_id, group.kind)) is not None:
                    here.queued_here()
                elsewhere.append(delivery.recipient_id)
        if elsewhere:
            self.serving.ring_for(elsewhere, group.kind)
            self.on_waiting([(recipient_id, group.kind) for recipient_id in elsewhere])
        self._wake()

    def _keep_time(self, group: NewGroup) -> None:
        """Look when the messages become due or expire, and when an ask times out, whoever still waits for it here."""
        if group.deliver_at is not None:
            self.on_later(max((group.deliver_at - datetime.now(UTC)).total_seconds(), 0.0))
        for seconds in (group.expires_in, group.ask_timeout):
            if seconds is not None:
                self.on_later(seconds)

    def _conversed(self, group: NewGroup, outcome: AppendOutcome | None) -> bool:
        """Tell whoever waited for this message; whether it is left to handlers."""
        answered = outcome.answered if isinstance(outcome, Stored) else None
        self.asks.wrote(group.deliveries[0].message_id, answered)
        self.on_conversed(group, outcome)
        if not isinstance(outcome, Stored):
            return True
        waiting = {answered.origin if answered is not None else None, *outcome.waiters} - {None}
        self._tell(waiting, (group.sender_id, group.deliveries[0].recipient_id))
        return not waiting and answered is None

    def _tell(self, processes: Collection[str | None], pair: tuple[str, str] | None = None) -> None:
        """Wake the processes that wait for what was just committed, this one included."""
        others = {process for process in processes if process is not None}
        if self.presence.process_id in others:
            self.on_awaited(pair)
        self.presence.ring(others - {self.presence.process_id})

    # --- stations -----------------------------------------------------------------------------------------------------

    def _station(self, recipient_id: str, kind: Kind) -> Station | None:
        """The station of an agent served here, brought up to date with its handler; None if it is not served here."""
        agent = self.names.cached_by_id(recipient_id)
        return self._station_of(agent, kind) if agent is not None else None

    def _station_of(self, agent: AgentName, kind: Kind) -> Station | None:
        invoked = self.serving.invoke or (agent.id, kind) in self.resumed
        handler = self.serving.find_handler(agent, kind) if invoked else None
        station = self.stations.get((agent.id, kind))
        if handler is None:
            if station is not None:
                station.is_served = False
            return None
        if station is None:
            station = self.stations[agent.id, kind] = Station(agent, kind, self.asking, handler, 0, 0.0)
        station.is_served = True
        station.handler = handler
        station.limit = handler.concurrency or self.concurrency
        station.run_limit = handler.timeout or self.timeout
        return station

    def review(self) -> None:
        """What is served here may have changed: bring the stations up to date and look for what waits."""
        for station in list(self.stations.values()):
            self._station_of(station.agent, station.kind)
            station.ask()
        self.look()

    def notice(self, recipient_id: str, kind: Kind) -> None:
        """Something was queued for an agent, by this process but not through its outbox."""
        station = self._station(recipient_id, kind)
        if station is not None:
            station.queued_here()
            self._wake()
        elif self.names.cached_by_id(recipient_id) is None:
            self.look()

    def turns(self) -> list[TurnRef]:
        """The turns on which turn handlers are at work here."""
        return [run.turn for run in self.runs.values() if run.turn is not None and not run.is_acting]

    def end_turn(self, turn: TurnRef) -> None:
        """A turn is over: cancel the handler that works on it here, and settle nothing.

        A handler that has ended it itself, by a call, gets what that call returns and goes on to its end.
        """
        caller = current_run(self)
        for task, run in self.runs.items():
            if not run.is_acting and run.turn == turn:
                run.is_moot = True
                if run is not caller:
                    task.cancel()

    def resume(self, agent: AgentName, kind: Kind) -> None:
        """Handle what waits for the agent now, also where handlers do not run by themselves."""
        if not self.serving.invoke:
            self.resumed.add((agent.id, kind))
            if (station := self._station_of(agent, kind)) is not None:
                station.queued_elsewhere()
        self.look()

    @contextlib.contextmanager
    def waiting(self, run: Run | None) -> Iterator[None]:
        """Within, the run waits for somebody, as the store knows too: it does not hold its lane."""
        if run is None:
            yield
            return
        run.begin_waiting()
        self._wake()
        try:
            yield
        finally:
            run.end_waiting()

    async def _find_waiting(self) -> None:
        waiting = await self.deliveries.find_waiting()
        self.on_waiting(waiting)
        names = await self.names.find_by_id({recipient_id for recipient_id, _ in waiting})
        for recipient_id, kind in waiting:
            agent = names.get(recipient_id)
            station = self._station_of(agent, kind) if agent is not None else None
            if station is not None:
                station.queued_elsewhere()

    # --- pulling ------------------------------------------------------------------------------------------------------

    async def pull(self, request: ClaimRequest, deadline: float | None = None) -> list[ClaimedDelivery]:
        """Claim for an agent that pulls. Cancelled in the middle, what was claimed goes back.

        While claims are being reconciled, which needs the store, it waits until the deadline (of the loop's clock).
        """
        while self._reconciling:  # a claim made now would be taken for a lost one
            if deadline is not None and asyncio.get_running_loop().time() >= deadline:
                return []
            self._wake()
            await asyncio.sleep(PAUSE)
        return await self.pulled.pull(request)

    def _doubt(self) -> None:
        self._reconciling = True
        self._wake()

    def _pulled_settled(self, settlement: Settlement, message_id: str, settled: Settled) -> None:
        self.waiters.hint([message_id])
        self.asks.ended(settled.ended_asks)
        self._tell(settled.origins)
        self._wait_for(settlement)

    def _wait_for(self, settlement: Settlement) -> None:
        """Look when what went back is due again; of what is due at once, time tells nothing."""
        if settlement.how is Settling.RETRY and settlement.delay > 0:
            self.on_later(settlement.delay)
        elif settlement.how in (Settling.RETRY, Settling.RETURNED):
            self.look()

    async def _give_back(self, claims: Collection[Claim], reason: str) -> None:
        for some in pages([*claims], MAX_SETTLEMENTS):
            back = [Settlement(claim, Settling.RETURNED, reason=reason) for claim in some]
            await self.deliveries.settle(back, owner=self.presence.process_id)

    async def _finish_exchange(self) -> None:
        """Wait until the exchange that is in flight has ended; otherwise make one."""
        if not self._has_ended:
            self._quiet.clear()
            self._wake()
            await self._quiet.wait()

    # --- the exchange -------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._event.set()

    def _is_idle(self) -> bool:
        if self.runs or self.settlements or self.reserved or self._event.is_set():
            return False
        return not self.takes_new or not any(
            station.is_hungry and self._takes_for(station) for station in self.stations.values()
        )

    def _takes_for(self, station: Station) -> bool:
        """Whether to take more for it. A meeting goes on for ever: its turns keep nobody from leaving."""
        return not (self.is_draining and station.kind is Kind.TURN)

    async def _exchange_forever(self) -> None:
        attempts = self.trouble.attempts()
        while True:
            self._quiet.set()
            await self._event.wait()
            self._event.clear()
            try:
                await self._exchange()
                attempts.succeeded()
            except (DatabaseError, OutcomeUnknownError) as error:
                self._looking = self._reconciling = True
                await self._pause(attempts.failed(error))
            except Exception:
                logger.exception("the dispatcher failed, going on")
                self._looking = self._reconciling = True
                await self._pause(PAUSE)

    async def _pause(self, seconds: float) -> None:
        self._quiet.set()
        await asyncio.sleep(min(seconds, PAUSE) if self._is_stopping else seconds)
        self._wake()

    async def _reconcile(self) -> None:
        """Give back the claims whose answer was lost: the store knows them, no run here does.

        Meanwhile nothing is appended with a claim, and this task makes no other, so a claim it does not know is lost.
        """
        if self.reserved or self.pulled.is_claiming:
            return
        owner = self.presence.process_id
        known = {run.delivery.claim for run in self.runs.values()} | {one.claim for one, _ in self.settlements}
        known.update(self.pulled.held)
        lost = [claim for claim in await self.deliveries.list_claims(owner) if claim not in known]
        await self._give_back([claim for claim in lost if claim not in self.pulled.held], "the store's answer was lost")
        self._reconciling = False
        self._looking = True

    async def _exchange(self) -> None:
        if self._reconciling:
            await self._reconcile()
        if self._looking and self.takes_new:
            self._looking = False
            if not self.is_draining:
                await self._find_waiting()
        batch = self._next_batch()
        hungry = self._hungry() if self.takes_new else []
        origin = self.presence.process_id if self.is_draining else None
        requests = [station.request(origin) for station in hungry]
        if not batch and not requests:
            self._quiet.set()
            return
        owner = self.presence.process_id
        probe("before_settle")
        try:
            settled = await self._settle(batch, requests, owner)
            probe("after_settle")
            if owner != self.presence.process_id:
                return  # lost meanwhile: what was claimed under the old incarnation is not ours to run
            if settled is None:
                for station in hungry:
                    station.ask()
            else:
                del self.settlements[: len(batch)]
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
        if self.settlements or any(station.free > 0 for station in self.asking):
            self._wake()
        self._quiet.set()

    def _next_batch(self) -> list[Ending]:
        return take(self.settlements, lambda one: one[0].size, most=MAX_SETTLEMENTS, most_bytes=self.most_bytes)

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
        if owner != self.presence.process_id:
            return  # lost meanwhile, and forgotten
        del self.settlements[: len(batch)]
        ended, moved, failed = list[Ending](), list[bool](), list[Exception]()
        for one, answer in zip(batch, answers, strict=True):
            if not isinstance(answer, Exception):
                ended.append(one)
                moved.append(answer)
            elif (without := self._without_answer(one, answer)) is not None:
                self.settlements.append(without)
            else:
                self.settlements.append(one)
                failed.append(answer)
        self._tell_ended(ended, Settled(moved, origins, [], asks))
        if failed:
            raise failed[0]

    def _without_answer(self, ending: Ending, error: Exception) -> Ending | None:
        """How a run ends whose answer the store refuses for good; None if it has none, or the store is merely full."""
        settlement, delivery = ending
        if settlement.answer is None or isinstance(error, StorageFullError) or not is_of_one(error):
            return None
        logger.error("the answer to message %s could not be stored: %s", delivery.message_id, describe(error))
        self._forget_answer(settlement)
        reason = clean_reason(f"the answer could not be stored: {describe(error)}")
        return Settlement(settlement.claim, Settling.DEAD, reason=reason), delivery

    def _tell_ended(self, batch: list[Ending], settled: Settled) -> None:
        for (settlement, delivery), moved in zip(batch, settled.moved, strict=True):
            if not moved and delivery.kind is Kind.TURN:
                logger.info("the turn of message %s was over before its claim was settled", delivery.message_id)
            elif not moved:
                logger.warning("the claim on message %s was lost: another run has it", delivery.message_id)
            else:
                self._wait_for(settlement)
        self.waiters.hint(delivery.message_id for _, delivery in batch)
        self._tell_askers(batch, settled)
        self._tell(settled.origins)

    def _tell_askers(self, batch: list[Ending], settled: Settled) -> None:
        ended = {ask.ask_id: ask for ask in settled.ended_asks}
        for settlement, delivery in batch:
            if settlement.answer is not None:
                ask = ended.get(delivery.message_id)
                is_answered = ask is not None and ask.state is AskState.REPLIED
                self.asks.wrote(settlement.answer.message_id, ended.pop(delivery.message_id) if is_answered else None)
            if delivery.ask_timeout is not None:
                # The answer to a repeat may not say what the lost one did.
                self.asks.waiters.hint([delivery.message_id])
        self.asks.ended(ended.values())

    def _hungry(self) -> list[Station]:
        """The stations to ask for. One without a free slot asks again when a run of it ends."""
        for station in [station for station in self.asking if not station.is_hungry]:
            del self.asking[station]
        return [station for station in self.asking if station.free > 0 and self._takes_for(station)]

    async def _take(self, hungry: list[Station], limits: list[int], claimed: Collection[ClaimedDelivery]) -> None:
        agents = {id for delivery in claimed for id in (delivery.sender_id, delivery.recipient_id)}
        await self.names.find_by_id(agents, max_age=NAMES_MAX_AGE)
        if sum(delivery.size for delivery in claimed) >= self.most_bytes:
            self.look()  # the bytes may have been what kept the rest back, of stations that got nothing too
        of_station: dict[tuple[str, Kind], list[ClaimedDelivery]] = {}
        for delivery in claimed:
            of_station.setdefault((delivery.recipient_id, delivery.kind), []).append(delivery)
        for station, limit in zip(hungry, limits, strict=True):
            mine = of_station.get((station.agent.id, station.kind), [])
            station.answered(limit, len(mine), mine[-1].sender_id if mine else None)
            if len(mine) < limit and not station.is_hungry:
                self.resumed.discard((station.agent.id, station.kind))
            for delivery in mine:
                station.occupy(delivery.sender_id)
                self._run(station, delivery)
            if mine:
                self.on_later(station.run_limit + CLAIM_MARGIN)

    # --- runs ---------------------------------------------------------------------------------------------------------

    def _run(self, station: Station, delivery: ClaimedDelivery) -> None:
        probe("after_claim")
        run = Run(self, delivery, station)
        task = self.background.start(self.runner.handle(run), f"agent-messaging-run-{delivery.message_id}")
        task.add_done_callback(partial(self._ended, run))
        self.runs[task] = run

    def _ended(self, run: Run, task: asyncio.Task[Settlement | None]) -> None:
        """Let the run go, and its delivery end as it says.

        A callback, because a task that is cancelled before its first step runs nothing of its own.
        """
        del self.runs[task]
        run.end()
        delivery = run.delivery
        settlement: Settlement | None = Settlement(delivery.claim, Settling.RETURNED, reason=STOPPED)
        try:
            if not task.cancelled():
                error = task.exception()
                if error is None:
                    settlement = task.result()
                elif not isinstance(error, KeyboardInterrupt):
                    # Counted, also a SystemExit: a message whose handler ends its process each time must end as a dead
                    # letter.
                    settlement = self.runner.failure(delivery, error)
        finally:
            if run.is_moot:
                self._forget_answer(settlement)
            elif settlement is not None:
                self.settlements.append((settlement, delivery))
            self._wake()


def _claimed(
    group: NewGroup, delivery: NewDelivery, claim: Claim, presence: Presence, session_id: str | None
) -> ClaimedDelivery:
    """The claim that came with an append, as if the store had been asked for it: the run sees no difference."""
    return ClaimedDelivery(
        claim=claim,
        message_id=delivery.message_id,
        kind=group.kind,
        sender_id=group.sender_id,
        recipient_id=delivery.recipient_id,
        content=group.content,
        metadata=group.metadata,
        checksum=group.checksum,
        max_attempts=group.max_attempts,
        created_at=datetime.now(UTC),
        origin=presence.process_id,
        session_id=session_id,
        ask_timeout=group.ask_timeout,
    )
