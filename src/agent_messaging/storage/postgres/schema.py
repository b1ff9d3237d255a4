"""The schema: whether the server and the database are fit for us, and bringing the tables up to date.

Any number of processes may do this at once: one migrates under a lock of its transaction, the others find it done.
"""

from __future__ import annotations

import re

import asyncpg

from ...exceptions import ConfigurationError, StorageForeignError, StorageUnavailableError
from ...records import dataclass
from .. import migrations
from ..sql import Queries
from .engine import Connection

_SQL = Queries(__package__, "schema")
_MESSAGES = Queries(__package__, "messages")

_OLDEST = 140000
_OUR_RECORD = {"number", "name", "checksum", "applied_at"}


@dataclass(frozen=True, slots=True)
class Server:
    """The server, as it was found at open."""

    version: str
    number: int
    fsync: str
    full_page_writes: str
    synchronous_commit: str
    schema: str
    role: str

    @property
    def durability(self) -> dict[str, str]:
        return {
            "fsync": self.fsync,
            "full_page_writes": self.full_page_writes,
            "synchronous_commit": self.synchronous_commit,
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """The settings that weaken the promise of durability, each with the remedy."""
        found = []
        if self.fsync != "on":
            found.append("fsync is off: a power cut can destroy the whole database. Set fsync = on in postgresql.conf.")
        if self.full_page_writes != "on":
            found.append(
                "full_page_writes is off: a power cut can damage pages. Set full_page_writes = on in postgresql.conf."
            )
        if self.synchronous_commit == "off":
            found.append(
                "synchronous_commit is off: a crash of the server can lose the last accepted messages. "
                "Set synchronous_commit = on for this role or database."
            )
        return tuple(found)


async def inspect(connection: Connection, location: str, *, allow_unsafe_server: bool) -> Server:
    """Read the server's settings, and refuse one that cannot keep the promises.

    Raises:
        ConfigurationError: Too old, `fsync` off without consent, or not UTF-8.
        StorageUnavailableError: A standby, or no schema to work in.
    """
    row = await connection.fetchrow(_SQL["find_server"])
    if row["number"] < _OLDEST:
        raise ConfigurationError(
            f"PostgreSQL at {location} is version {row['version']}; 14 or newer is needed. Upgrade the server."
        )
    if row["encoding"] != "UTF8":
        raise ConfigurationError(
            f"The database at {location} has the encoding {row['encoding']}. "
            "Create one with `createdb --encoding UTF8`."
        )
    if row["standby"]:
        raise StorageUnavailableError(
            f"PostgreSQL at {location} is a standby, which cannot store anything. Point the URL at the primary."
        )
    if row["schema"] is None:
        raise StorageUnavailableError(
            f"None of the schemas in the search_path of the role {row['role']!r} at {location} exists. "
            "Create the schema, or correct the search_path."
        )
    if row["fsync"] != "on" and not allow_unsafe_server:
        raise ConfigurationError(
            f"PostgreSQL at {location} runs with fsync = off: a power cut can destroy everything it accepted. "
            "Set fsync = on in its postgresql.conf, or, for a test, pass allow_unsafe_server=True."
        )
    names = ("version", "number", "fsync", "full_page_writes", "synchronous_commit", "schema", "role")
    return Server(**{name: row[name] for name in names})


async def upgrade(connection: Connection, server: Server, location: str, *, initialize: bool) -> int:
    """Apply the pending migrations, or with `initialize=False` only verify. Returns the number of the schema.

    Raises:
        SchemaVersionError: Newer than this release, changed, or missing and not to be initialized.
        StorageForeignError: The tables, or functions or types of the same names, belong to another program.
    """
    known = migrations.load(__package__)
    applied = await _list_applied(connection, known, location)
    if not initialize:
        migrations.require_current(known, applied)
    elif migrations.pending(known, applied):
        await connection.execute("begin")
        try:
            await connection.execute(_SQL["lock_migrations"])
            await _migrate(connection, known, location)
        except asyncpg.InsufficientPrivilegeError as error:
            raise ConfigurationError(
                f"The role {server.role!r} at {location} may not create tables in the schema {server.schema!r}. "
                f"Run: grant create on schema {_quoted(server.schema)} to {_quoted(server.role)}; "
                "or let the owner run `agent-messaging db upgrade`."
            ) from error
        except (asyncpg.DuplicateFunctionError, asyncpg.DuplicateObjectError) as error:
            raise _foreign(location, f"function or type ({error})") from error  # the server says which, in its language
        finally:
            if not connection.is_closed() and connection.is_in_transaction():
                await connection.execute("rollback")
    await _forget_foreign_xids(connection)
    return known[-1].number


def write_script() -> str:
    """All that `upgrade` does in an empty database, as one transaction for any client of the server."""
    parts = ["begin", _SQL["create_migrations"]]
    for migration in migrations.load(__package__):
        record = _SQL["record_migration"].replace("$1", str(migration.number))
        record = record.replace("$2", f"'{migration.name}'").replace("$3", f"'{migration.checksum}'")
        parts += [migration.sql.strip().removesuffix(";"), record]
    return ";\n\n".join([*parts, "commit"]) + ";\n"


async def _migrate(connection: Connection, known: list[migrations.Migration], location: str) -> None:
    applied = await _list_applied(connection, known, location)  # again: another starter may have been first
    if not applied and not await _has_record(connection):
        await connection.execute(_SQL["create_migrations"])
    for migration in migrations.pending(known, applied):
        await connection.execute(migration.sql)
        await connection.execute(_SQL["record_migration"], migration.number, migration.name, migration.checksum)
    await connection.execute("commit")


async def _list_applied(connection: Connection, known: list[migrations.Migration], location: str) -> dict[int, str]:
    names = sorted({name for migration in known for name in re.findall(r"^create table (\w+)", migration.sql, re.M)})
    rows = await connection.fetch(_SQL["list_columns"], [*names, "schema_migrations"])
    found = {row["table"]: set(row["columns"]) for row in rows}
    record = found.pop("schema_migrations", None)
    if record is not None and record != _OUR_RECORD:
        raise _foreign(location, "table 'schema_migrations'")
    if record is None and found:
        raise _foreign(location, f"table {min(found)!r}")
    if record is None:
        return {}
    applied = {row["number"]: row["checksum"] for row in await connection.fetch(_SQL["list_migrations"])}
    if not applied and found:
        raise _foreign(location, f"table {min(found)!r}")
    return applied


def _foreign(location: str, thing: str) -> StorageForeignError:
    return StorageForeignError(
        f"The database at {location} has a {thing} that is not ours: it belongs to another program. "
        "Point the SDK at a database, or a schema (search_path), of its own."
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def _has_record(connection: Connection) -> bool:
    return bool(await connection.fetch(_SQL["list_columns"], ["schema_migrations"]))


async def _forget_foreign_xids(connection: Connection) -> None:
    """In a server into which they were restored, transaction numbers mean nothing: followers must not wait for them."""
    if await connection.fetchval(_MESSAGES["find_newest_xid"]):
        await connection.execute(_MESSAGES["forget_xids"])
