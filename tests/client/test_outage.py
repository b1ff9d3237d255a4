"""A store that is down, busy, full, foreign or gone: each has its own error, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import asyncpg
import pytest

from agent_messaging import (
    AgentMessagingError,
    ConfigurationError,
    DatabaseError,
    OutcomeUnknownError,
    StorageBusyError,
    StorageCorruptError,
    StorageForeignError,
    StorageFullError,
    StorageReplacedError,
    StorageUnavailableError,
)
from agent_messaging.delivery import trouble
from tests.client.conversing import SLACK, Clerk, Desk, ask, nothing_is_left, states_of_asks, until_waiting
from tests.client.support import SOON, Gate, Inbox, MakeSdk, Sdk, make_config
from tests.fixtures.postgres import PostgresServer, new_server
from tests.support import eventually

BUDGET = 1.0
on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("backend", ["postgres"], indirect=True)


class OwnServer:
    """A PostgreSQL server that this test may stop and start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server: Any = None

    def start(self) -> None:
        self.server = new_server(self.folder)
        self.server.start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.cleanup()
            self.server = None

    @property
    def dsn(self) -> str:
        return str(self.server.get_uri())


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    """One that runs; it is not the other tests'."""
    folder = Path(tempfile.mkdtemp(prefix="am-own-"))
    server = OwnServer(folder / "data")
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [re.split(r"[:;(] ?", record.getMessage())[0].strip() for record in caplog.records if record.levelno >= 30]


async def test_a_server_that_goes_away_and_comes_back_loses_nothing_that_was_acknowledged(
    own_server: OwnServer, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(own_server.dsn, call_timeout=BUDGET, handler_grace=600)
    seen: list[Any] = []
    async with Sdk(config) as sdk:
        await sdk.add_people("alice", "bob")
        kept = []
        for number in range(5):
            kept += await sdk.one_way.send("alice", "bob", number, require_handler=False)
        waiting = asyncio.create_task(sdk.receipts.wait(kept, timeout=60))
        with pytest.raises(TimeoutError):  # the other one waits by then
            await sdk.receipts.wait(kept, timeout=0.2)
        await asyncio.to_thread(own_server.stop)
        started = time.monotonic()
        for call in (
            sdk.one_way.send("alice", "bob", "lost?", require_handler=False, idempotency_key="k"),
            sdk.one_way.get_message_count("bob"),
            sdk.register_agent("carol", "acme", "Carol"),
        ):
            with pytest.raises((StorageUnavailableError, OutcomeUnknownError)) as down:
                await call
            assert down.value.retryable
        assert time.monotonic() - started < 3 * (BUDGET + 1)
        with pytest.raises(StorageUnavailableError, match="cannot be reached"):
            await Sdk(config).initialize()
        sdk.register_handler("bob")(Inbox(lambda message, context: seen.append(message)))
        # The calls that failed have told their callers; in the log it stands once, and that the presence is cut off.
        assert sorted(warnings_in(caplog)) == ["The presence connection was lost", "the store failed, trying again"]
        await asyncio.to_thread(own_server.start)

        async def send_again() -> list[str] | None:
            try:
                return await sdk.one_way.send("alice", "bob", "lost?", require_handler=False, idempotency_key="k")
            except AgentMessagingError:
                return None

        again = await eventually(send_again, 30)
        assert again is not None
        assert {receipt.state.value for receipt in await waiting} == {"done"}
        assert (await sdk.receipts.wait(again[0], timeout=30)).state.value == "done"
        assert sorted(map(str, seen)) == ["0", "1", "2", "3", "4", "lost?"]


DOWN: dict[str, Callable[[Sdk], Any]] = {
    "send": lambda sdk: sdk.one_way.send("alice", "bob", 1, require_handler=False),
    "send under a key": lambda sdk: sdk.one_way.send("alice", "bob", 1, require_handler=False, idempotency_key="k"),
    "send_and_wait": lambda sdk: sdk.conversation.send_and_wait("alice", "bob", 1, require_handler=False, timeout=30),
    "send_no_wait": lambda sdk: sdk.conversation.send_no_wait("alice", "bob", 1),
    "end_conversation": lambda sdk: sdk.conversation.end_conversation("alice", "bob"),
    "get_unread_messages": lambda sdk: sdk.conversation.get_unread_messages("bob"),
    "wait_for_message": lambda sdk: sdk.conversation.wait_for_message("bob", "alice", timeout=30),
    "mark_messages_read": lambda sdk: sdk.one_way.mark_messages_read("bob"),
    "get_message_count": lambda sdk: sdk.one_way.get_message_count("bob"),
    "create_meeting": lambda sdk: sdk.meeting.create_meeting("alice", ["bob"], 60),
    "register_agent": lambda sdk: sdk.register_agent("carol", "acme", "Carol"),
    "deregister_agent": lambda sdk: sdk.deregister_agent("bob"),
    "redrive": lambda sdk: sdk.dead_letters.redrive(recipient_external_id="bob"),
    "wait_until_served": lambda sdk: sdk.wait_until_served("bob", timeout=30),
}


async def test_no_call_is_in_doubt_while_the_server_is_down(own_server: OwnServer) -> None:
    async with Sdk(make_config(own_server.dsn, call_timeout=2 * BUDGET)) as sdk:
        await sdk.add_people("alice", "bob")
        await asyncio.to_thread(own_server.stop)

        async def measure(call: Callable[[Sdk], Any]) -> tuple[str, bool]:
            started = time.monotonic()
            try:
                await asyncio.wait_for(call(sdk), 20)
            except Exception as error:
                return type(error).__name__, time.monotonic() - started < 2 * BUDGET + 2
            return "done", False

        ends = await asyncio.gather(*map(measure, DOWN.values()))
        assert dict(zip(DOWN, ends, strict=True)) == dict.fromkeys(DOWN, ("StorageUnavailableError", True))
        await asyncio.to_thread(own_server.start)


@on_postgres
async def test_terminated_connections_lose_nothing_that_was_acknowledged(
    make_sdk: MakeSdk, postgres_server: PostgresServer, url: str
) -> None:
    sdk, worker = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    worker.register_handler("bob")(inbox := Inbox())
    await sdk.wait_until_served("bob", SOON)
    database = url.partition("?")[0].rpartition("/")[2]
    acknowledged: list[str] = []
    doubtful = 0
    for number in range(60):
        if number % 15 == 7:
            await postgres_server.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", database
            )
        try:
            acknowledged += await sdk.one_way.send("alice", "bob", number, idempotency_key=str(number))
        except (OutcomeUnknownError, DatabaseError):
            doubtful += 1
            acknowledged += await sdk.one_way.send("alice", "bob", number, idempotency_key=str(number))
    receipts = await sdk.receipts.wait(acknowledged, timeout=30)
    assert {receipt.state.value for receipt in receipts} == {"done"}
    assert sorted({int(message) for message in inbox.messages}) == list(range(60))
    assert await sdk.one_way.get_message_count("bob") == 60
    repeats = len(inbox.messages) - 60
    assert repeats <= sum(receipt.attempt > 1 for receipt in receipts), "repeats only where a run was lost"


