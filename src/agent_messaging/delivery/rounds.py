"""Services that are one task: from their start to their end, and as a rule in rounds, with a pause before each."""

from __future__ import annotations

import asyncio
import time

from ..exceptions import DatabaseError, OutcomeUnknownError
from ..loggers import get_logger
from .services import Service
from .trouble import Trouble

logger = get_logger("agent_messaging.delivery")


class Endless(Service):
    """A service that works until it is closed.

    Args:
        name: That of its task, behind "agent-messaging-".
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self.work(), name=f"agent-messaging-{self._name}")

    async def aclose(self, timeout: float) -> None:
        """End at once. What the store has been asked for is done wholly, or not at all."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def work(self) -> None:
        """Work until the task is cancelled."""
        raise NotImplementedError


class Rounds(Endless):
    """A service that does the same again and again. A round that fails is told, and the next one comes all the same.

    Args:
        name: That of its task.
        does: What a round does, for the log.
        pause: Seconds before each round, the first one too: a short run of a program does nothing for the store.
    """

    def __init__(self, name: str, does: str, *, pause: float, trouble: Trouble) -> None:
        super().__init__(name)
        self._does = does
        self.pause = pause
        self.trouble = trouble

    async def work(self) -> None:
        """See `Endless`."""
        while True:
            await asyncio.sleep(self.pause)
            try:
                await self.round()
            except (DatabaseError, OutcomeUnknownError) as error:
                self.trouble.note(error)
            except Exception:
                logger.exception("%s failed, trying again", self._does)

    async def round(self) -> None:
        """Make one round."""
        raise NotImplementedError


async def rest(begun: float, share: float) -> None:
    """Pause, so that what was begun at that time of the monotonic clock has taken this share of the time."""
    await asyncio.sleep((time.monotonic() - begun) * (1 / share - 1))
