"""This process's sign of life and its doorbell on PostgreSQL: one connection of a thread renews, listens, and rings."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any

from ...loggers import get_logger
from ..lifesign import LONGEST_RENEWAL, QUIET, Lifesign, LifeThread
from ..sql import Queries
from . import asks, errors, horizon
from .engine import Connection, Engine, bounded
from .pooler import Pooling

_SQL = Queries(__package__, "processes")
_ASKS = Queries(__package__, "asks")
_SCHEMA = Queries(__package__, "schema")
logger = get_logger("agent_messaging.storage")

POLL_ALONE = 0.5
"""Seconds between polls where no ring comes through."""

_SHORT = 12
"""Characters of an id in a ring: its random end. Two processes with the same end would merely wake together."""
_LONGEST_CHANNEL = 63
"""Bytes."""
_MOST_IDS = 500
"""Ids in one ring, which may have 7,999 bytes. More of them are rung as everybody."""
_EVERYBODY = "*"


Backend = tuple[int | None, datetime | None]
"""The server's end of the presence connection: its process and when that began."""


class PostgresPresence(Lifesign):
    """See `ports.Presence`."""

    def __init__(self, engine: Engine, lease: float) -> None:
        super().__init__(
            lambda id, on_ring, on_lost: _Thread(engine, id, lease, on_ring=on_ring, on_lost=on_lost),
            timeout=engine.connect_timeout + 1,
            name_server=f"PostgreSQL at {engine.location}",
        )
        self._engine = engine

    async def start(self, on_ring: Callable[[], None], on_lost: Callable[[], None]) -> None:
        if self._engine.pooling is Pooling.TRANSACTION:
            self.poll_interval = POLL_ALONE
        await super().start(on_ring, on_lost)

    def give_up(self, thread: LifeThread) -> None:
        assert isinstance(thread, _Thread)
        thread.withdraw()  # nobody may wait for the lease of a process that never was

    def ring(self, process_ids: Iterable[str]) -> None:
        own = self.process_id[-_SHORT:]
        super().ring({process_id[-_SHORT:] for process_id in process_ids} - {own})

    async def has_changed(self) -> bool:
        return True  # the server keeps no cheap sign of this; the polls are rare instead

    async def find_dead(self) -> list[str]:
        asked_at = time.monotonic()
        rows = await self._engine.fetch(_SQL["presence_dead"])
        now = time.monotonic()
        others = [row for row in rows if row["process_id"] != self.process_id]
        dead = [row["process_id"] for row in others if row["over"]] if self.is_steady(now) else []
        gone = {
            row["process_id"]: (row["backend_pid"], row["backend_start"])
            for row in others
            if row["gone"] and not row["over"]
        }
        return dead + self.miss(gone, asked_at, now)

    async def look(self) -> tuple[list[str], bool]:
        return await self.find_dead(), await self.has_changed()


