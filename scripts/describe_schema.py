"""Write docs/schema.md, the document of the database schema, from the migrations of both stores.

    python scripts/describe_schema.py            write it
    python scripts/describe_schema.py --check    fail if it is not what would be written

Names, types, keys and indexes are read from the SQL. What each is for is read from the comments there, and from the words
below where the SQL says nothing; a table, column, index or view without a word is an error that names it.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from agent_messaging.storage.migrations import load

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "schema.md"
STORES = {"SQLite": "agent_messaging.storage.sqlite", "PostgreSQL": "agent_messaging.storage.postgres"}

TABLES = {
    "The directory": {
        "organizations": "Organizations. Removing one removes its agents, and what hangs on them.",
        "agents": "Agents, each of one organization; external ids are unique over all organizations.",
    },
    "Messages": {
        "messages": "What was said: one row for each message, written once and never changed. Wide, so apart from the deliveries.",
        "deliveries": "The duty to have a message handled: one row for each message with a recipient. Narrow, because it changes often. Its states are drawn in [State machines](state-machines.md#delivery).",
        "message_numbers": "Two marks of the numbers of messages on SQLite: which are used up, and up to which all deliveries are filed. One row.",
        "lists": "The lists of messages on SQLite: what an agent sent, received and has not read, all or of a sender or a thread, and what a session has ([decision 78](decisions/0078-a-mailbox-is-a-list-of-numbers.md)).",
        "listed": "What is on them: two numbers in a row. A message enters its lists with many others ([decision 38](decisions/0038-mailboxes-are-filed-behind-the-traffic.md)).",
        "idempotency_keys": "The calls that were made under a key, so that a repeat is answered as the first one was.",
        "subscriptions": "Which agent is subscribed to which pattern of topics.",
        "floors": "How far up a mailbox everything has ended, while an open snapshot keeps the dead rows of PostgreSQL: claims begin behind it ([decision 49](decisions/0049-claims-look-from-a-floor.md)).",
    },
    "Conversations": {
        "sessions": "Conversations of two agents in a thread, from the first message to the end ([states](state-machines.md#session)).",
        "asks": "Messages whose sender waits ([states](state-machines.md#ask)). On SQLite an ask is part of its delivery, and `asks` is a view ([decision 66](decisions/0066-a-commit-touches-what-it-changes.md)).",
        "waits": "An agent's own code waits for a message (`wait_for_message`); handlers take nothing from that lane meanwhile.",
        "notices": "What notification handlers are still to be told.",
        "hops": "The ways of asks that were passed on, one row for each step.",
        "streams": "One for each ask whose asker reads parts, until its reader has gone.",
        "parts": "Parts of answers on their way to their readers. They live for seconds.",
    },
    "Meetings": {
        "meetings": "Meetings, with their rules and bounds ([states](state-machines.md#meeting)).",
        "participants": "Who was invited to which meeting, and how that one stands.",
        "turns": "The turns of meetings, each with its holder, deadline and end ([states](state-machines.md#turn)).",
        "meeting_events": "The events of meetings, in order; the feed for event handlers, and the timeline.",
    },
    "Processes": {
        "processes": "The processes that have opened the store, and how others see whether they live.",
        "services": "Which process serves which agents, and what of theirs.",
        "store_clock": "What makes the store's clock steady while wall clocks jump ([decision 1](decisions/0001-store-clock-on-sqlite.md), [decision 22](decisions/0022-clocks-on-postgresql.md)).",
    },
    "Searching": {
        "search_words": "Which messages have which words. On SQLite it is a table of FTS5 without the texts, on PostgreSQL one with a `tsvector`.",
        "search_state": "How far the index of words reaches, and who moves it on. One row.",
        "unread_counts": "How many messages of an agent are unread, so that nobody has to count them ([decision 52](decisions/0052-unread-messages-are-counted-behind-the-traffic.md)).",
    },
    "Coordination": {
        "queue_messages": "Messages of queues, for the blocking classes of coordination.",
        "queue_counts": "How many messages of a queue are in each state, so that nobody has to count them.",
        "queue_listeners": "Which process waits for messages of which queue.",
        "workers": "Who takes tasks: capabilities, room, signs of life.",
        "worker_processes": "The processes that serve a worker which pulls.",
        "tasks": "Work that is handed out, with its result ([states](state-machines.md#task)).",
        "task_counts": "How many tasks of a supervisor are in each state, so that nobody has to count them.",
        "schedules": "Rules by which tasks are handed out again and again.",
    },
    "Keeping": {
        "retention": "How far each kind was pruned, and from when on a process may prune it by itself.",
        "imports": "Archives that were taken in, or are being taken in.",
        "import_rows": "The rows of one archive, seen by nobody, until one transaction puts them in their places.",
    },
}  # fmt: skip

COLUMNS = {
    "id": "UUIDv7, made by the client",
    "seq": "the row's number; what refers to a message refers to it by this",
    "external_id": "the name that its users chose",
    "name": "a name for people",
    "organization_id": "its organization",
    "created_at": "when it was made",
    "updated_at": "when it was last changed",
    "started_at": "when it began",
    "ended_at": "when it ended; null while it has not",
    "kind": "the kind of message, as in `kinds.py`",
    "sender_id": "who sent it",
    "recipient_id": "whom it is for",
    "agent_id": "the agent",
    "session_id": "its conversation",
    "meeting_id": "its meeting",
    "message_type": "who wrote it: the application, or the SDK about itself",
    "content": "the payload, as JSON text",
    "metadata": "the metadata, as JSON text",
    "checksum": "crc32 of content and metadata, compared whenever they are opened",
    "xid": "the transaction that stored it: the order of commits is by this and `seq`",
    "state": "where it stands",
    "token": "rises by one at each claim; only the newest may settle",
    "attempt": "runs so far; one that was given back does not count",
    "max_attempts": "runs before it has failed for good",
    "suspect": "a process died that had it",
    "origin": "the process that stored it, which is told how it ends",
    "owner": "the process that has it",
    "run_due": "0: due; otherwise when it becomes due",
    "run_at": "when it becomes due; null: at once",
    "expires_due": "when it expires",
    "expires_at": "when it expires",
    "claimed_at": "when it was last claimed",
    "settled_at": "when it ended",
    "settled_due": "when it ended",
    "read_at": "when its recipient read it; null: unread",
    "deadline_due": "when its time is over",
    "deadline_at": "when its time is over",
    "log": "what went wrong so far, as a JSON array; null is none",
    "process_id": "the process",
    "message_seq": "the message that belongs to it",
    "priority": "0 is the most urgent",
    "type": "its type",
    "reason": "why it ended so",
    "ended_as": "how the newest claim ended; null while it is open",
    "queued_due": "since when it has been due, for statistics",
    "queued_at": "since when it has been due, for statistics",
    "claim_until_due": "the hard end of the claim",
    "claim_until": "the hard end of the claim",
    "is_one": "there is one row",
    "asker_id": "who asks",
    "host": "the name of its machine",
    "pid": "its number there",
    "boot_id": "the boot of the machine",
    "thread": "the thread; `''` is the main one",
    "is_ended": "nobody waits any more",
    "number": "its number, from 1",
    "worker_id": "the worker",
    "messages.recipient_id": "whom it is for; null: everybody in a meeting",
    "messages.seq": "its number. On SQLite the order of commits; on PostgreSQL drawn before the commit, so it is not",
    "deliveries.lane": "sender and thread: order is kept within it",
    "deliveries.is_unread": "whether `read_at` is null, for an index",
    "lists.number": "its number, which stands in its entries",
    "lists.owner_id": "the agent, or the session",
    "lists.name": "which of its lists",
    "lists.sender_id": "of which sender; `''` is all",
    "lists.thread": "in which thread; `''` is all",
    "listed.list": "the list",
    "listed.seq": "the message",
    "deliveries.ask_timeout": "of an ask: the seconds its asker waits, so that its run may take as long",
    "deliveries.session_id": "as of its message: a session is read by its deliveries",
    "deliveries.run_at": "when it becomes due; on SQLite for people, beside `run_due`",
    "idempotency_keys.call": "the public call",
    "idempotency_keys.key": "the key of its caller",
    "idempotency_keys.fingerprint": "a hash of recipients, payload and options: a repeat must have the same",
    "idempotency_keys.message_ids": "what the first call stored",
    "subscriptions.pattern": "the pattern",
    "floors.seq": "nothing up to this one is due or claimed any more",
    "sessions.agent_b_id": "the greater one",
    "sessions.session_type": "the kind of call that opened it",
    "sessions.ended_by": "the agent that ended it",
    "deliveries.ask_state": "of an ask: where it stands; null: it is none",
    "deliveries.ask_deadline_due": "when the ask times out, by the store's clock",
    "deliveries.ask_deadline_at": "the same for people",
    "deliveries.ask_answer_seq": "the message that answered it",
    "deliveries.ask_reason": "why the ask failed",
    "deliveries.ask_ended_at": "when the ask ended",
    "asks.responder_id": "who is asked",
    "asks.answer_seq": "the message that answered it",
    "waits.until_due": "until when; null: as long as its process lives",
    "notices.created_due": "from when on it may be told",
    "notices.created_at": "from when on it may be told",
    "notices.recipient_id": "whose handlers are to be told",
    "hops.from_id": "who passed it on",
    "hops.to_id": "to whom",
    "hops.kept_seq": "its number",
    "hops.forwarded_at": "when it was passed on",
    "streams.ask_id": "the ask",
    "streams.token": "the token of that claim",
    "parts.ask_id": "the ask",
    "parts.content": "the part, as JSON text",
    "meetings.host_id": "its host",
    "meetings.status": "where it stands",
    "meetings.selection": "who is next where the speaker names nobody",
    "meetings.host_speaks": "whether the host has turns like the others",
    "meetings.deadline_at": "of `max_duration`, from the start",
    "meetings.end_reason": "why it ended",
    "participants.join_order": "the order of joining; 0 is the host",
    "participants.status": "how it stands",
    "participants.joined_at": "when it attended",
    "participants.left_at": "when it left",
    "turns.purpose": "for speaking, or for choosing who speaks",
    "turns.how": "how it ended; null: it is current",
    "turns.delivery_seq": "the delivery of the turn handler's run",
    "turns.message_seq": "the speech that ended it",
    "meeting_events.agent_id": "whom it is about",
    "processes.lease_until": "until when it owns what it has claimed",
    "processes.backend_start": "when that connection began",
    "processes.ended_due": "when it ended",
    "processes.end_reason": "stopped in order, or died",
    "services.explicit": "by name, and not as one of all that it registered",
    "services.slots": "how many runs at once",
    "store_clock.offset_us": "what is to be added to the clock of that boot",
    "store_clock.shift": "what is to be added to the server's clock",
    "search_words.seq": "the message",
    "search_words.words": "its words",
    "search_state.owner": "the process that moves it on",
    "unread_counts.unread": "how many; on PostgreSQL the rows of an agent and a kind are added up",
    "queue_messages.agent_id": "whose queue",
    "queue_messages.message_id": "its id, of its sender's making",
    "workers.id": "its name",
    "workers.role": "what it is, in its own word",
    "workers.capabilities": "what it can do",
    "workers.capacity": "tasks at once",
    "workers.status": "how it stands, in its own word",
    "workers.alive_until_due": "alive until then, unless it gives another sign",
    "workers.alive_until": "alive until then, unless it gives another sign",
    "workers.load": "the share of its room that is taken",
    "workers.pulls": "it takes tasks itself, and needs no message",
    "workers.registered_at": "when it was registered",
    "workers.heartbeat_at": "its last sign of life",
    "workers.idle_at": "since when it has had nothing",
    "queue_counts.what": "a state; `failed`; or `p0` to `p4`, what is open of a priority",
    "queue_counts.number": "how many; on PostgreSQL the rows of a queue and a word are added up",
    "queue_counts.is_sum": "the others are added to this one when time passes",
    "task_counts.supervisor": "who handed them out; `''` is nobody",
    "task_counts.number": "how many; on PostgreSQL the rows of a supervisor and a state are added up",
    "task_counts.is_sum": "the others are added to this one when time passes",
    "tasks.id": "its name, of its supervisor's making or a UUID",
    "tasks.description": "for people",
    "tasks.needs": "the capabilities that it needs, in order",
    "tasks.supervisor": "who handed it out",
    "tasks.run_limit": "seconds a run may take",
    "tasks.until_at": "when the booking or the run is overdue",
    "tasks.result": "its result, as JSON text",
    "tasks.result_checksum": "of the result",
    "tasks.fraction": "how far it is, from 0 to 1",
    "tasks.note": "what it says of how far it is",
    "tasks.assigned_at": "when a worker got it",
    "schedules.name": "its name",
    "schedules.rule": "cron expression, or seconds",
    "schedules.zone": "the time zone of the rule",
    "schedules.next_at": "when it fires next",
    "schedules.next_due": "when it fires next",
    "schedules.fired": "how often it has fired",
    "schedules.fired_at": "when it last fired",
    "imports.begun_at": "when it began",
    "imports.finished_at": "when it was whole",
    "import_rows.position": "its place",
}  # fmt: skip

INDEXES = {
    "agents_of_organization": "the agents of an organization, by name",
    "messages_said": "what an agent said in meetings",
    "messages_sent": "what an agent sent, page by page",
    "messages_received": "what an agent received, page by page",
    "messages_of_session": "the messages of a conversation",
    "messages_of_meeting": "the history of a meeting",
    "deliveries_ready": "what may be claimed: from lane to lane by seeking",
    "deliveries_scheduled": "what becomes due next",
    "deliveries_claimed": "the open claims of a lane; claims whose time is over",
    "deliveries_suspect": "what is run alone, because a process died that had it",
    "deliveries_scheduled_for": "how much of a mailbox is scheduled",
    "deliveries_expiring": "what expires next",
    "deliveries_dead": "dead letters, the newest first",
    "deliveries_unread": "what an agent has not read",
    "deliveries_unread_from": "what an agent has not read of one sender",
    "deliveries_unread_in": "the same in one thread",
    "deliveries_left": "late answers: what no handler had, and nobody has read",
    "deliveries_left_in": "the same in one thread",
    "deliveries_threads": "what is queued in any thread but the main one",
    "deliveries_read_open": "what is open though it was read",
    "subscriptions_of_agent": "the patterns of an agent",
    "sessions_open": "one open session of two agents in a thread",
    "sessions_of_a": "the sessions of an agent",
    "sessions_of_b": "the same, from the other side",
    "sessions_of_runs": "sessions that may be named after a run's message",
    "asks_open": "one open ask of each side in a session",
    "asks_taken": "asks that an agent's own code has read",
    "asks_deadline": "which ask times out next",
    "asks_within": "what a run waits for",
    "asks_of_session": "the asks that a session's end has ended",
    "asks_answered": "which ask a message answered",
    "waits_of_lane": "who waits for a message of a lane",
    "waits_of_process": "the waits of a process",
    "waits_within": "runs that wait for a message",
    "notices_of_recipient": "what an agent's notification handlers are to be told",
    "notices_due": "which notice is due next",
    "hops_of_asker": "the ways of an agent's asks",
    "hops_by_kept": "the ask of a message that stayed with who passed it on",
    "meetings_of_host": "the meetings that an agent hosts",
    "meetings_by_status": "the meetings that stand so",
    "participants_of_agent": "the meetings of an agent",
    "turns_current": "one current turn of a meeting",
    "turns_deadline": "which turn ends next by its time",
    "meeting_events_of_meeting": "the timeline of a meeting",
    "meeting_events_feed": "the feed, in the order of commits",
    "processes_living": "the processes that have not ended",
    "processes_live": "the processes that have not ended",
    "processes_ended": "the processes that ended lately",
    "services_of_agent": "who serves an agent",
    "search_words_by_word": "the messages that have a word",
    "unread_counts_sums": "the sum of an agent and a kind",
    "unread_counts_changes": "what is still to be added to it",
    "queue_ready": "what a queue gives next",
    "queue_suspect": "what is received alone, because a process died that had it",
    "queue_scheduled": "what becomes due next",
    "queue_claimed": "what a process has; claims whose time is over",
    "queue_claimed_by": "what a process has",
    "queue_expiring": "what expires next",
    "queue_dead": "the dead letters of a queue",
    "queue_settled": "what ended when, for retention and statistics",
    "queue_counts_sums": "the sum of a queue and a state",
    "queue_counts_changes": "what is still to be added to it",
    "task_counts_sums": "the sum of a supervisor and a state",
    "task_counts_changes": "what is still to be added to it",
    "queue_listeners_of": "the queues that a process waits for",
    "workers_in_order": "the least loaded worker of each set of capabilities",
    "workers_alive": "who is missed next",
    "workers_told": "workers that are told by messages, and have tasks",
    "worker_processes_of": "the workers of a process",
    "tasks_ready": "what a worker may take, by capabilities and type",
    "tasks_to_assign": "what is to be booked again",
    "tasks_scheduled": "what becomes due next",
    "tasks_held": "what a worker has",
    "tasks_run": "what a process runs",
    "tasks_until": "which booking or run is overdue next",
    "tasks_deadline": "which task expires next",
    "tasks_listed": "the tasks of a state, page by page",
    "tasks_open_of": "the open tasks of a supervisor",
    "tasks_done_of": "the newest tasks of a supervisor that are done, for statistics",
    "tasks_settled": "what ended when, for retention",
    "tasks_of_supervisor": "the tasks of a supervisor",
    "schedules_due": "which schedule fires next",
    "schedules_since": "intervals whose clock was set back",
}

HEAD = """# Database schema

