"""Settings: where each comes from, what is accepted, which store they choose, and that no password is ever shown."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent_messaging import AgentMessaging
from agent_messaging.config import (
    Config,
    CoordinationConfig,
    DatabaseConfig,
    MessagingConfig,
    StoreLocation,
    mask,
    parse_url,
)
from agent_messaging.exceptions import ConfigurationError
from agent_messaging.states import Prunable

SECRET = "hunter2"
URL = "AGENT_MESSAGING_DATABASE_URL"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the variables that this module is about is set."""
    for kind in (Config, CoordinationConfig, DatabaseConfig, MessagingConfig):
        for name in kind.model_fields:
            for variable in kind.variables.get(name, (kind.prefix + name.upper(),)):
                monkeypatch.delenv(variable, raising=False)


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        make()
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    return str(caught.value)


# --- defaults and the environment -------------------------------------------------------------------------------------

DATABASE: dict[str, Any] = {
    "host": "localhost",
    "port": 5432,
    "user": "postgres",
    "password": "postgres",
    "database": "agent_messaging",
    "max_pool_size": 20,
    "min_pool_size": 5,
    "connect_timeout_sec": 10,
    "call_timeout": 10.0,
    "lease": 30.0,
    "allow_unsafe_server": False,
    "url": None,
}
MESSAGING: dict[str, Any] = {
    "default_sync_timeout": 30.0,
    "default_meeting_turn_duration": 60.0,
    "default_meeting_timeout": 600.0,
    "enable_turn_timeout": True,
    "handler_timeout": 30.0,
    "auto_invoke_handlers": True,
    "handler_concurrency": 10,
    "handler_grace": 60.0,
    "require_handler": True,
    "mailbox_limit": 100_000,
    "max_attempts": 5,
    "retry_delay": 1.0,
    "retry_max_delay": 300.0,
    "drain_timeout": None,
    "max_payload_bytes": 1_048_576,
    "cross_organization": True,
    "retention": {"idempotency_keys": 604_800.0},
}
COORDINATION: dict[str, Any] = {
    "mode": None,
    "redis_url": None,
    "default_timeout": 300.0,
    "max_retries": 3,
    "heartbeat_interval": 30.0,
    "azure_sql_server": None,
}


def test_defaults() -> None:
    config = Config()
    assert config.coordination.model_dump() == COORDINATION
    assert config.database.model_dump() == DATABASE
    assert config.messaging.model_dump() == MESSAGING
    assert (config.debug, config.log_level, config.auto_initialize_schema) == (False, "INFO", True)


@pytest.mark.parametrize(
    ("variable", "text", "path", "value"),
    [
        ("POSTGRES_HOST", "db.example.org", "database.host", "db.example.org"),
        ("POSTGRES_PORT", "6000", "database.port", 6000),
        ("POSTGRES_USER", "agents", "database.user", "agents"),
        ("POSTGRES_PASSWORD", SECRET, "database.password", SECRET),
        ("POSTGRES_PASSWORD", "", "database.password", ""),
        ("POSTGRES_PASSWORD", "none", "database.password", "none"),
        ("POSTGRES_DATABASE", "mine", "database.database", "mine"),
        ("POSTGRES_DB", "older", "database.database", "older"),
        ("POSTGRES_MAX_POOL_SIZE", "30", "database.max_pool_size", 30),
        ("POSTGRES_MIN_POOL_SIZE", "2", "database.min_pool_size", 2),
        ("POSTGRES_CONNECT_TIMEOUT_SEC", "3", "database.connect_timeout_sec", 3),
        ("POSTGRES_CALL_TIMEOUT", "2.5", "database.call_timeout", 2.5),
        ("POSTGRES_ALLOW_UNSAFE_SERVER", "true", "database.allow_unsafe_server", True),
        (URL, "sqlite://:memory:", "database.url", "sqlite://:memory:"),
        ("DEFAULT_SYNC_TIMEOUT", "12.5", "messaging.default_sync_timeout", 12.5),
        ("DEFAULT_MEETING_TURN_DURATION", "7", "messaging.default_meeting_turn_duration", 7.0),
        ("DEFAULT_MEETING_TIMEOUT", "7", "messaging.default_meeting_timeout", 7.0),
        ("HANDLER_TIMEOUT", "1", "messaging.handler_timeout", 1.0),
        ("MESSAGING_DEFAULT_SYNC_TIMEOUT", "12.5", "messaging.default_sync_timeout", 12.5),
        ("DEFAULT_CONVERSATION_TIMEOUT", "12.5", "messaging.default_sync_timeout", 12.5),
        ("DEFAULT_TURN_DURATION", "7", "messaging.default_meeting_turn_duration", 7.0),
        ("MESSAGING_DEFAULT_MEETING_TURN_DURATION", "7", "messaging.default_meeting_turn_duration", 7.0),
        ("MESSAGING_HANDLER_TIMEOUT", "1", "messaging.handler_timeout", 1.0),
        ("MESSAGING_MAILBOX_LIMIT", "10", "messaging.mailbox_limit", 10),
        ("MESSAGING_MAILBOX_LIMIT", "None", "messaging.mailbox_limit", None),
        ("MESSAGING_REQUIRE_HANDLER", "no", "messaging.require_handler", False),
        ("DEBUG", "1", "debug", True),
        ("DEBUG", "", "debug", False),
        ("DEBUG", " TRUE ", "debug", True),
        ("DEBUG", "enabled", "debug", True),
        ("LOG_LEVEL", "warning", "log_level", "WARNING"),
        ("LOG_LEVEL", "warn", "log_level", "WARNING"),
        ("LOG_LEVEL", " Warn\n", "log_level", "WARNING"),
        ("LOG_LEVEL", "fatal", "log_level", "CRITICAL"),
        ("LOG_LEVEL", "trace", "log_level", "DEBUG"),
        ("LOG_LEVEL", "40", "log_level", "ERROR"),
        ("POSTGRES_PORT", "tcp://10.0.0.7:6000", "database.port", 6000),
        ("POSTGRES_PORT", " 6000 ", "database.port", 6000),
        ("POSTGRES_HOST", "  ", "database.host", "localhost"),
        ("AUTO_INITIALIZE_SCHEMA", "false", "auto_initialize_schema", False),
        ("AGENT_COMMUNICATION_MODE", "SQL", "coordination.mode", "sql"),
        ("REDIS_URL", "redis://:pass@h", "coordination.redis_url", "redis://:pass@h"),
        ("AGENT_DEFAULT_TIMEOUT", "20", "coordination.default_timeout", 20.0),
        ("AGENT_MAX_RETRIES", "0", "coordination.max_retries", 0),
        ("AGENT_HEARTBEAT_INTERVAL", "0.5", "coordination.heartbeat_interval", 0.5),
    ],
)
def test_variables(monkeypatch: pytest.MonkeyPatch, variable: str, text: str, path: str, value: object) -> None:
    monkeypatch.setenv(variable, text)
    found: Any = Config()
    for name in path.split("."):
        found = getattr(found, name)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("first", "second", "path"),
    [
        ("POSTGRES_DATABASE", "POSTGRES_DB", "database"),
        ("MESSAGING_HANDLER_TIMEOUT", "HANDLER_TIMEOUT", "handler_timeout"),
    ],
)
def test_of_two_variables_for_a_setting_one_wins_unless_it_is_empty(
    monkeypatch: pytest.MonkeyPatch, first: str, second: str, path: str
) -> None:
    def read() -> str:
        config = Config()
        return str(getattr(config.database, path, None) or getattr(config.messaging, path))

    monkeypatch.setenv(first, "11.0")
    monkeypatch.setenv(second, "22.0")
    assert read() == "11.0"
    monkeypatch.setenv(first, "")
    assert read() == "22.0"


