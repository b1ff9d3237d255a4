"""Acts upon meetings: loaded under the locks of their rows, decided by `assembly`, written in one statement.

`gather` loads, `Minutes` collects what the decisions change, of one meeting or of a page of them, and writes it. One
statement locks all deliveries that it ends, in the order of seq as everywhere: so no two transactions wait for each
other, however many meetings each changes. The locks: sql/meetings.sql.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ...exceptions import StorageCorruptError
from ...ids import uuid7
from ...models import Kind, MeetingStatus, MessageType, ParticipantStatus, SpeakerSelection
from ...payloads import checksum
from ..acts import Wanted
from ..aside import read, seconds
from ..assembly import Assembly, Changes, CurrentTurn, NewTurn, Purpose, Seat, Vanish, decide, render
from ..ports import Acted, Duplicate, KeyConflict, NewSpeech, TurnRow
from ..sql import Queries
from .engine import Connection

_SQL = Queries(__package__, "meetings")


@dataclass(frozen=True, slots=True)
class Gathering:
    """A meeting that is locked, as it stands."""

    meeting_id: str
    now: datetime
    """By the store's clock: the instant at which acts are judged, and take effect."""
    assembly: Assembly
    turn: TurnRow | None
    """The current one."""
    delivery_seq: int | None
    """Of the current turn."""
    max_attempts: int
    processes: dict[str, str | None]
    """To be woken, by agent."""
    external_ids: dict[str, str]


# --- loading ----------------------------------------------------------------------------------------------------------


async def lock(connection: Connection, meeting_ids: Sequence[str]) -> None:
    """Lock the meetings until the commit; those that do not exist are passed over."""
    await connection.execute(_SQL["act_lock"], meeting_ids)


async def try_lock(connection: Connection, meeting_ids: Sequence[str], wait: float) -> set[str]:
    """Lock those that exist and that nobody holds. In this transaction no other lock is waited for longer (seconds)."""
    rows = await connection.fetch(_SQL["act_try_lock"], meeting_ids, str(int(wait * 1000)))
    return {row["meeting_id"] for row in rows}


async def gather(connection: Connection, meeting_ids: Sequence[str], now: datetime | None) -> list[Gathering]:
    """Read the meetings, locked before, that exist."""
    nothing = [None] * len(meeting_ids)
    rows = await connection.fetch(_SQL["act_load"], meeting_ids, now, *[nothing] * 5)
    return [read(_gathering, row, "the meeting") for row in rows if row["status"] is not None]


@dataclass(frozen=True, slots=True)
class Question:
    """What else an act needs to know."""

    meeting: Gathering | None
    said_in: int | None
    """The number of the turn in which its speech is stored already."""
    key: Duplicate | KeyConflict | None
    """What its idempotency key says, where it was used before."""
    is_claim_open: bool
    """Its claim is the newest of the current turn's delivery, and stays open until the commit."""


async def find_questions(connection: Connection, wanted: Sequence[Wanted]) -> list[Question]:
    """Read the meetings, one for each act and locked before, and what the acts refer to."""
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
    return [_question(one, row) for one, row in zip(wanted, rows, strict=True)]


def _question(wanted: Wanted, row: Any) -> Question:
    use: Duplicate | KeyConflict | None = None
    if wanted.speech is not None and row["fingerprint"] is not None:
        is_same = row["fingerprint"] == wanted.speech.fingerprint
        use = Duplicate(row["message_ids"]) if is_same else KeyConflict()
    return Question(
        meeting=read(_gathering, row, "the meeting") if row["status"] is not None else None,
        said_in=row["said_in"],
        key=use,
        is_claim_open=row["claimed_seq"] is not None and row["claimed_seq"] == row["delivery_seq"],
    )


def _gathering(row: Any) -> Gathering:
    seats = json.loads(row["seats"])
    turn = to_turn(row)
    return Gathering(
        meeting_id=row["meeting_id"],
        now=row["now"],
        assembly=Assembly(
            host_id=row["host_id"],
            status=MeetingStatus(row["status"]),
            selection=SpeakerSelection(row["selection"]),
            turn_duration=seconds(row["turn_duration"]),
            seats=tuple(Seat(agent_id, order, ParticipantStatus(status)) for agent_id, order, status, _, _ in seats),
            turn=None if turn is None else CurrentTurn(turn.number, turn.agent_id, turn.purpose, row["is_over"]),
            last_speaker_id=row["last_speaker_id"],
        ),
        turn=turn,
        delivery_seq=row["delivery_seq"],
        max_attempts=row["max_attempts"],
        processes={agent_id: process_id for agent_id, _, _, process_id, _ in seats},
        external_ids={agent_id: external_id for agent_id, _, _, _, external_id in seats},
    )