async def test_a_server_that_is_down_at_the_start_is_reported_at_once(tmp_path: Path) -> None:
    sdk = Sdk(make_config(f"postgresql://user:s3cret@/db?host={tmp_path}", call_timeout=BUDGET))
    started = time.monotonic()
    with pytest.raises(StorageUnavailableError, match="cannot be reached") as down:
        await sdk.initialize()
    assert time.monotonic() - started < 5
    assert "s3cret" not in str(down.value)


async def test_a_database_or_role_that_does_not_exist_is_named(postgres_server: PostgresServer) -> None:
    for dsn, name in (
        (postgres_server.database_dsn("no_such_database"), "no_such_database"),
        (postgres_server.dsn.replace("//postgres", "//no_such_role"), "no_such_role"),
    ):
        with pytest.raises((StorageUnavailableError, ConfigurationError, DatabaseError), match=name):
            await Sdk(make_config(dsn)).initialize()


@on_sqlite
async def test_a_locked_file_is_waited_for_and_then_reported(make_sdk: MakeSdk, sqlite_path: Path) -> None:
    sdk = await make_sdk(call_timeout=0.5)
    await sdk.add_people("alice", "bob")
    other = apsw.Connection(str(sqlite_path))
    other.execute("begin exclusive")
    try:
        started = time.monotonic()
        with pytest.raises((StorageBusyError, OutcomeUnknownError), match=r"(?i)busy|locked|repeat"):
            await sdk.one_way.send("alice", "bob", "hi", require_handler=False, idempotency_key="k")
        assert time.monotonic() - started < 0.5 + 1.5
        assert (await sdk.get_agent("bob")).name == "Bob", "reading goes on"
        asyncio.get_running_loop().call_later(0.2, other.execute, "rollback")
        await sdk.one_way.send("alice", "bob", "patient", require_handler=False)
    finally:
        other.close()
    await sdk.one_way.send("alice", "bob", "hi", require_handler=False, idempotency_key="k")
    contents = [record.content for record in await sdk.one_way.get_received_messages("bob")]
    assert sorted(contents) == ["hi", "patient"]


