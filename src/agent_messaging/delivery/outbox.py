"""The way into the store: concurrent sends are coalesced into one commit.

An idle store commits at once. Calls that arrive while a commit is in flight go out together with the next one, as far
as their number and the bytes of their contents allow. Each sender has its line, which has one commit in flight, so the
order of a sender's calls is the order in the store. A call that the store refuses fails alone. A cancelled sender only
detaches: its message is stored all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from itertools import repeat
from operator import attrgetter, itemgetter
from typing import Any, Protocol

from ..clock import monotonic
from ..exceptions import (
    AgentMessagingError,
    DatabaseError,
    NotInitializedError,
    OutcomeUnknownError,
    StorageUnavailableError,
    copy_error,
)
from ..futures import fail
from ..loggers import get_logger
from ..single_flight import SingleFlight
from ..storage.batches import MAX_BYTES, do_apart, take
from ..storage.ports import AppendOutcome, DeliveryStore, NewGroup, Stored
from .facts import Facts
from .locks import Locks
from .probes import probe
from .services import Service

logger = get_logger("agent_messaging.delivery")

MAX_GROUPS = 1_000
"""Calls in one commit: bounds the memory and the time of one transaction."""
STORE_GRACE = 3.0
"""Seconds that the store gets beyond its budget to end a call by itself, and to say truly what became of it."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between attempts at a store that does not answer."""


_CUT_OFF = (
    "The SDK was closed before the store had answered: the call may have taken effect. Repeat it with the same "
    "idempotency_key."
)
_NOT_BEGUN = "The SDK was closed before this was stored, and nothing of it was. Open the SDK, and repeat the call."

Entered = tuple[NewGroup, asyncio.Future[Any], Callable[[], None] | None]
"""A group, what its caller waits for, and what is called in its place where more than storing is waited for."""
_GROUP = itemgetter(0)
_SIZE = attrgetter("size")


class Observer(Protocol):
    """Is told what became of every group, also when the sender has gone."""

    def about_to_append(self, groups: list[NewGroup]) -> None: ...
    def doubted(self) -> None: ...
    def appended(self, group: NewGroup, outcome: AppendOutcome | Exception) -> None: ...


class _Line:
    """Groups that wait for each other, and the task that stores them."""

    def __init__(self, store: Callable[[deque[Entered]], Awaitable[None]]) -> None:
        self.waiting: deque[Entered] = deque()
        self.storing = SingleFlight(lambda: store(self.waiting), "storing what was sent")


