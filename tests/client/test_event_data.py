"""The data of events as models: all that the SDK tells fits them, handlers get them, and what is emitted reads back."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from agent_messaging import (
    ErrorOccurredEventData,
    EventData,
    InvalidArgumentError,
    MeetingEndedEventData,
    MeetingEventHandler,
    MeetingEventPayload,
    MeetingEventType,
    MeetingNotFoundError,
    MeetingStartedEventData,
    MessageContext,
    MessagePostedEventData,
    ParticipantJoinedEventData,
    ParticipantLeftEventData,
    ParticipantStatus,
    ParticipantStatusChangedEventData,
    PayloadError,
    Record,
    TimeoutOccurredEventData,
    TurnChangedEventData,
    register_meeting_handler,
)
from agent_messaging.event_data import EVENT_DATA_MODELS
from agent_messaging.handlers.events import MeetingEvent
from tests.client.meeting_support import Table, Watcher
from tests.client.support import SOON, MakeSdk, Sdk
from tests.support import eventually

Type = MeetingEventType


def view(type_: MeetingEventType, data: Any) -> BaseModel:
    """The data as their model, which has all of them and nothing else."""
    model = EVENT_DATA_MODELS[type_].model_validate(data)
    assert {key: value for key, value in data.items() if key != "message"} == dict(model)
    return model


async def test_every_event_of_the_sdk_fits_its_model(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob", "carol", "dave")
    watcher = Watcher().watch(other)
    await other._started().events.ready()

    @register_meeting_handler(agent="bob")
    async def fail(message: Any, context: MessageContext) -> None:
        raise RuntimeError("no idea")

    await sdk.serve()
    table = await Table.gather(sdk, "bob", "carol", "dave", turn_duration=0.2)
    await sdk.meeting.update_participant_status(table.id, "carol", "invited")
    await sdk.meeting.attend_meeting("carol", table.id)
    await sdk.meeting.start_meeting("alice", table.id, {"text": "welcome"})  # bob fails, carol is silent
    await watcher.wait_for(Type.TIMEOUT_OCCURRED)
    await sdk.meeting.leave_meeting("dave", table.id)
    await sdk.deregister_agent("carol")
    await table.end()
    await watcher.wait_for(Type.MEETING_ENDED)
    chosen = await Table.open(sdk, "dave", speaker_selection=lambda so_far: "dave", turn_duration=0.05)
    await chosen.until_turn(3)
    await chosen.end()
    await watcher.wait_for(Type.MEETING_ENDED, 2)
    [timeline, other_timeline] = [
        [one for one in (await sdk.meeting.get_meeting_timeline(id)).timeline if one.type == "event"]
        for id in (table.id, chosen.id)
    ]
    count = len(timeline) + len(other_timeline)
    await eventually(lambda: len(watcher.events), SOON, until=lambda seen: seen == count)
    assert {event.event_type for event in watcher.events} == set(Type)
    for event in watcher.events:
        view(event.event_type, event.data)
    told = {type_: [view(type_, one.data) for one in timeline if one.event_type == type_] for type_ in Type}
    [started] = told[Type.MEETING_STARTED]
    assert isinstance(started, MeetingStartedEventData)
    assert started.participant_external_ids == ["alice", "bob", "carol", "dave"]
    [error, *_] = told[Type.ERROR_OCCURRED]
    assert isinstance(error, ErrorOccurredEventData)
    assert (error.error_type, error.affected_agent_external_id) == ("handler", "bob")
    [posted] = told[Type.MESSAGE_POSTED]
    assert isinstance(posted, MessagePostedEventData)
    assert (posted.content, posted.turn, posted.sender_external_id) == ({"text": "welcome"}, 1, "alice")
    [changed] = told[Type.PARTICIPANT_STATUS_CHANGED]
    assert isinstance(changed, ParticipantStatusChangedEventData)
    assert (changed.previous_status, changed.current_status) == ("attending", ParticipantStatus.INVITED)
    lefts = told[Type.PARTICIPANT_LEFT]
    assert [(left.agent_external_id, left.how) for left in lefts if isinstance(left, ParticipantLeftEventData)] == [
        *(("dave", "left"), ("carol", "deregistered")),
    ]


async def test_a_speech_that_went_with_its_speaker_fits_too(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob")
    await table.speak("alice")
    await table.speak("bob", "two")
    await sdk.deregister_agent("bob")
    timeline = (await sdk.meeting.get_meeting_timeline(table.id)).timeline
    posted = [one for one in timeline if one.get("event_type") == Type.MESSAGE_POSTED][-1]
    data = view(Type.MESSAGE_POSTED, posted.data)
    assert isinstance(data, MessagePostedEventData)
    assert (data.message_id, data.content, data.timestamp) == (None, None, posted.timestamp)
    assert (data.sender_external_id, data.turn) == ("bob", 2)


# --- handlers ---------------------------------------------------------------------------------------------------------


class Progress(BaseModel):
    """A model of an application's own."""

    turn: int
    current_speaker_external_id: str


