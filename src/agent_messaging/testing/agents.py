"""Scripted agents: each run of theirs takes the next step of a script, and they remember what they were given."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from ..client import AgentMessaging
from ..models import HandlerContext, MessageContext

PATIENCE = 10.0
"""Seconds that a test waits for what an agent is to be given."""


class _Never:
    """See `NEVER`."""

    def __repr__(self) -> str:
        return "NEVER"


NEVER: Final = _Never()
"""A step of a script that does not end: the run goes on until it is cancelled, as that of an agent that hangs."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What one run of a scripted agent was given."""

    content: Any
    """The payload; in a turn the latest speech, or before the first one the facts of the meeting."""
    context: MessageContext


class ScriptedAgent:
    """An agent that does what a script says. Made by `MessagingKit.script`.

    A step is a value, which the run returns; an error, which it raises; `NEVER`; or a function of (message, context),
    plain or `async`, whose result it returns. A run that is repeated takes another step.
    """

    def __init__(
        self,
        external_id: str,
        notes: Iterable[Any],
        answers: Iterable[Any],
        speeches: Iterable[Any] | None,
    ) -> None:
        self.external_id = external_id
        self.heard: list[Heard] = []
        """Notes, asks and other messages of conversations, one entry for each run, in the order of the runs."""
        self.invitations: list[Heard] = []
        self.turns: list[Heard] = []
        self._notes, self._answers = iter(notes), iter(answers)
        self._speeches = None if speeches is None else iter(speeches)
        self._changed = asyncio.Condition()

    @property
    def contents(self) -> list[Any]:
        """The payloads of what it heard."""
        return [one.content for one in self.heard]

    async def wait_for(self, count: int = 1, timeout: float = PATIENCE) -> list[Heard]:
        """Wait until it has heard so many, and return them all.

        Raises:
            AssertionError: It has not within `timeout` seconds.
        """
        return await self._wait_for(self.heard, "messages", count, timeout)

    async def wait_for_turns(self, count: int = 1, timeout: float = PATIENCE) -> list[Heard]:
        """Wait until it has had so many turns, and return them all.

        Raises:
            AssertionError: It has not within `timeout` seconds.
        """
        return await self._wait_for(self.turns, "turns", count, timeout)

    async def _wait_for(self, seen: list[Heard], what: str, count: int, timeout: float) -> list[Heard]:
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(lambda: len(seen) >= count)
        except TimeoutError:
            raise AssertionError(
                f"{self.external_id!r} was to be given {count} {what} within {timeout:g} s, and was given {len(seen)}"
            ) from None
        return seen

    def serve(self, sdk: AgentMessaging[Any, Any, Any], takes: Any) -> None:
        """Register its handlers."""

        async def handle(message: Any, context: MessageContext) -> Any:
            return await self._handle(message, context)

        async def take_turn(message: Any, context: MessageContext) -> Any:
            await self._remember(self.turns, message, context)
            return await _take(next(self._speeches or iter(()), NEVER), message, context)

        handle.__annotations__["message"] = takes
        sdk.register_handler(self.external_id)(handle)
        if self._speeches is not None:
            sdk.register_meeting_handler(self.external_id, attend=True)(take_turn)

    async def _handle(self, message: Any, context: MessageContext) -> Any:
        if context.handler_context is HandlerContext.INVITATION:
            await self._remember(self.invitations, message, context)
            return None
        await self._remember(self.heard, message, context)
        if context.handler_context is HandlerContext.ONE_WAY:
            return await _take(next(self._notes, None), message, context)
        if not context.requires_reply:
            return None
        try:
            step = next(self._answers)
        except StopIteration:
            raise AssertionError(
                f"The script of {self.external_id!r} has no answer left for ask {context.message_id} of "
                f"{context.sender_id!r}. Give script(answers=[…]) one more."
            ) from None
        return await _take(step, message, context)

    async def _remember(self, where: list[Heard], message: Any, context: MessageContext) -> None:
        async with self._changed:
            where.append(Heard(message, context))
            self._changed.notify_all()


async def _take(step: Any, message: Any, context: MessageContext) -> Any:
    if step is NEVER:
        await asyncio.get_running_loop().create_future()
    if isinstance(step, BaseException):
        raise step.with_traceback(None)  # one that is raised again and again keeps no trace of the runs before
    if isinstance(step, type) and issubclass(step, BaseException):
        raise step
    if not callable(step) or isinstance(step, type):
        return step
    result = step(message, context)
    return await result if inspect.isawaitable(result) else result
