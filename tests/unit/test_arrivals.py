"""Who is woken when something to pull arrives."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from agent_messaging.delivery.arrivals import Arrivals
from agent_messaging.models import Kind

BOB, CAROL = ("bob", Kind.ONE_WAY), ("carol", Kind.ONE_WAY)


async def test_each_hint_wakes_the_next_in_the_queue() -> None:
    arrivals = Arrivals()
    with ExitStack() as stack:
        places = [stack.enter_context(arrivals.place(BOB)) for _ in range(3)]
        waits = [asyncio.create_task(place.wait(None)) for place in places]
        await asyncio.sleep(0)
        arrivals.arrived([BOB])
        assert [place.is_woken for place in places] == [True, False, False]
        arrivals.arrived([CAROL, BOB])
        assert [place.is_woken for place in places] == [True, True, False]
        arrivals.arrived([BOB, BOB])  # the last one, and nobody is left to be told
        assert await asyncio.gather(*waits) == [True, True, True]
        assert [place.is_woken for place in places] == [False, False, False]


async def test_a_hint_while_the_only_one_looks_lets_it_look_again() -> None:
    arrivals = Arrivals()
    with arrivals.place(BOB) as place:
        arrivals.arrived([BOB])
        assert await place.wait(None) is True
        assert await place.wait(asyncio.get_running_loop().time()) is False


@pytest.mark.parametrize("fails", [True, False])
async def test_who_leaves_hands_on_what_it_was_told(fails: bool) -> None:
    arrivals = Arrivals()
    with arrivals.place(BOB) as behind:
        waiting = asyncio.create_task(behind.wait(None))
        await asyncio.sleep(0)
        try:
            with arrivals.place(BOB) as place:
                if fails:
                    raise RuntimeError
                place.wake()
        except RuntimeError:
            pass
        assert await waiting is True


async def test_a_waiter_that_is_cancelled_when_it_was_woken_hands_it_on() -> None:
    arrivals = Arrivals()

    async def wait() -> None:
        with arrivals.place(BOB) as place:
            await place.wait(None)

    first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
    await asyncio.sleep(0)
    arrivals.arrived([BOB])
    first.cancel()
    await asyncio.wait_for(second, 5)
    assert first.cancelled()


async def test_who_leaves_untold_wakes_nobody_and_nothing_is_kept() -> None:
    arrivals = Arrivals()
    with arrivals.place(BOB) as place, arrivals.place(BOB):
        assert await place.wait(asyncio.get_running_loop().time()) is False
    assert arrivals._queues == {}
    arrivals.arrived([BOB])


async def test_all_can_be_woken_or_those_of_one_agent() -> None:
    arrivals = Arrivals()
    with arrivals.place(BOB) as one, arrivals.place(BOB) as other, arrivals.place(CAROL) as carol:
        arrivals.wake_all(of="bob".__eq__)
        assert (one.is_woken, other.is_woken, carol.is_woken) == (True, True, False)
        arrivals.wake_all()
        assert carol.is_woken
