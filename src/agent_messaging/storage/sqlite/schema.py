"""Connections with our settings, on a database that is ours, whose schema is brought up to date or verified."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from functools import partial
from typing import TypeVar

import apsw

from ...exceptions import ConfigurationError, DatabaseError, StorageForeignError
from .. import migrations
from ..sql import Queries
from . import statistics
from .clock import StoreClock, wall_clock
from .engine import Writing, fetch
from .errors import translate
from .files import side_folder
from .locks import WriteLock, is_in_use
from .names import NameLock

APPLICATION_ID = 0x41474D53
"""The mark in the header of our files ("AGMS"): another program's database is never written to."""

C = TypeVar("C", bound=apsw.Connection)

_SAFE_WITH_WAL = (3, 51, 3)
_SQL = Queries(__package__, "schema")


def check_version(version: str) -> None:
    """Refuse a SQLite that can damage a WAL database with several connections (the WAL-reset race, 3.7.0 to 3.51.2).

    Raises:
        ConfigurationError: Names the remedy.
    """
    if tuple(int(part) for part in version.split(".")[:3]) < _SAFE_WITH_WAL:
        raise ConfigurationError(
            f"apsw brings SQLite {version}, which can damage a database that several processes use. "
            "Upgrade it: pip install --upgrade 'apsw>=3.51.3'."
        )


def open_writer(
    location: str, busy_timeout: float, clock: StoreClock, *, initialize: bool
) -> tuple[Writing, WriteLock | None, NameLock | None]:
    """Open the connection that writes, on a database that is ours and has the current schema.

    Raises:
        StorageForeignError: It is another program's. It was not changed.
        ConfigurationError: It is in use under another name.
        SchemaVersionError: The schema is newer, altered, or (with initialize=False) not current.
    """
    in_memory = location == ":memory:"
    connection = _connect(Writing, location, busy_timeout, create=initialize)
    lock = name = None
    try:
        if not in_memory:
            name = NameLock(location)
        ours = is_ours(connection, location)
        if not ours and not initialize:
            migrations.require_current(migrations.load(__package__), {})
        if not in_memory:
            # One at a time: while one changes the journal mode, others would be refused at once.
            lock = WriteLock(side_folder(location))
        with lock or nullcontext():
            if not ours:  # it takes effect before the first page is written, and never after
                connection.pragma("auto_vacuum", "incremental")
            if not in_memory and (mode := connection.pragma("journal_mode", "wal")) != "wal":
                raise DatabaseError(f"The database {location!r} cannot use WAL but {mode!r}. Move it to a local disk.")
            if name is not None:
                name.take()
            _configure(connection, cache_size=32_000)
            connection.take_over_checkpoints()
            migrate(connection, clock, location, initialize=initialize)
    except BaseException:
        connection.close()
        for held in (lock, name):
            if held is not None:
                held.close()
        raise
    return connection, lock, name


def open_reader(location: str, busy_timeout: float) -> apsw.Connection:
    """Open a connection that only reads, on a database that a writer has opened.

    A read-only connection could not recover the log that a killed process left, so it is opened for writing.
    """
    connection = _connect(apsw.Connection, location, busy_timeout, create=False)
    _configure(connection, cache_size=8_000)
    connection.pragma("query_only", 1)
    return connection


def compact(location: str, busy_timeout: float) -> None:
    """Write the file anew, without free pages and with the setting by which freed ones can be given back."""
    connection = _connect(apsw.Connection, location, busy_timeout, create=False)
    turn = WriteLock(side_folder(location))
    try:
        _configure(connection, cache_size=32_000)
        with turn:
            connection.pragma("temp_store", "file")  # the new file is made in it
            connection.pragma("auto_vacuum", "incremental")
            connection.execute(_SQL["compact"])
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except apsw.Error as error:
        raise translate(error, location) from error
    finally:
        turn.close()
        connection.close()


def _connect(cls: type[C], location: str, busy_timeout: float, *, create: bool) -> C:
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
    connection = cls(location, flags=flags, statementcachesize=200)
    connection.set_busy_timeout(int(busy_timeout * 1000))
    return connection


def _configure(connection: apsw.Connection, *, cache_size: int) -> None:
    connection.pragma("synchronous", "full")
    if sys.platform == "darwin":
        # There a plain fsync leaves the data in the drive's cache.
        connection.pragma("fullfsync", 1)
        connection.pragma("checkpoint_fullfsync", 1)
    connection.pragma("foreign_keys", 1)
    connection.pragma("temp_store", "memory")
    connection.pragma("cache_size", -cache_size)  # KiB
    connection.pragma("journal_size_limit", 64 * 1024 * 1024)


def is_ours(connection: apsw.Connection, location: str) -> bool:
    """Whether it has our mark; False for a new one.

    Raises:
        StorageForeignError: It is another program's.
    """
    # In this order, because another process may make it ours between the two: the mark comes with the first table.
    is_empty = not connection.execute("select exists (select 1 from sqlite_schema)").get
    found = connection.pragma("application_id")
    if found == APPLICATION_ID:
        return True
    if found == 0 and is_empty:
        return False
    raise StorageForeignError(
        f"The database {location!r} belongs to another program (application id {found}). It was not changed. "
        "Point the SDK at a database of its own."
    )


def migrate(connection: apsw.Connection, clock: StoreClock, location: str, *, initialize: bool) -> None:
    """Bring the schema up to date, or only verify it, and take the store's clock; all in one transaction.

    Raises:
        SchemaVersionError: The schema is newer, altered, or (with initialize=False) not current.
    """
    known = migrations.load(__package__)
    connection.execute("begin immediate")
    try:
        is_ours(connection, location)  # another process may have been first
        applied = read_applied(connection)
        if initialize:
            missing = migrations.pending(known, applied)
            if missing and not applied:
                connection.pragma("application_id", APPLICATION_ID)
                connection.execute(_SQL["create_migrations"])
            for migration in missing:
                connection.execute(migration.sql)
                connection.execute(
                    _SQL["record_migration"],
                    {
                        "number": migration.number,
                        "name": migration.name,
                        "checksum": migration.checksum,
                        "at": wall_clock(),
                    },
                )
        else:
            migrations.require_current(known, applied)
        clock.adopt(connection, partial(is_in_use, f"{location}-am"))
        statistics.forget(connection, location)
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def read_applied(connection: apsw.Connection) -> dict[int, str]:
    """The checksums of the migrations recorded in the store, by number."""
    if not connection.execute("select exists (select 1 from sqlite_schema where name = 'schema_migrations')").get:
        return {}
    return dict(fetch(connection, _SQL["list_migrations"], {}))


def require_file(path: str) -> None:
    """Refuse a missing file as one without a schema, without making it.

    Raises:
        SchemaVersionError: There is none.
    """
    if not os.path.exists(path):
        migrations.require_current(migrations.load(__package__), {})
