"""A laboratory for processes: it starts them, breaks them, waits for them, and judges what they recorded.

Every process is ended by its own handle, and nothing else is ended. All of them, the nemesis included, append to one
history file in the test's folder; their output is in a file each, shown when they fail.

They are forked from a process that has imported the SDK and done nothing else: no loop, no thread, no connection, so
that each is as if it had started by itself, but for the quarter of a second that its imports would take.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from agent_messaging import AgentMessaging, AskState, Config
from agent_messaging.bootstrap import build_store
from agent_messaging.storage.ports import Store
from agent_messaging.testing.checker import check
from agent_messaging.testing.dumping import record_asks, record_hops, record_meetings, record_sessions
from agent_messaging.testing.history import Event, History, known_ids, parse_line, read_events, record_final
from agent_messaging.testing.report import Report, Violation
from tests.processes.asker import ask
from tests.processes.participant import attend, hold, take_part
from tests.processes.partner import converse
from tests.processes.program import READY, Main, run
from tests.processes.sender import send
from tests.processes.worker import work
from tests.support import eventually

SEED = int(os.environ.get("AGENT_MESSAGING_TEST_SEED", "20260101"))
"""Of the random kills; read at import, because the environment is emptied for each test."""
STRIKES = int(os.environ.get("AGENT_MESSAGING_TEST_STRIKES", "24"))
"""Of the nemesis in the random kills; the default takes about ten seconds, thousands make a soak test."""
MAX_ATTEMPTS = 5
LEASE = 10.0
"""Seconds, on PostgreSQL. Long enough for a busy machine to renew it: a lease lost to that explains nothing."""
DATABASE = {"lease": LEASE, "min_pool_size": 1, "max_pool_size": 5}
MESSAGING = {"max_attempts": MAX_ATTEMPTS, "retry_delay": 0.05, "retry_max_delay": 0.2, "handler_timeout": 20.0}
ROOT = Path(__file__).parents[2]
START_TIMEOUT = 30.0
"""Seconds for a process to be ready; much, for a machine that is busy with other tests."""
ASKS_END = 3.0
"""Seconds that the asks of a run have to end after it: more than the timeout of any that is still open then."""
ORGANIZATION = "org"
PROGRAMS: dict[str, Main] = {
    "asker": ask,
    "attender": attend,
    "holder": hold,
    "participant": take_part,
    "partner": converse,
    "sender": send,
    "worker": work,
}
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    [
        "agent_messaging.client",
        "agent_messaging.storage.postgres.store",
        "agent_messaging.storage.sqlite.store",
        "agent_messaging.testing.recording",
    ]
)


class Child:
    """A process of the run, under the name of its incarnation."""

    def __init__(self, name: str, program: str, settings: dict[str, Any], output: Path) -> None:
        self.name = name
        self.program = program
        self.settings = settings
        self._output = output
        output.touch()
        self.process = _forks.Process(
            target=run, args=(PROGRAMS[program], {**settings, "name": name}, output), name=name, daemon=True
        )
        self.process.start()

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    @property
    def is_alive(self) -> bool:
        return self.process.is_alive()

    async def wait_for(self, line: str, timeout: float = START_TIMEOUT) -> None:
        """Wait until it has said this line; at once an AssertionError if it ends without."""

        def look() -> bool:
            alive = self.is_alive
            if line in self.output.splitlines():
                return True
            assert alive, f"{self.name} ended with {self.process.exitcode} before it said {line}:\n{self.output}"
            return False

        try:
            await eventually(look, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.name}:\n{self.output}") from None

    async def wait(self, timeout: float = START_TIMEOUT) -> int:
        """Wait for its end and return its exit code, negative for a signal."""
        try:
            await eventually(lambda: not self.is_alive, timeout)
        except AssertionError:
            raise AssertionError(f"{self.name} did not end:\n{self.output}") from None
        assert self.process.exitcode is not None
        return self.process.exitcode

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self.is_alive and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def end(self) -> None:
        """Make sure that it is gone."""
        if self.is_alive:
            self.process.kill()  # ends a frozen one too
        self.process.join(10)


class Lab:
    """One run: a store, its processes and its history.

    Args:
        folder: Where the history and the outputs go.
        url: The store.
        seed: Of everything that is drawn; shown with every judgement.
        limits: What the run is judged by; see `history`.
        settings: Of every process; see `program`.
    """

    def __init__(
        self, folder: Path, url: str, *, seed: int = 0, limits: dict[str, Any] | None = None, **settings: Any
    ) -> None:
        self.folder = folder
        self.url = url
        self.seed = seed
        self.limits = limits or {}
        self.settings = settings
        self.path = folder / "history.jsonl"
        self.history = History(self.path, "test")
        self.children: list[Child] = []
        self._incarnations: Counter[str] = Counter()

    async def __aenter__(self) -> Lab:
        self.history.record("limits", **self.limits)
        return self

    async def __aexit__(self, *_: object) -> None:
        for child in self.children:
            child.end()
        self.history.close()

    async def register(self, *agents: str) -> None:
        """Make the agents that take part."""
        async with AgentMessaging(self.url) as sdk:
            await sdk.register_organization(ORGANIZATION, "Organization")
            for agent in agents:
                await sdk.register_agent(agent, ORGANIZATION, agent)

    # --- processes ----------------------------------------------------------------------------------------------------

    def start(self, program: str, role: str | None = None, **settings: Any) -> Child:
        """Start a process without waiting for it; each start of a role is another incarnation."""
        role = role or program
        name = f"{role}.{self._incarnations[role]}"
        self._incarnations[role] += 1
        given = {"url": self.url, "history": str(self.path), **self.settings, **settings, "role": role}
        child = Child(name, program, given, self.folder / f"{name}.log")
        self.children.append(child)
        return child

    async def start_worker(self, role: str = "worker", *, serves: Sequence[str], **settings: Any) -> Child:
        """Start a worker and wait until it serves."""
        child = self.start("worker", role, serves=list(serves), **settings)
        await child.wait_for(READY)
        return child

    def start_sender(
        self, role: str = "sender", *, to: Sequence[Sequence[str]], senders: Sequence[str] = ("alice",), **settings: Any
    ) -> Child:
        return self.start("sender", role, senders=list(senders), to=[list(one) for one in to], **settings)

    def restart(self, child: Child) -> Child:
        """Start the next incarnation of a process."""
        settings = {key: value for key, value in child.settings.items() if key not in ("name", "role")}
        return self.start(child.program, child.settings["role"], **settings)

    # --- faults -------------------------------------------------------------------------------------------------------

    async def kill(self, child: Child) -> None:
        """`kill -9`."""
        since = time.monotonic_ns()
        child.process.kill()
        await child.wait()
        self.history.record("kill", who=child.name, since=since)

    def pause(self, child: Child) -> None:
        """SIGSTOP: a laptop that sleeps, a machine that swaps."""
        since = time.monotonic_ns()
        child.signal(signal.SIGSTOP)
        self.history.record("pause", who=child.name, since=since)

    def resume(self, child: Child) -> None:
        child.signal(signal.SIGCONT)
        self.history.record("resume", who=child.name)

    async def stop(self, child: Child, timeout: float = START_TIMEOUT) -> None:
        """SIGTERM, and it leaves in order."""
        child.process.terminate()
        code = await child.wait(timeout)
        assert code == 0, f"{child.name} ended with {code}:\n{child.output}"

    # --- the judgement ------------------------------------------------------------------------------------------------

    def events(self) -> list[Event]:
        return read_events(self.path)

    def count(self, event: str, **fields: Any) -> int:
        """How many such events there are so far."""
        return sum(
            one["e"] == event and all(one.get(name) == value for name, value in fields.items()) for one in self.events()
        )

    async def wait_for(self, event: str, count: int = 1, timeout: float = START_TIMEOUT, **fields: Any) -> None:
        """Wait until so many such events are in the history, reading each line of it once."""
        wanted = {"e": event, **fields}
        found = 0
        with self.path.open() as file:

            def look() -> bool:
                nonlocal found
                while found < count:
                    position = file.tell()
                    line = file.readline()
                    if not line.endswith("\n"):  # the end, or a line that is being written
                        file.seek(position)
                        break
                    for one in parse_line(line):
                        found += all(one.get(name) == value for name, value in wanted.items())
                return found >= count

            try:
                await eventually(look, timeout, interval=0.02)
            except AssertionError:
                raise AssertionError(
                    f"{found} of {count} events {wanted} after {timeout:g} s\n{self.describe()}"
                ) from None

    @contextlib.asynccontextmanager
    async def observing(self) -> AsyncIterator[Store]:
        """The store, seen by somebody who is no process of it and so helps none."""
        store = build_store(Config(url=self.url, database={"min_pool_size": 1, "max_pool_size": 2}))
        try:
            await store.open(initialize=False)
            yield store
        finally:
            await store.aclose()

    async def drain(self, store: Store, timeout: float) -> bool:
        """Wait until no delivery is open; False if some still are when the time is over."""

        async def is_drained() -> bool:
            counts = (await store.deliveries.statistics()).counts
            return not any(count for state, count in counts.items() if not state.is_final)

        try:
            await eventually(is_drained, timeout, interval=0.05)
        except AssertionError:
            return False
        return True

    async def report(self, timeout: float = 60.0) -> Report:
        """Drain, dump what became of every message, and check the history, whatever comes out."""
        async with self.observing() as store:
            if not await self.drain(store, timeout):
                print(f"not drained after {timeout:g} s")
            ids = known_ids(self.events())
            ids += await record_hops(self.history, store, ids)
            await record_final(self.history, ids, store.deliveries.list_receipts)
            await self.record_rest(store, ids)
            stored = sum((await store.deliveries.statistics()).counts.values())
        report = check(self.events())
        print(f"seed {self.seed}\n{report}")  # shown by pytest when the test fails
        missing = self.count("final", state="missing")
        # Answers, and the turns of meetings, are stored without anybody's sending them.
        if stored != len(ids) - missing and not self.count("ask.try") and not self.count("meeting.final"):
            text = f"{stored} rows are stored, {len(ids) - missing} are known"
            report.violations.append(Violation("I2", None, text))
        return report

    async def record_rest(self, store: Store, ids: list[str]) -> None:
        """Dump what became of asks, sessions and meetings."""

        async def are_asks_over() -> bool:
            return not any(ask.state is AskState.OPEN for ask in await store.sessions.find_asks(ids))

        with contextlib.suppress(AssertionError):  # what is left open is for the checker
            await eventually(are_asks_over, ASKS_END, interval=0.05)
        await record_asks(self.history, store.sessions, ids)
        agents = await store.directory.list_agents(None, 1_000, 0)
        await record_sessions(self.history, store.sessions, [str(agent.id) for agent in agents])
        await record_meetings(self.history, store)

    async def judge(self, timeout: float = 60.0) -> Report:
        """Report, and raise AssertionError if a promise is broken."""
        report = await self.report(timeout)
        try:
            report.assert_ok()
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.describe()}") from None
        return report

    def describe(self) -> str:
        """Where to look: the seed and what the processes said."""
        said = (f"--- {child.name}\n{child.output[-2000:]}" for child in self.children if child.output)
        return "\n".join([f"seed {self.seed}, {self.path}", *said])


MakeLab = Callable[..., Lab]


class Nemesis:
    """Kills, freezes and stops processes at moments drawn from the lab's seed, and replaces each it has ended.

    Its time is cut into windows. Each has its own selection of faults, and a quarter of them none, so that what was
    broken is also seen to heal.
    """

    FAULTS = ("kill", "pause", "stop")

    def __init__(
        self, lab: Lab, victims: Sequence[Child], *, faults: Sequence[str] = FAULTS, longest_pause: float = 1.0
    ) -> None:
        self.lab = lab
        self.victims = list(victims)
        self.faults = faults
        self.longest_pause = longest_pause
        self.random = random.Random(lab.seed)
        self.done: Counter[str] = Counter()
        self._thawing: set[asyncio.Task[None]] = set()

    async def rage(self, strikes: int, *, windows: int = 8, interval: float = 0.4) -> None:
        """Do harm so many times, about once in every `interval`; then let everything heal."""
        calm = self.random.sample(range(windows), windows // 4)
        for window in range(windows):
            # The first one is always among them.
            first, *others = self.faults
            chosen = [first, *self.random.sample(others, self.random.randint(0, len(others)))]
            for _ in range(strikes // (windows - len(calm))):
                await asyncio.sleep(self.random.expovariate(1 / interval))
                if window not in calm:
                    await self.strike(self.random.choice(chosen))
        await self.heal()

    async def strike(self, fault: str) -> None:
        """Do one harm to one victim."""
        # Rather one that is at work than one that only starts.
        ready = [index for index, victim in enumerate(self.victims) if READY in victim.output]
        index = self.random.choice(ready or range(len(self.victims)))
        victim = self.victims[index]
        assert victim.is_alive, f"{victim.name} ended by itself with {victim.process.exitcode}:\n{victim.output}"
        self.done[fault] += 1
        if fault == "kill":
            await self.lab.kill(victim)
            self.victims[index] = self.lab.restart(victim)
        elif fault == "stop":
            victim.process.terminate()
            self.victims[index] = self.lab.restart(victim)
        else:
            self.lab.pause(victim)
            self.victims[index] = self.lab.restart(victim)
            task = asyncio.create_task(self._thaw(victim, self.random.uniform(0.05, self.longest_pause)))
            self._thawing.add(task)

    async def _thaw(self, victim: Child, after: float) -> None:
        await asyncio.sleep(after)
        self.lab.resume(victim)
        victim.process.terminate()  # its place is taken

    async def heal(self) -> None:
        """Wait until everything that was frozen goes on, every replacement serves, and what it replaced has ended.

        On a busy machine one that was told to stop may take its time, and until then it may still send.
        """
        await asyncio.gather(*self._thawing)
        for victim in self.victims:
            await victim.wait_for(READY)
        for child in self.lab.children:
            if child not in self.victims:
                code = await child.wait()
                # In order, killed, or told to stop before it listened.
                good = (0, -signal.SIGKILL, -signal.SIGTERM)
                assert code in good, f"{child.name} ended with {code}:\n{child.output}"
