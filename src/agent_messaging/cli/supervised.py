"""A process that a supervisor has started, on its own side: it tells what the supervisor is to know, and outlives it
only to leave in order.

Its stdin is a socket to the supervisor. What it tells are JSON objects, one a line. Nothing comes back; the end of the
stream means that the supervisor is gone, in whatever way.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import sysconfig
import threading
import traceback
from pathlib import Path
from typing import Any

from .output import tell

LOOKS_EVERY = 1.0
"""Seconds between two looks for modules that the program has loaded meanwhile."""


class Channel:
    """The way to the supervisor. It takes the place of stdin at once, so that no code of the program reads from it.

    Args:
        tells_files: The supervisor watches the files of the program.
    """

    def __init__(self, *, tells_files: bool) -> None:
        self._tells_files = tells_files
        self._socket = socket.socket(fileno=os.dup(0))
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        self._files: set[str] = set()

    def tell_ready(self) -> None:
        """The program serves."""
        self._tell(event="ready")

    def tell_closed(self, *, by_signal: bool) -> None:
        """The SDK was left in order: the end of the process is no accident.

        Args:
            by_signal: A signal has asked for it, and not the program itself.
        """
        self._tell(event="closed", by_signal=by_signal)

    def tell_files(self, error: BaseException | None = None) -> None:
        """The files of which the program is made, those in which it failed among them."""
        files = find_files(error) if self._tells_files else set()
        if files != self._files:
            self._files = files
            self._tell(event="files", files=sorted(files))

    def watch(self) -> None:
        """From now on tell of new files, and leave when the supervisor is gone."""
        self.tell_files()
        threading.Thread(target=self._watch, name="agent-messaging-supervisor", daemon=True).start()

    def _watch(self) -> None:
        self._socket.settimeout(LOOKS_EVERY)
        is_there = True
        while is_there:
            try:
                is_there = bool(self._socket.recv(1))
            except TimeoutError:
                with contextlib.suppress(OSError):  # the working directory is gone
                    self.tell_files()
            except OSError:
                is_there = False
        tell(f"The supervisor of process {os.getpid()} is gone: it stops.")
        os.kill(os.getpid(), signal.SIGTERM)

    def _tell(self, **facts: Any) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone
            self._socket.sendall(json.dumps(facts).encode() + b"\n")


def find_files(error: BaseException | None = None) -> set[str]:
    """The source files of the program's own modules, and those in which this error happened."""
    found = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    while error is not None:
        found |= {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
        found.add(getattr(error, "filename", None))  # of a SyntaxError
        error = error.__cause__ or error.__context__
    paths = sysconfig.get_paths()
    others = tuple(paths[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    own = str(Path(__file__).parents[1]) + os.sep
    files = {os.path.abspath(file) for file in found if isinstance(file, str) and file.endswith(".py")}
    files = {file for file in files if not file.startswith((*others, own)) and os.path.exists(file)}
    return files | {os.path.abspath(".env")}
