"""Receipts and dead letters, for code without asyncio.

Written by scripts/generate_sync.py from `agent_messaging.messaging.receipts`: change that, and run it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, overload
from uuid import UUID

from ..messaging.receipts import DeadLetters as AsyncDeadLetters
from ..messaging.receipts import MessageId
from ..messaging.receipts import Receipts as AsyncReceipts
from ..models import DeadLetter, Kind, Receipt
from .running import Blocking


class Receipts(Blocking[AsyncReceipts]):
    """`sdk.receipts`: stored, claimed, handled, expired and dead are different facts, each durable."""

    def get(self, message_id: MessageId) -> Receipt:
        """Look at the receipt of one message.

        Raises:
            MessageNotFoundError: There is no such message (any more); says whether it was pruned.
            InvalidArgumentError: The id is not a UUID.

        Example:
            receipt = sdk.receipts.get(message_id)
            print(receipt.state, receipt.attempt)
        """
        return self._run(lambda: self._async.get(message_id))

    @overload
    def wait(self, message_ids: MessageId, *, timeout: float | None = None) -> Receipt: ...
    @overload
    def wait(
        self, message_ids: list[str] | list[UUID] | tuple[MessageId, ...], *, timeout: float | None = None
    ) -> list[Receipt]: ...

    def wait(self, message_ids: MessageId | Sequence[MessageId], *, timeout: float | None = None) -> Any:
        """Wait until messages are done, dead, expired or withdrawn, in whatever process that happens.

        It holds no connection and no thread while it waits. Cancelling it changes nothing in the store.

        Args:
            message_ids: One id, or a list of them as `send` returned it.
            timeout: Seconds; 0 only looks, None waits without limit.

        Returns:
            The final receipt, or the list of them in the order of the ids.

        Raises:
            TimeoutError: Some have not ended; the messages go on. Says how many, and what state the first is in.
            MessageNotFoundError: One does not exist, or was removed with its agent meanwhile.
            NotInitializedError: The SDK was closed meanwhile; the messages go on.

        Example:
            ids = sdk.one_way.send("alice", ["bob", "carol"], "hi")
            for receipt in sdk.receipts.wait(ids, timeout=10):
                print(receipt.recipient_id, receipt.state)
        """
        return self._run(lambda: self._any.wait(message_ids, timeout=timeout))

    def withdraw(self, message_ids: MessageId | Sequence[MessageId]) -> list[str]:
        """Take messages back that nobody has begun to handle.

        Returns:
            The ids of those that were withdrawn; the others were claimed or had ended already. Repeat-safe.

        Example:
            taken_back = sdk.receipts.withdraw(ids)
        """
        return self._run(lambda: self._async.withdraw(message_ids))


class DeadLetters(Blocking[AsyncDeadLetters]):
    """`sdk.dead_letters`: messages that were given up, kept with their reasons until they are redriven."""

    def list(
        self,
        recipient_external_id: str | None = None,
        *,
        limit: int = 100,
        offset: int = 0,
        kinds: Iterable[Kind | str] | None = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        metadata_filter: Mapping[str, Any] | None = None,
    ) -> list[DeadLetter]:
        """List dead letters, newest first: of one recipient, or (None) all.

        Args:
            recipient_external_id: Sent to this agent; None is any.
            limit: At most so many, 1 to 1,000.
            offset: So many of the newest are passed over.
            kinds: Of these kinds alone, such as ["one_way"]; None is all.
            date_from: Sent at or after this aware instant; None is no bound.
            date_to: Sent at or before it.
            metadata_filter: Conditions on the metadata, as `search_messages` takes them; None is none.

        Raises:
            AgentNotFoundError: There is no such agent.
            InvalidArgumentError: An argument is refused; names it.

        Example:
            for letter in sdk.dead_letters.list("bob"):
                print(letter.message_id, letter.reasons[-1])
        """
        return self._run(
            lambda: self._async.list(
                recipient_external_id,
                limit=limit,
                offset=offset,
                kinds=kinds,
                date_from=date_from,
                date_to=date_to,
                metadata_filter=metadata_filter,
            )
        )

    def redrive(
        self, message_ids: MessageId | Sequence[MessageId] | None = None, *, recipient_external_id: str | None = None
    ) -> int:
        """Queue dead letters again, with all their attempts before them.

        Args:
            message_ids: Which; None means all of the recipient.
            recipient_external_id: Of whom; one of the two must be given.

        Returns:
            How many were queued; those that are not dead are passed over. Repeat-safe.

        Raises:
            InvalidArgumentError: Neither was given.
            AgentNotFoundError: There is no such agent.

        Example:
            number = sdk.dead_letters.redrive(message_id)
        """
        return self._run(lambda: self._async.redrive(message_ids, recipient_external_id=recipient_external_id))
