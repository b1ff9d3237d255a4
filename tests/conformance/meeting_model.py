"""Meetings in plain Python: rows that the rules of meetings themselves (`storage/assembly`) move, on top of the
model of deliveries, to compare stores with.

The rules decide, so they are not tested here; what is, is that a store asks them with the meeting as it stands and
writes what they answer. What holds whatever they answer, `check` says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from agent_messaging.models import (
    DeliveryState,
    Kind,
    MeetingEnd,
    MeetingEventType,
    MeetingStatus,
    MessageType,
    ParticipantStatus,
    SpeakerSelection,
    TurnEnd,
)
from agent_messaging.storage.assembly.rules import decide
from agent_messaging.storage.assembly.terms import (
    Absent,
    Act,
    Assembly,
    Attend,
    Changes,
    CurrentTurn,
    NewTurn,
    Purpose,
    Refused,
    Seat,
    Speak,
    Start,
    Vanish,
    render,
)
from agent_messaging.storage.ports import CLAIM_MARGIN, NewInvitation, NewMeeting, NewSpeech, Settling

from .model import CLAIMED, QUEUED, Item, Model


@dataclass(slots=True, eq=False)
class Duty(Item):
    """The delivery of a turn or of an invitation."""

    limit: float | None = None
    """Seconds of the turn."""
    is_spent: bool = False
    """An act ended its claim."""


@dataclass(slots=True, eq=False)
class Place:
    """A participant."""

    agent: str
    order: int
    status: ParticipantStatus
    process: str | None = None
    joined_at: float | None = None
    left_at: float | None = None


@dataclass(slots=True, eq=False)
class Round:
    """A turn."""

    number: int
    agent: str
    purpose: Purpose
    started_at: float
    deadline: float | None
    limit: float | None = None
    duty: Duty | None = None
    next_id: str | None = None
    """Who follows a selection unless the host's process says otherwise."""
    ended_at: float | None = None
    how: TurnEnd | None = None
    message_id: str | None = None
    is_opening: bool = False
    """It began and ended in one act."""


@dataclass(slots=True, eq=False)
class Said:
    """A message of the history."""

    sender: str
    type: MessageType
    at: float
    content: Any
    message_id: str | None = None
    """None: the store's own to choose."""


@dataclass(slots=True, eq=False)
class Happened:
    """An event."""

    type: MeetingEventType
    agent: str | None
    data: dict[str, Any]
    at: float
    said: Said | None = None


