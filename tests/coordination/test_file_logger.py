"""The audit log: its files and entries, many processes, what is lost, what is cleaned up."""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent_messaging import audit
from agent_messaging.coordination import FileLogger, disable_file_logging, enable_file_logging, get_file_logger
from agent_messaging.exceptions import ConfigurationError, InvalidArgumentError


@pytest.fixture(autouse=True)
def disabled_afterwards() -> Iterator[None]:
    """The audit log of the process ends with the test."""
    yield
    disable_file_logging()


@pytest.fixture
def made(tmp_path: Path) -> Iterator[FileLogger]:
    """A log below `logs`."""
    log = FileLogger(tmp_path / "logs")
    yield log
    log.close()


def lines(folder: Path | str, kind: str) -> list[dict[str, Any]]:
    [path] = Path(folder).glob(f"*/{kind}_*.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def test_entries_have_the_form_of_the_reference(tmp_path: Path, made: FileLogger) -> None:
    before = datetime.now(UTC)
    made.log_agent_activity("agent_001", "status_change", {"new_status": "busy"})
    made.log_message("msg_123", "agent_001", "agent_002", "task_assignment", "sent", content={"secret": 1})
    made.log_task("task_456", "agent_002", "completed", {"duration_ms": 1250, "success": True}, content="secret")
    made.log_performance_metric("agent_001", "response_time", 125.5, "ms")
    made.log_error("agent_001", "connection_error", "Redis connection failed")
    day = datetime.now(UTC).date().isoformat()
    assert sorted(path.name for path in (tmp_path / "logs" / day).iterdir()) == [
        f"{kind}_{day}.jsonl" for kind in ("agent_activity", "errors", "message_audit", "performance", "task_history")
    ]
    entries = {kind: lines(tmp_path / "logs", kind)[0] for kind in ("agent_activity", "message_audit", "task_history")}
    for entry in entries.values():
        stamp = entry.pop("timestamp")
        assert stamp.endswith("Z")
        assert before - timedelta(seconds=1) < datetime.fromisoformat(stamp) <= datetime.now(UTC)
    assert entries == {
        "agent_activity": {"agent_id": "agent_001", "event": "status_change", "data": {"new_status": "busy"}},
        "message_audit": {
            "message_id": "msg_123",
            "from_agent": "agent_001",
            "to_agent": "agent_002",
            "message_type": "task_assignment",
            "event": "sent",
        },
        "task_history": {
            "task_id": "task_456",
            "agent_id": "agent_002",
            "event": "completed",
            "data": {"duration_ms": 1250, "success": True},
        },
    }
    assert lines(tmp_path / "logs", "performance")[0]["value"] == 125.5
    assert lines(tmp_path / "logs", "errors")[0]["message"] == "Redis connection failed"


def test_payloads_are_written_only_when_they_are_asked_for(tmp_path: Path) -> None:
    log = FileLogger(tmp_path / "logs", include_payloads=True)
    log.log_message("m", "a", "b", "broadcast", "sent", content={"secret": 1})
    log.log_task("t", "a", "completed", content=[1, 2])
    log.close()
    assert lines(tmp_path / "logs", "message_audit")[0]["content"] == {"secret": 1}
    assert lines(tmp_path / "logs", "task_history")[0]["content"] == [1, 2]


def test_what_is_no_text_and_what_breaks_lines_is_written_as_one_line(tmp_path: Path, made: FileLogger) -> None:
    strange = {"text": "\u2028\x85\n\ud800 名前", "object": object(), "nan": float("nan"), "path": tmp_path}
    made.log_agent_activity("名前", "seen", strange)
    circle: dict[str, Any] = {}
    circle["self"] = circle
    made.log_agent_activity("a", "lost", circle)
    made.log_agent_activity("a", "next")
    first, second = lines(tmp_path / "logs", "agent_activity")
    assert first["data"]["text"] == strange["text"]
    assert second["event"] == "next"
    assert made.get_log_stats()["lost_entries"] == 1


def test_enabling_and_disabling(tmp_path: Path) -> None:
    off = get_file_logger()
    assert not off.is_enabled
    off.log_error("a", "b", "c")
    assert off.get_log_stats()["log_files"] == {}
    assert off.cleanup_old_logs() == 0
    log = enable_file_logging("./logs")
    assert get_file_logger() is log
    assert log.base_dir == str(tmp_path / "logs")
    assert (tmp_path / "logs").is_dir()
    log.log_error("a", "b", "c")
    other = enable_file_logging(tmp_path / "others")
    assert get_file_logger() is other
    disable_file_logging()
    assert not get_file_logger().is_enabled
    for wrong in ("", " ", None, 7, "a\0b"):
        with pytest.raises(ConfigurationError, match="must be a path"):
            enable_file_logging(wrong)  # type: ignore[arg-type]


def test_statistics_and_cleaning_up(tmp_path: Path, made: FileLogger) -> None:
    made.log_error("a", "b", "c")
    made.log_error("a", "b", "d")
    today = datetime.now(UTC).date()
    stale, fresh = ((today - timedelta(days=days)).isoformat() for days in (31, 30))
    for day in (stale, fresh):
        folder = tmp_path / "logs" / day
        folder.mkdir()
        (folder / f"errors_{day}.jsonl").write_text('{"agent_id": "a"}\n')
    foreign = tmp_path / "logs" / stale / "notes.txt"
    foreign.write_text("mine")
    (tmp_path / "logs" / "2000-99-99").mkdir()
    stats = made.get_log_stats()
    names = [f"{day}/errors_{day}.jsonl" for day in (stale, fresh, today.isoformat())]
    assert list(stats["log_files"]) == names
    assert [stats["log_files"][name]["entries"] for name in names] == [1, 1, 2]
    assert stats["total_entries"] == 4
    assert stats["total_size_bytes"] == sum(file["size_bytes"] for file in stats["log_files"].values())
    assert made.cleanup_old_logs(days_to_keep=30) == 1
    assert list(made.get_log_stats()["log_files"]) == names[1:]
    assert foreign.exists()
    foreign.unlink()
    assert made.cleanup_old_logs(days_to_keep=0) == 1
    made.log_error("a", "b", "e")
    assert made.get_log_stats()["total_entries"] == 3
    assert made.cleanup_old_logs(days_to_keep=10**9) == 0
    for wrong in (-1, True, 1.5, "30"):
        with pytest.raises(InvalidArgumentError, match="days_to_keep"):
            made.cleanup_old_logs(wrong)  # type: ignore[arg-type]


def test_a_file_that_was_deleted_is_made_again(tmp_path: Path, made: FileLogger) -> None:
    made.log_error("a", "b", "first")
    [path] = (tmp_path / "logs").glob("*/errors_*.jsonl")
    path.unlink()
    path.parent.rmdir()
    made.log_error("a", "b", "second")
    assert [entry["message"] for entry in lines(tmp_path / "logs", "errors")] == ["second"]


def test_the_piece_of_a_killed_writer_is_cut_off(tmp_path: Path, made: FileLogger) -> None:
    made.log_error("a", "b", "first")
    [path] = (tmp_path / "logs").glob("*/errors_*.jsonl")
    with path.open("a") as file:
        file.write('{"agent_id": "a", "message": "' + "x" * 200_000)
    made.log_error("a", "b", "second")
    assert [entry["message"] for entry in lines(tmp_path / "logs", "errors")] == ["first", "second"]
    path.write_text("no line at all")
    made.log_error("a", "b", "third")
    assert [entry["message"] for entry in lines(tmp_path / "logs", "errors")] == ["third"]


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "logs").write_text("a file, no folder")
    with caplog.at_level(logging.WARNING, logger="agent_messaging"):
        log = enable_file_logging(tmp_path / "logs")
        assert "cannot be used" in caplog.text
        caplog.clear()
        for _ in range(3):
            log.log_error("a", "b", "c")
        assert log.get_log_stats()["lost_entries"] == 3
        assert sum("is lost" in record.message for record in caplog.records) == 1
        (tmp_path / "logs").unlink()
        log.log_error("a", "b", "d")
        assert "is written again; 3 entries were lost" in caplog.records[-1].message
    assert [entry["message"] for entry in lines(tmp_path / "logs", "errors")] == ["d"]


