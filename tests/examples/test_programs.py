"""The whole programs of the documents, each run twice as a user would: `python program.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples.conftest import RunBeside, RunProgram

README = """
import asyncio
from agent_messaging import AgentMessaging
from pydantic import BaseModel


class ChatMessage(BaseModel):
    text: str


async def main():
    async with AgentMessaging[ChatMessage]() as sdk:
        await sdk.register_organization("my_org", "My Organization")
        await sdk.register_agent("alice", "my_org", "Alice")
        await sdk.register_agent("bob", "my_org", "Bob")

        @sdk.register_handler("bob")
        async def bob_handler(message: ChatMessage, context):
            print(f"Bob received: {message.text}")

        await sdk.one_way.send("alice", "bob", ChatMessage(text="Hello Bob!"))


if __name__ == "__main__":
    asyncio.run(main())
"""

NOTIFICATIONS = """
import asyncio
from agent_messaging import AgentMessaging, register_one_way_handler, MessageContext


@register_one_way_handler
async def handle_notification(message: dict, context: MessageContext) -> None:
    print(f"{context.sender_id} → {context.receiver_id}: {message['text']}")


async def main():
    async with AgentMessaging[dict, dict, dict]() as sdk:
        await sdk.register_organization("acme", "Acme Corp")
        await sdk.register_agent("alice", "acme", "Alice")
        await sdk.register_agent("bob", "acme", "Bob")
        await sdk.one_way.send("alice", ["bob"], {"text": "System maintenance at 3 PM"})


asyncio.run(main())
"""

SIMPLE_NOTIFICATION = """
import asyncio
from agent_messaging import AgentMessaging
from pydantic import BaseModel


class NotificationMessage(BaseModel):
    text: str
    priority: str


async def main():
    async with AgentMessaging[NotificationMessage]() as sdk:
        await sdk.register_organization("org_001", "My Org")
        await sdk.register_agent("agent_alice", "org_001", "Alice")
        await sdk.register_agent("agent_bob", "org_001", "Bob")

        @sdk.register_handler("agent_bob")
        async def bob_handler(message: NotificationMessage, context):
            print(f"Bob received: {message.text} (Priority: {message.priority})")

        await sdk.one_way.send(
            "agent_alice",
            "agent_bob",
            NotificationMessage(text="Server restart in 5 minutes", priority="high"),
        )


asyncio.run(main())
"""

TYPED_HANDLERS = """
import asyncio
from typing import TypedDict
from agent_messaging import AgentMessaging, register_one_way_handler, MessageContext
from pydantic import BaseModel, ValidationError


class Notification(TypedDict):
    title: str
    text: str
    priority: str


class Checked(BaseModel):
    text: str
    priority: str = "normal"


@register_one_way_handler
async def handle_notification(message: Notification, context: MessageContext) -> None:
    print(f"[{context.receiver_id}] Received from {context.sender_id}: {message['text']}")


@register_one_way_handler(agent="untyped")
async def handle(message, context):
    print(message["text"])


@register_one_way_handler(agent="checked")
async def check(message: dict, context: MessageContext) -> None:
    try:
        notification = Checked(**message)
        print(f"Valid: {notification.text}")
    except ValidationError as error:
        print(f"Invalid message: {error.error_count()}")


async def main():
    async with AgentMessaging() as sdk:
        await sdk.register_organization("acme", "Acme Corp")
        for name in ("alice", "bob", "untyped", "checked"):
            await sdk.register_agent(name, "acme", name.title())
        message = {"title": "Hi", "text": "Lunch", "priority": "low"}
        for recipient in ("bob", "untyped", "checked"):
            [id] = await sdk.one_way.send("alice", recipient, message)
            await sdk.receipts.wait(id, timeout=10)
        await sdk.one_way.send("alice", "checked", {"title": "no text"})


asyncio.run(main())
"""

SUPPORT_IMPORTS = """
import asyncio
from agent_messaging import AgentMessaging, register_conversation_handler, MessageContext
"""

SUPPORT_HANDLER = """
@register_conversation_handler
async def handle_query(message: dict, context: MessageContext) -> dict:
    return {"answer": f"Answer to: {message['question']}"}
"""

SUPPORT = """
async def main():
    async with AgentMessaging[dict, dict, dict]() as sdk:
        await sdk.register_organization("acme", "Acme Corp")
        await sdk.register_agent("alice", "acme", "Alice")
        await sdk.register_agent("support", "acme", "Support Agent")
        response = await sdk.conversation.send_and_wait(
            "alice", "support", {"question": "How do I reset my password?"}, timeout=60.0
        )
        print(f"Response: {response['answer']}")


