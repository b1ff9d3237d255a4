"""Starting: importing the package, starting the command line, and what the base install brings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from importlib import metadata

from packaging.requirements import Requirement

from .harness import Bench, Figure, Row, at_most, below

INTERPRETERS = 15
IMPORT_LIMIT = 60.0
"""Milliseconds above the import of asyncio and pydantic."""
CLI_LIMIT = 100.0
"""Milliseconds above twice the start of an interpreter that imports click."""
FIRST_MESSAGES = 5
PACKAGES = 15
DISTRIBUTION = "agent-messaging"

_IMPORTS = """
import json, time
times = [time.perf_counter()]
{}
times.append(time.perf_counter())
{}
times.append(time.perf_counter())
print(json.dumps([(later - earlier) * 1e3 for earlier, later in zip(times, times[1:])]))
"""
_FIRST_MESSAGE = """
import asyncio, sys
from agent_messaging import AgentMessaging

async def main():
    done = asyncio.Event()
    async with AgentMessaging(sys.argv[1]) as sdk:
        await sdk.register_organization("acme", "Acme")
        await sdk.register_agent("alice", "acme", "Alice")
        await sdk.register_agent("bob", "acme", "Bob")

        @sdk.register_handler("bob")
        async def handle(message: dict, context):
            done.set()

        await sdk.one_way.send("alice", "bob", {"text": "Tea at four?"})
        await done.wait()

asyncio.run(main())
"""
STATEMENTS = (
    ("import asyncio, pydantic", "import agent_messaging"),
    # Both packages load what is behind their names when it is used: so the base uses pydantic too.
    (
        "import asyncio, pydantic; pydantic.create_model('Note', number=(int, pydantic.Field(0)))",
        "from agent_messaging import AgentMessaging",
    ),
)


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """Medians over fresh interpreters, which take turns."""
    times = bench.count(INTERPRETERS, least=3)
    for base, mine in STATEMENTS:
        took = [json.loads(_run("-c", _IMPORTS.format(base, mine))) for _ in range(times)]
        raw, beyond = (Figure(column, "ms") for column in zip(*took, strict=True))
        yield below(IMPORT_LIMIT, mine, beyond, raw, f"beyond raw: {base}")

    click, cli = [], []
    for _ in range(times):
        click.append(_time("-c", "import click"))
        cli.append(_time("-c", "from agent_messaging.cli.main import main; main(['--help'])"))
    raw, measured = Figure(tuple(click), "ms"), Figure(tuple(cli), "ms")
    yield at_most(2, "agent-messaging --help", measured, raw, "raw: `python -c 'import click'`", plus=CLI_LIMIT)

    for backend in bench.backends:
        firsts, bare = [], []
        for _ in range(bench.count(FIRST_MESSAGES, least=2)):
            async with backend.fresh() as url:
                firsts.append(_time("-c", _FIRST_MESSAGE, url))
            bare.append(_time("-c", "from agent_messaging import AgentMessaging"))
        name = f"{backend.name}, a process that makes a store, and sends and handles one note"
        note = "raw: a process that only imports the SDK"
        yield Row(name, Figure(tuple(firsts), "ms"), Figure(tuple(bare), "ms"), note=note)

    packages = sorted(_closure(DISTRIBUTION))
    yield below(PACKAGES, "base install", Figure((len(packages),), "packages"), note=", ".join(packages))


def _run(*arguments: str) -> str:
    # With compiled modules, as they are from the second start on.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True, env=env)
    return done.stdout


def _time(*arguments: str) -> float:
    """Milliseconds for a whole interpreter."""
    began = time.perf_counter()
    _run(*arguments)
    return (time.perf_counter() - began) * 1e3


def _closure(name: str, seen: frozenset[str] = frozenset()) -> frozenset[str]:
    """The distribution with all that it requires here, without extras."""
    if name in seen:
        return seen
    seen |= {name}
    for text in metadata.requires(name) or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            seen = _closure(requirement.name.lower().replace("_", "-"), seen)
    return seen
