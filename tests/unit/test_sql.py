"""The SQL files: how they are read, that the backends are twins, and that no SQL is put together in Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

import agent_messaging.storage
from agent_messaging.exceptions import SchemaVersionError
from agent_messaging.states import Prunable
from agent_messaging.storage.archive import TABLES, TAKEN
from agent_messaging.storage.checks import KEYS, RULES
from agent_messaging.storage.migrations import Migration, load, pending, require_current
from agent_messaging.storage.ports import Pruning
from agent_messaging.storage.retention import WALKED, find_walk
from agent_messaging.storage.sql import Queries, parse

STORAGE = Path(agent_messaging.storage.__file__).parent
BACKENDS = ("sqlite", "postgres")

ONE_SIDED = {
    "sqlite": {
        "append_look": "one writer: looks first, then writes what is decided",
        "settle_read": "triggers of PostgreSQL look at the row before they run",
        "touch_index": "FTS5 keeps what it has read of the index",
        "file": "spread indexes cost SQLite whole pages in each commit; PostgreSQL logs entries",
        "find_next": "one writer: the next number is the greatest and one",
        "find_filed": "the same as for file",
        "find_misfiled": "the same as for file",
        "find_mislisted": "the same as for file",
        "find_numbering": "the same as for file",
        "search_refile": "the same as for file",
        "remove_messages": "PostgreSQL's triggers do it",
        "find_statistics": "PostgreSQL takes stock by itself, again and again",
        "drop_statistics": "the same",
        "append_insert_deliveries": "PostgreSQL inserts messages and deliveries in one statement",
        "advance_expire_find": "one writer: looks first; UPDATE ... RETURNING would give the writer's lock up per row",
        "redrive_find": "the same",
        "redrive_find_all": "the same",
        "settle_find": "the same",
        "settle_insert_answers": "PostgreSQL ends deliveries and stores answers in one function",
        "withdraw_find": "the same",
        "release_find": "the same",
        "presence_find": "signs of life are locks of files, which only the processes can look at",
        "presence_list": "the same",
        "presence_list_locks": "the same",
        "claim_lanes": "PostgreSQL finds and takes in one round trip, by functions of the server",
        "claim_any": "the same",
        "claim_take": "the same",
        "append_insert_asks": "PostgreSQL inserts all that a call with conversations stores in one statement",
        "append_insert_notices": "the same",
        "asks_end": "one writer: what is to end is found first, so that one statement ends all",
        "asks_find_claimed": "the same",
        "asks_find_failed": "PostgreSQL finds and ends them in one statement",
        "asks_find_late": "the same",
        "asks_find_new": "PostgreSQL has an index of deadlines, which costs a commit no page there",
        "asks_find_next": "the same",
        "asks_find_open": "the same",
        "asks_find_of_processes": "one writer: what is to end is found first, so that one statement ends all",
        "asks_find_returned": "the same",
        "advance_release_find": "the same",
        "close_asks_find": "the same",
        "has_wait": "the same",
        "take_notices_find_all": "its planner does not use an index where the recipients may be none",
        "create_seats": "PostgreSQL stores a meeting with its seats and invitations in one statement",
        "act_find_names": "PostgreSQL reads in one statement all that an act needs",
        "act_meeting": "PostgreSQL writes in one statement all that acts change",
        "act_seats": "the same",
        "act_end_turn": "the same",
        "act_insert_turns": "the same",
        "act_insert_messages": "the same",
        "act_insert_deliveries": "the same",
        "act_insert_events": "the same",
        "act_end_delivery": "the same",
        "act_withdraw_invitations": "the same",
        "queue_claim_find": "one writer: looks first, then writes what is decided",
        "queue_claim_read": "the same",
        "tasks_read_taken": "the same",
        "tasks_find_failed": "the same",
        "tasks_find_all_failed": "the same",
        "compact": "PostgreSQL has its own tools",
        "release_space": "PostgreSQL keeps freed pages for new rows",
        "list_boots": "the store's clock is the same in every live process, whatever it calls the boot",
    },
    "postgres": {
        "search_reach": "FTS5 keeps its words in order, and reads those with a beginning alone",
        "end_cut_off": "one writer: a write that was begun is waited for",
        "lock_claims": "one writer: what it was given before has been committed",
        "append_find_agents": "SQLite's append_look answers them too",
        "claim": "one round trip for finding and taking, which are functions of the server",
        "append_lock_asks": "many writers: one at a time looks for circles",
        "append_correct_sessions": "many writers: sessions are locked, or opened, before it is known what is stored",
        "append_insert_conversation": "one round trip for all that a call with conversations stores",
        "append_plain_conversation": "the same, of a call that concerns nothing that is open",
        "append_plain_talk": "the same, of one message: single values are cheaper for the server than arrays",
        "raise_floors": "on SQLite no snapshot keeps versions in the way of claims",
        "lower_floors": "the same",
        "find_hidden": "the same",
        "settle_one": "the same, of one message that is done",
        "forward_lock": "many writers: what was read before the lock may be old",
        "asks_fail": "many writers: finding and ending an ask are one guarded statement",
        "asks_time_out": "the same",
        "asks_cancel_of_processes": "the same",
        "close_asks": "the same",
        "end_session_asks": "the same",
        "take": "the same",
        "return_messages_lock": "many writers: what was read before the lock may be old",
        "end_session_again": "a call may be repeated by the engine, after a commit whose answer was lost",
        "act_lock": "many writers: of a meeting, one act at a time, and what was read before the lock may be old",
        "act_try_lock": "the same, of what nobody holds: on SQLite acts that wait together have the only writer",
        "act_write": "one round trip for all that acts change",
        "remove_agent_lock": "many writers: who is going gets no seat in a new meeting",
        "remove_organization_lock": "many writers: what is going gets no more agents",
        "remove_organization_lock_agents": "many writers: who is going gets no seat in a new meeting",
        "lock_migrations": "many writers; SQLite has one lock for all",
        "find_newest_xid": "seq is not the order of commits, so followers go by transaction",
        "forget_xids": "the same",
        "list_messages_held_back": "the same",
        "search_count": "SQLite counts when it files",
        "search_analyze": "SQLite chooses no plan by how frequent a word is",
        "search_lock": "one writer: nobody is in the middle of reading a message",
        "find_left_claims": "a lease may end while a claim is being committed; a lock of SQLite's processes does not",
        "presence_backend": "signs of life are leases and connections, which the server keeps",
        "presence_channel": "the same",
        "presence_dead": "the same",
        "presence_drop_claims": "the same",
        "presence_renew": "the same",
        "presence_ring": "the same",
        "presence_withdraw": "the same",
        "parts_lock": "many writers: one at a time writes to a stream, and what was read before the lock may be old",
        "tasks_lock": "many writers: what was read before the lock may be old",
        "tasks_fold_counts": "many writers: changes of counts are rows of their own, until somebody adds them up",
        "tasks_forget_counts": "the same",
        "queue_fold_counts": "the same",
        "queue_forget_counts": "the same",
        "tasks_lock_named": "the same",
        "tasks_exchange": "many writers: two must not take one task; and the server takes two steps in one round trip",
        "tasks_exchange_plain": "the same, of runs that are done and of tasks for one worker",
        "tasks_lock_to_assign": "many writers: two must not take one task",
        "tasks_lock_takers": "many writers: what a worker takes may be committed after a look at it",
        "tasks_submit": "many writers: who stores the same task is waited for only a moment",
        "workers_assign_lock": "many writers: one at a time chooses workers",
        "workers_lock": "many writers: what a worker has is counted while nobody else changes it",
        "topics_lock": "many writers: no subscription changes between a match and its commit",
        "topics_share": "the same",
        "remove_take_turn": "many writers: two removals would take the same messages with them, in two orders",
        "remove_patience": "the turn is waited for longer than a row is",
        "remove_be_patient": "the same",
        "prune_messages_lock": "many writers: what was read before the lock may be old",
        "prune_sessions_lock": "the same",
        "prune_meetings_lock": "the same",
        "prune_keys_lock": "the same",
        "search_horizon": "seq is not the order of commits: the index waits for who may still commit a smaller one",
        "search_settings": "how frequent a word is decides the plan; all other statements have one plan",
        "lock_imports": "many writers: of two that begin an import, one is first",
        "find_server": "the settings of a server are looked at before it is trusted",
        "find_holder": "SQLite has one writer, and no versions that others keep",
        "use_connection_check": "a setting of the connection",
        "use_settings": "the same",
        "find_backend": "tells whether a pooler is between",
        "list_columns": "tells our schema from a stranger's in the same database",
    },
}
"""Blocks that one backend has and the other has not, with the reason."""


# --- the loader -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_literal_goes_over_a_line(backend: str) -> None:
    """Indentation is taken off, and lines that begin with two hyphens; in a literal both would be contents."""
    lines = [
        line for path in (STORAGE / backend / "sql").glob("*.sql") for line in path.read_text("utf-8").splitlines()
    ]
    assert [line for line in lines if line.partition("--")[0].count("'") % 2] == []


def test_a_file_is_split_at_its_names() -> None:
    text = "-- About this file.\n\n-- name: first\nselect 1\n\n-- name: second_2  \n-- Why.\nselect 2,\n  3\n"
    assert parse(text) == {"first": "select 1", "second_2": "select 2,\n3"}


def test_a_name_inside_a_line_begins_no_block() -> None:
    assert parse("-- name: first\nselect '-- name: x' -- name: y\n") == {"first": "select '-- name: x' -- name: y"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("select 1\n-- name: first\nselect 1", "before the first"),
        ("-- name: first\nselect 1\n-- name: first\nselect 2", "'first' occurs twice"),
        ("-- name: first\n\n-- name: second\nselect 2", "'first' is empty"),
        ("-- name: first\nselect 1\n-- name: second\n", "'second' is empty"),
    ],
)
def test_what_would_be_lost_or_hidden_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_a_file_without_a_block_is_empty() -> None:
    assert parse("-- nothing yet\n") == {}


def test_an_unknown_block_is_an_error_where_it_is_asked_for() -> None:
    queries = Queries("agent_messaging.storage.sqlite", "directory")
    assert queries["find_organization"].startswith("select")
    with pytest.raises(KeyError):
        queries["find_nothing"]


# --- the backends are twins -------------------------------------------------------------------------------------------


def blocks(backend: str) -> dict[str, str]:
    """The blocks of a backend, all nouns together; the noun by name of block."""
    found: dict[str, str] = {}
    for path in sorted((STORAGE / backend / "sql").glob("*.sql")):
        for name in parse(path.read_text(encoding="utf-8")):
            assert name not in found, f"{name} is in {path.name} and in {found[name]}.sql"
            found[name] = path.stem
    return found


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_block_has_its_twin_in_the_same_file_of_the_other_backend(backend: str) -> None:
    other = blocks(BACKENDS[1 - BACKENDS.index(backend)])
    lonely = {name for name, noun in blocks(backend).items() if other.get(name) != noun}
    assert lonely == set(ONE_SIDED[backend])


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_block_is_used(backend: str) -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (STORAGE / backend).glob("*.py"))
    names = {name.removesuffix("_after") if '_after"' in source else name for name in blocks(backend)}
    named = {f"check_{table}" for table in RULES}  # by their tables
    for walk in (find_walk(Pruning(kind, 0)) for kind in Prunable if kind in WALKED):  # by what is walked through
        steps = ("find", "delete") if backend == "sqlite" else ("find", "delete", "lock")
        named |= {f"prune_{walk.page}_page", *(f"prune_{walk.noun}_{step}" for step in steps)}
    named |= {f"{verb}_{table}" for verb in ("read", "put") for table in TABLES} | {f"taken_{table}" for table in TAKEN}
    named |= {f"count_{what}_{side}" for what in ("messages", "narrowed") for side in ("sent", "received", "unread")}
    assert named <= names
    assert [name for name in sorted(names - named) if f'"{name}"' not in source] == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_table_is_checked(backend: str) -> None:
    """But for the clock, which has one row, the migrations, read whole at each start, the index, marks, and lists.

    What is on the lists is compared with the deliveries, both ways.
    """
    migrations = "\n".join(migration.sql for migration in load(f"agent_messaging.storage.{backend}"))
    tables = set(re.findall(r"^create table (\w+)", migrations, re.MULTILINE | re.IGNORECASE))
    tables.add("asks")  # on SQLite a view
    assert tables - {"store_clock", "search_words", "floors", "message_numbers", "lists", "listed"} == set(RULES)
    assert set(KEYS) == set(RULES)


UNCHECKED = {"content", "metadata", "data", "result", "message", "trace", "record", "lane"}
"""Bodies, and what is made of other columns."""


def test_each_text_and_each_due_instant_is_checked_on_sqlite() -> None:
    """PostgreSQL has types that take no bytes that are no text, and no instant that no calendar has."""
    connection = apsw.Connection(":memory:")
    for migration in load("agent_messaging.storage.sqlite"):
        connection.execute(migration.sql)
    read = Queries("agent_messaging.storage.sqlite", "checks")
    for table, rules in RULES.items():
        kinds = dict(connection.execute("select name, type from pragma_table_xinfo(?)", (table,)))
        looked_at = rules.keys() & set(re.findall(r"'(\w+)',\s", read[f"check_{table}"]))
        missed = {name for name, kind in kinds.items() if kind == "TEXT" or name.endswith("_due")} - looked_at
        assert {name for name in missed if not name.startswith("ask_")} <= UNCHECKED, table  # asks are a view


def test_postgres_reads_its_clock_in_one_place() -> None:
    """Everything else says `store_now()`, which does not jump with the server's clock. A connection's age is apart."""
    clock = re.compile(r"\b(clock_timestamp|now|statement_timestamp|transaction_timestamp)\(\)|\bcurrent_timestamp\b")
    allowed = {"record_migration", "end_cut_off"}
    found = {
        name
        for path in (STORAGE / "postgres" / "sql").glob("*.sql")
        for name, block in parse(path.read_text(encoding="utf-8")).items()
        if clock.search(block)
    }
    assert found == allowed


def test_the_migrations_have_the_same_numbers_and_names() -> None:
    sqlite, postgres = (load(f"agent_messaging.storage.{backend}") for backend in BACKENDS)
    assert [(migration.number, migration.name) for migration in sqlite] == [
        (migration.number, migration.name) for migration in postgres
    ]
    assert [migration.number for migration in sqlite] == list(range(1, len(sqlite) + 1))


# --- which migrations are to be applied -------------------------------------------------------------------------------

FIRST, SECOND = Migration(1, "first", "create table a (x);"), Migration(2, "second", "create table b (x);")


def test_what_is_not_recorded_is_pending() -> None:
    assert pending([FIRST, SECOND], {}) == [FIRST, SECOND]
    assert pending([FIRST, SECOND], {1: FIRST.checksum}) == [SECOND]
    assert pending([FIRST, SECOND], {1: FIRST.checksum, 2: SECOND.checksum}) == []


def test_a_store_newer_than_this_release_is_refused() -> None:
    with pytest.raises(SchemaVersionError, match="Upgrade agent-messaging"):
        pending([FIRST], {1: FIRST.checksum, 2: SECOND.checksum})


def test_an_applied_migration_with_another_text_is_refused() -> None:
    with pytest.raises(SchemaVersionError, match=r"Migration 1 \(first\)"):
        pending([FIRST, SECOND], {1: SECOND.checksum})


def test_line_ends_do_not_make_another_text() -> None:
    unix, dos = Migration(1, "x", "a\nb\n"), Migration(1, "x", "a\r\nb\r\n")
    assert unix.checksum == dos.checksum


def test_verifying_names_the_command_and_what_is_missing() -> None:
    require_current([FIRST], {1: FIRST.checksum})
    with pytest.raises(SchemaVersionError, match=r"has no schema yet.*agent-messaging db upgrade"):
        require_current([FIRST], {})
    with pytest.raises(SchemaVersionError, match=r"has schema 1, this release needs 2"):
        require_current([FIRST, SECOND], {1: FIRST.checksum})


# --- no SQL is built --------------------------------------------------------------------------------------------------

SQL = re.compile(
    r"\s*(select|insert|update|delete|with|create|drop|alter|truncate|begin|commit|rollback|savepoint|pragma|attach|set"
    r"|listen|unlisten|notify|copy|vacuum|explain|analyze|grant|lock)\b.*",
    re.IGNORECASE | re.DOTALL,
)


def built_texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Texts that are put together from parts: f-strings, `+`, `%`, `format` and `join`; with the line of each."""
    for node in ast.walk(tree):
        parts: list[ast.expr] = []
        if isinstance(node, ast.JoinedStr):
            parts = node.values[:1]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
            parts = [node.left]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("format", "format_map", "replace", "join")
        ):
            parts = [node.func.value]
        for part in parts:
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.lineno, part.value


