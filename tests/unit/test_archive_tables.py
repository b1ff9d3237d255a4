"""Every table and column of a store is in its archives, or there is a reason why not."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_messaging.storage.archive import BODIES, LEFT_OUT, TABLES, Form, Reader, Writer, shift_of
from agent_messaging.storage.migrations import load

BACKENDS = ("sqlite", "postgres")
ELSEWHERE = {
    "seq": "the numbers of a store are its own",
    "xid": "the numbers of a store are its own",
    "claim_until": "no claim is in an archive",
    "claim_until_due": "no claim is in an archive",
    "process_id": "whom to wake is a process",
    "load": "the store computes it",
    "lane": "the store computes it",
    "is_unread": "the store computes it",
    "turn_at": "it is the turn of a process of this store",
    "turn_due": "it is the turn of a process of this store",
}
"""Columns of exported tables that are in no archive, with the reason."""
OF_THE_MESSAGE = {"deliveries": {"recipient_id", "kind", "sender_id", "session_id"}}
"""Columns that a table has as the message has them."""
BY_ID = {
    "within": "within_id",
    "taken_within": "taken_within_id",
    "answer_seq": "answer_id",
    "kept_seq": "kept_id",
    "delivery_seq": "delivery_id",
    "message_seq": "message_id",
}
"""Columns that refer to a message by its number, and the name under which the archive has its id."""


def schema(backend: str) -> dict[str, set[str]]:
    """The columns of each table, as the migrations make them."""
    text = "\n".join(migration.sql for migration in load(f"agent_messaging.storage.{backend}"))
    tables: dict[str, set[str]] = {}
    for name, body in re.findall(r"^create table (\w+) \((.*?)^\)", text, re.M | re.S):
        tables[name] = set(re.findall(r"^  (\w+) (?!key|\()\w+", body, re.M)) - {"primary", "unique", "check"}
    for name in re.findall(r"^create virtual table (\w+)", text, re.M):
        tables[name] = set()
    for name, column in re.findall(r"^alter table (\w+) add column (\w+)", text, re.M):
        tables[name].add(column)
    if "asks" not in tables:  # on SQLite they are parts of their deliveries, and a view
        parts = {column for column in tables["deliveries"] if column.startswith("ask_")} - {"ask_timeout"}
        tables["deliveries"] -= parts
        tables["asks"] = {column.removeprefix("ask_") for column in parts}
    return tables


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_table_is_exported_or_left_out_for_a_reason(backend: str) -> None:
    found = set(schema(backend)) | {"schema_migrations"}
    assert found - set(TABLES) - set(LEFT_OUT) == set(), "enter it in storage/archive/tables.py"
    assert set(TABLES) - found == set()
    assert set(TABLES) & set(LEFT_OUT) == set()
    assert all(LEFT_OUT.values())


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_column_of_an_exported_table_is_exported_or_left_out_for_a_reason(backend: str) -> None:
    tables = schema(backend)
    for table, spec in TABLES.items():
        told = {column.name for column in spec.columns}
        told |= {column.due for column in spec.columns if column.due}
        told |= {number for number, name in BY_ID.items() if name in told}
        told |= ELSEWHERE.keys() | OF_THE_MESSAGE.get(table, set())
        assert tables[table] - told == set(), (
            f"of {table}: enter it in storage/archive/tables.py, and in both archive.sql"
        )


def test_what_a_row_belongs_to_comes_before_it() -> None:
    order = list(TABLES)
    for table, spec in TABLES.items():
        assert all(order.index(other) < order.index(table) for other in spec.belongs.values())
        assert len(spec.key) == len(spec.start)
    assert all(
        set(body) - {None} <= {column.name for column in TABLES[table].columns}
        for table in BODIES
        for body in BODIES[table]
    )


# --- instants ---------------------------------------------------------------------------------------------------------

NOW = datetime(2030, 1, 31, 9, tzinfo=UTC)
AT = int(NOW.timestamp()) * 1_000_000
SCHEDULE: dict[str, Any] = {
    "name": "nightly",
    "rule": "0 3 * * *",
    "zone": "UTC",
    "task": "[]",
    "fired": 0,
    "fired_at": None,
    "created_at": AT,
}


def test_instants_of_one_clock_are_those_of_the_other() -> None:
    """A clock that was set by an hour since the boot is not taken along; the slack between two clocks is not told."""
    assert shift_of(AT, AT + 400_000) == 0
    hour = shift_of(AT, AT + 3_600_000_123)
    assert hour == 3_600_000_000
    there = Reader(hour, NOW).read("schedules", SCHEDULE | {"next_at": AT + 90_000_000, "next_due": AT})
    assert there["next_at"] == "2030-01-31T10:00:00.000000+00:00"
    close = Reader(0, NOW).read("schedules", SCHEDULE | {"next_at": AT + 250, "next_due": AT})
    assert close["next_at"] == "2030-01-31T09:00:00.000250+00:00"
    back = Writer(hour, as_numbers=True).make("schedules", there)
    assert (back["next_at"], back["next_due"]) == (AT + 3_600_000_000, AT)
    text = Writer(hour, as_numbers=False).make("schedules", there)
    assert text["next_at"] == "2030-01-31T09:00:00.000000+00:00"
    assert "next_due" not in text
    assert Reader(hour, NOW).read("schedules", text | {"created_at": "2030-01-31T09:00:00+00:00"}) == there


def test_the_last_of_all_instants_is_not_moved_beyond_it() -> None:
    last = datetime.max.replace(tzinfo=UTC).isoformat()
    due = int((datetime.max - datetime(1970, 1, 1)) / timedelta(microseconds=1))
    for hour in (-3_600_000_000, 3_600_000_000):
        there = Reader(hour, NOW).read("schedules", SCHEDULE | {"next_at": due, "next_due": due})
        assert Writer(hour, as_numbers=True).make("schedules", there)["next_due"] <= due + 3_600_000_000
        assert Writer(-hour, as_numbers=False).make("schedules", there)["next_at"] <= last


def test_a_value_that_no_store_has_is_refused() -> None:
    row = {column.name: None for column in TABLES["organizations"].columns}
    with pytest.raises(ValueError, match="the id of its row of organizations with external_id None"):
        Writer(0, as_numbers=False).make("organizations", row | {"id": "x"})


def test_each_form_is_used() -> None:
    assert {column.form for spec in TABLES.values() for column in spec.columns} == set(Form)
