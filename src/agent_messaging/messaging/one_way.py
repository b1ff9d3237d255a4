"""Notes: one payload from one sender to one or more recipients, who handle it when they can."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

from ..arguments import (
    MISSING_MESSAGE,
    check_external_id,
    check_flag,
    check_page,
    check_recipients,
    parse_id,
    parse_ids,
    refuse,
)
from ..config import MessagingConfig
from ..delivery.names import AgentName
from ..ids import uuid7
from ..models import DeliveryState, Kind, Record, T
from ..storage.ports import Duplicate, MessageRow, NewDelivery, NewGroup, Role
from .door import Door
from .listing import Read, Wanted, count_wanted, list_wanted, make_wanted, refuse_position, to_records
from .notes import make_note
from .posting import check_options, post

if TYPE_CHECKING:
    from ..delivery.engine import Engine

R = TypeVar("R")


MAX_RECIPIENTS = 10_000
"""Recipients of one call: bounds one transaction."""


class OneWayMessenger(Door, Generic[T]):
    """`sdk.one_way`: fire-and-forget messages, durable and awaitable by their receipts."""

    def __init__(self, find_engine: Callable[[], Engine], settings: MessagingConfig) -> None:
        super().__init__(find_engine)
        self.settings = settings

    async def send(
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
            [id] = await sdk.one_way.send("alice", "bob", Note(text="hi"), expires_in=3600)
        """
        if recipient_external_id is not None:
            if recipient_external_ids is not None:
                raise refuse(
                    "recipient_external_id",
                    recipient_external_id,
                    "was given beside recipient_external_ids; give one of them.",
                )
            recipient_external_ids = recipient_external_id
        recipients = check_recipients(sender_external_id, recipient_external_ids, most=MAX_RECIPIENTS)
        if require_handler is not None:
            check_options(require_handler, None)
        note = make_note(
            self.settings,
            "send",
            recipients,
            message,
            metadata,
            idempotency_key=idempotency_key,
            expires_in=expires_in,
            deliver_at=deliver_at,
        )

        def make_group(sender: AgentName, targets: Sequence[AgentName]) -> NewGroup:
            return note.make_group(sender.id, [NewDelivery(uuid7(), target.id) for target in targets])

        group, outcome = await post(
            self.engine,
            self.settings,
            sender_external_id,
            recipients,
            make_group,
            require_handler=self.settings.require_handler if require_handler is None else require_handler,
        )
        if isinstance(outcome, Duplicate):
            return outcome.message_ids
        return [delivery.message_id for delivery in group.deliveries]

    send_message = send

    # --- reading ------------------------------------------------------------------------------------------------------

    async def get_sent_messages(
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
            for record in await sdk.one_way.get_sent_messages("alice", limit=20):
                print(record.recipient_id, record.content)
        """
        return await self._list(
            sender_external_id,
            "sender",
            limit,
            offset,
            make_wanted(date_from=date_from, date_to=date_to, metadata_filter=metadata_filter, states=states),
            before,
            other_id=recipient_external_id,
        )

    async def get_received_messages(
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
            for record in await sdk.one_way.get_received_messages("bob", limit=20):
                print(record.sender_id, record.content)
        """
        check_flag(include_read, "include_read")
        return await self._list(
            recipient_external_id,
            "recipient",
            limit,
            offset,
            make_wanted(date_from=date_from, date_to=date_to, metadata_filter=metadata_filter, states=states),
            before,
            other_id=sender_external_id,
            unread_only=not include_read,
        )

    async def _list(
        self,
        agent_id: str,
        role: str,
        limit: int,
        offset: int,
        wanted: Wanted,
        before: UUID | str | None,
        *,
        other_id: str | None,
        unread_only: bool = False,
    ) -> list[Record]:
        check_page(limit, offset)
        before_id = None if before is None else parse_id(before, "before")

        async def look(agent: AgentName, other: AgentName | None) -> list[MessageRow]:
            read = self._reader(Role(role), agent, other, wanted, before_id, unread_only=unread_only)
            return await list_wanted(read, wanted, limit=limit, offset=offset)

        rows = await self._look_up_both(agent_id, role, other_id, look)
        if not rows and before_id is not None and await self.engine.store.messages.find_seq(before_id) is None:
            raise refuse_position("before", before_id)
        return await to_records(self.engine.names, rows)

    def _reader(
        self,
        role: Role,
        agent: AgentName,
        other: AgentName | None,
        wanted: Wanted,
        before_id: str | None = None,
        *,
        unread_only: bool,
    ) -> Read:
        messages = self.engine.store.messages

        async def read(limit: int, offset: int, last: MessageRow | None) -> list[MessageRow] | None:
            rows = await messages.list_messages(
                agent.id,
                role,
                Kind.ONE_WAY,
                limit=limit,
                offset=offset,
                unread_only=unread_only,
                before_id=before_id if last is None else last.message_id,
                other_id=None if other is None else other.id,
                narrowing=wanted.narrowing,
            )
            is_gone = not rows and last is not None and await messages.find_seq(last.message_id) is None
            return None if is_gone else rows

        return read

    async def mark_messages_read(
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
            number = await sdk.one_way.mark_messages_read("bob", "alice")
        """
        ids = None
        if message_ids is not None:
            if sender_external_id is not None:
                raise refuse("message_ids", message_ids, "was given beside sender_external_id; give one of them.")
            ids = parse_ids(message_ids, "message_ids")

        async def mark(recipient: AgentName, sender: AgentName | None) -> int:
            mark_read = self.engine.store.messages.mark_read
            sender_id = None if sender is None else sender.id
            return await mark_read(recipient.id, Kind.ONE_WAY, sender_id=sender_id, message_ids=ids)

        return await self._look_up_both(recipient_external_id, "recipient", sender_external_id, mark)

    async def get_message_count(
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
            unread = await sdk.one_way.get_message_count("bob", read_status=False)
        """
        if not isinstance(role, str) or role not in ("recipient", "sender"):
            raise refuse("role", role, "is refused: role must be 'recipient' or 'sender'.")
        if read_status is not None and not isinstance(read_status, bool):
            raise refuse("read_status", read_status, "must be True, False or None.")
        wanted = make_wanted(date_from=date_from, date_to=date_to, metadata_filter=metadata_filter, states=states)

        def counts(row: MessageRow) -> bool:
            return read_status is None or (row.read_at is not None) == read_status

        async def count(agent: AgentName, other: AgentName | None) -> int:
            if wanted.metadata is not None:
                read = self._reader(Role(role), agent, other, wanted, unread_only=read_status is False)
                return await count_wanted(read, wanted, counts)
            return await self.engine.store.messages.count_messages(
                agent.id,
                Role(role),
                Kind.ONE_WAY,
                read=read_status,
                other_id=None if other is None else other.id,
                narrowing=wanted.narrowing,
            )

        return await self._look_up_both(agent_external_id, role, other_external_id, count)

    async def _look_up_both(
        self,
        agent_id: str,
        role: str,
        other_id: str | None,
        look: Callable[[AgentName, AgentName | None], Awaitable[R]],
    ) -> R:
        """Look with an agent and, if one is named, the other side of its messages."""
        if other_id is None:
            return await self._look_up(agent_id, role, lambda agent: look(agent, None))
        other_role = "recipient" if role == "sender" else "sender"
        return await self._look_up(
            agent_id, role, lambda agent: self._look_up(other_id, other_role, lambda other: look(agent, other))
        )

    async def _look_up(self, external_id: str, role: str, look: Callable[[AgentName], Awaitable[R]]) -> R:
        check_external_id(external_id, field=f"{role}_external_id")
        return await self.engine.names.look_up(external_id, look, role=role)
