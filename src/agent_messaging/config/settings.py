"""The settings: what each means, its unit and default, and what raising and lowering it does."""

# Annotations are not text here, as they are elsewhere: pydantic would compile each of them again at import.

import os
from collections.abc import Collection, Mapping
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Self, TypedDict, Unpack
from urllib.parse import quote

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, field_validator, model_validator

from ..exceptions import ConfigurationError
from .coordination import DEFAULT_REDIS_URL, CoordinationConfig, parse_connection_string
from .reading import (
    DEFAULT_AGES,
    Ages,
    Count,
    LogLevel,
    Number,
    Seconds,
    SecondsOrZero,
    Settings,
    Switch,
    Text,
    check_host,
    check_password,
    logger,
    name_unknown,
    read_level,
    read_port,
)
from .urls import REDIS_FORMS, SQLITE_FILE, URL_FORMS, StoreLocation, mask, parse_redis_url, parse_url


class DatabaseConfig(Settings):
    """The place of PostgreSQL, and the use of the store.

    Giving `host` or `database`, in code or by a variable, chooses PostgreSQL; see `Config` for the whole rule.
    """

    prefix = "POSTGRES_"
    variables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "url": ("AGENT_MESSAGING_DATABASE_URL",),
        "database": ("POSTGRES_DATABASE", "POSTGRES_DB"),
    }
    secrets: ClassVar[frozenset[str]] = frozenset({"password", "url"})
    _everywhere: ClassVar[frozenset[str]] = frozenset({"url", "call_timeout"})
    """The fields that count whichever store is chosen."""
    _in_url: ClassVar[frozenset[str]] = frozenset({"host", "port", "user", "password", "database"})
    """The fields that a URL replaces."""

    host: Annotated[str, AfterValidator(check_host)] = "localhost"
    """The server's name or address, or the folder of its socket."""
    port: Annotated[int, Field(ge=1, le=65535), BeforeValidator(read_port)] = 5432
    user: Text = "postgres"
    password: Annotated[str, AfterValidator(check_password)] = Field(default="postgres", repr=False)
    """Empty: none is sent, so that the server's own rules or a password file decide."""
    database: Text = "agent_messaging"
    """The database's name. The SDK makes its tables in it, not the database itself."""
    max_pool_size: Count = 20
    """Connections at most, beside the one that listens; they are held for statements, never while something waits.

    More let more calls run at once, until the server's own limit (`max_connections`) is shared by too many processes.
    """
    min_pool_size: Count = Field(default_factory=lambda values: min(5, values.get("max_pool_size", 5)))
    """Connections opened at start, beside the one that listens, and closed when unused for five minutes.

    More answer a burst sooner. A server has few (100 as installed), so where this is not set a process opens them as
    calls need them, closes what was unused for 3 s, and keeps one.
    """
    connect_timeout_sec: Annotated[int, Field(ge=1, le=3600), Number] = 10
    """Seconds to establish a connection. More bears slow networks; less reports an unreachable server sooner."""
    call_timeout: Seconds = 10.0
    """Seconds a call to the store may take, tries included, before it fails as busy, unavailable or unknown.

    More rides out longer interruptions (a restart of the server, another program's long transaction); less tells the
    caller sooner.
    """
    lease: Seconds = 30.0
    """PostgreSQL and Redis: seconds for which a process owns what it claimed, renewed while it lives.

    Less takes over from a dead process sooner, and from a live one that was cut off for that long.
    """
    allow_unsafe_server: Switch = False
    """True starts also on a server with `fsync=off`, which loses acknowledged messages in a power cut."""
    url: str | None = Field(default=None, repr=False)
    """A database URL, of PostgreSQL or SQLite. It wins over host, port, user, password and database."""

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        location = parse_url(url)
        # A relative path is that of now: the working directory may change before the store is opened.
        return url if location.path is None else str(location)

    @model_validator(mode="after")
    def _check_pool(self) -> Self:
        if self.min_pool_size > self.max_pool_size:
            raise ValueError(
                f"min_pool_size {self.min_pool_size} is above max_pool_size {self.max_pool_size}. "
                "Lower the one or raise the other."
            )
        return self

    @classmethod
    def _passed_over(cls, problem: Mapping[str, Any], sources: Mapping[str, str]) -> Collection[str]:
        # All variables are passed over until it is known which store is chosen.
        if problem["loc"]:
            return {str(problem["loc"][0])} & sources.keys()
        return {"min_pool_size", "max_pool_size"} & sources.keys()

    def check_variables(self) -> None:
        """Refuse what the environment says of the store that is chosen, where it cannot be used.

        Raises:
            ConfigurationError: Some of it cannot.
        """
        refused = self._refused
        if self.url is not None:
            is_sqlite = parse_url(self.url).backend == "sqlite"
            used = self._everywhere if is_sqlite else type(self).model_fields.keys() - self._in_url
        elif (self.model_fields_set | refused.keys()) & {"host", "database"}:
            used = frozenset(type(self).model_fields)
        else:
            used = self._everywhere
        if reasons := [reason for name, reason in refused.items() if name in used]:
            raise ConfigurationError(" ".join(dict.fromkeys(reasons)))

    def __repr_args__(self) -> Any:
        yield from super().__repr_args__()
        if self.url is not None:
            yield "url", mask(self.url)

    @property
    def first_connections(self) -> int:
        """The number of connections that the pool opens at start."""
        return self.min_pool_size if "min_pool_size" in self.model_fields_set else 1

    @property
    def dsn(self) -> str:
        """The PostgreSQL URL, with the password: for the driver, not for logs."""
        if self.url is not None and parse_url(self.url).dsn is not None:
            return self.url
        user = quote(self.user, safe="")
        if self.password:
            user += f":{quote(self.password, safe='')}"
        database = quote(self.database, safe="")
        if self.host.startswith("/"):
            return f"postgres://{user}@/{database}?host={quote(self.host, safe='')}&port={self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgres://{user}@{host}:{self.port}/{database}"


