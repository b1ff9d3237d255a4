"""What tests share beside fixtures: waiting without sleeping, and the programs of scripts/ as modules."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from agent_messaging.testing.waiting import eventually

T = TypeVar("T")

__all__ = ["eventually", "eventually_sync", "load_script"]


def eventually_sync(
    look: Callable[[], T], timeout: float = 10.0, *, interval: float = 0.01, until: Callable[[T], object] = bool
) -> T:
    """`eventually` for tests without a loop."""
    deadline = time.monotonic() + timeout
    while True:
        value = look()
        if until(value):
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s; last seen: {value!r}")
        time.sleep(interval)


def load_script(name: str) -> ModuleType:
    """A program of scripts/, as a module."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look for it there
    spec.loader.exec_module(module)
    return module
