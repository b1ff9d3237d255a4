"""This process's sign of life and its doorbell on Redis, in a thread of their own.

One connection listens at the channel of this process, which is how it is rung; the server knows who listens, so a
process that was killed is missed at once. Another one renews the lease, and rings.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable

from redis import exceptions as driver
from redis.asyncio.connection import AbstractConnection

from ...exceptions import QueueDataLostError
from ...loggers import get_logger
from ..lifesign import QUIET, Lifesign, LifeThread
from .engine import Engine
from .errors import translate
from .values import duration, text

logger = get_logger("agent_messaging.storage")

GRACE = 0.5
"""Seconds: what is under way when the thread is to stop may take so long."""
ALIVE, STOPPED = 1, 2
"""What the script says of a process: its lease was renewed, or its own side ended it. 0 is that it counts as dead."""


class RedisPresence(Lifesign):
    """See `ports.Presence`.

    Args:
        engine: Of the main loop.
        lease: Seconds for which a process counts as alive without a sign of life.
    """

    def __init__(self, engine: Engine, lease: float) -> None:
        super().__init__(
            lambda id, on_ring, on_lost: _Thread(engine.twin(), id, lease, on_ring=on_ring, on_lost=on_lost),
            timeout=engine.call_timeout + 1,
            name_server=engine.location,
        )
        self._engine = engine
        self._seen = -1
        self._lease = lease
        self._is_told = False

    async def has_changed(self) -> bool:
        return (await self.look())[1]

    async def find_dead(self) -> list[str]:
        return (await self.look())[0]

    async def look(self) -> tuple[list[str], bool]:
        asked_at = time.monotonic()
        over, deaf, is_refused = await self._engine.call("look", process=self.process_id)
        now = time.monotonic()
        if is_refused and not self._is_told:
            self._is_told = True
            logger.warning(
                "The user of %s may not use PUBSUB, so a process that dies is missed only when its lease of %g s is "
                "over. Allow it with `+pubsub`.",
                self._engine.location,
                self._lease,
            )
        has_changed, self._seen = self._engine.newest != self._seen, self._engine.newest
        gone = dict.fromkeys({text(id) for id in deaf} - {self.process_id})
        dead = {text(id) for id in over} - {self.process_id} if self.is_steady(now) else set()
        return sorted(dead.union(self.miss(gone, asked_at, now))), has_changed


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
        self._heard_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Have it end, and not wait for a server that is away. From any thread."""
        super().stop()
        with contextlib.suppress(RuntimeError):  # the thread has ended
            self.loop.call_soon_threadsafe(self.loop.call_later, GRACE, self._cut_short)

    def _cut_short(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def translate(self, error: Exception) -> Exception:
        """See `LifeThread`."""
        return translate(error, self._engine.location)

    async def live(self) -> None:
        """See `LifeThread`."""
        self._task = asyncio.current_task()
        try:
            await super().live()
        except asyncio.CancelledError:
            if not self.is_stopping:
                raise
        finally:
            await self._engine.aclose()

    async def serve(self) -> None:
        """Listen on one connection until it fails or the thread is to stop."""
        if not self.ready.done():
            await self._engine.open()
            await self._engine.call("appear", process=self.process_id, lease=duration(self.lease))
        else:
            await self._renew()  # before all else: the others count the seconds
        connection = await self._engine.connect()
        try:
            await self._subscribe(connection)
            if self.ready.done():
                self.back_at = time.monotonic()
                self.on_ring()
            else:
                self.ready.set_result(None)
            self.is_connected = True
            listening = asyncio.create_task(self._listen(connection))
            listening.add_done_callback(lambda _: self.wake.set())
            try:
                await self._keep(connection, listening)
            finally:
                listening.cancel()
                await asyncio.wait({listening})
        finally:
            self.is_connected = False
            with contextlib.suppress(Exception):
                await connection.disconnect(nowait=True)

    async def _keep(self, connection: AbstractConnection, listening: asyncio.Task[None]) -> None:
        """Renew, and ring, for as long as the connection is good."""
        renew_at, ring_at = self.loop.time() + self.interval, 0.0
        while not self.is_stopping:
            if listening.done():
                listening.result()
            now = self.loop.time()
            if now >= renew_at:
                if not await self._renew():
                    return  # a new incarnation listens at a channel of its own
                if now - self._heard_at > 2 * self.interval + 1:
                    raise driver.ConnectionError("nothing was heard")
                await connection.send_command("PING")  # a link that died silently answers none
                renew_at = self.loop.time() + self.interval
            elif self.has_rings and now >= ring_at:
                await self._engine.call("ring", processes=sorted(self.take_rings()))
                ring_at = self.loop.time() + QUIET
            else:
                await self.wait((min(renew_at, ring_at) if self.has_rings else renew_at) - now)

    async def _subscribe(self, connection: AbstractConnection) -> None:
        await connection.send_command("SUBSCRIBE", self._engine.namespace_key + "ring:" + self.process_id)
        async with asyncio.timeout(self._engine.call_timeout):
            await connection.read_response()
        self._heard_at = self.loop.time()

    async def _listen(self, connection: AbstractConnection) -> None:
        while True:
            answer = await connection.read_response(timeout=float("inf"))
            if answer is None:
                raise driver.ConnectionError("the server closed it")
            self._heard_at = self.loop.time()
            if answer[0] == b"message":
                self.on_ring()

    async def _renew(self) -> bool:
        """Renew the lease; if others took this incarnation for dead, become a new one. False: it is another one now."""
        answer = STOPPED
        for _ in range(2):
            with contextlib.suppress(
                QueueDataLostError
            ):  # the caller of the next verb is told by the main loop's engine
                answer = await self._engine.call("renew_life", process=self.process_id, lease=duration(self.lease))
                break
        if answer in (ALIVE, STOPPED):
            return True
        old, new = self.process_id, str(uuid.uuid4())
        await self._engine.call("appear", process=new, lease=duration(self.lease))
        self.process_id = new
        logger.warning("Process %s was taken for dead by others; it goes on as %s", old, new)
        self.on_lost(new)
        return False
