"""The level of the SDK's logger is the application's to set."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from agent_messaging import AgentMessaging, Config

logger = logging.getLogger("agent_messaging")


@pytest.fixture(autouse=True)
def fresh_logger() -> Iterator[None]:
    """As in a process that has not started an SDK yet."""
    level, marks = logger.level, dict(vars(logger))
    logger.setLevel(logging.NOTSET)
    vars(logger).pop("level_of_sdk", None)
    yield
    vars(logger).clear()
    vars(logger).update(marks)
    logger.setLevel(level)


async def start(**settings: Any) -> None:
    async with AgentMessaging(Config(url="sqlite://:memory:", **settings)):
        pass


async def test_a_level_that_the_application_set_stays() -> None:
    logger.setLevel(logging.ERROR)
    await start()
    assert logger.level == logging.ERROR
    await start(debug=True)
    assert logger.level == logging.ERROR


async def test_without_one_it_is_the_newest_that_an_sdk_was_given() -> None:
    await start(log_level="WARNING")
    assert logger.level == logging.WARNING
    await start(debug=True)
    assert logger.level == logging.DEBUG
    logger.setLevel(logging.CRITICAL)
    await start()
    assert logger.level == logging.CRITICAL
