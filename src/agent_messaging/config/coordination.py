"""The settings of the coordination: supervisors, workers, queues and tasks."""

# Annotations are not text here, as they are elsewhere: pydantic would compile each of them again at import.

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator

from ..exceptions import ConfigurationError
from .reading import Number, Seconds, Settings, Text
from .urls import REDIS_FORMS, REDIS_SCHEMES, StoreLocation, mask, parse_redis_url, parse_url

DEFAULT_REDIS_URL = "redis://localhost:6379/0"
"""The Redis that `mode="redis"` means without a URL."""


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


class CoordinationConfig(Settings):
    """Where the coordination keeps its queues, and the time that tasks may take. Durations are seconds."""

    prefix = "AGENT_"
    variables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "mode": ("AGENT_COMMUNICATION_MODE",),
        "redis_url": ("REDIS_URL",),
        "azure_sql_server": ("AZURE_SQL_SERVER",),
    }
    secrets: ClassVar[frozenset[str]] = frozenset({"redis_url"})
    shared: ClassVar[frozenset[str]] = frozenset(
        {"AGENT_DEFAULT_TIMEOUT", "AGENT_MAX_RETRIES", "AGENT_HEARTBEAT_INTERVAL"}
    )

    mode: Annotated[Literal["sql", "redis", "mock"] | None, BeforeValidator(_lower)] = None
    """`"sql"` is the SDK's own store, `"redis"` is Redis, `"mock"` is memory, which all of this process share.

    None is Redis where there is a `redis_url`, and the SDK's own store otherwise.
    """
    redis_url: Text | None = Field(default=None, repr=False)
    """`redis://user:password@host:6379/0`, or `rediss://…` for an encrypted connection."""
    default_timeout: Seconds = 300.0
    """The time a task may take, from its assignment, when nothing else says it; then another worker gets it.

    More allows slow work; less takes work away sooner from a worker that hangs.
    """
    max_retries: Annotated[int, Field(ge=0, le=9_999), Number] = 3
    """Runs of a task or message after the first, before it has failed or is a dead letter; 0 is no retry."""
    heartbeat_interval: Seconds = 30.0
    """The time between two signs of life of an agent, which is taken for dead after three of them without one.

    Less notices a dead agent sooner; more spares the store.
    """
    azure_sql_server: str | None = Field(default=None, repr=False)
    """Not a backend: where it is all that says where the store is, an error says what to set instead."""

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: str | None) -> str | None:
        if url is not None:
            parse_redis_url(url)
        return url

    def __repr_args__(self) -> Any:
        yield from super().__repr_args__()
        if self.redis_url is not None:
            yield "redis_url", mask(self.redis_url)


def parse_connection_string(connection_string: str) -> StoreLocation:
    """Tell what a connection string points at, by its scheme.

    Raises:
        ConfigurationError: It is no URL of Redis, PostgreSQL or SQLite. The message shows no password.
    """
    if not isinstance(connection_string, str):
        raise ConfigurationError(
            f"connection_string is a {type(connection_string).__name__}. Give the URL of a store as text, or None for "
            "the store that the environment names."
        )
    if connection_string.partition("://")[0].lower() in REDIS_SCHEMES:
        return parse_redis_url(connection_string)
    try:
        return parse_url(connection_string)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error} For queues and tasks also {REDIS_FORMS}.") from None
