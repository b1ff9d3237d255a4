"""A real pgbouncer between a store and its server."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import asyncpg

from tests.postgres.servers import OwnServer, free_port, identity_for
from tests.support import eventually

_FOLDER = Path(sys.prefix) / "pgbouncer"
"""Where `make` puts it."""


def find_program() -> Path | None:
    """pgbouncer, if this machine has it."""
    path = (
        shutil.which(_FOLDER / "usr/sbin/pgbouncer") or shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    )
    return Path(path) if path else None


@contextlib.asynccontextmanager
async def pgbouncer(server: OwnServer, pool_mode: str, **settings: str) -> Any:
    """Run one in front of the server; gives the URL through it."""
    program = find_program()
    assert program is not None
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="am-bouncer-"))
    lines = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "trust",
        "auth_file": str(folder / "users"),
        "logfile": str(folder / "log"),
        "pidfile": str(folder / "pid"),
        "pool_mode": pool_mode,
        **settings,
    }
    text = "\n".join(f"{name} = {value}" for name, value in lines.items())
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\n{text}\n", encoding="utf-8"
    )
    (folder / "users").write_text('"postgres" ""\n', encoding="utf-8")
    identity = identity_for(folder, *folder.iterdir())  # it does not run as root
    libraries = ":".join(str(path) for path in (_FOLDER / "usr/lib").glob("*-linux-gnu*"))
    process = subprocess.Popen(
        [program, folder / "pgbouncer.ini"],
        cwd=folder,
        env={"LD_LIBRARY_PATH": libraries, "PATH": os.environ.get("PATH", "")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **identity,
    )
    dsn = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    try:
        await eventually(lambda: _answers(dsn))
        yield dsn
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
        process.kill()
        process.wait(5)
        shutil.rmtree(folder, ignore_errors=True)


async def _answers(dsn: str) -> bool:
    with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection = await asyncpg.connect(dsn, timeout=5, statement_cache_size=0)
        connection.terminate()
        return True
    return False
