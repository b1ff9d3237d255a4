"""Parts of an answer reach an asker that reads them, in order, in whatever process; the answer alone is kept."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from agent_messaging import (
    AskStream,
    ConversationEndedError,
    ConversationTimeoutError,
    DatabaseError,
    EventLoopError,
    FinalAnswer,
    HandlerError,
    InvalidArgumentError,
    MessageContext,
    NotInitializedError,
    PartsRestartedError,
    PayloadError,
    SessionLockError,
    StorageUnavailableError,
    register_conversation_handler,
    register_one_way_handler,
)
from agent_messaging.delivery import parts as delivery_parts
from agent_messaging.delivery.lots import PAGE
from agent_messaging.ids import uuid7
from agent_messaging.storage.parts import MOST_PARTS
from agent_messaging.storage.ports import Claim, PartCursor, PartPage
from tests.client.conversing import rows
from tests.client.support import SOON, MakeSdk, Sdk
from tests.client.test_polls import note_statements
from tests.support import eventually


@dataclass
class Token:
    """A part of a type."""

    text: str


async def count(request: Any, context: MessageContext) -> Any:
    """Send so many parts, then the answer."""
    for number in range(request["parts"]):
        await context.part(number)
    return "counted"


async def two(make_sdk: MakeSdk, elsewhere: bool) -> tuple[Sdk, Sdk]:
    """The asker's SDK object and the handler's: one, or two on one store."""
    asker = await make_sdk()
    await asker.add_people("alice", "bob", "carol")
    return asker, await make_sdk() if elsewhere else asker


def ask(sdk: Sdk, message: Any = "go", **options: Any) -> AskStream[Any, Any]:
    """Alice asks bob."""
    return sdk.conversation.ask("alice", "bob", message, **{"timeout": SOON, "require_handler": False, **options})


async def collect(stream: AskStream[Any, Any]) -> list[Any]:
    """All parts."""
    return [part async for part in stream]


async def no_parts_are_left(sdk: Sdk) -> None:
    """The store removes what belongs to an ask that has ended."""

    async def left() -> list[str]:
        findings: list[str] = []
        for table in ("streams", "parts"):
            findings += [f"{table}: {row}" for row in await rows(sdk, f"select * from {table}")]
        return findings

    await eventually(left, SOON, until=lambda found: not found)


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_parts_come_before_the_answer_in_their_order(make_sdk: MakeSdk, elsewhere: bool) -> None:
    asker, worker = await two(make_sdk, elsewhere)
    worker.register_handler("bob")(count)
    await worker.wait_until_served(["bob"], timeout=SOON)
    stream = ask(asker, {"parts": 2_500})
    assert await collect(stream) == list(range(2_500))
    assert await stream.answer == "counted"
    assert await stream.answer == "counted", "any number of times"
    assert await collect(stream) == []
    await no_parts_are_left(asker)


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_part_comes_while_its_handler_is_at_work(make_sdk: MakeSdk, elsewhere: bool) -> None:
    asker, worker = await two(make_sdk, elsewhere)
    turns: asyncio.Queue[str] = asyncio.Queue()

    @worker.register_handler("bob")
    async def relay(request: Any, context: MessageContext) -> Any:
        while (word := await turns.get()) != "end":
            await context.part(word)
        return "done"

    stream = ask(asker)
    for word in ("one", "two", "three"):
        turns.put_nowait(word)
        assert await anext(stream) == word
    turns.put_nowait("end")
    assert await stream.answer == "done"


async def test_a_generator_yields_parts_and_its_answer_last(sdk: Sdk) -> None:
    closed = asyncio.Event()

    @register_conversation_handler(agent="bob")
    async def write(request: Any, context: MessageContext) -> AsyncIterator[Any]:
        try:
            for word in ("a", "b"):
                yield Token(word)
            if request == "answer":
                yield FinalAnswer({"text": "ab"})
                yield Token("never")
        finally:
            closed.set()

    typed = sdk.conversation.ask("alice", "bob", "answer", timeout=SOON, part_type=Token, response_type=dict[str, str])
    assert [part.text async for part in typed] == ["a", "b"]
    assert await typed.answer == {"text": "ab"}
    assert closed.is_set(), "a generator is closed after its answer"
    assert await sdk.conversation.send_and_wait("alice", "bob", "answer", timeout=SOON) == {"text": "ab"}
    assert await sdk.conversation.send_and_wait("alice", "bob", "list", timeout=SOON) == [{"text": "a"}, {"text": "b"}]
    stream = ask(sdk, "list")
    assert await collect(stream) == [{"text": "a"}, {"text": "b"}]
    assert await stream.answer == [{"text": "a"}, {"text": "b"}]


async def test_a_list_of_too_many_parts_is_no_answer(sdk: Sdk) -> None:
    @register_conversation_handler(agent="bob")
    async def write(request: Any, context: MessageContext) -> AsyncIterator[Any]:
        for number in range(MOST_PARTS + 1):
            yield number

    with pytest.raises(HandlerError, match="FinalAnswer"):
        await sdk.conversation.send_and_wait("alice", "bob", "go", timeout=SOON)


def test_a_generator_is_for_conversations_alone() -> None:
    async def yielding(message: Any, context: MessageContext) -> AsyncIterator[Any]:
        yield 1

    def plain(message: Any, context: MessageContext) -> Any:
        yield 1

    with pytest.raises(InvalidArgumentError, match="nobody would take"):
        register_one_way_handler(yielding)
    with pytest.raises(InvalidArgumentError, match="async def"):
        register_conversation_handler(plain)
    register_conversation_handler(on_abandoned="cancel")(yielding)


async def test_who_does_not_read_costs_nothing_and_part_does_nothing(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    register_conversation_handler(agent="bob")(count)
    calls: list[str] = []
    parts = sdk._started().store.parts
    for verb in ("write", "read", "find_streams", "acknowledge", "end"):
        monkeypatch.setattr(parts, verb, lambda *_, verb=verb, **__: calls.append(verb))
    assert await sdk.conversation.send_and_wait("alice", "bob", {"parts": 20_000}, timeout=SOON) == "counted"
    await sdk.conversation.send_no_wait("alice", "bob", {"parts": 3})
    assert await ask(sdk, {"parts": 3}).answer == "counted", "its answer alone is awaited"
    assert calls == []
    await MessageContext("alice", "bob").part("of no run")


async def test_a_plain_ask_takes_no_statement_more_where_parts_may_be_sent(make_sdk: MakeSdk) -> None:
    """The same statements, whether its handler sends parts or knows nothing of them."""
    sdk = await make_sdk(max_pool_size=1)
    await sdk.add_people("alice", "bob", "carol")
    sdk.register_handler("bob")(count)

    @sdk.register_handler("carol")
    async def plain(request: Any, context: MessageContext) -> str:
        return "counted"

    seen: list[str] = []
    await note_statements(sdk, seen)
    taken = []
    for responder in ("bob", "carol", "bob", "carol"):
        seen.clear()
        assert await sdk.conversation.send_and_wait("alice", responder, {"parts": 10}, timeout=SOON) == "counted"
        taken.append([sql for sql in seen if "parts" in sql or sql.lstrip().lower().startswith(("insert", "update"))])
    assert taken[2] == taken[3]
    assert not any("into parts" in sql or "into streams" in sql for sql in taken[2])


async def test_nothing_is_sent_before_the_first_await(sdk: Sdk) -> None:
    stream = ask(sdk)
    with pytest.raises(InvalidArgumentError):
        ask(sdk, timeout=-1)
    with pytest.raises(PayloadError):
        ask(sdk, object())
    await stream.aclose()
    with pytest.raises(ConversationEndedError):
        await anext(stream)
    async with ask(sdk) as unread:
        pass
    with pytest.raises(ConversationEndedError):
        await unread.answer
    assert await rows(sdk, "select * from messages") == []


async def test_a_stream_is_used_on_the_loop_of_its_sdk(sdk: Sdk) -> None:
    register_conversation_handler(agent="bob")(count)
    begun, unbegun = ask(sdk, {"parts": 2}), ask(sdk, thread="other")
    assert await anext(begun) == 0

    async def use() -> None:
        for stream in (begun, unbegun):
            with pytest.raises(EventLoopError):
                await anext(stream)
            with pytest.raises(EventLoopError):
                await stream.answer
            with pytest.raises(EventLoopError):
                await stream.aclose()

    await asyncio.to_thread(lambda: asyncio.run(use()))
    assert await anext(begun) == 1
    assert await begun.answer == "counted"
    assert len(await rows(sdk, "select * from asks")) == 1


@pytest.mark.sampled(4)
@pytest.mark.parametrize("how", ["break", "cancel", "close", "with"])
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_whoever_leaves_gives_the_ask_up(make_sdk: MakeSdk, how: str, elsewhere: bool) -> None:
    asker, worker = await two(make_sdk, elsewhere)
    left = asyncio.Event()

    @worker.register_handler("bob", on_abandoned="cancel")
    async def endless(request: Any, context: MessageContext) -> AsyncIterator[Any]:
        try:
            while True:
                yield "more"
        finally:
            left.set()

    async def read() -> None:
        match how:
            case "break":
                async for _ in ask(asker):
                    break
            case "cancel":
                async for _ in ask(asker):
                    task = asyncio.current_task()
                    assert task is not None
                    task.cancel()
            case "close":
                stream = ask(asker)
                await anext(stream)
                await stream.aclose()
                with pytest.raises(ConversationEndedError):
                    await stream.answer
            case "with":
                async with ask(asker) as stream:
                    await anext(stream)

    reading = asyncio.create_task(read())
    if how == "cancel":
        with pytest.raises(asyncio.CancelledError):
            await reading
    else:
        await reading
    del reading
    gc.collect()
    async with asyncio.timeout(SOON):
        await left.wait()
    await no_parts_are_left(asker)
    await eventually(lambda: states(asker), SOON, until=lambda found: found == ["cancelled"])


async def states(sdk: Sdk) -> list[str]:
    """The states of all asks."""
    return [state for (state,) in await rows(sdk, "select state from asks")]


async def test_the_answer_can_be_awaited_after_some_parts(sdk: Sdk) -> None:
    register_conversation_handler(agent="bob")(count)
    stream = ask(sdk, {"parts": MOST_PARTS + 2_000})
    async for part in stream:
        if part == 3:
            break
    assert await stream.answer == "counted", "nobody waits for a reader that reads no more"
    await no_parts_are_left(sdk)


async def test_one_task_reads_while_another_awaits_the_answer(sdk: Sdk) -> None:
    register_conversation_handler(agent="bob")(count)
    stream = ask(sdk, {"parts": 1_500})
    assert await anext(stream) == 0
    answer = asyncio.create_task(asyncio.wait_for(stream.answer, SOON))
    assert await collect(stream) == list(range(1, 1_500))
    assert await answer == "counted"


async def test_an_ask_begun_by_its_answer_has_no_parts(sdk: Sdk) -> None:
    register_conversation_handler(agent="bob")(count)
    stream = ask(sdk, {"parts": 3})
    await stream.answer
    with pytest.raises(InvalidArgumentError, match="Iterate over it first"):
        await collect(stream)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_run_far_ahead_waits_for_its_reader(make_sdk: MakeSdk, elsewhere: bool) -> None:
    asker, worker = await two(make_sdk, elsewhere)
    sent: list[int] = []

    @worker.register_handler("bob")
    async def hurry(request: Any, context: MessageContext) -> Any:
        for number in range(MOST_PARTS + 2_000):
            await context.part(number)
            sent.append(number)
        return "all"

    stream = ask(asker)
    assert await anext(stream) == 0
    await eventually(lambda: len(sent), SOON, until=lambda found: found >= MOST_PARTS - 1_000)
    assert len(sent) < MOST_PARTS + 1_000, "it is not further ahead than it may be"
    assert await collect(stream) == list(range(1, MOST_PARTS + 2_000))
    assert await stream.answer == "all"


@pytest.mark.sampled(1)
async def test_large_parts_are_bounded_by_their_bytes(sdk: Sdk) -> None:
    sent: list[int] = []

    @register_conversation_handler(agent="bob")
    async def hurry(request: Any, context: MessageContext) -> Any:
        for number in range(40):
            await context.part("x" * 1_000_000)
            sent.append(number)
        return "all"

    stream = ask(sdk)
    await anext(stream)
    await eventually(lambda: len(sent), SOON, until=lambda found: found >= 15)
    assert len(sent) < 40
    assert len(await collect(stream)) == 39
    assert await stream.answer == "all"


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_run_that_waits_for_a_reader_that_leaves_goes_on(make_sdk: MakeSdk, elsewhere: bool) -> None:
    asker, worker = await two(make_sdk, elsewhere)
    ended = asyncio.Event()

    @worker.register_handler("bob")
    async def hurry(request: Any, context: MessageContext) -> Any:
        for number in range(MOST_PARTS + 2_000):
            await context.part(number)
        await context.wait_abandoned()
        ended.set()

    async with ask(asker) as stream:
        await anext(stream)
    async with asyncio.timeout(SOON):
        await ended.wait()


async def test_parts_that_were_sent_come_before_a_failure(sdk: Sdk) -> None:
    @register_conversation_handler(agent="bob")
    async def fail(request: Any, context: MessageContext) -> Any:
        await context.part("one")
        await context.part("two")
        raise RuntimeError("no more ink")

    stream = ask(sdk)
    assert [await anext(stream), await anext(stream)] == ["one", "two"]
    with pytest.raises(HandlerError, match="no more ink"):
        await anext(stream)
    with pytest.raises(HandlerError, match="no more ink"):
        await stream.answer
    await no_parts_are_left(sdk)


async def test_a_reader_whose_time_is_over_is_told(sdk: Sdk) -> None:
    @register_conversation_handler(agent="bob")
    async def slow(request: Any, context: MessageContext) -> Any:
        await context.part("soon")
        await context.wait_abandoned()

    stream = ask(sdk, timeout=0.4)
    assert await anext(stream) == "soon"
    with pytest.raises(ConversationTimeoutError):
        await anext(stream)


async def test_a_last_look_that_is_slower_than_its_reader_misses_nothing(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it looks for was given and removed by another look meanwhile, and more is left behind that."""
    parts = sdk._started().parts
    read = parts.read
    begun, removed = asyncio.Event(), asyncio.Event()
    cursors: list[PartCursor] = []

    async def read_late(cursor: PartCursor) -> PartPage | None:
        cursors.append(cursor)
        begun.set()
        await removed.wait()
        return await read(cursor)

    monkeypatch.setattr(parts, "read", read_late)
    sdk.register_handler("bob")(count)
    stream = ask(sdk, {"parts": 5 * PAGE})
    given = [await anext(stream)]
    await begun.wait()  # the ask has ended
    behind = cursors[0].number + PAGE
    while len(given) <= behind:  # the last of these acknowledges what the late look is to find
        given.append(await anext(stream))
    await eventually(
        lambda: rows(sdk, "select min(number) from parts"), until=lambda found: int(str(found[0][0])) > behind
    )
    removed.set()
    given += await collect(stream)
    assert given == list(range(5 * PAGE))


