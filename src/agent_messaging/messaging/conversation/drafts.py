"""A conversation message on its way: checked, encoded, and posted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ...arguments import check_pair, check_schedule, check_thread
from ...clock import utc_now
from ...config import MessagingConfig
from ...delivery.current import Run, inside
from ...delivery.names import AgentName
from ...ids import uuid7
from ...models import Kind, SessionType
from ...payloads import annotation_of, fingerprint
from ...records import dataclass
from ...storage.ports import MAIN, Answering, NewDelivery, NewGroup
from ..posting import Accepted, Call, check_options, enter, seal_body

if TYPE_CHECKING:
    from ...delivery.engine import Engine


@dataclass(slots=True)
class Draft:
    """What a call is about to store. Made anew for each call; posted again under the same id if it was refused."""

    call: str
    sender: str
    recipient: str
    content: str
    metadata: str | None
    checksum: int
    annotation: Any
    """What the payload was made of."""
    idempotency_key: str | None
    fingerprint: str
    require_handler: bool
    answers: Answering
    thread: str
    is_anywhere: bool
    """No thread was named: it may answer an ask in another one."""
    ask_timeout: float | None = None
    is_streamed: bool = False
    notify: bool = False
    deliver_at: datetime | None = None
    expires_in: float | None = None
    answered_id: str | None = None
    """The ask that it answers, and no other one; None: the call and its run tell."""
    message_id: str = field(default_factory=uuid7)
    is_entered: bool = False
    """It is on its way into the store, or there."""
    engine: Engine = field(init=False)
    settings: MessagingConfig = field(init=False)
    run: Run | None = field(init=False)
    """The one in which the call is made."""
    is_meant: bool = field(init=False)
    """It may be an answer."""

    async def post(self, engine: Engine, settings: MessagingConfig) -> Accepted:
        """Store it. See `posting.post` for what it raises."""
        call = self.make_call(engine, settings)
        await enter([call])
        return await call.finish()

    def make_call(self, engine: Engine, settings: MessagingConfig) -> Call:
        """Make the call that stores it, for the run that the caller is in."""
        self.engine, self.settings = engine, settings
        run = inside()
        self.run = run if isinstance(run, Run) else None
        # Nothing that a handler sends is an answer, but its result and what it replies; nor is a scheduled message.
        self.is_meant = self.answers is Answering.REQUIRED or (run is None and self.deliver_at is None)
        # No functions in here: their cells cost a fifth of the garbage collections that asks cause.
        return Call(
            engine, settings, self.sender, (self.recipient,), self.make_group, self.require_handler, self.entered
        )

    def make_group(self, sender: AgentName, targets: Sequence[AgentName]) -> NewGroup:
        """The group that stores it; of no recipient, to look a repeat up."""
        settings, is_noticed = self.settings, False
        if self.notify:
            # The store keeps the notice of a scheduled message until it is due, also for a handler here.
            notices = self.engine.notices
            is_notified = notices.is_notified_elsewhere if self.deliver_at is None else notices.is_notified
            is_noticed = any(map(is_notified, targets))
        return NewGroup(
            kind=Kind.CONVERSATION,
            sender_id=sender.id,
            content=self.content,
            metadata=self.metadata,
            checksum=self.checksum,
            deliveries=[NewDelivery(self.message_id, targets[0].id)] if targets else [],
            max_attempts=settings.max_attempts,
            run_limit=settings.handler_timeout,
            mailbox_limit=settings.mailbox_limit,
            call=self.call,
            idempotency_key=self.idempotency_key,
            fingerprint=self.fingerprint,
            thread=self.thread,
            is_anywhere=self.is_anywhere,
            session_id=uuid7(),
            session_type=SessionType.ASYNC if self.ask_timeout is None else SessionType.SYNC,
            answers=self.answers if self.is_meant else None,
            ask_timeout=self.ask_timeout,
            is_streamed=self.is_streamed,
            within=self.answered_id or (None if self.run is None else self.run.delivery.message_id),
            answers_within=self.answered_id is not None,
            deliver_at=self.deliver_at,
            expires_in=self.expires_in,
            notify=is_noticed,
        )

    def entered(self, sender: AgentName, targets: Sequence[AgentName]) -> None:
        """It is on its way into the store."""
        self.is_entered = True
        if self.notify and self.deliver_at is None:
            self.engine.notices.writes(self.message_id, sender, targets[0])
        self.engine.asks.writes(self.message_id, self.content, self.metadata, self.checksum, self.annotation)


def make_draft(
    settings: MessagingConfig,
    call: str,
    sender_external_id: str,
    recipient_external_id: str,
    message: Any,
    metadata: Mapping[str, Any] | None,
    *,
    thread: str | None,
    answers: Answering = Answering.IF_TAKEN,
    idempotency_key: str | None,
    require_handler: bool | None = False,
    ask_timeout: float | None = None,
    notify: bool = False,
    deliver_at: datetime | None = None,
    expires_in: float | None = None,
) -> Draft:
    """Check and encode what a call was given.

    Where no thread is named, it goes to the one of the run that the caller is in.

    Raises:
        InvalidArgumentError, PayloadError: An argument was refused.
    """
    check_pair(sender_external_id, recipient_external_id, fields=("sender_external_id", "recipient_external_id"))
    content, encoded_metadata, sum_ = seal_body(message, metadata, settings)
    if require_handler is not None or idempotency_key is not None:
        check_options(require_handler, idempotency_key)
    if deliver_at is not None or expires_in is not None:
        deliver_at, expires_in = check_schedule(deliver_at, expires_in)
    named = None if thread is None else check_thread(thread)
    mark = ""
    if idempotency_key is not None:
        options = {"deliver_at": deliver_at, "expires_in": expires_in, "thread": named}
        given = {name: value for name, value in options.items() if value is not None}
        mark = fingerprint([recipient_external_id], content, encoded_metadata, **given)
    if deliver_at is not None and deliver_at <= utc_now():
        deliver_at = None  # it is due, and so like any other
    return Draft(
        call=call,
        sender=sender_external_id,
        recipient=recipient_external_id,
        content=content,
        metadata=encoded_metadata,
        checksum=sum_,
        annotation=annotation_of(message),
        idempotency_key=idempotency_key,
        fingerprint=mark,
        require_handler=settings.require_handler if require_handler is None else require_handler,
        answers=answers,
        thread=named if named is not None else thread_of_run(is_ask=ask_timeout is not None),
        is_anywhere=named is None,
        ask_timeout=ask_timeout,
        notify=notify,
        deliver_at=deliver_at,
        expires_in=expires_in,
    )


def thread_of_run(*, is_ask: bool = False) -> str:
    """The thread of the run that the caller is in: that of the message which it handles.

    The asks of a run are in one that is named after the message, so that runs side by side may ask the same agent,
    also where their askers chose the same name for their threads.
    """
    run = inside()
    if not isinstance(run, Run):
        return MAIN
    return run.delivery.message_id if is_ask else run.delivery.thread
