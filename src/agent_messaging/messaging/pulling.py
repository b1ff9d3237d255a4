"""Pulling: an agent without a handler claims its messages itself, and says what became of each."""

from __future__ import annotations

import asyncio
import random
from dataclasses import field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic

from ..arguments import check_count, check_external_id, check_patience, check_timeout, refuse
from ..delivery.names import NAMES_MAX_AGE, AgentName
from ..delivery.retry import MAX_REASON_LENGTH, describe
from ..exceptions import ClaimLostError, NotInitializedError
from ..handlers.running import UnreadableError, decode_delivery, make_context
from ..models import Kind, MessageContext, T
from ..records import dataclass
from ..storage.ports import CLAIM_MARGIN, ClaimedDelivery, ClaimRequest, Settlement, Settling

if TYPE_CHECKING:
    from ..delivery.engine import Engine

MAX_LIMIT = 1_000
DEFAULT_LEASE = 300.0
"""Seconds."""
CROWDED_TRIES, CROWDED_PAUSE = 5, 0.02
"""A pull that got nothing although something waits tries again so often, each after so many seconds at most."""


@dataclass(frozen=True, slots=True)
class ReceivedMessage(Generic[T]):
    """A claimed message. Settle it once: `done`, `retry` or `reject`; otherwise it comes back when its lease ends."""

    content: T
    """The payload; plain JSON, or of the type asked for."""
    context: MessageContext
    _delivery: ClaimedDelivery = field(repr=False)
    _engine: Engine = field(repr=False)

    @property
    def message_id(self) -> str:
        """The message's id, the same in every run."""
        return self._delivery.message_id

    @property
    def created_at(self) -> datetime:
        """When it was stored."""
        return self._delivery.created_at

    async def done(self) -> None:
        """Say that it is handled; it is then settled for good.

        Raises:
            ClaimLostError: The claim is not the newest any more: another run has the message.

        Example:
            for message in await sdk.receive("bob", limit=10, timeout=5):
                await message.done()
        """
        await self._settle(Settling.DONE)

    async def retry(self, after: float = 0.0, reason: str = "the receiver asked for a retry") -> None:
        """Give it back to be tried again in `after` seconds, or, at its last attempt, to the dead letters.

        Raises:
            ClaimLostError: The claim is not the newest any more.

        Example:
            [message] = await sdk.receive("bob", timeout=5)
            await message.retry(after=60, reason="the printer is busy")
        """
        if after != 0:
            check_timeout(after, field="after")
        if self.context.attempt >= self._delivery.max_attempts:
            await self._settle(Settling.DEAD, reason=reason)
        else:
            await self._settle(Settling.RETRY, delay=float(after), reason=reason)

    async def reject(self, reason: str) -> None:
        """Give it up: it becomes a dead letter with this reason (at most 500 characters are kept).

        Raises:
            ClaimLostError: The claim is not the newest any more.

        Example:
            [message] = await sdk.receive("bob", timeout=5)
            await message.reject("not mine")
        """
        await self._settle(Settling.DEAD, reason=reason)

    async def _settle(self, how: Settling, *, delay: float = 0.0, reason: str | None = None) -> None:
        if reason is not None:
            _check_reason(reason)
        self._engine.check_loop()
        if self._engine.is_closed:
            raise ClaimLostError(message_id=self.message_id)  # it was given back then
        settlement = Settlement(self._delivery.claim, how, delay, reason[:MAX_REASON_LENGTH] if reason else None)
        if not await self._engine.pulling.settle(settlement, self._delivery):
            raise ClaimLostError(message_id=self.message_id)


def _check_reason(reason: object) -> None:
    try:
        if isinstance(reason, str) and "\x00" not in reason:
            reason.encode()
            return
    except UnicodeEncodeError:
        pass
    raise refuse("reason", reason, "must be text without NUL and without half of a surrogate pair.")


async def receive(
    engine: Engine, agent_external_id: str, *, limit: int, timeout: float | None, lease: float, payload_type: Any
) -> list[ReceivedMessage[Any]]:
    """See `AgentMessaging.receive`."""
    check_external_id(agent_external_id, field="agent_external_id")
    check_count(limit, "limit", most=MAX_LIMIT)
    check_patience(timeout)
    check_timeout(lease, field="lease")
    deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
    agent = await engine.names.get(agent_external_id)
    async with engine.serving.pull(agent.external_id, Kind.ONE_WAY):
        return await _receive(engine, agent, limit, deadline, lease, payload_type)


async def _receive(
    engine: Engine, agent: AgentName, limit: int, deadline: float | None, lease: float, payload_type: Any
) -> list[ReceivedMessage[Any]]:
    while True:
        with engine.lots.arrivals.place((agent.id, Kind.ONE_WAY)) as place:
            current = agent
            while current.id == agent.id:
                if messages := await _pull(engine, agent, limit, deadline, lease, payload_type):
                    place.wake()  # which hands it on: there may be more
                    return messages
                current = await engine.names.look_again(agent)
                if current.id == agent.id and not await place.wait(deadline):
                    return []
            agent = current  # it was removed, and registered anew
        await engine.serving.publish()


async def _pull(
    engine: Engine, agent: AgentName, limit: int, deadline: float | None, lease: float, payload_type: Any
) -> list[ReceivedMessage[Any]]:
    """Claim and decode what there is now."""
    crowded = CROWDED_TRIES
    while True:
        if engine.is_closing:
            raise NotInitializedError("The SDK was closed while this waited for messages. They go on waiting.")
        request = ClaimRequest(agent.id, Kind.ONE_WAY, limit, lease - CLAIM_MARGIN, ordered=False)
        claimed = await engine.pulling.pull(request, deadline)
        try:
            messages = await _open(engine, claimed, payload_type)
        except BaseException:
            engine.pulling.abandon(claimed)  # nobody is given these, so nobody could settle them
            raise
        if messages or not crowded or (agent.id, Kind.ONE_WAY) not in await engine.store.deliveries.find_waiting():
            return messages
        # Others who claimed at the same moment held what there was to be claimed, and may have taken only a part.
        crowded -= 1
        await asyncio.sleep(random.uniform(0.0, CROWDED_PAUSE))  # noqa: S311 - jitter


async def _open(engine: Engine, claimed: list[ClaimedDelivery], payload_type: Any) -> list[ReceivedMessage[Any]]:
    """Decode what was claimed; what does not fit the type asked for goes to the dead letters."""
    ids = {id for one in claimed for id in (one.sender_id, one.recipient_id)}
    senders = await engine.names.find_by_id(ids, max_age=NAMES_MAX_AGE)
    messages = []
    for delivery in claimed:
        sender, recipient = senders.get(delivery.sender_id), senders.get(delivery.recipient_id)
        try:
            context = make_context(delivery, sender, recipient) if sender and recipient else None
            payload = decode_delivery(engine.decoder, delivery, payload_type)
        except UnreadableError as error:
            await engine.pulling.settle(Settlement(delivery.claim, Settling.DEAD, reason=describe(error)), delivery)
            continue
        if context is not None:  # else it was removed with its agent just now
            messages.append(ReceivedMessage(payload, context, delivery, engine))
    return messages