class MessagingConfig(Settings):
    """The delivery of messages, and the time that things may take. Durations are seconds."""

    prefix = "MESSAGING_"
    variables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        name: (f"MESSAGING_{name.upper()}", name.upper(), *older)
        for name, *older in (
            ("default_sync_timeout", "DEFAULT_CONVERSATION_TIMEOUT"),
            ("default_meeting_turn_duration", "DEFAULT_TURN_DURATION"),
            ("default_meeting_timeout",),
            ("handler_timeout",),
        )
    }
    shared: ClassVar[frozenset[str]] = frozenset(name for names in variables.values() for name in names[1:])

    default_sync_timeout: Seconds = 30.0
    """The time that an ask waits for its answer when the call names no timeout."""
    default_meeting_turn_duration: Seconds = 60.0
    """The time of a turn when the meeting names no duration. Less keeps meetings moving past silent participants."""
    default_meeting_timeout: Seconds = 600.0
    """The time that a call waits for its turn when it names no timeout."""
    enable_turn_timeout: Switch = True
    """False: turns never end by time, whatever duration a meeting names."""
    handler_timeout: Seconds = 30.0
    """The time that a handler may run; one that answers an ask may take the ask's timeout if that is longer.

    More allows slow work; less frees the agent sooner from a handler that hangs. A run cut off counts as an attempt.
    """
    auto_invoke_handlers: Switch = True
    """False: no handler runs by itself, agents fetch their messages (`receive`, `get_unread_messages`)."""
    handler_concurrency: Count = 10
    """Runs at once for each agent, over all its senders. Messages of one sender still run one after another.

    More raises the rate of handlers that wait for something; less protects what they use.
    """
    handler_grace: SecondsOrZero = 60.0
    """The time for which an agent counts as served after its last process was seen; 0 means only while one lives.

    More lets messages through a longer restart; less refuses sooner what nobody will handle.
    """
    require_handler: Switch = True
    """False: messages are stored also for agents that nobody serves yet. Calls can override it."""
    mailbox_limit: Count | None = 100_000
    """Open deliveries an agent may have before sends to it are refused with `MailboxFullError`; None is no limit.

    More rides out longer absences of a recipient, in disk space; less tells senders sooner that it does not keep up.
    """
    max_attempts: Annotated[int, Field(ge=1, le=10_000), Number] = 5
    """Runs of a message, crashes included, before it goes to the dead letters; 1 is no retry."""
    retry_delay: SecondsOrZero = 1.0
    """The pause before the first retry of a handler that raised; it doubles with each, up to `retry_max_delay`.

    Less repeats sooner; more spares what failed. 0 repeats at once.
    """
    retry_max_delay: SecondsOrZero = 300.0
    """The longest pause between two retries; at least `retry_delay`."""
    drain_timeout: SecondsOrZero | None = None
    """The time for which leaving the SDK goes on handling what it has; the rest is given back uncounted.

    None is `handler_timeout`, 0 gives back at once. More finishes more; less leaves sooner.
    """
    max_payload_bytes: Annotated[int, Field(ge=64, le=64 * 1024 * 1024), Number] = 1024 * 1024
    """The largest payload, as UTF-8 JSON. More costs memory in every process that reads a page of messages."""
    cross_organization: Switch = True
    """False: agents reach only agents of their own organization."""
    retention: Ages = DEFAULT_AGES
    """What is pruned by itself, and the seconds after which: kinds of `Prunable` with their ages.

    What ended so long ago goes, by and by, while a process is running: `{"messages": 30 * 86_400, "sessions": "90d"}`,
    as a variable `messages=30d,sessions=90d`. None, and a kind that is not named, is for ever; only idempotency keys
    are kept for a week unless something else is said. More keeps histories and receipts longer; less saves space.
    """

    @model_validator(mode="after")
    def _check_delays(self) -> Self:
        if self.retry_delay > self.retry_max_delay:
            raise ValueError(
                f"retry_delay {self.retry_delay:g} is above retry_max_delay {self.retry_max_delay:g}. "
                "Lower the one or raise the other."
            )
        return self


