"""Where the coordination runs: SQLite, memory, PostgreSQL or Redis, as the environment of the test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from agent_messaging.coordination import AgentRegistry, MessageQueueManager, SupervisorCoordinator

PLACES = ("sqlite", "memory", "postgres", "redis")


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    """One of them."""
    return str(request.param)


@pytest.fixture
def surroundings(place: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment variables that choose it."""
    if place == "postgres":
        return {"AGENT_MESSAGING_DATABASE_URL": str(request.getfixturevalue("postgres_dsn"))}
    if place == "redis":
        namespace = request.getfixturevalue("redis_namespace")
        return {"REDIS_URL": f"{request.getfixturevalue('redis_server')}?namespace={namespace}"}
    return {"AGENT_COMMUNICATION_MODE": "mock"} if place == "memory" else {}


@pytest.fixture(autouse=True)
def chosen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made without arguments is there, in the tests that ask for a place."""
    if "place" in request.fixturenames:
        for name, value in request.getfixturevalue("surroundings").items():
            monkeypatch.setenv(name, value)


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """Closes what a test enters."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def queue(closing: ExitStack, chosen: None) -> MessageQueueManager:
    """Queues."""
    return closing.enter_context(MessageQueueManager())


@pytest.fixture
def registry(closing: ExitStack, chosen: None) -> AgentRegistry:
    """The agents of the same place."""
    return closing.enter_context(AgentRegistry())


@pytest.fixture
def make_supervisor(closing: ExitStack, chosen: None) -> Callable[[str], SupervisorCoordinator]:
    """Makes supervisors at the same place."""
    return lambda name: closing.enter_context(SupervisorCoordinator(name))


@pytest.fixture
def supervisor(make_supervisor: Callable[[str], SupervisorCoordinator]) -> SupervisorCoordinator:
    """A supervisor."""
    return make_supervisor("planner")