@on_sqlite
@pytest.mark.parametrize("suffix", ["", "-wal"], ids=["database", "log"])
async def test_a_file_that_is_removed_while_open_stops_the_sdk(
    make_sdk: MakeSdk, sqlite_path: Path, suffix: str
) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    Path(f"{sqlite_path}{suffix}").unlink()
    for _ in range(2):
        with pytest.raises(StorageReplacedError, match="removed or replaced while open"):
            await sdk.one_way.send("alice", "bob", "hi", require_handler=False)
    await asyncio.wait_for(sdk.close(), SOON)


@on_sqlite
async def test_a_full_disk_refuses_and_stores_nothing_and_the_rest_stays(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    engine: Any = sdk.store.engine  # type: ignore[attr-defined]

    def limit(pages: int) -> Any:
        return lambda connection: connection.pragma("max_page_count", pages)

    await engine.write(limit(200))
    stored: list[str] = []

    async def fill() -> None:
        for number in range(100):
            stored.extend(await sdk.one_way.send("alice", "bob", f"{number:<50000}", require_handler=False))

    with pytest.raises(StorageFullError, match="Make room"):
        await fill()
    assert 0 < len(stored) < 100
    assert await sdk.one_way.get_message_count("bob") == len(stored)
    await engine.write(limit(1_000_000))
    sdk.register_handler("bob")(inbox := Inbox())
    await sdk.wait([*stored, *await sdk.one_way.send("alice", "bob", "after")])
    assert [int(message) for message in inbox.messages[:-1]] == list(range(len(stored)))


async def test_a_disk_that_is_full_for_those_who_write_is_told_once_for_each_outage(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trouble, "STEADY", 0.5)
    monkeypatch.setattr(trouble, "LONGEST_PAUSE", 0.25)
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(Inbox())
    settle: Any = sdk.store.deliveries.settle
    tries: list[float] = []

    async def full(*given: Any, **how: Any) -> Any:
        tries.append(time.monotonic())
        raise StorageFullError

    for outage in (1, 2):
        tries.clear()
        monkeypatch.setattr(sdk.store.deliveries, "settle", full)
        [id] = await sdk.one_way.send("alice", "bob", outage)
        # Looks of others, which only read, succeed between these.
        await eventually(lambda: len(tries) >= 8 and tries[-1] - tries[0] > 1.0, 30)
        assert warnings_in(caplog).count("the store failed, trying again") == outage
        monkeypatch.setattr(sdk.store.deliveries, "settle", settle)
        await sdk.wait([id])
        await eventually(lambda: len(warnings_in(caplog)), 30, until=(2 * outage).__eq__)
    assert len(warnings_in(caplog)) == 4


@pytest.mark.parametrize("then", [StorageFullError, StorageBusyError, StorageUnavailableError])
async def test_a_message_that_may_be_stored_stays_in_doubt_whatever_its_repeat_meets(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch, then: type[DatabaseError]
) -> None:
    sdk = await make_sdk(call_timeout=BUDGET)
    await sdk.add_people("alice", "bob")
    deliveries = sdk._started().store.deliveries
    append = deliveries.append

    async def lose_the_answer(*arguments: Any, repeat: bool, **options: Any) -> Any:
        if repeat:
            raise then
        await append(*arguments, repeat=repeat, **options)
        raise OutcomeUnknownError

    monkeypatch.setattr(deliveries, "append", lose_the_answer)
    with pytest.raises(OutcomeUnknownError):
        await sdk.one_way.send("alice", "bob", "once", require_handler=False)
    monkeypatch.undo()
    assert [message.content for message in await sdk.one_way.get_received_messages("bob")] == ["once"]


async def test_a_message_that_was_claimed_between_the_lost_answer_and_the_repeat_runs_once(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repeat tells of a claim that is at work here already."""
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(gate := Gate())
    engine = sdk._started()
    append = engine.store.deliveries.append

    async def lose_the_answer(groups: Any, *, repeat: bool, **options: Any) -> Any:
        if repeat:
            return await append(groups, repeat=repeat, **options)
        wanted = [delivery for group in groups for delivery in group.deliveries]
        assert [delivery.claim for delivery in wanted] == [True]
        wanted[0].claim = False  # as where its lane is not free in that moment
        await append(groups, repeat=repeat, **options)
        wanted[0].claim = True
        engine.dispatcher.look()
        await gate.wait_for(1)
        raise OutcomeUnknownError

    monkeypatch.setattr(engine.store.deliveries, "append", lose_the_answer)
    ids = await sdk.one_way.send("alice", "bob", "once")
    gate.open()
    await sdk.wait(ids)
    await eventually(lambda: engine.dispatcher.is_idle, SOON)
    assert gate.messages == ["once"]


async def test_a_place_that_cannot_hold_a_database_is_named_with_the_remedy(tmp_path: Path) -> None:
    foreign, garbage, folder = tmp_path / "foreign.db", tmp_path / "garbage.db", tmp_path / "folder.db"
    connection = sqlite3.connect(foreign)
    connection.execute("create table theirs (x)")
    connection.commit()
    connection.close()
    garbage.write_bytes(b"this is not a database " * 100)
    folder.mkdir()
    before = foreign.read_bytes(), garbage.read_bytes()
    cases: list[tuple[str, type[AgentMessagingError], str]] = [
        (str(foreign), StorageForeignError, "another program"),
        (str(garbage), StorageCorruptError, "not a SQLite database"),
        (str(folder), ConfigurationError, "is a folder"),
        (str(tmp_path / "missing" / "x.db"), StorageUnavailableError, "Create it first"),
        (str(garbage / "x.db"), StorageUnavailableError, "does not exist"),
        ("/sys/agent_messaging.db", StorageUnavailableError, "(?i)permission|read-only"),
    ]
    for path, kind, text in cases:
        with pytest.raises(kind, match=text):
            await Sdk(make_config(f"sqlite:///{path}")).initialize()
    assert (foreign.read_bytes(), garbage.read_bytes()) == before, "they were not touched"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.db", "foreign.db", "garbage.db"]


# --- conversations ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def writing_stops(backend: str, url: str, sqlite_path: Path) -> AsyncIterator[None]:
    """Within, nothing can be written to the conversations of this test's store."""
    if backend == "sqlite":
        other = apsw.Connection(str(sqlite_path))
        other.execute("begin exclusive")
        try:
            yield
        finally:
            other.execute("rollback")
            other.close()
        return
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("lock table asks, sessions, waits in access exclusive mode")
            yield
    finally:
        await connection.close()


async def test_an_ask_returns_in_time_though_its_end_cannot_be_stored(
    make_sdk: MakeSdk, backend: str, url: str, sqlite_path: Path
) -> None:
    sdk = await make_sdk(call_timeout=5.0)
    await sdk.add_people("alice", "bob")
    for key in (None, "key"):
        started = time.monotonic()
        asking = ask(sdk, "alice", "bob", timeout=1.0, idempotency_key=key)
        await until_waiting(sdk, "alice", "bob")
        async with writing_stops(backend, url, sqlite_path):
            with pytest.raises(OutcomeUnknownError, match=r"did not answer by the timeout of 1 seconds"):
                await asking
            assert 1.0 <= time.monotonic() - started <= 1.0 + SLACK + 1.0
        await nothing_is_left(sdk)
    assert set(await states_of_asks(sdk)) <= {"timed_out", "cancelled"}
    with pytest.raises(TimeoutError):
        await ask(sdk, "alice", "bob", idempotency_key="key", timeout=0.2)
    sdk.register_handler("bob")(Clerk(lambda message, context: message))
    assert await sdk.conversation.send_and_wait("alice", "bob", "again") == "again"


async def test_an_ask_returns_in_time_though_it_cannot_be_stored_and_is_given_up_when_it_is(
    make_sdk: MakeSdk, backend: str, url: str, sqlite_path: Path
) -> None:
    sdk = await make_sdk(call_timeout=5.0)
    await sdk.add_people("alice", "bob")
    async with writing_stops(backend, url, sqlite_path):
        started = time.monotonic()
        asks = [ask(sdk, "alice", "bob", timeout=0.5), ask(sdk, "bob", "alice", timeout=0.5, wait_for_session=True)]
        for asking in asks:
            with pytest.raises(OutcomeUnknownError):
                await asking
        assert time.monotonic() - started <= 0.5 + SLACK + 1.0
    await sdk._started().outbox.wait_until_idle()
    await nothing_is_left(sdk)
    assert set(await states_of_asks(sdk)) <= {"timed_out", "cancelled"}
    sdk.register_handler("bob")(clerk := Clerk(lambda message, context: message))
    assert await sdk.conversation.send_and_wait("alice", "bob", "again") == "again"
    assert clerk.messages == ["again"], "what nobody waits for any more is not handled"


async def test_an_answer_that_cannot_be_stored_for_a_while_still_reaches_its_asker(
    make_sdk: MakeSdk, backend: str, url: str, sqlite_path: Path
) -> None:
    sdk = await make_sdk(call_timeout=5.0)
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(desk := Desk())
    asking = ask(sdk, "alice", "bob", timeout=30)
    await desk.wait_for(1)
    async with writing_stops(backend, url, sqlite_path):
        desk.answers.put_nowait("!")
        await eventually(lambda: desk.ended, SOON)
        assert not asking.done()
    assert await asking == "!"
    assert len(desk.messages) == 1
    await nothing_is_left(sdk)


async def test_reading_and_waiting_say_that_the_store_does_not_answer(
    make_sdk: MakeSdk, backend: str, url: str, sqlite_path: Path
) -> None:
    sdk = await make_sdk(call_timeout=0.5)
    await sdk.add_people("alice", "bob")
    await sdk.conversation.send_no_wait("alice", "bob", "hi")
    calls: list[Callable[[], Any]] = [
        lambda: sdk.conversation.end_conversation("alice", "bob"),
        lambda: sdk.conversation.send_no_wait("alice", "bob", "more", idempotency_key="k"),
        lambda: sdk.conversation.wait_for_message("alice", "bob", 60),
    ]
    async with writing_stops(backend, url, sqlite_path):
        for call in calls:
            started = time.monotonic()
            with pytest.raises((DatabaseError, OutcomeUnknownError)) as caught:
                await call()
            assert caught.value.retryable
            assert time.monotonic() - started < 0.5 + 2.5
    await sdk.conversation.send_no_wait("alice", "bob", "more", idempotency_key="k")
    assert await sdk.conversation.get_unread_messages("bob") == ["hi", "more"]
    await nothing_is_left(sdk)


@on_postgres
async def test_cut_connections_lose_no_answer(make_sdk: MakeSdk, postgres_server: PostgresServer, url: str) -> None:
    sdk, worker = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    worker.register_handler("bob")(clerk := Clerk(lambda message, context: message))
    await sdk.wait_until_served("bob", SOON)
    database = url.partition("?")[0].rpartition("/")[2]
    for number in range(40):
        if number % 10 == 7:
            await postgres_server.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", database
            )
        asking = ask(sdk, "alice", "bob", number, timeout=20, idempotency_key=str(number))
        try:
            assert await asking == number
        except (OutcomeUnknownError, DatabaseError):
            assert await ask(sdk, "alice", "bob", number, timeout=20, idempotency_key=str(number)) == number
    assert sorted(set(clerk.messages)) == list(range(40))
    assert await sdk.conversation.get_unread_messages("alice") == []
    await nothing_is_left(sdk, worker)


async def test_a_server_that_stops_while_asks_wait_releases_them_in_time(own_server: OwnServer) -> None:
    config = make_config(own_server.dsn, call_timeout=BUDGET, handler_grace=600)
    async with Sdk(config) as sdk:
        await sdk.add_people("alice", "bob", "carol")
        started = time.monotonic()
        short = ask(sdk, "alice", "bob", timeout=4.0)
        long = ask(sdk, "carol", "bob", timeout=60.0)
        await until_waiting(sdk, "alice", "bob")
        await until_waiting(sdk, "carol", "bob")
        await asyncio.to_thread(own_server.stop)
        with pytest.raises(OutcomeUnknownError):
            await short
        assert 4.0 <= time.monotonic() - started <= 4.0 + SLACK + 1.0
        await asyncio.to_thread(own_server.start)
        await eventually(lambda: _answers(sdk), 30)
        assert await long == "after the outage"
        await nothing_is_left(sdk)


async def _answers(sdk: Sdk) -> bool:
    try:
        await sdk.conversation.reply("bob", "carol", "after the outage")
    except AgentMessagingError:
        return False
    return True