def test_what_is_given_in_code_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_PORT", "not a port")
    monkeypatch.setenv("POSTGRES_USER", "environment")
    database = DatabaseConfig(port=1)
    assert (database.port, database.user) == (1, "environment")
    assert Config(database=database).database.port == 1


def test_the_environment_is_read_when_the_object_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDLER_TIMEOUT", "1")
    before = Config()
    monkeypatch.setenv("HANDLER_TIMEOUT", "2")
    assert (before.messaging.handler_timeout, Config().messaging.handler_timeout) == (1.0, 2.0)


def test_a_configuration_does_not_change_once_made() -> None:
    config = Config()
    with pytest.raises(ValidationError, match="frozen"):
        config.debug = True  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.messaging.handler_timeout = 3  # type: ignore[misc]


def test_a_configuration_survives_pickling_and_copying() -> None:
    config = Config(url=f"postgresql://u:{SECRET}@h/d", messaging={"handler_timeout": 3})
    assert pickle.loads(pickle.dumps(config)) == config
    assert config.model_copy() == config


# --- .env -------------------------------------------------------------------------------------------------------------


def test_a_dotenv_file_is_read_below_the_environment_which_it_does_not_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(
        "POSTGRES_HOST=file\nexport POSTGRES_USER='file user'\nHANDLER_TIMEOUT=4\nNAKED\n# x\n"
    )
    monkeypatch.setenv("POSTGRES_HOST", "environment")
    before = dict(os.environ)
    config = Config()
    assert (config.database.host, config.database.user) == ("environment", "file user")
    assert config.messaging.handler_timeout == 4.0
    assert os.environ == before


def test_a_folder_above_is_not_searched_for_a_dotenv_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HANDLER_TIMEOUT=4\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert Config().messaging.handler_timeout == 30.0


def test_a_bad_value_in_a_dotenv_file_is_named_with_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("MESSAGING_HANDLER_TIMEOUT=soon\n")
    assert refusal(Config).startswith("MESSAGING_HANDLER_TIMEOUT in .env: 'soon' is refused")


def _write_utf_16(path: Path) -> None:
    path.write_bytes("DEBUG=1".encode("utf-16"))


def _link_to_what_nobody_can_read(path: Path) -> None:
    path.symlink_to("/proc/self/mem")


@pytest.mark.parametrize(
    ("make", "reason"), [(_write_utf_16, "is not text in UTF-8"), (_link_to_what_nobody_can_read, "cannot be read")]
)
def test_a_dotenv_file_that_cannot_be_read_stops_only_whom_nothing_else_tells_the_store(
    make: Callable[[Path], None],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / ".env")
    known = f"{tmp_path / '.env'} {reason}"
    assert known in refusal(Config)
    assert "AGENT_MESSAGING_DATABASE_URL" in refusal(Config)
    assert not caplog.records
    monkeypatch.setenv("MESSAGING_HANDLER_TIMEOUT", "4")
    config = Config(url="sqlite:///given.db")
    assert (config.store.path, config.messaging.handler_timeout) == (str(tmp_path / "given.db"), 4.0)
    (told,) = caplog.records
    assert known in told.getMessage()
    assert Config(database=DatabaseConfig(host="h")).store.backend == "postgres"
    monkeypatch.setenv(URL, "sqlite:///environment.db")
    assert Config().store.path == str(tmp_path / "environment.db")


