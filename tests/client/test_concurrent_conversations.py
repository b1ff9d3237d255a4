"""Any number of conversations at once: every answer names the ask that it is meant for, and every ask gets its own.

Agents that have handlers, and agents that read, live in two SDK objects of one store. What they do at once is drawn:
asks in all directions, questions inside asks, results, replies from another task, statuses from tasks and runs, reads
that answer by the next message. The model knows only what was asked: whatever a question returns must name it, and
statuses must all be messages of their own.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from agent_messaging import MessageContext, MutualWaitError, SessionLockError
from tests.client.conversing import begin, nothing_is_left
from tests.client.support import Sdk, make_config

EXAMPLES, STEPS = 4, 3
PATIENCE = 20.0
"""Seconds in which any of it has ended, on a busy machine too."""

HANDLING, READING = ("ann", "ben", "cat"), ("rob", "sue")
AGENTS = (*HANDLING, *READING)

ACTS = st.sampled_from(
    ["return", "return", "reply", "reply from a task", "status", "status from a task", "ask back", "ask on"]
)
"""What a handler does with a question, before it answers."""
QUESTIONS = st.tuples(
    st.sampled_from(HANDLING),
    st.sampled_from(AGENTS),
    st.lists(ACTS, min_size=1, max_size=3),
    st.sampled_from([0, 0, 1, 3]),
).filter(lambda drawn: drawn[0] != drawn[1])
"""Who asks whom, what is done with it, and after how many turns of the loop, or milliseconds, it is asked."""


@dataclass
class World:
    """The agents of one sequence and what was said, as far as the model knows."""

    sdks: list[Sdk]
    suffix: str
    numbers: Iterator[int] = field(default_factory=itertools.count)
    statuses: Counter[str] = field(default_factory=Counter)
    """How many were sent, by recipient."""
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def sdk_of(self, agent: str) -> Sdk:
        return self.sdks[AGENTS.index(agent) % len(self.sdks)]

    def name(self, agent: str) -> str:
        return f"{agent}-{self.suffix}"

    async def ask(self, asker: str, responder: str, acts: list[str]) -> str:
        """Ask; the answer must be the one to this very question. How it went."""
        question = {"id": next(self.numbers), "acts": acts, "asker": asker}
        try:
            answer = await self.sdk_of(asker).conversation.send_and_wait(
                self.name(asker), self.name(responder), question, PATIENCE, require_handler=False
            )
        except MutualWaitError:
            return "would wait in a circle"
        except SessionLockError:
            return "waits already"
        assert answer == {"to": question["id"], "by": responder}, (question, answer)
        return "answered"

    async def tell(self, sender: str, recipient: str) -> None:
        """A status, which answers nothing."""
        self.statuses[recipient] += 1
        await self.sdk_of(sender).conversation.send_no_wait(
            self.name(sender), self.name(recipient), {"status": next(self.numbers)}
        )

    def start(self, work: Any) -> None:
        task = begin(work)
        self.tasks.add(task)

    def handler(self, agent: str) -> Any:
        async def handle(message: dict[str, Any], context: MessageContext) -> Any:
            if "status" in message:
                return None
            asker, answer = message["asker"], {"to": message["id"], "by": agent}
            for number, act in enumerate(message["acts"]):
                rest = message["acts"][number + 1 :]
                if act == "status":
                    await self.tell(agent, asker)
                elif act == "status from a task":
                    self.start(self.tell(agent, asker))
                    await asyncio.sleep(0.001)
                elif act == "ask back":
                    await self.ask(agent, asker, rest or ["return"])
                elif act == "ask on":
                    await self.ask(
                        agent, next(one for one in HANDLING if one not in (agent, asker)), rest or ["return"]
                    )
                elif act == "reply":
                    await self.reply(agent, asker, answer)
                    return None
                elif act == "reply from a task":
                    self.start(self.reply(agent, asker, answer))
                    return None
            return answer

        return handle

    async def reply(self, agent: str, asker: str, answer: dict[str, Any]) -> None:
        await self.sdk_of(agent).conversation.reply(self.name(agent), self.name(asker), answer)

    async def read_and_answer(self, agent: str) -> None:
        """An agent without a handler takes what comes, one after the other, and answers each by what it says next."""
        conversation = self.sdk_of(agent).conversation
        waits = {
            begin(conversation.wait_for_message(self.name(agent), self.name(other), None)): other
            for other in AGENTS
            if other != agent
        }
        try:
            while True:
                done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for wait in done:
                    other, message = waits.pop(wait), wait.result()
                    if "status" not in message:
                        await conversation.send_no_wait(
                            self.name(agent), self.name(other), {"to": message["id"], "by": agent}
                        )
                    waits[begin(conversation.wait_for_message(self.name(agent), self.name(other), None))] = other
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)


class Conversations(RuleBasedStateMachine):
    """Each step asks several questions at the same time, and waits for all of them."""

    sequences = itertools.count()

    def __init__(self, runner: asyncio.Runner, sdks: list[Sdk], outcomes: Counter[str]) -> None:
        super().__init__()
        self.runner, self.outcomes = runner, outcomes
        self.world = World(sdks, str(next(self.sequences)))
        self.readers: list[asyncio.Task[None]] = []
        self.run(self.begin())

    def run(self, work: Any) -> Any:
        return self.runner.run(asyncio.wait_for(work, PATIENCE + 30))

    async def begin(self) -> None:
        world = self.world
        await world.sdks[0].add_people(*map(world.name, AGENTS))
        for agent in HANDLING:
            world.sdk_of(agent).register_handler(world.name(agent), ordered=False)(world.handler(agent))
        await world.sdks[0].wait_until_served([world.name(agent) for agent in HANDLING], PATIENCE)
        self.readers = [begin(world.read_and_answer(agent)) for agent in READING]

    @rule(drawn=st.lists(QUESTIONS, min_size=2, max_size=8))
    def ask_at_once(self, drawn: list[tuple[str, str, list[str], int]]) -> None:
        self.run(self.ask_all(drawn))

    async def ask_all(self, drawn: list[tuple[str, str, list[str], int]]) -> None:
        async def ask(asker: str, responder: str, acts: list[str], after: int) -> str:
            await asyncio.sleep(after / 1000)
            return await self.world.ask(asker, responder, acts)

        self.outcomes.update(await asyncio.gather(*(ask(*one) for one in drawn)))
        while self.world.tasks:
            await self.world.tasks.pop()

    def teardown(self) -> None:
        async def leave() -> None:
            world = self.world
            for reader in self.readers:
                assert not reader.done(), reader
                reader.cancel()
            await asyncio.wait(self.readers)
            await nothing_is_left(*world.sdks)
            for agent in HANDLING:
                unread = await world.sdk_of(agent).conversation.get_unread_messages(world.name(agent))
                assert sum("status" in message for message in unread) == world.statuses[agent]
                assert not [message for message in unread if "to" in message], "an answer that its asker did not get"
                world.sdk_of(agent).unregister_handler(world.name(agent))

        self.run(leave())


def explore(url: str, **options: Any) -> Counter[str]:
    """Go through sequences; how the questions ended."""
    outcomes: Counter[str] = Counter()
    with asyncio.Runner() as runner:
        sdks = [Sdk(make_config(url)) for _ in range(2)]
        for sdk in sdks:
            runner.run(sdk.initialize())
        try:

            class Machine(Conversations):
                def __init__(self) -> None:
                    super().__init__(runner, sdks, outcomes)

            run_state_machine_as_test(
                Machine,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=STEPS,
                    deadline=None,
                    phases=[Phase.generate],  # what went wrong has left asks behind: another try would meet them
                    suppress_health_check=list(HealthCheck),
                    **options,
                ),
            )
        finally:
            for sdk in sdks:
                runner.run(sdk.close())
    return outcomes


def test_every_answer_is_the_one_to_its_question(url: str) -> None:
    outcomes = explore(url)
    assert outcomes["answered"], outcomes
