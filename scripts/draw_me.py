"""Draw docs/me.svg: the terminal program as it looks, in a store that is made for the picture.

python scripts/draw_me.py [docs/me.svg] [COLUMNSxLINES]
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from agent_messaging import AgentMessaging, Config
from agent_messaging.cli.me.desk import Desk
from agent_messaging.cli.me.program import Me
from agent_messaging.testing.waiting import eventually

ROOT = Path(__file__).parents[1]
NOTES = (
    ("builder", "The nightly build is green again; the flaky test was a real race in the cache."),
    ("billing", "Invoice 2081 was paid twice. I have sent the second amount back."),
    ("scout", {"topic": "conferences", "found": 3, "best": "PyCon, in May"}),
    ("builder", "Release 1.4 is tagged. The changelog waits for a second pair of eyes."),
)


async def play(sdk: AgentMessaging[Any]) -> list[asyncio.Task[Any]]:
    """Let some agents write to alice, and ask her."""
    await sdk.register_organization("acme", "Acme")
    for name in ("alice", "billing", "builder", "scout", "support"):
        await sdk.register_agent(name, "acme", name.title())
    for sender, payload in NOTES:
        await sdk.one_way.send(sender, "alice", payload, require_handler=False)
    await sdk.one_way.mark_messages_read("alice")
    await sdk.conversation.send_no_wait(
        "support", "alice", "A customer asks whether we ship to Iceland.", thread="t-117"
    )
    await sdk.conversation.send_no_wait("alice", "support", "What do they want to order?", thread="t-117")
    await sdk.one_way.send("scout", "alice", "The price list of the competitor is online.", require_handler=False)
    meeting = await sdk.meeting.create_meeting("builder", ["alice", "scout"], 120)
    await sdk.meeting.attend_meeting("scout", meeting)
    question = "Forty crates of tea. May I promise delivery by Friday?"
    return [
        asyncio.create_task(
            sdk.conversation.send_and_wait("support", "alice", question, 272, thread="t-117", require_handler=False)
        )
    ]


async def draw(size: tuple[int, int]) -> str:
    """The picture."""
    with tempfile.TemporaryDirectory() as folder:
        config = Config(url=f"sqlite:///{folder}/acme.db", messaging={"drain_timeout": 0})
        async with AgentMessaging(config) as sdk:
            asking = await play(sdk)
            await eventually(lambda: sdk.conversation.list_open_asks("alice"))
            program = Me(await Desk.open(sdk, "alice"))
            async with program.run_test(size=size) as pilot:
                while not (program.desk.questions and program.desk.meetings):
                    await pilot.pause()
                await program.open(program.desk.questions[0].message_id)
                program.rows.focus()
                await eventually(lambda: len(program.query("FooterKey")) > 5)
                await pilot.pause()
                picture = program.export_screenshot(title="agent-messaging me alice", simplify=True)
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)
    # It loads nothing: a reader's own monospaced letters do.
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    return picture.replace("Fira Code", "ui-monospace, Menlo, Consolas")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "me.svg"
    columns, lines = map(int, (sys.argv[2] if len(sys.argv) > 2 else "128x26").split("x"))
    target.write_text(asyncio.run(draw((columns, lines))), encoding="utf-8")
