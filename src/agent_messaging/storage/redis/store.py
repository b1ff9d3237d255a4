"""The backend of the coordination on Redis or Valkey, as a whole."""

from __future__ import annotations

import re
from datetime import datetime
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ...exceptions import ConfigurationError
from ..ports import Capabilities, Dues, StoreFacts
from .engine import Engine
from .presence import RedisPresence
from .processes import RedisProcesses
from .queue import RedisQueue
from .schedules import RedisSchedules
from .tasks import RedisTasks
from .values import seconds
from .workers import RedisWorkers

NAMESPACE = "agent_messaging"
ABOUT_ANSWERS = ("protocol", "decode_responses", "encoding", "encoding_errors", "health_check_interval")
"""Parameters that a URL may have for other programs: here answers are bytes, and the connections are looked after."""


class RedisStore:
    """See `ports.CoordinationStore`.

    Args:
        dsn: The URL, with the password. Its parameter `namespace` says what the keys begin with: stores of one
            namespace share everything, of two nothing. The others are those of the client.
        location: What is shown of it.
        call_timeout: Seconds that a call may take, tries included.
        lease: Seconds for which a process owns what it claimed without a sign of life.
    """

    capabilities = Capabilities(processes=True, durable=True)

    def __init__(self, dsn: str, *, location: str, call_timeout: float = 10.0, lease: float = 30.0) -> None:
        self.location = location
        dsn, namespace = _split(dsn)
        self.engine = Engine(dsn, location=location, namespace=namespace, call_timeout=call_timeout)
        self.queue = RedisQueue(self.engine)
        self.workers = RedisWorkers(self.engine)
        self.tasks = RedisTasks(self.engine)
        self.schedules = RedisSchedules(self.engine)
        self.processes = RedisProcesses(self.engine)
        self.presence = RedisPresence(self.engine, lease)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the server would lose, as `open` found it."""
        return tuple(self.engine.warnings)

    async def open(self, *, initialize: bool = True) -> None:
        """See `ports.CoordinationStore`; there is nothing to initialize here."""
        await self.engine.open()

    async def find_dues(self, now: datetime | None = None) -> Dues:
        return Dues(None, None, *map(seconds, await self.engine.call("find_dues", now=now)))

    async def describe(self) -> StoreFacts:
        await self.engine.open()
        return StoreFacts("redis", self.location, self.engine.version, 0, self.engine.durability, self.warnings)

    async def aclose(self) -> None:
        await self.presence.aclose()
        await self.engine.aclose()


def _split(dsn: str) -> tuple[str, str]:
    """The URL for the client, and the namespace."""
    parts = urlsplit(dsn)
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    namespace = parameters.pop("namespace", NAMESPACE)
    for name in ABOUT_ANSWERS:
        parameters.pop(name, None)
    if not re.fullmatch(r"[\w.-]{1,100}", namespace, re.ASCII):
        raise ConfigurationError(
            "The `namespace` of the Redis URL cannot be used: 1 to 100 letters, digits, `_`, `.` and `-` are accepted."
        )
    return urlunsplit(parts._replace(query=urlencode(parameters))), namespace
