"""The same random program of verbs against SQLite and PostgreSQL: every answer, and every row, must be alike.

The models of the other machines say what is right; this one finds what no model says, and where the two differ.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agent_messaging.delivery.indexing import take_in
from agent_messaging.ids import uuid7
from agent_messaging.kinds import SENT
from agent_messaging.models import AskState, Kind
from agent_messaging.search.language import parse
from agent_messaging.states import Prunable
from agent_messaging.storage.ports import (
    Answering,
    Claim,
    ClaimedDelivery,
    Forwarded,
    NewForward,
    NewWait,
    Pruned,
    Pruning,
    Scope,
    Settlement,
    Settling,
    Store,
    Stored,
)
from agent_messaging.storage.retention import WALKED
from tests.conformance.moving import swap
from tests.conformance.topics import message_ids, publication
from tests.conformance.twins import both, opened
from tests.conformance.world import World
from tests.fixtures.stores import store_factory

EXAMPLES = int(os.environ.get("AGENT_MESSAGING_TEST_TWINS", "12"))
"""Programs in one run; read at import, because the environment is emptied for each test."""
NAMES = ("alice", "bob", "carol", "dave")
agents = st.integers(0, 2)
numbers = st.integers(0, 50)
patterns = st.sampled_from(["a.b", "*.b", "a.>", ">", "é"])
pairs = st.tuples(agents, agents).filter(lambda pair: pair[0] != pair[1])
groups = st.fixed_dictionaries(
    {
        "pair": pairs,
        "kind": st.sampled_from(["note", "talk", "ask", "publication"]),
        "claim": st.booleans(),
        "limit": st.sampled_from([None, None, 1, 2, 3, 10_000]),
        "attempts": st.sampled_from([1, 5]),
        "deliver_in": st.sampled_from([None, None, -3.5, 4.5]),
        "expires_in": st.sampled_from([None, None, 6.5]),
        "key": st.sampled_from([None, None, "one", "two"]),
        "within": st.none() | numbers,
        "answers": st.sampled_from([None, *Answering]),
        "timeout": st.sampled_from([8.5, 30.5, 95.5]),
        "flag": st.booleans(),
    }
)
verbs = st.one_of(
    st.tuples(st.just("append"), st.lists(groups, min_size=1, max_size=3)),
    st.tuples(st.just("append"), st.lists(groups, min_size=1, max_size=1)),
    st.tuples(st.just("subscribe"), agents, patterns),
    st.tuples(st.just("unsubscribe"), agents, patterns),
    st.tuples(st.just("claim"), agents, st.sampled_from(SENT), st.integers(1, 3), st.booleans(), st.none() | agents),
    st.tuples(st.just("settle"), st.lists(st.tuples(numbers, st.sampled_from(Settling), st.booleans()), max_size=3)),
    st.tuples(st.just("advance"), st.sampled_from([1, 5, 20, 200])),
    st.tuples(st.just("close"), numbers, st.sampled_from([AskState.TIMED_OUT, AskState.CANCELLED])),
    st.tuples(st.just("forward"), numbers, st.none() | agents, agents, st.none() | numbers, st.booleans()),
    st.tuples(st.just("end"), pairs),
    st.tuples(st.just("read"), agents, st.none() | agents, st.booleans(), st.integers(1, 3)),
    st.tuples(st.just("return"), numbers),
    st.tuples(st.just("wait"), pairs, st.sampled_from([None, 5.5]), st.none() | numbers),
    st.tuples(st.just("unwait"), numbers),
    st.tuples(st.just("take"), pairs),
    st.tuples(st.just("withdraw"), numbers),
    st.tuples(st.just("redrive"), numbers),
    st.tuples(st.just("notices"), agents),
    st.tuples(st.just("prune"), st.sampled_from(sorted(WALKED)), st.booleans(), st.integers(1, 9)),
    st.tuples(st.just("index"), st.integers(1, 5)),
    st.tuples(st.just("search"), st.sampled_from(["hello OR answer", "absent", "-hello"]), st.none() | agents),
)


@dataclass
class Side:
    """One store, and what it has handed out."""

    world: World
    claims: list[tuple[str, Claim]]
    read: list[Any]


class Twins:
    """Two stores with the same agents; every verb goes to both."""

    def __init__(self, stores: list[Store], run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self.run = run
        ids = sorted(uuid7() for _ in range(6))
        start = datetime.now(UTC).replace(microsecond=0)
        self.organization = uuid7()
        self.sides = [
            Side(World(store, self.organization, ids[0], ids[1], ids[2], ids[3], ids[4], start), [], [])
            for store in stores
        ]
        self.messages: list[str] = []
        self.asks: list[str] = []
        self.waits: list[str] = []
        self.seconds = 0.0
        for side in self.sides:
            run(self._populate(side.world))

    async def _populate(self, world: World) -> None:
        directory = world.store.directory
        await directory.add_organization(self.organization, self.organization, "Twins", update_name=False)
        for name in NAMES:
            id = getattr(world, name)
            await directory.add_agent(id, id, self.organization, name, update_name=False)

    def remove(self) -> None:
        for side in self.sides:
            self.run(side.world.store.directory.remove_organization(self.organization))

    def both(self, call: Callable[[Side], Coroutine[Any, Any, Any]]) -> list[Any]:
        """The answers of both, which are alike."""
        return both(self.sides, call, self.run)

    @property
    def now(self) -> datetime:
        return self.sides[0].world.at(self.seconds)

    def agent(self, number: int) -> str:
        return str(getattr(self.sides[0].world, NAMES[number]))

    def pick(self, things: list[Any], number: int | None) -> Any:
        return things[number % len(things)] if things and number is not None else None

    # --- the verbs ---

    def append(self, wanted: list[dict[str, Any]]) -> None:
        world = self.sides[0].world
        made = []
        lanes = set()
        for one in wanted:
            sender, recipient = map(self.agent, one["pair"])
            kind = Kind.ONE_WAY if one["kind"] in ("note", "publication") else Kind.CONVERSATION
            options: dict[str, Any] = {"mailbox_limit": one["limit"], "max_attempts": one["attempts"]}
            if one["kind"] != "ask":
                options["deliver_at"] = (
                    None if one["deliver_in"] is None else world.at(self.seconds + one["deliver_in"])
                )
                options["expires_in"] = one["expires_in"]
            if one["kind"] == "ask":
                options |= {"ask_timeout": one["timeout"], "only_if_expected": one["flag"] and one["limit"] == 1}
                options["answers"] = one["answers"] and Answering.IF_TAKEN
            if one["kind"] == "talk":
                # A scheduled one answers nothing; whether its notice is due, each store says by its own clock.
                is_later = options["deliver_at"] is not None
                options |= {"answers": None if is_later else one["answers"], "notify": one["flag"] and not is_later}
            if kind is Kind.CONVERSATION:
                options["within"] = self.pick(self.messages, one["within"])
                if options["within"] is not None and options["answers"] is Answering.IF_TAKEN:
                    options["answers"] = None  # that is for what is made outside any run
            lane = (sender, recipient, kind)
            claim = one["claim"] and lane not in lanes and options.get("deliver_at") is None
            lanes.add(lane)
            if one["kind"] == "publication":
                group = publication(world, "a.b" if one["flag"] else "é", sender, **options)
            else:
                group = world.group(sender, recipient, kind=kind, claim=claim, **options)
            group.idempotency_key, group.fingerprint = one["key"], str((one["pair"], one["kind"]))
            made.append(group)
        outcomes = self.both(lambda side: side.world.append(*made, now=self.now))
        for side, answers in zip(self.sides, outcomes, strict=True):
            for outcome in answers:
                if isinstance(outcome, Stored):
                    side.claims += outcome.claims.items()
        for group, outcome in zip(made, outcomes[0], strict=True):
            if isinstance(outcome, Stored):
                self.messages += message_ids(group)
                self.asks += [group.deliveries[0].message_id] if group.ask_timeout is not None else []

    def claim(self, recipient: int, kind: Kind, limit: int, ordered: bool, after: int | None) -> None:
        options: dict[str, Any] = {
            "kind": kind,
            "ordered": ordered,
            "after_lane": None if after is None else self.agent(after),
        }

        async def claim(side: Side) -> list[ClaimedDelivery]:
            claimed = await side.world.claim(self.agent(recipient), limit, now=self.now, **options)
            side.claims += [(delivery.message_id, delivery.claim) for delivery in claimed]
            return claimed

        self.both(claim)

    def settle(self, wanted: list[tuple[int, Settling, bool]]) -> None:
        answers = [self.sides[0].world.result() for _ in wanted]

        async def settle(side: Side) -> Any:
            if not side.claims:
                return None
            settlements = [
                Settlement(
                    self.pick(side.claims, number)[1],
                    how,
                    2.5 if how is Settling.RETRY else 0.0,
                    None if how is Settling.DONE else "why",
                    answer if answering and how is Settling.DONE and self._is_talk(side, number) else None,
                )
                for (number, how, answering), answer in zip(wanted, answers, strict=True)
            ]
            return await side.world.deliveries.settle(settlements, owner=side.world.owner, now=self.now)

        self.both(settle)

    def _is_talk(self, side: Side, number: int) -> bool:
        return self.pick(side.claims, number)[0] in self.asks

    def advance(self, seconds: int) -> None:
        self.seconds += seconds
        self.both(lambda side: side.world.deliveries.advance(self.now))
        self.compare()

    def close(self, number: int, state: AskState) -> None:
        if self.asks:
            ask = self.pick(self.asks, number)
            self.both(lambda side: side.world.sessions.close_asks([ask], state, now=self.now))

    def forward(self, number: int, holder: int | None, to: int, claim: int | None, expected: bool) -> None:
        """By the agent that has it, or by another one; under some claim, or none."""
        ask = self.pick(self.asks, number)
        if ask is None:
            return
        kept_id, session_id = uuid7(), uuid7()

        async def forward(side: Side) -> Any:
            (row,) = await side.world.sessions.find_asks([ask])
            wanted = NewForward(
                ask,
                row.responder_id if holder is None else self.agent(holder),
                self.agent(to),
                kept_id=kept_id,
                session_id=session_id,
                claim=None if claim is None or not side.claims else self.pick(side.claims, claim)[1],
                only_if_expected=expected,
            )
            return await side.world.store.forwarding.forward(wanted, owner=side.world.owner, now=self.now)

        if isinstance(self.both(forward)[0], Forwarded):
            self.messages.append(kept_id)

    def end(self, pair: tuple[int, int]) -> None:
        ending = self.sides[0].world.ending()
        one, other = map(self.agent, pair)
        self.both(lambda side: side.world.sessions.end_session(one, other, ending, now=self.now))

    def read(self, recipient: int, sender: int | None, mark: bool, limit: int) -> None:
        async def read(side: Side) -> Any:
            page = await side.world.sessions.read_messages(
                self.agent(recipient),
                sender_id=None if sender is None else self.agent(sender),
                mark=mark,
                limit=limit,
                now=self.now,
            )
            side.read += page.messages if mark else []
            return page

        self.both(read)

    def return_(self, number: int) -> None:
        async def give_back(side: Side) -> Any:
            row = self.pick(side.read, number)
            return None if row is None else await side.world.sessions.return_messages([row], now=self.now)

        self.both(give_back)

    def wait(self, pair: tuple[int, int], timeout: float | None, within: int | None) -> None:
        recipient, sender = map(self.agent, pair)
        wait = NewWait(uuid7(), recipient, sender, timeout, self.pick(self.messages, within))
        self.waits.append(wait.wait_id)
        self.both(lambda side: side.world.sessions.register_wait(wait, owner=side.world.owner, now=self.now))

    def unwait(self, number: int) -> None:
        if self.waits:
            self.both(lambda side: side.world.sessions.remove_wait(self.pick(self.waits, number)))

    def take(self, pair: tuple[int, int]) -> None:
        recipient, sender = map(self.agent, pair)
        self.both(lambda side: side.world.sessions.take_awaited(recipient, sender, now=self.now))

    def withdraw(self, number: int) -> None:
        if self.messages:
            self.both(lambda side: side.world.deliveries.withdraw([self.pick(self.messages, number)]))

    def redrive(self, number: int) -> None:
        if self.messages:
            self.both(lambda side: side.world.deliveries.redrive([self.pick(self.messages, number)], None))

    def notices(self, recipient: int) -> None:
        if self.seconds > 50:
            return  # old ones are dropped, on SQLite when others are left, and the time of a look is the store's own
        self.both(lambda side: side.world.sessions.take_notices([self.agent(recipient)], 2, now=self.now))

    def subscribe(self, agent: int, pattern: str) -> None:
        self.both(lambda side: side.world.store.topics.subscribe(self.agent(agent), pattern, now=self.now))

    def unsubscribe(self, agent: int, pattern: str) -> None:
        self.both(lambda side: side.world.store.topics.unsubscribe(self.agent(agent), pattern))

    def prune(self, kind: Prunable, unread: bool, limit: int) -> None:
        """Long after all of it."""

        async def walk(side: Side) -> Any:
            number, kept, page = 0, Counter[str](), Pruned(next=())
            while page.next is not None:
                page = await side.world.store.retention.prune(
                    Pruning(kind, 0, unread), after=page.next or None, limit=limit, now=side.world.at(10**8)
                )
                number += page.number
                kept.update(page.kept)
            return number, kept

        self.both(walk)
        rows = self.both(lambda side: side.world.deliveries.list_receipts(self.messages))[0]
        left = {row.message_id for row in rows}
        self.messages = [id for id in self.messages if id in left]
        self.asks = [id for id in self.asks if id in left]

    def index(self, limit: int) -> None:
        async def take(side: Side) -> bool:
            return bool(await take_in(side.world.store.search, side.world.owner, limit=limit))

        self.both(take)

    def search(self, query: str, sender: int | None) -> None:
        ids = None if sender is None else [self.agent(sender)]

        async def find(side: Side) -> Any:
            search = side.world.store.search
            found = await search.find_candidates(parse(query).formula, Scope(sender_ids=ids), limit=100)
            return sorted(await search.load([one.seq for one in found]), key=lambda row: -row.seq)

        self.both(find)

    # --- what is there ---

    def compare(self) -> None:
        """Every delivery, ask and wait."""
        self.both(lambda side: side.world.deliveries.list_receipts(self.messages))
        self.both(lambda side: side.world.deliveries.find_waiting(self.now))
        self.both(lambda side: side.world.sessions.find_asks(self.asks))
        self.both(lambda side: side.world.sessions.find_ended_asks(self.asks))
        self.both(lambda side: side.world.store.forwarding.list_hops(self.messages))
        self.both(lambda side: side.world.sessions.find_waits(self.waits, self.now))
        self.both(lambda side: side.world.deliveries.list_dead(None, 100, 0))
        self.both(lambda side: side.world.store.topics.list_subscriptions(None, None, 100, 0))


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_any_program_is_answered_alike_by_both_stores(
    backend: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """And what it leaves behind can be moved from each of them to the other."""
    stores = [store_factory(name, request, "postgres_dsn")() for name in ("sqlite", "postgres")]
    with asyncio.Runner() as runner, opened(stores, runner):

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a program is long: to make it shorter takes minutes
        )
        @given(st.lists(verbs, min_size=30, max_size=40))
        def judge(program: list[tuple[Any, ...]]) -> None:
            twins = Twins(stores, runner.run)
            try:
                for verb, *arguments in program:
                    getattr(twins, "return_" if verb == "return" else verb)(*arguments)
                twins.compare()
                swap(stores, runner, tmp_path, twins.remove)
            finally:
                twins.remove()

        judge()
