"""Turn handlers: they speak for their agents, in whatever process, at most once in a turn."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from agent_messaging import (
    InvalidArgumentError,
    MeetingEventType,
    MessageContext,
    Turn,
    TurnLostError,
    register_meeting_handler,
)
from agent_messaging.delivery import runs
from agent_messaging.delivery.retry import RetryPolicy
from agent_messaging.models import Kind
from agent_messaging.storage.ports import ClaimRequest, Settlement, Settling
from agent_messaging.storage.sqlite import rows
from tests.client.meeting_support import Table, Watcher
from tests.client.support import SOON, MakeSdk, Sdk
from tests.support import eventually


class Speaker:
    """A turn handler: keeps what it is given, says what its script returns."""

    def __init__(self, script: Any = "…") -> None:
        self.script = script
        self.messages: list[Any] = []
        self.contexts: list[MessageContext] = []
        self.cancelled = 0

    async def __call__(self, message: Any, context: MessageContext) -> Any:
        self.messages.append(message)
        self.contexts.append(context)
        try:
            result = self.script(message, context) if callable(self.script) else self.script
            return await result if asyncio.iscoroutine(result) else result
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def wait_for(self, calls: int) -> None:
        """Wait until it was called so often."""
        await eventually(lambda: len(self.contexts), SOON, until=lambda seen: seen >= calls)

    def turn(self) -> Turn:
        """The newest one that it was called for."""
        turn = self.contexts[-1].turn
        assert turn is not None
        return turn


async def hang(*_: Any) -> None:
    await asyncio.Event().wait()


async def test_an_agent_takes_part_by_what_its_handler_returns(sdk: Sdk) -> None:
    bob, carol = Speaker({"text": "from bob"}), Speaker({"text": "from carol"})
    sdk.register_meeting_handler("bob")(bob)
    sdk.register_meeting_handler("carol")(carol)
    table = await Table.open(sdk, "bob", "carol")
    await table.speak("alice", {"text": "from alice"}, {"tone": "calm"})
    assert (await table.wait("alice")).number == 4
    assert [name for name, _ in await table.said()] == ["alice", "bob", "carol"]
    assert (bob.messages, carol.messages) == ([{"text": "from alice"}], [{"text": "from bob"}])
    [context] = bob.contexts
    assert (context.sender_id, context.receiver_id, context.meeting_id) == ("alice", "bob", table.id)
    assert (context.is_meeting_message, context.handler_context.value, context.attempt) == (True, "meeting", 1)
    assert context.metadata == {"tone": "calm"}
    assert bob.turn().number == 2
    assert [one.content for one in carol.turn().messages][-2:] == [{"text": "from alice"}, {"text": "from bob"}]


async def test_a_handler_that_opens_is_told_the_facts_of_the_meeting(sdk: Sdk) -> None:
    bob = Speaker("opened")
    sdk.register_meeting_handler("bob")(bob)
    table = await Table.gather(sdk, "bob", turn_duration=20)
    await sdk.meeting.start_meeting("alice", table.id, next_speaker_external_id="bob")
    await table.wait("alice")
    assert bob.messages == [
        {"meeting_id": str(table.id), "host": "alice", "participants": ["alice", "bob"], "turn_duration": 20}
    ]


async def test_every_way_of_registering_a_turn_handler(make_sdk: MakeSdk) -> None:
    bare, named, own = Speaker("bare"), Speaker("named"), Speaker("own")
    assert register_meeting_handler(bare) is bare
    assert register_meeting_handler(agent="carol")(named) is named
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob", "carol", "dave")
    assert sdk.register_meeting_handler("dave")(own) is own
    table = await Table.gather(sdk, "bob", "carol", "dave")
    # The host speaks by hand: the bare handler leaves it alone.
    await sdk.meeting.start_meeting("alice", table.id, "by hand", "bob")
    await table.until_turn(5)
    assert await table.said() == [("alice", "by hand"), ("bob", "bare"), ("carol", "named"), ("dave", "own")]
    await table.end()
    with pytest.raises(InvalidArgumentError, match="agent"):
        register_meeting_handler(agent=" ")(bare)
    with pytest.raises(InvalidArgumentError, match=r"\(message, context\)"):
        sdk.register_meeting_handler("bob")(lambda: None)  # type: ignore[type-var]
    assert sdk.unregister_handler("dave") is True


async def test_a_bare_handler_leaves_the_host_alone_and_takes_part_in_what_others_host(make_sdk: MakeSdk) -> None:
    bare = Speaker("bare")
    register_meeting_handler(bare)
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    own = await Table.open(sdk, "bob")
    others = await Table.gather(sdk, "alice", host="bob")
    await sdk.meeting.start_meeting("bob", others.id, "opening")
    await others.wait("bob")
    assert await others.said() == [("bob", "opening"), ("alice", "bare")]
    # The other meeting has gone round, so the host's first turn here was looked at before, and left to it.
    assert await own.holder() == (1, "alice")
    await own.speak("alice", "by hand")
    assert (await own.wait("alice")).number == 3
    assert await own.said() == [("alice", "by hand"), ("bob", "bare")]
    assert [one.receiver_id for one in bare.contexts] == ["alice", "bob"]


async def test_a_handler_that_is_registered_for_the_host_speaks_for_it(make_sdk: MakeSdk) -> None:
    register_meeting_handler(Speaker("bare"))
    register_meeting_handler(agent="alice")(host := Speaker("as host"))
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    table = await Table.open(sdk, "bob")
    await host.wait_for(2)
    assert (await table.said())[:2] == [("alice", "as host"), ("bob", "bare")]
    await table.end()


async def test_a_turn_that_is_over_before_its_handler_ran_has_not_failed(
    sdk: Sdk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk.register_meeting_handler("bob")(bob := Speaker("late"))
    turns = sdk._started().meetings.runs
    begun, prepare = asyncio.Event(), turns.prepare

    async def slow(*arguments: Any) -> Any:
        begun.set()
        await hang()
        return await prepare(*arguments)

    monkeypatch.setattr(turns, "prepare", slow)
    table = await Table.open(sdk, "bob")
    with caplog.at_level(logging.INFO, "agent_messaging"):
        await table.speak("alice", "hi")
        await begun.wait()
        await table.end()
        await eventually(lambda: not sdk._started().claims.running, SOON)
    assert bob.contexts == []
    assert not [record for record in caplog.records if record.exc_info or "failed" in record.getMessage()]


async def test_a_handler_gets_what_its_annotation_asks_for_and_says_what_it_returns(sdk: Sdk) -> None:
    class Point(BaseModel):
        text: str
        weight: float = 1.0

    seen: list[Any] = []

    @sdk.register_meeting_handler("bob")
    async def bob(message: Point, context: MessageContext) -> Point:
        seen.append(message)
        return Point(text=f"re: {message.text}", weight=2)

    @sdk.register_meeting_handler("carol")
    def carol(message: dict[str, Any], context: MessageContext) -> dict[str, Any]:
        seen.append(threading.current_thread() is threading.main_thread())
        return {"text": message["text"].upper()}

    table = await Table.open(sdk, "bob", "carol")
    await table.speak("alice", Point(text="hello"))
    await table.wait("alice")
    assert seen == [Point(text="hello"), False]
    assert (await table.said())[1:] == [("bob", {"text": "re: hello", "weight": 2.0}), ("carol", {"text": "RE: HELLO"})]


async def test_none_passes(sdk: Sdk) -> None:
    sdk.register_meeting_handler("bob")(Speaker(None))
    table = await Table.open(sdk, "bob")
    await table.speak("alice")
    await table.wait("alice")
    assert await table.course() == [(1, "alice", "spoke"), (2, "bob", "passed"), (3, "alice", None)]
    assert [note["type"] for note in await table.notes()] == ["participant_joined"]


def fail(*_: Any) -> Any:
    raise RuntimeError("no idea")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (fail, "RuntimeError: no idea"),
        ({"bad": float("nan")}, "NaN"),
        (object(), "JSON"),
        ("x" * (1024 * 1024 + 1), "1,048,576 bytes are accepted"),
    ],
    ids=["raises", "NaN", "no JSON", "too large"],
)
async def test_a_handler_that_fails_passes_with_a_note(
    sdk: Sdk, script: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = Watcher().watch(sdk, MeetingEventType.ERROR_OCCURRED)
    speaker = Speaker(script if script is fail else lambda *_: script)
    sdk.register_meeting_handler("bob")(speaker)
    table = await Table.open(sdk, "bob")
    with caplog.at_level(logging.WARNING):
        await table.speak("alice")
        await table.wait("alice")
    assert len(speaker.messages) == 1
    assert await table.course() == [(1, "alice", "spoke"), (2, "bob", "passed"), (3, "alice", None)]
    note = (await table.notes())[-1]
    assert (note["type"], note["agent"]) == ("turn_passed", "bob")
    assert reason in note["reason"]
    assert len(note["reason"]) < 1_000
    [event] = await watcher.wait_for(MeetingEventType.ERROR_OCCURRED)
    assert (event.data.error_type, event.data.affected_agent_external_id) == ("handler", "bob")
    assert any("the handler failed" in record.message for record in caplog.records)
    assert await sdk.dead_letters.list() == []


async def test_a_handler_that_fails_again_and_again_waits_longer_and_longer(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this meeting, for this agent; until it works, or the meeting ends."""
    failures: list[int] = []

    def pause(self: RetryPolicy, count: int) -> float:
        failures.append(count)
        return 0.001

    def script(_: Any, context: MessageContext) -> str:
        if is_broken:
            raise RuntimeError("no idea")
        return "works"

    is_broken = True
    monkeypatch.setattr(RetryPolicy, "pause", pause)
    bob = Speaker(script)
    sdk.register_meeting_handler("bob")(bob)
    table, other = await Table.open(sdk, "bob"), await Table.open(sdk, "bob")

    async def go_round(table: Table, times: int) -> None:
        for _ in range(times):
            await table.speak("alice")
            await table.wait("alice")

    await go_round(table, 4)
    assert failures == [1, 2, 3]
    await go_round(other, 2)
    assert failures == [1, 2, 3, 1], "another meeting has a count of its own"
    is_broken = False
    await go_round(table, 2)
    assert failures == [1, 2, 3, 1, 4], "once it works nothing is held against it"
    assert len(sdk._started().meetings.runs.failures) == 1, "the other meeting alone is looked at now and then"
    is_broken = True
    await go_round(table, 2)
    assert failures == [1, 2, 3, 1, 4, 1]
    await table.end()
    await other.end()
    assert sdk._started().meetings.runs.failures == {}


