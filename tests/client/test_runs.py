"""How a run ends, whatever its handler does: counted, told, and never lost."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from agent_messaging import MessageContext
from tests.client.support import SOON, MakeSdk, Sdk
from tests.support import eventually

pytestmark = pytest.mark.parametrize("backend", ["sqlite"])  # nothing here depends on the backend


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text either")


class OwnExit(BaseException):
    pass


class Order(BaseModel):
    number: int


class Iterated:
    """An awaitable of a plain iterator, which takes no error: of a future that nobody ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.never = loop.create_future()

    def __await__(self) -> Any:
        self.never._asyncio_future_blocking = True
        return iter([self.never])


def raise_mute() -> None:
    raise Mute


def raise_generator_exit() -> None:
    raise GeneratorExit


def raise_own_exit() -> None:
    raise OwnExit


def raise_cancelled() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("fault", [raise_mute, raise_generator_exit, raise_own_exit, raise_cancelled])
async def test_whatever_a_handler_raises_is_a_counted_failure(make_sdk: MakeSdk, fault: Callable[[], None]) -> None:
    sdk = await make_sdk(max_attempts=2, retry_delay=0.0)
    await sdk.add_people("alice", "bob")
    attempts = []

    @sdk.register_handler("bob")
    async def bob(message: object, context: MessageContext) -> None:
        attempts.append(context.attempt)
        fault()

    ids = await sdk.one_way.send("alice", "bob", "hi")
    [receipt] = await sdk.receipts.wait(ids, timeout=SOON)
    assert (receipt.state, attempts, len(receipt.reasons)) == ("dead", [1, 2], 2)


PROGRAM = """
import asyncio, sys
from agent_messaging import AgentMessaging, Config

async def main():
    async with AgentMessaging(Config(url=sys.argv[1], messaging={"max_attempts": 2, "retry_delay": 0.01})) as sdk:
        @sdk.register_handler("bob")
        {head} fatal(message, context):
            raise {error}

        @sdk.register_handler("carol")
        async def innocent(message, context):
            print("RUNS", flush=True)
            await asyncio.Event().wait()

        await sdk.one_way.send("alice", "carol", "wait", require_handler=False) if {first} else None
        while {first} and not sdk._started().claims.running:
            await asyncio.sleep(0)
        await sdk.one_way.send("alice", "bob", "die") if {first} else None
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("head", ["async def", "def"])
@pytest.mark.parametrize(
    ("error", "exit_code", "attempt", "event"),
    [("SystemExit(3)", 3, 1, "failed"), ("KeyboardInterrupt", -signal.SIGINT, 0, "returned")],
)
async def test_a_handler_that_ends_its_process_leaves_no_claim_and_is_not_run_for_ever(
    make_sdk: MakeSdk, url: str, head: str, error: str, exit_code: int, attempt: int, event: str
) -> None:
    sdk = await make_sdk(require_handler=False)
    await sdk.add_people("alice", "bob", "carol")

    async def run(first: bool) -> int:
        text = PROGRAM.replace("{head}", head).replace("{error}", error).replace("{first}", str(first))
        program = await asyncio.create_subprocess_exec(sys.executable, "-c", text, url, stderr=subprocess.DEVNULL)
        return await asyncio.wait_for(program.wait(), 60)

    assert await run(first=True) == exit_code
    [fatal] = await sdk.one_way.get_received_messages("bob")
    [innocent] = await sdk.one_way.get_received_messages("carol")
    receipts = [await sdk.receipts.get(record.message_id) for record in (fatal, innocent)]
    assert [(receipt.state.value, receipt.attempt) for receipt in receipts] == [("queued", attempt), ("queued", 0)]
    assert [receipt.events[-1].event for receipt in receipts] == [event, "returned"]
    if error.startswith("SystemExit"):
        assert receipts[0].reasons == ("SystemExit: 3",)
        assert await run(first=False) == exit_code
        assert await sdk.state(fatal.message_id) == "dead"


async def test_runs_cancelled_before_they_began_leave_nothing_behind(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is cancelled before its first step runs nothing of its own, so nothing there may be needed."""
    handled = []

    @sdk.register_handler("bob")
    async def bob(message: object, context: MessageContext) -> None:
        handled.append((message, context.attempt))

    claims, runs = sdk._started().claims, sdk._started().dispatcher.runs
    begin, cancelled = runs.begin, 0

    def begin_and_cancel(*arguments: Any) -> None:
        nonlocal cancelled
        begin(*arguments)
        if cancelled < 20:
            cancelled += 1
            list(claims.running)[-1].cancel()

    monkeypatch.setattr(runs, "begin", begin_and_cancel)
    for number in range(5):
        await sdk.receipts.wait(await sdk.one_way.send("alice", "bob", number), timeout=SOON)
    assert handled == [(number, 1) for number in range(5)]
    assert cancelled == 20
    assert not claims.running


