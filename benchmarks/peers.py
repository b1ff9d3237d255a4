"""The best-known framework's way of asking, in memory and in one process: autogen-core's `send_message`.

Installed by the extra `bench`; where it is missing, the rows beside it say so.
"""

from __future__ import annotations

import asyncio
import importlib.util
import time
from dataclasses import dataclass

from .raw import PAYLOAD

IS_INSTALLED = importlib.util.find_spec("autogen_core") is not None


@dataclass
class Question:
    """What is asked."""

    text: str
    number: int
    urgent: bool


@dataclass
class Answer:
    """What is answered."""

    text: str


if IS_INSTALLED:  # its decorators evaluate the annotations in this module
    from autogen_core import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, message_handler

    class Responder(RoutedAgent):
        """Answers with the question's text."""

        def __init__(self) -> None:
            super().__init__("answers")

        @message_handler
        async def answer(self, message: Question, ctx: MessageContext) -> Answer:
            """See the class."""
            return Answer(message.text)


async def ask_rate(count: int, at_once: int) -> float:
    """Answers in a second, so many asks in flight, each to an agent of its own."""
    runtime = SingleThreadedAgentRuntime()
    await Responder.register(runtime, "responder", Responder)
    runtime.start()

    async def ask(flow: int, number: int) -> None:
        for one in range(number):
            question = Question(str(PAYLOAD["text"]), one, False)
            await runtime.send_message(question, AgentId("responder", str(flow)))

    await asyncio.gather(*(ask(flow, 1) for flow in range(at_once)))
    began = time.perf_counter()
    await asyncio.gather(*(ask(flow, count // at_once) for flow in range(at_once)))
    elapsed = time.perf_counter() - began
    await runtime.stop()
    return count // at_once * at_once / elapsed
