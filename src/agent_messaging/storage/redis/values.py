"""Values of Redis, which are bytes, and the values of the ports."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from ...models import DeliveryState, TaskState

_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
MOST = 2**52
"""Microseconds: 142 years, which the script can add to an instant exactly."""


def text(value: bytes) -> str:
    """The text; what is not UTF-8 is replaced, so that its checksum does not match."""
    return value.decode("utf-8", "replace")


def maybe(value: bytes) -> str | None:
    """The text, or None where there is none."""
    return text(value) if value else None


def number(value: bytes | int) -> int:
    """The whole number; -1 where a stranger wrote something else."""
    try:
        return int(value)
    except ValueError:
        return -1


def fraction(value: bytes) -> float:
    """The number; 0 where there is none."""
    return float(value or 0)


def seconds(value: bytes) -> float | None:
    """The number of seconds, or None where there is none."""
    return float(value) if value else None


def instant(value: bytes) -> datetime:
    """The instant of so many microseconds since 1970."""
    return _BEGIN + timedelta(microseconds=max(number(value), 0))


def duration(given: float) -> int:
    """Seconds as the microseconds that the script takes."""
    return min(round(given * 1_000_000), MOST)


def moved(answers: Sequence[int]) -> list[bool]:
    """An answer for each item."""
    return [answer == 1 for answer in answers]


def names(values: Sequence[bytes]) -> set[str]:
    """The names of a set, such as ids of processes."""
    return {text(value) for value in values}


def final_words(known: type[DeliveryState] | type[TaskState], wanted: Collection[str] | None) -> list[str]:
    """The words of the final states among those that are wanted; None is any."""
    return [state.value for state in known if state.is_final and (wanted is None or state in wanted)]
