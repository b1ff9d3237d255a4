"""Each agent served here has stations: they know its free slots, its busy lanes, and what may wait in the store.

Nothing here asks the store. The stations are told of what happens, and wake the exchange.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import field

from ..handlers.registry import Handlers
from ..models import Kind
from ..records import dataclass
from ..storage.ports import ClaimRequest
from .names import AgentName, Names
from .serving import Serving


@dataclass(slots=True, eq=False)
class Station:
    """One kind of one agent's deliveries, handled here."""

    agent: AgentName
    kind: Kind
    board: Stations
    """The stations of the same SDK object."""
    handlers: Handlers
    """The newest; they run what was claimed for them, also when they were unregistered meanwhile."""
    limit: int
    run_limit: float
    """Seconds that a run of any of them may take."""
    is_ordered: bool = True
    """Whether a lane has one run at a time."""
    running: int = 0
    """Slots in use, reserved ones among them."""
    lanes: dict[str, int] = field(default_factory=dict)
    """Runs per lane, without those that wait for an answer themselves."""
    known: int = 0
    """At most so many deliveries were queued by this process and not claimed since."""
    maybe: bool = False
    """Whether others may have queued something."""
    cursor: str | None = None
    """The lane of the last delivery that a request has brought: the next request begins behind it."""
    is_served: bool = True
    """False: what runs goes on, nothing more is taken."""
    is_requested: bool = False
    """A request is in flight: it may bring a delivery of any lane, so no append may claim one meanwhile."""
    version: object = None
    """That of `Serving` for which it was brought up to date."""

    @property
    def free(self) -> int:
        """Slots free for another run."""
        return self.limit - self.running

    @property
    def is_hungry(self) -> bool:
        """Whether asking the store may bring something."""
        return self.is_served and (self.known > 0 or self.maybe)

    def may_claim(self, lane: str) -> bool:
        """Whether the next delivery of this lane may be claimed with its append."""
        if self.running >= self.limit or self.is_requested:
            return False
        return not (self.is_ordered and lane in self.lanes)

    def ask(self) -> None:
        """Something happened that makes a request worth while. Without a free slot it is made when a run ends."""
        self.board.asking[self] = None
        if self.free > 0:
            self.board.wake()

    def occupy(self, lane: str) -> None:
        """Take a slot and the lane."""
        self.running += 1
        self.lanes[lane] = self.lanes.get(lane, 0) + 1

    def vacate(self, lane: str, *, in_lane: bool = True) -> None:
        """Give the slot and the lane back."""
        self.running -= 1
        if in_lane:
            self.leave_lane(lane)
        elif self.is_hungry:
            self.ask()

    def enter_lane(self, lane: str) -> None:
        """A run is at work on a message of this lane."""
        self.lanes[lane] = self.lanes.get(lane, 0) + 1

    def leave_lane(self, lane: str) -> None:
        """A run of this lane has ended, or waits for an answer itself: the lane's next message may run."""
        left = self.lanes[lane] - 1
        if left:
            self.lanes[lane] = left
        else:
            del self.lanes[lane]
        if (self.known or self.maybe) and self.is_hungry:
            self.ask()

    def queued_here(self) -> None:
        """This process queued something without claiming it."""
        self.known += 1
        self.ask()

    def queued_elsewhere(self) -> None:
        """The store has, or may have, something waiting."""
        self.maybe = True
        self.ask()

    def request(self, origin: str | None) -> ClaimRequest:
        """Ask for as much as there are free slots."""
        self.board.asking.pop(self, None)
        self.is_requested = True
        return ClaimRequest(self.agent.id, self.kind, self.free, self.run_limit, self.is_ordered, self.cursor, origin)

    def answered(self, requested: int, claimed: int, last_lane: str | None) -> None:
        """Learn from what a request brought. Call it before the claims occupy their slots."""
        self.known = max(0, self.known - claimed)
        if last_lane is not None:
            self.cursor = last_lane
        if claimed == requested:
            self.ask()
        elif not claimed and not self.running and self not in self.board.asking:
            # No run of ours blocks a lane, and nothing arrived since: the store has nothing more for us now.
            self.known, self.maybe = 0, False