@dataclass(slots=True, eq=False)
class Meeting:
    """A meeting."""

    id: str
    host: str
    selection: SpeakerSelection
    turn_duration: float | None
    max_attempts: int
    created_at: float
    places: list[Place]
    status: MeetingStatus
    max_turns: int | None = None
    max_duration: float | None = None
    host_speaks: bool = True
    end_when: bool = False
    turns_taken: int = 0
    deadline: float | None = None
    end_reason: MeetingEnd | None = None
    started_at: float | None = None
    ended_at: float | None = None
    rounds: list[Round] = field(default_factory=list)
    history: list[Said] = field(default_factory=list)
    events: list[Happened] = field(default_factory=list)
    invitations: list[Duty] = field(default_factory=list)

    @property
    def round(self) -> Round | None:
        """The current turn."""
        return next((round_ for round_ in self.rounds if round_.ended_at is None), None)

    @property
    def is_selecting(self) -> bool:
        """Whether the host is to name the next speaker."""
        return self.round is not None and self.round.purpose is Purpose.SELECT

    def place(self, agent: str) -> Place | None:
        return next((place for place in self.places if place.agent == agent), None)

    @property
    def processes(self) -> set[str]:
        """Those of everybody."""
        return {place.process for place in self.places if place.process is not None}

    def is_over(self, now: float) -> bool:
        """Whether the time of the current turn has passed."""
        return self.round is not None and self.round.deadline is not None and self.round.deadline <= now

    def assembly(self, now: float) -> Assembly:
        """What the rules need of it."""
        spoken = [round_ for round_ in self.rounds if round_.purpose is Purpose.SPEAK and self.place(round_.agent)]
        if self.selection is SpeakerSelection.HOST:
            spoken = [round_ for round_ in spoken if round_.agent != self.host]
        current = self.round
        left = self.max_duration if self.deadline is None else self.deadline - now
        return Assembly(
            self.host,
            self.status,
            self.selection,
            self.turn_duration,
            tuple(Seat(place.agent, place.order, place.status) for place in self.places),
            CurrentTurn(current.number, current.agent, current.purpose, self.is_over(now), current.next_id)
            if current
            else None,
            spoken[-1].agent if spoken else None,
            self.host_speaks,
            self.end_when,
            None if self.max_turns is None else self.max_turns - self.turns_taken,
            math.inf if left is not None and math.isnan(left) else left,
        )

    def check(self) -> None:
        """What holds of every meeting, whatever was done."""
        numbers = [round_.number for round_ in self.rounds]
        assert numbers == list(range(1, len(numbers) + 1))
        current = self.round
        assert (current is not None) == (self.status is MeetingStatus.ACTIVE)
        assert (self.end_reason is not None) == (self.status is MeetingStatus.ENDED)
        over = [round_ for round_ in self.rounds if round_ is not current and round_.purpose is Purpose.SPEAK]
        assert self.turns_taken == len(over)
        assert self.max_turns is None or len(over) < self.max_turns + (self.status is MeetingStatus.ENDED)
        assert self.deadline is None or current is None or not (current.deadline or math.inf) > self.deadline
        assert current is None or current is self.rounds[-1]
        speaking = [place.agent for place in self.places if place.status is ParticipantStatus.SPEAKING]
        assert speaking == ([current.agent] if current and current.purpose is Purpose.SPEAK else [])
        for round_ in self.rounds:
            open_ = round_.duty is not None and round_.duty.state in (QUEUED, CLAIMED)
            assert not open_ or round_ is current
            is_kept = self.place(round_.agent) is not None  # what an agent said goes with it, its turns stay
            assert (round_.message_id is not None) == (round_.how is TurnEnd.SPOKE and is_kept)


@dataclass(slots=True)
class Outcome:
    """What an act changed."""

    ended_turn: int | None
    must_tell: set[str]
    may_tell: set[str]


