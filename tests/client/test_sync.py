"""The SDK for code without asyncio: what its calls do is tested with the asynchronous one; here is how they block."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agent_messaging import (
    AgentMessaging,
    AgentNotFoundError,
    ConfigurationError,
    EventLoopError,
    FinalAnswer,
    HandlerError,
    InvalidArgumentError,
    MeetingEventPayload,
    MeetingEventType,
    MessageContext,
    NotInitializedError,
    TimeoutError,
    sync,
)
from tests.client.support import SOON, make_config
from tests.support import eventually_sync

pytestmark = pytest.mark.sampled(1)
"""Each of these starts processes or fills stores: a run tries it on one store."""

WAIT = 30.0


class Note(BaseModel):
    text: str


@pytest.fixture
def blocking(url: str) -> Iterator[sync.AgentMessaging[Any]]:
    """Started, with alice, bob and carol."""
    with sync.AgentMessaging[Any](make_config(url)) as sdk:
        sdk.register_organization("acme", "Acme")
        for name in ("alice", "bob", "carol"):
            sdk.register_agent(name, "acme", name)
        yield sdk


def test_each_pattern(blocking: sync.AgentMessaging[Any]) -> None:
    """Notes, topics, asks from inside a handler, correspondence, meetings, tasks, receipts, events, pulling, search."""
    sdk = blocking
    events: list[str] = []

    @sdk.register_handler("bob")
    def bob(message: Any, context: MessageContext) -> str:
        return str(sdk.conversation.send_and_wait("bob", "carol", f"{message}?", timeout=WAIT)) + "!"

    @sdk.register_handler("carol")
    def carol(message: str, context: MessageContext) -> str:
        return message.upper()

    @sdk.register_meeting_handler("bob", attend=True)
    def turn(message: Any, context: MessageContext) -> str:
        return "me too"

    @sdk.register_event_handler(MeetingEventType.MEETING_ENDED)
    def ended(event: MeetingEventPayload) -> None:
        events.append("ended")

    @sdk.register_task_handler("worker", capabilities=["double"], max_concurrent_tasks=3)
    def double(payload: int, context: Any) -> int:
        return payload * 2

    assert sdk.conversation.send_and_wait("alice", "bob", "hi", timeout=WAIT) == "HI?!"
    assert sdk.sync_conversation.send_and_wait("alice", "bob", "so", timeout=WAIT) == "SO?!"
    outcomes = sdk.conversation.ask_many("alice", ["bob", "carol"], "x", timeout=WAIT)
    assert {outcome.recipient: outcome.answer for outcome in outcomes} == {"bob": "X?!", "carol": "X"}
    [receipt] = sdk.receipts.wait(sdk.one_way.send("bob", "carol", "note"), timeout=WAIT)
    assert receipt.state.value == "done"
    assert sdk.dead_letters.list() == []
    sdk.topics.subscribe("carol", "news.*")
    assert len(sdk.topics.publish("alice", "news.today", "x")) == 1
    said = sdk.meeting.hold("alice", ["bob"], "hello", max_turns=2)
    assert [one.content for one in said.messages if one.content in ("hello", "me too")] == ["hello", "me too"]
    eventually_sync(lambda: events == ["ended"])
    assert sorted(outcome.result for outcome in sdk.tasks.map("double", range(5), timeout=WAIT)) == [0, 2, 4, 6, 8]
    assert sdk.tasks.delegate("double", 21, wait=True, timeout=WAIT) == 42
    assert [one.content for one in sdk.search_messages("note")] == ["note"]


def test_pulling(blocking: sync.AgentMessaging[Any]) -> None:
    blocking.one_way.send("alice", "bob", {"text": "hi"}, require_handler=False)
    [received] = blocking.receive("bob", timeout=WAIT, payload_type=Note)
    assert received.content == Note(text="hi")
    assert received.context.sender_id == "alice"
    received.retry(reason="once more")
    [again] = blocking.receive("bob", timeout=WAIT, payload_type=Note)
    again.done()
    assert blocking.receipts.get(again.message_id).state.value == "done"
    assert blocking.receive("bob", timeout=0) == []


def test_parts_and_the_answer(blocking: sync.AgentMessaging[Any]) -> None:
    asked = threading.Event()
    given_up = threading.Event()

    @blocking.register_handler("bob")
    async def bob(message: Any, context: MessageContext) -> Any:
        for word in str(message).split():
            yield word
        if "for ever" in message:
            asked.set()
            await context.wait_abandoned()
            given_up.set()
        yield FinalAnswer("done")

    with blocking.conversation.ask("alice", "bob", "one two three", timeout=WAIT) as stream:
        assert list(stream) == ["one", "two", "three"]
        assert stream.answer == "done"
    assert blocking.conversation.ask("alice", "bob", "no parts", timeout=WAIT).answer == "done"
    for part in blocking.conversation.ask("alice", "bob", "for ever", timeout=WAIT):
        assert part == "for"
        assert asked.wait(WAIT)
        break
    assert given_up.wait(WAIT), "whoever leaves the loop gives the ask up"


def test_a_stream_keeps_nothing_of_what_it_has_given(blocking: sync.AgentMessaging[Any]) -> None:
    """It may be read for days."""

    @blocking.register_handler("bob")
    async def bob(message: Any, context: MessageContext) -> Any:
        for number in range(5):
            yield {"text": str(number)}

    with blocking.conversation.ask("alice", "bob", "hi", timeout=WAIT, part_type=Note) as stream:
        given = [weakref.ref(next(stream)) for _ in range(5)]
        eventually_sync(lambda: [one() for one in given] == [None] * 5)


def test_a_stream_is_closed_after_the_sdk_was(blocking: sync.AgentMessaging[Any]) -> None:
    with blocking.conversation.ask("alice", "bob", "hi", timeout=WAIT) as stream:
        blocking.close()
    with pytest.raises(NotInitializedError):
        stream.answer  # noqa: B018


def test_a_plain_handler_does_not_close_what_would_wait_for_it(blocking: sync.AgentMessaging[Any]) -> None:
    @blocking.register_handler("bob")
    def bob(message: Any, context: MessageContext) -> str:
        with pytest.raises(HandlerError, match="set an event"):
            blocking.close()
        return "still here"

    assert blocking.conversation.send_and_wait("alice", "bob", "hi", timeout=WAIT) == "still here"


def test_many_threads_may_close_at_once(blocking: sync.AgentMessaging[Any]) -> None:
    def close(number: int) -> None:
        time.sleep(number / 2000)
        blocking.close()

    for _ in range(3):
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(close, range(6)))
        blocking.initialize()


def test_the_types_of_payloads_come_along(url: str, blocking: sync.AgentMessaging[Any]) -> None:
    class Typed(sync.AgentMessaging[Note]):
        pass

    blocking.register_handler("bob")(lambda message, context: {"text": message["text"] + "!"})
    for make in (sync.AgentMessaging[Note], Typed):
        with make(make_config(url)) as sdk:
            assert sdk.conversation.send_and_wait("alice", "bob", Note(text="hi"), timeout=WAIT) == Note(text="hi!")


def test_errors_are_those_of_the_asynchronous_calls(url: str, blocking: sync.AgentMessaging[Any]) -> None:
    with pytest.raises(AgentNotFoundError, match="bob") as unknown:
        blocking.one_way.send("alice", "bobb", "hi")
    assert "await" not in str(unknown.value)
    with pytest.raises(InvalidArgumentError):
        blocking.meeting.create_meeting("alice", ["bob"], max_turns=0)
    with pytest.raises(TimeoutError):
        blocking.conversation.send_and_wait("alice", "bob", "hi", timeout=0.1, require_handler=False)
    new = sync.AgentMessaging[Any](make_config(url))
    with pytest.raises(NotInitializedError, match=r"in agent_messaging\.sync `with`"):
        new.one_way  # noqa: B018
    with pytest.raises(ConfigurationError):
        sync.AgentMessaging("http://nowhere")
    new.close()


def test_a_start_that_failed_leaves_no_thread_and_can_be_repeated(tmp_path: Any) -> None:
    path = tmp_path / "missing" / "store.db"
    sdk = sync.AgentMessaging[Any](make_config(f"sqlite:///{path}"))
    before = threading.active_count()
    with pytest.raises(Exception, match="missing"):
        sdk.initialize()
    eventually_sync(lambda: threading.active_count() == before)
    path.parent.mkdir()
    for _ in range(2):
        with sdk:
            assert sdk.list_organizations() == []
    eventually_sync(lambda: threading.active_count() == before)


def test_many_threads_ask_at_once(blocking: sync.AgentMessaging[Any]) -> None:
    together = threading.Barrier(8)

    @blocking.register_handler("bob", ordered=False)
    def bob(message: int, context: MessageContext) -> int:
        together.wait(WAIT)
        return message * 2

    def ask(number: int) -> int:
        answer: int = blocking.conversation.send_and_wait("alice", "bob", number, timeout=WAIT, thread=str(number))
        return answer

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [number * 2 for number in range(8)]


def test_a_handler_on_the_loop_is_told_not_to_block_it(blocking: sync.AgentMessaging[Any]) -> None:
    errors: list[BaseException] = []

    @blocking.register_handler("bob")
    async def bob(message: Any, context: MessageContext) -> str:
        try:
            blocking.one_way.send("bob", "alice", "hi")
        except EventLoopError as error:
            errors.append(error)
        return "answered"

    assert blocking.conversation.send_and_wait("alice", "bob", "hi", timeout=WAIT) == "answered"
    assert "would wait for itself" in str(errors[0])


async def test_code_on_another_loop_is_warned_and_served(blocking: sync.AgentMessaging[Any]) -> None:
    with pytest.warns(RuntimeWarning, match="to_thread"):
        assert len(blocking.list_agents()) == 3
    assert len(await asyncio.to_thread(blocking.list_agents)) == 3


def test_the_end_of_a_block_drains_as_its_error_says(url: str, blocking: sync.AgentMessaging[Any]) -> None:
    handled: list[str] = []

    def handle(message: str, context: MessageContext) -> None:
        time.sleep(0.05)
        handled.append(message)

    with sync.AgentMessaging[Any](make_config(url)) as sdk:
        sdk.register_handler("bob", concurrency=1)(handle)
        for number in range(3):
            sdk.one_way.send("alice", "bob", str(number))
    assert handled == ["0", "1", "2"]

    def fail() -> None:
        with sync.AgentMessaging[Any](make_config(url)) as sdk:
            sdk.register_handler("carol", concurrency=1)(handle)
            for number in range(20):
                sdk.one_way.send("alice", "carol", f"late {number}")
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    received = blocking.one_way.get_received_messages("carol")
    assert "queued" in {blocking.receipts.get(str(one.message_id)).state.value for one in received}


# --- processes --------------------------------------------------------------------------------------------------------

PROGRAM = """
import os, sys, threading, time
from agent_messaging import sync

