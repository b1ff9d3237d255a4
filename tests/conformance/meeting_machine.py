"""A Hypothesis state machine: any sequence of acts in some meetings leaves the store where the rules say."""

from __future__ import annotations

import asyncio
import json
import math
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import (
    DeliveryState,
    Kind,
    MeetingEnd,
    MeetingEventType,
    MeetingStatus,
    MessageType,
    SpeakerSelection,
)
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
    Refused,
    Remove,
    Skip,
    Speak,
    Start,
    TimeOut,
    Why,
)
from agent_messaging.storage.ports import (
    Acted,
    Claim,
    Created,
    Duplicate,
    EventRow,
    KeyConflict,
    MeetingStore,
    MessageRow,
    NewSpeech,
    Role,
    Settlement,
    Settling,
    TurnRow,
)

from .base import StoreFactory, StoreFixtures
from .gathering import Feed, invitation, names_of, plan, remove_agent, speech
from .machine import OWNERS, PICK, StoreMachine
from .meeting_choices import CHOICES, TURN_VERBS, Choice
from .meeting_model import Duty, Happened, Meeting, MeetingModel, Outcome, Round, Said
from .model import CLAIMED

AGENTS = st.integers(0, 3)
SECONDS = st.sampled_from([3, 3, 12, 39, 132])
"""Of these no sum is the time of a selection (10), and those of turns end on a half second."""
BOUNDS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.just({}),
    st.fixed_dictionaries(
        {
            "max_turns": st.none() | st.integers(1, 5),
            "max_duration": st.sampled_from([None, 90.25, 300.25]),
            "host_speaks": st.booleans(),
            "end_when": st.booleans(),
        }
    ),
)
FEW = 4
"""Meetings at a time."""


