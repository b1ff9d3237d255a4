"""One table from the driver's SQLSTATE or exception class to our errors.

Three questions decide: was the connection lost (then a commit in flight is in doubt), may the same call succeed a
moment later (then `engine.run` repeats it), and which of our errors tells the user what to do. A password never gets
into a text.
"""

from __future__ import annotations

from typing import NoReturn
from urllib.parse import parse_qsl, urlencode

import asyncpg
from asyncpg.exceptions import ClientConfigurationError, InternalClientError, OutdatedSchemaCacheError

from ...exceptions import (
    AgentMessagingError,
    ConfigurationError,
    DatabaseError,
    NotInitializedError,
    OutcomeUnknownError,
    SchemaVersionError,
    StorageBusyError,
    StorageCorruptError,
    StorageFullError,
    StorageUnavailableError,
)
from ...records import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of failure."""

    error: type[AgentMessagingError]
    text: str
    """May name {location} and {detail} (the server's or the system's own words)."""
    lost: bool = False
    """The connection is gone: a commit in flight may or may not have happened."""
    passes: bool = False
    """The whole call may be repeated at once."""


_LOST = Rule(
    StorageUnavailableError,
    "The connection to PostgreSQL at {location} was lost ({detail}); nothing was stored. "
    "Check that the server runs and can be reached, then try again.",
    lost=True,
    passes=True,
)
_UNREACHABLE = Rule(
    StorageUnavailableError,
    "PostgreSQL at {location} cannot be reached ({detail}). Check that it runs and that host and port are right.",
    lost=True,
    passes=True,
)
_SILENT = Rule(
    StorageUnavailableError,
    "PostgreSQL at {location} did not answer in time; nothing was stored. Check the network and the server's load, and "
    "behind a pooler in session mode its default_pool_size: each process takes two connections and more under load.",
    lost=True,
    passes=True,
)
_LOGIN = Rule(
    StorageUnavailableError,
    "PostgreSQL at {location} refused the login ({detail}). Check user and password, and the server's pg_hba.conf.",
)
_REPEAT = Rule(
    StorageBusyError,
    "The transaction collided with others again and again ({detail}); nothing was stored. Try again.",
    passes=True,
)
_REMOVED = Rule(
    StorageBusyError,
    "Others removed what this call refers to, again and again ({detail}); nothing was stored. Try again.",
    passes=True,
)
_STALE = Rule(
    StorageBusyError, "The schema changed under this call ({detail}); nothing was stored. Try again.", passes=True
)
_BUSY = Rule(
    StorageBusyError,
    "PostgreSQL at {location} ended the statement, which waited or worked too long ({detail}); nothing was stored. "
    "Try again later; look for long transactions in pg_stat_activity.",
)
_DAMAGED = Rule(
    StorageCorruptError,
    "PostgreSQL at {location} reports damaged data ({detail}). Stop writing and restore from a backup.",
)
_SETTING = Rule(
    ConfigurationError,
    "PostgreSQL at {location} refuses a parameter of the URL ({detail}). A parameter that the SDK does not know is "
    "given to the server as one of its settings. Correct it or leave it out.",
)
_DEFINITE = Rule(
    DatabaseError, "PostgreSQL at {location} refused the statement ({detail}); nothing was stored. Report this."
)

# By SQLSTATE, or its class (the first two characters) where the whole class is treated alike.
_RULES = {
    "08": _LOST,
    "57P01": _LOST,  # the server is shut down, or an administrator ended the connection
    "57P02": _LOST,
    "57P05": _LOST,
    "25P03": _LOST,  # idle in a transaction for too long: this process was stopped for a while
    "25P04": _LOST,
    "57P03": Rule(
        StorageUnavailableError,
        "PostgreSQL at {location} is starting up or shutting down; nothing was stored. Try again.",
        passes=True,
    ),
    "53300": Rule(
        StorageUnavailableError,
        "PostgreSQL at {location} has no connection left ({detail}). Each process opens one for presence and "
        "min_pool_size (1 if it is not set) at start, and has up to max_pool_size under load. Lower "
        "min_pool_size if processes do not start and max_pool_size if calls fail, run fewer processes, or raise the "
        "server's max_connections.",
        passes=True,
    ),
    "53100": Rule(
        StorageFullError,
        "The disk of PostgreSQL at {location} is full; nothing was stored. Make room and try again.",
    ),
    "53": Rule(
        StorageBusyError,
        "PostgreSQL at {location} is short of resources ({detail}); nothing was stored. "
        "Try again later; the server's log says what it lacks.",
    ),
    "23503": _REMOVED,  # a foreign key: the same call finds at its next try what is left
    "40": _REPEAT,
    "55P03": _BUSY,
    "57014": _BUSY,
    "28": _LOGIN,
    "3D000": Rule(
        StorageUnavailableError,
        "PostgreSQL at {location} has no such database ({detail}). Create it with `createdb`, or correct the URL.",
    ),
    "25006": Rule(
        StorageUnavailableError,
        "PostgreSQL at {location} is read-only (a standby, or default_transaction_read_only); nothing was stored. "
        "Point the URL at the primary.",
    ),
    "42501": Rule(
        DatabaseError,
        "The role used at {location} lacks a privilege ({detail}). Grant it, or make the role the owner of the tables.",
    ),
    "42P01": Rule(
        SchemaVersionError,
        "Tables are missing at {location} ({detail}). Run `agent-messaging db upgrade`, or restore from a backup.",
    ),
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
}


def is_drivers(error: BaseException) -> bool:
    """Whether the driver or the network raised it, and not we, or a mistake in our code."""
    ours = isinstance(error, AgentMessagingError)
    return not ours and isinstance(
        error, asyncpg.PostgresError | asyncpg.InterfaceError | InternalClientError | OSError | TimeoutError
    )


def is_lost(error: BaseException) -> bool:
    """Whether it leaves a commit in flight in doubt."""
    return is_drivers(error) and find_rule(error).lost


def is_full(error: BaseException) -> bool:
    """Whether the server had no connection left."""
    return isinstance(error, asyncpg.TooManyConnectionsError)


def is_of_the_way(error: BaseException) -> bool:
    """Whether our error says that the server was not reached. Our other errors are its answers."""
    return isinstance(error, StorageBusyError | StorageUnavailableError | NotInitializedError)


def may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed a moment later."""
    return is_drivers(error) and find_rule(error).passes


