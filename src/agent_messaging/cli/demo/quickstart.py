"""The simplest program, as the demo prints it. A test runs it."""

from __future__ import annotations

FILE = "first.py"

SCRIPT = """\
import asyncio
from agent_messaging import AgentMessaging
async def main():
    async with AgentMessaging() as sdk:  # the store is ./agent_messaging.db
        await sdk.register_organization("acme", "Acme")
        await sdk.register_agent("alice", "acme", "Alice")
        await sdk.register_agent("bob", "acme", "Bob")
        sdk.register_handler("bob")(lambda note, _: print("bob got", note))
        await sdk.one_way.send("alice", "bob", "Tea at four?")
asyncio.run(main())
"""

NEXT = (
    ("agent-messaging inbox bob", "what bob received, in the same folder"),
    ("agent-messaging doctor", "what the store is, who serves whom, what to do"),
    ("agent-messaging tail", "follow messages live, in another terminal"),
    ("agent-messaging --help", "everything else"),
)
