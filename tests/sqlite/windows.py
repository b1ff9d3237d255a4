"""Windows, played in a process on Linux, as far as that is honest; see `test_systems.py`.

The calls and modules that Windows lacks are gone before anything of the package is loaded, the event loop waits for no
sockets, and kernel32's locks are Linux's open file description locks: like those of Windows they are of bytes, belong
to an open file, and go when it is closed or its process ends. What is not played: that those locks keep others from
reading, that open files cannot be removed, SQLite's own file system layer, and backslashes in paths.
"""

from __future__ import annotations

import asyncio
import builtins
import concurrent.futures
import contextlib
import ctypes
import ctypes.util
import importlib
import io
import logging.handlers
import multiprocessing
import os
import pkgutil
import runpy
import signal
import struct
import subprocess
import sys
import tempfile
import time
import types
import zoneinfo
from collections.abc import Sequence
from typing import Any

GONE = {
    os: (
        *("register_at_fork", "fork", "forkpty", "pread", "pwrite", "preadv", "killpg", "getpgid", "setsid", "sysconf"),
        *("O_CLOEXEC", "O_NONBLOCK", "O_DIRECTORY", "O_NOFOLLOW", "WNOHANG", "waitid", "getuid", "geteuid", "chown"),
        *("mkfifo", "uname", "statvfs", "fchmod", "posix_fallocate"),
    ),
    signal: ("SIGHUP", "SIGCHLD", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE", "SIGSTOP", "SIGCONT"),
    time: ("clock_gettime", "clock_gettime_ns", "CLOCK_BOOTTIME", "CLOCK_MONOTONIC", "CLOCK_MONOTONIC_RAW"),
}
MODULES = ("fcntl", "termios", "tty", "pty", "pwd", "grp", "resource", "syslog")
LOADED = (
    asyncio,
    concurrent.futures,
    ctypes.util,
    logging.handlers,
    multiprocessing,
    runpy,
    subprocess,
    tempfile,
    zoneinfo,
)
"""Parts of the standard library that ask for the system when they are loaded; so must third parties be."""
USED_BY_A_STORE = ("apsw", "dotenv", "pydantic.main")
THIRD_PARTIES = (
    *("apsw", "asyncpg", "click", "cronsim", "dotenv", "pydantic.main", "redis", "rich.console", "zstandard"),
    *("pytest", "textual", "opentelemetry.sdk", "prometheus_client"),
)
"""Those that the package can use; some are not installed everywhere."""

_IS_LOCKED = 33
_FIXED_DRIVE = 3


class Function:
    """A function of the library, of which ctypes lets the types be told."""

    argtypes: Any = None
    restype: Any = None

    def __init__(self, call: Any) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)


