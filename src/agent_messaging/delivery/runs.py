"""The runs of handlers, from their claims to how their deliveries are to end. The dispatcher settles them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from ..bodies import open_body
from ..clock import monotonic
from ..config import MessagingConfig
from ..exceptions import HandlerError, HandlerTimeoutError, PayloadError
from ..futures import cancel_all, take_error
from ..handlers.registry import Handler
from ..handlers.running import UnreadableError, is_passed_over, make_context, open_for, run_handler
from ..handlers.threads import DaemonThreads
from ..ids import uuid7
from ..loggers import get_logger
from ..models import Kind
from ..payloads import Decoder, annotation_of, seal
from ..records import dataclass
from ..single_flight import SingleFlight
from ..storage.ports import CLAIM_MARGIN, ClaimedDelivery, NewAnswer, Settlement, Settling
from . import auditing
from .abandonment import Abandonment, Abandonments
from .asks import Asks
from .background import Background
from .claims import STOPPED, Claims
from .current import Run, current
from .deadlines import GRAIN
from .forwarding import Forwarding, Passing
from .meetings import TurnRun, TurnRuns
from .names import NAMES_MAX_AGE
from .parts import Parts
from .probes import probe
from .retry import RetryPolicy, describe, is_cancellation, traceback_of
from .services import Service
from .stations import Station

logger = get_logger("agent_messaging.delivery")

TOO_LATE = "its turn is over"
GIVEN_UP = "its asker does not wait any more"
OF_HANDLER = "the timeout with which it is registered"
OF_ASK = "the timeout of the ask"
OF_TURN = "the turn_duration of the meeting"
"""The limits of a run that is not limited by the setting, for the error of one that took too long."""
GIVE_UP_AFTER_CANCEL = 2.0
"""Seconds a cancelled run has to end, and the store has to take what ended."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The ways from the run of an ask to its asker, and to other agents."""

    asks: Asks
    forwarding: Forwarding
    parts: Parts


