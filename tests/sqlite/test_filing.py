"""Mailboxes are the same whether their rows are filed, are not yet, or some are."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agent_messaging.delivery.indexing import take_in
from agent_messaging.exceptions import AgentMessagingError
from agent_messaging.models import AskState, Kind
from agent_messaging.storage.ports import Role
from agent_messaging.storage.sql import Queries, parse
from agent_messaging.storage.sqlite import filing
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance import MessageConformance, SessionConformance, ThreadConformance, WaitConformance
from tests.conformance.test_twins import Side, Twins, verbs
from tests.conformance.twins import opened
from tests.conformance.world import World, ids

CHECKS = Queries("agent_messaging.storage.sqlite", "checks")

ONE_GROUP: dict[str, Any] = {
    **dict.fromkeys(("limit", "deliver_in", "expires_in", "key", "within", "answers")),
    "kind": "note",
    "claim": False,
    "attempts": 5,
    "timeout": 8.5,
    "flag": False,
}


class Filed:
    """Stores in which some rows of every test are filed: a test of the suite stores too few for a filing of its own."""

    @pytest.fixture(autouse=True)
    def files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every three messages all but the newest."""
        monkeypatch.setattr(filing, "_EVERY", 3)
        monkeypatch.setattr(filing, "_KEPT", 1)


class TestMessages(Filed, MessageConformance):
    """Lists, counts and read marks."""


class TestSessions(Filed, SessionConformance):
    """Histories, unread messages, statistics."""


class TestThreads(Filed, ThreadConformance):
    """The same in threads."""


class TestWaits(Filed, WaitConformance):
    """What a waiting agent takes."""


@pytest.fixture
def backend() -> str:
    """This is about one."""
    return "sqlite"


async def count(store: SQLiteStore, sql: str) -> int:
    """What the statement counts."""
    return int(await store.engine.read(lambda con: con.execute(sql).get))


