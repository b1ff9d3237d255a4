"""The tables of an archive: which columns go into it, in what form, and in what state an open claim goes. Pure.

A backend reads rows as they are stored ("raw") and writes them again; `Reader` makes rows of the archive of them, which
are the same whatever the backend, and `Writer` makes raw rows of those. Messages are named by ids: `seq` is a store's.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from ..exceptions import StorageCorruptError
from ..models import AskState, DeliveryState, TaskState
from ..records import dataclass
from .aside import UNREADABLE
from .checks import KEYS, RULES, examine, find_damage

Row = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_JUMP = 1_000_000
"""Microseconds by which two clocks of a store may differ without one of them having jumped."""
_NIL = "00000000-0000-0000-0000-000000000000"
_RETURNED = "returned"

to_line = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
"""A row as it stands in an archive: the same text for the same row, whatever store it is from."""


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


_PLAIN = Form.PLAIN


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
_REFERENCES: dict[str, dict[str, str | None]] = {
    "asks": {"within_id": None, "taken_within_id": "", "answer_id": None},
    "turns": {"delivery_id": None, "message_id": None},
    "meeting_events": {"message_id": None},
}
"""The columns that refer to a message without which the row means something yet, and what stands there then."""
_AT_WORK = {"deliveries": DeliveryState.CLAIMED, "queue_messages": DeliveryState.CLAIMED, "tasks": TaskState.RUNNING}
"""The states that no archive has: they are of processes, and nobody would ever end them."""
_NAMED = {"asks": "message_id", "deliveries": "message_id", "notices": "message_id"}
"""The column that names a row of these for people, in the place of its number."""


def name_of(table: str, row: Mapping[str, Any]) -> str:
    """A row, as a finding or an error names it: "row of agents with external_id 'alice'"."""
    names = (_NAMED[table],) if table in _NAMED else KEYS[table]
    names = tuple(name for name in names if name in row) or TABLES[table].key
    return f"row of {table} with " + ", ".join(f"{name} {row.get(name)!r}" for name in names)


def shift_of(due: int, at: int) -> int:
    """The microseconds to be added to store time for UTC: none, unless the clock of people has jumped since the boot.

    It is rounded to seconds, so that it is the same at each look.
    """
    return 0 if abs(at - due) < _JUMP else round((at - due) / _JUMP) * _JUMP


class Reader:
    """What reads rows of a store for an archive.

    Args:
        shift: Microseconds to be added to the store's clock for UTC.
        now: The instant of the snapshot.
    """

    def __init__(self, shift: int, now: datetime) -> None:
        self._shift = shift
        self._now = now
        self._skipped: dict[str, set[Any]] = {table: set() for table in TABLES}
        self.findings: list[str] = []
        """One sentence or two for each row that cannot be read, and for what belongs to it."""

    def take(self, table: str, raws: Iterable[Row]) -> Iterator[Row]:
        """The rows as they go into the archive, without those that cannot be read."""
        spec = TABLES[table]
        for raw in raws:
            found = self._examine(table, raw, spec)
            if found:
                self._skipped[table].add(raw.get("id", raw.get("message_id")))
                self.findings += found
            else:
                for column, nothing in _REFERENCES.get(table, {}).items():
                    if raw[column] in self._skipped["messages"]:
                        raw[column] = nothing
                yield self.read(table, raw)

    def read(self, table: str, raw: Row) -> Row:
        """One row as it goes into the archive, in the state in which it is when no process of the store lives."""
        _REST.get(table, _leave)(raw, self._now)
        return self.restore(table, raw)

    def restore(self, table: str, raw: Row) -> Row:
        """A row that waits, as it stood in the archive."""
        return {
            column.name: raw.get(column.name) if column.form is _PLAIN else self._value(column, raw)
            for column in TABLES[table].columns
        }

    def _examine(self, table: str, raw: Row, spec: Table) -> list[str]:
        for column, other in spec.belongs.items():
            if raw.get(column) is not None and raw[column] in self._skipped[other]:
                return [f"The {name_of(table, raw)} belongs to a row of {other} that is left out."]
        if raw.get("is_stray"):
            return [f"The {name_of(table, raw)} belongs to an agent that does not exist."]
        findings = examine(table, raw)
        for content, metadata, checksum in BODIES.get(table, ()):
            if raw.get(content) is not None:
                kept = None if metadata is None else raw[metadata]
                findings += find_damage(name_of(table, raw), raw[content], kept, raw[checksum])
        return findings

    def _value(self, column: Column, raw: Row) -> Any:
        value = raw.get(column.name)
        match column.form:
            case Form.DUE:
                return self._instant(value, raw, column.due)
            case _ if value is None:
                return None
            case Form.AT:
                return _spell(_microseconds(value))
            case Form.FLAG:
                return bool(value)
            case Form.SECONDS:
                return float(value)
            case Form.LIST:
                return json.loads(value) if isinstance(value, str) else value
            case Form.LOG:
                entries = json.loads(value) if isinstance(value, str) else value
                return [_spell_entry(entry) for entry in entries] or None
        return value

    def _instant(self, at: Any, raw: Row, due_name: str) -> str | None:
        if due_name not in raw:  # one column for both: by the store's clock
            return None if at is None else _spell(_microseconds(at) + self._shift)
        due = raw[due_name]
        if not due:  # 0 is: at once
            return None
        decided = due + self._shift
        return _spell(at if at is not None and abs(decided - at) < _JUMP else decided)


class Writer:
    """What makes rows for a store of rows of an archive.

    Args:
        shift: Microseconds to be added to the store's clock for UTC.
        as_numbers: Instants are microseconds, of two clocks, and lists are text; otherwise they are as in the archive.
    """

    def __init__(self, shift: int, *, as_numbers: bool) -> None:
        self._shift = shift
        self._as_numbers = as_numbers

    def make(self, table: str, row: Row) -> Row:
        """The row as the store writes it.

        Raises:
            ValueError: It has a value that no archive of the SDK has.
        """
        raw: Row = {}
        for column in TABLES[table].columns:
            try:
                raw |= self._make(column, row[column.name])
            except (ValueError, TypeError, AttributeError):
                raise ValueError(f"the {column.name} of its {name_of(table, row)} is not what the SDK writes") from None
        rules = RULES[table]
        for name, value in raw.items():
            if name in rules and not rules[name](value):
                raise ValueError(f"the {name} of its {name_of(table, row)} is not what the SDK writes")
        if raw.get("state") == _AT_WORK.get(table, ...):
            raise ValueError(f"the state of its {name_of(table, row)} is not what the SDK exports")
        for content, metadata, checksum in BODIES.get(table, ()):
            if raw[content] is not None and not _is_sound(raw[content], metadata and raw[metadata], raw[checksum]):
                raise ValueError(f"the {content} of its {name_of(table, row)} is damaged")
        return raw

    def _make(self, column: Column, value: Any) -> Row:
        if column.form is Form.DUE:
            return self._instant(column, value)
        if value is None or not self._as_numbers:
            return {column.name: value}
        return {column.name: _NUMBERS.get(column.form, _same)(value)}

    def _instant(self, column: Column, value: str | None) -> Row:
        at = None if value is None else _microseconds(value)
        if self._as_numbers:
            due = (0 if column.due == _AT_ONCE else None) if at is None else at - self._shift
            return {column.name: at, column.due: due}
        return {column.name: None if at is None else _spell(at - self._shift)}


def _is_sound(content: Any, metadata: Any, checksum: Any) -> bool:
    is_text = isinstance(content, str) and isinstance(metadata, str | None)
    return is_text and isinstance(checksum, int) and not find_damage("body", content, metadata, checksum)


_AT_ONCE = "run_due"
"""The column in which 0 stands for no instant."""


class Comparison:
    """Compares a table with what was put into it, both in its order, while both are read in pages.

    The store may have more: rows that are not expected are passed over.

    Args:
        before: The last numbers that the tables had before, by table.
    """

    def __init__(self, reader: Reader, table: str, before: Mapping[str, int]) -> None:
        self._reader = reader
        self._table = table
        self._expected: deque[Row] = deque()
        self._found: Iterator[Row] = iter(())
        spec = TABLES[table]
        number = before["messages" if "message_id" in spec.belongs else table] if spec.key == ("seq",) else None
        self.after = spec.start if number is None else (number,)
        """The key behind which the next page of the store begins."""

    @property
    def is_settled(self) -> bool:
        """Whether all that was expected was seen."""
        return not self._expected

    def expect(self, raws: Iterable[Row]) -> None:
        """Take in the next rows that were put into the store, as they waited."""
        self._expected.extend(raws)
        self._go_on()

    def see(self, raws: Sequence[Row]) -> None:
        """Take in the next page that the store has.

        Raises:
            StorageCorruptError: There are no more rows, and one that is expected was not among them.
        """
        if not raws:
            raise StorageCorruptError(
                f"The {name_of(self._table, self._expected[0])} would not be in the store as it is in the archive, so "
                "nothing was imported. Check the store with `agent-messaging db check`, or import into another one."
            )
        self.after = tuple(raws[-1][name] for name in TABLES[self._table].key)
        self._found = iter(raws)
        self._go_on()

    def _go_on(self) -> None:
        while self._expected and (row := next(self._found, None)) is not None:
            if self._are_alike(row, self._expected[0]):
                self._expected.popleft()

    def _are_alike(self, stored: Row, expected: Row) -> bool:
        if (greatest := TABLES[self._table].greatest) and stored[greatest] >= expected[greatest]:
            stored = stored | {greatest: expected[greatest]}
        # What waited is in the form of the store, so nearly all rows are alike as they are: a tenth of the time.
        if all(stored.get(name, value) == value for name, value in expected.items()):
            return True
        try:
            return self._reader.restore(self._table, stored) == self._reader.restore(self._table, expected)
        except UNREADABLE:  # somebody else's row, that is damaged
            return False


# --- states of rest ---------------------------------------------------------------------------------------------------


def _leave(raw: Row, now: datetime) -> None:
    pass


def _give_back(raw: Row) -> None:
    """End a claim as one that was given back: the attempt does not count, and the token of the claim is past."""
    raw["token"] += 1
    raw["attempt"] = max(raw["attempt"] - 1, 0)


def _rest_delivery(raw: Row, now: datetime) -> None:
    if raw["state"] == DeliveryState.CLAIMED:
        _give_back(raw)
        raw |= {"state": DeliveryState.QUEUED.value, "suspect": False}
    if raw["state"] == DeliveryState.QUEUED and raw["ask_state"] == AskState.OPEN and not raw["ask_keyed"]:
        raw |= {"state": DeliveryState.EXPIRED.value, "settled_at": _like(raw, now)}


def _rest_ask(raw: Row, now: datetime) -> None:
    if raw["state"] == AskState.OPEN and not raw["keyed"]:
        raw |= {"state": AskState.CANCELLED.value, "ended_at": _like(raw, now)}


def _rest_message(raw: Row, now: datetime) -> None:
    if raw["state"] == DeliveryState.CLAIMED:
        _give_back(raw)
        raw |= {"state": DeliveryState.QUEUED.value, "ended_as": _RETURNED, "suspect": False}


def _rest_task(raw: Row, now: datetime) -> None:
    if raw["state"] == TaskState.RUNNING:
        _give_back(raw)
        raw |= {"state": TaskState.QUEUED.value, "ended_as": _RETURNED, "until_at": None, "suspect": False}
        if "until_due" in raw:
            raw["until_due"] = None


def _rest_worker(raw: Row, now: datetime) -> None:
    raw["booked"] = raw["assigned"]


_REST: dict[str, Callable[[Row, datetime], None]] = {
    "deliveries": _rest_delivery,
    "asks": _rest_ask,
    "queue_messages": _rest_message,
    "tasks": _rest_task,
    "workers": _rest_worker,
}
"""What becomes of an open row when the processes do not come along: as when they stop."""


def _like(raw: Row, now: datetime) -> Any:
    """The instant in the form of the row's others."""
    at = (now - _EPOCH) // _MICROSECOND
    return at if any(name.endswith("_due") for name in raw) else _spell(at)


