"""Files that are foreign, damaged, misplaced, locked, full or replaced: each has its error, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import pytest

from agent_messaging.exceptions import (
    AgentMessagingError,
    ConfigurationError,
    DatabaseError,
    OutcomeUnknownError,
    SchemaVersionError,
    StorageBusyError,
    StorageCorruptError,
    StorageForeignError,
    StorageFullError,
    StorageReplacedError,
    StorageUnavailableError,
)
from agent_messaging.models import Kind
from agent_messaging.storage.ports import Role, Stored
from agent_messaging.storage.sqlite import schema
from agent_messaging.storage.sqlite.clock import StoreClock
from agent_messaging.storage.sqlite.errors import translate, translate_commit
from agent_messaging.storage.sqlite.files import match_mount
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.world import World

from .conftest import REPOSITORY, Child, OpenStore

# --- where it may be --------------------------------------------------------------------------------------------------


async def test_a_missing_folder_is_named(open_store: OpenStore, tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailableError, match="missing"):
        await open_store(tmp_path / "missing" / "a.db")
    assert os.listdir(tmp_path) == []


async def test_a_folder_is_no_database(open_store: OpenStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a folder"):
        await open_store(tmp_path)


async def test_a_second_name_for_a_file_is_refused(open_store: OpenStore, sqlite_path: Path, tmp_path: Path) -> None:
    await (await open_store()).aclose()
    os.link(sqlite_path, tmp_path / "other.db")
    with pytest.raises(ConfigurationError, match="hard links"):
        await open_store()


async def test_a_second_name_is_refused_while_the_file_is_in_use(
    store: SQLiteStore, start_child: Callable[..., Child], sqlite_path: Path, tmp_path: Path
) -> None:
    # Each by its only link, as through two mounts of the file that cannot be seen from here.
    child = start_child()
    world = await World.create(store)
    (tmp_path / "elsewhere").mkdir()
    other = tmp_path / "elsewhere" / sqlite_path.name
    sqlite_path.rename(other)
    with pytest.raises(ConfigurationError, match=r"this process under another name.*mount the folder"):
        await SQLiteStore(other).open()
    told = await asyncio.to_thread(_run, _OPEN, str(other))
    assert re.search(r"in use by process \d+ under another name", told)
    assert os.listdir(tmp_path / "elsewhere") == [sqlite_path.name], "no log was made there"
    other.rename(sqlite_path)
    await world.send()
    assert child.ask("find_dead") == []
    assert await asyncio.to_thread(_run, _OPEN, str(sqlite_path)) == "opened\n"
    await store.aclose()
    child.kill()
    sqlite_path.rename(other)
    assert await asyncio.to_thread(_run, _OPEN, str(other)) == "opened\n"


_OPEN = """
import asyncio, sys
from agent_messaging.storage.sqlite.store import SQLiteStore
from agent_messaging.exceptions import ConfigurationError
async def main():
    store = SQLiteStore(sys.argv[1])
    try:
        await store.open()
        print("opened")
        await store.aclose()
    except ConfigurationError as error: print(error)
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root to mount")
@pytest.mark.parametrize("seen", [True, False], ids=["with its mounts in sight", "with its mounts hidden"])
async def test_a_database_mounted_alone_is_refused_and_in_its_folder_is_the_same(
    store: SQLiteStore, sqlite_path: Path, tmp_path: Path, seen: bool
) -> None:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("the kernel allows no mount namespaces here")
    world = await World.create(store)
    (tmp_path / "container").mkdir()
    inside = tmp_path / "container" / "team.db"
    inside.touch()
    hide = "" if seen else "mount -t tmpfs none /proc &&"
    script = f'mount --bind "$1" "$2" && {hide} exec "$3" -c "$4" "$2"'
    arguments = ["unshare", "--mount", "sh", "-c", script, "sh", str(sqlite_path), str(inside), sys.executable, _OPEN]
    done = await asyncio.to_thread(
        subprocess.run, arguments, capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    assert ("mounted alone" if seen else "another name") in done.stdout, done.stderr
    assert os.listdir(tmp_path / "container") == ["team.db"]
    script = 'mount --bind "$1" "$2" && exec "$3" -c "$4" "$2/$5"'
    arguments[4:] = [script, "sh", str(sqlite_path.parent), str(tmp_path / "container"), sys.executable, _OPEN]
    arguments.append(sqlite_path.name)
    done = await asyncio.to_thread(
        subprocess.run, arguments, capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    assert done.stdout == "opened\n", done.stderr
    await world.send()
    assert await store.check() == []


async def test_a_symbolic_link_leads_to_the_same_store(
    open_store: OpenStore, sqlite_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "link.db").symlink_to(sqlite_path)
    first, second = await open_store(), await open_store(tmp_path / "link.db")
    await World.create(first)
    assert len(await second.directory.list_agents(None, 10, 0)) == 4
    assert sorted(os.listdir(tmp_path)) == sorted(
        [sqlite_path.name, f"{sqlite_path.name}-wal", f"{sqlite_path.name}-shm", f"{sqlite_path.name}-am", "link.db"]
    )


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_what_may_not_be_written_to_is_refused(what: str) -> None:
    # As another user in a process of its own, because the superuser may write to anything; so outside pytest's folders
    # too.
    folder = Path(tempfile.mkdtemp())
    try:
        path = folder / "a.db"
        await _make(path)
        path.chmod(0o444 if what == "file" else 0o666)
        folder.chmod(0o777 if what == "file" else 0o555)
        code = """
import asyncio, os, sys
from agent_messaging.storage.sqlite.store import SQLiteStore
from agent_messaging.exceptions import StorageUnavailableError
async def main():
    store = SQLiteStore(sys.argv[1])
    if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)
    try: await store.open()
    except StorageUnavailableError as error: print(error)
asyncio.run(main())
"""
        done = await asyncio.to_thread(_run, code, str(path))
        assert f"{what if what == 'folder' else 'database'} '{folder}" in done.lower()
        assert "read-only" in done
        assert "Give it write permission" in done
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


async def test_a_file_of_ours_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "a.db-am" / "write.lock"
    lock.mkdir(parents=True)
    with pytest.raises(StorageUnavailableError) as raised:
        await _make(tmp_path / "a.db")
    assert repr(str(lock)) in str(raised.value)


async def test_a_process_that_may_open_no_more_files_is_told_so(tmp_path: Path) -> None:
    code = """
import asyncio, os, resource, sys
from agent_messaging.exceptions import StorageUnavailableError
from agent_messaging.storage.sqlite.store import SQLiteStore
async def main():
    before = SQLiteStore(sys.argv[1])
    await before.open()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    for more in range(8):
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + more, limit[1]))
        store = SQLiteStore(sys.argv[2])
        try: await store.open()
        except StorageUnavailableError as error:
            if "ulimit -n" not in str(error): print(more, error)
        else: await store.aclose()
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    store = SQLiteStore(sys.argv[2])
    await store.open()
    print("opened")
    await store.aclose()
    await before.aclose()
asyncio.run(main())
"""
    done = await asyncio.to_thread(_run, code, str(tmp_path / "a.db"), str(tmp_path / "b.db"))
    assert done.split() == ["opened"]


def _run(code: str, *arguments: str) -> str:
    """What another process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def _make(path: Path) -> None:
    store = SQLiteStore(path)
    await store.open()
    await store.aclose()


def test_the_innermost_mount_tells_the_file_system() -> None:
    mounts = [
        "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw",
        "30 22 0:40 / /data rw,relatime shared:1 - nfs4 host:/export rw",
        "31 30 0:41 / /data/my\\040disk rw - xfs /dev/sdb rw",
        "32 22 0:42 / /database rw - cifs //host/share rw",
    ]
    assert match_mount("/data", mounts) == "nfs4"
    assert match_mount("/data/deep/folder", mounts) == "nfs4"
    assert match_mount("/data/my disk/folder", mounts) == "xfs"
    assert match_mount("/database", mounts) == "cifs"
    assert match_mount("/databases", mounts) == "ext4"


def test_a_sqlite_that_may_damage_the_file_is_refused() -> None:
    schema.check_version("3.51.3")
    schema.check_version(apsw.sqlite_lib_version())
    for version in ("3.51.2", "3.40.1"):
        with pytest.raises(ConfigurationError, match="pip install"):
            schema.check_version(version)


# --- what it may hold -------------------------------------------------------------------------------------------------


async def test_another_programs_database_is_not_touched(open_store: OpenStore, sqlite_path: Path) -> None:
    for mark in (0, 4711):
        connection = apsw.Connection(str(sqlite_path))
        connection.execute("create table if not exists theirs (a)")
        connection.pragma("application_id", mark)
        connection.close()
        before = sqlite_path.read_bytes()
        with pytest.raises(StorageForeignError, match="another program"):
            await open_store()
        assert sqlite_path.read_bytes() == before
        assert os.listdir(sqlite_path.parent) == [sqlite_path.name]


@pytest.mark.parametrize("content", [b"this is not a database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
async def test_garbage_is_refused_and_kept(open_store: OpenStore, sqlite_path: Path, content: bytes) -> None:
    sqlite_path.write_bytes(content)
    with pytest.raises(StorageCorruptError, match="backup"):
        await open_store()
    assert sqlite_path.read_bytes() == content


async def test_a_truncated_file_is_corrupt(open_store: OpenStore, sqlite_path: Path) -> None:
    await (await open_store()).aclose()
    os.truncate(sqlite_path, 3 * 4096)
    with pytest.raises(StorageCorruptError, match="damaged"):
        await (await open_store()).directory.list_agents(None, 10, 0)


async def test_damage_that_sqlite_does_not_see_is_found(open_store: OpenStore, sqlite_path: Path) -> None:
    store = await open_store()
    world = await World.create(store)
    await world.send(content='"' + "unmistakable " * 20 + '"')
    id = await world.send(content='"' + "damaged soon " * 20 + '"')
    assert await store.check() == []
    await store.aclose()
    data = sqlite_path.read_bytes()
    assert data.count(b"damaged soon damaged") > 0
    sqlite_path.write_bytes(data.replace(b"damaged soon damaged", b"dAmaged soon damaged", 1))
    findings = await (await open_store()).check()
    assert len(findings) == 1
    assert id in findings[0]


async def test_verifying_makes_nothing(open_store: OpenStore, sqlite_path: Path) -> None:
    store = SQLiteStore(sqlite_path)
    with pytest.raises(SchemaVersionError, match="db upgrade"):
        await store.open(initialize=False)
    assert not sqlite_path.exists()
    sqlite_path.touch()
    with pytest.raises(SchemaVersionError, match="no schema yet"):
        await SQLiteStore(sqlite_path).open(initialize=False)
    assert sqlite_path.stat().st_size == 0
    await (await open_store()).aclose()
    await store.open(initialize=False)
    await store.aclose()


@pytest.mark.parametrize(
    "change",
    ["insert into schema_migrations values (99, 'later', 'x', 0)", "update schema_migrations set checksum = 'x'"],
)
async def test_a_newer_or_altered_schema_is_refused(open_store: OpenStore, sqlite_path: Path, change: str) -> None:
    store = await open_store()
    await store.engine.write(lambda con: con.execute(change))
    await store.aclose()
    with pytest.raises(SchemaVersionError):
        await open_store()


async def test_many_processes_may_begin_at_once(start_child: Callable[[], Child], sqlite_path: Path) -> None:
    children = await asyncio.gather(*(asyncio.to_thread(start_child) for _ in range(4)))
    assert len({child.process_id for child in children}) == 4
    assert all(child.ask("find_dead") == [] for child in children)


def test_a_file_that_another_process_makes_ours_while_this_one_looks_is_not_foreign(sqlite_path: Path) -> None:
    looking, other = apsw.Connection(str(sqlite_path)), apsw.Connection(str(sqlite_path))

    class Between:
        """Lets the other process make its schema after the first look."""

        def __getattr__(self, name: str) -> Any:
            def look(*arguments: Any) -> Any:
                answer = getattr(looking, name)(*arguments)
                answer = SimpleNamespace(get=answer.get) if name == "execute" else answer
                if not other.pragma("application_id"):
                    schema.migrate(other, StoreClock(), str(sqlite_path), initialize=True)
                return answer

            return look

    connection: Any = Between()
    assert schema.is_ours(connection, str(sqlite_path))
    looking.close()
    other.close()


# --- while it is open -------------------------------------------------------------------------------------------------


async def test_a_file_locked_by_another_program_is_busy_for_a_while(open_store: OpenStore, sqlite_path: Path) -> None:
    store = await open_store(busy_timeout=0.2)
    world = await World.create(store)
    other = apsw.Connection(str(sqlite_path))
    other.execute("begin immediate")
    begun = time.monotonic()
    with pytest.raises(StorageBusyError, match="locked"):
        await world.send()
    assert 0.15 < time.monotonic() - begun < 5
    assert await store.messages.count_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY) == 0
    other.execute("rollback")
    other.close()
    await world.send()
    assert await store.messages.count_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY) == 1


async def test_a_process_that_stops_in_its_turn_holds_up_no_call_for_ever(
    open_store: OpenStore, start_child: Callable[[], Child]
) -> None:
    store = await open_store(busy_timeout=0.2)
    world = await World.create(store)
    child = start_child()
    assert child.ask("hold_write_lock", seconds=1.0) == "held"
    begun = time.monotonic()
    with pytest.raises(StorageBusyError, match="turn to write"):
        await world.send()
    assert time.monotonic() - begun < 0.9
    # Reading goes on, and what was refused was not stored later.
    assert await store.messages.count_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY) == 0
    assert child._read() == "released"
    await world.send()
    assert await store.messages.count_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY) == 1


async def test_processes_take_turns_to_write(start_child: Callable[[], Child]) -> None:
    children = [start_child() for _ in range(3)]
    for child in children:
        child.tell("count_writes", seconds=1.0)
    counts = [child._read() for child in children]
    assert min(counts) * 10 > max(counts)


async def test_a_full_store_refuses_and_recovers(store: SQLiteStore, world: World) -> None:
    await world.send()
    pages = await store.engine.write(lambda con: con.pragma("page_count"))
    await store.engine.write(lambda con: con.pragma("max_page_count", pages + 5))
    big = world.group(content='"' + "x" * 100_000 + '"')
    with pytest.raises(StorageFullError, match="Make room"):
        await world.append(big)
    assert await store.messages.count_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY) == 1
    assert await store.check() == []
    await store.engine.write(lambda con: con.pragma("max_page_count", 1_000_000))
    assert (await world.append(big))[0] == Stored()


async def test_a_limit_of_the_file_size_is_a_full_store(tmp_path: Path) -> None:
    code = """
import asyncio, resource, signal, sys
from agent_messaging.exceptions import StorageFullError
from agent_messaging.models import Prunable
from agent_messaging.storage.ports import Pruning
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.world import World

def limit(size): resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = SQLiteStore(sys.argv[1])
    await store.open()
    world = await World.create(store)
    await store.deliveries.withdraw([await world.send() for _ in range(3)])

    async def prune():
        return (await store.retention.prune(Pruning(Prunable.MESSAGES, 0), limit=1000, now=world.at(10))).number

    limit(600_000)
    stored = 0
    try:
        while True:
            await world.send(content='"' + "x" * 20_000 + '"')
            stored += 1
    except StorageFullError:
        pass
    pruned = 0
    try:  # all that it was asked for, or nothing
        pruned = await prune()
    except StorageFullError:
        pass
    limit(resource.RLIM_INFINITY)
    pruned += await prune()
    await world.send()
    found = await world.claim(limit=1000, ordered=False)
    print(stored + 1, len(found) + pruned - 3, await store.check())
    await store.aclose()

asyncio.run(main())
"""
    stored, found, findings = (await asyncio.to_thread(_run, code, str(tmp_path / "a.db"))).split(maxsplit=2)
    assert stored == found
    assert findings.strip() == "[]"


@pytest.mark.parametrize(
    "how", ["removed", "replaced", "-wal removed", "-shm removed", "-wal replaced", "-shm replaced"]
)
async def test_nothing_is_acknowledged_once_the_file_is_another(
    open_store: OpenStore, sqlite_path: Path, tmp_path: Path, how: str
) -> None:
    store = await open_store()
    world = await World.create(store)
    if how == "removed":
        sqlite_path.unlink()
    elif how.startswith("-"):
        suffix, _, done = how.partition(" ")
        beside = Path(f"{sqlite_path}{suffix}")
        if done == "replaced":
            beside.rename(tmp_path / "kept")  # so that the new one cannot get its inode
            beside.touch()
        else:
            beside.unlink()
    else:
        (tmp_path / "new").mkdir()
        await _make(tmp_path / "new" / "new.db")
        os.replace(tmp_path / "new" / "new.db", sqlite_path)
    for _ in range(2):
        with pytest.raises(StorageReplacedError, match="restart the process"):
            await world.send()


async def test_one_that_only_reads_is_told_too(store: SQLiteStore, world: World, sqlite_path: Path) -> None:
    await store.presence.has_changed()
    Path(f"{sqlite_path}-shm").unlink()
    with pytest.raises(StorageReplacedError):
        await store.presence.has_changed()
    with pytest.raises(StorageReplacedError):
        await store.directory.list_agents(None, 10, 0)


async def test_pythons_own_sqlite3_in_the_process_is_noticed_and_takes_nothing_acknowledged(
    open_store: OpenStore, sqlite_path: Path
) -> None:
    store = await open_store()
    world = await World.create(store)
    await world.send()
    theirs = sqlite3.connect(sqlite_path)
    assert theirs.execute("select count(*) from messages").fetchone() == (1,)
    theirs.close()
    with pytest.raises(StorageReplacedError, match="backup"):
        await world.send()
    await store.aclose()
    again = await open_store()
    assert await again.messages.count_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY) == 1
    assert await again.check() == []


async def test_closing_leaves_the_log_of_the_new_file_alone(
    open_store: OpenStore, sqlite_path: Path, tmp_path: Path
) -> None:
    old = await open_store()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{sqlite_path}{suffix}").rename(tmp_path / f"moved{suffix}")
    new = await open_store()
    world = await World.create(new)
    await world.send()
    log = Path(f"{sqlite_path}-wal")
    assert log.stat().st_size > 0
    await old.aclose()
    assert log.exists()
    await world.send()
    await new.aclose()
    again = await open_store()
    assert await again.messages.count_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY) == 2


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "errno", "error"),
    [
        (apsw.SQLITE_BUSY_SNAPSHOT, 0, StorageBusyError),
        (apsw.SQLITE_FULL, 0, StorageFullError),
        (apsw.SQLITE_IOERR_WRITE, 28, StorageFullError),
        (apsw.SQLITE_IOERR_READ, 5, StorageUnavailableError),
        (apsw.SQLITE_CORRUPT_VTAB, 0, StorageCorruptError),
        (apsw.SQLITE_NOTADB, 0, StorageCorruptError),
        (apsw.SQLITE_READONLY_DBMOVED, 0, StorageUnavailableError),
        (apsw.SQLITE_CANTOPEN_ISDIR, 0, StorageUnavailableError),
        (apsw.SQLITE_CONSTRAINT_UNIQUE, 0, DatabaseError),
    ],
)
def test_each_result_code_has_its_error(code: int, errno: int, error: type[AgentMessagingError]) -> None:
    cause = apsw.exception_for(code)
    found = translate(cause, "/a.db", errno)
    assert type(found) is error
    assert found.__cause__ is cause
    assert "/a.db" in str(found)


def test_a_commit_whose_sync_failed_may_have_taken_effect() -> None:
    assert type(translate_commit(apsw.exception_for(apsw.SQLITE_IOERR_FSYNC), "/a.db", 5)) is OutcomeUnknownError
    assert type(translate_commit(apsw.exception_for(apsw.SQLITE_FULL), "/a.db")) is StorageFullError
    assert type(translate_commit(apsw.exception_for(apsw.SQLITE_BUSY), "/a.db")) is StorageBusyError
