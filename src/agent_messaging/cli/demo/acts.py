"""The demo, act by act. Each claim is checked before it is printed."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

from ... import AgentMessaging, Receipt
from ..output import clean, count, duration
from ..receipt import life
from .crew import Crew, DemoFailure, Run
from .meeting import hold
from .stage import Stage, bold
from .store import AGENTS, SENDER, config_for
from .worker import NEVER_ENDING

NOTES = 9
"""Measured, after one to warm up."""


@dataclass(slots=True)
class Figures:
    """The measurements and counts."""

    woken_ms: list[float] = field(default_factory=list)
    broadcast_ms: float = 0.0
    takeover_ms: float = 0.0
    sent: int = 0
    handled: int = 0
    runs: int = 0
    silent_s: float = 0.0
    """Seconds after which the silent participant of the meeting lost its turn."""
    receipt: Receipt | None = None


async def play(stage: Stage, path: str) -> Figures:
    """Play all acts on a new store at `path`.

    Raises:
        DemoFailure: Something that the demo claims did not happen.
    """
    figures = Figures()
    crew = Crew(path)
    try:
        async with AgentMessaging(config_for(path)) as sdk:
            await sdk.register_organization("acme", "Acme")
            for name in (SENDER, *AGENTS):
                await sdk.register_agent(name, "acme", name.title())
            for number in (1, 2):
                await crew.start(f"worker {number}")
            stage.act(1, "Two processes on one file")
            await crew.wait_until_ready()
            pids = " and ".join(f"{worker.name} (pid {worker.pid})" for worker in crew.workers)
            stage.say(f"   {pids} serve {', '.join(AGENTS[:-1])} and {AGENTS[-1]}")
            await sdk.wait_until_served(AGENTS, timeout=30)
            await _notes(stage, sdk, crew, figures)
            await _broadcast(stage, sdk, crew, figures)
            await _kill(stage, sdk, crew, figures)
            figures.silent_s = await hold(stage, sdk)
    finally:
        await crew.end()
    return figures


async def _notes(stage: Stage, sdk: AgentMessaging[Any], crew: Crew, figures: Figures) -> None:
    for number in range(NOTES + 1):
        [id] = await sdk.one_way.send(SENDER, "bob", {"note": number})
        returned = time.monotonic()
        first = await _handled_once(sdk, crew, figures, id)
        if number:
            figures.woken_ms.append(max(0.0, first.at - returned) * 1000)
    median = statistics.median(figures.woken_ms)
    stage.say(f"   {SENDER}, in this process, sends bob {count(NOTES, 'note')}, each synced to disk")
    stage.done(f"woken in {bold(f'{median:.1f} ms')}: from send() returning here to the handler's start there")
    stage.say(f"     (median of {NOTES}; {min(figures.woken_ms):.1f} to {max(figures.woken_ms):.1f} ms)")


async def _broadcast(stage: Stage, sdk: AgentMessaging[Any], crew: Crew, figures: Figures) -> None:
    stage.act(2, "One message to three agents")
    begun = time.monotonic()
    ids = await sdk.one_way.send(SENDER, list(AGENTS), {"news": "the demo goes well"})
    receipts = await sdk.receipts.wait(ids, timeout=30)
    figures.broadcast_ms = (time.monotonic() - begun) * 1000
    runs = [await _handled_once(sdk, crew, figures, receipt.message_id) for receipt in receipts]
    if [one.agent for one in runs] != list(AGENTS):
        raise DemoFailure(f"The broadcast was handled by {[one.agent for one in runs]}, not by {list(AGENTS)}.")
    stage.say(f"   {SENDER} → {', '.join(AGENTS)}   stored for all or for none")
    where = ", ".join(f"{one.agent} ({one.worker.name})" for one in runs)
    stage.done(f"handled by {where}")
    stage.say(f"     all receipts in after {bold(f'{figures.broadcast_ms:.0f} ms')}")


async def _kill(stage: Stage, sdk: AgentMessaging[Any], crew: Crew, figures: Figures) -> None:
    stage.act(3, "kill -9 in the middle of the work")
    [id] = await sdk.one_way.send(SENDER, "bob", {"task": NEVER_ENDING})
    await crew.wait_for("the handler to begin", lambda: crew.runs_of(id))
    victim = crew.runs_of(id)[0].worker
    names = {worker.process_id: worker.name for worker in crew.workers}
    stage.say(f"   {SENDER} → bob   a long task; {victim.name} is in the middle of it")
    killed = time.monotonic()
    await crew.kill(victim)
    stage.say(f"   kill -9 {victim.pid}")
    await crew.wait_for("the message to be taken over", lambda: len(crew.runs_of(id)) > 1)
    receipt = await sdk.receipts.wait(id, timeout=30)
    second = crew.runs_of(id)[1]
    events = [event.event for event in receipt.events]
    expected = ["stored", "claimed", "lost", "claimed", "done"]
    if second.worker is victim or second.attempt != 2 or receipt.attempt != 2 or events != expected:
        raise DemoFailure(f"The message was not taken over as promised: its receipt says {', '.join(events)}.")
    figures.takeover_ms = (second.at - killed) * 1000
    figures.sent += 1
    figures.handled += 1
    figures.runs += len(crew.runs_of(id))
    after = bold(duration(second.at - killed))
    stage.done(f"{second.worker.name} took it over {after} after the kill, and finished it")
    figures.receipt = receipt
    _print_life(stage, receipt, names)
    lost = figures.sent - figures.handled
    repeated = figures.runs - figures.sent
    stage.say()
    tally = f"{count(figures.sent, 'message')} sent, {figures.handled} handled, {bold(f'{lost} lost')}"
    stage.done(f"{tally}; {repeated} ran twice: its process was killed")
    if lost or repeated != 1 or len(crew.runs) != figures.runs:
        raise DemoFailure(f"{lost} messages were lost and {repeated} run twice.")


def _print_life(stage: Stage, receipt: Receipt, names: dict[str, str]) -> None:
    stage.act(4, "The life of that message, from its receipt")
    for at, after, event, attempt, process, reason in life(receipt, names):
        run = f"attempt {attempt}" if attempt else ""
        stage.say(f"   {at}  {after:>8}  {event:<8}  {run:<9}  {process:<8}  {clean(reason)}".rstrip())


async def _handled_once(sdk: AgentMessaging[Any], crew: Crew, figures: Figures, id: str) -> Run:
    """Wait until a message is done, and make sure that it had one run, in another process."""
    receipt = await sdk.receipts.wait(id, timeout=30)
    await crew.wait_for("a handler to end", lambda: (id, 1) in crew.ended)
    runs = crew.runs_of(id)
    if receipt.state.value != "done" or len(runs) != 1 or receipt.attempt != 1:
        raise DemoFailure(f"Message {id} is {receipt.state.value} after {count(len(runs), 'run')}.")
    if runs[0].worker.pid == os.getpid():
        raise DemoFailure(f"Message {id} was handled in the process that sent it.")
    figures.sent += 1
    figures.handled += 1
    figures.runs += 1
    return runs[0]
