"""Copies of a store that is in use: whole, checked, and there only when they are."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import apsw
import pytest

from agent_messaging import AgentMessaging, ConfigurationError, InvalidArgumentError, StorageCorruptError
from agent_messaging.exceptions import StorageUnavailableError
from agent_messaging.models import Kind
from agent_messaging.storage.ports import Role
from agent_messaging.storage.sqlite import backup
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.world import World

from .conftest import OpenStore


async def test_a_copy_taken_while_others_write_has_all_that_was_stored_before(
    open_store: OpenStore, store: SQLiteStore, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_PAGES", 1)
    for _ in range(50):
        await world.send(content='"' + "x" * 20_000 + '"')
    target = tmp_path / "copy.db"
    copying = asyncio.create_task(store.backup(str(target)))
    sent = 0
    while not copying.done():
        await world.send()
        sent += 1
    await copying
    assert os.listdir(tmp_path).count("copy.db") == 1
    assert not [name for name in os.listdir(tmp_path) if name.startswith("copy.db") and name != "copy.db"]
    assert sent > 0
    again = await open_store(target)
    found = await again.messages.count_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY)
    assert 50 <= found <= 50 + sent
    assert await again.check() == []
    await world.send()  # the source's locks are in place
    other = await open_store()
    assert await other.messages.count_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY) == 51 + sent


@pytest.mark.parametrize("url", ["sqlite:///agent_messaging.db", "sqlite://:memory:"])
async def test_an_sdk_is_copied_and_opened_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str) -> None:
    monkeypatch.chdir(tmp_path)
    async with AgentMessaging(url) as sdk:
        await sdk.register_organization("acme", "Acme")
        for name in ("alice", "bob"):
            await sdk.register_agent(name, "acme", name)
        await sdk.one_way.send("alice", "bob", {"n": 1}, require_handler=False)
        assert await sdk.backup("copy.db") == tmp_path / "copy.db"
        with pytest.raises(InvalidArgumentError, match="exists already"):
            await sdk.backup(tmp_path / "copy.db")
        for wrong in (3, "a\0b", None):
            with pytest.raises(InvalidArgumentError, match="path of a file"):
                await sdk.backup(wrong)  # type: ignore[arg-type]
    async with AgentMessaging("sqlite:///copy.db") as copy:
        (message,) = await copy.receive("bob", timeout=0)
        assert message.content == {"n": 1}
        await message.done()


@pytest.mark.parametrize("beside", ["", "-wal", "-journal"])
async def test_nothing_is_overwritten_and_no_old_log_is_taken_for_the_copys(
    store: SQLiteStore, tmp_path: Path, beside: str
) -> None:
    target = tmp_path / "copy.db"
    other = Path(f"{target}{beside}")
    other.write_text("theirs")
    with pytest.raises(StorageUnavailableError, match="exists"):
        await store.backup(str(target))
    assert other.read_text() == "theirs"
    assert [name for name in os.listdir(tmp_path) if name.startswith("copy")] == [other.name]


async def test_a_missing_folder_is_said(store: SQLiteStore, tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailableError):
        await store.backup(str(tmp_path / "missing" / "copy.db"))


async def test_a_damaged_store_gives_no_copy(store: SQLiteStore, world: World, tmp_path: Path) -> None:
    def damage(connection: apsw.Connection) -> Any:
        connection.pragma("writable_schema", 1)
        connection.execute("update sqlite_schema set rootpage = 2 where name = 'processes_living'")
        connection.pragma("writable_schema", 0)

    await store.engine.write(damage)
    with pytest.raises(StorageCorruptError, match="given up"):
        await store.backup(str(tmp_path / "copy.db"))
    assert [name for name in os.listdir(tmp_path) if name.startswith("copy")] == []


async def test_a_copy_that_is_given_up_leaves_nothing(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    refuse, remove = backup.Backup._refuse_what_is_there, backup.Backup._remove_part

    def wait(self: backup.Backup) -> None:
        refuse(self)
        begun.set()
        go_on.wait(10)

    def note(self: backup.Backup) -> None:
        remove(self)
        ended.set()

    monkeypatch.setattr(backup.Backup, "_refuse_what_is_there", wait)
    monkeypatch.setattr(backup.Backup, "_remove_part", note)
    copying = asyncio.create_task(store.backup(str(tmp_path / "copy.db")))
    await asyncio.to_thread(begun.wait, 10)
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    go_on.set()
    await asyncio.to_thread(ended.wait, 10)
    assert [name for name in os.listdir(tmp_path) if name.startswith("copy")] == []


async def test_postgresql_names_its_own_tool(postgres_dsn: str, tmp_path: Path) -> None:
    async with AgentMessaging(postgres_dsn) as sdk:
        with pytest.raises(ConfigurationError, match="pg_dump"):
            await sdk.backup(tmp_path / "copy.db")
