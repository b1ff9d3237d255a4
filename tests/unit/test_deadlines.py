"""Deadlines share one timer: it is set for the first of them, and goes on to the next."""

from __future__ import annotations

import asyncio

from agent_messaging.delivery.deadlines import GRAIN, Deadlines


class Caller:
    """It keeps when it was told."""

    def __init__(self) -> None:
        self.told_at: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def fall_due(self) -> None:
        self.told_at.set_result(asyncio.get_running_loop().time())


async def test_each_is_told_at_its_time_also_behind_one_that_has_gone_and_before_one_that_came_first() -> None:
    deadlines, now = Deadlines(), asyncio.get_running_loop().time()
    gone, late, early, earliest = Caller(), Caller(), Caller(), Caller()
    tick = deadlines.add(gone, now + 2 * GRAIN)
    deadlines.add(late, now + 8 * GRAIN)
    deadlines.discard(gone, tick)  # the timer stays where it is, and is set for the next when it comes
    deadlines.add(early, now + 5 * GRAIN)
    deadlines.add(earliest, now + GRAIN)
    async with asyncio.timeout(30):
        told_at = [await one.told_at for one in (earliest, early, late)]
    assert told_at == sorted(told_at)
    for at, least in zip(told_at, (1, 5, 8), strict=True):
        assert at >= now + least * GRAIN - 0.001, "none before its time"
    assert not gone.told_at.done()
