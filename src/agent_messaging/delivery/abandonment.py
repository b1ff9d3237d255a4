"""A run learns that nobody waits for its answer any more: its asker gave up, or is gone.

The row of the ask says so. It is looked at with those of the asks that callers here wait for, so a ring or a poll costs
one look for all of them. A run that ends within a second, and does not want to know, costs nothing but a place in a
list.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from ..exceptions import AgentNotFoundError, EventLoopError, NotInitializedError
from ..futures import call_from_thread
from ..models import AskState
from .asks import AskOutcome
from .waiting import Waiters

FOLLOW_EVERY = 0.5
"""Seconds between two looks at the runs.

One that both have seen is told also if it did not ask, so within a second: its handler may look once, at its end.
"""


class Abandonments:
    """The runs of asks of one SDK object that are at work, and one timer for all of them.

    Args:
        asks: In which callers, and runs that want to know, wait for the ends of asks.
    """

    def __init__(self, asks: Waiters[str, AskOutcome]) -> None:
        self.asks = asks
        self.unasked: dict[Abandonment, bool] = {}
        """The runs that have not asked yet, with whether the last look has seen them."""
        self.timer: asyncio.TimerHandle | None = None

    def look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell those that the last look has seen, and look again as long as there are others."""
        for one, is_seen in [*self.unasked.items()]:
            if is_seen:
                one.want()
            else:
                self.unasked[one] = True
        self.timer = loop.call_later(FOLLOW_EVERY, self.look, loop) if self.unasked else None


class Abandonment:
    """Whether the asker of one run waits. See `models.Asker`.

    Args:
        on_left: Called when it does not wait any more; True: the ask itself is gone, with its agent.
    """

    __slots__ = ("_all", "_ask_id", "_following", "_has_left", "_is_wanted", "_left", "_loop", "_on_left")

    def __init__(self, all: Abandonments, ask_id: str, on_left: Callable[[bool], None]) -> None:
        self._all = all
        self._ask_id = ask_id
        self._on_left: Callable[[bool], None] | None = on_left
        self._loop = loop = asyncio.get_running_loop()
        all.unasked[self] = False
        if all.timer is None:
            all.timer = loop.call_later(FOLLOW_EVERY, all.look, loop)
        self._has_left = False
        self._left: asyncio.Event | None = None
        """Set when it has left; made for the first who waits for that."""
        self._following: contextlib.ExitStack | None = None
        self._is_wanted = False

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # a copy of a context, in another process perhaps, is about no run

    @property
    def has_left(self) -> bool:
        """Whether nobody waits for the answer, as last seen. May be read in any thread."""
        if not self._is_wanted:
            if asyncio._get_running_loop() is self._loop:
                self.want()
            else:
                call_from_thread(self._loop, self.want)
        return self._has_left

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
        self.want()
        if self._left is None:
            self._left = asyncio.Event()
            if self._has_left:
                self._left.set()
        await self._left.wait()

    def follow(self) -> None:
        """Be told of its end. The look that comes in a second sees an end that came before."""
        if self._following is None:
            self._following = contextlib.ExitStack()
            with contextlib.suppress(NotInitializedError):  # the SDK is closed, which ends the run
                self._following.enter_context(self._all.asks.expect(self._ask_id)).add_done_callback(self._ended)

    def want(self) -> None:
        """Look now, and be told of its end."""
        if not self._is_wanted:
            self._is_wanted = True
            self._all.unasked.pop(self, None)
            self.follow()
            self._all.asks.hint([self._ask_id])

    def close(self) -> None:
        """The run has ended, and is told nothing more. It is let go: it holds this, and would be kept in a circle."""
        self._is_wanted = True
        self._on_left = None
        self._all.unasked.pop(self, None)
        if self._following is not None:
            self._following.close()

    def _ended(self, ask: asyncio.Future[AskOutcome]) -> None:
        if ask.cancelled():
            return
        error = ask.exception()
        is_gone = isinstance(error, AgentNotFoundError)
        if is_gone or (error is None and ask.result().state is not AskState.REPLIED):
            self._has_left = True
            if self._left is not None:
                self._left.set()
            if self._on_left is not None:
                self._on_left(is_gone)
