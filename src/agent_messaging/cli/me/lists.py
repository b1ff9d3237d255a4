"""The lines of each tab."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ...kinds import Kind
from ...models import AskState, MeetingStatus, ParticipantStatus, Record
from ..mailbox import word_for
from .desk import Desk
from .words import DIM, NEW, URGENT, Line, Lines, clock, joined, left, number, one_line, seconds_until

EMPTY = {
    "inbox": "Nothing has come yet.",
    "questions": "Nobody waits for your answer.",
    "meetings": "You are in no meeting.",
    "sent": "You have sent nothing yet. n writes a note, a asks a question.",
    "found": "/ searches what you have sent, received and heard.",
}
"""What stands in a tab that has no lines."""
MEETING = "meeting:"
"""Begins the keys of lines that are about a meeting; the others are ids of messages."""
WORDS = {Kind.ONE_WAY: "note", Kind.CONVERSATION: "message", Kind.MEETING: "meeting"}


def lines_of(tab: str, desk: Desk, found: Sequence[Record]) -> Lines:
    """The lines of a tab, from the top."""
    lists: dict[str, tuple[Sequence[Any], Callable[[Any], Line]]] = {
        "inbox": ([*desk.inbox.items], _received),
        "questions": (desk.questions, _question),
        "meetings": (desk.meetings, partial(_meeting, desk.agent)),
        "sent": (desk.sent, _sent),
        "found": (found, partial(_match, desk.agent)),
    }
    things, make = lists[tab]
    keys = [f"{MEETING}{one.meeting_id}" if tab == "meetings" else one["message_id"] for one in things]
    return Lines(keys, lambda place: make(things[place]))


def _received(one: dict[str, Any]) -> Line:
    is_open = one["ask"] is AskState.OPEN
    is_sent = one["kind"] in WORDS
    tone = URGENT if is_open else NEW if one["read_at"] is None and is_sent else DIM
    text = joined([str(one["topic"] or one["thread"] or ""), str(one["line"])])
    if one["kind"] is Kind.INVITATION:
        text = f"you are invited to a meeting {one['line']}".strip()
    return Line(one["message_id"], clock(one["created_at"]), one["sender_id"] or "?", word_for(one), text, tone)


def _question(one: Record) -> Line:
    text = "[what is stored is damaged]" if one.is_damaged else one_line(one.content)
    time = left(seconds_until(one.deadline))
    return Line(one.message_id, time, one.sender_id or "?", "waits", joined([one.thread or "", text]), URGENT)


def _meeting(agent: str, one: Record) -> Line:
    has_turn = one.current_speaker == agent
    is_invited = one.seat is ParticipantStatus.INVITED and one.status is not MeetingStatus.ENDED
    tone = URGENT if has_turn or is_invited else DIM if one.status is MeetingStatus.ENDED else ""
    time = "" if one.turn_deadline is None else left(seconds_until(one.turn_deadline))
    if has_turn:
        text = f"your turn, {time} left" if time else "your turn"
    elif is_invited:
        text = "you are invited"
    elif one.current_speaker is not None:
        text = f"{one.current_speaker} speaks" + (f", {time} left" if time else "")
    elif one.status is MeetingStatus.READY and one.host_id == agent:
        text = "everybody is there; b begins it"
    elif one.status is MeetingStatus.CREATED:
        text = "not everybody is there yet"
    else:
        text = ""
    text = joined([text, f"{number(one.turns_taken, 'turn')} taken" if one.turns_taken else ""])
    return Line(f"{MEETING}{one.meeting_id}", clock(one.created_at), one.host_id or "?", one.status.value, text, tone)


def _sent(one: dict[str, Any]) -> Line:
    if one["ask"] is not None:
        state = (
            "waits" if one["ask"] is AskState.OPEN else "answered" if one["ask"] is AskState.REPLIED else "unanswered"
        )
    else:
        state = "sent" if one["read_at"] is None else "read"
    tone = DIM if state == "read" else ""
    return Line(one["message_id"], clock(one["created_at"]), one["recipient_id"] or "?", state, one["line"], tone)


def _match(agent: str, one: Record) -> Line:
    who = f"→ {one.recipient}" if one.sender == agent and one.recipient else one.sender or "?"
    kind = WORDS.get(Kind(one.kind), str(one.kind))
    return Line(one.message_id, clock(one.created_at), who, kind, one_line(one.excerpt or one.content))
