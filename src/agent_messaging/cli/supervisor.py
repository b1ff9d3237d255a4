"""The process above those that serve: it starts them, passes signals on, and starts those that die again.

It loads nothing of the program, so it cannot fail by it. Its processes are new ones, no forks, each in a process group
of its own: a terminal's Ctrl-C reaches the supervisor alone, which passes on what it hears, once.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from ..system import STOPS

AT_ONCE = 0.2
"""Seconds. Signals that come so soon after another one say the same, as in `delivery/signals.py`."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a process that died is started again; doubled each time that it dies without having lived."""
LIVED = 10.0
"""Seconds after which a process that dies has lived: its pauses begin anew."""
LOOKS_EVERY = 0.5
"""Seconds between two looks at the program's files; a change counts once a look finds no further one."""
HURRY_AFTER = 2.0
"""Seconds that a change of a file leaves to handlers that run; then they are given back."""


@dataclass(slots=True, eq=False)
class Process:
    """One of the processes, through all its lives."""

    number: int
    child: subprocess.Popen[bytes] | None = None
    """None while there is none."""
    channel: socket.socket | None = None
    heard: bytes = b""
    """The beginning of a line that is still to come."""
    started_at: float = 0.0
    began_at_ns: int = 0
    """The same by the wall clock, as the times of files are."""
    is_ready: bool = False
    """It serves."""
    has_closed: bool = False
    """It has left its SDK in order."""
    was_stopped: bool = False
    """A signal has asked it to."""
    deaths: int = 0
    """In a row, without having lived between them."""
    due_at: float | None = None
    """When it is to be started; None: it is not."""
    hurried_at: float | None = None
    """When it is told a second time to end, because of a change."""
    is_outdated: bool = False
    """It is told to end because of a change."""
    files: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    """What the program is made of, as it was when the process told of it."""
    before: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    """The same of its life before: a program that fails may lack the very file that is to come back."""


