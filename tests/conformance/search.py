"""The index of words: it never hides a message, one process at a time moves it on, and it may be emptied."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from datetime import timedelta

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import Kind
from agent_messaging.payloads import encode_metadata
from agent_messaging.search.language import parse
from agent_messaging.search.words import index_words, strings
from agent_messaging.storage.ports import IndexEntry, Role, Scope, SearchStore

from .base import StoreFixtures
from .world import World

LEASE = 30.0


async def index_all(search: SearchStore, process_id: str, *, limit: int = 100) -> int:
    """Bring the index up to date in batches, and return how many messages it took in."""
    taken = 0
    while True:
        after = await search.lead(process_id, LEASE)
        assert after is not None
        batch = await search.list_unindexed(after, limit=limit, most_bytes=1_000_000)
        if batch.to == after:
            return taken
        entries = [
            IndexEntry(one.seq, frozenset(index_words(strings(json.loads(one.content))))) for one in batch.messages
        ]
        assert await search.index(process_id, after, batch.to, entries)
        taken += len(entries)


async def find(search: SearchStore, query: str, scope: Scope | None = None, *, limit: int = 1000) -> list[str]:
    """The contents of the candidates, the newest first."""
    found = await search.find_candidates(parse(query).formula, scope or Scope(), limit=limit)
    rows = {row.seq: json.loads(row.content) for row in await search.load([one.seq for one in found])}
    assert all(one.size_bytes > 0 for one in found)
    return [rows[one.seq] for one in found]


class SearchConformance(StoreFixtures):
    """All of `SearchStore`."""

    @pytest.fixture
    async def texts(self, world: World) -> Sequence[str]:
        """Messages from the oldest to the newest."""
        texts = ["database migration", "database", "機械学習 😀", "a snake_case name", "teapot", "migration"]
        for text in texts:
            await world.send(content=json.dumps(text, ensure_ascii=False))
        return texts

    @pytest.mark.parametrize("indexed", [0, 2, 6])
    async def test_candidates_are_those_of_the_index_and_all_behind_it(
        self, world: World, texts: Sequence[str], indexed: int
    ) -> None:
        search = world.store.search
        if indexed:
            after = await search.lead(world.owner, LEASE)
            assert after is not None
            batch = await search.list_unindexed(after, limit=indexed, most_bytes=1_000_000)
            entries = [
                IndexEntry(one.seq, frozenset(index_words(strings(json.loads(one.content))))) for one in batch.messages
            ]
            assert len(entries) == indexed
            assert await search.index(world.owner, after, batch.to, entries)
        behind = list(texts[indexed:])[::-1]
        taken = list(texts[:indexed])[::-1]
        for query, words in (
            ("database migration", {"database migration"}),
            ("学習 OR teapot", {"機械学習 😀", "teapot"}),
            ("tea* OR 😀", {"機械学習 😀", "teapot"}),
            ("snake", {"a snake_case name"}),
            ("database -migration", {"database"}),
            ("tea* OR database -mig* -absent", {"teapot", "database"}),
            ("absent", set()),
        ):
            assert await find(search, query) == behind + [text for text in taken if text in words], query
        for query, left_out in (
            ("-database", {"database migration", "database"}),
            ("-学 -tea*", {"機械学習 😀", "teapot"}),
            ("-database -snake OR -database", {"database migration", "database"}),
            ('-"database migration"', set()),
            ("-absent", set()),
        ):
            assert await find(search, query) == behind + [text for text in taken if text not in left_out], query
        assert await find(search, "database", limit=2) == (behind + [t for t in taken if "database" in t])[:2]
        progress = await search.progress()
        assert progress.behind >= len(behind)

    async def test_before_is_where_the_last_page_ended(self, world: World, texts: Sequence[str]) -> None:
        search = world.store.search
        await index_all(search, world.owner)
        await world.send(content='"database again"')
        formula, scope = parse("database").formula, Scope()
        pages: list[int] = []
        before = None
        while page := await search.find_candidates(formula, scope, limit=1, before=before):
            before = page[-1].seq
            pages.append(before)
        whole = await search.find_candidates(formula, scope, limit=10)
        assert pages == [one.seq for one in whole]
        assert len(pages) == 3
        assert await search.load([]) == []
        assert await search.load([2**40]) == []

    @pytest.mark.parametrize("indexed", [False, True])
    async def test_a_scope_leaves_out_what_is_not_asked(self, world: World, indexed: bool) -> None:
        search = world.store.search
        metadata = encode_metadata({"priority": "high"})
        session = new_id()
        await world.send(content='"tea one"', metadata=metadata)
        await world.send(world.carol, world.dave, content='"tea two"', now=world.at(60))
        await world.send(content='"tea three"', kind=Kind.CONVERSATION, session_id=session)
        if indexed:
            await index_all(search, world.owner)
        for scope, found in (
            (Scope(), ["tea three", "tea two", "tea one"]),
            (Scope(kinds=[Kind.CONVERSATION]), ["tea three"]),
            (Scope(sender_ids=[world.carol]), ["tea two"]),
            (Scope(sender_ids=[]), []),
            (Scope(recipient_ids=[world.bob, world.alice]), ["tea three", "tea one"]),
            (Scope(session_id=session), ["tea three"]),
            (Scope(meeting_id=new_id()), []),
            (Scope(date_from=world.at(60)), ["tea two"]),
            (Scope(date_to=world.at(60) - timedelta(microseconds=1)), ["tea three", "tea one"]),
            (Scope(needles=['"priority":"high"', "prio"]), ["tea one"]),
            (Scope(needles=["%"]), []),
        ):
            assert await find(search, "tea", scope) == found, scope

    async def test_what_the_sdk_says_itself_is_no_candidate(self, world: World) -> None:
        await world.send(kind=Kind.INVITATION, content='"tea"')
        assert await find(world.store.search, "tea") == []

    async def test_one_process_at_a_time_moves_the_index(self, world: World, texts: Sequence[str]) -> None:
        search, other = world.store.search, new_id()
        assert await search.lead(world.owner, LEASE, now=world.at(0)) == 0
        assert await search.lead(other, LEASE, now=world.at(1)) is None
        assert await search.lead(world.owner, LEASE, now=world.at(1)) == 0
        assert not await search.index(other, 0, 3, [IndexEntry(1, frozenset({"x"}))])
        assert not await search.index(world.owner, 1, 3, [])
        assert (await search.progress()).indexed_to == 0
        # A process that died is followed by another one, and what it does afterwards is refused.
        assert await search.lead(other, LEASE, now=world.at(40)) == 0
        assert not await search.index(world.owner, 0, 3, [])

    async def test_a_batch_ends_by_number_or_size_and_reaches_over_what_is_not_searched(self, world: World) -> None:
        search = world.store.search
        await world.send_many(3, content='"tea"')
        await world.send(kind=Kind.INVITATION, content='"tea"')
        first = await search.list_unindexed(0, limit=2, most_bytes=1_000_000)
        assert [one.seq for one in first.messages][-1] == first.to
        assert len(first.messages) == 2
        small = await search.list_unindexed(0, limit=10, most_bytes=1)
        assert len(small.messages) == 1
        rest = await search.list_unindexed(first.to, limit=10, most_bytes=1_000_000)
        assert (len(rest.messages), rest.to) == (1, (await search.progress()).newest)
        assert (await search.list_unindexed(rest.to, limit=10, most_bytes=1_000_000)).messages == []

    @pytest.mark.parametrize("letter", ["t", "é", "学", "😀"])
    async def test_a_batch_that_ends_by_size_leaves_the_rest_to_the_next(self, world: World, letter: str) -> None:
        search = world.store.search
        await world.send_many(5, content=f'"{letter * 1_000}"')
        taken, after = 0, 0
        while (batch := await search.list_unindexed(after, limit=10, most_bytes=2_500)).to > after:
            taken, after = taken + len(batch.messages), batch.to
        assert (taken, after) == (5, (await search.progress()).newest)

    async def test_emptying_the_index_changes_nothing_that_is_found(self, world: World, texts: Sequence[str]) -> None:
        search = world.store.search
        await index_all(search, world.owner, limit=4)
        before = await find(search, "database")
        await search.restart()
        assert (await search.progress()).indexed_to == 0
        assert set(before) < set(await find(search, "database"))
        assert await index_all(search, world.owner, limit=4) == len(texts)
        assert await find(search, "database") == before == ["database", "database migration"]

    async def test_unread_messages_are_counted_wherever_the_index_stands(self, world: World) -> None:
        search, choose = world.store.search, random.Random(7)
        kinds = (Kind.ONE_WAY, Kind.CONVERSATION)

        async def check() -> None:
            for kind in kinds:
                list_messages, count = world.store.messages.list_messages, world.store.messages.count_messages
                unread = await list_messages(world.bob, Role.RECIPIENT, kind, limit=5_000, unread_only=True)
                assert await count(world.bob, Role.RECIPIENT, kind, read=False) == len(unread)
                whole = await count(world.bob, Role.RECIPIENT, kind)
                assert await count(world.bob, Role.RECIPIENT, kind, read=True) == whole - len(unread)
            assert await world.store.check() == []

        for step in range(30):
            match choose.choice(["send", "send", "index", "read", "mark", "restart"]):
                case "send":
                    sender = choose.choice([world.alice, world.carol])
                    await world.send_many(choose.choice([3, 300]), sender, world.bob, kind=choose.choice(kinds))
                case "index":
                    await index_all(search, world.owner, limit=200)
                case "read":
                    page = await world.sessions.read_messages(world.bob, limit=choose.choice([1, 50]))
                    if choose.random() < 0.5:
                        await world.sessions.return_messages(page.messages)
                case "mark":
                    sender_id = choose.choice([None, world.carol])
                    await world.store.messages.mark_read(world.bob, Kind.ONE_WAY, sender_id=sender_id)
                case "restart":
                    await search.restart()
            if step % 5 == 4:
                await check()
        (carol,) = await world.store.directory.find_agents_by_id([world.carol])
        await index_all(search, world.owner)
        await world.store.directory.remove_agent(carol.external_id)
        await check()
        (bob,) = await world.store.directory.find_agents_by_id([world.bob])
        await world.store.directory.remove_agent(bob.external_id)
        assert await world.store.check() == []

    async def test_unread_messages_are_counted_beside_all_that_reads_them(self, world: World) -> None:
        search, messages, left = world.store.search, world.store.messages, 4

        async def send(sender: str) -> None:
            nonlocal left
            for _ in range(10):
                await world.send_many(20, sender, world.bob, kind=Kind.CONVERSATION)
                await world.send_many(20, sender, world.bob)
            left -= 1

        async def read(sender: str) -> None:
            while left:
                page = await world.sessions.read_messages(world.bob, sender_id=sender, limit=15)
                await world.sessions.return_messages(page.messages[::2])

        async def mark(sender: str) -> None:
            while left:
                await messages.mark_read(world.bob, Kind.ONE_WAY, sender_id=sender)

        async def index() -> None:
            while left:
                after = await search.lead(world.owner, LEASE)
                assert after is not None
                batch = await search.list_unindexed(after, limit=30, most_bytes=1_000_000)
                await search.index(world.owner, after, batch.to, [])  # in vain where it was restarted meanwhile

        async def restart() -> None:
            nonlocal left
            for _ in range(5):
                await search.restart()
                await asyncio.sleep(0)
            left -= 1

        senders = [world.alice, world.carol, world.dave]
        calls = [call(sender) for sender in senders for call in (send, read, mark)]
        await asyncio.gather(*calls, index(), restart())
        assert await world.store.check() == []
        await index_all(search, world.owner)
        assert await world.store.check() == []
        for kind in (Kind.ONE_WAY, Kind.CONVERSATION):
            unread = await messages.list_messages(world.bob, Role.RECIPIENT, kind, limit=5_000, unread_only=True)
            assert await messages.count_messages(world.bob, Role.RECIPIENT, kind, read=False) == len(unread)

    async def test_a_removed_message_is_found_no_more(self, world: World) -> None:
        search = world.store.search
        await world.send(content='"tea"')
        await index_all(search, world.owner)
        (agent,) = await world.store.directory.find_agents_by_id([world.bob])
        await world.store.directory.remove_agent(agent.external_id)
        assert await find(search, "tea") == []
        assert await world.store.check() == []