class ConfigKeywords(TypedDict, total=False):
    """The keywords of `Config(...)`: its fields, `url`, and the flat names of settings inside the two others."""

    database: DatabaseConfig | Mapping[str, Any]
    messaging: MessagingConfig | Mapping[str, Any]
    coordination: CoordinationConfig | Mapping[str, Any]
    debug: bool
    log_level: str
    auto_initialize_schema: bool
    url: str | None
    postgres_host: str
    postgres_port: int
    postgres_user: str
    postgres_password: str
    postgres_db: str
    max_pool_size: int
    default_conversation_timeout: float
    default_meeting_timeout: float
    default_turn_duration: float
    enable_turn_timeout: bool
    auto_invoke_handlers: bool


_FLAT = {
    "url": "database.url",
    "postgres_host": "database.host",
    "postgres_port": "database.port",
    "postgres_user": "database.user",
    "postgres_password": "database.password",
    "postgres_db": "database.database",
    "max_pool_size": "database.max_pool_size",
    "default_conversation_timeout": "messaging.default_sync_timeout",
    "default_meeting_timeout": "messaging.default_meeting_timeout",
    "default_turn_duration": "messaging.default_meeting_turn_duration",
    "enable_turn_timeout": "messaging.enable_turn_timeout",
    "auto_invoke_handlers": "messaging.auto_invoke_handlers",
}


def _find_default_file() -> str:
    try:  # now: the working directory may change before the store is opened
        return os.path.abspath(SQLITE_FILE)
    except FileNotFoundError:  # the working directory was removed; that concerns only who opens the file
        return SQLITE_FILE


