"""Shared fixtures and rules of the tests; see `fixtures/` for what a test can ask for."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import hypothesis
import pytest

pytest.register_assert_rewrite("tests.conformance", "tests.support")

pytest_plugins = ["tests.fixtures.isolation", "tests.fixtures.postgres", "tests.fixtures.stores"]

# The same examples in each run of CI, so that what fails there failed by the change; others on a developer's machine.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")

# What is sampled is the same in all workers, and another in each run; the seed is in the ids of those tests.
os.environ.setdefault("TESTS_SEED", str(random.randrange(10**6)))

_HERE = Path(__file__).parent

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
    items.sort(key=lambda item: not item.path.is_relative_to(_HERE / "processes"))
    for item in items:
        if item.path.is_relative_to(_HERE):
            unit = item.path.is_relative_to(_HERE / "unit")
            item.add_marker(pytest.mark.unit if unit else pytest.mark.integration)


def _backend(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get("backend")
