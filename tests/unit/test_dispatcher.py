"""The exchange alone: a store, runs and an announcer of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from agent_messaging.delivery.claims import Claims
from agent_messaging.delivery.dispatcher import Dispatcher
from agent_messaging.delivery.facts import Ending, Facts
from agent_messaging.delivery.names import AgentName
from agent_messaging.delivery.stations import Station, Stations
from agent_messaging.delivery.trouble import Trouble
from agent_messaging.exceptions import OutcomeUnknownError
from agent_messaging.handlers.registry import Handlers, make_handler
from agent_messaging.models import Kind
from agent_messaging.observing.observers import Ears
from agent_messaging.storage.ports import (
    Claim,
    ClaimedDelivery,
    ClaimRequest,
    NewDelivery,
    NewGroup,
    Settled,
    Settlement,
    Settling,
    Stored,
)

SOON = 5.0
BOB = AgentName("b", "bob", "Bob", "o", "org")


class Store:
    """A queue of messages to bob, and what became of them."""

    def __init__(self, *waiting: int) -> None:
        self.queued = list(waiting)
        self.claims: list[Claim] = []
        self.settled: list[tuple[int, Settling]] = []
        self.losing = 0
        """So many answers get lost."""

    async def find_waiting(self) -> set[tuple[str, Kind]]:
        return {("b", Kind.ONE_WAY)} if self.queued else set()

    async def list_claims(self, owner: str) -> list[Claim]:
        return list(self.claims)

    async def settle(
        self, settlements: Sequence[Settlement], requests: Sequence[ClaimRequest] = (), *, owner: str
    ) -> Settled:
        for one in settlements:
            self.claims.remove(one.claim)
            self.settled.append((one.claim.seq, one.how))
            if one.how is Settling.RETURNED:
                self.queued.append(one.claim.seq)
        claimed = []
        for request in requests:
            for _ in range(min(request.limit, len(self.queued))):
                self.claims.append(Claim(self.queued.pop(0), 1, 1))
                claimed.append(delivery(self.claims[-1]))
        if self.losing:
            self.losing -= 1
            raise OutcomeUnknownError("lost")
        return Settled([True] * len(settlements), set(), claimed, [])


class Runs:
    """Runs end when the test says so."""

    def __init__(self, claims: Claims) -> None:
        self.claims = claims
        self.leaving = asyncio.Event()
        self.threads = SimpleNamespace(close=lambda: None)
        self.begun: list[ClaimedDelivery] = []
        self.stations: dict[int, Station] = {}

    def begin(self, station: Station, delivery: ClaimedDelivery) -> None:
        self.begun.append(delivery)
        self.stations[delivery.claim.seq] = station

    def end(self, delivery: ClaimedDelivery) -> None:
        self.stations.pop(delivery.claim.seq).vacate(delivery.sender_id)
        self.claims.end(Settlement(delivery.claim, Settling.DONE), delivery)

    async def stop(self) -> None: ...


class Announcer:
    def __init__(self) -> None:
        self.facts: list[str] = []
        self.unclaimed: list[str] = []

    def settled(self, endings: Sequence[Ending], settled: Settled) -> None:
        self.facts += [f"settled {delivery.claim.seq}" for _, delivery in endings]

    def stored(self, group: NewGroup, outcome: object, unclaimed: list[str]) -> None:
        self.facts.append("stored")
        self.unclaimed += unclaimed

    def claimed(self, lease: float) -> None: ...
    def found(self, waiting: object) -> None: ...


def delivery(claim: Claim) -> ClaimedDelivery:
    now = datetime.now(UTC)
    return ClaimedDelivery(claim, f"m{claim.seq}", Kind.ONE_WAY, "a", "b", "{}", None, 0, 5, now, None)


class Exchange:
    """A dispatcher at bob's only station, which has two slots."""

    def __init__(self, *waiting: int) -> None:
        self.store = Store(*waiting)
        handler = make_handler(lambda message, context: None, ordered=False, concurrency=2, timeout=60.0)
        handlers = Handlers((handler,))
        serving: Any = SimpleNamespace(
            invoke=True, find_handlers=lambda agent, kind: handlers, follow=lambda _: None, version=None
        )
        names: Any = SimpleNamespace(cached_by_id={"b": BOB}.get, find_by_id=self.find_by_id)
        self.stations = Stations(names, serving, concurrency=1, timeout=1.0)
        store: Any = self.store
        presence: Any = SimpleNamespace(process_id="me")
        self.claims = Claims(store, presence, self.stations, Facts(Ears(), names))
        self.runs, self.announcer = Runs(self.claims), Announcer()
        runs: Any = self.runs
        announcer: Any = self.announcer
        self.dispatcher = Dispatcher(self.claims, runs, names, announcer, Trouble())

    async def find_by_id(self, ids: object, **_: object) -> dict[str, AgentName]:
        return {"b": BOB}

    async def start(self) -> None:
        await self.dispatcher.start()
        self.stations.open()

    async def until(self, count: int) -> list[ClaimedDelivery]:
        async with asyncio.timeout(SOON):
            while len(self.runs.begun) < count:
                await asyncio.sleep(0)
        return self.runs.begun


