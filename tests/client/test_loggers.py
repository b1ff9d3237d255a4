"""A handler of the application's logging that raises ends nothing, whatever is logged, and wherever."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import agent_messaging
from agent_messaging import Fact, FactType, HandlerError, MessageContext, TaskContext, TimeoutError
from agent_messaging.loggers import Guard, get_logger
from tests.client.meeting_support import Table
from tests.client.support import SOON, Sdk

TELL = Guard.tell
"""That of the SDK; a fixture replaces it while a test runs."""
NAME = "agent_messaging.delivery"
Use = Callable[[logging.Handler], None]


class Broken(logging.Handler):
    """Breaks the contract of `logging`."""

    def emit(self, record: logging.LogRecord) -> None:
        raise ConnectionError("the server of the logs is away")


@pytest.fixture
def use(log_failures: list[Exception]) -> Iterator[Use]:
    """Give the SDK's logger a handler, at DEBUG, until all that the test asked for later has been closed."""
    logger = logging.getLogger("agent_messaging")
    added: list[logging.Handler] = []

    def add(handler: logging.Handler) -> None:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
        added.append(handler)

    yield add
    for handler in added:
        logger.removeHandler(handler)
    log_failures.clear()


@pytest.fixture
def broken(use: Use) -> None:
    use(Broken())


def failing_at(type: FactType) -> Callable[[Fact], None]:
    """An observer of which the log says, in the step in which such a thing has happened, that it failed."""

    def fail(fact: Fact) -> None:
        if fact.type is type:
            raise ValueError("no")

    return fail


async def test_asks_notes_tasks_and_turns_end_as_promised(
    broken: None, sdk: Sdk, log_failures: list[Exception]
) -> None:
    async def answer(message: Any, context: MessageContext) -> str:
        if message == "fail" or (message == "note" and context.attempt == 1):
            raise ValueError("no")
        return "yes"

    async def wait(message: Any, context: MessageContext) -> None:
        await context.wait_abandoned()

    async def work(item: Any, context: TaskContext) -> str:
        if context.attempt == 1:
            raise ValueError("no")
        return "done"

    def fail_anew() -> None:
        for type in FactType:
            sdk.observers.add(failing_at(type))

    sdk.register_handler("bob")(answer)
    sdk.register_handler("carol")(wait)
    sdk.register_task_handler("w", capabilities=["work"])(work)
    sdk.register_meeting_handler("bob")(lambda message, context: "from bob")
    async with asyncio.timeout(4 * SOON):
        fail_anew()
        assert await sdk.conversation.send_and_wait("alice", "bob", "ask", timeout=SOON) == "yes"
        fail_anew()
        with pytest.raises(HandlerError):
            await sdk.conversation.send_and_wait("alice", "bob", "fail", timeout=SOON)
        fail_anew()
        with pytest.raises(TimeoutError):
            await sdk.conversation.send_and_wait("alice", "carol", "ask", timeout=0.1)
        fail_anew()
        [id] = await sdk.one_way.send("alice", "bob", "note")
        [receipt] = await sdk.wait([id])
        assert (receipt.state.value, receipt.attempt) == ("done", 2)
        fail_anew()
        result = await sdk.tasks.delegate("work", 1, max_attempts=2, wait=True, timeout=SOON)
        assert result == "done"
        fail_anew()
        table = await Table.open(sdk, "bob")
        await table.speak("alice", "hello")
        assert (await table.wait("alice")).number == 3
        await table.end()
    assert {str(error) for error in log_failures} == {"the server of the logs is away"}


def test_the_first_failure_is_said_on_stderr(
    broken: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Guard, "tell", TELL)
    monkeypatch.setattr("agent_messaging.loggers._told", set())
    logger = get_logger(NAME)
    logger.error("one")
    said = capsys.readouterr().err
    assert said.startswith(f"A handler, a filter or the record factory of the log {NAME!r} failed")
    assert "ConnectionError: the server of the logs is away" in said
    logger.error("two")
    assert capsys.readouterr().err == ""
    other = get_logger("agent_messaging.storage")
    with monkeypatch.context() as patch:
        patch.setattr(logging, "raiseExceptions", False)
        other.error("three")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", None)
        other.error("four")
    assert capsys.readouterr().err == ""


def test_filters_and_the_record_factory_may_raise_too(use: Use, log_failures: list[Exception]) -> None:
    seen = logging.StreamHandler(stream := io.StringIO())
    use(seen)
    logger = get_logger(NAME)

    def refuse(*arguments: Any) -> Any:
        raise LookupError

    logger.addFilter(refuse)
    logger.info("a filter")
    logger.removeFilter(refuse)
    factory = logging.getLogRecordFactory()
    logging.setLogRecordFactory(refuse)
    try:
        logger.info("a factory")
    finally:
        logging.setLogRecordFactory(factory)
    logger.info("neither")
    assert stream.getvalue() == "neither\n"
    assert [type(error) for error in log_failures] == [LookupError, LookupError]


def test_a_handler_that_logs_without_end_is_ended_by_the_first_call(use: Use, log_failures: list[Exception]) -> None:
    logger = get_logger(NAME)

    class Echo(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logger.info("again")
            logger.info("and again")

    use(Echo())
    logger.info("once")
    assert [type(error) for error in log_failures] == [RecursionError]


def test_what_works_sees_what_it_saw_and_other_loggers_are_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = logging.getLogger("another")
    other.addHandler(handler := Broken())
    with pytest.raises(ConnectionError):
        other.error("mine")
    other.removeHandler(handler)
    with caplog.at_level(logging.INFO, "agent_messaging"):
        get_logger(NAME).info("a line", extra={"mark": 1})
    [record] = [record for record in caplog.records if record.name == NAME]
    assert (record.pathname, record.funcName) == (
        __file__,
        "test_what_works_sees_what_it_saw_and_other_loggers_are_left_alone",
    )
    assert vars(record)["mark"] == 1


def test_every_logger_of_the_package_is_made_so() -> None:
    sources = sorted(Path(agent_messaging.__file__).parent.rglob("*.py"))
    made = r"^\w+ = logging\.getLogger|\blogging\.(debug|info|warning|error|critical|exception|log)\("
    found = [str(path) for path in sources if re.search(made, path.read_text(encoding="utf-8"), re.MULTILINE)]
    assert found == []
