"""Acts on meetings inside a transaction: loads what the rules need, asks them, and writes what they answer.

Reading and then writing is safe because there is one writer at a time (BEGIN IMMEDIATE). The number of statements does
not depend on the number of meetings.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import apsw

from ...exceptions import StorageCorruptError
from ...ids import uuid7
from ...models import (
    DeliveryState,
    Kind,
    MeetingStatus,
    MessageType,
    ParticipantStatus,
    SpeakerSelection,
    TurnEnd,
)
from ...payloads import checksum
from .. import assembly
from ..acts import Wanted
from ..admission import Key, Use, judge_repeat
from ..aside import read, seconds
from ..assembly import Assembly, Attend, Changes, CurrentTurn, NewTurn, Purpose, Refused, Seat, Vanish, Why
from ..ports import Acted, Claim, Duplicate, KeyConflict, TurnRow
from ..sql import Queries
from .append import find_keys
from .clock import Instant, to_datetime, to_datetime_or_none
from .engine import fetch
from .rows import encode, turn_row_or_none

_SQL = Queries(__package__, "meetings")
_DELIVERIES = Queries(__package__, "deliveries")
_SECOND = 1_000_000

Outcome = Acted | Refused | Duplicate | KeyConflict | None
Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Meeting:
    """A meeting as it was loaded."""

    assembly: Assembly
    max_attempts: int
    turn: TurnRow | None
    delivery: tuple[int, DeliveryState, int, str | None] | None
    """Of the current turn: seq, state, token, owner."""
    processes: dict[str, str]
    """To be woken, by agent."""

    def holds(self, claim: Claim) -> bool:
        """Whether that is the open claim on the current turn's delivery."""
        if self.delivery is None:
            return False
        seq, state, token, _ = self.delivery
        return state is DeliveryState.CLAIMED and (seq, token) == (claim.seq, claim.token)


@dataclass(slots=True)
class Writing:
    """The rows of all that is to be written. What needs the seq of a message has its place in `messages` until then."""

    messages: list[Row] = field(default_factory=list)
    deliveries: list[tuple[int, Row]] = field(default_factory=list)
    """With the place of the message."""
    meetings: list[Row] = field(default_factory=list)
    seats: list[Row] = field(default_factory=list)
    ended: list[tuple[Row, int | None]] = field(default_factory=list)
    """With the place of what was said."""
    turns: list[tuple[Row, int | None, int | None]] = field(default_factory=list)
    """With the places of the turn's message and of what was said."""
    events: list[tuple[Row, int | None]] = field(default_factory=list)
    """With the place of what was said."""
    ended_deliveries: list[Row] = field(default_factory=list)
    invitations: list[Row] = field(default_factory=list)
    most_invitations: int = 0
    keys: list[Row] = field(default_factory=list)

    def add_message(self, *row: object) -> int:
        """Returns its place."""
        self.messages.append(row)
        return len(self.messages) - 1


def act(connection: apsw.Connection, wanted: Sequence[Wanted], owner: str | None, instant: Instant) -> list[Outcome]:
    """Do all of these, each to another meeting and under another key, and answer each."""
    meetings = _load(connection, [one.meeting_id for one in wanted], instant)
    said = _find_said(connection, wanted)
    used = find_keys(connection, [key for one in wanted if (key := _key(one))])
    outcomes: list[Outcome] = []
    accepted: list[tuple[Wanted, Meeting, Changes]] = []
    for one in wanted:
        meeting = meetings.get(one.meeting_id)
        judged = _judge(one, meeting, said, used)
        if isinstance(judged, Changes):
            assert meeting is not None
            outcomes.append(_answer(one, meeting, judged, instant))
            accepted.append((one, meeting, judged))
        else:
            outcomes.append(judged)
    if accepted:
        _store(connection, accepted, owner, instant)
    return outcomes