class Named(TypedDict):
    current_speaker_external_id: str


async def test_handlers_get_the_data_as_their_annotation_says(sdk: Sdk) -> None:
    seen: dict[str, Any] = {}

    @sdk.register_event_handler(Type.TURN_CHANGED)
    async def one(event: MeetingEvent[TurnChangedEventData]) -> None:
        speaker: str | None = event.data.current_speaker_external_id
        seen["one"] = (event.meeting_id, event.agent_external_id, event.data, speaker)

    @sdk.register_event_handler(Type.TURN_CHANGED)
    async def payload(event: MeetingEventPayload[Progress]) -> None:
        seen["payload"] = event.data

    @sdk.register_event_handler(Type.TURN_CHANGED)
    async def three(meeting_id: UUID, agent_external_id: str | None, data: TurnChangedEventData) -> None:
        seen["three"] = data

    @sdk.register_event_handler(Type.TURN_CHANGED)
    def in_a_thread(meeting_id: UUID, agent_external_id: str | None, data: TurnChangedEventData | None) -> None:
        seen["in a thread"] = data

    @sdk.register_event_handler(Type.TURN_CHANGED)
    async def typed_dict(meeting_id: UUID, agent_external_id: str | None, data: Named) -> None:
        seen["typed dict"] = data

    plain: list[Any] = [
        dict,
        dict[str, Any],
        Record,
        EventData,
        Any,
        object,
        MeetingEvent,
        MeetingEvent[EventData],
        "?",
    ]
    for number, annotation in enumerate(plain):

        async def three_plain(meeting_id, agent_external_id, data, number=number) -> None:  # type: ignore[no-untyped-def]
            seen[f"plain {number}"] = data

        async def one_plain(event, number=number) -> None:  # type: ignore[no-untyped-def]
            seen[f"plain {number}"] = event.data

        of_event = annotation in (MeetingEvent, MeetingEvent[EventData])
        handler: Callable[..., Awaitable[None]] = one_plain if of_event else three_plain
        if annotation != "?":
            handler.__annotations__["event" if of_event else "data"] = annotation
        sdk.register_event_handler(Type.TURN_CHANGED)(handler)

    table = await Table.open(sdk)
    await eventually(lambda: len(seen), SOON, until=lambda count: count == 5 + len(plain))
    alice = (await sdk.get_agent("alice")).id
    data = TurnChangedEventData(current_speaker_id=alice, current_speaker_external_id="alice", turn=1)
    assert seen["one"] == (table.id, "alice", data, "alice")
    assert seen["three"] == seen["in a thread"] == data
    assert seen["payload"] == Progress(turn=1, current_speaker_external_id="alice")
    assert seen["typed dict"] == {"current_speaker_external_id": "alice"}
    for number in range(len(plain)):
        assert (type(seen[f"plain {number}"]), seen[f"plain {number}"].turn) == (EventData, 1)


