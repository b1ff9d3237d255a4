"""This process's sign of life and its doorbell, in a thread of their own.

The thread has its own event loop and its own connection, so that a handler which blocks the main loop loses neither its
claims nor its wake-ups. It renews the lease (which is also the ping that finds a dead link), listens, and rings. If its
connection fails, it opens another and has the main loop look once, because the rings in between are lost.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import hashlib
import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any

from ...exceptions import NotInitializedError, StorageUnavailableError
from ...futures import take_error
from ..sql import Queries
from . import asks, errors, horizon
from .engine import Connection, Engine, bounded
from .pooler import Pooling

_SQL = Queries(__package__, "processes")
_ASKS = Queries(__package__, "asks")
_SCHEMA = Queries(__package__, "schema")
_log = logging.getLogger(__name__)

POLL = 2.0
POLL_ALONE = 0.5
"""Seconds between polls where no ring comes through."""
_LOOK, _LOOK_CLOSELY = POLL / 3, 0.25
"""Seconds between looks for processes that are gone, each one short query; the second while one is seen without its
connection. The first is most of what an idle process costs, and shares its instants with the polls."""
_QUIET = 0.005
"""Seconds between two rings. All ids of that time are rung together."""
_PING = 5.0
"""Seconds: the longest time between two statements on the connection, and the time one may take."""
_STEADY = 5.0
"""Seconds. A connection that worked for less is not worth another line in the log when it is lost."""
_LONGEST_PAUSE = 0.5
"""Seconds between two tries to connect; well below _EARLY_SIGN, so that such a process is not taken for dead."""
_EARLY_SIGN = 1.5
"""A process that is seen without its connection for so many seconds counts as dead, ahead of its lease."""
_STOP = 5.0

_SHORT = 12
"""Characters of an id in a ring: its random end. Two processes with the same end would merely wake together."""
_LONGEST_CHANNEL = 63
"""Bytes."""
_MOST_IDS = 500
"""Ids in one ring, which may have 7,999 bytes. More of them are rung as everybody."""
_EVERYBODY = "*"


Backend = tuple[int | None, datetime | None]
"""The server's end of the presence connection: its process and when that began."""


