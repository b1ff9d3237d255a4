"""Conversations, for code without asyncio.

Written by scripts/generate_sync.py from `agent_messaging.messaging.conversation`: change that, and run it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar, overload
from uuid import UUID

from typing_extensions import TypeForm

from ..arguments import MISSING_MESSAGE
from ..messaging.conversation import Conversation as AsyncConversation
from ..messaging.conversation.polls import Outcome
from ..messaging.conversation.sessions import SessionId
from ..models import DeliveryState, MessageType, Record, Session, SessionStatus, T
from ..payloads import MISSING
from .running import Blocking
from .streams import AskStream

R = TypeVar("R")
P = TypeVar("P")


class Conversation(Blocking[AsyncConversation[T]], Generic[T]):
    """`sdk.conversation`: questions with answers, and correspondence. Every message is durable.

    Two agents have one open session at a time: their first message opens it, `end_conversation` ends it, and the next
    message opens another one. Calls that name a `thread` have sessions of their own, one in each, side by side with
    that one. Calls that read are about all threads, unless one is named.
    """

    @overload
    def send_and_wait(
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
    def send_and_wait(
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

    def send_and_wait(
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
            answer = sdk.conversation.send_and_wait("alice", "support", Query(text="How?"), timeout=60)
        """
        return self._run(
            lambda: self._any.send_and_wait(
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
        )

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
    ) -> Any:
        """Ask another agent, and read the parts of its answer as they come.

        The handler sends parts by `context.part`, or by yielding them. `for` over what this returns gives them in
        their order, and ends with the ask; `stream.answer` is the answer. The arguments are checked here;
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
            keeping the stream, gives the ask up, as cancelling does; `with` says so at its end.

        Raises:
            InvalidArgumentError, PayloadError: As of `one_way.send`.
            PartsRestartedError: In the loop: another run has taken the ask over, and begins its parts anew. Drop those
                you have, and iterate again.
            HandlerError: In the loop: a part does not fit `part_type`.
            AgentMessagingError: In the loop, and from `answer`: what `send_and_wait` raises.

        Example:
            stream = sdk.conversation.ask("alice", "writer", {"topic": "tea"}, timeout=60)
            for token in stream:
                print(token, end="")
            answer = stream.answer
        """
        return AskStream(
            self._runner,
            lambda: self._any.ask(
                sender_external_id,
                recipient_external_id,
                message,
                timeout,
                metadata,
                part_type=part_type,
                response_type=response_type,
                thread=thread,
                wait_for_session=wait_for_session,
                idempotency_key=idempotency_key,
                require_handler=require_handler,
            ),
        )

    @overload
    def ask_many(
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
    def ask_many(
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

    def ask_many(
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
    ) -> Any:
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
            outcomes = sdk.conversation.ask_many("alice", ["bob", "carol"], Query(text="Free at four?"), first=1)
            answers = [outcome.answer for outcome in outcomes if outcome.is_answered]
        """
        return self._run(
            lambda: self._any.ask_many(
                sender_external_id,
                recipient_external_ids,
                message,
                timeout,
                metadata,
                response_type=response_type,
                first=first,
                thread=thread,
                idempotency_key=idempotency_key,
                require_handler=require_handler,
            )
        )

    def send_no_wait(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = MISSING_MESSAGE,
        metadata: Mapping[str, Any] | None = None,
        *,
        thread: str | None = None,
        idempotency_key: str | None = None,
        expires_in: float | None = None,
        deliver_at: datetime | None = None,
    ) -> str:
        """Send a message to another agent, and go on.

        When it returns, the message is committed and synced. If the recipient waits for the sender, in
        `wait_for_message` or by an ask that the sender's own code has read outside any handler, that call has it.
        Otherwise the recipient's conversation handler runs, and what it returns is kept as an unread message of the
        sender; without a handler the message waits until it is read. Either way it is unread until the recipient reads
        it. A message with `deliver_at` is nobody's until then: no handler runs, no call reads it, and it is no answer.

        Args:
            sender_external_id: Who sends.
            recipient_external_id: Who receives.
            message: The payload, as of `one_way.send`.
            metadata: Small JSON mapping that travels with the message to `context.metadata`.
            thread: The name of the conversation; None is the main one, or in a handler's run that of the message which
                it handles. Without a name it also answers what the sender's own code has read in the only other thread
                in which it has read any ask of the recipient.
            idempotency_key: 1 to 255 characters, among this sender's calls of `send_no_wait`.
            expires_in: Seconds from now after which a message that nobody began to handle, or read, expires; None is
                never.
            deliver_at: An aware instant before which nobody gets it; None is now.

        Returns:
            The message's id; `sdk.receipts` follows it.

        Raises:
            AgentNotFoundError: One of the two is not registered; names the closest.
            MailboxFullError, InvalidArgumentError, PayloadError, IdempotencyConflictError: As of `one_way.send`.
            OutcomeUnknownError: The store did not answer in time. Repeat with the same idempotency_key.
            DatabaseError: The store refused; nothing was stored.

        Example:
            sdk.conversation.send_no_wait("alice", "bob", TaskRequest(task="process_data"))
        """
        return self._run(
            lambda: self._async.send_no_wait(
                sender_external_id,
                recipient_external_id,
                message,
                metadata,
                thread=thread,
                idempotency_key=idempotency_key,
                expires_in=expires_in,
                deliver_at=deliver_at,
            )
        )

    send_message = send_no_wait

    def reply(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = MISSING_MESSAGE,
        metadata: Mapping[str, Any] | None = None,
        *,
        thread: str | None = None,
        message_id: UUID | str | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Answer an agent that waits, inside or outside the handler of its ask.

        In the handler of an ask of the recipient it answers that ask alone, and so it does in a task that the handler
        has started and that goes on after it, as long as that ask is open. Elsewhere it answers the one that is open
        in the thread, or without a name the one that the sender's own code has read, the one of the main thread, or the
        only one. It takes neither `deliver_at` nor `expires_in`: an answer goes to a caller that waits now, with the
        end of its ask.

        Args:
            sender_external_id: Who answers.
            recipient_external_id: Who waits.
            message: The answer's payload.
            metadata: Small JSON mapping that is stored with the answer.
            thread: The name of the conversation in which the recipient waits.
            message_id: The ask that it answers, by the id of its message (`list_open_asks`), and no other one, should
                that be over. None: as said above.
            idempotency_key: 1 to 255 characters, among this sender's calls of `reply`.

        Returns:
            The answer's message id.

        Raises:
            SessionNotFoundError: The two have no open session.
            SessionStateError: The recipient does not wait for the sender (any more), or not for this answer, or in
                several threads of which none was named; or the ask that is named is over, or another agent's. Nothing
                was stored.
            AgentNotFoundError: One of the two is not registered; names the closest.
            InvalidArgumentError, PayloadError, IdempotencyConflictError: As of `one_way.send`.
            OutcomeUnknownError: The store did not answer in time. Repeat with the same idempotency_key.
            DatabaseError: The store refused; nothing was stored.

        Example:
            def on_question(question: Query, context: MessageContext) -> None:
                if context.requires_reply:
                    sdk.conversation.reply("bob", context.sender_id, Answer(text="I'm Bob!"))
        """
        return self._run(
            lambda: self._async.reply(
                sender_external_id,
                recipient_external_id,
                message,
                metadata,
                thread=thread,
                message_id=message_id,
                idempotency_key=idempotency_key,
            )
        )

    def refuse(self, agent_external_id: str, message_id: UUID | str, reason: str) -> None:
        """Refuse an open ask: its asker gets a `HandlerError` with the reason, at once.

        It is for people, and for an agent's own code; a handler refuses by raising an error. A handler that is at work
        on the ask goes on, and its answer is kept as an unread message. Repeating the call changes nothing. Cancelled,
        its outcome is unknown, and a repeat tells.

        Args:
            agent_external_id: Who was asked.
            message_id: The ask, by the id of its message.
            reason: A sentence for the asker, 1 to 255 characters on one line.

        Raises:
            SessionStateError: The ask is over, or is none, or another agent has it. Says which.
            AgentNotFoundError: There is no such agent.
            InvalidArgumentError: The id is none, or the reason is no such text.
            OutcomeUnknownError: The store did not answer in time. Repeat the call.
            DatabaseError: The store failed; nothing was changed.

        Example:
            for ask in sdk.conversation.list_open_asks("alice"):
                sdk.conversation.refuse("alice", ask.message_id, "I am on holiday until Monday.")
        """
        self._run(lambda: self._async.refuse(agent_external_id, message_id, reason))

    def forward(self, agent_external_id: str, message_id: str | UUID, to_external_id: str) -> tuple[str, ...]:
        """Pass an open ask on to another agent, whose answer its asker gets as if it had asked that one.

        It is `context.forward` for an agent's own code: for an ask that it has read, or that waits for it. In the
        handler of the ask both are the same; from elsewhere an ask that a handler is at work on is left to that. It
        takes neither `deliver_at` nor `expires_in`: the asker waits now, and the ask keeps its deadline.

        Args:
            agent_external_id: Who has the ask.
            message_id: The ask, by the id of its message.
            to_external_id: Who gets it.

        Returns:
            The way of the ask: the external ids of all agents that have had it, the new one last.

        Raises:
            SessionStateError: The ask is over, or is none; another agent has it; a handler of this agent is at work on
                it; or it was passed on 16 times. Says which.
            ClaimLostError, MutualWaitError, SessionLockError, AgentNotFoundError: As of `MessageContext.forward`.
            NoHandlerRegisteredError, MailboxFullError, InvalidArgumentError: The same.
            OutcomeUnknownError: The store did not answer in time. Repeat the call.
            DatabaseError: The store failed; nothing was changed.

        Example:
            sdk.conversation.forward("front", context.message_id, "billing")
        """
        return self._run(lambda: self._async.forward(agent_external_id, message_id, to_external_id))

    def end_conversation(
        self, agent_external_id: str, other_agent_external_id: str, *, thread: str | None = None
    ) -> None:
        """End the open session of two agents in a thread. Whoever waits in it gets `ConversationEndedError`.

        The ending is kept in the session as a message of type `ending`. Messages that wait to be handled are handled.
        The next message of the two in the thread opens a new session. Their other threads go on. A call that waits for
        a message of any thread ends with the main one.

        Args:
            agent_external_id: Who ends it.
            other_agent_external_id: The other one.
            thread: The name of the conversation; None is the main one, or in a handler's run that of the message which
                it handles.

        Raises:
            SessionNotFoundError: They have no open session there; a `SessionStateError`.
            AgentNotFoundError: One of the two is not registered; names the closest.
            OutcomeUnknownError: The store did not answer in time. Repeating it ends what is still open.
            DatabaseError: The store failed; nothing was ended.

        Example:
            sdk.conversation.end_conversation("alice", "bob")
        """
        self._run(lambda: self._async.end_conversation(agent_external_id, other_agent_external_id, thread=thread))

    def get_unread_messages(self, agent_external_id: str, *, peek: bool = False, thread: str | None = None) -> list[T]:
        """Take an agent's unread conversation messages, oldest first, and mark them as read.

        Reading takes: a message that no handler has begun with is done, and none will. If this process dies before it
        has worked on them, they are read all the same and stay in the history (`get_messages_in_session`). A call that
        is cancelled, or fails, gives back what it took: it is unread again. `peek=True` leaves everything as it is.

        A message whose stored payload is damaged is not among the payloads. With `peek=True` it is passed over with a
        line in the log. Else it becomes a dead letter with the reason (`sdk.dead_letters`), as it would with a handler,
        and its asker gets a `HandlerError`.

        Args:
            agent_external_id: Whose.
            peek: True marks nothing.
            thread: Of this thread alone; None is all.

        Returns:
            The payloads, of the SDK's type parameter where they fit it, else plain JSON. Empty if there are none.

        Raises:
            AgentNotFoundError: There is no such agent.
            OutcomeUnknownError: The store did not answer in time: some may have been marked. See
                `get_messages_in_session`.
            DatabaseError: The store failed; nothing was marked.

        Example:
            for message in sdk.conversation.get_unread_messages("bob"):
                print(message)
        """
        return self._run(lambda: self._async.get_unread_messages(agent_external_id, peek=peek, thread=thread))

    def get_messages_from_agent(
        self, recipient_external_id: str, sender_external_id: str, mark_read: bool = True, *, thread: str | None = None
    ) -> list[T]:
        """Take the unread conversation messages of one sender, oldest first.

        Args:
            recipient_external_id: Whose messages.
            sender_external_id: Who sent them.
            mark_read: False leaves everything as it is; see `get_unread_messages`.
            thread: Of this thread alone; None is all.

        Returns:
            The payloads; empty if there are none.

        Raises:
            AgentNotFoundError, OutcomeUnknownError, DatabaseError: As of `get_unread_messages`.

        Example:
            drafts = sdk.conversation.get_messages_from_agent("bob", "alice")
        """
        return self._run(
            lambda: self._async.get_messages_from_agent(
                recipient_external_id, sender_external_id, mark_read, thread=thread
            )
        )

    def mark_messages_read(self, recipient_external_id: str, message_ids: UUID | str | Iterable[UUID | str]) -> int:
        """Mark conversation messages as read, as a screen does that has shown them. It takes and settles nothing.

        Args:
            recipient_external_id: Who received them.
            message_ids: One id, or several; those that are read already, or are no conversation messages of this
                recipient, are passed over.

        Returns:
            How many were marked.

        Raises:
            AgentNotFoundError: There is no such agent.
            InvalidArgumentError: An id is no UUID.
            DatabaseError: The store failed; nothing was marked.

        Example:
            sdk.conversation.mark_messages_read("alice", context.message_id)
        """
        return self._run(lambda: self._async.mark_messages_read(recipient_external_id, message_ids))

    def get_or_wait_for_response(
        self,
        agent_a_external_id: str,
        agent_b_external_id: str,
        timeout: float | None = None,
        *,
        thread: str | None = None,
    ) -> T | None:
        """Take agent A's next message from agent B: one that is there already, or the next that comes.

        The same as `wait_for_message(a, b, timeout, thread=…)`.

        Example:
            answer = sdk.conversation.get_or_wait_for_response("alice", "bob", timeout=30)
        """
        return self._run(
            lambda: self._async.get_or_wait_for_response(
                agent_a_external_id, agent_b_external_id, timeout, thread=thread
            )
        )

    def wait_for_message(
        self,
        recipient_external_id: str,
        sender_external_id: str,
        timeout: float | None = None,
        *,
        thread: str | None = None,
    ) -> T | None:
        """Take the next conversation message from one agent: the oldest unread that no handler has had, or the next.

        While it waits, such a message is this call's, in whatever process a handler of the recipient is: no handler
        runs for it. It is then read and done. A call that is cancelled in the instant in which it takes one gives it
        back: it is unread again, and waits for a handler or the next call. One that is damaged is passed over as with
        `get_unread_messages`. One-way messages are never among them.

        Args:
            recipient_external_id: Who waits.
            sender_external_id: Whose message.
            timeout: Seconds; 0 only looks, None waits without limit.
            thread: Of this thread alone; None is any, and in a handler too: pass `context.thread` for its own.

        Returns:
            The payload, of the SDK's type parameter if it fits, else plain JSON; None if none came in time.

        Raises:
            ConversationEndedError: The conversation was ended while it waited; where it waits for any thread, the main
                one.
            AgentNotFoundError: One of the two is not registered, or was removed meanwhile.
            OutcomeUnknownError, DatabaseError: The store failed.
            NotInitializedError: The SDK was closed meanwhile.

        Example:
            message = sdk.conversation.wait_for_message("bob", "alice", timeout=10)
        """
        return self._run(
            lambda: self._async.wait_for_message(recipient_external_id, sender_external_id, timeout, thread=thread)
        )

    def resume_agent_handler(self, agent_external_id: str) -> None:
        """Have the conversation handler of an agent take up what waits for it, in this process.

        What was sent here is stored first; then this process serves the agent, with its own or a bare handler, from now
        on. It returns at once, the handler runs by itself. Start-up does the same for agents registered here.

        Raises:
            AgentNotFoundError: There is no such agent.
            NoHandlerRegisteredError: No conversation handler for it is registered in this process.

        Example:
            sdk.conversation.resume_agent_handler("bob")
        """
        self._run(lambda: self._async.resume_agent_handler(agent_external_id))

    def get_active_sessions(self, agent_external_id: str, *, thread: str | None = None) -> list[Record]:
        """List an agent's open sessions, newest first.

        Args:
            agent_external_id: Whose.
            thread: Those of this thread alone; None is all.

        Returns:
            Mappings with attribute access: session_id, other_agent_id (external), other_agent_name, status ("active",
            or "waiting" while one of the two waits for an answer), created_at, locked_by (who waits, or None), thread
            (None is the main one), ended_at (None).

        Raises:
            AgentNotFoundError: There is no such agent.

        Example:
            for session in sdk.conversation.get_active_sessions("alice"):
                print(session.other_agent_id, session.thread, session.status)
        """
        return self._run(lambda: self._async.get_active_sessions(agent_external_id, thread=thread))

    def list_sessions(
        self,
        agent_external_id: str,
        *,
        status: SessionStatus | str | None = None,
        thread: str | None = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        limit: int = 100,
        offset: int = 0,
        before: SessionId | None = None,
    ) -> list[Record]:
        """List an agent's sessions, newest first, ended ones too.

        Args:
            agent_external_id: Whose.
            status: Only those that are "active", "waiting" or "ended" now, or "open": active or waiting; None is all.
            thread: Those of this thread alone; None is all.
            date_from: Opened at or after this aware instant; None is no bound.
            date_to: Opened at or before it.
            limit: At most so many, 1 to 1,000.
            offset: So many of the newest are passed over.
            before: The id of a session: only those opened before it, so that a page costs as much however deep it is.
                Pass the id of the last one of the page before. None begins at the newest.

        Returns:
            Mappings as of `get_active_sessions`; ended_at is None while it is open. Empty if there are none.

        Raises:
            AgentNotFoundError: There is no such agent.
            InvalidArgumentError: An argument is out of range.

        Example:
            for session in sdk.conversation.list_sessions("alice", status="ended", limit=20):
                print(session.other_agent_id, session.ended_at)
        """
        return self._run(
            lambda: self._async.list_sessions(
                agent_external_id,
                status=status,
                thread=thread,
                date_from=date_from,
                date_to=date_to,
                limit=limit,
                offset=offset,
                before=before,
            )
        )

    def list_open_asks(self, agent_external_id: str, *, limit: int = 100, offset: int = 0) -> list[Record]:
        """List the open asks that wait for an agent's answer, oldest first. It marks, takes and answers nothing.

        It is for screens, and for code that answers later than its handler returned: `reply` with the id of the message
        answers one, `refuse` refuses it, and `forward` passes it on. One that a handler is at work on is among them.

        Args:
            agent_external_id: Who was asked.
            limit: At most so many, 1 to 1,000.
            offset: So many of the oldest are passed over.

        Returns:
            Mappings with attribute access: message_id, sender_id (external; who waits), content (plain JSON), metadata,
            is_damaged (True: the stored payload is not what was sent, and the content is None), thread (None is the
            main one), session_id, created_at, deadline (when the asker stops waiting). Empty if nobody waits.

        Raises:
            AgentNotFoundError: There is no such agent.
            InvalidArgumentError: An argument is out of range.

        Example:
            for ask in sdk.conversation.list_open_asks("alice"):
                print(ask.sender_id, "waits until", ask.deadline)
        """
        return self._run(lambda: self._async.list_open_asks(agent_external_id, limit=limit, offset=offset))

    def get_messages_in_session(
        self,
        session_id: SessionId,
        include_read: bool = True,
        *,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        message_types: Iterable[MessageType | str] | None = None,
        metadata_filter: Mapping[str, Any] | None = None,
        states: Iterable[DeliveryState | str] | None = None,
        limit: int | None = None,
        offset: int = 0,
        before: UUID | str | None = None,
        after: UUID | str | None = None,
        newest_first: bool = False,
    ) -> list[Record]:
        """List a session's messages, oldest first, the SDK's own included. Marks nothing as read.

        Args:
            session_id: From `context.session_id` or `get_active_sessions`; ended sessions too.
            include_read: False lists only unread ones.
            date_from: Sent at or after this aware instant; None is no bound.
            date_to: Sent at or before it.
            message_types: Of these types alone, such as ["user_defined"]; None is all.
            metadata_filter: Conditions on the metadata, as `search_messages` takes them; None is none.
            states: Whose delivery is in one of these states, such as ["queued", "dead"]; None is any.
            limit: At most so many, 1 to 1,000; None is all.
            offset: So many are passed over.
            before: The id of a message: only older ones. A page by position costs as much however deep it is, and what
                arrives meanwhile moves nothing.
            after: The id of a message: only newer ones. Pass the id of the last one of the page before.
            newest_first: List from the newest on. Then pass the id of the last one of a page as `before`.

        Returns:
            Mappings with attribute access: message_id, sender_id, sender_name, recipient_id, message_type, content
            (plain JSON), metadata, is_damaged (True: the stored payload is not what was sent, and the content is None),
            is_read, read_at, created_at, thread (None is the main one), way (external ids of the agents that have had
            an ask that was passed on, in order; empty for every other message). What stays of such an ask with an agent
            that passed it on has the type `forwarded` and an id of its own; the ask itself is in the session with the
            agent that has it.

        Raises:
            SessionNotFoundError: There is no such session; a `ValueError`.
            InvalidArgumentError: The id is not a UUID, or another argument is refused.

        Example:
            unread = sdk.conversation.get_messages_in_session(session_id, include_read=False)
        """
        return self._run(
            lambda: self._async.get_messages_in_session(
                session_id,
                include_read,
                date_from=date_from,
                date_to=date_to,
                message_types=message_types,
                metadata_filter=metadata_filter,
                states=states,
                limit=limit,
                offset=offset,
                before=before,
                after=after,
                newest_first=newest_first,
            )
        )

    def get_conversation_history(
        self,
        session_id: SessionId,
        *,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        message_types: Iterable[MessageType | str] | None = None,
        metadata_filter: Mapping[str, Any] | None = None,
        states: Iterable[DeliveryState | str] | None = None,
        limit: int | None = None,
        offset: int = 0,
        before: UUID | str | None = None,
        after: UUID | str | None = None,
        newest_first: bool = False,
    ) -> list[Record]:
        """List all of a session's messages, oldest first; see `get_messages_in_session`.

        Example:
            for said in sdk.conversation.get_conversation_history(session_id, limit=20, newest_first=True):
                print(said.sender_id, said.content)
        """
        return self._run(
            lambda: self._async.get_conversation_history(
                session_id,
                date_from=date_from,
                date_to=date_to,
                message_types=message_types,
                metadata_filter=metadata_filter,
                states=states,
                limit=limit,
                offset=offset,
                before=before,
                after=after,
                newest_first=newest_first,
            )
        )

    def get_transcript(self, session_id: SessionId, *, format: str = "markdown") -> str:
        """Return what was said in a session as a page for people, with all its messages. Marks nothing as read.

        The HTML page is one file that needs nothing else: it loads and runs nothing, follows the light or dark of the
        reader's system, and fits a phone. What agents said is shown as it is, whatever it looks like. Instants are UTC.

        Args:
            session_id: From `context.session_id` or `list_sessions`; ended sessions too.
            format: "markdown" (or "md") or "html".

        Raises:
            SessionNotFoundError: There is no such session; a `ValueError`.
            InvalidArgumentError: The id is not a UUID, or there is no such format.

        Example:
            page = sdk.conversation.get_transcript(session_id, format="html")
            Path("talk.html").write_text(page, encoding="utf-8")
        """
        return self._run(lambda: self._async.get_transcript(session_id, format=format))

    def get_session(self, session_id: SessionId) -> Session:
        """Look a session up.

        `locked_agent_id` is who waits for an answer. Ids are UUIDs; `get_session_info` has external ids and counts.

        Raises:
            SessionNotFoundError: There is no such session; a `ValueError`.
            InvalidArgumentError: The id is not a UUID.

        Example:
            session = sdk.conversation.get_session(context.session_id)
        """
        return self._run(lambda: self._async.get_session(session_id))

    def get_session_info(self, session_id: SessionId) -> Record:
        """Describe a session.

        Returns:
            A mapping with attribute access: session_id, agent_a and agent_b (each with id, external, and name), status,
            session_type, is_locked, locked_by, message_count, read_count, unread_count, created_at, updated_at,
            ended_at, thread (None is the main one).

        Raises:
            SessionNotFoundError: There is no such session; a `ValueError`.
            InvalidArgumentError: The id is not a UUID.

        Example:
            info = sdk.conversation.get_session_info(session_id)
            print(info.status, info.message_count)
        """
        return self._run(lambda: self._async.get_session_info(session_id))

    def get_session_statistics(self, agent_id: str | UUID, *, thread: str | None = None) -> Record:
        """Count an agent's conversations and their messages, ended ones included.

        Args:
            agent_id: External id or UUID.
            thread: Those of this thread alone; None is all.

        Returns:
            A mapping with attribute access: agent_id (external), total_conversations, active_sessions, total_messages,
            unread_count, sent_count, received_count, unique_conversation_partners.

        Raises:
            AgentNotFoundError: There is no such agent.

        Example:
            statistics = sdk.conversation.get_session_statistics("alice")
            print(statistics.sent_count)
        """
        return self._run(lambda: self._async.get_session_statistics(agent_id, thread=thread))
