"""The port of messages as records, to read and to mark as read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from ...models import Kind, MessageType
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


class MessageStore(Protocol):
    """Messages as records, to read and to mark as read. Reading never acknowledges."""

    async def list_messages(
        self,
        agent_id: str,
        role: Role,
        kind: Kind,
        *,
        limit: int,
        offset: int = 0,
        unread_only: bool = False,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        after_seq: int | None = None,
        needles: Sequence[str] = (),
        before_id: str | None = None,
    ) -> list[MessageRow]:
        """A page, newest first; `date_from` and `date_to` are inclusive.

        With `needles`, without the messages whose metadata, as they are stored, lack one of these texts. With
        `before_id` it begins with the message older than that one, however many are newer; it is empty where there is
        no such message. With `after_seq`, which takes neither, the page is oldest first and begins behind that sequence
        number (for following a mailbox).
        """
        ...

    async def mark_read(
        self, recipient_id: str, kind: Kind, *, sender_id: str | None = None, now: datetime | None = None
    ) -> int:
        """Mark all unread ones as read and return how many they were."""
        ...

    async def count_messages(self, agent_id: str, role: Role, kind: Kind, *, read: bool | None = None) -> int:
        """How many there are: all, those read (True) or those unread (False)."""
        ...