async def test_data_that_do_not_fit_an_annotation_are_told_of_in_the_log(
    sdk: Sdk, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[ErrorOccurredEventData] = []

    @sdk.register_event_handler(Type.ERROR_OCCURRED)
    async def on_error(meeting_id: UUID, agent_external_id: str | None, data: ErrorOccurredEventData) -> None:
        seen.append(data)

    table = await Table.gather(sdk)
    with caplog.at_level(logging.WARNING):
        await sdk._event_handler.emit_event(table.id, Type.ERROR_OCCURRED, {"error_type": ["s3cret"]})
        await sdk._event_handler.emit_error_occurred(table.id, "lost_page", "page 7 is missing")
        await eventually(lambda: seen, SOON)
    assert [one.error_message for one in seen] == ["page 7 is missing"]
    assert "data does not fit ErrorOccurredEventData: error_type: input should be a valid string" in caplog.text
    assert "s3cret" not in caplog.text


# --- events of a caller's own -----------------------------------------------------------------------------------------


async def test_what_is_emitted_reads_back_as_its_model(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    watcher = Watcher().watch(other)
    await other._started().events.ready()
    table = await Table.invite(sdk, "bob")
    alice, bob = (await sdk.get_agent("alice")).id, (await sdk.get_agent("bob")).id
    at, message_id = datetime(2030, 1, 2, 3, 4, 5, 678901, UTC), uuid4()
    emit = sdk._event_handler
    before = datetime.now(UTC) - timedelta(seconds=1)
    await emit.emit_meeting_started(table.id, alice, [alice, str(bob)])
    await emit.emit_meeting_ended(str(table.id), str(alice))
    await emit.emit_turn_changed(table.id, alice, bob)
    await emit.emit_turn_changed(table.id)
    await emit.emit_participant_joined(table.id, bob)
    await emit.emit_participant_left(table.id, bob)
    await emit.emit_timeout_occurred(table.id, alice, bob)
    await emit.emit_timeout_occurred(table.id, alice)
    await emit.emit_message_posted(table.id, message_id, bob, {"text": "hello"}, at)
    await emit.emit_message_posted(table.id, None, bob, None)
    await emit.emit_participant_status_changed(table.id, bob, "waiting", ParticipantStatus.SPEAKING)
    await emit.emit_error_occurred(table.id, "lost_page", "page 7 is missing", bob, timestamp=at)
    await emit.emit_error_occurred(table.id, "lost_page", "page 8 is missing")
    await eventually(lambda: len(watcher.events), SOON, until=lambda seen: seen == 13)
    assert {event.event_type for event in watcher.events} == set(Type)
    models = {type_: [] for type_ in Type}  # type: dict[MeetingEventType, list[BaseModel]]
    about: dict[MeetingEventType, list[str | None]] = {type_: [] for type_ in Type}
    for event in watcher.events:
        models[event.event_type].append(EVENT_DATA_MODELS[event.event_type].model_validate(event.data))
        about[event.event_type].append(event.agent_external_id)
    a, b = {"external_id": "alice", "id": alice}, {"external_id": "bob", "id": bob}

    def named(**agents: dict[str, Any]) -> dict[str, Any]:
        return {f"{key}_{twin}": value for key, agent in agents.items() for twin, value in agent.items()}

    everybody = {"participant_ids": [alice, bob], "participant_external_ids": ["alice", "bob"]}
    assert models[Type.MEETING_STARTED] == [MeetingStartedEventData(**named(host=a), **everybody)]
    assert models[Type.MEETING_ENDED] == [MeetingEndedEventData(**named(host=a))]
    assert models[Type.TURN_CHANGED] == [
        TurnChangedEventData(**named(previous_speaker=a, current_speaker=b)),
        TurnChangedEventData(),
    ]
    assert models[Type.PARTICIPANT_JOINED] == [ParticipantJoinedEventData(**named(agent=b))]
    assert models[Type.PARTICIPANT_LEFT] == [ParticipantLeftEventData(**named(agent=b))]
    assert models[Type.TIMEOUT_OCCURRED] == [
        TimeoutOccurredEventData(**named(timed_out_agent=a, next_speaker=b)),
        TimeoutOccurredEventData(**named(timed_out_agent=a)),
    ]
    [posted, silent] = models[Type.MESSAGE_POSTED]
    assert posted == MessagePostedEventData(
        message_id=message_id, content={"text": "hello"}, timestamp=at, **named(sender=b)
    )
    assert isinstance(silent, MessagePostedEventData)
    assert (silent.message_id, silent.content, silent.timestamp > before) == (None, None, True)
    assert models[Type.PARTICIPANT_STATUS_CHANGED] == [
        ParticipantStatusChangedEventData(
            previous_status=ParticipantStatus.WAITING, current_status=ParticipantStatus.SPEAKING, **named(agent=b)
        )
    ]
    error = ErrorOccurredEventData(error_type="lost_page", error_message="page 7 is missing", timestamp=at)
    assert models[Type.ERROR_OCCURRED][0] == error.model_copy(update=named(affected_agent=b))
    [event] = [one for one in watcher.events if one.event_type is Type.MESSAGE_POSTED and one.data.message_id]
    assert (event.data.timestamp, event.data["message"], event.data.metadata) == (at, {"text": "hello"}, {})
    assert set(event.data) == {*MessagePostedEventData.model_fields, "message"} - {"turn"}
    assert about == {
        Type.MEETING_STARTED: ["alice"],
        Type.MEETING_ENDED: ["alice"],
        Type.TURN_CHANGED: ["bob", None],
        Type.PARTICIPANT_JOINED: ["bob"],
        Type.PARTICIPANT_LEFT: ["bob"],
        Type.TIMEOUT_OCCURRED: ["alice", "alice"],
        Type.MESSAGE_POSTED: ["bob", "bob"],
        Type.PARTICIPANT_STATUS_CHANGED: ["bob"],
        Type.ERROR_OCCURRED: ["bob", None],
    }


@pytest.mark.parametrize(
    ("emit", "field"),
    [
        (lambda emit, id: emit.emit_meeting_ended(id, "alice"), "host_id"),
        (lambda emit, id: emit.emit_meeting_started(id, uuid4(), ["bob"]), "participant_ids"),
        (lambda emit, id: emit.emit_turn_changed(id, None, 7), "current_speaker_id"),
        (lambda emit, id: emit.emit_message_posted(id, None, uuid4(), "x", datetime(2030, 1, 1)), "timestamp"),
        (lambda emit, id: emit.emit_participant_status_changed(id, uuid4(), "here", "left"), "previous_status"),
        (lambda emit, id: emit.emit_error_occurred(id, 404, "gone"), "error_type"),
        (lambda emit, id: emit.emit_error_occurred(id, "x", "y", "bob"), "affected_agent_id"),
    ],
)
async def test_what_does_not_fit_its_model_is_not_recorded(
    emit: Callable[[MeetingEventHandler, UUID], Awaitable[None]], field: str, sdk: Sdk
) -> None:
    table = await Table.invite(sdk, "bob")
    with pytest.raises(InvalidArgumentError, match=f"The event cannot be recorded: {field}") as refused:
        await emit(sdk._event_handler, table.id)
    assert refused.value.field == field
    assert (await sdk.meeting.get_meeting_timeline(table.id)).timeline == []


async def test_an_emitted_event_is_refused_as_any_other(sdk: Sdk) -> None:
    table = await Table.invite(sdk, "bob")
    with pytest.raises(MeetingNotFoundError):
        await sdk._event_handler.emit_meeting_ended(uuid4(), uuid4())
    for content in (float("nan"), object(), "x" * 70_000):
        with pytest.raises(PayloadError, match="data"):
            await sdk._event_handler.emit_message_posted(table.id, None, uuid4(), content)


# --- several handlers, and events made by hand ------------------------------------------------------------------------


async def test_handlers_of_one_event_run_at_the_same_time(sdk: Sdk) -> None:
    """Each waits for the others."""
    meeting = asyncio.Barrier(3)
    met: list[int] = []
    for number in range(3):

        async def meet(event: MeetingEvent, number: int = number) -> None:
            await meeting.wait()
            met.append(number)

        sdk.register_event_handler(Type.MEETING_STARTED)(meet)
    await Table.open(sdk)
    await eventually(lambda: len(met), SOON, until=lambda count: count == 3)
    assert sorted(met) == [0, 1, 2]


def test_an_event_can_be_made_by_hand() -> None:
    """As for a test of a handler."""
    id, before = uuid4(), datetime.now(UTC)
    data: Any = {"host_id": id}
    event = MeetingEvent(id, Type.MEETING_ENDED, data)
    assert (event.data["host_id"], event.data.host_id, event.agent_external_id) == (id, id, None)
    assert before <= event.timestamp <= datetime.now(UTC)
    assert MeetingEvent(id, Type.MEETING_ENDED, data, timestamp=None).timestamp >= event.timestamp  # type: ignore[arg-type]
    assert MeetingEvent(id, Type.MEETING_ENDED, {}, before).timestamp == before
    typed = MeetingEvent(meeting_id=id, event_type=Type.MEETING_ENDED, data=MeetingEndedEventData(host_id=id))
    assert typed.data.host_id == id
    assert pickle.loads(pickle.dumps(event)) == event
    with pytest.raises(AttributeError):
        event.meeting_id = uuid4()  # type: ignore[misc]