class MeetingMachine(StoreMachine[MeetingModel]):
    """Four agents that meet; their turn handlers' processes stop and die, and agents are removed."""

    stored: list[tuple[str, Act, NewSpeech, int | None, Claim | None]]

    def __init__(self, make_store: StoreFactory, runner: asyncio.Runner) -> None:
        super().__init__(make_store, runner, MeetingModel())
        self.stored = []
        """Acts that stored a speech, with what they answered."""
        self.touched: set[str] = set()
        """Meetings to be compared."""

    async def open_stores(self) -> None:
        await super().open_stores()
        self.agents.append(self.world.dave)
        self.model.names = await names_of(self.world, self.agents)
        self.feed = await Feed.open(self.meetings, limit=3)

    async def close_stores(self) -> None:
        try:
            for meeting in self.model.meetings.values():
                await self.compare(meeting)
                rows = await self.meetings.list_events(meeting.id, limit=1000)
                await self.feed.reaches(meeting.id, [row.seq for row in rows])
        finally:
            await super().close_stores()

    @property
    def meetings(self) -> MeetingStore:
        """Through one process or the other, in turn."""
        self.used = (getattr(self, "used", 0) + 1) % len(self.stores)
        return self.stores[self.used].meetings

    def pick_meeting(self, number: int, status: MeetingStatus | None = None) -> Meeting:
        """Mostly one of that status, or one that has not ended."""
        meetings = list(self.model.meetings.values())
        likely = [one for one in meetings if one.status is (status or one.status) is not MeetingStatus.ENDED]
        chosen = likely if likely and number % 8 else meetings
        return chosen[number % len(chosen)]

    def who(self, number: int | None, otherwise: str) -> str:
        return otherwise if number is None else self.agents[number]

    def holder(self, meeting: Meeting) -> str:
        return meeting.round.agent if meeting.round else meeting.host

    def next_id(self, choice: Choice) -> str | None:
        return None if choice.next is None else self.agents[choice.next]

    def number(self, meeting: Meeting, off: int | None) -> int | None:
        """The number of the current turn, or another one, or none given."""
        return None if off is None else (meeting.round.number if meeting.round else 1) + off

    # --- acting -------------------------------------------------------------------------------------------------------

    def act(
        self,
        meeting: Meeting,
        act: Act,
        owner: int,
        said: NewSpeech | None = None,
        held: tuple[Duty, Claim] | None = None,
    ) -> bool:
        """Do it in the store and in the model; whether it was done."""
        by = self.owners[owner]
        claim = held[1] if held else None
        call = self.meetings.act(meeting.id, act, owner=by, speech=said, claim=claim, now=self.now)
        outcome = self.run(call)
        self.touched.add(meeting.id)
        key = (getattr(act, "agent_id", ""), said.idempotency_key) if said and said.idempotency_key else None
        if said is not None and key in self.model.keys:
            fingerprint, message_id = self.model.keys[key]
            assert outcome == (Duplicate([message_id]) if said.fingerprint == fingerprint else KeyConflict())
            return False
        if held is not None and not self.holds(meeting, *held):
            assert isinstance(outcome, Refused)
            assert outcome.why is Why.TURN_LOST
            return False
        expected = self.model.act(meeting, act, by, speech=said, claimed=held[0] if held else None)
        if isinstance(expected, Refused):
            assert outcome == expected
            return False
        assert isinstance(outcome, Acted), (outcome, expected)
        self.check_acted(meeting, outcome, expected)
        assert outcome.message_id == (said.message_id if said else None)
        if said is not None:
            self.stored.append((meeting.id, act, said, expected.ended_turn, claim))
        self.adopt()
        return True

    def holds(self, meeting: Meeting, duty: Duty, claim: Claim) -> bool:
        return duty.state is CLAIMED and duty.token == claim.token

    def check_acted(self, meeting: Meeting, acted: Acted, expected: Outcome) -> None:
        assert (acted.status, acted.ended_turn) == (meeting.status, expected.ended_turn)
        self.check_turn(meeting.round, acted.turn)
        assert expected.must_tell <= acted.processes <= expected.must_tell | expected.may_tell

    def adopt(self) -> None:
        """Take over the ids of messages that the store chose, and the order in which it stored them."""
        unnamed = list(self.model.unnamed())
        if unnamed:
            self.run(self.adopt_ids(unnamed))

    async def adopt_ids(self, unnamed: list[Duty]) -> None:
        seqs: dict[str, int] = {}
        for duty in unnamed:
            meeting = next(one for one in self.model.meetings.values() if any(r.duty is duty for r in one.rounds))
            number = next(round_.number for round_ in meeting.rounds if round_.duty is duty)
            rows = await self.world.store.messages.list_messages(duty.recipient, Role.RECIPIENT, Kind.TURN, limit=FEW)
            subject = {"meeting_id": meeting.id, "turn": number}
            (row,) = [row for row in rows if json.loads(row.content) == subject]
            assert (row.message_type, row.sender_id) == (MessageType.SYSTEM, meeting.host)
            duty.message_id = row.message_id
            seqs[row.message_id] = row.seq
        self.model.items.sort(key=lambda item: seqs.get(item.message_id, 0))

    # --- rules: few, because Hypothesis leaves out some of them in most of its runs --------------------------------

    @precondition(lambda self: len(self.model.meetings) < FEW)
    @rule(
        agents=st.permutations(range(4)),
        size=st.sampled_from([3, 4, 2, 1]),
        selection=st.sampled_from(SpeakerSelection),
        turn_duration=st.sampled_from([50.5, 8.5, None]),
        max_attempts=st.integers(1, 3),
        owner=OWNERS,
        stage=st.sampled_from([2, 2, 1, 0]),
        bounds=BOUNDS,
    )
    def create(
        self,
        agents: list[int],
        size: int,
        selection: SpeakerSelection,
        turn_duration: float | None,
        max_attempts: int,
        owner: int,
        stage: int,
        bounds: dict[str, Any],
    ) -> None:
        """Create one; often with everything done that it needs to begin, so that more happens in active ones."""
        host, *others = (self.agents[number] for number in agents[:size])
        planned = plan(
            host,
            *others,
            selection=selection,
            turn_duration=turn_duration,
            max_attempts=max_attempts,
            invitations=tuple(invitation(agent) for agent in others),
            **bounds,
        )
        by = self.owners[owner]
        created = self.run(self.meetings.create(planned, owner=by, now=self.now))
        meeting = self.model.create(planned, by)
        assert created == Created(meeting.status)
        assert self.run(self.meetings.create(planned, owner=new_id(), now=self.now)) == created
        self.touched.add(meeting.id)
        if stage:
            for number, agent in enumerate(others):
                self.act(meeting, Attend(agent), (owner + number) % 3)
        if stage == 2:
            self.act(meeting, Start(host), owner)

    @precondition(lambda self: self.model.meetings)
    @rule(choices=st.lists(CHOICES, min_size=2, max_size=6))
    def act_a_while(self, choices: list[Choice]) -> None:
        """Some acts, allowed or not."""
        for choice in choices:
            getattr(self, choice.verb)(self.pick_meeting(choice.number), choice)

    @precondition(lambda self: self.model.meetings)
    @rule(choices=st.lists(CHOICES, min_size=2, max_size=6))
    def take_turns(self, choices: list[Choice]) -> None:
        """Some acts in meetings that have begun."""
        for choice in choices:
            meeting = self.pick_meeting(choice.number, MeetingStatus.ACTIVE)
            verb = choice.verb if choice.verb in TURN_VERBS else "speak"
            getattr(self, "choose" if meeting.is_selecting and choice.agent is None else verb)(meeting, choice)

    # --- acts ---------------------------------------------------------------------------------------------------------

    def attend(self, meeting: Meeting, choice: Choice) -> None:
        self.act(meeting, Attend(self.who(choice.agent, self.agents[choice.number % 4])), choice.owner)

    def absent(self, meeting: Meeting, choice: Choice) -> None:
        self.act(meeting, Absent(self.who(choice.agent, self.agents[choice.number % 4])), choice.owner)

    def start(self, meeting: Meeting, choice: Choice) -> None:
        bounds = Bounds(choice.number % 4 + 1, 120.25, choice.speaks) if choice.number % 5 == 0 else Bounds()
        act = Start(self.who(choice.agent, meeting.host), choice.speaks, self.next_id(choice), bounds)
        self.act(meeting, act, choice.owner, speech() if choice.speaks else None)

    def speak(self, meeting: Meeting, choice: Choice) -> None:
        """Under the turn's number, another one, or none; with a key or without."""
        holder = self.who(choice.agent, self.holder(meeting))
        next_id = self.next_id(choice)
        if next_id is None and meeting.selection is SpeakerSelection.HOST and holder == meeting.host:
            next_id = meeting.places[choice.number % len(meeting.places)].agent  # it is to name one
        act = Speak(holder, self.number(meeting, choice.off), next_id)
        said = speech(
            f'"said {choice.number}"',
            metadata='{"m":1}' if choice.speaks else None,
            idempotency_key=choice.key,
            fingerprint=choice.fingerprint,
        )
        self.act(meeting, act, choice.owner, said)

    def pass_on(self, meeting: Meeting, choice: Choice) -> None:
        holder = self.who(choice.agent, self.holder(meeting))
        reason = "it failed" if choice.speaks else None
        self.act(meeting, Pass(holder, self.number(meeting, choice.off), reason, self.next_id(choice)), choice.owner)

    def choose(self, meeting: Meeting, choice: Choice) -> None:
        """The host's process names somebody, or leaves it, or ends the meeting."""
        number = self.number(meeting, choice.off) or 1
        if choice.number % 8 == 0:
            self.act(meeting, Close(number, MeetingEnd.END_WHEN if choice.speaks else MeetingEnd.NOBODY), choice.owner)
        else:
            self.act(meeting, Choose(number, self.next_id(choice)), choice.owner)

    def skip(self, meeting: Meeting, choice: Choice) -> None:
        act = Skip(self.who(choice.agent, meeting.host), self.number(meeting, choice.off))
        self.act(meeting, act, choice.owner)

    def leave(self, meeting: Meeting, choice: Choice) -> None:
        self.act(meeting, Leave(self.agents[choice.number % 4]), choice.owner)

    def remove(self, meeting: Meeting, choice: Choice) -> None:
        host = self.who(choice.agent, meeting.host)
        self.act(meeting, Remove(host, self.agents[choice.number % 4]), choice.owner)

    def end(self, meeting: Meeting, choice: Choice) -> None:
        if choice.speaks and choice.agent is None:
            return  # not too often
        self.act(meeting, End(self.who(choice.agent, meeting.host)), choice.owner)

    def repeat(self, meeting: Meeting, choice: Choice) -> None:
        """A caller that lost the answer asks again, at any time."""
        if not self.stored:
            return
        meeting_id, act, said, ended_turn, claim = self.stored[choice.number % len(self.stored)]
        by = self.owners[choice.owner]
        acted = self.run(self.meetings.act(meeting_id, act, owner=by, speech=said, claim=claim, now=self.now))
        assert isinstance(acted, Acted)
        assert (acted.message_id, acted.ended_turn) == (said.message_id, ended_turn)
        assert acted.status is self.model.meetings[meeting_id].status
        self.check_turn(self.model.meetings[meeting_id].round, acted.turn)
        self.touched.add(meeting_id)

    def sit(self, meeting: Meeting, choice: Choice) -> None:
        agent, by = self.agents[choice.number % 4], self.owners[choice.owner]
        self.run(self.meetings.sit(meeting.id, agent, owner=by))
        if place := meeting.place(agent):
            place.process = by

    def record(self, meeting: Meeting, choice: Choice) -> None:
        about = None if choice.agent is None else self.agents[choice.agent]
        data = {"error_type": "event_handler", "error_message": f"no {choice.number}"}
        type_ = MeetingEventType.ERROR_OCCURRED
        assert self.run(self.meetings.record_event(meeting.id, type_, about, data, now=self.now))
        meeting.events.append(Happened(type_, about, data, self.model.now))
        self.touched.add(meeting.id)

    # --- handling -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.items)
    @rule(
        number=PICK,
        limit=st.integers(1, 4),
        ordered=st.booleans(),
        origin=st.none() | st.none() | OWNERS,
        how=st.sampled_from(["speak", "pass", None, *Settling]),
        live=st.sampled_from([True, True, False]),
        choice=CHOICES,
    )
    def handle(
        self,
        number: int,
        limit: int,
        ordered: bool,
        origin: int | None,
        how: str | None,
        live: bool,
        choice: Choice,
    ) -> None:
        """Claim something, and let a run end, that or another one: by an act, otherwise, or not yet."""
        queued = [item for item in self.model.items if item.state is DeliveryState.QUEUED]
        if queued:
            item = queued[number % len(queued)]
            recipient = self.agents.index(item.recipient)
            self.claim_with(None, recipient, item.kind, choice.owner, limit, ordered, None, origin)
        if not self.claims or how is None:
            return
        duty, claim = self.pick_claim(choice.number, live=live)
        if isinstance(how, Settling):
            self.settle(duty, claim, how, 0.0 if choice.speaks else 30.5)
        elif duty.kind is Kind.TURN:
            self.use_turn(duty, claim, choice, speaks=how == "speak")

    def pick_claim(self, number: int, *, live: bool) -> tuple[Duty, Claim]:
        """Any claim ever made; where there are any and `live` says so, one that holds."""
        claims = [(self.model.duty(id), claim) for id, claim in self.claims]
        held = [pair for pair in claims if pair[0].state is CLAIMED and pair[0].token == pair[1].token]
        chosen = held if live and held else claims
        return chosen[number % len(chosen)]

    def use_turn(self, duty: Duty, claim: Claim, choice: Choice, *, speaks: bool) -> None:
        """A turn handler's run ends, under its claim, which may be lost."""
        meeting, turn = self.turn_of(duty)
        if speaks:
            act = Speak(duty.recipient, turn, self.next_id(choice))
            self.act(meeting, act, choice.owner, speech(), held=(duty, claim))
        else:
            self.act(meeting, Pass(duty.recipient, turn), choice.owner, held=(duty, claim))

    def turn_of(self, duty: Duty) -> tuple[Meeting, int]:
        """What the delivery of a turn is about."""
        return next(
            (meeting, round_.number)
            for meeting in self.model.meetings.values()
            for round_ in meeting.rounds
            if round_.duty is duty
        )

    def settle(self, duty: Duty, claim: Claim, how: Settling, delay: float) -> None:
        if duty.is_spent and how is Settling.DONE:
            return  # whether that is a repeat of what the act did is left open
        expected = self.model.settle(duty, claim.token, how, delay)
        settlement = Settlement(claim, how, delay, "reason")
        settled = self.run(self.world.deliveries.settle([settlement], owner=self.owners[0], now=self.now))
        assert settled.moved == [expected]

    # --- time ---------------------------------------------------------------------------------------------------------

    @rule(seconds=SECONDS, limit=st.sampled_from([100, 1, 2, None]))
    def advance(self, seconds: int, limit: int | None) -> None:
        """Time passes; that turns end by it may have to wait until somebody looks."""
        now = self.model.now + seconds
        advanced = self.run(self.world.deliveries.advance(self.world.at(now)))
        assert (advanced.due, advanced.expired_origins, advanced.released) == self.model.advance(now)
        expected = self.model.next_in()
        assert advanced.next_in == (None if expected is None else pytest.approx(expected, abs=0.01))
        if limit is not None:
            self.time_out(limit)

    def time_out(self, limit: int) -> None:
        overdue = {meeting.id: meeting for meeting in self.model.overdue()}
        timed_out = self.run(self.meetings.time_out(limit, now=self.now))
        assert set(timed_out.meetings) <= set(overdue)
        assert len(timed_out.meetings) == min(limit, len(overdue))
        for id, acted in timed_out.meetings.items():
            meeting = overdue[id]
            assert meeting.round is not None
            expected = self.model.act(meeting, TimeOut(meeting.round.number), None)
            assert isinstance(expected, Outcome)
            self.check_acted(meeting, acted, expected)
        self.touched |= set(timed_out.meetings)
        self.adopt()
        next_in = self.model.next_deadline()
        if next_in is not None and next_in < 0:
            assert timed_out.next_in is not None
            assert timed_out.next_in <= 0
        else:
            assert timed_out.next_in == (None if next_in is None else pytest.approx(next_in, abs=0.01))

    # --- coming and going ---------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.meetings)
    @rule(agent=AGENTS, what=st.sampled_from(["dies", "goes", None, None, None]))
    def lose(self, agent: int, what: str | None) -> None:
        """A process dies, or an agent is removed and another one comes; not always, because so much goes with it."""
        if what == "dies" and self.mortal:
            dead = self.mortal.pop(0)
            processes = self.stores[0].processes
            assert self.run(processes.release([dead], self.now)) == self.model.release(dead)
            self.owners = [new_id() if owner == dead else owner for owner in self.owners]
        elif what == "goes":
            gone = self.agents[agent]
            self.run(self.replace_agent(agent))
            self.model.remove_agent(gone)
            there = {item.message_id for item in self.model.items}
            self.claims = [pair for pair in self.claims if pair[0] in there]
            said = {one.message_id for meeting in self.model.meetings.values() for one in meeting.history}
            self.stored = [one for one in self.stored if one[2].message_id in said]
            self.adopt()
            self.run(self.adopt_instants())
            self.touched |= set(self.model.meetings)

    async def adopt_instants(self) -> None:
        """Take over when the store let the agent leave."""
        for meeting in self.model.meetings.values():
            seconds = [
                (row.created_at - self.world.start).total_seconds()
                for row in await self.meetings.list_events(meeting.id, limit=1000)
            ]
            for happened, at in zip(meeting.events, seconds, strict=True):
                if math.isnan(happened.at):
                    assert 0 <= at < 60
                    happened.at = at
            for said in meeting.history:
                if math.isnan(said.at):
                    said.at = meeting.events[-1].at
            for ended in meeting.rounds:
                if ended.ended_at is not None and math.isnan(ended.ended_at):
                    ended.ended_at = meeting.events[-1].at
            if meeting.ended_at is not None and math.isnan(meeting.ended_at):
                meeting.ended_at = meeting.events[-1].at
            round_ = meeting.round
            if round_ is not None and math.isnan(round_.started_at):
                round_.started_at = meeting.events[-1].at
                if meeting.deadline is not None and round_.limit is not None:
                    round_.limit = min(round_.limit, meeting.deadline - round_.started_at)
                    if round_.duty is not None:
                        round_.duty.limit = round_.limit
                round_.deadline = None if round_.limit is None else round_.started_at + round_.limit

    async def replace_agent(self, number: int) -> None:
        await remove_agent(self.world, self.agents[number])
        name = f"later-{new_id()}"
        agent = await self.world.store.directory.add_agent(
            new_id(), name, self.world.organization_id, name, update_name=False
        )
        assert agent is not None
        self.agents[number] = str(agent.id)
        self.model.names[str(agent.id)] = name

    # --- what holds after each of them --------------------------------------------------------------------------------

    @invariant()
    def the_store_is_where_the_rules_led(self) -> None:
        self.run(self.compare_all())

    async def compare_all(self) -> None:
        await self.feed.read()
        await self.compare_duties()
        await self.compare_standings()
        for id in self.touched & set(self.model.meetings):
            await self.compare(self.model.meetings[id])
        self.touched.clear()

    async def compare_duties(self) -> None:
        items = {item.message_id: item for item in self.model.items}
        if not items:
            return
        deliveries = self.world.deliveries
        rows = await deliveries.list_receipts(list(items))
        assert len(rows) == len(items)
        for row in rows:
            item = items[row.message_id]
            assert (row.state, row.token, row.attempt, row.kind) == (item.state, item.token, item.attempt, item.kind)
            assert [entry["event"] for entry in row.log] == item.log
            assert row.owner == item.owner or item.state is not CLAIMED
        waiting = {(item.recipient, item.kind) for item in self.model.items if self.model.is_ready(item)}
        found = set(await deliveries.find_waiting(self.now))
        assert found == waiting

    async def compare_standings(self) -> None:
        keys = [(id, agent) for id in self.model.meetings for agent in self.agents]
        standings = await self.meetings.find_standings(keys, self.now)
        assert list(map(standings.__contains__, keys)) == [True] * len(keys)
        for (id, agent), standing in standings.items():
            meeting = self.model.meetings[id]
            place = meeting.place(agent)
            assert standing is not None
            assert (standing.status, standing.seat) == (meeting.status, place.status if place else None)
            self.check_turn(meeting.round, standing.turn)

    async def compare(self, meeting: Meeting) -> None:
        meetings = self.meetings
        row = await meetings.find_meeting(meeting.id, self.now)
        assert row is not None
        assert (row.host_id, row.status, row.selection, row.turn_duration) == (
            meeting.host,
            meeting.status,
            meeting.selection,
            meeting.turn_duration,
        )
        assert (row.max_turns, row.max_duration, row.host_speaks, row.turns_taken, row.end_reason) == (
            meeting.max_turns,
            meeting.max_duration,
            meeting.host_speaks,
            meeting.turns_taken,
            meeting.end_reason,
        )
        instants = (meeting.created_at, meeting.started_at, meeting.ended_at, meeting.deadline)
        assert (row.created_at, row.started_at, row.ended_at, row.deadline_at) == tuple(map(self.instant, instants))
        self.check_turn(meeting.round, row.turn)
        seats = await meetings.list_seats(meeting.id)
        assert [(seat.agent_id, seat.join_order, seat.status, seat.joined_at, seat.left_at) for seat in seats] == [
            (place.agent, place.order, place.status, self.instant(place.joined_at), self.instant(place.left_at))
            for place in meeting.places
        ]
        turns = await meetings.list_turns(meeting.id, limit=1000)
        assert len(turns) == len(meeting.rounds)
        for round_, turn in zip(meeting.rounds, turns, strict=True):
            self.check_turn(round_, turn, at_once=False)
        history = await meetings.list_messages(meeting.id, limit=1000)
        assert len(history) == len(meeting.history) == await meetings.count_messages(meeting.id)
        for said, message in zip(meeting.history, history, strict=True):
            self.check_said(said, message)
        events = await meetings.list_events(meeting.id, limit=1000)
        assert len(events) == len(meeting.events)
        for happened, event in zip(meeting.events, events, strict=True):
            self.check_event(happened, event)

    def instant(self, seconds: float | None) -> Any:
        return None if seconds is None else self.world.at(seconds)

    def check_turn(self, round_: Round | None, turn: TurnRow | None, *, at_once: bool = True) -> None:
        assert (round_ is None) == (turn is None)
        if round_ is None or turn is None:
            return
        assert (turn.number, turn.agent_id, turn.purpose) == (round_.number, round_.agent, round_.purpose)
        assert (turn.started_at, turn.ended_at) == (self.instant(round_.started_at), self.instant(round_.ended_at))
        assert (turn.how, turn.message_id, turn.next_id) == (round_.how, round_.message_id, round_.next_id)
        if not round_.is_opening:
            self.check_deadline(turn.deadline_at, round_.deadline)
        if round_.deadline is None or round_.ended_at is not None:
            assert turn.left is None
        elif at_once:
            assert turn.left == pytest.approx(round_.deadline - self.model.now, abs=0.001)

    def check_deadline(self, shown: datetime | None, deadline: float | None) -> None:
        # Where an agent left by the own clock of the store, that of the wall has moved against that of the boot since.
        assert (shown is None) == (deadline is None)
        if shown is not None and deadline is not None:
            assert abs(shown - self.world.at(deadline)) < timedelta(milliseconds=1)

    def check_said(self, said: Said, row: MessageRow) -> None:
        assert (row.sender_id, row.message_type, row.created_at) == (said.sender, said.type, self.instant(said.at))
        assert row.message_id == said.message_id or said.message_id is None
        if said.message_id is None:
            assert json.loads(row.content) == said.content
        else:
            assert row.content == said.content

    def check_event(self, happened: Happened, row: EventRow) -> None:
        assert (row.type, row.agent_id, row.data) == (happened.type, happened.agent, happened.data)
        assert row.created_at == self.instant(happened.at)
        assert (row.message is None) == (happened.said is None)
        if row.message is not None and happened.said is not None:
            self.check_said(happened.said, row.message)


class MeetingMachineConformance(StoreFixtures):
    """Random sequences of all verbs of `MeetingStore`, decided by the rules themselves."""

    def test_any_acts_leave_the_store_where_the_rules_led(self, make_store: StoreFactory) -> None:
        with asyncio.Runner() as runner:

            class Machine(MeetingMachine):
                def __init__(self) -> None:
                    super().__init__(make_store, runner)

            run_state_machine_as_test(
                Machine,
                settings=settings(
                    max_examples=10,
                    stateful_step_count=25,
                    deadline=None,
                    # To find a shorter one takes longer than a test may.
                    phases=[Phase.explicit, Phase.reuse, Phase.generate],
                    suppress_health_check=list(HealthCheck),
                ),
            )
