"""A store behind pgbouncer: found out at open, used as far as it can be, and refused with the lines to change."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from agent_messaging import AgentMessaging, Config, DatabaseConfig, MessagingConfig, Prunable
from agent_messaging.delivery.indexing import take_in
from agent_messaging.exceptions import ConfigurationError, StorageUnavailableError
from agent_messaging.storage.ports import Pruning
from agent_messaging.storage.postgres.pooler import Pooling, settings_of
from tests.postgres.conftest import StoreMaker, execute
from tests.postgres.poolers import find_program, pgbouncer
from tests.postgres.servers import OwnServer

needs_pgbouncer = pytest.mark.skipif(find_program() is None, reason="needs pgbouncer, which `make` gets by apt")

DEFAULTS: dict[str, str] = {}
RECOMMENDED = {
    "ignore_startup_parameters": "extra_float_digits,options,search_path",
    "max_client_conn": "200",
    "default_pool_size": "40",
}
IGNORING = {
    "ignore_startup_parameters": "timezone,default_transaction_isolation,statement_timeout,lock_timeout,"
    "idle_in_transaction_session_timeout,tcp_keepalives_idle,tcp_keepalives_interval,tcp_keepalives_count,"
    "enable_seqscan,enable_bitmapscan,enable_hashjoin,enable_mergejoin,seq_page_cost,random_page_cost,"
    "cpu_operator_cost,jit,plan_cache_mode,search_path",
}


@needs_pgbouncer
@pytest.mark.parametrize("settings", [DEFAULTS, RECOMMENDED, IGNORING], ids=["defaults", "recommended", "ignoring"])
@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_two_processes_work_behind_it(
    own_server: OwnServer, mode: str, settings: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Notes, asks and a meeting; many at once."""
    async with pgbouncer(own_server, mode, **settings) as dsn:
        config = Config(
            database=DatabaseConfig(url=dsn, lease=3.0, max_pool_size=4), messaging=MessagingConfig(drain_timeout=2.0)
        )
        with caplog.at_level(logging.WARNING, "agent_messaging"):
            async with AgentMessaging(config) as one, AgentMessaging(config) as two:
                assert one.store.engine.pooling is Pooling(mode)  # type: ignore[attr-defined]
                await one.register_organization("acme", "Acme")
                for name in ("alice", "bob"):
                    await one.register_agent(name, "acme", name)

                @two.register_handler("bob")
                async def bob(message: object, context: object) -> object:
                    return {"heard": message}

                await one.wait_until_served(["bob"], timeout=20.0)
                sent = await asyncio.gather(*(one.one_way.send("alice", "bob", {"n": n}) for n in range(80)))
                receipts = await one.receipts.wait([id for ids in sent for id in ids], timeout=20.0)
                assert {receipt.state for receipt in receipts} == {"done"}
                answers = await asyncio.gather(
                    *(one.conversation.send_and_wait("alice", "bob", n, 20.0, wait_for_session=True) for n in range(5))
                )
                assert answers == [{"heard": n} for n in range(5)]
                table = await one.meeting.create_meeting("alice", ["bob"], turn_duration=20.0)
                await two.meeting.attend_meeting("bob", table)
                await one.meeting.start_meeting("alice", table, "welcome")
                turn = await two.meeting.wait_for_turn("bob", table, timeout=20.0)
                assert turn.number == 2
                assert not await one.store.presence.find_dead()
        assert sum("transaction mode" in record.message for record in caplog.records) == 2 * (mode == "transaction")


