"""`agent-messaging db`: making, upgrading, checking, copying and moving the store, itself and without the engine."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import fields
from typing import TYPE_CHECKING, TypeVar

import click

from ..records import dataclass
from .app import Group
from .commands import command
from .names import ORGANIZATION
from .opening import IN_MEMORY, check_exists, load_config, run
from .options import Options, pass_options
from .output import count, say, show
from .progress import bar, sign_of_life

if TYPE_CHECKING:
    from .. import Config
    from ..messaging.archive.reports import ExportReport, ImportReport
    from ..storage.ports import IndexProgress, Store

T = TypeVar("T")

REINDEX_BATCH = 500
"""Messages in one batch."""
REINDEX_PATIENCE = 20
"""Seconds without any progress after which `db reindex` leaves the rest to the processes that use the store."""
DAMAGED = 3
"""The exit code of `db check` when it found something: the store failed."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The result of bringing the schema up to date."""

    location: str
    schema_version: int
    changed: bool

    def __str__(self) -> str:
        if self.changed:
            return f"The store {self.location} now has schema {self.schema_version}."
        return f"The store {self.location} already has schema {self.schema_version}; nothing to do."


async def bring_up_to_date(config: Config) -> Upgrade:
    """Make the store or its tables if they are missing, and apply what a newer release needs. Safe to repeat.

    Raises:
        DatabaseError: The store cannot be opened; says why and what to do.
        SchemaVersionError: The store is newer than this release.
    """
    from .. import SchemaVersionError
    from ..bootstrap import build_store

    store = build_store(config)
    changed = config.store.path == IN_MEMORY
    try:
        if not changed:
            try:
                await store.open(initialize=False)
            except SchemaVersionError:
                changed = True
        if changed:
            await store.aclose()
            store = build_store(config)
            await store.open(initialize=True)
        facts = await store.describe()
    finally:
        await store.aclose()
    return Upgrade(str(config.store), facts.schema_version, changed)


def _use_store(options: Options, call: Callable[[Store], Awaitable[T]]) -> T:
    async def work() -> T:
        from ..bootstrap import build_store

        config = load_config(options)
        check_exists(config)
        store = build_store(config)
        try:
            await store.open(initialize=config.auto_initialize_schema)
            return await call(store)
        finally:
            await store.aclose()

    return run(options, work())


def _upgrade(options: Options) -> None:
    done = run(options, bring_up_to_date(load_config(options, create=True)))
    show(options, {field: getattr(done, field) for field in Upgrade.__slots__}, lambda: say(str(done)))


@click.group(cls=Group)
def db() -> None:
    """Make, upgrade, check, copy, move and prune the store.

    \b
    Example:
      agent-messaging db init --url sqlite:///notes.db
    """


@db.command()
@pass_options
def init(options: Options) -> None:
    """Make the store: the SQLite file, or the tables in a PostgreSQL database. Repeating it changes nothing.

    The SDK does this by itself at start unless AUTO_INITIALIZE_SCHEMA is off.

    \b
    Example:
      agent-messaging db init --url postgresql://db/agents
    """
    _upgrade(options)


@db.command()
@pass_options
def upgrade(options: Options) -> None:
    """Bring the schema up to what this release needs. Repeating it changes nothing.

    \b
    Example:
      pip install -U agent-messaging && agent-messaging db upgrade
    """
    _upgrade(options)


@db.command()
@pass_options
def schema(options: Options) -> None:
    """Print the schema of a PostgreSQL store as one SQL script, for those who make tables by a role of their own.

    \b
    Example:
      agent-messaging db schema | psql -v ON_ERROR_STOP=1 agents

    Applied to an empty database it does what `db init` does there. The store is not opened. An SQLite file is made by
    `db init` alone.
    """
    from ..bootstrap import write_schema

    script = write_schema()
    show(options, {"sql": script}, lambda: say(script.rstrip("\n")))


@db.command()
@click.argument("path", type=click.Path())
@pass_options
def backup(options: Options, path: str) -> None:
    """Copy the store to the new SQLite file PATH while everything goes on. The copy is checked and synced.

    \b
    Example:
      agent-messaging db backup /backups/monday.db
    """
    from ..arguments import check_new_file

    target = check_new_file(path, field="path")
    with sign_of_life(options, "Copying"):
        _use_store(options, lambda store: store.backup(target))
    size = os.path.getsize(target)
    show(options, {"path": target, "size_bytes": size}, lambda: say(f"Copied the store to {target} ({size:,} bytes)."))


