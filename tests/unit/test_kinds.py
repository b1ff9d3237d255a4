"""A new kind is entered wherever kinds are listed: one that is forgotten there is not shown, and no error says so."""

from __future__ import annotations

import inspect

from agent_messaging.cli import mailbox, unserved
from agent_messaging.handlers.registry import CONTEXT_OF_KIND
from agent_messaging.models import HandlerContext, Kind

WITHOUT_HANDLERS = {Kind.MEETING, Kind.EVENTS}
"""What is said in a meeting has no delivery; handlers of events are not registered for agents."""
DELIVERED = set(Kind) - WITHOUT_HANDLERS - {Kind.NOTIFICATION}


def test_each_kind_that_handlers_serve_has_its_context() -> None:
    assert set(CONTEXT_OF_KIND) == set(Kind) - WITHOUT_HANDLERS
    assert set(CONTEXT_OF_KIND.values()) == set(HandlerContext)


def test_the_command_line_shows_each_kind_that_is_delivered() -> None:
    assert {Kind(kind) for kind in mailbox.KINDS.values()} == DELIVERED
    judged = inspect.getsource(unserved.look_at_unserved)
    assert {kind for kind in Kind if f"Kind.{kind.name}," in judged} == DELIVERED
