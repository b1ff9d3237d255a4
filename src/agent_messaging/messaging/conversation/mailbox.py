"""Calls by which an agent's own code takes conversation messages, or has its handler take them up."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from functools import partial
from uuid import UUID

from ...arguments import check_external_id, check_flag, check_pair, check_patience, check_thread, parse_ids
from ...bodies import open_body
from ...delivery.current import current_run
from ...delivery.names import AgentName
from ...delivery.reading import Taking
from ...exceptions import (
    DatabaseError,
    NoHandlerRegisteredError,
    OutcomeUnknownError,
    PayloadError,
    StorageCorruptError,
)
from ...loggers import get_logger
from ...models import Kind, T
from ...payloads import MISSING
from ...storage.ports import MessageRow
from ..listing import DAMAGED
from .calls import ConversationCalls

READ_AT_ONCE = 1_000
"""Messages read and marked in one transaction."""
_LANE = ("recipient_external_id", "sender_external_id")

logger = get_logger("agent_messaging.messaging")


class ConversationMailbox(ConversationCalls[T]):
    """What is called to receive."""

    async def get_unread_messages(
        self, agent_external_id: str, *, peek: bool = False, thread: str | None = None
    ) -> list[T]:
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
            for message in await sdk.conversation.get_unread_messages("bob"):
                print(message)
        """
        check_external_id(agent_external_id, field="agent_external_id")
        return await self._read(agent_external_id, None, thread, mark=not check_flag(peek, "peek"))

    async def get_messages_from_agent(
        self,
        recipient_external_id: str,
        sender_external_id: str,
        mark_read: bool = True,
        *,
        thread: str | None = None,
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
            drafts = await sdk.conversation.get_messages_from_agent("bob", "alice")
        """
        check_pair(recipient_external_id, sender_external_id, fields=_LANE)
        mark = check_flag(mark_read, "mark_read")
        return await self._read(recipient_external_id, sender_external_id, thread, mark=mark)

    async def _read(self, recipient_id: str, sender_id: str | None, thread: str | None, *, mark: bool) -> list[T]:
        check_thread(thread)
        engine = self.engine
        sender = None if sender_id is None else (await engine.names.get(sender_id, role="sender")).id
        if not mark:
            rows = await engine.names.look_up(recipient_id, partial(self._peek, sender, thread), role="recipient")
            return self._open_all(rows)[0]
        await engine.reading.until_returned()
        with engine.reading.call() as taking:
            take = partial(self._take_all, taking, sender, thread)
            rows = await engine.names.look_up(recipient_id, take, role="recipient")
            engine.announcer.read([row.message_id for row in rows])
            return await self._open_or_reject(rows)

    async def _peek(self, sender_id: str | None, thread: str | None, recipient: AgentName) -> list[MessageRow]:
        rows: list[MessageRow] = []
        while True:
            page = await self.engine.store.sessions.read_messages(
                recipient.id,
                sender_id=sender_id,
                thread=thread,
                mark=False,
                limit=READ_AT_ONCE,
                after_seq=rows[-1].seq if rows else None,
            )
            rows += page.messages
            if page.is_last:
                return rows

    async def _take_all(
        self, taking: Taking, sender_id: str | None, thread: str | None, recipient: AgentName
    ) -> list[MessageRow]:
        rows: list[MessageRow] = []
        while True:
            try:
                page = await taking.read(recipient.id, sender_id=sender_id, thread=thread, limit=READ_AT_ONCE)
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

    async def mark_messages_read(
        self, recipient_external_id: str, message_ids: UUID | str | Iterable[UUID | str]
    ) -> int:
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
            await sdk.conversation.mark_messages_read("alice", context.message_id)
        """
        check_external_id(recipient_external_id, field="recipient_external_id")
        ids = parse_ids(message_ids, "message_ids")
        mark = self.engine.store.messages.mark_read
        return await self.engine.names.look_up(
            recipient_external_id,
            lambda recipient: mark(recipient.id, Kind.CONVERSATION, message_ids=ids),
            role="recipient",
        )

    async def get_or_wait_for_response(
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
            answer = await sdk.conversation.get_or_wait_for_response("alice", "bob", timeout=30)
        """
        fields = ("agent_a_external_id", "agent_b_external_id")
        return await self._wait_for(agent_a_external_id, agent_b_external_id, timeout, thread, fields)

    async def wait_for_message(
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
            message = await sdk.conversation.wait_for_message("bob", "alice", timeout=10)
        """
        return await self._wait_for(recipient_external_id, sender_external_id, timeout, thread, _LANE)

    async def _wait_for(
        self, recipient_id: str, sender_id: str, timeout: float | None, thread: str | None, fields: tuple[str, str]
    ) -> T | None:
        check_pair(recipient_id, sender_id, fields=fields)
        check_thread(thread)
        check_patience(timeout)
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        engine = self.engine
        await engine.names.refresh([recipient_id, sender_id])
        recipient = await engine.names.get(recipient_id, role="recipient")
        sender = await engine.names.get(sender_id, role="sender")
        await engine.reading.until_returned(deadline)
        run = current_run(engine.stations)
        while True:
            with engine.reading.call() as taking:
                row = await engine.waits.take(taking, recipient, sender, thread, deadline, run)
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

        Example:
            await sdk.conversation.resume_agent_handler("bob")
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
