"""Acts on meetings inside a transaction: it loads what the rules need, asks them, and writes the `Minutes`.

Reading and then writing is safe because there is one writer at a time (BEGIN IMMEDIATE). The number of statements does
not depend on the number of meetings.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import apsw

from ...exceptions import StorageCorruptError
from ...models import DeliveryState, MeetingStatus, ParticipantStatus, SpeakerSelection
from ..acts import Wanted
from ..admission import Key
from ..aside import read, seconds
from ..assembly.terms import Assembly, Changes, CurrentTurn, Seat, Vanish, agents_named
from ..minutes import Meeting, Minutes, Question, Row, judge
from ..ports import Outcome, TurnRow
from ..sql import Queries
from .append import find_keys
from .clock import SECOND, Instant, to_datetime
from .engine import fetch
from .filing import file, find_next
from .rows import encode, turn_row_or_none

_SQL = Queries(__package__, "meetings")
_DELIVERIES = Queries(__package__, "deliveries")
_MICROSECOND = timedelta(microseconds=1)
_CALL = "speak"
"""That keys are for."""
_UNFIT = (StorageCorruptError, apsw.ConstraintError)
"""What an act on a meeting raises whose rows cannot be read, or name who does not exist."""

Loaded = tuple[Meeting, tuple[Any, Any] | None, int | None]
"""With the open claim on the current turn's delivery, seq and token, and the turn of the speech if it is stored."""


def act(connection: apsw.Connection, wanted: Sequence[Wanted], owner: str | None, instant: Instant) -> list[Outcome]:
    """Do all acts and answer each. Each has a meeting and a key of its own."""
    questions = _find_questions(connection, wanted, instant)
    judged = [judge(one, asked) for one, asked in zip(wanted, questions, strict=True)]
    names = _find_names(connection, [one for one in judged if isinstance(one, Changes)])
    minutes = Minutes(owner)
    outcomes: list[Outcome] = []
    for one, asked, decision in zip(wanted, questions, judged, strict=True):
        if isinstance(decision, Changes):
            assert asked.meeting is not None
            decision = minutes.add(one, replace(asked.meeting, external_ids=names), decision)
        outcomes.append(decision)
    if minutes.acted:
        _write(connection, minutes, instant)
    return outcomes


def vanish(
    connection: apsw.Connection, instant: Instant, *, agent: str | None = None, organization: str | None = None
) -> None:
    """Make an agent, or the agents of an organization (external ids), leave the meetings of others before its removal.

    All that was said in their own meetings is removed. Those meetings go with their hosts.
    """
    parameters = {"agent": agent, "organization": organization}
    waiting: defaultdict[str, deque[str]] = defaultdict(deque)
    for meeting_id, agent_id in fetch(connection, _SQL["vanish_find"], parameters):
        waiting[meeting_id].append(agent_id)
    while waiting:
        # One agent of each meeting at a time, because it is judged by the state that the one before it left.
        leaving = [Wanted(id, Vanish(agents.popleft())) for id, agents in waiting.items()]
        try:
            with connection:  # a savepoint: all of it is written, or nothing
                act(connection, leaving, None, instant)
        except _UNFIT:
            for one in leaving:  # an agent goes although it cannot leave a meeting that is damaged
                with suppress(*_UNFIT), connection:
                    act(connection, [one], None, instant)
        waiting = defaultdict(deque, {id: agents for id, agents in waiting.items() if agents})
    connection.execute(_SQL["vanish_messages"], parameters)


# --- reads ------------------------------------------------------------------------------------------------------------


def _find_questions(connection: apsw.Connection, wanted: Sequence[Wanted], instant: Instant) -> list[Question]:
    asked = [(one.meeting_id, one.speech and one.speech.message_id) for one in wanted]
    rows = fetch(connection, _SQL["act_load"], {"meetings": encode(asked)})
    loaded: dict[str, Loaded] = dict(read(partial(_meeting, instant=instant), row, "the meeting") for row in rows)
    used = find_keys(connection, [key for one in wanted if (key := _key(one))])
    questions = []
    for one in wanted:
        meeting, claim, said_in = loaded.get(one.meeting_id, (None, None, None))
        key = _key(one)
        questions.append(
            Question(
                meeting,
                said_in=said_in,
                use=None if key is None else used.get(key),
                is_claim_open=one.claim is not None and (one.claim.seq, one.claim.token) == claim,
            )
        )
    return questions


