"""The index of words, moved on beside the traffic: in batches, by one process at a time, in whoever is idle.

Nothing waits for it: a search looks through what the index has not taken in by itself. So a process leaves the index
alone while only a little is behind, and while it has other work to do. Where the index has fallen far behind it works
all the same, in a tenth of the time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from ..bodies import open_body
from ..exceptions import DatabaseError, StorageCorruptError
from ..loggers import get_logger
from ..storage.batches import MAX_BYTES, is_of_one, is_refused_for_good
from ..storage.ports import IndexBatch, IndexEntry, Presence, SearchStore, UnindexedMessage
from .probes import probe
from .rounds import Rounds, rest
from .trouble import Trouble

logger = get_logger("agent_messaging.delivery")

PAUSE = 5.0
"""Seconds between two looks at how far behind the index is."""
ENOUGH, FAR = 1_000, 20_000
"""Messages behind the index: from so many an idle process moves it on, and from so many a busy one. A search looks
through a thousand in some 0.05 s. Corrections of the counts of unread messages are added up from ENOUGH on."""
BATCH = 250
"""Messages in one batch. It shares a commit with sends, which it holds up for a few milliseconds."""
LEASE = 15.0
"""Seconds after which another process may move the index on, unless this one has said that it still does."""
SHARE = 0.1
"""The share of its time that a busy process gives to the index."""


class Indexing(Rounds):
    """Moves the index on.

    Args:
        is_busy: Whether this process has other work to do.
    """

    def __init__(self, search: SearchStore, presence: Presence, trouble: Trouble, is_busy: Callable[[], bool]) -> None:
        super().__init__("indexing", "moving the index on", pause=PAUSE, trouble=trouble)
        self.search = search
        self.presence = presence
        self.is_busy = is_busy

    async def round(self) -> None:
        """Move the index on as far as it is worth while; or only add up what was read, where that has become much."""
        process_id = self.presence.process_id
        while True:
            begun, progress = time.monotonic(), await self.search.progress()
            is_far = progress.behind >= (FAR if self.is_busy() else ENOUGH)
            is_done = is_far and await take_in(self.search, process_id) > 0
            if not is_done and (progress.unsummed < ENOUGH or not await add_up(self.search, process_id)):
                return
            await rest(begun, SHARE if self.is_busy() else 1.0)


async def take_in(search: SearchStore, process_id: str, *, limit: int = BATCH) -> int:
    """Take the next batch into the index; repeat-safe.

    Returns:
        How far it came, in seqs; 0 if there is nothing to take in yet, or another process does it.
    """
    after = await search.lead(process_id, LEASE)
    if after is None:
        return 0
    batch = await search.list_unindexed(after, limit=limit, most_bytes=MAX_BYTES)
    if batch.to <= after:
        return 0
    entries = await asyncio.to_thread(_make_entries, batch)
    probe("before_index")
    try:
        is_done = await search.index(process_id, after, batch.to, entries)
    except DatabaseError as error:
        if not is_of_one(error):
            raise
        if len(batch.messages) > 1:  # one may be to blame: it is found among fewer
            return await take_in(search, process_id, limit=max(limit // 4, 1))
        if not is_refused_for_good(error):  # what is left out now would never be found
            raise
        logger.error("%s stays out of the index, because the store refuses its words: %s", _names(batch), error)
        is_done = await search.index(process_id, after, batch.to, [])
    return batch.to - after if is_done else 0


async def add_up(search: SearchStore, process_id: str) -> bool:
    """Add up what was read since the last batch, without one; False if another process moves the index on."""
    after = await search.lead(process_id, LEASE)
    return after is not None and await search.index(process_id, after, after, [])


def _names(batch: IndexBatch) -> str:
    return ", ".join(f"message {one.message_id}" for one in batch.messages)


def _make_entries(batch: IndexBatch) -> Sequence[IndexEntry]:
    return [entry for one in batch.messages if (entry := _make_entry(one)) is not None]


def _make_entry(message: UnindexedMessage) -> IndexEntry | None:
    """The words of a message; None of a damaged one, which no search shows."""
    from ..search.words import index_words, strings  # compiling its patterns takes some 15 ms

    try:
        body = open_body(message, f"message {message.message_id}")
    except StorageCorruptError as error:
        logger.warning("it stays out of the index: %s", error)
        return None
    return IndexEntry(message.seq, frozenset(index_words(strings(body.content))))
