"""A meeting in one call, created, attended, started and waited for; and turn handlers that attend by themselves."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from agent_messaging import (
    AgentNotFoundError,
    HandlerContext,
    InvalidArgumentError,
    Invitation,
    MeetingEnd,
    MeetingNotFoundError,
    MeetingStatus,
    MeetingTimeoutError,
    MessageContext,
    NotInitializedError,
    Record,
    Transcript,
    has_handler,
    register_meeting_handler,
)
from tests.client.meeting_support import Table
from tests.client.support import SOON, MakeSdk, Sdk
from tests.support import eventually


async def say_name(message: Any, context: MessageContext) -> str:
    """A turn handler that says who it is."""
    assert context.turn is not None
    return f"{context.receiver_id} {len(context.turn.messages)}"


async def say_nothing(message: Any, context: MessageContext) -> None:
    """A turn handler that passes."""


async def hang(message: Any, context: MessageContext) -> None:
    """A turn handler that never ends."""
    await asyncio.Event().wait()


def said(transcript: Transcript) -> list[tuple[str, Any]]:
    return [(message.sender, message.content) for message in transcript.messages]


async def hold_open(sdk: Sdk, *participants: str) -> tuple[asyncio.Future[Transcript], Table]:
    """A meeting that is held, in the turn of its first participant."""
    holding = asyncio.ensure_future(sdk.meeting.hold("alice", participants, "welcome", max_turns=3, timeout=SOON))
    table = await only_meeting(sdk)
    await table.until_turn(2)
    return holding, table


async def only_meeting(sdk: Sdk) -> Table:
    """The one meeting of the store."""
    [status] = await eventually(sdk.meeting.list_meetings, SOON, until=lambda found: len(found) == 1)
    return Table(sdk, status.meeting_id, [])


# --- holding ----------------------------------------------------------------------------------------------------------


async def test_a_meeting_is_held_in_one_call(sdk: Sdk) -> None:
    for name in ("bob", "carol"):
        sdk.register_meeting_handler(name)(say_name)
    transcript = await sdk.meeting.hold("alice", ["bob", "carol"], "welcome", max_turns=5, timeout=SOON)
    assert said(transcript) == [
        ("alice", "welcome"),
        ("bob", "bob 1"),
        ("carol", "carol 2"),
        ("bob", "bob 1"),
        ("carol", "carol 1"),
    ]
    assert (transcript.reason, transcript.turns) == (MeetingEnd.MAX_TURNS, 5)
    assert 0 < transcript.duration < SOON
    assert [note.content["type"] for note in transcript.notes] == [
        "participant_joined",
        "participant_joined",
        "meeting_ended",
    ]
    status = await Table(sdk, transcript.meeting_id, []).status()
    assert (status.status, status.host_speaks) == ("ended", False)


async def test_a_host_with_a_handler_speaks_in_its_turn(sdk: Sdk) -> None:
    for name in ("alice", "bob"):
        sdk.register_meeting_handler(name)(say_name)
    transcript = await sdk.meeting.hold("alice", ["bob"], max_turns=3, timeout=SOON)
    assert [who for who, _ in said(transcript)] == ["alice", "bob", "alice"]
    transcript = await sdk.meeting.hold("alice", ["bob"], max_turns=3, host_speaks=False, timeout=SOON)
    assert [who for who, _ in said(transcript)] == ["bob", "bob", "bob"]


async def test_a_stop_word_ends_it(sdk: Sdk) -> None:
    @sdk.register_meeting_handler("bob")
    async def on_turn(message: Any, context: MessageContext) -> dict[str, str]:
        return {"text": "TERMINATE" if message["text"] == "third" else "go on"}

    @sdk.register_meeting_handler("carol")
    async def on_other_turn(message: Any, context: MessageContext) -> dict[str, str]:
        return {"text": "third"}

    def is_over(so_far: Record) -> bool:
        return bool(so_far.last_message.content["text"] == "TERMINATE")

    transcript = await sdk.meeting.hold("alice", ["bob", "carol"], {"text": "first"}, end_when=is_over, timeout=SOON)
    assert [content["text"] for _, content in said(transcript)] == ["first", "go on", "third", "TERMINATE"]
    assert transcript.reason is MeetingEnd.END_WHEN


async def test_a_selection_that_names_nobody_ends_it(sdk: Sdk) -> None:
    sdk.register_meeting_handler("bob")(say_name)

    def choose(so_far: Record) -> str | None:
        return "bob" if len(so_far.messages) < 3 else None

    transcript = await sdk.meeting.hold("alice", ["bob"], "one", speaker_selection=choose, timeout=SOON)
    assert (len(transcript.messages), transcript.reason) == (3, MeetingEnd.NOBODY)


async def test_participants_in_other_processes_attend_by_themselves(make_sdk: MakeSdk) -> None:
    host, other, third = await make_sdk(), await make_sdk(), await make_sdk()
    await host.add_people("alice", "bob", "carol")
    other.register_meeting_handler("bob", attend=True)(say_name)
    third.register_meeting_handler("carol", attend=True)(say_name)
    transcript = await host.meeting.hold("alice", ["bob", "carol"], "welcome", max_turns=3, timeout=SOON)
    assert [who for who, _ in said(transcript)] == ["alice", "bob", "carol"]


async def test_agents_that_speak_by_hand_can_take_part(sdk: Sdk) -> None:
    async def take_part() -> None:
        table = await only_meeting(sdk)
        await sdk.meeting.attend_meeting("bob", table.id)
        while await table.wait("bob"):
            await table.speak("bob", "by hand")

    taking_part = asyncio.ensure_future(take_part())
    transcript = await sdk.meeting.hold("alice", ["bob"], "welcome", max_turns=3, timeout=SOON)
    assert said(transcript) == [("alice", "welcome"), ("bob", "by hand"), ("bob", "by hand")]
    await taking_part


async def test_it_runs_many_times_at_once(sdk: Sdk) -> None:
    for name in ("bob", "carol"):
        sdk.register_meeting_handler(name, concurrency=20)(say_name)
    held = await asyncio.gather(
        *(sdk.meeting.hold("alice", ["bob", "carol"], number, max_turns=3, timeout=60) for number in range(100))
    )
    assert [said(transcript)[0] for transcript in held] == [("alice", number) for number in range(100)]
    assert {transcript.turns for transcript in held} == {3}
    assert len({transcript.meeting_id for transcript in held}) == 100
    assert not sdk._started().meetings.endings


# --- what goes wrong --------------------------------------------------------------------------------------------------


async def test_a_meeting_that_nothing_would_end_is_refused(sdk: Sdk) -> None:
    with pytest.raises(InvalidArgumentError, match="Nothing would end this meeting"):
        await sdk.meeting.hold("alice", ["bob"], "welcome")
    assert await sdk.meeting.list_meetings() == []


async def test_an_unknown_participant_is_named(sdk: Sdk) -> None:
    with pytest.raises(AgentNotFoundError, match="bobby"):
        await sdk.meeting.hold("alice", ["bobby"], "welcome", max_turns=3)
    with pytest.raises(AgentNotFoundError, match="alicia"):
        await sdk.meeting.hold("alicia", ["bob"], "welcome", max_turns=3)
    assert await sdk.meeting.list_meetings() == []


async def test_who_does_not_attend_is_named_and_the_meeting_ends(sdk: Sdk) -> None:
    sdk.register_meeting_handler("bob")(say_name)
    begin = time.monotonic()
    with pytest.raises(MeetingTimeoutError) as refused:
        await sdk.meeting.hold("alice", ["bob", "carol"], "welcome", max_turns=3, attend_timeout=0.2)
    assert time.monotonic() - begin < SOON
    assert "'carol' had not attended" in str(refused.value)
    assert "No live process has a handler for 'carol'" in str(refused.value)
    assert "'bob'" not in str(refused.value)
    table = await only_meeting(sdk)
    assert (await table.status()).end_reason is MeetingEnd.HOST_ENDED


async def test_who_is_served_and_does_not_attend_is_named_too(sdk: Sdk) -> None:
    @sdk.register_handler("carol")
    async def on_message(message: Any, context: MessageContext) -> None:
        """It takes invitations, and does not attend."""

    with pytest.raises(MeetingTimeoutError) as refused:
        await sdk.meeting.hold("alice", ["carol"], "welcome", max_turns=3, attend_timeout=0.2)
    assert "'carol' had not attended" in str(refused.value)
    assert "No live process" not in str(refused.value)


async def test_when_its_time_is_over_the_meeting_is_ended(sdk: Sdk) -> None:
    sdk.register_meeting_handler("bob")(hang)
    with pytest.raises(MeetingTimeoutError, match=r"did not end within 0\.3 seconds, so it was ended"):
        await sdk.meeting.hold("alice", ["bob"], "welcome", timeout=0.3)
    table = await only_meeting(sdk)
    assert (await table.status()).end_reason is MeetingEnd.HOST_ENDED
    assert await table.said() == [("alice", "welcome")]


async def test_a_call_that_is_cancelled_ends_its_meeting(sdk: Sdk) -> None:
    sdk.register_meeting_handler("bob")(hang)
    holding, table = await hold_open(sdk, "bob")
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding
    assert (await sdk.meeting.wait_until_ended(table.id, SOON)).reason is MeetingEnd.HOST_ENDED


@pytest.mark.sampled(6)
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8, 13, 21, 34])
async def test_cancelled_anywhere_it_leaves_no_meeting_open(sdk: Sdk, steps: int) -> None:
    sdk.register_meeting_handler("bob")(hang)
    holding = asyncio.ensure_future(sdk.meeting.hold("alice", ["bob"], "welcome", max_turns=3))
    for _ in range(steps):
        await asyncio.sleep(0)
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding
    for status in await sdk.meeting.list_meetings():
        await sdk.meeting.wait_until_ended(status.meeting_id, SOON)


async def test_participants_may_be_removed_meanwhile(sdk: Sdk) -> None:
    sdk.register_meeting_handler("bob")(hang)
    sdk.register_meeting_handler("carol")(say_name)
    holding, _ = await hold_open(sdk, "bob", "carol")
    await sdk.deregister_agent("bob")
    transcript = await holding
    assert said(transcript) == [("alice", "welcome"), ("carol", "carol 1")]
    assert transcript.reason is MeetingEnd.MAX_TURNS


async def test_who_leaves_before_it_is_attended_for_is_left_out(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    await sdk.add_people("alice", "bob", "carol", "dave")
    for name in ("bob", "carol", "dave"):
        sdk.register_meeting_handler(name)(say_name)
    store = sdk.store.meetings
    listing = store.list_seats

    async def list_seats(meeting_id: str) -> Any:
        seats = await listing(meeting_id)
        if any(seat.status == "invited" for seat in seats):
            monkeypatch.undo()
            await sdk.meeting.leave_meeting("carol", meeting_id)
            await sdk.deregister_agent("dave")
        return seats

    monkeypatch.setattr(store, "list_seats", list_seats)
    transcript = await sdk.meeting.hold("alice", ["bob", "carol", "dave"], "welcome", max_turns=3, timeout=SOON)
    assert [sender for sender, _ in said(transcript)] == ["alice", "bob", "bob"]


async def test_when_all_participants_have_left_it_ends(sdk: Sdk) -> None:
    sdk.register_meeting_handler("bob")(hang)
    holding, table = await hold_open(sdk, "bob")
    await sdk.meeting.leave_meeting("bob", table.id)
    assert (await holding).reason is MeetingEnd.NOBODY


async def test_when_the_host_is_removed_the_call_says_so(sdk: Sdk) -> None:
    sdk.register_meeting_handler("bob")(hang)
    holding, _ = await hold_open(sdk, "bob")
    await sdk.deregister_agent("alice")
    with pytest.raises(MeetingNotFoundError):
        await holding


async def test_when_the_sdk_is_closed_the_meeting_goes_on_to_its_bound(make_sdk: MakeSdk) -> None:
    other, sdk = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    sdk.register_meeting_handler("bob")(hang)
    holding, table = await hold_open(sdk, "bob")
    await sdk.close()
    with pytest.raises(NotInitializedError):
        await holding
    other.register_meeting_handler("bob")(say_name)
    transcript = await other.meeting.wait_until_ended(table.id, SOON)
    assert (transcript.reason, len(transcript.messages)) == (MeetingEnd.MAX_TURNS, 3)


async def test_a_host_that_ends_it_by_hand_ends_the_call(sdk: Sdk) -> None:
    sdk.register_meeting_handler("bob")(hang)
    holding, table = await hold_open(sdk, "bob")
    await sdk.meeting.end_meeting("alice", table.id)
    assert (await holding).reason is MeetingEnd.HOST_ENDED


async def test_a_host_that_ends_it_just_before_its_start_ends_the_call(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk.register_meeting_handler("bob")(say_name)
    wait_until_ready = sdk.meeting.wait_until_ready

    async def wait_and_end(meeting_id: Any, timeout: float | None = None) -> MeetingStatus:
        status = await wait_until_ready(meeting_id, timeout)
        await sdk.meeting.end_meeting("alice", meeting_id)
        return status

    monkeypatch.setattr(sdk.meeting, "wait_until_ready", wait_and_end)
    transcript = await sdk.meeting.hold("alice", ["bob"], "welcome", max_turns=3, timeout=SOON)
    assert (transcript.reason, transcript.messages) == (MeetingEnd.HOST_ENDED, ())


# --- attending by itself ----------------------------------------------------------------------------------------------


async def test_a_turn_handler_may_attend_every_meeting(sdk: Sdk) -> None:
    sdk.register_meeting_handler("bob", attend=True)(say_name)
    table = await Table.invite(sdk, "bob")
    assert await sdk.meeting.wait_until_ready(table.id, SOON) == "ready"


async def test_one_that_came_before_its_handler_is_attended_too(sdk: Sdk) -> None:
    table = await Table.invite(sdk, "bob")
    sdk.register_meeting_handler("bob", attend=True)(say_name)
    assert await sdk.meeting.wait_until_ready(table.id, SOON) == "ready"


@pytest.mark.parametrize("order", ["first", "last"])
async def test_a_handler_of_invitations_still_gets_them(sdk: Sdk, order: str) -> None:
    invited: list[Invitation] = []

    async def on_invitation(message: Invitation, context: MessageContext) -> None:
        invited.append(message)

    if order == "first":
        sdk.register_handler("bob")(on_invitation)
    register_meeting_handler(agent="bob", attend=True)(say_name)
    if order == "last":
        sdk.register_handler("bob")(on_invitation)
    table = await Table.invite(sdk, "bob", max_turns=7, max_duration=60)
    assert await sdk.meeting.wait_until_ready(table.id, SOON) == "ready"
    [invitation] = await eventually(lambda: invited, SOON)
    assert (invitation.meeting_id, invitation.host, invitation.participants) == (table.id, "alice", ["alice", "bob"])
    assert (invitation.max_turns, invitation.max_duration) == (7, 60.0)


async def test_a_handler_of_other_messages_is_passed_over_without_a_warning(
    sdk: Sdk, caplog: pytest.LogCaptureFixture
) -> None:
    class Note(dict[str, Any]):
        pass

    @sdk.register_handler("bob")
    async def on_message(message: int, context: MessageContext) -> None:
        raise AssertionError("this is none of its messages")

    sdk.register_meeting_handler("bob", attend=True)(say_name)
    with caplog.at_level(logging.WARNING):
        table = await Table.invite(sdk, "bob")
        assert await sdk.meeting.wait_until_ready(table.id, SOON) == "ready"
    assert caplog.records == []


async def test_a_bare_handler_attends_for_all_its_agents(sdk: Sdk) -> None:
    assert not has_handler(HandlerContext.INVITATION)
    register_meeting_handler(attend=True)(say_name)
    transcript = await sdk.meeting.hold("alice", ["bob", "carol"], "welcome", max_turns=3, timeout=SOON)
    assert [who for who, _ in said(transcript)] == ["alice", "bob", "carol"]


async def test_without_it_nobody_attends(sdk: Sdk) -> None:
    sdk.register_meeting_handler("bob")(say_name)
    table = await Table.invite(sdk, "bob")
    with pytest.raises(MeetingTimeoutError, match="'bob' had not attended"):
        await sdk.meeting.wait_until_ready(table.id, 0.2)


async def test_too_late_to_attend_is_no_failure(sdk: Sdk, caplog: pytest.LogCaptureFixture) -> None:
    table = await Table.invite(sdk, "bob", "carol")
    await table.end()
    with caplog.at_level(logging.WARNING):
        sdk.register_meeting_handler("bob", attend=True)(say_name)
        other = await Table.invite(sdk, "bob")
        assert await sdk.meeting.wait_until_ready(other.id, SOON) == "ready"
    assert caplog.records == []


async def test_what_is_no_flag_is_refused(sdk: Sdk) -> None:
    with pytest.raises(InvalidArgumentError, match="attend"):
        sdk.register_meeting_handler("bob", attend="yes")(say_nothing)  # type: ignore[arg-type]