class MeetingModel(Model):
    """All meetings of a store."""

    def __init__(self) -> None:
        super().__init__()
        self.meetings: dict[str, Meeting] = {}
        self.keys: dict[tuple[str, str], tuple[str, str]] = {}
        """By agent and key: fingerprint and message id."""
        self.names: dict[str, str] = {}
        """The external ids of the agents."""

    def duty(self, message_id: str) -> Duty:
        item = self.find(message_id)
        assert isinstance(item, Duty)
        return item

    def take(self, item: Item, owner: str, run_limit: float) -> None:
        super().take(item, owner, run_limit)
        assert isinstance(item, Duty)
        item.hard_end = self.now + max(run_limit, item.limit or 0.0) + CLAIM_MARGIN

    # --- creating -----------------------------------------------------------------------------------------------------

    def create(self, plan: NewMeeting, owner: str) -> Meeting:
        meeting = Meeting(
            plan.meeting_id,
            plan.host_id,
            plan.selection,
            plan.turn_duration,
            plan.max_attempts,
            self.now,
            [Place(agent, order, ParticipantStatus.INVITED) for order, agent in enumerate(plan.participant_ids)],
            MeetingStatus.CREATED if len(plan.participant_ids) > 1 else MeetingStatus.READY,
            plan.max_turns,
            plan.max_duration,
            plan.host_speaks,
            plan.end_when,
        )
        host = meeting.places[0]
        host.status, host.process, host.joined_at = ParticipantStatus.ATTENDING, owner, self.now
        self.meetings[meeting.id] = meeting
        for invitation in plan.invitations:
            meeting.invitations.append(self.invite(meeting, invitation, owner))
        return meeting

    def invite(self, meeting: Meeting, invitation: NewInvitation, owner: str) -> Duty:
        duty = self.new_duty(meeting, invitation.recipient_id, Kind.INVITATION, owner, None)
        duty.message_id = invitation.message_id
        return duty

    def new_duty(self, meeting: Meeting, agent: str, kind: Kind, owner: str | None, limit: float | None) -> Duty:
        """A delivery, whose message id the store may choose."""
        # Nobody stored what came with time, or with an agent's removal.
        origin = cast(str, owner)
        duty = Duty("", meeting.host, agent, kind, meeting.max_attempts, 0.0, origin, None, None, limit=limit)
        self.items.append(duty)
        return duty

    # --- acting -------------------------------------------------------------------------------------------------------

    def act(
        self,
        meeting: Meeting,
        act: Act,
        owner: str | None,
        *,
        speech: NewSpeech | None = None,
        claimed: Duty | None = None,
    ) -> Outcome | Refused:
        """Let the rules decide, and do what they answer."""
        decision = decide(meeting.assembly(self.now), act)
        if isinstance(decision, Refused):
            return decision
        assert (speech is not None) == (decision.speech_turn is not None)
        return self.apply(meeting, act, decision, owner, speech, claimed)

    def apply(
        self,
        meeting: Meeting,
        act: Act,
        changes: Changes,
        owner: str | None,
        speech: NewSpeech | None,
        claimed: Duty | None,
    ) -> Outcome:
        outcome = Outcome(None, set(), meeting.processes)
        if changes.status is not None:
            meeting.status = changes.status
            if changes.status is MeetingStatus.ENDED:
                meeting.ended_at, meeting.end_reason = self.now, changes.end_reason
            outcome.must_tell |= {
                place.process
                for place in meeting.places
                if place.process is not None and place.status is not ParticipantStatus.LEFT
            }
        if changes.starts is not None:
            for name in ("max_turns", "max_duration", "end_when"):
                if (bound := getattr(changes.starts, name)) is not None:
                    setattr(meeting, name, bound)
            meeting.started_at = self.now
            meeting.deadline = None if meeting.max_duration is None else self.now + meeting.max_duration
        self.seat(meeting, act, changes, owner, outcome)
        said = None
        if speech is not None:
            assert isinstance(act, Speak | Start)
            sender = act.agent_id
            said = Said(sender, MessageType.USER_DEFINED, self.now, speech.content, speech.message_id)
            meeting.history.append(said)
            if speech.idempotency_key is not None:
                self.keys[sender, speech.idempotency_key] = speech.fingerprint, speech.message_id
        for new, how in changes.ended:
            outcome.ended_turn = self.end_round(meeting, new, how, speech, claimed, outcome)
        if changes.turn is not None:
            new = changes.turn
            deadline = None if new.limit is None else self.now + new.limit
            duty = None
            if new.purpose is Purpose.SPEAK:
                duty = self.new_duty(meeting, new.agent_id, Kind.TURN, owner, new.limit)
            meeting.rounds.append(
                Round(new.number, new.agent_id, new.purpose, self.now, deadline, new.limit, duty, new.next_id)
            )
            place = meeting.place(new.agent_id)
            if place is not None and place.process is not None:
                outcome.must_tell.add(place.process)
        for note in changes.notes:
            meeting.history.append(Said(note.about_id, note.type, self.now, render(note.content, self.names)))
        for event in changes.events:
            data = render(event.data, self.names)
            meeting.events.append(
                Happened(event.type, event.agent_id, data, self.now, said if event.has_message else None)
            )
        if changes.withdraws_invitations:
            leaving = {
                place.agent for place in meeting.places if changes.seats.get(place.agent) is ParticipantStatus.LEFT
            }
            for duty in meeting.invitations:
                if duty.state is QUEUED and (not leaving or duty.recipient in leaving):
                    duty.state = DeliveryState.WITHDRAWN
        meeting.check()
        return outcome

    def seat(self, meeting: Meeting, act: Act, changes: Changes, owner: str | None, outcome: Outcome) -> None:
        for place in meeting.places:
            status = changes.seats.get(place.agent, place.status)
            if isinstance(act, Attend) and place.agent == act.agent_id:
                place.joined_at, place.process = self.now, owner
                outcome.may_tell |= meeting.processes
            if isinstance(act, Absent) and place.agent == act.agent_id:
                place.joined_at = None
            if status is ParticipantStatus.LEFT and place.status is not ParticipantStatus.LEFT:
                place.left_at = self.now
                if place.process is not None:
                    outcome.must_tell.add(place.process)
            place.status = status

    def end_round(
        self,
        meeting: Meeting,
        new: NewTurn | None,
        how: TurnEnd,
        speech: NewSpeech | None,
        claimed: Duty | None,
        outcome: Outcome,
    ) -> int:
        message_id = speech.message_id if speech is not None else None
        if new is not None:
            opening = Round(new.number, new.agent_id, new.purpose, self.now, None, ended_at=self.now, how=how)
            opening.message_id, opening.is_opening = message_id, True
            meeting.rounds.append(opening)
            meeting.turns_taken += 1
            return new.number
        round_ = meeting.round
        assert round_ is not None
        round_.ended_at, round_.how, round_.message_id = self.now, how, message_id
        meeting.turns_taken += round_.purpose is Purpose.SPEAK
        duty = round_.duty
        if duty is not None and duty is claimed:
            duty.state, duty.ended, duty.suspect, duty.is_spent = DeliveryState.DONE, Settling.DONE, False, True
        elif duty is not None and duty.state in (QUEUED, CLAIMED):
            if duty.state is CLAIMED and duty.owner is not None:
                outcome.must_tell.add(duty.owner)
                outcome.may_tell.add(duty.owner)
            duty.state = DeliveryState.WITHDRAWN
        return round_.number

    # --- going --------------------------------------------------------------------------------------------------------

    def remove_agent(self, agent: str) -> None:
        """It leaves the meetings of others, and its own go with it, as all that it sent or got.

        When it does so is the store's clock's to say: the instants are not numbers until they are taken over.
        """
        now, self.now = self.now, math.nan
        for meeting in list(self.meetings.values()):
            if meeting.host == agent:
                del self.meetings[meeting.id]
                continue
            if meeting.place(agent) is None:
                continue
            if meeting.status is not MeetingStatus.ENDED:
                self.act(meeting, Vanish(agent), None)
            meeting.places = [place for place in meeting.places if place.agent != agent]
            for round_ in meeting.rounds:
                if round_.agent == agent:
                    round_.message_id = None
            for event in meeting.events:
                if event.said is not None and event.said.sender == agent:
                    event.said = None
            meeting.history = [said for said in meeting.history if said.sender != agent]
            meeting.invitations = [duty for duty in meeting.invitations if duty.recipient != agent]
        self.now = now
        self.items = [item for item in self.items if agent not in (item.sender, item.recipient)]
        self.keys = {key: value for key, value in self.keys.items() if key[0] != agent}

    # --- what there is ------------------------------------------------------------------------------------------------

    def overdue(self) -> list[Meeting]:
        """Those whose current turn's time has passed."""
        return [meeting for meeting in self.meetings.values() if meeting.is_over(self.now)]

    def next_deadline(self) -> float | None:
        """Seconds until the next turn ends by time."""
        rounds = (meeting.round for meeting in self.meetings.values())
        return min(
            (round_.deadline - self.now for round_ in rounds if round_ is not None and round_.deadline is not None),
            default=None,
        )

    def unnamed(self) -> Iterable[Duty]:
        """The deliveries of turns whose message ids are not known yet."""
        return (item for item in self.items if isinstance(item, Duty) and not item.message_id)