sdk = sync.AgentMessaging(sys.argv[1])
began = threading.Event()

@sdk.register_handler("bob")
def bob(message, context):
    if message == "block":
        began.set()
        print("BEGUN", flush=True)
        time.sleep(60)

def interrupt():
    sdk.initialize()
    print("READY", flush=True)
    try:
        sdk.conversation.send_and_wait("alice", "carol", "hi", timeout=60, require_handler=False)
    except KeyboardInterrupt:
        print("INTERRUPTED", len(sdk.list_agents()), flush=True)
    sdk.close()

def forget():
    sdk.initialize()
    sdk.one_way.send("alice", "bob", "block")
    began.wait(30)
    sys.exit(3)

def fork():
    sdk.initialize()
    stream = sdk.conversation.ask("alice", "bob", "hi", timeout=60)
    child = os.fork()
    if child == 0:
        for call in (sdk.list_agents, lambda: next(stream)):
            try:
                call()
            except RuntimeError as error:
                print("REFUSED" if "forked" in str(error) else error, flush=True)
        sdk.initialize()
        print("CHILD", len(sdk.list_agents()), flush=True)
        sdk.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print("PARENT", len(sdk.list_agents()), flush=True)
    sdk.close()

def outlive():
    sdk.initialize()
    def work():
        threading.main_thread().join()
        sdk.one_way.send("alice", "carol", "words to find", require_handler=False)
        print("FOUND", len(sdk.search_messages("words", metadata_filter={"a": 1})), len(sdk.search_messages("words")))
    threading.Thread(target=work).start()

