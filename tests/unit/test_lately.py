"""What is remembered of meetings in which this process alone acts, and when it is given up."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from agent_messaging.delivery.meetings import lately as module
from agent_messaging.delivery.meetings.lately import Lately
from agent_messaging.models import MeetingStatus
from agent_messaging.storage.assembly.terms import Act, Choose, Pass, Purpose, Skip, Speak
from agent_messaging.storage.ports import Acted, NewSpeech, TurnRow

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Memory:
    """Of a meeting of a, b and c, who speak in turns; `number` is the turn that is current."""

    def __init__(self, recent: int = 100) -> None:
        self.lately = Lately(recent)
        self.number = 1
        self.seats = 3

    def act(self, act: Act | None, next_id: str, *, text: str | None = None, ended: int | None = None) -> None:
        turn = TurnRow(self.number + 1, next_id, Purpose.SPEAK, NOW, None, None)
        acted = Acted(MeetingStatus.ACTIVE, turn, ended or self.number, text, seats=self.seats)
        self.number += 1
        self.lately.acted("m", acted, act, None if text is None else NewSpeech(text, f'"{text}"', None, 0))

    def speak(self, *speakers: str) -> None:
        for speaker in speakers:
            self.act(Speak(speaker), "bca"["abc".index(speaker)], text=f"{speaker}{self.number}")

    def since(self, agent_id: str) -> list[str] | None:
        said = self.lately.since("m", agent_id)
        return None if said is None else [row.message_id for row in said]


def test_what_was_said_since_ones_last_speech_is_remembered() -> None:
    memory = Memory()
    assert memory.since("a") is None
    memory.speak("a", "b", "c")
    assert memory.since("a") == ["b2", "c3"]
    assert memory.since("c") == []
    assert memory.since("d") is None
    memory.act(Pass("a"), "b")
    memory.act(Choose(5, "b"), "b")
    memory.speak("b")
    assert (memory.since("a"), memory.since("b")) == (["b2", "c3", "b6"], [])
    memory.lately.forget("m")
    assert memory.since("a") is None


@pytest.mark.parametrize("how", ["note", "handler failed", "time", "elsewhere", "somebody left", "a repeat"])
def test_a_gap_or_a_note_ends_the_memory(how: str) -> None:
    memory = Memory()
    memory.speak("a", "b")
    match how:
        case "note":
            memory.act(Skip("a"), "a")
        case "handler failed":
            memory.act(Pass("c", reason="it fell"), "a")
        case "time":
            memory.act(None, "a")
        case "elsewhere":
            memory.number += 1
        case "somebody left":
            memory.seats = 2
        case "a repeat":
            memory.act(Speak("b"), "a", text="b2", ended=2)
    memory.speak("a")
    assert (memory.since("b"), memory.since("a")) == (None, [])


def test_who_sat_down_here_waits_without_a_look_until_anything_may_have_happened() -> None:
    memory = Memory()
    lately = memory.lately
    for agent in "ab":
        lately.sat("m", agent, "here")
    assert not lately.is_waiting("m", "a", "here"), "nothing is known"
    memory.speak("a")
    assert lately.is_waiting("m", "a", "here")
    assert not lately.is_waiting("m", "b", "here"), "it has the turn"
    assert not lately.is_waiting("m", "c", "here"), "another process may be woken for it"
    assert not lately.is_waiting("m", "a", "anew"), "others took this process for dead"
    lately.look()
    assert not lately.is_waiting("m", "a", "here")
    memory.speak("b")
    assert lately.is_waiting("m", "a", "here")
    lately.forget("m")
    assert not lately.is_waiting("m", "a", "here")


def test_an_answer_that_comes_late_says_nothing_of_who_waits_now() -> None:
    for overtaken_here in (True, False):
        memory = Memory()
        lately = memory.lately
        lately.sat("m", "a", "here")
        looks = lately.begin("m")
        acted = Acted(MeetingStatus.ACTIVE, TurnRow(2, "b", Purpose.SPEAK, NOW, None, None), 1, "a1", seats=3)
        if overtaken_here:
            memory.number = 2
            memory.speak("b")
        else:
            lately.look()
        lately.end("m")
        lately.acted("m", acted, Speak("a"), NewSpeech("a1", '"a1"', None, 0), looks)
        assert not lately.is_waiting("m", "a", "here")
        memory.number = 2
        memory.speak("b")
        assert lately.is_waiting("m", "a", "here")


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(recent=2)
    memory.speak("a", "b", "c")
    assert (memory.since("a"), memory.since("b")) == (None, ["c3"])
    monkeypatch.setattr(module, "MOST_BYTES", 16)
    memory.speak("a")
    assert memory.since("a") == []
    memory.speak("b")
    assert memory.since("a") is None
    memory.speak("c", "a")
    assert memory.since("c") == ["a7"]
