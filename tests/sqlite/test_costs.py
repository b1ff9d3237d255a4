"""What a note and an ask cost on SQLite, in numbers that do not depend on the machine: a change that doubles one fails.

Pages are those that commits write to the log; each takes 4 KiB there, two calls of the system and its checksum.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import apsw
import pytest

from agent_messaging.ids import uuid7
from agent_messaging.models import Kind
from agent_messaging.storage.ports import NewAnswer, NewGroup, Settlement, Settling, Stored
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.search import index_all
from tests.conformance.world import World

from .test_scale import without_filing

PAIRS = 64
CONTENT = '{"text":"The quarterly figures are in; please look at the third table.","number":0,"urgent":false}'


@dataclass(frozen=True, slots=True)
class Costs:
    """Of one round of calls, on average."""

    statements: float
    steps: float
    """Of SQLite's virtual machine."""
    pages: float


class Traffic:
    """Pairs of agents that write to each other, each message stored, claimed with it, and settled."""

    def __init__(self, world: World, store: SQLiteStore, pairs: list[tuple[str, str]]) -> None:
        self.world, self.store, self.pairs = world, store, pairs

    async def _run(self, groups: list[NewGroup], answer: bool) -> None:
        outcomes = await self.world.append(*groups)
        settlements = [
            Settlement(claim, Settling.DONE, answer=NewAnswer(uuid7(), CONTENT, 0) if answer else None)
            for outcome in outcomes
            if isinstance(outcome, Stored)
            for claim in outcome.claims.values()
        ]
        assert len(settlements) == len(groups)
        await self.store.deliveries.settle(settlements, owner=self.world.owner)

    def _groups(self, number: int, **options: Any) -> list[NewGroup]:
        return [
            self.world.group(sender, recipient, claim=True, content=CONTENT, **options)
            for sender, recipient in self.pairs[:number]
        ]

    async def notes(self, number: int) -> None:
        """So many, each of another pair."""
        await self._run(self._groups(number), answer=False)

    async def asks(self, number: int) -> None:
        """The same, with answers."""
        groups = self._groups(number, kind=Kind.CONVERSATION, ask_timeout=30.0)
        await self._run(groups, answer=True)


@pytest.fixture
async def traffic(world: World, store: SQLiteStore) -> Traffic:
    """With mailboxes that reach over many pages already."""
    agents = [uuid7() for _ in range(2 * PAIRS)]
    for agent in agents:
        await store.directory.add_agent(agent, agent, world.organization_id, "Agent", update_name=False)
    made = Traffic(world, store, list(zip(agents[:PAIRS], agents[PAIRS:], strict=True)))
    for _ in range(16):
        await made.notes(PAIRS)
        await made.asks(PAIRS)
    return made


async def cost(store: SQLiteStore, call: Callable[[], Awaitable[None]], rounds: int) -> Costs:
    """Of so many rounds."""
    connection = await store.engine.write(lambda con: con)
    statements = steps = 0
    seen: dict[int, tuple[int, int]] = {}

    def add(event: dict[str, Any]) -> None:
        nonlocal statements, steps
        # SQLite counts on from one run of some statements to the next, and anew for others.
        status = event["stmt_status"]
        runs, total = status["SQLITE_STMTSTATUS_RUN"], status["SQLITE_STMTSTATUS_VM_STEP"]
        runs_before, before = seen.get(event["id"], (0, 0))
        seen[event["id"]] = (runs, total)
        statements += 1
        steps += total - before if runs > runs_before else total

    connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, add)
    try:
        for _ in range(9):
            await call()
        await store.engine.write(lambda con: None)  # what is filed behind the last one is filed now
        statements = steps = 0
        connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE, True)
        for _ in range(rounds):
            await call()
        await store.engine.write(lambda con: None)
        pages, _ = connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)
    finally:
        connection.trace_v2(0, None)
    return Costs(statements / rounds, steps / rounds, pages / rounds)


async def test_what_notes_and_asks_cost(traffic: Traffic, store: SQLiteStore) -> None:
    """Two commits each, begin and commit among the statements; a filing shows as parts of four.

    Each number has a tenth or two of air above what was counted when it was written. The rounds of 64 store 4,096
    notes, or as many questions and answers, so one filing falls into them. A mailbox index that is entered at birth
    shows as 128 pages more.
    """
    costs = {
        "64 notes": await cost(store, lambda: traffic.notes(PAIRS), 64),
        "64 asks": await cost(store, lambda: traffic.asks(PAIRS), 32),
        "a note": await cost(store, lambda: traffic.notes(1), 64),
        "an ask": await cost(store, lambda: traffic.asks(1), 64),
    }
    most = {
        "64 notes": Costs(9.8, 60_000, 36),
        "64 asks": Costs(12.0, 112_000, 62),
        "a note": Costs(9.1, 910, 7.3),
        "an ask": Costs(11.1, 1_640, 12.6),
    }
    over = {
        name: (one, most[name])
        for name, one in costs.items()
        if one.statements > most[name].statements or one.steps > most[name].steps or one.pages > most[name].pages
    }
    assert over == {}


async def test_a_full_index_of_words_costs_a_send_nothing(traffic: Traffic, store: SQLiteStore) -> None:
    """Not a statement of it. A filing would count more where the mailboxes are fuller, so none falls into it."""
    with without_filing():
        empty = await cost(store, lambda: traffic.notes(PAIRS), 32)
        assert await index_all(store.search, traffic.world.owner, limit=500) > 4_000
        full = await cost(store, lambda: traffic.notes(PAIRS), 32)
    assert full.statements == empty.statements
    assert full.steps < 1.02 * empty.steps
    assert full.pages < 1.05 * empty.pages, (full, empty)
