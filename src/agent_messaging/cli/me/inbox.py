"""The messages that an agent received, as a list that is read in pages and followed from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ...kinds import SENT, Kind
from ...models import AskState
from ...storage.ports import Role
from ..mailbox import describe, read_mailbox
from .words import one_line

if TYPE_CHECKING:
    from ... import AgentMessaging
    from ...storage.ports import MessageRow

PAGE, LONG_PAGE = 100, 1_000
"""Messages of the first page, and of the longest one."""
AT_ONCE = 500
"""Messages of a kind that one look takes: what comes in a burst comes in steps."""
MOST = 1_000
"""Unread messages that are read again to see which of them still are."""
RECEIVED = (*SENT, Kind.INVITATION)


class Inbox:
    """The unread messages, then the read ones, each newest first; what comes after that is on top.

    A message that is read keeps its place, so that nothing moves under the reader's eyes. Of the payload only the
    beginning is kept, so the list takes little room however long it is.
    """

    def __init__(self, sdk: AgentMessaging[Any], agent_id: str) -> None:
        self.sdk = sdk
        self.agent_id = agent_id
        self.items: list[dict[str, Any]] = []
        self.is_whole = False
        """Everything that the agent ever received is there."""
        self._by_id: dict[str, dict[str, Any]] = {}
        self._newest: dict[Kind, int] = {}
        self._before: str | None = None
        self._has_unread = True
        """The pages are of unread messages still."""
        self.unread = 0
        """So many messages of the agent are unread, also of those that are not in the list yet."""
        self._lock = asyncio.Lock()

    async def begin(self) -> None:
        """Read the first page, and follow from here."""
        for kind in RECEIVED:
            rows = await self._list(kind, limit=1)
            self._newest[kind] = rows[0].seq if rows else 0
        self.unread = await self.count_unread()
        await self.load_more()

    async def load_more(self) -> None:
        """Read another page; the more there is already, the longer it is, so that the end of any list is near."""
        async with self._lock:
            wanted = size = min(max(PAGE, len(self.items)), LONG_PAGE)
            while wanted > 0 and not self.is_whole:
                kinds = list(SENT if self._has_unread else RECEIVED)
                how: dict[str, Any] = {"unread": self._has_unread, "limit": size, "offset": 0, "before": self._before}
                page = await read_mailbox(self.sdk, self.agent_id, kinds, **how)
                new = [one for one in page if one["message_id"] not in self._by_id]
                self.items += self._keep(new)
                wanted -= len(new)
                self._before = page[-1]["message_id"] if page else None
                if len(page) < size:
                    self.is_whole, self._has_unread, self._before = not self._has_unread, False, None

    async def follow(self, open_asks: set[str]) -> None:
        """Take in what has arrived, and what has changed of the messages that are there.

        Args:
            open_asks: The asks that wait for the agent, as read just now.
        """
        async with self._lock:
            newest = dict(self._newest)
            rows: list[MessageRow] = []
            for kind in RECEIVED:
                page = await self._list(kind, limit=AT_ONCE, after_seq=newest[kind])
                newest[kind] = max([newest[kind], *(row.seq for row in page)])
                rows += page
            rows.sort(key=lambda row: -row.seq)
            described = await describe(self.sdk, rows)
            unread = await self.count_unread()
            closed = await self._find_closed(open_asks)
            come = sum(row.read_at is None and row.kind in SENT for row in rows)
            # Fewer than there should be: somebody has read some elsewhere.
            read = await self._find_read() if unread < self.unread + come else set[str]()
            # Nothing fails from here on: a look that failed is repeated whole.
            self._newest, self.unread = newest, unread
            self.items[:0] = self._keep([one for one in described if one["message_id"] not in self._by_id])
            for id, state in closed.items():
                self._by_id[id]["ask"] = state
            for id in read:
                self._mark(id)

    def read(self, message_id: str) -> None:
        """A message was read here."""
        self.unread -= self._mark(message_id)

    def _mark(self, message_id: str) -> bool:
        item = self._by_id.get(message_id)
        if item is None or item["read_at"] is not None:
            return False
        item["read_at"] = datetime.now(UTC)
        return True

    async def count_unread(self) -> int:
        """How many of its messages the agent has not read."""
        count = self.sdk.store.messages.count_messages
        return sum([await count(self.agent_id, Role.RECIPIENT, kind, read=False) for kind in SENT])

    @property
    def open_asks(self) -> set[str]:
        """The messages of the list that are asks, and were open when they were read."""
        return {one["message_id"] for one in self.items if one["ask"] is AskState.OPEN}

    async def _find_closed(self, open_asks: set[str]) -> dict[str, AskState]:
        """The asks of the list that have ended, and how."""
        over = self.open_asks - open_asks
        return {one.ask_id: one.state for one in await self.sdk.store.sessions.find_asks(over)} if over else {}

    async def _find_read(self) -> set[str]:
        """The messages of the list that were read since, in whatever process."""
        pages = [await self._list(kind, limit=MOST, unread_only=True) for kind in SENT]
        if any(len(page) == MOST for page in pages):
            return set()  # behind the limit nobody knows
        still = {row.message_id for page in pages for row in page}
        shown = {one["message_id"] for one in self.items if one["read_at"] is None and one["kind"] in SENT}
        return shown - still

    async def _list(self, kind: Kind, **how: Any) -> list[MessageRow]:
        return await self.sdk.store.messages.list_messages(self.agent_id, Role.RECIPIENT, kind, **how)

    def _keep(self, described: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        items = self.slim(described)
        self._by_id |= {one["message_id"]: one for one in items}
        return items

    @staticmethod
    def slim(described: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Messages without their payloads, of which the beginning is kept as one line."""
        items = []
        for one in described:
            kept = {name: value for name, value in one.items() if name not in ("content", "metadata")}
            items.append(kept | {"line": _line(one)})
        return items


def _line(message: Mapping[str, Any]) -> str:
    """What is kept of a message; of an invitation, who else is to be there."""
    if message["damage"] is not None:
        return one_line(f"[{message['damage']}]")
    match message["kind"], message["content"]:
        case Kind.INVITATION, {"participants": list(participants)}:
            others = [str(name) for name in participants if name not in (message["sender_id"], message["recipient_id"])]
            return one_line(f"with {', '.join(others)}") if others else ""
    return one_line(message["content"])
