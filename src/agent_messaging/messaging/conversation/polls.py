"""Calls that ask several agents at once: one commit stores all the asks, and each ends for itself."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar, overload

from typing_extensions import TypeForm

from ...arguments import MISSING_MESSAGE, check_recipients, check_timeout, refuse
from ...exceptions import (
    AgentMessagingError,
    ConversationEndedError,
    DatabaseError,
    IdempotencyConflictError,
    NotInitializedError,
)
from ...futures import take_error
from ...ids import uuid7
from ...models import T
from ...payloads import MISSING, fingerprint
from ...records import dataclass
from ...storage.ports import KeyConflict
from ..posting import enter
from .ask import GIVING_UP, Ask
from .calls import ConversationCalls
from .drafts import make_draft

R = TypeVar("R")
MAX_ASKED = 1_000
"""Agents that one call asks: bounds one transaction."""
_OF_ALL = (NotInitializedError, IdempotencyConflictError)
"""Errors that concern the whole call, and not one recipient."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """The end of one of several asks: an answer, or an error."""

    recipient: str
    """External id."""
    answer: T | None = None
    """The payload of the answer. None may be JSON's null, so `is_answered` tells."""
    error: AgentMessagingError | None = None
    """The error that `send_and_wait` would have raised; None if there is an answer."""

    @property
    def is_answered(self) -> bool:
        """Whether there is an answer."""
        return self.error is None


class ConversationPolls(ConversationCalls[T]):
    """What is called to ask several."""

    @overload
    async def ask_many(
        self,
        sender_external_id: str,
        recipient_external_ids: Sequence[str],
        message: T = ...,
        timeout: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        response_type: TypeForm[R],
        first: int | None = None,
        thread: str | None = None,
        idempotency_key: str | None = None,
        require_handler: bool | None = None,
    ) -> list[Outcome[R]]: ...
    @overload
    async def ask_many(
        self,
        sender_external_id: str,
        recipient_external_ids: Sequence[str],
        message: T = ...,
        timeout: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        first: int | None = None,
        thread: str | None = None,
        idempotency_key: str | None = None,
        require_handler: bool | None = None,
    ) -> list[Outcome[Any]]: ...
    async def ask_many(
        self,
        sender_external_id: str,
        recipient_external_ids: Sequence[str],
        message: T = MISSING_MESSAGE,
        timeout: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        response_type: Any = MISSING,
        first: int | None = None,
        thread: str | None = None,
        idempotency_key: str | None = None,
        require_handler: bool | None = None,
    ) -> list[Outcome[Any]]:
        """Ask several agents at once, and wait for their answers.

        Each recipient gets an ask of its own, as by `send_and_wait`; one commit stores them all, as far as they fit
        into one (1,000 messages, 8 MiB). An error that concerns one recipient is its outcome and stops no other: it is
        not registered, nobody serves it, its handler fails, the sender waits for it already, or it does not answer in
        time.

        It always returns by its timeout (and half a second). A late answer is kept as an unread message. A cancelled
        call gives all asks up, unless it has an `idempotency_key`: a repeat under that key then joins those that are
        open, returns how the others ended, and asks those that could not be asked before.

        It takes neither `deliver_at` nor `expires_in`: its caller waits now, and the messages expire with the timeout.

        Args:
            sender_external_id: Who asks, and waits.
            recipient_external_ids: Who is asked: 1 to 1,000 agents, without repetitions and without the sender.
            message: The payload, as of `one_way.send`.
            timeout: Seconds for all of them; None is the setting `default_sync_timeout` (30).
            metadata: Small JSON mapping that travels with each message to `context.metadata`.
            response_type: What each answer becomes, as of `send_and_wait`.
            first: Return as soon as so many were answered, and give the other asks up; None waits for all.
            thread: As of `send_and_wait`.
            idempotency_key: 1 to 255 characters, among this sender's calls of `ask_many`.
            require_handler: False asks also agents that no live process serves; None is the setting.

        Returns:
            One outcome for each recipient, in their order: `recipient`, and `answer` or `error`. The error of an ask
            that was given up is a `ConversationEndedError`.

        Raises:
            AgentNotFoundError: The sender is not registered; names the closest.
            InvalidArgumentError, PayloadError: An argument was refused; nothing was stored.
            IdempotencyConflictError: The key was used for another payload or other recipients.
            OutcomeUnknownError: The store could not be reached by the timeout; a `TimeoutError`.
            DatabaseError: The store refused all of them.

        Example:
            outcomes = await sdk.conversation.ask_many("alice", ["bob", "carol"], Query(text="Free at four?"), first=1)
            answers = [outcome.answer for outcome in outcomes if outcome.is_answered]
        """
        recipients = check_recipients(sender_external_id, recipient_external_ids, most=MAX_ASKED)
        if first is not None and (type(first) is not int or not 0 < first <= len(recipients)):
            raise refuse(
                "first", first, f"is not a whole number from 1 to {len(recipients)}, the number of recipients."
            )
        timeout = self.settings.default_sync_timeout if timeout is None else check_timeout(timeout)
        deadline = asyncio.get_running_loop().time() + timeout
        draft = make_draft(
            self.settings,
            "ask_many",
            sender_external_id,
            recipients[0],
            message,
            metadata,
            thread=thread,
            idempotency_key=idempotency_key,
            require_handler=require_handler,
            ask_timeout=timeout,
        )
        engine = self.engine
        engine.decoder.check(response_type, field="response_type")
        named = {} if thread is None else {"thread": thread}
        mark = "" if idempotency_key is None else fingerprint(recipients, draft.content, draft.metadata, **named)
        drafts = [
            replace(draft, call=f"ask_many {place}", recipient=recipient, fingerprint=mark, message_id=uuid7())
            for place, recipient in enumerate(recipients)
        ]
        asks = [Ask(engine, self.settings, draft, timeout, deadline) for draft in drafts]

        async def end(ask: Ask) -> Any:
            return ask.open(await ask.wait(), response_type, self.payload_type())

        try:
            await _enter(asks)
            ends = [asyncio.ensure_future(end(ask)) for ask in asks]
            for one in ends:
                one.add_done_callback(take_error)
            try:
                await _wait(ends, first or len(ends))
                left = {ask.draft.recipient for ask, one in zip(asks, ends, strict=True) if not one.done()}
                for ask, one in zip(asks, ends, strict=True):
                    if ask.draft.recipient in left and not ask.stop():
                        one.cancel()
                await asyncio.wait(ends)
            finally:
                for one in ends:
                    one.cancel()  # gives the ask up, unless it has ended or has a key
                await asyncio.wait(ends)
        finally:
            for ask in asks:
                ask.leave()  # a task that is cancelled before its first step runs nothing of its own
        return _list_outcomes(recipients, ends, left)