@db.command("export")
@click.argument("path", type=click.Path())
@click.option(
    "--org",
    "organization",
    metavar="ID",
    type=ORGANIZATION,
    help="Only this organization, without what it shares with others.",
)
@pass_options
def export_(options: Options, path: str, organization: str | None) -> None:
    """Write the store, or one organization, into the new file PATH, while everything goes on.

    `db import` puts it into any store: an SQLite file or a PostgreSQL database, empty or with other organizations.
    The file is compressed JSON lines: gzip, or zstd with the ending .zst. Exit code 3 if damaged rows were skipped.

    \b
    Example:
      agent-messaging db export moving.jsonl.gz
    """
    from ..arguments import check_external_id, check_new_file
    from ..messaging.archive.moving import export_store

    if organization is not None:
        check_external_id(organization, field="organization")
    target = check_new_file(path, field="path")
    with bar(options, "Exporting") as progress:
        done = _use_store(options, lambda store: export_store(store, target, organization, progress))

    def human() -> None:
        say(f"Exported {count(done.rows, 'row')} to {done.path} ({done.size_bytes:,} bytes).")
        for what, number in done.left_out.items():
            say(f"Left out what is shared with other organizations: {count(number, what.removesuffix('s'))}.")
        for finding in done.damaged:
            say(f"- {finding}")
        if done.damaged:
            say(f"{count(len(done.damaged), 'damaged row')} skipped: see `{command('doctor')} --deep`.")

    show(options, _fields(done), human)
    if done.damaged:
        click.get_current_context().exit(DAMAGED)


@db.command("import")
@click.argument("path", type=click.Path())
@pass_options
def import_(options: Options, path: str) -> None:
    """Put what `db export` has written into this store: all of it, or nothing.

    Nobody sees any of it before all of it is there and compared with the file. If it is cut off, repeat it: it goes on
    where it was. Make the store with `db init` first.

    \b
    Example:
      agent-messaging db import moving.jsonl.gz --url postgresql://db/agents
    """
    from ..arguments import check_path
    from ..messaging.archive.moving import import_store

    source = check_path(path, field="path")
    with bar(options, "Importing") as progress:
        done = _use_store(options, lambda store: import_store(store, source, progress))

    def human() -> None:
        if done.is_repeat:
            say(f"{done.path} was imported here before; nothing to do.")
            return
        if done.resumed_rows:
            say(f"Went on behind {count(done.resumed_rows, 'row')} that an earlier try had read.")
        say(f"Imported {count(done.rows, 'row')} from {done.path}, and compared each with the file.")

    show(options, _fields(done), human)


def _fields(report: ExportReport | ImportReport) -> dict[str, object]:
    return {field.name: getattr(report, field.name) for field in fields(report)}


@db.command()
@pass_options
def reindex(options: Options) -> None:
    """Make the search index anew from the messages, while everything goes on. Searches find the same meanwhile.

    It is needed after the index was damaged, or where a release cuts texts into other words.

    \b
    Example:
      agent-messaging db reindex
    """
    with bar(options, "Indexing") as progress:
        done = _use_store(options, lambda store: _reindex(store, progress))
    document = {"indexed_to": done.indexed_to, "newest": done.newest, "behind": done.behind}
    said = "has all messages" if not done.behind else f"is {count(done.behind, 'message')} behind, which others take in"
    show(options, document, lambda: say(f"Made the search index anew: it {said}."))


async def _reindex(store: Store, tell: Callable[[int, int], None]) -> IndexProgress:
    import asyncio

    from ..delivery.indexing import take_in
    from ..ids import uuid7

    process_id, search = uuid7(), store.search
    await search.restart()
    goal = (await search.progress()).newest
    patience, taken = REINDEX_PATIENCE, 0
    while (done := await search.progress()).indexed_to < goal and patience > 0:
        moved = await take_in(search, process_id, limit=REINDEX_BATCH)
        taken += moved
        tell(taken, goal)
        patience = REINDEX_PATIENCE if moved else patience - 1
        await asyncio.sleep(0 if moved else 1.0)  # another process does it, or has a transaction that goes on
    return done


@db.command()
@pass_options
def compact(options: Options) -> None:
    """Write the SQLite file anew without its free pages. Nobody can write meanwhile, for some seconds a gigabyte.

    A file of this release gives freed pages back by itself. One that was made before it does so from then on.

    \b
    Example:
      agent-messaging db compact
    """
    before = _size_of_file(options)
    with sign_of_life(options, "Writing the store anew"):
        _use_store(options, lambda store: store.compact())
    after = _size_of_file(options)
    document = {"size_bytes": after, "released_bytes": max(before - after, 0)}
    show(options, document, lambda: say(f"Wrote the store anew: {before:,} bytes before, {after:,} now."))


def _size_of_file(options: Options) -> int:
    path = load_config(options).store.path
    return os.path.getsize(path) if path and os.path.exists(path) else 0


@db.command()
@pass_options
def check(options: Options) -> None:
    """Look for damage: the integrity of the store and the checksum of every message. Exit code 3 if there is any.

    \b
    Example:
      agent-messaging db check
    """
    with sign_of_life(options, "Checking"):
        findings = _use_store(options, lambda store: store.check())

    def human() -> None:
        for finding in findings:
            say(f"- {finding}")
        if findings:
            say(f"{count(len(findings), 'finding')}.")
        else:
            say("No damage found: the store is sound, and every message fits its checksum.")

    show(options, {"ok": not findings, "findings": findings}, human)
    if findings:
        click.get_current_context().exit(DAMAGED)
