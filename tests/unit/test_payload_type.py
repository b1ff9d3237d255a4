"""What an object was given for a type parameter, however it was given."""

from __future__ import annotations

from typing import Any, Generic

import pytest
from typing_extensions import TypeVar

from agent_messaging.payloads import MISSING, payload_type

A = TypeVar("A", default=Any)
B = TypeVar("B", default=A)
C = TypeVar("C")


class Pair(Generic[A, B]):
    pass


class Once(Pair[int]):
    """The second is the first, by its default."""


class Both(Pair[int, str]):
    pass


class Free(Pair[A, B]):
    pass


class Half(Pair[int, C], Generic[C]):
    pass


@pytest.mark.parametrize(
    ("instance", "expected"),
    [
        (Pair(), (MISSING, MISSING)),
        (Pair[int](), (int, int)),
        (Pair[int, str](), (int, str)),
        (Once(), (int, int)),
        (Both(), (int, str)),
        (Free(), (MISSING, MISSING)),
        (Free[int](), (int, int)),
        (Half[str](), (int, str)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_by_alias_by_base_and_by_default(instance: object, expected: tuple[Any, Any]) -> None:
    assert tuple(payload_type(instance, Pair, position) for position in range(2)) == expected
