"""The named points at which a test can stop the engine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import agent_messaging
from agent_messaging.delivery.probes import POINTS, arm


def test_the_points_are_those_that_the_code_passes() -> None:
    """A test that arms another one would wait for it in vain, and so it is refused."""
    sources = Path(agent_messaging.__file__).parent.rglob("*.py")
    passed = {name for source in sources for name in re.findall(r'\bprobe\("(\w+)"\)', source.read_text("utf-8"))}
    assert passed == POINTS
    with pytest.raises(ValueError, match="after_apend"):
        arm("after_apend", lambda: None)
