"""What long meetings and many of them cost, counted in SQLite's own steps and statements (see test_scale.py)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import apsw
import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import MeetingEventType, MeetingStatus
from agent_messaging.payloads import checksum
from agent_messaging.storage.acts import Wanted
from agent_messaging.storage.assembly.terms import Attend, End, Leave, Pass, Speak, Start
from agent_messaging.storage.ports import Acted
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.gathering import DURATION, plan, speech
from tests.conformance.world import World

from .test_costs import Costs
from .test_costs import cost as cost_of_round
from .test_scale import cost
from .test_scale_conversations import statements

MANY = 20_000


async def begin(world: World, *agents: str, **options: Any) -> str:
    """A meeting in its first turn, which is its host's."""
    meetings = world.store.meetings
    new = plan(*agents, **options)
    await meetings.create(new, owner=world.owner, now=world.start)
    for agent in agents[1:]:
        assert isinstance(await act(world, new.meeting_id, Attend(agent)), Acted)
    assert isinstance(await act(world, new.meeting_id, Start(agents[0])), Acted)
    return new.meeting_id


async def act(world: World, meeting_id: str, act: Any, **options: Any) -> Any:
    return await world.store.meetings.act(meeting_id, act, owner=world.owner, now=world.start, **options)


@pytest.fixture
async def meeting_id(world: World, store: SQLiteStore) -> str:
    """A meeting of alice's, bob and carol, in which much has been said by those two, and long ago once by alice; it is
    her turn. Before it were many others, of the same three, that have ended, and many that all are silent in."""
    meeting_id = await begin(world, world.alice, world.bob, world.carol, invite=True)
    parameters = {"many": MANY, "meeting": meeting_id, "alice": world.alice, "bob": world.bob, "carol": world.carol}

    def fill(connection: apsw.Connection) -> None:
        """What so many acts would have left, but for the deliveries."""
        for sql in (
            "update turns set number = number + :many + 10 where meeting_id = :meeting",
            "update meetings set turn = turn + :many + 10 where id = :meeting",
            """
            with recursive n (n) as (values (1) union all select n + 1 from n where n < :many)
            insert into messages (id, kind, sender_id, meeting_id, content, checksum, created_at)
            select 'said-' || n, 'meeting', iif(n = 1, :alice, iif(n % 2, :bob, :carol)), :meeting, '1', 0, 0 from n
            """,
            """
            insert into turns (meeting_id, number, agent_id, purpose, started_at, ended_at, how, message_seq)
            select :meeting, row_number() over (order by seq), sender_id, 'speak', 0, 0, 'spoke', seq
            from messages where id like 'said-%'
            """,
            f"""
            insert into meeting_events (meeting_id, type, agent_id, data, checksum, message_seq, created_at)
            select :meeting, 'message_posted', sender_id, '{{}}', {checksum("{}", None)}, seq, 0
            from messages where id like 'said-%'
            """,
            """
            with recursive n (n) as (values (1) union all select n + 1 from n where n < :many)
            insert into meetings (id, host_id, status, selection, max_attempts, created_at)
            select printf('0000-%06d', n), :alice, iif(n % 2, 'ended', 'created'), 'round_robin', 5, 0 from n
            """,
            """
            insert into participants (id, meeting_id, agent_id, join_order, status, joined_at)
            select m.id || key, m.id, value, key, 'attending', 0
            from meetings as m cross join json_each(json_array(:alice, :bob, :carol)) where m.id like '0000-%'
            """,
        ):
            connection.execute(sql, {name: parameters[name] for name in parameters if f":{name}" in sql}).close()

    await store.engine.write(fill)
    return meeting_id


