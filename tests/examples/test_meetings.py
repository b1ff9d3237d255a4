"""The examples of meetings and their events, each twice in a row on one database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from agent_messaging import (
    AgentMessaging,
    AgentNotInMeetingError,
    HostCannotLeaveError,
    InvalidMeetingError,
    InvalidMeetingStateError,
    MeetingEventPayload,
    MeetingNotFoundError,
    MeetingPermissionError,
    MeetingStatus,
    MeetingTimeoutError,
    NotCurrentSpeakerError,
    NotMeetingHostError,
)
from agent_messaging.models import EventData, MeetingEvent, MeetingEventType

SOON = 60
NAMES = ("alice", "bob", "charlie", "diana", "moderator", "designer", "engineer", "product_manager")
Sdk = AgentMessaging[Any, Any, Any]
Sdks = AsyncIterator[Sdk]


class IdeaMessage(BaseModel):
    content: str


class MyMessage(BaseModel):
    text: str


@pytest.fixture
def twice(configured: None) -> Callable[[], Sdks]:
    """A started SDK with the agents of the documents, two times in a row on one database."""

    async def run() -> Sdks:
        for _ in range(2):
            async with AgentMessaging[Any, Any, Any]() as started:
                await started.register_organization("org_id", "Organization")
                for name in NAMES:
                    await started.register_agent(name, "org_id", name.title())
                yield started

    return run


async def test_e04_a_brainstorming_is_started_with_an_opening_message(twice: Callable[[], Sdks]) -> None:
    async for sdk in twice():
        meeting_id = await sdk.meeting.create_meeting(
            host="moderator", agents=["moderator", "designer", "engineer", "product_manager"], turn_duration=120.0
        )
        idea = IdeaMessage(content="Let's discuss the new feature...")
        with pytest.raises(InvalidMeetingStateError, match="'designer', 'engineer', 'product_manager'"):
            await sdk.meeting.start_meeting("moderator", meeting_id, idea)
        for name in ("designer", "engineer", "product_manager"):
            assert await sdk.meeting.attend_meeting(name, meeting_id) is True
        await sdk.meeting.start_meeting("moderator", meeting_id, idea)
        status = await sdk.meeting.get_meeting_status(meeting_id)
        assert status is not None
        assert (status.current_speaker, status.turn, status.turn_duration) == ("designer", 2, 120.0)


async def test_e17_a_meeting_of_an_organizer_and_three(twice: Callable[[], Sdks]) -> None:
    async for sdk in twice():
        meeting_id = await sdk.meeting.create_meeting("alice", ["bob", "charlie", "diana"], turn_duration=30.0)
        meeting = await sdk.meeting.get_meeting(meeting_id)
        assert meeting is not None
        assert (meeting.status, meeting.turn_duration) == (MeetingStatus.CREATED, 30.0)
        participants = await sdk.meeting.get_participants(meeting_id)
        ids = [(await sdk.get_agent(name)).id for name in ("alice", "bob", "charlie", "diana")]
        assert [(one.agent_id, one.join_order) for one in participants] == [(id, n) for n, id in enumerate(ids)]


async def test_e13_e42_turns_and_timeouts_are_events(twice: Callable[[], Sdks]) -> None:
    async def watch(sdk: Sdk) -> asyncio.Queue[str]:
        printed = asyncio.Queue[str]()
        names = {(await sdk.get_agent(name)).id: name for name in ("alice", "bob")}

        @sdk.register_event_handler(MeetingEventType.TURN_CHANGED)
        async def on_turn_changed(event: MeetingEventPayload) -> None:
            await printed.put(f"Turn changed: {names[event.data['current_speaker_id']]}")

        @sdk.register_event_handler(MeetingEventType.TIMEOUT_OCCURRED)
        async def on_timeout(event: MeetingEventPayload) -> None:
            await printed.put(f"Agent timed out: {names[event.data['timed_out_agent_id']]}")

        return printed

    async for sdk in twice():
        printed = await watch(sdk)
        meeting_id = await sdk.meeting.create_meeting("alice", ["bob"], turn_duration=0.2)
        await sdk.meeting.attend_meeting("bob", meeting_id)
        await sdk.meeting.start_meeting("alice", meeting_id)
        seen = [await asyncio.wait_for(printed.get(), SOON) for _ in range(3)]
        assert seen[0] == "Turn changed: alice"
        assert sorted(seen[1:]) == ["Agent timed out: alice", "Turn changed: bob"]
        await sdk.meeting.end_meeting("alice", meeting_id)


def test_e22_the_event_types_and_the_event_are_importable_from_models() -> None:
    names = "MEETING_STARTED MEETING_ENDED TURN_CHANGED PARTICIPANT_JOINED PARTICIPANT_LEFT TIMEOUT_OCCURRED"
    for name in names.split():
        assert MeetingEventType[name] == name.lower()
    assert issubclass(MeetingEvent, MeetingEventPayload)


async def test_e59_e63_the_calls_of_meetings_in_their_older_form(twice: Callable[[], Sdks]) -> None:
    spoken = asyncio.Queue[str]()
    async for sdk in twice():
        meeting, waits = sdk.meeting, SOON

        @sdk.register_event_handler(MeetingEvent.AGENT_SPOKE)
        async def on_spoke(meeting_id: UUID, agent_external_id: str | None, data: EventData) -> None:
            await spoken.put(f"{agent_external_id}: {data['message']['text']}")

        with pytest.raises(InvalidMeetingError):
            await meeting.create_meeting("alice", ["alice", "bob", "bob"])
        id = await meeting.create_meeting("alice", ["alice", "bob", "charlie"], turn_duration=60.0)
        with pytest.raises(AgentNotInMeetingError):
            await meeting.attend_meeting("diana", id)
        await meeting.attend_meeting("charlie", id)
        signal = asyncio.create_task(meeting.attend_meeting("bob", id, timeout=300.0))
        await meeting.wait_until_ready(id, timeout=waits)
        with pytest.raises(NotMeetingHostError):
            await meeting.start_meeting("bob", id, MyMessage(text="Me first"))
        welcome = MyMessage(text="Welcome everyone! Let's begin.")
        await meeting.start_meeting("alice", id, welcome, next_speaker_external_id="bob")
        turn = await asyncio.wait_for(signal, waits)
        assert (turn.number, turn.messages[-1].content) == (2, {"text": "Welcome everyone! Let's begin."})

        with pytest.raises(NotCurrentSpeakerError):
            await meeting.speak("charlie", id, MyMessage(text="I interrupt"))
        with pytest.raises(MeetingTimeoutError):
            await meeting.speak(
                "bob", id, MyMessage(text="I think we should..."), next_speaker_external_id="charlie", timeout=0.1
            )
        status = await meeting.get_meeting_status(id)
        assert status is not None
        assert (status.current_speaker, status.participants, status.state) == (
            "charlie",
            ["alice", "bob", "charlie"],
            "active",
        )
        next_signal = asyncio.create_task(meeting.wait_for_turn("alice", id))
        await meeting.leave_meeting("charlie", id)
        assert await asyncio.wait_for(next_signal, waits)
        with pytest.raises(HostCannotLeaveError):
            await meeting.leave_meeting("alice", id)
        with pytest.raises(MeetingPermissionError):
            await meeting.end_meeting("bob", id)
        ended = asyncio.create_task(meeting.wait_for_turn("bob", id))
        await meeting.end_meeting("alice", id)
        assert (await asyncio.wait_for(ended, waits)).has_ended
        printed = [f"{msg.sender}: {msg.content}" for msg in await meeting.get_meeting_history(id)]
        assert printed[2:] == [
            "alice: {'text': \"Welcome everyone! Let's begin.\"}",
            "bob: {'text': 'I think we should...'}",
            "charlie: {'type': 'participant_left', 'agent': 'charlie', 'how': 'left'}",
            "alice: {'type': 'meeting_ended', 'host': 'alice', 'reason': 'host_ended', "
            "'message': 'The host ended the meeting.'}",
        ]
        assert [await asyncio.wait_for(spoken.get(), waits) for _ in range(2)] == [
            "alice: Welcome everyone! Let's begin.",
            "bob: I think we should...",
        ]
        with pytest.raises(MeetingNotFoundError):
            await meeting.get_meeting_history(UUID(int=1))
