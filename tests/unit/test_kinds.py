"""A new kind is entered in one table, and the doctor knows what to say of it."""

from __future__ import annotations

from agent_messaging.cli import unserved
from agent_messaging.kinds import CONTEXT_OF_KIND, FACTS, KIND_OF_WORD
from agent_messaging.models import HandlerContext, Kind


def test_each_kind_has_its_facts() -> None:
    assert set(FACTS) == set(Kind)
    assert sorted(CONTEXT_OF_KIND.values(), key=str) == sorted(HandlerContext, key=str)
    assert set(KIND_OF_WORD.values()) <= set(CONTEXT_OF_KIND), "what is delivered is handled"


def test_the_doctor_judges_each_kind_that_is_delivered() -> None:
    assert set(unserved.JUDGES) == set(KIND_OF_WORD.values())
