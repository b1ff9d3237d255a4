"""The schema document has the columns, types and indexes of a real store of each kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg

from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.support import load_script

OF_COLUMNS = {
    "SQLite": """
        select json_group_array(json_array(t.name, c.name, lower(c.type))) from sqlite_schema as t
        join pragma_table_xinfo(t.name) as c
        where t.type = 'table' and t.name not like 'sqlite%' and t.name not like 'search_words%'""",
    "PostgreSQL": """
        select c.relname, a.attname, format_type(a.atttypid, null)
        from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped""",
}
OF_INDEXES = {
    "SQLite": """
        select json_group_array(json_array(tbl_name, name)) from sqlite_schema
        where type = 'index' and sql is not null""",
    "PostgreSQL": """
        select t.relname, i.relname
        from pg_index x join pg_class i on i.oid = x.indexrelid join pg_class t on t.oid = x.indrelid
        where i.relnamespace = 'public'::regnamespace
          and not exists (select from pg_constraint where conindid = i.oid)""",
}
TYPES = {"float8": "double precision", "timestamptz": "timestamp with time zone"}


def compare(store: str, columns: list[Any], indexes: list[Any]) -> None:
    script = load_script("describe_schema")
    schema = script.read(script.STORES[store])
    known = {
        (table, column, TYPES.get(type, type))
        for table, one in schema.tables.items()
        for column, words in one.columns.items()
        for type in [words.removesuffix(", null")]
        if type != "fts5"
    }
    assert {tuple(one) for one in columns if one[0] != "schema_migrations"} == known
    assert {tuple(one) for one in indexes} == {
        (table, index) for table, one in schema.tables.items() for index in one.indexes
    }


async def test_of_sqlite(sqlite_path: Path) -> None:
    store = SQLiteStore(sqlite_path)
    await store.open()
    try:

        def ask(sql: str) -> Callable[[Any], Any]:
            return lambda con: json.loads(con.execute(sql).get)

        columns, indexes = [await store.engine.read(ask(one["SQLite"])) for one in (OF_COLUMNS, OF_INDEXES)]
    finally:
        await store.aclose()
    compare("SQLite", columns, indexes)


async def test_of_postgresql(postgres_dsn: str) -> None:
    connection = await asyncpg.connect(postgres_dsn)
    try:
        columns, indexes = [await connection.fetch(one["PostgreSQL"]) for one in (OF_COLUMNS, OF_INDEXES)]
    finally:
        await connection.close()
    compare("PostgreSQL", [tuple(one) for one in columns], [tuple(one) for one in indexes])
