"""Whether an open ask may be passed on to another agent. The rule is pure, and the same for every backend.

A backend loads what is `Known` of the ask, asks `judge`, and moves the ask: its message goes to the new agent, under
the same id and with the same deadline, and a copy of the message stays where it was.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..models import AskState, DeliveryState
from ..records import dataclass
from .admission import Graph, GraphMissing
from .circles import Place, WaitingAsk, find_circle
from .ports import (
    Forwarded,
    ForwardOutcome,
    Hop,
    MailboxFull,
    MutualWait,
    NewForward,
    Obstacle,
    SessionLocked,
    Unexpected,
    Unforwardable,
    UnknownAgents,
)

MOST_HOPS = 16
"""So often one ask is passed on: agents that send it round would do so until its deadline."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the store says of an ask, of its message, and of the agent that is to get it."""

    seq: int
    asker_id: str
    responder_id: str
    state: AskState
    within: int | None
    """The message in whose run it was made."""
    left: float
    """Seconds until its deadline."""
    place: DeliveryState
    """The state of its delivery."""
    token: int
    thread: str
    hops: Sequence[Hop]
    """Its way so far, in order."""
    is_agent: bool
    """The new agent exists."""
    session_id: str | None
    """The open session of the asker and the new agent in the thread."""
    asked_seq: int | None
    asked_id: str | None
    """The open ask of the asker to the new agent in the thread."""
    chained: int | None
    """The open ask of the asker to the new agent, in whatever thread, that this one is made for, however deep."""
    waiters: frozenset[str]
    """The processes in which the new agent waits for the asker's next message."""
    open: int
    """Open deliveries in the new agent's mailbox, counted where there is a limit."""


def judge(wanted: NewForward, known: Known | None, graph: Graph | None) -> ForwardOutcome | None:
    """Answer what becomes of the call: None, it is to be done; `Forwarded`, it was done before by this very call.

    Raises:
        GraphMissing: Everything else is well; it needs the graph that is reached from the new agent.
    """
    if known is None:
        return Unforwardable(Obstacle.NOT_ASKED)
    if (last := _find_own_hop(wanted, known)) is not None:
        if last.to_id != wanted.to_id:
            return Unforwardable(Obstacle.PASSED_ON, holder_id=known.responder_id)
        return Forwarded(known.asker_id, known.session_id or "", known.left, known.waiters)
    if obstacle := _find_obstacle(wanted, known):
        return Unforwardable(obstacle, state=_state(known), holder_id=known.responder_id)
    if not known.is_agent:
        return UnknownAgents([wanted.to_id])
    if graph is None:
        raise GraphMissing
    if (path := _find_circle(wanted, known, graph)) is not None:
        return MutualWait(path)
    if known.asked_id is not None:
        return SessionLocked(known.asked_id, known.thread)
    if wanted.only_if_expected and not known.waiters:
        return Unexpected()
    if wanted.mailbox_limit is not None and known.open >= wanted.mailbox_limit:
        return MailboxFull([wanted.to_id])
    return None


def _find_circle(wanted: NewForward, known: Known, graph: Graph) -> list[str] | None:
    """The circle that the ask would close as a new one to the new agent, as `admission` judges it."""
    # Only that it waits for another one is new. What it is made in goes along.
    moved = WaitingAsk(known.seq, known.asker_id, wanted.to_id, Place.QUEUED, known.within)
    asks = {ask.seq: ask for ask in graph.asks if ask.seq != known.seq}
    if known.asked_seq is None and (path := find_circle(moved, asks.values(), graph.staff)) is not None:
        return path
    # One that cannot be reached from the new agent does not wait for this one.
    first = known.chained if known.asked_seq is None else known.asked_seq
    behind = None if first is None else asks.get(first)
    return None if behind is None else find_circle(moved, asks.values(), graph.staff, behind=behind)


def _find_own_hop(wanted: NewForward, known: Known) -> Hop | None:
    """The hop by which the caller has passed it on already.

    A run passes its message on once, which the number of that message tells. An agent's own code may have it again
    later, and pass it on anew; while another agent has it, the call can only be a repeat.
    """
    for hop in reversed(known.hops):
        if hop.kept_id == wanted.kept_id or (wanted.claim is not None and hop.kept_seq == wanted.claim.seq):
            return hop
    if wanted.claim is not None or known.responder_id == wanted.holder_id:
        return None
    return next((hop for hop in reversed(known.hops) if hop.from_id == wanted.holder_id), None)


def _find_obstacle(wanted: NewForward, known: Known) -> Obstacle | None:
    claim, is_claimed = wanted.claim, known.place is DeliveryState.CLAIMED
    if known.responder_id != wanted.holder_id:
        return Obstacle.NOT_HELD
    if _state(known) is not AskState.OPEN:
        return Obstacle.ENDED
    if claim is None and is_claimed:
        return Obstacle.AT_WORK
    if claim is not None and not (is_claimed and (claim.seq, claim.token) == (known.seq, known.token)):
        return Obstacle.CLAIM_LOST
    if wanted.to_id in (known.asker_id, known.responder_id):
        return Obstacle.TO_ASKER if wanted.to_id == known.asker_id else Obstacle.TO_HOLDER
    return Obstacle.TOO_FAR if len(known.hops) >= MOST_HOPS else None


def _state(known: Known) -> AskState:
    """Its deadline may be over before anybody has ended it."""
    return AskState.TIMED_OUT if known.state is AskState.OPEN and known.left <= 0 else known.state
