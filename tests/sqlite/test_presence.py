"""The sign of life and the doorbell, between real processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from agent_messaging.exceptions import StorageReplacedError
from agent_messaging.models import Kind
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.world import World
from tests.support import eventually

from .conftest import REPOSITORY, Child, OpenStore


async def listen(store: SQLiteStore) -> list[str]:
    """Start its presence; the list grows by "ring" and "lost"."""
    heard: list[str] = []
    await store.presence.start(lambda: heard.append("ring"), lambda: heard.append("lost"))
    return heard


def lock_files(path: Path) -> list[str]:
    return sorted(name for name in os.listdir(f"{path}-am") if name != "write.lock")


async def test_a_killed_process_is_dead_at_once_and_a_stopped_one_is_not(
    store: SQLiteStore, start_child: Callable[[], Child]
) -> None:
    await listen(store)
    killed, stopped = start_child(), start_child()
    assert await store.presence.find_dead() == []
    stopped.process.send_signal(signal.SIGSTOP)
    killed.kill()
    # The lock is freed before the death can be waited for.
    assert await store.presence.find_dead() == [killed.process_id]
    stopped.process.send_signal(signal.SIGCONT)


async def test_a_forked_child_is_no_sign_of_life(store: SQLiteStore, start_child: Callable[[], Child]) -> None:
    await listen(store)
    child = start_child()
    orphan = child.ask("fork")
    try:
        child.kill()
        assert await store.presence.find_dead() == [child.process_id]
    finally:
        os.kill(orphan, signal.SIGKILL)


async def test_claims_of_a_killed_process_return(
    store: SQLiteStore, world: World, start_child: Callable[[], Child]
) -> None:
    await listen(store)
    id = await world.send()
    child = start_child()
    assert child.ask("claim", recipient_id=world.bob, kind=Kind.ONE_WAY, limit=5) == [id]
    assert await world.claim() == []
    child.kill()
    assert await store.processes.release(await store.presence.find_dead()) == 1
    assert [delivery.message_id for delivery in await world.claim()] == [id]


async def test_stores_of_one_process_share_a_lock_and_die_apart(
    open_store: OpenStore, sqlite_path: Path, start_child: Callable[[], Child]
) -> None:
    first, second = await open_store(), await open_store()
    await listen(first)
    await listen(second)
    assert len(lock_files(sqlite_path)) == 1
    child = start_child()
    assert child.ask("find_dead") == []
    gone = first.presence.process_id
    await first.aclose()
    # The second's lock is still held, though the first has closed; the first is known to be dead in this process.
    assert child.ask("find_dead") == []
    assert await second.presence.find_dead() == [gone]
    await second.processes.release([gone])
    await second.processes.retire(second.presence.process_id)
    await second.aclose()
    assert child.ask("find_dead") == []
    assert len(lock_files(sqlite_path)) == 1


async def test_the_lock_file_of_a_killed_process_is_cleared_away(
    open_store: OpenStore, sqlite_path: Path, start_child: Callable[[], Child]
) -> None:
    child = start_child()
    (left,) = lock_files(sqlite_path)
    child.kill()
    first, second = await open_store(), await open_store()
    await listen(first)
    assert left in lock_files(sqlite_path), "removed before its death was dealt with"
    await first.processes.release(await first.presence.find_dead())
    await listen(second)
    assert left not in lock_files(sqlite_path)


async def test_what_a_process_calls_the_boot_does_not_decide_about_its_life(
    store: SQLiteStore, start_child: Callable[[], Child]
) -> None:
    await listen(store)
    child = start_child()
    sql = "update processes set boot_id = 'another' where id = ?"
    await store.engine.write(lambda con: con.execute(sql, (child.process_id,)))
    assert await store.presence.find_dead() == []
    assert child.ask("find_dead") == []
    child.kill()
    assert await store.presence.find_dead() == [child.process_id]


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root for namespaces")
@pytest.mark.parametrize(
    "surroundings",
    [
        ("unshare", "--time", "--boottime", "864000"),
        ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc/sys && exec "$@"', "sh"),
    ],
    ids=["a time namespace", "no boot id"],
)
async def test_processes_agree_on_life_and_time_whatever_their_surroundings(
    store: SQLiteStore, start_child: Callable[..., Child], surroundings: tuple[str, ...]
) -> None:
    if subprocess.run([*surroundings, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("the kernel allows no namespaces here")
    await listen(store)
    child = start_child(surroundings)
    assert child.ask("find_dead") == []
    assert await store.presence.find_dead() == []
    before, theirs, after = store.clock.now().due, child.ask("now"), store.clock.now().due
    assert before <= theirs <= after
    child.kill()
    assert await store.presence.find_dead() == [child.process_id]


async def test_removing_the_side_folder_ends_in_a_new_incarnation(
    store: SQLiteStore, sqlite_path: Path, start_child: Callable[[], Child]
) -> None:
    heard = await listen(store)
    old = store.presence.process_id
    child = start_child()
    shutil.rmtree(f"{sqlite_path}-am")
    assert child.ask("find_dead") == [old]
    await store.processes.release([old])
    await store.presence.look()
    assert heard == ["lost"]
    assert store.presence.process_id != old
    assert child.ask("find_dead") == []
    assert store.engine._write_lock is not None
    assert os.path.samestat(os.fstat(store.engine._write_lock._fd), os.stat(f"{sqlite_path}-am/write.lock"))


async def test_a_store_that_is_watched_tells_of_news_and_of_nothing_else(
    open_store: OpenStore, sqlite_path: Path, world: World, start_child: Callable[[], Child]
) -> None:
    store = await open_store()
    await listen(store)
    child = start_child()
    presence, heard = store.presence, asyncio.Event()
    presence.look_interval = 0.02
    found: list[bool] = []
    has_news = presence._has_news

    def note(connection: apsw.Connection) -> bool:
        found.append(True)  # what it raises counts as news, too
        found[-1] = has_news(connection)
        return found[-1]

    presence._has_news = note  # type: ignore[method-assign]
    assert await presence.look() == ([], True)
    assert presence.watch(heard.set)
    await eventually(lambda: len(found) > 3)
    assert not any(found)
    assert not heard.is_set()
    await world.send()
    await asyncio.wait_for(heard.wait(), 30)
    assert await presence.look() == ([], True)
    heard.clear()
    child.kill()
    await asyncio.wait_for(heard.wait(), 30)
    assert await presence.look() == ([child.process_id], False)
    await store.processes.release([child.process_id])
    await presence.look()
    heard.clear()
    begun = len(found)
    await eventually(lambda: len(found) > begun + 2)
    assert not found[-1]
    Path(f"{sqlite_path}-shm").unlink()
    await asyncio.wait_for(heard.wait(), 30)
    with pytest.raises(StorageReplacedError):
        await presence.look()
    heard.clear()
    await asyncio.wait_for(heard.wait(), 30)  # as long as that lasts
    await presence.aclose()
    assert store.engine._lookout is None


async def test_rings_reach_another_process_and_the_last_one_is_never_merged_away(
    store: SQLiteStore, start_child: Callable[[], Child]
) -> None:
    heard = await listen(store)
    child = start_child()
    store.presence.ring([child.process_id])
    await eventually(lambda: child.ask("rings") >= 1)
    for _ in range(1000):
        store.presence.ring([child.process_id])
    before = child.ask("rings")
    store.presence.ring([child.process_id])
    await eventually(lambda: child.ask("rings") > before)
    assert child.ask("rings") < 100
    child.ask("ring", process_id=store.presence.process_id)
    await eventually(lambda: heard == ["ring"])


async def test_ringing_the_dead_or_the_unknown_harms_nobody(
    store: SQLiteStore, start_child: Callable[[], Child]
) -> None:
    heard = await listen(store)
    child = start_child()
    child.kill()
    store.presence.ring([child.process_id, "nobody"])
    store.presence.ring([store.presence.process_id])
    await eventually(lambda: heard == ["ring"])
    store.presence.ring(["nobody", child.process_id])
    await store.aclose()
    store.presence.ring([child.process_id])


async def test_a_forked_child_is_told_to_open_a_store_of_its_own(sqlite_path: Path) -> None:
    code = """
import asyncio, os, sys, uuid
from agent_messaging.exceptions import ConfigurationError
from agent_messaging.storage.sqlite.store import SQLiteStore
async def main():
    store = SQLiteStore(sys.argv[1]); await store.open(); heard = []
    await store.presence.start(lambda: heard.append(1), lambda: None)
    if os.fork() == 0:
        try:
            try: store.engine.write(lambda con: None).send(None)
            except ConfigurationError as error: print(error, flush=True)
            try: store.aclose().send(None)
            except StopIteration: pass
        finally: os._exit(0)
    os.wait()
    store.presence.ring([store.presence.process_id])
    while not heard: await asyncio.sleep(0.01)
    await store.directory.add_organization(str(uuid.uuid4()), "a", "a", update_name=False)
    await store.aclose(); print("parent goes on")
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(sqlite_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert "forked child" in done.stdout
    assert "Open a new AgentMessaging in the child" in done.stdout
    assert "parent goes on" in done.stdout