def vanish(
    connection: apsw.Connection, instant: Instant, *, agent: str | None = None, organization: str | None = None
) -> None:
    """Before an agent, or an organization with its agents, is removed: let them leave the meetings of others.

    What was said in meetings of their own is removed; those go with their hosts.

    Args:
        connection: Where it is done.
        instant: When.
        agent: External id.
        organization: External id.
    """
    parameters = {"agent": agent, "organization": organization}
    waiting: defaultdict[str, deque[str]] = defaultdict(deque)
    for meeting_id, agent_id in fetch(connection, _SQL["vanish_find"], parameters):
        waiting[meeting_id].append(agent_id)
    while waiting:
        # One of each meeting at a time, because it is judged by what the one before it left.
        leaving = [Wanted(id, Vanish(agents.popleft())) for id, agents in waiting.items()]
        try:
            act(connection, leaving, None, instant)
        except StorageCorruptError:  # raised before anything was written; who goes leaves no seat in those either
            for one in leaving:
                with suppress(StorageCorruptError):
                    act(connection, [one], None, instant)
        waiting = defaultdict(deque, {id: agents for id, agents in waiting.items() if agents})
    connection.execute(_SQL["vanish_messages"], parameters)


# --- reads ------------------------------------------------------------------------------------------------------------


def _load(connection: apsw.Connection, meeting_ids: list[str], instant: Instant) -> dict[str, Meeting]:
    rows = fetch(connection, _SQL["act_load"], {"meetings": encode(meeting_ids)})
    return dict(read(partial(_meeting, instant=instant), row, "the meeting") for row in rows)


def _meeting(row: list[Any], instant: Instant) -> tuple[str, Meeting]:
    meeting_id, host_id, status, selection, turn_duration, max_attempts, *row = row
    turn, delivery, last_speaker_id, seats = row
    current = turn_row_or_none(turn, instant)
    return meeting_id, Meeting(
        assembly=Assembly(
            host_id=host_id,
            status=MeetingStatus(status),
            selection=SpeakerSelection(selection),
            turn_duration=seconds(turn_duration),
            seats=tuple(Seat(seat[0], seat[1], ParticipantStatus(seat[2])) for seat in seats),
            turn=None if current is None else _current_turn(current),
            last_speaker_id=last_speaker_id,
        ),
        max_attempts=max_attempts,
        turn=current,
        delivery=None if delivery is None else (delivery[0], DeliveryState(delivery[1]), *delivery[2:]),
        processes={seat[0]: seat[3] for seat in seats if seat[3] is not None},
    )


def _current_turn(turn: TurnRow) -> CurrentTurn:
    return CurrentTurn(turn.number, turn.agent_id, turn.purpose, is_over=turn.left is not None and turn.left <= 0)


# --- decisions --------------------------------------------------------------------------------------------------------


def _judge(wanted: Wanted, meeting: Meeting | None, said: dict[str, int], used: dict[Key, Use]) -> Changes | Outcome:
    speech = wanted.speech
    if speech is not None and meeting is not None and speech.message_id in said:
        # Whoever made the call may not have heard its answer, so perhaps nobody was woken.
        ended_turn, processes = said[speech.message_id], set(meeting.processes.values())
        return Acted(meeting.assembly.status, meeting.turn, ended_turn, speech.message_id, processes)
    if speech is not None and (key := _key(wanted)) in used:
        return judge_repeat(used[key], speech.fingerprint)
    if meeting is None:
        return None
    if wanted.claim is not None and not meeting.holds(wanted.claim):
        turn = meeting.turn
        holder, number = (None, None) if turn is None else (turn.agent_id, turn.number)
        return Refused(Why.TURN_LOST, meeting.assembly.status, holder, number)
    return assembly.decide(meeting.assembly, wanted.act)


def _find_said(connection: apsw.Connection, wanted: Sequence[Wanted]) -> dict[str, int]:
    """The turns of speeches that are stored already, by their ids."""
    speeches = [(one.speech.message_id, one.meeting_id) for one in wanted if one.speech is not None]
    if not speeches:
        return {}
    found: dict[str, int] = fetch(connection, _SQL["act_find_said"], {"speeches": encode(speeches)})
    return found


