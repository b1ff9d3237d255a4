"""The port of messages as records, to read and to mark as read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from ...models import DeliveryState, Kind, MessageType
from ...records import dataclass

MAIN = ""
"""The name of the main thread of two agents: the conversation that they have without naming any."""


class Role(StrEnum):
    """Which side of a message an agent is on."""

    SENDER = "sender"
    RECIPIENT = "recipient"


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message as the listings show it."""

    seq: int
    message_id: str
    kind: Kind
    sender_id: str
    recipient_id: str | None
    content: str
    metadata: str | None
    checksum: int
    created_at: datetime
    read_at: datetime | None
    session_id: str | None
    message_type: MessageType = MessageType.USER_DEFINED
    thread: str = MAIN
    topic: str | None = None
    """Of a publication: where it was published."""
    meeting_id: str | None = None
    """Where it was said. `find_message` alone tells it: whoever lists what was said in a meeting knows."""


@dataclass(frozen=True, slots=True)
class Narrowing:
    """The messages of a list that are wanted. All must hold; None is any."""

    date_from: datetime | None = None
    date_to: datetime | None = None
    """Both inclusive."""
    types: Sequence[MessageType] | None = None
    states: Sequence[DeliveryState] | None = None
    """Of the delivery. What is said in a meeting has none."""
    needles: Sequence[str] = ()
    """Texts that all are in the metadata as they are stored."""


EVERYTHING = Narrowing()


class MessageStore(Protocol):
    """Messages as records, to read and to mark as read. Reading never acknowledges."""

    async def find_seq(self, message_id: str) -> int | None:
        """The sequence number of a message, which is its position in the lists; None if there is no such message."""
        ...

    async def find_message(self, message_id: str) -> MessageRow | None:
        """A message of any kind; None if there is no such message."""
        ...

    async def list_messages(
        self,
        agent_id: str,
        role: Role,
        kind: Kind,
        *,
        limit: int,
        offset: int = 0,
        unread_only: bool = False,
        after_seq: int | None = None,
        before_id: str | None = None,
        other_id: str | None = None,
        narrowing: Narrowing = EVERYTHING,
    ) -> list[MessageRow]:
        """A page, newest first. `other_id` is the other side of each: whom it was sent to, or who sent it; None is any.

        With `before_id` it begins with the message older than that one, however many are newer; it is empty where there
        is no such message. With `after_seq` the page is oldest first and begins behind that sequence number (for
        following a mailbox); then, of all that narrows, only the dates of `narrowing` count. Types never do: of a kind
        that is listed so, agents wrote all.
        """
        ...

    async def mark_read(
        self,
        recipient_id: str,
        kind: Kind,
        *,
        sender_id: str | None = None,
        message_ids: Collection[str] | None = None,
        now: datetime | None = None,
    ) -> int:
        """Mark all unread ones as read, or those of a sender, or these, and return how many they were."""
        ...

    async def count_messages(
        self,
        agent_id: str,
        role: Role,
        kind: Kind,
        *,
        read: bool | None = None,
        other_id: str | None = None,
        narrowing: Narrowing = EVERYTHING,
    ) -> int:
        """How many there are: all, those read (True) or those unread (False); narrowed as `list_messages` is.

        What has every text of `narrowing.needles` counts, whatever it means in its metadata.
        """
        ...
