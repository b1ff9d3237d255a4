"""What the signs of life of the servers' backends share: a thread with a loop of its own, and who is missed.

The thread has its own connections, so that a handler which blocks the main loop loses neither its claims nor its
wake-ups. It renews the lease, listens, and rings. If its connection fails, it opens another and has the main loop look
once, because the rings in between are lost.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import random
import threading
import uuid
from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping

from ..exceptions import NotInitializedError, StorageUnavailableError
from ..futures import call_from_thread, take_error
from ..loggers import get_logger

logger = get_logger("agent_messaging.storage")

POLL = 2.0
"""Seconds between two of the slow polls under the rings."""
LOOK, LOOK_CLOSELY = POLL / 3, 0.25
"""Seconds between looks for processes that are gone, each one short query; the second while one is seen without its
connection. The first is most of what an idle process costs, and shares its instants with the polls."""
QUIET = 0.005
"""Seconds between two rings. All ids of that time are rung together."""
LONGEST_RENEWAL = 5.0
"""Seconds: the longest time between two renewals of the lease, and the time that one may take."""
STEADY = 5.0
"""Seconds. A connection that worked for less is not worth another line in the log when it is lost."""
LONGEST_PAUSE = 0.5
"""Seconds between two tries to connect; well below EARLY_SIGN, so that such a process is not taken for dead."""
EARLY_SIGN = 1.5
"""A process that is seen without its connection for so many seconds counts as dead, ahead of its lease."""
STOP = 5.0


class LifeThread(threading.Thread):
    """The thread. All methods belong to its loop, but those that say so."""

    def __init__(
        self, process_id: str, lease: float, *, on_ring: Callable[[], None], on_lost: Callable[[str], None]
    ) -> None:
        super().__init__(name="agent-messaging presence", daemon=True)
        self.ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.ready.set_running_or_notify_cancel()  # from here on no waiter that is cancelled takes it along
        self.finished: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.process_id = process_id
        self.lease = lease
        self.interval = min(lease / 6, LONGEST_RENEWAL)
        self.on_ring = on_ring
        self.on_lost = on_lost
        self.loop = asyncio.new_event_loop()
        self.is_stopping = False
        self.is_connected = True
        self.back_at = float("-inf")
        """When it was connected again, by the monotonic clock."""
        self.wake = asyncio.Event()
        self._lock = threading.Lock()
        self._to_ring: set[str] = set()

    # --- from any thread ----------------------------------------------------------------------------------------------

    def ring(self, ids: set[str]) -> None:
        """Ring these soon. From any thread."""
        with self._lock:
            first = not self._to_ring
            self._to_ring |= ids
        if first:
            self.signal()

    def is_steady(self, now: float) -> bool:
        """Whether the connection is up, and has not just been replaced. From any thread."""
        return self.is_connected and now - self.back_at >= STEADY

    def stop(self) -> None:
        """Have it end. From any thread."""
        self.is_stopping = True
        self.signal()

    def signal(self) -> None:
        """Wake the loop. From any thread."""
        call_from_thread(self.loop, self.wake.set)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """See `threading.Thread`."""
        try:
            self.loop.run_until_complete(self.live())
        except Exception:
            logger.exception("The presence of process %s has ended; others will take it for dead", self.process_id)
        finally:
            self.loop.close()
            if not self.ready.done():
                self.ready.set_exception(NotInitializedError("The store was closed before it was open."))
            self.finished.set_result(None)

    @abstractmethod
    async def serve(self) -> None:
        """Use one connection until it fails or the thread is to stop."""

    @abstractmethod
    def translate(self, error: Exception) -> Exception:
        """Our error for one of the driver's."""

    async def live(self) -> None:
        """Serve again and again until it is to stop."""
        pause, failures = 0.0, 0
        while not self.is_stopping:
            begun = self.loop.time()
            try:
                await self.serve()
            except Exception as error:
                if not self.ready.done():
                    self.ready.set_exception(self.translate(error))
                    return
                if self.loop.time() - begun >= STEADY:
                    pause, failures = 0.0, 0
                failures += 1
                # The calls that fail meanwhile are told by who makes them; this is told once for each outage.
                level = logging.WARNING if failures == 1 else logging.DEBUG
                logger.log(level, "The presence connection was lost (%s); opening another", type(error).__name__)
            finally:
                self.is_connected = False
            if not self.is_stopping:
                pause = min(max(2 * pause, 0.05), LONGEST_PAUSE)
                await self.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311

    def take_rings(self) -> set[str]:
        """The ids to be rung now."""
        with self._lock:
            ids, self._to_ring = self._to_ring, set()
        return ids

    @property
    def has_rings(self) -> bool:
        """Whether somebody is to be rung."""
        return bool(self._to_ring)

    async def wait(self, seconds: float) -> None:
        """Wait for a ring to send, for the end of the thread or of the connection, or until the time is over."""
        self.wake.clear()  # no signal is lost: the loop sets it, after the fact that it tells of became true
        if self.is_stopping or seconds <= 0:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wake.wait()


