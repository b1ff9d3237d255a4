"""The store as a whole: opening, closing, what it says of itself, damage."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from agent_messaging.exceptions import DatabaseError, SchemaVersionError
from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import Kind
from agent_messaging.payloads import checksum
from agent_messaging.storage.ports import Role, Settling, StagedRow, Store

from .base import StoreFactory, StoreFixtures, need_processes
from .world import World, ids


class StoreConformance(StoreFixtures):
    """All of `Store` but its nouns."""

    async def test_an_empty_place_is_made_ready_by_opening_it(self, make_empty_store: StoreFactory) -> None:
        store = make_empty_store()
        try:
            await store.open()
            world = await World.create(store)
            id = await world.send()
            assert ids(await world.claim()) == [id]
        finally:
            await store.aclose()

    async def test_without_initialize_an_empty_place_is_refused_and_the_command_is_named(
        self, make_empty_store: StoreFactory
    ) -> None:
        store = make_empty_store()
        try:
            with pytest.raises(SchemaVersionError, match="agent-messaging db upgrade"):
                await store.open(initialize=False)
        finally:
            await store.aclose()
        # Nothing was made: the same is said again.
        store = make_empty_store()
        try:
            with pytest.raises(SchemaVersionError):
                await store.open(initialize=False)
        finally:
            await store.aclose()

    async def test_without_initialize_a_ready_place_is_opened(self, store: Store, make_store: StoreFactory) -> None:
        need_processes(store)
        world = await World.create(store)
        other = make_store()
        try:
            await other.open(initialize=False)
            assert len(await other.directory.find_agents_by_id([world.alice, world.bob])) == 2
        finally:
            await other.aclose()

    async def test_many_open_an_empty_place_at_once(self, make_empty_store: StoreFactory) -> None:
        stores = [make_empty_store() for _ in range(6)]
        need_processes(stores[0])
        try:
            await asyncio.gather(*(store.open() for store in stores))
            world = await World.create(stores[0])
            for store in stores:
                assert len(await store.directory.find_agents_by_id([world.alice])) == 1
            facts = [await store.describe() for store in stores]
            assert len({fact.schema_version for fact in facts}) == 1
        finally:
            await asyncio.gather(*(store.aclose() for store in stores))

    async def test_what_was_stored_is_there_after_reopening(self, make_store: StoreFactory) -> None:
        first = make_store()
        if not first.capabilities.durable:
            pytest.skip("missing capability: durable")
        try:
            await first.open()
            world = await World.create(first)
            done, waiting = await world.send_many(2, content='"kept"')
            await world.settle(await world.claim_one())
            key = world.group(idempotency_key="k", fingerprint="f")
            await world.append(key)
        finally:
            await first.aclose()

        again = make_store()
        try:
            await again.open()
            receipts = {row.message_id: row.state for row in await again.deliveries.list_receipts([done, waiting])}
            assert receipts == {done: "done", waiting: "queued"}
            world.store = again
            (claimed,) = await world.claim()
            assert (claimed.message_id, claimed.content) == (waiting, '"kept"')
            assert await world.append(key, repeat=True) == await world.append(key, repeat=True)
            assert await again.messages.count_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY) == 3
        finally:
            await again.aclose()

    async def test_closing_is_repeatable_and_needs_no_opening(self, make_store: StoreFactory) -> None:
        store = make_store()
        await store.aclose()
        store = make_store()
        await store.open()
        await store.aclose()
        await store.aclose()

    async def test_closing_ends_the_presence(self, make_store: StoreFactory) -> None:
        """Threads and connections that were left over are seen by the leak checks around each test."""
        store = make_store()
        await store.open()
        await store.presence.start(lambda: None, lambda: None)
        await store.aclose()
        await store.presence.aclose()

    async def test_it_tells_what_it_is(self, store: Store) -> None:
        facts = await store.describe()
        assert facts.backend
        assert facts.location
        assert facts.version
        assert facts.schema_version >= 1
        assert facts.durability
        assert all(isinstance(text, str) for pair in facts.durability.items() for text in pair)
        assert all(warning.strip() for warning in facts.warnings)

    async def test_a_sound_store_has_nothing_to_complain_of(self, world: World) -> None:
        await world.send_many(20, content='{"text":"é 株"}', metadata='{"a":1}')
        await world.settle(await world.claim_one(), Settling.DONE)
        assert await world.store.check() == []

    async def test_a_message_that_is_not_what_was_sent_is_found(self, world: World) -> None:
        """The checksum comes from the caller: one that does not fit stands for content that changed on the disk."""
        await world.send_many(5)
        damaged = await world.send(content='"x"', checksum=checksum('"y"', None))
        (finding,) = await world.store.check()
        assert damaged in finding
        assert len(finding.split()) > 3

    async def test_an_archive_that_refers_to_what_it_does_not_have_is_refused_at_once(self, store: Store) -> None:
        now = datetime.now(UTC).isoformat()
        names = {"id": new_id(), "external_id": "bob", "organization_id": new_id(), "name": "bob"}
        agent = StagedRow("agents", 0, {**names, "created_at": now, "updated_at": now})
        await store.archive.begin_import("archive")
        assert await store.archive.stage("archive", [agent])
        with pytest.raises(DatabaseError, match="nothing was"):
            await store.archive.finish_import("archive", 1, lambda rows: None)
        assert await store.directory.find_agents(["bob"]) == []