def test_what_is_not_utf_8_in_a_dotenv_file_stops_nobody_whom_it_does_not_concern(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes("# übrigens\nNAME=Müller\nHANDLER_TIMEOUT=4\n".encode("latin-1"))
    assert Config().messaging.handler_timeout == 4.0
    (tmp_path / ".env").write_bytes("\ufeffHANDLER_TIMEOUT=5\n".encode())
    assert Config().messaging.handler_timeout == 5.0
    (tmp_path / ".env").write_bytes("POSTGRES_USER=Müller\nPOSTGRES_HOST=h\n".encode("latin-1"))
    assert refusal(Config).startswith("POSTGRES_USER in .env: ")


# --- bad values -------------------------------------------------------------------------------------------------------

BAD_SECONDS = ["nan", "inf", "-inf", "-1", "soon", "1e400", "3155760001"]


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        *[("POSTGRES_PORT", text) for text in ("0", "65536", "-1", "x", "5432.5", "none")],
        *[("POSTGRES_MAX_POOL_SIZE", text) for text in ("0", "-1", "many", "99999999999")],
        *[("POSTGRES_CONNECT_TIMEOUT_SEC", text) for text in ("0", "x", "3601")],
        *[("POSTGRES_CALL_TIMEOUT", text) for text in ("0", *BAD_SECONDS)],
        *[("POSTGRES_LEASE", text) for text in ("0", *BAD_SECONDS)],
        *[("POSTGRES_HOST", text) for text in ("a b", "user@host", "host/db", "postgres://host")],
        *[("POSTGRES_DATABASE", text) for text in ("a\nb",)],
        *[("MESSAGING_HANDLER_TIMEOUT", text) for text in ("0", *BAD_SECONDS)],
        *[("MESSAGING_HANDLER_GRACE", text) for text in BAD_SECONDS],
        *[("MESSAGING_RETRY_DELAY", text) for text in BAD_SECONDS],
        *[("MESSAGING_DRAIN_TIMEOUT", text) for text in BAD_SECONDS],
        *[("MESSAGING_HANDLER_CONCURRENCY", text) for text in ("0", "x", "none")],
        *[("MESSAGING_MAILBOX_LIMIT", text) for text in ("0", "-1", "x")],
        *[("MESSAGING_MAX_ATTEMPTS", text) for text in ("0", "10001")],
        *[("MESSAGING_MAX_PAYLOAD_BYTES", text) for text in ("0", "67108865")],
        *[("AGENT_COMMUNICATION_MODE", text) for text in ("azure", "memory")],
        *[("AUTO_INITIALIZE_SCHEMA", text) for text in ("never",)],
    ],
)
def test_a_bad_variable_is_named_with_its_value(monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    if variable.startswith("POSTGRES_"):
        monkeypatch.setenv("POSTGRES_DB", "d")  # chooses the store that these are about
    monkeypatch.setenv(variable, text)
    message = refusal(Config)
    assert message.startswith(f"{variable} in the environment: ")
    assert " is refused; " in message
    assert text == "none" or repr(text) in message


SHARED = [
    ("DEBUG", "release", "debug", False),
    ("DEBUG", "app:*", "debug", False),
    ("LOG_LEVEL", "loud", "log_level", "INFO"),
    ("HANDLER_TIMEOUT", "30 seconds", "messaging.handler_timeout", 30.0),
    ("DEFAULT_SYNC_TIMEOUT", "-1", "messaging.default_sync_timeout", 30.0),
    ("DEFAULT_MEETING_TURN_DURATION", "none", "messaging.default_meeting_turn_duration", 60.0),
    ("DEFAULT_MEETING_TIMEOUT", "nan", "messaging.default_meeting_timeout", 600.0),
    ("AGENT_DEFAULT_TIMEOUT", "soon", "coordination.default_timeout", 300.0),
    ("AGENT_MAX_RETRIES", "-1", "coordination.max_retries", 3),
    ("AGENT_HEARTBEAT_INTERVAL", "0", "coordination.heartbeat_interval", 30.0),
]


@pytest.mark.parametrize(("variable", "text", "path", "value"), SHARED)
def test_a_variable_that_others_use_too_warns_once_and_the_default_holds(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variable: str,
    text: str,
    path: str,
    value: object,
) -> None:
    monkeypatch.setenv(variable, text)
    monkeypatch.setenv("MESSAGING_MAX_ATTEMPTS", "3")
    config = Config(url="sqlite://:memory:")
    assert attrgetter(path)(config) == value
    assert config.messaging.max_attempts == 3
    [record] = caplog.records
    assert (record.levelname, record.name) == ("WARNING", "agent_messaging.config")
    assert record.getMessage().startswith(f"{variable} in the environment: ")


def test_the_warning_names_every_variable_and_ours_are_still_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for variable, text, _, _ in SHARED:
        monkeypatch.setenv(variable, text)
    Config()
    assert {record.getMessage().split()[0] for record in caplog.records} == {one[0] for one in SHARED}
    assert len(caplog.records) == len({one[0] for one in SHARED})
    monkeypatch.setenv("AUTO_INITIALIZE_SCHEMA", "never")
    assert refusal(Config).startswith("AUTO_INITIALIZE_SCHEMA")


OTHERS = {
    "POSTGRES_PORT": "x",
    "POSTGRES_USER": "a\nb",
    "POSTGRES_PASSWORD": " ",
    "POSTGRES_MAX_POOL_SIZE": "many",
    "POSTGRES_CONNECT_TIMEOUT_SEC": "never",
    "POSTGRES_LEASE": "0",
    "POSTGRES_ALLOW_UNSAFE_SERVER": "maybe",
}


@pytest.mark.parametrize("where", ["environment", ".env"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: Config(),
        lambda: Config(url="sqlite:///x.db"),
        lambda: Config(url="sqlite:///x.db", database=DatabaseConfig(call_timeout=3)),
        lambda: Config(url="sqlite:///x.db", database={"call_timeout": 3}),
        lambda: Config(database=DatabaseConfig(url="sqlite:///x.db")),
    ],
)
def test_what_is_said_of_a_store_that_is_not_chosen_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    make: Callable[[], Config],
    where: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if where == ".env":
        (tmp_path / ".env").write_text("".join(f"{name}={value!r}\n" for name, value in OTHERS.items()))
    else:
        for name, value in OTHERS.items():
            monkeypatch.setenv(name, value)
    assert make().store.backend == "sqlite"
    assert caplog.records == []


@pytest.mark.parametrize("url", ["sqlite:///x.db", "postgresql://h/d"])
def test_the_time_a_call_may_take_is_of_concern_to_every_store(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("POSTGRES_CALL_TIMEOUT", "soon")
    assert refusal(lambda: Config(url=url)).startswith("POSTGRES_CALL_TIMEOUT in the environment: 'soon'")
    assert Config(url=url, database=DatabaseConfig(call_timeout=3)).database.call_timeout == 3.0


def test_a_url_leaves_only_the_settings_that_it_does_not_replace(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POSTGRES_HOST", "POSTGRES_DB"):
        monkeypatch.setenv(name, "a\nb")
    for name, value in OTHERS.items():
        monkeypatch.setenv(name, value)
    message = refusal(lambda: Config(url="postgresql://h/d"))
    assert {name for name in OTHERS if f"{name} in the environment" in message} == OTHERS.keys() - {
        "POSTGRES_PORT",
        "POSTGRES_USER",
        "POSTGRES_PASSWORD",
    }
    assert Config(url="sqlite:///x.db").store.backend == "sqlite"
    assert "POSTGRES_HOST in the environment" in refusal(Config), "it was to choose the store"


def test_pool_sizes_that_do_not_fit_are_of_concern_to_postgres_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_MIN_POOL_SIZE", "5")
    monkeypatch.setenv("POSTGRES_MAX_POOL_SIZE", "3")
    assert Config().store.backend == "sqlite"
    assert "min_pool_size 5 is above max_pool_size 3" in refusal(lambda: Config(url="postgresql://h/d"))


# Without their types, for what a type checker would stop.
anything: Any = Config
database: Any = DatabaseConfig
messaging: Any = MessagingConfig


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: database(port=70000), ["DatabaseConfig.port: 70000 is refused", "65535"]),
        (lambda: database(port=True), ["DatabaseConfig.port: True is refused", "number"]),
        (lambda: database(max_pool_size=0, port=0), ["max_pool_size: 0", "DatabaseConfig.port: 0"]),
        (lambda: database(max_pool_size=3, min_pool_size=4), ["min_pool_size 4 is above max_pool_size 3"]),
        (lambda: database(password=[SECRET]), ["DatabaseConfig.password: the value given is refused"]),
        (
            lambda: database(password=SECRET + "\0"),
            ["DatabaseConfig.password: the value given", "control characters"],
        ),
        (lambda: database(password=SECRET + "\ud800"), ["DatabaseConfig.password: the value given"]),
        (lambda: database(passwort=SECRET), ["has no setting 'passwort'", "Did you mean password"]),
        (lambda: database(user="a\0"), ["DatabaseConfig.user: 'a\\x00' is refused"]),
        (lambda: database(host={"a": SECRET}), ["DatabaseConfig.host: a dict is refused"]),
        (lambda: messaging(handler_timeout=float("nan")), ["MessagingConfig.handler_timeout: nan is refused"]),
        (lambda: messaging(handler_timeout=True), ["handler_timeout: True is refused"]),
        (lambda: messaging(handler_timeout=None), ["handler_timeout: None is refused"]),
        (lambda: messaging(retry_delay=400), ["retry_delay 400 is above retry_max_delay 300"]),
        (
            lambda: messaging(handler_timout=1),
            ["MessagingConfig has no setting 'handler_timout'", "handler_timeout"],
        ),
        (lambda: anything(databse=1), ["Config has no setting 'databse'", "database"]),
        (lambda: anything(postgres_pasword=SECRET), ["no setting 'postgres_pasword'", "postgres_password"]),
        (lambda: anything(zzz=1), ["There are: database, messaging, coordination, debug"]),
        (
            lambda: anything(database=f"postgres://u:{SECRET}@h/d"),
            ["Config.database: str is refused; a DatabaseConfig"],
        ),
        (lambda: anything(messaging=3), ["Config.messaging: int is refused; a MessagingConfig"]),
        (lambda: anything(database={"port": "x"}), ["DatabaseConfig.port: 'x' is refused"]),
        (lambda: anything(postgres_port="x"), ["DatabaseConfig.port: 'x' is refused"]),
        (lambda: anything(debug="maybe"), ["Config.debug: 'maybe' is refused"]),
        (lambda: anything(log_level=15), ["Config.log_level: '15' is refused"]),
        (lambda: anything(log_level="loud"), ["Config.log_level: 'LOUD' is refused", "'DEBUG', 'INFO'"]),
    ],
    ids=lambda value: value[0][:40] if isinstance(value, list) else "",
)
def test_a_bad_value_in_code_is_named(make: Callable[[], object], parts: list[str]) -> None:
    message = refusal(make)
    for part in parts:
        assert part in message


