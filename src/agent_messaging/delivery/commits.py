"""Commits and their announcements: others are told of a fact whether or not its caller is still there.

A commit and its announcement are one piece of work. It goes on when the caller is cancelled in the middle: the store
may have committed by then, and nobody else would say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from ..futures import outlive
from .background import begin, end_within
from .services import Service

R = TypeVar("R")


class Commits(Service):
    """The commits of one SDK object that do not go through its outbox."""

    def __init__(self) -> None:
        self._going: set[asyncio.Task[Any]] = set()
        self.is_closed = False
        """No commit may begin any more."""

    async def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Commit and announce; a cancelled caller only detaches."""
        return await outlive(begin(work, "agent-messaging-commit", self._going))

    async def aclose(self, timeout: float) -> None:
        """Wait so many seconds for the commits under way."""
        await end_within(self._going, timeout)
        self.is_closed = True