Both stores have the same tables, with the same names, in the same numbered migrations. This page is for those who look into a \
store, report on it, or review it: the tables are no public interface, and a release may change them by a migration. Read them as \
you like; write only through the SDK, because what stands in one row often follows from others. `agent-messaging doctor --deep` \
checks all of it.

It is written by `scripts/describe_schema.py` from the migrations in `src/agent_messaging/storage/sqlite/migrations` and \
`src/agent_messaging/storage/postgres/migrations`.

- **Instants.** On PostgreSQL an `instant` is a `timestamptz` by the store's clock. On SQLite instants are integer microseconds: \
`…_at` since 1970 in UTC, for people, and `…_due` by the store's clock, which does not jump, for decisions.
- **Ids** are UUIDs, `uuid` on PostgreSQL and text on SQLite. Names of queues, workers and tasks are text on both.
- **Payloads** are JSON in text, not `jsonb`: their checksum is of the text.
- **Removing** an organization or an agent removes what hangs on it, by foreign keys, triggers, and on SQLite by statements of the \
SDK, where a foreign key would cost every message an index. On PostgreSQL it has to be done in a transaction that is read \
committed, as one is unless you say otherwise; any other is refused.
- **`schema_migrations`** records which migrations were applied, with their checksums: an applied one never changes again.
- Every table of SQLite is `STRICT`. A column that one store alone has is empty under the other one's heading; `null` means that it \
may be empty.
"""


@dataclass
class Table:
    """One table, as one store has it."""

    columns: dict[str, str] = field(default_factory=dict)
    """Types by name."""
    words: dict[str, str] = field(default_factory=dict)
    """The comments beside them."""
    keys: list[str] = field(default_factory=list)
    indexes: dict[str, str] = field(default_factory=dict)


@dataclass
class Schema:
    """What the migrations of one store make."""

    tables: dict[str, Table] = field(default_factory=dict)
    others: dict[str, dict[str, str]] = field(default_factory=dict)
    """Views, functions, triggers and domains by name, with the first sentence of the comment above each."""


PROBLEMS: list[str] = []
"""What the words of this script lack, or have too much."""
COLUMN = re.compile(r"^  (\w+) (.*)$")
KEY = re.compile(r"(primary key|unique|check|foreign key)\b")


def _statements(sql: str) -> list[tuple[str, str]]:
    """The statements of a migration, each with the comment above it; bodies of functions and triggers are left out."""
    sql = re.sub(r"\$\$.*?\$\$", "$$", sql, flags=re.DOTALL)
    sql = re.sub(r"\bbegin\n.*?\nend;", "begin end;", sql, flags=re.DOTALL)
    sql = re.sub(r"begin\n.*?^end;", "begin end;", sql, flags=re.DOTALL | re.MULTILINE)
    found, comment, lines = [], list[str](), list[str]()
    for line in sql.splitlines():
        if not lines and line.startswith("--"):
            comment.append(line.removeprefix("--").strip())
        elif not lines and not line.strip():
            comment = []
        else:
            lines.append(line)
            code = line.partition("--")[0].rstrip()
            if code.endswith(";"):
                found.append(("\n".join(lines), " ".join(comment)))
                comment, lines = [], []
    assert not lines, lines
    return found


def _type(definition: str) -> str:
    """What a page says of a column's type: the type, and whether it may be null."""
    definition = re.sub(r' collate "C"| references .*?\)( on delete cascade)?', "", definition)
    is_filled = "not null" in definition or "primary key" in definition or "generated always" in definition
    name = re.split(r" (?:not|primary|default|check|unique|generated)\b", definition)[0]
    return name if is_filled else f"{name}, null"


