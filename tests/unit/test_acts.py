"""Which acts on meetings may share a transaction."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent_messaging.storage.acts import Wanted, first_round, rounds
from agent_messaging.storage.assembly.terms import Pass, Speak
from agent_messaging.storage.ports import Claim, NewSpeech


def wanted(meeting: str, *, says: bool = True, key: str | None = None, claim: Claim | None = None) -> Wanted:
    """An act of alice's."""
    if not says:
        return Wanted(meeting, Pass("alice"), "process", claim=claim)
    return Wanted(meeting, Speak("alice"), "process", NewSpeech("id", "1", None, 1, key), claim)


def test_acts_of_different_meetings_go_together() -> None:
    assert first_round([wanted("a"), wanted("b"), wanted("c")]) == [0, 1, 2]


def test_of_one_meeting_and_of_one_key_the_first_goes() -> None:
    assert first_round([wanted("a"), wanted("a"), wanted("b", key="k"), wanted("c", key="k")]) == [0, 2]


def test_only_those_go_together_that_lock_and_repeat_alike() -> None:
    assert first_round([wanted("a"), wanted("b", says=False), wanted("c", claim=Claim(1, 1, 1)), wanted("d")]) == [0, 3]


def test_no_act_overtakes_one_of_its_meeting() -> None:
    assert list(rounds([wanted("a"), wanted("b", says=False), wanted("b"), wanted("c")])) == [[0, 3], [1], [2]]


@given(
    st.lists(
        st.builds(
            wanted,
            st.sampled_from("abcd"),
            says=st.booleans(),
            key=st.sampled_from([None, "k", "l"]),
            claim=st.sampled_from([None, Claim(1, 1, 1)]),
        ),
        max_size=12,
    )
)
def test_rounds_take_each_act_once_in_the_order_of_its_meeting(acts: list[Wanted]) -> None:
    taken = [position for round in rounds(acts) for position in round]
    assert sorted(taken) == list(range(len(acts)))
    for round in rounds(acts):
        marks: list[Any] = [acts[position].meeting_id for position in round]
        marks += [key for position in round if (key := acts[position].key) is not None]
        assert len(set(marks)) == len(marks)
        assert len({acts[position].is_like for position in round}) == 1
    for meeting in "abcd":
        mine = [position for position in taken if acts[position].meeting_id == meeting]
        assert mine == sorted(mine)
