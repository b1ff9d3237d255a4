"""What a big mailbox costs, counted in SQLite's own steps, so that the machine's speed plays no part."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import apsw
import pytest

from agent_messaging.models import Kind
from agent_messaging.storage.ports import Role, Settling, Stored, UnknownAgents
from agent_messaging.storage.sqlite import filing
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.world import World

MANY = 20_000


def without_filing() -> AbstractContextManager[Any]:
    """Nothing is filed inside the block: that happens once in some hundreds of messages, behind an answer."""
    return patch.object(filing, "_EVERY", 2**62)


async def cost(store: SQLiteStore, call: Callable[[], Awaitable[Any]]) -> int:
    """The steps of SQLite's machine that the call takes, in whichever connection. It is made several times."""
    return sum(await costs(store, call))


async def costs(store: SQLiteStore, call: Callable[[], Awaitable[Any]]) -> list[int]:
    """The same for each run of a statement."""
    steps: list[int] = []
    seen: dict[int, tuple[int, int]] = {}

    def add(event: dict[str, Any]) -> None:
        # SQLite counts on from one run of some statements to the next, and anew for others.
        status = event["stmt_status"]
        runs, total = status["SQLITE_STMTSTATUS_RUN"], status["SQLITE_STMTSTATUS_VM_STEP"]
        runs_before, before = seen.get(event["id"], (0, 0))
        seen[event["id"]] = (runs, total)
        steps.append(total - before if runs > runs_before else total)

    connections = [await store.engine.write(lambda con: con)]
    connections += [await store.engine.read(lambda con: con, reader=number) for number in (0, 1)]
    for connection in connections:
        connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, add)
    try:
        # So the first runs only give the numbers to count from. The readers take turns.
        await call()
        await call()
        steps.clear()
        await call()
    finally:
        for connection in connections:
            connection.trace_v2(0, None)
    assert steps
    return steps


@pytest.fixture
async def big(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Bob's mailbox has many messages of alice and one of carol, dave's one.

    Nearly all of it is filed. What is not is as much however full a mailbox is; `test_filing` bounds it.
    """
    monkeypatch.setattr(filing, "_EVERY", 512)
    for _ in range(MANY // 2000):
        await world.send_many(2000, world.alice, world.bob)
    await world.send(world.carol, world.bob)
    await world.send(world.alice, world.dave)
    return world


async def test_a_backlog_slows_nothing_down(big: World, store: SQLiteStore) -> None:
    now = datetime.now(UTC)

    async def claim(**options: Any) -> None:
        claimed = await big.claim(limit=2, now=now, **options)
        assert len(claimed) == 2
        await big.settle(claimed, Settling.RETURNED, now=now)

    async def page(**options: Any) -> None:
        options = {"role": Role.RECIPIENT, "kind": Kind.ONE_WAY, "limit": 50, **options}
        assert len(await store.messages.list_messages(big.bob, **options)) == 50

    half = (await store.messages.list_messages(big.bob, Role.RECIPIENT, Kind.ONE_WAY, limit=1, offset=MANY // 2))[0]

    async def sent_page() -> None:
        sent = store.messages.list_messages(big.alice, Role.SENDER, Kind.ONE_WAY, limit=50, before_id=half.message_id)
        assert len(await sent) == 50

    count = store.messages.count_messages
    costs = {
        "claim in order": await cost(store, claim),
        "claim without order": await cost(store, lambda: claim(ordered=False)),
        "claim behind the busy lane": await cost(store, lambda: claim(ordered=False, after_lane=big.alice)),
        "find waiting": await cost(store, store.deliveries.find_waiting),
        "advance": await cost(store, store.deliveries.advance),
        "append": await cost(store, lambda: big.send(big.alice, big.bob)),
        "append to a bounded mailbox": await cost(store, lambda: big.send(big.alice, big.dave, mailbox_limit=10)),
        "page": await cost(store, page),
        "unread page": await cost(store, lambda: page(unread_only=True)),
        "page before a message": await cost(store, lambda: page(before_id=half.message_id)),
        "unread page before a message": await cost(store, lambda: page(before_id=half.message_id, unread_only=True)),
        "sent page before a message": await cost(store, sent_page),
        "count of unread": await cost(store, lambda: count(big.bob, Role.RECIPIENT, Kind.ONE_WAY, read=False)),
        "page behind a number": await cost(store, lambda: page(after_seq=MANY // 2)),
        "dead letters": await cost(store, lambda: store.deliveries.list_dead(None, 50, 0)),
        "unread page behind a number": await cost(store, lambda: page(after_seq=MANY // 2, unread_only=True)),
    }
    assert {name: steps for name, steps in costs.items() if steps > MANY // 4} == {}


async def test_a_lane_with_suspects_is_not_searched(big: World, store: SQLiteStore) -> None:
    await store.presence.start(lambda: None, lambda: None)
    (claimed,) = await big.claim(limit=1, owner=store.presence.process_id)
    assert await store.processes.release([store.presence.process_id], big.start) == 1
    (again,) = await big.claim(limit=1, ordered=False)
    assert again.message_id == claimed.message_id

    async def claim() -> None:
        assert len(await big.claim(limit=2, ordered=False)) == 2

    assert await cost(store, claim) < MANY // 4


async def test_a_far_mailbox_is_not_counted_at_every_append(big: World, store: SQLiteStore) -> None:
    async def send() -> None:
        await big.send(big.alice, big.bob, mailbox_limit=10 * MANY)

    await send()
    assert await cost(store, send) < MANY // 4


async def test_what_does_not_fit_into_one_text_comes_in_pieces(store: SQLiteStore, world: World) -> None:
    content = '"' + "x" * 100_000 + '"'
    sent = [await world.send(content=content) for _ in range(10)]
    # SQLite's own limit is a gigabyte.
    for connection in [
        await store.engine.write(lambda con: con),
        *[await store.engine.read(lambda con: con, reader=number) for number in (0, 1)],
    ]:
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, 350_000)
    listed = await store.messages.list_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY, limit=9, offset=1)
    assert [row.message_id for row in listed] == sent[-2::-1]
    claimed = []
    while page := await world.claim(limit=10, ordered=False):
        claimed += page
    assert [delivery.message_id for delivery in claimed] == sent
    assert {delivery.content for delivery in claimed} == {content}


async def test_a_call_to_many_may_be_as_big_as_it_likes(store: SQLiteStore, world: World) -> None:
    everybody = [world.alice, world.bob, world.carol, world.dave] * 10
    content = '"' + "é" * 1_000_000 + '"'
    (outcome,) = await world.append(world.group(recipients=everybody, content=content, claim=True))
    assert isinstance(outcome, Stored)
    assert len(outcome.claims) == 4
    assert len(await world.claim(limit=20, ordered=False)) == 9
    nobody = world.group(recipients=[*everybody, str(uuid.uuid4())], content=content)
    assert isinstance((await world.append(nobody))[0], UnknownAgents)
    assert await store.check() == []
