"""The rules of meetings, once for every backend: what an act changes, or why it is refused. Pure; the backends load the
meeting under a lock, ask `decide`, and write what it answers in the same transaction.

A meeting's turns are numbered from 1 and rise by one; one is current while the meeting is active. An act that ends the
current turn begins the next one, or a *selection*: a turn of the host's in which nobody speaks and the host's process
names the next speaker.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from ..models import MeetingEventType, MeetingStatus, MessageType, ParticipantStatus, SpeakerSelection, TurnEnd

SELECTION_LIMIT = 10.0
"""Seconds the host's process has to name the next speaker; then the next in order has the turn."""

INVITED, ATTENDING, WAITING, SPEAKING, LEFT = ParticipantStatus


class Purpose(StrEnum):
    """What a turn is for."""

    SPEAK = "speak"
    SELECT = "select"
    """Its holder, the host, names the next speaker."""


# --- the meeting as it stands -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seat:
    """A participant."""

    agent_id: str
    join_order: int
    status: ParticipantStatus

    @property
    def is_taken(self) -> bool:
        """Whether the agent is still a participant."""
        return self.status is not LEFT


@dataclass(frozen=True, slots=True)
class CurrentTurn:
    """The turn that is current."""

    number: int
    agent_id: str
    purpose: Purpose
    is_over: bool
    """Its deadline has passed, by the store's clock."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """What the rules need of a meeting."""

    host_id: str
    status: MeetingStatus
    selection: SpeakerSelection
    turn_duration: float | None
    """Seconds; None: turns do not end by time."""
    seats: tuple[Seat, ...]
    """By join order; the host has 0."""
    turn: CurrentTurn | None
    last_speaker_id: str | None
    """Who held the last turn for speaking that is over, or the current one."""

    def find_seat(self, agent_id: str) -> Seat | None:
        """The agent's seat, also one that was left."""
        return next((seat for seat in self.seats if seat.agent_id == agent_id), None)


# --- acts -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attend:
    """An invited agent says that it is there."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class Absent:
    """An agent that attends goes back to being invited; before the start."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class Start:
    """The host starts, with an opening message (which the caller stores) or without."""

    agent_id: str
    has_message: bool = False
    next_id: str | None = None


@dataclass(frozen=True, slots=True)
class Speak:
    """The holder of the turn says something, which the caller stores, and passes the turn on."""

    agent_id: str
    number: int | None = None
    """The turn it is meant for; None is whichever is current."""
    next_id: str | None = None


@dataclass(frozen=True, slots=True)
class Pass:
    """The holder of the turn passes it on without a word."""

    agent_id: str
    number: int | None = None
    reason: str | None = None
    """Why, where its handler failed."""
    next_id: str | None = None


@dataclass(frozen=True, slots=True)
class Choose:
    """The host's process names the next speaker, in a turn for selecting; None leaves it to the order."""

    number: int
    next_id: str | None


@dataclass(frozen=True, slots=True)
class TimeOut:
    """The deadline of a turn has passed."""

    number: int


@dataclass(frozen=True, slots=True)
class Skip:
    """The host ends the current turn of somebody."""

    agent_id: str
    number: int | None = None
    """The turn it is meant for; None is whichever is current."""


