"""The tables of an archive: which columns go into it, in what form, and what belongs to what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import Enum
from typing import Any

from ...models import DeliveryState, TaskState
from ...records import dataclass
from ..checks import KEYS

Row = dict[str, Any]
_NIL = "00000000-0000-0000-0000-000000000000"


class Form(Enum):
    """The form in which a column stands in an archive, and in a store."""

    PLAIN = "plain"
    """Text, an id, or a whole number."""
    FLAG = "flag"
    SECONDS = "seconds"
    AT = "at"
    """An instant for people."""
    DUE = "due"
    """An instant by which something is decided. SQLite has it by the store's clock, in a column of its own."""
    LIST = "list"
    LOG = "log"


PLAIN = Form.PLAIN


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an archive."""

    name: str
    form: Form = Form.PLAIN
    due: str = ""
    """The column that has it by the clock of an SQLite store."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of an archive, in the order of its rows."""

    columns: tuple[Column, ...]
    key: tuple[str, ...]
    """The columns that give the order, which both backends have alike."""
    start: tuple[Any, ...]
    """Before the first key."""
    belongs: Mapping[str, str] = field(default_factory=dict)
    """The columns that refer to a row of another table, without which the row means nothing."""
    greatest: str = ""
    """A column. Every store has these rows; an import gives each the greater value of its own and the archive's."""


def _columns(text: str) -> tuple[Column, ...]:
    """Read `name`, `name:form` or `name:due=column`, between blanks."""
    found = []
    for word in text.split():
        name, _, form = word.partition(":")
        form, _, due = form.partition("=")
        found.append(Column(name, Form(form) if form else Form.PLAIN, due))
    return tuple(found)