class Lifesign:
    """The part of `ports.Presence` that handles the thread.

    Args:
        make_thread: Makes one for a process id, which calls the two functions.
        timeout: Seconds in which it must be there.
        name_server: For the error of one that is not.
    """

    def __init__(
        self,
        make_thread: Callable[[str, Callable[[], None], Callable[[str], None]], LifeThread],
        *,
        timeout: float,
        name_server: str,
    ) -> None:
        self.process_id = str(uuid.uuid4())
        self.poll_interval = POLL
        self.look_interval = LOOK
        self._absences: dict[str, tuple[Hashable, float]] = {}
        """Since when processes are seen without their connections, with what tells an absence from another."""
        self._make_thread = make_thread
        self._timeout = timeout
        self._name_server = name_server
        self._thread: LifeThread | None = None
        self._has_started = False

    async def start(self, on_ring: Callable[[], None], on_lost: Callable[[], None]) -> None:
        """See `ports.Presence`."""
        if self._has_started:  # ids are not used again
            self.process_id = str(uuid.uuid4())
        self._has_started = True
        loop = asyncio.get_running_loop()

        def on_main(callback: Callable[[], None]) -> None:
            call_from_thread(loop, callback)

        def take_over(process_id: str) -> None:
            if self._thread is thread:
                self.process_id = process_id
                on_lost()

        def ring() -> None:
            if self._thread is thread:
                on_ring()

        thread = self._make_thread(
            self.process_id, lambda: on_main(ring), lambda process_id: on_main(lambda: take_over(process_id))
        )
        self._thread = thread
        thread.start()
        try:
            ready = asyncio.wrap_future(thread.ready)
            ready.add_done_callback(take_error)
            async with asyncio.timeout(self._timeout):
                await ready
        except BaseException as error:
            self.give_up(thread)
            await self.aclose()
            if isinstance(error, TimeoutError):
                raise StorageUnavailableError(
                    f"{self._name_server} did not answer in time. Check the network and its load, then try again."
                ) from None
            raise

    def give_up(self, thread: LifeThread) -> None:
        """The process did not appear, or is not to."""

    def watch(self, on_news: Callable[[], None]) -> bool:
        """See `ports.Presence`. A look is a question to the server, for whose answer a loop wakes in any case."""
        return False

    def ring(self, process_ids: Iterable[str]) -> None:
        """See `ports.Presence`."""
        others = {process_id for process_id in process_ids if process_id != self.process_id}
        if self._thread is not None and others:
            self._thread.ring(others)

    def is_steady(self, now: float) -> bool:
        """Whether others may be taken for dead: after an outage they may still be on their way back, as this one was.

        That holds for leases too. Nobody could renew one while the server was away.
        """
        return self._thread is None or self._thread.is_steady(now)

    def miss(self, gone: Mapping[str, Hashable], asked_at: float, now: float) -> list[str]:
        """Those that have been seen without their connections for too long.

        The server looks at some instant between `asked_at` and `now`. An absence counts from the later one of its first
        look to the earlier one of its last, because this loop, or the whole process, may stand still in between.

        Args:
            gone: Those that are seen so now, with what tells this absence from another.
        """
        absences = {}
        if self.is_steady(now):
            for process_id, which in gone.items():
                known, since = self._absences.get(process_id, (which, now))
                absences[process_id] = which, since if known == which else now
        self._absences = absences
        self.look_interval = LOOK_CLOSELY if absences else LOOK
        return [process_id for process_id, (_, since) in absences.items() if asked_at - since >= EARLY_SIGN]

    async def aclose(self) -> None:
        """See `ports.Presence`."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()
            await asyncio.wait([asyncio.wrap_future(thread.finished)], timeout=STOP)
            if thread.finished.done():
                thread.join(1.0)
