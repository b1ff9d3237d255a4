"""The rules of meetings that end by themselves, each bound by hand. `test_assembly` tries them at random."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent_messaging.models import MeetingEnd, MeetingEventType, MessageType, TurnEnd
from agent_messaging.storage.assembly.rules import decide
from agent_messaging.storage.assembly.terms import (
    Act,
    Assembly,
    Bounds,
    Choose,
    Close,
    CurrentTurn,
    Leave,
    Pass,
    Refused,
    Skip,
    Speak,
    Start,
    TimeOut,
    Vanish,
    Why,
)
from tests.unit.test_assembly import (
    ATTENDING,
    CUSTOM,
    ENDED,
    LEFT,
    OVER,
    SELECT,
    SPEAK,
    active,
    change,
    events,
    next_turn,
    ready,
    selecting,
)


@pytest.mark.parametrize(
    ("act", "how"),
    [
        (Speak("a", 7), TurnEnd.SPOKE),
        (Pass("a", 7), TurnEnd.PASSED),
        (Skip("host", 7), TurnEnd.SKIPPED),
        (Leave("a"), TurnEnd.LEFT),
        (Vanish("a"), TurnEnd.LEFT),
    ],
)
def test_with_its_last_turn_it_ends_however_that_ends(act: Act, how: TurnEnd) -> None:
    changes = change(replace(active(), turns_left=1), act)
    assert (changes.status, changes.end_reason, changes.turn) == (ENDED, MeetingEnd.MAX_TURNS, None)
    assert changes.ended == [(None, how)]
    assert set(changes.seats.values()) <= {ATTENDING, LEFT}
    assert events(changes)[-1] == (
        MeetingEventType.MEETING_ENDED,
        "host",
        {"host_id": "host", "reason": "max_turns"},
    )
    assert changes.notes[-1].content["reason"] == "max_turns"
    assert change(replace(active(), turns_left=2), act).end_reason is None


def test_the_last_turn_that_runs_out_is_told_before_the_ending() -> None:
    changes = change(replace(OVER, turns_left=1), TimeOut(7))
    assert changes.ended == [(None, TurnEnd.TIMED_OUT)]
    kinds = [event.type for event in changes.events]
    assert kinds == [MeetingEventType.TIMEOUT_OCCURRED, MeetingEventType.MEETING_ENDED]
    assert [note.type for note in changes.notes] == [MessageType.TIMEOUT, MessageType.ENDING]
    assert changes.notes[0].content["next_speaker"] is None


def test_an_opening_counts_as_a_turn() -> None:
    changes = change(replace(ready(), turns_left=1), Start("host", has_message=True))
    assert (changes.status, changes.starts, changes.end_reason) == (ENDED, Bounds(), MeetingEnd.MAX_TURNS)
    assert changes.events[0].type is MeetingEventType.MEETING_STARTED
    assert set(changes.seats.values()) == {ATTENDING}
    assert change(replace(ready(), turns_left=1), Start("host")).end_reason is None


def test_no_turn_lasts_longer_than_the_meeting() -> None:
    first = change(replace(ready(), left=10.0), Start("host")).turn
    assert first is not None
    assert first.limit == 10.0
    following = change(replace(active(), left=4.0), Pass("a")).turn
    assert following is not None
    assert following.limit == 4.0
    selected = change(replace(active(selection=CUSTOM), left=4.0), Pass("a")).turn
    assert selected is not None
    assert selected.limit == 4.0


@pytest.mark.parametrize("standing", [OVER, selecting(is_over=True)])
def test_its_time_goes_before_that_of_the_turn(standing: Assembly) -> None:
    changes = change(replace(standing, left=0.0, turns_left=1), TimeOut(7))
    assert (changes.status, changes.end_reason) == (ENDED, MeetingEnd.MAX_DURATION)
    assert changes.ended == [(None, TurnEnd.MEETING_ENDED)]
    assert [event.type for event in changes.events] == [MeetingEventType.MEETING_ENDED]


def test_behind_its_time_no_turn_begins() -> None:
    late: list[tuple[Assembly, Act]] = [
        (active(), Skip("host", 7)),
        (active(), Leave("a")),
        (selecting(), Choose(7, "b")),
    ]
    for standing, act in late:
        assert change(replace(standing, left=-1.0), act).end_reason is MeetingEnd.MAX_DURATION


def test_the_hosts_process_is_asked_after_each_turn_whether_it_ends() -> None:
    asked = replace(active(), end_when=True)
    changes = change(asked, Speak("a", 7))
    assert next_turn(changes) == (8, "host", SELECT)
    assert changes.turn is not None
    assert changes.turn.next_id == "b"
    waiting = replace(asked, turn=CurrentTurn(8, "host", SELECT, is_over=False, next_id="b"))
    assert next_turn(change(waiting, Choose(8, None))) == (9, "b", SPEAK)
    ended_ = change(waiting, Close(8, MeetingEnd.END_WHEN))
    assert (ended_.status, ended_.end_reason, ended_.turn) == (ENDED, MeetingEnd.END_WHEN, None)
    late = replace(waiting, turn=CurrentTurn(8, "host", SELECT, is_over=True, next_id="b"))
    assert next_turn(change(late, TimeOut(8))) == (9, "b", SPEAK), "without its process the meeting goes on"


def test_who_was_to_follow_may_have_left_meanwhile() -> None:
    gone = replace(active(left="b"), turn=CurrentTurn(8, "host", SELECT, is_over=False, next_id="b"))
    assert next_turn(change(gone, Choose(8, None))) == (9, "c", SPEAK)


def test_the_speaker_that_was_named_follows_though_the_host_is_asked() -> None:
    changes = change(replace(active(), end_when=True), Speak("a", 7, next_id="c"))
    assert changes.turn is not None
    assert (changes.turn.purpose, changes.turn.next_id) == (SELECT, "c")


def test_only_in_a_turn_for_selecting_can_the_hosts_process_end_it() -> None:
    refused = decide(active(), Close(7, MeetingEnd.NOBODY))
    assert isinstance(refused, Refused)
    assert refused.why is Why.TURN_LOST
    assert change(selecting(), Close(7, MeetingEnd.NOBODY)).end_reason is MeetingEnd.NOBODY


def test_a_silent_host_has_no_turn_unless_it_is_named() -> None:
    silent = replace(active("c"), host_speaks=False)
    assert next_turn(change(silent, Speak("c", 7))) == (8, "a", SPEAK)
    assert next_turn(change(silent, Speak("c", 7, next_id="host"))) == (8, "host", SPEAK)
    assert next_turn(change(replace(ready(), host_speaks=False), Start("host"))) == (1, "a", SPEAK)


def test_when_nobody_is_left_beside_a_silent_host_it_ends() -> None:
    changes = change(replace(active("c", left="ab"), host_speaks=False), Leave("c"))
    assert (changes.status, changes.end_reason) == (ENDED, MeetingEnd.NOBODY)
    assert changes.seats == {"host": ATTENDING, "c": LEFT}