def _read_table(body: str) -> Table:
    table, last = Table(), ""
    depth = 0
    for line in body.splitlines()[1:]:
        code, _, comment = line.partition("--")
        code, comment = code.rstrip().rstrip(","), comment.strip()
        if line.startswith(")"):
            break
        if code.strip() and depth == 0:
            found = COLUMN.match(code)
            if found and not KEY.match(code.strip()):
                last = found[1]
                table.columns[last] = _type(found[2])
                _read_keys(table, last, found[2])
            elif not code.strip().startswith("check"):
                table.keys.append(code.strip())
        depth += code.count("(") - code.count(")")
        if comment and last:
            table.words[last] = f"{table.words.get(last, '')} {comment}".strip()
    return table


def _read_keys(table: Table, column: str, definition: str) -> None:
    if "primary key" in definition:
        table.keys.append(f"primary key ({column})")
    if re.search(r"\bunique\b", definition):
        table.keys.append(f"unique ({column})")
    if reference := re.search(r"references (\w+) \((\w+)\)( on delete cascade)?", definition):
        goes = ", removed with it" if reference[3] else ""
        table.keys.append(f"({column}) refers to {reference[1]} ({reference[2]}){goes}")


def read(package: str) -> Schema:
    """What the migrations of this store make."""
    schema = Schema()
    for migration in load(package):
        for text, comment in _statements(migration.sql):
            code = re.sub(r"\s+", " ", re.sub(r"--.*", "", text)).strip().rstrip(";")
            if found := re.match(r"create table (\w+) \(", code):
                schema.tables[found[1]] = _read_table(text)
            elif found := re.match(r"create virtual table (\w+) using fts5 \((\w+)", code):
                schema.tables[found[1]] = Table({found[2]: "fts5"})
            elif found := re.match(r"create (?:unique )?index (\w+) on (\w+) (.*)$", code):
                schema.tables[found[2]].indexes[found[1]] = ("unique " if "unique" in code[:14] else "") + found[3]
            elif found := re.match(r"alter table (\w+) add column (\w+) (.*)$", code):
                table = schema.tables[found[1]]
                table.columns[found[2]] = _type(found[3])
                beside = text.partition("--")[2].strip() or comment
                table.words.setdefault(found[2], beside)
            elif found := re.match(r"create (view|function|trigger|domain) (\w+)", code):
                words = re.split(r"(?<=[.:])\s", comment)[0].rstrip(":")
                schema.others.setdefault(found[1], {})[found[2]] = words
            elif not code.startswith("insert into"):
                raise SystemExit(
                    f"{package}, {migration.number:04} {migration.name}: nobody taught this script {code[:60]!r}"
                )
    return schema


