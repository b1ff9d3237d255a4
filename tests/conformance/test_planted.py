"""The machine of conversations is worth its word: a fault in passing asks on, or in threads, does not get past it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from agent_messaging.storage.ports import MAIN
from agent_messaging.storage.sqlite import forwarding, pairs
from agent_messaging.storage.sqlite.sessions import SQLiteSessions
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.conversation_machine import ConversationMachine

Plant = Callable[[pytest.MonkeyPatch], None]

FAULTS = {
    "the run keeps its claim": ("forward_end_delivery", "state = 'done', ", ""),
    "it can be handled twice": (
        "forward_end_delivery",
        "state = 'done'",
        "state = iif(state = 'claimed', 'done', state)",
    ),
    "its deadline is another": (
        "forward_insert_delivery",
        "ask_deadline_at\nfrom deliveries",
        "ask_deadline_at + 1000000\nfrom deliveries",
    ),
}
"""The block of SQL, what it says, and what it says with the fault."""
BESIDE = (
    "answer",
    "serve",
    "wait",
    "remove_wait",
    "take",
    "take_notices",
    "end",
    "end_again",
    "end_process",
    "redrive",
    "close",
)
BESIDE_THREADS = ("serve", "remove_wait", "take_notices", "end_again", "end_process", "redrive", "close", "advance")
"""Rules that would take most of the steps, and have nothing to do with it."""


def reading_is_of_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    read = SQLiteSessions.read_messages

    async def read_all(self: Any, recipient_id: str, **options: Any) -> Any:
        return await read(self, recipient_id, **options | {"thread": None})

    monkeypatch.setattr(SQLiteSessions, "read_messages", read_all)


def taking_is_of_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    take = SQLiteSessions.take_awaited

    async def take_any(self: Any, recipient_id: str, sender_id: str, **options: Any) -> Any:
        return await take(self, recipient_id, sender_id, **options | {"thread": None})

    monkeypatch.setattr(SQLiteSessions, "take_awaited", take_any)


def waits_hold_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    register = SQLiteSessions.register_wait

    async def register_for_all(self: Any, wait: Any, **options: Any) -> Any:
        return await register(self, replace(wait, thread=None), **options)

    monkeypatch.setattr(SQLiteSessions, "register_wait", register_for_all)


def ending_is_of_the_main_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    end = SQLiteSessions.end_session

    async def end_main(self: Any, agent_id: str, other_id: str, ending: Any, thread: str = MAIN, **options: Any) -> Any:
        return await end(self, agent_id, other_id, ending, MAIN, **options)

    monkeypatch.setattr(SQLiteSessions, "end_session", end_main)


def replies_find_no_other_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "find_threads", lambda groups, found: {})


def a_message_in_a_thread_is_stored_in_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    find = pairs.find

    def find_main(connection: Any, groups: Any, sessions: Any, instant: Any) -> Any:
        return find(connection, [replace(group, thread=MAIN) for group in groups], [0] * len(sessions), instant)

    monkeypatch.setattr(pairs, "find", find_main)


THREAD_FAULTS = (
    reading_is_of_all_threads,
    taking_is_of_all_threads,
    waits_hold_all_threads,
    ending_is_of_the_main_thread,
    replies_find_no_other_thread,
    a_message_in_a_thread_is_stored_in_the_main_one,
)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_passing_on_is_found(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    block, right, wrong = FAULTS[fault]
    sql = forwarding._SQL[block]
    assert right in sql
    monkeypatch.setitem(forwarding._SQL.blocks, block, sql.replace(right, wrong, 1))
    find_a_fault(without=BESIDE)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("plant", THREAD_FAULTS)
def test_a_fault_in_threads_is_found(monkeypatch: pytest.MonkeyPatch, plant: Plant) -> None:
    plant(monkeypatch)
    find_a_fault(without=(*BESIDE_THREADS, "forward"), derandomize=True)  # else it is luck how soon it is found


def find_a_fault(without: Collection[str], *, derandomize: bool = False) -> None:
    """Run the machine, without these rules, until it finds one."""
    with asyncio.Runner() as runner:

        class Machine(ConversationMachine):
            def __init__(self) -> None:
                super().__init__(lambda: SQLiteStore(":memory:"), runner)

        for name in without:
            setattr(Machine, name, None)
        with pytest.raises(Exception):  # noqa: B017 - whichever check sees it first
            run_state_machine_as_test(
                Machine,
                settings=settings(
                    max_examples=300,
                    stateful_step_count=30,
                    deadline=None,
                    database=None,
                    derandomize=derandomize,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                ),
            )
