"""Observers, for code without asyncio.

Written by scripts/generate_sync.py from `agent_messaging.observing.observers`: change that, and run it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..observing.observers import Observer
from ..observing.observers import Observers as AsyncObservers
from .running import Blocking

Told = TypeVar("Told", bound=Observer | Callable[..., object])


class Observers(Blocking[AsyncObservers]):
    """`sdk.observers`: who is told of what happens in this SDK object, from before its start on.

    Each process is told of what it does itself: a message that another process handles is `STORED` here, and `CLAIMED`,
    `HANDLED` and `SETTLED` there.
    """

    def add(self, observer: Told) -> Told:
        """Tell an observer, or a function that takes a `Fact`, of everything from now on. Idempotent; in any thread.

        Args:
            observer: An `Observer`, or a plain function.

        Returns:
            The observer, so that this can stand above a function as a decorator.

        Raises:
            InvalidArgumentError: It cannot be called, or it is a coroutine function.

        Example:
            @sdk.observers.add
            def see(fact: Fact) -> None:
                print(fact)
        """
        return self._async.add(observer)

    def remove(self, observer: Observer | Callable[..., object]) -> None:
        """Tell this one no more. Nothing happens if it was never added.

        Example:
            sdk.observers.remove(see)
        """
        return self._async.remove(observer)