class Runs(Service):
    """Runs handlers. It also ends their threads, which those of events and of speaker selections share."""

    def __init__(
        self,
        claims: Claims,
        reach: Reach,
        turns: TurnRuns,
        threads: DaemonThreads,
        background: Background,
        decoder: Decoder,
        settings: MessagingConfig,
    ) -> None:
        self.claims = claims
        self.facts = claims.facts
        self.names = reach.forwarding.names
        self.asks = reach.asks
        self.abandonments = Abandonments(reach.asks.waiters)
        self.forwarding = reach.forwarding
        self.parts = reach.parts
        self.turns = turns
        self.retry = RetryPolicy(settings.retry_delay, settings.retry_max_delay)
        self.max_answer_bytes = settings.max_payload_bytes
        """The largest answer, or speech, of a handler."""
        self.timeout = settings.handler_timeout
        self.background = background
        self.threads = threads
        self.decoder = decoder
        self.leaving = asyncio.Event()
        """Set: the SDK is being left, no run of a turn handler begins any more."""
        self._beginning: dict[asyncio.Task[None], Run] = {}
        """The tasks that have not taken their first step."""
        self._checking = SingleFlight(self._end_turns, "looking at the turns")

    def look(self) -> None:
        """Turns that handlers are at work on here may be over."""
        if self.claims.turns():
            self._checking.request()

    async def _end_turns(self) -> None:
        for turn in await self.turns.find_over(self.claims.turns()):
            self.claims.end_turn(turn)

    async def aclose(self, timeout: float) -> None:
        """Look no more. `stop` ends the runs."""
        await self._checking.aclose()

    # --- beginning and ending -----------------------------------------------------------------------------------------

    def begin(self, station: Station, delivery: ClaimedDelivery) -> None:
        """Run the station's handler on what was claimed."""
        probe("after_claim")
        if self.facts.ears.is_heard:
            self.facts.claimed(delivery)
        run = Run(delivery, station)
        self.claims.running[run] = None
        task = self.background.start(self._work(run), f"agent-messaging-run-{delivery.message_id}")
        if run.task is None and not run.has_ended:  # otherwise the loop starts tasks eagerly, and it has begun
            run.task = task
            self._beginning[task] = run
            task.add_done_callback(self._never_began)

    def _never_began(self, task: asyncio.Task[None]) -> None:
        """A run was cancelled before its first step, so nothing of its own has run, or will."""
        run = self._beginning.pop(task)
        self._ended(run, Settlement(run.delivery.claim, Settling.RETURNED, reason=STOPPED))

    async def _work(self, run: Run) -> None:
        """A run, to its end and what that means, in one task.

        All ends are told in the last step of the task, and in no callback after it. So a run that waits for nothing has
        left its lane when its sender goes on: what that sends next can be claimed with its append.
        """
        if run.task is None:
            run.task = asyncio.current_task()
        else:
            run.task.remove_done_callback(self._never_began)
            del self._beginning[run.task]
        delivery = run.delivery
        settlement: Settlement | None = None
        try:
            settlement = await self.handle(run)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError | KeyboardInterrupt):
                settlement = Settlement(delivery.claim, Settling.RETURNED, reason=STOPPED)
            else:
                # Counted, also a SystemExit: a message whose handler ends its process each time must end as a dead
                # letter.
                settlement = self.failure(delivery, error)
            if not isinstance(error, Exception):
                if run.task is not None:
                    run.task.add_done_callback(take_error)
                raise
        finally:
            if asyncio._get_running_loop() is not None:  # otherwise it was only closed, and its tasks with it
                if self.facts.ears.is_heard:  # under the id with which it began, also where it has passed its ask on
                    self.facts.handled(delivery, None if run.is_moot else settlement, run.since)
                self._ended(run, settlement)

    def _ended(self, run: Run, settlement: Settlement | None) -> None:
        """The run has ended: its slot is free, and its delivery ends as this says."""
        del self.claims.running[run]
        try:
            run.end()
        finally:
            if settlement is not None and not run.is_moot:
                auditing.ended(run.delivery, run.station.agent, self.names, settlement)
                self.claims.end(settlement, run.delivery)
            else:
                if settlement is not None:
                    self.forget_answer(settlement)
                self.claims.stations.wake()

    def forget_answer(self, settlement: Settlement) -> None:
        """This end will not be settled."""
        if settlement.answer is not None:
            self.asks.wrote(settlement.answer.message_id, None)

    async def stop(self) -> None:
        """Cancel all runs. A run that does not end by that is let go, and its delivery goes back all the same."""
        runs = {run.task: run for run in self.claims.running if run.task is not None}
        if not runs:
            return
        stuck = await cancel_all(runs, GIVE_UP_AFTER_CANCEL)
        self.threads.abandon()
        for task in stuck:
            run = runs[task]
            logger.warning("the handler of message %s does not end; it goes back all the same", run.delivery.message_id)
            if not run.is_moot:
                self.claims.end(self._cut_off(run), run.delivery)
            run.is_moot = True  # what it still says settles nothing

    # --- one run ------------------------------------------------------------------------------------------------------

    async def handle(self, run: Run) -> Settlement | None:
        """Run the handler and decide how its delivery ends; None: it has ended already."""
        current.set(run)
        delivery = run.delivery
        auditing.received(delivery, run.station.agent, self.names)
        if delivery.ask_timeout is not None:
            run.asker = Abandonment(self.abandonments, delivery.message_id, partial(_give_up, run))
        if delivery.kind is Kind.TURN:
            return await self._take_turn(run)
        if self.facts.ears.watchers:
            self.facts.begin(delivery)
        try:
            result = await self._call(run)
            answer = None
            if result is not None and delivery.kind is Kind.CONVERSATION and not _is_sent(run, result):
                answer = self._encode(result)
                self.asks.writes(answer.message_id, answer.content, None, answer.checksum, annotation_of(result))
        except (KeyboardInterrupt, SystemExit):
            raise  # it ends the loop, and its process as a rule
        except UnreadableError as error:
            if is_passed_over(delivery, run.station.agent, error):
                return Settlement(delivery.claim, Settling.DONE)
            self._log(delivery, error)
            return Settlement(delivery.claim, Settling.DEAD, reason=describe(error))
        except BaseException as error:
            # Anything else is a failure of the handler, also a GeneratorExit or a CancelledError of its own making:
            # a run that is not counted would be repeated for ever.
            if _is_over(run, error):
                return None
            if run.is_given_up and is_cancellation(error):  # the delivery, queued again, expires with its ask
                return Settlement(delivery.claim, Settling.RETURNED, reason=GIVEN_UP)
            return self._given_back(delivery, error) or self.failure(delivery, error)
        if run.has_passed_on and answer is not None:
            logger.warning(
                "the handler of %r returned an answer to an ask that it had passed on (message %s here); it is dropped",
                run.station.agent.external_id,
                run.delivery.message_id,
            )
        return Settlement(delivery.claim, Settling.DONE, answer=answer)

    def failure(self, delivery: ClaimedDelivery, error: BaseException) -> Settlement:
        """How a delivery ends whose handler failed."""
        self._log(delivery, error)
        if delivery.kind is Kind.CONVERSATION and delivery.ask_timeout is not None:
            # Its asker is told, and is not there for a second try.
            return Settlement(delivery.claim, Settling.DEAD, reason=describe(error))
        how, delay = self.retry.after(delivery.claim.attempt, delivery.max_attempts)
        return Settlement(delivery.claim, how, delay, describe(error))

    def cut_off_all(self) -> list[Settlement]:
        """The ends of all runs, of a process that ends at once."""
        return [self._cut_off(run) for run in self.claims.running if not run.is_moot]

    def _cut_off(self, run: Run) -> Settlement:
        """The end of a run that does not end although the SDK does: uncounted, unless it was late already."""
        timeout, limit = self._limit(run)
        if monotonic() - run.since > timeout and run.delivery.kind is not Kind.TURN:
            return self.failure(run.delivery, HandlerTimeoutError(timeout=timeout, limit=limit))
        return Settlement(run.delivery.claim, Settling.RETURNED, reason=STOPPED)

    def _given_back(self, delivery: ClaimedDelivery, error: BaseException) -> Settlement | None:
        """The end of a run that was cut off because the SDK is ending."""
        if is_cancellation(error) and self.claims.is_giving_back:
            return Settlement(delivery.claim, Settling.RETURNED, reason=STOPPED)
        return None

    def _encode(self, result: object) -> NewAnswer:
        """A handler's result as a message.

        Raises:
            UnreadableError: It is not storable JSON. A repeat would not help.
        """
        try:
            content, sum_ = seal(result, field="The handler's answer", limit_bytes=self.max_answer_bytes)
        except PayloadError as error:
            raise UnreadableError from error
        return NewAnswer(uuid7(), content, sum_)

    async def _call(self, run: Run) -> object:
        delivery, station = run.delivery, run.station
        if (known := self.names.cached_lately(delivery.sender_id, delivery.recipient_id)) is not None:
            sender, recipient = known
        else:
            ids = (delivery.sender_id, delivery.recipient_id)
            agents = await self.names.find_by_id(ids, max_age=NAMES_MAX_AGE)
            if delivery.sender_id not in agents:
                raise HandlerError("The sender was removed while its message waited.")
            sender, recipient = agents[delivery.sender_id], agents.get(delivery.recipient_id, station.agent)
        passing = Passing(self.forwarding, run) if delivery.kind is Kind.CONVERSATION else None
        parts = self.parts.sender(delivery) if delivery.is_streamed else None
        context = make_context(delivery, sender, recipient, asker=run.asker, passing=passing, parts=parts)
        has_attended = delivery.kind is Kind.INVITATION and await self._attend(delivery, station)
        try:
            run.handler, payload = open_for(station.handlers, delivery, self.decoder)
        except UnreadableError:
            if has_attended:
                return None  # its handler is for other messages, and the invitation has been taken up
            raise
        if run.asker is not None and run.handler.on_abandoned == "cancel":
            run.asker.follow()
        timeout, limit = self._limit(run)
        call = partial(run_handler, run.handler, payload, context, timeout=timeout, limit=limit, threads=self.threads)
        if parts is None:
            return await call()
        async with parts:
            return await call()

    async def _attend(self, delivery: ClaimedDelivery, station: Station) -> bool:
        """Take up an invitation, if the agent's turn handler takes up all of them."""
        turns = self.claims.stations.of(station.agent, Kind.TURN)
        if turns is None or not turns.handlers.attends:
            return False
        name = f"message {delivery.message_id}"
        await self.turns.attend(open_body(delivery, name).content["meeting_id"], station.agent.id)
        return True

    def _limit(self, run: Run) -> tuple[float, str]:
        """Seconds that a run of a message may take, and what sets them."""
        handler = run.handler
        timeout = run.station.run_limit if handler is None else handler.timeout or self.timeout
        asked = run.delivery.ask_timeout
        # The asker notices its deadline a little late, and is to be the first: it is told of its own timeout.
        if asked is not None and asked + 2 * GRAIN > timeout:
            return asked + 2 * GRAIN, OF_ASK
        return timeout, HandlerTimeoutError.limit if handler is None or handler.timeout is None else OF_HANDLER

    # --- turns --------------------------------------------------------------------------------------------------------

    async def _take_turn(self, run: Run) -> Settlement | None:
        """Take part in a meeting: what the handler returns is spoken, None and a failure pass.

        The act and the end of the delivery are one transaction, so nothing is left to settle. Where the turn is over
        the delivery was withdrawn with it.
        """
        delivery = run.delivery
        turn: TurnRun | None = None
        answer: NewAnswer | None = None
        reason: str | None = None
        try:
            if run.station.handlers.newest.is_bare and delivery.sender_id == delivery.recipient_id:
                return Settlement(delivery.claim, Settling.DONE)  # the host speaks by hand
            if delivery.turn is None:
                return Settlement(delivery.claim, Settling.DEAD, reason=TOO_LATE)
            run.turn = delivery.turn
            turn = await self.turns.prepare(delivery, delivery.turn, run.station.agent)
            if turn is None:
                return None
            turn = await self._brake(run, turn)
            if turn is None:
                return Settlement(delivery.claim, Settling.RETURNED, reason=STOPPED)
            if self.facts.ears.watchers:
                self.facts.begin(turn.delivery)
            run.handler, speech = open_for(run.station.handlers, turn.delivery, self.decoder)
            timeout, limit = self._turn_limit(run.handler, turn)
            result = await run_handler(
                run.handler, speech, turn.context, timeout=timeout, limit=limit, threads=self.threads
            )
            answer = None if result is None else self._encode(result)
            self.turns.ran(turn, run.station.agent.id, failed=False)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if _is_over(run, error):
                return None
            if (returned := self._given_back(delivery, error)) is not None:
                return returned
            if turn is None and isinstance(error, UnreadableError):
                self._log(delivery, error)
                return Settlement(delivery.claim, Settling.DEAD, reason=describe(error))
            if turn is None:
                return self.failure(delivery, error)
            reason = describe(error)
            if not is_cancellation(error):  # otherwise it is not the handler that failed: as a rule its turn is over
                self._log(delivery, error)
                self.turns.ran(turn, run.station.agent.id, failed=True)
        run.is_acting = True
        await self.turns.use_turn(turn, run.station.agent.id, delivery.claim, answer, reason)
        return None

    async def _brake(self, run: Run, turn: TurnRun) -> TurnRun | None:
        """Make a handler that failed wait before it runs again; None if the SDK is being left meanwhile.

        Each failure passes the turn on at once: if all handlers of a meeting fail, it would go round as fast as the
        store can. Half of the turn is left to the handler, which may work again. If turns do not end by time, claims
        do: the pause comes out of the margin of this one, or another run would begin beside it.
        """
        failures = self.turns.count_failures(turn, run.station.agent.id)
        pause = self.retry.pause(failures) if failures else 0.0
        pause = max(0.0, min(pause, (CLAIM_MARGIN if turn.left is None else turn.left) / 2))
        if not pause:
            return turn
        try:
            async with asyncio.timeout(pause):
                await self.leaving.wait()
        except TimeoutError:
            return turn if turn.left is None else replace(turn, left=turn.left - pause)
        return None

    def _turn_limit(self, handler: Handler, turn: TurnRun) -> tuple[float, str]:
        """Seconds that a run of a turn handler may take, and what sets them."""
        if handler.timeout is not None and (turn.left is None or handler.timeout < turn.left):
            return handler.timeout, OF_HANDLER
        return (self.timeout, HandlerTimeoutError.limit) if turn.left is None else (max(0.001, turn.left), OF_TURN)

    def _log(self, delivery: ClaimedDelivery, error: BaseException) -> None:
        logger.warning(
            "the handler failed on message %s, attempt %d of %d: %s",
            delivery.message_id,
            delivery.claim.attempt,
            delivery.max_attempts,
            describe(error),
            exc_info=traceback_of(error),
        )


def _give_up(run: Run, is_gone: bool) -> None:
    """Cancel a run whose asker does not wait any more, if its handler wants that; its delivery may be gone too.

    A run that has passed the ask on goes on by itself: its delivery has ended.
    """
    if run.handler is not None and run.handler.on_abandoned == "cancel" and not run.has_passed_on:
        run.is_given_up = True
        run.is_moot = run.is_moot or is_gone
        run.cancel()


def _is_sent(run: Run, result: object) -> bool:
    """Whether it is only the list of the parts that a run has sent, which has passed its ask on: it answers nothing.

    A generator cannot return None, as other handlers do then.
    """
    return run.has_passed_on and run.handler is not None and run.handler.yields and isinstance(result, list)


def _is_over(run: Run, error: BaseException) -> bool:
    """Whether a run was cut off whose end is settled: it was cancelled, or its loop has ended without it."""
    return run.is_moot and (is_cancellation(error) or isinstance(error, GeneratorExit))
