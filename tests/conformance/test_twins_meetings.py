"""The same random program of acts in meetings, names and processes against SQLite and PostgreSQL.

As `test_twins` does it for messages and asks: every answer, and every row, must be alike.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agent_messaging.ids import uuid7
from agent_messaging.models import Kind, MeetingEnd, MeetingEventType, MeetingStatus, SpeakerSelection
from agent_messaging.storage.assembly.terms import (
    Absent,
    Act,
    Attend,
    Bounds,
    Choose,
    Close,
    End,
    Leave,
    Pass,
    Remove,
    Skip,
    Speak,
    Start,
)
from agent_messaging.storage.ports import (
    Acted,
    Claim,
    ClaimedDelivery,
    EventRow,
    NewMeeting,
    NewSpeech,
    ProcessRow,
    Service,
    Settlement,
    Settling,
    Store,
)
from tests.conformance.gathering import invitation, plan, speech
from tests.conformance.moving import swap
from tests.conformance.twins import both, opened
from tests.conformance.world import World
from tests.fixtures.stores import store_factory
from tests.support import eventually

EXAMPLES = int(os.environ.get("AGENT_MESSAGING_TEST_TWINS", "5"))
"""Programs in one run; read at import, because the environment is emptied for each test."""
NAMES = ("alice", "bob", "carol", "dave")

agents = st.integers(0, 3)
numbers = st.integers(0, 50)
owners = st.integers(0, 2)
meetings = st.fixed_dictionaries(
    {
        "agents": st.permutations(range(4)),
        "size": st.sampled_from([1, 2, 3, 3, 4]),
        "selection": st.sampled_from(list(SpeakerSelection)),
        "turn_duration": st.sampled_from([50.5, 8.5, None]),
        "max_attempts": st.integers(1, 3),
        "stage": st.sampled_from([2, 2, 2, 1, 0]),
        "owner": owners,
        "max_turns": st.sampled_from([None, None, 1, 2, 5]),
        "max_duration": st.sampled_from([None, None, 40.25, 90.25]),
        "host_speaks": st.sampled_from([True, True, False]),
        "end_when": st.sampled_from([False, False, True]),
    }
)
acts = st.fixed_dictionaries(
    {
        "verb": st.sampled_from(
            ["speak"] * 6
            + ["pass"] * 3
            + ["choose"] * 3
            + ["attend", "attend", "start", "start", "repeat", "repeat", "absent", "skip", "leave", "remove", "end"]
            + ["close"]
        ),
        "meeting": numbers,
        "agent": st.sampled_from([None] * 8 + [0, 1, 2, 3]),
        "other": agents,
        "off": st.sampled_from([0] * 6 + [None, -1, 1]),
        "next": st.sampled_from([None] * 6 + [0, 1, 2, 3]),
        "speaks": st.booleans(),
        "key": st.sampled_from([None, None, None, "one", "two"]),
        "fingerprint": st.sampled_from(["same", "same", "other"]),
        "owner": owners,
    }
)
verbs = st.one_of(
    st.tuples(st.just("create"), meetings),
    st.tuples(st.just("act"), acts),
    st.tuples(st.just("act"), acts),
    st.tuples(st.just("act"), acts),
    st.tuples(st.just("claim"), agents, st.sampled_from([Kind.TURN, Kind.TURN, Kind.INVITATION]), owners),
    st.tuples(st.just("use"), numbers, acts),
    st.tuples(st.just("settle"), numbers, st.sampled_from(Settling), owners),
    st.tuples(st.just("advance"), st.sampled_from([3, 12, 39, 132]), st.sampled_from([100, 1, 2])),
    st.tuples(st.just("sit"), numbers, agents, owners),
    st.tuples(st.just("record"), numbers, st.none() | agents),
    st.tuples(st.just("feed"), st.integers(1, 5)),
    st.tuples(st.just("pages"), numbers, agents, st.integers(1, 4), st.integers(0, 3)),
    st.tuples(st.just("publish"), owners, st.lists(st.tuples(st.none() | agents, st.booleans()), max_size=3)),
    st.tuples(st.just("leave_processes"), st.integers(0, 1), st.booleans()),
    st.tuples(st.just("organization"), st.integers(0, 1), st.sampled_from(["", "Name", "Other"]), st.booleans()),
    st.tuples(
        st.just("agent"), st.integers(0, 2), st.integers(0, 2), st.sampled_from(["", "Name", "Other"]), st.booleans()
    ),
    st.tuples(st.just("forget"), st.sampled_from(["organization", "agent"]), st.integers(0, 2)),
)


@dataclass
class Side:
    """One store, what it has handed out, and the two processes that live on it."""

    world: World
    others: list[Store]
    names: dict[str, str] = field(default_factory=dict)
    """What stands for each id, which may be another one in each store."""
    owners: list[str] = field(default_factory=list)
    claims: list[ClaimedDelivery] = field(default_factory=list)
    cursor: str = ""
    fed: list[EventRow] = field(default_factory=list)
    """What the feed of events has told."""

    async def begin(self, names: dict[str, str]) -> None:
        self.names = dict(names)
        self.owners = []
        for number, store in enumerate(self.others):
            await store.presence.start(lambda: None, lambda: None)
            self.owners.append(store.presence.process_id)
            self.names[store.presence.process_id] = f"process-{number}"
        self.owners.append(self.world.owner)
        self.cursor = await self.world.store.meetings.find_cursor()

    async def end(self) -> None:
        for store in self.others:
            await store.processes.retire(store.presence.process_id)
            await store.presence.aclose()


class Twins:
    """Two stores with the same agents; every verb goes to both."""

    def __init__(
        self, stores: list[Store], others: list[list[Store]], run: Callable[[Coroutine[Any, Any, Any]], Any]
    ) -> None:
        self.run = run
        ids = sorted(uuid7() for _ in range(5))
        start = datetime.now(UTC).replace(microsecond=0)
        self.mark = uuid7()
        self.sides = [
            Side(World(store, self.mark, ids[0], ids[1], ids[2], ids[3], ids[4], start), there)
            for store, there in zip(stores, others, strict=True)
        ]
        names = dict(zip(ids, (*NAMES, "somebody"), strict=True)) | {self.mark: "twins"}
        self.agents = ids[:4]
        self.meetings: dict[str, NewMeeting] = {}
        self.said: list[tuple[str, Act, NewSpeech]] = []
        self.seconds = 0.0
        self.known = names
        for side in self.sides:
            run(self._populate(side.world))
            run(side.begin(names))

    async def _populate(self, world: World) -> None:
        directory = world.store.directory
        await directory.add_organization(self.mark, self.mark, "Twins", update_name=False)
        for name, id in zip(NAMES, self.agents, strict=True):
            await directory.add_agent(id, self.external(name), self.mark, name, update_name=False)

    def external(self, name: str) -> str:
        return f"{name}-{self.mark}"

    def remove(self) -> None:
        for side in self.sides:
            self.run(side.end())
            for name in (self.mark, *(self.external(f"org{number}") for number in range(2))):
                self.run(side.world.store.directory.remove_organization(name))

    def both(self, call: Callable[[Side], Coroutine[Any, Any, Any]]) -> list[Any]:
        """The answers of both, which are alike."""
        return both(self.sides, call, self.run, names=lambda side: side.names)

    def name(self, id: str, name: str) -> str:
        for side in self.sides:
            side.names[id] = name
        return id

    @property
    def now(self) -> datetime:
        return self.sides[0].world.at(self.seconds)

    def pick(self, number: int) -> NewMeeting | None:
        planned = list(self.meetings.values())
        return planned[number % len(planned)] if planned else None

    # --- meetings ---

    def create(self, wanted: dict[str, Any]) -> None:
        host, *others = (self.agents[number] for number in wanted["agents"][: wanted["size"]])
        planned = plan(
            host,
            *others,
            selection=wanted["selection"],
            turn_duration=wanted["turn_duration"],
            max_attempts=wanted["max_attempts"],
            invitations=tuple(invitation(agent) for agent in others),
            **{name: wanted[name] for name in ("max_turns", "max_duration", "host_speaks", "end_when")},
        )
        self.name(planned.meeting_id, f"meeting-{len(self.meetings)}")
        for number, invited in enumerate(planned.invitations):
            self.name(invited.message_id, f"invitation-{len(self.meetings)}-{number}")
        for _ in range(2):
            self.both(
                lambda side: side.world.store.meetings.create(planned, owner=side.owners[wanted["owner"]], now=self.now)
            )
        self.meetings[planned.meeting_id] = planned
        if wanted["stage"]:
            for number, agent in enumerate(others):
                self._act(planned.meeting_id, Attend(agent), (wanted["owner"] + number) % 3)
        if wanted["stage"] == 2:
            self._act(planned.meeting_id, Start(host), wanted["owner"])

    def _act(
        self,
        meeting_id: str,
        act: Act,
        owner: int,
        said: NewSpeech | None = None,
        claims: list[Claim | None] | None = None,
    ) -> None:
        if said is not None and said.message_id not in self.sides[0].names:
            self.name(said.message_id, f"speech-{len(self.sides[0].names)}")
        of_sides = claims or [None, None]

        async def do(side: Side) -> Any:
            claim = of_sides[self.sides.index(side)]
            by = side.owners[owner]
            acted = await side.world.store.meetings.act(
                meeting_id, act, owner=by, speech=said, claim=claim, now=self.now
            )
            # The one that acts need not be told.
            return replace(acted, processes=acted.processes - {by}) if isinstance(acted, Acted) else acted

        answers = self.both(do)
        if said is not None and isinstance(answers[0], Acted):
            self.said.append((meeting_id, act, said))

    def act(self, wanted: dict[str, Any]) -> None:
        planned = self.pick(wanted["meeting"])
        if planned is None:
            return
        if wanted["verb"] == "repeat":
            if self.said:
                meeting_id, act, said = self.said[wanted["meeting"] % len(self.said)]
                self._act(meeting_id, act, wanted["owner"], said)
            return
        made, said = self._made(planned, wanted)
        self._act(planned.meeting_id, made, wanted["owner"], said)

    def _made(self, planned: NewMeeting, wanted: dict[str, Any]) -> tuple[Act, NewSpeech | None]:
        turn = self.run(self.sides[0].world.store.meetings.find_meeting(planned.meeting_id, self.now)).turn
        agent = None if wanted["agent"] is None else self.agents[wanted["agent"]]
        host, other = agent or planned.host_id, self.agents[wanted["other"]]
        holder = agent or (planned.host_id if turn is None else turn.agent_id)
        number = None if wanted["off"] is None else (1 if turn is None else turn.number) + wanted["off"]
        next_id = None if wanted["next"] is None else self.agents[wanted["next"]]
        if next_id is None and planned.selection is SpeakerSelection.HOST and holder == planned.host_id:
            next_id = planned.participant_ids[wanted["meeting"] % len(planned.participant_ids)]
        said = speech(
            f'"said {wanted["meeting"]}"',
            metadata='{"m":1}' if wanted["speaks"] else None,
            idempotency_key=wanted["key"],
            fingerprint=wanted["fingerprint"],
        )
        match wanted["verb"]:
            case "speak":
                return Speak(holder, number, next_id), said
            case "pass":
                return Pass(holder, number, "it failed" if wanted["speaks"] else None, next_id), None
            case "choose":
                return Choose(number or 1, next_id), None
            case "close":
                return Close(number or 1, MeetingEnd.END_WHEN if wanted["speaks"] else MeetingEnd.NOBODY), None
            case "attend":
                return Attend(agent or other), None
            case "absent":
                return Absent(agent or other), None
            case "start":
                opening = replace(said, idempotency_key=None, fingerprint="") if wanted["speaks"] else None
                bounds = Bounds(3, 60.25, wanted["key"] is None) if wanted["off"] == 1 else Bounds()
                return Start(host, wanted["speaks"], next_id, bounds), opening
            case "skip":
                return Skip(host, number), None
            case "leave":
                return Leave(other), None
            case "remove":
                return Remove(host, other), None
        return End(host), None

    def claim(self, recipient: int, kind: Kind, owner: int) -> None:
        async def claim(side: Side) -> list[ClaimedDelivery]:
            claimed = await side.world.claim(
                self.agents[recipient], 2, kind=kind, owner=side.owners[owner], now=self.now
            )
            side.claims += claimed
            return claimed

        self.both(claim)

    def use(self, number: int, wanted: dict[str, Any]) -> None:
        """A run speaks, or passes, under its claim, which may be lost."""
        if not self.sides[0].claims or not self.meetings:
            return
        held = [side.claims[number % len(side.claims)] for side in self.sides]
        planned = next((one for id, one in self.meetings.items() if id in held[0].content), None)
        if planned is not None:
            wanted = {**wanted, "verb": "speak" if wanted["speaks"] else "pass", "key": None}
            made, said = self._made(planned, wanted)
            self._act(planned.meeting_id, made, wanted["owner"], said, [one.claim for one in held])

    def settle(self, number: int, how: Settling, owner: int) -> None:
        async def settle(side: Side) -> Any:
            if not side.claims:
                return None
            claim = side.claims[number % len(side.claims)].claim
            settlement = Settlement(claim, how, 2.5 if how is Settling.RETRY else 0.0, "why", None)
            return await side.world.deliveries.settle([settlement], owner=side.owners[owner], now=self.now)

        self.both(settle)

    def advance(self, seconds: int, limit: int) -> None:
        self.seconds += seconds
        self.both(lambda side: side.world.deliveries.advance(self.now))
        # Of several that are late it is the store's to choose with which it begins.
        answers = self.both(lambda side: self._time_out(side, limit))
        assert answers[0] == answers[1]
        self.both(lambda side: side.world.store.meetings.time_out(100, now=self.now))
        self.compare()

    async def _time_out(self, side: Side, limit: int) -> int:
        return len((await side.world.store.meetings.time_out(limit, now=self.now)).meetings)

    def sit(self, number: int, agent: int, owner: int) -> None:
        if planned := self.pick(number):
            self.both(
                lambda side: side.world.store.meetings.sit(
                    planned.meeting_id, self.agents[agent], owner=side.owners[owner]
                )
            )

    def record(self, number: int, agent: int | None) -> None:
        meeting_id = planned.meeting_id if (planned := self.pick(number)) else uuid7()
        about = None if agent is None else self.agents[agent]
        data = {"error_message": f"no {number}"}
        kind = MeetingEventType.ERROR_OCCURRED
        self.both(lambda side: side.world.store.meetings.record_event(meeting_id, kind, about, data, now=self.now))

    def feed(self, limit: int) -> None:
        """Where its pages end is each store's to choose; what they say together is judged at the end."""
        for side in self.sides:
            self.run(self._feed(side, limit))

    async def _feed(self, side: Side, limit: int) -> list[EventRow]:
        page = await side.world.store.meetings.read_events(side.cursor, limit, most_bytes=1_000_000)
        side.cursor = page.cursor
        side.fed += page.events
        return side.fed

    def reach_the_end_of_the_feed(self) -> None:
        async def reach(side: Side) -> Any:
            told = {id: await side.world.store.meetings.list_events(id, limit=1000) for id in self.meetings}
            total = sum(map(len, told.values()))
            await eventually(lambda: self._feed(side, 100), until=lambda fed: len(fed) >= total)
            assert {id: [event for event in side.fed if event.meeting_id == id] for id in self.meetings} == told
            return list(told.values())

        self.both(reach)

    def pages(self, number: int, agent: int, limit: int, offset: int) -> None:
        planned = self.pick(number)
        statuses = None if number % 2 else [list(MeetingStatus)[number % len(MeetingStatus)], MeetingStatus.ACTIVE]
        self.both(
            lambda side: side.world.store.meetings.list_meetings(
                self.agents[agent], statuses=statuses, limit=limit, offset=offset
            )
        )
        if planned is None:
            return
        id = planned.meeting_id
        key = id, self.agents[agent]
        self.both(lambda side: side.world.store.meetings.find_standings([key], self.now, recent=limit))
        self.both(lambda side: side.world.store.meetings.list_turns(id, limit=limit, after=offset))

    # --- processes ---

    def publish(self, owner: int, served: list[tuple[int | None, bool]]) -> None:
        services = [
            Service(None if agent is None else self.agents[agent], Kind.TURN, explicit, slots)
            for slots, (agent, explicit) in enumerate(served, 1)
        ]
        if owner < 2:
            self.both(lambda side: side.world.store.processes.publish(side.owners[owner], services))
            self.processes()

    def leave_processes(self, owner: int, stops: bool) -> None:
        if stops:
            self.both(lambda side: side.world.store.processes.retire(side.owners[owner]))
        else:
            self.both(lambda side: side.world.store.processes.release([side.owners[owner], uuid7()], self.now))
        self.processes()

    def processes(self) -> None:
        async def read(side: Side) -> Any:
            rows: list[ProcessRow] = await side.world.store.processes.list_processes(10**6)
            mine = [row for row in rows if row.process_id in side.owners]
            found = await side.world.store.processes.find_processes(side.owners)
            told = {row.process_id: (row.end_reason, row.ended_at is None, [*row.services]) for row in mine}
            return [told[owner] for owner in side.owners if owner in told], found

        self.both(read)

    # --- names ---

    def organization(self, number: int, name: str, updates: bool) -> None:
        id, external = self.name(uuid7(), f"organization-{len(self.sides[0].names)}"), self.external(f"org{number}")
        self.both(lambda side: side.world.store.directory.add_organization(id, external, name, update_name=updates))
        self.directory()

    def agent(self, organization: int, number: int, name: str, updates: bool) -> None:
        id, external = self.name(uuid7(), f"agent-{len(self.sides[0].names)}"), self.external(f"agent{number}")

        async def add(side: Side) -> Any:
            found = await side.world.store.directory.find_organization(self.external(f"org{organization}"))
            belongs = self.mark if found is None else str(found.id)
            return await side.world.store.directory.add_agent(id, external, belongs, name, update_name=updates)

        self.both(add)
        self.directory()

    def forget(self, what: str, number: int) -> None:
        if what == "organization":
            name = self.external(f"org{number}")
            self.both(lambda side: side.world.store.directory.remove_organization(name))
        else:
            name = self.external(f"agent{number}")
            self.both(lambda side: side.world.store.directory.remove_agent(name))
        self.directory()

    def directory(self) -> None:
        external = [self.external(f"agent{number}") for number in range(3)]

        async def read(side: Side) -> Any:
            directory = side.world.store.directory
            organizations = [await directory.find_organization(self.external(f"org{number}")) for number in range(3)]
            found = await directory.find_agents(external)
            by_id = await directory.find_agents_by_id([str(one.id) for one in found] + [uuid7()])
            of_mine = await directory.list_agents(self.mark, 3, 1)
            everybody = [one for one in await directory.list_agents(None, 1000, 0) if self.mark in one.external_id]
            return (
                organizations,
                sorted(found, key=lambda one: one.external_id),
                sorted(by_id, key=lambda one: one.external_id),
                of_mine,
                everybody,
            )

        self.both(read)

    # --- what is there ---

    def compare(self) -> None:
        for id in self.meetings:
            self.both(lambda side, id=id: self._meeting(side, id))  # type: ignore[misc]
        keys = [(id, agent) for id in self.meetings for agent in self.agents]
        for called in (False, True):
            self.both(lambda side, called=called: self._standings(side, keys, called))  # type: ignore[misc]
        self.both(lambda side: side.world.deliveries.list_receipts([*self._duties(side)]))
        self.both(self._waiting)
        for agent in self.agents:
            self.both(lambda side, agent=agent: self._statistics(side, agent))  # type: ignore[misc]
        self.processes()

    def _duties(self, side: Side) -> set[str]:
        invited = {one.message_id for planned in self.meetings.values() for one in planned.invitations}
        return invited | {one.message_id for one in side.claims}

    async def _waiting(self, side: Side) -> Any:
        return {f"{agent} {kind}" for agent, kind in await side.world.deliveries.find_waiting(self.now)}

    async def _standings(self, side: Side, keys: list[tuple[str, str]], called: bool) -> Any:
        found = await side.world.store.meetings.find_standings(keys, self.now, called=called)
        return [found.get(key, "not called") for key in keys]

    async def _statistics(self, side: Side, agent: str) -> Any:
        statistics = await side.world.store.meetings.statistics(agent)
        average = statistics.average_duration
        return replace(statistics, average_duration=None if average is None else round(average, 2))

    async def _meeting(self, side: Side, id: str) -> Any:
        meetings = side.world.store.meetings
        row = await meetings.find_meeting(id, self.now)
        seats = await meetings.list_seats(id)
        return (
            row,
            seats,
            [one and round((one - side.world.start).total_seconds(), 3) for seat in seats for one in (seat.joined_at,)],
            row and row.turn and row.turn.left and round(row.turn.left, 3),
            await meetings.list_turns(id, limit=100),
            await meetings.list_messages(id, limit=100),
            await meetings.list_events(id, limit=100),
            sorted(await meetings.count_speeches(id), key=lambda count: count.agent_id),
            await meetings.count_messages(id),
        )

    def vanish(self) -> None:
        """At the end, because that happens by the store's own clock: the agents go, one after another."""
        for name in NAMES:
            self.both(
                lambda side, name=name: side.world.store.directory.remove_agent(self.external(name))  # type: ignore[misc]
            )
            for id in self.meetings:
                self.both(lambda side, id=id: self._after(side, id))  # type: ignore[misc]

    async def _after(self, side: Side, id: str) -> Any:
        meetings = side.world.store.meetings
        row = await meetings.find_meeting(id)
        return (
            row and (row.status, row.turn and (row.turn.number, row.turn.agent_id, row.turn.purpose)),
            await meetings.list_seats(id),
            await meetings.list_messages(id, limit=100),
            await meetings.list_events(id, limit=100),
        )


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_any_program_of_meetings_names_and_processes_is_answered_alike(
    backend: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """And what it leaves behind can be moved from each of them to the other."""
    made = [store_factory(name, request, "postgres_dsn") for name in ("sqlite", "postgres")]
    stores = [make() for make in made]
    others = [[make() for _ in range(2)] for make in made]
    with asyncio.Runner() as runner, opened([*stores, *others[0], *others[1]], runner):

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a program is long: to make it shorter takes minutes
        )
        @given(meetings, st.lists(verbs, min_size=25, max_size=35))
        def judge(first: dict[str, Any], program: list[tuple[Any, ...]]) -> None:
            twins = Twins(stores, others, runner.run)
            try:
                twins.create(first)
                for verb, *arguments in program:
                    getattr(twins, verb)(*arguments)
                twins.compare()
                twins.reach_the_end_of_the_feed()
                swap(stores, runner, tmp_path, twins.remove)
                twins.vanish()
            finally:
                twins.remove()

        judge()
