"""The asks made through one SDK object: waiting for their ends, and ending them in the store.

Nothing here decides an ask: one guarded update of its row does, whichever process makes it. When a commit of this
process ends an ask, its asker is told without a look at the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

from ..exceptions import AgentNotFoundError, DatabaseError, NotInitializedError, OutcomeUnknownError, copy_error
from ..futures import fail
from ..loggers import get_logger
from ..models import AskState
from ..payloads import MISSING
from ..records import dataclass
from ..single_flight import SingleFlight
from ..storage.batches import pages
from ..storage.ports import AnswerRow, AskRow, EndedAsk, SessionStore
from .again import Again
from .deadlines import Deadlines
from .locks import Locks
from .retry import describe
from .services import Service
from .waiting import Waiters

logger = get_logger("agent_messaging.delivery")

AT_ONCE = 1_000
"""Asks ended by one call to the store."""


Written = tuple[str, str | None, int, Any]
"""Content, metadata, checksum, and the type of which it was made."""


@dataclass(frozen=True, slots=True)
class AskOutcome:
    """How an ask ended."""

    ask_id: str
    state: AskState
    answer: AnswerRow | None = None
    reason: str | None = None
    annotation: Any = MISSING
    """The type that the answer was made of, if this process made it."""
    responder_id: str | None = None
    """The agent that had the ask at its end, as the row says: it may have been passed on."""


class Asks(Service):
    """Waiting for answers, and giving up.

    Memory is one future an ask, whatever the number of connections.
    """

    def __init__(self, sessions: SessionStore) -> None:
        self.sessions = sessions
        self.waiters = Waiters[str, AskOutcome](self._find, gone)
        self._written: dict[str, Written] = {}
        """Messages on their way into the store from here, which may be answers, by their ids."""
        self.deadlines = Deadlines()
        """The deadlines of the callers."""
        self._abandoned: set[str] = set()
        """The asks among them whose callers have gone."""
        self._given_up: dict[str, asyncio.Future[AskOutcome | None]] = {}
        """Asks whose callers have gone, until the store has ended them."""
        self._again = Again[str](self.give_up)
        """Asks that the store could not end: left alone they would lock their sessions until their deadlines."""
        self.locks = Locks[tuple[str, str, str]]()
        """The locks under which the calls of an (asker, responder) pair queue for their session in a thread."""
        self._closing: dict[AskState, dict[str, asyncio.Future[AskOutcome | None]]] = {}
        self._closer = SingleFlight(self._close_all, "ending asks")
        self._followers: list[Callable[[Collection[AskRow]], None]] = []
        self._is_closed = False

    def follow(self, follower: Callable[[Collection[AskRow]], None]) -> None:
        """Call this with the asks that their callers here have ended, as they are then."""
        self._followers.append(follower)

    # --- facts it is told of ------------------------------------------------------------------------------------------

    def writes(self, message_id: str, content: str, metadata: str | None, checksum: int, annotation: Any) -> None:
        """This message, which may answer an ask, is on its way into the store."""
        self._written[message_id] = (content, metadata, checksum, annotation)

    def wrote(self, message_id: str, ended: EndedAsk | None) -> None:
        """The message is stored, or was refused, or nobody knows; `ended` is the ask that it answered."""
        written = self._written.pop(message_id, None)
        if message_id in self._abandoned:
            self._abandoned.discard(message_id)
            self.give_up(message_id)
        if ended is None:
            return
        if written is not None and ended.state is AskState.REPLIED:
            content, metadata, sum_, annotation = written
            answer = AnswerRow(message_id, content, metadata, sum_)
            self.waiters.tell(ended.ask_id, AskOutcome(ended.ask_id, ended.state, answer, annotation=annotation))
        else:
            self.waiters.hint([ended.ask_id])

    def ended(self, asks: Collection[EndedAsk]) -> None:
        """A commit made here has ended these."""
        self.waiters.hint(ask.ask_id for ask in asks)

    def look(self) -> None:
        """Any of them may have ended."""
        self.waiters.look()

    # --- ending -------------------------------------------------------------------------------------------------------

    def time_out(self, ask_id: str) -> None:
        """End a stored ask as timed out, unless it has ended, and tell its waiters how.

        Asks that time out in the same instant are one call to the store, and their callers are woken after it.
        """
        self._close(ask_id, AskState.TIMED_OUT).add_done_callback(partial(self._closed, ask_id))

    def cancel(self, ask_id: str) -> None:
        """End a stored ask as cancelled, unless it has ended, and tell its waiters how: it may have been answered."""
        self._close(ask_id, AskState.CANCELLED).add_done_callback(partial(self._closed, ask_id))

    def _closed(self, ask_id: str, closing: asyncio.Future[AskOutcome | None]) -> None:
        if closing.cancelled():
            return  # closing the SDK releases who waits
        if (error := closing.exception()) is not None:
            self.waiters.fail(ask_id, error)
        else:
            self.waiters.tell(ask_id, closing.result())

    def give_up(self, ask_id: str) -> None:
        """Cancel an ask whose caller has gone. Nobody here waits for the outcome."""
        if ask_id in self._written:
            self._abandoned.add(ask_id)  # not stored yet, or not at all
            return
        closing = self._given_up[ask_id] = self._close(ask_id, AskState.CANCELLED)
        closing.add_done_callback(partial(self._gave_up, ask_id))

    def _gave_up(self, ask_id: str, closing: asyncio.Future[AskOutcome | None]) -> None:
        self._given_up.pop(ask_id, None)
        if closing.cancelled():
            return
        if (error := closing.exception()) is None:
            self.waiters.tell(ask_id, closing.result())  # a run here may be at work on it
            return
        logger.debug("could not cancel an ask: %s", describe(error))
        if isinstance(error, DatabaseError | OutcomeUnknownError) and error.retryable:
            self._again.later(ask_id)

    def list_given_up(self) -> Collection[str]:
        """The asks whose callers here have gone, and which the store may not have ended yet."""
        # Each ask that waits keeps this: an empty set is larger than its future.
        return self._abandoned | self._given_up.keys() if self._abandoned or self._given_up else ()

    async def wait_until_ended(self, ask_id: str) -> None:
        """Wait until the store has ended an ask that was given up here."""
        if (closing := self._given_up.get(ask_id)) is not None:
            await asyncio.wait({closing})

    def _close(self, ask_id: str, state: AskState) -> asyncio.Future[AskOutcome | None]:
        closing = self._closing.setdefault(state, {})
        future = closing.get(ask_id)
        if future is None:
            future = closing[ask_id] = asyncio.get_running_loop().create_future()
        if self._is_closed:
            _give_up_on([future])
        else:
            self._closer.request()
        return future

    async def _close_all(self) -> None:
        while self._closing:
            state, futures = self._closing.popitem()
            ids = list(futures)
            try:
                for page in pages(ids, AT_ONCE):
                    await self._close_page(page, state, futures)
            finally:
                _give_up_on(futures.values())

    async def _close_page(
        self, ids: list[str], state: AskState, futures: dict[str, asyncio.Future[AskOutcome | None]]
    ) -> None:
        try:
            rows = await self.sessions.close_asks(ids, state)
            found = {row.ask_id: self._outcome_of(row) for row in rows}
        except Exception as error:
            for id in ids:
                fail(futures[id], copy_error(error))
            return
        for follower in self._followers:
            follower(rows)
        for id in ids:
            if not futures[id].done():
                futures[id].set_result(found.get(id))

    async def aclose(self, timeout: float) -> None:
        """Release the callers that still wait, and let the endings under way end."""
        await self.waiters.aclose()
        await asyncio.sleep(0)  # those released give up their asks
        self._again.close()
        await self._closer.aclose(timeout)
        self._is_closed = True
        for futures in self._closing.values():
            _give_up_on(futures.values())
        self.deadlines.close()

    async def _find(self, ids: list[str]) -> dict[str, AskOutcome | None]:
        found = await self.sessions.find_ended_asks(ids)
        return {id: None if row is None else self._outcome_of(row) for id, row in found.items()}

    def _outcome_of(self, row: AskRow) -> AskOutcome:
        """The outcome as the row has it, with the type of an answer that was made here and has just been stored."""
        written = None if row.answer is None else self._written.get(row.answer.message_id)
        annotation = MISSING if written is None else written[-1]
        reason = None if row.answer is not None else row.reason
        return AskOutcome(row.ask_id, row.state, row.answer, reason, annotation, row.responder_id)


def _give_up_on(futures: Iterable[asyncio.Future[AskOutcome | None]]) -> None:
    """Fail them: the SDK is closed before the store has answered."""
    for future in futures:
        fail(future, NotInitializedError("The SDK was closed while it ended an ask. Its deadline ends it."))


def gone(_: object) -> Exception:
    """The error of a wait in a conversation, one agent of which was removed."""
    return AgentNotFoundError(
        "An agent was removed while this waited for it; the conversation went with it.",
        remedy="Register it again with `sdk.register_agent(...)` to begin another one.",
    )
