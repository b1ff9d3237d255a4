"""Database URLs: the store that one points at, and the form in which it is shown without its password."""

from __future__ import annotations

import os
import re
from dataclasses import field
from typing import Literal
from urllib.parse import urlsplit

from ..arguments import absolute
from ..exceptions import ConfigurationError
from ..records import dataclass

SQLITE_FILE = "agent_messaging.db"
"""The store when nothing is configured, in the working directory."""
URL_FORMS = (
    "postgresql://user:password@host:5432/database, sqlite:///relative/path.db, sqlite:////absolute/path.db "
    "or sqlite://:memory:"
)
REDIS_SCHEMES = ("redis", "rediss")
REDIS_FORMS = "redis://user:password@host:6379/0 or rediss://… (encrypted)"
UNPRINTABLE = "[\x00-\x1f\x7f\ud800-\udfff]"
"""Control characters and halves of surrogate pairs (which undecodable bytes in the environment become)."""


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """A backend and its place. Printing it shows no password."""

    backend: Literal["sqlite", "postgres", "redis"]
    path: str | None = None
    """SQLite: an absolute path, or ":memory:"."""
    dsn: str | None = field(default=None, repr=False)
    """PostgreSQL and Redis: the URL with the password."""

    def __str__(self) -> str:
        if self.path is not None:
            return f"sqlite://{self.path}" if self.path == ":memory:" else f"sqlite:///{self.path}"
        return mask(self.dsn or "")


def parse_url(url: str) -> StoreLocation:
    """Tell what a database URL points at.

    SQLite: all that follows `sqlite:///` is the path, taken literally; a relative one starts in the working directory.
    PostgreSQL: handed to the driver as it is, with its query parameters, such as `?host=/run/postgresql`.

    Raises:
        ConfigurationError: It is not such a URL. The message never shows more of it than the scheme.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if re.search(UNPRINTABLE, url):
        raise ConfigurationError(f"The database URL holds control characters or is not UTF-8. Accepted: {URL_FORMS}.")
    if scheme.startswith("mssql") or re.search(r"(?i)\b(driver|server|data source)\s*=", url):
        raise ConfigurationError(
            f"The database URL points at SQL Server, which is not a backend. Accepted: {URL_FORMS}."
        )
    if scheme in REDIS_SCHEMES:
        raise ConfigurationError(
            "The database URL points at Redis, which keeps queues and tasks of the coordination alone. Give it to "
            f"agent_messaging.coordination, or as REDIS_URL. Accepted here: {URL_FORMS}."
        )
    if not separator or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        raise ConfigurationError(f"This is not a database URL.{_meant_by_path(url)} Accepted: {URL_FORMS}.")
    if scheme == "sqlite":
        return _parse_sqlite(rest)
    if scheme in ("postgresql", "postgres"):
        return _parse_postgres(url)
    if scheme == "file":
        hint = _meant_by_path(rest)
    else:
        backend, plus, _ = scheme.partition("+")
        is_known = plus and backend in ("sqlite", "postgresql", "postgres")
        hint = f" Write it as {backend}://…, without the driver." if is_known else ""
    raise ConfigurationError(
        f"The database URL has the scheme {scheme!r}, for which there is no backend.{hint} Accepted: {URL_FORMS}."
    )


_A_PATH = r"(?i):memory:|(?:[.~]{0,2}/)[^@=\s?#]*|[^@=:\s?#]+\.(?:db|db3|sqlite|sqlite3)"
"""Text that may be shown, because it is a file's name and holds no password."""


def _meant_by_path(text: str) -> str:
    """Say which URL was meant, if a file's name was given instead of one, or that it is in quotes."""
    if (bare := text.strip().strip("'\"")) != text and "://" in bare:
        return " Leave out the quotes and blanks around it, which are part of the value here."
    if not re.fullmatch(_A_PATH, text) or text.endswith("/"):
        return ""
    meant = "sqlite://:memory:" if text == ":memory:" else f"sqlite:///{os.path.expanduser(text)}"
    return f" For this file, write {meant}."


def _parse_sqlite(rest: str) -> StoreLocation:
    if rest in (":memory:", "/:memory:"):
        return StoreLocation("sqlite", path=":memory:")
    path = rest[1:]
    if not rest.startswith("/") or not path:
        raise ConfigurationError(
            f"The database URL has no path after `sqlite:///` (three slashes).{_meant_by_path(rest)} "
            f"Accepted: {URL_FORMS}."
        )
    if "?" in path:
        raise ConfigurationError(
            "The database URL has parameters after `?`, but SQLite takes none here. Leave them out."
        )
    if path.endswith("/"):
        raise ConfigurationError(f"The database URL names a folder. Add the file's name, such as {SQLITE_FILE}.")
    return StoreLocation("sqlite", path=absolute(path))


def _parse_postgres(url: str) -> StoreLocation:
    quoting = "Characters such as @ : / ? # % in the user or password are written percent-quoted (urllib.parse.quote)."
    try:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2]
        # A second @ is one of the password: drivers take what is behind the first one for the host.
        ports_fit = parts.netloc.count("@") < 2 and ("," in hosts or parts.port is None or parts.port > 0)
    except ValueError:
        ports_fit = False
    if not ports_fit:
        raise ConfigurationError(
            f"The database URL has no usable host and port (1 to 65535). {quoting} Accepted: {URL_FORMS}."
        )
    if parts.fragment or any(character.isspace() for character in url):
        raise ConfigurationError(f"The database URL holds a `#` or a blank. {quoting} Accepted: {URL_FORMS}.")
    return StoreLocation("postgres", dsn=url)


def parse_redis_url(url: str) -> StoreLocation:
    """Tell what a Redis URL points at; host, port and database may be left out (localhost, 6379, 0).

    Raises:
        ConfigurationError: It is not such a URL. The message never shows more of it than the scheme.
    """
    try:
        parts = urlsplit(url)
        fits = parts.scheme in REDIS_SCHEMES and parts.netloc.count("@") < 2 and (parts.port is None or parts.port > 0)
    except ValueError:
        fits = False
    if not fits or re.search(UNPRINTABLE, url) or not re.fullmatch(r"/?\d*", parts.path) or parts.fragment:
        raise ConfigurationError(
            "The Redis URL cannot be used: it needs a host, a port from 1 to 65535, and the number of a database. "
            "Characters such as @ : / ? # % in the user or password are written percent-quoted (urllib.parse.quote). "
            f"Accepted: {REDIS_FORMS}."
        )
    host = parts.hostname or "localhost"
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    query = f"?{parts.query}" if parts.query else ""
    place = f"[{host}]" if ":" in host else host
    dsn = f"{parts.scheme}://{user}{place}:{parts.port or 6379}/{parts.path.strip('/') or '0'}{query}"
    return StoreLocation("redis", dsn=dsn)


def mask(url: str) -> str:
    """Return the URL without its password, for logs and messages."""
    url = re.sub(r"(?s)://([^:@/]*):.*@", r"://\1:***@", url)
    return re.sub(r"(?i)([?&][^=&]*password=)[^&]*", r"\1***", url)
