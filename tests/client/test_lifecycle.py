"""Starting and stopping, and what an SDK that is not started says."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from agent_messaging import (
    AgentMessaging,
    Config,
    ConfigurationError,
    DatabaseConfig,
    MessagingConfig,
    NotInitializedError,
    SchemaVersionError,
    StorageUnavailableError,
)
from tests.client.doors import calls_of, doors_of
from tests.client.support import SOON, Gate, Inbox, Sdk, make_config
from tests.fixtures.postgres import PostgresServer
from tests.support import eventually


async def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns or raises."""
    try:
        result = call()
        return await result if inspect.isawaitable(result) else result
    except Exception as error:
        return error


async def test_every_operation_says_that_the_sdk_is_not_started(url: str) -> None:
    sdk = AgentMessaging[Any](url)
    operations = calls_of(sdk)
    del operations["AgentMessaging.initialize"], operations["AgentMessaging.close"]
    assert len(operations) > 10
    doors = [name for name, kind in vars(AgentMessaging).items() if isinstance(kind, property)]
    assert {"one_way", "conversation", "meeting", "receipts"} < set(doors)
    before = {"meeting_events", "observers"}
    operations |= {name: partial(getattr, sdk, name) for name in doors if name not in before} | {"figures": sdk.figures}

    async def check() -> None:
        for name, operation in operations.items():
            error = await outcome(operation)
            assert isinstance(error, RuntimeError), name
            assert isinstance(error, NotInitializedError), name
            assert "SDK not initialized" in str(error)

    await check()
    await sdk.initialize()
    await sdk.close()
    await check()


async def test_doors_kept_from_before_say_so_too_once_the_sdk_is_closed_and_work_after_the_next_start(url: str) -> None:
    sdk = Sdk(make_config(url))
    await sdk.initialize()
    await sdk.add_people("alice", "bob")
    doors = doors_of(sdk)
    calls = {name: call for door in doors.values() for name, call in calls_of(door).items()}
    assert len(calls) > 60
    await sdk.close()
    started = time.monotonic()
    ended = {name: type(await outcome(call)) for name, call in calls.items()}
    assert {name for name, kind in ended.items() if kind is not NotInitializedError} == set()
    assert time.monotonic() - started < 1
    await sdk.initialize()
    assert len(await doors["one_way"].send("alice", "bob", "hi", require_handler=False)) == 1
    await sdk.close()


async def test_starting_and_stopping_twice_does_nothing_more(url: str) -> None:
    sdk = Sdk(make_config(url))
    await sdk.close()
    await asyncio.gather(sdk.initialize(), sdk.initialize())
    await sdk.initialize()
    await sdk.add_people("alice", "bob")
    await asyncio.gather(sdk.close(), sdk.close())
    await sdk.close()


async def test_an_sdk_can_be_started_again_and_keeps_its_handlers(url: str) -> None:
    sdk = Sdk(make_config(url))
    sdk.register_handler("bob")(inbox := Inbox())
    for number in range(3):
        async with sdk as entered:
            assert entered is sdk
            await sdk.add_people("alice", "bob")
            await sdk.wait(await sdk.one_way.send("alice", "bob", number))
    assert inbox.messages == [0, 1, 2]


async def test_leaving_by_an_exception_passes_it_on(url: str) -> None:
    with pytest.raises(ZeroDivisionError):
        async with AgentMessaging[Any](url):
            _ = 1 / 0


async def test_several_sdk_objects_of_one_process_share_a_database(url: str) -> None:
    sdks = [Sdk(make_config(url)) for _ in range(4)]
    await asyncio.gather(*(sdk.initialize() for sdk in sdks))
    await sdks[0].add_people("alice", "bob")
    sdks[3].register_handler("bob")(inbox := Inbox())
    await sdks[1].wait_until_served("bob", SOON)
    ids = [id for number, sdk in enumerate(sdks) for id in await sdk.one_way.send("alice", "bob", number)]
    await sdks[2].wait(ids)
    assert sorted(inbox.messages) == [0, 1, 2, 3]
    for sdk in sdks:
        await sdk.close()
        left = [other for other in sdks if other is not sdk and other._lifecycle.engine is not None]
        for other in left:
            assert (await other.get_agent("bob")).external_id == "bob"