def find_rule(error: BaseException) -> Rule:
    """Find the line of the table for this error."""
    if isinstance(error, asyncpg.InvalidCachedStatementError | OutdatedSchemaCacheError):
        return _STALE
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or "XX000"
        return _RULES.get(state) or _RULES.get(state[:2]) or _DEFINITE
    if isinstance(error, TimeoutError):
        return _SILENT
    if isinstance(error, OSError):
        return _UNREACHABLE
    if isinstance(error, asyncpg.InterfaceError) and not _is_closed(error):
        return _DEFINITE
    return _LOST  # the connection was closed, or its protocol fell out of step


def translate(error: BaseException, location: str, *, doubtful: bool = False) -> BaseException:
    """Make our error of a driver's error. Any other error comes back as it is.

    `doubtful` says that the connection was lost while a commit was in flight.
    """
    if isinstance(error, AgentMessagingError):
        return error
    if isinstance(error, ClientConfigurationError) or (isinstance(error, ValueError) and not is_drivers(error)):
        # The driver's own words may quote a part of the password.
        return ConfigurationError(
            f"The PostgreSQL URL {location!r} cannot be used. It has the form "
            "postgresql://user:password@host:5432/database; special characters in the password are percent-encoded."
        )
    if not is_drivers(error):
        return error
    if doubtful:
        return OutcomeUnknownError()
    rule = find_rule(error)
    return rule.error(rule.text.format(location=location, detail=_describe(error)))


def reraise(error: Exception, location: str, *, doubtful: bool = False) -> NoReturn:
    """Raise our error for it."""
    translated = translate(error, location, doubtful=doubtful)
    if translated is error:
        raise error
    raise translated from cause(error)


def reraise_connecting(error: Exception, location: str) -> NoReturn:
    """The same for a connection that could not be used: a setting that is refused came from the URL."""
    if isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "")[:2] in ("22", "42", "55"):
        text = _SETTING.text.format(location=location, detail=error.args[0] if error.args else error.sqlstate)
        raise _SETTING.error(text) from error
    reraise(error, location)


def cause(error: BaseException) -> BaseException | None:
    """The error to chain as the cause; None where the driver's text could quote a payload or a password."""
    return None if isinstance(error, asyncpg.DataError | ValueError) else error


def without_password(dsn: str) -> str:
    """The URL as it may be shown."""
    scheme, separator, rest = dsn.partition("://")
    if not separator:
        return "postgresql://…"
    rest, _, query = rest.partition("?")
    # By hand, because a password that was not percent-encoded may contain a slash or an at sign.
    user, at, place = rest.rpartition("@")
    options = urlencode([(key, value) for key, value in parse_qsl(query) if "pass" not in key], safe="/:,")
    return f"{scheme}://{user.partition(':')[0]}{at}{place}{'?' if options else ''}{options}"


def _is_closed(error: BaseException) -> bool:
    text = str(error)
    return "clos" in text or "released" in text


def _describe(error: BaseException) -> str:
    if isinstance(error, asyncpg.PostgresError):
        shown = {"28", "3D", "42", "53", "57", "08", "40"}
        state = error.sqlstate or ""
        words = f": {error.args[0]}" if state[:2] in shown and error.args else ""
        return f"{type(error).__name__} {state}{words}".strip()
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        return error.strerror or str(error) or type(error).__name__
    return type(error).__name__
