"""What the blocking classes of one target share: the open store, the claims of this process, and its upkeep.

It lives on the loop of a portal. Objects on the same target have one office, so a message that one of them received can
be marked as processed by another.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from ..bootstrap import build_coordination_store
from ..config import Config, StoreLocation
from ..exceptions import DatabaseError, OutcomeUnknownError, QueueDataLostError
from ..loggers import get_logger
from ..portal import Lease
from ..storage.ports import (
    ClaimedQueueMessage,
    CoordinationStore,
    NewQueueMessage,
    QueueClaim,
    QueueSettlement,
    Settling,
)

logger = get_logger("agent_messaging.coordination")

R = TypeVar("R")
T = TypeVar("T")

UPKEEP = 1.0
"""Seconds between two looks at what time has changed, at most."""
INTERVALS = 3
"""So many heartbeat intervals without a sign of life, and an agent is taken for dead."""
ROUND = 10.0
"""Seconds between two rounds in which everything is looked after, whether it is due or not."""


PAGE = 500
"""Rows that are read, written or removed at once."""


@dataclass(slots=True)
class Held:
    """A message that was received in this process and is not marked yet."""

    claim: QueueClaim
    sender_id: str
    type: str
    until: float
    """When its claim ends, by the loop's time."""


class Office:
    """The use of a store by this process.

    Args:
        store: It is open.
        timeout: Seconds for which a received message is hidden from others, unless its process ends before.
    """

    def __init__(self, store: CoordinationStore, *, timeout: float) -> None:
        self.store = store
        self.stale_tasks_handled = 0
        """Tasks that were taken from whoever had them, since this was last asked."""
        self._presence = store.presence
        self._timeout = timeout
        self._held: dict[tuple[str, str], Held] = {}
        self._lost: QueueDataLostError | None = None
        self._listening: set[str] = set()
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()
        self._upkeep: asyncio.Task[None] | None = None
        self._beats: dict[str, float] = {}
        self._is_to_round = True
        self._round_at = 0.0
        """When everything is looked after next, due or not."""

    @property
    def owner(self) -> str:
        """The process, as claims name it."""
        return self._presence.process_id

    async def start(self) -> None:
        """Appear as a live process, and begin the upkeep."""
        await self._presence.start(self._ring, self._forget_claims)
        self._upkeep = asyncio.create_task(self._keep_up(), name="agent-messaging-upkeep")

    async def aclose(self) -> None:
        """Give the claims back, uncounted, and end."""
        while self._upkeep is not None and not self._upkeep.done():
            self._upkeep.cancel()  # once more, should a driver have lost it
            await asyncio.wait({self._upkeep}, timeout=0.5)
        with contextlib.suppress(DatabaseError, OutcomeUnknownError):  # then others find out
            await self.store.processes.retire(self._presence.process_id)
        await self._presence.aclose()

    async def run(self, work: Callable[[Office], Awaitable[T]]) -> T:
        """Do what a user asks for, or tell first that data was lost since."""
        self._tell_what_was_lost()
        return await work(self)

    def _tell_what_was_lost(self) -> None:
        if self._lost is not None:
            error, self._lost = self._lost, None
            raise error

    async def is_connected(self) -> bool:
        """Whether the store answers."""
        try:
            await self.store.queue.statistics("")
        except QueueDataLostError as error:
            self._lost = error  # the next call tells
        except (DatabaseError, OutcomeUnknownError):
            return False
        return True

    # --- messages -----------------------------------------------------------------------------------------------------

    async def put(self, messages: list[NewQueueMessage]) -> list[bool]:
        """Store messages, and wake who waits for them."""
        put = await self.store.queue.put(messages)
        self.announce(put.listeners)
        return put.stored

    async def claim(
        self, agent_id: str, limit: int, types: Collection[str] | None, block: float
    ) -> list[ClaimedQueueMessage]:
        """Claim messages; where there are none, wait up to `block` seconds for some."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + block
        if block:
            await self._listen(agent_id)
        while True:
            news = self._news  # whatever is told from here on sets it
            claimed = await self.store.queue.claim(agent_id, limit, owner=self.owner, lease=self._timeout, types=types)
            now = loop.time()
            for one in claimed:
                held = Held(one.claim, one.sender_id, one.type, now + self._timeout)
                self._held[agent_id, one.claim.message_id] = held
            if claimed or now >= deadline:
                return claimed
            await _wait(news, min(deadline - now, self._presence.poll_interval))
            self._tell_what_was_lost()

    def find(self, agent_id: str, message_id: str) -> Held | None:
        """What this process has of a message."""
        return self._held.get((agent_id, message_id))

    def forget(self, agent_id: str, message_id: str) -> None:
        """The message was settled, or is somebody else's."""
        self._held.pop((agent_id, message_id), None)

    async def give_back(self, agent_id: str, claims: list[QueueClaim]) -> None:
        """Return messages that nobody was given, uncounted; where that fails their time ends by itself."""
        for claim in claims:
            self.forget(agent_id, claim.message_id)
        with contextlib.suppress(DatabaseError, OutcomeUnknownError):
            await self.store.queue.settle([QueueSettlement(claim, Settling.RETURNED) for claim in claims])

    def announce(self, processes: Collection[str]) -> None:
        """Wake other processes, and whoever waits in this one, after messages were put."""
        self.ring(processes)
        self._ring()

    def ring(self, processes: Collection[str]) -> None:
        """Wake other processes."""
        if processes:
            self._presence.ring(processes)

    async def _listen(self, agent_id: str) -> None:
        if agent_id not in self._listening:
            self._listening.add(agent_id)
            await self.store.queue.listen(self.owner, self._listening)

    def _ring(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _forget_claims(self) -> None:
        self._held.clear()
        self._listening.clear()

    def is_to_beat(self, agent_id: str, interval: float) -> bool:
        """Whether the last sign of life of an agent is so many seconds ago; then one is given now."""
        now = asyncio.get_running_loop().time()
        if now - self._beats.get(agent_id, -interval) < interval:
            return False
        self._beats[agent_id] = now
        return True

    # --- upkeep -------------------------------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        is_told = False
        while True:
            try:
                pause = await self.advance()
                is_told = False
            except QueueDataLostError as error:
                self._lost, pause = error, 0.0  # whoever calls next is told
                self._forget_claims()
            except (DatabaseError, OutcomeUnknownError) as error:
                if not is_told:
                    logger.warning("The upkeep of %s waits until it can be used: %s", self.store.location, error)
                is_told, pause = True, UPKEEP
            except Exception:
                logger.exception("the upkeep of %s failed, going on", self.store.location)
                pause = UPKEEP
            await asyncio.sleep(0.01)  # at most a hundred times a second
            await _wait(self._hurry, min(pause, UPKEEP))
            self._hurry.clear()

    def hurry(self) -> None:
        """Look at once, because something may be assigned now that waits for it."""
        self._is_to_round = True
        self._hurry.set()

    async def advance(self) -> float:
        """Do in the store what time has made due; returns the seconds until something else is."""
        dead, _ = await self._presence.look()
        if dead and await self.store.processes.release(dead):
            self._ring()
            self._is_to_round = True
        self._drop_overdue()
        now = asyncio.get_running_loop().time()
        if not self._is_to_round and now < self._round_at:
            dues = await self.store.find_dues()
            due = min((one for one in (dues.queue, dues.tasks) if one is not None), default=UPKEEP)
            if due > 0:
                return due
        self._is_to_round, self._round_at = False, now + ROUND
        queue = await self.store.queue.advance()
        tasks = await self.store.tasks.advance()
        self.stale_tasks_handled += tasks.released + tasks.expired
        again = await self.store.tasks.assign_waiting(100)
        self.ring(again.listeners | again.processes | tasks.processes)
        if again.outcomes or queue.released or queue.due:
            self._ring()
        return min((next_in for next_in in (queue.next_in, tasks.next_in) if next_in is not None), default=UPKEEP)

    def _drop_overdue(self) -> None:
        now = asyncio.get_running_loop().time()
        for name in [name for name, held in self._held.items() if held.until <= now]:
            del self._held[name]


async def _wait(event: asyncio.Event, timeout: float) -> None:
    # Not `wait_for`, which loses a cancellation that comes in the same moment as the event (Python 3.11).
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            await event.wait()


async def read_rows(read: Callable[[int, int], Awaitable[list[R]]]) -> AsyncIterator[R]:
    """Read a list to its end, page by page; `read` takes a limit and an offset."""
    offset = 0
    while page := await read(PAGE, offset):
        for row in page:
            yield row
        offset += PAGE  # rows that cannot be read are left out of a page, and count


class Target:
    """Where the objects of the coordination work, and under which settings.

    Args:
        connection_string: The URL of a store; None is the one that the environment names.
        use_mock: A store in memory, which is this target's own.
    """

    def __init__(self, connection_string: str | None, use_mock: bool) -> None:
        self._config = Config()
        self.settings = self._config.coordination
        if use_mock:
            self._location = StoreLocation("sqlite", path=":memory:")
            self._key: Hashable = object()
        else:
            self._location = self._config.locate_coordination(connection_string)
            self._key = self._location.backend, self._location.path, self._location.dsn

    def __str__(self) -> str:
        return str(self._location)

    def lease(self, owner: str) -> Lease[Office]:
        """A use of the office of this target, which is opened at the first call."""
        return Lease(self._key, self._open, owner=owner, is_inherited=self._location.path != ":memory:")

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncIterator[Office]:
        store = build_coordination_store(self._location, self._config)
        try:
            await store.open(initialize=self._config.auto_initialize_schema)
            office = Office(store, timeout=self.settings.default_timeout)
            try:
                await office.start()
                yield office
            finally:
                await office.aclose()
        finally:
            await store.aclose()


class Desk:
    """What every blocking class is: a use of a target's office, let go of by `close` or at the end of a `with`.

    Args:
        connection_string: `redis://…`, `postgresql://…` or `sqlite:///…`. None is the store that the environment
            names, and without any the SQLite file of the SDK.
        use_mock: True keeps everything in the memory of this object.
        target: Share this place of another object of the coordination.

    Raises:
        ConfigurationError: The connection string cannot be used. Nothing is opened before the first call.
    """

    def __init__(
        self, connection_string: str | None = None, use_mock: bool = False, *, target: Target | None = None
    ) -> None:
        self._target = target or Target(connection_string, use_mock)
        self._lease = self._target.lease(type(self).__name__)

    def close(self) -> None:
        """Close this object. The last one on a store closes that too.

        What was received and not marked then returns to its queue.
        """
        self._lease.close()

    def _run(self, work: Callable[[Office], Awaitable[T]]) -> T:
        return self._lease.call(lambda office: office.run(work))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
