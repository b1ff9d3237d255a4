"""A run learns that nobody waits for its answer any more: its asker gave up, or is gone.

The row of the ask says so. It is looked at with those of the asks that callers here wait for, so a ring or a poll costs
one look for all of them. A run that ends within a second, and does not want to know, costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from ..exceptions import AgentNotFoundError, EventLoopError, NotInitializedError
from ..models import AskState
from .asks import AskOutcome, Asks

FOLLOW_AFTER = 1.0
"""Seconds after which a run is told also if it did not ask: its handler may look once, at its end."""


class Abandonment:
    """Whether the asker of one run waits. See `models.Asker`.

    Args:
        on_left: Called when it does not wait any more; True: the ask itself is gone, with its agent.
    """

    def __init__(self, asks: Asks, ask_id: str, on_left: Callable[[bool], None]) -> None:
        self._waiters = asks.waiters
        self._ask_id = ask_id
        self._on_left = on_left
        self._loop = asyncio.get_running_loop()
        self._left = asyncio.Event()
        self._following: contextlib.ExitStack | None = None
        self._is_wanted = False
        self._timer = self._loop.call_later(FOLLOW_AFTER, self._want)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # a copy of a context, in another process perhaps, is about no run

    @property
    def has_left(self) -> bool:
        """Whether nobody waits for the answer, as last seen. May be read in any thread."""
        if not self._is_wanted:
            if asyncio._get_running_loop() is self._loop:
                self._want()
            else:
                with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
                    self._loop.call_soon_threadsafe(self._want)
        return self._left.is_set()

    async def wait_until_left(self) -> None:
        """Wait until nobody waits for the answer.

        Raises:
            EventLoopError: The caller is not on the loop of the SDK.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise EventLoopError(
                "wait_abandoned() belongs to the event loop of the SDK. Let a plain function, which runs in a thread, "
                "read context.is_abandoned between two steps of its work."
            )
        self._want()
        await self._left.wait()

    def follow(self) -> None:
        """Be told of its end. The look that comes in a second sees an end that came before."""
        if self._following is None:
            self._following = contextlib.ExitStack()
            with contextlib.suppress(NotInitializedError):  # the SDK is closed, which ends the run
                self._following.enter_context(self._waiters.expect(self._ask_id)).add_done_callback(self._ended)

    def close(self) -> None:
        """The run has ended."""
        self._is_wanted = True
        self._timer.cancel()
        if self._following is not None:
            self._following.close()

    def _want(self) -> None:
        if not self._is_wanted:
            self._is_wanted = True
            self._timer.cancel()
            self.follow()
            self._waiters.hint([self._ask_id])

    def _ended(self, ask: asyncio.Future[AskOutcome]) -> None:
        if ask.cancelled():
            return
        error = ask.exception()
        is_gone = isinstance(error, AgentNotFoundError)
        if is_gone or (error is None and ask.result().state is not AskState.REPLIED):
            self._left.set()
            self._on_left(is_gone)
