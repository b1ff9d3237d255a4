"""Calls that ask another agent and wait for its answer. `ask` has one ask, from storing it to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar, overload

from typing_extensions import TypeForm

from ...arguments import MISSING_MESSAGE, check_flag, check_timeout
from ...models import T
from ...payloads import MISSING
from .ask import Ask
from .calls import ConversationCalls
from .drafts import make_draft
from .streams import AskStream

P = TypeVar("P")
R = TypeVar("R")


class ConversationQuestions(ConversationCalls[T]):
    """What is called to ask."""

    @overload
    async def send_and_wait(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = ...,
        timeout: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        response_type: TypeForm[R],
        thread: str | None = None,
        wait_for_session: bool = False,
        idempotency_key: str | None = None,
        require_handler: bool | None = None,
    ) -> R: ...
    @overload
    async def send_and_wait(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = ...,
        timeout: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        thread: str | None = None,
        wait_for_session: bool = False,
        idempotency_key: str | None = None,
        require_handler: bool | None = None,
    ) -> Any: ...
    async def send_and_wait(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = MISSING_MESSAGE,
        timeout: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        response_type: Any = MISSING,
        thread: str | None = None,
        wait_for_session: bool = False,
        idempotency_key: str | None = None,
        require_handler: bool | None = None,
    ) -> Any:
        """Ask another agent, and wait for its answer.

        The answer is what the recipient's handler returns for this message, or what `reply` sends. Where the
        recipient's own code has read the message, its next message to the sender from outside any handler is the answer
        too, whatever call sends it. So this message is itself an answer, if the sender's own code has read an ask of
        the recipient. Otherwise it is an ask of its own, also while the recipient waits for the sender: it goes to the
        recipient's handler, and the recipient goes on waiting.

        It always returns by its timeout (and half a second). It holds no connection and no thread while it waits. A
        late answer is kept as an unread message. A cancelled call gives the ask up, unless it has an
        `idempotency_key`: a repeat under that key then joins the ask that is open, or returns how it ended. It takes
        neither `deliver_at` nor `expires_in`: its caller waits now, and its message expires with the timeout.

        Args:
            sender_external_id: Who asks, and waits.
            recipient_external_id: Who is asked.
            message: The payload, as of `one_way.send`.
            timeout: Seconds; None is the setting `default_sync_timeout` (30).
            metadata: Small JSON mapping that travels with the message to `context.metadata`.
            response_type: What the answer becomes: a pydantic model, a dataclass, …. By default the class that the
                handler returned if it ran in this process, else the SDK's type parameter if it fits, else plain JSON.
            thread: The name of the conversation, 1 to 255 characters as of external ids. The two agents may have
                several side by side, and the sender one open ask in each. None is their main thread; in a handler's run
                it is one named after the message that is handled, so that runs side by side ask without hindering each
                other.
            wait_for_session: True queues behind an open ask of the same sender to the same recipient in the thread,
                within the timeout, instead of refusing.
            idempotency_key: 1 to 255 characters, among this sender's asks.
            require_handler: False asks also an agent that no live process serves, and that answers by its own code;
                None is the setting.

        Returns:
            The answer's payload.

        Raises:
            ConversationTimeoutError: No answer came in time; a `TimeoutError`.
            ConversationEndedError: The conversation was ended meanwhile; or the ask was withdrawn, or, where a repeat
                joined it, given up.
            HandlerError: The recipient's handler failed; says why. Or its answer does not fit `response_type`.
            SessionLockError: The sender waits for this recipient in this thread already; nothing was stored. Name
                another `thread`, or pass `wait_for_session=True`.
            MutualWaitError: Waiting would close a circle of agents that wait for each other; names it; nothing was
                stored. A `SessionLockError`.
            AgentNotFoundError: One of the two is not registered, or was removed meanwhile; names the closest.
            NoHandlerRegisteredError: Nobody serves the recipient; nothing was stored.
            MailboxFullError, InvalidArgumentError, PayloadError, IdempotencyConflictError: As of `one_way.send`.
            OutcomeUnknownError: The store could not be reached by the timeout; a `TimeoutError`.
            DatabaseError: The store refused; nothing was stored.

        Example:
            answer = await sdk.conversation.send_and_wait("alice", "support", Query(text="How?"), timeout=60)
        """
        ask = self._make_ask(
            sender_external_id,
            recipient_external_id,
            message,
            timeout,
            metadata,
            response_type=response_type,
            thread=thread,
            wait_for_session=wait_for_session,
            idempotency_key=idempotency_key,
            require_handler=require_handler,
        )
        outcome = await ask.wait(wait_for_session=wait_for_session)
        return ask.open(outcome, response_type, self.payload_type())

    @overload
    def ask(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = ...,
        timeout: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        part_type: TypeForm[P],
        response_type: TypeForm[R],
        thread: str | None = None,
        wait_for_session: bool = False,
        idempotency_key: str | None = None,
        require_handler: bool | None = None,
    ) -> AskStream[P, R]: ...
    @overload
    def ask(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = ...,
        timeout: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        part_type: TypeForm[P],
        thread: str | None = None,
        wait_for_session: bool = False,
        idempotency_key: str | None = None,
        require_handler: bool | None = None,
    ) -> AskStream[P, Any]: ...
    @overload
    def ask(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = ...,
        timeout: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        response_type: TypeForm[R],
        thread: str | None = None,
        wait_for_session: bool = False,
        idempotency_key: str | None = None,
        require_handler: bool | None = None,
    ) -> AskStream[Any, R]: ...
    @overload
    def ask(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = ...,
        timeout: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        thread: str | None = None,
        wait_for_session: bool = False,
        idempotency_key: str | None = None,
        require_handler: bool | None = None,
    ) -> AskStream[Any, Any]: ...
    def ask(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = MISSING_MESSAGE,
        timeout: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        part_type: Any = MISSING,
        response_type: Any = MISSING,
        thread: str | None = None,
        wait_for_session: bool = False,
        idempotency_key: str | None = None,
        require_handler: bool | None = None,
    ) -> AskStream[Any, Any]:
        """Ask another agent, and read the parts of its answer as they come.

        The handler sends parts by `context.part`, or by yielding them. `async for` over what this returns gives them in
        their order, and ends with the ask; `await stream.answer` is the answer. The arguments are checked here;
        nothing is sent before the first part, or the answer, is awaited.

        Only the answer is durable. Parts are removed when the ask ends, and lost with the asker's process. A repeat
        under an idempotency key that joins an open ask gets the answer, and no parts. It takes neither `deliver_at` nor
        `expires_in`, as `send_and_wait`.

        Args:
            sender_external_id, recipient_external_id, message, timeout, metadata: As of `send_and_wait`; the timeout
                is for all of it, from the first await.
            part_type: What each part becomes; by default plain JSON.
            response_type, thread, wait_for_session, idempotency_key, require_handler: As of `send_and_wait`.

        Returns:
            An asynchronous iterator over the parts, with `answer` and `aclose()`. Leaving the loop by `break`, without
            keeping the stream, gives the ask up, as cancelling does; `async with` says so at its end.

        Raises:
            InvalidArgumentError, PayloadError: As of `one_way.send`.
            PartsRestartedError: In the loop: another run has taken the ask over, and begins its parts anew. Drop those
                you have, and iterate again.
            HandlerError: In the loop: a part does not fit `part_type`.
            AgentMessagingError: In the loop, and from `answer`: what `send_and_wait` raises.

        Example:
            stream = sdk.conversation.ask("alice", "writer", {"topic": "tea"}, timeout=60)
            async for token in stream:
                print(token, end="")
            answer = await stream.answer
        """
        ask = self._make_ask(
            sender_external_id,
            recipient_external_id,
            message,
            timeout,
            metadata,
            response_type=response_type,
            thread=thread,
            wait_for_session=wait_for_session,
            idempotency_key=idempotency_key,
            require_handler=require_handler,
        )
        ask.engine.decoder.check(part_type, field="part_type")
        return AskStream(
            ask,
            wait_for_session=wait_for_session,
            part_type=part_type,
            open_answer=lambda outcome: ask.open(outcome, response_type, self.payload_type()),
        )

    def _make_ask(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T,
        timeout: float | None,
        metadata: Mapping[str, Any] | None,
        *,
        response_type: Any,
        thread: str | None,
        wait_for_session: bool,
        idempotency_key: str | None,
        require_handler: bool | None,
    ) -> Ask:
        """Check what a call was given.

        Raises:
            InvalidArgumentError, PayloadError: An argument was refused.
        """
        timeout = self.settings.default_sync_timeout if timeout is None else check_timeout(timeout)
        deadline = asyncio.get_running_loop().time() + timeout
        if wait_for_session is not False:
            check_flag(wait_for_session, "wait_for_session")
        draft = make_draft(
            self.settings,
            "send_and_wait",
            sender_external_id,
            recipient_external_id,
            message,
            metadata,
            thread=thread,
            idempotency_key=idempotency_key,
            require_handler=require_handler,
            ask_timeout=timeout,
        )
        engine = self.engine
        if response_type is not MISSING:
            engine.decoder.check(response_type, field="response_type")
        return Ask(engine, self.settings, draft, timeout, deadline)