def to_turn(row: Any) -> TurnRow | None:
    """The current turn, of any query that reads meetings with theirs."""
    if row["turn_number"] is None:
        return None
    return TurnRow(
        number=row["turn_number"],
        agent_id=row["turn_agent_id"],
        purpose=Purpose(row["turn_purpose"]),
        started_at=row["turn_started_at"],
        deadline_at=row["turn_deadline_at"],
        left=row["turn_left"],
    )


# --- writing ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Minutes:
    """What acts change, collected as rows, to be written in one statement. Of each meeting one act at most."""

    owner: str | None
    """The process that acts."""
    now: datetime | None = None
    acted: dict[str, Acted] = field(default_factory=dict)
    """What becomes of the meetings, complete once it is written."""
    _told: dict[str, set[str]] = field(default_factory=dict)
    """The agents whose processes are to be woken, by meeting."""
    _meetings: list[tuple[object, ...]] = field(default_factory=list)
    _seats: list[tuple[object, ...]] = field(default_factory=list)
    _ended: list[tuple[object, ...]] = field(default_factory=list)
    _turns: list[tuple[object, ...]] = field(default_factory=list)
    _messages: list[tuple[object, ...]] = field(default_factory=list)
    _events: list[tuple[object, ...]] = field(default_factory=list)
    _closed: list[tuple[object, ...]] = field(default_factory=list)
    _invitations: list[tuple[object, ...]] = field(default_factory=list)
    _keys: list[tuple[object, ...]] = field(default_factory=list)

    def add(
        self,
        meeting: Gathering,
        changes: Changes,
        *,
        speaker_id: str | None = None,
        speech: NewSpeech | None = None,
        is_claimed: bool = False,
        comer_id: str | None = None,
    ) -> None:
        """Take in what a decision changes.

        Args:
            meeting: As it was decided upon.
            changes: The decision.
            speaker_id: Who says `speech`.
            speech: What is said; stored if the decision has a turn for it.
            is_claimed: The act is made under the claim on the current turn's delivery, and settles it.
            comer_id: The agent whose process is the acting one from now on.
        """
        self.now = meeting.now
        id, assembly = meeting.meeting_id, meeting.assembly
        status = changes.status or assembly.status
        turn = None if changes.is_turnless else meeting.turn
        if changes.turn is not None:
            turn = _begun(changes.turn, meeting.now)
        self._meetings.append((id, str(status), turn and turn.number))
        for agent_id, seat in changes.seats.items():
            self._seats.append((id, agent_id, str(seat), self.owner if agent_id == comer_id else None))

        said = None
        if changes.speech_turn is not None:
            assert speech is not None, "there is nothing to say"
            said = self._say(meeting, str(speaker_id), speech)
        for note in changes.notes:
            content = dump(render(note.content, meeting.external_ids))
            self._add_message(meeting, uuid7(), Kind.MEETING, note.type, note.about_id, content)
        ended_number = None
        for ended, how in changes.ended:
            ended_number = _number(ended, meeting)
            message = said if ended_number == changes.speech_turn else None
            if ended is None:
                self._ended.append((id, ended_number, str(how), message))
            else:
                self._add_turn(meeting, ended, str(how), None, message)
            if ended is None and meeting.delivery_seq is not None:
                self._closed.append((id, meeting.delivery_seq, "done" if is_claimed else "withdrawn"))
        if changes.turn is not None:
            self._add_turn(meeting, changes.turn, None, self._call_up(meeting, changes.turn), None)
        for event in changes.events:
            data = dump(render(event.data, meeting.external_ids))
            message = said if event.has_message else None
            self._events.append((id, str(event.type), event.agent_id, data, checksum(data, None), message))
        gone = [agent_id for agent_id, seat in changes.seats.items() if seat is ParticipantStatus.LEFT]
        if changes.withdraws_invitations:
            self._invitations += [(id, agent_id) for agent_id in gone] or [(id, None)]

        # A new status is news for everybody, such as for who waits for all to attend.
        told = gone if changes.status is None else [seat.agent_id for seat in assembly.seats if seat.is_taken]
        called = [] if changes.turn is None else [changes.turn.agent_id]
        self._told[id] = {*told, *called}
        self.acted[id] = Acted(
            status=status,
            turn=turn,
            ended_turn=ended_number,
            message_id=None if said is None or speech is None else speech.message_id,
            processes={process for agent in self._told[id] if (process := meeting.processes.get(agent)) is not None},
        )

    async def write(self, connection: Connection) -> bool:
        """Write it all; False if another transaction has used the idempotency key meanwhile: roll back, begin anew."""
        if not self._meetings:
            return True
        rows = await connection.fetch(
            _SQL["act_write"],
            self.now,
            self.owner,
            *_columns(self._meetings, 3),
            *_columns(self._seats, 4),
            *_columns(self._ended, 4),
            *_columns(self._turns, 8),
            *_columns(self._messages, 11),
            *_columns(self._events, 6),
            *_columns(self._closed, 3),
            *_columns(self._invitations, 2),
            *_columns(self._keys, 4),
        )
        for row in rows:
            if row["process_id"] is not None and self._is_told(row["meeting_id"], row["agent_id"]):
                self.acted[row["meeting_id"]].processes.add(row["process_id"])
        return len([row for row in rows if row["is_keyed"]]) == len(self._keys)

    def _is_told(self, meeting_id: str, agent_id: str | None) -> bool:
        """Whether a process is to be woken: its claim is over, or it sat down since the meeting was read."""
        return agent_id is None or agent_id in self._told[meeting_id]

    def _say(self, meeting: Gathering, speaker_id: str, speech: NewSpeech) -> int:
        if speech.idempotency_key is not None:
            self._keys.append((speaker_id, speech.idempotency_key, speech.fingerprint, speech.message_id))
        return self._add_message(
            meeting,
            speech.message_id,
            Kind.MEETING,
            MessageType.USER_DEFINED,
            speaker_id,
            speech.content,
            metadata=speech.metadata,
            crc=speech.checksum,
        )

    def _call_up(self, meeting: Gathering, turn: NewTurn) -> int | None:
        """The message whose delivery is the duty of a turn handler; where somebody is to be chosen there is none."""
        if turn.purpose is not Purpose.SPEAK:
            return None
        content = dump({"meeting_id": meeting.meeting_id, "turn": turn.number})
        host_id = meeting.assembly.host_id
        return self._add_message(
            meeting,
            uuid7(),
            Kind.TURN,
            MessageType.SYSTEM,
            host_id,
            content,
            recipient_id=turn.agent_id,
            limit=turn.limit,
        )

    def _add_message(
        self,
        meeting: Gathering,
        message_id: str,
        kind: Kind,
        type: MessageType,
        sender_id: str,
        content: str,
        *,
        recipient_id: str | None = None,
        metadata: str | None = None,
        crc: int | None = None,
        limit: float | None = None,
    ) -> int:
        """Returns its position, from 1; in their order they get their seq."""
        crc = checksum(content, metadata) if crc is None else crc
        attempts = meeting.max_attempts
        self._messages.append(
            (
                *(meeting.meeting_id, message_id, str(kind), str(type), sender_id, recipient_id),
                *(content, metadata, crc, attempts, limit),
            )
        )
        return len(self._messages)

    def _add_turn(
        self, meeting: Gathering, turn: NewTurn, how: str | None, delivery: int | None, message: int | None
    ) -> None:
        row = _begun(turn, meeting.now)
        self._turns.append(
            (
                *(meeting.meeting_id, turn.number, turn.agent_id, str(turn.purpose)),
                *(row.deadline_at, how, delivery, message),
            )
        )