async def _enter(asks: Sequence[Ask]) -> None:
    """Look up all that the asks need, and hand them in together."""
    draft, engine = asks[0].draft, asks[0].engine
    try:
        async with asyncio.timeout_at(asks[0].deadline + GIVING_UP):
            sender = await engine.names.get(draft.sender, role="sender")
            if (key := draft.idempotency_key) is not None:
                find = engine.store.deliveries.find_repeat
                if isinstance(await find(sender.id, draft.call, key, draft.fingerprint), KeyConflict):
                    raise IdempotencyConflictError(idempotency_key=key)
            await engine.names.find_all([ask.draft.recipient for ask in asks])
            calls = [ask.make_call() for ask in asks]
            await enter(calls)
    except builtins.TimeoutError as error:
        if isinstance(error, AgentMessagingError):
            raise
        raise asks[0].unknown() from error
    for ask, call in zip(asks, calls, strict=True):
        ask.entered = call


async def _wait(ends: Sequence[asyncio.Future[Any]], wanted: int) -> None:
    """Wait until so many were answered, all have ended, or one has met what concerns them all."""
    pending = set(ends)
    while pending and wanted > 0:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        errors = [one.exception() for one in done]
        if any(error is not None and not _is_of_one(error) for error in errors):
            return
        wanted -= errors.count(None)


def _is_of_one(error: BaseException) -> bool:
    return isinstance(error, AgentMessagingError) and not isinstance(error, _OF_ALL)


def _list_outcomes(
    recipients: Sequence[str], ends: Sequence[asyncio.Future[Any]], given_up: Collection[str]
) -> list[Outcome[Any]]:
    errors = [None if end.cancelled() else end.exception() for end in ends]
    for error in errors:
        if error is not None and not _is_of_one(error):
            raise error
    if isinstance(errors[0], DatabaseError) and all(isinstance(error, DatabaseError) for error in errors):
        raise errors[0]
    outcomes = []
    for recipient, end, error in zip(recipients, ends, errors, strict=True):
        if end.cancelled() or (recipient in given_up and isinstance(error, ConversationEndedError)):
            error = ConversationEndedError(
                f"The ask to {recipient!r} was given up, because enough others had answered. Ask it again by itself."
            )
        if isinstance(error, AgentMessagingError):
            outcomes.append(Outcome(recipient, error=error))
        else:
            outcomes.append(Outcome(recipient, end.result()))
    return outcomes