class PostgresPresence:
    """See `ports.Presence`."""

    def __init__(self, engine: Engine, lease: float) -> None:
        self.process_id = str(uuid.uuid4())
        self._engine = engine
        self.poll_interval = POLL
        self.look_interval = _LOOK
        self._lease = lease
        self._thread: _Thread | None = None
        self._started = False
        self._absences: dict[str, tuple[tuple[int, datetime], float]] = {}

    async def start(self, on_ring: Callable[[], None], on_lost: Callable[[], None]) -> None:
        if self._started:  # ids are not used again
            self.process_id = str(uuid.uuid4())
        self._started = True
        self.poll_interval = POLL_ALONE if self._engine.pooling is Pooling.TRANSACTION else POLL
        loop = asyncio.get_running_loop()

        def on_main(callback: Callable[[], None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there to be told
                loop.call_soon_threadsafe(callback)

        def take_over(process_id: str) -> None:
            if self._thread is thread:
                self.process_id = process_id
                on_lost()

        def ring() -> None:
            if self._thread is thread:
                on_ring()

        thread = _Thread(
            self._engine,
            self.process_id,
            self._lease,
            on_ring=lambda: on_main(ring),
            on_lost=lambda process_id: on_main(lambda: take_over(process_id)),
        )
        self._thread = thread
        thread.start()
        try:
            ready = asyncio.wrap_future(thread.ready)
            ready.add_done_callback(take_error)
            async with asyncio.timeout(self._engine.connect_timeout + 1):
                await ready
        except BaseException as error:
            thread.withdraw()  # nobody may wait for the lease of a process that never was
            await self.aclose()
            if isinstance(error, TimeoutError):
                raise StorageUnavailableError(
                    f"PostgreSQL at {self._engine.location} did not answer in time."
                ) from None
            raise

    def ring(self, process_ids: Iterable[str]) -> None:
        thread = self._thread
        others = {process_id[-_SHORT:] for process_id in process_ids if process_id != self.process_id}
        if thread is not None and others:
            thread.ring(others)

    async def has_changed(self) -> bool:
        return True  # the server keeps no cheap sign of this; the polls are rare instead

    async def find_dead(self) -> list[str]:
        # The server looks at some instant between these two. An absence counts from the later one of its first look to
        # the earlier one of its last, because this loop, or the whole process, may stand still in between.
        asked_at = time.monotonic()
        rows = await self._engine.fetch(_SQL["presence_dead"])
        now = time.monotonic()
        # After an outage others may still be on their way back, as this process was: nobody is missed meanwhile.
        may_miss = self._thread is None or self._thread.is_steady(now)
        dead, absences = [], {}
        for row in rows:
            process_id = row["process_id"]
            if process_id == self.process_id:
                continue
            if row["over"]:
                dead.append(process_id)
            elif row["gone"] and may_miss:
                backend = (row["backend_pid"], row["backend_start"])
                known, since = self._absences.get(process_id, (backend, now))
                if known != backend:
                    since = now
                absences[process_id] = (backend, since)
                if asked_at - since >= _EARLY_SIGN:
                    dead.append(process_id)
        self._absences = absences
        self.look_interval = _LOOK_CLOSELY if absences else _LOOK
        return dead

    async def look(self) -> tuple[list[str], bool]:
        return await self.find_dead(), await self.has_changed()

    async def aclose(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()
            await asyncio.wait([asyncio.wrap_future(thread.finished)], timeout=_STOP)
            if thread.finished.done():
                thread.join(1.0)


class _Thread(threading.Thread):
    """The thread. All methods belong to its loop, but those that say so."""

    def __init__(
        self,
        engine: Engine,
        process_id: str,
        lease: float,
        *,
        on_ring: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> None:
        super().__init__(name="agent-messaging presence", daemon=True)
        self.ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.ready.set_running_or_notify_cancel()  # from here on no waiter that is cancelled takes it along
        self.finished: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._engine = engine
        self._process_id = process_id
        self._lease = lease
        self._interval = min(lease / 6, _PING)
        self._on_ring = on_ring
        self._on_lost = on_lost
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._to_ring: set[str] = set()
        self._wake = asyncio.Event()
        self._culprits: list[str] = []
        self._connected = True
        self._back_at = float("-inf")
        """When it was connected again, by the monotonic clock."""
        self._stopping = False
        self._retired = False
        self._withdrawn = False

    def ring(self, ids: set[str]) -> None:
        """From any thread."""
        with self._lock:
            first = not self._to_ring
            self._to_ring |= ids
        if first:
            self._signal()

    def is_steady(self, now: float) -> bool:
        """Whether the connection is up, and has not just been replaced. From any thread."""
        return self._connected and now - self._back_at >= _STEADY

    def stop(self) -> None:
        """From any thread."""
        self._stopping = True
        self._signal()

    def withdraw(self) -> None:
        """Have it remove its row when it stops. From any thread."""
        self._withdrawn = True

    def _signal(self) -> None:
        with contextlib.suppress(RuntimeError):  # the thread has ended
            self._loop.call_soon_threadsafe(self._wake.set)

    def run(self) -> None:
        try:
            self._loop.run_until_complete(self._live())
        except Exception:
            _log.exception("The presence of process %s has ended; others will take it for dead", self._process_id)
        finally:
            self._loop.close()
            if not self.ready.done():
                self.ready.set_exception(NotInitializedError("The store was closed before it was open."))
            self.finished.set_result(None)

    async def _live(self) -> None:
        pause, failures = 0.0, 0
        while not self._stopping:
            begun = self._loop.time()
            try:
                connection = await self._engine.connect()
            except Exception as error:
                if not self.ready.done():
                    self.ready.set_exception(error)
                    return
                failures += 1
                _log.debug("The presence connection cannot be opened: %r", error)
            else:
                try:
                    await self._serve(connection)
                except Exception as error:
                    if not self.ready.done():
                        self.ready.set_exception(errors.translate(error, self._engine.location))
                        return
                    if self._loop.time() - begun >= _STEADY:
                        pause, failures = 0.0, 0
                    failures += 1
                    # The calls that fail meanwhile are told by who makes them; this is told once for each outage.
                    level = logging.WARNING if failures == 1 else logging.DEBUG
                    _log.log(level, "The presence connection was lost (%s); opening another", type(error).__name__)
                finally:
                    self._connected = False
                    connection.terminate()
            if not self._stopping:
                pause = min(max(2 * pause, 0.05), _LONGEST_PAUSE)
                await self._wait(pause * random.uniform(0.5, 1.0))  # noqa: S311

    async def _serve(self, connection: Connection) -> None:
        """Use one connection until it fails or the thread is to stop."""
        connection.add_termination_listener(lambda _: self._wake.set())
        backend: Backend = (None, None)  # a pooler keeps its own when ours is gone
        if self._engine.pooling is Pooling.NONE:
            (row,) = await self._ask(connection, "presence_backend")
            backend = (row["pid"], row["backend_start"])
        if is_back := self.ready.done():  # before all else: the others count the seconds
            await self._renew(connection, backend)
            self._connected, self._back_at = True, time.monotonic()
        channel = await bounded(connection, connection.fetchval(_SQL["presence_channel"]), _PING)
        channel = channel_of(channel)
        if self._engine.pooling is not Pooling.TRANSACTION:
            await bounded(connection, connection.add_listener(channel, self._heard), _PING)
        if is_back:
            self._on_ring()
        else:
            await self._ask(connection, "presence_prune")
            await self._appear(connection, self._process_id, backend)
            self.ready.set_result(None)
        renew_at = self._loop.time() + self._interval
        ring_at, horizon_at = 0.0, self._loop.time() + horizon.PATIENCE
        while not self._stopping:
            now = self._loop.time()
            if connection.is_closed():
                raise ConnectionError("closed by the server")
            if now >= renew_at:
                await self._renew(connection, backend)
                renew_at = self._loop.time() + self._interval
                if now >= horizon_at:
                    await self._look_at_horizon(connection)
                    horizon_at = now + horizon.PATIENCE
            elif self._to_ring and now >= ring_at:
                await self._send_rings(connection, channel)
                ring_at = self._loop.time() + _QUIET
            else:
                until = min(renew_at, ring_at) if self._to_ring else renew_at
                await self._wait(until - now)
        with contextlib.suppress(Exception):
            if self._withdrawn:
                await self._ask(connection, "presence_withdraw", self._process_id)
            await bounded(connection, connection.close(), 1.0)

    async def _wait(self, seconds: float) -> None:
        """Wait for a ring to send, for the end of the thread or of the connection, or until the time is over."""
        self._wake.clear()  # no signal is lost: this loop sets it, after the fact that it tells of became true
        if self._stopping or seconds <= 0:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _appear(self, connection: Connection, process_id: str, backend: Backend) -> None:
        await self._ask(
            connection, "presence_start", process_id, socket.gethostname(), os.getpid(), *backend, self._lease
        )

    async def _renew(self, connection: Connection, backend: Backend) -> None:
        """Renew the lease. If others took this incarnation for dead, become a new one."""
        if self._retired:
            await self._ask(connection, "presence_channel")
            return
        await self._engine.clock.compare(partial(_row, connection), self._process_id)
        (row,) = await self._ask(connection, "presence_renew", self._process_id, *backend, self._lease)
        if row["alive"]:
            return
        if row["end_reason"] == "stopped":  # by our own side, which is about to close
            self._retired = True
            return
        old, new = self._process_id, str(uuid.uuid4())
        await bounded(connection, _drop(connection, old), _PING)
        await self._appear(connection, new, backend)
        self._process_id = new
        _log.warning("Process %s was taken for dead by others; it goes on as %s", old, new)
        self._on_lost(new)

    async def _look_at_horizon(self, connection: Connection) -> None:
        """Say once for each culprit who keeps the server from cleaning up."""
        values = (horizon.PATIENCE, horizon.MANY)
        rows: list[Any] = await bounded(connection, connection.fetch(_SCHEMA["find_holder"], *values), _PING)
        culprits = [row["who"] for row in rows]
        if culprits != self._culprits:
            for warning in horizon.describe(rows):
                _log.warning("PostgreSQL at %s: %s", self._engine.location, warning)
        self._culprits = culprits

    async def _send_rings(self, connection: Connection, channel: str) -> None:
        with self._lock:
            ids, self._to_ring = self._to_ring, set()
        payload = ",".join(sorted(ids)) if len(ids) <= _MOST_IDS else _EVERYBODY
        await self._ask(connection, "presence_ring", channel, payload)

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: str) -> None:
        if payload == _EVERYBODY or self._process_id[-_SHORT:] in payload.split(","):
            self._on_ring()

    async def _ask(self, connection: Connection, name: str, *values: object) -> list[Any]:
        rows: list[Any] = await bounded(connection, connection.fetch(_SQL[name], *values), _PING)
        return rows


def channel_of(schema: str) -> str:
    """Name the channel of a deployment after its schema, in the 63 bytes that the server allows."""
    name = f"agent_messaging_{schema}"
    if len(name.encode()) <= _LONGEST_CHANNEL:
        return name
    return f"agent_messaging_{hashlib.sha256(schema.encode()).hexdigest()[:32]}"


async def _row(connection: Connection, sql: str, *values: object) -> Any:
    return await bounded(connection, connection.fetchrow(sql, *values), _PING)


async def _drop(connection: Connection, process_id: str) -> None:
    """Give back what an incarnation claimed, and the waits it registered, while others already took it for dead.

    Its asks stay: their askers live, and find them by their ids.
    """
    async with connection.transaction():
        returned = await connection.fetch(_SQL["presence_drop_claims"], process_id)
        await asks.follow(connection, returned, "", None)
        await connection.execute(_ASKS["waits_remove_of_processes"], [process_id])
