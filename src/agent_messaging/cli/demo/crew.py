"""The demo's workers, seen from the demo: started, listened to, killed, and ended; only ever its own children."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import click

PATIENCE = 30.0
"""Seconds to wait for anything: a slow machine is no failure."""


class DemoFailure(click.ClickException):
    """Something the demo claims did not happen."""

    code = "demo_failed"


@dataclass(frozen=True, slots=True)
class Run:
    """A handler began to run."""

    worker: Worker
    message_id: str
    agent: str
    attempt: int
    at: float
    """CLOCK_MONOTONIC."""


@dataclass(eq=False, slots=True)
class Worker:
    """One child process."""

    name: str
    child: asyncio.subprocess.Process
    process_id: str = ""
    """Its incarnation in the store; empty until it is ready."""
    listening: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self.child.pid


@dataclass(slots=True)
class Crew:
    """The workers, and what they told."""

    path: str
    workers: list[Worker] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    ended: list[tuple[str, int]] = field(default_factory=list)
    """(message id, attempt) of the runs that came to their end."""
    told: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self, name: str) -> Worker:
        """Start a worker; it is not ready yet."""
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"{__package__}.worker", self.path),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            process_group=0,  # so that Ctrl-C is the demo's to deal with
        )
        worker = Worker(name, child)
        self.workers.append(worker)
        worker.listening = asyncio.create_task(self._listen(worker), name=f"listen to {name}")
        return worker

    async def _listen(self, worker: Worker) -> None:
        assert worker.child.stdout is not None
        async for line in worker.child.stdout:
            self._take(worker, json.loads(line))
            self._notify()
        await worker.child.wait()
        self._notify()

    def _take(self, worker: Worker, fact: dict[str, Any]) -> None:
        if fact["event"] == "ready":
            worker.process_id = fact["process"]
        elif fact["event"] == "begun":
            self.runs.append(Run(worker, fact["id"], fact["agent"], fact["attempt"], fact["at"]))
        else:
            self.ended.append((fact["id"], fact["attempt"]))

    def _notify(self) -> None:
        told, self.told = self.told, asyncio.Event()
        told.set()

    async def wait_for(self, what: str, happened: Callable[[], Any]) -> None:
        """Wait until something is true of what the workers told.

        Raises:
            DemoFailure: It was not within PATIENCE, or a worker died.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                while not happened():
                    told = self.told
                    for worker in self.workers:
                        if worker.child.returncode is not None:
                            raise DemoFailure(f"{worker.name} (pid {worker.pid}) ended with {worker.child.returncode}.")
                    await told.wait()
        except TimeoutError:
            raise DemoFailure(f"After {PATIENCE:g} s still waiting for {what}.") from None

    async def wait_until_ready(self) -> None:
        """Wait until every worker serves."""
        await self.wait_for("the workers to start", lambda: all(worker.process_id for worker in self.workers))

    def runs_of(self, message_id: str) -> list[Run]:
        """The runs of a message, in the order in which they were told."""
        return [run for run in self.runs if run.message_id == message_id]

    async def kill(self, worker: Worker) -> None:
        """kill -9; returns when the process is gone and all it told is known."""
        self.workers.remove(worker)
        worker.child.kill()
        await worker.child.wait()
        if worker.listening is not None:
            await worker.listening

    async def end(self) -> None:
        """Ask all workers to leave, and kill those that do not; an interruption kills all that are left at once.

        None is alive afterwards: the demo removes the folder of their store.
        """
        for worker in self.workers:
            if worker.child.stdin is not None:
                worker.child.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE / 3):
                for worker in self.workers:
                    await worker.child.wait()
        except TimeoutError:
            pass
        finally:
            for worker in self.workers:
                if worker.child.returncode is None:
                    worker.child.kill()
            for worker in self.workers:
                await worker.child.wait()
        listening = [worker.listening for worker in self.workers if worker.listening is not None]
        await asyncio.gather(*listening, return_exceptions=True)
