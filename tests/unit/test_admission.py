"""Which message is the answer to an open ask: the rule by itself."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from agent_messaging.storage.admission import OUTSIDE, is_answer
from agent_messaging.storage.ports import Answering


@dataclass
class Ask:
    seq: int = 7
    taken_within: int | None = None


@pytest.mark.parametrize("how", [None, *Answering])
def test_where_nobody_waits_nothing_is_an_answer(how: Answering | None) -> None:
    assert not is_answer(how, None, asked_by_run=None)


@pytest.mark.parametrize("taken_within", [None, OUTSIDE, 3])
def test_what_is_not_meant_to_answer_does_not(taken_within: int | None) -> None:
    assert not is_answer(None, Ask(taken_within=taken_within), asked_by_run=None)


@pytest.mark.parametrize(("taken_within", "answers"), [(None, False), (OUTSIDE, True), (3, False), (7, False)])
def test_the_next_message_answers_what_was_taken_outside_any_run(taken_within: int | None, answers: bool) -> None:
    assert is_answer(Answering.IF_TAKEN, Ask(taken_within=taken_within), asked_by_run=None) is answers


@pytest.mark.parametrize("taken_within", [None, OUTSIDE, 3])
@pytest.mark.parametrize(("asked_by_run", "answers"), [(None, True), (7, True), (6, False)])
def test_a_reply_answers_whoever_has_the_ask_but_in_a_run_only_its_own(
    taken_within: int | None, asked_by_run: int | None, answers: bool
) -> None:
    assert is_answer(Answering.REQUIRED, Ask(taken_within=taken_within), asked_by_run=asked_by_run) is answers
