"""What long conversations and many askers cost, counted in SQLite's own steps and statements (see test_scale.py)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import apsw
import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import AskState, Kind, SessionStatus
from agent_messaging.storage.ports import (
    Answering,
    MutualWait,
    NewAnswer,
    NewEnding,
    NewGroup,
    NewWait,
    NotWaiting,
    Settlement,
    Settling,
    Stored,
    lane_of,
)
from agent_messaging.storage.sqlite import filing
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.world import World

from .test_scale import cost, without_filing

MANY = 10_000
TALK = Kind.CONVERSATION


def talk(world: World, sender: str, recipient: str, **options: Any) -> NewGroup:
    return world.group(sender, recipient, kind=TALK, session_id=new_id(), **options)


@pytest.fixture
async def long(world: World, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> World:
    """Alice has asked bob many times, and was answered; he has not read it. Carol's notes to him nobody has handled.

    Nearly all of it is filed. What is not is as much however long a conversation is; `test_filing` bounds it.
    """
    monkeypatch.setattr(filing, "_EVERY", 512)
    for _ in range(MANY // 1000):
        groups = []
        for _ in range(1000):
            groups.append(talk(world, world.alice, world.bob, ask_timeout=30.0, answers=Answering.IF_TAKEN))
            groups.append(talk(world, world.bob, world.alice, answers=Answering.REQUIRED))
        await world.append(*groups)
        await world.append(*(talk(world, world.carol, world.bob, notify=True) for _ in range(1000)))
    # So that they are what handlers leave: done, had once, unread.
    await store.engine.write(
        lambda con: con.execute("update deliveries set attempt = 1, token = 1 where state = 'done'").close()
    )
    return world


async def test_a_long_conversation_slows_nothing_down(long: World, store: SQLiteStore) -> None:
    world, sessions = long, store.sessions
    session = await sessions.find_open_session(world.alice, world.bob)
    assert session is not None
    (other,) = await world.append(talk(world, world.dave, world.bob, ask_timeout=1000.0))
    assert isinstance(other, Stored)
    await sessions.register_wait(NewWait("waits", world.bob, world.alice, None), owner=world.owner)

    async def ask() -> None:
        group = talk(world, world.alice, world.bob, ask_timeout=30.0, answers=Answering.IF_TAKEN)
        (outcome,) = await world.append(group)
        assert isinstance(outcome, Stored)
        await sessions.close_asks([group.deliveries[0].message_id], AskState.CANCELLED)

    async def answer() -> None:
        group = talk(world, world.dave, world.carol, ask_timeout=30.0, claim=True)
        (outcome,) = await world.append(group)
        assert isinstance(outcome, Stored)
        settlement = Settlement(
            outcome.claims[group.deliveries[0].message_id], Settling.DONE, answer=NewAnswer(new_id(), "1", 0)
        )
        assert (await store.deliveries.settle([settlement], owner=world.owner)).ended_asks

    async def take_nothing() -> None:
        assert await sessions.take_awaited(world.bob, world.alice) is None

    async def read_from_one() -> None:
        assert (await sessions.read_messages(world.bob, sender_id=world.dave, limit=10)).is_last

    async def end() -> None:
        await world.append(talk(world, world.alice, world.dave))
        assert await sessions.end_session(world.alice, world.dave, NewEnding(new_id(), "{}", 0)) is not None

    async def wait() -> None:
        assert await sessions.find_waits(["waits"]) == {}

    async def notice() -> None:
        await world.append(talk(world, world.dave, world.alice, notify=True))
        assert len(await sessions.take_notices([world.alice], 10)) == 1

    costs = {
        "ask": await cost(store, ask),
        "answer": await cost(store, answer),
        "take nothing": await cost(store, take_nothing),
        "look for what a wait waits for": await cost(store, wait),
        "read of one sender": await cost(store, read_from_one),
        "read a page": await cost(store, lambda: sessions.read_messages(world.bob, mark=False, limit=10)),
        "end": await cost(store, end),
        "find": await cost(store, lambda: sessions.find_open_session(world.bob, world.alice)),
        "list sessions": await cost(store, lambda: sessions.list_sessions(world.bob, open_only=True, limit=10)),
        "list ended sessions": await cost(
            store, lambda: sessions.list_sessions(world.bob, status=SessionStatus.ENDED, limit=10)
        ),
        "list the newest messages": await cost(
            store, lambda: sessions.list_messages(session.session_id, newest_first=True, limit=10)
        ),
        "list messages before one": await cost(
            store,
            lambda: sessions.list_messages(session.session_id, before_seq=MANY // 2, newest_first=True, limit=10),
        ),
        "list messages": await cost(store, lambda: sessions.list_messages(session.session_id, limit=10)),
        "advance": await cost(store, store.deliveries.advance),
        "retire": await cost(store, lambda: store.processes.retire(new_id())),
        "notice": await cost(store, notice),
    }
    assert {name: steps for name, steps in costs.items() if steps > MANY // 4} == {}


async def test_a_page_of_a_full_thread_costs_what_is_on_it(
    world: World, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all senders and of one. Neither reads the rest of the thread, nor sorts it."""
    monkeypatch.setattr(filing, "_EVERY", 512)
    for _ in range(MANY // 1000):
        await world.append(*(talk(world, world.alice, world.bob, thread="full") for _ in range(1000)))

    async def read(**options: Any) -> None:
        batch = await store.sessions.read_messages(world.bob, mark=False, limit=10, thread="full", **options)
        assert len(batch.messages) == 10

    costs = {
        "of all": await cost(store, read),
        "of one": await cost(store, lambda: read(sender_id=world.alice)),
        "in the middle": await cost(store, lambda: read(after_seq=MANY // 2)),
    }
    assert {name: steps for name, steps in costs.items() if steps > MANY} == {}


async def test_many_waits_beside_one_do_not_slow_claiming(world: World, store: SQLiteStore) -> None:
    def register(connection: apsw.Connection) -> None:
        for number in range(MANY):
            row = (f"wait-{number}", world.bob, world.carol, world.owner)
            connection.execute("insert into waits (id, recipient_id, sender_id, process_id) values (?, ?, ?, ?)", row)

    await store.engine.write(register)
    await world.append(talk(world, world.carol, world.bob), *(talk(world, world.alice, world.bob) for _ in range(5)))

    async def claim(**options: Any) -> None:
        (claimed,) = await world.claim(limit=1, kind=TALK, **options)
        assert claimed.sender_id == world.alice
        await world.settle(claimed, Settling.RETURNED)

    assert await cost(store, claim) < MANY // 4
    assert await cost(store, lambda: claim(ordered=False)) < MANY // 4


async def test_ten_thousand_threads_of_one_pair_slow_no_call_in_one_of_them_down(
    world: World, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has an open ask, and a message that nobody has read. Nearly all are filed, as above."""
    monkeypatch.setattr(filing, "_EVERY", 512)
    names = [f"thread {number}" for number in range(MANY)]
    for place in range(0, MANY, 1000):
        groups = [talk(world, world.bob, world.alice, ask_timeout=1000.0, thread=name) for name in names[place:][:1000]]
        groups += [talk(world, world.alice, world.bob, thread=name) for name in names[place:][:1000]]
        await world.append(*groups)
    sessions, middle = store.sessions, names[MANY // 2]
    await sessions.register_wait(NewWait("one", world.carol, world.alice, None, thread="empty"), owner=world.owner)

    async def ask() -> None:
        group = talk(world, world.bob, world.alice, ask_timeout=30.0, answers=Answering.IF_TAKEN, thread="new")
        (outcome,) = await world.append(group)
        assert isinstance(outcome, Stored), outcome
        await sessions.close_asks([group.deliveries[0].message_id], AskState.CANCELLED)

    async def say() -> None:
        group = talk(world, world.alice, world.bob, answers=Answering.IF_TAKEN, is_anywhere=True)
        (outcome,) = await world.append(group)
        assert isinstance(outcome, Stored)

    async def reply() -> None:
        group = talk(world, world.alice, world.bob, answers=Answering.REQUIRED, is_anywhere=True)
        (outcome,) = await world.append(group)
        assert isinstance(outcome, NotWaiting)
        assert len(outcome.threads) > 1

    async def claim() -> None:
        (claimed,) = await world.claim(world.bob, limit=1, kind=TALK, after_lane=lane_of(world.alice, names[7]))
        await world.settle(claimed, Settling.RETURNED)

    async def end() -> None:
        name = names.pop()
        assert await sessions.end_session(world.alice, world.bob, NewEnding(new_id(), "{}", 0), name) is not None

    async def take(thread: str | None) -> None:
        row = await sessions.take_awaited(world.bob, world.alice, thread=thread)
        assert row is not None
        await sessions.return_messages([row])

    costs = {
        "ask in a new one": await cost(store, ask),
        "say in the main one": await cost(store, say),
        "reply without a name": await cost(store, reply),
        "claim": await cost(store, claim),
        "end one": await cost(store, end),
        "take in one": await cost(store, lambda: take(names[9])),
        "take in any": await cost(store, lambda: take(None)),
        "read one": await cost(store, lambda: sessions.read_messages(world.bob, mark=False, limit=10, thread=middle)),
        "read all": await cost(store, lambda: sessions.read_messages(world.bob, mark=False, limit=10)),
        "look for what a wait waits for": await cost(store, lambda: sessions.find_waits(["one"])),
        "find": await cost(store, lambda: sessions.find_open_session(world.bob, world.alice, names[-1])),
        "list": await cost(store, lambda: sessions.list_sessions(world.bob, open_only=True, limit=10)),
    }
    assert {name: steps for name, steps in costs.items() if steps > MANY // 3} == {}


async def statements(store: SQLiteStore, call: Callable[[], Awaitable[Any]]) -> int:
    """How many the writer runs for it, without filing."""
    connection = await store.engine.write(lambda con: con)
    seen: list[Any] = []
    # Each has one profile. (Of its traces, those that begin with a comment cannot be told from triggers.)
    connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, seen.append)
    try:
        with without_filing():
            await call()
    finally:
        connection.trace_v2(0, None)
    assert seen
    return len(seen)


async def test_the_number_of_statements_does_not_depend_on_the_number_of_askers(
    world: World, store: SQLiteStore
) -> None:
    async def add(number: int) -> list[str]:
        ids = [new_id() for _ in range(number)]
        for id in ids:
            await store.directory.add_agent(id, id, world.organization_id, "Agent", update_name=False)
        return ids

    async def round_of(agents: list[str]) -> int:
        """All ask bob, are answered, each asks the next, and the last one would close the circle."""
        options: dict[str, Any] = {"ask_timeout": 30.0, "answers": Answering.IF_TAKEN, "notify": True}
        to_bob = [talk(world, agent, world.bob, claim=True, **options) for agent in agents]
        circle = [
            talk(world, agent, other, **options) for agent, other in zip(agents, [*agents[1:], agents[0]], strict=True)
        ]

        async def run() -> None:
            outcomes = await world.append(*to_bob)
            settlements = [
                Settlement(claim, Settling.DONE, answer=NewAnswer(new_id(), "1", 0))
                for outcome in outcomes
                if isinstance(outcome, Stored)
                for claim in outcome.claims.values()
            ]
            settled = await store.deliveries.settle(settlements, owner=world.owner, now=world.start)
            assert len(settled.ended_asks) == len(agents)
            assert [type(outcome) for outcome in await world.append(*circle)][-2:] == [Stored, MutualWait]
            await store.sessions.close_asks([group.deliveries[0].message_id for group in circle], AskState.TIMED_OUT)

        return await statements(store, run)

    few, many = await add(3), await add(200)
    assert await round_of(few) == await round_of(many) < 40