@pytest.mark.parametrize("config", [5, b"sqlite://", {"url": "sqlite://"}, Config])
def test_a_configuration_that_is_none_is_refused_before_anything_is_opened(config: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be a Config, a database URL or None"):
        AgentMessaging(config)


def test_a_url_that_no_backend_reads_is_refused_before_anything_is_opened() -> None:
    for url in ("", "mysql://db/x", "notes.db", "postgresql://host:notaport/db", "sqlite://notes.db"):
        with pytest.raises(ConfigurationError, match=r"(?i)postgresql://"):
            AgentMessaging(url)


async def test_without_automatic_schema_a_new_database_is_refused_with_the_command_to_run(
    empty_url: str, sqlite_path: Path
) -> None:
    sdk = AgentMessaging[Any](make_config(empty_url, auto_initialize_schema=False))
    with pytest.raises(SchemaVersionError, match="agent-messaging db"):
        await sdk.initialize()
    assert not sqlite_path.exists()
    async with AgentMessaging[Any](make_config(empty_url)) as other:
        await other.register_organization("acme", "Acme")
    async with sdk:
        assert (await sdk.get_organization("acme")).name == "Acme"


async def test_a_start_that_fails_leaves_nothing_open_and_can_be_repeated(tmp_path: Path) -> None:
    threads = threading.active_count()
    folder = tmp_path / "missing"
    sdk = AgentMessaging[Any](f"sqlite:///{folder}/notes.db")
    for _ in range(2):
        with pytest.raises(StorageUnavailableError, match="missing"):
            await sdk.initialize()
        with pytest.raises(NotInitializedError):
            await sdk.list_agents()
    assert threading.active_count() == threads
    folder.mkdir()
    async with sdk:
        assert await sdk.list_agents() == []


async def test_in_memory_each_object_has_a_store_of_its_own() -> None:
    async with Sdk("sqlite://:memory:") as one, Sdk("sqlite://:memory:") as two:
        await one.add_people("alice", "bob")
        one.register_handler("bob")(inbox := Inbox())
        [receipt] = await one.wait(await one.one_way.send("alice", "bob", "hi"))
        assert (receipt.state.value, inbox.messages) == ("done", ["hi"])
        assert await two.list_agents() == []


async def test_ids_are_uuids_and_the_configuration_can_be_read(url: str) -> None:
    async with Sdk(make_config(url)) as sdk:
        assert isinstance(await sdk.register_organization("acme", "Acme"), UUID)
        assert isinstance(sdk.config, Config)
        assert sdk.config.messaging.drain_timeout == 5.0


async def test_log_level_and_debug_take_effect(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    logger = logging.getLogger("agent_messaging")
    logger.setLevel(logging.NOTSET)  # otherwise it may be what an earlier test left, which is the application's
    try:
        for level, debug, expected in (("WARNING", "false", logging.WARNING), ("error", "true", logging.DEBUG)):
            monkeypatch.setenv("LOG_LEVEL", level)
            monkeypatch.setenv("DEBUG", debug)
            async with AgentMessaging[Any](url):
                assert logger.level == expected
    finally:
        logger.setLevel(logging.NOTSET)


async def test_the_handler_timeout_of_the_environment_takes_effect(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HANDLER_TIMEOUT", "0.05")
    monkeypatch.setenv("MESSAGING_MAX_ATTEMPTS", "1")
    async with Sdk(url) as sdk:
        await sdk.add_people("alice", "bob")
        sdk.register_handler("bob")(Gate())
        [receipt] = await sdk.wait(await sdk.one_way.send("alice", "bob", "hi"))
        assert receipt.state.value == "dead"
        assert "timed out after 0.05s" in receipt.reasons[0]


async def test_the_environment_chooses_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with AgentMessaging[Any]() as sdk:
        await sdk.register_organization("default", "Default")
    assert (tmp_path / "agent_messaging.db").exists()
    monkeypatch.setenv("AGENT_MESSAGING_DATABASE_URL", "sqlite:///other.db")
    async with AgentMessaging[Any]() as sdk:
        assert await sdk.list_organizations() == []
    assert (tmp_path / "other.db").exists()
    monkeypatch.setenv("AUTO_INITIALIZE_SCHEMA", "false")
    monkeypatch.setenv("AGENT_MESSAGING_DATABASE_URL", "sqlite:///third.db")
    with pytest.raises(SchemaVersionError):
        await AgentMessaging[Any]().initialize()


async def test_the_pool_size_of_the_environment_bounds_the_connections(
    monkeypatch: pytest.MonkeyPatch, postgres_server: PostgresServer, postgres_dsn: str
) -> None:
    monkeypatch.setenv("POSTGRES_MAX_POOL_SIZE", "2")
    database = postgres_dsn.partition("?")[0].rpartition("/")[2]
    async with Sdk(postgres_dsn) as sdk:
        assert sdk.config.database.min_pool_size == 2
        await sdk.add_people("alice", "bob")
        sending = [sdk.one_way.send("alice", "bob", number, require_handler=False) for number in range(50)]
        reading = [sdk.one_way.get_message_count("bob") for _ in range(50)]
        answers = asyncio.gather(*sending, *reading)
        most = 0
        while not answers.done():
            most = max(most, len(await postgres_server.connections(database)))
        await answers
        assert most <= 2 + 2, "the pool, and the one or two that listen"
    await eventually(lambda: postgres_server.connections(database), until=lambda left: not left)


def test_constructing_takes_keyword_and_parts_as_mappings() -> None:
    config = Config(database=DatabaseConfig(host="db"), messaging=MessagingConfig(handler_timeout=1))
    assert AgentMessaging[Any](config=config).config is config


def test_one_object_can_be_used_in_one_event_loop_after_another(sqlite_path: Path) -> None:
    sdk = Sdk(make_config(f"sqlite:///{sqlite_path}"))
    sdk.register_handler("bob")(inbox := Inbox())

    async def use(number: int) -> None:
        async with sdk:
            await sdk.add_people("alice", "bob")
            await sdk.wait(await sdk.one_way.send("alice", "bob", number))

    for number in range(3):
        asyncio.run(use(number))
    assert inbox.messages == [0, 1, 2]


async def test_a_handler_may_be_registered_from_another_thread(url: str) -> None:
    async with Sdk(make_config(url)) as sdk:
        await sdk.add_people("alice", "bob")
        ids = await sdk.one_way.send("alice", "bob", "hi", require_handler=False)
        inbox = Inbox()
        await asyncio.to_thread(lambda: sdk.register_handler("bob")(inbox))
        await sdk.wait(ids)
        assert inbox.messages == ["hi"]