def _key(wanted: Wanted) -> Key | None:
    if wanted.key is None:
        return None
    assert isinstance(wanted.act, assembly.Start | assembly.Speak), "only these say something"
    agent_id, key = wanted.key
    return agent_id, "speak", key


def _answer(wanted: Wanted, meeting: Meeting, changes: Changes, instant: Instant) -> Acted:
    turn = None if changes.is_turnless else meeting.turn
    if changes.turn is not None:
        turn = _new_turn_row(changes.turn, instant)
    ended_turn = None
    for opening, _ in changes.ended:
        ended_turn = opening.number if opening is not None else _number(meeting)
    message_id = None
    if changes.speech_turn is not None and wanted.speech is not None:
        message_id = wanted.speech.message_id
    status = changes.status or meeting.assembly.status
    return Acted(status, turn, ended_turn, message_id, _concerned(wanted, meeting, changes))


def _new_turn_row(turn: NewTurn, instant: Instant) -> TurnRow:
    limit = _microseconds(turn.limit)
    return TurnRow(
        number=turn.number,
        agent_id=turn.agent_id,
        purpose=turn.purpose,
        started_at=to_datetime(instant.at),
        deadline_at=to_datetime_or_none(None if limit is None else instant.at + limit),
        left=turn.limit,
    )


def _concerned(wanted: Wanted, meeting: Meeting, changes: Changes) -> set[str]:
    """The processes that wait for what changed."""
    if changes.status is not None:
        agents = {seat.agent_id for seat in meeting.assembly.seats if seat.is_taken}
    else:
        agents = {agent_id for agent_id, status in changes.seats.items() if status is ParticipantStatus.LEFT}
        if changes.turn is not None:
            agents.add(changes.turn.agent_id)
    processes = {meeting.processes[agent_id] for agent_id in agents if agent_id in meeting.processes}
    if meeting.delivery is not None and _ends_current(changes) and wanted.claim is None:
        _, state, _, owner = meeting.delivery
        if state is DeliveryState.CLAIMED and owner is not None:
            processes.add(owner)  # to stop the handler
    return processes


def _ends_current(changes: Changes) -> bool:
    return any(opening is None for opening, _ in changes.ended)


def _number(meeting: Meeting) -> int | None:
    return None if meeting.turn is None else meeting.turn.number


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * _SECOND)


# --- writes -----------------------------------------------------------------------------------------------------------


def _store(
    connection: apsw.Connection,
    accepted: list[tuple[Wanted, Meeting, Changes]],
    owner: str | None,
    instant: Instant,
) -> None:
    names = _find_names(connection, [changes for _, _, changes in accepted])
    writing = Writing()
    for wanted, meeting, changes in accepted:
        _plan(writing, wanted, meeting, changes, names, owner)
    _write(connection, writing, owner, instant)


def _find_names(connection: apsw.Connection, all_changes: list[Changes]) -> dict[str, str]:
    named = {id for changes in all_changes for id in assembly.agents_named(changes)}
    if not named:
        return {}
    names: dict[str, str] = fetch(connection, _SQL["act_find_names"], {"agents": encode(sorted(named))})
    return names


