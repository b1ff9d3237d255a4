"""One-way messages, for code without asyncio.

Written by scripts/generate_sync.py from `agent_messaging.messaging.one_way`: change that, and run it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic
from uuid import UUID

from ..arguments import MISSING_MESSAGE
from ..messaging.one_way import OneWayMessenger as AsyncOneWayMessenger
from ..models import DeliveryState, Record, T
from .running import Blocking


class OneWayMessenger(Blocking[AsyncOneWayMessenger[T]], Generic[T]):
    """`sdk.one_way`: fire-and-forget messages, durable and awaitable by their receipts."""

    def send(
        self,
        sender_external_id: str,
        recipient_external_ids: Sequence[str] | str | None = None,
        message: T | None = MISSING_MESSAGE,
        metadata: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        expires_in: float | None = None,
        deliver_at: datetime | None = None,
        require_handler: bool | None = None,
        recipient_external_id: str | None = None,
    ) -> list[str]:
        """Send a message to one or more agents.

        When it returns, the messages are committed and synced, all of them or none, and will be handled at least
        once and settled once, unless they expire, are withdrawn, or their agent is removed. Messages of one sender
        to one recipient have their first run in the order of the calls, while one process serves the recipient.

        A cancelled call has an unknown outcome: repeat it with the same `idempotency_key`, and it is stored once.

        Args:
            sender_external_id: Who sends.
            recipient_external_ids: Who receives: a list without repetitions and without the sender, or one name.
            message: The payload: a pydantic model, a dataclass, or anything that is JSON, None included. At most
                `max_payload_bytes`.
            metadata: Small JSON mapping that travels with the message to `context.metadata`; at most 64 KiB.
            idempotency_key: 1 to 255 characters. A repeat of the call under the same key answers with the first one's
                ids, before any other check; with other recipients, payload or options it is refused.
            expires_in: Seconds from now after which a message that nobody began to handle expires; None never.
            deliver_at: An aware instant before which nobody handles it; None is now.
            require_handler: False stores it also for an agent that no live process serves; None is the setting.
            recipient_external_id: Another name for a single recipient.

        Returns:
            The ids of the messages, one for each recipient in their order; `sdk.receipts` follows them.

        Raises:
            InvalidArgumentError: An argument was refused; it names the field, the value and the remedy.
            PayloadError: The payload or the metadata is not storable JSON.
            AgentNotFoundError: The sender or a recipient is not registered; names the closest.
            NoHandlerRegisteredError: Nobody serves a recipient.
            MailboxFullError: A recipient has `mailbox_limit` open messages.
            IdempotencyConflictError: The key was used for another message.
            OutcomeUnknownError: The store did not answer in time. Repeat with the same idempotency_key.
            DatabaseError: The store refused; nothing was stored.

        Example:
            [id] = sdk.one_way.send("alice", "bob", Note(text="hi"), expires_in=3600)
        """
        return self._run(
            lambda: self._async.send(
                sender_external_id,
                recipient_external_ids,
                message,
                metadata,
                idempotency_key=idempotency_key,
                expires_in=expires_in,
                deliver_at=deliver_at,
                require_handler=require_handler,
                recipient_external_id=recipient_external_id,
            )
        )

    send_message = send

    def get_sent_messages(
        self,
        sender_external_id: str,
        limit: int = 100,
        offset: int = 0,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        *,
        metadata_filter: Mapping[str, Any] | None = None,
        before: UUID | str | None = None,
        states: Iterable[DeliveryState | str] | None = None,
        recipient_external_id: str | None = None,
    ) -> list[Record]:
        """List the one-way messages an agent sent, newest first.

        Args:
            sender_external_id: Whose.
            limit: At most so many, 1 to 1,000.
            offset: So many of the newest are passed over.
            date_from: Sent at or after this aware instant; None is no bound.
            date_to: Sent at or before it.
            metadata_filter: Conditions on the metadata, as `search_messages` takes them; None is none.
            before: The id of a message: only older ones, so that a page costs as much however deep it is, and what
                arrives meanwhile moves nothing. Pass the id of the last one of the page before. None begins at the
                newest.
            states: Whose delivery is in one of these states, such as ["queued", "dead"]; None is any.
            recipient_external_id: Only those to this agent; None is any.

        Returns:
            Mappings with attribute access: message_id, sender_id, recipient_id (external ids), content (plain JSON),
            read_at, created_at, metadata, is_damaged (True: the stored payload is not what was sent, and the content
            is None), topic (None: it was not published). Empty if there are none.

        Raises:
            AgentNotFoundError: There is no such agent.
            InvalidArgumentError: An argument is out of range.

        Example:
            for record in sdk.one_way.get_sent_messages("alice", limit=20):
                print(record.recipient_id, record.content)
        """
        return self._run(
            lambda: self._async.get_sent_messages(
                sender_external_id,
                limit,
                offset,
                date_from,
                date_to,
                metadata_filter=metadata_filter,
                before=before,
                states=states,
                recipient_external_id=recipient_external_id,
            )
        )

    def get_received_messages(
        self,
        recipient_external_id: str,
        include_read: bool = True,
        limit: int = 100,
        offset: int = 0,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        *,
        metadata_filter: Mapping[str, Any] | None = None,
        before: UUID | str | None = None,
        states: Iterable[DeliveryState | str] | None = None,
        sender_external_id: str | None = None,
    ) -> list[Record]:
        """List the one-way messages an agent received, newest first. It neither marks them as read nor settles them.

        Args:
            recipient_external_id: Whose.
            include_read: False lists only those not yet marked as read.
            limit: At most so many, 1 to 1,000.
            offset: So many of the newest are passed over.
            date_from: Sent at or after this aware instant; None is no bound.
            date_to: Sent at or before it.
            metadata_filter: Conditions on the metadata, as `search_messages` takes them; None is none.
            before: The id of a message: only older ones, so that a page costs as much however deep it is, and what
                arrives meanwhile moves nothing. Pass the id of the last one of the page before. None begins at the
                newest.
            states: Whose delivery is in one of these states, such as ["queued", "dead"]; None is any.
            sender_external_id: Only those from this agent; None is any.

        Returns:
            Mappings as of `get_sent_messages`.

        Raises:
            AgentNotFoundError: There is no such agent.
            InvalidArgumentError: An argument is out of range.

        Example:
            for record in sdk.one_way.get_received_messages("bob", limit=20):
                print(record.sender_id, record.content)
        """
        return self._run(
            lambda: self._async.get_received_messages(
                recipient_external_id,
                include_read,
                limit,
                offset,
                date_from,
                date_to,
                metadata_filter=metadata_filter,
                before=before,
                states=states,
                sender_external_id=sender_external_id,
            )
        )

    def mark_messages_read(
        self,
        recipient_external_id: str,
        sender_external_id: str | None = None,
        *,
        message_ids: UUID | str | Iterable[UUID | str] | None = None,
    ) -> int:
        """Mark an agent's unread one-way messages as read: all, those of one sender, or these. It settles nothing.

        Args:
            recipient_external_id: Who received them.
            sender_external_id: Only those of this sender; None is all.
            message_ids: Only these: one id, or several. Those that are read already, or are no one-way messages of
                this recipient, are passed over. None is all.

        Returns:
            How many were marked.

        Raises:
            AgentNotFoundError: There is no such recipient or sender.
            InvalidArgumentError: An id is no UUID, or a sender was given beside ids.

        Example:
            number = sdk.one_way.mark_messages_read("bob", "alice")
        """
        return self._run(
            lambda: self._async.mark_messages_read(recipient_external_id, sender_external_id, message_ids=message_ids)
        )

    def get_message_count(
        self,
        agent_external_id: str,
        role: str = "recipient",
        read_status: bool | None = None,
        *,
        other_external_id: str | None = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        metadata_filter: Mapping[str, Any] | None = None,
        states: Iterable[DeliveryState | str] | None = None,
    ) -> int:
        """Count an agent's one-way messages.

        To count all that are unread costs the same in every mailbox. With conditions the messages are counted one by
        one, and with conditions on the metadata those are read that may fit.

        Args:
            agent_external_id: Whose.
            role: "recipient" counts what it received, "sender" what it sent.
            read_status: True counts those read, False those unread, None all.
            other_external_id: Only those from this agent, or as "sender" those to it; None is any.
            date_from: Sent at or after this aware instant; None is no bound.
            date_to: Sent at or before it.
            metadata_filter: Conditions on the metadata, as `search_messages` takes them; None is none.
            states: Whose delivery is in one of these states, such as ["queued", "dead"]; None is any.

        Raises:
            AgentNotFoundError: There is no such agent.
            InvalidArgumentError: The role is another word, or another argument is refused; names it.

        Example:
            unread = sdk.one_way.get_message_count("bob", read_status=False)
        """
        return self._run(
            lambda: self._async.get_message_count(
                agent_external_id,
                role,
                read_status,
                other_external_id=other_external_id,
                date_from=date_from,
                date_to=date_to,
                metadata_filter=metadata_filter,
                states=states,
            )
        )
