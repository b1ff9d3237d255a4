"""Deliveries in plain Python: what the port promises, as short as it can be said, to compare stores with.

It decides everything the contract decides, and leaves open what that leaves open: which suspect is taken first.
Time passes only in `advance`, so nothing is ever due or expired without having been made so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from agent_messaging.models import DeliveryState, Kind
from agent_messaging.storage.ports import CLAIM_MARGIN, MAIN, Settling, lane_of

QUEUED, CLAIMED, DEAD = DeliveryState.QUEUED, DeliveryState.CLAIMED, DeliveryState.DEAD


@dataclass(slots=True)
class Item:
    """One delivery. Its place in `Model.items` is its age."""

    message_id: str
    sender: str
    recipient: str
    kind: Kind
    max_attempts: int
    run_limit: float
    origin: str
    due_at: float | None
    expires_at: float | None
    state: DeliveryState = QUEUED
    token: int = 0
    attempt: int = 0
    suspect: bool = False
    owner: str | None = None
    hard_end: float = 0.0
    log: list[str] = field(default_factory=list)
    ended: Settling | None = None
    """How the newest claim was settled, if it was."""
    thread: str = MAIN

    @property
    def lane(self) -> tuple[str, Kind, str]:
        return self.recipient, self.kind, lane_of(self.sender, self.thread)


class Model:
    """All deliveries of a store."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.now = 0.0

    def find(self, message_id: str) -> Item:
        return next(item for item in self.items if item.message_id == message_id)

    def is_ready(self, item: Item) -> bool:
        """Whether it may be claimed. One that came back from a claim may have passed its expiry meanwhile."""
        return item.state is QUEUED and item.due_at is None and not self.has_expired(item)

    def has_expired(self, item: Item) -> bool:
        return item.expires_at is not None and item.expires_at <= self.now

    def append(self, item: Item, owner: str, *, claim: bool) -> bool:
        """Store; whether it was claimed at once."""
        self.items.append(item)
        return claim and self.claim_at_once(item, owner)

    def claim_at_once(self, item: Item, owner: str) -> bool:
        """Claim what was just stored, if its lane allows."""
        lane = [other for other in self.items[: self.items.index(item)] if other.lane == item.lane]
        free = not any(self.is_ready(other) or (other.owner != owner and self.holds_its_lane(other)) for other in lane)
        if self.is_ready(item) and free:
            self.take(item, owner, item.run_limit)
            return True
        return False

    def holds_its_lane(self, item: Item) -> bool:
        return item.state is CLAIMED

    def take(self, item: Item, owner: str, run_limit: float) -> None:
        item.state, item.owner, item.ended = CLAIMED, owner, None
        item.token += 1
        item.attempt += 1
        item.hard_end = self.now + run_limit + CLAIM_MARGIN

    def lanes(
        self, recipient: str, kind: Kind, *, ordered: bool, after: str | None, origin: str | None
    ) -> list[list[Item]]:
        """What each lane of a recipient has to give, in the order of the round; suspects included."""
        round_ = sorted({item.lane for item in self.items if item.recipient == recipient and item.kind == kind})
        if after is not None:
            round_ = [lane for lane in round_ if lane[2] > after] + [lane for lane in round_ if lane[2] <= after]
        return [list(self.lane_gives(lane, ordered, origin)) for lane in round_]

    def lane_gives(self, lane: tuple[str, Kind, str], ordered: bool, origin: str | None) -> Iterator[Item]:
        items = [item for item in self.items if item.lane == lane]
        ready = [item for item in items if self.is_ready(item)]
        if ordered:
            ready = [] if any(self.holds_its_lane(item) for item in items) else ready[:1]
        return (item for item in ready if origin is None or item.origin == origin)

    def suspect_is_out(self, recipient: str) -> bool:
        """Whether a suspect of the recipient is claimed."""
        return any(item.recipient == recipient and item.state is CLAIMED and item.suspect for item in self.items)

    def settle(self, item: Item, token: int, how: Settling, delay: float) -> bool:
        """End a claim; whether it moved or had been moved in the same way."""
        if item.token != token:
            return False
        if item.state is not CLAIMED:
            return item.ended is how
        item.ended, item.suspect = how, False
        if how in (Settling.DONE, Settling.DEAD):
            item.state = DeliveryState(how)
        else:
            item.state = QUEUED
            item.due_at = self.now + delay if how is Settling.RETRY and delay > 0 else None
        if how is Settling.RETURNED:
            item.attempt -= 1
        if how is not Settling.DONE:
            item.log.append({Settling.RETRY: "failed", Settling.DEAD: "dead", Settling.RETURNED: "returned"}[how])
        return True

    def lose(self, item: Item, *, counted: bool) -> None:
        """Take a claim away from its owner."""
        item.state = DEAD if counted and item.attempt >= item.max_attempts else QUEUED
        item.due_at, item.ended = None, None
        item.attempt -= not counted
        item.log.append("lost")

    def release(self, owner: str) -> int:
        """The owner died."""
        claimed = [item for item in self.items if item.state is CLAIMED and item.owner == owner]
        suspects = [item for item in claimed if item.suspect]
        blamed = suspects or claimed
        for item in claimed:
            self.lose(item, counted=item in blamed)
            item.suspect = item.suspect or item in blamed
        return len(claimed)

    def advance(self, now: float) -> tuple[int, set[str], int]:
        """Let time pass; what became due, whose messages expired, and how many claims ended."""
        self.now = now
        late = [item for item in self.items if item.state is CLAIMED and item.hard_end <= now]
        for item in late:
            self.lose(item, counted=True)
        gone = [item for item in self.items if item.state is QUEUED and self.has_expired(item)]
        for item in gone:
            item.state = DeliveryState.EXPIRED
        due = [item for item in self.items if item.state is QUEUED and item.due_at and item.due_at <= now]
        for item in due:
            item.due_at = None
        return len(due), {item.origin for item in gone}, len(late)

    def next_in(self) -> float | None:
        changes = [item.hard_end for item in self.items if item.state is CLAIMED]
        for item in self.items:
            if item.state is QUEUED:
                changes += [instant for instant in (item.due_at, item.expires_at) if instant]
        return min(changes) - self.now if changes else None

    def withdraw(self, item: Item) -> bool:
        if item.state is not QUEUED:
            return False
        item.state = DeliveryState.WITHDRAWN
        return True

    def prune(self, dead: bool) -> list[str]:
        """Forget what has ended: the dead letters, or all else."""
        gone = [item for item in self.items if item.state.is_final and (item.state is DEAD) is dead]
        self.items = [item for item in self.items if item not in gone]
        return [item.message_id for item in gone]

    def redrive(self, item: Item) -> bool:
        if item.state is not DEAD:
            return False
        item.state, item.attempt, item.suspect = QUEUED, 0, False
        item.due_at = item.expires_at = None
        item.log.append("redriven")
        return True
