"""Starting: importing the package, starting the command line, and what the base install brings."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from importlib import metadata

from packaging.requirements import Requirement

from .harness import Bench, Figure, Row

INTERPRETERS = 15
IMPORT_LIMIT = 60.0
"""Milliseconds above the import of asyncio and pydantic."""
CLI_LIMIT = 100.0
"""Milliseconds above twice the start of an interpreter that imports click."""
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
        holds = beyond.median <= IMPORT_LIMIT
        yield Row(mine, beyond, raw, f"≤ {IMPORT_LIMIT:.0f} ms", holds, f"beyond raw: {base}")

    if importlib.util.find_spec("agent_messaging.cli.main") is not None:
        click, cli = [], []
        for _ in range(times):
            click.append(_time("-c", "import click"))
            cli.append(_time("-c", "from agent_messaging.cli.main import main; main(['--help'])"))
        raw, measured = Figure(tuple(click), "ms"), Figure(tuple(cli), "ms")
        holds = measured.median <= 2 * raw.median + CLI_LIMIT
        note = "raw: `python -c 'import click'`"
        yield Row("agent-messaging --help", measured, raw, f"≤ 2 raw + {CLI_LIMIT:.0f} ms", holds, note)

    packages = sorted(_closure(DISTRIBUTION))
    note = ", ".join(packages)
    yield Row(
        "base install",
        Figure((len(packages),), "packages"),
        target=f"≤ {PACKAGES} packages",
        holds=len(packages) <= PACKAGES,
        note=note,
    )


def _run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
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
