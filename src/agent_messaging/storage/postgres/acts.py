"""Acts on meetings inside a transaction: it loads what the rules need, asks them, and writes the `Minutes`.

One statement locks all deliveries that it ends, in the order of seq as everywhere, so no two transactions wait for each
other, however many meetings each changes. sql/meetings.sql tells of the locks.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from ...exceptions import StorageCorruptError
from ...models import MeetingStatus, ParticipantStatus, SpeakerSelection
from ..acts import Wanted
from ..aside import read, seconds
from ..assembly.rules import decide
from ..assembly.terms import Assembly, Changes, CurrentTurn, Purpose, Seat, Vanish
from ..minutes import Meeting, Minutes, Question, Row
from ..ports import TurnRow
from ..sql import Queries
from .engine import Connection, columns

_SQL = Queries(__package__, "meetings")


# --- loading ----------------------------------------------------------------------------------------------------------


async def lock(connection: Connection, meeting_ids: Sequence[str]) -> None:
    """Lock those of the meetings that exist, until the commit."""
    await connection.execute(_SQL["act_lock"], meeting_ids)


async def try_lock(connection: Connection, meeting_ids: Sequence[str], wait: float) -> set[str]:
    """Lock the meetings that nobody holds, and return them. The transaction waits `wait` seconds for any other lock."""
    rows = await connection.fetch(_SQL["act_try_lock"], meeting_ids, str(int(wait * 1000)))
    return {row["meeting_id"] for row in rows}


async def gather(connection: Connection, meeting_ids: Sequence[str], now: datetime | None) -> list[Meeting]:
    """Read those of the locked meetings that exist."""
    nothing = [None] * len(meeting_ids)
    rows = await connection.fetch(_SQL["act_load"], meeting_ids, now, *[nothing] * 5)
    return [read(_gathering, row, "the meeting") for row in rows if row["status"] is not None]


async def find_questions(connection: Connection, wanted: Sequence[Wanted]) -> list[Question]:
    """Read the locked meetings, one for each act, and all that the acts refer to."""
    rows = await connection.fetch(
        _SQL["act_load"],
        [one.meeting_id for one in wanted],
        wanted[0].now,
        [one.claim and one.claim.seq for one in wanted],
        [one.claim and one.claim.token for one in wanted],
        [one.speech and one.speech.message_id for one in wanted],
        [one.key and one.key[0] for one in wanted],
        [one.key and one.key[1] for one in wanted],
    )
    return [_question(row) for row in rows]


def _question(row: Any) -> Question:
    return Question(
        meeting=read(_gathering, row, "the meeting") if row["status"] is not None else None,
        said_in=row["said_in"],
        use=None if row["fingerprint"] is None else (row["fingerprint"], row["message_ids"]),
        is_claim_open=row["claimed_seq"] is not None and row["claimed_seq"] == row["delivery_seq"],
    )


def _gathering(row: Any) -> Meeting:
    seats = json.loads(row["seats"])
    turn = to_turn(row)
    return Meeting(
        meeting_id=row["meeting_id"],
        now=row["now"],
        assembly=Assembly(
            host_id=row["host_id"],
            status=MeetingStatus(row["status"]),
            selection=SpeakerSelection(row["selection"]),
            turn_duration=seconds(row["turn_duration"]),
            seats=tuple(Seat(agent_id, order, ParticipantStatus(status)) for agent_id, order, status, _, _ in seats),
            turn=None
            if turn is None
            else CurrentTurn(turn.number, turn.agent_id, turn.purpose, row["is_over"], turn.next_id),
            last_speaker_id=row["last_speaker_id"],
            host_speaks=row["host_speaks"],
            end_when=row["end_when"],
            turns_left=row["turns_left"],
            left=seconds(row["max_duration"]) if row["meeting_left"] is None else row["meeting_left"],
        ),
        turn=turn,
        delivery_seq=row["delivery_seq"],
        max_attempts=row["max_attempts"],
        processes={agent_id: process_id for agent_id, _, _, process_id, _ in seats},
        external_ids={agent_id: external_id for agent_id, _, _, _, external_id in seats},
    )


def to_turn(row: Any) -> TurnRow | None:
    """Read the current turn from a row of any query of meetings."""
    if row["turn_number"] is None:
        return None
    return TurnRow(
        number=row["turn_number"],
        agent_id=row["turn_agent_id"],
        purpose=Purpose(row["turn_purpose"]),
        started_at=row["turn_started_at"],
        deadline_at=row["turn_deadline_at"],
        left=row["turn_left"],
        next_id=row["turn_next_id"],
    )


# --- writing ----------------------------------------------------------------------------------------------------------


async def write(connection: Connection, minutes: Minutes) -> bool:
    """Write the minutes; False if another transaction has used an idempotency key meanwhile: roll back, begin again."""
    if not minutes.acted:
        return True
    rows = await connection.fetch(
        _SQL["act_write"],
        minutes.now,
        minutes.owner,
        *columns((_meeting(row, minutes.now) for row in minutes.meetings), 10),
        *columns(minutes.seats, 4),
        *columns(minutes.ended, 4),
        *columns((_turn(row, minutes.now) for row in minutes.turns), 9),
        *columns(minutes.messages, 11),
        *columns(minutes.events, 6),
        *columns(minutes.closed, 3),
        *columns(minutes.invitations, 2),
        *columns(minutes.keys, 4),
    )
    for row in rows:
        meeting_id, agent_id = row["meeting_id"], row["agent_id"]
        # Also woken: a process whose claim is over, and one that sat down since the meeting was read.
        if row["process_id"] is not None and (agent_id is None or agent_id in minutes.told[meeting_id]):
            minutes.acted[meeting_id].processes.add(row["process_id"])
    return len([row for row in rows if row["is_keyed"]]) == len(minutes.keys)


def _meeting(row: Row, now: datetime | None) -> Row:
    """Put the deadline in the place of the seconds."""
    *head, limit, reason = row
    return (*head, _after(now, limit), reason)


def _turn(row: Row, now: datetime | None) -> Row:
    """Put the deadline in the place of the seconds."""
    *head, limit, how, duty, message = row
    return (*head, _after(now, limit), how, duty, message)


def _after(now: datetime | None, limit: float | None) -> datetime | None:
    return None if limit is None or now is None else now + timedelta(seconds=limit)


# --- agents that go ---------------------------------------------------------------------------------------------------


async def _gather_readable(connection: Connection, meeting_ids: Sequence[str]) -> list[Meeting]:
    """Read the meetings that can be read. An agent goes although it cannot leave the others."""
    try:
        return await gather(connection, meeting_ids, None)
    except StorageCorruptError:
        found: list[Meeting] = []
        for meeting_id in meeting_ids:
            with suppress(StorageCorruptError):
                found += await gather(connection, [meeting_id], None)
        return found


async def vanish(connection: Connection, agent_ids: Collection[str]) -> None:
    """Make locked agents leave the meetings of others. All that was said in their own meetings is removed."""
    found = await connection.fetch(_SQL["vanish_find"], list(agent_ids))
    hosted = [row["meeting_id"] for row in found if row["host_id"] in agent_ids]
    open_ids = [row["meeting_id"] for row in found if row["host_id"] not in agent_ids and row["status"] != "ended"]
    # One agent of each meeting in a round, because it is judged by the state that the one before it left.
    left: dict[str, int] = {}
    while open_ids:
        minutes = Minutes(owner=None)
        for meeting in await _gather_readable(connection, open_ids):
            going = [s.agent_id for s in meeting.assembly.seats if s.is_taken and s.agent_id in agent_ids]
            if going:
                wanted = Wanted(meeting.meeting_id, Vanish(going[0]))
                changes = decide(meeting.assembly, wanted.act)
                assert isinstance(changes, Changes), changes
                minutes.add(wanted, meeting, changes)
                left[meeting.meeting_id] = len(going) - 1
        await write(connection, minutes)
        open_ids = [meeting_id for meeting_id in open_ids if left.pop(meeting_id, 0)]
    if hosted:
        await connection.execute(_SQL["vanish_messages"], hosted)
