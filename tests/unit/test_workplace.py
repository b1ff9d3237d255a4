"""The store of the tasks where it is apart: it is opened in the background, whatever goes wrong at first."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agent_messaging.delivery import workplace
from agent_messaging.delivery.timer import Timer
from agent_messaging.delivery.trouble import Trouble
from agent_messaging.delivery.workplace import Workplace


async def test_a_store_whose_opening_fails_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workplace, "PAUSE", 0.0)
    failures = [RuntimeError("It is a fault, and no outage.")]

    async def nothing(*_: object) -> None: ...

    async def open() -> None:
        if failures:
            raise failures.pop()

    store: Any = SimpleNamespace(
        open=open,
        aclose=nothing,
        location="redis://somewhere",
        presence=SimpleNamespace(start=nothing, process_id="me"),
        processes=SimpleNamespace(retire=nothing),
    )
    place = Workplace(store, Timer(), Trouble(), is_apart=True)
    place.need()
    await asyncio.wait_for(place.wait_until_open(), 5.0)
    await place.aclose(1.0)
