"""A process that sends, and says DONE when it has. Beside the settings of `program`:

senders, to         agents and lists of recipients; the n-th call takes the n-th of each, round and round
count               calls to make; absent is until told to stop
concurrency         calls in flight, each begun in the order of its number (1)
pause               seconds between two calls of one of these (0)
body                fields of each payload, beside its value
bodies              payloads to send instead, one call each
topic               publish there instead; the recipients named are the agents that are subscribed
key                 true: each call has an idempotency key, and is repeated under it until its outcome is known
die_after           die by its own hand as soon as so many calls were accepted
stay                true: go on serving after the last call
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

from agent_messaging import AgentMessagingError, OutcomeUnknownError
from agent_messaging.testing.history import is_refusal
from tests.processes.program import Program, say

DONE = "DONE"


class Sender:
    """The calls of one process."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.settings = program.settings
        self.accepted = 0

    def bodies(self) -> Iterator[dict[str, Any]]:
        given = self.settings.get("bodies")
        fields = self.settings.get("body", {})
        count = len(given) if given is not None else self.settings.get("count")
        values = self.settings.get("values", self.program.history.process)
        for n in itertools.count() if count is None else range(count):
            yield {
                "value": f"{values}-{n}",
                "n": n,
                **(given[n] if given is not None else fields),
            }

    async def send_all(self) -> None:
        bodies = self.bodies()
        async with asyncio.TaskGroup() as group:
            for _ in range(self.settings.get("concurrency", 1)):
                group.create_task(self.send_some(bodies))

    async def send_some(self, bodies: Iterator[dict[str, Any]]) -> None:
        for body in bodies:
            if self.program.stopping.is_set():
                return
            while not await self.send(body):
                pass
            if self.settings.get("pause"):
                await asyncio.sleep(self.settings["pause"])

    async def send(self, body: dict[str, Any]) -> bool:
        """Make one call; False if its outcome is unknown and it is to be repeated."""
        senders, to = self.settings["senders"], self.settings["to"]
        sender, recipients = senders[body["n"] % len(senders)], to[body["n"] % len(to)]
        key = body["value"] if self.settings.get("key") else None
        dies = body.get("act") in ("exit", "raise") and "times" not in body
        calling = self.program.history.sending(
            sender, recipients, body, value=body["value"], org="org", expect="dead" if dies else None
        )
        try:
            with calling as call:
                if (topic := self.settings.get("topic")) is not None:
                    call.accept(await self.program.sdk.topics.publish(sender, topic, body, idempotency_key=key))
                else:
                    call.accept(await self.program.sdk.one_way.send(sender, recipients, body, idempotency_key=key))
        except OutcomeUnknownError:
            return key is None
        except AgentMessagingError as error:
            if not is_refusal(error):
                raise
            return True
        self.accepted += 1
        if self.accepted == self.settings.get("die_after"):
            self.program.die()
        return True


async def send(program: Program) -> None:
    await Sender(program).send_all()
    say(DONE)
    if program.settings.get("stay"):
        await program.stopping.wait()
