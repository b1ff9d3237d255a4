"""The kit for users' tests: time that is moved, scripts, faults, and the judge."""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from agent_messaging import (
    AgentMessaging,
    Config,
    ConfigurationError,
    HandlerContext,
    HandlerError,
    MessageContext,
    OutcomeUnknownError,
    StorageFullError,
    TimeoutError,
    Turn,
)
from agent_messaging.testing import NEVER, HandClock, MessagingKit, make_context
from agent_messaging.testing.kit import _Notebook
from tests.client.support import SOON

HOUR = 3600.0


class Note(BaseModel):
    text: str


async def states(kit: MessagingKit, ids: list[str]) -> list[str]:
    return [(await kit.sdk.receipts.get(id)).state.value for id in ids]


# --- time -------------------------------------------------------------------------------------------------------------


async def test_an_ask_that_nobody_answers_times_out_at_its_deadline_and_not_before(messaging_kit: MessagingKit) -> None:
    kit = messaging_kit
    await kit.register("alice")
    bob = await kit.script("bob", answers=[NEVER])
    asking = asyncio.create_task(kit.sdk.conversation.send_and_wait("alice", "bob", "?", timeout=HOUR))
    await bob.wait_for(1)
    await kit.clock.advance(HOUR - 1)
    assert not asking.done()
    await kit.clock.advance(1)
    with pytest.raises(TimeoutError):
        await asking


async def test_a_note_that_fails_is_tried_again_within_the_time_that_passes(messaging_kit: MessagingKit) -> None:
    """In one step of time: each pause begins when the run before it has ended."""
    kit = messaging_kit
    await kit.register("alice")
    bob = await kit.script("bob", notes=[ValueError("1"), ValueError("2"), ValueError("3"), None])
    began = kit.clock.now()
    [id] = await kit.sdk.one_way.send("alice", "bob", "hi")
    await kit.drain()
    assert await states(kit, [id]) == ["queued"]
    assert (await kit.assert_no_lost()).lost == 0, "it waits for its time"
    await kit.clock.advance(1 + 2 + 4)
    assert await states(kit, [id]) == ["done"]
    assert [one.context.attempt for one in bob.heard] == [1, 2, 3, 4]
    assert kit.clock.now() - began >= timedelta(seconds=7)
    report = await kit.assert_no_lost()
    assert (report.acked, report.justified_repeats) == (1, 3)


def plain(message: Any, context: MessageContext) -> None:
    if context.attempt < 3:
        raise ValueError


async def test_a_plain_function_has_run_when_the_time_goes_on(messaging_kit: MessagingKit) -> None:
    kit = messaging_kit
    await kit.register("alice", "bob")
    kit.sdk.register_handler("bob")(plain)
    ids = await kit.sdk.one_way.send("alice", "bob", "hi")
    await kit.clock.advance(1 + 2)
    assert await states(kit, ids) == ["done"]


async def test_what_is_scheduled_expires_or_is_leased_follows_the_clock(messaging_kit: MessagingKit) -> None:
    kit = messaging_kit
    await kit.register("alice", "carol")
    bob = await kit.script("bob")
    later = kit.clock.now() + timedelta(days=1)
    ids = await kit.sdk.one_way.send("alice", "bob", "later", deliver_at=later)
    ids += await kit.sdk.one_way.send("alice", "carol", "gone", expires_in=60, require_handler=False)
    ids += await kit.sdk.one_way.send("alice", "carol", "pulled", require_handler=False)
    await kit.clock.advance(61)
    assert await states(kit, ids) == ["queued", "expired", "queued"]
    [pulled] = await kit.sdk.receive("carol", lease=30)
    assert await kit.sdk.receive("carol", timeout=0) == []
    await kit.clock.advance(31)
    [again] = await kit.sdk.receive("carol")
    assert (pulled.context.attempt, again.context.attempt) == (1, 2)
    await again.done()
    await kit.clock.advance_to(later - timedelta(seconds=1))
    assert bob.heard == []
    await kit.clock.advance_to(later)
    assert bob.contents == ["later"]
    assert await states(kit, ids) == ["done", "expired", "done"]
    await kit.assert_no_lost()