def _meaning(table: str, column: str, schemas: dict[str, Schema]) -> str:
    own = COLUMNS.get(f"{table}.{column}")
    said = [one.tables[table].words.get(column, "") for one in schemas.values() if table in one.tables]
    words = own or next((text for text in said if text), "") or COLUMNS.get(column, "")
    if not words:
        raise SystemExit(
            f"{table}.{column} has no word: write a comment beside it, or an entry in COLUMNS of this script."
        )
    return words.rstrip(".").replace("|", "\\|")


def _describe(table: str, words: str, schemas: dict[str, Schema]) -> list[str]:
    having = {store: schema.tables[table] for store, schema in schemas.items() if table in schema.tables}
    if not having:
        PROBLEMS.append(f"There is no table {table} any more: take it out of TABLES.")
        return []
    lines = [
        f"### {table}",
        "",
        words + ("" if len(having) == len(schemas) else f" {next(iter(having))} alone has it."),
        "",
    ]
    columns = list(dict.fromkeys(column for one in having.values() for column in one.columns))
    lines += [f"| column | {' | '.join(having)} | what it is for |", "|---|" + "---|" * len(having) + "---|"]
    for column in columns:
        types = " | ".join(one.columns.get(column, "") for one in having.values())
        lines.append(f"| `{column}` | {types} | {_meaning(table, column, schemas)} |")
    keys: dict[str, list[str]] = {}
    for store, one in having.items():
        for key in one.keys:
            keys.setdefault(re.sub(r" on delete cascade", ", removed with it", key), []).append(store)
    if keys:
        texts = [text + ("" if len(stores) == len(having) else f" ({stores[0]})") for text, stores in keys.items()]
        lines += ["", "Keys: " + "; ".join(texts) + "."]
    names = list(dict.fromkeys(name for one in having.values() for name in one.indexes))
    if names:
        lines += ["", f"| index | {' | '.join(having)} | finds |", "|---|" + "---|" * len(having) + "---|"]
    for name in names:
        if name not in INDEXES:
            PROBLEMS.append(f"The index {name} of {table} has no word: write an entry in INDEXES.")
        shown = [f"`{one.indexes[name]}`" if name in one.indexes else "" for one in having.values()]
        lines.append(f"| `{name}` | {' | '.join(shown)} | {INDEXES.get(name)} |")
    return [*lines, ""]