asyncio.run(main())
"""

SUPPORT_SERVER = """
async def main():
    async with AgentMessaging[dict, dict, dict]() as sdk:
        await sdk.register_organization("acme", "Acme Corp")
        await sdk.register_agent("support", "acme", "Support Agent")
        print("ready", flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
"""

INTERVIEW_IMPORTS = """
import asyncio
from typing import Optional
from agent_messaging import AgentMessaging
from pydantic import BaseModel


class InterviewMessage(BaseModel):
    question: Optional[str] = None
    answer: Optional[str] = None


async def register(sdk):
    await sdk.register_organization("org_001", "My Org")
    await sdk.register_agent("agent_alice", "org_001", "Alice")
    await sdk.register_agent("agent_bob", "org_001", "Bob")


def answer_for_bob(sdk):
    @sdk.register_handler("agent_bob")
    async def bob_handler(message: InterviewMessage, context):
        if message.question and context.requires_reply:
            answer = InterviewMessage(answer=f"My answer to '{message.question}' is...")
            await sdk.sync_conversation.reply("agent_bob", context.sender_external_id, answer)
"""

INTERVIEW = """
async def main():
    async with AgentMessaging[InterviewMessage]() as sdk:
        await register(sdk)
        {handler}
        for question in ["What's your experience?", "Why this role?", "Any questions for us?"]:
            response = await sdk.sync_conversation.send_and_wait(
                "agent_alice", "agent_bob", InterviewMessage(question=question), timeout=60.0
            )
            print(f"Bob: {response.answer}")
        await sdk.sync_conversation.end_conversation("agent_alice", "agent_bob")


asyncio.run(main())
"""

INTERVIEW_SERVER = """
async def main():
    async with AgentMessaging[InterviewMessage]() as sdk:
        await register(sdk)
        answer_for_bob(sdk)
        print("ready", flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
"""
INTERVIEW_PRINTS = (
    "Bob: My answer to 'What's your experience?' is...\n"
    "Bob: My answer to 'Why this role?' is...\n"
    "Bob: My answer to 'Any questions for us?' is...\n"
)

TURN_HANDLERS = """
import asyncio
from agent_messaging import AgentMessaging, register_meeting_handler, MessageContext, MeetingEventType


@register_meeting_handler(agent="bob")
@register_meeting_handler(agent="charlie")
async def handle_meeting_turn(message: dict, context: MessageContext) -> dict:
    [topic] = [said.content["topic"] for said in context.turn.messages if said.sender == "alice"]
    return {"contribution": f"{context.receiver_id}'s thoughts on {topic}..."}


async def main():
    turns = []
    async with AgentMessaging[dict, dict, dict]() as sdk:
        await sdk.register_organization("acme", "Acme Corp")
        await sdk.register_agent("alice", "acme", "Alice")
        await sdk.register_agent("bob", "acme", "Bob")
        await sdk.register_agent("charlie", "acme", "Charlie")

        @sdk.register_event_handler(MeetingEventType.TURN_CHANGED)
        async def on_turn_changed(event):
            turns.append(event.data["current_speaker_external_id"])

        meeting_id = await sdk.meeting.create_meeting("alice", ["bob", "charlie"], turn_duration=30.0)
        await sdk.meeting.attend_meeting("bob", meeting_id)
        await sdk.meeting.attend_meeting("charlie", meeting_id)
        await sdk.meeting.start_meeting("alice", meeting_id)
        turn = await sdk.meeting.speak("alice", meeting_id, {"topic": "Q4 Planning"}, wait_for_turn=True)
        for said in turn.messages:
            print(said.content["contribution"])
        await sdk.meeting.end_meeting("alice", meeting_id)
    print(turns)


asyncio.run(main())
"""

ATTENDING_HANDLERS = """
import asyncio
from agent_messaging import AgentMessaging, Invitation
from agent_messaging.models import MeetingEvent
from pydantic import BaseModel


class MeetingMessage(BaseModel):
    speaker: str
    content: str


async def main():
    async with AgentMessaging[MeetingMessage]() as sdk:
        await sdk.register_organization("org_001", "My Org")
        for name in ("alice", "bob", "charlie"):
            await sdk.register_agent(f"agent_{name}", "org_001", name.title())

        def take_part(agent):
            @sdk.register_handler(agent)
            async def handler(message: MeetingMessage | Invitation, context):
                if context.is_meeting_message:
                    signal = await sdk.meeting.attend_meeting(agent, context.meeting_id, timeout=60.0)
                    if signal:
                        speech = MeetingMessage(speaker=agent, content=f"{agent} agrees")
                        await sdk.meeting.speak(agent, context.meeting_id, speech)

        take_part("agent_bob")
        take_part("agent_charlie")

        @sdk.register_event_handler(MeetingEvent.AGENT_SPOKE)
        async def on_spoke(meeting_id, agent_id, data):
            print(f"{agent_id} spoke: {data['message']['content']}")

        meeting_id = await sdk.meeting.create_meeting(
            "agent_alice", ["agent_alice", "agent_bob", "agent_charlie"], turn_duration=60.0
        )
        await sdk.meeting.wait_until_ready(meeting_id, timeout=10)
        await sdk.meeting.start_meeting(
            "agent_alice",
            meeting_id,
            MeetingMessage(speaker="Alice", content="Let's discuss the project"),
            next_speaker_external_id="agent_bob",
        )
        await sdk.meeting.wait_for_turn("agent_alice", meeting_id, timeout=30)
        await sdk.meeting.end_meeting("agent_alice", meeting_id)


asyncio.run(main())
"""

EVENTS = """
import asyncio
from agent_messaging import AgentMessaging
from agent_messaging.models import MeetingEventType, MeetingEvent


async def main():
    async with AgentMessaging() as sdk:
        await sdk.register_organization("org", "Org")
        await sdk.register_agent("alice", "org", "Alice")
        await sdk.register_agent("bob", "org", "Bob")
        ids = {(await sdk.get_agent(name)).id: name for name in ("alice", "bob")}

        async def on_meeting_started(event: MeetingEvent):
            print(f"Host: {ids[event.data.host_id]}")
            print(f"Participants: {[ids[id] for id in event.data.participant_ids]}")

        sdk._event_handler.register_handler(MeetingEventType.MEETING_STARTED, on_meeting_started)
        meeting_id = await sdk.meeting.create_meeting("alice", ["bob"])
        await sdk.meeting.attend_meeting("bob", meeting_id)
        await sdk.meeting.start_meeting("alice", meeting_id)


asyncio.run(main())
"""

MEETING_AS_IT_STANDS = """
import asyncio
from agent_messaging import (
    AgentMessaging,
    register_meeting_handler,
    MessageContext,
    MeetingEventType
)

@register_meeting_handler
async def handle_meeting_turn(message: dict, context: MessageContext) -> dict:
    return {"contribution": f"My thoughts on {message['topic']}..."}

async def main():
    async with AgentMessaging[dict, dict, dict]() as sdk:
        # Setup
        await sdk.register_organization("acme", "Acme Corp")
        await sdk.register_agent("alice", "acme", "Alice")
        await sdk.register_agent("bob", "acme", "Bob")
        await sdk.register_agent("charlie", "acme", "Charlie")
        
        # Create and start meeting
        meeting_id = await sdk.meeting.create_meeting(
            "alice",
            ["bob", "charlie"],
            turn_duration=30.0
        )
        
        await sdk.meeting.attend_meeting("bob", meeting_id)
        await sdk.meeting.attend_meeting("charlie", meeting_id)
        await sdk.meeting.start_meeting("alice", meeting_id)
        
        # Speak
        await sdk.meeting.speak("alice", meeting_id, {"topic": "Q4 Planning"})
        # ... bob and charlie speak in their turns
        
        # End meeting
        await sdk.meeting.end_meeting("alice", meeting_id)

asyncio.run(main())
"""  # noqa: W293  (as in the document)

HANDLERS_AS_THEY_STAND = """
import asyncio
from agent_messaging import AgentMessaging, Invitation
from agent_messaging.models import MeetingEvent
from pydantic import BaseModel


class MeetingMessage(BaseModel):
    speaker: str
    content: str


async def main():
    async with AgentMessaging[MeetingMessage]() as sdk:
        # Setup agents...
        await sdk.register_organization("org_001", "My Org")
        for name in ("alice", "bob", "charlie"):
            await sdk.register_agent(f"agent_{name}", "org_001", name.title())
        
        # Register handlers for all agents
        @sdk.register_handler("agent_alice")
        async def alice_handler(message: MeetingMessage, context):
            if context.is_meeting_message:
                # Attend meeting
                await sdk.meeting.attend_meeting("agent_alice", context.meeting_id)
        
        # Similar handlers for Bob and Charlie...
        @sdk.register_handler("agent_bob")
        async def bob_handler(message: MeetingMessage | Invitation, context):
            if context.is_meeting_message:
                await sdk.meeting.attend_meeting("agent_bob", context.meeting_id)
        
        @sdk.register_handler("agent_charlie")
        async def charlie_handler(message: MeetingMessage | Invitation, context):
            if context.is_meeting_message:
                await sdk.meeting.attend_meeting("agent_charlie", context.meeting_id)
        
        # Register event handlers
        @sdk.register_event_handler(MeetingEvent.AGENT_SPOKE)
        async def on_spoke(meeting_id, agent_id, data):
            print(f"{agent_id} spoke: {data['message']}")
        
        # Alice creates meeting
        meeting_id = await sdk.meeting.create_meeting(
            "agent_alice",
            ["agent_alice", "agent_bob", "agent_charlie"],
            turn_duration=60.0
        )
        
        # Wait for agents to attend (in their handlers)
        await asyncio.sleep(1)
        
        # Start meeting
        await sdk.meeting.start_meeting(
            "agent_alice",
            meeting_id,
            MeetingMessage(speaker="Alice", content="Let's discuss the project"),
            next_speaker_external_id="agent_bob"
        )
        
        # Agents speak in their turns...
        # When done:
        await sdk.meeting.end_meeting("agent_alice", meeting_id)


asyncio.run(main())
"""  # noqa: W293  (as in the document)

PROJECT = "Let's discuss the project"
PROGRAMS = {
    "E-02": (README, "Bob received: Hello Bob!\n"),
    "E-32": (NOTIFICATIONS, "alice → bob: System maintenance at 3 PM\n"),
    "E-64": (SIMPLE_NOTIFICATION, "Bob received: Server restart in 5 minutes (Priority: high)\n"),
    "E-19, E-24, E-25, E-26": (
        TYPED_HANDLERS,
        "[bob] Received from alice: Lunch\nLunch\nValid: Lunch\nInvalid message: 1\n",
    ),
    "E-33": (
        SUPPORT_IMPORTS + SUPPORT_HANDLER + SUPPORT,
        "Response: Answer to: How do I reset my password?\n",
    ),
    "E-65": (INTERVIEW_IMPORTS + INTERVIEW.replace("{handler}", "answer_for_bob(sdk)"), INTERVIEW_PRINTS),
    "E-34": (
        TURN_HANDLERS,
        "bob's thoughts on Q4 Planning...\ncharlie's thoughts on Q4 Planning...\n"
        "['alice', 'bob', 'charlie', 'alice']\n",
    ),
    "E-66": (
        ATTENDING_HANDLERS,
        "agent_alice spoke: Let's discuss the project\n"
        "agent_bob spoke: agent_bob agrees\nagent_charlie spoke: agent_charlie agrees\n",
    ),
    "E-23": (EVENTS, "Host: alice\nParticipants: ['alice', 'bob']\n"),
}
SPLIT = {
    "E-33": (
        SUPPORT_IMPORTS + SUPPORT_HANDLER + SUPPORT_SERVER,
        SUPPORT_IMPORTS + SUPPORT,
        "Response: Answer to: How do I reset my password?\n",
    ),
    "E-65": (
        INTERVIEW_IMPORTS + INTERVIEW_SERVER,
        INTERVIEW_IMPORTS + INTERVIEW.replace("{handler}", ""),
        INTERVIEW_PRINTS,
    ),
}
"""The programs with two sides, the one that answers and the one that asks."""


@pytest.mark.sampled(6)
@pytest.mark.parametrize("example", PROGRAMS)
def test_a_program_of_the_documents_prints_what_they_say_each_time_it_is_run(
    run_twice: RunProgram, example: str
) -> None:
    program, printed = PROGRAMS[example]
    assert run_twice(program) == [printed, printed]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("program", "printed"),
    [
        (MEETING_AS_IT_STANDS, ""),
        (HANDLERS_AS_THEY_STAND, f"agent_alice spoke: {{'speaker': 'Alice', 'content': {PROJECT!r}}}\n"),
    ],
    ids=["E-34", "E-66"],
)
def test_e34_e66_meetings_word_for_word(run_twice: RunProgram, program: str, printed: str) -> None:
    """In E-34 the host speaks by hand. In E-66 what the document leaves out is filled in: the setup, two handlers."""
    assert run_twice(program) == [printed, printed]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("example", SPLIT)
def test_a_program_prints_the_same_when_another_process_answers(run_beside: RunBeside, example: str) -> None:
    server, asker, printed = SPLIT[example]
    assert run_beside(server, asker) == [printed, printed]


@pytest.mark.sampled(1)
def test_a_web_service_on_two_servers_answers_twenty_customers_at_once(
    environment: dict[str, str], tmp_path: Path
) -> None:
    program = Path(__file__).parents[2] / "examples" / "help_desk.py"
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    alone, together, right = done.stdout.splitlines()
    assert alone.startswith("one customer: 10 of 10 answers are right")
    assert right == "200 of 200 answers are right"
    assert float(together.rpartition(", ")[2].split()[0]) > 1, done.stdout