async def test_what_is_not_filed_stays_bounded(
    store: SQLiteStore, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filing, "_EVERY", 512)

    async def unfiled() -> int:
        return await count(store, "select count(*) from unfiled")

    most = filing._EVERY + filing._KEPT
    for size in (100, 1, 7, 600, 100, 1):
        for _ in range(7):
            await world.send_many(size, world.alice, world.bob)
            assert await unfiled() < most + size, size
    # Answers pass the numbers, too.
    for _ in range(most // 2):
        asked = await world.ask(world.carol, world.dave)
        await world.answer(world.dave, world.carol)
        assert await world.ask_state(asked) is AskState.REPLIED
    assert await unfiled() <= most
    assert await store.check() == []


async def test_everything_is_filed_in_steps(store: SQLiteStore, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """So others wait for one step of a reindexing, and not for all of it."""
    monkeypatch.setattr(filing, "_AT_ONCE", 10)
    await world.send_many(35, world.alice, world.bob)
    assert [await store.engine.write(filing.file_step) for _ in range(4)] == [True, True, True, False]
    assert await count(store, "select count(*) from unfiled") == 0
    await store.search.restart()
    assert await count(store, "select count(*) from unfiled") == 0
    assert await store.check() == []


async def test_an_agent_takes_what_is_filed_and_what_is_not_along(
    store: SQLiteStore, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filing, "_EVERY", 512)
    stays = [await world.send(world.bob, world.carol)]
    await world.send_many(filing._EVERY, world.alice, world.bob)
    await world.send_many(filing._EVERY, world.bob, world.alice)
    await world.ask(world.carol, world.alice)
    stays.append(await world.send(world.bob, world.carol))
    agents = await store.directory.find_agents_by_id([world.alice])
    assert await store.directory.remove_agent(agents[0].external_id)
    listed = await store.messages.list_messages(world.bob, Role.SENDER, Kind.ONE_WAY, limit=10**6)
    assert ids(listed[::-1]) == stays
    assert await count(store, "select count(*) from messages") == len(stays)
    assert await count(store, "select count(*) from deliveries") == len(stays)


async def test_no_number_is_given_twice(store: SQLiteStore, world: World) -> None:
    """A claim names its message by the number, and so does whoever reads on from a message."""
    await world.send(world.bob, world.carol)
    for gone in (world.alice, world.dave):
        await world.send(gone, world.bob)
        newest = await count(store, "select max(seq) from messages")
        (agent,) = await store.directory.find_agents_by_id([gone])
        assert await store.directory.remove_agent(agent.external_id)
        await world.send(world.bob, world.carol)
        assert await count(store, "select max(seq) from messages") == newest + 1


async def test_what_is_rolled_back_files_nothing(
    store: SQLiteStore, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the mark would pass numbers that are still to be given, and no list would show what gets them."""
    monkeypatch.setattr(filing, "_EVERY", 16)
    monkeypatch.setattr(filing, "_KEPT", 2)
    commits: list[None] = []

    def refuse_second() -> bool:
        commits.append(None)
        return len(commits) == 2

    first = await world.send()
    await store.engine.write(lambda con: con.set_commit_hook(refuse_second))
    with pytest.raises(AgentMessagingError):
        await world.send_many(40, world.alice, world.bob)
    sent = [first, *[await world.send() for _ in range(5)]]
    listed = await store.messages.list_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY, limit=100)
    assert ids(listed[::-1]) == sent
    assert await store.check() == []


async def test_a_message_of_nobody_is_found(store: SQLiteStore, world: World) -> None:
    """No foreign key leads from messages to agents, so the check of the store looks for itself."""
    id = await world.send(world.alice, world.bob)
    assert await store.check() == []

    def remove(connection: apsw.Connection) -> None:
        connection.execute("delete from agents where id = ?", (world.bob,))

    await store.engine.write(remove)
    (finding,) = await store.check()
    assert f"The row of messages with id {id} refers to a row of agents that does not exist." in finding


@pytest.mark.parametrize("how", ["read", "prune", "remove"])
async def test_a_list_of_a_thread_goes_when_it_is_empty(
    store: SQLiteStore, world: World, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Otherwise a row would stay for each thread, and for each sender that was there once."""
    monkeypatch.setattr(filing, "_EVERY", 4)
    monkeypatch.setattr(filing, "_KEPT", 0)
    lists = "select count(*) from lists where name = 'unread' and (sender_id <> '' or thread <> '')"
    for number in range(12):
        await world.append(world.talk(world.alice, world.bob, thread=f"thread {number % 3}"))
    await store.engine.write(lambda con: None)  # what was left behind the last one is done
    assert await count(store, lists) == 1 + 2 * 3
    if how == "read":
        assert len((await world.sessions.read_messages(world.bob, mark=True, limit=100)).messages) == 12
    elif how == "prune":
        await store.engine.write(lambda con: con.execute("delete from messages").close())
    else:
        agents = await store.directory.find_agents_by_id([world.alice])
        assert await store.directory.remove_agent(agents[0].external_id)
    assert await count(store, lists) == 0
    assert await store.check() == []


async def test_what_stands_on_the_lists_is_checked_without_a_copy(store: SQLiteStore) -> None:
    """A copy of all that belongs there takes some hundred bytes of memory for each message of the store."""

    def plan(connection: apsw.Connection) -> list[str]:
        names = ("find_misfiled", "find_mislisted")
        return [row[3] for name in names for row in connection.execute("explain query plan " + CHECKS[name])]

    steps = await store.engine.read(plan)
    assert steps
    assert [step for step in steps if "AUTOMATIC" in step] == []


async def test_what_no_list_would_show_is_found(store: SQLiteStore, world: World) -> None:
    await world.send(world.alice, world.bob)
    await store.engine.write(lambda con: con.execute("update message_numbers set filed = 1"))
    finding, _ = await store.check()  # and the count of unread messages differs
    assert finding.startswith("The delivery with seq 1 is not filed though message_numbers says so")


@pytest.mark.parametrize(
    ("damage", "finding", "heals"),
    [
        ("delete from message_numbers", "is missing", True),
        ("update message_numbers set filed = 0", "filed up to 0; it must be at least 6", True),
        ("update message_numbers set filed = -3", "filed up to -3", True),
        ("update message_numbers set filed = -9223372036854775808", "filed up to -9223372036854775808", True),
        ("update message_numbers set filed = 1000", "filed up to 1000; it must be at least 6, which is filed", False),
        ("delete from messages where seq > 7; update message_numbers set removed = 0", "index of words reaches", False),
        ("update message_numbers set removed = -1", "its removed is -1", True),
        ("delete from listed where seq = 3", "The delivery with seq 3 is not filed", False),
        ("delete from lists where name = 'unread'", "The delivery with seq 1 is not filed", False),
        ("insert into listed (list, seq) values (1, 900)", "A list of messages has the number 900", False),
        ("update lists set owner_id = 'nobody' where name = 'sent'", "A list of messages has the number 1,", False),
    ],
)
async def test_a_damaged_mark_is_named_and_made_anew(
    store: SQLiteStore, world: World, monkeypatch: pytest.MonkeyPatch, damage: str, finding: str, heals: bool
) -> None:
    """Meanwhile time and others go on. The next filing mends most of it, and `db reindex` the rest."""
    monkeypatch.setattr(filing, "_EVERY", 4)
    monkeypatch.setattr(filing, "_KEPT", 2)

    async def send(number: int) -> None:
        for _ in range(number):
            await world.send(world.alice, world.bob)
        await store.engine.write(lambda con: None)  # what was left behind the last one is done

    await send(9)
    while await take_in(store.search, world.owner, limit=100):
        pass
    assert await store.check() == []
    await store.engine.write(lambda con: con.execute(damage).close())
    found = await store.check()
    assert any(finding in one for one in found), found
    (claimed,) = await world.claim(limit=1)
    assert (await store.deliveries.advance(world.at(1000))).released == 1
    assert await world.claim(world.bob, limit=1) != [claimed]
    if "removed = -1" in damage:
        await store.engine.write(lambda con: con.execute("update message_numbers set removed = 0").close())
    if not heals:
        await store.search.restart()
    await send(5)
    assert await store.check() == []
    listed = ids(await store.messages.list_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY, limit=100))
    assert len(listed) == len(set(listed)) == await count(store, "select count(*) from deliveries")
    assert len(listed) == await store.messages.count_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY, read=False)


def test_any_program_is_answered_alike_whether_rows_are_filed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a store that files nothing. Every list and count is compared, and every number is given once."""
    monkeypatch.setattr(filing, "_EVERY", 3)
    monkeypatch.setattr(filing, "_KEPT", 1)
    never = tmp_path / "never.db"
    file = filing._file

    def file_elsewhere(connection: apsw.Connection, up_to: int) -> None:
        if connection.db_filename("main") != str(never):
            file(connection, up_to)

    monkeypatch.setattr(filing, "_file", file_elsewhere)
    stores = [SQLiteStore(tmp_path / "filed.db"), SQLiteStore(never)]
    newest = [0, 0]

    async def reopen(side: Side) -> None:
        await side.world.store.aclose()
        await side.world.store.open()

    def compare(twins: Twins) -> None:
        twins.compare()
        for agent in map(twins.agent, range(3)):
            twins.both(partial(list_all, agent))
        for position, store in enumerate(stores):
            assert twins.run(store.check()) == []
            number = twins.run(store.engine.write(filing.find_next))
            assert number >= newest[position]
            newest[position] = number

    with asyncio.Runner() as runner, opened([*stores], runner):

        @settings(
            max_examples=2,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
        )
        @given(st.lists(verbs, min_size=40, max_size=50))
        def judge(program: list[tuple[Any, ...]]) -> None:
            twins = Twins([*stores], runner.run)
            try:
                for verb, *arguments in program:
                    getattr(twins, "return_" if verb == "return" else verb)(*arguments)
                compare(twins)
                twins.both(reopen)
                twins.append([{**ONE_GROUP, "pair": pair} for pair in ((0, 1), (1, 2), (2, 0))])
                compare(twins)
            finally:
                twins.remove()

        judge()


async def list_all(agent: str, side: Side) -> list[Any]:
    """What all lists and counts say of an agent."""
    world, found = side.world, list[Any]()
    for role in Role:
        for kind in (Kind.ONE_WAY, Kind.CONVERSATION):
            for other in (None, world.alice, world.bob, world.carol):
                found += [
                    await world.store.messages.count_messages(agent, role, kind, read=read, other_id=other)
                    for read in (None, True, False)
                ]
                found += await world.store.messages.list_messages(agent, role, kind, limit=1000, other_id=other)
            found += await world.store.messages.list_messages(agent, role, kind, limit=1000, unread_only=True)
    found.append(await world.sessions.read_messages(agent, mark=False, limit=1000))
    found.append(await world.sessions.statistics(agent))
    for session in await world.sessions.list_sessions(agent, limit=100):
        found += await world.sessions.list_messages(session.session_id, limit=1000)
        found.append(await world.sessions.count_messages(session.session_id))
    return found


def test_whoever_stores_deliveries_files() -> None:
    """A statement that forgets it would write a page for each agent again, or leave more and more rows unfiled."""
    room = Path(filing.__file__).parent
    stores = {
        name: block
        for path in (room / "sql").glob("*.sql")
        for name, block in parse(path.read_text(encoding="utf-8")).items()
        if re.search(r"^insert into deliveries\b", block, re.MULTILINE)
    }
    assert len(stores) > 3
    for path in room.glob("*.py"):
        source = path.read_text(encoding="utf-8")
        if any(f'"{name}"' in source for name in stores):
            assert re.search(r"\bfile(_all)?\(", source), path.name
