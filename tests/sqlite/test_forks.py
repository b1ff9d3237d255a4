"""Forks: an orphan holds nothing of its parent's, and a child with a store of its own is a process like any other."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import apsw
import asyncpg
import pytest

from tests.conformance.world import World
from tests.support import eventually, eventually_sync

from .conftest import REPOSITORY, OpenStore

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def run(place: Path | str, *arguments: str) -> tuple[list[str], str, int]:
    """What a program of forking.py, and all its children, print; its complaints; its exit code."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.sqlite.forking", str(place), *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return done.stdout.splitlines(), done.stderr, done.returncode


def said(lines: list[str], word: str) -> list[str]:
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{word} ")]


@pytest.mark.parametrize("program", ["leave_an_orphan", "use_a_pool"])
async def test_an_orphan_does_not_keep_the_turn_to_write(
    open_store: OpenStore, sqlite_path: Path, tmp_path: Path, program: str
) -> None:
    # To a file, not a pipe, which the orphans would keep open.
    arguments = [sys.executable, "-W", "ignore", "-m", "tests.sqlite.forking", str(sqlite_path), program]
    with (tmp_path / "said").open("w+") as output:
        done = await asyncio.to_thread(
            subprocess.run, arguments, cwd=REPOSITORY, stdout=output, timeout=90, check=False
        )
        output.seek(0)
        orphans = set(said(output.read().splitlines(), "forked"))
    try:
        assert done.returncode == -signal.SIGKILL
        assert orphans
        assert set(_alive(list(orphans))) == orphans
        begun = time.monotonic()
        store = await open_store()
        await World.create(store)
        assert time.monotonic() - begun < 5
    finally:
        for orphan in orphans:
            os.kill(int(orphan), signal.SIGKILL)


async def test_an_orphan_keeps_no_session_of_its_parents_on_the_server(postgres_dsn: str, tmp_path: Path) -> None:
    arguments = [sys.executable, "-W", "ignore", "-m", "tests.sqlite.forking", postgres_dsn, "leave_sessions"]
    with (tmp_path / "said").open("w+") as output:
        done = await asyncio.to_thread(
            subprocess.run, arguments, cwd=REPOSITORY, stdout=output, timeout=90, check=False
        )
        output.seek(0)
        (orphan,) = said(output.read().splitlines(), "forked")
    connection = await asyncpg.connect(postgres_dsn)
    others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    try:
        assert done.returncode == -signal.SIGKILL
        assert await eventually(lambda: connection.fetchval(others), until=lambda count: count == 0) == 0
        assert _alive([orphan])
    finally:
        os.kill(int(orphan), signal.SIGKILL)
        await connection.close()


@pytest.mark.parametrize("round_", range(2))
def test_nothing_acknowledged_is_lost_by_forks(sqlite_path: Path, round_: int) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    lines, complaints, code = run(sqlite_path, "descend", str(seed))
    assert complaints == ""
    assert code in (0, -signal.SIGKILL)
    assert len(said(lines, "forked")) == 6
    eventually_sync(lambda: not _alive(said(lines, "forked")), timeout=30)
    connection = apsw.Connection(str(sqlite_path))
    found = {row[0] for row in connection.execute("select id from organizations")}
    assert connection.execute("pragma integrity_check").get == "ok"
    connection.close()
    stored = said(lines, "stored")
    assert len(stored) >= 7 * 40, "each of the seven processes has written"
    assert set(stored) <= found


def _alive(pids: list[str]) -> list[str]:
    return [pid for pid in pids if _state(pid) not in ("", "Z")]


def _state(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.mark.parametrize("step", ["idle", "waiting for the turn", "opening"])
def test_a_child_forked_at_any_step_can_write(sqlite_path: Path, step: str) -> None:
    lines, complaints, code = run(sqlite_path, "fork_at", step)
    assert (complaints, code) == ("", 0)
    assert "the child has written" in lines
    assert "the parent goes on" in lines


@pytest.mark.parametrize("step", ["in a write", "in a read"])
def test_a_child_forked_inside_sqlite_is_refused_with_the_remedies(sqlite_path: Path, step: str) -> None:
    lines, complaints, code = run(sqlite_path, "fork_at", step)
    assert (complaints, code) == ("", 0)
    (refused,) = [line for line in lines if line.startswith("refused")]
    assert "spawn" in refused
    assert "before its parent opens" in refused
    assert "the parent goes on" in lines


def test_a_child_that_ends_normally_leaves_its_parents_files_alone(sqlite_path: Path) -> None:
    lines, complaints, code = run(sqlite_path, "leave_normally")
    assert (complaints, code) == ("", 0)
    connection = apsw.Connection(str(sqlite_path))
    assert connection.execute("select count(*) from organizations").get == len(said(lines, "stored")) == 24
    assert len(set(said(lines, "descriptors"))) == 1, "what was closed in the child is used again"
    connection.close()


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("backend", "method"),
    [
        *(("sqlite", method) for method in ("os.fork", "fork", "forkserver", "spawn")),
        ("postgres", "fork"),
    ],
    indirect=["backend"],
)
def test_workers_may_be_started_beside_an_open_sdk(database_url: str, method: str) -> None:
    lines, complaints, code = run(database_url, "preload", method)
    assert (complaints, code) == ("", 0)
    assert lines[-1] == "done"
    sent = said(lines, "sent")
    assert len(sent) == 100
    assert Counter(said(lines, "handled")) == Counter(sent)