@dataclass(frozen=True, slots=True)
class Leave:
    """A participant leaves."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class Remove:
    """The host removes a participant."""

    agent_id: str
    removed_id: str


@dataclass(frozen=True, slots=True)
class Vanish:
    """A participant's agent, not the host's, is about to be deregistered. (A meeting goes with its host's agent.)"""

    agent_id: str


@dataclass(frozen=True, slots=True)
class End:
    """The host ends the meeting."""

    agent_id: str


Act = Attend | Absent | Start | Speak | Pass | Choose | TimeOut | Skip | Leave | Remove | Vanish | End


# --- refusals ---------------------------------------------------------------------------------------------------------


class Why(StrEnum):
    """Why an act is refused."""

    NOT_HOST = "not_host"
    HOST_LEAVES = "host_leaves"
    NOT_PARTICIPANT = "not_participant"
    """`agent_id` is not a participant (any more)."""
    WRONG_STATUS = "wrong_status"
    """The meeting's status forbids it."""
    NOT_READY = "not_ready"
    """`missing` have not attended."""
    NOT_YOUR_TURN = "not_your_turn"
    """`agent_id` has the turn; None: nobody, while the next speaker is being chosen."""
    TURN_LOST = "turn_lost"
    """The turn meant is over, or never was; `number` is current."""
    NEXT_NOT_SEATED = "next_not_seated"
    """The next speaker named, `agent_id`, is not a participant (any more)."""
    NEXT_MISSING = "next_missing"
    """In this meeting the host names the next speaker."""
    NOTHING = "nothing"
    """There is nothing to change: it was done already."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing changes."""

    why: Why
    status: MeetingStatus
    agent_id: str | None = None
    number: int | None = None
    missing: tuple[str, ...] = ()


# --- changes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """Something to record, with the ids of agents under keys that end in `_id` or `_ids`.

    Under keys that end in `_external_id` they stand where external ids are to be stored.
    """

    type: MeetingEventType
    agent_id: str | None = None
    """Whom it is about."""
    data: dict[str, Any] = field(default_factory=dict)
    has_message: bool = False
    """It is about the message that the act stores."""


@dataclass(frozen=True, slots=True)
class Note:
    """A message of the SDK's own for the history; agents' ids stand where their external ids are to be stored."""

    type: MessageType
    about_id: str
    """Its sender."""
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NewTurn:
    """The next turn; current from the same instant at which the last one ended."""

    number: int
    agent_id: str
    purpose: Purpose
    limit: float | None
    """Seconds; None has no deadline."""


@dataclass(slots=True)
class Changes:
    """What an act changes."""

    status: MeetingStatus | None = None
    seats: dict[str, ParticipantStatus] = field(default_factory=dict)
    """Those whose status changes."""
    ended: list[tuple[NewTurn | None, TurnEnd]] = field(default_factory=list)
    """The turns that end: None is the one that was current, others begin and end in this act (the opening)."""
    turn: NewTurn | None = None
    """The turn that is current from now on."""
    is_turnless: bool = False
    """No turn is current from now on."""
    speech_turn: int | None = None
    """The number of the turn under which the act's message is stored."""
    events: list[Event] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    withdraws_invitations: bool = False
    """Invitations that nobody has taken up are withdrawn: of all, or of those who leave."""


Decision = Changes | Refused


# --- the rules --------------------------------------------------------------------------------------------------------


def decide(meeting: Assembly, act: Act) -> Decision:
    """Judge an act."""
    match act:
        case Attend(agent_id):
            return _attend(meeting, agent_id)
        case Absent(agent_id):
            return _absent(meeting, agent_id)
        case Start():
            return _start(meeting, act)
        case Speak() | Pass():
            return _use_turn(meeting, act)
        case Choose(number, next_id):
            return _choose(meeting, number, next_id)
        case TimeOut(number):
            return _time_out(meeting, number)
        case Skip(agent_id, number):
            return _skip(meeting, agent_id, number)
        case Leave(agent_id):
            if agent_id == meeting.host_id:
                return Refused(Why.HOST_LEAVES, meeting.status)
            return _leave(meeting, agent_id, "left", noted_of=agent_id)
        case Remove(agent_id, removed_id):
            if agent_id != meeting.host_id:
                return Refused(Why.NOT_HOST, meeting.status)
            if removed_id == meeting.host_id:
                return Refused(Why.HOST_LEAVES, meeting.status)
            return _leave(meeting, removed_id, "removed", noted_of=removed_id)
        case Vanish(agent_id):
            # What the agent sent goes with it: the note that it went is the host's.
            decision = _leave(meeting, agent_id, "deregistered", noted_of=meeting.host_id)
            if isinstance(decision, Changes):
                _keep_name(decision.events, agent_id)
            return decision
        case End(agent_id):
            return _end(meeting, agent_id)


def _attend(meeting: Assembly, agent_id: str) -> Decision:
    seat = meeting.find_seat(agent_id)
    if seat is None or not seat.is_taken:
        return Refused(Why.NOT_PARTICIPANT, meeting.status, agent_id)
    if seat.status is not INVITED:
        return Refused(Why.NOTHING, meeting.status)
    if meeting.status is not MeetingStatus.CREATED:
        return Refused(Why.WRONG_STATUS, meeting.status)
    changes = Changes(seats={agent_id: ATTENDING})
    changes.events.append(Event(MeetingEventType.PARTICIPANT_JOINED, agent_id, {"agent_id": agent_id}))
    changes.notes.append(Note(MessageType.SYSTEM, agent_id, {"type": "participant_joined", "agent": agent_id}))
    _judge_readiness(meeting, changes)
    return changes


def _absent(meeting: Assembly, agent_id: str) -> Decision:
    seat = meeting.find_seat(agent_id)
    if seat is None or not seat.is_taken:
        return Refused(Why.NOT_PARTICIPANT, meeting.status, agent_id)
    if seat.status is INVITED:
        return Refused(Why.NOTHING, meeting.status)
    if meeting.status not in (MeetingStatus.CREATED, MeetingStatus.READY) or agent_id == meeting.host_id:
        return Refused(Why.WRONG_STATUS, meeting.status)
    changes = Changes(seats={agent_id: INVITED})
    data = {"agent_id": agent_id, "previous_status": seat.status.value, "current_status": INVITED.value}
    changes.events.append(Event(MeetingEventType.PARTICIPANT_STATUS_CHANGED, agent_id, data))
    _judge_readiness(meeting, changes)
    return changes


def _judge_readiness(meeting: Assembly, changes: Changes) -> None:
    """Before the start: ready once everybody invited attends."""
    seats = (replace(seat, status=changes.seats.get(seat.agent_id, seat.status)) for seat in meeting.seats)
    is_ready = all(seat.status is ATTENDING for seat in seats if seat.is_taken)
    status = MeetingStatus.READY if is_ready else MeetingStatus.CREATED
    changes.status = status if status is not meeting.status else None


def _start(meeting: Assembly, act: Start) -> Decision:
    if act.agent_id != meeting.host_id:
        return Refused(Why.NOT_HOST, meeting.status)
    if meeting.status is MeetingStatus.CREATED:
        missing = tuple(seat.agent_id for seat in meeting.seats if seat.status is INVITED)
        return Refused(Why.NOT_READY, meeting.status, missing=missing)
    if meeting.status is not MeetingStatus.READY:
        return Refused(Why.WRONG_STATUS, meeting.status)
    if refusal := _refuse_next(meeting, act.next_id):
        return refusal
    if act.has_message and act.next_id is None and meeting.selection is SpeakerSelection.HOST:
        return Refused(Why.NEXT_MISSING, meeting.status)
    seated = [seat.agent_id for seat in meeting.seats if seat.is_taken]
    changes = Changes(status=MeetingStatus.ACTIVE, withdraws_invitations=True)
    changes.seats = dict.fromkeys(seated, WAITING)
    changes.events.append(
        Event(
            MeetingEventType.MEETING_STARTED, meeting.host_id, {"host_id": meeting.host_id, "participant_ids": seated}
        )
    )
    opening = NewTurn(1, meeting.host_id, Purpose.SPEAK, meeting.turn_duration)
    if act.has_message:
        changes.ended.append((opening, TurnEnd.SPOKE))
        _record_speech(changes, 1, meeting.host_id)
        _pass_on(meeting, changes, 1, meeting.host_id, act.next_id, ended=None)
    elif act.next_id is not None:
        _begin(changes, replace(opening, agent_id=act.next_id), None)
    else:
        _begin(changes, opening, None)
    return changes


def _use_turn(meeting: Assembly, act: Speak | Pass) -> Decision:
    turn = meeting.turn
    seat = meeting.find_seat(act.agent_id)
    if seat is None or not seat.is_taken:
        return Refused(Why.NOT_PARTICIPANT, meeting.status, act.agent_id)
    if meeting.status is not MeetingStatus.ACTIVE or turn is None:
        return Refused(Why.WRONG_STATUS, meeting.status)
    if act.number is not None and act.number != turn.number:
        return Refused(Why.TURN_LOST, meeting.status, turn.agent_id, turn.number)
    if turn.agent_id != act.agent_id or turn.purpose is not Purpose.SPEAK:
        holder = turn.agent_id if turn.purpose is Purpose.SPEAK else None
        return Refused(Why.NOT_YOUR_TURN, meeting.status, holder, turn.number)
    if turn.is_over:
        return Refused(Why.TURN_LOST, meeting.status, turn.agent_id, turn.number)
    if refusal := _refuse_next(meeting, act.next_id):
        return refusal
    host_must_name = meeting.selection is SpeakerSelection.HOST and act.agent_id == meeting.host_id
    if host_must_name and act.next_id is None and isinstance(act, Speak):
        return Refused(Why.NEXT_MISSING, meeting.status)
    changes = Changes()
    if isinstance(act, Speak):
        _record_speech(changes, turn.number, act.agent_id)
        _pass_on(meeting, changes, turn.number, act.agent_id, act.next_id, ended=TurnEnd.SPOKE)
    else:
        if act.reason is not None:
            content = {"type": "turn_passed", "agent": act.agent_id, "reason": act.reason}
            changes.notes.append(Note(MessageType.SYSTEM, act.agent_id, content))
            data = {"error_type": "handler", "error_message": act.reason, "affected_agent_id": act.agent_id}
            changes.events.append(Event(MeetingEventType.ERROR_OCCURRED, act.agent_id, data))
        _pass_on(meeting, changes, turn.number, act.agent_id, act.next_id, ended=TurnEnd.PASSED)
    return changes


def _choose(meeting: Assembly, number: int, next_id: str | None) -> Decision:
    turn = meeting.turn
    if meeting.status is not MeetingStatus.ACTIVE or turn is None:
        return Refused(Why.WRONG_STATUS, meeting.status)
    if turn.number != number or turn.purpose is not Purpose.SELECT:
        return Refused(Why.TURN_LOST, meeting.status, turn.agent_id, turn.number)
    if refusal := _refuse_next(meeting, next_id):
        return refusal
    changes = Changes(ended=[(None, TurnEnd.PASSED)])
    chosen = next_id or _following(meeting, meeting.last_speaker_id)
    _begin(changes, NewTurn(number + 1, chosen, Purpose.SPEAK, meeting.turn_duration), meeting.last_speaker_id)
    return changes


def _time_out(meeting: Assembly, number: int) -> Decision:
    turn = meeting.turn
    if meeting.status is not MeetingStatus.ACTIVE or turn is None or turn.number != number or not turn.is_over:
        return Refused(Why.NOTHING, meeting.status)
    changes = Changes()
    if turn.purpose is Purpose.SELECT:
        changes.ended.append((None, TurnEnd.TIMED_OUT))
        chosen = _following(meeting, meeting.last_speaker_id)
        _begin(changes, NewTurn(number + 1, chosen, Purpose.SPEAK, meeting.turn_duration), meeting.last_speaker_id)
        return changes
    # A host that names the speakers and is silent would stop its meeting: the next in order has the turn.
    by_order = _following(meeting, turn.agent_id)
    names_itself = meeting.selection is SpeakerSelection.HOST and turn.agent_id == meeting.host_id
    _pass_on(meeting, changes, number, turn.agent_id, by_order if names_itself else None, ended=TurnEnd.TIMED_OUT)
    following = changes.turn.agent_id if changes.turn and changes.turn.purpose is Purpose.SPEAK else None
    content = {
        "type": "timeout",
        "timed_out_agent": turn.agent_id,
        "next_speaker": following,
        "message": "The turn ended by time.",
    }
    changes.notes.append(Note(MessageType.TIMEOUT, turn.agent_id, content))
    data = {"timed_out_agent_id": turn.agent_id, "next_speaker_id": following, "turn": number}
    changes.events.insert(0, Event(MeetingEventType.TIMEOUT_OCCURRED, turn.agent_id, data))
    return changes


def _skip(meeting: Assembly, agent_id: str, number: int | None) -> Decision:
    if agent_id != meeting.host_id:
        return Refused(Why.NOT_HOST, meeting.status)
    turn = meeting.turn
    if meeting.status is not MeetingStatus.ACTIVE or turn is None:
        return Refused(Why.WRONG_STATUS, meeting.status)
    if number is not None and number != turn.number:
        return Refused(Why.TURN_LOST, meeting.status, turn.agent_id, turn.number)
    if turn.purpose is Purpose.SELECT:
        return _choose(meeting, turn.number, None)
    changes = Changes()
    by_order = _following(meeting, turn.agent_id)
    names_itself = meeting.selection is SpeakerSelection.HOST and turn.agent_id == meeting.host_id
    _pass_on(meeting, changes, turn.number, turn.agent_id, by_order if names_itself else None, ended=TurnEnd.SKIPPED)
    content = {"type": "turn_skipped", "agent": turn.agent_id}
    changes.notes.append(Note(MessageType.SYSTEM, turn.agent_id, content))
    return changes


def _leave(meeting: Assembly, agent_id: str, how: str, *, noted_of: str) -> Decision:
    seat = meeting.find_seat(agent_id)
    if seat is None or not seat.is_taken:
        return Refused(Why.NOT_PARTICIPANT, meeting.status, agent_id)
    if meeting.status is MeetingStatus.ENDED:
        return Refused(Why.WRONG_STATUS, meeting.status)
    changes = Changes(withdraws_invitations=True)
    turn = meeting.turn
    if turn is not None and turn.agent_id == agent_id and turn.purpose is Purpose.SPEAK:
        # The turn ends first; it goes on to whoever follows the one who leaves.
        _pass_on(meeting, changes, turn.number, agent_id, None, ended=TurnEnd.LEFT)
    changes.seats[agent_id] = LEFT
    data = {"agent_id": agent_id, "how": how}
    changes.events.append(Event(MeetingEventType.PARTICIPANT_LEFT, agent_id, data))
    content = {"type": "participant_left", "agent": agent_id, "how": how}
    changes.notes.append(Note(MessageType.SYSTEM, noted_of, content))
    if meeting.status in (MeetingStatus.CREATED, MeetingStatus.READY):
        _judge_readiness(meeting, changes)
    return changes


def _end(meeting: Assembly, agent_id: str) -> Decision:
    if agent_id != meeting.host_id:
        return Refused(Why.NOT_HOST, meeting.status)
    if meeting.status is MeetingStatus.ENDED:
        return Refused(Why.WRONG_STATUS, meeting.status)
    changes = Changes(status=MeetingStatus.ENDED, is_turnless=True, withdraws_invitations=True)
    if meeting.turn is not None:
        changes.ended.append((None, TurnEnd.MEETING_ENDED))
    changes.seats = {seat.agent_id: ATTENDING for seat in meeting.seats if seat.status in (WAITING, SPEAKING)}
    changes.events.append(Event(MeetingEventType.MEETING_ENDED, meeting.host_id, {"host_id": meeting.host_id}))
    content = {"type": "meeting_ended", "host": meeting.host_id, "message": "The host ended the meeting."}
    changes.notes.append(Note(MessageType.ENDING, meeting.host_id, content))
    return changes


# --- turns ------------------------------------------------------------------------------------------------------------


def _record_speech(changes: Changes, number: int, agent_id: str) -> None:
    changes.speech_turn = number
    changes.events.append(
        Event(MeetingEventType.MESSAGE_POSTED, agent_id, {"sender_id": agent_id, "turn": number}, has_message=True)
    )


def _pass_on(
    meeting: Assembly, changes: Changes, number: int, holder_id: str, next_id: str | None, *, ended: TurnEnd | None
) -> None:
    """End the turn `number` of `holder_id` (None: it began and ended in this act), and begin the next."""
    if ended is not None:
        changes.ended.append((None, ended))
        changes.seats[holder_id] = WAITING
    leaves = ended is TurnEnd.LEFT
    if next_id is None and meeting.selection is SpeakerSelection.CUSTOM:
        changes.turn = NewTurn(number + 1, meeting.host_id, Purpose.SELECT, SELECTION_LIMIT)
        return
    if next_id is None and meeting.selection is SpeakerSelection.HOST and holder_id != meeting.host_id:
        next_id = meeting.host_id
    chosen = next_id or _following(meeting, holder_id, without=holder_id if leaves else None)
    _begin(changes, NewTurn(number + 1, chosen, Purpose.SPEAK, meeting.turn_duration), holder_id)


def _begin(changes: Changes, turn: NewTurn, previous_id: str | None) -> None:
    changes.turn = turn
    changes.seats[turn.agent_id] = SPEAKING
    data = {"previous_speaker_id": previous_id, "current_speaker_id": turn.agent_id, "turn": turn.number}
    changes.events.append(Event(MeetingEventType.TURN_CHANGED, turn.agent_id, data))


def _following(meeting: Assembly, agent_id: str | None, *, without: str | None = None) -> str:
    """The next participant in join order after this one, going round; the host is always there."""
    order = [seat for seat in meeting.seats if seat.is_taken and seat.agent_id != without]
    seat = meeting.find_seat(agent_id) if agent_id is not None else None
    place = seat.join_order if seat is not None else -1
    return next((one for one in order if one.join_order > place), order[0]).agent_id


def _keep_name(events: Iterable[Event], agent_id: str) -> None:
    """Put an agent's external id beside its id: who reads the events cannot look it up any more."""
    for event in events:
        keys = [key for key, value in event.data.items() if key.endswith("_id") and value == agent_id]
        event.data.update((f"{key.removesuffix('_id')}_external_id", agent_id) for key in keys)


def _refuse_next(meeting: Assembly, next_id: str | None) -> Refused | None:
    if next_id is None:
        return None
    seat = meeting.find_seat(next_id)
    if seat is None or not seat.is_taken:
        return Refused(Why.NEXT_NOT_SEATED, meeting.status, next_id)
    return None


def agents_named(changes: Changes) -> set[str]:
    """The agents whose external ids are to be stored with these."""
    contents = [*(note.content for note in changes.notes), *(event.data for event in changes.events)]
    return {value for content in contents for key, value in content.items() if _names_agent(key) and value}


def render(content: dict[str, Any], external_ids: dict[str, str]) -> dict[str, Any]:
    """The content of a note, or the data of an event, as it is stored: with external ids."""
    return {
        key: external_ids.get(value, value) if _names_agent(key) and value else value for key, value in content.items()
    }


def _names_agent(key: str) -> bool:
    return key in _AGENT_KEYS or key.endswith("_external_id")


_AGENT_KEYS = frozenset({"agent", "host", "timed_out_agent", "next_speaker"})
"""Of notes."""
