"""Whether an ask would close a circle of asks none of which could ever be answered. A pure rule over a snapshot.

An ask ends when somebody answers it: a handler run, or the agent's own code. That somebody may itself wait for an
answer. The rule assumes that every ask is stuck, and then frees, as long as there are any, those that can go on:

* one that is claimed, if its run waits for nothing that is stuck;
* one that is queued for an agent with a handler, if the agent has a free slot, or a run that can go on and free one;
* one that is queued for an agent without a handler, if the agent waits for nothing that is stuck;
* one that the agent's own code has taken, if that code (a run of it, or none) waits for nothing that is stuck.

What is left can only wait for itself. A new ask that is left, and on a circle through itself, is refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum

from ..records import dataclass


class Place(Enum):
    """Where the message of an ask is."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    TAKEN = "taken"
    """By the agent's own code: as an answer, by reading it, or after a handler returned without an answer."""


@dataclass(frozen=True, slots=True)
class WaitingAsk:
    """An open ask, or the new one."""

    seq: int
    """Of its message; the new one has any that no other has."""
    asker: str
    responder: str
    place: Place
    within: int | None = None
    """The message in whose run it was made; None: by the asker's own code."""
    taken_within: int | None = None
    """Where the responder's own code has taken it: the message in whose run that was; None outside any."""


@dataclass(frozen=True, slots=True)
class Staff:
    """Who can handle an agent's conversation messages."""

    slots: int = 0
    """Runs at once, of all its live processes; 0: it has no handler."""
    runs: frozenset[int] = frozenset()
    """The messages whose runs hold a slot now."""


_NOBODY = Staff()


def find_circle(
    new: WaitingAsk, asks: Iterable[WaitingAsk], staff: Mapping[str, Staff], *, behind: WaitingAsk | None = None
) -> list[str] | None:
    """Return the circle that the new ask would close, or None.

    Args:
        new: The ask that is to be stored, as it would be queued.
        asks: The open ones that can be reached from its recipient, from each asker to its responder.
        staff: For the responders of all these.
        behind: The open ask of the same pair behind which the new one would have to wait.

    Returns:
        The agents: from the recipient, each waiting for the next, to the sender, and the recipient again.
    """
    graph = _Graph([new, *(ask for ask in asks if ask.seq != new.seq)], staff, new, behind)
    path = graph.find_path_back()
    if path is None:
        return None
    return [*(ask.asker for ask in path if ask is not behind), new.asker, new.responder]


class _Graph:
    def __init__(
        self, asks: list[WaitingAsk], staff: Mapping[str, Staff], new: WaitingAsk, behind: WaitingAsk | None
    ) -> None:
        self.staff = staff
        self.new = new
        self.behind = behind
        self.of_asker: dict[str, list[WaitingAsk]] = defaultdict(list)
        self.of_run: dict[int, list[WaitingAsk]] = defaultdict(list)
        for ask in asks:
            self.of_asker[ask.asker].append(ask)
            if ask.within is not None:
                self.of_run[ask.within].append(ask)
        self.stuck = set(asks)
        while freed := [ask for ask in self.stuck if self._can_go_on(ask)]:
            self.stuck.difference_update(freed)

    def _can_go_on(self, ask: WaitingAsk) -> bool:
        if ask is self.new and self.behind is not None:
            return self.behind not in self.stuck
        if ask.place is Place.QUEUED and (staff := self.staff.get(ask.responder, _NOBODY)).slots:
            return len(staff.runs) < staff.slots or any(self.stuck.isdisjoint(self.of_run[run]) for run in staff.runs)
        return self.stuck.isdisjoint(self._waited_for(ask))

    def _waited_for(self, ask: WaitingAsk) -> Iterator[WaitingAsk]:
        """The asks that whoever is to answer waits for."""
        if ask is self.new and self.behind is not None:
            yield self.behind
        elif ask.place is Place.CLAIMED:
            yield from self.of_run[ask.seq]
        elif ask.place is Place.TAKEN:
            if ask.taken_within is not None:
                yield from self.of_run[ask.taken_within]
            else:
                yield from (one for one in self.of_asker[ask.responder] if one.within is None)
        elif (staff := self.staff.get(ask.responder, _NOBODY)).slots:
            for run in staff.runs:
                yield from self.of_run[run]
        else:
            yield from self.of_asker[ask.responder]

    def find_path_back(self) -> list[WaitingAsk] | None:
        """The shortest way from the new ask, over stuck ones, to itself; without the new one."""
        if self.new not in self.stuck:
            return None
        came_from: dict[WaitingAsk, WaitingAsk] = {}
        frontier = [self.new]
        while frontier:
            reached = []
            for ask in frontier:
                for following in self._waited_for(ask):
                    if following is self.new:
                        return _walk(came_from, ask, self.new)
                    if following in self.stuck and following not in came_from:
                        came_from[following] = ask
                        reached.append(following)
            frontier = reached
        return None


def _walk(came_from: dict[WaitingAsk, WaitingAsk], last: WaitingAsk, first: WaitingAsk) -> list[WaitingAsk]:
    path: list[WaitingAsk] = []
    while last is not first:
        path.append(last)
        last = came_from[last]
    return path[::-1]
