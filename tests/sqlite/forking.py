"""Programs that fork while they have a store open; see test_forks.py, which runs them: PATH PROGRAM ARGUMENTS…"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import apsw

from agent_messaging import AgentMessaging, ConfigurationError, MessageContext
from agent_messaging.storage.sqlite import forks
from agent_messaging.storage.sqlite.store import SQLiteStore

SERVED = "bob"


async def open_store(path: str) -> SQLiteStore:
    store = SQLiteStore(path)
    await store.open()
    await store.presence.start(lambda: None, lambda: None)
    return store


def fork(work: Callable[[], None]) -> int:
    """Do something in a child, which then ends as those of multiprocessing do."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def log(line: str) -> None:
    """On standard output, whole, from any process."""
    os.write(1, f"{line}\n".encode())


# --- what is acknowledged is stored -----------------------------------------------------------------------------------


async def write(store: SQLiteStore, count: int) -> None:
    """Store organizations, and log the id of each when it was acknowledged."""

    async def one() -> None:
        id = str(uuid.uuid4())
        await store.directory.add_organization(id, id, "", update_name=False)
        log(f"stored {id}")

    for _ in range(count // 8):
        await asyncio.gather(*(one() for _ in range(8)))
        await store.directory.list_agents(None, 10, 0)


async def descend(path: str, depth: int, chance: random.Random, seed: int) -> None:
    """Write beside two children, forked at random instants, who do the same; then close, exit or be killed."""
    store = await open_store(path)
    end = asyncio.Event()

    async def load() -> None:
        while not end.is_set():
            await write(store, 8)

    loads = [asyncio.create_task(load()) for _ in range(2)]
    for number in range(2 if depth else 0):
        await asyncio.sleep(chance.random() * 0.05)
        below = seed * 2 + number + 1
        work = partial(descend, path, depth - 1, random.Random(below), below)
        log(f"forked {fork(lambda: asyncio.run(work()))}")  # noqa: B023 - called at once
    await asyncio.sleep(chance.random() * 0.1)
    end.set()
    await asyncio.gather(*loads)
    await write(store, 40)
    how = chance.choice(["close", "exit", "kill"])
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "close":
        await store.aclose()
        store = await open_store(path)
        await write(store, 40)
        await store.aclose()
    log(f"ended {os.getpid()}")


# --- at each step -----------------------------------------------------------------------------------------------------


async def fork_at(path: str, step: str) -> None:
    """Fork while a thread of the store is at this step, and tell whether the child can write."""
    store = await open_store(path)
    reached, go_on = threading.Event(), threading.Event()
    turn: list[int] = []

    def hold(connection: apsw.Connection) -> None:
        reached.set()
        go_on.wait(30)

    async def take_time() -> Any:
        if step == "in a write":
            return await store.engine.write(hold)
        if step == "in a read":
            return await store.engine.read(hold)
        if step == "waiting for the turn":
            fd = os.open(f"{path}-am/write.lock", os.O_RDWR)
            import fcntl

            fcntl.flock(fd, fcntl.LOCK_EX)  # in place of another process
            turn.append(fd)
            waiting = asyncio.create_task(write(store, 8))
            await asyncio.sleep(0)  # it rings the writer, which then waits for the lock
            await asyncio.to_thread(_wait_until_blocked, "agent-messaging-writer")
            reached.set()
            await asyncio.to_thread(go_on.wait, 30)
            os.close(fd)
            return await waiting
        if step == "opening":
            reached.set()
            return await (await open_store(path)).aclose()
        return reached.set()

    at_work = asyncio.create_task(take_time())
    await asyncio.to_thread(reached.wait, 30)
    if step.startswith("in a"):
        # What is meant is a statement of that length, for which the fork would otherwise wait.
        forks.PATIENCE = 0.1

    def work() -> None:
        for fd in turn:
            os.close(fd)

        async def child() -> None:
            own = await open_store(path)
            await write(own, 8)
            await own.aclose()

        try:
            asyncio.run(child())
            log("the child has written")
        except ConfigurationError as error:
            log(f"refused: {error}")

    pid = fork(work)
    go_on.set()
    await at_work
    await asyncio.to_thread(os.waitpid, pid, 0)
    await write(store, 8)
    await store.aclose()
    log("the parent goes on")


def _wait_until_blocked(thread: str) -> None:
    (ident,) = [one.native_id for one in threading.enumerate() if one.name == thread]
    while True:
        with open(f"/proc/self/task/{ident}/syscall", encoding="ascii") as file:
            if file.read().split()[0] == _FLOCK.get(os.uname().machine):
                return
        time.sleep(0.005)


_FLOCK = {"x86_64": "73", "aarch64": "32"}


async def leave_an_orphan(path: str) -> None:
    """Die in a commit, having forked a child that lives on and does nothing."""
    store = await open_store(path)
    log(f"forked {fork(lambda: time.sleep(60))}")
    await store.engine.write(lambda con: os.kill(os.getpid(), signal.SIGKILL))


async def leave_sessions(url: str) -> None:
    """Die with connections to a server, having forked a child that lives on and does nothing."""
    async with AgentMessaging(url) as sdk:
        await sdk.register_organization("acme", "Acme")
        log(f"forked {fork(lambda: time.sleep(60))}")
        os.kill(os.getpid(), signal.SIGKILL)


def _announce() -> None:
    log(f"forked {os.getpid()}")


async def use_a_pool(path: str) -> None:
    """Die in a commit while the handlers have work done in forked processes, which live on."""
    pool = ProcessPoolExecutor(2, multiprocessing.get_context("fork"), _announce)
    async with AgentMessaging(f"sqlite:///{path}") as sdk:
        await sdk.register_organization("acme", "Acme")
        for name in ("alice", SERVED):
            await sdk.register_agent(name, "acme", name)
        done = asyncio.Event()

        @sdk.register_handler(SERVED)
        async def handle(message: dict[str, Any], context: MessageContext) -> None:
            await asyncio.get_running_loop().run_in_executor(pool, os.getpid)
            if message["number"] == 20:
                done.set()

        for number in range(30):
            await sdk.one_way.send("alice", SERVED, {"number": number})
        await done.wait()
        store = sdk.store
        assert isinstance(store, SQLiteStore)
        await store.engine.write(lambda con: os.kill(os.getpid(), signal.SIGKILL))


# --- as people start processes ----------------------------------------------------------------------------------------


def serve(url: str, stop: Any) -> None:
    """A worker: handles bob's messages until it is told to stop."""

    async def main() -> None:
        async with AgentMessaging(url) as sdk:

            @sdk.register_handler(SERVED)
            async def handle(message: dict[str, Any], context: MessageContext) -> None:
                log(f"handled {context.message_id}")

            while not stop.is_set():
                await asyncio.sleep(0.02)

    asyncio.run(main())


def start_workers(url: str, method: str) -> Callable[[], None]:
    """Start two by this method; returns what stops them and waits for their ends."""
    context: Any = multiprocessing.get_context("fork" if method == "os.fork" else method)
    stop = context.Event()
    if method == "os.fork":
        pids = [fork(lambda: serve(url, stop)) for _ in range(2)]

        def join() -> None:
            assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)

    else:
        processes = [context.Process(target=serve, args=(url, stop)) for _ in range(2)]
        for process in processes:
            process.start()

        def join() -> None:
            for process in processes:
                process.join()
                assert process.exitcode == 0

    def end() -> None:
        stop.set()
        join()

    return end