TABLES: dict[str, Table] = {
    "organizations": Table(_columns("id external_id name created_at:at updated_at:at"), ("id",), (_NIL,)),
    "agents": Table(
        _columns("id external_id organization_id name created_at:at updated_at:at"),
        ("id",),
        (_NIL,),
        {"organization_id": "organizations"},
    ),
    "sessions": Table(
        _columns("id agent_a_id agent_b_id thread session_type created_at:at ended_at:at ended_by"),
        ("id",),
        (_NIL,),
        {"agent_a_id": "agents", "agent_b_id": "agents"},
    ),
    "meetings": Table(
        _columns(
            "id host_id status selection turn_duration:seconds turn max_attempts max_turns max_duration:seconds "
            "host_speaks:flag end_when:flag turns_taken deadline_at:due=deadline_due end_reason created_at:at "
            "started_at:at ended_at:at"
        ),
        ("id",),
        (_NIL,),
        {"host_id": "agents"},
    ),
    "messages": Table(
        _columns(
            "id kind sender_id recipient_id session_id meeting_id message_type topic content metadata checksum "
            "created_at:at"
        ),
        ("seq",),
        (0,),
        {"sender_id": "agents", "recipient_id": "agents", "meeting_id": "meetings"},
    ),
    "deliveries": Table(
        _columns(
            "message_id thread state token attempt max_attempts suspect:flag origin owner run_at:due=run_due "
            "expires_at:due=expires_due queued_at:due=queued_due claimed_at:at settled_at:at read_at:at "
            "ask_timeout:seconds log:log"
        ),
        ("seq",),
        (0,),
        {"message_id": "messages"},
    ),
    "asks": Table(
        _columns(
            "message_id session_id asker_id responder_id state within_id taken_within_id keyed:flag origin "
            "deadline_at:due=deadline_due answer_id reason ended_at:at"
        ),
        ("seq",),
        (0,),
        {"message_id": "messages", "session_id": "sessions", "asker_id": "agents", "responder_id": "agents"},
    ),
    "notices": Table(
        _columns("message_id recipient_id created_at:due=created_due"), ("seq",), (0,), {"message_id": "messages"}
    ),
    "hops": Table(
        _columns("message_id number asker_id from_id to_id kept_id stored_at:at forwarded_at:at"),
        ("message_id", "number"),
        (_NIL, 0),
        {"message_id": "messages", "asker_id": "agents"},
    ),
    "participants": Table(
        _columns("id meeting_id agent_id join_order status joined_at:at left_at:at"),
        ("id",),
        (_NIL,),
        {"meeting_id": "meetings", "agent_id": "agents"},
    ),
    "turns": Table(
        _columns(
            "meeting_id number agent_id purpose next_id started_at:at deadline_at:due=deadline_due ended_at:at how "
            "delivery_id message_id"
        ),
        ("meeting_id", "number"),
        (_NIL, 0),
        {"meeting_id": "meetings"},
    ),
    "meeting_events": Table(
        _columns("meeting_id type agent_id data checksum message_id created_at:at"),
        ("seq",),
        (0,),
        {"meeting_id": "meetings"},
    ),
    "subscriptions": Table(
        _columns("pattern agent_id created_at:at"), ("pattern", "agent_id"), ("", _NIL), {"agent_id": "agents"}
    ),
    "idempotency_keys": Table(
        _columns("sender_id call key fingerprint message_ids:list created_at:at"),
        ("sender_id", "call", "key"),
        (_NIL, "", ""),
        {"sender_id": "agents"},
    ),
    "workers": Table(
        _columns(
            "id role capabilities:list capacity status alive_until:due=alive_until_due booked reported pulls:flag "
            "metadata registered_at:at heartbeat_at:at idle_at:at"
        ),
        ("id",),
        ("",),
    ),
    "queue_messages": Table(
        _columns(
            "agent_id message_id sender_id type priority content metadata checksum state token attempt max_attempts "
            "suspect:flag owner run_at:due=run_due expires_at:due=expires_due ended_as reason queued_at:due=queued_due "
            "created_at:at claimed_at:at settled_at:due=settled_due"
        ),
        ("seq",),
        (0,),
    ),
    "tasks": Table(
        _columns(
            "id type description needs:list priority content checksum message is_assigned:flag supervisor origin "
            "state trace token attempt max_attempts suspect:flag worker_id owner run_limit:seconds run_at:due=run_due "
            "deadline_at:due=deadline_due until_at:due=until_due ended_as reason result result_checksum "
            "fraction:seconds note log:log queued_at:due=queued_due created_at:at assigned_at:at "
            "settled_at:due=settled_due"
        ),
        ("seq",),
        (0,),
    ),
    "schedules": Table(
        _columns("name rule zone task next_at:due=next_due since_at:due=since_due fired fired_at:at created_at:at"),
        ("name",),
        ("",),
    ),
    "retention": Table(_columns("kind newest_pruned"), ("kind",), ("",), greatest="newest_pruned"),
}
"""The tables of an archive, each behind those that it refers to."""
WITHOUT_ORGANIZATION = frozenset({"workers", "queue_messages", "tasks", "schedules"})
"""The tables whose names are external ids of any kind: they go with the whole store, and with no organization."""
LEFT_OUT = {
    "schema_migrations": "it tells how the tables were made",
    "store_clock": "each store has its own clock",
    "processes": "a process lives in one store",
    "services": "what a process serves ends with it",
    "waits": "who waits is a call in a process",
    "streams": "who reads parts is a process",
    "parts": "they go with the process that reads them",
    "queue_listeners": "who listens is a process",
    "worker_processes": "who serves a worker is a process",
    "message_numbers": "the other store numbers its messages by itself",
    "floors": "they tell which rows of this server are behind its claims",
    "search_state": "the index is made anew from the messages",
    "search_words": "the index is made anew from the messages",
    "lists": "they are made anew from the deliveries",
    "listed": "they are made anew from the deliveries",
    "unread_counts": "they are counted anew",
    "queue_counts": "they are counted anew",
    "task_counts": "they are counted anew",
    "imports": "it tells how far an import of this store has come",
    "import_rows": "they wait to be put into their tables",
}
"""The tables that are in no archive, with the reason."""
SHARED = frozenset({"meetings", "messages", "deliveries", "asks", "notices", "participants", "turns", "meeting_events"})
"""The tables of which an organization leaves out what is of its meetings with agents of others."""
TAKEN = {
    "organizations": "organization",
    "agents": "agent",
    "workers": "worker",
    "queue_messages": "queue message",
    "tasks": "task",
    "schedules": "schedule",
}
"""The tables whose names a store has once, with the word for one of them. What else there is belongs to these."""
BODIES: dict[str, tuple[tuple[str, str | None, str], ...]] = {
    "messages": (("content", "metadata", "checksum"),),
    "meeting_events": (("data", None, "checksum"),),
    "queue_messages": (("content", "metadata", "checksum"),),
    "tasks": (("content", None, "checksum"), ("result", None, "result_checksum")),
}
"""The bodies of each table: content, metadata, checksum."""
REFERENCES: dict[str, dict[str, str | None]] = {
    "asks": {"within_id": None, "taken_within_id": "", "answer_id": None},
    "turns": {"delivery_id": None, "message_id": None},
    "meeting_events": {"message_id": None},
}
"""The columns that refer to a message without which the row means something yet, and what stands there then."""
AT_WORK = {"deliveries": DeliveryState.CLAIMED, "queue_messages": DeliveryState.CLAIMED, "tasks": TaskState.RUNNING}
"""The states that no archive has: they are of processes, and nobody would ever end them."""
_NAMED = {"asks": "message_id", "deliveries": "message_id", "notices": "message_id"}
"""The column that names a row of these for people, in the place of its number."""


def name_of(table: str, row: Mapping[str, Any]) -> str:
    """A row, as a finding or an error names it: "row of agents with external_id 'alice'"."""
    names = (_NAMED[table],) if table in _NAMED else KEYS[table]
    names = tuple(name for name in names if name in row) or TABLES[table].key
    return f"row of {table} with " + ", ".join(f"{name} {row.get(name)!r}" for name in names)
