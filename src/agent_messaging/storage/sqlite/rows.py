"""The forms in which rows go into statements and come out of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ...models import Kind, MessageType, TurnEnd
from ..aside import damaged_message
from ..assembly.terms import Purpose
from ..ports import CLAIM_MARGIN, MessageRow, Narrowing, TurnRow, WorkerRow
from .clock import Instant, seconds_until, to_datetime, to_datetime_or_none, to_microseconds_or_none

encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
"""Rows as one parameter."""
_LONGEST = 1e9
"""Seconds."""
_MOST = 2**53 - 1


def claim_limit(run_limit: float, ask_timeout: float | None) -> float:
    """Seconds from a claim to its hard end. The run of an ask may take as long as its asker waits.

    A run limit may be negative: a lease shorter than the margin.
    """
    return (run_limit if ask_timeout is None else max(run_limit, min(ask_timeout, _LONGEST))) + CLAIM_MARGIN


def merge(rows: Iterable[tuple[int, tuple[object, ...]]]) -> list[list[object]]:
    """Rows whose numbers follow each other and whose values are alike, as one with its first and its last number.

    SQLite takes a value out of JSON in 0.1 µs, and Python puts it there in half of that. The messages of one commit
    differ in contents and agents, and seldom in what is to be done with them, so most commits have one such row for all
    their deliveries.
    """
    merged: list[list[object]] = []
    last, before = -1, None
    for number, values in rows:
        if number == last + 1 and values == before:
            merged[-1][1] = number
        else:
            merged.append([number, number, *values])
            before = values
        last = number
    return merged


def next_number(number: int) -> int:
    """One more, as claim_take counts: up to the greatest number that every reader of JSON keeps exactly."""
    return min(number + 1, _MOST)


def narrow(narrowing: Narrowing) -> dict[str, Any]:
    """What of a list is wanted, as the parameters of every listing of messages."""
    types, states, needles = narrowing.types, narrowing.states, narrowing.needles
    return {
        "from": to_microseconds_or_none(narrowing.date_from),
        "to": to_microseconds_or_none(narrowing.date_to),
        "types": None if types is None else encode(list(types)),
        "states": None if states is None else encode(list(states)),
        "needles": encode(list(needles)) if needles else None,
    }


def message_row(row: list[Any]) -> MessageRow:
    """A message as all listings select it; a damaged one, where no record can be made of it."""
    seq, id, kind, sender_id, recipient_id, content, metadata, checksum, created_at, read_at, session_id, *more = row
    type_, *kept = more  # no listing of meetings selects the thread, and the listings of notes alone the topic
    agents, read_at = (sender_id, recipient_id), to_datetime_or_none(read_at)
    try:
        message_kind, message_type = Kind(kind), MessageType(type_)
    except ValueError:
        return damaged_message(seq, id, kind, *agents, read_at=read_at, session_id=session_id)
    body = content, metadata, checksum
    return MessageRow(
        seq, id, message_kind, *agents, *body, to_datetime(created_at), read_at, session_id, message_type, *kept
    )


def turn_row(row: list[Any], instant: Instant) -> TurnRow:
    """A turn as meetings.sql selects it everywhere."""
    number, agent_id, purpose, started_at, deadline_at, deadline_due, ended_at, how, message_id, next_id = row
    is_current = ended_at is None
    return TurnRow(
        number=number,
        agent_id=agent_id,
        purpose=Purpose(purpose),
        started_at=to_datetime(started_at),
        deadline_at=to_datetime_or_none(deadline_at),
        left=seconds_until(deadline_due, instant) if is_current else None,
        ended_at=to_datetime_or_none(ended_at),
        how=None if how is None else TurnEnd(how),
        message_id=message_id,
        next_id=next_id,
    )


def turn_row_or_none(row: list[Any] | None, instant: Instant) -> TurnRow | None:
    """The same for what may be absent."""
    return None if row is None else turn_row(row, instant)


def worker_row(row: list[Any]) -> WorkerRow:
    """A worker as all listings select it."""
    id, role, capabilities, capacity, status, is_alive, booked, reported, pulls, metadata, *times = row
    can = tuple(json.loads(capabilities))
    counts = booked, reported, bool(pulls), metadata
    registered_at, heartbeat_at, idle_at = map(to_datetime, times)
    return WorkerRow(id, role, can, capacity, status, bool(is_alive), *counts, registered_at, heartbeat_at, idle_at)
