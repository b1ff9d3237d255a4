"""Calls that send without waiting, answer, and end a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from ...arguments import MISSING_MESSAGE, check_external_id, check_name, check_pair, parse_id
from ...delivery.current import Run, current_run, outlived_run
from ...exceptions import SessionNotFoundError, SessionStateError
from ...ids import uuid7
from ...models import AskState, T
from ...payloads import checksum, encode
from ...storage.ports import MAIN, Answering, AskRow, Duplicate, EndedSession, NewEnding, NotWaiting
from .calls import ConversationCalls
from .drafts import Draft, make_draft, thread_of_run
from .held import NAME_AN_OPEN_ONE, REFUSED, explain_end, get_open_ask

_ENDING = encode({"type": "conversation_ended", "reason": "explicit_end"}, limit_bytes=1_000)
_SEND_INSTEAD = "Use send_no_wait for a message of its own."


class ConversationCorrespondence(ConversationCalls[T]):
    """What is called to send, to answer, and to end."""

    async def send_no_wait(
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
            await sdk.conversation.send_no_wait("alice", "bob", TaskRequest(task="process_data"))
        """
        draft = make_draft(
            self.settings,
            "send_no_wait",
            sender_external_id,
            recipient_external_id,
            message,
            metadata,
            thread=thread,
            idempotency_key=idempotency_key,
            notify=True,
            deliver_at=deliver_at,
            expires_in=expires_in,
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
            thread=thread,
            answers=Answering.REQUIRED,
            idempotency_key=idempotency_key,
        )
        if message_id is not None:
            draft.answered_id = parse_id(message_id, field="message_id")
            draft.thread, draft.is_anywhere = await self._find_thread(draft), False
            return await self._send(draft)
        self._refuse_passed_on(sender_external_id, recipient_external_id)
        run = outlived_run(self.engine.stations)
        if thread is None and run is not None and self._is_about(run, sender_external_id, recipient_external_id):
            draft.answered_id, draft.thread, draft.is_anywhere = run.delivery.message_id, run.delivery.thread, False
            try:
                return await self._send(draft)
            except SessionStateError:  # that ask is over, so the task speaks for the agent as its own code does
                draft.answered_id, draft.thread, draft.is_anywhere = None, MAIN, True
        return await self._send(draft)

    async def _find_thread(self, draft: Draft) -> str:
        """The thread of the ask that it answers. A repeat under its key is answered as the first time."""
        engine = self.engine
        assert draft.answered_id is not None
        sender, recipient = await engine.names.get_all([draft.sender, draft.recipient])
        found = await engine.store.sessions.find_asks([draft.answered_id])
        is_theirs = bool(found) and found[0].asker_id == recipient.id
        if not is_theirs or draft.idempotency_key is None:
            ask = await get_open_ask(engine, sender, draft.answered_id)
            if ask.asker_id != recipient.id:
                raise SessionStateError(
                    f"The ask {draft.answered_id} is not {draft.recipient!r}'s. Nothing was stored.",
                    remedy=NAME_AN_OPEN_ONE,
                )
            found = [ask]
        session = await engine.store.sessions.find_session(found[0].session_id)
        return draft.thread if session is None else session.thread

    async def refuse(self, agent_external_id: str, message_id: UUID | str, reason: str) -> None:
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
            for ask in await sdk.conversation.list_open_asks("alice"):
                await sdk.conversation.refuse("alice", ask.message_id, "I am on holiday until Monday.")
        """
        check_external_id(agent_external_id, field="agent_external_id")
        id = parse_id(message_id, field="message_id")
        why = REFUSED + check_name(reason, field="reason")
        engine = self.engine
        await engine.names.refresh([agent_external_id])
        agent = await engine.names.get(agent_external_id)

        async def refuse() -> list[AskRow]:
            close = engine.store.sessions.close_asks
            rows = await close([id], AskState.FAILED, responder_id=agent.id, reason=why)
            for row in rows:
                engine.announcer.refused(row)
            return rows

        rows = await engine.commits.run(refuse())
        if not rows:
            await get_open_ask(engine, agent, id)
        elif rows[0].responder_id != agent.id or rows[0].reason != why:
            raise await explain_end(engine, agent, rows[0])

    def _refuse_passed_on(self, sender: str, recipient: str) -> None:
        """Raise in a run that has passed the recipient's ask on: another open ask of it is not what is meant."""
        stations = self.engine.stations
        run = current_run(stations) or outlived_run(stations)
        if run is not None and run.has_passed_on and self._is_about(run, sender, recipient):
            raise SessionStateError(
                f"{sender!r} has passed this ask of {recipient!r} on: it is another agent's to answer. Nothing was "
                "stored.",
                remedy=_SEND_INSTEAD,
            )

    def _is_about(self, run: Run, agent: str, asker: str) -> bool:
        """Whether it handles an ask of this asker to this agent."""
        if run.delivery.ask_timeout is None or run.station.agent.external_id != agent:
            return False
        found = self.engine.names.cached_by_id(run.delivery.sender_id)
        return found is not None and found.external_id == asker

    async def forward(self, agent_external_id: str, message_id: str | UUID, to_external_id: str) -> tuple[str, ...]:
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
            await sdk.conversation.forward("front", context.message_id, "billing")
        """
        id = parse_id(message_id, field="message_id")
        check_external_id(agent_external_id, field="agent_external_id")
        check_external_id(to_external_id, field="to_external_id")
        return await self.engine.forwarding.forward(agent_external_id, id, to_external_id)

    async def _send(self, draft: Draft) -> str:
        engine = self.engine
        match await draft.post(engine, self.settings):
            case Duplicate([message_id]):
                return message_id
            case NotWaiting(threads=[first, _, *_] as threads):
                names = ", ".join(map(repr, threads))
                raise SessionStateError(
                    f"{draft.recipient!r} waits for {draft.sender!r} in several threads ({names}), and this reply "
                    "names none of them. Nothing was stored.",
                    remedy=f"Name the one that it answers: reply(…, thread={first!r}).",
                )
            case NotWaiting(None):
                raise SessionNotFoundError(
                    f"{draft.sender!r} and {draft.recipient!r} have no open session{_in(draft.thread)}, so there is "
                    "nothing to reply to.",
                    remedy=_SEND_INSTEAD,
                )
            case NotWaiting():
                raise SessionStateError(
                    f"{draft.recipient!r} does not wait for an answer of {draft.sender!r}{_in(draft.thread)}: it was "
                    "answered, or gave up. Nothing was stored.",
                    remedy=_SEND_INSTEAD,
                )
        return draft.message_id

    async def end_conversation(
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
            await sdk.conversation.end_conversation("alice", "bob")
        """
        check_pair(agent_external_id, other_agent_external_id, fields=("agent_external_id", "other_agent_external_id"))
        named = thread_of_run() if thread is None else check_external_id(thread, field="thread")
        engine = self.engine
        agent, other = await engine.names.get_all([agent_external_id, other_agent_external_id])
        ending = NewEnding(uuid7(), _ENDING, checksum(_ENDING, None))

        async def end() -> EndedSession | None:
            ended = await engine.store.sessions.end_session(agent.id, other.id, ending, named)
            if ended is not None:
                engine.announcer.ended(ended)
            return ended

        if await engine.commits.run(end()) is None:
            await engine.names.look_again(agent)
            await engine.names.look_again(other)
            raise SessionNotFoundError(
                f"{agent_external_id!r} and {other_agent_external_id!r} have no open session{_in(named)}. "
                "Their next message opens one."
            )


def _in(thread: str) -> str:
    return f" in the thread {thread!r}" if thread else ""
