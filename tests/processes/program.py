"""What the worker and the sender share: settings, the recorded SDK, and the end by a signal.

The settings are made by `harness.Lab`:

    url, name, history        the store, the incarnation's name, the history file
    database, messaging       settings of the SDK's configuration
    serves                    agents whose messages it handles
    on_abandoned              what becomes of their runs when nobody waits for them: finish, or cancel
    claim_margin              instead of `ports.CLAIM_MARGIN`, so that a test can wait for the hard end of a claim
    early_sign                true: on PostgreSQL, look for the dead more often and believe the early sign sooner
    plants                    names of `plants` to put into the SDK: bugs that a judge must notice
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agent_messaging import (
    AgentMessaging,
    AgentMessagingError,
    Config,
    MessageContext,
    PartsRestartedError,
    bootstrap,
    client,
)
from agent_messaging.storage import ports
from agent_messaging.testing.history import History, hash_body
from agent_messaging.testing.recording import RecordingStore
from tests.processes.plants import plant
from tests.support import eventually

READY = "READY"
HOLDING = "HOLDING"
READING = "READING"
HEARTBEAT, STALL = 0.05, 0.1
"""Seconds between two looks at the clock, and how much later one may be."""
Settings = dict[str, Any]
Main = Callable[["Program"], Awaitable[None]]


class Program:
    """One process of a run."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.history = History(settings["history"], settings["name"])
        self.stopping = asyncio.Event()
        """Set by SIGTERM and SIGINT."""
        self.stopping_since: int | None = None
        config = Config(
            url=settings["url"], database=settings.get("database", {}), messaging=settings.get("messaging", {})
        )
        self._record_the_store()
        self.sdk = AgentMessaging[Any](config)
        for agent in settings.get("serves", ()):
            self.sdk.register_handler(agent, on_abandoned=settings.get("on_abandoned", "finish"))(self._handle)

    def _record_the_store(self) -> None:
        build = bootstrap.build_store

        def build_recording(config: Config) -> ports.Store:
            if self.settings.get("early_sign") and self.settings["url"].startswith("postgres"):
                hasten_deaths()
            store = build(config)
            if "claim_margin" in self.settings:
                shorten_claims(self.settings["claim_margin"])
            for name in self.settings.get("plants", ()):
                store = plant(name, store)
            recorded: Any = RecordingStore(store, self.history)
            return recorded  # type: ignore[no-any-return]

        client.build_store = build_recording  # type: ignore[attr-defined]

    async def run(self, main: Main) -> None:
        """Serve and do what `main` does until it ends or a signal comes, then leave in order."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        # Readable when the process of the test has ended: nothing outlives a test run.
        parent = multiprocessing.parent_process()
        assert parent is not None
        loop.add_reader(parent.sentinel, os._exit, 1)
        # Before the SDK starts, because it serves before its start returns.
        self.history.record("start", pid=os.getpid(), serves=self.settings.get("serves", []))
        async with self.sdk:
            self.history.record("ready")
            say(READY)
            watching = asyncio.create_task(self._watch_the_time())
            await main(self)
            self._stop()
            watching.cancel()
        # What it gave back may run elsewhere before this line is written.
        self.history.record("stop", since=self.stopping_since)

    def _stop(self) -> None:
        if self.stopping_since is None:
            self.stopping_since = time.monotonic_ns()
        self.stopping.set()

    async def _watch_the_time(self) -> None:
        """Tell of times in which a busy machine let this process do nothing; nobody can keep a deadline then."""
        while True:
            since = time.monotonic_ns()
            await asyncio.sleep(HEARTBEAT)
            if time.monotonic_ns() - since > (HEARTBEAT + STALL) * 1e9:
                self.history.record("stall", since=since)

    async def ask(self, asker: str, responder: str, body: dict[str, Any], timeout: float, **options: Any) -> Any:
        """Ask, and record it."""
        expect: Any = options.pop("expect", None)
        told: dict[str, Any] = {"org": "org", "expect": expect, "thread": options.get("thread")}
        asking = self.history.asking(asker, responder, body, value=body["value"], timeout=timeout, **told)
        with asking as call:
            answer = await self.sdk.conversation.send_and_wait(asker, responder, body, timeout, **options)
            call.reply(answer)
        return answer

    async def read(self, asker: str, responder: str, body: dict[str, Any], timeout: float, **options: Any) -> None:
        """Ask, read the parts of the answer, and record them."""
        value = body["value"]
        told: dict[str, Any] = {"org": "org", "thread": options.get("thread")}
        with self.history.asking(asker, responder, body, value=value, timeout=timeout, **told) as call:
            stream = self.sdk.conversation.ask(asker, responder, body, timeout, **options)
            is_over = False
            while not is_over:
                try:
                    async for part in stream:
                        self.history.record("part", value=value, run=part["run"], n=part["n"])
                        if part["n"] == body.get("shown"):
                            say(f"{READING} {value}")
                    is_over = True
                except PartsRestartedError:
                    self.history.record("part.anew", value=value)
            answer = await stream.answer
            self.history.record("part.end", value=value, run=answer["run"], n=answer["parts"])
            call.reply(answer)

    async def ask_many(
        self, asker: str, responders: list[str], body: dict[str, Any], timeout: float, **options: Any
    ) -> None:
        """Ask several at once, and record it as an ask of each, under a value of its own."""
        body = {**body, "is_poll": True}
        with contextlib.ExitStack() as everything:
            stacks = {responder: everything.enter_context(contextlib.ExitStack()) for responder in responders}
            calls = {
                responder: stack.enter_context(
                    self.history.asking(
                        asker,
                        responder,
                        body,
                        value=value_of(body, responder),
                        timeout=timeout,
                        org="org",
                        thread=options.get("thread"),
                    )
                )
                for responder, stack in stacks.items()
            }
            for outcome in await self.sdk.conversation.ask_many(asker, responders, body, timeout, **options):
                with contextlib.suppress(AgentMessagingError), stacks[outcome.recipient]:
                    if outcome.error is not None:
                        raise outcome.error
                    calls[outcome.recipient].reply(outcome.answer)

    async def _handle(self, body: dict[str, Any], context: MessageContext) -> Any:
        if context.is_meeting_message:
            return None
        with self.history.running(
            context.message_id,
            context.attempt,
            recipient=context.receiver_id,
            body=body,
            value=value_of(body, context.receiver_id),
            org=context.organization_id,
        ) as run:
            more = await self._act(body, context)
            if not context.requires_reply or more is None:
                return None
            answer = {"answer": body["value"], "by": self.history.process, "attempt": context.attempt, **more}
            run.answer(answer)
            return answer

    async def _act(self, body: dict[str, Any], context: MessageContext) -> dict[str, Any] | None:
        """What a message tells its handler to do; `times` is the number of attempts in which it does so.

        Returns:
            What its answer says, if it was asked; None for no answer.
        """
        act = body.get("act", "work")
        if context.attempt > body.get("times", sys.maxsize):
            return {}
        if act == "work":
            await asyncio.sleep(body.get("seconds", 0.0))
        elif act == "hold":
            say(f"{HOLDING} {body['value']}")
            await asyncio.Event().wait()
        elif act == "parts":
            run = f"{self.history.process}/{context.attempt}"
            for n in range(1, body["parts"] + 1):
                await context.part({"run": run, "n": n})
                await asyncio.sleep(body.get("seconds", 0.0))
            return {"run": run, "parts": body["parts"]}
        elif act == "block":
            say(f"{HOLDING} {body['value']}")
            time.sleep(body["seconds"])
        elif act == "status":  # which is no answer to the asker that waits
            await self.sdk.conversation.send_no_wait(context.receiver_id, context.sender_id, {"status": "at work"})
        elif act == "patient":
            message = str(context.message_id)
            self.history.record("h.wait", message=message)
            say(f"{HOLDING} {body['value']}")
            try:
                await context.wait_abandoned()
            finally:
                if context.is_abandoned:
                    self.history.record("h.told", message=message)
        elif act == "until":
            await eventually(Path(body["path"]).exists, 60.0)
        elif act == "raise":
            raise RuntimeError("as told")
        elif act == "exit":
            self.die()
        elif act == "ask":
            return await self._ask_on(body, context)
        elif act == "pass" and context.receiver_id in body["along"]:
            if body.get("hold") == "before":
                await self._hold(body)
            await context.forward(body["along"][context.receiver_id])
            self.history.record("passed", message=str(context.message_id), by=context.receiver_id)
            if body.get("hold") == "after":
                await self._hold(body)
            return None
        elif act == "pass":
            await asyncio.sleep(body.get("seconds", 0.0))
        elif act == "reply":
            answer = {"answer": body["value"], "by": self.history.process, "attempt": context.attempt}
            self.history.record("answer", value=body["value"], hash=hash_body(answer))
            await self.sdk.conversation.reply(context.receiver_id, context.sender_id, answer)
            return None
        else:
            raise ValueError(f"no such act: {act!r}")
        return {}

    async def _hold(self, body: dict[str, Any]) -> None:
        say(f"{HOLDING} {body['value']}")
        await asyncio.Event().wait()

    async def _ask_on(self, body: dict[str, Any], context: MessageContext) -> dict[str, Any]:
        """Ask somebody else, perhaps the one who asked; what comes of it is part of the answer."""
        since = time.monotonic()
        try:
            inner = await self.ask(context.receiver_id, body["whom"], body["body"], body.get("timeout", 20.0))
        except AgentMessagingError as error:
            path = list(getattr(error, "path", ()))
            return {"refused": error.code, "path": path, "seconds": time.monotonic() - since}
        return {"inner": inner}

    def die(self) -> None:
        """End at once, as by `kill -9`, and leave word of it."""
        self.history.record("kill", who=self.history.process, since=time.monotonic_ns(), how="by its own hand")
        os._exit(9)


def value_of(body: dict[str, Any], responder: str) -> str:
    """What the history knows a message by: one that goes to several has a value for each."""
    return f"{body['value']}-{responder}" if body.get("is_poll") else str(body["value"])


def say(line: str) -> None:
    """Tell the harness."""
    print(line, flush=True)


def shorten_claims(margin: float) -> None:
    """Let claims end earlier; the stores have taken the constant into their modules."""
    for name, module in list(sys.modules.items()):
        if name.startswith("agent_messaging.") and hasattr(module, "CLAIM_MARGIN"):
            module.CLAIM_MARGIN = margin  # type: ignore[attr-defined]


def hasten_deaths() -> None:
    """Let the dead of PostgreSQL be found in a second, where a test is about what follows and not about how soon."""
    from agent_messaging.storage import lifesign

    lifesign.EARLY_SIGN = 0.5
    lifesign.POLL = lifesign.LOOK = 0.25


def run(main: Main, settings: Settings, output: Path) -> None:
    """Run a program in this process, which is its own; what it says goes to a file."""
    with output.open("ab") as file:
        for descriptor in (sys.stdout.fileno(), sys.stderr.fileno()):
            os.dup2(file.fileno(), descriptor)

    async def start() -> None:
        await Program(settings).run(main)

    asyncio.run(start())
