"""The PostgreSQL backend. The only package that imports asyncpg."""

from ...exceptions import ConfigurationError

try:
    import asyncpg  # noqa: F401
except ImportError as error:
    raise ConfigurationError(
        "PostgreSQL needs the driver asyncpg, which is not installed. Run: pip install 'agent-messaging[postgres]'"
    ) from error