async def test_nothing_is_taken_before_everything_has_started() -> None:
    exchange = Exchange(1)
    await exchange.dispatcher.start()
    exchange.stations.review()
    for _ in range(10):
        await asyncio.sleep(0)
    assert exchange.store.queued == [1]
    exchange.stations.open()
    await exchange.until(1)
    await exchange.dispatcher.aclose(SOON)


async def test_it_claims_as_much_as_there_are_slots_and_settles_what_ends() -> None:
    exchange = Exchange(1, 2, 3)
    await exchange.start()
    first, second = await exchange.until(2)
    assert exchange.store.queued == [3]
    exchange.runs.end(first)
    third = (await exchange.until(3))[2]
    exchange.runs.end(second)
    exchange.runs.end(third)
    await asyncio.wait_for(exchange.dispatcher.wait_until_idle(), SOON)
    assert exchange.store.settled == [(1, Settling.DONE), (2, Settling.DONE), (3, Settling.DONE)]
    assert exchange.announcer.facts == ["settled 1", "settled 2", "settled 3"]
    await exchange.dispatcher.aclose(SOON)


async def test_what_a_lost_answer_has_claimed_goes_back_and_is_claimed_again() -> None:
    exchange = Exchange(1, 2)
    exchange.store.losing = 1
    await exchange.start()
    first, second = await exchange.until(2)
    assert sorted(exchange.store.settled) == [(1, Settling.RETURNED), (2, Settling.RETURNED)]
    assert not exchange.claims.is_in_doubt
    for one in (first, second):
        exchange.runs.end(one)
    await asyncio.wait_for(exchange.dispatcher.wait_until_idle(), SOON)
    assert exchange.store.claims == []
    await exchange.dispatcher.aclose(SOON)


async def test_a_slot_is_reserved_for_what_is_claimed_with_its_append() -> None:
    exchange = Exchange()
    await exchange.start()
    claim = Claim(7, 1, 1)
    groups = [
        NewGroup(Kind.ONE_WAY, f"a{number}", "{}", None, 0, [NewDelivery(f"m{number}", "b")], 5, 0.0)
        for number in range(3)
    ]
    exchange.dispatcher.about_to_append(groups)
    assert [group.deliveries[0].claim for group in groups] == [True, True, False]
    exchange.dispatcher.appended(groups[0], Stored({"m0": claim}))
    exchange.dispatcher.appended(groups[1], Stored())  # another process has the lane
    exchange.dispatcher.appended(groups[2], Stored())
    assert [one.claim for one in exchange.runs.begun] == [claim]
    assert exchange.announcer.unclaimed == ["b", "b"]
    assert exchange.claims.reserved == {}
    station = exchange.stations.find("b", Kind.ONE_WAY)
    assert station is not None
    assert station.free == 1
    await exchange.dispatcher.aclose(SOON)


async def test_closing_waits_for_no_append_that_was_cut_off() -> None:
    """Nobody knows what it has claimed, and nobody learns it any more: `ProcessStore.retire` gives it back."""
    exchange = Exchange()
    await exchange.start()
    group = NewGroup(Kind.ONE_WAY, "a", "{}", None, 0, [NewDelivery("m", "b")], 5, 0.0)
    exchange.dispatcher.about_to_append([group])
    exchange.dispatcher.doubted()
    await asyncio.wait_for(exchange.dispatcher.aclose(10 * SOON), SOON)
    assert exchange.claims.is_in_doubt


async def test_claims_that_agents_pull_are_not_taken_for_lost_ones() -> None:
    exchange = Exchange()
    held, lost = Claim(1, 1, 1), Claim(2, 1, 1)
    exchange.store.claims += [held, lost]
    exchange.claims.hold([delivery(held)], SOON)
    exchange.claims.is_in_doubt = True
    await exchange.claims.reconcile()
    assert exchange.store.settled == [(2, Settling.RETURNED)]
    exchange.claims.let_go([held])
