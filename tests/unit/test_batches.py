"""What goes into a batch, and which of a batch fails."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_messaging.exceptions import (
    DatabaseError,
    OutcomeUnknownError,
    StorageBusyError,
    StorageFullError,
    StorageUnavailableError,
)
from agent_messaging.storage.batches import do_apart, size_of, take

pytestmark = pytest.mark.unit


@given(st.lists(st.integers(0, 50)), st.integers(1, 8), st.integers(1, 60))
def test_a_batch_is_the_longest_beginning_that_both_bounds_allow(sizes: list[int], most: int, most_bytes: int) -> None:
    taken = take(sizes, lambda size: size, most=most, most_bytes=most_bytes)
    assert taken == sizes[: len(taken)]
    assert bool(taken) == bool(sizes)
    assert len(taken) <= most
    assert sum(taken[:-1]) < most_bytes
    assert len(taken) in (most, len(sizes)) or sum(taken) >= most_bytes


def test_nothing_is_drawn_that_is_not_taken() -> None:
    queue = iter([3, 3, 3, 3])
    assert take(queue, lambda size: size, most=9, most_bytes=5) == [3, 3]
    assert list(queue) == [3, 3]


def test_the_size_is_counted_in_bytes() -> None:
    assert size_of("abc", None, "日本", "\ud800") == 3 + 6 + 3


@given(st.lists(st.integers(-3, 20), min_size=1))
async def test_only_those_fail_that_fail_alone(numbers: list[int]) -> None:
    async def double(some: Sequence[int]) -> list[int]:
        if min(some) < 0:
            raise DatabaseError("one is negative")
        return [2 * number for number in some]

    answers = await do_apart(double, numbers)
    assert [number < 0 if isinstance(answer, Exception) else 2 * number == answer
            for number, answer in zip(numbers, answers, strict=True)] == [True] * len(numbers)  # fmt: skip


@pytest.mark.parametrize("error", [StorageUnavailableError, StorageBusyError, OutcomeUnknownError, OSError])
async def test_what_concerns_all_is_not_tried_again_for_each(error: type[Exception]) -> None:
    calls = []

    async def fail(some: Sequence[int]) -> list[int]:
        calls.append(some)
        raise error

    answers = await do_apart(fail, [1, 2, 3])
    assert [type(answer) for answer in answers] == [error] * 3
    assert calls == [[1, 2, 3]]


async def test_a_full_store_may_have_room_for_the_small() -> None:
    async def store(some: Sequence[int]) -> list[int]:
        if sum(some) > 3:
            raise StorageFullError
        return list(some)

    assert [type(answer) for answer in await do_apart(store, [1, 9, 2])] == [int, StorageFullError, int]