async def test_tasks_have_their_schedules_and_limits_by_the_clock(messaging_kit: MessagingKit) -> None:
    kit = messaging_kit
    done: list[tuple[Any, int]] = []

    @kit.sdk.register_task_handler("worker", capabilities=["tick", "resize"], timeout=60)
    async def work(payload: Any, context: Any) -> None:
        if context.attempt == 1 and payload == "slow":
            await asyncio.sleep(HOUR)
        done.append((payload, context.attempt))

    await kit.sdk.tasks.schedule("hourly", "tick", "tock", every=HOUR)
    await kit.sdk.tasks.delegate("resize", "slow")
    await kit.clock.advance(2.5 * HOUR)
    assert done == [("slow", 2), ("tock", 1), ("tock", 1)]
    assert [worker.is_alive for worker in await kit.sdk.tasks.workers()] == [True], "it was alive all the time"


async def test_a_run_is_cut_off_at_its_limit_and_sleeps_of_handlers_pass(messaging_kit: MessagingKit) -> None:
    kit = messaging_kit
    await kit.register("alice")
    slept: list[float] = []

    async def sleep(message: Any, context: MessageContext) -> None:
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(20)
        slept.append(asyncio.get_running_loop().time() - began)

    await kit.script("bob", notes=[NEVER, sleep])
    [id] = await kit.sdk.one_way.send("alice", "bob", "hi")
    began = time.monotonic()
    await kit.clock.advance(30 + 1 + 20)
    assert await states(kit, [id]) == ["done"]
    assert slept[0] >= 20
    assert time.monotonic() - began < SOON


async def test_a_day_passes_in_bounded_steps(
    messaging_kit: MessagingKit, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_messaging.testing.clock.EXACT_STEPS", 200)
    monkeypatch.setattr("agent_messaging.testing.clock.COARSE_STEPS", 100)
    ticks = itertools.count()

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.5)
            next(ticks)

    ticking = asyncio.create_task(tick())
    await messaging_kit.clock.advance(24 * HOUR)
    ticking.cancel()
    assert 100 < next(ticks) <= 303
    assert caplog.messages == [], "nobody takes it for a loop that was blocked"


async def test_the_time_is_put_back_behind_the_last_kit() -> None:
    loop = asyncio.get_running_loop()
    async with MessagingKit() as one:
        async with MessagingKit() as other:
            await other.clock.advance(HOUR)
            assert one.clock.now() == pytest.approx(other.clock.now(), abs=timedelta(seconds=1))
        assert loop.time() > time.monotonic() + HOUR - 1
        with pytest.raises(ValueError, match="goes forward"):
            await one.clock.advance(-1)
    assert loop.time() < time.monotonic() + 1
    with pytest.raises(RuntimeError, match="open kit"):
        await one.clock.advance(1)


