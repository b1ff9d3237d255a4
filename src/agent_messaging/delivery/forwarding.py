"""Passing an open ask on to another agent: by the run that has it, or by the agent's own code.

`storage/forwarding.py` has the rule, and the store moves the ask in one transaction. This names the agents, has the
fact announced, and says in words why an ask cannot be passed on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from ..arguments import check_external_id
from ..config import MessagingConfig
from ..exceptions import (
    AgentMessagingError,
    AgentNotFoundError,
    ClaimLostError,
    EventLoopError,
    InvalidArgumentError,
    MailboxFullError,
    MutualWaitError,
    NoHandlerRegisteredError,
    SessionLockError,
    SessionStateError,
)
from ..ids import uuid7
from ..models import AskState, Kind
from ..storage.ports import (
    Forwarded,
    ForwardingStore,
    ForwardOutcome,
    ForwardRefusal,
    MailboxFull,
    MutualWait,
    NewForward,
    Obstacle,
    Presence,
    SessionLocked,
    Unexpected,
    Unforwardable,
    UnknownAgents,
)
from .commits import Commits
from .current import Run, current_run
from .names import AgentName, Names, external_or_id
from .serving import Serving

if TYPE_CHECKING:
    from .announcer import Announcer

ENDS = {
    AskState.REPLIED: "was answered",
    AskState.TIMED_OUT: "has timed out",
    AskState.ENDED: "has ended with its conversation",
    AskState.FAILED: "has failed",
    AskState.CANCELLED: "was given up",
}
"""How an ask ended, in words."""


class Step(NamedTuple):
    """One step of an ask's way; the agents by their external ids."""

    from_id: str
    to_id: str
    at: datetime
    stored_at: datetime
    """When the message that was passed on was stored; of the first step, when the ask was made."""


def holders_of(way: Sequence[Step]) -> tuple[str, ...]:
    """All agents that have had an ask, in order; nobody where it was not passed on."""
    return (way[0].from_id, *(step.to_id for step in way)) if way else ()


