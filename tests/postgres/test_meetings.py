"""Acts of many connections at once, removals among them, and the feed of events while transactions are in flight."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import Kind, MeetingEventType, MeetingStatus, TurnEnd
from agent_messaging.payloads import checksum
from agent_messaging.storage.assembly.terms import Act, End, Leave, Pass, Refused, Remove, Skip, Speak, Why
from agent_messaging.storage.ports import (
    Acted,
    Claim,
    Created,
    Duplicate,
    KeyConflict,
    Settlement,
    Settling,
    TurnRow,
    UnknownAgents,
)
from agent_messaging.storage.postgres import acts, errors
from agent_messaging.storage.postgres.store import PostgresStore
from tests.conformance.gathering import Feed, Gathering, names_of, plan, remove_agent, speech
from tests.conformance.world import World
from tests.postgres.conftest import StoreMaker, execute
from tests.support import eventually

Outcome = Acted | Refused | Duplicate | KeyConflict | None
ROUNDS = 20
WAITS_FOR_LOCK = """
select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and state = 'active'
"""
BLOCKS = """
select sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit, 0) + coalesce(idx_blks_read, 0))::bigint as blocks
from pg_statio_user_tables
where relname in (
  'agents', 'deliveries', 'idempotency_keys', 'meeting_events', 'meetings', 'messages', 'participants', 'turns'
)
"""


@pytest.fixture
async def store(postgres_dsn: str, open_store: StoreMaker) -> PostgresStore:
    """An open store."""
    return await open_store(postgres_dsn)


@pytest.fixture
async def others(postgres_dsn: str, open_store: StoreMaker, store: PostgresStore) -> list[PostgresStore]:
    """More of them on the same data."""
    return [await open_store(postgres_dsn) for _ in range(3)]


@pytest.fixture
async def world(store: PostgresStore) -> World:
    """Agents in the store."""
    return await World.create(store)


@asynccontextmanager
async def holding(store: PostgresStore, lock: Callable[[Any], Awaitable[Any]]) -> AsyncIterator[None]:
    """Within, a transaction of this store holds what it has locked."""
    locked, finish = asyncio.Event(), asyncio.Event()

    async def hold(connection: Any) -> None:
        await lock(connection)
        locked.set()
        await finish.wait()

    transaction = asyncio.create_task(store.engine.run(hold, write=True))
    await locked.wait()
    try:
        yield
    finally:
        finish.set()
        await transaction


@pytest.fixture
def deadlocks(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Those that the server has broken up, which the engine hides by running a call again."""
    found: list[BaseException] = []
    may_pass = errors.may_pass

    def look(error: BaseException) -> bool:
        if isinstance(error, asyncpg.DeadlockDetectedError):
            found.append(error)
        return may_pass(error)

    monkeypatch.setattr(errors, "may_pass", look)
    return found


def through(meeting: Gathering, store: PostgresStore) -> Callable[..., Awaitable[Outcome]]:
    """Acts in the meeting by another store."""

    async def act(act: Act, **options: Any) -> Outcome:
        options = {"owner": new_id(), "now": meeting.world.start, **options}
        return await store.meetings.act(meeting.id, act, **options)

    return act


async def check(meeting: Gathering) -> list[TurnRow]:
    """Numbers rise by one, only the last is current, what was said in them is in the history once, in their order."""
    turns = await meeting.turns()
    assert [turn.number for turn in turns] == list(range(1, len(turns) + 1))
    assert [turn.number for turn in turns if turn.ended_at is None] == [len(turns)]
    said = [turn.message_id for turn in turns if turn.message_id is not None]
    assert [row.message_id for row in await meeting.history() if row.message_type == "user_defined"] == said
    changed = [event.data["turn"] for event in await meeting.events() if event.type == MeetingEventType.TURN_CHANGED]
    assert changed == list(range(1, len(turns) + 1))
    return turns


