"""What limits the run of a handler, as its error names it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agent_messaging.delivery.runs import OF_ASK, OF_HANDLER, OF_TURN, Runs
from agent_messaging.exceptions import HandlerTimeoutError

SETTING = 30.0
RUNS: Any = SimpleNamespace(timeout=SETTING)


def handler(timeout: float | None) -> Any:
    return SimpleNamespace(timeout=timeout)


@pytest.mark.parametrize(
    ("own", "left", "limit"),
    [
        (None, None, (SETTING, HandlerTimeoutError.limit)),
        (None, 5.0, (5.0, OF_TURN)),
        (2.0, 5.0, (2.0, OF_HANDLER)),
        (9.0, 5.0, (5.0, OF_TURN)),
        (9.0, None, (9.0, OF_HANDLER)),
    ],
)
def test_a_turn(own: float | None, left: float | None, limit: tuple[float, str]) -> None:
    turn: Any = SimpleNamespace(left=left)
    assert Runs._turn_limit(RUNS, handler(own), turn) == limit


@pytest.mark.parametrize(
    ("own", "asked", "limit"),
    [
        (None, None, HandlerTimeoutError.limit),
        (2.0, None, OF_HANDLER),
        (None, 60.0, OF_ASK),
        (None, 5.0, HandlerTimeoutError.limit),
        (90.0, 60.0, OF_HANDLER),
    ],
)
def test_a_message(own: float | None, asked: float | None, limit: str) -> None:
    run: Any = SimpleNamespace(handler=handler(own), delivery=SimpleNamespace(ask_timeout=asked))
    timeout, named = Runs._limit(RUNS, run)
    assert named == limit
    assert timeout >= (asked if limit == OF_ASK and asked is not None else own or SETTING)
