"""Conversations by many writers at once: circles, the order of a session, locks that wait in no ring, and plans."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any, cast

import asyncpg
import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import AskState, DeliveryState, Kind
from agent_messaging.payloads import checksum
from agent_messaging.storage.ports import (
    Answering,
    AppendOutcome,
    EndedAsk,
    Forwarded,
    MutualWait,
    NewAnswer,
    NewForward,
    NewGroup,
    SessionLocked,
    Settlement,
    Settling,
    Stored,
    UnknownAgents,
)
from agent_messaging.storage.postgres.store import PostgresStore
from tests.conformance.search import index_all
from tests.conformance.world import World, id_of, ids
from tests.postgres.conftest import StoreMaker, execute
from tests.support import eventually

ROUNDS = 200
WAITS_FOR_LOCK = """
select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and state = 'active'
"""
Sides = Callable[[int], Awaitable[list[World]]]


@pytest.fixture
async def sides(postgres_dsn: str, open_store: StoreMaker) -> Sides:
    """The same world through so many stores, each with connections of its own."""

    async def make(number: int) -> list[World]:
        stores = [await open_store(postgres_dsn) for _ in range(number)]
        world = await World.create(stores[0])
        return [replace(world, store=store, owner=new_id()) for store in stores]

    return make


def agents_of(world: World) -> list[str]:
    return [world.alice, world.bob, world.carol, world.dave]


async def close(world: World, groups: Sequence[NewGroup]) -> None:
    await world.sessions.close_asks([id_of(group) for group in groups], AskState.CANCELLED, now=world.start)


# --- circles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 3, 4])
async def test_of_the_asks_that_close_a_circle_at_once_one_is_refused(sides: Sides, number: int) -> None:
    """A check without locks misses the circle in nearly every round."""
    worlds = await sides(number)
    agents = agents_of(worlds[0])[:number]
    refused: Counter[int] = Counter()
    for turn in range(ROUNDS):
        asks = [
            world.question(asker, agents[(place + 1) % number])
            for place, (world, asker) in enumerate(zip(worlds, agents, strict=True))
        ]
        order = [(place + turn) % number for place in range(number)]
        answers = await asyncio.gather(*(worlds[place].outcome(asks[place]) for place in order))
        outcomes = dict(zip(order, answers, strict=True))
        (last,) = (place for place, outcome in outcomes.items() if not isinstance(outcome, Stored))
        # From the recipient to the sender, and the recipient again.
        path = [agents[(last + 1 + step) % number] for step in range(number)]
        assert outcomes[last] == MutualWait([*path, path[0]])
        refused[last] += 1
        await close(worlds[0], asks)
    assert len(refused) > 1, "the rounds were not simultaneous"


async def test_asks_of_several_calls_that_close_a_circle_at_once(sides: Sides) -> None:
    """Each call has every other ask of the circle: neither sees, in what is stored, more than its own half."""
    first, second = await sides(2)
    agents = agents_of(first)
    for _ in range(ROUNDS // 2):
        asks = [first.question(agents[place], agents[(place + 1) % 4]) for place in range(4)]
        halves = await asyncio.gather(first.append(asks[0], asks[2]), second.append(asks[1], asks[3]))
        refused = [outcome for half in halves for outcome in half if not isinstance(outcome, Stored)]
        assert [type(outcome) for outcome in refused] == [MutualWait]
        await close(first, asks)


async def test_a_call_with_very_many_asks_misses_no_circle(sides: Sides) -> None:
    """It does not lock the agents one by one: the server has room for some thousands of locks in all."""
    large, small = await sides(2)
    many = [new_id() for _ in range(300)]
    for number, id in enumerate(many):
        await large.store.directory.add_agent(id, f"many-{id}", large.organization_id, str(number), update_name=False)
    for turn in range(20):
        asks = [large.question(id, large.carol) for id in many]
        asks.insert(turn * 10, large.question(large.alice, large.bob))
        back = small.question(small.bob, small.alice)
        calls = [large.append(*asks), small.append(back)]
        answers = await asyncio.gather(*(calls if turn % 2 else reversed(calls)))
        refused = [outcome for outcomes in answers for outcome in outcomes if not isinstance(outcome, Stored)]
        assert [type(outcome) for outcome in refused] == [MutualWait]
        await close(large, [*asks, back])


async def test_random_asks_at_once_never_wait_in_a_circle(sides: Sides) -> None:
    """Whatever was stored, somebody can go on; and nothing was refused that closes no circle."""
    rng = random.Random(11)
    worlds = await sides(6)
    agents = agents_of(worlds[0])
    more = await World.create(worlds[0].store)
    agents += agents_of(more)
    waiting: dict[tuple[str, str], NewGroup] = {}
    seen: Counter[type[AppendOutcome]] = Counter()
    for _ in range(ROUNDS // 2):
        pairs = [(asker, responder) for asker, responder in (rng.sample(agents, 2) for _ in worlds)]
        asks = [world.question(*pair, answers=None) for world, pair in zip(worlds, pairs, strict=True)]
        outcomes = await asyncio.gather(*(world.outcome(ask) for world, ask in zip(worlds, asks, strict=True)))
        before = set(waiting)
        for pair, ask, outcome in zip(pairs, asks, outcomes, strict=True):
            seen[type(outcome)] += 1
            if isinstance(outcome, Stored):
                waiting[pair] = ask
        assert find_knot(waiting) is None
        for pair, outcome in zip(pairs, outcomes, strict=True):
            if isinstance(outcome, MutualWait):
                assert find_knot({*before, *waiting, pair}) is not None
                assert outcome.path[0] == outcome.path[-1] == pair[1]
                assert outcome.path[-2] == pair[0]
                steps = list(zip(outcome.path, outcome.path[1:], strict=False))
                assert all(step in waiting or step == pair for step in steps)
            if isinstance(outcome, SessionLocked):
                assert outcome.ask_id == id_of(waiting[pair])
        ended = [pair for pair in list(waiting) if rng.random() < 0.25]
        await close(worlds[0], [waiting.pop(pair) for pair in ended])
    assert min(seen[Stored], seen[MutualWait]) > ROUNDS // 10, seen


def find_knot(pairs: Any) -> set[str] | None:
    """The agents that wait for one another, if there are any; without handlers an agent that waits answers nothing."""
    asks: defaultdict[str, set[str]] = defaultdict(set)
    for asker, responder in pairs:
        asks[asker].add(responder)
    stuck = set(asks)
    while freed := {agent for agent in stuck if not asks[agent] & stuck}:
        stuck -= freed
    return stuck or None


async def test_who_asks_a_busy_agent_waits_for_no_other_asker(sides: Sides) -> None:
    """An ask that is being stored by somebody slow hinders those that cannot close a circle with it, and no others."""
    slow, quick = await sides(2)
    begun, finish = asyncio.Event(), asyncio.Event()

    async def hold(connection: Any) -> None:
        await connection.execute(  # what append does first, for an ask of alice to bob
            "select pg_advisory_xact_lock(hashtextextended($1, 2)),"
            " pg_advisory_xact_lock_shared(hashtextextended($2, 2))",
            slow.alice,
            slow.bob,
        )
        begun.set()
        await finish.wait()

    holding = asyncio.create_task(slow.store.engine.run(hold, write=True))  # type: ignore[attr-defined]
    await begun.wait()
    await quick.ask(quick.carol, quick.bob)
    await quick.ask(quick.carol, quick.dave)
    await quick.say(quick.bob, quick.alice)
    following = asyncio.create_task(quick.ask(quick.bob, quick.dave))
    await quick.answer(quick.dave, quick.carol)
    assert not following.done()
    finish.set()
    await asyncio.gather(holding, following)


# --- order, and locks -------------------------------------------------------------------------------------------------


async def test_the_messages_of_a_session_are_committed_in_their_order(sides: Sides) -> None:
    """Sent by both sides, answered by runs and by hand, through four stores: each reading is a prefix of the next."""
    worlds = await sides(4)
    reader = worlds[0]
    session = str((await reader.stored(reader.talk())).session_id)
    finished = asyncio.Event()

    async def write(world: World, pair: tuple[str, str]) -> None:
        for _ in range(20):
            await world.append(*(world.talk(*pair) for _ in range(random.randint(1, 4))))
            for run in await world.claim(pair[1], 2, kind=Kind.CONVERSATION):
                await world.settle(run, answer=world.result())

    async def read() -> int:
        whole: list[str] = []
        after = readings = 0
        while True:
            last = finished.is_set()
            rows = await reader.sessions.list_messages(session, limit=10_000)
            assert ids(rows)[: len(whole)] == whole
            behind = await reader.sessions.list_messages(session, limit=10_000, after_seq=after)
            assert ids(behind)[: len(rows) - len(whole)] == ids(rows)[len(whole) :]
            whole = ids(rows)
            after = rows[-1].seq
            readings += 1
            if last:
                return readings

    reading = asyncio.create_task(read())
    pairs = [(reader.alice, reader.bob), (reader.bob, reader.alice)]
    await asyncio.gather(*(write(world, pairs[number % 2]) for number, world in enumerate(worlds)))
    finished.set()
    assert await reading > 10


async def test_a_session_is_opened_once_however_many_open_and_end_it(sides: Sides) -> None:
    worlds = await sides(4)
    world = worlds[0]
    for _ in range(40):
        outcomes = await asyncio.gather(
            *(side.outcome(side.talk(*pair)) for side in worlds[:3] for pair in ((world.alice, world.bob),)),
            worlds[3].outcome(worlds[3].talk(world.bob, world.alice)),
            worlds[3].end(),
        )
        stored = [outcome for outcome in outcomes[:4] if isinstance(outcome, Stored)]
        assert len(stored) == 4
    sessions = await world.sessions.list_sessions(world.alice, open_only=False, limit=1000)
    assert sum(session.ended_at is None for session in sessions) <= 1
    # None is left that was opened for nothing.
    for session in sessions:
        assert (await world.sessions.count_messages(session.session_id)).messages > 0


async def test_an_ask_that_one_message_of_a_call_met_is_answered_by_the_next(sides: Sides) -> None:
    (world,) = await sides(1)
    asker = new_id()
    cause = await world.say(world.carol, world.alice)
    ask = await world.ask(owner=asker, within=cause)
    again = world.question()
    reply = world.question(world.bob, world.alice, answers=Answering.REQUIRED)
    locked, stored = await world.append(again, reply)
    assert locked == SessionLocked(ask)
    assert isinstance(stored, Stored)
    assert stored.answered == EndedAsk(ask, AskState.REPLIED, asker)


async def test_what_was_opened_for_a_refused_message_is_not_left(sides: Sides) -> None:
    (world,) = await sides(1)
    await world.ask(world.bob, world.carol)
    refused, kept = (
        world.talk(world.alice, world.bob, answers=Answering.REQUIRED),
        world.talk(world.bob, world.alice),
    )
    outcomes = await world.append(refused, kept)
    assert outcomes[1] == Stored(session_id=kept.session_id)
    assert (await world.session()).session_id == kept.session_id
    alone = world.talk(world.alice, world.dave, answers=Answering.REQUIRED)
    await world.outcome(alone)
    assert await world.sessions.find_open_session(world.alice, world.dave) is None


async def test_an_ask_that_ends_while_its_message_returns_takes_it_along(sides: Sides) -> None:
    """Neither may believe that the other will: one that looks before the other has committed sees nothing to do."""
    first, second = await sides(2)
    states: Counter[DeliveryState] = Counter()
    for number in range(ROUNDS // 2):
        ask = await first.ask()
        run = await first.claim_talk()
        how = (Settling.RETRY, Settling.RETURNED)[number % 2]
        if number % 3:
            await asyncio.gather(first.settle(run, how), second.close(ask, AskState.TIMED_OUT))
            expected = DeliveryState.EXPIRED
        else:
            await asyncio.gather(first.settle(run, how), second.answer())
            expected = DeliveryState.DONE
        assert await first.state(ask) == expected
        states[expected] += 1
    assert len(states) == 2


async def test_a_second_try_keeps_its_locks_until_it_has_stored(postgres_dsn: str, sides: Sides) -> None:
    """The first try, which is one statement, is ended by an administrator; the second takes several."""
    (world,) = await sides(1)
    await world.say()
    holder, other = await asyncpg.connect(postgres_dsn), await asyncpg.connect(postgres_dsn)
    waiters = f"select pid from ({WAITS_FOR_LOCK.replace('select 1', 'select pid')}) w"
    try:
        await holder.execute("begin")
        await holder.execute("lock table messages in share mode")
        call = asyncio.create_task(world.say())
        ended = await eventually(lambda: other.fetchval(waiters), until=lambda pid: pid is not None)
        await other.fetchval("select pg_terminate_backend($1)", ended)
        await eventually(lambda: other.fetchval(waiters), until=lambda pid: pid not in (None, ended))
        with pytest.raises(asyncpg.LockNotAvailableError):
            await other.fetch("select from sessions where ended_at is null for no key update nowait")
        await holder.execute("commit")
        await call
    finally:
        await holder.close()
        await other.close()


async def test_calls_that_concern_the_same_sessions_never_wait_in_a_ring(postgres_dsn: str, sides: Sides) -> None:
    """Asked, answered, settled, closed and ended in calls that name many pairs, in any order: no deadlock."""
    worlds = await sides(5)
    agents = agents_of(worlds[0])
    rng = random.Random(5)
    before = await count_deadlocks(postgres_dsn)

    async def work(world: World) -> None:
        for _ in range(40):
            pairs = [tuple(rng.sample(agents, 2)) for _ in range(rng.randint(1, 6))]
            groups = [
                world.talk(
                    *pair,
                    claim=rng.random() < 0.5,
                    answers=rng.choice([None, Answering.IF_TAKEN, Answering.REQUIRED]),
                    ask_timeout=rng.choice([None, 60.0]),
                )
                for pair in pairs
            ]
            outcomes = await world.append(*groups)
            mine = [
                id_of(group)
                for group, outcome in zip(groups, outcomes, strict=True)
                if isinstance(outcome, Stored) and group.ask_timeout
            ]
            requests = [world.request(agent, 3, kind=Kind.CONVERSATION) for agent in rng.sample(agents, 3)]
            claimed = await world.deliveries.claim(requests, owner=world.owner, now=world.start)
            for run in claimed:
                how = rng.choice([Settling.DONE, Settling.RETRY, Settling.DEAD, Settling.RETURNED])
                answer = world.result() if how is Settling.DONE else None
                await world.settle(run, how, answer=answer, reason="broken")
            if rng.random() < 0.2:
                await world.end(*rng.sample(agents, 2))
            await world.sessions.close_asks(mine, AskState.TIMED_OUT, now=world.start)
            await world.read(rng.choice(agents), limit=5)

    await asyncio.gather(*(work(world) for world in worlds))
    assert await worlds[0].store.check() == []
    for world in worlds:  # whose connections tell at the latest then what they met
        await world.store.aclose()
    assert await count_deadlocks(postgres_dsn) == before
    left = await execute(
        postgres_dsn,
        "select 1 from deliveries d join asks a on a.seq = d.seq where d.state = 'queued' and a.state <> 'open'",
    )
    assert left == []


async def count_deadlocks(dsn: str) -> int:
    (row,) = await execute(dsn, "select deadlocks from pg_stat_database where datname = current_database()")
    return int(row["deadlocks"])


# --- cost -------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def statements(postgres_dsn: str) -> AsyncIterator[tuple[World, list[str]]]:
    """A world on one connection, and what is sent over it."""
    seen: list[str] = []
    async with AsyncExitStack() as stack:
        store = PostgresStore(postgres_dsn, min_pool_size=1, max_pool_size=1)
        stack.push_async_callback(store.aclose)
        await store.open()
        world = await World.create(store)
        await world.say(world.carol, world.dave)  # prepares the statements, and counts the mailbox
        await world.send(world.carol, world.dave)

        def note(record: Any) -> None:
            seen.append(record.query)

        async def listen(connection: Any) -> None:
            connection.add_query_logger(note)

        async def forget(connection: Any) -> None:
            connection.remove_query_logger(note)

        await store.engine.run(listen, write=False)
        yield world, seen
        await store.engine.run(forget, write=False)


async def test_an_ask_writes_few_records_to_the_log_of_the_server(postgres_dsn: str, open_store: StoreMaker) -> None:
    """Of each row, each entry of an index, and each lock of a row one."""
    world = await World.create(await open_store(postgres_dsn, max_pool_size=1))
    agents = []
    for number in range(40):
        name = f"agent-{number}-{world.owner}"
        agent = await world.store.directory.add_agent(new_id(), name, world.organization_id, name, update_name=False)
        assert agent is not None
        agents.append(str(agent.id))
    store = cast(PostgresStore, world.store)

    async def count(connection: Any) -> int:
        if connection.get_server_version().major < 18:
            pytest.skip("the server does not count them for one connection")
        await connection.fetchval("select pg_stat_force_next_flush()")
        return int(await connection.fetchval("select wal_records from pg_stat_get_backend_wal(pg_backend_pid())"))

    async def records() -> int:
        await store.engine.run(count, write=False)
        return await store.engine.run(count, write=False)

    pairs = list(zip(agents[::2], agents[1::2], strict=True))
    asking: dict[str, Any] = {"kind": Kind.CONVERSATION, "ask_timeout": 60.0, "answers": Answering.IF_TAKEN}
    notes: dict[str, Any] = {}
    for storing, ending, options in ((12, 4, notes), (17, 16, asking)):
        for _ in range(2):  # the first ones open the sessions
            groups = [world.group(*pair, claim=True, **options) for pair in pairs]
            before = await records()
            outcomes = await world.append(*groups)
            stored = await records()
            claims = [claim for outcome in outcomes if isinstance(outcome, Stored) for claim in outcome.claims.values()]
            assert len(claims) == len(pairs)
            answers = [NewAnswer(new_id(), '"yes"', checksum('"yes"', None)) if options else None for _ in claims]
            ends = [Settlement(one, Settling.DONE, answer=answer) for one, answer in zip(claims, answers, strict=True)]
            await world.deliveries.settle(ends, owner=world.owner, now=world.start)
            ended = await records()
        assert (stored - before) / len(pairs) <= storing
        assert (ended - stored) / len(pairs) <= ending


async def test_an_ask_with_its_claim_is_one_statement(statements: tuple[World, list[str]]) -> None:
    world, seen = statements
    stored = await world.stored(world.question(claim=True))
    assert stored.claims
    assert len(seen) == 1, seen
    seen.clear()
    (claim,) = stored.claims.values()
    assert (await world.settle(claim, answer=world.result())).ended_asks
    assert len(seen) == 1, seen
    # So are many, in as many threads.
    seen.clear()
    outcomes = await world.append(*(world.question(thread=f"t{number}", claim=True) for number in range(64)))
    assert all(outcome.claims for outcome in outcomes)  # type: ignore[union-attr]
    assert len(seen) == 1, seen


async def test_an_ask_that_answers_another_takes_five_round_trips(statements: tuple[World, list[str]]) -> None:
    world, seen = statements
    await world.stored(world.question())
    seen.clear()
    stored = await world.stored(world.question(world.bob, world.alice, answers=Answering.REQUIRED, claim=True))
    assert stored.answered
    assert len(seen) == 5, seen


async def test_a_note_is_one_statement(statements: tuple[World, list[str]]) -> None:
    world, seen = statements
    await world.send()
    assert len(seen) == 1, seen
    seen.clear()
    claimed = await world.claim_one()
    assert len(seen) == 1, seen
    seen.clear()
    await world.settle(claimed)
    assert len(seen) == 1, seen


async def test_a_batch_of_notes_is_claimed_with_its_append_in_one_statement(
    statements: tuple[World, list[str]],
) -> None:
    world, seen = statements
    outcomes = await world.append(*(world.group(claim=True) for _ in range(64)))
    assert [len(outcome.claims) for outcome in outcomes] == [1] + 63 * [0]  # type: ignore[union-attr]
    assert len(seen) == 1, seen
    seen.clear()
    (first, *_) = outcomes
    (claim,) = first.claims.values()  # type: ignore[union-attr]
    settled = await world.settle(claim, requests=[world.request()])
    assert settled.moved == [True]
    assert len(settled.claimed) == 1
    assert len(seen) == 1, seen


async def test_an_answer_is_stored_with_its_settlement_in_one_statement(statements: tuple[World, list[str]]) -> None:
    world, seen = statements
    stored = await world.stored(world.question(claim=True))
    seen.clear()
    (claim,) = stored.claims.values()
    settled = await world.settle(claim, answer=world.result(), requests=[world.request()])
    assert len(settled.ended_asks) == 1
    assert len(seen) == 1, seen


async def test_plans_stay_with_the_indices(postgres_dsn: str, open_store: StoreMaker) -> None:
    """100,000 messages of a pair, handled but not read, half of them asks that have ended, before one that is open."""
    store = await open_store(postgres_dsn, max_pool_size=1)
    world = await World.create(store)

    async def use() -> None:
        """Everything once, so that the server plans it; and again when the tables are large."""
        ask = await world.ask(claim=True)
        wait = await world.wait()
        assert list(await world.sessions.find_waits([wait], world.start)) == []
        await world.sessions.remove_wait(wait)
        assert await world.sessions.find_ended_asks([ask]) == {}
        assert (await world.session()).waiting_id == world.alice
        await world.deliveries.advance(world.start)
        (run,) = await world.deliveries.list_claims(world.owner)
        settled = await world.settle(run, answer=world.result())
        assert len(settled.ended_asks) == 1
        late = await world.say(world.carol, world.bob)
        assert await world.take(world.bob, world.alice) is None
        assert await world.take(world.bob, world.carol) == late
        assert (await world.read(limit=10, mark=False, sender_id=world.dave)).messages == []
        await world.close(ask, AskState.CANCELLED)
        assert len(await world.sessions.list_sessions(world.alice, open_only=True, limit=5)) == 1
        await world.sessions.list_messages((await world.session()).session_id, limit=10, after_seq=10)

    for _ in range(7):  # after five runs the server keeps one plan for all values
        await use()
    await execute(
        postgres_dsn,
        f"""with more as (
            insert into messages (id, kind, sender_id, recipient_id, session_id, content, checksum, created_at)
            select gen_random_uuid(), kind, sender_id, recipient_id, session_id, content, checksum, created_at
            from (select * from messages where sender_id = '{world.alice}' order by seq limit 1) m,
              generate_series(1, 100000)
            returning seq, recipient_id, kind, sender_id, session_id),
        handled as (
            insert into deliveries (seq, recipient_id, kind, sender_id, state, token, attempt, max_attempts, queued_at)
            select seq, recipient_id, kind, sender_id, 'done', 1, 1, 5, now() from more)
        insert into asks (seq, session_id, asker_id, responder_id, state, keyed, deadline_at)
        select seq, session_id, sender_id, recipient_id, 'replied', false, now() from more where seq % 2 = 0""",
        "analyze",
    )
    fastest = 10.0
    for _ in range(3):
        begun = time.monotonic()
        await use()
        fastest = min(fastest, time.monotonic() - begun)
    # Some forty statements; any that read what has ended would take that long alone.
    assert fastest < 0.5


async def test_many_asks_are_looked_at_in_one_statement(postgres_dsn: str, open_store: StoreMaker) -> None:
    """As many as one process may be waiting for."""
    store = await open_store(postgres_dsn)
    world = await World.create(store)
    ask = await world.ask()
    nobody = [new_id() for _ in range(5000)]
    begun = time.monotonic()
    found = await world.sessions.find_ended_asks([ask, *nobody])
    assert time.monotonic() - begun < 2.0
    assert found == dict.fromkeys(nobody)
    groups = [world.talk(*pair) for pair in ((world.alice, world.bob), (world.carol, world.dave)) for _ in range(500)]
    begun = time.monotonic()
    assert all(isinstance(outcome, Stored) for outcome in await world.append(*groups))
    assert time.monotonic() - begun < 2.0


@pytest.mark.parametrize("how", ["given up", "its process ended"])
async def test_an_ask_that_is_passed_on_while_its_end_waits_for_it_is_ended(
    sides: Sides, postgres_dsn: str, how: str
) -> None:
    """Passing on gives the ask another delivery: who waits for the lock of the first one finds nothing there to end."""
    world, other = await sides(2)
    asker = new_id()
    ask = await world.ask(owner=asker)
    wanted = NewForward(ask, world.bob, world.carol, kept_id=new_id(), session_id=new_id(), claim=None)
    locked, free = asyncio.Event(), asyncio.Event()

    async def hold(connection: Any) -> None:
        await connection.execute("select from deliveries for update")
        locked.set()
        await free.wait()

    async def until_waiting(number: int) -> None:
        waiting = partial(execute, postgres_dsn, WAITS_FOR_LOCK)
        await eventually(waiting, 5.0, until=lambda rows: len(rows) == number)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(world.store.engine.run(hold, write=True))  # type: ignore[attr-defined]
        await locked.wait()
        passing = tasks.create_task(world.store.forwarding.forward(wanted, owner=world.owner, now=world.start))
        await until_waiting(1)
        if how == "given up":
            tasks.create_task(other.sessions.close_asks([ask], AskState.CANCELLED, now=world.start))
        else:
            tasks.create_task(other.store.processes.retire(asker))
        await until_waiting(2)
        free.set()
    assert isinstance(passing.result(), Forwarded)
    found = (await world.sessions.find_ended_asks([ask]))[ask]
    assert found is not None
    assert found.state is AskState.CANCELLED


async def test_agents_that_wrote_to_each_other_are_removed_at_once(sides: Sides, postgres_dsn: str) -> None:
    """Each begins with the messages that its own agent sent; somebody's locks stop both before they have the others."""
    first, second = await sides(2)
    for sender, recipient in ((first.alice, first.bob), (first.bob, first.alice)):
        await first.send_many(3, sender, recipient)
    found = await first.store.directory.find_agents_by_id([first.alice, first.bob])
    before = await count_deadlocks(postgres_dsn)
    waiting = partial(execute, postgres_dsn, WAITS_FOR_LOCK)
    holder = await asyncpg.connect(postgres_dsn)
    try:
        await holder.execute("begin; select from messages where seq % 3 = 0 for key share")
        removals = [
            asyncio.create_task(each.store.directory.remove_agent(agent.external_id))
            for each, agent in zip((first, second), found, strict=True)
        ]
        await eventually(waiting, 5.0, until=lambda rows: len(rows) == 2)
        await holder.execute("rollback")
        assert await asyncio.gather(*removals) == [True, True]
    finally:
        await holder.close()
    assert await count_deadlocks(postgres_dsn) == before
    (row,) = await execute(postgres_dsn, "select count(*) from messages")
    assert row["count"] == 0


