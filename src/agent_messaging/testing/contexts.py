"""Contexts made by hand, with which a test calls a handler as a function: no SDK, no store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID, uuid4

from ..models import HandlerContext, MessageContext, Turn


class _Parts:
    """What a handler sends before its answer."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def send(self, payload: Any) -> None:
        self.sent.append(payload)


class _Passing:
    """Where a handler passes its ask on to."""

    def __init__(self, first: str) -> None:
        self.way = [first]

    async def forward(self, to_external_id: str) -> tuple[str, ...]:
        self.way.append(to_external_id)
        return tuple(self.way)


class _Asker:
    """Who waits for the answer of a handler."""

    def __init__(self) -> None:
        self._left = asyncio.Event()

    @property
    def has_left(self) -> bool:
        return self._left.is_set()

    async def wait_until_left(self) -> None:
        await self._left.wait()

    def leave(self) -> None:
        self._left.set()


class HandContext(MessageContext):
    """A context that a test made, and that tells what the handler has done with it. Made by `make_context`."""

    @property
    def sent_parts(self) -> list[Any]:
        """What the handler has sent by `context.part`, oldest first."""
        return cast(_Parts, self.parts).sent

    @property
    def forwarded_to(self) -> str | None:
        """The agent to which the handler has passed the ask on, the last one; None if it has not."""
        way = cast(_Passing, self.passing).way
        return way[-1] if len(way) > 1 else None

    def abandon(self) -> None:
        """From now on nobody waits for the answer: `context.is_abandoned` is true, and `wait_abandoned` returns."""
        cast(_Asker, self.asker).leave()


def make_context(
    sender_id: str = "alice",
    receiver_id: str = "bob",
    *,
    requires_reply: bool = False,
    turn: Turn | None = None,
    handler_context: HandlerContext | None = None,
    metadata: Mapping[str, Any] | None = None,
    attempt: int = 1,
    organization_id: str = "acme",
    message_id: UUID | None = None,
    session_id: str | None = None,
    meeting_id: UUID | None = None,
    thread: str | None = None,
    topic: str | None = None,
) -> HandContext:
    """Make the context of a handler's run, for a test that calls the handler itself.

    Parts, passing on and giving up work as in a run of the SDK, and can be read, or caused, by the test.

    Args:
        sender_id: External id of the sender.
        receiver_id: External id of the agent whose handler it is.
        requires_reply: The sender waits for the answer: the message is an ask.
        turn: Of a turn handler, the turn that it has.
        handler_context: None follows from the others: an ask is of a conversation, a turn of a meeting, and any other
            message is one-way.
        message_id: None makes a new one.
        metadata, attempt, organization_id, session_id, meeting_id, thread, topic: As of `MessageContext`.

    Example:
        context = make_context("alice", "bob", requires_reply=True)
        assert await on_question({"text": "hi"}, context) == {"text": "hello alice"}
        assert context.sent_parts == ["hel", "lo"]
    """
    if handler_context is None:
        handler_context = HandlerContext.CONVERSATION if requires_reply else HandlerContext.ONE_WAY
        if turn is not None:
            handler_context = HandlerContext.MEETING
    is_of_meeting = handler_context in (HandlerContext.MEETING, HandlerContext.INVITATION)
    return HandContext(
        sender_id,
        receiver_id,
        organization_id=organization_id,
        handler_context=handler_context,
        message_id=message_id or uuid4(),
        session_id=session_id,
        meeting_id=meeting_id or (uuid4() if is_of_meeting else None),
        metadata=dict(metadata or {}),
        sender_name=sender_id,
        recipient_name=receiver_id,
        requires_reply=requires_reply,
        is_meeting_message=is_of_meeting,
        turn=turn,
        attempt=attempt,
        thread=thread,
        topic=topic,
        asker=_Asker(),
        passing=_Passing(receiver_id),
        parts=_Parts(),
    )
