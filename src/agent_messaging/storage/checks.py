"""The findings of `Store.check` about rows, the same for every backend: pure, no I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic_core import from_json

from ..bodies import open_body
from ..exceptions import StorageCorruptError
from ..models import (
    AskState,
    DeliveryState,
    Kind,
    MeetingEnd,
    MeetingEventType,
    MeetingStatus,
    MessageType,
    ParticipantStatus,
    Prunable,
    SessionType,
    SpeakerSelection,
    TaskState,
    TurnEnd,
)
from ..records import dataclass
from .assembly.terms import Purpose

Rule = Callable[[Any], bool]
_ID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MOST = 2**53 - 1
_LAST_INSTANT = 253_402_300_800_000_000
"""Microseconds from 1970 to the end of the year 9999."""
_FIRST_INSTANT = -62_135_596_800_000_000
"""To the begin of the year 1."""


@dataclass(frozen=True, slots=True)
class Specimen:
    """A stored body that is to be checked."""

    content: str
    metadata: str | None
    checksum: int


def find_damage(name: str, content: str, metadata: str | None, checksum: int) -> list[str]:
    """The findings about a body; `name` says whose it is, as "message 0198…"."""
    try:
        open_body(Specimen(content, metadata, checksum), name)
    except StorageCorruptError as error:
        # Whoever reads this has run the command that the error advises.
        return [f"{_printable(error.problem)} Restore the store from a backup, or delete the row."]
    return []


def examine(table: str, row: Mapping[str, Any]) -> list[str]:
    """The findings about the values of a row; a column without a rule is not looked at."""
    rules, findings = RULES[table], []
    for column, value in row.items():
        rule = rules.get(column)
        if rule is not None and not rule(value):
            key = ", ".join(f"{name} {_printable(str(row[name]))}" for name in KEYS[table])
            findings.append(
                f"The row of {table} with {key} cannot be read: its {column} is not what the SDK writes. "
                "It is set aside; restore the store from a backup, or correct or delete the row."
            )
    return findings


def tell_miscount(agent_id: str, kind: str, counted: int, found: int) -> str:
    """The finding about a count of unread messages that is wrong."""
    return (
        f"Of agent {_printable(agent_id)} {counted} unread messages of the kind {_printable(kind)} are counted, but "
        f"there are {found}. Run `agent-messaging db reindex`, which counts anew."
    )


_REFILE = "Run `agent-messaging db reindex`, which makes both anew."


def tell_misfiled(seq: int) -> str:
    """The finding about a delivery that is missing from a list of a mailbox, or of its session."""
    return (
        f"The delivery with seq {seq} is not filed though message_numbers says so, and one of its lists does not show "
        f"it. {_REFILE}"
    )


def tell_mislisted(seq: int) -> str:
    """The finding about a number that is on a list without belonging there."""
    return (
        f"A list of messages has the number {seq}, which is of no message that belongs there, so the list may show a "
        f"message twice, or one that was read. {_REFILE}"
    )


def find_misnumbering(filed: Any, removed: Any, newest: int, newest_filed: int, indexed_to: int) -> list[str]:
    """The findings about the one row of message_numbers, whose values are None if it is not there.

    Args:
        filed: The number up to which all deliveries are filed.
        removed: The greatest number of a removed message that was the newest.
        newest: The greatest number of a message that is there.
        newest_filed: The same of a delivery that is filed.
        indexed_to: The number up to which messages are in the index of words.
    """
    if filed is None:
        return [f"The row of message_numbers is missing, so numbers may be given twice. {_REFILE}"]
    if not _is_count(removed):
        return [
            f"The row of message_numbers cannot be read: its removed is {_printable(str(removed))}, which is no number "
            "of a message. Restore the store from a backup, or set it to the greatest number that any message had."
        ]
    newest, findings = max(newest, removed), []
    if not newest_filed <= filed <= newest:
        findings.append(
            f"The row of message_numbers says that deliveries are filed up to {filed}; it must be at least "
            f"{newest_filed}, which is filed and shown twice, and at most {newest}, the newest. {_REFILE}"
        )
    if indexed_to > newest:
        findings.append(
            f"The index of words reaches to {indexed_to}, though {newest} is the newest number given. No search "
            f"would find the messages that get those between. {_REFILE}"
        )
    return findings


def tell_stray(table: str, key: str, parent: str) -> str:
    """The finding about a row that refers to none; `key` says which it is, as "id 0198…"."""
    return (
        f"The row of {table} with {key} refers to a row of {parent} that does not exist. "
        "Correct or delete the row, or restore the store from a backup."
    )


def tell_left_claims(
    process_id: str, place: tuple[str, int], end_reason: str | None, message_ids: Sequence[str], number: int
) -> str:
    """The finding about what a process that has ended still has claimed; `message_ids` are the first of so many."""
    host, pid = place
    named = ", ".join(message_ids) + (f" and {number - len(message_ids)} more" if number > len(message_ids) else "")
    return (
        f"Process {process_id} (pid {pid} on {_printable(host)}) has {end_reason or 'ended'}, but has claims still, of "
        f"the messages {named}. Leave a process running that uses the store: each returns at the hard end of its claim."
    )


def tell_hidden(agent_id: str, kind: str, number: int) -> str:
    """The finding about deliveries that no claim finds."""
    return (
        f"Of agent {_printable(agent_id)} {number} deliveries of the kind {_printable(kind)} are open below the floor "
        "of their mailbox, where no claim looks for them: another program made them so. Empty the table floors, which "
        "fills by itself."
    )


def _printable(text: str) -> str:
    return text.encode("ascii" if _has_surrogate(text) else "utf-8", "backslashreplace").decode()


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


# --- rules ------------------------------------------------------------------------------------------------------------


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not _has_surrogate(value)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _is_id_or_empty(value: Any) -> bool:
    return value == "" or _is_id(value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, int) and value in (0, 1)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value <= _MOST


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and abs(value) <= _MOST


def _is_due(value: Any) -> bool:
    """An instant by the store's clock, which may be far from that of people."""
    return isinstance(value, int) and 2 * _FIRST_INSTANT <= value < 2 * _LAST_INSTANT


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= _MOST