async def preload(url: str, method: str) -> None:
    """Start workers while the SDK of this process is open and at work, and send to them."""
    async with AgentMessaging(url) as sdk:
        await sdk.register_organization("acme", "Acme")
        for name in ("alice", SERVED):
            await sdk.register_agent(name, "acme", name)

        async def send(count: int) -> list[str]:
            ids: list[str] = []
            for number in range(count):
                ids += await sdk.one_way.send("alice", SERVED, {"number": number}, require_handler=False)
            return ids

        sending = asyncio.create_task(send(50))
        await asyncio.sleep(0)
        end = start_workers(url, method)
        ids = await sending + await send(50)
        await sdk.receipts.wait(ids, timeout=30)
        for id in ids:
            log(f"sent {id}")
        await asyncio.to_thread(end)
    log("done")


def leave_normally(path: str) -> None:
    """Fork outside the loop; the child ends as a program does, with all that it inherited and opened."""
    loop = asyncio.new_event_loop()
    store = loop.run_until_complete(open_store(path))
    loop.run_until_complete(write(store, 8))
    pid = os.fork()
    if pid == 0:
        own = asyncio.new_event_loop()
        kept = own.run_until_complete(open_store(path))
        for _ in range(3):
            another = own.run_until_complete(open_store(path))
            own.run_until_complete(another.aclose())
            log(f"descriptors {len(os.listdir('/dev/fd'))}")
        own.run_until_complete(write(kept, 8))
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    loop.run_until_complete(write(store, 8))
    loop.run_until_complete(store.aclose())
    loop.close()
    log("the parent goes on")


PROGRAMS: dict[str, Callable[..., Any]] = {
    "descend": lambda path, seed: descend(path, 2, random.Random(int(seed)), int(seed)),
    "fork_at": fork_at,
    "leave_an_orphan": leave_an_orphan,
    "preload": preload,
    "use_a_pool": use_a_pool,
    "leave_sessions": leave_sessions,
}

if __name__ == "__main__":
    if sys.argv[2] == "leave_normally":
        leave_normally(sys.argv[1])
    else:
        asyncio.run(PROGRAMS[sys.argv[2]](sys.argv[1], *sys.argv[3:]))
