"""It turns errors of SQLite and the operating system into ours, by result code, never by message text."""

from __future__ import annotations

import errno
import os

import apsw

from ...exceptions import (
    AgentMessagingError,
    DatabaseError,
    OutcomeUnknownError,
    StorageBusyError,
    StorageCorruptError,
    StorageFullError,
    StorageUnavailableError,
)

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE}
_FILES = 4
"""The database, its log, its shared memory, and the folder that is synced."""


def translate(error: BaseException, location: str, system_errno: int = 0) -> BaseException:
    """Our error, with its cause, for an error inside a transaction that is rolled back.

    Errors that are neither SQLite's nor the system's are returned as they are.

    Args:
        system_errno: What the operating system said last; SQLite reports a file size limit as a mere failed write.
    """
    translated = _translate(error, location, system_errno)
    if translated is not error:
        translated.__cause__ = error
    return translated


def _translate(error: BaseException, location: str, system_errno: int) -> BaseException:
    if isinstance(error, OSError) and not isinstance(error, AgentMessagingError):
        if error.errno in _NO_ROOM:
            return StorageFullError(f"No room for {location!r}: {error.strerror}. Make room and try again.")
        if error.errno in _NO_DESCRIPTOR:
            return _has_no_descriptor(location)
        # Often it is not the database itself, but a file of ours beside it.
        of = f" ({error.filename!r})" if error.filename not in (None, location) else ""
        return StorageUnavailableError(
            f"The database {location!r} cannot be used: {error.strerror}{of}. Correct it and try again."
        )
    if isinstance(error, UnicodeDecodeError):
        return StorageCorruptError(
            f"A row of the database {location!r} holds text that is not UTF-8. Run `agent-messaging doctor --deep`, "
            "and restore the store from a backup."
        )
    if not isinstance(error, apsw.Error):
        return error
    result = getattr(error, "result", 0) & 0xFF
    if result in (apsw.SQLITE_BUSY, apsw.SQLITE_LOCKED):
        return StorageBusyError(
            f"The database {location!r} stayed locked by another process for as long as the call may wait; nothing was "
            "stored. Try again; if it lasts, find the process that holds a transaction open (`fuser` names it)."
        )
    if result == apsw.SQLITE_FULL or (result == apsw.SQLITE_IOERR and system_errno in _NO_ROOM):
        return StorageFullError(
            f"The disk, or the size that the database {location!r} may have, is used up; nothing was stored. "
            "Make room and try again."
        )
    if result == apsw.SQLITE_CORRUPT:
        return StorageCorruptError(
            f"The database {location!r} is damaged ({error}). Stop writing to it, run `agent-messaging doctor`, and "
            "restore it from a backup."
        )
    if result == apsw.SQLITE_NOTADB:
        return StorageCorruptError(
            f"The file {location!r} is not a SQLite database, or its header is damaged. Restore it from a backup, or "
            "name another file."
        )
    if result in (apsw.SQLITE_READONLY, apsw.SQLITE_PERM, apsw.SQLITE_AUTH):
        return StorageUnavailableError(
            f"The database {location!r} cannot be written to. Give this process write permission for the file "
            "and its folder."
        )
    if result == apsw.SQLITE_CANTOPEN:
        if not _may_open_files():
            return _has_no_descriptor(location)
        return StorageUnavailableError(
            f"The database {location!r} cannot be opened. Check the path, and the permissions of the file and "
            "its folder."
        )
    if result == apsw.SQLITE_IOERR:
        return StorageUnavailableError(
            f"Reading or writing {location!r} failed ({error}); nothing was stored. Check the disk and try again."
        )
    return DatabaseError(f"The database {location!r} refused a statement ({error}); nothing was stored. Report this.")


def _may_open_files() -> bool:
    """Whether the files of a connection can be opened now. SQLite keeps to itself why it could not open one, and has
    closed the others again.
    """
    held: list[int] = []
    try:
        while len(held) < _FILES:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno not in _NO_DESCRIPTOR
    finally:
        for descriptor in held:
            os.close(descriptor)
    return True


def _has_no_descriptor(location: str) -> StorageUnavailableError:
    return StorageUnavailableError(
        f"The database {location!r} cannot be used: this process, or the system, may open no more files. Close those "
        "that nobody uses, or raise the limit (`ulimit -n`), and try again."
    )


def translate_commit(error: BaseException, location: str, system_errno: int = 0) -> BaseException:
    """Our error for a failed COMMIT. If its write or sync failed, only a restart shows whether it took effect."""
    translated = translate(error, location, system_errno)
    if isinstance(error, apsw.Error) and isinstance(translated, StorageUnavailableError):
        unknown = OutcomeUnknownError(
            f"The commit to {location!r} failed half-way ({error}), so the call may or may not have taken effect. "
            "Check the disk, then repeat the call with the same idempotency_key."
        )
        unknown.__cause__ = error
        return unknown
    return translated