# --- one winner -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["pass", "leave", "remove", "end"])
async def test_who_sits_down_while_an_act_is_judged_is_woken_by_it(
    store: PostgresStore, world: World, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It sees nothing of the act yet, so it waits."""
    host, other = world.alice, world.bob
    meeting = await Gathering.active(world)
    process = new_id()
    find_questions = acts.find_questions

    async def sit_behind(*arguments: Any) -> Any:
        found = await find_questions(*arguments)
        assert await store.meetings.sit(meeting.id, other, owner=process)
        return found

    monkeypatch.setattr(acts, "find_questions", sit_behind)
    choices: dict[str, Act] = {
        "pass": Pass(host, 1),
        "leave": Leave(other),
        "remove": Remove(host, other),
        "end": End(host),
    }
    acted = await meeting.act(choices[how])
    assert isinstance(acted, Acted)
    assert process in acted.processes


@pytest.mark.parametrize("numbered", [True, False])
async def test_of_many_that_speak_at_once_one_does(
    store: PostgresStore, others: list[PostgresStore], world: World, numbered: bool
) -> None:
    """Also where nobody says which turn is meant: the next one is another's."""
    meeting = await Gathering.active(world)
    for number in range(1, ROUNDS + 1):
        holder = await meeting.holder()
        outcomes = await asyncio.gather(
            *(
                through(meeting, each)(Speak(holder, number if numbered else None), speech=speech())
                for each in (store, *others)
            )
        )
        assert Counter(type(outcome) for outcome in outcomes) == {Acted: 1, Refused: 3}
        why = Why.TURN_LOST if numbered else Why.NOT_YOUR_TURN
        assert {outcome.why for outcome in outcomes if isinstance(outcome, Refused)} == {why}
    turns = await check(meeting)
    assert [turn.how for turn in turns] == [TurnEnd.SPOKE] * ROUNDS + [None]


async def test_of_many_time_outs_each_turn_has_one(
    store: PostgresStore, others: list[PostgresStore], world: World
) -> None:
    meetings = [await Gathering.active(world) for _ in range(12)]
    for round in range(1, 6):
        now = world.at(61.0 * round)
        while True:
            found = await asyncio.gather(*(each.meetings.time_out(5, now=now) for each in (store, *others)))
            told = Counter(id for each in found for id in each.meetings)
            assert all(acted.ended_turn == round for each in found for acted in each.meetings.values())
            if not told:
                break
            assert set(told.values()) == {1}
    for meeting in meetings:
        turns = await check(meeting)
        assert [turn.how for turn in turns] == [TurnEnd.TIMED_OUT] * 5 + [None]


async def test_a_speech_and_a_time_out_at_once(store: PostgresStore, others: list[PostgresStore], world: World) -> None:
    """By the clock of one it is just in time, by that of the other it is not: whoever comes first."""
    meeting = await Gathering.active(world)
    for number in range(1, ROUNDS + 1):
        turn = await meeting.turn()
        assert turn.deadline_at is not None
        just_in_time = turn.deadline_at - timedelta(seconds=1)
        spoken, timed_out = await asyncio.gather(
            through(meeting, others[0])(Speak(turn.agent_id, number), speech=speech(), now=just_in_time),
            store.meetings.time_out(10, now=turn.deadline_at),
        )
        assert isinstance(spoken, Acted) is (meeting.id not in timed_out.meetings)
        ended = (await meeting.turns())[number - 1]
        assert ended.how is (TurnEnd.SPOKE if isinstance(spoken, Acted) else TurnEnd.TIMED_OUT)
    await check(meeting)


async def test_a_time_out_leaves_alone_what_another_is_changing(
    postgres_dsn: str, store: PostgresStore, others: list[PostgresStore], world: World
) -> None:
    """It does not wait behind one meeting with those of others."""
    held, free = await Gathering.active(world), await Gathering.active(world)
    async with holding(others[0], lambda connection: acts.lock(connection, [held.id])):
        timed_out = await store.meetings.time_out(10, now=world.at(61))
        assert set(timed_out.meetings) == {free.id}
        assert timed_out.next_in == 0.0
    assert set((await store.meetings.time_out(10, now=world.at(61))).meetings) == {held.id}


async def test_an_act_waits_for_its_own_meeting_alone(
    store: PostgresStore, others: list[PostgresStore], world: World
) -> None:
    """Acts that come together share a transaction; a meeting that somebody holds up holds up no other."""
    held, *free = [await Gathering.active(world) for _ in range(6)]
    async with holding(others[0], lambda connection: acts.lock(connection, [held.id])):
        waiting = asyncio.create_task(held.act(Speak(world.alice, 1), speech=speech()))
        for number in (1, 2):
            speeches = [meeting.act(Speak(await meeting.holder(), number), speech=speech()) for meeting in free]
            assert {type(outcome) for outcome in await asyncio.gather(*speeches)} == {Acted}
        assert not waiting.done()
    assert isinstance(await waiting, Acted)


async def test_a_delivery_that_somebody_holds_up_holds_up_its_own_act_alone(
    store: PostgresStore, others: list[PostgresStore], world: World
) -> None:
    held, *free = [await Gathering.active(world) for _ in range(6)]
    duty = (
        "select from deliveries where seq = (select delivery_seq from turns where meeting_id = $1::text::uuid)"
        " for update"
    )
    async with holding(others[0], lambda connection: connection.execute(duty, held.id)):
        waiting = asyncio.create_task(held.act(Speak(world.alice, 1), speech=speech()))
        speeches = [meeting.act(Speak(world.alice, 1), speech=speech()) for meeting in free]
        assert {type(outcome) for outcome in await asyncio.gather(*speeches)} == {Acted}
        assert not waiting.done()
    assert isinstance(await waiting, Acted)


async def test_a_key_used_in_two_meetings_at_once(
    store: PostgresStore, others: list[PostgresStore], world: World
) -> None:
    """The locks of the meetings do not decide it; one of the two is stored, the other says so."""
    for number in range(10):
        first, second = await Gathering.active(world), await Gathering.active(world)
        words = [speech(idempotency_key=f"key {number}", fingerprint=fingerprint) for fingerprint in "fg"]
        outcomes = await asyncio.gather(
            through(first, store)(Speak(world.alice), speech=words[0]),
            through(second, others[0])(Speak(world.alice), speech=words[1]),
        )
        assert Counter(type(outcome) for outcome in outcomes) == {Acted: 1, KeyConflict: 1}


async def test_a_claim_that_is_given_up_meanwhile_settles_nothing(
    postgres_dsn: str, store: PostgresStore, others: list[PostgresStore], world: World
) -> None:
    """The end of a claim and an act under it: whoever comes second sees what the first did."""
    for _ in range(ROUNDS // 2):
        meeting = await Gathering.active(world)
        (claimed,) = await store.deliveries.claim(
            [world.request(world.alice, 1, kind=Kind.TURN, ordered=False)], owner=world.owner, now=world.start
        )
        acted, settled = await asyncio.gather(
            through(meeting, store)(Pass(world.alice, 1), claim=claimed.claim),
            others[0].deliveries.settle(
                [Settlement(claimed.claim, Settling.RETURNED)], owner=world.owner, now=world.start
            ),
        )
        assert settled.moved == [isinstance(acted, Refused)]
        assert (await meeting.duty(1)).state == ("done" if isinstance(acted, Acted) else "queued")
        await meeting.end()


# --- removals ---------------------------------------------------------------------------------------------------------


async def test_removals_among_acts_never_wait_in_a_circle(
    store: PostgresStore, others: list[PostgresStore], world: World, deadlocks: list[BaseException]
) -> None:
    """Agents go one after the other and at once, while all that changes meetings and their deliveries goes on."""
    rng = random.Random(11)
    organization = world.organization_id
    agents = [world.alice, world.bob, world.carol, world.dave]
    guests = [await add_agent(store, organization, f"guest {number}") for number in range(6)]
    meetings = []
    for _ in range(6):
        seated = [*agents, *guests]
        rng.shuffle(seated)
        hosts = [agent for agent in seated if agent in agents]
        rest = [agent for agent in seated if agent != hosts[0]]
        meetings.append(await Gathering.active(world, hosts[0], *rest))
    names = await names_of(world, guests)
    removing = True

    async def speak(each: PostgresStore) -> int:
        done = 0
        while removing:
            meeting = rng.choice(meetings)
            row = await each.meetings.find_meeting(meeting.id)
            assert row is not None
            assert row.turn is not None
            act = through(meeting, each)
            outcome = await act(Speak(row.turn.agent_id, row.turn.number), speech=speech())
            outcome = await act(Skip(meeting.host)) if rng.random() < 0.3 else outcome
            done += isinstance(outcome, Acted)
        return done

    async def time_out(each: PostgresStore) -> int:
        done = 0
        while removing:
            done += len((await each.meetings.time_out(4, now=world.at(61))).meetings)
            await asyncio.sleep(0)
        return done

    async def settle(each: PostgresStore) -> int:
        done = 0
        while removing:
            requests = [world.request(agent, 3, kind=Kind.TURN, ordered=False) for agent in (*agents, *guests)]
            claimed = await each.deliveries.claim(requests, owner=world.owner, now=world.start)
            done += len(claimed)
            await each.deliveries.settle(
                [Settlement(one.claim, Settling.RETURNED) for one in claimed], owner=world.owner, now=world.start
            )
        return done

    async def remove(each: PostgresStore, *external_ids: str) -> None:
        for external_id in external_ids:
            assert await each.directory.remove_agent(external_id)

    running = [asyncio.create_task(work(each)) for work, each in zip((speak, time_out, settle), others, strict=True)]
    going = list(names.values())
    await asyncio.gather(remove(store, *going[:3]), remove(others[0], *going[3:]))
    removing = False
    assert all(await asyncio.gather(*running))
    assert deadlocks == []
    for meeting in meetings:
        assert set(await meeting.seats()) == set(agents)
        row = await meeting.row()
        assert row.status is MeetingStatus.ACTIVE
        assert row.turn is not None
        assert row.turn.agent_id in agents
        assert Counter(await meeting.event_types())["participant_left"] == len(guests)


async def test_a_removal_locks_deliveries_in_their_order(postgres_dsn: str, store: PostgresStore, world: World) -> None:
    """Those to the agent and those from it: whoever settles some of both waits for none behind the first."""
    await world.send(world.alice, world.carol)
    await world.send(world.carol, world.bob)
    first, second = [row["seq"] for row in await execute(postgres_dsn, "select seq from deliveries order by seq")]
    connection = await asyncpg.connect(postgres_dsn)
    try:
        await connection.execute("begin")
        await connection.execute("select from deliveries where seq = $1 for update", first)
        removing = asyncio.create_task(remove_agent(world, world.carol))
        await eventually(lambda: execute(postgres_dsn, WAITS_FOR_LOCK))
        await connection.execute("select from deliveries where seq = $1 for update nowait", second)
        await connection.execute("commit")
        await removing
    finally:
        await connection.close()
    assert await execute(postgres_dsn, "select seq from deliveries") == []


async def test_two_organizations_that_meet_are_removed_at_once(
    store: PostgresStore, others: list[PostgresStore], world: World, deadlocks: list[BaseException]
) -> None:
    """The hosts' own meetings go, of which the others' agents hold seats; those of the third one go on."""
    members = {}
    for name in ("left", "right"):
        organization = await store.directory.add_organization(new_id(), name, name, update_name=False)
        members[name] = [await add_agent(store, str(organization.id), f"{name} {number}") for number in range(3)]
    left, right = members["left"], members["right"]
    for _ in range(3):
        hosted = [
            await Gathering.active(world, left[0], *right, left[1]),
            await Gathering.active(world, right[0], *left, right[1]),
        ]
        await hosted[0].end()
    staying = [await Gathering.active(world, world.alice, *left, world.bob, *right) for _ in range(3)]
    assert all(
        await asyncio.gather(
            store.directory.remove_organization("left"), others[0].directory.remove_organization("right")
        )
    )
    assert deadlocks == []
    assert [await store.meetings.find_meeting(meeting.id) for meeting in hosted] == [None, None]
    assert [await meeting.history() for meeting in hosted] == [[], []]
    for meeting in staying:
        assert list(await meeting.seats()) == [world.alice, world.bob]
        assert await meeting.holder() == world.alice


async def test_an_agent_that_is_going_gets_no_seat(
    postgres_dsn: str, store: PostgresStore, others: list[PostgresStore], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be removed from a meeting without having left it, and the others would wait for it for ever."""
    creating: list[asyncio.Task[Created | UnknownAgents]] = []
    leave = acts.vanish

    async def vanish(connection: Any, agent_ids: Any) -> None:
        await leave(connection, agent_ids)
        meeting = plan(world.alice, world.bob)
        creating.append(asyncio.create_task(others[0].meetings.create(meeting, owner=world.owner)))
        await eventually(lambda: execute(postgres_dsn, WAITS_FOR_LOCK))

    monkeypatch.setattr(acts, "vanish", vanish)
    (external_id,) = (await names_of(world, [world.bob])).values()
    assert await store.directory.remove_agent(external_id)
    assert await creating[0] == UnknownAgents([world.bob])


async def test_a_meeting_that_is_being_created_is_left_too(
    postgres_dsn: str, store: PostgresStore, others: list[PostgresStore], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (external_id,) = (await names_of(world, [world.bob])).values()
    removing: list[asyncio.Task[bool]] = []
    run = store.engine.run

    async def run_then_remove(fn: Callable[[Any], Awaitable[Any]], **options: Any) -> Any:
        async def work(connection: Any) -> Any:
            result = await fn(connection)
            removing.append(asyncio.create_task(others[0].directory.remove_agent(external_id)))
            await eventually(lambda: execute(postgres_dsn, WAITS_FOR_LOCK))
            return result

        return await run(work, **options)

    monkeypatch.setattr(store.engine, "run", run_then_remove)
    meeting = plan(world.alice, world.bob)
    assert await store.meetings.create(meeting, owner=world.owner) == Created(MeetingStatus.CREATED)
    monkeypatch.undo()
    assert await removing[0]
    created = Gathering(world, meeting)
    assert await created.status() is MeetingStatus.READY
    assert await created.event_types() == ["participant_left"]


# --- the feed of events -----------------------------------------------------------------------------------------------


async def test_the_feed_neither_misses_what_commits_late_nor_waits_for_it(
    store: PostgresStore, others: list[PostgresStore], world: World
) -> None:
    meetings = [await Gathering.active(world) for _ in range(2)]
    feed = await Feed.open(store.meetings, limit=1)
    begun, finish = asyncio.Event(), asyncio.Event()

    async def leave_late(connection: Any) -> None:
        await acts.lock(connection, [meetings[0].id])
        await connection.execute(
            "insert into meeting_events (meeting_id, type, agent_id, data, checksum, created_at)"
            " values ($1::text::uuid, 'error_occurred', null, '{}', $2, now())",
            meetings[0].id,
            checksum("{}", None),
        )
        begun.set()
        await finish.wait()

    late = asyncio.create_task(others[0].engine.run(leave_late, write=True))
    await begun.wait()
    await meetings[1].speak()
    await eventually(feed.read_all, until=lambda events: len(events) >= 2)
    assert [event.meeting_id for event in feed.events] == [meetings[1].id] * 2
    opened_meanwhile = await Feed.open(store.meetings)
    await meetings[1].speak()
    finish.set()
    await late
    new = [meetings[0].id] + [meetings[1].id] * 2
    # A page holds one event here: what comes later does not move the end of a stretch of several pages.
    await eventually(feed.read_all, until=lambda events: len(events) >= 5)
    await eventually(opened_meanwhile.read_all, until=lambda events: len(events) >= 3)
    assert [event.meeting_id for event in feed.events[2:]] == new
    assert [event.meeting_id for event in opened_meanwhile.events] == new
    assert len({event.seq for event in feed.events}) == len(feed.events) == 5


async def test_followers_read_the_same_while_many_write(
    store: PostgresStore, others: list[PostgresStore], world: World
) -> None:
    """Everything once, and of each meeting in its order, however the pages fall."""
    meetings = [await Gathering.active(world) for _ in range(4)]
    feeds = [await Feed.open(store.meetings, limit) for limit in (1, 7, 100)]
    before = [len(await meeting.events()) for meeting in meetings]
    writing = True

    async def write(each: PostgresStore) -> None:
        for number in range(30):
            meeting = meetings[number % len(meetings)]
            await through(meeting, each)(Skip(meeting.host))

    async def follow(feed: Feed) -> None:
        while writing:
            await feed.read_page()

    following = [asyncio.create_task(follow(feed)) for feed in feeds]
    await asyncio.gather(*(write(each) for each in others))
    writing = False
    await asyncio.gather(*following)
    for feed in feeds:
        for meeting, count in zip(meetings, before, strict=True):
            written = (await meeting.events())[count:]
            await feed.reaches(meeting.id, [event.seq for event in written])
            assert feed.of(meeting.id) == written


async def test_a_store_that_was_restored_has_a_feed(postgres_dsn: str, open_store: StoreMaker, world: World) -> None:
    """The numbers of transactions that came along are from another server, and may lie in this one's future."""
    meeting = await Gathering.active(world)
    for table in ("messages", "meeting_events"):
        await execute(postgres_dsn, f"with moved as (update {table} set xid = '1000000000000' returning 1) select 1")
        store = await open_store(postgres_dsn)
        feed = await Feed.open(store.meetings)
        assert await feed.read() == []
        await meeting.speak()
        await eventually(feed.read_all, until=lambda events: len(events) >= 2)
        assert [event.type for event in feed.events] == ["message_posted", "turn_changed"]


# --- how much it costs ------------------------------------------------------------------------------------------------


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is sent to the server."""
    sent: list[str] = []
    for name in ("execute", "fetch"):
        original = getattr(asyncpg.Connection, name)

        async def record(self: Any, query: str, *values: Any, original: Any = original, **options: Any) -> Any:
            sent.append(query)
            return await original(self, query, *values, **options)

        monkeypatch.setattr(asyncpg.Connection, name, record)
    yield sent
    sent.clear()


async def test_who_is_removed_by_hand_while_it_speaks_is_told_that_it_is_no_participant(
    postgres_dsn: str, store: PostgresStore, world: World
) -> None:
    meeting = await Gathering.active(world, world.alice, world.bob, world.carol)
    await meeting.speak()
    assert await meeting.holder() == world.bob
    removal, neighbour = await asyncpg.connect(postgres_dsn), await asyncpg.connect(postgres_dsn)
    try:
        async with removal.transaction():
            async with neighbour.transaction():  # so that it does not act together with others first
                await neighbour.execute(f"select from meetings where id = '{meeting.id}' for update")
                await removal.execute(f"delete from agents where id = '{world.bob}'")
                speaking = asyncio.ensure_future(through(meeting, store)(Speak(world.bob), speech=speech()))
                await eventually(lambda: execute(postgres_dsn, WAITS_FOR_LOCK))
            await eventually(lambda: execute(postgres_dsn, f"{WAITS_FOR_LOCK} and query like 'with seqs%'"))
        outcome = await speaking
    finally:
        await asyncio.gather(removal.close(), neighbour.close())
    assert isinstance(outcome, Refused)
    assert outcome.why is Why.NOT_PARTICIPANT


@pytest.mark.parametrize("removed", ["agent", "organization"])
async def test_a_removal_begins_again_where_another_agent_is_removed_by_hand(
    postgres_dsn: str, store: PostgresStore, world: World, removed: str
) -> None:
    """The turn of who goes is to be the other one's, which is gone when it is written."""
    others = new_id()
    await store.directory.add_organization(others, "others", "", update_name=False)
    guest = await add_agent(store, others, "guest")
    meeting = await Gathering.active(world, world.alice, guest, world.carol)
    await meeting.speak()
    assert await meeting.holder() == guest
    by_hand = await asyncpg.connect(postgres_dsn)
    try:
        async with by_hand.transaction():
            await by_hand.execute(f"delete from agents where id = '{world.carol}'")
            remove = store.directory.remove_agent if removed == "agent" else store.directory.remove_organization
            removing = asyncio.ensure_future(remove("guest" if removed == "agent" else "others"))
            await eventually(lambda: execute(postgres_dsn, f"{WAITS_FOR_LOCK} and query like '%with seqs%'"))
        assert await removing
    finally:
        await by_hand.close()
    assert await meeting.holder() == world.alice
    assert list(await meeting.seats()) == [world.alice]


async def test_round_trips_do_not_grow(store: PostgresStore, world: World, statements: list[str]) -> None:
    """An act is five, and so is a page of time-outs, but for the two looks at what is due."""
    small = await Gathering.active(world, world.alice, world.bob)
    guests = [await add_agent(store, world.organization_id, f"guest {number}") for number in range(30)]
    large = await Gathering.active(world, world.alice, *guests)
    for meeting in (small, large):
        await store.meetings.list_seats(meeting.id)
        statements.clear()
        await through(meeting, store)(Speak(world.alice), speech=speech())
        assert len(statements) == 5
        statements.clear()
        await through(meeting, store)(Leave(meeting.plan.participant_ids[-1]))
        assert len(statements) == 5
    for number in (0, 5):
        for _ in range(number):
            await Gathering.active(world)
        statements.clear()
        assert len((await store.meetings.time_out(100, now=world.at(100 * (number + 1)))).meetings) == 2 + number
        assert len(statements) == 7


async def test_a_long_meeting_costs_its_acts_nothing(postgres_dsn: str, open_store: StoreMaker) -> None:
    """With plans that were made while the tables were empty, and whatever the server believes of them afterwards."""
    store = await open_store(postgres_dsn, max_pool_size=1)
    world = await World.create(store)
    meeting = await Gathering.active(world, turn_duration=1_000_000.0)
    feed = await Feed.open(store.meetings)

    async def use() -> None:
        await meeting.act(Speak(await meeting.holder()), speech=speech(), claim=Claim(1, 1, 1))
        await meeting.speak()
        await store.meetings.time_out(10, now=world.at(2_000_000))
        await meeting.speak(at=2_000_000)
        await store.meetings.find_standings([(meeting.id, world.bob)], recent=10)
        await store.meetings.list_turns(meeting.id, limit=10)
        await store.meetings.list_meetings(None, statuses=[MeetingStatus.ACTIVE], limit=10)
        await store.meetings.list_meetings(world.bob, statuses=None, limit=10)
        await store.meetings.find_meeting(meeting.id)
        await feed.read()

    async def measure() -> int:
        """Blocks that it looks at, in the quietest of some runs: the server may tidy up meanwhile."""
        counts = []
        for _ in range(3):
            before = await blocks(store)
            await use()
            counts.append(await blocks(store) - before)
        return min(counts)

    for table in ("messages", "deliveries", "turns", "meetings", "participants", "meeting_events"):
        await execute(postgres_dsn, f"alter table {table} set (autovacuum_enabled = off)")  # it would take stock itself
    before = await measure()
    many = 40_000
    await execute(
        postgres_dsn,
        f"""with said as (
            insert into messages (id, kind, sender_id, meeting_id, content, checksum, created_at)
            select gen_random_uuid(), 'meeting', '{world.carol}', '{meeting.id}', '1', 0, now()
            from generate_series(1, {many}) returning seq),
        delivered as (
            insert into deliveries (seq, recipient_id, kind, sender_id, state, max_attempts, queued_at)
            select seq, '{world.bob}', 'turn', '{world.dave}', 'claimed', 1, now() from said),
        turned as (
            insert into turns (meeting_id, number, agent_id, purpose, started_at, ended_at, how)
            select '{meeting.id}', -i, '{world.carol}', 'speak', now(), now(), 'passed'
            from generate_series(1, {many}) i),
        others as (
            insert into meetings (id, host_id, status, selection, max_attempts, created_at)
            select gen_random_uuid(), '{world.alice}', 'ended', 'custom', 1, now() from generate_series(1, {many})
            returning id),
        seated as (
            insert into participants (id, meeting_id, agent_id, join_order, status)
            select gen_random_uuid(), id, '{world.alice}', 0, 'attending' from others),
        keyed as (
            insert into idempotency_keys (sender_id, call, key, fingerprint, message_ids, created_at)
            select '{world.alice}', 'speak', i, '', '{{}}', now() from generate_series(1, {many}) i)
        insert into meeting_events (meeting_id, type, data, checksum, created_at, xid)
        select '{meeting.id}', 'turn_changed', '{{}}', {checksum("{}", None)}, now(), '0'
        from generate_series(1, {many}) returning 1""",
    )
    # What it believes next: that one agent has all seats, by the one table that it knows; that each agent has one seat,
    # and each meeting one message and one turn. It would come to this by a sample, or by what most meetings are like.
    beliefs = (("participants", 1), ("", -1), (None, 0))
    believed = ("participants.agent_id", "participants.meeting_id", "turns.meeting_id", "messages.meeting_id")
    for known, values in beliefs:
        after = await measure()
        # Trees have become deeper. Each statement that read all of these rows would look at hundreds of blocks.
        assert after < 2 * before + 200, (before, after)
        if known is not None:
            for table, column in (name.split(".") for name in believed):
                await execute(postgres_dsn, f"alter table {table} alter {column} set (n_distinct = {values})")
            await execute(postgres_dsn, f"analyze {known}")


async def blocks(store: PostgresStore) -> int:
    """Blocks of tables and indexes that the store's one connection has looked at so far."""
    await store.engine.run(lambda connection: connection.fetch("select pg_stat_force_next_flush()"), write=False)
    (row,) = await store.engine.run(lambda connection: connection.fetch(BLOCKS), write=False)
    return int(row["blocks"])


async def add_agent(store: PostgresStore, organization_id: str, external_id: str) -> str:
    """One more agent."""
    agent = await store.directory.add_agent(new_id(), external_id, organization_id, external_id, update_name=False)
    assert agent is not None
    return str(agent.id)
