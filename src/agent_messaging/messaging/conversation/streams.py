"""An ask whose parts are read before its answer: sending it when it is used first, reading it, and giving it up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Generic, Self

from typing_extensions import TypeVar

from ...bodies import open_as, open_body
from ...delivery.asks import AskOutcome
from ...delivery.parts import Reader
from ...exceptions import ConversationEndedError, HandlerError, InvalidArgumentError, PayloadError
from ...futures import call_from_thread
from ...models import AskState
from ...payloads import MISSING
from ...storage.ports import PartRow
from .ask import GIVING_UP, Ask

P = TypeVar("P", default=Any)
R = TypeVar("R", default=Any)


class AskStream(Generic[P, R]):
    """One question on its way: iterate over the parts of its answer, and await `answer`.

    `sdk.conversation.ask` makes it. Nothing is sent before the first part, or the answer, is awaited; whichever that is
    decides whether parts are read. A loop over it ends when the ask does, and raises the error that tells how it ended
    if that was not by an answer.

    Whoever leaves gives the ask up, as a cancelled `send_and_wait` does: a loop that is left by `break` and does not
    keep the stream, a task that is cancelled, the end of `async with`, `aclose`. A stream that is kept can be read on,
    and its answer awaited.
    """

    def __init__(
        self, ask: Ask, *, wait_for_session: bool, part_type: Any, open_answer: Callable[[AskOutcome], R]
    ) -> None:
        self._ask = ask
        self._wait_for_session = wait_for_session
        self._part_type = part_type
        self._open_answer = open_answer
        self._reader: Reader | None = None
        self._task: asyncio.Task[AskOutcome] | None = None
        self._reading: asyncio.Task[Any] | None = None
        """The task that has awaited the last part."""
        self._is_closed = False
        """`aclose` was called."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> P:
        self._ask.engine.check_loop()
        self._reading = asyncio.current_task()
        task = self._task or self._begin(with_parts=True)
        if self._reader is None:
            raise InvalidArgumentError(
                "This ask was begun by awaiting its answer, so no parts are kept for it. Iterate over it first."
            )
        try:
            part = await self._reader.next(task)
        except asyncio.CancelledError:
            self._give_up()
            raise
        if part is not None:
            return self._open_part(part)
        outcome = self._result(task)
        if outcome.state is not AskState.REPLIED:
            self._ask.refuse(outcome)
        raise StopAsyncIteration

    @property
    def answer(self) -> Awaitable[R]:
        """The answer, to be awaited, any number of times; what it raises is as of `send_and_wait`.

        Awaited first, it is all that is waited for: nobody reads parts, as with `send_and_wait`. Awaited by the task
        that has read parts, it drops the parts that were not read.
        """
        return _Answer(self._wait)

    async def aclose(self) -> None:
        """Give the ask up, unless it has ended; if it was not sent yet, it is not sent any more. Idempotent.

        Example:
            stream = sdk.conversation.ask("alice", "bob", "Tell me a story")
            async for part in stream:
                if "dragon" in part:
                    break
            await stream.aclose()
        """
        self._ask.engine.check_loop()
        self._is_closed = True
        task = self._give_up()
        if task is not None and not task.done():
            await asyncio.wait({task})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        task = getattr(self, "_task", None)
        if task is not None and not task.done():
            call_from_thread(task.get_loop(), task.cancel)

    def _begin(self, *, with_parts: bool) -> asyncio.Task[AskOutcome]:
        ask = self._ask
        if self._is_closed:
            raise self._was_given_up()
        ask.deadline = asyncio.get_running_loop().time() + ask.timeout
        ask.draft.is_streamed = with_parts
        if with_parts:
            self._reader = ask.engine.parts.reader(ask.draft.message_id)
        # The task does not hold this object: if nobody else does, nobody waits.
        work = _run(ask, self._reader, wait_for_session=self._wait_for_session)
        self._task = asyncio.create_task(work, name=f"agent-messaging-ask-{ask.draft.message_id}")
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._task

    async def _wait(self) -> R:
        self._ask.engine.check_loop()
        task = self._task or self._begin(with_parts=False)
        if self._reader is not None and self._reading is asyncio.current_task():
            self._reader.close()
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            self._give_up()
            raise
        return self._open_answer(self._result(task))

    def _result(self, task: asyncio.Task[AskOutcome]) -> AskOutcome:
        if task.cancelled():
            raise self._was_given_up()
        return task.result()

    def _was_given_up(self) -> ConversationEndedError:
        return ConversationEndedError(
            f"The ask to {self._ask.draft.recipient!r} was given up: its stream was closed, or a task that waited for "
            "it was cancelled. Ask again."
        )

    def _give_up(self) -> asyncio.Task[AskOutcome] | None:
        if self._reader is not None:
            self._reader.close()
        if self._task is not None:
            self._task.cancel()
        return self._task

    def _open_part(self, part: PartRow) -> P:
        name = f"part {part.number} of the answer to the ask {self._ask.draft.message_id}"
        if self._part_type is MISSING:
            content: P = open_body(part, name).content
            return content
        try:
            opened: P = open_as(part, name, self._ask.engine.decoder, self._part_type, field="The part")
        except PayloadError as error:
            raise HandlerError(f"{error} Ask for another part_type.") from error
        return opened


class _Answer(Awaitable[R]):
    def __init__(self, wait: Callable[[], Awaitable[R]]) -> None:
        self._wait = wait

    def __await__(self) -> Generator[Any, None, R]:
        return self._wait().__await__()


async def _run(ask: Ask, reader: Reader | None, *, wait_for_session: bool) -> AskOutcome:
    """Ask, and wait for the end; its last parts are read before it is told."""
    try:
        outcome = await ask.wait(wait_for_session=wait_for_session)
        if reader is not None and outcome.ask_id == ask.draft.message_id:
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout_at(max(ask.deadline, loop.time()) + GIVING_UP):
                    await reader.finish()
            except TimeoutError:
                reader.failure = ask.unknown()
        return outcome
    finally:
        if reader is not None:
            reader.close()
