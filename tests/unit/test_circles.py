"""Which asks close a circle in which nobody could answer: by hand for each clause of the rule, then at random."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from agent_messaging.storage.circles import Place, Staff, WaitingAsk, find_circle

QUEUED, CLAIMED, TAKEN = Place.QUEUED, Place.CLAIMED, Place.TAKEN
NEW = -1


def new(asker: str, responder: str, within: int | None = None) -> WaitingAsk:
    return WaitingAsk(NEW, asker, responder, QUEUED, within)


def chain(agents: Iterable[str]) -> list[WaitingAsk]:
    """Asks of agents without handlers, from each to the next, in the order of the numbers from 1."""
    return [WaitingAsk(n, a, b, QUEUED) for n, (a, b) in enumerate(pairwise(agents), 1)]


# --- agents without handlers ------------------------------------------------------------------------------------------


def test_two_that_ask_each_other() -> None:
    assert find_circle(new("bob", "alice"), [], {}) is None
    asked = [WaitingAsk(1, "alice", "bob", QUEUED)]
    assert find_circle(new("bob", "alice"), asked, {}) == ["alice", "bob", "alice"]


@pytest.mark.parametrize("size", [3, 10])
def test_a_circle_of_several_is_named_from_the_recipient_on(size: int) -> None:
    agents = [f"agent-{number}" for number in range(size)]
    path = find_circle(new(agents[-1], agents[0]), chain(agents), {})
    assert path == [*agents, agents[0]]


def test_a_chain_is_no_circle() -> None:
    assert find_circle(new("carol", "alice"), chain(["alice", "bob"]), {}) is None
    assert find_circle(new("zoe", "alice"), chain(["alice", "bob", "carol"]), {}) is None


def test_behind_a_circle_one_waits_but_is_not_in_it() -> None:
    """Who asks into a circle does not close it: it is told by its timeout, and by whoever breaks the circle."""
    circle = [WaitingAsk(1, "alice", "bob", QUEUED), WaitingAsk(2, "bob", "alice", QUEUED)]
    assert find_circle(new("carol", "alice"), circle, {}) is None


def test_an_agent_without_a_handler_answers_nothing_while_any_of_its_asks_is_stuck() -> None:
    """It may have asked twice at once; which of its calls would read the message nobody knows."""
    free, closing = WaitingAsk(1, "alice", "carol", QUEUED), WaitingAsk(2, "alice", "bob", QUEUED)
    assert find_circle(new("bob", "alice"), [free], {}) is None
    assert find_circle(new("bob", "alice"), [free, closing], {}) == ["alice", "bob", "alice"]


def test_the_shortest_way_is_named() -> None:
    long = [WaitingAsk(1, "alice", "carol", QUEUED), WaitingAsk(2, "carol", "bob", QUEUED)]
    assert find_circle(new("bob", "alice"), long, {}) == ["alice", "carol", "bob", "alice"]
    assert find_circle(new("bob", "alice"), [*long, WaitingAsk(3, "alice", "bob", QUEUED)], {}) == [
        "alice",
        "bob",
        "alice",
    ]


# --- handlers and their slots -----------------------------------------------------------------------------------------


def test_a_recipient_with_a_free_slot_answers_while_it_waits_itself() -> None:
    """A question inside the ask: bob's run of alice's ask asks alice, whose handler is free."""
    ask = WaitingAsk(1, "alice", "bob", CLAIMED)
    staff = {"alice": Staff(1), "bob": Staff(1, frozenset([1]))}
    assert find_circle(new("bob", "alice", within=1), [ask], staff) is None
    assert find_circle(new("bob", "alice", within=1), [ask], {"bob": staff["bob"]}) == ["alice", "bob", "alice"]


def test_every_slot_is_held_in_the_circle() -> None:
    """Alice's only run asks bob, whose only run asks alice."""
    ask = WaitingAsk(2, "alice", "bob", CLAIMED, within=1)
    staff = {"alice": Staff(1, frozenset([1])), "bob": Staff(1, frozenset([2]))}
    assert find_circle(new("bob", "alice", within=2), [ask], staff) == ["alice", "bob", "alice"]
    assert find_circle(new("bob", "alice", within=2), [ask], {**staff, "alice": Staff(2, frozenset([1]))}) is None