def _meeting(row: list[Any], instant: Instant) -> tuple[str, Loaded]:
    meeting_id, host_id, status, selection, turn_duration, max_attempts, host_speaks, end_when, turns_left, *row = row
    max_duration, deadline_due, turn, delivery, last_speaker_id, seats, said_in = row
    current = turn_row_or_none(turn, instant)
    seq, state, token, owner = delivery or (None, None, None, None)
    is_claimed = state is not None and DeliveryState(state) is DeliveryState.CLAIMED
    meeting = Meeting(
        meeting_id,
        now=to_datetime(instant.at),
        assembly=Assembly(
            host_id=host_id,
            status=MeetingStatus(status),
            selection=SpeakerSelection(selection),
            turn_duration=seconds(turn_duration),
            seats=tuple(Seat(seat[0], seat[1], ParticipantStatus(seat[2])) for seat in seats),
            turn=None if current is None else _current_turn(current),
            last_speaker_id=last_speaker_id,
            host_speaks=bool(host_speaks),
            end_when=bool(end_when),
            turns_left=turns_left,
            left=seconds(max_duration) if deadline_due is None else (deadline_due - instant.due) / SECOND,
        ),
        turn=current,
        delivery_seq=seq,
        max_attempts=max_attempts,
        processes={seat[0]: seat[3] for seat in seats},
        external_ids={},
        claimant=owner if is_claimed else None,
    )
    return meeting_id, (meeting, (seq, token) if is_claimed else None, said_in)


def _current_turn(turn: TurnRow) -> CurrentTurn:
    is_over = turn.left is not None and turn.left <= 0
    return CurrentTurn(turn.number, turn.agent_id, turn.purpose, is_over, turn.next_id)


def _key(wanted: Wanted) -> Key | None:
    if wanted.key is None:
        return None
    agent_id, key = wanted.key
    return agent_id, _CALL, key


def _find_names(connection: apsw.Connection, all_changes: list[Changes]) -> dict[str, str]:
    named = {id for changes in all_changes for id in agents_named(changes)}
    if not named:
        return {}
    names: dict[str, str] = fetch(connection, _SQL["act_find_names"], {"agents": encode(sorted(named))})
    return names


# --- writes -----------------------------------------------------------------------------------------------------------


def _write(connection: apsw.Connection, minutes: Minutes, instant: Instant) -> None:
    def execute(name: str, rows: Sequence[Row], **parameters: object) -> None:
        if rows:
            values = {"rows": encode(rows), "at": instant.at, "now": instant.due, "owner": minutes.owner, **parameters}
            connection.execute(_SQL[name], values)

    first = find_next(connection) if minutes.messages else 0
    execute("act_insert_messages", minutes.messages, first=first)

    def seq(position: int | None) -> int | None:
        return None if position is None else first + position - 1

    def deliveries() -> Iterator[Row]:
        for position, (_, _, kind, _, sender_id, recipient_id, *_, attempts, limit) in enumerate(minutes.messages, 1):
            if recipient_id is not None:
                yield seq(position), recipient_id, kind, sender_id, attempts, limit

    execute("act_insert_deliveries", list(deliveries()))
    if minutes.messages:
        file(connection, first, first + len(minutes.messages) - 1)
    # The current turn ends before the next begins: one at a time is current (turns_current).
    execute("act_end_turn", [(*row, seq(said)) for *row, said in minutes.ended])
    turns = [(*row, _microseconds(limit), how, seq(duty), seq(said)) for *row, limit, how, duty, said in minutes.turns]
    execute("act_insert_turns", turns)
    execute("act_meeting", [(*row, _microseconds(limit), reason) for *row, limit, reason in minutes.meetings])
    execute("act_seats", minutes.seats)
    execute("act_insert_events", [(*row, seq(said)) for *row, said in minutes.events])
    execute("act_end_delivery", minutes.closed)
    execute("act_withdraw_invitations", minutes.invitations, most=minutes.most_seats)
    if minutes.keys:
        keys = [(sender_id, _CALL, key, fingerprint, [id]) for sender_id, key, fingerprint, id in minutes.keys]
        connection.execute(_DELIVERIES["append_insert_keys"], {"rows": encode(keys), "at": instant.at})


def _microseconds(limit: float | None) -> int | None:
    """Rounded as the deadline that the caller is told."""
    return None if limit is None else timedelta(seconds=limit) // _MICROSECOND
