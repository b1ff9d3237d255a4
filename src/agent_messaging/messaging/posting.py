"""A call's way into the outbox, the same for every pattern: what is said, names, who serves, repeats, and refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, NoReturn

from ..arguments import MISSING_MESSAGE, check_external_id, check_given, refuse
from ..config import MessagingConfig
from ..delivery.names import AgentName
from ..exceptions import (
    AgentMessagingError,
    AgentNotFoundError,
    IdempotencyConflictError,
    MailboxFullError,
    NoHandlerRegisteredError,
    TooManySubscribersError,
)
from ..futures import wait_for_all
from ..observing import carrying
from ..payloads import checksum, encode_metadata, seal
from ..records import dataclass
from ..storage.ports import (
    AppendOutcome,
    Duplicate,
    KeyConflict,
    MailboxFull,
    MutualWait,
    NewGroup,
    NotWaiting,
    SessionLocked,
    Stored,
    TooManySubscribers,
    Unexpected,
    UnknownAgents,
)

if TYPE_CHECKING:
    from ..delivery.engine import Engine

MakeGroup = Callable[[AgentName, Sequence[AgentName]], NewGroup]
"""Makes the group for the agents as they are now; called again if one was registered anew meanwhile."""
Accepted = Stored | Duplicate | NotWaiting | SessionLocked | MutualWait


async def post(
    engine: Engine,
    settings: MessagingConfig,
    sender_external_id: str,
    recipient_external_ids: Sequence[str],
    make_group: MakeGroup,
    *,
    require_handler: bool,
) -> tuple[NewGroup, Accepted]:
    """Store a call's messages, in the order of its sender's calls.

    Raises:
        AgentNotFoundError, NoHandlerRegisteredError, MailboxFullError, IdempotencyConflictError: It was refused.
        OutcomeUnknownError, DatabaseError: See `Outbox.enter`.
    """
    call = Call(engine, settings, sender_external_id, recipient_external_ids, make_group, require_handler)
    if call.enter_now():
        first = await call.stored
        if isinstance(first, Stored):
            return call.group, first
    else:
        await enter([call])
    outcome = await call.finish()
    return call.group, outcome


async def enter(calls: Sequence[Call]) -> None:
    """Enter the groups of calls of one sender in one step, so that one commit stores them; each is then to `finish`.

    Cancelled, it has entered none of them.
    """
    first = calls[0]
    if len(calls) == 1 and first.enter_now():
        return
    async with first.engine.outbox.locks.of(first.sender_id):
        if len(calls) == 1:
            await first.prepare()
        else:
            await wait_for_all(call.prepare() for call in calls)
        for call in calls:
            call.enter()


@dataclass(slots=True)
class Call:
    """One call: `enter` looks up what its group needs, and hands it in; `finish` waits for the outcome.

    Args:
        on_entered: Called when the group is on its way: cancelled after that, it may be stored all the same.
        expect: Makes the future of a caller that waits for more than the storing, each time the group is handed in.
        on_stored: Called in place of ending that where the group is stored, as of `Outbox.enter`.
    """

    engine: Engine
    settings: MessagingConfig
    sender_id: str
    recipient_ids: Sequence[str]
    make_group: MakeGroup
    require_handler: bool
    on_entered: Callable[[AgentName, Sequence[AgentName]], None] | None = None
    expect: Callable[[], asyncio.Future[Any]] | None = None
    on_stored: Callable[[], None] | None = None
    sender: AgentName = field(init=False)
    targets: Sequence[AgentName] = field(init=False)
    group: NewGroup = field(init=False)
    stored: asyncio.Future[AppendOutcome] = field(init=False)
    """Of a group that was handed in."""
    known: AppendOutcome | AgentMessagingError | None = None
    """How it ends, where that is known without storing."""

    def enter_now(self) -> bool:
        """Enter at once, if no call of the sender goes before and nothing is to be asked of the store; else False."""
        engine, settings = self.engine, self.settings
        agents = engine.names.cached_all((self.sender_id, *self.recipient_ids))
        if agents is None or not engine.outbox.locks.is_free(self.sender_id):
            return False
        sender, targets = agents[0], agents[1:]
        if not settings.cross_organization and any(
            target.organization_id != sender.organization_id for target in targets
        ):
            return False
        group = self.make_group(sender, targets)
        if self.require_handler and not engine.serving.are_served(targets, group.kind):
            return False
        self.sender, self.targets, self.group = sender, targets, group
        self.hand_in()
        return True

    async def prepare(self) -> None:
        """Look up what the group needs. An error is kept for `finish`."""
        self.known = None
        try:
            self.sender, self.targets = await self.resolve()
            self.group = self.make_group(self.sender, self.targets)
            if self.require_handler:
                self.known = await self.refuse_unserved(self.group, self.targets)
        except AgentMessagingError as error:
            self.known = error

    def enter(self) -> None:
        """Hand in the group, unless its outcome is known already."""
        if self.known is None:
            self.hand_in()

    def hand_in(self) -> None:
        future = None if self.expect is None else self.expect()
        self.stored = self.engine.outbox.enter(self.group, future, self.on_stored)
        if self.on_entered is not None:
            self.on_entered(self.sender, self.targets)

    async def finish(self) -> Accepted:
        """Wait until it is stored. See `post` for what it raises."""
        outcome: Accepted = await self.wait()
        return outcome

    async def wait(self) -> Any:
        """Wait until it is stored, or, where `expect` gave a future, for what that gets."""
        try:
            outcome = await self.await_outcome()
            if isinstance(outcome, UnknownAgents):
                # A cached agent was removed, and may have been registered anew under its name: look once more.
                self.engine.names.forget(outcome.ids)
                await enter([self])
                outcome = await self.await_outcome()
            match outcome:
                case KeyConflict() | MailboxFull() | TooManySubscribers() | UnknownAgents() | Unexpected():
                    await self.refuse(self.targets, self.group, outcome)
        except AgentNotFoundError:
            # A recipient may have been removed since the first call under this key, which is answered all the same.
            repeat = await self.find_answered()
            if repeat is None:
                raise
            return repeat
        return outcome

    async def await_outcome(self) -> AppendOutcome:
        if isinstance(self.known, AgentMessagingError):
            raise self.known
        return await self.stored if self.known is None else self.known

    async def resolve(self) -> tuple[AgentName, list[AgentName]]:
        names = self.engine.names
        sender = names.cached(self.sender_id) or await names.get(self.sender_id, role="sender")
        within = None if self.settings.cross_organization else sender.organization_id
        targets = await names.get_all(self.recipient_ids, role="recipient", within=within)
        if within is not None:
            for target in targets:
                if target.organization_id != within:
                    # The answer is that of an unknown name: an organization must not learn who is in another.
                    raise AgentNotFoundError(external_id=target.external_id, role="recipient", store=names.location)
        return sender, targets

    async def refuse_unserved(self, group: NewGroup, targets: Sequence[AgentName]) -> AppendOutcome | None:
        """Raise if nobody serves a recipient. An ask is left to the store, which knows who waits for the sender.

        A repeat is answered as the first time instead. A recipient that was registered anew is reported as unknown,
        because its new id may well be served.
        """
        try:
            await self.engine.serving.require_served(targets, group.kind)
        except NoHandlerRegisteredError:
            if group.idempotency_key is not None:
                find = self.engine.store.deliveries.find_repeat
                repeat = await find(group.sender_id, group.call, group.idempotency_key, group.fingerprint)
                if repeat is not None:
                    return repeat
            names = self.engine.names
            await names.refresh([target.external_id for target in targets])
            anew = [target.id for target in targets if names.cached_by_id(target.id) is None]
            if anew:
                return UnknownAgents(anew)
            if group.ask_timeout is None:
                raise
            group.only_if_expected = True
        return None

    async def find_answered(self) -> Duplicate | None:
        sender = self.engine.names.cached(self.sender_id)
        if sender is None:
            return None
        self.group = group = self.make_group(sender, ())
        if group.idempotency_key is None:
            return None
        find = self.engine.store.deliveries.find_repeat
        match await find(sender.id, group.call, group.idempotency_key, group.fingerprint):
            case Duplicate() as duplicate:
                return duplicate
        return None

    async def refuse(
        self,
        targets: Sequence[AgentName],
        group: NewGroup,
        outcome: KeyConflict | MailboxFull | TooManySubscribers | UnknownAgents | Unexpected,
    ) -> NoReturn:
        match outcome:
            case KeyConflict():
                raise IdempotencyConflictError(idempotency_key=group.idempotency_key or "")
            case MailboxFull(recipient_ids):
                names = await self.engine.names.find_by_id(recipient_ids)
                full = tuple(names[id].external_id for id in recipient_ids if id in names)
                topic = "" if group.publication is None else group.publication.topic
                raise MailboxFullError(recipients=full, limit=self.settings.mailbox_limit or 0, topic=topic)
            case TooManySubscribers(limit):
                assert group.publication is not None
                raise TooManySubscribersError(topic=group.publication.topic, limit=limit)
            case Unexpected():
                raise NoHandlerRegisteredError(
                    agents=tuple(target.external_id for target in targets),
                    kind="conversation",
                    store=self.engine.names.location,
                )
            case UnknownAgents(ids):
                gone = [target.external_id for target in targets if target.id in ids]
                self.engine.names.forget(ids)
                if gone:
                    raise AgentNotFoundError(external_id=gone[0], role="recipient")
                raise AgentNotFoundError("The sender was removed while it sent. Register it again.")


def seal_body(
    message: object, metadata: Mapping[str, Any] | None, settings: MessagingConfig
) -> tuple[str, str | None, int]:
    """Check and encode what is said; return the payload, the metadata, and the checksum of both.

    Raises:
        InvalidArgumentError, PayloadError: It was forgotten, or is refused.
    """
    if message is MISSING_MESSAGE:  # looked at here, because a call would be one more for each message
        check_given(message)
    content, sum_ = seal(message, field="message", limit_bytes=settings.max_payload_bytes)
    if metadata is None:
        return content, None, sum_
    encoded = encode_metadata(metadata, field="metadata", reserved=carrying.KEY)
    return content, encoded, sum_ if encoded is None else checksum(content, encoded)


def check_options(require_handler: bool | None, idempotency_key: str | None) -> None:
    """Refuse a value that one of these two cannot have."""
    if require_handler is not None and not isinstance(require_handler, bool):
        raise refuse("require_handler", require_handler, "must be True, False or None.")
    if idempotency_key is not None:
        check_external_id(idempotency_key, field="idempotency_key")