def _begun(turn: NewTurn, now: datetime) -> TurnRow:
    deadline_at = None if turn.limit is None else now + timedelta(seconds=turn.limit)
    return TurnRow(turn.number, turn.agent_id, turn.purpose, now, deadline_at, turn.limit)


def _number(ended: NewTurn | None, meeting: Gathering) -> int | None:
    if ended is not None:
        return ended.number
    return None if meeting.turn is None else meeting.turn.number


def dump(value: dict[str, Any]) -> str:
    """The JSON text of what the SDK itself says."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _columns(rows: Iterable[tuple[object, ...]], number: int) -> list[list[object]]:
    """Rows as one array per column, also if there are none."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(number)]


# --- agents that go ---------------------------------------------------------------------------------------------------


async def _gather_readable(connection: Connection, meeting_ids: Sequence[str]) -> list[Gathering]:
    """Those that can be read: who goes leaves no seat in the others either."""
    try:
        return await gather(connection, meeting_ids, None)
    except StorageCorruptError:
        found: list[Gathering] = []
        for meeting_id in meeting_ids:
            with suppress(StorageCorruptError):
                found += await gather(connection, [meeting_id], None)
        return found


async def vanish(connection: Connection, agent_ids: Collection[str]) -> None:
    """Let agents, locked before, leave the meetings of others; what was said in their own goes with these."""
    found = await connection.fetch(_SQL["vanish_find"], list(agent_ids))
    hosted = [row["meeting_id"] for row in found if row["host_id"] in agent_ids]
    open_ids = [row["meeting_id"] for row in found if row["host_id"] not in agent_ids and row["status"] != "ended"]
    # One after the other of a meeting's, because each leaves what the one before has left; a round for all meetings.
    left: dict[str, int] = {}
    while open_ids:
        minutes = Minutes(owner=None)
        for meeting in await _gather_readable(connection, open_ids):
            going = [s.agent_id for s in meeting.assembly.seats if s.is_taken and s.agent_id in agent_ids]
            if going:
                changes = decide(meeting.assembly, Vanish(going[0]))
                assert isinstance(changes, Changes), changes
                minutes.add(meeting, changes)
                left[meeting.meeting_id] = len(going) - 1
        await minutes.write(connection)
        open_ids = [meeting_id for meeting_id in open_ids if left.pop(meeting_id, 0)]
    if hosted:
        await connection.execute(_SQL["vanish_messages"], hosted)