def serve():
    sdk.run_until_stopped(on_started=lambda: print("READY", len(sdk.list_agents()), flush=True))
    print("LEFT", flush=True)

globals()[sys.argv[2]]()
"""


def run(url: str, how: str) -> subprocess.Popen[str]:
    # Since 3.12 Python itself warns of every fork beside threads.
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", PROGRAM, url, how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.sampled(1)
def test_ctrl_c_ends_the_call_and_not_the_object(url: str, blocking: sync.AgentMessaging[Any]) -> None:
    process = run(url, "interrupt")
    assert read(process) == "READY"
    eventually_sync(lambda: blocking.conversation.get_active_sessions("carol"))
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=WAIT)
    assert (said.strip(), errors, process.returncode) == ("INTERRUPTED 3", "", 0)


@pytest.mark.sampled(1)
def test_a_program_that_forgets_to_close_gives_back_what_it_handles(
    url: str, blocking: sync.AgentMessaging[Any]
) -> None:
    process = run(url, "forget")
    assert read(process) == "BEGUN"
    said, errors = process.communicate(timeout=WAIT)
    assert (said, process.returncode) == ("", 3)
    assert "Traceback" not in errors
    [found] = blocking.one_way.get_received_messages("bob")
    receipt = blocking.receipts.get(str(found.message_id))
    assert (receipt.state.value, receipt.attempt) == ("queued", 0)


@pytest.mark.sampled(1)
def test_a_thread_works_on_after_the_end_of_the_main_thread(url: str, blocking: sync.AgentMessaging[Any]) -> None:
    process = run(url, "outlive")
    said, errors = process.communicate(timeout=WAIT)
    assert (said.strip(), errors, process.returncode) == ("FOUND 0 1", "", 0)


@pytest.mark.sampled(1)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are POSIX's")
def test_a_forked_child_starts_anew(url: str, blocking: sync.AgentMessaging[Any]) -> None:
    process = run(url, "fork")
    said, errors = process.communicate(timeout=WAIT)
    assert (said.split("\n"), errors) == (["REFUSED", "REFUSED", "CHILD 3", "PARENT 3", ""], "")


@pytest.mark.sampled(1)
def test_it_serves_until_a_signal(url: str, blocking: sync.AgentMessaging[Any]) -> None:
    process = run(url, "serve")
    assert read(process) == "READY 3"
    blocking.receipts.wait(blocking.one_way.send("alice", "bob", "hi"), timeout=WAIT)
    process.send_signal(signal.SIGTERM)
    said, errors = process.communicate(timeout=WAIT)
    assert (said.strip(), errors, process.returncode) == ("LEFT", "", 0)


def test_another_thread_does_not_serve_until_a_signal(blocking: sync.AgentMessaging[Any]) -> None:
    errors: list[BaseException] = []

    def serve() -> None:
        try:
            blocking.run_until_stopped()
        except ConfigurationError as error:
            errors.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join(WAIT)
    assert "main thread" in str(errors[0])


# --- beside an asynchronous SDK ---------------------------------------------------------------------------------------


async def test_another_thread_calls_through_the_portal(url: str) -> None:
    async with AgentMessaging[Any](make_config(url)) as sdk:
        await sdk.register_organization("acme", "Acme")
        for name in ("alice", "bob", "carol"):
            await sdk.register_agent(name, "acme", name)
        portal = sdk.portal

        @sdk.register_handler("bob")
        def bob(message: str, context: MessageContext) -> str:
            asked = portal.call(sdk.conversation.send_and_wait, "bob", "carol", message, timeout=WAIT)
            with pytest.raises(HandlerError, match="set an event"):
                portal.call(sdk.close)  # which would wait for this handler
            return f"carol says {asked}"

        @sdk.register_handler("carol")
        async def carol(message: str, context: MessageContext) -> str:
            return message.upper()

        assert await sdk.conversation.send_and_wait("alice", "bob", "hi", timeout=WAIT) == "carol says HI"
        with pytest.raises(AgentNotFoundError):
            await asyncio.to_thread(portal.call, sdk.get_agent, "dave")
        with pytest.raises(EventLoopError, match="wait for itself"):
            portal.call(sdk.list_agents)
        waiting = asyncio.create_task(
            asyncio.to_thread(portal.call, sdk.conversation.wait_for_message, "alice", "bob", SOON)
        )
        await asyncio.sleep(0.1)
    with pytest.raises(NotInitializedError):
        await waiting
    with pytest.raises(NotInitializedError):
        sdk.portal  # noqa: B018
    with pytest.raises(NotInitializedError):
        await asyncio.to_thread(portal.call, sdk.list_agents)


def test_the_end_of_the_loop_ends_a_call_through_the_portal(url: str) -> None:
    errors: list[BaseException] = []
    threads: list[threading.Thread] = []

    async def main() -> None:
        sdk = AgentMessaging[Any](make_config(url))
        await sdk.initialize()
        began = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def hang() -> None:
            loop.call_soon(began.set)
            await asyncio.Event().wait()

        def call() -> None:
            try:
                sdk.portal.call(hang)
            except NotInitializedError as error:
                errors.append(error)

        threads.append(threading.Thread(target=call))
        threads[0].start()
        await began.wait()

    asyncio.run(main())
    threads[0].join(WAIT)
    assert "loop" in str(errors[0])


# --- the same calls ---------------------------------------------------------------------------------------------------


def test_each_class_has_the_calls_of_its_twin() -> None:
    from agent_messaging import client, coordination, handlers, messaging, observing

    homes: list[Any] = [messaging, client, coordination.tasks, handlers.events, observing]
    homes += [messaging.conversation, messaging.pulling]
    renamed = {"aclose": "close"}
    by_hand = {"engine", "store", "portal", "find_engine", "conversation"}
    for name in sync.__all__:
        twin: Any = next(getattr(home, name) for home in homes if hasattr(home, name))
        calls = {renamed.get(call, call) for call in dir(twin) if not call.startswith("_")} - by_hand
        missing = calls - {call for call in dir(vars(sync)[name]) if not call.startswith("_")}
        assert not missing, name
        for call in calls:
            mine, its = getattr(vars(sync)[name], call), getattr(twin, call, None)
            if inspect.isfunction(mine) and inspect.iscoroutinefunction(its):
                assert list(inspect.signature(mine).parameters) == list(inspect.signature(its).parameters), call


def test_what_is_written_by_the_script_is_what_it_writes() -> None:
    subprocess.run([sys.executable, "scripts/generate_sync.py", "--check"], check=True, cwd=Path(__file__).parents[2])
