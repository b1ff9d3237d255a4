"""The portal: shared by key, opened once, closed by the last; threads, other loops, forks, exits."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agent_messaging.exceptions import ConfigurationError, EventLoopError, NotInitializedError
from agent_messaging.portal import Lease
from tests.support import eventually_sync


class Resource:
    """What is opened in the loop; it tells what happened to it."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0
        self.failures = 0
        self.entered = threading.Event()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Resource]:
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise ConfigurationError("It cannot be opened.")
        self.opened += 1
        try:
            yield self
        finally:
            await asyncio.sleep(0)
            self.closed += 1

    async def thread(self) -> str:
        return threading.current_thread().name

    async def number(self) -> int:
        return threading.get_ident()

    async def hang(self) -> None:
        self.entered.set()
        await asyncio.Event().wait()


@pytest.fixture
def resource() -> Resource:
    return Resource()


@pytest.fixture
def leases(resource: Resource) -> Iterator[list[Lease[Resource]]]:
    """Two leases of one portal, and one of another."""
    made = [Lease(key, resource.open, owner="The queue") for key in ("one", "one", "two")]
    yield made
    for lease in made:
        lease.close()


def test_leases_of_one_key_share_a_loop_and_what_is_open_in_it(
    leases: list[Lease[Resource]], resource: Resource
) -> None:
    first, second, third = (lease.call(Resource.number) for lease in leases)
    assert first == second != third
    assert first != threading.get_ident()
    assert resource.opened == 2
    leases[0].close()
    leases[0].close()
    assert resource.closed == 0
    assert leases[1].call(Resource.number) == first
    leases[1].close()
    assert resource.closed == 1
    with pytest.raises(NotInitializedError, match="The queue was closed"):
        leases[1].call(Resource.number)


def test_many_threads_open_it_once(leases: list[Lease[Resource]], resource: Resource) -> None:
    names: list[str] = []
    threads = [
        threading.Thread(target=lambda lease=lease: names.append(lease.call(Resource.thread)))
        for lease in leases[:2] * 10
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == ["agent-messaging-portal"] * 20
    assert resource.opened == 1


def test_an_opening_that_failed_is_tried_again(leases: list[Lease[Resource]], resource: Resource) -> None:
    resource.failures = 1
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        leases[0].call(Resource.thread)
    assert leases[0].call(Resource.thread) == "agent-messaging-portal"


def test_the_error_of_a_call_reaches_its_caller(leases: list[Lease[Resource]]) -> None:
    async def fail(_: Resource) -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        leases[0].call(fail)


def test_its_own_loop_is_refused(leases: list[Lease[Resource]]) -> None:
    async def call_again(_: Resource) -> str:
        return leases[1].call(Resource.thread)

    async def close(_: Resource) -> None:
        leases[0].close()

    with pytest.raises(EventLoopError, match="The queue was called on its own event loop"):
        leases[0].call(call_again)
    leases[1].close()
    with pytest.raises(EventLoopError, match="own event loop"):
        leases[0].call(close)


async def test_the_cell_of_a_notebook_is_not_told_so(leases: list[Lease[Resource]]) -> None:
    """A kernel runs it in a coroutine. What the cell itself makes asynchronous is told; warnings are errors here."""
    scope: dict[str, Any] = {"call": lambda: leases[0].call(Resource.thread)}
    exec(compile("def plain():\n    return call()\nfound = call(), plain()", "<cell>", "exec"), scope)
    assert scope["found"] == ("agent-messaging-portal",) * 2
    later = "import asyncio\nasync def coroutine():\n    call()\ntask = asyncio.ensure_future(coroutine())"
    exec(compile(later, "<cell>", "exec"), scope)
    with pytest.warns(RuntimeWarning, match="The queue was called on a running event loop"):
        await scope["task"]


async def test_another_loop_is_told_that_it_stands_still(leases: list[Lease[Resource]]) -> None:
    with pytest.warns(RuntimeWarning, match=r"The queue was called on a running event loop.*to_thread") as told:
        assert leases[0].call(Resource.thread) == "agent-messaging-portal"
    assert told[0].filename == __file__
    assert await asyncio.to_thread(leases[0].call, Resource.thread) == "agent-messaging-portal"


def test_closing_ends_the_calls_that_run(leases: list[Lease[Resource]], resource: Resource) -> None:
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            leases[2].call(Resource.hang)
        except NotInitializedError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert resource.entered.wait(10)
    leases[2].close()
    thread.join(10)
    assert "closed while the call ran" in str(errors[0])
    assert resource.closed == 1


def test_an_object_that_is_forgotten_lets_go(resource: Resource) -> None:
    lease = Lease("forgotten", resource.open)
    lease.call(Resource.thread)
    del lease
    gc.collect()
    eventually_sync(lambda: resource.closed)


def fork(work: object) -> int:
    """Run a function in a forked child; its exit code is what the function returns."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = work()  # type: ignore[operator]
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_leases_anew(leases: list[Lease[Resource]], resource: Resource) -> None:
    leases[0].call(Resource.thread)

    def child() -> int:
        assert leases[0].call(Resource.thread) == "agent-messaging-portal"
        assert leases[1].call(Resource.thread) == "agent-messaging-portal"
        assert resource.opened == 2
        leases[0].close()
        leases[1].close()
        return resource.closed

    assert fork(child) == 1
    assert leases[0].call(Resource.thread) == "agent-messaging-portal"
    assert (resource.opened, resource.closed) == (1, 0)


def test_a_forked_child_is_refused_what_is_in_the_memory_of_its_parent(resource: Resource) -> None:
    lease = Lease("memory", resource.open, owner="The queue", is_inherited=False)
    lease.call(Resource.thread)

    def child() -> int:
        with pytest.raises(ConfigurationError, match="memory of the process that made it"):
            lease.call(Resource.thread)
        return 7

    assert fork(child) == 7
    lease.close()


PROGRAM = """
from contextlib import asynccontextmanager
from typing import Any
from agent_messaging.portal import Lease

@asynccontextmanager
async def opening():
    print("opened")
    try:
        yield "resource"
    finally:
        print("closed")

async def look(resource):
    return resource

lease = Lease("key", opening)
print(lease.call(look))
"""


def test_the_exit_of_the_interpreter_closes_it() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "opened\nresource\nclosed\n"


INTERRUPTED = """
import asyncio, os, signal
from contextlib import asynccontextmanager
from typing import Any
from agent_messaging.portal import Lease

def say(word):
    os.write(1, f"{word}\\n".encode())  # in one piece: two threads speak

signal.signal(signal.SIGINT, signal.default_int_handler)

@asynccontextmanager
async def opening():
    yield "resource"
    say("closed")

async def hang(resource):
    say("waiting")
    try:
        await asyncio.Event().wait()
    finally:
        say("cancelled")

try:
    Lease("key", opening).call(hang)
except KeyboardInterrupt:
    say("interrupted")
"""


def test_ctrl_c_ends_the_waiting_and_the_call() -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert sorted(out.split()) == ["cancelled", "closed", "interrupted"]
