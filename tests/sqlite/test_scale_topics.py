"""What publishing costs among ten thousand subscriptions, counted in SQLite's own steps, and to ten thousand agents."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import apsw
import pytest

from agent_messaging.exceptions import DatabaseError
from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import Kind
from agent_messaging.storage.ports import Role, Stored, TooManySubscribers
from agent_messaging.storage.sqlite.rows import encode
from agent_messaging.storage.sqlite.store import SQLiteStore
from agent_messaging.storage.topics import MAX_WORDS, MOST
from tests.conformance.topics import publication, recipients
from tests.conformance.world import World

from .test_scale import cost

MANY = 10_000
FILL = """
insert into agents select value ->> 0, value ->> 0, :organization, '', 1, 1 from json_each(:rows);
insert into subscriptions select value ->> 1, value ->> 0, 1 from json_each(:rows)
"""


async def subscribe(store: SQLiteStore, world: World, patterns: Iterable[str]) -> list[str]:
    """An agent of its own to each of these, written at once; returns the agents."""
    rows = [(new_id(), pattern) for pattern in patterns]

    def fill(connection: apsw.Connection) -> None:
        connection.execute(FILL, {"rows": encode(rows), "organization": world.organization_id})

    await store.engine.write(fill)
    return [agent for agent, _ in rows]


def everywhere(number: int) -> str:
    """A pattern that does not match what is published, but begins and ends like it, with wildcards in every place."""
    return f"{('w0', '*')[number % 2]}.*.n{number}.{('>', 'w3', '*.w4.>')[number % 3]}"


@pytest.mark.parametrize("words", [3, MAX_WORDS])
async def test_subscriptions_that_do_not_match_cost_nothing(store: SQLiteStore, world: World, words: int) -> None:
    topic = ".".join(f"w{place}" for place in range(words))
    await store.topics.subscribe(world.bob, f"*.{topic.partition('.')[2]}")

    async def publish() -> None:
        group = publication(world, topic)
        assert await world.append(group) == [Stored()]
        assert recipients(group) == [world.bob]

    alone = await cost(store, publish)
    await subscribe(store, world, map(everywhere, range(MANY)))
    among_many = await cost(store, publish)
    assert among_many < alone + MANY // 10
    # A look-up is some ten steps, whatever there is to be found.
    assert among_many < 2_000 + 2 ** (words + 1) * 20


async def test_patterns_that_all_match_cost_as_many_look_ups_as_there_are(store: SQLiteStore, world: World) -> None:
    """The worst that subscriptions can do: every pattern that matches a topic of the most words is there."""
    topic = ".".join(f"w{place}" for place in range(MAX_WORDS))
    for pattern in (".".join(words) for words in product(*((f"w{place}", "*") for place in range(MAX_WORDS)))):
        await store.topics.subscribe(world.bob, pattern)

    async def publish() -> None:
        group = publication(world, topic)
        assert await world.append(group) == [Stored()]
        assert recipients(group) == [world.bob]

    assert await cost(store, publish) < 2_000 + 2 ** (MAX_WORDS + 1) * 40


async def test_ten_thousand_agents_get_one_publication_and_more_are_refused(store: SQLiteStore, world: World) -> None:
    agents = await subscribe(store, world, ["orders.>"] * MOST)
    group = publication(world, "orders.new", mailbox_limit=1, idempotency_key="k", fingerprint="f")
    assert await world.append(group) == [Stored()]
    assert recipients(group) == agents
    for agent in (agents[0], agents[-1]):
        assert await store.messages.count_messages(agent, Role.RECIPIENT, Kind.ONE_WAY) == 1
    await store.topics.subscribe(world.bob, "*.new")
    crowded, note = publication(world, "orders.new"), world.group()
    assert await world.append(crowded, note) == [TooManySubscribers(MOST), Stored()]
    assert await store.messages.count_messages(world.alice, Role.SENDER, Kind.ONE_WAY) == MOST + 1
    await store.topics.unsubscribe(world.bob, "*.new")
    with pytest.raises(DatabaseError, match="apart"):
        await world.append(publication(world, "orders.new"), publication(world, "orders.old"))
