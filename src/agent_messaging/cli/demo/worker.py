"""A worker of the demo: a process of its own that serves agents on the demo's store. Run by the demo alone.

It tells on stdout, one JSON object a line, when it is ready and when a run begins and ends, and leaves when its stdin
is closed: so it also ends when the demo is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from ... import AgentMessaging, MessageContext
from .store import AGENTS, LINES, config_for

NEVER_ENDING = "never-ending"
"""The payload's task that, in its first run, waits to be killed."""


def tell(event: str, **facts: Any) -> None:
    """Send a fact to the demo."""
    print(json.dumps({"event": event, **facts}), flush=True)


class Parent:
    """The demo, as its worker sees it: its end closes our stdin, on which it never writes.

    A thread waits for that, because event loops on Windows can wait for sockets alone.
    """

    def __init__(self) -> None:
        self.is_gone = threading.Event()
        self._tell: Callable[[], object] = lambda: None
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        os.read(sys.stdin.fileno(), 1)
        self.is_gone.set()
        with contextlib.suppress(RuntimeError):  # the loop was closed
            self._tell()

    async def wait_until_gone(self) -> None:
        """Return once it has ended."""
        gone = asyncio.Event()
        self._tell = partial(asyncio.get_running_loop().call_soon_threadsafe, gone.set)
        if not self.is_gone.is_set():
            await gone.wait()


async def serve(path: str, parent: Parent) -> None:
    """Serve until the demo has ended."""
    sdk: AgentMessaging[dict[str, Any]] = AgentMessaging(config_for(path))

    async def handle(payload: dict[str, Any], context: MessageContext) -> None:
        if context.is_meeting_message and context.meeting_id is not None:
            await sdk.meeting.attend_meeting(context.receiver_id, context.meeting_id)
            return
        begun = time.monotonic()  # CLOCK_MONOTONIC, one clock for all processes
        facts = {"id": str(context.message_id), "agent": context.receiver_id, "attempt": context.attempt}
        tell("begun", at=begun, **facts)
        if payload.get("task") == NEVER_ENDING and context.attempt == 1:
            await asyncio.Event().wait()
        tell("ended", **facts)

    async def speak(latest: dict[str, Any], context: MessageContext) -> dict[str, Any]:
        return {"text": LINES[context.receiver_id]}

    for agent in AGENTS:
        sdk.register_handler(agent)(handle)
    for agent in LINES:
        sdk.register_meeting_handler(agent)(speak)
    async with sdk:
        tell("ready", process=sdk.store.presence.process_id)
        await parent.wait_until_gone()


def main() -> None:
    """Serve. A demo that was interrupted has perhaps removed the store already: what fails then is told to nobody."""
    parent = Parent()
    try:
        asyncio.run(serve(sys.argv[1], parent))
    except Exception:
        if not parent.is_gone.wait(1):
            raise


if __name__ == "__main__":
    main()