def _is_instant(value: Any) -> bool:
    if isinstance(value, str):
        with suppress(ValueError, OverflowError):  # the latter of one that has no UTC
            at = datetime.fromisoformat(value)
            return at.tzinfo is not None and bool(at.astimezone(UTC))
        return False
    return isinstance(value, int) and _FIRST_INSTANT <= value < _LAST_INSTANT


def _is_array(value: Any, of: type = object) -> bool:
    if isinstance(value, str):
        try:
            value = from_json(value)
        except (ValueError, TypeError):  # the latter of a lone surrogate
            return False
    return isinstance(value, list) and all(isinstance(entry, of) for entry in value)


def _is_array_of_text(value: Any) -> bool:
    return _is_array(value, str)


def _is_log(value: Any) -> bool:
    return _is_array(value, dict)


def _is_lock_name(value: Any) -> bool:
    return value == "" or (isinstance(value, str) and value.endswith(".lock") and _is_id(value[: -len(".lock")]))


def _is_port(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value <= 65_535


def _is_agent_or_all(value: Any) -> bool:
    return value == "" or _is_id(value)


def _word(words: type[StrEnum] | Collection[str]) -> Rule:
    known = {str(word) for word in words}
    return lambda value: isinstance(value, str) and value in known


def _maybe(rule: Rule) -> Rule:
    return lambda value: value is None or rule(value)


RULES: dict[str, dict[str, Rule]] = {
    "organizations": {
        "id": _is_id,
        "external_id": _is_text,
        "name": _is_text,
        "created_at": _is_instant,
        "updated_at": _is_instant,
    },
    "agents": {
        "id": _is_id,
        "external_id": _is_text,
        "organization_id": _is_id,
        "name": _is_text,
        "created_at": _is_instant,
        "updated_at": _is_instant,
    },
    "messages": {
        "id": _is_id,
        "kind": _word(Kind),
        "sender_id": _is_id,
        "recipient_id": _maybe(_is_id),
        "session_id": _maybe(_is_id),
        "meeting_id": _maybe(_is_id),
        "message_type": _word(MessageType),
        "created_at": _is_instant,
        "topic": _maybe(_is_text),
    },
    "deliveries": {
        "recipient_id": _is_id,
        "kind": _word(Kind),
        "sender_id": _is_id,
        "thread": _is_text,
        "state": _word(DeliveryState),
        "token": _is_count,
        "attempt": _is_count,
        "max_attempts": _is_count,
        "suspect": _is_flag,
        "origin": _maybe(_is_id),
        "owner": _maybe(_is_id),
        "run_due": _is_due,
        "run_at": _maybe(_is_instant),
        "expires_due": _maybe(_is_due),
        "expires_at": _maybe(_is_instant),
        "claim_until_due": _maybe(_is_due),
        "claim_until": _maybe(_is_instant),
        "queued_due": _is_due,
        "queued_at": _is_instant,
        "claimed_at": _maybe(_is_instant),
        "settled_at": _maybe(_is_instant),
        "read_at": _maybe(_is_instant),
        "log": _maybe(_is_log),
        "ask_timeout": _maybe(_is_number),
        "session_id": _maybe(_is_id),
    },
    "idempotency_keys": {
        "sender_id": _is_id,
        "call": _is_text,
        "key": _is_text,
        "fingerprint": _is_text,
        "message_ids": _is_array,
        "created_at": _is_instant,
    },
    "processes": {
        "id": _is_id,
        "host": _is_text,
        "pid": _is_count,
        "boot_id": _is_text,
        "lock_name": _is_lock_name,
        "doorbell_port": _is_port,
        "lease_until": _is_instant,
        "renewed_at": _maybe(_is_instant),
        "started_at": _is_instant,
        "ended_at": _maybe(_is_instant),
        "ended_due": _maybe(_is_due),
        "end_reason": _maybe(_word(("stopped", "died"))),
    },
    "services": {
        "process_id": _is_id,
        "agent_id": _is_agent_or_all,
        "kind": _word(Kind),
        "explicit": _is_flag,
        "slots": _is_count,
    },
    "sessions": {
        "id": _is_id,
        "agent_a_id": _is_id,
        "agent_b_id": _is_id,
        "thread": _is_text,
        "session_type": _word(SessionType),
        "created_at": _is_instant,
        "ended_at": _maybe(_is_instant),
        "ended_by": _maybe(_is_id),
    },
    "asks": {
        "session_id": _is_id,
        "asker_id": _is_id,
        "responder_id": _is_id,
        "state": _word(AskState),
        "keyed": _is_flag,
        "origin": _maybe(_is_id),
        "deadline_due": _is_due,
        "deadline_at": _is_instant,
        "reason": _maybe(_is_text),
        "ended_at": _maybe(_is_instant),
    },
    "waits": {
        "id": _is_id,
        "recipient_id": _is_id,
        "sender_id": _is_id,
        "thread": _maybe(_is_text),
        "process_id": _is_id,
        "until_due": _maybe(_is_due),
        "until_at": _maybe(_is_instant),
        "is_ended": _is_flag,
    },
    "hops": {
        "message_id": _is_id,
        "number": _is_count,
        "asker_id": _is_id,
        "from_id": _is_id,
        "to_id": _is_id,
        "kept_id": _is_id,
        "kept_seq": _is_count,
        "stored_at": _is_instant,
        "forwarded_at": _is_instant,
    },
    "notices": {"recipient_id": _is_id, "created_due": _is_due, "created_at": _is_instant},
    "streams": {"ask_id": _is_id, "reader": _is_id, "seq": _is_count, "token": _is_count, "written": _is_count},
    "parts": {"ask_id": _is_id, "number": _is_count},
    "subscriptions": {"pattern": _is_text, "agent_id": _is_id, "created_at": _is_instant},
    "search_state": {
        "indexed_to": _is_count,
        "owner": _maybe(_is_id),
        "until_due": _is_due,
        "until": _maybe(_is_instant),
    },
    "unread_counts": {"agent_id": _is_id, "kind": _word(Kind), "unread": _is_whole},
    "retention": {
        "kind": _word(Prunable),
        "newest_pruned": _is_id_or_empty,
        "turn_due": _is_due,
        "turn_at": _maybe(_is_instant),
    },
    "meetings": {
        "id": _is_id,
        "host_id": _is_id,
        "status": _word(MeetingStatus),
        "selection": _word(SpeakerSelection),
        "turn_duration": _maybe(_is_number),
        "turn": _maybe(_is_count),
        "max_attempts": _is_count,
        "max_turns": _maybe(_is_count),
        "max_duration": _maybe(_is_number),
        "host_speaks": _is_flag,
        "end_when": _is_flag,
        "turns_taken": _is_count,
        "deadline_due": _maybe(_is_due),
        "deadline_at": _maybe(_is_instant),
        "end_reason": _maybe(_word(MeetingEnd)),
        "created_at": _is_instant,
        "started_at": _maybe(_is_instant),
        "ended_at": _maybe(_is_instant),
    },
    "participants": {
        "id": _is_id,
        "meeting_id": _is_id,
        "agent_id": _is_id,
        "join_order": _is_count,
        "status": _word(ParticipantStatus),
        "process_id": _maybe(_is_id),
        "joined_at": _maybe(_is_instant),
        "left_at": _maybe(_is_instant),
    },
    "turns": {
        "meeting_id": _is_id,
        "number": _is_count,
        "agent_id": _is_id,
        "purpose": _word(Purpose),
        "next_id": _maybe(_is_id),
        "started_at": _is_instant,
        "deadline_due": _maybe(_is_due),
        "deadline_at": _maybe(_is_instant),
        "ended_at": _maybe(_is_instant),
        "how": _maybe(_word(TurnEnd)),
    },
    "meeting_events": {
        "meeting_id": _is_id,
        "type": _word(MeetingEventType),
        "agent_id": _maybe(_is_id),
        "created_at": _is_instant,
    },
    "queue_messages": {
        "agent_id": _is_text,
        "message_id": _is_text,
        "sender_id": _is_text,
        "type": _is_text,
        "priority": _is_count,
        "state": _word(DeliveryState),
        "token": _is_count,
        "attempt": _is_count,
        "max_attempts": _is_count,
        "owner": _maybe(_is_id),
        "suspect": _is_flag,
        "run_due": _is_due,
        "run_at": _maybe(_is_instant),
        "expires_due": _maybe(_is_due),
        "expires_at": _maybe(_is_instant),
        "claim_until_due": _maybe(_is_due),
        "claim_until": _maybe(_is_instant),
        "ended_as": _maybe(_is_text),
        "reason": _maybe(_is_text),
        "queued_due": _is_due,
        "queued_at": _is_instant,
        "created_at": _is_instant,
        "claimed_at": _maybe(_is_instant),
        "settled_at": _maybe(_is_instant),
        "settled_due": _maybe(_is_due),
    },
    "queue_listeners": {"agent_id": _is_text, "process_id": _is_id},
    "workers": {
        "id": _is_text,
        "role": _is_text,
        "capabilities": _is_array_of_text,
        "capacity": _is_count,
        "status": _is_text,
        "alive_until_due": _is_due,
        "alive_until": _is_instant,
        "booked": _is_count,
        "reported": _is_count,
        "pulls": _is_flag,
        "registered_at": _is_instant,
        "heartbeat_at": _is_instant,
        "idle_at": _is_instant,
    },
    "worker_processes": {"worker_id": _is_text, "process_id": _is_id},
    "queue_counts": {"agent_id": _is_text, "what": _is_text, "number": _is_whole},
    "task_counts": {"supervisor": _is_text, "state": _word(TaskState), "number": _is_whole},
    "tasks": {
        "id": _is_text,
        "type": _is_text,
        "description": _is_text,
        "needs": _is_array_of_text,
        "priority": _is_count,
        "is_assigned": _is_flag,
        "suspect": _is_flag,
        "supervisor": _maybe(_is_text),
        "origin": _maybe(_is_id),
        "state": _word(TaskState),
        "token": _is_count,
        "attempt": _is_count,
        "max_attempts": _is_count,
        "worker_id": _maybe(_is_text),
        "owner": _maybe(_is_id),
        "run_limit": _maybe(_is_number),
        "run_due": _is_due,
        "run_at": _maybe(_is_instant),
        "deadline_due": _maybe(_is_due),
        "deadline_at": _maybe(_is_instant),
        "until_due": _maybe(_is_due),
        "until_at": _maybe(_is_instant),
        "ended_as": _maybe(_is_text),
        "reason": _maybe(_is_text),
        "fraction": _is_number,
        "note": _maybe(_is_text),
        "log": _maybe(_is_log),
        "queued_due": _is_due,
        "queued_at": _is_instant,
        "created_at": _is_instant,
        "assigned_at": _maybe(_is_instant),
        "settled_at": _maybe(_is_instant),
        "settled_due": _maybe(_is_due),
    },
    "schedules": {
        "name": _is_text,
        "rule": _is_text,
        "zone": _is_text,
        "task": _is_array,
        "next_at": _is_instant,
        "next_due": _is_due,
        "since_due": _maybe(_is_due),
        "since_at": _maybe(_is_instant),
        "fired": _is_count,
        "fired_at": _maybe(_is_instant),
        "created_at": _is_instant,
    },
    "imports": {
        "archive": _is_text,
        "staged": _is_count,
        "begun_at": _is_instant,
        "finished_at": _maybe(_is_instant),
    },
    "import_rows": {"noun": _is_text, "position": _is_count},
}
"""The rules of the columns of each table. Bodies have their checksums instead."""

KEYS = {
    "organizations": ("external_id",),
    "agents": ("external_id",),
    "messages": ("id",),
    "deliveries": ("seq",),
    "idempotency_keys": ("sender_id", "call", "key"),
    "processes": ("id",),
    "services": ("process_id", "agent_id", "kind"),
    "sessions": ("id",),
    "asks": ("seq",),
    "waits": ("id",),
    "hops": ("message_id", "number"),
    "notices": ("seq",),
    "streams": ("ask_id",),
    "parts": ("ask_id", "number"),
    "subscriptions": ("pattern", "agent_id"),
    "search_state": ("is_one",),
    "unread_counts": ("agent_id", "kind"),
    "retention": ("kind",),
    "meetings": ("id",),
    "participants": ("id",),
    "turns": ("meeting_id", "number"),
    "meeting_events": ("seq",),
    "queue_messages": ("seq",),
    "queue_listeners": ("agent_id", "process_id"),
    "workers": ("id",),
    "worker_processes": ("worker_id", "process_id"),
    "queue_counts": ("agent_id", "what"),
    "task_counts": ("supervisor", "state"),
    "tasks": ("seq",),
    "schedules": ("name",),
    "imports": ("archive",),
    "import_rows": ("noun", "position"),
}
"""The columns by which a finding names a row."""
