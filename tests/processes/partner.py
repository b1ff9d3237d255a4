"""A process whose agent has no handler, and converses by its own code. Beside the settings of `program`:

agent, other        who, and with whom
does                "pingpong": answers each ask by asking on, until it is told that it is enough
                    "wait": waits for one message
                    "open": sends one message in each of `threads`, at the instants in the file `instants`, which are
                    those of the monotonic clock: all processes of a machine have the same
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from tests.processes.program import Program, say
from tests.support import eventually

OPENED = "OPENED"


async def converse(program: Program) -> None:
    agent, other = program.settings["agent"], program.settings["other"]
    conversation = program.sdk.conversation
    if program.settings["does"] == "wait":
        message: Any = await conversation.wait_for_message(agent, other, 60.0)
        program.history.record("got", value=message["value"])
        return
    if program.settings["does"] == "open":
        await open_threads(program)
        return
    said: Any = await conversation.wait_for_message(agent, other, 60.0)
    while said["n"] != "enough":
        said = await conversation.send_and_wait(agent, other, {"n": said["n"] + 1}, 60.0)


async def open_threads(program: Program) -> None:
    agent, other = program.settings["agent"], program.settings["other"]
    file = Path(program.settings["instants"])
    await eventually(file.exists, 60.0, interval=0.01)

    async def send(thread: str, at: float) -> None:
        await asyncio.sleep(at - time.monotonic())
        await program.sdk.conversation.send_no_wait(agent, other, thread, thread=thread)

    instants = json.loads(file.read_text())
    await asyncio.gather(*(send(thread, at) for thread, at in instants.items()))
    say(OPENED)
    await program.stopping.wait()
