"""Functions that name the next speaker: when they are asked, what they are given, and what becomes of bad ones."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from agent_messaging import Record
from agent_messaging.storage.ports import Standing
from tests.client.meeting_support import Table
from tests.client.support import SOON, MakeSdk, Sdk
from tests.support import eventually


def other(so_far: Record) -> str:
    """Lets carol and bob take turns, carol first."""
    return "bob" if so_far.last_speaker == "carol" else "carol"


async def test_a_function_names_the_speakers(sdk: Sdk) -> None:
    asked: list[Record] = []

    async def choose(so_far: Record) -> str:
        asked.append(so_far)
        return other(so_far)

    table = await Table.open(sdk, "bob", "carol", speaker_selection=choose)
    await table.speak("alice", "one")
    for name in ("carol", "bob", "carol"):
        await table.wait(name)
        await table.speak(name, "more")
    assert [(so_far.last_speaker, so_far.turn) for so_far in asked[:3]] == [("alice", 1), ("carol", 3), ("bob", 5)]
    assert asked[0].participants == ["alice", "bob", "carol"]
    assert [message.content for message in asked[0].messages][-1] == "one"


async def test_a_function_is_asked_also_if_the_turn_ends_while_it_is_looked_for(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    meetings = sdk.meeting.engine.meetings
    find = meetings.meetings.find_standings
    has_spoken = asyncio.Event()

    async def find_late(keys: Sequence[tuple[str, str]], **options: Any) -> Mapping[Any, Standing | None]:
        found = await find(keys, **options)
        turns = [standing.turn for standing in found.values() if standing is not None and standing.turn is not None]
        if any(turn.number == 3 for turn in turns) and not has_spoken.is_set():
            # What the store answered is out of date when it arrives: carol has spoken meanwhile.
            has_spoken.set()
            await table.speak("carol")
        return found

    table = await Table.open(sdk, "bob", "carol", speaker_selection=other)
    monkeypatch.setattr(meetings.meetings, "find_standings", find_late)
    monkeypatch.setattr(meetings, "look", lambda: None)  # no poll comes to the rescue
    await table.speak("alice")
    await has_spoken.wait()
    assert (await table.until_turn(5)).current_speaker == "bob"  # by the order of joining it would be alice


async def test_a_function_that_hangs_is_given_up_at_the_deadline_and_asked_again(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_messaging.storage.assembly.rules.SELECTION_LIMIT", 0.5)
    host, onlooker = await make_sdk(), await make_sdk()
    await host.add_people("alice", "bob", "carol")
    asked: list[int] = []

    async def choose(so_far: Record) -> str:
        asked.append(so_far.turn)
        if len(asked) == 1:
            await asyncio.Event().wait()
        return "carol"

    table = await Table.open(host, "bob", "carol", speaker_selection=choose)
    await table.speak("alice")
    await table.at(onlooker).wait("bob")  # the order decided
    await table.speak("bob")
    await table.until_turn(5)
    assert asked == [1, 3]


async def test_a_plain_function_that_takes_long_does_not_block_the_loop(sdk: Sdk) -> None:
    is_asked, may_answer = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def choose(so_far: Record) -> str:
        loop.call_soon_threadsafe(is_asked.set)
        assert may_answer.wait(SOON)
        return "carol"

    table = await Table.open(sdk, "bob", "carol", speaker_selection=choose)
    await table.speak("alice")
    await is_asked.wait()
    may_answer.set()
    await table.wait("carol")


@pytest.mark.parametrize("bad", [5, "nobody", "no\0body", ["bob"], ValueError("dice"), asyncio.CancelledError()])
async def test_where_a_function_fails_the_order_decides_at_once(sdk: Sdk, bad: Any) -> None:
    def choose(so_far: Record) -> Any:
        if isinstance(bad, BaseException):
            raise bad
        return bad

    table = await Table.open(sdk, "bob", "carol", speaker_selection=choose)
    await table.speak("alice")
    await table.wait("bob", SOON / 2)


async def test_a_function_is_given_the_newest_of_a_long_meeting(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_messaging.delivery.meetings.selection.SO_FAR", 3)
    asked: list[Record] = []

    def choose(so_far: Record) -> str:
        asked.append(so_far)
        return other(so_far)

    table = await Table.open(sdk, "bob", "carol", speaker_selection=choose)
    for number, name in enumerate(["alice", "carol", "bob", "carol"]):
        await table.wait(name)
        await table.speak(name, number)
    await table.wait("bob")
    assert [message.content for message in asked[-1].messages] == [1, 2, 3]
    assert (asked[-1].last_speaker, asked[-1].turn) == ("carol", 7)


async def test_one_look_is_enough_for_all_meetings_and_forgets_those_that_ended_elsewhere(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, other_sdk = await make_sdk(), await make_sdk()
    await host.add_people("alice")
    tables = [await Table.invite(host, speaker_selection=other) for _ in range(5)]
    meetings = host.meeting.engine.meetings
    assert len(meetings.selection.selectors) == 5
    await tables[0].at(other_sdk).end()
    await eventually(lambda: len(meetings.selection.selectors), SOON, until=lambda left: left == 4)

    find, looks = meetings.meetings.find_standings, list[int]()

    async def count(keys: Sequence[tuple[str, str]], **options: Any) -> Mapping[Any, Standing | None]:
        looks.append(len(keys))
        return await find(keys, **options)

    monkeypatch.setattr(meetings.meetings, "find_standings", count)
    meetings.look()
    await eventually(lambda: looks, SOON)
    assert set(looks) == {4}, "one query each time"
