"""The audit log: five files a day of JSON lines, for people and programs that look later at what agents did.

Several processes and threads write to the same files. Each entry is one line, written by one call under a lock of its
file; a piece of a line that a killed process left is cut off by the next writer. Writing never stops the work: what
cannot be written is counted, and reported once in the log when it begins and once when it is over.

Payloads are left out unless they are asked for.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
import weakref
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict

from .arguments import absolute, check_count, check_flag
from .exceptions import ConfigurationError
from .loggers import get_logger
from .system import BINARY, after_fork

logger = get_logger("agent_messaging.audit")

KINDS = ("agent_activity", "message_audit", "task_history", "performance", "errors")
"""The files of a day, by what they hold."""

_DAY = r"\d{4}-\d{2}-\d{2}"
_FILE = rf"({'|'.join(KINDS)})_(\d{{4}}-\d{{2}}-\d{{2}})\.jsonl"
_PIECE = 64 * 1024
_PATIENCE = 1.0
"""Seconds to wait for another writer, which has a file for microseconds, unless it was stopped just then."""


class LogFile(TypedDict):
    """What is known of one file."""

    entries: int
    size_bytes: int


class LogStats(TypedDict):
    """What is known of all files."""

    enabled: bool
    base_dir: str | None
    log_files: dict[str, LogFile]
    """By path below the folder, such as `2026-01-15/errors_2026-01-15.jsonl`."""
    total_entries: int
    total_size_bytes: int
    lost_entries: int
    """The entries that this process could not write."""


class FileLogger:
    """Writes the audit log below a folder. Without a folder it is switched off, and all its calls do nothing.

    Args:
        base_dir: The folder; it is made if it is missing. None is no log.
        include_payloads: True writes contents of messages, parameters and results too.
    """

    def __init__(self, base_dir: str | os.PathLike[str] | None, *, include_payloads: bool = False) -> None:
        self.base_dir: str | None = None if base_dir is None else _check_folder(base_dir)
        self.include_payloads: bool = check_flag(include_payloads, "include_payloads")
        self.lost_entries: int = 0
        self._reset()
        self._is_losing = False
        _loggers.add(self)

    def _reset(self) -> None:
        """Begin without files. A forked child shares those of its parent, and their locks would not hold it off."""
        self._lock = threading.Lock()
        self._files: dict[str, int] = {}
        self._day = ""

    def abandon(self) -> None:
        """Close the parent's files in a forked child."""
        for descriptor in self._files.values():
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._reset()

    @property
    def is_enabled(self) -> bool:
        """Whether anything is written."""
        return self.base_dir is not None

    # --- entries ------------------------------------------------------------------------------------------------------

    def log_agent_activity(self, agent_id: str, event: str, data: dict[str, Any] | None = None) -> None:
        """Write that something happened to an agent, such as `"registered"` or `"status_change"`.

        This and the other calls that write never raise: an entry that cannot be written is counted as lost.

        Example:
            get_file_logger().log_agent_activity("builder", "status_change", {"status": "busy"})
        """
        self._write("agent_activity", {"agent_id": agent_id, "event": event, "data": data or {}})

    def log_message(
        self,
        message_id: str,
        from_agent: str,
        to_agent: str,
        message_type: str,
        event: str,
        *,
        content: Any = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        """Write that a message was `"sent"`, `"received"`, `"processed"` or the like.

        Args:
            message_id: The message.
            from_agent: Its sender.
            to_agent: Its recipient.
            message_type: What it is about.
            event: What happened.
            content: Its payload, which is written only with `include_payloads=True`.
            data: Whatever else is known, without payloads.

        Example:
            get_file_logger().log_message("m-17", "alice", "bob", "invoice", "sent")
        """
        entry = {
            "message_id": message_id,
            "from_agent": from_agent,
            "to_agent": to_agent,
            "message_type": message_type,
            "event": event,
        }
        if data:
            entry["data"] = data  # type: ignore[assignment]
        if self.include_payloads and content is not None:
            entry["content"] = content
        self._write("message_audit", entry)

    def log_task(
        self,
        task_id: str,
        agent_id: str | None,
        event: str,
        data: dict[str, Any] | None = None,
        *,
        content: Any = None,
    ) -> None:
        """Write that a task was `"assigned"`, `"completed"`, `"failed"` or the like.

        `content` is its parameters or its result, written only with `include_payloads=True`.

        Example:
            get_file_logger().log_task("t-17", "builder", "completed", {"success": True})
        """
        entry: dict[str, Any] = {"task_id": task_id, "agent_id": agent_id, "event": event, "data": data or {}}
        if self.include_payloads and content is not None:
            entry["content"] = content
        self._write("task_history", entry)

    def log_performance_metric(self, agent_id: str, metric: str, value: float, unit: str) -> None:
        """Write a figure that was measured.

        Example:
            get_file_logger().log_performance_metric("builder", "response_time", 125.5, "ms")
        """
        self._write("performance", {"agent_id": agent_id, "metric": metric, "value": value, "unit": unit})

    def log_error(self, agent_id: str, error_type: str, message: str, data: dict[str, Any] | None = None) -> None:
        """Write that something failed. The message is written as it is: leave payloads out of it.

        Example:
            get_file_logger().log_error("builder", "timeout", "The printer did not answer in 5 s.")
        """
        entry: dict[str, Any] = {"agent_id": agent_id, "error_type": error_type, "message": message}
        if data:
            entry["data"] = data
        self._write("errors", entry)

    # --- files --------------------------------------------------------------------------------------------------------

    def get_log_stats(self) -> LogStats:
        """Count the entries and bytes of every file. It reads them all, so it is not for every second.

        Example:
            print(get_file_logger().get_log_stats()["total_size_bytes"])
        """
        files: dict[str, LogFile] = {}
        for path in self._find():
            with contextlib.suppress(FileNotFoundError):  # another process cleans up
                files[f"{path.parent.name}/{path.name}"] = _count(path)
        return {
            "enabled": self.is_enabled,
            "base_dir": self.base_dir,
            "log_files": files,
            "total_entries": sum(file["entries"] for file in files.values()),
            "total_size_bytes": sum(file["size_bytes"] for file in files.values()),
            "lost_entries": self.lost_entries,
        }

    def cleanup_old_logs(self, days_to_keep: int = 30) -> int:
        """Delete the files of days that are longer ago, and nothing else.

        Args:
            days_to_keep: Days that stay, today not counted; 0 keeps today alone.

        Returns:
            How many files were deleted. One that cannot be deleted is named in the log, and left.

        Raises:
            InvalidArgumentError: `days_to_keep` is no whole number from 0.

        Example:
            get_file_logger().cleanup_old_logs(days_to_keep=7)
        """
        check_count(days_to_keep, "days_to_keep", least=0)
        today = datetime.now(UTC).date()
        try:
            oldest = today - timedelta(days=days_to_keep)
        except OverflowError:
            return 0
        deleted = 0
        for path in self._find():
            if path.parent.name >= oldest.isoformat():
                continue
            try:
                path.unlink()
                deleted += 1
            except FileNotFoundError:
                continue  # another process was first
            except OSError as error:
                logger.warning("The audit log %s cannot be deleted: %s.", path, error.strerror)
                continue
            with contextlib.suppress(OSError):  # it holds other files
                path.parent.rmdir()
        return deleted

    def close(self) -> None:
        """Close the files. The next entry opens its file again.

        Example:
            get_file_logger().close()
        """
        with self._lock:
            self._close_files()

    def _find(self) -> Iterator[Path]:
        if self.base_dir is None:
            return
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for folder in sorted(Path(self.base_dir).iterdir()):
                if not re.fullmatch(_DAY, folder.name) or not folder.is_dir():
                    continue
                with contextlib.suppress(ValueError, FileNotFoundError):
                    date.fromisoformat(folder.name)
                    for path in sorted(folder.iterdir()):
                        if (named := re.fullmatch(_FILE, path.name)) and named[2] == folder.name:
                            yield path

    def _write(self, kind: str, entry: dict[str, Any]) -> None:
        if self.base_dir is None:
            return
        now = datetime.now(UTC)
        entry["timestamp"] = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        try:
            # ASCII alone: no reader takes U+2028 for the end of a line, and no half of a surrogate pair stops one.
            import json  # few programs write this log

            try:
                text = json.dumps(entry, default=repr, separators=(", ", ": "), allow_nan=False)
            except ValueError:  # NaN and infinities are no JSON: they are written as text
                read = json.loads(json.dumps(entry, default=repr), parse_constant=str)
                text = json.dumps(read, separators=(", ", ": "))
            line = text.encode() + b"\n"
            with self._lock:
                self._append(kind, now.date().isoformat(), line)
        except OSError as error:
            self._lose(f"{error.strerror or error}")
        except Exception as error:  # a value of the caller's that cannot be written: the work goes on
            self._lose(f"the entry cannot be written as JSON ({type(error).__name__})")
        else:
            if self._is_losing:
                self._is_losing = False
                logger.warning(
                    "The audit log in %s is written again; %d entries were lost.", self.base_dir, self.lost_entries
                )

    def _append(self, kind: str, day: str, line: bytes) -> None:
        if day != self._day:
            self._close_files()
            self._day = day
        for _ in range(2):
            descriptor = self._files.get(kind)
            if descriptor is None:
                descriptor = self._files[kind] = self._open(kind, day)
            _lock(descriptor, 0.0 if self._is_losing else _PATIENCE)
            try:
                status = os.fstat(descriptor)
                if status.st_nlink:
                    _append_whole(descriptor, status.st_size, line)
                    return
            finally:
                _unlock(descriptor)
            os.close(self._files.pop(kind))  # it was deleted, or moved away and deleted: nobody would see the entry
        raise OSError(None, "the file is deleted again and again")

    def _open(self, kind: str, day: str) -> int:
        folder = os.path.join(self.base_dir or "", day)
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"{kind}_{day}.jsonl")
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | BINARY, 0o640)

    def _close_files(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    def _lose(self, reason: str) -> None:
        self.lost_entries += 1
        if not self._is_losing:
            self._is_losing = True
            logger.warning(
                "An entry of the audit log in %s is lost: %s. The work goes on, and so does the loss until the folder "
                "can be written; get_log_stats()['lost_entries'] counts it.",
                self.base_dir,
                reason,
            )


def _lock(descriptor: int, patience: float) -> None:
    from .system.native import try_lock  # few programs write this log

    deadline = time.monotonic() + patience
    while not try_lock(descriptor):
        if time.monotonic() >= deadline:
            raise OSError(None, "another process holds a file, and does not let go of it")
        time.sleep(0.0005)


def _unlock(descriptor: int) -> None:
    from .system.native import unlock

    unlock(descriptor)


def _append_whole(descriptor: int, size: int, line: bytes) -> None:
    """Append the line, or nothing of it. The caller holds the lock of the file."""
    if size and _read_at(descriptor, size - 1, 1) != b"\n":
        size = _end_of_last_line(descriptor, size)  # a writer was killed in the middle of a line
        os.ftruncate(descriptor, size)
    try:
        if os.write(descriptor, line) == len(line):
            return
    except OSError:
        os.ftruncate(descriptor, size)
        raise
    os.ftruncate(descriptor, size)
    raise OSError(None, "the disk is full")


def _read_at(descriptor: int, start: int, size: int) -> bytes:
    os.lseek(descriptor, start, os.SEEK_SET)  # which writing, always at the end, does not mind
    return os.read(descriptor, size)


def _end_of_last_line(descriptor: int, size: int) -> int:
    while size:
        start = max(0, size - _PIECE)
        if (found := _read_at(descriptor, start, size - start).rfind(b"\n")) >= 0:
            return start + found + 1
        size = start
    return 0


def _count(path: Path) -> LogFile:
    entries = size = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            entries += piece.count(b"\n")
            size += len(piece)
    return {"entries": entries, "size_bytes": size}


def _check_folder(base_dir: object) -> str:
    try:
        folder = os.fsdecode(base_dir)  # type: ignore[arg-type]
    except TypeError:
        folder = ""
    if not folder.strip() or "\0" in folder:
        raise ConfigurationError("The folder of the audit log must be a path. Give base_dir='./logs', for example.")
    return absolute(folder)  # the working directory may change


class _Active:
    """The audit log of this process. The public calls below are the reference's, and need one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.logger = FileLogger(None)


_loggers: weakref.WeakSet[FileLogger] = weakref.WeakSet()
active = _Active()
"""The log of this process, for code that looks at it for each message; everybody else calls `get_file_logger`."""


def enable_file_logging(base_dir: str | os.PathLike[str] = "./logs", *, include_payloads: bool = False) -> FileLogger:
    """Begin to write the audit log of this process; another folder replaces the one before.

    What agents do is written by itself from now on: registrations and status changes, messages sent, received and
    processed, tasks, and errors. Each entry costs about ten microseconds in the thread that does the work.

    Args:
        base_dir: The folder; it is made if it is missing. A relative one starts in the working directory of now.
        include_payloads: True writes contents of messages, parameters and results too.

    Returns:
        The logger, for entries of your own. If the folder cannot be written a warning in the log says so, and the
        work goes on without an audit log.

    Raises:
        ConfigurationError: `base_dir` is no path.

    Example:
        enable_file_logging("./logs")
    """
    folder = _check_folder(base_dir)
    made = FileLogger(folder, include_payloads=include_payloads)
    with active.lock:
        active.logger.close()
        active.logger = made
    try:
        os.makedirs(folder, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(None, "it may not be written")
    except OSError as error:
        logger.warning("The folder %s of the audit log cannot be used: %s.", folder, error.strerror)
    return made


def disable_file_logging() -> None:
    """End the audit log of this process. What was written stays.

    Example:
        disable_file_logging()
    """
    with active.lock:
        active.logger.close()
        active.logger = FileLogger(None)


def get_file_logger() -> FileLogger:
    """Return the audit log of this process; before `enable_file_logging` one that writes nothing.

    Example:
        get_file_logger().log_error("builder", "timeout", "The printer did not answer in 5 s.")
    """
    return active.logger


def _after_fork() -> None:
    active.lock = threading.Lock()
    for one in list(_loggers):
        one.abandon()


after_fork(_after_fork)
