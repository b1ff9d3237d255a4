"""Notification handlers are told of each message once, best effort, apart from all work that must not fail."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

from ..clock import utc_now
from ..config import MessagingConfig
from ..futures import cancel_all
from ..handlers.registry import Handlers
from ..handlers.running import is_passed_over, make_context, open_for, run_handler
from ..handlers.threads import DaemonThreads
from ..loggers import get_logger
from ..models import HandlerContext, Kind
from ..payloads import Decoder
from ..single_flight import SingleFlight
from ..storage.ports import AppendOutcome, Claim, ClaimedDelivery, MessageRow, NewGroup, SessionStore, Stored
from .background import Background
from .current import calling
from .names import AgentName, Names
from .retry import describe, traceback_of
from .services import Service
from .serving import Serving
from .trouble import Seldom

logger = get_logger("agent_messaging.delivery")

MAX_PENDING = 1_000
"""Notices of one agent that wait for a free slot; what comes on top is dropped with a line in the log."""
AT_ONCE = 100
"""Notices taken from the store by one call."""


class Notices(Service):
    """The notices of one SDK object: those of its own sends, and those that others left for the handlers here."""

    def __init__(
        self,
        sessions: SessionStore,
        names: Names,
        serving: Serving,
        background: Background,
        decoder: Decoder,
        settings: MessagingConfig,
    ) -> None:
        self.sessions = sessions
        self.names = names
        self.serving = serving
        self.threads = DaemonThreads()
        """They serve notices alone: a notice claims nothing, so closing does not wait for a thread that hangs."""
        self.background = background
        self.decoder = decoder
        self.concurrency = settings.handler_concurrency
        self.timeout = settings.handler_timeout
        self.tasks: set[asyncio.Task[None]] = set()
        """The tasks in which handlers run, or wait for a slot."""
        self._pending: Counter[str] = Counter()
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._written: dict[str, tuple[AgentName, AgentName]] = {}
        """Messages on their way into the store from here that handlers may be told of: their senders and recipients."""
        self._looking = SingleFlight(self._take, "looking for notices")
        self._dropped = Seldom()
        self._is_closed = False

    def find_handlers(self, recipient: AgentName) -> Handlers | None:
        """The notification handlers in force for the agent here; None if there are none."""
        return self.serving.find_handlers(recipient, Kind.NOTIFICATION) if self.serving.invoke else None

    def is_notified(self, recipient: AgentName) -> bool:
        """Whether anybody's notification handler, here or elsewhere, is to be told by a notice."""
        elsewhere = self.serving.neighbours
        return self.find_handlers(recipient) is not None or elsewhere.serves(recipient, Kind.NOTIFICATION)

    def is_notified_elsewhere(self, recipient: AgentName) -> bool:
        """Whether a notice is to be left for another process's notification handler."""
        return self.find_handlers(recipient) is None and self.is_notified(recipient)

    def writes(self, message_id: str, sender: AgentName, recipient: AgentName) -> None:
        """This message, of which a handler may have to be told, is on its way into the store."""
        self._written[message_id] = sender, recipient

    def wrote(self, group: NewGroup, outcome: AppendOutcome | None) -> None:
        """A message was stored or refused. If nobody waits for it, the handler is told, here or elsewhere."""
        pair = self._written.pop(group.deliveries[0].message_id, None)
        if pair is None or not isinstance(outcome, Stored) or outcome.answered or outcome.waiters or outcome.is_asked:
            return
        sender, recipient = pair
        if (handlers := self.find_handlers(recipient)) is not None:
            self.tell(handlers, sender, recipient, _as_row(group, outcome.session_id))
        elif group.notify:
            self.serving.neighbours.ring_for([recipient.id], Kind.NOTIFICATION)

    def tell(self, handlers: Handlers, sender: AgentName, recipient: AgentName, message: MessageRow) -> None:
        """Run the handler for a message, soon."""
        if self._is_closed:
            return
        if self._pending[recipient.id] >= MAX_PENDING:
            if times := self._dropped.happened():
                logger.warning(
                    "the notification handler of %r does not keep up: notices are dropped, %d since this was last said",
                    recipient.external_id,
                    times,
                )
            return
        self._pending[recipient.id] += 1
        task = self.background.start(
            self._run(handlers, sender, recipient, message), f"agent-messaging-notice-{message.message_id}"
        )
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def look(self) -> None:
        """Others may have left notices for the handlers here."""
        here = self.serving.served_here(Kind.NOTIFICATION)
        if here is None or here:
            self._looking.request()

    async def wait_until_idle(self) -> None:
        """Wait until the handlers that run have ended."""
        while self.tasks:
            await asyncio.wait(set(self.tasks))

    async def aclose(self, timeout: float) -> None:
        """Stop looking and running."""
        self._is_closed = True
        self.threads.abandon()
        self.threads.close()
        await self._looking.aclose()
        await cancel_all(self.tasks, 1.0)

    async def _take(self) -> None:
        messages = await self.sessions.take_notices(self.serving.served_here(Kind.NOTIFICATION), AT_ONCE)
        if messages:  # there may be more: what is taken at once is bounded by bytes too
            self._looking.request()
        ids = {id for message in messages for id in (message.sender_id, message.recipient_id) if id is not None}
        names = await self.names.find_by_id(ids)
        for message in messages:
            sender, recipient = names.get(message.sender_id), names.get(message.recipient_id or "")
            handlers = self.find_handlers(recipient) if recipient is not None else None
            if sender is not None and recipient is not None and handlers is not None:
                self.tell(handlers, sender, recipient, message)

    async def _run(self, handlers: Handlers, sender: AgentName, recipient: AgentName, message: MessageRow) -> None:
        slots = self._slots.setdefault(recipient.id, asyncio.Semaphore(handlers.concurrency or self.concurrency))
        delivery = _as_delivery(message)
        try:
            context = make_context(delivery, sender, recipient)
            async with slots:
                with calling():
                    handler, payload = open_for(handlers, delivery, self.decoder)
                    await run_handler(
                        handler,
                        payload,
                        replace(context, handler_context=HandlerContext.MESSAGE_NOTIFICATION),
                        timeout=handler.timeout or self.timeout,
                        threads=self.threads,
                    )
        except Exception as error:
            if is_passed_over(delivery, recipient, error):
                return
            logger.warning(
                "the notification handler failed on message %s: %s",
                message.message_id,
                describe(error),
                exc_info=traceback_of(error),
            )
        finally:
            self._pending[recipient.id] -= 1
            if not self._pending[recipient.id]:
                del self._pending[recipient.id]
                self._slots.pop(recipient.id, None)


def _as_delivery(message: MessageRow) -> ClaimedDelivery:
    return ClaimedDelivery(
        claim=Claim(message.seq, 0, 1),
        message_id=message.message_id,
        kind=message.kind,
        sender_id=message.sender_id,
        recipient_id=message.recipient_id or "",
        content=message.content,
        metadata=message.metadata,
        checksum=message.checksum,
        max_attempts=1,
        created_at=message.created_at,
        origin=None,
        session_id=message.session_id,
        thread=message.thread,
    )


def _as_row(group: NewGroup, session_id: str | None) -> MessageRow:
    delivery = group.deliveries[0]
    return MessageRow(
        seq=0,
        message_id=delivery.message_id,
        kind=group.kind,
        sender_id=group.sender_id,
        recipient_id=delivery.recipient_id,
        content=group.content,
        metadata=group.metadata,
        checksum=group.checksum,
        created_at=utc_now(),
        read_at=None,
        session_id=session_id,
        thread=group.thread,
    )