class Stations:
    """All stations of one SDK object, and the bell of its exchange.

    Args:
        concurrency: Runs at once for each agent and kind, where its handler says nothing else.
        timeout: Seconds a run may take, likewise.
    """

    def __init__(self, names: Names, serving: Serving, *, concurrency: int, timeout: float) -> None:
        self.names = names
        self.serving = serving
        self.concurrency = concurrency
        self.timeout = timeout
        self.asking: dict[Station, None] = {}
        """The stations for which something happened that makes a new request worth while."""
        self.resumed: set[tuple[str, Kind]] = set()
        """Served until nothing of them waits, although no handler runs by itself."""
        self.is_draining = False
        self.takes_new = False
        """Not before everything has started."""
        self.must_look = False
        """The store is to be looked at for waiting deliveries: somebody rang, or it is time to."""
        self.bell = asyncio.Event()
        """Set: there may be something to exchange."""
        self._known: dict[tuple[str, Kind], Station] = {}
        serving.follow(self.review)

    def __iter__(self) -> Iterator[Station]:
        return iter(self._known.values())

    def find(self, recipient_id: str, kind: Kind) -> Station | None:
        """The station of an agent served here, brought up to date with its handler; None if it is not served here."""
        station = self._known.get((recipient_id, kind))
        if station is not None and station.version is self.serving.version is not None:
            return station if station.is_served else None
        agent = self.names.cached_by_id(recipient_id)
        return self.of(agent, kind) if agent is not None else None

    def of(self, agent: AgentName, kind: Kind) -> Station | None:
        """The station of an agent that is known by name; as `find`."""
        version = self.serving.version  # before its answer: handlers change in any thread
        invoked = self.serving.invoke or (agent.id, kind) in self.resumed
        handlers = self.serving.find_handlers(agent, kind) if invoked else None
        station = self._known.get((agent.id, kind))
        if handlers is None:
            if station is not None:
                station.is_served = False
            return None
        if station is None or station.handlers is not handlers:
            if station is None:
                station = self._known[agent.id, kind] = Station(agent, kind, self, handlers, 0, 0.0)
            station.handlers = handlers
            station.limit = handlers.concurrency or self.concurrency
            station.run_limit = handlers.limit(self.timeout)
            station.is_ordered = handlers.ordered
        station.is_served = True
        station.version = version if self.serving.invoke else None
        return station

    def count(self) -> tuple[int, int]:
        """The slots of all that are served, and those of them that are in use; in any thread."""
        served = [station for station in list(self._known.values()) if station.is_served]
        return sum(station.limit for station in served), sum(station.running for station in served)

    # --- facts they are told of ---------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Make the exchange see whether there is something to do."""
        self.bell.set()

    def look(self) -> None:
        """Look in the store for work: somebody rang, or it is time to."""
        self.must_look = True
        self.wake()

    def review(self) -> None:
        """The handlers may have changed: bring the stations up to date, and look for waiting deliveries."""
        for station in list(self._known.values()):
            self.of(station.agent, station.kind)
            station.ask()
        self.look()

    def queued(self, recipient_id: str, kind: Kind) -> None:
        """This process has queued something for an agent."""
        station = self.find(recipient_id, kind)
        if station is not None:
            station.queued_here()
        elif self.names.cached_by_id(recipient_id) is None:
            self.look()

    async def found(self, waiting: Iterable[tuple[str, Kind]]) -> None:
        """The store has something for these."""
        names = await self.names.find_by_id({recipient_id for recipient_id, _ in waiting})
        for recipient_id, kind in waiting:
            agent = names.get(recipient_id)
            station = self.of(agent, kind) if agent is not None else None
            if station is not None:
                station.queued_elsewhere()

    def resume(self, agent: AgentName, kind: Kind) -> None:
        """Handle the agent's waiting deliveries now, also if handlers do not run by themselves."""
        if not self.serving.invoke:
            self.resumed.add((agent.id, kind))
            if (station := self.of(agent, kind)) is not None:
                station.queued_elsewhere()
        self.look()

    def open(self) -> None:
        """Everything has started: take waiting deliveries."""
        self.takes_new = True
        self.look()

    def begin_draining(self, *, take_new: bool) -> None:
        """Take nothing more from other processes; without `take_new`, nothing more at all."""
        self.is_draining = True
        self.takes_new = take_new
        self.wake()

    # --- requests to the store ----------------------------------------------------------------------------------------

    @property
    def is_any_hungry(self) -> bool:
        """Whether asking the store may bring something that is to be handled before leaving."""
        if not self.takes_new:
            return False
        return any(station.is_hungry and self._takes_for(station) for station in self._known.values())

    def hungry(self) -> list[Station]:
        """The stations to ask for. One without a free slot asks again when a run of it ends."""
        for station in [station for station in self.asking if not station.is_hungry]:
            del self.asking[station]
        if not self.takes_new:
            return []
        return [station for station in self.asking if station.free > 0 and self._takes_for(station)]

    def _takes_for(self, station: Station) -> bool:
        """Whether to take more for it. A meeting goes on for ever: its turns keep nobody from leaving."""
        return not (self.is_draining and station.kind is Kind.TURN)
