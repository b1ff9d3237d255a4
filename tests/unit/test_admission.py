"""What becomes of a call that stores: repeats, agents, mailboxes, sessions, answers and circles, without a store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent_messaging.models import AskState, Kind
from agent_messaging.storage.admission import (
    OUTSIDE,
    Admission,
    Found,
    Graph,
    GraphMissing,
    OpenAsk,
    Plan,
    View,
    admit,
    find_threads,
    is_answer,
)
from agent_messaging.storage.circles import Place, Staff, WaitingAsk
from agent_messaging.storage.mailboxes import MailboxGauge
from agent_messaging.storage.ports import (
    MAIN,
    Answering,
    AppendOutcome,
    Claim,
    Duplicate,
    EndedAsk,
    KeyConflict,
    MailboxFull,
    MutualWait,
    NewDelivery,
    NewGroup,
    NotWaiting,
    SessionLocked,
    Stored,
    Unexpected,
    UnknownAgents,
)

NOTHING = Found("", None, None, None, asks_others=False, waiters=frozenset(), within=None, asked_by_run=None)
NO_GRAPH = Graph([], {})


def open_ask(seq: int = 7, *, taken_within: int | None = None, within: int | None = None) -> OpenAsk:
    return OpenAsk(seq, f"ask-{seq}", "origin", within, taken_within)


def note(id: str, sender: str = "alice", *recipients: str, **options: Any) -> NewGroup:
    """A note to bob where not said otherwise; of several recipients each message has its number behind the id."""
    deliveries = [NewDelivery(f"{id}{number or ''}", name) for number, name in enumerate(recipients or ("bob",))]
    options = {"kind": Kind.ONE_WAY, "max_attempts": 5, "run_limit": 30.0, **options}
    return NewGroup(sender_id=sender, content='""', metadata=None, checksum=1, deliveries=deliveries, **options)


def talk(id: str, sender: str = "alice", recipient: str = "bob", **options: Any) -> NewGroup:
    return note(id, sender, recipient, kind=Kind.CONVERSATION, session_id=f"session-{id}", **options)


def question(id: str, sender: str = "alice", recipient: str = "bob", **options: Any) -> NewGroup:
    return talk(id, sender, recipient, ask_timeout=30.0, **{"answers": Answering.IF_TAKEN, **options})


def view(*found: Found, **options: Any) -> View:
    """Of conversation messages alone: by default nothing is known of them."""
    return View("owner", found=dict(enumerate(found)), **options)


def judge(*groups: NewGroup, found: Found = NOTHING, graph: Graph | None = None) -> list[AppendOutcome]:
    """Conversation messages of each of which the store says the same."""
    return admit(groups, view(*[found] * len(groups), graph=graph)).outcomes


def accepted_ids(admission: Admission) -> list[str]:
    return [group.deliveries[0].message_id for group, _, _ in admission.accepted]


def plans_of(admission: Admission) -> list[Plan]:
    plans = [plan for _, _, plan in admission.accepted]
    assert None not in plans
    return [plan for plan in plans if plan is not None]


def ask_of(plan: Plan) -> OpenAsk:
    assert plan.ask is not None
    return plan.ask


# --- threads ----------------------------------------------------------------------------------------------------------


def in_threads(own: OpenAsk | None, taken: str = "", others: str = "", *, asked_by_run: int | None = None) -> Found:
    """What is found of a message of the main thread, and the other threads in which the recipient waits."""
    return replace(NOTHING, theirs=own, taken_elsewhere=[*taken], open_elsewhere=[*others], asked_by_run=asked_by_run)


@pytest.mark.parametrize(
    ("how", "found", "thread"),
    [
        (Answering.IF_TAKEN, in_threads(None, "a"), "a"),
        (Answering.IF_TAKEN, in_threads(None, "ab"), None),
        (Answering.IF_TAKEN, in_threads(None, "", "a"), None),
        (Answering.IF_TAKEN, in_threads(open_ask(), "a"), "a"),
        (Answering.IF_TAKEN, in_threads(open_ask(taken_within=OUTSIDE), "a"), None),
        (Answering.REQUIRED, in_threads(None, "", "a"), "a"),
        (Answering.REQUIRED, in_threads(None, "", "ab"), None),
        (Answering.REQUIRED, in_threads(None, "a", "bc"), "a"),
        (Answering.REQUIRED, in_threads(open_ask(), "", "a"), None),
        (Answering.REQUIRED, in_threads(open_ask(), "a"), "a"),
        (Answering.REQUIRED, in_threads(open_ask(taken_within=OUTSIDE), "a"), None),
        (Answering.REQUIRED, in_threads(None, "a", asked_by_run=7), None),
        (None, in_threads(None, "a"), None),
    ],
)
def test_where_a_message_that_names_no_thread_answers(how: Answering | None, found: Found, thread: str | None) -> None:
    group = talk("x", answers=how, is_anywhere=True)
    assert find_threads([group], {0: found}) == ({} if thread is None else {0: thread})
    assert find_threads([replace(group, is_anywhere=False)], {0: found}) == {}


def test_an_answer_in_another_thread_goes_there_and_the_next_message_to_its_own() -> None:
    ask = open_ask(taken_within=OUTSIDE)
    there = replace(NOTHING, thread="a", session_id="of a", theirs=ask)
    found = replace(NOTHING, taken_elsewhere=["a"], there=there)
    groups = [talk(id, answers=Answering.IF_TAKEN, is_anywhere=True) for id in "xy"]
    first, second = plans_of(admit(groups, view(found, found)))
    assert (first.thread, first.session_id, first.opens, first.answered) == ("a", "of a", False, ask)
    assert (second.thread, second.session_id, second.opens, second.answered) == (MAIN, "session-y", True, None)


def test_an_ask_behind_the_same_ask_in_its_chain_closes_a_circle() -> None:
    first = WaitingAsk(7, "alice", "bob", Place.CLAIMED, None)
    back = WaitingAsk(8, "bob", "alice", Place.CLAIMED, 7)
    graph = Graph([first, back], {"bob": Staff(5, frozenset({7})), "alice": Staff(5, frozenset({8}))})
    found = replace(NOTHING, asks_others=True, within=8, chained=7)
    assert judge(question("x", thread="new"), found=found, graph=graph) == [MutualWait(["bob", "alice", "bob"])]
    assert isinstance(judge(question("x"), found=replace(found, chained=None), graph=graph)[0], Stored)


# --- repeats, keys, agents, mailboxes ---------------------------------------------------------------------------------


def test_what_is_stored_already_is_answered_with_all_its_claims_and_not_stored_again() -> None:
    first, second = Claim(1, 1, 1), Claim(2, 1, 1)
    stored = {"a": Stored({"a": first}), "a1": Stored({"a1": second})}
    admission = admit([note("a", "alice", "bob", "carol"), note("b")], View("owner", stored=stored))
    assert admission.outcomes == [Stored({"a": first, "a1": second}), Stored()]
    assert accepted_ids(admission) == ["b"]


def test_what_is_stored_already_is_found_by_any_of_its_messages() -> None:
    before = Stored(session_id="s", waiters=frozenset({"p"}))
    assert admit([note("a", "alice", "bob", "carol")], View("owner", stored={"a1": before})).outcomes == [before]


def test_a_key_is_compared_with_the_call_it_was_used_for() -> None:
    keys = {("alice", "send", "k"): ("f", ["old"])}
    groups = [
        note("a", idempotency_key="k", fingerprint="f"),
        note("b", idempotency_key="k", fingerprint="other"),
        note("c", "carol", idempotency_key="k", fingerprint="f"),
        note("d", idempotency_key="k", fingerprint="f", call="ask"),
    ]
    admission = admit(groups, View("owner", keys=keys))
    assert admission.outcomes == [Duplicate(["old"]), KeyConflict(), Stored(), Stored()]


def test_a_key_counts_from_the_group_of_the_call_that_is_stored_with_it() -> None:
    refused = note("a", "alice", "nobody", idempotency_key="k", fingerprint="f")
    first, second = (note(id, idempotency_key="k", fingerprint="f") for id in "bc")
    admission = admit([refused, first, second], View("owner", missing={"nobody"}))
    assert admission.outcomes == [UnknownAgents(["nobody"]), Stored(), Duplicate(["b"])]


def test_the_order_is_repeat_key_agents_conversation_mailbox() -> None:
    group = talk("a", "nobody", "bob", idempotency_key="k", mailbox_limit=1, answers=Answering.REQUIRED)
    known = view(NOTHING, stored={"a": Stored()}, keys={("nobody", "send", "k"): ("", ["old"])}, missing={"nobody"})
    known.counts = {"bob": 1}
    assert admit([group], known).outcomes == [Stored()]
    known.stored = {}
    assert admit([group], known).outcomes == [Duplicate(["old"])]
    known.keys = {}
    assert admit([group], known).outcomes == [UnknownAgents(["nobody"])]
    known.missing = ()
    assert admit([group], known).outcomes == [NotWaiting(None)]
    assert admit([replace(group, answers=None)], known).outcomes == [MailboxFull(["bob"])]


def test_all_agents_that_are_missing_are_named_once() -> None:
    group = note("a", "x", "bob", "y", "x")
    assert admit([group], View("owner", missing={"x", "y"})).outcomes == [UnknownAgents(["x", "y"])]


def test_a_mailbox_takes_what_fits_also_within_one_call() -> None:
    groups = [note(id, mailbox_limit=3) for id in "abc"]
    assert admit(groups, View("owner", counts={"bob": 1})).outcomes == [Stored(), Stored(), MailboxFull(["bob"])]


def test_a_group_without_a_limit_is_stored_and_counts() -> None:
    groups = [note("a"), note("b", mailbox_limit=2)]
    assert admit(groups, View("owner", counts={"bob": 1})).outcomes == [Stored(), MailboxFull(["bob"])]


def test_a_group_needs_room_for_all_that_it_has_for_a_recipient() -> None:
    group = note("a", "alice", "bob", "carol", "bob", mailbox_limit=3)
    assert admit([group], View("owner", counts={"bob": 2, "carol": 2})).outcomes == [MailboxFull(["bob"])]
    assert admit([group], View("owner", counts={"bob": 1, "carol": 2})).outcomes == [Stored()]


def test_a_refused_group_takes_no_room() -> None:
    groups = [note("a", "alice", "bob", "nobody", mailbox_limit=1), note("b", mailbox_limit=1)]
    known = View("owner", counts={"bob": 0}, missing={"nobody"})
    assert admit(groups, known).outcomes == [UnknownAgents(["nobody"]), Stored()]


def test_an_answer_needs_no_room_and_takes_none() -> None:
    asked = replace(NOTHING, theirs=open_ask())
    groups = [talk("a", answers=Answering.REQUIRED, mailbox_limit=1), talk("b", mailbox_limit=1)]
    gauge = MailboxGauge()
    gauge.counted({"bob": 0}, 1)
    admission = admit(groups, view(asked, asked, counts={"bob": 0}))
    assert [type(outcome) for outcome in admission.outcomes] == [Stored, Stored]
    admission.fill(gauge)
    assert gauge.reading("bob") == 1


# --- which message is the answer --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [None, *Answering])
def test_where_nobody_waits_nothing_is_an_answer(how: Answering | None) -> None:
    assert not is_answer(how, None, asked_by_run=None)


@pytest.mark.parametrize("taken_within", [None, OUTSIDE, 3])
def test_what_is_not_meant_to_answer_does_not(taken_within: int | None) -> None:
    assert not is_answer(None, open_ask(taken_within=taken_within), asked_by_run=None)


@pytest.mark.parametrize(("taken_within", "answers"), [(None, False), (OUTSIDE, True), (3, False), (7, False)])
def test_the_next_message_answers_what_was_taken_outside_any_run(taken_within: int | None, answers: bool) -> None:
    assert is_answer(Answering.IF_TAKEN, open_ask(taken_within=taken_within), asked_by_run=None) is answers


@pytest.mark.parametrize("taken_within", [None, OUTSIDE, 3])
@pytest.mark.parametrize(("asked_by_run", "answers"), [(None, True), (7, True), (6, False)])
def test_a_reply_answers_whoever_has_the_ask_but_in_a_run_only_its_own(
    taken_within: int | None, asked_by_run: int | None, answers: bool
) -> None:
    assert is_answer(Answering.REQUIRED, open_ask(taken_within=taken_within), asked_by_run=asked_by_run) is answers
    is_bound = is_answer(
        Answering.REQUIRED, open_ask(taken_within=taken_within), asked_by_run=asked_by_run, answers_within=True
    )
    assert is_bound is (asked_by_run == 7), "one that names its ask answers no other one"


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_the_first_that_is_stored_opens_the_session_of_its_pair() -> None:
    refused = talk("a", answers=Answering.REQUIRED)
    admission = admit([refused, talk("b", "bob", "alice"), talk("c")], view(NOTHING, NOTHING, NOTHING))
    assert admission.outcomes == [NotWaiting(None), Stored(session_id="session-b"), Stored(session_id="session-b")]
    assert [plan.opens for plan in plans_of(admission)] == [True, False]


def test_an_open_session_is_used_and_named_to_who_is_refused() -> None:
    found = replace(NOTHING, session_id="open")
    assert judge(talk("a"), talk("b", answers=Answering.REQUIRED), found=found) == [
        Stored(session_id="open"),
        NotWaiting("open"),
    ]


def test_a_call_is_judged_anew_each_time() -> None:
    groups = [question("a"), talk("b", "bob", "alice", answers=Answering.REQUIRED)]
    known = view(NOTHING, NOTHING)
    assert admit(groups, known).outcomes == admit(groups, known).outcomes


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_answer_ends_the_ask_of_the_store() -> None:
    found = replace(NOTHING, theirs=open_ask(), waiters=frozenset({"p"}))
    admission = admit([talk("a", answers=Answering.REQUIRED, notify=True)], view(found))
    ended = EndedAsk("ask-7", AskState.REPLIED, "origin")
    assert admission.outcomes == [Stored(session_id="session-a", answered=ended)]
    (plan,) = plans_of(admission)
    assert (plan.is_done, plan.answered, plan.notify) == (True, open_ask(), False)


def test_an_ask_that_may_end_meanwhile_is_not_answered() -> None:
    found = replace(NOTHING, theirs=open_ask(taken_within=OUTSIDE), is_answerable=False)
    groups = [talk("a", answers=Answering.REQUIRED), talk("b", answers=Answering.IF_TAKEN)]
    assert judge(*groups, found=found) == [NotWaiting(None), Stored(session_id="session-b", is_asked=True)]


def test_an_ask_is_answered_within_the_call_that_makes_it() -> None:
    answer = talk("b", "bob", "alice", answers=Answering.REQUIRED)
    admission = admit([question("a"), answer, replace(answer)], view(NOTHING, NOTHING, NOTHING))
    ended = EndedAsk("a", AskState.REPLIED, "owner")
    assert admission.outcomes == [
        Stored(session_id="session-a"),
        Stored(session_id="session-a", answered=ended),
        NotWaiting("session-a"),
    ]
    asked, answered = plans_of(admission)
    assert (asked.is_done, ask_of(asked).answer_id) == (True, "b")
    assert (answered.is_done, answered.answered) == (True, asked.ask)


def test_an_answer_may_itself_ask_and_is_taken_where_the_ask_was_made() -> None:
    found = replace(NOTHING, theirs=open_ask(taken_within=OUTSIDE, within=3))
    (plan,) = plans_of(admit([question("a")], view(found)))
    assert (ask_of(plan).seq, ask_of(plan).taken_within) == (-1, 3)
    found = replace(NOTHING, theirs=open_ask(taken_within=OUTSIDE))
    (plan,) = plans_of(admit([question("a")], view(found)))
    assert ask_of(plan).taken_within == OUTSIDE


def test_ping_pong_within_one_call() -> None:
    found = replace(NOTHING, theirs=open_ask(taken_within=OUTSIDE))
    back = replace(NOTHING, mine=open_ask(taken_within=OUTSIDE))
    groups = [question("a"), question("b", "bob", "alice"), question("c")]
    admission = admit(groups, view(found, back, found))
    answered = [outcome.answered and outcome.answered.ask_id for outcome in admission.outcomes]  # type: ignore[union-attr]
    assert answered == ["ask-7", "a", "b"]
    assert [plan.is_done for plan in plans_of(admission)] == [True, True, True]


def test_it_is_told_who_waits_and_that_the_recipient_goes_on_waiting() -> None:
    found = replace(NOTHING, theirs=open_ask(), waiters=frozenset({"p"}))
    assert judge(talk("a"), found=found) == [
        Stored(session_id="session-a", waiters=frozenset({"p"}), is_asked=True),
    ]


@pytest.mark.parametrize(
    ("found", "notifies"),
    [
        (NOTHING, True),
        (replace(NOTHING, waiters=frozenset({"p"})), False),
        (replace(NOTHING, theirs=open_ask()), False),
    ],
)
def test_a_notice_is_left_where_nobody_waits(found: Found, notifies: bool) -> None:
    (plan,) = plans_of(admit([talk("a", notify=True)], view(found)))
    assert plan.notify is notifies


# --- asks that are refused --------------------------------------------------------------------------------------------


def test_a_second_ask_is_refused_while_the_first_is_open() -> None:
    assert judge(question("a"), found=replace(NOTHING, mine=open_ask()), graph=NO_GRAPH) == [SessionLocked("ask-7")]
    assert judge(question("a"), question("b"), graph=NO_GRAPH) == [Stored(session_id="session-a"), SessionLocked("a")]


def test_a_second_ask_may_follow_the_answer_to_the_first() -> None:
    groups = [talk("a", "bob", "alice", answers=Answering.REQUIRED), question("b")]
    known = view(replace(NOTHING, theirs=open_ask()), replace(NOTHING, mine=open_ask()))
    assert [type(outcome) for outcome in admit(groups, known).outcomes] == [Stored, Stored]


def test_an_ask_that_must_be_expected_is_refused_where_nobody_waits() -> None:
    group = question("a", only_if_expected=True)
    assert judge(group) == [Unexpected()]
    assert isinstance(judge(group, found=replace(NOTHING, waiters=frozenset({"p"})))[0], Stored)
    assert isinstance(judge(group, found=replace(NOTHING, theirs=open_ask(taken_within=OUTSIDE)))[0], Stored)


def test_the_graph_is_read_only_where_the_new_ask_may_be_on_a_circle() -> None:
    waits = replace(NOTHING, asks_others=True)
    assert isinstance(judge(question("a"))[0], Stored)
    assert isinstance(judge(question("a"), found=replace(NOTHING, theirs=open_ask(taken_within=OUTSIDE)))[0], Stored)
    assert isinstance(judge(talk("a"), found=waits)[0], Stored)
    with pytest.raises(GraphMissing):
        judge(question("a"), found=waits)
    with pytest.raises(GraphMissing):
        judge(question("a"), found=replace(NOTHING, theirs=open_ask()))
    with pytest.raises(GraphMissing):
        judge(question("a"), found=replace(NOTHING, mine=open_ask()))
    with pytest.raises(GraphMissing):
        judge(question("a", "bob", "carol"), question("b"))
    assert isinstance(judge(question("a"), found=waits, graph=NO_GRAPH)[0], Stored)


def test_a_circle_through_asks_of_the_store_is_refused_with_its_path() -> None:
    graph = Graph([WaitingAsk(7, "bob", "carol", Place.QUEUED), WaitingAsk(8, "carol", "alice", Place.QUEUED)], {})
    found = replace(NOTHING, asks_others=True)
    assert judge(question("a"), found=found, graph=graph) == [MutualWait(["bob", "carol", "alice", "bob"])]
    served = Graph(graph.asks, {"carol": Staff(1)})
    assert isinstance(judge(question("a"), found=found, graph=served)[0], Stored)


def test_a_circle_within_one_call_is_refused_and_one_that_an_answer_opened_is_not() -> None:
    groups = [question("a"), question("b", "bob", "carol"), question("c", "carol", "alice")]
    assert judge(*groups, graph=NO_GRAPH)[2] == MutualWait(["alice", "bob", "carol", "alice"])
    answer = talk("d", "carol", "bob", answers=Answering.REQUIRED)
    assert isinstance(judge(*groups[:2], answer, groups[2], graph=NO_GRAPH)[3], Stored)


def test_an_ask_that_the_call_has_answered_closes_no_circle() -> None:
    graph = Graph([WaitingAsk(7, "bob", "alice", Place.QUEUED)], {})
    asked = replace(NOTHING, theirs=open_ask())
    assert judge(question("a"), found=asked, graph=graph) == [MutualWait(["bob", "alice", "bob"])]
    groups = [talk("a", answers=Answering.REQUIRED), question("b")]
    assert [type(outcome) for outcome in judge(*groups, found=asked, graph=graph)] == [Stored, Stored]


def test_of_an_ask_behind_another_the_circle_is_told_where_there_is_one() -> None:
    found = replace(NOTHING, mine=open_ask(), asks_others=True)
    mine = WaitingAsk(7, "alice", "bob", Place.QUEUED)
    graph = Graph([WaitingAsk(8, "bob", "alice", Place.QUEUED), mine], {})
    assert judge(question("a"), found=found, graph=graph) == [MutualWait(["bob", "alice", "bob"])]
    free = Graph([WaitingAsk(8, "bob", "carol", Place.QUEUED), mine], {})
    assert judge(question("a"), found=found, graph=free) == [SessionLocked("ask-7")]


def test_a_refused_ask_changes_nothing_for_those_behind_it() -> None:
    groups = [question("a", only_if_expected=True), question("b", "bob", "alice")]
    assert judge(*groups) == [Unexpected(), Stored(session_id="session-b")]
