"""The composition root: from the configuration to a store. The only module that names a backend.

A backend is imported when it is built, so that importing the package loads neither, and asyncpg only where it is used.
"""

from __future__ import annotations

from .config import Config
from .storage.ports import Store


def build_store(config: Config) -> Store:
    """Build the store that the configuration chooses; without I/O.

    Raises:
        ConfigurationError: It needs an extra that is not installed; names it.
    """
    location = config.store
    if location.backend == "postgres":
        from .storage.postgres.store import PostgresStore

        database = config.database
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
    return SQLiteStore(location.path, busy_timeout=config.database.call_timeout)
