"""The composition root: from the configuration to a store. The only module that names a backend.

A backend is imported when it is built, so that importing the package loads none, and a driver only where it is used.
"""

from __future__ import annotations

from typing import Any, NoReturn, Self

from .config import Config, DatabaseConfig, StoreLocation
from .exceptions import ConfigurationError, copy_error
from .storage.ports import CoordinationStore, Store


def build_store(config: Config) -> Store:
    """Build the store that the configuration chooses; without I/O.

    Raises:
        ConfigurationError: It needs an extra that is not installed; names it.
    """
    return _build(config.store, config.database)


def write_schema() -> str:
    """The schema of a PostgreSQL store as one script, with the record of its migrations; without I/O.

    Raises:
        ConfigurationError: The extra for PostgreSQL is not installed.
    """
    from .storage.postgres.schema import write_script

    return write_script()


class _Unusable:
    """In place of a store that cannot be built: whoever calls anything of it is told why, and nobody else is."""

    def __init__(self, error: ConfigurationError) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Self:
        return self

    def __call__(self, *_: object, **__: object) -> NoReturn:
        raise copy_error(self._error)

    async def aclose(self) -> None:
        """There is nothing to close."""


def build_work_store(config: Config) -> CoordinationStore | None:
    """Build the store of `sdk.tasks` where that is not the SDK's own; without I/O.

    Where it needs an extra that is not installed, the calls of tasks say so: `REDIS_URL` may be meant for others.
    """
    location = config.redis
    if location is None:
        return None
    try:
        return build_coordination_store(location, config)
    except ConfigurationError as error:
        told = ConfigurationError(f"{error} Or set AGENT_COMMUNICATION_MODE=sql, which keeps tasks with the messages.")
        unusable: Any = _Unusable(told)
        return unusable  # type: ignore[no-any-return]


def build_coordination_store(location: StoreLocation, config: Config) -> CoordinationStore:
    """Build the store of queues, workers and tasks at this place; without I/O.

    Raises:
        ConfigurationError: It needs an extra that is not installed; names it. Or the parameters of the URL are wrong.
    """
    if location.backend == "redis":
        from .storage.redis.store import RedisStore

        assert location.dsn is not None
        database = config.database
        return RedisStore(
            location.dsn, location=str(location), call_timeout=database.call_timeout, lease=database.lease
        )
    return _build(location, config.database)


def _build(location: StoreLocation, database: DatabaseConfig) -> Store:
    if location.backend == "postgres":
        from .storage.postgres.store import PostgresStore

        assert location.dsn is not None
        return PostgresStore(
            location.dsn,
            min_pool_size=database.first_connections,
            max_pool_size=database.max_pool_size,
            connect_timeout=float(database.connect_timeout_sec),
            call_timeout=database.call_timeout,
            lease=database.lease,
            allow_unsafe_server=database.allow_unsafe_server,
        )
    from .storage.sqlite.store import SQLiteStore

    assert location.path is not None
    return SQLiteStore(location.path, busy_timeout=database.call_timeout)
