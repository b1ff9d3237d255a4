"""Opens connections with our settings, and brings the schema up to date or verifies it."""

from __future__ import annotations

import os
import sys

import apsw

from ...exceptions import ConfigurationError, DatabaseError, StorageForeignError
from .. import migrations
from ..sql import Queries
from .clock import StoreClock, wall_clock
from .engine import fetch

APPLICATION_ID = 0x41474D53
"""In the header of each of our files ("AGMS"), so that another program's database is never written to."""

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


def connect(location: str, busy_timeout: float, *, create: bool = False, read_only: bool = False) -> apsw.Connection:
    """Open a connection with the settings that hold for each: synced commits, foreign keys, bounded waiting.

    Raises:
        StorageForeignError: The file is another program's database. It has not been changed.
    """
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
    connection = apsw.Connection(location, flags=flags, statementcachesize=200)
    try:
        connection.set_busy_timeout(int(busy_timeout * 1000))
        _check_ours(connection, location)
        if not read_only and location != ":memory:":
            mode = connection.pragma("journal_mode", "wal")
            if mode != "wal":
                raise DatabaseError(
                    f"The database {location!r} cannot use WAL (it stays at {mode!r}). Move it to a local disk."
                )
        connection.pragma("synchronous", "full")
        if sys.platform == "darwin":
            # There a plain fsync leaves the data in the drive's cache.
            connection.pragma("fullfsync", 1)
            connection.pragma("checkpoint_fullfsync", 1)
        connection.pragma("foreign_keys", 1)
        connection.pragma("temp_store", "memory")
        connection.pragma("cache_size", -8_000 if read_only else -32_000)
        connection.pragma("wal_autocheckpoint", 2_000)
        connection.pragma("journal_size_limit", 64 * 1024 * 1024)
        if read_only:
            # Not opened as read-only: such a connection could not recover the log that a killed process left.
            connection.pragma("query_only", 1)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_ours(connection: apsw.Connection, location: str) -> None:
    found = connection.pragma("application_id")
    if found == APPLICATION_ID:
        return
    if found == 0 and not connection.execute("select exists (select 1 from sqlite_schema)").get:
        return  # new
    raise StorageForeignError(
        f"The database {location!r} belongs to another program (application id {found}). It was not changed. "
        "Point the SDK at a database of its own."
    )


def migrate(connection: apsw.Connection, clock: StoreClock, location: str, *, initialize: bool) -> int:
    """Bring the schema up to date, or only verify it, and take the store's clock; all in one transaction.

    Returns:
        The version of the schema.

    Raises:
        SchemaVersionError: The schema is newer, altered, or (with initialize=False) not current.
    """
    known = migrations.load(__package__)
    connection.execute("begin immediate")
    try:
        _check_ours(connection, location)  # another process may have been first
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
        clock.adopt(connection)
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise
    return known[-1].number


def read_applied(connection: apsw.Connection) -> dict[int, str]:
    """The checksums of the migrations recorded in the store, by number."""
    if not connection.execute("select exists (select 1 from sqlite_schema where name = 'schema_migrations')").get:
        return {}
    return dict(fetch(connection, _SQL["list_migrations"], {}))


def require_file(path: str) -> None:
    """Answer for a missing file as for one without a schema, without making it.

    Raises:
        SchemaVersionError: There is none.
    """
    if not os.path.exists(path):
        migrations.require_current(migrations.load(__package__), {})
