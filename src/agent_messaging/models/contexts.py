"""What a handler of messages gets beside the payload, and what it may answer with beside a value."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol
from uuid import UUID

from ..kinds import HandlerContext
from ..states import MessageType
from .base import T
from .meetings import Turn


class Asker(Protocol):
    """The one who waits for the answer of a handler's run, as the SDK sees it."""

    @property
    def has_left(self) -> bool:
        """Whether it does not wait any more."""
        ...

    async def wait_until_left(self) -> None:
        """Wait until it does not wait any more."""
        ...


class Passing(Protocol):
    """Passes the ask of a handler's run on, as the SDK does it."""

    async def forward(self, to_external_id: str) -> tuple[str, ...]: ...


class Parts(Protocol):
    """Sends the parts of a handler's answer, as the SDK does it."""

    async def send(self, payload: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class FinalAnswer(Generic[T]):
    """The answer of a handler that yields the parts before it: the last thing that it yields.

    Without one, the answer is the list of what the handler has yielded.

    Example:
        @register_conversation_handler(agent="writer")
        async def on_request(request: dict, context: MessageContext) -> AsyncIterator[object]:
            text = ""
            async for token in generate(request["topic"]):
                text += token
                yield token
            yield FinalAnswer({"text": text})
    """

    value: T
    """What a handler that does not yield would return; None answers nothing."""


@dataclass(frozen=True)  # without slots, so that `make_context` can fill it in one go
class MessageContext:
    """The facts about a message that a handler gets beside its payload.

    The SDK makes it. A test of a handler makes its own, with the fields it reads: `MessageContext("alice", "bob")`.
    """

    sender_id: str
    """The sender's external id."""
    receiver_id: str
    """The recipient's external id."""
    organization_id: str = ""
    """The external id of the recipient's organization."""
    handler_context: HandlerContext = HandlerContext.ONE_WAY
    message_id: UUID | None = None
    """The same in every run of this message: use it to make a handler idempotent."""
    session_id: str | None = None
    meeting_id: UUID | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    sender_name: str = ""
    recipient_name: str = ""
    message_type: MessageType = MessageType.USER_DEFINED
    requires_reply: bool = False
    is_meeting_message: bool = False
    turn: Turn | None = None
    """The turn for which a turn handler is called, with what was said since the agent's last speech."""
    attempt: int = 1
    """1 in the first run; a repeat (after a failure, a crash or a timeout) counts up."""
    thread: str | None = None
    """The name of the thread of a conversation message; None is the main one."""
    topic: str | None = None
    """The topic of a message that was published, not the pattern by which the agent is subscribed."""
    asker: Asker | None = field(default=None, repr=False, compare=False)
    """Made by the SDK for the run of an ask; see `is_abandoned`."""
    passing: Passing | None = field(default=None, repr=False, compare=False)
    """Made by the SDK for the run of a conversation message; see `forward`."""
    parts: Parts | None = field(default=None, repr=False, compare=False)
    """Made by the SDK for the run of an ask whose asker reads parts; see `part`."""

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits for the answer of this run any more.

        That is so when the asker was cancelled, timed out or died, when the conversation was ended, and when the
        asker's agent was removed, in whatever process. It costs nothing to read, in a thread too. A run that was told
        in no other way sees it within a second, or within the slow poll (0.25 s on SQLite, 2 s on PostgreSQL) if that
        is later. It is False in the run of any other message: nobody waits for its answer.

        Example:
            for page in report.pages:
                if context.is_abandoned:
                    return None
                await render(page)
        """
        return self.asker is not None and self.asker.has_left

    async def wait_abandoned(self) -> None:
        """Wait until nobody waits for the answer of this run any more; see `is_abandoned`.

        An asker in this process, and as a rule one in another, is noticed at once; one that was killed, when its
        process is found dead (0.25 s on SQLite; on PostgreSQL when its lease is over, some seconds). In the run of any
        other message it waits until it is cancelled.

        Raises:
            EventLoopError: It is called in a thread. A plain function reads `is_abandoned`.

        Example:
            async with asyncio.TaskGroup() as group:
                rendering = group.create_task(render(report))
                watching = group.create_task(context.wait_abandoned())
                watching.add_done_callback(lambda _: rendering.cancel())
                rendering.add_done_callback(lambda _: watching.cancel())
        """
        if self.asker is None:
            await asyncio.get_running_loop().create_future()
        else:
            await self.asker.wait_until_left()

    async def part(self, payload: Any) -> None:
        """Send a part of the answer to the asker, before the answer.

        An asker that iterates over `sdk.conversation.ask` gets it, in whatever process, as a rule within some
        milliseconds; what is sent within 50 ms goes together. For any other message, and when the asker has gone, the
        call does nothing: so `send_and_wait` ignores parts, at no cost. Parts are not promised: only the answer is
        kept. After a crash the new run sends its parts from the beginning, and the asker is told.

        A run that is 10,000 parts or 16 MiB ahead of its asker waits here until that has read, or gone.

        Args:
            payload: As of `one_way.send`, and of its size.

        Raises:
            PayloadError: It cannot be stored as JSON, or is too large.
            EventLoopError: It is called in a thread. Make the handler `async def`.

        Example:
            async def on_request(request: dict, context: MessageContext) -> dict:
                for chapter in request["chapters"]:
                    await context.part(await write(chapter))
                return {"chapters": len(request["chapters"])}
        """
        if self.parts is not None:
            await self.parts.send(payload)
        await asyncio.sleep(0)  # a handler that awaits nothing else would keep everything else from running

    async def forward(self, to_external_id: str) -> tuple[str, ...]:
        """Pass the ask of this run on to another agent, whose answer the asker gets as if it had asked that one.

        The ask goes along as it is: the asker, its message with its id, its deadline, and its thread. When this
        returns that is committed, and the run owes no answer: what the handler returns is dropped with a warning, and a
        `reply` to this ask is refused. Repeating the call does nothing more. If it is cancelled the outcome is unknown,
        and a repeat tells.

        Args:
            to_external_id: The new agent.

        Returns:
            The way of the ask: the external ids of all agents that have had it, the new one last.

        Raises:
            SessionStateError: Nobody waits for an answer of this run (any more), the ask went to another agent already,
                or it was passed on 16 times.
            ClaimLostError: The run was taken over by another one, or it has ended.
            MutualWaitError: The new agent waits for the asker, and could not answer; names the circle.
            SessionLockError: The asker waits for the new agent already, in the same thread.
            AgentNotFoundError: There is no such agent (any more); names the closest.
            NoHandlerRegisteredError: Nobody serves the new agent, and it does not wait for the asker's message.
            MailboxFullError: The new agent's mailbox is full.
            InvalidArgumentError: The new agent is the asker, or has the ask already.
            EventLoopError: The call comes from a thread. Make the handler `async def`.
            OutcomeUnknownError: The store did not answer in time. Repeat the call.
            DatabaseError: The store failed; nothing was changed.
            RuntimeError: This is the context of no conversation message.

        Example:
            @register_conversation_handler(agent="front")
            async def on_question(question: dict, context: MessageContext) -> dict | None:
                if question["topic"] == "billing":
                    await context.forward("billing")
                    return None
                return {"text": "Have you turned it off and on again?"}
        """
        if self.passing is None:
            raise RuntimeError(
                "There is no ask to pass on: only the SDK's context of a conversation message has one. In a test of a "
                "handler, give MessageContext(..., passing=...) an object with an async forward()."
            )
        return await self.passing.forward(to_external_id)

    @property
    def sender_external_id(self) -> str:
        """The sender's external id."""
        return self.sender_id

    @property
    def recipient_external_id(self) -> str:
        """The recipient's external id."""
        return self.receiver_id
