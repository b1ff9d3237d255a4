"""The deadlines of open asks: what a look for the next one costs, and that none is missed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest

from agent_messaging.ids import uuid7
from agent_messaging.models import AskState, Kind
from agent_messaging.storage.ports import NewGroup
from agent_messaging.storage.sqlite import deadlines
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.world import World

from .conftest import OpenStore
from .test_scale import cost

COUNT_OPEN = "select count(*) from deliveries where ask_state = 'open'"


@pytest.fixture
def backend() -> str:
    """This is about one."""
    return "sqlite"


def asks(world: World, number: int, timeout: Callable[[int], float]) -> list[NewGroup]:
    """Each in a thread of its own, where each may be open."""
    return [
        world.group(kind=Kind.CONVERSATION, session_id=uuid7(), thread=uuid7(), ask_timeout=timeout(position))
        for position in range(number)
    ]


def counted(calls: list[int]) -> Callable[[deadlines.AskDeadlines, object], None]:
    """Whole looks are counted."""
    look_at_all = deadlines.AskDeadlines._look_at_all

    def look(self: deadlines.AskDeadlines, connection: object) -> None:
        calls.append(1)
        look_at_all(self, connection)  # type: ignore[arg-type]

    return look


async def test_asks_that_run_out_one_by_one_cost_the_same_however_many_wait(
    store: SQLiteStore, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(deadlines.AskDeadlines, "_look_at_all", counted(calls))
    monkeypatch.setattr(deadlines, "LASTS", 3600.0)
    costs: list[int] = []
    second = 0

    async def run_out() -> None:
        nonlocal second
        second += 1
        assert (await store.find_dues(world.at(second + 0.5))).deliveries == 0.0
        advanced = await store.deliveries.advance(world.at(second + 0.5))
        assert advanced.expired_origins
        assert advanced.next_in == pytest.approx(0.5, abs=0.01)

    for number in (300, 3_000):
        await world.append(*asks(world, number, (second + 1.0).__add__), now=world.at(0))
        await run_out()
        costs.append(await cost(store, run_out))
        if number == 300:
            second += 300
            await store.deliveries.advance(world.at(second))
    assert costs[1] < costs[0] + 100
    # Of what is stored meanwhile, each row is passed once, and those that wait are not.
    calls.clear()
    for _ in range(5):
        await world.append(*asks(world, 10, lambda _: 10_000.0), now=world.at(0))
        await run_out()
    assert calls == []


@pytest.mark.parametrize("places", [(), (":memory:",)], ids=["file", "memory"])
async def test_none_is_missed_whoever_stored_or_ended_it(
    places: tuple[str, ...], open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random walk beside a model, by two processes' stores; so few are remembered that all ways are taken."""
    for name, value in (("FEW", 2), ("KEPT", 4), ("_HEADS", 1), ("LASTS", 3600.0)):
        monkeypatch.setattr(deadlines, name, value)
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    dice = random.Random(seed)
    first = await World.create(await open_store(*places))
    engine = cast(SQLiteStore, first.store).engine
    worlds = [first] if places else [first, replace(first, store=await open_store())]
    model: dict[str, float] = {}
    now = 0.0
    for _ in range(250):
        world = dice.choice(worlds)
        sort = dice.random()
        if sort < 0.5:
            groups = asks(world, dice.randrange(1, 6), lambda _: dice.choice((1.0, 3.0, dice.uniform(0.1, 60.0))))
            await world.append(*groups, now=world.at(now))
            model |= {group.deliveries[0].message_id: now + float(group.ask_timeout or 0) for group in groups}
        elif sort < 0.65 and model:
            ended = dice.sample(sorted(model), min(len(model), dice.randrange(1, 8)))
            await world.store.sessions.close_asks(ended, AskState.CANCELLED)
            for id in ended:
                del model[id]
        elif sort < 0.8:
            await world.append(*(world.group() for _ in range(dice.randrange(1, 9))), now=world.at(now))
        else:
            now += dice.choice((0.01, 1.0, 7.0))
            while (advanced := await world.store.deliveries.advance(world.at(now))).expired_origins:
                pass
            model = {id: deadline for id, deadline in model.items() if deadline > now}
            due = None if not model else min(model.values()) - now
            dues = await dice.choice(worlds).store.find_dues(world.at(now))
            assert dues.deliveries == (None if due is None else pytest.approx(due, abs=0.01)), seed
            assert (advanced.next_in is None) == (due is None)
            assert due is None or (advanced.next_in is not None and advanced.next_in <= due + 0.01), seed
            assert await engine.read(lambda con: con.execute(COUNT_OPEN).get) == len(model), seed
