"""The examples of conversations, each twice in a row on one database: with both sides in one process, and in two."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agent_messaging import (
    AgentMessaging,
    ConversationEndedError,
    InvalidSessionStateError,
    MessageContext,
    NoHandlerRegisteredError,
    SessionNotFoundError,
)
from tests.examples import sides
from tests.examples.sides import Link, MyMessage, Query, Response, Sdk, Side, SupportMessage

ROOT = Path(__file__).parents[2]
SOON = 60
Talk = Callable[[Sdk, Link], Awaitable[None]]
Play = Callable[..., Awaitable[None]]


@pytest.fixture(params=["one_process", "two_processes"])
def play(request: pytest.FixtureRequest, configured: None, environment: dict[str, str]) -> Play:
    """Run a talk twice, each with an SDK object of its own, against the other side."""

    async def run(side: Side, talk: Talk, make: Callable[[], Sdk] = AgentMessaging[Any, Any, Any]) -> None:
        async with contextlib.AsyncExitStack() as stack:
            elsewhere = None
            if request.param == "two_processes":
                elsewhere = await stack.enter_async_context(in_another_process(side, environment))
            for _ in range(2):
                async with make() as sdk:
                    await sides.register(sdk)
                    if elsewhere is not None:
                        await talk(sdk, elsewhere)
                        continue
                    async with beside(side, sdk) as link:
                        await talk(sdk, link)

    return run


@contextlib.asynccontextmanager
async def beside(side: Side, sdk: Sdk) -> AsyncIterator[Link]:
    here, there = asyncio.Queue[str](), asyncio.Queue[str]()
    task = asyncio.create_task(side(sdk, Link(here.put, there.get)))
    try:
        assert await here.get() == "ready"
        yield Link(there.put, here.get)
    finally:
        task.cancel()
        await asyncio.wait({task})


@contextlib.asynccontextmanager
async def in_another_process(side: Side, environment: dict[str, str]) -> AsyncIterator[Link]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.examples.sides",
        side.__name__,
        env={**environment, "PYTHONPATH": str(ROOT)},
        cwd=os.getcwd(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines, to = process.stdout, process.stdin

    async def tell(line: str) -> None:
        to.write(f"{line}\n".encode())
        await to.drain()

    async def hear() -> str:
        return (await lines.readline()).decode().rstrip("\n")

    try:
        assert await hear() == "ready"
        yield Link(tell, hear)
    finally:
        to.close()
        await process.wait()


async def test_e03_e15_e41_a_question_is_answered_and_the_next_one_is_of_the_same_session(play: Play) -> None:
    async def talk(sdk: Sdk, _: Link) -> None:
        before = await sdk.conversation.get_active_sessions("customer")
        response = await sdk.sync_conversation.send_and_wait(
            "customer", "support_agent", SupportMessage(query="How do I reset my password?"), timeout=60.0
        )
        assert response.answer == "Answer to: How do I reset my password?"
        message = SupportMessage(query="And my name?")
        response = await sdk.conversation.send_and_wait("customer", "support_agent", message, timeout=SOON)
        assert f"Response: {response.answer}" == "Response: Answer to: And my name?"
        [session] = await sdk.conversation.get_active_sessions("customer")
        assert session.other_agent_id == "support_agent"
        assert before in ([], [session])
        said = await sdk.conversation.get_conversation_history(session.session_id)
        assert [one.sender_id for one in said[-4:]] == ["customer", "support_agent"] * 2

    await play(sides.support, talk, AgentMessaging[dict[str, Any], SupportMessage, dict[str, Any]])


async def test_e05_the_answer_of_one_step_is_the_question_of_the_next(play: Play) -> None:
    async def talk(sdk: Sdk, _: Link) -> None:
        ask = sdk.sync_conversation.send_and_wait
        result1 = await ask("orchestrator", "preprocessor", {"task": "report", "steps": []})
        result2 = await ask("orchestrator", "analyzer", result1)
        final = await ask("orchestrator", "generator", result2)
        assert final == {"task": "report", "steps": ["preprocessor", "analyzer", "generator"]}

    await play(sides.pipeline, talk)


async def test_e20_a_typed_handler_answers_with_a_model(play: Play) -> None:
    async def talk(sdk: Sdk, _: Link) -> None:
        question = Query(question="the weather")
        answer = await sdk.conversation.send_and_wait("alice", "bob", question, timeout=SOON, response_type=Response)
        assert answer == Response(answer="It depends on the weather", confidence=0.95)

    await play(sides.typed_queries, talk)


async def test_e16_e21_who_does_not_wait_is_notified_of_what_came(play: Play) -> None:
    class TaskRequest(BaseModel):
        task: str

    async def talk(sdk: Sdk, other: Link) -> None:
        await sdk.conversation.send_no_wait("alice", "bob", TaskRequest(task="process_data"))
        assert await other.hear() == "bob: New message from alice"
        assert await sdk.conversation.get_unread_messages("bob") == [{"task": "process_data"}]

    await play(sides.notified, talk)


async def test_e37_no_answer_in_time_is_a_timeout_error_of_python(play: Play) -> None:
    async def talk(sdk: Sdk, _: Link) -> None:
        with pytest.raises(builtins.TimeoutError):
            await sdk.conversation.send_and_wait("alice", "support_agent", SupportMessage(), timeout=0.2)
        message = SupportMessage(query="Hello?")
        response = await sdk.conversation.send_and_wait("alice", "support_agent", message, timeout=300.0)
        assert response.answer == "Answer to: Hello?"

    await play(sides.support, talk, AgentMessaging[dict[str, Any], SupportMessage, dict[str, Any]])


async def test_e61_a_handler_replies_by_hand_and_the_conversation_is_ended(play: Play) -> None:
    async def talk(sdk: Sdk, other: Link) -> None:
        with pytest.raises(SessionNotFoundError):
            await sdk.sync_conversation.reply("bob", "alice", MyMessage(text="to nobody"))
        name = MyMessage(text="What's your name?")
        response = await sdk.sync_conversation.send_and_wait("alice", "bob", name, timeout=30.0)
        assert f"Bob replied: {response.text}" == "Bob replied: I'm Bob!"
        with pytest.raises(InvalidSessionStateError):
            await sdk.sync_conversation.reply("bob", "alice", MyMessage(text="once more"))
        unanswered = MyMessage(text="Are you there?")
        asking = asyncio.create_task(sdk.sync_conversation.send_and_wait("alice", "bob", unanswered, timeout=SOON))
        assert await other.hear() == "silent"
        await sdk.sync_conversation.end_conversation("alice", "bob")
        with pytest.raises(ConversationEndedError):
            await asking
        with pytest.raises(SessionNotFoundError):
            await sdk.sync_conversation.end_conversation("alice", "bob")

    await play(sides.interviewee, talk, AgentMessaging[MyMessage])


async def test_e62_messages_are_queued_read_waited_for_and_handled_after_a_resumption(play: Play) -> None:
    async def talk(sdk: Sdk, other: Link) -> None:
        async def hear_of(text: str) -> None:
            await other.tell(text)
            assert await other.hear() == "sent"

        mail = sdk.async_conversation
        await hear_of("Hey Bob!")
        await hear_of("Still there?")
        assert [message.text for message in await mail.get_unread_messages("bob")] == ["Hey Bob!", "Still there?"]
        assert await mail.get_unread_messages("bob") == []

        await hear_of("One more")
        assert await mail.get_messages_from_agent("bob", "alice", mark_read=False) == [MyMessage(text="One more")]
        assert await mail.get_messages_from_agent("bob", "alice") == [MyMessage(text="One more")]
        assert await mail.wait_for_message("bob", "alice", timeout=0.05) is None

        waiting = asyncio.create_task(mail.wait_for_message("bob", "alice", timeout=60.0))
        await hear_of("At last")
        assert await waiting == MyMessage(text="At last")

        with pytest.raises(NoHandlerRegisteredError):
            await mail.resume_agent_handler("bob")
        await hear_of("Work on")
        handled = asyncio.Queue[str]()

        @sdk.register_handler("bob")
        async def on_message(message: MyMessage, context: MessageContext) -> None:
            await handled.put(message.text)

        await mail.resume_agent_handler("bob")
        assert await asyncio.wait_for(handled.get(), SOON) == "Work on"
        assert await mail.get_unread_messages("bob") == [MyMessage(text="Work on")]

    await play(sides.writer, talk, AgentMessaging[MyMessage])