class Forwarding:
    """Passes asks on for one SDK object."""

    def __init__(
        self,
        store: ForwardingStore,
        presence: Presence,
        names: Names,
        serving: Serving,
        announcer: Announcer,
        commits: Commits,
        settings: MessagingConfig,
    ) -> None:
        self.store = store
        self.presence = presence
        self.names = names
        self.serving = serving
        self.announcer = announcer
        self.commits = commits
        self.settings = settings

    async def forward(self, holder_id: str, message_id: str, to_id: str, *, run: Run | None = None) -> tuple[str, ...]:
        """Pass the ask on, and return its way so far: the external ids of all that have had it, the new agent last.

        Args:
            holder_id: External id of the agent that has it.
            message_id: The ask.
            to_id: External id of the new agent.
            run: The run that passes it on. None: the run of just that message, where the caller is in it; otherwise the
                agent's own code does.

        Raises:
            AgentMessagingError: It is refused; see `Conversation.forward`.
        """
        if run is None:
            run = current_run(self.announcer.stations)
            if run is not None and (run.delivery.message_id, run.station.agent.external_id) != (message_id, holder_id):
                run = None
        holder, to, outcome = await self._attempt(holder_id, message_id, to_id, run)
        if isinstance(outcome, UnknownAgents):
            # A cached agent was removed, and may have been registered anew under its name: look once more.
            self.names.forget(outcome.ids)
            holder, to, outcome = await self._attempt(holder_id, message_id, to_id, run)
        if not isinstance(outcome, Forwarded):
            raise await self._error(outcome, message_id, holder, to)
        ways = await self.find_ways([message_id])
        return holders_of(ways.get(message_id, []))

    async def _attempt(
        self, holder_id: str, message_id: str, to_id: str, run: Run | None
    ) -> tuple[AgentName, AgentName, ForwardOutcome]:
        holder = await self.names.get(holder_id)
        within = None if self.settings.cross_organization else holder.organization_id
        (to,) = await self.names.get_all([to_id], role="recipient", within=within)
        if within not in (None, to.organization_id):
            # The answer is that of an unknown name: an organization must not learn who is in another.
            raise AgentNotFoundError(external_id=to_id, role="recipient", store=self.names.location)
        wanted = NewForward(
            message_id,
            holder.id,
            to.id,
            kept_id=uuid7(),
            session_id=uuid7(),
            claim=None if run is None else run.delivery.claim,
            only_if_expected=self.settings.require_handler
            and bool(await self.serving.find_unserved([to], Kind.CONVERSATION)),
            mailbox_limit=self.settings.mailbox_limit,
        )
        return holder, to, await self.commits.run(self._commit(wanted, run))

    async def _commit(self, wanted: NewForward, run: Run | None) -> ForwardOutcome:
        outcome = await self.store.forward(wanted, owner=self.presence.process_id)
        if isinstance(outcome, Forwarded):
            if run is not None:
                run.pass_on(wanted.kept_id)
            self.announcer.forwarded(wanted, outcome)
        return outcome

    async def find_ways(self, message_ids: Collection[str]) -> dict[str, list[Step]]:
        """The ways of those that were passed on, in order.

        An agent that was removed since is named by its id. A message that stayed with an agent that passed the ask on
        has the way from that agent on.
        """
        hops = await self.store.list_hops(message_ids) if message_ids else []
        names = await self.names.find_by_id({id for hop in hops for id in (hop.from_id, hop.to_id)})

        def name(id: str) -> str:
            return external_or_id(names, id)

        ways: dict[str, list[Step]] = {}
        for id, group in groupby(hops, attrgetter("message_id")):
            passed = list(group)
            ways[id] = way = [
                Step(name(hop.from_id), name(hop.to_id), hop.forwarded_at, hop.stored_at) for hop in passed
            ]
            ways |= {hop.kept_id: way[position:] for position, hop in enumerate(passed)}
        return {id: ways[id] for id in message_ids if id in ways}

    async def _error(
        self, refusal: ForwardRefusal, message_id: str, holder: AgentName, to: AgentName
    ) -> AgentMessagingError:
        match refusal:
            case Unforwardable():
                return await self._explain(refusal, message_id, holder, to)
            case UnknownAgents(ids):
                self.names.forget(ids)
                return AgentNotFoundError(external_id=to.external_id, role="recipient", store=self.names.location)
            case SessionLocked(ask_id):
                return SessionLockError(
                    f"Whoever asked message {message_id} already waits for an answer of {to.external_id!r} in this "
                    f"thread (message {ask_id}); nothing was changed.",
                    remedy="Answer it yourself, or pass it on when that ask has ended.",
                    recipient=to.external_id,
                    ask_id=ask_id,
                )
            case MutualWait(path):
                names = await self.names.find_by_id(path)
                return MutualWaitError(path=tuple(external_or_id(names, id) for id in path))
            case Unexpected():
                return NoHandlerRegisteredError(
                    agents=(to.external_id,), kind="conversation", store=self.names.location
                )
            case MailboxFull():
                return MailboxFullError(recipients=(to.external_id,), limit=self.settings.mailbox_limit or 0)

    async def _explain(
        self, refusal: Unforwardable, message_id: str, holder: AgentName, to: AgentName
    ) -> AgentMessagingError:
        has = holder.external_id
        if refusal.holder_id is not None and refusal.holder_id != holder.id:
            found = await self.names.find_by_id([refusal.holder_id])
            has = external_or_id(found, refusal.holder_id)
        match refusal.why:
            case Obstacle.NOT_ASKED:
                return SessionStateError(
                    f"No ask has the id {message_id!r}: nobody waits for its answer. Nothing was changed.",
                    remedy="Pass on an open ask, by the id of its message (context.message_id).",
                )
            case Obstacle.NOT_HELD:
                return SessionStateError(
                    f"The ask {message_id} is with {has!r} and not with {holder.external_id!r}; nothing was changed.",
                    remedy=f"{has!r} alone can answer it or pass it on now.",
                )
            case Obstacle.PASSED_ON:
                return SessionStateError(
                    f"{holder.external_id!r} has passed the ask {message_id} on already: it is with {has!r}.",
                    remedy=f"{has!r} alone can answer it or pass it on now.",
                )
            case Obstacle.ENDED:
                end = ENDS.get(refusal.state or AskState.ENDED, "has ended")
                return SessionStateError(
                    f"The ask {message_id} {end}; there is nothing to pass on.",
                    remedy="`list_open_asks` shows the asks that still wait for an answer.",
                )
            case Obstacle.AT_WORK:
                return SessionStateError(
                    f"A handler of {holder.external_id!r} is at work on the ask {message_id}; nothing was changed.",
                    remedy="Pass it on in that handler: await context.forward(...).",
                )
            case Obstacle.CLAIM_LOST:
                return ClaimLostError(message_id=message_id)
            case Obstacle.TO_ASKER:
                reason = "asked this itself; answer it instead of passing it on."
            case Obstacle.TO_HOLDER:
                reason = "has it already; pass it on to another agent."
            case Obstacle.TOO_FAR:
                return SessionStateError(
                    f"The ask {message_id} has been passed on as often as an ask may be; nothing was changed.",
                    remedy="Answer it.",
                )
        return InvalidArgumentError(field="to_external_id", value=to.external_id, reason=reason)


class Passing:
    """Passes the ask of one run on, for its context. See `models.Passing`."""

    def __init__(self, forwarding: Forwarding, run: Run) -> None:
        self._forwarding = forwarding
        self._run = run
        self._ask_id = run.delivery.message_id
        self._loop = asyncio.get_running_loop()

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # a copy of a context, in another process perhaps, is about no run

    async def forward(self, to_external_id: str) -> tuple[str, ...]:
        """See `MessageContext.forward`."""
        if asyncio.get_running_loop() is not self._loop:
            raise EventLoopError(
                "context.forward() belongs to the event loop of the SDK. Make the handler `async def`: a plain "
                "function runs in a thread."
            )
        check_external_id(to_external_id, field="to_external_id")
        holder_id = self._run.station.agent.external_id
        return await self._forwarding.forward(holder_id, self._ask_id, to_external_id, run=self._run)