# --- values -----------------------------------------------------------------------------------------------------------


def _microseconds(value: int | str) -> int:
    if isinstance(value, int):
        return value
    found = (datetime.fromisoformat(value) - _EPOCH) // _MICROSECOND
    if not _FIRST <= found <= _LAST:
        raise ValueError(f"{value!r} is an instant of no year in UTC")
    return found


def _spell(microseconds: int) -> str:
    microseconds = min(max(microseconds, _FIRST), _LAST)  # for ever stays for ever, though the clock was set
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds")


def _spell_entry(entry: Row) -> Row:
    """An entry of a log; its instants are the values of these names."""
    return {
        name: _spell(_microseconds(value)) if name in ("at", "claimed_at") and value is not None else value
        for name, value in sorted(entry.items())
    }


def _number_entries(entries: Sequence[Row]) -> str:
    return to_line(
        [
            {
                name: _microseconds(value) if name in ("at", "claimed_at") and value is not None else value
                for name, value in entry.items()
            }
            for entry in entries
        ]
    )


def _same(value: Any) -> Any:
    return value


_NUMBERS: dict[Form, Callable[[Any], Any]] = {
    Form.AT: _microseconds,
    Form.FLAG: int,
    Form.LIST: to_line,
    Form.LOG: _number_entries,
}
"""How a value becomes what SQLite stores."""
