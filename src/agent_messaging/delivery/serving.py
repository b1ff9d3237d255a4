"""The agents that this SDK object serves, and the word of it to the other processes."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence

from ..config import MessagingConfig
from ..exceptions import AgentMessagingError, NoHandlerRegisteredError, TimeoutError
from ..futures import call_from_thread
from ..handlers.events import MeetingEventHandler
from ..handlers.registry import Follower, Handlers, Registry, global_registry
from ..kinds import CONTEXT_OF_KIND
from ..loggers import get_logger
from ..models import AgentStatus, HandlerContext, Kind
from ..single_flight import SingleFlight
from ..storage.ports import Presence, ProcessStore, Service
from . import services
from .names import CACHE_LIMIT, NAMES_MAX_AGE, AgentName, Names
from .neighbours import MAX_AGE, Neighbours
from .trouble import Trouble

logger = get_logger("agent_messaging.delivery")

LOOK_PAUSE = 0.05
"""Seconds between two looks of a caller that waits for somebody to serve, however often there is a hint."""


class Serving(services.Service, Follower):
    """The handlers in force here, and their publication.

    Args:
        own: The handlers of this SDK object.
        events: The handlers of meeting events of this SDK object.
        settings: How many runs at once, whether handlers are run at all, and for how long an ended process counts.
        trouble: Told when the store did not let it be published.
    """

    def __init__(
        self,
        processes: ProcessStore,
        presence: Presence,
        names: Names,
        own: Registry,
        events: MeetingEventHandler,
        settings: MessagingConfig,
        trouble: Trouble,
    ) -> None:
        self.processes = processes
        self.presence = presence
        self.names = names
        self.own = own
        self.events = events
        self.grace = settings.handler_grace
        self.invoke = settings.auto_invoke_handlers
        self.concurrency = settings.handler_concurrency
        self._followers: list[Callable[[], None]] = []
        self._found: dict[tuple[str, Kind], Handlers | None] = {}
        """The answers of `find_handlers` since anything has changed, by agent id and kind."""
        self._found_in: object = None
        """The version in which that was found."""
        self.version: object = None
        """Another one after each change of what is served here, in whatever thread; None while nobody tells of any."""
        self.everyone = False
        self.adopted: set[str] = set()
        """External ids of the bare handlers' agents: registered through this SDK object, or named by `serve`."""
        self.pulling: set[tuple[str, Kind]] = set()
        """(external id, kind) of the agents that pull here, or did a moment ago."""
        self._pulls: Counter[tuple[str, Kind]] = Counter()
        self._leaving: dict[tuple[str, Kind], asyncio.TimerHandle] = {}
        self._publishing = SingleFlight(self._publish, "publishing who is served here", on_failure=trouble.note)
        self._is_behind = False
        """The store does not know what is served here."""
        self._published: frozenset[Service] | None = None
        self._wanted: set[str] = set()
        """External ids of the agents that are to be served here, whether or not they exist yet."""
        self._followed_at = time.monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.neighbours = Neighbours(processes, presence, self.grace, self._changed, self._follow_agents)

    def _outdate(self) -> None:
        # An object of its own, and no number: two threads that count up at once could come to the same.
        self.version = None if self.version is None else object()

    def follow(self, follower: Callable[[], None]) -> None:
        """Call this whenever what is served here may have changed, in the order of these calls."""
        self._followers.append(follower)

    def _changed(self) -> None:
        self._outdate()
        for follower in self._followers:
            follower()

    # --- here ---------------------------------------------------------------------------------------------------------

    def adopt(self, external_ids: Collection[str], *, everyone: bool) -> None:
        """The bare handlers of this process are to serve these agents too, once that is published."""
        self.adopted |= set(external_ids)
        self.everyone = self.everyone or everyone
        self._outdate()

    async def start(self) -> None:
        """Publish what is served and follow the registries."""
        self._loop = asyncio.get_running_loop()
        self.version = object()
        global_registry.follow(self)
        self.own.follow(self)
        await self.publish()

    async def aclose(self, timeout: float) -> None:
        """Stop following, publish what is served at the end, and stop publishing.

        That is let through for so many seconds: for the grace others believe the last word of an ended process, which
        must not be about handlers that were unregistered before it ended. The word of a change may not have come here
        yet, so this publishes whether or not it has.
        """
        global_registry.leave(self)
        self.own.leave(self)
        self._publishing.request()
        self.version = None
        await self._publishing.aclose(timeout)
        self._loop = None
        for timer in self._leaving.values():
            timer.cancel()

    def find_handlers(self, agent: AgentName, kind: Kind) -> Handlers | None:
        """The handlers that serve the agent here: its own in this SDK object, its own global ones, or the bare ones."""
        version = self.version  # read before the handlers: they change in any thread
        if version is None:
            return self._find_handlers(agent, kind)
        if version is not self._found_in or len(self._found) >= CACHE_LIMIT:
            self._found.clear()
            self._found_in = version
        key = (agent.id, kind)
        if key in self._found:
            return self._found[key]
        found = self._found[key] = self._find_handlers(agent, kind)
        return found

    def _find_handlers(self, agent: AgentName, kind: Kind) -> Handlers | None:
        context = CONTEXT_OF_KIND[kind]
        own = self._own_handlers(agent.external_id, context)
        if own is not None:
            return own
        if not self.everyone and agent.external_id not in self.adopted:
            return None
        if (agent.id, kind) in self.neighbours.explicit:
            return None
        return global_registry.find(None, context)

    def handlers_changed(self) -> None:
        """A registry changed, in whatever thread."""
        self._outdate()
        if (loop := self._loop) is not None:
            call_from_thread(loop, self._republish)

    def _republish(self) -> None:
        if self._loop is None:
            return  # closed meanwhile
        self._changed()
        self._publishing.request()

    async def publish(self) -> None:
        """Tell the store what is served here; return when it knows."""
        if self._loop is not None:
            self._changed()
            await self._publishing.run()

    async def _publish(self) -> None:
        self._is_behind = True
        services = await self._services()
        if services != self._published:
            await self.processes.publish(self.presence.process_id, services)
            self._published = services
            await self.neighbours.ring_everybody()
        self._is_behind = False

    async def _services(self) -> frozenset[Service]:
        services: set[Service] = set()
        served: list[tuple[Kind, set[str], set[str], Handlers | None]] = []
        for kind, context in CONTEXT_OF_KIND.items():
            explicit = {*self.own.agents(context), *global_registry.agents(context)} if self.invoke else set()
            bare = global_registry.find(None, context) if self.invoke else None
            # Who pulls takes nothing from a bare handler elsewhere: it may be a single look.
            others = {agent for agent, of in self.pulling if of is kind} | (self.adopted if bare else set())
            served.append((kind, explicit, others - explicit, bare))
            if bare and self.everyone:
                services.add(Service(None, kind, False, self._slots(bare)))
        self._wanted = {name for _, explicit, others, _ in served for name in explicit | others}
        # One look for all kinds: an agent that is registered meanwhile is served for all of them or for none, and who
        # waits until somebody serves it waits for no certain kind.
        known = await self.names.find_all([*self._wanted])
        for kind, explicit, others, bare in served:
            for name in (explicit | others) & known.keys():
                slots = self._slots(self._own_handlers(name, CONTEXT_OF_KIND[kind]) or bare)
                services.add(Service(known[name].id, kind, name in explicit, slots))
        if self.events.subscriptions:
            services.add(Service(None, Kind.EVENTS, False))
        return frozenset(services)

    def _own_handlers(self, external_id: str, context: HandlerContext) -> Handlers | None:
        return self.own.find(external_id, context) or global_registry.find(external_id, context)

    def _slots(self, handlers: Handlers | None) -> int:
        return (handlers.concurrency if handlers is not None else None) or self.concurrency

    @contextlib.asynccontextmanager
    async def pull(self, external_id: str, kind: Kind) -> AsyncIterator[None]:
        """Count as serving the agent within, and for the grace after it: between two calls it still pulls."""
        key = (external_id, kind)
        self._pulls[key] += 1
        if (leaving := self._leaving.pop(key, None)) is not None:
            leaving.cancel()
        try:
            if key not in self.pulling:
                self.pulling.add(key)
                await self.publish()
            yield
        finally:
            self._pulls[key] -= 1
            if not self._pulls[key]:
                del self._pulls[key]
                if self._loop is not None:
                    self._leaving[key] = self._loop.call_later(self.grace, self._stop_pulling, key)

    def _stop_pulling(self, key: tuple[str, Kind]) -> None:
        del self._leaving[key]
        self.pulling.discard(key)
        self._republish()

    def retry_publication(self) -> None:
        """Publish what could not be published before; called when the store answers."""
        if self._is_behind and self._publishing.is_idle:
            self._republish()

    def forget_publication(self) -> None:
        """The store lost what was published (a new incarnation): publish again."""
        self._published = None
        self._republish()

    async def _follow_agents(self) -> None:
        """Publish again if agents served here were registered, or registered anew, by another process.

        Who pulls waits for word of it, so there it is looked for at each look.
        """
        missing = any(self.names.cached(name) is None for name in self._wanted)
        if missing or self._pulls or time.monotonic() - self._followed_at >= NAMES_MAX_AGE:
            self._followed_at = time.monotonic()
            await self.names.refresh(self._wanted)
            self._republish()
        else:
            self.retry_publication()

    # --- who is served ------------------------------------------------------------------------------------------------

    def can_serve(self, agent: AgentName, kind: Kind) -> bool:
        """Whether a handler is registered here that could serve the agent, now or once it is adopted."""
        context = CONTEXT_OF_KIND[kind]
        return (self._own_handlers(agent.external_id, context) or global_registry.find(None, context)) is not None

    def served_here(self, kind: Kind) -> set[str] | None:
        """The ids of the agents that this process says it serves; None: every agent."""
        mine = {service.agent_id for service in self._published or () if service.kind is kind}
        return None if None in mine else {id for id in mine if id is not None}

    def is_served(self, agent: AgentName, kind: Kind, *, live_only: bool = False) -> bool:
        """Whether somebody serves the agent, as far as is known here; an ended process counts for its grace."""
        context = CONTEXT_OF_KIND[kind]
        if self.find_handlers(agent, kind) is not None or (agent.external_id, kind) in self.pulling:
            return True
        if not self.invoke and global_registry.find(None, context):
            return True
        return self.neighbours.serves(agent, kind) if live_only else self.neighbours.serves_recently(agent, kind)

    def are_served(self, agents: Iterable[AgentName], kind: Kind) -> bool:
        """Whether somebody serves each of them, as far as is known here."""
        known = self._found if self._found_in is self.version is not None else {}
        for agent in agents:  # noqa: SIM110 - without a generator, whose steps are calls
            if known.get((agent.id, kind)) is None and not self.is_served(agent, kind):
                return False
        return True

    async def find_unserved(self, agents: Sequence[AgentName], kind: Kind) -> tuple[str, ...]:
        """The external ids of those that nobody serves, as the store says where it is not known here."""
        if self.are_served(agents, kind):
            return ()
        await self.neighbours.read()
        return tuple(agent.external_id for agent in agents if not self.is_served(agent, kind))

    async def require_served(self, agents: Sequence[AgentName], kind: Kind) -> None:
        """Check that somebody serves each of them.

        Raises:
            NoHandlerRegisteredError: Nobody does; names them.
        """
        if unserved := await self.find_unserved(agents, kind):
            raise NoHandlerRegisteredError(
                agents=unserved, kind=kind.value.replace("_", "-"), store=self.names.location
            )

    async def find_status(self, agent: AgentName) -> AgentStatus:
        """Whether somebody serves the agent, for at least one kind of messages, as the store says now."""
        await self.neighbours.read()
        if any(self.is_served(agent, kind, live_only=True) for kind in CONTEXT_OF_KIND):
            return AgentStatus.ONLINE
        is_recent = any(self.is_served(agent, kind) for kind in CONTEXT_OF_KIND)
        return AgentStatus.AWAY if is_recent else AgentStatus.OFFLINE

    async def wait_until_served(self, external_ids: Sequence[str], timeout: float | None) -> None:
        """Wait until a live process serves each of them, for at least one kind of messages.

        Raises:
            TimeoutError: Some are still unserved; names them, and those that do not exist.
        """
        # As far as is known here, should there be no time to look.
        unserved = [name for name in external_ids if not self._is_served_live(name)]
        try:
            async with asyncio.timeout(timeout):
                await self.publish()  # who waits for an agent served here may tell others that it is
                while True:
                    hinted = self.neighbours.hinted
                    await self.names.refresh(external_ids)
                    await self.neighbours.read()
                    unserved = [name for name in external_ids if not self._is_served_live(name)]
                    if not unserved:
                        return
                    await asyncio.sleep(LOOK_PAUSE)
                    # A ring or a poll brings the next look; this bounds it where both are lost.
                    with contextlib.suppress(builtins.TimeoutError):
                        async with asyncio.timeout(MAX_AGE):
                            await hinted.wait()
        except builtins.TimeoutError as error:
            if isinstance(error, AgentMessagingError):
                raise
            names = ", ".join(f"{name!r}{'' if self.names.cached(name) else ' (not registered)'}" for name in unserved)
            raise TimeoutError(
                f"No live process serves {names or 'them'} after {timeout:g} seconds in the store "
                f"{self.names.location}. Start the process that registers their handlers; if it runs, see whether it "
                "uses this store, and look at `agent-messaging doctor`."
            ) from error

    def _is_served_live(self, external_id: str) -> bool:
        agent = self.names.cached(external_id)
        return agent is not None and any(self.is_served(agent, kind, live_only=True) for kind in CONTEXT_OF_KIND)
