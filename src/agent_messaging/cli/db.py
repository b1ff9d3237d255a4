"""`agent-messaging db`: the schema of the store, and its integrity. Works on the store itself, without the engine."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import click

from .app import Group
from .opening import IN_MEMORY, check_exists, load_config, run
from .options import Options, pass_options
from .output import count, say, show

if TYPE_CHECKING:
    from .. import Config
    from ..storage.ports import Store

T = TypeVar("T")

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
    """Make, upgrade and check the store.

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
      agent-messaging db init --url postgresql://agents@localhost/agents
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
@click.argument("path")
@pass_options
def backup(options: Options, path: str) -> None:
    """Copy the store to the new SQLite file PATH while everything goes on. The copy is checked and synced.

    \b
    Example:
      agent-messaging db backup /backups/monday.db
    """
    from ..arguments import check_new_file

    target = check_new_file(path, field="path")
    _use_store(options, lambda store: store.backup(target))
    size = os.path.getsize(target)
    show(options, {"path": target, "size_bytes": size}, lambda: say(f"Copied the store to {target} ({size:,} bytes)."))


@db.command()
@pass_options
def check(options: Options) -> None:
    """Look for damage: the integrity of the store and the checksum of every message. Exit code 3 if there is any.

    \b
    Example:
      agent-messaging db check
    """
    findings = _use_store(options, lambda store: store.check())

    def human() -> None:
        for finding in findings:
            say(f"- {finding}")
        if findings:
            say(f"{count(len(findings), 'finding')}. Stop writing to the store and restore it from a backup.")
        else:
            say("No damage found: the store is sound, and every message fits its checksum.")

    show(options, {"ok": not findings, "findings": findings}, human)
    if findings:
        click.get_current_context().exit(DAMAGED)