async def test_a_count_of_failures_goes_with_a_meeting_that_ends_elsewhere(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    sdk.register_meeting_handler("bob")(fail)
    table = await Table.open(sdk, "bob")
    await table.speak("alice")
    await table.wait("alice")
    failures = sdk._started().meetings.runs.failures
    assert len(failures) == 1
    await table.at(other).end()
    await eventually(lambda: not failures, SOON)


async def test_a_handler_that_waits_because_it_failed_has_half_of_its_turn_left(make_sdk: MakeSdk) -> None:
    """However long the pause between retries is: a meeting goes on, at a bearable pace."""
    sdk = await make_sdk(retry_delay=100, retry_max_delay=1_000)
    await sdk.add_people("alice", "bob")
    alice, bob = Speaker(fail), Speaker(fail)
    sdk.register_meeting_handler("alice")(alice)
    sdk.register_meeting_handler("bob")(bob)
    table = await Table.open(sdk, "bob", turn_duration=0.6)
    await table.until_turn(6)
    await table.end()
    course = await table.course()
    assert [how for _, _, how in course[:5]] == ["passed"] * 5
    turns = (await sdk.meeting.get_turn_statistics(table.id)).turns
    assert all(turn.duration_seconds >= 0.29 for turn in turns[2:5])


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_handler_that_waits_because_it_failed_runs_once_where_turns_do_not_end_by_time(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits less long than its claim lasts."""
    monkeypatch.setattr(rows, "CLAIM_MARGIN", 1.0)
    monkeypatch.setattr(runs, "CLAIM_MARGIN", 1.0)
    sdk = await make_sdk(enable_turn_timeout=False, handler_timeout=0.5, retry_delay=1_000, retry_max_delay=1_000)
    await sdk.add_people("alice", "bob")
    begun: list[tuple[int | None, int]] = []

    @sdk.register_meeting_handler("bob")
    async def bob(message: Any, context: MessageContext) -> None:
        assert context.turn is not None
        begun.append((context.turn.number, context.attempt))
        raise RuntimeError("no idea")

    table = await Table.open(sdk, "bob")
    for _ in range(3):
        await table.speak("alice")
        await table.wait("alice")
    assert begun == [(2, 1), (4, 1), (6, 1)]


async def test_a_handler_that_waits_because_it_failed_holds_up_nobody_who_leaves(make_sdk: MakeSdk) -> None:
    """Its claim goes back uncounted, and whoever serves the agent next has the turn."""
    sdk, other = await make_sdk(retry_delay=1_000, retry_max_delay=1_000), await make_sdk()
    await sdk.add_people("alice", "bob")
    sdk.register_meeting_handler("bob")(fail)
    table = await Table.open(sdk, "bob", turn_duration=1_000)
    await table.speak("alice")
    await table.wait("alice")
    await table.speak("alice")
    await eventually(lambda: sdk._started().claims.running, SOON)
    async with asyncio.timeout(SOON):
        await sdk.close()
    bob = Speaker("works")
    other.register_meeting_handler("bob")(bob)
    assert (await table.at(other).wait("alice")).number == 5
    assert [context.attempt for context in bob.contexts] == [1]


async def test_a_speech_that_does_not_fit_the_handler_passes_with_a_note(sdk: Sdk) -> None:
    class Point(BaseModel):
        text: str

    @sdk.register_meeting_handler("bob")
    async def bob(message: Point, context: MessageContext) -> None:
        raise AssertionError("called")

    table = await Table.open(sdk, "bob")
    await table.speak("alice", {"secret": "s3cr3t"})
    await table.wait("alice")
    note = (await table.notes())[-1]
    assert note["type"] == "turn_passed"
    assert "text" in note["reason"], "the path of the field"
    assert "s3cr3t" not in note["reason"]


async def test_a_handler_that_hangs_beyond_its_turn_is_cancelled_and_the_turn_timed_out(sdk: Sdk) -> None:
    bob = Speaker(hang)
    sdk.register_meeting_handler("bob")(bob)
    table = await Table.open(sdk, "bob", turn_duration=0.3)
    await table.speak("alice", next_speaker_external_id="bob")
    await table.until_turn(3)
    await eventually(lambda: bob.cancelled, SOON)
    await table.end()
    assert (await table.course())[1][:2] == (2, "bob")
    assert (await table.course())[1][2] in ("timed_out", "passed"), "both ends come at the deadline"
    assert await table.said() == [("alice", "…")]


async def test_a_handler_with_a_time_limit_of_its_own_passes_when_it_is_over(make_sdk: MakeSdk) -> None:
    bob = Speaker(hang)
    sdk, endless = await make_sdk(), await make_sdk(enable_turn_timeout=False)
    await sdk.add_people("alice", "bob")
    sdk.register_meeting_handler("bob", timeout=0.05)(bob)
    for by in (sdk, endless):
        table = await Table.open(by, "bob")
        await table.speak("alice")
        await table.wait("alice")
        assert (await table.course())[1] == (2, "bob", "passed")
        assert "0.05" in (await table.notes())[-1]["reason"]
    assert bob.cancelled == 2


async def test_an_explicit_speech_wins_over_the_handler_and_cancels_it(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    bob = Speaker(hang)
    sdk.register_meeting_handler("bob")(bob)
    for calls, by in enumerate((sdk, other), 1):
        table = await Table.open(sdk, "bob")
        await table.speak("alice", "one")
        await bob.wait_for(calls)
        await table.at(by).speak("bob", "by hand")
        await table.wait("alice")
        assert await table.said() == [("alice", "one"), ("bob", "by hand")]
        await table.end()
    await eventually(lambda: bob.cancelled, SOON, until=lambda count: count == 2)


@pytest.mark.parametrize("how", ["skip_turn", "remove_participant", "leave_meeting", "end_meeting", "deregister_agent"])
async def test_whatever_ends_the_turn_cancels_the_handler_and_refuses_what_it_returns(
    make_sdk: MakeSdk, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    bob = Speaker(hang)
    sdk.register_meeting_handler("bob")(bob)
    table = await Table.open(sdk, "bob")
    await table.speak("alice", "one")
    await bob.wait_for(1)
    acts: dict[str, Callable[[], Awaitable[object]]] = {
        "skip_turn": lambda: other.meeting.skip_turn("alice", table.id),
        "remove_participant": lambda: other.meeting.remove_participant("alice", table.id, "bob"),
        "leave_meeting": lambda: other.meeting.leave_meeting("bob", table.id),
        "end_meeting": lambda: other.meeting.end_meeting("alice", table.id),
        "deregister_agent": lambda: other.deregister_agent("bob"),
    }
    await acts[how]()
    await eventually(lambda: bob.cancelled, SOON)
    assert await table.said() == [("alice", "one")]
    await sdk._started().dispatcher.wait_until_idle()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING], "it has not failed"


async def test_a_thread_that_ends_after_its_turn_says_nothing(sdk: Sdk) -> None:
    go, ended = threading.Event(), threading.Event()

    @sdk.register_meeting_handler("bob")
    def bob(message: Any, context: MessageContext) -> str:
        go.wait(SOON)
        ended.set()
        return "too late"

    table = await Table.open(sdk, "bob")
    await table.speak("alice", "one")
    await eventually(lambda: sdk._started().claims.running, SOON)
    await sdk.meeting.skip_turn("alice", table.id)
    await table.speak("alice", "three", next_speaker_external_id="alice")
    go.set()
    assert await asyncio.to_thread(ended.wait, SOON)
    await eventually(lambda: not sdk._started().claims.running, SOON)
    assert [what for _, what in await table.said()] == ["one", "three"]
    assert await table.holder() == (4, "alice")


async def test_a_handler_may_act_by_hand(sdk: Sdk) -> None:
    """What it returns then is for a turn that is over."""
    seen: list[Any] = []

    @sdk.register_meeting_handler("bob")
    async def bob(message: Any, context: MessageContext) -> str:
        assert context.meeting_id is not None
        seen.append(await sdk.meeting.speak("bob", context.meeting_id, "by hand", turn=context.turn))
        seen.append((await table.status()).turn)
        return "and returned"

    table = await Table.open(sdk, "bob")
    await table.speak("alice", "one")
    await table.wait("alice")
    await eventually(lambda: not sdk._started().claims.running, SOON)
    assert isinstance(seen[0], UUID)
    assert seen[1:] == [3], "it goes on behind its own act"
    assert await table.said() == [("alice", "one"), ("bob", "by hand")]


async def test_a_turn_in_which_nothing_was_observed_is_not_the_handlers_alone(sdk: Sdk) -> None:
    """A turn shown to a handler binds only its run; acts by hand are bound to what `wait_for_turn` showed."""
    bob = Speaker(None)
    sdk.register_meeting_handler("bob")(bob)
    table = await Table.open(sdk, "bob")
    await table.speak("alice")
    await table.wait("alice")
    with pytest.raises(TurnLostError):
        await table.speak("bob", turn=bob.turn())


async def test_a_handler_takes_part_in_several_meetings_at_once_up_to_its_slots(sdk: Sdk) -> None:
    opened, most, running = asyncio.Event(), 0, 0

    async def wait(*_: Any) -> str:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await opened.wait()
        running -= 1
        return "…"

    sdk.register_meeting_handler("bob", concurrency=3)(wait)
    tables = [await Table.open(sdk, "bob") for _ in range(6)]
    for table in tables:
        await table.speak("alice")
    await eventually(lambda: running, SOON, until=lambda count: count == 3)
    opened.set()
    for table in tables:
        await table.wait("alice")
    assert most == 3


async def test_a_turn_waits_for_the_handler_of_a_process_that_comes_later(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    table = await Table.open(sdk, "bob")
    await table.speak("alice")
    other = await make_sdk()
    other.register_meeting_handler("bob")(Speaker("here I am"))
    await table.wait("alice")
    assert (await table.said())[-1] == ("bob", "here I am")


async def test_closing_gives_the_turn_to_the_next_process_in_the_time_that_is_left(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(drain_timeout=0.1), await make_sdk()
    await sdk.add_people("alice", "bob")
    bob = Speaker(hang)
    sdk.register_meeting_handler("bob")(bob)
    table = (await Table.open(sdk, "bob", turn_duration=60)).at(other)
    await table.speak("alice")
    await bob.wait_for(1)
    before = await table.status()
    await sdk.close()
    speaker = Speaker("taken over")
    other.register_meeting_handler("bob")(speaker)
    await table.wait("alice")
    assert (await table.said())[-1] == ("bob", "taken over")
    assert speaker.turn().deadline == before.turn_deadline
    assert speaker.contexts[0].attempt == 1, "given back uncounted"


async def test_a_meeting_of_handlers_alone_does_not_keep_the_sdk_from_closing(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    for name in ("alice", "bob"):
        sdk.register_meeting_handler(name)(Speaker())
    table = await Table.open(sdk, "bob")
    await table.until_turn(10)
    async with asyncio.timeout(SOON / 2):
        await sdk.close()
    onlooker = await make_sdk()
    first = await table.at(onlooker).holder()
    course = await table.at(onlooker).course()
    assert [number for number, _, _ in course] == list(range(1, len(course) + 1))
    assert first == (len(course), course[-1][1])
    assert {how for _, _, how in course[:-1]} == {"spoke"}


async def test_a_dead_turn_that_is_redriven_too_late_is_dead_again_at_once(sdk: Sdk) -> None:
    store = sdk.store
    owner = store.presence.process_id
    table = await Table.open(sdk, "bob")
    await table.speak("alice")
    bob_id = (await sdk._started().names.get("bob")).id
    [claimed] = await store.deliveries.claim([ClaimRequest(bob_id, Kind.TURN, 1, 60.0)], owner=owner)
    await store.deliveries.settle([Settlement(claimed.claim, Settling.DEAD, reason="no")], owner=owner)
    await table.speak("bob")
    sdk.register_meeting_handler("bob")(bob := Speaker())
    assert await sdk.dead_letters.redrive([UUID(claimed.message_id)]) == 1
    await eventually(sdk.dead_letters.list, SOON)
    [letter] = await sdk.dead_letters.list()
    assert "its turn is over" in letter.reasons[-1]
    assert not bob.contexts
