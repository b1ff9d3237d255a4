"""A door: an object with the calls of one pattern, which users reach as `sdk.one_way`, `sdk.conversation`, …."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..completion import Calls

if TYPE_CHECKING:
    from ..delivery.engine import Engine


class Door(Calls):
    """A door to the engine, which may be stopped and started again behind it."""

    def __init__(self, find_engine: Callable[[], Engine]) -> None:
        self.find_engine = find_engine

    @property
    def engine(self) -> Engine:
        """The engine that is started now."""
        return self.find_engine()
