"""Each failure of the driver has one meaning, and none leaves the backend as it is."""

from __future__ import annotations

import asyncpg
import pytest
from asyncpg.exceptions import InternalClientError

from agent_messaging import exceptions
from agent_messaging.storage.postgres import errors

_MEANINGS = [
    (asyncpg.ConnectionDoesNotExistError("x"), exceptions.StorageUnavailableError, True, True),
    (asyncpg.AdminShutdownError("x"), exceptions.StorageUnavailableError, True, True),
    (asyncpg.CrashShutdownError("x"), exceptions.StorageUnavailableError, True, True),
    (asyncpg.CannotConnectNowError("x"), exceptions.StorageUnavailableError, False, True),
    (asyncpg.TooManyConnectionsError("x"), exceptions.StorageUnavailableError, False, True),
    (asyncpg.InterfaceError("connection is closed"), exceptions.StorageUnavailableError, True, True),
    (InternalClientError("x"), exceptions.StorageUnavailableError, True, True),
    (ConnectionResetError("x"), exceptions.StorageUnavailableError, True, True),
    (ConnectionRefusedError("x"), exceptions.StorageUnavailableError, True, True),
    (TimeoutError(), exceptions.StorageUnavailableError, True, True),
    (asyncpg.SerializationError("x"), exceptions.StorageBusyError, False, True),
    (asyncpg.DeadlockDetectedError("x"), exceptions.StorageBusyError, False, True),
    (asyncpg.InvalidCachedStatementError("x"), exceptions.StorageBusyError, False, True),
    (asyncpg.LockNotAvailableError("x"), exceptions.StorageBusyError, False, False),
    (asyncpg.QueryCanceledError("x"), exceptions.StorageBusyError, False, False),
    (asyncpg.OutOfMemoryError("x"), exceptions.StorageBusyError, False, False),
    (asyncpg.DiskFullError("x"), exceptions.StorageFullError, False, False),
    (asyncpg.InvalidPasswordError("x"), exceptions.StorageUnavailableError, False, False),
    (asyncpg.InvalidCatalogNameError("x"), exceptions.StorageUnavailableError, False, False),
    (asyncpg.ReadOnlySQLTransactionError("x"), exceptions.StorageUnavailableError, False, False),
    (asyncpg.UndefinedTableError("x"), exceptions.SchemaVersionError, False, False),
    (asyncpg.InsufficientPrivilegeError("x"), exceptions.DatabaseError, False, False),
    (asyncpg.DataCorruptedError("x"), exceptions.StorageCorruptError, False, False),
    (asyncpg.UniqueViolationError("x"), exceptions.DatabaseError, False, False),
    (asyncpg.DataError("x"), exceptions.DatabaseError, False, False),
]


@pytest.mark.parametrize(("error", "meaning", "lost", "passes"), _MEANINGS, ids=lambda value: type(value).__name__)
def test_each_failure_has_one_meaning(error: Exception, meaning: type[Exception], lost: bool, passes: bool) -> None:
    assert type(errors.translate(error, "here")) is meaning
    assert (errors.is_lost(error), errors.may_pass(error)) == (lost, passes)


def test_a_commit_in_doubt_is_unknown() -> None:
    error = asyncpg.ConnectionDoesNotExistError("x")
    assert isinstance(errors.translate(error, "here", doubtful=True), exceptions.OutcomeUnknownError)


def test_mistakes_in_our_own_code_stay_what_they_are() -> None:
    error = KeyError("x")
    assert errors.translate(error, "here") is error
    assert not errors.may_pass(error)


def test_what_the_driver_says_of_a_value_is_not_passed_on() -> None:
    error = asyncpg.DataError("invalid input for query argument $1: 'a payload'")
    assert "payload" not in str(errors.translate(error, "here"))
    assert errors.cause(error) is None


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://me:secret@host:5433/db", "postgresql://me@host:5433/db"),
        ("postgresql:///db?host=/tmp&password=secret&user=me", "postgresql:///db?host=/tmp&user=me"),
        ("postgresql://me:s%40cret@h1,h2/db", "postgresql://me@h1,h2/db"),
        ("postgresql://me:se/c@ret@host/db", "postgresql://me@host/db"),
        ("nonsense", "postgresql://…"),
    ],
)
def test_a_location_has_no_password(dsn: str, shown: str) -> None:
    assert errors.without_password(dsn) == shown
