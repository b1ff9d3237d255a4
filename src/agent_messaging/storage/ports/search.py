"""The port of searching: the index of words, how far it reaches, and the messages among which a search looks.

The index is never the truth. It says which messages may match, and what it has not taken in yet are candidates all the
same: a message is found from the commit of its send on, whether the index is up to date, far behind, or empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from ...models import Kind
from ...records import dataclass

if TYPE_CHECKING:
    from ...search.language import Formula

SEARCHED = (Kind.ONE_WAY, Kind.CONVERSATION, Kind.MEETING)
"""The kinds whose messages can be found: what agents wrote, and not what the SDK said itself."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Among which messages a search looks. All must hold; None is any."""

    kinds: Sequence[Kind] = SEARCHED
    sender_ids: Sequence[str] | None = None
    """One of these sent it."""
    recipient_ids: Sequence[str] | None = None
    session_id: str | None = None
    meeting_id: str | None = None
    thread: str | None = None
    date_from: datetime | None = None
    date_to: datetime | None = None
    """Both inclusive."""
    needles: Sequence[str] = ()
    """Texts that all are in the metadata as they are stored."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A message that may match."""

    seq: int
    size_bytes: int
    """Of its content."""


@dataclass(frozen=True, slots=True)
class SearchedMessage:
    """A message as a search shows it."""

    seq: int
    message_id: str
    kind: Kind
    sender_id: str
    recipient_id: str | None
    session_id: str | None
    meeting_id: str | None
    thread: str
    topic: str | None
    content: str
    metadata: str | None
    checksum: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class UnindexedMessage:
    """A message for the index."""

    seq: int
    message_id: str
    content: str
    metadata: str | None
    checksum: int


@dataclass(frozen=True, slots=True)
class IndexBatch:
    """Messages for the index, in the order of seq."""

    messages: list[UnindexedMessage]
    to: int
    """With these the index has every message up to this seq."""


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """How far the index reaches."""

    indexed_to: int
    """A seq."""
    newest: int
    """The greatest seq of a message."""
    unsummed: int = 0
    """Corrections of the counts of unread messages that wait to be added up; no more than 1,000 are counted."""

    @property
    def behind(self) -> int:
        """Messages that searches look through themselves, at most."""
        return max(self.newest - self.indexed_to, 0)


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """The words of a message."""

    seq: int
    words: frozenset[str]


class SearchStore(Protocol):
    """The index and the messages behind it."""

    async def find_candidates(
        self, formula: Formula | None, scope: Scope, *, limit: int, before: int | None = None
    ) -> list[Candidate]:
        """Messages of the scope, those of the greatest seq first, before this one.

        Among them are all that the formula describes (None: all). Every message is there that was committed when the
        call began.
        """
        ...

    async def load(self, seqs: Sequence[int]) -> list[SearchedMessage]:
        """These messages, in no promised order; without those that were removed, or that no record can be made of."""
        ...

    async def progress(self) -> IndexProgress:
        """How far the index reaches."""
        ...

    async def lead(self, process_id: str, seconds: float, *, now: datetime | None = None) -> int | None:
        """Become, or stay, the only process that moves the index on, for so many seconds.

        Returns:
            The seq to which it reaches; None where another process does it.
        """
        ...

    async def list_unindexed(self, after: int, *, limit: int, most_bytes: int) -> IndexBatch:
        """What follows in the index. It ends before anything that a transaction in flight might precede."""
        ...

    async def index(self, process_id: str, after: int, to: int, entries: Sequence[IndexEntry]) -> bool:
        """Take a batch into the index, all or nothing, and add up corrections of the counts of unread messages.

        A batch that ends where it begins, and has no messages, only adds up.

        Returns:
            False if this process does not move the index any more, or it does not reach to `after`: nothing is done.
        """
        ...

    async def restart(self) -> None:
        """Empty the index; it is made anew from the messages. What searches find stays the same.

        Unread messages are counted anew too.
        """
        ...
