"""Stores on this test's file, agents to write between, and other processes on the same file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.world import World

REPOSITORY = Path(__file__).parents[2]

OpenStore = Callable[..., Awaitable[SQLiteStore]]


@pytest.fixture
async def open_store(sqlite_path: Path) -> AsyncIterator[OpenStore]:
    """Opens stores on this test's file, or on another path; they are closed at the end."""
    opened = []

    async def open_one(path: Path | str = sqlite_path, **options: Any) -> SQLiteStore:
        store = SQLiteStore(path, **options)
        opened.append(store)
        await store.open()
        return store

    yield open_one
    for store in opened:
        await store.aclose()


@pytest.fixture
async def store(open_store: OpenStore) -> SQLiteStore:
    """An open store on this test's file."""
    return await open_store()


@pytest.fixture
async def world(store: SQLiteStore) -> World:
    """Agents in it."""
    return await World.create(store)


class Child:
    """Another process on the same file (see child.py)."""

    def __init__(self, path: Path, surroundings: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [*surroundings, sys.executable, "-m", "tests.sqlite.child", str(path)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.process_id = str(self._read())

    def ask(self, verb: str, **arguments: Any) -> Any:
        """Let it do something, and return what it answers."""
        self.tell(verb, **arguments)
        return self._read()

    def tell(self, verb: str, **arguments: Any) -> None:
        """Let it do something, without waiting for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([verb, arguments]) + "\n")
        self.process.stdin.flush()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the child died"
        return json.loads(line)

    def kill(self) -> None:
        """As `kill -9`."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start_child(sqlite_path: Path) -> Iterator[Callable[..., Child]]:
    """Starts processes on this test's file, by the command given if any; they are killed at the end."""
    children: list[Child] = []

    def start(surroundings: Sequence[str] = ()) -> Child:
        children.append(Child(sqlite_path, surroundings))
        return children[-1]

    yield start
    for child in children:
        child.kill()