async def test_an_ask_that_is_refused_is_refused_in_the_loop(sdk: Sdk) -> None:
    @register_conversation_handler(agent="bob")
    async def slow(request: Any, context: MessageContext) -> Any:
        await context.part("soon")
        await context.wait_abandoned()

    async with ask(sdk) as first:
        await anext(first)
        with pytest.raises(SessionLockError):
            await collect(ask(sdk))


async def test_parts_are_checked_and_of_the_type_that_is_asked_for(sdk: Sdk) -> None:
    @register_conversation_handler(agent="bob")
    async def send(request: Any, context: MessageContext) -> Any:
        with pytest.raises(PayloadError):
            await context.part(object())
        await context.part({"wrong": 1})
        await context.part({"text": "right"})
        return "sent"

    stream = ask(sdk, part_type=Token)
    with pytest.raises(HandlerError, match="part_type"):
        await anext(stream)
    assert await anext(stream) == Token("right"), "the next one is not lost by it"
    assert await stream.answer == "sent"


async def test_a_thread_is_told_to_send_no_parts(sdk: Sdk) -> None:
    told: list[BaseException] = []

    @register_conversation_handler(agent="bob")
    def plain(request: Any, context: MessageContext) -> Any:
        try:
            asyncio.run(context.part("one"))
        except EventLoopError as error:
            told.append(error)
        return "plain"

    stream = ask(sdk)
    assert await collect(stream) == []
    assert await stream.answer == "plain"
    assert "async def" in str(told[0])


