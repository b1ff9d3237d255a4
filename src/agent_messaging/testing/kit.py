"""The kit: an SDK in memory under a clock that the test moves, with scripted agents, faults and a judge."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, Unpack, cast

from ..client import AgentMessaging
from ..clock import utc_now
from ..config import Config
from ..config.settings import ConfigKeywords
from ..delivery.current import Run
from ..delivery.engine import Engine
from ..exceptions import AgentAlreadyExistsError, ConfigurationError, OrganizationAlreadyExistsError
from ..kinds import FACTS, Kind
from ..storage import ports
from .agents import PATIENCE, ScriptedAgent
from .checker import check
from .clock import HandClock
from .dumping import record_hops
from .faults import Faults
from .history import Chronicle, Event, known_ids, record_final
from .recording import RecordingStore
from .report import Report
from .watching import POLL, Calls, WatchedStore

URL = "sqlite://:memory:"
ORGANIZATION = "acme"
PROCESS = "kit"
JUDGED = ("I1", "I2", "I3", "I4", "I5")
"""No loss, no ghosts, settled once, fencing, justified repeats. The rest is of runs of many processes, by real time."""
LOOK_AGAIN = 0.005
"""Seconds between two looks while a handler waits for something outside."""
DIED = "the process died before the end of its run was stored"
ENDS = {ports.Settling.DONE: "ok", ports.Settling.RETURNED: "cancelled"}
"""How the history calls the ends of runs; any other one is a failure."""


class MessagingKit:
    """An SDK for tests: in memory, alone, and with its time in the hands of the test.

    It is used as `async with MessagingKit() as kit:`, in whatever test framework runs coroutines on the event loop of
    asyncio; with pytest the fixture `messaging_kit` is one. Global handlers serve in it as in any SDK object.

    Args:
        config: The settings; the store has to be `sqlite://:memory:`. None is made of the keywords.
        sdk: An SDK object of the program under test, which is not started, and whose store is in memory. None makes one
            of the settings.
        settings: Keywords of `Config`, such as `messaging={"max_attempts": 2}`. Tasks are in memory too, whatever
            `REDIS_URL` says.

    Raises:
        ConfigurationError: The store is not in memory, or a setting is refused.
        ValueError: The SDK object is started, or comes with settings.

    Example:
        async with MessagingKit() as kit:
            bob = await kit.script("bob", answers=["yes", NEVER])
            await kit.register("alice")
            assert await kit.sdk.conversation.send_and_wait("alice", "bob", "Shall we?") == "yes"
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        sdk: AgentMessaging[Any, Any, Any] | None = None,
        **settings: Unpack[ConfigKeywords],
    ) -> None:
        calls = Calls()
        if sdk is None:
            sdk = AgentMessaging[Any, Any, Any](_make_config(config, settings))
        elif config is not None or settings:
            raise ValueError("Give a kit an SDK object, or the settings of one.")
        elif sdk._lifecycle.engine is not None:
            raise ValueError("The SDK object is started. Give it to the kit first: the kit starts it.")
        _check_place(sdk.config)
        self.sdk: AgentMessaging[Any, Any, Any] = sdk
        """The SDK, started while the kit is open."""
        self.clock: HandClock = HandClock(calls)
        """The time of the test."""
        self.faults: Faults = Faults(self._crash)
        """What goes wrong at the next commits."""
        self._calls = calls
        self._history = _Notebook()
        self._store: ports.Store | None = None
        self._engine: Engine | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.aclose(failed=exc_type is not None)

    async def start(self) -> None:
        """Take hold of the event loop's time, and start the SDK.

        Raises:
            RuntimeError: No event loop of asyncio runs, or it has a clock that cannot be moved (uvloop).
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "A kit needs the event loop of asyncio. With anyio, let the fixture anyio_backend return 'asyncio'; "
                "with unittest, use IsolatedAsyncioTestCase."
            ) from None
        self.clock.take_hold(self._list_threads)
        self.sdk._build_store = partial(self._watch, self.sdk._build_store)  # type: ignore[method-assign]
        try:
            self._history.record("start", serves=["*"])
            await self.sdk.initialize()
            self._follow(self._open_engine())
            self._history.record("ready")
        except BaseException:
            self._let_go()
            raise

    async def aclose(self, *, failed: bool = False) -> None:
        """Cancel what runs, close the SDK, and give the time back. What is in the store goes with it.

        Args:
            failed: The test has failed: say nothing more.

        Raises:
            AssertionError: A fault that was planted has never happened.
        """
        try:
            self.sdk._lifecycle.hurry()
            await self.sdk._lifecycle.leave(drain=False)
        finally:
            self._let_go()
        if not failed and (missed := self.faults.list_missed()):
            raise AssertionError(
                f"planted, and never happened: {', '.join(missed)}. Plant it before the call that it is for."
            )

    async def register(self, *external_ids: str, organization: str = ORGANIZATION) -> None:
        """Register those of the agents that are not there, and their organization. They have no handlers by that."""
        with contextlib.suppress(OrganizationAlreadyExistsError):
            await self.sdk.register_organization(organization, organization)
        for external_id in external_ids:
            with contextlib.suppress(AgentAlreadyExistsError):
                await self.sdk.register_agent(external_id, organization, external_id)

    async def script(
        self,
        external_id: str,
        *,
        notes: Iterable[Any] = (),
        answers: Iterable[Any] = (),
        speeches: Iterable[Any] | None = None,
        takes: Any = Any,
        organization: str = ORGANIZATION,
    ) -> ScriptedAgent:
        """Register an agent that does what a script says, and remembers what it was given.

        A step is a value (the answer, the speech), an error to raise, `NEVER` for a run that hangs, or a function of
        (message, context). Each run takes one step, a repeated run the next one. `itertools.repeat` makes an agent that
        always does the same.

        Args:
            external_id: The agent.
            notes: What becomes of one-way messages: a value changes nothing. Behind the last step, all are taken.
            answers: What asks are answered; None answers nothing. Behind the last step, an ask fails with an
                `AssertionError`, as `HandlerError` at its asker. Messages that nobody waits for take no step.
            speeches: What it says in meetings; None passes. Behind the last step it is silent, until its turns end by
                time. With a list, an empty one too, it attends every meeting to which it is invited.
            takes: The type of the payloads that it is given: a model, a dataclass, …; Any is plain JSON.
            organization: The one that it is of.
        """
        await self.register(external_id, organization=organization)
        agent = ScriptedAgent(external_id, notes, answers, speeches)
        agent.serve(self.sdk, takes)
        return agent

    async def drain(self, timeout: float = PATIENCE) -> None:
        """Wait until everything is handled that can be now.

        That is every message that is due, whose recipient is served; what handlers send meanwhile; tasks, events and
        notices. What waits for its time stays: `clock.advance` brings it. Turns of meetings are not waited for.

        Args:
            timeout: Seconds of real time for handlers that wait for something else.

        Raises:
            AssertionError: Something is still at work then; says what.
        """
        engine = self._open_engine()
        try:
            async with asyncio.timeout(timeout):
                while await self._is_at_work(engine):  # noqa: ASYNC110 - what it waits for is the program's own
                    await asyncio.sleep(LOOK_AGAIN)
        except TimeoutError:
            left = "; ".join(_find_work(engine)) or "an event handler is at work"
            raise AssertionError(
                f"not drained within {timeout:g} s: {left}. Let it end, or give drain(timeout=…) more."
            ) from None

    async def _is_at_work(self, engine: Engine) -> bool:
        await self.clock.settle()
        if _find_work(engine):
            return True
        await engine.events.wait_until_idle()
        await self.clock.settle()
        return bool(_find_work(engine))

    async def assert_no_lost(self) -> Report:
        """Drain, and have the history of the test judged: every message that was accepted is there, or has ended.

        None was lost, invented, settled twice, or handled again without a cause. What waits for its time, for somebody
        who serves its recipient, or under a lease, is not lost; dead letters, expired and withdrawn messages have
        ended.

        Returns:
            What the judge has counted.

        Raises:
            AssertionError: A promise is broken, by the message; or it could not be drained.
        """
        await self.drain()
        history, store = _Notebook(self._history.events), self._open_store()
        ids = known_ids(history.events)
        ids += await record_hops(history, store, ids, by_name=False)
        await record_final(history, ids, store.deliveries.list_receipts)
        await self._excuse([event for event in history.events if event["e"] == "final"])
        report = check(history.events)
        report.violations = [violation for violation in report.violations if violation.invariant in JUDGED]
        report.assert_ok()
        return report

    async def _excuse(self, finals: Sequence[Event]) -> None:
        """Note why messages are rightly open, or rightly gone."""
        engine, store = self._open_engine(), self._open_store()
        rows = {row.message_id: row for row in await store.deliveries.list_receipts([one["message"] for one in finals])}
        ended = {event.get("message") for event in self._history.events if event["e"] == "settle.ok"}
        tried = {id: event for event in self._history.events if event["e"] == "send.try" for id in event.get("ids", ())}
        agents = {agent for event in tried.values() for agent in (event["sender"], *event["to"])}
        known = {str(agent.id) for agent in await store.directory.find_agents_by_id(agents)}
        for final in finals:
            row = rows.get(final["message"])
            event = tried.get(final["message"])
            if row is None:
                is_of_removed = event is not None and not {event["sender"], *event["to"]} <= known
                if is_of_removed or final["message"] in ended:
                    final["state"] = "removed"
            elif row.state in ("queued", "claimed"):
                is_later = row.deliver_at is not None and row.deliver_at > utc_now()
                if is_later or row.state == "claimed" or engine.stations.find(row.recipient_id, row.kind) is None:
                    final["waits"] = True

    async def _crash(self, settlements: Sequence[ports.Settlement]) -> ports.Settled:
        """Put into the store what a crash before these settlements leaves: their claims return, and were attempts."""
        engine = self._open_engine()
        of = {settlement.claim: delivery for settlement, delivery in engine.claims.settling}
        lost = []
        for settlement in settlements:
            delivery = of.get(settlement.claim)
            is_last = delivery is not None and settlement.claim.attempt >= delivery.max_attempts
            how = ports.Settling.DEAD if is_last else ports.Settling.RETRY
            lost.append(ports.Settlement(settlement.claim, how, reason=DIED))
        self._history.record("cut", who=PROCESS, since=time.monotonic_ns())
        assert self._store is not None
        await self._store.deliveries.settle(lost, owner=engine.claims.owner)
        engine.stations.look()
        return ports.Settled([False] * len(lost), set(), [])

    def _let_go(self) -> None:
        self.clock.let_go()
        vars(self.sdk).pop("_build_store", None)

    # --- between the SDK and its store --------------------------------------------------------------------------------

    def _watch(self, build: Callable[[], ports.Store]) -> ports.Store:
        """Put the kit between the SDK and its store."""
        self._store = store = build()
        watched = cast(ports.Store, WatchedStore(store, self._calls, self.faults.meet))
        return cast(ports.Store, RecordingStore(watched, self._history, sends=True))

    def _follow(self, engine: Engine) -> None:
        """Record the runs of an engine, and let its housekeeping make few steps of the time."""
        self._engine = engine
        for rounds in (engine.indexing, engine.retention):
            rounds.pause = POLL
        runs = engine.dispatcher.runs
        handle = runs.handle

        async def record(run: Run) -> ports.Settlement | None:
            if not FACTS[run.delivery.kind].is_sent:
                return await handle(run)
            claim = run.delivery.claim
            told = {"message": run.delivery.message_id, "attempt": claim.attempt, "token": claim.token}
            value = run.delivery.message_id if run.delivery.kind is Kind.CONVERSATION else None
            self._history.record("h.start", **told, recipient=run.delivery.recipient_id, value=value)
            how = "cancelled"
            try:
                settlement = await handle(run)
                how = "ok" if settlement is None else ENDS.get(settlement.how, "err")
                return settlement
            finally:
                self._history.record("h.end", **told, how=how)

        runs.handle = record  # type: ignore[method-assign]

    def _list_threads(self) -> set[asyncio.Future[Any]]:
        engine = self._engine
        return set() if engine is None else engine.threads.calls | engine.notices.threads.calls

    def _open_engine(self) -> Engine:
        return self.sdk._started()

    def _open_store(self) -> ports.Store:
        return self._open_engine().store


class _Notebook(Chronicle):
    """A history in memory."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        super().__init__(PROCESS)
        self.events = [*events]
        self._ran: set[object] = set()

    def record(self, event: str, **fields: object) -> None:
        """See `Chronicle`. What an agent pulls, and says to be done, has had its run by that."""
        message = fields.get("message")
        if event == "h.start":
            self._ran.add(message)
        elif event == "settle.ok" and fields["how"] == "done" and message is not None and message not in self._ran:
            pulled = {"message": message, "attempt": 1, "token": fields["token"]}
            self.events += [self.make("h.start", pulled), self.make("h.end", {**pulled, "how": "ok"})]
        self.events.append(self.make(event, fields))