def test_a_pool_smaller_than_the_default_minimum_needs_no_second_setting() -> None:
    assert DatabaseConfig(max_pool_size=2).min_pool_size == 2
    assert DatabaseConfig(max_pool_size=50).min_pool_size == 5


@pytest.mark.parametrize("field", ["handler_grace", "retry_delay", "drain_timeout"])
def test_zero_is_accepted_where_it_means_at_once(field: str) -> None:
    assert getattr(MessagingConfig(**{field: 0}), field) == 0.0


# --- older flat names -------------------------------------------------------------------------------------------------


def test_flat_names_are_keywords_and_properties() -> None:
    flat: dict[str, Any] = {
        "postgres_host": "h",
        "postgres_port": 1,
        "postgres_user": "u",
        "postgres_password": "p",
        "postgres_db": "d",
        "max_pool_size": 10,
        "default_conversation_timeout": 300.0,
        "default_meeting_timeout": 601.0,
        "default_turn_duration": 61.0,
        "enable_turn_timeout": False,
        "auto_invoke_handlers": False,
    }
    config = Config(**flat)
    assert {name: getattr(config, name) for name in flat} == flat
    assert config.database.dsn == "postgres://u:p@h:1/d"
    assert config.messaging.default_sync_timeout == 300.0
    assert config.messaging.default_meeting_turn_duration == 61.0
    assert config.store.backend == "postgres"


