"""A worker of the demo: a process of its own that serves agents on the demo's store. Run by the demo alone.

It tells on stdout, one JSON object a line, when it is ready and when a run begins and ends, and leaves when its stdin
is closed: so it also ends when the demo is killed.
"""

from __future__ import annotations

import asyncio
import json
import select
import sys
import time
from typing import Any

from ... import AgentMessaging, MessageContext
from .store import AGENTS, LINES, config_for

NEVER_ENDING = "never-ending"
"""The payload's task that, in its first run, waits to be killed."""


def tell(event: str, **facts: Any) -> None:
    """Send a fact to the demo."""
    print(json.dumps({"event": event, **facts}), flush=True)


async def serve(path: str) -> None:
    """Serve until stdin is closed."""
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
        loop = asyncio.get_running_loop()
        closed = asyncio.Event()
        # Nothing is ever written to it: readable means closed.
        loop.add_reader(sys.stdin.fileno(), closed.set)
        await closed.wait()
        loop.remove_reader(sys.stdin.fileno())


def main() -> None:
    """Serve. A demo that was interrupted has perhaps removed the store already: what fails then is told to nobody."""
    try:
        asyncio.run(serve(sys.argv[1]))
    except Exception:
        if not select.select([sys.stdin], [], [], 0)[0]:  # as above: readable means closed
            raise


if __name__ == "__main__":
    main()
