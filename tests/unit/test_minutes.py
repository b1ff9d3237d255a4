"""What acts on meetings write: what becomes of an act, and the rows that it leaves, without a store."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from agent_messaging.models import MeetingStatus, ParticipantStatus, SpeakerSelection
from agent_messaging.storage.acts import Wanted
from agent_messaging.storage.assembly.terms import (
    Act,
    Assembly,
    Attend,
    Changes,
    CurrentTurn,
    End,
    Leave,
    Purpose,
    Refused,
    Seat,
    Skip,
    Speak,
    Why,
)
from agent_messaging.storage.minutes import Meeting, Minutes, Question, judge
from agent_messaging.storage.ports import Acted, Claim, Duplicate, KeyConflict, NewSpeech, TurnRow

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT = 30.0
SPEECH = NewSpeech("speech", '"hello"', None, 1, "k", "f")


def meeting(number: int | None = 3, holder: str = "a") -> Meeting:
    """Of a host, a and b; a has the third turn, or nobody has begun."""
    is_active = number is not None
    status = ParticipantStatus.WAITING if is_active else ParticipantStatus.INVITED
    seats = tuple(Seat(name, order, status) for order, name in enumerate(("host", "a", "b")))
    turn = None if number is None else TurnRow(number, holder, Purpose.SPEAK, NOW, NOW + timedelta(seconds=9), 9.0)
    return Meeting(
        "m",
        NOW,
        Assembly(
            "host",
            MeetingStatus.ACTIVE if is_active else MeetingStatus.CREATED,
            SpeakerSelection.ROUND_ROBIN,
            LIMIT,
            seats,
            None if turn is None else CurrentTurn(turn.number, holder, Purpose.SPEAK, is_over=False),
            None,
        ),
        turn,
        delivery_seq=None if turn is None else 70,
        max_attempts=5,
        processes={"host": "p-host", "a": "p-a", "b": None},
        external_ids={"host": "the host", "a": "alice", "b": "bob"},
        claimant="p-runner",
    )


def question(of: Meeting | None) -> Question:
    return Question(of, said_in=None, use=None, is_claim_open=False)


def written(
    act: Act, of: Meeting, *, speech: NewSpeech | None = None, claim: Claim | None = None
) -> tuple[Minutes, Acted]:
    wanted = Wanted("m", act, "p", speech, claim)
    changes = judge(wanted, replace(question(of), is_claim_open=True))
    assert isinstance(changes, Changes)
    minutes = Minutes("p")
    return minutes, minutes.add(wanted, of, changes)


# --- what becomes of an act -------------------------------------------------------------------------------------------


def test_a_speech_that_is_stored_is_answered_before_all_else_and_everybody_told_again() -> None:
    wanted = Wanted("m", Speak("a"), "p", SPEECH, Claim(1, 1, 1))
    asked = Question(meeting(), said_in=2, use=("other", ["x"]), is_claim_open=False)
    told = {"p-host", "p-a"}
    assert judge(wanted, asked) == Acted(MeetingStatus.ACTIVE, meeting().turn, 2, "speech", told)


def test_a_key_is_judged_before_the_meeting_is_looked_at() -> None:
    wanted = Wanted("m", Speak("a"), "p", SPEECH)
    assert judge(wanted, replace(question(None), use=("f", ["x"]))) == Duplicate(["x"])
    assert judge(wanted, replace(question(None), use=("other", ["x"]))) == KeyConflict()
    assert judge(wanted, question(None)) is None


def test_an_act_under_a_claim_that_is_lost_is_refused_with_who_has_the_turn() -> None:
    wanted = Wanted("m", Speak("a"), "p", SPEECH, Claim(1, 1, 1))
    assert judge(wanted, question(meeting())) == Refused(Why.TURN_LOST, MeetingStatus.ACTIVE, "a", 3)
    assert judge(wanted, question(meeting(None))) == Refused(Why.TURN_LOST, MeetingStatus.CREATED)
    assert isinstance(judge(wanted, replace(question(meeting()), is_claim_open=True)), Changes)


# --- what it leaves ---------------------------------------------------------------------------------------------------


def test_a_speech_ends_its_turn_and_calls_up_the_next() -> None:
    minutes, acted = written(Speak("a"), meeting(), speech=SPEECH, claim=Claim(70, 1, 1))
    said, duty = minutes.messages
    assert said == ("m", "speech", "meeting", "user_defined", "a", None, '"hello"', None, 1, 5, None)
    assert (said[1], duty[2], duty[4], duty[5], duty[10]) == ("speech", "turn", "host", "b", LIMIT)
    assert minutes.ended == [("m", 3, "spoke", 1)]
    assert minutes.turns == [("m", 4, "b", "speak", None, LIMIT, None, 2, None)]
    assert minutes.meetings == [("m", "active", 4, 1, False, None, None, None, None, None)]
    assert minutes.closed == [("m", 70, "done")]
    assert minutes.keys == [("a", "k", "f", "speech")]
    assert {row[5] for row in minutes.events} == {1, None}
    turn = TurnRow(4, "b", Purpose.SPEAK, NOW, NOW + timedelta(seconds=LIMIT), LIMIT)
    assert acted == Acted(MeetingStatus.ACTIVE, turn, 3, "speech", set(), seats=3)


def test_an_act_without_the_claim_withdraws_the_duty_and_tells_who_runs_it() -> None:
    minutes, acted = written(Skip("host"), meeting())
    assert minutes.closed == [("m", 70, "withdrawn")]
    assert (acted.ended_turn, acted.processes) == (3, {"p-runner"})


def test_who_attends_names_its_process_and_changes_no_meeting() -> None:
    minutes, acted = written(Attend("a"), meeting(None))
    assert minutes.seats == [("m", "a", "attending", "p")]
    assert (minutes.meetings, minutes.closed, acted.turn) == ([], [], None)
    assert json.loads(minutes.messages[0][6]) == {"type": "participant_joined", "agent": "alice"}


def test_who_leaves_is_told_with_who_has_the_turn_now_and_loses_its_invitation() -> None:
    minutes, acted = written(Leave("a"), meeting(holder="a"))
    assert minutes.invitations == [("m", "a")]
    assert minutes.told == {"m": {"a", "b"}}
    assert acted.processes == {"p-a", "p-runner"}


def test_the_end_is_told_to_all_and_leaves_no_turn() -> None:
    minutes, acted = written(End("host"), meeting())
    assert minutes.meetings == [("m", "ended", None, 1, False, None, None, None, None, "host_ended")]
    assert minutes.invitations == [("m", None)]
    assert (acted.turn, acted.processes) == (None, {"p-host", "p-a", "p-runner"})
    assert minutes.most_seats == 3