async def test_a_repeat_joins_the_ask_and_gets_its_answer_alone(sdk: Sdk) -> None:
    opened = asyncio.Event()

    @register_conversation_handler(agent="bob")
    async def send(request: Any, context: MessageContext) -> Any:
        await context.part("one")
        await opened.wait()
        return "once"

    first, again = ask(sdk, idempotency_key="k"), ask(sdk, idempotency_key="k")
    assert await anext(first) == "one"
    joining = asyncio.create_task(collect(again))
    await asyncio.sleep(0)
    opened.set()
    assert await joining == []
    assert (await first.answer, await again.answer) == ("once", "once")


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_run_that_was_given_back_begins_its_parts_anew_and_the_reader_is_told(
    make_sdk: MakeSdk, elsewhere: bool
) -> None:
    asker, _ = await two(make_sdk, False)
    worker, runs = await make_sdk(drain_timeout=0.1), 0

    async def send(request: Any, context: MessageContext) -> Any:
        nonlocal runs
        runs += 1
        for word in ("alpha", "beta"):
            await context.part(f"{word} {runs}")
        if runs == 1:
            await asyncio.get_running_loop().create_future()
        return runs

    worker.register_handler("bob")(send)
    await worker.wait_until_served(["bob"], timeout=SOON)
    stream = ask(asker)
    assert [await anext(stream), await anext(stream)] == ["alpha 1", "beta 1"]
    taking_over = await make_sdk() if elsewhere else asker
    taking_over.register_handler("bob")(send)
    await worker.close()
    with pytest.raises(PartsRestartedError, match="iterate over the same stream"):
        await anext(stream)
    assert await collect(stream) == ["alpha 2", "beta 2"]
    assert await stream.answer == 2


