"""Meetings as their users call them: each call with its arguments, what it leaves behind, and what it refuses."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel

from agent_messaging import (
    AgentNotFoundError,
    AgentNotInMeetingError,
    HostCannotLeaveError,
    IdempotencyConflictError,
    InvalidArgumentError,
    InvalidMeetingError,
    Invitation,
    MeetingNotActiveError,
    MeetingNotFoundError,
    MeetingPermissionError,
    MeetingStateError,
    MeetingStatus,
    MeetingStatusResponse,
    MeetingTimeoutError,
    MessageContext,
    NotInitializedError,
    NotMeetingHostError,
    NotYourTurnError,
    ParticipantStatus,
    PayloadError,
    Turn,
    TurnLostError,
    register_message_notification_handler,
)
from agent_messaging.delivery.meetings import acts
from tests.client.meeting_support import Table
from tests.client.support import SOON, Inbox, MakeSdk, Sdk
from tests.support import eventually

# --- creating ---------------------------------------------------------------------------------------------------------


async def test_a_meeting_is_created_with_its_host_attending_and_the_others_invited(sdk: Sdk) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    id = await sdk.meeting.create_meeting("alice", ["bob", "carol"], turn_duration=45)
    assert isinstance(id, UUID)
    meeting = await sdk.meeting.get_meeting(id)
    assert meeting is not None
    assert (meeting.id, meeting.status, meeting.turn_duration) == (id, MeetingStatus.CREATED, 45)
    assert meeting.host_id == (await sdk.get_agent("alice")).id
    assert (meeting.current_speaker_id, meeting.turn_started_at, meeting.started_at, meeting.ended_at) == (None,) * 4
    assert before < meeting.created_at < datetime.now(UTC) + timedelta(seconds=1)
    alice, bob, carol = await sdk.meeting.get_participants(id)
    assert [one.join_order for one in (alice, bob, carol)] == [0, 1, 2]
    assert [one.status for one in (alice, bob, carol)] == [
        ParticipantStatus.ATTENDING,
        ParticipantStatus.INVITED,
        ParticipantStatus.INVITED,
    ]
    assert alice.joined_at is not None
    assert (bob.joined_at, bob.left_at, bob.is_locked) == (None, None, False)
    assert {one.meeting_id for one in (alice, bob, carol)} == {id}
    assert carol.agent_id == (await sdk.get_agent("carol")).id


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("alice", ["bob", "carol"]), {}),
        (("alice", ("alice", "bob", "carol")), {}),
        (("alice", ["bob", "alice", "carol"]), {}),
        ((), {"organizer_external_id": "alice", "participant_external_ids": ["bob", "carol"]}),
        ((), {"host": "alice", "agents": ["alice", "bob", "carol"]}),
        ((), {"host_external_id": "alice", "agent_external_ids": ["alice", "bob", "carol"]}),
        (("alice",), {"agents": ["bob", "carol"]}),
    ],
)
async def test_every_form_of_creating_a_meeting_makes_the_same_one(
    sdk: Sdk, arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    id = await sdk.meeting.create_meeting(*arguments, **options)
    status = await sdk.meeting.get_meeting_status(id)
    assert status is not None
    assert (status.host_id, status.participants) == ("alice", ["alice", "bob", "carol"])


async def test_a_turn_lasts_as_the_settings_say_unless_the_call_says_otherwise(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(default_meeting_turn_duration=33)
    await sdk.add_people("alice")
    assert (await (await Table.invite(sdk)).status()).turn_duration == 33
    assert (await (await Table.invite(sdk, turn_duration=7 * 24 * 3600)).status()).turn_duration == 604_800
    without = await make_sdk(enable_turn_timeout=False)
    table = await Table.open(without, turn_duration=5)
    status = await table.status()
    assert (status.turn_duration, status.turn_deadline, status.seconds_left) == (None, None, None)
    assert (await table.wait("alice")).deadline is None


async def test_a_meeting_that_cannot_be_is_refused_in_words(sdk: Sdk) -> None:
    create = sdk.meeting.create_meeting
    with pytest.raises(InvalidMeetingError, match=r"participant_external_ids\[1\]: 'bob' was named before"):
        await create("alice", ["bob", "bob"])
    with pytest.raises(ValueError, match="named before"):  # what the older form promises
        await create(host="alice", agents=["alice", "bob", "alice"])
    with pytest.raises(InvalidMeetingError, match=r"1,001 participants were given; a meeting has at most 1,000"):
        await create("alice", [f"agent-{number}" for number in range(1_000)])
    with pytest.raises(AgentNotFoundError, match=r"'carrol'.*'carol'"):
        await create("alice", ["bob", "carrol"])
    with pytest.raises(AgentNotFoundError, match="'alcie'"):
        await create("alcie", ["bob"])
    with pytest.raises(InvalidArgumentError, match="organizer_external_id is missing"):
        await create()
    with pytest.raises(InvalidArgumentError, match="organizer_external_id and host are names of one argument"):
        await create("alice", ["bob"], host="alice")
    with pytest.raises(InvalidArgumentError, match="names of one argument"):
        await create("alice", agents=["bob"], agent_external_ids=["bob"])
    with pytest.raises(InvalidArgumentError, match=r"participant_external_ids: .*must be a list of external ids"):
        await create("alice", "bob")
    with pytest.raises(InvalidArgumentError, match=r"turn_duration: 604801 .* at most 604800"):
        await create("alice", ["bob"], 604_801)
    with pytest.raises(InvalidArgumentError, match=r"speaker_selection: 'dice' must be 'round_robin', 'host'"):
        await create("alice", ["bob"], speaker_selection="dice")
    assert await sdk.meeting.list_meetings() == []


async def test_an_agent_that_another_process_registered_anew_is_invited_as_the_new_one(make_sdk: MakeSdk) -> None:
    """Its name is cached with the id of one that is gone."""
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    await Table.gather(sdk, "bob")
    await other.deregister_agent("bob")
    await other.register_agent("bob", "acme", "Bob the Second")
    table = await Table.gather(sdk, "bob")
    assert (await sdk.meeting.get_participants(table.id))[1].agent_id == (await other.get_agent("bob")).id
    await other.deregister_agent("alice")
    with pytest.raises(AgentNotFoundError, match="'alice'"):
        await Table.invite(sdk, "bob")


# --- invitations ------------------------------------------------------------------------------------------------------


async def test_agents_that_another_process_registered_anew_take_part_under_their_names(make_sdk: MakeSdk) -> None:
    one, two = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob", "carol")
    await Table.gather(two, "bob", "carol")  # remembers who they were
    for name in ("alice", "bob"):
        await one.deregister_agent(name)
        await one.register_agent(name, "acme", name.title())
    table = await Table.invite(one, "bob", "carol")
    there = table.at(two)
    assert await two.meeting.attend_meeting("bob", table.id) is True
    await two.meeting.attend_meeting("carol", table.id)
    await two.meeting.start_meeting("alice", table.id)
    await there.speak("alice", next_speaker_external_id="bob")
    assert (await there.wait("bob")).number == 2
    for name in ("bob", "carol"):  # as before, once more behind the back of the second
        await one.deregister_agent(name)
        await one.register_agent(name, "acme", name.title())
        with pytest.raises(AgentNotInMeetingError):
            await there.wait(name, 0)
    await one.deregister_agent("carol")
    with pytest.raises(AgentNotFoundError):
        await two.meeting.remove_participant("alice", table.id, "carol")
    await two.meeting.end_meeting("alice", table.id)


async def test_an_invitation_reaches_the_handler_of_the_agent(sdk: Sdk) -> None:
    sdk.register_handler("bob")(inbox := Inbox())
    table = await Table.invite(sdk, "bob", "carol", turn_duration=20)
    [invitation] = await inbox.wait_for(1)
    assert invitation == {
        "meeting_id": str(table.id),
        "host": "alice",
        "participants": ["alice", "bob", "carol"],
        "turn_duration": 20,
    }
    [context] = inbox.contexts
    assert context.is_meeting_message
    assert (context.meeting_id, context.sender_id, context.receiver_id) == (table.id, "alice", "bob")
    assert (context.requires_reply, context.turn, context.handler_context.value) == (False, None, "invitation")


async def test_who_is_invited_can_attend_from_its_handler(sdk: Sdk) -> None:
    """Awaiting the attendance, and the turn after it, holds up nobody: not the one who created the meeting."""
    turns: list[Turn] = []

    async def attend(message: dict[str, Any], context: MessageContext) -> None:
        assert context.meeting_id is not None
        turns.append(await sdk.meeting.attend_meeting(context.receiver_id, context.meeting_id, timeout=SOON))

    for name in ("bob", "carol"):
        sdk.register_handler(name)(attend)
    table = await Table.invite(sdk, "bob", "carol")
    assert await sdk.meeting.wait_until_ready(table.id, SOON) is MeetingStatus.READY
    await sdk.meeting.start_meeting("alice", table.id, "welcome")
    await eventually(lambda: len(turns), SOON, until=lambda count: count == 1)
    await table.speak("bob", "hello")
    await eventually(lambda: len(turns), SOON, until=lambda count: count == 2)
    assert [turn.number for turn in turns] == [2, 3]


async def test_notification_handlers_are_told_of_invitations_here_and_elsewhere(make_sdk: MakeSdk) -> None:
    register_message_notification_handler(inbox := Inbox())
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "carol")
    await other.add_people("bob")
    engine = sdk._started()
    bob = await engine.names.get("bob")
    await eventually(lambda: engine.notices.is_notified_elsewhere(bob), SOON)
    table = await Table.invite(sdk, "bob", "carol")
    await inbox.wait_for(2)
    told = {context.receiver_id: context for context in inbox.contexts}
    assert set(told) == {"bob", "carol"}
    assert {context.meeting_id for context in told.values()} == {table.id}
    assert all(context.is_meeting_message for context in told.values())
    assert inbox.messages[0]["host"] == "alice"


class Question(BaseModel):
    question: str


@dataclass
class Note:
    text: str


class Draft(BaseModel):
    text: str = ""


@dataclass
class Sketch:
    text: str = ""


class Hint(TypedDict, total=False):
    text: str


@pytest.mark.parametrize("annotation", [Question, Note, int, Draft, Sketch, Hint])
async def test_a_handler_made_for_other_payloads_is_passed_over_with_a_warning_that_says_what_to_do(
    sdk: Sdk, annotation: Any, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox()

    async def handle(message: Any, context: MessageContext) -> None:
        await inbox(message, context)

    handle.__annotations__["message"] = annotation
    sdk.register_handler("bob")(handle)
    sdk.register_handler("carol")(other := Inbox())
    with caplog.at_level(logging.WARNING):
        await Table.invite(sdk, "bob", "carol")
        await other.wait_for(1)
        payload = {Question: {"question": "?"}, int: 7}.get(annotation, {"text": "!"})
        await sdk.wait(await sdk.one_way.send("alice", "bob", payload))
    assert len(inbox.messages) == 1
    assert isinstance(inbox.messages[0], dict if annotation is Hint else annotation)
    assert await sdk.dead_letters.list() == []
    [record] = caplog.records
    assert record.getMessage().startswith("The handler of 'bob' was passed over by an invitation to a meeting")
    assert "`Note | Invitation`" in record.getMessage()
    assert record.exc_info is None


async def test_a_notification_handler_made_for_other_payloads_is_passed_over_with_the_same_warning(
    sdk: Sdk, caplog: pytest.LogCaptureFixture
) -> None:
    @register_message_notification_handler(agent="bob")
    async def notify(message: Question, context: MessageContext) -> None: ...

    with caplog.at_level(logging.WARNING):
        await Table.invite(sdk, "bob")
        await eventually(lambda: caplog.records, SOON)
    [record] = caplog.records
    assert record.getMessage().startswith("The handler of 'bob' was passed over by an invitation to a meeting")
    assert record.exc_info is None


async def test_a_handler_that_names_invitations_in_its_annotation_gets_them_as_objects(sdk: Sdk) -> None:
    seen: asyncio.Queue[Question | Invitation] = asyncio.Queue()

    @sdk.register_handler("bob")
    async def handle(message: Question | Invitation, context: MessageContext) -> None:
        await seen.put(message)
        if isinstance(message, Invitation):
            await sdk.meeting.attend_meeting(context.receiver_id, message.meeting_id)

    table = await Table.invite(sdk, "bob", turn_duration=20)
    assert await sdk.meeting.wait_until_ready(table.id, SOON) is MeetingStatus.READY
    await sdk.one_way.send("alice", "bob", Question(question="?"))
    invitation = Invitation(meeting_id=table.id, host="alice", participants=["alice", "bob"], turn_duration=20)
    assert [await seen.get(), await seen.get()] == [invitation, Question(question="?")]


async def test_an_invitation_waits_for_a_handler_that_comes_later(sdk: Sdk) -> None:
    table = await Table.invite(sdk, "bob")
    sdk.register_handler("bob")(inbox := Inbox())
    assert (await inbox.wait_for(1))[0]["meeting_id"] == str(table.id)


async def test_an_invitation_is_withdrawn_when_the_meeting_goes_on_without_it(sdk: Sdk) -> None:
    """By its start, its end, or the removal of who was invited: nobody is called to a meeting that is over."""
    started = await Table.open(sdk, "bob")
    ended = await Table.invite(sdk, "bob")
    await ended.end()
    removed = await Table.invite(sdk, "bob")
    await sdk.meeting.remove_participant("alice", removed.id, "bob")
    open_ = await Table.invite(sdk, "bob")
    sdk.register_handler("bob")(inbox := Inbox())
    await inbox.wait_for(1)
    last = await Table.invite(sdk, "bob")
    await inbox.wait_for(2)
    called = [message["meeting_id"] for message in inbox.messages]
    assert called == [str(open_.id), str(last.id)]
    assert str(started.id) not in called


# --- attending --------------------------------------------------------------------------------------------------------


async def test_the_meeting_is_ready_once_everybody_attends(sdk: Sdk) -> None:
    table = await Table.invite(sdk, "bob", "carol")
    waiting = asyncio.create_task(sdk.meeting.wait_until_ready(table.id))
    assert await sdk.meeting.attend_meeting("bob", table.id) is True
    assert await sdk.meeting.attend_meeting("bob", table.id) is True, "again"
    assert (await table.status()).status is MeetingStatus.CREATED
    assert not waiting.done()
    assert await sdk.meeting.attend_meeting("carol", str(table.id)) is True
    assert await waiting is MeetingStatus.READY
    assert set((await table.seats()).values()) == {"attending"}
    assert await table.notes() == [
        {"type": "participant_joined", "agent": "bob"},
        {"type": "participant_joined", "agent": "carol"},
    ]
    assert (await sdk.meeting.get_participants(table.id))[2].joined_at is not None


async def test_waiting_for_readiness_names_who_is_missing(sdk: Sdk) -> None:
    table = await Table.invite(sdk, "bob", "carol")
    await sdk.meeting.attend_meeting("carol", table.id)
    with pytest.raises(MeetingTimeoutError, match=r"After 0.05 seconds 'bob' had not attended.*remove_participant"):
        await sdk.meeting.wait_until_ready(table.id, 0.05)
    waiting = asyncio.create_task(sdk.meeting.wait_until_ready(table.id))
    await sdk.meeting.remove_participant("alice", table.id, "bob")
    assert await waiting is MeetingStatus.READY
    await table.end()
    assert await sdk.meeting.wait_until_ready(table.id) is MeetingStatus.ENDED


async def test_only_who_is_invited_attends_and_only_before_the_start(sdk: Sdk) -> None:
    table = await Table.invite(sdk, "bob")
    with pytest.raises(AgentNotInMeetingError, match="'carol' is not a participant of this meeting"):
        await sdk.meeting.attend_meeting("carol", table.id)
    with pytest.raises(AgentNotFoundError, match=r"'bobb'.*'bob'"):
        await sdk.meeting.attend_meeting("bobb", table.id)
    await sdk.meeting.leave_meeting("bob", table.id)
    with pytest.raises(AgentNotInMeetingError):
        await sdk.meeting.attend_meeting("bob", table.id)
    over = await Table.invite(sdk, "bob")
    await over.end()
    with pytest.raises(MeetingStateError):
        await sdk.meeting.attend_meeting("bob", over.id)


async def test_attending_can_wait_for_the_turn(sdk: Sdk) -> None:
    table = await Table.invite(sdk, "bob", "carol")
    bob = asyncio.create_task(sdk.meeting.attend_meeting("bob", table.id, wait_for_turn=True))
    carol = asyncio.create_task(sdk.meeting.attend_meeting("carol", table.id, SOON))
    await sdk.meeting.wait_until_ready(table.id, SOON)
    await sdk.meeting.start_meeting("alice", table.id, {"text": "welcome"}, "carol")
    turn = await carol
    assert isinstance(turn, Turn)
    assert (turn.number, turn.has_ended, bool(turn)) == (2, False, True)
    assert turn.messages[-1].content == {"text": "welcome"}
    await table.end()
    end = await bob
    assert (end.number, end.deadline, end.has_ended, bool(end)) == (None, None, True, False)


async def test_attending_stands_although_the_turn_did_not_come_in_time(sdk: Sdk) -> None:
    table = await Table.invite(sdk, "bob")
    with pytest.raises(MeetingTimeoutError, match=r"'bob' did not get the turn within 0.05 seconds"):
        await sdk.meeting.attend_meeting("bob", table.id, 0.05)
    assert await table.seats() == {"alice": "attending", "bob": "attending"}


# --- starting ---------------------------------------------------------------------------------------------------------


async def test_without_an_opening_message_the_host_has_the_first_turn(sdk: Sdk) -> None:
    table = await Table.gather(sdk, "bob", "carol")
    await sdk.meeting.start_meeting("alice", table.id)
    assert await table.holder() == (1, "alice")
    assert await table.seats() == {"alice": "speaking", "bob": "waiting", "carol": "waiting"}
    meeting = await sdk.meeting.get_meeting(table.id)
    assert meeting is not None
    assert (meeting.status, meeting.current_speaker_id) == (MeetingStatus.ACTIVE, meeting.host_id)
    assert meeting.started_at is not None
    assert meeting.turn_started_at == meeting.started_at
    assert [one.is_locked for one in await sdk.meeting.get_participants(table.id)] == [False, True, True]


async def test_an_opening_message_is_the_hosts_turn(sdk: Sdk) -> None:
    table = await Table.gather(sdk, "bob", "carol")
    await sdk.meeting.start_meeting("alice", table.id, initial_message={"text": "welcome"})
    assert await table.holder() == (2, "bob")
    assert await table.said() == [("alice", {"text": "welcome"})]
    assert await table.course() == [(1, "alice", "spoke"), (2, "bob", None)]


async def test_the_host_names_the_first_speaker(sdk: Sdk) -> None:
    silent = await Table.gather(sdk, "bob", "carol")
    await sdk.meeting.start_meeting("alice", silent.id, next_speaker_external_id="carol")
    assert await silent.holder() == (1, "carol")
    opened = await Table.gather(sdk, "bob", "carol")
    await sdk.meeting.start_meeting("alice", opened.id, "welcome", "carol")
    assert await opened.holder() == (2, "carol")


async def test_a_start_that_cannot_be_is_refused_in_words_and_changes_nothing(sdk: Sdk) -> None:
    await sdk.register_agent("dave", "acme", "Dave")
    table = await Table.invite(sdk, "bob", "carol")
    start = sdk.meeting.start_meeting
    with pytest.raises(MeetingStateError, match=r"not ready: 'bob', 'carol' have not attended.*wait_until_ready"):
        await start("alice", table.id)
    with pytest.raises(NotMeetingHostError, match="Agent 'bob' is not the host of this meeting") as caught:
        await start("bob", table.id)
    assert isinstance(caught.value, MeetingPermissionError)
    for name in ("bob", "carol"):
        await sdk.meeting.attend_meeting(name, table.id)
    with pytest.raises(AgentNotInMeetingError, match="'dave' cannot have the next turn"):
        await start("alice", table.id, "welcome", "dave")
    with pytest.raises(AgentNotFoundError, match="Next speaker agent not found: 'davee'"):
        await start("alice", table.id, "welcome", "davee")
    with pytest.raises(PayloadError):
        await start("alice", table.id, {"bad": float("nan")})
    assert ((await table.status()).status, await table.said()) == (MeetingStatus.READY, [])
    await start("alice", table.id, "welcome")
    with pytest.raises(MeetingStateError, match="has started already"):
        await start("alice", table.id)
    await table.end()
    with pytest.raises(MeetingStateError, match="has ended"):
        await start("alice", table.id)


# --- speaking ---------------------------------------------------------------------------------------------------------


async def test_turns_go_round_in_the_order_of_joining(sdk: Sdk) -> None:
    table = await Table.open(sdk, "carol", "bob")
    for number, name in enumerate(["alice", "carol", "bob", "alice", "carol"], 1):
        turn = await table.wait(name)
        assert turn.number == number
        assert isinstance(await table.speak(name, number), UUID)
    assert [said for _, said in await table.said()] == [1, 2, 3, 4, 5]


async def test_a_turn_shows_what_was_said_since_ones_last_speech_and_when_it_ends(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob", "carol", turn_duration=50)
    first = await table.wait("alice")
    assert first.messages == ()
    assert [one.content["type"] for one in first.notes] == ["participant_joined"] * 2
    assert first.deadline is not None
    assert timedelta(seconds=40) < first.deadline - datetime.now(UTC) < timedelta(seconds=60)
    id = await table.speak("alice", {"text": "one"}, {"mood": "calm"})
    await table.speak("bob", {"text": "two"})
    [one, two] = (await table.wait("carol")).messages
    assert (one.id, one.message_id, one.sender, one.sender_id, one.sender_name) == (
        str(id),
        str(id),
        "alice",
        "alice",
        "Alice",
    )
    assert (one.content, one.metadata, one.message_type) == ({"text": "one"}, {"mood": "calm"}, "user_defined")
    assert isinstance(one.created_at, datetime)
    assert (two.content, two.metadata) == ({"text": "two"}, {})
    await table.speak("carol", {"text": "three"})
    assert [one.content for one in (await table.wait("alice")).messages] == [{"text": "two"}, {"text": "three"}]


async def test_turns_that_change_hands_here_are_shown_without_a_look_in_the_store(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once everybody has spoken here. What they show is what the store has."""
    table = await Table.open(sdk, "bob", "carol")
    meetings = sdk.meeting.engine.meetings
    monkeypatch.setattr(meetings, "look", lambda: None)  # a poll says that anything may have happened
    for name in table.people:
        await table.wait(name)
        await table.speak(name, {"round": 1})
    for name in ("sit", "find_standings"):
        monkeypatch.setattr(meetings.meetings, name, None)
    await table.speak("alice", {"round": 2})
    alice = asyncio.create_task(table.wait("alice"))
    for name in ("bob", "carol"):
        await table.speak(name, {"by": name}, {"mood": "calm"})
    turn = await alice
    monkeypatch.undo()
    assert [*turn.messages] == (await table.history())[-2:]
    assert [one.content for one in turn.messages] == [{"by": "bob"}, {"by": "carol"}]
    assert (turn.number, turn.notes) == (7, ())


