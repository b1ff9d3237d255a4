"""Rows as the SDK wrote them, whatever its tables look like: stored again by the driver alone, or multiplied.

Nothing here knows a column of the schema but `seq` and `id`. So a change of the schema changes the raw limit with it,
and leaves the benches as they are.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import apsw
import asyncpg

from agent_messaging.config import parse_url
from agent_messaging.storage.sql import Queries

_FILE = Queries("agent_messaging.storage.sqlite", "deliveries")["file"]
NUMBER = "seq"
"""The column that has a message's number, in every table that has rows of messages."""

_ID_SQLITE = """case typeof({template})
when 'blob' then unhex(printf('00000000000070008000%012x', {number}))
when 'integer' then {number} else printf('00000000-0000-7000-8000-%012x', {number}) end"""
_ID_POSTGRES = "('00000000-0000-7000-8000-' || lpad(to_hex({number}), 12, '0'))::uuid"


@dataclass(frozen=True, slots=True)
class Table:
    """A table, and rows of it."""

    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: Sequence[Sequence[Any]] = ()


def open_sqlite(path: str) -> apsw.Connection:
    """A connection with the settings that the SDK has for writing."""
    connection = apsw.Connection(path)
    connection.set_busy_timeout(60_000)
    for setting in (
        "journal_mode=wal",
        "synchronous=full",
        "foreign_keys=on",
        "temp_store=memory",
        "cache_size=-32000",
    ):
        connection.execute(f"pragma {setting}")
    connection.execute("pragma wal_autocheckpoint=2000")
    return connection


# --- stored again -----------------------------------------------------------------------------------------------------


async def restore_rate(url: str, count: int, batch: int) -> float:
    """Take the rows of so many messages out of a store, and store them again; answers messages in a second.

    Every table that has a row for each message under its number takes part, with all its indexes: a transaction for
    each batch, by the fastest way of inserting that the driver has.
    """
    path = parse_url(url).path
    return _restore_sqlite(path, count, batch) if path is not None else await _restore_postgres(url, count, batch)


def _restore_sqlite(path: str, count: int, batch: int) -> float:
    connection = open_sqlite(path)
    try:
        _file(connection)
        tables = []
        for table in _tables_sqlite(connection):
            if NUMBER not in table.columns:
                continue
            names = ", ".join(table.columns)
            rows = list(connection.execute(f"select {names} from {table.name} order by {NUMBER}"))
            if rows and len(rows) % count == 0:  # as many of each message
                tables.append(Table(table.name, table.columns, table.types, rows))
        for table in reversed(tables):
            connection.execute(f"delete from {table.name}")
        connection.pragma("wal_checkpoint", "truncate")
        statements = [
            f"insert into {table.name} ({', '.join(table.columns)}) values ({', '.join('?' * len(table.columns))})"
            for table in tables
        ]
        began = time.perf_counter()
        for start in range(0, count, batch):
            connection.execute("begin immediate")
            for table, statement in zip(tables, statements, strict=True):
                each = len(table.rows) // count
                connection.executemany(statement, table.rows[start * each : (start + batch) * each])
            connection.execute("commit")
        return count / (time.perf_counter() - began)
    finally:
        connection.close()


def _file(connection: apsw.Connection) -> None:
    """Do for all messages what a later commit would do for the newest: enter them into the lists of the mailboxes."""
    connection.execute(_FILE, {"up_to": 2**62})


async def _restore_postgres(url: str, count: int, batch: int) -> float:
    connection = await asyncpg.connect(url)
    try:
        tables = []
        for table in await _tables_postgres(connection):
            if NUMBER not in table.columns:
                continue
            rows = await connection.fetch(f'select {", ".join(table.columns)} from "{table.name}" order by {NUMBER}')
            if len(rows) == count:
                used = [at for at in range(len(table.columns)) if any(row[at] is not None for row in rows)]
                tables.append(
                    Table(
                        table.name,
                        tuple(table.columns[at] for at in used),
                        tuple(table.types[at] for at in used),
                        [tuple(row[at] for at in used) for row in rows],
                    )
                )
        await connection.execute(f"truncate {', '.join(table.name for table in tables)} cascade")
        # Measured against executemany and plain multi-row inserts: arrays are the fastest insert that asyncpg has.
        statements = [
            f"insert into {table.name} ({', '.join(table.columns)}) overriding system value select * from unnest("
            f"{', '.join(f'${number}::{kind}[]' for number, kind in enumerate(table.types, 1))})"
            for table in tables
        ]
        began = time.perf_counter()
        for start in range(0, count, batch):
            async with connection.transaction():
                for table, statement in zip(tables, statements, strict=True):
                    await connection.execute(statement, *zip(*table.rows[start : start + batch], strict=True))
        return count / (time.perf_counter() - began)
    finally:
        await connection.close()