async def test_a_run_whose_claim_is_lost_is_cancelled_and_has_not_failed(
    sdk: Sdk, caplog: pytest.LogCaptureFixture
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    @sdk.register_handler("bob")
    async def hang(message: object, context: MessageContext) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    dispatcher = sdk._started().dispatcher
    await sdk.one_way.send("alice", "bob", 1)
    await begun.wait()
    with caplog.at_level(logging.INFO, "agent_messaging"):
        dispatcher.lose_claims()
        await ended.wait()
        await eventually(lambda: not sdk._started().claims.running, SOON)
    assert not [record for record in caplog.records if record.exc_info or "failed" in record.getMessage()]


async def test_a_plain_function_that_returns_a_coroutine_has_it_awaited(sdk: Sdk) -> None:
    handled = []

    async def work(message: object) -> None:
        await asyncio.sleep(0)
        handled.append(message)

    sdk.register_handler("bob")(lambda message, context: work(message))
    await sdk.receipts.wait(await sdk.one_way.send("alice", "bob", "hi"), timeout=SOON)
    assert handled == ["hi"]


async def test_an_awaitable_that_takes_no_errors_is_timed_out_like_any_other(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(handler_timeout=0.1, max_attempts=1)
    await sdk.add_people("alice", "bob")
    loop = asyncio.get_running_loop()
    sdk.register_handler("bob")(lambda message, context: Iterated(loop))
    [receipt] = await sdk.wait(await sdk.one_way.send("alice", "bob", "hi"))
    assert receipt.reasons[0].startswith("HandlerTimeoutError")


async def test_a_bad_payload_sent_by_a_handler_does_not_condemn_the_message_it_handles(sdk: Sdk) -> None:
    attempts = []

    @sdk.register_handler("bob")
    async def bob(message: object, context: MessageContext) -> None:
        attempts.append(context.attempt)
        if context.attempt == 1:
            await sdk.one_way.send("bob", "carol", float("nan"), require_handler=False)

    ids = await sdk.one_way.send("alice", "bob", "hi")
    [receipt] = await sdk.receipts.wait(ids, timeout=SOON)
    assert (receipt.state, attempts) == ("done", [1, 2])


async def test_a_validation_error_behind_another_error_is_logged_without_the_payload(
    sdk: Sdk, caplog: pytest.LogCaptureFixture
) -> None:
    @sdk.register_handler("bob")
    async def bob(message: dict[str, object], context: MessageContext) -> None:
        if context.attempt == 1:
            try:
                Order.model_validate(message)
            except ValidationError as error:
                raise RuntimeError("could not read the order") from error

    with caplog.at_level(logging.DEBUG):
        ids = await sdk.one_way.send("alice", "bob", {"number": "SECRET-4111"})
        await sdk.receipts.wait(ids, timeout=SOON)
    assert "could not read the order" in caplog.text
    assert "SECRET-4111" not in caplog.text


async def test_unregistering_while_a_message_is_on_its_way_loses_neither_the_call_nor_the_message(sdk: Sdk) -> None:
    handled: list[int] = []

    async def bob(message: int, context: MessageContext) -> None:
        handled.append(message)

    for number in range(20):
        sdk.register_handler("bob")(bob)
        sending = asyncio.create_task(sdk.one_way.send("alice", "bob", number))
        for _ in range(number % 5):
            await asyncio.sleep(0)
        sdk.unregister_handler("bob")
        async with asyncio.timeout(SOON):
            ids = await asyncio.wait_for(sending, SOON) if number % 5 else await _sent_or_refused(sending)
        sdk.register_handler("bob")(bob)
        await sdk.receipts.wait(ids, timeout=SOON)
    assert sorted(set(handled)) == sorted(handled)


async def _sent_or_refused(sending: asyncio.Task[list[str]]) -> list[str]:
    """The handler may have gone before the call looked for it."""
    from agent_messaging import NoHandlerRegisteredError

    try:
        return await sending
    except NoHandlerRegisteredError:
        return []


async def test_one_senders_messages_never_run_two_at_once_while_claims_and_sends_cross(sdk: Sdk) -> None:
    running, most, handled = 0, 0, []

    @sdk.register_handler("bob")
    async def bob(message: int, context: MessageContext) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        handled.append(message)
        running -= 1

    ids: list[str] = []
    for burst in range(60):
        calls = [sdk.one_way.send("alice", "bob", burst * 10 + number) for number in range(10)]
        ids += [id for sent in await asyncio.gather(*calls) for id in sent]
    await sdk.receipts.wait(ids, timeout=60)
    assert most == 1
    assert handled == sorted(handled)


async def test_each_recipient_of_a_broadcast_has_at_least_the_time_of_its_own_handler(sdk: Sdk) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @sdk.register_handler("bob", timeout=600)
    async def bob(message: object, context: MessageContext) -> None:
        started.set()
        await release.wait()

    @sdk.register_handler("carol", timeout=0.05)
    async def carol(message: object, context: MessageContext) -> None: ...

    await sdk.one_way.send("alice", ["bob", "carol"], "hi")
    await asyncio.wait_for(started.wait(), SOON)
    advanced = await sdk.store.deliveries.advance()
    release.set()
    assert advanced.released == 0
    assert advanced.next_in is not None
    assert advanced.next_in > 600


async def test_closing_ends_though_somebody_goes_on_sending(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(drain_timeout=0.2)
    await sdk.add_people("alice", "bob")

    @sdk.register_handler("bob")
    async def bob(message: object, context: MessageContext) -> None: ...

    async def send_for_ever() -> None:
        while True:
            await sdk.one_way.send("alice", "bob", "hi")

    sending = asyncio.create_task(send_for_ever())
    await asyncio.wait_for(sdk.close(), SOON)
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(sending, SOON)


async def test_closing_does_not_wait_for_messages_whose_handler_was_unregistered(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(drain_timeout=60)
    await sdk.add_people("alice", "bob")
    started, release = asyncio.Event(), asyncio.Event()

    @sdk.register_handler("bob")
    async def bob(message: object, context: MessageContext) -> None:
        started.set()
        await release.wait()

    for _ in range(3):
        await sdk.one_way.send("alice", "bob", "hi")
    await started.wait()
    sdk.unregister_handler("bob")
    release.set()
    await asyncio.wait_for(sdk.close(), SOON)
