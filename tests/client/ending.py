"""A program that ends in the middle of a handler's work, as the tests of stopping tell it.

    python -m tests.client.ending URL WORK END

It says BEGUN when the handler is at work, and LEFT when it has left the SDK. WORK names what works; END how the
program ends. Where the end is a signal, it waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from agent_messaging import (
    AgentMessaging,
    MeetingEventType,
    register_message_notification_handler,
)
from tests.client.support import make_config

HUNG = threading.Event()
"""Never set."""


BEGUN = threading.Event()


def say(line: str) -> None:
    print(line, flush=True)
    if line == "BEGUN":
        BEGUN.set()


def hang(*_: Any) -> None:
    say("BEGUN")
    HUNG.wait(60)


async def hang_on_the_loop(*_: Any) -> None:
    say("BEGUN")
    await asyncio.Event().wait()


async def finish(*_: Any) -> None:
    """Ends in its time."""
    say("BEGUN")
    await asyncio.sleep(1.0)
    say("FINISHED")


async def ignore(*_: Any) -> None:
    """Goes on, however often it is cancelled."""
    say("BEGUN")
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


async def block(*_: Any) -> None:
    """Blocks the loop. It says CAUGHT when the SDK has caught a SIGTERM meanwhile, and the process goes on."""
    catch = signal.getsignal(signal.SIGTERM)
    assert callable(catch)

    def catch_and_tell(number: int, frame: FrameType | None) -> None:
        catch(number, frame)
        os.write(sys.stdout.fileno(), b"CAUGHT\n")

    signal.signal(signal.SIGTERM, catch_and_tell)
    say("BEGUN")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        time.sleep(0.02)  # a signal that another thread of the process is given ends no longer sleep of this one


async def begin(sdk: AgentMessaging[Any], work: str) -> None:
    """Have a handler at work; return when it may have begun. "ignored-event" is an event whose handler never ends."""
    work, handler = (work.removeprefix("ignored-"), ignore) if work.startswith("ignored-") else (work, hang)
    await sdk.register_organization("acme", "Acme")
    for name in ("alice", "bob"):
        await sdk.register_agent(name, "acme", name.title())
    by_name = {"coroutine": hang_on_the_loop, "blocking": block}
    handler = by_name.get(work, handler)
    if work in ("note", *by_name):
        sdk.register_handler("bob")(handler)
        await sdk.one_way.send("alice", "bob", "hi")
    elif work == "notification":
        register_message_notification_handler(agent="bob")(handler)
        await sdk.conversation.send_no_wait("alice", "bob", "hi")
    elif work == "task":
        sdk.register_task_handler("worker", capabilities=["work"])(handler)
        await sdk.tasks.delegate("work", {}, required_capabilities=["work"])
    elif work == "ask":
        sdk.register_handler("bob")(handler)
        asking = asyncio.create_task(sdk.conversation.send_and_wait("alice", "bob", "hi", timeout=60))
        asking.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.sleep(0)
    else:
        await begin_meeting(sdk, work, handler)


async def begin_meeting(sdk: AgentMessaging[Any], work: str, handler: Callable[..., Any]) -> None:
    if work == "event":
        sdk.register_event_handler(MeetingEventType.MEETING_STARTED)(handler)
    if work == "turn":
        sdk.register_meeting_handler("bob")(handler)
    chosen: dict[str, Any] = {"speaker_selection": handler} if work == "selection" else {}
    meeting_id = await sdk.meeting.create_meeting("alice", ["bob"], **chosen)
    await sdk.meeting.attend_meeting("bob", meeting_id)
    await sdk.meeting.start_meeting("alice", meeting_id)
    await sdk.meeting.speak("alice", meeting_id, "hi")


async def without_close(url: str, work: str, end: str) -> None:
    sdk = AgentMessaging[Any](make_config(url))
    await sdk.initialize()
    await begin(sdk, work)
    await asyncio.to_thread(BEGUN.wait, 30)
    if end == "error":
        raise LookupError("as told")
    if end == "exit":
        sys.exit(3)
    if end == "wait":
        await asyncio.Event().wait()


class Tell(logging.Handler):
    """Says when a signal was heard, and when a handler is given up."""

    def emit(self, record: logging.LogRecord) -> None:
        if "asks to stop" in record.getMessage():
            say("HEARD")
        if "does not end" in record.getMessage():
            say("GIVEN-UP")


class Told(AgentMessaging[Any]):
    """Says when it starts."""

    def _build(self) -> Any:
        say("STARTING")
        return super()._build()


async def until_stopped(url: str, work: str, drain: float) -> None:
    sdk = Told(make_config(url, drain_timeout=drain))
    serve(sdk, work)
    if work not in SERVED:
        await sdk.initialize()
        beginning = asyncio.create_task(begin(sdk, work))  # which begins when signals are heard
        beginning.add_done_callback(lambda task: task.result())
    await sdk.run_until_stopped()
    say("LEFT")


async def in_a_block(url: str, work: str, drain: float) -> None:
    sdk = Told(make_config(url, drain_timeout=drain), handle_signals=True)
    serve(sdk, work)
    async with sdk:
        if work not in SERVED:
            await begin(sdk, work)
        await asyncio.Event().wait()
        say("NEVER")
    say("LEFT")


SERVED = {"serve": hang_on_the_loop, "finish": finish, "late": block, "ignore": ignore}


def serve(sdk: AgentMessaging[Any], work: str) -> None:
    """Serve bob, for whom a message waits."""
    if work in SERVED:
        sdk.register_handler("bob", timeout=0.2 if work == "late" else None)(SERVED[work])


if __name__ == "__main__":
    _, url, work, end = sys.argv
    logging.getLogger("agent_messaging").addHandler(Tell())
    how, _, drain = end.partition(":")
    if how == "until":
        asyncio.run(until_stopped(url, work, float(drain)))
    elif how == "block":
        asyncio.run(in_a_block(url, work, float(drain)))
    else:
        asyncio.run(without_close(url, work, end))
