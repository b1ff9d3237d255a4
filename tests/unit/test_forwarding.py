"""Whether an ask may be passed on: the rule by itself. What the stores tell it has its tests in `tests/conformance`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from agent_messaging.models import AskState, DeliveryState
from agent_messaging.storage.admission import Graph, GraphMissing
from agent_messaging.storage.circles import Place, Staff, WaitingAsk
from agent_messaging.storage.forwarding import MOST_HOPS, Known, judge
from agent_messaging.storage.ports import (
    Claim,
    Forwarded,
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

WANTED = NewForward("ask", "bob", "carol", kept_id="new", session_id="new")
KNOWN = Known(
    seq=7,
    asker_id="alice",
    responder_id="bob",
    state=AskState.OPEN,
    within=None,
    left=5.0,
    place=DeliveryState.DONE,
    token=1,
    thread="",
    hops=(),
    is_agent=True,
    session_id=None,
    asked_seq=None,
    asked_id=None,
    chained=None,
    waiters=frozenset(),
    open=0,
)
NOBODY = Graph([], {})
NEVER = datetime.fromtimestamp(0, UTC)
RUN = replace(WANTED, claim=Claim(7, 1, 1))


def hop(number: int, from_id: str, to_id: str, kept_seq: int = 0) -> Hop:
    return Hop("ask", number, from_id, to_id, f"kept-{number}", kept_seq, NEVER, NEVER)


def known(**fields: Any) -> Known:
    return replace(KNOWN, **fields)


def test_what_own_code_has_goes_on() -> None:
    assert judge(WANTED, KNOWN, NOBODY) is None
    assert judge(WANTED, known(place=DeliveryState.QUEUED), NOBODY) is None
    assert judge(RUN, known(place=DeliveryState.CLAIMED), NOBODY) is None


def test_the_graph_is_wanted_only_where_nothing_else_speaks_against_it() -> None:
    with pytest.raises(GraphMissing):
        judge(WANTED, KNOWN, None)
    assert judge(WANTED, None, None) == Unforwardable(Obstacle.NOT_ASKED)
    assert judge(WANTED, known(is_agent=False), None) == UnknownAgents(["carol"])


@pytest.mark.parametrize(
    ("wanted", "changed", "why"),
    [
        (replace(WANTED, holder_id="dave"), {}, Obstacle.NOT_HELD),
        (WANTED, {"state": AskState.REPLIED}, Obstacle.ENDED),
        (WANTED, {"left": 0.0}, Obstacle.ENDED),
        (WANTED, {"place": DeliveryState.CLAIMED}, Obstacle.AT_WORK),
        (RUN, {"place": DeliveryState.CLAIMED, "token": 2}, Obstacle.CLAIM_LOST),
        (RUN, {"place": DeliveryState.CLAIMED, "seq": 8}, Obstacle.CLAIM_LOST),
        (RUN, {"place": DeliveryState.QUEUED}, Obstacle.CLAIM_LOST),
        (replace(WANTED, to_id="alice"), {}, Obstacle.TO_ASKER),
        (replace(WANTED, to_id="bob"), {}, Obstacle.TO_HOLDER),
        (WANTED, {"hops": [hop(number, "x", "y") for number in range(MOST_HOPS)]}, Obstacle.TOO_FAR),
    ],
)
def test_what_speaks_against_it(wanted: NewForward, changed: dict[str, Any], why: Obstacle) -> None:
    refused = judge(wanted, known(**changed), NOBODY)
    assert isinstance(refused, Unforwardable)
    assert refused.why is why


def test_what_would_be_refused_to_a_new_ask() -> None:
    assert judge(WANTED, known(asked_seq=3, asked_id="other", thread="t"), NOBODY) == SessionLocked("other", "t")
    assert judge(replace(WANTED, mailbox_limit=3), known(open=3), NOBODY) == MailboxFull(["carol"])
    assert judge(replace(WANTED, mailbox_limit=3), known(open=2), NOBODY) is None
    expected = replace(WANTED, only_if_expected=True)
    assert judge(expected, KNOWN, NOBODY) == Unexpected()
    assert judge(expected, known(waiters=frozenset({"process"})), NOBODY) is None


def test_the_ask_as_it_was_closes_no_circle() -> None:
    """Bob's own code has alice's ask, and carol waits for bob: once it is carol's, bob owes nothing but to her."""
    own = WaitingAsk(7, "alice", "bob", Place.TAKEN)
    carols = WaitingAsk(9, "carol", "bob", Place.QUEUED)
    assert judge(WANTED, KNOWN, Graph([own, carols], {})) is None
    back = WaitingAsk(9, "carol", "alice", Place.QUEUED)
    assert judge(WANTED, KNOWN, Graph([own, back], {})) == MutualWait(["carol", "alice", "carol"])
    assert judge(WANTED, KNOWN, Graph([own, back], {"carol": Staff(1)})) is None


def test_one_in_the_chain_of_an_ask_of_the_same_two_is_asked_round_and_round() -> None:
    """Alice's run, made for carol's run, which was made for an ask of alice to carol: in whatever thread that is."""
    first = WaitingAsk(3, "alice", "carol", Place.CLAIMED)
    second = WaitingAsk(5, "carol", "alice", Place.CLAIMED, within=3)
    graph = Graph([first, second], {"carol": Staff(9, frozenset({3})), "alice": Staff(9, frozenset({5}))})
    ask = known(within=5)
    assert judge(WANTED, ask, graph) is None
    path = ["carol", "alice", "carol"]
    assert judge(WANTED, replace(ask, chained=3), graph) == MutualWait(path)
    assert judge(WANTED, replace(ask, chained=3, asked_seq=3, asked_id="first"), graph) == MutualWait(path)


def test_repeats_are_told_from_what_is_new() -> None:
    moved = known(responder_id="carol", seq=9, place=DeliveryState.QUEUED, hops=[hop(1, "bob", "carol", 7)])
    done = Forwarded("alice", "", 5.0)
    assert judge(RUN, moved, None) == done
    assert judge(WANTED, moved, None) == done
    assert judge(replace(WANTED, kept_id="kept-1"), moved, None) == done
    elsewhere = Unforwardable(Obstacle.PASSED_ON, holder_id="carol")
    assert judge(replace(RUN, to_id="dave"), moved, None) == elsewhere
    assert judge(replace(WANTED, to_id="dave"), moved, None) == elsewhere
    # It came back to bob, whose code may pass it on again, and whose old run may not.
    back = known(seq=11, hops=[hop(1, "bob", "carol", 7), hop(2, "carol", "bob", 9)])
    assert judge(WANTED, back, NOBODY) is None
    assert judge(RUN, back, NOBODY) == done
    assert judge(replace(RUN, claim=Claim(11, 1, 1)), replace(back, place=DeliveryState.CLAIMED), NOBODY) is None
