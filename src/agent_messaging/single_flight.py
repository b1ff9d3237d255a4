"""Work that anybody may ask for, with one run at a time.

A request during a run brings one more run after it, however many requests come. So a thousand hints of one commit cost
one look, and no hint is lost. A store that fails ends the run; the next request tries again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from .exceptions import AgentMessagingError, DatabaseError, NotInitializedError, OutcomeUnknownError, copy_error
from .futures import cancel_all, fail
from .loggers import get_logger

logger = get_logger("agent_messaging")

_CLOSED = "The SDK was closed meanwhile. Open it, and repeat the call."


class SingleFlight:
    """Work with at most one run in flight.

    Args:
        do: One run. It may request another one.
        name: What it does, for the task and the log; "looking for notices" becomes "agent-messaging looking for …".
        on_failure: Called when the store failed in a run, where it is worth more than a line at DEBUG.
        start: Makes the task of a run, such as in a context of its own.
    """

    def __init__(
        self,
        do: Callable[[], Awaitable[None]],
        name: str,
        *,
        on_failure: Callable[[AgentMessagingError], None] | None = None,
        start: Callable[..., asyncio.Task[None]] = asyncio.create_task,
    ) -> None:
        self._do = do
        self._name = name
        self._on_failure = on_failure
        self._start = start
        self._is_requested = False
        self._waiting: list[asyncio.Future[None]] = []
        self._is_running = False
        self._task: asyncio.Task[None] | None = None
        self.is_closed = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs and nothing is requested."""
        return not self._is_running

    @property
    def task(self) -> asyncio.Task[None] | None:
        """That of the run in flight."""
        return self._task

    def request(self) -> None:
        """Have it run: now, or once more after the run in flight. After the end it does nothing."""
        if self.is_closed:
            return
        self._is_requested = True
        if not self._is_running:
            self._is_running = True
            task = self._start(self._run(), name=f"agent-messaging {self._name}")
            # A loop that starts tasks eagerly runs its first step in here; it may have ended already.
            self._task = task if self._is_running else None

    async def run(self) -> None:
        """Request it, and wait until a run that begins from now on has ended.

        Raises:
            DatabaseError, OutcomeUnknownError: The store failed in that run; each caller gets an error of its own.
            NotInitializedError: The service is closed, or was closed meanwhile.
        """
        if self.is_closed:
            raise NotInitializedError(_CLOSED)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self.request()
        await future

    async def wait_until_idle(self) -> None:
        """Wait until nothing runs and nothing is requested."""
        while self._task is not None:
            await asyncio.wait({self._task})

    async def aclose(self, timeout: float = 0.0, *, patience: float | None = None) -> None:
        """Take no more requests, let what was requested end for so many seconds, and cancel it then. Idempotent.

        Args:
            timeout: These seconds. Without any, what was requested behind the run in flight does not begin.
            patience: Seconds that the cancelled run has to end, for one that calls functions of the user's, which may
                ignore it; see `cancel_all`. None waits for its end.
        """
        self.is_closed = True
        if timeout <= 0:
            self._is_requested = False
        if self._task is not None and timeout > 0:
            await asyncio.wait({self._task}, timeout=timeout)
        if self._task is not None:
            if patience is None:
                self._task.cancel()
                await asyncio.wait({self._task})
            else:
                await cancel_all([self._task], patience)
            self._end()  # a task that is cancelled before its first step runs nothing of its own

    async def _run(self) -> None:
        try:
            while self._is_requested:
                self._is_requested = False
                await self._run_once()
        finally:
            self._end()

    def _end(self) -> None:
        self._is_running = False
        self._task = None
        for future in self._waiting:  # none, unless it was closed, or the end of the loop has cancelled it
            fail(future, NotInitializedError(_CLOSED))
        self._waiting.clear()

    async def _run_once(self) -> None:
        waiting, self._waiting = self._waiting, []
        failure: Exception | None = None
        try:
            await self._do()
        except (DatabaseError, OutcomeUnknownError) as error:
            failure = error
            logger.debug("%s failed, the next look tries again: %s", self._name, error)
            if self._on_failure is not None:
                self._on_failure(error)
        except Exception as error:
            failure = error
            logger.exception("%s failed, the next request tries again", self._name)
        except BaseException:
            self._waiting += waiting
            raise
        for future in waiting:
            if future.done():
                continue
            if failure is None:
                future.set_result(None)
            else:
                fail(future, copy_error(failure))
