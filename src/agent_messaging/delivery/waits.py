"""An agent's own code waits for a message: the lane is held back from handlers, everywhere, and the message is taken.

The wait is a row, so that it holds over processes; the row goes with this process. Messages that came in the last
instant before it went are left to the handlers again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from ..exceptions import ConversationEndedError, DatabaseError, OutcomeUnknownError
from ..futures import outlive
from ..ids import uuid7
from ..models import Kind
from ..storage.ports import MessageRow, NewWait, Presence, SessionStore, WaitRow
from .again import Again
from .announcer import Announcer
from .asks import gone
from .background import end_within
from .current import Run, waiting
from .names import AgentName, Names
from .reading import Taking
from .services import Service
from .trouble import Trouble
from .waiting import Waiters


class Waits(Service):
    """The waits of one SDK object.

    Args:
        waiters: Those who wait; with them stands what a hint finds them by.
        trouble: Told when the store did not let a wait be removed, which is tried again.
    """

    def __init__(
        self,
        sessions: SessionStore,
        presence: Presence,
        names: Names,
        waiters: Waiters[str, WaitRow],
        announcer: Announcer,
        trouble: Trouble,
    ) -> None:
        self.sessions = sessions
        self.presence = presence
        self.names = names
        self.waiters = waiters
        self.announcer = announcer
        self.trouble = trouble
        self._held: dict[NewWait, asyncio.Task[bool]] = {}
        """Rows of this object, from their registration until they are removed."""
        self._removing: dict[NewWait, asyncio.Task[None]] = {}
        self._again = Again[NewWait](self._begin_to_remove)
        """Rows that the store could not remove. They would hold their lanes as long as this process lives."""

    async def take(
        self,
        taking: Taking,
        recipient: AgentName,
        sender: AgentName,
        thread: str | None,
        deadline: float | None,
        run: Run | None,
    ) -> MessageRow | None:
        """Take the next message of this sender, one that is there already first; None at the deadline.

        It is one of the thread that is named, or of any.

        A run that waits in here gives up its lane meanwhile, unless it waits for a message of just that lane.

        Raises:
            ConversationEndedError: The conversation was ended while it waited.
            AgentNotFoundError: One of the two was removed.
            NotInitializedError: The SDK was closed meanwhile.
        """
        if run is not None and run.is_in_lane(recipient.id, sender.id, Kind.CONVERSATION, thread):
            run = None  # it gives nothing up: a message on its way would be handled and not taken
        found = await taking.take_awaited(recipient.id, sender.id, thread)
        if found is not None or (deadline is not None and deadline <= asyncio.get_running_loop().time()):
            return found
        is_ended = False
        async with self._registered(recipient, sender, thread, deadline, run) as wait_id:
            while True:
                with self.waiters.expect(wait_id, about=(sender.id, recipient.id)) as ready:
                    # What came between the look and the registration is seen here, what comes later is announced.
                    found = await taking.take_awaited(recipient.id, sender.id, thread)
                    if found is not None:
                        return found
                    if is_ended:  # and what was still there somebody else has taken
                        raise ConversationEndedError(
                            f"{sender.external_id!r} or {recipient.external_id!r} ended the conversation while "
                            f"{recipient.external_id!r} waited for a message. The next message opens a new session."
                        )
                    try:
                        with waiting(run):
                            async with asyncio.timeout_at(deadline):
                                is_ended = (await ready).is_ended
                    except TimeoutError:
                        return await taking.take_awaited(recipient.id, sender.id, thread)

    def look(self) -> None:
        """Messages that are waited for may be there."""
        self.waiters.look()

    @contextlib.asynccontextmanager
    async def _registered(
        self, recipient: AgentName, sender: AgentName, thread: str | None, deadline: float | None, run: Run | None
    ) -> AsyncIterator[str]:
        self.waiters.check_open()
        loop = asyncio.get_running_loop()
        left = None if deadline is None else max(deadline - loop.time(), 0.001)
        within = None if run is None else run.delivery.message_id
        wait = NewWait(uuid7(), recipient.id, sender.id, left, within, thread)
        # A task of its own: cut off by a cancellation it could take effect behind the removal, and hold for ever.
        registering = self._held[wait] = asyncio.create_task(
            self.sessions.register_wait(wait, owner=self.presence.process_id), name="agent-messaging-wait"
        )
        try:
            if not await outlive(registering):
                raise gone(wait.wait_id)
            yield wait.wait_id
        except BaseException:
            self._begin_to_remove(wait)  # the caller, who may be cancelled, does not wait for it
            raise
        # So that the caller's next call finds it gone. Closing may cancel the removal, which is not the caller's end.
        await asyncio.wait({self._begin_to_remove(wait)})

    def _begin_to_remove(self, wait: NewWait) -> asyncio.Task[None]:
        self._again.forget(wait)
        task = self._removing.get(wait)
        if task is None:
            task = self._removing[wait] = asyncio.create_task(self._remove(wait), name="agent-messaging-unwait")
            task.add_done_callback(lambda _: self._removed(wait))
        return task

    def _removed(self, wait: NewWait) -> None:
        # A callback, because a task that is cancelled before its first step runs nothing of its own.
        self._removing.pop(wait, None)
        if wait not in self._again.waiting:
            self._held.pop(wait, None)

    async def _remove(self, wait: NewWait) -> None:
        registering = self._held.get(wait)
        if registering is None:  # closing has removed it, and its caller hears of that only now
            return
        await asyncio.wait({registering})
        try:
            await self.sessions.remove_wait(wait.wait_id)
        except (DatabaseError, OutcomeUnknownError) as error:
            self.trouble.note(error)
            if error.retryable:
                self._again.later(wait)
        self.announcer.queued([wait.recipient_id], Kind.CONVERSATION)

    async def aclose(self, timeout: float) -> None:
        """Release the callers that still wait, and remove the rows within so many seconds."""
        await self.waiters.aclose(timeout)
        self._again.close()
        for wait in self._held:
            self._begin_to_remove(wait)
        await end_within(self._removing.values(), timeout)
