"""Windows and macOS, as far as they can be tried on Linux: the seam to the operating system, and stores on it."""

from __future__ import annotations

import ast
import ctypes
import fcntl
import ntpath
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import pytest

from agent_messaging import system
from agent_messaging.storage import boot
from agent_messaging.storage.sqlite import names, schema
from agent_messaging.system import posix, windows

from .conftest import REPOSITORY

FOLDER = Path(posix.__file__).parent


def calls_of(path: Path) -> dict[str, str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [one for one in tree.body if isinstance(one, ast.FunctionDef) and not one.name.startswith("_")]
    return {one.name: f"{ast.unparse(one.args)} -> {ast.unparse(one.returns or one)}" for one in functions}


def test_both_families_of_systems_have_the_same_calls() -> None:
    ours, theirs = calls_of(FOLDER / "posix.py"), calls_of(FOLDER / "windows.py")
    clock = "uptime_ns"  # elsewhere Python has it
    assert theirs.pop(clock)
    assert ours == theirs
    chosen = (FOLDER / "native.py").read_text(encoding="utf-8")
    assert all(chosen.count(f" import {name} as {name}\n") == 2 for name in ours)


# --- Windows ----------------------------------------------------------------------------------------------------------


class Played:
    """A process that plays Windows; see `windows.py`."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "tests.sqlite.windows", *arguments]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def hear(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            self.process.wait()
            assert self.process.stderr is not None
            pytest.fail(self.process.stderr.read() or "it said nothing")
        return line

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def play() -> Iterator[Any]:
    with ExitStack() as stack:

        def start(*arguments: str) -> Played:
            played = Played(*arguments)
            stack.callback(played.end)
            return played

        yield start


def test_every_module_is_loaded_where_nothing_of_posix_is(play: Any) -> None:
    output, errors = play("import").process.communicate()
    source = FOLDER.parent
    files = {path.relative_to(source.parent).with_suffix("") for path in source.rglob("*.py")}
    modules = {".".join(path.parts).removesuffix(".__init__") for path in files}
    expected = {name for name in modules if not name.endswith(("__main__", "system.posix"))} - {"agent_messaging"}
    assert set(output.split()) == expected, errors


def test_on_windows_a_store_in_a_file_works_and_a_killed_process_is_taken_over(play: Any, sqlite_path: Path) -> None:
    victim = play("victim", str(sqlite_path))
    assert victim.hear() == "serving"
    sender = play("sender", str(sqlite_path))
    assert sender.hear() == "sent"
    assert victim.hear() == "begun hang 1"
    helper = play("helper", str(sqlite_path))
    assert helper.hear() == "serving"
    victim.end()
    assert helper.hear() == "begun hang 2"
    assert sender.hear() == "settled done 2"
    assert sender.process.wait() == 0
    left = {path.name.removeprefix(sqlite_path.name) for path in sqlite_path.parent.glob(f"{sqlite_path.name}*")}
    assert {".backup", ".jsonl.gz", ".logs"} <= left
    assert not [name for name in left if ".part" in name]


def test_on_windows_a_second_name_of_a_database_is_refused_and_the_same_is_not(play: Any, sqlite_path: Path) -> None:
    other = sqlite_path.with_name("other.db")
    sqlite_path.touch()
    os.link(sqlite_path, other)
    first, same = play("name", str(sqlite_path)), play("name", str(sqlite_path))
    assert [first.hear(), same.hear()] == ["held", "held"]
    assert play("name", str(other)).hear().startswith("refused")
    for one in (first, same):
        one.process.communicate()
    assert play("name", str(other)).hear() == "held"


def test_on_windows_a_drive_of_another_machine_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"C:\\": 3, "Z:\\": 4}
    library = SimpleNamespace(kernel=SimpleNamespace(GetDriveTypeW=kinds.__getitem__))
    monkeypatch.setattr(windows, "_load", lambda: library)
    monkeypatch.setattr(os.path, "splitdrive", ntpath.splitdrive)
    assert windows.find_remote(r"C:\data") == ""
    assert "drive" in windows.find_remote(r"Z:\data")
    assert "share" in windows.find_remote(r"\\server\share\data")


# --- macOS ------------------------------------------------------------------------------------------------------------


class Statfs(ctypes.Structure):
    """As <sys/mount.h> of macOS has it, with 64 bits for inodes."""

    _fields_ = (
        ("f_bsize", ctypes.c_uint32),
        ("f_iosize", ctypes.c_int32),
        *((name, ctypes.c_uint64) for name in ("f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree")),
        ("f_fsid", ctypes.c_int32 * 2),
        ("f_owner", ctypes.c_uint32),
        *((name, ctypes.c_uint32) for name in ("f_type", "f_flags", "f_fssubtype")),
        ("f_fstypename", ctypes.c_char * 16),
        ("f_mntonname", ctypes.c_char * 1024),
        ("f_mntfromname", ctypes.c_char * 1024),
        ("f_flags_ext", ctypes.c_uint32),
        ("f_reserved", ctypes.c_uint32 * 7),
    )


class Flock(ctypes.Structure):
    """As <sys/fcntl.h> of macOS has it."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("l_start", "l_len")),
        ("l_pid", ctypes.c_int32),
        *((name, ctypes.c_int16) for name in ("l_type", "l_whence")),
    )


