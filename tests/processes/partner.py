"""A process whose agent has no handler, and converses by its own code. Beside the settings of `program`:

agent, other        who, and with whom
does                "pingpong": answers each ask by asking on, until it is told that it is enough
                    "wait": waits for one message
"""

from __future__ import annotations

from typing import Any

from tests.processes.program import Program


async def converse(program: Program) -> None:
    agent, other = program.settings["agent"], program.settings["other"]
    conversation = program.sdk.conversation
    if program.settings["does"] == "wait":
        message: Any = await conversation.wait_for_message(agent, other, 60.0)
        program.history.record("got", value=message["value"])
        return
    said: Any = await conversation.wait_for_message(agent, other, 60.0)
    while said["n"] != "enough":
        said = await conversation.send_and_wait(agent, other, {"n": said["n"] + 1}, 60.0)
