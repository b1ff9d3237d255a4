"""Subscriptions, and whom a publication goes to: whoever is subscribed when it commits, each once, all or nobody."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_messaging.exceptions import DatabaseError
from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import DeliveryState, Kind
from agent_messaging.storage.ports import (
    Duplicate,
    KeyConflict,
    MailboxFull,
    NewGroup,
    Publication,
    Role,
    Store,
    Stored,
    UnknownAgents,
)
from agent_messaging.storage.topics import MAX_WORDS, MOST, SPARE_BITS, list_patterns

from .base import StoreFactory, StoreFixtures
from .world import World, ids

TOPIC = "orders.eu.created"
EXAMPLES = int(os.environ.get("AGENT_MESSAGING_TEST_TOPICS", "25"))
"""Sets of subscriptions in one run; read at import, because the environment is emptied for each test."""

words = st.sampled_from(["a", "b", "é"])
topic_names = st.lists(words, min_size=1, max_size=4).map(".".join)
patterns = st.builds(
    lambda words, rest: ".".join([*words, *rest]) or "*",
    st.lists(words | st.just("*"), max_size=4),
    st.sampled_from([[], [], [">"]]),
)


def matches(pattern: str, topic: str) -> bool:
    """The rule as it is told to users, word by word; the stores look patterns up instead."""
    wanted, given = pattern.split("."), topic.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(given) <= len(wanted):
            return False
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(one in ("*", word) for one, word in zip(wanted, given, strict=True))


def publication(world: World, topic: str = TOPIC, sender: str | None = None, **options: Any) -> NewGroup:
    """A publication of alice, where not said otherwise."""
    is_internal = options.pop("is_internal", False)
    group = world.group(sender, [], call="publish", **options)
    group.publication = Publication(new_id(spare_bits=SPARE_BITS), topic, is_internal)
    return group


def recipients(group: NewGroup) -> list[str]:
    """Whom a publication went to."""
    return [delivery.recipient_id for delivery in group.deliveries]


def message_ids(group: NewGroup) -> list[str]:
    """The ids of its messages."""
    return [delivery.message_id for delivery in group.deliveries]


async def stay(world: World, *subscriptions: tuple[str, str]) -> None:
    """Subscribe agents anew."""
    for agent, pattern in subscriptions:
        assert await world.store.topics.subscribe(agent, pattern) is True


async def publish(world: World, topic: str = TOPIC, sender: str | None = None, **options: Any) -> NewGroup:
    """Publish what must not be refused."""
    group = publication(world, topic, sender, **options)
    assert await world.append(group) == [Stored()]
    return group


async def list_all(world: World, agent: str | None = None, topic: str | None = None) -> list[tuple[str, str]]:
    """All subscriptions of an agent, or of all, to a topic, or to any, as (pattern, agent)."""
    wanted = None if topic is None else list_patterns(topic)
    rows = await world.store.topics.list_subscriptions(agent, wanted, 1000, 0)
    return [(row.pattern, row.agent_id) for row in rows]


class SubscriptionConformance(StoreFixtures):
    """Subscriptions are rows: repeat-safe, listed, and gone with their agent."""

    async def test_an_agent_is_subscribed_once_and_a_repeat_says_so(self, world: World) -> None:
        topics = world.store.topics
        assert await topics.subscribe(world.bob, "orders.*.created", now=world.start) is True
        assert await topics.subscribe(world.bob, "orders.*.created", now=world.at(5)) is False
        (row,) = await topics.list_subscriptions(None, None, 10, 0)
        assert (row.pattern, row.agent_id, row.created_at) == ("orders.*.created", world.bob, world.start)

    async def test_an_agent_that_does_not_exist_is_not_subscribed(self, world: World) -> None:
        assert await world.store.topics.subscribe(new_id(), ">") is None
        assert await list_all(world) == []

    async def test_a_subscription_is_ended_once(self, world: World) -> None:
        await stay(world, (world.bob, "a.>"), (world.bob, "a.b"), (world.carol, "a.>"))
        assert await world.store.topics.unsubscribe(world.bob, "a.>") is True
        assert await world.store.topics.unsubscribe(world.bob, "a.>") is False
        assert await world.store.topics.unsubscribe(new_id(), "a.>") is False
        assert await list_all(world) == [("a.>", world.carol), ("a.b", world.bob)]

    async def test_subscriptions_are_listed_in_pages_by_agent_and_by_topic(self, world: World) -> None:
        wanted = [("*.b", world.carol), (">", world.bob), ("a.b", world.bob), ("a.b", world.carol), ("a.é", world.bob)]
        await stay(world, *((agent, pattern) for pattern, agent in reversed(wanted)))
        topics = world.store.topics
        assert await list_all(world) == wanted
        pages = [await topics.list_subscriptions(None, None, 2, offset) for offset in (0, 2, 4)]
        assert [(row.pattern, row.agent_id) for page in pages for row in page] == wanted
        assert await list_all(world, world.carol) == [("*.b", world.carol), ("a.b", world.carol)]
        assert await list_all(world, topic="a.b") == wanted[:4]
        assert await list_all(world, world.bob, "a.b") == [(">", world.bob), ("a.b", world.bob)]
        page = await topics.list_subscriptions(None, list_patterns("a.b"), 1, 3)
        assert [(row.pattern, row.agent_id) for row in page] == [("a.b", world.carol)]

    async def test_subscriptions_end_with_their_agent_and_its_organization(self, world: World) -> None:
        await stay(world, (world.bob, ">"), (world.carol, ">"))
        (bob,) = await world.store.directory.find_agents_by_id([world.bob])
        assert await world.store.directory.remove_agent(bob.external_id)
        assert await list_all(world) == [(">", world.carol)]
        organization = await world.store.directory.find_organizations_by_id([world.organization_id])
        assert await world.store.directory.remove_organization(organization[0].external_id)
        assert await list_all(world) == []

    async def test_several_subscribe_at_once_and_one_of_them_is_the_first(
        self, world: World, second_store: Store
    ) -> None:
        calls = [store.topics.subscribe(world.bob, "a.b") for store in (world.store, second_store) for _ in range(5)]
        assert sorted(map(bool, await asyncio.gather(*calls))) == [False] * 9 + [True]


class PublicationConformance(StoreFixtures):
    """A publication is one group of notes, whose recipients the store finds in the transaction that stores them."""

    async def test_a_publication_goes_to_each_subscriber_once_and_tells_its_topic(self, world: World) -> None:
        await stay(
            world, (world.bob, "orders.*.created"), (world.bob, "orders.>"), (world.carol, TOPIC), (world.dave, "*.eu")
        )
        group = await publish(world, content='"new"')
        assert recipients(group) == [world.bob, world.carol]
        claimed = await world.claim_one()
        assert (claimed.kind, claimed.content, claimed.topic) == (Kind.ONE_WAY, '"new"', TOPIC)
        assert (claimed.message_id, claimed.sender_id) == (message_ids(group)[0], world.alice)
        options: dict[str, Any] = {"kind": Kind.ONE_WAY, "limit": 10}
        for agent, role in ((world.alice, Role.SENDER), (world.carol, Role.RECIPIENT)):
            for more in ({}, {"unread_only": True}, {"after_seq": 0}, {"unread_only": True, "after_seq": 0}):
                rows = await world.store.messages.list_messages(agent, role, **options, **more)
                assert {row.topic for row in rows} == {TOPIC}, more

    async def test_a_note_has_no_topic(self, world: World) -> None:
        await world.send()
        assert (await world.claim_one()).topic is None
        rows = await world.store.messages.list_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY, limit=10)
        assert [row.topic for row in rows] == [None]

    async def test_who_claims_without_order_is_told_the_topic(self, world: World) -> None:
        await stay(world, (world.bob, ">"))
        await publish(world)
        assert [one.topic for one in await world.claim(ordered=False)] == [TOPIC]

    async def test_the_publisher_does_not_get_what_it_publishes(self, world: World) -> None:
        await stay(world, (world.alice, ">"), (world.bob, ">"))
        assert recipients(await publish(world)) == [world.bob]
        assert recipients(await publish(world, sender=world.bob)) == [world.alice]

    async def test_nobody_subscribed_is_no_error_and_the_sender_must_exist(self, world: World) -> None:
        assert recipients(await publish(world)) == []
        nobody = new_id()
        assert await world.append(publication(world, sender=nobody)) == [UnknownAgents([nobody])]
        await stay(world, (world.bob, ">"))
        unknown, known = publication(world, sender=nobody), publication(world)
        assert await world.append(unknown, known) == [UnknownAgents([nobody]), Stored()]

    async def test_notes_and_publications_of_one_call_keep_their_order(self, world: World) -> None:
        await stay(world, (world.bob, "a.>"), (world.carol, "a.b"))
        groups = [
            world.group(),
            publication(world, "a.b"),
            publication(world, "a.c"),
            publication(world, "c"),
            world.group(),
        ]
        assert await world.append(*groups) == [Stored()] * 5
        assert [len(group.deliveries) for group in groups] == [1, 2, 1, 0, 1]
        rows = await world.store.messages.list_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY, limit=10, after_seq=0)
        assert [row.message_id for row in rows] == [message_ids(group)[0] for group in groups if group.deliveries]
        assert [row.topic for row in rows] == [None, "a.b", "a.c", None]

    async def test_many_at_once_are_addressed_one_by_one(self, world: World) -> None:
        await stay(world, (world.bob, "n.1"), (world.carol, "n.*"), (world.alice, "n.>"))
        groups = [publication(world, f"n.{number % 3}", (world.alice, world.dave)[number % 2]) for number in range(60)]
        assert await world.append(*groups) == [Stored()] * 60
        for number, group in enumerate(groups):
            expected = {world.carol} | ({world.bob} if number % 3 == 1 else set())
            assert set(recipients(group)) == expected | ({world.alice} if number % 2 else set())
        assert len({id for group in groups for id in message_ids(group)}) == sum(
            len(group.deliveries) for group in groups
        )

    async def test_a_publication_within_an_organization_leaves_others_out(self, world: World) -> None:
        stranger = await World.create(world.store)
        await stay(world, (world.bob, ">"), (stranger.bob, ">"))
        groups = [
            publication(world, is_internal=True),
            publication(world),
            publication(world, sender=stranger.bob, is_internal=True),
        ]
        assert await world.append(*groups) == [Stored()] * 3
        assert recipients(groups[0]) == [world.bob]
        assert recipients(groups[1]) == sorted([world.bob, stranger.bob])
        assert recipients(groups[2]) == []

    async def test_a_repeat_under_the_key_is_answered_with_the_first_recipients(self, world: World) -> None:
        await stay(world, (world.bob, ">"), (world.carol, ">"))
        first = await publish(world, idempotency_key="k", fingerprint="f")
        await world.store.topics.unsubscribe(world.bob, ">")
        await stay(world, (world.dave, ">"))
        again, other = (publication(world, idempotency_key="k", fingerprint=mark) for mark in ("f", "g"))
        assert await world.append(again, other) == [Duplicate(message_ids(first)), KeyConflict()]
        assert await world.deliveries.find_repeat(world.alice, "publish", "k", "f") == Duplicate(message_ids(first))
        assert await world.store.messages.count_messages(world.dave, Role.RECIPIENT, Kind.ONE_WAY) == 0

    async def test_a_repeat_of_what_went_to_nobody_goes_to_nobody(self, world: World) -> None:
        await publish(world, idempotency_key="k", fingerprint="f")
        await stay(world, (world.bob, ">"))
        again = publication(world, idempotency_key="k", fingerprint="f")
        assert await world.append(again) == [Duplicate([])]

    @pytest.mark.parametrize("key", [None, "k"])
    async def test_a_call_whose_answer_was_lost_is_repeated_for_those_it_went_to(
        self, world: World, key: str | None
    ) -> None:
        await stay(world, (world.bob, ">"), (world.carol, ">"))
        group, note = publication(world, idempotency_key=key, fingerprint="f"), world.group()
        await world.append(group, note)
        first = message_ids(group)
        group.deliveries = []  # as they are where the answer was lost before the recipients were known
        await world.store.topics.unsubscribe(world.bob, ">")
        await stay(world, (world.dave, ">"))
        assert await world.append(group, note, repeat=True) == [Stored(), Stored()]
        assert (recipients(group), message_ids(group)) == ([world.bob, world.carol], first)
        assert await world.store.messages.count_messages(world.alice, Role.SENDER, Kind.ONE_WAY) == 3

    async def test_a_repeat_of_what_was_not_stored_goes_to_who_is_subscribed_now(self, world: World) -> None:
        await stay(world, (world.bob, ">"))
        group = publication(world)
        assert await world.append(group, repeat=True) == [Stored()]
        assert recipients(group) == [world.bob]

    async def test_a_full_mailbox_refuses_the_publication_for_all(self, world: World) -> None:
        await stay(world, (world.bob, ">"), (world.carol, ">"))
        await world.send_many(3)
        full, free = publication(world, mailbox_limit=3), publication(world, mailbox_limit=4)
        assert await world.append(full, free) == [MailboxFull([world.bob]), Stored()]
        assert await world.store.messages.count_messages(world.carol, Role.RECIPIENT, Kind.ONE_WAY) == 1

    async def test_what_is_scheduled_goes_to_those_subscribed_when_it_was_published(self, world: World) -> None:
        await stay(world, (world.bob, ">"))
        group = await publish(world, deliver_at=world.at(10), expires_in=20.0)
        await world.store.topics.unsubscribe(world.bob, ">")
        await stay(world, (world.carol, ">"))
        assert await world.claim() == []
        await world.deliveries.advance(world.at(11))
        assert ids(await world.claim(now=world.at(11))) == message_ids(group)
        late = await publish(world, expires_in=5.0)
        await world.deliveries.advance(world.at(60))
        assert await world.state(message_ids(late)[0]) is DeliveryState.EXPIRED

    async def test_publications_that_are_too_much_together_are_refused_together(self, world: World) -> None:
        await stay(world, (world.bob, ">"), (world.carol, ">"))
        content = '"' + "x" * 3_000_000 + '"'
        big = [publication(world, content=content) for _ in range(2)]
        with pytest.raises(DatabaseError, match="apart"):
            await world.append(*big)
        assert await world.append(big[0]) == [Stored()]
        assert await world.append(big[1]) == [Stored()]

    async def test_a_topic_of_as_many_words_as_may_be_is_found(self, world: World) -> None:
        topic = ".".join(f"w{number}" for number in range(MAX_WORDS))
        await stay(world, (world.bob, ".".join(["*"] * MAX_WORDS)), (world.carol, "w0." + "*." * (MAX_WORDS - 2) + ">"))
        assert recipients(await publish(world, topic)) == [world.bob, world.carol]
        assert recipients(await publish(world, topic.rpartition(".")[0])) == []

    async def test_an_agent_that_was_removed_gets_nothing(self, world: World) -> None:
        await stay(world, (world.bob, ">"), (world.carol, ">"))
        (bob,) = await world.store.directory.find_agents_by_id([world.bob])
        await world.store.directory.remove_agent(bob.external_id)
        assert recipients(await publish(world)) == [world.carol]

    def test_the_stores_match_as_the_rule_says(self, make_store: StoreFactory) -> None:
        """Any patterns and topics: whoever has a pattern that matches word by word gets it, and nobody else."""

        async def judge(world: World, held: Sequence[tuple[int, str]], topic: str) -> None:
            agents = (world.bob, world.carol, world.dave)
            subscriptions = {(pattern, agents[number]) for number, pattern in held}
            for pattern, agent in subscriptions:
                await world.store.topics.subscribe(agent, pattern)
            expected = {(pattern, agent) for pattern, agent in subscriptions if matches(pattern, topic)}
            group = await publish(world, topic)
            assert set(await list_all(world, topic=topic)) == expected
            assert recipients(group) == sorted({agent for _, agent in expected})
            for pattern, agent in subscriptions:
                await world.store.topics.unsubscribe(agent, pattern)

        with asyncio.Runner() as runner:
            store = make_store()
            runner.run(store.open())
            try:
                world = runner.run(World.create(store))

                @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
                @given(st.lists(st.tuples(st.integers(0, 2), patterns), max_size=8), topic_names)
                def check(held: list[tuple[int, str]], topic: str) -> None:
                    runner.run(judge(world, held, topic))

                check()
            finally:
                runner.run(store.aclose())


class TopicRaceConformance(StoreFixtures):
    """What changes while something is published comes wholly before it or wholly after."""

    async def test_who_comes_and_goes_gets_what_was_published_while_it_was_subscribed(
        self, world: World, second_store: Store
    ) -> None:
        """Bob stays, carol comes and goes in another store; dave is removed in the middle."""
        await stay(world, (world.bob, ">"), (world.dave, ">"))
        clock = iter(range(10**9))
        spans: list[tuple[int, int, int, int]] = []
        """When carol's coming was begun and done, and her going."""
        published: list[tuple[int, int, NewGroup]] = []
        is_over = asyncio.Event()

        async def come_and_go() -> None:
            for _ in range(15):
                coming = next(clock)
                await second_store.topics.subscribe(world.carol, ">")
                came, going = next(clock), next(clock)
                await second_store.topics.unsubscribe(world.carol, ">")
                spans.append((coming, came, going, next(clock)))
            is_over.set()

        async def publish_on() -> None:
            while not is_over.is_set():
                begun = next(clock)
                group = await publish(world)
                published.append((begun, next(clock), group))

        async def remove() -> None:
            (dave,) = await world.store.directory.find_agents_by_id([world.dave])
            assert await second_store.directory.remove_agent(dave.external_id)

        await asyncio.gather(come_and_go(), publish_on(), publish_on(), remove())
        for begun, done, group in published:
            got = recipients(group)
            assert world.bob in got
            must = any(came < begun and done < going for _, came, going, _ in spans)
            may = any(coming < done and begun < gone for coming, _, _, gone in spans)
            assert must <= (world.carol in got) <= may
        mine = {id for _, _, group in published for id in message_ids(group)[:1]}
        rows = await world.store.messages.list_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY, limit=1000)
        assert {row.message_id for row in rows} == mine
        assert recipients(await publish(world)) == [world.bob]
        assert await world.store.check() == []


class TopicConformance(SubscriptionConformance, PublicationConformance, TopicRaceConformance):
    """All of topics."""


assert MOST < 2**SPARE_BITS
