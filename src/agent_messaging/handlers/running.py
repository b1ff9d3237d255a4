"""One run of a handler: it decodes the payload and calls the function within its time.

`delivery/runs.py` decides what the outcome means for the delivery.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Generator, Sequence
from dataclasses import fields, is_dataclass
from types import AsyncGeneratorType, CoroutineType, GeneratorType, coroutine
from typing import Any, Protocol
from uuid import UUID

from pydantic import BaseModel

from ..bodies import open_as, open_body, open_metadata, verify_body
from ..clock import monotonic
from ..exceptions import HandlerTimeoutError, PayloadError, StorageCorruptError
from ..kinds import CONTEXT_OF_KIND, FACTS
from ..loggers import get_logger
from ..models import Asker, FinalAnswer, Invitation, Kind, MessageContext, Parts, Passing
from ..payloads import Decoder, find_best, name_of
from ..storage.parts import MOST_PARTS
from ..storage.ports import ClaimedDelivery
from .functions import check_result, function_name
from .registry import Handler, Handlers
from .threads import DaemonThreads

_STEPS = (CoroutineType, GeneratorType)
logger = get_logger("agent_messaging.delivery")


class Named(Protocol):
    """An agent, as handlers see it."""

    @property
    def external_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def organization(self) -> str: ...


def make_context(
    delivery: ClaimedDelivery,
    sender: Named,
    recipient: Named,
    *,
    asker: Asker | None = None,
    passing: Passing | None = None,
    parts: Parts | None = None,
) -> MessageContext:
    """Make the context of a handler's run.

    Raises:
        UnreadableError: The stored message is damaged.
    """
    try:
        message_id, meeting_id = UUID(delivery.message_id), None
        metadata = {} if delivery.metadata is None else open_metadata(delivery, f"message {delivery.message_id}")
        if delivery.kind is Kind.INVITATION:
            meeting_id = UUID(open_body(delivery, f"message {delivery.message_id}").content["meeting_id"])
    except (StorageCorruptError, ValueError, TypeError, LookupError) as error:  # the SDK writes no such message
        raise UnreadableError from error
    # The constructor of a frozen class sets each field by a call of its own, which takes three times as long: 3 µs.
    context = object.__new__(MessageContext)
    context.__dict__.update(
        sender_id=sender.external_id,
        receiver_id=recipient.external_id,
        organization_id=recipient.organization,
        handler_context=CONTEXT_OF_KIND[delivery.kind],
        message_id=message_id,
        session_id=delivery.session_id,
        metadata=metadata,
        sender_name=sender.name,
        recipient_name=recipient.name,
        requires_reply=delivery.kind is Kind.CONVERSATION and delivery.ask_timeout is not None,
        meeting_id=meeting_id,
        is_meeting_message=FACTS[delivery.kind].is_of_meeting,
        attempt=delivery.claim.attempt,
        thread=delivery.thread or None,
        asker=asker,
        topic=delivery.topic,
        passing=passing,
        parts=parts,
    )
    return context


def decode_delivery(decoder: Decoder, delivery: ClaimedDelivery, annotation: Any) -> Any:
    """Make a fresh payload of the annotation's type.

    Raises:
        UnreadableError: The stored payload is damaged or does not fit. A repeat would not help.
    """
    try:
        payload = open_as(delivery, f"message {delivery.message_id}", decoder, annotation)
        if delivery.kind is Kind.INVITATION and _has_taken_nothing(payload):
            raise PayloadError(field="message", reason="has none of the fields that the handler asks for.")
    except (PayloadError, StorageCorruptError) as error:
        raise UnreadableError from error
    return payload


def open_for(handlers: Handlers, delivery: ClaimedDelivery, decoder: Decoder) -> tuple[Handler, Any]:
    """Choose the handler whose type the payload fits best, and make a fresh payload of that type.

    The only handler that there is takes everything that fits its type.

    Raises:
        UnreadableError: The stored payload is damaged, fits none of the types, or several equally well.
    """
    handler = handlers.all[-1]
    if len(handlers.all) > 1:
        try:
            verify_body(delivery, f"message {delivery.message_id}")
            best = find_best(decoder, delivery.content, [handler.annotation for handler in handlers.all])
            if len(best) != 1:
                raise _undecided([handlers.all[position] for position in best] or handlers.all, fits=bool(best))
        except (PayloadError, StorageCorruptError) as error:
            raise UnreadableError from error
        handler = handlers.all[best[0]]
    return handler, decode_delivery(decoder, delivery, handler.annotation)


def _undecided(handlers: Sequence[Handler], *, fits: bool) -> PayloadError:
    names = ", ".join(f"{name_of(handler.annotation)} ({function_name(handler.function)})" for handler in handlers)
    if fits:
        reason = f"fits the types of several handlers equally well: {names}. Let the types differ in a field, such as "
        return PayloadError(field="message", reason=reason + '`kind: Literal["note"]`.')
    reason = f"fits the type of none of the handlers: {names}. Register one for its type, or one without a type, which "
    return PayloadError(field="message", reason=reason + "gets every other message.")


def _has_taken_nothing(payload: object) -> bool:
    """Whether a type fits an invitation only because all of its fields have defaults."""
    if isinstance(payload, BaseModel):
        return not payload.model_fields_set
    if is_dataclass(payload):
        return not {field.name for field in fields(payload)} & set(Invitation.model_fields)
    return payload == {}


class UnreadableError(Exception):
    """A payload that no repeat can make readable; the cause says why."""


def is_passed_over(delivery: ClaimedDelivery, recipient: Named, error: BaseException) -> bool:
    """Whether an intact invitation passes over a handler of other messages; the log then says how it gets the next."""
    if delivery.kind is not Kind.INVITATION or not isinstance(error, UnreadableError):
        return False
    if not isinstance(error.__cause__, PayloadError):
        return False
    logger.warning(
        "The handler of %r was passed over by an invitation to a meeting (message %s) that it does not take: %s Let it "
        "take invitations by an annotation such as `Note | Invitation` (from agent_messaging import Invitation), or "
        "attend by `sdk.meeting.attend_meeting`.",
        recipient.external_id,
        delivery.message_id,
        error.__cause__,
    )
    return True


async def run_handler(
    handler: Handler,
    payload: object,
    context: MessageContext,
    *,
    timeout: float,
    limit: str = HandlerTimeoutError.limit,
    threads: DaemonThreads,
) -> object:
    """Run it once and return its result. `limit` says what set the timeout, for the error.

    A coroutine function is cancelled at the timeout. A plain function cannot be stopped, so this call waits for its
    end, with its slot and its claim held, and takes its result, however late. An awaitable result (of a wrapper, of a
    lambda) is awaited within the same time.

    Raises:
        HandlerTimeoutError: A coroutine, or an awaitable, ran longer than `timeout` seconds.
        TypeError: It returned a generator, of which nothing has run.
        BaseException: What the handler raised.
    """
    begun = monotonic()
    if handler.is_coroutine:
        result = handler.function(payload, context)
    else:
        result = await _run_in_thread(threads.call(handler.function, payload, context), threads)
    if handler.yields and inspect.isasyncgen(result):
        result = _answer_of(result, context)  # type: ignore[arg-type]
    if isinstance(result, CoroutineType) or inspect.isawaitable(result):
        # A timer costs more than most handlers do, so there is none for one that returns in its first step. While that
        # lasts the loop could not fire it.
        steps: Any = result if isinstance(result, _STEPS) else result.__await__()
        try:
            waits_for = steps.send(None) if hasattr(steps, "send") else next(steps)
        except StopIteration as end:
            result = end.value
        else:
            result = await _await_within(steps, waits_for, timeout, begun, limit)
    if isinstance(result, GeneratorType | AsyncGeneratorType):
        check_result(result)
    return result


async def _answer_of(yielded: AsyncGeneratorType[object, None], context: MessageContext) -> object:
    """Send what a handler yields as parts, until it yields its answer; without one that is the list of the parts.

    Raises:
        UnreadableError: They are too many for an answer.
    """
    parts: list[object] = []
    async with contextlib.aclosing(yielded):
        async for one in yielded:
            if isinstance(one, FinalAnswer):
                return one.value
            await context.part(one)
            if len(parts) <= MOST_PARTS:
                parts.append(one)
    if len(parts) > MOST_PARTS:
        reason = f"is the list of more than {MOST_PARTS:,} parts. Let the handler yield a FinalAnswer(…) last."
        raise UnreadableError from PayloadError(field="The handler's answer", reason=reason)
    return parts


async def _await_within(steps: Any, waits_for: object, timeout: float, begun: float, limit: str) -> object:
    scope = asyncio.timeout(begun + timeout - monotonic())
    try:
        async with scope:
            return await _go_on(steps, waits_for)
    except TimeoutError as error:
        if scope.expired():
            raise HandlerTimeoutError(timeout=timeout, limit=limit) from error
        raise  # the handler's own


@coroutine
def _go_on(steps: Any, waits_for: object) -> Generator[object, None, object]:
    """Await the rest of an awaitable that has taken its first step, and waits for this, as `yield from` does.

    A plain iterator has nothing to take an error, or its end: it is left where it is.
    """
    while True:
        try:
            yield waits_for
        except GeneratorExit:
            if hasattr(steps, "close"):
                steps.close()
            raise
        except BaseException as error:
            if not hasattr(steps, "throw"):
                raise
            try:
                waits_for = steps.throw(error)
            except StopIteration as end:
                return end.value
        else:
            return (yield from steps)


async def _run_in_thread(call: asyncio.Future[object], threads: DaemonThreads) -> object:
    # A thread cannot be stopped. Its run lasts as long as it does, also when the run is cancelled or late: otherwise
    # another process would get the claim while this one still works on the message. The store says whether the claim
    # is still the newest.
    while not call.done():
        try:
            await asyncio.wait({call})
        except asyncio.CancelledError:
            if threads.is_abandoned:
                raise
    return call.result()
