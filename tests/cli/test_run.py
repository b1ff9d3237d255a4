"""`agent-messaging run`: a program that only registers handlers is served until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import asyncpg
import pytest

from agent_messaging import AgentMessaging
from tests.cli.conftest import Cli, Start

PROGRAM = """
import asyncio
from agent_messaging import AgentMessaging

sdk = AgentMessaging()

@sdk.register_handler("bob")
async def on_note(message, context):
    if message == "hang":
        print("BEGUN", flush=True)
        await asyncio.Event().wait()

def make():
    return sdk

empty = AgentMessaging()
broken = None
"""


@pytest.fixture
def module(tmp_path: Path, acme: str) -> str:
    """A module in the working directory."""
    (tmp_path / "serving_of_bob.py").write_text(PROGRAM)
    return "serving_of_bob"


@pytest.mark.sampled(3)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", ["sdk", "make"])
def test_it_serves_until_a_signal_and_leaves_in_order(
    module: str, acme: str, start: Start, name: str, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESSAGING_DRAIN_TIMEOUT", "0.2")
    process = start("run", f"{module}:{name}")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("Serves bob on ")

    async def send() -> list[str]:
        async with AgentMessaging[Any](acme) as sdk:
            await sdk.wait_until_served("bob", 30)
            ids = await sdk.one_way.send("alice", "bob", "hi")
            assert (await sdk.receipts.wait(ids, timeout=30))[0].state.value == "done"
            return await sdk.one_way.send("alice", "bob", "hang")

    async def look(ids: list[str]) -> tuple[str, int]:
        async with AgentMessaging[Any](acme) as sdk:
            receipt = await sdk.receipts.get(ids[0])
            return receipt.state.value, receipt.attempt

    ids = asyncio.run(send())
    assert process.stdout is not None
    assert process.stdout.readline() == "BEGUN\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert asyncio.run(look(ids)) == ("queued", 0)


MIGRATING = """
from agent_messaging import AgentMessaging, Config

class Told(AgentMessaging):
    def _build(self):
        print("STARTING", flush=True)
        return super()._build()

sdk = Told(Config(database={"call_timeout": 2.0}))

@sdk.register_handler("bob")
async def on_note(message, context): ...
"""


@contextlib.contextmanager
def migrating(url: str) -> Iterator[None]:
    """Within, the store is locked, as while another process brings its schema up to date."""
    if url.startswith("sqlite"):
        connection = apsw.Connection(url.removeprefix("sqlite:///"))
        connection.execute("begin exclusive")
        yield
        connection.close()
        return
    taken, done = threading.Event(), threading.Event()

    async def hold() -> None:
        server = await asyncpg.connect(url)
        async with server.transaction():
            key = "hashtextextended('agent_messaging migrations ' || current_schema(), 0)"
            await server.execute(f"select pg_advisory_xact_lock({key})")
            taken.set()
            await asyncio.to_thread(done.wait)
        await server.close()

    holder = threading.Thread(target=lambda: asyncio.run(hold()))
    holder.start()
    assert taken.wait(30)
    yield
    done.set()
    holder.join()


def test_a_stop_during_a_migration_ends_it_in_order(
    url: str, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "migrates.py").write_text(MIGRATING)
    with migrating(url):
        process = start("run", "migrates:sdk")
        assert process.stdout is not None
        assert process.stdout.readline() == "STARTING\n"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in errors

    async def use() -> None:
        async with AgentMessaging[Any](url) as sdk:
            assert await sdk.list_agents() == []

    asyncio.run(use())


def test_what_cannot_be_served_is_told(module: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "fails_to_load.py").write_text("1 / 0\n")
    for target, code, told in (
        ("no_such_module_at_all:sdk", 2, "There is no module 'no_such_module_at_all'"),
        (module, 2, "MODULE:NAME"),
        (f"{module}:broken", 2, "is no AgentMessaging"),
        (f"{module}:nothing", 2, "is no AgentMessaging"),
        (f"{module}:empty", 2, "has no handlers"),
        ("fails_to_load:sdk", 1, "fails_to_load cannot be loaded: ZeroDivisionError"),
    ):
        outcome = cli("run", target, check=code)
        assert told in outcome.err
    assert "chooses its store" in cli("run", f"{module}:sdk", "--url", "sqlite:///other.db", check=2).err


def test_ctrl_c_while_the_program_is_loaded_ends_it_without_a_traceback(
    tmp_path: Path, acme: str, start: Start
) -> None:
    (tmp_path / "slow_to_load.py").write_text(
        "import time\nprint('LOADING', flush=True)\n"
        "try:\n    time.sleep(30)\nexcept BaseException:\n    pass  # as where the interpreter cannot raise it\n"
    )
    process = start("run", "slow_to_load:sdk")
    assert process.stdout is not None
    assert process.stdout.readline() == "LOADING\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert "Traceback" not in errors
