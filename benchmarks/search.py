"""Searching a mailbox of a million messages, and the index of words beside the traffic."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from unittest.mock import patch

import asyncpg

from agent_messaging import AgentMessaging
from agent_messaging.config import parse_url
from agent_messaging.delivery import indexing
from agent_messaging.delivery.indexing import take_in
from agent_messaging.storage.ports import IndexProgress

from .harness import Bench, Figure, Row, at_least, below, percentile, rate, timed
from .mailbox import FILLING, MESSAGES, SENDERS, fill_mailbox, index_copies, send_into, tidy
from .rows import open_sqlite
from .team import started

SEARCHES = 100
SENDS = 4_000
RARE = 20
"""Messages that have the rare word."""
FREQUENT_LIMIT = 250.0
"""Milliseconds, p99, of a search for a word that every message has. It opens the texts of a thousand matches."""
LOAD = 20.0
"""Seconds of sending from 64 senders at once."""
SLOWER = 0.9
"""What sends may lose to the index."""
TAKEN = 100_000
"""Messages that a process takes into the index while it is measured. The others are copies."""


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """Searches with the index up to date; then sends while it moves on; then how far a full load leaves it behind."""
    count = bench.count(MESSAGES, least=2_000)
    for backend in bench.backends:
        async with backend.fresh() as url:
            with _index_off():
                await fill_mailbox(url, count)
                async with started(url, [*SENDERS, "full", "rare"], mailbox_limit=None) as sdk:
                    for number in range(RARE):
                        text = f"the zeppelin number {number}"
                        await sdk.one_way.send(SENDERS[0], "rare", {"text": text}, {"n": 1}, require_handler=False)
            bare = await _size(url)
            name = f"{backend.name}, {count:,} messages"
            taken = bench.count(TAKEN, least=1_500)
            with patch.object(indexing, "PAUSE", 0.1):
                async with started(url, []) as sdk:
                    began, first = time.perf_counter(), (await sdk.store.search.progress()).indexed_to
                    await _until(sdk, partial(_reaches, taken))
                    moved = (await sdk.store.search.progress()).indexed_to - first
                    took = time.perf_counter() - began
                    yield Row(f"{name}, an idle process takes messages into the index", rate([moved / took]))
            await index_copies(url, FILLING + count)
            with _index_off():
                async with started(url, [*SENDERS, "full"], mailbox_limit=None) as sdk:
                    while await take_in(sdk.store.search, sdk.store.presence.process_id):
                        pass
            await tidy(url)
            yield Row(
                f"{name}, bytes of a message, with the index",
                Figure((await _size(url) / count,), "B"),
                Figure((bare / count,), "B"),
                note="raw: without it",
            )
            with _index_off():
                async with started(url, [*SENDERS, "full"], mailbox_limit=None) as sdk:
                    async for row in _search(bench, sdk, name):
                        yield row
                    async for row in _send(bench, sdk, backend.name):
                        yield row
            with patch.object(indexing, "PAUSE", 0.1):
                async with started(url, [*SENDERS, "full"], mailbox_limit=None) as sdk:
                    while await sdk.store.search.lead(sdk.store.presence.process_id, indexing.LEASE) is None:
                        await asyncio.sleep(0.5)  # another process did it before
                    await _until(sdk, _has_caught_up)
                    async for row in _load(bench, sdk, backend.name):
                        yield row


async def _search(bench: Bench, sdk: AgentMessaging[Any, Any, Any], name: str) -> AsyncIterator[Row]:
    async def search(query: str, **filters: Any) -> list[Any]:
        return await sdk.search_messages(query, **filters)

    for what, query, filters, found in (
        ("of a rare word", "zeppelin", {}, RARE),
        ("of a word that all have", "quarterly", {}, 50),
        ("of a rare word with a filter of metadata", "zeppelin", {"metadata_filter": {"n": 1}}, RARE),
        ("that finds nothing", "airship", {}, 0),
    ):
        samples = []
        await search(query, **filters)  # the first one loads modules and pages
        for _ in range(bench.count(SEARCHES, least=5)):
            began = time.perf_counter()
            matches = await search(query, **filters)
            samples.append(time.perf_counter() - began)
            assert len(matches) == found, (query, len(matches))
        yield Row(f"{name}, search {what}, p50", percentile(samples, 0.5))
        row = f"{name}, search {what}, p99"
        is_frequent = found == 50
        yield (
            below(FREQUENT_LIMIT, row, percentile(samples, 0.99))
            if is_frequent
            else Row(row, percentile(samples, 0.99))
        )


async def _send(bench: Bench, sdk: AgentMessaging[Any, Any, Any], name: str) -> AsyncIterator[Row]:
    """Sends beside an index that moves on as it does in a busy process, and beside one that does not, in turn."""

    async def index() -> None:
        while True:
            began = time.perf_counter()
            await take_in(sdk.store.search, sdk.store.presence.process_id)
            await asyncio.sleep((time.perf_counter() - began) * (1 / indexing.SHARE - 1))

    count = bench.count(SENDS, least=64)
    beside, alone = [], []
    for _ in range(bench.repetitions):
        alone.append(await send_into(sdk, "full", count))
        task = asyncio.create_task(index())
        beside.append(await send_into(sdk, "full", count))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    yield at_least(
        SLOWER, f"{name}, sending while the index moves on", rate(beside), rate(alone), "raw: while it rests"
    )


async def _load(bench: Bench, sdk: AgentMessaging[Any, Any, Any], name: str) -> AsyncIterator[Row]:
    behind: list[float] = []
    sent = 0
    deadline = time.perf_counter() + bench.seconds(LOAD, least=0.5)
    while time.perf_counter() < deadline:
        await send_into(sdk, "full", 640)
        sent += 640
        behind.append((await sdk.store.search.progress()).behind)
    seconds = await timed(lambda: _until(sdk, _has_caught_up))
    note = f"{sent:,} messages in {bench.seconds(LOAD, least=0.5):.0f} s"
    yield Row(f"{name}, messages behind the index under full load, most", Figure((max(behind),), "messages"), note=note)
    yield Row(f"{name}, until the index has caught up after it", Figure((seconds,), "s"))


def _reaches(seq: int, progress: IndexProgress) -> bool:
    return progress.indexed_to >= seq


def _has_caught_up(progress: IndexProgress) -> bool:
    return progress.behind < indexing.ENOUGH


async def _until(sdk: AgentMessaging[Any, Any, Any], is_far: Callable[[IndexProgress], bool]) -> None:
    while not is_far(await sdk.store.search.progress()):
        await asyncio.sleep(0.05)


@contextmanager
def _index_off() -> Iterator[None]:
    with patch.object(indexing, "PAUSE", 1e9):
        yield


async def _size(url: str) -> int:
    """Bytes that the store takes."""
    path = parse_url(url).path
    if path is not None:
        file = open_sqlite(path)
        file.pragma("wal_checkpoint", "truncate")
        file.close()
        return os.path.getsize(path)
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("select pg_database_size(current_database())"))
    finally:
        await connection.close()
