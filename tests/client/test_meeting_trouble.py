"""What meetings withstand: silence, races, removals, crowds, and calls that are cut off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from agent_messaging import (
    AgentNotFoundError,
    AgentNotInMeetingError,
    MeetingError,
    MeetingEventType,
    MeetingNotActiveError,
    MeetingNotFoundError,
    NotInitializedError,
    NotYourTurnError,
    TurnLostError,
)
from agent_messaging.storage import lifesign
from agent_messaging.storage.ports import TimedOut
from agent_messaging.storage.sqlite.presence import SQLitePresence
from tests.client.meeting_support import Table, Watcher
from tests.client.support import SOON, Inbox, MakeSdk, Sdk
from tests.support import eventually


def check_course(course: list[tuple[int, str, str | None]], said: list[tuple[str, Any]]) -> None:
    """Turn numbers rise by one, each but the last has ended once, and each speech belongs to one turn."""
    assert [number for number, _, _ in course] == list(range(1, len(course) + 1))
    assert all(how is not None for _, _, how in course[:-1])
    assert [who for _, who, how in course if how == "spoke"] == [who for who, _ in said]


# --- time -------------------------------------------------------------------------------------------------------------


async def test_a_silent_speaker_is_timed_out_once_and_the_next_has_the_turn(sdk: Sdk) -> None:
    watcher = Watcher().watch(sdk, MeetingEventType.TIMEOUT_OCCURRED)
    table = await Table.open(sdk, "bob", turn_duration=0.4)
    turn = await table.wait("alice")
    bob = await table.wait("bob")
    assert bob.number == 2
    with pytest.raises(TurnLostError, match="turn 2 is current"):
        await table.speak("alice", turn=turn)
    await table.speak("bob", "in time")
    await table.end()
    assert (await table.course())[:2] == [(1, "alice", "timed_out"), (2, "bob", "spoke")]
    [note, *_] = [one for one in await table.history() if one.message_type == "timeout"]
    assert (note.sender, note.content) == (
        "alice",
        {"type": "timeout", "timed_out_agent": "alice", "next_speaker": "bob", "message": "The turn ended by time."},
    )
    fired = await watcher.wait_for(MeetingEventType.TIMEOUT_OCCURRED)
    assert [event.data.turn for event in fired if event.data.turn == 1] == [1]


async def test_two_sdk_objects_fire_the_same_timeouts_once_each(make_sdk: MakeSdk) -> None:
    sdks = [await make_sdk() for _ in range(3)]
    await sdks[0].add_people("alice", "bob")
    watcher = Watcher().watch(sdks[1], MeetingEventType.TIMEOUT_OCCURRED)
    await sdks[1]._started().events.ready()
    table = await Table.open(sdks[0], "bob", turn_duration=0.05)
    fired = await watcher.wait_for(MeetingEventType.TIMEOUT_OCCURRED, 12)
    await table.end()
    numbers = [event.data.turn for event in fired]
    assert numbers == list(range(1, len(numbers) + 1))
    course = await table.course()
    check_course(course, [])
    assert [how for _, _, how in course[:-1]] == ["timed_out"] * (len(course) - 1)
    assert course[-1][2] == "meeting_ended"
    notes = [note for note in await table.notes() if note["type"] == "timeout"]
    assert len(notes) == len(course) - 1


async def test_a_turn_that_somebody_holds_up_at_its_end_does_not_wait_for_a_poll(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process was about to end it, and died or froze with the lock."""
    monkeypatch.setattr(SQLitePresence, "poll_interval", 10 * SOON)
    monkeypatch.setattr(lifesign, "POLL", 10 * SOON)
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    meetings = sdk.store.meetings
    end = meetings.time_out
    held_up = 0

    async def time_out(limit: int, **options: Any) -> TimedOut:
        nonlocal held_up
        status = await table.status()
        if status.turn == 2 and status.seconds_left == 0 and not held_up:
            held_up += 1
            return TimedOut({}, 0.0)
        return await end(limit, **options)

    table = await Table.open(sdk, "bob", turn_duration=0.2)
    monkeypatch.setattr(meetings, "time_out", time_out)
    await table.until_turn(3)
    assert held_up


