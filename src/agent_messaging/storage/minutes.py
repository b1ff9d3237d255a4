"""The rows that acts on meetings write; pure, once for every backend.

A backend loads a `Question` for each act, asks `judge`, gives the changes to `Minutes`, and writes their rows in the
same transaction. A row that refers to a message has its position, from 1, in the messages of the minutes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime, timedelta
from typing import Any

from ..ids import uuid7
from ..models import DeliveryState, Kind, MeetingStatus, MessageType, ParticipantStatus
from ..payloads import checksum
from ..records import dataclass
from .acts import Wanted
from .admission import Use, judge_repeat
from .assembly.rules import decide
from .assembly.terms import Assembly, Attend, Bounds, Changes, NewTurn, Purpose, Refused, Why, render
from .ports import Acted, NewSpeech, Outcome, TurnRow

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Meeting:
    """A meeting as it was loaded."""

    meeting_id: str
    now: datetime
    """By the store's clock: the instant at which acts are judged, and take effect."""
    assembly: Assembly
    turn: TurnRow | None
    """The current one."""
    delivery_seq: int | None
    """Of the current turn."""
    max_attempts: int
    processes: Mapping[str, str | None]
    """To be woken, by agent."""
    external_ids: dict[str, str]
    """Of its agents, or of those at least whom the changes name."""
    claimant: str | None = None
    """The process that has claimed the current turn's delivery, where it is known before that is ended."""

    @property
    def number(self) -> int | None:
        """Of the current turn."""
        return None if self.turn is None else self.turn.number


@dataclass(frozen=True, slots=True)
class Question:
    """All that is to be known to judge an act."""

    meeting: Meeting | None
    said_in: int | None
    """The number of the turn in which its speech is stored already."""
    use: Use | None
    """What its idempotency key was used for before."""
    is_claim_open: bool
    """Its claim is the newest of the current turn's delivery, and stays open until the commit."""


def judge(wanted: Wanted, asked: Question) -> Changes | Outcome:
    """Return the changes of an act, or its outcome if it changes nothing."""
    meeting, speech = asked.meeting, wanted.speech
    if speech is not None and meeting is not None and asked.said_in is not None:
        # Perhaps its caller never heard the answer, and nobody was woken.
        told = {process_id for process_id in meeting.processes.values() if process_id is not None}
        return Acted(meeting.assembly.status, meeting.turn, asked.said_in, speech.message_id, told)
    if speech is not None and asked.use is not None:
        return judge_repeat(asked.use, speech.fingerprint)
    if meeting is None:
        return None
    if wanted.claim is not None and not asked.is_claim_open:
        turn = meeting.turn
        holder_id, number = (None, None) if turn is None else (turn.agent_id, turn.number)
        return Refused(Why.TURN_LOST, meeting.assembly.status, holder_id, number)
    return decide(meeting.assembly, wanted.act)


