"""A store's sign of life on one database file, and its doorbell.

The sign of life is the lock of `locks.ProcessLock`; the row in `processes` names it. The doorbell is a UDP socket on
the
loopback: a datagram to its port means "look". Rows are the truth, so a lost ring costs a poll interval and nothing
else.
"""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

import apsw

from ...exceptions import AgentMessagingError
from ..sql import Queries
from . import forks
from .clock import StoreClock
from .engine import Engine, fetch
from .locks import ProcessLock, is_held, remove_lock
from .system import Identity

_SQL = Queries(__package__, "processes")
_MERGE = 0.002
"""Seconds within which rings to one process are merged into one."""
_WATCH = 1.0
"""Seconds between two looks whether others took this process for dead."""
_REMEMBERED = 10_000
"""Processes whose doorbell, or lack of one, is remembered."""
_LAST_PORT = 65_535
_KEPT = 7 * 24 * 3600 * 1_000_000
"""Microseconds after its end for which a process's row is kept."""


class SQLitePresence:
    """See ports.Presence. In memory there is nobody else: no row is needed by others, no lock, no doorbell."""

    poll_interval = 0.25

    def __init__(self, engine: Engine, clock: StoreClock) -> None:
        self.process_id = str(uuid.uuid4())
        self._engine = engine
        self._clock = clock
        self._folder = f"{engine.location}-am"
        self._lock: ProcessLock | None = None
        self._watching: asyncio.Task[None] | None = None
        self._port = 0
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_ring: Callable[[], None] = lambda: None
        self._ports: dict[str, int] = {}
        """Of the processes last seen alive; 0 for those that are not."""
        self._rung: dict[str, float] = {}
        """When each was last rung, or will be."""
        self._asking: asyncio.Task[None] | None = None
        self._unknown: set[str] = set()
        self._data_version = 0
        self._started = False

    async def start(self, on_ring: Callable[[], None], on_lost: Callable[[], None]) -> None:
        """See the port. It is lost only when somebody removed the file of its lock."""
        if self._started:  # ids are not used again
            self.process_id = str(uuid.uuid4())
        self._started = True
        self._loop = asyncio.get_running_loop()
        self._on_ring = on_ring
        if not self._engine.in_memory:
            self._port = self._listen(self._loop)
            self._data_version = await self._read_data_version()
        await self._appear(self.process_id)
        if not self._engine.in_memory:
            self._watching = self._loop.create_task(self._watch(on_lost), name="agent-messaging-presence")

    async def _appear(self, process_id: str) -> None:
        lock = None if self._engine.in_memory else ProcessLock.join(self._folder, self._database(), process_id)
        due, at = self._clock.now()
        row = {
            "process": process_id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "boot_id": self._clock.boot_id,
            "lock_name": "" if lock is None else lock.name,
            "port": self._port,
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

    async def _watch(self, on_lost: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(_WATCH)
            with suppress(AgentMessagingError):  # whoever uses the store hears of it
                if not await self._engine.read(partial(_is_in_force, process_id=self.process_id)):
                    await self._appear(str(uuid.uuid4()))
                    on_lost()

    def _database(self) -> Identity:
        assert self._engine.guard is not None
        assert self._engine.guard.database is not None
        return self._engine.guard.database

    def _listen(self, loop: asyncio.AbstractEventLoop) -> int:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(("127.0.0.1", 0))
        forks.add(self)
        loop.add_reader(self._socket, self._hear)
        port: int = self._socket.getsockname()[1]
        return port

    def _hear(self) -> None:
        assert self._socket is not None
        rung = False
        mine = self.process_id.encode()
        with suppress(OSError):
            while True:
                # Somebody may still ring a port that was another's before.
                rung = self._socket.recv(64) == mine or rung
        if rung:
            self._on_ring()

    def ring(self, process_ids: Iterable[str]) -> None:
        """See the port."""
        if self._socket is None or self._loop is None:
            return
        now = self._loop.time()
        for process_id in process_ids:
            if process_id not in self._ports:
                self._unknown.add(process_id)
                continue
            next_time = self._rung.get(process_id, 0.0) + _MERGE
            if next_time <= now:
                self._rung[process_id] = now
                self._send(process_id)
            elif next_time - _MERGE <= now:  # otherwise a later one is on its way already
                self._rung[process_id] = next_time
                self._loop.call_at(next_time, self._send, process_id)
        if self._unknown and (self._asking is None or self._asking.done()):  # done, where tasks are started eagerly
            self._asking = self._loop.create_task(self._learn(), name="agent-messaging-doorbell")

    def _send(self, process_id: str) -> None:
        port = self._ports.get(process_id, 0)
        if port and self._socket is not None:
            with suppress(OSError):  # a full buffer: its owner has rings enough to hear
                self._socket.sendto(process_id.encode(), ("127.0.0.1", port))

    async def _learn(self) -> None:
        try:
            while self._unknown:
                asked, self._unknown = self._unknown, set()
                rows = await self._engine.read(lambda con: fetch(con, _SQL["presence_list"], {}))
                # Who is not among the living never comes back: ids are not used again.
                known = self._ports if len(self._ports) < _REMEMBERED else {}
                self._ports = dict.fromkeys((*known, *asked), 0)
                self._ports.update({process_id: port for process_id, _, port in rows if 0 <= port <= _LAST_PORT})
                self._rung = {id: at for id, at in self._rung.items() if id in self._ports}
                for process_id in asked:
                    self._send(process_id)
        except AgentMessagingError:
            self._unknown.clear()  # their poll finds it
        finally:
            self._asking = None

    async def has_changed(self) -> bool:
        """See the port. True also after commits of this store."""
        if self._engine.in_memory:
            return False
        version = await self._read_data_version()
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

    async def find_dead(self) -> list[str]:
        """See the port."""
        lock, me = self._lock, self.process_id
        if lock is None:
            return []

        def find(connection: apsw.Connection) -> list[str]:
            return [
                # The lock alone decides: after a reboot all are free, while the names of boots may differ within one.
                process_id
                for process_id, lock_name, _ in fetch(connection, _SQL["presence_list"], {})
                if process_id != me and not lock.is_alive(process_id, self._folder, lock_name)
            ]

        return await self._engine.read(find)

    def abandon(self) -> None:
        """Close the child's descriptor of the doorbell, and leave the poller alone, which the parent uses too."""
        if self._socket is not None:
            os.close(self._socket.detach())
            self._socket = None

    async def aclose(self) -> None:
        """See the port. The row stays as it is: to retire is ProcessStore's."""
        if self._engine.is_forked:
            return  # the child shares the parent's poller: what it removes there the parent would lose
        here = asyncio.get_running_loop()  # the tasks of a loop that was closed have ended with it
        tasks = [task for task in (self._watching, self._asking) if task is not None and task.get_loop() is here]
        self._watching = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket is not None:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        if self._lock is not None:
            self._lock.leave(self.process_id)
            self._lock = None


def _is_in_force(connection: apsw.Connection, process_id: str) -> bool:
    return bool(connection.execute(_SQL["presence_find"], {"process": process_id}).get)
