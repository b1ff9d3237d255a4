"""The rules of meetings: `decide` is a pure function of the meeting as it stands and one act."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ...models import MeetingEnd, MeetingEventType, MeetingStatus, MessageType, SpeakerSelection, TurnEnd
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
    Close,
    CurrentTurn,
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
_ENDINGS = {
    MeetingEnd.HOST_ENDED: "The host ended the meeting.",
    MeetingEnd.MAX_TURNS: "The meeting has had all its turns.",
    MeetingEnd.MAX_DURATION: "The time of the meeting is over.",
    MeetingEnd.END_WHEN: "The condition on which the meeting ends is met.",
    MeetingEnd.NOBODY: "Nobody is to speak next.",
}


def decide(meeting: Assembly, act: Act) -> Decision:
    """Judge an act."""
    decision = _judge(meeting, act)
    if isinstance(decision, Changes) and decision.end_reason is not None:
        _close(meeting, decision, decision.end_reason)
    return decision


def _judge(meeting: Assembly, act: Act) -> Decision:
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
        case Close(number, reason):
            decision = _choose(meeting, number, None)
            return Changes(end_reason=reason) if isinstance(decision, Changes) else decision
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
    meeting = act.bounds.bind(meeting)
    changes = Changes(status=MeetingStatus.ACTIVE, starts=act.bounds, withdraws_invitations=True)
    changes.seats = dict.fromkeys(seated, WAITING)
    changes.events.append(
        Event(
            MeetingEventType.MEETING_STARTED, meeting.host_id, {"host_id": meeting.host_id, "participant_ids": seated}
        )
    )
    if act.has_message:
        changes.ended.append((_new_turn(meeting, 1, meeting.host_id), TurnEnd.SPOKE))
        _record_speech(changes, 1, meeting.host_id)
        _pass_on(meeting, changes, 1, meeting.host_id, act.next_id, ended=None)
    else:
        _begin(meeting, changes, 1, act.next_id or _following(meeting, None), None)
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
    _begin_chosen(meeting, changes, turn, next_id)
    return changes


def _time_out(meeting: Assembly, number: int) -> Decision:
    turn = meeting.turn
    if meeting.status is not MeetingStatus.ACTIVE or turn is None or turn.number != number or not turn.is_over:
        return Refused(Why.NOTHING, meeting.status)
    if _is_over(meeting):  # before the turn, whose deadline is at most the meeting's
        return Changes(end_reason=MeetingEnd.MAX_DURATION)
    changes = Changes()
    if turn.purpose is Purpose.SELECT:
        changes.ended.append((None, TurnEnd.TIMED_OUT))
        _begin_chosen(meeting, changes, turn, None)
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
    return Changes(end_reason=MeetingEnd.HOST_ENDED)


def _close(meeting: Assembly, changes: Changes, reason: MeetingEnd) -> None:
    """End the meeting, after all else that the act changes."""
    changes.status, changes.turn, changes.withdraws_invitations = MeetingStatus.ENDED, None, True
    if meeting.turn is not None and all(ended is not None for ended, _ in changes.ended):
        changes.ended.append((None, TurnEnd.MEETING_ENDED))
    for seat in meeting.seats:
        if changes.seats.get(seat.agent_id, seat.status) in (WAITING, SPEAKING):
            changes.seats[seat.agent_id] = ATTENDING
    data = {"host_id": meeting.host_id, "reason": reason.value}
    changes.events.append(Event(MeetingEventType.MEETING_ENDED, meeting.host_id, data))
    content = {
        "type": "meeting_ended",
        "host": meeting.host_id,
        "reason": reason.value,
        "message": _ENDINGS[reason],
    }
    changes.notes.append(Note(MessageType.ENDING, meeting.host_id, content))


# --- turns ------------------------------------------------------------------------------------------------------------


def _is_over(meeting: Assembly) -> bool:
    """Whether the time of the meeting is over."""
    return meeting.left is not None and meeting.left <= 0


def _new_turn(
    meeting: Assembly, number: int, agent_id: str, purpose: Purpose = Purpose.SPEAK, next_id: str | None = None
) -> NewTurn:
    """No turn lasts longer than the meeting: so the deadline of a turn is where a meeting ends by time too."""
    own = meeting.turn_duration if purpose is Purpose.SPEAK else SELECTION_LIMIT
    limits = [limit for limit in (own, meeting.left) if limit is not None]
    return NewTurn(number, agent_id, purpose, min(limits, default=None), next_id)


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
    if meeting.turns_left is not None and meeting.turns_left <= 1:
        changes.end_reason = MeetingEnd.MAX_TURNS
        return
    if _is_over(meeting):
        changes.end_reason = MeetingEnd.MAX_DURATION
        return
    is_chosen = next_id is None and meeting.selection is SpeakerSelection.CUSTOM
    if next_id is None and meeting.selection is SpeakerSelection.HOST:
        next_id = meeting.host_id if holder_id != meeting.host_id else _behind_the_host(meeting)
    if next_id is None and not is_chosen:
        next_id = _following(meeting, holder_id, without=holder_id if ended is TurnEnd.LEFT else None)
    if is_chosen or (meeting.end_when and next_id is not None):
        changes.turn = _new_turn(meeting, number + 1, meeting.host_id, Purpose.SELECT, next_id)
    else:
        _begin(meeting, changes, number + 1, next_id, holder_id)


def _begin_chosen(meeting: Assembly, changes: Changes, selecting: CurrentTurn, next_id: str | None) -> None:
    """Begin the turn of the agent that the host's process has named, or else of the one that was to follow."""
    if next_id is None and _refuse_next(meeting, selecting.next_id) is None:
        next_id = selecting.next_id
    chosen = next_id or _following(meeting, selecting.next_id or meeting.last_speaker_id)
    _begin(meeting, changes, selecting.number + 1, chosen, meeting.last_speaker_id)


def _begin(meeting: Assembly, changes: Changes, number: int, agent_id: str | None, previous_id: str | None) -> None:
    """Begin a turn, if somebody is there to speak and the meeting has time left."""
    if agent_id is None or _is_over(meeting):
        changes.end_reason = MeetingEnd.NOBODY if agent_id is None else MeetingEnd.MAX_DURATION
        return
    changes.turn = _new_turn(meeting, number, agent_id)
    changes.seats[agent_id] = SPEAKING
    data = {"previous_speaker_id": previous_id, "current_speaker_id": agent_id, "turn": number}
    changes.events.append(Event(MeetingEventType.TURN_CHANGED, agent_id, data))


def _following(meeting: Assembly, agent_id: str | None, *, without: str | None = None) -> str | None:
    """Return the next participant in join order after this one, going round; None if nobody is there to speak.

    The host is always there. It is left out where it does not speak.
    """
    silent = None if meeting.host_speaks else meeting.host_id
    order = [seat for seat in meeting.seats if seat.is_taken and seat.agent_id not in (without, silent)]
    seat = meeting.find_seat(agent_id) if agent_id is not None else None
    place = seat.join_order if seat is not None else -1
    following = next((one for one in order if one.join_order > place), order[0] if order else None)
    return None if following is None else following.agent_id


def _behind_the_host(meeting: Assembly) -> str | None:
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