async def test_at_most_one_write_in_a_pause_and_one_for_the_last(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, times = asyncio.get_running_loop(), []
    store = sdk._started().store.parts
    write, time, looked = store.write, loop.time, loop.time()

    def look() -> float:
        nonlocal looked
        looked = time()
        return looked

    async def timed(batches: Any) -> Any:
        times.append(looked)  # what began the write saw this time; another look may be late on a busy machine
        return await write(batches)

    monkeypatch.setattr(loop, "time", look)
    monkeypatch.setattr(store, "write", timed)

    @register_conversation_handler(agent="bob")
    async def drip(request: Any, context: MessageContext) -> Any:
        while len(times) < 6:
            await context.part("drop")
            await asyncio.sleep(delivery_parts.PAUSE / 20)
        await context.part("the last drop")
        return "dry"

    assert (await collect(ask(sdk)))[-1] == "the last drop"
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert min(pauses[:-1]) >= delivery_parts.PAUSE * 0.99
    assert len(times) == 7


async def test_what_a_run_sends_in_a_pause_is_one_write_and_its_end_waits_for_no_pause(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = sdk._started().parts
    monkeypatch.setattr(parts, "pause", 3600.0)
    write, written = parts.store.write, []

    async def noted(batches: Any) -> Any:
        written.append([part.number for batch in batches for part in batch.parts])
        return await write(batches)

    monkeypatch.setattr(parts.store, "write", noted)

    @register_conversation_handler(agent="bob")
    async def drip(request: Any, context: MessageContext) -> Any:
        await context.part("the first drop")
        await eventually(lambda: written, SOON)
        for _ in range(100):
            await context.part("drop")
            await asyncio.sleep(0)
        return "dry"

    assert len(await collect(ask(sdk))) == 101
    assert written == [[1], [*range(2, 102)]]


async def test_a_stream_that_nobody_keeps_leaves_nothing_behind(sdk: Sdk) -> None:
    """Ten askers that take one part each, in threads of their own, and go."""
    register_conversation_handler(agent="bob")(count)
    for number in range(10):
        async for _ in ask(sdk, {"parts": 50}, thread=f"t{number}"):
            break
    await no_parts_are_left(sdk)


async def test_the_parts_of_an_ask_that_is_passed_on_begin_anew_with_the_agent_that_has_it(sdk: Sdk) -> None:
    @sdk.register_handler("bob")
    async def pass_on(request: Any, context: MessageContext) -> Any:
        await context.part("from bob")
        await asyncio.wait_for(seen.wait(), SOON)
        await context.forward("carol")
        await context.part("too late")

    @sdk.register_handler("carol")
    async def answer(request: Any, context: MessageContext) -> AsyncIterator[Any]:
        yield "from carol"
        yield FinalAnswer("answered")

    seen = asyncio.Event()
    stream = ask(sdk)
    assert await anext(stream) == "from bob"
    seen.set()
    with pytest.raises(PartsRestartedError):
        await anext(stream)
    assert await collect(stream) == ["from carol"]
    assert await stream.answer == "answered"
    await no_parts_are_left(sdk)


@pytest.mark.parametrize("side", ["asker", "worker"])
async def test_a_stream_ends_with_the_sdk_of_either_side(make_sdk: MakeSdk, side: str) -> None:
    asker, worker = await make_sdk(drain_timeout=0.1), await make_sdk(drain_timeout=0.1)
    await asker.add_people("alice", "bob", "carol")

    @worker.register_handler("bob")
    async def hold(request: Any, context: MessageContext) -> Any:
        await context.part("one")
        await context.wait_abandoned()

    stream = ask(asker, timeout=2.0)
    assert await anext(stream) == "one"
    reading = asyncio.create_task(collect(stream))
    await asyncio.sleep(0)
    await (asker if side == "asker" else worker).close()
    with pytest.raises(NotInitializedError if side == "asker" else ConversationTimeoutError):
        await reading
    await no_parts_are_left(worker if side == "asker" else asker)


async def test_a_note_to_a_handler_that_yields_is_handled(sdk: Sdk) -> None:
    handled: list[Any] = []

    @sdk.register_handler("bob")
    async def take(note: Any, context: MessageContext) -> AsyncIterator[Any]:
        yield "for nobody"
        handled.append(note)

    [receipt] = await sdk.wait(await sdk.one_way.send("alice", "bob", "hello"))
    assert (receipt.state.value, handled) == ("done", ["hello"])


async def test_parts_that_cannot_be_read_at_the_end_are_told_and_the_answer_is_there(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sdk._started().store.parts
    read, is_away = store.read, asyncio.Event()

    async def fail(*args: Any) -> Any:
        if is_away.is_set():
            raise StorageUnavailableError("gone")
        return await read(*args)

    monkeypatch.setattr(store, "read", fail)

    @register_conversation_handler(agent="bob")
    async def send(request: Any, context: MessageContext) -> Any:
        await context.part("one")
        await asyncio.wait_for(seen.wait(), SOON)
        await context.part("two")
        return "sent"

    seen = asyncio.Event()
    stream = ask(sdk)
    assert await anext(stream) == "one"
    is_away.set()
    seen.set()
    with pytest.raises(StorageUnavailableError):
        await anext(stream)
    assert await stream.answer == "sent"


async def test_parts_that_the_store_refuses_fail_their_run_and_no_other(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sdk._started().store.parts
    write = store.write

    async def refuse(batches: Any) -> Any:
        if any("bad" in part.content for batch in batches for part in batch.parts):
            raise DatabaseError("refused")
        return await write(batches)

    monkeypatch.setattr(store, "write", refuse)

    @register_conversation_handler(agent="bob")
    async def echo(request: Any, context: MessageContext) -> Any:
        both.release()
        await begun.wait()
        await context.part(request)
        return "said"

    both, begun = asyncio.Semaphore(0), asyncio.Event()
    async with ask(sdk, "good", thread="good") as good, ask(sdk, "bad", thread="bad") as bad:
        reading = [asyncio.ensure_future(anext(stream)) for stream in (bad, good)]
        for _ in reading:
            await both.acquire()
        begun.set()
        assert await asyncio.wait_for(reading[1], SOON) == "good"
        assert await good.answer == "said"
        with pytest.raises(HandlerError, match="refused"):
            await reading[0]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_run_that_outlives_the_sdk_does_not_wait_for_its_parts_for_ever(sdk: Sdk) -> None:
    """It ignored its cancellation, and goes on as long as the loop does."""
    delivery: Any = SimpleNamespace(message_id=uuid7(), claim=Claim(1, 1, 1))
    sender = sdk._started().parts.sender(delivery)
    await sdk.close()
    async with asyncio.timeout(SOON), sender:
        await sender.send("part")
