"""Waiting for rows: what a hint costs while thousands wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import KeysView
from typing import Any

from agent_messaging.delivery.waiting import Waiters


class Scanned(dict[str, Any]):
    """Counts how often all of it is gone through."""

    scans = 0

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        self.scans += 1
        return super().keys()


async def test_a_thousand_looks_in_one_step_are_one_look_at_all_that_is_waited_for() -> None:
    asked: list[list[str]] = []

    async def find(ids: list[str]) -> dict[str, str | None]:
        asked.append(sorted(ids))
        return {"b": "here"}

    waiters = Waiters[str, str](find, LookupError)
    waiters._futures = scanned = Scanned()
    with contextlib.ExitStack() as stack:
        _, b, _ = [stack.enter_context(waiters.expect(id)) for id in "abc"]
        for _ in range(1_000):
            waiters.look()
            waiters.hint(["a", "nobody waits for this"])
        async with asyncio.timeout(10):
            assert await b == "here"
        assert (asked, scanned.scans) == ([["a", "b", "c"]], 1)
        waiters.hint("ab")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert asked[1:] == [["a"]], "what has come is not looked for again"
    await waiters.aclose()
