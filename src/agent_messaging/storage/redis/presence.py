"""This process's sign of life on Redis and its doorbell, in a thread of their own.

The thread has its own event loop and its own connections, so that a handler which blocks the main loop loses neither
its claims nor its wake-ups. One connection listens at the channel of this process, which is how it is rung; the server
knows who listens, so a process that was killed is missed at once. The other one renews the lease, and rings. If the
listening connection fails, the thread opens another and has the main loop look once, because the rings in between are
lost.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable

from redis import exceptions as driver
from redis.asyncio.connection import AbstractConnection

from ...exceptions import NotInitializedError, QueueDataLostError, StorageUnavailableError
from ...futures import take_error
from .engine import Engine
from .errors import translate
from .values import text

logger = logging.getLogger("agent_messaging.storage")

POLL = 2.0
"""Seconds between two of the slow polls under the rings."""
LOOK, LOOK_CLOSELY = POLL / 3, 0.25
"""Seconds between looks for processes that are gone, each one call; the second while one is seen that does not listen.
The first is most of what an idle process costs."""
QUIET = 0.005
"""Seconds between two rings. All of that time are rung together."""
RENEWAL = 5.0
"""Seconds: the longest time between two renewals of the lease, and before a dead connection is noticed."""
STEADY = 5.0
"""Seconds. A connection that worked for less is not worth another line in the log when it is lost."""
LONGEST_PAUSE = 0.5
"""Seconds between two tries to connect; well below EARLY_SIGN, so that such a process is not taken for dead."""
EARLY_SIGN = 1.5
"""A process that does not listen for so many seconds counts as dead, ahead of its lease."""
STOP = 5.0
GRACE = 0.5
"""Seconds: what is under way when the thread is to stop may take so long."""
ALIVE, STOPPED = 1, 2
"""What the script says of a process: its lease was renewed, or its own side ended it. 0 is that it counts as dead."""


class RedisPresence:
    """Implements `ports.Presence`.

    Args:
        engine: Of the main loop.
        lease: Seconds for which a process counts as alive without a sign of life.
    """

    def __init__(self, engine: Engine, lease: float) -> None:
        self.process_id = str(uuid.uuid4())
        self.poll_interval = POLL
        self.look_interval = LOOK
        self._engine = engine
        self._lease = lease
        self._thread: _Thread | None = None
        self._started = False
        self._deaf: dict[str, float] = {}
        """Since when somebody is seen that does not listen."""
        self._seen = -1

    async def start(self, on_ring: Callable[[], None], on_lost: Callable[[], None]) -> None:
        """See `ports.Presence`."""
        if self._started:  # ids are not used again
            self.process_id = str(uuid.uuid4())
        self._started = True
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
            self._engine.twin(),
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
            async with asyncio.timeout(self._engine.call_timeout + 1):
                await ready
        except BaseException as error:
            await self.aclose()
            if isinstance(error, TimeoutError):
                raise StorageUnavailableError(f"{self._engine.location} did not answer in time.") from None
            raise

    def ring(self, process_ids: Iterable[str]) -> None:
        """See `ports.Presence`."""
        others = {process_id for process_id in process_ids if process_id != self.process_id}
        if self._thread is not None and others:
            self._thread.ring(others)

    async def has_changed(self) -> bool:
        """See `ports.Presence`."""
        return (await self.look())[1]

    async def find_dead(self) -> list[str]:
        """See `ports.Presence`."""
        return (await self.look())[0]

    async def look(self) -> tuple[list[str], bool]:
        """See `ports.Presence`."""
        # The server looks at some instant between these two. An absence counts from the later one of its first look to
        # the earlier one of its last, because this loop, or the whole process, may stand still in between.
        asked_at = time.monotonic()
        over, deaf = await self._engine.call("look")
        now = time.monotonic()
        has_changed, self._seen = self._engine.newest != self._seen, self._engine.newest
        # After an outage others may still be on their way back, as this process was: nobody is missed meanwhile.
        if self._thread is not None and not self._thread.is_steady(now):
            deaf = []
        self._deaf = {id: self._deaf.get(id, now) for id in map(text, deaf) if id != self.process_id}
        dead = {id for id, since in self._deaf.items() if asked_at - since >= EARLY_SIGN}
        dead |= {id for id in map(text, over) if id != self.process_id}
        self.look_interval = LOOK_CLOSELY if self._deaf else LOOK
        return sorted(dead), has_changed

    async def aclose(self) -> None:
        """See `ports.Presence`."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()
            await asyncio.wait([asyncio.wrap_future(thread.finished)], timeout=STOP)
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
        self._interval = min(lease / 6, RENEWAL)
        self._on_ring = on_ring
        self._on_lost = on_lost
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._to_ring: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._heard_at = 0.0
        self._is_connected = False
        self._back_at = float("-inf")
        """When it was connected again, by the monotonic clock."""
        self._is_stopping = False

    def ring(self, ids: set[str]) -> None:
        """From any thread."""
        with self._lock:
            first = not self._to_ring
            self._to_ring |= ids
        if first:
            self._signal()

    def is_steady(self, now: float) -> bool:
        """Whether the connection is up, and has not just been replaced. From any thread."""
        return self._is_connected and now - self._back_at >= STEADY

    def stop(self) -> None:
        """From any thread."""
        self._is_stopping = True
        with contextlib.suppress(RuntimeError):  # the thread has ended
            self._loop.call_soon_threadsafe(self._leave)

    def _leave(self) -> None:
        self._wake.set()
        if self._task is not None:
            self._loop.call_later(GRACE, self._task.cancel)  # a server that is away is not waited for

    def _signal(self) -> None:
        with contextlib.suppress(RuntimeError):  # the thread has ended
            self._loop.call_soon_threadsafe(self._wake.set)

    def run(self) -> None:
        """See `threading.Thread`."""
        try:
            self._task = self._loop.create_task(self._live())
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        except Exception:
            logger.exception("The presence of process %s has ended; others will take it for dead", self._process_id)
        finally:
            self._loop.close()
            if not self.ready.done():
                self.ready.set_exception(NotInitializedError("The store was closed before it was open."))
            self.finished.set_result(None)

    async def _live(self) -> None:
        pause, failures = 0.0, 0
        try:
            while not self._is_stopping:
                begun = self._loop.time()
                try:
                    await self._serve()
                except Exception as error:
                    if not self.ready.done():
                        self.ready.set_exception(translate(error, self._engine.location))
                        return
                    if self._loop.time() - begun >= STEADY:
                        pause, failures = 0.0, 0
                    failures += 1
                    # The calls that fail meanwhile are told by who makes them; this is told once for each outage.
                    level = logging.WARNING if failures == 1 else logging.DEBUG
                    logger.log(level, "The presence connection was lost (%s); opening another", type(error).__name__)
                finally:
                    self._is_connected = False
                if not self._is_stopping:
                    pause = min(max(2 * pause, 0.05), LONGEST_PAUSE)
                    await self._wait(pause * random.uniform(0.5, 1.0))  # noqa: S311
        finally:
            await self._engine.aclose()

    async def _serve(self) -> None:
        """Listen on one connection until it fails or the thread is to stop."""
        if not self.ready.done():
            await self._engine.open()
            await self._engine.call("appear", process=self._process_id, lease=self._micros)
        else:
            await self._renew()  # before all else: the others count the seconds
        connection = await self._engine.connect()
        try:
            await self._subscribe(connection)
            if self.ready.done():
                self._back_at = time.monotonic()
                self._on_ring()
            else:
                self.ready.set_result(None)
            self._is_connected = True
            listening = asyncio.create_task(self._listen(connection))
            listening.add_done_callback(lambda _: self._wake.set())
            try:
                await self._keep(connection, listening)
            finally:
                listening.cancel()
                await asyncio.wait({listening})
        finally:
            with contextlib.suppress(Exception):
                await connection.disconnect(nowait=True)

    async def _keep(self, connection: AbstractConnection, listening: asyncio.Task[None]) -> None:
        """Renew, and ring, for as long as the connection is good."""
        renew_at, ring_at = self._loop.time() + self._interval, 0.0
        while not self._is_stopping:
            if listening.done():
                listening.result()
            now = self._loop.time()
            if now >= renew_at:
                if not await self._renew():
                    return  # a new incarnation listens at a channel of its own
                if now - self._heard_at > 2 * self._interval + 1:
                    raise driver.ConnectionError("nothing was heard")
                await connection.send_command("PING")  # a link that died silently answers none
                renew_at = self._loop.time() + self._interval
            elif self._to_ring and now >= ring_at:
                with self._lock:
                    ids, self._to_ring = self._to_ring, set()
                await self._engine.call("ring", processes=sorted(ids))
                ring_at = self._loop.time() + QUIET
            else:
                await self._wait((min(renew_at, ring_at) if self._to_ring else renew_at) - now)

    async def _subscribe(self, connection: AbstractConnection) -> None:
        await connection.send_command("SUBSCRIBE", self._engine.namespace_key + "ring:" + self._process_id)
        async with asyncio.timeout(self._engine.call_timeout):
            await connection.read_response()
        self._heard_at = self._loop.time()

    async def _listen(self, connection: AbstractConnection) -> None:
        while True:
            answer = await connection.read_response(timeout=float("inf"))
            if answer is None:
                raise driver.ConnectionError("the server closed it")
            self._heard_at = self._loop.time()
            if answer[0] == b"message":
                self._on_ring()

    async def _wait(self, seconds: float) -> None:
        """Wait for a ring to send, for the end of the thread or of the connection, or until the time is over."""
        self._wake.clear()  # no signal is lost: this loop sets it, after the fact that it tells of became true
        if self._is_stopping or seconds <= 0:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    @property
    def _micros(self) -> int:
        return round(self._lease * 1_000_000)

    async def _renew(self) -> bool:
        """Renew the lease; if others took this incarnation for dead, become a new one. False: it is another one now."""
        answer = STOPPED
        for _ in range(2):
            with contextlib.suppress(
                QueueDataLostError
            ):  # the caller of the next verb is told by the main loop's engine
                answer = await self._engine.call("renew_life", process=self._process_id, lease=self._micros)
                break
        if answer in (ALIVE, STOPPED):
            return True
        old, new = self._process_id, str(uuid.uuid4())
        await self._engine.call("appear", process=new, lease=self._micros)
        self._process_id = new
        logger.warning("Process %s was taken for dead by others; it goes on as %s", old, new)
        self._on_lost(new)
        return False
