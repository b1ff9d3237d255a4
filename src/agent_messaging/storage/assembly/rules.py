"""The rules of meetings: `decide` is a pure function of the meeting as it stands and one act."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ...models import MeetingEventType, MeetingStatus, MessageType, SpeakerSelection, TurnEnd
from .terms import (
    ATTENDING,
    INVITED,
    LEFT,
    SPEAKING,
    WAITING,
    Absent,
    Act,
    Assembly,
    Attend,
    Changes,
    Choose,
    Decision,
    End,
    Event,
    Leave,
    NewTurn,
    Note,
    Pass,
    Purpose,
    Refused,
    Remove,
    Skip,
    Speak,
    Start,
    TimeOut,
    Vanish,
    Why,
)

SELECTION_LIMIT = 10.0
"""Seconds in which the host's process can name the next speaker. Then the next in order has the turn."""


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
            # The messages of the agent go with it, so the note that it went is the host's.
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
    """Before the start, the meeting is ready once everybody invited attends."""
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
    if host_must_name and act.next_id is None and isinstance(act, Speak) and not act.by_order:
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
    _pass_on(meeting, changes, number, turn.agent_id, None, ended=TurnEnd.TIMED_OUT)
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
    _pass_on(meeting, changes, turn.number, turn.agent_id, None, ended=TurnEnd.SKIPPED)
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
    """End the turn `number` of `holder_id`, and begin the next. `ended` is None if it began and ended in this act."""
    if ended is not None:
        changes.ended.append((None, ended))
        changes.seats[holder_id] = WAITING
    leaves = ended is TurnEnd.LEFT
    if next_id is None and meeting.selection is SpeakerSelection.CUSTOM:
        changes.turn = NewTurn(number + 1, meeting.host_id, Purpose.SELECT, SELECTION_LIMIT)
        return
    if next_id is None and meeting.selection is SpeakerSelection.HOST:
        next_id = meeting.host_id if holder_id != meeting.host_id else _behind_the_host(meeting)
    chosen = next_id or _following(meeting, holder_id, without=holder_id if leaves else None)
    _begin(changes, NewTurn(number + 1, chosen, Purpose.SPEAK, meeting.turn_duration), holder_id)


def _begin(changes: Changes, turn: NewTurn, previous_id: str | None) -> None:
    changes.turn = turn
    changes.seats[turn.agent_id] = SPEAKING
    data = {"previous_speaker_id": previous_id, "current_speaker_id": turn.agent_id, "turn": turn.number}
    changes.events.append(Event(MeetingEventType.TURN_CHANGED, turn.agent_id, data))


def _following(meeting: Assembly, agent_id: str | None, *, without: str | None = None) -> str:
    """Return the next participant in join order after this one, going round. The host is always there."""
    order = [seat for seat in meeting.seats if seat.is_taken and seat.agent_id != without]
    seat = meeting.find_seat(agent_id) if agent_id is not None else None
    place = seat.join_order if seat is not None else -1
    return next((one for one in order if one.join_order > place), order[0]).agent_id


def _behind_the_host(meeting: Assembly) -> str:
    """Return the next speaker where the host was to name one and has not.

    A silent host must neither stop its meeting nor have it with one participant alone. So the order goes on after the
    last of the others, and leaves out the host, who has every other turn.
    """
    if all(seat.agent_id == meeting.host_id for seat in meeting.seats if seat.is_taken):
        return meeting.host_id
    return _following(meeting, meeting.last_speaker_id, without=meeting.host_id)


def _keep_name(events: Iterable[Event], agent_id: str) -> None:
    """Put an agent's external id beside its id, because readers of the events cannot look it up any more."""
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