async def test_removing_the_speakers_agent_elsewhere_hands_the_turn_on_without_a_poll(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SQLitePresence, "poll_interval", 10 * SOON)
    monkeypatch.setattr(lifesign, "POLL", 10 * SOON)
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    table = await Table.open(sdk, "carol", "bob")
    await table.speak("alice", next_speaker_external_id="carol")
    waiting = asyncio.create_task(table.wait("bob", SOON))
    await eventually(lambda: len(sdk._started().meetings.waiters), SOON, until=lambda count: count == 1)
    assert await other.deregister_agent("carol")
    assert (await waiting).number == 3


async def test_many_turns_that_end_together_do_not_wait_for_a_poll(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than one call to the store ends at once, and some that become due while it does."""
    sdk = await make_sdk()
    await sdk.add_people("alice")
    engine = sdk._started()
    monkeypatch.setattr(engine.store.presence, "poll_interval", 60.0)
    pauses: list[float] = []
    look_in = engine.timer.look_in

    def note(seconds: float) -> None:
        pauses.append(seconds)
        look_in(seconds)

    monkeypatch.setattr(engine.timer, "look_in", note)
    tables = await asyncio.gather(*(Table.open(sdk, turn_duration=1.0) for _ in range(150)))
    for table in tables:
        await table.until_turn(2)
        assert (await table.course())[0] == (1, "alice", "timed_out")
    assert 60.0 not in pauses


async def test_a_turn_that_comes_round_to_the_same_speaker_is_another_turn(make_sdk: MakeSdk) -> None:
    """Neither the old turn's deadline nor an act meant for it touches the new one."""
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice")
    table = await Table.open(sdk, turn_duration=1.0)
    old = await table.at(other).wait("alice")
    await asyncio.sleep(0)
    await table.speak("alice", "one", next_speaker_external_id="alice")
    status = await table.status()
    assert old.deadline is not None
    assert (status.turn, status.current_speaker) == (2, "alice")
    assert status.turn_deadline > old.deadline
    with pytest.raises(TurnLostError):
        await table.at(other).speak("alice", "for turn 1")
    await table.until_turn(3)  # by time
    course = (await sdk.meeting.get_turn_statistics(table.id)).turns
    assert course[1].ended_at >= status.turn_deadline, "the second turn had its whole time"
    await table.end()
    assert await table.said() == [("alice", "one")]


async def test_without_turn_timeouts_a_turn_lasts_until_somebody_ends_it(make_sdk: MakeSdk) -> None:
    sdk, timed = await make_sdk(enable_turn_timeout=False), await make_sdk()
    await sdk.add_people("alice", "bob")
    endless = await Table.open(sdk, "bob", turn_duration=0.05)
    other = await Table.open(timed, "bob", turn_duration=0.05)
    await other.until_turn(4)  # time goes by, and the other process fires what is due
    assert await endless.holder() == (1, "alice")
    await endless.speak("alice", "at last")
    await sdk.meeting.leave_meeting("bob", endless.id)
    assert await endless.holder() == (3, "alice")
    await other.end()


# --- races ------------------------------------------------------------------------------------------------------------


async def test_speaking_leaving_ending_and_timing_out_in_the_same_instant(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    for round_ in range(12):
        table = await Table.open(sdk, "bob", "carol", turn_duration=0.15)
        await table.speak("alice", "one")
        turn = await table.wait("bob")
        if round_ % 3 == 0:  # at the deadline itself
            await asyncio.sleep(max(0.0, (await table.status()).seconds_left - 0.005))
        acts: list[Awaitable[Any]] = [
            table.speak("bob", "two", turn=turn),
            table.at(other).speak("bob", "two again", turn=turn),
            other.meeting.pass_turn("bob", table.id, turn=turn),
            sdk.meeting.leave_meeting("bob", table.id),
            other.meeting.skip_turn("alice", table.id, turn=2),
            other.meeting.remove_participant("alice", table.id, "bob"),
        ]
        if round_ % 2:
            acts.append(other.meeting.end_meeting("alice", table.id))
        acts = acts[round_ % len(acts) :] + acts[: round_ % len(acts)]
        outcomes = await asyncio.gather(*acts, return_exceptions=True)
        assert all(not isinstance(one, BaseException) or isinstance(one, MeetingError) for one in outcomes), outcomes
        course, said = await table.course(), await table.said()
        check_course(course, said)
        assert len([one for one in course if one[0] == 2]) == 1
        assert len(said) <= 2
        assert sum(isinstance(one, UUID) for one in outcomes) == len(said) - 1
        seats = await table.seats()
        ended = (await table.status()).status == "ended"
        assert seats["bob"] == "left" or ended
        if not ended:
            await table.end()


async def test_of_many_who_speak_at_once_in_one_turn_one_is_heard(make_sdk: MakeSdk) -> None:
    sdks = [await make_sdk() for _ in range(3)]
    await sdks[0].add_people("alice", "bob")
    table = await Table.open(sdks[0], "bob")
    for number, name in enumerate(["alice", "bob", "alice", "bob"], 1):
        outcomes = await asyncio.gather(
            *(table.at(sdk).speak(name, f"{number}/{copy}", turn=number) for sdk in sdks for copy in range(5)),
            return_exceptions=True,
        )
        assert sum(isinstance(one, UUID) for one in outcomes) == 1
        assert sum(isinstance(one, TurnLostError) for one in outcomes) == 14
    check_course(await table.course(), await table.said())


async def test_of_many_starts_and_ends_one_counts(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    watcher = Watcher().watch(sdk)
    table = await Table.gather(sdk, "bob")
    starts = await asyncio.gather(
        *(one.meeting.start_meeting("alice", table.id, "welcome") for one in (sdk, other) * 3), return_exceptions=True
    )
    assert sum(one is None for one in starts) == 1
    ends = await asyncio.gather(
        *(one.meeting.end_meeting("alice", table.id) for one in (sdk, other) * 3), return_exceptions=True
    )
    assert sum(one is None for one in ends) == 1
    assert all(one is None or isinstance(one, MeetingNotActiveError) for one in ends)
    await watcher.wait_for(MeetingEventType.MEETING_ENDED)
    assert watcher.types().count("meeting_started") == watcher.types().count("meeting_ended") == 1
    assert await table.said() == [("alice", "welcome")]


# --- removals ---------------------------------------------------------------------------------------------------------


async def test_the_turn_of_a_speaker_whose_agent_is_deregistered_goes_to_the_next(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    table = await Table.open(sdk, "bob", "carol")
    await table.speak("alice", "one")
    await table.speak("bob", "two")
    await table.speak("carol", "three")
    await table.speak("alice", "four")
    assert await table.holder() == (5, "bob")
    bob = asyncio.create_task(table.wait("bob"))
    await bob
    bob = asyncio.create_task(table.speak("bob", "never", next_speaker_external_id="bob", turn=99))
    with pytest.raises(TurnLostError):
        await bob
    await sdk.close()  # the names that it remembers do not count
    await sdk.initialize()
    watcher = Watcher().watch(sdk, MeetingEventType.PARTICIPANT_LEFT, MeetingEventType.TURN_CHANGED)
    await sdk._started().events.ready()
    carol = asyncio.create_task(table.wait("carol"))
    await eventually(lambda: len(sdk._started().meetings.waiters), SOON)
    gone = (await other.get_agent("bob")).id
    assert await other.deregister_agent("bob") is True
    assert (await carol).number == 6
    assert await table.seats() == {"alice": "waiting", "carol": "speaking"}
    assert (await table.notes())[-1] == {"type": "participant_left", "agent": "bob", "how": "deregistered"}
    assert [who for who, _ in await table.said()] == ["alice", "carol", "alice"], "what it said went with it"
    [left] = await watcher.wait_for(MeetingEventType.PARTICIPANT_LEFT)
    assert (left.agent_external_id, left.data.agent_external_id) == ("bob", "bob")
    assert (left.data.agent_id, left.data.how) == (gone, "deregistered")
    [changed] = await watcher.wait_for(MeetingEventType.TURN_CHANGED)
    assert (changed.data.previous_speaker_external_id, changed.data.current_speaker_external_id) == ("bob", "carol")
    await table.speak("carol", "six")
    assert await table.holder() == (7, "alice")
    with pytest.raises((AgentNotFoundError, AgentNotInMeetingError)):
        await table.speak("bob", "from beyond")


async def test_who_waits_for_a_turn_is_told_that_its_agent_was_deregistered(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob")
    waiting = asyncio.create_task(table.wait("bob"))
    await eventually(lambda: len(sdk._started().meetings.waiters), SOON)
    await sdk.deregister_agent("bob")
    with pytest.raises(AgentNotFoundError, match="'bob'"):
        await waiting


async def test_the_meetings_of_a_host_whose_agent_is_deregistered_go_with_it(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    hosted = await Table.open(sdk, "bob")
    invited = await Table.invite(sdk, "bob")
    attended = await Table.open(sdk, "alice", "carol", host="bob")
    waiting = [asyncio.create_task(hosted.wait("bob")), asyncio.create_task(hosted.at(other).wait("bob"))]
    ready = asyncio.create_task(sdk.meeting.wait_until_ready(invited.id))
    await eventually(lambda: len(other._started().meetings.waiters), SOON)
    await sdk.deregister_agent("alice")
    for one in (*waiting, ready):
        with pytest.raises(MeetingNotFoundError, match="a meeting is removed with its host's agent"):
            await one
    assert await sdk.meeting.get_meeting(hosted.id) is None
    assert [one.meeting_id for one in await sdk.meeting.list_meetings()] == [attended.id]
    assert await attended.seats() == {"bob": "speaking", "carol": "waiting"}
    with pytest.raises(MeetingNotFoundError):
        await hosted.speak("bob")


async def test_deregistering_the_organization_ends_it_too(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    await sdk.add_people("dave", organization="guests")
    table = await Table.open(sdk, "bob", "dave")
    await sdk.deregister_organization("guests")
    assert list(await table.seats()) == ["alice", "bob"]
    await sdk.deregister_organization("acme")
    assert await sdk.meeting.list_meetings() == []


async def test_when_the_last_participants_leave_the_host_goes_on_alone(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob", "carol")
    await table.speak("alice", "one")
    await asyncio.gather(*(sdk.meeting.leave_meeting(name, table.id) for name in ("bob", "carol")))
    assert (await table.status()).status == "active"
    number, holder = await table.holder()
    assert holder == "alice"
    assert number in (3, 4)
    await table.speak("alice", "to myself")
    assert await table.holder() == (number + 1, "alice")
    await table.end()
    check_course(await table.course(), await table.said())


# --- crowds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 60])
async def test_meetings_of_few_and_of_many(make_sdk: MakeSdk, size: int) -> None:
    sdk = await make_sdk()
    people = [f"agent-{number:02d}" for number in range(size)]
    await sdk.add_people(*people)
    host, *others = people
    table = await Table.invite(sdk, *others, host=host)
    await asyncio.gather(*(sdk.meeting.attend_meeting(other, table.id) for other in others))
    await sdk.meeting.start_meeting(host, table.id)

    async def take_part(name: str) -> int:
        turns = 0
        while turn := await table.wait(name, 60):
            if turns == 2:
                await sdk.meeting.end_meeting(host, table.id)
                break
            turns += 1
            await table.speak(name, turn.number, turn=turn)
        return turns

    assert await asyncio.gather(*map(take_part, people)) == [2] * size
    assert await table.said() == [(people[number % size], number + 1) for number in range(2 * size)]
    assert (await table.status()).participant_count == size


async def test_more_than_a_hundred_meetings_at_once_with_five_participants_each(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    people = ["alice", "bob", "carol", "dave", "erin"]
    await sdk.add_people(*people)
    for name in people[1:]:
        by = sdk if name in ("bob", "carol") else other

        async def say(message: Any, context: Any) -> Any:
            return [context.receiver_id, context.turn.number]

        by.register_meeting_handler(name, concurrency=50)(say)
    await sdk.wait_until_served(people[1:])

    async def hold() -> None:
        table = await Table.invite(sdk, *people[1:])
        await asyncio.gather(*(sdk.meeting.attend_meeting(name, table.id) for name in people[1:]))
        await sdk.meeting.start_meeting("alice", table.id, ["alice", 1])
        assert (await table.wait("alice", 60)).number == 6
        await table.end()
        assert await table.said() == [(who, [who, number]) for number, who in enumerate(people, 1)]

    await asyncio.gather(*(hold() for _ in range(105)))


# --- closing, and calls that are cut off ------------------------------------------------------------------------------


async def test_closing_releases_who_waits_for_a_turn_and_the_meeting_goes_on(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    table = await Table.open(sdk, "bob", "carol")
    invited = await Table.invite(sdk, "bob")
    waits = [
        table.wait("bob"),
        sdk.meeting.wait_for_turn("carol", table.id),
        table.speak("alice", "one", next_speaker_external_id="alice", wait_for_turn=False),
        sdk.meeting.attend_meeting("bob", invited.id, wait_for_turn=True),
        sdk.meeting.wait_until_ready((await Table.invite(sdk, "bob")).id),
    ]
    tasks = [asyncio.ensure_future(one) for one in waits]
    await eventually(lambda: len(sdk._started().meetings.waiters), SOON, until=lambda count: count == 3)
    await tasks[2]
    await sdk.close()
    for task in (*tasks[:2], *tasks[3:]):
        with pytest.raises(NotInitializedError, match="closed while this waited"):
            await task
    with pytest.raises(NotInitializedError):
        await table.wait("bob")
    assert await table.at(other).holder() == (2, "alice")
    assert (await table.at(other).wait("alice")).number == 2


STEPS = 30
"""Turns of the loop after which a call is cancelled: past its end on both backends."""


async def cut(steps: int, call: Awaitable[Any]) -> Any:
    """Cancel the call after so many turns of the loop; its answer or its error, None if it was cancelled."""
    task = asyncio.ensure_future(call)
    for _ in range(steps):
        await asyncio.sleep(0 if steps < STEPS - 8 else 0.002)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return None
    except MeetingError as error:
        return error


def nothing_waits(sdk: Sdk) -> bool:
    meetings = sdk._started().meetings
    return not len(meetings.waiters) and not len(meetings.readiness)


async def test_a_speech_cancelled_anywhere_has_happened_wholly_or_not_at_all(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob")
    heard = 0
    outcomes = set()
    for steps in range(STEPS):
        sdk._started().names.clear()
        number, name = await table.holder()
        assert name is not None
        answer = await cut(steps, table.speak(name, steps, turn=number))
        outcomes.add(answer is None)
        # Behind it, because acts on one meeting are committed one after the other.
        await sdk.meeting.update_participant_status(table.id, "bob", "attending")
        said = await table.said()
        assert len(said) - heard in (0, 1)
        assert isinstance(answer, UUID) <= (len(said) - heard == 1)
        heard = len(said)
        assert await table.holder() == (1 + heard, "alice" if heard % 2 == 0 else "bob")
    assert outcomes == {True, False}, "both cases happened"
    check_course(await table.course(), await table.said())


async def test_what_a_cancelled_speech_has_changed_is_told_to_who_waits(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be committed although its caller has gone: nobody waits for a poll to hear of it, here or elsewhere."""
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    for one in (sdk, other):
        monkeypatch.setattr(one._started().store.presence, "poll_interval", 60.0)
    table = await Table.open(sdk, "bob")
    for steps in range(STEPS):
        speaker, following = ("alice", "bob") if steps % 2 == 0 else ("bob", "alice")
        at = (sdk, other)[steps // 2 % 2]
        waiting = asyncio.create_task(table.at(at).wait(following))
        await eventually(lambda: len(sdk._started().meetings.waiters) + len(other._started().meetings.waiters))
        if await cut(steps, table.speak(speaker, steps, turn=steps + 1)) is None:
            # Behind it, because acts on one meeting are committed one after the other.
            await sdk.meeting.update_participant_status(table.id, "bob", "attending")
            if await table.holder() == (steps + 1, speaker):
                await table.speak(speaker, steps, turn=steps + 1)
        assert (await waiting).number == steps + 2


async def test_a_speech_cancelled_anywhere_and_repeated_under_its_key_is_stored_once(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob")
    for steps in range(STEPS):
        sdk._started().names.clear()
        name = "alice" if steps % 2 == 0 else "bob"
        answer = await cut(steps, table.speak(name, steps, idempotency_key=f"step-{steps}"))
        id = await table.speak(name, steps, idempotency_key=f"step-{steps}")
        assert answer in (None, id)
        assert await table.holder() == (steps + 2, "bob" if name == "alice" else "alice")
    assert [what for _, what in await table.said()] == list(range(STEPS))


async def test_a_wait_for_a_turn_cancelled_anywhere_takes_nothing_and_leaks_nothing(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob")
    for steps in range(STEPS):
        sdk._started().names.clear()
        number, name = await table.holder()
        assert name is not None
        other = "bob" if name == "alice" else "alice"
        await asyncio.gather(
            cut(steps, table.wait(other)),
            cut(steps, table.wait(name)),
            cut(steps, sdk.meeting.wait_until_ready(table.id)),
        )
        assert nothing_waits(sdk)
        assert await table.holder() == (number, name), "a turn that was shown to nobody is still there"
        assert (await table.wait(name)).number == number
        await table.speak(name, steps)
    assert len(await table.said()) == STEPS


async def test_an_attendance_cancelled_anywhere_stands_or_not(sdk: Sdk) -> None:
    seen = set()
    for steps in range(STEPS):
        sdk._started().names.clear()
        table = await Table.invite(sdk, "bob")
        wait = bool(steps % 2)
        answer = await cut(steps, sdk.meeting.attend_meeting("bob", table.id, wait_for_turn=wait))
        assert answer in (None, True)
        await sdk.meeting.update_participant_status(table.id, "alice", "attending")
        seats = await table.seats()
        seen.add(seats["bob"])
        assert answer is None or seats["bob"] == "attending"
        joined = [note for note in await table.notes() if note["type"] == "participant_joined"]
        assert len(joined) == (seats["bob"] == "attending")
        assert (await table.status()).status == ("ready" if joined else "created")
        assert nothing_waits(sdk)
        await sdk.meeting.attend_meeting("bob", table.id)
        assert len([note for note in await table.notes() if note["type"] == "participant_joined"]) == 1
    assert seen == {"invited", "attending"}, "both cases happened"


async def test_cancelled_acts_of_every_kind_leave_a_meeting_in_order(sdk: Sdk) -> None:
    calls: list[Callable[[Table], Awaitable[Any]]] = [
        lambda table: sdk.meeting.start_meeting("alice", table.id, "welcome"),
        lambda table: table.speak("bob", "hi", timeout=5),
        lambda table: sdk.meeting.pass_turn("bob", table.id),
        lambda table: sdk.meeting.skip_turn("alice", table.id),
        lambda table: sdk.meeting.remove_participant("alice", table.id, "bob"),
        lambda table: sdk.meeting.leave_meeting("carol", table.id),
        lambda table: sdk.meeting.end_meeting("alice", table.id),
    ]
    for steps in (0, 1, 2, 3, 5, 8, 13, 21):
        table = await Table.gather(sdk, "bob", "carol")
        for call in calls:
            outcome = await cut(steps, call(table))
            assert outcome is None or isinstance(outcome, UUID | MeetingError)
        await sdk.meeting.list_meetings()
        with contextlib.suppress(MeetingNotActiveError):
            await table.end()
        check_course(await table.course(), await table.said())
        events = [
            one.event_type for one in (await sdk.meeting.get_meeting_timeline(table.id)).timeline if one.type == "event"
        ]
        assert events.count("meeting_ended") == 1
        assert events.count("meeting_started") == min(1, len(await table.course()))
    assert nothing_waits(sdk)
    await sdk.meeting.create_meeting("alice", ["bob"])


async def test_a_meeting_whose_creation_is_cancelled_is_there_with_its_invitations_or_not_at_all(sdk: Sdk) -> None:
    for steps in range(0, STEPS, 3):
        sdk._started().names.clear()
        await cut(steps, sdk.meeting.create_meeting("alice", ["bob", "carol"]))
    await sdk.meeting.create_meeting("alice", ["bob", "carol"])
    found = [one.meeting_id for one in await sdk.meeting.list_meetings()]
    for id in found:
        assert len(await sdk.meeting.get_participants(id)) == 3
    sdk.register_handler("bob")(inbox := Inbox())
    await inbox.wait_for(len(found))
    assert sorted(one["meeting_id"] for one in inbox.messages) == sorted(map(str, found))


async def test_a_speech_into_a_turn_that_is_not_ones_own_stays_refused_after_a_cancelled_wait(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob")
    waiting = asyncio.create_task(table.wait("bob"))
    await eventually(lambda: len(sdk._started().meetings.waiters), SOON)
    waiting.cancel()
    await asyncio.wait({waiting})
    with pytest.raises(NotYourTurnError):
        await table.speak("bob")
    await table.speak("alice")
    await table.speak("bob", "not bound to a turn that was never shown")