@pytest.mark.parametrize("nested", [DatabaseConfig, dict])
def test_a_flat_name_wins_over_the_nested_one_and_leaves_the_others(nested: Any) -> None:
    config = Config(postgres_user="flat", database=nested(port=1, user="u"))
    assert (config.database.user, config.database.port) == ("flat", 1)
    assert config.store.backend == "sqlite"


def test_the_example_of_the_reference() -> None:
    config = Config(
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
    assert config.database.dsn == "postgres://postgres:postgres@localhost:5432/agent_messaging"
    assert config.store == StoreLocation("postgres", dsn=config.database.dsn)


# --- which store ------------------------------------------------------------------------------------------------------


def sqlite(path: str) -> StoreLocation:
    return StoreLocation("sqlite", path=path if path.startswith((":", "/")) else os.path.abspath(path))


def postgres(dsn: str) -> StoreLocation:
    return StoreLocation("postgres", dsn=dsn)


@pytest.mark.parametrize("given", [{}, {"url": "sqlite:///agent_messaging.db"}])
def test_a_relative_path_is_that_of_the_working_directory_in_which_it_was_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: Any
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    config = Config(**given)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert config.store.path == str(tmp_path / "agent_messaging.db")
    assert config.model_copy(update={"debug": True}).store.path == config.store.path


def test_a_working_directory_that_is_gone_stops_nobody_who_needs_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert Config(url="sqlite:////var/lib/my.db").store.path == "/var/lib/my.db"
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("environment", "make", "expected"),
    [
        ({}, Config, lambda: sqlite("agent_messaging.db")),
        ({}, lambda: Config(url="sqlite:///my.db"), lambda: sqlite("my.db")),
        ({}, lambda: Config(url=None), lambda: sqlite("agent_messaging.db")),
        ({URL: "sqlite:///my.db"}, lambda: Config(url=None), lambda: sqlite("my.db")),
        ({URL: ""}, Config, lambda: sqlite("agent_messaging.db")),
        ({URL: "sqlite:///env.db"}, lambda: Config(url="sqlite:///code.db"), lambda: sqlite("code.db")),
        ({URL: "postgresql://e/d", "POSTGRES_HOST": "h"}, Config, lambda: postgres("postgresql://e/d")),
        (
            {URL: "sqlite:///env.db"},
            lambda: Config(database=DatabaseConfig(host="code")),
            lambda: sqlite("env.db"),
        ),
        (
            {URL: "sqlite:///env.db"},
            lambda: Config(database=DatabaseConfig(url="postgresql://code/d")),
            lambda: postgres("postgresql://code/d"),
        ),
        ({"POSTGRES_HOST": "h"}, Config, lambda: postgres("postgres://postgres:postgres@h:5432/agent_messaging")),
        ({"POSTGRES_HOST": "h"}, lambda: Config(url="sqlite:///code.db"), lambda: sqlite("code.db")),
        ({"POSTGRES_HOST": ""}, Config, lambda: sqlite("agent_messaging.db")),
        ({"POSTGRES_DATABASE": "d"}, Config, lambda: postgres("postgres://postgres:postgres@localhost:5432/d")),
        ({"POSTGRES_DB": "d"}, Config, lambda: postgres("postgres://postgres:postgres@localhost:5432/d")),
        ({"POSTGRES_USER": "u", "POSTGRES_PASSWORD": "p"}, Config, lambda: sqlite("agent_messaging.db")),
        (
            {"POSTGRES_USER": "u", "POSTGRES_PASSWORD": ""},
            lambda: Config(database=DatabaseConfig(host="localhost")),
            lambda: postgres("postgres://u@localhost:5432/agent_messaging"),
        ),
        ({}, lambda: Config(database=DatabaseConfig()), lambda: sqlite("agent_messaging.db")),
        ({}, lambda: Config(database=DatabaseConfig(max_pool_size=3)), lambda: sqlite("agent_messaging.db")),
        (
            {},
            lambda: Config(database={"database": "d"}),
            lambda: postgres("postgres://postgres:postgres@localhost:5432/d"),
        ),
        ({}, lambda: Config(postgres_db="d"), lambda: postgres("postgres://postgres:postgres@localhost:5432/d")),
        ({}, lambda: Config.from_url("postgres://h/d", debug=True), lambda: postgres("postgres://h/d")),
        (
            {},
            lambda: Config(url="sqlite:///my.db", database=DatabaseConfig(host="h", max_pool_size=3)),
            lambda: sqlite("my.db"),
        ),
    ],
)
def test_which_store(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    environment: dict[str, str],
    make: Callable[[], Config],
    expected: Callable[[], StoreLocation],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert make().store == expected()


def test_a_dotenv_file_chooses_the_store_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("POSTGRES_HOST=h\n")
    assert Config().store.backend == "postgres"
    (tmp_path / ".env").write_text(f"POSTGRES_HOST=h\n{URL}=sqlite:///x.db\n")
    assert Config().store == sqlite(str(tmp_path / "x.db"))


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///my.db", "my.db"),
        ("sqlite:///./a/../my.db", "my.db"),
        ("SQLite:///my.db", "my.db"),
        ("sqlite:////var/lib/my.db", "/var/lib/my.db"),
        ("sqlite:////tmp/100%25 é#1.db", "/tmp/100%25 é#1.db"),
        ("sqlite://:memory:", ":memory:"),
        ("sqlite:///:memory:", ":memory:"),
    ],
)
def test_sqlite_urls(url: str, path: str) -> None:
    location = parse_url(url)
    assert location == sqlite(path)
    assert parse_url(str(location)) == location


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://localhost/agents",
        "postgres://u:p@localhost:5432/agents",
        "POSTGRESQL://u@h/d",
        "postgresql://u:p%40%2F@[::1]:5432/d?sslmode=require&application_name=x",
        "postgresql:///d?host=/run/postgresql",
        "postgresql://u:p@a:1,b:2/d",
        "postgresql://",
    ],
)
def test_postgres_urls_reach_the_driver_as_they_are(url: str) -> None:
    assert parse_url(url) == postgres(url)
    config = Config(url=url)
    assert config.database.dsn == config.store.dsn == config.url == url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "is not a database URL"),
        ("agents.db", "is not a database URL"),
        ("/var/agents.db", "is not a database URL"),
        (":memory:", "is not a database URL"),
        ("host=h dbname=d password=hunter2", "is not a database URL"),
        ("u:hunter2@h/d", "is not a database URL"),
        ("://h/d", "is not a database URL"),
        (f"{SECRET}@x://h", "is not a database URL"),
        ("mysql://u:hunter2@h/d", "scheme 'mysql'"),
        ("http://u:hunter2@h/d", "scheme 'http'"),
        ("redis://h", "points at Redis"),
        ("postgresql+asyncpg://u:hunter2@h/d", "scheme 'postgresql+asyncpg'"),
        ("mssql+pyodbc://u:hunter2@h/d", "SQL Server"),
        ("Driver={ODBC Driver 18 for SQL Server};Server=tcp:x;Uid=u;Pwd=hunter2", "SQL Server"),
        ("Server=x.database.windows.net;Database=d;User Id=u;Password=hunter2", "SQL Server"),
        ("Data Source=x;Password=hunter2", "SQL Server"),
        ("sqlite://", "no path"),
        ("sqlite:///", "no path"),
        ("sqlite://agents.db", "three slashes"),
        ("sqlite:///agents.db?mode=ro", "parameters"),
        ("sqlite:///data/", "folder"),
        ("sqlite:///a\0b", "control character"),
        ("sqlite:///\ud800", "UTF-8"),
        ("postgresql://u:hunter2@h:x/d", "host and port"),
        ("postgresql://u:hunter2@h:0/d", "host and port"),
        ("postgresql://u:hunter2@h:65536/d", "host and port"),
        ("postgresql://u:hun/ter2@h/d", "host and port"),
        ("postgresql://u:hun#ter2@h/d", "percent-quoted"),
        ("postgresql://u:hunter2@h/d#x", "percent-quoted"),
        ("postgresql://u:hun@ter2@h/d", "percent-quoted"),
        ("postgresql://u:hunter2 @h/d", "percent-quoted"),
        ("postgresql://u:hunter2@[::1/d", "host and port"),
    ],
)
def test_other_urls_are_refused_with_the_accepted_forms_and_without_the_password(
    monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    in_code = refusal(lambda: Config(url=url))
    assert in_code.startswith("DatabaseConfig.url: ")
    assert reason in in_code
    assert "ter2" not in in_code
    if url and "\0" not in url and "\ud800" not in url:
        monkeypatch.setenv(URL, url)
        assert refusal(Config).startswith(f"{URL} in the environment: ")
    if reason not in ("parameters", "folder", "percent-quoted"):
        assert "postgresql://user:password@host:5432/database" in in_code
        assert "sqlite:///relative/path.db" in in_code


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("notes.db", "sqlite:///notes.db"),
        ("data/notes.sqlite3", "sqlite:///data/notes.sqlite3"),
        ("./notes", "sqlite:///./notes"),
        ("../notes.db", "sqlite:///../notes.db"),
        ("/var/lib/notes.db", "sqlite:////var/lib/notes.db"),
        ("~/notes.db", "sqlite:////home/me/notes.db"),
        (":memory:", "sqlite://:memory:"),
        ("sqlite://notes.db", "sqlite:///notes.db"),
        ("file:///var/lib/notes.db", "sqlite:////var/lib/notes.db"),
    ],
)
def test_a_file_name_is_answered_with_the_url_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, url: str, meant: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert f" write {meant}. Accepted: " in refusal(lambda: Config(url=url))
    assert parse_url(meant).backend == "sqlite"
    assert f" write {meant}. Accepted: " in refusal(lambda: AgentMessaging(url))
    anything: Any = AgentMessaging
    assert "sqlite:///notes.db'" in refusal(lambda: anything(Path("notes.db")))


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("postgresql+asyncpg://u:hunter2@h/d", "Write it as postgresql://…"),
        ("'sqlite:///notes.db'", "Leave out the quotes"),
        ('"postgresql://h/d"', "Leave out the quotes"),
        ("sqlite+aiosqlite:///notes.db", "Write it as sqlite://…"),
    ],
)
def test_what_is_around_a_url_is_to_be_left_out(url: str, hint: str) -> None:
    assert hint in refusal(lambda: Config(url=url))