async def test_a_long_meeting_among_many_slows_nothing_down(meeting_id: str, world: World, store: SQLiteStore) -> None:
    meetings = store.meetings
    speakers = [world.alice, world.bob, world.carol]

    async def speak() -> None:
        said = speech(idempotency_key=new_id())
        assert isinstance(await act(world, meeting_id, Speak(speakers[0]), speech=said), Acted)
        # A lost answer.
        assert isinstance(await act(world, meeting_id, Speak(speakers[0]), speech=said), Acted)
        speakers.append(speakers.pop(0))

    async def pass_on() -> None:
        assert isinstance(await act(world, meeting_id, Pass(speakers[0])), Acted)
        speakers.append(speakers.pop(0))

    async def time_out() -> None:
        timed_out = await meetings.time_out(10, now=world.at(DURATION + 1))
        assert list(timed_out.meetings) == [meeting_id]
        speakers.append(speakers.pop(0))
        await pass_on()  # the next one began at the world's start again

    async def come_and_go() -> None:
        new = plan(world.alice, world.bob, invite=True)
        await meetings.create(new, owner=world.owner, now=world.start)
        assert isinstance(await act(world, new.meeting_id, Attend(world.bob)), Acted)
        assert isinstance(await act(world, new.meeting_id, Leave(world.bob)), Acted)
        assert isinstance(await act(world, new.meeting_id, End(world.alice)), Acted)

    async def page(agent: str | None, *statuses: MeetingStatus) -> None:
        assert await meetings.list_meetings(agent, statuses=statuses or None, limit=10)

    async def last(agent: str) -> None:
        key = meeting_id, agent
        standing = (await meetings.find_standings([key], recent=10))[key]
        assert standing is not None
        assert standing.said

    keys = [(meeting_id, agent) for agent in (world.alice, world.bob, world.dave)]
    cursor = await meetings.find_cursor()
    costs = {
        "speak": await cost(store, speak),
        "pass": await cost(store, pass_on),
        "time out": await cost(store, time_out),
        "time out nothing": await cost(store, lambda: meetings.time_out(10, now=world.start)),
        "create, attend, leave, end": await cost(store, come_and_go),
        "sit": await cost(store, lambda: meetings.sit(meeting_id, world.bob, owner=new_id())),
        "find": await cost(store, lambda: meetings.find_meeting(meeting_id)),
        "standings": await cost(store, lambda: meetings.find_standings(keys)),
        "list all": await cost(store, lambda: page(None)),
        "list the active": await cost(store, lambda: page(None, MeetingStatus.ACTIVE)),
        "list an agent's": await cost(store, lambda: page(world.bob)),
        "messages": await cost(store, lambda: meetings.list_messages(meeting_id, limit=10)),
        "newest messages": await cost(
            store, lambda: meetings.list_messages(meeting_id, before_seq=MANY // 2, newest_first=True, limit=10)
        ),
        "last messages of a speaker": await cost(store, lambda: last(world.bob)),
        "last messages of one silent for long": await cost(store, lambda: last(world.alice)),
        "last messages of one that never spoke": await cost(store, lambda: last(world.dave)),
        "turns": await cost(store, lambda: meetings.list_turns(meeting_id, limit=10, after=MANY // 2)),
        "events": await cost(store, lambda: meetings.list_events(meeting_id, limit=10, after_seq=MANY // 2)),
        "end of the feed": await cost(store, meetings.find_cursor),
        "feed": await cost(store, lambda: meetings.read_events(cursor, 10, most_bytes=1024 * 1024)),
        "record": await cost(
            store, lambda: meetings.record_event(meeting_id, MeetingEventType.ERROR_OCCURRED, None, {})
        ),
    }
    assert {name: steps for name, steps in costs.items() if steps > MANY // 4} == {}


async def test_the_end_of_a_long_meeting_does_not_read_it(meeting_id: str, world: World, store: SQLiteStore) -> None:
    # Once: it is counted from nothing.
    steps: list[int] = []
    connection = await store.engine.write(lambda con: con)
    connection.trace_v2(
        apsw.SQLITE_TRACE_PROFILE, lambda event: steps.append(event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"])
    )
    try:
        assert isinstance(await act(world, meeting_id, Leave(world.bob)), Acted)
        assert isinstance(await act(world, meeting_id, End(world.alice)), Acted)
    finally:
        connection.trace_v2(0, None)
    assert steps


async def test_the_number_of_statements_depends_on_neither_meetings_nor_seats(world: World, store: SQLiteStore) -> None:
    async def add(number: int) -> list[str]:
        ids = [new_id() for _ in range(number)]
        for id in ids:
            await store.directory.add_agent(id, id, world.organization_id, "Agent", update_name=False)
        return ids

    many = [world.alice, *await add(40)]

    async def of_one(agents: list[str]) -> list[int]:
        new = plan(*agents, invite=True)
        id = new.meeting_id
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: store.meetings.create(new, owner=world.owner),
            lambda: act(world, id, Start(agents[0], has_message=True), speech=speech(idempotency_key=new_id())),
            lambda: act(world, id, Speak(agents[1]), speech=speech()),
            lambda: act(world, id, Leave(agents[2])),
            lambda: act(world, id, End(agents[0])),
        ]
        counts = [await statements(store, calls[0])]
        for agent in agents[1:]:
            await act(world, id, Attend(agent))
        return counts + [await statements(store, call) for call in calls[1:]]

    few = await of_one(many[:3])
    assert few == await of_one(many)
    most = [8, 13, 12, 14, 12]  # with begin and commit: create, start, speak, leave, end
    assert [counted for counted, limit in zip(few, most, strict=True) if counted > limit] == []

    async def of_several(number: int) -> tuple[int, int]:
        """All are timed out at once; then an agent that has the turn in each of them is removed."""
        (goes,) = await add(1)
        for _ in range(number):
            meeting_id = await begin(world, world.alice, goes, world.bob)
            assert isinstance(await act(world, meeting_id, Pass(world.alice)), Acted)

        async def time_out() -> None:
            timed_out = await store.meetings.time_out(100, now=world.at(DURATION + 1))
            assert len(timed_out.meetings) == number

        async def remove() -> None:
            assert await store.directory.remove_agent(goes)

        counts = await statements(store, time_out), await statements(store, remove)
        for row in await store.meetings.list_meetings(world.alice, statuses=[MeetingStatus.ACTIVE], limit=100):
            assert isinstance(await act(world, row.meeting_id, End(world.alice)), Acted)
        return counts

    assert await of_several(2) == await of_several(60)


async def test_what_64_meetings_in_step_cost(world: World, store: SQLiteStore) -> None:
    """One commit, in which each of them has a speech: the end of a turn, the next one with its duty, two events.

    Each number has a tenth or two of air above what was counted when it was written.
    """
    agents = [world.alice, world.bob, world.carol]
    ids = [await begin(world, *agents) for _ in range(64)]
    turns = count()

    async def speak() -> None:
        speaker = agents[next(turns) % 3]
        wanted = [Wanted(id, Speak(speaker), world.owner, speech()) for id in ids]
        outcomes = await store.engine.write(lambda connection: store.meetings._act(connection, wanted))
        assert {type(outcome) for outcome in outcomes} == {Acted}

    costs = await cost_of_round(store, speak, 12)
    most = Costs(13.6, 97_000, 185)
    assert costs.statements <= most.statements, costs
    assert costs.steps <= most.steps, costs
    assert costs.pages <= most.pages, costs
