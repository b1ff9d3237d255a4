"""Calls of one verb that come while one is under way go to the server together, in one script."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ...records import dataclass
from ..batcher import Batcher
from .engine import Engine

AT_ONCE = 1_000
"""Items of several calls that go together."""


@dataclass(slots=True, eq=False)
class _Call:
    items: Sequence[Any]
    common: dict[str, Any]
    size: int


@dataclass(slots=True)
class Answer:
    """What the script answered to one call."""

    items: list[Any]
    """One for each of its items."""
    rest: list[Any]
    """What it said beside these, of all calls that went together."""


class Together:
    """A verb whose items may go together.

    Args:
        field: The argument of the verb that has the items.
    """

    def __init__(self, engine: Engine, verb: str, field: str) -> None:
        self._engine = engine
        self._verb = verb
        self._field = field
        self._is_busy = False
        self._batcher = Batcher(
            self._do, self._do_alone, choose=_choose, budget=engine.call_timeout, at_once=AT_ONCE, size=_size_of
        )

    async def __call__(
        self, items: Sequence[Any], *, size: int = 0, now: datetime | None = None, **common: Any
    ) -> Answer:
        """Do it for these items, with arguments that all of them share, and whose contents have so many bytes."""
        call = _Call(items, common, size)
        if now is None and self._is_busy:
            return await self._batcher(call)
        # Nobody is under way: it goes at once, in the caller's own task.
        self._is_busy = True
        try:
            return await self._do_alone(call, None, now)
        finally:
            self._is_busy = False

    async def _do_alone(self, call: _Call, left: float | None, now: datetime | None = None) -> Answer:
        arguments = {**call.common, self._field: call.items}
        items, *rest = await self._engine.call(self._verb, now=now, budget=left, **arguments)
        return Answer(items, rest)

    async def _do(self, calls: list[_Call], left: float) -> list[Answer]:
        items = [item for call in calls for item in call.items]
        whole = await self._do_alone(_Call(items, calls[0].common, 0), left)
        answers = iter(whole.items)
        return [Answer([next(answers) for _ in call.items], whole.rest) for call in calls]


def _size_of(call: _Call) -> int:
    return call.size


def _choose(calls: list[_Call]) -> list[int]:
    """The calls that share the arguments of the first one, as many as go together."""
    chosen: list[int] = []
    number = 0
    for position, call in enumerate(calls):
        number += len(call.items)
        if chosen and number > AT_ONCE:
            break
        if call.common == calls[0].common:
            chosen.append(position)
    return chosen
