"""Calls that come together: one trip for all, and the failure of one is not the others'."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from agent_messaging.exceptions import DatabaseError, OutcomeUnknownError, StorageBusyError, StorageUnavailableError
from agent_messaging.storage.batcher import ALONE, Alone, Batcher, batch_reads


class Server:
    """Doubles numbers; holds each call for several up until it is let go."""

    def __init__(self, at_once: int = 100, patience: float = 1.0) -> None:
        self.calls: list[list[int]] = []
        self.alone: list[int] = []
        self.goes = asyncio.Event()
        self.goes.set()
        self.error: BaseException | None = None
        self.set_apart: set[int] = set()
        self.double = Batcher(
            self.do,
            self.do_alone,
            choose=lambda items: range(len(items)),
            budget=5.0,
            at_once=at_once,
            patience=patience,
        )

    async def do(self, numbers: list[int], left: float) -> Sequence[int | Alone]:
        assert 0 < left <= 5.0
        self.calls.append(numbers)
        await self.goes.wait()
        if self.error is not None:
            raise self.error
        return [ALONE if number in self.set_apart else 2 * number for number in numbers]

    async def do_alone(self, number: int, left: float) -> int:
        self.alone.append(number)
        if number < 0:
            raise DatabaseError("no")
        return 2 * number


async def test_what_comes_while_a_call_is_under_way_goes_with_the_next() -> None:
    server = Server(at_once=3)
    server.goes.clear()
    first = asyncio.create_task(server.double(1))
    while not server.calls:
        await asyncio.sleep(0)
    others = [asyncio.create_task(server.double(number)) for number in range(2, 7)]
    await asyncio.sleep(0)
    server.goes.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6, 8, 10, 12]
    assert server.calls == [[1], [2, 3, 4], [5, 6]]


async def test_the_bytes_bound_what_goes_together_too() -> None:
    server = Server()
    double = Batcher(
        server.do,
        server.do_alone,
        choose=lambda items: range(len(items)),
        budget=5.0,
        at_once=9,
        size=lambda item: item,
    )
    double.most_bytes = 5
    assert await asyncio.gather(*map(double, (1, 1, 9, 3, 3, 3, 1))) == [2, 2, 18, 6, 6, 6, 2]
    assert server.calls == [[1, 1, 9], [3, 3], [3, 1]]


async def test_one_that_cannot_go_with_the_others_goes_alone() -> None:
    server = Server()
    server.set_apart = {2}
    assert await asyncio.gather(*map(server.double, (1, 2, 3))) == [2, 4, 6]
    assert server.alone == [2]


@pytest.mark.parametrize("error", [DatabaseError("bad"), StorageBusyError("held"), KeyError("ours")])
async def test_where_all_fail_because_of_one_each_goes_alone(error: Exception) -> None:
    server = Server()
    server.error = error
    outcomes = await asyncio.gather(*map(server.double, (1, -2, 3)), return_exceptions=True)
    assert (outcomes[0], outcomes[2]) == (2, 6)
    assert isinstance(outcomes[1], DatabaseError)


@pytest.mark.parametrize("error", [StorageUnavailableError("gone"), OutcomeUnknownError()])
async def test_what_concerns_all_is_told_to_each_as_its_own(error: Exception) -> None:
    server = Server()
    server.error = error
    outcomes = await asyncio.gather(*map(server.double, (1, 2)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(error)] * 2
    assert len({id(outcome) for outcome in (*outcomes, error)}) == 3
    assert server.alone == []


async def test_a_call_that_gets_no_answer_holds_up_nobody_who_comes_later() -> None:
    server = Server(patience=0.05)
    server.goes.clear()
    first = asyncio.create_task(server.double(1))
    while not server.calls:
        await asyncio.sleep(0)
    stuck, server.goes = server.goes, asyncio.Event()
    server.goes.set()
    assert await asyncio.gather(*map(server.double, (2, 3))) == [4, 6]
    assert not first.done()
    stuck.set()
    assert await first == 2
    assert server.calls == [[1], [2, 3]]


async def test_a_call_that_is_cancelled_below_leaves_nobody_waiting() -> None:
    server = Server()
    server.error = asyncio.CancelledError()
    calls = [asyncio.create_task(server.double(number)) for number in (1, 2)]
    done, _ = await asyncio.wait(calls, timeout=5.0)
    assert [call.cancelled() for call in calls] == [True, True]
    assert len(done) == 2
    server.error = None
    assert await server.double(3) == 6


async def test_who_is_cancelled_before_it_goes_is_left_out() -> None:
    server = Server()
    server.goes.clear()
    first = asyncio.create_task(server.double(1))
    while not server.calls:
        await asyncio.sleep(0)
    second, third = (asyncio.create_task(server.double(number)) for number in (2, 3))
    await asyncio.sleep(0)
    second.cancel()
    server.goes.set()
    assert await first == 2
    assert await third == 6
    assert server.calls == [[1], [3]]
    with pytest.raises(asyncio.CancelledError):
        await second


async def test_reads_go_together_and_alone_by_the_same_query() -> None:
    calls: list[list[int]] = []

    async def read(numbers: list[int], _: float) -> list[int]:
        calls.append(numbers)
        if -1 in numbers:
            raise DatabaseError("no")
        return numbers

    look = batch_reads(read, budget=5.0, at_once=10)
    outcomes = await asyncio.gather(look(1), look(-1), look(2), return_exceptions=True)
    assert (outcomes[0], outcomes[2]) == (1, 2)
    assert isinstance(outcomes[1], DatabaseError)
    assert calls == [[1, -1, 2], [1], [-1], [2]]