class Outbox(Service):
    """Waiting groups, in as many lines as the store takes appends at once.

    Args:
        facts: They may have a group carry something along, from the step in which it is handed in.
        lines: How many. More than one is for a store whose server works while this process does: what one line has
            stored is handled meanwhile.
        budget: Seconds for which a group is tried while the store does not answer.
    """

    def __init__(
        self,
        deliveries: DeliveryStore,
        owner: Callable[[], str],
        observer: Observer,
        facts: Facts,
        *,
        budget: float,
        lines: int = 1,
    ) -> None:
        self.deliveries = deliveries
        self.owner = owner
        self.observer = observer
        self.facts = facts
        self.budget = budget
        self.most_bytes = MAX_BYTES
        self._lines = [_Line(self._store_all) for _ in range(lines)]
        self.locks = Locks[str]()
        """The locks under which the calls of a sender look things up and enter their groups.

        Calls that have to ask the store before they can enter would overtake each other; so each holds its sender's
        lock from its first step to `enter`. Uncontended, and with nothing to ask, that suspends nobody.
        """
        self._is_closed = False

    @property
    def depth(self) -> int:
        """Calls that wait for a commit; without those of the ones in flight."""
        return sum(len(line.waiting) for line in self._lines)

    @property
    def is_idle(self) -> bool:
        """Whether everything handed in has been answered."""
        return all(line.storing.is_idle for line in self._lines)

    def enter(
        self,
        group: NewGroup,
        future: asyncio.Future[Any] | None = None,
        on_stored: Callable[[], None] | None = None,
    ) -> asyncio.Future[AppendOutcome]:
        """Enter a group; the future ends when it is committed, or refused.

        Args:
            group: What is to be stored.
            future: One of the caller's, which waits for more than the storing; None makes one.
            on_stored: Called in place of ending the future where the group is stored, unless nobody waits for that any
                more.

        Raises (from the future):
            StorageUnavailableError, StorageFullError and the other definite errors of the store: nothing was stored.
            OutcomeUnknownError: The store did not answer within the budget; the group may or may not be stored.
        """
        if self._is_closed:
            raise NotInitializedError
        if future is None:
            future = asyncio.get_running_loop().create_future()
        if self.facts.ears.carriers:
            self.facts.send(group)
        line = self._lines[hash(group.sender_id) % len(self._lines)]
        line.waiting.append((group, future, on_stored))
        line.storing.request()
        return future

    async def wait_until_idle(self) -> None:
        """Wait until everything handed in has been answered."""
        while not self.is_idle:
            for line in self._lines:
                await line.storing.wait_until_idle()

    async def aclose(self, timeout: float) -> None:
        """Take nothing more; wait until what was handed in has been answered, or its outcome stays unknown."""
        self._is_closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self.wait_until_idle()
        for line in self._lines:
            await line.storing.aclose()
            self._fail_rest(line.waiting, lambda: NotInitializedError(_NOT_BEGUN))
            line.waiting.clear()

    async def _store_all(self, waiting: deque[Entered]) -> None:
        while waiting:
            groups = take(map(_GROUP, waiting), _SIZE, most=MAX_GROUPS, most_bytes=self.most_bytes)
            batch = deque(map(deque.popleft, repeat(waiting, len(groups))))
            try:
                await self._store(groups, batch)
            finally:  # none is left, unless this was cut off
                self._fail_rest(batch, lambda: OutcomeUnknownError(_CUT_OFF))

    def _fail_rest(self, entered: Iterable[Entered], make_error: Callable[[], AgentMessagingError]) -> None:
        for group, future, _ in entered:
            fail(future, error := make_error())
            if self.facts.ears.is_heard:
                self.facts.appended(group, error)

    async def _store(self, groups: list[NewGroup], batch: deque[Entered]) -> None:
        """Store the groups, and take each out of the batch when its caller has the answer."""
        try:
            self.observer.about_to_append(groups)
        except Exception:  # it is stored all the same, and claimed like any other
            logger.exception("what can be claimed with its append could not be marked")
        outcomes = await do_apart(self._append, groups)
        for group, outcome in zip(groups, outcomes, strict=True):
            try:
                self.observer.appended(group, outcome)
            except Exception:
                logger.exception("what became of a call could not be announced")
            finally:  # whatever becomes of the runs here, the caller is told what the store said
                _, future, on_stored = batch.popleft()
                if future.done():
                    pass
                elif isinstance(outcome, Exception):
                    fail(future, copy_error(outcome))  # one failed commit may answer many calls
                elif on_stored is not None and isinstance(outcome, Stored):
                    on_stored()
                else:
                    future.set_result(outcome)

    async def _append(self, groups: Sequence[NewGroup]) -> list[AppendOutcome]:
        """Append until the store answers. A lost answer leaves the groups unknown: they are tried again, by id."""
        deadline = monotonic() + self.budget
        pause = FIRST_PAUSE
        unknown = False
        while True:
            try:
                left = max(deadline - monotonic(), FIRST_PAUSE)
                # The store bounds its own calls and says what happened; this only catches one that does not.
                async with asyncio.timeout(left + STORE_GRACE):
                    outcomes = await self.deliveries.append(groups, owner=self.owner(), repeat=unknown, budget=left)
                probe("after_append")
                return _without_claims(outcomes) if unknown else outcomes
            except (OutcomeUnknownError, TimeoutError) as error:
                unknown = True
                self.observer.doubted()
                if monotonic() + pause > deadline:
                    raise OutcomeUnknownError from error
            except DatabaseError as error:
                if not isinstance(error, StorageUnavailableError) or monotonic() + pause > deadline:
                    if unknown:  # what this try met says nothing about those before it
                        raise OutcomeUnknownError from error
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause = min(pause * 2, LONGEST_PAUSE)


def _without_claims(outcomes: Sequence[AppendOutcome]) -> list[AppendOutcome]:
    """Drop the claims of a repeat: this process may have claimed these messages since the first try, and run them."""
    return [replace(outcome, claims={}) if isinstance(outcome, Stored) else outcome for outcome in outcomes]
