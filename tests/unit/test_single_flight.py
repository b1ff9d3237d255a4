"""The one shape of background work: coalesced requests, failures, the end."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest

from agent_messaging.exceptions import NotInitializedError, StorageUnavailableError
from agent_messaging.single_flight import SingleFlight


class Work:
    """Counts its runs; each waits until it is let go."""

    def __init__(self) -> None:
        self.runs = 0
        self.has_begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> None:
        self.runs += 1
        self.has_begun.set()
        await self.may_end.wait()
        if self.error is not None:
            raise self.error


@pytest.fixture(autouse=True)
def _in_time(request: pytest.FixtureRequest) -> None:
    request.node.add_marker(pytest.mark.timeout(20))


async def test_requests_during_a_run_are_one_run_after_it() -> None:
    work = Work()
    service = SingleFlight(work, "working")
    assert service.is_idle
    for _ in range(1_000):
        service.request()
    await work.has_begun.wait()
    assert work.runs == 1
    for _ in range(1_000):
        service.request()
    work.may_end.set()
    await service.wait_until_idle()
    assert (work.runs, service.is_idle) == (2, True)
    await service.aclose()


async def test_run_waits_for_a_run_that_begins_after_it_was_called() -> None:
    work = Work()
    service = SingleFlight(work, "working")
    service.request()
    await work.has_begun.wait()
    calls = [asyncio.create_task(service.run()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(call.done() for call in calls)
    work.may_end.set()
    await asyncio.gather(*calls)
    assert work.runs == 2
    await service.aclose()


async def test_a_store_that_fails_ends_the_run_and_each_caller_gets_an_error_of_its_own() -> None:
    work = Work()
    told: list[Exception] = []
    work.error = StorageUnavailableError("away")
    work.may_end.set()
    service = SingleFlight(work, "working", on_failure=told.append)
    first, second = await asyncio.gather(service.run(), service.run(), return_exceptions=True)
    assert isinstance(first, StorageUnavailableError)
    assert isinstance(second, StorageUnavailableError)
    assert first is not second
    assert told == [work.error]
    work.error = None
    await service.run()
    assert work.runs == 2
    await service.aclose()


async def test_a_fault_is_logged_and_the_next_request_tries_again(caplog: pytest.LogCaptureFixture) -> None:
    work = Work()
    work.error = LookupError("a fault")
    work.may_end.set()
    service = SingleFlight(work, "working")
    with caplog.at_level(logging.ERROR):
        service.request()
        await service.wait_until_idle()
    assert "working failed" in caplog.text
    service.request()
    await service.wait_until_idle()
    assert work.runs == 2
    await service.aclose()


@pytest.mark.parametrize("steps", [0, 1, 2])
async def test_the_end_releases_whoever_waits_also_before_the_first_step(steps: int) -> None:
    service = SingleFlight(Work(), "working")
    call = asyncio.ensure_future(service.run())
    for _ in range(steps):
        await asyncio.sleep(0)
    await service.aclose()
    with pytest.raises(NotInitializedError):
        await call
    service.request()
    assert service.is_idle
    with pytest.raises(NotInitializedError):
        await service.run()


@pytest.mark.parametrize(("timeout", "runs"), [(10.0, 2), (0.0, 1)])
async def test_the_end_lets_what_was_requested_end_by_itself_for_a_while(timeout: float, runs: int) -> None:
    work = Work()
    service = SingleFlight(work, "working")
    service.request()
    await work.has_begun.wait()
    service.request()
    closing = asyncio.ensure_future(service.aclose(timeout=timeout))
    await asyncio.sleep(0)
    service.request()
    work.may_end.set()
    await closing
    assert work.runs == runs


async def test_a_caller_that_goes_away_stops_nothing() -> None:
    work = Work()
    service = SingleFlight(work, "working")
    call = asyncio.create_task(service.run())
    await work.has_begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    work.may_end.set()
    await service.wait_until_idle()
    assert work.runs == 1
    await service.aclose()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
async def test_a_run_that_ends_before_its_task_is_known_ends_all_the_same() -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            service.request()

    service = SingleFlight(work, "working")
    for _ in range(2):
        service.request()
        assert service.is_idle
        await service.run()
        await service.wait_until_idle()
    assert runs == 5
    await service.aclose()
