"""The queue, the workers and the tasks of the coordination on Redis or Valkey. The only package that imports redis."""

from ...exceptions import ConfigurationError

try:
    import redis  # noqa: F401
except ImportError as error:
    raise ConfigurationError(
        "Redis needs the client redis, which is not installed. Run: pip install 'agent-messaging[redis]'"
    ) from error