def _plan(
    writing: Writing, wanted: Wanted, meeting: Meeting, changes: Changes, names: dict[str, str], owner: str | None
) -> None:
    """Add the rows of one meeting."""
    meeting_id = wanted.meeting_id
    said = _plan_speech(writing, wanted, changes)
    for note in changes.notes:
        content = encode(assembly.render(note.content, names))
        body = (note.type, content, None, checksum(content, None))
        writing.add_message(uuid7(), Kind.MEETING, note.about_id, None, meeting_id, *body)
    for event in changes.events:
        data = encode(assembly.render(event.data, names))
        row = (meeting_id, event.type, event.agent_id, data, checksum(data, None))
        writing.events.append((row, said if event.has_message else None))
    for opening, how in changes.ended:
        if opening is None:
            number = _number(meeting)
            writing.ended.append(((meeting_id, number, how), said if changes.speech_turn == number else None))
        else:
            writing.turns.append((_turn(meeting_id, opening, how), None, said))
    if changes.turn is not None:
        place = None
        if changes.turn.purpose is Purpose.SPEAK:
            place = _plan_duty(writing, meeting_id, meeting, changes.turn)
        writing.turns.append((_turn(meeting_id, changes.turn, None), place, None))
    if changes.status is not None or changes.turn is not None or changes.is_turnless:
        current = None if changes.is_turnless else _number(meeting)
        number = current if changes.turn is None else changes.turn.number
        writing.meetings.append((meeting_id, changes.status, number))
    for agent_id, status in changes.seats.items():
        seat = meeting.assembly.find_seat(agent_id)
        if seat is None or seat.status is not status:
            process_id = owner if isinstance(wanted.act, Attend) else None
            writing.seats.append((meeting_id, agent_id, status, process_id))
    if meeting.delivery is not None and (wanted.claim is not None or _ends_current(changes)):
        end = DeliveryState.WITHDRAWN if wanted.claim is None else DeliveryState.DONE
        writing.ended_deliveries.append((meeting.delivery[0], end))
    if changes.withdraws_invitations:
        leaving = [agent_id for agent_id, status in changes.seats.items() if status is ParticipantStatus.LEFT]
        writing.invitations.append((meeting_id, leaving[0] if leaving else None))
        writing.most_invitations = max(writing.most_invitations, len(meeting.assembly.seats))


def _plan_speech(writing: Writing, wanted: Wanted, changes: Changes) -> int | None:
    """Where the act says something: the place of its message."""
    if changes.speech_turn is None:
        return None
    speech = wanted.speech
    assert speech is not None, "an act with a message comes with it"
    if key := _key(wanted):
        writing.keys.append((*key, speech.fingerprint, [speech.message_id]))
    body = (MessageType.USER_DEFINED, speech.content, speech.metadata, speech.checksum)
    return writing.add_message(speech.message_id, Kind.MEETING, wanted.agent_id, None, wanted.meeting_id, *body)


def _plan_duty(writing: Writing, meeting_id: str, meeting: Meeting, turn: NewTurn) -> int:
    """The message by which a turn handler is told, and its delivery; answers its place."""
    host_id = meeting.assembly.host_id
    content = encode({"meeting_id": meeting_id, "turn": turn.number})
    body = (MessageType.SYSTEM, content, None, checksum(content, None))
    place = writing.add_message(uuid7(), Kind.TURN, host_id, turn.agent_id, meeting_id, *body)
    row = (turn.agent_id, Kind.TURN, host_id, meeting.max_attempts, turn.limit)
    writing.deliveries.append((place, row))
    return place


def _turn(meeting_id: str, turn: NewTurn, how: TurnEnd | None) -> Row:
    return (meeting_id, turn.number, turn.agent_id, turn.purpose, _microseconds(turn.limit), how)


def _write(connection: apsw.Connection, writing: Writing, owner: str | None, instant: Instant) -> None:
    def execute(name: str, rows: Sequence[Row], **parameters: object) -> None:
        if rows:
            values = {"rows": encode(rows), "at": instant.at, "now": instant.due, "owner": owner, **parameters}
            connection.execute(_SQL[name], values)

    execute("act_insert_messages", writing.messages)
    first = connection.last_insert_rowid() - len(writing.messages) + 1

    def seq(place: int | None) -> int | None:
        return None if place is None else first + place

    execute("act_insert_deliveries", [(seq(place), *row) for place, row in writing.deliveries])
    # The current turn ends before the next begins: one at a time is current (turns_current).
    execute("act_end_turn", [(*row, seq(said)) for row, said in writing.ended])
    execute("act_insert_turns", [(*row, seq(place), seq(said)) for row, place, said in writing.turns])
    execute("act_meeting", writing.meetings)
    execute("act_seats", writing.seats)
    execute("act_insert_events", [(*row, seq(said)) for row, said in writing.events])
    execute("act_end_delivery", writing.ended_deliveries)
    execute("act_withdraw_invitations", writing.invitations, most=writing.most_invitations)
    if writing.keys:
        connection.execute(_DELIVERIES["append_insert_keys"], {"rows": encode(writing.keys), "at": instant.at})
