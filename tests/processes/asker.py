"""A process that asks until it is told to stop. Beside the settings of `program`:

askers, to          agents; each of the first asks one of the second after the other, at random
count               asks of each; absent is until told to stop
timeout             seconds, at most; at least half of it (1)
slow                the longest a handler is told to work, in seconds (0): longer than the timeout makes late answers
bodies              payloads to send instead, once each, to the first of `to`
patient             the share of asks whose handler waits until nobody waits for it
end                 the share of asks after which the conversation is ended by somebody else, while another may wait
along               by agent, whom it passes its asks on to
polls               the share of asks that go to all of `to` at once
parts               true: read the parts of each answer
threads             conversations that each of them has side by side (1); the first is the main one
read                true: read the whole session after each ask
seed                of what is drawn
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from typing import Any

from agent_messaging import AgentMessagingError, SessionStateError
from tests.processes.program import Program, say

DONE = "DONE"


class Asker:
    """The asks of one agent."""

    def __init__(self, program: Program, agent: str, number: int) -> None:
        self.program = program
        self.settings = program.settings
        self.agent = agent
        self.name = f"{agent}-{number}" if number else agent
        self.thread = f"thread {number}" if number else None
        self.random = random.Random(f"{self.settings.get('seed', 0)}-{program.history.process}-{self.name}")

    async def ask_all(self) -> None:
        given = self.settings.get("bodies")
        count = len(given) if given is not None else self.settings.get("count")
        for n in itertools.count() if count is None else range(count):
            if self.program.stopping.is_set():
                return
            body = {"value": f"{self.program.history.process}-{self.name}-{n}"}
            to = self.settings["to"][0]
            if given is not None:
                body |= given[n]
            else:
                to = self.random.choice(self.settings["to"])
                body["seconds"] = self.random.random() ** 3 * self.settings.get("slow", 0.0)
                if along := self.settings.get("along"):
                    body |= {"act": "pass", "along": along}
                if self.random.random() < self.settings.get("patient", 0.0):
                    body["act"] = "patient"
            await self.ask(to, body)

    async def ask(self, to: str, body: dict[str, Any]) -> None:
        timeout = self.settings.get("timeout", 1.0) * self.random.uniform(0.5, 1.0)
        expect = "dead" if body.get("act") == "raise" else None
        ending = None
        if self.random.random() < self.settings.get("end", 0.0):
            ending = asyncio.create_task(self.end(to, self.random.uniform(0.0, timeout)))
        thread = self.thread
        with contextlib.suppress(AgentMessagingError):  # the history has it
            if self.settings.get("parts"):
                await self.program.read(self.agent, to, body, timeout, thread=thread)
            elif self.random.random() < self.settings.get("polls", 0.0):
                await self.program.ask_many(self.agent, self.settings["to"], body, timeout, thread=thread)
            else:
                await self.program.ask(self.agent, to, body, timeout, expect=expect, thread=thread)
        if ending is not None:
            await ending
        if self.settings.get("read"):
            await self.read(to)

    async def end(self, other: str, after: float) -> None:
        await asyncio.sleep(after)
        self.program.history.record("end.try", pair=[other, self.agent], thread=self.thread)
        with contextlib.suppress(SessionStateError):
            await self.program.sdk.conversation.end_conversation(other, self.agent, thread=self.thread)

    async def read(self, other: str) -> None:
        conversation = self.program.sdk.conversation
        for session in await conversation.get_active_sessions(self.agent):
            if session.other_agent_id == other:
                since = time.monotonic_ns()
                messages = await conversation.get_conversation_history(session.session_id)
                items = [message.message_id for message in messages]
                self.program.history.reading(f"session:{session.session_id}", items, since)


async def ask(program: Program) -> None:
    async with asyncio.TaskGroup() as group:
        for agent in program.settings["askers"]:
            for number in range(program.settings.get("threads", 1)):
                group.create_task(Asker(program, agent, number).ask_all())
    say(DONE)
    await program.stopping.wait()
