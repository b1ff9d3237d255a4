"""Arguments that several patterns share: the payload that may be forgotten, and pairs of agents."""

from __future__ import annotations

from enum import Enum
from typing import Any

from ..exceptions import InvalidArgumentError
from ..ids import check_external_id


class _Missing(Enum):
    """Tells a forgotten payload from None, which is a payload: JSON's null."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING_MESSAGE: Any = _Missing.MISSING


def check_given(message: object) -> None:
    """Refuse a payload that was forgotten."""
    if message is MISSING_MESSAGE:
        raise InvalidArgumentError(
            "message is missing. Pass the payload; None is stored as JSON's null.", field="message"
        )


def check_pair(first: str, second: str, *, fields: tuple[str, str]) -> None:
    """Refuse ids that cannot be, and an agent that would talk to itself."""
    check_external_id(first, field=fields[0])
    check_external_id(second, field=fields[1])
    if first == second:
        raise InvalidArgumentError(
            field=fields[1], value=second, reason="is the same agent. A conversation has two different ones."
        )