class Config(Settings):
    """Everything the SDK can be told. `Config()` is the environment and the defaults.

    The store is, in this order: `url=`; `AGENT_MESSAGING_DATABASE_URL`; PostgreSQL if its host or database name is
    given, in code or by `POSTGRES_HOST`, `POSTGRES_DATABASE` or `POSTGRES_DB`; else the SQLite file
    `agent_messaging.db` in the working directory. So the first variable moves a program to another store, also one
    whose code names a host.

    Settings of `database` and `messaging` are accepted by their older flat names too (`postgres_host=`,
    `default_turn_duration=`, …), which win over the nested ones, and can be read by them.

    Raises:
        ConfigurationError: A setting is unknown or its value is not accepted.

    Example:
        Config(url="postgresql://agents:secret@db/agents", messaging=MessagingConfig(handler_timeout=120))
    """

    shared: ClassVar[frozenset[str]] = frozenset({"DEBUG", "LOG_LEVEL"})

    database: DatabaseConfig
    messaging: MessagingConfig
    coordination: CoordinationConfig
    debug: Switch = False
    """True logs at DEBUG, whatever `log_level` says."""
    log_level: Annotated[LogLevel, BeforeValidator(read_level)] = "INFO"
    """The least severe records that the SDK logs: DEBUG, INFO, WARNING, ERROR or CRITICAL.

    The logger `agent_messaging` gets this level, unless the application has given it one.
    """
    auto_initialize_schema: Switch = True
    """False: starting makes and changes no tables; a schema that does not fit is an error that names the command."""
    _default_file: str = PrivateAttr(default_factory=_find_default_file)

    def __init__(self, **settings: Unpack[ConfigKeywords]) -> None:
        values: dict[str, Any] = dict(settings)
        flat: dict[str, dict[str, Any]] = {"database": {}, "messaging": {}}
        for name in _FLAT.keys() & values.keys():
            part, _, inner = _FLAT[name].partition(".")
            flat[part][inner] = values.pop(name)
        values["database"] = _part(DatabaseConfig, values.get("database"), flat["database"])
        values["messaging"] = _part(MessagingConfig, values.get("messaging"), flat["messaging"])
        values["coordination"] = _part(CoordinationConfig, values.get("coordination"), {})
        if unknown := [name for name in values if name not in Config.model_fields]:
            raise ConfigurationError(name_unknown("Config", unknown[0], [*Config.model_fields, *_FLAT]))
        super().__init__(**values)
        self.database.check_variables()
        if self._file_refused is not None:
            if self._is_default_store:
                raise ConfigurationError(
                    f"{self._file_refused} It may say where the store is, and nothing else does. Make it a text in "
                    "UTF-8 that this user may read, or give url= or AGENT_MESSAGING_DATABASE_URL."
                )
            logger.warning("%s The environment and the defaults hold.", self._file_refused)

    @classmethod
    def from_url(cls, url: str, /, **settings: Unpack[ConfigKeywords]) -> Self:
        """Make the configuration for the store at this URL; everything else is as in `Config(...)`.

        Raises:
            ConfigurationError: The URL is not one of PostgreSQL or SQLite.
        """
        settings["url"] = url
        return cls(**settings)

    @property
    def store(self) -> StoreLocation:
        """The store that these settings choose."""
        if self._is_default_store:
            return StoreLocation("sqlite", path=self._default_file)
        if self.database.url is not None:
            return parse_url(self.database.url)
        return StoreLocation("postgres", dsn=self.database.dsn)

    @property
    def redis(self) -> StoreLocation | None:
        """The Redis that keeps queues, agents and tasks; None where the SDK's own store keeps them."""
        mode, redis_url = self.coordination.mode, self.coordination.redis_url
        if mode == "redis" or (mode is None and redis_url is not None):
            return parse_redis_url(redis_url or DEFAULT_REDIS_URL)
        return None

    def locate_coordination(self, connection_string: str | None = None) -> StoreLocation:
        """Tell where queues, agents and tasks of the coordination are.

        That is, in this order: the connection string, by its scheme; what `coordination.mode` says; Redis if there is
        a `coordination.redis_url`; else the SDK's own store.

        Raises:
            ConfigurationError: The string is no URL of a backend, or the environment names SQL Server and nothing else.
        """
        if connection_string is not None:
            return parse_connection_string(connection_string)
        if self.coordination.mode == "mock":
            return StoreLocation("sqlite", path=":memory:")
        if self.redis is not None:
            return self.redis
        if self._is_default_store and self.coordination.azure_sql_server is not None:
            raise ConfigurationError(
                "AZURE_SQL_SERVER names a SQL Server, which is not a backend, and nothing else says where the store "
                f"is. Set AGENT_MESSAGING_DATABASE_URL to {URL_FORMS}, or REDIS_URL to {REDIS_FORMS}."
            )
        return self.store

    @property
    def _is_default_store(self) -> bool:
        return self.database.url is None and not self.database.model_fields_set & {"host", "database"}

    url: ClassVar[property] = property(attrgetter(_FLAT["url"]))
    postgres_host: ClassVar[property] = property(attrgetter(_FLAT["postgres_host"]))
    postgres_port: ClassVar[property] = property(attrgetter(_FLAT["postgres_port"]))
    postgres_user: ClassVar[property] = property(attrgetter(_FLAT["postgres_user"]))
    postgres_password: ClassVar[property] = property(attrgetter(_FLAT["postgres_password"]))
    postgres_db: ClassVar[property] = property(attrgetter(_FLAT["postgres_db"]))
    max_pool_size: ClassVar[property] = property(attrgetter(_FLAT["max_pool_size"]))
    default_conversation_timeout: ClassVar[property] = property(attrgetter(_FLAT["default_conversation_timeout"]))
    default_meeting_timeout: ClassVar[property] = property(attrgetter(_FLAT["default_meeting_timeout"]))
    default_turn_duration: ClassVar[property] = property(attrgetter(_FLAT["default_turn_duration"]))
    enable_turn_timeout: ClassVar[property] = property(attrgetter(_FLAT["enable_turn_timeout"]))
    auto_invoke_handlers: ClassVar[property] = property(attrgetter(_FLAT["auto_invoke_handlers"]))


def _part(kind: type[Settings], given: object, flat: Mapping[str, Any]) -> Settings:
    if given is None or isinstance(given, Mapping):
        return kind(**{**(given or {}), **flat})
    if isinstance(given, kind):
        return kind(**{**{name: getattr(given, name) for name in given.model_fields_set}, **flat}) if flat else given
    name = kind.__name__.removesuffix("Config").lower()
    # Only the type is shown: it may be a URL with a password.
    raise ConfigurationError(
        f"Config.{name}: {type(given).__name__} is refused; a {kind.__name__} or a mapping is accepted, a URL as url=."
    )
