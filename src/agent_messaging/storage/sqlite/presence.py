"""A store's sign of life on one database file: the lock of `locks.ProcessLock`, which the row in `processes` names."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import apsw

from ...futures import call_from_thread
from ...system.identity import Identity
from ..sql import Queries
from .clock import SECOND, StoreClock
from .doorbell import Doorbell
from .engine import Engine, Lookout, fetch
from .files import side_folder
from .locks import ProcessLock, is_held, remove_lock

_SQL = Queries(__package__, "processes")
_KEPT = 7 * 24 * 3600 * SECOND
"""Microseconds after its end for which a process's row is kept."""


class SQLitePresence:
    """See `ports.Presence`. In memory there is nobody else: no row is needed by others, no lock, no doorbell."""

    poll_interval = look_interval = 0.25

    def __init__(self, engine: Engine, clock: StoreClock) -> None:
        self.process_id = str(uuid.uuid4())
        self._engine = engine
        self._clock = clock
        self._folder = f"{engine.location}-am"
        self._lock: ProcessLock | None = None
        self._on_lost: Callable[[], None] | None = None
        self._doorbell: Doorbell | None = None
        self._data_version = 0
        self._listed: list[Any] = []
        """The processes that have not ended, and at which version of the data they were read."""
        self._listed_at: int | None = None
        self._started = False

    async def start(self, on_ring: Callable[[], None], on_lost: Callable[[], None]) -> None:
        """See the port. It is lost only when somebody removed the file of its lock; `look` sees it."""
        if self._started:  # ids are not used again
            self.process_id = str(uuid.uuid4())
        self._started = True
        if not self._engine.in_memory:
            self._doorbell = Doorbell(self._find_ports, lambda rung: rung == self.process_id, on_ring)
            self._data_version, self._listed_at = await self._read_data_version(), None
        await self._appear(self.process_id)
        self._on_lost = on_lost

    async def _appear(self, process_id: str) -> None:
        lock = None if self._engine.in_memory else ProcessLock.join(self._folder, self._database(), process_id)
        due, at = self._clock.now()
        row = {
            "process": process_id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "boot_id": self._clock.boot_id,
            "lock_name": "" if lock is None else lock.name,
            "port": 0 if self._doorbell is None else self._doorbell.port,
            "at": at,
        }

        def appear(connection: apsw.Connection) -> list[str]:
            connection.execute(_SQL["presence_start"], row)
            left: list[str] = fetch(connection, _SQL["presence_list_locks"], {})
            connection.execute(_SQL["presence_prune"], {"before": due - _KEPT})
            return left

        try:
            left = await self._engine.write(appear)
        except BaseException:
            if lock is not None:
                lock.leave(process_id)
            raise
        if self._lock is not None:
            self._lock.leave(self.process_id)
        self._lock = lock
        self.process_id = process_id
        if lock is not None:
            # What killed processes left behind, once their deaths have been dealt with.
            for name in left:
                if name != lock.name and not is_held(self._folder, name):
                    remove_lock(self._folder, name)

    def _database(self) -> Identity:
        assert self._engine.guard is not None
        assert self._engine.guard.database is not None
        return self._engine.guard.database

    async def _find_ports(self) -> dict[str, int]:
        rows = await self._engine.read(lambda con: fetch(con, _SQL["presence_list"], {}))
        return {process_id: port for process_id, _, port in rows}

    def ring(self, process_ids: Iterable[str]) -> None:
        if self._doorbell is not None:
            self._doorbell.ring(process_ids)

    async def has_changed(self) -> bool:
        """See the port. True also after commits of this store."""
        return not self._engine.in_memory and self._note(await self._read_data_version())

    async def find_dead(self) -> list[str]:
        if self._lock is None:
            return []
        dead, _, _ = await self._engine.read(partial(self._look, lock=self._lock, me=self.process_id), reader=0)
        return dead

    async def look(self) -> tuple[list[str], bool]:
        """See the port. One job of one reader: each job wakes a thread, and the loop after it.

        It also sees whether others took this process for dead.
        """
        if self._lock is None:
            return [], await self.has_changed()
        me = self.process_id
        dead, version, is_lost = await self._engine.read(partial(self._look, lock=self._lock, me=me), reader=0)
        if is_lost and me == self.process_id and self._on_lost is not None:
            side_folder(self._engine.location)
            self._engine.renew_write_lock()  # what removed the one lock has as a rule removed all
            await self._appear(str(uuid.uuid4()))
            self._on_lost()
        return dead, self._note(version)

    def watch(self, on_news: Callable[[], None]) -> bool:
        """See the port. A reader's thread looks, and the event loop sleeps on."""
        if self._lock is None:
            return False
        loop = asyncio.get_running_loop()

        tell = partial(call_from_thread, loop, on_news)
        self._engine.keep_lookout(Lookout(self._has_news, lambda: self.look_interval, tell))
        return True

    def _has_news(self, connection: apsw.Connection) -> bool:
        """Whether `look` would say anything but "nothing". In the thread of the same reader."""
        lock = self._lock
        if lock is None:
            return False
        dead, version, is_lost = self._look(connection, lock, self.process_id)
        return bool(dead) or is_lost or version != self._data_version

    def _note(self, version: int) -> bool:
        changed = version != self._data_version
        self._data_version = version
        return changed

    async def _read_data_version(self) -> int:
        # The number is the connection's own: it can only be compared on the same one.
        return int(await self._engine.read(self._look_at_version, reader=0))

    def _look_at_version(self, connection: apsw.Connection) -> int:
        if self._engine.guard is not None:
            self._engine.guard.check()  # who only reads commits nothing, where it would be noticed
        return int(connection.pragma("data_version"))

    def _look(self, connection: apsw.Connection, lock: ProcessLock, me: str) -> tuple[list[str], int, bool]:
        """The dead, the version of the data, and whether others took this process for dead.

        The rows are read again only after a commit, the locks each time.
        """
        version = self._look_at_version(connection)
        if version != self._listed_at:
            self._listed = fetch(connection, _SQL["presence_list"], {})
            self._listed_at = version  # as it was before the rows were read: they may be newer, and never older
        dead, is_listed = list[str](), False
        for process_id, lock_name, _ in self._listed:
            if process_id == me:
                is_listed = True
            # The lock alone decides: after a reboot all are free, while the names of boots may differ within one.
            elif not lock.is_alive(process_id, self._folder, lock_name):
                dead.append(process_id)
        return dead, version, not (is_listed or _is_in_force(connection, me))

    async def aclose(self) -> None:
        """See the port. The row stays as it is: to retire is ProcessStore's."""
        if self._engine.is_forked:
            return  # the child shares the parent's poller: what it removes there the parent would lose
        self._on_lost = None
        self._engine.end_lookout()
        doorbell, self._doorbell = self._doorbell, None
        if doorbell is not None:
            await doorbell.aclose()
        if self._lock is not None:
            self._lock.leave(self.process_id)
            self._lock = None


def _is_in_force(connection: apsw.Connection, process_id: str) -> bool:
    return bool(connection.execute(_SQL["presence_find"], {"process": process_id}).get)
