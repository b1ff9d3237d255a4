"""Conversations of two agents: asking and waiting, answering, corresponding, and what was said."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Generic, TypeVar, overload
from uuid import UUID

from typing_extensions import TypeForm

from ..arguments import MISSING_MESSAGE, check_external_id, check_flag, check_pair, check_timeout, refuse
from ..bodies import open_body
from ..config import MessagingConfig
from ..delivery.current import current_run
from ..delivery.engine import Engine
from ..delivery.names import AgentName
from ..delivery.reading import Taking
from ..exceptions import (
    DatabaseError,
    NoHandlerRegisteredError,
    OutcomeUnknownError,
    PayloadError,
    SessionNotFoundError,
    SessionStateError,
    StorageCorruptError,
)
from ..ids import uuid7
from ..models import Kind, Record, T
from ..payloads import MISSING, checksum, encode
from ..storage.ports import Answering, Duplicate, EndedSession, MessageRow, NewEnding, NotWaiting
from . import sessions
from .asking import Ask
from .door import Door
from .drafts import Draft, make_draft
from .listing import DAMAGED

R = TypeVar("R")
READ_AT_ONCE = 1_000
"""Messages read and marked in one transaction."""
_ENDING = encode({"type": "conversation_ended", "reason": "explicit_end"}, limit_bytes=1_000)
_PAIR = ("agent_external_id", "other_agent_external_id")
_LANE = ("recipient_external_id", "sender_external_id")
_SEND_INSTEAD = "Use send_no_wait for a message of its own."

logger = logging.getLogger("agent_messaging.messaging")


class Conversation(Door, Generic[T]):
    """`sdk.conversation`: questions with answers, and correspondence. Every message is durable.

    Two agents have one open session at a time: their first message opens it, `end_conversation` ends it, and the next
    message opens another one.
    """

    def __init__(
        self, find_engine: Callable[[], Engine], settings: MessagingConfig, payload_type: Callable[[], Any]
    ) -> None:
        super().__init__(find_engine)
        self.settings = settings
        self.payload_type = payload_type

    # --- sending ------------------------------------------------------------------------------------------------------

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
        `idempotency_key`: a repeat under that key then joins the ask that is open, or returns how it ended.

        Args:
            sender_external_id: Who asks, and waits.
            recipient_external_id: Who is asked.
            message: The payload, as of `one_way.send`.
            timeout: Seconds; None is the setting `default_sync_timeout` (30).
            metadata: Small JSON mapping that travels with the message to `context.metadata`.
            response_type: What the answer becomes: a pydantic model, a dataclass, …. By default the class that the
                handler returned if it ran in this process, else the SDK's type parameter if it fits, else plain JSON.
            wait_for_session: True queues behind an open ask of the same sender to the same recipient, within the
                timeout, instead of refusing.
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
            SessionLockError: The sender waits for this recipient already; nothing was stored.
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
        timeout = self.settings.default_sync_timeout if timeout is None else check_timeout(timeout)
        deadline = asyncio.get_running_loop().time() + timeout
        if not isinstance(wait_for_session, bool):
            raise refuse("wait_for_session", wait_for_session, "must be True or False.")
        draft = make_draft(
            self.settings,
            "send_and_wait",
            sender_external_id,
            recipient_external_id,
            message,
            metadata,
            idempotency_key=idempotency_key,
            require_handler=require_handler,
            ask_timeout=timeout,
        )
        engine = self.engine
        engine.decoder.check(response_type, field="response_type")
        ask = Ask(engine, self.settings, draft, timeout, deadline)
        outcome = await ask.run(wait_for_session=wait_for_session)
        return ask.open(outcome, response_type, self.payload_type())

    async def send_no_wait(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = MISSING_MESSAGE,
        metadata: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> str:
        """Send a message to another agent, and go on.

        When it returns, the message is committed and synced. If the recipient waits for the sender, in
        `wait_for_message` or by an ask that the sender's own code has read outside any handler, that call has it.
        Otherwise the recipient's
        conversation handler runs, and what it returns is kept as an unread message of the sender; without a handler
        the message waits until it is read. Either way it is unread until the recipient reads it.

        Args:
            sender_external_id: Who sends.
            recipient_external_id: Who receives.
            message: The payload, as of `one_way.send`.
            metadata: Small JSON mapping that travels with the message to `context.metadata`.
            idempotency_key: 1 to 255 characters, among this sender's calls of `send_no_wait`.

        Returns:
            The message's id; `sdk.receipts` follows it.

        Raises:
            AgentNotFoundError: One of the two is not registered; names the closest.
            MailboxFullError, InvalidArgumentError, PayloadError, IdempotencyConflictError: As of `one_way.send`.
            OutcomeUnknownError: The store did not answer in time. Repeat with the same idempotency_key.
            DatabaseError: The store refused; nothing was stored.

        Example:
            await sdk.conversation.send_no_wait("alice", "bob", TaskRequest(task="process_data"))
        """
        draft = make_draft(
            self.settings,
            "send_no_wait",
            sender_external_id,
            recipient_external_id,
            message,
            metadata,
            idempotency_key=idempotency_key,
            notify=True,
        )
        return await self._send(draft)

    send_message = send_no_wait

    async def reply(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = MISSING_MESSAGE,
        metadata: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> str:
        """Answer an agent that waits, inside or outside the handler of its ask.

        In the handler of an ask of the recipient it answers that ask alone; elsewhere the one that is open.

        Args:
            sender_external_id: Who answers.
            recipient_external_id: Who waits.
            message: The answer's payload.
            metadata: Small JSON mapping that is stored with the answer.
            idempotency_key: 1 to 255 characters, among this sender's calls of `reply`.

        Returns:
            The answer's message id.

        Raises:
            SessionNotFoundError: The two have no open session.
            SessionStateError: The recipient does not wait for the sender (any more), or not for this answer; nothing
                was stored.
            AgentNotFoundError: One of the two is not registered; names the closest.
            InvalidArgumentError, PayloadError, IdempotencyConflictError: As of `one_way.send`.
            OutcomeUnknownError: The store did not answer in time. Repeat with the same idempotency_key.
            DatabaseError: The store refused; nothing was stored.

        Example:
            async def on_question(question: Query, context: MessageContext) -> None:
                if context.requires_reply:
                    await sdk.conversation.reply("bob", context.sender_id, Answer(text="I'm Bob!"))
        """
        draft = make_draft(
            self.settings,
            "reply",
            sender_external_id,
            recipient_external_id,
            message,
            metadata,
            answers=Answering.REQUIRED,
            idempotency_key=idempotency_key,
        )
        return await self._send(draft)

    async def _send(self, draft: Draft) -> str:
        engine = self.engine
        posted = await draft.post(engine, self.settings)
        match posted.outcome:
            case Duplicate([message_id]):
                return message_id
            case NotWaiting(None):
                raise SessionNotFoundError(
                    f"{draft.sender!r} and {draft.recipient!r} have no open session, so there is nothing to reply to.",
                    remedy=_SEND_INSTEAD,
                )
            case NotWaiting():
                raise SessionStateError(
                    f"{draft.recipient!r} does not wait for an answer of {draft.sender!r}: it was answered, or gave "
                    "up. Nothing was stored.",
                    remedy=_SEND_INSTEAD,
                )
        return draft.message_id

    # --- ending -------------------------------------------------------------------------------------------------------

    async def end_conversation(self, agent_external_id: str, other_agent_external_id: str) -> None:
        """End the open session of two agents. Whoever waits in it gets `ConversationEndedError`.

        The ending is kept in the session as a message of type `ending`. Messages that wait to be handled are handled.
        The next message of the two opens a new session.

        Args:
            agent_external_id: Who ends it.
            other_agent_external_id: The other one.

        Raises:
            SessionNotFoundError: They have no open session; a `SessionStateError`.
            AgentNotFoundError: One of the two is not registered; names the closest.
            OutcomeUnknownError: The store did not answer in time. Repeating it ends what is still open.
            DatabaseError: The store failed; nothing was ended.
        """
        check_pair(agent_external_id, other_agent_external_id, fields=_PAIR)
        engine = self.engine
        agent, other = await engine.names.get_all([agent_external_id, other_agent_external_id])
        ending = NewEnding(uuid7(), _ENDING, checksum(_ENDING, None))

        async def end() -> EndedSession | None:
            ended = await engine.store.sessions.end_session(agent.id, other.id, ending)
            if ended is not None:
                engine.announcer.ended(ended)
            return ended

        if await engine.commits.run(end()) is None:
            await engine.names.look_again(agent)
            await engine.names.look_again(other)
            raise SessionNotFoundError(
                f"{agent_external_id!r} and {other_agent_external_id!r} have no open session. "
                "Their next message opens one."
            )

    # --- receiving ----------------------------------------------------------------------------------------------------

    async def get_unread_messages(self, agent_external_id: str, *, peek: bool = False) -> list[T]:
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

        Returns:
            The payloads, of the SDK's type parameter where they fit it, else plain JSON. Empty if there are none.

        Raises:
            AgentNotFoundError: There is no such agent.
            OutcomeUnknownError: The store did not answer in time: some may have been marked. See
                `get_messages_in_session`.
            DatabaseError: The store failed; nothing was marked.
        """
        check_external_id(agent_external_id, field="agent_external_id")
        return await self._read(agent_external_id, None, mark=not check_flag(peek, "peek"))

    async def get_messages_from_agent(
        self, recipient_external_id: str, sender_external_id: str, mark_read: bool = True
    ) -> list[T]:
        """Take the unread conversation messages of one sender, oldest first.

        Args:
            recipient_external_id: Whose messages.
            sender_external_id: Who sent them.
            mark_read: False leaves everything as it is; see `get_unread_messages`.

        Returns:
            The payloads; empty if there are none.

        Raises:
            AgentNotFoundError, OutcomeUnknownError, DatabaseError: As of `get_unread_messages`.
        """
        check_pair(recipient_external_id, sender_external_id, fields=_LANE)
        return await self._read(recipient_external_id, sender_external_id, mark=check_flag(mark_read, "mark_read"))

    async def _read(self, recipient_id: str, sender_id: str | None, *, mark: bool) -> list[T]:
        engine = self.engine
        sender = None if sender_id is None else (await engine.names.get(sender_id, role="sender")).id
        if not mark:
            rows = await engine.names.ask(recipient_id, partial(self._peek, sender), role="recipient")
            return self._open_all(rows)[0]
        await engine.reading.until_returned()
        with engine.reading.call() as taking:
            rows = await engine.names.ask(recipient_id, partial(self._take_all, taking, sender), role="recipient")
            engine.announcer.read(row.message_id for row in rows)
            return await self._open_or_reject(rows)

    async def _peek(self, sender_id: str | None, recipient: AgentName) -> list[MessageRow]:
        rows: list[MessageRow] = []
        while True:
            page = await self.engine.store.sessions.read_messages(
                recipient.id,
                sender_id=sender_id,
                mark=False,
                limit=READ_AT_ONCE,
                after_seq=rows[-1].seq if rows else None,
            )
            rows += page.messages
            if page.is_last:
                return rows

    async def _take_all(self, taking: Taking, sender_id: str | None, recipient: AgentName) -> list[MessageRow]:
        rows: list[MessageRow] = []
        while True:
            try:
                page = await taking.read(recipient.id, sender_id=sender_id, limit=READ_AT_ONCE)
            except (DatabaseError, OutcomeUnknownError) as error:
                if not rows:
                    raise
                logger.warning("reading stopped after %d messages, the rest is for the next call: %s", len(rows), error)
                return rows
            rows += page.messages
            if page.is_last or not page.messages:
                return rows

    async def _open_or_reject(self, rows: Collection[MessageRow]) -> list[T]:
        """The payloads of what was taken; the damaged ones become dead letters."""
        payloads, damaged = self._open_all(rows)
        if damaged:
            await self.engine.reading.reject(damaged, DAMAGED)
        return payloads

    def _open_all(self, rows: Collection[MessageRow]) -> tuple[list[T], list[MessageRow]]:
        """The payloads, and the messages whose payloads are damaged, each with a line in the log."""
        payloads: list[T] = []
        damaged: list[MessageRow] = []
        for row in rows:
            try:
                payloads.append(self._open(row))
            except StorageCorruptError as error:
                logger.warning("%s", error)
                damaged.append(row)
        return payloads, damaged

    async def get_or_wait_for_response(
        self, agent_a_external_id: str, agent_b_external_id: str, timeout: float | None = None
    ) -> T | None:
        """Take agent A's next message from agent B: one that is there already, or the next that comes.

        The same as `wait_for_message(a, b, timeout)`.
        """
        return await self._wait_for(
            agent_a_external_id, agent_b_external_id, timeout, ("agent_a_external_id", "agent_b_external_id")
        )

    async def wait_for_message(
        self, recipient_external_id: str, sender_external_id: str, timeout: float | None = None
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

        Returns:
            The payload, of the SDK's type parameter if it fits, else plain JSON; None if none came in time.

        Raises:
            ConversationEndedError: The conversation was ended while it waited.
            AgentNotFoundError: One of the two is not registered, or was removed meanwhile.
            OutcomeUnknownError, DatabaseError: The store failed.
            NotInitializedError: The SDK was closed meanwhile.
        """
        return await self._wait_for(recipient_external_id, sender_external_id, timeout, _LANE)

    async def _wait_for(
        self, recipient_id: str, sender_id: str, timeout: float | None, fields: tuple[str, str]
    ) -> T | None:
        check_pair(recipient_id, sender_id, fields=fields)
        if timeout != 0 or timeout is False:
            check_timeout(timeout, allow_none=True)
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        engine = self.engine
        await engine.names.refresh([recipient_id, sender_id])
        recipient = await engine.names.get(recipient_id, role="recipient")
        sender = await engine.names.get(sender_id, role="sender")
        await engine.reading.until_returned(deadline)
        run = current_run(engine.stations)
        while True:
            with engine.reading.call() as taking:
                row = await engine.awaiting.take(taking, recipient, sender, deadline, run)
                if row is None:
                    return None
                engine.announcer.read([row.message_id])
                for payload in await self._open_or_reject([row]):
                    return payload

    def _open(self, row: MessageRow) -> T:
        plain = open_body(row, f"message {row.message_id}").content
        annotation = self.payload_type()
        if annotation is MISSING:
            return plain  # type: ignore[no-any-return]
        try:
            return self.engine.decoder.decode(row.content, annotation)  # type: ignore[no-any-return]
        except PayloadError:
            return plain  # type: ignore[no-any-return]

    async def resume_agent_handler(self, agent_external_id: str) -> None:
        """Have the conversation handler of an agent take up what waits for it, in this process.

        What was sent here is stored first; then this process serves the agent, with its own or a bare handler, from now
        on. It returns at once, the handler runs by itself. Start-up does the same for agents registered here.

        Raises:
            AgentNotFoundError: There is no such agent.
            NoHandlerRegisteredError: No conversation handler for it is registered in this process.
        """
        check_external_id(agent_external_id, field="agent_external_id")
        engine = self.engine
        await engine.names.refresh([agent_external_id])
        agent = await engine.names.get(agent_external_id)
        await engine.outbox.wait_until_idle()
        if not engine.serving.can_serve(agent, Kind.CONVERSATION):
            raise NoHandlerRegisteredError(
                f"No conversation handler registered for {agent_external_id!r} in this process, so there is nothing to "
                "resume it with. Register one here, or resume it in the process that has one.",
                agents=(agent_external_id,),
                kind="conversation",
            )
        await engine.adopt([agent_external_id])
        engine.stations.resume(agent, Kind.CONVERSATION)

    # --- looking ------------------------------------------------------------------------------------------------------

    async def get_active_sessions(self, agent_external_id: str) -> list[Record]:
        """List an agent's open sessions, newest first.

        Returns:
            Mappings with attribute access: session_id, other_agent_id (external), other_agent_name, status ("active",
            or "waiting" while one of the two waits for an answer), created_at, locked_by (who waits, or None).

        Raises:
            AgentNotFoundError: There is no such agent.
        """
        return await sessions.list_active(self.engine, agent_external_id)

    async def get_messages_in_session(self, session_id: str | UUID, include_read: bool = True) -> list[Record]:
        """List a session's messages, oldest first, the SDK's own included. Marks nothing as read.

        Args:
            session_id: From `context.session_id` or `get_active_sessions`; ended sessions too.
            include_read: False lists only unread ones.

        Returns:
            Mappings with attribute access: message_id, sender_id, sender_name, recipient_id, message_type, content
            (plain JSON), metadata, is_damaged (True: the stored payload is not what was sent, and the content is None),
            is_read, read_at, created_at.

        Raises:
            SessionNotFoundError: There is no such session; a `ValueError`.
            InvalidArgumentError: The id is not a UUID.
        """
        return await sessions.list_messages(
            self.engine, session_id, include_read=check_flag(include_read, "include_read")
        )

    async def get_conversation_history(self, session_id: str | UUID) -> list[Record]:
        """List all of a session's messages, oldest first; see `get_messages_in_session`."""
        return await sessions.list_messages(self.engine, session_id, include_read=True)

    async def get_session_info(self, session_id: str | UUID) -> Record:
        """Describe a session.

        Returns:
            A mapping with attribute access: session_id, agent_a and agent_b (each with id, external, and name), status,
            session_type, is_locked, locked_by, message_count, read_count, unread_count, created_at, updated_at,
            ended_at.

        Raises:
            SessionNotFoundError: There is no such session; a `ValueError`.
            InvalidArgumentError: The id is not a UUID.
        """
        return await sessions.get_info(self.engine, session_id)

    async def get_session_statistics(self, agent_id: str | UUID) -> Record:
        """Count an agent's conversations and their messages, ended ones included.

        Args:
            agent_id: External id or UUID.

        Returns:
            A mapping with attribute access: agent_id (external), total_conversations, active_sessions, total_messages,
            unread_count, sent_count, received_count, unique_conversation_partners.

        Raises:
            AgentNotFoundError: There is no such agent.
        """
        return await sessions.get_statistics(self.engine, agent_id)
