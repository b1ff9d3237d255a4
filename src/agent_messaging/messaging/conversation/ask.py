"""One ask, from storing it to its end. The row decides how it ends; this waits, gives up in time, and reports."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Awaitable, Collection
from typing import TYPE_CHECKING, Any, NoReturn

from ...bodies import open_as, open_body
from ...config import MessagingConfig
from ...delivery.asks import AskOutcome
from ...delivery.current import Run
from ...delivery.names import external_or_id
from ...exceptions import (
    AgentMessagingError,
    AgentNotFoundError,
    ConversationEndedError,
    ConversationTimeoutError,
    DatabaseError,
    HandlerError,
    MessageNotFoundError,
    MutualWaitError,
    OutcomeUnknownError,
    PayloadError,
    SessionLockError,
)
from ...futures import fail
from ...models import AskState
from ...payloads import MISSING
from ...records import dataclass
from ...storage.ports import Duplicate, MutualWait, SessionLocked
from ..missing import explain_missing
from ..posting import Call, enter
from .drafts import Draft
from .held import REFUSED

if TYPE_CHECKING:
    from ...delivery.engine import Engine

GIVING_UP = 0.4
"""Seconds after its timeout at which an ask gives up waiting for the store: it has returned within half a second."""
CLOCKS_DIFFER = 1.0
"""Seconds by which the clocks of two processes may differ at most. An ask that the store ended earlier than that was
ended by a clock that somebody has set."""
LOOK_AGAIN = 0.5
"""Seconds after which a call that queues for its session, or has joined an ask, looks again: another process's ask may
have ended."""


@dataclass(slots=True, eq=False)
class Ask:
    """A call of `send_and_wait`.

    Its caller waits by one future, from the moment in which the ask is handed in: for its end, or for the reason why it
    is not stored. Nobody wakes the caller to say that it is.
    """

    engine: Engine
    settings: MessagingConfig
    draft: Draft
    timeout: float
    deadline: float
    """By the loop's clock."""
    entered: Call | None = None
    """The call that stores it, once it is handed in, until it is stored."""
    stored_id: str | None = None
    """The id of the ask, once it is stored: another than that of the draft if this repeats an earlier call."""
    _call: Call | None = None
    """The newest that stores it."""
    _end: asyncio.Future[Any] | None = None
    """Registered where callers wait for the ends of asks."""
    _late_at: float | None = None
    """Its deadline has come, and then the call gives up waiting for the store."""
    _limit: asyncio.Timeout | asyncio.TimerHandle | None = None
    """Ends the call then."""
    _is_awaited: bool = False
    _is_waiting: bool = False
    """It is stored, and the answer is waited for."""
    _waiter: Run | None = None
    """The run that waits."""
    _given_up: Collection[str] = ()
    """The asks whose callers had gone when it was handed in, and that the store may not have ended by then."""
    _lock: asyncio.Lock | None = None
    """Held while it queues for its session."""

    async def wait(self, *, wait_for_session: bool = False) -> AskOutcome:
        """Store the ask and wait for its end: by its deadline, or half a second later where the store does not answer.

        At the deadline the ask is ended, unless it was answered in that instant.

        See `Conversation.send_and_wait` for what it raises.
        """
        deadlines = self.engine.asks.deadlines
        tick = deadlines.add(self, self.deadline)
        self._is_awaited = True
        try:
            outcome: AskOutcome | object = None
            if not wait_for_session and self._enter_now():
                assert self._end is not None
                outcome = await self._end
            if not isinstance(outcome, AskOutcome):
                outcome = await self._wait_within(wait_for_session=wait_for_session)
            if outcome.state is AskState.TIMED_OUT and self._is_waiting:
                await self.until_due()
            return outcome
        except BaseException as error:
            if self.draft.idempotency_key is None:
                self.give_up()
            is_cut_off = isinstance(error, builtins.TimeoutError) and not isinstance(error, AgentMessagingError)
            if is_cut_off or (self._is_waiting and isinstance(error, DatabaseError | OutcomeUnknownError)):
                raise self.unknown() from error
            raise
        finally:
            deadlines.discard(self, tick)
            if isinstance(self._limit, asyncio.TimerHandle):
                self._limit.cancel()
            if self._waiter is not None:
                self._waiter.end_waiting()
            self.leave()
            self._call = self.entered = None  # they hold this: no circle is left to the garbage collection

    def _enter_now(self) -> bool:
        """Whether the store has it, or is about to: nothing is to be looked up before, and the end is all to wait for.

        It can have been handed in before, and even be stored, together with other asks.
        """
        if self.stored_id is not None:
            self._begin_waiting()
            return True
        if self.entered is None:
            call = self.make_call()
            if not call.enter_now():
                return False
            self.entered = call
        return self.entered.known is None

    async def _wait_within(self, *, wait_for_session: bool) -> AskOutcome:
        """Wait for the end, where something is to be looked up, or waited for, before."""
        if isinstance(self._limit, asyncio.TimerHandle):
            self._limit.cancel()
        limit = self._limit = asyncio.Timeout(self._late_at)
        try:
            async with limit:
                return await (self.post_in_order() if wait_for_session else self.post())
        finally:
            self._limit = None  # it is over; the deadline may still come

    async def until_due(self) -> None:
        """Wait for the rest of the time where another process, whose clock is a little ahead, ended the ask early."""
        left = self.deadline - asyncio.get_running_loop().time()
        if 0 < left <= CLOCKS_DIFFER:
            await asyncio.sleep(left)

    def fall_due(self) -> None:
        """Its deadline has come."""
        # From now on, and not from the deadline: where the loop was blocked the store has not been asked yet.
        loop = asyncio.get_running_loop()
        self._late_at = loop.time() + GIVING_UP
        if isinstance(self._limit, asyncio.Timeout):
            self._limit.reschedule(self._late_at)
        else:
            self._limit = loop.call_at(self._late_at, self._be_late)
        if self._is_waiting:
            self.engine.asks.time_out(self.draft.message_id)

    def _be_late(self) -> None:
        if self._end is not None:
            fail(self._end, builtins.TimeoutError())

    def stop(self) -> bool:
        """End the ask in the store, unless it has ended: `wait` then says how. False if it is not stored yet."""
        if self.stored_id is not None:
            self.engine.asks.cancel(self.stored_id)
        return self.stored_id is not None

    def give_up(self) -> None:
        """Cancel the ask, if this call stored it or may have."""
        if self.draft.is_entered:
            self.engine.asks.give_up(self.draft.message_id)

    # --- storing ------------------------------------------------------------------------------------------------------

    def make_call(self) -> Call:
        """Make the call that stores it, for the run that the caller is in."""
        self._given_up = self.engine.asks.list_given_up()
        if self._call is not None or self._lock is not None:  # a later try, or it has queued: less time is left
            self.draft.ask_timeout = max(self.deadline - asyncio.get_running_loop().time(), 0.001)
        call = self._call = self.draft.make_call(self.engine, self.settings)
        call.expect, call.on_stored = self._expect, self._stored
        return call

    def _expect(self) -> asyncio.Future[Any]:
        """Register for the end, in the step in which it is handed in."""
        if self._end is not None:
            self.leave()
        self._end = self.engine.asks.waiters.enter(self.draft.message_id, None, False)
        return self._end

    def leave(self) -> None:
        """Wait no more for the end. Idempotent."""
        if self._end is not None:
            self.engine.asks.waiters.leave(self.draft.message_id, None, self._end)
            self._end = None

    def _stored(self) -> None:
        """It is stored: nobody is told, but the caller waits for the answer from now on.

        What stored it is let go, as large as all else that an ask keeps while it waits.
        """
        if (call := self._call) is not None:
            del call.group  # also where a coroutine still holds the call
            self._call = self.entered = None
        self.stored_id = self.draft.message_id
        self.engine.asks.waiters.stored(self.stored_id)
        if self._lock is not None:
            self._unlock()
        if self._is_awaited:
            self._begin_waiting()

    def _begin_waiting(self) -> None:
        self._is_waiting = True
        run = self.draft.run
        if run is not None and run.station.board is self.engine.stations:
            run.begin_waiting()
            self._waiter = run
        if self._late_at is not None:
            self.engine.asks.time_out(self.draft.message_id)

    async def post(self) -> AskOutcome:
        """Store it, unless it is handed in already, and wait for its end, or for that of the ask that it repeats."""
        call, self.entered = self.entered, None
        if call is None:
            call = self.make_call()
            await enter([call])
        match await call.wait():
            case Duplicate([ask_id]):
                self.draft.is_entered = False
                self.stored_id = ask_id
                self._unlock()
                return await self.join(ask_id)
            case SessionLocked(ask_id, thread):
                self.draft.is_entered = False
                # Cancelled by its caller, before this call or in its instant: it is no reason to refuse the next one.
                if ask_id in self._given_up or ask_id in self.engine.asks.list_given_up():
                    await self.engine.asks.wait_until_ended(ask_id)
                    return await self.post()
                raise SessionLockError(
                    sender=self.draft.sender, recipient=self.draft.recipient, ask_id=ask_id, thread=thread or None
                )
            case MutualWait(path):
                self.draft.is_entered = False
                names = await self.engine.names.find_by_id(path)
                raise MutualWaitError(path=tuple(external_or_id(names, id) for id in path))
            case AskOutcome() as outcome:
                return outcome
        raise AssertionError("an ask is stored, or refused")

    async def post_in_order(self) -> AskOutcome:
        """Store it once the sender no longer waits for this recipient; calls here queue as they came."""
        lock = self.engine.asks.locks.of((self.draft.sender, self.draft.recipient, self.draft.thread))
        await self.queue(lock.acquire())
        self._lock = lock
        try:
            while True:
                try:
                    return await self.post()
                except SessionLockError as error:
                    if isinstance(error, MutualWaitError):
                        raise
                    await self.queue(self.wait_until_free(error.ask_id))
        finally:
            self._unlock()

    def _unlock(self) -> None:
        """The next call that queues for the session may try: this one is stored, or has ended."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    async def queue(self, waiting: Awaitable[object]) -> None:
        """Wait behind earlier asks until the deadline. Of storing it is not the end: the store may be a little late."""
        try:
            async with asyncio.timeout_at(self.deadline):
                await waiting
        except builtins.TimeoutError as error:
            if isinstance(error, AgentMessagingError):
                raise
            raise ConversationTimeoutError(
                f"{self.draft.sender!r} waited {self.timeout:g} seconds for its earlier ask to "
                f"{self.draft.recipient!r} to end; this one was not sent. Give it more time, or ask one by one."
            ) from error

    async def wait_until_free(self, ask_id: str) -> None:
        """Wait until an open ask has ended, or it is time to look again."""
        try:
            async with asyncio.timeout(LOOK_AGAIN):
                await self.engine.asks.waiters.wait([ask_id])
        except builtins.TimeoutError as error:
            if isinstance(error, AgentMessagingError):
                raise
        except AgentNotFoundError:
            pass  # the next try says who is gone

    # --- joining ------------------------------------------------------------------------------------------------------

    async def join(self, ask_id: str) -> AskOutcome:
        """Wait for the end of the ask that an earlier call under this key has stored; at the deadline leave it open.

        Who ends it tells the process that asked, which may be another one, or dead. So this looks again and again, and
        once more at the deadline: the row decides.
        """
        waiters, clock = self.engine.asks.waiters, asyncio.get_running_loop().time
        with waiters.expect(ask_id) as end:
            while not end.done() and (left := self.deadline - clock()) > 0:
                waiters.hint([ask_id])
                await asyncio.wait({end}, timeout=min(left, LOOK_AGAIN))
            if not end.done():
                try:
                    found = await waiters.find([ask_id])
                except (DatabaseError, OutcomeUnknownError) as error:
                    raise self.unknown() from error
                if ask_id not in found:
                    return AskOutcome(ask_id, AskState.TIMED_OUT)
                waiters.tell(ask_id, found[ask_id])
            try:
                return await end
            except AgentNotFoundError as error:
                missing = await explain_missing(self.engine, MessageNotFoundError(message_id=ask_id))
                raise (missing if missing.is_pruned else error) from None

    # --- the end ------------------------------------------------------------------------------------------------------

    def open(self, outcome: AskOutcome, response_type: Any, payload_type: Any) -> Any:
        """The answer as the caller wants it, or the error that tells how the ask ended."""
        answer = outcome.answer
        if outcome.state is not AskState.REPLIED or answer is None:
            self.refuse(outcome)
        name = f"the answer to the ask {outcome.ask_id}"
        decoder = self.engine.decoder
        if response_type is not MISSING:
            try:
                return open_as(answer, name, decoder, response_type, field="The answer")
            except PayloadError as error:
                raise HandlerError(
                    f"{error} It stays readable: see the session's messages, or ask for another response_type."
                ) from error
        for annotation in (outcome.annotation, payload_type):
            if annotation is not MISSING:
                try:
                    return open_as(answer, name, decoder, annotation)
                except PayloadError:
                    continue
        return open_body(answer, name).content

    def refuse(self, outcome: AskOutcome) -> NoReturn:
        """Raise the error of an ask that was not answered."""
        responder = self.engine.names.cached_by_id(outcome.responder_id or "")
        recipient = self.draft.recipient if responder is None else responder.external_id
        match outcome.state:
            case AskState.ENDED:
                raise ConversationEndedError(
                    f"The conversation with {recipient!r} was ended while {self.draft.sender!r} waited for an answer. "
                    "The next message opens a new session."
                )
            case AskState.FAILED:
                reason = (outcome.reason or "it gave no reason").rstrip(".")
                if reason.startswith(REFUSED):
                    raise HandlerError(f"{recipient!r} refused to answer: {reason.removeprefix(REFUSED)}.")
                raise HandlerError(
                    f"The handler of {recipient!r} failed on this ask: {reason}. "
                    "Its process has the traceback in its log."
                )
            case AskState.CANCELLED:
                raise ConversationEndedError(
                    f"The ask to {recipient!r} was given up: its first caller went away, or it was withdrawn. "
                    "Ask again under a new idempotency key."
                )
        raise ConversationTimeoutError(
            f"No response received within {self.timeout:g} seconds from {recipient!r} in the store "
            f"{self.engine.names.location}. A late answer is kept as an unread message. Give it more time, or see who "
            "serves it with `agent-messaging doctor`."
        )

    def unknown(self) -> OutcomeUnknownError:
        """The error where the store does not say what became of the ask."""
        return OutcomeUnknownError(
            f"The store did not answer by the timeout of {self.timeout:g} seconds: the ask may have been stored, and "
            "answered. Repeat it with the same idempotency_key, or read the session's messages."
        )
