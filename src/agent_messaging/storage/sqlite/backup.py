"""A copy of a database, taken while it is in use, that is whole and sound or is not there.

SQLite makes it from one snapshot; it is checked, synced, and only then given its name.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress

import apsw

from ...exceptions import StorageCorruptError
from ...system import publish
from . import forks
from .errors import translate

_PAGES = 1_000
"""Pages copied in one step. Between two steps a fork may happen, and a caller that gave up is noticed."""


class Backup:
    """One copy under way.

    Args:
        path: The absolute path of the copy. Nothing may be there, not even the log of an earlier database.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._part = f"{path}.part-{uuid.uuid4()}"
        self._is_given_up = threading.Event()

    def give_up(self) -> None:
        """Stop soon, and leave nothing behind. Any thread may call this."""
        self._is_given_up.set()

    def copy(self, connect: Callable[[], apsw.Connection]) -> None:
        """Copy from a connection of its own. It blocks.

        Raises:
            StorageUnavailableError: There is something at the path, or it cannot be written to.
            StorageFullError: No room.
            StorageCorruptError: The copy is not sound, so its source is not either.
        """
        source, target, inside = forks.Inside(), forks.Inside(), forks.Inside()
        try:
            self._refuse_what_is_there()
            try:
                with inside:
                    source.connection = connect()
                    target.connection = self._open_part()
                    source.connection.execute("begin")
                    source.connection.execute("select count(*) from sqlite_schema").fetchall()  # the snapshot
                    copying = target.connection.backup("main", source.connection, "main")
                while not copying.done:
                    if self._is_given_up.is_set():
                        return
                    with inside:
                        copying.step(_PAGES)
                with inside:
                    copying.finish()
            finally:
                with inside:
                    for one in (target, source):
                        if one.connection is not None:
                            one.connection.close(True)
                            one.connection = None
            self._put_in_place()
        except (apsw.Error, OSError) as error:
            raise translate(error, self.path) from error
        finally:
            self._remove_part()

    def write(self, content: bytes) -> None:
        """Write a database that was taken from memory; otherwise like `copy`."""
        try:
            self._refuse_what_is_there()
            with open(self._part, "xb") as file:
                file.write(content)
            self._put_in_place()
        except (apsw.Error, OSError) as error:
            raise translate(error, self.path) from error
        finally:
            self._remove_part()

    def _refuse_what_is_there(self) -> None:
        for path in (self.path, f"{self.path}-wal", f"{self.path}-journal"):
            if os.path.lexists(path):  # SQLite would take an old log for the new database's
                raise FileExistsError(17, f"{path!r} exists already; name a file that does not", path)

    def _open_part(self) -> apsw.Connection:
        connection = apsw.Connection(self._part)
        connection.pragma("journal_mode", "off")
        connection.pragma("synchronous", "off")  # it is synced as a whole
        return connection

    def _put_in_place(self) -> None:
        inside = forks.Inside()
        with inside:
            inside.connection = self._open_part()
            found = [str(row[0]) for row in inside.connection.execute("pragma integrity_check(3)")]
            inside.connection.close(True)
            inside.connection = None
        if found != ["ok"]:
            raise StorageCorruptError(
                f"The backup to {self.path!r} was given up: the database is damaged ({'; '.join(found)}). Stop writing "
                "to it, run `agent-messaging doctor`, and restore it from an older backup."
            )
        self._refuse_what_is_there()
        if self._is_given_up.is_set():
            return
        publish(self._part, self.path)

    def _remove_part(self) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(OSError):
                os.unlink(f"{self._part}{suffix}")
