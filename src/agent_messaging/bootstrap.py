"""The composition root: from the configuration to a store. The only module that names a backend.

A backend is imported when it is built, so that importing the package loads none, and a driver only where it is used.
"""

from __future__ import annotations

from .config import Config, DatabaseConfig, StoreLocation
from .storage.ports import CoordinationStore, Store


def build_store(config: Config) -> Store:
    """Build the store that the configuration chooses; without I/O.

    Raises:
        ConfigurationError: It needs an extra that is not installed; names it.
    """
    return _build(config.store, config.database)


def build_work_store(config: Config) -> CoordinationStore | None:
    """Build the store of `sdk.tasks` where that is not the SDK's own; without I/O.

    Raises:
        ConfigurationError: It needs an extra that is not installed; names it.
    """
    location = config.redis
    return None if location is None else build_coordination_store(location, config)


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