async def test_passing_on_and_the_index_of_words_never_wait_for_each_other(sides: Sides, postgres_dsn: str) -> None:
    """Both have the message and its delivery; somebody's lock stops the first one between the two."""
    world, other = await sides(2)
    ask = await world.ask()
    wanted = NewForward(ask, world.bob, world.carol, kept_id=new_id(), session_id=new_id(), claim=None)
    before = await count_deadlocks(postgres_dsn)
    waiting = partial(execute, postgres_dsn, WAITS_FOR_LOCK)
    holder = await asyncpg.connect(postgres_dsn)
    try:
        await holder.execute("begin; select from messages for key share")
        passing = asyncio.create_task(world.store.forwarding.forward(wanted, owner=world.owner, now=world.start))
        await eventually(waiting, 5.0, until=lambda rows: len(rows) == 1)
        indexing = asyncio.create_task(index_all(other.store.search, other.owner))

        async def is_stopped_or_done() -> bool:
            return indexing.done() or len(await waiting()) == 2

        await eventually(is_stopped_or_done, 5.0, until=bool)
        await holder.execute("rollback")
        assert isinstance(await passing, Forwarded)
        assert await indexing > 0
    finally:
        await holder.close()
    await index_all(other.store.search, other.owner)
    assert await count_deadlocks(postgres_dsn) == before
    assert await world.store.check() == []


async def test_an_ask_is_not_passed_on_to_an_agent_that_is_being_removed(sides: Sides, postgres_dsn: str) -> None:
    (world,) = await sides(1)
    ask = await world.ask()
    wanted = NewForward(ask, world.bob, world.carol, kept_id=new_id(), session_id=new_id(), claim=None)
    remover = await asyncpg.connect(postgres_dsn)
    try:
        await remover.execute("begin")
        await remover.execute("delete from agents where id = $1::text::uuid", world.carol)
        passing = asyncio.create_task(world.store.forwarding.forward(wanted, owner=world.owner, now=world.start))
        waiting = partial(execute, postgres_dsn, WAITS_FOR_LOCK)
        await eventually(waiting, 5.0, until=lambda rows: len(rows) == 1)
        await remover.execute("commit")
        assert await passing == UnknownAgents([world.carol])
    finally:
        await remover.close()
    assert await world.ask_state(ask) is AskState.OPEN
