"""Who has the next turn where the speaker names nobody: the order, the host, or a function of the host's process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from agent_messaging import InvalidArgumentError, Record
from agent_messaging.storage import lifesign
from agent_messaging.storage.assembly import rules
from agent_messaging.storage.sqlite.presence import SQLitePresence
from tests.client.meeting_support import Table
from tests.client.support import SOON, MakeSdk, Sdk
from tests.support import eventually

# --- the host ---------------------------------------------------------------------------------------------------------


async def test_the_host_names_each_speaker_and_has_the_turn_after_it(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob", "carol", speaker_selection="host")
    assert (await table.status()).speaker_selection == "host"
    with pytest.raises(InvalidArgumentError, match=r"next_speaker_external_id: in this meeting the host names"):
        await table.speak("alice", "one")
    assert await table.said() == []
    await table.speak("alice", "one", next_speaker_external_id="carol")
    await table.speak("carol", "two")
    assert await table.holder() == (3, "alice")
    await table.speak("alice", "three", next_speaker_external_id="bob")
    await table.speak("bob", "four", next_speaker_external_id="carol")
    assert await table.holder() == (5, "carol"), "who has the turn may name the next one too"
    await sdk.meeting.pass_turn("carol", table.id)
    assert await table.holder() == (6, "alice")


async def test_a_meeting_whose_host_names_the_speakers_needs_one_behind_the_opening(sdk: Sdk) -> None:
    table = await Table.gather(sdk, "bob", speaker_selection="host")
    with pytest.raises(InvalidArgumentError, match="next_speaker_external_id"):
        await sdk.meeting.start_meeting("alice", table.id, "welcome")
    await sdk.meeting.start_meeting("alice", table.id, "welcome", "bob")
    assert await table.holder() == (2, "bob")


async def test_a_silent_host_that_names_the_speakers_does_not_stop_its_meeting(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob", "carol", speaker_selection="host", turn_duration=0.3)
    assert (await table.wait("bob")).number == 2
    await table.speak("bob", "two")
    await sdk.meeting.skip_turn("alice", table.id, turn=3)
    assert await table.holder() == (4, "carol"), "the order goes on behind bob"
    await sdk.meeting.leave_meeting("carol", table.id)
    assert (await table.holder())[1] == "alice"
    await table.end()


async def test_a_silent_host_that_names_the_speakers_gives_all_their_turns(sdk: Sdk) -> None:
    await sdk.register_agent("dave", "acme", "Dave")
    table = await Table.open(sdk, "bob", "carol", "dave", speaker_selection="host", turn_duration=0.2)
    await table.until_turn(9)
    await table.end()
    holders = [who for _, who, _ in await table.course()]
    assert holders[:9] == ["alice", "bob", "alice", "carol", "alice", "dave", "alice", "bob", "alice"]


async def test_a_host_that_takes_part_by_a_handler_gives_the_turn_to_the_next_in_order(sdk: Sdk) -> None:
    async def say(message: Any, context: Any) -> str:
        return f"from {context.receiver_id}"

    for name in ("alice", "bob", "carol"):
        sdk.register_meeting_handler(name)(say)
    table = await Table.open(sdk, "bob", "carol", speaker_selection="host")
    await table.until_turn(6)
    await table.end()
    speakers = ["alice", "bob", "alice", "carol", "alice"]
    assert (await table.said())[:5] == [(name, f"from {name}") for name in speakers]


# --- a function -------------------------------------------------------------------------------------------------------


def in_turn(names: list[str], seen: list[Record]) -> Callable[[Record], str]:
    """A function that names these, one after the other, over and over."""

    def choose(so_far: Record) -> str:
        seen.append(so_far)
        return names[(len(seen) - 1) % len(names)]

    return choose


async def speak_round(table: Table, count: int) -> list[str]:
    """Let whoever is chosen speak, so often; who it was."""
    spoke: list[str] = []
    for _ in range(count):
        status = await eventually(table.status, SOON, until=lambda status: status.current_speaker)
        await table.speak(status.current_speaker, len(spoke), turn=status.turn)
        spoke.append(status.current_speaker)
    return spoke


async def test_a_function_is_given_the_meeting_so_far_and_names_the_next_speaker(sdk: Sdk) -> None:
    seen: list[Record] = []
    table = await Table.open(sdk, "bob", "carol", speaker_selection=in_turn(["carol", "carol", "bob"], seen))
    assert await speak_round(table, 5) == ["alice", "carol", "carol", "bob", "carol"]
    await eventually(lambda: len(seen), SOON, until=lambda count: count == 5)
    first, second = seen[:2]
    assert set(first) == {"meeting_id", "participants", "last_speaker", "last_message", "turn", "messages", "notes"}
    assert (first.meeting_id, first.participants) == (str(table.id), ["alice", "bob", "carol"])
    assert (first.last_speaker, first.turn, [one.content for one in first.messages]) == ("alice", 1, [0])
    assert (second.last_speaker, [one.content for one in second.messages]) == ("carol", [0, 1])
    numbers = [number for number, _, _ in await table.course()]
    assert numbers == sorted(set(numbers)), "choosing takes numbers of its own"


async def test_a_function_may_be_a_coroutine_function(sdk: Sdk) -> None:
    async def choose(so_far: Record) -> str:
        await asyncio.sleep(0)
        return str(so_far.participants[-1])

    table = await Table.open(sdk, "bob", "carol", speaker_selection=choose)
    assert await speak_round(table, 3) == ["alice", "carol", "carol"]


async def test_whoever_is_named_by_the_speaker_goes_before_the_function(sdk: Sdk) -> None:
    table = await Table.open(sdk, "bob", "carol", speaker_selection=lambda so_far: "carol")
    await table.speak("alice", next_speaker_external_id="bob")
    assert await table.holder() == (2, "bob")
    await table.speak("bob")
    assert (await table.wait("carol")).number == 4


def stranger(so_far: Record) -> str:
    return "mallory"


def outsider(so_far: Record) -> str:
    return "dave"


def broken(so_far: Record) -> str:
    raise RuntimeError("no idea")


def number(so_far: Record) -> Any:
    return 7


@pytest.mark.parametrize("function", [stranger, outsider, broken, number])
async def test_a_function_that_fails_or_names_a_stranger_leaves_it_to_the_order(
    sdk: Sdk, function: Callable[[Record], Any], caplog: pytest.LogCaptureFixture
) -> None:
    await sdk.register_agent("dave", "acme", "Dave")
    table = await Table.open(sdk, "bob", "carol", speaker_selection=function)
    with caplog.at_level(logging.WARNING):
        assert await speak_round(table, 4) == ["alice", "bob", "carol", "alice"]
    said = [record.message for record in caplog.records]
    assert len(said) >= 3
    assert all("the speaker selection of meeting" in text and "the order decides" in text for text in said)


async def test_a_function_names_somebody_who_leaves_meanwhile(sdk: Sdk) -> None:
    chosen, go = asyncio.Event(), asyncio.Event()

    async def choose(so_far: Record) -> str:
        chosen.set()
        await go.wait()
        return "bob" if "bob" in so_far.participants else "carol"

    table = await Table.open(sdk, "bob", "carol", speaker_selection=choose)
    await table.speak("alice")
    await chosen.wait()
    status = await table.status()
    assert (status.current_speaker, status.turn) == (None, None), "nobody has the turn while it is being chosen"
    with pytest.raises(Exception, match="the next speaker is being chosen"):
        await table.speak("bob")
    await sdk.meeting.leave_meeting("bob", table.id)
    go.set()
    assert (await table.wait("carol")).number == 3


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function has a tenth of a second."""
    monkeypatch.setattr(rules, "SELECTION_LIMIT", 0.1)