@pytest.mark.parametrize(
    "text", ["hunter2", "hunter2/", "u:hunter2.db", "hunter2@x.db", "key=hunter2.db", "/hunter2@h"]
)
def test_what_might_be_a_password_is_not_shown(text: str) -> None:
    assert "ter2" not in refusal(lambda: Config(url=text))


credentials = st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"]), min_size=1)


@given(*[credentials.filter(str.strip)] * 3)
def test_any_user_password_and_database_is_quoted_into_the_dsn(user: str, password: str, database: str) -> None:
    dsn = DatabaseConfig(host="h", user=user, password=password, database=database).dsn
    assert parse_url(dsn) == postgres(dsn)
    parts = urlsplit(dsn)
    assert (parts.scheme, parts.hostname, parts.port) == ("postgres", "h", 5432)
    assert (unquote(parts.username or ""), unquote(parts.password or "")) == (user, password)
    assert unquote(parts.path[1:]) == database
    assert mask(dsn) == dsn.replace(f":{parts.password}@", ":***@")


@pytest.mark.parametrize(
    ("host", "dsn"),
    [
        ("db.example.org", "postgres://u:p@db.example.org:5432/d"),
        ("::1", "postgres://u:p@[::1]:5432/d"),
        ("/run/postgresql", "postgres://u:p@/d?host=%2Frun%2Fpostgresql&port=5432"),
    ],
)
def test_the_drivers_understanding_of_hosts(host: str, dsn: str) -> None:
    assert DatabaseConfig(host=host, user="u", password="p", database="d").dsn == dsn
    utilities = pytest.importorskip("asyncpg.connect_utils")
    addresses, parameters = utilities._parse_connect_dsn_and_args(
        dsn=dsn,
        host=None,
        port=None,
        user=None,
        password=None,
        passfile=None,
        database=None,
        ssl=None,
        service=None,
        servicefile=None,
        direct_tls=None,
        server_settings=None,
        target_session_attrs=None,
        krbsrvname=None,
        gsslib=None,
    )
    address = addresses[0]
    assert address == (f"{host}/.s.PGSQL.5432" if host.startswith("/") else (host, 5432))
    assert (parameters.user, parameters.password, parameters.database) == ("u", "p", "d")


