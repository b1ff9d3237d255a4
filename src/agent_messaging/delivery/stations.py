"""What the dispatcher remembers of each agent it serves: free slots, busy lanes, whether more may wait in the store."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..handlers.registry import Handler
from ..models import Kind
from ..storage.ports import ClaimRequest
from .names import AgentName


@dataclass(slots=True, eq=False)
class Station:
    """One kind of one agent's deliveries, handled here."""

    agent: AgentName
    kind: Kind
    asking: dict[Station, None]
    """The stations of the dispatcher for which something happened that makes a new request worth while."""
    handler: Handler
    """The newest; what was claimed for it is run by it, also when it was unregistered meanwhile."""
    limit: int
    run_limit: float
    running: int = 0
    """Slots in use, reserved ones among them."""
    lanes: dict[str, int] = field(default_factory=dict)
    """Runs per sender, without those that wait for an answer themselves."""
    known: int = 0
    """Deliveries this process queued and has not claimed since, at most."""
    maybe: bool = False
    """Others may have queued something."""
    cursor: str | None = None
    is_served: bool = True
    """False: what runs goes on, nothing more is taken."""
    is_requested: bool = False
    """A request is in flight: it may bring a delivery of any lane, so no append may claim one meanwhile."""

    @property
    def free(self) -> int:
        """Slots free for another run."""
        return self.limit - self.running

    @property
    def is_ordered(self) -> bool:
        """Whether a lane has one run at a time."""
        return self.handler.ordered

    @property
    def is_hungry(self) -> bool:
        """Whether asking the store may bring something."""
        return self.is_served and (self.known > 0 or self.maybe)

    def may_claim(self, sender_id: str) -> bool:
        """Whether the next delivery of this sender may be claimed with its append."""
        if self.free <= 0 or self.is_requested:
            return False
        return not (self.is_ordered and sender_id in self.lanes)

    def ask(self) -> None:
        """Something happened that makes a request worth while."""
        self.asking[self] = None

    def occupy(self, sender_id: str) -> None:
        """Take a slot and the sender's lane."""
        self.running += 1
        self.enter_lane(sender_id)

    def vacate(self, sender_id: str, *, in_lane: bool = True) -> None:
        """Give the slot and the lane back."""
        self.running -= 1
        if in_lane:
            self.leave_lane(sender_id)
        elif self.is_hungry:
            self.ask()

    def enter_lane(self, sender_id: str) -> None:
        """A run is at work on a message of this sender."""
        self.lanes[sender_id] = self.lanes.get(sender_id, 0) + 1

    def leave_lane(self, sender_id: str) -> None:
        """It has ended, or waits for an answer itself: the sender's next message may run."""
        left = self.lanes[sender_id] - 1
        if left:
            self.lanes[sender_id] = left
        else:
            del self.lanes[sender_id]
        if self.is_hungry:
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
        self.asking.pop(self, None)
        self.is_requested = True
        return ClaimRequest(self.agent.id, self.kind, self.free, self.run_limit, self.is_ordered, self.cursor, origin)

    def answered(self, requested: int, claimed: int, last_sender: str | None) -> None:
        """Learn from what a request brought. Call it before the claims occupy their slots."""
        self.known = max(0, self.known - claimed)
        if last_sender is not None:
            self.cursor = last_sender
        if claimed == requested:
            self.ask()
        elif not claimed and not self.running and self not in self.asking:
            # No run of ours blocks a lane, and nothing arrived since: the store has nothing more for us now.
            self.known, self.maybe = 0, False