@pytest.mark.usefixtures("short_limit")
async def test_a_function_that_hangs_is_given_up_after_its_time_and_asked_again_the_next_time(sdk: Sdk) -> None:
    calls = 0

    async def choose(so_far: Record) -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.Event().wait()
        return "alice"

    table = await Table.open(sdk, "bob", "carol", speaker_selection=choose)
    await table.speak("alice", 1)
    assert (await table.wait("bob")).number == 3, "the order decided"
    await table.speak("bob", 2)
    assert (await table.wait("alice")).number == 5, "the function decided"
    assert calls == 2


@pytest.mark.usefixtures("short_limit")
async def test_the_order_decides_when_the_process_of_the_function_is_gone_until_another_names_one(
    make_sdk: MakeSdk,
) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    table = await Table.open(sdk, "bob", "carol", speaker_selection=lambda so_far: "carol")
    await table.speak("alice", 1)
    assert (await table.wait("carol")).number == 3
    await sdk.close()
    table = table.at(other)
    await table.speak("carol", 2)
    assert (await table.wait("alice")).number == 5, "in order, after its time"
    other.meeting.choose_speakers(str(table.id), lambda so_far: "carol")
    await table.speak("alice", 3)
    assert (await table.wait("carol")).number == 7, "chosen"
    with pytest.raises(InvalidArgumentError, match=r"function: .*cannot be called"):
        other.meeting.choose_speakers(table.id, "carol")  # type: ignore[arg-type]


