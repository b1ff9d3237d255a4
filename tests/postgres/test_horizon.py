"""A forgotten transaction of somebody else: it is named, once in the log and by the description of the store."""

from __future__ import annotations

import logging

import asyncpg
import pytest

from agent_messaging.storage.postgres import horizon
from tests.conformance.world import World
from tests.postgres.conftest import StoreMaker, execute
from tests.postgres.servers import OwnServer
from tests.support import eventually


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(horizon, "PATIENCE", 0.0)
    monkeypatch.setattr(horizon, "MANY", 20)


async def test_who_keeps_the_server_from_cleaning_up_is_named(
    own_server: OwnServer, open_store: StoreMaker, caplog: pytest.LogCaptureFixture
) -> None:
    store = await open_store(own_server.dsn, lease=0.6)
    caplog.set_level(logging.WARNING)
    world = await World.create(store)
    assert (await store.describe()).warnings == ()
    forgotten = await asyncpg.connect(own_server.dsn, server_settings={"application_name": "report"})
    try:
        await forgotten.execute("begin isolation level repeatable read")
        pid = await forgotten.fetchval("select pg_backend_pid()")
        await world.send_many(50)
        await world.settle(await world.claim(limit=50, ordered=False))
        await execute(own_server.dsn, "analyze deliveries", "select 1")
        facts = await eventually(store.describe, until=lambda facts: len(facts.warnings) > 0)
        (warning,) = facts.warnings
        assert f"session {pid} of 'report'" in warning
        assert f"pg_terminate_backend({pid})" in warning
        await store.presence.start(lambda: None, lambda: None)
        await eventually(lambda: [r for r in caplog.records if "'report'" in r.getMessage()], until=bool)
        renewed = "select renewed_at from processes"
        first = await execute(own_server.dsn, renewed)
        for _ in range(3):  # it is not said again with the next renewals
            await eventually(lambda: execute(own_server.dsn, renewed), until=first.__ne__)
            first = await execute(own_server.dsn, renewed)
        assert len([r for r in caplog.records if "'report'" in r.getMessage()]) == 1
    finally:
        await forgotten.close()
    assert (await store.describe()).warnings == ()


async def test_of_those_that_hold_it_back_alike_the_oldest_is_named(
    own_server: OwnServer, open_store: StoreMaker
) -> None:
    """Each snapshot reaches back to the oldest transaction that writes, so all that are open beside it look like it."""
    store = await open_store(own_server.dsn)
    world = await World.create(store)
    connections = [await asyncpg.connect(own_server.dsn) for _ in range(3)]
    before, forgotten, behind = connections
    try:
        await forgotten.execute("begin; select pg_current_xact_id()")
        for young in (before, behind):
            await young.execute("begin isolation level repeatable read; select 1")
        await world.send_many(50)
        await world.settle(await world.claim(limit=50, ordered=False))
        await execute(own_server.dsn, "analyze deliveries", "select 1")
        (warning,) = (await eventually(store.describe, until=lambda facts: len(facts.warnings) > 0)).warnings
        assert f"session {forgotten.get_server_pid()} of" in warning
    finally:
        for connection in connections:
            await connection.close()