class _Thread(LifeThread):
    """The thread; see `LifeThread` for what may be called from others."""

    def __init__(
        self,
        engine: Engine,
        process_id: str,
        lease: float,
        *,
        on_ring: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> None:
        super().__init__(process_id, lease, on_ring=on_ring, on_lost=on_lost)
        self._engine = engine
        self._culprits: list[str] = []
        self._retired = False
        self._withdrawn = False

    def withdraw(self) -> None:
        """Have it remove its row when it stops. From any thread."""
        self._withdrawn = True

    def translate(self, error: Exception) -> Exception:
        translated = errors.translate(error, self._engine.location)
        return translated if isinstance(translated, Exception) else error

    async def serve(self) -> None:
        connection = await self._engine.connect()
        try:
            await self._serve(connection)
        finally:
            self.is_connected = False
            connection.terminate()

    async def _serve(self, connection: Connection) -> None:
        """Use one connection until it fails or the thread is to stop."""
        connection.add_termination_listener(lambda _: self.wake.set())
        backend: Backend = (None, None)  # a pooler keeps its own when ours is gone
        if self._engine.pooling is Pooling.NONE:
            (row,) = await self._ask(connection, "presence_backend")
            backend = (row["pid"], row["backend_start"])
        if is_back := self.ready.done():  # before all else: the others count the seconds
            await self._renew(connection, backend)
            self.is_connected, self.back_at = True, time.monotonic()
        channel = await bounded(connection, connection.fetchval(_SQL["presence_channel"]), LONGEST_RENEWAL)
        channel = channel_of(channel)
        if self._engine.pooling is not Pooling.TRANSACTION:
            await bounded(connection, connection.add_listener(channel, self._heard), LONGEST_RENEWAL)
        if is_back:
            self.on_ring()
        else:
            await self._ask(connection, "presence_prune")
            await self._appear(connection, self.process_id, backend)
            self.ready.set_result(None)
        renew_at = self.loop.time() + self.interval
        ring_at, horizon_at = 0.0, self.loop.time() + horizon.PATIENCE
        while not self.is_stopping:
            now = self.loop.time()
            if connection.is_closed():
                raise ConnectionError("closed by the server")
            if now >= renew_at:
                await self._renew(connection, backend)
                renew_at = self.loop.time() + self.interval
                if now >= horizon_at:
                    await self._look_at_horizon(connection)
                    horizon_at = now + horizon.PATIENCE
            elif self.has_rings and now >= ring_at:
                await self._send_rings(connection, channel)
                ring_at = self.loop.time() + QUIET
            else:
                until = min(renew_at, ring_at) if self.has_rings else renew_at
                await self.wait(until - now)
        with contextlib.suppress(Exception):
            if self._withdrawn:
                await self._ask(connection, "presence_withdraw", self.process_id)
            await bounded(connection, connection.close(), 1.0)

    async def _appear(self, connection: Connection, process_id: str, backend: Backend) -> None:
        await self._ask(
            connection, "presence_start", process_id, socket.gethostname(), os.getpid(), *backend, self.lease
        )

    async def _renew(self, connection: Connection, backend: Backend) -> None:
        """Renew the lease. If others took this incarnation for dead, become a new one."""
        if self._retired:
            await self._ask(connection, "presence_channel")
            return
        await self._engine.clock.compare(partial(_row, connection), self.process_id)
        (row,) = await self._ask(connection, "presence_renew", self.process_id, *backend, self.lease)
        if row["alive"]:
            return
        if row["end_reason"] == "stopped":  # by our own side, which is about to close
            self._retired = True
            return
        old, new = self.process_id, str(uuid.uuid4())
        await bounded(connection, _drop(connection, old), LONGEST_RENEWAL)
        await self._appear(connection, new, backend)
        self.process_id = new
        logger.warning("Process %s was taken for dead by others; it goes on as %s", old, new)
        self.on_lost(new)

    async def _look_at_horizon(self, connection: Connection) -> None:
        """Say once for each culprit who keeps the server from cleaning up."""
        values = (horizon.PATIENCE, horizon.MANY)
        rows: list[Any] = await bounded(connection, connection.fetch(_SCHEMA["find_holder"], *values), LONGEST_RENEWAL)
        culprits = [row["who"] for row in rows]
        if culprits != self._culprits:
            for warning in horizon.describe(rows):
                logger.warning("PostgreSQL at %s: %s", self._engine.location, warning)
        self._culprits = culprits

    async def _send_rings(self, connection: Connection, channel: str) -> None:
        ids = self.take_rings()
        payload = ",".join(sorted(ids)) if len(ids) <= _MOST_IDS else _EVERYBODY
        await self._ask(connection, "presence_ring", channel, payload)

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: str) -> None:
        if payload == _EVERYBODY or self.process_id[-_SHORT:] in payload.split(","):
            self.on_ring()

    async def _ask(self, connection: Connection, name: str, *values: object) -> list[Any]:
        rows: list[Any] = await bounded(connection, connection.fetch(_SQL[name], *values), LONGEST_RENEWAL)
        return rows


def channel_of(schema: str) -> str:
    """Name the channel of a deployment after its schema, in the 63 bytes that the server allows."""
    name = f"agent_messaging_{schema}"
    if len(name.encode()) <= _LONGEST_CHANNEL:
        return name
    return f"agent_messaging_{hashlib.sha256(schema.encode()).hexdigest()[:32]}"


async def _row(connection: Connection, sql: str, *values: object) -> Any:
    return await bounded(connection, connection.fetchrow(sql, *values), LONGEST_RENEWAL)


async def _drop(connection: Connection, process_id: str) -> None:
    """Give back what an incarnation claimed, and the waits it registered, while others already took it for dead.

    Its asks stay: their askers live, and find them by their ids.
    """
    async with connection.transaction():
        returned = await connection.fetch(_SQL["presence_drop_claims"], process_id)
        await asks.follow(connection, returned, "", None)
        await connection.execute(_ASKS["waits_remove_of_processes"], [process_id])
