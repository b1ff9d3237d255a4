"""What is said of a run that failed."""

from __future__ import annotations

import asyncio

import pytest

from agent_messaging.delivery.retry import MAX_REASON_LENGTH, describe


def test_a_group_of_one_is_described_by_its_error() -> None:
    inner = ExceptionGroup("unhandled errors in a TaskGroup", [ExceptionGroup("again", [LookupError("no customer 7")])])
    assert describe(inner) == "LookupError: no customer 7"


def test_a_group_of_several_names_the_first_of_them_and_how_many_there_are() -> None:
    leaves = [ValueError("a"), ExceptionGroup("b", [KeyError("c"), OSError(2, "no file")])]
    told = "3 errors: ValueError: a; KeyError: 'c'; FileNotFoundError: [Errno 2] no file"
    assert describe(ExceptionGroup("unhandled", leaves)) == told
    many = describe(BaseExceptionGroup("many", [SystemExit(3), *(ValueError(str(number)) for number in range(98))]))
    assert many.startswith("99 errors: SystemExit: 3; ValueError: 0; ")
    assert many.endswith("; and 94 more")


def test_it_stays_one_bounded_line_that_never_fails() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert describe(ExceptionGroup("g", [Mute(), ValueError("x" * 9999)])).startswith("2 errors: Mute; ValueError: xxx")
    assert len(describe(ExceptionGroup("g", [ValueError("x" * 9999)]))) == MAX_REASON_LENGTH
    nest: Exception = ValueError("deep")
    for _ in range(3000):
        nest = ExceptionGroup("nest", [nest])
    assert describe(nest)


async def test_what_a_task_group_of_the_standard_library_raises() -> None:
    async def fail() -> None:
        raise LookupError("no such customer")

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
    assert describe(caught.value) == "LookupError: no such customer"