async def test_what_others_did_meanwhile_is_shown_with_what_is_remembered(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although nothing told this process of it: the next act here does."""
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob", "carol", "dave")
    table = await Table.open(sdk, "bob", "carol", "dave")
    monkeypatch.setattr(sdk.meeting.engine.meetings, "look", lambda: None)
    await table.speak("alice", 1, next_speaker_external_id="carol")
    alice = asyncio.create_task(table.wait("alice"))
    await table.at(other).speak("carol", 2, next_speaker_external_id="bob")
    await table.speak("bob", 3, next_speaker_external_id="alice")
    assert [one.content for one in (await alice).messages] == [2, 3]
    await table.speak("alice", 4, next_speaker_external_id="bob")
    alice = asyncio.create_task(table.wait("alice"))
    await other.meeting.leave_meeting("dave", table.id)
    await table.speak("bob", 5, next_speaker_external_id="alice")
    turn = await alice
    assert [one.content for one in turn.messages] == [5]
    assert [one.content["type"] for one in turn.notes] == ["participant_left"]


async def test_what_was_said_is_apart_from_what_the_sdk_notes(sdk: Sdk) -> None:
    """So that a loop over what was said meets nothing but payloads of the application."""
    table = await Table.open(sdk, "bob", "carol")
    await table.speak("alice", {"text": "one"})
    await sdk.meeting.pass_turn("bob", table.id)
    await sdk.meeting.skip_turn("alice", table.id)
    await sdk.meeting.leave_meeting("carol", table.id)
    await table.speak("alice", {"text": "two"})
    turn = await table.wait("bob")
    assert [one.content["text"] for one in turn.messages] == ["one", "two"]
    noted = [(one.message_type.value, one.content["type"]) for one in turn.notes]
    assert noted[2:] == [("system", "turn_skipped"), ("system", "participant_left")], noted
    assert turn.notes[0].created_at <= turn.messages[0].created_at <= turn.notes[-1].created_at


async def test_a_turn_shows_at_most_the_newest_hundred_messages(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob")
    for number in range(120):
        await table.speak("alice", number, next_speaker_external_id="alice" if number < 119 else "bob")
    shown = [one.content for one in (await table.wait("bob")).messages]
    assert shown == list(range(20, 120))


async def test_the_speaker_may_name_the_next_one_or_itself(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob", "carol")
    await table.speak("alice", next_speaker_external_id="carol")
    await table.speak("carol", next_speaker_external_id="carol")
    await table.speak("carol")
    assert await table.course() == [
        (1, "alice", "spoke"),
        (2, "carol", "spoke"),
        (3, "carol", "spoke"),
        (4, "alice", None),
    ]


async def test_speaking_can_wait_for_ones_next_turn(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob")
    alice = asyncio.create_task(table.speak("alice", "one", wait_for_turn=True))
    assert (await table.wait("bob")).number == 2
    bob = asyncio.create_task(
        sdk.meeting.speak(speaker_external_id="bob", meeting_id=table.id, message=2, timeout=SOON)
    )
    turn = await alice
    assert (turn.number, [one.content for one in turn.messages]) == (3, [2])
    await table.end()
    assert (await bob).has_ended
    again = await Table.open(sdk, "bob")
    with pytest.raises(MeetingTimeoutError, match=r"'alice' did not get the turn within 0\.05 seconds"):
        await again.speak("alice", "said all the same", timeout=0.05)
    assert await again.said() == [("alice", "said all the same")]


async def test_speaking_out_of_turn_is_refused_in_words_and_stores_nothing(sdk: Sdk) -> None:
    await sdk.register_agent("dave", "acme", "Dave")
    table = await Table.gather(sdk, "bob")
    with pytest.raises(MeetingNotActiveError, match="is ready: it has not started"):
        await table.speak("alice")
    await sdk.meeting.start_meeting("alice", table.id)
    with pytest.raises(NotYourTurnError, match=r"It's not bob's turn: 'alice' has turn 1.*wait_for_turn") as caught:
        await table.speak("bob")
    assert not isinstance(caught.value, TurnLostError)
    with pytest.raises(
        NotYourTurnError, match=r"Before speaking, wait for it with sdk\.meeting\.wait_for_turn\("
    ) as caught:
        await sdk.meeting.speak("bob", table.id, "…", wait_for_turn=True)  # this waits for the turn after this one
    assert not isinstance(caught.value, TurnLostError)
    with pytest.raises(AgentNotInMeetingError, match="'dave' is not a participant"):
        await table.speak("dave")
    with pytest.raises(AgentNotInMeetingError, match="'dave' cannot have the next turn"):
        await table.speak("alice", next_speaker_external_id="dave")
    with pytest.raises(TurnLostError, match=r"is over; turn 1 is current. Nothing was stored"):
        await table.speak("alice", turn=7)
    with pytest.raises(InvalidArgumentError, match="message is missing"):
        await sdk.meeting.speak("alice", table.id)
    with pytest.raises(InvalidArgumentError, match="meeting_id is missing"):
        await sdk.meeting.speak("alice", message="…")
    with pytest.raises(InvalidArgumentError, match="agent_external_id is missing"):
        await sdk.meeting.speak(meeting_id=table.id, message="…")
    with pytest.raises(InvalidArgumentError, match="names of one argument"):
        await table.speak("alice", speaker_external_id="alice")
    with pytest.raises(PayloadError):
        await table.speak("alice", object())
    assert (await table.holder(), await table.said()) == ((1, "alice"), [])
    await table.end()
    with pytest.raises(MeetingNotActiveError, match="has ended"):
        await table.speak("alice")


async def test_a_wait_that_cannot_be_is_refused_before_anything_is_said(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob")
    invited = await Table.invite(sdk, "bob")
    with pytest.raises(InvalidArgumentError, match="timeout: -1 is not a number of seconds"):
        await table.speak("alice", timeout=-1)
    with pytest.raises(InvalidArgumentError, match="timeout: -1 is not a number of seconds"):
        await sdk.meeting.attend_meeting("bob", invited.id, -1)
    assert await table.holder() == (1, "alice")
    assert (await invited.seats())["bob"] == "invited"


async def test_an_act_is_for_the_turn_it_names(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob")
    turn = await table.wait("alice")
    await table.speak("alice", "one", turn=turn)
    await table.speak("bob", "two", turn=2)
    for late in (turn, 1):
        with pytest.raises(TurnLostError):
            await table.speak("alice", "late", turn=late)
    await table.speak("alice", "three")
    await table.end()
    end = await table.wait("bob")
    with pytest.raises(InvalidArgumentError, match="turn: None is the end of the meeting"):
        await table.speak("bob", turn=end)


async def test_an_act_that_names_no_turn_is_for_the_newest_that_was_shown_here(make_sdk: MakeSdk) -> None:
    """So a process that was paused, and whose agent has another turn meanwhile, does not speak into that one."""
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    table = await Table.open(sdk, "bob")
    elsewhere = table.at(other)
    assert (await elsewhere.wait("alice")).number == 1
    await table.speak("alice", "one")
    await table.speak("bob", "two")
    with pytest.raises(TurnLostError, match="turn 3 is current"):
        await elsewhere.speak("alice", "for turn 1")
    with pytest.raises(TurnLostError):
        await other.meeting.pass_turn("alice", table.id)
    assert await table.said() == [("alice", "one"), ("bob", "two")]
    assert (await elsewhere.wait("alice")).number == 3
    await elsewhere.speak("alice", "three")
    assert (await table.said())[-1] == ("alice", "three")


async def test_a_turn_that_was_used_by_its_number_binds_no_longer_nor_do_those_before_it(make_sdk: MakeSdk) -> None:
    one, two = await make_sdk(), await make_sdk()
    await one.add_people("alice")
    table = await Table.open(one)  # turn 1 is shown here, and used elsewhere
    await table.at(two).speak("alice")
    await table.speak("alice", turn=2)
    await table.speak("alice")
    await table.wait("alice")
    await table.at(two).speak("alice")
    await table.sdk.meeting.pass_turn("alice", table.id, turn=5)
    await table.sdk.meeting.pass_turn("alice", table.id)
    assert (await table.holder())[0] == 7


async def test_turns_that_were_shown_and_never_used_are_forgotten_with_their_meetings(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a process that shows turns and hears of no end would remember ever more of them."""
    monkeypatch.setattr(acts, "MANY_OBSERVED", 3)
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    lasting = await Table.open(sdk, "bob")
    await lasting.at(other).wait("alice")
    remembered = other._started().meetings.observed
    for _ in range(12):
        table = await Table.open(sdk, "bob")
        await table.at(other).wait("alice")
        await table.end()
    await eventually(lambda: len(remembered), SOON, until=lambda count: count < 6)
    await lasting.speak("alice")
    with pytest.raises(TurnLostError):
        await lasting.at(other).speak("alice", "for the turn that was shown")


async def test_passing_says_nothing_and_gives_the_turn_on(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob", "carol")
    await sdk.meeting.pass_turn("alice", table.id)
    await sdk.meeting.pass_turn("bob", table.id, next_speaker_external_id="bob", turn=2)
    with pytest.raises(TurnLostError):
        await sdk.meeting.pass_turn("bob", table.id, turn=2)
    with pytest.raises(NotYourTurnError):
        await sdk.meeting.pass_turn("carol", table.id)
    await sdk.meeting.pass_turn("bob", table.id)
    assert await table.course() == [
        (1, "alice", "passed"),
        (2, "bob", "passed"),
        (3, "bob", "passed"),
        (4, "carol", None),
    ]
    assert await table.said() == []


async def test_a_repeated_speech_under_one_key_is_stored_once(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    table = await Table.open(sdk, "bob")
    options: dict[str, Any] = {"metadata": {"a": 1}, "next_speaker_external_id": "bob", "idempotency_key": "k"}
    id = await table.speak("alice", {"n": 1}, **options)
    assert await table.speak("alice", {"n": 1}, **options) == id
    assert await table.at(other).speak("alice", {"n": 1}, **options) == id
    assert await sdk.meeting.speak("alice", str(table.id).upper(), {"n": 1}, **options) == id
    for changed in ({"message": {"n": 2}}, {"metadata": None}, {"next_speaker_external_id": None}):
        with pytest.raises(IdempotencyConflictError, match="'k' was already used"):
            await table.speak("alice", **{"message": {"n": 1}, **options, **changed})
    second = await Table.open(sdk, "bob")
    with pytest.raises(IdempotencyConflictError):
        await second.speak("alice", {"n": 1}, **options)
    assert isinstance(await table.speak("bob", {"n": 1}, idempotency_key="k"), UUID), "each agent has its own keys"
    await table.end()
    assert await table.speak("alice", {"n": 1}, **options) == id, "the repeat of a speech in a meeting that has ended"
    assert len(await table.said()) == 2


async def test_a_repeat_that_waits_joins_the_wait(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob")
    await table.speak("alice", 1, idempotency_key="k")
    waiting = asyncio.create_task(table.speak("alice", 1, idempotency_key="k", timeout=SOON))
    await table.wait("bob")
    await table.speak("bob", 2)
    assert (await waiting).number == 3
    await table.speak("alice", 3)


# --- waiting for the turn ---------------------------------------------------------------------------------------------


async def test_waiting_for_the_turn_ends_with_the_turn_wherever_the_one_before_it_speaks(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    table = await Table.open(sdk, "bob")
    waiting = asyncio.create_task(table.at(other).wait("bob"))
    await eventually(lambda: len(other._started().meetings.waiters), SOON)
    await table.speak("alice", "one")
    assert (await waiting).number == 2
    assert (await table.at(other).wait("bob")).number == 2, "again, at once"


async def test_a_look_at_the_turn_does_not_wait(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob")
    assert (await table.wait("alice", 0)).number == 1
    with pytest.raises(MeetingTimeoutError, match="'bob' did not get the turn within 0 seconds"):
        await table.wait("bob", 0)
    with pytest.raises(MeetingNotFoundError):
        await sdk.meeting.wait_for_turn("bob", uuid4(), 0)
    await table.end()
    assert (await table.wait("bob", 0)).has_ended


async def test_waiting_for_the_turn_is_limited_by_the_call_or_the_settings(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(default_meeting_timeout=0.05)
    await sdk.add_people("alice", "bob")
    table = await Table.open(sdk, "bob")
    with pytest.raises(TimeoutError, match=r"within 0\.05 seconds"):
        await table.wait("bob", None)
    with pytest.raises(MeetingTimeoutError, match=r"within 0\.06 seconds"):
        await table.wait("bob", 0.06)
    assert len(sdk._started().meetings.waiters) == 0


async def test_only_participants_wait_for_a_turn(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob")
    with pytest.raises(AgentNotInMeetingError, match="'carol' is not a participant"):
        await table.wait("carol")
    waiting = asyncio.create_task(table.wait("bob"))
    await eventually(lambda: len(sdk._started().meetings.waiters), SOON)
    await sdk.meeting.leave_meeting("bob", table.id)
    with pytest.raises(AgentNotInMeetingError, match="any more"):
        await waiting


async def test_two_may_wait_for_one_agents_turn(make_sdk: MakeSdk) -> None:
    """Both are shown it; only one speech is accepted in it."""
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    table = await Table.open(sdk, "bob")
    waiting = [asyncio.create_task(one.wait("bob")) for one in (table, table, table.at(other))]
    await table.speak("alice", "one")
    assert [turn.number for turn in await asyncio.gather(*waiting)] == [2, 2, 2]
    answers = await asyncio.gather(
        *(one.speak("bob", "two") for one in (table, table, table.at(other))), return_exceptions=True
    )
    assert sum(isinstance(answer, UUID) for answer in answers) == 1
    assert all(isinstance(answer, UUID | NotYourTurnError) for answer in answers)
    assert await table.said() == [("alice", "one"), ("bob", "two")]


# --- the host ---------------------------------------------------------------------------------------------------------


async def test_the_host_ends_the_meeting_and_everybody_who_waits_is_told(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    table = await Table.open(sdk, "bob", "carol")
    waiting = [asyncio.create_task(table.wait("bob")), asyncio.create_task(table.at(other).wait("carol"))]
    await eventually(lambda: len(other._started().meetings.waiters), SOON)
    await sdk.meeting.end_meeting("alice", table.id)
    for turn in await asyncio.gather(*waiting):
        assert turn.has_ended
        assert turn.notes[-1].content["type"] == "meeting_ended"
    status = await table.status()
    assert (status.status, status.state, status.current_speaker, status.turn) == ("ended", "ended", None, None)
    assert status.ended_at >= status.started_at
    [ending] = [one for one in await table.history() if one.message_type == "ending"]
    assert ending.content == {
        "type": "meeting_ended",
        "host": "alice",
        "reason": "host_ended",
        "message": "The host ended the meeting.",
    }
    assert ending.sender == "alice"
    assert set((await table.seats()).values()) == {"attending"}
    with pytest.raises(MeetingNotActiveError, match="has ended"):
        await table.end()


async def test_a_meeting_can_be_ended_in_any_state_by_its_host_alone(sdk: Sdk) -> None:
    for make in (Table.invite, Table.gather, Table.open):
        table = await make(sdk, "bob")
        with pytest.raises(NotMeetingHostError, match="'bob' is not the host"):
            await sdk.meeting.end_meeting("bob", table.id)
        with pytest.raises(NotMeetingHostError):
            await sdk.meeting.end_meeting("carol", table.id)
        await table.end()
        assert (await table.status()).status is MeetingStatus.ENDED


async def test_the_host_skips_a_turn(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob", "carol")
    await table.speak("alice", "one")
    with pytest.raises(NotMeetingHostError):
        await sdk.meeting.skip_turn("bob", table.id)
    await sdk.meeting.skip_turn("alice", table.id, turn=2)
    with pytest.raises(TurnLostError):
        await sdk.meeting.skip_turn("alice", table.id, turn=2)
    await sdk.meeting.skip_turn("alice", table.id, turn=await table.wait("carol"))
    await sdk.meeting.skip_turn("alice", table.id)
    assert await table.course() == [
        (1, "alice", "spoke"),
        (2, "bob", "skipped"),
        (3, "carol", "skipped"),
        (4, "alice", "skipped"),
        (5, "bob", None),
    ]
    assert (await table.notes())[-3:] == [{"type": "turn_skipped", "agent": name} for name in ("bob", "carol", "alice")]
    ready = await Table.gather(sdk, "bob")
    with pytest.raises(MeetingNotActiveError, match="has not started"):
        await sdk.meeting.skip_turn("alice", ready.id)


async def test_the_host_removes_a_participant(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob", "carol")
    await table.speak("alice", "one")
    remove = sdk.meeting.remove_participant
    with pytest.raises(NotMeetingHostError):
        await remove("carol", table.id, "bob")
    with pytest.raises(HostCannotLeaveError, match="'alice' is the host and cannot leave"):
        await remove("alice", table.id, "alice")
    with pytest.raises(AgentNotFoundError, match="Participant agent not found: 'bobb'"):
        await remove("alice", table.id, "bobb")
    await remove("alice", table.id, "bob")
    with pytest.raises(AgentNotInMeetingError, match="'bob' is not a participant"):
        await remove("alice", table.id, "bob")
    assert await table.seats() == {"alice": "waiting", "bob": "left", "carol": "speaking"}
    assert await table.course() == [(1, "alice", "spoke"), (2, "bob", "left"), (3, "carol", None)]
    assert (await table.notes())[-1] == {"type": "participant_left", "agent": "bob", "how": "removed"}
    assert (await table.status()).participants == ["alice", "carol"]
    await table.end()
    with pytest.raises(MeetingNotActiveError):
        await remove("alice", table.id, "carol")


async def test_a_participant_leaves(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob", "carol")
    with pytest.raises(HostCannotLeaveError, match=r"'alice' is the host and cannot leave. Call end_meeting"):
        await sdk.meeting.leave_meeting("alice", table.id)
    await sdk.meeting.leave_meeting("carol", table.id)
    with pytest.raises(AgentNotInMeetingError):
        await sdk.meeting.leave_meeting("carol", table.id)
    await table.speak("alice", "one")
    await sdk.meeting.leave_meeting("bob", table.id)
    assert await table.course() == [(1, "alice", "spoke"), (2, "bob", "left"), (3, "alice", None)]
    with pytest.raises(AgentNotInMeetingError):
        await table.speak("bob")
    participants = await sdk.meeting.get_participants(table.id)
    assert [one.left_at is not None for one in participants] == [False, True, True]
    await table.end()
    with pytest.raises(AgentNotInMeetingError):
        await sdk.meeting.leave_meeting("bob", table.id)


async def test_a_status_set_by_hand(sdk: Sdk) -> None:
    table = await Table.invite(sdk, "bob", "carol")
    bob = (await sdk.get_agent("bob")).id
    update = sdk.meeting.update_participant_status
    await update(table.id, bob, ParticipantStatus.ATTENDING)
    await update(table.id, "carol", "attending")
    await update(table.id, "carol", ParticipantStatus.ATTENDING)
    assert (await table.status()).status is MeetingStatus.READY
    await update(str(table.id), str(bob), ParticipantStatus.INVITED)
    assert (await table.status()).status is MeetingStatus.CREATED
    await update(table.id, bob, ParticipantStatus.LEFT)
    assert await table.seats() == {"alice": "attending", "bob": "left", "carol": "attending"}
    for status in (ParticipantStatus.WAITING, "speaking"):
        with pytest.raises(MeetingNotActiveError):
            await update(table.id, "carol", status)
    with pytest.raises(InvalidArgumentError, match="status: 'asleep' must be one of invited, attending, waiting"):
        await update(table.id, "carol", "asleep")
    with pytest.raises(HostCannotLeaveError):
        await update(table.id, "alice", ParticipantStatus.LEFT)
    with pytest.raises(MeetingStateError):
        await update(table.id, "alice", ParticipantStatus.INVITED)
    with pytest.raises(AgentNotInMeetingError):
        await update(table.id, "bob", ParticipantStatus.ATTENDING)
    with pytest.raises(AgentNotFoundError):
        await update(table.id, uuid4(), ParticipantStatus.ATTENDING)
    await sdk.meeting.start_meeting("alice", table.id)
    with pytest.raises(MeetingStateError):
        await update(table.id, "carol", ParticipantStatus.INVITED)


async def test_the_turn_can_be_moved_by_setting_a_status(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob", "carol")
    update = sdk.meeting.update_participant_status
    await update(table.id, "alice", ParticipantStatus.SPEAKING)
    await update(table.id, "bob", ParticipantStatus.WAITING)
    assert await table.holder() == (1, "alice")
    await update(table.id, "carol", "speaking")
    assert await table.holder() == (2, "carol")
    await update(table.id, "carol", ParticipantStatus.WAITING)
    assert await table.holder() == (3, "alice")
    assert await table.seats() == {"alice": "speaking", "bob": "waiting", "carol": "waiting"}
    assert await table.course() == [(1, "alice", "passed"), (2, "carol", "passed"), (3, "alice", None)]
    for status in ("speaking", "waiting"):
        with pytest.raises(AgentNotInMeetingError):
            await update(table.id, await sdk.register_agent(f"stranger-{status}", "acme", "S"), status)
        with pytest.raises(MeetingNotFoundError):
            await update(uuid4(), "bob", status)
    await table.end()
    with pytest.raises(MeetingNotActiveError):
        await update(table.id, "bob", "speaking")


# --- looking ----------------------------------------------------------------------------------------------------------


async def test_how_a_meeting_stands_by_key_and_by_attribute(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob", turn_duration=30)
    status = await table.status()
    assert isinstance(status, MeetingStatusResponse)
    assert set(status) == MeetingStatusResponse.__annotations__.keys()
    assert (status["status"], status.state) == (MeetingStatus.ACTIVE, MeetingStatus.ACTIVE)
    assert (status.host_id, status.host_external_id) == ("alice", "alice")
    assert (status.current_speaker, status.current_speaker_external_id, status.turn) == ("alice", "alice", 1)
    assert status["turn_deadline"] - status["turn_started_at"] == timedelta(seconds=30)
    assert 20 < status["seconds_left"] <= 30
    assert (status.participants, status.participant_count) == (["alice", "bob"], 2)
    assert set(status.participant_details[1]) == {"agent_id", "join_order", "status", "joined_at", "left_at"}
    assert (status.speaker_selection, status.ended_at) == ("round_robin", None)
    with pytest.raises(AttributeError, match="no key 'speaker'; the keys are meeting_id"):
        _ = status.speaker


async def test_the_history_tells_it_all_in_order(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob")
    await table.speak("alice", {"text": "one"}, {"tone": "calm"})
    await sdk.meeting.skip_turn("alice", table.id)
    await sdk.meeting.leave_meeting("bob", table.id)
    await table.end()
    history = await sdk.meeting.get_meeting_history(str(table.id))
    assert [one.content["type"] if one.message_type != "user_defined" else "said" for one in history] == [
        *("participant_joined", "said", "turn_skipped", "participant_left", "meeting_ended")
    ]
    assert set(history[0]) == {
        *("id", "message_id", "sender", "sender_id", "sender_name", "message_type", "content", "metadata"),
        *("created_at", "is_damaged"),
    }
    assert [one.sender for one in history] == ["bob", "alice", "bob", "bob", "alice"]
    assert (history[1].metadata, history[1].sender_name) == ({"tone": "calm"}, "Alice")
    assert [one.created_at for one in history] == sorted(one.created_at for one in history)


async def test_listing_meetings_of_an_agent_of_a_status_and_by_pages(sdk: Sdk) -> None:
    first = await Table.open(sdk, "bob")
    second = await Table.invite(sdk, "bob", "carol")
    third = await Table.gather(sdk, host="carol")
    await first.end()

    async def ids(*arguments: Any, **options: Any) -> list[UUID]:
        return [one.meeting_id for one in await sdk.meeting.list_meetings(*arguments, **options)]

    assert await ids() == [third.id, second.id, first.id]
    assert await ids("alice") == await ids("bob") == [second.id, first.id]
    assert await ids("carol") == [third.id, second.id]
    assert await ids(status="ended") == await ids("bob", status=MeetingStatus.ENDED) == [first.id]
    assert await ids(limit=1, offset=1) == [second.id]
    assert await ids(offset=3) == []
    await sdk.meeting.remove_participant("alice", second.id, "bob")
    assert await ids("bob") == [second.id, first.id]
    [record] = await sdk.meeting.list_meetings(status="created")
    assert (record.meeting_id, record.host_id) == (second.id, "alice")
    assert "participants" not in record
    with pytest.raises(AgentNotFoundError):
        await sdk.meeting.list_meetings("dave")


UNKNOWN: dict[str, Any] = {"UUID": uuid4(), "text": str(uuid4()), "capitals": str(uuid4()).upper()}
NONSENSE: dict[str, Any] = {"word": "nonsense", "empty": "", "None": None, "number": 7, "hex": uuid4().hex}
CALLS: dict[str, Any] = {
    "attend_meeting": lambda sdk, id: sdk.meeting.attend_meeting("alice", id),
    "attend_meeting, waiting": lambda sdk, id: sdk.meeting.attend_meeting("alice", id, 1),
    "wait_until_ready": lambda sdk, id: sdk.meeting.wait_until_ready(id),
    "start_meeting": lambda sdk, id: sdk.meeting.start_meeting("alice", id),
    "start_meeting, opening": lambda sdk, id: sdk.meeting.start_meeting("alice", id, "welcome"),
    "wait_for_turn": lambda sdk, id: sdk.meeting.wait_for_turn("alice", id),
    "speak": lambda sdk, id: sdk.meeting.speak("alice", id, "…"),
    "speak under a key": lambda sdk, id: sdk.meeting.speak("alice", id, "…", idempotency_key="k"),
    "pass_turn": lambda sdk, id: sdk.meeting.pass_turn("alice", id),
    "skip_turn": lambda sdk, id: sdk.meeting.skip_turn("alice", id),
    "skip_turn, named": lambda sdk, id: sdk.meeting.skip_turn("alice", id, turn=1),
    "remove_participant": lambda sdk, id: sdk.meeting.remove_participant("alice", id, "bob"),
    "end_meeting": lambda sdk, id: sdk.meeting.end_meeting("alice", id),
    "leave_meeting": lambda sdk, id: sdk.meeting.leave_meeting("alice", id),
    "update_participant_status": lambda sdk, id: sdk.meeting.update_participant_status(id, "alice", "attending"),
    "get_participants": lambda sdk, id: sdk.meeting.get_participants(id),
    "get_meeting_history": lambda sdk, id: sdk.meeting.get_meeting_history(id),
    "get_meeting_details": lambda sdk, id: sdk.meeting.get_meeting_details(id),
    "get_participant_history": lambda sdk, id: sdk.meeting.get_participant_history(id),
    "get_participation_analysis": lambda sdk, id: sdk.meeting.get_participation_analysis(id),
    "get_meeting_timeline": lambda sdk, id: sdk.meeting.get_meeting_timeline(id),
    "get_turn_statistics": lambda sdk, id: sdk.meeting.get_turn_statistics(id),
    "emit_event": lambda sdk, id: sdk._event_handler.emit_event(id, "turn_changed", {}),
    "emit_error_occurred": lambda sdk, id: sdk._event_handler.emit_error_occurred(id, "kind", "text"),
}
NONE_FOR_UNKNOWN: dict[str, Any] = {
    "get_meeting": lambda sdk, id: sdk.meeting.get_meeting(id),
    "get_meeting_status": lambda sdk, id: sdk.meeting.get_meeting_status(id),
}


async def test_an_unknown_meeting_is_said_to_be_unknown_by_every_call(sdk: Sdk) -> None:
    for id in UNKNOWN.values():
        for name, call in CALLS.items():
            with pytest.raises(MeetingNotFoundError, match="No meeting has the id") as caught:
                await call(sdk, id)
            assert caught.value.meeting_id == str(id).lower(), name
        for call in NONE_FOR_UNKNOWN.values():
            assert await call(sdk, id) is None


async def test_what_is_no_id_at_all_is_refused_by_every_call(sdk: Sdk) -> None:
    calls = CALLS | NONE_FOR_UNKNOWN | {"choose_speakers": lambda sdk, id: sdk.meeting.choose_speakers(id, len)}
    for nonsense, id in NONSENSE.items():
        for name, call in calls.items():
            with pytest.raises(InvalidArgumentError) as caught:
                await call(sdk, id)
            assert caught.value.field == "meeting_id", (name, nonsense)


async def test_meetings_need_a_started_sdk(url: str) -> None:
    with pytest.raises(NotInitializedError):
        await Sdk(url).meeting.create_meeting("alice")


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_turn_is_found_whose_speech_before_was_answered_late(
    sdk: Sdk, make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The next one speaks, and this process hears of it, before the store's answer to the speech before has come."""
    other = sdk if where == "here" else await make_sdk()
    table = await Table.open(sdk, "bob")
    await table.wait("alice")
    meetings = sdk.meeting.engine.meetings
    answering, act = asyncio.Event(), meetings.meetings.act

    async def answer_late(*arguments: Any, **options: Any) -> Any:
        outcome = await act(*arguments, **options)
        await answering.wait()
        return outcome

    monkeypatch.setattr(meetings.meetings, "act", answer_late)
    speaking = asyncio.create_task(table.speak("alice", "one"))
    await table.at(other).wait("bob")
    monkeypatch.setattr(meetings.meetings, "act", act)
    looks = meetings.lately.looks
    await table.at(other).speak("bob", "two")
    await eventually(lambda: meetings.lately.looks > looks)
    answering.set()
    await speaking
    monkeypatch.setattr(meetings, "look", lambda: None)  # no poll finds it later
    assert [message.content for message in (await table.wait("alice")).messages] == ["two"]
