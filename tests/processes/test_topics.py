"""Publishers killed in their calls: each publication goes to all that are subscribed, or to nobody."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

from agent_messaging import AgentMessaging
from tests.processes.harness import SEED, Lab, MakeLab

READERS = ["bob", "carol", "dave"]


async def subscribe(lab: Lab) -> None:
    await lab.register("alice", *READERS)
    async with AgentMessaging(lab.url) as sdk:
        for reader, pattern in zip(READERS, ("orders.>", "*.new", "orders.new"), strict=True):
            await sdk.topics.subscribe(reader, pattern)
        await sdk.topics.subscribe("bob", ">")  # which makes nothing two of one


async def find_receivers(lab: Lab) -> dict[str, set[str]]:
    """Who has each publication, once, by its value."""
    found: dict[str, set[str]] = defaultdict(set)
    async with AgentMessaging(lab.url) as sdk:
        for reader in READERS:
            records = await sdk.one_way.get_received_messages(reader, limit=1000)
            assert len(records) < 1000
            values = [record.content["value"] for record in records]
            assert len(values) == len(set(values))
            assert {record.topic for record in records} <= {"orders.new"}
            for value in values:
                found[value].add(reader)
    return found


async def test_a_publisher_killed_in_its_calls_has_published_to_all_or_to_nobody(make_lab: MakeLab) -> None:
    """Some have keys, and are repeated by the next incarnation; the others' outcome stays unknown."""
    rng = random.Random(SEED)
    calls = 120
    async with make_lab(seed=SEED) as lab:
        await subscribe(lab)
        await lab.start_worker(serves=READERS)
        how: dict[str, Any] = {"to": [READERS], "topic": "orders.new", "concurrency": 8}
        for accepted in sorted(rng.sample(range(5, calls - 20), 3)):
            keyed = lab.start_sender("keyed", **how, values="keyed", key=True, count=calls)
            bare = lab.start_sender("bare", **how)
            await lab.wait_for("send.ok", accepted, p=keyed.name)
            await lab.kill(keyed)
            await lab.kill(bare)
        last = lab.start_sender("keyed", **how, values="keyed", key=True, count=calls)
        assert await last.wait() == 0

        await lab.judge()

        found = await find_receivers(lab)
        assert {len(readers) for readers in found.values()} == {len(READERS)}
        assert {f"keyed-{number}" for number in range(calls)} <= found.keys()