class FixedLoop(asyncio.SelectorEventLoop):
    """As uvloop: its time is its own."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "time":
            raise AttributeError(name)
        super().__setattr__(name, value)


def test_a_loop_whose_time_cannot_be_moved_is_refused_and_so_is_none() -> None:
    async def use() -> None:
        async with MessagingKit():
            raise AssertionError

    with asyncio.Runner(loop_factory=FixedLoop) as runner, pytest.raises(RuntimeError, match="FixedLoop"):
        runner.run(use())
    with pytest.raises(RuntimeError, match="anyio_backend"):
        use().send(None)


# --- scripts ----------------------------------------------------------------------------------------------------------


async def test_a_script_answers_raises_calls_and_says_when_it_is_used_up(messaging_kit: MessagingKit) -> None:
    kit = messaging_kit
    await kit.register("alice")

    async def shout(message: Note, context: MessageContext) -> str:
        return message.text.upper() + context.sender_id

    bob = await kit.script("bob", answers=["yes", ValueError("no"), shout], takes=Note)
    ask = kit.sdk.conversation.send_and_wait
    assert await ask("alice", "bob", Note(text="1")) == "yes"
    with pytest.raises(HandlerError, match="ValueError: no"):
        await ask("alice", "bob", Note(text="2"))
    assert await ask("alice", "bob", Note(text="three")) == "THREEalice"
    with pytest.raises(HandlerError, match="no answer left"):
        await ask("alice", "bob", Note(text="4"))
    await kit.sdk.conversation.send_no_wait("alice", "bob", Note(text="5"))
    await kit.drain()
    assert bob.contents == [Note(text=text) for text in ("1", "2", "three", "4", "5")]
    assert bob.heard[0].context.handler_context is HandlerContext.CONVERSATION
    with pytest.raises(AssertionError, match=r"'bob' was to be given 6 messages within 0\.01 s, and was given 5"):
        await bob.wait_for(6, timeout=0.01)
    await kit.assert_no_lost()


async def test_scripted_agents_hold_a_meeting_and_the_silent_one_times_out(messaging_kit: MessagingKit) -> None:
    kit = messaging_kit
    alice = await kit.script("alice", speeches=["Hello", "Bye"])
    bob = await kit.script("bob", speeches=["Hi", None])
    meeting = asyncio.create_task(kit.sdk.meeting.hold("alice", ["bob"], "Welcome", turn_duration=600, max_turns=6))
    await bob.wait_for_turns(3)
    assert not meeting.done()
    await kit.clock.advance(HOUR)
    transcript = await meeting
    assert [message.content for message in transcript.messages] == ["Welcome", "Hi", "Hello", "Bye"]
    assert [bool(bob.invitations), len(alice.turns), len(bob.turns)] == [True, 2, 3]
    assert transcript.duration >= 600


# --- draining, and the judge ------------------------------------------------------------------------------------------


async def test_draining_waits_for_what_handlers_send_and_names_who_does_not_end(messaging_kit: MessagingKit) -> None:
    kit = messaging_kit

    async def pass_on(message: int, context: MessageContext) -> None:
        await asyncio.to_thread(time.sleep, 0.01)
        if message:
            await kit.sdk.one_way.send(context.receiver_id, context.sender_id, message - 1)

    await kit.script("alice", notes=itertools.repeat(pass_on))
    bob = await kit.script("bob", notes=[pass_on, pass_on, NEVER])
    await kit.sdk.one_way.send("alice", "bob", 3)
    await kit.drain()
    assert bob.contents == [3, 1]
    assert (await kit.assert_no_lost()).acked == 4
    [id] = await kit.sdk.one_way.send("alice", "bob", 0)
    with pytest.raises(AssertionError, match=f"the handler of 'bob' is at work on message {id}"):
        await kit.drain(timeout=0.01)


async def test_what_is_rightly_open_or_gone_is_not_lost(messaging_kit: MessagingKit) -> None:
    kit = messaging_kit
    await kit.register("alice", "carol", "dave")

    async def pass_on(message: Any, context: MessageContext) -> None:
        await context.forward("erin")

    await kit.script("bob", notes=[ValueError("no")] * 5, answers=[pass_on])
    await kit.script("erin", answers=["I am erin"])
    send = kit.sdk.one_way.send
    unserved = await send("alice", "carol", "nobody serves her", require_handler=False)
    await send("alice", "dave", "goes with him", require_handler=False)
    [dead] = await send("alice", "bob", "never handled")
    [withdrawn] = await send("alice", "carol", "not meant", require_handler=False)
    assert await kit.sdk.receipts.withdraw(withdrawn)
    await kit.sdk.deregister_agent("dave")
    assert await kit.sdk.conversation.send_and_wait("alice", "bob", "?") == "I am erin"
    await kit.clock.advance(HOUR)
    assert await states(kit, [*unserved, dead, withdrawn]) == ["queued", "dead", "withdrawn"]
    await kit.assert_no_lost()


async def test_what_is_lost_invented_or_settled_twice_is_found(messaging_kit: MessagingKit) -> None:
    kit = messaging_kit
    await kit.register("alice")
    await kit.script("bob")
    await kit.sdk.one_way.send("alice", "bob", "hi")
    await kit.drain()
    history = kit._history
    whole = [*history.events]
    [settled] = [event for event in whole if event["e"] == "settle.ok"]
    bugs = {
        "it is done, and no run of it ended well": [event for event in whole if event["e"] != "h.end"],
        "it was never sent": [event for event in whole if not event["e"].startswith("send.")],
        "settled twice": [*whole, settled],
    }
    for told, events in bugs.items():
        kit._history = _Notebook(events)
        with pytest.raises(AssertionError, match=told):
            await kit.assert_no_lost()
    kit._history = history
    await kit.assert_no_lost()


# --- faults -----------------------------------------------------------------------------------------------------------


async def test_a_lost_answer_stores_and_settles_once(messaging_kit: MessagingKit) -> None:
    kit = messaging_kit
    await kit.register("alice")
    bob = await kit.script("bob", answers=["yes"])
    kit.faults.lose_answer("send")
    kit.faults.lose_answer("settle")
    assert await kit.sdk.conversation.send_and_wait("alice", "bob", "?") == "yes"
    await kit.sdk.one_way.send("alice", "bob", "hi")
    await kit.drain()
    assert bob.contents == ["?", "hi"]
    report = await kit.assert_no_lost()
    assert report.acked == 2


async def test_a_store_that_goes_on_losing_answers_leaves_the_outcome_unknown(messaging_kit: MessagingKit) -> None:
    kit = messaging_kit
    await kit.register("alice")
    bob = await kit.script("bob")
    kit.faults.lose_answer("send", times=1_000)
    sending = asyncio.create_task(kit.sdk.one_way.send("alice", "bob", "hi", idempotency_key="k"))
    await kit.clock.advance(15)
    with pytest.raises(OutcomeUnknownError):
        await sending
    kit.faults.clear()
    await kit.sdk.one_way.send("alice", "bob", "hi", idempotency_key="k")
    await kit.drain()
    assert bob.contents == ["hi"]
    await kit.assert_no_lost()


async def test_a_crash_before_the_settlement_has_the_message_handled_again(messaging_kit: MessagingKit) -> None:
    kit = messaging_kit
    await kit.register("alice")
    bob = await kit.script("bob", answers=["lost", "kept"])
    kit.faults.crash_before_settle()
    assert await kit.sdk.conversation.send_and_wait("alice", "bob", "?") == "kept"
    assert [one.context.attempt for one in bob.heard] == [1, 2]
    kit.faults.crash_before_settle(times=5)
    [id] = await kit.sdk.one_way.send("alice", "bob", "kills")
    await kit.drain()
    receipt = await kit.sdk.receipts.get(id)
    assert (receipt.state.value, receipt.attempt) == ("dead", 5)
    await kit.assert_no_lost()


async def test_a_store_that_refuses_and_a_meeting_that_does_not_answer(messaging_kit: MessagingKit) -> None:
    kit = messaging_kit
    await kit.register("alice", "carol")
    await kit.script("bob")
    kit.faults.fail(StorageFullError(), "send")
    with pytest.raises(StorageFullError):
        await kit.sdk.one_way.send("alice", "bob", "hi")
    meeting = kit.sdk.meeting
    id = await meeting.create_meeting("alice", ["carol"], 60)
    await meeting.attend_meeting("carol", id)
    await meeting.start_meeting("alice", id)
    kit.faults.lose_answer("speak")
    with pytest.raises(OutcomeUnknownError):
        await meeting.speak("alice", id, "Hello")
    assert (await meeting.get_meeting_history(id))[-1].content == "Hello"
    with pytest.raises(ValueError, match="no kind of commit"):
        kit.faults.fail(StorageFullError(), "swim")  # type: ignore[arg-type]


async def test_a_fault_that_never_happens_fails_the_test() -> None:
    with pytest.raises(AssertionError, match=r"never happened: lose_answer\('settle'\)"):
        async with MessagingKit() as kit:
            kit.faults.lose_answer("settle")

    async def fail() -> None:
        async with MessagingKit() as kit:
            kit.faults.crash_before_settle()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()


# --- fixtures, settings, contexts -------------------------------------------------------------------------------------


@pytest.fixture
def messaging_settings() -> dict[str, Any]:
    return {"messaging": {"handler_timeout": 30.0}}


async def test_kits_are_made_with_settings_and_are_apart(
    messaging_kit: MessagingKit, messaging_clock: HandClock, make_messaging_kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert messaging_clock is messaging_kit.clock
    assert messaging_kit.sdk.config.messaging.handler_timeout == 30.0
    monkeypatch.setenv("AGENT_MESSAGING_DATABASE_URL", "postgresql://nowhere/at_all")
    monkeypatch.setenv("REDIS_URL", "redis://nowhere:1/0")
    other = await make_messaging_kit(messaging={"max_attempts": 1})
    assert other.sdk.config.messaging.max_attempts == 1
    await other.register("alice")
    assert await messaging_kit.sdk.list_agents() == []
    assert await other.sdk.tasks.list() == []
    for wrong in ({"url": "sqlite:///file.db"}, {"coordination": {"mode": "redis"}}, {"config": Config()}):
        with pytest.raises(ConfigurationError, match="in memory"):
            MessagingKit(**wrong)


async def test_kits_of_one_loop_share_the_time_that_passes(
    messaging_kit: MessagingKit, make_messaging_kit: Any
) -> None:
    other = await make_messaging_kit()
    await other.register("alice", "bob")

    async def send_late() -> None:
        await asyncio.sleep(60)
        await other.sdk.one_way.send("alice", "bob", "late", require_handler=False)

    sending = asyncio.create_task(send_late())
    await messaging_kit.clock.advance(60)
    assert sending.done(), "the time went on while the store of the other kit was at work"

    loop: Any = asyncio.get_running_loop()
    turns, run_once = itertools.count(), loop._run_once
    loop._run_once = lambda: (next(turns), run_once())
    began = messaging_kit.clock.now()
    kits = (messaging_kit, messaging_kit, other)
    await asyncio.gather(*(kit.clock.advance(seconds) for kit, seconds in zip(kits, (5, 7, 6), strict=True)))
    del loop._run_once
    assert (messaging_kit.clock.now() - began).total_seconds() >= 7
    assert next(turns) < 10_000, "each took the other for something that runs"


async def test_an_sdk_object_of_the_programs_own_is_taken_before_it_is_started() -> None:
    sdk = AgentMessaging[Note]("sqlite://:memory:")
    async with MessagingKit(sdk=sdk) as kit:
        assert kit.sdk is sdk
        await kit.register("alice")
        bob = await kit.script("bob", notes=[ValueError()], takes=Note)
        kit.faults.lose_answer("send")
        await sdk.one_way.send("alice", "bob", Note(text="hi"))
        await kit.clock.advance(2)
        assert bob.contents == [Note(text="hi")] * 2
        assert (await kit.assert_no_lost()).justified_repeats == 1
        with pytest.raises(ValueError, match="is started"):
            MessagingKit(sdk=sdk)
    with pytest.raises(ValueError, match="or the settings"):
        MessagingKit(sdk=sdk, debug=True)


async def test_a_context_by_hand_tells_what_a_handler_did_with_it() -> None:
    async def handle(message: Any, context: MessageContext) -> str:
        await context.part("a")
        await context.part("b")
        await context.forward("carol")
        await context.forward("dave")
        return f"{context.sender_id} {context.receiver_id} {context.is_abandoned}"

    context = make_context("alice", "bob", requires_reply=True, metadata={"id": 1})
    assert (context.forwarded_to, context.sent_parts) == (None, [])
    assert await handle({}, context) == "alice bob False"
    assert (context.forwarded_to, context.sent_parts) == ("dave", ["a", "b"])
    context.abandon()
    await context.wait_abandoned()
    assert context.is_abandoned
    assert context.handler_context is HandlerContext.CONVERSATION
    assert context.message_id is not None
    turn = make_context(turn=Turn(1, None, ()))
    assert (turn.handler_context, turn.is_meeting_message, turn.requires_reply) == (HandlerContext.MEETING, True, False)
    assert make_context().handler_context is HandlerContext.ONE_WAY