@dataclass(slots=True)
class Minutes:
    """The changes of acts, collected as rows. There is at most one act on each meeting."""

    owner: str | None
    """The process that acts."""
    now: datetime | None = None
    acted: dict[str, Acted] = field(default_factory=dict)
    """What becomes of the meetings."""
    told: dict[str, set[str]] = field(default_factory=dict)
    """The agents whose processes are to be woken, by meeting."""
    most_seats: int = 0
    """Of any of the meetings."""
    meetings: list[Row] = field(default_factory=list)
    """Meeting, status, number of the current turn, turns for speaking that end, whether it starts, the three `Bounds`
    that are new then, the seconds that it has, why it ended."""
    seats: list[Row] = field(default_factory=list)
    """Meeting, agent, status, process to be woken from now on or None."""
    ended: list[Row] = field(default_factory=list)
    """Meeting, number of the turn that was current, how it ended, position of what was said in it."""
    turns: list[Row] = field(default_factory=list)
    """Meeting, number, agent, purpose, agent that is to follow, seconds, how it ended if at once, positions of its duty
    and of what was said."""
    messages: list[Row] = field(default_factory=list)
    """Meeting, id, kind, type, sender, recipient, content, metadata, checksum, and of one with a recipient, who gets it
    delivered: attempts, seconds that it may take."""
    events: list[Row] = field(default_factory=list)
    """Meeting, type, agent, data, checksum, position of what was said."""
    closed: list[Row] = field(default_factory=list)
    """Meeting, seq of a delivery that ends, its last state."""
    invitations: list[Row] = field(default_factory=list)
    """Meeting and agent, or None for all, whose invitations are withdrawn."""
    keys: list[Row] = field(default_factory=list)
    """Sender, key, fingerprint, message id."""

    def add(self, wanted: Wanted, meeting: Meeting, changes: Changes) -> Acted:
        """Take in the changes of an act, and return the meeting as it leaves it."""
        self.now = meeting.now
        id, assembly = meeting.meeting_id, meeting.assembly
        self.most_seats = max(self.most_seats, len(assembly.seats))
        status = changes.status or assembly.status
        turn = None if status is MeetingStatus.ENDED else meeting.turn
        if changes.turn is not None:
            turn = _begun(changes.turn, meeting.now)
        if changes.status is not None or changes.turn is not None:
            speaks = meeting.turn is not None and meeting.turn.purpose is Purpose.SPEAK
            taken = sum(opening is not None or speaks for opening, _ in changes.ended)
            bounds = changes.starts or Bounds()
            limit = None if changes.starts is None else bounds.bind(assembly).left
            self.meetings.append(
                (
                    *(id, str(status), turn and turn.number, taken, changes.starts is not None),
                    *(bounds.max_turns, bounds.max_duration, bounds.end_when),
                    *(limit, changes.end_reason and str(changes.end_reason)),
                )
            )
        comer_id = wanted.agent_id if isinstance(wanted.act, Attend) else None
        for agent_id, seat in changes.seats.items():
            self.seats.append((id, agent_id, str(seat), self.owner if agent_id == comer_id else None))

        said = None
        if changes.speech_turn is not None:
            assert wanted.speech is not None, "there is nothing to say"
            said = self._say(meeting, str(wanted.agent_id), wanted.speech)
        for note in changes.notes:
            content = dump(render(note.content, meeting.external_ids))
            self._add_message(meeting, uuid7(), Kind.MEETING, note.type, note.about_id, content)
        ended_number = None
        is_current_over = False
        for ended, how in changes.ended:
            ended_number = meeting.number if ended is None else ended.number
            message = said if ended_number == changes.speech_turn else None
            if ended is None:
                is_current_over = True
                self.ended.append((id, ended_number, str(how), message))
            else:
                self._add_turn(meeting, ended, str(how), None, message)
        if is_current_over and meeting.delivery_seq is not None:
            last = DeliveryState.WITHDRAWN if wanted.claim is None else DeliveryState.DONE
            self.closed.append((id, meeting.delivery_seq, str(last)))
        if changes.turn is not None:
            self._add_turn(meeting, changes.turn, None, self._call_up(meeting, changes.turn), None)
        for event in changes.events:
            data = dump(render(event.data, meeting.external_ids))
            message = said if event.has_message else None
            self.events.append((id, str(event.type), event.agent_id, data, checksum(data, None), message))
        gone = [agent_id for agent_id, seat in changes.seats.items() if seat is ParticipantStatus.LEFT]
        if changes.withdraws_invitations:
            self.invitations += [(id, agent_id) for agent_id in gone] or [(id, None)]

        # A new status is news for everybody: callers may wait for it.
        told = gone if changes.status is None else [seat.agent_id for seat in assembly.seats if seat.is_taken]
        called = [] if changes.turn is None else [changes.turn.agent_id]
        self.told[id] = {*told, *called}
        processes = {process for agent in self.told[id] if (process := meeting.processes.get(agent)) is not None}
        if is_current_over and wanted.claim is None and meeting.claimant is not None:
            processes.add(meeting.claimant)  # to stop the handler
        message_id = None if said is None or wanted.speech is None else wanted.speech.message_id
        seats = sum(seat.is_taken for seat in assembly.seats) - len(gone)
        self.acted[id] = Acted(status, turn, ended_number, message_id, processes, seats)
        return self.acted[id]

    def _say(self, meeting: Meeting, speaker_id: str, speech: NewSpeech) -> int:
        if speech.idempotency_key is not None:
            self.keys.append((speaker_id, speech.idempotency_key, speech.fingerprint, speech.message_id))
        body = (speech.content, speech.metadata, speech.checksum)
        return self._add_message(meeting, speech.message_id, Kind.MEETING, MessageType.USER_DEFINED, speaker_id, *body)

    def _call_up(self, meeting: Meeting, turn: NewTurn) -> int | None:
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
        meeting: Meeting,
        message_id: str,
        kind: Kind,
        type: MessageType,
        sender_id: str,
        content: str,
        metadata: str | None = None,
        crc: int | None = None,
        *,
        recipient_id: str | None = None,
        limit: float | None = None,
    ) -> int:
        """Returns its position; in their order they get their seq."""
        crc = checksum(content, metadata) if crc is None else crc
        self.messages.append(
            (
                *(meeting.meeting_id, message_id, str(kind), str(type), sender_id, recipient_id),
                *(content, metadata, crc, meeting.max_attempts, limit),
            )
        )
        return len(self.messages)

    def _add_turn(
        self, meeting: Meeting, turn: NewTurn, how: str | None, duty: int | None, message: int | None
    ) -> None:
        self.turns.append(
            (
                *(meeting.meeting_id, turn.number, turn.agent_id, str(turn.purpose), turn.next_id),
                *(turn.limit, how, duty, message),
            )
        )


def _begun(turn: NewTurn, now: datetime) -> TurnRow:
    deadline_at = None if turn.limit is None else now + timedelta(seconds=turn.limit)
    return TurnRow(turn.number, turn.agent_id, turn.purpose, now, deadline_at, turn.limit, next_id=turn.next_id)


def dump(value: dict[str, Any]) -> str:
    """The JSON text of what the SDK itself says."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