# --- passwords --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"postgres_host": "h", "postgres_password": SECRET},
        {"url": f"postgresql://u:{SECRET}@h/d"},
        {"url": f"postgresql:///d?user=u&password={SECRET}&host=/x"},
    ],
    ids=["field", "url", "query"],
)
def test_no_password_is_printed(settings: dict[str, Any]) -> None:
    config = Config(**settings)
    for shown in (config, config.database, config.store):
        assert SECRET not in repr(shown)
        assert SECRET not in str(shown)
    assert config.store.dsn is not None
    assert SECRET in config.store.dsn


def test_a_store_is_printed_so_that_it_is_recognised() -> None:
    assert str(parse_url(f"postgresql://u:{SECRET}@h:1/d")) == "postgresql://u:***@h:1/d"
    assert str(parse_url("sqlite:////a/b.db")) == "sqlite:////a/b.db"
    assert "url='postgresql://u:***@h:1/d'" in repr(Config(url=f"postgresql://u:{SECRET}@h:1/d"))


# --- import -----------------------------------------------------------------------------------------------------------


def test_importing_builds_no_model_and_loads_no_dotenv() -> None:
    script = (
        "import sys; from agent_messaging import config as c; "
        "kinds = (c.Config, c.DatabaseConfig, c.MessagingConfig); "
        "assert not any(kind.__pydantic_complete__ for kind in kinds), 'built'; "
        "assert 'dotenv' not in sys.modules, 'dotenv'"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


# --- the documentation ------------------------------------------------------------------------------------------------


def documented_settings() -> dict[str, tuple[set[str], str]]:
    """The table of the configuration page: variables and default, by setting."""
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_.]+)` \| ((?:`[A-Z_]+`(?:, )?)+) \|(.*?)\|", text, re.MULTILINE)
    return {name: (set(re.findall(r"`(\w+)`", variables)), default.strip()) for name, variables, default in rows}


def test_every_setting_is_documented_with_its_variables_and_its_default() -> None:
    known: dict[str, tuple[set[str], str]] = {}
    for path, kind in (
        ("database.", DatabaseConfig),
        ("messaging.", MessagingConfig),
        ("coordination.", CoordinationConfig),
        ("", Config),
    ):
        defaults = kind()
        for name in kind.model_fields.keys() - ({"database", "messaging", "coordination"} if kind is Config else set()):
            variables = set(kind.variables.get(name, (kind.prefix + name.upper(),)))
            default = getattr(defaults, name)
            shown = "" if name == "url" else f"{default:g}" if type(default) is float else str(default)
            if type(default) is bool or default is None:
                shown = shown.lower()
            known[path + name] = (variables, shown)
    documented = documented_settings()
    assert documented.keys() == known.keys()
    for name, (variables, default) in known.items():
        found, shown = documented[name]
        # The page says in words that the older names may stand behind MESSAGING_.
        assert found == {one for one in variables if not (len(variables) > 1 and one.startswith("MESSAGING_"))}, name
        assert shown == default, name


# --- the ages of retention --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, {"idempotency_keys": 604_800.0}),
        ({"messages": 30 * 86_400}, {"idempotency_keys": 604_800.0, "messages": 2_592_000.0}),
        ({Prunable.MESSAGES: "30d", "idempotency_keys": None}, {"idempotency_keys": None, "messages": 2_592_000.0}),
        ("messages=30d, sessions=1.5h,idempotency_keys=forever", {"messages": 2_592_000.0, "sessions": 5_400.0}),
        (None, {}),
    ],
)
def test_the_ages_of_retention_add_to_the_default(given: Any, found: dict[str, float | None]) -> None:
    ages = MessagingConfig(retention=given).retention
    assert {kind: age for kind, age in ages.items() if kind in found or age is not None} == found
    assert all(type(kind) is str for kind in ages)


def test_the_ages_of_retention_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESSAGING_RETENTION", "messages=30d")
    assert Config().messaging.retention["messages"] == 2_592_000.0
    monkeypatch.setenv("MESSAGING_RETENTION", "none")
    assert Config().messaging.retention == {"idempotency_keys": None}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"letters": 5}, "there is no kind 'letters'"),
        ({"messages": 0}, "the age of messages is seconds above 0"),
        ({"messages": True}, "the age of messages"),
        ("messages", "the age of messages"),
        ("messages=soon", "the age of messages"),
        (5, "a mapping of kinds"),
    ],
)
def test_an_age_that_is_none_is_refused(given: Any, says: str) -> None:
    assert says in refusal(lambda: MessagingConfig(retention=given))


# --- where the coordination is ----------------------------------------------------------------------------------------

MEMORY = StoreLocation("sqlite", path=":memory:")
ODBC = [
    "Driver={ODBC Driver 17 for SQL Server};Server=tcp:server.database.windows.net,1433;"
    f"Database=agent-communication;Uid=admin;Pwd={SECRET};Encrypt=yes;TrustServerCertificate=no;Connection Timeout=30;",
    "Driver={ODBC Driver 17 for SQL Server};Server=tcp:server.database.windows.net,1433;"
    "Database=agent-communication;Authentication=ActiveDirectoryIntegrated;Encrypt=yes;TrustServerCertificate=no;",
]


def redis_at(dsn: str) -> StoreLocation:
    return StoreLocation("redis", dsn=dsn)


@pytest.mark.parametrize(
    ("environment", "string", "expected"),
    [
        ({}, None, Config(url="sqlite:///agent_messaging.db").store),
        ({URL: "postgresql://h/d"}, None, StoreLocation("postgres", dsn="postgresql://h/d")),
        ({"REDIS_URL": "redis://h"}, None, redis_at("redis://h:6379/0")),
        ({"REDIS_URL": "rediss://u:p%40@h:1/3?x=1"}, None, redis_at("rediss://u:p%40@h:1/3?x=1")),
        ({"REDIS_URL": "redis://[::1]:7"}, None, redis_at("redis://[::1]:7/0")),
        ({"REDIS_URL": "redis://h", URL: "postgresql://h/d"}, None, redis_at("redis://h:6379/0")),
        ({"AGENT_COMMUNICATION_MODE": "redis"}, None, redis_at("redis://localhost:6379/0")),
        ({"AGENT_COMMUNICATION_MODE": "mock", "REDIS_URL": "redis://h"}, None, MEMORY),
        ({"AGENT_COMMUNICATION_MODE": "sql", "REDIS_URL": "redis://h", URL: "sqlite://:memory:"}, None, MEMORY),
        ({"AGENT_COMMUNICATION_MODE": "mock"}, "redis://:p@/2", redis_at("redis://:p@localhost:6379/2")),
        ({"REDIS_URL": "redis://h"}, "postgresql://h/d", StoreLocation("postgres", dsn="postgresql://h/d")),
        ({"AZURE_SQL_SERVER": "x", URL: "sqlite://:memory:"}, None, MEMORY),
    ],
)
def test_where_the_coordination_is(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], string: str | None, expected: StoreLocation
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = Config().locate_coordination(string)
    assert found.backend == expected.backend
    assert found.dsn == expected.dsn
    assert Path(found.path or "").name == Path(expected.path or "").name


@pytest.mark.parametrize("string", [*ODBC, "mssql+pyodbc://h/d"])
def test_sql_server_is_answered_with_the_urls_that_are_accepted(string: str) -> None:
    message = refusal(lambda: Config().locate_coordination(string))
    for part in ("SQL Server", "postgresql://", "sqlite:///", "redis://"):
        assert part in message


def test_sql_server_in_the_environment_is_refused_where_nothing_else_names_a_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AZURE_SQL_SERVER", "your-server.database.windows.net")
    message = refusal(lambda: Config().locate_coordination())
    for part in ("AZURE_SQL_SERVER", "postgresql://", "sqlite:///", "AGENT_MESSAGING_DATABASE_URL"):
        assert part in message
    assert Config().store.backend == "sqlite"


@pytest.mark.parametrize(
    "string",
    [
        f"redis://:{SECRET}@h:0",
        f"redis://:{SECRET}@h:x",
        f"redis://:{SECRET}@a@h",
        f"redis://:{SECRET}@h/name",
        f"redis://:{SECRET}@h/0#x",
        f"redis://:{SECRET}@h/\n",
        "memory",
        "",
        7,
    ],
)
def test_a_connection_string_that_cannot_be_used_is_refused(string: Any) -> None:
    refusal(lambda: Config().locate_coordination(string))


def test_redis_is_no_store_of_the_sdk_and_its_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"redis://:{SECRET}@h"
    assert "agent_messaging.coordination" in refusal(lambda: Config(url=url))
    assert SECRET not in repr(CoordinationConfig(redis_url=url))
    assert SECRET not in str(Config(coordination={"redis_url": url}).locate_coordination())
    monkeypatch.setenv("REDIS_URL", f"http://:{SECRET}@h")
    assert refusal(Config).startswith("REDIS_URL in the environment: ")


async def test_a_working_directory_that_was_removed_concerns_only_what_is_in_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "which was removed. Go to a folder that exists" in refusal(lambda: Config(url="sqlite:///relative.db"))
    with pytest.raises(ConfigurationError, match="which was removed"):
        await AgentMessaging().initialize()
    assert Config(url=f"sqlite:///{tmp_path}/a.db").store.path == str(tmp_path / "a.db")
    async with AgentMessaging("sqlite://:memory:") as sdk:
        assert await sdk.list_agents() == []