async def test_a_function_that_is_named_after_a_restart_is_asked_at_once_wherever_the_turn_ends(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody polls: not the process of the host, not the one that takes its place, not the one of the participants."""
    monkeypatch.setattr(rules, "SELECTION_LIMIT", 10 * SOON)
    monkeypatch.setattr(SQLitePresence, "poll_interval", 10 * SOON)
    monkeypatch.setattr(lifesign, "POLL", 10 * SOON)
    sdk, restarted, other = [await make_sdk() for _ in range(3)]
    await sdk.add_people("alice", "bob", "carol")
    table = await Table.open(sdk, "bob", "carol", speaker_selection=lambda so_far: "carol")
    await sdk.close()
    seen: list[Record] = []
    restarted.meeting.choose_speakers(table.id, in_turn(["carol", "bob"], seen))
    meetings = restarted._started().meetings
    await asyncio.wait_for(meetings._looking.wait_until_idle(), SOON)
    table = table.at(other)
    await table.speak("alice", 1)
    assert (await table.wait("carol")).number == 3
    await table.speak("carol", 2)
    assert (await table.wait("bob")).number == 5
    assert [one.last_speaker for one in seen] == ["alice", "carol"]


async def test_the_host_may_skip_the_choosing(sdk: Sdk) -> None:
    async def choose(so_far: Record) -> str:
        await asyncio.Event().wait()
        return "carol"

    table = await Table.open(sdk, "bob", "carol", speaker_selection=choose)
    await table.speak("alice")
    await sdk.meeting.skip_turn("alice", table.id)
    assert await table.holder() == (3, "bob")
    await table.end()


async def test_every_selection_is_asked_for_at_once_however_fast_the_turns_go(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the next one begins while the last is being looked after: none waits for its time, or for a poll."""

    async def say(message: Any, context: Any) -> int:
        return int(context.turn.number)

    monkeypatch.setattr(sdk._started().store.presence, "poll_interval", 60.0)
    for name in ("bob", "carol"):
        sdk.register_meeting_handler(name)(say)
    seen: list[Record] = []
    table = await Table.open(sdk, "bob", "carol", speaker_selection=in_turn(["bob", "carol"], seen))
    async with asyncio.timeout(SOON):
        await table.speak("alice", 1)
        await eventually(lambda: len(seen), SOON, until=lambda count: count >= 60)
    await table.end()
    course = await table.course()
    assert {how for _, _, how in course[:-1]} == {"spoke"}


async def test_of_a_long_meeting_the_function_is_given_what_is_new(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent_messaging.delivery.meetings import selection

    monkeypatch.setattr(selection, "SO_FAR", 5)
    seen: list[Record] = []
    table = await Table.open(sdk, "bob", speaker_selection=in_turn(["bob", "alice"], seen))
    await speak_round(table, 12)
    await eventually(lambda: len(seen), SOON, until=lambda count: count == 12)
    assert [one.content for one in seen[-1].messages] == [7, 8, 9, 10, 11]
    assert (seen[-1].last_speaker, seen[-1].turn) == ("bob", 23)


async def test_a_function_is_forgotten_with_its_meeting(make_sdk: MakeSdk) -> None:
    """Also where another process ends it, and for a meeting that never was."""
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    selectors = sdk._started().meetings.selection.selectors
    here = await Table.open(sdk, "bob", speaker_selection=lambda so_far: "bob")
    await here.end()
    assert not selectors
    elsewhere = await Table.open(sdk, "bob", speaker_selection=lambda so_far: "bob")
    await elsewhere.at(other).end()
    await eventually(lambda: not selectors, SOON)
    removed = await Table.open(sdk, "bob", speaker_selection=lambda so_far: "bob")
    await other.deregister_agent("alice")
    await eventually(lambda: not selectors, SOON)
    sdk.meeting.choose_speakers(removed.id, lambda so_far: "bob")
    await eventually(lambda: not selectors, SOON)
