"""Waiting for messages to pull: each hint wakes one of the callers that wait for an agent, and no hint is lost.

A hint says that an agent has messages. The woken caller claims. It hands the hint on if it leaves with something, or
before it has looked, because there may be more. So a ring costs one look for each agent for which something waits,
however many wait for messages of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator

from ..models import Kind

Key = tuple[str, Kind]
"""An agent's id, and the kind of messages."""


class Caller:
    """A caller in the queue: it looks, or is idle until it is woken."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._event = asyncio.Event()
        queue.looking[self] = None

    @property
    def is_woken(self) -> bool:
        """Whether a hint came since it last began to look."""
        return self._event.is_set()

    def wake(self) -> None:
        """Make it look, once more if it looks just now."""
        self._event.set()

    async def wait(self, deadline: float | None) -> bool:
        """Wait until it is woken; False if the deadline (of the loop's clock) came first."""
        if not self.is_woken:
            del self._queue.looking[self]
            self._queue.idle[self] = None
            try:
                async with asyncio.timeout_at(deadline):
                    await self._event.wait()
            except TimeoutError:
                return False
            finally:
                del self._queue.idle[self]
                self._queue.looking[self] = None
        self._event.clear()
        return True


class Queue:
    """The callers that wait for messages of one agent: the idle and the looking ones, each in order of arrival."""

    def __init__(self) -> None:
        self.idle: dict[Caller, None] = {}
        self.looking: dict[Caller, None] = {}

    def wake_one(self) -> None:
        """Wake the first idle caller that is not woken yet, or else make the first that looks look again."""
        for place in (*self.idle, *self.looking):
            if not place.is_woken:
                place.wake()
                return


class Arrivals:
    """The queues of all agents."""

    def __init__(self) -> None:
        self._queues: dict[Key, Queue] = {}

    @property
    def waiting(self) -> int:
        """How many callers wait, or look; in any thread."""
        return sum(len(queue.idle) + len(queue.looking) for queue in list(self._queues.values()))

    @contextlib.contextmanager
    def place(self, key: Key) -> Iterator[Caller]:
        """Have a place in the queue within. A block that ends by an exception hands its hint on."""
        queue = self._queues.setdefault(key, Queue())
        place = Caller(queue)
        has_failed = True
        try:
            yield place
            has_failed = False
        finally:
            del queue.looking[place]
            if has_failed or place.is_woken:
                queue.wake_one()
            if not (queue.idle or queue.looking):
                del self._queues[key]

    def arrived(self, keys: Iterable[Key]) -> None:
        """These agents have messages: wake one caller for each."""
        if self._queues:
            for key in keys:
                if (queue := self._queues.get(key)) is not None:
                    queue.wake_one()

    def wake_all(self, of: Callable[[str], bool] = lambda agent_id: True) -> None:
        """Wake every caller that waits for one of these agents."""
        for (agent_id, _), queue in self._queues.items():
            if of(agent_id):
                for place in (*queue.idle, *queue.looking):
                    place.wake()
