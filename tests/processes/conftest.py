"""Laboratories on the backends that many processes can share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.processes.harness import DATABASE, LEASE, MAX_ATTEMPTS, MESSAGING, Lab, MakeLab


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    """Those that many processes can share."""
    return str(request.param)


@pytest.fixture
def make_lab(tmp_path: Path, backend: str, database_url: str) -> MakeLab:
    """Makes the laboratory of a test."""

    def make(*, limits: dict[str, Any] | None = None, messaging: dict[str, Any] | None = None, **settings: Any) -> Lab:
        # Far more than it takes (see the report), so that a busy machine breaks nothing.
        takeover = 10.0 if backend == "sqlite" else 2 * LEASE
        return Lab(
            tmp_path,
            database_url,
            limits={"max_attempts": MAX_ATTEMPTS, "takeover_kill": takeover, "turn_slack": 10.0, **(limits or {})},
            messaging={**MESSAGING, **(messaging or {})},
            **{"database": DATABASE, "early_sign": True, **settings},
        )

    return make
