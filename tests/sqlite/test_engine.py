"""The threads under the store: grouped commits, jobs that fail or are abandoned, a constant number of statements."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import apsw
import pytest

from agent_messaging.exceptions import DatabaseError, NotInitializedError
from agent_messaging.models import Kind
from agent_messaging.storage.ports import ClaimRequest, Settlement, Settling
from agent_messaging.storage.sqlite import engine
from agent_messaging.storage.sqlite.engine import Writing
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.world import World
from tests.support import eventually

from .test_scale import without_filing


@asynccontextmanager
async def writer_held(store: SQLiteStore) -> AsyncIterator[None]:
    """Keep the writer in a job until the block ends, so that what is written meanwhile waits together."""
    held, go_on = threading.Event(), threading.Event()

    def hold(connection: apsw.Connection) -> None:
        held.set()
        go_on.wait(10)

    holding = asyncio.ensure_future(store.engine.write(hold))
    await eventually(held.is_set)
    try:
        yield
        await asyncio.sleep(0)  # what was begun in the block has come to the queue
    finally:
        go_on.set()
    await holding


def note(text: str) -> Callable[[apsw.Connection], str]:
    """A job that stores a row."""

    def job(connection: apsw.Connection) -> str:
        connection.execute("insert into store_clock values (?, 0)", (text,))
        return text

    return job


async def notes(store: SQLiteStore) -> set[str]:
    rows = await store.engine.read(lambda con: con.execute("select boot_id from store_clock").fetchall())
    return {str(row[0]) for row in rows}


async def count_commits(store: SQLiteStore) -> list[None]:
    """A list that grows by one at each commit that changed something."""
    commits: list[None] = []

    def hook() -> bool:
        commits.append(None)
        return False

    await store.engine.write(lambda con: con.set_commit_hook(hook))
    commits.clear()
    return commits


async def test_writes_that_wait_together_share_a_commit(store: SQLiteStore) -> None:
    commits = await count_commits(store)
    async with writer_held(store):
        waiting = [asyncio.ensure_future(store.engine.write(note(str(number)))) for number in range(20)]
    assert await asyncio.gather(*waiting) == [str(number) for number in range(20)]
    assert len(commits) == 2, "the one that held the writer, and one for all that waited"


async def test_writes_that_bring_many_bytes_share_no_commit_with_those_behind_them(store: SQLiteStore) -> None:
    commits = await count_commits(store)
    async with writer_held(store):
        waiting = [asyncio.ensure_future(store.engine.write(note(str(size)), size=size)) for size in (3, 4, 2, 1, 9)]
        store.engine.most_bytes = 8
    assert await asyncio.gather(*waiting) == ["3", "4", "2", "1", "9"]
    assert len(commits) == 3, "the one that held the writer, one for nine bytes, and one for what was behind them"


async def test_a_write_that_fails_hinders_no_other_of_its_group(store: SQLiteStore) -> None:
    def fail(connection: apsw.Connection) -> None:
        note("half")(connection)
        raise ZeroDivisionError

    async with writer_held(store):
        jobs = (note("a"), fail, note("b"), lambda con: con.execute("no sql"), note("c"))
        waiting = [asyncio.ensure_future(store.engine.write(job)) for job in jobs]
    a, failed, b, refused, c = await asyncio.gather(*waiting, return_exceptions=True)
    assert (a, b, c) == ("a", "b", "c")
    assert isinstance(failed, ZeroDivisionError)
    assert type(refused) is DatabaseError
    assert isinstance(refused.__cause__, apsw.SQLError)
    assert {"a", "b", "c"} <= await notes(store)
    assert "half" not in await notes(store)


async def test_what_a_job_leaves_is_done_behind_the_answers(store: SQLiteStore) -> None:
    commits = await count_commits(store)
    answered, fails = threading.Event(), [False]

    def behind(connection: apsw.Connection) -> None:
        assert answered.wait(10)  # for ever, if it kept the answer back
        note("behind")(connection)
        if fails[0]:
            raise ZeroDivisionError

    def leave(connection: apsw.Connection) -> str:
        assert isinstance(connection, Writing)
        connection.behind = behind
        return note("before")(connection)

    for number, is_stored in ((3, True), (6, False)):
        assert await store.engine.write(leave) == "before"
        answered.set()
        await store.engine.write(lambda con: con.execute("delete from store_clock where boot_id = 'before'"))
        assert ("behind" in await notes(store)) is is_stored
        assert len(commits) == number
        await store.engine.write(lambda con: con.execute("delete from store_clock where boot_id = 'behind'"))
        answered.clear()
        fails[0] = True


async def test_what_a_job_leaves_that_is_rolled_back_is_forgotten(store: SQLiteStore) -> None:
    def leave(text: str, *, fails: bool) -> Callable[[apsw.Connection], None]:
        def behind(connection: apsw.Connection) -> None:
            note(text)(connection)

        def job(connection: apsw.Connection) -> None:
            assert isinstance(connection, Writing)
            connection.behind = behind
            if fails:
                raise ZeroDivisionError

        return job

    with pytest.raises(ZeroDivisionError):
        await store.engine.write(leave("alone", fails=True))
    async with writer_held(store):
        jobs = (leave("stored", fails=False), leave("beside it", fails=True))
        waiting = [asyncio.ensure_future(store.engine.write(job)) for job in jobs]
    stored, failed = await asyncio.gather(*waiting, return_exceptions=True)
    assert stored is None
    assert isinstance(failed, ZeroDivisionError)
    await store.engine.write(note("after"))
    assert {"alone", "stored", "beside it"} & await notes(store) == {"stored"}


async def test_the_log_begins_anew(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_LOG_PAGES", 20)
    log = Path(f"{store.path}-wal")
    before = log.stat().st_size
    for number in range(200):
        await store.engine.write(note(str(number)))
    assert log.stat().st_size <= before + 40 * 4096


async def test_who_stops_waiting_stops_no_write(store: SQLiteStore) -> None:
    async with writer_held(store):
        waiting = [asyncio.ensure_future(store.engine.write(note(text))) for text in ("first", "left", "last")]
        await asyncio.sleep(0)
        waiting[1].cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[1], asyncio.CancelledError)
    assert {"first", "left", "last"} <= await notes(store)


async def test_closing_finishes_what_waits(store: SQLiteStore, open_store: Callable[..., object]) -> None:
    async with writer_held(store):
        waiting = [asyncio.ensure_future(store.engine.write(note(str(number)))) for number in range(3)]
        closing = asyncio.ensure_future(store.aclose())
    assert await asyncio.gather(*waiting) == ["0", "1", "2"]
    await closing
    with pytest.raises(NotInitializedError, match="not open"):
        await store.engine.write(note("late"))
    with pytest.raises(NotInitializedError, match="not open"):
        await store.engine.read(note("late"))


@contextmanager
def counted(connection: apsw.Connection) -> Iterator[list[str]]:
    """The statements executed inside the block without filing, and the rows stepped through, one entry each."""
    steps: list[str] = []

    def execute(cursor: apsw.Cursor, sql: str, bindings: apsw.Bindings | None) -> bool:
        steps.append(sql)
        return True

    def row(cursor: apsw.Cursor, values: apsw.SQLiteValues) -> apsw.SQLiteValues:
        steps.append("row")
        return values

    connection.exec_trace, connection.row_trace = execute, row
    try:
        with without_filing():
            yield steps
    finally:
        connection.exec_trace = connection.row_trace = None


async def steps_of_a_life(world: World, store: SQLiteStore, number: int) -> list[int]:
    """How many steps append, claim and settle take for so many messages."""
    connection = await store.engine.write(lambda con: con)
    counts = []
    groups = [
        world.group(sender, world.bob, claim=True, mailbox_limit=10**6, idempotency_key=str(n), session_id=f"{number}")
        for n, sender in enumerate([world.alice, world.carol] * number)
    ]
    with counted(connection) as steps:
        await world.append(*groups)
    counts.append(len(steps))
    held = await store.deliveries.list_claims(world.owner)
    with counted(connection) as steps:
        await store.deliveries.settle([Settlement(claim, Settling.DONE) for claim in held], owner=world.owner)
    counts.append(len(steps))
    requests = [ClaimRequest(world.bob, Kind.ONE_WAY, number, 30.0, ordered=False)]
    with counted(connection) as steps:
        claimed = await store.deliveries.claim(requests, owner=world.owner)
    counts.append(len(steps))
    assert len(claimed) == number
    with counted(connection) as steps:
        await store.deliveries.settle(
            [Settlement(delivery.claim, Settling.RETRY, 0.0, "again") for delivery in claimed],
            requests,
            owner=world.owner,
        )
    counts.append(len(steps))
    return counts


async def test_a_batch_takes_as_many_steps_as_a_single_message(store: SQLiteStore) -> None:
    # Each step gives up Python's lock, and beside a busy thread waits 5 ms to get it back.
    few = await steps_of_a_life(await World.create(store), store, 2)
    many = await steps_of_a_life(await World.create(store), store, 200)
    assert many == few
    assert max(few) <= 12


async def test_an_entry_of_an_earlier_run_is_no_repeat(world: World) -> None:
    await world.send()
    await world.settle(await world.claim_one(), Settling.RETRY, reason="first run")
    second = await world.claim_one()
    await world.settle(second, Settling.DONE)
    assert (await world.settle(second, Settling.RETRY, reason="second run")).moved == [False]
    assert (await world.settle(second, Settling.DONE)).moved == [True]