def test_of_several_slots_one_that_can_go_on_is_enough() -> None:
    """Alice has two runs; the one that asks bob is in the circle, the other one waits for carol, or for nothing."""
    to_bob, to_carol = (
        WaitingAsk(3, "alice", "bob", CLAIMED, within=1),
        WaitingAsk(4, "alice", "carol", QUEUED, within=2),
    )
    staff = {"alice": Staff(2, frozenset([1, 2])), "bob": Staff(1, frozenset([3])), "carol": Staff(1)}
    closing = new("bob", "alice", within=3)
    assert find_circle(closing, [to_bob, to_carol], staff) is None
    assert find_circle(closing, [to_bob], staff) is None
    # Carol cannot go on either: her only run asks bob.
    stuck = [to_bob, to_carol, WaitingAsk(6, "carol", "bob", QUEUED, within=5)]
    blocked = {**staff, "carol": Staff(1, frozenset([5]))}
    assert find_circle(closing, stuck, blocked) == ["alice", "bob", "alice"]


def test_a_run_that_asked_twice_goes_on_when_both_are_answered() -> None:
    asks = [WaitingAsk(2, "alice", "bob", CLAIMED, within=1), WaitingAsk(3, "alice", "carol", QUEUED, within=1)]
    staff = {"alice": Staff(1, frozenset([1])), "bob": Staff(1, frozenset([2])), "carol": Staff(1)}
    assert find_circle(new("bob", "alice", within=2), asks, staff) == ["alice", "bob", "alice"]


def test_what_an_agents_own_code_waits_for_does_not_hold_its_handler() -> None:
    own = WaitingAsk(1, "alice", "bob", CLAIMED)
    staff = {"alice": Staff(1), "bob": Staff(1, frozenset([1]))}
    assert find_circle(new("bob", "alice", within=1), [own], staff) is None


def test_a_claimed_ask_waits_for_its_own_run_alone() -> None:
    """Bob's other run is stuck behind alice; the one that has her ask is not."""
    claimed = WaitingAsk(1, "alice", "bob", CLAIMED)
    other = WaitingAsk(3, "bob", "alice", QUEUED, within=2)
    staff = {"bob": Staff(2, frozenset([1, 2]))}
    assert find_circle(new("carol", "alice"), [claimed, other], staff) is None
    closing = new("bob", "alice", within=1)
    assert find_circle(closing, [claimed], staff) == ["alice", "bob", "alice"]
    assert find_circle(WaitingAsk(NEW, "bob", "alice", QUEUED, within=2), [claimed], staff) is None


# --- asks that an agent's own code has -------------------------------------------------------------------------------


def test_ping_pong() -> None:
    """Bob's ask answers alice's and is taken by the call that made hers: it can answer, whatever else she waits for."""
    ping = WaitingAsk(NEW, "bob", "alice", TAKEN, taken_within=7)
    elsewhere = WaitingAsk(1, "alice", "bob", QUEUED, within=8)
    staff = {"alice": Staff(2, frozenset([7, 8])), "bob": Staff(0)}
    assert find_circle(ping, [elsewhere], staff) is None
    # Now the run that took it asks bob, who has no handler and waits for that very run.
    inside = WaitingAsk(NEW, "alice", "bob", QUEUED, within=7)
    assert find_circle(inside, [WaitingAsk(1, "bob", "alice", TAKEN, taken_within=7)], staff) == [
        "bob",
        "alice",
        "bob",
    ]


def test_what_was_taken_in_no_run_waits_for_what_the_agents_own_code_asks() -> None:
    taken = WaitingAsk(1, "alice", "bob", TAKEN)
    assert find_circle(new("bob", "alice"), [taken], {}) == ["alice", "bob", "alice"]
    staff = {"bob": Staff(1, frozenset([5])), "alice": Staff(0)}
    assert find_circle(new("bob", "alice", within=5), [taken], staff) is None


# --- behind an open ask of the same pair ------------------------------------------------------------------------------


def test_an_ask_behind_an_ancestor_is_a_circle() -> None:
    """Alice asks bob, his run asks alice, her run of that asks bob again: it would wait for the first."""
    first = WaitingAsk(1, "alice", "bob", CLAIMED)
    asks = [first, WaitingAsk(2, "bob", "alice", CLAIMED, within=1)]
    staff = {"alice": Staff(10, frozenset([2])), "bob": Staff(10, frozenset([1]))}
    again = new("alice", "bob", within=2)
    assert find_circle(again, asks, staff, behind=first) == ["bob", "alice", "bob"]
    # The rule goes by what an ask is, not by which object describes it.
    assert find_circle(again, asks, staff, behind=WaitingAsk(1, "alice", "bob", CLAIMED)) == ["bob", "alice", "bob"]
    # Bob's handler has slots enough, so without the first one in the way it would be answered.
    assert find_circle(again, asks, staff) is None