def page() -> str:
    """The document."""
    schemas = {store: read(package) for store, package in STORES.items()}
    known = {table for schema in schemas.values() for table in schema.tables}
    described = {table for tables in TABLES.values() for table in tables}
    PROBLEMS.extend(f"The table {table} has no word: write an entry in TABLES." for table in sorted(known - described))
    indexes = {name for schema in schemas.values() for table in schema.tables.values() for name in table.indexes}
    PROBLEMS.extend(
        f"There is no index {name} any more: take it out of INDEXES." for name in sorted(INDEXES.keys() - indexes)
    )
    lines = [HEAD]
    for title, tables in TABLES.items():
        lines += [f"## {title}", ""]
        for table, words in tables.items():
            lines += _describe(table, words, schemas)
    lines += ["## Views, triggers and functions", ""]
    for store, schema in schemas.items():
        for kind in ("domain", "view", "trigger", "function"):
            if named := schema.others.get(kind):
                lines += [f"### {store}: {kind}s", ""]
                lines += [f"- `{name}`{f': {words}' if words else ''}" for name, words in named.items()] + [""]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Write the page, or compare it."""
    text = page()
    if PROBLEMS:
        print("\n".join(PROBLEMS), "In scripts/describe_schema.py.", sep="\n")
        return 1
    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
            print("docs/schema.md is not what scripts/describe_schema.py writes. Run it, and commit that.")
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
