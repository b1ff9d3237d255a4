"""Where queues, workers and tasks are kept: in the store of the messages, or apart from it, on Redis.

A store apart has its own sign of life, timer and outages, so that messages go on while it is away. It is opened once
somebody needs it: a program that only sends messages never connects to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..exceptions import AgentMessagingError, DatabaseError, OutcomeUnknownError, QueueDataLostError
from ..loggers import get_logger
from ..storage.ports import CoordinationStore
from .retry import describe
from .services import Service
from .timer import Timer
from .trouble import Trouble

logger = get_logger("agent_messaging.delivery")

PAUSE = 1.0
"""Seconds before the store is opened again after that has failed, and not because the store is away."""


class Workplace(Service):
    """The store of the tasks as the engine uses it.

    Args:
        is_apart: It is not the store of the messages, which the engine opens and closes itself.
    """

    def __init__(self, store: CoordinationStore, timer: Timer, trouble: Trouble, *, is_apart: bool) -> None:
        self.store = store
        self.presence = store.presence
        self.timer = timer
        self.trouble = trouble
        self.is_apart = is_apart
        self.lost: QueueDataLostError | None = None
        """A loss of data of which nobody has been told yet."""
        self._open = asyncio.Event()
        if not is_apart:
            self._open.set()
        self._timekeeper: Service | None = None
        self._on_ring: Callable[[], None] = lambda: None
        self._on_lost: Callable[[], None] = lambda: None
        self._opening: asyncio.Task[None] | None = None
        self._is_closed = False

    def equip(self, on_ring: Callable[[], None], on_lost: Callable[[], None], timekeeper: Service) -> None:
        """Say what a store apart tells when it is rung, or taken for dead, and who keeps its time."""
        self._on_ring, self._on_lost, self._timekeeper = on_ring, on_lost, timekeeper

    def need(self) -> None:
        """Somebody uses it: see that it gets open, in the background.

        Raises:
            QueueDataLostError: The store has lost data since, and nobody has been told.
        """
        if self.is_apart and self._opening is None and not self._is_closed:
            self._opening = asyncio.create_task(self._keep_opening(), name="agent-messaging-workplace")
        if self.lost is not None:
            error, self.lost = self.lost, None
            raise error

    @property
    def is_open(self) -> bool:
        """Whether this process counts as alive there."""
        return self._open.is_set()

    async def wait_until_open(self) -> None:
        """Wait until this process counts as alive there."""
        await self._open.wait()

    async def _keep_opening(self) -> None:
        attempts = self.trouble.attempts()
        while True:
            try:
                await self.store.open()
                await self.presence.start(self._on_ring, self._on_lost)
                break
            except AgentMessagingError as error:  # callers meanwhile are told by their calls
                pause = attempts.failed(error)
            except Exception:
                logger.exception("opening %s failed, trying again", self.store.location)
                pause = PAUSE
            await asyncio.sleep(pause)
        attempts.succeeded()
        if self._timekeeper is not None:
            await self._timekeeper.start()
        self._open.set()

    async def aclose(self, timeout: float) -> None:
        """Take leave of a store apart, and close it."""
        self._is_closed = True
        if not self.is_apart:
            return
        try:
            if self._opening is not None:
                self._opening.cancel()
                await asyncio.wait({self._opening})
            if self._timekeeper is not None:
                await self._timekeeper.aclose(timeout)
            async with asyncio.timeout(timeout):
                if self._open.is_set():
                    await self.store.processes.retire(self.presence.process_id)
        except (DatabaseError, OutcomeUnknownError, TimeoutError) as error:
            logger.warning(
                "could not say goodbye to %s; others will find out: %s", self.store.location, describe(error)
            )
        finally:
            await self.store.aclose()
