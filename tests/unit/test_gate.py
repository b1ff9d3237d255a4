"""How many connections calls use: one as long as that will do, more for calls that wait long, or all the time."""

from __future__ import annotations

import asyncio

import pytest

from agent_messaging.storage.postgres.gate import Gate

SOON = 10.0


async def call(gate: Gate, seconds: float) -> None:
    """Use a connection for so long."""
    await gate.enter(SOON)
    await asyncio.sleep(seconds)
    gate.leave()


async def test_calls_that_wait_for_each_other_all_the_time_get_another_connection() -> None:
    gate = Gate(1, 5, idle=60.0)
    for _ in range(500):
        await asyncio.gather(call(gate, 0.002), call(gate, 0.002))
        if gate.limit > 1:
            break
    assert gate.limit == 2
    gate.close()


async def test_a_few_calls_that_come_together_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, now = Gate(1, 5, idle=60.0), asyncio.get_running_loop().time()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)  # they come at once, however slow the machine
    await asyncio.gather(*(call(gate, 0.0) for _ in range(20)))
    assert gate.limit == 1
    gate.close()


async def test_it_is_back_at_the_least_when_nobody_has_waited_for_a_while() -> None:
    gate = Gate(1, 5, idle=0.0)
    gate.limit = 3
    await call(gate, 0.001)
    assert gate.limit == 1
    gate.close()
