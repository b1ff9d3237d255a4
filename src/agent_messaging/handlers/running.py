"""One run of a handler: decode the payload, call the function within its time, report the outcome.

What the outcome means for the delivery is the dispatcher's to decide.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol
from uuid import UUID

from pydantic import BaseModel

from ..bodies import open_as, open_body, open_metadata
from ..exceptions import HandlerTimeoutError, PayloadError, StorageCorruptError
from ..models import HandlerContext, Invitation, Kind, MessageContext, Turn
from ..payloads import Decoder
from ..storage.ports import ClaimedDelivery
from .functions import check_result
from .registry import CONTEXT_OF_KIND, Handler
from .threads import DaemonThreads

_logger = logging.getLogger("agent_messaging.delivery")


class Named(Protocol):
    """What is told to a handler of an agent."""

    @property
    def external_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def organization(self) -> str: ...


def make_context(delivery: ClaimedDelivery, sender: Named, recipient: Named) -> MessageContext:
    """Tell a handler about a message.

    Raises:
        UnreadableError: The stored message is damaged.
    """
    try:
        name = f"message {delivery.message_id}"
        message_id, metadata = UUID(delivery.message_id), open_metadata(delivery, name)
        meeting_id = None
        if delivery.kind is Kind.INVITATION:
            meeting_id = UUID(open_body(delivery, name).content["meeting_id"])
    except (
        StorageCorruptError,
        ValueError,
        TypeError,
        LookupError,
    ) as error:  # the last three: not what the SDK writes
        raise UnreadableError from error
    return MessageContext(
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
        is_meeting_message=delivery.kind in (Kind.INVITATION, Kind.TURN),
        attempt=delivery.claim.attempt,
    )


def make_notice_context(delivery: ClaimedDelivery, sender: Named, recipient: Named) -> MessageContext:
    """Tell a notification handler about a message that came."""
    return replace(make_context(delivery, sender, recipient), handler_context=HandlerContext.MESSAGE_NOTIFICATION)


def make_turn_context(
    delivery: ClaimedDelivery, speaker: Named, recipient: Named, meeting_id: str, turn: Turn
) -> MessageContext:
    """Tell a turn handler about its turn."""
    return replace(
        make_context(delivery, speaker, recipient), meeting_id=UUID(meeting_id), is_meeting_message=True, turn=turn
    )


def decode_delivery(decoder: Decoder, delivery: ClaimedDelivery, annotation: Any) -> Any:
    """Make a fresh payload of the type the annotation asks for.

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


def _has_taken_nothing(payload: object) -> bool:
    """Whether a type fits only because all of its fields may be missing, as those of a note with defaults."""
    if isinstance(payload, BaseModel):
        return not payload.model_fields_set
    if is_dataclass(payload):
        return not {field.name for field in fields(payload)} & set(Invitation.model_fields)
    return payload == {}


class UnreadableError(Exception):
    """A payload that no repeat can make readable; the cause says why."""


def is_misfit_of_invitation(delivery: ClaimedDelivery, error: UnreadableError) -> bool:
    """Whether a whole invitation came for a handler that is made for other messages."""
    return delivery.kind is Kind.INVITATION and isinstance(error.__cause__, PayloadError)


def warn_of_misfit(delivery: ClaimedDelivery, recipient: Named, error: UnreadableError) -> None:
    """Say that a handler was passed over by an invitation, and how it gets the next one."""
    _logger.warning(
        "The handler of %r was passed over by an invitation to a meeting (message %s) that it does not take: %s Let it "
        "take invitations by an annotation such as `Note | Invitation` (from agent_messaging import Invitation), or "
        "attend by `sdk.meeting.attend_meeting`.",
        recipient.external_id,
        delivery.message_id,
        error.__cause__,
    )


async def run_handler(
    handler: Handler,
    delivery: ClaimedDelivery,
    context: MessageContext,
    *,
    timeout: float,
    threads: DaemonThreads,
    decoder: Decoder,
) -> object:
    """Run it once and return what it returned.

    A coroutine function is cancelled at the timeout. A plain function cannot be stopped: this waits for its end, so
    that its slot and its claim stay held, and takes what it returns, however late. A plain function that returns an
    awaitable (a wrapper, a lambda) has it awaited here, within the same time.

    Raises:
        UnreadableError: The stored payload is damaged, or does not fit the handler's annotation.
        HandlerTimeoutError: A coroutine, or an awaitable, ran longer than `timeout` seconds.
        TypeError: It returned a generator, of which nothing has run.
        BaseException: What the handler raised.
    """
    payload = decode_delivery(decoder, delivery, handler.annotation)
    deadline = asyncio.get_running_loop().time() + timeout
    if handler.is_coroutine:
        result = handler.function(payload, context)
    else:
        result = await _run_in_thread(threads.call(handler.function, payload, context), threads)
    if inspect.isawaitable(result):
        result = await _await_until(result, deadline, timeout)
    check_result(result)
    return result


async def _await_until(result: Awaitable[object], deadline: float, timeout: float) -> object:
    scope = asyncio.timeout_at(deadline)
    try:
        async with scope:
            return await result
    except TimeoutError as error:
        if scope.expired():
            raise HandlerTimeoutError(timeout=timeout) from error
        raise  # the handler's own


async def _run_in_thread(call: asyncio.Future[object], threads: DaemonThreads) -> object:
    # A thread cannot be stopped. Its run ends when it ends, whether or not it was cancelled or is late meanwhile:
    # otherwise the claim would go to another process while this one still works on the message. And what it has done
    # is done, however late: whether the claim is still the newest is for the store to say.
    while not call.done():
        try:
            await asyncio.wait({call})
        except asyncio.CancelledError:
            if threads.is_abandoned:
                raise
    return call.result()