class Kernel:
    """kernel32."""

    def __init__(self, fcntl: Any, boot_clock_ns: Any) -> None:
        self._fcntl = fcntl
        self.error = 0
        self.held: set[tuple[int, int, int]] = set()
        self.LockFileEx = Function(self._lock)
        self.UnlockFileEx = Function(self._unlock)
        self.GetDriveTypeW = Function(lambda drive: _FIXED_DRIVE)
        self.GetTickCount64 = Function(lambda: boot_clock_ns() // 1_000_000)

    def _lock(self, handle: int, flags: int, reserved: int, low: int, high: int, place: Any) -> int:
        start, length = self._bytes(low, high, place)
        assert (handle, start, length) not in self.held, "Windows counts: one giving back would not be enough"
        fcntl = self._fcntl
        try:
            fcntl.fcntl(
                handle,
                fcntl.F_OFD_SETLK if flags & 1 else fcntl.F_OFD_SETLKW,
                self._asked(fcntl.F_WRLCK if flags & 2 else fcntl.F_RDLCK, start, length),
            )
        except BlockingIOError:
            self.error = _IS_LOCKED
            return 0
        self.held.add((handle, start, length))
        return 1

    def _unlock(self, handle: int, reserved: int, low: int, high: int, place: Any) -> int:
        start, length = self._bytes(low, high, place)
        self.held.remove((handle, start, length))
        self._fcntl.fcntl(handle, self._fcntl.F_OFD_SETLK, self._asked(self._fcntl.F_UNLCK, start, length))
        return 1

    @staticmethod
    def _bytes(low: int, high: int, place: Any) -> tuple[int, int]:
        given = place._obj
        return given.offset | given.offset_high << 32, low | high << 32

    @staticmethod
    def _asked(kind: int, start: int, length: int) -> bytes:
        return struct.pack("hhqqi0q", kind, os.SEEK_SET, start, length, 0)


class Loop(asyncio.SelectorEventLoop):
    """A loop that, like that of Windows, waits for no descriptors of ours and hears no signals."""

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
        raise NotImplementedError

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:  # type: ignore[override]
        raise NotImplementedError


class Policy(asyncio.DefaultEventLoopPolicy):
    _loop_factory = Loop


def _without_proc(original: Any) -> Any:
    def opened(file: Any, *arguments: Any, **options: Any) -> Any:
        if str(file).startswith(("/proc/", "/dev/fd")):
            raise FileNotFoundError(2, "there is no such thing on Windows", str(file))
        return original(file, *arguments, **options)

    return opened


def play(parties: Sequence[str]) -> None:
    """From now on this process is one on Windows to what is loaded after it, but for these packages."""
    import fcntl

    for name in parties:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    assert not [name for name in sys.modules if name.startswith("agent_messaging")]
    kernel = Kernel(fcntl, lambda clock=time.CLOCK_BOOTTIME, read=time.clock_gettime_ns: read(clock))
    signal.SIGBREAK = signal.SIGUSR2  # type: ignore[attr-defined]
    for module, names in GONE.items():
        for name in names:
            delattr(module, name)
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    sys.modules["msvcrt"] = types.SimpleNamespace(get_osfhandle=int)  # type: ignore[assignment]
    ctypes.WinDLL = lambda name, use_last_error: kernel  # type: ignore[attr-defined]
    ctypes.get_last_error = lambda: kernel.error  # type: ignore[attr-defined]
    os.O_BINARY = 0  # type: ignore[attr-defined]
    builtins.open = io.open = _without_proc(open)
    asyncio.set_event_loop_policy(Policy())
    sys.platform = "win32"


def import_all() -> None:
    """Import every module of the package. One that needs an extra which is not installed may say so."""
    import agent_messaging
    from agent_messaging.exceptions import ConfigurationError

    for module in pkgutil.walk_packages(agent_messaging.__path__, "agent_messaging."):
        if not module.name.endswith((".__main__", ".posix")):
            with contextlib.suppress(ConfigurationError):
                importlib.import_module(module.name)
            print(module.name)


async def take_part(path: str, role: str) -> None:
    """Tell "begun" for each run of bob's handler, which the victim never ends; the sender sends, and looks around."""
    from agent_messaging import AgentMessaging, MessageContext
    from agent_messaging.coordination import enable_file_logging

    enable_file_logging(f"{path}.logs")
    sdk: AgentMessaging[Any] = AgentMessaging(f"sqlite:///{path}")

    async def handle(note: dict[str, Any], context: MessageContext) -> None:
        print("begun", note["text"], context.attempt, flush=True)
        if role == "victim" and note["text"] == "hang":
            await asyncio.Event().wait()

    async with sdk:
        await sdk.register_organization("acme", "Acme")
        for agent in ("alice", "bob"):
            await sdk.register_agent(agent, "acme", agent)
        if role == "sender":
            ids = await sdk.one_way.send("alice", "bob", {"text": "hang"}, require_handler=False)
            print("sent", flush=True)
            receipt = (await sdk.receipts.wait(ids, timeout=60))[0]
            await sdk.backup(f"{path}.backup")
            await sdk.archive.export(f"{path}.jsonl.gz")
            print("settled", receipt.state, receipt.attempt, flush=True)
            return
        sdk.register_handler("bob")(handle)
        print("serving", flush=True)
        await asyncio.Event().wait()


def hold_name(path: str) -> None:
    """Take the lock of a database under this name, and keep it until stdin is closed."""
    from agent_messaging.exceptions import ConfigurationError
    from agent_messaging.storage.sqlite.names import NameLock

    try:
        lock = NameLock(path)
        lock.take()
    except ConfigurationError as error:
        print("refused", error, flush=True)
        return
    print("held", flush=True)
    sys.stdin.read()
    lock.close()


if __name__ == "__main__":
    play(THIRD_PARTIES if sys.argv[1:] == ["import"] else USED_BY_A_STORE)
    match sys.argv[1:]:
        case ["import"]:
            import_all()
        case ["name", path]:
            hold_name(path)
        case [role, path]:
            asyncio.run(take_part(path, role))