def test_a_writer_that_was_stopped_with_a_file_stops_nobody(
    tmp_path: Path, made: FileLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_PATIENCE", 0.05)
    made.log_error("a", "b", "first")
    [path] = (tmp_path / "logs").glob("*/errors_*.jsonl")
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        made.log_error("a", "b", "lost")
        made.log_agent_activity("a", "goes on")
    made.log_error("a", "b", "second")
    assert made.lost_entries == 1
    assert [entry["message"] for entry in lines(tmp_path / "logs", "errors")] == ["first", "second"]
    assert [entry["event"] for entry in lines(tmp_path / "logs", "agent_activity")] == ["goes on"]


def test_what_is_no_number_in_json_is_written_as_text(tmp_path: Path, made: FileLogger) -> None:
    made.log_performance_metric("a", "b", math.nan, "ms")
    made.log_agent_activity("a", "b", {"most": math.inf})
    assert lines(tmp_path / "logs", "performance")[0]["value"] == "NaN"
    assert lines(tmp_path / "logs", "agent_activity")[0]["data"] == {"most": "Infinity"}
    assert made.lost_entries == 0


def test_a_full_disk_leaves_no_piece_of_a_line(tmp_path: Path, made: FileLogger) -> None:
    made.log_error("a", "b", "first")
    [path] = (tmp_path / "logs").glob("*/errors_*.jsonl")
    before = path.read_bytes()
    child = os.fork()  # the limit is the child's alone
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50,) * 2)
        made.log_error("a", "b", "x" * 1000)
        made.log_error("a", "b", "y" * 1000)
        os._exit(made.lost_entries)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert path.read_bytes() == before


WRITER = """
import sys
from agent_messaging.coordination import FileLogger
log = FileLogger(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
number = 0
while True:
    log.log_error(sys.argv[2], "count", "x" * 9000, {"number": number})
    number += 1
"""


def test_several_processes_of_which_some_are_killed_tear_no_line(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", WRITER, str(folder), name],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for name in ("one", "two", "three")
        ]
        for writer in writers:
            stack.callback(writer.kill)
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        log = FileLogger(folder)
        for number in range(300):
            log.log_error("test", "count", "y" * 9000, {"number": number})
            if number in (100, 200):
                writers.pop().kill()
    log.log_error("test", "end", "")
    log.close()
    seen: dict[str, list[int]] = {}
    entries = lines(folder, "errors")  # each line is JSON
    for entry in entries[:-1]:
        seen.setdefault(entry["agent_id"], []).append(entry["data"]["number"])
    assert seen["test"] == list(range(300))
    for numbers in seen.values():
        assert numbers == list(range(len(numbers)))


def test_threads_and_forked_children_write_whole_lines(tmp_path: Path, made: FileLogger) -> None:
    def write(name: str) -> None:
        for number in range(100):
            made.log_error(name, "count", "", {"number": number})

    made.log_error("parent", "start", "")
    child = os.fork()
    if child == 0:
        write("child")
        os._exit(0)
    threads = [threading.Thread(target=write, args=(f"thread {number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(lines(tmp_path / "logs", "errors")) == 401