class Supervisor:
    """Some processes that serve the same program.

    Args:
        command: The command line of a process, by its place, such as "2/4".
        count: How many processes.
        reload: Start them anew when a file of the program changes.
        tell: Writes a line for people.
    """

    def __init__(
        self, command: Callable[[str], list[str]], count: int, *, reload: bool, tell: Callable[[str], None]
    ) -> None:
        self._command = command
        self._processes = [Process(number) for number in range(1, count + 1)]
        self._reload = reload
        self._tell = tell
        self._selector = selectors.DefaultSelector()
        self._heard: list[int] = []
        self._heard_at = -AT_ONCE
        self._stops = 0
        """How often it was told to stop."""
        self._code = 0
        """The exit code, once all have ended."""
        self._has_served = False
        """The program as it is now has been served by some process: if one fails, it is not the program's fault."""
        self._is_waiting_for_change = False
        self._changed: str | None = None
        """A file that has changed, until its changes have ended."""
        self._looked_at = 0.0

    def run(self) -> int:
        """Serve until stopped, or until the program turns out not to work; returns the exit code."""
        with self._listening():
            self._processes[0].due_at = 0.0
            while True:
                self._start_due()
                if not self._has_more:
                    return self._code
                self._wait()
                self._reap()
                self._obey()
                if self._reload and not self._stops:
                    self._look_at_files()

    @property
    def _lives(self) -> bool:
        return any(process.child is not None for process in self._processes)

    @property
    def _has_more(self) -> bool:
        """Whether a process lives, or will."""
        return self._lives or self._is_waiting_for_change or any(one.due_at is not None for one in self._processes)

    # --- waiting ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Within, signals are heard: each interrupts the waiting."""
        self._wakes, theirs = socket.socketpair()
        self._wakes.setblocking(False)
        theirs.setblocking(False)
        before: dict[int, Any] = {}
        heard: tuple[int, ...] = (*STOPS, signal.SIGCHLD)
        for number in heard:
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGCHLD:
                before[number] = signal.signal(number, self._hear)
        fd = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._wakes, selectors.EVENT_READ, None)
        try:
            yield
        finally:
            signal.set_wakeup_fd(fd)
            for number, handler in before.items():
                signal.signal(number, handler)
            for process in self._processes:
                self._forget_channel(process)
            self._selector.close()
            self._wakes.close()
            theirs.close()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._heard.append(number)

    def _wait(self) -> None:
        """Wait for a signal, for what a process tells, or until it is time for something."""
        times = [at for process in self._processes for at in (process.due_at, process.hurried_at) if at is not None]
        if self._reload:
            times.append(self._looked_at + LOOKS_EVERY)
        now = time.monotonic()
        for key, _ in self._selector.select(max(0.0, min(times) - now) if times else None):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    while self._wakes.recv(4096):
                        pass
            else:
                self._read(key.data)

    def _read(self, process: Process) -> None:
        while process.channel is not None:
            try:
                read = process.channel.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                read = b""
            if not read:
                self._forget_channel(process)
            *lines, process.heard = (process.heard + read).split(b"\n")
            for line in lines:
                self._take(process, json.loads(line))

    def _take(self, process: Process, fact: dict[str, Any]) -> None:
        if fact["event"] == "files":
            for file in fact["files"]:
                stamp = _stamp(file)
                # What changed while the process was loading it may have been loaded as it was before. A time in the
                # future, of another machine's clock, says nothing of that, and would start the program for ever.
                is_certain = stamp is None or not process.began_at_ns < stamp[0] <= time.time_ns()
                process.files.setdefault(file, stamp if is_certain else None)
            return
        if fact["event"] == "closed":
            process.has_closed, process.was_stopped = True, fact["by_signal"]
            return
        process.is_ready = True
        if not (self._has_served or self._stops or process.is_outdated):
            self._has_served = True
            for other in self._processes:
                if other.child is None and other.due_at is None:
                    other.due_at = 0.0

    def _forget_channel(self, process: Process) -> None:
        if process.channel is not None:
            self._selector.unregister(process.channel)
            process.channel.close()
            process.channel = None

    # --- beginning and ending -----------------------------------------------------------------------------------------

    def _start_due(self) -> None:
        now = time.monotonic()
        for process in self._processes:
            if process.due_at is not None and process.due_at <= now and process.child is None:
                self._start(process, now)
            if process.hurried_at is not None and process.hurried_at <= now:
                process.hurried_at = None
                self._send(process, signal.SIGTERM)

    def _start(self, process: Process, now: float) -> None:
        ours, theirs = socket.socketpair()
        began_at_ns = time.time_ns()
        with theirs:
            command = self._command(f"{process.number}/{len(self._processes)}")
            try:
                process.child = subprocess.Popen(command, stdin=theirs.fileno(), process_group=0)  # noqa: S603
            except OSError as error:  # the system has no room for one more
                ours.close()
                if not self._has_served:
                    raise
                self._tell_pause(process, f"Process {process.number} of {len(self._processes)} cannot start: {error}.")
                return
        ours.setblocking(False)
        process.channel, process.heard = ours, b""
        self._selector.register(ours, selectors.EVENT_READ, process)
        process.started_at, process.began_at_ns, process.due_at = now, began_at_ns, None
        process.is_ready = process.is_outdated = process.has_closed = process.was_stopped = False
        process.before, process.files = process.files, {}

    def _send(self, process: Process, number: int) -> None:
        if process.child is not None:  # not reaped, so its pid is its own
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.child.pid, number)

    def _reap(self) -> None:
        """Take note of every child that has ended; as the first process of a container, of orphans too."""
        by_pid = {process.child.pid: process for process in self._processes if process.child is not None}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (process := by_pid.get(pid)) is not None:
                self._ended(process, os.waitstatus_to_exitcode(status))

    def _ended(self, process: Process, code: int) -> None:
        assert process.child is not None
        self._read(process)  # what it told before it ended
        self._forget_channel(process)
        process.child.returncode = code
        who = f"Process {process.number} of {len(self._processes)} (pid {process.child.pid})"
        process.child, process.hurried_at = None, None
        lived = time.monotonic() - process.started_at
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        exit_code = 128 - code if code < 0 else code
        if self._stops:
            if exit_code and (process.is_ready or code >= 0):
                self._tell(f"{who} {how}.")
                self._code = self._code or exit_code
        elif process.is_outdated:
            self._begin_anew()
        elif code == 0 and process.was_stopped:  # a pool does not shrink by it
            process.due_at = time.monotonic() + FIRST_PAUSE  # in which our own signal comes, if all were told to stop
            self._tell(f"{who} was told to stop, not by this supervisor. It starts again in {FIRST_PAUSE:g} s.")
        elif code == 0 and process.has_closed:  # a handler that calls `sys.exit()` has not
            self._tell(f"{who} has closed its SDK.")
        elif not self._has_served:
            self._failed(process, who, how, exit_code)
        else:
            process.deaths = 0 if lived >= LIVED else process.deaths
            self._tell_pause(process, f"{who} {how} after {lived:.1f} s.")

    def _tell_pause(self, process: Process, why: str) -> None:
        """Start the process again, after a pause."""
        process.deaths += 1
        pause = min(FIRST_PAUSE * 2 ** min(process.deaths - 1, 10), LONGEST_PAUSE)
        process.due_at = time.monotonic() + pause
        self._tell(f"{why} It starts again in {pause:g} s.")

    def _failed(self, process: Process, who: str, how: str, exit_code: int) -> None:
        """The first process has ended before it served: others would end in the same way."""
        process.files = process.before | process.files
        if self._reload and process.files:
            self._is_waiting_for_change = True
            self._tell(f"{who} {how} before it served. It starts again when a file of the program changes.")
            return
        self._tell(f"{who} {how} before it served.")
        self._code = exit_code

    def _obey(self) -> None:
        """Do what the signals say that were heard."""
        heard, self._heard = self._heard, []
        for number in heard:
            now = time.monotonic()
            if now - self._heard_at < AT_ONCE:
                continue
            self._heard_at = now
            self._stops += 1
            if self._stops == 1:
                self._tell("Stopping: what runs may end. A second signal gives it back at once.")
            for process in self._processes:
                process.due_at = process.hurried_at = None
                self._send(process, signal.SIGTERM if self._stops < 3 else signal.SIGKILL)
            self._is_waiting_for_change = False
            if self._stops >= 3:
                self._code = 128 + number

    # --- changes of the program ---------------------------------------------------------------------------------------

    def _look_at_files(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < LOOKS_EVERY:
            return
        self._looked_at = now
        changed = None
        for process in self._processes:
            for file, stamp in process.files.items():
                if (found := _stamp(file)) != stamp:
                    process.files[file] = found
                    changed = file
        if changed is not None:
            self._changed = changed
        elif self._changed is not None:
            self._change(os.path.relpath(self._changed))

    def _change(self, file: str) -> None:
        self._tell(f"{file} has changed: the program starts anew.")
        self._changed = None
        self._has_served = self._is_waiting_for_change = False
        for process in self._processes:
            process.due_at, process.deaths = None, 0
            if process.child is not None:
                process.is_outdated = True
                process.hurried_at = time.monotonic() + HURRY_AFTER
                self._send(process, signal.SIGTERM)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Start the first process of the changed program, once all of the old one have ended."""
        if not self._lives:
            self._processes[0].due_at = 0.0


def _stamp(file: str) -> tuple[int, int] | None:
    """What tells one content of a file from another; None if there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
