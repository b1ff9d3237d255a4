"""The examples of the documents that are no whole programs, with what they need around them; each runs twice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypedDict

import pytest
from pydantic import BaseModel

import agent_messaging
from agent_messaging import (
    AgentMessaging,
    AgentNotFoundError,
    Config,
    DatabaseConfig,
    MessageContext,
    MessagingConfig,
    NoHandlerRegisteredError,
    TimeoutError,
    register_one_way_handler,
)
from tests.examples.test_programs import PROGRAMS

ELSEWHERE = {
    "E-01": "installing the package: the build",
    "E-07": "the dependency table: pyproject.toml",
    "E-08": "no code in the document",
    **{f"E-{number}": "tests/coordination/test_agent_communication.py" for number in range(43, 58)},
}
"""Why it is not run here, or where it is."""
NUMBERS = {f"E-{number:02}" for number in range(1, 68)}
ROOT = Path(__file__).parents[2]


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)


class Notification(TypedDict):
    type: str
    text: str


class MyMessage(BaseModel):
    text: str


Sdks = AsyncIterator[AgentMessaging[Any, Any, Any]]


@pytest.fixture
def twice(configured: None) -> Callable[[], Sdks]:
    """What a fragment has around it, two times in a row on the same database; the agents are those of the documents."""

    async def run() -> Sdks:
        for _ in range(2):
            received.clear()
            register_one_way_handler(keep)
            async with AgentMessaging[Any, Any, Any]() as started:
                await started.register_organization("org_id", "Organization")
                for name in ("notification_service", "alice", "bob", "charlie"):
                    await started.register_agent(name, "org_id", name.title())
                yield started

    return run


async def keep(message: Any, context: MessageContext) -> None:
    """The handler of everybody."""
    received.append((context.receiver_id, message, context.metadata))


received: list[tuple[str, Any, dict[str, Any]]] = []


def test_each_example_is_run_here_or_listed_with_the_reason() -> None:
    texts = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py")]
    titles = [title for text in texts for title in re.findall(r"def test\w*", text)]
    run = {f"E-{number}" for title in titles for number in re.findall(r"_e(\d\d)(?=_)", title)}
    run |= {number for names in PROGRAMS for number in names.split(", ")}
    assert run.isdisjoint(ELSEWHERE)
    assert run | ELSEWHERE.keys() == NUMBERS


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("command", "left_out"),
    [
        ("pytest", 0),
        ("pytest --cov=agent_messaging --cov-report=html", 0),
        ("pytest -m unit", 1),
        ("pytest -m integration", 1),
    ],
)
def test_e06_the_documented_ways_of_running_the_tests_work(command: str, left_out: int, tmp_path: Path) -> None:
    """The commands as they are printed, in a clone that has two modules of tests."""
    tests = ("unit/__init__.py", "unit/test_ids.py", "search/__init__.py", "search/test_words.py")
    for name in ("__init__.py", "conftest.py", "support.py", "fixtures", *tests):
        copy(ROOT / "tests" / name, tmp_path / "tests" / name)
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    # So few tests cover little, and a report of all modules takes as long as this whole test.
    settings = settings.replace("fail_under = 80", "fail_under = 1")
    settings = settings.replace("[tool.coverage.run]", '[tool.coverage.run]\nomit = ["*/agent_messaging/*/*"]')
    (tmp_path / "pyproject.toml").write_text(settings, encoding="utf-8")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command.split(), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout
    modules = set(re.findall(r"^tests/\w+/(\w+)\.py \.+", done.stdout, re.MULTILINE))
    assert len(modules) == 2 - left_out
    assert ("test_words" if command.endswith("integration") else "test_ids") in modules
    assert (tmp_path / "htmlcov" / "index.html").exists() == ("html" in command)


def test_e09_e58_constructing_does_not_connect() -> None:
    config = Config(database=DatabaseConfig(host="prod-db"))
    for sdk in (AgentMessaging[MyMessage, dict[str, Any], str](config=config), AgentMessaging[MyMessage](config)):
        assert sdk.config.store.dsn == "postgres://postgres:postgres@prod-db:5432/agent_messaging"


async def test_e10_e11_organizations_and_agents(configured: None) -> None:
    for _ in range(2):
        async with AgentMessaging[dict[str, Any], dict[str, Any], dict[str, Any]]() as sdk:
            await sdk.register_organization("org_001", "My Org")
            assert await sdk.deregister_organization("org_001") is True
            org_id = await sdk.register_organization("org_001", "Acme Corporation")
            org = await sdk.get_organization("org_001")
            assert (org.id, org.name) == (org_id, "Acme Corporation")
            agent_id = await sdk.register_agent("alice", "org_001", "Alice Agent")
            agent = await sdk.get_agent("alice")
            assert (agent.id, agent.name) == (agent_id, "Alice Agent")
            assert await sdk.deregister_agent("alice") is True
            assert await sdk.deregister_organization("org_001") is True
            assert await sdk.deregister_organization("org_001") is False


async def test_e12_searching_what_a_sender_wrote(twice: Callable[[], Sdks], capsys: pytest.CaptureFixture[str]) -> None:
    async for sdk in twice():
        await sdk.one_way.send("alice", ["bob"], "The database migration is done")
        await sdk.one_way.send("bob", ["alice"], "Which database migration?")
        results = await sdk.search_messages("database migration", sender_id="alice", limit=20)
        for msg in results:
            print(f"Match: {msg['content']} (rank: {msg['ts_rank']})")
        matches = capsys.readouterr().out.splitlines()
        assert matches
        assert all(re.fullmatch(r"Match: The database migration is done \(rank: \d\.\d+\)", line) for line in matches)


async def test_e14_e39_one_message_to_three_with_metadata(twice: Callable[[], Sdks]) -> None:
    async for sdk in twice():
        metadata = {"request_id": str(uuid.uuid4()), "priority": "high"}
        ids = await sdk.one_way.send(
            "notification_service",
            ["alice", "bob", "charlie"],
            Notification(type="alert", text="System maintenance"),
            metadata=metadata,
        )
        assert len(ids) == 3
        await sdk.receipts.wait(ids, timeout=10)
        message = {"type": "alert", "text": "System maintenance"}
        assert sorted(received, key=str) == [(name, message, metadata) for name in ("alice", "bob", "charlie")]
        results = await sdk.search_messages("system", metadata_filter={"request_id": metadata["request_id"]})
        assert {msg["id"] for msg in results} == set(ids)
        assert set(ids) <= {
            msg["id"] for msg in await sdk.search_messages("alert", metadata_filter={"priority": "high"})
        }


def test_e18_the_registering_decorators_are_importable_from_the_top() -> None:
    for name in ["one_way", "conversation", "message_notification", "meeting"]:
        register = getattr(agent_messaging, f"register_{name}_handler")
        assert register(keep) is keep
    agent_messaging.clear_handlers()


def test_e27_models_are_importable_from_the_top_and_from_models() -> None:
    import agent_messaging.models

    names = "Organization Agent Session SessionStatus Meeting MeetingStatus MeetingParticipant ParticipantStatus"
    for name in f"{names} Message MessageType MeetingEventType MeetingEventPayload MessageContext".split():
        assert getattr(agent_messaging, name) is getattr(agent_messaging.models, name)
    assert (agent_messaging.SessionStatus.ACTIVE, agent_messaging.MessageType.ENDING) == ("active", "ending")


def test_e28_exceptions_are_importable_and_take_one_text() -> None:
    names = (
        "AgentNotFoundError OrganizationNotFoundError SessionError SessionStateError SessionLockError MeetingError "
        "MeetingNotFoundError MeetingNotActiveError MeetingStateError NotYourTurnError MeetingPermissionError "
        "HandlerError NoHandlerRegisteredError HandlerTimeoutError TimeoutError DatabaseError"
    )
    for name in names.split():
        kind = getattr(agent_messaging, name)
        assert issubclass(kind, agent_messaging.AgentMessagingError)
        with pytest.raises(agent_messaging.AgentMessagingError, match=r"^Agent 'alice' not found$"):
            raise kind("Agent 'alice' not found")


def test_e29_e30_e31_configuration_in_code_in_the_environment_and_in_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_code = Config(
        database=DatabaseConfig(
            host="localhost",
            port=5432,
            user="postgres",
            password="postgres",
            database="agent_messaging",
            max_pool_size=20,
        ),
        messaging=MessagingConfig(default_sync_timeout=30.0, default_meeting_turn_duration=60.0, handler_timeout=30.0),
        debug=False,
        log_level="INFO",
    )
    assert in_code.database.dsn == "postgres://postgres:postgres@localhost:5432/agent_messaging"
    assert (in_code.database.min_pool_size, in_code.database.connect_timeout_sec) == (5, 10)
    lines = {
        "POSTGRES_HOST": "db",
        "POSTGRES_PORT": "5433",
        "POSTGRES_USER": "agents",
        "POSTGRES_PASSWORD": "secret",
        "POSTGRES_DATABASE": "messages",
        "POSTGRES_MAX_POOL_SIZE": "7",
        "POSTGRES_MIN_POOL_SIZE": "3",
        "POSTGRES_CONNECT_TIMEOUT_SEC": "4",
        "DEFAULT_SYNC_TIMEOUT": "31.0",
        "DEFAULT_MEETING_TURN_DURATION": "61.0",
        "HANDLER_TIMEOUT": "32.0",
        "DEBUG": "true",
        "LOG_LEVEL": "WARNING",
    }
    Path(".env").write_text("# a comment\n" + "".join(f"{name}={value}\n" for name, value in lines.items()))
    from_file = Config()
    Path(".env").unlink()
    for name, value in lines.items():
        monkeypatch.setenv(name, value)
    for config in (from_file, Config()):
        assert config.database.dsn == "postgres://agents:secret@db:5433/messages"
        database, messaging = config.database, config.messaging
        assert (database.max_pool_size, database.min_pool_size, database.connect_timeout_sec) == (7, 3, 4)
        assert (messaging.default_sync_timeout, messaging.default_meeting_turn_duration) == (31.0, 61.0)
        assert (messaging.handler_timeout, config.debug, config.log_level) == (32.0, True, "WARNING")


async def test_e35_without_the_context_manager_the_sdk_is_only_constructed(configured: None) -> None:
    sdk = AgentMessaging[dict[str, Any], dict[str, Any], dict[str, Any]]()
    with pytest.raises(RuntimeError, match="SDK not initialized"):
        _ = sdk.one_way
    await sdk.initialize()
    await sdk.register_organization("org", "Org")
    await sdk.close()


async def test_e36_e60_sending_to_a_handler_registered_before(twice: Callable[[], Sdks]) -> None:
    async for sdk in twice():
        ids = await sdk.one_way.send("alice", "bob", MyMessage(text="Hello!"))
        await sdk.receipts.wait(ids, timeout=10)
        assert received == [("bob", {"text": "Hello!"}, {})]


async def test_e38_errors_are_told_apart(twice: Callable[[], Sdks]) -> None:
    async def attempt(sdk: AgentMessaging[Any, Any, Any], recipient: str) -> str:
        try:
            await sdk.one_way.send("alice", [recipient], {"text": "hi"})
        except AgentNotFoundError:
            return "One of the agents doesn't exist"
        except NoHandlerRegisteredError:
            return "No handler registered for this message type"
        except Exception as error:
            return f"Unexpected error: {error}"
        return "sent"

    async for sdk in twice():
        assert await attempt(sdk, "bobby") == "One of the agents doesn't exist"
        assert await attempt(sdk, "bob") == "sent"
        agent_messaging.clear_handlers()
        assert await attempt(sdk, "bob") == "No handler registered for this message type"


async def test_e40_an_agent_is_registered_unless_it_exists(twice: Callable[[], Sdks]) -> None:
    done = []
    async for sdk in twice():
        try:
            agent = await sdk.get_agent("dora")
            done.append(agent.name)
        except AgentNotFoundError:
            await sdk.register_agent("dora", "org_id", "Dora")
            done.append("registered")
    assert done == ["registered", "Dora"]


async def test_e59_a_handler_is_registered_for_one_agent(twice: Callable[[], Sdks]) -> None:
    seen: list[str] = []
    async for sdk in twice():

        @sdk.register_handler("bob")
        async def handle_message(message: MyMessage, context: MessageContext) -> None:
            seen.append(f"{context.sender_external_id}: {message.text}")

        await sdk.receipts.wait(await sdk.one_way.send("alice", "bob", MyMessage(text="hi")), timeout=10)
    assert seen == ["alice: hi", "alice: hi"]


def test_e67_the_flat_settings_are_accepted() -> None:
    config = Config(
        postgres_host="db",
        postgres_port=5433,
        postgres_user="u",
        postgres_password="",
        postgres_db="messages",
        max_pool_size=10,
        default_conversation_timeout=300.0,
        default_meeting_timeout=600.0,
        default_turn_duration=60.0,
        enable_turn_timeout=True,
        auto_invoke_handlers=True,
    )
    assert config.database.dsn == "postgres://u@db:5433/messages"
    assert (config.postgres_host, config.max_pool_size, config.default_conversation_timeout) == ("db", 10, 300.0)
    assert (config.messaging.default_sync_timeout, config.messaging.default_meeting_timeout) == (300.0, 600.0)
    assert issubclass(TimeoutError, agent_messaging.AgentMessagingError)
