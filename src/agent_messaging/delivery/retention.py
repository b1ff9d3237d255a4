"""Retention: walks that prune what is old, and the service that does it by itself as the settings say.

A walk is a row of short transactions with pauses between them, so the traffic goes on. Each page is pruned wholly or
not at all, and none depends on another: a walk can be broken off anywhere, and two may run at once.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from ..clock import monotonic
from ..loggers import get_logger
from ..states import DeliveryState, Prunable
from ..storage.ports import CoordinationStore, Pruned, Pruning, RetentionStore, Stock, Store
from .probes import probe
from .rounds import Rounds, rest
from .trouble import Trouble
from .workplace import Workplace

logger = get_logger("agent_messaging.delivery")

LEAST_AGE = 60.0
"""Seconds for which everything stays, whatever age is asked: answers that are on their way to askers, and messages that
a cancelled call gives back, are seldom older than one second."""
PAGE = 100
"""Tasks or messages of queues that are forgotten at once."""
COUNTED = 1_000
"""Rows that a walk looks at in one page where they are only counted."""
SPACE = 1024 * 1024
"""Bytes that one step gives back at most."""
PAUSE = 30.0
"""Seconds between two looks at the sessions of runs, and from the start to the first."""
TURN = 3600.0
"""Seconds between two walks through a kind, by whatever process."""
LOOK = 300.0
"""Seconds between two looks whether it is this process's turn."""
SHARE = 0.1
"""The share of its time that the service gives to a walk."""
SESSIONS = 500
"""Sessions that are ended at once."""
_QUEUED = (DeliveryState.DONE, DeliveryState.EXPIRED)
_DEAD = (DeliveryState.DEAD,)


async def walk(
    store: Store, wanted: Pruning, *, coordination: CoordinationStore | None = None, share: float = 1.0
) -> AsyncIterator[Pruned]:
    """Prune one kind, page by page, as long as there is something to prune.

    Args:
        coordination: Where tasks and queues are; None is the store.
        share: Of its time that it works; it pauses for the rest.
    """
    if wanted.kind not in (Prunable.TASKS, Prunable.QUEUE_MESSAGES):
        page = Pruned(next=())
        while page.next is not None:
            begun = time.monotonic()
            limit = COUNTED if wanted.dry_run else store.retention.page_size
            page = await store.retention.prune(wanted, after=page.next or None, limit=limit)
            yield page
            probe("pruned_page")
            await rest(begun, share)
    async for page in walk_work(store if coordination is None else coordination, wanted, share=share):
        yield page


async def walk_work(store: CoordinationStore, wanted: Pruning, *, share: float = 1.0) -> AsyncIterator[Pruned]:
    """The part of a walk that is through tasks and queues; nothing for the kinds of messages alone."""
    age = wanted.older_than
    if wanted.kind is Prunable.TASKS:
        tasks = store.tasks
        async for page in _forget(tasks.measure(age), lambda: tasks.prune(age, PAGE), wanted.dry_run, share):
            yield page
    if wanted.kind in (Prunable.QUEUE_MESSAGES, Prunable.DEAD_LETTERS):
        queue, states = store.queue, _DEAD if wanted.kind is Prunable.DEAD_LETTERS else _QUEUED
        stock = queue.measure(age, states=states)
        async for page in _forget(stock, lambda: queue.prune(age, PAGE, states=states), wanted.dry_run, share):
            yield page


async def _forget(
    stock: Awaitable[Stock], prune: Callable[[], Awaitable[int]], dry_run: bool, share: float
) -> AsyncIterator[Pruned]:
    """Prune what has a port of its own, which takes the oldest that it finds."""
    found = await stock
    if dry_run:
        yield Pruned(found.number, found.size_bytes)
        return
    size = found.size_bytes / max(found.number, 1)
    begun = time.monotonic()
    while number := await prune():
        yield Pruned(number, round(number * size))
        await rest(begun, share)
        begun = time.monotonic()


async def release_space(retention: RetentionStore, *, share: float = 1.0) -> AsyncIterator[int]:
    """Give what pruning has freed back to the system, in small steps; yields the bytes of each."""
    begun = time.monotonic()
    while released := await retention.release_space(SPACE):
        yield released
        await rest(begun, share)
        begun = time.monotonic()


class Retention(Rounds):
    """Prunes by itself what the settings give an age, and ends the sessions of runs that are over.

    Tasks and queues that are kept apart are pruned by the processes that use them.

    Args:
        ages: Seconds by kind; None keeps a kind for ever.
    """

    def __init__(self, store: Store, workplace: Workplace, ages: Mapping[str, float | None], trouble: Trouble) -> None:
        super().__init__("retention", "pruning what is old", pause=PAUSE, trouble=trouble)
        self.store = store
        self.workplace = workplace
        self.ages = {Prunable(kind): age for kind, age in ages.items() if age is not None}
        self._next_look = 0.0

    async def round(self) -> None:
        """End what is over, and now and then prune."""
        await self.tidy()
        if monotonic() >= self._next_look:
            self._next_look = monotonic() + LOOK
            await self.prune()

    async def tidy(self) -> None:
        """End the sessions in threads that are named after messages whose runs are over."""
        while await self.store.retention.end_unused_sessions(SESSIONS) == SESSIONS:
            continue

    async def prune(self) -> None:
        """Prune the kinds that have an age, where it is this process's turn, and tasks and queues that are apart."""
        number = 0
        for kind, age in self.ages.items():
            wanted = Pruning(kind, max(age, LEAST_AGE))
            if await self.store.retention.take_turn(kind, TURN):
                async for page in walk(self.store, wanted, share=SHARE):
                    number += page.number
            if self.workplace.is_apart and self.workplace.is_open:
                # Without a turn: a process that never uses tasks may have taken it, and two walks at once do no harm.
                async for page in walk_work(self.workplace.store, wanted, share=SHARE):
                    number += page.number
        if number:
            logger.info("pruned %d rows that were older than the settings keep them", number)
            async for _ in release_space(self.store.retention, share=SHARE):
                pass