@pytest.mark.parametrize(("kind", "is_local", "found"), [(b"apfs", True, ""), (b"smbfs", False, "smbfs")])
def test_a_mac_tells_a_folder_of_another_machine_by_a_flag(kind: bytes, is_local: bool, found: str) -> None:
    def statfs(path: bytes, buffer: Any) -> int:
        assert path == b"/Volumes/data"
        said = Statfs(f_flags=0x1000 if is_local else 0, f_fstypename=kind)
        ctypes.memmove(buffer, ctypes.byref(said), ctypes.sizeof(said))
        return 0

    library: Any = SimpleNamespace(statfs=statfs)
    assert posix._find_remote_on_macos("/Volumes/data", library) == found


def test_on_a_mac_who_holds_a_lock_is_read_from_its_own_form(monkeypatch: pytest.MonkeyPatch) -> None:
    def fcntl_of_a_mac(fd: int, command: int, asked: bytes) -> bytes:
        lock = Flock.from_buffer_copy(asked)
        assert (lock.l_start, lock.l_len, lock.l_type) == (5, 7, fcntl.F_WRLCK)
        lock.l_pid = 4711
        return bytes(lock)

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(posix, "_FLOCK", "qqihh0q")
    monkeypatch.setattr(fcntl, "fcntl", fcntl_of_a_mac)
    assert posix.find_holder(0, 5, 7) == 4711


def test_on_a_mac_a_sync_empties_the_cache_of_the_drive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[int] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda fd, command: asked.append(command))
    (tmp_path / "part").touch()
    system.publish(str(tmp_path / "part"), str(tmp_path / "whole"))
    assert asked == [51, 51], "the file and its folder"
    connection = apsw.Connection(":memory:")
    schema._configure(connection, cache_size=1)
    assert connection.pragma("fullfsync") == connection.pragma("checkpoint_fullfsync") == 1


# --- all of them ------------------------------------------------------------------------------------------------------


def test_each_system_has_a_clock_that_all_its_processes_share(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {}
    for platform in ("linux", "darwin", "win32", "sunos5"):
        monkeypatch.setattr(sys, "platform", platform)
        clock = boot._choose()
        chosen[platform] = clock.args if isinstance(clock, partial) else clock
    assert chosen == {
        "linux": (time.CLOCK_BOOTTIME,),
        "darwin": (time.CLOCK_MONOTONIC_RAW,),
        "win32": windows.uptime_ns,
        "sunos5": (time.CLOCK_BOOTTIME,),
    }
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    assert boot._choose() is time.monotonic_ns


@pytest.mark.parametrize(("platform", "is_one"), [("linux", False), ("darwin", True), ("win32", True)])
def test_two_spellings_are_one_name_where_the_file_system_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, is_one: bool
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    spellings = [
        names._byte_of(str(tmp_path / name))
        for name in ("Caf\N{LATIN SMALL LETTER E WITH ACUTE}.db", "CAFE\N{COMBINING ACUTE ACCENT}.DB")
    ]
    assert (spellings[0] == spellings[1]) is is_one


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_gets_its_name_without_replacing_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_links: bool
) -> None:
    def refuse(part: str, path: str) -> None:
        raise PermissionError(1, "no hard links here")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    part, path = tmp_path / "part", tmp_path / "whole"
    part.write_text("new")
    system.publish(str(part), str(path))
    assert path.read_text() == "new"
    part.write_text("newer")
    with pytest.raises(FileExistsError):
        system.publish(str(part), str(path))
    assert [path.read_text(), part.read_text()] == ["new", "newer"]