def _make_config(config: Config | None, settings: ConfigKeywords) -> Config:
    if config is None:
        coordination = settings.get("coordination", {})
        if isinstance(coordination, Mapping):
            settings["coordination"] = {"mode": "sql", **coordination}
        settings.setdefault("url", URL)
        config = Config(**settings)
    return config


def _check_place(config: Config) -> None:
    if config.store.path != ":memory:" or config.redis is not None:
        raise ConfigurationError(
            f"A kit has everything in memory, and the configuration names {config.redis or config.store}. Give it "
            f"Config(url={URL!r}, coordination={{'mode': 'sql'}}), or the other settings as keywords."
        )


def _find_work(engine: Engine) -> list[str]:
    """What is not handled yet, in words; without the turns of meetings, which go on for ever."""
    found = []
    for run in engine.claims.running:
        if run.delivery.kind is not Kind.TURN:
            name = run.station.agent.external_id
            found.append(f"the handler of {name!r} is at work on message {run.delivery.message_id}")
    found += [f"a worker is at work on task {job.task.claim.task_id}" for job in engine.workforce.labour.running]
    if engine.notices.tasks:
        found.append("a notification handler is at work")
    claims, stations = engine.claims, engine.stations
    is_hungry = any(station.is_hungry for station in stations if station.kind is not Kind.TURN)
    if is_hungry or claims.settling or claims.reserved or claims.is_in_doubt or stations.bell.is_set():
        found.append("messages are on their way to or from their handlers")
    if not engine.outbox.is_idle:
        found.append("messages are being stored")
    if engine.workforce.settling:
        found.append("ends of tasks are being stored")
    return found
