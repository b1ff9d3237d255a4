"""The machine of conversations is worth its word: a fault in how asks are passed on does not get past it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from agent_messaging.storage.sqlite import forwarding
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.conversation_machine import ConversationMachine

FAULTS = {
    "the run keeps its claim": ("forward_end_delivery", "state = 'done', ", ""),
    "it can be handled twice": (
        "forward_end_delivery",
        "state = 'done'",
        "state = iif(state = 'claimed', 'done', state)",
    ),
    "its deadline is another": (
        "forward_move_ask",
        "responder_id",
        "deadline_at = deadline_at + 1000000, responder_id",
    ),
}
"""The block of SQL, what it says, and what it says with the fault."""
BESIDE = ("serve", "wait", "remove_wait", "take", "take_notices", "end", "end_again", "end_process", "redrive", "close")
"""Rules that would take most of the steps, and have nothing to do with it."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    block, right, wrong = FAULTS[fault]
    sql = forwarding._SQL[block]
    assert right in sql
    monkeypatch.setitem(forwarding._SQL.blocks, block, sql.replace(right, wrong, 1))
    with asyncio.Runner() as runner:

        class Machine(ConversationMachine):
            def __init__(self) -> None:
                super().__init__(lambda: SQLiteStore(":memory:"), runner)

        for name in BESIDE:
            setattr(Machine, name, None)
        with pytest.raises(Exception):  # noqa: B017 - whichever check sees it first
            run_state_machine_as_test(
                Machine,
                settings=settings(
                    max_examples=300,
                    stateful_step_count=30,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                ),
            )