def built_sql(source: str) -> list[tuple[int, str]]:
    """Those of them that begin like SQL."""
    return [(line, text) for line, text in built_texts(ast.parse(source)) if SQL.fullmatch(text)]


@pytest.mark.parametrize(
    "source",
    [
        'f"select * from {table}"',
        'f"""\n  SELECT {column}\n"""',
        '"delete from agents where id = " + id',
        '"insert into agents values (%s)" % id',
        '"update {} set x = 1".format(table)',
        'f"listen {channel}"',
        'f"pragma {name}"',
    ],
)
def test_the_scan_sees_sql_that_is_built(source: str) -> None:
    assert built_sql(source)


@pytest.mark.parametrize(
    "source", ['"select 1"', 'f"The store {name!r} is busy"', '"a" + b', 'f"{a} select"', '_SQL["select"] + ""']
)
def test_the_scan_passes_over_what_is_none(source: str) -> None:
    assert built_sql(source) == []


@pytest.mark.parametrize("path", sorted(STORAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(STORAGE)))
def test_no_sql_is_put_together_in_python(path: Path) -> None:
    allowed = {  # whole blocks of our own inside
        "sqlite/engine.py": ["select cast(("],
        "postgres/store.py": ["select "],
    }
    built = [text for _, text in built_sql(path.read_text(encoding="utf-8"))]
    assert built == allowed.get(f"{path.parent.name}/{path.name}", [])
