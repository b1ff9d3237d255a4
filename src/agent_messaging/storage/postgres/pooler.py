"""Poolers: whether a connection goes to the server itself, and what a pooler between lets us do.

A pooler such as pgbouncer refuses settings given at the start of a connection, or drops them. In session mode it is a
server in everything else. In transaction mode each transaction may run on another of the server's connections: nothing
lasts from one to the next, no LISTEN, no prepared statement, no setting. In statement mode there are no transactions,
and so no store.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any

import asyncpg

from ...exceptions import ConfigurationError
from ..sql import Queries

_SQL = Queries(__package__, "schema")
_LOOKS = 3
_REFUSED = "unsupported startup parameter"
_OPTION = re.compile(r"\s*(?:-c\s*|--)([\w.]+)=((?:\\.|\S)*)\s*")


class Pooling(StrEnum):
    """The pooler between us and the server."""

    NONE = "none"
    SESSION = "session"
    """A connection of the server's is ours for as long as our own lasts."""
    TRANSACTION = "transaction"
    """A connection of the server's is ours for a transaction."""


async def find(
    connect: Callable[[Pooling], Awaitable[Any]], ask: Callable[[Any, str], Awaitable[Any]], location: str
) -> Pooling:
    """Find out, with one connection where there is no pooler, and two more where there is one.

    Args:
        connect: Opens a connection as for this kind of pooling.
        ask: Runs a statement on a connection and returns its value, within a time.
        location: The URL as it may be shown.

    Raises:
        ConfigurationError: It pools by statements.
    """
    try:
        first = await connect(Pooling.NONE)
    except asyncpg.PostgresError as error:
        if not is_refusal(error):
            raise
    else:
        try:
            # A pooler makes up what the server says of itself when a connection begins.
            if first.get_server_pid() == await ask(first, _SQL["find_backend"]):
                return Pooling.NONE
        finally:
            first.terminate()
    connections: list[Any] = []
    try:
        connections.append(one := await connect(Pooling.TRANSACTION))
        connections.append(two := await connect(Pooling.TRANSACTION))
        seen: set[tuple[int, int]] = set()
        for _ in range(_LOOKS):
            seen.add((await ask(one, _SQL["find_backend"]), await ask(two, _SQL["find_backend"])))
        if len(seen) == 1 and seen.isdisjoint((pid, pid) for pid, _ in seen):
            return Pooling.SESSION  # each has kept a connection of the server's to itself
        await _try_transaction(one, ask, location)
        return Pooling.TRANSACTION
    finally:
        for connection in connections:
            connection.terminate()


def is_refusal(error: BaseException) -> bool:
    """Whether a pooler refused the settings that a connection began with."""
    return isinstance(error, asyncpg.PostgresError) and _REFUSED in str(error)


async def _try_transaction(connection: Any, ask: Callable[[Any, str], Awaitable[Any]], location: str) -> None:
    try:
        await ask(connection, "begin")
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise ConfigurationError(
            f"The pooler at {location} pools by statements, so that there are no transactions. In pgbouncer.ini, set "
            "pool_mode = session (or transaction) for this database, or point the URL at the server."
        ) from error
    with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
        await ask(connection, "rollback")


def settings_of(given: Mapping[str, str], pooling: Pooling, location: str) -> dict[str, str]:
    """The server's settings that a URL names, as they can be made behind a pooler once the connection is open.

    Raises:
        ConfigurationError: They cannot be made.
    """
    settings = {name: value for name, value in given.items() if name not in ("application_name", "options")}
    options = given.get("options", "")
    if options:
        found = _OPTION.findall(options)
        if "".join(_OPTION.split(options)[::3]).strip():
            raise ConfigurationError(
                f"The URL of the pooler at {location} says options={options}, which a pooler does not pass on. "
                "Leave it out, or write settings as parameters of the URL: search_path=agents."
            )
        settings |= {name: re.sub(r"\\(.)", r"\1", value) for name, value in found}
    if settings and pooling is Pooling.TRANSACTION:
        names = ", ".join(sorted(settings))
        raise ConfigurationError(
            f"The URL of the pooler at {location} sets {names}, which a pooler in transaction mode forgets. Set it for "
            f"the role or the database (alter role … set {min(settings)} = …), or use pool_mode = session."
        )
    return settings