@needs_pgbouncer
async def test_a_store_moves_through_it_and_is_searched_and_pruned_there(own_server: OwnServer, tmp_path: Path) -> None:
    """Into a database and out of it again, in either mode: with transactions that are long, and one snapshot."""
    async with AgentMessaging("sqlite://:memory:") as there:
        await there.register_organization("acme", "Acme")
        for name in ("alice", "bob"):
            await there.register_agent(name, "acme", name)
        for number in range(6):
            await there.one_way.send("alice", "bob", f"tea {number}", {"n": number}, require_handler=False)
        await there.conversation.send_no_wait("alice", "bob", "x" * 100_000)
        first = await there.archive.export(tmp_path / "first.gz")
    for mode in ("session", "transaction"):
        await execute(own_server.dsn, "drop schema public cascade", "create schema public")
        async with pgbouncer(own_server, mode) as dsn, AgentMessaging(dsn) as here:
            assert (await here.archive.import_(first.path)).counts == first.counts
            again = await here.archive.export(tmp_path / f"{mode}.gz")
            assert Path(again.path).read_bytes() == Path(first.path).read_bytes()
            assert (await here.archive.import_(first.path)).is_repeat
            search, process_id = here.store.search, here.store.presence.process_id
            for _ in range(2):
                while await take_in(search, process_id):
                    pass
                assert (await search.progress()).behind == 0
                assert len(await here.search_messages("tea -3")) == 5
                await search.restart()
            assert await here.one_way.get_message_count("bob", read_status=False) == 6
            kinds = [Pruning(kind, 0.0, unread=True) for kind in (Prunable.MESSAGES, Prunable.SESSIONS)]
            (message, *_) = await here.receive("bob", limit=1)
            await message.done()
            assert [(await here.store.retention.prune(kind, limit=100)).number for kind in kinds] == [1, 0]
            assert await here.store.check() == []


@needs_pgbouncer
async def test_statement_mode_is_refused_with_the_line_to_change(own_server: OwnServer, open_store: StoreMaker) -> None:
    async with pgbouncer(own_server, "statement") as dsn:
        with pytest.raises(ConfigurationError, match=r"pgbouncer\.ini.*pool_mode = session"):
            await open_store(dsn)


@needs_pgbouncer
async def test_our_settings_hold_in_either_mode(own_server: OwnServer, open_store: StoreMaker) -> None:
    ask = """
    select current_setting('statement_timeout') || current_setting('enable_seqscan') || current_setting('timezone')
    """
    for mode in ("session", "transaction"):
        async with pgbouncer(own_server, mode) as dsn:
            store = await open_store(dsn, call_timeout=7.0)
            for write in (True, False):
                assert await store.engine.run(lambda connection: connection.fetchval(ask), write=write) == "7soffUTC"
            await store.aclose()
            # What the next client of the pool finds.
            assert await ask_through(dsn, ask) != "7soffUTC"


@needs_pgbouncer
async def test_a_schema_in_the_url_works_in_session_mode_and_is_refused_in_the_other(
    own_server: OwnServer, open_store: StoreMaker
) -> None:
    await execute(own_server.dsn, 'create schema "My-Agents"', "select 1")
    parameter = f"search_path={quote(chr(34) + 'My-Agents' + chr(34))}"
    async with pgbouncer(own_server, "session") as dsn:
        store = await open_store(f"{dsn}?{parameter}")
        assert (await store.engine.run(lambda c: c.fetchval("select current_schema()"), write=False)) == "My-Agents"
        await store.aclose()
    async with pgbouncer(own_server, "transaction") as dsn:
        with pytest.raises(ConfigurationError, match=r"sets search_path.*alter role.*pool_mode = session"):
            await open_store(f"{dsn}?{parameter}")


@needs_pgbouncer
async def test_a_pool_that_is_too_small_is_named(own_server: OwnServer, open_store: StoreMaker) -> None:
    async with pgbouncer(own_server, "session", default_pool_size="1") as dsn:
        with pytest.raises(StorageUnavailableError, match="default_pool_size"):
            await open_store(dsn, connect_timeout=1.0)


@needs_pgbouncer
async def test_a_full_pooler_is_named(own_server: OwnServer, open_store: StoreMaker) -> None:
    async with pgbouncer(own_server, "transaction", max_client_conn="2") as dsn:
        with pytest.raises(StorageUnavailableError, match=r"max_client_conn|no more connections"):
            await open_store(dsn, min_pool_size=5, connect_timeout=2.0)


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("-c search_path=mine", {"search_path": "mine"}),
        (r"-csearch_path=one,\ two --geqo=off", {"search_path": "one, two", "geqo": "off"}),
    ],
)
def test_options_become_settings_behind_a_pooler(options: str, settings: dict[str, str]) -> None:
    given = {"options": options, "application_name": "a"}
    assert settings_of(given, Pooling.SESSION, "postgresql://h") == settings


def test_options_that_a_pooler_cannot_pass_on_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"endpoint=x.*search_path="):
        settings_of({"options": "endpoint=x"}, Pooling.SESSION, "postgresql://h")


async def ask_through(dsn: str, statement: str) -> object:
    """Run a statement behind the pooler."""
    connection = await asyncpg.connect(dsn, statement_cache_size=0)
    try:
        return await connection.fetchval(statement)
    finally:
        connection.terminate()
