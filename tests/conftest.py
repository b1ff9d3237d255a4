"""Shared fixtures and rules of the tests; see `fixtures/` for what a test can ask for."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

pytest.register_assert_rewrite("tests.conformance", "tests.support")

pytest_plugins = [
    "tests.fixtures.covering",
    "tests.fixtures.isolation",
    "tests.fixtures.postgres",
    "tests.fixtures.redis",
    "tests.fixtures.stores",
]

# The same examples in each run of CI, so that what fails there failed by the change; others on a developer's machine.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")

# What is sampled is the same in all workers, and another in each run; the seed is in the ids of those tests.
os.environ.setdefault("TESTS_SEED", str(random.randrange(10**6)))

_HERE = Path(__file__).parent
_ON_ONE_STORE = ("cli", "examples")
"""Folders whose tests start a process or more each, and stand on calls that are tried on every store elsewhere. Of each
case a run tries one store, which the seed chooses; TESTS_ALL=1 tries all."""
_OFTEN_ON_ONE_STORE = "client"
"""Of the tests in this folder, the largest, the seed chooses a third that is treated so in a run."""

# A shell starts background jobs with SIGINT ignored, which every child inherits: programs under test would not hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--backend`, which may be given several times."""
    parser.addoption("--backend", action="append", help="run no tests of other backends")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test by its folder, and begin with the long ones, so that no worker is left alone with them."""
    if chosen := config.getoption("--backend"):
        others = [item for item in items if _backend(item) not in (None, *chosen)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in set(others)]
    if left_out := _sample(items):
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    for item in items:
        if item.path.is_relative_to(_HERE):
            for mark in _marks(item.path.relative_to(_HERE)):
                item.add_marker(mark)
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def _marks(path: Path) -> Iterator[str]:
    """The marks of the tests in this file."""
    folder, name = path.parts[0], path.stem
    yield "unit" if folder == "unit" else "integration"
    if folder in ("processes", "cli"):
        yield "e2e"
    if folder == "processes":
        yield "slow"
    if folder == "benchmarks" or name in ("test_costs", "test_plans") or name.startswith("test_scale"):
        yield "performance"


def _sample(items: list[pytest.Item]) -> list[pytest.Item]:
    """The cases that this run leaves out of those that are sampled; TESTS_ALL=1 leaves out none.

    Each backend keeps as many of the cases as the others, or one less.
    """
    cases: dict[tuple[str, int], list[pytest.Item]] = {}
    for item in items:
        if (kept := _sampled_from(item)) is not None:
            cases.setdefault(kept, []).append(item)
    left_out: list[pytest.Item] = []
    for (name, number), several in cases.items():
        if len(several) > number and os.environ.get("TESTS_ALL") != "1":
            random.Random(f"{os.environ['TESTS_SEED']} {name}").shuffle(several)
            before: Counter[str | None] = Counter()
            turns: list[tuple[int, pytest.Item]] = []
            for item in several:
                turns.append((before[_backend(item)], item))
                before[_backend(item)] += 1
            left_out += [item for _, item in sorted(turns, key=lambda turn: turn[0])[number:]]
    return left_out


def _sampled_from(item: pytest.Item) -> tuple[str, int] | None:
    """The name of the cases from which this one is drawn, and how many are kept of them; None if it always runs."""
    test, _, case = item.nodeid.partition("[")
    if (mark := item.get_closest_marker("sampled")) is not None:
        return test, mark.args[0]
    backend = _backend(item)
    if backend is None or not item.path.is_relative_to(_HERE):
        return None
    folder = item.path.relative_to(_HERE).parts[0]
    is_drawn = folder == _OFTEN_ON_ONE_STORE and random.Random(f"{os.environ['TESTS_SEED']} {test}").random() < 1 / 3
    if folder not in _ON_ONE_STORE and not is_drawn:
        return None
    return f"{test}[{case.replace(backend, '', 1)}", 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell the seed with which the sampled tests were chosen."""
    terminalreporter.write_line(f"sampled with TESTS_SEED={os.environ['TESTS_SEED']}; TESTS_ALL=1 runs every case")


def _backend(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get("backend")