def test_an_ask_behind_one_that_goes_on_only_waits() -> None:
    first = WaitingAsk(1, "alice", "bob", CLAIMED)
    staff = {"bob": Staff(1, frozenset([1]))}
    assert find_circle(new("alice", "bob"), [first], staff, behind=first) is None
    assert find_circle(new("alice", "bob"), [], staff, behind=first) is None


def test_an_ask_behind_one_that_is_stuck_elsewhere_is_in_no_circle() -> None:
    first = WaitingAsk(1, "alice", "bob", QUEUED)
    circle = [WaitingAsk(2, "bob", "carol", QUEUED), WaitingAsk(3, "carol", "bob", QUEUED)]
    assert find_circle(new("alice", "bob"), [first, *circle], {}, behind=first) is None


# --- at random --------------------------------------------------------------------------------------------------------


Snapshot = tuple[WaitingAsk, list[WaitingAsk], dict[str, Staff], WaitingAsk | None]
AGENTS = "abcd"
CHOICES = st.integers(0, 59)
"""Taken modulo the number of whatever there is to choose from."""


@st.composite
def snapshots(draw: st.DrawFn, *, acyclic: bool) -> Snapshot:
    """What a store could show: each run belongs to an agent with a handler, and made its asks in its agent's name.

    In an acyclic one each agent asks only those behind it. An agent has at most one open ask to another one, but for
    the new one, which then stands behind it.
    """
    slots = dict(zip(AGENTS, draw(st.tuples(*[st.sampled_from([0, 0, 1, 1, 2, 3])] * len(AGENTS))), strict=True))
    made = draw(
        st.lists(st.tuples(CHOICES, CHOICES, st.sampled_from(Place), CHOICES, CHOICES), min_size=1, max_size=12)
    )
    busy = draw(st.sets(st.sampled_from(AGENTS)))
    # Runs of messages for which nobody waits.
    runs: dict[str, list[int]] = {
        agent: [number] if agent in busy and slots[agent] else [] for number, agent in enumerate(AGENTS, 100)
    }
    known: dict[tuple[str, str], WaitingAsk] = {}
    for number, (one, other, place, within, taken_within) in enumerate(made):
        agents = [AGENTS[one % len(AGENTS)], AGENTS[(one + 1 + other % (len(AGENTS) - 1)) % len(AGENTS)]]
        asker, responder = sorted(agents) if acyclic else agents
        is_last = number == len(made) - 1
        if (asker, responder) in known and not is_last:
            continue
        if place is CLAIMED and (is_last or len(runs[responder]) >= slots[responder]):
            place = QUEUED
        ask = WaitingAsk(
            NEW if is_last else number,
            asker,
            responder,
            place,
            [None, *runs[asker]][within % (len(runs[asker]) + 1)],
            [None, *runs[responder]][taken_within % (len(runs[responder]) + 1)] if place is TAKEN else None,
        )
        if is_last:
            behind = known.get((asker, responder))
            staff = {agent: Staff(slots[agent], frozenset(runs[agent])) for agent in AGENTS}
            return ask, list(known.values()), staff, behind
        if place is CLAIMED:
            runs[responder].append(number)
        known[asker, responder] = ask
    raise AssertionError


@settings(deadline=None, max_examples=400)
@given(snapshots(acyclic=True))
def test_without_a_circle_of_asks_nothing_is_ever_refused(snapshot: Snapshot) -> None:
    closing, asks, staff, behind = snapshot
    assert find_circle(closing, asks, staff, behind=behind) is None


@settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(snapshots(acyclic=False))
def test_a_refused_path_is_a_circle_of_asks(snapshot: Snapshot) -> None:
    closing, asks, staff, behind = snapshot
    path = find_circle(closing, asks, staff, behind=behind)
    assume(path is not None)
    assert path is not None
    assert path[0] == path[-1] == closing.responder
    assert path[-2] == closing.asker
    waiting = {(ask.asker, ask.responder) for ask in asks}
    assert all(pair in waiting for pair in pairwise(path[:-1]))


@settings(deadline=None)
@given(snapshots(acyclic=False))
def test_handlers_for_everybody_refuse_nothing_that_is_queued(snapshot: Snapshot) -> None:
    """However the asks stand: who has a free slot can answer."""
    closing, asks, staff, _ = snapshot
    assume(closing.place is QUEUED)
    assert find_circle(closing, asks, {agent: Staff(100, known.runs) for agent, known in staff.items()}) is None