# --- multiplied -------------------------------------------------------------------------------------------------------


async def multiply(url: str, seq: int, first: int, last: int) -> None:
    """Write copies of a message, with all its rows, under the numbers from `first` to `last` and ids of their own."""
    await multiply_rows(url, f"{NUMBER} = {seq}", NUMBER, first, last, {NUMBER: "{number}", "id": copied_id(url)})
    if parse_url(url).path is None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(f"select setval(pg_get_serial_sequence('messages', 'seq'), {last})")
        finally:
            await connection.close()


async def multiply_rows(url: str, where: str, key: str, first: int, last: int, values: dict[str, str]) -> None:
    """Write copies of the rows that `where` finds, in each table that has the column `key`.

    Args:
        url: The store.
        where: A condition of the rows to copy.
        key: A column.
        first: The number of the first copy.
        last: The number of the last one.
        values: By column what a copy has in it: SQL in which {number} is the copy's number, and {template} the
            original's value. The other columns are as in the original.
    """
    path = parse_url(url).path
    if path is not None:
        connection = open_sqlite(path)
        try:
            connection.pragma("synchronous", "off")
            connection.pragma("foreign_keys", 0)
            connection.execute("begin immediate")
            _file(connection)
            series = f"with recursive n(n) as (select {first} union all select n + 1 from n where n < {last})"
            for table in _tables_sqlite(connection):
                if key in table.columns:
                    chosen = _chosen(table, values, "n.n")
                    names = ", ".join(table.columns)
                    connection.execute(
                        f"insert into {table.name} ({names}) {series}"
                        f" select {chosen} from n cross join {table.name} as t where t.{where}"
                    )
            connection.execute("commit")
            connection.pragma("wal_checkpoint", "truncate")
        finally:
            connection.close()
        return
    connection = await asyncpg.connect(url)
    try:
        with suppress(asyncpg.InsufficientPrivilegeError):  # then no copy looks for what it refers to
            await connection.execute("set session_replication_role = replica")
        for table in await _tables_postgres(connection):
            if key in table.columns:
                await connection.execute(
                    f"insert into {table.name} ({', '.join(table.columns)}) overriding system value"
                    f" select {_chosen(table, values, 'n')} from generate_series({first}, {last}) as n"
                    f" cross join {table.name} as t where t.{where}"
                )
                await connection.execute(f"analyze {table.name}")
    finally:
        await connection.close()


def copied_id(url: str) -> str:
    """What stands in a column of ids, such as `multiply` writes them."""
    return _ID_SQLITE if parse_url(url).path is not None else _ID_POSTGRES


def _chosen(table: Table, values: dict[str, str], number: str) -> str:
    return ", ".join(
        values[column].format(number=number, template=f"t.{column}") if column in values else f"t.{column}"
        for column in table.columns
    )


# --- tables -----------------------------------------------------------------------------------------------------------


def _tables_sqlite(connection: apsw.Connection) -> list[Table]:
    """Tables that hold rows of their own, the referenced ones first."""
    names = [
        str(name)
        for (name,) in connection.execute(
            "select s.name from sqlite_schema as s join pragma_table_list as t on t.name = s.name and t.schema = 'main'"
            " where t.type = 'table' and s.name not like 'sqlite_%' order by s.rowid"
        )
    ]
    tables = []
    for name in names:
        found = list(connection.execute("select name, type from pragma_table_xinfo(?) where hidden = 0", (name,)))
        tables.append(Table(name, tuple(str(one) for one, _ in found), tuple(str(kind) for _, kind in found)))
    return tables


async def _tables_postgres(connection: Any) -> list[Table]:
    found = await connection.fetch(
        "select c.relname as name, array_agg(quote_ident(a.attname) order by a.attnum) as columns,"
        " array_agg(format_type(a.atttypid, a.atttypmod) order by a.attnum) as types"
        " from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
        " and a.attgenerated = '' where c.relkind = 'r' and c.relnamespace = current_schema()::regnamespace"
        " group by c.oid, c.relname order by c.oid"
    )
    return [Table(row["name"], tuple(row["columns"]), tuple(row["types"])) for row in found]
